"The command line as a person meets it: flags, refusals, a session, an interrupt."

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightbulb.agent.answering import TestAgent
from lightbulb.apps.main_menu import main, parse_config

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {
    "query": "", "search": "demo", "max_pages": 20, "max_searches": 8, "max_tokens": 4000, "max_seconds": 60.0, "model_name": "smollm2",
    "save_dir": Path("./models"), "device": "auto", "precision": "auto", "seed": 0, "resume": False, "allow_hosts": (), "max_crawl_pages": 200,
}


def command(*arguments: str) -> list[str]: return [sys.executable, str(ROOT / "main_menu.py"), *arguments]


def run(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), input=given, capture_output=True, text=True, timeout=300, cwd=ROOT)


def test_flags_and_defaults_are_the_promised_ones() -> None:
    assert {f.name: getattr(TestAgent(), f.name) for f in dataclasses.fields(TestAgent)} == DEFAULTS
    for name, value in {"max_pages": "7", "model_name": "openai:m@http://127.0.0.1:1", "save_dir": "elsewhere", "allow_hosts": "localhost"}.items():
        assert getattr(parse_config(TestAgent, [f"--{name}", value], program="x"), name) != DEFAULTS[name]


@pytest.mark.parametrize("arguments", [
    ["--task", "make_coffee"], ["--task"], ["--query", "Who?"], ["--task", "test_agent", "--colour", "red"], ["--task", "test_agent", "--max_pages", "many"],
    ["--task", "test_agent", "--max_seconds", "nan"], ["--task", "test_agent", "--max_tokens", "-1"], ["--task", "test_agent", "--seed", "-1"],
    ["--task", "test_agent", "--search", "folder:/no/such/folder", "--query", "Who?"], ["--task", "test_agent", "--search", "telepathy", "--query", "Who?"],
    ["--task", "test_agent", "--device", "abacus", "--query", "Who?"], ["--task", "test_agent", "--model_name", "no-such/model", "--search", f"folder:{ROOT / 'nbs'}", "--query", "Who?"],
])
def test_bad_input_is_one_line_and_status_2(arguments: list[str], capsys, tmp_path) -> None:
    if "--query" in arguments and "--task" in arguments: arguments = [*arguments, "--save_dir", str(tmp_path)]
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1 and lines[0].startswith("lightbulb: ") and "Traceback" not in lines[0]


def test_help_is_quick_and_complete() -> None:
    begin = time.monotonic()
    shown = run("--task", "test_agent", "--help").stdout
    assert time.monotonic() - begin < 20
    assert all(f"--{name}" in shown for name in DEFAULTS)
    assert "test_agent" in run("--help").stdout
    loaded = "import sys; sys.argv = ['x', '--task', 'test_agent', '--help']; from lightbulb.apps.main_menu import main; main(); print('torch' in sys.modules, file=sys.stderr)"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT).stderr.strip().endswith("False")


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "lamps.md").write_text("# The arc lamp\n\nThe arc lamp was invented by Humphry Davy. Humphry Davy demonstrated it at the Royal Institution in London.\n")
    (folder / "davy.txt").write_text("Humphry Davy\n\nHumphry Davy was a British chemist. Humphry Davy was born in Penzance, Cornwall, on 17 December 1778.\n")
    return folder


def test_a_session_answers_several_questions_and_quits(notes: Path, tmp_path) -> None:
    given = "Where was Humphry Davy born?\n\nWho invented the arc lamp?\nquit\n"
    done = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), given=given)
    assert done.returncode == 0, done.stderr
    assert "Penzance" in done.stdout and "Humphry Davy" in done.stdout and done.stdout.count("Sources") == 2
    assert (tmp_path / "agent" / "knowledge.sqlite").is_file()
    again = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), "--query", "When was Humphry Davy born?")
    assert again.returncode == 0 and "1778" in again.stdout and "from memory" in again.stderr


def test_end_of_file_leaves_and_saves(notes: Path, tmp_path) -> None:
    done = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), given="Where was Humphry Davy born?")
    assert done.returncode == 0 and "Penzance" in done.stdout and "saved" in done.stderr


def test_an_interrupt_leaves_an_open_question_that_resume_asks(notes: Path, tmp_path) -> None:
    arguments = ("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path))
    with subprocess.Popen(command(*arguments, "--query", "Where was Humphry Davy born?"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stderr
        for line in process.stderr:
            if "searched" in line: break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    if process.returncode == 0: pytest.xfail("the answer was quicker than the interrupt")
    assert process.returncode == 130 and "Traceback" not in rest and "interrupted" in rest
    resumed = run(*arguments, "--resume", given="quit\n")
    assert resumed.returncode == 0 and "Penzance" in resumed.stdout
