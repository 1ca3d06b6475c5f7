"The whole way from a question to a cited answer, over real HTTP, with the real embedder, reranker and reader."

from __future__ import annotations

import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.answers import Ending, PageRead, Searched, StepFailed
from lightbulb.agent.confidence import Calibration
from lightbulb.agent.tools import Tools, load_judge, load_says
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.reader import SpanReader
from lightbulb.knowledge.summarizer import RAGSummarizer
from lightbulb.web.demo_site import serve_demo_site
from lightbulb.web.extract import extract
from lightbulb.web.search import load_search


PATIENT = TestAgent(max_seconds=600)  # other work on the machine must not decide


@pytest.fixture(scope="module")
def tools() -> Tools:
    embed, rerank = load_embedder(), load_cross_encoder()
    search = load_search("demo", make_index=lambda: KnowledgeBase(":memory:", embed=embed))
    silent = RAGSummarizer(lambda prompts, **options: ["" for _ in prompts], embed, rerank=rerank)
    return Tools(search, SpanReader.load(), embed, rerank, summarizer=silent, weigh=load_judge(rerank))


def last(items) -> Answer:
    *_, final = items
    assert isinstance(final, Answer)
    return final


@pytest.fixture(scope="module")
def two_hop(tools: Tools) -> Answer:
    return last(answer("When did the inventor of the modern steam turbine die?", PATIENT, tools=tools))


def test_two_pages_make_one_answer(two_hop: Answer) -> None:
    assert "1931" in two_hop.short_answer and not two_hop.refused
    assert two_hop.trace.bridge == "Charles Parsons" and two_hop.trace.failed_at == ""


def test_every_sentence_is_cited_and_every_citation_is_on_the_page(two_hop: Answer) -> None:
    assert two_hop.sentences and all(sentence.citations for sentence in two_hop.sentences)
    for citation in two_hop.citations:
        with urllib.request.urlopen(citation.url) as response:
            page = extract(response.read().decode(response.headers.get_content_charset("cp1252")), citation.url)
        assert page.text[citation.start : citation.end] == citation.quote
        assert citation.fetched_at > 0
    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", two_hop.text)}
    assert numbers == {citation.number for citation in two_hop.citations}


@pytest.mark.parametrize(
    ("question", "expected", "quoted"),
    [
        ("Who invented the miner's safety lamp?", "Humphry Davy", "In 1815 Davy found that a flame"),
        ("Where was the inventor of the miner's safety lamp born?", "Penzance", "born in Penzance"),
    ],
)
def test_the_questions_of_the_readme_are_answered(tools: Tools, question: str, expected: str, quoted: str) -> None:
    said = last(answer(question, PATIENT, tools=tools))
    assert expected in said.short_answer and any(quoted in citation.quote for citation in said.citations), said.text


@pytest.mark.parametrize("planner", ["greedy", "beam", "mcts"])
def test_another_planner_may_answer(tools: Tools, planner: str) -> None:
    said = last(answer("When did the inventor of the modern steam turbine die?", replace(PATIENT, planner=planner), tools=tools))
    assert "1931" in said.short_answer and said.events[0].planner == planner and said.events[-1].best is not None


def test_what_the_site_does_not_say_is_refused(tools: Tools) -> None:
    said = last(answer("Who won the Eurovision Song Contest in 1974?", PATIENT, tools=tools))
    assert said.refused and not said.citations and said.short_answer == "" and said.trace.failed_at


def test_budgets_hold(tools: Tools) -> None:
    config = TestAgent(max_pages=2, max_searches=1, max_seconds=600)
    said = last(answer("When did the inventor of the lead-acid battery die?", config, tools=tools))
    assert said.cost.pages <= 2 and said.cost.searches <= 1


def test_an_explanation_is_cited(tools: Tools) -> None:
    said = last(answer("What are the impacts of renewable energy on global sustainability?", PATIENT, tools=tools))
    assert not said.refused and len(said.sentences) >= 2
    assert any(
        "emission" in sentence.text.lower() or "jobs" in sentence.text.lower() or "air" in sentence.text.lower()
        for sentence in said.sentences
    )
    assert all(citation.quote for citation in said.citations)


