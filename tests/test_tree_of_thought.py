"""ToTSearch against exhaustive search, against Yao's algorithms written down directly, and against tools that fail."""

from __future__ import annotations

import math
import random
import time
from fractions import Fraction
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightbulb.planning.tree_of_thought import (
    Evaluated,
    Failed,
    Finished,
    OutOfBudget,
    Proposed,
    Pruned,
    Retrieved,
    Solved,
    Thought,
    ToTConfig,
    ToTNode,
    ToTSearch,
    best_node,
    normalize_thought,
    plain_breadth_first,
    plain_depth_first,
)


class RandomTree:
    "A tree drawn from a seed: names of children, values, and which leaves are right."

    def __init__(self, seed: int, depth: int = 3, max_children: int = 3) -> None:
        self.seed, self.depth, self.max_children = seed, depth, max_children

    def draw(self, name: str, what: str) -> float:
        return random.Random(f"{self.seed}{name}{what}").random()

    def children(self, name: str) -> list[str]:
        if name.count("/") >= self.depth: return []
        return [f"{name}/{i}" for i in range(int(self.draw(name, "n") * (self.max_children + 1)))]

    def value(self, name: str) -> float:
        return round(self.draw(name, "v"), 1)  # coarse, so that ties are common

    def is_right(self, name: str) -> bool:
        return name.count("/") == self.depth and self.draw(name, "s") < 0.2

    def search(self, **config) -> ToTSearch:
        return ToTSearch(
            lambda nodes: [self.children(node.text) for node in nodes],
            lambda nodes: [self.value(node.text) for node in nodes],
            is_solution=lambda node: self.is_right(node.text),
            config=ToTConfig(max_depth=self.depth, **config),
        )

    def every(self, name: str = "r") -> list[str]:
        return [name, *(below for child in self.children(name) for below in self.every(child))]


trees = st.integers(0, 10_000).map(RandomTree)


