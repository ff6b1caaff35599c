"""The step both schedulers are timed on, and the conversation with the parent process.

256 running decodes (prompts of 100 to 160 tokens, blocks of 16, prefix caching on) that never
finish: each step schedules one token for each and books the token that a runner would return.
Only `schedule` and `update_from_output` are timed, not the making of the runner's output. This
file imports the standard library only: vLLM's side runs it in an environment without Shoal.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from collections.abc import Callable

NUM_SEQS = 256
BLOCK_SIZE = 16
NUM_BLOCKS = 40_000
MAX_MODEL_LEN = 4096
WARM_UP_STEPS = 50
STEPS_PER_ROUND = 250
"""Together with a dozen rounds this stays below `MAX_MODEL_LEN`."""


def prompts() -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(32_000) for _ in range(rng.randint(100, 160))] for _ in range(NUM_SEQS)]


def answer_rounds(step: Callable[[], float], version: str) -> None:
    """Time one round of steps for every line on stdin; write one JSON line for each.

    `step` does one whole step and returns the seconds that count. Garbage collection runs as it
    does in a server: long-lived objects are frozen, the rest is collected as usual.
    """
    for _ in range(WARM_UP_STEPS):
        step()
    gc.collect()
    gc.freeze()
    print(json.dumps({"version": version}), flush=True)
    for _line in sys.stdin:
        microseconds = [step() * 1e6 for _ in range(STEPS_PER_ROUND)]
        print(json.dumps([round(us, 1) for us in microseconds]), flush=True)
