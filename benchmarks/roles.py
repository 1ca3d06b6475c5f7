"""How often a sentence is rightly and wrongly taken to have what a question knows in the contrary role.

    python benchmarks/roles.py --data ../shared/data --record

A sentence that holds the gold answer has to pass; the same question with that answer in place of what it knew about the verb's other roles
(*Who beat Kaja?*, answered by *Mira*, turned to *Who beat Mira?*) has to be caught. Some of the turned questions make no sense or are true
as well (verbs that go both ways), so all of them is out of reach. Rules were written while looking at three of four sentences of QAMR; the
fourth, and XQuAD, were only measured. The simple baseline takes every sentence that has the question's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _scoring import score_interval
from _table import Table, arguments, skip_without

from lightbulb.knowledge.chunks import split_sentences
from lightbulb.reading.roles import asked_roles, is_in_other_role


def answered(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    "Questions whose roles are read, each with the sentence and the text of its first answer."
    for row in rows:
        sentences = split_sentences(row["text"])
        for asked in row["questions"]:
            answer = asked["answers"][0] if asked.get("answers") else None
            if answer is None or asked_roles(asked["question"]) is None: continue
            place = next((place for place in sentences if place[0] <= answer["start"] < place[1]), None)
            if place:
                yield asked["question"], row["text"][slice(*place)], answer["text"]


def turned(question: str, answer: str) -> str:
    "The question with its answer in place of the name it knows; empty if one of the two is no name."
    known = asked_roles(question)
    name = re.search(re.escape(" ".join(known.other)), question, re.I) if known and known.other and not known.agent else None
    if name is None or not (name[0][0].isupper() and answer[:1].isupper()): return ""
    changed = question[: name.start()] + answer + question[name.end() :]
    return changed if asked_roles(changed) else ""


def share(hits: list[bool]) -> str:
    if not hits: return "none"
    low, high = score_interval([float(hit) for hit in hits])
    return f"{sum(hits)} of {len(hits)}, {sum(hits) / len(hits):.4f} ({low:.4f} to {high:.4f})"


def main() -> int:
    flags = arguments("How often a sentence is rightly and wrongly taken to have what a question knows in the contrary role.")
    folder: Path = flags.data / "reading"
    skip_without(folder)
    rows = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")] for name in ("qamr", "xquad_en")}
    sets = {
        "QAMR, looked at": [row for i, row in enumerate(rows["qamr"]) if i % 4 < 3],
        "QAMR, not looked at": rows["qamr"][3::4],
        "XQuAD, not looked at": rows["xquad_en"],
    }
    table = Table("Who did it, and to whom")
    for name, texts in sets.items():
        pairs = list(answered(texts))
        table.row(f"{name}: a sentence with the answer is turned away", share([is_in_other_role(asked, said) for asked, said, _ in pairs]))
        changed = [(turned(asked, answer), said) for asked, said, answer in pairs]
        caught = [is_in_other_role(asked, said) for asked, said in changed if asked]
        table.row(f"{name}: turned round, caught", share(caught))
    table.note("The simple baseline, the words of the question stand in the sentence, turns away and catches none of them.")
    return table.finish(flags.record)


if __name__ == "__main__": raise SystemExit(main())
