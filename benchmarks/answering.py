"""Answers as a user sees them: manuals, encyclopedia paragraphs, web passages, two-hop questions, absent names, the demo site.

A refusal of an answerable question scores 0. Beside lightbulb stands the simplest thing that could work, one retrieval and one
prompt of the same language model over the same back end. Gold answers and gold pages are used for scoring alone. With `--keep
FOLDER` each answer is written down as it comes and a run goes on where it was stopped; `--before FOLDER` puts the answers of
another state of the code into the same table. Each set, and each manual, has a table of its own, which says of which commit its
answers are, so one can be asked again alone:

    PYTHONPATH=../older python benchmarks/answering.py --sets manuals --keep kept/before
    python benchmarks/answering.py --sets manuals --keep kept/now --before kept/before --record

What the confidence is fitted on stands in `tools/calibrate_answers.py`; what was tuned on a set stands under its table.
"""

from __future__ import annotations

import hashlib
import html
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from _scoring import gap_interval, hit, mean, score_interval, token_f1
from _table import Table, skip_without

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.core.records import Document, Passage
from lightbulb.web.demo_site import demo_questions
from lightbulb.web.reactor import Request, Response, serve
from lightbulb.web.search import SearchResult

PROMPT = "Answer the question from the text, in a few words if possible.\n\nText: {text}\n\nQuestion: {question}\nAnswer:"
PROMPT_TOKENS, REPLY_TOKENS, NUM_PASSAGES = 1200, 48, 4
SETS = ("notes", "manuals", "translated", "xquad", "clapnq", "two_hop", "absent", "demo")
NOTES = Path(__file__).parent / "notes"  # small folders as people write them, with questions of strangers
# folders that nothing was fitted on and for whose failures nothing was mended
REPORTED_NOTES = ("tannery", "boat_club", "hiveware", "theatre", "cablecar", "ledgerlite", "tramline", "plotterby")
REPORTED_NOTES += ("harborage", "clinicleave", "islandmuseum")
MANUALS = {"git": "git/git.html", "debian_handbook": "debian_handbook/index.html", "python": "python/"}  # where a crawl begins
# manuals that Debian packages, with questions of ours as users ask them: benchmarks/manuals/README.md says where their pages come from
PACKAGED_QUESTIONS = Path(__file__).parent / "manuals"
TRANSLATED = PACKAGED_QUESTIONS / "translated.jsonl"  # some of them as speakers of German and French would type them
PACKAGED = ("apache", "borg", "gimp", "gnucash", "kicad", "linuxcnc", "sqlite")
TUNED = {"git": "mechanisms were chosen on it", "debian_handbook": "tuned on"}  # the other sets: only measured
TUNED["python"] = "a refit of the confidence was taken back because of it (ed9beaa)"
TUNED |= dict.fromkeys(("borg", "gimp", "sqlite"), "its answers were looked at, and one rule was mended because of them")
TUNED |= {f"translated {site}": "grammar and glossary were looked at with its questions" for site in ("borg", "gimp", "sqlite")}
TUNED["demo"] = "its answers were looked at, and no threshold was fitted on it"
TUNED |= {
    "boat_club": "mechanisms were chosen on other questions about its pages",
    "ledgerlite": "its replies were looked at once, and nothing was mended for them",
    "clapnq": "the confidence was fitted, and mechanisms were chosen, on 174 other questions of its",
    "xquad": "only measured; reader, mechanisms and confidence were chosen on the questions about every other paragraph",
    "two_hop": "mechanisms and the confidence of chains were chosen on every second question, from the second on; these are the others",
    "absent": "over the pages of two_hop",
}
TUNED |= {path.name: "tuned on" for path in NOTES.iterdir() if path.is_dir() and path.name not in REPORTED_NOTES}
TEXT_KINDS = ("how", "why", "compare", "definition", "two_page")
AIMS = {  # issue and design; shares between 0 and 1
    "facts": 0.60,
    "yes_no": 0.65,
    "list": 0.55,
    "text": 0.55,
    "refused_answerable": 0.15,
    "refused_unanswerable": 0.80,
    "cites_gold": 0.75,
}


@dataclass
class Question:
    "One question with what is needed to score it."

    id: str
    text: str
    kind: str
    answers: list[str] = field(default_factory=list)
    gold_pages: list[str] = field(default_factory=list)
    gold: dict[str, Any] = field(default_factory=dict)
    answerable: bool = True


@dataclass
class Reply:
    "What a user would see, and what it cost."

    id: str
    text: str = ""
    short: str = ""
    refused: bool = False
    confidence: float = 0.0
    cited_pages: list[str] = field(default_factory=list)
    cited_texts: list[str] = field(default_factory=list)
    read_pages: list[str] = field(default_factory=list)
    searches: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    prompt_text: str = ""  # the baseline's reply
    code: str = ""  # the commit that answered, and its date


# ---------------------------------------------------------------- sites on the loopback


