"Questions that one search does not answer: misspelt, in other words, in another language, behind a link; and pages that disagree."

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from small_site import LENIENT, PatternReader, SmallSite, small_tools

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.answers import Ending, PageRead, Searched
from lightbulb.agent.confidence import Calibration
from lightbulb.agent.configuration import ReasoningConfig
from lightbulb.agent.evidence import respelt
from lightbulb.agent.candidates import Candidate, _whole_answer
from lightbulb.agent.question_kinds import kind_of_question
from lightbulb.agent.reasoning import Plan, State, disagrees, holds_now, is_of_later_issue
from lightbulb.core.records import Document, Heading, Link, Passage

MUSEUM = Document("http://site/museum", "Museum", "The town museum was opened in 1931.")
QUESTION = "When was the town museum opened?"


class Engine(SmallSite):
    "Finds what `pages` has; `others` can only be read."

    def __init__(self, pages: Sequence[Document], others: Sequence[Document] = (), *, only_for: str = "") -> None:
        super().__init__(pages)
        self.others, self.only_for = {page.url: page for page in others}, only_for

    def search(self, query: str, num_results: int = 10) -> list[Any]:
        if self.only_for and self.only_for in query.split(): return list(self.others.values())
        return super().search(query, num_results)

    def read(self, urls: Sequence[str]) -> list[Any]:
        return [self.others.get(url) or super(Engine, self).read([url])[0] for url in urls]


def ask(question: str, search: Engine, **flags: Any) -> tuple[list[Any], Answer]:
    *steps, last = answer(question, TestAgent(**flags), tools=small_tools(search=search), calibrations=LENIENT)
    assert isinstance(last, Answer)
    return steps, last


def town(*links: Link) -> Document:
    return Document("http://site/town", "Town", "The town lies by a river.", links=links)


def test_a_link_that_fits_is_followed() -> None:
    links = (Link("http://site/river", "River"), Link("http://site/museum#hours", "The museum"))
    steps, result = ask(QUESTION, Engine([town(*links)], [MUSEUM]))
    assert result.short_answer == "1931" and result.citations[0].url == MUSEUM.url
    assert [step.url for step in steps if isinstance(step, PageRead)] == ["http://site/town", MUSEUM.url]  # not the river's page


def test_an_index_is_opened_where_no_link_fits() -> None:
    index = Document(
        "http://site/index", "Index", "Museum\n\nRiver", links=(Link(MUSEUM.url, "Museum"), Link("http://site/river", "River"))
    )
    _, result = ask(QUESTION, Engine([town(Link(index.url, "General index"))], [index, MUSEUM]))
    assert result.short_answer == "1931" and result.citations[0].url == MUSEUM.url


def test_links_are_part_of_the_budget() -> None:
    engine = Engine([town(Link(MUSEUM.url, "The museum"))], [MUSEUM])
    _, result = ask(QUESTION, engine, max_searches=2)
    assert result.refused and result.cost.searches <= 2


def test_the_words_of_the_pages_make_another_query() -> None:
    page = Document("http://site/guide", "Guide", "What was the museum is called gallery.")
    gallery = Document("http://site/gallery", "Gallery", "The gallery, once a museum of the town, was opened in 1931.")
    steps, result = ask(QUESTION, Engine([page], [gallery], only_for="gallery"))
    assert result.short_answer == "1931"
    assert any(isinstance(step, Searched) and "gallery" in step.query for step in steps)


def test_a_lost_or_swapped_letter_is_likelier_than_a_changed_one() -> None:
    known = {"with": 90, "which": 50, "lamp": 7, "default": 4}
    assert respelt("wich lamp is lit by defualt", known) == "which lamp is lit by default"


def test_a_slip_is_corrected_also_where_no_second_search_is_left() -> None:
    gallery = Document(
        "http://site/gallery", "Gallery", "The gallery of the town was opened in 1950. The bakery of the town was opened in 1931."
    )
    steps, result = ask("When was the bakry opened?", Engine([gallery]), max_searches=2)
    assert result.short_answer == "1931" and sum(isinstance(step, Searched) for step in steps) <= 2


