"""Sections of RESULTS.md: each command writes its own and keeps the others'."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.results_file import with_section, write_section


def test_a_command_replaces_its_own_section_and_keeps_the_others() -> None:
    page = with_section("", "make a", "# A\n\none\n")
    page = with_section(page, "make b", "# B\n\ntwo\n")
    page = with_section(page, "make a", "# A\n\nthree\n")
    assert page == (
        "<!-- begin: make a -->\n# A\n\nthree\n<!-- end: make a -->\n\n"
        "<!-- begin: make b -->\n# B\n\ntwo\n<!-- end: make b -->\n"
    )


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out" / "RESULTS.md"
    write_section(path, "make a", "# A")
    first = path.read_text()
    write_section(path, "make a", "# A")
    assert path.read_text() == first
    assert [file.name for file in path.parent.iterdir()] == ["RESULTS.md"]


def test_text_outside_of_sections_stays() -> None:
    page = with_section("By hand.\n", "make a", "# A")
    assert page.startswith("By hand.\n\n<!-- begin: make a -->")


def test_a_section_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="make a"):
        with_section("<!-- begin: make a -->\n# A\n", "make a", "# A")
