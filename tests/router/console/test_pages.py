"""The files of the console: complete, small, and under a policy that lets nothing else in."""

from __future__ import annotations

import re

import pytest

from shoal.router.console.pages import FOLDER, HEADERS, ROOT, load_pages

PAGES = load_pages()
MAX_BYTES = 60_000


def test_all_of_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < MAX_BYTES
    assert {file.suffix for file in FOLDER.iterdir()} == {".html", ".css", ".js", ".svg"}
    assert PAGES[ROOT] is PAGES[f"{ROOT}index.html"]


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_everything_comes_from_here_and_nothing_is_inline(file: object) -> None:
    text = FOLDER.joinpath(getattr(file, "name")).read_text(encoding="utf-8")  # noqa: B009
    addresses = set(re.findall(r"https?://[^\s\"'`)<]+", text))
    # A name space, an example in a text, and an ellipsis for what people fill in.
    assert addresses <= {"http://www.w3.org/2000/svg", "http://127.0.0.1:8000", "http://…}"}
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in text
    assert not re.search(r"<script(?![^>]*src=)|<[^>]+\son\w+=|<[^>]+\sstyle=", text)


def test_every_module_and_file_that_is_named_is_there() -> None:
    names = {file.name for file in FOLDER.iterdir()}
    named: set[str] = {"index.html"}
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        named |= set(re.findall(r'from "\./([\w.]+)"', text))
        named |= set(re.findall(r'(?:href|src)="([\w.]+)"', text))
    assert named == names


def test_the_policy() -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_both_schemes() -> None:
    css = (FOLDER / "base.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        for name in scheme.keys() - {"ground", "faint", "line"}:
            for behind in ("ground", "faint"):
                bright, dim = sorted(
                    (luminance(scheme[name]), luminance(scheme[behind])), reverse=True
                )
                assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, behind)
