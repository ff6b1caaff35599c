"""How byte-level BPE vocabularies cut text before merging, by their GGUF names.

A GGUF file only names its pre-tokenizer (`tokenizer.ggml.pre`); the rules themselves are public
knowledge, published in the `tokenizer.json` of each family and listed by llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal.errors import UnsupportedModel

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_AFTER_NUMBERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_NOT_WORD = r"[^\r\n\p{L}\p{N}]?"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTokenizerRules:
    """One family's rules."""

    pattern: str | None = None
    """Regular expression of one word; None is GPT-2's, built into the library."""
    individual_digits: bool = False
    """Cut each digit off before the pattern applies."""
    nfc: bool = False
    """Normalise to Unicode NFC first."""
    ignore_merges: bool = False
    """A word that is a token is that token, even where no merges lead to it."""
    add_bos: bool = False
    """Default where the file does not say `tokenizer.ggml.add_bos_token`."""

    def normalizer(self) -> Normalizer | None:
        from tokenizers import normalizers

        return normalizers.NFC() if self.nfc else None

    def pre_tokenizer(self) -> PreTokenizer:
        from tokenizers import Regex, pre_tokenizers

        steps: list[PreTokenizer] = []
        if self.individual_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"))
        steps.append(
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.pattern is None)
        )
        return pre_tokenizers.Sequence(steps)


_GPT2 = PreTokenizerRules()
# transformers 5.19 has no entry for "smollm" and falls back to GPT-2's rules when it reads a GGUF
# file. These are the rules of the model's own tokenizer.json, and the model knows them: a list
# "Here are three fruits:\n\n1. Apple\n\n2. Banana\n\n3. Cherry\n" costs SmolLM2 44 nats cut this
# way and 54 nats cut the other.
_SMOLLM = PreTokenizerRules(individual_digits=True)
_LLAMA3 = PreTokenizerRules(
    pattern=rf"{_CONTRACTION}|{_NOT_WORD}\p{{L}}+|\p{{N}}{{1,3}}|{_AFTER_NUMBERS}",
    ignore_merges=True,
    add_bos=True,
)
_QWEN2 = PreTokenizerRules(
    pattern=rf"{_CONTRACTION}|{_NOT_WORD}\p{{L}}+|\p{{N}}|{_AFTER_NUMBERS}", nfc=True
)
_TEKKEN = PreTokenizerRules(
    pattern=rf"{_NOT_WORD}{_UPPER}*{_LOWER}+|{_NOT_WORD}{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ignore_merges=True,
    add_bos=True,
)

PRE_TOKENIZERS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "smollm": _SMOLLM,
    "tekken": _TEKKEN,
}


def pre_tokenizer_rules(name: str) -> PreTokenizerRules:
    """The rules called `name`. Raises UnsupportedModel with the list of known names."""
    try:
        return PRE_TOKENIZERS[name]
    except KeyError:
        raise UnsupportedModel(
            f"the GGUF pre-tokenizer {name!r} is not supported; "
            f"supported: {', '.join(sorted(PRE_TOKENIZERS))}"
        ) from None
