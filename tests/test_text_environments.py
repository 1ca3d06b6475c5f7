"""Environments of text against brute force over whole expressions, against random play, and against what must be refused."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import combinations_with_replacement, permutations, product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.lm.tokens import load_tokenizer
from lightbulb.planning.planners import PlannerName, plan
from lightbulb.planning.tree_of_thought import ToTNode
from lightbulb.world.text_environments import (
    Countdown,
    CountdownWorld,
    GameOf24,
    TextContinuation,
    make_text_environment,
    moves,
    results_of,
    targets_of,
)
from lightbulb.world.text_planning import plan_in, think_in

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: None if b == 0 else a / b,
}


def every_result(numbers: tuple[int, ...]) -> set[Fraction]:
    "Values of every bracketed expression over every order of the numbers: splits a sequence in two, not a multiset in moves."
    memo: dict[tuple[int, ...], set[Fraction]] = {}

    def values(sequence: tuple[int, ...]) -> set[Fraction]:
        if sequence not in memo:
            memo[sequence] = {Fraction(sequence[0])} if len(sequence) == 1 else set()
            for cut in range(1, len(sequence)):
                for a, b in product(values(sequence[:cut]), values(sequence[cut:])):
                    memo[sequence] |= {value for operator in OPERATORS.values() if (value := operator(a, b)) is not None}
        return memo[sequence]

    return set().union(*(values(order) for order in set(permutations(numbers))))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=2, max_size=4))
def test_search_by_moves_finds_what_expressions_give(numbers):
    numbers = tuple(sorted(numbers))
    assert set(results_of(tuple(map(Fraction, numbers)), False)) == every_result(numbers)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=4))
def test_groups_of_whole_numbers_make_what_their_moves_make(numbers):
    def walk(left):
        return set(left) if len(left) == 1 else set().union(*map(walk, set(moves(left, whole=True).values())))

    start = tuple(sorted(map(Fraction, numbers)))
    assert results_of(start, True) == walk(start)
    assert targets_of(tuple(sorted(numbers)), True, 10, 100) == tuple(sorted(result for result in walk(start) if 10 <= result <= 100))


def test_1362_hands_can_make_24():
    "The number of puzzles that people have been given (4nums.com, the list behind the published benchmark)."
    cards = GameOf24()
    counts = {}
    for split in ("train", "validation", "test"):
        hands = [hand for hand in combinations_with_replacement(range(1, 14), 4)]
        low, high = 0, len(hands)
        while low < high:  # the largest number of problems that the split has
            middle = (low + high + 1) // 2
            try:
                cards.problems(split, middle)
                low = middle
            except ValueError:
                high = middle - 1
        counts[split] = low
    assert sum(counts.values()) == 1362 and counts["train"] > counts["test"] > 50


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10**6), st.booleans())
def test_every_listed_action_is_accepted_and_every_end_is_an_expression_of_its_value(num_numbers, seed, is_cards):
    rng = random.Random(seed)
    environment = GameOf24() if is_cards else Countdown(num_numbers)
    problem = environment.problems("validation", 1, seed=seed % 7)[0]
    state = environment.start(problem)
    while options := environment.actions(state):
        for option in options:
            environment.act(state, option)
        state = environment.act(state, rng.choice(options))
    assert environment.is_over(state) and len(state.data) == 1
    expression = environment.expression(state)
    assert environment.score_answer(problem, expression) == environment.reward(state)
    assert environment.play(problem, state.actions).data == state.data


@pytest.mark.parametrize("num_numbers", [3, 4])
def test_problems_can_be_solved_and_splits_share_no_numbers(num_numbers):
    environment = Countdown(num_numbers)
    drawn = {split: environment.problems(split, 60) for split in ("train", "validation", "test")}
    numbers = {split: {problem.data[0] for problem in problems} for split, problems in drawn.items()}
    assert not numbers["train"] & numbers["test"] and not numbers["train"] & numbers["validation"]
    assert not numbers["validation"] & numbers["test"]
    for problem in drawn["test"]:
        state = environment.start(problem)
        assert environment.can_be_solved(state) and problem.difficulty > 0
        while options := environment.actions(state):  # a solver that looks one step ahead never leaves the solvable part
            state = next(after for option in options if environment.can_be_solved(after := environment.act(state, option)))
        assert environment.reward(state) == 1.0
    assert drawn["test"] == environment.problems("test", 60) != environment.problems("test", 60, seed=1)


def test_difficulty_is_the_chance_of_random_play():
    environment = Countdown(3)
    problem = environment.problems("train", 1)[0]

    def chance(state):
        options = environment.actions(state)
        if not options: return environment.reward(state)
        return sum(chance(environment.act(state, option)) for option in options) / len(options)

    assert 2**-problem.difficulty == pytest.approx(chance(environment.start(problem)))


@pytest.mark.parametrize(
    "action",
    ["", "4", "4 +", "4 + 5 + 6", "7 + 4", "4 - 5", "5 / 4", "4 + 5 = 8", "4 / 0", "4 + 5 = 1/0", "4 + 5 = 9 (left: 9 6 9)"]
    + ["4 + 5 = 9 (left: " + "1" * 40, "4 + 5 = 9 (left: 6 9 10", "4 + 5 = 9 (left: 6-9)"],  # a model that repeats itself
)
def test_what_breaks_a_rule_is_refused(action):
    environment = Countdown(4)
    with pytest.raises(ValueError, match="must"):
        environment.act(environment.start(environment.problem([4, 5, 6, 10], 24)), action)
    with pytest.raises(ValueError, match="numbers must not be empty"):
        environment.problem([], 24)
    with pytest.raises(ValueError, match="numbers must be at most 6, got 9"):  # whose moves are too many to walk through
        environment.problem(range(1, 10), 24)


@pytest.mark.parametrize("answer", ["4 * 5 + 10 - 6", "Answer: (10 − 6) + 4 × 5 = 24", "4·5 + (10 – 6)", "6 ÷ (10 - 4) * 5 * 4 + 4"])
def test_signs_of_a_typesetter_are_arithmetic(answer):
    environment = GameOf24()
    assert environment.score_answer(environment.problem([4, 5, 6, 10]), answer) == float("÷" not in answer)


@pytest.mark.parametrize("line", ["4 * 5 + (10 - 6)", "4*5+10-6", "(10 - 6) + 4 × 5 = 24"])
@pytest.mark.parametrize(
    "form",
    ["**{}**", "__{}__", "*{}*", "***{}***", "`{}`", "**`{}`**", "```\n{}\n```", "```text\n{}\n```\n", "Answer: **{}**", "**Answer:** {}"]
    + ["**Answer: {}**", "**Answer**: `{}`", "So:\n\n**{}** = 24", "`{}` = **24**"],
)
def test_an_answer_in_bold_or_code_is_read(line, form):
    environment = GameOf24()
    problem = environment.problem([4, 5, 6, 10])
    assert environment.score_answer(problem, form.format(line)) == 1.0
    assert environment.score_answer(problem, form.format(line.replace("10", "1"))) == 0.0


@pytest.mark.parametrize("line", ["4 ** 5 + 10 - 6", "4 * 5 + 10 - 6 *", "* 4 * 5 + 10 - 6 **", "4 **-5** 10 - 6", "4 __ 5 __ + 10 - 6"])
def test_stars_that_are_no_emphasis_stay_what_they_are(line):
    environment = GameOf24()
    assert environment.score_answer(environment.problem([4, 5, 6, 10]), line) == 0.0


def test_one_text_is_no_sequence_of_texts():
    with pytest.raises(ValueError, match="texts must be a sequence of texts, got one of 9 character"):
        TextContinuation("one text.", load_tokenizer("bytes"))


@pytest.mark.parametrize("planner", get_args(PlannerName))
def test_an_action_that_is_not_allowed_costs_the_others_nothing(planner):
    environment = Countdown(3)
    problem = environment.problem((2, 3, 5), 30)

    def wild(states):
        return [([("9 + 9", -0.1), *((action, -1.0) for action in environment.actions(state)), ("?", -2.0)], 0.5) for state in states]

    found = plan_in(environment, problem, wild, planner, max_depth=2, budget=500)
    assert found.is_solved or planner == "greedy"
    assert all("9 + 9" not in node.text and node.status != "failed" for node in found.root.walk())
    lost = plan_in(environment, problem, lambda states: [([("9 + 9", -0.1)], 0.5) for _ in states], planner, max_depth=2)
    assert lost.best is None and "an action must use two of 2 3 5" in lost.root.reason


@pytest.mark.parametrize(
    "answer",
    ["", "24", "4 * 5 + 10", "4 * 5 + 10 - 6 - 0", "(4 * 5 + 10 - 6", "4 * 5 + 10 - 6 or 1", "4 ** 5 + 10 - 6", "4 5 6 10"]
    + ["1" * 5000, "(" * 2000 + "4 * 5 + 10 - 6", "-" * 2000 + "4 * 5 + 10 - 6"],
)
def test_what_is_no_answer_is_worth_nothing(answer):
    environment = GameOf24()
    assert environment.score_answer(environment.problem([4, 5, 6, 10]), answer) == 0.0


def test_the_rewards_of_a_continuation_are_their_weighted_sum():
    tokenizer = load_tokenizer("bytes")
    asked = []

    def log_likelihood(context, continuation):
        asked.append((context, continuation))
        return -2.0

    texts = [f"text {i}: the quick brown fox jumps over the lazy dog" for i in range(60)]
    environment = TextContinuation(
        texts, tokenizer, context_tokens=8, action_tokens=3, num_actions=2, rewards={"agreement": 2.0, "likelihood": 0.5},
        log_likelihood=log_likelihood,
    )  # fmt: skip
    problem = environment.problems("train", 1)[0]
    real = problem.data[1]
    half = environment.act_tokens(environment.start(problem), real[:3])
    assert environment.reward(half) == 0.0 and not asked
    state = environment.act_tokens(half, [0, 0, 0])
    assert environment.reward(state) == pytest.approx(2.0 * 0.5 + 0.5 * -2.0)
    assert asked == [(problem.text, tokenizer.decode([*real[:3], 0, 0, 0]))]
    assert environment.prompt(half) == problem.text + tokenizer.decode(list(real[:3]))
    splits = [{name.partition(":")[0] for name in (p.name for p in environment.problems(s, 3))} for s in ("train", "validation", "test")]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]


def test_a_text_that_is_there_twice_gives_its_problems_once():
    texts = [f"text {i}: the quick brown fox jumps over the lazy dog" for i in range(20)]
    once, twice = (TextContinuation(some, load_tokenizer("bytes"), context_tokens=8) for some in (texts, texts + texts))
    assert once.problems("train", 9) == twice.problems("train", 9)
    with pytest.raises(ValueError, match="num_problems must be at most the") as most:
        once.problems("train", 99)
    with pytest.raises(ValueError) as same:
        twice.problems("train", 99)
    assert str(same.value) == str(most.value)


def test_what_was_asked_about_one_problem_is_asked_again_about_the_next():
    environment = Countdown(3)

    def solve(states):
        solvable = environment.can_be_solved
        likes = lambda state: [(action, 0.0 if solvable(environment.act(state, action)) else -9.0) for action in environment.actions(state)]
        return [(likes(state), float(solvable(state))) for state in states]

    thinking = think_in(environment, solve, max_depth=2)
    for target in (30, 16):  # of the same numbers
        problem = environment.problem((2, 3, 5), target)
        thoughts = plan(ToTNode(problem.text, "problem", payload=environment.start(problem)), thinking, "greedy").thoughts
        assert environment.reward(environment.play(problem, thoughts)) == 1.0


def test_environments_have_names():
    assert isinstance(make_text_environment("game_of_24"), GameOf24)
    with pytest.raises(ValueError, match="countdown"):
        make_text_environment("tic_tac_toe")


def test_a_world_model_learns_countdown_from_the_command_line(tmp_path, capsys):
    "Trained on training problems, judged on validation problems, and asked to play."
    from lightbulb.apps.main_menu import main

    command = ["--environment", "countdown:3", "--save_dir", str(tmp_path), "--device", "cpu"]
    train = "--num_epochs 1 --batch_size 1 --accumulation_steps 1 --width 16 --hidden 32 --steps_per_epoch 8 --random_games 64".split()
    assert main([*command, *train, "--first_play", "4", "--games_per_play", "8", "--renewed_positions", "16"], stage="world") == 0
    assert "mean return" in capsys.readouterr().out
    assert main([*command, "--mode", "inference"], stage="world") == 0
    said = capsys.readouterr().out
    assert said.startswith("countdown:3, searched by") and "the end after 2 moves" in said and " -> " in said
    assert main(["--environment", "countdown:9", "--save_dir", str(tmp_path / "other"), "--device", "cpu"], stage="world") == 2
    assert "num_numbers must be from 2 to 6, got 9" in capsys.readouterr().err


def test_a_world_of_countdown_draws_problems_without_walking_through_their_moves():
    walked = moves.cache_info().misses
    for num_numbers in (4, 5, 6):
        states = CountdownWorld(Countdown(num_numbers)).reset(3, 5)
        assert all(target in targets_of(tuple(numbers), True, 10, 100) for *numbers, target in states.tolist())
    assert moves.cache_info().misses == walked
    drawn = [[*map(int, problem.data[0]), int(problem.data[1])] for problem in Countdown(4).problems("train", 3, seed=5)]
    assert drawn == CountdownWorld(Countdown(4)).reset(3, 5).tolist()


def test_a_world_of_countdown_keeps_its_splits_apart_and_refuses_what_is_not_legal():
    world = CountdownWorld(Countdown(3))
    learned, held = world.reset(40, 1), world.held_out.reset(40, 1)
    assert not {tuple(row[:3]) for row in learned} & {tuple(row[:3]) for row in held}
    assert (world.reset(40, 1) == learned).all() and world.legal(learned).any(1).all()
    few = CountdownWorld(Countdown(2)).held_out.reset(50, 1)  # there are 31
    assert few.shape == (50, 3) and len(np.unique(few, axis=0)) == 25
    with pytest.raises(ValueError, match="found 0 of 1"):
        CountdownWorld(Countdown(2, difficulty=(20, 30))).reset(4, 1)
    illegal = np.argmin(world.legal(learned), 1)
    with pytest.raises(ValueError, match="game 0: action .* must be legal"):
        world.step(learned, illegal)
    with pytest.raises(ValueError, match="whole ones"):
        CountdownWorld(GameOf24())
