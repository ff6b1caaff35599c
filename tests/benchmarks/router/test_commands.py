"""How routers are started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.router import nginx, rust_routers, shoal_router
from shoal.benchmarks.router.contestants import NGINX, SHOAL, VLLM, choose, known, why_missing
from shoal.benchmarks.router.wish import Wish
from shoal.errors import ConfigError
from shoal.router.access.keys import KeyStore
from shoal.router.settings.config import RouterConfig


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish(
        worker_urls=("http://127.0.0.1:9001", "http://127.0.0.1:9002"),
        folder=tmp_path,
        port=8100,
        side_port=8101,
        first_byte_timeout_s=1.0,
    )


def test_shoals_configuration_is_one_that_the_router_takes(wish: Wish) -> None:
    argv = shoal_router.command(wish)
    path = Path(argv[argv.index("--config") + 1])
    config = msgspec.convert(yaml.safe_load(path.read_text()), RouterConfig)
    assert (config.listen.port, config.admin.port) == (8100, 8101)
    assert [endpoint.url for endpoint in config.discovery.static] == list(wish.worker_urls)
    assert config.upstream.first_byte_timeout_s == 1.0
    assert config.limits.requests_per_minute > 0
    assert config.telemetry.access_log == str(wish.folder / "access.log")


def test_shoals_key_opens_it(wish: Wish) -> None:
    shoal_router.command(wish)
    store = KeyStore.from_yaml((wish.folder / "keys.yaml").read_bytes())
    assert len(store) == 1
    assert shoal_router.AUTHORIZATION["authorization"] == f"Bearer {shoal_router.KEY}"


def test_nginx_accepts_its_configuration(wish: Wish) -> None:
    program = nginx.program()
    if program is None:
        pytest.skip("needs nginx")
    argv = nginx.command(wish)
    done = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    text = (wish.folder / "nginx.conf").read_text()
    assert "server 127.0.0.1:9002 " in text
    assert "proxy_read_timeout 1s" in text


@pytest.mark.parametrize("make", [rust_routers.vllm_router, rust_routers.sglang_router])
def test_a_rust_router_gets_workers_policy_and_deadline(make, wish: Wish) -> None:  # type: ignore[no-untyped-def]
    argv = make(Path("router"), wish)
    first = argv.index("--worker-urls") + 1
    assert tuple(argv[first : first + 2]) == wish.worker_urls
    assert argv[argv.index("--policy") + 1] == "round_robin"
    assert argv[argv.index("--request-timeout-secs") + 1] == "1"


def test_contestants_are_chosen_by_name_in_the_order_of_the_tables(tmp_path: Path) -> None:
    folder = PeersFolder(tmp_path)
    assert [who.name for who in choose([NGINX, SHOAL], folder)] == [SHOAL, NGINX]
    with pytest.raises(ConfigError, match="no router traefik; there are direct, shoal"):
        choose(["traefik"], folder)


def test_a_peer_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    folder = PeersFolder(tmp_path)
    assert why_missing(VLLM, folder) == (
        "not installed: python -m shoal.benchmarks.peers.install vllm-router"
    )
    (folder.vllm_router / "bin").mkdir(parents=True)
    (folder.vllm_router / "bin" / VLLM).touch()
    assert why_missing(VLLM, folder) is None
    assert why_missing(SHOAL, folder) is None


def test_versions_are_those_that_are_installed() -> None:
    assert known(PeersFolder())[VLLM].version == "0.1.17"
