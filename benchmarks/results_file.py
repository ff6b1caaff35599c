"""RESULTS.md: one section a command, each kept between two comments that name the command.

A command writes its own section and leaves the others as they are.
"""

from __future__ import annotations

from pathlib import Path


def with_section(page: str, command: str, section: str) -> str:
    """The page with the section of `command` replaced; at its end, if there was none. Pure."""
    begin, end = _marks(command)
    marked = f"{begin}\n{section.strip()}\n{end}"
    before, found, rest = page.partition(begin)
    if not found:
        return f"{page.strip()}\n\n{marked}\n".lstrip()
    _, closed, after = rest.partition(end)
    if not closed:
        raise ValueError(f"the section of {command} has a beginning and no end ({end})")
    return f"{before}{marked}{after}"


def write_section(path: Path, command: str, section: str) -> None:
    """Put a section into the file, which is made if need be; readers never see half a file."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(with_section(page, command, section), encoding="utf-8")
    partial.replace(path)


def _marks(command: str) -> tuple[str, str]:
    return f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
