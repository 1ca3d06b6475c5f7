"""The rules of fetching with any input there is."""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.web.rules import (
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
