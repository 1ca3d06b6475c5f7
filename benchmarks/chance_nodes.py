"""Tree search with chance nodes: values against exact ones by simulations, beside a search without them and beside mctx; and its speed.

Every world is small enough to be solved exactly: FrozenLake with three steps left, or with a noisy value and a long way to go. All
searches of a row predict as many states. One simulation of ours adds a state; one of mctx's
`stochastic_muzero_policy` adds an afterstate or a state, so that it gets twice as many. mctx may live in another environment:
`--peer-python PATH` runs everything in it; where it is absent its rows say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", JAX_PLATFORMS="cpu")

import gymnasium
import numpy as np
from _table import Table, peer_environment

from lightbulb.planning.chance_nodes import ChanceMCTS
from lightbulb.planning.mcts import MCTS, MCTSConfig

LAKES = ("FrozenLake-v1", "FrozenLake8x8-v1")
BUDGETS = (16, 64, 256, 1024, 4096)
NOISY_BUDGETS = (8, 32, 128, 512, 2048)
MOST_OF_MCTX = {"short": 256, "noisy": 128}  # states; more would take it too long here


class Lake:
    "FrozenLake with so many steps left, from its table; a state is a cell and the steps left."

    def __init__(self, name: str, steps: int, discount: float) -> None:
        env: Any = gymnasium.make(name).unwrapped
        padded = lambda state, action: (env.P[state][action] + 2 * [(0.0, state, 0.0, True)])[:3]
        outcomes = np.array([[padded(state, action) for action in range(4)] for state in range(len(env.P))])
        self.probabilities, after, self.rewards, ends = np.moveaxis(outcomes, 3, 0)
        self.after, self.ends, self.discount, self.steps = after.astype(int), ends.astype(bool), discount, steps
        self.moves = np.zeros((len(env.P), 4, len(env.P)))
        rows = np.arange(len(env.P))[:, None, None], np.arange(4)[:, None], self.after
        np.add.at(self.moves, rows, np.where(self.ends, 0.0, self.probabilities))
        self.expected_rewards = (self.probabilities * self.rewards).sum(2)
        self.exact = np.zeros(len(env.P))
        for _ in range(steps):
            self.exact = (self.expected_rewards + discount * self.moves @ self.exact).max(1)
        self.cells = np.array([cell for cell in range(len(env.P)) if (self.after[cell] != cell).any()])
        self.guessed = np.zeros(len(env.P))

    def predict(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
        return np.zeros((len(states), 4)), self.guessed[states[:, 0]], None

    def act(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.column_stack([states, actions]), self.probabilities[states[:, 0], actions]

    def settle(self, afterstates: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cells, left, actions = afterstates.T
        is_over = self.ends[cells, actions, outcomes] | (left == 1)
        after = np.stack([self.after[cells, actions, outcomes], left - 1], 1)
        return after, self.rewards[cells, actions, outcomes], np.where(is_over, 0.0, self.discount)

    def expected_predict(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
        return np.zeros((len(states), 4)), states[:, :-1] @ self.guessed, None

    def expected_step(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        "States (B, S + 1): how likely each cell is, and the steps left."
        beliefs, left = states[:, :-1], states[:, -1:]
        after = np.matmul(beliefs[:, None], self.moves.transpose(1, 0, 2)[actions])[:, 0]
        is_over = (left[:, 0] == 1) | (after.sum(1) == 0)
        return np.hstack([after, left - 1]), (beliefs * self.expected_rewards[:, actions].T).sum(1), np.where(is_over, 0.0, self.discount)

    def roots(self) -> np.ndarray:
        return np.column_stack([self.cells, np.full(len(self.cells), self.steps)])

    def chance(self, config: MCTSConfig) -> Any:
        return ChanceMCTS(self.predict, self.act, self.settle, config).search(self.roots())

    def expected(self, config: MCTSConfig) -> Any:
        left, beliefs = np.full((len(self.cells), 1), float(self.steps)), np.eye(len(self.exact))[self.cells]
        return MCTS(self.expected_predict, self.expected_step, config).search(np.hstack([beliefs, left]))

    def error(self, values: np.ndarray) -> float:
        return float(np.sqrt(((values - self.exact[self.cells]) ** 2).mean()))

    def lost_return(self, actions: np.ndarray) -> float:
        "What playing these moves loses, exactly, as the mean over the cells it may begin in."
        moves = np.zeros(len(self.exact), int)
        moves[self.cells] = actions
        rows = np.arange(len(moves)), moves
        values = np.linalg.solve(np.eye(len(moves)) - self.discount * self.moves[rows], self.expected_rewards[rows])
        return max(float((self.exact - values)[self.cells].mean()), 0.0)  # rounding may leave less than nothing


def mctx_search(lake: Lake, num_simulations: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    "mctx's search over the same table, compiled: guessed values of the cells → values and moves (the most visited) of every cell."
    import jax
    import jax.numpy as jnp
    import mctx

    probabilities, after, rewards, ends = (jnp.array(table) for table in (lake.probabilities, lake.after, lake.rewards, lake.ends))

    def decide(guessed: Any, _key: Any, actions: Any, states: Any) -> Any:
        logits, cells = jnp.log(jnp.maximum(probabilities[states[:, 0], actions], 1e-30)), states[:, 0]
        expected = (probabilities[cells, actions] * guessed[after[cells, actions]] * lake.discount).sum(1)
        afterstates = jnp.concatenate([states, actions[:, None]], 1)
        return mctx.DecisionRecurrentFnOutput(chance_logits=logits, afterstate_value=expected), afterstates

    def fall(guessed: Any, _key: Any, outcomes: Any, afterstates: Any) -> Any:
        cells, left, actions = afterstates.T
        next_cells = after[cells, actions, outcomes]
        is_over = ends[cells, actions, outcomes] | (left <= 1)
        out = mctx.ChanceRecurrentFnOutput(
            action_logits=jnp.zeros((len(cells), 4)),
            value=jnp.where(is_over, 0.0, guessed[next_cells]),
            reward=jnp.where(left >= 1, rewards[cells, actions, outcomes], 0.0),
            discount=jnp.where(is_over, 0.0, lake.discount),
        )
        return out, jnp.stack([next_cells, left - 1], 1)

    @jax.jit
    def search(guessed: Any, states: Any) -> Any:
        root = mctx.RootFnOutput(prior_logits=jnp.zeros((len(states), 4)), value=guessed[states[:, 0]], embedding=states)
        answer = mctx.stochastic_muzero_policy(
            guessed, jax.random.PRNGKey(0), root, decide, fall, num_simulations, dirichlet_fraction=0.0, temperature=0.0
        )
        return answer.search_tree.node_values[:, 0], answer.action

    states = jnp.array(lake.roots())

    def answer(guessed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, actions = search(jnp.array(guessed), states)
        return np.asarray(values), np.asarray(actions)

    return answer


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    "The best of some runs, after one that compiles."
    work()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def short_rows(table: Table, name: str, budgets: tuple[int, ...], has_mctx: bool) -> None:
    "Three steps before the end: errors of the root's value."
    lake = Lake(name, 3, 0.95)
    says = lambda errors: "; ".join(f"{budget}: {error:.4f}" for budget, error in zip(budgets, errors, strict=False))
    label = lambda who: f"{name}, three steps left, {who}: error of the value by states predicted"
    errors = [lake.error(lake.chance(MCTSConfig(budget, normalization="siblings")).values) for budget in budgets]
    table.row(
        label("chance nodes, PUCT as in mctx"), says(errors), f"≤ a quarter of {budgets[0]}'s at the end", errors[-1] <= errors[0] / 4
    )
    if has_mctx:
        table.row(
            label("mctx"),
            says([lake.error(mctx_search(lake, 2 * budget)(lake.guessed)[0]) for budget in budgets if budget <= MOST_OF_MCTX["short"]]),
        )
    else:
        table.row(label("mctx"), "absent")
    for who, search, rules in (
        ("chance nodes, PUCT", lake.chance, {}),
        ("chance nodes, Gumbel", lake.chance, {"algorithm": "gumbel", "gumbel_scale": 0.0}),
        ("chance nodes, Gumbel, siblings", lake.chance, {"algorithm": "gumbel", "normalization": "siblings", "gumbel_scale": 0.0}),
        ("expected state, PUCT", lake.expected, {}),
        ("expected state, Gumbel", lake.expected, {"algorithm": "gumbel", "gumbel_scale": 0.0}),
    ):
        table.row(label(who), says([lake.error(search(MCTSConfig(budget, **rules)).values) for budget in budgets]))


def noisy_rows(table: Table, name: str, budgets: tuple[int, ...], num_noises: int, has_mctx: bool) -> None:
    "A long way to go and a value that is the true one with noise of 0.1: what playing the searched moves loses, exactly."
    lost: dict[str, list[list[float]]] = {}
    peers = {budget: mctx_search(Lake(name, 1000, 0.99), 2 * budget) for budget in budgets if has_mctx and budget <= MOST_OF_MCTX["noisy"]}
    for seed in range(num_noises):
        lake = Lake(name, 1000, 0.99)
        lake.guessed = lake.exact + np.random.default_rng(seed).normal(0, 0.1, len(lake.exact))
        for budget in budgets:
            gumbel = {"algorithm": "gumbel", "gumbel_scale": 0.0}
            for who, rules in (("PUCT", {}), ("Gumbel", gumbel), ("Gumbel, siblings", gumbel | {"normalization": "siblings"})):
                config = MCTSConfig(budget, **rules)
                lost.setdefault(f"chance nodes, {who}", []).append([budget, lake.lost_return(lake.chance(config).actions)])
                lost.setdefault(f"expected state, {who}", []).append([budget, lake.lost_return(lake.expected(config).actions)])
            if budget in peers:
                lost.setdefault("mctx", []).append([budget, lake.lost_return(peers[budget](lake.guessed)[1])])
    for who, pairs in lost.items():
        means = {budget: np.mean([loss for one, loss in pairs if one == budget]) for budget in dict.fromkeys(one for one, _ in pairs)}
        table.row(
            f"{name}, a long way to go, {who}: return lost by states predicted",
            "; ".join(f"{budget:.0f}: {loss:.3f}" for budget, loss in means.items()),
        )


def speed_rows(table: Table, has_mctx: bool) -> None:
    "CPU-seconds: one outcome beside the search without chance, measured in turn; the lake beside mctx."
    weights = np.random.default_rng(0).normal(size=(32, 32)) / 6
    predict = lambda states: (states[:, :8], states[:, 8], None)
    step = lambda states, actions: (np.tanh(states @ weights + actions[:, None] / 8), states[:, 9], np.full(len(states), 0.97))
    act = lambda states, actions: (np.column_stack([states, actions]), np.ones((len(states), 1)))
    settle = lambda afterstates, outcomes: step(afterstates[:, :-1], afterstates[:, -1])
    roots, ratios, seconds = np.random.default_rng(1).normal(size=(64, 32)), [], []
    without, with_chance = MCTS(predict, step, MCTSConfig(200)), ChanceMCTS(predict, act, settle, MCTSConfig(200))
    for _ in range(7):
        pair = [cpu_seconds(lambda search=search: search.search(roots), 2) for search in (without, with_chance)]
        seconds.append(pair[0])
        ratios.append(pair[1] / pair[0])
    table.row(
        "64 roots, 8 actions, one outcome each: CPU-s beside the search without chance, the model's two halves included",
        f"{np.median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f}); {64 * 200 / min(seconds):,.0f} simulations/s without chance",
    )
    lake = Lake(LAKES[1], 1000, 0.99)
    lake.guessed = lake.exact
    rate = len(lake.cells) * 256 / cpu_seconds(lambda: lake.chance(MCTSConfig(256, normalization="siblings")), 3)
    if has_mctx:
        peer = mctx_search(lake, 512)
        other = len(lake.cells) * 256 / cpu_seconds(lambda: peer(lake.guessed), 1)
        words = f"{rate:,.0f}; mctx {other:,.0f}: {rate / other:.1f} ×"
    else:
        words = f"{rate:,.0f}; mctx absent"
    table.row(f"{LAKES[1]}, {len(lake.cells)} roots, 256 states each: states predicted in a CPU-second", words)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer simulations")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument(
        "--peer-python", type=Path, help="an interpreter that has mctx beside lightbulb's dependencies; everything runs in it"
    )
    options = parser.parse_args()
    if options.peer_python and options.peer_python.absolute() != Path(sys.executable).absolute():
        os.execve(options.peer_python, [str(options.peer_python), *sys.argv], peer_environment())
    table, has_mctx = Table("Tree search with chance nodes", ("numba", "mctx", "jax")), importlib.util.find_spec("mctx") is not None
    for name in LAKES[:1] if options.quick else LAKES:
        short_rows(table, name, BUDGETS[:4] if options.quick else BUDGETS, has_mctx)
        noisy_rows(table, name, NOISY_BUDGETS[:3] if options.quick else NOISY_BUDGETS, 1 if options.quick else 10, has_mctx)
    speed_rows(table, has_mctx)
    table.note(
        "From every cell. Three steps before the end the model knows nothing of worth (value 0, flat prior, discount 0.95); up to four "
        "steps a reply to a slip is worth nothing on these lakes, so that expected states, a third as many, tend to the exact value too. "
        "A long way to go: 1000 steps, discount 0.99, the model's value is the true one with normal noise of 0.1, ten draws; the mean of "
        "what the searched moves lose. Expected states are the exact distributions over cells, valued by the mean: the best that one "
        "imagined latent for each action can be. mctx gets the mean of the outcomes' values for an afterstate."
    )
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
