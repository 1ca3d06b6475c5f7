"""Back ends against real servers on the loopback and real files: what is found, what fails, and that nobody confuses the two."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpyxl import Workbook

from lightbulb.agent.tools import _prepare_search
from lightbulb.core.errors import SearchError
from lightbulb.core.records import Document, Passage
from lightbulb.web.backend import Corpus, SearchResult, group_passages, is_listing, open_demo, open_site, title_key
from lightbulb.web.breaker import CircuitBreaker, Transient, retry
from lightbulb.web.corpus import CrawlConfig, CrawlStep, crawl, list_files, read_files
from lightbulb.web.demo_site import HIDDEN_TEXT, demo_questions
from lightbulb.web.extract import extract
from lightbulb.web.fetch import FetchConfig, Fetcher, FetchFailure
from lightbulb.web.parsing import extract_markdown
from lightbulb.web.rules import Reason
from lightbulb.web.reactor import Request, Response, Server, serve
from lightbulb.web.search import ApiConfig, Combined, SearchBackend, SearXNG, Wikipedia, load_search


class WordIndex:
    "Passages are blocks; their score is the number of the query's words that they share, rare words counting more."

    def __init__(self) -> None:
        self.passages: list[tuple[Passage, set[str]]] = []
        self.frequency: Counter[str] = Counter()

    def add(self, documents: Iterable[Document]) -> None:
        for document in documents:
            start = 0
            for block in document.text.split("\n\n"):
                words = set(re.findall(r"\w{3,}", f"{document.title} {block}".lower()))
                self.passages.append((Passage(document.url, document.title, start, start + len(block), block, 0.0), words))
                self.frequency.update(words)
                start += len(block) + 2

    def search(self, query: str, k: int = 10) -> list[Passage]:
        words = set(re.findall(r"\w{3,}", query.lower()))
        scored = [(sum(1 / self.frequency[word] for word in words & mine), passage) for passage, mine in self.passages]
        best = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])[:k]
        return [replace(passage, score=score) for score, passage in best]


@pytest.fixture
def site() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(handler: Callable[[Request], Response]) -> Server:
        servers.append(serve(handler))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetcher_for(*servers: Server, **options) -> Fetcher:
    return Fetcher(FetchConfig(allow_hosts=tuple(f"127.0.0.1:{server.port}" for server in servers), delay=0, max_per_host=8, **options))


def pages_handler(pages: dict[str, str | Response], robots: str = "") -> Callable[[Request], Response]:
    def handler(request: Request) -> Response:
        asked.append(request.path)
        if request.path == "/robots.txt":
            return Response(body=robots, content_type="text/plain") if robots else Response(404)
        found = pages.get(request.path, Response(404, b"not here"))
        if isinstance(found, Response): return found
        return Response(body=f"<!doctype html><title>{request.path.strip('/') or 'start'}</title><p>{found}</p>")

    asked: list[str] = []
    handler.asked = asked  # type: ignore[attr-defined]
    return handler


# ------------------------------------------------------------------ patience


def test_retry_stops_after_its_attempts() -> None:
    pauses, calls = [], []

    def ask() -> str:
        calls.append(1)
        raise Transient("busy")

    with pytest.raises(Transient):
        retry(ask, retries=3, backoff=1.0, max_wait=10, sleep=pauses.append)
    assert (len(calls), pauses) == (4, [1.0, 2.0, 4.0])


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 30)), max_size=60), st.integers(1, 4), st.floats(1, 20))
def test_a_breaker_opens_after_failures_in_a_row_and_tries_once_after_the_cool_down(
    events: list[tuple[bool, float]], threshold: int, cool_down: float
) -> None:
    now = [0.0]
    breaker = CircuitBreaker("x", threshold=threshold, cool_down=cool_down, clock=lambda: now[0])
    in_row, last_failure = 0, 0.0
    for works, pause in events:
        now[0] += pause
        called = []

        def service(works: bool = works, called: list[int] = called) -> str:
            called.append(1)
            if not works: raise SearchError("down")
            return "ok"

        should_call = in_row < threshold or now[0] - last_failure >= cool_down
        try:
            breaker.call(service)
        except SearchError as error:
            assert called or "left alone" in str(error)
        assert bool(called) == should_call
        if called:
            in_row, last_failure = (0, last_failure) if works else (in_row + 1, now[0])


def test_half_open_lets_one_thread_through() -> None:
    breaker = CircuitBreaker("x", threshold=1, cool_down=0.0)
    with pytest.raises(SearchError):
        breaker.call(lambda: (_ for _ in ()).throw(SearchError("down")))
    inside, leave, outcomes = threading.Event(), threading.Event(), []

    def slow() -> str:
        inside.set()
        leave.wait(5)
        return "ok"

    thread = threading.Thread(target=lambda: outcomes.append(breaker.call(slow)))
    thread.start()
    inside.wait(5)
    with pytest.raises(SearchError, match="left alone"):
        breaker.call(lambda: "second")
    leave.set()
    thread.join(5)
    assert outcomes == ["ok"] and breaker.state == "closed"


def test_a_bug_is_no_news_about_the_service() -> None:
    breaker = CircuitBreaker("x", threshold=1)
    with pytest.raises(KeyError):
        breaker.call(lambda: {}["bug"])
    assert breaker.state == "closed"


# ------------------------------------------------------------------ folders


def write_pdf(path: Path, text: str) -> None:
    stream = f"BT /F1 18 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    path.write_bytes(
        data + b"xref\n0 6\n0000000000 65535 f \n" + table + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    )


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "swan.txt").write_text("Joseph Swan\n\nSwan lit his house in Gateshead with incandescent lamps.", encoding="utf-8")
    (folder / "deep" / "arc.md").write_text(
        "---\ntags: x\n---\n# Arc lamp\nDavy showed an **electric arc**, see [Swan](../swan.txt).\n\n## Use\n- lighthouses\n- streets\n",
        encoding="utf-8",
    )
    (folder / "deep" / "er" / "neon.html").write_bytes(
        "<meta charset=latin-1><title>Neon</title><p>Neon glows at a café in Paris.".encode("latin-1")
    )
    write_pdf(folder / "tungsten.pdf", "Coolidge drew tungsten into wire.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4\n1 0 obj << /Length 99")
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 50)
    (folder / "empty.txt").write_text(" \n")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("hidden")
    (tmp_path / "secret.txt").write_text("Gateshead secret outside of the folder")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop.txt").symlink_to("loop.txt")
    return folder


def test_a_folder_is_read_searched_and_cited(notes: Path) -> None:
    corpus = load_search(f"folder:{notes}", make_index=WordIndex, fetcher=Fetcher())
    assert isinstance(corpus, Corpus) and isinstance(corpus, SearchBackend)
    for query, title in (
        ("who lit Gateshead", "Joseph Swan"),
        ("electric arc", "Arc lamp"),
        ("café Paris", "Neon"),
        ("Coolidge wire", "tungsten"),
    ):
        best = corpus.search(query)[0]
        (document,) = corpus.read([best.url])
        assert isinstance(document, Document) and document.source == "folder" and document.fetched_at > 0
        assert title in best.title and best.url.startswith("file://")
        assert all(document.text[p.start : p.end] == p.text for p in best.passages)
    assert {Path(url).name for url in corpus.failures} == {"broken.pdf", "binary.txt", "empty.txt"}
    assert not any("secret" in document.text or "hidden" in document.text for document in corpus.documents.values())
    assert corpus.search("zeppelin") == []
    assert isinstance(corpus.read(["file:///etc/hostname"])[0], FetchFailure) and isinstance(
        corpus.read(["https://example.org/"])[0], FetchFailure
    )
    arc = corpus.documents[(notes / "deep" / "arc.md").as_uri()]
    assert arc.links[0].url == (notes / "swan.txt").as_uri() and "electric arc, see Swan." in arc.text
    assert arc.headings[1].text == "Use" and arc.text[arc.headings[1].start :].startswith("Use")


def test_links_between_files_lead_to_their_documents(tmp_path: Path) -> None:
    names = ["Mars_(planet).html", "Jupiter & moons.html", "it's, a! name+x;.html", "Sàturn #1.html", "plain.html"]
    for name in names:
        (tmp_path / name).write_text(f"<title>{name}</title><p>A page about something in the sky.", encoding="utf-8")
    hrefs = ["Mars_(planet).html", "Jupiter%20&amp;%20moons.html", "it's,%20a!%20name+x;.html", "S%C3%A0turn %231.html#top", "plain.html"]
    body = "".join(f'<p>See <a href="{href}">this one</a>.' for href in hrefs)
    (tmp_path / "index.html").write_text(f"<title>Index</title>{body}", encoding="utf-8")
    corpus = load_search(f"folder:{tmp_path}", make_index=WordIndex, fetcher=Fetcher())
    corpus.search("sky")
    links = [link.url for link in corpus.documents[(tmp_path / "index.html").as_uri()].links]
    assert links == [(tmp_path / name).as_uri() for name in names]
    spelled = [f"file://{tmp_path}/{href.replace('&amp;', '&')}" for href in hrefs[:3]]  # as a browser would
    assert [read.title for read in corpus.read([*links, *spelled])] == [*names, *names[:3]]
    assert isinstance(corpus.read(["file:///\ud800"])[0], FetchFailure)


def test_a_long_page_leaves_room_for_others(tmp_path: Path) -> None:
    (tmp_path / "manual.md").write_text("# Manual\n\n" + "\n\n".join(f"Lamp {i} shows the state." for i in range(300)))
    for name in ("rules", "list"):
        (tmp_path / f"{name}.md").write_text(f"# The {name}\n\nThe lamp of the hall is cleaned on Mondays, with all that stands around it.")
    corpus = load_search(f"folder:{tmp_path}", make_index=WordIndex, fetcher=Fetcher())
    results = corpus.search("lamp manual", 5)
    assert [result.title for result in results] == ["Manual", "The list", "The rules"] and len(results[0].passages) == 20
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)
    (tmp_path / "rules.md").unlink(), (tmp_path / "list.md").unlink()
    alone = load_search(f"folder:{tmp_path}", make_index=WordIndex, fetcher=Fetcher())
    sizes: list[int] = []
    list(alone.prepare())
    search, alone._index.search = alone._index.search, lambda query, k: sizes.append(k) or search(query, k)
    assert len(alone.search("lamp", 5)) == 1 and sizes == [20], "there is nothing else to look for"


def test_a_large_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("word " * 1000)
    outcome, gone = read_files([tmp_path / "big.txt", tmp_path / "gone.txt"], max_bytes=100)
    assert isinstance(outcome, FetchFailure) and outcome.reason == "too_large"
    assert isinstance(gone, FetchFailure)


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "nothing readable"])
def test_a_folder_that_cannot_be_searched_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("a file")
    elif kind != "missing":
        path.mkdir()
    if kind == "nothing readable":
        (path / "a.pdf").write_bytes(b"no")
    with pytest.raises(SearchError, match="folder:") as caught:
        load_search(f"folder:{path}", make_index=WordIndex, fetcher=Fetcher()).search("x")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "# T\n",
                "## H `x`\n",
                "*a* ",
                "**b** ",
                "[l](u) ",
                "[",
                "](",
                "![",
                "> q\n",
                "|---|\n",
                "```\n",
                "- i\n",
                "word ",
                "\n\n",
                "<!-- ",
                "-->",
                "_x_",
                "---\n",
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_any_markdown_gives_a_document(text: str) -> None:
    document = extract_markdown(text, "file:///a/b.md")
    for heading in document.headings:
        assert heading.start == -1 or document.text[heading.start :].startswith(heading.text)


def test_hostile_markdown_takes_bounded_time() -> None:
    for text in (
        "-" * 100_000 + "x",
        "[" * 100_000,
        "<!--" * 30_000,
        "*a " * 50_000,
        "_" * 100_000,
        "`" * 100_000,
        "# " * 50_000,
        "# a" + " " * 100_000 + "x",
        "`x`" * 50_000,
        "](" * 50_000,
        "```\n~~~\n" * 30_000,
        "|" * 100_000 + "x",
    ):
        begin = time.process_time()
        extract_markdown(text, "file:///x.md")
        assert time.process_time() - begin < 5, text[:10]


# ------------------------------------------------------------------ sites


def small_site() -> dict[str, str | Response]:
    return {
        "/": (
            "Start: <a href=/lamp>lamp</a> <a href=/old>old</a> <a href=/private/x>secret</a> <a href=/gone>gone</a> <a "
            "href=/data.json>data</a> <a href=/photo.png>photo</a> <a href=/wiki/Node.js>Node.js</a> "
            "<a href='https://elsewhere.example/'>out</a> <a href=/away>away</a>"
        ),
        "/lamp": "The lamp was invented by Swan. <a href='/lamp#part'>here</a> <a href=/filament>filament</a>",
        "/filament": "A filament of carbon glows.",
        "/wiki/Node.js": "Node runs scripts on a server.",
        "/private/x": "forbidden treasure",
        "/copy": "A filament of carbon glows.",
        "/old": Response(301, headers={"Location": "/lamp"}),
        "/away": Response(302, headers={"Location": "http://127.0.0.2:9/"}),
        "/data.json": Response(body=b"{}", content_type="application/json"),
    }


def test_a_site_is_crawled_politely_once(site) -> None:
    pages = small_site()
    handler = pages_handler(pages, robots="User-agent: *\nDisallow: /private/\nSitemap: /a-relative-one-is-skipped\n")
    server = site(handler)
    heard: list[CrawlStep] = []
    corpus = open_site(server.url, WordIndex, fetcher=fetcher_for(server), progress=heard.append)
    assert corpus.search("Swan")[0].title == "lamp"
    asked = list(handler.asked)
    assert corpus.search("carbon")[0].title == "filament" and corpus.search("treasure") == []
    assert handler.asked == asked, "a second search crawls nothing"
    assert server.url + "/wiki/Node.js" in corpus.documents
    assert "/private/x" not in asked and "/photo.png" not in asked and max(Counter(asked).values()) <= 2
    assert heard[-1].num_pages == len(corpus.documents) and heard[-1].num_waiting == 0
    reasons = {url.removeprefix(server.url): failure.reason for url, failure in corpus.failures.items()}
    assert reasons["/private/x"] == "robots" and reasons["/gone"] == "http_status" and reasons["/old"] == "redirects"
    (lamp, again, other) = corpus.read([server.url + "/lamp", server.url + "/old", server.url + "/copy"])
    assert lamp == again and isinstance(other, Document) and lamp.source == "site"
    assert corpus.lookup("LAMP").url == server.url + "/lamp" and corpus.lookup("nothing") is None
    assert isinstance(corpus.read(["http://127.0.0.1:1/x"])[0], FetchFailure)


@pytest.mark.parametrize("place", ["/sitemap.xml", "/named/in/robots.xml"])
def test_sitemaps_are_found_and_followed(site, place: str) -> None:
    pages: dict[str, str | Response] = {"/": "Start without links.", "/alone": "The krypton page.", "/b": "The xenon page."}
    named: list[str] = []
    answer = pages_handler(pages)
    server = site(
        lambda request: Response(body="".join(named), content_type="text/plain") if request.path == "/robots.txt" else answer(request)
    )
    if place != "/sitemap.xml":
        named.append(f"User-agent: *\nAllow: /\nSITEMAP:  {server.url}{place}\n")
    pages[place] = Response(
        body=(
            f"<?xml version='1.0'?><sitemapindex><sitemap><loc>{server.url}/m.xml</loc></sitemap><sitemap><loc>{server.url}{place}</loc>"
            "</sitemap></sitemapindex>"
        ),
        content_type="application/xml",
    )
    pages["/m.xml"] = Response(
        body=(
            f"<urlset><url><loc>{server.url}/alone</loc></url><url><loc> {server.url}/b </loc></url><url>"
            "<loc>http://elsewhere.example/x</loc></url></urlset>"
        ),
        content_type="text/xml",
    )
    corpus = open_site(server.url, WordIndex, fetcher=fetcher_for(server))
    assert corpus.search("krypton") and corpus.search("xenon") and len(corpus.documents) == 3


def test_pages_of_markdown_are_read_as_markdown(site) -> None:
    guide = Response(
        body="# Guide\n\nThe *fuse* is 16 A, see [lamps](lamps.md).\n\n## Use\n\nTurn it.", content_type="text/markdown; charset=utf-8"
    )
    server = site(pages_handler({"/": guide, "/lamps.md": "A lamp."}))
    first, second = (step.outcome for step in crawl(server.url, fetcher_for(server)))
    assert isinstance(first, Document) and (first.title, first.headings[1].text) == ("Guide", "Use") and "The fuse is" in first.text
    assert second.url == server.url + "/lamps.md"


def test_files_that_a_site_links_are_read(site, tmp_path) -> None:
    "A manual as a PDF, a workbook, a table; the second reader has them from its cache, and one that is too large is refused by its size."
    write_pdf(tmp_path / "manual.pdf", "The fuse is 16 A.")
    sheet = Workbook()
    sheet.active.append(["room", "key"])
    sheet.active.append(["cellar", "K7"])
    sheet.save(tmp_path / "keys.xlsx")
    read = lambda name: (tmp_path / name).read_bytes()
    pages = {
        "/": "<p>Read <a href='/manual.pdf'>the manual</a>, <a href='/keys'>the keys</a> and <a href='/prices.csv'>the prices</a>.</p>",
        "/manual.pdf": Response(body=read("manual.pdf"), content_type="application/pdf"),
        "/keys": Response(
            body=read("keys.xlsx"), content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet; charset=binary"
        ),
        "/prices.csv": Response(body="thing,price\nfuse,3 euros\n", content_type="text/csv"),
    }
    server = site(pages_handler(pages))
    for _ in range(2):
        with fetcher_for(server, cache_path=tmp_path / "pages.sqlite") as fetcher:
            outcomes = [step.outcome for step in crawl(server.url, fetcher)]
        texts = {Path(one.url).name: one.text for one in outcomes if isinstance(one, Document)}
        assert "The fuse is 16 A." in texts["manual.pdf"] and "K7" in texts["keys"] and "3 euros" in texts["prices.csv"], outcomes
    with fetcher_for(server, max_file_bytes=300) as fetcher:
        failures = [one for one in (step.outcome for step in crawl(server.url, fetcher)) if isinstance(one, FetchFailure)]
    assert {(Path(one.url).name, one.reason) for one in failures} == {("manual.pdf", Reason.TOO_LARGE), ("keys", Reason.TOO_LARGE)}


def test_files_of_which_the_server_says_nothing_are_known_by_their_names_and_first_bytes(site, tmp_path) -> None:
    "By the address, by `Content-Disposition`, by the bytes; an archive and a table that is none are refused, the former before its body."
    write_pdf(tmp_path / "manual.pdf", "The fuse is 16 A.")
    write_pdf(tmp_path / "other.pdf", "The bulb is 5 W.")
    letter, sheet = docx.Document(), Workbook()
    letter.add_paragraph("The key hangs in the cellar.")
    letter.save(tmp_path / "letter.docx")
    sheet.active.append(["room", "key"])
    sheet.active.append(["cellar", "K7"])
    sheet.save(tmp_path / "keys.xlsx")
    read = lambda name: (tmp_path / name).read_bytes()
    unsaid = {
        "/manual.pdf": read("manual.pdf"),
        "/letter.docx": read("letter.docx"),
        "/rules.md": b"# Rules\n\n* Sweep the *stairs*.",
        "/steps.rst": b"Steps\n=====\n\n#. Sweep.\n\n#. Mop.",
        "/prices.csv": b"thing,price\nfuse,3 euros\n",
        "/keys": read("keys.xlsx"),
        "/get": read("other.pdf"),
        "/all.zip": b"PK\x03\x04",
        "/no.csv": bytes(900),
        "/unknown": b"\x01\x02",
    }
    kinds = [
        "application/octet-stream",
        "",
        "binary/octet-stream",
        "text/plain; charset=utf-8",
        "application/vnd.ms-excel",
        "application/zip",
    ]
    kinds += ["application/x-download", *["application/octet-stream"] * 3]
    pages: dict[str, str | Response] = {"/": "<p>" + " ".join(f"<a href='{name}'>{name}</a>" for name in unsaid) + "</p>"}
    pages |= {name: Response(body=body, content_type=kind) for (name, body), kind in zip(unsaid.items(), kinds, strict=True)}
    pages["/named"] = Response(
        body=b"thing,price\nbulb,2 euros\n",
        content_type="application/octet-stream",
        headers={"Content-Disposition": "attachment; filename=bulbs.csv"},
    )
    pages["/"] = f"{pages['/']}<a href='/named'>bulbs</a>"
    server = site(pages_handler(pages))
    for _ in range(2):
        with fetcher_for(server, cache_path=tmp_path / "pages.sqlite") as fetcher:
            steps = [step for step in crawl(server.url, fetcher)]
        texts = {step.url.removeprefix(server.url): step.outcome.text for step in steps if isinstance(step.outcome, Document)}
        assert (texts["/manual.pdf"], texts["/get"]) == ("The fuse is 16 A.", "The bulb is 5 W.")
        assert texts["/letter.docx"] == "The key hangs in the cellar."
        assert (texts["/rules.md"], texts["/steps.rst"]) == ("* Sweep the stairs.", "1. Sweep.\n\n2. Mop.")
        assert (texts["/prices.csv"], texts["/named"], texts["/keys"]) == (
            *("thing: fuse; price: 3 euros", "thing: bulb; price: 2 euros", "room: cellar; key: K7"),
        )
        failures = {step.url.removeprefix(server.url): step.outcome.reason for step in steps if isinstance(step.outcome, FetchFailure)}
        assert failures == dict.fromkeys(("/no.csv", "/unknown"), Reason.CONTENT_TYPE)


def test_a_crawl_ends(site) -> None:
    def endless(request: Request) -> Response:
        if request.path == "/robots.txt": return Response(404)
        number = int(request.query.get("n", "0"))
        links = "".join(f"<a href='/?n={number * 3 + i}'>more</a> <a href='/{number}/{i}/'>deeper</a> " for i in (1, 2, 3))
        return Response(body=f"<title>Page {request.path} {number}</title><p>Text number {number} of {request.path} {links}</p>")

    server = site(endless)
    steps = list(crawl(server.url, fetcher_for(server), config=CrawlConfig(max_pages=40, max_queries=10)))
    assert sum(isinstance(step.outcome, Document) for step in steps) == 40
    assert len({step.url for step in steps if "?" in step.url}) <= 10


def test_a_site_whose_pages_differ_in_their_queries_is_read(site) -> None:
    def wiki(request: Request) -> Response:
        if request.path == "/":
            return Response(body="<p>" + " ".join(f"<a href='/index.php?title=Page_{i}'>Page {i}</a>" for i in range(30)))
        if request.path == "/index.php":
            return Response(body=f"<title>{request.query['title']}</title><p>What {request.query['title']} tells.")
        return Response(404)

    server = site(wiki)
    corpus = open_site(server.url, WordIndex, fetcher=fetcher_for(server), max_crawl_pages=100)
    list(corpus.prepare())
    assert len(corpus.documents) == 31 and not corpus.failures


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(404), "http_status"),
        (Response(body=b"x", content_type="image/png"), "content_type"),
        (Response(301, headers={"Location": "http://10.0.0.1/"}), "private_address"),
    ],
)
def test_a_start_page_that_fails_is_an_error_with_its_reason(site, response: Response, reason: str) -> None:
    server = site(pages_handler({"/": response}))
    with pytest.raises(SearchError, match=reason):
        open_site(server.url, WordIndex, fetcher=fetcher_for(server)).search("x")


def test_a_private_site_must_be_opened_by_name(site) -> None:
    server = site(pages_handler({"/": "An intranet page about lamps."}))
    with pytest.raises(SearchError, match=f"private_address.*--allow_hosts 127.0.0.1:{server.port}"):
        load_search(f"site:{server.url}", make_index=WordIndex, fetcher=Fetcher()).search("lamps")
    opened = load_search(
        f"site:127.0.0.1:{server.port}",
        make_index=WordIndex,
        fetcher=Fetcher(),
        allow_hosts=(f"127.0.0.1:{server.port}",),
        max_crawl_pages=5,
    )
    assert opened.search("lamps")[0].title == "start"


def test_listings_lead_a_crawl_but_are_not_ranked(site) -> None:
    names = [f"Lamp number {i}" for i in range(12)]
    pages: dict[str, str | Response] = {
        "/": "</p><nav><ul>" + "".join(f"<li><a href=/{i}>{name}</a></li>" for i, name in enumerate(names)) + "</ul></nav><p>"
    }
    pages |= {f"/{i}": f"{name} glows in its own way in the hall." for i, name in enumerate(names)}
    server = site(pages_handler(pages))
    corpus = open_site(server.url, WordIndex, fetcher=fetcher_for(server))
    results = corpus.search("Lamp number", 20)
    assert len(results) == 12 and server.url + "/" not in [result.url for result in results]
    assert isinstance(corpus.read([server.url + "/"])[0], Document)
    assert not is_listing(Document("u", "t", "A long text. " * 50, links=tuple()))
    contents = "".join(f"<li><a href=/{i}>{name}</a>, which glows as no other one in the hall does</li>" for i, name in enumerate(names))
    assert is_listing(extract(f"<h1>Lamps</h1><ol>{contents}</ol>", "http://site/"))


def test_the_demo_site_is_crawled_and_answers() -> None:
    corpus = open_demo(WordIndex, fetcher=Fetcher())
    steps = list(corpus.prepare())
    assert steps[-1].num_pages >= 60 and list(corpus.prepare()) == []
    texts = [document.text for document in corpus.documents.values()]
    assert not any("quillwort" in text for text in texts), "robots.txt forbids that page"
    planted = [re.sub("<[^>]*>", "", html) for html in HIDDEN_TEXT.values()]
    assert planted and not any(words in text for text in texts for words in (*planted, "cookie"))
    questions = [question for question in demo_questions("train") if question.kind == "single_hop"][:40]
    hits = [bool({result.title for result in corpus.search(question.question)} & set(question.gold_pages)) for question in questions]
    assert sum(hits) >= 0.8 * len(hits)
    titles = corpus.titles()
    assert all(title in titles for question in questions for title in question.gold_pages)
    assert corpus.lookup("renewable energy").url.endswith("/wiki/renewable-energy")


# ------------------------------------------------------------------ APIs

QUICK = ApiConfig(timeout=1.0, backoff=0.01, max_wait=0.2, cool_down=30.0)


def wikipedia_for(server: Server, config: ApiConfig = QUICK) -> Wikipedia:
    return Wikipedia(fetcher_for(server), api_url=server.url + "/w/api.php", config=config)


def as_json(value: object) -> Response:
    return Response(body=json.dumps(value), content_type="application/json")


def test_wikipedia_searches_and_reads(site) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        if request.path == "/w/api.php" and "titles" in request.query:
            return as_json(
                {"query": {"pages": [{"title": "Joseph Swan"} if "Swan" in request.query["titles"] else {"title": "X", "missing": True}]}}
            )
        if request.path == "/w/api.php":
            return as_json(
                {
                    "query": {
                        "search": [{"title": "AC/DC lamp (n°1)?", "snippet": "<b>a</b> &lt;b&gt;"}, {"title": "Joseph Swan", "snippet": ""}]
                    }
                }
            )
        if request.path == "/robots.txt": return Response(404)
        return Response(body=f"<title>{request.path}</title><p>The page of {request.path}.</p>")

    wikipedia = wikipedia_for(site(handler))
    results = wikipedia.search("  who\nlit lamps ", 5)
    assert (
        seen[0].query["srsearch"] == "who lit lamps"
        and seen[0].query["list"] == "search"
        and seen[0].headers["user-agent"].startswith("lightbulb/")
    )
    assert (
        [result.title for result in results] == ["AC/DC lamp (n°1)?", "Joseph Swan"]
        and results[0].snippet == "a <b>"
        and results[0].score > results[1].score
    )
    documents = wikipedia.read([result.url for result in results])
    assert [document.title for document in documents] == ["/wiki/AC/DC_lamp_(n°1)?", "/wiki/Joseph_Swan"] and documents[
        0
    ].source == "wikipedia"
    assert wikipedia.lookup("Swan").title == "Joseph Swan" and wikipedia.lookup("Nobody|else") is None
    assert len(wikipedia.search("x", 1)) == 1


@pytest.mark.parametrize("path", ["/title/$1", "/index.php?title=$1"])
def test_articles_of_any_mediawiki_stand_where_it_says(site, path: str) -> None:
    asked: list[Request] = []

    def handler(request: Request) -> Response:
        asked.append(request)
        general = {"general": {"articlepath": path}} if request.query.get("meta") == "siteinfo" else {}
        return as_json({"query": {"search": [{"title": "Arc lamp", "snippet": ""}], "pages": [{"title": "Arc lamp"}], **general}})

    server = site(handler)
    wiki = wikipedia_for(server)
    assert [wiki.lookup("arc lamp").url, wiki.search("lamp")[0].url] == [server.url + path.replace("$1", "Arc_lamp")] * 2
    assert ["meta" in request.query for request in asked] == [True, False]


def test_an_empty_answer_is_an_empty_list(site) -> None:
    assert wikipedia_for(site(lambda _: as_json({"query": {"search": []}}))).search("qwertz") == []


FAILING = {
    "status 500": (Response(500), 3),
    "status 429": (Response(429, headers={"Retry-After": "0"}), 3),
    "long patience": (Response(429, headers={"Retry-After": "3600"}), 1),
    "status 404": (Response(404), 1),
    "not JSON": (Response(body=b"<html>maintenance</html>"), 1),
    "empty": (Response(body=b""), 1),
    "a list": (as_json([1]), 1),
    "no query": (as_json({"batchcomplete": True}), 1),
    "an error": (as_json({"error": {"code": "ratelimited", "info": "slow down"}}), 1),
    "wrong form": (as_json({"query": {"search": {"a": 1}}}), 1),
    "too long": (Response(body=b"[" * 5_000_000), 1),
    "slow": (Response(body=b"{}", delay=3.0), 3),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_api_is_an_error_and_never_an_empty_list(site, name: str) -> None:
    response, attempts = FAILING[name]
    asked: list[str] = []

    def handler(request: Request) -> Response:
        asked.append(request.path)
        return response

    wikipedia = wikipedia_for(site(handler), replace(QUICK, timeout=0.5))
    with pytest.raises(SearchError, match="^wikipedia") as caught:
        wikipedia.search("x")
    assert len(asked) == attempts and "\n" not in str(caught.value)


def test_a_service_that_recovers_is_used_again(site) -> None:
    answers = iter([Response(503), as_json({"query": {"search": [{"title": "A", "snippet": ""}]}})])
    assert wikipedia_for(site(lambda _: next(answers))).search("x")[0].title == "A"


def test_the_breaker_answers_at_once_and_says_when(site) -> None:
    asked: list[str] = []

    def handler(request: Request) -> Response:
        asked.append(request.path)
        return Response(500)

    wikipedia = wikipedia_for(site(handler), replace(QUICK, retries=0))
    for _ in range(3):
        with pytest.raises(SearchError, match="status 500"):
            wikipedia.search("x")
    begin = time.monotonic()
    with pytest.raises(SearchError, match=r"3 times in a row and is left alone for (29|30) more seconds"):
        wikipedia.search("x")
    assert len(asked) == 3 and time.monotonic() - begin < 0.2


def raw_server(answer: bytes, pause: float = 0.0) -> tuple[str, threading.Thread, socket.socket]:
    listening = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    for i in range(len(answer)):
                        connection.sendall(answer[i : i + 1] if pause else answer)
                        if not pause: break
                        time.sleep(pause)
                except OSError:
                    pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}", thread, listening


@pytest.mark.parametrize(
    ("answer", "pause", "reason"),
    [
        (b"", 0.0, "closed the connection"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"query"', 0.0, "broke off|not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000, 0.02, "took longer"),
    ],
)
def test_broken_connections_are_errors(answer: bytes, pause: float, reason: str) -> None:
    url, _, listening = raw_server(answer, pause)
    try:
        engine = SearXNG(url, Fetcher(), config=ApiConfig(timeout=1.5, retries=1, backoff=0.01))
        begin = time.monotonic()
        with pytest.raises(SearchError, match=reason):
            engine.search("x")
        assert time.monotonic() - begin < 12
    finally:
        listening.close()


def test_what_is_not_there_fails_at_once_and_names_the_offline_choice() -> None:
    begin = time.monotonic()
    with pytest.raises(SearchError, match=r"cannot be reached.*offline, use demo or folder:<path>"):
        SearXNG("http://127.0.0.1:1", Fetcher()).search("x")
    with pytest.raises(SearchError, match="wikipedia cannot be reached.*offline"):
        Wikipedia(Fetcher()).search("x")
    assert time.monotonic() - begin < 2


def test_searxng_results_are_cleaned_and_private_pages_stay_closed(site) -> None:
    def handler(request: Request) -> Response:
        if request.path == "/robots.txt": return Response(404)
        if request.path != "/search": return Response(body=b"<p>an internal page")
        assert request.query["format"] == "json"
        if request.query["q"] == "forbidden": return Response(403)
        if request.query["q"] == "silent": return as_json({"results": [], "unresponsive_engines": [["x", "timeout"]]})
        if request.query["q"] == "none": return as_json({"results": [], "unresponsive_engines": []})
        return as_json(
            {
                "results": [
                    {"url": "https://a.example/", "title": "A", "content": "first"},
                    {"url": "https://a.example/", "title": "A again"},
                    {"url": "ftp://b/"},
                    {"url": "https://[HOST]/x"},
                    "bad",
                    {"url": f"http://127.0.0.1:{server.port}/admin", "title": None},
                ]
            }
        )

    server = site(handler)
    engine = SearXNG(server.url + "/search", Fetcher(), config=QUICK)
    results = engine.search("lamps")
    assert [(result.url, result.title) for result in results] == [
        ("https://a.example/", "A"),
        (f"http://127.0.0.1:{server.port}/admin",) * 2,
    ]
    outcome = engine.read([results[1].url])[0]
    assert isinstance(outcome, FetchFailure) and outcome.reason == "private_address"
    assert engine.search("none") == [] and engine.lookup("a").url == "https://a.example/"
    with pytest.raises(SearchError, match="engines failed"):
        engine.search("silent")
    with pytest.raises(SearchError, match="search.formats"):
        engine.search("forbidden")


# ------------------------------------------------------------------ together


class Fixed:
    "A back end with given results, or one that is down."

    def __init__(self, name: str, urls: list[str] | None) -> None:
        self.name, self.urls = name, urls

    def search(self, query: str, num_results: int = 10) -> list[SearchResult]:
        if self.urls is None: raise SearchError(f"{self.name} is down")
        return [SearchResult(url, url, "", 1 / (i + 1)) for i, url in enumerate(self.urls[:num_results])]

    def read(self, urls: Iterable[str]) -> list[Document | FetchFailure]:
        return [Document(url, self.name, "text") for url in urls]


def test_members_are_fused_and_failures_named() -> None:
    both = Combined(
        [Fixed("one", ["http://x.org/a", "http://x.org/b"]), Fixed("two", ["http://X.org/b#part", "http://x.org/c"]), Fixed("three", None)]
    )
    assert isinstance(both, SearchBackend)
    results = both.search("x")
    assert [result.url for result in results] == ["http://x.org/b", "http://x.org/a", "http://x.org/c"]
    assert both.failures == {"three": "three is down"}
    documents = both.read(["http://x.org/c", "http://x.org/a"])
    assert [document.title for document in documents] == ["two", "one"]
    assert Combined([Fixed("one", []), Fixed("three", None)]).search("x") == []
    with pytest.raises(SearchError, match="every search back end failed: three is down; four is down"):
        Combined([Fixed("three", None), Fixed("four", None)]).search("x")


@given(st.lists(st.lists(st.integers(0, 12), unique=True, max_size=8), min_size=1, max_size=4))
def test_fusion_equals_its_formula(rankings: list[list[int]]) -> None:
    both = Combined([Fixed(str(i), [f"http://x.org/{n}" for n in ranking]) for i, ranking in enumerate(rankings)])
    results = both.search("x", 50)
    expected = {
        f"http://x.org/{n}": sum(1 / (61 + ranking.index(n)) for ranking in rankings if n in ranking)
        for n in {n for ranking in rankings for n in ranking}
    }
    assert {result.url: pytest.approx(result.score) for result in results} == expected
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)


def test_specifications(notes: Path) -> None:
    both = load_search(f" folder:{notes} , demo", make_index=WordIndex, fetcher=Fetcher())
    assert isinstance(both, Combined) and [member.name for member in both.members] == [f"folder:{notes}", "demo"]
    results = both.search("Swan Gateshead", 6)
    assert {result.url.partition(":")[0] for result in results} == {"file", "http"}
    assert all(isinstance(document, Document) for document in both.read([result.url for result in results]))
    comma = notes.parent / "a, b"
    notes.rename(comma)
    assert load_search(f"folder:{comma}", make_index=WordIndex, fetcher=Fetcher()).search("Gateshead")
    assert load_search("wikipedia:de", make_index=WordIndex, fetcher=Fetcher()).name == "wikipedia:de"


@pytest.mark.parametrize("spec", ["", " ", "google", "folder:", "site:", "searxng:", "demo:x", "wikipedia:", "demo,google"])
def test_bad_specifications_are_value_errors(spec: str) -> None:
    with pytest.raises(ValueError, match="search must be demo, folder:<path>"):
        load_search(spec, make_index=WordIndex, fetcher=Fetcher())


def test_hosts_that_are_no_tuple_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="allow_hosts must be a tuple, got 'localhost'"):
        load_search("site:localhost:9", make_index=WordIndex, fetcher=Fetcher(), allow_hosts="localhost")


@pytest.mark.parametrize(("query", "num_results"), [("", 5), ("  \n", 5), ("x", 0), (None, 1)])
def test_bad_queries_are_value_errors(query, num_results: int) -> None:
    with pytest.raises(ValueError, match="query must|num_results must"):
        Wikipedia(Fetcher()).search(query, num_results)


def test_the_default_fetcher_keeps_its_pages_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIGHTBULB_CACHE", str(tmp_path))
    load_search("wikipedia", make_index=WordIndex)
    assert list(tmp_path.rglob("pages.sqlite"))
    (tmp_path / "note.txt").write_text("A lamp.")
    monkeypatch.setenv("LIGHTBULB_CACHE", str(tmp_path / "note.txt" / "nowhere"))
    assert load_search(f"folder:{tmp_path}", make_index=WordIndex).search("lamp"), "a folder needs no cache"


def test_passages_are_grouped_by_page() -> None:
    passages = [Passage("u", "U", 0, 1, "a", 3.0), Passage("v", "V", 0, 1, "b", 2.0), Passage("u", "U", 5, 6, "c", 1.0)]
    results = group_passages(passages, 10)
    assert [(result.url, result.score, len(result.passages)) for result in results] == [("u", 3.0, 2), ("v", 2.0, 1)]
    assert title_key("Élan  (lamp)!") == "elan lamp"


def test_list_files_is_sorted_and_bounded(notes: Path) -> None:
    names = [path.name for path in list_files(notes)]
    assert names == ["binary.txt", "broken.pdf", "empty.txt", "swan.txt", "tungsten.pdf", "arc.md", "neon.html"]
    assert len(list_files(notes, max_files=2)) == 2


# ------------------------------------------------------------------ whom an API client talks to


def test_a_redirect_to_another_server_is_not_followed(site) -> None:
    asked: list[str] = []

    def inside(request: Request) -> Response:
        asked.append(request.path)
        return as_json({"results": [{"url": "https://a.example/", "title": "secret"}]})

    private = site(inside)
    engine = SearXNG(site(lambda _: Response(302, headers={"Location": private.url + "/search"})).url, Fetcher(), config=QUICK)
    with pytest.raises(SearchError, match="another server"):
        engine.search("x")
    assert asked == []


def test_a_redirect_on_the_same_server_is_followed_and_a_loop_ends(site) -> None:
    def moved(request: Request) -> Response:
        if request.path == "/search": return Response(301, headers={"Location": "/new/search?q=x&format=json"})
        return as_json({"results": [{"url": "https://a.example/", "title": "A"}]})

    assert SearXNG(site(moved).url, Fetcher(), config=QUICK).search("x")[0].title == "A"
    loop = site(lambda request: Response(301, headers={"Location": request.path}))
    with pytest.raises(SearchError, match="redirects for ever"):
        SearXNG(loop.url, Fetcher(), config=QUICK).search("x")


def test_proxies_and_passwords_of_the_environment_are_not_used(site, monkeypatch, tmp_path: Path) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        return as_json({"results": []})

    server, proxy = site(handler), site(lambda _: Response(500))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert SearXNG(server.url, Fetcher(), config=QUICK).search("x") == []
    assert len(seen) == 1 and "authorization" not in seen[0].headers


def test_what_a_folder_holds_beside_readable_files_is_told_once(tmp_path):
    (tmp_path / "stock.csv").write_text("Lamp,Price\nneon tube,55\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing follows")
    for name in ("letter.doc", "photo one.png", "photo two.PNG", "LICENSE"):
        (tmp_path / name).write_bytes(b"\0")
    lines: list[str] = []
    corpus = load_search(f"folder:{tmp_path}", make_index=WordIndex)
    _prepare_search(corpus, lines.append)
    assert [document.text for document in corpus.documents.values()] == ["Lamp: neon tube; Price: 55"]
    assert lines[1].startswith("left out: broken.pdf (not a readable PDF") and lines[1].endswith("), 1 .doc, 2 .png, 1 without a suffix")
    assert lines[2] == "to have them read, save .doc as .docx"
