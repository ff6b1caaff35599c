"""The state process: configuration, children, the hub between them, the admin API."""
