"""Prioritized replay beside torchrl, cpprb, tianshou and a naive Python tree: cycles of sample and update, and what a capacity costs."""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from _table import Table, peer_environment
from _torchrl import load_torchrl

from lightbulb.rl.priorities import apply_priorities, draw
from lightbulb.rl.replay import PrioritizedReplayMemory
from lightbulb.rl.sum_tree import SumTree

ALPHA, BETA, EPSILON, BATCH = 0.6, 0.4, 1e-6, 256


def arguments() -> argparse.Namespace:
    "The usual flags, and the interpreter that has the peers."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer capacities and rounds")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument(
        "--peer-python",
        type=Path,
        help="an interpreter that has torchrl, cpprb and tianshou beside lightbulb's dependencies; everything runs in it",
    )
    return parser.parse_args()


Cycle = Callable[[], Any]


class Experience:
    "Transitions like CartPole's, their priorities, and the priorities that updates write."

    def __init__(self, capacity: int, num_batches: int = 200) -> None:
        rng = np.random.default_rng(0)
        self.capacity = capacity
        self.rows = {
            "observation": rng.random((capacity, 4), np.float32),
            "action": rng.integers(0, 2, capacity),
            "reward": rng.random(capacity, np.float32),
            "next_observation": rng.random((capacity, 4), np.float32),
            "terminated": rng.random(capacity) < 0.01,
        }
        self.priorities = rng.random(capacity)
        self.updates = itertools.cycle(list(rng.random((num_batches, BATCH))))
        self.strata = itertools.cycle(list((np.arange(BATCH) + rng.random((num_batches, BATCH))) / BATCH))
        self.row = {name: array[0] for name, array in self.rows.items()}


# ------------------------------------------------------------------ whole memories: cycle of sample and update, and one add


def lightbulb(data: Experience) -> tuple[Cycle, Cycle]:
    memory = PrioritizedReplayMemory(data.capacity, ALPHA, BETA, beta_steps=None, epsilon=EPSILON)
    memory.extend(data.rows, priorities=data.priorities)

    def cycle() -> None:
        sample = memory.sample(BATCH)
        memory.update_priorities(sample, next(data.updates))

    return cycle, lambda: memory.add(data.row)


def compiled_calls(data: Experience) -> Cycle:
    "What no Python could do without: the memory's two compiled calls, with buffers made once and no tensors."
    memory = PrioritizedReplayMemory(data.capacity, ALPHA, BETA, beta_steps=None, epsilon=EPSILON)
    memory.extend(data.rows, priorities=data.priorities)
    slots, tree, largest = memory.slots, memory.slots.tree, memory.slots.largest
    indices, serials, weights, copies = slots.sample(BATCH, BETA)

    def cycle() -> None:
        draw(tree.cells, tree.starts, slots.words, slots.random, BETA, -1.0, indices, serials, weights, copies)
        apply_priorities(
            tree.cells,
            tree.starts,
            tree.bits,
            slots.measured,
            largest.cells,
            largest.starts,
            slots.words,
            indices,
            serials,
            data.capacity,
            next(data.updates),
            EPSILON,
            ALPHA,
            tree.limit,
        )

    return cycle


def torchrl(data: Experience) -> tuple[Cycle, Cycle]:
    load_torchrl()
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, PrioritizedReplayBuffer

    memory = PrioritizedReplayBuffer(alpha=ALPHA, beta=BETA, eps=EPSILON, storage=LazyTensorStorage(data.capacity), batch_size=BATCH)
    memory.extend(TensorDict({name: torch.from_numpy(array) for name, array in data.rows.items()}, batch_size=[data.capacity]))
    memory.update_priority(torch.arange(data.capacity), torch.from_numpy(data.priorities).float())
    updates = itertools.cycle([torch.from_numpy(next(data.updates)).float() for _ in range(200)])
    one = TensorDict({name: torch.as_tensor(value) for name, value in data.row.items()}, batch_size=[])

    def cycle() -> None:
        _, info = memory.sample(return_info=True)
        memory.update_priority(info["index"], next(updates))

    return cycle, lambda: memory.add(one)


def cpprb(data: Experience) -> tuple[Cycle, Cycle]:
    from cpprb import PrioritizedReplayBuffer

    memory = PrioritizedReplayBuffer(
        data.capacity,
        {name: {"shape": array.shape[1:] or 1, "dtype": array.dtype} for name, array in data.rows.items()},
        alpha=ALPHA,
        eps=EPSILON,
    )
    memory.add(**data.rows, priorities=data.priorities)

    def cycle() -> None:
        sample = memory.sample(BATCH, beta=BETA)
        memory.update_priorities(sample["indexes"], next(data.updates))

    return cycle, lambda: memory.add(**data.row)


