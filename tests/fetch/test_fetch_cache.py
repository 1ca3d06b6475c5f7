"""What may be kept is kept, asked about when stale, and never a way around a rule."""

from __future__ import annotations

import time

import pytest
from fetching import NOT_FOUND, reason_of

from lightbulb.core.errors import StoreError
from lightbulb.web.fetch import FetchConfig, Fetcher, Page
from lightbulb.web.reactor import Request, Response
from lightbulb.web.rules import Reason


def caching_site(**headers: str):
    "A page with a version, and the conditional headers that came with each request for it."
    asked: list[dict[str, str]] = []
    version = ["one"]

    def handle(request: Request):
        if request.path == "/robots.txt": return NOT_FOUND
        asked.append({name: value for name, value in request.headers.items() if name.startswith("if-")})
        fields = {name.replace("_", "-"): value.format(version=version[0]) for name, value in headers.items()}
        same = request.headers.get("if-none-match") == fields.get("etag", 0) or request.headers.get("if-modified-since") == fields.get(
            "last-modified", 0
        )
        return Response(304, headers=fields) if same else Response(body=version[0], headers=fields)

    return handle, asked, version


def test_a_fresh_page_costs_no_request_even_after_a_restart(make_fetcher, serving, tmp_path):
    handle, asked, _ = caching_site(cache_control="max-age=600")
    server, path = serving(handle), tmp_path / "cache" / "pages.sqlite"
    first = make_fetcher(cache_path=path)
    pages = [first.run(server.url), first.run(server.url + "#part")]
    first.close()
    pages.append(make_fetcher(cache_path=path).run(server.url))
    assert [(page.html, page.from_cache) for page in pages] == [("one", False), ("one", True), ("one", True)]
    assert len({page.fetched_at for page in pages}) == 1 and len(asked) == 1


@pytest.mark.parametrize(
    ("headers", "question"),
    [
        (dict(etag='"{version}"', cache_control="no-cache"), {"if-none-match": '"one"'}),
        (dict(etag='W/"{version}"', cache_control="max-age=0"), {"if-none-match": 'W/"one"'}),
        (dict(last_modified="Sun, 09 Sep 2001 01:46:40 GMT", expires="0"), {"if-modified-since": "Sun, 09 Sep 2001 01:46:40 GMT"}),
    ],
)
def test_a_stale_page_is_asked_about(headers, question, make_fetcher, serving, tmp_path):
    handle, asked, version = caching_site(**headers)
    server, fetcher = serving(handle), make_fetcher(cache_path=tmp_path / "pages.sqlite")
    first, second = fetcher.run(server.url), fetcher.run(server.url)
    assert asked == [{}, question]
    assert (first.from_cache, second.from_cache, second.html, second.status) == (
        False,
        True,
        "one",
        200,
    ) and second.fetched_at > first.fetched_at
    if "etag" in headers:
        version[0] = "two"
        third = fetcher.run(server.url)
        assert (third.html, third.from_cache) == ("two", False)


@pytest.mark.parametrize(
    "headers", [dict(cache_control="no-store"), dict(cache_control="private, max-age=600"), dict(cache_control="max-age=600", vary="*")]
)
def test_what_must_not_be_kept_is_not(headers, make_fetcher, serving, tmp_path):
    handle, asked, _ = caching_site(etag='"1"', **headers)
    server, fetcher = serving(handle), make_fetcher(cache_path=tmp_path / "pages.sqlite")
    for _ in range(2):
        assert not fetcher.run(server.url).from_cache
    assert asked == [{}, {}]
    fetcher.close()
    assert b"one" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_pages_that_do_not_say_stay_fresh_for_the_default_age(make_fetcher, serving, tmp_path):
    handle, asked, _ = caching_site()
    server = serving(handle)
    assert [make_fetcher(cache_path=tmp_path / "a", max_age=60).run(server.url).from_cache for _ in range(1)] == [False]
    fetcher = make_fetcher(cache_path=tmp_path / "b", max_age=1.0)
    assert [fetcher.run(server.url).from_cache, fetcher.run(server.url).from_cache] == [False, True]
    time.sleep(1.1)
    assert not fetcher.run(server.url).from_cache


def test_a_shared_cache_is_no_way_around_an_allow_list(make_fetcher, serving, tmp_path):
    handle, asked, _ = caching_site(cache_control="max-age=600")
    server, path = serving(handle), tmp_path / "pages.sqlite"
    insider = make_fetcher(cache_path=path)
    assert insider.run(server.url).html == "one"
    insider.close()  # now it is on disk
    assert reason_of(make_fetcher(cache_path=path, allow_hosts=()).run(server.url)) == Reason.PRIVATE_ADDRESS
    assert make_fetcher(cache_path=path).run(server.url).from_cache


def test_the_cache_does_not_bypass_types_and_sizes(make_fetcher, serving, tmp_path):
    server, path = (
        serving(lambda request: Response(body="x" * 5000, content_type="text/plain") if request.path == "/" else None),
        tmp_path / "pages.sqlite",
    )
    first = make_fetcher(cache_path=path)
    assert isinstance(first.run(server.url), Page)
    first.close()
    assert reason_of(make_fetcher(cache_path=path, content_types=("text/html",)).run(server.url)) == Reason.CONTENT_TYPE
    assert reason_of(make_fetcher(cache_path=path, max_bytes=1000).run(server.url)) == Reason.TOO_LARGE


def test_errors_and_redirects_are_not_kept(make_fetcher, serving, tmp_path):
    answers = [Response(500, "no"), Response(301, headers={"location": "/b"}), Response(body="yes")]
    server = serving(lambda request: answers.pop(0) if request.path == "/a" else Response(body="moved") if request.path == "/b" else None)
    fetcher = make_fetcher(cache_path=tmp_path / "pages.sqlite")
    assert reason_of(fetcher.run(server.url + "/a")) == Reason.HTTP_STATUS
    assert [fetcher.run(server.url + "/a").html for _ in range(2)] == ["moved", "yes"]


def test_a_foreign_cache_file_is_refused_by_name(tmp_path):
    (tmp_path / "pages.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="pages.sqlite"):
        Fetcher(FetchConfig(cache_path=tmp_path / "pages.sqlite"))
