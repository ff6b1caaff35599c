"""Whose request it is, for which model, and whether it may go on: before any worker is asked.

In the order a client should hear of it: the route, the key, the body, the model, the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from shoal.errors import InvalidRequest, MethodNotAllowed, NotFound, RateLimited
from shoal.openai.decode import decode_body

from ..access.principal import Principal, require_model
from ..core.rate_limit import Limits, Refusal
from ..prefix_hash import TOKENS_PER_CHUNK, chunk_hashes, root_hash
from ..request_fields import ABSENT, RequestFields, decode_fields
from .headers import find, forwarded_fields, forwarded_for
from .multipart import form_field
from .own_routes import answer_models, answer_probe
from .routes import Route, route, split_target
from .stored_answers import answer_stored, is_stored_answer
from .usage_wish import ask_for_usage

if TYPE_CHECKING:
    from .exchange import Exchange
    from .gateway import Gateway
    from .request_reader import Request

_BYTES_PER_TOKEN: Final = 256 // TOKENS_PER_CHUNK
_DEFAULT_ANSWER_TOKENS: Final = 256
"""What limits and fairness expect of an answer whose length the client left open."""

_ANY_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Admission:
    """What is known of an admitted request; what attempts send is made of it."""

    __slots__ = (
        "block_hashes",
        "block_size",
        "body",
        "fields",
        "hides_usage",
        "is_counted",
        "limits",
        "max_answer_tokens",
        "memo",
        "model",
        "num_prompt_tokens",
        "path",
        "policy",
        "prefix_hashes",
        "principal",
        "selector",
        "served_model",
        "session_id",
        "wants_stream",
    )

    def __init__(
        self, principal: Principal, memo: HeadMemo, fields: RequestFields, body: bytes
    ) -> None:
        self.principal = principal
        self.memo = memo
        self.path = memo.path
        self.limits: Limits | None = None
        """Of the key; None: it has none."""
        self.fields = fields
        self.body = body
        """With the model name that the workers know."""
        self.wants_stream = fields.stream is True
        self.model = fields.model or ""
        """As the client names it."""
        self.served_model = self.model
        """As the workers name it."""
        self.selector: dict[str, str] = {}
        self.policy: str | None = None
        self.session_id = memo.session_id
        self.num_prompt_tokens = 0
        self.max_answer_tokens = 0
        self.prefix_hashes: tuple[int, ...] = ()
        self.block_hashes: tuple[int, ...] = ()
        self.block_size = 0
        self.hides_usage = False
        """Whether the client did not ask for the token counts that we asked for."""
        self.is_counted = False
        """Whether the limiter must hear of its end."""

    @property
    def num_expected_tokens(self) -> int:
        """Prompt and answer, as limits and fairness count them beforehand."""
        return self.num_prompt_tokens + self.max_answer_tokens


class HeadMemo:
    """What the head of a request means: worked out once, for as long as a connection repeats it.

    A client that keeps its connection says the same in each head; comparing it with the last one
    costs a tenth of reading it again. Void when the configuration changes; the bearer of a token
    that expires is asked every time.
    """

    __slots__ = (
        "content_type",
        "forwarded",
        "generation",
        "headers",
        "is_form",
        "kind",
        "limits",
        "path",
        "principal",
        "query",
        "session_id",
        "target",
    )

    def __init__(self, gateway: Gateway, exchange: Exchange) -> None:
        request = exchange.request
        self.generation = gateway.generation
        self.headers = request.headers
        self.target = request.target
        self.path, self.query = split_target(request.target)
        self.kind = route(self.path)
        self.principal: Principal | None = None
        """None: to be asked for each time."""
        self.limits: Limits | None = None
        """Of the principal."""
        self.session_id = gateway.session_of(request.headers)
        self.content_type = find(request.headers, b"content-type") or b""
        self.is_form = _is_form(self.content_type)
        self.forwarded = gateway.forwarded_lines(exchange)

    def fits(self, gateway: Gateway, request: Request) -> bool:
        return (
            (self.headers is request.headers or self.headers == request.headers)
            and self.target == request.target
            and self.generation == gateway.generation
        )


def admit(gateway: Gateway, exchange: Exchange) -> Admission | None:
    """Check a request. None: it was one of the router's own routes, and is answered.

    Raises RequestError, and `SigningKeyUnknown` when it may succeed with fresh keys.
    """
    request = exchange.request
    memo = exchange.client.head_memo
    if memo is None or not memo.fits(gateway, request):
        memo = exchange.client.head_memo = HeadMemo(gateway, exchange)
    kind = memo.kind
    if kind is Route.PROBE:
        answer_probe(gateway, exchange, memo.path)
        return None
    if kind is Route.NONE:
        raise NotFound(
            f"There is no {_shown(memo.path)} here. The API is under /v1.", code="not_found"
        )
    principal, limits = memo.principal, memo.limits
    if principal is None:
        principal = gateway.authenticate(request.headers)
        limits = limits_of(principal)
        if gateway.keys_last:
            memo.principal, memo.limits = principal, limits
    if kind is Route.MODELS:
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed("Ask for models with GET.", allow="GET, HEAD")
        answer_models(gateway, exchange, memo.path, principal)
        return None
    if is_stored_answer(memo.path):
        exchange.run(lambda: answer_stored(gateway, exchange, memo, principal))
        return None
    if request.method != b"POST":
        raise MethodNotAllowed(f"{_shown(memo.path)} takes POST.", allow="POST")
    fields = read_fields(memo.content_type, request.body, is_form=memo.is_form)
    admission = Admission(principal, memo, fields, request.body)
    _resolve(gateway, admission, memo.content_type)
    _measure(gateway, admission)
    if gateway.counts_tokens:
        body = ask_for_usage(admission.path, fields, admission.body)
        if body is not None:
            admission.body, admission.hides_usage = body, True
    if limits is not None:
        admission.limits = limits
        gateway.take_limits(admission, limits)
    return admission


def limits_of(principal: Principal) -> Limits | None:
    """None: the key has none."""
    limits = Limits(
        principal.requests_per_minute,
        principal.tokens_per_minute,
        principal.max_parallel_requests,
    )
    return limits if any(limits) else None


def _shown(path: bytes) -> str:
    return path[:200].decode("latin-1")


def read_fields(content_type: bytes, body: bytes, *, is_form: bool) -> RequestFields:
    """What the body says. Raises InvalidRequest."""
    if is_form:
        model = form_field(body, content_type, "model")
        return RequestFields(
            model=None if model is None else model.value.decode("utf-8", "replace")
        )
    if not body:
        raise InvalidRequest("The body is empty. Send one JSON object.", code="invalid_json")
    return decode_fields(body)


def _is_form(content_type: bytes) -> bool:
    return content_type[:10].lower() == b"multipart/"


def _resolve(gateway: Gateway, admission: Admission, content_type: bytes) -> None:
    """Which model on which workers."""
    fields = admission.fields
    if not admission.model:
        admission.model = gateway.only_model() or ""
        if not admission.model:
            raise InvalidRequest("model is missing: name one of /v1/models.", param="model")
        admission.served_model = admission.model
    require_model(admission.principal, admission.model)
    if admission.session_id is None:
        admission.session_id = gateway.session_in(fields)
    if fields.model is not None and gateway.is_plain_model(fields.model):
        return
    resolved = gateway.resolve(admission)
    if resolved is None:
        raise NotFound(
            f"There is no model {admission.model[:256]!r} here. See /v1/models.",
            param="model",
            code="model_not_found",
        )
    admission.served_model = resolved.model
    if resolved.rewritten or fields.model is None:
        admission.body = with_model(admission.body, content_type, resolved.model)
        fields.model = resolved.model
    admission.selector = dict(resolved.selector)
    admission.policy = resolved.policy


def with_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """The body with another model; every other value keeps its bytes. Raises InvalidRequest."""
    if _is_form(content_type):
        field = form_field(body, content_type, "model")
        if field is None:
            return body  # there is no choice, so the worker needs no name
        return b"%b%b%b" % (body[: field.start], model.encode(), body[field.end :])
    decoded = decode_body(_ANY_OBJECT, body)
    values: dict[str, Any] = dict(decoded)
    values["model"] = model
    return msgspec.json.encode(values)


def _measure(gateway: Gateway, admission: Admission) -> None:
    """How long the prompt is, and what its prefixes are called."""
    fields = admission.fields
    prompt = prompt_bytes(fields)
    admission.num_prompt_tokens = max(1, len(prompt) // _BYTES_PER_TOKEN)
    for limit in (fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens):
        if isinstance(limit, int) and limit > 0:
            admission.max_answer_tokens = min(limit, 1 << 20)
            break
    else:
        admission.max_answer_tokens = _DEFAULT_ANSWER_TOKENS
    if gateway.experience.uses_prefixes(admission.policy):
        salt = fields.cache_salt
        if isinstance(salt, str):
            root = root_hash(admission.served_model, salt)
        else:
            root = gateway.unsalted_root(admission.served_model)
        admission.prefix_hashes = chunk_hashes(prompt, root)


def prompt_bytes(fields: RequestFields) -> bytes:
    """The prompt as the client wrote it, in the order in which templates render its parts."""
    absent = ABSENT
    parts: list[msgspec.Raw] = []
    if fields.tools is not absent:
        parts.append(fields.tools)
    if fields.system is not absent:
        parts.append(fields.system)
    if fields.instructions is not absent:
        parts.append(fields.instructions)
    if fields.messages is not absent:
        parts.append(fields.messages)
    if fields.prompt is not absent:
        parts.append(fields.prompt)
    if fields.input is not absent:
        parts.append(fields.input)
    return bytes(parts[0]) if len(parts) == 1 else b"".join([bytes(part) for part in parts])


def forwarded_head(exchange: Exchange, *, keep_credentials: bool, own_credentials: bytes) -> bytes:
    """Header lines that every attempt sends: the client's, and our key."""
    headers = exchange.request.headers
    return b"%b%b%b" % (
        forwarded_fields(headers, keep_credentials=keep_credentials),
        forwarded_for(headers, exchange.client.peer),
        own_credentials,
    )


def rate_limited(refusal: Refusal) -> RateLimited:
    """429 for one of a key's limits."""
    what, retry_after_s, limit = refusal
    if retry_after_s is None:
        return RateLimited(
            f"The request may take more tokens than the {limit} a minute of this key: shorten it,"
            " or lower max_tokens.",
            code="request_too_large",
        )
    limits = {
        "requests": f"{limit} requests a minute",
        "tokens": f"{limit} tokens a minute",
        "parallel": f"{limit} requests at a time",
    }
    return RateLimited(
        f"This key may have {limits[what]}; try again in {max(retry_after_s, 0.1):.1f} s.",
        retry_after_s=retry_after_s,
    )