def tianshou(data: Experience) -> tuple[Cycle, Cycle]:
    from tianshou.data import Batch
    from tianshou.data import PrioritizedReplayBuffer as Memory

    memory = Memory(data.capacity, alpha=ALPHA, beta=BETA)
    names = {"obs": "observation", "act": "action", "rew": "reward", "obs_next": "next_observation", "terminated": "terminated"}
    one = Batch(**{theirs: data.row[ours] for theirs, ours in names.items()}, truncated=False)
    memory.add(one)
    for theirs, ours in names.items():
        getattr(memory._meta, theirs)[:] = data.rows[ours]
    memory._size = data.capacity  # it has no way to add many
    memory.weight[np.arange(data.capacity)] = data.priorities**ALPHA

    def cycle() -> None:
        _, indices = memory.sample(BATCH)
        memory.update_weight(indices, next(data.updates))

    return cycle, lambda: memory.add(one)


# ------------------------------------------------------------------ trees alone: find, read, update


def our_tree(data: Experience) -> Cycle:
    tree = SumTree(data.capacity)
    tree.update(np.arange(data.capacity), data.priorities)

    def cycle() -> None:
        indices = tree.find(next(data.strata) * tree.total)
        tree[indices]
        tree.update(indices, next(data.updates))

    return cycle


def torchrl_tree(data: Experience, kind: str = "Fp32") -> Cycle:
    tree = getattr(load_torchrl()[0], f"SumSegmentTree{kind}")(data.capacity)
    dtype = np.float32 if kind == "Fp32" else np.float64
    tree[np.arange(data.capacity)] = data.priorities.astype(dtype)
    strata = itertools.cycle([next(data.strata).astype(dtype) for _ in range(200)])
    updates = itertools.cycle([next(data.updates).astype(dtype) for _ in range(200)])

    def cycle() -> None:
        indices = tree.scan_lower_bound(next(strata) * dtype(tree.query(0, data.capacity)))
        tree[indices]
        tree[indices] = next(updates)

    return cycle


def tianshou_tree(data: Experience) -> Cycle:
    from tianshou.data import SegmentTree

    tree = SegmentTree(data.capacity)
    tree[np.arange(data.capacity)] = data.priorities

    def cycle() -> None:
        indices = tree.get_prefix_sum_idx(next(data.strata) * tree.reduce())
        tree[indices]
        tree[indices] = next(data.updates)

    return cycle


def naive_tree(data: Experience) -> Cycle:
    "The tree of many tutorials: a Python list, one item at a time."
    size = 1 << (data.capacity - 1).bit_length()
    tree = [0.0] * size + data.priorities.tolist() + [0.0] * (size - data.capacity)
    for node in range(size - 1, 0, -1):
        tree[node] = tree[2 * node] + tree[2 * node + 1]

    def cycle() -> None:
        for share, priority in zip(next(data.strata).tolist(), next(data.updates).tolist(), strict=True):
            point, node = share * tree[1], 1
            while node < size:
                node *= 2
                if point >= tree[node]:
                    point -= tree[node]
                    node += 1
            tree[node] = priority
            while node > 1:
                node //= 2
                tree[node] = tree[2 * node] + tree[2 * node + 1]

    return cycle


MEMORIES = {"lightbulb": lightbulb, "torchrl": torchrl, "cpprb": cpprb, "tianshou": tianshou}
TREES = {
    "lightbulb": our_tree,
    "torchrl float32 (its default)": torchrl_tree,
    "torchrl float64": lambda data: torchrl_tree(data, "Fp64"),
    "tianshou": tianshou_tree,
    "naive Python": naive_tree,
}


def interleaved(cycles: dict[str, Cycle], rounds: int, repeats: int = 100, untimed: int = 20) -> dict[str, float]:
    "CPU-microseconds a cycle of each contender in its best tenth of rounds; they take turns, so that a disturbance meets all."
    taken: dict[str, list[float]] = {name: [] for name in cycles}
    for cycle in cycles.values():
        cycle()
    gc.disable()
    for _ in range(rounds):
        for name, cycle in cycles.items():
            for _ in range(untimed):
                cycle()  # the caches hold the last contender's memory
            start = time.process_time()
            for _ in range(repeats):
                cycle()
            taken[name].append((time.process_time() - start) / repeats * 1e6)
    gc.enable()
    return {name: float(np.quantile(times, 0.1)) for name, times in taken.items()}


