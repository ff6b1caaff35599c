"""`shoal autoscale replay`: a recorded decision log, decided again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.autoscaler.core.spec import ScalingSpec
    from shoal.autoscaler.record.replay import Replayed


def replay(
    log: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            exists=True,
            dir_okay=False,
            help="Decision logs of one model; rotated ones (LOG.1) in any order.",
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Decide under this policy, in place of the one in the log.",
            show_default=False,
        ),
    ] = None,
    all_decisions: Annotated[
        bool, typer.Option("--all", help="Show decisions that do not differ, too.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each, and one for the counts.")
    ] = False,
) -> None:
    """Decide a recorded log again with this version of Shoal, and show what differs.

    Exit status: 0 nothing differs, 1 something does, 2 a file is wrong.
    """
    from shoal.autoscaler.record.replay import Difference, Replay, read_lines

    running = Replay(spec=None if policy is None else _spec(policy))
    counts: Counter[Difference] = Counter()
    show = _show_json if json else _show
    for each in running.run(read_lines(log)):
        counts[each.difference] += 1
        if all_decisions or each.difference is not Difference.NONE:
            show(each)
    if not counts:
        raise ConfigError(f"{log[0]}: no decision in it that can be decided again")
    _summary(counts, running.num_skipped, running.note, json=json)
    if counts.total() > counts[Difference.NONE]:
        raise typer.Exit(1)


def _spec(file: Path) -> ScalingSpec:
    from shoal.autoscaler.settings.load import read_policies

    policies = read_policies(file)
    if len(policies) > 1:
        raise ConfigError(f"{file}: has {len(policies)} policies, and a log is of one model")
    return policies[0].policy.spec


def _show(each: Replayed) -> None:
    from datetime import UTC, datetime

    record, decision = each.record, each.decision
    when = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="seconds")
    then, now = _numbers(record.decision.desired), _numbers(decision.desired)
    numbers = then if then == now else f"{then}, now {now}"
    typer.echo(f"{when} {_numbers(record.before)} -> {numbers}  {each.difference.value}")
    for mark, of, other in (("-", record.decision, decision), ("+", decision, record.decision)):
        for reason in of.reasons:
            if reason not in other.reasons:
                typer.echo(f"  {mark} {reason.variant}: {reason.kind.value}: {reason.detail}")


def _numbers(by_variant: dict[str, int]) -> str:
    if len(by_variant) == 1:
        return str(*by_variant.values())
    return " ".join(f"{name}={number}" for name, number in by_variant.items())


def _show_json(each: Replayed) -> None:
    import msgspec

    line: dict[str, Any] = {
        "time": each.record.time,
        "difference": each.difference.value,
        "before": each.record.before,
        "recorded": each.record.decision,
        "decided": each.decision,
    }
    typer.echo(msgspec.json.encode(line).decode())


def _summary(counts: Counter[Any], num_skipped: int, note: str, *, json: bool) -> None:
    import msgspec

    total = counts.total()
    by_kind = {kind.value: number for kind, number in counts.items() if kind.value != "none"}
    if json:
        line = {"decisions": total, "differences": by_kind, "skipped": num_skipped, "note": note}
        typer.echo(msgspec.json.encode(line).decode())
        return
    told = ", ".join(f"{number} in {kind}" for kind, number in by_kind.items()) or "none differs"
    skipped = f"; {num_skipped} lines skipped" if num_skipped else ""
    typer.echo(f"{total} decisions: {told}{skipped}")
    if note:
        typer.echo(f"Note: {note}", err=True)
