"""Build the documentation as a static site in _docs/: one page for each notebook, from what nbdev stages, through pandoc.

`--sidebar` only writes nbs/sidebar.yml (floors in order) and nbs/nbdev.yml again. `--quarto` renders the same staged notebooks with
quarto where it is installed, and with pandoc otherwise. nbdev's own `nbdev_docs` is not called: without quarto it tries to install
things.
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
NBS, DOCS, PARTS = ROOT / "nbs", ROOT / "_docs", ROOT / "tools" / "site"
FIRST = ("index", "overview", "tutorial_ask", "tutorial_language_model", "tutorial_world_model", "tutorial_your_own", "peers")
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
    "": "begin here",
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
    module: str = ""  # lightbulb/<room>/<name>.py, if it exports one
    wordless: int = 0  # figures without a text of their own
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
    place = lambda path: (-1, FIRST.index(path.stem)) if path.stem in FIRST else (floor(path), 0)
    return sorted(found, key=lambda path: (place(path), path.as_posix()))


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


def output_block(text: str, kind: str = ".output") -> str:
    "What a cell printed: aligned columns scroll sideways, long lines wrap, and a long text is a fold."
    lines = text.rstrip().splitlines() or [""]
    aligned = max(map(len, lines)) <= 140 and any(re.search(r"\S {2,}\S|[│├└─]", line) for line in lines)
    block = fenced(text, f"{kind} .aligned" if aligned else kind)
    if len(lines) <= 40: return block
    return folded("long", f"output of {len(lines)} lines", block)


def folded(kind: str, summary: str, block: str) -> str:
    "A block of markdown that opens at a click; the summary is HTML."
    return f'```{{=html}}\n<details class="{kind}"><summary>{summary}</summary>\n```\n\n{block}\n\n```{{=html}}\n</details>\n```'


def image(kind: str, data: str, text: str) -> str:
    "An image inside the page, so that a page is one file."
    code = base64.b64encode(data.encode()).decode() if kind == "image/svg+xml" else data.replace("\n", "")
    return f'```{{=html}}\n<figure><img alt="{escape(text, quote=True)}" src="data:{kind};base64,{code}"></figure>\n```'


def output_markdown(output: dict, figure_text: str) -> str:
    "One output of a cell; the text is for who cannot see its figure."
    if output["output_type"] == "stream": return output_block(joined(output["text"]))
    if output["output_type"] == "error": return fenced(f"{output['ename']}: {output['evalue']}", ".output .error")
    data = output.get("data", {})
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data: return image(kind, joined(data[kind]), figure_text)
    if "text/html" in data:
        return fenced(f'<div class="html-output">{without_local_links(joined(data["text/html"]))}</div>', "=html")
    if "text/markdown" in data: return show_doc_markdown(joined(data["text/markdown"]))
    return output_block(joined(data["text/plain"])) if "text/plain" in data else ""


def without_local_links(html: str) -> str:
    "Links of a saved output to files and servers of the machine that ran it become text: they lead nowhere for a reader."
    return re.sub(r'<a href="(?:file://|https?://(?:127\.|localhost|\[::1\]))[^"]*"[^>]*>(.*?)</a>', r"\1", html, flags=re.DOTALL)


def show_doc_markdown(text: str) -> str:
    "nbdev's description of a function or class, without the rule above and the link to a source that stands on this page."
    text = re.sub(r"^\s*---\s*$", "", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^\[source\]\([^)]*\)(\{[^}]*\})?\s*$", "", text, count=1, flags=re.MULTILINE)
    return f"::: {{.api}}\n{text.strip()}\n:::"


def signature_line(code: str, limit: int = 120) -> str:
    "The functions and classes that a cell defines, as one line."
    parts = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef):
            bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
            parts.append(f"class {node.name}{bases}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            returned = f" → {ast.unparse(node.returns)}" if node.returns else ""
            parts.append(f"{node.name}({', '.join(given)}){returned}")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts += [ast.unparse(target) for target in targets]
    line = " · ".join(parts)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def figure_text(code: str, options: dict[str, str]) -> str:
    "What is read to who cannot see a figure: `#| fig-alt`, or else the titles and axes that the cell writes; empty if it writes none."
    if text := options.get("fig-alt", "").strip().strip("\"'"): return text
    titles = re.findall(r"(?:title=|title\()f?[\"']([^\"'{}]+)[\"']", code)
    axes = re.findall(r"([xy])label=f?[\"']([^\"'{}]+)[\"']", code)
    return ". ".join([*titles, *(f"{'Horizontal' if axis == 'x' else 'Vertical'}: {label}" for axis, label in axes)])


def cell_markdown(cell: dict, page: Page) -> Iterator[str]:
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
            line = "imports" if is_plumbing else f"source <code>{escape(signature_line(code))}</code>"
            block = folded("source", line, block)
        yield block
    if options.get("output") == "false": return
    text = figure_text(code, options)
    for output in cell.get("outputs", []):
        if any(kind.startswith("image/") for kind in output.get("data", {})) and not text:
            page.wordless += 1
        yield output_markdown(output, text or "a figure, described in the text around it")


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


def raw_cells(path: Path) -> list[dict]:
    "The cells of a notebook as they are tracked."
    return json.loads((NBS / path).read_text("utf-8"))["cells"]


def read_page(path: Path, staged: Path) -> tuple[Page, str]:
    "The page's facts and its markdown."
    cells = json.loads(staged.read_text("utf-8"))["cells"]
    page, blocks = Page(path), []
    for cell in signatures_first(cells):
        if cell["cell_type"] == "raw" and joined(cell["source"]).startswith("---"):
            front = yaml.safe_load(joined(cell["source"]).strip().strip("-")) or {}
            page.title, page.description = str(front.get("title", "")), str(front.get("description", ""))
        elif "source" in cell:
            blocks += cell_markdown(cell, page)
    page.title = page.title or path.stem
    exported = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(joined(cell["source"]) for cell in raw_cells(path)), re.MULTILINE)
    page.module = f"lightbulb/{exported[1].replace('.', '/')}.py" if exported else ""
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

    def drawing(match: re.Match) -> str:
        text = re.search(r'alt="([^"]*)"', match[0])
        svg = (NBS / page.notebook.parent / match[1]).read_text("utf-8").strip()
        return f'<span class="wide">{re.sub(r"<title>.*?</title>", "", svg)}</span><span class="unseen">{text[1] if text else ""}</span>'

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

    html = re.sub(r'<img\s[^>]*src="([\w/]+\.svg)"[^>]*>', drawing, html)
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


def figure_ahead(html: str) -> str:
    "Where a page comes late to its first figure, the figure also stands below the idea, with the way to where it is drawn."
    figure = re.search(r"<figure>.*?</figure>", html, re.DOTALL)
    sections = list(re.finditer(r'<h2[^>]*\bid="([^"]+)"[^>]*>(.*?)</h2>', html, re.DOTALL))
    if not figure or len(sections) < 3 or figure.start() < sections[2].start(): return html
    if re.search(r"<(svg|img)\b", html[: sections[1].start()]): return html
    code = re.search(r'<details|<div class="sourceCode"|<h2', html[sections[0].end() :])  # the imports follow the idea's words
    place = sections[0].end() + (code.start() if code else 0)
    drawn = [section for section in sections if section.start() < figure.start()][-1]
    caption = f'<figcaption>Drawn below, in <a href="#{drawn[1]}">{drawn[2]}</a>.</figcaption>'
    return f"{html[:place]}{figure[0].removesuffix('</figure>')}{caption}</figure>\n{html[place:]}"


def paper_links(html: str, papers: dict[str, str]) -> str:
    "Papers that are cited in words become links to them."
    words = [key.rsplit(" ", 1) for key in papers]
    patterns = [rf"{re.escape(escape(authors, quote=False))}(?:'s)?(?:,? {year}\b| \({year}\))" for authors, year in words]
    urls = dict(zip((f"paper{i}" for i in range(len(papers))), papers.values(), strict=True))
    pattern = re.compile(r"\b(?:" + "|".join(f"(?P<{name}>{text})" for name, text in zip(urls, patterns, strict=True)) + ")")
    link = lambda match: f'<a class="paper" href="{escape(urls[match.lastgroup], quote=True)}">{match[0]}</a>'
    parts = re.split(r"(<a\s.*?</a>|<pre.*?</pre>|<h\d.*?</h\d>|<summary.*?</summary>|<figure.*?</figure>|<[^>]+>)", html, flags=re.DOTALL)
    return "".join(part if i % 2 else pattern.sub(link, part) for i, part in enumerate(parts))


def finished(html: str) -> str:
    "Anchors at headings, room for what is wide, and no line numbers of pandoc's."
    html = re.sub(r'<a href="#cb\d+-\d+"[^>]*></a>', "", html)
    html = re.sub(r' id="cb\d+(?:-\d+)?"', "", html)
    html = re.sub(
        r'(<h[23][^>]*\bid="([^"]+)"[^>]*>)(.*?)(</h[23]>)',
        lambda m: f'{m[1]}{m[3]}<a class="anchor" href="#{m[2]}" aria-label="Link to this heading">#</a>{m[4]}',
        html,
        flags=re.DOTALL,
    )
    html = re.sub(r"<table(?![^>]*html-output).*?</table>", lambda m: f'<div class="wide">{m[0]}</div>', html, flags=re.DOTALL)
    wide = lambda m: (
        f'<span class="{"wide" if "block" in m[1] else "wide-inline"}">{m[0]}</span>' if len(m[0]) > 300 or "block" in m[1] else m[0]
    )
    return re.sub(r'<math display="(\w+)".*?</math>', wide, html, flags=re.DOTALL)


def sidebar(page: Page, pages: list[Page]) -> str:
    "All pages, room by room; the room of this page is open."
    lines, room = [], ""
    for other in pages[1:] if pages[0].notebook.name == "index.ipynb" else pages:  # the index is the name of the house
        here = other.notebook.parts[0] if len(other.notebook.parts) > 1 else ""
        if here != room:
            is_open = " open" if page.notebook.parts[0] == here else ""
            lines += ["</details>"] * bool(room) + [f"<details{is_open}><summary>{escape(ROOM_TITLES.get(here, here))}</summary>"]
        room = here
        current = ' aria-current="page"' if other is page else ""
        lines.append(f'<a href="{escape(relative(page, other.path.as_posix()))}"{current}>{escape(other.title)}</a>')
    return "\n".join([*lines, "</details>" * bool(room)])


def page_html(page: Page, pages: list[Page]) -> str:
    "The whole page."
    contents = "\n".join(f'<a class="level{level}" href="#{name}">{text}</a>' for level, name, text in page.headings)
    place = pages.index(page)
    steps = [(pages[place - 1], "←") if place else None, (pages[place + 1], "→") if place + 1 < len(pages) else None]
    links = "".join(
        f'<a href="{escape(relative(page, step[0].path.as_posix()))}">{step[1]} {escape(step[0].title)}</a>' if step else "<span></span>"
        for step in steps
    )
    files = [(page.notebook.as_posix(), "this notebook"), *([(page.module, "its module")] if page.module else [])]
    return (
        (PARTS / "page.html")
        .read_text("utf-8")
        .format(
            title=escape(page.title),
            description=escape(page.description, quote=True),
            top="../" * (len(page.path.parts) - 1),
            home=escape(relative(page, "index.html")) + ('" aria-current="page' if page.notebook.name == "index.ipynb" else ""),
            sidebar=sidebar(page, pages),
            summary=f'<p class="summary">{escape(page.description)}</p>' if page.description else "",
            tools="".join(f'<a href="{escape(relative(page, f"files/{name}"))}" download>↓ {label}</a>' for name, label in files),
            short_contents=f'<details class="contents"><summary>On this page</summary>\n{contents}\n</details>' if contents else "",
            contents=f'<nav id="contents" aria-label="On this page"><h2>On this page</h2>\n{contents}\n</nav>' if contents else "",
            body=page.body,
            steps=links,
        )
    )


def search_entry(page: Page, html: str) -> dict:
    "What the search knows of a page: its beginning, and each of its sections with the names that it explains."
    parts = re.split(r'<h[23][^>]*\bid="([^"]+)"[^>]*>(.*?)</h[23]>', html, flags=re.DOTALL)
    sections = [("", page.title, parts[0]), *zip(parts[1::3], parts[2::3], parts[3::3], strict=True)]
    places = []
    for anchor, heading, body in sections:
        prose = re.sub(r"<(pre|math|figure|details|table)\b.*?</\1>", " ", body, flags=re.DOTALL)
        text = f"{page.description if not anchor else ''} {plain(prose)}".strip()
        names = " ".join(dict.fromkeys(re.findall(r"\b(?:class|def)\s+(\w+)", plain(body))))
        places.append({"anchor": anchor, "heading": plain(heading), "names": names, "text": text[:2000]})
    return {"url": page.path.as_posix(), "title": page.title, "places": places}


def plain(html: str) -> str:
    "The text of HTML on one line."
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


# ---------------------------------------------------------------- the site


def broken_links(pages: list[Page], anchors: dict[str, set[str]]) -> list[str]:
    "Links inside the site that lead nowhere."
    problems = []
    for page in pages:
        for link in re.findall(r'<[^>]* href="([^"]+)"', (DOCS / page.path).read_text("utf-8")):
            target, _, anchor = unescape(link).partition("#")
            if re.match(r"\w+:", target): continue
            where = os.path.normpath(page.path.parent / target) if target else page.path.as_posix()
            if where == "styles.css" or (where.startswith("files/") and (DOCS / where).is_file()): continue
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
    for places in anchors.values():
        places.add("main")
    names, papers = symbols(), json.loads((PARTS / "papers.json").read_text("utf-8"))
    shutil.rmtree(DOCS, ignore_errors=True)
    for page, html in zip(pages, fragments, strict=True):
        page.body = finished(paper_links(resolve_links(page, figure_ahead(html), names, anchors), papers))
        write(page.path, page_html(page, pages))
        write(Path("files") / page.notebook, (NBS / page.notebook).read_text("utf-8"))
        if page.module:
            write(Path("files") / page.module, (ROOT / page.module).read_text("utf-8"))
    entries = [search_entry(page, html) for page, html in zip(pages, fragments, strict=True)]
    write(Path("search.js"), f"window.lightbulbPages = {json.dumps(entries, ensure_ascii=False)};\n")
    shutil.copy(NBS / "styles.css", DOCS / "styles.css")
    shutil.copy(PARTS / "site.js", DOCS / "site.js")
    wordless = [f"{page.notebook} ({page.wordless})" for page in pages if page.wordless]
    if wordless:
        print(f"figures without a title, axes or #| fig-alt: {', '.join(wordless)}")
    written = len(list(DOCS.rglob("*.html")))
    if written != len(paths):
        sys.exit(f"docs: {written} pages for {len(paths)} notebooks")
    return broken_links(pages, anchors)


def render_with_quarto(quarto: str, work: Path) -> None:
    "The staged notebooks as quarto's own website, from the outputs that are saved in them."
    staged = stage(work)
    for path in staged.rglob("*.ipynb"):
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = re.sub(r"^#\|\s*eval: false\n", "", joined(cell["source"]), flags=re.MULTILINE)
        path.write_text(json.dumps(notebook), "utf-8")
    if subprocess.run([quarto, "render", str(staged), "--no-execute"], stdin=subprocess.DEVNULL).returncode:
        sys.exit("docs: quarto could not render the notebooks (its own lines stand above); make docs builds the site without it")
    shutil.rmtree(DOCS, ignore_errors=True)
    shutil.move(staged / "_docs", DOCS)


def write(place: Path, text: str) -> None:
    "A file of the site."
    target = DOCS / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidebar", action="store_true", help="only write the site's sidebar from the notebooks")
    parser.add_argument("--quarto", action="store_true", help="render with quarto where it is installed")
    arguments = parser.parse_args()
    if arguments.sidebar:
        check_quarto_files(write=True)
        return 0
    quarto = shutil.which("quarto") if arguments.quarto else None
    if quarto:
        with tempfile.TemporaryDirectory(prefix="lightbulb_docs_") as folder:
            render_with_quarto(quarto, Path(folder))
        print(f"{len(notebooks())} notebooks rendered by quarto in _docs/")
        return 0
    if arguments.quarto:
        print("quarto is not installed: the site is built with pandoc")
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
