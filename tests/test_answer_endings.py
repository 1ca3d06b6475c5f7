"Why an answer ends: it is said, in which words, and within how many seconds."

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_site import LENIENT, PAGES, BagOfWords, SmallSite, small_tools

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.answers import Ending, StepFailed
from lightbulb.agent.evidence import long_names, names_nothing
from lightbulb.agent.tools import Tools
from lightbulb.agent.waiting import Working
from lightbulb.core.errors import LanguageModelError, SearchError, UnavailableError
from lightbulb.core.records import Document
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.lm.language_model import load_language_model

BORN = "Where was Humphry Davy born?"


def ask(question: str, tools: Tools, **flags: Any) -> tuple[list[Any], Answer]:
    *steps, last = answer(question, TestAgent(**flags), tools=tools, calibrations=LENIENT)
    assert isinstance(last, Answer)
    return steps, last


class Down(SmallSite):
    def search(self, query: str, num_results: int = 10) -> list[Any]:
        raise SearchError("the engine does not answer")


class Unreadable(SmallSite):
    def read(self, urls: Any) -> list[Any]:
        return [type("Failure", (), {"reason": "http_status"})() for _ in urls]


class Slow(SmallSite):
    def search(self, query: str, num_results: int = 10) -> list[Any]:
        found = super().search(query, num_results)
        if len(query.split()) < 4:  # the second search of a question, for its subject
            time.sleep(8)
        return found


def test_a_second_part_means_whom_the_first_one_found_and_is_not_asked_of_nobody() -> None:
    _, result = ask("Who showed the arc lamp and where was he born?", small_tools())
    assert result.short_answer == "Humphry Davy; Penzance" and "nothing" not in result.text
    _, result = ask("Where was Joseph Swan born and what is the capital of Peru?", small_tools())
    assert result.short_answer == "Sunderland"
    assert result.text.endswith("[1]\nI found nothing that answers: What is the capital of Peru?")
    _, result = ask("Who showed the steam organ and where was he born?", small_tools(search=SmallSite(PAGES[2:])))
    assert "Sunderland" not in result.short_answer


# ------------------------------------------------------------------ four endings


def test_a_failed_search_is_named() -> None:
    _, result = ask(BORN, small_tools(search=Down()))
    assert result.refused and result.ending is Ending.TOOL_FAILED
    assert "the engine does not answer" in result.text and "no page could be read" in result.text


def test_pages_that_cannot_be_read_are_a_failed_tool() -> None:
    _, result = ask(BORN, small_tools(search=Unreadable()))
    assert result.refused and result.ending is Ending.TOOL_FAILED and "http_status" in result.text


def test_a_closed_knowledge_base_is_named_or_done_without(tmp_path: Path) -> None:
    memory = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=BagOfWords())
    memory.close()
    steps, result = ask(BORN, small_tools(knowledge=memory))
    assert not result.refused and result.short_answer == "Penzance"  # the search still works
    assert any(isinstance(step, StepFailed) and step.action == "recall" for step in steps)
    _, result = ask("When was Alessandro Volta born?", small_tools(knowledge=memory, search=SmallSite(PAGES[3:])))
    assert result.refused and result.ending is Ending.MEMORY_CLOSED and "closed" in result.text


def test_an_engine_that_closed_its_connection_is_no_closed_database() -> None:
    class HangsUp(SmallSite):
        def search(self, query: str, num_results: int = 10) -> list[Any]:
            raise SearchError("wikipedia closed the connection")

    _, result = ask(BORN, small_tools(search=HangsUp()))
    assert result.refused and result.ending is Ending.TOOL_FAILED


def test_a_length_that_the_model_cannot_write_is_named() -> None:
    told = lambda steps: [step.activity for step in steps if isinstance(step, Working) and "--length" in step.activity]
    steps, _ = ask(BORN, small_tools(), length="report")
    assert told(steps) == ["answering in short: --length report is for a language model that leads the search"]
    assert not told(ask(BORN, small_tools())[0])


@pytest.mark.parametrize(("flags", "limit"), [({"max_pages": 1}, "max_pages = 1"), ({"max_searches": 1}, "max_searches = 1")])
def test_a_spent_budget_is_named(flags: dict[str, int], limit: str) -> None:
    _, result = ask("Where was the inventor of the arc lamp born?", small_tools(), **flags)
    assert result.cost.pages <= flags.get("max_pages", 20) and result.cost.searches <= flags.get("max_searches", 8)
    if result.refused:
        assert result.ending is Ending.BUDGET_SPENT and limit in result.text


def test_missing_evidence_is_no_failure_and_no_budget() -> None:
    _, result = ask("What gas fills the wind turbines?", small_tools())
    assert result.refused and result.ending is Ending.NO_EVIDENCE and "none supports an answer" in result.text


