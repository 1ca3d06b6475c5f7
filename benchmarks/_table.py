"""Rows of a benchmark: printed as they come, recorded in RESULTS.md on request."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).resolve().with_name("RESULTS.md")


def arguments(description: str, data: bool = True) -> argparse.Namespace:
    "The flags that every benchmark has: --quick, --record and, where it reads data, --data."
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer sizes and seeds")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    if data:
        parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    return parser.parse_args()


def skip_without(folder: Path) -> None:
    "Leave with a clear line and status 0 where the data is missing."
    if not folder.is_dir():
        print(f"skipped: {folder} is not here; give the folder of the development data with --data")
        raise SystemExit(0)


def peer_environment() -> dict[str, str]:
    "The environment in which another interpreter, that has the peers, finds this lightbulb."
    places = [str(RESULTS.parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


class Table:
    "The rows of one script's run."

    def __init__(self, title: str, packages: tuple[str, ...] = ()) -> None:
        self.title, self.packages, self.rows, self.notes = title, packages, [], []
        self.script = Path(sys.argv[0]).name
        print(f"# {title}")

    def row(self, name: str, measured: str, aim: str = "", ok: bool | None = None) -> None:
        "Print and keep one row; `ok` is None where there is no aim."
        verdict = "" if ok is None else "yes" if ok else "no"
        self.rows.append((name, measured, aim, verdict))
        print(" | ".join((name, measured, aim or "-", verdict or "-")), flush=True)

    def note(self, text: str) -> None:
        "Keep a sentence that belongs under the table."
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def finish(self, record: bool, *, keeps_others: bool = False) -> int:
        "Record the rows if asked, with or without the recorded ones that were not made again; the exit status: 1 if an aim is missed."
        status = int(any(verdict == "no" for *_, verdict in self.rows))
        if record:
            if keeps_others:
                self._take_others()
            self._record()
        return status

    def _take_others(self) -> None:
        "Rows that are recorded under this title and were not made in this run stay where they are, and a note says so."
        name = re.escape(f"{self.script}: {self.title}")
        block = re.search(rf"<!-- {name} -->\n(.*?)<!-- end {name} -->\n", RESULTS.read_text(encoding="utf-8"), re.DOTALL)
        if block is None: return
        lines = [line for line in block[1].splitlines() if line.startswith("| ")][2:]
        recorded = [tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
        made = {row[0]: row for row in self.rows}
        names = [row[0] for row in recorded]
        self.rows = [made.get(row[0], row) for row in recorded] + [row for row in self.rows if row[0] not in names]
        if others := sum(row[0] not in made for row in recorded):
            day = re.search(r"\d{4}-\d\d-\d\d", block[1])
            self.note(f"{others} rows are older: they stand as they were recorded by {day[0] if day else 'an earlier run'}.")

    def _record(self) -> None:
        cells = [("what", "measured", "aim", "met"), ("---", "---", "---", "---"), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
        versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "numpy", *self.packages))
        words = ("PATH" if Path(word).is_absolute() else word for word in sys.argv[1:])
        command = shlex.join(["python", "benchmarks/" + self.script, *words])
        body = [
            f"## {self.title}",
            "",
            f"`{command}`, {date.today()}, Python {platform.python_version()}, {versions}, {platform.machine()} with 2 shared cores.",
            "",
            *lines,
            *("\n" + note for note in self.notes),
            "",
        ]
        text = (
            RESULTS.read_text(encoding="utf-8")
            if RESULTS.exists()
            else "# Results\n\nEvery row was printed by the command above its table, or, where a note says so, by an earlier one.\n"
        )
        block = f"<!-- {self.script}: {self.title} -->\n" + "\n".join(body) + f"<!-- end {self.script}: {self.title} -->\n"
        name = re.escape(f"{self.script}: {self.title}")
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end {name} -->\n", re.DOTALL)
        text = pattern.sub(lambda _: block, text) if pattern.search(text) else text.rstrip("\n") + "\n\n" + block
        RESULTS.write_text(text, encoding="utf-8")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