def test_a_slip_is_corrected_by_the_words_of_the_pages() -> None:
    guide = Document("http://site/guide", "Guide", "The museum stands in the town.")
    steps, result = ask("When was the town musem opened?", Engine([guide], [MUSEUM], only_for="museum"))
    assert result.short_answer == "1931" and "musem" in result.question
    assert any(isinstance(step, Searched) and "museum" in step.query for step in steps)


@pytest.mark.parametrize("question", ["Wo wurde Humphry Davy geboren?", "Où est né Humphry Davy ?"])
def test_german_and_french_questions_are_answered_from_english_pages(question: str) -> None:
    *_, result = answer(question, TestAgent(), tools=small_tools(), calibrations=LENIENT)
    assert isinstance(result, Answer) and result.short_answer == "Penzance" and result.question == question


def test_a_foreign_question_that_is_refused_says_how_it_was_read() -> None:
    *_, result = answer("Wann wurde der Leuchtturm verboten?", TestAgent(), tools=small_tools(), calibrations=LENIENT)
    assert isinstance(result, Answer) and result.refused and result.ending in (Ending.NO_EVIDENCE, Ending.UNKNOWN_NAME)
    assert "German" in result.text and "lighthouse prohibited" in result.text and "ask again in English" in result.text
    *_, result = answer("When was the lighthouse forbidden?", TestAgent(), tools=small_tools(), calibrations=LENIENT)
    assert isinstance(result, Answer) and "English" not in result.text


TWO_BOATS = [
    Document(
        "http://site/heron", "Heron 3 kayak", "The Heron 3 is a touring kayak. It weighs 24 kg and is 4.6 m long. It carries two people."
    ),
    Document(
        "http://site/otter",
        "Otter kayak",
        "The Otter is a white-water kayak. It weighs 18 kg and is 2.6 m long. It carries one person. The hull is made of fibreglass.",
    ),
    Document(
        "http://site/dealer",
        "Heron 3 at Lake Sports",
        "We sell the Heron 3 touring kayak. The Heron 3 weighs 27 kg. The hull is made of polyethylene.",
    ),
]


def test_what_two_pages_say_of_two_things() -> None:
    asked = lambda question: ask(question, Engine(TWO_BOATS))[1]
    weighed = asked("How much does the Heron 3 weigh?")  # *It weighs 24 kg* is said of what its page is called
    assert "27 kg" in weighed.text and "24 kg" in weighed.text and "18 kg" not in weighed.text
    both = asked("What are the hulls of the Heron 3 and the Otter made of?")
    assert re.search(r"Heron 3: .*polyethylene.*Otter: .*fibreglass", both.text, re.DOTALL) and not both.refused


@pytest.fixture(scope="module")
def boats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Answer]:
    "Asks the real models about three notes."
    folder = tmp_path_factory.mktemp("boats")
    for page in TWO_BOATS:
        (folder / f"{page.url.rpartition('/')[2]}.md").write_text(f"# {page.title}\n\n{page.text}\n")
    flags = TestAgent(search=f"folder:{folder}", save_dir=folder / "models", max_seconds=600)

    def asked(question: str) -> Answer:
        *_, last = answer(question, flags)
        assert isinstance(last, Answer)
        return last

    return asked


def test_whether_one_is_more_than_the_other(boats: Callable[[str], Answer]) -> None:
    for question, verdict in (
        ("Is the Otter lighter than the Heron 3?", r"Yes \(Otter: 18 kg; Heron 3: 2[47] kg\)"),
        ("Is the Otter longer than the Heron 3?", r"No \(Otter: 2\.6 m.*; Heron 3: 4\.6 m"),  # it said yes
        ("Does the Otter weigh more than the Heron 3?", r"No \("),
    ):
        told = boats(question)
        assert re.match(verdict, told.text) and told.short_answer in ("Yes", "No"), (question, told.text)
        assert len({citation.url for citation in told.citations}) == 2
    assert boats("Is the Otter cheaper than the Heron 3?").refused  # what speaks of one thing does not say whether it is more


