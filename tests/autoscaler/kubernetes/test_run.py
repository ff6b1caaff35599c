"""`shoal autoscale run` as a process, against the fake API server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shoal.autoscaler.kubernetes.run import RunSettings, prepare
from shoal.errors import ConfigError
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.test_controller import (
    DEPLOYMENTS,
    POLICIES,
    deployment,
    policy,
    replicas,
)
from tests.autoscaler.kubernetes.waiting import until
from tests.kubernetes_api import kubeconfig

LEASES = "apis/coordination.k8s.io/v1/leases"
START_S = 60.0


@contextlib.asynccontextmanager
async def autoscaler(
    server: FakeApi, folder: Path, *more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process, and the address of its admin API."""
    program = [sys.executable, "-c", "from shoal.cli import main; main()"]
    process = await asyncio.create_subprocess_exec(
        *program, "autoscale", "run", "--admin-port", "0",
        "--kubeconfig", kubeconfig(server.url, folder), *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        found = re.fullmatch(r"Admin API on port (\d+)\.\n", line)
        assert found is not None, line
        yield process, f"http://127.0.0.1:{found[1]}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_leads_scales_and_gives_the_lease_back(server: FakeApi, tmp_path: Path) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy())
    async with autoscaler(server, tmp_path) as (process, url):
        await until(lambda: replicas(server) == 2)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert (await client.get("/ready")).status_code == 200
            assert "shoal_autoscaler_is_leader 1.0" in (await client.get("/metrics")).text
            models = (await client.get("/autoscaler/models")).json()["models"]
            assert [model["policy"] for model in models] == ["llm/chat"]
        holder = server.get(LEASES, "shoal-autoscaler")["spec"]["holderIdentity"]
        assert holder
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            assert await process.wait() == 0
        assert server.get(LEASES, "shoal-autoscaler")["spec"]["holderIdentity"] == ""


def test_a_file_with_a_mistake_is_told_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    head = "apiVersion: autoscaling.shoal.dev/v1alpha1\nkind: ScalingPolicy\n"
    one = head + "metadata: {name: a}\nspec:\n  model: m\n  variants: [{name: x}]\n"
    file.write_text(one)
    with pytest.raises(ConfigError, match=r"default/a: spec\.router: missing"):
        prepare(RunSettings(file=file, admin_port=0))
    with pytest.raises(ConfigError, match="'x' has no target"):
        prepare(RunSettings(file=file, admin_port=0, router_url="http://router:1"))
    target = "{name: x, target: {kind: Deployment, name: m}}"
    good = one.replace("{name: x}", target)
    file.write_text(f"{good}---\n{good.replace('name: a', 'name: b')}")
    with pytest.raises(ConfigError, match="is scaled by the policy default/a already"):
        prepare(RunSettings(file=file, admin_port=0, router_url="http://router:1"))


def test_an_address_in_use_is_told() -> None:
    first = prepare(RunSettings(admin_port=0))
    port = first.admin.getsockname()[1]
    try:
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            prepare(RunSettings(admin_port=port))
    finally:
        first.admin.close()
