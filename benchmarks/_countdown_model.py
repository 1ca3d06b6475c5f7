"""A small policy and value network for Countdown, taught by exhaustive search on the training numbers; kept in the cache by its digest."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lightbulb.core.runtime import cache_folder
from lightbulb.world.text_environments import Countdown, TextState, split_of

SIGNS = "+*-/"  # of a pair a ≤ b: a + b, a * b, b - a, b / a
MOST = 4  # numbers
PAIRS = list(combinations(range(MOST), 2))
FIRST, SECOND = (torch.tensor(side) for side in zip(*PAIRS, strict=True))
LARGEST = 2000  # values from here on share an embedding
Numbers = tuple[int, ...]
_results: dict[Numbers, frozenset[int]] = {}


@dataclass(frozen=True)
class Settings:
    "Of the network and its training."

    width: int = 96
    num_layers: int = 2
    batch_size: int = 384
    num_steps: int = 2000
    learning_rate: float = 3e-3
    seed: int = 0
    version: int = 1

    @property
    def folder(self) -> Path:
        return cache_folder("benchmarks", "countdown", hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16])


def moves(numbers: Numbers) -> list[tuple[int, int, Numbers]]:
    "Pair, operation, and the numbers left: positive whole numbers only."
    options = []
    for pair, (i, j) in enumerate(PAIRS):
        if j >= len(numbers): continue
        a, b = numbers[i], numbers[j]
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        results = [a + b, a * b, b - a if b > a else 0, b // a if b % a == 0 else 0]
        options += [(pair, sign, tuple(sorted([*rest, result]))) for sign, result in enumerate(results) if result]
    return options


def results(numbers: Numbers) -> frozenset[int]:
    "What all of the numbers can make: the environment's `results_of`, in whole numbers and quicker."
    if len(numbers) == 1: return frozenset(numbers)
    if numbers not in _results:
        if len(_results) > 500_000:
            _results.clear()
        _results[numbers] = frozenset().union(*(results(left) for left in {left for *_, left in moves(numbers)}))
    return _results[numbers]


class Teacher:
    "Labelled states below training problems: can they be solved, and by which moves."

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"countdown teacher {seed}")

    def problem(self) -> tuple[Numbers, list[int]]:
        "Numbers of the training split, and a few targets that they can make."
        while True:
            count = self.rng.choice((3, 4, 4))
            numbers = tuple(sorted(self.rng.randint(1, 20) for _ in range(count)))
            if split_of(f"numbers {list(numbers)}") != "train": continue
            inside = sorted(result for result in results(numbers) if 10 <= result <= 100)
            if inside: return numbers, self.rng.sample(inside, min(4, len(inside)))

    def states(self) -> list[tuple[Numbers, int]]:
        "The problems, and states below them: half by moves that keep them solvable; never the numbers of a problem that is held out."
        numbers, targets = self.problem()
        states = []
        for target in targets:
            level = [numbers]
            states.append((numbers, target))
            while len(level[0]) > 1:
                below = []
                for _ in range(2 if len(level[0]) < len(numbers) else 4):
                    options = [left for *_, left in moves(self.rng.choice(level))]
                    good = [left for left in options if target in results(left)]
                    below.append(self.rng.choice(good if good and self.rng.random() < 0.5 else options))
                level = below
                states += [(left, target) for left in level if not self.is_held_out(left)]
        return states

    @staticmethod
    def is_held_out(numbers: Numbers) -> bool:
        "Could these numbers be a problem of the validation or test split?"
        return len(numbers) == 3 and numbers[-1] <= 20 and split_of(f"numbers {list(numbers)}") != "train"

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        "Inputs and labels."
        states: list[tuple[Numbers, int]] = []
        while len(states) < size:
            states += self.states()
        states = states[:size]
        solvable = torch.tensor([float(target in results(numbers)) for numbers, target in states])
        right = torch.zeros(size, len(PAIRS) * len(SIGNS))
        for row, (numbers, target) in enumerate(states):
            for pair, sign, left in moves(numbers) if solvable[row] and len(numbers) > 1 else []:
                right[row, pair * len(SIGNS) + sign] = float(target in results(left))
        return {**inputs(states), "solvable": solvable, "right": right}


def inputs(states: Sequence[tuple[Numbers, int]]) -> dict[str, torch.Tensor]:
    "numbers (B, 4), 0 where there is none; targets (B,); results of every pair's operations (B, 6, 4), 0 where there is none."
    numbers, outcomes = torch.zeros(len(states), MOST, dtype=torch.long), torch.zeros(len(states), len(PAIRS), len(SIGNS), dtype=torch.long)
    for row, (held, _) in enumerate(states):
        numbers[row, : len(held)] = torch.tensor(held)
        for pair, (i, j) in enumerate(PAIRS):
            if j >= len(held): continue
            a, b = held[i], held[j]
            outcomes[row, pair] = torch.tensor([a + b, a * b, max(b - a, 0), b // a if b % a == 0 else 0])
    return {"numbers": numbers, "targets": torch.tensor([target for _, target in states]), "outcomes": outcomes}


class CountdownNetwork(nn.Module):
    "A transformer over the target and the numbers: a logit for every operation on every pair, and one for *can be solved*."

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.values = nn.Embedding(LARGEST + 1, width)
        self.sizes = nn.Linear(2, width)
        self.is_target = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, settings.num_layers, enable_nested_tensor=False)
        self.norm, self.signs = nn.LayerNorm(width), nn.Embedding(len(SIGNS), width)
        self.pair, self.wanted, self.made = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.logit = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.value = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def embed(self, numbers: torch.Tensor) -> torch.Tensor:
        "(…) → (…, width)"
        size = torch.stack([torch.log1p(numbers.float()) / 5, (numbers.float() / 100).clamp(max=20)], -1)
        return self.values(numbers.clamp(max=LARGEST)) + self.sizes(size)

    def forward(self, numbers: torch.Tensor, targets: torch.Tensor, outcomes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        "Logits (B, 24), −inf where there is no such move; logits of being solvable (B,)."
        tokens = torch.cat([(self.embed(targets) + self.is_target)[:, None], self.embed(numbers)], 1)
        missing = torch.cat([torch.zeros_like(targets[:, None], dtype=torch.bool), numbers == 0], 1)
        hidden = self.norm(self.layers(tokens, src_key_padding_mask=missing))
        target, held = hidden[:, 0], hidden[:, 1:]
        first, second = (held[:, [pair[side] for pair in PAIRS]] for side in (0, 1))
        made = self.embed(outcomes)  # (B, 6, 4, width)
        mixed = self.pair(first + second)[:, :, None] + self.signs.weight + self.made(made) + self.wanted(target)[:, None, None]
        logits = self.logit(F.gelu(mixed)).squeeze(-1)
        return logits.masked_fill(outcomes == 0, -math.inf).flatten(1), self.value(target).squeeze(-1)


def losses(network: CountdownNetwork, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    "Cross-entropy of the policy with equal shares for all right moves, and of the value."
    logits, value = network(batch["numbers"], batch["targets"], batch["outcomes"])
    rows = batch["right"].sum(1) > 0
    shares = batch["right"][rows] / batch["right"][rows].sum(1, keepdim=True)
    policy = -(shares * F.log_softmax(logits[rows], 1).masked_fill(shares == 0, 0.0)).sum(1).mean()
    return policy, F.binary_cross_entropy_with_logits(value, batch["solvable"])


def trained_network(settings: Settings) -> tuple[CountdownNetwork, dict[str, Any]]:
    "The network and notes on its training, from the cache if it is there; a training that was stopped goes on."
    torch.manual_seed(settings.seed)
    network, teacher = CountdownNetwork(settings), Teacher(settings.seed)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.01)
    rate = lambda step: min(1.0, (step + 1) / 100) * max(0.02, 1 - step / settings.num_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    path = settings.folder / "network.pt"
    notes: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": [], "parameters": sum(p.numel() for p in network.parameters())}
    if path.exists():
        state = torch.load(path, weights_only=False)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        teacher.rng.setstate(state["teacher"])
        notes = state["notes"]
    start, before = time.process_time(), notes["seconds"]
    totals = [0.0, 0.0]
    while notes["step"] < settings.num_steps:
        policy, value = losses(network, teacher.batch(settings.batch_size))
        optimizer.zero_grad()
        (policy + value).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        totals = [total + loss.item() for total, loss in zip(totals, (policy, value), strict=True)]
        notes["step"] += 1
        if notes["step"] % 100 == 0 or notes["step"] == settings.num_steps:
            notes["seconds"] = before + time.process_time() - start
            notes["curve"].append([notes["step"], *(total / 100 for total in totals)])
            print(
                f"  step {notes['step']}: policy {totals[0] / 100:.3f}, value {totals[1] / 100:.3f}, {notes['seconds']:.0f} CPU-s",
                flush=True,
            )
            totals = [0.0, 0.0]
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            part = path.with_suffix(".part")
            torch.save({**state, "teacher": teacher.rng.getstate(), "notes": notes}, part)
            part.replace(path)
    return network.eval(), notes


class NetworkPredict:
    "The network as the function that `plan_in` asks: what can be written, how probable, and the chance that a state can be solved."

    def __init__(self, network: CountdownNetwork, environment: Countdown) -> None:
        self.network, self.environment = network, environment
        self.known: dict[tuple[Numbers, int], tuple[list[tuple[str, float]], float]] = {}

    def __call__(self, states: Sequence[TextState]) -> list[tuple[list[tuple[str, float]], float]]:
        keys = [(tuple(int(number) for number in state.data), int(state.problem.data[1])) for state in states]
        unknown = {key: state for key, state in zip(keys, states, strict=True) if key not in self.known}
        if unknown:
            with torch.inference_mode():
                logits, values = self.network(**inputs(list(unknown)))
            chances = torch.sigmoid(values).tolist()
            logs = (torch.log_softmax(logits, 1) if logits.shape[1] else logits).tolist()
            for (key, state), row, chance in zip(unknown.items(), logs, chances, strict=True):
                self.known[key] = (self._named(state, key[0], row), chance)
        return [self.known[key] for key in keys]

    def know_all(self, state: TextState) -> None:
        "Ask about everything below in a few large batches: the answers are the same, only quicker."
        level = [state]
        while level:
            self(level)
            below = {self.environment.key(after): after for held in level for after in self._after(held)}
            level = list(below.values())

    def _after(self, state: TextState) -> list[TextState]:
        return [self.environment.act(state, action) for action in self.environment.actions(state)]

    def _named(self, state: TextState, numbers: Numbers, logs: list[float]) -> list[tuple[str, float]]:
        "Log-probability of each action of the environment; equal numbers share an action, whose probabilities are added."
        shares: dict[tuple[int, int, int], float] = {}
        for pair, sign, _ in moves(numbers):
            i, j = PAIRS[pair]
            name = (numbers[i], numbers[j], sign)
            shares[name] = shares.get(name, 0.0) + math.exp(logs[pair * len(SIGNS) + sign])
        named = []
        for action in self.environment.actions(state):
            first, sign, second = action.split()[:3]
            a, b = sorted((int(Fraction(first)), int(Fraction(second))))
            named.append((action, math.log(max(shares[a, b, SIGNS.index(sign)], 1e-12))))
        return named


if __name__ == "__main__":
    trained_network(Settings())
