"""What the judge and the ranking learn from the agent's file of episodes: how they choose on episodes that they did not see.

The untrained agent plays questions over the 95 paragraphs of XQuAD; the episodes are kept as `train_agent` keeps them. Of every second
paragraph's questions the right paragraph is known and learned from; the others' questions are judged by their gold answers, which nothing
learned from. How far the new lists may move the judge is chosen on half of the learning questions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _scoring import interval, mean, token_f1
from _table import Table, arguments, skip_without
from agent import Passages

from lightbulb.agent.configuration import Budget
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.episodes import EpisodeFile, gains_of, judged_of
from lightbulb.agent.tools import Tools
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.records import Document
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.page_ranking import PageRanker
from lightbulb.knowledge.ranking import RankingList, RankingModel, load_cross_encoder, ndcg
from lightbulb.reading.judge import Judge, LabelledCandidates, fit_judge
from lightbulb.reading.reader import SpanReader

RIDGES = (1.0, 0.1, 0.01)


def log_share(judge: Judge, lists: Sequence[LabelledCandidates]) -> float:
    "How surely the spans of the right page are chosen, nats."
    shares = [float(judge.shares(one.question, one.candidates)[:-1][list(one.right)].sum()) for one in lists]
    return mean([float(np.log(max(share, 1e-6))) for share in shares])


def main() -> int:
    args = arguments((__doc__ or "").splitlines()[0])
    skip_without(args.data / "reading")
    torch.set_num_threads(1)
    count = 6 if args.quick else 80
    table = Table("Learning from episodes" + (" (quick)" if args.quick else ""), ("onnxruntime", "transformers"))
    rows = [json.loads(line) for line in (args.data / "reading" / "xquad_en.jsonl").read_text(encoding="utf-8").splitlines()]
    pages = [Document(f"http://xquad/{i}", row["title"], row["text"]) for i, row in enumerate(rows)]
    embed, reader, rerank = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite"), SpanReader.load(), load_cross_encoder()
    asked = [
        [(q["question"], i, [a["text"] for a in q["answers"]]) for i in range(half, len(rows), 2) for q in rows[i]["questions"]]
        for half in (0, 1)
    ]
    chosen = [[part[k] for k in np.random.default_rng(0).permutation(len(part))[:count]] for part in asked]
    budget = SearchEnvConfig(budget=Budget(max_searches=2, max_pages=4))
    agent = AutonomousWebAgent(
        Tools(Passages("xquad", pages, embed, cache_folder("benchmarks")), reader, embed), policy="ordered", env_config=budget
    )
    read = lambda question, texts: reader.read(question, texts, top_k=8)
    kept, judged = list[list[dict]](), list[list[LabelledCandidates]]()
    with tempfile.TemporaryDirectory() as folder:
        for half, part in enumerate(chosen):
            file = EpisodeFile(Path(folder, f"{half}.jsonl"), with_failures=True)
            for question, _, _ in part:
                file.append(agent.play(SearchTask(question)).row())
            kept.append(file.read())
            judged.append(judged_of(file.read(), {question: {pages[i].url} for question, i, _ in part}, read, rerank))
    golds = {question: answers for question, _, answers in chosen[1]}
    held_out, learn = [one for one in judged[1] if one.candidates], [one for one in judged[0] if any(one.right)]
    former = Judge.load()
    by_ridge = {ridge: log_share(fit_judge(learn[::2], ridge=ridge, former=former), learn[1::2]) for ridge in RIDGES}
    ridge = max(by_ridge, key=lambda one: by_ridge[one])
    after = fit_judge(learn, ridge=ridge, former=former)
    table.row(
        "episodes learned from, with the right page among what was kept; judged", f"{len(learn)} of {len(judged[0])}; {len(held_out)}"
    )

    def row(name: str, before: Sequence[float], now: Sequence[float], aim: str = "") -> None:
        low, high = interval([b - a for a, b in zip(before, now, strict=True)])
        gap = mean(now) - mean(before)
        table.row(
            name,
            f"{mean(before):.3f} → {mean(now):.3f}, {gap:+.3f} ({low:+.3f} to {high:+.3f})",
            aim,
            low > 0 if aim and not args.quick else None,
        )

    first = lambda judge: [token_f1(judge.judge(one.question, one.candidates)[0].text, golds[one.question]) for one in held_out]
    row(f"judge: F1 of its first answer (pull {ridge})", first(former), first(after), "interval above 0")
    shares = [
        [float(judge.shares(one.question, one.candidates)[:-1][list(one.right)].sum()) for one in held_out] for judge in (former, after)
    ]
    row("judge: share of the spans on the right page", *shares)
    best = [max((token_f1(one.text, golds[item.question]) for one in item.candidates), default=0.0) for item in held_out]
    table.row("the best span that a judge could choose: F1", f"{mean(best):.3f}")
    ranker = PageRanker(pages, embed)
    lists = [ranker.labelled(question, gains) for question, gains in gains_of(kept[0]).items()]
    truth = [ranker.labelled(question, {pages[i].url: 1.0}) for question, i, _ in chosen[1]]
    model = RankingModel.load()
    value = lambda: [float(ndcg(model.scores(one.features), one.gains)) for one in truth]
    before, useful = value(), list[RankingList](one for one in lists if one.gains.any())
    model.update(useful)
    row("ranking: nDCG@10 of pages", before, value(), "interval above 0")
    table.note("The ranking learns from what was kept, the judge from which page is right; both begin from the weights that ship.")
    table.note("The reader does not learn from episodes: they hold no spans that are known to be right.")
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
