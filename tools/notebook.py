"""Edit notebooks as text: `to-py` writes the percent script, `build` makes notebook, module and outputs from it.

`execute` runs a page again; a page that did not change then gives the same file. `drivers` turns on the drivers of .gitattributes in
this clone: git merges notebooks cell by cell (nbdev), and shows a difference of notebooks as text, by way of `text`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from format import as_json, remove_stamps

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
    import matplotlib
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    nb: Any = read_nb(notebook)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
    shell: Any = CaptureShell(mpl_format="png")
    matplotlib.rcParams["svg.hashsalt"] = "lightbulb"  # no random names inside a figure
    os.chdir(notebook.parent)
    shell.set_path(ROOT)  # this checkout, whatever is installed
    skipped = lambda cell: any(
        f"#| {flag}" in cell.source or f"#|{flag}" in cell.source for flag in (*(SKIPPED[1:] if slow else SKIPPED), "eval: false")
    )
    for cell in nb.cells:
        if cell.cell_type != "code" or skipped(cell): continue
        cell.outputs = []  # a cell that prints nothing now keeps nothing of before
        shell.cell(cell)
        if shell.exc:
            failed = cell.source.splitlines()
            print(f"{notebook.name}: a cell failed:\n  " + "\n  ".join(failed[:12]), file=sys.stderr)
            raise SystemExit(
                f"{type(shell.exc[1] if isinstance(shell.exc, tuple) else shell.exc).__name__}: "
                f"{shell.exc[1] if isinstance(shell.exc, tuple) else shell.exc}"
            )
    write_nb(nb, notebook)


def clean(notebook: Path) -> None:
    "Remove metadata that is noise in a diff."
    from nbdev.clean import nbdev_clean

    nbdev_clean(fname=str(notebook))
    book = json.loads(notebook.read_text("utf-8"))
    remove_stamps(book)
    notebook.write_text(as_json(book), "utf-8")


def as_text(notebook: Path) -> str:
    "The cells with their textual outputs, for a diff; of an image only whether it is the same one."
    parts = []
    for cell in json.loads(notebook.read_text("utf-8")).get("cells", []):
        source = "".join(cell["source"])
        parts.append(f"# %% {cell['cell_type']}\n{source}")
        for output in cell.get("outputs", []):
            data = {"text/plain": output["text"]} if "text" in output else output.get("data", {})
            for kind, value in sorted(data.items()):
                value = "".join(value)
                is_text = kind.startswith("text/")
                shown = value.rstrip() if is_text else f"{kind} {hashlib.sha256(value.encode()).hexdigest()[:12]}"
                parts.append("\n".join(f"# → {line}" for line in shown.splitlines()))
    return "\n\n".join(parts) + "\n"


def turn_on_drivers() -> None:
    "Tell git, in this clone, which commands the names in .gitattributes stand for."
    python, merge = shlex.quote(sys.executable), shlex.quote(str(Path(sys.executable).parent / "nbdev_merge"))
    settings = {
        "merge.nbdev-merge.name": "notebooks cell by cell, with nbdev",
        "merge.nbdev-merge.driver": f"{merge} %O %A %B %P",
        "diff.notebook.textconv": f"{python} tools/notebook.py text",
        "diff.notebook.cachetextconv": "false",
    }
    for name, value in settings.items():
        subprocess.run(["git", "config", "--local", name, value], cwd=ROOT, check=True)
    print("git merges notebooks cell by cell and shows their differences as text, in this clone")


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
    one = commands.add_parser("to-py", help="notebook → percent script in scratch/")
    one.add_argument("notebook", type=Path)
    two = commands.add_parser("build", help="percent script → notebook, module and outputs")
    two.add_argument("script", type=Path)
    two.add_argument("notebook", type=Path)
    two.add_argument("--no-run", action="store_true")
    three = commands.add_parser("execute", help="run a notebook and save its outputs")
    three.add_argument("notebook", type=Path)
    three.add_argument("--slow", action="store_true")
    four = commands.add_parser("text", help="the cells and their textual outputs, as git's diff shows them")
    four.add_argument("notebook", type=Path)
    commands.add_parser("drivers", help="turn on the drivers of .gitattributes in this clone")
    args = parser.parse_args()
    if args.command == "to-py":
        print(to_py(args.notebook.resolve()))
    elif args.command == "build":
        build(args.script.resolve(), args.notebook.resolve(), not args.no_run)
    elif args.command == "text":
        sys.stdout.write(as_text(args.notebook))
    elif args.command == "drivers":
        turn_on_drivers()
    else:
        notebook = args.notebook.resolve()  # before a cell changes the folder
        execute(notebook, args.slow)
        clean(notebook)