def test_two_things_are_compared_in_any_words(boats: Callable[[str], Answer]) -> None:
    for question in ("How do the Heron 3 and the Otter differ?", "What distinguishes the Heron 3 from the Otter?", "Heron 3 vs Otter"):
        told = boats(question)
        assert re.match(r"(?:The )?Heron 3: .*2[47] kg.*; (?:the )?Otter: .*18 kg", told.text, re.I), (question, told.text)
    nowhere = boats("How do the Heron 3 and the Zanzibar differ?")
    assert nowhere.refused and "Zanzibar" in nowhere.text


def test_pages_that_disagree_are_both_named() -> None:
    pages = [
        Document("http://site/news", "River news", "The iron bridge was opened in 1894."),
        Document("http://site/guide", "City guide", "The iron bridge was opened in 1886."),
        Document("http://site/lamps", "Lamps", "On the iron bridge lamps were hung up in 1902."),
    ]
    _, result = ask("When was the iron bridge opened?", Engine(pages))
    assert {"1894", "1886"} <= set(result.text.replace(":", " ").replace(".", " ").split()) and "1902" not in result.text
    assert result.short_answer in ("1894", "1886")
    assert {citation.url for citation in result.citations} == {"http://site/news", "http://site/guide"}


MINUTES = [
    Document("http://site/m1", "Minutes, 11 February 2026", "The spring concert will be on 9 May in the church hall."),
    Document("http://site/m2", "Minutes, 15 April 2026", "The spring concert will be on 16 May in the church hall."),
]


@pytest.mark.parametrize("pages", [MINUTES, MINUTES[::-1]])
def test_the_latest_issue_holds_and_what_an_earlier_one_said_is_told_as_that(pages: list[Document]) -> None:
    _, result = ask("When is the spring concert?", Engine(pages))
    assert result.short_answer == "16 May"
    assert "Before, the page “Minutes, 11 February 2026” had 9 May" in result.text


@pytest.mark.parametrize(
    ("page", "other", "is_newer"),
    [
        (("a/rules_2025.pdf", "House rules"), ("a/rules_2024.pdf", "House rules"), True),
        (("a/2025-04.txt", "Letter"), ("a/2025-03.txt", "Letter"), True),
        (("a/2025-03.txt", "Letter"), ("a/2025-04.txt", "Letter"), False),
        (("a/minutes_2026_04_15.md", "Minutes"), ("a/minutes_2026_02_11.md", "Minutes"), True),
        (("a", "Letter of 3 May 2025"), ("b", "Letter of 30 April 2025"), True),
        (("a", "Letter, May 2025"), ("b", "Rules, April 2025"), False),  # of two series
        (("a", "Letter"), ("b", "Letter"), False),
        (("a", "The 1590s"), ("b", "The 1580s"), False),
    ],
)
def test_issues_of_one_series_are_ordered_by_their_dates(page: tuple[str, str], other: tuple[str, str], is_newer: bool) -> None:
    one, two = (Document(f"file:///{url}", title, "") for url, title in (page, other))
    assert is_of_later_issue(one, two) == is_newer and not (is_newer and is_of_later_issue(two, one))


def test_a_later_bill_of_another_customer_is_no_later_issue() -> None:
    pages = [
        Document("http://site/b1", "Bill, 3 March 2026", "Customer: Lindqvist.\n\nThe total is 300 euros."),
        Document("http://site/b2", "Bill, 9 April 2026", "Customer: Okafor.\n\nThe total is 450 euros."),
    ]

    def told(page: Document, amount: str, odds: float) -> State:
        passage = Passage(page.url, page.title, 0, len(page.text), page.text, 0.0)
        start = page.text.index(amount)
        return State(
            Plan("direct", ("?",)), (Candidate(amount, page.url, page.title, start, start + 3, "number", odds, passage),), odds, amount
        )

    march, april = told(pages[0], "300", -0.5), told(pages[1], "450", -2.0)
    find = {page.url: page for page in pages}.__getitem__
    assert holds_now("How much is the total for Lindqvist?", march, [april], find) is march
    assert holds_now("How much is the total?", march, [april], find) is april


