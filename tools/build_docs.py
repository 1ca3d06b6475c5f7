"""Build the documentation as a static site in _docs/: one page for each notebook, from what nbdev stages, through pandoc.

`--sidebar` only writes nbs/sidebar.yml (floors in order) and nbs/nbdev.yml again. Whoever has quarto can run `quarto render`
over nbs/ instead; nothing here needs it. nbdev's own `nbdev_docs` is not called: without quarto it tries to install things.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NBS, DOCS = ROOT / "nbs", ROOT / "_docs"
FLOORS = ("core", "lm", "rl", "planning", "web", "knowledge", "reading", "world", "agent", "apps")
STAGE = """
import inspect
import fastcore.docments
from nbdev.serve import proc_nbs

def signature(symbol, **options):
    "An annotation that exists only for type checkers is shown as it is written."
    try: return inspect.signature(symbol, **options)
    except NameError: return inspect.signature(symbol)

fastcore.docments.signature = signature
proc_nbs(n_workers=0, force=True)
"""
ROOM_TITLES = {
    "core": "core: the ground floor",
    "lm": "lm: language models",
    "rl": "rl: learning to act",
    "planning": "planning: search",
    "web": "web: pages",
    "knowledge": "knowledge: what was read",
    "reading": "reading: answers in texts",
    "world": "world: the world model",
    "agent": "agent: answers",
    "apps": "apps: what a person opens",
}


@dataclass
class Page:
    "One notebook on its way to HTML."

    notebook: Path  # relative to nbs/
    title: str = ""
    description: str = ""
    body: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)  # level, id, text

    @property
    def path(self) -> Path:
        "Relative to _docs/, by nbdev's rule: the number goes, the name stays."
        return self.notebook.with_name(re.sub(r"^\d+[a-zA-Z0-9]*_", "", self.notebook.name.lower())).with_suffix(".html")


def notebooks() -> list[Path]:
    "Every notebook, relative to nbs/: index first, then floor by floor, number by number."
    found = [path.relative_to(NBS) for path in NBS.rglob("*.ipynb")]
    found = [path for path in found if not any(part[0] in "._" for part in path.parts)]
    floor = lambda path: FLOORS.index(path.parts[0]) if path.parts[0] in FLOORS else len(FLOORS)
    return sorted(found, key=lambda path: (path.name != "index.ipynb", floor(path), path.as_posix()))


# ---------------------------------------------------------------- quarto's files


def sidebar_text() -> str:
    "sidebar.yml: a section for each room."
    contents: list = []
    for path in notebooks():
        if len(path.parts) == 1:
            contents.append(path.as_posix())
        elif not contents or not isinstance(contents[-1], dict) or contents[-1]["section"] != path.parts[0]:
            contents.append({"section": path.parts[0], "contents": [path.as_posix()]})
        else:
            contents[-1]["contents"].append(path.as_posix())
    return yaml.safe_dump({"website": {"sidebar": {"contents": contents}}}, sort_keys=False)


def nbdev_yml_text() -> str:
    "What nbdev writes from settings.ini for quarto."
    from nbdev.config import get_config
    from nbdev.quarto import _nbdev_yml

    config = get_config(path=ROOT)
    values = {key: config[key] for key in ("title", "description", "branch", "git_url", "doc_host", "doc_baseurl")}
    return _nbdev_yml.format(doc_path=config.doc_path.name, **values)


def check_quarto_files(write: bool) -> list[str]:
    "Write the generated files, or say which of them are out of date."
    problems = []
    for name, text in (("sidebar.yml", sidebar_text()), ("nbdev.yml", nbdev_yml_text())):
        target = NBS / name
        if write:
            target.write_text(text, "utf-8")
        elif not target.exists() or target.read_text("utf-8") != text:
            problems.append(f"nbs/{name} is out of date: run python tools/build_docs.py --sidebar")
    return problems


# ---------------------------------------------------------------- staging by nbdev


def stage(work: Path) -> Path:
    """Let nbdev process a copy of the notebooks, in which exported source stays visible.

    nbdev runs exported cells, for signatures, and every other cell that imports something: the latter is forbidden here, the
    saved outputs are what the page shows.
    """
    shutil.copytree(NBS, work / "nbs", symlinks=True, ignore=shutil.ignore_patterns(".*", "_proc"))
    settings = re.sub(r"^skip_procs *=.*$\n?", "", (ROOT / "settings.ini").read_text("utf-8"), flags=re.MULTILINE)
    (work / "settings.ini").write_text(settings.rstrip() + "\nskip_procs = mv_exports\n", "utf-8")  # it mixes neighbouring cells up
    shutil.copy(ROOT / "_quarto.yml", work / "_quarto.yml")
    os.symlink(ROOT / "lightbulb", work / "lightbulb")
    for path in (work / "nbs").rglob("*.ipynb"):
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            source = re.sub(r"^#\|\s*exporti?\s*$", "#| exports", joined(cell["source"]), flags=re.MULTILINE)
            is_example = cell["cell_type"] == "code" and not re.search(r"^#\|\s*(export|default_exp)", source, re.MULTILINE)
            cell["source"] = f"#| eval: false\n{source}" if is_example else source
        path.write_text(json.dumps(notebook | {"cells": apart(notebook["cells"])}), "utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(work)}
    result = subprocess.run(
        [sys.executable, "-c", STAGE], cwd=work, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        sys.exit(f"docs: nbdev could not stage the notebooks:\n{result.stderr[-1500:]}")
    return work / "_proc"


def apart(cells: list[dict]) -> list[dict]:
    "The title and its sentence in a cell of their own: nbdev drops whatever else stands in the first one."
    for place, cell in enumerate(cells):
        title = re.match(r"#\s.*\n*(?:>.*\n?)*", joined(cell["source"]))
        if cell["cell_type"] != "markdown" or not title: continue
        rest = cell | {"id": "rest-of-first", "source": joined(cell["source"])[title.end() :]}
        return [*cells[:place], cell | {"source": title[0]}, *([rest] if rest["source"].strip() else []), *cells[place + 1 :]]
    return cells


# ---------------------------------------------------------------- a staged notebook as markdown


def joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def fenced(text: str, kind: str) -> str:
    "A code block whose fence is longer than any fence inside."
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 3)
    return f"{fence}{{{kind}}}\n{text.rstrip()}\n{fence}"


def image(kind: str, data: str, text: str) -> str:
    "An image inside the page, so that a page is one file."
    code = base64.b64encode(data.encode()).decode() if kind == "image/svg+xml" else data.replace("\n", "")
    return f'```{{=html}}\n<figure><img alt="{escape(text, quote=True)}" src="data:{kind};base64,{code}"></figure>\n```'


def output_markdown(output: dict, figure_text: str) -> str:
    "One output of a cell; the text is for who cannot see its figure."
    if output["output_type"] == "stream": return fenced(joined(output["text"]), ".output")
    if output["output_type"] == "error": return fenced(f"{output['ename']}: {output['evalue']}", ".output .error")
    data = output.get("data", {})
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data: return image(kind, joined(data[kind]), figure_text)
    if "text/markdown" in data: return show_doc_markdown(joined(data["text/markdown"]))
    if "text/html" in data: return fenced(f'<div class="html-output">{joined(data["text/html"])}</div>', "=html")
    return fenced(joined(data["text/plain"]), ".output") if "text/plain" in data else ""


def show_doc_markdown(text: str) -> str:
    "nbdev's description of a function or class, without the rule above and the link to a source that stands on this page."
    text = re.sub(r"^\s*---\s*$", "", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^\[source\]\([^)]*\)(\{[^}]*\})?\s*$", "", text, count=1, flags=re.MULTILINE)
    return f"::: {{.api}}\n{text.strip()}\n:::"


def cell_markdown(cell: dict) -> Iterator[str]:
    "A cell and its outputs."
    source = joined(cell.get("source", ""))
    if cell["cell_type"] == "markdown":
        yield source
    if cell["cell_type"] != "code": return
    options = dict(re.findall(r"^#\|\s*([\w-]+):\s*(.+)$", source, re.MULTILINE))
    code = re.sub(r"^#\|.*$\n?", "", source, flags=re.MULTILINE).strip()
    if code and options.get("echo") != "false" and not code.startswith("show_doc("):
        block = fenced(code, ".python")
        if "code-fold" in options:
            is_plumbing = all(isinstance(statement, ast.Import | ast.ImportFrom | ast.If) for statement in ast.parse(code).body)
            state, label = ("", "imports") if is_plumbing else (" open", "exported source")
            block = (
                f'```{{=html}}\n<details class="source"{state}><summary>{label}</summary>\n```\n\n{block}\n\n```{{=html}}\n</details>\n```'
            )
        yield block
    if options.get("output") != "false":
        figure_text = options.get("fig-alt", "figure drawn by the cell above").strip().strip("\"'")
        yield from (output_markdown(output, figure_text) for output in cell.get("outputs", []))


def signatures_first(cells: list[dict]) -> list[dict]:
    "Exported code after what nbdev says about it."
    ordered: list[dict] = []
    for cell in cells:
        is_signature = cell["cell_type"] == "code" and re.search(r"^show_doc\(", joined(cell.get("source", "")), re.MULTILINE)
        place = len(ordered)
        if is_signature and ordered and "code-fold" in joined(ordered[-1].get("source", "")):
            place -= 1
        ordered.insert(place, cell)
    return ordered


def read_page(path: Path, staged: Path) -> tuple[Page, str]:
    "The page's facts and its markdown."
    cells = json.loads(staged.read_text("utf-8"))["cells"]
    page, blocks = Page(path), []
    for cell in signatures_first(cells):
        if cell["cell_type"] == "raw" and joined(cell["source"]).startswith("---"):
            front = yaml.safe_load(joined(cell["source"]).strip().strip("-")) or {}
            page.title, page.description = str(front.get("title", "")), str(front.get("description", ""))
        elif "source" in cell:
            blocks += cell_markdown(cell)
    page.title = page.title or path.stem
    return page, "\n\n".join(block for block in blocks if block)


# ---------------------------------------------------------------- HTML


def pandoc(markdown: str) -> str:
    "An HTML fragment with highlighted code and MathML."
    command = [
        "pandoc",
        "--from",
        "markdown-smart-implicit_figures+lists_without_preceding_blankline",
        "--to",
        "html5",
        "--mathml",
        "--wrap=none",
    ]
    return subprocess.run(command, input=markdown, capture_output=True, text=True, check=True).stdout


def symbols() -> dict[str, str]:
    "Public name → page and anchor, from nbdev's index, which is made anew (it is not tracked: it would be noise in every diff)."
    from nbdev.doclinks import _build_modidx

    _build_modidx()
    names: dict[str, str] = {}
    text = (ROOT / "lightbulb" / "_modidx.py").read_text("utf-8")
    for module, entries in ast.literal_eval(text.partition("d = ")[2])["syms"].items():
        first = next(iter(entries.values()), None)
        if first:
            names[module.removeprefix("lightbulb.")] = names[module] = first[0].partition("#")[0]
        for name, (target, _) in entries.items():
            names[name] = target
            names.setdefault(name.removeprefix(f"{module}."), target)
    return names


def relative(page: Page, target: str) -> str:
    "A link from this page to a place in the site."
    place, mark, anchor = target.partition("#")
    return f"{os.path.relpath(place, page.path.parent) if place else ''}{mark}{anchor}"


def resolve_links(page: Page, html: str, names: dict[str, str], anchors: dict[str, set[str]]) -> str:
    "Links to notebooks become links to pages; `names` in backticks become links to where they are explained."

    def to_page(match: re.Match) -> str:
        target, mark, anchor = unescape(match[1]).partition("#")
        where = Page(Path(os.path.normpath(page.notebook.parent / target))).path.as_posix()
        return f'href="{escape(relative(page, where + mark + anchor))}"'

    def to_name(match: re.Match) -> str:
        target = names.get(unescape(match[1]).removesuffix("()"), "")
        place, _, anchor = target.partition("#")
        if not target or place not in anchors or place == page.path.as_posix() and anchor not in anchors[place]:
            return match[0]
        if anchor not in anchors[place]:
            target = place
        return f'<a class="name" href="{escape(relative(page, target))}">{match[0]}</a>'

    def to_text(match: re.Match) -> str:
        target = unescape(match[1])
        places = (ROOT / target, NBS / page.notebook.parent / target)
        return match[2] if any(place.exists() and place.suffix != ".ipynb" for place in places) else match[0]

    html = re.sub(r'<a href="(?!\w+:|#|/)([^"#]+)"[^>]*>(.*?)</a>', to_text, html, flags=re.DOTALL)  # files that the site does not hold
    html = re.sub(r'href="(?!\w+:|#|/)([^"]+\.ipynb(?:#[^"]*)?)"', to_page, html)
    html = re.sub(r'<a\s[^>]*href="https://lightbulb\.invalid[^"]*"[^>]*>(.*?)</a>', r"\1", html, flags=re.DOTALL)
    parts = re.split(r"(<a\s.*?</a>|<pre.*?</pre>|<h\d.*?</h\d>)", html, flags=re.DOTALL)
    return "".join(part if i % 2 else re.sub(r"<code>([\w.]+(?:\(\))?)</code>", to_name, part) for i, part in enumerate(parts))


def headings(html: str) -> list[tuple[int, str, str]]:
    "Level, id and text of every heading of level 2 and 3."
    return [
        (int(level), name, re.sub(r"<[^>]+>", "", text))
        for level, name, text in re.findall(r'<h([23])[^>]*\bid="([^"]+)"[^>]*>(.*?)</h\1>', html, re.DOTALL)
    ]


def sidebar(page: Page, pages: list[Page]) -> str:
    "All pages, room by room."
    lines, room = [], ""
    for other in pages[1:] if pages[0].notebook.name == "index.ipynb" else pages:  # the index is the name of the house
        here = other.notebook.parts[0] if len(other.notebook.parts) > 1 else ""
        if here != room:
            lines.append(f"<h2>{escape(ROOM_TITLES.get(here, here))}</h2>")
        room = here
        current = ' aria-current="page"' if other is page else ""
        lines.append(f'<a href="{escape(relative(page, other.path.as_posix()))}"{current}>{escape(other.title)}</a>')
    return "\n".join(lines)


def page_html(page: Page, pages: list[Page]) -> str:
    "The whole page."
    contents = "\n".join(f'<a class="level{level}" href="#{name}">{text}</a>' for level, name, text in page.headings)
    place = pages.index(page)
    steps = [(pages[place - 1], "←") if place else None, (pages[place + 1], "→") if place + 1 < len(pages) else None]
    links = "".join(
        f'<a href="{escape(relative(page, step[0].path.as_posix()))}">{step[1]} {escape(step[0].title)}</a>' if step else "<span></span>"
        for step in steps
    )
    summary = f'<p class="summary">{escape(page.description)}</p>' if page.description else ""
    return TEMPLATE.format(
        title=escape(page.title),
        description=escape(page.description, quote=True),
        styles=escape(relative(page, "styles.css")),
        home=escape(relative(page, "index.html")) + ('" aria-current="page' if page.notebook.name == "index.ipynb" else ""),
        sidebar=sidebar(page, pages),
        contents=contents,
        summary=summary,
        body=page.body,
        steps=links,
    )


TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – lightbulb</title>
<meta name="description" content="{description}">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{styles}">
</head>
<body>
<input type="checkbox" id="menu" aria-label="Show all pages"><label for="menu">☰ pages</label>
<nav id="sidebar" aria-label="All pages"><a class="brand" href="{home}">lightbulb</a>
{sidebar}
</nav>
<main>
<h1>{title}</h1>
{summary}
{body}
<footer>{steps}</footer>
</main>
<nav id="contents" aria-label="On this page"><h2>On this page</h2>
{contents}
</nav>
</body>
</html>
"""


