"""Where endpoints are listed, one kind of place a file."""
