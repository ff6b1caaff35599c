"""Launches of a kernel at some microseconds of host time, where Triton's own take tens.

Triton looks at every argument of every launch, to choose among the programs it compiled: one for
each set of dtypes, constants, `None`s, alignments to 16 bytes, and of integers that are 1 or
multiples of 16. `QuickLaunch` makes the same distinctions with less work, lets Triton launch (and
compile) what it has not seen, and hands what it has seen to the driver itself, pointers as plain
integers. CUDA graphs have no host time to save; a short prompt that runs without one is bound by
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from triton import knobs
from triton.runtime import driver
from triton.runtime.jit import JITFunction

Key = tuple[object, ...]


class QuickLaunch:
    """Calls a `@triton.jit` kernel: `quick(grid, *arguments, **constants_and_options)`.

    Arguments are tensors, integers, floats and None, in the kernel's order; then all of its
    `tl.constexpr` parameters by name, and options such as num_warps. All tensors are on the
    current device. In the interpreter the kernel is called as it is.
    """

    def __init__(self, kernel: JITFunction) -> None:
        self._kernel = kernel
        self._programs: dict[Key, tuple[Any, ...]] = {}
        is_compiled = isinstance(kernel, JITFunction)
        self._loose = frozenset(
            param.num for param in (kernel.params if is_compiled else ()) if param.do_not_specialize
        )
        self._is_compiled = is_compiled

    def __call__(self, grid: Sequence[int], *arguments, **constants) -> None:
        if not self._is_compiled or _hooks():
            self._kernel[grid](*arguments, **constants)
            return
        device = driver.active.get_current_device()
        kinds, values = specialization(arguments, self._loose)
        key = (device, *kinds, *constants.values())
        program = self._programs.get(key)
        if program is None:
            compiled = self._kernel[grid](*arguments, **constants)
            names = self._kernel.arg_names[len(arguments) :]
            self._programs[key] = (
                compiled.run,
                compiled.function,
                compiled.packed_metadata,
                tuple(constants[name] for name in names),
            )
            return
        run, function, metadata, tail = program
        stream = driver.active.get_current_stream(device)
        x, y = grid if len(grid) == 2 else (*grid, 1)
        run(x, y, 1, stream, function, metadata, None, None, None, *values, *tail)


def _hooks() -> bool:
    """Whether a profiler wants to be told of launches; Triton tells it."""
    hooks = knobs.runtime
    return bool(hooks.launch_enter_hook.calls or hooks.launch_exit_hook.calls)


def specialization(
    arguments: Sequence[Any], loose: frozenset[int] = frozenset()
) -> tuple[list[object], list[object]]:
    """What Triton compiles for, and the arguments as the driver takes them.

    loose: positions of integers that Triton is told not to look at (`do_not_specialize`).
    """
    key: list[object] = []
    values: list[object] = []
    for position, argument in enumerate(arguments):
        kind = type(argument)
        if argument is None or kind is float:
            key.append(kind)
            values.append(argument)
        elif kind is int:
            width = 0 if -(2**31) <= argument < 2**31 else 32
            if position in loose:
                key.append(width)
            else:
                key.append(width + (1 if argument == 1 else 16 if argument % 16 == 0 else 0))
            values.append(argument)
        else:
            address = argument.data_ptr()
            dtype = argument.dtype
            key.append(dtype if address % 16 == 0 else (dtype,))
            values.append(address)
    return key, values


@cache
def dependent_launch(device: torch.device) -> bool:
    """Whether kernels are launched before the one they wait for has ended (Hopper and later).

    Programmatic dependent launch: the next kernel's blocks are set up while the last one's finish,
    and wait at `gdc_wait`. Some 0.5 us a kernel in a CUDA graph.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
