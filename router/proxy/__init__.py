"""The data plane: one process that takes requests, asks the core where to, and relays bytes."""
