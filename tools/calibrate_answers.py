"""Fit when an answer is good enough to be said, on questions that no benchmark reports on. Writes lightbulb/agent/calibration.json.

Five fits: `short` answers (names, dates, numbers), those at the end of a `chain` of steps, the best `sentence` in their place, `text`, and
`verdict`s. `chain` sees every second question of two_hop, those that benchmarks/answering.py does not report, every third of them also with
its gold pages left out, and the demo site's `train` and `calibrate` questions; the others see those of the demo site, one manual,
debian_handbook, the folders of benchmarks/notes but the reported ones, web passages (`clapnq_rows` says which), questions about every
second paragraph of xquad_en, every third short question to the written pages that nothing was taught on (`tools/written_pages.py`), every
second other one and some for yes or no to kept lines of invented documents (`tools/verdict_lines.jsonl`), and those about scientific
articles that the reader was not taught on and that want a text. Questions without an answer are hard to make up, so every second question
of the manual, of the paragraphs and of the articles is also asked with its pages left out, and every second of the notes with the lines
that name its answer left out. The weights are a logistic regression in which each of these families counts as the root of its size; a
threshold lets through as little as TOLD of what should be refused.

From the top, in about an hour of one core (what was measured is kept in --keep, so a run that was stopped goes on):

    PYTHONPATH=.:benchmarks python -m tools.calibrate_answers

With --manuals FOLDER users' questions over the manuals of `tools/manual_lines.py` that teach nothing are asked, too; no row that
ships is of them.

What the fits saw, measurements and whether the answer was right but no text, ships as tools/calibration_rows.jsonl: with --only_kept
nothing is asked, and those rows are fitted again. The rows that ship are of 1,693 questions, some of each kind, of a run that was stopped
there, with --written 6 --lines 5; chains, of which too few were asked for a fit, are weighed as before.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import answering as benchmark  # which finds its own scripts by PYTHONPATH


from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.confidence import Calibration
from lightbulb.agent.question_kinds import kind_of_question
from lightbulb.agent.tools import Tools, load_tools
from lightbulb.agent.writing import best_answers
from lightbulb.core.records import Document
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.chunks import split_sentences
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.web.demo_site import demo_questions
from lightbulb.web.search import load_search
from tools.manual_lines import KEPT, evidence_of, read_questions
from tools.written_lines import by_document, short_questions, written_lines
from tools.written_pages import write_files, written_domains

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "lightbulb" / "agent" / "calibration.json"
ROWS = Path(__file__).with_name("calibration_rows.jsonl")
FEATURES = {  # few, since there are few questions: others that are measured made the area on families left out no larger, or smaller
    "short": ("log_probability", "lead", "alone", "named", "answered", "fit"),
    "chain": ("log_probability", "relevance", "told", "match", "lead"),
    "sentence": ("line", "ahead", "alone", "named", "answered"),
    "text": ("answered", "at_home"),
    "verdict": ("answered", "decided"),
}
MANUAL, START = "debian_handbook", "debian_handbook/index.html"
TOLD = {
    "short": 0.34,
    "chain": 0.25,
    "sentence": 0.22,
    "text": 0.48,  # where strangers ask in words of their own, right passages are told with less confidence
    "verdict": 0.75,  # refused counts as much as a wrong one, and few questions for yes or no have no answer
}  # of what should be refused, how much may be said: a reader can judge a passage
LEAST_ROWS = 60  # for a fit; 35 chains, left out one by one, were ordered worse (.83) than by the fit on more of them (.90)


@dataclass(frozen=True)
class Recorder(Calibration):
    "Refuses nothing and remembers what was measured."

    weights: Mapping[str, float] = field(default_factory=dict)
    bias: float = 9.0
    threshold: float = 0.0
    measured: list[dict[str, float]] = field(default_factory=list)

    def confidence(self, measured: Mapping[str, float]) -> float:
        self.measured.append(dict(measured))
        return super().confidence(measured)


class WithoutPages:
    "A search back end from which some pages are left out."

    def __init__(self, search: Any, names: Sequence[str]) -> None:
        self.search_all, self.names = search, {name.rsplit("/", 1)[-1] for name in names}

    def search(self, query: str, num_results: int = 10) -> list[Any]:
        results = self.search_all.search(query, num_results + 2 * len(self.names))
        return [result for result in results if result.url.split("#")[0].rsplit("/", 1)[-1] not in self.names][:num_results]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.search_all, name)


class WithoutLines:
    "A search back end in whose pages the lines that name a phrase are blank."

    def __init__(self, search: Any, phrases: Sequence[str]) -> None:
        self.search_all, self.phrases = search, phrases

    def blank(self, text: str) -> str:
        named = lambda line: benchmark.names_one(line, self.phrases) or any(phrase.casefold() in line.casefold() for phrase in self.phrases)
        return "\n".join(" " * len(line) if named(line) else line for line in text.split("\n"))

    def search(self, query: str, num_results: int = 10) -> list[Any]:
        results = self.search_all.search(query, num_results)
        pages = {url: document.text for url, document in zip([r.url for r in results], self.read([r.url for r in results]), strict=True)}
        cut = lambda result: tuple(replace(one, text=pages[result.url][one.start : one.end]) for one in result.passages)
        return [replace(result, passages=tuple(one for one in cut(result) if one.text.strip())) for result in results]

    def read(self, urls: Sequence[str], *, timeout: float | None = None) -> list[Any]:
        return [replace(document, text=self.blank(document.text)) for document in self.search_all.read(urls, timeout=timeout)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.search_all, name)


# ---------------------------------------------------------------- measuring


def is_right(question: Any, kind: str, result: Answer) -> bool:
    "Whether what would be said is right, as the benchmark scores it."
    if not question.answerable: return False
    if gold := question.gold.get("sentences"):  # of a web passage: half of what people chose is cited, or a name stands there
        if kind == "short": return benchmark._letters(result.short_answer) in benchmark._letters(" ".join(gold))
        return benchmark.share_cited(question, [citation.quote for citation in result.citations]) >= 0.5
    if "kind" not in question.gold or question.kind in ("factoid", "number"):
        said = result.short_answer if kind in ("short", "chain") else result.text
        return benchmark.names_one(said, question.answers) > 0
    text = benchmark.re.sub(r"\s*\[\d+\]", "", result.text)
    return benchmark.manual_score(question, text, result.short_answer, False) >= 0.5


def measure(question: Any, tools: Tools, name: str) -> dict[str, Any] | None:
    "What was measured of the answer that would be said, and whether it is right; None if there is none. Of a short one also its sentence."
    recorders = {kind: Recorder(threshold=2.0 if kind in ("short", "chain") else 0.0) for kind in FEATURES}
    *_, result = answer(question.text, TestAgent(max_seconds=600), tools=tools, calibrations=recorders)
    assert isinstance(result, Answer)
    is_short = result.kind in ("fact", "number")
    kind = "verdict" if result.kind == "yes_no" else "text" if not is_short else "chain" if recorders["chain"].measured else "short"
    if not recorders[kind].measured: return None
    row = {"id": name, "kind": kind, "measured": recorders[kind].measured[-1], "answerable": question.answerable}
    if kind not in ("short", "chain"):
        right, said = is_right(question, kind, result), result.text
    else:
        leaves = best_answers([node for node in result.tree.walk() if node.kind == "answer" and node.status != "failed"])
        said = leaves[0][1].payload.answer
        right = is_right(question, "short", replace(result, short_answer=said))
        if sentence := recorders["sentence"].measured:
            holds = is_right(question, "sentence" if question.gold.get("sentences") else "short", result)
            row["sentence"] = {"measured": sentence[-1], "right": holds}
            said = f"{said} / {holds!s:5} {result.short_answer[:80]}"
    print(f"  {name} {kind} {right!s:5} {question.text[:80]} -> {said[:140]}", flush=True)
    return row | {"right": right}


def chosen(questions: Sequence[Any], share: int) -> list[Any]:
    "All questions that want text or a verdict, of which there are few, and every `share`-th other one."
    wants_text = lambda question: question.kind not in ("factoid", "number", "unanswerable")
    return sorted(
        [question for i, question in enumerate(questions) if wants_text(question) or i % share == 0],
        key=lambda question: not wants_text(question),
    )


def of_notes(share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    for folder in sorted(path.name for path in benchmark.NOTES.iterdir() if path.is_dir() and path.name not in benchmark.REPORTED_NOTES):
        search = load_search(f"folder:{benchmark.NOTES / folder}", make_index=make_index)
        for number, question in enumerate(chosen(benchmark.manual_questions(benchmark.NOTES, folder), share)):
            yield question.id, question, search
            phrases = question.gold.get("answers") or question.gold.get("items") or question.gold.get("must_mention") or []
            phrases = [part for phrase in phrases for part in phrase.split("|")]
            if phrases and number % 2 == 0:
                yield f"{question.id}-without", replace(question, answerable=False), WithoutLines(search, phrases)


def of_demo(every: int) -> Iterator[tuple[str, Any, Any]]:
    for part in ("train", "calibrate"):
        for i, item in enumerate(demo_questions(part)[::every]):
            yield f"demo-{part}-{i}", benchmark.Question("", item.question, item.kind, list(item.answers), [], {}, bool(item.answers)), None


def of_manual(data: Path, share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    with benchmark.static_site(data / "manuals") as server:
        search = load_search(
            f"site:{server.url}/{START}", make_index=make_index, allow_hosts=(f"127.0.0.1:{server.port}",), max_crawl_pages=500
        )
        for number, question in enumerate(chosen(benchmark.manual_questions(data / "manuals", MANUAL), share)):
            yield question.id, question, search
            if question.answerable and number % 2 == 0:
                yield f"{question.id}-without", replace(question, answerable=False), WithoutPages(search, question.gold_pages)


def of_passages(data: Path, share: int) -> Iterator[tuple[str, Any, Any]]:
    questions = benchmark.clapnq_questions(benchmark.clapnq_rows(data)[0])[::share]
    for question in sorted(questions, key=lambda question: question.id[-2:]):  # those with and without an answer in turn
        passage = question.gold["passages"][0]
        yield f"clapnq-{question.id}", question, benchmark.OnePassage(passage["title"], passage["text"])


class WithoutTitles(WithoutPages):
    "A search back end from which pages of some titles are left out."

    def search(self, query: str, num_results: int = 10) -> list[Any]:
        results = self.search_all.search(query, num_results + 2 * len(self.names))
        return [result for result in results if result.title not in self.names][:num_results]


def of_two_hop(data: Path, share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    pages = benchmark.read_rows(data / "two_hop" / "pages.jsonl")
    questions = benchmark.two_hop_questions(data, reported=False)[::share]
    with benchmark.page_site(pages) as server:
        search = load_search(
            f"site:{server.url}", make_index=make_index, allow_hosts=(f"127.0.0.1:{server.port}",), max_crawl_pages=len(pages) + 100
        )
        for number, question in enumerate(questions):
            yield question.id, question, search
            if number % 3 == 0:
                yield f"{question.id}-without", replace(question, answerable=False), WithoutTitles(search, question.gold_pages)


def of_paragraphs(data: Path, share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    rows = benchmark.read_rows(data / "reading" / "xquad_en.jsonl")
    pages = [{"title": f"{row['title']} {number}", "text": row["text"]} for number, row in enumerate(rows)]
    titles = {q["id"]: page["title"] for row, page in zip(rows, pages, strict=True) for q in row["questions"]}
    questions = benchmark.xquad_questions(rows[0::2])[::share]  # benchmarks/answering.py reports the questions about the other paragraphs
    with benchmark.page_site(pages) as server:
        search = load_search(
            f"site:{server.url}", make_index=make_index, allow_hosts=(f"127.0.0.1:{server.port}",), max_crawl_pages=len(pages) + 100
        )
        for number, question in enumerate(questions):
            yield f"xquad-{question.id}", question, search
            if number % 2 == 0:
                yield f"xquad-{question.id}-without", replace(question, answerable=False), WithoutTitles(search, [titles[question.id]])


def of_articles(data: Path, share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    "Questions of experts about long scientific articles that the reader was not taught on; right is what cites the sentence of the answer."
    rows = benchmark.read_rows(data / "reading" / "covid_qa.jsonl")[1::2]
    pages = [{"title": row["title"] or f"Article {number}", "text": row["text"]} for number, row in enumerate(rows)]
    questions = []
    for row, page in zip(rows, pages, strict=True):
        sentences = split_sentences(row["text"])
        for one in row["questions"]:
            start, length = one["answers"][0]["start"], len(one["answers"][0]["text"])
            gold = [row["text"][a:b] for a, b in sentences if a < start + length and start < b]
            kind = kind_of_question(one["question"])
            if kind in ("fact", "number", "yes_no") or not gold: continue
            questions.append((page["title"], benchmark.Question(one["id"], one["question"], kind, [], [], {"sentences": gold}, True)))
    with benchmark.page_site(pages) as server:
        search = load_search(
            f"site:{server.url}", make_index=make_index, allow_hosts=(f"127.0.0.1:{server.port}",), max_crawl_pages=len(pages) + 100
        )
        for number, (title, question) in enumerate(questions[::share]):
            yield f"covid-{question.id}", question, search
            if number % 2 == 0:
                yield f"covid-{question.id}-without", replace(question, answerable=False), WithoutTitles(search, [title])


def of_written(share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    "Questions to the written pages that nothing was taught on: short ones, and every second that wants yes or no, or the line that tells."
    for domain in written_domains(kept=True):
        with tempfile.TemporaryDirectory() as folder:
            write_files(domain.files, Path(folder))
            search = load_search(f"folder:{folder}", make_index=make_index)
            for number, one in list(enumerate(domain.told))[::2]:
                kind, gold = ("long", {"sentences": [one.line.text]}) if one.says == "answers" else ("yes_no", {"verdict": one.says})
                question = benchmark.Question("", one.text, kind, [], [], {"kind": kind} | gold, True)
                yield f"told-{domain.name.replace(' ', '_')}-{number}", question, search
            for number, one in list(enumerate(domain.questions))[::share]:
                bare = re.sub(r"^(?:(?:about|roughly|at|by|until|from|to|in|on|only|the|an?) )+", "", one.answer)
                answers, kind = ([bare], "factoid") if one.answer else ([], "unanswerable")
                question = benchmark.Question("", one.text, kind, answers, [], {}, bool(one.answer))
                yield f"written-{domain.name.replace(' ', '_')}-{number}", question, search


def of_lines(share: int, make_index: Any, *, documents: int = 4) -> Iterator[tuple[str, Any, Any]]:
    "Questions for yes or no to the kept lines of invented documents, a few documents a folder, those that no line decides, and short ones."
    lines_of = by_document(written_lines(kept=True))
    titles = list(lines_of)
    for first in range(0, len(titles), documents):
        files, asked = {}, []
        for number, title in enumerate(titles[first : first + documents]):
            parts = [f"# {title}"]
            for row in lines_of[title]:
                heading = row["context"].partition(" > ")[2]
                if heading and f"## {heading}" not in parts:
                    parts.append(f"## {heading}")
                parts.append(row["line"])
            files[f"{number}.md"] = "\n\n".join(parts) + "\n"
            for row in lines_of[title]:
                asked += [(row[says], says, "") for says in ("yes", "no", "nothing")]
                asked += [(text, "short", answer) for text, answer in short_questions(row)]
        random.Random(first).shuffle(asked)
        with tempfile.TemporaryDirectory() as folder:
            write_files(files, Path(folder))
            search = load_search(f"folder:{folder}", make_index=make_index)
            for number, (text, says, answer) in list(enumerate(asked))[::share]:
                kind = {"nothing": "unanswerable", "short": "factoid"}.get(says, "yes_no")
                gold = {"kind": kind, "verdict": says} if kind == "yes_no" else {"kind": kind}
                question = benchmark.Question("", text, kind, [answer] if answer else [], [], gold, says != "nothing")
                yield f"line-{first}-{number}-{says}", question, search


def of_users(folder: Path, share: int, make_index: Any) -> Iterator[tuple[str, Any, Any]]:
    "Users' questions over the real manuals that nothing was taught on; right is a text that cites a sentence that answers."
    for manual in sorted(KEPT):
        search = load_search(f"folder:{folder / manual}", make_index=make_index)
        names = {path.name: path.resolve().as_uri() for path in (folder / manual).rglob("*.htm*")}
        for number, row in enumerate(read_questions(manual)):
            is_long = row["kind"] not in ("factoid", "number", "yes_no", "unanswerable") and "short" not in row
            if number % share and not is_long: continue
            gold: dict[str, Any] = {"kind": row["kind"]}
            if row["kind"] == "yes_no":
                gold["verdict"] = row["verdict"]
            elif is_long:
                (page,) = search.read([names[row["page"]]])
                if not isinstance(page, Document): continue
                gold = {"kind": "long", "sentences": evidence_of(row, page)}
            kind = gold["kind"] if "short" not in row else "factoid"
            is_open = row["kind"] == "unanswerable"
            question = benchmark.Question("", row["question"], kind, [row["short"]] if "short" in row else [], [], gold, not is_open)
            if is_long and not gold["sentences"]: continue
            yield f"user-{manual}-{number}", question, search
            if not is_open and number % 3 == 0:
                yield f"user-{manual}-{number}-without", replace(question, answerable=False), WithoutPages(search, [row["page"]])


def sources(args: argparse.Namespace) -> Iterator[tuple[str, Any, Any]]:
    "Name, question and search of everything that is asked, the kinds in turn, two_hop last; the demo site's search is None."
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    make_index = lambda: KnowledgeBase(":memory:", embed=embed)
    waiting = [of_notes(args.share, make_index), of_demo(args.every), of_manual(args.data, args.share, make_index)]
    waiting += [of_passages(args.data, args.passages), of_paragraphs(args.data, args.paragraphs, make_index)]
    waiting += [of_users(args.manuals, args.users, make_index)] if args.manuals else []
    waiting += [of_articles(args.data, args.articles, make_index), of_written(args.written, make_index), of_lines(args.lines, make_index)]
    while waiting:
        for source in list(waiting):
            if (asked := next(source, None)) is None:
                waiting.remove(source)
            else:
                yield asked
    yield from of_two_hop(args.data, args.chains, make_index)  # thousands of pages are read first


def measured_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    "What was measured for every question, in earlier runs and now."
    path = args.keep / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {row["id"]: row for row in benchmark.read_rows(path)} if path.exists() else {}
    tools: Tools | None = None
    with path.open("a", encoding="utf-8") as file:
        for name, question, search in sources(args):
            if name in rows: continue
            if tools is None:
                tools = load_tools(TestAgent(save_dir=ROOT / ".cache" / "calibration"))
                if tools.knowledge is not None:
                    tools.knowledge.close()
                tools.knowledge = tools.summarizer = None
            row = measure(question, replace(tools, search=search) if search else tools, name)
            rows[name] = row or {"id": name, "kind": "", "measured": {}, "right": False, "answerable": question.answerable}
            file.write(json.dumps(rows[name]) + "\n")
            file.flush()
    return list(rows.values())


def fitted_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    "One row a fit that sees it: its measurements, rounded, and whether the answer was right; no text."
    result = []
    for row in rows:
        kind = row["kind"]
        if kind in ("text", "verdict") and family_of(row["id"]) == "written" and row["answerable"]:
            continue  # a short answer was wanted: whether a text is right is not known
        parts = [(kind, row), ("sentence", row.get("sentence"))]
        for name, part in parts:
            if not name or not part: continue
            measured = {feature: round(float(part["measured"][feature]), 4) for feature in FEATURES[name]}
            result.append({"fit": name, "id": row["id"], "answerable": row["answerable"], "right": part["right"], "measured": measured})
    return sorted(result, key=lambda row: (row["fit"], row["id"]))


# ---------------------------------------------------------------- fitting


def family_of(name: str) -> str:
    "Where a question comes from, by its name: one manual, the demo site, two_hop, web passages, paragraphs; all folders of notes are one."
    first = re.split(r"[-_]", name)[0]
    if first in ("demo", "two", "clapnq", "xquad", "covid", "written", "told", "line", "user"): return first
    return "manual" if first.startswith("deb") else "notes"


def shares(families: Sequence[str]) -> np.ndarray:
    "How much each row counts: a family counts as the root of its size, so that the largest does not decide for all."
    sizes = Counter(families)
    weights = np.array([1 / math.sqrt(sizes[family]) for family in families])
    return weights / weights.sum()


def fit(features: np.ndarray, right: np.ndarray, share: np.ndarray, *, penalty: float = 0.02) -> tuple[np.ndarray, float]:
    "Logistic regression with an L2 penalty on standardised features, by Newton's method; weights for the raw features."
    centre = share @ features
    scale = np.sqrt(share @ (features - centre) ** 2)
    scale[scale < 1e-6] = np.inf  # a constant feature says nothing
    x = np.c_[(features - centre) / scale, np.ones(len(features))]
    ridge = np.diag([penalty] * features.shape[1] + [1e-6])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(x @ weights)))
        gradient = x.T @ (share * (chance - right)) + ridge @ weights
        step = np.linalg.solve(x.T @ (x * (share * chance * (1 - chance))[:, None]) + ridge, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9: break
    raw = weights[:-1] / scale
    return raw, float(weights[-1] - raw @ centre)


def area_left_out(features: np.ndarray, right: np.ndarray, families: Sequence[str]) -> float:
    "The area under the curve of right against wrong, where the rows of each family are weighed by a fit on the others."
    values = np.zeros(len(right))
    for family in set(families):
        of_it = np.array([other == family for other in families])
        rest = [other for other in families if other != family]
        weights, bias = fit(features[~of_it], right[~of_it].astype(float), shares(rest))
        values[of_it] = features[of_it] @ weights + bias
    return benchmark.area_under_curve(values.tolist(), right.tolist())


def choose_threshold(confidence: np.ndarray, answerable: np.ndarray, told: float) -> float:
    "The lowest threshold at which no more than a share `told` of what has no answer is said."
    without = np.sort(confidence[~answerable])[::-1]
    if not len(without): return 0.0
    allowed = int(told * len(without))
    return float(np.nextafter(without[min(allowed, len(without) - 1)], 1.0))


def curve(confidence: np.ndarray, right: np.ndarray) -> str:
    "Risk (share of wrong answers) at each coverage."
    order = np.argsort(-confidence)
    return ", ".join(f"{share}%: {1 - right[order][: max(1, len(order) * share // 100)].mean():.2f}" for share in (25, 50, 75, 100))


def fitted(kind: str, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], str]:
    "Weights, bias and threshold from the rows of one fit, and what they do to those rows."
    names, own = FEATURES[kind], [row for row in rows if row["fit"] == kind]
    features = np.array([[row["measured"][name] for name in names] for row in own])
    right, answerable = (np.array([row[name] for row in own], bool) for name in ("right", "answerable"))
    families = [family_of(row["id"]) for row in own]
    weights, bias = fit(features, right.astype(float), shares(families))
    confidence = 1 / (1 + np.exp(-(features @ weights + bias)))
    threshold = choose_threshold(confidence, answerable, TOLD[kind])
    stored = {
        "weights": {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)},
        "bias": round(bias, 4),
        "threshold": round(threshold, 3),
    }
    refused = lambda rows: f"{(confidence[rows] < threshold).mean():.2f} of {rows.sum()}" if rows.any() else "none"
    report = (
        f"{kind}: {len(own)} questions, {right.mean():.2f} right, risk at coverage {curve(confidence, right)}\n"
        f"  area under the curve, each kind of source left out in turn: {area_left_out(features, right, families):.3f}\n"
        f"  threshold {threshold:.3f}: answerable refused {(confidence[answerable] < threshold).mean():.2f}, "
        f"without an answer refused {(confidence[~answerable] < threshold).mean():.2f}, right answers said "
        f"{(confidence[right] >= threshold).mean():.2f}"
    )
    for family in sorted(set(families)):
        of_it = np.array([other == family for other in families])
        report += (
            f"\n  {family}: answerable refused {refused(of_it & answerable)}, without an answer refused {refused(of_it & ~answerable)}"
        )
    return stored, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--keep", type=Path, default=ROOT / ".cache" / "calibration", help="where what was measured is kept")
    parser.add_argument("--every", type=int, default=24, help="ask only every so many questions of the demo site")
    parser.add_argument("--share", type=int, default=1, help="ask only every so many questions of the notes and the manual")
    parser.add_argument("--chains", type=int, default=4, help="ask only every so many questions of two_hop")
    parser.add_argument("--passages", type=int, default=1, help="ask only every so many questions about web passages")
    parser.add_argument("--paragraphs", type=int, default=4, help="ask only every so many questions about encyclopedia paragraphs")
    parser.add_argument("--articles", type=int, default=1, help="ask only every so many questions about scientific articles")
    parser.add_argument("--written", type=int, default=3, help="ask only every so many questions to the written pages")
    parser.add_argument("--lines", type=int, default=4, help="ask only every so many questions for yes or no to the kept lines")
    parser.add_argument("--manuals", type=Path, help="a folder made by tools/manual_lines.py; its users' questions are asked too")
    parser.add_argument("--users", type=int, default=1, help="ask only every so many short questions over manuals")
    parser.add_argument("--only_kept", action="store_true", help="ask nothing, fit again on the rows that ship")
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to write")
    args = parser.parse_args()
    if args.only_kept:
        rows = benchmark.read_rows(ROWS)
    else:
        rows = fitted_rows(measured_rows(args))
        ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stored = json.loads(TARGET.read_text(encoding="utf-8"))
    for kind in FEATURES:
        if (found := sum(row["fit"] == kind for row in rows)) < LEAST_ROWS:
            print(f"{kind}: {found} rows are too few, so its fit stays as it is")
            continue
        stored[kind], report = fitted(kind, rows)
        print(report)
    args.target.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
