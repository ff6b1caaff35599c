"""What a model is asked for and how its replicas answer, read over HTTP."""
