"""`shoal up` whose workers do not heed SIGTERM, and have all the time to: `stubborn_up.py up ...`.

`stubborn_up.py worker PIPE PARENT_PID` is such a worker; it has no model.
"""

from __future__ import annotations

import functools
import os
import signal
import sys


def command() -> None:
    from shoal.autoscaler.local.lifecycle import Timing
    from shoal.cli import main, up_run

    worker_command = (sys.executable, __file__, "worker")
    up_run.Timing = functools.partial(Timing, grace_s=1000.0)  # type: ignore[attr-defined]
    up_run.run_up = functools.partial(up_run.run_up, worker_command=worker_command)
    main()


def worker(pipe: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    os.write(pipe, b'{"port": 9}')
    os.close(pipe)
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(int(sys.argv[2]))
    else:
        command()
