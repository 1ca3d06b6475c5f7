"The tables of benchmarks/RESULTS.md: what stands above them can be run, and what stands in them has a width."

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _table  # noqa: E402
from _scoring import gap_interval, interval, score_interval, wilson  # noqa: E402


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
