"""Requests are honest; threads, loops, cancelled tasks and Ctrl-C leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from fetching import NOT_FOUND, OK, endless, reason_of
from raw_server import RawServer, self_signed, send, wait_for_end

from lightbulb.web.fetch import Page
from lightbulb.web.reactor import Request, Response, get_reactor
from lightbulb.web.rules import Reason

# Honesty --------------------------------------------------------------------------------------------------------------


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


# Callers --------------------------------------------------------------------------------------------------------------


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
