"""Minutes that `nbdev_test` takes for all notebooks with two workers, and how many of them failed. Nothing is tuned.

The models and pages of earlier runs are kept, as on the machine of whoever runs it a second time.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

from _table import Table, arguments

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    command = [str(Path(sys.executable).parent / "nbdev_test"), "--n_workers", "2"]
    if options.quick:
        command += ["--path", "nbs/rl"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    failed = re.findall(r"^\s+(\S+\.ipynb)$", result.stdout + result.stderr, re.MULTILINE)
    count = sum(".ipynb_checkpoints" not in path.parts for path in (ROOT / "nbs").rglob("*.ipynb"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = Table("The notebooks as tests", ("nbdev", "torch"))
    table.row("nbdev_test --n_workers 2: seconds, CPU-seconds", f"{seconds:.0f}, {cpu:.0f}", f"≤ {LIMIT}", seconds <= LIMIT)
    table.row("notebooks that failed", f"{len(failed)} of {count} {' '.join(failed)}".strip(), "0", not failed and not result.returncode)
    return table.finish(options.record)


if __name__ == "__main__": raise SystemExit(main())
