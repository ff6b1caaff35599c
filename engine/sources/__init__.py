"""Where models come from: a name on the command line becomes files on this disk."""
