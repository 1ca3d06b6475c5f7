"""Fetchers, servers, and a log in which nothing may stand, for all tests of the fetcher."""

from __future__ import annotations

import logging

import pytest
from fetching import NOT_FOUND

from lightbulb.web.fetch import FetchConfig, Fetcher
from lightbulb.web.reactor import Server, serve


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
