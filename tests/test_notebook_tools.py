"""Diffs of notebooks stay quiet: git merges and shows them by cells, and a page that did not change is saved as the same file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CELLS = [
    ("markdown", "# A page\n\n> One sentence."),
    ("code", "import tempfile\nfrom pathlib import Path"),
    ("code", "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4])\nplt.title('doubles');"),
    ("code", "folder = tempfile.mkdtemp()\nprint(Path(folder) / 'x', 'http://127.0.0.1:43817/lamp')"),
    ("code", "6 * 7"),
]


def write(path: Path, cells: list[tuple[str, str]], output: str = "") -> None:
    "A notebook; the last cell with an output, if one is given."
    book = {"cells": [], "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
    for number, (kind, source) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"cell{number}", "metadata": {}, "source": source.splitlines(keepends=True)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        book["cells"].append(cell)
    if output:
        book["cells"][-1]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": [output]}]
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    "A repository with the tools and one page."
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "config", "user.name", "Somebody")
    git(tmp_path, "config", "user.email", "somebody@example.org")
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitattributes", "settings.ini"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "nbs").mkdir()
    write(tmp_path / "nbs/page.ipynb", CELLS)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "A page")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, f"git {' '.join(arguments)}: {result.stdout}{result.stderr}"
    return result.stdout


def tool(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(folder / "tools/notebook.py"), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def test_two_branches_with_other_outputs_merge_into_a_whole_notebook(clone: Path) -> None:
    page = clone / "nbs/page.ipynb"
    tool(clone, "drivers")
    git(clone, "switch", "-qc", "theirs")
    write(page, [("markdown", "# A better page"), *CELLS[1:]], output="theirs\n")
    git(clone, "commit", "-qam", "Another title, run again")
    git(clone, "switch", "-q", "main")
    write(page, [*CELLS[:-1], ("code", "6 * 7")], output="ours\n")
    git(clone, "commit", "-qam", "Run again")
    git(clone, "merge", "-q", "theirs")
    assert sources(page) == ["# A better page", *(source for _, source in CELLS[1:])]
    assert json.loads(page.read_text("utf-8"))["cells"][-1]["outputs"][0]["text"] == ["ours\n"]


def test_two_edits_of_one_cell_are_a_conflict_inside_a_readable_notebook(clone: Path) -> None:
    page = clone / "nbs/page.ipynb"
    tool(clone, "drivers")
    git(clone, "switch", "-qc", "theirs")
    write(page, [*CELLS[:-1], ("code", "6 * 8")])
    git(clone, "commit", "-qam", "Eight")
    git(clone, "switch", "-q", "main")
    write(page, [*CELLS[:-1], ("code", "6 * 9")])
    git(clone, "commit", "-qam", "Nine")
    assert subprocess.run(["git", "merge", "-q", "theirs"], cwd=clone, capture_output=True).returncode
    merged = sources(page)
    assert "6 * 8" in merged and "6 * 9" in merged and any("<<<<<<<" in source for source in merged)


def test_a_difference_is_shown_as_cells_and_text(clone: Path) -> None:
    tool(clone, "drivers")
    write(clone / "nbs/page.ipynb", CELLS, output="forty-two\n")
    changed = [line for line in git(clone, "diff").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line for line in changed if line != "+"] == ["+# → forty-two"]


def test_a_page_that_runs_twice_is_saved_as_the_same_file(clone: Path) -> None:
    page = clone / "nbs/page.ipynb"
    tool(clone, "execute", str(page))
    once = page.read_bytes()
    tool(clone, "execute", "nbs/page.ipynb")
    assert page.read_bytes() == once
    assert b"image/png" in once and b"/tmp/\xe2\x80\xa6/x http://127.0.0.1:\xe2\x80\xa6/lamp" in once


def test_what_passes_is_saved_as_an_ellipsis() -> None:
    output = {
        "text": [
            "| /tmp/tmpoohugei\\_/notes | /tmp/tmpa_cdefgh/x |\n",
            "fetched_at=1795936954.4649332, seconds=0.000124, max_seconds=60.0\n",
        ]
    }
    output["data"] = {
        "text/html": "<p>Cost: 2 searches, 11 pages, 0 tokens, 13.3 s</p>",
        "text/plain": "<Thread(a, started daemon 140421615576768)>",
    }
    program = "import json, sys; from format import settle; output = json.loads(sys.argv[1]); settle(output); print(json.dumps(output))"
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(output)], cwd=ROOT / "tools", capture_output=True, text=True, check=True
    )
    settled = json.loads(run.stdout)
    assert "".join(settled["text"]) == "| /tmp/…/notes | /tmp/…/x |\nfetched_at=…, seconds=…, max_seconds=60.0\n"
    assert settled["data"]["text/html"] == ["<p>Cost: 2 searches, 11 pages, 0 tokens, … s</p>"]
    assert settled["data"]["text/plain"] == ["<Thread(a, started daemon …)>"]


def test_a_saved_figure_carries_no_version_and_no_date() -> None:
    stamped = []
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            images = ["".join(output.get("data", {}).get("image/png", "")) for output in cell.get("outputs", [])]
            stamped += [path.name for image in images if b"Software" in b64decode(image)[:200]]
    assert not stamped, f"`python tools/format.py` removes the stamps from {sorted(set(stamped))}"


def test_a_saved_figure_says_what_it_shows_and_no_output_warns() -> None:
    silent, warning = [], []
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            outputs = cell.get("outputs", [])
            if any("image/png" in output.get("data", {}) for output in outputs) and "#| fig-alt:" not in "".join(cell["source"]):
                silent.append(path.name)
            if any("UserWarning" in "".join(output.get("text", "")) for output in outputs):
                warning.append(path.name)
    assert not silent, f"a figure without `#| fig-alt:` in {sorted(set(silent))}"
    assert not warning, f"a warning is saved in {sorted(set(warning))}"
