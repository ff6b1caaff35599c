"""Result files to results: ours, and those of `vllm bench serve`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shoal.benchmarks.result import CompareResult, Result, RunResult, decode
from shoal.errors import ConfigError

from . import vllm_bench

ACCEPTED = (
    "accepted are the JSON that shoal bench writes and the JSON that vllm bench serve writes with"
    " --save-result or --append-result"
)


def load_result(path: Path) -> Result:
    """The one result in a file. Raises ConfigError for none, several, or anything else."""
    found = _read_file(path)
    if len(found) != 1:
        raise ConfigError(f"{path} holds {len(found)} results where one is expected")
    _name(_with_stems(found, path))
    return found[0]


def load_results(paths: Sequence[Path]) -> list[Result]:
    """The results in all files, in order; a file that was appended to holds several.

    A run without a name is called like its file; runs of one name are told apart by their files,
    then by numbers. Raises ConfigError naming the file that cannot be read.
    """
    results: list[Result] = []
    named: list[tuple[RunResult, str]] = []
    for path in paths:
        found = _read_file(path)
        results += found
        named += _with_stems(found, path)
    _name(named)
    return results


def runs_of(results: Sequence[Result]) -> list[RunResult]:
    """Every run, those of comparisons included."""
    runs: list[RunResult] = []
    for result in results:
        runs += [result.a, result.b] if isinstance(result, CompareResult) else [result]
    return runs


def _with_stems(results: Sequence[Result], path: Path) -> list[tuple[RunResult, str]]:
    """Every run with what it is called when it has no name of its own."""
    pairs: list[tuple[RunResult, str]] = []
    for result in results:
        if isinstance(result, CompareResult):
            pairs += [(result.a, f"{path.stem} A"), (result.b, f"{path.stem} B")]
        else:
            pairs.append((result, path.stem))
    return pairs


def _name(named: Sequence[tuple[RunResult, str]]) -> None:
    """Give every run a name of its own."""
    for run, stem in named:
        run.name = run.name.strip() or stem
    names = Counter(run.name for run, _ in named)
    for run, stem in named:
        if names[run.name] > 1 and run.name != stem:
            run.name = f"{run.name} ({stem})"
    taken: Counter[str] = Counter()
    for run, _ in named:
        taken[run.name] += 1
        if taken[run.name] > 1:
            run.name = f"{run.name} #{taken[run.name]}"


def _read_file(path: Path) -> list[Result]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return [_read_value(json.loads(content), content, source=str(path))]
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not JSON but binary; {ACCEPTED}") from None
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":  # else one value is followed by another: a line each
            raise ConfigError(f"{path} is not JSON ({error}); {ACCEPTED}") from None
    return _read_lines(content, path)


def _read_lines(content: bytes, path: Path) -> list[Result]:
    """One JSON value a line, as `--append-result` writes them."""
    results: list[Result] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        source = f"{path}, line {number}"
        try:
            results.append(_read_value(json.loads(line), line, source=source))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{source}: not JSON ({error}); {ACCEPTED}") from None
    return results


def _read_value(value: object, content: bytes, *, source: str) -> Result:
    if isinstance(value, dict) and isinstance(value.get("schema"), str):
        return decode(content, source=source)
    if isinstance(value, dict) and vllm_bench.looks_like(value):
        return vllm_bench.read(value, source=source)
    raise ConfigError(f"{source} is not a benchmark result; {ACCEPTED}")
