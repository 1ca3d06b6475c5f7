"The web agent over the demo site's pages: what it reads, says, keeps, and what cannot raise its reward."

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_site import LENIENT, Letters

from lightbulb.agent import web_agent
from lightbulb.agent.answers import Answer
from lightbulb.agent.configuration import Budget, TestAgent
from lightbulb.agent.environment import KINDS, SearchAction, SearchEnvConfig, SearchTask
from lightbulb.agent.tools import Tools
from lightbulb.agent.waiting import Working
from lightbulb.agent.web_agent import AutonomousWebAgent, answer_by_policy
from lightbulb.core.errors import CheckpointError, SearchError, StoreError
from lightbulb.core.records import Document
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.web.demo_site import load_articles
from lightbulb.web.search import load_search

ROOT = Path(__file__).resolve().parents[1]


def other_process_environment() -> dict[str, str]:
    "The environment in which another process imports this package and these tests."
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


class PatternReader:
    "Reads names, places and years by patterns."

    patterns = {"who": r"by ([A-Z]\w+ [A-Z]\w+)", "where": r"(?:in|at) ([A-Z]\w+)", "when": r"\b(1\d{3})\b"}

    def read(self, question, texts, *, top_k=4):
        pattern = self.patterns.get(question.split()[0].lower(), r"(?!)")
        return [
            SimpleNamespace(text_index=i, start=m.start(1), end=m.end(1), text=m[1], kind="", score=0.9 / (1 + j))
            for i, text in enumerate(texts)
            for j, m in enumerate(re.finditer(pattern, text))
        ][:top_k]


class DemoPages:
    "The demo site's articles, searched by words in a knowledge base."

    name = "demo"

    def __init__(self) -> None:
        self.pages = {f"http://demo/{slug}": article for slug, article in load_articles().items()}
        self.base = KnowledgeBase(":memory:", embed=Letters())
        self.documents = {url: Document(url, article.title, article.text) for url, article in self.pages.items()}
        self.base.add(self.documents.values())
        self.num_calls = 0

    def search(self, query, num_results=10):
        self.num_calls += 1
        urls = dict.fromkeys(passage.url for passage in self.base.search(query, 4 * num_results, mode="keyword"))
        return [SimpleNamespace(url=url, title=self.documents[url].title, passages=()) for url in list(urls)[:num_results]]

    def read(self, urls, *, timeout=None):
        self.num_calls += len(urls)
        return [self.documents[url] for url in urls]


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(DemoPages(), PatternReader(), Letters())


def make_agent(tools: Tools, policy: str = "learned", **settings) -> AutonomousWebAgent:
    config = SearchEnvConfig(budget=Budget(max_searches=4, max_pages=6), **settings)
    return AutonomousWebAgent(tools, env_config=config, policy=policy)


TASK = SearchTask("When was the inventor of the arc lamp born?", gold_titles=frozenset({"Humphry Davy"}))


@pytest.mark.parametrize("policy", ["ordered", "learned", "random", "fixed"])
def test_every_policy_plays_within_its_budget_and_cites_what_was_read(tools: Tools, policy: str) -> None:
    episode = make_agent(tools, policy).run_episode(TASK.question, task=TASK)
    assert episode.row["cost"]["searches"] <= 4 and episode.row["cost"]["pages"] <= 6
    assert {page.url for page in episode.pages} == {page["url"] for page in episode.row["provenance"]["pages"]}
    read = {page.url: page.text for page in episode.pages}
    assert all(read[one.url][one.start : one.end] == one.quote for one in episode.answer.citations)
    assert episode.options and set(episode.options) <= {"search", "summarize", "generate", "stop"}


def test_a_fixed_episode_whose_pages_moved_is_paid_like_one_whose_pages_stayed() -> None:
    class Moved(DemoPages):
        def read(self, urls, *, timeout=None):
            return [replace(page, url=page.url.replace("http:", "https:")) for page in super().read(urls)]

    outcomes = []
    for site in (DemoPages(), Moved()):
        config = SearchEnvConfig(budget=Budget(max_searches=4, max_pages=6))
        agent = AutonomousWebAgent(Tools(site, PatternReader(), Letters()), env_config=config, policy="fixed", calibrations=LENIENT)
        episode = agent.run_episode("When was Joseph Swan born?")
        outcomes.append((round(episode.reward, 6), episode.row["answer"], len(episode.row["passages"])))
    assert outcomes[0] == outcomes[1] and outcomes[0][1].startswith("1828") and outcomes[0][2] > 0


