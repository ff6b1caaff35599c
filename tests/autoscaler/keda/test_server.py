from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from shoal.autoscaler.keda.server import ListenSettings, TlsFiles
from shoal.errors import ConfigError
from tests.autoscaler.collect.fleet import Fleet
from tests.autoscaler.keda.scaler import Scaler, keda, serving
from tests.router.access.certificates import Authority


class Certificates:
    """The scaler's, KEDA's, and the authorities of both."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        self.scaler, self.keda = ours.issue("scaler"), theirs.issue("keda")
        self.ca = Path(ours.ca).read_bytes()
        self.client_ca = Path(theirs.ca)

    def files(self, *, asks_clients: bool) -> TlsFiles:
        return TlsFiles(
            certificate=Path(self.scaler.certificate),
            key=Path(self.scaler.key),
            client_ca=self.client_ca if asks_clients else None,
        )

    def of_client(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.ca,
            private_key=Path(self.keda.key).read_bytes(),
            certificate_chain=Path(self.keda.certificate).read_bytes(),
        )


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def listen(tls: TlsFiles) -> ListenSettings:
    return ListenSettings(address="127.0.0.1:0", tls=tls)


async def asks(scaler: Scaler, credentials: grpc.ChannelCredentials) -> bool:
    async with keda(scaler, credentials) as client:
        try:
            await client.metric_spec()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True


async def test_tls(certificates: Certificates) -> None:
    settings = listen(certificates.files(asks_clients=False))
    async with serving(Fleet(), settings=settings) as scaler:
        assert await asks(scaler, grpc.ssl_channel_credentials(certificates.ca))


async def test_only_clients_of_the_authority_are_served(certificates: Certificates) -> None:
    settings = listen(certificates.files(asks_clients=True))
    async with serving(Fleet(), settings=settings) as scaler:
        assert await asks(scaler, certificates.of_client())
        assert not await asks(scaler, grpc.ssl_channel_credentials(certificates.ca))


async def test_the_end_ends_streams() -> None:
    async with serving(Fleet()) as scaler, keda(scaler) as client:
        stream = client.stream()
        reading = asyncio.create_task(stream.read())
        await client.metric_spec()
        await scaler.server.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await reading


async def test_an_address_that_is_taken_is_a_setting_that_is_wrong() -> None:
    async with serving(Fleet()) as scaler:
        settings = ListenSettings(address=f"127.0.0.1:{scaler.port}")
        with pytest.raises(ConfigError, match="cannot listen on 127"):
            async with serving(Fleet(), settings=settings):
                pass


async def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    files = TlsFiles(certificate=tmp_path / "a", key=tmp_path / "b")
    with pytest.raises(ConfigError, match=r"--tls-key: .* cannot be read"):
        async with serving(Fleet(), settings=listen(files)):
            pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("9090", "HOST:PORT is wanted"),
        ("127.0.0.1:http", "HOST:PORT is wanted"),
        ("127.0.0.1:70000", "HOST:PORT is wanted"),
        ("0.0.0.0:9090", "other machines could ask without a certificate"),
        ("[::]:9090", "other machines could ask without a certificate"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ListenSettings(address=address)


def test_other_machines_ask_where_that_is_meant_or_certificates_are_asked_for() -> None:
    ListenSettings(address="0.0.0.0:9090", allow_open=True)
    files = TlsFiles(certificate=Path("a"), key=Path("b"), client_ca=Path("c"))
    ListenSettings(address="0.0.0.0:9090", tls=files)
    with pytest.raises(ConfigError):
        ListenSettings(address="0.0.0.0:9090", tls=TlsFiles(certificate=Path("a"), key=Path("b")))
    ListenSettings(address="[::1]:9090")
