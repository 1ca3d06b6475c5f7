"""The sum tree beside exact arithmetic, and what users of other libraries' trees reported.

| reported of | what went wrong | held here by |
|---|---|---|
| pytorch/rl #2230, ray #7180, #8118 | a leaf past the filled part | test_a_point_at_or_past_the_end_finds_the_last_leaf_that_is_not_zero |
| vwxyzjn/cleanrl #546 | indices are permuted at capacities that are no power of two | test_leaves_keep_their_order_at_every_capacity |
| ReinforcementLearningTrajectories.jl #59 | a leaf of priority zero is found | test_a_zero_leaf_is_never_found |
| Howuhh/prioritized_experience_replay #3 | a point on a border belongs to the left | test_exactly_as_fractions_say |
| instadeepai/flashbax #52 | float32 sums drift until zeros are sampled | test_no_drift, test_exact_at_2_to_the_24 |
| instadeepai/flashbax #51 | negative numbers get into the sums | test_nothing_wrong_is_taken_and_nothing_is_changed |
| openai/baselines #170, pytorch/rl #251 | a tree of one leaf, or of exactly 2^n, fails | test_leaves_keep_their_order_at_every_capacity |
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.rl.priorities import MaxTree
from lightbulb.rl.sum_tree import SumTree

ARITIES = (2, 8)
EIGHTHS = st.integers(0, 2**40).map(lambda number: number / 8)  # sums of these are exact in float64
FLOATS = st.one_of(st.just(0.0), st.floats(0.0, 1e30), st.floats(0.0, 1.0), st.floats(5e-324, 1e-300))


class Exact:
    "The definition: a list of fractions, summed from the left."

    def __init__(self, capacity: int) -> None:
        self.leaves = [Fraction(0)] * capacity

    def update(self, indices: list[int], priorities: list[float]) -> None:
        for index, priority in zip(indices, priorities, strict=True):
            self.leaves[index] = Fraction(priority)

    @property
    def total(self) -> Fraction:
        return sum(self.leaves, Fraction(0))

    def find(self, point: float) -> int:
        borders = list(itertools.accumulate(self.leaves))
        beyond = next((index for index, border in enumerate(borders) if Fraction(point) < border), None)
        if beyond is None:
            beyond = max(index for index, leaf in enumerate(self.leaves) if leaf > 0)
        return beyond


@st.composite
def histories(draw, numbers):
    "A capacity and batches of updates, with duplicates."
    capacity = draw(st.integers(1, 150))
    batch = st.lists(st.tuples(st.integers(0, capacity - 1), numbers), min_size=1, max_size=40)
    return capacity, draw(st.lists(batch, min_size=1, max_size=5))


@settings(max_examples=150, deadline=None)
@given(histories(EIGHTHS), st.lists(st.floats(0, 1), min_size=1, max_size=20), st.data())
def test_exactly_as_fractions_say(history, shares, data):
    "Where all sums are exact, so are the results: totals, borders, points beyond the end, the last of duplicates."
    capacity, batches = history
    trees, exact = [SumTree(capacity, arity) for arity in ARITIES], Exact(capacity)
    for batch in batches:
        indices, priorities = [index for index, _ in batch], [priority for _, priority in batch]
        exact.update(indices, priorities)
        for tree in trees:
            tree.update(indices, priorities)
        borders = [float(border) for border in itertools.accumulate(exact.leaves)]
        points = [math.floor(share * float(exact.total) * 1.2 * 8) / 8 for share in shares] + data.draw(
            st.lists(st.sampled_from(borders), max_size=5)
        )
        for tree in trees:
            assert Fraction(tree.total) == exact.total
            assert [Fraction(leaf) for leaf in tree[list(range(capacity))]] == exact.leaves
            if exact.total:
                assert tree.find(points).tolist() == [exact.find(point) for point in points]


@settings(max_examples=150, deadline=None)
@given(histories(FLOATS), st.lists(st.floats(0, 1.1), min_size=1, max_size=20))
def test_any_floats_within_rounding_and_both_arities_in_every_bit(history, shares):
    capacity, batches = history
    trees, exact = [SumTree(capacity, arity) for arity in ARITIES], Exact(capacity)
    for batch in batches:
        indices, priorities = [index for index, _ in batch], [priority for _, priority in batch]
        exact.update(indices, priorities)
        for tree in trees:
            tree.update(indices, priorities)
    binary, eightfold = trees
    assert binary.total == eightfold.total
    rounding = Fraction(12, 2**53) * exact.total + Fraction(5e-324)
    assert abs(Fraction(eightfold.total) - exact.total) <= rounding
    if eightfold.total == 0: return
    points = [share * eightfold.total for share in shares] + np.cumsum(eightfold.leaves).tolist()
    found = eightfold.find(points)
    assert found.tolist() == binary.find(points).tolist()
    borders = [Fraction(0), *itertools.accumulate(exact.leaves)]
    for point, leaf in zip(points, found.tolist(), strict=True):
        assert exact.leaves[leaf] > 0
        inside = min(Fraction(point), exact.total)
        assert borders[leaf] - 2 * rounding <= inside <= borders[leaf + 1] + 2 * rounding


@pytest.mark.parametrize("arity", ARITIES)
def test_leaves_keep_their_order_at_every_capacity(arity):
    for capacity in [*range(1, 140), 511, 512, 513, 4095, 4096, 4097, 5000]:
        tree = SumTree(capacity, arity)
        tree.update(np.arange(capacity), 1.0)
        assert tree.find(np.arange(capacity) + 0.5).tolist() == list(range(capacity))
        assert tree.total == capacity


@pytest.mark.parametrize("arity", ARITIES)
def test_a_point_at_or_past_the_end_finds_the_last_leaf_that_is_not_zero(arity):
    rng = np.random.default_rng(0)
    for capacity in (1, 7, 8, 9, 100, 500, 4097):
        for filled in {1, capacity // 3 + 1, capacity}:
            tree = SumTree(capacity, arity)
            tree.update(np.arange(filled), rng.random(filled) + 1e-8)
            ends = [tree.total, np.nextafter(tree.total, 0), np.nextafter(tree.total, np.inf), 2 * tree.total, 1e308, np.inf]
            assert set(tree.find(ends)) == {filled - 1}
            assert tree.find(rng.random(20_000) * tree.total * (1 + 1e-15)).max() < filled


@pytest.mark.parametrize("arity", ARITIES)
def test_a_zero_leaf_is_never_found(arity):
    "Also where rounding carries a point over the end of a subtree: sums of tenths, zeros everywhere, points on all borders."
    rng = np.random.default_rng(1)
    for capacity in (3, 64, 65, 777):
        tree = SumTree(capacity, arity)
        for _ in range(30):
            leaves = rng.choice([0.0, 0.0, 0.1, 0.2, 0.3, 0.7, 1e-17, 1e5], capacity)
            leaves[rng.integers(capacity)] = 0.1
            tree.update(np.arange(capacity), leaves)
            borders = np.concatenate([np.cumsum(leaves), [tree.total]])
            points = np.concatenate([borders, np.nextafter(borders, 0), np.nextafter(borders, 1e9), rng.random(500) * tree.total])
            assert (leaves[tree.find(points)] > 0).all()


def test_nothing_wrong_is_taken_and_nothing_is_changed():
    tree = SumTree(100)
    tree.update(np.arange(100), np.arange(100.0))
    before = tree.cells.tobytes()
    for wrong in (float("nan"), -1.0, -5e-324, float("inf"), -float("inf"), 1e308):
        with pytest.raises(ValueError, match="priorities must be from 0"):
            tree.update([3, 4, 5], [1.0, wrong, 2.0])
    for wrong in (-1, 100, 2**40, -(2**40)):
        with pytest.raises(ValueError, match="indices must be from 0 to 99"):
            tree.update([3, wrong, 5], [1.0, 1.0, 1.0])
        with pytest.raises(ValueError, match="indices must be from 0 to 99"):
            tree[[3, wrong]]
    for indices in ([0.0, 1.0], [[0, 1]], [True, False], ["a", "b"]):
        with pytest.raises(ValueError, match="indices must"):
            tree.update(indices, [1.0, 2.0])
    for priorities in ([1.0], [[1.0, 2.0]], [1.0, 2.0, 3.0], ["1", "2"], [1 + 2j, 0]):
        with pytest.raises(ValueError, match="priorities must"):
            tree.update([0, 1], priorities)
    for points in ([0.5, float("nan")], [-0.1], [[0.5]], ["a"]):
        with pytest.raises(ValueError, match="points must"):
            tree.find(points)
    for capacity in (0, -1, 2.5, True, None, "8"):
        with pytest.raises(ValueError, match="capacity must be a positive whole number"):
            SumTree(capacity)
    for arity in (0, 1, 3, 4, 16):
        with pytest.raises(ValueError, match="arity must be 2 or 8"):
            SumTree(10, arity)
    with pytest.raises(ValueError, match="all priorities are zero"):
        SumTree(10).find([0.0])
    assert tree.cells.tobytes() == before


def test_the_sum_of_the_greatest_priorities_is_finite():
    tree = SumTree(1000)
    tree.update(np.arange(1000), tree.limit)
    assert math.isfinite(tree.total)
    assert tree.find(tree.total / 2) in range(1000)


def test_exact_at_2_to_the_24():
    "Where float32 can no longer count: 2^24 + 1 has no float32."
    size = 2**24 + 1
    tree = SumTree(size)
    tree.update(np.arange(size), 1.0)
    assert tree.total == size
    assert tree.find([size - 0.5, size - 1.5, 2.0**24]).tolist() == [size - 1, size - 2, 2**24]
    tree.update([5], [1.0 + 2.0**-20])
    assert tree.total == size + 2.0**-20
    tree.update([5], [1.0])
    assert tree.total == size


@pytest.mark.parametrize("arity", ARITIES)
def test_no_drift(arity):
    "Parents are made from their children: after any updates the cells are those of a fresh tree (10^8: benchmarks/replay.py)."
    rng, capacity = np.random.default_rng(2), 3001
    tree, fresh = SumTree(capacity, arity), SumTree(capacity, arity)
    for _ in range(1000):
        tree.update(rng.integers(0, capacity, 3000), 10.0 ** rng.uniform(-12, 12, 3000))
    fresh.update(np.arange(capacity), tree.leaves)
    assert tree.cells.tobytes() == fresh.cells.tobytes()
    exact = math.fsum(tree.leaves)
    assert abs(tree.total - exact) <= 12 * 2.0**-53 * exact


@pytest.mark.parametrize("arity", ARITIES)
def test_saved_and_loaded_in_every_bit(arity, tmp_path):
    rng = np.random.default_rng(3)
    tree = SumTree(1234, arity)
    tree.update(rng.integers(0, 1234, 900), rng.random(900))
    save_checkpoint(tmp_path / "tree", tree.state_dict())
    for other in ARITIES:
        again = SumTree(1234, other)
        again.load_state_dict(load_checkpoint(tmp_path / "tree"))
        points = rng.random(5000) * tree.total
        assert again.total == tree.total
        assert (again.find(points) == tree.find(points)).all()
        if other == arity:
            assert again.cells.tobytes() == tree.cells.tobytes()
    with pytest.raises(ValueError, match="capacity 1234, this one 1000"):
        SumTree(1000).load_state_dict(tree.state_dict())


@pytest.mark.parametrize("arity", ARITIES)
def test_found_in_proportion(arity):
    "Chi-square over 300 leaves; the same counts against slightly other shares fail it, so it can fail."
    rng = np.random.default_rng(4)
    leaves = rng.random(300) ** 2
    tree = SumTree(300, arity)
    tree.update(np.arange(300), leaves)
    counts = np.bincount(tree.find(rng.random(400_000) * tree.total), minlength=300)
    statistic = lambda shares: float(((counts - counts.sum() * shares) ** 2 / (counts.sum() * shares)).sum())
    bound = 299 + 5 * math.sqrt(2 * 299)
    assert statistic(leaves / leaves.sum()) < bound
    assert statistic(leaves**1.1 / (leaves**1.1).sum()) > bound


def test_numbers_arrays_and_tensors():
    tree = SumTree(10)
    tree.update(3, 2.0)
    tree.update(torch.tensor([4, 5]), torch.tensor([1.0, 0.5]))
    tree[np.array([6], np.int32)] = np.array([1.5], np.float32)
    assert (tree[3], tree.find(1.9), tree.find(np.float32(3.4)), tree.total) == (2.0, 3, 5, 5.0)
    assert isinstance(tree.find(1.9), int) and isinstance(tree[3], float)
    tree.update([], [])
    assert tree.find([]).shape == (0,)
    with pytest.raises(ValueError, match="read-only"):
        tree.leaves[0] = 1.0


@settings(max_examples=60, deadline=None)
@given(histories(st.floats(0, 1e300)))
def test_the_maximum_is_that_of_what_is_there(history):
    capacity, batches = history
    tree, values = MaxTree(capacity), [0.0] * capacity
    for batch in batches:
        tree.update([index for index, _ in batch], [value for _, value in batch])
        for index, value in batch:
            values[index] = value
        assert tree.maximum == max(values)