def test_of_two_dated_parts_of_a_page_the_later_one_holds() -> None:
    parts = "11 February 2026", "The treasurer is Bo Ray.", "15 April 2026", "The treasurer is Ada Lind."
    text = "\n\n".join(parts)
    headings = tuple(Heading(2, part, text.index(part)) for part in parts[::2])
    page = Document("http://site/log", "Log", text, headings=headings)
    places = text.index("Ada"), text.index("Bo")
    assert is_of_later_issue(page, page, places) and not is_of_later_issue(page, page, places[::-1])

    def told(name: str, odds: float) -> State:
        passage = Passage(page.url, page.title, 0, len(text), text, 0.0)
        found = Candidate(name, page.url, page.title, text.index(name), text.index(name) + len(name), "person", odds, passage)
        return State(Plan("direct", ("Who is the treasurer?",)), (found,), odds, name)

    old, new = told("Bo Ray", -0.2), told("Ada Lind", -4.0)
    find = {page.url: page}.__getitem__
    assert holds_now("Who is the treasurer?", old, [new], find) is new and holds_now("Who was the treasurer?", old, [new], find) is old
    assert holds_now("Who is the treasurer?", new, [old], find) is new
    assert not disagrees("Who is the treasurer?", old, new)  # of one page
    still = replace(page, text=f"{text}\n\nBo Ray stays.")
    assert holds_now("Who is the treasurer?", old, [new], {page.url: still}.__getitem__) is old


@pytest.mark.parametrize(("first", "second", "are_two"), [("3312", "7740", True), ("3312", "3312", False), ("blue", "red", False)])
def test_codes_of_two_issues_disagree(first: str, second: str, are_two: bool) -> None:
    question = "What is the gate code?"

    def told(year: int, code: str, odds: float) -> State:
        text = f"The gate code is {code}."
        passage = Passage(f"http://site/rules_{year}", f"Rules {year}", 0, len(text), text, 0.0)
        found = Candidate(code, passage.url, passage.title, text.index(code), len(text) - 1, "other", odds, passage)
        return State(Plan("direct", (question,)), (found,), odds, code)

    old, new = told(2024, first, -0.5), told(2025, second, -1.0)
    pages = {it.chosen[-1].url: Document(it.chosen[-1].url, it.chosen[-1].title, it.chosen[-1].passage.text) for it in (old, new)}
    assert (holds_now(question, old, [new], pages.__getitem__) is new) == are_two == disagrees(question, old, new)


def test_what_a_line_says_of_other_numbers_stands_behind_the_later_issue() -> None:
    pages = [
        Document("http://site/m1", "Minutes, 11 February 2026", "The treasurer reported a balance of 1,840 pounds."),
        Document("http://site/m2", "Minutes, 15 April 2026", "The treasurer reported a balance of 2,115 pounds."),
    ]
    _, result = ask("What is the balance?", Engine(pages))
    assert result.text.index("2,115") < (result.text.index("1,840") if "1,840" in result.text else len(result.text))


@pytest.mark.parametrize("found", ["10 June", "19:00", "Wednesday 10 June"])
def test_when_wants_the_day_with_its_hour(found: str) -> None:
    text = "Next meeting: Wednesday 10 June at 19:00 in the vestry."
    start = text.index(found)
    told, *_ = _whole_answer("When is the next meeting?", "date", found, text, start, start + len(found))
    assert told == "Wednesday 10 June at 19:00"
    assert (
        _whole_answer("At what hour is the next meeting?", "date", "19:00", text, text.index("19:00"), text.index("19:00") + 5)[0]
        == "19:00"
    )


def test_days_of_one_year_disagree_and_a_year_does_not_with_a_day_in_it() -> None:
    def told(place: str, date: str) -> State:
        text = f"The town museum was opened on {date}."
        passage = Passage(f"http://{place}", "Museum", 0, len(text), text, 0.0)
        found = Candidate(date, passage.url, "Museum", text.index(date), text.index(date) + len(date), "date", -0.5, passage)
        return State(Plan("direct", (QUESTION,)), (found,), -0.5, date)

    assert disagrees(QUESTION, told("a", "3 May"), told("b", "12 May")) and not disagrees(QUESTION, told("a", "3 May"), told("b", "19:00"))
    first, others = (
        told("a", "3 May 1894"),
        [told("b", "12 August 1894"), told("c", "1894"), told("d", "May 1894"), told("e", "1894-05-03")],
    )
    assert [disagrees(QUESTION, first, other) for other in others] == [True, False, False, False]


