"""Lines of episodes survive killed writers, and what must not be shared is not written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightbulb.agent.episodes import EpisodeFile, gains_of


def make_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    "An episode as `play_episode` describes it."
    page = {"url": "http://site/a", "title": "A", "hash": "0", "fetched_at": 0.0, "source": "web"}
    row = {
        "text": f"Question: {number}",
        "question": f"question {number}",
        "queries": ["a"],
        "links": [],
        "passages": [{"url": "http://site/a", "start": 0, "end": 1, "text": "A"}],
        "summary": "A",
        "answer": "A",
        "reward": 1.0,
        "cost": {"searches": 1, "pages": 1, "steps": 1},
        "provenance": {"backends": ["web"], "pages": [page]},
        "steps": [{"state": [0.0], "offered": [["answer", ""]], "probabilities": [1.0], "chosen": 0, "reward": 1.0}],
    }
    return row | changes


WRITER = """
import sys
from test_episodes import make_row
from lightbulb.agent.episodes import EpisodeFile
file, first = EpisodeFile(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 100_000):
    if file.append(make_row(number, summary="long " * 2000)): print(number, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_line(tmp_path):
    "Two processes write at once; both are killed after some lines, wherever they are."
    path, here = tmp_path / "episodes.jsonl", Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True, env=environment)
        for first in (0, 1_000_000)
    ]
    acknowledged = []
    for writer, count in zip(writers, (7, 12), strict=True):
        assert writer.stdout is not None
        acknowledged += [int(writer.stdout.readline()) for _ in range(count)]
    for writer in writers:
        writer.kill()
        acknowledged += [int(line) for line in writer.communicate()[0].splitlines() if line.strip()]
    file = EpisodeFile(path)
    assert file.append(make_row(5_000_000))  # whatever a killed writer left half is taken away
    questions = [row["question"] for row in file.read()]
    assert {f"question {number}" for number in [*acknowledged, 5_000_000]} <= set(questions) and len(questions) == len(set(questions))
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "my password: hunter2hunter2",
        "api_key = abcdef123456",
        "see https://me:secret@site/",
        "sk-abcdefghijklmnop",
        "-----BEGIN RSA PRIVATE KEY-----",
        "AKIAABCDEFGHIJKLMNOP",
        "Config:\npassword: hunter2hunter2",
        "\tGITHUB_TOKEN=abcdef123456",
        'client = {"api_key": "abcdef123456"}',
        "a line\nsk-abcdefghijklmnop1234",
        "SECRET_KEY = 'insecure-8f7sd87f'",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
        'const accessToken = "abcdef123456"',
        "secretKey: abcdef123456",
        "private_key: abcdef123456",
        "pwd=hunter22",
        "github_pat_11ABCDEFG0abcdefghijkl",
        "glpat-abcDEF1234567890abcd",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEF",
        "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
        "ASIAABCDEFGHIJKLMNOP",
        "Authorization: Bearer 0123456789abcdef0123",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN",
    ],
)
@pytest.mark.parametrize("place", ["answer", "queries", "passages"])
def test_a_line_with_a_secret_is_never_written(tmp_path, text, place):
    value = {"answer": text, "queries": [text], "passages": [{"url": "http://site/a", "start": 0, "end": 1, "text": text}]}[place]
    file = EpisodeFile(tmp_path / "file.jsonl", with_failures=True, with_private=True)
    assert not file.append(make_row(**{place: value})) and file.read() == []


@pytest.mark.parametrize(
    "text",
    [
        "The secret of the lamp is tungsten.",
        "A token ring passes tokens.",
        "He forgot his password.",
        "Key: ferry times. Access key: Alt+Shift+F.",
        "Call hf_hub_download_of_a_file and set npm_config_registry to its host.",
        "The bearer notwithstanding-any-objections may pass.",
    ],
)
def test_words_about_secrets_are_no_secrets(tmp_path, text):
    assert EpisodeFile(tmp_path / "file.jsonl").append(make_row(answer=text))


def test_private_places_and_failures_need_a_word(tmp_path):
    private = make_row(provenance={"backends": ["site"], "pages": [make_row()["provenance"]["pages"][0] | {"url": "http://10.0.0.1/a"}]})
    failed = make_row(answer="", reward=-0.1)
    for row, flag in ((private, "with_private"), (failed, "with_failures")):
        assert not EpisodeFile(tmp_path / "shared.jsonl").append(row)
        assert EpisodeFile(tmp_path / f"{flag}.jsonl", **{flag: True}).append(row)
    demo = make_row(provenance={"backends": ["demo"], "pages": [make_row()["provenance"]["pages"][0] | {"url": "http://127.0.0.1:5/a"}]})
    assert EpisodeFile(tmp_path / "demo.jsonl").append(demo)


def test_hosts_of_a_network_of_ones_own_are_private(tmp_path):
    page = make_row()["provenance"]["pages"][0]
    at = lambda url: make_row(provenance={"backends": ["site"], "pages": [page | {"url": url}]})
    file = EpisodeFile(tmp_path / "shared.jsonl", private_hosts=["wiki.corp:8080"])
    for url in ("http://wiki.corp:8080/a", "http://169.254.169.254/a", "http://[fd00::1]/a", "HTTP://LOCALHOST/a", "http://nas.local/a"):
        assert file.reason_against(at(url)) == "private", url
    assert all(file.reason_against(at(url)) == "" for url in ("http://wiki.corp/a", "https://example.org/a", "http://8.8.8.8/a"))


def test_gains_come_from_answers_that_earned_something():
    rows = [make_row(1), make_row(2, answer=""), make_row(3, reward=-1.0), make_row(1, passages=[{"url": "http://site/b"}])]
    assert gains_of(rows) == {"question 1": {"http://site/a": 1.0, "http://site/b": 1.0}}
