"""Every default command, with the flags that a person leaves alone, on data it was not tuned on, beside the simple baseline of its field.

    python benchmarks/defaults.py --text kjv.txt --peer-python PATH --record

A row that needs a text, a peer or the demo site is left out, and says so, where that is missing. Finished rows are kept in the cache
folder with a digest of the package's code; `--keep` takes those of an earlier state as well. `--only` names rows by their beginnings;
recorded rows that it leaves out stay in the table, which says how many they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import torch
from _language_model_defaults import Cell, learn_by_default, streams
from _language_model_runs import Trainer
from _scoring import interval, mean, token_f1
from _table import Table, peer_environment
from answers import one_prompt, the_tree
from hierarchy import CORNER, DISCOUNT, EPISODES, best_returns, greedy_returns, house, kept
from ppo import HELD_OUT, SUITE, Runner, column, span, suite_runs

from lightbulb.agent.answering import TestAgent
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.tools import load_tools
from lightbulb.agent.training import TrainAgent, train_agent
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.report import MetricsFile
from lightbulb.core.runtime import cache_folder
from lightbulb.lm.data import load_texts, tokenize
from lightbulb.lm.evaluation import bigram_loss
from lightbulb.planning.mcts import MCTSConfig
from lightbulb.rl.four_rooms import CELLS, NUMBER
from lightbulb.rl.hierarchy import HierarchicalAgent, HierarchyConfig, play, train_hierarchy
from lightbulb.rl.options import GuardedWorld, GymnasiumOptions
from lightbulb.web.demo_site import demo_questions
from lightbulb.world.board_games import ConnectFour
from lightbulb.world.configuration import TextSettings
from lightbulb.world.evaluation import Examination
from lightbulb.world.text_practice import TextPractice, read_stretches, shares_found
from lightbulb.world.text_training import load_text_world

ROOT = Path(__file__).resolve().parents[1]
BOARD = (3, 5)  # rows, columns: a board that no other script and no page trains on
TUNED_GOAL, GOALS = NUMBER[9, 9], (NUMBER[9, 3], NUMBER[3, 9])  # inside three rooms; no other script has the two goals
NUM_QUESTIONS = 12  # of the demo site


@dataclass(frozen=True)
class Row:
    "One line of the table."

    name: str
    measured: str
    aim: str
    is_met: bool | None
    tuned: str  # what had been chosen on the same data before


class LeftOut(Exception):
    "Why a row cannot be made here."


def command(*words: str) -> tuple[Path, float]:
    "Run one of the three commands in a folder of its own: the folder, and CPU-seconds of its processes."
    folder, before = Path(tempfile.mkdtemp(prefix="lightbulb_defaults_")), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = peer_environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, "--save_dir", str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return folder, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def last_evaluation(folder: Path) -> dict[str, float]:
    "The numbers of the last line of a run's metrics that is about held-out data."
    last = [row for row in MetricsFile(folder / "metrics.jsonl").read() if row["split"] == "validation"][-1]
    return {name: float(value) for name, value in last.items() if isinstance(value, int | float)}


# ------------------------------------------------------------------ text


def beginning(text: Path | None, num_bytes: int) -> Path:
    "So much of the text as a file of its own."
    if text is None or not text.is_file(): raise LeftOut("needs --text, a plain text that no default was chosen on")
    path = cache_folder("benchmarks", "defaults") / f"text-{num_bytes}.txt"
    path.write_bytes(text.read_bytes()[:num_bytes])
    return path


TUNED_TEXT = "nothing on this text; rate, batches, n-gram tables and what beta weighs on 40 to 120 kB of Tiny-Shakespeare"


def language_model(asked: argparse.Namespace, num_bytes: int, tokenizer: str) -> list[Row]:
    "As `language_model.py --only defaults` trains it: nothing but preset, tokenizer, text and seed are given."
    if asked.text is None or not asked.text.is_file():
        raise LeftOut("needs --text, a plain text that no default was chosen on")
    trainer = Trainer(asked.runs, {}, keep=asked.keep)
    cell = Cell(asked.source, asked.text, num_bytes, tokenizer, "tiny")
    runs, text = [learn_by_default(trainer, cell, seed) for seed in range(asked.seeds)], streams(trainer, cell)
    pairs = bigram_loss(text.train, text.held_out, text.tokenizer.vocab_size) * len(text.held_out) / math.log(2) / text.held_out.num_bytes
    bits = [run["bits"] for run in runs]
    return [
        Row(
            f"`lightbulb_LM.py --dataset_name TEXT --model_name {tokenizer} --preset tiny`, {num_bytes // 1000} kB",
            f"{mean(bits):.3f} bits a byte ({', '.join(f'{one:.3f}' for one in bits)}); {mean([run['cpu'] for run in runs]):.0f} CPU-s"
            + (f"; {trainer.older} of {len(runs)} runs by an earlier state of the code" if trainer.older else ""),
            f"below {pairs:.3f}, a table of pairs of tokens",
            mean(bits) < pairs,
            TUNED_TEXT,
        )
    ]


def both_stages(text: Path | None, num_bytes: int) -> list[Row]:
    "The README's first training on another text: a language model of GPT-2's tokens, then a world model of its states."
    words = ("--task", "train_llm_world", "--preset", "tiny")
    file = beginning(text, num_bytes)
    folder, seconds = command("main_menu.py", *words, "--dataset_name", str(file))
    held, name = last_evaluation(folder / "language_model"), f"`main_menu.py {' '.join(words)} --dataset_name TEXT`, {num_bytes // 1000} kB"
    bits, pairs = held["bits_per_byte"], held["bits_per_byte"] * held["bigram_loss"] / held["loss"]
    measured, aim = f"{bits:.3f} bits a byte; both stages {seconds:.0f} CPU-s", f"below {pairs:.3f}, pairs of tokens"
    ours, still, among = imagined(folder, file)
    return [
        Row(f"{name}: language model", measured, aim, bits < pairs, TUNED_TEXT),
        Row(
            f"{name}: world model, the real latent found among {among} after 1, 2, 3 actions",
            ", ".join(f"{share:.1%}" for share in ours),
            f"above the last latent's {', '.join(f'{share:.1%}' for share in still)}",
            all(one > other for one, other in zip(ours, still, strict=True)),
            "nothing on this text; losses on the demo articles",
        ),
    ]


@torch.inference_mode()
def imagined(folder: Path, file: Path, num_actions: int = 3) -> tuple[list[float], list[float], int]:
    "How often what was imagined after k actions is nearest to the real latent, the same for the latent before them, and among how many."
    model = load_text_world(folder)
    tokens = np.asarray(tokenize(load_texts(str(file)).validation, model.tokenizer).tokens).astype(np.int64)
    practice = TextPractice(model, tokens, TextSettings(), MCTSConfig(1), num_actions=num_actions, seed=1)
    count = min(256, len(tokens) - practice.room)
    held = read_stretches(model, practice.real(count, with_short=False))
    real = model.represent(held.reading()).unflatten(0, (-1, num_actions + 1))
    latents, guesses = real[:, 0], []
    for k in range(num_actions):
        latents = model.imagine(latents, held.actions[:, k]).latents
        guesses.append(latents)
    ours, still = shares_found(torch.stack(guesses, 1), real[:, 1:]), shares_found(real[:, :1].expand_as(real[:, 1:]), real[:, 1:])
    return ours.tolist(), still.tolist(), count


# ------------------------------------------------------------------ worlds and environments


def board_game() -> list[Row]:
    "A board that nobody trained on, no rule given."
    name = f"connect_four:{BOARD[0]}x{BOARD[1]}"
    folder, seconds = command("lightbulb_WM.py", "--environment", name)
    held, exam = last_evaluation(folder / "world_model"), Examination.of(ConnectFour(*BOARD).solve(500_000), 4520)
    right, even = held["search_optimal_where_it_matters"], exam.optimal[exam.matters].sum(1) / exam.legal[exam.matters].sum(1)
    return [
        Row(
            f"`lightbulb_WM.py --environment {name}`: optimal moves where some legal move is worse",
            f"{right:.2%} of {exam.matters.sum():,} positions; {seconds:.0f} CPU-s",
            f"above random moves' {even.mean():.2%}",
            bool(right > even.mean()),
            "nothing on this board; settings on tic-tac-toe, connect four 4x4 and tables of Gymnasium",
        )
    ]


def acting(runner: Runner, task: str, num_seeds: int) -> list[Row]:
    "PPO with every default but the number of steps, beside Stable-Baselines3 at its own and the best that one action repeated earns."
    if task.startswith("LunarLander") and not runner.version:
        raise LeftOut("needs --peer-python, an interpreter with Box2D")
    ours, peer = (
        suite_runs(runner, task, f"{who}'s defaults", num_seeds) if who == "lightbulb" or runner.version else []
        for who in ("lightbulb", "Stable-Baselines3")
    )
    constant = runner.run(task, "constant", 0, {"num_episodes": 30})
    assert constant is not None
    returns, steady = column(ours, "returns").mean(1), float(np.mean(constant["returns"]))
    measured = f"{span(returns)}; {len(ours)} {'seeds' if len(ours) > 1 else 'seed'}, {np.median(column(ours, 'seconds')):.0f} CPU-s"
    aim, is_met = f"above {steady:.1f}, the best constant action", returns.mean() > steady
    if task == "CliffWalking-v1":
        aim += " (the shortest path earns -13)"
    if peer:
        theirs = column(peer, "returns").mean(1)
        aim += f", and ≥ {theirs.mean():.1f}, the mean of Stable-Baselines3's defaults ({span(theirs)})"
        is_met &= returns.mean() >= theirs.mean()
    else:
        aim += "; Stable-Baselines3 absent"
    tuned = "nothing on this environment; the defaults were set on CartPole-v1, what is left of the rate also on LunarLander-v3"
    if task == "CliffWalking-v1":
        tuned += ", what rare states pay on FrozenLake8x8-v1 and Taxi-v4, after it had been seen that this agent shuns its goal"
    return [Row(f'`train_ppo("{task}", PPOConfig(total_steps={SUITE[task]}))`', measured, aim, bool(is_met), tuned)]


def snippet(runner: Runner) -> list[Row]:
    "The README's five lines."
    run = runner.run("CartPole-v1", "lightbulb", 0, {"num_episodes": 30})
    assert run is not None
    returns = np.array(run["returns"])
    measured = f"mean {returns.mean():.0f}, lowest of 30 episodes {returns.min():.0f}; {run['seconds']:.0f} CPU-s"
    return [
        Row('`train_ppo("CartPole-v1", PPOConfig())`, the README\'s', measured, "500", bool(returns.mean() == 500), "the defaults, here")
    ]


def learned_options(kind: str, goal: int, seed: int) -> dict[str, float]:
    "A run of the hierarchy's defaults in the house: its share of the best discounted return, and CPU-seconds; kept by the learner's code."
    config = HierarchyConfig(seed=seed)
    make_env = house(kind, goal)

    def work(_: Path) -> dict[str, float]:
        begin, agent = time.process_time(), HierarchicalAgent.for_world(make_env(), config)
        for _report in train_hierarchy(make_env, config, agent=agent):
            pass
        spent, best = time.process_time() - begin, best_returns(goal, CORNER, EPISODES).mean()
        return {"share": float(greedy_returns(agent, make_env, EPISODES)[0].mean() / best), "seconds": spent}

    return kept("defaults", (kind, goal, asdict(config)), work)


def random_share(goal: int, num_steps: int = 200) -> float:
    "What moves without aim earn of the best discounted return."
    rng, world, returns = np.random.default_rng(0), house("moves", goal)(), np.zeros(EPISODES)
    for number in range(EPISODES):
        world.reset(10_000 + number)
        for step in range(num_steps):
            move = int(rng.integers(4))
            done = world.step(move, move)
            returns[number] += DISCOUNT**step * done.reward
            if done.terminated: break
    return float(returns.mean() / best_returns(goal, CORNER, EPISODES).mean())


def table_share(goal: int, seed: int, rate: float = 0.1) -> float:
    "What plain Q-learning, a table over cells and moves, earns of the best discounted return after as many steps, exploring as often."
    config, rng, world = HierarchyConfig(), np.random.default_rng(seed), house("moves", goal)()
    table, num_steps, episode = np.zeros((len(CELLS), 4)), 0, 0
    while num_steps < config.total_steps:
        world.reset(int(rng.integers(2**31)))
        over, episode = False, episode + 1
        while not over and num_steps < config.total_steps:
            share = max(config.manager_epsilon, 1 - (1 - config.manager_epsilon) * num_steps / (config.total_steps // 2))
            cell, best = world.observation, np.flatnonzero(table[world.observation] == table[world.observation].max())
            move = int(rng.integers(4) if rng.random() < share else rng.choice(best))
            step, num_steps = world.step(move, move), num_steps + 1
            ahead = 0.0 if step.terminated else DISCOUNT * table[world.observation].max()
            table[cell, move] += rate * (step.reward + ahead - table[cell, move])
            over = step.terminated or step.truncated
    return mean([earned(table, world, number) for number in range(EPISODES)]) / best_returns(goal, CORNER, EPISODES).mean()


def earned(table: np.ndarray, world: GymnasiumOptions, number: int, max_steps: int = 200) -> float:
    "The discounted return of one episode by the best moves of a table."
    world.reset(10_000 + number)
    for step in range(max_steps):
        move = int(table[world.observation].argmax())
        done = world.step(move, move)
        if done.terminated: return DISCOUNT**step * done.reward
    return 0.0


def options(num_seeds: int, goal: int) -> list[Row]:
    "A manager and a worker over options in the house of four rooms, beside the same learner over single moves, at equal steps."
    runs = {
        name: [learned_options(kind, goal, seed) for seed in range(num_seeds)] for kind, name in (("both", "hierarchy"), ("moves", "flat"))
    }
    shares = {name: [run["share"] for run in made] for name, made in runs.items()}
    ours, flat = mean(shares["hierarchy"]), mean(shares["flat"])
    show = lambda name: f"{mean(shares[name]):.3f} ({' to '.join(f'{end:.3f}' for end in interval(shares[name]))})"
    seconds = lambda name: mean([run["seconds"] for run in runs[name]])
    count = f"{num_seeds} {'seeds' if num_seeds > 1 else 'seed'}"
    settings, where, table = HierarchyConfig(), CELLS[goal], mean([table_share(goal, seed) for seed in range(num_seeds)])
    return [
        Row(
            f'`train_hierarchy(four_rooms("both", goal, corner), HierarchyConfig())`: share of the best discounted return (γ = {DISCOUNT})'
            + ("" if goal == GOALS[0] else f", goal {where}"),
            f"{show('hierarchy')}; goal {where}, {count}, {settings.total_steps:,} steps, {seconds('hierarchy'):.0f} CPU-s "
            f"(flat {seconds('flat'):.0f})",
            f"≥ 0.5, and above the same learner without options, {show('flat')}, and random moves, {random_share(goal):.3f} "
            f"(a table over single moves: {table:.3f})",
            ours > max(flat, 0.5, random_share(goal)),
            f"discount, rates, exploration, memory and who learns from whose steps on the goal {CELLS[TUNED_GOAL]} of this house, "
            "seeds 0 to 2"
            + (
                "; nothing on this goal, but tables that learn from walks and do not, one seed of two ways to explore, and these rows "
                "with a memory were seen on it"
                if goal == GOALS[0]
                else "; nothing on this goal"
            ),
        )
    ]


def lake(num_seeds: int, num_episodes: int = 500) -> list[Row]:
    "The same learner in an environment of Gymnasium, where every option is a single move."
    make_env, config = "FrozenLake-v1", HierarchyConfig()

    def reached(seed: int) -> dict[str, float]:
        def work(_: Path) -> dict[str, float]:
            begin, world = time.process_time(), GuardedWorld(make_env)
            agent = HierarchicalAgent.for_world(world, replace(config, seed=seed))
            for _report in train_hierarchy(make_env, replace(config, seed=seed), agent=agent):
                pass
            spent = time.process_time() - begin
            wins = [play(agent, world, seed=10_000 + episode).discounted_return > 0 for episode in range(num_episodes)]
            return {"share": float(np.mean(wins)), "seconds": spent}

        return kept("defaults", (make_env, asdict(replace(config, seed=seed)), num_episodes), work)

    runs = [reached(seed) for seed in range(num_seeds)]
    shares, environment, rng = [run["share"] for run in runs], gymnasium.make(make_env), np.random.default_rng(0)
    wins, aimless = 0.0, 2000
    for episode in range(aimless):
        environment.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = environment.step(int(rng.integers(4)))
            wins, ended = wins + float(reward), terminated or truncated
    low, high = interval(shares)
    return [
        Row(
            f'`train_hierarchy("{make_env}", HierarchyConfig())`: share of {num_episodes} episodes that reach the goal',
            f"{mean(shares):.3f} ({low:.3f} to {high:.3f}); {num_seeds} seeds, {mean([run['seconds'] for run in runs]):.0f} CPU-s",
            f"above {wins / aimless:.3f}, random moves (the best policy 0.744)",
            mean(shares) > wins / aimless,
            "nothing on this environment",
        )
    ]


# ------------------------------------------------------------------ questions


def asking() -> list[Row]:
    "The demo site's report questions by the default pipeline, and by one search and one prompt."
    questions, begin = demo_questions("report"), time.process_time()
    questions = [one for one in questions if one.answers]
    questions = questions[:: len(questions) // NUM_QUESTIONS][:NUM_QUESTIONS]
    with tempfile.TemporaryDirectory() as folder:
        config = TestAgent(save_dir=Path(folder))
        tools = load_tools(config)
        if tools.knowledge is not None:
            tools.knowledge.close()
        tools.knowledge = None  # every question starts from nothing
        ours = [token_f1(the_tree(one.question, tools, config).short_answer, one.answers) for one in questions]
        middle = time.process_time()
        plain = [token_f1(one_prompt(one.question, tools)[0], one.answers) for one in questions]
        tools.close()
    return [
        Row(
            f"`main_menu.py --task test_agent`: answer F1 on {len(questions)} questions of the demo site",
            f"{mean(ours):.3f}; {(middle - begin) / len(questions):.1f} CPU-s a question",
            f"above {mean(plain):.3f}, one search and one prompt",
            mean(ours) > mean(plain),
            "no threshold on these questions, but on others of this site; their answers were looked at",
        )
    ]


def searching() -> list[Row]:
    "What ten episodes teach the web agent: reward on questions that are not in the list, beside the two policies that learn nothing."
    questions = [one for one in demo_questions("report") if one.answers and one.kind != "comparison"]
    questions = questions[:: len(questions) // NUM_QUESTIONS][:NUM_QUESTIONS]
    tasks = [SearchTask(one.question, gold_titles=frozenset(one.gold_pages)) for one in questions]
    with tempfile.TemporaryDirectory() as folder:
        config, begin = TrainAgent(save_dir=Path(folder)), time.process_time()
        tools = load_tools(config.for_tools())
        reports = train_agent(config, tools=tools)
        try:
            while True:
                next(reports)
        except StopIteration as end:
            learned = end.value
        seconds = time.process_time() - begin
        others = {
            name: AutonomousWebAgent(tools, env_config=SearchEnvConfig(budget=config.budget), policy=name) for name in ("random", "ordered")
        }
        play = lambda agent: mean([agent.play(task, seed=0).total for task in tasks])
        rewards = {"learned": play(learned)} | {name: play(agent) for name, agent in others.items()}
        tools.close()
    return [
        Row(
            f"`main_menu.py --task train_agent`: reward on {len(tasks)} questions that it did not see",
            f"{rewards['learned']:+.3f}; {config.num_episodes} episodes, {seconds:.0f} CPU-s",
            f"above {rewards['random']:+.3f}, random actions, and ≥ {rewards['ordered']:+.3f}, the offered order, untrained",
            rewards["learned"] > rewards["random"] and rewards["learned"] >= rewards["ordered"],
            "nothing on these questions; the order of actions on two_hop",
        )
    ]


# ------------------------------------------------------------------ the table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most a minute: the README's PPO alone")
    parser.add_argument("--text", type=Path, help="a plain text, for the language model and the world of text")
    parser.add_argument("--source", default="King James Bible", help="what the text is")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has stable-baselines3 and Box2D")
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names begin so")
    parser.add_argument("--keep", action="store_true", help="take finished rows of an earlier state of the code too, and say how many")
    parser.add_argument("--finished", action="store_true", help="make no row, show those that are kept")
    parser.add_argument("--seeds", type=int, default=2, help="of language models and PPO")
    parser.add_argument("--option-seeds", type=int, default=5, help="of a manager with its worker")
    parser.add_argument(
        "--runs", type=Path, default=Path("scratch/language_model_runs"), help="folder of language_model.py's trainings (its --cache)"
    )
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    return parser.parse_args()


def works(asked: argparse.Namespace) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    "Names and makers of rows, in the order of the table."
    runner = Runner(asked.peer_python, own=False)
    for tokenizer, num_bytes in (("bytes", 40_000), ("bytes", 240_000), ("gpt2", 40_000)):
        yield f"lm_{tokenizer}_{num_bytes // 1000}", partial(language_model, asked, num_bytes, tokenizer)
    yield "both", partial(both_stages, asked.text, 40_000)
    yield "board", board_game
    yield "ppo_readme", partial(snippet, runner)
    for task in reversed(HELD_OUT):
        yield f"ppo_{task}", partial(acting, runner, task, asked.seeds)
    for goal in GOALS:
        row, place = CELLS[goal]
        yield f"options_{row}_{place}", partial(options, asked.option_seeds, goal)
    yield "options_lake", partial(lake, asked.option_seeds)
    yield "ask", asking
    yield "agent", searching


def code_digest() -> str:
    "Of the package and this script."
    files = [*sorted((ROOT / "lightbulb").rglob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def main() -> int:
    asked, code, older = parse(), code_digest(), 0
    if asked.quick:
        asked.only = ["ppo_readme"]
    torch.set_num_threads(1)
    table = Table("Every default command on what it was not tuned on", ("gymnasium", "transformers"))
    place = cache_folder("benchmarks", "defaults")
    for name, make in works(asked):
        if asked.only and not name.startswith(tuple(asked.only)): continue
        file = place / f"{name}.json"
        made = json.loads(file.read_text()) if file.exists() else None
        if made is None or not (asked.keep or asked.finished or made["code"] == code):
            if asked.finished:
                table.row(name, "not made in this run")
                continue
            try:
                made = {"code": code, "rows": [asdict(row) for row in make()]}
            except LeftOut as reason:
                table.row(name, f"left out: it {reason}")
                continue
            file.write_text(json.dumps(made, indent=1))
        older += made["code"] != code
        for row in (Row(**row) for row in made["rows"]):
            table.row(row.name, f"{row.measured}. Tuned: {row.tuned}", row.aim, row.is_met)
    table.note(
        f"TEXT is the beginning of the {asked.source}, of which the end is held out. PPO: the likeliest actions of the final weights, 30 "
        "episodes. The rows say whether a default command learns where nobody tuned it; they have too few seeds to say by how much."
    )
    if older:
        table.note(f"{older} of these were made by an earlier state of the code.")
    return table.finish(asked.record and not asked.quick, keeps_others=bool(asked.only))


if __name__ == "__main__":
    sys.exit(main())
