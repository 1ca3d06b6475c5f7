"The order of an episode's pages: taught by some episodes, better on others, and what the user sees of a learned policy."

from __future__ import annotations

import numpy as np
import pytest
from small_site import Letters
from test_web_agent import TASK, DemoPages, PatternReader, make_agent

from lightbulb.agent.environment import SearchTask
from lightbulb.agent.page_order import ORDER_FEATURES, PageOrder
from lightbulb.agent.tools import Tools
from lightbulb.knowledge.ranking import RankingModel
from lightbulb.web.demo_site import demo_questions


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(DemoPages(), PatternReader(), Letters())


def test_what_some_episodes_taught_puts_the_right_page_of_others_first_more_often(tools: Tools) -> None:
    agent = make_agent(tools, "ordered")
    order = PageOrder(agent.hops, tools.embed, model=RankingModel(ORDER_FEATURES))
    chains = [one for one in demo_questions() if len(one.gold_pages) == 2 and agent.hops.question_of(one.question, "?") != one.question]
    envs = [agent.play(SearchTask(one.question, gold_titles=frozenset(one.gold_pages[1:]))).env for one in chains[:30]]
    lists = [order.labelled(env) for env in envs]
    learn, held_out = [one for one in lists[::2] if one.gains.any()], range(1, len(lists), 2)
    assert len(learn) >= 5
    order.model.fit(learn)
    own, learned = [], []  # whether the page that holds the answer stands first
    for i in held_out:
        urls = [page.url for page in envs[i].evidence().pages]
        gold = {url for url, gain in zip(urls, lists[i].gains, strict=True) if gain}
        if not gold: continue
        own.append(envs[i].ranking()[0].url in gold)
        learned.append(order.order(envs[i])[0].url in gold)
    assert len(own) >= 5 and np.mean(learned) > np.mean(own)


def test_a_question_that_is_only_put_in_other_words_keeps_its_order(tools: Tools) -> None:
    agent = make_agent(tools, "ordered")
    order = PageOrder(agent.hops, tools.embed, model=RankingModel(ORDER_FEATURES, start={"chance": -1.0}))
    question = "birthplace of Georg Ohm"
    assert agent.hops.question_of(question, "?") != question
    env = agent.play(SearchTask(question)).env
    assert not order.is_chain(env) and len(env.ranking()) > 1 and order.order(env) == env.ranking()


def test_an_agent_with_a_learned_order_names_its_pages_in_it(tools: Tools) -> None:
    agent = make_agent(tools, "learned")
    assert agent.page_order is None  # it is off: what ships was taught on short passages
    agent.page_order = PageOrder(agent.hops, tools.embed, model=RankingModel(["place"]))
    agent.page_order.measure = lambda env: -np.arange(len(env.evidence().pages), dtype=np.float32)[:, None]  # as they were read
    episode = agent.run_episode(TASK.question, task=TASK)
    urls = [page["url"] for page in episode.row["provenance"]["pages"]]
    assert len(urls) > 1 and [page.url for page in episode.pages] == urls
    assert [url for url, _ in episode.answer.pages][: len(urls)] == urls


def test_without_one_policies_keep_the_order_of_the_episode(tools: Tools) -> None:
    agent = make_agent(tools, "ordered")
    world = agent.play(TASK)
    assert agent.page_order is None and agent.ranking(world.env) == world.env.ranking()
