"The command line as a person meets it: flags, refusals, a session, an interrupt."

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightbulb.agent.answers import Ending
from lightbulb.agent.configuration import TestAgent, TrainAgent
from lightbulb.apps import language_model_commands, question_commands
from lightbulb.apps.language_model_commands import continue_texts
from lightbulb.apps.main_menu import UsageError, main, parse_config
from lightbulb.core.errors import LightbulbError
from lightbulb.core.run_folder import MODEL_FILE
from lightbulb.planning.run_events import read_run
from lightbulb.planning.run_pages import replay_run, run_to_html
from lightbulb.world.configuration import TextShares, TrainWorldModel
from lightbulb.world.stages import TrainLanguageWorld

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {
    "query": "",
    "search": "demo",
    "max_pages": 20,
    "max_searches": 8,
    "max_tokens": 4000,
    "max_seconds": 60.0,
    "model_name": "smollm2",
    "save_dir": Path("./models"),
    "device": "auto",
    "precision": "auto",
    "seed": 0,
    "resume": False,
    "allow_hosts": (),
    "max_crawl_pages": 500,
    "guess": False,
    "verbose": False,
    "memory_days": 7.0,
    "knowledge_base": "",
    "length": "short",
    "can_chat": "auto",
    "can_score": "auto",
    "context_length": 0,
    "use_environment": False,
    "planner": "auto",
    "policy": "fixed",
}


WORLD_DEFAULTS = {
    "save_dir": Path("./models"),
    "device": "auto",
    "precision": "auto",
    "seed": 0,
    "resume": False,
    "num_epochs": 3,
    "mode": "train",
    "environment": "text",
    "accumulation_steps": 4,
    "learning_rate": 1e-4,
    "weight_decay": 1e-2,
    "max_grad_norm": 1.0,
    "mcts_iterations": 5,
    "mcts_exploration_constant": 1.414,
    "mcts_algorithm": "puct",
    "lambda_reg": 1.0,
}
TINY_WORLD = [
    "--environment",
    "tic_tac_toe",
    "--mcts_algorithm",
    "gumbel",
    "--mcts_iterations",
    "4",
    "--device",
    "cpu",
    "--num_epochs",
    "2",
    "--batch_size",
    "1",
    "--accumulation_steps",
    "1",
]
SMALL_NETWORK = [
    "--width",
    "16",
    "--hidden",
    "32",
    "--steps_per_epoch",
    "12",
    "--random_games",
    "64",
    "--first_play",
    "4",
    "--play_interval",
    "4",
    "--games_per_play",
    "8",
    "--renewed_positions",
    "16",
]


def command(*arguments: str, program: str = "main_menu.py") -> list[str]:
    return [sys.executable, str(ROOT / program), *arguments]


def run(*arguments: str, given: str | None = None, program: str = "main_menu.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, program=program), input=given, capture_output=True, text=True, timeout=300, cwd=ROOT)


TRAIN_AGENT_DEFAULTS = {
    "num_episodes": 10,
    "queries": None,
    "search": "demo",
    "max_pages": 20,
    "max_searches": 8,
    "max_tokens": 4000,
    "max_seconds": 60.0,
    "model_name": "smollm2",
    "save_dir": Path("./models"),
    "device": "auto",
    "precision": "auto",
    "seed": 0,
    "resume": False,
}


def test_the_flags_of_train_agent_are_the_promised_ones() -> None:
    assert {name: getattr(TrainAgent(), name) for name in TRAIN_AGENT_DEFAULTS} == TRAIN_AGENT_DEFAULTS
    given = "--num_episodes 7 --queries own.txt --search folder:./notes --max_seconds 5 --save_dir elsewhere --resume".split()
    config = parse_config(TrainAgent, given, program="x")
    assert (config.num_episodes, config.queries, config.search, config.max_seconds) == (7, Path("own.txt"), "folder:./notes", 5.0)
    assert config.resume and config.folder == Path("elsewhere") / "agent"


def test_flags_and_defaults_are_the_promised_ones() -> None:
    assert {f.name: getattr(TestAgent(), f.name) for f in dataclasses.fields(TestAgent)} == DEFAULTS
    for name, value in {
        "max_pages": "7",
        "model_name": "openai:m@http://127.0.0.1:1",
        "save_dir": "elsewhere",
        "allow_hosts": "localhost",
    }.items():
        assert getattr(parse_config(TestAgent, [f"--{name}", value], program="x"), name) != DEFAULTS[name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--task", "make_coffee"],
        ["--task"],
        ["--query", "Who?"],
        ["--task", "test_agent", "--colour", "red"],
        ["--task", "test_agent", "--max_pages", "many"],
        ["--task", "test_agent", "--max_seconds", "nan"],
        ["--task", "test_agent", "--max_tokens", "-1"],
        ["--task", "test_agent", "--seed", "-1"],
        ["--task", "test_agent", "--length", "endless"],
        ["--task", "test_agent", "--can_chat", "perhaps"],
        ["--task", "test_agent", "--context_length", "7"],
        ["--task", "test_agent", "--policy", "wild"],
        ["--task", "train_agent", "--num_episodes", "0"],
        ["--task", "train_agent", "--num_parallel", "0"],
        ["--task", "train_agent", "--patience", "-1"],
        ["--task", "train_agent", "--max_seconds", "nan"],
        ["--task", "train_agent", "--write", "poem"],
        ["--task", "train_agent", "--query", "Who?"],
        ["--task", "train_agent", "--queries", "/no/such/list.txt"],
        ["--task", "test_agent", "--search", "folder:/no/such/folder", "--query", "Who?"],
        ["--task", "test_agent", "--search", "telepathy", "--query", "Who?"],
        ["--task", "test_agent", "--device", "abacus", "--query", "Who?"],
        ["--task", "test_agent", "--model_name", "no-such/model", "--search", f"folder:{ROOT / 'nbs'}", "--query", "Who?"],
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], capsys, tmp_path) -> None:
    if "--query" in arguments and "--task" in arguments:
        arguments = [*arguments, "--save_dir", str(tmp_path)]
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1 and lines[0].startswith("lightbulb: ") and "Traceback" not in lines[0]


