"""Bodies into structs: every way a body can be wrong is one `InvalidRequest` naming the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from shoal.errors import InvalidRequest

T = TypeVar("T")

# msgspec ends its messages with the place: "Expected `int`, got `str` - at `$.messages[0].role`"
# or, for the key of an object, "- at `key` in `$.logit_bias`".
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a request body. Raises InvalidRequest; its `param` is the field at fault."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The body is not valid JSON: {error}. Send one JSON object, UTF-8 encoded.",
            code="invalid_json",
        ) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from error


def _wrong_type(message: str) -> InvalidRequest:
    place = _PLACE.search(message)
    if place is None or not place["path"]:
        return InvalidRequest(f"The body is wrong: {message}.", code="invalid_type")
    reason = message[: place.start()]
    return InvalidRequest(f"{place['path']}: {reason}.", param=place["path"], code="invalid_type")