def test_seconds_are_those_of_the_whole_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [0.0], list[float]()

    class Slow(DemoPages):
        def search(self, query, num_results=10):
            now[0] += 1.0
            return super().search(query, num_results)

        def read(self, urls, *, timeout=None):
            now[0] += 0.5 * len(urls)
            return super().read(urls)

    monkeypatch.setattr(web_agent, "time", SimpleNamespace(monotonic=lambda: now[0]))
    write = web_agent.answer
    monkeypatch.setattr(
        web_agent, "answer", lambda question, config, **more: given.append(config.max_seconds) or write(question, config, **more)
    )
    for max_seconds, in_all in ((20.0, 7.0), (3.0, 2.5)):  # a quarter of them is kept for the writing
        now[0] = 0.0
        config = SearchEnvConfig(budget=Budget(max_searches=4, max_pages=6, max_seconds=max_seconds))
        episode = AutonomousWebAgent(Tools(Slow(), PatternReader(), Letters()), env_config=config, policy="ordered").run_episode(
            TASK.question
        )
        cost = episode.answer.cost
        assert cost.seconds == cost.searches + 0.5 * cost.pages == in_all
        assert given[-1] == max(max_seconds - in_all, 0.25 * max_seconds)


def test_an_answer_is_written_from_the_pages_of_the_episode_alone(tools: Tools) -> None:
    agent = make_agent(tools)
    world = agent.play(TASK)
    calls = tools.search.num_calls
    agent._written(TASK.question, world.env, world.env.ranking())
    assert tools.search.num_calls == calls


def test_refined_queries_are_played_within_the_budget_and_are_no_longer_than_their_edits(tools: Tools) -> None:
    config = SearchEnvConfig(budget=Budget(max_searches=4, max_pages=6))
    agent = AutonomousWebAgent(tools, env_config=config, policy="random", refines=True)
    tasks = [SearchTask("Which gas fills a light bulb?"), TASK]
    worlds = [agent.play(task, seed=seed) for task in tasks for seed in range(3)]
    queries = [query for world in worlds for step in world.steps for kind, query in step["offered"] if kind == "query"]
    assert queries
    longest = max(len(task.question.split()) for task in tasks)
    assert all(len(query.split()) <= longest + 3 * 4 for query in queries)  # each search may refine the last one's query by three words
    assert all(world.env._episode.searches <= 4 for world in worlds)


@pytest.mark.parametrize("policy", ["learned", "random"])
def test_the_history_says_what_was_seen_and_done_at_each_step(tools: Tools, policy: str) -> None:
    world = make_agent(tools, policy).play(TASK, seed=2)
    assert len(world.history) == len(world.steps) > 3
    for (seen, done), step in zip(world.history, world.steps, strict=True):
        assert np.allclose(seen, step["state"], atol=1e-4)
        assert KINDS[int(done[: len(KINDS)].argmax())] == step["offered"][step["chosen"]][0]


def test_what_is_foreseen_decides_where_it_is_trusted_and_nowhere_else(tools: Tools) -> None:
    agent = make_agent(tools, "learned")
    before = agent.play(TASK).row()
    counts: list[int] = []

    def prefer_the_last(world, option):
        counts.append(len(world.env.actions(option)))
        return np.linspace(0, 10, max(counts[-1], 1))

    agent.levels.foresee = prefer_the_last
    inside = [step for step in agent.play(TASK).steps if len(step["offered"]) > 1]
    assert inside and counts and all(step["chosen"] == len(step["offered"]) - 1 for step in inside)
    assert all(step["probabilities"][step["chosen"]] == 1 for step in inside)
    agent.levels.trust = 0.0
    assert agent.play(TASK).row() == before


def test_gold_pages_change_pay_and_nothing_else(tools: Tools) -> None:
    agent = make_agent(tools)
    worlds = [agent.play(task) for task in (TASK, SearchTask(TASK.question))]
    seen = [[(step["state"], step["offered"], step["chosen"]) for step in world.steps] for world in worlds]
    assert seen[0] == seen[1]
    gap = worlds[0].total - worlds[1].total
    assert gap == pytest.approx(agent.env_config.recall_weight * worlds[0].env._info()["recall"], abs=1e-3)
    assert "Humphry Davy" not in str(worlds[0].row()["question"])


