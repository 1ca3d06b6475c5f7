"What a statement says to a yes-or-no question: the shipped weights, a file of weights, and the verdict out of several lines."

from __future__ import annotations

import json
import random
from itertools import islice
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_site import LENIENT, SmallSite, small_tools

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.composing import Line, verdict_of
from lightbulb.core.errors import CheckpointError
from lightbulb.core.records import Document
from lightbulb.reading.network import load_encoder, padded
from lightbulb.reading.verdicts import Verdict, VerdictNetwork, VerdictReader, load_verdicts, save_verdicts
from tools.verdict_examples import NO, NOTHING, PAIRS, YES, opposite_examples, written_examples
from tools.written_lines import line_reading_examples, short_questions, written_lines


@pytest.fixture(scope="module")
def reader() -> VerdictReader:
    torch.set_num_threads(1)
    return VerdictReader.load()


@pytest.mark.parametrize(
    ("question", "statement", "says"),
    [
        ("Are the loft beds included in the price?", "Prices: Loft beds are not included in the price.", "no"),
        ("Do I have to wear a badge?", "Visitors: Wearing a badge is voluntary.", "no"),
        ("Is the west gate open at night?", "Gates: At night all gates are closed except the west gate.", "yes"),
        ("May guests use the sauna?", "House rules > Sauna: Guests are welcome to use the sauna after eight.", "yes"),
        ("Is Tom Reed the treasurer?", "Board: The treasurer is Ada Moss.", "no"),
        ("Does the museum sell postcards?", "Museum: The museum was founded by a schoolteacher.", "nothing"),
        ("Can I pay by card?", "Hours: The kiosk opens at nine.", "nothing"),
    ],
)
def test_what_a_statement_says(reader: VerdictReader, question: str, statement: str, says: str) -> None:
    verdict = reader.verdicts(question, [statement])[0]
    assert max(verdict._fields, key=lambda name: getattr(verdict, name)) == says
    assert sum(verdict) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("question", "line", "right", "wrong"),
    [
        ("who fixes the lift", "Flat book > Repairs: Lift: Otto Lind; boiler: Ada Moss.", "Otto Lind", "Ada Moss"),
        ("how much is it for my mum, she is 70", "Prices: Adults: 9 euros; over 65: 6 euros; children: 4 euros.", "6 euros", "9 euros"),
        ("Until when is the café open?", "Café: Kitchen: 12:00 to 14:00; café: until 18:00.", "18:00", "14:00"),
        ("which port does it listen on", "Settings: port: 8460 – the port it listens on; workers: 4.", "8460", "4"),
    ],
)
def test_what_is_marked_is_the_answer_or_not(question: str, line: str, right: str, wrong: str) -> None:
    answers = VerdictReader.load(name="answers")
    told = answers.verdicts(question, [line.replace(text, f"« {text} »", 1) for text in (right, wrong)])
    assert told[0].yes > told[1].yes + 0.1


def test_statements_are_told_in_order_whatever_stands_beside_them(reader: VerdictReader) -> None:
    statements = ["The gate is open.", "", "The gate is never open. " * 40]
    together = reader.verdicts("Is the gate open?", statements)
    assert together[1] == Verdict(0.0, 0.0, 1.0)
    for statement, verdict in zip(statements, together, strict=True):
        assert reader.verdicts("Is the gate open?", [statement])[0] == pytest.approx(verdict, abs=1e-3)


