"""Run the named checks of `make test` one after another and end with one line of counts.

A check is a command; it passes when its exit status is 0. Every check runs, so one failure does not hide another.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")
SECONDS_A_NOTEBOOK = 60  # STYLE: ten seconds is good, sixty the limit
ENVIRONMENT = {
    "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "LIGHTBULB_CACHE": os.environ.get("LIGHTBULB_CACHE", str(ROOT / ".cache" / "lightbulb")),  # kept between runs
}
COMMANDS = {
    "lint": ["ruff", "check", "--output-format", "concise", "."],
    "format": [PYTHON, "tools/format.py", "--check"],
    "export-check": [PYTHON, "tools/check_export.py"],
    "layers": ["lint-imports"],
    "types": ["basedpyright"],
    "readme-check": [PYTHON, "tools/readme.py", "--check"],
    "docs": [PYTHON, "tools/build_docs.py"],
    "pytest": [PYTHON, "-m", "pytest", "-q", "--durations=8", "tests"],
    "wheel": [PYTHON, "tools/check_wheel.py"],
}
NAMES = (*COMMANDS, "notebooks")


def stream(command: list[str]) -> tuple[int, list[str]]:
    "Run a command, show its lines as they come, and return its exit status and its lines."
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            print(f"  {lines[-1]}", flush=True)
    return process.returncode, lines


def test_notebook(notebook: Path) -> bool:
    "One notebook through `nbdev_test`, in a process of its own, so that notebooks cannot help or hurt each other."
    start = time.monotonic()
    try:
        result = subprocess.run(
            [str(BIN / "nbdev_test"), "--path", str(notebook), "--n_workers", "0"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=600,
        )
        passed, output = result.returncode == 0 and "Success." in result.stdout, result.stdout
    except subprocess.TimeoutExpired as expired:
        passed, output = False, f"stopped after {expired.timeout:.0f} s"
    seconds = time.monotonic() - start
    note = "" if seconds <= SECONDS_A_NOTEBOOK else f"  (over the budget of {SECONDS_A_NOTEBOOK} s)"
    print(f"  {'ok    ' if passed else 'FAILED'} {seconds:6.1f} s  {notebook.relative_to(ROOT)}{note}", flush=True)
    if not passed:
        print("    " + "\n    ".join(output.splitlines()[-40:]), flush=True)
    return passed


def test_notebooks() -> tuple[int, int]:
    "All notebooks, two at a time; how many passed and failed."
    notebooks = sorted(
        path for path in (ROOT / "nbs").rglob("*.ipynb") if not any(part[0] in "._" for part in path.relative_to(ROOT).parts)
    )
    if not notebooks: return 0, 1
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        passed = sum(pool.map(test_notebook, notebooks))
    return passed, len(notebooks) - passed


def counts(lines: list[str]) -> tuple[int, int, int]:
    "Passed, failed and skipped out of pytest's closing line."
    found = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", lines[-1] if lines else ""):
        found[word] = int(number)
    return found["passed"], found["failed"] + found["error"], found["skipped"]


def run_check(name: str) -> tuple[int, int, int]:
    "Run one check; how much passed, failed and was skipped (a check that is one command counts as one)."
    if name == "notebooks": return (*test_notebooks(), 0)
    status, lines = stream(COMMANDS[name])
    if name != "pytest": return int(status == 0), int(status != 0), 0
    passed, failed, skipped = counts(lines)
    return passed, failed if status == 0 else max(failed, 1), skipped


def main() -> int:
    names = sys.argv[1:] or list(NAMES)
    if unknown := set(names) - set(NAMES):
        sys.exit(f"check: unknown {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    table, start = [], time.monotonic()
    for name in names:
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        table.append((name, *run_check(name), time.monotonic() - begin))
    print("\ncheck          passed  failed  skipped  seconds")
    for name, passed, failed, skipped, seconds in table:
        print(f"{name:<14} {passed:>6}  {failed:>6}  {skipped:>7}  {seconds:>7.1f}")
    passed, failed, skipped = (sum(row[column] for row in table) for column in (1, 2, 3))
    print(f"{passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
