"""Write README.md from nbs/index.ipynb; `--check` only says whether the two differ.

The prose is copied. Code cells become fenced blocks, their text outputs a block below; `#|` lines are left out, and a
cell with `#| hide` is left out whole. Links, which start from nbs/ there, start from the top of the repository here.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICE = "<!-- Written by `make readme` from nbs/index.ipynb: edit there. -->"
DIRECTIVE = re.compile(r"^\s*#\s*\|.*$\n?", re.MULTILINE)


def text_of(value: str | list[str]) -> str:
    "Notebooks keep text as one string or as lines."
    return value if isinstance(value, str) else "".join(value)


def outputs_of(cell: dict) -> str:
    "Everything a cell printed or returned, as text."
    parts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "text/markdown" in data:
            parts.append(text_of(data["text/markdown"]))
        elif text := text_of(output.get("text", data.get("text/plain", ""))):
            parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def render(notebook: dict) -> str:
    "The README that this notebook means."
    blocks = []
    for cell in notebook["cells"]:
        source = text_of(cell["source"])
        directives = set(re.findall(r"^\s*#\s*\|\s*(\w+)", source, re.MULTILINE))
        if directives & {"hide", "default_exp"}: continue
        if cell["cell_type"] == "markdown":
            blocks.append(source.strip())
        elif cell["cell_type"] == "code":
            code = DIRECTIVE.sub("", source).strip()
            if code:
                blocks.append(f"```python\n{code}\n```")
            blocks.append(outputs_of(cell))
    text = "\n\n".join(block for block in blocks if block)
    text = re.sub(r"\]\((?!https?:|#|/|\.\./)([^)\s]+\.(?:ipynb|svg))", r"](nbs/\1", text).replace("](../", "](")
    first, _, rest = text.partition("\n")
    return f"{first}\n\n{NOTICE}\n{rest}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and say what differs")
    check = parser.parse_args().check
    index, readme = ROOT / "nbs" / "index.ipynb", ROOT / "README.md"
    if not index.exists():
        print("nbs/index.ipynb is missing: README.md is written from it")
        return 1
    wanted = render(json.loads(index.read_text("utf-8")))
    present = readme.read_text("utf-8") if readme.exists() else ""
    if not check:
        readme.write_text(wanted, "utf-8")
        print(f"README.md: {len(wanted.splitlines())} lines")
        return 0
    diff = list(difflib.unified_diff(present.splitlines(), wanted.splitlines(), "README.md", "nbs/index.ipynb", lineterm="", n=1))
    print(
        "\n".join(diff[:40]) + "\nREADME.md differs from nbs/index.ipynb: run make readme"
        if diff
        else "README.md says what nbs/index.ipynb says"
    )
    return int(bool(diff))


if __name__ == "__main__":
    sys.exit(main())