def test_help_is_quick_and_complete() -> None:
    begin = time.monotonic()
    shown = run("--task", "test_agent", "--help").stdout
    assert time.monotonic() - begin < 20
    assert all(f"--{name}" in shown for name in DEFAULTS)
    overview = run("--help").stdout
    assert "test_agent" in overview and "train_agent" in overview
    loaded = (
        "import sys; sys.argv = ['x', '--task', 'test_agent', '--help']; from lightbulb.apps.main_menu import main; "
        "main(); print('torch' in sys.modules, file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT).stderr.strip().endswith("False")


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "lamps.md").write_text(
        "# The arc lamp\n\nThe arc lamp was invented by Humphry Davy. Humphry Davy demonstrated it at the Royal Institution in London.\n"
    )
    (folder / "davy.txt").write_text(
        "Humphry Davy\n\nHumphry Davy was a British chemist. Humphry Davy was born in Penzance, Cornwall, on 17 December 1778.\n"
    )
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["main_menu.py", "--task", "test_agent", "--query", "Who invented the miner's safety lamp?"],
        ["main_menu.py", "--task", "train_agent", "--num_episodes", "2"],
        ["main_menu.py", "--task", "train_llm_world", "--dataset_name", "demo", "--preset", "tiny"],
        ["lightbulb_LM.py", "--dataset_name", "demo", "--model_name", "bytes"],
        ["lightbulb_LM.py", "--mode", "inference", "--query", "Wind"],
        ["lightbulb_WM.py", "--environment", "tic_tac_toe"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_every_task_says_something_before_it_loads_what_takes_seconds(command: list[str], tmp_path) -> None:
    "Python's list of imports and the task's own lines come through one pipe: a line of the task stands before PyTorch."
    if "inference" in command:
        (tmp_path / "language_model").mkdir()
        (tmp_path / "language_model" / MODEL_FILE).write_bytes(b"something has to be said before this is read")
    arguments = [sys.executable, "-u", "-X", "importtime", *command, "--save_dir", str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as task:
        imported = set()
        assert task.stdout
        for line in task.stdout:
            if not line.startswith("import time:"): break
            imported.add(line.rpartition("|")[2].strip())
        os.killpg(task.pid, signal.SIGKILL)
    assert "loading" in line, line  # the first import that ends meanwhile may share its line
    assert not (heavy := imported & {"torch", "torch._C", "transformers", "onnxruntime", "sklearn"}), heavy


def test_a_session_answers_several_questions_and_quits(notes: Path, tmp_path) -> None:
    given = "Where was Humphry Davy born?\n\nWho invented the arc lamp?\nquit\n"
    done = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), given=given)
    assert done.returncode == 0, done.stderr
    assert "Penzance" in done.stdout and "Humphry Davy" in done.stdout and done.stdout.count("Sources") == 2
    assert (tmp_path / "agent" / "knowledge.sqlite").is_file()
    runs = sorted((tmp_path / "agent" / "runs").iterdir())
    assert [path.suffix for path in runs] == [".html", ".jsonl"] * 2 and str(runs[0]) in done.stderr
    for page, record in zip(runs[::2], runs[1::2], strict=True):
        assert run_to_html(replay_run(read_run(record)).events) == page.read_text(encoding="utf-8")
    again = run(
        "--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), "--query", "When was Humphry Davy born?"
    )
    assert again.returncode == 0 and "1778" in again.stdout and "from memory" in again.stderr


