"""Options: exact values reached, a new goal learned in a fraction of a flat agent's steps, and where prioritised replay helps.

Long runs are kept in the cache folder by a digest of their settings and of the learner's source, so that a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from _table import Table


from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.core.runtime import cache_folder
from lightbulb.rl.four_rooms import (
    CELLS,
    HALLWAYS,
    NUMBER,
    FourRooms,
    exact_house_values,
    four_rooms,
    tabular_hallway_options,
    tabular_primitive_options,
)
from lightbulb.rl.hierarchy import HierarchicalAgent, HierarchyConfig, train_hierarchy
from lightbulb.rl.options import ExpectedUpdate
from lightbulb.rl.recurrent_q import RecurrentQConfig
from lightbulb.rl.replay import PrioritizedReplayMemory

ROOT = Path(__file__).resolve().parents[1]
DISCOUNT, CORNER, SHARE = 0.9, NUMBER[1, 1], 0.9  # learned: nine tenths of the best return that any policy can earn
NUM_WALKERS = 1  # workers that were trained without a goal; seeds share them
EPISODES = 128  # of an evaluation
GOALS = {"eastern hallway": ("hallways", HALLWAYS["E"]), "inside the far room": ("both", NUMBER[9, 9])}
LEARNER = RecurrentQConfig(  # uniform replay: slips are noise
    hidden=64, layer_norm=False, learning_rate=3e-3, final_rate=1.0, target_rate=0.05, alpha=0.0, beta=1.0
)
PRIORITISED = replace(LEARNER, alpha=0.6, beta=0.4)
FLAT = RecurrentQConfig(
    hidden=32, layer_norm=False, learning_rate=3e-3, final_rate=1.0, target_rate=0.1
)  # the best that was found for the flat agents
SOURCES = ("rl/options.py", "rl/four_rooms.py", "rl/recurrent_q.py", "rl/hierarchy.py")


def kept(name: str, settings: object, work: Callable[[Path], dict]) -> dict:
    "The result of `work`, from the cache if the same settings and sources have run before."
    code = [ast.dump(ast.parse((ROOT / "lightbulb" / source).read_text("utf-8"))) for source in SOURCES]
    digest = hashlib.sha256(repr((name, settings, code)).encode()).hexdigest()[:16]
    path = cache_folder("benchmarks", "hierarchy") / f"{name}-{digest}.json"
    if not path.exists():
        path.write_text(json.dumps(work(path.with_suffix(".ckpt"))))
    return json.loads(path.read_text())


# ------------------------------------------------------------------ evaluation, many episodes at once


def greedy_returns(agent: HierarchicalAgent, make_env: Callable, num_episodes: int, max_steps: int = 200) -> tuple[np.ndarray, list]:
    "Discounted returns of episodes without exploration, and (cell, values, open) of every choice of the manager."
    worlds = [make_env() for _ in range(num_episodes)]
    for number, world in enumerate(worlds):
        world.reset(10_000 + number)
    manager, worker, actions = agent.manager.online, agent.worker.online, agent.num_actions
    manager_state, worker_state = manager.initial_state(num_episodes), worker.initial_state(num_episodes)
    option, length = np.full(num_episodes, -1), np.zeros(num_episodes, int)
    returns, alive, choices = np.zeros(num_episodes), np.ones(num_episodes, bool), []
    can_interrupt = agent.config.interrupts and 0 < np.count_nonzero(worlds[0].single_moves >= 0) < worlds[0].num_options
    for step in range(max_steps):
        if not alive.any(): break
        asking = [row for row in np.flatnonzero(alive) if option[row] < 0]
        if asking:
            views = [worlds[row].manager_view() for row in asking]
            with torch.no_grad():
                values, manager_state[asking] = manager(
                    torch.from_numpy(np.stack([view.observation for view in views]))[:, None], manager_state[asking]
                )
            for row, view, value in zip(asking, views, values[:, 0].numpy(), strict=True):
                choices.append((worlds[row].observation, value, view.available))
                option[row], length[row] = np.where(view.available, value, -np.inf).argmax(), 0
            worker_state[asking] = 0
        rows = np.flatnonzero(alive)
        views = {row: worlds[row].worker_view(option[row]) for row in rows}
        action = {row: int(view.available.argmax()) for row, view in views.items()}
        thinking = [row for row in rows if views[row].available.sum() > 1]
        if thinking:
            inside = [agent.model.inside(views[row], option[row]) for row in thinking]
            with torch.no_grad():
                values, worker_state[thinking] = worker(
                    torch.from_numpy(np.stack([view.observation for view in inside]))[:, None], worker_state[thinking]
                )
            for row, view, value in zip(thinking, inside, values[:, 0].numpy(), strict=True):
                action[row] = int(np.where(view.available, value, -np.inf).argmax()) % actions
        for row in rows:
            done = worlds[row].step(option[row], action[row])
            returns[row] += DISCOUNT**step * done.reward
            length[row] += 1
            alive[row] = not (done.terminated or done.truncated)
            if done.option_ended or length[row] >= agent.config.max_option_steps:
                option[row] = -1
        walking = [row for row in rows if alive[row] and option[row] >= 0] if can_interrupt else []
        if walking:  # whom the manager interrupts; its memory goes on from its last choice
            views = [worlds[row].manager_view() for row in walking]
            with torch.no_grad():
                values, _ = manager(torch.from_numpy(np.stack([view.observation for view in views]))[:, None], manager_state[walking])
            for row, view, value in zip(walking, views, values[:, 0].numpy(), strict=True):
                if view.available[option[row]] and value[view.available].max() > value[option[row]]:
                    option[row] = -1
    return returns, choices


def best_returns(goal: int, start: int | None, num_episodes: int, max_steps: int = 200) -> np.ndarray:
    "What the best policy over single moves earns with the same draws: an agent's return is read as a share of this."
    values, world, returns = exact_house_values(FourRooms(goal), "moves", DISCOUNT), house("moves", goal, start)(), np.zeros(num_episodes)
    for number in range(num_episodes):
        world.reset(10_000 + number)
        for step in range(max_steps):
            move = int(values[world.observation].argmax())
            done = world.step(move, move)
            returns[number] += DISCOUNT**step * done.reward
            if done.terminated: break
    return returns


def house(kind: str, goal: int | None, start: int | None = CORNER, given: bool = False, max_steps: int = 1000) -> Callable:
    return lambda: four_rooms(kind, goal, start, given_walks=given, max_steps=max_steps)


def interval(values: list[float], seed: int = 0) -> tuple[float, float]:
    "95% bootstrap interval of the median."
    draws = np.random.default_rng(seed).choice(np.asarray(values, float), (4000, len(values)))
    return tuple(np.quantile(np.median(draws, 1), (0.025, 0.975)))


# ------------------------------------------------------------------ exact values


def expected_update_error(kind: str, goal: int) -> float:
    "Largest difference between the expected SMDP update's fixed point and the exact option values."
    task = FourRooms(goal).task(DISCOUNT)
    exact = exact_house_values(FourRooms(goal), kind, DISCOUNT)
    walks, moves = tabular_hallway_options(FourRooms(goal), DISCOUNT), tabular_primitive_options()
    updates = [ExpectedUpdate(task, table) for table in {"hallways": walks, "moves": moves, "both": walks + moves}[kind]]
    values, open_ = np.zeros(len(CELLS)), np.isfinite(exact)
    for _ in range(400):
        updated = np.stack([update(values) for update in updates], 1)
        values = np.where(task.terminal, 0.0, np.where(open_, updated, -np.inf).max(1, initial=-np.inf))
    return float(np.abs(updated - np.where(open_, exact, updated)).max())


def lstm_value_error(seed: int, steps: int, start: int | None = None) -> dict:
    "Error of an LSTM manager's values over the hallway options, as a share of the exact ones, along its own episodes."
    goal, everywhere = HALLWAYS["E"], start is None
    learner = replace(LEARNER, batch_size=64, learning_rate=2e-3, target_rate=0.02, unroll=4, burn_in=2, capacity=60_000)
    config = HierarchyConfig(
        total_steps=steps,
        discount=DISCOUNT,
        manager=learner,
        worker=LEARNER,
        memory=True,
        steps_per_update=steps // 8000,
        max_option_steps=200,
        manager_epsilon=1.0 if everywhere else 0.7,
        repeat_exponent=0.0,
        report_interval=steps,
        seed=seed,
    )
    make_env = house("hallways", goal, start, given=True, max_steps=60 if everywhere else 100)

    def work(_: Path) -> dict:
        agent, begin = HierarchicalAgent.for_world(make_env(), config), time.process_time()
        for part in (4, 7, 9, 10):  # tenths, each part at a third of the rate before
            for report in train_hierarchy(make_env, replace(config, report_interval=steps // 10), agent=agent):
                if report.step >= steps * part // 10: break
            for group in agent.manager.optimizer.param_groups:
                group["lr"] /= 3.2
        returns, choices = greedy_returns(agent, make_env, 256)
        exact = exact_house_values(FourRooms(goal), "hallways", DISCOUNT)
        errors = np.concatenate([np.abs(value - exact[cell])[open_] for cell, value, open_ in choices])
        truths = np.concatenate([exact[cell][open_] for cell, _, open_ in choices])
        starts = []
        for number in range(256):
            world = make_env()
            world.reset(10_000 + number)
            starts.append(exact[world.observation].max())
        return {
            "error": float(errors.sum() / truths.sum()),
            "relative": float((errors / truths).mean()),
            "return": float(returns.mean() / np.mean(starts)),
            "seconds": time.process_time() - begin,
        }

    return kept("values" if start is None else f"values-from-{start}", asdict(config), work)


# ------------------------------------------------------------------ a new goal


def learn_walks(seed: int, steps: int) -> tuple[dict, Path]:
    "A worker trained in the house without any goal, its own reward only; how good it is, and the file with the agent."
    config = HierarchyConfig(
        total_steps=steps,
        discount=DISCOUNT,
        manager=replace(LEARNER, min_sequences=10**6),
        worker=LEARNER,
        steps_per_update=6,
        max_option_steps=40,
        manager_epsilon=1.0,
        worker_epsilon=0.5,
        worker_exploration=300,
        repeat_exponent=0.0,
        report_interval=steps,
        seed=seed,
    )
    make_env = house("hallways", None, None, max_steps=60)

    def work(path: Path) -> dict:
        agent, begin = HierarchicalAgent.for_world(make_env(), config), time.process_time()
        for part in (3, 6, 8, 10):  # tenths, each part at a third of the rate before
            for _report in train_hierarchy(make_env, replace(config, total_steps=steps * part // 10), agent=agent):
                pass
            for group in agent.worker.optimizer.param_groups:
                group["lr"] /= 3.2
            print(f"  walks, seed {seed}, {agent.num_steps} steps: {walk_share(agent, 1):.3f}", file=sys.stderr, flush=True)
        save_checkpoint(path, {"online": agent.worker.online.state_dict()})
        return {"walks": walk_share(agent), "seconds": time.process_time() - begin, "file": str(path)}

    result = kept("walks", asdict(config), work)
    return result, Path(result["file"])


def walk_share(agent: HierarchicalAgent, rounds: int = 2) -> float:
    "What the learned walks earn of the worker's own reward, as a share of the best walks', over all cells where they start."
    learned = best = 0.0
    for option in range(8):
        for start in np.flatnonzero(tabular_hallway_options(FourRooms(None))[option].initiation):
            for given in (False, True):
                for number in range(rounds):
                    world = house("hallways", None, int(start), given=given)()
                    world.reset(number)
                    state, total, scale = agent.worker.online.initial_state(), 0.0, 1.0
                    for _ in range(40):
                        view = world.worker_view(option)
                        action = int(view.available.argmax())
                        if not given:
                            inside = agent.model.inside(view, option)
                            values, state = agent.worker.values(inside.observation, state)
                            action = int(np.where(inside.available, values, -np.inf).argmax()) % 4
                        step = world.step(option, action)
                        total += scale * step.worker_reward
                        scale *= DISCOUNT
                        if step.option_ended: break
                    if given:
                        best += total
                    else:
                        learned += total
    return learned / best


METHODS = {  # options, changes of the config, which worker
    "hierarchy, walks learned before": (None, {"manager_exploration": 60, "manager_epsilon": 0.2, "learn_worker": False}, "learned"),
    "hierarchy, walks given": (None, {"manager_exploration": 60, "manager_epsilon": 0.2}, "given"),
    "hierarchy, walks given, prioritised": (None, {"manager_exploration": 60, "manager_epsilon": 0.2, "replay": PRIORITISED}, "given"),
    "flat, ε-greedy": ("moves", {"manager_exploration": 3000, "manager_epsilon": 0.1, "replay": FLAT}, "none"),
    "flat, εz-greedy": ("moves", {"manager_exploration": 3000, "manager_epsilon": 0.1, "repeat_exponent": 2.0, "replay": FLAT}, "none"),
}


def steps_to_learn(method: str, goal_name: str, seed: int, limit: int, walk_steps: int) -> dict:
    "Low-level steps until two evaluations in a row reach the share; `limit` if they never do."
    kind, changes, walks = METHODS[method]
    options, goal = GOALS[goal_name]
    options = kind or options
    changes = dict(changes)
    learner = changes.pop("replay", LEARNER)
    every = 100 if kind is None and walks != "none" else 500
    make_env = house(options, goal, given=walks == "given")
    config = HierarchyConfig(
        total_steps=limit,
        discount=DISCOUNT,
        manager=learner,
        worker=LEARNER,
        steps_per_update=2,
        max_option_steps=40,
        report_interval=every,
        seed=seed,
        **({"repeat_exponent": 0.0} | changes),
    )
    best = best_returns(goal, CORNER, EPISODES).mean()

    def work(_: Path) -> dict:
        agent, begin, curve = HierarchicalAgent.for_world(make_env(), config), time.process_time(), []
        if walks == "learned":
            give_walks(agent, load_checkpoint(learn_walks(seed % NUM_WALKERS, walk_steps)[1])["online"])
        for report in train_hierarchy(make_env, config, agent=agent):
            curve.append((report.step, float(greedy_returns(agent, make_env, EPISODES)[0].mean() / best)))
            if len(curve) > 1 and min(curve[-1][1], curve[-2][1]) >= SHARE: break
        reached = len(curve) > 1 and min(curve[-1][1], curve[-2][1]) >= SHARE
        return {"steps": curve[-2][0] if reached else limit, "reached": reached, "curve": curve, "seconds": time.process_time() - begin}

    return kept("new-goal", (method, options, goal, seed, limit, walk_steps if walks == "learned" else 0, asdict(config)), work)


def give_walks(agent: HierarchicalAgent, weights: dict[str, torch.Tensor]) -> None:
    "The worker's weights; where single moves follow the eight walks, their rows are never asked and stay empty."
    own = agent.worker.online.state_dict()
    hidden, walks, options = LEARNER.hidden, 8, agent.num_options
    for name, weight in weights.items():
        if own[name].shape == weight.shape:
            own[name] = weight
    own["embed.weight"][:, : len(CELLS) + walks] = weights["embed.weight"]
    for name in ("head.2.weight", "head.2.bias"):
        own[name][: walks * 4] = weights[name]
    assert own["embed.weight"].shape == (hidden, len(CELLS) + options)
    agent.worker.online.load_state_dict(own)


# ------------------------------------------------------------------ prioritised against uniform replay


def cliffwalk(length: int, alpha: float, seed: int, noise: float = 0.0, limit: int = 300_000) -> int:
    "Updates until a table is right about the blind cliffwalk (Schaul et al. 2016, section 3.1), every sequence of actions replayed."
    rng, rows = np.random.default_rng(seed), []
    for code in rng.permutation(2**length):
        for place in range(length):
            right, last = code >> place & 1, place == length - 1
            pays = float(right and last) if right else noise * rng.normal()  # with noise, falling pays a random sum of mean 0
            rows.append((place, right, pays, place + 1 if right and not last else -1))
            if not right: break
    place, right, pays, after = (np.array(column) for column in zip(*rows, strict=True))
    discount = 1 - 1 / length
    truth, values = discount ** np.arange(length - 1, -1, -1), rng.normal(0, 0.1, (length, 2))
    memory = PrioritizedReplayMemory(len(rows), alpha, 0.0, beta_steps=None, epsilon=1e-3, seed=seed)
    memory.extend({"row": np.arange(len(rows))})
    for update in range(1, limit + 1):
        sample = memory.sample(1)
        row = int(sample.batch["row"][0])
        error = pays[row] + (discount * values[after[row]].max() if after[row] >= 0 else 0.0) - values[place[row], right[row]]
        values[place[row], right[row]] += 0.25 * error
        memory.update_priorities(sample, np.array([abs(error)]))
        if update % 10 == 0 and np.square(values[:, 1] - truth).mean() < 1e-3: return update
    return limit


def cliffwalk_rows(table: Table, lengths: tuple[int, ...], seeds: int) -> None:
    for length in lengths:
        median = {
            key: np.median([cliffwalk(length, *key[:1], seed, noise=key[1]) for seed in range(seeds)])
            for key in ((0.0, 0.0), (0.6, 0.0), (1.0, 0.0))
        }
        table.row(f"blind cliffwalk of {length}: updates, uniform / α 0.6 / α 1", " / ".join(f"{value:.0f}" for value in median.values()))
    gain = median[0.0, 0.0] / median[1.0, 0.0]
    table.row(f"prioritised is faster on the cliffwalk of {lengths[-1]}", f"{gain:.1f} ×", "above 1", gain > 1)
    length = lengths[-1]
    noisy = [np.median([cliffwalk(length, alpha, seed, noise=0.5) for seed in range(seeds)]) for alpha in (0.0, 0.6, 1.0)]
    table.row(f"cliffwalk of {length}, falling pays noise (σ 0.5): uniform / α 0.6 / α 1", " / ".join(f"{value:.0f}" for value in noisy))
    table.note(NOISE)


# ------------------------------------------------------------------ the table


def steps_to(run: dict, share: float, never: int) -> int:
    "Steps at the first of two evaluations in a row that reach the share."
    curve = run["curve"]
    return next((step for (step, one), (_, two) in itertools.pairwise(curve) if min(one, two) >= share), never)


def goal_rows(table: Table, methods: dict[str, int], goal_name: str, seeds: int, walk_steps: int) -> None:
    "Medians, intervals, and the ratio that counts."
    runs, most = {}, max(methods.values())  # who never gets there counts as the flat agents' limit
    for method, limit in methods.items():
        runs[method] = [steps_to_learn(method, goal_name, seed, limit, walk_steps) for seed in range(seeds)]
        steps, last = [steps_to(run, SHARE, most) for run in runs[method]], [run["curve"][-1][1] for run in runs[method]]
        late = sum(not run["reached"] for run in runs[method])
        low, high = interval(steps)
        text = f"{np.median(steps):.0f} steps ({low:.0f} to {high:.0f})" if late < seeds else f"not within {limit} steps"
        table.row(
            f"goal {goal_name}: {method}",
            (
                f"{text}, {seeds - late} of {seeds} seeds, last share {np.mean(last):.2f}, "
                f"{np.mean([run['seconds'] for run in runs[method]]):.0f} CPU-s"
            ),
        )
    for share in (SHARE, 0.5):
        for own, flat in itertools.product(
            (name for name in methods if name in ("hierarchy, walks learned before", "hierarchy, walks given")),
            ("flat, ε-greedy", "flat, εz-greedy"),
        ):
            ratios = [steps_to(one, share, most) / steps_to(other, share, most) for one, other in zip(runs[own], runs[flat], strict=True)]
            low, high = interval(ratios)
            aim = ("≤ 0.200", bool(np.median(ratios) <= 0.2)) if share == SHARE else ()
            table.row(
                f"{share:.0%} of the best return: steps of {own} / {flat}", f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})", *aim
            )
    table.note(
        f"Learned: two evaluations of {EPISODES} episodes in a row reach {SHARE:.0%} of what the best policy over single moves earns "
        "with the same draws, from "
        f"the corner. Medians of {seeds} seeds with 95% bootstrap intervals; who never gets there counts as {most} steps, in favour "
        "of the flat agents. The bar of "
        "50% is there to see the early part. The flat agents have settings of their own, on seed 0 the best of six that were tried: "
        "exploration for 1000, 2000 or "
        "3000 steps, targets of 1 or 4 steps, prioritised replay with 32 units or uniform with 64. They were tried with an LSTM; since a "
        "cell says everything, nobody has one in these rows."
    )


PARTS = ("values", "walks", "goal")
NOISE = "Errors that are noise never fade and draw the samples: there, uniform replay is the better choice."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer sizes and seeds")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="the rows of the others stand as they were")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("Options, a manager and a worker")
    if args.only:
        table.note(NOISE)
        for name, row in zip(PARTS, full_rows(table), strict=True):
            if name in args.only:
                row()
        return table.finish(args.record, keeps_others=True)
    for kind, goal in (("hallways", HALLWAYS["E"]), ("both", NUMBER[9, 9]), ("moves", HALLWAYS["E"])):
        error = expected_update_error(kind, goal)
        table.row(f"expected SMDP update against exact option values, {kind}, goal {CELLS[goal]}", f"{error:.1e}", "≤ 1e-6", error <= 1e-6)
    cliffwalk_rows(table, (4, 6, 8) if args.quick else (4, 6, 8, 10), 3 if args.quick else 5)
    if args.quick:
        goal_rows(table, {"hierarchy, walks given": 2000, "flat, ε-greedy": 5000, "flat, εz-greedy": 5000}, "eastern hallway", 1, 0)
        table.note("Quick: one seed, walks given, flat agents stopped at 5000 steps (not reaching the share counts as 5000).")
        return table.finish(args.record)
    for row in full_rows(table):
        row()
    return table.finish(args.record)


def full_rows(table: Table, seeds: int = 4, walk_steps: int = 60_000) -> Iterator[Callable[[], None]]:
    def values() -> None:
        for name, runs in (("every cell", [lstm_value_error(0, 1_000_000)]), ("the corner", [lstm_value_error(0, 400_000, CORNER)])):
            errors, returns = [run["error"] for run in runs], [run["return"] for run in runs]
            table.row(
                f"LSTM manager, episodes from {name}: mean error of its values of all open options",
                f"{np.mean(errors):.3f}",
                "≤ 0.050",
                bool(np.mean(errors) <= 0.05),
            )
            table.row(
                f"LSTM manager, episodes from {name}: its return (256 episodes, sampling error about 4%) against the exact option values",
                f"{np.mean(returns):.3f}",
                "≥ 0.950",
                bool(np.mean(returns) >= 0.95),
            )

    def walks() -> None:
        runs = [learn_walks(seed, walk_steps)[0] for seed in range(NUM_WALKERS)]
        shares = [run["walks"] for run in runs]
        table.row(
            f"walks learned without a goal, {walk_steps} steps once: worker's return against the best walks'",
            f"{np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})",
        )

    yield values
    yield walks
    yield lambda: goal_rows(
        table,
        {
            "hierarchy, walks learned before": 4000,
            "hierarchy, walks given": 6000,
            "hierarchy, walks given, prioritised": 6000,
            "flat, ε-greedy": 12_000,
            "flat, εz-greedy": 12_000,
        },
        "eastern hallway",
        seeds,
        walk_steps,
    )


if __name__ == "__main__":
    sys.exit(main())
