"""Every page of the built site in a real browser, wide and narrow: whole, readable, and asking nobody for anything."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "_docs"
NOTEBOOKS = [path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
SOURCES = [*NOTEBOOKS, *(ROOT / "tools" / "site").iterdir(), ROOT / "tools" / "build_docs.py", ROOT / "nbs" / "styles.css"]
AXE = Path(sys.prefix) / "share" / "axe.min.js"  # where make setup puts it, if there is npm
WIDTHS = (1400, 390)
LOOK = """
() => {
  document.querySelectorAll("details").forEach(fold => { fold.open = true; });
  const width = document.documentElement.clientWidth, problems = [];
  const scrolls = element => element && element !== document.body
    && (/auto|scroll/.test(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  const name = element => `${element.tagName.toLowerCase()}.${element.className}: ${(element.innerText || "").slice(0, 50)}`;
  if (document.documentElement.scrollWidth > width) problems.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("header *, main, main *:not(math *)")) {
    if (element.closest(".unseen, .skip, #hits") || !element.clientWidth) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const hides = (overflow, inside, outside) => /hidden|clip/.test(overflow) && inside > outside + 2;
    if (hides(style.overflowX, element.scrollWidth, element.clientWidth)) problems.push(`clipped sideways: ${name(element)}`);
    if (hides(style.overflowY, element.scrollHeight, element.clientHeight)) problems.push(`clipped below: ${name(element)}`);
    if (box.right > width + 1 && !scrolls(element)) problems.push(`sticks out: ${name(element)}`);
  }
  for (const image of document.images) {
    if (!image.naturalWidth) problems.push(`no image: ${image.alt}`);
    if (!image.alt) problems.push("an image without words");
  }
  const prose = document.querySelector("main").cloneNode(true);
  prose.querySelectorAll("pre, code, math, mark, .html-output").forEach(part => part.remove());
  const markup = prose.textContent.match(/<\\/?(div|span|details|table|p)\\b|```|\\]\\(|:::/);
  if (markup) problems.push(`raw markup: ${markup[0]}`);
  return {
    problems,
    links: [...document.querySelectorAll("a[href]")].map(link => new URL(link.getAttribute("href"), location.href).href),
    ids: [...document.querySelectorAll("[id]")].map(element => element.id),
    current: document.querySelectorAll("[aria-current]").length,
    pages: document.querySelectorAll("#sidebar a").length,
    errors: document.querySelectorAll("pre.error").length,
  };
}
"""


@pytest.fixture(scope="module")
def site() -> Path:
    "The built pages; built again if anything that they are made of is newer."
    built = [path.stat().st_mtime for path in DOCS.rglob("*.html")]
    if len(built) != len(NOTEBOOKS) or min(built) < max(path.stat().st_mtime for path in SOURCES):
        command = [sys.executable, "tools/build_docs.py"]
        result = subprocess.run(
            command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return DOCS


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_whole(site, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    problems: list[str] = []
    links: dict[str, list[str]] = {}
    ids: dict[str, set[str]] = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        page.goto(path.as_uri(), wait_until="load")
        facts = page.evaluate(LOOK)
        problems += [f"{name}: {problem}" for problem in facts["problems"][:5]]
        if facts["current"] != 1 or facts["pages"] != len(NOTEBOOKS) - 1 or facts["errors"]:
            problems.append(f"{name}: {facts['current']} current of {facts['pages']} pages, {facts['errors']} errors")
        links[name], ids[path.as_uri()] = facts["links"], set(facts["ids"])
    page.close()
    for name, targets in links.items():
        for target in dict.fromkeys(targets):
            place, _, anchor = target.partition("#")
            if not target.startswith("file:"): continue
            exists = Path(unquote(urlsplit(place).path)).is_file()
            if not exists or (anchor and unquote(anchor) not in ids.get(place, set())):
                problems.append(f"{name}: no place {target}")
    outside = sorted({url for url in requests if not url.startswith(("file:", "data:"))})
    assert not problems, "\n".join(problems[:40])
    assert not complaints and not outside, (complaints[:5], outside[:5])


def test_a_figure_that_comes_late_stands_below_the_idea_too(site, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto((site / "web" / "extract.html").as_uri())
    caption = page.locator("main figcaption")
    assert caption.count() == 1
    order = page.evaluate("[...document.querySelectorAll('main h2, main figure')].map(part => part.tagName).join(' ')")
    assert order.startswith("H2 FIGURE H2")
    section = caption.locator("a").get_attribute("href").removeprefix("#")
    assert page.locator(f"h2#{section} ~ figure").count() >= 1
    page.close()


def test_a_word_is_searched_for_and_found(site, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("tree of thought")
    page.locator("#hits a").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/planning/tree_of_thought.html*")
    assert page.locator("main h1").inner_text() == "Tree of Thought"
    for asked, wanted in (("How do I ask my own documents?", "tutorial_your_own.html"), ("resuming after a kill", "run.html")):
        page.locator("#query").fill(asked)
        page.locator("#hits a").first.wait_for()
        found = [link.get_attribute("href") or "" for link in page.locator("#hits a").all()]
        assert any(wanted in href for href in found), (asked, found)
    page.locator("#query").fill("xyzzy plugh")
    page.locator("#hits p").wait_for()
    page.close()


def test_theme_copying_and_folds_work(site, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    page.goto((site / "planning" / "tree_of_thought.html").as_uri())
    background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = background()
    page.locator("#theme").click()
    assert background() != light
    assert page.locator("#sidebar details[open]").count() == 1
    assert page.locator("#sidebar details[open] a[aria-current]").inner_text() == "Tree of Thought"
    assert page.locator("main math").count() > 0 and page.locator("main code .kw, main code .im").count() > 0
    fold = page.locator("details.source", has_text="class ToTNode(Displayable)").first
    assert not fold.evaluate("fold => fold.open")
    fold.locator("summary").click()
    fold.locator(".code").hover()
    fold.locator("button.copy").click()
    fold.locator("button.copy", has_text="ed").wait_for()  # copied, or selected where the clipboard is closed
    assert page.locator("main a.paper").first.get_attribute("href") == "https://arxiv.org/abs/2305.10601"
    page.locator("main a.name").first.click()
    assert page.locator("main h1").count() == 1
    page.close()


def test_a_phone_shows_contents_and_all_pages(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((site / "web" / "fetch.html").as_uri())
    assert not page.locator("#sidebar").is_visible()
    page.locator("#menu summary").click()
    assert page.locator("#sidebar a[aria-current]").is_visible()
    page.locator("details.contents summary").click()
    assert page.locator("details.contents a").first.is_visible()
    page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 390)])
def test_pages_are_accessible(site, browser, scheme, width):
    if not AXE.is_file():
        pytest.skip("axe-core is not here: make setup fetches it where there is npm")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems = []
    for name in ("index.html", "overview.html", "planning/tree_drawing.html", "agent/answers.html", "core/display.html", "apps/query.html"):
        page.goto((site / name).as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        page.add_script_tag(path=AXE)
        report = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'best-practice'], resultTypes: ['violations']})")
        for violation in report["violations"]:
            places = [node["html"][:120] for node in violation["nodes"][:2]]
            problems.append(f"{name}: {violation['id']} ({len(violation['nodes'])}): {places}")
    page.close()
    assert not problems, "\n".join(problems)


STAND_IN = """#!/bin/sh
set -e
test "$1" = render && test "$3" = --no-execute && test -f "$2/_quarto.yml" && test -f "$2/sidebar.yml"
! grep -rq "eval: false" "$2"
mkdir -p "$2/_docs" && ls "$2" > "$2/_docs/index.html"
"""


def test_quarto_renders_the_staged_notebooks_where_it_is_installed(tmp_path, monkeypatch):
    "Quarto itself can't be installed here: what it is given, and what becomes of its pages, are held by a stand-in."
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "tools" / "build_docs.py")
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build_docs", tool)
    spec.loader.exec_module(tool)
    few = tmp_path / "nbs"
    few.mkdir()
    for path in (*(ROOT / "nbs").glob("*.yml"), ROOT / "nbs" / "index.ipynb"):
        shutil.copy(path, few)
    quarto = tmp_path / "quarto"
    quarto.write_text(STAND_IN, "utf-8")
    quarto.chmod(0o755)
    monkeypatch.setattr(tool, "NBS", few)
    monkeypatch.setattr(tool, "DOCS", tmp_path / "_docs")
    (tmp_path / "work").mkdir()
    tool.render_with_quarto(str(quarto), tmp_path / "work")
    assert "index.ipynb" in (tmp_path / "_docs" / "index.html").read_text("utf-8")
