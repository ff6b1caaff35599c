"""Reading a YAML file as people mean it: duplicate keys are an error, `off` is a word.

PyYAML follows YAML 1.1, where `mode: off` is `mode: false` and `1e-3` is a string; here the scalars
are those of YAML 1.2's core schema.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shoal.errors import ConfigError

from .small_file import read_bytes


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", "~nN"),
):
    # The first characters that a pattern is tried for; "" is the empty scalar.
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), [*_first, ""]
    )


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.startswith("0x") else int(text)  # 010 is ten, not eight


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_yaml(path: Path) -> Any:
    """The content of a file with one document. Raises ConfigError with the place of a mistake."""
    with _told(path):
        return yaml.load(read_bytes(path), _Loader)  # a SafeLoader: no objects


def read_yaml_documents(path: Path) -> list[Any]:
    """The documents of a file, empty ones left out. Raises ConfigError with the place."""
    with _told(path):
        documents = yaml.load_all(read_bytes(path), _Loader)  # a SafeLoader: no objects
        return [document for document in documents if document is not None]


def parse_yaml(text: str, where: str) -> Any:
    """One document out of a string. Raises ConfigError with `where` and the place of a mistake."""
    with _told(where):
        return yaml.load(text, _Loader)  # a SafeLoader: no objects


@contextlib.contextmanager
def _told(path: Path | str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{place}: {error.problem or 'not YAML'}") from None
    except ConfigError:
        raise
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
