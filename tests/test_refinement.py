"""A refined query: never worth less than the plain one, never longer than its edits, the same for the same seed, and nothing is fetched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import Letters

from lightbulb.agent.refinement import QueryRefiner, RefinementConfig, _Rewriting
from lightbulb.core.records import Document
from lightbulb.knowledge.page_ranking import PageRanker

WORDS = "argon lamp filament tungsten glass vacuum carbon brass copper wire arc light bulb gas heat".split()
random = np.random.default_rng(0)
PAGES = [Document(f"http://page/{i}", f"Page {i}", " ".join(random.choice(WORDS, 12))) for i in range(12)]
RANKER = PageRanker(PAGES, Letters())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([*WORDS, "the", "zebra", "?"]), min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 11), st.floats(0, 1), max_size=5),
    st.integers(1, 4),
)
def test_a_refined_query_is_worth_no_less_and_keeps_to_its_edits(words, chances, num_edits):
    refiner = QueryRefiner(RANKER, config=RefinementConfig(num_edits=num_edits, num_simulations=30))
    relevance = {f"http://page/{i}": chance for i, chance in chances.items()}
    result = refiner.refine(" ".join(words), relevance=relevance)
    assert result.value >= result.plain_value and len(result.edits) <= num_edits
    assert len(result.query.split()) <= len(words) + num_edits and result.query
    assert result.num_simulated <= 31 and result.num_known == 0
    assert refiner.refine(" ".join(words), relevance=relevance).query == result.query
    assert set(result.edits) <= set(result.offered)


def test_edited_scores_are_those_of_the_edited_query():
    refiner = QueryRefiner(RANKER)
    rewriting = _Rewriting(refiner, "argon lamp gas", "argon lamp gas", refiner.relevance("argon lamp gas"))
    for seed in range(20):
        state = np.zeros(len(rewriting.offered), np.int8)
        state[np.random.default_rng(seed).choice(len(state), 3, replace=False)] = 1
        if not (gone := [edit for edit, made in zip(rewriting.offered, state, strict=True) if made and edit[0] == "-"]):
            continue
        if len(gone) == 3: continue
        query = rewriting.query_of(state)
        np.testing.assert_allclose(rewriting.scores(state), RANKER._words.scores(RANKER._words.weights_of(query)), atol=1e-9)


def test_weights_are_what_was_simulated_and_feedback_is_not_taken_for_the_plain_query():
    config = RefinementConfig(feedback_weight=2.0, num_simulations=30)
    relevance = {"http://page/3": 1.0, "http://page/5": 0.5}
    refiner = QueryRefiner(RANKER, config=config)
    rewriting = _Rewriting(refiner, "argon lamp gas", "argon lamp gas", refiner._known(relevance))
    assert [edit[0] for edit in rewriting.offered].count("~") == 1
    for seed in range(20):
        state = np.zeros(len(rewriting.offered), np.int8)
        state[np.random.default_rng(seed).choice(len(state), 3, replace=False)] = 1
        np.testing.assert_allclose(rewriting.scores(state), RANKER._words.scores(rewriting.weights_of(state)), atol=1e-9)
    knowing = QueryRefiner(RANKER, config=config, known_results=lambda query: ["http://page/7"] if query == "argon lamp gas" else None)
    result = knowing.refine("argon lamp gas", relevance=relevance)
    assert result.num_known == 1 and result.plain_value < result.value  # what the plain query gave is known; what `~` gives is not


def test_without_feedback_weights_are_those_of_the_text():
    result = QueryRefiner(RANKER).refine("argon lamp gas", relevance={"http://page/3": 1.0})
    assert {RANKER._words.columns[name]: weight for name, weight in result.weights.items()} == RANKER._words.weights_of(result.query)
    assert not any(edit[0] == "~" for edit in result.offered)


def test_enough_simulations_find_the_best_of_all_pairs_of_edits():
    question = "brass light heat"
    config = RefinementConfig(num_edits=2, num_simulations=3000, exploration_constant=50.0, prior_weight=0.0, num_words=6)
    refiner = QueryRefiner(RANKER, config=config)
    rewriting = _Rewriting(refiner, question, question, refiner.relevance(question))
    count = len(rewriting.offered)
    states = [np.eye(count, dtype=np.int8)[i] | np.eye(count, dtype=np.int8)[j] for i in range(count) for j in range(i, count)]
    best = max(rewriting.simulate(state) for state in states)
    assert refiner.refine(question).value == pytest.approx(best, abs=1e-12)


def test_real_results_stand_for_simulated_ones():
    known = {"argon lamp": ["http://page/3", "http://elsewhere/", "http://page/5"]}
    result = QueryRefiner(RANKER, known_results=known.get).refine("argon lamp", relevance={"http://page/3": 1.0})
    assert result.num_known == 1
    assert result.plain_value >= 1.0  # the only relevant page stands first


def test_what_a_model_proposes_is_tried_if_a_known_page_says_it():
    refiner = QueryRefiner(RANKER, propose=lambda question: ["copper  wire", "zebra crossing", " "])
    offered = refiner.refine("argon lamp").offered
    assert "+copper wire" in offered and not any("zebra" in edit for edit in offered)


@pytest.mark.parametrize(
    "name, value", [("num_edits", 0), ("num_simulations", 0), ("similarity_weight", -1), ("num_words", -1), ("feedback_weight", -1)]
)
def test_bad_settings_are_refused_with_their_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must .*got {value}"):
        RefinementConfig(**{name: value})


def test_a_page_takes_a_share_of_its_relevance_from_the_pages_most_like_it():
    relevance, vectors = np.array([1.0, 0.2, 0.2, 0.0]), np.eye(3)[[0, 0, 1, 2]]
    alike = lambda **settings: QueryRefiner(RANKER, config=RefinementConfig(**settings))._with_alike(relevance, vectors)
    # the twin of the best page: 0.7 × 0.2 + 0.3 × 1; the best: 0.7 × 1 + 0.3 × 0.2; one alone has the first of three that are equally far
    np.testing.assert_allclose(alike(alike_share=0.3, num_alike=1), np.array([0.76, 0.44, 0.44, 0.3]) / 0.76)
    np.testing.assert_array_equal(alike(), relevance)
    assert QueryRefiner(RANKER, config=RefinementConfig(alike_share=0.3))._with_alike(relevance[:1], vectors[:1]) == 1.0
    with pytest.raises(ValueError, match="alike_share must be at least 0 and below 1, got 1"):
        RefinementConfig(alike_share=1.0)
