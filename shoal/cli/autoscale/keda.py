"""`shoal autoscale keda`: an external scaler, for those who keep KEDA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from shoal.errors import ConfigError

POLICIES = "Policies"
NETWORK = "Network and access"
OPERATIONS = "Operations"


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
    router_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Admin API of the router, for policies that name none; key: $SHOAL_ROUTER_KEY.",
            rich_help_panel=POLICIES,
        ),
    ] = None,
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
    admin_host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of /health, /ready, /metrics and the admin API; other machines reach the "
            "admin API with a key alone.",
            rich_help_panel=OPERATIONS,
        ),
    ] = "127.0.0.1",
    admin_port: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=65535, help="0 takes a free one.", rich_help_panel=OPERATIONS
        ),
    ] = 8082,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with one key a line that opens the admin API.",
            show_default="open to this machine",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    log_format: Annotated[
        Literal["console", "json"],
        typer.Option(help="json: one object a line.", rich_help_panel=OPERATIONS),
    ] = "console",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(rich_help_panel=OPERATIONS)
    ] = "info",
) -> None:
    """Tell KEDA how many replicas there should be (external and external-push scaler).

    [bold]Example[/bold]

    shoal autoscale keda --file policies.yaml --listen 0.0.0.0:9090 --tls-cert tls.crt
    --tls-key tls.key --tls-client-ca ca.crt
    """
    from shoal.admin.auth import read_keys
    from shoal.autoscaler.keda.run import KedaSettings, load_policies, run
    from shoal.autoscaler.keda.server import ListenSettings, TlsFiles
    from shoal.log import configure_logging

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
