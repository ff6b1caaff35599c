"""Seeded lines of text that tokenizers trip over."""

from __future__ import annotations

import random
from collections.abc import Iterator

_WORDS = (
    "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "it's", "we'll", "they've",
    "I'd", "don't", "WON'T", "O'Reilly", "naïve", "café", "Ünïcödé", "straße", "ﬁne", "étude",
    "Ångström", "résumé", "coöperate", "https://example.org/a?b=c&d=%20", "user@host.tld",
    "snake_case", "camelCase", "HTTPServer", "x86_64",
)  # fmt: skip
_CODE = (
    "def f(x: int) -> list[str]:",
    "    return {k: v for k, v in x.items() if k != 'a'}",
    "\tif (a && b || !c) { return x->y[0]; }  // why",
    "for (int i = 0; i < n; ++i) sum += a[i] * b[i];",
    "SELECT * FROM t WHERE id IN (1, 2, 3) -- all",
    '{"key": [1.5e-10, null, true], "nested": {"a": "b\\n"}}',
    "<div class='x'>&nbsp;&amp;</div><!-- c -->",
    "$ curl -sS http://127.0.0.1:8000/v1/models | jq '.data[].id'",
    "x = lambda *a, **k: (yield)  # noqa: E731",
    "#include <stdio.h>\r\nint main(void){return 0;}\r\n",
)
_EMOJI = (
    "😀", "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇫🇷", "1️⃣", "❤️",
    "🤷🏻\u200d♀️", "🧑\u200d💻",
    "☃️",
)  # fmt: skip
_SCRIPTS = (
    "中文字符测试，你好世界。",
    "日本語のテスト：ｶﾀｶﾅとひらがな",
    "한국어 문장입니다.",
    "שלום עולם",
    "مرحبا بالعالم ١٢٣",
    "Привет, мир!",
    "Γειά σου Κόσμε",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया १२३",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠜎𠜱 ⅷ ② ½",
)
_SPACES = (
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u2003", "\u3000", "\v\f",
)  # fmt: skip
_ODD = (
    "\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x85", "\u200b", "\u200d", "\u2028", "\ufeff",
    "�", "\U0010ffff", "▁", "Ġ", "Ċ",
)  # fmt: skip
_SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_end", "|im_end|>", "<s>",
    "</s>", "<0x0A>", "<|IM_END|>",
)  # fmt: skip
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…—–«»¿¡‘’“”"


def varied_lines(count: int, *, seed: int) -> Iterator[str]:
    """`count` lines; the same seed gives the same lines."""
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(_piece(rng) for _ in range(rng.randint(1, 12)))


def _piece(rng: random.Random) -> str:
    make = rng.choices(
        (_words, _code, _digits, _emoji, _script, _spaces, _odd, _special, _punctuation,
         _any_characters, _long_word),
        weights=(6, 3, 3, 2, 2, 4, 1, 1, 2, 1, 0.2),
    )[0]  # fmt: skip
    return make(rng)


def _words(rng: random.Random) -> str:
    return rng.choice(("", " ")) + " ".join(rng.choices(_WORDS, k=rng.randint(1, 6)))


def _code(rng: random.Random) -> str:
    return " " * rng.choice((0, 2, 4, 8)) + rng.choice(_CODE)


def _digits(rng: random.Random) -> str:
    digits = "".join(rng.choices("0123456789", k=rng.randint(1, 20)))
    return rng.choice(("", " ", "  ", "\n", "\n\n", "-", "$")) + rng.choice(
        (digits, f"{digits}.{digits[:2]}", f"{digits[:3]},{digits[3:6]}", f"v{digits}")
    )


def _emoji(rng: random.Random) -> str:
    return "".join(rng.choices(_EMOJI, k=rng.randint(1, 4)))


def _script(rng: random.Random) -> str:
    return rng.choice(_SCRIPTS)


def _spaces(rng: random.Random) -> str:
    return "".join(rng.choices(_SPACES, k=rng.randint(1, 5)))


def _odd(rng: random.Random) -> str:
    return "".join(rng.choices(_ODD, k=rng.randint(1, 3)))


def _special(rng: random.Random) -> str:
    return rng.choice(_SPECIAL)


def _punctuation(rng: random.Random) -> str:
    return "".join(rng.choices(_PUNCTUATION, k=rng.randint(1, 8)))


def _any_characters(rng: random.Random) -> str:
    """Any code points but surrogates, which have no UTF-8 form."""
    ranges = ((0x20, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 6)))


def _long_word(rng: random.Random) -> str:
    alphabet = rng.choice(("a", "ab", "abcdefghijklmnopqrstuvwxyz", "=", "日本", "é"))
    return "".join(rng.choices(alphabet, k=rng.randint(100, 1_000)))
