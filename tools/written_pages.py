"""Pages of invented places, products and programs with questions as users type them, and the place of each short answer.

`tools/written_pages.jsonl` has four pages a domain, written for this; its questions name the line that answers, or none if no page of the
domain does. A third of them are asked in words that the line does not use. What is asked for yes or no, how or why stands under `told`,
with what the line says to it. The pages are read by the package's own parsers, as those of a folder. `tools/train_reader.py`,
`tools/teach_answers.py` and `tools/teach_verdicts.py` teach with them; the domains of KEPT are never taught, but measured, and every
third question of them helps to fit the confidence.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightbulb.agent.composing import Line, lines_of
from lightbulb.core.records import Document
from lightbulb.reading.answer_kinds import expected_kind
from lightbulb.reading.clauses import ReadingExample
from lightbulb.web.corpus import read_files
from tools.train_reader import read_lines

PAGES = Path(__file__).with_name("written_pages.jsonl")
KEPT = frozenset(
    (
        "a phone tariff",
        "a long bridge",
        "a monitoring agent",
        "a mobile language-learning app",
        "a species of spider",
        "a concert hall",
        "a river valley and its villages",
        "a composer",
        "a hearing aid",
        "a hospital ward's information for patients and visitors",
        "a research institute's computing cluster (user guide)",
        "a natural history of a mineral and its mines (encyclopedia)",
        "a painter",
        "a small cinema",
        "a projector",
        "an adult-education centre",
        "a volcano (encyclopedia)",
        "a DNS server (administrator's guide)",
        "a heat pump (manual)",
        "a driving school",
        "a mathematician (biography)",
        "a boarding kennel for dogs",
        "a coffee machine (manual)",
        "a task scheduler for servers",
    )
)


@dataclass(frozen=True)
class WrittenQuestion:
    "A question; the page and range of its answer, page -1 if the domain does not say."

    text: str
    page: int
    start: int = -1
    end: int = -1
    answer: str = ""


@dataclass(frozen=True)
class ToldQuestion:
    "A question for yes or no, how or why, and the line that tells."

    text: str
    line: Line
    says: str  # yes, no, or answers


@dataclass
class WrittenDomain:
    "The pages of one domain, their lines, and what is asked."

    name: str
    files: dict[str, str]  # name → Markdown
    documents: list[Document]
    questions: list[WrittenQuestion]
    told: list[ToldQuestion] = field(default_factory=list)
    lines: list[list[Line]] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = [lines_of(document) for document in self.documents]

    def line_at(self, page: int, start: int, end: int) -> Line | None:
        "The line that a range stands in."
        return next((line for line in self.lines[page] if line.start <= start and end <= line.end), None)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _placed(question: dict, page: int, lines: list[Line]) -> WrittenQuestion | None:
    "The question with the place of its answer, in the line that is most like its quote; None if no line has it."
    if "answer" not in question: return WrittenQuestion(question["question"], -1)
    quoted, answer = _words(question["quote"]), question["answer"]
    holding = [line for line in lines if answer in line.text]

    def alike(line: Line) -> float:
        words = _words(line.text)
        return len(quoted & words) * (1 / len(quoted | words) + 0.5 / max(1, len(words)))

    best = max(holding, key=alike, default=None)
    if best is None or alike(best) < 0.4: return None
    start = best.start + best.text.index(answer)
    return WrittenQuestion(question["question"], page, start, start + len(answer), answer)


def write_files(files: Mapping[str, str], folder: Path) -> list[Path]:
    "Put texts into files of a folder."
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def written_domains(*, kept: bool) -> Iterator[WrittenDomain]:
    "The domains that are measured, or those that teach."
    pages: dict[str, list[dict]] = defaultdict(list)
    for row in read_lines(PAGES):
        pages[row["domain"]].append(row)
    for name, rows in pages.items():
        if (name in KEPT) != kept: continue
        names = [re.sub(r"\W+", "_", row["page"]) for row in rows]
        files = {f"{number}_{page}.md": row["markdown"] for number, (page, row) in enumerate(zip(names, rows, strict=True))}
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(files, Path(folder))
            documents = [page for page in read_files(paths) if isinstance(page, Document)]
        domain = WrittenDomain(name, files, documents, [])
        placed = (_placed(one, page, domain.lines[page]) for page, row in enumerate(rows) for one in row["questions"])
        domain.questions += [one for one in placed if one]
        for page, row in enumerate(rows):
            by_text = {line.text: line for line in domain.lines[page]}
            domain.told += [ToldQuestion(one["question"], by_text[one["quote"]], one["says"]) for one in row.get("told", ())]
        yield domain


# ---------------------------------------------------------------- for the reader


def _stretch(domain: WrittenDomain, page: int, rng: random.Random, around: WrittenQuestion | None = None) -> tuple[str, int]:
    "Some lines of a page below its title, around an answer if it is given, and how far they moved it."
    lines, wanted = domain.lines[page], rng.randint(25, 170)
    first = last = rng.randrange(len(lines))
    if around:
        first = last = next(i for i, line in enumerate(lines) if line.start <= around.start and around.end <= line.end)
    while sum(line.num_words for line in lines[first : last + 1]) < wanted and (first, last) != (0, len(lines) - 1):
        if first and (last == len(lines) - 1 or rng.random() < 0.5):
            first -= 1
        else:
            last += 1
    head, start = f"{domain.documents[page].title}. ", lines[first].start
    return head + domain.documents[page].text[start : lines[last].end], len(head) - start


def reading_examples(domains: list[WrittenDomain], rng: random.Random) -> Iterator[ReadingExample]:
    "Endless examples: stretches with the answer, one in ten of another page without it, and some of pages that do not say."
    asked = [(domain, question) for domain in domains for question in domain.questions]
    while True:
        domain, question = rng.choice(asked)
        text = question.text if rng.random() > 0.1 else question.text.rstrip("? ")
        kind, pages = expected_kind(text), range(len(domain.documents))
        says = lambda passage, answer=question.answer: answer.casefold() in passage.casefold()
        if not question.answer:
            passages = [_stretch(domain, page, rng)[0] for page in rng.sample(pages, rng.choice((1, 1, 2)))]
            yield ReadingExample(text, passages[0], -1, -1, kind, "written_unanswered", tuple(passages[1:]))
            continue
        other = _stretch(domain, rng.choice([page for page in pages if page != question.page]), rng)[0]
        draw = rng.random()
        if draw < 0.1:
            if not says(other):
                yield ReadingExample(text, other, -1, -1, kind, "written_unanswered")
            continue
        passage, shift = _stretch(domain, question.page, rng, question)
        rivals = (other,) if draw < 0.37 and not says(other) else ()
        yield ReadingExample(text, passage, question.start + shift, question.end + shift, kind, "written", rivals)
