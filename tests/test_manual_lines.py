"Questions over manuals become examples for the reader: the answer where it stands, and rivals that do not have it."

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from tools import manual_lines
from tools.manual_lines import KEPT, QUESTIONS, chosen_pages, drawn, manual_examples
from tools.train_reader import read_lines

PAGES = {
    "index.html": "<h1>Kiln</h1><p>The manual of a kiln.</p><a href=firing.html>Firing</a> <a href=care.html>Care</a>",
    "firing.html": "<h1>Firing</h1><p>Close the lid before you start. The first firing takes nine hours. Later ones take six hours.</p>",
    "care.html": "<h1>Care</h1><p>Brush the floor of the kiln once a month. Never wash the bricks.</p>",
}
ASKED = [
    {
        "manual": "kiln",
        "package": "kiln-doc",
        "page": "firing.html",
        "question": "how long do I wait the very first time",
        "kind": "number",
        "short": "nine hours",
        "evidence": ["The first firing takes nine"],
        "near": ["Later ones take six"],
    },
    {"manual": "kiln", "package": "kiln-doc", "page": "", "question": "Who built the kiln?", "kind": "unanswerable"},
    {
        "manual": "kiln",
        "package": "kiln-doc",
        "page": "gone.html",
        "question": "How big?",
        "kind": "number",
        "short": "9",
        "evidence": ["It"],
    },
]


def test_a_question_is_put_to_a_stretch_of_its_page_and_to_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kiln").mkdir()
    for name, html in PAGES.items():
        (tmp_path / "kiln" / name).write_text(f"<html><body><main>{html}</main></body></html>")
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in ASKED))
    monkeypatch.setattr(manual_lines, "QUESTIONS", asked)
    answered, silent = manual_examples(tmp_path, random.Random(0))
    assert answered.answer == "nine hours" and "first firing takes nine hours" in answered.text
    assert answered.others and not any("nine hours" in rival for rival in answered.others)
    assert silent.question == "Who built the kiln?" and (silent.start, silent.end) == (-1, -1)
    stream = drawn([answered, silent], random.Random(0))
    some = [next(stream) for _ in range(200)]
    assert {example.answer for example in some} == {"nine hours", ""} and all(len(example.others) <= 3 for example in some)
    with pytest.raises(FileNotFoundError, match=r"run python -m tools\.manual_lines"):
        manual_examples(tmp_path / "elsewhere", random.Random(0))


def test_of_pages_in_several_languages_the_one_that_was_asked_about_is_taken(tmp_path: Path) -> None:
    german, english = "<p>Der erste Brand dauert neun Stunden.</p>", "<p>The <b>first</b> firing takes nine hours.</p>"
    for folder, page in (("de", german), ("en", english)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "firing.html.gz").write_bytes(gzip.compress(page.encode()))
    (tmp_path / "other.html").write_text(german)
    (tmp_path / "style.css").write_text("p {}")
    pages = chosen_pages(tmp_path, {"firing.html": ["The first firing takes"], "gone.html": ["It"]})
    assert pages == {"firing.html": english.encode(), "other.html": german.encode()}


def test_what_was_written_is_whole_and_no_manual_of_the_benchmarks_teaches() -> None:
    rows = read_lines(QUESTIONS)
    manuals = {row["manual"] for row in rows}
    measured = {json.loads(line)["site"] for line in Path("benchmarks/manuals/questions.jsonl").read_text(encoding="utf-8").splitlines()}
    assert len(rows) > 2000 and KEPT < manuals and not manuals & (measured | {"git", "debian_handbook", "python"})
    assert len({(row["manual"], row["question"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["question"].strip() and (row["kind"] == "unanswerable" or row["evidence"])
        assert row["kind"] != "yes_no" or row["verdict"] in ("yes", "no")
