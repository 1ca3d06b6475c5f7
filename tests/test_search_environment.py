"""What a search episode pays: bounded, for a set of evidence, never for repetition or length; and what a dream may touch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import Letters

from lightbulb.agent.configuration import Budget
from lightbulb.agent.environment import (
    NUM_ACTION_FEATURES,
    OPTIONS,
    ResultCache,
    SearchAction,
    SearchEnv,
    SearchEnvConfig,
    SearchOptions,
    SearchTask,
    play_in_order,
)
from lightbulb.core.errors import SearchError
from lightbulb.core.records import Document, Link

URLS = [f"http://site/{i}" for i in range(6)]
PAGES = {
    url: Document(
        url,
        f"Page {i}",
        f"Lamp {i} was made by Ada Stone. It has number {i}. " * (i + 1),
        links=(Link(URLS[(i + 1) % 6], f"lamp {i + 1}"),),
    )
    for i, url in enumerate(URLS)
}


class Site:
    "Every page for every query; a page may be unreadable, and a query may fail."

    def __init__(self):
        self.num_calls = 0

    def search(self, query, num_results=10):
        self.num_calls += 1
        if "fail" in query: raise SearchError("it failed")
        return [SimpleNamespace(url=url, title=PAGES[url].title, passages=()) for url in URLS][:num_results]

    def read(self, urls, *, timeout=None):
        self.num_calls += len(urls)
        return [None if url.endswith("3") else PAGES[url] for url in urls]


def chances(question, passages):
    "A chance by the page's number."
    return [0.1 + 0.15 * int(passage.url[-1]) for passage in passages]


def make_env(site=None, write=None, **settings):
    "An environment over the six pages, with the gold page 5."
    task = SearchTask("Who made lamp 5?", frozenset([URLS[5]]))
    return SearchEnv([task], ResultCache({"site": site or Site()}), Letters(), chances, write=write, config=SearchEnvConfig(**settings))


def test_a_refined_query_is_offered_once_something_was_read_and_costs_like_any_other():
    calls = []
    refine = lambda question, query, chances: calls.append((query, dict(chances))) or f"{query} brass"
    site = Site()
    task = SearchTask("Who made lamp 5?")
    env = SearchEnv([task], ResultCache({"site": site}), Letters(), chances, refine=refine, config=SearchEnvConfig())
    env.reset(seed=0)
    assert not [action for action in env.actions(0) if action.kind == "query"] and not calls
    env.take(SearchAction("keep", task.question))
    env.take(SearchAction("read", URLS[4]))
    before = site.num_calls
    (offered,) = [action for action in env.actions(0) if action.kind == "query"]
    assert offered.text == f"{task.question} brass" and site.num_calls == before
    assert calls == [(task.question, {URLS[4]: pytest.approx(0.7)})]  # asked once, however often the actions are looked at
    assert not [action for action in env.imagined().actions(0) if action.kind == "query"]  # its results are not known yet
    reward = env.take(offered)[1]
    assert reward == pytest.approx(-env.config.search_cost - env.config.step_cost - 5 * env.config.query_cost)
    assert site.num_calls == before + 1 and env._episode.searches == 2


def play(env, numbers, *, seed=0):
    "The rewards of choosing the open action with each of these numbers (modulo how many there are)."
    _, info = env.reset(seed=seed)
    rewards = []
    for number in numbers:
        open_numbers = np.flatnonzero(info["action_mask"])
        _, reward, terminated, truncated, info = env.step(int(open_numbers[number % len(open_numbers)]))
        rewards.append(reward)
        if terminated or truncated: break
    return rewards


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40))
def test_an_episode_is_never_paid_more_than_its_weights(numbers):
    env = make_env()
    rewards = play(env, numbers)
    weights = [getattr(env.config, f"{name}_weight") for name in ("support", "ranking", "similarity", "coverage", "recall")]
    assert sum(rewards) <= sum(weights) + env.config.answer_weight * (1 - env.config.refusal_chance)
    assert env._episode.searches <= env.config.budget.max_searches and env._episode.reads <= env.config.budget.max_pages
    assert 0 <= env.worth() <= sum(weights) + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 6))
def test_doing_anything_again_only_costs(numbers, times):
    env = make_env(max_steps=500)
    play(env, [number for number in numbers])
    if env._episode.is_over: return
    again = [SearchAction("read", url) for url in env._episode.pages]
    again += [SearchAction("query", query) for query in dict.fromkeys(env._episode.tried)]
    again += [SearchAction("passage", env._passage(key).text, 0, env._passage(key)) for key in env._episode.kept]
    for action in again * times:
        assert env.take(action)[1] <= -env.config.step_cost + 1e-9, action


@pytest.mark.parametrize("padding", [" please", " lamp lamp lamp", " of the and"])
def test_a_longer_query_with_the_same_results_is_paid_less(padding):
    totals = []
    for query in ("Who made lamp 5?", "Who made lamp 5?" + padding):
        env = make_env()
        env.reset(seed=0)
        totals.append(sum(env.take(action)[1] for action in (SearchAction("query", query), SearchAction("read", URLS[5]))))
    assert totals[1] < totals[0]


@pytest.mark.parametrize("length", [2, 20, 200])
def test_a_longer_answer_of_the_same_chance_is_paid_less(length):
    totals = []
    for words in (1, length):
        env = make_env(write=lambda question, passages, words=words: ("word " * words, 0.8))
        totals.append(play_in_order(env, seed=0))
    assert totals[1] < totals[0]


def test_an_answer_without_evidence_and_a_spent_budget_earn_nothing():
    env = make_env(budget=Budget(max_pages=1, max_searches=1))
    env.reset(seed=0)
    assert env.actions(OPTIONS.index("generate")) == [SearchAction("refuse")]
    assert env.take(SearchAction("answer"))[1] == pytest.approx(-env.config.step_cost)
    env.reset(seed=0)
    env.take(SearchAction("keep", "lamp"))
    env.take(SearchAction("read", URLS[0]))
    assert env.actions(OPTIONS.index("search")) == []
    assert env.take(SearchAction("read", URLS[5]))[1] == pytest.approx(-env.config.step_cost)
    assert URLS[5] not in env._episode.pages


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=10), st.lists(st.integers(0, 50), max_size=10))
def test_a_dream_fetches_nothing_and_leaves_the_episode_alone(before, after):
    site = Site()
    env = make_env(site)
    play(env, before)
    if env._episode.is_over: return
    calls, worth, observation = site.num_calls, env.worth(), env.observation()
    dream = env.imagined()
    for number in after:
        open_numbers = np.flatnonzero(dream.action_mask())
        if dream.step(int(open_numbers[number % len(open_numbers)]))[2]: break
    assert site.num_calls == calls and env.worth() == worth
    assert np.array_equal(env.observation(), observation)


def test_a_second_episode_fetches_nothing_twice_and_failures_are_tried_again():
    site = Site()
    env = make_env(site)
    first = play(env, [0, 1, 2, 3, 4])
    calls = site.num_calls
    assert play(env, [0, 1, 2, 3, 4]) == first and site.num_calls == calls
    env.reset(seed=0)
    for _ in range(2):
        env.take(SearchAction("query", "fail"))
    assert site.num_calls == calls + 2 and env._episode.results == ()


def test_a_page_that_moved_is_worth_as_much_as_one_that_stayed():
    class Moved(Site):
        def read(self, urls, *, timeout=None):
            return [page and replace(page, url=page.url.replace("site", "new")) for page in super().read(urls)]

    outcomes = []
    for site, gold in ((Site(), URLS[5]), (Moved(), URLS[5].replace("site", "new"))):
        env = SearchEnv([SearchTask("Who made lamp 5?", frozenset([gold]))], ResultCache({"site": site}), Letters(), chances)
        env.reset(options={"task": 0})
        env.take(SearchAction("keep", "Who made lamp 5?"))
        env.take(SearchAction("read", URLS[1]))
        _, reward, *_, info = env.take(SearchAction("read", URLS[5]))
        outcomes.append((round(reward, 6), info["recall"], [page.title for page in env.ranking()]))
    assert outcomes[0] == outcomes[1] and outcomes[0][1:] == (1.0, ["Page 5", "Page 1"])


def test_features_belong_to_actions_and_masks_to_places():
    world = SearchOptions(make_env(num_actions=7))
    world.reset(seed=0)
    world.env.take(SearchAction("keep", "lamp"))
    for option in range(world.num_options):
        view, offered = world.worker_view(option), world.env.actions(option)
        assert (
            len(offered) <= 7 and view.available.sum() == len(offered) and view.choices.shape == (max(len(offered), 1), NUM_ACTION_FEATURES)
        )
    reads = [action for action in world.env.actions(0) if action.kind == "read"]
    rows = world.env.action_features(0)
    assert [int(row.argmax()) for row in rows[: len(reads)]] and len({row.tobytes() for row in rows[: len(reads)]}) == len(reads)
    assert not world.manager_view().available[OPTIONS.index("summarize")]
