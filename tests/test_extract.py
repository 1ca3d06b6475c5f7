"""Pages as they come: hidden text, tables, links, broken and hostile html; the same text every time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.records import Document, Heading
from lightbulb.web.extract import extract, extract_text
from lightbulb.web.page_tree import join_blocks, normalize, parse, read_table
from lightbulb.web.parsing import extract_markdown

URL = "https://lamps.example/wiki/tungsten"
SENTENCE = "Tungsten is a hard metal that William Coolidge drew into ductile wire for lamps in 1910."
PARAGRAPH = f"<p>{SENTENCE}</p><p>The wire replaced brittle filaments of carbon, and lamps with it lasted longer than before.</p>"


def page(body: str, head: str = "<title>Tungsten</title>") -> str:
    return f"<!doctype html><html><head>{head}</head><body><main>{body}</main></body></html>"


HIDDEN = [
    '<p style="display:none">SECRET</p>',
    '<p style="DISPLAY : NONE !important">SECRET</p>',
    '<div style="visibility:hidden"><p>SECRET</p></div>',
    "<p hidden>SECRET</p>",
    '<p hidden="">SECRET</p>',
    '<p aria-hidden="true">SECRET</p>',
    '<span style="font-size:0">SECRET</span>',
    '<p style="font-size:0.01em">SECRET</p>',
    '<p style="position:absolute;left:-9999px">SECRET</p>',
    '<p style="text-indent:-9999px">SECRET</p>',
    '<p style="position:fixed; top:-200em">SECRET</p>',
    '<p style="color:#fff;background:#fff">SECRET</p>',
    '<p style="color:white">SECRET</p>',
    '<div style="background-color:rgb(10, 10, 10)"><p style="color:#0a0a0a">SECRET</p></div>',
    '<font color="#ffffff">SECRET</font>',
    '<p style="color:transparent">SECRET</p>',
    '<p style="color:rgba(0,0,0,0)">SECRET</p>',
    '<p style="color:#ffffff00;background:#000">SECRET</p>',
    '<p style="color:#000;background:rgba(0,0,0,.9)">SECRET</p>',
    '<p style="position:absolute;left:-100vw">SECRET</p>',
    '<p style="opacity:0">SECRET</p>',
    '<p style="height:0;overflow:hidden">SECRET</p>',
    '<p style="clip:rect(0,0,0,0);position:absolute">SECRET</p>',
    '<p style="clip-path: inset(50%)">SECRET</p>',
    '<p style="transform:scale(0)">SECRET</p>',
    "<template><p>SECRET</p></template>",
    "<!-- SECRET -->",
    "<noscript><p>SECRET</p></noscript>",
    "<script>SECRET</script>",
    "<style>.SECRET{}</style>",
    '<span class="sr-only">SECRET</span>',
    "<style>.trap{display:none}</style><p class='x trap'>SECRET</p>",
    "<style>#t{visibility:hidden}</style><p id=t>SECRET</p>",
    '<p style="font-size:0">SECRET<b style="font-size:2em">SECRET</b><b style="font-size:12px">shown</b>SECRET</p>',
    '<div style="font-size:0"><p style="font-size:1rem">shown <b style="font-size:1px">SECRET</b></p></div>',
    "<style>.a{font-size:0}</style><p class=a>SECRET</p>",
    "<style>.a{font-size:0}.b{font-size:1rem}.c{display:none}</style><div class=a>SECRET<p class=b>shown <b class=c>SECRET</b></p></div>",
    "<style>.a{visibility:hidden}.a.b{display:block}</style><p class='a b'>SECRET</p>",
    "<style>.a{display:none!important}.a.b{display:block}</style><p class='a b'>SECRET</p>",
    "<style>.a{display:none}.a.b{display:block}</style><p class=a>SECRET</p>",
    "<dialog><p>SECRET</p></dialog>",
    "<iframe>SECRET</iframe>",
    "<nav>SECRET</nav>",
    "<footer>SECRET</footer>",
    '<div role="navigation">SECRET</div>',
]


@pytest.mark.parametrize("snippet", HIDDEN)
def test_what_a_visitor_does_not_see_is_not_text(snippet: str) -> None:
    document = extract(page(PARAGRAPH + snippet + "<p>The end of the article follows here in plain sight of everybody.</p>"), URL)
    assert "SECRET" not in document.text
    assert SENTENCE in document.text and "in plain sight" in document.text


@pytest.mark.parametrize(
    "snippet",
    [
        '<p style="color:#fff;background:#000">SHOWN</p>',
        '<p style="opacity:0.9">SHOWN</p>',
        '<p style="font-size:12px">SHOWN</p>',
        '<table><tr><td style="font-size:0px;padding:10px 25px"><div style="font-size:13px;color:#000">SHOWN</div></td></tr></table>',
        '<div style="font-size:0"><div><div style="font-size:medium;display:inline-block"><p>SHOWN</p></div></div></div>',
        "<style>.row{font-size:0}.cell{font-size:16px}</style><div class=row><div class=cell><p>SHOWN</p></div></div>",
        "<style>.tab{display:none}.tab.active{display:block}</style><div class='tab active'><p>SHOWN</p></div>",
        "<p aria-hidden=false>SHOWN</p>",
        '<p style="margin-left:-10px">SHOWN</p>',
        "<style>@media print {.inked{display:none}}</style><p class=inked>SHOWN</p>",
        '<div style="background:navy"><p style="color:yellow">SHOWN</p></div>',
        '<p style="color:rgb(0, 0, 0);background-color:rgba(0, 0, 0, 0)">SHOWN</p>',
        '<p style="color:#000;background:rgba(0,0,0,.05)">SHOWN</p>',
        '<p style="color:#000;background:#00000000">SHOWN</p>',
        '<div style="left:50%;margin-left:-50vw;margin-right:-50vw"><p>SHOWN</p></div>',
        '<div style="width:200%;left:-50%"><p>SHOWN</p></div>',
        "<style>.alignfull{left:50%;margin-left:-50vw}</style><p class=alignfull>SHOWN</p>",
        '<p style="background:linear-gradient(red,blue);background-clip:text;color:transparent">SHOWN</p>',
        '<p style="background:linear-gradient(#000,red);-webkit-background-clip:text;color:rgba(0,0,0,0)">SHOWN</p>',
    ],
)
def test_what_a_visitor_sees_stays(snippet: str) -> None:
    assert "SHOWN" in extract(page(PARAGRAPH + snippet + PARAGRAPH), URL).text


def test_a_page_that_fades_in_keeps_its_text() -> None:
    assert SENTENCE in extract(page(f'<div style="opacity:0">{PARAGRAPH}</div>'), URL).text
    assert SENTENCE in extract(f'<body style="visibility:hidden">{PARAGRAPH}</body>', URL).text
    assert SENTENCE in extract(page(f'<div aria-hidden="true">{PARAGRAPH}</div>'), URL).text


def test_tables_become_lines() -> None:
    table = (
        "<table><thead><tr><th>Lamp</th><th>Efficacy</th></tr></thead><tbody><tr><td>LED</td><td>100 lm/W</td></tr>"
        "<tr><th>Carbon</th><td>3 lm/W</td></tr></tbody></table>"
    )
    text = extract(page(PARAGRAPH + table + PARAGRAPH), URL).text
    assert "Lamp: LED; Efficacy: 100 lm/W" in text and "Lamp: Carbon; Efficacy: 3 lm/W" in text
    facts = (
        "<table class=infobox><tr><th colspan=2>Tungsten</th></tr><tr><th>Symbol</th><td>W</td></tr><tr><th>Melting point</th>"
        "<td>3422<br>°C</td></tr><tr><th>Density</th><td>19 g/cm<sup>3</sup></td></tr></table>"
    )
    assert "Density: 19 g/cm3" in extract(page(facts + PARAGRAPH), URL).text
    assert "Melting point: 3422 °C" in extract(page(facts + PARAGRAPH), URL).text


def test_spans_of_cells_are_repeated() -> None:
    import lxml.html

    table = lxml.html.fromstring(
        "<table><tr><th rowspan=2>Year</th><th colspan=2>Output</th></tr><tr><th>Coal</th><th>Wind</th></tr>"
        "<tr><td>2000</td><td>10</td><td>10</td></tr><tr><td rowspan=2>2020</td><td>4</td><td>9</td></tr><tr><td>3</td><td>8</td>"
        "</tr></table>"
    )
    assert read_table(table) == [
        "Year: 2000; Output Coal: 10; Output Wind: 10",
        "Year: 2020; Output Coal: 4; Output Wind: 9",
        "Year: 2020; Output Coal: 3; Output Wind: 8",
    ]
    rows = "".join(f"<tr>{'<td rowspan=340>Bavaria</td>' if i == 0 else ''}<td>Town {i}</td><td>{1000 + i}</td></tr>" for i in range(340))
    long = lxml.html.fromstring(f"<table><tr><th>Land</th><th>Town</th><th>People</th></tr>{rows}</table>")
    assert read_table(long) == [f"Land: Bavaria; Town: Town {i}; People: {1000 + i}" for i in range(340)]


def test_layout_tables_are_read_as_pages() -> None:
    old = f"<table><tr><td><a href=/a>Menu one</a></td><td>{PARAGRAPH * 3}</td></tr></table>"
    text = extract(page(old), URL).text
    assert SENTENCE in text and "|" not in text


def test_frames_and_refreshing_pages_lead_on() -> None:
    framed = (
        "<html><head><title>Manual</title></head><frameset><frame src='menu.html' title='Menu'><frame src=first.html></frameset></html>"
    )
    assert [link.url for link in extract(framed, URL).links] == [URL.rsplit("/", 1)[0] + f"/{name}.html" for name in ("menu", "first")]
    sent = "<html><head><meta http-equiv='Refresh' content='0; URL=deep/index.html'></head><body></body></html>"
    assert [link.url for link in extract(sent, URL).links] == [URL.rsplit("/", 1)[0] + "/deep/index.html"]
    assert not extract("<meta http-equiv=refresh content=60><iframe srcdoc=x></iframe><p>News</p>", URL).links


def test_links_are_absolute_canonical_once_and_content_first() -> None:
    body = (
        '<nav><a href="/">Home</a><a href="/b">B in the menu</a></nav>'
        + PARAGRAPH
        + '<p>See <a href="b?z=1&amp;a=2#part">B</a>, <a href="./b?a=2&z=1">B again</a>, '
        '<a href="/b">B</a>, <a href="mailto:a@b.c">mail</a>, <a href="javascript:x()">js</a>, <a href="#top">top</a>, <a '
        'href="http://[bad">bad</a>, <a href="//other.example/x">o</a></p>'
    )
    assert [link.url for link in extract(page(body), URL).links] == [
        "https://lamps.example/wiki/b?a=2&z=1",
        "https://lamps.example/b",
        "https://other.example/x",
        "https://lamps.example/",
    ]
    based = extract(page(PARAGRAPH + "<a href=x>x</a>", "<title>t</title><base href='/deep/er/'>"), URL)
    assert based.links[0].url == "https://lamps.example/deep/er/x"


def test_a_wrapper_of_the_page_is_content_whatever_its_name_says() -> None:
    sections = (
        f"<h1>Harbour</h1>{PARAGRAPH}<h2>Prices</h2>{PARAGRAPH}<h2>Tickets</h2>{PARAGRAPH}<ul><li>Adults: 12</li><li>Children: 5</li></ul>"
    )
    plain, *wrapped = (
        extract(page(f"<div class='{name}'>{sections}</div><div class=menu><a href=/m>Menu</a> item</div>"), URL)
        for name in ("content", "content-sidebar-wrap", "no-sidebar", "menu-page", "sticky-footer-wrapper", "category-cookies")
    )
    assert plain.text.endswith("Adults: 12\n\nChildren: 5") and [heading.text for heading in plain.headings] == [
        "Harbour",
        "Prices",
        "Tickets",
    ]
    assert wrapped == [plain] * 5
    around = "".join(f"<a href=/{i}>A page about lamps</a> " for i in range(40)), "We would like to set cookies on your machine. " * 40
    for name, text in zip(("sidebar-wrap", "cookie-wall"), around, strict=True):
        document = extract(page(f"<h1>Harbour</h1>{PARAGRAPH}<h2>Prices</h2>{PARAGRAPH}<div class='{name}'><h2>More</h2>{text}</div>"), URL)
        assert [heading.text for heading in document.headings] == ["Harbour", "Prices"]


def test_titles_headings_images_and_description() -> None:
    head = (
        '<title>Tungsten – The Lamp Library</title><meta name="description" content=" A  metal. "><meta property="og:title" '
        'content="Tungsten">'
    )
    body = (
        f"<h1>Tungsten</h1>{PARAGRAPH}<h2>History <span class='mw-editsection'>[edit]</span>"
        f"</h2>{PARAGRAPH}<h2>History</h2>{PARAGRAPH}<img src=a><img src=b><noscript><img src=b></noscript>"
    )
    document = extract(page(body, head), URL)
    assert (document.title, document.description, document.num_images) == ("Tungsten", "A metal.", 2)
    assert [heading.level for heading in document.headings] == [1, 2, 2]
    first, second = (heading.start for heading in document.headings[1:])
    assert 0 <= first < second and all(document.text[start:].startswith("History\n") for start in (first, second))


def test_a_name_that_ends_in_a_sign_is_not_cut() -> None:
    body = (
        f"<h1>C#<a href='/c#top'>#</a></h1>{PARAGRAPH}<h2>F# <a href='#f'>¶</a></h2>{PARAGRAPH}<h2>Use #</h2><pre>print()</pre>{PARAGRAPH}"
    )
    for title in ("C#", "C# – The Lamp Library"):
        document = extract(page(body, f"<title>{title}</title>"), URL)
        assert document.title == "C#" and [heading.text for heading in document.headings] == ["C#", "F#", "Use"]
        assert document.text.startswith(SENTENCE) and document.text[document.headings[1].start :].startswith("F#\n\n")
        assert "\n\n    print()\n\n" in document.text, "code is no button"


def test_a_section_with_the_title_of_its_page_hides_no_heading_before_it() -> None:
    names, levels = ["Client", "Install", "Usage", "Client", "End"], [1, 2, 2, 2, 2]
    sections = [(level, name, f"{SENTENCE} {i}") for i, (level, name) in enumerate(zip(levels, names, strict=True))]
    html = page("".join(f"<h{level}>{name}</h{level}><p>{text}</p>" for level, name, text in sections), "<title>Client</title>")
    markdown = "".join(f"{'#' * level} {name}\n\n{text}\n\n" for level, name, text in sections)
    for document in (extract(html, URL), extract_markdown(markdown, URL)):
        text = document.text
        assert document.title == "Client" and [heading.text for heading in document.headings] == names
        assert [heading.start for heading in document.headings] == [-1, *(text.index(f"{name}\n\n") for name in names[1:])]


def test_reference_marks_do_not_stand_in_quotations() -> None:
    body = page(
        (
            '<p>Swan showed his lamp in Newcastle.<sup class="reference"><a href="#1">[1]</a></sup> It glowed at 10<sup>3</sup> K for '
            "hours in front of the audience there.</p>"
        )
        + PARAGRAPH
    )
    assert "Newcastle. It glowed at 103 K" in extract(body, URL).text


def test_accordions_formulas_and_heading_marks() -> None:
    body = (
        f'<h1>Ohm<a class="headerlink" href="#ohm">¶</a></h1>{PARAGRAPH}<details><summary>Who was Ohm?</summary><p>A teacher of '
        "mathematics in Cologne.</p></details>"
        "<p>The law is <math><mi>V</mi><mo>=</mo><mi>I</mi><mi>R</mi><annotation>tex</annotation></math> at every moment.</p>"
    )
    document = extract(page(body, "<title>Ohm — Handbook</title>"), URL)
    assert document.title == "Ohm" and "¶" not in document.text
    assert "Who was Ohm?\n\nA teacher" in document.text and "The law is V=IR at every moment." in document.text
    lent = extract(f"<h2>Volta</h2>{PARAGRAPH}<h2>Galvani</h2>{PARAGRAPH}", URL)
    assert lent.title == "Volta" and lent.text.startswith("Volta\n\n")


@pytest.mark.parametrize(
    "html",
    [
        "",
        " ",
        "<",
        "<>",
        "<!doctype html>",
        "<html></html>",
        "\0",
        "<p>",
        "<table>",
        "&#xffffff;",
        "\ud800<p>x</p>",
        "<a href='http://[::1'>x",
        "<base href='https://[HOST]/'><a href=/x>x",
        "<p></p>" * 10,
        "<sup>[1]</sup>&#xfffe;x",
        "a&#1;<p hidden>b</p>&#31;",
        "&#xffff;<table><tr><td>1<td>&#2;</table>&#3;",
    ],
)
def test_nothing_much_gives_a_document(html: str) -> None:
    document = extract(html, URL)
    assert isinstance(document, Document) and document.title


@pytest.mark.parametrize("arguments", [(b"<p>x", URL), (None, URL), ("<p>x", None), ("<p>x", 3)])
def test_wrong_types_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="must be text"):
        extract(*arguments)


def test_short_pages_and_plain_text_are_kept() -> None:
    assert extract("<p>Hello.</p>", URL).text == "Hello."
    assert extract("<header><p>Only a header.</p></header>", URL).text == "Only a header."
    assert extract("Just words.", URL).text == "Just words."
    text = extract_text(
        "TITLE OF IT\r\n\r\nA line that is long enough to have been wrapped by hand\r\nand goes on.\r\n\r\n| a | b |\r\n| 1 | 2 |\r\n",
        "file:///x.txt",
    )
    assert text.title == "TITLE OF IT" and "by hand and goes on." in text.text and "| a | b |\n\n| 1 | 2 |" in text.text


HOSTILE = {
    "deep": "<div>" * 60_000 + f"<p>{SENTENCE}</p>" + "</div>" * 60_000,
    "wide": "<p>word" * 45_000,
    "unclosed": "<a" * 200_000,
    "comments": "<!--" * 200_000,
    "tables": "<table><tr><td>x" * 10_000,
    "spans": "<table>" + "<tr><td colspan=999 rowspan=999>1<td rowspan=999>2" * 1500,
    "styles": "<style>" + ".a{" * 100_000 + "</style><p>hi",
    "hidden": "<p>a b<p aria-hidden=true>x" * 8_000,
    "tiny": ("<p>" + "<b style='font-size:0'>x<i style='font-size:9px'>y" * 80 + "</i></b>" * 80) * 80,
    "shown": "<style>" + ".a{display:none}.a.b{display:block}" * 5_000 + "</style>" + "<p class='a c'>x" * 8_000,
    "breaks": "<br>" * 45_000,
    "attributes": "<a " + "x=1 " * 200_000 + ">y</a>",
    "marks": "<sup>[1]</sup>" * 15_000,
    "headings": "<h1>a</h1>" * 8_000,
    "entities": "&amp;" * 300_000,
    "meta": "<meta name=a content=b>" * 20_000,
    "long word": "<p>" + "x" * 3_000_000,
    "links": "".join(f"<a href=/{i}>x</a>" for i in range(6_000)),
    "title": "<title>" + "a - " * 100_000 + "</title><p>x",
    "text": "word\n" * 300_000,
    "nested lists": "<ul><li>x" * 8_000,
    "definitions": "<dl><dt>a<dd>b" * 5_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_take_bounded_time(name: str) -> None:
    begin = time.process_time()
    document = extract(HOSTILE[name], URL)
    assert isinstance(document, Document)
    assert time.process_time() - begin < 10
    if name == "deep":
        assert SENTENCE in document.text


PIECES = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<div style='display:none'>",
        "</div>",
        "<table>",
        "<tr>",
        "<td>",
        "<th colspan=2>",
        "</table>",
        "<h2>",
        "</h2>",
        "<ul><li>",
        "<br>",
        "<sup>[1]</sup>",
        "<a href='/x'>",
        "</a>",
        "<dl><dt>",
        "<dd>",
        "&nbsp;",
        "&#31;",
        "&#x1;",
        "&#xfffe;",
        "&#xd800;",
        "&#0",
        "&#173;",
        "<!-- x",
        "-->",
        "<script>",
        "</script>",
        "<nav>",
        "</nav>",
        "A sentence of words. ",
        "\u200bzero\u0301 ",
        "\n\n  ",
    ]
) | st.text(max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_html_gives_one_normal_text(html: str) -> None:
    html = f"<p>{html}"  # text without any tag is no html: there, what is set in is code and keeps its blanks
    document = extract(html, URL)
    assert document == extract(html, URL)
    assert document.text == join_blocks(document.text.split("\n\n"))
    assert all(block == normalize(block) and block for block in document.text.split("\n\n")) or not document.text
    for heading in document.headings:
        assert heading.start == -1 or document.text[heading.start : heading.start + len(heading.text)] == heading.text
    assert len({link.url for link in document.links}) == len(document.links)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
def test_parsing_never_fails(html: str) -> None:
    parse(html)
    extract(f"<p>{html}</p>", URL)


# ------------------------------------------------------------------ manuals


def test_code_keeps_its_lines_and_its_indentation() -> None:
    code = "while lit:\n    burn()\n\ndone()"
    html = f"<title>t</title><p>Write a loop that ends, like this one here:</p><pre>{code}</pre><p>It ends, after a while.</p>"
    text = extract(html, "https://x.example/").text
    assert "    while lit:\n        burn()\n\n    done()" in text and "It ends, after a while." in text.split("\n\n")


def test_code_at_the_end_of_an_entry_is_said_once() -> None:
    entry = "<div><strong>Option: </strong><code>Cache-Max</code></div><div><strong>Default: </strong><code>4194304</code></div>"
    page = extract(f"<main><h1>Settings</h1><p>What may be set stands below, one entry each.</p>{entry}</main>", "https://a.example/s")
    assert page.text.endswith("below, one entry each.\n\nOption: Cache-Max\n\nDefault: 4194304")


def test_a_definition_begins_with_its_term_whatever_follows() -> None:
    html = """<title>git-push</title><p>Updates remote refs using local refs, while sending what is needed for it.</p><dl>
    <dt>-f</dt><dt>--force</dt><dd><p>Usually, the command refuses to update a remote ref. This turns
    the check off.</p><p>Use it with care, because it can lose commits.</p></dd><dt>-n</dt><dd>Do everything except sending.</dd></dl>"""
    blocks = extract(html, "https://x.example/").text.split("\n\n")
    assert "-f, --force: Usually, the command refuses to update a remote ref. This turns the check off." in blocks
    assert "Use it with care, because it can lose commits." in blocks and "-n: Do everything except sending." in blocks


def test_definitions_keep_their_terms_and_are_all_there() -> None:
    html = """<title>Tool presets</title><div><h2>The dialog</h2><p>Right-clicking opens a menu where you find these entries, besides those
    that were described with their buttons above:</p><div><dl><dt><span>Duplicate preset</span></dt><dd><a id=a></a><p><span>Duplicate
    preset</span>: this entry is always disabled, since a copy is made whenever a preset is saved from another one.</p></dd>
    <dt><span>Copy location</span></dt><dd><a id=b></a><p><span>Copy location</span> copies the path of the preset to the clipboard.</p>
    </dd></dl></div></div>"""
    blocks = extract(html, "https://x.example/").text.split("\n\n")
    assert blocks[-1] == "Copy location: Copy location copies the path of the preset to the clipboard."
    assert blocks[-2].startswith("Duplicate preset: Duplicate preset: this entry is always disabled")


def test_the_end_of_a_page_of_a_book_belongs_to_it() -> None:
    def section(name: str, *paragraphs: str) -> str:
        head = f'<div class="titlepage"><div><div><h2 class="title"><a id="here"></a>{name}</h2></div></div></div>'
        return f'<div class="section">{head}{"".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)}</div>'

    sections = section(
        "16.1. Authors",
        "This document was written by many people over twenty years, who are named in the file that comes with it, and whose mails are "
        "answered by those who look after it today.",
        "A list of the changes stands in the package.",
    )
    sections += section(
        "16.2. Availability",
        "The latest version of this document can be viewed on the pages of the project, and it is also available for download in plain "
        "text and in other formats.",
        "There are several translations, among them one into German.",
    )
    last = "This document was written with a system of marks. It enables us to create files from one source, e.g. plain text or PostScript."
    sections += section("16.3. Document format", last)
    turn = '<div class="navfooter"><hr><table><tr><td><a accesskey="p" href="15.html"><img src="prev.png" alt="Prev"></a></td></tr></table>'
    head = '<html><head><title>About the FAQ</title><link rel="prev" href="15.html"></head>'
    text = extract(f'{head}<body><div class="chapter">{sections}</div>{turn}</div></body></html>', "https://x.example/").text
    assert text.endswith(f"16.3. Document format\n\n{last}")


def test_a_list_of_definitions_that_is_never_closed_costs_no_section() -> None:
    head = "<title>Status</title><h1>Status</h1><p>Two numbers are told about every connection, as the following names say.</p>"
    entries = "<dl><p><a name=hit></a><dt>CACHE_HIT</dt><dd>The number of hits of the pager's cache that have occurred.</dd></p>"
    rest = "<h2>Limits of a connection</h2><p>No connection has more than ten threads, and none of them may be shared with another one.</p>"
    text = extract(head + entries + rest, "https://x.example/").text
    assert "CACHE_HIT: The number of hits" in text and text.endswith("none of them may be shared with another one.")


def test_a_box_inside_a_text_is_content_and_a_column_beside_one_is_not() -> None:
    prose = "<p>{} The base of the system is explained here in a sentence of some length.</p>"
    box = (
        "<div class=sidebar><p>BACK TO BASICS. A repository is a place where packages are kept and from which they are installed.</p></div>"
    )
    column = "<div class=sidebar><ul>" + "<li><a href=/{0}>Chapter {0}</a>".format(1) * 12 + "</ul></div>"
    inside = "<title>t</title><div>" + prose.format("One.") + prose.format("Two.") + box + prose.format("Three.") + "</div>" + column
    text = extract(inside, "https://x.example/").text
    assert "BACK TO BASICS" in text and "Chapter 1" not in text


def test_items_of_counted_lists_begin_with_the_numbers_that_a_browser_shows() -> None:
    around = (
        "<p>The filter of the air unit is changed twice a year, which takes ten minutes of anybody's time and needs no tool at all.</p>"
    )
    lists = """<ol><li>Switch the unit off at the wall.</li>
    <li><b>Open</b> the flap.<ol type="a"><li>Push.</li><li>Pull.</li></ol></li></ol>
    <p>Then:</p><ol start="3"><li><h3>Close it</h3><p>Until it clicks.</p></li><li value="9">Note the date.</li></ol>
    <ol reversed><li>second</li><li>first</li></ol><ol style="list-style: none"><li>without a number</li></ol>
    <table><tr><th>Lamp</th><th>Do</th></tr><tr><td>red</td><td><ol><li>Off</li><li>On</li></ol></td></tr></table>"""
    document = extract(page(f"<h1>Filters</h1>{around}{lists}"), URL)
    assert document.text.split("\n\n")[2:] == [
        *("1. Switch the unit off at the wall.", "2. Open the flap.", "a. Push.", "b. Pull.", "Then:", "3. Close it", "Until it clicks."),
        *("9. Note the date.", "2. second", "1. first", "without a number", "Lamp: red; Do: 1. Off 2. On"),
    ]
    assert document.headings[-1] == Heading(3, "3. Close it", document.text.index("3. Close it"))


def test_an_item_with_paragraphs_and_code_keeps_them_apart_and_says_each_once() -> None:
    around = (
        "<p>The filter of the air unit is changed twice a year, which takes ten minutes of anybody's time and needs no tool at all.</p>"
    )
    items = "<li>Run this:<pre>reset --all\nreset --now</pre></li><li><p>Wait a bit.</p><p>It is slow.</p></li><li><pre>stop</pre></li>"
    document = extract(page(f"<h1>Filters</h1>{around}<ol>{items}</ol>{around.replace('air', 'oil')}"), URL)
    assert document.text.split("\n\n")[2:-1] == [
        *("1. Run this:", "    reset --all\n    reset --now", "2. Wait a bit.", "It is slow.", "3.", "    stop"),
    ]


def test_a_list_in_a_box_of_its_own_keeps_its_short_items() -> None:
    "`<div><ul>` is how Docbook, Asciidoctor and SQLite's manual write lists; the extractor drops one of single words."
    says = "".join(f"<p>The shell prints what a query gives, and paragraph {i} of this page says more of it.</p>" for i in range(6))
    items = "".join(f"<li>{word}</li>" for word in "ascii box csv column html insert json".split())
    for listing in (f"<div class='columns'><ul>{items}</ul></div>", f"<div><div class='itemizedlist'><ol>{items}</ol></div></div>"):
        text = extract(f"<h1>Shell</h1>{says}<p>There are seven formats:</p>{listing}<p>One chooses by .mode.</p>{says}", "http://x/").text
        shown = text[text.index("seven formats:") : text.index("One chooses")]
        assert [re.sub(r"^\d\. ", "", line) for line in shown.split("\n\n")[1:-1]] == "ascii box csv column html insert json".split()


def test_a_page_of_a_manual_keeps_the_headings_of_its_sections_and_what_is_short() -> None:
    "A reference of settings: trafilatura drops defaults that are often the same, and each name with them, and keeps the prose."
    about = "If set, the shell command {} is run before a connection is opened, which is useful for tunnels of any kind. "
    about += "It has to end with status 0, since otherwise {} counts as failed and the program gives up opening the mailbox for now. "
    about += "What it prints is not shown, but kept in the log of the day, where whoever runs it finds it under {} later."
    box = "<div class='titlepage'><div><div><h3 class='title'>3.{i}. setting_{i}</h3></div></div></div>"
    default = "<div class='literallayout'><p>Type: string<br>Default: no</p></div>"
    section = "<div class='sect2'>" + box + default + "<p>" + about + "</p></div>"
    page = "<h2>3. Reference</h2>" + "".join(section.replace("{i}", str(i)).replace("{}", f"run-{i}") for i in range(12))
    document = extract(f"<html><head><title>Reference</title></head><body>{page}</body></html>", "http://x/")
    for i in range(12):
        at = document.text.index(f"3.{i}. setting_{i}")
        assert document.text.index("Default: no", at) < document.text.index(f"run-{i} ", at)
    assert [heading.text for heading in document.headings if heading.start >= 0][-1] == "3.11. setting_11"


PROSE = "".join(
    f"<p>{text}</p>"
    for text in (
        "The path follows the river for an hour, past the old mill and the weir, until it comes to the village with its bridge. Walkers "
        "rest there on the benches in the shade of the lime trees and look at the boats.",
        "In spring the meadows on both banks are flooded, so that the way has to be left at the mill and the road above be taken, which "
        "is longer by half an hour but has the better view over the valley and the hills.",
        "The village was built by fishermen in the fourteenth century. Its church has a wooden tower, and the inn beside it serves trout "
        "that were caught in the morning; in winter it is open on Sundays alone.",
    )
)


@pytest.mark.parametrize("name", ["comments", "related-posts", "newsletter", "author-bio", "post-meta"])
def test_what_a_blog_puts_below_its_links_is_no_end_of_a_book(name: str) -> None:
    turn = "<div class='turn'><a rel='prev' href='/a'>Previous</a> <a rel='next' href='/b'>Next</a></div>"
    text = "Please buy our other products today, because this offer ends at midnight and will not come back again."
    post = f"<div class=post><h1>Along the river</h1>{PROSE}{turn}<div class='{name}'><p>{text}</p></div></div>"
    head = "<title>Along the river</title><link rel=next href=/b>"
    html = f"<html><head>{head}</head><body><div id=page><div class=content>{post}</div></div></body></html>"
    assert "midnight" not in extract(html, "http://site/walk").text


def test_terms_stand_before_what_defines_them_through_boxes_and_alone_where_nothing_does() -> None:
    row = "<div class=row><div><dt>--level{0}</dt></div><div><dd>Sets the value number {0} of the program.</dd></div></div>"
    listed = "<dl><dt>Apples</dt><dt>Pears</dt><dt>Plums, fresh</dt></dl>"
    html = f"<html><body><article><h1>T</h1>{PROSE}<dl>{row.format(0)}{row.format(1)}</dl>{listed}{PROSE}</article></body></html>"
    lines = extract(html, "http://site/options").text.split("\n")
    assert "--level0: Sets the value number 0 of the program." in lines and "--level1: Sets the value number 1 of the program." in lines
    assert "Apples" in lines and "Plums, fresh" in lines
