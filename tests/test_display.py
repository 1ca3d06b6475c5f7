"""Objects that show themselves: in HTML and Markdown nothing of a stranger's page is active, and JSON loses nothing."""

from __future__ import annotations

import json
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbulb.agent.answers import Answer, Ending, Sentence, Trace
from lightbulb.agent.configuration import TestAgent
from lightbulb.agent.ledger import Citation, Cost, Ledger
from lightbulb.core.display import Displayable, escape_markdown, link, mark_range
from lightbulb.core.records import Document
from lightbulb.core.report import StepReport
from lightbulb.core.run_folder import Moment
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.transformer import TransformerConfig
from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.planning.planners import PlannerConfig
from lightbulb.planning.tree_of_thought import ToTNode, ToTSearch
from lightbulb.rl.ppo import PPOConfig
from lightbulb.web.backend import SearchResult
from lightbulb.web.corpus import CrawlConfig
from lightbulb.world.configuration import TrainWorldModel
from lightbulb.world.stages import TrainLanguageWorld

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\" onload=\"alert(2) [click](javascript:alert(3)) ![](http://x/) & <b>"
ALLOWED_TAGS = set("p b br small ul li a details summary blockquote mark div span img table tbody tr td".split())
ALLOWED_ATTRIBUTES = {"href", "rel", "open", "style", "title", "alt", "src"}


class Elements(HTMLParser):
    "Every tag with its attributes, and all text."

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data


def hostile_answer(evil: str) -> Answer:
    "An answer in which every text that can come from a page or a model is the same."
    citation = Citation(1, f"javascript:{evil}", evil, 0, len(evil), evil, 0.0, "", evil, evil)
    tree = ToTNode(evil)
    tree.add(evil).value = 0.5
    sentences = (Sentence(evil, (citation,)),)
    return Answer(evil, evil, evil, sentences, 0.5, False, Trace(evil, evil), Cost(), tree, pages=((f"javascript:{evil}", evil),))


def search_result() -> Displayable:
    search = ToTSearch(lambda nodes: [[EVIL, "other"]] * len(nodes), lambda nodes: [0.5] * len(nodes))
    return search.run(EVIL)


def moves() -> Displayable:
    predict = lambda states: (np.zeros((len(states), 2)), np.zeros(len(states)), None)
    step = lambda states, actions: (states, np.asarray(actions, float), np.ones(len(states)))
    return MCTS(predict, step, MCTSConfig(num_simulations=8)).search(np.zeros((2, 1)))


SHOWN = {
    "answer": lambda: hostile_answer(EVIL),
    "thought": lambda: hostile_answer(EVIL).tree,
    "result of a tree of thought": search_result,
    "result of a tree search": moves,
    "search tree": lambda: moves().tree,
    "page that a search found": lambda: SearchResult(f"javascript:{EVIL}", EVIL, EVIL, 1.0),
    "report": lambda: StepReport(3, 0.5, metrics={EVIL: 1.0}),
    "settings of answering": lambda: TestAgent(query=EVIL, save_dir=Path(EVIL)),
    "settings of a language model": lambda: TrainLanguageModel(dataset_name=EVIL),
    "settings of a world model": lambda: TrainWorldModel(environment="tic_tac_toe"),
    "settings of both": TrainLanguageWorld,
    "settings of PPO": PPOConfig,
    "settings of a search": MCTSConfig,
    "settings of a planner": PlannerConfig,
    "settings of a crawl": CrawlConfig,
    "shape of a language model": lambda: TransformerConfig(259),
    "moment of a run": lambda: Moment(1, 2),
}


@pytest.mark.parametrize("make", SHOWN.values(), ids=SHOWN)
def test_nothing_that_was_given_is_active(make):
    shown = make()
    assert shown._repr_html_() == shown.to_html() and shown._repr_markdown_() == shown.to_markdown()
    page = Elements(shown.to_html())
    assert page.tags and not page.open
    for tag, attributes in page.tags:
        assert tag in ALLOWED_TAGS and set(attributes) <= ALLOWED_ATTRIBUTES, (tag, attributes)
        assert (attributes.get("href") or "http://").startswith(("http://", "https://", "file://"))
        assert (attributes.get("src") or "data:image/svg+xml;").startswith("data:image/svg+xml;")
    markdown = shown.to_markdown()
    assert "<" not in markdown and "](" not in markdown
    assert json.loads(shown.to_json()) is not None


