"The query panel and the board in a real JupyterLab and a real Chromium: asked, watched, checked, exported, asked again; played on."

from __future__ import annotations

import json
import re
import sys
import threading
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from notebook_browser import NotebookServer, OpenNotebook, need, open_notebook
from small_site import LENIENT, SmallSite, small_tools

from lightbulb.agent import web_agent
from lightbulb.agent.answering import answer
from lightbulb.agent.configuration import TestAgent
from lightbulb.apps import question_panels
from lightbulb.apps.question_panels import QuestionPanel
from lightbulb.apps.thought_tree import ThoughtTree
from lightbulb.apps.world_panels import BoardPanel
from lightbulb.core.errors import LightbulbError
from lightbulb.lm.training import TrainLanguageModel, train_language_model
from lightbulb.planning.tree_of_thought import Thought, ToTNode
from lightbulb.world.configuration import TextSettings
from lightbulb.world.training import TrainWorldModel, train_world_model
from tools.app import NOTEBOOKS, panel_of

ROOT = Path(__file__).resolve().parents[1]
AXE = Path(sys.prefix) / "share" / "axe.min.js"  # where make setup puts it, if there is npm
QUESTION = "Where was the inventor of the arc lamp born?"
LIVE = ".jupyter-widgets"  # the widgets; beside them stands, hidden, what a saved notebook shows


# ------------------------------------------------------------------ without a browser


def test_the_tree_grows_while_the_question_is_asked() -> None:
    "Each thought that is told of hangs in the tree that the answer ends with."
    items = list(answer("Where was Humphry Davy born?", tools=small_tools(), calibrations=LENIENT))
    roots = {id(node.path()[0]) for item in items if (node := getattr(item, "node", None)) is not None}
    assert roots == {id(items[-1].tree)}


