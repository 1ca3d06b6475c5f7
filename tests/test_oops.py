"""Levin's promises, measured: work against steps / probability of the best program, expansions against depth / probability."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightbulb.planning.oops import (
    OOPS,
    Call,
    FoundProgram,
    Unsolved,
    _InstructionCount,
    hanoi_is_solved,
    hanoi_step,
    levin_tree_search,
    plain_levin_search,
)


class RandomTree:
    "States are action sequences; prior, goals and dead ends are a hash of them."

    def __init__(self, seed: int, num_actions: int, goals: float, dead: float = 0.0) -> None:
        self.seed, self.num_actions, self.goals, self.dead = seed, num_actions, goals, dead
        self.num_steps = self.num_priors = 0

    def number(self, program, salt: int) -> float:
        return hash((self.seed, salt, *program)) % 1_000_003 / 1_000_003

    def prior(self, program):
        self.num_priors += 1
        weights = [0.1 + self.number(program, 10 + a) ** 3 for a in range(self.num_actions)]
        return [0.999 * w / sum(weights) for w in weights]

    def step(self, program, action):
        self.num_steps += 1
        program = (*program, action)
        return None if self.number(program, 1) < self.dead else program

    def is_solution(self, program) -> bool:
        return len(program) > 1 and self.number(program, 2) < self.goals

    def best(self, max_depth: int) -> float:
        "The smallest steps / probability of a solution that is no deeper."
        best, waiting = math.inf, [((), 1.0)]
        while waiting:
            program, probability = waiting.pop()
            if self.is_solution(program):
                best = min(best, len(program) / probability)
            elif len(program) < max_depth:
                for action, p in enumerate(self.prior(program)):
                    after = (*program, action)
                    if self.number(after, 1) >= self.dead:
                        waiting.append((after, probability * p))
        return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([0.05, 0.2]), st.sampled_from([0.0, 0.2]))
def test_work_is_at_most_eight_times_steps_over_probability_of_the_best_program(seed, num_actions, goals, dead):
    tree = RandomTree(seed, num_actions, goals, dead)
    best = tree.best(max_depth=5)
    assume(best < math.inf)  # there is one that short
    tree.num_steps = 0
    (found,) = OOPS(tree.prior, tree.step, tree.is_solution).solve([()])
    assert isinstance(found, FoundProgram) and tree.is_solution(found.state) and found.state == found.actions
    assert found.num_instructions == tree.num_steps  # every instruction is counted
    assert found.num_instructions <= 8 * best and found.num_instructions <= found.bound


def test_a_phase_spends_no_more_than_its_time():
    "The step behind the bound: in a phase of time T either half makes at most T / 2 instructions."
    tree = RandomTree(3, 3, goals=0.0)
    search = OOPS(tree.prior, tree.step, tree.is_solution)
    search.frozen.append((0, 1, 2))
    for time in (1, 2, 4, 8, 64, 512, 2048):
        for origin in ("fresh", "continued"):
            count = _InstructionCount(None)
            assert search._search_phase((), origin, time, count) is None
            assert count.total <= time
            if time > 100:
                assert count.total > time / 50  # and it uses what it has


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([0.05, 0.2]), st.sampled_from([0.0, 0.2]))
def test_without_memory_a_problem_is_solved_in_the_phase_of_the_plain_search(seed, num_actions, goals, dead):
    tree = RandomTree(seed, num_actions, goals, dead)
    assume(tree.best(max_depth=5) < math.inf)
    _, limit = plain_levin_search(tree.prior, tree.step, tree.is_solution, ())
    (found,) = OOPS(tree.prior, tree.step, tree.is_solution, reuse=False).solve([()])
    assert found.limit == limit and tree.is_solution(found.actions)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([0.05, 0.2]), st.sampled_from([0.0, 0.2]))
def test_levin_tree_search_expands_at_most_depth_over_probability_nodes(seed, num_actions, goals, dead):
    tree = RandomTree(seed, num_actions, goals, dead)
    best = tree.best(max_depth=5)
    assume(best < math.inf)
    tree.num_priors = 0
    found = levin_tree_search(tree.prior, tree.step, tree.is_solution, ())
    assert found and tree.is_solution(found.actions)
    assert found.num_expansions == tree.num_priors
    assert found.num_expansions <= found.bound * (1 + 1e-9)  # of the one found: no constant
    assert found.bound <= best * (1 + 1e-9)  # which is the minimum over all solutions
    assert math.isclose(found.bound, len(found.actions) / math.exp(found.log_probability))


def test_levin_tree_search_visits_a_state_once_if_told_which_are_equal():
    equal, towers = (lambda pegs: [1 / 3] * 3), (0,) * 5
    found = levin_tree_search(equal, hanoi_step, hanoi_is_solved, towers, key=lambda pegs: pegs)
    assert found and len(found.actions) == 31 and found.num_expansions <= 3**5
    assert levin_tree_search(equal, hanoi_step, hanoi_is_solved, towers, key=lambda pegs: pegs, max_expansions=20) is None
    assert levin_tree_search(lambda n: [1.0], lambda n, a: None if n == 3 else n + 1, lambda n: n == 9, 0) is None  # it can come to an end
    assert levin_tree_search(equal, hanoi_step, hanoi_is_solved, (1, 1)).num_expansions == 0


def test_small_towers_make_large_ones_solvable():
    equal, towers = (lambda pegs: [1 / 3] * 3), [(0,) * n for n in range(1, 10)]
    solutions = OOPS(equal, hanoi_step, hanoi_is_solved).solve(towers)
    assert [len(found.actions) for found in solutions] == [2**n - 1 for n in range(1, 10)]
    assert all(found.num_instructions <= found.bound for found in solutions)
    assert all(found.origin == "continued" and len(found.program) == 3 for found in solutions[1:])
    for found, tower in zip(solutions, towers, strict=True):  # the actions really do it
        for action in found.actions:
            tower = hanoi_step(tower, action)
        assert hanoi_is_solved(tower)
    alone = OOPS(equal, hanoi_step, hanoi_is_solved, reuse=False, max_instructions=100_000).solve(towers[:4])
    assert isinstance(alone[3], Unsolved) and alone[3].num_instructions == 100_000
    assert alone[2].num_instructions > 5 * solutions[2].num_instructions


def test_fresh_programs_keep_their_half():
    "A frozen program that helps nothing costs at most a factor: the bound of the fresh half holds."
    step = lambda pair, action: ((*pair[0], action), pair[1])
    search = OOPS(lambda pair: [0.5, 0.5], step, lambda pair: pair[0][-len(pair[1]) :] == pair[1] and len(pair[0]) == len(pair[1]))
    first, second = search.solve([((), (0, 0, 0, 0, 0)), ((), (1, 0, 1))])
    assert second.origin == "fresh" and second.actions == (1, 0, 1)
    assert second.probability == (0.5 * 0.5) ** 3  # half of the prior goes to calls
    assert second.num_instructions <= second.bound


def test_a_call_stops_where_the_problem_is_solved_and_the_state_is_kept():
    search = OOPS(lambda n: [1.0], lambda n, a: n + 1, lambda n: n % 10 == 0)
    first, second = search.solve([2, 7])
    assert first.actions == (0,) * 8 and second.program == (Call(0),) and second.actions == (0,) * 3 and second.state == 10


def test_a_problem_that_is_solved_costs_nothing():
    (found,) = OOPS(lambda n: [1.0], lambda n, a: n, lambda n: True).solve([0])
    assert found.program == () and found.num_instructions == 0


def test_what_makes_no_sense_is_refused():
    ask = lambda **options: OOPS(lambda n: [0.5, 0.5], lambda n, a: n, lambda n: False, **options)
    with pytest.raises(ValueError, match="max_instructions must be positive, got 0"):
        ask(max_instructions=0)
    with pytest.raises(ValueError, match="call_probability must be in"):
        ask(call_probability=1.0)
    for prior in ([0.9, 0.9], [math.nan, 0.1], [], [-0.1, 0.5]):
        with pytest.raises(ValueError, match="a prior must be probabilities"):
            OOPS(lambda n, p=prior: p, lambda n, a: n, lambda n: False).solve([0])
        with pytest.raises(ValueError, match="a prior must be probabilities"):
            levin_tree_search(lambda n, p=prior: p, lambda n, a: n, lambda n: False, 0)


def test_a_prior_of_nothing_ends_unsolved():
    search = OOPS(lambda state: [0.0, 0.0], lambda state, action: state + 1, lambda state: state == 3)
    assert isinstance(search.solve_one(0), Unsolved)
