"""Model names: which there are, who sees them, and how one becomes another on the way."""

from __future__ import annotations

import json

import pytest

from shoal.router.settings.routing import ModelConfig, SplitArm
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.keys import AUTH, bearer, keys_file
from tests.router.proxy.raw_client import get, post
from tests.router.proxy.running_router import record

ALIAS = ModelConfig(name="served", aliases=("alias",))


async def test_the_list_of_models(run_router: RunRouter) -> None:
    router = await run_router(
        record("http://127.0.0.1:9", "served", "org/other"),
        record("http://127.0.0.1:10", "served", "asleep", status="unhealthy"),
        models=(ALIAS, ModelConfig(name="from-zero")),
    )
    client = await router.client()
    got = (await client.ask(get("/v1/models"))).json()
    assert got["object"] == "list"
    assert [model["id"] for model in got["data"]] == [
        "alias", "asleep", "from-zero", "org/other", "served"
    ]  # fmt: skip
    assert {model["object"] for model in got["data"]} == {"model"}
    assert {model["owned_by"] for model in got["data"]} == {"shoal-router"}


@pytest.mark.parametrize("path", ["org/other", "org%2Fother", "%6Frg/other"])
async def test_one_model(path: str, run_router: RunRouter) -> None:
    router = await run_router(record("http://127.0.0.1:9", "org/other"))
    client = await router.client()
    got = await client.ask(get(f"/v1/models/{path}"))
    assert got.status == 200
    assert got.json()["id"] == "org/other"


