"""Bodies and heads that are too much are cut before they are held in memory."""

from __future__ import annotations

import gzip
import time
import zlib

import pytest
from fetching import OK, endless, reason_of
from raw_server import RawServer, send, send_all

from lightbulb.web.rules import Reason

# Bodies that are too much ---------------------------------------------------------------------------------------------


def packed(body: bytes, encoding: bytes) -> bytes:
    return OK + b"Content-Encoding: " + encoding + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


ZEROS = bytes(20_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        packed(gzip.compress(ZEROS), b"gzip"),
        packed(zlib.compress(ZEROS), b"deflate"),
        packed(gzip.compress(gzip.compress(ZEROS)), b"gzip, gzip"),
        packed(gzip.compress(zlib.compress(ZEROS)), b"deflate, gzip"),
        OK + b"Content-Length: 20000000\r\n\r\n",
        OK + b"\r\n" + bytes(2_000_000),
    ],
    ids=["gzip", "deflate", "nested gzip", "deflate in gzip", "announced", "not announced"],
)
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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (packed(b"no gzip at all", b"gzip"), Reason.CONTENT_ENCODING),
        (packed(b"x", b"br"), Reason.CONTENT_ENCODING),
        (packed(b"x", b"gzip, gzip, gzip"), Reason.CONTENT_ENCODING),
        (packed(gzip.compress(b"lamp" * 100)[:-20], b"gzip"), Reason.CONNECTION_LOST),
    ],
)
def test_damaged_and_unknown_compression_has_its_reason(answer, reason, make_fetcher):
    with RawServer(send(answer)) as server:
        assert reason_of(make_fetcher().run(server.url)) == reason


@pytest.mark.parametrize(
    "answer",
    [
        packed(gzip.compress(b"lamp"), b"gzip"),
        packed(gzip.compress(b"la") + gzip.compress(b"mp"), b"x-gzip"),
        packed(zlib.compress(b"lamp"), b"deflate"),
        packed(gzip.compress(gzip.compress(b"lamp")), b"gzip, gzip"),
        packed(b"lamp", b"identity"),
        OK + b"\r\nlamp",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nla\r\n2\r\nmp\r\n0\r\n\r\n",
    ],
)
def test_honest_bodies_arrive(answer, make_fetcher):
    with RawServer(send(answer)) as server:
        assert make_fetcher().run(server.url).html == "lamp"


# Heads that are too much ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (endless(b"X-Padding: " + b"x" * 500 + b"\r\n", OK), Reason.HEADERS_TOO_LARGE),
        (endless(b"x" * 5000, OK + b"X-Long: "), Reason.HEADERS_TOO_LARGE),
        (endless(b"x" * 5000), Reason.HEADERS_TOO_LARGE),
        (endless(b" folded" * 100 + b"\r\n", OK + b"X-Folded: a\r\n"), Reason.HEADERS_TOO_LARGE),
        (endless(b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.INTERIM_RESPONSES),
        (endless(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"), Reason.INTERIM_RESPONSES),
        (endless(b"HTTP/1.1 100 Continue\r\n" + b"X: " + b"x" * 30_000 + b"\r\n\r\n"), Reason.HEADERS_TOO_LARGE),
    ],
    ids=["many headers", "one header", "status line", "folded header", "100 Continue", "103 Early Hints", "fat 100 Continue"],
)
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
