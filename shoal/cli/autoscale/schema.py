"""`shoal autoscale schema`: what a policy file may say."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON schema of policy files, for editors."""
    from shoal.autoscaler.settings.schema import schema_text

    typer.echo(schema_text(), nl=False)
