"""Teach whether what is marked in a line of a document answers a question, and write lightbulb/reading/weights/answers.safetensors.

The network is that of the verdicts (`lightbulb.reading.verdicts`); a line comes with its headings and with a possible answer between «
and »: *yes*, this answers the question, or *nothing*. It learns from the pages of `tools/written_pages.py` (the right answer has to lead
what the reader finds likely and is wrong, other answers, and fitting spans of lines that share words with the question), from lines of
invented documents (`tools/written_lines.py`: the right answer beside other stretches of the line and of the nearest lines), and from QAMR
without its sixteen kept articles (the right answer, that of another question to the same sentence, and one in another sentence). A fixed
seed; a quarter of an hour of one core. Kept domains, documents and articles measure it. Nothing of xquad_en, clapnq, two_hop, the manuals
or the notes is read.
Run from the top: OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python -m tools.teach_answers --data ../shared/data
"""

from __future__ import annotations

import argparse
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightbulb.agent.composing import Line
from lightbulb.agent.mentions import telling_stems
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import Embed, load_embedder
from lightbulb.reading.answer_kinds import candidates, expected_kind
from lightbulb.reading.people import majority_span
from lightbulb.reading.reader import SpanReader
from lightbulb.reading.verdicts import VerdictReader
from tools.teach_verdicts import WEIGHTS, mean_of, teach
from tools.train_reader import qamr
from tools.verdict_examples import NOTHING, YES, VerdictExample
from tools.written_lines import by_document, short_questions, written_lines
from tools.written_pages import WrittenDomain, WrittenQuestion, written_domains

Place = tuple[int, int, int]  # page, first and last character


