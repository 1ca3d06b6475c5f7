"""Two orders of searches in `answer()` on the same two-hop questions: first the names of the subject's own page, or the whole question.

Every second question, from the first on, is asked (the web agent is trained on the others), in a fixed random order. Answers and gold pages
are used for scoring alone. With `--keep FILE` each answer is written down as it comes, and a run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from _scoring import hit, interval, mean, token_f1
from _table import Table, skip_without
from two_hop import _some, site

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.configuration import ReasoningConfig
from lightbulb.agent.tools import Tools, load_judge
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.lm.language_model import load_language_model
from lightbulb.reading.reader import SpanReader
from lightbulb.web.search import load_search

ORDERS = {"names first": True, "question first": False}
Row = dict[str, Any]


def asked(questions: list[Row], limit: int) -> list[Row]:
    "Every second question, the first `limit` of them in a fixed random order."
    numbered = [question | {"id": f"two_hop-{i}"} for i, question in enumerate(questions) if i % 2 == 0]
    return sorted(numbered, key=lambda question: hashlib.sha256(question["id"].encode()).digest())[:limit]


def rows(questions: list[Row], tools: Tools, kept: dict[tuple[str, str], Row]) -> Iterator[Row]:
    "What is measured of each question in each order; both orders of a question one after the other."
    for question in questions:
        for order, names_first in ORDERS.items():
            if (question["id"], order) in kept: continue
            chosen = replace(tools, reasoning=ReasoningConfig(names_first=names_first))
            begin, cpu = time.monotonic(), time.process_time()
            *_, result = answer(question["question"], TestAgent(max_seconds=600), tools=chosen)
            assert isinstance(result, Answer)
            titles = [title for _, title in result.pages]
            best = result.short_answer or result.trace.span
            yield {
                "id": question["id"],
                "order": order,
                "F1 as the user sees it": 0.0 if result.refused else token_f1(result.short_answer, [question["answer"]]),
                "F1 with refusals as their best guess": token_f1(best, [question["answer"]]),
                "refused": float(result.refused),
                "hit@1": hit(titles, question["gold_pages"], 1),
                "hit@10": hit(titles, question["gold_pages"], 10),
                "searches": result.cost.searches,
                "CPU-seconds": time.process_time() - cpu,
                "seconds": time.monotonic() - begin,
            }


def report(table: Table, questions: list[Row], kept: dict[tuple[str, str], Row]) -> None:
    both = [question["id"] for question in questions if all((question["id"], order) in kept for order in ORDERS)]
    if not both: return
    new, old = ([kept[name, order] for name in both] for order in ORDERS)
    for what in [name for name in new[0] if name not in ("id", "order")]:
        ours, theirs = [row[what] for row in new], [row[what] for row in old]
        low, high = interval([a - b for a, b in zip(ours, theirs, strict=True)])
        digits = 1 if what.endswith(("searches", "seconds")) else 3
        table.row(
            f"{what} ({len(both)} questions)",
            f"names first {mean(ours):.{digits}f}, question first {mean(theirs):.{digits}f}, "
            f"difference {low:+.{digits}f} to {high:+.{digits}f}",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two questions over few pages")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--limit", type=int, default=24, help="how many questions")
    parser.add_argument("--keep", type=Path, help="a file where rows are written down, and found again")
    parser.add_argument("--only_kept", action="store_true", help="ask nothing: report on the rows in --keep")
    args = parser.parse_args()
    folder: Path = args.data / "two_hop"
    skip_without(folder)
    pages, questions = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("pages.jsonl", "questions.jsonl")
    )
    questions = asked(questions, 2 if args.quick else args.limit)
    pages = _some(pages, questions) if args.quick else pages
    table = Table("Orders of searches in answering, two-hop", packages=("transformers", "onnxruntime"))
    kept: dict[tuple[str, str], Row] = {}
    if args.keep and args.keep.is_file():
        kept = {(row["id"], row["order"]): row for row in map(json.loads, args.keep.read_text(encoding="utf-8").splitlines())}
    if not args.only_kept:
        embed, rerank = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite"), load_cross_encoder()
        with site(pages) as server:
            search = load_search(
                f"site:{server.url}",
                make_index=lambda: KnowledgeBase(":memory:", embed=embed),
                allow_hosts=(f"127.0.0.1:{server.port}",),
                max_crawl_pages=len(pages) + 100,
            )
            tools = Tools(search, SpanReader.load(), embed, rerank, load_language_model("smollm2"), weigh=load_judge(rerank))
            for row in rows(questions, tools, kept):
                kept[row["id"], row["order"]] = row
                print(f"  {row}", flush=True)
                if args.keep:
                    with args.keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    report(table, questions, kept)
    return table.finish(args.record and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
