"""The decisions of the router: pure functions and values. No socket, no clock, no third party."""
