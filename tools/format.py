"""Write Python the way this house does: the formatter's 140 columns, and a guard may stay on the line of its `if`.

`format.py` formats modules' notebooks, tests, tools and benchmarks; `--check` changes nothing and says what would change;
paths limit it. Modules are written by `nbdev_export` and follow their notebooks. Of a notebook's metadata only the kernel stays,
of a saved figure only the picture: no version, no date; of an output nothing that is another on each run (PASSING).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("nbs", "tests", "tools", "benchmarks")
SCRIPTS = ("main_menu.py", "lightbulb_LM.py", "lightbulb_WM.py", "setup.py")
COLUMNS = 140
KERNEL = {"display_name": "python3", "language": "python", "name": "python3"}  # nbdev_clean names a kernel's display as the kernel
PASSING = (  # what is another on each run and says nothing to a reader
    (re.compile(r"/(?:var/)?tmp/(?:tmp(?:[a-z0-9]|\\?_){8}|[A-Za-z_]+[a-z0-9_]{8}(?=/))"), "/tmp/…"),  # a temporary folder
    (re.compile(r"(127\.0\.0\.1|localhost):\d{4,5}\b"), r"\1:…"),  # a port that the system gave
    (re.compile(r"^(Confidence .* tokens), \d+\.\d s$", re.MULTILINE), r"\1, … s"),  # the command line says how long it took
    (re.compile(r"( searches, \d+ pages, \d+ tokens), \d+\.\d s(?=<|$)", re.MULTILINE), r"\1, … s"),  # what an answer cost
    (re.compile(r"(?<![a-z_])seconds=(?:\d+\.\d{5,}(?:e-\d+)?|\d+(?:\.\d+)?e-\d+)"), "seconds=…"),  # measured; what is set has few digits
    (re.compile(r"\bfetched_at=\d{10}(?:\.\d+)?"), "fetched_at=…"),
    (re.compile(r"(<Thread\(.*?, started(?: daemon)?) \d+\)>"), r"\1 …)>"),
    (re.compile(r"^( *ready after) \d+\.\d s$", re.MULTILINE), r"\1 … s"),
    (re.compile(r"^(epoch .* loss .*), \d+ s$", re.MULTILINE), r"\1, … s"),
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GUARD_COLUMNS = 120  # a guard that is longer reads better on two lines
HEADER = re.compile(r"^(?P<indent> *)if .*:$")
GUARD = re.compile(r"^(return|continue|break|raise)\b.*")


def join_guards(source: str) -> str:
    "Put `return`, `continue`, `break` and `raise` back on the line of an `if` that holds nothing else and has no `else`."
    lines, joined, number = source.split("\n"), [], 0
    while number < len(lines):
        line = lines[number]
        header = HEADER.match(line)
        body = lines[number + 1] if header and number + 1 < len(lines) else ""
        after = lines[number + 2] if number + 2 < len(lines) else ""
        if header and _is_lone_guard(header["indent"], body, after) and len(line) + 1 + len(body.strip()) <= GUARD_COLUMNS:
            joined.append(f"{line} {body.strip()}")
            number += 2
        else:
            joined.append(line)
            number += 1
    return "\n".join(joined)


def _is_lone_guard(indent: str, body: str, after: str) -> bool:
    "Is `body` a whole statement, and the only one, and is there no `else`?"
    inner = f"{indent}    "
    if not body.startswith(inner) or not GUARD.match(body[len(inner) :]) or "#" in body or body.endswith(("(", "[", "{", '"""', "\\")):
        return False
    if after.startswith(inner) and after.strip(): return False
    return not re.match(rf"{indent}(else|elif)\b", after)


def format_files(files: list[Path]) -> None:
    "Format files in place."
    if not files: return
    ruff = shutil.which("ruff") or str(Path(sys.executable).parent / "ruff")
    command = [ruff, "format", "--quiet", "--no-cache", "--isolated", "--line-length", str(COLUMNS), "--target-version", "py311"]
    result = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"format: {result.stderr.strip()}")
    for file in files:
        text = file.read_text("utf-8")
        if file.suffix == ".py":
            file.write_text(join_guards(text), "utf-8")
            continue
        notebook = json.loads(text)
        remove_stamps(notebook)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["source"] = join_guards("".join(cell["source"])).splitlines(keepends=True)
        file.write_text(as_json(notebook), "utf-8")


def as_json(notebook: dict[str, Any]) -> str:
    "A notebook as nbdev and Jupyter write it."
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def remove_stamps(notebook: dict[str, Any]) -> None:
    "Leave what says the same on each run: of the metadata the kernel, of a figure its picture."
    notebook["metadata"] = {"kernelspec": dict(KERNEL)}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = b64decode("".join(output["data"]["image/png"]))
                output["data"]["image/png"] = b64encode(without_texts(picture)).decode()
            settle(output)


def settle(output: dict[str, Any]) -> None:
    "Write in an output as an ellipsis what is another on each run: temporary folders, ports, the seconds of a command."
    for holder, names in ((output, ("text",)), (output.get("data", {}), ("text/plain", "text/html", "text/markdown", "image/svg+xml"))):
        for name in (name for name in names if name in holder):
            text = "".join(holder[name])
            for pattern, standing in PASSING:
                text = pattern.sub(standing, text)
            holder[name] = text.splitlines(keepends=True)


def without_texts(png: bytes) -> bytes:
    "A PNG without its chunks of text and time (the PNG specification, section 5.3: length, name, data, checksum)."
    start, parts = len(PNG_SIGNATURE), [PNG_SIGNATURE]
    if not png.startswith(PNG_SIGNATURE): return png
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        if png[start + 4 : start + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            parts.append(png[start:end])
        start = end
    return b"".join(parts)


def tracked_files(paths: list[Path]) -> list[Path]:
    "What is written by hand: notebooks, scripts and tests; a module follows its notebook."
    places = paths or [ROOT / name for name in (*FOLDERS, *SCRIPTS)]
    listed = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    hidden = lambda file: any(part[0] in "._" and part != "." for part in file.relative_to(ROOT).parts[:-1])
    return [file for file in listed if file.suffix in (".py", ".ipynb") and not hidden(file.resolve())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    files = tracked_files([path.resolve() for path in args.paths])
    if not args.check:
        format_files(files)
        return 0
    with tempfile.TemporaryDirectory(prefix="lightbulb_format_") as folder:
        copies = [Path(folder) / f"{number}{file.suffix}" for number, file in enumerate(files)]
        for file, copy in zip(files, copies, strict=True):
            shutil.copy(file, copy)
        format_files(copies)
        changed = [file for file, copy in zip(files, copies, strict=True) if file.read_bytes() != copy.read_bytes()]
    for file in changed:
        print(f"{file.relative_to(ROOT)}: not formatted; `make reformat` writes it")
    print(f"{len(files)} files: " + (f"{len(changed)} would change" if changed else "all formatted"))
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
