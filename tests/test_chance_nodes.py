"""Search with chance nodes against expectimax, against the search without chance, and against each way in which others went wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.chance_nodes import ChanceMCTS, plain_expectimax
from lightbulb.planning.mcts import MCTS, MCTSConfig


def numbers(states: np.ndarray, salt: int, count: int) -> np.ndarray:
    "Uniform numbers (B, count) that depend on state and salt only."
    keys = states.astype(np.uint64)[:, None] * np.uint64(1_000_003) + np.arange(count, dtype=np.uint64) + np.uint64(salt * 7919)
    for shift in (30, 27, 31):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(0x94D049BB133111EB)
    return (keys >> np.uint64(11)).astype(np.float64) / 2**53


class ChanceWorld:
    "What follows is a hash of state, action and outcome; a state is (number, steps left); some outcomes cannot happen, some end the game."

    def __init__(self, num_actions: int = 2, num_outcomes: int = 3, *, two_players: bool = False, ends: float = 0.1) -> None:
        self.num_actions, self.num_outcomes, self.two_players, self.ends = num_actions, num_outcomes, two_players, ends
        self.asked = {"predict": 0, "act": 0, "settle": 0}

    def predict(self, states):
        self.asked["predict"] += len(states)
        return 2 * numbers(states[:, 0], 1, self.num_actions), 2 * numbers(states[:, 0], 2, 1)[:, 0] - 1, None

    def act(self, states, actions):
        self.asked["act"] += len(states)
        keys = states[:, 0] * self.num_actions + actions + 1
        weights = numbers(keys, 3, self.num_outcomes) ** 2
        weights[weights < 0.1] = 0.0
        weights[np.arange(len(keys)), keys % self.num_outcomes] += 0.2
        return np.column_stack([keys, states[:, 1]]), weights / weights.sum(1, keepdims=True)

    def settle(self, afterstates, outcomes):
        self.asked["settle"] += len(afterstates)
        after = (afterstates[:, 0] * 31 + outcomes * 17 + 5) % 1_000_000_007
        chance = numbers(after, 4, 3)
        discounts = np.where(chance[:, 2] < 0.5, -0.9, 0.95) if self.two_players else np.full(len(after), 0.95)
        is_over = (afterstates[:, 1] <= 1) | (chance[:, 1] < self.ends)
        return np.column_stack([after, afterstates[:, 1] - 1]), 2 * chance[:, 0] - 1, np.where(is_over, 0.0, discounts)

    def search(self, config: MCTSConfig) -> ChanceMCTS:
        return ChanceMCTS(self.predict, self.act, self.settle, config)


def roots(count: int, steps: int) -> np.ndarray:
    return np.column_stack([np.arange(count) * 97 + 3, np.full(count, steps)])


def errors(world: ChanceWorld, steps: int, budgets: tuple[int, ...], **rules) -> list[float]:
    "Root mean square error of the best action's worth, by simulations."
    starts = roots(24, steps)
    exact = np.array([plain_expectimax(world.predict, world.act, world.settle, root, steps) for root in starts])
    best = [world.search(MCTSConfig(budget, **rules)).search(starts).q_values.max(1) for budget in budgets]
    return [float(np.sqrt(((worth - exact) ** 2).mean())) for worth in best]


@pytest.mark.parametrize("two_players", [False, True])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_chance_alone_is_a_mean(algorithm: str, two_players: bool):
    "With one action all is probabilities, signs and discounts, three steps deep."
    first, _, last = errors(ChanceWorld(1, two_players=two_players), 3, (32, 512, 8192), algorithm=algorithm, gumbel_scale=0.0)
    assert last < 0.002 < first


@pytest.mark.parametrize("two_players", [False, True])
def test_values_tend_to_those_of_expectimax(two_players: bool):
    "Decisions and chance in turn; the mean of all visits forgets the worse action as slowly as without chance."
    first, middle, last = errors(ChanceWorld(two_players=two_players), 2, (32, 512, 8192))
    assert last < middle / 2 < first / 4 and last < 0.03


def test_more_outcomes_than_actions():
    "Draw one of ten cards or stay at 16: above 21 is lost, the dealer stands at 18 (two actions; Stochastic-muzero's issue 13)."

    def predict(states):
        return np.zeros((len(states), 2)), np.zeros(len(states)), None

    def act(states, actions):
        cards = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 4]) / 13
        return np.column_stack([states, actions]), np.where(actions[:, None] == 1, cards, np.eye(10)[0])

    def settle(afterstates, outcomes):
        points, draws = afterstates.T
        after = points + np.where(draws, outcomes + 1, 0)
        return after, np.where(after > 21, -1.0, np.where(draws, 0.0, np.sign(after - 18))), np.where((draws == 0) | (after > 21), 0.0, 1.0)

    hands = np.arange(8, 22)
    exact = [plain_expectimax(predict, act, settle, hand, 6) for hand in hands]
    result = ChanceMCTS(predict, act, settle, MCTSConfig(8000, exploration_constant=0.2)).search(hands)
    assert result.tree.arrays.children.shape[2] == 2  # as many slots as actions, however many cards
    np.testing.assert_allclose(result.q_values.max(1), exact, atol=0.05)


def test_first_looks_are_spread_over_equal_outcomes():
    "Each by itself as likely as its outcome: the first of equal probabilities must not always be seen first."

    def settle(afterstates, outcomes):
        return afterstates, (outcomes == 0).astype(float), np.zeros(len(outcomes))

    search = ChanceMCTS(
        lambda s: (np.zeros((len(s), 2)), np.zeros(len(s)), None), lambda s, a: (s, np.full((len(s), 3), 1 / 3)), settle, MCTSConfig(2)
    )
    result = search.search(np.arange(3000))
    assert (result.visit_counts.sum(1) == 2).all()
    assert abs((result.values * 3 / 2).mean() - 1 / 3) < 0.03  # of two looks; the root's own 0 counts as a third


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([("puct", "tree"), ("puct", "siblings"), ("gumbel", "tree"), ("gumbel", "siblings")]),
    st.integers(1, 4),
    st.integers(1, 60),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_one_outcome_is_the_search_without_chance(rules, num_actions, num_simulations, two_players, first):
    "To the last bit: a discount that counted twice, or a sign that turned at an afterstate, would show."
    world = ChanceWorld(num_actions, 1, two_players=two_players, ends=0.1)

    def step(states, actions):
        afterstates, _ = world.act(states, actions)
        return world.settle(afterstates, np.zeros(len(states), int))

    config = MCTSConfig(num_simulations, algorithm=rules[0], normalization=rules[1])
    starts = np.column_stack([np.arange(5) + first, np.full(5, 4)])
    without, with_chance = MCTS(world.predict, step, config).search(starts), world.search(config).search(starts)
    for name in ("visit_counts", "values", "q_values", "policy", "actions", "mean_depth", "max_depth", "num_steps"):
        np.testing.assert_array_equal(getattr(without, name), getattr(with_chance, name))


def test_tree_alternates_and_counts_its_visits():
    "Every node hangs on an outcome of an afterstate of its parent's action; no impossible outcome is ever there."
    world = ChanceWorld(3, 4, ends=0.0)
    result = world.search(MCTSConfig(300)).search(roots(6, 1000))
    arrays, chance = result.tree.arrays, result.tree.chance
    assert (chance.nodes[chance.probabilities == 0] == -1).all() and (chance.probabilities == 0).any()
    for b in range(6):
        through = np.zeros(arrays.visits.shape[1:], int)
        for node in range(1, arrays.num_nodes[b]):
            parent, action = arrays.parents[b, node], arrays.actions[b, node]
            assert chance.nodes[b, chance.afterstates[b, parent, action], chance.outcomes[b, node]] == node
            through[parent, action] += arrays.node_visits[b, node]
        np.testing.assert_array_equal(through, arrays.visits[b])  # in a world without an end a visit goes through an outcome
        often = np.argmax(arrays.visits[b].max(1))
        action = arrays.visits[b, often].argmax()
        k, total = chance.afterstates[b, often, action], arrays.visits[b, often, action]
        counts = [arrays.node_visits[b, node] if node >= 0 else 0 for node in chance.nodes[b, k]]
        assert np.abs(np.array(counts) - total * chance.probabilities[b, k]).max() < 3  # a low-discrepancy draw


def test_each_network_runs_where_it_is_needed():
    "An afterstate for a new action, a state for a new outcome, nothing for an end that is visited again (mctx's issue 79)."
    world = ChanceWorld(ends=0.3)
    result = world.search(MCTSConfig(200)).search(roots(8, 3))
    steps, afterstates = result.num_steps.sum(), result.tree.chance.num_afterstates.sum()
    assert world.asked == {"predict": steps + 8, "act": afterstates, "settle": steps}
    assert afterstates < steps < 8 * 200


def test_shuffled_roots_give_shuffled_results():
    world, order = ChanceWorld(), np.random.default_rng(0).permutation(16)
    config = MCTSConfig(60, algorithm="gumbel")
    straight, shuffled = world.search(config).search(roots(16, 50)), world.search(config).search(roots(16, 50)[order])
    np.testing.assert_array_equal(straight.q_values[order], shuffled.q_values)
    np.testing.assert_array_equal(straight.actions[order], shuffled.actions)
    seeded = [world.search(config).search(roots(1, 50), seeds=[seed]).q_values for seed in (1, 1, 2)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    assert (seeded[0] != seeded[2]).any()


def test_states_may_be_tensors_or_tuples():
    torch = pytest.importorskip("torch")
    world, config = ChanceWorld(), MCTSConfig(40)
    plain = world.search(config).search(roots(5, 20))

    def predict(states):
        return world.predict(torch.stack(states, 1).numpy())

    def act(states, actions):
        afterstates, probabilities = world.act(torch.stack(states, 1).numpy(), actions.numpy())
        return torch.from_numpy(afterstates), torch.from_numpy(probabilities)

    def settle(afterstates, outcomes):
        states, rewards, discounts = world.settle(afterstates.numpy(), outcomes.numpy())
        return tuple(torch.from_numpy(states).T), torch.from_numpy(rewards), torch.from_numpy(discounts)

    starts = tuple(torch.from_numpy(roots(5, 20)).T)
    tensors = ChanceMCTS(predict, act, settle, config).search(starts, seeds=range(5))
    again = world.search(config).search(roots(5, 20), seeds=range(5))
    np.testing.assert_array_equal(tensors.q_values, again.q_values)
    assert (plain.visit_counts.sum(1) == 40).all()


@pytest.mark.parametrize(
    "probabilities",
    [np.full((2, 3), 0.5), np.array([[1.2, -0.2, 0.0]] * 2), np.full((2, 3), np.nan), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])],
)
def test_refuses_what_is_no_probability(probabilities):
    world = ChanceWorld()
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        ChanceMCTS(world.predict, lambda s, a: (s, probabilities), world.settle).search(roots(2, 3))


def test_refuses_wrong_shapes_and_kept_trees():
    world = ChanceWorld()
    with pytest.raises(ValueError, match="probabilities of outcomes must have the shape"):
        ChanceMCTS(world.predict, lambda s, a: (s, np.ones((1, 1))), world.settle).search(roots(2, 3))
    with pytest.raises(ValueError, match="there must be 2 afterstates, got 1"):
        ChanceMCTS(world.predict, lambda s, a: (s[:1], np.ones((2, 1))), world.settle).search(roots(2, 3))
    found = world.search(MCTSConfig(5)).search(roots(2, 3))
    with pytest.raises(ValueError, match="must begin new trees"):
        world.search(MCTSConfig(5)).search(roots(2, 3), tree=found.tree)
    with pytest.raises(ValueError, match="begun anew"):
        found.tree.subtree([0, 0])
    assert "outcome" in found.tree.to_svg(0) and "outcome" in found.tree.to_json(0)
