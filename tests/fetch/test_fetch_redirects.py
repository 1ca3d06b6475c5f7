"""Redirects are followed under the same rules; only types on the list are pages, in any character set."""

from __future__ import annotations

import pytest
from fetching import endless, reason_of
from raw_server import RawServer

from lightbulb.web.reactor import Request, Response
from lightbulb.web.rules import Reason

# Redirects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_named(status, make_fetcher, serving):
    server = serving(
        lambda request: (
            Response(status, headers={"location": "new?b=1&a=2#part"})
            if request.path == "/old"
            else Response(body="new")
            if request.path == "/new"
            else None
        )
    )
    page = make_fetcher().run(server.url + "/old")
    assert (page.url, page.final_url, page.html) == (server.url + "/old", server.url + "/new?a=2&b=1", "new")


def test_redirects_have_a_cap(make_fetcher, serving):
    hits: list[str] = []

    def hop(request: Request):
        if request.path == "/robots.txt": return None
        hits.append(request.path)
        number = int(request.path.strip("/") or 0)
        return Response(body="arrived") if number == 5 else Response(302, headers={"location": f"/{number + 1}"})

    server = serving(hop)
    assert make_fetcher(max_redirects=5).run(server.url).html == "arrived"
    hits.clear()
    assert reason_of(make_fetcher(max_redirects=4).run(server.url)) == Reason.REDIRECTS
    assert len(hits) == 5
    assert reason_of(make_fetcher(max_redirects=0).run(server.url)) == Reason.REDIRECTS


def test_redirect_loops_end(make_fetcher, serving):
    hits: list[str] = []

    def hop(request: Request):
        if request.path == "/robots.txt": return None
        hits.append(request.path)
        return Response(302, headers={"location": "/b" if request.path == "/a" else "/a#again"})

    assert reason_of(make_fetcher(max_redirects=50).run(serving(hop).url + "/a")) == Reason.REDIRECTS
    assert hits == ["/a", "/b"]


# Types and texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "ok"),
    [
        ("text/html", b"<p>", True),
        ("TEXT/HTML; charset=utf-8", b"<p>", True),
        ("application/xhtml+xml", b"<p>", True),
        ("text/plain", b"x", True),
        ("", b"<p>no type", True),
        ("", b"\x89PNG\r\n\x1a\n\0\0\0", False),
        ("image/png", b"x", False),
        ("application/pdf", b"%PDF", True),
        ("application/zip", b"PK", False),
        ("application/octet-stream", b"x", False),
        ("text/html-not", b"x", False),
        ("video/mp4", b"x", False),
    ],
)
def test_only_types_on_the_list_are_pages(content_type, body, ok, make_fetcher, serving):
    server = serving(lambda request: Response(body=body, content_type=content_type) if request.path == "/" else None)
    result = make_fetcher().run(server.url)
    if ok:
        assert (result.html, result.content_type) == (body.decode(), content_type)
    else:
        assert reason_of(result) == Reason.CONTENT_TYPE


def test_the_body_of_a_wrong_type_is_not_read(make_fetcher):
    with RawServer(endless(bytes(65_536), b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")) as server:
        assert reason_of(make_fetcher().run(server.url)) == Reason.CONTENT_TYPE
        assert server.hung_up.wait(3)


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("Glühlampe".encode(), "text/html; charset=utf-8", "Glühlampe"),
        ("Glühlampe".encode("latin-1"), "text/html; charset=ISO-8859-1", "Glühlampe"),
        ("лампа".encode("koi8-r"), "text/html; charset=koi8-r", "лампа"),
        ("電球".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "電球"),
        ("<meta charset=gb2312>灯".encode("gb18030"), "text/html", "<meta charset=gb2312>灯"),
        ("Glühlampe".encode(), "text/html", "Glühlampe"),
        ("Glühlampe – 60 W".encode("cp1252"), "text/html", "Glühlampe – 60 W"),
        ("Glühlampe".encode("utf-16"), "text/html", "Glühlampe"),
        ("Glühlampe".encode("utf-8-sig"), "text/html; charset=latin-1", "Glühlampe"),
        (b"a\xffb", "text/html; charset=utf-8", "a\ufffdb"),
        ("Glühlampe für die Brücke: 5 €. ".encode() * 2 + b"\xff", "text/html", "Glühlampe für die Brücke: 5 €. " * 2 + "\ufffd"),
        ("Glühlampe, Brücke, Öl: \ufffd".encode(), "text/html", "Glühlampe, Brücke, Öl: \ufffd"),
        ("# Glühlampe\n<meta charset=latin-1>".encode(), "text/plain", "# Glühlampe\n<meta charset=latin-1>"),
        (b"a+ADw-b", "text/html; charset=utf-7", "a+ADw-b"),
        (b"lamp-", "text/html; charset=punycode", "lamp-"),
        (b"lamp", "text/html; charset=hex", "lamp"),
    ],
)
def test_charsets_are_found(body, content_type, text, make_fetcher, serving):
    server = serving(lambda request: Response(body=body, content_type=content_type) if request.path == "/" else None)
    assert make_fetcher().run(server.url).html == text
