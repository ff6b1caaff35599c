"""Triton's interpreter with loops whose bounds are computed in the kernel.

It keeps a scalar as an array of one entry and asks numpy for its int, which numpy 2.4 refuses.
"""

from __future__ import annotations

from triton.runtime import interpreter

_patch_tensor = interpreter._patch_lang_tensor


def _patch(tensor, scope):
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def install() -> None:
    """Have every kernel that is interpreted from now on take such bounds."""
    interpreter._patch_lang_tensor = _patch
