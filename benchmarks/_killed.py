"A training in a process of its own, which may be killed with signal 9: what it told through a pipe before."

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def told_by(
    rows: Callable[[], Iterator[dict[str, Any]]],  # the training, called in the forked process
    seconds: float | None,  # until it is killed; None lets it end
) -> tuple[list[dict[str, Any]], bool]:
    "The whole rows that were told, and whether the training ended by itself; `SystemExit` if it failed."
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            for row in rows():
                os.write(writer, json.dumps(row).encode() + b"\n")
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent reads what went wrong
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(status)
    os.close(writer)
    deadline, told = time.monotonic() + (math.inf if seconds is None else seconds), bytearray()
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], None if math.isinf(left) else left)
        block = os.read(reader, 1 << 16) if ready else b""
        told += block
        if ready and not block:
            break  # it has ended: nothing is left to wait for
    else:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        told += pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status): raise SystemExit("the training failed")
    return [json.loads(line) for line in told.split(b"\n")[:-1]], os.WIFEXITED(status)
