"""PPO beside Stable-Baselines3 and a plain loop: CartPole, Acrobot, FrozenLake against dynamic programming, a maze for memory.

Every run is a process of its own (`_ppo_runs.py`). Finished runs are kept under .cache/ with a hash of the code that made them, so that an
interrupted benchmark goes on where it stopped and a changed line of code runs everything again. Stable-Baselines3 may live in
another environment: `--peer-python PATH`; where it is absent its rows say so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _ppo_runs import best_lake_value
from _table import Table

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / "benchmarks/_ppo_runs.py", *(ROOT / f"lightbulb/rl/{name}.py" for name in ("advantages", "policies", "vector_environments", "ppo"))]
RUNS = ROOT / ".cache" / "ppo_runs.jsonl"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: one or two seeds, no Acrobot")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has stable-baselines3")
    parser.add_argument("--only", choices=["cartpole", "acrobot", "lake", "maze"], help="one part, not recorded")
    return parser.parse_args()


class Runner:
    "Runs of `_ppo_runs.py`, each made once for the code as it is."

    def __init__(self, peer_python: str) -> None:
        self.peer_python, self.code = peer_python, hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]
        self.known = {}
        if RUNS.exists():
            for line in RUNS.read_text("utf-8").splitlines():
                entry = json.loads(line)
                self.known[entry["key"]] = entry
        has_sb3 = subprocess.run([peer_python, "-c", "import stable_baselines3"], capture_output=True, check=False)
        self.has_sb3 = has_sb3.returncode == 0

    def run(self, task: str, algorithm: str, seed: int, **overrides: Any) -> dict[str, Any] | None:
        "One run's seconds, steps and returns; None where the peer is absent."
        if algorithm.startswith("sb3") and not self.has_sb3: return None
        arguments = [task, algorithm, str(seed), json.dumps(overrides)]
        key = " ".join([*arguments, self.code])
        if key not in self.known:
            python = self.peer_python if algorithm.startswith("sb3") else sys.executable
            environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
            made = subprocess.run([python, "-W", "ignore", str(ROOT / "benchmarks/_ppo_runs.py"), *arguments], capture_output=True, text=True, env=environment, check=False)
            if made.returncode: raise RuntimeError(f"{task} {algorithm} {seed}: {made.stderr.strip().splitlines()[-1]}")
            self.known[key] = {"key": key} | json.loads(made.stdout.splitlines()[-1])
            RUNS.parent.mkdir(exist_ok=True)
            with RUNS.open("a", encoding="utf-8") as file: file.write(json.dumps(self.known[key]) + "\n")
        return self.known[key]

    def runs(self, task: str, algorithm: str, num_seeds: int, **overrides: Any) -> list[dict[str, Any]]:
        "All seeds, or nothing where the peer is absent."
        return [run for seed in range(num_seeds) if (run := self.run(task, algorithm, seed, **overrides))]


def interquartile_mean(values: np.ndarray) -> float:
    "The mean of the middle half (Agarwal et al. 2021), ends weighed by their share."
    ordered, n = np.sort(values), len(values)
    weights = np.clip(np.minimum(np.arange(1, n + 1), 0.75 * n) - np.maximum(np.arange(n), 0.25 * n), 0, None)
    return float((ordered * weights).sum() / weights.sum())


def interval(values: np.ndarray, num_draws: int = 5000) -> str:
    "95% bootstrap interval of the interquartile mean over seeds."
    draws = np.random.default_rng(0).integers(len(values), size=(num_draws, len(values)))
    low, high = np.percentile([interquartile_mean(values[draw]) for draw in draws], [2.5, 97.5])
    return f"{low:.1f} to {high:.1f}"


def column(runs: list[dict[str, Any]], name: str) -> np.ndarray: return np.array([run[name] for run in runs])


def cost(runs: list[dict[str, Any]]) -> str:
    seconds, steps = column(runs, "seconds"), column(runs, "steps")
    return f"{np.median(seconds):.1f} CPU-s ({seconds.min():.1f} to {seconds.max():.1f}), {steps.mean():,.0f} steps, {steps.sum() / seconds.sum():,.0f} steps a CPU-second"


def cartpole(runner: Runner, table: Table, quick: bool) -> None:
    seeds = 2 if quick else 20
    ours = runner.runs("CartPole-v1", "lightbulb", seeds)
    perfect = sum(min(run["returns"]) == 500 for run in ours)
    table.row(f"CartPole-v1, lightbulb: seeds of {seeds} with 500 in each of 100 episodes", str(perfect), str(seeds), perfect == seeds)
    table.row("CartPole-v1, lightbulb: cost, no stopping rule", cost(ours), "at most 5 CPU-s", float(np.median(column(ours, "seconds"))) <= 5)
    peers = {"sb3-tuned": ("Stable-Baselines3, its zoo's settings", 1 if quick else 5), "plain": ("plain loop, CleanRL's defaults", 1 if quick else 5)}
    for algorithm, (name, count) in peers.items():
        runs = runner.runs("CartPole-v1", algorithm, count)
        if not runs:
            table.row(f"CartPole-v1, {name}", "absent")
            continue
        means = [float(np.mean(run["returns"])) for run in runs]
        table.row(f"CartPole-v1, {name}, {count} seeds", f"{sum(min(run['returns']) == 500 for run in runs)} perfect, mean {np.mean(means):.0f}; {cost(runs)}")
        if algorithm == "sb3-tuned":
            faster = np.median(column(runs, "seconds")) / np.median(column(ours, "seconds"))
            table.row("CartPole-v1: CPU-seconds of Stable-Baselines3 / lightbulb", f"{faster:.2f}", "above 1", bool(faster > 1))
    same = {"num_envs": 8, "rollout_length": 32, "num_epochs": 20, "num_minibatches": 1, "learning_rate": 1e-3, "gae_lambda": 0.8}
    table.row("CartPole-v1, lightbulb with the zoo's settings: the same updates", cost(runner.runs("CartPole-v1", "lightbulb", 1 if quick else 3, **same)))


def acrobot(runner: Runner, table: Table, quick: bool) -> None:
    rows = {"lightbulb": ("lightbulb", 10), "sb3-default": ("Stable-Baselines3, its defaults", 3), "plain": ("plain loop, CleanRL's defaults", 5),
            "sb3-tuned": ("Stable-Baselines3, its zoo's settings", 3)}
    for algorithm, (name, count) in rows.items():
        runs = runner.runs("Acrobot-v1", algorithm, count)
        if not runs:
            table.row(f"Acrobot-v1, {name}", "absent")
            continue
        means = column(runs, "returns").mean(1)
        middle = interquartile_mean(means)
        aim, ok = ("at least −82", middle >= -82) if algorithm == "lightbulb" else ("", None)
        table.row(f"Acrobot-v1, {name}, {count} seeds: IQM (95% interval), cost", f"{middle:.1f} ({interval(means)}); {cost(runs)}", aim, ok)
    table.note("Acrobot-v1 as published: CleanRL's documentation −82.48 ± 5.93 at 500,000 steps (training episodes); the zoo's one run −73.5 at 1,000,000 steps.")


def lake(runner: Runner, table: Table, quick: bool) -> None:
    best, runs = best_lake_value(), runner.runs("FrozenLake-v1", "lightbulb", 1 if quick else 10)
    exact = column(runs, "exact")
    near = int((exact >= 0.99 * best).sum())
    table.row(f"FrozenLake-v1, exact value of the learned policy, no time limit: seeds of {len(runs)} within 1% of {best:.4f}",
              f"{near}; worst {exact.min():.4f}, mean {exact.mean():.4f}; {cost(runs)}", str(len(runs)), near == len(runs))
    within = column(runs, "returns").mean()
    table.row("the same policies in Gymnasium's 100 steps, 100 episodes each", f"{within:.3f} (the optimum there is 0.744)")


def maze(runner: Runner, table: Table, quick: bool) -> None:
    count = 1 if quick else 5
    with_memory, without = runner.runs("T-maze", "lightbulb", count), runner.runs("T-maze", "lightbulb", count, lstm_width=0)
    found = column(with_memory, "returns").mean(1)
    table.row(f"passive T-maze, length 100, with memory: worst of {count} seeds, 400 episodes", f"{found.min():.3f}; {cost(with_memory)}", "1.000", bool(found.min() == 1))
    blind = column(without, "returns").mean(1)
    table.row("passive T-maze, length 100, the same without memory", f"{blind.mean():.3f}; {cost(without)}", "0.5: chance", bool(abs(blind.mean() - 0.5) < 0.05))


def main() -> int:
    options = parse()
    runner, table = Runner(options.peer_python), Table("PPO", ("gymnasium", "numba", "stable_baselines3"))
    parts = {"cartpole": cartpole, "maze": maze, "lake": lake} | ({} if options.quick else {"acrobot": acrobot})
    for name, part in parts.items():
        if options.only in (None, name): part(runner, table, options.quick)
    table.note("CPU-seconds are medians over seeds, one thread, imports excluded; the final evaluation is not counted, evaluations during training are.")
    return table.finish(options.record and not options.only)


if __name__ == "__main__": sys.exit(main())
