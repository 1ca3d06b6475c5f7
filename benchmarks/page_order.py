"""The learned order of an episode's pages against the episode's own, on two-hop questions that nothing was taught on.

    python benchmarks/page_order.py --ship lightbulb/agent/weights/page_order.json

The encyclopedia passages of two_hop are searched in one knowledge base, as in agent.py: every second question, from the second on, may be
learned from, the others are the test. Episodes follow the untrained order of actions (4 searches, 12 pages). A seed learns from a bootstrap
sample of the training questions; what ships learns from all of them once. Learning begins at the episode's own order (weight 1 for its
chance) and is pulled back to it. The columns were chosen while looking at the training questions alone, the pull with them (4 folds) and
the demo site's `train` questions. The other set are the two-hop questions of that site's long articles, of which nothing was learned; the
demo rows are of the splits that nothing was chosen on. Gold pages teach and score; no column sees them. Measured episodes are kept under
the cache folder: `--fresh` forgets them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _scoring import interval, mean, score_interval, token_f1
from _table import Table, skip_without
from agent import Passages

from lightbulb.agent.configuration import Budget
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.page_order import ORDER_FEATURES, PageOrder
from lightbulb.agent.tools import Tools, load_judge
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.cache import content_key
from lightbulb.core.records import Document
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.ranking import RankingList, RankingModel, load_cross_encoder
from lightbulb.reading.reader import SpanReader
from lightbulb.web.demo_site import demo_questions, load_articles

GROUPS = {
    "the chain of names": ("chance", "name", "answer", "chain"),
    "who mentions whom": ("told_by_subject", "tells_subject"),
    "the cross-encoder": ("question_fit", "step_fit"),
    "the ranking": ("ranking",),
    "kind, place, length, subject": ("of_kind", "place", "length", "is_subject"),
}


PULL = 0.3  # to the episode's own order


@dataclass(frozen=True)
class Measured:
    "A finished episode: its pages in the order of reading."

    features: np.ndarray  # (n, F)
    gains: np.ndarray  # (n,)
    own: tuple[int, ...]  # the episode's own order

    def hit(self, order: Sequence[int], k: int = 1) -> float:
        "1 if a gold page is among the first k."
        return float(any(self.gains[i] for i in list(order)[:k]))

    def columns(self, names: Sequence[str]) -> RankingList:
        return RankingList(self.features[:, [ORDER_FEATURES.index(name) for name in names]], self.gains)


class Set:
    "A collection with its questions."

    def __init__(self, name: str, pages: Sequence[dict[str, str]], questions: Sequence[dict[str, Any]], place: Path, embed: Any) -> None:
        self.name, self.questions, self.place = name, questions, place
        documents = [Document(f"http://two-hop/{i}", page["title"], page["text"]) for i, page in enumerate(pages)]
        self.site = Passages("two_hop", documents, embed, cache_folder("benchmarks"))
        self.rerank = load_cross_encoder()
        self.tools = Tools(self.site, SpanReader.load(), embed, self.rerank, weigh=load_judge(self.rerank))
        addresses: dict[str, str] = {}
        for url, page in self.site.documents.items():
            addresses.setdefault(page.title, url)
        self.tasks = [SearchTask(one["question"], frozenset(addresses[title] for title in one["gold_pages"])) for one in questions]
        self.file = place / f"{name}.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.kept = {row["question"]: row for row in map(json.loads, lines)}

    def agent(self, policy: str, searches: int = 4) -> AutonomousWebAgent:
        budget = SearchEnvConfig(budget=Budget(max_searches=searches, max_pages=12), max_steps=40)
        return AutonomousWebAgent(
            self.tools, env_config=budget, policy=policy, span_cache=cache_folder("benchmarks") / "agent_spans.sqlite"
        )

    def episodes(self, tasks: Sequence[SearchTask]) -> list[Measured]:
        "Play and measure, or find what was measured."
        agent = self.agent("ordered")
        order = PageOrder(agent.hops, self.tools.embed, self.rerank, model=RankingModel(ORDER_FEATURES))
        for number, task in enumerate(tasks):
            if task.question in self.kept: continue
            env, begin = agent.play(task).env, time.process_time()
            one, pages = order.labelled(env), env.evidence().pages
            urls = [page.url for page in pages]
            row = {
                "question": task.question,
                "titles": [page.title for page in pages],
                "features": np.round(one.features.astype(float), 4).tolist(),
                "gains": one.gains.tolist(),
                "own": [urls.index(page.url) for page in env.ranking()],
                "seconds": time.process_time() - begin,
            }
            self.kept[task.question] = row
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"  {self.name}: {number + 1} of {len(tasks)}", flush=True)
        rows = [self.kept[task.question] for task in tasks]
        shape = len(ORDER_FEATURES)
        return [
            Measured(np.array(row["features"], np.float32).reshape(-1, shape), np.array(row["gains"]), tuple(row["own"])) for row in rows
        ]


def taught(episodes: Sequence[Measured], names: Sequence[str] = ORDER_FEATURES, *, pull: float = PULL) -> RankingModel:
    "A model of these columns that learned from the episodes that read a gold page, held to the episode's own order."
    if not pull:
        model = RankingModel(names)
        model.fit([one.columns(names) for one in episodes if one.gains.any()])
        return model
    model = RankingModel(names, start={"chance": 1.0} if "chance" in names else {})
    model.fit([one.columns(names) for one in episodes if one.gains.any()], pull=pull, weight_decay=0.0)
    return model


def hits(model: RankingModel, episodes: Sequence[Measured], k: int = 1) -> list[float]:
    "Of each episode whether a gold page is among the first k in the model's order."
    return [one.hit(np.argsort(-model.scores(one.columns(model.feature_names).features), kind="stable"), k) for one in episodes]


def over_seeds(
    learn: Sequence[Measured], test: Sequence[Measured], seeds: int, names: Sequence[str] = ORDER_FEATURES, *, pull: float = PULL
) -> list[float]:
    "hit@1 of each test question, its mean over bootstrap samples of the training episodes."
    runs = []
    for seed in range(seeds):
        places = np.random.default_rng(seed).integers(0, len(learn), len(learn))
        runs.append(hits(taught([learn[i] for i in places], names, pull=pull), test))
    return np.mean(runs, 0).tolist()


def demo_set(place: Path, embed: Any) -> Set:
    "The articles of the demo site, and all its questions with gold pages."
    articles = [{"title": article.title, "text": article.text} for article in load_articles().values()]
    questions = [
        {"question": one.question, "gold_pages": one.gold_pages, "answer": one.answers} for one in demo_questions() if one.gold_pages
    ]
    return Set("demo", articles, questions, place, embed)


def chains(demo: Set, *, is_training: bool) -> list[SearchTask]:
    "The questions of the demo site, of the split `train` or of the others, whose last step asks about a name that they do not say."
    hops, training = demo.agent("ordered").hops, {one.question for one in demo_questions() if one.split == "train"}
    asked = [task for task in demo.tasks if (task.question in training) == is_training]
    return [task for task in asked if "Xyzzy" in hops.question_of(task.question, "Xyzzy")]  # as `PageOrder.is_chain` tells them


def report_orders(table: Table, held_out: Sequence[Measured], seen: Sequence[Measured], demo: Set, args: argparse.Namespace) -> None:
    "How often each order puts a gold page first."
    own = [one.hit(one.own) for one in held_out]

    def row(name: str, values: Sequence[float], base: Sequence[float] = own, aim: str = "", met: bool | None = None) -> None:
        gaps = [a - b for a, b in zip(values, base, strict=True)]
        (low, high), (below, above) = score_interval(values), interval(gaps)
        text = f"hit@1 {mean(values):.3f} ({low:.3f} to {high:.3f})"
        if values is not base:
            text += f", {mean(gaps):+.3f} ({below:+.3f} to {above:+.3f})"
        table.row(name, text, aim, met)

    where = f"two-hop, {len(held_out)} held-out questions, {len(seen)} learned from"
    row(f"{where}: the episode's own order (untrained)", own)
    table.row(f"{where}: a gold page was read", f"{mean([one.hit(one.own, 12) for one in held_out]):.3f}: the ceiling of any order")
    learned = over_seeds(seen, held_out, args.seeds)
    is_better = interval([a - b for a, b in zip(learned, own, strict=True)])[0] > 0
    met = None if args.quick else mean(learned) >= 0.8 and is_better
    row(f"{where}: learned order, {args.seeds} seeds", learned, own, "hit@1 0.80, above the own order (95%)", met)
    row(f"{where}: learned order, all training questions (ships)", hits(taught(seen), held_out))
    row(f"{where}: learned order without a pull to the own order, {args.seeds} seeds", over_seeds(seen, held_out, args.seeds, pull=0))
    for name, group in GROUPS.items():
        rest = [feature for feature in ORDER_FEATURES if feature not in group]
        row(f"learned order without {name}", over_seeds(seen, held_out, args.seeds, rest), learned)
    for name in ("told_by_subject", "chain", "step_fit", "ranking"):
        values = [one.hit(np.argsort(-one.features[:, ORDER_FEATURES.index(name)], kind="stable")) for one in held_out]
        row(f"{name} alone", values)
    for count in (8, 16, 32):
        if count < len(seen):
            row(f"learned from {count} questions", over_seeds(seen[:count], held_out, args.seeds))
    if args.demo:
        episodes = demo.episodes(chains(demo, is_training=False)[: args.demo])
        base = [one.hit(one.own) for one in episodes]
        name = f"demo site, {len(episodes)} two-hop questions, nothing learned there"
        row(f"{name}: the episode's own order", base, base)
        learned = over_seeds(seen, episodes, args.seeds)
        row(f"{name}: learned order, {args.seeds} seeds", learned, base, "not below the own order", mean(learned) >= mean(base))
        row(f"{name}: learned order, all training questions (ships)", hits(taught(seen), episodes), base)
        row(
            f"{name}: learned order without a pull to the own order, {args.seeds} seeds",
            over_seeds(seen, episodes, args.seeds, pull=0),
            base,
        )
        table.row(f"{name}: a gold page was read", f"{mean([one.hit(one.own, 12) for one in episodes]):.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: what was measured before, or four questions")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--learn", type=int, default=115, help="training questions, at most 115")
    parser.add_argument("--questions", type=int, default=116, help="test questions, at most 116")
    parser.add_argument("--demo", type=int, default=1000, help="two-hop questions of the demo site at most")
    parser.add_argument("--answers", type=int, default=0, help="test questions that are also answered, at seconds each")
    parser.add_argument("--only_answers", action="store_true", help="the rows of answers alone; the recorded others stay")
    parser.add_argument("--demo_answers", type=int, default=0, help="training questions of the demo site that are also answered")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ship", type=Path, help="write the weights of all training questions to this file, as they ship")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = args.data / "two_hop"
    skip_without(folder)
    read = lambda name: [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    pages, questions = read("pages.jsonl"), read("questions.jsonl")
    place = cache_folder("benchmarks") / f"page_order_{content_key(*ORDER_FEATURES)[:8]}"
    if args.quick:
        gold = {title for question in questions[:8] for title in question["gold_pages"]}
        pages = [page for page in pages if page["title"] in gold] + pages[:150]
        args.learn, args.questions, args.demo, args.answers, place = 4, 4, 0, 0, place.with_name(f"{place.name}_quick")
    if args.fresh:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    table = Table("The order of an episode's pages" + (" (quick)" if args.quick else ""), packages=("onnxruntime", "gymnasium"))
    two_hop = Set("two_hop", pages, questions[:8] if args.quick else questions, place, embed)
    test, learn = two_hop.tasks[::2][: args.questions], two_hop.tasks[1::2][: args.learn]
    both = two_hop.episodes([task for pair in zip(test, learn, strict=False) for task in pair])  # in turn: a stopped run has both
    del both
    held_out, seen = two_hop.episodes(test), two_hop.episodes(learn)
    demo = demo_set(place, embed)
    if not args.only_answers:
        report_orders(table, held_out, seen, demo, args)
    if args.ship:
        taught(seen).save(args.ship)
    for one, where, tasks in (
        (two_hop, "two-hop, first {} held-out questions", test[: args.answers]),
        (demo, "demo site, first {} two-hop training questions", chains(demo, is_training=True)[: args.demo_answers]),
    ):
        if tasks:
            report_answers(table, where.format(len(tasks)), answered(one, tasks, taught(seen)))
    seconds = mean([two_hop.kept[task.question]["seconds"] for task in test])
    table.note(
        f"Differences are to the row of the own order, of a row *without* to the learned order; measuring an episode: {seconds:.1f} CPU-s."
    )
    table.note(
        "A seed is a bootstrap sample of the training questions; intervals are bootstraps over test questions, seeds averaged first."
    )
    table.note(
        "Answers are written from the pages in either order; until one of them answers better, the learned order is off until it is set."
    )
    return table.finish(args.record and not args.quick, keeps_others=args.only_answers)


LEARNED = "ordered, learned order without a cross-encoder, 4 searches"
ANSWERED = {  # policy, searches, whether the pages are put in the learned order
    "fixed, 8 searches": ("fixed", 8, False),
    "fixed, 4 searches": ("fixed", 4, False),
    "ordered, own order, 4 searches": ("ordered", 4, False),
    LEARNED: ("ordered", 4, True),
}


@dataclass(frozen=True)
class Answered:
    "What a user gets of one question."

    f1: float  # 0 where it was refused
    first: float  # whether the first page named is gold
    seconds: float  # of a processor, from the question to its answer


def answered(one: Set, tasks: Sequence[SearchTask], model: RankingModel) -> dict[str, list[Answered]]:
    "What `answer()` says after each policy; question by question, so that a stopped run has as many of each. Nothing read is remembered."
    golds = {question["question"]: question["answer"] for question in one.questions}
    file = one.place / f"answers_{one.name}.jsonl"
    kept = {(row["question"], row["name"]): row for row in map(json.loads, file.read_text().splitlines() if file.exists() else [])}
    agents = {name: one.agent(policy, searches) for name, (policy, searches, _) in ANSWERED.items()}
    for name, agent in agents.items():
        agent.hops._cache = None
        if ANSWERED[name][2]:
            agent.page_order = PageOrder(agent.hops, one.tools.embed, model=model)  # a cross-encoder takes a second
    if any((task.question, name) not in kept for task in tasks for name in agents):
        next(iter(agents.values())).run_episode("When was the Eiffel Tower built?")  # loads the models
    for number, task in enumerate(tasks):
        for name, agent in agents.items():
            if (task.question, name) in kept: continue
            begin = time.process_time()
            answer = agent.run_episode(task.question, task=task).answer
            spent, gold = time.process_time() - begin, golds[task.question]
            f1 = 0.0 if answer.refused else token_f1(answer.short_answer or answer.text, [gold] if isinstance(gold, str) else gold)
            row = {
                "question": task.question,
                "name": name,
                "f1": f1,
                "first": float(bool(answer.pages) and answer.pages[0][0] in task.gold_urls),
                "seconds": round(spent, 3),
            }
            kept[task.question, name] = row
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
        print(f"  {one.name}: {number + 1} of {len(tasks)} answered", flush=True)
    return {
        name: [Answered(*(kept[task.question, name][part] for part in ("f1", "first", "seconds"))) for task in tasks] for name in agents
    }


def report_answers(table: Table, where: str, results: dict[str, list[Answered]]) -> None:
    "Each policy, and how far it is above the one before whose place it would take."
    for name, values in results.items():
        means = {part: mean([getattr(value, part) for value in values]) for part in ("f1", "first", "seconds")}
        text = f"F1 as the user sees it {means['f1']:.3f}, first page is gold {means['first']:.3f}, {means['seconds']:.1f} CPU-s a question"
        table.row(f"{where}, answers: {name}", text)
    for name, other in (
        (LEARNED, "ordered, own order, 4 searches"),
        (LEARNED, "fixed, 4 searches"),
        (LEARNED, "fixed, 8 searches"),
    ):
        parts = []
        for part, what in (("f1", "F1"), ("first", "first page is gold"), ("seconds", "CPU-s")):
            gaps = [getattr(a, part) - getattr(b, part) for a, b in zip(results[name], results[other], strict=True)]
            low, high = interval(gaps)
            parts.append(f"{what} {mean(gaps):+.3f} ({low:+.3f} to {high:+.3f})")
        table.row(f"{where}, answers: {name} above {other}", ", ".join(parts))


if __name__ == "__main__":
    sys.exit(main())