def test_a_name_that_no_page_mentions_is_named() -> None:
    _, result = ask("Where was Humphry Swan born?", small_tools())
    assert result.refused and result.ending is Ending.UNKNOWN_NAME and "Humphry Swan" in result.text


def test_capitals_and_two_names_are_no_name_of_their_own() -> None:
    for question in ("WHERE WAS HUMPHRY DAVY BORN?", "Where Was The Inventor Of The Lamp Born?"):
        assert long_names(question) == []
    assert long_names("meaning of the letters A M U C E in front of files") == []
    _, result = ask("Where were Humphry Davy and Joseph Swan born?", small_tools(search=SmallSite(PAGES)))
    assert result.ending is not Ending.UNKNOWN_NAME


@pytest.mark.parametrize("question", ["How?", "what is it", "Tell me more", "???", "Wie wie wie?"])
def test_a_question_that_is_about_nothing_is_refused_before_any_search(question: str) -> None:
    steps, result = ask(question, small_tools())
    assert result.ending is Ending.NO_EVIDENCE and "does not say what it is about" in result.text
    assert result.cost.searches == result.cost.pages == 0


@pytest.mark.parametrize(
    "question",
    [
        "What does _ mean?",
        "what does 'if-else' do",
        "What does the -a mean?",
        "How do I get there?",
        "Where are you?",
        "What is C?",
        "What does 'if' do?",
        "what does && do",
        "lamp",
        "What does -- mean?",
        "WHO",
    ],
)
def test_a_question_of_small_words_may_be_about_something(question: str) -> None:
    assert not names_nothing(question)


def test_a_code_that_no_page_has_is_named_and_not_taken_for_its_neighbour() -> None:
    text = (
        "The pump tells what is wrong by a code. The code GL-30 means that the filter is full. The code GL-31 means that the lid is open."
    )
    pages = [Document("http://site/codes", "Codes of the pump", text)]
    _, known = ask("What does the code GL-30 mean?", small_tools(search=SmallSite(pages)))
    _, unknown = ask("What does the code GL-25 mean?", small_tools(search=SmallSite(pages)))
    assert not known.refused and "filter" in known.text
    assert unknown.refused and unknown.ending is Ending.UNKNOWN_NAME and "GL-25" in unknown.text


def test_a_guess_is_marked_as_one() -> None:
    strict = {kind: type(calibration)(calibration.weights, -20.0, 0.5) for kind, calibration in LENIENT.items()}
    for guess in (False, True):
        *_, result = answer(BORN, TestAgent(guess=guess), tools=small_tools(), calibrations=strict)
        assert isinstance(result, Answer)
        assert result.ending is (Ending.GUESSED if guess else Ending.NO_EVIDENCE)
    assert "guess" in result.text and "Penzance" in result.text and result.citations


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("part", ["search", "reader", "model"])
def test_the_clock_holds_to_a_second_whatever_works(part: str) -> None:
    class Stuck:
        num_tokens_used = 0
        read = staticmethod(lambda *arguments, **options: time.sleep(30) or [])
        generate = staticmethod(lambda *arguments, **options: time.sleep(30) or ["", ""])
        score = staticmethod(lambda *arguments, **options: time.sleep(30) or [0.0])
        count_tokens = staticmethod(len)

    stuck: Any = {"search": Slow(), "reader": Stuck(), "model": Stuck()}[part]
    begin = time.monotonic()
    _, result = ask(BORN, small_tools(**{part: stuck}), max_seconds=1.5)
    assert time.monotonic() - begin < 2.5
    assert result.refused and result.ending is Ending.BUDGET_SPENT and "max_seconds = 1.5" in result.text


def test_what_was_found_until_time_ran_out_is_not_checked() -> None:
    class SlowAfterTheFirst(SmallSite):
        def search(self, query: str, num_results: int = 10) -> list[Any]:
            if "Davy" in query:
                time.sleep(8)
            return super().search(query, num_results)

    _, result = ask("Where was the inventor of the arc lamp born?", small_tools(search=SlowAfterTheFirst()), max_seconds=2)
    assert result.refused and result.ending is Ending.BUDGET_SPENT
    if result.unchecked:
        assert "Not checked" in result.text and all(sentence.citations for sentence in result.unchecked)


def test_what_was_read_before_the_first_thought_is_shown_as_not_checked() -> None:
    class SlowReader:
        read = staticmethod(lambda *arguments, **options: time.sleep(30) or [])

    reader: Any = SlowReader()
    _, result = ask("When was the inventor of the arc lamp born?", small_tools(reader=reader), max_seconds=2)
    assert result.refused and result.ending is Ending.BUDGET_SPENT
    (shown,) = result.unchecked
    assert f"Not checked: {shown.text}" in result.text and "arc lamp" in shown.text and shown.citations