def test_the_same_pages_again_raise_no_reward(tools: Tools) -> None:
    env = make_agent(tools).env([TASK])
    env.reset(options={"task": 0})
    actions = [SearchAction("query", "arc lamp"), *[SearchAction("read", url) for url in list(tools.search.documents)[:3]]]
    first = [env.take(action)[1] for action in actions]
    worth = env.worth()
    again = [env.take(action)[1] for action in actions]
    assert env.worth() == worth and all(reward < 0 for reward in again) and sum(again) < sum(first)


def test_what_a_reader_said_is_read_once_and_kept_on_the_disk(tools: Tools, tmp_path: Path) -> None:
    reads = []
    reader = SimpleNamespace(read=lambda *given, **more: reads.append(given) or tools.reader.read(*given, **more))
    cache = tmp_path / "spans.sqlite"
    first = AutonomousWebAgent(replace(tools, reader=reader), policy="learned", span_cache=cache).play(TASK)
    count = len(reads)
    second = AutonomousWebAgent(replace(tools, reader=reader), policy="learned", span_cache=cache).play(TASK)
    assert count > 0 and len(reads) == count
    assert {**first.row(), "steps": []} == {**second.row(), "steps": []}
    reader.name = "other weights"
    AutonomousWebAgent(replace(tools, reader=reader), policy="learned", span_cache=cache).play(TASK)
    assert len(reads) == 2 * count


