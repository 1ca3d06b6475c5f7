"""Users' questions over real manuals, with the line that answers and with passages that only look so, for teaching the reader.

`tools/manual_questions.jsonl` has questions as users type them over eighteen manuals that Debian ships, all written for this: of each the
page, how the sentences begin that answer (the best one first) or only seem to (`near`), `yes` or `no` where that is asked, and the short
answer, word for word. The sentences stand in the packages, under their own licences, and are read from there. The manuals of KEPT teach
nothing and measure. None of the eighteen is a manual of the benchmarks.

    python -m tools.manual_lines ../manuals  # get the packages by apt and unpack their pages

`tools/train_reader.py --manuals ../manuals` teaches with them.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path

from lightbulb.agent.composing import Line, lines_of
from lightbulb.core.records import Document, Passage
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.reading.answer_kinds import expected_kind
from lightbulb.reading.clauses import ReadingExample
from lightbulb.web.backend import SearchBackend, open_folder
from tools.train_reader import read_lines

QUESTIONS = Path(__file__).with_name("manual_questions.jsonl")
KEPT = frozenset(("exim", "hugin", "mutt", "wesnoth"))
MAX_PAGES = 300


def read_questions(manual: str) -> list[dict]:
    "The questions over one manual."
    return [row for row in read_lines(QUESTIONS) if row["manual"] == manual]


def evidence_of(row: Mapping, document: Document) -> list[str]:
    "The lines of a page that answer a question, whole."
    begins = lambda line: any(_plain(beginning) in _plain(line.text) for beginning in row.get("evidence", ()))
    return [line.text for line in lines_of(document) if begins(line)]


def _plain(text: str) -> str:
    words = re.findall(r"\w+", text.lower())
    return f" {' '.join(words)} "


def chosen_pages(folder: Path, told: Mapping[str, Sequence[str]]) -> dict[str, bytes]:
    """The pages of an unpacked package by name: those of `told`, page → beginnings of its sentences, and others up to 300 in all.

    Of pages with one name, in several languages mostly, the one with most of the beginnings is taken.
    """
    places: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if re.search(r"\.html?(?:\.gz)?$", path.name) and path.is_file():
            places[path.name.removesuffix(".gz")].append(path)
    read = lambda path: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    plain = lambda data: _plain(unescape(re.sub(r"<[^>]+>", " ", data.decode("utf-8", "replace"))))
    pages = {}
    for name in sorted(places, key=lambda name: name not in told)[: max(MAX_PAGES, len(told))]:
        versions = [read(path) for path in places[name]]
        texts = [plain(data) if len(versions) > 1 else "" for data in versions]
        counts = [sum(_plain(beginning) in text for beginning in told.get(name, ())) for text in texts]
        pages[name] = versions[counts.index(max(counts))]
    return pages


def fetch_manuals(folder: Path) -> None:
    "Get the packages from the machine's Debian mirror and unpack the pages that are asked about, and others of theirs."
    told: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in read_lines(QUESTIONS):
        if row["page"]:
            told[row["manual"], row["package"]][row["page"]] += row.get("evidence", [])
    for (manual, packages), of_page in told.items():
        with tempfile.TemporaryDirectory() as name:
            subprocess.run(["apt-get", "download", "-q", *packages.split()], cwd=name, check=True)
            for package in Path(name).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package.name, "."], cwd=name, check=True)
            pages = chosen_pages(Path(name), of_page)
        (folder / manual).mkdir(parents=True, exist_ok=True)
        for page, data in pages.items():
            (folder / manual / page).write_bytes(data)
        print(f"{manual}: {len(pages)} pages, {len(pages.keys() & of_page.keys())} of the {len(of_page)} that are asked about", flush=True)


def place_of(lines: Sequence[Line], beginning: str, answer: str) -> tuple[int, int, int] | None:
    "The line that begins so and has the answer in whole words, and the answer's range in it; None if there is none."
    for number, line in enumerate(lines):
        match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", line.text)
        if match and _plain(beginning) in _plain(line.text): return number, *match.span()
    return None


def around(document: Document, lines: Sequence[Line], number: int, num_words: int, rng: random.Random) -> tuple[int, int]:
    "The range of a stretch of the document around one of its lines."
    first = last = number
    words = lines[number].num_words
    while words < num_words and (first > 0 or last < len(lines) - 1):
        if first > 0 and (last == len(lines) - 1 or rng.random() < 0.5):
            first -= 1
            words += lines[first].num_words
        else:
            last += 1
            words += lines[last].num_words
    return lines[first].start, lines[last].end


def manual_examples(folder: Path, rng: random.Random, *, kept: bool = False) -> list[ReadingExample]:
    "Short questions with a stretch of their page, and questions that the manual leaves open; rivals are what a search finds besides."
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    asked: dict[str, list[dict]] = defaultdict(list)
    for row in read_lines(QUESTIONS):
        if (row["manual"] in KEPT) == kept and ("short" in row or row["kind"] == "unanswerable"):
            asked[row["manual"]].append(row)
    examples = []
    for manual, rows in asked.items():
        if not (folder / manual).is_dir():
            raise FileNotFoundError(f"{folder / manual} is missing: run python -m tools.manual_lines {folder}")
        search = open_folder(str(folder / manual), lambda: KnowledgeBase(embed=embed))
        list(search.prepare())
        paths = {path.name: path.resolve() for path in (folder / manual).rglob("*.htm*")}
        examples += [example for row in rows if (example := _example(row, search, paths.get(row["page"]), rng))]
    return examples


def _example(row: dict, search: SearchBackend, path: Path | None, rng: random.Random) -> ReadingExample | None:
    "One question as an example; None where its line is not found."
    question, answer = row["question"], row.get("short", "")
    results = search.search(question, 10)
    passages: list[Passage] = sorted((one for result in results for one in result.passages), key=lambda one: -one.score)[:12]
    told = [_plain(beginning) for beginning in row.get("evidence", ())]
    is_silent = lambda text: not any(one in _plain(text) for one in told) and not (answer and answer.lower() in text.lower())
    rivals = tuple(f"{passage.title}. {passage.text}" for passage in passages if is_silent(passage.text))
    kind = expected_kind(question)
    if not answer: return ReadingExample(question, rivals[0], -1, -1, kind, "manual", rivals[1:4]) if rivals else None
    if path is None: return None
    (document,) = search.read([path.as_uri()])
    if not isinstance(document, Document): return None
    lines = lines_of(document)
    place = place_of(lines, row["evidence"][0], answer)
    if place is None: return None
    number, first, last = place
    start, end = around(document, lines, number, rng.choice((40, 80, 120, 160)), rng)
    heading = lines[number].heading if rng.random() < 0.5 else document.title
    moved = len(heading) + 2 + lines[number].start - start
    return ReadingExample(question, f"{heading}. {document.text[start:end]}", moved + first, moved + last, kind, "manual", rivals[:3])


def drawn(examples: Sequence[ReadingExample], rng: random.Random) -> Iterator[ReadingExample]:
    "The examples over and over, in another order each time and with some of their rivals; an eighth without the stretch that answers."
    while True:
        for example in rng.sample(examples, len(examples)):
            rivals = rng.sample(example.others, min(len(example.others), rng.choice((1, 2, 2, 3))))
            if example.start >= 0 and rivals and rng.random() < 0.12:
                yield ReadingExample(example.question, rivals[0], -1, -1, example.kind, "manual", tuple(rivals[1:]))
            else:
                yield ReadingExample(example.question, example.text, example.start, example.end, example.kind, "manual", tuple(rivals))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    fetch_manuals(parser.parse_args().folder)
