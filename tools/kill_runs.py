"""Kill trainings with signal 9 at random moments and resume them: what was acknowledged stays, and the end is the unbroken run's.

    python tools/kill_runs.py --kills 1000

Each training is a process of its own that tells each report through a pipe; it is forked from one that has trained the same before, so
that libraries, models and compiled kernels are there already and a life lasts a second. Kills come at moments drawn evenly over a whole
life: start-up, steps, evaluations, writes and renames. After each: every evaluation that was reported has its moment on the disk and can
be loaded; with a moment after each step, at most one report has none, else at most `--save_every` seconds, one step and one save lie
between the newest moment and the kill, in the training's own CPU-seconds. Then the run is resumed and perhaps killed again. Where it
ends, its metrics (but for speed) and its weights must be those of a run that nobody killed, to the last bit, and no unfinished file may
be left. Language model, world model, PPO, and a manager with its worker are tried.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lightbulb.core.checkpoint import load_checkpoint
from lightbulb.core.report import MetricsFile, StepReport
from lightbulb.core.run_folder import MODEL_FILE, TRAINING_FILE, moments
from lightbulb.lm.training import TrainLanguageModel, train_language_model
from lightbulb.rl.four_rooms import four_rooms
from lightbulb.rl.hierarchy import HierarchyConfig, train_hierarchy
from lightbulb.rl.ppo import PPOConfig, train_ppo
from lightbulb.rl.recurrent_q import RecurrentQConfig
from lightbulb.world.training import TrainWorldModel, train_world_model

Train = Callable[[Path, bool, float], Iterator[StepReport]]  # save_dir, whether to resume, minutes between moments


def language_model(save_dir: Path, resume: bool, save_every: float) -> Iterator[StepReport]:
    text = save_dir / "text.txt"
    if not text.is_file():
        text.write_text("".join(f"lamp {number} burns oil number {number * number % 17}.\n" for number in range(60)))
    yield from train_language_model(
        TrainLanguageModel(
            save_dir=save_dir,
            resume=resume,
            save_every=save_every,
            device="cpu",
            dataset_name=str(text),
            model_name="bytes",
            width=16,
            num_heads=2,
            num_layers=1,
            max_length=32,
            batch_size=8,
            accumulation_steps=1,
            num_epochs=3,
            dropout=0.1,
            average_decay=0.9,
            learning_rate=1e-2,
        )
    )


def world_model(save_dir: Path, resume: bool, save_every: float) -> Iterator[StepReport]:
    yield from train_world_model(
        TrainWorldModel(
            save_dir=save_dir,
            resume=resume,
            save_every=save_every,
            device="cpu",
            environment="tic_tac_toe",
            num_epochs=3,
            steps_per_epoch=4,
            random_games=30,
            width=16,
            hidden=32,
            batch_size=1,
            accumulation_steps=2,
            first_play=3,
            play_interval=2,
            renewed_positions=16,
            games_per_play=4,
            capacity=300,
            mcts_algorithm="gumbel",
            mcts_iterations=4,
        )
    )


def ppo(save_dir: Path, resume: bool, save_every: float) -> Iterator[StepReport]:
    config = PPOConfig(
        total_steps=1024,
        num_envs=4,
        rollout_length=16,
        num_epochs=2,
        num_minibatches=2,
        hidden=(16,),
        evaluation_interval=256,
        evaluation_episodes=2,
        save_every=save_every,
        device="cpu",
    )
    yield from train_ppo("CartPole-v1", config, save_dir=save_dir / "ppo", resume=resume)


def hierarchy(save_dir: Path, resume: bool, save_every: float) -> Iterator[StepReport]:
    level = RecurrentQConfig(hidden=8, batch_size=8, unroll=4, burn_in=2, min_sequences=4, capacity=300)
    config = HierarchyConfig(
        total_steps=300,
        manager=level,
        worker=level,
        num_envs=2,
        steps_per_update=8,
        report_interval=10,
        save_every=save_every,
        worker_remembers=True,
        device="cpu",
    )
    yield from train_hierarchy(lambda: four_rooms("both"), config, save_dir=save_dir / "hierarchy", resume=resume)


TRAININGS: dict[str, Train] = {"language_model": language_model, "world_model": world_model, "ppo": ppo, "hierarchy": hierarchy}


@dataclass
class Life:
    "What a training told before it ended or was killed."

    ended: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list)  # step, split, at: CPU-seconds of its process

    def at_step(self, step: int) -> float | None:
        "When a step was reported; None if it was not in this life."
        return next((report["at"] for report in self.reports if report["step"] == step and report["split"] == "train"), None)

    @property
    def longest_gap(self) -> float:
        "CPU-seconds between two reports at most."
        times = [report["at"] for report in self.reports]
        return max((later - earlier for earlier, later in zip(times, times[1:], strict=False)), default=0.0)


def live(train: Train, save_dir: Path, *, resume: bool, save_every: float, seconds: float | None) -> Life:
    "Train in a process of its own, and kill it after so many seconds."
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            for report in train(save_dir, resume, save_every / 60):
                row = {"step": report.step, "split": report.split, "at": time.process_time()}
                os.write(writer, json.dumps(row).encode() + b"\n")
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent reads what went wrong
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(status)
    os.close(writer)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    life = Life()
    with os.fdopen(reader, "rb") as pipe:
        life.reports = [json.loads(line) for line in _whole_lines(pipe)]
    _, status = os.waitpid(child, 0)
    life.ended = os.WIFEXITED(status)
    if life.ended and os.WEXITSTATUS(status): raise SystemExit(f"the training in {save_dir} failed")
    return life


def _whole_lines(pipe: BinaryIO) -> Iterator[bytes]:
    return (line for line in pipe.read().split(b"\n")[:-1] if line)


def run_folder(save_dir: Path) -> Path:
    "The only folder that a training made."
    return next((place for place in save_dir.iterdir() if place.is_dir()), save_dir / "nothing")


def step_of(folder: Path) -> int:
    "The step of the newest moment that can be resumed; 0 if there is none."
    resumable = [folder / moment.name for moment in moments(folder) if (folder / moment.name / TRAINING_FILE).is_file()]
    if not resumable: return 0
    load_checkpoint(resumable[-1] / MODEL_FILE)
    training = load_checkpoint(resumable[-1] / TRAINING_FILE)["training"]
    return int(training["step"] if "step" in training else training["agent"]["num_steps"])


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    "What a finished run is judged by: its metrics without speeds, and its newest model."
    rows = [
        {name: value for name, value in row.items() if name != "tokens_per_second"} for row in MetricsFile(folder / "metrics.jsonl").read()
    ]
    return rows, load_checkpoint(folder / moments(folder)[-1].name / MODEL_FILE)


def equal(one: Any, other: Any) -> bool:
    "Whether two states are the same to the last bit; paths may differ."
    if isinstance(one, torch.Tensor): return torch.equal(one, other)
    if isinstance(one, dict): return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple): return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def judge_kill(life: Life, folder: Path, save_every: float, slack: float) -> float:
    "CPU-seconds of work that a kill cost. `AssertionError` if something acknowledged is lost or too much work is."
    kept = step_of(folder)
    evaluated = [report["step"] for report in life.reports if report["split"] == "validation"]
    assert kept >= max(evaluated, default=0), f"an evaluation at step {evaluated[-1]} was reported, and step {kept} is kept"
    unkept = [report for report in life.reports if report["split"] == "train" and report["step"] > kept]
    assert save_every or len(unkept) <= 1, f"every report has a moment before the next one, and {len(unkept)} have none"
    last = life.reports[-1]["step"] if life.reports else 0
    if kept >= last: return 0.0
    since = life.at_step(kept)
    if since is None:
        since = life.reports[0]["at"]  # what is kept is older than this life
    lost = life.reports[-1]["at"] - since
    assert lost <= save_every + slack, f"{lost:.2f} s of work were lost, steps {kept} to {last}"
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="of all trainings together")
    parser.add_argument("--trainings", nargs="+", choices=list(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each training at most; the run under way is finished")
    parser.add_argument("--save_every", type=float, default=0.0, help="seconds between moments; 0: after each step")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as room:
        for number, name in enumerate(args.trainings):
            train, kills = TRAININGS[name], args.kills // len(args.trainings) + (number < args.kills % len(args.trainings))
            place = Path(room) / name
            for folder in ("first", "whole"):
                (place / folder).mkdir(parents=True)
            for _ in train(place / "first", False, 0.0):  # in this process: whatever is loaded or compiled is there when it forks
                pass
            begin = time.monotonic()
            whole = live(train, place / "whole", resume=False, save_every=args.save_every, seconds=None)
            duration = time.monotonic() - begin
            wanted, slack = outcome(run_folder(place / "whole")), 5 * whole.longest_gap + 0.5
            num_kills, num_unfinished, num_runs, costs = 0, 0, 0, [0.0]
            deadline = time.monotonic() + 60 * args.minutes
            wants_more = lambda: num_kills < kills and time.monotonic() < deadline  # noqa: B023 - called in this round only
            while wants_more():
                save_dir = place / f"run_{num_runs}"
                save_dir.mkdir()
                num_runs += 1
                while True:
                    folder = run_folder(save_dir)
                    resume = folder.is_dir() and bool(step_of(folder))
                    seconds = chance.uniform(0.0, duration) if wants_more() else None
                    life = live(train, save_dir, resume=resume, save_every=args.save_every, seconds=seconds)
                    if life.ended: break
                    num_kills += 1
                    num_unfinished += bool(list(save_dir.rglob("*.tmp")))
                    costs.append(judge_kill(life, run_folder(save_dir), args.save_every, slack))
                folder = run_folder(save_dir)
                rows, model = outcome(folder)
                assert rows == wanted[0], f"{folder}: the metrics are not those of the unbroken run"
                for part in model.keys() & {"weights", "average", "network", "manager", "worker"}:
                    assert equal(model[part], wanted[1][part]), f"{folder}: its {part} is not that of the unbroken run"
                assert not list(folder.rglob("*.tmp")), f"{folder}: an unfinished file was left"
                shutil.rmtree(save_dir)
            print(
                f"{name} | {num_kills} kills, {num_unfinished} of them inside a write, in {num_runs} runs of {len(wanted[0])} reports and "
                f"{duration:.2f} s: all equal to the unbroken one, at most {max(costs):.2f} CPU-s of work lost with a moment "
                f"{f'every {args.save_every} s' if args.save_every else 'after each step'} | yes",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