def _same(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _typed(text: str, kind: str) -> list[tuple[int, int]]:
    "What looks like an answer of some kind, of the one that is asked for first."
    kinds = dict.fromkeys((kind, "date", "number", "person", "place"))
    return list(dict.fromkeys(place for one in kinds if one != "other" for place in candidates(text, one)))


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def found_by_reader(reader: SpanReader, domain: WrittenDomain, question: WrittenQuestion) -> list[Place]:
    "The ten likeliest spans of the domain's pages, by the reader."
    heads = [f"{document.title}. " for document in domain.documents]
    texts = [head + document.text for head, document in zip(heads, domain.documents, strict=True)]
    places = [
        (one.text_index, one.start - len(heads[one.text_index]), one.end - len(heads[one.text_index]))
        for one in reader.read(question.text, texts, top_k=10)
    ]
    return [place for place in places if place[1] >= 0]


def near_spans(
    domain: WrittenDomain,
    question: WrittenQuestion,
    rng: random.Random,
    *,
    likeness: Mapping[str, float] | None = None,  # of lines in context to the question, by the embedder
    most: int = 8,
) -> list[Place]:
    "Answers of other questions and spans of the kind that is asked for, first those whose lines are near the question, also by its words."
    asked, kind = telling_stems(question.text), expected_kind(question.text)
    shared = lambda line: len(asked & telling_stems(line.in_context)) + 12 * (likeness or {}).get(line.in_context, 0.0)
    rated: list[tuple[float, Place]] = []
    for other in domain.questions:
        line = domain.line_at(other.page, other.start, other.end) if other.answer and other is not question else None
        if line:
            rated.append((shared(line) + (expected_kind(other.text) == kind) + rng.random(), (other.page, other.start, other.end)))
    for page, lines in enumerate(domain.lines):
        for line in lines:
            spans = candidates(line.text, kind) if kind != "other" else []
            rated += [(shared(line) + 1 + rng.random(), (page, line.start + first, line.start + last)) for first, last in spans]
    ranked = list(dict.fromkeys(place for _, place in sorted(rated, reverse=True)))
    return ranked[:most]


def _likeness(embed: Embed, domain: WrittenDomain) -> Iterator[dict[str, float]]:
    "For each question how near the lines of its domain are."
    texts = [line.in_context for lines in domain.lines for line in lines]
    for row in embed([question.text for question in domain.questions], query=True) @ embed(texts).T:
        yield dict(zip(texts, row.tolist(), strict=True))


def written_groups(
    domains: Sequence[WrittenDomain], embed: Embed, rng: random.Random, reader: SpanReader | None = None, *, every: int = 1
) -> Iterator[list[VerdictExample]]:
    "The right answer of a question, if there is one, and up to four wrong ones; the reader finds them for every `every`-th question."
    for domain in domains:
        for number, (question, likeness) in enumerate(zip(domain.questions, _likeness(embed, domain), strict=True)):
            is_read = reader is not None and number % every == 0
            near = lambda question=question, likeness=likeness, domain=domain: near_spans(domain, question, rng, likeness=likeness)
            places = found_by_reader(reader, domain, question) if reader and is_read else near()
            gold = domain.line_at(question.page, question.start, question.end) if question.answer else None
            wrong = [_marked(domain, place) for place in places if not _is_right(domain, question, place)]
            wrong = [text for text in wrong if text]
            beside = list(_beside(gold, question)) if gold else []
            chosen = wrong[:2] + rng.sample(wrong[2:], min(1, len(wrong[2:]))) + rng.sample(beside, min(1, len(beside)))
            first = [VerdictExample(question.text, gold.marked(question.start, question.end), YES, "written")] if gold else []
            yield [*first, *(VerdictExample(question.text, text, NOTHING, "written") for text in chosen)]


def _marked(domain: WrittenDomain, place: Place) -> str:
    line = domain.line_at(*place)
    return line.marked(*place[1:]) if line else ""


def _is_right(domain: WrittenDomain, question: WrittenQuestion, place: Place) -> bool:
    if not question.answer: return False
    page, *span = place
    is_there = page == question.page and _overlap((span[0], span[1]), (question.start, question.end))
    return is_there or _same(domain.documents[page].text[slice(*span)]) == _same(question.answer)


def _beside(line: Line, question: WrittenQuestion) -> Iterator[str]:
    "Other spans of the line that answers."
    for first, last in _typed(line.text, expected_kind(question.text)):
        start, end = line.start + first, line.start + last
        if not _overlap((start, end), (question.start, question.end)) and _same(line.text[first:last]) != _same(question.answer):
            yield line.marked(start, end)


def marked_in(row: Mapping, answer: str) -> str:
    "A line of an invented document below its headings, with an answer between « and »; empty if it does not stand there in whole words."
    match, line = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", row["line"]), row["line"]
    return f"{row['context']}: {line[: match.start()]}« {answer} »{line[match.end() :]}" if match else ""


def line_groups(rows: Sequence[Mapping], embed: Embed, rng: random.Random, *, size: int = 5) -> list[list[VerdictExample]]:
    "The right answer of each short question to the lines, and wrong ones: other stretches of its line, and some of the nearest lines."
    groups = []
    for lines in by_document(rows).values():
        asked = [(place, *pair) for place, row in enumerate(lines) for pair in short_questions(row)]
        if not asked: continue
        near = embed([question for _, question, _ in asked], query=True) @ embed([f"{row['context']}: {row['line']}" for row in lines]).T
        for (place, question, answer), likeness in zip(asked, near, strict=True):

            def wrong(row: Mapping, most: int, answer: str = answer, kind: str = expected_kind(question)) -> list[str]:
                typed = [row["line"][first:last] for first, last in _typed(row["line"], kind)]
                stretches = dict.fromkeys([*(other for _, other in short_questions(row)), *typed])
                free = [one for one in stretches if one not in answer and answer not in one and _same(one) != _same(answer)]
                return [text for one in rng.sample(free, min(most, len(free))) if (text := marked_in(row, one))]

            others = [lines[other] for other in (-likeness).argsort()[:5] if other != place]
            texts = [*wrong(lines[place], 2), *(text for other in others for text in wrong(other, 1))]
            chosen = texts[:1] + rng.sample(texts[1:], min(size - 2, len(texts[1:])))
            first = VerdictExample(question, marked_in(lines[place], answer), YES, "line")
            groups.append([first, *(VerdictExample(question, text, NOTHING, "line") for text in chosen)])
    rng.shuffle(groups)
    return groups


def peoples_examples(rows: Sequence[dict], rng: random.Random, *, most: int) -> Iterator[VerdictExample]:
    "Of up to `most` questions the right answer and two wrong ones: in the same sentence and in another of the article."
    articles: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        if len(row["text"].split()) <= 80:
            articles[":".join(row["title"].split(":")[:2])].append(row)
    asked = [(row, question, article) for article in articles.values() for row in article for question in row["questions"]]
    for row, question, article in rng.sample(asked, min(most, len(asked))):
        gold = majority_span(question["answers"])
        if not gold: continue
        title, kind = row["title"].split(":")[-1] if rng.random() < 0.5 else "Notes", expected_kind(question["question"])
        mark = lambda text, span, title=title: f"{title}: {text[: span[0]]}« {text[slice(*span)]} »{text[span[1] :]}"
        accepted = [(answer["start"], answer["start"] + len(answer["text"])) for answer in question["answers"]]
        others = [majority_span(other["answers"]) for other in row["questions"] if other is not question]
        free = [span for span in [*others, *_typed(row["text"], kind)] if span and not any(_overlap(span, one) for one in accepted)]
        yield VerdictExample(question["question"], mark(row["text"], gold), YES, "people")
        if free:
            yield VerdictExample(question["question"], mark(row["text"], rng.choice(free)), NOTHING, "people")
        near = rng.choice(article)["text"]
        spans = _typed(near, kind) if _same(row["text"][slice(*gold)]) not in _same(near) else []
        if spans:
            yield VerdictExample(question["question"], mark(near, rng.choice(spans)), NOTHING, "people")


def measure(reader: VerdictReader, examples: Sequence[VerdictExample]) -> None:
    "The area under the curve of right against wrong, by where the examples come from."
    from benchmarks.answering import area_under_curve  # which finds its own scripts by PYTHONPATH

    values: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for example in dict.fromkeys(examples):
        values[example.source].append((reader.verdicts(example.question, [example.statement])[0].yes, example.says == YES))
    for source, rows in sorted(values.items()):
        print(f"{source:10} area {area_under_curve(*map(list, zip(*rows, strict=True))):.3f} of {len(rows)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=WEIGHTS / "answers.safetensors", help="weights of these or of the reader")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "answers.safetensors")
    parser.add_argument("--num_steps", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean", type=Path, nargs=2, help="train nothing: the mean of two files of weights, three parts to two")
    args = parser.parse_args()
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    spans, rng = SpanReader.load(), random.Random(args.seed)
    if args.mean:
        mean_of(args.mean, (0.6, 0.4), args.out)
    else:
        groups = [group for group in written_groups(list(written_domains(kept=False)), embed, rng, spans, every=8) if group]
        groups += line_groups(written_lines(kept=False), embed, rng)
        asked = list(peoples_examples(qamr(args.data)[0], rng, most=4000))
        rates = {"batch_size": 12, "groups_a_batch": 8, "learning_rate": 8e-5, "num_layers": 8}
        teach(asked, args.start, args.out, num_steps=args.num_steps, groups=groups, seed=args.seed, **rates)
    rng = random.Random(99)
    kept = [one for group in written_groups(list(written_domains(kept=True)), embed, rng, spans, every=4) for one in group]
    kept += [one for group in line_groups(written_lines(kept=True), embed, rng)[:300] for one in group]
    kept += peoples_examples(qamr(args.data)[1], rng, most=600)
    measure(VerdictReader.load(args.out), kept)