def test_end_of_file_leaves_and_saves(notes: Path, tmp_path) -> None:
    done = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), given="Where was Humphry Davy born?")
    assert done.returncode == 0 and "Penzance" in done.stdout and "saved" in done.stderr


def test_the_agent_is_trained_from_a_terminal_stopped_and_used(notes: Path, tmp_path) -> None:
    (tmp_path / "list.txt").write_text("Where was Humphry Davy born?\nWho invented the arc lamp?\n")
    arguments = ["--search", f"folder:{notes}", "--save_dir", str(tmp_path), "--max_searches", "2", "--num_parallel", "2"]
    training = ["--task", "train_agent", *arguments[:4], "--queries", str(tmp_path / "list.txt"), *arguments[4:], "--num_held_out", "0"]
    stopped = run(*training, "--num_episodes", "40", given="status\ndance\nsave\nquit\n")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped after episode 2" in stopped.stdout and "of 40 episodes in" in stopped.stderr and "is none of" in stopped.stderr
    log = [json.loads(line) for line in (tmp_path / "agent" / "agent_training.log").read_text().splitlines()]
    assert [row["episode"] for row in log] == [1, 2]
    resumed = run(*training, "--num_episodes", "4", "--resume")
    assert resumed.returncode == 0 and re.search(r"learning curve [▁▂▃▄▅▆▇█]{2} from", resumed.stderr), resumed.stderr
    question = ["--query", "Where was Humphry Davy born?", "--policy", "learned"]
    used = run("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path), *question)
    assert used.returncode == 0 and "what was learned" in used.stderr, used.stderr


def test_an_interrupt_leaves_an_open_question_that_resume_asks(notes: Path, tmp_path) -> None:
    arguments = ("--task", "test_agent", "--search", f"folder:{notes}", "--save_dir", str(tmp_path))
    with subprocess.Popen(
        command(*arguments, "--query", "Where was Humphry Davy born?"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "searched" in line: break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    if process.returncode == 0:
        pytest.xfail("the answer was quicker than the interrupt")
    assert process.returncode == 130 and "Traceback" not in rest and "interrupted" in rest
    resumed = run(*arguments, "--resume", given="quit\n")
    assert resumed.returncode == 0 and "Penzance" in resumed.stdout


def test_open_questions_are_asked_once_each_and_one_that_fails_blocks_no_other(monkeypatch, capsys, tmp_path) -> None:
    asked: list[str] = []
    script: dict[str, BaseException] = {}
    endings: dict[str, Ending] = {}

    def ask(question: str, *others, **more) -> SimpleNamespace:
        asked.append(question)
        if question in script: raise script.pop(question)
        return SimpleNamespace(question=question, events=(), ending=endings.pop(question, Ending.NO_EVIDENCE))

    monkeypatch.setattr(question_commands, "ask", ask)
    monkeypatch.setattr(question_commands, "_told", lambda loading, log: SimpleNamespace(close=lambda: None))
    answered = lambda **flags: (question_commands.run_test_agent(TestAgent(save_dir=tmp_path, **flags)), asked[:], asked.clear())[:2]
    script["first"] = KeyboardInterrupt()
    assert answered(query="first") == (130, ["first"])
    assert answered(query="first", resume=True) == (0, ["first"])
    for question in "AB":
        script[question] = KeyboardInterrupt()
        answered(query=question)
    script["A"] = LightbulbError("the server is away")
    assert answered(query="C", resume=True) == (0, ["A", "B", "C"]) and "the server is away" in capsys.readouterr().err
    script["A"] = KeyboardInterrupt()
    assert answered(query="D", resume=True) == (130, ["A"])


def test_a_question_whose_search_failed_ends_with_status_2_and_stays_open(monkeypatch, capsys, tmp_path) -> None:
    endings = [Ending.TOOL_FAILED, Ending.TOOL_FAILED, Ending.ANSWERED]
    told = lambda question, *others, **more: SimpleNamespace(question=question, events=(), ending=endings.pop(0))
    monkeypatch.setattr(question_commands, "ask", told)
    monkeypatch.setattr(question_commands, "_told", lambda loading, log: SimpleNamespace(close=lambda: None))
    run = lambda **flags: question_commands.run_test_agent(TestAgent(save_dir=tmp_path, **flags))
    assert run(query="Who?") == 2 and "--resume asks this question again" in capsys.readouterr().err
    assert run(query="Who?", resume=True) == 2
    assert run(query="Who?", resume=True) == 0 and not endings


# ------------------------------------------------------------------ a world model


def test_the_flags_of_a_world_model_are_the_promised_ones() -> None:
    alone, both = TrainWorldModel(environment="tic_tac_toe"), TrainLanguageWorld.flags()
    assert {name: getattr(alone, name) for name in WORLD_DEFAULTS} == WORLD_DEFAULTS | {"environment": "tic_tac_toe"}
    each_its_own = {"accumulation_steps": "auto", "learning_rate": "auto"}  # the language model's choice; a world model keeps its numbers
    assert {name: both[name][1] for name in WORLD_DEFAULTS} == WORLD_DEFAULTS | each_its_own
    assert (alone.batch_size, both["batch_size"][1], both["stage"][1]) == (2, 4, "both")
    given = "--stage world --environment tic_tac_toe --mcts_iterations 9 --lambda_reg 0.5 --seed 3 --num_epochs 7".split()
    as_stage = parse_config(TrainLanguageWorld, given, program="x").world_model
    assert (as_stage.batch_size, as_stage.mcts_iterations, as_stage.lambda_reg, as_stage.seed, as_stage.num_epochs) == (4, 9, 0.5, 3, 7)
    assert (as_stage.accumulation_steps, as_stage.learning_rate) == (4, 1e-4)


def test_both_stages_take_the_weights_of_every_loss_and_the_settings_of_a_text() -> None:
    given = "--text.losses.kl 2 --text.losses.ppo 0.5 --text.agreement 1 --text.num_continuations 2 --losses.ppo 0.25".split()
    world = parse_config(TrainLanguageWorld, given, program="x").world_model
    assert (world.text.losses.kl, world.text.losses.ppo, world.text.agreement, world.text.num_continuations) == (2, 0.5, 1, 2)
    assert world.losses.ppo == 0.25 and world.text.losses.tokens == TextShares().tokens
    with pytest.raises(UsageError, match="agreement must not be negative"):
        parse_config(TrainLanguageWorld, ["--text.agreement", "-1"], program="x")


@pytest.mark.parametrize("field", dataclasses.fields(TrainWorldModel), ids=lambda field: field.name)
def test_every_flag_of_a_world_model_arrives(field: dataclasses.Field) -> None:
    others = {
        "environment": "connect_four",
        "device": "cpu",
        "precision": "float32",
        "mcts_algorithm": "gumbel",
        "mode": "inference",
        "optimizer": "adamw",
        "policy_target": "visits",
        "discount": "0.5",
        "opening_moves": "3",
        "max_moves": "9",
        "save_dir": "elsewhere",
        "transformer_model_path": "elsewhere",
        "dataset_name": "demo",
        "dataset_config": "small",
        "text_column": "words",
        "query": "The arc lamp",
        "planner": "beam",
        "no_repeat": "3",
    }
    default: Any = field.default
    if field.name == "losses":
        given, expected = ["--losses.kl", "0.25"], dataclasses.replace(default, kl=0.25)
    elif field.name == "text":
        given, expected = ["--text.agreement", "0.25"], dataclasses.replace(default, agreement=0.25)
    elif field.name == "mirror":
        given, expected = ["--mirror", "--environment", "connect_four"], True
    elif isinstance(default, bool):
        given, expected = [f"--{'no_' if default else ''}{field.name}", "--losses.ppo", "1"], not default
    elif field.name in others:
        given, expected = [f"--{field.name}", others[field.name]], others[field.name]
    else:
        expected = default + 7 if isinstance(default, int) else default / 2 + 0.125
        given = [f"--{field.name}", str(expected)]
    known = [] if field.name == "environment" else ["--environment", "tic_tac_toe"]
    found = getattr(parse_config(TrainWorldModel, [*known, *given], program="x"), field.name)
    assert found != field.default and (found == expected or str(found) == expected)


@pytest.fixture(scope="module")
def world_run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    "A tiny world model, trained by its own program."
    folder = tmp_path_factory.mktemp("world")
    return folder, run(*TINY_WORLD, *SMALL_NETWORK, "--save_dir", str(folder), program="lightbulb_WM.py")


def test_training_says_one_line_an_evaluation(world_run) -> None:
    folder, done = world_run
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = [
        re.match(
            r"epoch (\d+), step (\d+) of 24, [\d,]+ games: held-out loss \d+\.\d{4}; wrongly imagined: .*%; "
            r"with the search: optimal moves \d+\.\d%",
            line,
        )
        for line in lines
    ]
    assert [(match[1], match[2]) for match in said if match] == [("1", "12"), ("2", "24")] and len(lines) == 2
    assert done.stderr == f"  loading PyTorch, then tic_tac_toe\n  kept in {folder / 'world_model'}\n"
    rows = [json.loads(line) for line in (folder / "world_model" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 25)) and len(rows) == 26


def test_what_was_trained_plays(world_run) -> None:
    folder, _ = world_run
    done = run("--mode", "inference", "--save_dir", str(folder), "--mcts_iterations", "6", program="lightbulb_WM.py")
    assert done.returncode == 0 and done.stderr == "  loading PyTorch, then the model\n", done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tic_tac_toe, searched by puct with 6 simulations" and lines[1].startswith("  with the search: optimal moves")
    won, drawn, lost = (int(number) for number in re.findall(r"100 games: (\d+) won, (\d+) drawn, (\d+) lost", done.stdout)[0])
    assert won + drawn + lost == 100
    boards = re.findall(r"(?:^[xo.] [xo.] [xo.]\n){3}", done.stdout, re.MULTILINE)
    stones = [(board.count("x"), board.count("o")) for board in boards]
    assert (
        stones == [((move + 2) // 2, (move + 1) // 2) for move in range(len(stones))] and 5 <= len(stones) <= 9
    )  # x is the model, which begins
    line_of_three = [
        any(
            all(board.split()[cell] == mark for cell in line)
            for line in ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
        )
        for board in boards[-1:]
        for mark in "xo"
    ]
    assert (
        lines[-1]
        == f"{'the model wins' if line_of_three[0] else 'random play wins' if line_of_three[1] else 'a draw'} after {len(stones)} moves"
    )
    again = run("--task", "train_llm_world", "--stage", "world", "--mode", "inference", "--save_dir", str(folder), "--mcts_iterations", "6")
    assert again.stdout == done.stdout


def test_an_interrupt_saves_the_world_model_and_resume_goes_on(tmp_path) -> None:
    arguments = [*TINY_WORLD, *SMALL_NETWORK, "--save_dir", str(tmp_path), "--steps_per_epoch", "3000"]
    with subprocess.Popen(
        command(*arguments, program="lightbulb_WM.py"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = tmp_path / "world_model" / "metrics.jsonl"
        begin = time.monotonic()
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 5):
            assert time.monotonic() - begin < 120 and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in rest
    assert f"interrupted; all is kept in {tmp_path / 'world_model'}, and --resume continues from there" in rest
    reached = len(metrics.read_text().splitlines())
    with subprocess.Popen(
        command(*arguments, "--resume", program="lightbulb_WM.py"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while metrics.read_text().count("\n") < reached + 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == list(
        range(1, len(metrics.read_text().splitlines()) + 1)
    )  # each step once


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("lightbulb_WM.py", [], "environment text needs transformer_model_path"),
        ("lightbulb_WM.py", ["--environment", "NoSuchWorld-v0"], "'NoSuchWorld-v0' must be a known Gymnasium id"),
        ("lightbulb_WM.py", ["--environment", "connect_four:4by4"], "connect_four:ROWSxCOLUMNS, got 'connect_four:4by4'"),
        ("lightbulb_WM.py", ["--environment", "Pendulum-v1"], "discrete actions"),
        ("lightbulb_WM.py", ["--environment", "tic_tac_toe", "--mcts_iterations", "0"], "mcts_iterations must be positive, got 0"),
        ("lightbulb_WM.py", ["--environment", "tic_tac_toe", "--lambda_reg", "nan"], "lambda_reg must not be negative, got nan"),
        ("lightbulb_WM.py", ["--environment", "tic_tac_toe", "--losses.kl", "-1"], "kl must not be negative"),
        ("lightbulb_WM.py", ["--environment", "tic_tac_toe", "--resume"], "there is nothing to resume"),
        ("lightbulb_WM.py", ["--environment", "tic_tac_toe", "--precision", "float16", "--device", "cpu"], "float16 needs a GPU"),
        ("lightbulb_WM.py", ["--mode", "inference"], "there is no checkpoint of a world model"),
        ("main_menu.py", ["--task", "train_llm_world", "--stage", "world"], "environment text needs transformer_model_path"),
        ("main_menu.py", ["--task", "train_llm_world", "--stage", "lm", "--planner", "mcts"], "mcts needs a world model"),
        (
            "main_menu.py",
            ["--task", "train_llm_world", "--mode", "inference", "--planner", "mcts"],
            "there is no checkpoint of a world model",
        ),
        (
            "main_menu.py",
            ["--task", "train_llm_world", "--stage", "both", "--mode", "inference", "--environment", "tic_tac_toe"],
            "stage must be lm (it writes) or world (it plays)",
        ),
        ("main_menu.py", ["--task", "train_llm_world", "--stage", "dreams"], "dreams"),
        ("main_menu.py", ["--task", "train_llm_world", "--losses.kl", "-1"], "kl must not be negative"),
        ("main_menu.py", ["--task", "train_llm_world", "--losses.nothing", "1"], "--losses.nothing"),
    ],
)
def test_bad_input_for_a_world_model_is_one_line_and_status_2(program: str, arguments: list[str], said: str, capsys, tmp_path) -> None:
    given = [*arguments, "--save_dir", str(tmp_path)]
    assert (main(given, stage="world") if program == "lightbulb_WM.py" else main(given)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1 and lines[0].startswith("lightbulb: ") and said in lines[0]


@pytest.mark.parametrize(
    ("stage", "arguments", "said"),
    [
        ("lm", ["--dataset_name", "/no/such/text.txt"], "there is no file or folder '/no/such/text.txt'"),
        ("lm", ["--transformer_model_path", "/no/such/run"], "/no/such/run: there is no checkpoint of a language model here"),
        ("lm", ["--resume"], "there is nothing to resume"),
        ("lm", ["--mode", "inference"], "there is no checkpoint of a language model here"),
        ("lm", ["--query", "The lamp"], "give --mode inference as well"),
        ("lm", ["--device", "abacus"], "device must be auto, cpu, cuda, cuda:N or mps, got 'abacus'"),
        ("lm", ["--init_from_pretrained", "--model_name", "smollm2"], "span_weight must be 0"),
        ("lm", ["--init_from_pretrained", "--model_name", "gpt2", "--span_weight", "0"], "a Llama-type model, such as smollm2, got gpt2"),
        ("lm", ["--save_dir", "FILE"], "FILE is a file"),
        ("lm", ["--batch_size", "0"], "lightbulb: batch_size must be positive, got 0"),
        ("world", ["--environment", "tic_tac_toe", "--resume"], "there is nothing to resume"),
        ("world", ["--environment", "tic_tac_toe", "--save_dir", "FILE"], "FILE is a file"),
        ("world", ["--mode", "inference"], "there is no checkpoint of a world model here"),
        ("world", ["--transformer_model_path", "/no/such/run"], "/no/such/run: there is no checkpoint of a language model here"),
        ("", ["--task", "train_llm_world", "--save_dir", "FILE"], "FILE is a file"),
        ("", ["--task", "train_llm_world", "--resume"], "there is nothing to resume"),
        ("", ["--task", "train_agent", "--resume"], "there is nothing to resume"),
        ("", ["--task", "train_agent", "--save_dir", "FILE"], "FILE is a file"),
        ("", ["--task", "train_agent", "--cluster", "somewhere"], "cluster must be ray://host:10001, local or empty, got 'somewhere'"),
    ],
)
def test_what_can_be_known_is_said_before_anything_is_loaded(stage: str, arguments: list[str], said: str, capsys, tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = [str(tmp_path / "file") if word == "FILE" else word for word in arguments]
    if stage == "lm" and "--dataset_name" not in words:
        words += ["--dataset_name", "demo"]
    assert main([*(["--save_dir", str(tmp_path)] if "FILE" not in arguments else []), *words], stage=stage) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lightbulb: ") and said.replace("FILE", str(tmp_path / "file")) in line


def test_a_world_that_comes_after_the_language_model_is_known_before_it_is_trained(monkeypatch, capsys, tmp_path) -> None:
    def train(config: Any) -> int:
        raise AssertionError("the language model was trained first")

    monkeypatch.setattr(language_model_commands, "_follow_training", train)
    arguments = ["--task", "train_llm_world", "--dataset_name", "demo", "--save_dir", str(tmp_path), "--environment", "Pendulum-v1"]
    assert main(arguments) == 2 and "discrete actions" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--num_heads", "7"], ["--trained_layers", "9", "--transformer_model_path", "."]])
def test_a_shape_that_cannot_be_is_refused_before_the_text_is_read(wrong: list[str], monkeypatch, capsys, tmp_path) -> None:
    from lightbulb.core.run_folder import MODEL_FILE
    from lightbulb.lm import training

    def read(*_: Any) -> None:
        raise AssertionError("the text was read first")

    monkeypatch.setattr(training, "_load_streams", read)
    (tmp_path / MODEL_FILE).write_text("whatever")
    words = [str(tmp_path) if word == "." else word for word in wrong]
    assert main(["--model_name", "bytes", "--dataset_name", "demo", "--save_dir", str(tmp_path), *words], stage="lm") == 2
    assert "multiple of num_heads" in (said := capsys.readouterr().err) or "trained_layers must be at most" in said


def test_a_language_model_that_cannot_be_is_refused_before_others_are_loaded(monkeypatch, capsys, tmp_path) -> None:
    from lightbulb.knowledge import embedding

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("other models were loaded first")

    monkeypatch.setattr(embedding, "load_embedder", load)
    for name, said in (("lightbulb:/no/such", "there is no checkpoint of a language model"), ("openai:m", "openai:<model>@<url>")):
        assert main(["--task", "test_agent", "--query", "Who?", "--save_dir", str(tmp_path), "--model_name", name]) == 2
        assert said in capsys.readouterr().err


def test_a_training_that_is_resumed_shows_its_whole_curve(capsys, tmp_path) -> None:
    (tmp_path / "lamps.txt").write_text("The lamp burns oil. " * 200)
    shape = "--model_name bytes --width 16 --num_heads 2 --num_layers 1 --max_length 32 --device cpu".split()
    common = [*shape, "--dataset_name", str(tmp_path / "lamps.txt"), "--save_dir", str(tmp_path / "models")]
    first_words = r"^epoch \d+, step \d+ of \d+: held-out loss [\d.]+"
    shown = []
    for num_epochs in ("2", "3", "3"):
        assert main([*common, "--num_epochs", num_epochs, *(["--resume"] if shown else [])], stage="lm") == 0
        shown.append(re.findall(first_words, capsys.readouterr().out, re.MULTILINE))
    assert [len(lines) for lines in shown] == [2, 3, 3]
    losses = [[line.rpartition(" ")[2] for line in lines] for lines in shown]
    assert losses[1][:2] == losses[0] and losses[2] == losses[1]
    world = [*TINY_WORLD, *SMALL_NETWORK, "--save_dir", str(tmp_path / "models")]
    for num_epochs in ("1", "2"):
        assert main([*world, "--num_epochs", num_epochs, *(["--resume"] if num_epochs == "2" else [])], stage="world") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1", "epoch 1", "epoch 2"] and lines[1].partition(" s")[0] in lines[0]


WAITS_IN_A_CALLBACK = """
import os, signal, sys, weakref
class Lamp: pass
lamp = Lamp()
ends = weakref.ref(lamp, lambda _: os.kill(os.getpid(), signal.SIGINT) or [None for _ in range(100_000)])
del lamp
print("the interrupt was lost")
"""


def test_an_interrupt_is_not_lost_where_python_ignores_it(tmp_path) -> None:
    (tmp_path / "interrupting.py").write_text(WAITS_IN_A_CALLBACK)
    code = "import lightbulb.apps.main_menu as m; m._run = lambda *_: __import__('interrupting') and 0; raise SystemExit(m.main([]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nlightbulb: interrupted\n")


@pytest.mark.parametrize("after", [0.0, 0.7, 1.4, 2.5])
def test_an_interrupt_while_models_are_loaded_is_one_line(after: float, tmp_path) -> None:
    with subprocess.Popen(
        command("--task", "test_agent", "--query", "Who?", "--save_dir", str(tmp_path)), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        first = process.stderr.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130 and "loading" in first
    assert all(line.startswith("  ") or line in ("", "lightbulb: interrupted") for line in rest.splitlines()), rest


def test_a_text_that_cannot_be_continued_is_one_line_and_the_next_is_asked_for(monkeypatch, capsys) -> None:
    def write(text: str) -> str:
        if "long" in text: raise ValueError("too many tokens")
        return " burns"

    prompts = iter(["", "a long text", "the lamp", "quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(prompts))
    assert continue_texts(lambda: write, "") == 0
    shown = capsys.readouterr()
    assert shown.err == "lightbulb: too many tokens\n" and shown.out.endswith("the lamp burns\n")
    with pytest.raises(LightbulbError, match="too many tokens"):
        continue_texts(lambda: write, "a long text")


def test_a_model_of_another_world_is_refused(world_run, capsys) -> None:
    assert main(["--mode", "inference", "--environment", "connect_four", "--save_dir", str(world_run[0])], stage="world") == 2
    assert "holds a model of tic_tac_toe, not of connect_four" in capsys.readouterr().err


def test_both_stages_share_one_folder_and_resume_begins_what_had_not_begun(tmp_path) -> None:
    (tmp_path / "lamps.txt").write_text("The lamp burns oil. " * 200)
    words = [
        "--model_name",
        "bytes",
        "--width",
        "32",
        "--num_heads",
        "2",
        "--num_layers",
        "1",
        "--num_experts",
        "2",
        "--max_length",
        "32",
        "--dataset_name",
        str(tmp_path / "lamps.txt"),
    ]
    common = ["--task", "train_llm_world", *TINY_WORLD, "--num_epochs", "1", *words, "--save_dir", str(tmp_path / "models")]
    first = run(*common, "--stage", "lm")
    assert first.returncode == 0 and not (tmp_path / "models" / "world_model").exists(), first.stderr
    with subprocess.Popen(
        command(*common, "--stage", "both", "--resume"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics, begin = tmp_path / "models" / "world_model" / "metrics.jsonl", time.monotonic()
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            assert time.monotonic() - begin < 200 and process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130 and "interrupted" in rest
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"language_model", "world_model"}


def test_help_of_both_programs_and_the_task_is_quick(tmp_path) -> None:
    for arguments, program, names in (
        ([], "lightbulb_WM.py", [*WORLD_DEFAULTS, "losses.kl"]),
        (["--task", "train_llm_world"], "main_menu.py", [*WORLD_DEFAULTS, "stage", "dataset_name"]),
    ):
        shown = subprocess.run(
            [sys.executable, "-X", "importtime", str(ROOT / program), *arguments, "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=100,
        )
        assert all(f"--{name}" in shown.stdout for name in names)
        loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines() if line.startswith("import time:")}
        assert "tyro" in loaded and not loaded & {"torch", "gymnasium", "transformers", "accelerate"}


@pytest.mark.parametrize(
    "command",
    [[f"main_menu.py --task {task}"] for task in ("train_llm_world", "train_agent", "test_agent")]
    + [["lightbulb_LM.py"], ["lightbulb_WM.py"]],
    ids=lambda command: command[0],
)
def test_help_says_what_each_flag_is_for(command: list[str]) -> None:
    words = [sys.executable, *command[0].split(), "--help"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "100"}).stdout
    flags = [" ".join(entry.split("\n")) for entry in re.split(r"\n│ (?=--)", shown)[1:]]
    assert len(flags) > 15
    meanings = {flag.split()[0]: re.split(r"[ │]{2,}", flag, maxsplit=1)[1] for flag in flags}
    assert not [name for name, meaning in meanings.items() if not re.search(r"[a-z]{2}", meaning.partition("(default")[0])]


def test_a_reader_that_has_read_enough_ends_help_without_a_traceback() -> None:
    command = f"{sys.executable} -m lightbulb --task test_agent --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("usage:") and not done.stderr


def test_a_training_that_nobody_watches_tells_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    "No bar is drawn into a file, and a training is not silent for minutes either."
    monkeypatch.setattr(language_model_commands, "SECONDS_BETWEEN_LINES", 0.05)
    with language_model_commands.training_bar() as bar:
        for step in (1, 2):
            bar.total, bar.n = 4000, 1000 * step
            bar.set_postfix_str("loss 2.5")
            time.sleep(0.06)
    assert capsys.readouterr().err == "  step 2,000 of 4,000: loss 2.5\n"


def test_a_terminal_that_tells_no_width_shows_the_bar() -> None:
    code = "from lightbulb.apps.language_model_commands import training_bar\nbar = training_bar()\n"
    code += "bar.total, bar.n = 4, 2\nbar.set_postfix_str('loss 2.5')\n"
    width = "import fcntl, struct, termios; fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack('HHHH', 0, 0, 0, 0))\n"
    parent, child = os.openpty()
    subprocess.run([sys.executable, "-c", width + code], cwd=ROOT, stderr=child, timeout=120, check=True)
    os.close(child)
    assert b"2/4" in os.read(parent, 4000)
