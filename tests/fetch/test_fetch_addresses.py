"""The fetcher reaches no private address, however it is spelled, resolved or reached by way of a redirect."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time

import pytest
from fetching import OK, Resolver, reason_of
from raw_server import RawServer, send

from lightbulb.web.fetch import Page
from lightbulb.web.reactor import Response
from lightbulb.web.rules import Reason

# Private addresses ----------------------------------------------------------------------------------------------------

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


# What may be asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", Reason.SCHEME),
        ("ftp://127.0.0.1/", Reason.SCHEME),
        ("javascript:alert(1)", Reason.SCHEME),
        ("data:text/html,x", Reason.SCHEME),
        ("127.0.0.1/page", Reason.SCHEME),
        ("", Reason.SCHEME),
        ("http://", Reason.INVALID_URL),
        ("http:///x", Reason.INVALID_URL),
        ("http://user@127.0.0.1/", Reason.CREDENTIALS),
        ("http://user:pass@127.0.0.1/", Reason.CREDENTIALS),
        ("http://@127.0.0.1/", Reason.CREDENTIALS),
        ("http://127.0.0.1:0/", Reason.INVALID_URL),
        ("http://127.0.0.1:65536/", Reason.INVALID_URL),
        ("http://127.0.0.1:http/", Reason.INVALID_URL),
        ("http://[::1/", Reason.INVALID_URL),
        ("http://127.0.0.1/" + "x" * 9000, Reason.INVALID_URL),
    ],
)
def test_other_schemes_credentials_and_nonsense_are_refused(url, reason, make_fetcher):
    assert reason_of(make_fetcher().run(url)) == reason


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", Reason.SCHEME),
        ("http://user:pass@127.0.0.1/", Reason.CREDENTIALS),
        ("http://[::1", Reason.INVALID_URL),
        ("javascript:alert(1)", Reason.SCHEME),
    ],
)
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
