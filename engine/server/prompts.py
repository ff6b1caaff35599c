"""The prompt of a completion, in its four forms, and of a chat, as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from shoal.errors import InvalidRequest
from shoal.openai.chat import ChatMessage

from ..tokenizer.tokenizer import Tokenizer

_RESERVED_KWARGS = frozenset({"messages", "tools", "add_generation_prompt"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads; `text` is None when the client sent ids."""

    token_ids: list[int]
    text: str | None = None


def split_prompt(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts of a completion: a text, texts, ids, or lists of ids. Raises InvalidRequest."""
    items: list[Any] = prompt if isinstance(prompt, list) else [prompt]
    if not items:
        raise InvalidRequest("prompt is empty: send a text or token ids.", param="prompt")
    kinds = {type(item) for item in items}
    if kinds == {int}:
        return [items]
    if len(kinds) > 1:
        raise InvalidRequest(
            "prompt must be a text, a list of texts, a list of token ids, or a list of such lists.",
            param="prompt",
            code="invalid_type",
        )
    return items


def encode_prompts(
    prompts: list[str | list[int]], tokenizer: Tokenizer, *, add_special_tokens: bool
) -> list[Prompt]:
    """Texts as token ids; ids stay as they are. Raises InvalidRequest for no valid Unicode."""
    return [
        Prompt(tokenizer.encode(prompt, add_special_tokens=add_special_tokens), prompt)
        if isinstance(prompt, str)
        else Prompt(prompt)
        for prompt in prompts
    ]


def encode_chat(
    messages: list[ChatMessage],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool | None,
    continue_final_message: bool | None,
    add_special_tokens: bool | None,
    template_kwargs: dict[str, Any] | None,
) -> Prompt:
    """A conversation as the model's chat template writes it. Raises InvalidRequest."""
    if not messages:
        raise InvalidRequest("messages is empty: send at least one.", param="messages")
    reserved = _RESERVED_KWARGS.intersection(template_kwargs or ())
    if reserved:
        name = min(reserved)
        raise InvalidRequest(
            f"chat_template_kwargs must not contain {name!r}: it has a field of its own.",
            param="chat_template_kwargs",
        )
    if add_generation_prompt and continue_final_message:
        raise InvalidRequest(
            "add_generation_prompt and continue_final_message exclude each other.",
            param="continue_final_message",
        )
    if add_generation_prompt is None:
        add_generation_prompt = not continue_final_message

    text = tokenizer.apply_chat_template(
        [_to_dict(message) for message in messages],
        add_generation_prompt=add_generation_prompt,
        **(template_kwargs or {}),
    )
    if continue_final_message:
        text = _cut_after_final_message(text, messages[-1])
    return Prompt(tokenizer.encode(text, add_special_tokens=bool(add_special_tokens)), text)


def _to_dict(message: ChatMessage) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return {name: value for name, value in fields.items() if value is not None}


def _cut_after_final_message(text: str, message: ChatMessage) -> str:
    """Drop what the template writes after the last message, so that the model goes on with it."""
    parts = message.content if isinstance(message.content, list) else []
    content = message.content if isinstance(message.content, str) else None
    content = parts[-1].text if parts else content
    stripped = (content or "").strip()
    end = text.rfind(stripped)
    if not stripped or end < 0:
        raise InvalidRequest(
            "continue_final_message needs a last message whose text the chat template keeps.",
            param="continue_final_message",
        )
    return text[: end + len(stripped)]
