"""Every command and snippet of the README is carried out, and its answer is looked at.

A command runs as it stands there, with more flags where it would take long; the site and the search engine are servers of this test.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightbulb.apps.main_menu import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SHELL = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.partition("#")[0].strip()
]
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PATIENT = ["--max_seconds", "600"]  # other work on the machine must not decide
TINY_TEXT = "--width 32 --num_heads 2 --num_layers 1 --max_length 32 --max_examples 8 --num_epochs 1 --device cpu".split()
TINY_DEMO = [  # what the demo's two trainings are given instead of SmolLM2
    "--max_length 32 --max_examples 8 --device cpu --model_name gpt2:4096 --no-init_from_pretrained --trained_layers None --width 32 "
    "--num_heads 2 --steps_per_epoch 8".split(),
    "--max_examples 8 --device cpu --text.stretches_per_round 16 --text.stretches_to_settle 32 --text.least_steps 4".split(),
]
TINY_WORLD = (
    "--num_epochs 1 --batch_size 1 --accumulation_steps 1 --width 16 --hidden 32 --steps_per_epoch 8 --random_games 64 --first_play 4 "
    "--play_interval 4 --games_per_play 8 --renewed_positions 16 --device cpu"
).split()
PAGES = {
    "/": "<title>Harbour</title><h1>Harbour</h1><p>The harbour has a lighthouse. Read about <a href='/lighthouse'>the lighthouse</a>.</p>",
    "/lighthouse": "<title>Kvarner lighthouse</title><h1>Kvarner lighthouse</h1><p>The Kvarner lighthouse was designed by Marija Horvat. "
    "It was lit in 1874.</p>",
}


def commands(beginning: str) -> list[str]:
    "The commands of the README that begin so."
    return [command for command in SHELL if command.startswith(beginning)]


BOTH_STAGES = "test_both_stages_share_one_folder_and_resume_begins_what_had_not_begun"
CARRIED_OUT = {  # what a command begins with → the test that runs it
    "make demo": "test_make_demo",
    "make test": "test_make_demo",
    "python main_menu.py --task test_agent --query": "test_a_question",
    "python main_menu.py --task test_agent --search folder:": "test_a_folder",
    "python main_menu.py --task test_agent --search site:": "test_a_site",
    "python main_menu.py --task test_agent --search wikipedia": "test_search_engines",
    "python main_menu.py --task train_llm_world --dataset_name demo": "test_training_and_writing",
    "python lightbulb_LM.py --dataset_name ./texts": "test_training_on_own_texts",
    "python lightbulb_LM.py --model_name smollm2": "test_training_from_known_weights",
    "python lightbulb_LM.py --mode inference": "test_training_and_writing",
    "accelerate launch": "test_several_processes",
    "python main_menu.py --task train_agent": "test_web_agents",
    "python lightbulb_WM.py --environment": "test_world_models",
    "python lightbulb_WM.py --mode inference": "test_world_models",
    "python main_menu.py --task train_llm_world --stage both": f"test_main_menu.{BOTH_STAGES}",
}
EXECUTED = {
    "agent.answering": "test_the_snippet_that_asks",
    "rl.ppo": "test_the_snippet_that_learns",
    "world.training": "test_world_models",
}


def test_each_command_and_snippet_has_a_test() -> None:
    without = [command for command in SHELL if not any(command.startswith(beginning) for beginning in CARRIED_OUT)]
    without += [snippet for snippet in PYTHON if not any(f"lightbulb.{module} import" in snippet for module in EXECUTED)]
    unused = [beginning for beginning in CARRIED_OUT if not commands(beginning)]
    assert not without, f"the README shows what no test carries out: {without}"
    assert not unused, f"no longer in the README: {unused}"
    for name in (*CARRIED_OUT.values(), *EXECUTED.values()):
        module, _, test = name.rpartition(".")
        assert f"\ndef {test}(" in (ROOT / "tests" / f"{module or 'test_readme'}.py").read_text("utf-8"), f"there is no test {name}"


def carry_out(command: str, *more: str) -> tuple[int, str, str]:
    "Status, output and messages of `python PROGRAM ARGUMENTS`, in this process."
    program, *arguments = shlex.split(command)[1:]
    out, log, stage = io.StringIO(), io.StringIO(), {"lightbulb_LM.py": "lm", "lightbulb_WM.py": "world"}.get(program, "")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(log):
        status = main([*arguments, *more], stage=stage) if stage else main([*arguments, *more])
    return status, out.getvalue(), log.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "An empty folder to work in."
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    "host:port of a site of two pages that is a SearXNG too."

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            found = {"results": [{"url": f"{base}/lighthouse", "title": "Kvarner lighthouse", "content": "a lighthouse"}]}
            body = json.dumps(found) if path == "/search" else PAGES.get(path, "")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/json" if path == "/search" else "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


LIGHT = "When was the Kvarner lighthouse lit?"

# ------------------------------------------------------------------ make


def test_make_demo(here: Path) -> None:
    "What `make demo` would run after the set-up, with a tiny training; `make test` is known to make."
    assert subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, timeout=60).returncode == 0
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    ask, learn, imagine, *write = [line for line in shown.splitlines() if ".py" in line and "setup" not in line]
    status, out, _ = carry_out(ask, *PATIENT)
    assert status == 0 and "energy" in out.lower() and "Sources" in out
    for line, tiny in zip((learn, imagine), TINY_DEMO, strict=True):
        status, _, log = carry_out(line, *tiny)
        assert status == 0 and log.count("kept in") == 1
    assert [line.rpartition("--planner ")[2] for line in write] == ["greedy", "sample", "mcts"]
    for line in write:
        status, out, _ = carry_out(line, "--max_new_tokens", "8")
        assert status == 0 and out.startswith("The arc lamp was")


# ------------------------------------------------------------------ questions


def test_a_question(here: Path) -> None:
    (command,) = commands("python main_menu.py --task test_agent --query")
    status, out, log = carry_out(command, *PATIENT)
    assert status == 0 and "searched" in log and (here / "models/agent/knowledge.sqlite").exists()
    assert "Penzance" in out and "Milan" not in out and "Confidence" in out and "Cost:" in out


def test_a_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "notes").mkdir()
    (here / "notes" / "lighthouse.md").write_text("# Kvarner lighthouse\n\nThe Kvarner lighthouse was lit in 1874.\n")
    questions = iter([LIGHT, "quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions))
    (command,) = commands("python main_menu.py --task test_agent --search folder:")
    status, out, _ = carry_out(command, *PATIENT)
    assert status == 0 and "1874" in out and "lighthouse.md" in out


def test_a_site(here: Path, servers: str) -> None:
    (command,) = commands("python main_menu.py --task test_agent --search site:")
    command = command.replace("https://example.org", f"http://{servers}").replace('"..."', shlex.quote(LIGHT))
    status, out, _ = carry_out(command, *PATIENT, "--allow_hosts", servers)
    assert status == 0 and "1874" in out and f"http://{servers}/lighthouse" in out


def test_search_engines(here: Path, servers: str) -> None:
    "Wikipedia cannot be reached from a test: that is told, and the other engine answers."
    (command,) = commands("python main_menu.py --task test_agent --search wikipedia")
    command = command.replace("localhost:8080", servers).replace('"..."', shlex.quote(LIGHT))
    status, out, log = carry_out(command, *PATIENT, "--allow_hosts", servers)
    assert status == 0 and "1874" in out and f"http://{servers}/lighthouse" in out
    assert "wikipedia" in log and "Traceback" not in log


def test_the_snippet_that_asks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = (text for text in PYTHON if "agent.answering" in text)
    names: dict[str, Any] = {}
    exec(snippet.replace('search="demo"', 'search="demo", max_seconds=600'), names)
    last = names["step"]
    assert "Searched" in capsys.readouterr().out and last.cost.pages > 0
    assert "Humphry Davy" in last.text and last.sentences and all(sentence.citations for sentence in last.sentences)


# ------------------------------------------------------------------ web agents


def test_web_agents(here: Path) -> None:
    (here / "notes").mkdir()
    (here / "notes" / "lighthouse.md").write_text("# Kvarner lighthouse\n\nThe Kvarner lighthouse was lit in 1874.\n")
    (here / "questions.txt").write_text(f"{LIGHT}\nWho lit the Kvarner lighthouse?\n")
    for command in commands("python main_menu.py --task train_agent"):
        status, out, log = carry_out(command, *PATIENT, "--num_episodes", "2", "--num_held_out", "0", "--max_searches", "2")
        rows = [json.loads(line) for line in (here / "models/agent/agent_training.log").read_text("utf-8").splitlines()]
        assert status == 0 and len(rows) == 2 and not any(row["error"] for row in rows), out + log
    assert [row["query"] for row in sorted(rows, key=lambda row: row["episode"])] == [LIGHT, "Who lit the Kvarner lighthouse?"]


# ------------------------------------------------------------------ language models


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if row["split"] == "validation"]


def test_training_and_writing(here: Path) -> None:
    (train,) = commands("python main_menu.py --task train_llm_world --dataset_name demo")
    status, out, log = carry_out(train, *TINY_TEXT, "--model_name", "bytes")
    assert status == 0 and "kept in" in log and all(0 < loss < 20 for loss in losses(here / "models/language_model"))
    assert "imagined contexts found" in out and losses(here / "models/world_model")
    (write,) = commands("python lightbulb_LM.py --mode inference")
    status, out, _ = carry_out(write, "--max_new_tokens", "6", "--beam_width", "2")
    assert status == 0 and out.strip()


@pytest.fixture
def texts(here: Path) -> Path:
    (here / "texts").mkdir()
    (here / "texts" / "lamps.txt").write_text("The lamp burns oil, and the wick is trimmed.\n\n" * 60)
    return here


def test_training_on_own_texts(texts: Path) -> None:
    (command,) = commands("python lightbulb_LM.py --dataset_name ./texts")
    status, _, log = carry_out(command, *TINY_TEXT)
    assert status == 0 and "kept in" in log and losses(texts / "models/language_model")


def test_training_from_known_weights(texts: Path) -> None:
    (command,) = commands("python lightbulb_LM.py --model_name smollm2")
    (texts / "texts" / "lamps.txt").write_text("The lamp burns oil, and the wick is trimmed.\n\n" * 20)  # each step moves 150M weights
    status, _, log = carry_out(command, *"--max_length 16 --max_examples 2 --batch_size 1 --num_epochs 1 --device cpu".split())
    assert status == 0 and "kept in" in log
    assert losses(texts / "models/language_model")[-1] < 6  # it knew English before


def test_several_processes(here: Path) -> None:
    "The hub is out of reach of a test: one line says so and names what works offline; with that, it trains."
    (command,) = commands("accelerate launch")
    launch, arguments = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"], shlex.split(command)[2:]
    arguments[0] = str(ROOT / arguments[0])
    run = lambda *more: subprocess.run([*launch, *arguments, *more], capture_output=True, text=True, timeout=300, cwd=here)
    refused = run("--save_dir", str(here / "models"))
    lines = [line for line in refused.stderr.splitlines() if line.startswith("lightbulb: ")]
    assert refused.returncode != 0 and len(set(lines)) == 1 and "demo" in lines[0]  # accelerate says again what a process said
    done = run("--dataset_name", "demo", "--model_name", "bytes", *TINY_TEXT, "--save_dir", str(here / "models"))
    assert done.returncode == 0 and losses(here / "models/language_model"), done.stderr[-2000:]


# ------------------------------------------------------------------ acting, worlds


def test_the_snippet_that_learns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = (text for text in PYTHON if "rl.ppo" in text)
    names: dict[str, Any] = {}
    exec(snippet.replace("PPOConfig()", "PPOConfig(total_steps=4096)"), names)
    lines = capsys.readouterr().out.splitlines()
    assert names["report"].step >= 4096 and 9 <= float(lines[-1].split()[1]) <= 500


def test_world_models(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    "The larger board first, into a folder of its own; then the game, which plays; then the snippet, which loads it."
    game, board = commands("python lightbulb_WM.py --environment")
    status, out, _ = carry_out(board, *TINY_WORLD, "--mcts_iterations", "4", "--save_dir", "board")
    assert status == 0 and "held-out loss" in out
    status, out, _ = carry_out(game, *TINY_WORLD)
    assert status == 0 and "held-out loss" in out
    (play,) = commands("python lightbulb_WM.py --mode inference")
    status, out, _ = carry_out(play, "--mcts_iterations", "4")
    assert status == 0 and "optimal moves" in out and "100 games" in out
    (snippet,) = (text for text in PYTHON if "world.training" in text)
    tiny = ", ".join(f"{name[2:]}={value!r}" for name, value in zip(TINY_WORLD[::2], map(as_value, TINY_WORLD[1::2]), strict=True))
    names: dict[str, Any] = {}
    exec(
        snippet.replace('environment="tic_tac_toe"', f'environment="tic_tac_toe", mcts_algorithm="gumbel", mcts_iterations=4, {tiny}'),
        names,
    )
    assert type(names["world"]).__name__ == "TicTacToe" and callable(names["model"].planner)
    assert "policy_optimal" in capsys.readouterr().out


def as_value(text: str) -> int | str:
    return int(text) if text.isdigit() else text
