from __future__ import annotations

import asyncio

import pytest

from shoal.engine.output import RequestOutput
from shoal.engine.output_stream import OutputStream
from shoal.errors import EngineUnavailable


async def test_a_waiting_consumer_is_woken() -> None:
    stream = OutputStream()
    consumer = asyncio.create_task(stream.get())
    await asyncio.sleep(0)
    stream.put(RequestOutput(text="a", token_ids=[1]))
    assert (await consumer).text == "a"


async def test_outputs_not_taken_become_one() -> None:
    stream = OutputStream()
    stream.put(RequestOutput(text="a", token_ids=[1], queue_s=0.5))
    stream.put(RequestOutput(text="b", token_ids=[2]))
    stream.put(RequestOutput(text="c", token_ids=[3], finish_reason="stop", stop_reason="x"))
    assert await stream.get() == RequestOutput(
        text="abc", token_ids=[1, 2, 3], finish_reason="stop", stop_reason="x", queue_s=0.5
    )


async def test_an_error_comes_after_what_was_there_before() -> None:
    stream = OutputStream()
    stream.put(RequestOutput(text="a", token_ids=[1]))
    stream.fail(EngineUnavailable("gone"))
    assert (await stream.get()).text == "a"
    with pytest.raises(EngineUnavailable, match="gone"):
        await stream.get()


async def test_an_error_wakes_a_waiting_consumer() -> None:
    stream = OutputStream()
    consumer = asyncio.create_task(stream.get())
    await asyncio.sleep(0)
    stream.fail(EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        await consumer


async def test_a_cancelled_consumer_does_not_disturb_the_dispatcher() -> None:
    stream = OutputStream()
    consumer = asyncio.create_task(stream.get())
    await asyncio.sleep(0)
    consumer.cancel()
    stream.put(RequestOutput(text="a", token_ids=[1]))
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert (await stream.get()).text == "a"