def test_a_composed_answer_has_a_short_form_where_the_reader_sees_one() -> None:
    class Sees(PatternReader):
        patterns = {"why": r"because (\w+ \w+)"}

    page = Document("http://site/lamp", "Lamp", "The harbour lamp was moved because ships collided below it.")
    tools = small_tools(search=Engine([page]), reader=Sees())
    *_, result = answer("Why was the harbour lamp moved?", TestAgent(), tools=tools, calibrations=LENIENT)
    assert isinstance(result, Answer) and result.kind == "why" and "because ships collided" in result.text
    assert result.short_answer == "ships collided"


@pytest.mark.parametrize(("seen", "short"), [(r"(the Nordlys 4)", ""), (r"(the Nordlys 4 and the Pavo X)", "the Nordlys 4 and the Pavo X")])
def test_the_first_of_several_is_no_short_form(seen: str, short: str) -> None:
    class Sees(PatternReader):
        patterns = {"which": seen}

    page = Document("http://site/phones", "Phones", "The phones that support eSIM are the Nordlys 4 and the Pavo X.")
    tools = small_tools(search=Engine([page]), reader=Sees())
    *_, result = answer("Which phones support eSIM?", TestAgent(), tools=tools, calibrations=LENIENT)
    assert isinstance(result, Answer) and result.kind == "list" and result.short_answer == short


def test_sentences_near_a_fact_carry_it_on() -> None:
    text = (
        "Fish are plentiful.\n\nThe town had an iron bridge planned for long. Ferries went to and fro. The iron bridge was opened in 1894. "
        "After it was opened, the bridge carried trains. Otters play.\n\nRules\n\nThe iron bridge is opened for ships."
    )
    page = Document("http://site/bridge", "Crossing", text, headings=(Heading(2, "Rules", text.index("Rules")),))
    narrow = ReasoningConfig(max_carried_gap=4.0)  # shares of words differ by less than the cross-encoder's points
    tools = small_tools(search=Engine([page]), reasoning=narrow)
    *_, result = answer("When was the iron bridge opened?", TestAgent(), tools=tools, calibrations=LENIENT)
    assert (
        isinstance(result, Answer)
        and result.short_answer == "1894"
        and [sentence.text for sentence in result.sentences][1:]
        == [
            "The town had an iron bridge planned for long.",
            "The iron bridge was opened in 1894.",
            "After it was opened, the bridge carried trains.",
        ]
    )  # neither what says little nor what stands under another heading


def test_a_name_is_not_broken_off() -> None:
    class Cuts(PatternReader):
        patterns = {"what": r"the (Great|Norway)"}

    def short(question: str, text: str) -> str:
        tools = small_tools(search=Engine([Document("http://site/museum", "Museum", text)]), reader=Cuts())
        *_, result = answer(question, TestAgent(), tools=tools, calibrations=LENIENT)
        assert isinstance(result, Answer)
        return result.short_answer

    assert short("What did the museum begin with?", "The museum began with the Great Exhibition of 1851.") == "Great Exhibition"
    assert short("What gave the museum its whale?", "Its whale was given by the Norway Museum.") == "Norway"  # the rest is asked about


@pytest.mark.parametrize(("certain", "said"), [(0.97, "New Holland"), (0.3, "12")])
def test_what_only_sounds_like_a_number_may_be_a_name(certain: float, said: str) -> None:
    class Sees:
        num_reads = 0

        def read(self, question: str, texts: Sequence[str], *, top_k: int = 4) -> list[Any]:
            self.num_reads += 1
            places = [(texts[0].index(text), text, chance) for text, chance in (("New Holland", certain), ("12", 0.02))]
            return [
                SimpleNamespace(text_index=0, start=start, end=start + len(text), text=text, kind="", score=chance)
                for start, text, chance in places
            ]

    question, text = "What mark was given to the western half of the colony?", "Its western half was given the name New Holland by 12 men."
    assert kind_of_question(question) == "number"
    reader = Sees()
    tools = small_tools(search=Engine([Document("http://site/colony", "Colony", text)]), reader=reader)
    *_, result = answer(question, TestAgent(), tools=tools, calibrations=LENIENT | {"short": Calibration({}, 9.0, 0.5)})
    assert isinstance(result, Answer) and result.short_answer == said and reader.num_reads == 1


