"""Servers that are slow, lie, leave, or ask for patience."""

from __future__ import annotations

import asyncio
import socket
import time
from email.utils import formatdate

import pytest
from fetching import NOT_FOUND, OK, Resolver, endless, reason_of, robots_site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import RawServer, send, wait_for_end

from lightbulb.web.fetch import FetchConfig, Fetcher, FetchFailure, Page
from lightbulb.web.reactor import Request, Response, serve
from lightbulb.web.rules import Reason

# Time -----------------------------------------------------------------------------------------------------------------

TIMES = dict(read_timeout=0.3, total_timeout=1.0)


@pytest.mark.parametrize(
    ("talk", "reason", "seconds"),
    [
        (send(then="wait"), Reason.READ_TIMEOUT, 0.3),
        (send(OK, then="wait"), Reason.READ_TIMEOUT, 0.3),
        (send(OK + b"Content-Length: 9\r\n\r\nla", then="wait"), Reason.READ_TIMEOUT, 0.3),
        (send(OK + b"\r\nla", then="wait"), Reason.READ_TIMEOUT, 0.3),
        (send(OK, *[b"X: y\r\n"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
        (send(*[bytes([byte]) for byte in OK * 3], pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
        (send(OK + b"Content-Length: 99\r\n\r\n", *[b"x"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
        (send(OK + b"\r\n", *[b"x"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
    ],
    ids=[
        "silent",
        "silent in the head",
        "silent in the body",
        "silent, length unknown",
        "trickling headers",
        "trickling bytes of the head",
        "trickling body",
        "trickling, length unknown",
    ],
)
def test_slow_servers_are_left(talk, reason, seconds, make_fetcher):
    with RawServer(talk) as server:
        fetcher = make_fetcher(**TIMES)
        fetcher.run(server.url + "/robots.txt")  # the connection and the rules are there
        began = time.perf_counter()
        assert reason_of(fetcher.run(server.url)) == reason
        assert seconds * 0.9 < time.perf_counter() - began < seconds + 3
        assert server.hung_up.wait(3)


def test_a_host_that_does_not_take_the_connection_is_left(make_fetcher):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # never accepted: after a few the kernel lets further ones wait
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.1)
        began = time.perf_counter()
        reason = reason_of(make_fetcher(connect_timeout=0.4, read_timeout=0.4).run(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        for filler in fillers:
            filler.close()
    assert reason in (Reason.CONNECT_TIMEOUT, Reason.ROBOTS_UNREACHABLE) and time.perf_counter() - began < 2


def test_nobody_listening_is_a_connect_failure(make_fetcher):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert reason_of(make_fetcher().run(f"http://127.0.0.1:{port}/")) == Reason.CONNECT


def test_redirects_share_one_total_timeout(make_fetcher, serving):
    def hop(request: Request):
        if request.path == "/robots.txt": return NOT_FOUND
        return Response(302, headers={"location": f"/{int(request.path[1:] or 0) + 1}"}, delay=0.3)

    began = time.perf_counter()
    assert reason_of(make_fetcher(total_timeout=0.8, max_redirects=50).run(serving(hop).url)) == Reason.TOTAL_TIMEOUT
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(("status", "location"), [(302, "/there"), (404, "")])
def test_a_body_that_nobody_wants_is_not_waited_for(status, location, make_fetcher):
    def talk(connection, path):
        if path == "/there":
            connection.sendall(OK + b"Content-Length: 5\r\n\r\nthere")
        else:
            connection.sendall(b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 99\r\n\r\nhalf" % (status, location.encode()))
            wait_for_end(connection)

    with RawServer(talk) as server:
        result = make_fetcher(read_timeout=5, total_timeout=10).run(server.url)
        assert server.hung_up.wait(3)
    assert result.html == "there" if location else (reason_of(result), result.status) == (Reason.HTTP_STATUS, 404)


# Servers that lie or leave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (send(), Reason.CONNECTION_LOST),
        (send(b"HTTP/1.1 20"), Reason.CONNECTION_LOST),
        (send(OK), Reason.CONNECTION_LOST),
        (send(OK + b"Content-Length: 100\r\n\r\nhalf"), Reason.CONNECTION_LOST),
        (send(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Reason.CONNECTION_LOST),
        (send(b"220 mail.example ESMTP\r\n"), Reason.PROTOCOL),
        (send(b"SSH-2.0-OpenSSH_9.2\r\n" * 3), Reason.PROTOCOL),
        (send(OK + b"no colon here\r\nX: y\r\n\r\n"), Reason.PROTOCOL),
        (send(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Reason.PROTOCOL),
        (send(OK + b"Content-Length: many\r\n\r\nab"), Reason.PROTOCOL),
        (send(OK + b"Transfer-Encoding: brotli\r\n\r\nab"), Reason.PROTOCOL),
        (send(OK + b"Transfer-Encoding: chunked\r\n\r\nnot hex\r\n"), Reason.PROTOCOL),
        (send(b"HTTP/1.1 abc OK\r\n\r\n"), Reason.PROTOCOL),
        (send(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Reason.HTTP_STATUS),
        (send(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason.HTTP_STATUS),
        (send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), Reason.HTTP_STATUS),
        (send(b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx"), Reason.HTTP_STATUS),
        (send(b"HTTP/1.1 999 What\r\nContent-Length: 1\r\n\r\nx"), Reason.HTTP_STATUS),
        (endless(b"x" * 10_000, b"HTTP/1.1 404 No\r\n\r\n"), Reason.HTTP_STATUS),
    ],
)
def test_servers_that_lie_or_leave_have_their_reason(talk, reason, make_fetcher):
    with RawServer(talk) as server:
        result = make_fetcher().run(server.url)
        assert reason_of(result) == reason
        if reason == Reason.HTTP_STATUS:
            assert result.status > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    answer=st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from(
                [
                    b"HTTP/1.1 ",
                    b"200 OK",
                    b"100 Continue",
                    b"302 F",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"Content-Length: ",
                    b"5",
                    b"-1",
                    b"Location: /x",
                    b"Transfer-Encoding: chunked",
                    b"Content-Encoding: gzip",
                    b"Content-Type: text/html",
                    b"\x1f\x8b\x08",
                    b"0\r\n",
                    b":",
                    b"\0",
                    b"ff",
                ]
            ),
            max_size=14,
        ).map(b"".join),
    )
)
def test_no_answer_whatsoever_gets_away(answer, fuzzing):
    server, fetcher, say = fuzzing
    say.answer = answer
    began = time.perf_counter()
    result = fetcher.run(server.url)
    assert isinstance(result, Page | FetchFailure) and time.perf_counter() - began < 6
    if isinstance(result, FetchFailure):
        assert result.reason != Reason.INTERNAL, result


@pytest.fixture(scope="module")
def fuzzing():
    class Say:
        answer = b""

    server = RawServer(lambda connection, path: connection.sendall(Say.answer))
    fetcher = Fetcher(FetchConfig(allow_hosts=("127.0.0.1",), delay=0, read_timeout=0.5, total_timeout=2))
    yield server, fetcher, Say
    fetcher.close()
    server.close()


# Patience -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_short_retry_after_is_waited_for(status, kind, make_fetcher, serving):
    times: list[float] = []

    def handle(request: Request):
        if request.path == "/robots.txt": return NOT_FOUND
        times.append(time.time())
        value = "1" if kind == "seconds" else formatdate(time.time() + 2, usegmt=True)
        return Response(body="at last") if len(times) > 1 else Response(status, headers={"retry-after": value})

    assert make_fetcher().run(serving(handle).url).html == "at last"
    assert 0.9 < times[1] - times[0] < 3.5


@pytest.mark.parametrize("value", ["3600", formatdate(time.time() + 3600, usegmt=True), "9" * 400])
def test_a_long_retry_after_fails_at_once_and_the_host_is_left_alone(value, make_fetcher, serving):
    hits: list[str] = []
    server = serving(
        lambda request: (
            hits.append(request.path) or (NOT_FOUND if request.path == "/robots.txt" else Response(429, headers={"retry-after": value}))
        )
    )
    fetcher, began = make_fetcher(), time.perf_counter()
    result = fetcher.run(server.url)
    assert (reason_of(result), result.status) == (Reason.RATE_LIMITED, 429)
    assert {reason_of(failure) for failure in fetcher.run_many(f"{server.url}/{i}" for i in range(300))} == {Reason.RATE_LIMITED}
    assert hits == ["/robots.txt", "/"] and time.perf_counter() - began < 6


def test_a_server_that_asks_again_and_again_is_given_up(make_fetcher, serving):
    hits: list[str] = []
    server = serving(
        lambda request: (
            hits.append(request.path) or (NOT_FOUND if request.path == "/robots.txt" else Response(503, headers={"retry-after": "0"}))
        )
    )
    assert reason_of(make_fetcher(max_retries=2).run(server.url)) == Reason.RATE_LIMITED
    assert hits == ["/robots.txt", "/", "/", "/"]


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [(429, {}, Reason.RATE_LIMITED), (429, {"retry-after": "soon"}, Reason.RATE_LIMITED), (503, {}, Reason.HTTP_STATUS)],
)
def test_without_a_retry_after_nothing_is_tried_again(status, headers, reason, make_fetcher, serving):
    hits: list[str] = []
    server = serving(
        lambda request: hits.append(request.path) or (NOT_FOUND if request.path == "/robots.txt" else Response(status, headers=headers))
    )
    result = make_fetcher().run(server.url)
    assert (reason_of(result), result.status, len(hits)) == (reason, status, 2)


def busy_site(delay: float):
    "A site that notes when requests begin and how many are under way."
    starts, under_way, most = [], [0], [0]

    async def handle(request: Request) -> Response:
        if request.path == "/robots.txt": return NOT_FOUND
        starts.append(time.perf_counter())
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(delay)
        under_way[0] -= 1
        return Response(body="done")

    return handle, starts, most


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_so_many_requests_at_once_to_a_host(limit, make_fetcher):
    handle, starts, most = busy_site(0.05)
    with serve(handle) as server:
        make_fetcher(max_per_host=limit).run_many(f"{server.url}/{i}" for i in range(12))
    assert (len(starts), most[0]) == (12, limit)


def test_no_more_than_so_many_requests_at_once_altogether(make_fetcher):
    handle, starts, most = busy_site(0.05)
    with serve(handle) as server:
        names = [f"host{i}.example" for i in range(12)]
        fetcher = make_fetcher(allow_hosts=tuple(names), max_connections=4, resolver=Resolver(["127.0.0.1"]))
        assert all(isinstance(page, Page) for page in fetcher.run_many(f"http://{name}:{server.port}/" for name in names))
    assert (len(starts), most[0]) == (12, 4)


def test_requests_to_a_host_lie_a_delay_apart(make_fetcher):
    handle, starts, _ = busy_site(0.0)
    with serve(handle) as server:
        make_fetcher(delay=0.1).run_many(f"{server.url}/{i}" for i in range(6))
    assert min(later - earlier for earlier, later in zip(starts, starts[1:], strict=False)) > 0.03
    assert starts[-1] - starts[0] > 0.45


def test_a_crawl_delay_is_respected_or_refused(make_fetcher, serving):
    handle, _ = robots_site("User-agent: *\nCrawl-delay: 1")
    fetcher, server = make_fetcher(), serving(handle)
    began = time.perf_counter()
    assert all(isinstance(page, Page) for page in fetcher.run_many([server.url, server.url + "/2"]))
    assert time.perf_counter() - began > 0.9
    handle, _ = robots_site("User-agent: *\nCrawl-delay: 1000")
    server = serving(handle)
    fetcher = make_fetcher()
    assert isinstance(fetcher.run(server.url), Page)
    assert reason_of(fetcher.run(server.url + "/2")) == Reason.RATE_LIMITED
