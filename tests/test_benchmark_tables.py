"The tables of benchmarks/RESULTS.md: what stands above them can be run, and what stands in them has a width."

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import _table
from benchmarks._scoring import gap_interval, interval, score_interval, wilson

ROOT = Path(__file__).resolve().parents[1]


def test_recorded_commands_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    commands = re.findall(r"^`(python benchmarks/.*?)`, \d{4}-", text, re.MULTILINE)
    assert len(commands) == text.count("\n## ")
    for command in commands:
        words = shlex.split(command)
        assert shlex.join(words) == command, "quoted as shlex.join does it"
        assert (ROOT / words[1]).is_file()
    notes = [words[words.index("--note") + 1 :] for words in map(shlex.split, commands) if "--note" in words]
    assert notes and all(len(words) == 1 or words[1].startswith("--") for words in notes), "a note is one word"
    asked = ["benchmarks/answering.py", "--note", "It's *one* word (of three).", "--keep", "/somewhere"]
    monkeypatch.setattr(sys, "argv", asked)
    monkeypatch.setattr(_table, "RESULTS", tmp_path / "RESULTS.md")
    table = _table.Table("A title")
    table.row("a row", "1")
    assert table.finish(True) == 0
    recorded = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    command = re.search(r"^`(python .*)`, \d{4}-", recorded, re.MULTILINE)
    assert command and shlex.split(command[1]) == ["python", *asked[:-1], "PATH"]


def test_intervals_of_shares_have_a_width() -> None:
    assert score_interval([1.0] * 3) == pytest.approx((0.438, 1.0), abs=1e-3)
    assert score_interval([0.0] * 5) == pytest.approx((0.0, 0.434), abs=1e-3)
    assert wilson(0.5, 10) == pytest.approx((0.237, 0.763), abs=1e-3)
    partial = [0.0, 0.5, 1.0, 0.25]
    assert score_interval(partial) == interval(partial)
    assert gap_interval([1.0, 1.0]) == "+1.00 in each"
    assert gap_interval([1.0, 0.0, 1.0, 1.0, 0.0]).startswith("+0.")


def test_the_one_prompt_stands_beside_questions_with_an_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    "It is offered no refusal, so its score of a refusal would be no measurement."
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    answering = importlib.import_module("answering")
    questions = [
        answering.Question("a", "How many?", "number", ["seven"]),
        answering.Question("b", "Who?", "factoid", ["Ada"]),
        answering.Question("c", "Why?", "unanswerable", answerable=False),
    ]
    replies = [answering.Reply("a", short="seven", prompt_text="seven"), answering.Reply("b", short="Ada", prompt_text="seven")]
    replies += [answering.Reply("c", refused=True, prompt_text="seven")]
    table = _table.Table("a title")
    answering.report_manuals(answering.Scorer(table), "site", questions, replies, {})
    rows = {name: (measured, aim, verdict) for name, measured, aim, verdict in table.rows}
    assert rows["site: refused when unanswerable"] == ("1.000 (0.21 to 1.00, 1)", "≥ 0.80", "yes")
    assert "one prompt 0.500 of the 2 with an answer, where it is 1.000" in rows["site: over all kinds"][0]
    assert rows["site: facts and numbers"][1:] == ("≥ 0.60, above one prompt", "yes")
    replies[1] = answering.Reply("b", short="Bob", prompt_text="Ada")
    table.rows.clear()
    answering.report_manuals(answering.Scorer(table), "site", questions[:2], replies[:2], {})
    assert table.rows[0][2:] == ("≥ 0.60, above one prompt", "no"), "one prompt has both"
    assert {"python", "demo"} <= answering.TUNED.keys()
