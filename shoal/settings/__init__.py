"""What the settings files of all parts have in common: YAML, ranges, messages, schemas."""
