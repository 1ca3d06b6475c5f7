"""Seconds until a person sees the first line of each task in a terminal: command typed, line there. Nothing is tuned.

Each command has a terminal of its own (a pseudo-terminal) and is interrupted once its first line stands; the first run of each warms the
file system's cache and does not count.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _table import Table, arguments

ROOT = Path(__file__).resolve().parents[1]
TINY = ("--model_name", "bytes", "--dataset_name", "demo", "--preset", "tiny")
COMMANDS = {
    "test_agent, a question": ("main_menu.py", "--task", "test_agent", "--query", "Who invented the arc lamp?"),
    "train_llm_world": ("main_menu.py", "--task", "train_llm_world", *TINY),
    "train_agent": ("main_menu.py", "--task", "train_agent"),
    "language model": ("lightbulb_LM.py", *TINY),
    "world model": ("lightbulb_WM.py", "--environment", "tic_tac_toe"),
    "a flag that is not there": ("main_menu.py", "--task", "test_agent", "--no_such_flag", "1"),
}


def first_line(command: tuple[str, ...], folder: str) -> tuple[float, str]:
    "Seconds until the first line, and the line."
    ours, theirs = pty.openpty()
    began, text = time.perf_counter(), b""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        while b"\n" not in text.lstrip() and time.perf_counter() - began < 60:
            if select.select([ours], [], [], 1)[0]:
                text += os.read(ours, 4096)
        seconds = time.perf_counter() - began
    except OSError:  # it ended
        seconds = time.perf_counter() - began
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    os.close(ours)
    return seconds, text.decode(errors="replace").strip().partition("\n")[0].strip()


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    table = Table("The first line of each task", ("torch",))
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            runs = [first_line(command, folder) for _ in range(2 if options.quick else 6)]
        seconds = [one for one, _ in runs[1:]]
        middle = statistics.median(seconds)
        print(f"  {name}: {runs[-1][1][:100]}", flush=True)
        table.row(f"{name}: seconds to the first line", f"{middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})", "≤ 1 s", middle <= 1)
    return table.finish(options.record)


if __name__ == "__main__": raise SystemExit(main())
