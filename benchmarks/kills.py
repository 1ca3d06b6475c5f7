"""Kill trainings with signal 9 at random moments and resume them: what was acknowledged stays, and the end is the unbroken run's.

    python benchmarks/kills.py --kills 1000 --record

Each training is a process of its own that tells each report through a pipe; it is forked from one that has trained the same before, so
that libraries, models and compiled kernels are there already and a life lasts a second. Kills come at moments drawn evenly over a whole
life: start-up, steps, evaluations, writes and renames. After each: every evaluation that was reported has its moment on the disk and can
be loaded; with a moment after each step, at most one report has none, else at most `--save_every` seconds, one step and one save lie
between the newest moment and the kill, in the training's own CPU-seconds. Then the run is resumed and perhaps killed again. Where it
ends, its metrics (but for speed) and its weights must be those of a run that nobody killed, to the last bit, and no unfinished file may
be left. Language model, world model, PPO, and a manager with its worker are tried. Finished runs are kept in the cache folder with a
digest of the code that does all the saving, so that a stopped benchmark goes on; `--record` writes the rows into RESULTS.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from _killed import told_by
from _table import Table

from lightbulb.core.checkpoint import load_checkpoint
from lightbulb.core.report import MetricsFile, StepReport
from lightbulb.core.run_folder import MODEL_FILE, TRAINING_FILE, moments
from lightbulb.core.runtime import cache_folder
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
    rows = lambda: (
        {"step": report.step, "split": report.split, "at": time.process_time()} for report in train(save_dir, resume, save_every / 60)
    )
    reports, ended = told_by(rows, seconds)
    return Life(ended, reports)


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


@dataclass(frozen=True)
class Killed:
    "One run that was killed and resumed until it ended as the unbroken one does."

    training: str
    save_every: float  # seconds between moments
    num_kills: int
    num_unfinished: int  # of them inside a write
    cost: float  # CPU-seconds of work that a kill cost at most
    num_reports: int
    duration: float  # wall seconds of the unbroken run


class Trial:
    "One training, the unbroken run that all others are compared with, and runs that are killed."

    def __init__(self, name: str, place: Path, save_every: float, chance: random.Random) -> None:
        self.name, self.train, self.place, self.save_every, self.chance = name, TRAININGS[name], place, save_every, chance
        for folder in ("first", "whole"):
            (place / folder).mkdir(parents=True)
        for _ in self.train(place / "first", False, 0.0):  # in this process: whatever is loaded or compiled is there when it forks
            pass
        begin = time.monotonic()
        whole = live(self.train, place / "whole", resume=False, save_every=save_every, seconds=None)
        self.duration = time.monotonic() - begin
        self.wanted, self.slack = outcome(run_folder(place / "whole")), 5 * whole.longest_gap + 0.5

    def kill(self, most: int) -> Killed:
        "One run, killed at most so often; `AssertionError` if anything was lost or is not as in the unbroken run."
        save_dir, num_kills, num_unfinished, costs = self.place / "run", 0, 0, [0.0]
        save_dir.mkdir()
        while True:
            folder = run_folder(save_dir)
            resume = folder.is_dir() and bool(step_of(folder))
            seconds = self.chance.uniform(0.0, self.duration) if num_kills < most else None
            life = live(self.train, save_dir, resume=resume, save_every=self.save_every, seconds=seconds)
            if life.ended: break
            num_kills += 1
            num_unfinished += bool(list(save_dir.rglob("*.tmp")))
            costs.append(judge_kill(life, run_folder(save_dir), self.save_every, self.slack))
        folder = run_folder(save_dir)
        rows, model = outcome(folder)
        assert rows == self.wanted[0], f"{folder}: the metrics are not those of the unbroken run"
        for part in model.keys() & {"weights", "average", "network", "manager", "worker"}:
            assert equal(model[part], self.wanted[1][part]), f"{folder}: its {part} is not that of the unbroken run"
        assert not list(folder.rglob("*.tmp")), f"{folder}: an unfinished file was left"
        shutil.rmtree(save_dir)
        return Killed(self.name, self.save_every, num_kills, num_unfinished, max(costs), len(rows), self.duration)


def kept_runs() -> Path:
    "The file of finished runs of this code: what writes moments, metrics and models, and what reads them again."
    package = Path(__file__).resolve().parents[1] / "lightbulb" / "core"
    saving = [package / f"{name}.py" for name in ("run", "run_folder", "checkpoint", "records", "report")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in saving)).hexdigest()[:16]
    return cache_folder("benchmarks", "kills") / f"{digest}.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a dozen kills, and none that was made before")
    parser.add_argument("--kills", type=int, default=1000, help="of all trainings together")
    parser.add_argument("--trainings", nargs="+", choices=list(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each training at most; the run under way is finished")
    parser.add_argument("--save_every", type=float, default=0.0, help="seconds between moments; 0: after each step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted, file = 12 if args.quick else args.kills, kept_runs()
    lines = file.read_text("utf-8").splitlines() if file.exists() and not args.quick else []
    earlier = [run for run in (Killed(**json.loads(line)) for line in lines) if run.save_every == args.save_every]
    table, saving = Table("Kills at random moments"), f"every {args.save_every} s" if args.save_every else "after each step"
    for number, name in enumerate(args.trainings):
        kills = wanted // len(args.trainings) + (number < wanted % len(args.trainings))
        runs, deadline = [run for run in earlier if run.training == name], time.monotonic() + 60 * args.minutes
        left = lambda: kills - sum(run.num_kills for run in runs)  # noqa: B023 - called in this round only
        with tempfile.TemporaryDirectory() as room:
            chance = random.Random(f"{args.seed} {name} {len(runs)}")
            trial = Trial(name, Path(room) / name, args.save_every, chance) if left() > 0 else None
            while trial is not None and left() > 0 and time.monotonic() < deadline:
                runs.append(trial.kill(left()))
                if not args.quick:
                    with file.open("a", encoding="utf-8") as place:
                        place.write(json.dumps(asdict(runs[-1])) + "\n")
        if not runs: continue
        made, inside, cost = (sum(run.num_kills for run in runs), sum(run.num_unfinished for run in runs), max(run.cost for run in runs))
        table.row(
            name.replace("_", " "),
            f"{made} kills, {inside} of them inside a write, in {len(runs)} runs of {runs[-1].num_reports} reports: all equal to the "
            f"unbroken one, at most {cost:.2f} CPU-s of work lost with a moment {saving}",
            f"{kills} kills, nothing acknowledged lost",
            made >= kills,
        )
    table.note("Equal: metrics but for speed, and weights, to the last bit. A run that is not ends this script with an error and no table.")
    table.note(
        "Moments are drawn by the clock, evenly over the seconds that the unbroken run took: a life that other work slowed down was killed "
        "earlier in it and, as it was resumed, more often."
    )
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
