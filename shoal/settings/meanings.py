"""What fields of structs mean: the string that follows a field in the source, for JSON schemas."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType


def meanings(module: ModuleType) -> dict[str, dict[str, str]]:
    """By struct and field, as Python names them."""
    found: dict[str, dict[str, str]] = {}
    for struct in ast.parse(inspect.getsource(module)).body:
        if not isinstance(struct, ast.ClassDef):
            continue
        for field, text in zip(struct.body, struct.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                meaning = " ".join(str(text.value.value).split())
                found.setdefault(struct.name, {})[field.target.id] = meaning
    return found
