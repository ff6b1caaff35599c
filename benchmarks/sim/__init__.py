"""A fleet in virtual time: an hour of load in seconds, with the real decisions in the loop."""
