"""Puts OpenAI chat messages into the form a chat template was written for."""

from __future__ import annotations

import enum
import json
from typing import Any

from shoal.errors import InvalidRequest


class ContentStyle(enum.Enum):
    """What a template expects in `message.content`."""

    TEXT = "text"
    TEXT_OR_PARTS = "text or parts"
    PARTS = "parts"


def prepare_messages(
    messages: list[dict[str, Any]], content_style: ContentStyle
) -> list[dict[str, Any]]:
    """Copies of `messages` with text contents as the template wants them.

    Text parts are joined by newlines where the template takes text only. Arguments of tool
    calls, JSON text in the API, become objects as templates expect. Raises InvalidRequest for
    parts that are not text and for arguments that are not JSON.
    """
    return [_prepare(message, index, content_style) for index, message in enumerate(messages)]


def _prepare(message: dict[str, Any], index: int, content_style: ContentStyle) -> dict[str, Any]:
    prepared = dict(message)
    content = message.get("content")
    if content is None:
        prepared["content"] = ""
    elif isinstance(content, list):
        texts = [_text_of(part, index) for part in content]
        if content_style is ContentStyle.TEXT:
            prepared["content"] = "\n".join(texts)
        else:
            prepared["content"] = [{"type": "text", "text": text} for text in texts]
    elif content_style is ContentStyle.PARTS:
        prepared["content"] = [{"type": "text", "text": content}]
    if calls := message.get("tool_calls"):
        if not isinstance(calls, list):
            raise InvalidRequest(f"messages[{index}].tool_calls is not a list", param="messages")
        prepared["tool_calls"] = [_parse_arguments(call, index) for call in calls]
    return prepared


def _text_of(part: Any, index: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise InvalidRequest(
        f"messages[{index}].content has a part of type {kind!r}; this model reads only text parts",
        param="messages",
    )


def _parse_arguments(call: Any, index: int) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call  # not the API's form: the template will say what it misses
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError as error:
        raise InvalidRequest(
            f"messages[{index}].tool_calls: arguments of {function.get('name')!r} are not JSON: "
            f"{error}",
            param="messages",
        ) from error
    return {**call, "function": {**function, "arguments": arguments}}
