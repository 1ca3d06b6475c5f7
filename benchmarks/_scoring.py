"""Scores of short answers and ranked pages, as SQuAD and HotpotQA compute them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence


def normalize(text: str) -> str:
    "Lower case, no punctuation, no articles, single spaces (SQuAD's evaluation script)."
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    "1 if the answer is one of the accepted ones."
    return float(any(normalize(answer) == normalize(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    "The best word-level F1 with any accepted answer."
    return max((_f1(normalize(answer).split(), normalize(gold).split()) for gold in golds), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold)) if shared else 0.0


def hit(pages: Sequence[str], golds: Sequence[str], k: int) -> float:
    "1 if one of the gold pages is among the first k."
    return float(bool(set(pages[:k]) & set(golds)))


def recall(pages: Sequence[str], golds: Sequence[str]) -> float:
    "The share of gold pages among the pages."
    return len(set(pages) & set(golds)) / len(golds) if golds else 1.0


def mean(values: Sequence[float]) -> float:
    "The mean; 0 of nothing."
    return sum(values) / len(values) if values else 0.0


def interval(values: Sequence[float], *, num_samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    "A 95% bootstrap interval of the mean."
    import numpy as np

    if not values: return 0.0, 0.0
    draws = np.random.default_rng(seed).choice(np.asarray(values, float), (num_samples, len(values))).mean(axis=1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))
