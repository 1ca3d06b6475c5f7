"""Two-hop questions over encyclopedia passages, served as a site on the loopback, crawled, searched and read.

The passages become one page each, without links between them; an index of pages leads the crawler to them. A query, a title look-up and a
link followed all count as one search. Gold answers and gold pages are used for scoring alone.
"""

from __future__ import annotations

import html
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from _scoring import exact_match, hit, interval, mean, normalize, token_f1
from _table import Table, arguments, skip_without

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.tools import Tools, load_judge
from lightbulb.core.runtime import cache_folder
from lightbulb.reading.answer_kinds import COUNTRY_OF
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.reader import SpanReader
from lightbulb.lm.language_model import load_language_model
from lightbulb.web.reactor import Request, Response, serve
from lightbulb.web.search import load_search

PAGE = (
    "<!doctype html><html lang=en><head><title>{title}</title></head>"
    "<body><main><article><h1>{title}</h1><p>{text}</p></article></main></body></html>"
)
PROMPT = "Answer the question with a few words from the text.\n\nText: {text}\n\nQuestion: {question}\nAnswer:"


def site(pages: list[dict[str, str]]):
    "The passages as a site: a start page, lists of 200 links, one page a passage."
    lists = range(0, len(pages), 200)

    def handler(request: Request) -> Response:
        if request.path == "/robots.txt": return Response(body=b"User-agent: *\nAllow: /\n", content_type="text/plain")
        if request.path == "/":
            return _listing("Contents", [(f"/list/{first}", f"Pages from {first}") for first in lists])
        kind, _, number = request.path.strip("/").partition("/")
        if kind == "list" and number.isdigit():
            return _listing("List", [(f"/page/{i}", pages[i]["title"]) for i in range(int(number), min(int(number) + 200, len(pages)))])
        if kind == "page" and number.isdigit() and int(number) < len(pages):
            page = pages[int(number)]
            return Response(body=PAGE.format(title=html.escape(page["title"]), text=html.escape(page["text"])).encode())
        return Response(status=404, body=b"not here")

    return serve(handler)


def _listing(title: str, links: list[tuple[str, str]]) -> Response:
    items = "".join(f'<li><a href="{target}">{html.escape(text)}</a></li>' for target, text in links)
    return Response(
        body=f"<!doctype html><html lang=en><head><title>{title}</title></head><body><nav><ul>{items}</ul></nav></body></html>".encode()
    )


