"""robots.txt is obeyed, and one that cannot be read forbids everything."""

from __future__ import annotations

import threading
import time

import pytest
from fetching import OK, endless, reason_of, robots_site
from raw_server import RawServer, send

from lightbulb.web.fetch import FetchConfig, Page
from lightbulb.web.reactor import Response
from lightbulb.web.rules import Reason


@pytest.mark.parametrize(
    ("robots", "path", "allowed"),
    [
        ("User-agent: *\nDisallow: /", "/", False),
        ("User-agent: *\nDisallow: /private", "/private/diary", False),
        ("User-agent: *\nDisallow: /private", "/public", True),
        ("User-agent: lightbulb\nDisallow: /", "/", False),
        ("User-agent: other\nDisallow: /", "/", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: lightbulb\nAllow: /", "/", True),
        ("User-agent: *\nDisallow: /*.pdf$", "/paper.pdf", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("\ufeffUser-agent: *\nDisallow: /", "/", False),
        ("User-agent: *\nDisallow: /private", "/x/../private", False),
        ("User-agent: *\nDisallow: /private", "/%70rivate", False),
        ("User-agent: *\nDisallow: /*?print=", "/page?print=1", False),
        ("", "/", True),
        ("<html>not robots</html>", "/", True),
        (Response(404), "/", True),
        (Response(403), "/", True),
        (Response(410), "/", True),
    ],
)
def test_robots_txt_is_obeyed(robots, path, allowed, make_fetcher, serving):
    handle, hits = robots_site(robots)
    result = make_fetcher().run(serving(handle).url + path)
    if allowed:
        assert result.html == "a page"
    else:
        assert reason_of(result) == Reason.ROBOTS
        assert hits == ["/robots.txt"], "a forbidden page must not be asked for"


@pytest.mark.parametrize("robots", [Response(500), Response(503), Response(429), Response(502, "x" * 1000), Response(body=b"x" * 600_000)])
def test_an_unreachable_robots_txt_forbids_everything(robots, make_fetcher, serving):
    handle, hits = robots_site(robots)
    fetcher, server = make_fetcher(), serving(handle)
    assert reason_of(fetcher.run(server.url)) == Reason.ROBOTS_UNREACHABLE
    assert reason_of(fetcher.run(server.url + "/other")) == Reason.ROBOTS_UNREACHABLE
    assert hits == ["/robots.txt"], "the failure is remembered for a while"


@pytest.mark.parametrize("talk", [send(), send(then="wait"), send(b"garbage\r\n"), endless(b"X: " + b"x" * 999 + b"\r\n", OK)])
def test_a_robots_txt_that_fails_forbids_everything(talk, make_fetcher):
    with RawServer(talk, robots=False) as server:
        assert reason_of(make_fetcher(read_timeout=0.2).run(server.url)) == Reason.ROBOTS_UNREACHABLE
        assert server.hits == []


def test_a_robots_txt_that_redirects_is_followed(make_fetcher, serving):
    elsewhere, _ = robots_site("User-agent: *\nDisallow: /private")
    there = serving(elsewhere)
    handle, hits = robots_site(Response(301, headers={"location": there.url + "/robots.txt"}))
    fetcher, server = make_fetcher(), serving(handle)
    assert reason_of(fetcher.run(server.url + "/private")) == Reason.ROBOTS
    assert fetcher.run(server.url + "/public").html == "a page"


@pytest.mark.parametrize("location", ["/robots.txt", "http://localhost:1/robots.txt", "http://169.254.169.254/", "ftp://127.0.0.1/"])
def test_a_robots_txt_that_redirects_nowhere_good_forbids_everything(location, make_fetcher, serving):
    handle, hits = robots_site(Response(302, headers={"location": location}))
    assert reason_of(make_fetcher().run(serving(handle).url)) == Reason.ROBOTS_UNREACHABLE
    assert set(hits) == {"/robots.txt"}


def test_robots_txt_is_asked_for_once_and_again_after_its_age(make_fetcher, serving):
    handle, hits = robots_site("User-agent: *\nDisallow: /private")
    fetcher, server = make_fetcher(robots_max_age=1.5), serving(handle)
    assert len([page for page in fetcher.run_many(f"{server.url}/{i}" for i in range(20)) if isinstance(page, Page)]) == 20
    assert hits.count("/robots.txt") == 1
    time.sleep(1.6)
    fetcher.run(server.url)
    assert hits.count("/robots.txt") == 2
    with pytest.raises(ValueError, match="24 h"):
        FetchConfig(robots_max_age=86_401)


def test_a_redirect_is_checked_against_the_robots_txt_of_its_new_host(make_fetcher, serving):
    handle, hits = robots_site("User-agent: *\nDisallow: /")
    forbidden = serving(handle)
    server = serving(lambda request: Response(302, headers={"location": forbidden.url + "/page"}) if request.path == "/" else None)
    assert reason_of(make_fetcher().run(server.url)) == Reason.ROBOTS
    assert hits == ["/robots.txt"]


def test_a_robots_txt_of_many_groups_cannot_stop_us(make_fetcher, serving):
    groups = "".join(f"User-agent: robot{i}\n" for i in range(12_000)) + "Disallow: /x\n" * 12_000
    handle, _ = robots_site(groups)
    began = time.perf_counter()
    assert reason_of(make_fetcher().run(serving(handle).url)) == Reason.ROBOTS_UNREACHABLE
    assert time.perf_counter() - began < 4


def test_a_cancelled_fetch_leaves_the_others_their_robots_txt(make_fetcher, serving):
    def handle(request):
        return Response(404, delay=0.4) if request.path == "/robots.txt" else Response(body="a page")

    fetcher, server, results = make_fetcher(), serving(handle), []
    waiting = threading.Thread(target=lambda: results.append(fetcher.run(server.url)))
    assert reason_of(fetcher.run(server.url, timeout=0.1)) == Reason.CANCELLED
    waiting.start()
    assert reason_of(fetcher.run(server.url, timeout=0.1)) == Reason.CANCELLED
    waiting.join()
    assert results[0].html == "a page"


def test_our_own_delay_is_waited_for_without_patience_for_servers(make_fetcher, serving):
    handle, _ = robots_site("User-agent: *\nDisallow:")
    fetcher, server = make_fetcher(delay=0.05, max_wait=0.0, max_per_host=1), serving(handle)
    assert [type(result) for result in fetcher.run_many([f"{server.url}/{i}" for i in range(3)])] == [Page] * 3


def test_one_name_where_a_tuple_of_them_belongs_is_refused():
    for name in ("allow_hosts", "content_types"):
        with pytest.raises(ValueError, match=f"{name} must be a tuple, got 'text/html'"):
            FetchConfig(**{name: "text/html"})
