"""A world model plays games whose exact answers are known: tic-tac-toe, Connect Four, a lake, a cliff, a taxi; and what each part adds.

Long runs are kept in the cache folder by a digest of their settings and of the room's source, so that a stopped benchmark goes on (a run
that was stopped in its middle continues from its checkpoint).
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table


from lightbulb.core.runtime import cache_folder
from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.world.board_games import BoardGame
from lightbulb.world.configuration import REGULARISERS, TrainWorldModel
from lightbulb.world.environments import Agent, ask, judge, make_world, play_every_reply
from lightbulb.world.evaluation import Examination
from lightbulb.world.self_play import policy_agent, search_agent, search_positions
from lightbulb.world.tables import policy_values, optimal_policy
from lightbulb.world.training import load_world_model, train_world_model

ROOT = Path(__file__).resolve().parents[1]
FIGURE = Path(__file__).with_name("world.svg")
SIMULATIONS = (8, 50, 200)
FIVE_SIMULATIONS = (*SIMULATIONS, 1000)
GAME = TrainWorldModel(
    device="cpu",
    environment="tic_tac_toe",
    mcts_algorithm="gumbel",
    mcts_iterations=16,
    steps_per_epoch=300,
    num_epochs=7,
    average_decay=0.99,
)
FOUR = replace(
    GAME,
    environment="connect_four:4x4",
    mcts_iterations=8,
    steps_per_epoch=500,
    num_epochs=6,
    random_games=4000,
    capacity=120_000,
    first_play=500,
)
FIVE = replace(
    FOUR,
    environment="connect_four:5x5",
    mcts_iterations=16,
    mirror=True,
    anywhere=1.0,
    opening_moves=2,
    games_per_play=128,
    play_interval=20,
    accumulation_steps=2,
    steps_per_epoch=5000,
    num_epochs=7,
    width=160,
    hidden=320,
    unroll_length=4,
    random_games=8000,
    capacity=240_000,
)
SEVEN = replace(FIVE, environment="connect_four", steps_per_epoch=1750, num_epochs=4)
LAKE = replace(
    GAME,
    environment="FrozenLake-v1",
    mcts_iterations=4,
    discount=0.995,
    steps_per_epoch=500,
    num_epochs=6,
    random_games=2500,
    first_play=100,
    width=64,
    hidden=128,
    unroll_length=2,
    accumulation_steps=1,
    capacity=20_000,
    renewed_positions=8000,
    games_per_play=32,
    exploration=0.1,
    average_decay=0.9,
)
CLIFF = replace(LAKE, environment="CliffWalking-v1", discount=0.99, random_games=400, num_epochs=4)
TAXI = replace(  # chosen on a smaller delivery, 4 x 4 with three places; batch, width and discount are as they were before
    LAKE,
    environment="Taxi-v4",
    mcts_iterations=16,
    discount=0.99,
    width=128,
    hidden=256,
    accumulation_steps=2,
    steps_per_epoch=300,
    num_epochs=4,
    anywhere=1.0,
    max_moves=20,
    opening_moves=5,
    random_games=700,
    capacity=30_000,
    first_play=150,
    renewed_positions=15_000,
    games_per_play=16,
)
NOTED = ("search_", "policy_", "wrong_", "unseen_")  # what is kept of an evaluation
TAXI_SEEDS = 2
FIVE_SEEDS = 1
MIRROR_SEEDS = 2
ROLLOUT_EXPLORATION = 2.5  # of the search that is given the rules; chosen on other positions than the table's
DEFAULT = TrainWorldModel(device="cpu", environment="tic_tac_toe")  # the command without further flags
ABLATION = replace(GAME, steps_per_epoch=150, num_epochs=2, first_play=100)


def digest(settings: TrainWorldModel) -> str:
    "Of the settings, and of what decides how a run goes."
    sources = sorted((ROOT / "lightbulb" / "world").glob("*.py")) + [
        ROOT / "lightbulb" / "planning" / "mcts.py",
        ROOT / "lightbulb" / "core" / "optimization.py",
        ROOT / "lightbulb" / "core" / "run.py",
    ]
    apart = ("stages", "recurrent", "evaluation", "text_environments", "text_planning", "distillation")
    code = [ast.dump(ast.parse(source.read_text("utf-8"))) for source in sources if source.stem not in apart]
    return hashlib.sha256(repr((settings, code)).encode()).hexdigest()[:16]


def trained(settings: TrainWorldModel) -> tuple[Path, dict[str, Any]]:
    "The folder of a finished run, and what was noted on the way; continued if it was stopped."
    folder = cache_folder("benchmarks", "world", f"{settings.environment.replace(':', '_')}-{settings.seed}-{digest(settings)}")
    notes = folder / "notes.json"
    known: dict[str, Any] = json.loads(notes.read_text()) if notes.exists() else {"seconds": 0.0, "step": 0, "curve": []}
    if known["step"] >= settings.total_steps: return folder, known
    begin, before = time.process_time(), known["seconds"]
    try:
        for report in train_world_model(replace(settings, save_dir=folder, resume=bool(known["step"]))):
            if report.split != "validation": continue
            known["curve"].append(
                {
                    "step": report.step,
                    **{name: value for name, value in report.metrics.items() if name.startswith(NOTED)},
                }
            )
            known |= {"step": report.step, "games": report.metrics["num_games"]}
            notes.write_text(json.dumps(known | {"seconds": before + time.process_time() - begin}))
    finally:  # what was spent on steps behind the last evaluation counts too, if this is stopped
        known["seconds"] = before + time.process_time() - begin
        if known["step"]:
            notes.write_text(json.dumps(known))
    return folder, known


def kept(folder: Path, name: str, work: Callable[[], Any]) -> Any:
    "The result of `work`, from the run's folder if it is there."
    path = folder / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(work()))
    return json.loads(path.read_text())


# ------------------------------------------------------------------ board games


def exam_of(folder: Path, settings: TrainWorldModel, simulations: int) -> dict[str, Any]:
    "All open positions, and (in a small game) every sequence of replies, with the final checkpoint."
    model, world, _ = load_world_model(folder)
    game: Any = world
    assert isinstance(world, BoardGame)
    agent = (
        search_agent(model, world, settings.search(with_noise=False, num_simulations=simulations))
        if simulations
        else policy_agent(model, world)
    )
    shares = judge(game.solve(), agent)
    found: dict[str, Any] = {
        "share": shares.share,
        "matters": shares.share_where_it_matters,
        "random": shares.random_share,
        "random_matters": shares.random_share_where_it_matters,
    }
    if settings.environment == "tic_tac_toe":
        found["lost"] = [seat.losses for seat in play_every_reply(world, agent)]
    return found


def joined(numbers: list[str]) -> str:
    "One number if all are equal."
    return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)


def game_rows(table: Table, settings: TrainWorldModel, seeds: int, *, quick: bool) -> list[dict[str, Any]]:
    "A game without its rules, several seeds."
    runs = [trained(replace(settings, seed=seed)) for seed in range(seeds)]
    name, small = settings.environment, settings.environment == "tic_tac_toe"
    seconds = [known["seconds"] for _, known in runs]
    aim = "≤ 600" if small else ""
    table.row(
        f"{name}, CPU-s of training, {seeds} seeds",
        ", ".join(f"{one:.0f}" for one in seconds),
        aim,
        max(seconds) <= 600 if small and not quick else None,
    )
    for simulations in (*((8,) if quick else SIMULATIONS), 0):
        exams = [
            kept(folder, f"exam_{simulations}", lambda folder=folder, simulations=simulations: exam_of(folder, settings, simulations))
            for folder, _ in runs
        ]
        who = f"{simulations} simulations" if simulations else "the policy alone"
        judged = "share" if small else "matters"
        least, goal = min(exam[judged] for exam in exams), 0.995 if small else 0.99
        asked = simulations and not quick
        of = f"all {4520:,} positions" if small else "positions where some legal move is worse"
        table.row(
            f"{name}, {who}: optimal moves in {of}",
            f"{joined([f'{exam[judged]:.2%}' for exam in exams])}; at random {exams[0]['random' if small else 'random_matters']:.1%}",
            f"≥ {goal:.1%}" if asked else "",
            least >= goal if asked else None,
        )
        if small:
            lost = [sum(exam["lost"]) for exam in exams]
            table.row(
                f"{name}, {who}: games lost against every sequence of replies, both seats",
                joined([str(one) for one in lost]),
                "0" if asked else "",
                sum(lost) == 0 if asked else None,
            )
        else:
            table.row(
                f"{name}, {who}: optimal moves in all positions",
                f"{joined(['{:.2%}'.format(exam['share']) for exam in exams])}; at random {exams[0]['random']:.1%}",
            )
    last = [known["curve"][-1] for _, known in runs]
    table.row(
        f"{name}, wrongly imagined on held-out games: legality, endings, rewards",
        "; ".join(", ".join(f"{one[f'wrong_{part}']:.2%}" for part in ("legality", "ending", "reward")) for one in last),
    )
    unseen_row(table, name, last)
    curves = {number: known["curve"] for number, (_, known) in enumerate(runs)}
    table.note(
        (
            f"{name}: {settings.total_steps} optimizer steps, {last and runs[0][1]['games']:,.0f} games, {settings.mcts_iterations} "
            "simulations while it plays; the last checkpoint counts. Optimal moves of the search after "
        )
        + ", ".join(str(point["step"]) for point in curves[0])
        + " steps: "
        + "; ".join(", ".join(f"{point['search_optimal_where_it_matters']:.1%}" for point in curve) for curve in curves.values())
        + " (where it matters)."
    )
    return [{"name": name, "seed": number, "curve": curve} for number, curve in curves.items()]


def unseen_row(table: Table, name: str, last: list[dict[str, Any]]) -> None:
    "What is wrongly imagined in held-out positions that no learned game has, and what share of the held-out ones these are."
    found = [
        "none" if not one["unseen_share"] else ", ".join(f"{one[f'wrong_{part}_unseen']:.2%}" for part in ("legality", "ending", "reward"))
        for one in last
        if "unseen_share" in one
    ]
    if not found: return
    shares = [f"{one['unseen_share']:.1%}" for one in last if "unseen_share" in one]
    table.row(f"{name}, the same in positions that the memory has never seen, of {joined(shares)} of the held-out ones", "; ".join(found))


def default_rows(table: Table) -> None:
    "What the command makes of tic-tac-toe when nothing else is said, and with shares of visits as the policy to learn."
    for name, settings, seeds in (
        ("default flags (PUCT, 5 simulations)", DEFAULT, 2),
        ("the same, policy target visits", replace(DEFAULT, policy_target="visits"), 1),
    ):
        runs = [trained(replace(settings, seed=seed)) for seed in range(seeds)]
        exams = [kept(folder, "exam_5", lambda folder=folder: exam_of(folder, DEFAULT, DEFAULT.mcts_iterations)) for folder, _ in runs]
        table.row(
            f"tic_tac_toe, {name}: optimal moves in all 4,520 positions; games lost, both seats",
            f"{', '.join('{:.2%}'.format(exam['share']) for exam in exams)}; "
            f"{', '.join(str(sum(exam['lost'])) for exam in exams)} lost; "
            f"{', '.join('{:.0f}'.format(known['seconds']) for _, known in runs)} CPU-s",
        )
    table.note(
        "Shares of five visits mostly repeat the prior, and a network that learns from them believes itself; the prior improved by Q "
        "is the default target."
    )


# ------------------------------------------------------------------ worlds in a table


def table_rows(
    table: Table, settings: TrainWorldModel, seeds: int, *, quick: bool, share: float | None = None, least: float | None = None
) -> None:
    "The learned policy's exact value, beside the best one and random moves; the aim is a share of the best one, or `least`."
    tables = getattr(make_world(settings.environment), "tables", None)
    assert tables is not None
    first = np.flatnonzero(tables.initial)
    start = lambda policy, **limit: float(tables.initial[first] @ policy_values(tables, policy, **limit)[first])  # noqa: E731
    best, even = start(optimal_policy(tables)), tables.legal / tables.legal.sum(1, keepdims=True)
    runs = [trained(replace(settings, seed=seed)) for seed in range(seeds)]
    aim = least if least is not None else share * best if share else best
    is_one_step = settings.mcts_iterations <= tables.legal.shape[1]
    is_asked = (share or least is not None) and not is_one_step and not quick
    for who in ("search", "policy"):
        values = [known["curve"][-1][f"{who}_exact_return"] for _, known in runs]
        table.row(
            f"{settings.environment}, {'searched' if who == 'search' else 'policy alone'}: exact return without the time limit",
            ", ".join(f"{value:.4f}" for value in values),
            f"≥ {aim:.4f}" if is_asked else f"best {best:.4f}",
            min(values) >= aim - 1e-9 if is_asked else None,
        )
    limited = [known["curve"][-1].get("search_exact_return_within_limit") for _, known in runs]
    if limited[0] is not None:
        table.row(f"{settings.environment}, searched: exact return within the time limit", ", ".join(f"{value:.4f}" for value in limited))
    if is_one_step:
        table.note(f"{settings.environment} is searched with {settings.mcts_iterations} simulations, a look one step ahead.")
    table.note(
        f"{settings.environment}: best {best:.4f}, random moves {start(even, horizon=1000):.4f} in 1000 steps; "
        f"{settings.total_steps} optimizer steps, "
        f"{', '.join('{:.0f}'.format(known['seconds']) for _, known in runs)} CPU-s; returns of the search after each evaluation: "
        + "; ".join(", ".join(f"{point['search_exact_return']:.3f}" for point in known["curve"]) for _, known in runs)
        + "."
    )


def closer_table(*, quick: bool) -> Table:
    "FrozenLake by searches deeper than one step, and what is imagined of positions that no learned game has."
    table = Table("A learned world model, looked at more closely")
    lake, game = (replace(one, steps_per_epoch=40, num_epochs=1, random_games=200, first_play=20) if quick else one for one in (LAKE, GAME))
    runs = [trained(replace(lake, seed=seed)) for seed in range(1 if quick else 3)]
    for algorithm, simulations in ((name, number) for name in ("gumbel", "puct") for number in ((4, 16) if quick else (4, 16, 64, 256))):
        config = replace(lake, mcts_algorithm=algorithm).search(with_noise=False, num_simulations=simulations)
        grades = [
            kept(folder, f"deep_{algorithm}_{simulations}", functools.partial(deep_exam, folder, lake.environment, config))
            for folder, _ in runs
        ]
        depth = float(np.mean([grade["depth"] for grade in grades]))
        is_asked = depth > 1 and not quick
        table.row(
            f"{lake.environment}, {algorithm}, {simulations} simulations, {depth:.1f} steps deep: exact return without the time limit",
            ", ".join(f"{grade['value']:.4f}" for grade in grades),
            "≥ 0.8153" if is_asked else "",
            min(grade["value"] for grade in grades) >= 0.8153 if is_asked else None,
        )
    last = trained(game)[1]["curve"][-1]
    errors = ", ".join(f"{last[f'wrong_{part}']:.2%}" for part in ("legality", "ending", "reward"))
    table.row(f"{game.environment}, wrongly imagined on held-out games: legality, endings, rewards", errors)
    unseen_row(table, game.environment, [last])
    table.note(
        "Depth: mean of the simulations, over all cells. The searches play with the checkpoints at the end of training, which had "
        f"{lake.mcts_iterations} simulations of gumbel. Held-out games are games that were not learned from; most of their positions occur "
        "in others that were."
    )
    return table


def deep_exam(folder: Path, environment: str, config: MCTSConfig) -> dict[str, float]:
    "The exact return of a search with a finished checkpoint, and how deep it looks."
    model, _, _ = load_world_model(folder)
    world: Any = make_world(environment)
    states, tables = world.every_state(), world.tables
    legal = world.legal(states)
    found = search_positions(model, world.observe(states), np.where(legal.any(1, keepdims=True), legal, True), config)
    values, first = policy_values(tables, np.eye(world.num_actions)[found.actions]), np.flatnonzero(tables.initial)
    going = legal.any(1)
    return {"value": float(tables.initial[first] @ values[first]), "depth": float(found.mean_depth[going].mean())}


# ------------------------------------------------------------------ ablations


def variants(base: TrainWorldModel) -> dict[str, TrainWorldModel]:
    "One change at a time."
    shares = base.losses
    found = {
        "as above (averaged weights with decay 0.99)": base,
        "without search (PPO and n-step returns)": replace(base, with_search=False, losses=replace(shares, ppo=1.0), return_steps=5),
        "without reanalysis": replace(base, renewed_positions=0),
        "without averaged weights": replace(base, average_decay=0.0),
        "averaged weights with decay 0.9": replace(base, average_decay=0.9),
        "AdamW": replace(base, optimizer="adamw"),
        "n-step returns, 5": replace(base, return_steps=5),
    }
    for name in ("policy_value", "reward", "ending", "legality", "observation", "dynamics"):
        found[f"without {name}" if getattr(shares, name) else f"with {name}"] = replace(
            base, losses=replace(shares, **{name: 0.0 if getattr(shares, name) else 1.0})
        )
    tried = {
        "info_nce": 0.2,
        "covariance": 0.2,
        "thought_consistency": 0.5,
        "action_diversity": 0.05,
        "expected_value": 0.5,
        "exploration": 0.05,
        "kl": 0.2,
        "ppo": 0.2,
    }
    for name in REGULARISERS:
        present = getattr(shares, name)
        found[f"without {name}" if present else f"with {name}, {tried[name]}"] = replace(
            base, losses=replace(shares, **{name: 0.0 if present else tried[name]})
        )
    return found


def ablation_rows(table: Table, changes: dict[str, TrainWorldModel], seeds: int) -> None:
    "Equal optimizer steps and games; CPU-seconds beside. The first is what the others are compared with."
    first: list[float] = []
    for name, settings in changes.items():
        runs = [trained(replace(settings, seed=seed))[1] for seed in range(seeds)]
        last = [known["curve"][-1] for known in runs]
        searched, alone = ([one[f"{who}_optimal_where_it_matters"] for one in last] for who in ("search", "policy"))
        first = first or searched
        table.row(
            f"{settings.environment}, {settings.total_steps} steps: {name}",
            f"searched {', '.join(f'{one:.1%}' for one in searched)} ({np.mean(searched) - np.mean(first):+.1%}), policy alone "
            f"{', '.join(f'{one:.1%}' for one in alone)}; {np.mean([known['seconds'] for known in runs]):.0f} CPU-s",
        )


def draw(curves: list[dict[str, Any]]) -> None:
    "The curves of all seeds, as a picture beside the table."
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(curve["name"] for curve in curves))
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.2), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for one in (curve for curve in curves if curve["name"] == name):
            steps = [point["step"] for point in one["curve"]]
            for who, style in (("search", "-"), ("policy", ":")):
                axis.plot(
                    steps,
                    [point[f"{who}_optimal_where_it_matters"] for point in one["curve"]],
                    style,
                    color=f"C{one['seed']}",
                    label=f"seed {one['seed']}" if who == "search" else None,
                )
        axis.set(title=name, xlabel="optimizer step", ylabel="optimal moves where it matters")
        axis.legend()
    figure.suptitle("Searched (lines) and by the policy alone (dots)")
    figure.tight_layout()
    figure.savefig(FIGURE, metadata={"Date": None})


def taxi_table(*, quick: bool) -> Table:
    "A goal that random moves almost never reach: games that begin anywhere find it."
    table = Table("A learned world model drives a taxi")
    settings = replace(TAXI, steps_per_epoch=20, num_epochs=1, random_games=200) if quick else TAXI
    table_rows(table, settings, TAXI_SEEDS, quick=quick, least=7.5)
    table.note(
        "As a command: `python lightbulb_WM.py --environment Taxi-v4 --anywhere 1 --max_moves 20 --opening_moves 5 --random_games 700 "
        "--first_play 150 --games_per_play 16 --renewed_positions 15000 --capacity 30000 --mcts_algorithm gumbel --mcts_iterations 16 "
        "--accumulation_steps 2 --unroll_length 2 --exploration 0.1 --steps_per_epoch 300 --num_epochs 4`. "
        "Tuned on a smaller delivery (4 x 4, three places): where games begin, their length, how many are played, simulations. "
        "Random moves almost never earn the 20 there or in Taxi; begun where Taxi begins, new failing games push those few steps "
        "out of the memory before they are read, so the model never learns that there is a goal, and worth only sinks."
    )
    return table


STONES = ((0, 7), (8, 11), (12, 15), (16, 19), (20, 24))  # bands of the positions of 5 x 5
LATE = ((20, 23), (24, 27), (28, 31), (32, 35), (36, 41))  # of 6 x 7


def shares_of(agent: Agent, exam: Examination, bands: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    "Shares of optimal moves in positions that were solved exactly, also by the number of stones; and what asking cost."
    begin = time.process_time()
    right = exam.optimal[np.arange(len(exam.states)), ask(agent, exam.states, exam.legal, 1024)]
    seconds = time.process_time() - begin
    stones, by_chance = (exam.states != 0).sum(1), exam.optimal.sum(1) / exam.legal.sum(1)
    groups = [exam.matters & (stones >= low) & (stones <= high) for low, high in bands]
    return {
        "share": float(right.mean()),
        "matters": float(right[exam.matters].mean()),
        "random": float(by_chance.mean()),
        "random_matters": float(by_chance[exam.matters].mean()),
        "bands": [float(right[group].mean()) for group in groups],
        "sizes": [int(group.sum()) for group in groups],
        "num_matters": int(exam.matters.sum()),
        "milliseconds": 1000 * seconds / len(exam.states),
    }


def learned_agent(folder: Path, settings: TrainWorldModel, simulations: int) -> Agent:
    "The player of a finished run: it searches in what it learned, or without simulations follows its policy."
    model, world, _ = load_world_model(folder)
    if not simulations: return policy_agent(model, world)
    return search_agent(model, world, settings.search(with_noise=False, num_simulations=simulations))


def five_exam(folder: Path, settings: TrainWorldModel, simulations: int, num_positions: int) -> dict[str, Any]:
    "Fresh positions of random games, each solved exactly."
    game: Any = make_world(settings.environment)
    return shares_of(learned_agent(folder, settings, simulations), five_positions(game, num_positions), STONES)


def five_shortfall(runs: list[tuple[Path, dict[str, Any]]], epoch: int) -> str:
    "Where moves are wrong still: what more simulations mend by the number of stones, and the end of the learning curve."
    few, most = FIVE_SIMULATIONS[0], FIVE_SIMULATIONS[-1]
    shallow, deep = (
        np.mean([json.loads((folder / f"exam_{simulations}_5000.json").read_text())["bands"] for folder, _ in runs], 0)
        for simulations in (few, most)
    )
    curve = np.mean([[point["search_optimal_where_it_matters"] for point in known["curve"]] for _, known in runs], 0)
    mended = lambda band: f"{(deep[band] - shallow[band]) / max(1 - shallow[band], 1e-9):.0%}"
    return (
        f"Where it is wrong still: with {most} simulations {1 - deep[0]:.1%} of the moves with at most {STONES[0][1]} stones and "
        f"{1 - deep[3]:.1%} of those with {STONES[3][0]} to {STONES[3][1]}. {most} simulations instead of {few} mend {mended(3)} of the "
        f"wrong moves there, where a search sees the end, and in openings, where it rests on the learned value, {mended(0)}. The last "
        f"{epoch:,} steps brought {100 * (curve[-1] - curve[-2]):+.1f} points, as many before {100 * (curve[-2] - curve[-3]):+.1f}."
    )


@functools.cache
def five_positions(game: BoardGame, num_positions: int) -> Examination:
    "Other positions than the evaluations of the training looked at."
    return Examination.of_random_games(game, num_positions, seed=1, num_games=1000, max_nodes=100_000_000)


def five_table(*, quick: bool) -> Table:
    "Connect Four 5 x 5, too large to list: judged on positions that the solver answers one by one."
    table = Table("A learned world model plays Connect Four 5 x 5")
    settings = replace(FIVE, steps_per_epoch=30, num_epochs=1, random_games=200, first_play=15) if quick else FIVE
    runs = [trained(replace(settings, seed=seed)) for seed in range(1 if quick else FIVE_SEEDS)]
    name, num_positions = settings.environment, 500 if quick else 5000
    table.row(f"{name}, CPU-s of training", ", ".join(f"{known['seconds']:.0f}" for _, known in runs))
    for simulations in (*((8,) if quick else FIVE_SIMULATIONS), 0):
        exams = [
            kept(folder, f"exam_{simulations}_{num_positions}", functools.partial(five_exam, folder, settings, simulations, num_positions))
            for folder, _ in runs
        ]
        who = f"{simulations} simulations" if simulations else "the policy alone"
        asked = bool(simulations) and not quick
        table.row(
            f"{name}, {who}: optimal moves in positions where some legal move is worse",
            f"{joined([format(exam['matters'], '.2%') for exam in exams])}; at random {exams[0]['random_matters']:.1%}; "
            f"{joined([format(exam['milliseconds'], '.2f') for exam in exams])} CPU-ms a position",
            "≥ 99.0%" if asked else "",
            min(exam["matters"] for exam in exams) >= 0.99 if asked else None,
        )
        bands = [
            f"{low} to {high} stones {joined([format(exam['bands'][band], '.1%') for exam in exams])} of {exams[0]['sizes'][band]:,}"
            for band, (low, high) in enumerate(STONES)
        ]
        table.row(f"{name}, {who}: the same by the number of stones", "; ".join(bands))
        table.row(
            f"{name}, {who}: optimal moves in all positions",
            f"{joined([format(exam['share'], '.2%') for exam in exams])}; at random {exams[0]['random']:.1%}",
        )
    last = [known["curve"][-1] for _, known in runs]
    table.row(
        f"{name}, wrongly imagined on held-out games: legality, endings, rewards",
        "; ".join(", ".join(f"{one[f'wrong_{part}']:.2%}" for part in ("legality", "ending", "reward")) for one in last),
    )
    unseen_row(table, name, last)
    curves = "; ".join(", ".join(f"{point['search_optimal_where_it_matters']:.1%}" for point in known["curve"]) for _, known in runs)
    table.note(
        f"{settings.total_steps} optimizer steps, {runs[0][1]['games']:,.0f} games, {settings.mcts_iterations} simulations while it "
        f"plays, width {settings.width}; every game begins from a board of a random game, with any number of stones, and every second "
        "stretch is learned in a mirror; the last checkpoint counts. Positions are searched 1024 at once. The board has too "
        "many to list: the "
        f"{exams[0]['num_matters']:,} where it matters are of random games, as many of each number of stones as of any other (where "
        "there are so many), each solved by alpha-beta. Optimal moves of the search after each "
        f"{settings.steps_per_epoch} steps, on other such positions: {curves}."
    )
    if not quick:
        table.note(five_shortfall(runs, settings.steps_per_epoch))
    return table


def late_positions(game: BoardGame, num_positions: int, seed: int = 1) -> Examination:
    "Positions of random games with as many stones as the aim asks for, about as many of each number of stones."
    exam = _solved_positions(game, num_positions, seed)
    late = (exam.states != 0).sum(1) >= LATE[0][0]
    return Examination(exam.states[late], exam.legal[late], exam.optimal[late], exam.matters[late])


@functools.cache
def _solved_positions(game: BoardGame, num_positions: int, seed: int) -> Examination:
    exam = Examination.of_random_games(game, num_positions, seed=seed, num_games=num_positions // 4, max_nodes=2500 * num_positions)
    if (exam.states != 0).sum(1).min() > LATE[0][0]:
        raise ValueError("the solver stopped before it had reached all positions")
    return exam


def rollout_agent(game: BoardGame, simulations: int, exploration_constant: float) -> Agent:
    "A peer that learns nothing and knows the rules: a tree search in the game itself, its positions judged by one random game each."
    chance = np.random.default_rng(0)

    def predict(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        legal, values, going, sign = game.legal(states), np.zeros(len(states)), np.arange(len(states)), 1
        boards, open_ = states, legal.any(1)
        while open_.any():
            boards, going = boards[open_], going[open_]
            draws = np.where(game.legal(boards), chance.random((len(boards), game.num_actions)), -1.0)
            boards, rewards, terminated, _ = game.step(boards, draws.argmax(1))
            values[going] += sign * rewards
            open_, sign = ~terminated, -sign
        return np.zeros(legal.shape), values, legal | ~legal.any(1, keepdims=True)

    def step(states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        following, rewards, terminated, _ = game.step(states, actions)
        return following, rewards.astype(float), np.where(terminated, 0.0, -1.0)

    search = MCTS(predict, step, MCTSConfig(simulations, exploration_constant))
    return lambda states, legal: search.search(states).actions


def seven_table(*, quick: bool) -> Table:
    "Connect Four 6 x 7 in positions of 20 and more stones, beside a search that is given the rules."
    table = Table("A learned world model plays Connect Four 6 x 7")
    settings = replace(SEVEN, steps_per_epoch=30, num_epochs=1, random_games=400, first_play=15) if quick else SEVEN
    folder, known = trained(settings)
    game: Any = make_world(settings.environment)
    name, num_positions = f"{settings.environment}:{game.rows}x{game.columns}", 1600 if quick else 16_000
    table.row(f"{name}, CPU-s of training", f"{known['seconds']:.0f}")
    what = f"optimal moves in positions of {LATE[0][0]} and more stones where some legal move is worse"
    exam = lambda: late_positions(game, num_positions)
    players = {f"{simulations} simulations": simulations for simulations in ((8,) if quick else SIMULATIONS)} | {"the policy alone": 0}
    graded = {
        who: kept(
            folder,
            f"exam_{simulations}_{num_positions}",
            lambda simulations=simulations: shares_of(learned_agent(folder, settings, simulations), exam(), LATE),
        )
        for who, simulations in players.items()
    }
    given_rules = "given the rules, random games to the end"
    for simulations in (8,) if quick else SIMULATIONS:
        graded[f"{given_rules}, {simulations} simulations"] = kept(
            folder,
            f"rollouts_{simulations}_{num_positions}",
            lambda simulations=simulations: shares_of(rollout_agent(game, simulations, ROLLOUT_EXPLORATION), exam(), LATE),
        )
    for who, grades in graded.items():
        asked = who == f"{SIMULATIONS[-1]} simulations" and not quick
        table.row(
            f"{name}, {who}: {what}",
            f"{grades['matters']:.2%}; at random {grades['random_matters']:.1%}; {grades['milliseconds']:.2f} CPU-ms a position",
            "≥ 90.0%" if asked else "",
            grades["matters"] >= 0.9 if asked else None,
        )
        bands = zip(LATE, grades["bands"], grades["sizes"], strict=True)
        table.row(
            f"{name}, {who}: the same by the number of stones",
            "; ".join(f"{low} to {high} stones {share:.1%} of {size:,}" for (low, high), share, size in bands),
        )
    last = known["curve"][-1]
    table.row(
        f"{name}, wrongly imagined on held-out games: legality, endings, rewards",
        ", ".join(f"{last[f'wrong_{part}']:.2%}" for part in ("legality", "ending", "reward")),
    )
    unseen_row(table, name, [last])
    table.note(
        f"{settings.total_steps} optimizer steps, {known['games']:,.0f} games, {settings.mcts_iterations} simulations while it plays, "
        f"width {settings.width}; every game begins from a board of a random game, with any number of stones, and every second stretch is "
        f"learned in a mirror. The last checkpoint counts. The {graded['the policy alone']['num_matters']:,} positions where it matters "
        "are of other random games, as many of each number of stones as of any other (where there are so many), each solved by "
        "alpha-beta; no answer of the "
        "solver is learned from. Positions are searched 1024 at once, and the cost is of one of them. Optimal moves of the search after "
        f"each {settings.steps_per_epoch} steps, on other positions with fewer stones among them: "
        f"{', '.join(format(point['search_optimal_where_it_matters'], '.1%') for point in known['curve'])}. The search that is given the "
        f"rules has PUCT with the constant {ROLLOUT_EXPLORATION:g}, chosen on other positions."
    )
    if quick: return table
    points = lambda who: 100 * (graded[who]["matters"] - graded[f"{given_rules}, {who}"]["matters"])
    ahead = ", ".join(f"with {simulations} {points(f'{simulations} simulations'):+.1f} points" for simulations in SIMULATIONS)
    table.note(
        f"Beside equally many simulations of the search that is given the rules: {ahead}. What was learned is worth most where "
        "little is searched; a long search that knows the rules sees every end, and the model imagines some of them wrongly."
    )
    return table


def mirror_table(*, quick: bool) -> Table:
    "What a mirror adds on a small board, where the games are few."
    table = Table("Connect Four learned in a mirror")
    base = replace(FOUR, accumulation_steps=2, num_epochs=2, random_games=1000, first_play=200)
    if quick:
        base = replace(base, steps_per_epoch=30, num_epochs=1, random_games=200, first_play=15)
    changes = {"games as they are played": base, "every second stretch in a mirror": replace(base, mirror=True)}
    ablation_rows(table, changes, 1 if quick else MIRROR_SEEDS)
    table.note(
        f"Optimal moves where some legal move is worse, in 4,520 of all positions, each solved; {base.mcts_iterations} simulations; equal "
        "optimizer steps and about equal games."
    )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--closer", action="store_true", help="only deeper searches and positions never seen, in a table of their own")
    parser.add_argument("--five", action="store_true", help="only Connect Four 5 x 5, in a table of its own")
    parser.add_argument("--mirror", action="store_true", help="only what a mirror adds in Connect Four, in a table of its own")
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer sizes and seeds")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--seven", action="store_true", help="only Connect Four 6 x 7, in a table of its own")
    parser.add_argument("--taxi", action="store_true", help="only Taxi, in a table of its own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.closer: return closer_table(quick=args.quick).finish(args.record)
    if args.taxi: return taxi_table(quick=args.quick).finish(args.record)
    if args.mirror: return mirror_table(quick=args.quick).finish(args.record)
    if args.seven: return seven_table(quick=args.quick).finish(args.record)
    if args.five: return five_table(quick=args.quick).finish(args.record)
    table, quick = Table("A learned world model plays"), args.quick
    short = lambda settings, steps: (
        replace(settings, steps_per_epoch=steps, num_epochs=1, random_games=200, first_play=steps // 2) if quick else settings
    )  # noqa: E731
    curves = game_rows(table, short(GAME, 60), 1 if quick else 5, quick=quick)
    curves += game_rows(table, short(FOUR, 30), 1 if quick else 2, quick=quick) if not quick else []
    table_rows(table, short(LAKE, 60), 1 if quick else 3, quick=quick, share=0.99)
    table_rows(table, short(CLIFF, 20), 1, quick=quick)
    if not quick:
        ablation_rows(table, variants(ABLATION), 2)
        table.note(
            "Ablations: optimal moves where some legal move is worse, 2 seeds, one change at a time, equal optimizer steps and "
            "about equal games. Less than half a point is within the noise of seeds: such "
            "regularisers have weight 0 by default (dynamics, which neither helps nor costs here, keeps 0.2: the runs above had it), and "
            "the average's default decay is 0.9."
        )
    if args.record:
        draw(curves)
        table.note("![curves of all seeds](world.svg)")
    status = table.finish(args.record)
    if quick: return status
    few = Table("A learned world model with few simulations")
    default_rows(few)
    return max(status, few.finish(args.record))


if __name__ == "__main__": raise SystemExit(main())
