"""`shoal autoscale keda`: an external scaler, for those who keep KEDA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from shoal.errors import ConfigError

from ..options import (
    NETWORK,
    OPERATIONS,
    POLICIES,
    AutoscalerAdminHost,
    AutoscalerAdminKeyFile,
    AutoscalerAdminPort,
    LogFormat,
    LogLevel,
    RouterUrl,
)


def keda(
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Policies that ScaledObjects name.",
            show_default="none: ScaledObjects bring theirs",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    router_url: RouterUrl = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where KEDA finds it (gRPC); port 0 takes a free one.",
            rich_help_panel=NETWORK,
        ),
    ] = "127.0.0.1:9090",
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate chain, PEM.", rich_help_panel=NETWORK),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its private key, PEM.", rich_help_panel=NETWORK),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only clients with a certificate of this authority may ask.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    allow_open: Annotated[
        bool,
        typer.Option(
            "--allow-open",
            help="Other machines may ask without a certificate.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    decision_log_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Write decisions there, a file for each session.",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    admin_host: AutoscalerAdminHost = "127.0.0.1",
    admin_port: AutoscalerAdminPort = 8082,
    admin_key_file: AutoscalerAdminKeyFile = None,
    log_format: LogFormat = "console",
    log_level: LogLevel = "info",
) -> None:
    """Tell KEDA how many replicas there should be (external and external-push scaler).

    [bold]Example[/bold]

    shoal autoscale keda --file policies.yaml --listen 0.0.0.0:9090 --tls-cert tls.crt
    --tls-key tls.key --tls-client-ca ca.crt
    """
    from shoal.autoscaler.keda.run import KedaSettings, load_policies, run
    from shoal.autoscaler.keda.server import ListenSettings, TlsFiles
    from shoal.log import configure_logging
    from shoal.settings.key_file import read_keys

    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise ConfigError("--tls-cert and --tls-key go together, and --tls-client-ca needs them")
    tls = None
    if tls_cert is not None and tls_key is not None:
        tls = TlsFiles(certificate=tls_cert, key=tls_key, client_ca=tls_client_ca)
    settings = KedaSettings(
        policies=load_policies(file, router_url),
        router_url=router_url,
        listen=ListenSettings(address=listen, tls=tls, allow_open=allow_open),
        decision_log_dir=decision_log_dir,
        admin_host=admin_host,
        admin_port=admin_port,
        admin_keys=read_keys(admin_key_file, "--admin-key-file"),
    )
    configure_logging(log_format, level=log_level)
    run(
        settings,
        os.environ,
        on_ready=lambda port, admin: typer.echo(f"gRPC on port {port}, admin API on port {admin}."),
    )
