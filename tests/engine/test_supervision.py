"""A core process that fails, and what its engine makes of that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import SupervisionConfig
from shoal.engine.core_client import CoreClient
from shoal.errors import EngineUnavailable, ModelNotFound, ShoalError, UnsupportedModel
from tests.engine.fake_core import FAKE_CORE_COMMAND, HANG, KILL, RAISE, SLOW
from tests.engine.fake_engine import (
    StartEngine,
    complete,
    core_pid,
    core_pids,
    make_engine,
    outputs,
    wait_until,
)

PATIENCE_S = 40.0
"""For what comes at once on a machine that has nothing else to do."""


async def test_kill_9_in_mid_stream_fails_requests_at_once_and_restarts(
    engine: AsyncEngine,
) -> None:
    stream = outputs(engine, [97, SLOW], max_tokens=900)
    await anext(stream)
    os.kill(core_pid(), signal.SIGKILL)

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(EngineUnavailable, match="SIGKILL") as lost:
            async for _ in stream:
                pass
    assert lost.value.retry_after_s is not None
    assert lost.value.retry_after_s >= 1
    assert not engine.is_ready
    assert not engine.health().ok
    assert "SIGKILL" in engine.health().reason
    with pytest.raises(EngineUnavailable, match="SIGKILL"):
        await complete(engine, "b", request_id="early")

    await wait_until(lambda: engine.is_ready)
    assert engine.health().ok
    assert engine.stats().num_core_restarts == 1
    assert (await complete(engine, "b", max_tokens=3)).text == "bbb"


async def test_an_exception_in_a_step_is_told_to_all(engine: AsyncEngine) -> None:
    other = asyncio.create_task(complete(engine, [97, SLOW], request_id="other", max_tokens=900))
    await wait_until(lambda: engine.stats().num_requests == 1)
    with pytest.raises(EngineUnavailable, match="RuntimeError: the runner was told to fail"):
        await complete(engine, [97, RAISE])
    with pytest.raises(EngineUnavailable):
        await other


async def test_a_core_that_was_launched_before_is_the_first_to_be_used() -> None:
    spare = await CoreClient.launch(FAKE_CORE_COMMAND)
    engine = make_engine(spare_core=spare)
    try:
        await asyncio.sleep(0.3)  # it has said Hello by now, and nobody has listened
        await engine.start()
        assert core_pid() == spare.pid
        assert (await complete(engine, "b", max_tokens=3)).text == "bbb"
        os.kill(spare.pid, signal.SIGKILL)
        await wait_until(lambda: not engine.is_ready)
        await wait_until(lambda: engine.is_ready)
        assert core_pid() != spare.pid
    finally:
        await engine.shutdown()


async def test_a_core_without_a_model_ends_with_its_engine() -> None:
    spare = await CoreClient.launch(FAKE_CORE_COMMAND)
    engine = make_engine(spare_core=spare)
    await engine.shutdown()
    assert core_pids() == []


async def test_policy_exit_reports_the_death(start_engine: StartEngine) -> None:
    engine = await start_engine(supervision=SupervisionConfig(on_core_crash="exit"))
    with pytest.raises(EngineUnavailable, match="SIGKILL"):
        await complete(engine, [97, KILL])
    async with asyncio.timeout(PATIENCE_S):
        assert "SIGKILL" in await engine.wait_dead()


async def test_gives_up_after_too_many_crashes(start_engine: StartEngine) -> None:
    engine = await start_engine(supervision=SupervisionConfig(max_restarts=1))
    for _ in range(2):
        await wait_until(lambda: engine.is_ready)
        with pytest.raises(EngineUnavailable):
            await complete(engine, [97, KILL])
    async with asyncio.timeout(PATIENCE_S):
        await engine.wait_dead()
    with pytest.raises(EngineUnavailable):
        await complete(engine, "b")


async def test_a_hanging_step_fails_health_and_turns_requests_away(
    start_engine: StartEngine,
) -> None:
    engine = await start_engine(supervision=SupervisionConfig(stall_timeout_s=0.1))
    stuck = asyncio.create_task(complete(engine, [97, HANG]))
    await wait_until(lambda: not engine.health().ok)
    assert "no step for" in engine.health().reason
    with pytest.raises(EngineUnavailable, match="no step for"):
        await complete(engine, "b", request_id="late")
    os.kill(core_pid(), signal.SIGKILL)
    with pytest.raises(EngineUnavailable, match="SIGKILL"):
        await stuck


async def test_a_core_that_hangs_is_killed_and_comes_back(start_engine: StartEngine) -> None:
    supervision = SupervisionConfig(stall_timeout_s=0.1, kill_timeout_s=0.2)
    engine = await start_engine(supervision=supervision)
    with pytest.raises(EngineUnavailable, match="made no step for"):
        await complete(engine, [97, HANG])
    await wait_until(lambda: engine.is_ready)
    assert engine.health().ok


async def test_idle_is_not_a_stall(start_engine: StartEngine) -> None:
    engine = await start_engine(
        supervision=SupervisionConfig(stall_timeout_s=0.05, kill_timeout_s=0.1)
    )
    await asyncio.sleep(0.3)
    assert engine.health().ok
    assert engine.stats().num_core_restarts == 0


async def test_a_model_error_of_the_core_is_raised_by_start() -> None:
    with pytest.raises(UnsupportedModel, match="no such architecture"):
        await make_engine(model="unsupported").start()


async def test_a_start_that_fails_leaves_no_core_behind() -> None:
    with pytest.raises(ModelNotFound, match="tokenizer"):
        await make_engine(model="no-tokenizer").start()
    assert core_pids() == []


async def test_a_core_that_cannot_be_launched_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ShoalError, match="No such file"):
            await make_engine(core_command=(str(tmp_path / "missing"),)).start()
    assert os.listdir(tmp_path) == []


async def test_ctrl_c_in_the_terminal_leaves_the_core_to_us(engine: AsyncEngine) -> None:
    assert os.getsid(core_pid()) != os.getsid(0)
    os.kill(core_pid(), signal.SIGINT)
    assert (await complete(engine, "ab", max_tokens=2)).text == "ab"
    assert engine.stats().num_core_restarts == 0


async def test_a_start_without_progress_ends() -> None:
    engine = make_engine(model="never-loads", supervision=SupervisionConfig(start_timeout_s=1.5))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ShoalError, match=r"no progress for 1\.5 s"):
            await engine.start()


async def test_the_core_dies_with_its_parent(tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio, os, psutil\n"
        "from tests.engine.fake_engine import core_pid, make_engine\n"
        "async def main():\n"
        "    await make_engine().start()\n"
        "    print(core_pid(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(parent),
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        stdout, _ = await process.communicate()
    pid = int(stdout.split()[-1])
    await wait_until(lambda: not psutil.pid_exists(pid))
    assert os.listdir(tmp_path) == ["parent.py"]


async def test_a_profile_ends_with_its_core(start_engine: StartEngine) -> None:
    engine = await start_engine(torch_profiler_dir="/traces")
    await engine.profiler.start()
    stopping = asyncio.create_task(engine.profiler.stop())
    await asyncio.sleep(0)
    engine._core.kill("of a test")
    with contextlib.suppress(EngineUnavailable):  # it may have answered just before
        assert await stopping == "/traces/trace"
