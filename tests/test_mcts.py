"""Tree search against its plain version, against mctx's definitions written out, and against games and bandits that are solved."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.compiled_model import CompiledModel, DenseLayer
from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.planning.plain_search import PlainNode, PlainSearch, plain_choice, plain_completed_q
from lightbulb.world.board_games import BoardGame

# ------------------------------------------------------------------ worlds


class RandomWorld:
    "A world without end or with: what follows is a hash of the state and the action, so nothing about it is regular."

    def __init__(self, num_actions: int, ends: float = 0.0, legal: float = 1.0, two_players: bool = False, rewards: float = 1.0) -> None:
        self.num_actions, self.ends, self.legal, self.two_players, self.rewards = num_actions, ends, legal, two_players, rewards

    def numbers(self, states: np.ndarray, salt: int, count: int) -> np.ndarray:
        "Uniform numbers (B, count) that depend on state and salt only."
        keys = states.astype(np.uint64)[:, None] * np.uint64(1_000_003) + np.arange(count, dtype=np.uint64) + np.uint64(salt * 7919)
        for shift in (30, 27, 31):
            keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(0x94D049BB133111EB)
        return (keys >> np.uint64(11)).astype(np.float64) / 2**53

    def predict(self, states):
        legal = self.numbers(states, 3, self.num_actions) < self.legal
        legal[np.arange(len(states)), (states % self.num_actions).astype(int)] = True  # always something to do
        return 4 * self.numbers(states, 1, self.num_actions), 2 * self.numbers(states, 2, 1)[:, 0] - 1, legal

    def step(self, states, actions):
        states = (states * 31 + actions + 1) % 1_000_000_007
        chance = self.numbers(states, 4, 2)
        discounts = np.where(chance[:, 1] < self.ends, 0.0, -0.97 if self.two_players else 0.97)
        return states, self.rewards * (2 * chance[:, 0] - 1), discounts


LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


class TicTacToe:
    "Boards (B, 9) seen by who moves: 1 mine, -1 theirs. Knows the rules and, of every position, who will win."

    def __init__(self) -> None:
        self.best: dict[tuple[int, ...], tuple[float, list[float | None]]] = {}
        self.solve((0,) * 9)
        self.positions = np.array(list(self.best), np.int8)
        self.is_optimal = np.array([[value == best for value in values] for best, values in self.best.values()])
        self.table = np.zeros(3**9)
        self.table[self.index(self.positions)] = [best for best, _ in self.best.values()]

    def index(self, boards):
        return ((boards.astype(np.int64) + 1) * 3 ** np.arange(9)).sum(1)

    def solve(self, board) -> float:
        if board not in self.best:
            values: list[float | None] = [None] * 9
            self.best[board] = (0.0, values)  # takes its place in the order; written below
            for action in range(9):
                if board[action]: continue
                after = board[:action] + (1,) + board[action + 1 :]
                if any(all(after[i] == 1 for i in line) for line in LINES):
                    values[action] = 1.0
                elif all(after):
                    values[action] = 0.0
                else:
                    values[action] = -self.solve(tuple(-x for x in after))
            self.best[board] = (max(value for value in values if value is not None), values)
        return self.best[board][0]

    def rules(self, boards):
        return np.zeros((len(boards), 9)), np.zeros(len(boards)), boards == 0

    def predict(self, boards):
        return np.zeros((len(boards), 9)), self.table[self.index(boards)], boards == 0

    def step(self, boards, actions):
        boards = boards.copy()
        boards[np.arange(len(boards)), actions] = 1
        is_won = (boards[:, LINES] == 1).all(2).any(1)
        return -boards, is_won.astype(float), np.where(is_won | (boards != 0).all(1), 0.0, -1.0)


@pytest.fixture(scope="module")
def game() -> TicTacToe:
    return TicTacToe()


# ------------------------------------------------------------------ the plain version


def assert_same_tree(result, b: int, node: PlainNode, index: int = 0) -> int:
    "Visits, Q, states of the whole tree are equal; returns how many nodes were compared."
    arrays, count = result.tree.arrays, 1
    for action in node.visits:
        assert arrays.visits[b, index, action] == node.visits[action]
        assert arrays.q_values[b, index, action] == node.q_values[action]  # to the last bit
        if action not in node.children: continue
        child, found = node.children[action], arrays.children[b, index, action]
        assert result.tree.states.read(np.array([found * len(arrays.children) + b]))[0] == child.state
        assert arrays.discounts[b, found] == child.discount
        if child.discount == 0:
            assert (arrays.children[b, found] == -1).all()  # never expanded past its end
        else:
            count += assert_same_tree(result, b, child, found)
    return count


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("puct", "tree"), ("puct", "siblings"), ("gumbel", "tree"), ("gumbel", "siblings")]),
    st.integers(1, 7),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([1.0, 0.5]),
    st.integers(0, 10**6),
    st.sampled_from([2, 16]),
)
def test_every_tree_equals_the_plain_version(kind, num_actions, simulations, two_players, ends, legal, first, considered):
    world = RandomWorld(num_actions, ends, legal, two_players)
    config = MCTSConfig(simulations, 1.25, kind[0], normalization=kind[1], max_considered_actions=considered)
    roots = np.arange(first, first + 3)
    result = MCTS(world.predict, world.step, config).search(roots)
    for b, state in enumerate(roots):
        search = PlainSearch(world.predict, world.step, plain_choice(config, result.tree.arrays.noise[b]))
        root = search.search(state, simulations)
        assert [root.visits.get(a, 0) for a in range(num_actions)] == result.visit_counts[b].tolist()
        assert_same_tree(result, b, root)
        mean = (root.value + sum(root.visits[a] * root.q_values[a] for a in root.visits)) / (1 + simulations)
        improved = sum(result.policy[b, a] * q for a, q in plain_completed_q(root).items())
        assert math.isclose(result.values[b], improved if kind[0] == "gumbel" else mean, abs_tol=1e-12)


def test_a_large_search_equals_the_plain_version(game):
    for algorithm in ("puct", "gumbel"):
        config = MCTSConfig(400, 1.25, algorithm, gumbel_scale=0.0)
        result = MCTS(game.rules, game.step, config).search(np.zeros((1, 9), np.int8))
        root = PlainSearch(game.rules, game.step, plain_choice(config, np.zeros(9))).search(np.zeros(9, np.int8), 400)
        assert [root.visits[a] for a in range(9)] == result.visit_counts[0].tolist()


# ------------------------------------------------------------------ games and bandits with known answers


@pytest.mark.parametrize("normalization", ["tree", "siblings"])
def test_256_simulations_play_a_minimax_optimal_move_in_every_tic_tac_toe_position(game, normalization):
    "A perfect model: the rules, the value of every position; no preference among the moves."
    assert len(game.positions) == 4520
    search = MCTS(game.predict, game.step, MCTSConfig(256, normalization=normalization))
    actions = np.concatenate([search.search(game.positions[i : i + 565]).actions for i in range(0, 4520, 565)])
    wrong = game.positions[~game.is_optimal[np.arange(4520), actions]]
    assert not len(wrong), f"{len(wrong)} of 4520, the first: {wrong[0]}"


def test_the_rules_alone_find_every_win_in_one_and_block_every_loss_in_one(game):
    result = MCTS(game.rules, game.step, MCTSConfig(200)).search(game.positions)
    after, rewards, _ = game.step(game.positions, result.actions)
    wins = np.array([any(game.step(board[None], np.array([a]))[1][0] for a in np.flatnonzero(board == 0)) for board in game.positions])
    assert wins.sum() > 2000 and rewards[wins].all()


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_bandit_gives_its_best_arm_and_its_value(algorithm):
    rewards = np.array([[0.1, 0.9, 0.4, 0.3], [5.0, -3.0, 4.9, 0.0]])  # two scales: normalisation makes them alike
    predict = lambda arms: (np.zeros((len(arms), 4)), np.zeros(len(arms)), None)
    step = lambda arms, actions: (arms, rewards[arms, actions], np.zeros(len(arms)))
    result = MCTS(predict, step, MCTSConfig(400, algorithm=algorithm)).search(np.arange(2))
    assert result.actions.tolist() == [1, 0]
    seen = result.visit_counts > 0
    assert np.allclose(result.q_values[seen], rewards[seen])
    assert (result.num_steps == seen.sum(1)).all() and (result.max_depth == 1).all()  # an end is stepped into once
    if algorithm == "puct":
        assert np.allclose(result.values, (result.visit_counts * rewards).sum(1) / 401)
    assert np.allclose(result.values, rewards.max(1), atol=0.06 if algorithm == "gumbel" else 0.5)


def test_gumbel_tries_other_actions_than_the_first_below_the_root():
    "The model says 0 and every branch earns something: stretched over its own node alone, the first tried action is taken for ever."
    generator = np.random.default_rng(7)
    rewards, count = [generator.random((100, 3**depth)) for depth in (1, 2, 3)], np.arange(100)
    best = (rewards[0][:, :, None] + (rewards[1] + rewards[2].reshape(100, 9, 3).max(2)).reshape(100, 3, 3)).max(2)
    predict = lambda states: (np.zeros((len(states), 3)), np.zeros(len(states)), None)

    def step(states, actions):
        after = np.stack([states[:, 0], states[:, 1] + 1, states[:, 2] * 3 + actions], 1)
        earned = np.array([rewards[depth][tree, node] for (tree, depth, _), node in zip(states, after[:, 2], strict=True)])
        return after, earned, np.where(after[:, 1] == 3, 0.0, 1.0)

    lost, tried = {}, {}
    for normalization in ("tree", "siblings"):
        config = MCTSConfig(200, algorithm="gumbel", gumbel_scale=0.0, normalization=normalization)
        result = MCTS(predict, step, config).search(np.stack([count, 0 * count, 0 * count], 1))
        lost[normalization] = (best.max(1) - best[count, result.actions]).mean()
        arrays = result.tree.arrays
        tried[normalization] = (arrays.visits[count, arrays.children[count, 0, result.actions]] > 0).sum(1).mean()
    assert tried["siblings"] < 1.7 < 2.2 < tried["tree"]  # of three
    assert lost["tree"] < lost["siblings"] / 3


@pytest.mark.parametrize("simulations", [2, 4, 8])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 20), st.sampled_from([0.5, 2.0]))
def test_gumbel_improves_on_every_draw_of_its_noise(simulations, seed, num_actions, scale):
    "With exact Q the chosen action is never worse than the one that noise and prior alone would have drawn."
    generator = np.random.default_rng(seed)
    prior, q = scale * generator.normal(size=(64, num_actions)), generator.normal(size=(64, num_actions))
    mean = (np.exp(prior) / np.exp(prior).sum(1, keepdims=True) * q).sum(1)
    predict, arms = (lambda arms: (prior[arms], mean[arms], None)), np.arange(64)
    step = lambda arms, actions: (arms, q[arms, actions], np.zeros(len(arms)))
    result = MCTS(predict, step, MCTSConfig(simulations, algorithm="gumbel")).search(arms, seeds=arms + seed)
    drawn = (result.tree.arrays.noise + prior).argmax(1)
    assert (q[arms, result.actions] >= q[arms, drawn]).all()
    assert q[arms, result.actions].mean() > mean.mean()


@pytest.mark.parametrize(("algorithm", "tolerance"), [("puct", 0.12), ("gumbel", 0.06)])
def test_the_value_of_a_root_tends_to_that_of_best_play(game, algorithm, tolerance):
    boards = game.positions[::15]
    exact = np.array([game.solve(tuple(board)) for board in boards.tolist()])
    values = [MCTS(game.rules, game.step, MCTSConfig(n, algorithm=algorithm)).search(boards).values for n in (16, 256)]
    few, many = (np.abs(value - exact).mean() for value in values)
    assert many < tolerance and many < 0.5 * few


def test_a_golden_tree():
    "Five simulations by hand: two actions, rewards 1 and 0 at the first step, then nothing; uniform prior, value 0, discount 0.5."
    predict = lambda depths: (np.zeros((len(depths), 2)), np.zeros(len(depths)), None)
    step = lambda depths, actions: (depths + 1, ((depths == 0) & (actions == 0)).astype(float), np.full(len(depths), 0.5))
    arrays = MCTS(predict, step, MCTSConfig(5)).search(np.zeros(1, int)).tree.arrays
    # 1: a tie, so action 0.  2: its Q is the only one known and normalised to 0, action 1's bonus is larger (.88 > .44).
    # 3: Q is 1 against 0: action 0, then the first below it.  4: 1.42 > .63: action 0, then the other below it (.88 > .44).
    # 5: 1.35 > .70: action 0, below it a tie of .54, so its first action, whose node 3 is expanded.
    assert arrays.parents[0].tolist() == [-1, 0, 0, 1, 1, 3] and arrays.actions[0].tolist() == [-1, 0, 1, 0, 1, 0]
    assert arrays.visits[0, 0].tolist() == [4, 1] and arrays.q_values[0, 0].tolist() == [1.0, 0.0]
    assert arrays.bounds[0].tolist() == [0.0, 1.0] and arrays.num_nodes[0] == 6


# ------------------------------------------------------------------ batches, seeds, reuse


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_no_value_changes_when_the_batch_is_permuted(algorithm):
    world = RandomWorld(6, ends=0.1, legal=0.7, two_players=True)
    config = MCTSConfig(40, algorithm=algorithm, dirichlet_fraction=0.25, temperature=1.0)
    roots, order = np.arange(50) * 17, np.random.default_rng(0).permutation(50)
    for seeds in (None, np.arange(50)):
        one = MCTS(world.predict, world.step, config).search(roots, seeds=seeds)
        two = MCTS(world.predict, world.step, config).search(roots[order], seeds=None if seeds is None else seeds[order])
        for name in ("visit_counts", "values", "q_values", "policy", "actions", "mean_depth", "max_depth", "num_steps"):
            assert np.array_equal(getattr(one, name)[order], getattr(two, name)), name
    alone = MCTS(world.predict, world.step, config).search(roots[7:8])
    assert np.array_equal(alone.q_values[0], MCTS(world.predict, world.step, config).search(roots).q_values[7])


def test_a_seed_decides_and_equal_roots_differ():
    world, roots = RandomWorld(8), np.full(20, 5)
    search = lambda seed: MCTS(world.predict, world.step, MCTSConfig(8, algorithm="gumbel", seed=seed)).search(roots).tree.arrays.noise
    assert np.array_equal(search(1), search(1)) and not np.array_equal(search(1), search(2))
    assert len(np.unique(search(1)[:, 0])) == 20


def test_dirichlet_noise_is_puct_only_and_keeps_to_legal_actions():
    world, roots = RandomWorld(6, legal=0.5), np.arange(30)
    for algorithm in ("puct", "gumbel"):
        with_noise, without = (
            MCTS(world.predict, world.step, MCTSConfig(5, algorithm=algorithm, dirichlet_fraction=fraction, gumbel_scale=0.0))
            .search(roots)
            .tree.arrays.priors[:, 0]
            for fraction in (0.5, 0.0)
        )
        assert np.array_equal(with_noise < 0, without < 0)
        assert np.allclose(np.where(with_noise < 0, 0, with_noise).sum(1), 1)
        assert np.array_equal(with_noise, without) == (algorithm == "gumbel")


def test_padding_a_set_of_actions_changes_nothing():
    "Sampled sets of four, in arrays of four and of nine."
    world = RandomWorld(4, ends=0.1, two_players=True)

    def padded(states):
        logits, values, legal = world.predict(states)
        wide = np.full((len(states), 9), 50.0)  # what stands in illegal places does not count
        wide[:, 2:6] = logits
        return wide, values, np.pad(legal, ((0, 0), (2, 3)))

    for algorithm in ("puct", "gumbel"):
        config = MCTSConfig(50, algorithm=algorithm, gumbel_scale=0.0)
        narrow = MCTS(world.predict, world.step, config).search(np.arange(9))
        wide = MCTS(padded, lambda states, actions: world.step(states, actions - 2), config).search(np.arange(9))
        assert np.array_equal(np.pad(narrow.visit_counts, ((0, 0), (2, 3))), wide.visit_counts)
        assert np.array_equal(np.pad(narrow.q_values, ((0, 0), (2, 3))), wide.q_values)


def test_a_terminal_state_is_never_stepped_from_nor_judged():
    world, ended = RandomWorld(5, ends=0.4), set()

    def predict(states):
        logits, values, legal = world.predict(states)
        over = np.isin(states, list(ended))
        logits[over], values[over], legal[over] = np.nan, np.inf, False  # a model may say anything there
        return logits, values, legal

    def step(states, actions):
        assert not set(states.tolist()) & ended
        states, rewards, discounts = world.step(states, actions)
        ended.update(states[discounts == 0].tolist())
        return states, rewards, discounts

    result = MCTS(predict, step, MCTSConfig(100)).search(np.arange(20) * 49_979_687)
    assert np.isfinite(result.values).all() and ended and result.num_steps.max() <= 100


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_kept_subtree_is_the_old_one_and_the_search_goes_on_in_it(algorithm, game):
    config = MCTSConfig(150, algorithm=algorithm)
    boards = game.positions[(game.positions == 0).sum(1) == 7][::20]  # too early for a win
    search = MCTS(game.rules, game.step, config)
    first = search.search(boards)
    kept = first.tree.subtree(first.actions)
    rows = np.arange(len(boards))
    tops = first.tree.arrays.children[rows, 0, first.actions]
    assert np.array_equal(kept.arrays.visits[:, 0], first.tree.arrays.visits[rows, tops])
    after, _, discounts = game.step(boards, first.actions)
    assert (discounts != 0).all()
    again = search.search(after, tree=kept)
    assert (again.visit_counts.sum(1) == kept.arrays.visits[:, 0].sum(1) + 150).all()
    assert np.array_equal(kept.arrays.visits[:, 0], first.tree.arrays.visits[rows, tops])  # the kept tree is left as it was
    for b in rows:  # every kept node holds the state that its path leads to
        for node in range(1, int(kept.arrays.num_nodes[b])):
            parent, action = kept.arrays.parents[b, node], kept.arrays.actions[b, node]
            assert kept.arrays.children[b, parent, action] == node
            states = kept.states.read(np.array([parent, node]) * len(boards) + b)
            assert np.array_equal(game.step(states[:1], np.array([action]))[0][0], states[1])


def test_a_subtree_continues_exactly_where_its_search_stopped():
    "PUCT looks at nothing but the tree: 30 simulations below an only action are 30 simulations from its child."
    world = RandomWorld(4)
    only_first = lambda states: (
        world.predict(states)[0],
        world.predict(states)[1],
        np.where(states[:, None] == 3, np.arange(4) == 1, True),
    )
    search = lambda simulations: MCTS(only_first, world.step, MCTSConfig(simulations, normalization="siblings"))
    first, child = search(31).search(np.array([3])), world.step(np.array([3]), np.array([1]))[0]
    continued, afresh = search(20).search(child, tree=first.tree.subtree([1])), search(50).search(child)
    assert np.array_equal(continued.visit_counts, afresh.visit_counts) and np.allclose(continued.q_values, afresh.q_values)
    assert continued.visit_counts.sum() == 50


def test_halving_goes_by_the_visits_of_this_search_alone():
    "8 simulations of 4 actions: one visit each, then two more for the better half, whatever a kept tree brings."
    world = RandomWorld(4)
    search = MCTS(world.predict, world.step, MCTSConfig(8, algorithm="gumbel"))
    first = search.search(np.arange(6))
    assert (np.sort(first.visit_counts) == [1, 1, 3, 3]).all()
    after = world.step(np.arange(6), first.actions)[0]
    kept = first.tree.subtree(first.actions)
    assert (kept.arrays.visits[:, 0].sum(1) > 0).all()
    again = search.search(after, tree=kept)
    assert (np.sort(again.visit_counts - kept.arrays.visits[:, 0]) == [1, 1, 3, 3]).all()


def test_a_root_whose_move_was_never_visited_starts_afresh():
    world, config = RandomWorld(16), MCTSConfig(3)
    first = MCTS(world.predict, world.step, config).search(np.arange(2))
    unvisited = (first.visit_counts == 0).argmax(1)
    kept = first.tree.subtree(unvisited)
    assert (kept.arrays.num_nodes == 0).all()
    after = world.step(np.arange(2), unvisited)[0]
    one, two = (MCTS(world.predict, world.step, config).search(after, tree=tree) for tree in (kept, None))
    assert np.array_equal(one.visit_counts, two.visit_counts) and np.array_equal(one.values, two.values)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_whole_games_are_played_with_one_tree_against_a_random_opponent(algorithm):
    "Every search goes on with fewer simulations in what the one before it found, if it looked at the opponent's move."
    game, generator = BoardGame(3, 3, 3, gravity=False), np.random.default_rng(1)
    predict = lambda boards: (np.zeros((len(boards), 9)), np.zeros(len(boards)), game.legal(boards))

    def step(boards, actions):
        after, rewards, is_over, _ = game.step(boards, actions)
        return after, rewards, np.where(is_over, 0.0, -1.0)

    num_lost = 0
    for first in (0, 1) * 5:
        boards, tree, move, is_over = game.reset(1), None, 0, np.array([False])
        while not is_over[0]:
            if move % 2 == first:
                result = MCTS(predict, step, MCTSConfig(200 // (1 + move), algorithm=algorithm)).search(boards, tree=tree)
                tree, actions = result.tree, result.actions
            else:
                actions = np.array([generator.choice(np.flatnonzero(game.legal(boards)[0]))])
            boards, rewards, is_over, _ = game.step(boards, actions)
            tree, move = tree and tree.subtree(actions), move + 1
            if tree and tree.arrays.num_nodes[0]:
                assert np.array_equal(tree.states.read(np.zeros(1, np.int64)), boards)
        num_lost += rewards[0] > 0 and (move - 1) % 2 != first
    assert num_lost <= 3


@pytest.mark.parametrize("kind", [dict(), dict(policy_target="improved"), dict(temperature=1.0), dict(algorithm="gumbel")])
def test_what_a_kept_tree_knows_of_an_action_that_its_root_has_not_is_forgotten(kind):
    logits = np.log([0.05, 0.05, 0.05, 0.85])
    free = lambda states: (np.tile(logits, (len(states), 1)), np.zeros(len(states)), None)
    masked = lambda states: (*free(states)[:2], np.tile(np.arange(4) < 3, (len(states), 1)))
    step = lambda states, actions: (states + 1, np.zeros(len(states)), np.ones(len(states)))
    tree = MCTS(free, step, MCTSConfig(50)).search(np.zeros((1, 1))).tree.subtree([3])
    assert tree.arrays.visits[0, 0, 3] > 20
    result = MCTS(masked, step, MCTSConfig(10, **kind)).search(np.ones((1, 1)), tree=tree)
    assert result.actions[0] != 3 and result.policy[0, 3] == result.visit_counts[0, 3] == result.q_values[0, 3] == 0
    assert result.visit_counts.sum() == tree.arrays.visits[0, 0, :3].sum() + 10 == result.tree.arrays.node_visits[0, 0] - 1
    assert result.tree.subtree([3]).arrays.num_nodes[0] == 0


# ------------------------------------------------------------------ models: torch, tuples, compiled


def dense(generator, num_actions=5, width=24, hidden=40):
    draw = lambda *shape: (generator.normal(size=shape) / math.sqrt(shape[0])).astype(np.float32)
    layers = [DenseLayer(draw(width, hidden), draw(hidden), "gelu", 1 + draw(hidden)), DenseLayer(draw(hidden, width), draw(width), "tanh")]
    return CompiledModel(layers, draw(num_actions, hidden), draw(width, num_actions + 2), draw(num_actions + 2), discount=-0.9)


@pytest.mark.parametrize("kind", [dict(), dict(normalization="siblings"), dict(algorithm="gumbel")])
def test_the_compiled_loop_is_the_same_search(kind):
    model, roots = dense(np.random.default_rng(0)), np.random.default_rng(1).normal(size=(7, 24)).astype(np.float32)
    config = MCTSConfig(120, **kind)
    one = MCTS(model.predict, model.step, config).search(roots)
    two = MCTS(model.predict, model.step, config, compiled=model).search(roots)
    for name in ("visit_counts", "values", "q_values", "policy", "actions", "mean_depth", "num_steps"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert np.array_equal(one.tree.states.buffer, two.tree.states.buffer)


def test_torch_tensors_and_tuples_give_the_numpy_result():
    import torch

    world, roots = RandomWorld(6, two_players=True), np.arange(10)
    plain = MCTS(world.predict, world.step, MCTSConfig(40)).search(roots)

    def as_tensors(function, *arguments):
        return tuple(torch.from_numpy(np.asarray(part)) for part in function(*(argument.numpy() for argument in arguments)))

    tensors = MCTS(lambda s: as_tensors(world.predict, s), lambda s, a: as_tensors(world.step, s, a), MCTSConfig(40)).search(
        torch.from_numpy(roots)
    )
    assert np.array_equal(plain.visit_counts, tensors.visit_counts) and np.array_equal(plain.values, tensors.values)

    def step(states, actions):
        after, rewards, discounts = world.step(states[0], actions)
        return (after, (states[1][0] + 1,)), rewards, discounts

    nested = MCTS(lambda s: world.predict(s[0]), step, MCTSConfig(40)).search((roots, (np.zeros(10, int),)))
    assert np.array_equal(plain.visit_counts, nested.visit_counts)
    arrays, rows = nested.tree.arrays, nested.tree.states
    for node in range(1, 41):
        assert rows.read(np.array([10 * node]))[1][0][0] == rows.read(10 * arrays.parents[:1, node])[1][0][0] + 1  # depth travels along


def test_numpy_models_need_no_torch():
    code = (
        "import sys, numpy as np; from lightbulb.planning.mcts import MCTS, MCTSConfig\n"
        "r = MCTS(lambda s: (np.zeros((len(s), 3)), np.zeros(len(s)), None), lambda s, a: (s, a * 1.0, np.ones(len(s)) * 0.5), "
        "MCTSConfig(9)).search(np.zeros(2))\n"
        "assert 'torch' not in sys.modules and r.visit_counts.sum() == 18"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], timeout=120)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("field", "number", "what"),
    [
        ("logits", np.nan, "prior logits"),
        ("logits", np.inf, "prior logits"),
        ("values", np.nan, "a value"),
        ("values", -np.inf, "a value"),
        ("rewards", np.nan, "a reward"),
        ("discounts", np.nan, "a discount"),
        ("legal", False, "no legal action"),
    ],
)
def test_what_is_no_number_is_refused_where_it_enters(field, number, what):
    world = RandomWorld(4)

    def both(states, actions):
        states, rewards, discounts = world.step(states, actions)
        logits, values, legal = world.predict(states)
        bad = {"logits": logits, "values": values, "rewards": rewards, "discounts": discounts, "legal": legal}[field]
        if bad.shape[0] == 3 and states[1] % 5 == 0:
            bad[1] = number
        return states, rewards, discounts, logits, values, legal

    with pytest.raises(ValueError, match=rf"simulation \d+, root 1: .*{what}"):
        MCTS(world.predict, world.step, MCTSConfig(50), step_and_predict=both).search(np.arange(3))


def test_wrong_shapes_and_settings_are_refused():
    world = RandomWorld(4)
    search = MCTS(world.predict, world.step)
    with pytest.raises(ValueError, match="at least one root"):
        search.search(np.zeros(0, int))
    with pytest.raises(ValueError, match="states must be numpy arrays"):
        MCTS(lambda s: (np.zeros((2, 4)), np.zeros(2), None), world.step).search([1, 2])
    with pytest.raises(ValueError, match="there must be 3 seeds"):
        search.search(np.arange(3), seeds=[1])
    with pytest.raises(ValueError, match="moves must be 3 actions below 4"):
        search.search(np.arange(3)).tree.subtree([0, 1, 4])
    with pytest.raises(ValueError, match="the tree must be of 2 roots"):
        search.search(np.arange(2), tree=search.search(np.arange(3)).tree)
    model, compiled = dense(np.random.default_rng(0)), np.zeros((2, 24), np.float32)
    with pytest.raises(ValueError, match="a compiled model searches numpy states, got tuple"):
        MCTS(lambda s: model.predict(s[0]), model.step, compiled=model).search((compiled,))
    with pytest.raises(ValueError, match="a compiled model searches float32 states, got float64"):
        MCTS(model.predict, model.step, compiled=model).search(compiled.astype(float))
    with pytest.raises(ValueError, match="legal actions must have the shape"):
        MCTS(lambda s: (np.zeros((len(s), 4)), np.zeros(len(s)), np.ones(4, bool)), world.step).search(np.arange(3))
    for bad in (
        dict(num_simulations=0),
        dict(num_simulations=True),
        dict(algorithm="uct"),
        dict(exploration_constant=math.nan),
        dict(dirichlet_fraction=1.5),
        dict(dirichlet_alpha=0.0),
        dict(temperature=-1.0),
        dict(max_considered_actions=0),
        dict(normalization="none"),
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            MCTSConfig(**bad)


@pytest.mark.parametrize(
    ("step", "said"), [(lambda s: s + 0.5, r"\(1,\) int64 each, got \(1,\) float64"), (lambda s: np.concatenate([s, s], 1), r"got \(2,\)")]
)
def test_states_that_would_be_cut_are_refused(step, said):
    predict = lambda states: (np.zeros((len(states), 2)), np.zeros(len(states)), None)
    search = MCTS(predict, lambda states, actions: (step(states), np.ones(len(states)), np.ones(len(states))), MCTSConfig(4))
    with pytest.raises(ValueError, match=f"states must stay as the roots are, .*{said}"):
        search.search(np.zeros((3, 1), np.int64))


def test_a_large_gap_between_logits_is_no_problem():
    predict = lambda arms: (np.tile([1e4, -1e4, -np.inf], (len(arms), 1)), np.zeros(len(arms)), None)
    step = lambda arms, actions: (arms, np.zeros(len(arms)), np.ones(len(arms)))
    for algorithm in ("puct", "gumbel"):
        result = MCTS(predict, step, MCTSConfig(20, algorithm=algorithm)).search(np.zeros(2))
        assert (result.visit_counts[:, 2] == 0).all() and (result.visit_counts.sum(1) == 20).all()  # -inf is another word for illegal


def test_a_tree_can_be_drawn():
    world = RandomWorld(5, ends=0.3)
    svg = MCTS(world.predict, world.step, MCTSConfig(40)).search(np.arange(2)).tree.to_svg(1, names=lambda a: f"move <{a}>")
    assert svg.startswith("<svg") and "move &lt;" in svg and "40 simulations" in svg and "terminal" in svg


def test_a_tree_too_deep_for_json_says_so_and_can_be_written_in_part():
    predict = lambda states: (np.zeros((len(states), 1)), np.zeros(len(states)), None)
    step = lambda states, actions: (states + 1, np.zeros(len(states)), np.ones(len(states)))
    tree = MCTS(predict, step, MCTSConfig(800)).search(np.zeros(1)).tree
    with pytest.raises(ValueError, match="nested too deep for JSON: max_depth must be given"):
        tree.to_json()
    node, depth = json.loads(tree.to_json(max_depth=100)), 0
    while node["children"]:
        node, depth = node["children"][0], depth + 1
    assert depth == 100
