"Training the web agent: episodes side by side, failures that are paid for, kills that lose nothing that was told."

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from test_web_agent import DemoPages, Letters, PatternReader, other_process_environment

from lightbulb.agent.configuration import TrainAgent
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.tools import Tools
from lightbulb.agent.training import _AgentTraining, _side_by_side, load_queries, train_agent, unknown_pages
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.core.errors import LightbulbError, SearchError, StoreError
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import MODEL_FILE, TRAINING_FILE, find_model_file, moments
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.page_ranking import PageRanker
from lightbulb.knowledge.ranking import RankingModel
from lightbulb.web.demo_site import article_titles, demo_questions
from lightbulb.web.search import load_search

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = [
    SearchTask("When was the inventor of the arc lamp born?", gold_titles=frozenset({"Humphry Davy"})),
    SearchTask("Who was the arc lamp invented by?", gold_titles=frozenset({"Arc lamp"})),
    SearchTask("When was Joseph Swan born?", gold_titles=frozenset({"Joseph Swan"})),
]


class Failing(DemoPages):
    "The demo pages, of which some searches raise and some hang until the test is over."

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def search(self, query, num_results=10):
        if "telegraph" in query: raise SearchError("the engine does not answer")
        if "crash" in query: raise KeyError("a bug of the engine")
        if "forever" in query:
            self.over.wait(120)
        return super().search(query, num_results)


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(DemoPages(), PatternReader(), Letters())


def config_for(folder: Path, **settings) -> TrainAgent:
    return TrainAgent(
        save_dir=folder, **{"num_episodes": 12, "num_parallel": 3, "max_searches": 3, "max_pages": 4, "num_held_out": 0, **settings}
    )


def log_of(folder: Path) -> list[dict]:
    "The whole lines of the log, without seconds."
    file = folder / "agent" / "agent_training.log"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) | {"seconds": 0} for line in lines if line.endswith(b"\n")]


