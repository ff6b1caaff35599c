"""Settings of the HTTP server, apart from those of the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where to listen, whom to let in, and the bounds of one request."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free port."""
    api_keys: tuple[str, ...] = ()
    """Any of them opens the API; none: the API is open. Probes and /metrics never need one."""
    cors_origins: tuple[str, ...] = ()
    """Web pages that may call the API, e.g. "https://chat.example.com"; "*" is all of them."""
    max_body_bytes: int = 16 * 1024 * 1024
    """A longer body is answered with 413. 128k token ids are about 1 MB."""
    max_choices: int = 128
    """Bound of `n` times the number of prompts in one request."""
    drain_timeout_s: float = 30.0
    """How long running requests may go on after SIGTERM before they are aborted."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, got {self.port}")
        if not all(self.api_keys):
            raise ValueError("api_keys must not contain an empty key: it would let everybody in")
        for name in ("max_body_bytes", "max_choices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.drain_timeout_s < 0:
            raise ValueError(f"drain_timeout_s must be 0 or more, got {self.drain_timeout_s}")
