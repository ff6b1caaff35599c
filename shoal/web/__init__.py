"""HTTP servers: uvicorn as we run it, errors as answers, clients that go away."""
