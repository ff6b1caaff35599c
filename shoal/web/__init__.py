"""HTTP servers: uvicorn as we run it, and errors as answers."""
