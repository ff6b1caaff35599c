"""Builds the tokenizer from the metadata of a GGUF file.

Keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section "ggml".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shoal.errors import UnsupportedModel

from .chat_template import ChatTemplate
from .pre_tokenizers import pre_tokenizer_rules
from .token_bytes import byte_level_bytes, sentencepiece_bytes
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

_CONTROL, _USER_DEFINED = 3, 4
_SPACE = "▁"
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>")
"""Control tokens that end a turn even where the file names only the end of a text as EOS."""


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer described by `tokenizer.*` keys (see `read_gguf_metadata`).

    Raises UnsupportedModel for a kind of tokenizer or pre-tokenizer that is not known, naming
    the known ones, and for files without a tokenizer.
    """
    kind = _require(metadata, "model")
    if kind == "gpt2":
        backend, add_bos = _byte_level_bpe(metadata)
    elif kind == "llama":
        backend, add_bos = _sentencepiece_bpe(metadata)
    else:
        raise UnsupportedModel(
            f"the GGUF tokenizer {kind!r} is not supported; supported: gpt2, llama"
        )
    _add_special_tokens(backend, metadata)
    tokens = metadata["tokenizer.ggml.tokens"]
    bos = _token_id(metadata, "bos_token_id")
    eos = _token_id(metadata, "eos_token_id")
    _surround(
        backend,
        prefix=bos if metadata.get("tokenizer.ggml.add_bos_token", add_bos) else None,
        suffix=eos if metadata.get("tokenizer.ggml.add_eos_token", False) else None,
    )
    return Tokenizer(
        backend,
        token_to_bytes=byte_level_bytes if kind == "gpt2" else sentencepiece_bytes,
        strips_leading_space=kind == "llama" and _adds_space(metadata),
        bos_token_id=bos,
        eos_token_ids=_eos_token_ids(metadata),
        chat_template=_chat_template(metadata, {"bos_token": bos, "eos_token": eos}, tokens=tokens),
    )


def _byte_level_bpe(metadata: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    rules = pre_tokenizer_rules(metadata.get("tokenizer.ggml.pre", "default"))
    vocab = {token: i for i, token in enumerate(_require(metadata, "tokens"))}
    merges = [tuple(merge.split(" ", 1)) for merge in _require(metadata, "merges")]
    try:
        model = models.BPE(vocab, merges, ignore_merges=rules.ignore_merges)
    except Exception as error:  # the library raises bare Exception
        raise UnsupportedModel(f"the GGUF tokenizer's merges are broken: {error}") from error
    backend = Backend(model)
    if normalizer := rules.normalizer():
        backend.normalizer = normalizer
    backend.pre_tokenizer = rules.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend, rules.add_bos


def _sentencepiece_bpe(metadata: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    tokens = _require(metadata, "tokens")
    vocab = {token: i for i, token in enumerate(tokens)}
    unk = _token_id(metadata, "unknown_token_id")
    backend = Backend(
        models.BPE(
            vocab,
            merges_from_scores(vocab, _require(metadata, "scores")),
            unk_token=None if unk is None else tokens[unk],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    adds_space = _adds_space(metadata)
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if adds_space else spaces
    )
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if adds_space:
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    backend.decoder = decoders.Sequence(steps)
    return backend, True


def merges_from_scores(vocab: Mapping[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """The merge list that a SentencePiece BPE vocabulary implies.

    SentencePiece merges whichever adjacent pair forms the piece with the best score (Kudo and
    Richardson, 2018), so each way to cut a piece into two pieces is a merge, ranked by the
    score of the whole; equal scores are ranked by the ids of the parts.
    """
    ranked = []
    for piece, piece_id in vocab.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                ranked.append((-scores[piece_id], vocab[left], vocab[right], left, right))
    ranked.sort()
    return [(left, right) for *_, left, right in ranked]


def _add_special_tokens(backend: tokenizers.Tokenizer, metadata: Mapping[str, Any]) -> None:
    """Tokens that are found in the text as they are, before any other rule applies."""
    from tokenizers import AddedToken

    types = metadata.get("tokenizer.ggml.token_type", ())
    tokens = metadata["tokenizer.ggml.tokens"]
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=False)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    backend.add_tokens(added)


def _surround(backend: tokenizers.Tokenizer, *, prefix: int | None, suffix: int | None) -> None:
    """Make `encode` put the tokens `prefix` and `suffix` around each text."""
    from tokenizers import processors

    names = {i: backend.id_to_token(i) for i in (prefix, suffix) if i is not None}
    if not names:
        return
    template = [
        *([names[prefix]] if prefix is not None else []),
        "$A",
        *([names[suffix]] if suffix is not None else []),
    ]
    backend.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, i) for i, name in names.items()]
    )


def _eos_token_ids(metadata: Mapping[str, Any]) -> list[int]:
    named = [_token_id(metadata, f"{name}_token_id") for name in ("eos", "eot", "eom")]
    types = metadata.get("tokenizer.ggml.token_type", ())
    by_text = [
        i
        for i, (token, kind) in enumerate(
            zip(metadata["tokenizer.ggml.tokens"], types, strict=False)
        )
        if kind == _CONTROL and token in _END_OF_TURN
    ]
    return [i for i in [*named, *by_text] if i is not None]


def _chat_template(
    metadata: Mapping[str, Any], special_token_ids: dict[str, int | None], *, tokens: list[str]
) -> ChatTemplate | None:
    source = metadata.get("tokenizer.chat_template")
    if source is None:
        return None
    special_tokens = {name: tokens[i] for name, i in special_token_ids.items() if i is not None}
    return ChatTemplate(
        source,
        tool_use_source=metadata.get("tokenizer.chat_template.tool_use"),
        special_tokens=special_tokens,
    )


def _adds_space(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata.get("tokenizer.ggml.add_space_prefix", True))


def _token_id(metadata: Mapping[str, Any], name: str) -> int | None:
    """The id under `name` if the file has it and it is in the vocabulary."""
    token_id = metadata.get(f"tokenizer.ggml.{name}")
    if token_id is None or token_id >= len(metadata["tokenizer.ggml.tokens"]):
        return None
    return int(token_id)


def _require(metadata: Mapping[str, Any], name: str) -> Any:
    try:
        return metadata[f"tokenizer.ggml.{name}"]
    except KeyError:
        raise UnsupportedModel(
            f"the GGUF file has no tokenizer.ggml.{name}, so its tokenizer cannot be built"
        ) from None
