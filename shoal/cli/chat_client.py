"""A client of one OpenAI-compatible server: only what `shoal chat` needs of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypedDict

import httpx
import msgspec

from shoal.errors import EngineUnavailable, RequestError

# Reading waits long: a prompt may queue, and a slow machine prefills for a while.
TIMEOUT = httpx.Timeout(connect=5.0, read=600.0, write=30.0, pool=5.0)


class Message(TypedDict):
    """One turn of the conversation; `role` is system, user or assistant."""

    role: str
    content: str


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _ErrorBody(msgspec.Struct):
    message: str


class _Chunk(msgspec.Struct):
    """One server-sent event of a streamed answer, with the fields we show."""

    choices: list[_Choice] = msgspec.field(default_factory=list)
    error: _ErrorBody | None = None


class _Error(msgspec.Struct):
    error: _ErrorBody


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


class ChatClient:
    """Raises `EngineUnavailable` when nobody answers, `RequestError` when an error is answered."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, transport=transport
        )

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def model_names(self) -> list[str]:
        """What the server serves; the first is its main model."""
        try:
            response = self._http.get("/v1/models")
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        _raise_for_status(response)
        try:
            return [
                model.id for model in msgspec.json.decode(response.content, type=_ModelList).data
            ]
        except msgspec.DecodeError as error:
            raise RequestError(f"{self.url} does not answer like an OpenAI server") from error

    def stream(
        self,
        model: str,
        messages: list[Message],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Generator[str, None, None]:
        """Yield the answer piece by piece. Closing the iterator aborts it on the server."""
        body: dict[str, object] = {"model": model, "messages": messages, "stream": True}
        if temperature is not None:
            body["temperature"] = temperature
        if max_tokens is not None:
            body["max_completion_tokens"] = max_tokens
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                _raise_for_status(response)
                for line in response.iter_lines():
                    yield from _text_of(line)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> EngineUnavailable:
        return EngineUnavailable(
            f"no answer from {self.url} ({error or type(error).__name__}). Is a server running "
            "there? Start one with `shoal serve MODEL`, or name another with --url."
        )


def _text_of(line: str) -> Iterator[str]:
    """The text in one line of the event stream; comments and the end mark have none."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except msgspec.DecodeError as error:
        raise RequestError(f"not an OpenAI stream: {line[:200]!r}") from error
    if chunk.error is not None:
        raise RequestError(chunk.error.message)
    for choice in chunk.choices:
        if choice.delta.content:
            yield choice.delta.content


def _raise_for_status(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        message = msgspec.json.decode(response.content, type=_Error).error.message
    except msgspec.DecodeError:
        message = response.text[:200] or response.reason_phrase
    raise RequestError(f"{response.status_code} from {response.url}: {message}")
