"""Reading alone: the right text is given, and the reader has to point at the answer, or to see that there is none.

Sets: paragraphs with questions in SQuAD's manner (xquad_en), two-hop questions with the gold page and its title in the question, sentences
with questions of people (QAMR, the articles kept from training), search-engine questions on a passage that answers or does not (clapnq
without its first 100), facts and numbers of three manuals on their gold page, the demo site. Gold answers are used for scoring alone; none
of these questions trained the reader, but reader and mechanisms were chosen while looking at half of xquad_en and of the two-hop questions:
the other halves have rows of their own. `--before FILE` reads everything with other weights as well and says how much better the shipped
ones are, question by question.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from _scoring import exact_match, interval, mean, score_interval, token_f1
from _table import Table, skip_without

from lightbulb.agent.questions import SLOT, decompose
from lightbulb.core.english import FUNCTION_WORDS
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.answer_kinds import candidates, country_of, expected_kind
from lightbulb.reading.judge import Judge, calibration_error, gather_candidates
from lightbulb.reading.people import HumanExamples
from lightbulb.reading.reader import AnswerSpan, SpanReader
from lightbulb.web.demo_site import demo_questions, demo_text
from lightbulb.web.extract import extract


@dataclass(frozen=True)
class Task:
    "A question, the text that answers it, and the accepted answers."

    question: str
    text: str
    answers: tuple[str, ...]


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---------------------------------------------------------------- the sets


def two_hop_tasks(folder: Path) -> list[Task]:
    "The last step of each question with the gold page's title in its place."
    pages = {row["title"]: row["text"] for row in read_lines(folder / "two_hop" / "pages.jsonl")}
    tasks = []
    for row in read_lines(folder / "two_hop" / "questions.jsonl"):
        title = row["gold_pages"][0]
        name = re.sub(r"\s*\([^)]*\)$", "", title)
        tasks.append(Task(decompose(row["question"])[-1].replace(SLOT, name), pages[title], (row["answer"],)))
    return tasks


def paragraph_tasks(folder: Path) -> list[Task]:
    rows = read_lines(folder / "reading" / "xquad_en.jsonl")
    return [Task(asked["question"], row["text"], tuple(a["text"] for a in asked["answers"])) for row in rows for asked in row["questions"]]


def sentence_tasks(folder: Path, num_questions: int = 300) -> list[Task]:
    "Questions on the sixteen kept articles of QAMR, each sentence among others or alone."
    rows = read_lines(folder / "reading" / "qamr.jsonl")
    article = lambda row: ":".join(row["title"].split(":")[:2])
    articles = sorted({article(row) for row in rows})
    random.Random(5).shuffle(articles)  # as tools/train_reader.py draws them
    kept = [row for row in rows if article(row) in frozenset(articles[:16])]
    answers = {(row["text"], asked["question"]): asked["answers"] for row in kept for asked in row["questions"]}
    tasks, examples = [], iter(HumanExamples(kept, random.Random(7), unanswered=0.0, rivals=0.0))
    for example in examples:
        gold = next((golds for (text, asked), golds in answers.items() if asked == example.question and text in example.text), None)
        if gold:
            tasks.append(Task(example.question, example.text, tuple(answer["text"] for answer in gold)))
        if len(tasks) == num_questions: break
    return tasks


def manual_tasks(folder: Path) -> list[Task]:
    "Facts and numbers of the manuals with the text of their first gold page."
    tasks = []
    for row in read_lines(folder / "manuals" / "questions.jsonl"):
        if row["kind"] not in ("factoid", "number"): continue
        path = folder / "manuals" / row["site"] / row["pages"][0]
        tasks.append(
            Task(row["question"], extract(path.read_text(encoding="utf-8", errors="replace"), path.name).text, tuple(row["answers"]))
        )
    return tasks


def demo_tasks() -> list[Task]:
    return [Task(row.question, demo_text(row.gold_pages), row.answers) for row in demo_questions("report") if row.kind == "single_hop"]


# ---------------------------------------------------------------- scores


def forms(answer: str) -> list[str]:
    "A nationality also counts as its country: “Iranian” for Iran."
    country = country_of(answer)
    return [answer, country] if country else [answer]


def f1(answer: str, task: Task) -> float:
    return max(token_f1(form, task.answers) for form in forms(answer))


def names(answer: str, task: Task) -> float:
    "1 if the answer names a gold answer in whole words (how the manuals are scored)."
    plain = lambda text: " " + " ".join(re.findall(r"[\w%.]+", text.lower())) + " "
    return float(any(plain(gold) in plain(answer) for gold in task.answers))


def paired(after: Sequence[float], before: Sequence[float]) -> str:
    "The mean difference of the same questions with its 95% interval."
    differences = [a - b for a, b in zip(after, before, strict=True)]
    low, high = interval(differences)
    return f"{mean(differences):+.3f} [{low:+.3f}, {high:+.3f}] against before"


def by_rules(task: Task) -> str:
    "The candidate of the wanted kind that stands nearest to the question's words."
    words = set(re.findall(r"\w+", task.question.lower())) - FUNCTION_WORDS
    marks = [match.start() for match in re.finditer(r"\w+", task.text) if match.group().lower() in words]
    spans = [
        span for span in candidates(task.text, expected_kind(task.question)) if task.text[slice(*span)].lower() not in task.question.lower()
    ]
    if not spans: return ""
    start, end = min(spans, key=lambda span: sum(sorted(abs(span[0] - mark) for mark in marks)[:3]) + span[0] / 100)
    return task.text[start:end]


def rank_of_right(right: Sequence[float], wrong: Sequence[float]) -> float:
    "The chance that a right one scores above a wrong one (area under the ROC curve)."
    return mean([(a > b) + 0.5 * (a == b) for a in right for b in wrong])


def compare(
    table: Table,
    name: str,
    tasks: Sequence[Task],
    readers: dict[str, SpanReader],
    aims: tuple[float | None, float | None] = (None, None),  # F1 of the best, of the best of four
    score: Callable[[str, Task], float] = f1,
    measure: str = "F1",
) -> dict[str, list[list[AnswerSpan]]]:
    "The rows of one set: each reader's best span and the best of its four."
    spans = {which: [reader.read(task.question, [task.text]) for task in tasks] for which, reader in readers.items()}
    scores = {
        which: [score(row[0].text, task) if row else 0.0 for row, task in zip(rows, tasks, strict=True)] for which, rows in spans.items()
    }
    for which, values in scores.items():
        shipped = which == "shipped"
        exact = mean(
            [
                float(bool(row) and any(exact_match(form, task.answers) for form in forms(row[0].text)))
                for row, task in zip(spans[which], tasks, strict=True)
            ]
        )
        low, high = score_interval(values)
        text = f"{measure} {mean(values):.3f} ({low:.3f} to {high:.3f}), exact {exact:.3f}, {len(tasks)} questions"
        if shipped and "before" in scores:
            text += f"; {paired(values, scores['before'])}"
        aim = aims[0] if shipped else None
        table.row(f"{name}: {which}", text, f"≥ {aim}" if aim else "", mean(values) >= aim if aim else None)
        four = mean([max((score(span.text, task) for span in row), default=0.0) for row, task in zip(spans[which], tasks, strict=True)])
        aim = aims[1] if shipped else None
        table.row(f"{name}: {which}, best of four", f"{measure} {four:.3f}", f"≥ {aim}" if aim else "", four >= aim if aim else None)
    return spans


def judged(
    table: Table, name: str, tasks: Sequence[Task], reader: SpanReader, texts: Sequence[tuple[list[str], list[str]]], rerank, judge: Judge
) -> None:
    "What the judge makes of the same texts: its choice, and whether its probability can be believed."
    before, after, chances = [], [], []
    for task, (passages, pages) in zip(tasks, texts, strict=True):
        spans = reader.read(task.question, passages, top_k=6)
        verdicts = judge.judge(task.question, gather_candidates(task.question, passages, spans, pages=pages, rerank=rerank))
        before.append(f1(spans[0].text, task) if spans else 0.0)
        after.append(f1(verdicts[0].text, task) if verdicts else 0.0)
        chances.append(verdicts[0].probability if verdicts else 0.0)
    low, high = interval(after)
    table.row(
        f"{name}: the judge's choice", f"F1 {mean(after):.3f} ({low:.3f} to {high:.3f}); {paired(after, before)} (the reader's first)"
    )
    error = calibration_error(chances, [value >= 0.5 for value in after])
    table.row(f"{name}: calibration error of the judge", f"{error:.3f}, mean probability {mean(chances):.2f}", "≤ 0.05", error <= 0.05)


def engine_rows(table: Table, folder: Path, readers: dict[str, SpanReader], rerank, judge: Judge, step: int) -> None:
    "Whether a passage answers at all: areas under the curve on clapnq without its first 100."
    rows = read_lines(folder / "reading" / "clapnq.jsonl")[100::step]
    passages = [" ".join(part["text"] for part in row["passages"]) for row in rows]
    crossed = [rerank(row["question"], [passage])[0] for row, passage in zip(rows, passages, strict=True)]
    area = lambda scores: rank_of_right(
        [s for s, row in zip(scores, rows, strict=True) if row["answerable"]],
        [s for s, row in zip(scores, rows, strict=True) if not row["answerable"]],
    )
    table.row("clapnq, answered at all: cross-encoder alone", f"area {area(crossed):.3f}, {len(rows)} questions")
    for which, reader in readers.items():
        best = [reader.read(row["question"], [passage])[0] for row, passage in zip(rows, passages, strict=True)]
        table.row(
            f"clapnq, answered at all: {which}",
            f"area {area([span.answerable for span in best]):.3f} (margins {area([span.margin for span in best]):.3f})",
        )
    none = []
    for row, passage in zip(rows, passages, strict=True):
        spans = readers["shipped"].read(row["question"], [passage], top_k=6)
        found = gather_candidates(row["question"], [passage], spans, pages=["passage"], rerank=rerank)
        none.append(-float(judge.shares(row["question"], found)[-1]))
    table.row("clapnq, answered at all: the judge", f"area {area(none):.3f}", "≥ 0.92", area(none) >= 0.92)


def demo_rows(table: Table, readers: dict[str, SpanReader], step: int) -> None:
    "The demo site's report questions on their gold article, rules beside the reader, and the reader's speed."
    demo = demo_tasks()[::step]
    compare(table, "demo site, single-hop, report split", demo, readers)
    table.row("demo site: rules alone", f"F1 {mean([f1(by_rules(task), task) for task in demo]):.3f}")
    short = [" ".join(task.text.split()[:75]) for task in demo][:10]
    readers["shipped"].read("Who made the first lamp?", short)
    begin = time.process_time()
    for _ in range(3):
        readers["shipped"].read("Who made the first lamp?", short)
    seconds = (time.process_time() - begin) / 3
    table.row("ten passages of 75 words, one core", f"{seconds:.2f} CPU-s", "< 0.3 s", seconds < 0.3)


LOOKED_AT = (
    "Reader and mechanisms were chosen while looking at every other paragraph of xquad_en, every other two-hop question, the git manual "
    "and the debian handbook, and answers to the demo site's questions were looked at: where no half is named a row holds what was looked "
    "at, too."
)
SETS = ["demo", "xquad_en", "two_hop", "qamr", "manuals", "clapnq", "xquad_half", "two_hop_half"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most a minute: few questions")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="all if not given; the recorded rows of others stay")
    parser.add_argument("--before", type=Path, help="weights of another reader, read beside the shipped ones")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    torch.set_num_threads(1)
    readers = {"shipped": SpanReader.load()}
    if args.before:
        readers = {"before": SpanReader.load(args.before), **readers}
    table = Table("Reading the right text" + (" (quick: few questions)" if args.quick else ""), packages=("transformers",))
    step = 12 if args.quick else 1
    if "demo" in args.sets:
        demo_rows(table, readers, 4 if args.quick else 1)
    skip_without(args.data)
    rerank, judge = load_cross_encoder(num_threads=1), Judge.load()
    if "xquad_en" in args.sets:
        paragraphs = paragraph_tasks(args.data)
        every = list(dict.fromkeys(task.text for task in paragraphs))
        four = {text: [text, *(every[(i + k) % len(every)] for k in (1, 2, 3))] for i, text in enumerate(every)}
        paragraphs = paragraphs[::step]
        compare(table, "xquad_en", paragraphs, readers, (0.72, 0.83))
        chosen = paragraphs[:: 1 if args.quick else 2]
        texts = [(four[task.text], ["1", "2", "3", "4"]) for task in chosen]
        judged(table, "xquad_en, the paragraph and three others", chosen, readers["shipped"], texts, rerank, judge)
    if "two_hop" in args.sets:
        pages = two_hop_tasks(args.data)[::step]
        compare(table, "two-hop, gold page, title in the question", pages, readers, (0.69, None))
        judged(table, "two-hop, gold page", pages, readers["shipped"], [([task.text], ["page"]) for task in pages], rerank, judge)
        rules = [f1(by_rules(task), task) for task in pages]
        table.row("two-hop: rules alone", f"F1 {mean(rules):.3f}")
    if "qamr" in args.sets:
        compare(table, "QAMR, kept articles", sentence_tasks(args.data)[::step], readers)
    if "manuals" in args.sets:
        facts = manual_tasks(args.data)[:: 9 if args.quick else 1]
        compare(table, "manuals, facts and numbers, gold page", facts, readers, (None, None), names, "named")
    if "clapnq" in args.sets:
        engine_rows(table, args.data, readers, rerank, judge, step)
    if "xquad_half" in args.sets:
        texts = [row["text"] for row in read_lines(args.data / "reading" / "xquad_en.jsonl")[1::2]]  # as in answering.py
        half = [task for task in paragraph_tasks(args.data) if task.text in texts]
        compare(table, "xquad_en, the half that was only measured", half[::step], readers, (0.72, 0.83))
    if "two_hop_half" in args.sets:
        half = two_hop_tasks(args.data)[::2][::step]  # as in answering.py
        compare(table, "two-hop, gold page, the half that was only measured", half, readers, (0.69, None))
    table.note(LOOKED_AT)
    return table.finish(args.record and not args.quick, keeps_others=args.sets != SETS)


if __name__ == "__main__":
    sys.exit(main())
