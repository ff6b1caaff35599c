"""Who asks, and over what: API keys, bearer tokens, TLS."""