# ---------------------------------------------------------------- the site


def broken_links(pages: list[Page], anchors: dict[str, set[str]]) -> list[str]:
    "Links inside the site that lead nowhere."
    problems = []
    for page in pages:
        for link in re.findall(r'href="([^"]+)"', (DOCS / page.path).read_text("utf-8")):
            target, _, anchor = unescape(link).partition("#")
            if re.match(r"\w+:", target): continue
            where = os.path.normpath(page.path.parent / target) if target else page.path.as_posix()
            if where == "styles.css": continue
            if where not in anchors:
                problems.append(f"{page.notebook}: no page {link}")
            elif anchor and anchor not in anchors[where]:
                problems.append(f"{page.notebook}: no place {link}")
    return problems


def build(work: Path) -> list[str]:
    "Stage, convert, write; the problems found."
    paths = notebooks()
    staged = stage(work)
    missing = [path.as_posix() for path in paths if not (staged / path).exists()]
    if missing or not paths:
        sys.exit(f"docs: nbdev staged {len(paths) - len(missing)} of {len(paths)} notebooks, without {', '.join(missing[:5])}")
    with ThreadPoolExecutor(2) as pool:
        read = [read_page(path, staged / path) for path in paths]
        fragments = list(pool.map(pandoc, (markdown for _, markdown in read)))
    pages = [page for page, _ in read]
    for page, html in zip(pages, fragments, strict=True):
        page.headings = headings(html)
    anchors = {page.path.as_posix(): set(re.findall(r'\bid="([^"]+)"', html)) for page, html in zip(pages, fragments, strict=True)}
    names = symbols()
    shutil.rmtree(DOCS, ignore_errors=True)
    for page, html in zip(pages, fragments, strict=True):
        page.body = resolve_links(page, html, names, anchors)
        target = DOCS / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page_html(page, pages), "utf-8")
    shutil.copy(NBS / "styles.css", DOCS / "styles.css")
    written = len(list(DOCS.rglob("*.html")))
    if written != len(paths):
        sys.exit(f"docs: {written} pages for {len(paths)} notebooks")
    return broken_links(pages, anchors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidebar", action="store_true", help="only write the site's sidebar from the notebooks")
    if parser.parse_args().sidebar:
        check_quarto_files(write=True)
        return 0
    if not shutil.which("pandoc"):
        sys.exit("docs: pandoc is not installed (make setup installs it where apt exists)")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lightbulb_docs_") as folder:
        problems = build(Path(folder)) + check_quarto_files(write=False)
    for problem in problems:
        print(problem)
    print(
        f"{len(notebooks())} pages for {len(notebooks())} notebooks in _docs/, {len(problems)} problems, {time.monotonic() - start:.0f} s"
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
