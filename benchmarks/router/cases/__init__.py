"""What is measured, one case a file; `standard_set.py` has the list."""
