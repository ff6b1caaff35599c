"""Pure scheduling: standard library only, time as an argument, no I/O."""