def test_something_is_said_every_two_seconds() -> None:
    times = [time.monotonic()]
    for step in answer(BORN, TestAgent(max_seconds=5), tools=small_tools(search=Slow()), calibrations=LENIENT):
        times.append(time.monotonic())
        assert isinstance(step, Answer) or str(step)
    assert max(after - before for before, after in zip(times, times[1:], strict=False)) < 2.5


def test_a_question_that_is_dropped_stops_working() -> None:
    counted: list[str] = []

    class Counting(SmallSite):
        def search(self, query: str, num_results: int = 10) -> list[Any]:
            counted.append(query)
            time.sleep(0.3)
            return super().search(query, num_results)

    working = answer(
        "Where was the inventor of the arc lamp born?", TestAgent(), tools=small_tools(search=Counting()), calibrations=LENIENT
    )
    for step in working:
        if not isinstance(step, Working): break
    working.close()
    number = len(counted)
    time.sleep(1.5)
    assert len(counted) <= number + 1


# ------------------------------------------------------------------ a server that only chats


@pytest.fixture(scope="module")
def chat_server() -> Iterator[str]:
    "A model server that has no completions and no log-probabilities, as nearly all."

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.path.endswith("/chat/completions")
            reply = "Penzance" if "Davy" in json.dumps(content) else "I do not know"
            body = {"choices": [{"message": {"role": "assistant", "content": reply}}], "usage": {"total_tokens": 9}}
            data = json.dumps(body if known else {"error": {"message": "no such path"}}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_server_that_only_chats_answers_facts(chat_server: str) -> None:
    model = load_language_model(f"openai:any@{chat_server}")
    for question, expected in ((BORN, "Penzance"), ("Where was the inventor of the arc lamp born?", "Penzance")):
        _, result = ask(question, small_tools(model=model))
        assert result.short_answer == expected and result.ending is Ending.ANSWERED


def test_a_model_that_fails_is_a_step_and_the_reader_goes_on() -> None:
    class Broken:
        num_tokens_used, can_score = 0, True
        count_tokens = staticmethod(len)

        def generate(self, *arguments: Any, **options: Any) -> list[str]:
            raise LanguageModelError("the model server failed")

        score = generate

    steps, result = ask(BORN, small_tools(model=Broken()))
    assert result.short_answer == "Penzance" and any(isinstance(step, StepFailed) for step in steps)


def test_a_model_that_fails_while_it_writes_costs_no_answer() -> None:
    class Failing:
        def summarize(self, question: str, passages: Any) -> Any:
            raise LanguageModelError("the model server failed")

    steps, result = ask("Why was the arc lamp shown?", small_tools(summarizer=Failing(), rerank=None))
    assert any(isinstance(step, StepFailed) and step.reason == "the model server failed" for step in steps)
    assert result.ending is Ending.ANSWERED or "the model server failed" in result.text


def test_an_error_that_nothing_stands_in_for_ends_with_its_reason() -> None:
    def says(question: str, texts: Any) -> Any:
        raise UnavailableError("the weights are damaged")

    _, result = ask("Was Humphry Davy born in Penzance?", small_tools(says=says))
    assert result.refused and result.ending is Ending.TOOL_FAILED and "the weights are damaged" in result.text


# ------------------------------------------------------------------ memory


FALSE = Document("file:///private/davy.txt", "Humphry Davy", "Humphry Davy was born in Atlantis in 1701.", source="folder")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[KnowledgeBase]:
    base = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=BagOfWords())
    base.add([FALSE], scope="folder:/private")
    yield base
    base.close()


def test_what_was_read_from_a_private_folder_is_no_evidence_elsewhere(memory: KnowledgeBase) -> None:
    _, result = ask(BORN, small_tools(knowledge=memory), search="demo")
    assert result.short_answer == "Penzance" and all(url != FALSE.url for url, _ in result.pages)


def test_memory_ends_no_search_early(memory: KnowledgeBase) -> None:
    memory.add([PAGES[1]], scope="demo")
    _, result = ask(BORN, small_tools(knowledge=memory), search="demo")
    assert result.cost.searches >= 1


def test_a_page_that_changed_is_used_as_it_is_now(memory: KnowledgeBase) -> None:
    old = Document(PAGES[1].url, PAGES[1].title, "Humphry Davy was born in Truro in 1778.")
    memory.add([old], scope="demo", checked_at=time.time() - 30 * 86_400)
    _, result = ask(BORN, small_tools(knowledge=memory), search="demo")
    assert result.short_answer == "Penzance"


def test_what_is_read_is_remembered_under_its_back_end(memory: KnowledgeBase) -> None:
    ask(BORN, small_tools(knowledge=memory), search="demo")
    assert PAGES[1].url in {document.url for document in memory.documents(scopes=["demo"])}
    assert PAGES[1].url not in {document.url for document in memory.documents(scopes=["folder:/private"])}
