"""The router: picks a worker for each request and relays its stream. No code yet; see README.md."""