def test_a_lone_surrogate_is_read_as_a_question_mark(reader: VerdictReader) -> None:
    assert reader.verdicts("Is it lit \ud83d?", ["It is lit \udc00."]) == reader.verdicts("Is it lit ??", ["It is lit ?."])


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VerdictNetwork(load_encoder(2)[0])
    weights = network.learn(first_layer=1, rank=4)
    for weight in weights:
        weight.data += 0.02 * torch.randn_like(weight)
    network.merge()
    save_verdicts(network, tmp_path / "v.safetensors")
    loaded, _ = load_verdicts(tmp_path / "v.safetensors")
    rows = padded([([101, 2003, 1996, 102, 1996, 4796, 102], 4)], torch.device("cpu"))
    assert loaded(*rows).tolist()[0] == pytest.approx(network(*rows).tolist()[0], abs=0.05)
    assert (tmp_path / "v.safetensors").stat().st_size < 1_000_000


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="without the settings of verdicts"):
        load_verdicts(tmp_path / "x.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"verdicts": '{"num_layers": 1}'})
    with pytest.raises(CheckpointError, match="weights of another network"):
        load_verdicts(tmp_path / "x.safetensors")


def line(text: str, score: float) -> Line:
    return Line("http://site/a", 0, len(text), text, 0, "A", "sentence", score)


def test_a_verdict_needs_a_line_that_says_something() -> None:
    lines = [line("The gate is open.", 2.0), line("The gate is green.", 1.0)]
    asked: list[tuple[str, ...]] = []

    def says(question: str, statements: Sequence[str]) -> list[tuple[float, float, float]]:
        asked.append(tuple(statements))
        return [(0.02, 0.03, 0.95) for _ in statements]

    assert verdict_of("Can I open the gate?", lines, says) == ("", None)
    assert asked == [("A: The gate is open.", "A: The gate is green.")]
    even = lambda question, statements: [(0.54, 0.43, 0.03) for _ in statements]  # against words that say yes
    assert verdict_of("Can I open the gate?", lines, even) == ("", None)
    leaning = lambda question, statements: [(0.50, 0.47, 0.03) for _ in statements]  # a little less, so the words win
    assert verdict_of("Can I open the gate?", lines, leaning) == ("Yes", lines[0])
    sure = lambda question, statements: [(0.9, 0.05, 0.05), (0.2, 0.2, 0.6)]
    assert verdict_of("Can I open the gate?", lines, sure) == ("No", lines[0])
    assert verdict_of("Can I open the gate?", [line("Yes, anybody can.", 2.0)], sure)[0] == "Yes"  # the word itself


def test_a_question_that_the_page_answers_itself_decides_although_another_line_is_nearer() -> None:
    nearer = line("Walls in strong colours have to be white again when you leave.", 2.0)
    faq = replace(line("Yes, in any colour.", 1.0), start=100, end=119, heading="Flats > May I paint my walls?")
    denies = lambda question, statements: [(0.9, 0.05, 0.05) for _ in statements]
    assert verdict_of("Are tenants allowed to paint the walls red?", [nearer, faq], denies) == ("Yes", faq)
    assert verdict_of("Do I have to paint the walls?", [nearer, faq], denies)[0] == "No"  # no leave is asked for
    assert verdict_of("Are tenants allowed to paint the doors?", [nearer, faq], denies)[0] == "No"  # nor is it about walls


@pytest.mark.parametrize(("chances", "verdict"), [((0.96, 0.02, 0.02), "No"), ((0.02, 0.96, 0.02), "Yes"), ((0.02, 0.02, 0.96), "")])
def test_the_verdict_that_was_learned_comes_first_or_none_does(chances: tuple[float, ...], verdict: str) -> None:
    page = Document("http://site/bees", "Bees", "The apiary has 14 hives, of which 11 are occupied this year.")
    tools = small_tools(search=SmallSite([page]), says=lambda question, statements: [chances for _ in statements])
    *_, result = answer("Are all hives occupied this year?", TestAgent(), tools=tools, calibrations=LENIENT)
    assert isinstance(result, Answer) and result.short_answer == verdict and result.refused == (not verdict)
    assert result.text.startswith(verdict or "I can't answer this")


def test_the_written_examples_are_whole_and_what_measures_is_not_taught() -> None:
    rows = [json.loads(text) for text in PAIRS.read_text(encoding="utf-8").splitlines()]
    assert all(row.keys() == {"domain", "context", "statement", "question", "says"} and all(row.values()) for row in rows)
    assert {row["says"] for row in rows} == {"no", "yes", "answers", "nothing"}
    assert len({(row["question"], row["statement"]) for row in rows}) == len(rows)
    taught, kept = written_examples(kept=False), written_examples(kept=True)
    assert len(taught) + len(kept) == len(rows) and len(kept) > 500
    assert not {example.statement for example in taught} & {example.statement for example in kept}


def test_each_line_has_a_yes_a_no_and_a_question_that_it_leaves_open() -> None:
    taught, kept = written_lines(kept=False), written_lines(kept=True)
    assert len(kept) > 400 and len(taught) > 3000
    asked = {"yes", "no", "nothing", "answers"}
    assert all(row.keys() >= asked | {"context", "line"} and all(row.values()) for row in taught + kept)
    assert all(row.keys() - asked <= {"context", "line", "short", "second", "second_short"} for row in taught + kept)
    titles = [{row["context"].split(" > ")[0] for row in rows} for rows in (taught, kept)]
    assert not titles[0] & titles[1]
    examples = opposite_examples(kept)
    assert [example.says for example in opposite_examples([{key: f"{key}?" for key in asked} | {"context": "a", "line": "b"}])] == [
        NO,
        YES,
        YES,
        NOTHING,
    ]
    assert len({(one.question, one.statement) for one in examples}) == len(examples) == 4 * len(kept) + sum("second" in row for row in kept)


def test_a_short_answer_stands_in_its_line_and_in_the_passage_that_a_reader_gets() -> None:
    rows = written_lines(kept=True)
    asked = [(row["line"], question, answer) for row in rows for question, answer in short_questions(row)]
    assert len(asked) > 800 and all(answer in line for line, _, answer in asked)
    answer_of = {question: answer for _, question, answer in asked} | {question.rstrip("? "): answer for _, question, answer in asked}
    examples = list(islice(line_reading_examples(rows, random.Random(0)), 400))
    assert all(one.text[one.start : one.end] == answer_of[one.question] for one in examples if one.start >= 0)
    silent = [one for one in examples if one.start < 0]
    assert 30 < len(silent) < 120
    assert not any(answer_of[one.question].casefold() in one.text.casefold() for one in silent)


def test_the_shipped_weights_tell_what_they_were_not_taught(reader: VerdictReader) -> None:
    kept = random.Random(0).sample(written_examples(kept=True), 200)
    told = [reader.verdicts(example.question, [example.statement])[0] for example in kept]
    right = sum(max(range(3), key=lambda i: verdict[i]) == example.says for verdict, example in zip(told, kept, strict=True))
    assert right / len(kept) > 0.6, right  # 0.38 before they were taught on such questions
