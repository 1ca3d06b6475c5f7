"""Work on the house changes no result: small fixed-seed runs give what was recorded from an earlier version, bit for bit.

`recorded_results.json` holds, for every run below, losses, weights, counts and answers of the commit that it names. Record them again
by running this file with an earlier version in front (the file itself is always this one, so it calls only names that stay):

    git worktree add ../before <commit>
    PYTHONPATH=../before OMP_NUM_THREADS=1 python tests/test_same_results.py --record <commit>

On the kind of machine that recorded (processor, caches, versions: `machine_kind`) everything is compared in every bit. Another kind
rounds otherwise: there weights are compared by count, sum and norm, and all numbers within TOLERANCE; texts and whole numbers stay exact.
Where a search in play turns the last bit into another move (PLAYED), the losses before the first such move are compared, and the weights
by their count. Answers were recorded on two kinds of machine, so their confidences are always compared within IN_BFLOAT16: the networks
that read compute in bfloat16 where the processor can, and in float32 elsewhere.

What differs on purpose is explained in CHANGED, line by line. `python tests/test_same_results.py --changed` then records the new value
beside the old one, so that it is held from then on; a line whose result does not differ any more is an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import pytest

RECORDED = Path(__file__).with_name("recorded_results.json")
CONFIDENCE = re.compile(r"[01]\.\d{3}")  # of an answer, in three digits
TOLERANCE = 2e-3  # relative, on another kind of machine: a few steps of training amplify the last bit that much
IN_BFLOAT16 = 0.01  # of a confidence: a processor without bfloat16 gave .006 less than those that recorded
LEARNED = ("losses", "weights", "losses of the resumed run", "weights of the resumed run")
STRETCHED = "below the root the value of the node takes part in Gumbel's stretch, so that one tried action is not all"
CHANGED: dict[str, str] = {  # "run: result" → why it is another than the recorded one
    **{f"world model, Gumbel: {name}": STRETCHED for name in LEARNED},
    **{f"MCTS, Gumbel: {name}": STRETCHED for name in ("visit counts", "values")},
}

PLAYED = {"world model, PUCT": 4, "world model, Gumbel": 4}  # runs that play what they learn from → losses that no play has touched yet

Results = dict[str, Any]  # numbers as hexadecimal text, whole numbers, text, or a digest of arrays


# ------------------------------------------------------------------ how results are written down


def machine_kind() -> dict[str, str]:
    "What decides how a number is rounded."
    import numba
    import numpy
    import torch
    from llvmlite import binding

    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))  # by which matrices are cut into blocks
    return {
        "processor": binding.get_host_cpu_name(),
        "caches": ", ".join(file.read_text().strip() for file in caches),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def numbers(values: Iterable[float]) -> list[str]:
    "Floating-point numbers in every bit."
    return [float(value).hex() for value in values]


def digest(arrays: Iterable[Any]) -> dict[str, Any]:
    "Arrays in every bit, whatever their names and order; count, sum and norm for a machine that rounds otherwise."
    import numpy as np

    arrays = [np.ascontiguousarray(array) for array in arrays]
    parts = sorted(hashlib.sha256(str((array.shape, array.dtype)).encode() + array.tobytes()).hexdigest() for array in arrays)
    flat = np.concatenate([array.astype(np.float64).ravel() for array in arrays])
    return {
        "sha256": hashlib.sha256("".join(parts).encode()).hexdigest(),
        "count": int(flat.size),
        "sum_and_norm": numbers([flat.sum(), math.sqrt(np.square(flat).sum())]),
    }


def parameters_of(thing: Any) -> Iterator[Any]:
    "Every parameter that an object of lightbulb holds, however deep, once."
    from torch import nn

    seen: set[int] = set()

    def look(value: Any, depth: int) -> Iterator[Any]:
        if id(value) in seen or depth > 6: return
        seen.add(id(value))
        if isinstance(value, nn.Parameter):
            yield value.detach().cpu().numpy()
        elif isinstance(value, nn.Module):
            for parameter in value.parameters():
                yield from look(parameter, depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from look(item, depth + 1)
        elif isinstance(value, dict):
            for item in value.values():
                yield from look(item, depth + 1)
        elif type(value).__module__.startswith("lightbulb."):
            yield from look(getattr(value, "__dict__", {}), depth + 1)

    yield from look(thing, 0)


def finish(reports: Any) -> tuple[list[Any], Any]:
    "The reports of a training, and what it returned at its end."
    seen = []
    while True:
        try:
            seen.append(next(reports))
        except StopIteration as stop:
            return seen, stop.value


def losses(reports: Iterable[Any]) -> list[str]:
    return numbers(report.loss for report in reports if report.loss is not None)


# ------------------------------------------------------------------ the runs


def language_model(folder: Path, optimizer: Any, num_experts: int) -> Results:
    "An epoch of a tiny language model on bytes; and the same one, stopped after three reports and resumed."
    from lightbulb.lm.training import TrainLanguageModel, load_model, train_language_model

    config = TrainLanguageModel(
        save_dir=folder / "whole",
        device="cpu",
        precision="float32",
        model_name="bytes",
        dataset_name="demo",
        max_examples=4,
        batch_size=4,
        num_epochs=1,
        max_length=128,
        preset="tiny",
        num_layers=1,
        width=32,
        num_heads=2,
        longest_ngram=1,
        num_experts=num_experts,
        accumulation_steps=2,
        learning_rate=1e-2,
        weight_decay=1e-2,
        max_grad_norm=1.0,
        alpha=0.1,
        beta=0.1,
        temperature=1.0,
        optimizer=optimizer,
        dropout=0.1,
    )
    whole = list(train_language_model(config))
    stopped = dataclasses.replace(config, save_dir=folder / "stopped")
    reports: Any = train_language_model(stopped)
    first = [next(reports) for _ in range(3)]
    reports.close()
    rest = list(train_language_model(dataclasses.replace(stopped, resume=True)))
    return {
        "steps": [report.step for report in whole],
        "losses": losses(whole),
        "weights": digest(parameters_of(load_model(config.save_dir))),
        "losses of the resumed run": losses([*first, *rest]),
        "weights of the resumed run": digest(parameters_of(load_model(stopped.save_dir))),
    }


def world_model(folder: Path, algorithm: Any) -> Results:
    "A tiny world model of tic-tac-toe with play between; and the same one, stopped and resumed."
    from lightbulb.world.training import TrainWorldModel, load_world_model, train_world_model

    config = TrainWorldModel(
        save_dir=folder / "whole",
        device="cpu",
        precision="float32",
        environment="tic_tac_toe",
        batch_size=1,
        num_epochs=2,
        steps_per_epoch=8,
        accumulation_steps=2,
        learning_rate=1e-4,
        weight_decay=1e-2,
        max_grad_norm=1.0,
        mcts_iterations=4,
        mcts_exploration_constant=1.414,
        mcts_algorithm=algorithm,
        lambda_reg=1.0,
        width=16,
        hidden=32,
        capacity=600,
        random_games=60,
        first_play=4,
        play_interval=2,
        games_per_play=8,
        renewed_positions=64,
    )
    whole = list(train_world_model(config))
    stopped = dataclasses.replace(config, save_dir=folder / "stopped")
    reports: Any = train_world_model(stopped)
    first = [next(reports) for _ in range(5)]
    reports.close()
    rest = list(train_world_model(dataclasses.replace(stopped, resume=True)))
    return {
        "losses": losses(whole),
        "weights": digest(parameters_of(load_world_model(config.save_dir))),
        "losses of the resumed run": losses([*first, *rest]),
        "weights of the resumed run": digest(parameters_of(load_world_model(stopped.save_dir))),
    }


def ppo(folder: Path) -> Results:
    "Eight updates on CartPole, with every term of the loss; every setting is written out, so that new defaults change nothing."
    from lightbulb.rl.ppo import PPOConfig, train_ppo

    config = PPOConfig(
        total_steps=2048,
        num_envs=4,
        rollout_length=64,
        num_epochs=3,
        num_minibatches=4,
        learning_rate=1e-3,
        anneal=True,
        end_factor=0.0,
        discount=0.98,
        gae_lambda=0.9,
        clip_range=0.2,
        value_clip_range=0.5,
        normalize_advantages=True,
        value_coefficient=0.5,
        entropy_coefficient=0.01,
        max_grad_norm=0.5,
        target_kl=0.05,
        kl_coefficient=0.1,
        reward_scale=0.5,
        standardize=True,
        hidden=(32, 32),
        evaluation_interval=1024,
        evaluation_episodes=4,
        seed=3,
        device="cpu",
    )
    if hasattr(config, "normalize_rewards"):  # newer than the recorded code
        config = dataclasses.replace(config, normalize_rewards=False)
    reports, agent = finish(train_ppo("CartPole-v1", config))
    metrics = ("return_mean", "episode_return")
    returns = [report.metrics[name] for report in reports for name in metrics if name in report.metrics]
    return {"losses": losses(reports), "returns": numbers(returns), "weights": digest(parameters_of(agent))}


def hierarchy(folder: Path) -> Results:
    "A manager and a worker in the four rooms, both of whom learn."
    from lightbulb.rl.four_rooms import four_rooms
    from lightbulb.rl.hierarchy import HierarchyConfig, train_hierarchy
    from lightbulb.rl.recurrent_q import RecurrentQConfig

    level = RecurrentQConfig(
        hidden=16,
        layer_norm=False,
        learning_rate=2e-3,
        batch_size=8,
        unroll=4,
        burn_in=2,
        num_steps=2,
        target_rate=0.05,
        max_grad_norm=10.0,
        capacity=500,
        min_sequences=4,
        alpha=0.6,
        beta=0.4,
        beta_steps=5000,
    )
    if hasattr(level, "final_rate"):  # newer than the recorded code
        level = dataclasses.replace(level, final_rate=1.0)
    config = HierarchyConfig(
        total_steps=600,
        discount=0.95,
        manager=level,
        worker=level,
        steps_per_update=2,
        max_option_steps=10,
        manager_epsilon=0.1,
        manager_exploration=50,
        worker_epsilon=0.1,
        worker_exploration=50,
        report_interval=100,
        seed=2,
    )
    if hasattr(config, "learn_moves"):
        config = dataclasses.replace(config, learn_moves=False, repeat_exponent=0.0)
    if hasattr(config, "interrupts"):
        config = dataclasses.replace(config, interrupts=False, even_steps=False)
    if hasattr(config, "learn_lessons"):
        config = dataclasses.replace(config, learn_lessons=False, explore_by_steps=False)
    if hasattr(config, "memory"):
        config = dataclasses.replace(config, memory=True)
    reports, agent = finish(train_hierarchy(lambda: four_rooms("both"), config))
    worker = [report.metrics["worker_loss"] for report in reports if "worker_loss" in report.metrics]
    return {"losses": losses(reports), "losses of the worker": numbers(worker), "weights": digest(parameters_of(agent))}


def replay(folder: Path) -> Results:
    "Samples, weights and updates of a memory that goes round; and of one that was saved in between."
    import numpy as np

    from lightbulb.rl.replay import PrioritizedReplayMemory

    make_memory = lambda: PrioritizedReplayMemory(100, alpha=0.7, beta=0.5, seed=5)
    memory, rng = make_memory(), np.random.default_rng(0)
    indices, weights, items = [], [], []
    for round in range(20):
        memory.extend({"item": rng.random((17, 3)).astype(np.float32)}, priorities=rng.random(17) if round % 2 else None)
        for _ in range(3):
            sample = memory.sample(32)
            indices += sample.indices.tolist()
            weights.append(sample.weights.numpy())
            items.append(sample.batch["item"].numpy())
            memory.update_priorities(sample, rng.random(32) * 2)
        if round == 10:
            saved, memory = memory.state_dict(), make_memory()
            memory.load_state_dict(saved)
    return {"indices": indices, "weights": digest(weights), "items": digest(items)}


class HashedWorld:
    "A world without rules: what follows is a hash of the state and the action."

    def __init__(self, num_actions: int, discount: float) -> None:
        self.num_actions, self.discount = num_actions, discount

    def uniform(self, states: Any, salt: int, count: int) -> Any:
        "Uniform numbers (B, count) that depend on state and salt only."
        import numpy as np

        keys = states.astype(np.uint64)[:, None] * np.uint64(1_000_003) + np.arange(count, dtype=np.uint64) + np.uint64(salt * 7919)
        for shift in (30, 27, 31):
            keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(0x94D049BB133111EB)
        return (keys >> np.uint64(11)).astype(np.float64) / 2**53

    def predict(self, states: Any) -> tuple[Any, Any, Any]:
        import numpy as np

        legal = self.uniform(states, 3, self.num_actions) < 0.8
        legal[np.arange(len(states)), (states % self.num_actions).astype(int)] = True  # always something to do
        return 4 * self.uniform(states, 1, self.num_actions), 2 * self.uniform(states, 2, 1)[:, 0] - 1, legal

    def step(self, states: Any, actions: Any) -> tuple[Any, Any, Any]:
        import numpy as np

        states = (states * 31 + actions + 1) % 1_000_000_007
        chance = self.uniform(states, 4, 2)
        return states, 2 * chance[:, 0] - 1, np.where(chance[:, 1] < 0.1, 0.0, self.discount)


def mcts(folder: Path, algorithm: Any, discount: float) -> Results:
    "A batch of searches with noise at the roots."
    import numpy as np

    from lightbulb.planning.mcts import MCTS, MCTSConfig

    world, roots = HashedWorld(7, discount), np.arange(100, 164)
    more: dict[str, Any] = {"dirichlet_fraction": 0.25} if algorithm == "puct" else {"max_considered_actions": 5}
    search = MCTS(world.predict, world.step, MCTSConfig(num_simulations=60, exploration_constant=1.25, algorithm=algorithm, seed=7, **more))
    visit_counts, values, _ = search.search(roots)
    return {"visit counts": np.asarray(visit_counts).astype(int).tolist(), "values": numbers(np.asarray(values))}


class HashedTree:
    "States are action sequences; prior, goals, dead ends, names and values of children are a hash of them."

    def number(self, *key: Any) -> float:
        return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6], "big") / 2**48

    def prior(self, program: tuple[int, ...]) -> list[float]:
        weights = [0.1 + self.number(program, "prior", action) ** 3 for action in range(3)]
        return [0.999 * weight / sum(weights) for weight in weights]

    def step(self, program: tuple[int, ...], action: int) -> tuple[int, ...] | None:
        return None if self.number(program, "dead", action) < 0.1 else (*program, action)

    def is_solution(self, program: tuple[int, ...]) -> bool:
        return len(program) > 2 and self.number(program[-6:], "goal") < 0.02

    def children(self, name: str) -> list[str]:
        if name.count("/") >= 4: return []
        return [f"{name}/{i}" for i in range(1 + int(self.number(name, "children") * 4))]

    def value(self, name: str) -> float:
        return round(self.number(name, "value"), 1)  # coarse, so that ties are common


def oops(folder: Path) -> Results:
    "Problems in a row: programs, actions and work."
    from lightbulb.planning.oops import OOPS

    tree = HashedTree()
    solutions = list(OOPS(tree.prior, tree.step, tree.is_solution, max_instructions=20_000).solve([(n, n) for n in range(6)]))
    return {
        "actions": [list(getattr(solution, "actions", ())) for solution in solutions],
        "work": [solution.num_instructions for solution in solutions],
    }


def tree_of_thought(folder: Path, strategy: Any) -> Results:
    "Thoughts in the order in which they came, with what became of them."
    from lightbulb.planning.tree_of_thought import ToTConfig, ToTSearch

    tree = HashedTree()
    search = ToTSearch(
        lambda nodes: [tree.children(node.text) for node in nodes],
        lambda nodes: [tree.value(node.text) for node in nodes],
        is_solution=lambda node: node.text.count("/") == 4 and tree.number(node.text, "right") < 0.3,
        config=ToTConfig(strategy=strategy, max_depth=4, beam_width=3, value_threshold=0.2, num_solutions=3, max_nodes=60),
    )
    results = {}
    for root in ("lamp", "wire", "glass", "oil"):
        result = search.run(root)
        nodes = sorted(result.root.walk(), key=lambda node: node.order)
        results[root] = [[f"{node.text} {node.status}" for node in nodes], [node.text for node in result.solutions]]
    return results


def writing(folder: Path) -> Results:
    "Beam search, greedy, sampled and self-speculative text, and actions, of a random encoder-decoder."
    import torch

    from lightbulb.lm.beam_search import beam_search, generate, generate_actions
    from lightbulb.lm.transformer import Transformer, TransformerConfig

    torch.manual_seed(1)
    model = Transformer(
        TransformerConfig(
            20,
            width=16,
            num_heads=2,
            num_encoder_layers=1,
            num_decoder_layers=2,
            hidden=32,
            num_experts=4,
            top_k=2,
            num_token_heads=3,
            max_length=64,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.eval()
    contexts = [[3, 4, 5, 6], [7, 8, 9]]
    options: dict[str, Any] = {"start_id": 1, "max_new_tokens": 20, "end_id": 2}
    sequences, scores = beam_search(model, contexts, beam_width=4, **options)
    actions = generate_actions(model, contexts, 3, 4, start_id=1)
    return {
        "beams": sequences.tolist(),
        "scores": numbers(scores.flatten().tolist()),
        "greedy": generate(model, contexts, **options),
        "sampled": generate(model, contexts, method="sampling", temperature=0.8, top_p=0.9, seed=4, **options),
        "speculative": generate(model, contexts[:1], method="speculative", **options),
        "actions": actions[0].tolist(),
    }


QUESTIONS = [
    "When did the inventor of the modern steam turbine die?",
    "Where was Michael Faraday born?",
    "Who won the Eurovision Song Contest in 1974?",
    "What are the impacts of renewable energy on global sustainability?",
    "Who was born first, Michael Faraday or Gaston Planté?",
    "Who invented the incandescent light bulb?",
]


def answers(folder: Path) -> Results:
    "Six questions to the demo site, with the real embedder, reranker and reader, and a summarizer that quotes."
    from lightbulb.agent.answering import TestAgent, Tools, answer
    from lightbulb.knowledge.embedding import load_embedder
    from lightbulb.knowledge.knowledge_base import KnowledgeBase
    from lightbulb.knowledge.ranking import load_cross_encoder
    from lightbulb.knowledge.summarizer import RAGSummarizer
    from lightbulb.web.search import load_search

    room = "reading" if importlib.util.find_spec("lightbulb.reading") else "knowledge"  # where the reader lived before
    SpanReader = importlib.import_module(f"lightbulb.{room}.reader").SpanReader
    embed, rerank = load_embedder(), load_cross_encoder()
    search = load_search("demo", make_index=lambda: KnowledgeBase(":memory:", embed=embed))
    silent = RAGSummarizer(lambda prompts, **options: ["" for _ in prompts], embed, rerank=rerank)
    tools: Any = Tools(search, SpanReader.load(), embed, rerank, summarizer=silent)
    if room == "reading":  # since then a judge weighs what the reader points at
        tools.weigh = importlib.import_module("lightbulb.agent.tools").load_judge(rerank)
    results = {}
    for question in QUESTIONS:
        config = TestAgent(max_pages=20, max_searches=8, max_tokens=4000, max_seconds=600)
        final: Any = list(answer(question, config, tools=tools))[-1]
        results[question] = [final.short_answer, final.text, final.refused, f"{final.confidence:.3f}"]
    return results


RUNS: dict[str, Callable[[Path], Results]] = {
    "language model, AdamW": lambda folder: language_model(folder, "adamw", 1),
    "language model, Muon, experts": lambda folder: language_model(folder, "muon", 4),
    "world model, PUCT": lambda folder: world_model(folder, "puct"),
    "world model, Gumbel": lambda folder: world_model(folder, "gumbel"),
    "PPO": ppo,
    "hierarchy": hierarchy,
    "replay": replay,
    "MCTS, PUCT": lambda folder: mcts(folder, "puct", 0.97),
    "MCTS, PUCT, two players": lambda folder: mcts(folder, "puct", -0.97),
    "MCTS, Gumbel": lambda folder: mcts(folder, "gumbel", 0.97),
    "OOPS": oops,
    "Tree of Thought, breadth first": lambda folder: tree_of_thought(folder, "bfs"),
    "Tree of Thought, depth first": lambda folder: tree_of_thought(folder, "dfs"),
    "Tree of Thought, best first": lambda folder: tree_of_thought(folder, "best_first"),
    "writing": writing,
    "answers": answers,
}


# ------------------------------------------------------------------ the comparison


def compute(run: str, folder: Path) -> Results:
    "A run on one thread."
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return json.loads(json.dumps(RUNS[run](folder)))  # as the file will give it back
    finally:
        torch.set_num_threads(threads)


def is_number(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value.lstrip("-").startswith("0x")


def untouched(results: Results, num_losses: int) -> Results:
    "What does not depend on the moves that were played: the first losses, how many there are, and how many weights."
    kept: Results = {}
    for name, value in results.items():
        kept |= {name: value["count"]} if isinstance(value, dict) else {name: value[:num_losses], f"{name}: number": len(value)}
    return kept


def is_close(one: Any, two: Any) -> bool:
    "Equal but for rounding: what another kind of machine may give."
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(name == "sha256" or is_close(one[name], two[name]) for name in one)
    if isinstance(one, list) and isinstance(two, list): return len(one) == len(two) and all(map(is_close, one, two))
    if is_number(one) and is_number(two):
        return math.isclose(float.fromhex(one), float.fromhex(two), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(one, str) and isinstance(two, str) and CONFIDENCE.fullmatch(one) and CONFIDENCE.fullmatch(two):
        return abs(float(one) - float(two)) <= IN_BFLOAT16
    return one == two


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text("utf-8"))


@pytest.mark.parametrize("run", RUNS)
def test_a_fixed_seed_run_gives_what_was_recorded(run: str, recorded: dict[str, Any], tmp_path: Path) -> None:
    results, before, changed = compute(run, tmp_path), recorded["results"][run], recorded["changed"].get(run, {})
    is_same_kind = recorded["machine"] == machine_kind()
    same: Callable[[Any, Any], bool] = (lambda one, two: one == two) if is_same_kind and run != "answers" else is_close
    assert results.keys() == before.keys()
    expected = before | {name: value for name, value in changed.items() if f"{run}: {name}" in CHANGED}
    if run in PLAYED and not is_same_kind:
        results, expected = untouched(results, PLAYED[run]), untouched(expected, PLAYED[run])
    different = {name: (results[name], expected[name]) for name in results if not same(results[name], expected[name])}
    assert not different, f"{run}: (now, recorded) {different}"


def test_every_explained_change_is_one(recorded: dict[str, Any]) -> None:
    places = {f"{run}: {name}": (run, name) for run, results in recorded["results"].items() for name in results}
    assert set(CHANGED) <= set(places), f"explained, but no result: {sorted(set(CHANGED) - set(places))}"
    for place in CHANGED:
        run, name = places[place]
        assert recorded["changed"].get(run, {}).get(name, recorded["results"][run][name]) != recorded["results"][run][name], place


def test_rounding_is_forgiven_only_between_machines() -> None:
    assert is_close({"sha256": "a", "sum_and_norm": numbers([1.0])}, {"sha256": "b", "sum_and_norm": numbers([1.0 + 1e-6])})
    assert not is_close(numbers([1.0]), numbers([1.01])) and not is_close([3, "text"], [4, "text"]) and not is_close([1], [1, 2])


# ------------------------------------------------------------------ recording


def as_text(file: Any, depth: int = 0) -> str:
    "JSON with a line for each result: short enough to be read in a diff."
    if depth == 3 or not isinstance(file, dict) or not file: return json.dumps(file, ensure_ascii=False)
    space = " " * (depth + 1)
    rows = [f"{space}{json.dumps(name, ensure_ascii=False)}: {as_text(value, depth + 1)}" for name, value in file.items()]
    return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"


def main(arguments: list[str]) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import lightbulb

    print(f"the code of {Path(lightbulb.__file__).parent}")
    file = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    if arguments[:1] == ["--record"] and len(arguments) == 2:
        file = {"commit": arguments[1], "machine": machine_kind(), "results": {}, "changed": {}}
    elif arguments != ["--changed"] or file["machine"] != machine_kind():
        sys.exit("usage: --record COMMIT, or --changed (on the kind of machine that recorded)")
    else:
        file["changed"] = {}
    for run in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            if arguments == ["--changed"]:
                names = [place.removeprefix(f"{run}: ") for place in CHANGED if place.startswith(f"{run}: ")]
                if not names: continue
                results = compute(run, Path(folder))
                file["changed"][run] = {name: results[name] for name in names}
            else:
                file["results"][run] = compute(run, Path(folder))
        print(run, flush=True)
    RECORDED.write_text(as_text(file) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
