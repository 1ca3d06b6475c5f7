"""Make the reader's weights: questions from raw pages, training, and a confidence fitted on questions that training never saw.

    OMP_NUM_THREADS=1 python tools/train_reader.py --data ../shared/data --out models/reader

takes about 13 CPU-minutes on one core and leaves `models/reader/span_reader.safetensors`; copy it to lightbulb/reading/weights/
to ship it. The shipped weights were made by these rules and 800 steps on 24 November 2026, from the demo articles as they stood then and
with 16 more pages left out; a new run draws other examples of the same mixture and gives weights of the same kind, not the same bytes.
`--resume` goes on after a kill. Left out of the corpus: every page that answers a question of two_hop or is named in one, and the pages
of tools/reader_development.jsonl. Questions and answers of two_hop and the `report` questions of the demo site are never read.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lightbulb.core.report import MetricsFile
from lightbulb.reading.answer_kinds import expected_kind
from lightbulb.reading.reader import SpanReader, TrainReader, could_answer, fit_confidence, train_reader, typed_span
from lightbulb.reading.clauses import sentence_ranges, short_title
from lightbulb.reading.examples import write_examples
from lightbulb.reading.network import Confidence, change_confidence
from lightbulb.web.demo_site import demo_questions, demo_text, load_articles

HERE = Path(__file__).parent
DEVELOPMENT = [json.loads(line) for line in (HERE / "reader_development.jsonl").read_text(encoding="utf-8").splitlines()]
Page = tuple[str, str]  # title, text


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def encyclopedia(folder: Path) -> list[Page]:
    "The two_hop passages that no question touches, without the development pages."
    questions = read_lines(folder / "questions.jsonl")
    named = " ".join(row["question"] for row in questions).casefold()
    left_out = {title for row in questions for title in row["gold_pages"]} | {row["title"] for row in DEVELOPMENT}
    return [
        (row["title"], row["text"].replace("\n", " "))
        for row in read_lines(folder / "pages.jsonl")
        if row["title"] not in left_out and not re.search(r"\b" + re.escape(short_title(row["title"]).casefold()) + r"\b", named)
    ]


def wikitext(path: Path) -> list[Page]:
    "Paragraphs of WikiText-2 with their article's title, in ordinary spelling; sentences with unknown words are dropped."
    pages, title = [], None
    for line in path.read_text(encoding="utf-8").split("\n"):
        line = line.strip()
        heading = re.fullmatch(r"= ([^=].*?[^=]) =", line)
        if heading:
            title = re.sub(r" @(.)@ ", r"\1", heading[1])
            continue
        if not line or line.startswith("=") or not title: continue
        text = re.sub(r" @([-,.])@ ", r"\1", line)
        text = re.sub(r" ([,.;:)!?%])", r"\1", text)
        text = re.sub(r"([(]) ", r"\1", text)
        text = re.sub(r' " (.*?) " ?', r' "\1" ', text)
        text = re.sub(r" 's\b", "'s", text)
        text = re.sub(r" ' ", "' ", text).replace(" n't", "n't").replace(" – ", "–")
        text = " ".join(text[begin:end].strip() for begin, end in sentence_ranges(text) if "<unk>" not in text[begin:end])
        if len(text.split()) > 25 and "<unk>" not in title:
            pages.append((title, text))
    return pages


def demo_articles() -> list[Page]:
    "Paragraphs of the demo site's articles."
    return [
        (article.title, paragraph.replace("\n", " "))
        for article in load_articles().values()
        for paragraph in re.split(r"\n\s*\n", article.text)
        if len(paragraph.split()) > 15 and "|" not in paragraph
    ]


def corpus(data: Path) -> list[Page]:
    paragraphs = [page for name in ("wiki.valid.tokens", "wiki.test.tokens") for page in wikitext(data / "wikitext2" / name)]
    return encyclopedia(data / "two_hop") + paragraphs + 3 * demo_articles()


def agree(answer: str, golds: Sequence[str]) -> bool:
    "Whether an answer holds a gold answer's words or the other way round."
    words = set(re.findall(r"\w+", answer.lower()))
    return any(words <= gold or gold <= words for gold in (set(re.findall(r"\w+", gold.lower())) for gold in golds)) and bool(words)


def calibrate(path: Path, data: Path) -> Confidence:
    "The confidence fitted on the development questions and the demo site's train and calibrate splits, answerable or not."
    reader = SpanReader.load(path)
    pages = {row["title"]: row["text"] for row in read_lines(data / "two_hop" / "pages.jsonl")}
    asked = [(row["question"], [pages[row["title"]]], row["answers"]) for row in DEVELOPMENT]
    rng = random.Random(0)
    for question in (*demo_questions("train"), *demo_questions("calibrate")):
        if question.kind != "single_hop": continue
        gold, other = demo_text(question.gold_pages[-1:]), article_like(question.question, question.gold_pages)
        asked += [
            (question.question, [paragraph], question.answers if agree_text(paragraph, question.answers) else ())
            for paragraph in pieces(gold, rng)
        ]
        asked.append((question.question, [other], ()))
    rows = []
    for question, texts, answers in asked:
        kind, found = expected_kind(question), []
        for index, start, end, margin, answerable in reader.spans(question, texts):
            span = typed_span(texts[index], start, end, kind)
            fit = could_answer(texts[index], *span, kind)
            found.append((margin - 3.0 * (not fit), margin, answerable, fit, texts[index][slice(*span)]))
        if found:
            rows.append((*max(found)[1:4], agree(max(found)[4], answers)))
    print(f"confidence fitted on {len(rows)} questions, {sum(row[3] for row in rows)} of them answered rightly")
    return fit_confidence(rows, ridge=0.001)


def agree_text(text: str, answers: Sequence[str]) -> bool:
    return any(answer.lower() in text.lower() for answer in answers)


def pieces(text: str, rng: random.Random) -> list[str]:
    "Two stretches of about 120 words."
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if len(paragraph.split()) > 25]
    return rng.sample(paragraphs, min(2, len(paragraphs)))


def article_like(question: str, gold: Sequence[str]) -> str:
    "The start of the article, not among the gold ones, that shares most words with the question."
    words = set(re.findall(r"\w{4,}", question.lower()))
    others = [article.text for article in load_articles().values() if article.title not in gold]
    return " ".join(max(others, key=lambda text: sum(word in text.lower() for word in words)).split()[:150])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("models/reader"))
    parser.add_argument("--num_steps", type=int, default=800)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--calibrate_only", action="store_true", help="fit the confidence of the weights in --out again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    examples, weights = args.out / "examples.jsonl", args.out / "span_reader.safetensors"
    if not args.calibrate_only:
        if not (args.resume and examples.exists()):
            print(write_examples(examples, corpus(args.data)), "examples")
        began, metrics = time.process_time(), MetricsFile(args.out / "metrics.jsonl")
        for report in train_reader(TrainReader(examples, weights, num_steps=args.num_steps, resume=args.resume)):
            metrics.write(report)
            if report.step % 25 == 0:
                print(f"step {report.step}: span loss {report.loss:.3f}, {time.process_time() - began:.0f} CPU-s", flush=True)
    change_confidence(weights, calibrate(weights, args.data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
