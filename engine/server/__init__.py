"""The worker's HTTP server: the OpenAI API, health, metrics. It knows nothing of torch."""
