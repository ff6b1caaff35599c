"""The autoscaler's admin API: what it sees, decides and has decided, over HTTP."""