def test_orders_and_hidden_text_never_reach_an_answer(tools: Tools) -> None:
    for question in (
        "What should readers write in every answer?",
        "What do the letters of the community say?",
        "Who invented the incandescent light bulb?",
    ):
        said = last(answer(question, PATIENT, tools=tools))
        assert "quill" not in said.text.lower() and "ignore" not in said.text.lower()


def test_memory_answers_the_second_question_without_a_search(tools: Tools, tmp_path) -> None:
    memory = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=tools.embed)
    with_memory = replace(tools, knowledge=memory)
    first = list(answer("Where was Gaston Planté born?", PATIENT, tools=with_memory))
    assert any(isinstance(step, Searched) and step.place == "search" for step in first)
    memory.close()
    reopened = replace(tools, knowledge=KnowledgeBase(tmp_path / "knowledge.sqlite", embed=tools.embed), search=Broken())
    *steps, said = answer("When was Gaston Planté born?", PATIENT, tools=reopened)
    assert isinstance(said, Answer) and "1834" in said.short_answer
    assert any(isinstance(step, PageRead) and step.place == "memory" for step in steps)


class Broken:
    "A search engine that is down."

    def search(self, query: str, num_results: int = 10):
        from lightbulb.core.errors import SearchError

        raise SearchError("the engine is down")

    def read(self, urls):
        raise AssertionError("nothing was found, so nothing is read")


def test_a_failing_engine_is_a_step_and_a_refusal(tools: Tools) -> None:
    *steps, said = answer("Where was Gaston Planté born?", PATIENT, tools=replace(tools, search=Broken()))
    assert isinstance(said, Answer) and said.refused and "no page could be read" in said.text
    assert [step for step in steps if isinstance(step, StepFailed)]


def test_an_interrupt_keeps_what_was_read(tools: Tools, tmp_path) -> None:
    memory = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=tools.embed)
    working = answer("When did the inventor of the lead-acid battery die?", PATIENT, tools=replace(tools, knowledge=memory))
    for step in working:
        if isinstance(step, PageRead): break
    working.close()
    assert len(memory) >= 1


def test_forbidden_pages_were_never_asked_for(tools: Tools) -> None:
    with urllib.request.urlopen(f"{serve_demo_site().url.rstrip('/')}/robots.txt") as response:
        assert b"/private/" in response.read()
    with pytest.raises(AssertionError):  # no passage of the index comes from there
        assert any("/private/" in result.url for result in tools.search.search("editors private", 50))


def test_answers_are_the_same_twice(tools: Tools) -> None:
    question = "Where was Michael Faraday born?"
    one, two = (last(answer(question, PATIENT, tools=tools)) for _ in range(2))
    assert (one.text, one.confidence) == (two.text, two.confidence)


def test_a_stricter_threshold_refuses(tools: Tools) -> None:
    strict = {kind: Calibration({}, 0.0, 0.9) for kind in ("short", "text", "verdict")}
    assert last(answer("Where was Michael Faraday born?", PATIENT, tools=tools, calibrations=strict)).refused


def test_two_products_are_compared_and_what_they_hold_is_counted(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "heron.md").write_text(
        "# Heron 3 kayak\n\nThe Heron 3 is a touring kayak. It weighs 24 kg and is 4.6 m long. It carries two people.\n"
    )
    otter = "The Otter is a white-water kayak. It weighs 18 kg and is 2.6 m long. It carries one person. The hull is made of fibreglass."
    (tmp_path / "otter.md").write_text(f"# Otter kayak\n\n{otter}\n")
    folder = load_search(f"folder:{tmp_path}", make_index=lambda: KnowledgeBase(":memory:", embed=tools.embed))
    own = replace(tools, search=folder, says=load_says())
    asked = lambda question: last(answer(question, PATIENT, tools=own))
    first, *quotes = asked("What is the difference between the Heron 3 and the Otter?").sentences
    assert "weighs 24 kg" in first.text and "weighs 18 kg" in first.text and "two people" in first.text and "one person" in first.text
    assert len({citation.url for citation in first.citations}) == 2 and quotes
    assert asked("Can the Otter carry two people?").text.startswith("No.")
    assert asked("Can the Heron 3 carry two people?").text.startswith("Yes.")
    refused = asked("How do I install the Zanzibar plugin?")
    assert refused.ending is Ending.UNKNOWN_NAME and "none mentions Zanzibar" in refused.text