def static_site(folder: Path) -> Any:
    "A folder of HTML files with listings, as any web server shows it."

    def handler(request: Request) -> Response:
        path = (folder / request.path.strip("/")).resolve()
        if request.path == "/robots.txt": return Response(body=b"User-agent: *\nAllow: /\n", content_type="text/plain")
        if not path.is_relative_to(folder.resolve()) or not path.exists(): return Response(status=404, body=b"not here")
        if path.is_dir():
            base = request.path.rstrip("/")
            names = sorted(f"{item.name}/" if item.is_dir() else item.name for item in path.iterdir())
            return listing(f"Index of {request.path}", [(f"{base}/{name}", name) for name in names])
        return Response(body=path.read_bytes())

    return serve(handler)


def page_site(pages: Sequence[dict[str, str]]) -> Any:
    "Passages as a site: a start page, lists of 200 links, one page a passage."
    head, body = "<!doctype html><html lang=en><head><title>{0}</title></head>", "<body><main><h1>{0}</h1><p>{1}</p></main></body></html>"
    template = head + body

    def handler(request: Request) -> Response:
        if request.path == "/robots.txt": return Response(body=b"User-agent: *\nAllow: /\n", content_type="text/plain")
        if request.path == "/":
            return listing("Contents", [(f"/list/{first}", f"Pages from {first}") for first in range(0, len(pages), 200)])
        kind, _, number = request.path.strip("/").partition("/")
        if not number.isdigit() or int(number) >= len(pages): return Response(status=404, body=b"not here")
        if kind == "list":
            return listing("List", [(f"/page/{i}", pages[i]["title"]) for i in range(int(number), min(int(number) + 200, len(pages)))])
        page = pages[int(number)]
        return Response(body=template.format(html.escape(page["title"]), html.escape(page["text"])).encode())

    return serve(handler)


def listing(title: str, links: list[tuple[str, str]]) -> Response:
    "A page of links."
    items = "".join(f'<li><a href="{html.escape(target)}">{html.escape(text)}</a></li>' for target, text in links)
    page = f"<!doctype html><html lang=en><head><title>{title}</title></head><body><nav><ul>{items}</ul></nav></body></html>"
    return Response(body=page.encode())


class OnePassage:
    "A back end that holds a single page."

    name = "passage"

    def __init__(self, title: str, text: str) -> None:
        self.document = Document("https://passage.test/", title, text)

    def search(self, query: str, num_results: int = 10) -> list[SearchResult]:
        document = self.document
        passage = Passage(document.url, document.title, 0, len(document.text), document.text, 1.0)
        return [SearchResult(self.document.url, self.document.title, self.document.text[:300], 1.0, (passage,))]

    def read(self, urls: Sequence[str]) -> list[Document]:
        return [self.document for _ in urls]

    def lookup(self, title: str) -> SearchResult | None:
        return None


# ---------------------------------------------------------------- the sets


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def manual_questions(folder: Path, site: str) -> list[Question]:
    rows = [row for row in read_rows(folder / "questions.jsonl") if site in (row.get("site"), row.get("folder"))]
    return [
        Question(
            row["id"],
            row["question"],
            row["kind"],
            row.get("answers", []),
            row.get("pages", []) + row.get("also_pages", []),
            row,
            row["kind"] != "unanswerable",
        )
        for row in rows
    ]


def translated_questions(site: str) -> list[Question]:
    "Questions over a manual in German and French, with the gold answers and the number of the English ones."
    rows = {row["id"]: row for row in read_rows(TRANSLATED)}
    english = [question for question in manual_questions(PACKAGED_QUESTIONS, site) if question.id in rows]
    return [replace(q, text=rows[q.id]["question"], gold=q.gold | {"language": rows[q.id]["language"]}) for q in english]


def xquad_questions(rows: list[dict[str, Any]]) -> list[Question]:
    return [
        Question(q["id"], q["question"], "span", [a["text"] for a in q["answers"]], [row["title"]], {"start": q["answers"][0]["start"]})
        for row in rows
        for q in row["questions"]
    ]