@given(trees, st.sampled_from(["bfs", "dfs", "best_first"]), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_without_limits_every_strategy_is_exhaustive_search(tree, strategy, together):
    result = tree.search(strategy=strategy, beam_width=None, num_solutions=None, expand_together=together).run("r")
    names = tree.every()
    assert {node.text for node in result.root.walk()} == set(names) and result.num_nodes == len(names) - 1 == result.num_evaluations
    right = [name for name in names if tree.is_right(name)]
    assert {node.text for node in result.solutions} == set(right)
    if right:
        assert result.best.value == max(map(tree.value, right)) and result.best.text in right
    assert result.reason == "exhausted"


@given(trees, st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_breadth_first_is_algorithm_1_of_the_paper(tree, width):
    tree.is_right = lambda name: False
    search = tree.search(beam_width=width, num_solutions=None)
    levels = plain_breadth_first(search.propose, search.evaluate, ToTNode("r"), max_depth=tree.depth, beam_width=width)
    result = search.run("r")
    expanded = [node.text for node in result.root.walk() if node.status == "expanded" and node.depth]
    assert sorted(expanded) == sorted(node.text for level in levels[1:-1] for node in level)
    if levels[-1]:
        assert result.best.text == levels[-1][0].text


@given(trees, st.sampled_from([0.0, 0.3, 0.6]))
@settings(deadline=None, max_examples=60)
def test_depth_first_is_algorithm_2_of_the_paper(tree, threshold):
    tree.is_right = lambda name: False
    search = tree.search(strategy="dfs", value_threshold=threshold, num_solutions=None)
    propose, expanded = search.propose, []
    entered = plain_depth_first(propose, search.evaluate, ToTNode("r"), max_depth=tree.depth, value_threshold=threshold)
    search.propose = lambda nodes: expanded.extend(node.text for node in nodes) or propose(nodes)
    result = search.run("r")
    assert expanded == [node.text for node in entered if node.depth < tree.depth]
    assert all(node.value < threshold for node in result.root.walk() if node.status == "pruned")


@given(trees)
@settings(deadline=None, max_examples=40)
def test_best_first_always_expands_the_best_open_node(tree):
    search = tree.search(strategy="best_first", num_solutions=None)
    opened: dict[str, ToTNode] = {}
    for step in search.search("r"):
        if isinstance(step, Proposed) and step.parent.depth:
            best = max(node.value for node in opened.values())
            assert step.parent.value == best
            opened.pop(step.parent.text)
        if isinstance(step, Evaluated):
            opened |= {node.text: node for node in step.nodes if node.depth < tree.depth}


@given(trees, st.sampled_from(["bfs", "dfs", "best_first"]), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_budgets_are_never_exceeded_and_runs_repeat(tree, strategy, max_nodes, max_evaluations):
    config = dict(strategy=strategy, max_nodes=max_nodes, max_evaluations=max_evaluations, num_solutions=None)
    one, two = tree.search(**config).run("r"), tree.search(**config).run("r")
    assert one.num_nodes <= max_nodes and one.num_evaluations <= max_evaluations
    assert one.root.to_dict() == two.root.to_dict() and one.reason == two.reason
    if len(tree.every()) - 1 > min(max_nodes, max_evaluations) and strategy != "bfs":
        assert one.reason.startswith("max_")


@given(trees, st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_the_size_of_a_batch_changes_no_result(tree, size):
    whole, parts = tree.search(num_solutions=None).run("r"), tree.search(num_solutions=None, batch_size=size).run("r")
    assert whole.root.to_dict() == parts.root.to_dict()


def propose_operations(nodes):
    "Game of 24, exactly."
    proposals = []
    for node in nodes:
        numbers, thoughts = node.payload, []
        for i, j in combinations(range(len(numbers)), 2):
            a, b = numbers[i], numbers[j]
            rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
            values = [a + b, a * b, a - b, b - a] + ([a / b] if b else []) + ([b / a] if a else [])
            thoughts += [Thought(f"{a},{b}→{value} {rest}", payload=tuple(sorted([*rest, value]))) for value in values]
        proposals.append(thoughts)
    return proposals


def can_make_24(numbers) -> bool:
    if len(numbers) == 1: return numbers[0] == 24
    node = ToTNode("", payload=numbers)
    return any(can_make_24(thought.payload) for thought in propose_operations([node])[0])


@pytest.mark.parametrize("puzzle", ["4 5 6 10", "3 3 8 8", "1 5 5 5", "1 4 5 6", "1 1 1 1", "6 6 6 11", "13 13 13 13"])
def test_breadth_first_solves_the_game_of_24_exactly_when_it_can_be_solved(puzzle):
    numbers = tuple(sorted(map(Fraction, puzzle.split())))
    search = ToTSearch(
        propose_operations,
        lambda nodes: [0.0] * len(nodes),
        is_solution=lambda node: node.payload == (24,),
        key=lambda node: node.payload,
        config=ToTConfig(beam_width=None, max_nodes=None),
    )
    result = search.run(ToTNode(puzzle, payload=numbers))
    assert bool(result.solutions) == can_make_24(numbers)
    if result.solutions:
        assert [node.depth for node in result.path] == [0, 1, 2, 3] and result.reason == "solved"
    assert result.num_merged > 0


def test_a_perfect_judge_needs_a_beam_of_one():
    numbers = tuple(map(Fraction, (4, 5, 6, 10)))
    judge = lambda nodes: [float(can_make_24(node.payload)) for node in nodes]
    search = ToTSearch(propose_operations, judge, is_solution=lambda node: node.payload == (24,), config=ToTConfig(beam_width=1))
    assert search.run(ToTNode("4 5 6 10", payload=numbers)).reason == "solved"


# ------------------------------------------------------------------ one call a level, merging, evidence


def test_functions_are_called_once_a_level_and_evidence_comes_before_judgement():
    calls = []

    def log(name, answer):
        def function(nodes):
            calls.append((name, len(nodes)))
            return [answer(node) for node in nodes]

        return function

    search = ToTSearch(
        log("propose", lambda node: [f"{node.text}{letter}" for letter in "abc"]),
        log("evaluate", lambda node: float(len(node.evidence))),
        retrieve=log("retrieve", lambda node: node.text * 2),
        config=ToTConfig(max_depth=2, beam_width=2),
    )
    steps = [type(step) for step in search.search("x")]
    assert calls == [("propose", 1), ("retrieve", 3), ("evaluate", 3), ("propose", 2), ("retrieve", 6), ("evaluate", 6)]
    assert steps == [Proposed, Retrieved, Evaluated, Pruned, Proposed, Proposed, Retrieved, Evaluated, Finished]


def test_siblings_that_say_the_same_are_one_and_cousins_only_by_key():
    propose = lambda nodes: [["Tungsten.", " tungsten ", "ﬁne wire", "fine  wire"] if node.depth == 0 else ["again"] for node in nodes]
    flat = lambda nodes: [1.0] * len(nodes)
    plain = ToTSearch(propose, flat, config=ToTConfig(max_depth=2)).run("q")
    assert [node.text for node in plain.root.children] == ["Tungsten.", "ﬁne wire"] and plain.num_merged == 2
    assert sum(node.text == "again" for node in plain.root.walk()) == 2
    keyed = ToTSearch(propose, flat, config=ToTConfig(max_depth=2), key=lambda node: normalize_thought(node.text)).run("q")
    assert sum(node.text == "again" for node in keyed.root.walk()) == 1


def test_a_state_met_again_nearer_to_the_root_is_not_lost():
    "Depth-first meets `goal` at depth 3 first, where its child would be too deep."
    below = {"q": ["long", "goal"], "long": ["longer"], "longer": ["goal"], "goal": ["end"]}
    search = ToTSearch(
        lambda nodes: [below.get(node.text, []) for node in nodes],
        lambda nodes: [float(node.text.startswith("long")) for node in nodes],
        is_solution=lambda node: node.text == "end",
        key=lambda node: node.text,
        config=ToTConfig(strategy="dfs", max_depth=3),
    )
    assert [node.text for node in search.run("q").path] == ["q", "goal", "end"]


def test_branching_takes_the_first_proposals():
    search = ToTSearch(
        lambda nodes: [list("abcdef") for _ in nodes], lambda nodes: [1.0] * len(nodes), config=ToTConfig(max_depth=1, branching=2)
    )
    assert [node.text for node in search.run("q").root.children] == ["a", "b"]


# ------------------------------------------------------------------ failures, interruptions, refusals


@pytest.mark.parametrize("stage", ["propose", "retrieve", "evaluate"])
@pytest.mark.parametrize("how", ["raise", "return"])
def test_one_bad_node_fails_alone(stage, how):
    def tool(name, answer):
        def function(nodes):
            if name == stage and how == "raise" and any(node.text == "b" for node in nodes):
                raise ConnectionError("gone")
            return [ConnectionError("gone") if name == stage and how == "return" and node.text == "b" else answer(node) for node in nodes]

        return function

    search = ToTSearch(
        tool("propose", lambda node: list("abc") if node.depth == 0 else ["end"]),
        tool("evaluate", lambda node: 1.0),
        retrieve=tool("retrieve", lambda node: node.text),
        config=ToTConfig(max_depth=2),
    )
    failures = [step for step in search.search("q") if isinstance(step, Failed)]
    assert [(step.node.text, step.stage, str(step.error)) for step in failures] == [("b", stage, "gone")]
    assert failures[0].node.status == "failed" and failures[0].node.reason == f"{stage}: ConnectionError: gone"
    assert search.result.num_failed == 1 and [node.text for node in search.result.path] == ["q", "a", "end"]


@pytest.mark.parametrize("bad", [math.nan, "much", None])
def test_a_value_that_is_no_number_is_a_failure_of_its_node(bad):
    search = ToTSearch(
        lambda nodes: [["good", "bad"] for _ in nodes],
        lambda nodes: [1.0 if node.text == "good" else bad for node in nodes],
        config=ToTConfig(max_depth=1),
    )
    result = search.run("q")
    assert result.best.text == "good" and result.root.children[1].status == "failed" and result.root.children[1].value is None


def raises(items):
    yield from items
    raise ConnectionError("gone")


@pytest.mark.parametrize(
    ("thoughts", "reason"),
    [
        (lambda: None, "propose: TypeError: "),
        (lambda: [1, 2], "propose: ValueError: a node's thoughts must be a sequence of texts or Thoughts, got [1, 2]"),
        (lambda: "abc", "propose: ValueError: a node's thoughts must be a sequence of texts or Thoughts, got 'abc'"),
        (lambda: raises(["x"]), "propose: ConnectionError: gone"),
    ],
)
def test_what_are_no_thoughts_is_a_failure_of_its_node(thoughts, reason):
    answers = {"q": lambda: ["a", "bad"], "a": lambda: ["end"], "bad": thoughts}
    result = ToTSearch(
        lambda nodes: [answers[node.text]() for node in nodes], lambda nodes: [1.0] * len(nodes), config=ToTConfig(max_depth=2)
    ).run("q")
    bad = result.root.children[1]
    assert bad.status == "failed" and bad.reason.startswith(reason) and not bad.children
    assert (result.num_failed, result.best.text, result.reason) == (1, "end", "exhausted")


@pytest.mark.parametrize("key", [lambda node: {"b": []}.get(node.text, node.text), lambda node: node.text if node.text != "b" else 1 / 0])
def test_a_key_that_fails_fails_its_node_only(key):
    search = ToTSearch(lambda nodes: [list("abc") for _ in nodes], lambda nodes: [1.0] * len(nodes), key=key, config=ToTConfig(max_depth=1))
    failures = [(step.node.text, step.stage) for step in search.search("q") if isinstance(step, Failed)]
    assert failures == [("b", "key")] and [node.status for node in search.result.root.children] == ["terminal", "failed", "terminal"]
    assert (search.result.num_nodes, search.result.num_evaluations) == (3, 2)


def test_everything_failing_is_a_result_without_a_best_node():
    def broken(nodes):
        raise OSError("no model")

    result = ToTSearch(broken, broken).run("q")
    assert (result.best, result.reason, result.num_failed, [node.text for node in result.path]) == (None, "exhausted", 1, ["q"])
    assert result.root.reason == "propose: OSError: no model"


def test_a_failing_is_solution_fails_its_node_only():
    def is_solution(node):
        return {"a": lambda: 1 / 0, "b": lambda: True}[node.text]()

    search = ToTSearch(lambda nodes: [["a", "b"] for _ in nodes], lambda nodes: [1.0] * len(nodes), is_solution=is_solution)
    steps = list(search.search("q"))
    assert [step.node.text for step in steps if isinstance(step, Solved)] == ["b"]
    assert [step.stage for step in steps if isinstance(step, Failed)] == ["is_solution"]


def test_a_function_that_loses_count_is_a_bug_and_is_raised():
    with pytest.raises(ValueError, match="one result a node: 1 for 2 nodes"):
        ToTSearch(lambda nodes: [["a", "b"]], lambda nodes: [1.0]).run("q")


def test_ctrl_c_keeps_the_tree():
    def evaluate(nodes):
        if nodes[0].depth == 2: raise KeyboardInterrupt
        return [float(len(node.text)) for node in nodes]

    search = ToTSearch(lambda nodes: [["short", "longer"] for _ in nodes], evaluate)
    with pytest.raises(KeyboardInterrupt):
        search.run("q")
    assert search.result.reason == "interrupted" and search.result.best.text == "longer" and search.result.num_nodes == 6


def test_a_reader_who_leaves_keeps_the_tree():
    search = ToTSearch(lambda nodes: [["a"] for _ in nodes], lambda nodes: [1.0] * len(nodes))
    steps = search.search("q")
    next(steps), next(steps)
    steps.close()
    assert (search.result.reason, search.result.num_nodes) == ("interrupted", 1)


def test_two_searches_of_one_object_do_not_mix():
    search = ToTSearch(
        lambda nodes: [[f"{node.text}1", f"{node.text}2"] for node in nodes],
        lambda nodes: [1.0] * len(nodes),
        config=ToTConfig(max_depth=2),
    )
    one, two, results = search.search("a"), search.search("b"), {}
    for _ in range(20):
        for name, steps in (("a", one), ("b", two)):
            step = next(steps, None)
            if isinstance(step, Finished):
                results[name] = step.result
    assert {name: result.num_nodes for name, result in results.items()} == {"a": 6, "b": 6}
    assert all(node.text.startswith("a") for node in results["a"].root.walk())


@pytest.mark.parametrize("strategy", ["bfs", "dfs", "best_first"])
def test_nothing_is_proposed_when_the_last_node_is_made(strategy):
    asked = []

    def propose(nodes):
        asked.extend(node.text for node in nodes)
        return [["a", "b"] for _ in nodes]

    config = ToTConfig(strategy=strategy, max_depth=4, max_nodes=2, num_solutions=None)
    result = ToTSearch(propose, lambda nodes: [1.0] * len(nodes), config=config).run("q")
    assert (asked, result.num_nodes, result.reason) == (["q"], 2, "max_nodes")


def test_time_and_the_callers_budget_stop_between_calls():
    def slow(nodes):
        time.sleep(0.05 * len(nodes))
        return [1.0] * len(nodes)

    search = ToTSearch(lambda nodes: [list("abcd") for _ in nodes], slow, config=ToTConfig(max_depth=4, batch_size=1, max_seconds=0.12))
    begin = time.monotonic()
    result = search.run("q")
    assert result.reason == "max_seconds" and time.monotonic() - begin < 0.5 and 0 < result.num_evaluations <= 4
    pages = iter(["", "", "", "pages"])
    counted = ToTSearch(lambda nodes: [["a"] for _ in nodes], lambda nodes: [1.0] * len(nodes), budget=lambda: next(pages, "pages")).run(
        "q"
    )
    assert counted.reason == "pages" and counted.best.text == "a"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_nodes", 0),
        ("max_evaluations", 0),
        ("beam_width", 0),
        ("beam_width", 1.5),
        ("max_depth", None),
        ("branching", -1),
        ("max_seconds", 0),
        ("max_seconds", math.nan),
        ("value_threshold", math.nan),
        ("strategy", "dijkstra"),
        ("num_solutions", True),
        ("batch_size", 0),
    ],
)
def test_a_configuration_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        ToTConfig(**{name: value})


def test_infinite_values_are_numbers():
    values = {"never": -math.inf, "maybe": 0.0, "surely": math.inf}
    result = ToTSearch(
        lambda nodes: [list(values) for _ in nodes], lambda nodes: [values[node.text] for node in nodes], config=ToTConfig(max_depth=1)
    ).run("q")
    assert result.best.text == "surely" and best_node(result.root) is result.best


# ------------------------------------------------------------------ the drawing


@given(st.text(max_size=80), st.integers(0, 10_000))
@example("half an emoji \ud83d", 1)
@settings(deadline=None, max_examples=40)
def test_a_drawing_is_well_formed_whatever_the_thoughts_say(text, seed):
    result = RandomTree(seed).search(num_solutions=None).run("r")
    for node in result.root.walk():
        node.text, node.reason = text, text
    drawing = ElementTree.fromstring(result.root.to_svg(result.best))
    boxes = drawing.findall("{http://www.w3.org/2000/svg}g")
    assert len(boxes) == result.num_nodes + 1
    places = [(rect.get("x"), rect.get("y")) for box in boxes for rect in box.findall("{http://www.w3.org/2000/svg}rect")]
    assert len(set(places)) == len(places)
    assert "<img" in result.root.to_html(result.best)


def test_a_very_deep_tree_needs_no_recursion_in_walk_and_drawing():
    root = node = ToTNode("0")
    for i in range(300):
        node = node.add(str(i + 1))
    assert len(list(root.walk())) == 301 and root.to_svg(node).count("<g class=") == 301


@pytest.mark.parametrize("strategy", ["bfs", "dfs", "best_first"])
@pytest.mark.parametrize("affordable", [0, 1, 4, 9])
def test_a_result_without_a_budget_ends_the_search_and_its_node_stays_open(strategy, affordable):
    tree, asked = RandomTree(3, max_children=4), []

    def evaluate(nodes):
        results = []
        for node in nodes:
            asked.append(node)
            results.append(OutOfBudget("forwards") if len(asked) > affordable else tree.value(node.text))
        return results

    search = ToTSearch(lambda nodes: [tree.children(n.text) for n in nodes], evaluate, config=ToTConfig(strategy=strategy, beam_width=None))
    result = search.run("r")
    refused = [node for node in result.root.walk() if node in asked[affordable:]]
    assert refused and result.reason == "forwards" and result.num_failed == 0
    assert all(node.status == "open" and node.value is None for node in refused)
    assert result.num_evaluations == affordable
