"""The fetcher against real servers on the loopback, most of them hostile: each rule has a test that breaks it."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import RawServer, self_signed, send, send_all, wait_for_end

from lightbulb.core.errors import StoreError
from lightbulb.web.fetch import FetchConfig, FetchFailure, Fetcher, Page
from lightbulb.web.reactor import Request, Response, Server, get_reactor, serve
from lightbulb.web.rules import (
    Reason,
    Refusal,
    canonical_url,
    decode_body,
    freshness,
    inflate,
    inflaters_for,
    is_public,
    parse_retry_after,
    parse_url,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
NOT_FOUND = Response(404, "nothing here", content_type="text/plain")


@pytest.fixture(autouse=True)
def quiet_twisted():
    "No test may leave an error in Twisted's log: that would be an exception that got away."
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append
    loggers = [logging.getLogger(name) for name in ("lightbulb.twisted", "lightbulb.web.wire", "lightbulb.web.manners", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in records] == []


@pytest.fixture
def make_fetcher():
    "Fetchers that are quick, impatient, and closed at the end."
    made: list[Fetcher] = []

    def make(*, resolver=None, **changes) -> Fetcher:
        defaults = dict(allow_hosts=("127.0.0.1",), delay=0.0, connect_timeout=1.0, read_timeout=0.5, total_timeout=3.0, max_wait=5.0)
        made.append(Fetcher(FetchConfig(**{**defaults, **changes}), resolver=resolver))
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


@pytest.fixture
def serving():
    "Well-behaved servers, closed at the end; a handler that returns None means 404."
    servers: list[Server] = []

    def start(handler) -> Server:
        servers.append(serve(lambda request: handler(request) or NOT_FOUND))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def reason_of(result: Page | FetchFailure) -> Reason:
    assert isinstance(result, FetchFailure), result
    assert result.detail
    return result.reason


# Private addresses ---------------------------------------------------------------------------------------------------

SPELLINGS = [
    "127.0.0.1",
    "127.0.0.1.",
    "localhost",
    "LocalHost",
    "localhost.",
    "2130706433",
    "0x7f000001",
    "0x7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "0x0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "127.0.0.2",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_private_address_gets_through(host, make_fetcher):
    with RawServer(
        send(OK + b"Content-Length: 2\r\n\r\nhi"), robots=False, host="::" if socket.has_dualstack_ipv6() else "127.0.0.1"
    ) as server:
        fetcher = make_fetcher(allow_hosts=("another.example", f"127.0.0.1:{server.port + 1}"))
        assert reason_of(fetcher.run(f"http://{host}:{server.port}/")) == Reason.PRIVATE_ADDRESS
        assert server.paths == []


@pytest.mark.parametrize(
    "url", ["http://%31%32%37.0.0.1/", "http://[fe80::1%25lo]/", "http://127.0.0.1%00.example.com/", "http://exa mple.com/"]
)
def test_what_is_no_host_name_is_refused(url, make_fetcher):
    assert reason_of(make_fetcher().run(url)) == Reason.INVALID_URL


class Resolver:
    "A Twisted resolver that answers with a list of addresses, another one each time."

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.num_asked = answers, 0

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        from twisted.internet.address import IPv4Address, IPv6Address

        answer = self.answers[min(self.num_asked, len(self.answers) - 1)]
        self.num_asked += 1
        receiver.resolutionBegan(self)
        for address in answer:
            receiver.addressResolved((IPv6Address if ":" in address else IPv4Address)("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self


@pytest.mark.parametrize("address", ["127.0.0.1", "10.9.8.7", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "fd00::1"])
def test_a_name_that_leads_to_a_private_address_is_refused(address, make_fetcher):
    with RawServer(send(OK)) as server:
        fetcher = make_fetcher(resolver=Resolver([address]))
        failure = fetcher.run(f"http://innocent.example:{server.port}/")
        assert reason_of(failure) == Reason.PRIVATE_ADDRESS and address in failure.detail
        assert server.paths == []


@pytest.fixture
def public_and_private(monkeypatch):
    "Two servers on one port: 127.0.0.2, which counts as public in these tests, and 127.0.0.1, which is private as ever."
    monkeypatch.setattr("lightbulb.web.wire.is_public", lambda address: address == "127.0.0.2")
    answer = send(OK + b"Content-Length: 2\r\n\r\nhi")
    with RawServer(answer) as private, RawServer(answer, host="127.0.0.2", port=private.port) as public:
        yield public, private


def test_a_name_that_is_public_first_and_private_later_is_refused(public_and_private, make_fetcher):
    public, private = public_and_private
    resolver = Resolver(["127.0.0.2"], ["127.0.0.2"], ["127.0.0.1"])
    fetcher = make_fetcher(resolver=resolver)
    assert fetcher.run(f"http://rebinding.example:{public.port}/a").html == "hi"
    assert resolver.num_asked == 2, "one look-up for robots.txt, one for the page, and each connection to the address it gave"
    assert reason_of(fetcher.run(f"http://rebinding.example:{public.port}/b")) == Reason.PRIVATE_ADDRESS
    assert (public.paths, private.paths) == (["/robots.txt", "/a"], [])


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2", "::1"], ["127.0.0.2", "127.0.0.1"]])
def test_the_private_one_of_several_addresses_is_left_out(answer, public_and_private, make_fetcher):
    public, private = public_and_private
    assert make_fetcher(resolver=Resolver(answer)).run(f"http://mixed.example:{public.port}/").html == "hi"
    public.close()
    assert reason_of(make_fetcher(resolver=Resolver(answer)).run(f"http://mixed.example:{public.port}/")) == Reason.CONNECT
    assert private.paths == []


def test_a_name_without_addresses_is_a_dns_failure(make_fetcher):
    assert reason_of(make_fetcher(resolver=Resolver([])).run("http://nowhere.example/")) == Reason.DNS
    assert reason_of(make_fetcher().run("http://nowhere.invalid/")) == Reason.DNS


class BrokenResolver:
    "A resolver with a bug, and one that never answers."

    def __init__(self, silent: bool) -> None:
        self.silent = silent

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        if self.silent:
            receiver.resolutionBegan(self)
        else:
            raise RuntimeError("planted")


def test_a_look_up_that_never_ends_is_left(make_fetcher):
    began = time.perf_counter()
    assert (
        reason_of(make_fetcher(resolver=BrokenResolver(True), connect_timeout=0.3).run("http://silent.example/")) == Reason.CONNECT_TIMEOUT
    )
    assert time.perf_counter() - began < 2


def test_a_bug_below_becomes_a_result_and_a_line_in_the_log(make_fetcher, monkeypatch, caplog):
    records: list[logging.LogRecord] = []
    monkeypatch.setattr("lightbulb.web.wire._logger", logging.Logger("apart"))
    handler = logging.Handler()
    handler.emit = records.append
    sys.modules["lightbulb.web.wire"]._logger.addHandler(handler)
    failure = make_fetcher(resolver=BrokenResolver(False)).run("http://broken.example/")
    assert reason_of(failure) == Reason.ROBOTS_UNREACHABLE and "planted" in failure.detail
    assert [record.exc_info is not None for record in records] == [True]


@pytest.mark.parametrize("entry", ["{host}:{port}", "{host}"])
def test_the_allow_list_opens_one_host_only(entry, make_fetcher, serving):
    server = serving(lambda request: Response(body="hi"))
    fetcher = make_fetcher(allow_hosts=(entry.format(host="127.0.0.1", port=server.port),))
    assert isinstance(fetcher.run(server.url), Page)
    for other in ("localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"):
        assert reason_of(fetcher.run(f"http://{other}:{server.port}/")) == Reason.PRIVATE_ADDRESS


def test_an_opened_port_opens_no_other(make_fetcher, serving):
    one, two = serving(lambda request: Response(body="one")), serving(lambda request: Response(body="two"))
    fetcher = make_fetcher(allow_hosts=(f"127.0.0.1:{one.port}",))
    assert isinstance(fetcher.run(one.url), Page)
    assert reason_of(fetcher.run(two.url)) == Reason.PRIVATE_ADDRESS


def test_fetchers_do_not_share_their_permissions(make_fetcher, serving):
    hits = []
    server = serving(lambda request: hits.append(request.path) or Response(body="hi", delay=0.02))
    opened, closed = make_fetcher(), make_fetcher(allow_hosts=())
    results: dict[str, list] = {"opened": [], "closed": []}

    def use(name, fetcher):
        for index in range(10):
            results[name].append(fetcher.run(f"{server.url}/{name}/{index}"))

    threads = [threading.Thread(target=use, args=item) for item in (("opened", opened), ("closed", closed))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(result, Page) for result in results["opened"])
    assert {reason_of(result) for result in results["closed"]} == {Reason.PRIVATE_ADDRESS}
    assert not any("closed" in path for path in hits)


@pytest.mark.parametrize(
    "where", ["http://localhost:{port}/secret", "http://127.1:{port}/secret", "//0x7f.1:{port}/secret", "http://[::1]:{port}/secret"]
)
def test_a_redirect_into_a_private_address_is_refused(where, make_fetcher, serving):
    hits = []
    inside = serving(lambda request: hits.append(request.path) or Response(body="secret"))
    outside = serving(lambda request: Response(302, headers={"location": where.format(port=inside.port)}) if request.path == "/" else None)
    fetcher = make_fetcher(allow_hosts=(f"127.0.0.1:{outside.port}",))
    assert reason_of(fetcher.run(outside.url)) == Reason.PRIVATE_ADDRESS
    assert hits == []


# What may be asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "reason"), [
    ("file:///etc/passwd", Reason.SCHEME), ("ftp://127.0.0.1/", Reason.SCHEME), ("javascript:alert(1)", Reason.SCHEME), ("data:text/html,x", Reason.SCHEME),
    ("127.0.0.1/page", Reason.SCHEME), ("", Reason.SCHEME), ("http://", Reason.INVALID_URL), ("http:///x", Reason.INVALID_URL),
    ("http://user@127.0.0.1/", Reason.CREDENTIALS), ("http://user:pass@127.0.0.1/", Reason.CREDENTIALS), ("http://@127.0.0.1/", Reason.CREDENTIALS),
    ("http://127.0.0.1:0/", Reason.INVALID_URL), ("http://127.0.0.1:65536/", Reason.INVALID_URL), ("http://127.0.0.1:http/", Reason.INVALID_URL),
    ("http://[::1/", Reason.INVALID_URL), ("http://127.0.0.1/" + "x" * 9000, Reason.INVALID_URL),
])  # fmt: skip
def test_other_schemes_credentials_and_nonsense_are_refused(url, reason, make_fetcher):
    assert reason_of(make_fetcher().run(url)) == reason


@pytest.mark.parametrize(("location", "reason"), [
    ("file:///etc/passwd", Reason.SCHEME), ("http://user:pass@127.0.0.1/", Reason.CREDENTIALS), ("http://[::1", Reason.INVALID_URL),
    ("javascript:alert(1)", Reason.SCHEME),
])  # fmt: skip
def test_a_redirect_has_to_pass_the_same_rules(location, reason, make_fetcher, serving):
    server = serving(lambda request: Response(301, headers={"location": location}) if request.path == "/" else None)
    assert reason_of(make_fetcher().run(server.url)) == reason


def test_urls_are_sent_in_one_spelling_and_named_canonically(make_fetcher):
    with RawServer(send(OK + b"Content-Length: 2\r\n\r\nhi")) as server:
        page = make_fetcher().run(f"HTTP://127.0.0.1:{server.port}/a/./b/../c d/%7Ex?z=1&a=ü&b#fragment")
        assert server.hits == ["/a/c%20d/~x?z=1&a=%C3%BC&b"]
        assert page.final_url == f"http://127.0.0.1:{server.port}/a/c%20d/~x?a=%C3%BC&b=&z=1"


def test_a_name_in_any_script_is_looked_up_in_ascii(make_fetcher, serving):
    server = serving(lambda request: Response(body=request.headers["host"]))
    fetcher = make_fetcher(allow_hosts=("bücher.example",), resolver=Resolver(["127.0.0.1"]))
    page = fetcher.run(f"http://BÜCHER.example:{server.port}/")
    assert page.html == f"xn--bcher-kva.example:{server.port}"


# Bodies that are too much --------------------------------------------------------------------------------------------


def packed(body: bytes, encoding: bytes) -> bytes:
    return OK + b"Content-Encoding: " + encoding + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


ZEROS = bytes(20_000_000)


@pytest.mark.parametrize("answer", [
    packed(gzip.compress(ZEROS), b"gzip"), packed(zlib.compress(ZEROS), b"deflate"), packed(gzip.compress(gzip.compress(ZEROS)), b"gzip, gzip"),
    packed(gzip.compress(zlib.compress(ZEROS)), b"deflate, gzip"), OK + b"Content-Length: 20000000\r\n\r\n", OK + b"\r\n" + bytes(2_000_000),
], ids=["gzip", "deflate", "nested gzip", "deflate in gzip", "announced", "not announced"])  # fmt: skip
def test_a_bomb_is_not_unpacked(answer, make_fetcher):
    with RawServer(send(answer, then="wait")) as server:
        began = time.process_time()
        assert reason_of(make_fetcher(max_bytes=1_000_000).run(server.url)) == Reason.TOO_LARGE
        assert time.process_time() - began < 2
        assert server.hung_up.wait(3)


def test_memory_stays_small_while_a_nested_bomb_is_refused(make_fetcher):
    "200 MB of zeros in two layers; the fetcher keeps less than 20 MB of them at any time."
    import tracemalloc

    inner = gzip.compress(bytes(200_000_000), compresslevel=1)
    with RawServer(send(packed(gzip.compress(inner), b"gzip, gzip"))) as server:
        fetcher = make_fetcher()
        tracemalloc.start()
        try:
            assert reason_of(fetcher.run(server.url)) == Reason.TOO_LARGE
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


def test_a_compressed_stream_that_yields_nothing_ends_at_the_cap(make_fetcher):
    head = gzip.compress(b"")[:10]
    nothing = b"\x00\x00\x00\xff\xff" * 2000  # empty stored blocks

    def stream():
        yield OK + b"Content-Encoding: gzip\r\n\r\n" + head
        while True:
            yield nothing

    with RawServer(send_all(stream)) as server:
        assert reason_of(make_fetcher(max_bytes=200_000).run(server.url)) == Reason.TOO_LARGE
        assert server.hung_up.wait(3)


@pytest.mark.parametrize(("answer", "reason"), [
    (packed(b"no gzip at all", b"gzip"), Reason.CONTENT_ENCODING), (packed(b"x", b"br"), Reason.CONTENT_ENCODING),
    (packed(b"x", b"gzip, gzip, gzip"), Reason.CONTENT_ENCODING), (packed(gzip.compress(b"lamp" * 100)[:-20], b"gzip"), Reason.CONNECTION_LOST),
])  # fmt: skip
def test_damaged_and_unknown_compression_has_its_reason(answer, reason, make_fetcher):
    with RawServer(send(answer)) as server:
        assert reason_of(make_fetcher().run(server.url)) == reason


@pytest.mark.parametrize("answer", [
    packed(gzip.compress(b"lamp"), b"gzip"), packed(gzip.compress(b"la") + gzip.compress(b"mp"), b"x-gzip"), packed(zlib.compress(b"lamp"), b"deflate"),
    packed(gzip.compress(gzip.compress(b"lamp")), b"gzip, gzip"), packed(b"lamp", b"identity"), OK + b"\r\nlamp",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nla\r\n2\r\nmp\r\n0\r\n\r\n",
])  # fmt: skip
def test_honest_bodies_arrive(answer, make_fetcher):
    with RawServer(send(answer)) as server:
        assert make_fetcher().run(server.url).html == "lamp"


# Heads that are too much ---------------------------------------------------------------------------------------------


def endless(chunk: bytes, first: bytes = b""):
    def stream():
        yield first
        while True:
            yield chunk

    return send_all(stream)


@pytest.mark.parametrize(("talk", "reason"), [
    (endless(b"X-Padding: " + b"x" * 500 + b"\r\n", OK), Reason.HEADERS_TOO_LARGE), (endless(b"x" * 5000, OK + b"X-Long: "), Reason.HEADERS_TOO_LARGE),
    (endless(b"x" * 5000), Reason.HEADERS_TOO_LARGE), (endless(b" folded" * 100 + b"\r\n", OK + b"X-Folded: a\r\n"), Reason.HEADERS_TOO_LARGE),
    (endless(b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.INTERIM_RESPONSES),
    (endless(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"), Reason.INTERIM_RESPONSES),
    (endless(b"HTTP/1.1 100 Continue\r\n" + b"X: " + b"x" * 30_000 + b"\r\n\r\n"), Reason.HEADERS_TOO_LARGE),
], ids=["many headers", "one header", "status line", "folded header", "100 Continue", "103 Early Hints", "fat 100 Continue"])  # fmt: skip
def test_a_head_without_end_is_cut(talk, reason, make_fetcher):
    with RawServer(talk) as server:
        assert reason_of(make_fetcher().run(server.url)) == reason
        assert server.hung_up.wait(3)


@pytest.mark.parametrize(("num_interim", "ok"), [(0, True), (10, True), (11, False)])
def test_a_few_interim_responses_are_normal(num_interim, ok, make_fetcher):
    with RawServer(send(b"HTTP/1.1 100 Continue\r\n\r\n" * num_interim + OK + b"Content-Length: 4\r\n\r\nlamp")) as server:
        result = make_fetcher(max_interim=10).run(server.url)
        assert result.html == "lamp" if ok else reason_of(result) == Reason.INTERIM_RESPONSES


@pytest.mark.parametrize(("size", "ok"), [(3000, True), (5000, False)])
def test_header_bytes_are_counted_even_in_one_packet(size, ok, make_fetcher):
    with RawServer(send(OK + b"X-Padding: " + b"x" * size + b"\r\nContent-Length: 4\r\n\r\nlamp")) as server:
        result = make_fetcher(max_header_bytes=4096).run(server.url)
        assert result.html == "lamp" if ok else reason_of(result) == Reason.HEADERS_TOO_LARGE


# Time ----------------------------------------------------------------------------------------------------------------

TIMES = dict(read_timeout=0.3, total_timeout=1.0)


@pytest.mark.parametrize(("talk", "reason", "seconds"), [
    (send(then="wait"), Reason.READ_TIMEOUT, 0.3), (send(OK, then="wait"), Reason.READ_TIMEOUT, 0.3),
    (send(OK + b"Content-Length: 9\r\n\r\nla", then="wait"), Reason.READ_TIMEOUT, 0.3), (send(OK + b"\r\nla", then="wait"), Reason.READ_TIMEOUT, 0.3),
    (send(OK, *[b"X: y\r\n"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0), (send(*[bytes([byte]) for byte in OK * 3], pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
    (send(OK + b"Content-Length: 99\r\n\r\n", *[b"x"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0), (send(OK + b"\r\n", *[b"x"] * 99, pause=0.05), Reason.TOTAL_TIMEOUT, 1.0),
], ids=["silent", "silent in the head", "silent in the body", "silent, length unknown", "trickling headers", "trickling bytes of the head",
        "trickling body", "trickling, length unknown"])  # fmt: skip
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


# Servers that lie or leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("talk", "reason"), [
    (send(), Reason.CONNECTION_LOST), (send(b"HTTP/1.1 20"), Reason.CONNECTION_LOST), (send(OK), Reason.CONNECTION_LOST),
    (send(OK + b"Content-Length: 100\r\n\r\nhalf"), Reason.CONNECTION_LOST),
    (send(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), Reason.CONNECTION_LOST),
    (send(b"220 mail.example ESMTP\r\n"), Reason.PROTOCOL), (send(b"SSH-2.0-OpenSSH_9.2\r\n" * 3), Reason.PROTOCOL),
    (send(OK + b"no colon here\r\nX: y\r\n\r\n"), Reason.PROTOCOL), (send(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Reason.PROTOCOL),
    (send(OK + b"Content-Length: many\r\n\r\nab"), Reason.PROTOCOL), (send(OK + b"Transfer-Encoding: brotli\r\n\r\nab"), Reason.PROTOCOL),
    (send(OK + b"Transfer-Encoding: chunked\r\n\r\nnot hex\r\n"), Reason.PROTOCOL), (send(b"HTTP/1.1 abc OK\r\n\r\n"), Reason.PROTOCOL),
    (send(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Reason.HTTP_STATUS), (send(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason.HTTP_STATUS),
    (send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), Reason.HTTP_STATUS), (send(b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx"), Reason.HTTP_STATUS),
    (send(b"HTTP/1.1 999 What\r\nContent-Length: 1\r\n\r\nx"), Reason.HTTP_STATUS), (endless(b"x" * 10_000, b"HTTP/1.1 404 No\r\n\r\n"), Reason.HTTP_STATUS),
])  # fmt: skip
def test_servers_that_lie_or_leave_have_their_reason(talk, reason, make_fetcher):
    with RawServer(talk) as server:
        result = make_fetcher().run(server.url)
        assert reason_of(result) == reason
        if reason == Reason.HTTP_STATUS:
            assert result.status > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=st.one_of(
    st.binary(max_size=400),
    st.lists(st.sampled_from([b"HTTP/1.1 ", b"200 OK", b"100 Continue", b"302 F", b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"5", b"-1", b"Location: /x",
                              b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Type: text/html", b"\x1f\x8b\x08", b"0\r\n", b":", b"\0", b"ff"]),
             max_size=14).map(b"".join),
))  # fmt: skip
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


# robots.txt ----------------------------------------------------------------------------------------------------------


def robots_site(robots):
    "A site whose robots.txt is a Response, or a text; and what was asked of it."
    hits: list[str] = []

    def handle(request: Request) -> Response:
        hits.append(request.path)
        if request.path != "/robots.txt": return Response(body="a page")
        return robots if isinstance(robots, Response) else Response(body=robots, content_type="text/plain")

    return handle, hits


@pytest.mark.parametrize(("robots", "path", "allowed"), [
    ("User-agent: *\nDisallow: /", "/", False), ("User-agent: *\nDisallow: /private", "/private/diary", False),
    ("User-agent: *\nDisallow: /private", "/public", True), ("User-agent: lightbulb\nDisallow: /", "/", False), ("User-agent: other\nDisallow: /", "/", True),
    ("User-agent: *\nDisallow: /\n\nUser-agent: lightbulb\nAllow: /", "/", True), ("User-agent: *\nDisallow: /*.pdf$", "/paper.pdf", False),
    ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True), ("\ufeffUser-agent: *\nDisallow: /", "/", False),
    ("User-agent: *\nDisallow: /private", "/x/../private", False), ("User-agent: *\nDisallow: /private", "/%70rivate", False),
    ("User-agent: *\nDisallow: /*?print=", "/page?print=1", False), ("", "/", True), ("<html>not robots</html>", "/", True),
    (Response(404), "/", True), (Response(403), "/", True), (Response(410), "/", True),
])  # fmt: skip
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


# Patience ------------------------------------------------------------------------------------------------------------


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


# Redirects -----------------------------------------------------------------------------------------------------------


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


# Types and texts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content_type", "body", "ok"), [
    ("text/html", b"<p>", True), ("TEXT/HTML; charset=utf-8", b"<p>", True), ("application/xhtml+xml", b"<p>", True), ("text/plain", b"x", True),
    ("", b"<p>no type", True), ("", b"\x89PNG\r\n\x1a\n\0\0\0", False), ("image/png", b"x", False), ("application/pdf", b"%PDF", False),
    ("application/octet-stream", b"x", False), ("text/html-not", b"x", False), ("video/mp4", b"x", False),
])  # fmt: skip
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


@pytest.mark.parametrize(("body", "content_type", "text"), [
    ("Glühlampe".encode(), "text/html; charset=utf-8", "Glühlampe"), ("Glühlampe".encode("latin-1"), "text/html; charset=ISO-8859-1", "Glühlampe"),
    ("лампа".encode("koi8-r"), "text/html; charset=koi8-r", "лампа"), ("電球".encode("shift_jis"), 'text/html; charset="Shift_JIS"', "電球"),
    ("<meta charset=gb2312>灯".encode("gb18030"), "text/html", "<meta charset=gb2312>灯"), ("Glühlampe".encode(), "text/html", "Glühlampe"),
    ("Glühlampe – 60 W".encode("cp1252"), "text/html", "Glühlampe – 60 W"), ("Glühlampe".encode("utf-16"), "text/html", "Glühlampe"),
    ("Glühlampe".encode("utf-8-sig"), "text/html; charset=latin-1", "Glühlampe"), (b"a\xffb", "text/html; charset=utf-8", "a\ufffdb"),
    (b"a+ADw-b", "text/html; charset=utf-7", "a+ADw-b"), (b"lamp-", "text/html; charset=punycode", "lamp-"), (b"lamp", "text/html; charset=hex", "lamp"),
])  # fmt: skip
def test_charsets_are_found(body, content_type, text, make_fetcher, serving):
    server = serving(lambda request: Response(body=body, content_type=content_type) if request.path == "/" else None)
    assert make_fetcher().run(server.url).html == text


# The cache -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("headers", "question"), [
    (dict(etag='"{version}"', cache_control="no-cache"), {"if-none-match": '"one"'}),
    (dict(etag='W/"{version}"', cache_control="max-age=0"), {"if-none-match": 'W/"one"'}),
    (dict(last_modified="Sun, 09 Sep 2001 01:46:40 GMT", expires="0"), {"if-modified-since": "Sun, 09 Sep 2001 01:46:40 GMT"}),
])  # fmt: skip
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


# Honesty -------------------------------------------------------------------------------------------------------------


def test_requests_are_honest_and_forget_everything(make_fetcher, serving):
    seen: list[dict[str, str]] = []

    def handle(request: Request):
        if request.path != "/robots.txt":
            seen.append(dict(request.headers))
        return Response(body="hi", headers={"set-cookie": "id=7; Path=/", "www-authenticate": "Basic"})

    server, fetcher = serving(handle), make_fetcher()
    for path in ("/a", "/b"):
        fetcher.run(server.url + path)
    for headers in seen:
        assert headers["user-agent"].startswith("lightbulb/") and "Mozilla" not in headers["user-agent"]
        assert headers["accept-encoding"] == "gzip" and "text/html" in headers["accept"]
        assert not {"cookie", "authorization", "referer", "x-forwarded-for"} & set(headers)


def test_proxies_of_the_environment_are_ignored(make_fetcher, serving, monkeypatch):
    with RawServer(send(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert make_fetcher().run(serving(lambda request: Response(body="direct")).url).html == "direct"
        assert proxy.paths == []


def test_a_self_signed_certificate_is_refused_and_a_trusted_one_is_not(make_fetcher, tmp_path):
    context, certificate = self_signed(tmp_path)
    with RawServer(send(OK + b"Content-Length: 6\r\n\r\nsecret"), context=context) as server:
        failure = make_fetcher().run(server.url)
        assert reason_of(failure) == Reason.TLS and "verify" in failure.detail
        assert server.paths == []
        assert make_fetcher(trusted_certificates=certificate).run(server.url).html == "secret"


def test_a_certificate_for_another_host_is_refused(make_fetcher, tmp_path):
    context, certificate = self_signed(tmp_path, "another.example")
    with RawServer(send(OK), context=context) as server:
        assert reason_of(make_fetcher(trusted_certificates=certificate).run(server.url)) == Reason.TLS
        assert server.paths == []


def test_a_server_without_tls_is_no_https_server(make_fetcher):
    with RawServer(send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", then="wait")) as server:
        assert reason_of(make_fetcher().run(server.url.replace("http:", "https:"))) == Reason.TLS


def test_a_silent_tls_server_is_left(make_fetcher, tmp_path):
    context, certificate = self_signed(tmp_path)
    with RawServer(send(OK + b"\r\npart", then="wait"), context=context) as server:
        assert reason_of(make_fetcher(trusted_certificates=certificate).run(server.url)) == Reason.READ_TIMEOUT
        assert server.hung_up.wait(3)
    with RawServer(lambda connection, path: wait_for_end(connection)) as mute:  # no handshake at all
        assert reason_of(make_fetcher().run(mute.url.replace("http:", "https:"))) in (Reason.READ_TIMEOUT, Reason.ROBOTS_UNREACHABLE)


# Callers -------------------------------------------------------------------------------------------------------------


def test_many_threads_share_a_fetcher(make_fetcher, serving):
    server, fetcher = serving(lambda request: Response(body=request.path)), make_fetcher(max_per_host=8)
    results: dict[int, list[str]] = {}

    def use(index: int) -> None:
        results[index] = [fetcher.run(f"{server.url}/{index}/{i}").html for i in range(10)]

    threads = [threading.Thread(target=use, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: [f"/{index}/{i}" for i in range(10)] for index in range(8)}


def test_many_loops_share_a_fetcher(make_fetcher, serving):
    server, fetcher = serving(lambda request: Response(body=request.path, delay=0.02)), make_fetcher()

    async def use(name: str) -> list[str]:
        pages = await asyncio.gather(*(fetcher.arun(f"{server.url}/{name}/{i}") for i in range(5)))
        return [page.html for page in pages] + [page.html for page in await fetcher.arun_many([server.url + "/x"])]

    for name in ("first", "second"):
        assert asyncio.run(use(name)) == [*(f"/{name}/{i}" for i in range(5)), "/x"]


def test_many_pages_come_in_order_with_their_failures(make_fetcher, serving):
    def handle(request: Request):
        if request.path == "/robots.txt": return NOT_FOUND
        number = int(request.path[1:])
        return Response(404 if number % 3 == 0 else 200, str(number), delay=0.001 * (number % 7))

    server = serving(handle)
    urls = [f"{server.url}/{i}" for i in range(100)]
    results = make_fetcher(max_per_host=8, connect_timeout=10.0, read_timeout=10.0, total_timeout=30.0).run_many(iter(urls))
    assert [result.url for result in results] == urls
    assert [result.html if isinstance(result, Page) else result.status for result in results] == [
        404 if i % 3 == 0 else str(i) for i in range(100)
    ]
    assert make_fetcher().run_many([]) == []


def test_a_cancelled_task_hangs_up(make_fetcher):
    with RawServer(send(then="wait")) as server:
        fetcher = make_fetcher(read_timeout=30, total_timeout=30)

        async def impatient() -> None:
            task = asyncio.create_task(fetcher.arun(server.url))
            while not server.hits:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(impatient())
        assert server.hung_up.wait(3)


def test_a_callers_timeout_keeps_what_is_there(make_fetcher, serving):
    def handle(request: Request):
        return NOT_FOUND if request.path == "/robots.txt" else Response(body="hi", delay=20 if request.path == "/slow" else 0)

    server, began = serving(handle), time.perf_counter()
    results = make_fetcher(read_timeout=30, total_timeout=30, max_per_host=2).run_many(
        [server.url + path for path in ("/a", "/slow", "/b", "/c")], timeout=1.5
    )
    assert [isinstance(result, Page) for result in results] == [True, False, True, True]
    assert reason_of(results[1]) == Reason.CANCELLED and time.perf_counter() - began < 5


def test_close_ends_what_is_under_way(make_fetcher):
    with RawServer(send(then="wait")) as server:
        fetcher, results = make_fetcher(read_timeout=30, total_timeout=30), []
        thread = threading.Thread(target=lambda: results.append(fetcher.run(server.url)))
        thread.start()
        while not server.hits:
            time.sleep(0.01)
        fetcher.close()
        thread.join(3)
        assert not thread.is_alive() and reason_of(results[0]) == Reason.CLOSED
        assert reason_of(fetcher.run(server.url)) == Reason.CLOSED
        assert server.hung_up.wait(3)


def test_ctrl_c_ends_a_fetch_and_hangs_up(tmp_path):
    with RawServer(send(then="wait")) as server:
        program = (
            "from lightbulb.web.fetch import FetchConfig, Fetcher\n"
            "fetcher = Fetcher(FetchConfig(allow_hosts=('127.0.0.1',), read_timeout=60, total_timeout=60))\n"
            f"try: fetcher.run({server.url!r})\n"
            "except KeyboardInterrupt: print('interrupted', fetcher.run('ftp://x').reason)\n"
        )
        heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background is born deaf to Ctrl-C
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.getcwd(), preexec_fn=heard
        )
        deadline = time.monotonic() + 30
        while not server.hits and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (out.strip(), process.returncode) == ("interrupted scheme", 0), err
        assert server.hung_up.wait(3)


def test_connections_are_used_again_and_stale_ones_replaced(make_fetcher):
    "A server that closes each connection after one answer, without saying so."
    with RawServer(send(OK + b"Content-Length: 2\r\n\r\nhi")) as server:
        fetcher = make_fetcher()
        for index in range(5):
            assert fetcher.run(f"{server.url}/{index}").html == "hi"
            time.sleep(0.02)


def test_nothing_is_left_behind(make_fetcher, serving):
    "After many failures of many kinds the reactor has no timers of ours and the session nothing under way."
    fetcher = make_fetcher(read_timeout=0.2, total_timeout=0.5)
    for talk in (send(), send(then="wait"), send(b"garbage\r\n"), endless(b"x" * 5000)):
        with RawServer(talk) as server:
            fetcher.run_many([f"{server.url}/{i}" for i in range(5)])
    session = fetcher._session
    deadline = time.monotonic() + 3
    while session.under_way and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session.under_way and session.polite.connections.tokens == 16
    assert all(queue.semaphore.tokens == queue.semaphore.limit for queue in session.polite.queues.values())
    fetcher.close()
    time.sleep(0.1)
    assert not [call for call in get_reactor().getDelayedCalls() if "_watch" in str(call)]


# Rules, with any input -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.one_of(st.text(), st.text().map("http://".__add__), st.text("htp:/.[]@%?#&=abc127\\ü。", max_size=40).map("http://h".__add__)))
def test_a_url_is_parsed_or_refused(url):
    try:
        target = parse_url(url)
    except Refusal:
        return
    assert target.url.isascii() and target.scheme in ("http", "https") and "#" not in target.url and "@" not in target.origin
    assert parse_url(target.url) == parse_url(parse_url(target.url).url), "the spelling that is sent is stable"
    assert canonical_url(target.canonical) == target.canonical


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_public_in_all_its_wrappings_or_in_none(number):
    import ipaddress

    plain = str(ipaddress.IPv4Address(number))
    wrapped = [f"::ffff:{plain}", f"64:ff9b::{plain}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"]
    assert {is_public(address) for address in wrapped} == {is_public(plain)}


@settings(deadline=None)
@given(st.binary(max_size=2000), st.text(max_size=40))
def test_any_body_becomes_text(body, content_type):
    assert isinstance(decode_body(body, content_type), str)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["cache-control", "expires", "date", "age", "vary", "pragma"]), st.text(max_size=30)))
def test_any_headers_give_a_lifetime(headers):
    lifetime = freshness(headers, now=1e9, default=60)
    assert lifetime is None or lifetime >= 0


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_retry_after_is_read(value):
    wait = parse_retry_after(value, now=1e9)
    assert wait is None or wait >= 0


@settings(deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 500), st.sampled_from(["gzip", "deflate", "gzip, gzip", "deflate, gzip"]))
def test_compression_comes_back_in_any_pieces(body, size, encoding):
    data = body
    for coding in encoding.split(", "):
        data = gzip.compress(data) if coding == "gzip" else zlib.compress(data)
    layers = inflaters_for(encoding, 1 << 20)
    pieces = [piece for start in range(0, len(data), size) for piece in inflate(layers, data[start : start + size])]
    assert b"".join(pieces) == body and all(layer.complete for layer in layers)
