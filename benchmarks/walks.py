"""Walks between rooms beside single moves, learned by tables: what interrupting a walk and exploring step by step are worth.

python benchmarks/walks.py --record
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import mean

import numpy as np
from _table import Table, arguments
from defaults import GOALS
from hierarchy import CORNER, DISCOUNT, EPISODES, best_returns, house, interval

from lightbulb.rl.four_rooms import CELLS
from lightbulb.rl.hierarchy import HierarchyConfig, rarely_tried

SETTINGS, RATE = HierarchyConfig(), 0.1


@dataclass(frozen=True)
class Way:
    "How to learn."

    kind: str = "both"  # walks and moves, or moves
    interrupts: bool = False
    even_steps: bool = False


def annealed(count: float, steps: float, final: float) -> float:
    return final + (1 - final) * max(0.0, 1 - count / steps)


class Tables:
    "A manager over cells, a worker over options and cells; both learn by Q-learning, single moves from every step."

    def __init__(self, way: Way, goal: int, seed: int) -> None:
        self.way, self.rng, self.world = way, np.random.default_rng(seed), house(way.kind, goal)()
        size, moves = self.world.num_options, self.world.num_actions
        self.manager, self.worker = np.zeros((len(CELLS), size)), np.zeros((size, len(CELLS), moves))
        self.runs, self.steps = np.zeros(size), np.zeros(size)

    def values(self) -> np.ndarray:
        "Of the options that are open here."
        return np.where(self.world.manager_view().available, self.manager[self.world.observation], -np.inf)

    def explore(self) -> tuple[int, int]:
        "An option, and how often it is repeated."
        available = self.world.manager_view().available
        if self.way.even_steps:
            odds = available / np.maximum(1, (1 + self.steps) / (1 + self.runs)) / np.sqrt(1 + self.steps)
            option = int(self.rng.choice(len(odds), p=odds / odds.sum()))
        else:
            option = rarely_tried(available, self.runs, self.rng)
        is_repeated = not self.way.even_steps or option in self.world.single_moves
        return option, int(self.rng.zipf(SETTINGS.repeat_exponent)) - 1 if is_repeated else 0

    def move(self, option: int, epsilon: float) -> int:
        "The worker's action."
        open_ = np.flatnonzero(self.world.worker_view(option).available)
        if len(open_) == 1 or self.rng.random() < epsilon: return int(self.rng.choice(open_))
        row = self.worker[option, self.world.observation]
        return int(self.rng.choice(np.flatnonzero(row == row.max())))

    def can_go_on(self, option: int, length: int, explores: bool) -> bool:
        "Is the option neither too long nor interrupted?"
        if length >= SETTINGS.max_option_steps: return False
        values = self.values()
        return explores or not self.way.interrupts or not np.isfinite(values[option]) or values.max() <= values[option]

    def learn(self, total: int) -> None:
        "So many low-level steps."
        world, count = self.world, 0
        while count < total:
            world.reset(int(self.rng.integers(2**31)))
            over, repeats, option = False, 0, 0
            while not over and count < total:
                cell, explores = world.observation, bool(repeats) and bool(world.manager_view().available[option])
                if explores:
                    repeats -= 1
                elif explores := self.rng.random() < annealed(count, total // 2, SETTINGS.manager_epsilon):
                    option, repeats = self.explore()
                else:
                    values, repeats = self.values(), 0
                    option = int(self.rng.choice(np.flatnonzero(values == values.max())))
                self.runs[option] += 1
                length, earned, goes_on = 0, 0.0, True
                while goes_on:
                    before = world.observation
                    move = self.move(option, annealed(self.runs[option], SETTINGS.worker_exploration, SETTINGS.worker_epsilon))
                    step = world.step(option, move)
                    count, length, earned = count + 1, length + 1, earned + DISCOUNT**length * step.reward
                    self.steps[option] += 1
                    over = step.terminated or step.truncated
                    ahead = 0.0 if step.terminated else self.values().max()
                    inside = 0.0 if step.option_ended or step.terminated else self.worker[option, world.observation].max()
                    row = self.worker[option, before]
                    row[move] += RATE * (step.worker_reward + DISCOUNT * inside - row[move])
                    if option not in world.single_moves:
                        single = world.single_moves[move]
                        self.manager[before, single] += RATE * (step.reward + DISCOUNT * ahead - self.manager[before, single])
                    goes_on = not over and not step.option_ended and self.can_go_on(option, length, explores)
                self.manager[cell, option] += RATE * (earned + DISCOUNT**length * ahead - self.manager[cell, option])

    def play(self, number: int, max_steps: int = 200) -> float:
        "The discounted return of an episode at its best."
        self.world.reset(10_000 + number)
        option, length = -1, 0
        for time in range(max_steps):
            if option < 0 or not self.can_go_on(option, length, False):
                option, length = int(self.values().argmax()), 0
            view = self.world.worker_view(option).available
            move = int(np.where(view, self.worker[option, self.world.observation], -np.inf).argmax())
            step, length = self.world.step(option, move), length + 1
            if step.terminated: return DISCOUNT**time * step.reward
            if step.option_ended:
                option = -1
        return 0.0


def main() -> int:
    asked = arguments(__doc__ or "", data=False)
    table = Table("Walks beside single moves, by tables", ("gymnasium",))
    seeds, total = (range(1), 2_000) if asked.quick else (range(6), SETTINGS.total_steps)
    for goal in GOALS:
        best, plain = best_returns(goal, CORNER, EPISODES).mean(), 0.0
        ways = {"single moves": Way("moves"), "walks and moves": Way(), "interrupted": Way(interrupts=True)}
        ways |= {"even steps": Way(even_steps=True), "interrupted, even steps": Way(interrupts=True, even_steps=True)}
        for name, way in ways.items():
            shares = []
            for seed in seeds:
                learner = Tables(way, goal, seed)
                learner.learn(total)
                shares.append(mean(learner.play(number) for number in range(EPISODES)) / best)
            low, high = interval(shares)
            plain = mean(shares) if name == "walks and moves" else plain
            aim = "" if name in ("single moves", "walks and moves") or asked.quick else f"above {plain:.3f}, walks and moves"
            measured = f"{mean(shares):.3f} (median within {low:.3f} to {high:.3f})"
            table.row(f"goal {CELLS[goal]}, {name}: share of the best return", measured, aim, mean(shares) > plain if aim else None)
    table.note(
        f"{len(seeds)} seeds of {total:,} low-level steps; the schedules are those of HierarchyConfig, learning rate {RATE}. Both ideas "
        f"were looked at on the goal {CELLS[GOALS[0]]} alone."
    )
    return table.finish(asked.record)


if __name__ == "__main__":
    sys.exit(main())
