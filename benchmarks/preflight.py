"""Before any load: is the server there, does it have the model, how does it count tokens?

Whatever is wrong ends here with one clear line instead of a thousand failed requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from shoal.benchmarks.workload.tokens import TokenPool
from shoal.benchmarks.workload.words import CANDIDATE_WORDS
from shoal.errors import ConfigError, ShoalError

from .direct_http import direct

TIMEOUT_S = 10.0
MAX_TOKENIZE_WORDS = 64
"""Words checked by one request to the server's tokenizer."""


class ServerUnusable(ShoalError):
    """The server cannot be measured; the message says why and what to do."""


class Preflight:
    """Questions to a server before a run, over plain HTTP."""

    def __init__(
        self, url: str, headers: dict[str, str], *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            headers=headers, timeout=TIMEOUT_S, transport=transport, **direct()
        )

    def __enter__(self) -> Preflight:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def choose_model(self, wanted: str | None) -> str:
        """The model to ask for: `wanted`, or the only (or first) one the server lists.

        Raises ServerUnusable when the server cannot be reached, refuses, or does not have it.
        """
        listing = self._get_models()
        try:
            names = [entry["id"] for entry in listing["data"]]
        except (KeyError, TypeError):
            raise ServerUnusable(
                f"{self._url}/v1/models does not answer like an OpenAI server: {listing!r:.200}"
            ) from None
        if wanted is None:
            if not names:
                raise ServerUnusable(f"{self._url} lists no model: name one with --model")
            return str(names[0])
        if names and wanted not in names:
            raise ServerUnusable(
                f"{self._url} does not serve {wanted!r}; it has: {', '.join(names)}"
            )
        return wanted

    def token_pool(self, model: str) -> TokenPool:
        """Words that are one token each for this server, by its own tokenizer.

        A server without a tokenizer route gets the candidate words as they are, marked inexact:
        most are one token in every common vocabulary, and the report compares with its own count.
        """
        tokenize = self._tokenizer(model)
        if tokenize is None:
            return TokenPool(words=list(CANDIDATE_WORDS), token_ids=[], exact=False)
        overhead = len(tokenize(" the the")) - len(tokenize(" the"))
        overhead = len(tokenize(" the")) - overhead  # what is there beside the words, e.g. BOS
        words, ids = _single_token_words(tokenize, max(0, overhead))
        if len(words) < 50:
            return TokenPool(words=list(CANDIDATE_WORDS), token_ids=[], exact=False)
        return TokenPool(words=words, token_ids=ids, overhead=max(0, overhead))

    def _get_models(self) -> Any:
        try:
            response = self._http.get(f"{self._url}/v1/models")
        except httpx.UnsupportedProtocol:
            raise ConfigError(f"{self._url!r} is not an http:// or https:// URL") from None
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self._url!r} is not a URL: {error}") from None
        except httpx.TransportError as error:
            raise ServerUnusable(
                f"cannot reach {self._url}: {error or type(error).__name__}; is the server running?"
            ) from None
        if response.status_code in (401, 403):
            raise ServerUnusable(
                f"{self._url} wants an API key: set SHOAL_API_KEY or OPENAI_API_KEY"
            )
        if response.status_code != 200:
            raise ServerUnusable(
                f"{self._url}/v1/models answers {response.status_code}: {response.text:.200}"
            )
        try:
            return response.json()
        except ValueError:
            raise ServerUnusable(
                f"{self._url}/v1/models does not answer with JSON: {response.text:.200}"
            ) from None

    def _tokenizer(self, model: str) -> _Tokenize | None:
        """The route that vLLM, SGLang and Shoal have, or llama.cpp's; None without either."""
        for body_of, ids_of in (
            (lambda text: {"model": model, "prompt": text}, lambda answer: answer["tokens"]),
            (lambda text: {"content": text, "add_special": True}, lambda answer: answer["tokens"]),
        ):
            tokenize = _Tokenize(self._http, f"{self._url}/tokenize", body_of, ids_of)
            if tokenize.works():
                return tokenize
        return None


class _Tokenize:
    """Text to token ids by one dialect of a server's route."""

    def __init__(self, http: httpx.Client, url: str, body_of: Any, ids_of: Any) -> None:
        self._http, self._url, self._body_of, self._ids_of = http, url, body_of, ids_of

    def works(self) -> bool:
        try:
            ids = self(" the")
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False
        return 0 < len(ids) <= 4

    def __call__(self, text: str) -> list[int]:
        response = self._http.post(self._url, json=self._body_of(text))
        response.raise_for_status()
        ids = self._ids_of(response.json())
        return [int(token_id) for token_id in ids]


def _single_token_words(tokenize: _Tokenize, overhead: int) -> tuple[list[str], list[int]]:
    """Candidates that add exactly one token, found in batches: a batch that comes out one token a
    word is taken whole, any other is split."""
    found: dict[str, int] = {}

    def look(words: Sequence[str]) -> None:
        ids = tokenize("".join(f" {word}" for word in words))[overhead:]
        if len(ids) == len(words):
            found.update(zip(words, ids, strict=True))
        elif len(words) > 1:
            look(words[: len(words) // 2])
            look(words[len(words) // 2 :])

    for first in range(0, len(CANDIDATE_WORDS), MAX_TOKENIZE_WORDS):
        look(CANDIDATE_WORDS[first : first + MAX_TOKENIZE_WORDS])
    return list(found), list(found.values())
