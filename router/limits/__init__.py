"""The shell of flow control: Redis, and from the settings to the objects of `router/core`."""