def build(makers: dict[str, Any], data: Experience, table: Table) -> dict[str, Any]:
    "Those contenders that are installed; a row says which are not."
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make(data)
        except ImportError as error:
            table.row(f"{name}, 2^{data.capacity.bit_length() - 1}", f"absent ({error})")
    return made


def compare(table: Table, quick: bool) -> None:
    "All contenders at 2^20."
    data, rounds = Experience(2**20), 12 if quick else 60
    memories = build(MEMORIES, data, table)
    times = interleaved({name: cycle for name, (cycle, _) in memories.items()} | {"floor": compiled_calls(data)}, rounds)
    floor = times.pop("floor")
    for name, taken in times.items():
        ratio = taken / times["lightbulb"]
        ours = name == "lightbulb"
        table.row(
            f"memory, sample and update, {name}",
            f"{taken:.1f} µs" + ("" if ours else f", {ratio:.1f} × lightbulb's"),
            "" if ours else "≥ 10 ×",
            None if ours else ratio >= 10,
        )
    beyond = ", ".join(f"{name} {taken / floor:.1f} ×" for name, taken in times.items() if name != "lightbulb")
    table.row(
        "floor: lightbulb's two compiled calls without any Python around them (no tensors made, nothing allocated)",
        f"{floor:.1f} µs; {beyond}",
    )
    times = interleaved({name: add for name, (_, add) in memories.items()}, rounds)
    table.row("memory, one add", ", ".join(f"{name} {taken:.1f}" for name, taken in times.items()) + " µs")
    del memories
    gc.collect()
    trees = build(TREES, data, table)
    naive = trees.pop("naive Python")
    times = interleaved(trees, rounds)
    times |= interleaved({"naive Python": naive}, 5, 5, 1)
    for name, taken in times.items():
        ratio = taken / times["lightbulb"]
        aim = name.startswith("torchrl float32")
        table.row(
            f"tree alone, find, read and update, {name}",
            f"{taken:.1f} µs" + ("" if name == "lightbulb" else f", {ratio:.1f} × lightbulb's"),
            "≥ 4 ×" if aim else "",
            ratio >= 4 if aim else None,
        )


def grow(table: Table, quick: bool) -> None:
    "What capacity costs."
    for exponent in (14, 22) if quick else (14, 16, 18, 20, 22, 24):
        data = Experience(2**exponent)
        trees = build({name: TREES[name] for name in ("lightbulb", "torchrl float32 (its default)")}, data, table)
        made = {"memory": lightbulb(data)[0], **trees}
        times = interleaved(made, 12 if quick else 40)
        theirs = times.get("torchrl float32 (its default)")
        beside = f", torchrl's {theirs:.1f} µs ({theirs / times['lightbulb']:.1f} ×)" if theirs else ""
        table.row(f"capacity 2^{exponent}", f"memory {times['memory']:.1f} µs, tree alone {times['lightbulb']:.1f} µs{beside}")
        del made, trees
        gc.collect()