def main() -> int:
    args = arguments(__doc__ or "")
    folder: Path = args.data / "two_hop"
    skip_without(folder)
    pages = [json.loads(line) for line in (folder / "pages.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    if args.quick:
        questions, pages = questions[::20], _some(pages, questions[::20])
    table = Table(
        "Two-hop questions" + (" (quick: few questions, few pages)" if args.quick else ""),
        packages=("transformers", "onnxruntime", "sentence-transformers"),
    )
    embed, minilm = (
        load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite"),
        load_embedder("minilm", cache_path=cache_folder("embeddings") / "vectors.sqlite"),
    )
    with site(pages) as server:
        begin = time.monotonic()
        index = KnowledgeBase(":memory:", embed=embed)
        search = load_search(
            f"site:{server.url}", make_index=lambda: index, allow_hosts=(f"127.0.0.1:{server.port}",), max_crawl_pages=len(pages) + 100
        )
        search.search("start", 1)
        print(f"  crawled and indexed {len(index)} pages in {time.monotonic() - begin:.0f} s", flush=True)
        rerank = load_cross_encoder()
        tools = Tools(search, SpanReader.load(), embed, rerank, load_language_model("smollm2"), weigh=load_judge(rerank))
        one_query(table, index, minilm, pages, questions)
        results = [_answered(question["question"], tools) for question in questions]
        report(table, questions, results)
        one_prompt(table, tools, index, questions)
    table.note("Mechanisms were chosen while looking at every second of these questions, from the second on; answering.py has the others.")
    return table.finish(args.record and not args.quick)


def _some(pages: list[dict[str, str]], questions: list[dict]) -> list[dict[str, str]]:
    "The gold pages, the pages that share words with the questions' names, and some others: chosen without looking at answers."
    words = {word for question in questions for word in normalize(question["question"]).split() if len(word) > 5}
    gold = {title for question in questions for title in question["gold_pages"]}
    near = [page for page in pages if page["title"] in gold or len(words & set(normalize(page["title"]).split())) > 0]
    return near + [page for page in pages[::40] if page not in near]


def _answered(question: str, tools: Tools) -> Answer:
    result = [item for item in answer(question, TestAgent(), tools=tools) if isinstance(item, Answer)][0]
    trace = " > ".join((result.trace.subject, result.trace.bridge, result.trace.page, result.trace.span))
    print(f"  {question} -> {result.short_answer or '(refused)'} | {trace} | {result.confidence:.2f}, {result.cost}", flush=True)
    return result


def one_query(table: Table, index: KnowledgeBase, minilm, pages: list[dict[str, str]], questions: list[dict]) -> None:
    "The baselines of one search: BM25, MiniLM, their reciprocal rank fusion."
    vectors = minilm([f"{page['title']}. {page['text']}" for page in pages])
    ranks: dict[str, list[list[str]]] = {"BM25": [], "MiniLM": [], "RRF of both": []}
    for question in questions:
        keyword = list(dict.fromkeys(passage.title for passage in index.search(question["question"], 60, mode="keyword")))
        scores = vectors @ minilm([question["question"]], query=True)[0]
        dense = list(dict.fromkeys(pages[i]["title"] for i in (-scores).argsort()[:60]))
        fused: Counter[str] = Counter()
        for ranking in (keyword, dense):
            for place, title in enumerate(ranking):
                fused[title] += 1 / (60 + place)  # type: ignore[assignment]
        for name, ranking in zip(ranks, (keyword, dense, [title for title, _ in fused.most_common()]), strict=True):
            ranks[name].append(ranking)
    for name, rankings in ranks.items():
        table.row(
            f"one query, {name}: hit@10, hit@1",
            ", ".join(f"{mean([hit(r, q['gold_pages'], k) for r, q in zip(rankings, questions, strict=True)]):.3f}" for k in (10, 1)),
        )


def report(table: Table, questions: list[dict], results: list[Answer]) -> None:
    titles = [[title for _, title in result.pages] for result in results]
    hits = {k: [hit(t, q["gold_pages"], k) for t, q in zip(titles, questions, strict=True)] for k in (10, 1)}
    most = max(result.cost.searches for result in results)
    table.row(
        f"the tree: hit@10 with at most {most} searches (median {statistics.median(r.cost.searches for r in results):.0f})",
        f"{mean(hits[10]):.3f}",
        "≥ 0.97 with at most 8, ≥ 0.90 with at most 4",
        mean(hits[10]) >= (0.90 if most <= 4 else 0.97) and most <= 8,
    )
    table.row("the tree: hit@1", f"{mean(hits[1]):.3f}", "≥ 0.80", mean(hits[1]) >= 0.80)
    answers = [result.short_answer or result.trace.span for result in results]
    f1, em = (
        [token_f1(s, [q["answer"]]) for s, q in zip(answers, questions, strict=True)],
        [exact_match(s, [q["answer"]]) for s, q in zip(answers, questions, strict=True)],
    )
    seen = [0.0 if result.refused else score for result, score in zip(results, f1, strict=True)]
    for what, values in (("as the user sees it", seen), ("best candidate", f1)):  # a refusal counts as nothing, or as its best guess
        low, high = interval(values)
        text = f"{mean(values):.3f} ({low:.3f} to {high:.3f})"
        table.row(f"the tree, {what}: answer F1 ({len(values)} questions)", text, "≥ 0.60", mean(values) >= 0.60)
    table.row("the tree, best candidate: exact match", f"{mean(em):.3f}")
    table.row(
        "the same with demonyms and countries as one answer: F1, exact match",
        f"{mean([token_f1(s, accepted(q)) for s, q in zip(answers, questions, strict=True)]):.3f}, "
        f"{mean([exact_match(s, accepted(q)) for s, q in zip(answers, questions, strict=True)]):.3f}",
    )
    failures = Counter(_station(result, question, t) for result, question, t in zip(results, questions, titles, strict=True))
    table.row(
        "where it ended (gold page read? right page used? right span?)",
        ", ".join(f"{name} {count}" for name, count in failures.most_common()),
    )
    table.row(
        "cost of a question, medians",
        f"{statistics.median(r.cost.pages for r in results):.0f} pages, {statistics.median(r.cost.tokens for r in results):.0f} tokens, "
        f"{statistics.median(r.cost.seconds for r in results):.1f} s",
    )


def accepted(question: dict) -> list[str]:
    "The gold answer, and its demonym or country where a nationality or country is asked for."
    gold, asks = question["answer"], normalize(question["question"])
    if "nationality" not in asks and "country" not in asks: return [gold]
    return [gold, *(other for pair in COUNTRY_OF.items() if gold in pair for other in pair)]


def _station(result: Answer, question: dict, titles: list[str]) -> str:
    span = result.short_answer or result.trace.span
    if token_f1(span, [question["answer"]]) >= 0.8: return "right"
    if not result.trace.subject: return "subject"
    if not set(titles) & set(question["gold_pages"]): return "bridge"
    return "span" if result.trace.page in question["gold_pages"] else "page"


def one_prompt(table: Table, tools: Tools, index: KnowledgeBase, questions: list[dict]) -> None:
    "The baseline: one retrieval, one prompt."
    answers, model = [], tools.model
    assert model is not None
    for question in questions:
        text = "\n".join(f"{passage.title}: {passage.text}" for passage in index.search(question["question"], 4))
        while model.count_tokens(text) > 1200:
            text = text[: len(text) * 9 // 10]
        answers.append(
            model.generate([PROMPT.format(text=text, question=question["question"])], max_new_tokens=24, stop=("\n",))[0].strip()
        )
    f1 = mean([token_f1(s, [q["answer"]]) for s, q in zip(answers, questions, strict=True)])
    em = mean([exact_match(s, [q["answer"]]) for s, q in zip(answers, questions, strict=True)])
    table.row("one retrieval and one prompt: F1, exact match", f"{f1:.3f}, {em:.3f}")


if __name__ == "__main__":
    sys.exit(main())
