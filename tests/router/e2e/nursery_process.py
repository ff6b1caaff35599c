"""Starts `shoal` commands as processes of their own, by forking: imports are paid for once.

Arguments: who started it, and names of more modules to import beforehand.

A line of JSON on stdin, `{"argv": ["fake-worker", ...], "log": PATH}`, starts one, and its process
id is the answer. Output goes to the log; the status at its end into a file beside it. All of them
die with this process, and this one ends with its stdin.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from shoal.die_with_parent import die_with

PRELOADED = (
    "shoal.cli",
    "shoal.benchmarks.fake_worker.server",
    "shoal.router.control.admin_server",
    "shoal.router.control.run",
)
logs: dict[int, str] = {}


def main() -> None:
    die_with(int(sys.argv[1]))
    for name in (*PRELOADED, *sys.argv[2:]):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    for line in sys.stdin:
        order = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            become(order["argv"], order["log"])
        logs[pid] = order["log"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)


def reap() -> None:
    while logs:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        Path(f"{logs.pop(pid)}.status").write_text(str(code), encoding="ascii")


def become(argv: list[str], log: str) -> None:
    """The rest of a child's life."""
    status = 1
    try:
        die_with(os.getppid())
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((null, 0), (fd, 1), (fd, 2)):
            os.dup2(old, new)
        sys.argv = ["shoal", *argv]
        importlib.import_module("shoal.cli").main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
