"""Scores of short answers and ranked pages, as SQuAD and HotpotQA compute them."""

from __future__ import annotations

import math
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


def wilson(share: float, count: int) -> tuple[float, float]:
    "Wilson's 95% interval of a share of so many trials (1927): it has a width where all of them went alike."
    z = 1.96
    middle, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def score_interval(values: Sequence[float]) -> tuple[float, float]:
    "A 95% interval of a mean score, not of a difference: Wilson's where each is 0 or 1, by the bootstrap otherwise."
    if values and set(values) <= {0.0, 1.0}: return wilson(mean(values), len(values))
    return interval(values)


def gap_interval(gaps: Sequence[float]) -> str:
    "A 95% interval of a mean difference in words; equal differences have none."
    if gaps and len(set(gaps)) == 1: return f"{gaps[0]:+.2f} in each"
    low, high = interval(gaps)
    return f"{low:+.2f} to {high:+.2f}"


def interval(values: Sequence[float], *, num_samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    "A 95% bootstrap interval of the mean."
    import numpy as np

    if not values: return 0.0, 0.0
    draws = np.random.default_rng(seed).choice(np.asarray(values, float), (num_samples, len(values))).mean(axis=1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))
