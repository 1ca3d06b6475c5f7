"""Every planner against exhaustive search, its account against the functions' own count, and its promises: seed, budget, prefix."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.planning.planners import PlannerConfig, PlannerName, ThoughtFunctions, plan
from lightbulb.planning.run_events import (
    PlannerBudget,
    PlannerCost,
    ModelAsked,
    RunLog,
    RunStarted,
    ThoughtFailed,
    ThoughtProposed,
    ThoughtPruned,
    ThoughtScored,
    read_event,
    read_run,
    tree_of,
    write_event,
)
from lightbulb.planning.run_pages import replay_run, run_to_json
from lightbulb.planning.tree_of_thought import Thought, ToTConfig, ToTNode, ToTSearch, plain_breadth_first
from lightbulb.world.text_environments import Countdown

PLANNERS = get_args(PlannerName)
BATCHED = tuple(PlannerConfig(planner=name, leaves_at_once=size) for name in ("uct", "mcts", "gumbel") for size in (2, 7))
COMPLETE = ("beam", "value_beam", "tot_bfs", "tot_dfs", "best_first", "uct", "mcts", "levin", "oops")


class RandomTask:
    "A tree drawn from a seed; states of equal name are met on several paths. Counts what it is asked."

    def __init__(self, seed: int, depth: int = 3, most: int = 3) -> None:
        self.seed, self.depth, self.most = seed, depth, most
        self.asked: Counter[tuple[str, str]] = Counter()
        self.num_calls = 0

    def draw(self, name: str, what: str) -> float:
        return random.Random(f"{self.seed}{name}{what}").random()

    def children(self, name: str) -> list[str]:
        if name.count("/") >= self.depth: return []
        return [f"{name}/{int(4 * self.draw(f'{name}{i}', 'name'))}" for i in range(int(self.draw(name, "n") * (self.most + 1)))]

    def thoughts(self, name: str) -> list[Thought]:
        names = self.children(name)
        weights = [0.1 + self.draw(f"{child}{i}", "p") for i, child in enumerate(names)]
        return [
            Thought(child, payload=child, log_probability=math.log(weight / sum(weights)))
            for child, weight in zip(names, weights, strict=True)
        ]

    def count(self, stage: str, nodes: list[ToTNode]) -> None:
        self.num_calls += 1
        self.asked.update((stage, node.payload) for node in nodes)

    def propose(self, nodes):
        self.count("propose", nodes)
        return [self.thoughts(node.payload) for node in nodes]

    def evaluate(self, nodes):
        self.count("evaluate", nodes)
        return [round(self.draw(node.payload, "v"), 1) for node in nodes]

    def is_right(self, node: ToTNode) -> bool:
        return self.draw(node.payload, "right") < 0.15

    def thinking(self, *, verified: bool = True, **extra) -> ThoughtFunctions:
        return ThoughtFunctions(
            propose=self.propose,
            evaluate=self.evaluate,
            is_solution=self.is_right if verified else None,
            key=lambda node: node.payload,
            max_depth=self.depth,
            **extra,
        )

    def run(self, planner, *, budget: PlannerBudget, seed: int = 0, **extra):
        self.asked.clear()
        self.num_calls = 0
        return plan(ToTNode("r", payload="r"), self.thinking(**extra), planner, budget=budget, seed=seed)

    def solutions(self, name: str = "r") -> list[str]:
        "All right ends, by walking the whole tree."
        if name.count("/") == self.depth: return [name] if self.is_right(ToTNode(name, payload=name)) else []
        return [end for child in self.children(name) for end in self.solutions(child)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from((*PLANNERS, *BATCHED)), st.integers(0, 400), st.integers(1, 30), st.booleans(), st.sampled_from([None, 1, 3]))
def test_the_account_is_what_the_functions_counted_and_never_above_the_budget(planner, seed, forwards, verified, batch_size):
    task = RandomTask(seed)
    result = task.run(planner, budget=PlannerBudget(forwards=forwards), verified=verified, batch_size=batch_size)
    assert result.cost.forwards == task.asked.total() <= forwards
    assert result.cost.calls == task.num_calls
    assert all(count == 1 for count in task.asked.values()), "a state was asked about twice"
    told = [event.cost.forwards for event in result.events if isinstance(event, ModelAsked)]
    assert told == sorted(told) and (not told or told[-1] <= result.cost.forwards)
    assert sum(node.cost.forwards for node in tree_of(result.events).values()) <= result.cost.forwards


@pytest.mark.parametrize("planner", (*PLANNERS, *BATCHED))
@pytest.mark.parametrize("budget", [PlannerBudget(tokens=100), PlannerBudget(calls=6), PlannerBudget(forwards=9, tokens=55)])
def test_tokens_and_calls_are_budgets_too(planner, budget):
    task, used = RandomTask(7, depth=4), [0]

    def propose(nodes):
        used[0] += sum(3 + len(node.payload) for node in nodes)
        return task.propose(nodes)

    prices = {"propose": PlannerCost(1, 20), "evaluate": PlannerCost(1, 0)}
    thinking = ThoughtFunctions(
        propose=propose, evaluate=task.evaluate, key=lambda n: n.payload, max_depth=4, prices=prices, tokens_used=lambda: used[0]
    )
    result = plan(ToTNode("r", payload="r"), thinking, planner, budget=budget)
    assert result.cost.tokens == used[0] and result.cost.calls == task.num_calls and result.cost.forwards == task.asked.total()
    assert not budget.refuses(result.cost)


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_forward_that_gives_both_is_paid_once(planner):
    task = RandomTask(11)
    result = task.run(planner, budget=PlannerBudget(forwards=12), one_forward=True, verified=False)
    assert result.cost.forwards == len({name for _, name in task.asked}) <= 12


@settings(max_examples=40, deadline=None)
@given(st.sampled_from((*PLANNERS, *BATCHED)), st.integers(0, 400), st.integers(1, 12), st.integers(0, 20), st.booleans())
def test_equal_seeds_give_equal_events_and_more_budget_the_same_beginning(planner, seed, small, more, verified):
    task = RandomTask(seed)
    first = task.run(planner, budget=PlannerBudget(forwards=small), seed=seed, verified=verified)
    assert task.run(planner, budget=PlannerBudget(forwards=small), seed=seed, verified=verified).events == first.events
    if first.planner == "gumbel":
        return  # its halving is planned for the whole budget
    large = task.run(planner, budget=PlannerBudget(forwards=small + more), seed=seed, verified=verified)
    head = first.events[1:-1]
    assert large.events[1 : 1 + len(head)] == head
    assert large.is_solved or not first.is_solved


@settings(max_examples=60, deadline=None)
@given(st.sampled_from((*COMPLETE, *(config for config in BATCHED if config.planner != "gumbel"))), st.integers(0, 1000))
def test_without_a_limit_a_complete_planner_solves_what_can_be_solved(planner, seed):
    task = RandomTask(seed)
    result = task.run(planner, budget=PlannerBudget())
    assert result.is_solved == bool(task.solutions())
    assert result.reason == ("solved" if result.is_solved else "exhausted")
    if result.best and result.is_solved:
        assert result.best.payload in task.solutions()


@pytest.mark.parametrize("planner", COMPLETE)
def test_all_countdown_problems_of_three_numbers_are_solved_without_a_limit(planner):
    environment = Countdown(3)

    def propose(nodes):
        return [
            [Thought(action, payload=environment.act(node.payload, action)) for action in environment.actions(node.payload)]
            for node in nodes
        ]

    for problem in environment.problems("validation", 12):
        thinking = ThoughtFunctions(
            propose=propose,
            evaluate=lambda nodes: [0.0] * len(nodes),
            is_solution=lambda node: environment.reward(node.payload) == 1.0,
            key=lambda node: repr(node.payload.data),
            max_depth=2,
        )
        result = plan(ToTNode(problem.text, payload=environment.start(problem)), thinking, planner, budget=PlannerBudget())
        assert result.is_solved and environment.reward(environment.play(problem, result.thoughts)) == 1.0


def plain_task(seed: int, depth: int = 3, width: int = 3) -> RandomTask:
    "Every node has `width` children of different names."
    task = RandomTask(seed, depth)
    task.children = lambda name: [f"{name}/{i}" for i in range(width)] if name.count("/") < depth else []
    return task


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1, 2, 5])
def test_breadth_first_keeps_what_the_paper_and_our_own_search_keep(seed, width):
    task = plain_task(seed)
    root = ToTNode("r", payload="r")
    levels = plain_breadth_first(
        lambda nodes: [task.thoughts(node.payload) for node in nodes], task.evaluate, root, max_depth=3, beam_width=width
    )
    kept = [{node.text for node in level} for level in levels[:-1]]
    result = task.run(PlannerConfig(planner="tot_bfs", beam_width=width), budget=PlannerBudget(), verified=False)
    expanded = {event.node for event in result.events if isinstance(event, ModelAsked) and event.stage == "propose"}
    names = {event.node: event.text for event in result.events if isinstance(event, ThoughtProposed)} | {0: "r"}
    assert {names[number] for number in expanded} == set().union(*kept)
    ours = ToTSearch(task.propose, task.evaluate, config=ToTConfig(max_depth=3, beam_width=width)).run(ToTNode("r", payload="r"))
    assert result.best and ours.best and result.best.text == ours.best.text == levels[-1][0].text


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_most_probable_path_and_greedy_takes_the_best_each_time(seed):
    task = plain_task(seed)
    paths: dict[str, float] = {"r": 0.0}
    for _ in range(3):
        paths = {thought.text: total + (thought.log_probability or 0) for name, total in paths.items() for thought in task.thoughts(name)}
    beam = task.run("beam", budget=PlannerBudget(), verified=False)
    assert beam.best and beam.best.text == max(paths, key=paths.__getitem__)
    name = "r"
    for _ in range(3):
        name = max(task.thoughts(name), key=lambda thought: thought.log_probability or 0).text
    greedy = task.run("greedy", budget=PlannerBudget(), verified=False)
    assert greedy.best and greedy.best.text == name and greedy.cost == PlannerCost(3, 0, 3)


@pytest.mark.parametrize("seed", range(4))
def test_tree_search_over_thoughts_visits_as_the_array_search_does(seed):
    "Deep enough that no end is reached; the arrays' search numbers its states as the task names them."
    task, simulations = plain_task(seed, depth=40), 30
    config = PlannerConfig(planner="mcts", exploration_constant=1.25)
    result = task.run(config, budget=PlannerBudget(forwards=simulations + 1), one_forward=True, verified=False)
    names = ["r"]

    def predict(states):
        rows = [names[int(state)] for state in states]
        logits = np.array([[thought.log_probability for thought in task.thoughts(name)] for name in rows])
        return logits, np.array([round(task.draw(name, "v"), 1) for name in rows]), None

    def step(states, actions):
        after = [f"{names[int(state)]}/{int(action)}" for state, action in zip(states, actions, strict=True)]
        names.extend(after)
        return np.arange(len(names) - len(after), len(names)), np.zeros(len(after)), np.ones(len(after))

    arrays = MCTS(predict, step, MCTSConfig(num_simulations=simulations, exploration_constant=1.25)).search(np.zeros(1, np.int64))
    ours = Counter(node.payload.split("/")[1] for node in result.root.walk() if node.status == "expanded" and node.depth)
    assert [ours[str(action)] for action in range(3)] == arrays.visit_counts[0].tolist()


@pytest.mark.parametrize("planner", ["uct", "mcts", "gumbel"])
@pytest.mark.parametrize("seed", range(4))
def test_leaves_that_are_asked_about_together_are_different_ones(planner, seed):
    "Deep enough that no end is reached: as many forwards in fewer calls, and gumbel's rounds stay what they were."
    task, budget, visits, calls = plain_task(seed, depth=40), PlannerBudget(forwards=33), [], []
    for size in (1, 3, 8):
        result = task.run(PlannerConfig(planner=planner, leaves_at_once=size), budget=budget, one_forward=True, verified=False)
        assert result.cost.forwards == 33
        visits.append(Counter(node.payload.split("/")[1] for node in result.root.walk() if node.status == "expanded" and node.depth))
        calls.append(result.cost.calls)
    assert calls[0] == 33 and calls[0] > calls[1] > (calls[2] if planner != "gumbel" else 0)  # a round of gumbel's has three leaves here
    if planner == "gumbel":
        assert sorted(visits[0].values()) == sorted(visits[1].values())
        assert visits[1] == visits[2]


def test_levin_stays_within_its_bound():
    for seed in range(30):
        task = plain_task(seed, depth=4)
        result = task.run("levin", budget=PlannerBudget())
        if not result.is_solved or not result.best: continue
        bound = result.best.depth * math.exp(-sum(node.log_probability or 0 for node in result.best.path()))
        assert result.cost.forwards <= bound


def test_self_consistency_submits_the_answer_of_most_paths():
    shares = {"a1": 0.3, "a2": 0.3, "b": 0.4}
    thinking = ThoughtFunctions(
        propose=lambda nodes: [[Thought(text, log_probability=math.log(share)) for text, share in shares.items()] for _ in nodes],
        answer=lambda node: node.text[0],
        max_depth=1,
    )
    result = plan("?", thinking, PlannerConfig(planner="self_consistency", num_samples=60))
    assert result.best and result.best.text.startswith("a") and result.cost.forwards == 1
    assert plan("?", thinking, "greedy").thoughts == ["b"]


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_function_that_fails_costs_its_node_and_no_more(planner):
    task = plain_task(5)

    def evaluate(nodes):
        if any(node.payload.startswith("r/1") for node in nodes): raise TimeoutError("no answer")
        return task.evaluate(nodes)

    thinking = ThoughtFunctions(propose=task.propose, evaluate=evaluate, key=lambda node: node.payload, batch_size=1)
    result = plan(ToTNode("r", payload="r"), thinking, planner, budget=PlannerBudget(forwards=60))
    assert result.best and result.reason
    if planner in ("value_beam", "tot_bfs", "tot_dfs", "best_first", "uct", "mcts"):
        assert any(isinstance(event, ThoughtFailed) and "no answer" in event.error for event in result.events)
        assert not result.best.text.startswith("r/1")


@pytest.mark.parametrize("planner", PLANNERS)
def test_functions_that_return_something_else_are_told_so(planner):
    with pytest.raises(ValueError, match="propose must return one result a node: 0 for 1 nodes"):
        plan("?", ThoughtFunctions(propose=lambda nodes: [], evaluate=lambda nodes: [0.0] * len(nodes)), planner)
    for thoughts, said in (([1, 2], r"got \[1, 2\]"), ("one text", "got 'one text'")):
        thinking = ThoughtFunctions(propose=lambda nodes, given=thoughts: [given for _ in nodes], evaluate=lambda nodes: [0.0] * len(nodes))
        result = plan("?", thinking, planner)
        failures = [event.error for event in result.events if isinstance(event, ThoughtFailed)]
        assert result.best is None and failures and all(re.search(said, error) for error in failures)


@pytest.mark.parametrize("calls", [3, 5, 9, None])
@pytest.mark.parametrize("planner", ["auto", "value_beam", "tot_bfs", "tot_dfs", "best_first", "best_of_n", "uct", "mcts", "gumbel"])
def test_a_batch_that_fails_is_asked_one_by_one_within_the_budget(planner, calls):
    def evaluate(nodes):
        if any(node.text.endswith("b") for node in nodes): raise TimeoutError("no answer")
        return [len(node.text) / 9 for node in nodes]

    thinking = ThoughtFunctions(
        propose=lambda nodes: [[node.text + end for end in "abc"] for node in nodes], evaluate=evaluate, max_depth=2
    )
    config = PlannerConfig(planner=planner, leaves_at_once=2)
    result = plan("q", thinking, config, budget=PlannerBudget(forwards=30, calls=calls))
    assert calls is None or result.cost.calls <= calls
    assert replay_run(result.events).events == result.events
    if calls is None:
        assert result.best and not result.best.text.endswith("b")
        assert all(node.text.endswith("b") for node in result.root.children if node.status == "failed")


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("stage", ["evaluate", "retrieve"])
def test_a_failed_thought_is_neither_followed_nor_submitted_where_values_are_negative(planner, stage):
    shares = {"a": 0.3, "b": 0.5, "c": 0.2}
    fails = lambda node: node.text.endswith("b")
    thinking = ThoughtFunctions(
        propose=lambda nodes: [[Thought(node.text + text, log_probability=math.log(p)) for text, p in shares.items()] for node in nodes],
        evaluate=lambda nodes: [math.nan if stage == "evaluate" and fails(node) else -1.0 - node.text.count("c") for node in nodes],
        retrieve=lambda nodes: [OSError("no page") if stage == "retrieve" and fails(node) else [] for node in nodes],
        max_depth=2,
        prices={"evaluate": PlannerCost(), "propose": PlannerCost(1), "retrieve": PlannerCost()},
    )
    config = PlannerConfig(planner=planner, beam_width=10, num_samples=9, max_instructions=2000)
    result = plan("q", thinking, config, budget=PlannerBudget(forwards=40))
    failed = {event.node for event in result.events if isinstance(event, ThoughtFailed)}
    assert result.best and not failed & {node.order for node in result.best.path()}
    asked = {event.node for event in result.events if isinstance(event, ModelAsked) and event.stage == "propose"}
    if stage == "retrieve" or planner not in ("uct", "mcts", "gumbel"):  # these pay for a forward before they know
        assert not asked & failed


def test_probabilities_and_values_of_a_model_are_kept_as_numbers(tmp_path):
    thinking = ThoughtFunctions(
        propose=lambda nodes: [
            [Thought("a", log_probability=np.float32(-0.5)), Thought("b", log_probability=np.float32(-1))] for _ in nodes
        ],
        evaluate=lambda nodes: [np.float32(0.5) for _ in nodes],
        max_depth=1,
    )
    log = RunLog(tmp_path / "run.jsonl")
    result = plan("q", thinking, "greedy", log=log)
    assert read_run(tmp_path / "run.jsonl") == list(result.events) and json.loads(run_to_json(result.events))
    assert [type(node.log_probability) for node in result.root.children] == [float, float]


def test_a_run_that_was_killed_is_read_up_to_its_torn_line_and_any_settings_come_back(tmp_path, caplog):
    path, settings = (
        tmp_path / "run.jsonl",
        {f"{i}": {"number": value} for i, value in enumerate((5, "seven", "inf", [5], {"number": -math.inf}))},
    )
    log = RunLog(path)
    for event in (RunStarted("q", "greedy", 0, settings), ThoughtScored(0, math.inf)):
        log.add(event)
    assert read_run(path) == log.events and not caplog.messages
    whole = path.read_bytes()
    for cut in (-1, -2, -20, -40):
        path.write_bytes(whole[:cut])
        assert read_run(path) == log.events[: 2 if cut == -1 else 1]
    assert caplog.messages == ["run.jsonl, line 2 is torn: the run was killed while it was written"] * 3
    path.write_bytes(whole[:-20] + b"\n")
    with pytest.raises(ValueError, match="run.jsonl, line 2: a line must be an event"):
        read_run(path)


def test_pruned_below_the_threshold_is_not_followed():
    task = plain_task(3)
    for planner in ("tot_bfs", "tot_dfs", "best_first"):
        result = task.run(PlannerConfig(planner=planner, value_threshold=0.4), budget=PlannerBudget(), verified=False)
        values = {event.node: task.draw(event.text, "v") for event in result.events if isinstance(event, ThoughtProposed)}
        asked = {event.node for event in result.events if isinstance(event, ModelAsked) and event.stage == "propose"} - {0}
        assert asked and all(round(values[number], 1) >= 0.4 for number in asked)
        assert any(isinstance(event, ThoughtPruned) and "below 0.4" in event.reason for event in result.events)


def test_evidence_is_retrieved_before_a_thought_is_judged(tmp_path):
    seen = []
    thinking = ThoughtFunctions(
        propose=lambda nodes: [["left", "right"] for _ in nodes],
        retrieve=lambda nodes: [{"pages": [f"page about {node.text}"]} for node in nodes],
        evidence_texts=lambda evidence: evidence["pages"],
        evaluate=lambda nodes: [seen.append(node.evidence) or float(node.text == "right") for node in nodes],
        max_depth=1,
        prices={"retrieve": PlannerCost(0, 0)},
    )
    for planner in ("tot_bfs", "best_first"):
        log = RunLog(tmp_path / "run.jsonl")
        result = plan("where?", thinking, planner, log=log)
        assert result.thoughts == ["right"] and result.best and result.best.evidence == {"pages": ["page about right"]}
        assert tree_of(log.events)[2].evidence == ["page about right"]
    assert seen == [{"pages": ["page about left"]}, {"pages": ["page about right"]}] * 2


@pytest.mark.parametrize("planner", PLANNERS)
def test_somebody_may_stop_a_run(planner):
    task = plain_task(2)
    result = plan(
        ToTNode("r", payload="r"), task.thinking(verified=False), planner, stopped=lambda: "max_seconds" if task.num_calls >= 2 else ""
    )
    assert (result.reason, task.num_calls) == ("max_seconds", 2)


def test_a_plan_shows_itself_and_lets_no_markup_through():
    nasty = "<script>alert(1)</script>*_"
    result = plan(nasty, ThoughtFunctions(propose=lambda nodes: [[nasty] for _ in nodes], max_depth=1), "greedy")
    assert "<script" not in (result._repr_html_() or "<script") and "<script" not in (result._repr_markdown_() or "<script")
    assert json.loads(result.to_json())["thoughts"] == [nasty]
    empty = plan("?", ThoughtFunctions(propose=lambda nodes: [[] for _ in nodes]), "greedy")
    assert empty.best is None and "nothing" in empty.to_html()


@pytest.mark.parametrize("planner", ["uct", "mcts"])
def test_tree_search_ends_where_states_repeat_and_nothing_new_is_asked(planner):
    position = lambda node: sum({"left": -1, "right": 1, "stay": 0}[step.text] for step in node.path()[1:]) % 7
    thinking = ThoughtFunctions(
        propose=lambda nodes: [["left", "right", "stay"] for _ in nodes],
        evaluate=lambda nodes: [-abs(position(node) - 3.0) for node in nodes],
        key=position,
        max_depth=12,
    )
    result = plan("?", thinking, planner)
    assert result.best and result.reason == "chosen" and len(result.events) < 30_000
    checks = 0

    def stopped():
        nonlocal checks
        checks += 1
        return "max_seconds" if checks > 100 else ""

    stopped_run = plan("?", thinking, planner, stopped=stopped)
    assert stopped_run.reason == "max_seconds" and len(stopped_run.events) < len(result.events)
    assert replay_run(stopped_run.events).events == stopped_run.events


@pytest.mark.parametrize("planner", ["beam", "levin", "greedy", "mcts"])
def test_a_verifier_that_raises_accepts_nothing_and_the_run_goes_on(planner, caplog):
    def worth(node):
        left, _, right = node.text.partition("/")
        return float(left) / float(right or 1)

    thinking = ThoughtFunctions(
        propose=lambda nodes: [["8/0", "48/2"] for _ in nodes],
        evaluate=lambda nodes: [0.0 for _ in nodes],
        is_solution=lambda node: worth(node) == 24,
        is_complete=lambda node: worth(node) == 24,
        max_depth=1,
    )
    result = plan("q", thinking, planner)
    assert (result.thoughts, result.reason) == (["48/2"], "solved") and "cannot be checked" in caplog.text
    assert replay_run(result.events).events == result.events


@pytest.mark.parametrize("planner", ["levin", "beam", "oops", "mcts", "tot_bfs"])
def test_a_state_first_met_at_full_depth_does_not_hide_its_shorter_path(planner):
    graph = {"q": {"a": 0.9, "S": 0.1}, "a": {"b": 1.0}, "b": {"S": 1.0}, "S": {"goal": 1.0}}
    thinking = ThoughtFunctions(
        propose=lambda nodes: [[Thought(text, log_probability=math.log(p)) for text, p in graph[node.text].items()] for node in nodes],
        evaluate=lambda nodes: [0.0 for _ in nodes],
        is_solution=lambda node: node.text == "goal",
        is_complete=lambda node: node.text == "goal",
        key=lambda node: node.text,
        max_depth=3,
    )
    result = plan("q", thinking, planner)
    assert (result.thoughts, result.reason) == (["S", "goal"], "solved")
    assert replay_run(result.events).events == result.events


@pytest.mark.parametrize("planner", [name for name in PLANNERS if name != "oops"] + [PlannerConfig(planner="oops", max_instructions=2000)])
def test_log_probabilities_that_are_no_numbers_or_very_small_are_no_traceback(planner):
    def run(x, y, depth):
        thinking = ThoughtFunctions(
            propose=lambda nodes: [[Thought("x", log_probability=x), Thought("y", log_probability=y)] for _ in nodes],
            evaluate=lambda nodes: [float(node.text == "y") for node in nodes],
            max_depth=depth,
        )
        result = plan("q", thinking, planner)
        assert replay_run(result.events).events == result.events
        return result

    for wrong in (math.nan, math.inf):
        result = run(wrong, -0.1, 1)
        assert result.thoughts == [] and "log_probability must be a number" in result.root.reason
    assert [node.text for node in run(-math.inf, -0.1, 1).root.children] == ["y"]
    assert run(-math.inf, -math.inf, 1).thoughts == []
    assert run(-900.0, -800.0, 2).thoughts == ["y", "y"]


def test_a_thought_that_a_later_pass_submits_is_not_shown_as_pruned():
    values = {"end": 0.6, **{f"open {i}": 0.7 for i in range(5)}}
    thinking = ThoughtFunctions(
        propose=lambda nodes: [list(values) if node.depth == 0 else ["bad"] for node in nodes],
        evaluate=lambda nodes: [values.get(node.text, 0.1) for node in nodes],
        is_complete=lambda node: node.text in ("end", "bad"),
        max_depth=3,
    )
    result = plan("q", thinking, "tot_bfs")
    assert result.best and result.thoughts == ["end"]
    assert any(isinstance(event, ThoughtPruned) and event.node == result.best.order for event in result.events)
    told = tree_of(result.events)[result.best.order]
    assert (told.status, told.reason) == ("complete", "")
    with pytest.raises(ValueError, match="must name a node that was proposed, got 99"):
        tree_of([*result.events[:-1], replace(result.events[-1], best=99)])


@pytest.mark.parametrize("planner", PLANNERS)
def test_any_whole_number_is_a_seed(planner):
    thinking = ThoughtFunctions(propose=lambda nodes: [["a", "b"] for _ in nodes], evaluate=lambda nodes: [0.1 for _ in nodes], max_depth=1)
    assert plan("q", thinking, PlannerConfig(planner=planner, max_instructions=2000), seed=-1).best


@pytest.mark.parametrize("planner", PLANNERS)
def test_nodes_of_equal_key_are_one_state_however_the_key_is_written(planner):
    class Letters:
        def __init__(self, node: ToTNode) -> None:
            self.letters = frozenset(step.text for step in node.path()[1:])

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Letters) and self.letters == other.letters

        def __hash__(self) -> int:
            return hash(self.letters)

    def run(key):
        asked.clear()
        result = plan("?", ThoughtFunctions(propose=propose, evaluate=lambda nodes: [0.5] * len(nodes), key=key, max_depth=4), planner)
        return result.cost, max(asked.values()), replay_run(result.events).cost

    def propose(nodes):
        asked.update(Letters(node) for node in nodes)
        return [[Thought(text, log_probability=-1.0) for text in "abc"] for _ in nodes]

    asked: Counter[Letters] = Counter()
    as_text = run(lambda node: " ".join(sorted(Letters(node).letters)))
    assert run(Letters) == as_text and as_text[1] == 1


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_key_that_cannot_be_compared_is_refused_in_words(planner):
    thinking = ThoughtFunctions(
        propose=lambda nodes: [["a"]] * len(nodes), evaluate=lambda nodes: [0.5] * len(nodes), key=lambda n: [n.text]
    )
    with pytest.raises(ValueError, match=r"a key must be hashable, as texts and tuples are, got \['q'\]"):
        plan("q", thinking, planner)


def test_states_of_unequal_keys_that_are_written_alike_stay_apart():
    class Place:
        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return "a place"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Place) and self.text == other.text

        def __hash__(self) -> int:
            return hash(self.text)

    propose = lambda nodes: [[f"{node.text}{letter}" for letter in "ab"] for node in nodes]
    thinking = ThoughtFunctions(propose=propose, evaluate=lambda nodes: [0.5] * len(nodes), key=lambda node: Place(node.text))
    result = plan("", thinking, "tot_bfs", budget=500)
    assert sum(1 for _ in result.root.walk()) == 1 + 2 + 4 + 8
    assert replay_run(result.events).events == result.events


@pytest.mark.parametrize("planner", ["self_consistency", "auto"])
@pytest.mark.parametrize("answer", [lambda node: int(node.text[-1]), lambda node: None if node.text == "c3" else 7])
def test_an_answer_that_cannot_be_said_costs_its_node_and_no_more(planner, answer):
    texts = {"without": 0.6, "a7": 0.1, "b7": 0.1, "c3": 0.1} if answer(ToTNode("x3")) == 3 else {"c3": 0.7, "a7": 0.1, "b7": 0.1}
    thinking = ThoughtFunctions(
        propose=lambda nodes: [[Thought(text, log_probability=math.log(share)) for text, share in texts.items()] for _ in nodes],
        evaluate=lambda nodes: [float(node.text == "b7") for node in nodes],
        answer=answer,
        max_depth=1,
    )
    result = plan("?", thinking, PlannerConfig(planner=planner, num_samples=200))
    assert result.best and result.best.text in ("a7", "b7")
    failures = [event for event in result.events if isinstance(event, ThoughtFailed)]
    assert [(event.node, event.stage) for event in failures] == [(1, "answer")]
    again = replay_run([read_event(write_event(event)) for event in result.events])
    assert again.events == result.events


def test_a_number_is_a_budget_of_forwards():
    task = RandomTask(3)
    assert task.run("mcts", budget=7).events == task.run("mcts", budget=PlannerBudget(7)).events
    for wrong in (0, 7.5, "7"):
        with pytest.raises(ValueError, match=f"forwards must be a positive whole number or None, got {wrong!r}"):
            task.run("mcts", budget=wrong)


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("stage", ["propose", "retrieve", "evaluate"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_run_whose_function_always_failed_says_so_and_why(planner, stage, is_whole):
    def down(nodes):
        if is_whole: raise ConnectionError("the server is gone")
        return [ConnectionError("the server is gone") for _ in nodes]

    functions = {"propose": lambda nodes: [[Thought(text, log_probability=-1.0) for text in "ab"] for _ in nodes]}
    functions |= {"evaluate": lambda nodes: [0.5] * len(nodes), stage: down}
    result = plan("?", ThoughtFunctions(**functions, max_depth=2), PlannerConfig(planner=planner, max_instructions=2000))
    was_asked = any(isinstance(event, ModelAsked) and event.stage == stage for event in result.events)
    assert was_asked or (stage == "evaluate" and planner in ("greedy", "beam", "self_consistency", "levin", "oops"))
    assert (result.reason == f"{stage} failed: ConnectionError: the server is gone") == was_asked
    assert replay_run([read_event(write_event(event)) for event in result.events]).events == result.events


def test_a_run_that_failed_now_and_then_or_was_stopped_says_what_it_said():
    flaky = lambda nodes: [[f"{node.text}a", f"{node.text}b"] if len(node.text) < 2 else TimeoutError("late") for node in nodes]
    evaluate = lambda nodes: [0.5] * len(nodes)
    assert plan("?", ThoughtFunctions(propose=flaky, evaluate=evaluate), "best_first").reason == "exhausted"
    down = lambda nodes: [TimeoutError("late") for _ in nodes]
    calls = iter(["", ""])
    stopped = plan("?", ThoughtFunctions(propose=flaky, evaluate=down), "best_of_n", stopped=lambda: next(calls, "no second is left"))
    assert stopped.reason == "no second is left"
    assert plan(
        "?", ThoughtFunctions(propose=flaky, evaluate=evaluate, answer=lambda node: None, max_depth=1), "self_consistency"
    ).reason == ("answer failed: ValueError: an answer must be text, got None")
