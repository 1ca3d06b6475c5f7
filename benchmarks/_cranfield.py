"""The Cranfield collection as lightbulb's documents, and nDCG@10 in the convention of DESIGN section 7."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightbulb.core.records import Document

Judgements = dict[int, dict[str, int]]  # query number → URL → grade: 1 best, 4 least; −1 undefined


def read_cranfield(folder: Path) -> tuple[list[Document], list[str], Judgements]:
    "Documents, queries in order, judgements."
    documents = []
    for record in re.split(r"^\.I ", (folder / "cran.all.1400").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        number, rest = record.split("\n", 1)
        title, _, _, text = re.split(r"^\.[TABW]\n", rest, flags=re.MULTILINE)[1:5]
        documents.append(Document(f"cranfield:{int(number)}", " ".join(title.split()), text))
    records = re.split(r"^\.I ", (folder / "cran.qry").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    queries = [" ".join(record.split(".W\n", 1)[1].split()) for record in records]
    judgements: Judgements = {}
    for line in (folder / "cranqrel").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) >= 3:
            judgements.setdefault(int(fields[0]), {})[f"cranfield:{int(fields[1])}"] = int(fields[2])
    return documents, queries, judgements


def ndcg(ranked: Sequence[str], judged: Mapping[str, int], *, k: int = 10, drop_undefined: bool = True) -> float | None:
    "nDCG with gain 2^(5 − grade) − 1; a −1 judgement leaves the ranking, or counts as grade 1; None if nothing is relevant."
    undefined = {url for url, grade in judged.items() if grade == -1}
    gains = {url: 2.0 ** (5 - (1 if grade == -1 else grade)) - 1 for url, grade in judged.items() if not (drop_undefined and grade == -1)}
    shown = [url for url in ranked if not (drop_undefined and url in undefined)][:k]
    discounted = sum(gains.get(url, 0.0) / np.log2(i + 2) for i, url in enumerate(shown))
    ideal = sum(gain / np.log2(i + 2) for i, gain in enumerate(sorted(gains.values(), reverse=True)[:k]))
    return discounted / ideal if ideal else None


def mean_ndcg(rankings: Mapping[int, Sequence[str]], judgements: Judgements, *, drop_undefined: bool = True) -> float:
    "The mean over the queries that have a relevant document."
    values = [ndcg(ranked, judgements.get(number, {}), drop_undefined=drop_undefined) for number, ranked in rankings.items()]
    return float(np.mean([value for value in values if value is not None]))
