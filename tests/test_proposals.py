"""Thoughts of a language model: prices hold whatever it writes, its words stay words, judges are what their formulas say."""

from __future__ import annotations

import math
import random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.planners import PlannerName, plan
from lightbulb.planning.proposals import (
    Proposer,
    agreement_values,
    combine_values,
    evidence_values,
    fill,
    learned_values,
    listed,
    think_with,
    verdict_values,
    verifier_values,
)
from lightbulb.planning.run_events import PlannerBudget, ModelAsked
from lightbulb.planning.run_pages import replay_run
from lightbulb.planning.tree_of_thought import ToTNode


class Babbler:
    "Writes random lines, some empty, some doubled, at most as many tokens as it may; sometimes it fails."

    def __init__(self, seed: int) -> None:
        self.rng, self.num_tokens_used, self.prompts = random.Random(seed), 0, []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def generate(self, prompts, *, max_new_tokens, temperature, stop, seed):
        self.prompts += prompts
        if self.rng.random() < 0.1: raise ConnectionError("the server is away")
        texts = []
        for prompt in prompts:
            words = [self.rng.choice(["1.", "yes", "no", "{question}", "\n"]) for _ in range(self.rng.randint(0, max_new_tokens))]
            self.num_tokens_used += self.count_tokens(prompt) + max_new_tokens
            texts.append(" ".join(words))
        return texts

    def score(self, prompt, continuations):
        self.num_tokens_used += len(continuations) * self.count_tokens(prompt) + sum(map(self.count_tokens, continuations))
        return [-float(len(text)) for text in continuations]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(get_args(PlannerName)), st.integers(0, 10**6), st.integers(1, 6000), st.booleans())
def test_a_budget_of_tokens_holds_whatever_the_model_writes(planner, seed, tokens, scored):
    model = Babbler(seed)
    proposers = [Proposer(manner="sample", max_new_tokens=6), Proposer(manner="propose", max_new_tokens=9), Proposer(manner="perspective")]
    judge = combine_values([(verdict_values(model), 1.0), (agreement_values(), 0.5)])
    thinking = think_with(model, proposers, judge, max_prompt_tokens=80, max_depth=2, scored=scored)
    result = plan("what {thoughts} is {num}?", thinking, planner, budget=PlannerBudget(tokens=tokens, forwards=60), seed=seed)
    assert model.num_tokens_used == result.cost.tokens <= tokens and result.cost.forwards <= 60
    assert all("what {thoughts} is {num}?" in prompt for prompt in model.prompts)
    assert replay_run(result.events).events == result.events


def test_one_failing_prompt_costs_one_node():
    class Half(Babbler):
        def generate(self, prompts, **_):
            if "- bad" in prompts[0]: raise ConnectionError("the server is away")
            return ["good\nbad"]

    model = Half(0)
    thinking = think_with(model, [Proposer(manner="propose")], learned_values(lambda texts: [0.5] * len(texts)), max_depth=2)
    result = plan("?", thinking, "tot_bfs", budget=PlannerBudget())
    assert [(node.text, node.status) for node in result.root.children] == [("good", "expanded"), ("bad", "failed")]
    assert "the server is away" in result.root.children[1].reason


def test_judges_are_their_formulas():
    root = ToTNode("why?")
    nodes = [root.add(text) for text in ("because it rains", "because it snows", "no idea")]

    class Fixed(Babbler):
        def score(self, prompt, continuations):
            return [math.log(0.2), math.log(0.3), math.log(0.5)] if "rains" in prompt else [-1e9, -1e9, 0.0]

    assert verdict_values(Fixed(0))(nodes) == pytest.approx([0.2 * 1.0 + 0.3 * 0.5, 0.0, 0.0])
    assert agreement_values()(nodes) == pytest.approx([(1 + 2 / 4) / 3, (1 + 2 / 4) / 3, 1 / 3])
    assert agreement_values(lambda a, b: float(a == b))(nodes) == pytest.approx([1 / 3] * 3)
    nodes[0].evidence = ["a", "bb"]
    rerank = lambda claim, texts: [len(text) - 2.0 for text in texts]
    assert evidence_values(rerank)(nodes) == pytest.approx([0.5, 0.0, 0.0])
    check, length = verifier_values(lambda node: node.text != "no idea"), learned_values(lambda texts: [float(len(t)) for t in texts])
    assert check(nodes) == [1.0, 1.0, 0.0]
    lengths = [len("why?\n" + node.text) for node in nodes]
    assert combine_values([(check, 1.0), (length, 3.0)])(nodes) == pytest.approx(
        [(c + 3 * n) / 4 for c, n in zip(check(nodes), lengths, strict=True)]
    )
    assert combine_values([(check, 1.0), (length, 1.0)], "product")(nodes) == pytest.approx(
        [math.sqrt(lengths[0]), math.sqrt(lengths[1]), 0.0]
    )
    assert combine_values([(check, 1.0), (length, 1.0)], "least")(nodes) == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="the values of a product must not be negative, got -0.5"):
        combine_values([(check, 1.0), (lambda nodes: [0.5, -0.5, 1.0], 1.0)], "product")(nodes)


def test_what_is_known_of_a_thought_is_not_asked_again():
    model = Babbler(1)
    model.generate = lambda prompts, **_: ["left\nLeft.\nright"]
    thinking = think_with(model, [Proposer(manner="propose")], verifier_values(lambda node: 1.0), max_depth=1)
    result = plan("where?", thinking, "best_of_n", budget=PlannerBudget(forwards=50))
    assert sum(isinstance(event, ModelAsked) and not event.reused and event.stage == "propose" for event in result.events) == 1
    assert [node.text for node in result.root.children] == ["left", "right"]


@pytest.mark.parametrize("text", ["1. a", "2) a", "- a", "* a", "• a", "•a", "  a  ", "\n\na\n", "-\n- a"])
def test_lists_are_read_however_they_are_written(text):
    assert listed(text) == ["a"]


@pytest.mark.parametrize(
    "text",
    ["-3 + 5 = 2", "2.50 euros", "-.5 is less", "-$5 was lost", "1879. The lamp", "-x + 5 = 2", "-(3 + 4) = -7", "**Check the pipes**"],
)
def test_a_sign_a_number_and_bold_marks_are_no_list_marks(text):
    assert listed(text) == [text] and listed(f"1. {text}\n- {text}") == [text, text]
    assert Proposer(manner="sample").thoughts([text])[0].text == text


def test_places_are_filled_once():
    assert fill("{a} {b} {c}", {"a": "{b}", "b": "x"}) == "{b} x {c}"
