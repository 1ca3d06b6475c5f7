"""Countdown without a search: a network learns from its own searches, beside the same seconds of what it had learned from before.

The network of `planners.py --network small` was taught by exhaustive search, which says of every move whether the target can still be
reached. From there, at equal CPU-seconds: that teaching gone on; search targets of problems that the search solved, checked by the exact
reward alone; the same with PPO on the network's own games, held near to where it began. The settings of the search were chosen on
validation problems; the table is of test problems. Runs are kept in the cache by a digest, so a stopped benchmark goes on: a run that
was stopped in its middle continues from its last round.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _countdown_model import FIRST, MOST, SECOND, CountdownNetwork, Settings, Teacher, losses, trained_network
from _table import Table
from planners import NETWORKS
from torch import nn

from lightbulb.core.checkpoint import write_atomically
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import moments
from lightbulb.core.runtime import limit_threads
from lightbulb.planning.plain_search import MCTSConfig
from lightbulb.world.distillation import Distillation, distill_search, play_out
from lightbulb.world.text_environments import Countdown, CountdownWorld

ROOT = Path(__file__).resolve().parents[1]
SEARCHED = Distillation(
    MCTSConfig(64, 4.0),
    num_rounds=16,
    games_per_round=1024,
    steps_per_round=100,
    rounds_kept=16,
    learning_rate=2.5e-3,
    least_return=1.0,
)
METHODS: dict[str, Distillation | None] = {  # None: as before, only longer
    "as before, only longer": None,
    "search targets": SEARCHED,
    "search targets and PPO": replace(SEARCHED, ppo_weight=0.5, kl_weight=0.02),
}
CHOSEN = "search targets and PPO"
DRAWS = 8  # of the measure that draws


class Problems(CountdownWorld):
    "Training problems of three and four numbers, as the teacher draws them; what is seen are the numbers and the target."

    def __init__(self) -> None:
        super().__init__(Countdown(MOST))
        self.observation_shape = (MOST + 1,)

    def reset(self, num_games: int, seed: int) -> np.ndarray:
        "New problems."
        teacher, rows = Teacher(seed), []
        while len(rows) < num_games:
            numbers, targets = teacher.problem()
            rows.append([*numbers, *[0] * (MOST - len(numbers)), targets[0]])
        return np.array(rows)

    def observe(self, states: np.ndarray) -> np.ndarray:
        "The states themselves: no number here is too large for a float."
        return states.astype(np.float32)


class Player(nn.Module):
    "The network as distillation asks it: logits, and the chance that the target can be reached."

    def __init__(self, network: CountdownNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        "(B, 5) → (B, 24), (B,)"
        states = observations.long()
        numbers, targets = states[:, :MOST], states[:, MOST]
        a, b = numbers[:, FIRST], numbers[:, SECOND]
        quotients = torch.where((a > 0) & (b % a.clamp(min=1) == 0), b // a.clamp(min=1), 0)
        outcomes = torch.stack([a + b, a * b, (b - a).clamp(min=0), quotients], -1) * ((a > 0) & (b > 0))[..., None]
        logits, value = self.network(numbers, targets, outcomes)
        return logits.clamp(min=-1e9), value.sigmoid()


def problems(size: int, count: int, split: Any) -> np.ndarray:
    "Held-out problems as states."
    drawn = Countdown(size).problems(split, count)
    return np.array([[*map(int, problem.data[0]), *[0] * (MOST - size), int(problem.data[1])] for problem in drawn])


def examine(player: Player, world: Problems, sets: dict[int, np.ndarray]) -> dict[str, list[float]]:
    "For each size, what each problem earned: by the likeliest moves, and drawn, the mean of several draws."
    earned = {}
    for size, states in sets.items():
        generator = torch.Generator().manual_seed(size)
        earned[f"{size} greedy"] = play_out(player, world, states).tolist()
        earned[f"{size} drawn"] = np.mean([play_out(player, world, states, generator=generator) for _ in range(DRAWS)], 0).tolist()
    return earned


class Clock:
    "CPU-seconds of a run over all the times that it was stopped: as much as was noted, and what this process spent since."

    def __init__(self, folder: Path) -> None:
        self.path, self.begin = folder / "seconds.json", time.process_time()
        self.before = json.loads(self.path.read_text()) if self.path.exists() else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.process_time() - self.begin

    def note(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, lambda file: file.write(json.dumps(self.seconds).encode()))


NOTED_EVERY = 10.0  # CPU-seconds of the longer teaching


def go_on(player: Player, seconds: float, seed: int, settings: Settings, learning_rate: float, folder: Path) -> tuple[int, float]:
    "Teach as before, for so many CPU-seconds; returns the number of steps and the seconds."
    teacher, steps, path = Teacher(1000 + seed), 0, folder / "teaching.pt"
    optimizer = torch.optim.AdamW(player.parameters(), learning_rate, weight_decay=0.01)
    spent = 0.0
    if path.exists():
        state = torch.load(path, weights_only=False)
        player.load_state_dict(state["player"])
        optimizer.load_state_dict(state["optimizer"])
        teacher.rng.setstate(state["teacher"])
        steps, spent = state["steps"], state["seconds"]
    begin, noted = time.process_time() - spent, spent
    player.train()
    while (spent := time.process_time() - begin) < seconds:
        if spent - noted > NOTED_EVERY:
            noted, parts = spent, {"player": player.state_dict(), "optimizer": optimizer.state_dict()}
            state = {**parts, "teacher": teacher.rng.getstate(), "steps": steps, "seconds": spent}
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file, state=state: torch.save(state, file))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - spent / seconds)
        policy, value = losses(player.network, teacher.batch(settings.batch_size))
        optimizer.zero_grad()
        (policy + value).backward()
        nn.utils.clip_grad_norm_(player.parameters(), 1.0)
        optimizer.step()
        steps += 1
    player.eval()
    return steps, spent


def teach(
    start: Player, method: Distillation | None, seconds: float, seed: int, settings: Settings, folder: Path
) -> tuple[Player, dict[str, float]]:
    "A taught copy; and its steps of gradient, CPU-seconds, and what the searches of the first and the last round reached."
    player = copy.deepcopy(start)
    if method is None:
        steps, spent = go_on(player, seconds, seed, settings, SEARCHED.learning_rate, folder)
        return player, {"steps": steps, "seconds": spent}
    clock, config = Clock(folder), replace(method, seed=seed, save_every=0.0)
    for _ in distill_search(player, Problems(), config, save_dir=folder, resume=bool(moments(folder))):
        clock.note()
    rounds = MetricsFile(folder / "metrics.jsonl").read()
    first, last = (float(rounds[i]["searched_return"] or 0.0) for i in (0, -1))
    return player, {"steps": len(rounds) * method.steps_per_round, "seconds": clock.seconds, "first": first, "last": last}


def digest(*parts: Any) -> str:
    "Of settings, and of the code that decides how a run goes."
    names = ("lightbulb/world/distillation.py", "lightbulb/world/losses.py", "lightbulb/planning/mcts.py", "lightbulb/rl/ppo.py")
    files = [ROOT / name for name in names] + [Path(__file__).with_name("_countdown_model.py")]
    code = [ast.dump(ast.parse(path.read_text("utf-8"))) for path in files]
    return hashlib.sha256(repr((parts, code)).encode()).hexdigest()[:16]


def kept(folder: Path, name: str, work: Callable[[], Any]) -> Any:
    "The result of `work`, from the cache if it is there."
    path = folder / f"distillation-{name}.json"
    if not path.exists():
        path.write_text(json.dumps(work()))
    return json.loads(path.read_text())


def ratio(after: np.ndarray, before: np.ndarray) -> tuple[float, float, float]:
    "Of two shares over the same problems, with a 95% interval by the bootstrap over problems."
    rows = np.random.default_rng(0).integers(0, len(after), (4000, len(after)))
    low, high = np.quantile(after[rows].mean(1) / before[rows].mean(1).clip(1e-9), (0.025, 0.975))
    return float(after.mean() / before.mean()), float(low), float(high)


def words(each: np.ndarray) -> str:
    "Shares of several seeds: their mean, and each."
    shares = each.mean(1)
    return f"{shares.mean():.1%}" + (f" ({', '.join(f'{share:.1%}' for share in shares)})" if len(shares) > 1 else "")


def compare(table: Table, runs: dict[str, list[dict[str, Any]]], before: dict[str, np.ndarray]) -> None:
    "Rows of each measure: before, after each way, and how many times as good that is."
    for measure, first in before.items():
        what = f"{measure.split()[0]} numbers, {'likeliest moves' if 'greedy' in measure else 'drawn once'}"
        table.row(f"{what}: before", f"{first.mean():.1%}")
        control = np.array([run["earned"][measure] for run in runs["as before, only longer"]]).mean(0)
        for method, seeds in runs.items():
            each = np.array([run["earned"][measure] for run in seeds])  # (seeds, problems)
            times, low, high = ratio(each.mean(0), first)
            text = f"{words(each)}; {times:.2f} × ({low:.2f} to {high:.2f}) before"
            if method == "as before, only longer":
                table.row(f"{what}: {method}", text)
                continue
            beside, under, over = ratio(each.mean(0), control)
            table.row(
                f"{what}: {method}",
                f"{text}; {beside:.2f} × ({under:.2f} to {over:.2f}) the longer teaching",
                "≥ 1.3 × before, ≥ the longer teaching" if method == CHOSEN else "",
                times >= 1.3 and beside >= 1 if method == CHOSEN else None,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: one seed, few rounds, 60 problems")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--problems", type=int, default=1000, help="test problems of each size")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true", help="judge on validation problems, as settings were chosen")
    options = parser.parse_args()
    methods = METHODS
    if options.quick:
        options.seeds, options.problems = 1, 60
        methods = {name: method and replace(method, num_rounds=3) for name, method in METHODS.items()}
    limit_threads(1)
    settings = NETWORKS["small"]
    network, notes = trained_network(settings)
    start, world = Player(network), Problems()
    split = "validation" if options.validation else "test"
    sets = {size: problems(size, options.problems, split) for size in (3, 4)}
    before = {name: np.array(earned) for name, earned in examine(start, world, sets).items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    for seed in range(options.seeds):
        dearest = 0.0
        for name in sorted(methods, key=lambda name: methods[name] is None):  # what is compared at equal seconds comes last
            method = methods[name]

            decides = (method and asdict(method), seed, dearest if method is None else 0)
            folder = settings.folder / f"distilled-{digest(*decides)}"

            def work(
                method: Distillation | None = method, seed: int = seed, seconds: float = dearest, folder: Path = folder
            ) -> dict[str, Any]:
                player, measured = teach(start, method, seconds, seed, settings, folder)
                return measured | {"earned": examine(player, world, sets)}

            run = kept(settings.folder, digest(*decides, split, options.problems), work)
            runs[name].append(run)
            dearest = max(dearest, run["seconds"])
    table = Table("Countdown without a search, distilled")
    table.row("the network before: parameters; CPU-s of its teaching", f"{notes['parameters']:,}; {notes['seconds']:.0f}")
    for name, seeds in runs.items():
        mean = lambda what, seeds=seeds: float(np.mean([run[what] for run in seeds]))
        games = f"; searches reached {mean('first'):.0%} at first, {mean('last'):.0%} at last" if "first" in seeds[0] else ""
        table.row(f"{name}: CPU-s, {len(seeds)} seeds", f"{mean('seconds'):.0f}; {mean('steps'):,.0f} steps{games}")
    compare(table, runs, before)
    table.note(
        f"{options.problems} {split} problems of each size, whose numbers no training problem has; *drawn once* is the mean of {DRAWS} "
        "draws. The longer teaching has as many CPU-seconds as the dearest other way of its seed, and exhaustive search's answers for "
        "every move, which the searches and the games do not see: where such answers can be had they teach the likeliest moves better. "
        f"The network before learned for {notes['seconds']:.0f} CPU-s, where an hour of two cores is allowed: what is added to such a "
        "network is not shown, so the aim is to be as good as the longer teaching, too. "
        "Intervals: 95%, bootstrap over problems of the mean over seeds. "
        f"Settings: {json.dumps(asdict(SEARCHED))}."
    )
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
