"""`shoal autoscale`: one file per command, heavy imports inside the commands."""

from __future__ import annotations

import typer

from . import keda, replay, run, schema, simulate

app = typer.Typer(no_args_is_help=True, help="How many replicas there should be.")
app.command("keda")(keda.keda)
app.command("replay")(replay.replay)
app.command("run")(run.run)
app.command("schema")(schema.schema)
app.command("simulate")(simulate.simulate)


@app.callback()
def group() -> None:
    """How many replicas there should be: on Kubernetes, for KEDA, or in simulation."""
