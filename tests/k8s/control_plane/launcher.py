"""Starts etcd, kube-apiserver, controller manager and scheduler on free ports of the loopback.

`ControlPlane` owns them: all of them die with this process, and `stop` ends them in order. Each
writes a log of its own into the run's folder.
"""

from __future__ import annotations

import functools
import os
import secrets
import signal
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shoal.die_with_parent import die_with
from tests.ports import free_port
from tests.router.access.certificates import Authority

READY_WITHIN_S = 90.0
"""To /readyz; 7 s on two free cores."""
STOP_WITHIN_S = 10.0
ACCOUNT_KEY = "service-accounts.key"
CONTROLLERS = (
    "deployment", "replicaset", "statefulset", "garbagecollector", "horizontalpodautoscaling",
    "disruption", "namespace", "endpoint", "endpointslice", "podgc",
)  # fmt: skip
"""Those whose work the tests look at. No node lifecycle: fake nodes need not renew anything."""


class NotReady(Exception):
    """A part ended or did not answer in time; the message has the end of its log."""


class Part:
    """One process of the control plane, which can be started again."""

    def __init__(self, name: str, argv: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs"
        with self.log.open("ab") as log:
            # Called from the main thread alone: a child dies with the thread that made it.
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env={"PATH": os.environ["PATH"], "HOME": str(self.log.parent)},
                preexec_fn=functools.partial(die_with, os.getpid()),
            )

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Gone when this returns; again does no harm."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_WITHIN_S)
        self._process = None

    def last_words(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.name}, end of {self.log}\n" + "\n".join(text.splitlines()[-15:])


class ControlPlane:
    """A whole control plane in `folder`, with the binaries of `bin_folder`."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self.folder = folder
        self.url = f"https://127.0.0.1:{free_port()}"
        self.admin_token = secrets.token_urlsafe(24)
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder, "authority")
        self._ca = authority.ca
        self._server = authority.issue("kube-apiserver")
        _write_account_key(folder / ACCOUNT_KEY)
        self.tls = ssl.create_default_context(cafile=self._ca)
        tokens = folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f"{self.admin_token},admin,admin,system:masters\n", encoding="ascii")
        self.kubeconfig = self.write_kubeconfig("admin", self.admin_token)
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self.etcd = self._part("etcd", bin_folder, self._etcd_flags())
        self.apiserver = self._part("kube-apiserver", bin_folder, self._apiserver_flags())
        self._controllers = [
            self._part(name, bin_folder, self._controller_flags(name))
            for name in ("kube-controller-manager", "kube-scheduler")
        ]

    @property
    def parts(self) -> list[Part]:
        return [self.etcd, self.apiserver, *self._controllers]

    def start(self) -> None:
        """Returns when the API answers; the controllers begin meanwhile. Raises NotReady."""
        self.etcd.start()
        self.apiserver.start()
        self.wait_ready()
        for part in self._controllers:
            part.start()

    def wait_ready(self) -> None:
        """Until the API server says that it is; raises NotReady."""
        deadline = time.monotonic() + READY_WITHIN_S
        headers = {"authorization": f"Bearer {self.admin_token}"}
        with httpx.Client(verify=self.tls, headers=headers, trust_env=False, timeout=5) as client:
            while True:
                try:
                    if client.get(f"{self.url}/readyz").status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                ended = [part.name for part in (self.etcd, self.apiserver) if part.has_ended]
                if ended or time.monotonic() > deadline:
                    why = f"{ended} ended" if ended else f"not ready after {READY_WITHIN_S:g} s"
                    words = "\n".join(part.last_words() for part in self.parts)
                    raise NotReady(f"the control plane: {why}\n{words}")
                time.sleep(0.05)

    def restart_apiserver(self) -> None:
        """Killed, as a crash would, and there again when this returns; etcd keeps what it knew."""
        self.apiserver.stop(signal.SIGKILL)
        self.apiserver.start()
        self.wait_ready()

    def stop(self) -> None:
        """Again does no harm."""
        for part in reversed(self.parts):
            # The API server waits a minute for its watches when it is asked kindly.
            part.stop(signal.SIGKILL if part is self.apiserver else signal.SIGTERM)

    def write_kubeconfig(self, user: str, token: str, namespace: str = "default") -> Path:
        """A kubeconfig of this cluster for `user`, who is at home in `namespace`."""
        path = self.folder / f"{namespace}-{user}.kubeconfig"
        context = {"cluster": "test", "user": user, "namespace": namespace}
        cluster = {"server": self.url, "certificate-authority": self._ca}
        path.touch(mode=0o600)
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": user, "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": context}],
                    "current-context": "test",
                }
            ),
            encoding="utf-8",
        )
        return path

    def _part(self, name: str, bin_folder: Path, flags: dict[str, str]) -> Part:
        argv = [str(bin_folder / name), *(f"--{flag}={value}" for flag, value in flags.items())]
        return Part(name, argv, self.folder)

    def _etcd_flags(self) -> dict[str, str]:
        peer = f"http://127.0.0.1:{free_port()}"
        return {
            "data-dir": str(self.folder / "etcd"),
            "unsafe-no-fsync": "true",  # nothing here outlives the machine
            "log-level": "error",
            "listen-client-urls": self._etcd_url,
            "advertise-client-urls": self._etcd_url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }

    def _apiserver_flags(self) -> dict[str, str]:
        key = str(self.folder / ACCOUNT_KEY)
        return {
            "etcd-servers": self._etcd_url,
            # A test compacts by hand; on its own it would do so in the middle of another.
            "etcd-compaction-interval": "0",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self.url.rsplit(":", 1)[1],
            "insecure-port": "0",
            "cert-dir": str(self.folder / "apiserver"),
            "tls-cert-file": self._server.certificate,
            "tls-private-key-file": self._server.key,
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": key,
            "service-account-key-file": key,
            "service-cluster-ip-range": "10.0.0.0/24",
            # Pods need no account of their own, and fake nodes no controller that clears a taint.
            "disable-admission-plugins": "ServiceAccount,TaintNodesByCondition",
            "endpoint-reconciler-type": "none",
        }

    def _controller_flags(self, name: str) -> dict[str, str]:
        flags = {
            "kubeconfig": str(self.kubeconfig),
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "secure-port": str(free_port()),
            "port": "0",
            "cert-dir": str(self.folder / name),
        }
        if name == "kube-controller-manager":
            flags |= {
                "controllers": ",".join(CONTROLLERS),
                "horizontal-pod-autoscaler-sync-period": "2s",
                "horizontal-pod-autoscaler-downscale-stabilization": "10s",
                # As fast as they can: a test waits for each of their steps.
                "kube-api-qps": "200",
                "kube-api-burst": "400",
            }
        else:
            flags["address"] = "127.0.0.1"
        return flags


def _write_account_key(path: Path) -> None:
    """The key that signs tokens of service accounts; 1.20 takes RSA with the fewest questions."""
    path.touch(mode=0o600)
    path.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
