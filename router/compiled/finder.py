"""Puts compiled modules in the place of their sources, in the process that asks for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from .modules import MODULES, compiled_set


def use_compiled(cache: Path) -> bool:
    """From now on import compiled modules, if `cache` has a set made of these very sources.

    For the start of a process: what has been imported stays as it is.
    """
    folder = compiled_set(cache)
    if not folder.is_dir():
        return False
    sys.path.append(str(folder))  # where the modules find the library they share
    sys.meta_path.insert(0, _Finder(folder))
    return True


class _Finder:
    def __init__(self, folder: Path) -> None:
        self._files = {
            module: folder.joinpath(*module.split(".")).with_suffix(EXTENSION_SUFFIXES[0])
            for module in MODULES
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        loader = ExtensionFileLoader(fullname, str(file))
        return spec_from_file_location(fullname, file, loader=loader)