@given(st.text())
def test_an_answer_reads_as_it_was_written(text):
    page = Elements(hostile_answer(text).to_html())
    assert not page.open and {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    kept = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    assert kept in page.text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    assert json.loads(hostile_answer(text).to_json())["text"] == text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")


@given(st.text(), st.data())
def test_the_marked_range_is_the_quoted_one(text, data):
    end = data.draw(st.integers(0, len(text)))
    start = data.draw(st.integers(0, end))
    marked = mark_range(text, start, end)
    assert marked.count("<mark>") == marked.count("</mark>") == 1
    assert Elements(marked.partition("<mark>")[2].partition("</mark>")[0]).text == text[start:end]


@given(st.text())
def test_markdown_stays_on_one_line(text):
    assert "\n" not in escape_markdown(text) and "<" not in escape_markdown(text)


def test_a_citation_shows_its_passage_around_the_quotation():
    text = f"{'before ' * 60}Davy was born in Penzance.{' after' * 60}"
    ledger = Ledger(lambda texts, query=False: np.zeros((len(texts), 2)))
    ledger.add(Document("http://site/davy", "Humphry Davy", text))
    start = text.index("Davy")
    citation = ledger.cite(ledger["http://site/davy"].span(start, start + 26))
    assert text[start - len(citation.before) : start] == citation.before and text[start + 26 :].startswith(citation.after)
    answer = Answer(
        "Where?", "Penzance [1]", "Penzance", (Sentence("Penzance", (citation,)),), 0.93, False, Trace(), Cost(), ToTNode("Where?")
    )
    html = answer.to_html()
    assert "before <mark>Davy was born in Penzance.</mark> after" in html
    assert html.index("Penzance [1]") < html.index("about 9 in 10 answers") < html.index("<mark>") < html.index("the tree of thoughts")


def test_all_that_is_quoted_of_one_page_is_one_fold():
    "Steps of one page are marked in one passage; what stands far away is a passage of its own."
    text = f"To report damage: 1. Photograph the boat. 2. Tell the warden.{' Nothing else.' * 100} Fees are due in May."
    ledger = Ledger(lambda texts, query=False: np.zeros((len(texts), 2)))
    ledger.add(Document("http://site/bylaws", "Bylaws", text))
    ledger.add(Document("http://site/other", "Other", "Fees are paid in cash."))
    quotes = ("1. Photograph the boat.", "2. Tell the warden.", "Fees are due in May.")
    spans = [ledger["http://site/bylaws"].span(text.index(quote), text.index(quote) + len(quote)) for quote in quotes]
    citations = [ledger.cite(span) for span in [*spans, ledger["http://site/other"].span(0, 22)]]
    sentences = tuple(Sentence(one.quote, (one,)) for one in citations)
    written = "1. Photograph the boat. [1]\n2. Tell the warden. [1]\nFees are due in May. [1] Fees are paid in cash. [2]"
    answer = Answer("How?", written, "", sentences, 0.9, False, Trace(), Cost(), ToTNode("How?"))
    html = answer.to_html()
    assert html.count("[1] Bylaws</summary>") == html.count("[2] Other</summary>") == 1 and html.count("<blockquote>") == 3
    assert "<mark>1. Photograph the boat.</mark> <mark>2. Tell the warden.</mark> Nothing" in html
    assert html.count("<mark>") == html.count("</mark>") == 4
    assert "[1]<br>2. Tell" in html and "\\[1\\]  \n2. Tell" in answer.to_markdown()
    start = [citation.start for citation in citations[:3]]
    assert f"characters {start[0]} to {start[0] + 23}, {start[1]} to {start[1] + 19}, {start[2]} to" in html


@pytest.mark.parametrize("host", ["127.0.0.1:43577", "localhost:8000", "LOCALHOST", "127.1", "[::1]:80", "reader@localhost"])
def test_a_page_of_this_machine_is_named_and_no_link(host):
    "The demo site's server ends with its kernel: a link to it in a saved answer leads nowhere."
    citation = Citation(1, f"http://{host}/wiki/davy", "Humphry Davy", 0, 4, "Davy", 0.0, "", "", " was born.")
    pages = ((citation.url, "Arc lamp"),)
    answer = Answer("Who?", "Davy [1]", "Davy", (Sentence("Davy", (citation,)),), 0.9, False, Trace(), Cost(), ToTNode("Who?"), pages=pages)
    page = Elements(answer.to_html())
    assert not [tag for tag, _ in page.tags if tag == "a"]
    assert "[1] Humphry Davy" in page.text and "Davy was" in page.text and "Arc lamp" in page.text and citation.url in page.text
    assert "<mark>Davy</mark>" in answer.to_html()


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.org", "localhost.example.org", "example.org/localhost", "1270.example.org", "davy.org"]
)
def test_a_page_of_the_web_is_a_link(host):
    assert link(f"https://{host}/davy", "Davy").startswith(f'<a href="https://{host}/davy"')


def test_a_refusal_shows_no_confidence():
    refusal = Answer("Who?", "I can't.", "", (), 0.0, True, Trace(), Cost(), ToTNode("Who?"), ending=Ending.NO_EVIDENCE)
    assert "Confidence" not in refusal.to_html() + refusal.to_markdown()
    assert json.loads(refusal.to_json())["ending"] == "no evidence"


def test_settings_that_were_chosen_stand_out():
    html = TestAgent(max_pages=7).to_html()
    assert "<b>max_pages</b>" in html and "<b>max_searches</b>" not in html
    first, folded = html.split("<details>")
    assert "max_pages" in first and "max_searches" not in first, "thirty rows of defaults hide the one that was chosen"
    assert "max_searches" in folded and f"{len(fields(TestAgent)) - 1} others" in folded
    assert "**max\\_pages** | 7" in TestAgent(max_pages=7).to_markdown()