async def test_a_key_sees_its_models_alone(run_router: RunRouter) -> None:
    router = await run_router(
        record("http://127.0.0.1:9", "a", "b"),
        keys=keys_file(one="models: [a]", none="models: []", all=""),
        auth=AUTH,
    )
    client = await router.client()
    for name, seen in (("one", ["a"]), ("none", []), ("all", ["a", "b"])):
        got = (await client.ask(get("/v1/models", fields=bearer(name)))).json()
        assert [model["id"] for model in got["data"]] == seen
    assert (await client.ask(get("/v1/models/b", fields=bearer("one")))).status == 404
    assert (await client.ask(get("/v1/models/b", fields=bearer("all")))).status == 200


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b'{"model":"alias"}', b'{"model":"served"}'),
        (
            b' {"a": 1.0e2,\n"model" : "alias", "b": {"model": "alias"}, "c": "\\u00e4 \xc3\xa4"}',
            b'{"a":1.0e2,"model":"served","b":{"model": "alias"},"c":"\\u00e4 \xc3\xa4"}',
        ),
        (b'{"model":"x","n":1,"model":"alias"}', b'{"model":"served","n":1}'),
        (b'{"mod\\u0065l":"alias","seed":12345678901234567890123}',
         b'{"model":"served","seed":12345678901234567890123}'),
    ],
)  # fmt: skip
async def test_an_alias_is_written_into_the_body(
    sent: bytes, got: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(record(worker.url, "served"), models=(ALIAS,))
    client = await router.client()
    assert (await client.ask(post(sent))).status == 200
    assert worker.requests[0].body == got


@pytest.mark.parametrize(
    "body",
    [
        b' { "model" : "served" , "x": [ 1 ] } \n',
        b'{"model":"served","model":"served"}',
        b'{"x":"\xff","model":"served"}',
    ],
)
async def test_a_body_that_need_not_change_does_not(
    body: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(record(worker.url, "served"), models=(ALIAS,))
    client = await router.client()
    assert (await client.ask(post(body))).status == 200
    assert worker.requests[0].body == body


async def test_a_key_that_is_no_text_is_the_clients_mistake(run_router: RunRouter) -> None:
    router = await run_router(record("http://127.0.0.1:9", "served"), models=(ALIAS,))
    client = await router.client()
    got = await client.ask(post(b'{"\xff":1,"model":"alias"}'))
    assert (got.status, got.error["code"]) == (400, "invalid_json")


async def test_without_a_name_there_must_be_no_choice(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(record(worker.url, "only"))
    client = await router.client()
    for body in (b'{"prompt": "x"}', b'{"model":null,"prompt": "x"}'):
        assert (await client.ask(post(body))).status == 200
    for request in worker.requests:
        assert json.loads(request.body) == {"model": "only", "prompt": "x"}
    router.take_workers([record(worker.url, "only", "another")])
    assert (await client.ask(post(b"{}"))).status == 400


async def test_a_split_sends_each_arm_its_own_name(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    old, new = await run_worker(), await run_worker()
    split = ModelConfig(
        name="chat",
        split=(SplitArm(weight=1, model="chat-v1"), SplitArm(weight=1, model="chat-v2")),
    )
    router = await run_router(
        record(old.url, "chat-v1"), record(new.url, "chat-v2"), models=(split,)
    )
    client = await router.client()
    for number in range(40):
        session = b"X-Session-Id: s%d\r\n" % (number % 20)
        assert (await client.ask(post(b'{"model":"chat"}', fields=session))).status == 200
    for worker, name in ((old, b"chat-v1"), (new, b"chat-v2")):
        assert {request.body for request in worker.requests} == {b'{"model":"%b"}' % name}
        sessions = [request.value(b"x-session-id") for request in worker.requests]
        assert len(sessions) == 2 * len(set(sessions))  # a session stays on its arm


async def test_a_split_by_labels_leaves_the_body_alone(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    canary, other = await run_worker(), await run_worker()
    split = ModelConfig(name="m", split=(SplitArm(weight=1, selector={"version": "canary"}),))
    router = await run_router(
        record(other.url), record(canary.url, version="canary"), models=(split,)
    )
    client = await router.client()
    body = b' { "model" : "m" } '
    for _ in range(5):
        assert (await client.ask(post(body))).status == 200
    assert [request.body for request in canary.requests] == [body] * 5
    assert other.requests == []


async def test_a_fallback_takes_over(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(
        record("http://127.0.0.1:9", "big", status="unhealthy"),
        record(worker.url, "small"),
        models=(ModelConfig(name="big", fallback=("small",)),),
    )
    client = await router.client()
    assert (await client.ask(post(b'{"model":"big","n":1}'))).status == 200
    assert worker.requests[0].body == b'{"model":"small","n":1}'


async def test_a_key_needs_the_name_it_asks_by(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Every way to write a name that workers read as another is closed."""
    worker = await run_worker()
    router = await run_router(
        record(worker.url, "served", "secret"),
        models=(ALIAS,),
        keys=keys_file(a="models: [alias]"),
        auth=AUTH,
    )
    client = await router.client()
    for body, status in (
        (b'{"model":"alias"}', 200),
        (b'{"model":"served"}', 403),
        (b'{"model":"secret"}', 403),
        (b'{"model":"alias","model":"secret"}', 403),
        (b'{"model":"alias","mod\\u0065l":"secret"}', 403),
        (b'{"model":"alias","\\u006d\\u006fdel":"secret"}', 403),
        (b"{}", 400),
    ):
        assert (await client.ask(post(body, fields=bearer("a")))).status == status


def form(*parts: tuple[bytes, bytes]) -> bytes:
    lines = [
        b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % part for part in parts
    ]
    return b"".join(lines) + b"--xyz--\r\n"


FORM = b"Content-Type: multipart/form-data; boundary=xyz\r\n"
AUDIO = "/v1/audio/transcriptions"


@pytest.mark.parametrize("name", [b"served", b"alias"])
async def test_the_model_of_a_form(
    name: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(record(worker.url, "served", "other"), models=(ALIAS,))
    client = await router.client()
    sound = bytes(range(256)) * 100
    sent = form((b"file", sound), (b"model", name), (b"language", b"de"))
    assert (await client.ask(post(sent, path=AUDIO, fields=FORM))).status == 200
    expected = form((b"file", sound), (b"model", b"served"), (b"language", b"de"))
    assert worker.requests[0].body == expected


async def test_a_form_with_two_models_is_refused(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(
        record(worker.url, "a", "b"), keys=keys_file(k="models: [a]"), auth=AUTH
    )
    client = await router.client()
    sent = form((b"model", b"a"), (b"model", b"b"))
    got = await client.ask(post(sent, path=AUDIO, fields=FORM + bearer("k")))
    assert (got.status, got.error["param"]) == (400, "model")
    assert worker.requests == []


async def test_a_form_without_a_model(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    sent = form((b"file", b"x"))
    assert (await client.ask(post(sent, path=AUDIO, fields=FORM))).status == 200
    assert worker.requests[0].body == sent
