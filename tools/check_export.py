"""Notebooks and modules say the same, and the notebooks are clean.

Exports and cleans a temporary copy and compares: the working tree stays as it is.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
HANDWRITTEN = ("__init__.py", "__main__.py")


def files(folder: Path, pattern: str) -> dict[str, str]:
    "Relative path → text of every file that matches."
    skipped = ("__pycache__", ".ipynb_checkpoints", "_modidx.py")  # nbdev's index is not tracked, and may be of another day
    found = (path for path in folder.rglob(pattern) if not any(part in skipped for part in path.parts))
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(found)}


def differences(before: dict[str, str], after: dict[str, str], *, what: str) -> list[str]:
    "One paragraph for each file that changed, came or went."
    problems = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name): continue
        diff = difflib.unified_diff(before.get(name, "").splitlines(), after.get(name, "").splitlines(), name, what, lineterm="", n=1)
        problems.append("\n".join(list(diff)[:20]))
    return problems


def copy_project(target: Path) -> None:
    "What nbdev needs to export and clean."
    for name in ("nbs", "lightbulb"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "_quarto.yml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target / name)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="lightbulb_export_") as folder:
        copy = Path(folder)
        copy_project(copy)
        modules, notebooks = files(copy / "lightbulb", "*.py"), files(copy / "nbs", "*.ipynb")
        if not notebooks:
            problems.append("no notebook was found")
        for name in modules:  # what no notebook wrote would otherwise go unseen
            if Path(name).name not in HANDWRITTEN:
                (copy / "lightbulb" / name).unlink()
        for command in ("nbdev_export", "nbdev_clean"):
            result = subprocess.run([BIN / command], cwd=copy, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if result.returncode:
                problems.append(f"{command} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
        problems += differences(modules, files(copy / "lightbulb", "*.py"), what="after nbdev_export")
        problems += differences(notebooks, files(copy / "nbs", "*.ipynb"), what="after nbdev_clean")
    for problem in problems:
        print(problem)
    print(f"{len(notebooks)} notebooks, {len(modules)} modules: " + (f"{len(problems)} differ" if problems else "no drift"))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