def test_where_may_be_answered_without_a_place_but_not_by_a_worse_line() -> None:
    always = LENIENT | {"short": Calibration({}, -9.0, 0.5), "sentence": Calibration({}, 9.0, 0.5)}

    def said(question: str, text: str) -> str:
        tools = small_tools(search=Engine([Document("http://site/words", "Words", text)]), reader=PatternReader())
        *_, result = answer(question, TestAgent(), tools=tools, calibrations=always)
        assert isinstance(result, Answer)
        return result.short_answer

    question = "Where does the expression cherry picker come from?"
    origin = "The expression cherry picker does come from picking ripe fruit where it grows."
    assert said(question, origin) == origin
    assert said(question, f"{origin} Rain falls in Bergen.") == origin
    assert said(question, f"{origin} The expression cherry picker comes from Bergen.") == "The expression cherry picker comes from Bergen."


def test_a_title_that_says_the_question_is_no_evidence() -> None:
    by_title = LENIENT | {"short": Calibration({"relevance": 1.0, "topic": -1.0}, 0.0, 0.6)}

    def ending(title: str) -> Ending:
        tools = small_tools(search=Engine([Document(MUSEUM.url, title, MUSEUM.text)]))
        *_, result = answer(QUESTION, TestAgent(), tools=tools, calibrations=by_title | {"sentence": Calibration({}, -9.0, 0.5)})
        assert isinstance(result, Answer)
        return result.ending

    assert ending("Page 7") is Ending.ANSWERED and ending("When the town museum opened") is Ending.NO_EVIDENCE


def test_pages_that_agree_are_told_once() -> None:
    pages = [
        Document("http://site/news", "River news", "The iron bridge was opened in 1894."),
        Document("http://site/guide", "City guide", "Opened was the iron bridge in May 1894."),
    ]
    _, result = ask("When was the iron bridge opened?", Engine(pages))
    assert "But" not in result.text and "1894" in result.short_answer


class NumberReader(PatternReader):
    "Breaks a number off before its unit."

    patterns = {"at": r"(\d+) °C", "how": r"(\d+) minutes"}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("At what temperature is bread baked?", "230 °C"),
        ("How long is bread baked?", "40 minutes"),
        ("How many minutes is bread baked?", "40"),
    ],
)
def test_a_number_is_told_with_the_unit_that_the_question_does_not_name(question: str, expected: str) -> None:
    page = Document("http://site/bread", "Bread", "Bread is baked at 230 °C for 40 minutes.")
    tools = small_tools(search=Engine([page]), reader=NumberReader())
    *_, last = answer(question, TestAgent(), tools=tools, calibrations=LENIENT)
    assert isinstance(last, Answer) and last.short_answer == expected and last.text.startswith(expected)


NAMESAKES = (
    Document("http://site/mill", "Harwick Mill", "The Harwick Mill was built by John Vance, Mayor of Harwick, in a year."),
    Document(
        "http://site/baron", "John Vance, Baron of Selby", "John Vance was born in Selby. John Vance hunted, and his son John Vance too."
    ),
    Document("http://site/mayor", "John Vance, Mayor of Harwick", "He was born in Whitby. He kept the town's accounts and its mill."),
)


def test_of_two_people_of_one_name_the_page_that_is_called_as_the_first_one_goes_on_is_read() -> None:
    _, result = ask("Where was the builder of the Harwick Mill born?", Engine(NAMESAKES))
    assert result.short_answer == "Whitby" and result.citations[0].title == "John Vance, Mayor of Harwick"


class Sure(PatternReader):
    "Surer of one name than of all others."

    def read(self, question: str, texts: Sequence[str], *, top_k: int = 4) -> list[Any]:
        spans = super().read(question, texts, top_k=top_k)
        for span in spans:
            span.score = 0.98 if span.text == "Selby" else span.score
        return spans


