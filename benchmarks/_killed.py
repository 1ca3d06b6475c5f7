"A training in a process of its own, which may be killed with signal 9: what it told through a pipe before."

from __future__ import annotations

import json
import os
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
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        told = [json.loads(line) for line in pipe.read().split(b"\n")[:-1] if line]
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status): raise SystemExit("the training failed")
    return told, os.WIFEXITED(status)
