"""Tree search beside mctx and LightZero: simulations per CPU-second with the same small network, 16 actions, 50 simulations.

The network is a dynamics of two layers (the action's embedding added in the first) with prior, value and reward in one product. Every
search gets the same weights and roots, without noise for PUCT. PUCT has two rows: Q normalised among siblings, which is what mctx
does and gives trees of the same depth, stands beside mctx; Q normalised over the tree stands beside LightZero, which does that too.
LightZero is its compiled C++ tree (`mz_tree`) in the loop of its own `MuZeroMCTSCtree.search`. Peers may live in another environment:
`--peer-python PATH` runs everything in it; where a peer is absent its rows say so.
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

import numpy as np
import torch
from _table import Table, peer_environment

from lightbulb.planning.compiled_model import CompiledModel, DenseLayer
from lightbulb.planning.mcts import MCTS, MCTSConfig, kernel_rules
from lightbulb.planning.search_kernels import Prediction, Transition, back_up, expand, new_arrays, new_selection, select, start_roots

ACTIONS, SIMULATIONS, DISCOUNT = 16, 50, 0.99
Weights = dict[str, np.ndarray]


def network(width: int) -> Weights:
    "Random weights that keep the latents in motion."
    generator = np.random.default_rng(0)
    draw = lambda *shape: generator.normal(size=shape).astype(np.float32)
    scale = np.float32(1.2 / np.sqrt(width))
    return {
        "embedding": draw(ACTIONS, width) / 2,
        "first": draw(width, width) * scale,
        "second": draw(width, width) * scale,
        "bias": draw(width) / 10,
        "heads": draw(width, ACTIONS + 2) * scale,
        "head_bias": draw(ACTIONS + 2) / 10,
    }


def latents(batch: int, width: int) -> np.ndarray:
    return np.tanh(np.random.default_rng(1).normal(size=(batch, width))).astype(np.float32)


def cpu_seconds(search: Callable[[], Any], repeats: int = 5, at_least: float = 0.06) -> float:
    "The best of some runs, each long enough to be measured."
    search()
    start = time.process_time()
    search()
    times = max(1, int(at_least / max(time.process_time() - start, 1e-6)))
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(times):
            search()
        best = min(best, (time.process_time() - start) / times)
    return best


# ------------------------------------------------------------------ lightbulb


def torch_model(weights: Weights, device: str = "cpu") -> tuple[Any, Any]:
    "`predict`, and the fused step: one addmm a layer, the heads in one product."
    w = {name: torch.from_numpy(array).to(device) for name, array in weights.items()}
    discounts = np.full(4096, DISCOUNT)

    def heads(states: torch.Tensor) -> np.ndarray:
        return torch.addmm(w["head_bias"], states, w["heads"]).cpu().numpy()

    def predict(states: torch.Tensor) -> Any:
        out = heads(states)
        return out[:, :ACTIONS], out[:, ACTIONS], None

    def both(states: torch.Tensor, actions: torch.Tensor) -> Any:
        hidden = torch.addmm(w["embedding"].index_select(0, actions), states, w["first"]).relu_()
        states = torch.addmm(w["bias"], hidden, w["second"]).tanh_()
        out = heads(states)
        return states, out[:, ACTIONS + 1], discounts[: len(out)], out[:, :ACTIONS], out[:, ACTIONS], None

    return predict, both


def ours(weights: Weights, roots: np.ndarray, device: str = "cpu", compiled: bool = False, **kind: Any) -> tuple[float, float]:
    "CPU-seconds of a search and mean depth."
    config = MCTSConfig(SIMULATIONS, 1.25, **kind)
    if compiled:
        layers = [
            DenseLayer(weights["first"], np.zeros_like(weights["bias"]), "relu"),
            DenseLayer(weights["second"], weights["bias"], "tanh"),
        ]
        model = CompiledModel(layers, weights["embedding"], weights["heads"], weights["head_bias"], discount=DISCOUNT)
        search, states = MCTS(model.predict, model.step, config, compiled=model), roots
    else:
        predict, both = torch_model(weights, device)
        search, states = MCTS(predict, lambda s, a: both(s, a)[:3], config, step_and_predict=both), torch.from_numpy(roots).to(device)
    with torch.inference_mode():
        return cpu_seconds(lambda: search.search(states)), float(search.search(states).mean_depth.mean())


def tree_alone(batch: int, peak: float = 0.0, **kind: Any) -> tuple[float, float]:
    "Seconds and depth of the kernels with a model that costs nothing: its words are drawn beforehand; `peak` favours one action."
    generator, config = np.random.default_rng(0), MCTSConfig(SIMULATIONS, 1.25, **kind)
    logits = generator.normal(size=(SIMULATIONS + 1, batch, ACTIONS))
    logits[:, :, 3] += peak
    every_action = np.zeros((0, ACTIONS), bool)
    predictions = [Prediction(row, generator.normal(size=batch), every_action) for row in logits]
    transitions = [Transition(generator.normal(size=batch) / 10, np.full(batch, DISCOUNT)) for _ in logits]
    rules, selection, spent, depth = kernel_rules(config, ACTIONS, SIMULATIONS + 1), new_selection(batch), [], 0.0
    for _ in range(12):
        arrays = new_arrays(batch, SIMULATIONS + 1, ACTIONS)
        arrays.noise[:] = generator.gumbel(size=arrays.noise.shape)
        start_roots(arrays, predictions[0])
        start = time.process_time()
        for k in range(1, SIMULATIONS + 1):
            select(arrays, rules, selection)
            expand(arrays, selection, transitions[k], predictions[k])
            back_up(arrays, selection)
        spent.append(time.process_time() - start)
        depth = float(arrays.depths[:, 0].mean()) / SIMULATIONS
    return min(spent[1:]), depth


# ------------------------------------------------------------------ mctx


def mctx_search(weights: Weights, roots: np.ndarray, algorithm: str, gumbel_scale: float = 1.0) -> Callable[[], Any]:
    "A search, compiled; it returns its tree."
    import jax
    import jax.numpy as jnp
    import mctx

    def recurrent(w: Any, _: Any, actions: Any, states: Any) -> Any:
        hidden = jax.nn.relu(states @ w["first"] + w["embedding"][actions])
        states = jnp.tanh(hidden @ w["second"] + w["bias"])
        out = states @ w["heads"] + w["head_bias"]
        discounts = jnp.full(states.shape[0], DISCOUNT)
        return mctx.RecurrentFnOutput(
            reward=out[:, ACTIONS + 1], discount=discounts, prior_logits=out[:, :ACTIONS], value=out[:, ACTIONS]
        ), states

    @jax.jit
    def search(w: Any, key: Any, states: Any) -> Any:
        out = states @ w["heads"] + w["head_bias"]
        root = mctx.RootFnOutput(prior_logits=out[:, :ACTIONS], value=out[:, ACTIONS], embedding=states)
        if algorithm == "gumbel":
            found = mctx.gumbel_muzero_policy(w, key, root, recurrent, SIMULATIONS, gumbel_scale=gumbel_scale)
        else:
            found = mctx.muzero_policy(w, key, root, recurrent, SIMULATIONS, dirichlet_fraction=0.0)
        return found.search_tree.parents, found.search_tree.children_visits[:, 0]

    states, key = jnp.asarray(roots), jax.random.PRNGKey(0)
    return lambda: [part.block_until_ready() for part in search(weights, key, states)]


def mctx_speed(weights: Weights, roots: np.ndarray, algorithm: str) -> tuple[float, float]:
    "CPU-seconds of a search (one thread) and mean depth."
    search = mctx_search(weights, roots, algorithm)
    parents = np.asarray(search()[0])
    depths = np.zeros(parents.shape)
    for node in range(1, SIMULATIONS + 1):
        depths[:, node] = depths[np.arange(len(roots)), parents[:, node]] + 1
    return cpu_seconds(search), float(depths[:, 1:].mean())


def agreement(table: Table) -> None:
    "The same visits as mctx, root by root, in float32 on both sides and without noise."
    weights, roots = network(128), latents(256, 128)
    predict, both = torch_model(weights)
    for kind, other, options in (
        ("PUCT, siblings", "muzero", {"normalization": "siblings"}),
        ("Gumbel, siblings", "gumbel", {"algorithm": "gumbel", "normalization": "siblings", "gumbel_scale": 0.0}),
    ):
        with torch.inference_mode():
            mine = (
                MCTS(predict, lambda s, a: both(s, a)[:3], MCTSConfig(SIMULATIONS, 1.25, **options), step_and_predict=both)
                .search(torch.from_numpy(roots))
                .visit_counts
            )
        same = (mine == np.asarray(mctx_search(weights, roots, other, gumbel_scale=0.0)()[1])).all(1)
        table.row(
            f"lightbulb {kind}: visit counts equal those of mctx {other}",
            f"{same.sum()} of {len(same)} roots",
            "≥ 98%",
            bool(same.mean() >= 0.98),
        )


# ------------------------------------------------------------------ LightZero


def lightzero_tree() -> Any:
    "Its compiled tree, without its package's imports; None if it is not installed."
    spec = importlib.util.find_spec("lzero")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in (Path(folder) / "mcts/ctree/ctree_muzero").glob("mz_tree*.so"):
            found = importlib.util.spec_from_file_location("mz_tree", path)
            assert found and found.loader
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return module
    return None


def lightzero_search(tree: Any, weights: Weights, roots: np.ndarray) -> tuple[float, float]:
    "The loop of `MuZeroMCTSCtree.search` around the fused step."
    predict, both = torch_model(weights)
    batch, depth = len(roots), []

    def search() -> None:
        logits, _, _ = predict(torch.from_numpy(roots))
        trees = tree.Roots(batch, [list(range(ACTIONS))] * batch)
        trees.prepare_no_noise([0.0] * batch, logits.tolist(), [-1] * batch)
        states, bounds, players = [roots], tree.MinMaxStatsList(batch), [-1] * batch
        bounds.set_delta(0.01)
        depth.clear()
        for simulation in range(SIMULATIONS):
            results = tree.ResultsWrapper(num=batch)
            rows, columns, actions, players = tree.batch_traverse(trees, 19652, 1.25, DISCOUNT, bounds, results, players)
            depth.extend(results.get_search_len())
            leaves = torch.from_numpy(np.asarray([states[row][column] for row, column in zip(rows, columns, strict=True)]))
            after, rewards, _, logits, values, _ = both(leaves, torch.from_numpy(np.asarray(actions)).long())
            states.append(after.numpy())
            tree.batch_backpropagate(simulation + 1, DISCOUNT, rewards.tolist(), values.tolist(), logits.tolist(), bounds, results, players)

    with torch.inference_mode():
        return cpu_seconds(search), float(np.mean(depth))


# ------------------------------------------------------------------ tic-tac-toe

LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


def play(boards: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "One move on each board, seen by who moves: 1 mine, -1 theirs."
    boards = boards.copy()
    boards[np.arange(len(boards)), actions] = 1
    is_won = (boards[:, LINES] == 1).all(2).any(1)
    return -boards, is_won.astype(float), np.where(is_won | (boards != 0).all(1), 0.0, -1.0)


def solve(board: tuple[int, ...], moves: dict[tuple[int, ...], dict[int, float]]) -> float:
    "The value of a position; every position below it gets the values of its moves."
    if board not in moves:
        moves[board] = {}
        for action in np.flatnonzero(np.array(board) == 0).tolist():
            after, rewards, discounts = play(np.array([board]), np.array([action]))
            moves[board][action] = rewards[0] + discounts[0] * (solve(tuple(after[0].tolist()), moves) if discounts[0] else 0.0)
    return max(moves[board].values())


def tic_tac_toe(table: Table, num_simulations: int) -> None:
    "All positions, from the rules alone: a flat prior, value 0."
    moves: dict[tuple[int, ...], dict[int, float]] = {}
    solve((0,) * 9, moves)
    positions, wrong = np.array(list(moves), np.int8), 0
    search = MCTS(lambda boards: (np.zeros((len(boards), 9)), np.zeros(len(boards)), boards == 0), play, MCTSConfig(num_simulations, 1.25))
    start = time.process_time()
    for first in range(0, len(positions), 565):
        actions = search.search(positions[first : first + 565]).actions
        wrong += sum(
            moves[tuple(board)][action] < max(moves[tuple(board)].values())
            for board, action in zip(positions[first : first + 565].tolist(), actions.tolist(), strict=True)
        )
    seconds = time.process_time() - start
    table.row(
        f"tic-tac-toe from the rules alone (flat prior, value 0), {num_simulations} simulations",
        f"a minimax-optimal move in {len(positions) - wrong:,} of {len(positions):,} positions, {seconds:.0f} CPU-s",
        "all",
        wrong == 0,
    )


# ------------------------------------------------------------------ random trees


class RandomTrees:
    "Full trees with a reward of 0 to 1 on every branch; states (B, 3) are tree, depth and node. Their best moves are known."

    def __init__(self, num_actions: int, depth: int, seed: int, error: float | None, count: int = 400) -> None:  # error: of the values
        generator = np.random.default_rng(seed)
        self.num_actions, self.count, self.error = num_actions, count, error
        self.rewards = [generator.random((count, num_actions**level)) for level in range(1, depth + 1)]
        self.values = [np.zeros((count, num_actions**depth))]
        for rewards in reversed(self.rewards):
            best = (rewards + self.values[0]).reshape(count, -1, num_actions)
            self.values.insert(0, best.max(2))
        self.moves = best[:, 0]
        self.said = [values + (error or 0.0) * generator.normal(size=values.shape) for values in self.values]

    def predict(self, states: np.ndarray) -> Any:
        values = [self.said[depth][tree, node] for tree, depth, node in states] if self.error is not None else 0.0
        return np.zeros((len(states), self.num_actions)), np.zeros(len(states)) + values, None

    def step(self, states: np.ndarray, actions: np.ndarray) -> Any:
        tree, depth, node = states.T
        after = np.stack([tree, depth + 1, node * self.num_actions + actions], 1)
        rewards = np.array([self.rewards[level][row, place] for row, level, place in zip(tree, depth, after[:, 2], strict=True)])
        return after, rewards, np.where(depth + 1 == len(self.rewards), 0.0, 1.0)


def random_trees(table: Table) -> None:
    "How much the chosen move loses, with a flat prior; what the node's own value in the stretch changes is beside mctx's way."
    seeds = (2, 3, 4)  # ways to stretch were compared on seeds 0 and 1
    for num_actions, depth in ((3, 3), (3, 5), (8, 3), (2, 8)):
        for error in (None, 0.3):
            says = "value 0" if error is None else f"values off by {error:g}"
            worlds = [RandomTrees(num_actions, depth, seed, error) for seed in seeds]
            for name, options in (
                ("PUCT, tree", {}),
                ("PUCT, siblings (mctx)", {"normalization": "siblings"}),
                ("Gumbel", {"algorithm": "gumbel", "gumbel_scale": 0.0}),
                ("Gumbel, siblings (mctx)", {"algorithm": "gumbel", "gumbel_scale": 0.0, "normalization": "siblings"}),
            ):
                columns = []
                for simulations in (10, 50, 400):
                    lost = []
                    for world in worlds:
                        roots = np.stack([np.arange(world.count), *np.zeros((2, world.count), int)], 1)
                        actions = MCTS(world.predict, world.step, MCTSConfig(simulations, **options)).search(roots).actions  # type: ignore[arg-type]
                        lost.append(float((world.moves.max(1) - world.moves[np.arange(world.count), actions]).mean()))
                    columns.append(f"{simulations}: {np.mean(lost):.3f} ({min(lost):.3f} to {max(lost):.3f})")
                table.row(f"{num_actions} actions, {depth} deep, {says}, {name}: reward lost by simulations", "; ".join(columns))
    table.note("400 trees for each of three seeds, a reward of 0 to 1 on every branch, flat priors; mean, and the seeds' range.")
    table.note(
        "That the node's own value takes part in Gumbel's stretch was chosen on two other seeds, beside leaving it out (siblings) and "
        "stretching over at least 0.1, 0.25, 0.5 or all of the tree's span. Where values are as noisy as moves are close it may lose more: "
        "benchmarks/chance_nodes.py has both ways on FrozenLake."
    )


# ------------------------------------------------------------------ rows


def speed(table: Table, width: int, batch: int, lightzero: Any, has_mctx: bool) -> None:
    "All searches of one setting."
    weights, roots = network(width), latents(batch, width)
    count = batch * SIMULATIONS
    says = lambda found: f"{count / found[0]:,.0f}/s, depth {found[1]:.1f}"
    name = lambda what: f"{what}, {width} states, batch {batch}"
    peers = {kind: mctx_speed(weights, roots, kind) for kind in ("muzero", "gumbel")} if has_mctx else {}
    found = {
        "siblings": ours(weights, roots, normalization="siblings"),
        "tree": ours(weights, roots),
        "gumbel": ours(weights, roots, algorithm="gumbel", normalization="siblings"),
    }
    for kind in ("muzero", "gumbel"):
        table.row(name(f"mctx {kind}"), says(peers[kind]) if peers else "absent")
    table.row(name("LightZero"), says(peer := lightzero_search(lightzero, weights, roots)) if lightzero else "absent")
    for kind, other, aim in (("siblings", "muzero", 5.0 if batch > 1 else None), ("gumbel", "gumbel", 1.0 if batch > 1 else None)):
        ratio = peers[other][0] / found[kind][0] if peers else None
        aimed = f"≥ {aim:g} × mctx {other}" if aim else ""
        label = "PUCT, siblings" if kind == "siblings" else "Gumbel, siblings"
        table.row(
            name(f"lightbulb {label}"),
            says(found[kind]) + (f", {ratio:.1f} × mctx" if ratio else ""),
            aimed,
            ratio >= aim if ratio and aim else None,
        )
    ratio = peer[0] / found["tree"][0] if lightzero else None
    aim = batch > 1
    table.row(
        name("lightbulb PUCT, tree"),
        says(found["tree"]) + (f", {ratio:.1f} × LightZero" if ratio else ""),
        "≥ 2 × LightZero" if aim else "",
        ratio >= 2 if ratio and aim else None,
    )
    for kind, options in (("PUCT, siblings", {"normalization": "siblings"}), ("Gumbel", {"algorithm": "gumbel"})):
        inside = ours(weights, roots, compiled=True, **options)
        ratio = peers["gumbel"][0] / inside[0] if peers and batch == 1 else None
        table.row(
            name(f"lightbulb {kind}, model compiled in"), says(inside), "≥ mctx gumbel" if batch == 1 else "", ratio >= 1 if ratio else None
        )


def overhead(table: Table) -> None:
    "The tree alone."
    for kind, options in (("PUCT, tree", {}), ("PUCT, siblings", {"normalization": "siblings"}), ("Gumbel", {"algorithm": "gumbel"})):
        seconds, depth = tree_alone(256, **options)
        cost = seconds / 256 / SIMULATIONS * 1e6
        table.row(f"tree alone, {kind}, batch 256", f"{cost:.2f} µs a simulation at depth {depth:.1f}", "≤ 1 µs", cost <= 1)
    points = [tree_alone(256, peak) for peak in (0.0, 1.5, 3.0, 4.5, 6.0, 9.0)]
    costs, depths = np.array([p[0] for p in points]) / 256 / SIMULATIONS * 1e6, np.array([p[1] for p in points])
    slope, start = np.polyfit(depths, costs, 1)
    explained = 1 - ((costs - start - slope * depths) ** 2).sum() / ((costs - costs.mean()) ** 2).sum()
    line = "; ".join(f"{depth:.1f}: {cost:.2f}" for depth, cost in zip(depths, costs, strict=True))
    table.row(
        "tree alone, PUCT, tree, by depth",
        f"{start:.2f} + {slope:.3f} · depth µs, R² {explained:.2f} ({line})",
        "linear: R² ≥ 0.9",
        explained >= 0.9,
    )


def gpu(table: Table) -> None:
    "The fused model on a GPU: wall-clock, since the CPU waits."
    if not torch.cuda.is_available():
        table.row("lightbulb PUCT, siblings, model on a GPU, 256 states, batch 256", "absent: no GPU here")
        return
    weights, roots = network(256), latents(256, 256)
    predict, both = torch_model(weights, "cuda")
    search, states = (
        MCTS(predict, lambda s, a: both(s, a)[:3], MCTSConfig(SIMULATIONS, 1.25, normalization="siblings"), step_and_predict=both),
        torch.from_numpy(roots).cuda(),
    )
    with torch.inference_mode():
        search.search(states)
        start = time.perf_counter()
        for _ in range(10):
            search.search(states)
        seconds = (time.perf_counter() - start) / 10
    table.row(
        "lightbulb PUCT, siblings, model on a GPU, 256 states, batch 256",
        f"{256 * SIMULATIONS / seconds:,.0f} simulations per second on {torch.cuda.get_device_name()}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: 128 states only")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--trees", action="store_true", help="only random trees, in a table of their own")
    parser.add_argument(
        "--peer-python", type=Path, help="an interpreter that has mctx and lightzero beside lightbulb's dependencies; everything runs in it"
    )
    options = parser.parse_args()
    if options.peer_python and options.peer_python.absolute() != Path(sys.executable).absolute():
        os.execve(options.peer_python, [str(options.peer_python), *sys.argv], peer_environment())
    torch.set_num_threads(1)
    if options.trees:
        table = Table("Tree search on random trees", ("numba",))
        random_trees(table)
        return table.finish(options.record)
    table, lightzero = Table("Monte Carlo tree search", ("numba", "mctx", "jax", "lightzero")), lightzero_tree()
    has_mctx = importlib.util.find_spec("mctx") is not None
    for width in (128,) if options.quick else (64, 128, 256):
        for batch in (1, 32, 256):
            speed(table, width, batch, lightzero, has_mctx)
    if has_mctx:
        agreement(table)
    overhead(table)
    gpu(table)
    if not options.quick:
        tic_tac_toe(table, 3200)
    table.note("Simulations per CPU-second, process time, one thread each, the best of five; 16 actions, 50 simulations a search.")
    table.note("Depth is the mean number of actions from the root to the new node: searches of equal depth do equal work in the tree.")
    if (load := os.getloadavg()[0]) > 2:
        table.note(
            f"Other work ran on the machine (load {load:.0f}): compare rows with one another; CPU-seconds are longer than on an idle one."
        )
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