def test_what_another_page_says_beside_a_name_counts_less_than_that_name_s_own_page() -> None:
    own = Document("http://site/own", "John Vance", "He was born in Whitby and kept accounts.")
    other = Document("http://site/other", "Ada Moor", "Ada Moor, whom John Vance met where he was born, was born in Selby.")
    mill = Document("http://site/mill", "Harwick Mill", "The Harwick Mill was built by John Vance long ago.")
    tools = small_tools(search=Engine((mill, other, own)), reader=Sure())
    *_, last = answer("Where was the builder of the Harwick Mill born?", TestAgent(), tools=tools, calibrations=LENIENT)
    assert isinstance(last, Answer) and last.short_answer == "Whitby"


def test_the_end_of_a_chain_has_a_confidence_of_its_own() -> None:
    never = LENIENT | {"chain": Calibration({}, -9.0, 0.5)}
    tools = small_tools(search=Engine(NAMESAKES))
    *_, chain = answer("Where was the builder of the Harwick Mill born?", TestAgent(), tools=tools, calibrations=never)
    *_, direct = answer("Who was the Harwick Mill built by?", TestAgent(), tools=tools, calibrations=never)
    assert isinstance(chain, Answer) and isinstance(direct, Answer)
    assert chain.refused and direct.short_answer == "John Vance"


STAFF = Document(
    "http://site/staff",
    "Staff",
    "Edwin Fell taught Latin at the town school from 1931 to 1965.\n\n"
    "Martha Oxley was born on 3 May 1909. She founded the town ferry in 1948.\n\n"
    "Rosa Lind saved for the boat over six years, from 1990 on.",
)
SURE = LENIENT | {"sentence": Calibration({"told": 5.0}, -1.0, 0.5)}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How long did Edwin Fell teach Latin at the town school?", "34 years (1931 to 1965)"),
        ("How old was Martha Oxley when she founded the town ferry?", "38 or 39 years (3 May 1909 to 1948)"),
    ],
)
def test_a_time_is_counted_from_two_dates_and_both_are_cited(question: str, expected: str) -> None:
    *_, result = answer(question, TestAgent(), tools=small_tools(search=Engine([STAFF])), calibrations=SURE)
    assert isinstance(result, Answer) and result.text.startswith(f"{expected}.")
    assert result.short_answer == expected.partition(" (")[0]
    quoted = " ".join(citation.quote for citation in result.sentences[0].citations)
    assert all(date in quoted for date in re.findall(r"\d{4}", expected))


@pytest.mark.parametrize("question", ["How long was Edwin Fell the captain?", "How old was Edwin Fell when he founded the town ferry?"])
def test_no_time_is_counted_from_dates_of_something_else(question: str) -> None:
    *_, result = answer(question, TestAgent(), tools=small_tools(search=Engine([STAFF])), calibrations=SURE)
    assert isinstance(result, Answer) and "years (" not in result.text


BOATS = Document(
    "http://site/boats",
    "Boats",
    "The club hires boats.\n\nBoat: Heron; Seats: 1; Length: 8.2 m\n\n"
    "Boat: Swift; Seats: 8; Length: 17.9 m\n\nBoat: Otter; Seats: 2; Length: 10.4 m",
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which boat is the longest?", "Swift (Length: 17.9 m)"),
        ("Which boat has the fewest seats?", "Heron (Seats: 1)"),
        ("Which boat is the heaviest?", None),  # no column says so
        ("Which boat is the longest in Sweden?", None),
        ("Why is Swift the longest boat?", None),
        ("Is Swift the longest boat?", None),
        ("When was the longest boat built?", None),
        ("How many seats has the longest boat?", None),
    ],
)
def test_the_most_of_a_table_is_compared_row_by_row(question: str, expected: str | None) -> None:
    *_, result = answer(question, TestAgent(), tools=small_tools(search=Engine([BOATS])), calibrations=SURE)
    assert isinstance(result, Answer)
    if expected is None:
        assert not re.match(r"\w+ \(", result.short_answer)
        return
    assert result.short_answer == expected and result.text.startswith(f"{expected}.")
    quoted = [citation.quote for citation in result.sentences[0].citations]
    assert len(quoted) == 3 and all(quote.startswith("Boat: ") for quote in quoted)
