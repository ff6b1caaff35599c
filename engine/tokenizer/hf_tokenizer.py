"""Builds the tokenizer from the files of a Hugging Face model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.errors import ModelNotFound, UnsupportedModel

from .chat_template import ChatTemplate
from .token_bytes import TokenToBytes, byte_level_bytes, sentencepiece_bytes
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer_from_folder(folder: Path) -> Tokenizer:
    """The tokenizer in `tokenizer.json`, special tokens and templates from the files beside it.

    Raises ModelNotFound when `tokenizer.json` is missing and UnsupportedModel when it is of a
    kind outside the Llama family, or broken.
    """
    from tokenizers import Tokenizer as Backend

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelNotFound(
            f"{folder} has no tokenizer.json; with transformers, "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one"
        )
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UnsupportedModel(f"{path} is not a usable tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    token_to_bytes, strips_leading_space = _decoding(path)
    settings = _read_json(folder / "tokenizer_config.json")
    special_tokens = _special_tokens({**_read_json(folder / "special_tokens_map.json"), **settings})
    bos = special_tokens.get("bos_token")
    return Tokenizer(
        backend,
        token_to_bytes=token_to_bytes,
        strips_leading_space=strips_leading_space,
        bos_token_id=None if bos is None else backend.token_to_id(bos),
        eos_token_ids=_eos_token_ids(folder, backend, special_tokens.get("eos_token")),
        chat_template=_chat_template(folder, settings, special_tokens),
    )


def _decoding(path: Path) -> tuple[TokenToBytes, bool]:
    """How tokens spell bytes, and whether decoding drops the first space."""
    decoder = _read_json(path).get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return byte_level_bytes, False
    if kinds & {"ByteFallback", "Metaspace"}:
        return sentencepiece_bytes, any(_strips_first_space(step) for step in steps)
    raise UnsupportedModel(
        f"{path}: a tokenizer with the decoder {decoder.get('type')!r} is not supported; "
        "supported: byte-level BPE (ByteLevel) and SentencePiece (ByteFallback, Metaspace)"
    )


def _strips_first_space(step: dict[str, Any]) -> bool:
    if step["type"] == "Strip":
        return bool(step.get("start"))
    if step["type"] == "Metaspace":
        return bool(step.get("prepend_scheme", "always") != "never")
    return False


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """Names to texts; the files write a token as its text or as an object with its content."""
    found = {}
    for name in _SPECIAL_NAMES:
        token = settings.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            found[name] = token
    return found


def _eos_token_ids(folder: Path, backend: tokenizers.Tokenizer, eos_token: str | None) -> list[int]:
    """The tokenizer's own EOS and all that the generation settings (or the model's) name."""
    own = None if eos_token is None else backend.token_to_id(eos_token)
    named = _read_json(folder / "generation_config.json").get("eos_token_id")
    if named is None:
        named = _read_json(folder / "config.json").get("eos_token_id")
    others = named if isinstance(named, list) else [named]
    return [i for i in [own, *others] if isinstance(i, int)]


def _chat_template(
    folder: Path, settings: dict[str, Any], special_tokens: dict[str, str]
) -> ChatTemplate | None:
    """`chat_template.jinja` where there is one, else the `chat_template` setting."""
    setting = settings.get("chat_template")
    named = (
        {entry["name"]: entry["template"] for entry in setting}
        if isinstance(setting, list)
        else {"default": setting}
    )
    files = {
        "default": folder / "chat_template.jinja",
        "tool_use": folder / "additional_chat_templates" / "tool_use.jinja",
    }
    for name, path in files.items():
        if path.is_file():
            named[name] = path.read_text(encoding="utf-8")
    default = named.get("default")
    if default is None:
        return None
    return ChatTemplate(
        default, tool_use_source=named.get("tool_use"), special_tokens=special_tokens
    )


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when the file does not exist."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UnsupportedModel(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedModel(f"{path} holds {type(content).__name__}, not a JSON object")
    return content