def test_the_shipped_list_has_topics_and_training_questions_whose_pages_exist() -> None:
    tasks, titles = load_queries(None), set(article_titles())
    assert len(tasks) == 25 + len(demo_questions("train")) and all(task.gold_titles for task in tasks[:25])
    assert all(task.gold_titles <= titles for task in tasks)
    held_back = {one.question for split in ("calibrate", "report") for one in demo_questions(split)}
    assert not held_back & {task.question for task in tasks}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.txt", None, "cannot be read"),
        ("empty.txt", "\n", "holds no question"),
        ("bad.jsonl", "{]\n", "must hold JSON lines"),
        ("five.jsonl", '{"question": 5}\n', "a question must be text, got 5"),
        ("torn.jsonl", '{"question": "Who?"}\n\n{"question": "Wh', "line 3: Unterminated string starting at, column 14"),
        ("blank.jsonl", '{"question": "Who?"}\n{"question": " "}\n', "line 2: a task needs a question, got an empty one"),
        ("key.jsonl", '{"query": "Who?"}\n', "line 1: a question must be text, got None"),
        ("list.jsonl", "[1]\n", r"line 1: a line must be an object, got \[1\]"),
        ("table.CSV", "question,gold_pages\nWho?,It\n", "one question a line"),
        ("data.json", '{"question": "Who?"}', "one question a line"),
        ("page.jsonl", '{"question": "Who?", "gold_pages": "https://a.b/c"}', "gold_pages must be a list of texts, got 'https://a.b/c'"),
    ],
)
def test_a_query_file_that_is_no_use_is_refused_in_one_line(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LightbulbError, match=reason) as refusal:
        load_queries(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_query_file_may_begin_with_a_mark_of_byte_order_and_a_question_may_hold_a_line_separator(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("\ufeffWho made it?\r\nWhen?\r\n", "utf-8", newline="")
    assert load_queries(tmp_path / "own.txt") == [SearchTask("Who made it?"), SearchTask("When?")]
    (tmp_path / "own.jsonl").write_text('\ufeff{"question": "Who\u2028made it?", "gold_pages": ["It"]}\n', "utf-8")
    assert load_queries(tmp_path / "own.jsonl") == [SearchTask("Who\u2028made it?", gold_titles=frozenset({"It"}))]


@pytest.mark.parametrize("name", ["own.JSONL", "own.ndjson", "own.txt"])
def test_json_lines_are_read_as_such_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('\n{"question": "Who made it?", "gold_pages": ["It", "HTTP://Site.org/a b"], "id": 7}\n')
    gold = frozenset({"http://site.org/a%20b"})  # as pages bear their addresses
    assert load_queries(tmp_path / name) == [SearchTask("Who made it?", gold, frozenset({"It"}))]


def test_a_question_that_comes_twice_is_one_with_the_gold_pages_of_both(tmp_path: Path) -> None:
    "Else it would be trained on and held out at once."
    rows = [{"question": "Who made it?", "gold_pages": ["It"]}, {"question": "When?"}, {"question": "who  made it?", "gold_pages": ["He"]}]
    (tmp_path / "own.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    both = SearchTask("Who made it?", gold_titles=frozenset({"It", "He"}))
    assert load_queries(tmp_path / "own.jsonl") == [both, SearchTask("When?")]


def test_gold_pages_that_a_back_end_does_not_hold_are_found(tmp_path: Path) -> None:
    (tmp_path / "Arc lamp.txt").write_text("The arc lamp was invented by Humphry Davy.")
    search = load_search(f"folder:{tmp_path}", make_index=lambda: KnowledgeBase(":memory:", embed=Letters()))
    (result,) = search.search("lamp")
    tasks = [
        SearchTask("Who?", frozenset({result.url}), frozenset({result.title})),
        SearchTask("When?", frozenset({"http://site/a"}), frozenset({"Arc lamp.txt"})),
    ]
    assert unknown_pages(tasks, search) == ["Arc lamp.txt", "http://site/a"]
    engine = load_search("searxng:http://127.0.0.1:9", make_index=lambda: KnowledgeBase(":memory:", embed=Letters()))
    assert unknown_pages(tasks, engine) == []  # it does not tell what it holds


def test_private_episodes_are_left_out_of_the_data_and_said_to_be_unless_asked_for(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "Arc lamp.txt").write_text("The arc lamp was invented by Humphry Davy.")
    search = load_search(f"folder:{tmp_path / 'notes'}", make_index=lambda: KnowledgeBase(":memory:", embed=Letters()))
    own, tasks = Tools(search, tools.reader, tools.embed), [SearchTask("Who was the arc lamp invented by?")]
    num_lines = {}
    for with_private in (False, True):
        folder, told = tmp_path / str(with_private), list[dict]()
        list(train_agent(config_for(folder, num_episodes=6, with_private=with_private), tools=own, tasks=tasks, tell=told.append))
        data = folder / "agent" / "llm_training_data.jsonl"
        num_lines[with_private] = len(data.read_text().splitlines()) if data.exists() else 0
        reasons = {row["left_out"] for row in told} - {"failure"}
        assert reasons == ({""} if with_private else {"private"}) and "left_out" not in log_of(folder)[0]
    assert num_lines[False] == 0 < num_lines[True]


@pytest.mark.parametrize("name", ["llm_training_data.jsonl", "agent_training.log"])
def test_a_file_that_cannot_be_written_ends_a_training_in_one_line(tools: Tools, tmp_path: Path, monkeypatch, name: str) -> None:
    path_open, told = Path.open, list[dict]()

    def refuse(self: Path, mode: str = "r", **options):
        if self.name == name and "a" in mode: raise OSError(errno.EROFS, "Read-only file system", str(self))
        return path_open(self, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LightbulbError, match=rf"{name} cannot be written \(Read-only file system\).*--resume") as refusal:
        list(train_agent(config_for(tmp_path, num_episodes=6), tools=tools, tasks=QUESTIONS, tell=told.append))
    assert "\n" not in str(refusal.value)
    monkeypatch.undo()
    list(train_agent(config_for(tmp_path, num_episodes=6, resume=True), tools=tools, tasks=QUESTIONS, tell=told.append))
    assert [row["episode"] for row in told] == [1, 2, 3, 4, 5, 6] == [row["episode"] for row in log_of(tmp_path)]


def test_a_training_that_goes_on_tells_no_episode_again(tools: Tools, tmp_path: Path) -> None:
    told: list = []
    for num_episodes in (3, 6):
        config = config_for(tmp_path, num_episodes=num_episodes, resume=num_episodes > 3)
        list(train_agent(config, tools=tools, tasks=QUESTIONS, tell=told.append))
    assert [row["episode"] for row in told] == [1, 2, 3, 4, 5, 6]


def test_a_log_with_lines_of_others_is_named(tools: Tools, tmp_path: Path) -> None:
    list(train_agent(config_for(tmp_path, num_episodes=3), tools=tools, tasks=QUESTIONS))
    with (tmp_path / "agent" / "agent_training.log").open("a") as file:
        file.write("remember: the site was down here\n")
    with pytest.raises(LightbulbError, match="agent_training.log holds a line that no training wrote: move it away"):
        list(train_agent(config_for(tmp_path, num_episodes=6, resume=True), tools=tools, tasks=QUESTIONS))


def test_pages_of_ones_own_want_questions_of_ones_own(tools: Tools, tmp_path: Path) -> None:
    "The shipped questions are about the demo site; a training on them would learn that notes never answer."
    config = TrainAgent(search=f"folder:{tmp_path}", save_dir=tmp_path)
    with pytest.raises(LightbulbError, match="name a file of yours as queries"):
        next(train_agent(config, tools=tools))


def test_a_training_tells_each_episode_once_and_leaves_models_data_and_knowledge(tools: Tools, tmp_path: Path) -> None:
    told: list = []
    knowledge = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=Letters())
    with_memory = Tools(tools.search, tools.reader, tools.embed, knowledge=knowledge)
    reports = list(train_agent(config_for(tmp_path, num_held_out=1), tools=with_memory, tasks=QUESTIONS * 2, tell=told.append))
    rows = log_of(tmp_path)
    assert [row["episode"] for row in rows] == list(range(1, 13)) == [row["episode"] for row in told]
    assert set(rows[0]) == {"episode", "query", "reward", "seconds", "options", "error"}
    curve = [report for report in reports if report.split == "validation"]
    assert [report.step for report in curve] == [3, 6, 9, 12] and all("recall" in report.metrics for report in curve)
    data = [json.loads(line) for line in (tmp_path / "agent" / "llm_training_data.jsonl").read_text().splitlines()]
    assert data and all(abs(sum(step["probabilities"]) - 1) < 0.05 for row in data for step in row["steps"])
    assert len(knowledge) > 0
    agent = AutonomousWebAgent.load(tmp_path / "agent", tools)
    agent.levels.load_worker_model(tmp_path / "agent" / "worker.ckpt")
    agent.levels.load_manager_model(tmp_path / "agent" / "manager.ckpt")
    knowledge.close()


def test_what_was_read_through_two_folders_is_found_by_a_question_on_both(tools: Tools, tmp_path: Path) -> None:
    for name, text in (("a", "Humphry Davy was born in 1778 in Penzance."), ("b", "Joseph Swan was born in 1828 in Sunderland.")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.txt").write_text(text)
    search = f"folder:{tmp_path / 'a'},folder:{tmp_path / 'b'}"
    knowledge = KnowledgeBase(":memory:", embed=Letters())
    opened = load_search(search, make_index=lambda: KnowledgeBase(":memory:", embed=Letters()))
    config = config_for(tmp_path / "run", num_episodes=2, search=search)
    tasks = [SearchTask("When was Humphry Davy born?"), SearchTask("When was Joseph Swan born?")]
    list(train_agent(config, tools=Tools(opened, tools.reader, tools.embed, knowledge=knowledge), tasks=tasks))
    found = {scope: [one.title for one in knowledge.search("born", 5, scopes=[scope])] for scope in config.for_tools().scopes}
    assert all(len(set(titles)) == 1 for titles in found.values()) and len(found) == 2


def test_no_episode_of_a_large_batch_pays_for_the_others() -> None:
    outcomes = _side_by_side([lambda: time.sleep(0.4) or "done"] * 24, [1.1] * 24, threading.Event())  # pyright: ignore
    assert {outcome for outcome, _ in outcomes} == {"done"} and max(seconds for _, seconds in outcomes) < 1.1


class Slow(PatternReader):
    "Reads one passage after the other, each as long as it says."

    def __init__(self, seconds: float) -> None:
        self.seconds, self.num_read, self.over = seconds, 0, threading.Event()

    def read(self, question, texts, *, top_k=4):
        self.num_read += 1
        self.over.wait(self.seconds)
        return super().read(question, texts, top_k=top_k)


def test_no_episode_pays_for_its_turn_at_the_reader(tools: Tools, tmp_path: Path) -> None:
    reader, told = Slow(0.3), []
    tasks = [SearchTask(f"When was {name} born?") for name in ("Joseph Swan", "Humphry Davy", "Thomas Edison", "Michael Faraday")]
    config = config_for(tmp_path, num_episodes=4, num_parallel=4, max_seconds=3, max_pages=1, max_searches=2)
    list(train_agent(config, tools=Tools(tools.search, reader, tools.embed), tasks=tasks, tell=told.append))
    assert reader.num_read * reader.seconds > 5 and not any(row["error"] for row in told)
    assert max(row["seconds"] for row in told) < 3


def test_a_reader_that_never_comes_back_ends_the_episodes_that_wait_for_it(tools: Tools, tmp_path: Path) -> None:
    reader, told = Slow(120), []
    config = config_for(tmp_path, num_episodes=3, max_seconds=1, max_searches=1)
    begin = time.monotonic()
    list(train_agent(config, tools=Tools(tools.search, reader, tools.embed), tasks=QUESTIONS, tell=told.append))
    assert [row["error"] for row in told] == ["timed out"] * 3 and time.monotonic() - begin < 20
    reader.over.set()


def test_recall_is_told_only_where_gold_pages_are_known(tools: Tools, tmp_path: Path) -> None:
    plain = [SearchTask(task.question) for task in QUESTIONS]
    reports = train_agent(config_for(tmp_path, num_episodes=3, num_held_out=1), tools=tools, tasks=plain * 2)
    curve = [report.metrics for report in reports if report.split == "validation"]
    assert curve and all({"reward", "searches"} <= metrics.keys() and "recall" not in metrics for metrics in curve)


def test_a_training_with_refined_queries_is_not_resumed_without(tools: Tools, tmp_path: Path) -> None:
    told: list = []
    list(train_agent(config_for(tmp_path, num_episodes=3, refines=True), tools=tools, tasks=QUESTIONS, tell=told.append))
    assert len(told) == 3 and not any(row["error"] for row in told)
    with pytest.raises(LightbulbError, match="refines"):
        list(train_agent(config_for(tmp_path, num_episodes=6, resume=True), tools=tools, tasks=QUESTIONS))
    assert AutonomousWebAgent.load(tmp_path / "agent", tools).refines, "what was learned with rewritten queries plays with them"


def trained(config: TrainAgent, tools: Tools, *, batches: int | None = None) -> AutonomousWebAgent | None:
    "The agent of a whole training, or none of one that is left after so many batches."
    reports, seen = train_agent(config, tools=tools, tasks=QUESTIONS), 0
    while True:
        try:
            seen += next(reports).split == "validation"
        except StopIteration as end:
            return end.value
        if seen == batches: return reports.close()


def test_a_training_that_foresees_keeps_its_world_model_and_whoever_loads_it_plays_with_it(tools: Tools, tmp_path: Path) -> None:
    config = config_for(tmp_path / "whole", foresees=True)
    agent = trained(config, tools)
    assert agent is not None and agent.levels.foresee is not None
    file = find_model_file(tmp_path / "whole" / "agent", "web agent")  # as test_agent finds it
    loaded = AutonomousWebAgent.load(file, tools, env_config=agent.env_config)
    agent.save(tmp_path / "saved")
    saved = AutonomousWebAgent.load(tmp_path / "saved", tools, env_config=agent.env_config)
    rows = [one.play(QUESTIONS[0]).row()["steps"] for one in (agent, loaded, saved)]
    assert rows[0] == rows[1] == rows[2]
    world = agent.world([QUESTIONS[0]])
    world.begin(0, 0)
    assert all(one.levels.foresee is not None for one in (loaded, saved))
    values = [one.levels.foresee(world, 0).tolist() for one in (agent, loaded, saved) if one.levels.foresee]
    assert values[0] == values[1] == values[2] and any(values[0])
    # left in the middle it goes on to the same
    assert trained(config_for(tmp_path / "broken", foresees=True), tools, batches=2) is None
    assert not (tmp_path / "broken" / "agent" / "foresight.ckpt").exists()
    resumed = trained(config_for(tmp_path / "broken", foresees=True, resume=True), tools)
    assert resumed is not None and resumed.levels.foresee is not None
    assert resumed.levels.foresee(world, 0).tolist() == values[0]
    # a new training without it leaves none behind
    again = trained(config_for(tmp_path / "whole"), tools)
    assert again is not None and again.levels.foresee is None and not (tmp_path / "whole" / "agent" / "foresight.ckpt").exists()


def same(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    "Whether two networks have the same weights."
    return all(torch.equal(weights, others[name]) for name, weights in some.items())


def test_the_weights_of_the_best_look_are_played_and_the_last_ones_trained_on(tools: Tools, tmp_path: Path, monkeypatch) -> None:
    rewards = {3: 1.0, 6: 2.0, 9: 2.0, 12: 1.5}  # on held-out questions
    monkeypatch.setattr(_AgentTraining, "_judged", lambda self: {"reward": rewards[self.step], "searches": 1.0})
    tasks, last, played = [*QUESTIONS, QUESTIONS[0], QUESTIONS[2]], {}, {}
    for name, resume in (("whole", False), ("broken", False), ("broken", True)):
        folder = tmp_path / name / "agent"
        reports = train_agent(config_for(tmp_path / name, num_held_out=1, resume=resume), tools=tools, tasks=tasks)
        while True:
            try:
                report = next(reports)
            except StopIteration as end:
                agent = end.value
                break
            if report.split == "train": continue
            model = find_model_file(folder, "web agent")
            kept = load_checkpoint(model), load_checkpoint(model.with_name(TRAINING_FILE))["training"]["levels"]["worker"]["online"]
            if name == "whole":
                played[report.step], last[report.step] = kept
            elif report.step == 9:
                reports.close()
                save_checkpoint(model, played[6])  # as a kill leaves it that comes between the two files of a moment
                break
        if name == "whole" or resume:
            model = find_model_file(folder, "web agent")
            networks = [load_checkpoint(model)["worker"], load_checkpoint(folder / "worker.ckpt")["weights"]]
            networks += [one.levels.worker.online.state_dict() for one in (agent, AutonomousWebAgent.load(folder, tools))]
            assert all(same(network, last[9]) for network in networks)  # of two that are equal the later one
            assert same(load_checkpoint(model.with_name(TRAINING_FILE))["training"]["levels"]["worker"]["online"], last[12])
    assert all(same(played[step]["worker"], last[min(step, 9)]) for step in rewards)
    assert not same(last[9], last[6]) and not same(last[9], last[12])


LOADED = """
import json, sys
from test_train_agent import AutonomousWebAgent, DemoPages, Letters, PatternReader, Tools, scores_of
agent = AutonomousWebAgent.load(sys.argv[1], Tools(DemoPages(), PatternReader(), Letters()))
print(json.dumps(scores_of(agent.page_ranking)))
"""


def scores_of(model: RankingModel | None) -> list[tuple[str, float]]:
    "How a ranking orders the demo pages."
    ranker = PageRanker(list(DemoPages().documents.values()), Letters(), model=model)
    return [(page.url, page.score) for page in ranker.rank("Who was the arc lamp invented by?", 20)]


def test_a_training_that_ranks_keeps_its_ranking_of_pages_and_whoever_loads_it_ranks_with_it(tools: Tools, tmp_path: Path) -> None:
    with KnowledgeBase(":memory:", embed=Letters()) as knowledge:
        own = Tools(tools.search, tools.reader, tools.embed, knowledge=knowledge)
        agent = trained(config_for(tmp_path / "whole", ranks=True, refines=True), own)
        assert agent is not None and agent.page_ranking is not None
        scores = scores_of(agent.page_ranking)
        script = [sys.executable, "-c", LOADED, str(tmp_path / "whole" / "agent")]
        process = subprocess.run(script, cwd=ROOT, env=other_process_environment(), capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        assert [tuple(pair) for pair in json.loads(process.stdout)] == scores != scores_of(RankingModel.load())
        # the queries of whoever loads it are rewritten by it, also where it was saved whole
        agent.save(tmp_path / "saved")
        for folder in (tmp_path / "whole" / "agent", tmp_path / "saved"):
            loaded = AutonomousWebAgent.load(folder, tools, env_config=agent.env_config)
            loaded.play(QUESTIONS[0], max_seconds=600)
            assert scores_of(loaded.page_ranking) == scores and loaded._refiner and loaded._refiner.ranker.model is loaded.page_ranking
        # left in the middle it learns from the same pages, some of which it read in another life
        assert trained(config_for(tmp_path / "broken", refines=True), own, batches=2) is None
        resumed = trained(config_for(tmp_path / "broken", refines=True, ranks=True, resume=True), own)
        assert resumed is not None and resumed.page_ranking is not None
        assert [url for url, _ in scores_of(resumed.page_ranking)] == [url for url, _ in scores]
        assert np.allclose([score for _, score in scores_of(resumed.page_ranking)], [score for _, score in scores], atol=1e-3)
        # a new training without it leaves none behind
        again = trained(config_for(tmp_path / "whole"), own)
    assert again is not None and again.page_ranking is None and not (tmp_path / "whole" / "agent" / "ranking.json").exists()


class Proposing:
    "A language model that lists words, or that is gone."

    num_tokens_used = 0

    def __init__(self, reply: str) -> None:
        self.reply, self.asked = reply, list[str]()

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompts, *, max_new_tokens=128, stop=(), chat=True):
        self.asked += prompts
        if not self.reply: raise LightbulbError("the server is gone")
        return [self.reply] * len(prompts)

    def score(self, prompt, continuations, *, chat=True):
        return [0.0] * len(continuations)


@pytest.mark.parametrize("reply", ["1. Humphry Davy\n- miners in Cornwall\n2. one two three four five six seven\n", ""])
def test_a_language_model_proposes_words_for_rewritten_queries(tools: Tools, tmp_path: Path, reply: str) -> None:
    model, told = Proposing(reply), list[dict]()
    own = Tools(tools.search, tools.reader, tools.embed, model=model)
    config = config_for(tmp_path, num_episodes=6, refines=True, proposes=True)
    list(train_agent(config, tools=own, tasks=QUESTIONS, tell=told.append))
    assert len(told) == 6 and not any(row["error"] for row in told)
    assert 0 < len(model.asked) == len(set(model.asked)) and all("Question: Wh" in prompt for prompt in model.asked)  # once a question
    agent = AutonomousWebAgent.load(tmp_path / "agent", own, env_config=SearchEnvConfig(budget=config.budget))
    agent.play(QUESTIONS[0], max_seconds=600)
    assert agent.proposes and agent._refiner is not None
    offered = agent._refiner.refine(QUESTIONS[0].question).offered
    assert [word in offered for word in ("+Humphry Davy", "+miners in Cornwall")] == [bool(reply)] * 2
    assert "+one two three four five six seven" not in offered
    with pytest.raises(ValueError, match="needs tools with a language model"):
        AutonomousWebAgent.load(tmp_path / "agent", tools)
    with pytest.raises(ValueError, match="proposes needs refines"):
        config_for(tmp_path, proposes=True)


def test_failures_are_told_with_their_reason_paid_for_and_survived(tools: Tools, tmp_path: Path) -> None:
    site, told = Failing(), []
    tasks = [SearchTask("telegraph telegraph?"), SearchTask("forever forever?"), SearchTask("crash crash?"), QUESTIONS[2]]
    config = config_for(tmp_path, num_episodes=4, num_parallel=4, max_seconds=20)
    list(train_agent(config, tools=Tools(site, tools.reader, tools.embed), tasks=tasks, tell=told.append))
    site.over.set()
    errors = {row["query"].split()[0]: row["error"] for row in told}
    assert "does not answer" in errors["telegraph"] and errors["forever"] == "timed out" and "KeyError" in errors["crash"]
    assert all(row["reward"] <= -1 for row in told if row["error"])
    assert len(log_of(tmp_path)) == 4
    kept = load_checkpoint(tmp_path / "agent" / "web_agent" / "epoch_000_step_000004" / TRAINING_FILE)
    assert kept["training"]["levels"]["num_episodes"] == 4  # the failed ones were learned from as well


class SlowPages(DemoPages):
    "The demo pages, of which the second one in an episode never ends, until the test is over."

    def __init__(self) -> None:
        super().__init__()
        self.num_read, self.over = 0, threading.Event()

    def read(self, urls, *, timeout=None):
        self.num_read += 1
        if self.num_read == 2:
            self.over.wait(120)
        return super().read(urls, timeout=timeout)


def test_an_episode_that_runs_out_of_time_loses_what_it_had_earned(tools: Tools, tmp_path: Path) -> None:
    site, told = SlowPages(), []
    config = config_for(tmp_path, num_episodes=1, num_parallel=1, max_seconds=5)
    tasks = [SearchTask("Joseph Swan", gold_titles=frozenset({"Joseph Swan"}))]
    list(train_agent(config, tools=Tools(site, tools.reader, tools.embed), tasks=tasks, tell=told.append))
    site.over.set()
    assert site.num_read >= 2 and told[0]["error"] == "timed out" and told[0]["reward"] == -1


class LostBase(KnowledgeBase):
    "A knowledge base that for a while takes nothing, as on a full disk or where its server is started again."

    num_refused = 2

    def add(self, documents, **more) -> None:
        if self.num_refused:
            self.num_refused -= 1
            raise StoreError("knowledge.sqlite: the disk is full")
        super().add(documents, **more)


def test_a_knowledge_base_that_takes_nothing_costs_episodes_and_not_the_training(tools: Tools, tmp_path: Path) -> None:
    told = []
    with LostBase(embed=tools.embed) as knowledge:
        own = Tools(tools.search, tools.reader, tools.embed, knowledge=knowledge)
        list(train_agent(config_for(tmp_path, num_episodes=6), tools=own, tasks=QUESTIONS, tell=told.append))
        assert len(knowledge) > 0
    assert [row["error"] for row in told] == ["knowledge.sqlite: the disk is full"] * 2 + [""] * 4
    assert [row["left_out"] for row in told[:2]] == ["failure"] * 2 and len(log_of(tmp_path)) == 6


def test_held_out_questions_may_fail_like_any_other(tools: Tools, tmp_path: Path) -> None:
    site, told = Failing(), []
    tasks = [*QUESTIONS, QUESTIONS[0], SearchTask("crash crash?"), *QUESTIONS, QUESTIONS[0], SearchTask("forever forever?")]
    config = config_for(tmp_path, num_episodes=3, num_held_out=2, max_seconds=4)
    begin = time.monotonic()
    reports = list(train_agent(config, tools=Tools(site, tools.reader, tools.embed), tasks=tasks, tell=told.append))
    site.over.set()
    looks = [report.metrics for report in reports if report.split == "validation"]
    assert [(look["reward"], look["failed"], look["searches"]) for look in looks] == [(-1, 2, 0)]
    assert len(told) == 3 and not any(row["error"] for row in told) and time.monotonic() - begin < 60


class Broken(DemoPages):
    "The demo pages, of which some cannot be read any more and one never ends, until the test is over."

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def read(self, urls, *, timeout=None):
        if any("arc-lamp" in url for url in urls): raise SearchError("the site went down")
        if any("swan" in url for url in urls):
            self.over.wait(120)
        return super().read(urls, timeout=timeout)


def test_a_site_that_goes_down_and_a_page_that_never_ends_cost_their_episodes_alone(tools: Tools, tmp_path: Path) -> None:
    site, told = Broken(), []
    davy = SearchTask("When was Humphry Davy born?")
    config, tasks = config_for(tmp_path, num_episodes=3, max_seconds=10, max_pages=1), [QUESTIONS[1], QUESTIONS[2], davy]
    list(train_agent(config, tools=Tools(site, tools.reader, tools.embed), tasks=tasks, tell=told.append))
    site.over.set()
    errors = {row["query"]: row["error"] for row in told}
    assert "the site went down" in errors[QUESTIONS[1].question] and errors[QUESTIONS[2].question] == "timed out"
    assert errors[davy.question] == "" and len(log_of(tmp_path)) == 3


def test_a_full_disk_ends_a_training_in_one_line_and_nothing_is_lost(tools: Tools, tmp_path: Path, monkeypatch) -> None:
    list(train_agent(config_for(tmp_path / "whole", num_episodes=6), tools=tools, tasks=QUESTIONS))
    sync, folder = os.fsync, tmp_path / "broken"

    def full(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("agent_training.log"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LightbulbError, match="the disk is full.*--resume") as refusal:
        list(train_agent(config_for(folder, num_episodes=6), tools=tools, tasks=QUESTIONS))
    assert "\n" not in str(refusal.value)
    monkeypatch.undo()
    list(train_agent(config_for(folder, num_episodes=6, resume=True), tools=tools, tasks=QUESTIONS))
    assert log_of(folder) == log_of(tmp_path / "whole")


def test_skipped_episodes_end_at_once_and_are_forgotten(tools: Tools, tmp_path: Path) -> None:
    skip, told = threading.Event(), []
    skip.set()
    list(train_agent(config_for(tmp_path, num_episodes=6), tools=tools, tasks=QUESTIONS, tell=told.append, skip=skip))
    assert [row["error"] for row in told] == ["skipped"] * 3 + [""] * 3


def test_what_hangs_is_skipped_at_once(tools: Tools, tmp_path: Path) -> None:
    site, told, skip, playing = Failing(), [], threading.Event(), threading.Event()
    config = config_for(tmp_path, num_episodes=2, num_parallel=2, max_seconds=100)
    asking = threading.Thread(target=lambda: playing.wait(20) and (time.sleep(0.5), skip.set()))
    asking.start()
    begin, own = time.monotonic(), Tools(site, tools.reader, tools.embed)
    for report in train_agent(config, tools=own, tasks=[SearchTask("forever?")], tell=told.append, skip=skip, playing=playing):
        assert report and not playing.is_set() and not skip.is_set()  # between batches there is nothing to skip
    asking.join()
    site.over.set()
    assert [row["error"] for row in told] == ["skipped"] * 2 and time.monotonic() - begin < 60


def test_an_early_stop_needs_no_higher_reward_for_so_many_batches(tools: Tools, tmp_path: Path) -> None:
    config = config_for(tmp_path, num_episodes=60, num_held_out=1, patience=2)
    reports = list(train_agent(config, tools=tools, tasks=[QUESTIONS[2]] * 5))
    assert reports[-1].step < 60


KILLED = """
import sys
from pathlib import Path
from test_train_agent import QUESTIONS, DemoPages, Letters, PatternReader, Tools, config_for, train_agent
tools = Tools(DemoPages(), PatternReader(), Letters())
for report in train_agent(config_for(Path(sys.argv[1]), resume=sys.argv[2] == "resume"), tools=tools, tasks=QUESTIONS):
    print(report.step, flush=True)
"""


def test_a_killed_training_loses_no_episode_that_was_told_and_ends_as_the_unbroken_one(tools: Tools, tmp_path: Path) -> None:
    list(train_agent(config_for(tmp_path / "whole"), tools=tools, tasks=QUESTIONS))
    folder, chance, num_kills = tmp_path / "broken", random.Random(0), 0
    while True:
        run = folder / "agent" / "web_agent"
        kept = [moment for moment in moments(run) if (run / moment.name / TRAINING_FILE).is_file()]
        words = [sys.executable, "-c", KILLED, str(folder), "resume" if kept else "begin"]
        with subprocess.Popen(words, cwd=ROOT, env=other_process_environment(), stdout=subprocess.PIPE, text=True) as process:
            if num_kills < 2:
                assert process.stdout is not None
                process.stdout.readline()  # the first report of this life, then at any moment
                time.sleep(chance.uniform(0, 0.3))
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        if num_kills == 2 or process.returncode == 0: break
        num_kills += 1
        told = len(log_of(folder))
        newest = moments(run)[-1] if moments(run) else None
        assert told == 0 or (newest is not None and told <= newest.step), "an episode was told that was not kept"
    assert process.returncode == 0 and log_of(folder) == log_of(tmp_path / "whole")
    ends = [load_checkpoint(place / "agent" / "web_agent" / "epoch_000_step_000012" / MODEL_FILE) for place in (folder, tmp_path / "whole")]
    assert all(bool((ends[0]["worker"][name] == ends[1]["worker"][name]).all()) for name in ends[0]["worker"])


def fill(file: Path) -> None:
    "Take all the room that is left on the disk of the file."
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as out:
        for size in (2**16, 2**10, 1):
            with contextlib.suppress(OSError):
                while out.write(bytes(size)) == size:
                    pass


def train_on_a_disk_that_fills(folder: Path, tools: Tools, *, empties: bool) -> dict:
    "The log after each batch of a training whose disk is full from episode 6 on: to the end, or up to episode 12."
    told, filler, lines, end = [], folder / "filler", {}, ""
    try:
        for report in train_agent(config_for(folder, num_episodes=15), tools=tools, tasks=QUESTIONS, tell=told.append):
            if report.split == "validation":
                lines[report.step] = len(log_of(folder))
                assert [row["episode"] for row in told] == [row["episode"] for row in log_of(folder)]
            elif report.step == 6:
                fill(filler)
            elif report.step == 12 and empties:
                filler.unlink()
    except LightbulbError as error:
        end = str(error)
    if not empties:
        filler.unlink()
        list(train_agent(config_for(folder, num_episodes=15, resume=True), tools=tools, tasks=QUESTIONS, tell=told.append))
    run, data = folder / "agent" / "web_agent", folder / "agent" / "llm_training_data.jsonl"
    return {
        "lines": lines,
        "end": end,
        "told": [row["episode"] for row in told],
        "log": log_of(folder),
        "data": [json.loads(line)["id"] for line in data.read_text().splitlines()],
        "curve": [report.step for report in MetricsFile(run / "metrics.jsonl").evaluations()],
        "moments": [moment.step for moment in moments(run)],
        "weights": [float(weights.sum()) for weights in load_checkpoint(find_model_file(run, "web agent"))["worker"].values()],
    }


ON_A_SMALL_DISK = """
import json, sys
from pathlib import Path
from test_train_agent import DemoPages, Letters, PatternReader, Tools, train_on_a_disk_that_fills
print(json.dumps(train_on_a_disk_that_fills(Path(sys.argv[1]), Tools(DemoPages(), PatternReader(), Letters()), empties=len(sys.argv) > 2)))
"""


@pytest.mark.parametrize("empties", [True, False])
def test_a_training_goes_on_while_its_disk_is_full_and_loses_nothing(tools: Tools, tmp_path: Path, empties: bool) -> None:
    "On a file system of its own, which is really full."
    mounted = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    words = [*mount, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path), *["empties"] * empties]
    process = subprocess.run(words, cwd=ROOT, env=other_process_environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout)
    assert seen["lines"] == {"3": 3, "6": 3, "9": 3, "12": 12 if empties else 3, "15": 15 if empties else 3}
    assert process.stderr.count("the disk is full; the run goes on") == 1
    assert ("--resume goes on from step 3" in seen["end"], seen["end"].count("\n")) == (not empties, 0)
    whole = config_for(tmp_path / "whole", num_episodes=15)
    list(train_agent(whole, tools=tools, tasks=QUESTIONS))
    assert seen["told"] == list(range(1, 16)) and seen["log"] == log_of(tmp_path / "whole")
    assert seen["data"] == [json.loads(line)["id"] for line in (whole.folder / "llm_training_data.jsonl").read_text().splitlines()]
    assert seen["curve"] == [3, 6, 9, 12, 15] and seen["moments"] == [15]
    weights = load_checkpoint(find_model_file(whole.folder, "web agent"))["worker"].values()
    assert seen["weights"] == [float(one.sum()) for one in weights]
