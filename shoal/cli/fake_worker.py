"""`shoal fake-worker`: an OpenAI-compatible server without a model."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from shoal.errors import ConfigError

from .announcement import base_url
from .options import NETWORK, Port

COSTS = "Costs"
BOUNDS = "Bounds"
FAULTS = "Faults"


def fake_worker(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.", rich_help_panel=NETWORK)
    ] = "127.0.0.1",
    port: Port = 8001,
    served_model_name: Annotated[
        str,
        typer.Option(metavar="NAME", help="The name clients ask for.", rich_help_panel=NETWORK),
    ] = "fake",
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            envvar="SHOAL_API_KEY",
            help="Key that clients must send.",
            show_default="open to everybody",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    kv_events_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="Publish KV cache events here, e.g. tcp://127.0.0.1:5557.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    kv_events_replay_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="Answer requests for missed events here.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    ttft: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="To the first token.", rich_help_panel=COSTS),
    ] = 0.1,
    itl: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="From token to token.", rich_help_panel=COSTS),
    ] = 0.02,
    itl_per_seq: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Added for each running sequence.", rich_help_panel=COSTS
        ),
    ] = 0.0,
    prefill_tokens_per_s: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Uncached prompt tokens, all requests together; prompts queue for it.",
            show_default="no limit",
            rich_help_panel=COSTS,
        ),
    ] = None,
    max_num_seqs: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Run at once.", rich_help_panel=BOUNDS),
    ] = 256,
    max_num_waiting: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Wait at most; then 429.", rich_help_panel=BOUNDS),
    ] = 1024,
    max_model_len: Annotated[
        int,
        typer.Option(metavar="TOKENS", min=2, help="Prompt and answer.", rich_help_panel=BOUNDS),
    ] = 32_768,
    block_size: Annotated[
        int,
        typer.Option(metavar="TOKENS", min=1, help="Of a KV block.", rich_help_panel=BOUNDS),
    ] = 16,
    num_gpu_blocks: Annotated[
        int,
        typer.Option(
            metavar="N", min=2, help="KV blocks: the size of the cache.", rich_help_panel=BOUNDS
        ),
    ] = 65_536,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:PROBABILITY[:AFTER_TOKENS]]",
            help="error, overload, abort, hang, cut, stall or wrong-length; may be given several"
            " times. POST /faults changes them.",
            show_default=False,
            rich_help_panel=FAULTS,
        ),
    ] = None,
    startup_delay_s: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="Not ready for so long.", rich_help_panel=FAULTS
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of words and faults.", rich_help_panel=FAULTS)
    ] = 0,
) -> None:
    """Pretend to be a worker: routes, metrics, prefix cache and KV events of one, without a model.

    For tests of clients, routers and autoscalers, by the hundred on one machine.
    """
    from shoal.benchmarks.fake_worker.cost_model import CostModel
    from shoal.benchmarks.fake_worker.engine import FakeEngineConfig
    from shoal.benchmarks.fake_worker.faults import parse_fault
    from shoal.benchmarks.fake_worker.server import serve
    from shoal.benchmarks.fake_worker.settings import FakeWorkerSettings

    settings = FakeWorkerSettings(
        model=served_model_name,
        engine=FakeEngineConfig(
            cost=CostModel(
                ttft_s=ttft,
                itl_s=itl,
                itl_per_seq_s=itl_per_seq,
                prefill_tokens_per_s=prefill_tokens_per_s,
            ),
            max_num_seqs=max_num_seqs,
            max_num_waiting=max_num_waiting,
            max_model_len=max_model_len,
            block_size=block_size,
            num_blocks=num_gpu_blocks,
            seed=seed,
        ),
        faults=tuple(parse_fault(text) for text in fault or ()),
        startup_delay_s=startup_delay_s,
        api_keys=tuple(key for text in api_key or () for key in text.split()),
        kv_events_endpoint=kv_events_endpoint,
        kv_events_replay_endpoint=kv_events_replay_endpoint,
    )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}") from None
    with listener:
        url = base_url(host, listener.getsockname()[1])
        typer.echo(f"Serving {served_model_name} on {url}/v1")
        serve(settings, listener)
