"""Judged collections for ranking: pages, queries and what each page is worth for each query."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from _cranfield import read_cranfield

from lightbulb.core.records import Document, Link
from lightbulb.knowledge.chunks import chunk_text
from lightbulb.web.demo_site import demo_questions, load_articles
from lightbulb.web.extract import extract


@dataclass(frozen=True)
class Query:
    "A query with the pages that are worth something for it."

    text: str
    gains: Mapping[str, float]  # URL → gain, above 0
    left_out: frozenset[str] = frozenset()  # URLs whose judgement is undefined


@dataclass(frozen=True)
class Collection:
    "Pages and queries."

    name: str
    pages: Sequence[Document]
    queries: Sequence[Query]


def cranfield(folder: Path) -> Collection:
    "1,400 abstracts, 225 graded queries; gain 2^(5 − grade) − 1, the −1 judgements left out (DESIGN section 7)."
    pages, queries, judgements = read_cranfield(folder)
    graded = []
    for number, text in enumerate(queries, 1):
        judged = judgements.get(number, {})
        gains = {url: 2.0 ** (5 - grade) - 1 for url, grade in judged.items() if grade != -1}
        graded.append(Query(text, gains, frozenset(url for url, grade in judged.items() if grade == -1)))
    return Collection("cranfield", pages, graded)


def demo_site(split: str) -> Collection:
    "The demo site's articles with their links, and the answerable questions of a split with their gold pages."
    pages = [
        Document(slug, article.title, article.text, article.description, links=tuple(Link(target, target) for target in article.links))
        for slug, article in load_articles().items()
    ]
    slugs = {page.title: page.url for page in pages}
    questions = [question for question in demo_questions() if question.split == split and question.gold_pages]
    queries = [Query(question.question, {slugs[title]: 1.0 for title in question.gold_pages}) for question in questions]
    return Collection(f"demo {split}", pages, queries)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _one_question_each(name: str, texts: Sequence[tuple[str, str, Sequence[str]]], count: int) -> Collection:
    "Texts as pages, and of `count` questions drawn from them the page each was asked about."
    pages = [Document(f"{name}:{i}", title, text) for i, (title, text, _) in enumerate(texts)]
    asked = [(question, f"{name}:{i}") for i, (_, _, questions) in enumerate(texts) for question in questions]
    random.Random(0).shuffle(asked)
    return Collection(name, pages, [Query(question, {url: 1.0}) for question, url in asked[:count]])


def qamr(folder: Path, count: int = 250) -> Collection:
    "979 sentences of encyclopedia and news, human questions about them."
    return _one_question_each(
        "qamr", [("", row["text"], [q["question"] for q in row["questions"]]) for row in _rows(folder / "qamr.jsonl")], count
    )


def xquad(folder: Path, count: int = 200) -> Collection:
    "95 paragraphs of an encyclopedia, human questions about them; for measuring only."
    rows = _rows(folder / "xquad_en.jsonl")
    return _one_question_each("xquad", [(row["title"], row["text"], [q["question"] for q in row["questions"]]) for row in rows], count)


def clapnq(folder: Path) -> Collection:
    "302 passages, and the questions of a search engine that one of them answers; the first 100, which are for calibration, left out."
    rows = _rows(folder / "clapnq.jsonl")
    pages = [Document(f"clapnq:{i}", row["passages"][0]["title"], row["passages"][0]["text"]) for i, row in enumerate(rows)]
    queries = [Query(row["question"], {f"clapnq:{i}": 1.0}) for i, row in enumerate(rows) if row["answerable"] and i >= 100]
    return Collection("clapnq", pages, queries)


def covid(folder: Path, num_articles: int = 12) -> Collection:
    "Parts of 150 words of science articles, and experts' questions with the parts that hold the answer."
    pages, queries = [], []
    for number, row in enumerate(sorted(_rows(folder / "covid_qa.jsonl"), key=lambda row: len(row["text"]))[:num_articles]):
        parts = chunk_text(row["text"], max_words=150, overlap=0)
        urls = [f"covid:{number}.{i}" for i in range(len(parts))]
        pages += [Document(url, row["title"], part.text) for url, part in zip(urls, parts, strict=True)]
        for question in row["questions"]:
            starts = [answer["start"] for answer in question["answers"]]
            gains = {url: 1.0 for url, part in zip(urls, parts, strict=True) if any(part.start <= start < part.end for start in starts)}
            if gains:
                queries.append(Query(question["question"], gains))
    return Collection("covid", pages, queries)


def manual_pages(folder: Path, site: str) -> list[Document]:
    "The pages of one manual as a crawl reads them, with their links."
    return [
        extract(path.read_text(encoding="utf-8", errors="replace"), f"http://manuals/{path.relative_to(folder)}")
        for path in sorted((folder / site).rglob("*.html"))
    ]


def manual(folder: Path, site: str) -> Collection:
    "One manual's pages, and its answerable questions with the pages that hold the answer; for measuring only."
    pages = manual_pages(folder, site)
    by_name = {page.url.rsplit("/", 1)[-1]: page.url for page in pages}
    rows = [row for row in _rows(folder / "questions.jsonl") if row["site"] == site and row.get("pages")]
    gold = [{by_name[name.rsplit("/", 1)[-1]]: 1.0 for name in [*row["pages"], *row.get("also_pages", [])]} for row in rows]
    return Collection(f"{site} manual", pages, [Query(row["question"], gains) for row, gains in zip(rows, gold, strict=True)])


def collections(data: Path) -> Iterator[Collection]:
    "All of them; `demo report`, `xquad`, `clapnq` and the manuals are for measuring only."
    yield cranfield(data / "cranfield")
    yield demo_site("train")
    yield qamr(data / "reading")
    yield covid(data / "reading")
    yield demo_site("report")
    yield xquad(data / "reading")
    yield clapnq(data / "reading")
    for site in ("git", "debian_handbook", "python"):
        yield manual(data / "manuals", site)