def test_names_of_thoughts_stay_and_nothing_given_is_a_script() -> None:
    root = ToTNode("<script>alert(1)</script>")
    tree = ThoughtTree(root)
    first = root.add(Thought("<b>", "question"))
    tree.show(root)
    root.add(Thought("later", "question"))
    first.add(Thought("below", "answer")).value = -0.1
    names = {row["text"]: row["id"] for row in tree.thoughts}
    tree.show(root)
    assert names.items() <= {row["text"]: row["id"] for row in tree.thoughts}.items()
    assert "<script" not in tree.to_html() and set(tree._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_stop_answers_at_once_and_the_next_question_is_answered() -> None:
    class SlowSite(SmallSite):
        "Waits in its first search until it is let go."

        def __init__(self) -> None:
            super().__init__()
            self.go_on, self.was_asked = threading.Event(), threading.Event()

        def search(self, query: str, num_results: int = 10) -> list[Any]:
            self.was_asked.set()
            self.go_on.wait()
            return super().search(query, num_results)

    site = SlowSite()
    panel = QuestionPanel(tools=small_tools(search=site), calibrations=LENIENT)
    panel.start("Where was Humphry Davy born?")
    assert site.was_asked.wait(60) and panel.is_working and panel.ask_button.disabled
    panel.stop()
    (column,) = panel.columns.children
    assert not panel.is_working and not panel.ask_button.disabled and "stopped" in column.status.value and not panel.answers
    assert panel.wait(60), "the thread ends while the search still waits"
    before = column.status.value
    site.go_on.set()
    assert panel.ask("Where was Humphry Davy born?").short_answer == "Penzance"
    assert column.status.value == before, "the stopped question says nothing more"
    panel.history.value = 0
    assert panel.columns.children == (column,)


def test_two_configurations_and_every_export(tmp_path: Path) -> None:
    panel = QuestionPanel(TestAgent(save_dir=tmp_path), tools=small_tools(), calibrations=LENIENT)
    with pytest.raises(ValueError, match="no answer to export"):
        panel.save(tmp_path / "early.html")
    panel.beside.value = True
    panel.other.fill(replace(panel.settings.value, planner="best_first"))
    panel.ask("Where was Humphry Davy born?")
    assert [column.config.planner for column in panel.columns.children] == ["auto", "best_first"]
    stored = json.loads(panel.save(tmp_path / "both.json").read_text("utf-8"))
    assert [one["short_answer"] for one in stored] == ["Penzance", "Penzance"]
    page = panel.save(tmp_path / "both.html").read_text("utf-8")
    assert page.count("Penzance") >= 2 and "<mark>" in page and "<script" not in page
    assert "both searches" in panel.comparison.value and panel.comparison.value in page and "srcdoc" not in panel.to_html()
    citations = [citation for one in panel.answers for citation in one.citations]
    assert panel.save(tmp_path / "both.md").read_text("utf-8").count("“") == len(citations) >= 2


@pytest.mark.parametrize("name", ["query", "play"])
def test_saved_outputs_are_right_where_no_kernel_runs(name: str) -> None:
    "Five cells at most; what is saved is plain HTML with its pictures inside, and no widget that nobody keeps alive."
    cells = json.loads((ROOT / "nbs" / "apps" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    assert len(cells) <= 5
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "Panel(" in "".join(code[0]["source"]), "the panel comes first"
    shown = ["".join(output["data"]["text/html"]) for cell in code for output in cell["outputs"] if "text/html" in output.get("data", {})]
    assert shown and not [output for cell in code for output in cell["outputs"] if "HTML object" in str(output)]
    for html in shown:
        assert not re.search(r"<script|<iframe|javascript:|on\w+=", html)
        assert all(source.startswith("data:image/svg+xml;base64,") for source in re.findall(r'src="([^"]*)"', html))
    everything = "".join(shown)
    assert "<img" in everything and ("<mark>" in everything if name == "query" else "It gives itself" in everything)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_app_is_a_notebook_up_to_its_panel(name: str) -> None:
    "Voila runs all that it is given before it shows the page: a question that is asked there would keep everybody waiting."
    cells = panel_of(json.loads((ROOT / "nbs" / "apps" / name).read_text("utf-8")))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"] and "Panel(" in "".join(cells[1]["source"])
    assert "panel.ask(" not in "".join(cells[1]["source"])


# ------------------------------------------------------------------ what a saved notebook keeps

HOSTILE = """
%cd -q {tests}
from small_site import LENIENT, PAGES, Document, SmallSite, small_tools
from lightbulb.agent.configuration import TestAgent
from lightbulb.apps.question_panels import QuestionPanel
text = "Humphry Davy was born in Penzance <img src=x onerror=alert(2)></div></details><style>*{{color:red}}</style> in 1778."
davy = Document("http://site/davy", "Humphry Davy<script>alert(1)</script>", text)
tools = small_tools(search=SmallSite((davy, *PAGES[2:])))
panel = QuestionPanel(TestAgent(save_dir={folder!r}), tools=tools, calibrations=LENIENT)
panel
"""  # what a page says is text, whatever it says


def hostile(folder: Path) -> str:
    "A cell that shows a panel over pages that want to be more than text."
    return HOSTILE.format(tests=str(ROOT / "tests"), folder=str(folder))


class Tags(HTMLParser):
    "The tags of a page, and the text between them."

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text = list[str](), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], attrs
        assert tag != "img" or (dict(attrs)["src"] or "").startswith("data:image/svg+xml;base64,")

    def handle_data(self, data: str) -> None:
        self.text += data


def run_cells(*cells: str) -> Any:
    "The notebook after a real kernel ran its cells, as it would be saved without the state of its widgets."
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=180, kernel_name="python3", store_widget_state=False).execute()
    return nbformat.reads(nbformat.writes(book), 4)


def test_every_answer_stands_in_the_saved_notebook(tmp_path: Path) -> None:
    "In the panel's own cell, whichever cell asked; what pages and questions say is text there."
    ask = "panel.ask('Where was {} born?').short_answer"
    book = run_cells(hostile(tmp_path), ask.format("Humphry Davy"), ask.format("<b>Joseph Swan</b>"), "panel.history.value = 0")
    live, kept = (output.data for output in book.cells[0].outputs)
    assert "Penzance" not in str(live) and set(kept) == {"text/html", "text/plain"}
    page = Tags(kept["text/html"])
    for text in ("Penzance", "Sunderland", "<script>alert(1)</script>", "<img src=x", "<b>Joseph Swan</b>"):
        assert text in page.text and text in kept["text/plain"]
    assert page.tags.count("style") == 1 and "script" not in page.tags and page.tags.count("mark") >= 2
    assert "[1] Joseph Swan: “Joseph Swan was born in Sunderland in 1828.”" in kept["text/plain"]
    assert page.text.index("Penzance") < page.text.index("Sunderland"), "first what the panel shows"
    need("nbconvert")
    from nbconvert import HTMLExporter

    with warnings.catch_warnings(action="error"):
        html, _ = HTMLExporter().from_notebook_node(book)
    assert "Joseph Swan was born in Sunderland in 1828.</mark>" in html and "<script>alert(1)" not in html and "<img src=x" not in html


def test_a_question_may_end_with_its_mark(tmp_path: Path) -> None:
    "To IPython `born?` at the end of a line is a wish for help; other lines still wish for it."
    book = run_cells(
        "%load_ext lightbulb.apps.question_panels\n%reload_ext lightbulb.apps.question_panels\n"
        "from lightbulb.apps import question_panels\nfrom lightbulb.core.errors import LightbulbError\n"
        "def asked(question, config):\n    raise LightbulbError(f'{question} {config.max_pages}')\n    yield\n"
        "question_panels._answering = asked",
        "%pwd\n%ask --max_pages 7 Who invented the miner's lamp?",
        "if True:\n    one = %ask Where was Davy born?",
        "int?",
        "%ask?",
    )
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in book.cells]
    assert printed[1:3] == ["lightbulb: Who invented the miner's lamp? 7\n", "lightbulb: Where was Davy born? 20\n"], printed


def test_what_stood_there_last_stands_in_the_saved_notebook(model_folder: Path, tmp_path: Path) -> None:
    book = run_cells(
        f"from lightbulb.apps.world_panels import BoardPanel\nboard = BoardPanel({str(model_folder)!r}, num_simulations=4)\nboard",
        "_ = board.play(4)",
        f"from lightbulb.apps.panels import TrainingPanel\npanel = TrainingPanel(save_dir={str(tmp_path)!r})\npanel",
        "panel.form._inputs['batch_size',].value = '77'",
        "from lightbulb.apps.thought_tree import ThoughtTree\nfrom lightbulb.planning.tree_of_thought import Thought, ToTNode\n"
        "root = ToTNode('Which lamp?')\ntree = ThoughtTree(root)\ntree",
        "_ = root.add(Thought('the arc lamp', 'answer'))\ntree.show(root)",
    )
    for cell, text in ((0, "Board after 2 moves"), (2, "batch_size = 77"), (4, "the arc lamp")):
        live, kept = (output.data for output in book.cells[cell].outputs)
        assert text in kept["text/html"] and text not in str(live)


# ------------------------------------------------------------------ in a browser


def test_who_opens_a_saved_notebook_reads_the_answers(browser, jupyter_lab: NotebookServer, tmp_path: Path) -> None:
    "Once while the panel lives, after the notebook was closed and opened with another kernel too, and nowhere that a widget is missing."
    shown = "elements => elements.filter(element => element.checkVisibility()).length"
    answers = lambda page: page.locator("p", has_text=re.compile(r"^Penzance\. \[1\]")).evaluate_all(shown)
    first = open_notebook(browser, jupyter_lab, jupyter_lab.write("saved.ipynb", hostile(tmp_path)))
    first.run_all()
    ask(first.page, "Where was Humphry Davy born?")
    assert answers(first.page) == 1
    field = first.page.get_by_label("Question", exact=True)
    assert field.evaluate("element => element === document.activeElement"), "who types the next question is not interrupted"
    first.reload()
    field.wait_for()
    assert answers(first.page) == 1
    first.page.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")
    first.close()
    second = open_notebook(browser, jupyter_lab, jupyter_lab.add(jupyter_lab.folder / "saved.ipynb", "opened.ipynb"))
    second.page.get_by_text("Penzance").first.wait_for()
    assert answers(second.page) == 1 and not second.page.get_by_label("Question", exact=True).count()
    assert second.page.get_by_text("Error displaying widget").evaluate_all(shown) == 0
    second.page.screenshot(path=tmp_path / "saved.png")
    second.close(tolerated="widget model not found")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    "A model that learned tic-tac-toe for a moment."
    config = TrainWorldModel(
        save_dir=tmp_path_factory.mktemp("board"),
        device="cpu",
        environment="tic_tac_toe",
        random_games=50,
        num_epochs=1,
        steps_per_epoch=5,
        width=16,
        hidden=32,
        batch_size=1,
        accumulation_steps=1,
    )
    board = BoardPanel(config, num_simulations=4)
    assert "trained first" in board.to_html() and all(button.disabled for button in board._buttons), "the board stands there at once"
    board.wait()
    assert not any(button.disabled for button in board._buttons) and "Your move" in board.status.value
    return config.folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    "A language model and a world model of its states, which read one sentence for a moment."
    folder = tmp_path_factory.mktemp("text")
    (folder / "lamps.txt").write_text("The arc lamp burned bright in the long street. The oil lamp was dim.\n" * 60)
    shared = {"save_dir": folder, "device": "cpu", "dataset_name": str(folder / "lamps.txt"), "num_epochs": 1, "batch_size": 8}
    size = {"preset": "tiny", "width": 32, "num_heads": 2, "num_layers": 1, "max_length": 32}
    list(train_language_model(TrainLanguageModel(model_name="bytes", **shared, **size)))
    rounds = TextSettings(context_tokens=16, stretches_per_round=96, steps_per_round=8, least_steps=10, num_proposals=4)
    world = {"steps_per_epoch": 10, "unroll_length": 3, "width": 32, "hidden": 64, "accumulation_steps": 1, "text": rounds}
    list(train_world_model(TrainWorldModel(environment="text", transformer_model_path=folder / "language_model", **shared, **world)))
    return folder


@pytest.fixture(scope="module")
def opened(browser, jupyter_lab: NotebookServer, model_folder: Path, text_folder: Path, tmp_path_factory):
    "A notebook with a panel on a folder of two notes, a board and a text, all run."
    folder = tmp_path_factory.mktemp("notes")
    (folder / "arc.txt").write_text("Arc lamp\n\nThe arc lamp was invented by Humphry Davy. It needs a strong current.\n")
    (folder / "davy.txt").write_text("Humphry Davy\n\nHumphry Davy was a chemist. He was born in Penzance, Cornwall, in 1778.\n")
    name = jupyter_lab.write(
        "panels.ipynb",
        "from pathlib import Path\nfrom lightbulb.agent.configuration import TestAgent\nfrom lightbulb.apps.question_panels import *\n"
        "from lightbulb.apps.world_panels import *\n"
        f"panel = QuestionPanel(TestAgent(search='folder:{folder}', save_dir=Path({str(folder)!r}, 'models'), max_seconds=600.0))\npanel",
        f"BoardPanel({str(model_folder)!r}, num_simulations=8)",
        "%load_ext lightbulb.apps.question_panels",
        f"%%ask --search folder:{folder} --save_dir {folder / 'models'} --max_seconds 600\nWhere was Humphry\nDavy born?",
        f"TextPanel({str(text_folder)!r}, num_actions=2)",
        "from lightbulb.apps.thought_tree import ThoughtTree\nfrom lightbulb.planning.tree_of_thought import Thought, ToTNode\n"
        "tall = ToTNode('Which lamp?')\nfor i in range(30):\n    tall.add(Thought(f'lamp {i}', 'answer'))\nThoughtTree(tall)",
        "ThoughtTree()",
    )
    notebook = open_notebook(browser, jupyter_lab, name)
    notebook.run_all()
    notebook.page.get_by_label("Question", exact=True).wait_for()
    yield notebook
    notebook.close()  # nothing was complained of, and nobody outside was asked


def screenshots(notebook: OpenNotebook, folder: Path, name: str) -> None:
    "At the width of a desk and of a phone; nothing is wider than the page."
    for width in (390, 1400):
        notebook.page.set_viewport_size({"width": width, "height": 1000})
        notebook.page.wait_for_function("() => document.querySelector('.lightbulb-tree svg').clientWidth > 0")
        notebook.page.screenshot(path=folder / f"{name}_{width}.png")
        inside = "element => element.scrollWidth <= element.clientWidth + 1"
        assert notebook.page.locator(".jp-OutputArea-output").first.evaluate(inside), f"the panel is cut off at {width} pixels"


def num_asked(page: Any) -> int:
    "Questions in the history, also one that was stopped."
    return page.get_by_label("History").locator("option", has_text=re.compile(r"^\d+\.")).count()


def ask(page: Any, question: str) -> None:
    "Type it, press Enter, wait until it stands in the history: that is the end."
    number = num_asked(page) + 1
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_label("Question", exact=True).press("Enter")
    page.get_by_label("History").locator("option", has_text=f"{number}. {question[:40]}").wait_for(state="attached")


def test_the_first_question_is_stopped_while_models_are_loaded(opened: OpenNotebook) -> None:
    page = opened.page
    page.get_by_label("Question", exact=True).fill(QUESTION)
    page.get_by_label("Question", exact=True).press("Enter")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator(LIVE).get_by_text("stopped; what was read is remembered").wait_for()
    assert page.get_by_role("button", name="Ask", exact=True).is_enabled()
    assert not page.locator(".jp-OutputArea-output").first.locator("mark").count()


def test_a_question_is_asked_watched_and_checked(opened: OpenNotebook, tmp_path: Path) -> None:
    page = opened.page
    ask(page, QUESTION)
    assert "Penzance" in page.locator(".jp-OutputArea-output").first.inner_text()
    assert page.locator(".jp-CodeCell").first.locator(f"{LIVE} summary", has_text=re.compile(r"^\d+ steps$")).count() == 1
    source = page.locator("summary", has_text="[1]").first
    assert not page.locator("mark").first.is_visible()
    source.click()
    assert page.locator("mark").first.is_visible()
    screenshots(opened, tmp_path, "answer")


def test_the_tree_is_walked_by_keyboard(opened: OpenNotebook) -> None:
    page = opened.page
    if not page.locator(".jp-CodeCell").first.locator(".thought").count():
        ask(page, QUESTION)
    panel = page.locator(".jp-CodeCell").first
    thoughts, root = panel.locator(".lightbulb-tree .thought"), panel.locator('.lightbulb-tree [data-id="0"]')
    number = thoughts.count()
    assert number > 1 and root.get_attribute("aria-expanded") == "true"
    root.focus()
    page.keyboard.press("ArrowLeft")  # fold
    assert thoughts.count() == 1 and root.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    assert thoughts.count() == number
    page.keyboard.press("ArrowRight")
    child = panel.locator('.lightbulb-tree [data-id="0.0"]')
    assert child.evaluate("element => element === document.activeElement") and child.get_attribute("aria-selected") == "true"
    assert child.locator("title").text_content().split(" · ")[0] in panel.locator(".lightbulb-tree p").inner_text()
    scale = lambda: float(re.search(r"scale\(([\d.]+)\)", panel.locator(".lightbulb-tree svg > g").get_attribute("transform"))[1])
    before = scale()
    page.keyboard.press("+")
    assert scale() == pytest.approx(1.25 * before)
    panel.get_by_role("button", name="Fit into the frame (0)").click()
    assert scale() == pytest.approx(before)


def test_an_answer_is_exported_and_asked_again(opened: OpenNotebook, tmp_path: Path) -> None:
    page = opened.page
    if not page.locator(".jp-CodeCell").first.locator(".thought").count():
        ask(page, QUESTION)
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "Penzance" in Path(download.value.path()).read_text("utf-8")
    again = f"{num_asked(page) + 1}. {QUESTION[:40]}"
    page.get_by_role("button", name="Ask again").click()
    page.get_by_label("History").locator("option", has_text=again).wait_for(state="attached")
    assert "Penzance" in page.locator(".jp-OutputArea-output").first.inner_text()
    page.locator(".jp-OutputArea-output").get_by_text("Settings", exact=True).click()
    pages = page.get_by_label("max_pages", exact=True).first
    pages.fill("0")
    pages.press("Tab")
    row = page.locator(".lb-row", has=page.get_by_label("max_pages", exact=True)).first
    row.get_by_role("alert").get_by_text("max_pages must be positive, got 0").wait_for()
    assert row.get_by_text("pages read for one question").is_visible(), "the field says what it means"
    assert page.get_by_role("button", name="Ask", exact=True).is_disabled()
    screenshots(opened, tmp_path, "settings")
    if AXE.is_file():
        page.add_script_tag(path=AXE)
        report = page.evaluate("axe.run('.lb-panel', {runOnly: ['wcag2a', 'wcag2aa'], resultTypes: ['violations']})")
        found = [(rule["id"], [node["html"][:100] for node in rule["nodes"]]) for rule in report["violations"]]
        assert not found
    pages.fill("20")
    pages.press("Tab")
    row.get_by_role("alert").wait_for(state="detached")
    assert page.get_by_role("button", name="Ask", exact=True).is_enabled()


def test_settings_are_opened_by_keyboard_alone(opened: OpenNotebook) -> None:
    page = opened.page
    page.get_by_label("Question", exact=True).focus()
    named = lambda: page.evaluate("document.activeElement.innerText").strip()
    for _ in range(6):
        page.keyboard.press("Tab")
        if named() == "Settings": break
    assert named() == "Settings"
    pages = page.get_by_label("max_pages", exact=True).first
    if pages.is_visible():
        page.keyboard.press("Enter")
        pages.wait_for(state="hidden")
    page.keyboard.press("Enter")
    pages.wait_for()
    page.keyboard.press("Space")
    pages.wait_for(state="hidden")


def test_the_root_of_a_tall_tree_is_in_sight(opened: OpenNotebook) -> None:
    "Thirty answers do not fit into the frame: the question is in its middle, and a key goes to what is out of sight."
    tree = opened.page.locator(".jp-CodeCell").nth(5).locator(".lightbulb-tree")
    inside = """box => {
        const frame = box.querySelector("svg").getBoundingClientRect(), one = document.activeElement.getBoundingClientRect();
        return one.left >= frame.left && one.top >= frame.top && one.bottom <= frame.bottom && one.right <= frame.right;
    }"""
    tree.locator('[data-id="0"]').focus()
    assert tree.evaluate(inside), "the root"
    assert not tree.locator('[data-id="0.0"]').evaluate(
        "one => one.getBoundingClientRect().top >= one.closest('svg').getBoundingClientRect().top"
    ), "it is a tall tree"
    tree.page.keyboard.press("End")
    assert tree.evaluate(inside), "the last thought"
    assert tree.evaluate("box => box.querySelector('svg').getBoundingClientRect().right <= box.getBoundingClientRect().right"), "its border"


def test_no_frame_stands_there_before_there_is_a_thought(opened: OpenNotebook) -> None:
    tree = opened.page.locator(".jp-CodeCell").nth(6).locator(".lightbulb-tree")
    tree.wait_for(state="attached")
    assert not tree.is_visible()


def test_the_board_is_played_on(opened: OpenNotebook, tmp_path: Path) -> None:
    page = opened.page
    page.locator("button[title='row 2, column 2']").click()
    page.locator(LIVE).get_by_text("It gives itself").wait_for()
    stones = [button.inner_text() for button in page.locator("button[title^='row ']").all()]
    assert stones[4] == "✕" and stones.count("◯") == 1
    page.get_by_text("New game, ◯ begins").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "board.png")
    rows = page.locator("button[title^='row ']").evaluate_all("cells => cells.slice(0, 9).map(cell => cell.getBoundingClientRect().top)")
    assert max(rows) - min(rows) < 120, "the board stretches beside what the model thinks"
    page.set_viewport_size({"width": 390, "height": 1000})
    table = page.locator(".jp-CodeCell").nth(1).locator("table").first
    table.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "board_390.png")
    overlaps = """table => [...table.querySelectorAll("tr")].some(row => [...row.cells].some(
        (cell, i) => cell.scrollWidth > cell.clientWidth + 1 || (i && cell.getBoundingClientRect().left
            < row.cells[i - 1].getBoundingClientRect().right - 1)))"""
    inside = "element => element.scrollWidth <= element.clientWidth + 1"
    assert page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output").first.evaluate(inside), "what it expects is cut off"
    assert not table.evaluate(overlaps) and table.evaluate("table => [...table.rows].every(row => row.clientHeight < 40)")
    page.set_viewport_size({"width": 1400, "height": 1000})


