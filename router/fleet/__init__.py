"""Where endpoints come from and what they say about themselves: runs in the state process."""
