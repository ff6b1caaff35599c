"""Ranges of settings. They are part of the type: decoding checks them, the JSON schema shows them.

What relates two fields to each other is checked in `__post_init__` of their struct.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
CountOrZero = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1024, le=2**31 - 1)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
PositiveWeight = Annotated[float, Meta(gt=0, le=1_000_000)]
Money = Annotated[float, Meta(ge=0, le=1e12)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
PortOrZero = Annotated[int, Meta(ge=0, le=65_535)]
Text = Annotated[str, Meta(min_length=1)]
"""Names, hosts, paths: an empty one is a mistake, not "none"."""
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+[^\s]*$")]
"""Scheme, host, port and perhaps a path."""
