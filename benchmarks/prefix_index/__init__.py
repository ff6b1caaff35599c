"""What the router's prefix indexes and decisions cost."""
