"""What the web agent learns to search: recall of gold pages at equal searches, on questions that it was not trained on.

The encyclopedia passages of two_hop are searched in one knowledge base, or with `--set manuals` the pages of three manuals. Of two_hop
every second question, from the second on, is trained on and the others are the test; of the manuals git's questions are trained on and
those of the other two are the test, in turn. A page counts if the episode read it; pages are put in order by the
chance of the chain of names that led to them, for every policy alike. Gold pages are paid for in training and used for scoring; nothing
that a policy sees shows them. What is finished is kept under the cache folder and not done again: `--fresh` forgets it.

    python benchmarks/agent.py --episodes 80 --questions 58 --searches 4 --ship lightbulb/agent/weights/web_agent.ckpt --only nothing

makes the weights that ship with the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import numpy as np
import torch
from _judged import manual_pages
from _scoring import interval, mean, score_interval, token_f1
from _table import Table, skip_without
from answering import Question, manual_questions, manual_score

from lightbulb.agent.configuration import Budget, TrainAgent
from lightbulb.agent.environment import OPTIONS, SearchAction, SearchEnv, SearchEnvConfig, SearchTask
from lightbulb.agent.foresight import Foresight
from lightbulb.agent.page_order import PageOrder
from lightbulb.agent.tools import Tools, load_judge, load_says
from lightbulb.agent.training import _AgentTraining, _EpisodeLog
from lightbulb.agent.web_agent import AutonomousWebAgent, CautiousLevels, EpisodeWorld, default_levels
from lightbulb.core.cache import PersistentCache, content_key
from lightbulb.core.checkpoint import save_checkpoint
from lightbulb.core.records import Document
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.knowledge.summarizer import RAGSummarizer, SummarizerConfig
from lightbulb.reading.reader import SpanReader
from lightbulb.rl.options import OptionStep, View
from lightbulb.web.backend import SearchResult, group_passages
from lightbulb.world.recurrent import TrainRecurrentModel


class Passages:
    "Pages as a search engine; what was searched once is remembered on the disk."

    def __init__(self, name: str, pages: Sequence[Document], embed: Any, place: Path) -> None:
        self.name, self.documents = name, {page.url: page for page in pages}
        name = f"{name}_{content_key(*(page.title for page in pages))[:8]}"
        self.base = KnowledgeBase(place / f"{name}.sqlite", embed=embed)
        if not len(self.base):
            self.base.add(self.documents.values())
        self.results = PersistentCache(place / f"{name}_results.sqlite")

    def search(self, query: str, num_results: int = 10) -> list[SearchResult]:
        key = content_key(query, num_results)
        if (stored := self.results.get(key)) is None:
            pages = group_passages(self.base.search(query, 4 * num_results), num_results)
            stored = json.dumps([(page.url, page.title) for page in pages]).encode()
            self.results.put(key, stored)
        return [SearchResult(url, title, "", 0.0) for url, title in json.loads(stored)]

    def read(self, urls: Sequence[str], **_: Any) -> list[Document]:
        return [self.documents[url] for url in urls]


class FlatWorld(EpisodeWorld):
    "The same episode for one level: all actions of all options side by side."

    def __init__(self, env: SearchEnv) -> None:
        super().__init__(env)
        self.num_options, self.num_actions = 1, env.num_actions + 12

    def _of_two_levels(self) -> View:
        "What a manager would see."
        self.num_options = len(OPTIONS)
        try:
            return EpisodeWorld.manager_view(self)
        finally:
            self.num_options = 1

    def _places(self) -> list[tuple[int, int]]:
        open_ = self._of_two_levels().available
        places = [(option, i) for option in range(len(OPTIONS)) if open_[option] for i in range(len(self.env.actions(option)))]
        return places[: self.num_actions]

    def manager_view(self) -> View:
        return View(self._of_two_levels().observation, np.array([True]))

    def worker_view(self, option: int) -> View:
        places = self._places()
        rows = {option: self.env.action_features(option) for option, _ in places}
        features = np.stack([rows[option][i] for option, i in places]) if places else np.zeros((1, self.action_size), np.float32)
        return View(self.manager_view().observation, np.ones(max(len(places), 1), bool) if places else np.zeros(1, bool), features)

    def step(self, option: int, action: int) -> OptionStep:
        places = self._places()
        chosen, place = places[min(action, len(places) - 1)]
        self.probabilities = []
        done = EpisodeWorld.step(self, chosen, place)
        return replace(done, option_ended=done.terminated)


class FlatAgent(AutonomousWebAgent):
    "The agent without a manager."

    def world(self, tasks: Sequence[SearchTask]) -> EpisodeWorld:
        return FlatWorld(self.env(tasks))


@dataclass(frozen=True)
class Played:
    "What is measured of one episode."

    hit10: float
    hit1: float
    reward: float
    searches: float
    pages: float
    read: float = 0.0  # whether a gold page was read at all, wherever it stands
    f1: float | None = None  # of the answer as the user sees it: 0 where it was refused
    seconds: float | None = None  # of a processor, from the question to its answer


def measured(env: SearchEnv, task: SearchTask, reward: float, pages: Sequence[Document] | None = None) -> Played:
    urls, info = [page.url for page in (env.ranking() if pages is None else pages)], env._info()
    return Played(
        float(bool(task.gold_urls & set(urls[:10]))),
        float(urls[:1] != [] and urls[0] in task.gold_urls),
        reward,
        info["searches"],
        info["pages"],
        float(bool(task.gold_urls & set(urls))),
    )


def oracle(agent: AutonomousWebAgent, task: SearchTask) -> Played:
    "The best that the offered names can do: after the subject's page, the one whose search has a gold page nearest its top."
    env = agent.env([task])
    env.reset(options={"task": 0})
    total = env.take(env.actions(0)[0])[1]
    while (reads := [one for one in env.actions(0) if one.kind == "read"]) and env._running().reads_here < 1:
        total += env.take(reads[0])[1]
    names = [one for one in env.actions(0) if one.kind == "entity"]
    ranks = {}
    for one in names:
        urls = [result.url for result in agent.cache.search(env._running().backend, one.text, env.config.num_results)]
        ranks[one.text] = min((urls.index(gold) for gold in task.gold_urls if gold in urls), default=99)
    if ranks and not task.gold_urls & set(env._running().pages):
        best = min(ranks, key=lambda name: ranks[name])
        total += env.take(SearchAction("entity", best))[1]
        for url in [result.url for result in env._running().results if result.url in task.gold_urls][:1]:
            total += env.take(SearchAction("read", url))[1]
    return measured(env, task, total)


@dataclass(frozen=True)
class QuestionSet:
    "Pages, questions as tasks, and what an answer is worth."

    title: str
    pages: Sequence[Document]
    learn: Sequence[SearchTask]
    test: Sequence[SearchTask]
    score: Callable[[str, Any], float]  # question, answer → between 0 and 1
    measure: str  # what the score is called
    seen: str  # what was looked at while the order of actions was written


def two_hop(folder: Path, *, quick: bool) -> QuestionSet:
    rows = [json.loads(line) for line in (folder / "pages.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    if quick:
        questions = questions[:12]
        gold = {title for question in questions for title in question["gold_pages"]}
        words = {word for question in questions for word in question["question"].split() if word[:1].isupper() and len(word) > 4}
        near = [page for page in rows if page["title"] not in gold and words & set(page["title"].split())]
        near.sort(key=lambda page: -sum(page["title"].lower() in question["question"].lower() for question in questions))
        rows = [page for page in rows if page["title"] in gold] + near[:200]
    pages = [Document(f"http://two-hop/{i}", page["title"], page["text"]) for i, page in enumerate(rows)]
    addresses: dict[str, str] = {}
    for page in pages:
        addresses.setdefault(page.title, page.url)
    tasks = [SearchTask(q["question"], frozenset(addresses[title] for title in q["gold_pages"])) for q in questions]
    golds = {q["question"]: q["answer"] for q in questions}
    score = lambda question, answer: 0.0 if answer.refused else token_f1(answer.short_answer or answer.text, [golds[question]])
    seen = "The order of actions, and that of pages, was written while looking at questions of both halves; weights saw one half."
    return QuestionSet("The web agent on two-hop questions", pages, tasks[1::2], tasks[::2], score, "answers F1", seen)


def manuals(folder: Path) -> QuestionSet:
    "Three manuals in one search engine, and their answerable questions of every kind."
    sites = ("git", "debian_handbook", "python")
    pages = [page for site in sites for page in manual_pages(folder, site)]
    urls = {page.url for page in pages}
    inside = lambda page: (replace(link, url=url) for link in page.links if (url := urldefrag(link.url).url) in urls)
    pages = [replace(page, links=tuple(inside(page))) for page in pages]  # nothing else can be read
    by_name = {page.url.rsplit("/", 1)[-1]: page.url for page in pages}
    address = lambda name: by_name[name.rsplit("/", 1)[-1]]
    questions: dict[str, Question] = {}
    tasks: dict[str, list[SearchTask]] = {}
    for site in sites:
        asked = [one for one in manual_questions(folder, site) if one.answerable and one.gold_pages]
        questions |= {one.text: one for one in asked}
        tasks[site] = [SearchTask(one.text, frozenset(map(address, one.gold_pages))) for one in asked]
    test = [task for pair in zip(tasks["debian_handbook"], tasks["python"], strict=True) for task in pair]
    score = lambda question, answer: manual_score(questions[question], answer.text, answer.short_answer, answer.refused)
    seen = "Weights saw git's questions alone; the order of actions, and that of pages, was written for two-hop questions."
    return QuestionSet("The web agent on questions over manuals", pages, tasks["git"], test, score, "answers' score", seen)


def train(
    make: Callable[[Any], AutonomousWebAgent],
    tasks: Sequence[SearchTask],
    num_episodes: int,
    seed: int,
    *,
    keep: Callable[[AutonomousWebAgent, int], None],  # called at an eighth, a quarter, a half and at the end
    **levels: Any,
) -> list[float]:
    "Train an agent for so many episodes; the mean reward of each batch."
    agent = make(default_levels(num_episodes, num_envs=8, seed=seed, **levels))
    due = [num_episodes // 8, num_episodes // 4, num_episodes // 2, num_episodes]
    with tempfile.TemporaryDirectory() as place:
        config = TrainAgent(num_episodes=num_episodes, num_parallel=8, num_held_out=0, seed=seed, save_dir=Path(place))
        log = _EpisodeLog(Path(place) / "agent_training.log", resume=False)
        training, rewards = _AgentTraining(agent, tasks, config, log, threading.Event(), threading.Event()), []
        while not training.is_done:
            rewards.append(training.train_step().metrics["reward"])
            training.untold = []
            while due and training.step >= due[0]:
                keep(agent, due.pop(0))
    return rewards


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: few pages, questions and episodes")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs finished")
    parser.add_argument("--episodes", type=int, default=400, help="of one training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation_seeds", type=int, default=2)
    parser.add_argument("--questions", type=int, default=116, help="test questions, at most 116")
    parser.add_argument("--pipeline", type=int, default=40, help="test questions that answer() itself plays, at seconds each")
    parser.add_argument(
        "--searches", type=int, nargs="+", default=[4, 8], help="budgets of the fixed pipeline, and 8 of the learned policy"
    )
    parser.add_argument("--ship", type=Path, help="write what the first seed learned to this file, as it ships with the package")
    parser.add_argument("--set", choices=("two_hop", "manuals"), default="two_hop", help="whose pages and questions")
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names begin so; the recorded others stay")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    args = parser.parse_args()
    torch.set_num_threads(1)
    skip_without(args.data / args.set)
    if args.quick:
        args.episodes, args.seeds, args.ablation_seeds, args.pipeline = 16, 1, 0, 0
    asked = manuals(args.data / "manuals") if args.set == "manuals" else two_hop(args.data / "two_hop", quick=args.quick)
    pages = asked.pages
    place = cache_folder("benchmarks") / f"agent_{content_key(*(page.title for page in pages))[:8]}_{args.episodes}_{args.questions}"
    if args.fresh:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    table = Table(asked.title + (" (quick)" if args.quick else ""), packages=("onnxruntime", "gymnasium"))
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    site, reader = Passages(args.set, pages, embed, cache_folder("benchmarks")), SpanReader.load()
    tools = Tools(site, reader, embed)
    test, learn = asked.test[: args.questions], asked.learn
    spans = cache_folder("benchmarks") / "agent_spans.sqlite"

    def budget(searches: int, max_pages: int = 12) -> SearchEnvConfig:
        return SearchEnvConfig(budget=Budget(max_searches=searches, max_pages=max_pages), recall_weight=1.0, max_steps=40)

    def make(
        levels: Any = None,
        *,
        searches: int = 4,
        max_pages: int = 12,
        kind: type[AutonomousWebAgent] = AutonomousWebAgent,
        policy: str = "learned",
        refines: bool = False,
    ) -> Any:
        settings = {"env_config": budget(searches, max_pages), "levels": levels, "policy": policy, "refines": refines}
        return kind(tools, span_cache=spans, **settings)

    def place_of(name: str) -> Path:
        "Where the episodes of a row are kept."
        return place / f"{content_key(name, args.seeds, args.ablation_seeds)[:12]}.json"

    made = set[str]()  # names of the rows of this run

    def row(name: str, play: Callable[[], list[list[Played]]], aim: str = "", good: Callable[[float, float], bool] | None = None) -> None:
        "Print a row: means over questions and seeds, with an interval of the means over questions."
        if args.only and not name.startswith(tuple(args.only)): return
        made.add(name)
        file, begin = place_of(name), time.process_time()
        if not file.exists():
            runs = play()
            file.write_text(json.dumps({"runs": [[vars(one) for one in run] for run in runs], "seconds": time.process_time() - begin}))
        kept = json.loads(file.read_text())
        runs = [[Played(**one) for one in run] for run in kept["runs"]]
        by_question = [[mean([getattr(one, part) for one in same]) for same in zip(*runs, strict=True)] for part in ("hit10", "hit1")]
        (low, high), (low1, high1) = (score_interval(values) for values in by_question)
        each = lambda part: mean([getattr(one, part) for run in runs for one in run])
        f1s = [one.f1 for run in runs for one in run if one.f1 is not None]
        answers = f"{asked.measure} {mean(f1s):.3f} ({interval(f1s)[0]:.3f} to {interval(f1s)[1]:.3f}), " if f1s else ""
        costs = [one.seconds for run in runs for one in run if one.seconds is not None]
        cost = f"{mean(costs):.1f} CPU-s a question" if costs else f"{kept['seconds']:.0f} CPU-s for {len(runs)} × {len(runs[0])} questions"
        seeds = f"; hit@10 of each seed {', '.join(f'{mean([one.hit10 for one in run]):.3f}' for run in runs)}" if len(runs) > 1 else ""
        table.row(
            name,
            f"hit@10 {each('hit10'):.3f} ({low:.3f} to {high:.3f}), hit@1 {each('hit1'):.3f} ({low1:.3f} to {high1:.3f}), "
            f"read {each('read'):.3f}, {answers}reward {each('reward'):+.2f}, {each('searches'):.1f} searches, {each('pages'):.1f} pages, "
            f"{cost}{seeds}",
            aim,
            good(each("hit10"), each("hit1")) if good else None,
        )

    def played(agent: AutonomousWebAgent, seed: int = 0) -> list[Played]:
        worlds = [(agent.play(task, seed=seed), task) for task in test]
        return [measured(world.env, task, world.total, agent.ranking(world.env)) for world, task in worlds]

    def folders(*, kind: type[AutonomousWebAgent] = AutonomousWebAgent, seeds: int = 0, refines: bool = False, **levels: Any) -> list[Path]:
        "Of each seed what training left."
        trained = []
        for seed in range(seeds or args.seeds):
            file = place / f"{kind.__name__}_{levels.get('uniform', False)}_{seed}{'_refines' * refines}"
            if not (file / "rewards.json").exists():
                keep = lambda agent, episodes, file=file: agent.save(file / str(episodes))
                begin = lambda settings: make(settings, kind=kind, refines=refines)
                rewards = train(begin, learn, args.episodes, seed, keep=keep, **levels)
                (file / "rewards.json").write_text(json.dumps(rewards))
            trained.append(file)
        return trained

    def load(
        file: Path, searches: int, kind: type[AutonomousWebAgent] = AutonomousWebAgent, episodes: int = 0, max_pages: int = 12
    ) -> AutonomousWebAgent:
        settings = {"env_config": budget(searches, max_pages), "refines": file.name.endswith("_refines")}
        return kind.load(file / str(episodes or args.episodes), tools, span_cache=spans, **settings)

    def learned(
        searches: int, *, kind: type[AutonomousWebAgent] = AutonomousWebAgent, episodes: int = 0, in_order: bool = False, **settings: Any
    ) -> list[list[Played]]:
        runs = []
        for file in folders(kind=kind, **settings):
            kept = file / f"played_{searches}_{episodes or args.episodes}{'_in_order' * in_order}.json"
            if not kept.exists():
                agent = load(file, searches, kind, episodes)
                agent.page_order = PageOrder(agent.hops, embed) if in_order else None
                kept.write_text(json.dumps([vars(one) for one in played(agent)]))
            runs.append([Played(**one) for one in json.loads(kept.read_text())])
        return runs

    def foreseeing() -> list[list[Played]]:
        "What was learned, beside a world model of as many episodes over the training questions, half of them at random."
        runs = []
        for seed, file in enumerate(folders(seeds=args.ablation_seeds)):
            agent, worlds = load(file, 4), []
            for number, task in enumerate(learn[: args.episodes]):
                agent.policy = ("learned", "random")[number % 2]
                worlds.append(agent.play(task, seed=number))
            agent.policy = "learned"
            config = TrainRecurrentModel(num_steps=300, batch_size=32, learning_rate=5e-3, seed=seed)
            assert isinstance(agent.levels, CautiousLevels)
            agent.levels.foresee = Foresight.learn([world.lived() for world in worlds], config=config)
            runs.append(played(agent))
        return runs

    def answered(agent: AutonomousWebAgent) -> list[Played]:
        "The first test questions to their answers, with the order of the pages that `answer()` gives; nothing that was read is remembered."
        rerank = load_cross_encoder()
        agent.tools = Tools(site, reader, embed, rerank, weigh=load_judge(rerank))
        if args.set == "manuals":
            quoting = SummarizerConfig(mode="extractive")
            agent.tools.says = load_says()
            agent.tools.extractor = RAGSummarizer(lambda *_, **__: [], embed, rerank=rerank, config=quoting)
        agent.hops._cache = None
        agent.run_episode(learn[0].question)  # loads the models
        runs = []
        for task in test[: args.pipeline]:
            begin = time.process_time()
            episode = agent.run_episode(task.question, task=task)
            seconds = time.process_time() - begin
            answer, cost = episode.answer, episode.row["cost"]
            urls = [url for url, _ in answer.pages] if agent.policy == "fixed" else [page.url for page in episode.pages]
            first = float(urls[:1] != [] and urls[0] in task.gold_urls)
            f1 = asked.score(task.question, answer)
            is_read = float(bool(task.gold_urls & set(urls)))
            is_near = float(bool(task.gold_urls & set(urls[:10])))
            runs.append(Played(is_near, first, episode.reward, cost["searches"], cost["pages"], is_read, f1, seconds))
        return runs

    def difference(one: str, other: str, *aims: str) -> None:
        """A row of how much one row is above another, question by question, from what is kept of both. Aims: `hit1` (above it, by the
        interval), `cost` (an answer's score as high at half the seconds)."""
        files = [place_of(name) for name in (one, other)]
        if not {one, other} & made or not all(file.exists() for file in files): return
        runs = [json.loads(file.read_text())["runs"] for file in files]
        texts, are_met = [], []
        has_answers = all(run[0][0]["f1"] is not None for run in runs)
        for part in ("hit10", "hit1", "reward", *(("f1", "seconds") if has_answers else ())):
            means = [[mean([played[part] for played in same]) for same in zip(*run, strict=True)] for run in runs]
            gaps = [a - b for a, b in zip(*means, strict=False)]
            low, high = interval(gaps)
            width = f"({low:+.3f} to {high:+.3f})" if len(set(gaps)) > 1 else "in each"
            texts.append(f"{part} {mean(gaps):+.3f} {width}")
            if part == "hit1" and "hit1" in aims:
                are_met.append(low > 0)
            if part == "f1" and "cost" in aims:
                are_met.append(mean(gaps) >= 0)
            if part == "seconds":
                ours, theirs = (sum(values) for values in means)
                texts[-1] += f", {ours / theirs:.2f} ×"
                if "cost" in aims:
                    are_met.append(ours <= theirs / 2)
        words = {"hit1": "hit@1 above 0, 95%", "cost": "f1 not below 0 at half the seconds"}
        table.row(f"{one} above {other}", ", ".join(texts), ", ".join(words[aim] for aim in aims), all(are_met) if aims else None)

    ordered_name, learned_name = (
        "ordered (names lead from page to page, untrained), 4 searches",
        f"learned, {args.episodes} episodes, 4 searches",
    )
    row(ordered_name, lambda: [played(make(policy="ordered"))])
    row("oracle over the offered names, 2 searches", lambda: [[oracle(make(), task) for task in test]])
    row(
        learned_name,
        lambda: learned(4),
        "hit@10 0.95, hit@1 0.80",
        None if args.quick else lambda hit10, hit1: hit10 >= 0.95 and hit1 >= 0.8,
    )
    difference(learned_name, ordered_name)
    in_order_name = f"learned, pages in the learned order (page_order.py), {args.episodes} episodes, 4 searches"
    if args.set == "two_hop":  # where that order was taught, on the other half of the questions
        row(in_order_name, lambda: learned(4, in_order=True), "hit@10 0.95, hit@1 0.80", lambda hit10, hit1: hit10 >= 0.95 and hit1 >= 0.8)
        difference(in_order_name, learned_name)
    for early in (args.episodes // 8, args.episodes // 4, args.episodes // 2):
        row(f"learned, after {early} of them, 4 searches", lambda early=early: learned(4, episodes=early))
    if 8 in args.searches:
        row(f"learned, {args.episodes} episodes, 8 searches", lambda: learned(8))
    if args.ablation_seeds:
        foreseeing_name = "learned, a world model's foresight is half of what both levels value, 4 searches"
        row(foreseeing_name, foreseeing)
        difference(foreseeing_name, learned_name)
        flat_name, uniform_name = "learned without a manager (flat), 4 searches", "learned with uniform replay, 4 searches"
        refined_name = "learned, refined queries are offered too, 4 searches"
        row(flat_name, lambda: learned(4, kind=FlatAgent, seeds=args.ablation_seeds))
        row(uniform_name, lambda: learned(4, seeds=args.ablation_seeds, uniform=True))
        row(refined_name, lambda: learned(4, seeds=args.ablation_seeds, refines=True))
        for ablation in (flat_name, uniform_name, refined_name):
            difference(ablation, learned_name)
    if args.pipeline:
        some = f"first {args.pipeline} test questions"
        fixed_name = lambda searches: f"fixed: answer() without a language model, {searches} searches, {some}"
        for searches in args.searches:
            row(fixed_name(searches), lambda searches=searches: [answered(make(searches=searches, policy="fixed"))])
        if 4 in args.searches:
            difference(ordered_name, fixed_name(4))
            difference(learned_name, fixed_name(4), "hit1")
            difference(in_order_name, fixed_name(4), "hit1")
        if 8 in args.searches:
            difference(f"learned, {args.episodes} episodes, 8 searches", fixed_name(8))
        plans = (("ordered", 4, 12, 0), ("learned", 4, 12, 0), ("learned", 3, 7, 0), ("learned", 2, 4, 0), ("learned", 2, 4, 3))
        for policy, searches, most, asks in plans:
            limit = (f" and at most {most} pages" if most < 12 else "") + (f", asked {asks} times" if asks else "")
            name = f"{policy}, then answer() from its pages, {searches} searches{limit}, {some}"

            def play(policy: str = policy, searches: int = searches, most: int = most, asks: int = asks) -> list[list[Played]]:
                is_learned = policy == "learned"
                agent = load(folders(seeds=1)[0], searches, max_pages=most) if is_learned else make(policy=policy)
                agent.write_searches = asks or None
                return [answered(agent)]

            row(name, play)
            for other in args.searches:
                difference(name, fixed_name(other), *(("hit1", "cost") if policy == "learned" and other == 4 else ()))
    row("random, 4 searches", lambda: [played(make(policy="random"))])
    if args.ship:
        save_checkpoint(args.ship, load(folders(seeds=1)[0], 4).model_state())
    table.note(
        "The interval is of the mean over questions, seeds averaged first: Wilson's where all are 0 or 1, else by the bootstrap. Only rows "
        "that say so have a world model."
    )
    table.note(
        "Where the ceiling is lost: `read` says how often a gold page was read at all, hit@1 how often it stands first. The oracle "
        "follows the right name and puts its page first; rows without answers keep the order of the chances, which no action mends: "
        "page_order.py learns another."
    )
    table.note(asked.seen)
    return table.finish(args.record and not args.quick, keeps_others=bool(args.only))


if __name__ == "__main__":
    sys.exit(main())
