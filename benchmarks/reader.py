"""Reading alone: the right page is given, and the reader has to point at the answer.

On two-hop questions the page of the second step is given and its title put into the question; on the demo site the gold article of each
single-hop question. Gold answers are used for scoring alone; neither set of questions trained the reader or chose its weights.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from _scoring import exact_match, interval, mean, token_f1
from _table import Table, arguments, skip_without

from lightbulb.agent.questions import SLOT, decompose
from lightbulb.reading.answer_kinds import candidates, country_of, expected_kind
from lightbulb.knowledge.chunks import split_sentences
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.reader import SpanReader
from lightbulb.web.demo_site import demo_questions, demo_text

_STOP = frozenset(
    (
        "a an the of in on at by to for from with and or is are was were be did do does has have had who whom whose what which when "
        "where why how"
    ).split()
)


@dataclass(frozen=True)
class Task:
    "A question, the text that answers it, and the accepted answers."

    question: str
    text: str
    answers: tuple[str, ...]


def two_hop_tasks(pages: dict[str, str], questions: list[dict]) -> list[Task]:
    "The last step of each question with the gold page's title in its place."
    tasks = []
    for row in questions:
        title = row["gold_pages"][0]
        name = re.sub(r"\s*\([^)]*\)$", "", title)
        tasks.append(Task(decompose(row["question"])[-1].replace(SLOT, name), pages[title], (row["answer"],)))
    return tasks


def by_rules(task: Task) -> str:
    "The candidate of the wanted kind that stands nearest to the question's words."
    words = set(re.findall(r"\w+", task.question.lower())) - _STOP
    marks = [match.start() for match in re.finditer(r"\w+", task.text) if match.group().lower() in words]
    kind = expected_kind(task.question)
    spans = [span for span in candidates(task.text, kind) if task.text[slice(*span)].lower() not in task.question.lower()]
    if not spans: return ""
    start, end = min(spans, key=lambda span: sum(sorted(abs(span[0] - mark) for mark in marks)[:3]) + span[0] / 100)
    return task.text[start:end]


def selected(task: Task, rerank) -> str:
    "The lead and the two sentences that the cross-encoder likes best, in their order."
    spans = split_sentences(task.text)
    if len(spans) <= 3: return task.text
    scores = rerank(task.question, [task.text[start:end] for start, end in spans])
    best = sorted(range(1, len(spans)), key=lambda i: -scores[i])[:2]
    return " ".join(task.text[slice(*spans[i])].strip() for i in sorted([0, *best]))


def forms(answer: str) -> list[str]:
    "A nationality also counts as its country: “Iranian” for Iran."
    country = country_of(answer)
    return [answer, country] if country else [answer]


def score(table: Table, name: str, tasks: Sequence[Task], answers: Sequence[str], aim: float | None = None) -> None:
    f1 = [max(token_f1(form, task.answers) for form in forms(answer)) for task, answer in zip(tasks, answers, strict=True)]
    exact = [max(exact_match(form, task.answers) for form in forms(answer)) for task, answer in zip(tasks, answers, strict=True)]
    low, high = interval(f1)
    table.row(
        name,
        f"F1 {mean(f1):.3f} ({low:.3f} to {high:.3f}), exact {mean(exact):.3f}, {len(tasks)} questions",
        "" if aim is None else f"F1 ≥ {aim:.2f}",
        None if aim is None else mean(f1) >= aim,
    )


def best_of_four(table: Table, name: str, tasks: Sequence[Task], spans) -> None:
    f1 = [
        max((token_f1(form, task.answers) for span in found for form in forms(span.text)), default=0.0)
        for task, found in zip(tasks, spans, strict=True)
    ]
    table.row(name, f"F1 {mean(f1):.3f} if the best of four spans were chosen")


def without_adapters(reader: SpanReader) -> SpanReader:
    "The same heads on the untouched encoder."
    from lightbulb.reading.network import load_encoder

    encoder, tokenizer = load_encoder(len(reader.network.encoder.encoder.layer))
    bare = SpanReader.load()
    bare.network.encoder.load_state_dict(encoder.state_dict())
    return SpanReader(bare.network, tokenizer, reader.confidence)


def read_all(reader: SpanReader, tasks: Sequence[Task]):
    return [reader.read(task.question, [task.text]) for task in tasks]


def first(spans) -> list[str]:
    return [found[0].text if found else "" for found in spans]


def rank_of_right(right: Sequence[float], wrong: Sequence[float]) -> float:
    "The chance that a right span scores above a wrong one (area under the ROC curve)."
    return mean([(a > b) + 0.5 * (a == b) for a in right for b in wrong])


def main() -> int:
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    reader = SpanReader.load()
    table = Table("Reading the right page" + (" (quick: few questions)" if args.quick else ""), packages=("transformers",))
    demo = [Task(row.question, demo_text(row.gold_pages), row.answers) for row in demo_questions("report") if row.kind == "single_hop"]
    if args.quick:
        demo = demo[:12]
    spans = read_all(reader, demo)
    score(table, "demo site, single-hop, report split: reader", demo, first(spans))
    best_of_four(table, "demo site: the same", demo, spans)
    score(table, "demo site: rules alone", demo, [by_rules(task) for task in demo])
    score(table, "demo site: reader without adapters", demo, first(read_all(without_adapters(reader), demo)))
    right = [found[0].score for task, found in zip(demo, spans, strict=True) if token_f1(found[0].text, task.answers) >= 0.5]
    others = [
        reader.read(task.question, [other.text])[0].score
        for task, other in zip(demo, demo[1:] + demo[:1], strict=True)
        if not any(answer.lower() in other.text.lower() for answer in task.answers)
    ]
    table.row(
        "demo site: a right span scores above the best span of another article",
        f"{rank_of_right(right, others):.3f} (mean probability {mean(right):.2f} against {mean(others):.2f})",
    )
    short = [sentence for task in demo for sentence in [" ".join(task.text.split()[:75])]][:10]
    reader.read("Who made the first lamp?", short)
    begin = time.process_time()
    for _ in range(3):
        reader.read("Who made the first lamp?", short)
    seconds = (time.process_time() - begin) / 3
    table.row("ten passages of 75 words, one core", f"{seconds:.2f} CPU-s", "< 0.3 s", seconds < 0.3)
    folder = args.data / "two_hop"
    skip_without(folder)
    pages = {row["title"]: row["text"] for row in map(json.loads, (folder / "pages.jsonl").read_text(encoding="utf-8").splitlines())}
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    tasks = two_hop_tasks(pages, questions[::8] if args.quick else questions)
    spans = read_all(reader, tasks)
    score(table, "two-hop, gold page, title in the question: reader", tasks, first(spans), 0.55)
    best_of_four(table, "two-hop: the same", tasks, spans)
    rerank = load_cross_encoder()
    chosen = [Task(task.question, selected(task, rerank), task.answers) for task in tasks]
    score(table, "two-hop: lead and two sentences chosen by the cross-encoder", tasks, first(read_all(reader, chosen)))
    score(table, "two-hop: rules alone", tasks, [by_rules(task) for task in tasks])
    score(table, "two-hop: reader without adapters", tasks, first(read_all(without_adapters(reader), tasks)))
    return table.finish(args.record and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
