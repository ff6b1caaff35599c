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
    the known ones, and for files without a whole tokenizer.
    """
    kind = _require(metadata, "model")
    if kind == "gpt2":
        backend, adds_bos = _byte_level_bpe(metadata)
    elif kind == "llama":
        backend, adds_bos = _sentencepiece_bpe(metadata)
    else:
        raise UnsupportedModel(
            f"the GGUF tokenizer {kind!r} is not supported; supported: gpt2, llama"
        )
    _add_special_tokens(backend, metadata)
    bos, eos = _token_id(metadata, "bos_token_id"), _token_id(metadata, "eos_token_id")
    _surround(
        backend,
        prefix=bos if metadata.get("tokenizer.ggml.add_bos_token", adds_bos) else None,
        suffix=eos if metadata.get("tokenizer.ggml.add_eos_token", False) else None,
    )
    return Tokenizer(
        backend,
        token_to_bytes=byte_level_bytes if kind == "gpt2" else sentencepiece_bytes,
        strips_leading_space=kind == "llama" and _adds_space(metadata),
        bos_token_id=bos,
        eos_token_ids=_eos_token_ids(metadata),
        chat_template=_chat_template(metadata),
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
    """Make control and user-defined tokens be found in a text before any other rule applies."""
    from tokenizers import AddedToken

    control = _tokens_of_type(metadata, _CONTROL)
    user_defined = _tokens_of_type(metadata, _USER_DEFINED)
    backend.add_special_tokens([AddedToken(text, normalized=False) for _, text in control])
    backend.add_tokens([AddedToken(text, normalized=False) for _, text in user_defined])


def _surround(backend: tokenizers.Tokenizer, *, prefix: int | None, suffix: int | None) -> None:
    """Make `encode` put the tokens `prefix` and `suffix` around each text."""
    from tokenizers import processors

    before, after = ([] if i is None else [(backend.id_to_token(i), i)] for i in (prefix, suffix))
    if before or after:
        backend.post_processor = processors.TemplateProcessing(
            single=[*(text for text, _ in before), "$A", *(text for text, _ in after)],
            special_tokens=[*before, *after],
        )


def _eos_token_ids(metadata: Mapping[str, Any]) -> list[int]:
    named = [_token_id(metadata, f"{name}_token_id") for name in ("eos", "eot", "eom")]
    known = [i for i, token in _tokens_of_type(metadata, _CONTROL) if token in _END_OF_TURN]
    return [i for i in [*named, *known] if i is not None]


def _tokens_of_type(metadata: Mapping[str, Any], wanted: int) -> list[tuple[int, str]]:
    """Ids and texts of all tokens of one type."""
    return [
        (i, metadata["tokenizer.ggml.tokens"][i])
        for i, kind in enumerate(metadata.get("tokenizer.ggml.token_type", ()))
        if kind == wanted
    ]


def _chat_template(metadata: Mapping[str, Any]) -> ChatTemplate | None:
    source = metadata.get("tokenizer.chat_template")
    if source is None:
        return None
    ids = {name: _token_id(metadata, f"{name}_id") for name in ("bos_token", "eos_token")}
    return ChatTemplate(
        source,
        tool_use_source=metadata.get("tokenizer.chat_template.tool_use"),
        special_tokens={
            name: metadata["tokenizer.ggml.tokens"][i] for name, i in ids.items() if i is not None
        },
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
