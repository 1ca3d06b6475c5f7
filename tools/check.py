"""Run the named checks of `make test` and end with one line of counts.

A check is a command; it passes when its exit status is 0. Every check runs, so one failure does not hide another. The quick ones run
one after another; of the slow ones two run at a time, one on each of two cores: pytest is two halves of its files, and each notebook has
a process of its own. A few tests measure seconds or send a signal at a moment, and a busy neighbour can fail them: up to `FEW` failed
tests run once more when nothing runs beside them. What passes only then is named above the counts, and so is what fails again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
    "pytest": [PYTHON, "-m", "pytest", "-q", "--durations=8"],
    "wheel": [PYTHON, "tools/check_wheel.py"],
}
NAMES = (*COMMANDS, "notebooks")
SIDE_BY_SIDE = ("docs", "pytest", "types", "wheel", "notebooks")  # in this order; docs first: its pages are what pytest's second half opens
Counts = tuple[int, int, int]  # passed, failed, skipped
FEW = 3  # more failed tests are no busy neighbour
FAILED: list[tuple[str, str]] = []  # name and reason of each test that failed
OTHERS: list[str] = []  # checks and notebooks that failed


def stream(name: str, *arguments: str) -> tuple[int, list[str]]:
    "Run a check's command, show its lines as they come, and return its exit status and its lines."
    lines = []
    with subprocess.Popen(
        [*COMMANDS[name], *arguments],
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
            print(f"  {name}: {lines[-1]}", flush=True)
    return process.returncode, lines


def test_notebook(notebook: Path) -> Counts:
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
        OTHERS.append(str(notebook.relative_to(ROOT)))
        print("    " + "\n    ".join(output.splitlines()[-40:]), flush=True)
    return int(passed), int(not passed), 0


def notebooks() -> list[Path]:
    "Those of the checkout, without the hidden folders."
    found = (ROOT / "nbs").rglob("*.ipynb")
    return sorted(path for path in found if not any(part[0] in "._" for part in path.relative_to(ROOT).parts))


def counts(lines: list[str]) -> Counts:
    "Passed, failed and skipped out of pytest's closing line."
    found = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", lines[-1] if lines else ""):
        found[word] = int(number)
    return found["passed"], found["failed"] + found["error"], found["skipped"]


def failed_tests(lines: list[str]) -> list[tuple[str, str]]:
    "The name and the reason of every test in pytest's summary that failed."
    found = (re.match(r"(?:FAILED|ERROR) (\S+?\.py(?:::[^\[ ]+(?:\[.*?\])?)?)(?: - (.*))?$", line) for line in lines)
    return [(test[1], test[2] or "no reason was given") for test in found if test]


def run_pytest(*files: str) -> Counts:
    "What pytest's closing line says; the tests that failed are kept in `FAILED`."
    status, lines = stream("pytest", *files)
    FAILED.extend(failed_tests(lines))
    passed, failed, skipped = counts(lines)
    return passed, failed if status == 0 else max(failed, 1), skipped


def run_failed_again() -> int:
    "Run the failed tests once more, alone, if they are few: how many pass now. Every failure is named."
    tests = dict(FAILED)
    again = tests
    if len(tests) <= FEW:
        FAILED.clear()
        print("== pytest, what failed once more", flush=True)
        _, failed, _ = run_pytest(*tests)
        if failed == len(FAILED):
            again = dict(FAILED)  # otherwise something else went wrong, and all of them stay failed
    print()
    for name, reason in tests.items():
        print(f"{'failed' if name in again else 'passed only the second time, alone'}: {name}: {reason}")
    return len(tests) - len(again)


def run_command(name: str, *arguments: str) -> Counts:
    "Run a check's command: it counts as one, and pytest as its tests."
    print(f"== {name}", flush=True)
    if name == "pytest": return run_pytest(*arguments)
    status, _ = stream(name, *arguments)
    if status:
        OTHERS.append(name)
    return int(status == 0), int(status != 0), 0


def jobs_of(name: str) -> list[Callable[[], Counts]]:
    "The commands of a slow check; they may run in any order."
    if name == "notebooks": return [partial(test_notebook, path) for path in notebooks()]
    if name != "pytest": return [partial(run_command, name)]
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py"))
    middle = len(files) // 2
    return [partial(run_command, name, *half) for half in (files[:middle], files[middle:])]


def timed(job: Callable[[], Counts]) -> tuple[Counts, float]:
    start = time.monotonic()
    return job(), time.monotonic() - start


def main() -> int:
    names = sys.argv[1:] or list(NAMES)
    if unknown := set(names) - set(NAMES):
        sys.exit(f"check: unknown {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    start = time.monotonic()
    table = {name: [timed(partial(run_command, name))] for name in names if name not in SIDE_BY_SIDE}
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        futures = {}
        for name in SIDE_BY_SIDE:
            if name in names:
                futures[name] = [pool.submit(timed, job) for job in jobs_of(name)]
    table |= {name: [future.result() for future in waiting] for name, waiting in futures.items()}
    if FAILED:
        start_again = time.monotonic()
        passed = run_failed_again()
        table["pytest"].append(((passed, -passed, 0), time.monotonic() - start_again))
    print("".join(f"\nfailed: {name}" for name in OTHERS))
    print("check          passed  failed  skipped  seconds")
    totals = [0, 0, 0]
    for name in names:
        passed, failed, skipped = (sum(found[column] for found, _ in table[name]) for column in range(3))
        failed += not table[name]  # no notebook was found
        totals = [total + number for total, number in zip(totals, (passed, failed, skipped), strict=True)]
        print(f"{name:<14} {passed:>6}  {failed:>6}  {skipped:>7}  {sum(seconds for _, seconds in table[name]):>7.1f}")
    print("{} passed, {} failed, {} skipped".format(*totals), f"in {time.monotonic() - start:.0f} s", flush=True)
    return int(totals[1] > 0)


if __name__ == "__main__":
    sys.exit(main())
