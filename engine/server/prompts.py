"""The prompt of a completion, in its four forms, and of a chat, as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from shoal.errors import InvalidRequest
from shoal.openai.chat import ChatMessage

from ..tokenizer.tokenizer import Tokenizer
from .text_threads import TextThreads

_RESERVED_KWARGS = frozenset({"messages", "tools", "add_generation_prompt"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads; `text` is None when the client sent ids."""

    token_ids: list[int]
    text: str | None = None


async def read_prompts(
    prompt: str | list[str | int | list[int]] | None,
    *,
    tokenizer: Tokenizer,
    threads: TextThreads,
    add_special_tokens: bool,
) -> list[Prompt]:
    """The prompts of a completion: a text, texts, ids, or lists of ids. Raises InvalidRequest."""
    items: list[Any] = prompt if isinstance(prompt, list) else [prompt]
    if not items:
        raise InvalidRequest("prompt is empty: send a text or token ids.", param="prompt")
    kinds = {type(item) for item in items}
    if kinds == {int}:
        return [Prompt(items)]
    if kinds == {list}:
        return [Prompt(ids) for ids in items]
    if kinds == {str}:
        return [
            Prompt(await encode_text(text, tokenizer, threads, add_special_tokens), text)
            for text in items
        ]
    raise InvalidRequest(
        "prompt must be a text, a list of texts, a list of token ids, or a list of such lists.",
        param="prompt",
        code="invalid_type",
    )


async def encode_text(
    text: str, tokenizer: Tokenizer, threads: TextThreads, add_special_tokens: bool
) -> list[int]:
    """Token ids of a text. Raises InvalidRequest for text that is no valid Unicode."""
    work = partial(tokenizer.encode, text, add_special_tokens=add_special_tokens)
    return await threads.run(work, num_chars=len(text))


async def read_chat(
    messages: list[ChatMessage],
    *,
    tokenizer: Tokenizer,
    threads: TextThreads,
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

    def render() -> Prompt:
        text = tokenizer.apply_chat_template(
            [_to_dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **(template_kwargs or {}),
        )
        if continue_final_message:
            text = _cut_after_final_message(text, messages[-1])
        return Prompt(tokenizer.encode(text, add_special_tokens=bool(add_special_tokens)), text)

    return await threads.run(render, num_chars=sum(map(_num_chars, messages)))


def _to_dict(message: ChatMessage) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return {name: value for name, value in fields.items() if value is not None}


def _num_chars(message: ChatMessage) -> int:
    if isinstance(message.content, str):
        return len(message.content)
    return sum(len(part.text or "") for part in message.content or ())


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