def clapnq_rows(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    "What the confidence was fitted on (the first 100, and every second of those without an answer), and what is reported."
    rows = read_rows(data / "reading" / "clapnq.jsonl")
    is_fitted = lambda number: number < 100 or (number % 2 == 0 and not rows[number]["answerable"])
    fitted, reported = [], []
    for number, row in enumerate(rows):
        (fitted if is_fitted(number) else reported).append(row)
    return fitted, reported


def clapnq_questions(rows: list[dict[str, Any]]) -> list[Question]:
    questions = []
    for row in rows:
        sentences = [sentence for reply in row["answers"] for sentence in reply["sentences"]]
        questions.append(Question(row["id"], row["question"], "long", [], [], row | {"sentences": sentences}, bool(row.get("answerable"))))
    return questions


def two_hop_questions(data: Path, *, reported: bool = True) -> list[Question]:
    "Every second question, from the first on; the others are looked at and fitted on, as in benchmarks/agent.py."
    rows = read_rows(data / "two_hop" / "questions.jsonl")
    questions = [Question(f"two_hop-{i}", row["question"], "two_hop", [row["answer"]], row["gold_pages"]) for i, row in enumerate(rows)]
    return questions[0 if reported else 1 :: 2]


def absent_questions(pages: list[dict[str, str]], count: int = 100) -> list[Question]:
    "Questions about names that no page bears: first and last words of real titles crossed, kept if no page holds the new name."
    draw = random.Random(20261127)
    all_text = "\n".join(f"{page['title']} {page['text']}" for page in pages).casefold()
    names = [page["title"].split() for page in pages if re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", page["title"])]
    films = [page["title"].removesuffix(")").split(" (")[0] for page in pages if "film" in page["title"].casefold()]
    forms = [
        "Where was {person} born?",
        "When did {person} die?",
        "Who is the spouse of {person}?",
        "What is the place of birth of the director of film {film}?",
        "Who directed the film {film}?",
        "Where did the composer of film {film} study?",
    ]
    questions: list[Question] = []
    while len(questions) < count:
        person = f"{draw.choice(names)[0]} {draw.choice(names)[1]}"
        film = f"{draw.choice(films).split()[0]} {draw.choice(names)[1]} {draw.choice(['Returns', 'Nights', 'Affair', 'Road', 'Story'])}"
        if person.casefold() in all_text or film.casefold() in all_text: continue
        text = forms[len(questions) % len(forms)].format(person=person, film=film)
        questions.append(Question(f"absent-{len(questions)}", text, "absent", answerable=False))
    return questions


# ---------------------------------------------------------------- asking


@lru_cache
def code_asked() -> str:
    "The commit whose package answers and the commit's date; whether files of the package differ from it."
    import lightbulb

    root = Path(lightbulb.__file__).resolve().parents[1]
    git = lambda *words: subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()
    commit = git("log", "-1", "--format=%h of %cs")
    if not commit: return "a copy without commits"
    return commit + (" with changes" if git("status", "--porcelain", "--", "lightbulb") else "")


def load(config: TestAgent) -> Any:
    "The tools of either state of the code: older ones kept the loader beside `answer`."
    from lightbulb.agent import answering

    load_tools = getattr(answering, "load_tools", None)
    if load_tools is None:
        from lightbulb.agent.tools import load_tools
    return load_tools(config, tell=lambda line: print(f"  {line}", flush=True))


def ask(question: Question, tools: Any, config: TestAgent, page_names: Callable[[str, str], str]) -> Reply:
    "lightbulb's answer."
    begin, cpu = time.monotonic(), time.process_time()
    result = [item for item in answer(question.text, config, tools=tools) if isinstance(item, Answer)][0]
    reply = Reply(question.id, re.sub(r"\s*\[\d+\]", "", result.text), result.short_answer, result.refused, result.confidence)
    reply.seconds, reply.cpu_seconds, reply.searches = time.monotonic() - begin, time.process_time() - cpu, result.cost.searches
    reply.cited_pages = [page_names(citation.url, citation.title) for citation in result.citations]
    reply.cited_texts = [citation.quote for citation in result.citations]
    reply.read_pages = [page_names(url, title) for url, title in result.pages]
    reply.code = code_asked()
    return reply


def one_prompt(question: str, tools: Any) -> str:
    "The baseline: search once, put the best passages into one prompt, take what the model writes."
    results = tools.search.search(question, 10)
    passages = sorted((passage for result in results for passage in result.passages), key=lambda passage: -passage.score)[:NUM_PASSAGES]
    text = "\n".join(f"{passage.title}: {passage.text}" for passage in passages)
    while tools.model.count_tokens(text) > PROMPT_TOKENS:
        text = text[: len(text) * 9 // 10]
    return tools.model.generate([PROMPT.format(text=text, question=question)], max_new_tokens=REPLY_TOKENS, stop=("\n",))[0].strip()


class Kept:
    "The replies of one set, written down as they come."

    def __init__(self, folder: Path | None, name: str, prompts: Path | None = None) -> None:
        self.path = folder / f"{name}.jsonl" if folder else None
        self.prompts = {key: reply.prompt_text for key, reply in Kept(prompts, name).replies.items()} if prompts else {}
        self.replies: dict[str, Reply] = {}
        if self.path and self.path.is_file():
            self.replies = {row["id"]: Reply(**row) for row in read_rows(self.path)}

    def add(self, reply: Reply) -> None:
        self.replies[reply.id] = reply
        if self.path is None: return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(reply), ensure_ascii=False) + "\n")


def ask_all(
    questions: Sequence[Question],
    tools: Any,
    config: TestAgent,
    kept: Kept,
    page_names: Callable[[str, str], str] = lambda url, title: title,
    before: Callable[[Question], None] = lambda question: None,
    has_prompt: bool = True,  # whether the table has a row for the one prompt
) -> list[Reply]:
    "Every question once, by lightbulb and by the one prompt."
    if getattr(tools, "knowledge", None) is not None:
        tools.knowledge.close()
        tools.knowledge = None  # every question starts from nothing
    for question in questions:
        if question.id in kept.replies: continue
        before(question)
        reply = ask(question, tools, config, page_names)
        if has_prompt:
            reply.prompt_text = kept.prompts.get(question.id) or one_prompt(question.text, tools)
        kept.add(reply)
        shown = "(refused)" if reply.refused else reply.short or reply.text[:100]
        shown = f"{shown} | {question.answers[:1]} | {reply.confidence:.2f}, {reply.seconds:.1f} s"
        print(f"  {question.id} {question.kind}: {question.text} -> {shown}", flush=True)
    return [kept.replies[question.id] for question in questions]


# ---------------------------------------------------------------- scores


def names_one(text: str, answers: Sequence[str]) -> float:
    "Whether a text names one of the answers: whole words, case and punctuation aside."
    plain = f" {_words(text)} "
    return float(any(f" {_words(gold)} " in plain for gold in answers if _words(gold)))


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _letters(text: str) -> str:
    "Letters and digits alone: gold sentences are cut into tokens (*ca n't*, a space before each stop), pages need not be."
    return "".join(re.findall(r"\w+", text.casefold()))


def share_named(text: str, phrases: Sequence[str]) -> float:
    "The share of phrases, each with alternatives between bars, that a text names."
    plain = " ".join(text.casefold().split())
    return mean([float(any(" ".join(part.casefold().split()) in plain for part in phrase.split("|"))) for phrase in phrases])


def share_cited(question: Question, texts: Sequence[str]) -> float:
    "The share of the sentences that people chose that a text has, or that a text of some length is a part of."
    plain = [_letters(text) for text in texts if len(text) > 30]
    return mean([float(any(_letters(gold) in text or text in _letters(gold) for text in plain)) for gold in question.gold["sentences"]])


def share_chosen(question: Question, texts: Sequence[str]) -> float:
    "The share of the texts that people chose too."
    gold = [_letters(sentence) for sentence in question.gold["sentences"]]
    plain = [_letters(text) for text in dict.fromkeys(texts) if len(text) > 30]
    return mean([float(any(one in text or text in one for one in gold)) for text in plain]) if plain else 0.0


def first_word(text: str) -> str:
    words = re.findall(r"\w+", text.casefold())
    return words[0] if words else ""


def manual_score(question: Question, text: str, short: str, refused: bool) -> float:
    "How a manual's question is scored (the data's own description)."
    if question.kind == "unanswerable": return float(refused)
    if refused: return 0.0
    if question.kind in ("factoid", "number"): return names_one(short, question.answers)
    if question.kind == "yes_no": return float(first_word(text) == question.gold["verdict"])
    if question.kind == "list": return share_named(text, question.gold["items"])
    return share_named(text, question.gold["must_mention"])


def area_under_curve(scores: Sequence[float], labels: Sequence[bool]) -> float:
    "The chance that an answerable question scores above an unanswerable one."
    good, bad = (
        [s for s, label in zip(scores, labels, strict=True) if label],
        [s for s, label in zip(scores, labels, strict=True) if not label],
    )
    return mean([float(a > b) + 0.5 * (a == b) for a in good for b in bad])


def risk_curve(scores: Sequence[float], confidences: Sequence[float]) -> str:
    "Mean score of the most confident quarter, half, three quarters, and all."
    ranked = [score for _, score in sorted(zip(confidences, scores, strict=True), key=lambda pair: -pair[0])]
    return ", ".join(f"{share}%: {mean(ranked[: max(1, len(ranked) * share // 100)]):.2f}" for share in (25, 50, 75, 100))


class Scorer:
    "One row a set and kind: lightbulb, the one prompt, and the code before where it was asked too."

    def __init__(self, table: Table) -> None:
        self.table = table

    def row(
        self,
        name: str,
        ours: Sequence[float],
        prompt: Sequence[float] = (),
        before: Sequence[float] = (),
        *,
        aim: float | None = None,
        at_most: bool = False,
        beside: Sequence[float] | None = None,  # those of our scores that the prompt's stand beside; all of them if not given
        ahead: bool = False,  # whether the aim is to be above the one prompt, too
    ) -> None:
        if not ours: return
        low, high = score_interval(ours)
        parts = [f"{mean(ours):.3f} ({low:.2f} to {high:.2f}, {len(ours)})"]
        is_ahead = True
        if prompt:
            same = ours if beside is None else beside
            some = "" if beside is None else f" of the {len(same)} with an answer, where it is {mean(same):.3f}"
            gaps = [a - b for a, b in zip(same, prompt, strict=True)]
            parts.append(f"one prompt {mean(prompt):.3f}{some} (difference {gap_interval(gaps)})")
            is_ahead = mean(gaps) > 0
        if before:
            parts.append(f"before {mean(before):.3f}")
        met = None if aim is None else mean(ours) <= aim if at_most else mean(ours) >= aim
        words = "" if aim is None else f"{'≤' if at_most else '≥'} {aim:.2f}"
        if ahead and prompt:
            words, met = f"{words}, above one prompt", bool(met) and is_ahead
        self.table.row(name, "; ".join(parts), words, met)


def cites_gold(question: Question, reply: Reply) -> bool:
    "Whether a gold page, known by the last part of its address, is among the cited ones."
    return bool(set(reply.cited_pages) & {page.rsplit("/", 1)[-1] for page in question.gold_pages})


def report_manuals(scorer: Scorer, name: str, questions: list[Question], replies: list[Reply], before: dict[str, Reply]) -> None:
    "The rows of one group of manuals' questions."
    pairs = list(zip(questions, replies, strict=True))

    def scores(kinds: Sequence[str], whose: str) -> list[float]:
        chosen = [(q, r) for q, r in pairs if q.kind in kinds]
        if whose == "before":
            if not all(q.id in before for q, _ in chosen): return []
            chosen = [(q, before[q.id]) for q, _ in chosen]
        if whose == "prompt": return [manual_score(q, r.prompt_text, r.prompt_text, False) for q, r in chosen]
        return [manual_score(q, r.text, r.short, r.refused) for q, r in chosen]

    groups = {
        "over all kinds": (("factoid", "number", "yes_no", "list", *TEXT_KINDS, "unanswerable"), 0.60),
        "facts and numbers": (("factoid", "number"), AIMS["facts"]),
        "yes or no": (("yes_no",), AIMS["yes_no"]),
        "lists": (("list",), AIMS["list"]),
        "how, why, compare, definition, two pages": (TEXT_KINDS, AIMS["text"]),
        "refused when unanswerable": (("unanswerable",), AIMS["refused_unanswerable"]),
    }
    for group, (kinds, aim) in groups.items():
        with_answer = [kind for kind in kinds if kind != "unanswerable"]  # the one prompt is not offered a refusal
        beside = scores(with_answer, "ours") if len(with_answer) < len(kinds) else None
        ours, prompt, old = scores(kinds, "ours"), scores(with_answer, "prompt"), scores(kinds, "before")
        scorer.row(f"{name}: {group}", ours, prompt, old, aim=aim, beside=beside, ahead=True)
    answerable = [(q, r) for q, r in pairs if q.answerable]
    old = [before[q.id] for q, _ in answerable] if all(q.id in before for q, _ in answerable) else []
    refused = [float(r.refused) for _, r in answerable]
    scorer.row(
        f"{name}: refused though answerable", refused, (), [float(r.refused) for r in old], aim=AIMS["refused_answerable"], at_most=True
    )
    cites = [float(cites_gold(q, r)) for q, r in answerable if q.gold_pages and not r.refused]
    old_cites = (
        [float(cites_gold(q, r)) for (q, _), r in zip(answerable, old, strict=True) if q.gold_pages and not r.refused] if old else []
    )
    scorer.row(f"{name}: an answer cites a gold page", cites, (), old_cites, aim=AIMS["cites_gold"])
    ours = scores(groups["over all kinds"][0], "ours")
    scorer.table.row(f"{name}: score of the most confident", risk_curve(ours, [r.confidence for _, r in pairs]))


def report_translated(scorer: Scorer, name: str, questions: list[Question], replies: dict[str, dict[str, Reply]]) -> None:
    "Rows of the questions in two languages, by this code and the code before, and of the same questions in English."
    score = lambda q, r: manual_score(q, r.text, r.short, r.refused)
    for language in ("German", "French"):
        chosen = [q for q in questions if q.gold["language"] == language and q.answerable]
        ours = [score(q, replies["ours"][q.id]) for q in chosen]
        old = [score(q, replies["before"][q.id]) for q in chosen if q.id in replies["before"]]
        scorer.row(f"{name}: answers, {language}", ours, (), old if len(old) == len(ours) else ())
    for what, value, answerable in (
        ("answers", score, True),
        ("refused though answerable", lambda q, r: float(r.refused), True),
        ("refused when unanswerable", lambda q, r: float(r.refused), False),
    ):
        chosen = [q for q in questions if q.answerable == answerable]
        ours, old, english = (
            [value(q, known[q.id]) for q in chosen if q.id in known] for known in (replies[w] for w in ("ours", "before", "english"))
        )
        scorer.row(f"{name}: {what}, both languages", ours, (), old if len(old) == len(ours) else ())
        if len(english) == len(ours):
            gaps = [a - b for a, b in zip(ours, english, strict=True)]
            scorer.row(f"{name}: {what}, the same questions in English", english)
            scorer.table.row(f"{name}: {what}, both languages above English", gap_interval(gaps))


def report_f1(scorer: Scorer, name: str, questions: list[Question], replies: list[Reply], before: dict[str, Reply], aim: float) -> None:
    "Token F1 of the short answer as the user sees it: nothing if it was refused."
    f1 = lambda question, reply: 0.0 if reply.refused else token_f1(reply.short or reply.text, question.answers)
    pairs = [(q, r) for q, r in zip(questions, replies, strict=True) if q.answerable]
    ours, prompt = [f1(q, r) for q, r in pairs], [token_f1(r.prompt_text, q.answers) for q, r in pairs]
    old = [f1(q, before[q.id]) for q, _ in pairs] if all(q.id in before for q, _ in pairs) else []
    scorer.row(f"{name}: F1 as the user sees it", ours, prompt, old, aim=aim)
    scorer.row(f"{name}: refused though answerable", [float(r.refused) for _, r in pairs])
    scorer.table.row(f"{name}: F1 of the most confident", risk_curve(ours, [r.confidence for _, r in pairs]))


def report_passages(scorer: Scorer, questions: list[Question], replies: list[Reply], before: dict[str, Reply], *, count: int = 3) -> None:
    """Web passages: how much of what people chose is cited, how much of what is cited they chose, beside the passage's first sentences and
    the cross-encoder's best ones; and whether the confidence tells which passage answers."""
    from lightbulb.knowledge.chunks import split_sentences
    from lightbulb.knowledge.ranking import load_cross_encoder

    rerank, passages = load_cross_encoder(), [question.gold["passages"][0] for question in questions]
    sentences = [[one["text"][start:end] for start, end in split_sentences(one["text"])] for one in passages]
    first = [texts[:count] for texts in sentences]
    scores = [rerank(q.text, [f"{p['title']}: {t}" for t in texts]) for q, p, texts in zip(questions, passages, sentences, strict=True)]
    best = [
        [texts[i] for i in sorted(range(len(texts)), key=lambda i: -own[i])[:count]] for texts, own in zip(sentences, scores, strict=True)
    ]
    ours = [reply.cited_texts for reply in replies]
    known = [before[question.id].cited_texts if question.id in before else None for question in questions]
    own = [number for number, question in enumerate(questions) if question.answerable]
    name, share = "clapnq, answerable", lambda texts: [share_cited(questions[number], texts[number]) for number in own]
    old = share(known) if all(known[number] is not None for number in own) else []
    scorer.row(f"{name}: gold sentences cited", share(ours), (), old, aim=0.60)
    scorer.row(f"{name}: gold sentences among the first {count}", share(first))
    scorer.row(f"{name}: gold sentences among the cross-encoder's best {count}", share(best))
    for what, texts in (("what is cited", ours), (f"the first {count}", first), (f"the cross-encoder's best {count}", best)):
        said = [number for number in own if texts[number]]
        scorer.row(f"{name}: gold among {what}", [share_chosen(questions[number], texts[number]) for number in said])
    scorer.table.row(
        f"{name}: sentences cited in an answer", f"{mean([float(len(set(ours[number]))) for number in own if ours[number]]):.2f}", ""
    )
    scorer.row(f"{name}: refused", [float(replies[number].refused) for number in own])
    scorer.row("clapnq, unanswerable: refused", [float(r.refused) for q, r in zip(questions, replies, strict=True) if not q.answerable])
    is_answerable, title = [question.answerable for question in questions], "clapnq: answerable against unanswerable, area under the curve"
    if not 0 < sum(is_answerable) < len(questions): return
    area = area_under_curve([reply.confidence for reply in replies], is_answerable)
    scorer.table.row(f"{title} of the confidence", f"{area:.3f}", "≥ 0.92", area >= 0.92)
    alone = [float(rerank(q.text, [f"{p['title']}. {p['text']}"])[0]) for q, p in zip(questions, passages, strict=True)]
    scorer.table.row(f"{title} of the cross-encoder's score of the passage", f"{area_under_curve(alone, is_answerable):.3f}", "")


# ---------------------------------------------------------------- the runs


class Run:
    "The flags of this run and what every set needs."

    def __init__(self, args: Any, table: Table) -> None:
        self.args, self.table, self.scorer = args, table, Scorer(table)
        self.replies: list[Reply] = []
        self.num_questions = 0  # of the set, also those that were not asked

    def some(self, key: str, questions: list[Question]) -> list[Question]:
        "A fixed sample where only some were asked for; with --only_kept those whose replies were kept."
        self.num_questions += len(questions)
        if self.args.only_kept:
            kept = Kept(self.args.keep, key).replies
            questions = [question for question in questions if question.id in kept]
        limit = self.args.limit.get(key, self.args.limit.get("", 0))
        if not limit or len(questions) <= limit: return questions
        ranked = sorted(questions, key=lambda question: hashlib.sha256(question.id.encode()).digest())
        chosen = {question.id for question in ranked[:limit]}
        return [question for question in questions if question.id in chosen]

    def before(self, name: str) -> dict[str, Reply]:
        return Kept(self.args.before, name).replies if self.args.before else {}

    @contextmanager
    def tools(self, search: str, port: int = 0, max_pages: int = 0) -> Iterator[tuple[Any, TestAgent]]:
        "Tools over a back end with a save folder of its own."
        with tempfile.TemporaryDirectory() as folder:
            extra: dict[str, Any] = {"max_crawl_pages": max_pages} if max_pages else {}
            hosts = (f"127.0.0.1:{port}",) if port else ()
            extra |= {"model_name": self.args.model_name, "max_seconds": self.args.max_seconds}
            config = TestAgent(search=search, save_dir=Path(folder), allow_hosts=hosts, **extra)
            yield load(config), config

    def note(self, folder: str) -> None:
        questions, kept = self.some("notes", manual_questions(NOTES, folder)), Kept(self.args.keep, "notes", self.args.prompts)
        if all(question.id in kept.replies for question in questions):
            replies = [kept.replies[question.id] for question in questions]
        else:
            with self.tools(f"folder:{NOTES / folder}") as (tools, config):
                replies = ask_all(questions, tools, config, kept)
        self.replies += replies
        report_manuals(self.scorer, f"{folder}, {TUNED.get(folder, 'not tuned on')}", questions, replies, self.before("notes"))

    def manual(self, site: str) -> None:
        folder, kept = self.args.data / "manuals", Kept(self.args.keep, "manuals", self.args.prompts)
        start = MANUALS.get(site, f"{site}/index.html")
        questions = self.some("manuals", manual_questions(PACKAGED_QUESTIONS if site in PACKAGED else folder, site))
        if all(question.id in kept.replies for question in questions):
            replies = [kept.replies[question.id] for question in questions]
        else:
            with static_site(folder) as server:
                with self.tools(f"site:{server.url.rstrip('/')}/{start}", server.port) as (tools, config):
                    replies = ask_all(questions, tools, config, kept, lambda url, title: url.split("#")[0].rsplit("/", 1)[-1])
        self.replies += replies
        report_manuals(self.scorer, f"{site}, {TUNED.get(site, 'not tuned on')}", questions, replies, self.before("manuals"))

    def translation(self, site: str) -> None:
        "Questions of German and French speakers over English pages."
        folder, kept = self.args.data / "manuals", Kept(self.args.keep, "translated")
        questions = self.some("translated", translated_questions(site))
        if not all(question.id in kept.replies for question in questions):
            with static_site(folder) as server:
                with self.tools(f"site:{server.url.rstrip('/')}/{site}/index.html", server.port) as (tools, config):
                    ask_all(questions, tools, config, kept, lambda url, title: url.split("#")[0].rsplit("/", 1)[-1], has_prompt=False)
        self.replies += [kept.replies[question.id] for question in questions]
        known = {"ours": kept.replies, "before": self.before("translated"), "english": Kept(self.args.keep, "manuals").replies}
        report_translated(self.scorer, f"{site}, {TUNED.get(f'translated {site}', 'not tuned on')}", questions, known)

    def xquad(self) -> None:
        rows = read_rows(self.args.data / "reading" / "xquad_en.jsonl")
        questions = self.some("xquad", xquad_questions(rows[1::2]))  # every second paragraph's; failures of the others were looked at
        pages = [{"title": f"{row['title']} {number}", "text": row["text"]} for number, row in enumerate(rows)]
        self._site("xquad", "xquad_en, 95 paragraphs crawled and searched", pages, questions, 0.62)

    def two_hop(self) -> None:
        questions, pages = two_hop_questions(self.args.data), read_rows(self.args.data / "two_hop" / "pages.jsonl")
        questions, replies = self._site("two_hop", "two_hop", pages, self.some("two_hop", questions), 0.60)
        for k, aim in ((10, 0.97), (1, 0.80)):
            self.scorer.row(
                f"two_hop: hit@{k}", [hit(r.read_pages, q.gold_pages, k) for q, r in zip(questions, replies, strict=True)], aim=aim
            )

    def absent(self) -> None:
        pages = read_rows(self.args.data / "two_hop" / "pages.jsonl")
        self._site("absent", "names that no page bears", pages, self.some("absent", absent_questions(pages)), 0.0)

    def _site(
        self, key: str, name: str, pages: list[dict[str, str]], questions: list[Question], aim: float
    ) -> tuple[list[Question], list[Reply]]:
        kept, before = Kept(self.args.keep, key, self.args.prompts), self.before(key)
        if all(question.id in kept.replies for question in questions):
            replies = [kept.replies[question.id] for question in questions]
        else:
            with page_site(pages) as server, self.tools(f"site:{server.url}", server.port, len(pages) + 100) as (tools, config):
                replies = ask_all(questions, tools, config, kept, has_prompt=key != "absent")
        self.replies += replies
        if any(question.answerable for question in questions):
            report_f1(self.scorer, name, questions, replies, before, aim)
        else:
            old = [float(before[q.id].refused) for q in questions] if all(q.id in before for q in questions) else []
            self.scorer.row(f"{name}: refused", [float(reply.refused) for reply in replies], (), old, aim=0.95)
        return questions, replies

    def clapnq(self) -> None:
        rows = clapnq_rows(self.args.data)[1]
        by_id = {row["id"]: row for row in rows}
        questions, kept = self.some("clapnq", clapnq_questions(rows)), Kept(self.args.keep, "clapnq", self.args.prompts)
        before = self.before("clapnq")
        if all(question.id in kept.replies for question in questions):
            replies = [kept.replies[question.id] for question in questions]
        else:
            with self.tools("demo") as (tools, config):

                def show(question: Question) -> None:
                    passage = by_id[question.id]["passages"][0]
                    tools.search = OnePassage(passage["title"], passage["text"])

                replies = ask_all(questions, tools, config, kept, before=show, has_prompt=False)
        self.replies += replies
        report_passages(self.scorer, questions, replies, before)

    def demo(self) -> None:
        items = demo_questions("report")
        questions = [
            Question(f"demo-{i}", q.question, q.kind, list(q.answers), list(q.gold_pages), {}, bool(q.answers)) for i, q in enumerate(items)
        ]
        questions, kept, before = self.some("demo", questions), Kept(self.args.keep, "demo", self.args.prompts), self.before("demo")
        if all(question.id in kept.replies for question in questions):
            replies = [kept.replies[question.id] for question in questions]
        else:
            with self.tools("demo") as (tools, config):
                replies = ask_all(questions, tools, config, kept)
        self.replies += replies
        report_f1(self.scorer, "demo", questions, replies, before, 0.80)
        refused = [q.answerable for q, r in zip(questions, replies, strict=True) if r.refused]
        missing = [float(r.refused) for q, r in zip(questions, replies, strict=True) if not q.answerable]
        if not missing: return
        self.scorer.row("demo: precision of refusals", [float(not answerable) for answerable in refused], aim=0.85)
        self.scorer.row("demo: recall of refusals", missing, aim=0.95)


def limits(text: str) -> dict[str, int]:
    "How many questions of which set; the empty name stands for all sets."
    pairs = [part.rpartition("=") for part in text.split(",")]
    if unknown := {name for name, _, _ in pairs} - {*SETS, ""}:
        raise ValueError(f"unknown sets {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    return {name: int(count) for name, _, count in pairs}


def main() -> int:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four questions of the demo site and of web passages")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--sets", default=",".join(SETS), help="which sets, with commas")
    parser.add_argument("--notes", default=",".join(REPORTED_NOTES), help="which folders of notes, with commas")
    parser.add_argument("--manuals", default=",".join(MANUALS), help="which manuals, with commas")
    parser.add_argument(
        "--limit", type=limits, default={}, help="a fixed sample of so many questions of each site, or of named sets: xquad=60,demo=40"
    )
    parser.add_argument("--only_kept", action="store_true", help="ask nothing: report on the replies in --keep")
    parser.add_argument("--keep", type=Path, help="folder where replies are written down, and found again")
    parser.add_argument("--before", type=Path, help="such a folder of another state of the code")
    parser.add_argument(
        "--prompts", type=Path, help="such a folder whose replies of the one prompt are taken over: they do not change with the code"
    )
    parser.add_argument("--note", default="", help="a sentence that belongs under the table")
    parser.add_argument("--model_name", default="smollm2")
    parser.add_argument("--max_seconds", type=float, default=60.0, help="for one question; more where other work shares the machine")
    args = parser.parse_args()
    sets = ["clapnq", "demo"] if args.quick else args.sets.split(",")
    if args.quick:
        args.limit = {"": 4}
    if unknown := set(sets) - set(SETS):
        parser.error(f"unknown sets {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    if unknown := set(args.manuals.split(",")) - {*MANUALS, *PACKAGED}:
        parser.error(f"unknown manuals {', '.join(sorted(unknown))}; there are {', '.join([*MANUALS, *PACKAGED])}")
    if set(sets) != {"demo"}:
        skip_without(args.data)
    parts = {
        "manuals": args.manuals.split(","),
        "translated": [one for one in args.manuals.split(",") if one in PACKAGED],
        "notes": args.notes.split(","),
    }
    statuses = []
    for name, part in ((one, part) for one in sets for part in parts.get(one, [""])):
        if args.only_kept and not any(question_id.startswith(part[:2]) for question_id in Kept(args.keep, name).replies):
            continue
        statuses.append(report_set(args, name, part))
    return max(statuses, default=0)


def codes_of(replies: Sequence[Reply]) -> str:
    counts = Counter(reply.code or "a commit that was not noted" for reply in replies)
    return " and ".join(f"{code} ({count})" for code, count in counts.items())


def report_set(args: Any, name: str, part: str) -> int:
    "Ask one set, or one manual or folder of notes, and write its table; 1 if an aim is missed."
    titles = {"manuals": f"the {part} manual", "notes": f"the notes of {part}"}
    titles["translated"] = f"German and French questions about the {part} manual"
    title = titles.get(name, name)
    table = Table(f"Answers as the user sees them: {title}", packages=("transformers", "onnxruntime"))
    run = Run(args, table)
    if part:
        {"manuals": run.manual, "translated": run.translation, "notes": run.note}[name](part)
    else:
        getattr(run, name)()
    for unit, times in (
        ("seconds a question", sorted(reply.seconds for reply in run.replies)),
        ("CPU-seconds a question", sorted(reply.cpu_seconds for reply in run.replies)),
    ):
        if not times: continue
        median, late = statistics.median(times), times[min(len(times) - 1, int(0.95 * len(times)))]
        table.row(f"{unit}: median, 95th percentile", f"{median:.1f}, {late:.1f}", "≤ 6, ≤ 15", median <= 6 and late <= 15)
    asked = f"{len(run.replies)} of the set's {run.num_questions} questions"
    table.note(f"Answers to {asked}, by the code of {codes_of(run.replies)}.")
    old = run.before(name)
    if before := [old[reply.id] for reply in run.replies if reply.id in old]:
        table.note(f"Before: by the code of {codes_of(before)}.")
    if part and name != "translated":
        table.note("The one prompt is offered no refusal, so it stands beside the questions that have an answer alone.")
    table.note("Intervals of what is 0 or 1 for each question are Wilson's, the others and those of differences are by the bootstrap.")
    if args.prompts:
        table.note("Where the one prompt had been asked before, with the same back end and model, its reply was kept.")
    if args.max_seconds != 60:
        table.note(f"A question had up to {args.max_seconds:g} seconds, since other work shared the machine.")
    if args.note:
        table.note(args.note)
    tuned = TUNED.get(f"translated {part}" if name == "translated" else part or name, "only measured")
    table.note(f"Tuned on: what agent/calibration.json names. {part or 'This set'}: {tuned}.")
    return table.finish(args.record and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
