"""Are RAGSummarizer's summaries better supported than the first sentences of the pages?

Questions of the demo site's `report` split; the pages that a hybrid search finds for each (gold pages are not handed in).
A sentence counts as *supported* if it is (a) entailed by the ranges cited for it, and (b) about the question.

(a) is checked by rules that know nothing of embeddings: every number and name, and 70% of the content words, stand in
    the cited ranges or their page's title, and the ranges are verbatim. The summarizer holds its drafts to stricter rules
    of the same kind, so for its own rows this is a check that nothing slipped past; the first sentences cite themselves.
(b) is judged by all-MiniLM, which takes no part in choosing (bge-small and a cross-encoder do): the sentence, with its
    page's title, is among the nearest tenth of all sentences of the pages at hand.

Beside it a measure without any model: does the summary hold an accepted answer?
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _table import Table, arguments

from lightbulb.core.records import Document, Passage
from lightbulb.knowledge.chunks import split_sentences
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.knowledge.summarizer import RAGSummarizer, SummarizerConfig
from lightbulb.knowledge.support import contradicts, coverage
from lightbulb.lm.language_model import load_language_model
from lightbulb.web.demo_site import demo_questions, load_articles


def entailed(text: str, passages: tuple[Passage, ...], pages: dict[str, Document]) -> bool:
    "Rule (a)."
    if not passages or any(pages[p.url].text[p.start : p.end] != p.text for p in passages): return False
    cited = " ".join(f"{p.title}. {p.text}" for p in passages)
    return not contradicts(text, cited) and coverage(text, cited) >= 0.7


class Judge:
    "Rule (b): percentiles by an embedder that took no part."

    def __init__(self) -> None:
        self.embed = load_embedder("minilm")

    def about(self, question: str, sentences: list[tuple[str, str]], passages: list[Passage]) -> list[bool]:
        pool = [f"{p.title}: {p.text[s:e]}" for p in passages for s, e in split_sentences(p.text)]
        (asked,) = self.embed([question])
        limit = np.quantile(self.embed(pool) @ asked, 0.9)
        return (
            [bool(value >= limit) for value in self.embed([f"{title}: {text}" for title, text in sentences]) @ asked] if sentences else []
        )


def first_sentences(pages: list[Document], k: int, spread: bool) -> list[Passage]:
    "The first k sentences of the best page, or the first one of each page in turn."
    chosen = []
    for rank, page in enumerate(pages):
        for start, end in split_sentences(page.text)[: (1 if spread else k)]:
            chosen.append(Passage(page.url, page.title, start, end, page.text[start:end], -float(rank)))
    return chosen[:k]


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    table = Table("Summaries and their support", ("transformers", "onnxruntime"))
    pages = {f"demo:{slug}": Document(f"demo:{slug}", article.title, article.text) for slug, article in load_articles().items()}
    embed, rerank, judge = load_embedder(), load_cross_encoder(), Judge()
    base = KnowledgeBase(":memory:", embed=embed)
    base.add(pages.values())
    questions = [q for q in demo_questions("report") if q.answers][: (6 if options.quick else 60)]
    model = load_language_model("smollm2")
    folder = Path(tempfile.mkdtemp())
    makers = {
        "checked draft (default)": RAGSummarizer(
            model.generate, embed, rerank=rerank, count_tokens=model.count_tokens, cache_path=folder / "a.sqlite"
        ),
        "extractive": RAGSummarizer(model.generate, embed, rerank=rerank, config=SummarizerConfig(mode="extractive")),
        "extractive, no cross-encoder": RAGSummarizer(model.generate, embed, config=SummarizerConfig(mode="extractive")),
    }
    names = [*makers, "free draft, unchecked", "first k sentences of the best page", "first sentence of each page"]
    counts = {
        name: {"supported": 0, "entailed": 0, "about": 0, "sentences": 0, "answered": 0, "written": 0, "seconds": []} for name in names
    }

    def record(
        name: str, question: str, answers: tuple[str, ...], said: list[tuple[str, tuple[Passage, ...]]], found: list[Passage]
    ) -> None:
        count = counts[name]
        about = judge.about(question, [(passages[0].title if passages else "", text) for text, passages in said], found)
        holds = [entailed(text, passages, pages) for text, passages in said]
        count["supported"] += sum(a and b for a, b in zip(about, holds, strict=True))
        count["entailed"] += sum(holds)
        count["about"] += sum(about)
        count["sentences"] += len(said)
        text = " ".join(text for text, _ in said).casefold()
        count["answered"] += any(answer.casefold() in text for answer in answers)

    rejected = 0
    makers["checked draft (default)"].summarize("What is light?", base.search("What is light?", 4))  # models are loaded
    for item in questions:
        found = base.search(item.question, 8)
        ranked = list({passage.url: pages[passage.url] for passage in found}.values())
        size = 4
        for name, maker in makers.items():
            started = time.process_time()
            summary = maker.summarize(item.question, found)
            counts[name]["seconds"].append(time.process_time() - started)
            counts[name]["written"] += sum(sentence.origin == "written" for sentence in summary.sentences)
            record(name, item.question, item.answers, [(sentence.text, sentence.passages) for sentence in summary.sentences], found)
            if maker is makers["checked draft (default)"]:
                rejected, size = rejected + summary.num_rejected, len(summary.sentences) or 4
        started = time.process_time()
        listed = "\n".join(f"{p.title}: {p.text}" for p in found[:4])
        draft = model.generate([f"{listed}\n\nAnswer in at most four sentences: {item.question}"], max_new_tokens=96)[0]
        counts["free draft, unchecked"]["seconds"].append(time.process_time() - started)
        record(
            "free draft, unchecked", item.question, item.answers, [(draft[s:e], tuple(found[:4])) for s, e in split_sentences(draft)], found
        )
        for name, spread in (("first k sentences of the best page", False), ("first sentence of each page", True)):
            chosen = first_sentences(ranked, size, spread)
            record(name, item.question, item.answers, [(p.text, (p,)) for p in chosen], found)
    share = {name: count["supported"] / max(count["sentences"], 1) for name, count in counts.items()}
    bar = max(share["first k sentences of the best page"], share["first sentence of each page"])
    for name, count in counts.items():
        total = max(count["sentences"], 1)
        seconds = f"; {np.median(count['seconds']):.1f} CPU-s (slowest {max(count['seconds']):.1f})" if count["seconds"] else ""
        measured = (
            f"supported {share[name]:.3f} (entailed {count['entailed'] / total:.3f}, about the question {count['about'] / total:.3f}); "
            f"answer held {count['answered'] / len(questions):.3f}; {count['written']} of {count['sentences']} sentences written{seconds}"
        )
        ours = name == "checked draft (default)"
        table.row(name, measured, f"supported > {bar:.3f}" if ours else "", share[name] > bar if ours else None)
    ours = counts["checked draft (default)"]
    table.row(
        "every sentence entailed by its citation",
        f"{ours['entailed']} of {ours['sentences']}",
        "all",
        ours["entailed"] == ours["sentences"],
    )
    table.row("a summary takes, median", f"{np.median(ours['seconds']):.1f} CPU-s", "≤ 8 CPU-s", bool(np.median(ours["seconds"]) <= 8))
    table.note(f"{len(questions)} questions; {rejected} sentences of the model's drafts found no support and were replaced.")
    caches(table, makers["checked draft (default)"], questions[0].question, base, folder)
    return table.finish(options.record)


def caches(table: Table, maker: RAGSummarizer, question: str, base: KnowledgeBase, folder: Path) -> None:
    "Rows for the caches: what a repeated question costs."
    calls = []
    real = maker.generate

    class Counted:
        name = real.__self__.name  # type: ignore[attr-defined]

        def generate(self, prompts, **options):
            calls.append(1)
            return real(prompts, **options)

    found = base.search(question, 8)
    again = RAGSummarizer(Counted().generate, maker.embed, rerank=maker.rerank, cache_path=folder / "a.sqlite")
    started = time.process_time()
    hit = again.summarize(question, found)
    table.row(
        "the same question after a restart",
        f"{len(calls)} model calls, {1000 * (time.process_time() - started):.0f} ms",
        "0 calls",
        not calls and hit.from_cache,
    )
    changed = [Passage(p.url, p.title, p.start, p.end, p.text[:-1] + "!", p.score) for p in found]
    again.summarize(question, changed)
    table.row("the same question, a page changed", f"{len(calls)} model call", "1 call", len(calls) == 1)


if __name__ == "__main__":
    sys.exit(main())
