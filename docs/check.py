"""Checks the documentation: links resolve, and every command line option is documented.

Run by `make docs`. A link to a heading (`page.md#section`) must name a heading of that page.
Links to other sites are not followed: no network in checks.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from shoal.cli import app

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "command-line.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def pages() -> list[Path]:
    """Markdown files that git knows, or would if they were added."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [page for name in listing.stdout.splitlines() if (page := ROOT / name).exists()]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{page.relative_to(ROOT)}: no file for the link {link}"
        elif anchor and anchor not in anchors(target):
            yield f"{page.relative_to(ROOT)}: no heading for the link {link}"


def options(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """(command, option) of the whole tree below a click command, hidden ones left out.

    Untyped because typer carries a click of its own, under a private name.
    """
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            yield path, max(parameter.opts, key=len)
    for name, child in getattr(command, "commands", {}).items():
        yield from options(child, f"{path} {name}")


def undocumented(reference: str) -> Iterator[str]:
    """Options that the section `## shoal COMMAND` of the reference does not mention."""
    sections = dict(re.findall(r"^## `?(shoal[^`\n]*)`?\n(.*?)(?=^## |\Z)", reference, re.M | re.S))
    for command, option in options(typer.main.get_command(app), "shoal"):
        if f"`{option}" not in sections.get(command, ""):
            yield f"{REFERENCE.relative_to(ROOT)}: `{command}` has {option}, which is not described"


def main() -> int:
    problems = [problem for page in pages() for problem in broken_links(page)]
    problems += undocumented(REFERENCE.read_text(encoding="utf-8"))
    for problem in problems:
        print(problem)
    print(f"{len(pages())} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
