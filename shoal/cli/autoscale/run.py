"""`shoal autoscale run`: the controller on Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import (
    OPERATIONS,
    POLICIES,
    AutoscalerAdminHost,
    AutoscalerAdminKeyFile,
    AutoscalerAdminPort,
    LogFormat,
    LogLevel,
    RouterUrl,
)

CLUSTER = "Cluster"


def run(
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Namespace whose policies are carried out; may be given several times.",
            show_default="all namespaces",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read the policies here instead: the cluster needs no definition of them.",
            rich_help_panel=POLICIES,
        ),
    ] = None,
    router_url: RouterUrl = None,
    drain_timeout_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            max=86400,
            help="Longest wait for the requests of a pod before it is given up.",
            rich_help_panel=POLICIES,
        ),
    ] = 120.0,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Access to the cluster.",
            show_default="that of the pod it runs in",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    leader_elect: Annotated[
        bool,
        typer.Option(
            help="Of several replicas one scales; without, there may be one only.",
            rich_help_panel=CLUSTER,
        ),
    ] = True,
    lease_name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of the lease; another for each set of policies.",
            rich_help_panel=CLUSTER,
        ),
    ] = "shoal-autoscaler",
    lease_namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the lease is.",
            show_default="where it runs",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    admin_host: AutoscalerAdminHost = "127.0.0.1",
    admin_port: AutoscalerAdminPort = 8082,
    admin_key_file: AutoscalerAdminKeyFile = None,
    decision_log_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Write every decision to NAMESPACE.NAME.jsonl in it: for shoal autoscale replay.",
            show_default="none",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    log_format: LogFormat = "console",
    log_level: LogLevel = "info",
) -> None:
    """Scale models on Kubernetes by their ScalingPolicies.

    Ctrl-C or SIGTERM ends it; another replica takes over.

    [bold]Examples[/bold]

    shoal autoscale run --kubeconfig ~/.kube/config --namespace llm

    shoal autoscale run --file policies.yaml --router-url http://router:8081
    """
    from shoal.autoscaler.kubernetes import run as process
    from shoal.log import configure_logging
    from shoal.settings.key_file import read_keys

    configure_logging(log_format, level=log_level)
    prepared = process.prepare(
        process.RunSettings(
            namespaces=tuple(namespace or ()),
            file=file,
            leader_elect=leader_elect,
            lease_name=lease_name,
            lease_namespace=lease_namespace,
            kubeconfig=None if kubeconfig is None else str(kubeconfig),
            router_url=router_url,
            drain_timeout_s=drain_timeout_s,
            decision_log_dir=decision_log_dir,
            admin_host=admin_host,
            admin_port=admin_port,
            admin_keys=read_keys(admin_key_file, "--admin-key-file"),
        )
    )
    process.run(prepared, on_ready=lambda port: typer.echo(f"Admin API on port {port}."))