def test_what_was_saved_plays_the_same_in_another_process(tools: Tools, tmp_path: Path) -> None:
    agent = make_agent(tools)
    for parameters in (agent.levels.worker.online, agent.levels.manager.online):
        for number, weights in enumerate(parameters.parameters()):
            weights.data += 0.1 * np.sin(number + 1)
    agent.save(tmp_path / "agent")
    there = (
        "from pathlib import Path; "
        "from test_web_agent import TASK, AutonomousWebAgent, Budget, DemoPages, Letters, PatternReader, SearchEnvConfig, Tools; "
        "tools = Tools(DemoPages(), PatternReader(), Letters()); "
        "config = SearchEnvConfig(budget=Budget(max_searches=4, max_pages=6)); "
        f"agent = AutonomousWebAgent.load(Path({str(tmp_path / 'agent')!r}), tools, env_config=config); "
        "world = agent.play(TASK); print(round(world.total, 6), [step['chosen'] for step in world.steps])"
    )
    done = subprocess.run([sys.executable, "-c", there], capture_output=True, text=True, cwd=ROOT, env=other_process_environment())
    here = agent.play(TASK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{round(here.total, 6)} {[step['chosen'] for step in here.steps]}"


def test_a_knowledge_base_in_memory_is_saved_with_the_agent(tools: Tools, tmp_path: Path) -> None:
    with KnowledgeBase(embed=tools.embed) as knowledge:
        knowledge.add(list(tools.search.documents.values())[:2], scope="demo")  # pyright: ignore
        make_agent(replace(tools, knowledge=knowledge)).save(tmp_path / "agent")
    with KnowledgeBase.load(tmp_path / "agent" / "knowledge.sqlite", embed=tools.embed) as kept:
        assert len(kept) == 2


def test_a_checkpoint_of_something_else_is_refused(tools: Tools, tmp_path: Path) -> None:
    agent = make_agent(tools)
    agent.save_worker_model(tmp_path / "worker.ckpt")
    with pytest.raises(CheckpointError, match="not a web agent"):
        AutonomousWebAgent.load(tmp_path / "worker.ckpt", tools)
    with pytest.raises(CheckpointError, match="no checkpoint of a web agent"):
        AutonomousWebAgent.load(tmp_path / "agent", tools)


def test_where_nothing_was_trained_the_weights_that_ship_play_and_say_so(tools: Tools, tmp_path: Path) -> None:
    steps = answer_by_policy(TASK.question, TestAgent(save_dir=tmp_path, policy="learned", max_searches=3), tools=tools)
    first, *_, last = steps
    assert first == Working("choosing searches and pages by the weights that ship") and isinstance(last, Answer)
    agent = make_agent(tools)
    agent.save(tmp_path / "agent")
    assert next(answer_by_policy(TASK.question, TestAgent(save_dir=tmp_path, policy="learned"), tools=tools)) == Working(
        "choosing searches and pages by what was learned"
    )


class Forgetful(KnowledgeBase):
    "A knowledge base that takes nothing any more."

    def add(self, documents, **more) -> None:
        raise StoreError("the disk is full")


@pytest.mark.parametrize(("base", "names"), [(KnowledgeBase, ("one", "two")), (Forgetful, ("one",))])
def test_what_a_learned_policy_read_is_remembered_by_its_back_end_and_costs_no_answer(
    tools: Tools, tmp_path: Path, base: type, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(f"Joseph Swan was born in 18{len(name)}8, says {name}.")
    places = ",".join(f"folder:{tmp_path / name}" for name in names)
    config = TestAgent(save_dir=tmp_path, policy="learned", max_searches=3, search=places)
    with base(embed=tools.embed) as knowledge:
        search = load_search(config.search, make_index=lambda: KnowledgeBase(embed=tools.embed))
        own = replace(tools, search=search, knowledge=knowledge)
        *_, last = answer_by_policy("When was Joseph Swan born?", config, tools=own)
        kept = {entry.scope: entry.title for entry in knowledge.entries()}
    assert isinstance(last, Answer)
    assert kept == ({scope: Path(scope).name for scope in config.scopes} if base is KnowledgeBase else {})


class Distant(DemoPages):
    "The demo pages behind a search engine that tells what it was asked, and may be down."

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.is_down = list[str](), False

    def search(self, query, num_results=10):
        if self.is_down: raise SearchError("the search engine is down")
        self.asked.append(query)
        return super().search(query, num_results)

    def read(self, urls, *, timeout=None):
        if self.is_down: raise SearchError("the search engine is down")
        self.asked += urls
        return super().read(urls, timeout=timeout)


@pytest.mark.parametrize("policy", ["fixed", "ordered", "learned"])
def test_what_was_found_is_noted_and_saves_the_way_to_a_distant_engine(tools: Tools, tmp_path: Path, policy: str) -> None:
    config = TestAgent(save_dir=tmp_path, policy=policy, search="searxng:http://127.0.0.1:1", max_searches=3)  # pyright: ignore
    site = Distant()
    with KnowledgeBase(embed=tools.embed) as knowledge:
        ask = lambda config, own: list(answer_by_policy(TASK.question, config, tools=replace(own, search=site, knowledge=knowledge)))[-1]
        first = ask(config, tools)
        assert isinstance(first, Answer) and site.asked
        queries = {note.key: json.loads(note.text) for note in knowledge.notes("results", scopes=config.scopes)}
        assert queries.keys() <= set(site.asked) and all(results for results in queries.values())
        summaries = [(note.key, note.text) for note in knowledge.notes("summary", scopes=config.scopes)]
        assert summaries == ([] if first.refused else [(TASK.question, first.text)])
        assert not knowledge.notes("results", scopes=["wikipedia"])
        if policy == "fixed":
            return  # it looks into memory first, and searches all the same
        site.asked, site.is_down = [], True
        assert ask(config, tools).text == first.text
        site.is_down = False
        assert ask(config, tools).text == first.text and site.asked == []
        ask(replace(config, memory_days=0), tools)
        assert site.asked  # what is old is asked for again


def test_a_query_is_rewritten_with_what_the_knowledge_base_has_of_these_back_ends(tools: Tools) -> None:
    told = "Zymurgy is the making of incandescent lamp filaments. Swan made filaments by zymurgy in Newcastle."
    with KnowledgeBase(embed=tools.embed) as knowledge:
        for scope in ("demo", "folder:private"):
            known = [Document(f"http://{scope}/{i}", f"Zymurgy {i}", told.replace("Zymurgy", f"Zymurgy{scope[:4]}")) for i in range(3)]
            knowledge.add(known, scope=scope)
        agent = AutonomousWebAgent(replace(tools, knowledge=knowledge), refines=True)
        agent._refine("Who made filaments of lamps in Newcastle?", "Who made filaments of lamps in Newcastle?", {})
        assert agent._refiner is not None
        titles = {page.url for page in agent._refiner.ranker.pages}
        assert titles == {f"http://demo/{i}" for i in range(3)}
