"""Teach the kinds of questions from the shipped forms and from questions that people asked, and write lightbulb/agent/question_kinds.json.

People's questions come from QAMR, StrategyQA and BREAK (`reading/` of the data folder); what a question is follows from its words and
from the answers that people marked. Nothing of xquad_en, clapnq, two_hop or the manuals is read.
Run from the top: python -m tools.teach_question_kinds --data ../shared/data   (a minute of one core).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightbulb.agent.question_kinds import KINDS, filled_forms, kind_probabilities, shape_of, train_kinds
from lightbulb.reading.answer_kinds import expected_kind

TARGET = Path(__file__).resolve().parents[1] / "lightbulb" / "agent" / "question_kinds.json"
VERDICTS = frozenset("is are was were am does do did can could may might must should shall will would has have had".split())
ASKING = frozenset("what which who whom whose when where".split())
AMOUNTS = frozenset("many much long often old tall far fast big large high heavy deep wide".split())
_THING = re.compile(r"what (?:is|are|was|were) (?:the |an? )?[\w' -]{1,40}\?$", re.I)


def rows_of(path: Path) -> Iterator[dict]:
    "The objects of a file of lines."
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def kind_by_answer(question: str, answers: Sequence[str]) -> str:
    "What kind a question of QAMR is, judged by its words and by what people marked; empty where neither tells."
    shapes = shape_of(question)
    if len(question.split()) < 4 or not shapes: return ""
    first, second = (*shapes, "")[:2]
    if first == "why": return "why"
    amount = first == "how" and second in AMOUNTS
    if first == "how" and not amount: return ""
    several = sum(bool(re.search(r",[^,]*(?:,| and )", answer)) for answer in answers) * 2 > len(answers)
    plural = first in ("what", "which") and second in ("_s", "are", "were")
    if plural or several: return "list" if plural and several else ""
    if _THING.match(question) and not re.search(r"\b(?:of|for|in|name|number)\b", question):
        return ""  # as well a definition
    return "number" if amount or expected_kind(question) == "number" else "fact"


def peoples_questions(folder: Path, *, num_marked: int, seed: int = 0) -> list[tuple[str, str]]:  # question, kind
    "Questions of people with their kinds, `num_marked` of them from QAMR."
    marked = []
    for row in rows_of(folder / "qamr.jsonl"):
        for entry in row["questions"]:
            question = entry["question"].strip()
            if kind := kind_by_answer(question, [answer["text"] for answer in entry["answers"]]):
                marked.append((question, kind))
    random.Random(seed).shuffle(marked)
    examples = marked[:num_marked] + [(row["question"], "yes_no") for row in rows_of(folder / "strategyqa.jsonl")]
    for row in rows_of(folder / "break.jsonl"):
        question = row["question"].strip()
        shapes = shape_of(question)
        if not shapes or "or" in shapes: continue
        first, second = (*shapes, "")[:2]
        if first in VERDICTS:
            examples.append((question, "yes_no"))
        elif first == "how" and second in AMOUNTS:
            examples.append((question, "number"))
        elif ASKING & set(shapes) and not (first in ("what", "which") and second in ("_s", "are", "were")):
            examples.append((question, "fact"))
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--num_marked", type=int, default=5000, help="questions of QAMR")
    args = parser.parse_args()
    examples = filled_forms() + peoples_questions(args.data / "reading", num_marked=args.num_marked)
    weights = train_kinds(examples, min_weight=0.4)
    lines = (f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(row, separators=(',', ':'))}" for name, row in weights.items())
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    held_out = filled_forms(per_form=1, seed=1) + peoples_questions(args.data / "reading", num_marked=2000, seed=1)[:2000]
    right = Counter(kind for question, kind in held_out if max(KINDS, key=kind_probabilities(question, weights).__getitem__) == kind)
    print(f"{len(examples)} examples, {len(weights)} features, right {sum(right.values()) / len(held_out):.3f} of {len(held_out)}")


if __name__ == "__main__":
    main()
