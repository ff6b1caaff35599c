"""Its section of RESULTS.md, made from `results/peers.json` and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .comparison import COMPARED, OURS, OURS_BF16, best_peer, ratios
from .foreign_cpu import DISTURBED_SHARE
from .peers_result import MEMORY, START, Line, PeersResult
from .standard_set import THROUGHPUT_CASES

LONG_PROMPT = "longprompt"
NOTHING = "–"


def results_page(result: PeersResult) -> str:
    """The whole section, Markdown."""
    sections = (
        _head(result),
        _ratio_section(result),
        *(_load_section(result, case) for case in result.cases if case != LONG_PROMPT),
        _long_prompt_section(result),
        _start_section(result),
        _contestant_section(result),
        _notes(result),
    )
    return "\n".join(line for section in sections for line in section)


def _head(result: PeersResult) -> Iterator[str]:
    machine = result.environment
    yield "# Shoal beside other servers"
    yield ""
    yield "Made by `make bench-peers` from [results/peers.json](results/peers.json): do not edit."
    yield "The same weights, the same prompts, one server at a time on the same machine, in turns;"
    yield "every repeat starts every server afresh. Figures are medians over repeats."
    yield ""
    if result.quick:
        yield "**A quick run with smaller loads: for trying out, not for quoting.**"
        yield ""
    if result.interrupted:
        yield "**Interrupted: what follows is what had been measured by then.**"
        yield ""
    yield f"- Date: {result.created}"
    yield (
        f"- Machine: {machine.get('cpu')}, {machine.get('cores')} cores,"
        f" {machine.get('memory_gib')} GiB, GPU: {machine.get('gpu') or 'none'};"
        f" {machine.get('os')}, Python {machine.get('python')}, torch {machine.get('torch')}"
    )
    yield f"- Model: {result.model}"
    yield f"- Shoal: commit {machine.get('commit') or 'unknown'}"
    yield f"- Command: `{machine.get('command')}`; repeats asked for: {result.repeats}"
    yield ""


def _ratio_section(result: PeersResult) -> Iterator[str]:
    yield "## Output tokens per second beside the best peer"
    yield ""
    yield "The best peer of a load is the one with the highest median. The ratio is the median of"
    yield "the ratios of the repeats; above 1 Shoal is faster."
    yield ""
    cases = [case for case in result.cases if case in THROUGHPUT_CASES]
    of_servers = {OURS: result.ratio_to_best_peer, OURS_BF16: result.ratio_to_best_peer_bf16}
    rows = [
        _ratio_row(result, case, server, ratio.get(case))
        for server, ratio in of_servers.items()
        if server in result.contestants
        for case in cases
    ]
    columns = ["load", "server", "tokens/s", "best peer", "its tokens/s", "ratio", "ratios from",
               "repeats"]  # fmt: skip
    yield from table(columns, rows)


def _ratio_row(result: PeersResult, case: str, server: str, ratio: float | None) -> list[str]:
    peer = best_peer(result.medians, case)
    pairs = ratios(result.lines, case, peer, ours=server) if peer else []
    speed = result.medians.get(server, {}).get(case, {}).get(COMPARED)
    theirs = result.medians[peer][case][COMPARED] if peer else None
    low_high = f"{min(pairs):.2f} to {max(pairs):.2f}" if len(pairs) > 1 else NOTHING
    return [
        result.cases[case], server, _number(speed), peer or NOTHING, _number(theirs),
        NOTHING if ratio is None else f"**{ratio:.2f}**", low_high, str(len(pairs)),
    ]  # fmt: skip


def _load_section(result: PeersResult, case: str) -> Iterator[str]:
    yield f"## {result.cases[case]} (`{case}`)"
    yield ""
    rows = []
    for server in result.contestants:
        figures = result.medians.get(server, {}).get(case)
        if figures is None:
            continue
        speeds = [line.figures.get(COMPARED, 0.0) for line in _lines(result, server, case)]
        rows.append([
            server,
            _number(figures.get(COMPARED)),
            f"{min(speeds):.1f} to {max(speeds):.1f}",
            _number(figures.get("total_tokens_per_s")),
            _pair_ms(figures, "ttft_p50_s", "ttft_p99_s"),
            _pair_ms(figures, "itl_p50_s", "itl_p99_s"),
            _counts(result, server, case),
        ])  # fmt: skip
    columns = ["server", "output tokens/s", "from", "total tokens/s", "TTFT p50 / p99 ms",
               "ITL p50 / p99 ms", "repeats (disturbed)"]  # fmt: skip
    yield from table(columns, rows)


def _long_prompt_section(result: PeersResult) -> Iterator[str]:
    if LONG_PROMPT not in result.cases:
        return
    yield f"## {result.cases[LONG_PROMPT]} (`{LONG_PROMPT}`)"
    yield ""
    yield "How long the decodes' tokens wait while the long prompt is worked on. There are few such"
    yield "gaps in a run, so their p99 is near the worst."
    yield ""
    rows = []
    for server in result.contestants:
        figures = result.medians.get(server, {}).get(LONG_PROMPT)
        if figures is not None:
            rows.append([
                server,
                _ms(figures.get("long_ttft_s")),
                _pair_ms(figures, "calm_itl_p50_s", "calm_itl_p99_s"),
                _pair_ms(figures, "during_itl_p50_s", "during_itl_p99_s"),
                _counts(result, server, LONG_PROMPT),
            ])  # fmt: skip
    columns = ["server", "TTFT of the long prompt ms", "ITL p50 / p99 before it ms",
               "ITL p50 / p99 during it ms", "repeats (disturbed)"]  # fmt: skip
    yield from table(columns, rows)


def _start_section(result: PeersResult) -> Iterator[str]:
    yield "## Start and memory"
    yield ""
    yield "Start: from the process to its first good answer. Memory: resident, of all processes of"
    yield "the server; pages that they share count once a process."
    yield ""
    rows = []
    for server in result.contestants:
        start = result.medians.get(server, {}).get(START, {})
        memory = result.medians.get(server, {}).get(MEMORY, {})
        if start or memory:
            rows.append([
                server, _number(start.get("start_s")), _mib(memory.get("after_load_bytes")),
                _mib(memory.get("peak_bytes")), _counts(result, server, START),
            ])  # fmt: skip
    columns = ["server", "start s", "after loading MiB", "peak MiB", "repeats (disturbed)"]
    yield from table(columns, rows)


def _contestant_section(result: PeersResult) -> Iterator[str]:
    yield "## How they ran"
    yield ""
    rows = [[name, who.version, who.settings] for name, who in result.contestants.items()]
    yield from table(["server", "version", "settings"], rows)


def _notes(result: PeersResult) -> Iterator[str]:
    disturbed = [line for line in result.lines if is_disturbed(line)]
    failed = [line for line in result.lines if line.error is not None]
    yield "## Disturbed and failed lines"
    yield ""
    if disturbed:
        yield (
            f"During {len(disturbed)} of {len(result.lines)} lines other processes took more than"
            f" {DISTURBED_SHARE:.0%} of the machine; they count in the medians."
        )
    else:
        yield f"Other processes never took more than {DISTURBED_SHARE:.0%} of the machine."
    yield ""
    rows = [
        [line.server, str(line.repeat + 1), line.case, f"{line.foreign_cpu or 0:.0%}"]
        for line in disturbed
    ]
    yield from table(["server", "repeat", "case", "taken by others"], rows)
    if not failed:
        yield "Nothing failed."
        yield ""
    rows = [
        [line.server, str(line.repeat + 1), line.case, one_line(line.error or "")]
        for line in failed
    ]
    yield from table(["server", "repeat", "case", "why it failed"], rows)


def is_disturbed(line: Line) -> bool:
    return line.foreign_cpu is not None and line.foreign_cpu > DISTURBED_SHARE


def _lines(result: PeersResult, server: str, case: str) -> list[Line]:
    return [
        line
        for line in result.lines
        if (line.server, line.case) == (server, case) and line.error is None
    ]


def _counts(result: PeersResult, server: str, case: str) -> str:
    lines = _lines(result, server, case)
    disturbed = sum(is_disturbed(line) for line in lines)
    return f"{len(lines)} ({disturbed})" if disturbed else str(len(lines))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Nothing at all without rows."""
    if not rows:
        return
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}"


def _ms(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1e3:,.1f}"


def _pair_ms(figures: dict[str, float], first: str, second: str) -> str:
    if first not in figures:
        return NOTHING
    return f"{_ms(figures[first])} / {_ms(figures.get(second))}"


def _mib(num_bytes: float | None) -> str:
    return NOTHING if num_bytes is None else f"{num_bytes / (1 << 20):,.0f}"


def one_line(text: str) -> str:
    """A cell of a table: the last words of a long error say the most."""
    words = " ".join(text.split()).replace("|", r"\|")
    return words if len(words) <= 300 else f"… {words[-300:]}"
