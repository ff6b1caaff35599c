from __future__ import annotations

import pytest

from shoal.metrics_page import has_family, samples_of, values_of

PAGE = b"""\
first 1
# HELP t Seconds.
# TYPE t histogram
t_bucket{model="a",le="1.0"} 2
t_bucket{model="a",le="+Inf"} 3
t_sum{model="a"} 4.5
t_bucket{model="b }",le="1.0"} 7
t_bucket{model="b }",le="+Inf"} nonsense
t_sum{model="b }"} 8
# TYPE empty_total counter
not_t_bucket{le="1.0"} 9
t_bucket_more 10
last 11"""


def test_all_label_sets_of_a_histogram_are_found() -> None:
    found = [(s.labels["model"], s.labels["le"], s.value) for s in samples_of(PAGE, "t_bucket")]
    assert found == [("a", "1.0", 2.0), ("a", "+Inf", 3.0), ("b }", "1.0", 7.0)]


@pytest.mark.parametrize(("name", "value"), [("first", 1.0), ("last", 11.0), ("t_bucket_more", 10)])
def test_a_sample_without_labels_anywhere(name: str, value: float) -> None:
    assert [s.value for s in samples_of(PAGE, name)] == [value]
    assert values_of(PAGE, name.encode()) == [value]


def test_only_those_with_the_labels() -> None:
    page = b'a{m="x",xm="y"} 1\na{m="y",n="m=\\"x\\""} 2\na{m="q\\"\\\\\\n"} 3\na 4\n'
    assert [s.value for s in samples_of(page, "a", m="x")] == [1.0]
    assert [s.value for s in samples_of(page, "a", m="y")] == [2.0]
    assert [s.value for s in samples_of(page, "a", m='q"\\\n')] == [3.0]
    assert len(samples_of(page, "a")) == 4


def test_what_is_not_there() -> None:
    assert samples_of(PAGE, "t_buck") == []
    assert samples_of(b"", "t") == []


@pytest.mark.parametrize(
    ("name", "known"), [("t", True), ("empty_total", True), ("first", True), ("empty", False)]
)
def test_a_family_without_a_value_is_known(name: str, known: bool) -> None:
    assert has_family(PAGE, name) is known
