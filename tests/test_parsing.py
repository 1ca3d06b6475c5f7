"""Foreign bytes are parsed at arm's length: what takes too long or kills a parser costs its own page and nothing else."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightbulb.core.records import Document
from lightbulb.web.corpus import parse_sources, read_files
from lightbulb.web.extract import extract, extract_text
from lightbulb.web.parsing import ParserPool, Source, _share, extract_markdown, extract_table, read_source, rst_as_markdown, source_of
from lightbulb.web.rules import Reason, Refusal

FRIENDLY = [source_of("html", f"http://lamps.example/{i}", f"<title>Lamp {i}</title><p>Lamp {i} is lit.") for i in range(6)]
ENDLESS = source_of("html", "http://hostile.example/", "<ul>" + "<li><p>x<table>" * 250_000)


@pytest.fixture
def pool():
    pool = ParserPool(2)
    yield pool
    pool.close()


def children() -> list[int]:
    "Processes of this one that are not ended or were not waited for."
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    return [int(number) for number in listed.split()]


def test_documents_come_in_order_and_equal_those_parsed_here(pool: ParserPool) -> None:
    outcomes = pool.parse(FRIENDLY)
    assert outcomes == [extract(source.data.decode(), source.url) for source in FRIENDLY]
    assert pool.parse([]) == []


def test_a_page_that_keeps_a_parser_busy_is_given_up_and_the_others_are_read(pool: ParserPool) -> None:
    pool.parse(FRIENDLY)  # loaded
    pool.seconds_each = 1.0
    begun = time.monotonic()
    outcomes = pool.parse([FRIENDLY[0], ENDLESS, *FRIENDLY[1:]])
    assert [isinstance(outcome, Document) for outcome in outcomes] == [True, False, True, True, True, True, True]
    assert isinstance(outcomes[1], Refusal) and outcomes[1].reason == Reason.PARSING_TIMEOUT
    assert time.monotonic() - begun < 40  # the worker that follows has to load


def test_the_time_of_a_question_is_kept(pool: ParserPool) -> None:
    pool.parse(FRIENDLY)
    begun = time.monotonic()
    outcomes = pool.parse([ENDLESS] * 4, timeout=1.0)
    assert time.monotonic() - begun < 3
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)} == {Reason.PARSING_TIMEOUT}


def test_a_worker_that_dies_is_replaced(pool: ParserPool) -> None:
    pool.parse(FRIENDLY)
    for worker in pool._idle:
        worker._process.kill()
        worker._process.wait()
    assert all(isinstance(outcome, Document) for outcome in pool.parse(FRIENDLY))


def test_a_damaged_pdf_is_a_failure_with_a_reason() -> None:
    (outcome,) = parse_sources([Source("pdf", "file:///a.pdf", b"%PDF-1.4 broken")])
    assert not isinstance(outcome, Document) and outcome.reason == Reason.CONTENT_TYPE and "not a readable PDF" in outcome.detail


def pdf_of(*pages: tuple[str, bytes]) -> bytes:
    "A PDF file, of each page the entries of its stream and the stream."
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(f'{4 + 2 * i} 0 R' for i in range(len(pages)))}]/Count {len(pages)}>>",
    ]
    bodies = [*map(str.encode, objects), b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for i, (entries, stream) in enumerate(pages):
        box = f"/MediaBox[0 0 600 800]/Resources<</Font<</F1 3 0 R>>>>/Contents {5 + 2 * i} 0 R"
        bodies += [f"<</Type/Page/Parent 2 0 R{box}>>".encode()]
        bodies += [f"<<{entries}/Length {len(stream)}>>\nstream\n".encode() + stream + b"\nendstream"]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(f"{len(data):010d} 00000 n \n")
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{''.join(places)}trailer<</Size {len(bodies) + 1}/Root 1 0 R>>\n"
    return data + table.encode() + f"startxref\n{len(data)}\n%%EOF".encode()


def test_pages_of_a_pdf_are_read_beside_a_damaged_one_and_behind_the_five_hundredth() -> None:
    page = lambda text: ("", f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode())
    for damaged in (("/Filter/Unknown", b"x"), ("/Filter/LZWDecode", b"\xff" * 4)):
        document = read_source(Source("pdf", "file:///a.pdf", pdf_of(page("The fuse is 16 A."), damaged, page("Page three."))))
        assert document.text == "The fuse is 16 A.\n\nPage three."
        with pytest.raises(ValueError, match="without text, scanned or damaged"):
            read_source(Source("pdf", "file:///a.pdf", pdf_of(damaged)))
    long = Source("pdf", "file:///a.pdf", pdf_of(*(page(f"Page {i}.") for i in range(510))))
    assert read_source(long).text.endswith("\n\nPage 509.") and _share(long) == 5


def test_a_text_is_read_to_its_end() -> None:
    line = "lamp " * 5_000
    long = source_of("text", "file:///a.txt", f"{line}\n\n" * 170 + "The fuse is 16 A.")
    (document,) = parse_sources([long])
    assert document.text.endswith("lamp\n\nThe fuse is 16 A.") and 1 < _share(long) < 2
    assert read_source(source_of("markdown", "file:///a.md", f"{line}\n\n" * 170 + "The *fuse*.")).text.endswith("lamp\n\nThe fuse.")
    table = read_source(source_of("table", "file:///a.csv", "lamp,price\n" + f"{line[:400]},3\n" * 10_500 + "fuse,16\n"))
    assert table.text.endswith("; price: 3\n\nlamp: fuse; price: 16")
    wide = read_source(source_of("table", "file:///a.csv", "n" * 30_000 + ",price\n" + "lamp,3\n" * 1_100 + "fuse,16\n"))
    assert wide.text.endswith("\n\nlamp,3\n\nfuse,16"), "with its names it would be longer than can be read"


def test_a_closed_pool_leaves_no_process(pool: ParserPool) -> None:
    before = set(children())
    pool.parse(FRIENDLY)
    assert set(children()) - before
    pool.close()
    assert not [number for number in set(children()) - before if Path(f"/proc/{number}").exists()]


def test_a_script_that_ends_leaves_no_process_behind(tmp_path: Path) -> None:
    "And needs no guard around its main part: nothing of it is imported again; nor is what lies in the current folder."
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "csv.py").write_text("print('not the module of this name')")
    script = tmp_path / "script.py"
    script.write_text(
        "from lightbulb.web.parsing import parser_pool, source_of\n"
        "pool = parser_pool()\n"
        "print(pool.parse([source_of('html', 'u:/', '<p>A lamp.')])[0].text, [worker._process.pid for worker in pool._idle][0])\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path / "elsewhere")
    assert ended.stdout.startswith("A lamp."), ended.stderr
    number = ended.stdout.split()[-1]
    assert not Path(f"/proc/{number}").exists()


# ------------------------------------------------------------------ Markdown and tables


def test_code_addresses_and_names_of_markdown_stand_as_they_are() -> None:
    guide = extract_markdown(
        "# C#\n\nCall `__init__` and `__name__` in [init](src/pkg/__init__.py) or [`_x_`](<_x_.md>), "
        "match `*.py` or `*.md`, `[no](link)`.\n\n"
        "A comment opens with `<!--` in HTML. <!-- gone -->\n\n## `__doc__` in F# ##\n\nThe **fuse** is *16 A*.\n\n"
        "```html\n<!-- keep me -->\n~~~\n<p>__x__</p>\n```\n\n<!--\n```\ngone\n```\n-->\n\nEnd of it.\n",
        "file:///d/a.md",
    )
    assert guide.title == "C#" and [heading.text for heading in guide.headings] == ["C#", "__doc__ in F#"]
    assert guide.text.split("\n\n") == [
        "Call __init__ and __name__ in init or _x_, match *.py or *.md, [no](link).",
        "A comment opens with <!-- in HTML.",
        "__doc__ in F#",
        "The fuse is 16 A.",
        "    <!-- keep me -->\n    ~~~\n    <p>__x__</p>",
        "End of it.",
    ]
    assert [(link.url, link.text) for link in guide.links] == [("file:///d/src/pkg/__init__.py", "init"), ("file:///d/_x_.md", "_x_")]


def test_a_markdown_file_that_is_mostly_one_listing_keeps_its_indentation() -> None:
    code = "def f(x):\n    if x:\n        return 1\n\ndef g(x):\n    return 2\n\nprint(f(1))\n\nfor i in x:\n    print(i)"
    text = extract_markdown(f"# Loop\n\n```python\n{code}\n```\n", "file:///d/a.md").text
    assert text == "\n".join(f"    {line}" if line else "" for line in code.split("\n"))
    assert extract_markdown("    All of it\n\n    is set in.\n", "file:///d/a.md").text == "All of it\n\nis set in."
    assert extract_markdown("```\npip install lamp\n```\n\nRun it.\n", "file:///d/set_up.md").title == "set up"


def test_links_of_markdown_are_found_in_all_their_forms() -> None:
    guide = extract_markdown(
        "# Guide\n\nSee [Mars](https://w.example/Mars_(planet)), [b](b.md 'the _b_'), <https://y.example/_a_>, [*c*][1], [the  D][] and\n"
        "![a plan][1], [e]; `<https://no.example>`, `[x][1]`, [no][2], x[0][1] [1] and [^1].\n\n"
        '[1]: https://z.example/ "Z"\n[The d]: <d_(e).md>\n[e]: #top\n[^1]: a/note\n[Ann]: Hello.\n',
        "file:///d/a.md",
    )
    assert " ".join(guide.text.split("\n\n")) == (
        "See Mars, b, https://y.example/_a_, c, the D and a plan, e; <https://no.example>, [x][1], [no][2], x[0][1] [1] and [^1]. "
        "[^1]: a/note [Ann]: Hello."
    )
    assert [(link.url, link.text) for link in guide.links] == [
        ("https://w.example/Mars_(planet)", "Mars"),
        ("file:///d/b.md", "b"),
        ("https://y.example/_a_", "https://y.example/_a_"),
        ("https://z.example/", "c"),
        ("file:///d/d_%28e%29.md", "the D"),
    ]


def test_code_that_is_set_in_stands_as_it_is() -> None:
    read = lambda text: extract_markdown(f"# Guide\n\n{text}", "file:///d/a.md").text.split("\n\n")
    assert read("Call it so:\n\n    class A:\n\n        def __init__(self, *a, **b):\n\nIt `is` __so__.\n\nMore.\n") == [
        *("Call it so:", "    class A:", "        def __init__(self, *a, **b):", "It is so.", "More."),
    ]
    code = "def f(x):  # the <!-- mark\n        return *x*"
    steps = f"1. Do *this*:\n\n    ```python\n    {code}\n    ```\n\n2. Then __that__ -->.\n\n    With *care*.\n"
    assert read(steps)[:3] == ["1. Do this:", f"    {code}", "2. Then that -->."]
    assert "*" not in read(steps)[3]
    assert read("````markdown\n```python\nx = 1\n```\n````\n\nText.\n") == ["    ```python\n    x = 1\n    ```", "Text."]
    assert read("\tx = *y*\n\nText, *still*\n    text.\n\n---\n\nMore.\n\n---\n\nEnd.\n") == [
        *("    x = *y*", "Text, still", "text.", "More.", "End."),
    ]
    assert read("A. <!-- b\n\n    c --> D `<!--` e. <!--\n--> F.\n\n!!! note\n\n    Mind the *gap*.\n")[0] == "A. D <!-- e. F."
    assert "*" not in read("Text.\n\n!!! note\n\n    Mind the *gap*.\n")[-1]


def test_a_doubled_quote_far_down_a_table_is_one_quote() -> None:
    rows = "name,note,price\n" + "".join(f"Lamp {i},plain glass lamp,{i}\n" for i in range(500))
    text = extract_table(rows + 'Fuse,"sold as ""slow, old"", in packs",3\n', "file:///prices.csv").text
    assert text.endswith(
        '\n\nname: Lamp 499; note: plain glass lamp; price: 499\n\nname: Fuse; note: sold as "slow, old", in packs; price: 3'
    )


# ------------------------------------------------------------------ no worse than n log n


def seconds(html: str) -> float:
    "CPU-seconds of the quicker of two extractions: what other tests left is collected in the middle of one of them."
    taken = []
    for _ in range(2):
        begun = time.process_time()
        extract(html, "https://x.example/")
        taken.append(time.process_time() - begun)
    return min(taken)


def test_comments_of_a_style_sheet_that_never_end_take_linear_time() -> None:
    "Sixty kilobytes of `/*` once took seven CPU-seconds."
    assert seconds(f"<style>{'/*x' * 20_000}</style><p>A lamp.") < 1.5


FRAGMENTS = (
    "<p>x <div> </div> <span>y <a href=/z>z</a> <li>i <ul> </ul> <table> <tr><td>1 <dl><dt>t<dd>d </dl> <pre>c </pre> <h2>h <b> </b> "
    "<style>/* </style> <style>a{ </style> <sup>[1] <details> <p,style='color:white'>w <p,hidden>h &amp; A. e.g. 5. | ** [a](b) "
    "<!-- --> /* { } <nav> </nav>"
).split()


@pytest.mark.parametrize("seed", range(40))
def test_repeated_fragments_take_time_in_proportion(seed: int) -> None:
    "Generated pages: eight times the size takes at most about eight times as long, not sixty-four."
    chance = random.Random(seed)
    unit = " ".join(chance.choice(FRAGMENTS).replace(",", " ") for _ in range(chance.randint(1, 4))) + " "
    size = lambda number: unit * (number // len(unit))
    small, large = max(seconds(size(6_000)), 0.02), seconds(size(48_000))
    assert large < 8 * 2.5 * small + 0.5, unit


def test_comments_of_markdown_that_never_end_take_linear_time() -> None:
    begun = time.process_time()
    extract_markdown("<!-- a " * 100_000, "file:///x.md")
    extract_markdown("a <!--\n-->" * 50_000, "file:///x.md")
    assert time.process_time() - begun < 1.5


def test_definitions_of_markdown_that_never_end_take_linear_time() -> None:
    began = time.process_time()
    document = extract_markdown("term\n: first\n" + " word\n" * 250_000, "file:///x.md")
    assert time.process_time() - began < 1.5
    assert document.text.startswith("term: first word word")


def test_wrapped_text_without_empty_lines_takes_linear_time() -> None:
    line = "2024-01-01 10:00:00 INFO service web started on port 8080 by user root\n"
    began = time.process_time()
    document = extract_text(line * 40_000, "file:///x.log")
    assert time.process_time() - began < 1.5
    assert document.text == " ".join([line.strip()] * 40_000)


def test_headings_with_a_line_below_are_headings(tmp_path: Path) -> None:
    museum, cafe = "Museum\n------\n\nClosed on Monday.\n\n", "Cafe\n----\n\nClosed on Tuesday.\n"
    (tmp_path / "a.md").write_text(f"House rules\n===========\n\nBe kind.\n\n{museum}{cafe}")
    (tmp_path / "b.rst").write_text(
        "=====\nTitle\n=====\n\nSee ``load()`` and `the site <https://example.org/x>`_.\n\nSetup\n-----\n\n.. note:: Wear a hat.\n\n"
        "+------+------+\n| Tent | two  |\n+------+------+\n\n::\n\n    x = 1\n"
    )
    by_title = {page.title: page for page in read_files([tmp_path / "a.md", tmp_path / "b.rst"])}
    assert [heading.text for heading in by_title["House rules"].headings] == ["House rules", "Museum", "Cafe"]
    page = by_title["Title"]
    assert [heading.text for heading in page.headings] == ["Title", "Setup"]
    assert "load()" in page.text and "Wear a hat." in page.text and "    x = 1" in page.text and "the site" in page.text
    assert not re.search(r"---|===|``|::", page.text)
    assert [link.url for link in page.links] == ["https://example.org/x"]


def test_a_sentence_goes_on_from_page_to_page_of_a_pdf_without_what_stands_above_and_below_each() -> None:
    def page(*lines: str) -> tuple[str, bytes]:
        return "", f"BT /F1 12 Tf 50 700 Td {' 0 -14 Td '.join(f'({line}) Tj' for line in lines)} ET".encode()

    first = [
        "Yard rules",
        "1  Who may park",
        "The yard has seven spaces. There is a wait-",
        "ing list for the long-term ones, on which four people",
        "stand.",
    ]
    second = ["2  Charging", "Hold the card to the reader of the long-", "term space, wait until you hear the click and plug in"]
    third = ["the cable. Guests may not charge.", "Total: 41"]
    pages = [["House 17", *lines, f"Page {number} of 3"] for number, lines in enumerate((first, second, third), 1)]
    document = read_source(Source("pdf", "file:///yard.pdf", pdf_of(*(page(*lines) for lines in pages))))
    assert document.text.split("\n\n") == [
        *("House 17", "Yard rules", "1 Who may park"),
        "The yard has seven spaces. There is a waiting list for the long-term ones, on which four people stand.",
        "2 Charging",
        "Hold the card to the reader of the long-term space, wait until you hear the click and plug in the cable. Guests may not charge.",
        "Total: 41",
    ]
    assert [heading.text for heading in document.headings] == ["1 Who may park", "2 Charging"]


def test_a_hyphen_inside_a_line_of_a_pdf_stays() -> None:
    lines = ("The pre- and post-war lamps are kept in the left- and right-", "hand rooms.")
    stream = "\n".join(f"BT /F1 10 Tf 50 {700 - 12 * i} Td ({line}) Tj ET" for i, line in enumerate(lines)).encode()
    document = read_source(Source("pdf", "file:///a.pdf", pdf_of(("", stream))))
    assert "pre- and post-war lamps are kept in the left- and right" in document.text and document.text.endswith("hand rooms.")


def test_the_marks_of_footnotes_in_a_pdf_are_no_text() -> None:
    "In a sentence, at its end, before the footnote, and alone; numbers as large as the text, and those of units and tables, stay."
    small = lambda mark: f"/F1 6 Tf ({mark}) Tj /F1 10 Tf"
    lines = [
        f"(The keys are held by Mira.) Tj {small('1')} ( Ask her by noon, in room 7,) Tj {small('12')} ( every weekday) Tj {small('3')}",
        f"(The hall of 40 m) Tj {small('2')} ( has doors of 3.5 m and costs 9 a day. 25 people may come to level 2) Tj",
        "(5 7 9) Tj",
        f"{small('4')} ( Mira lives at number 4) Tj",
    ]
    stream = "\n".join(f"BT /F1 10 Tf 50 {700 - 12 * i} Td {line} ET" for i, line in enumerate(lines))
    stream += "\nBT /F1 6 Tf 50 500 Td (5) Tj ET\nBT /F1 10 Tf 50 480 Td (The cellar is damp.) Tj ET"
    text = read_source(Source("pdf", "file:///a.pdf", pdf_of(("", stream.encode())))).text
    words = text.split()
    assert "by Mira. Ask her by noon, in room 7, every weekday The" in " ".join(words), text
    assert "The hall of 40 m2 has doors of 3.5 m and costs 9 a day. 25 people may come to level 2" in " ".join(words), text
    assert "5 7 9" in text and "Mira lives at number 4" in text and "4 Mira" not in text and text.endswith("The cellar is damp.")
    assert words.count("5") == 1, text


def test_the_name_of_the_chapter_above_each_page_of_a_pdf_and_its_table_of_contents_are_no_text() -> None:
    def page(number: int) -> tuple[str, bytes]:
        lines = [(10, 770, f"{number} Chapter {number}. About lamp {'ABCDEF'[number]}"), (14, 730, f"{number}.1 Lamp {'ABCDEF'[number]}")]
        lines += [
            (10, 700, f"Lamp {'ABCDEF'[number]} is lit at {number} hours by whoever is nearest to"),
            (10, 688, f"door {'GHIJKL'[number]}, and put out."),
        ]
        lines += [(10, 600, f"{number}.1 Lamp . . . . . . . . . {number}")]
        return "", "\n".join(f"BT /F1 {size} Tf 50 {height} Td ({text}) Tj ET" for size, height, text in lines).encode()

    document = read_source(Source("pdf", "file:///lamps.pdf", pdf_of(*map(page, range(6)))))
    assert "Chapter" not in document.text.removeprefix(document.text.split("\n\n")[0]) and ". . ." not in document.text
    assert [heading.text for heading in document.headings] == [f"{number}.1 Lamp {'ABCDEF'[number]}" for number in range(6)]
    assert "Lamp C is lit at 2 hours by whoever is nearest to door I, and put out." in document.text.split("\n\n")


CONDITIONS = "CONDITIONS\n\n1. Scope\nWe repair it.\n\n2. What is not covered\nLamps, and what fell.\n\n2.1 Glass\nIs not covered.\n"


def test_numbered_sections_of_a_text_are_headings_and_a_numbered_list_is_none() -> None:
    document = extract_text(CONDITIONS, "file:///conditions.txt")
    assert [(one.level, one.text) for one in document.headings] == [(2, "1. Scope"), (2, "2. What is not covered"), (3, "2.1 Glass")]
    assert all(document.text.startswith(one.text, one.start) for one in document.headings)
    for listed in (
        "Bring:\n\n1. Flour\n2. Sugar\n3. Eggs\n\nMix them well.",
        "1. Open the lid.\n\nIt clicks.\n\n2. Pour the water in.\n\nIt hisses.",
        "In 1998\n12 Apples\nwere eaten. In 1999\n40 Pears\nwere.",
    ):
        assert not extract_text(listed, "file:///list.txt").headings


def test_items_of_rst_whose_numbers_are_left_out_are_counted_and_its_fields_are_named() -> None:
    text = ":Author: Ann Lee\n\n#. Fill it.\n\n   #. Cold.\n   #. Hot.\n\n#. Shut it\n   well.\n\nThen:\n\n#. Wait.\n"
    told = "Author: Ann Lee\n\n1. Fill it.\n\n   1. Cold.\n   2. Hot.\n\n2. Shut it\n   well.\n\nThen:\n\n1. Wait.\n"
    assert rst_as_markdown(text) == told


def test_a_notebook_is_read_with_its_code_and_what_that_printed(tmp_path: Path) -> None:
    printed = {"output_type": "stream", "text": ["LED  50000\n", "Arc  100\n"]}
    drawn = {"output_type": "display_data", "data": {"image/png": "iVBO", "text/plain": "<Figure size 640x480>"}}
    cells = [
        {"cell_type": "markdown", "source": ["# Lamps\n", "\n", "LEDs last longest.\n", "\n", "## Hours"]},
        {"cell_type": "code", "source": "for lamp in lamps:\n    show(lamp)", "outputs": [printed, drawn]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "b.ipynb").write_text("[]")
    lamps, broken = read_files([tmp_path / "a.ipynb", tmp_path / "b.ipynb"])
    assert isinstance(lamps, Document) and lamps.title == "Lamps" and [one.text for one in lamps.headings] == ["Lamps", "Hours"]
    assert lamps.text.split("\n\n") == [
        *("LEDs last longest.", "Hours", "    for lamp in lamps:\n        show(lamp)"),
        "    LED  50000\n    Arc  100",
    ]
    assert not isinstance(broken, Document) and "not a Jupyter notebook" in broken.detail
