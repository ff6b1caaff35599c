"""From records of requests to figures: pure, no I/O."""