def drift(table: Table, num_updates: int) -> None:
    "Many updates over many orders of magnitude, then the total beside the exact sum and the cells beside a fresh tree's."
    rng, capacity, size = np.random.default_rng(1), 2**20 - 3, 4096
    tree = SumTree(capacity)
    indices = [rng.integers(0, capacity, size) for _ in range(64)]
    priorities = [10.0 ** rng.uniform(-8, 8, size) for _ in range(61)]
    for step in range(-(-num_updates // size)):
        tree.update(indices[step % 64], priorities[step % 61])
    fresh = SumTree(capacity)
    fresh.update(np.arange(capacity), tree.leaves)
    exact = math.fsum(tree.leaves)
    error = abs(tree.total - exact) / exact
    table.row(
        f"{num_updates:.0e} updates, total against the exact sum",
        f"relative error {error:.1e}",
        "≤ 4.4e-15 (20 roundings)",
        error <= 20 * 2.0**-52,
    )
    table.row(
        f"{num_updates:.0e} updates, cells that differ from a fresh tree's",
        f"{int((tree.cells != fresh.cells).sum())}",
        "0",
        tree.cells.tobytes() == fresh.cells.tobytes(),
    )


# ------------------------------------------------------------------ what priorities are good for


def cliffwalk(num_states: int, alpha: float, seed: int) -> int:
    "Updates of tabular Q-learning until the mean squared error is below 0.001 on Schaul's Blind Cliffwalk (2016, section 3.1)."
    states = np.repeat(np.arange(num_states), 2 ** (num_states - 1 - np.arange(num_states)))
    memory = PrioritizedReplayMemory(2 * len(states), alpha, 0.0, beta_steps=None, epsilon=1e-4, seed=seed)
    memory.extend({"state": np.tile(states, 2), "action": np.repeat([0, 1], len(states))})
    discount, values = 1 - 1 / num_states, np.zeros((num_states + 1, 2))
    truth = np.stack([np.zeros(num_states), discount ** np.arange(num_states - 1, -1, -1)], 1)
    for update in itertools.count(1):
        batch, index, _ = memory.sample(1)
        state, action = int(batch["state"]), int(batch["action"])
        target = 0.0 if action == 0 else 1.0 if state == num_states - 1 else discount * values[state + 1].max()
        error = target - values[state, action]
        values[state, action] += error / 4
        memory.update_priorities(index, [abs(error)])
        if ((values[:-1] - truth) ** 2).mean() < 1e-3: return update
    raise AssertionError


def noisy_chain(alpha: float, beta: float, seed: int, num_updates: int = 40_000) -> float:
    "TD(0) on a random walk of 7 states whose rewards are noisy: root mean squared distance from the memory's own solution."
    rng, num_states = np.random.default_rng(seed), 7
    state = rng.integers(0, num_states, 5000)
    following = state + rng.choice([-1, 1], 5000)
    ended = (following < 0) | (following == num_states)
    reward = np.where(following == num_states, 1.0, np.where(following < 0, -1.0, 0.0)) + rng.normal(size=5000)
    memory = PrioritizedReplayMemory(5000, alpha, beta, beta_steps=None, seed=seed)
    memory.extend({"state": state, "following": np.clip(following, 0, num_states - 1), "ended": ended, "reward": reward})
    values = np.zeros(num_states)
    for _ in range(num_updates // 32):
        sample = memory.sample(32)
        at, after, over, gain = (sample.batch[name].numpy() for name in ("state", "following", "ended", "reward"))
        errors = gain + np.where(over, 0.0, values[after]) - values[at]
        weights = sample.weights.numpy()
        np.add.at(values, at, 0.02 * weights / weights.mean() * errors)  # equal steps for all
        memory.update_priorities(sample, np.abs(errors))
    here, there = np.eye(num_states)[state], np.eye(num_states)[np.clip(following, 0, num_states - 1)] * ~ended[:, None]
    solution = np.linalg.solve(here.T @ (here - there), here.T @ reward)
    return float(np.sqrt(((values - solution) ** 2).mean()))


def learning(table: Table, quick: bool) -> None:
    "A task where priorities should help, and one where they should not."
    for num_states in (6, 8) if quick else (6, 8, 10):
        uniform, prioritized = (
            float(np.median([cliffwalk(num_states, alpha, seed) for seed in range(3 if quick else 5)])) for alpha in (0.0, 1.0)
        )
        table.row(
            f"Blind Cliffwalk, {num_states} states: updates until learned",
            f"uniform {uniform:.0f}, prioritized {prioritized:.0f} ({uniform / prioritized:.1f} × fewer)",
            "fewer",
            prioritized < uniform,
        )
    seeds = range(5 if quick else 20)
    errors = {
        name: [noisy_chain(alpha, beta, seed) for seed in seeds]
        for name, alpha, beta in (("uniform", 0.0, 0.0), ("prioritized, β = 0", 0.6, 0.0), ("prioritized, β = 1", 0.6, 1.0))
    }
    table.row(
        "random walk with noisy rewards, where errors are no surprise: distance from the memory's solution after 40,000 updates",
        ", ".join(f"{name} {np.mean(values):.3f} ± {np.std(values) / len(values) ** 0.5:.3f}" for name, values in errors.items()),
    )


def main() -> int:
    options = arguments()
    if options.peer_python and options.peer_python.absolute() != Path(sys.executable).absolute():
        os.execve(options.peer_python, [str(options.peer_python), *sys.argv], peer_environment())
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    table = Table(f"Prioritized replay, batch {BATCH}, one thread", ("numba", "torchrl", "tensordict", "cpprb", "tianshou"))
    compare(table, options.quick)
    grow(table, options.quick)
    learning(table, options.quick)
    drift(table, 10**7 if options.quick else 10**8)
    try:
        table.note(f"torchrl's C++ trees: {load_torchrl()[1]}.")
    except ImportError:
        pass
    table.note(
        f"Memories hold CartPole-like transitions and return them with importance weights (alpha {ALPHA}, beta {BETA}); "
        "CPU time, tenth percentile of interleaved rounds of 20 cycles untimed and 100 timed (the machine had other work), one "
        "process. Trees are given points and "
        "priorities ready-made. All memories give back all fields of the batch: lightbulb and torchrl as tensors, cpprb and tianshou "
        "as arrays, tianshou with three more."
    )
    return table.finish(options.record)


if __name__ == "__main__": raise SystemExit(main())
