"""How many replicas there should be: values in, a decision with its reasons out. Pure."""
