"""What is sent and when: seeded, reproducible, pure."""
