"""Edit notebooks as text: `to-py` writes the percent script, `build` makes notebook, module and outputs from it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = ("slow", "gpu", "net")


def to_py(notebook: Path) -> Path:
    "Write the notebook as a percent script into scratch/ and return its path."
    target = ROOT / "scratch" / f"{notebook.parent.name}_{notebook.stem}.py"
    target.parent.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "jupytext", "--to", "py:percent", str(notebook), "-o", str(target)], check=True)
    return target


def export(notebook: Path) -> None:
    "Write the module of one notebook."
    from nbdev.export import nb_export

    nb_export(str(notebook))


def execute(notebook: Path, slow: bool = False) -> None:
    "Run every cell in order, as `nbdev_test` would (and the slow ones if asked), and save the outputs into the notebook."
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    nb = read_nb(notebook)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
    shell = CaptureShell(mpl_format="png")
    os.chdir(notebook.parent)
    sys.path.insert(0, str(ROOT))
    skipped = lambda cell: any(
        f"#| {flag}" in cell.source or f"#|{flag}" in cell.source for flag in (*(SKIPPED[1:] if slow else SKIPPED), "eval: false")
    )
    for cell in nb.cells:
        if cell.cell_type != "code" or skipped(cell): continue
        shell.cell(cell)
        if shell.exc:
            failed = cell.source.splitlines()
            print(f"{notebook.name}: a cell failed:\n  " + "\n  ".join(failed[:12]), file=sys.stderr)
            raise SystemExit(
                f"{type(shell.exc[1] if isinstance(shell.exc, tuple) else shell.exc).__name__}: {shell.exc[1] if isinstance(shell.exc, tuple) else shell.exc}"
            )
    write_nb(nb, notebook)


def clean(notebook: Path) -> None:
    "Remove metadata that is noise in a diff."
    from nbdev.clean import nbdev_clean

    nbdev_clean(fname=str(notebook))


def build(script: Path, notebook: Path, run: bool) -> None:
    "Percent script → notebook (ids and outputs kept where cells are equal) → module → outputs."
    update = ["--update"] if notebook.exists() else []
    notebook.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "jupytext", "--to", "ipynb", *update, str(script), "-o", str(notebook)], check=True)
    export(notebook)
    if run:
        execute(notebook)
    clean(notebook)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("to-py")
    one.add_argument("notebook", type=Path)
    two = commands.add_parser("build")
    two.add_argument("script", type=Path)
    two.add_argument("notebook", type=Path)
    two.add_argument("--no-run", action="store_true")
    three = commands.add_parser("execute")
    three.add_argument("notebook", type=Path)
    three.add_argument("--slow", action="store_true")
    args = parser.parse_args()
    if args.command == "to-py":
        print(to_py(args.notebook.resolve()))
    elif args.command == "build":
        build(args.script.resolve(), args.notebook.resolve(), not args.no_run)
    else:
        execute(args.notebook.resolve(), args.slow)
        clean(args.notebook.resolve())
