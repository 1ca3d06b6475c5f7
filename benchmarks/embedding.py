"""Which embedder and which mix are the default: Cranfield nDCG@10 through the knowledge base, and sentences per CPU-second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from _cranfield import mean_ndcg, read_cranfield
from _table import Table, arguments, skip_without

from lightbulb.core.cache import content_key
from lightbulb.core.records import Passage
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.chunks import split_sentences
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase, KnowledgeBaseConfig
from lightbulb.knowledge.ranking import load_cross_encoder

NAMES = {"bge-small": "bge-small-en-v1.5 (ONNX, 8 bit)", "minilm": "all-MiniLM-L6-v2 (sentence-transformers)"}


def pages(passages: Iterable[Passage]) -> list[str]:
    "The URLs of the passages, each once, in order."
    return list(dict.fromkeys(passage.url for passage in passages))


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], constant: int = 60) -> list[str]:
    "Pages by the sum of 1 / (60 + rank) (Cormack et al. 2009)."
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, url in enumerate(ranking, start=1):
            scores[url] = scores.get(url, 0.0) + 1 / (constant + rank)
    return sorted(scores, key=lambda url: -scores[url])


def main() -> int:
    args = arguments(__doc__ or "")
    skip_without(args.data / "cranfield")
    documents, queries, judgements = read_cranfield(args.data / "cranfield")
    numbers = range(1, len(queries) + 1)
    if args.quick:
        documents = documents[:250]
        kept = {document.url for document in documents}
        judgements = {number: {url: grade for url, grade in judged.items() if url in kept} for number, judged in judgements.items()}
        numbers = [number for number in numbers if any(grade > 0 for grade in judgements.get(number, {}).values())][:40]
    table = Table(
        "Embedders and mixes on Cranfield" + (f" (quick: {len(documents)} documents, {len(numbers)} queries)" if args.quick else ""),
        ("onnxruntime", "sentence-transformers"),
    )
    sentences = [document.text[start:end] for document in documents[:60] for start, end in split_sentences(document.text)][
        : 100 if args.quick else 300
    ]
    speed, dense_score = {}, {}

    def report(name: str, rankings: dict[int, list[str]], aim: str = "", ok: bool | None = None) -> float:
        value, other = (mean_ndcg(rankings, judgements, drop_undefined=drop) for drop in (True, False))
        table.row(f"nDCG@10, {name}", f"{value:.3f} ({other:.3f} with −1 as grade 1)", aim, ok)
        return value

    for short, long in NAMES.items():
        embed = load_embedder(short, num_threads=1)
        embed(sentences[:8], query=True)
        started = time.process_time()
        embed(sentences)
        speed[short] = len(sentences) / (time.process_time() - started)
        kept_vectors = cache_folder("benchmarks") / f"cranfield-{content_key(short)[:8]}.sqlite"
        with KnowledgeBase(":memory:", embed=load_embedder(short, num_threads=1, cache_path=kept_vectors)) as base:
            base.add(documents)
            search = lambda mode, k=100: {number: base.search(queries[number - 1], k, mode=mode) for number in numbers}
            keyword, dense, hybrid = (
                {number: pages(found) for number, found in search(mode).items()} for mode in ("keyword", "dense", "hybrid")
            )
            fused = {number: reciprocal_rank_fusion([keyword[number], dense[number]]) for number in numbers}
            if short == "bge-small":
                report("BM25 of the knowledge base (title × 4)", keyword)
            dense_score[short] = report(f"{long} alone", dense)
            rrf = report(f"BM25 + {short}, RRF", fused)
            aim = "" if args.quick or short != "bge-small" else f"> RRF's {rrf:.3f}"
            value = mean_ndcg(hybrid, judgements)
            report(
                f"BM25 + {short}, z-score mix: the default hybrid" if short == "bge-small" else f"BM25 + {short}, z-score mix",
                hybrid,
                aim,
                value > rrf if aim else None,
            )
            if short == "bge-small":
                base.rerank = load_cross_encoder(num_threads=1)
                some = list(numbers)[: 10 if args.quick else 75]
                report(
                    f"the same, reranked by the cross-encoder (first {len(some)} queries)",
                    {number: pages(base.search(queries[number - 1], 20)) for number in some},
                )
                report(f"the same {len(some)} queries without reranking", {number: hybrid[number] for number in some})
    if not args.quick:
        config = KnowledgeBaseConfig(max_words=1000)
        with KnowledgeBase(
            ":memory:", embed=load_embedder(num_threads=1, cache_path=cache_folder("benchmarks") / "cranfield-whole.sqlite"), config=config
        ) as base:
            base.add(documents)
            for mode in ("dense", "hybrid"):
                report(
                    f"bge-small, {mode}, whole abstracts instead of chunks",
                    {number: pages(base.search(queries[number - 1], 100, mode=mode)) for number in numbers},
                )
    for short, long in NAMES.items():
        table.row(f"sentences per CPU-second, {long}", f"{speed[short]:.0f}")
    best = dense_score["bge-small"] >= dense_score["minilm"] and speed["bge-small"] >= speed["minilm"]
    table.row(
        "the default embedder ranks better and is faster",
        f"{dense_score['bge-small'] - dense_score['minilm']:+.3f}, × {speed['bge-small'] / speed['minilm']:.2f}",
        "both" if not args.quick else "",
        best if not args.quick else None,
    )
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