def test_a_prompt_is_continued_by_every_planner(opened: OpenNotebook, tmp_path: Path) -> None:
    page = opened.page
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("The arc lamp ")
    prompt.press("Enter")
    for planner in ("mcts", "greedy", "beam"):
        page.locator(LIVE).get_by_text(re.compile(rf"^{planner}: \d+ forwards, \d+ considered")).wait_for()
    page.get_by_role("button", name="Continue").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "text.png")


def test_a_cell_of_questions_shows_its_answer(opened: OpenNotebook) -> None:
    cell = opened.page.locator(".jp-CodeCell").nth(3)
    cell.locator("summary", has_text=re.compile(r"^\d+ steps$")).wait_for()
    assert "Penzance" in cell.locator(".jp-OutputArea-executeResult").inner_text()


def test_a_saved_notebook_shows_its_answer_untrusted(browser, jupyter_lab: NotebookServer, tmp_path: Path) -> None:
    "Opened without running anything, as somebody does who was sent it."
    notebook = open_notebook(browser, jupyter_lab, jupyter_lab.add(ROOT / "nbs" / "apps" / "query.ipynb", "sent.ipynb"))
    page = notebook.page
    page.locator("summary", has_text="[1]").first.wait_for()
    page.locator("summary", has_text="the tree of thoughts").first.click()
    picture = page.locator(".jp-OutputArea-output img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert page.get_by_text("Error displaying widget").count() == 0 and page.get_by_text("HTML object").count() == 0
    page.screenshot(path=tmp_path / "sent.png")
    notebook.close()


def test_a_drawing_that_is_too_wide_scrolls_inside_itself(browser, jupyter_lab: NotebookServer, tmp_path: Path) -> None:
    "The search tree of play.ipynb on a phone, untrusted: its words can be read."
    name = jupyter_lab.add(ROOT / "nbs" / "apps" / "play.ipynb", "phone.ipynb")
    notebook = open_notebook(browser, jupyter_lab, name, width=390)
    drawing = notebook.page.locator(".jp-OutputArea-output img").last
    drawing.scroll_into_view_if_needed()
    natural, shown, frame = drawing.evaluate(
        "image => image.decode().then(() => [image.naturalWidth, image.clientWidth, image.parentElement.clientWidth])"
    )
    notebook.page.screenshot(path=tmp_path / "phone.png")
    cells = "tables => tables.flatMap(table => [...table.querySelectorAll('th, td')])"
    assert notebook.page.locator(".jp-OutputArea-output table").evaluate_all(
        f"tables => ({cells})(tables).length > 20 && ({cells})(tables).every(cell => cell.scrollWidth <= cell.clientWidth + 1)"
    ), "words of one column run into the next"
    assert shown >= 0.59 * natural and frame < shown, (natural, shown, frame)
    assert drawing.evaluate("image => image.parentElement.scrollWidth > image.parentElement.clientWidth")
    notebook.close()


def test_a_panel_asks_as_it_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(question_panels, "_load", lambda config, tell: SimpleNamespace(path=config.knowledge_path, close=lambda: None))
    shelf, asked = question_panels._Shelf(), list[str]()

    def taken(config: TestAgent) -> Any:
        loading = shelf.take(config)
        while True:
            try:
                next(loading)
            except StopIteration as done:
                return done.value

    for name in ("work.sqlite", "private.sqlite"):
        assert taken(TestAgent(save_dir=tmp_path, knowledge_base=name)).path == name
    monkeypatch.setattr(web_agent, "answer", lambda *args, **settings: iter(asked.append("fixed") or ()))
    monkeypatch.setattr(web_agent.AutonomousWebAgent, "run_episode", lambda self, query: asked.append(self.policy) or _NOTHING)
    for policy in ("fixed", "ordered"):
        list(question_panels._answering("When?", TestAgent(save_dir=tmp_path, policy=policy), small_tools()))
    assert asked == ["fixed", "ordered"]


_NOTHING = SimpleNamespace(row={"queries": ()}, pages=(), notes=(), answer=None)


def test_tools_stay_open_while_a_question_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    loaded = lambda config, tell: SimpleNamespace(close=lambda: closed.append(config.model_name))
    monkeypatch.setattr(question_panels, "_load", loaded)
    shelf = question_panels._Shelf(size=1)

    def take(name: str) -> Any:
        steps = shelf.take(TestAgent(model_name=name))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    first, second = take("a"), take("b")
    assert closed == []  # both are in use
    third = take("c")
    shelf.give_back(second)
    assert closed == ["b"]
    assert take("a") is first
    shelf.give_back(third)
    assert closed == ["b", "c"]


def test_enter_pressed_twice_asks_once() -> None:
    panel = QuestionPanel(tools=small_tools(), calibrations=LENIENT)
    panel.question.value = QUESTION
    panel._press()
    first = panel._thread
    panel._press()
    assert panel._thread is first and panel.wait(60) and len(panel._asked) == 1 and panel.answers


def test_the_end_of_a_question_leaves_the_next_one_in_its_field() -> None:
    panel = QuestionPanel(tools=small_tools(), calibrations=LENIENT)
    for question in ("Where was Humphry Davy born?", QUESTION, "Who invented the miner's safety lamp?"):
        panel.start(question)
        panel.question.value = "half ty"
        assert panel.wait(60)
        assert panel.question.value == "half ty"


def test_looking_back_leaves_what_is_being_typed() -> None:
    panel = QuestionPanel(tools=small_tools(), calibrations=LENIENT)
    for question in ("Where was Humphry Davy born?", QUESTION):
        panel.ask(question)
    panel.history.value = 0
    assert panel.question.value == "Where was Humphry Davy born?"
    panel.question.value = "half ty"
    panel.history.value = 1
    assert panel.answers[0].question == QUESTION and panel.question.value == "half ty"


def test_boards_of_other_worlds_are_refused(model_folder: Path) -> None:
    other = BoardPanel(TrainWorldModel(environment="connect_four", save_dir=model_folder.parent))
    with pytest.raises(LightbulbError, match="holds a model of .*, not of connect_four"):
        other.wait()
    with pytest.raises(ValueError, match="must be of a board game, got one of FrozenLake-v1"):
        BoardPanel(TrainWorldModel(environment="FrozenLake-v1"))
    board = BoardPanel(model_folder, num_simulations=4)
    with pytest.raises(ValueError, match="must be of a board game, got one of FrozenLake-v1"):
        BoardPanel(SimpleNamespace(world=object(), settings=SimpleNamespace(environment="FrozenLake-v1")))  # pyright: ignore
    assert board.expected_line() == [] and board.move_name(3) == "row 2, column 1"
