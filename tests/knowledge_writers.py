"""Processes that the knowledge base's tests start and kill. One process imports everything and forks, so that a start costs nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightbulb.core.records import Document
from lightbulb.knowledge.knowledge_base import KnowledgeBase


class HashedWords:
    "A deterministic embedder without a model: each word adds to one of 32 numbers. It counts what it reads."

    name, width = "hashed-words", 32

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        self.read += texts
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[zlib.crc32(word.encode("utf-8", "replace")) % self.width] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def page(number: int, text: str | None = None, **fields: object) -> Document:
    "A page about a lamp of that number."
    text = text or f"Page {number} tells of lamp{number} and of light. It has a second sentence about item {number % 7}."
    return Document(f"https://lamps.example/{number}", f"Lamp {number}", text, **fields)  # type: ignore[arg-type]


def create(path: str, number: int) -> None:
    "Open the file, new or not, and add one page."
    with KnowledgeBase(path, embed=HashedWords()) as base:
        base.add([page(number)])


def write_for_ever(path: str, writer: int, acknowledgements: str) -> None:
    "Add pages, some of them new versions, and note each after `add` has returned."
    notes = os.open(acknowledgements, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = os.fstat(notes).st_size  # grows by more than one with every note: no number is used twice
    chance = random.Random(number)
    with KnowledgeBase(path, embed=HashedWords()) as base:
        while True:
            number += 1
            slots = chance.sample(range(12), chance.randint(1, 3))
            versions = {slot: f"Version {number} of writer {writer}. " + "It has a sentence. " * chance.randint(1, 60) for slot in slots}
            base.add(page(1000 * writer + slot, text) for slot, text in versions.items())
            os.write(
                notes, "".join(f"{1000 * writer + slot} {number} {zlib.crc32(text.encode())}\n" for slot, text in versions.items()).encode()
            )


def work(path: str, first: int, count: int, failed: str) -> None:
    "Add pages one by one and find each at once, and each other one that is there; leave a note if anything goes wrong."
    try:
        with KnowledgeBase(path, embed=HashedWords()) as base:
            for number in range(first, first + count):
                base.add([page(number)], scope="demo")
                for mode in ("hybrid", "dense", "keyword"):
                    passages = base.search(f"lamp{number} page {number}", 200, mode=mode)
                    assert page(number).url in {passage.url for passage in passages}, (number, mode)
    except BaseException as error:  # noqa: BLE001 (reported by the parent)
        Path(failed).write_text(repr(error))


def search_for_ever(path: str, failed: str) -> None:
    "Search and open what is found; leave a note if anything goes wrong."
    try:
        with KnowledgeBase(path, embed=HashedWords()) as base:
            while True:
                for passage in base.search("version of a writer sentence", 5):
                    document = base.document(passage.url)  # it may be newer than the passage, never broken
                    assert document is not None and document.text.startswith("Version ") and passage.text
                time.sleep(0.01)
    except BaseException as error:  # noqa: BLE001 (reported by the parent)
        Path(failed).write_text(repr(error))


class Nursery:
    "Starts the functions above in processes of their own."

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, function: str, *arguments: str | int) -> int:
        "The id of a new process that runs the function."
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, *arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def kill(self, number: int) -> None:
        "End the process without warning and wait until it is gone."
        os.kill(number, signal.SIGKILL)
        while is_alive(number):
            time.sleep(0.001)

    def close(self) -> None:
        "Start nothing more."
        self._process.communicate()


def is_alive(number: int) -> bool:
    "Whether there is such a process."
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


def _serve_starts() -> None:
    "Fork for each line of standard input; children that end are forgotten by the system."
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        function, *arguments = json.loads(line)
        number = os.fork()
        if number == 0:
            os.close(0), os.close(1)
            {"create": create, "write": write_for_ever, "search": search_for_ever, "work": work}[function](*arguments)
            os._exit(0)
        print(number, flush=True)


if __name__ == "__main__":
    _serve_starts()
