"""A worker without a model, for tests: `worker_program.py PIPE PARENT_PID`, its order on stdin.

The order is JSON: {"mode": ..., "port": ..., "log": ...}. Modes: "serve"; "stubborn" does not
heed SIGTERM; "hang" never says that it serves; "mute" closes its pipe without a word; "fail" ends.
"""

import ctypes
import json
import os
import signal
import sys

ctypes.CDLL(None).prctl(1, signal.SIGKILL)
pipe, order = int(sys.argv[1]), json.load(sys.stdin)
mode = order["mode"]
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else lambda *_: sys.exit(0))
print(order.get("log", "hello"), flush=True)
if mode == "fail":
    sys.exit("no such model")
if mode == "mute":
    os.close(pipe)
elif mode != "hang":
    os.write(pipe, json.dumps({"port": order["port"], "model": "tiny"}).encode() + b"\n")
while True:
    signal.pause()
