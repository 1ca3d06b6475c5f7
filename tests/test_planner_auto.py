"""The planner that is chosen by itself: the likeliest path alone where that is sure, all of them where it is not, and all of it told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_site import LENIENT, PatternReader, small_tools, word_share

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.answers import Searched, Thinking
from lightbulb.agent.configuration import ReasoningConfig
from lightbulb.planning.run_events import AnswerDrafted, ModelAsked, PageOpened, ThoughtPruned, ThoughtScored, read_run, save_run, tree_of
from lightbulb.planning.run_pages import compare_runs, replay_run, run_to_html
from lightbulb.planning.tree_of_thought import ToTNode

QUESTION = "Where was the inventor of the miner's safety lamp born?"
SURE, UNSURE = 0.0, 1.1  # the least confidence that ends the search after the likeliest path


class Counted(PatternReader):
    "A reader and a reranker that count what they are asked."

    def __init__(self) -> None:
        self.texts_read, self.texts_ranked = Counter[tuple[str, tuple[str, ...]]](), Counter[tuple[str, str]]()

    def read(self, question: str, texts: Sequence[str], *, top_k: int = 4) -> list[Any]:
        self.texts_read[question, tuple(texts)] += 1
        return super().read(question, texts, top_k=top_k)

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        self.texts_ranked.update((question, text) for text in texts)
        return word_share(question, texts)


def asked(planner: str, least: float = 0.5, question: str = QUESTION) -> tuple[Answer, list[Any], Counted]:
    "The answer, what was told on the way, and what the models were asked."
    models = Counted()
    tools = small_tools(reasoning=ReasoningConfig(enough_confidence=least), reader=models, rerank=models.rerank)
    *steps, result = answer(question, TestAgent(planner=planner), tools=tools, calibrations=LENIENT)
    assert isinstance(result, Answer)
    return result, steps, models


def thoughts(node: ToTNode, depth: int = 0) -> set[tuple[int, str, str, float | None, str]]:
    "All thoughts of a tree, in whatever order they came."
    own = (depth, node.text, node.kind, node.value, node.status)
    return {own}.union(*(thoughts(child, depth + 1) for child in node.children))


@pytest.mark.parametrize(("least", "like"), [(SURE, "greedy"), (UNSURE, "tot_bfs")])
def test_it_answers_as_the_planner_that_it_stays_with(least: float, like: str) -> None:
    (auto, steps, models), (other, other_steps, other_models) = asked("auto", least), asked(like)
    words = lambda text: re.sub(r"\[\d+\]", "", text)  # pages are numbered in the order in which they were read
    assert (auto.short_answer, auto.confidence, words(auto.text)) == (other.short_answer, other.confidence, words(other.text))
    assert thoughts(auto.tree) == thoughts(other.tree)
    told = lambda steps: sorted((step.text, step.kind, step.value) for step in steps if isinstance(step, Thinking))
    assert told(steps) == told(other_steps)  # each thought once
    # the second look costs nothing that the first has cost already
    assert models.texts_read == other_models.texts_read and set(models.texts_ranked.values()) == {1}
    assert set(models.texts_ranked) == set(other_models.texts_ranked)
    searches = lambda steps: sorted(step.query for step in steps if isinstance(step, Searched))
    assert searches(steps) == searches(other_steps) and len(set(searches(steps))) == len(searches(steps))
    assert (auto.cost.searches, auto.cost.pages) == (other.cost.searches, other.cost.pages)
    assert auto.events[-1].cost.forwards == other.events[-1].cost.forwards


@pytest.mark.parametrize("least", [SURE, UNSURE])
@pytest.mark.parametrize("planner", ["auto", "greedy"])
def test_what_was_told_is_kept_and_replayed(planner: str, least: float, tmp_path: Path) -> None:
    said, steps, _ = asked(planner, least)
    save_run(said.events, tmp_path / "run.jsonl")
    again = replay_run(read_run(tmp_path / "run.jsonl"))
    save_run(again.events, tmp_path / "again.jsonl")
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert [step.value for step in steps if isinstance(step, Thinking)] == [e.value for e in said.events if isinstance(e, ThoughtScored)]
    drawn = {node.text for node in tree_of(said.events).values()}
    assert drawn == {text for _, text, *_ in thoughts(said.tree)} and "Penzance" in run_to_html(said.events)
    assert sum(isinstance(event, AnswerDrafted) for event in said.events) == 1
    read = [event for event in said.events if isinstance(event, PageOpened)]
    assert {url for url, _ in said.pages} <= {event.url for event in read} and all(event.title for event in read)
    assert any("Penzance" in text for node in tree_of(said.events).values() for text in node.evidence)
    assert compare_runs(said.events, asked("tot_bfs")[0].events)


def test_what_is_not_followed_stands_in_the_tree_with_its_value() -> None:
    said, steps, _ = asked("auto", SURE)
    other = next(node for node in said.tree.children if node.kind == "direct")
    assert other.status == "pruned" and other.reason == "another thought is followed" and other.value is not None and other.value < -3
    assert any(isinstance(event, ThoughtPruned) and event.node == other.order for event in said.events)
    assert any(isinstance(step, Thinking) and step.node is other for step in steps)
    assert said.events[-1].reason == "the likeliest path is sure"
    whole, *_ = asked("auto", UNSURE)
    assert next(node for node in whole.tree.children if node.kind == "direct").status == "expanded"  # a later pass came back to it
    proposed = [event.node for event in whole.events if isinstance(event, ModelAsked) and event.stage == "propose"]
    assert len(proposed) == len(set(proposed))


def test_what_is_composed_grows_as_a_whole() -> None:
    (auto, *_), (other, *_) = asked("auto", SURE, "price of one wash"), asked("tot_bfs", SURE, "price of one wash")
    assert auto.tree.to_dict() == other.tree.to_dict()


def test_each_part_of_a_question_is_thought_out_for_itself() -> None:
    question = "Where was Humphry Davy born and where was Joseph Swan born?"
    (auto, *_), (other, *_) = asked("auto", SURE, question), asked("tot_bfs", SURE, question)
    assert auto.short_answer == other.short_answer == "Penzance; Sunderland"
