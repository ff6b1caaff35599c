"""The data-plane processes: one a slot, started again when they crash, replaced without loss.

What a data-plane program must do (`python -m shoal.router.proxy`, or a test's stand-in):

    python -m shoal.router.proxy --link FD --listen FD [--listen FD ...] --process N --parent PID
                                 [--log-format console|json] [--log-level LEVEL]

- `--link`: a stream socket to the state process; `shoal.frames` framing, `router.messages` inside,
  msgpack. `--listen`: a bound, listening, non-blocking TCP socket; usually one, and more after a
  takeover by a router with fewer processes: accept on all of them. All are inherited descriptors.
- `--process N`: its number, unique among all processes this router ever starts (a replacement has
  another one than the process it replaces, and both live for a while). Put it in each `PeerDelta`.
- `--parent PID`: call `router.die_with_parent.die_with(PID)` first.
- It hears, in this order: `Configure`, `FleetUpdate`, then `KVBlocks` of each indexed endpoint and
  one `PeerDelta` of each sibling, and from then on changes as they come. When it has the first
  two and has begun to accept, it says `Ready(process=N)`; within `READY_TIMEOUT_S`, or it is
  killed and started again.
- A later `Configure` replaces the earlier one (TLS files are read again; the log files opened
  again). A `PeerDelta` of a process that has ended has a zero for all that it had.
- `Drain(timeout_s)`: accept what is queued now, then close the listening sockets (they stay open
  in the state process, where the successor gets them), end idle connections, let requests finish
  and their connections end after them, then exit 0; at the latest after `timeout_s`. It goes on
  sending `PeerDelta`s meanwhile, and goes on getting `FleetUpdate`s. A second `Drain` may set an
  earlier end. Its last message is `Report(number=0, body=...)` with its metrics, so that what it
  counted is not lost.
- The link at its end (EOF): exit at once. SIGINT and SIGHUP are the state process's business:
  ignore them. SIGTERM means the same as `Drain` with the configured timeout.
- `Ask(number, what, limit)`: a `Report` of that number, at once. Each second it is asked "ping":
  one that answers nothing for `STALLED_S`, or does not read its link, is killed and replaced.
"""

from __future__ import annotations

READY_TIMEOUT_S = 20.0
STALLED_S = 10.0
