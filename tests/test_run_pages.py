"""Runs that can be seen: replayed byte for byte, drawn without letting anything through, readable on a phone."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.planners import Plan, PlannerConfig, PlannerName, ThoughtFunctions, plan
from lightbulb.planning.run_events import (
    AnswerDrafted,
    PlannerBudget,
    PlannerCost,
    ModelAsked,
    PageOpened,
    RunFinished,
    RunLog,
    RunStarted,
    ThoughtFailed,
    ThoughtMerged,
    ThoughtProposed,
    ThoughtPruned,
    ThoughtScored,
    read_event,
    read_run,
    save_run,
    tree_of,
    write_event,
)
from lightbulb.planning.run_pages import compare_runs, replay_run, run_to_html, run_to_json, run_to_markdown
from lightbulb.planning.tree_of_thought import Thought, ToTNode

PLANNERS = get_args(PlannerName)
TEXTS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=False)
COSTS = st.builds(PlannerCost, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
EVENTS = st.one_of(
    st.builds(RunStarted, TEXTS, TEXTS, st.integers(), st.dictionaries(TEXTS.filter(lambda key: key != "number"), NUMBERS, max_size=2)),
    st.builds(ModelAsked, st.sampled_from(["propose", "retrieve", "evaluate"]), st.integers(0), NUMBERS, COSTS, st.booleans()),
    st.builds(ThoughtProposed, st.integers(0), st.integers(0), TEXTS, TEXTS, st.none() | NUMBERS, TEXTS, st.just("open")),
    st.builds(ThoughtMerged, st.integers(0), TEXTS, TEXTS),
    st.builds(ThoughtScored, st.integers(0), NUMBERS),
    st.builds(ThoughtPruned, st.integers(0), TEXTS),
    st.builds(ThoughtFailed, st.integers(0), TEXTS, TEXTS),
    st.builds(PageOpened, st.integers(0), TEXTS, TEXTS),
    st.builds(AnswerDrafted, st.integers(0), TEXTS, st.tuples(TEXTS)),
    st.builds(RunFinished, st.none() | st.integers(0), TEXTS, COSTS),
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_an_event_is_one_line_that_reads_back(event):
    line = write_event(event)
    assert line.endswith("\n") and len(line.splitlines()) == 1 and line.isascii()
    assert read_event(line) == event and write_event(read_event(line)) == line
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


class Trouble:
    "A task with everything that a record has to keep: repeats, equal states, failures, tokens, evidence, tools that add events."

    def __init__(self, seed: int, log: RunLog) -> None:
        self.seed, self.log, self.tokens = seed, log, 0

    def draw(self, name: str) -> float:
        return random.Random(f"{self.seed} {name}").random()

    def children(self, name: str) -> list[str]:
        words = [f"{name}{letter}" for letter in "abcd"[: int(self.draw(f"n{name}") * 5)]]
        return words + [word.upper() for word in words if self.draw(f"twice {word}") < 0.3]

    def propose(self, nodes):
        self.tokens += sum(3 + len(node.payload) for node in nodes)
        if any(self.draw(f"fail {node.payload}") < 0.1 for node in nodes): raise TimeoutError("no answer: try later")
        return [[Thought(word, "step", word.lower(), math.log(0.05 + self.draw(word))) for word in self.children(n.payload)] for n in nodes]

    def retrieve(self, nodes):
        for node in nodes:
            self.log.add(PageOpened(node.order, f"https://example.org/{node.payload}", node.payload))
        return [[f"about {node.payload}"] for node in nodes]

    def evaluate(self, nodes):
        return [round(self.draw(f"v{''.join(sorted(node.payload))}"), 1) for node in nodes]

    def run(
        self, planner, budget: PlannerBudget, *, verified: bool, merged: bool, retrieves: bool, batch_size: int | None, stop_after=None
    ):
        thinking = ThoughtFunctions(
            propose=self.propose,
            evaluate=self.evaluate,
            retrieve=self.retrieve if retrieves else None,
            is_solution=(lambda node: self.draw(f"right {node.payload}") < 0.1) if verified else None,
            key=(lambda node: "".join(sorted(node.payload)) * 9) if merged else None,
            answer=lambda node: node.payload[:1],
            prices={"propose": PlannerCost(1, 20), "evaluate": PlannerCost(1)},
            tokens_used=lambda: self.tokens,
            batch_size=batch_size,
        )
        stopped = lambda: "out of patience" if stop_after is not None and self.tokens >= stop_after else ""
        return plan(ToTNode("?", payload=""), thinking, planner, budget=budget, seed=self.seed, log=self.log, stopped=stopped)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLANNERS),
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, 0, 30, 90]),
)
def test_any_run_is_replayed_byte_for_byte(planner, seed, forwards, verified, merged, retrieves, batch_size, stop_after):
    "Without its functions, and without the clock that stopped it."
    log = RunLog()
    config = PlannerConfig(planner=planner, value_threshold=0.2, num_samples=30)
    budget = PlannerBudget(forwards=forwards, tokens=60 + 5 * forwards)
    result = Trouble(seed, log).run(
        config, budget, verified=verified, merged=merged, retrieves=retrieves, batch_size=batch_size, stop_after=stop_after
    )
    log.add(AnswerDrafted(0, "written after the end"))
    read = [read_event(write_event(event)) for event in log.events]
    again = replay_run(read)
    assert [write_event(event) for event in again.events] == [write_event(event) for event in log.events]
    assert (again.thoughts, again.reason, again.cost, again.is_solved) == (result.thoughts, result.reason, result.cost, result.is_solved)


@pytest.mark.parametrize("planner", PLANNERS)
def test_files_and_pages_of_a_replay_are_the_same_bytes(planner, tmp_path):
    log = RunLog(tmp_path / "run.jsonl")
    Trouble(3, log).run(planner, PlannerBudget(forwards=25), verified=False, merged=True, retrieves=True, batch_size=None)
    again = replay_run(read_run(tmp_path / "run.jsonl"))
    save_run(again.events, tmp_path / "again.jsonl")
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    for draw in (run_to_html, run_to_markdown, run_to_json):
        assert draw(log.events) == draw(again.events)


@pytest.mark.parametrize("planner", ["mcts", "tot_bfs"])
def test_the_parts_of_a_question_are_one_file_and_one_page(planner, tmp_path):
    "The agent plans part after part; what it did is saved, replayed, drawn and compared like the run of a question that has no parts."
    events = []
    for seed, question in enumerate(("Who made it?", "Where was he born?")):
        log = RunLog()
        Trouble(seed + 3, log).run(planner, PlannerBudget(forwards=9), verified=False, merged=False, retrieves=False, batch_size=None)
        assert isinstance(log.events[0], RunStarted)
        events += [replace(log.events[0], question=question), *log.events[1:], AnswerDrafted(0, "he")]
    save_run(events, tmp_path / "run.jsonl")
    again = replay_run(read_run(tmp_path / "run.jsonl"))
    save_run(again.events, tmp_path / "again.jsonl")
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes() and again.root.text == "Where was he born?"
    page, both = run_to_html(events), compare_runs(events, events)
    assert page.count("<h2>Submitted</h2>") == 2 and "<title>Who made it? Where was he born?</title>" in page
    assert both.count("<section>") == 4 and both.count("in both runs") == 2 * sum(isinstance(e, ThoughtProposed) for e in events)
    assert run_to_markdown(events).count("\n# ") == 1 and len(json.loads(run_to_json(events))["runs"]) == 2
    with pytest.raises(ValueError, match="two runs must be of one question"):
        compare_runs(events, events[: next(i for i, event in enumerate(events) if i and isinstance(event, RunStarted))])
    with pytest.raises(ValueError, match="a run must begin with run_started"):
        run_to_html(events[1:])


@pytest.mark.parametrize("change", ["drop", "double", "value"])
def test_a_record_that_was_changed_is_refused(change):
    log = RunLog()
    Trouble(4, log).run("best_first", PlannerBudget(forwards=25), verified=False, merged=False, retrieves=False, batch_size=None)
    place = next(i for i, event in enumerate(log.events) if isinstance(event, ThoughtScored))
    event = log.events[place]
    assert isinstance(event, ThoughtScored)
    altered = {"drop": [], "double": [event, event], "value": [ThoughtScored(event.node, event.value + 0.5)]}[change]
    with pytest.raises(ValueError, match="of the replay must be"):
        replay_run([*log.events[:place], *altered, *log.events[place + 1 :]])


NASTY = "</title></style><script>document.title='hacked'</script>\"'><img src=x onerror=\"document.title='hacked'\"> &amp; \ud800 \x00"
HOSTILE = [
    RunStarted(NASTY, NASTY, 0, {"budget": {"forwards": 3}}),
    ThoughtProposed(1, 0, NASTY, NASTY, None, NASTY, "open"),
    ThoughtProposed(2, 1, "long " + "w" * 300, "thought", -1.0, "2", "open"),
    ModelAsked("retrieve", 1, [NASTY], PlannerCost(0, 7, 1)),
    ThoughtFailed(2, NASTY, NASTY),
    PageOpened(1, "javascript:document.title='hacked'", NASTY),
    PageOpened(1, "https://example.org/" + "x" * 300, NASTY),
    AnswerDrafted(1, NASTY, ("javascript:1", "https://example.org/")),
    RunFinished(2, NASTY, PlannerCost(0, 7, 1)),
]


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("draw", [run_to_html, lambda events: compare_runs(events, events)], ids=["one run", "two runs"])
def test_nothing_that_was_given_becomes_markup(draw):
    page = draw(HOSTILE)
    tags = Tags(page).tags
    allowed = "html head meta title style body h1 h2 table tr th td ol li details summary div b span p blockquote a br section tbody"
    assert {tag for tag, _ in tags} <= set(allowed.split())
    assert all(name in ("class", "open", "lang", "charset", "name", "content", "http-equiv", "href", "rel") for _, a in tags for name in a)
    addresses = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert addresses and all(address and address.startswith("https://example.org/") for address in addresses)
    page.encode("utf-8", "strict")


def test_markdown_and_json_hold_the_tree():
    told = json.loads(run_to_json(HOSTILE))
    assert told["tree"]["children"][0]["children"][0]["number"] == 2 and told["submitted"] == [0, 1, 2]
    text = run_to_markdown(HOSTILE)
    assert "<script" not in text and text.count("\n- ") == 1
    text.encode("utf-8", "strict")


def test_a_run_that_is_still_going_can_be_drawn():
    log = RunLog()
    Trouble(5, log).run("mcts", PlannerBudget(forwards=12), verified=False, merged=False, retrieves=False, batch_size=None)
    for length in range(1, len(log.events) + 1):
        assert tree_of(log.events[:length])[0].text == "?"
    assert "not yet" in run_to_html(log.events[: len(log.events) // 2])


DEEP = [
    RunStarted("?", "greedy", 0),
    *(ThoughtProposed(number, number - 1, f"thought {number}", "thought", -0.5, f"{number}", "open") for number in range(1, 100)),
]


@pytest.mark.parametrize("width", [390, 1300])
def test_a_page_is_readable_on_a_phone_and_on_a_laptop(browser, tmp_path, width):
    log = RunLog()
    Trouble(8, log).run("tot_bfs", PlannerBudget(forwards=40), verified=False, merged=False, retrieves=True, batch_size=None)
    for name, content in (
        ("run.html", run_to_html(log.events)),
        ("two.html", compare_runs(log.events, log.events)),
        ("bad.html", run_to_html(HOSTILE)),
        ("deep.html", run_to_html(DEEP)),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto((tmp_path / name).as_uri())
        page.locator("details").evaluate_all("folds => folds.forEach(fold => fold.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than the window"
        widths = page.locator("summary, .leaf").evaluate_all("lines => lines.map(line => line.getBoundingClientRect().width)")
        assert min(widths) > 150, f"{name} has no room for its words"
        assert page.title() != "hacked" and len(asked) == 1
        if name == "run.html":
            fold = page.locator("details").first
            fold.locator("summary").first.click()
            assert not fold.evaluate("fold => fold.open")
        page.close()


@pytest.mark.parametrize("length", [300, 5000])
def test_a_long_chain_of_thoughts_is_written_in_every_form_that_can_hold_it(length):
    numbers = range(1, length + 1)
    chain = [ThoughtProposed(number, number - 1, f"thought {number}", "thought", -0.5, f"{number}", "open") for number in numbers]
    events = [RunStarted("?", "greedy", 0), *chain, RunFinished(length, "chosen", PlannerCost())]
    assert run_to_markdown(events).count(f"thought {length}") == run_to_html(events).count(f"thought {length}") == 2
    leaf = root = ToTNode("?")
    for number in numbers:
        leaf = leaf.add(f"thought {number}", number)
    result = Plan("greedy", root, leaf, False, "chosen", PlannerCost(), tuple(events))
    assert result.to_markdown() and result.to_html().count(f"thought {length}") > 1
    writers = (lambda: run_to_json(events), result.to_json, root.to_json)
    if length == 5000:  # no reader of JSON goes so deep
        for write in writers:
            with pytest.raises(ValueError, match="the tree is nested too deep for JSON; Markdown, HTML and the events of its run"):
                write()
        return
    run, of_plan, of_root = (json.loads(write()) for write in writers)
    assert run["submitted"] == [0, *numbers] and of_plan["tree"] == of_root
    depth, (one, other) = 0, (run["tree"], of_root)
    while one["children"]:
        (one,), (other,), depth = one["children"], other["children"], depth + 1
    assert depth == length and one["text"] == other["text"] == f"thought {length}"


@pytest.mark.parametrize("planner", ["greedy", "mcts", "levin"])
def test_a_run_of_many_thoughts_is_planned_drawn_and_replayed(planner, tmp_path):
    "Deeper than Python's calls may go."
    thinking = ThoughtFunctions(
        propose=lambda nodes: [[f"step {node.depth}"] for node in nodes], evaluate=lambda nodes: [0.5] * len(nodes), max_depth=1100
    )
    path = str(tmp_path / "runs" / "long.jsonl")  # a path may be text
    result = plan("?", thinking, planner, budget=3000, log=RunLog(path))
    assert len(result.thoughts) == 1100
    events = read_run(path)
    assert run_to_html(events).count("step 1099") == run_to_markdown(events).count("step 1099") == 2
    assert compare_runs(events, events).count("in both runs") == 2200
    assert replay_run(events).cost == result.cost
