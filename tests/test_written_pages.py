"The written pages: answers stand where they are said to, kept domains teach nothing, and wrong examples are wrong."

from __future__ import annotations

import random
import re

import pytest

from tools.teach_answers import near_spans, written_examples
from tools.verdict_examples import YES
from tools.written_pages import KEPT, WrittenDomain, reading_examples, written_domains


@pytest.fixture(scope="module")
def kept() -> list[WrittenDomain]:
    return list(written_domains(kept=True))


def test_every_answer_stands_in_one_line_at_its_place(kept: list[WrittenDomain]) -> None:
    assert {domain.name for domain in kept} == KEPT
    for domain in kept:
        assert len(domain.documents) == 4
        for one in domain.questions:
            if one.answer:
                assert domain.documents[one.page].text[one.start : one.end] == one.answer
                assert domain.line_at(one.page, one.start, one.end) is not None
            else:
                assert one.page == -1
    assert sum(not one.answer for domain in kept for one in domain.questions) > 200


def test_reading_examples_point_at_the_answer_and_others_do_not_say_it(kept: list[WrittenDomain]) -> None:
    answers = {(one.text.rstrip("? "), one.answer) for domain in kept for one in domain.questions}
    examples = reading_examples(kept, random.Random(0))
    for _, example in zip(range(300), examples, strict=False):
        if example.start < 0: continue
        said = example.text[example.start : example.end]
        assert (example.question.rstrip("? "), said) in answers
        assert not any(said.casefold() in other.casefold() for other in example.others)


def test_a_right_example_marks_the_answer_and_a_wrong_one_never_does(kept: list[WrittenDomain]) -> None:
    domain = kept[0]
    answers = {one.text: one.answer for one in domain.questions}
    examples = list(written_examples([domain], random.Random(0), None, every=1))
    marked = lambda text: re.findall(r"« (.*?) »", text)
    assert all(len(marked(one.statement)) == 1 for one in examples)
    for one in examples:
        assert (marked(one.statement)[0] == answers[one.question]) == (one.says == YES)
    unanswered = next(one for one in domain.questions if not one.answer)
    assert near_spans(domain, unanswered, random.Random(0))
    assert not any(one.says == YES for one in examples if one.question == unanswered.text)
