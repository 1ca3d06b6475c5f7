"""Teach the kinds of questions from the shipped forms and from questions that people asked, and write lightbulb/agent/question_kinds.json.

People's questions come from QAMR, StrategyQA and BREAK (`reading/` of the data folder); what a question is follows from its words and
from the answers that people marked. Questions as users type them are those to the written pages that have a short answer
(`tools/written_pages.py`), the written pairs that say yes or no (`tools/verdict_pairs.jsonl`), and 6,300 that were written for each kind
(`tools/written_questions.jsonl`), of which those about household goods, workplaces and shops are kept from teaching. Nothing of xquad_en,
clapnq, two_hop, the manuals or the strangers' folders is read.
Run from the top: python -m tools.teach_question_kinds --data ../shared/data   (a minute of one core).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from lightbulb.agent.question_kinds import KINDS, filled_forms, kind_probabilities, shape_of, train_kinds
from lightbulb.reading.answer_kinds import expected_kind, kind_of
from tools.written_pages import KEPT

HERE = Path(__file__).parent
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


def _has_short_answer(question: str, answer: str) -> bool:
    "Whether a question to the written pages wants a fact or a number, by its words and by its answer."
    shapes = shape_of(question)
    if not shapes or not answer or len(answer.split()) > 5 or answer.endswith("."): return False
    if shapes[0] in VERDICTS or {"why", "or"} & set(shapes) or "happens" in question: return False
    if "_s" in shapes and re.search(r",| and ", answer):
        return False  # as well a list
    behind = shapes[shapes.index("how") + 1 :][:1] if "how" in shapes else []
    if not behind or behind[0] in AMOUNTS or ASKING & set(shapes): return True
    return re.search(r"\bhow \w+ly\b", question) is not None or behind[0] == "_"  # *how hot can it get*


def written_questions(*, kept: bool = False) -> list[tuple[str, str]]:  # question, kind
    "Questions to the written pages that want a fact or a number, of the domains that teach or of those that are kept."
    pages = [row for row in rows_of(HERE / "written_pages.jsonl") if (row["domain"] in KEPT) == kept]
    short = [one for row in pages for one in row["questions"] if _has_short_answer(one["question"], one.get("answer", ""))]
    return [(one["question"], "number" if _is_number(one["question"], one["answer"]) else "fact") for one in short]


def _is_number(question: str, answer: str) -> bool:
    "Whether a number is wanted: by the question's words, or because a number answers *how hot* or key words."
    shapes = shape_of(question)
    if expected_kind(question) == "number" or any(one == "how" and other in AMOUNTS for one, other in pairwise(shapes)):
        return True
    is_how = "how" in shapes and re.search(r"\bhow (?:late|early|soon|quick\w*|fast)\b", question) is None
    return (is_how and re.search(r"\d", answer) is not None) or (kind_of(answer) == "number" and not ASKING & set(shapes))


def taught_questions(folder: Path, *, num_marked: int, most: int = 600) -> list[tuple[str, str]]:
    "Questions with their kinds: filled forms, short ones to pages, twice those written for a kind, of others at most `most` of a kind."
    verdicts = [(row["question"], "yes_no") for row in rows_of(HERE / "verdict_pairs.jsonl") if row["says"] in ("yes", "no")]
    others = list(dict.fromkeys([*peoples_questions(folder, num_marked=num_marked), *verdicts]))
    random.Random(0).shuffle(others)
    few = [example for kind in KINDS for example in [one for one in others if one[1] == kind][:most]]
    short = list(dict.fromkeys(written_questions()))
    random.Random(1).shuffle(short)
    return filled_forms() + few + short[:5000] + 2 * questions_of_each_kind()


def questions_of_each_kind(*, kept: bool = False) -> list[tuple[str, str]]:  # question, kind
    "What was written for each kind: to be taught, or kept."
    return [(row["question"], row["kind"]) for row in rows_of(HERE / "written_questions.jsonl") if row.get("kept", False) == kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--num_marked", type=int, default=5000, help="questions of QAMR")
    args = parser.parse_args()
    examples = taught_questions(args.data / "reading", num_marked=args.num_marked)
    weights = train_kinds(examples, penalty=3e-5, min_weight=0.12)
    lines = (f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(row, separators=(',', ':'))}" for name, row in weights.items())
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    held_out = filled_forms(per_form=1, seed=1) + peoples_questions(args.data / "reading", num_marked=2000, seed=1)[:2000]
    right = Counter(kind for question, kind in held_out if max(KINDS, key=kind_probabilities(question, weights).__getitem__) == kind)
    print(f"{len(examples)} examples, {len(weights)} features, right {sum(right.values()) / len(held_out):.3f} of {len(held_out)}")
    kept = written_questions(kept=True)
    short = [max(KINDS, key=kind_probabilities(question, weights).__getitem__) in ("fact", "number") for question, _ in kept]
    written = questions_of_each_kind(kept=True)
    told = [max(KINDS, key=kind_probabilities(question, weights).__getitem__) for question, _ in written]
    for kind in KINDS:
        found = [one == kind for one, (_, wanted) in zip(told, written, strict=True) if wanted == kind]
        print(f"kept questions that want {kind}: {sum(found) / len(found):.3f} of {len(found)}")
    print(f"short questions to the kept pages taken for such: {sum(short) / len(short):.3f} of {len(short)}")


if __name__ == "__main__":
    main()
