"A site of four pages and a reader of four patterns: tools enough for one question, without a model or a network."

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from lightbulb.agent.confidence import Calibration
from lightbulb.agent.tools import Tools
from lightbulb.core.records import Document

PAGES = (
    Document("http://site/arc", "Arc lamp", "The arc lamp was shown by Humphry Davy. It needs a current."),
    Document("http://site/davy", "Humphry Davy", "Humphry Davy was born in Penzance in 1778. He lectured for years."),
    Document("http://site/swan", "Joseph Swan", "Joseph Swan was born in Sunderland in 1828."),
    Document("http://site/wind", "Wind power", "Wind turbines turn moving air into electricity."),
)
LENIENT = {
    "short": Calibration({"log_probability": 1.0, "coverage": 2.0, "match": 1.0}, 1.0, 0.5),
    "text": Calibration({"coverage": 5.0}, -2.0, 0.5),
    "verdict": Calibration({"coverage": 5.0}, -2.0, 0.5),
}


class Letters:
    "Texts as counts of letters."

    name, width = "letters", 26

    def __call__(self, texts, *, query=False):
        rows = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32).reshape(-1, 26)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


class BagOfWords:
    "Embeds a text by the words it holds."

    name, width = "bag-of-words", 512

    def __call__(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        vectors = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % self.width] += len(word) > 3
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class SmallSite:
    "A search engine over the pages."

    def __init__(self, pages: Sequence[Document] = PAGES) -> None:
        self.pages, self.embed = {page.url: page for page in pages}, BagOfWords()

    def search(self, query: str, num_results: int = 10) -> list[Any]:
        pages = list(self.pages.values())
        scores = self.embed([f"{page.title} {page.title} {page.text}" for page in pages]) @ self.embed([query])[0]
        return [pages[i] for i in np.argsort(-scores, kind="stable")[:num_results] if scores[i] > 0]

    def read(self, urls: Sequence[str]) -> list[Any]:
        return [self.pages.get(url, SimpleNamespace(reason="http_status")) for url in urls]


class PatternReader:
    "Finds answers by one pattern a question word."

    patterns = {"where": r"(?:in|at) ([A-Z]\w+)", "when": r"\b(1\d{3})\b", "who": r"by ([A-Z]\w+ [A-Z]\w+)", "what": r"gas (\w+)"}

    def read(self, question: str, texts: Sequence[str], *, top_k: int = 4) -> list[Any]:
        pattern = self.patterns.get(question.split()[0].lower(), r"(?!)")
        return [
            SimpleNamespace(text_index=i, start=found.start(1), end=found.end(1), text=found[1], kind="", score=0.9 - 0.1 * j)
            for i, text in enumerate(texts)
            for j, found in enumerate(re.finditer(pattern, text))
        ][:top_k]


def word_share(question: str, texts: Sequence[str]) -> list[float]:
    "A reranker: how many of the question's longer words a text has."
    words = lambda text: {word[:5] for word in re.findall(r"\w{4,}", text.lower())}
    return [8 * len(words(question) & words(text)) / max(len(words(question)), 1) - 4 for text in texts]


def small_tools(**changes: Any) -> Tools:
    "The tools, some of them replaced."
    return Tools(**({"search": SmallSite(), "reader": PatternReader(), "embed": BagOfWords(), "rerank": word_share} | changes))
