"""Lines of invented documents with questions as people type them, and reading examples made of them.

`tools/verdict_lines.jsonl` has a line of a document in each row: `context` (title and heading), `line`, a question that it answers with
`yes` and one with `no`, one about the same matter that it leaves open (`nothing`), one that it `answers` otherwise and its `short` answer,
word for word, and mostly a `second` such question with `second_short`. All of it was written for this project. An eighth of the documents,
by a checksum of their titles, teaches nothing.
"""

from __future__ import annotations

import random
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightbulb.reading.answer_kinds import expected_kind
from lightbulb.reading.clauses import ReadingExample
from tools.train_reader import read_lines

LINES = Path(__file__).with_name("verdict_lines.jsonl")


def title_of(row: Mapping) -> str:
    "The title of a line's document."
    return row["context"].split(" > ")[0]


def written_lines(*, kept: bool) -> list[dict]:
    "The lines that are measured, or those that teach."
    return [row for row in read_lines(LINES) if (zlib.crc32(title_of(row).encode()) % 8 == 0) == kept]


def by_document(rows: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    "The lines of each document, by its title."
    documents: dict[str, list[Mapping]] = defaultdict(list)
    for row in rows:
        documents[title_of(row)].append(row)
    return documents


def short_questions(row: Mapping) -> Iterator[tuple[str, str]]:
    "The questions of a line that a stretch of it answers, with that stretch."
    for asked, answer in (("answers", "short"), ("second", "second_short")):
        if answer in row:
            yield row[asked], row[answer]


def _stretch(lines: Sequence[Mapping], rng: random.Random, place: int) -> tuple[str, int]:
    "Some lines of a document below its title, around one of them, and where that one begins."
    wanted = rng.choice((0, rng.randint(25, 90), rng.randint(60, 170)))
    first = last = place
    while sum(len(row["line"].split()) for row in lines[first : last + 1]) < wanted and (first, last) != (0, len(lines) - 1):
        if first and (last == len(lines) - 1 or rng.random() < 0.5):
            first -= 1
        else:
            last += 1
    text, start, above = f"{title_of(lines[0])}. " if rng.random() < 0.9 else "", -1, ""
    for number in range(first, last + 1):
        heading = lines[number]["context"].rpartition(" > ")[2]
        if heading not in (above, title_of(lines[0])):
            text += heading + "\n"
        above, start = heading, len(text) if number == place else start
        text += lines[number]["line"] + "\n"
    return text.rstrip(), start


def line_reading_examples(rows: Sequence[Mapping], rng: random.Random) -> Iterator[ReadingExample]:
    "Endless examples: stretches of documents with the answer, some without the line that says it, and some of other documents."
    documents = list(by_document(rows).values())
    asked = [(lines, place, *pair) for lines in documents for place, row in enumerate(lines) for pair in short_questions(row)]
    while True:
        lines, place, question, answer = rng.choice(asked)
        question = question if rng.random() > 0.1 else question.rstrip("? ")
        kind, draw, others = expected_kind(question), rng.random(), rng.choice(documents)
        elsewhere = _stretch(others, rng, rng.randrange(len(others)))[0]
        if draw < 0.17:
            rest = [row for number, row in enumerate(lines) if number != place]
            passage = _stretch(rest, rng, rng.randrange(len(rest)))[0] if draw < 0.05 and rest else elsewhere
            if answer.casefold() not in passage.casefold():
                yield ReadingExample(question, passage, -1, -1, kind, "lines_unanswered")
            continue
        passage, start = _stretch(lines, rng, place)
        match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", lines[place]["line"])
        assert match, f"{answer!r} does not stand in {lines[place]['line']!r}"
        rivals = (elsewhere,) if rng.random() < 0.3 and answer.casefold() not in elsewhere.casefold() else ()
        yield ReadingExample(question, passage, start + match.start(), start + match.end(), kind, "lines", rivals)
