"""The reactor beside scripts, threads, loops and forks, and the server in it."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

from lightbulb.core.errors import ReactorError
from lightbulb.web.reactor import Request, Response, arun, gather, get_reactor, run, serve


def call(server, path="/", method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
    finally:
        connection.close()


async def echo(value, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


# run and arun --------------------------------------------------------------------------------------------------------


def test_one_thread_serves_everybody():
    names = [run(lambda: threading.current_thread().name) for _ in range(3)]
    assert names == ["lightbulb-reactor"] * 3 and get_reactor() is get_reactor()
    assert sum(thread.name == "lightbulb-reactor" for thread in threading.enumerate()) == 1


@pytest.mark.parametrize("make", [lambda: 7, lambda: echo(7), lambda: succeed(7), lambda: deferLater(get_reactor(), 0.01, lambda: 7)])
def test_values_coroutines_and_deferreds_come_back(make):
    assert run(make) == 7
    assert asyncio.run(arun(make)) == 7


class Planted(Exception):
    pass


async def fail_later():
    raise Planted("late")


def fail_now():
    raise Planted("now")


@pytest.mark.parametrize("make", [fail_now, fail_later, lambda: fail(Planted("deferred"))])
def test_exceptions_come_back_as_themselves(make):
    with pytest.raises(Planted):
        run(make)
    with pytest.raises(Planted):
        asyncio.run(arun(make))


def test_many_threads_at_once():
    results = {}

    def use(index):
        results[index] = [run(echo, (index, i), 0.001) for i in range(20)]

    threads = [threading.Thread(target=use, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: [(index, i) for i in range(20)] for index in range(16)}


def test_run_works_while_a_loop_runs_in_this_thread():
    async def cell():
        return run(echo, 3)  # what a notebook cell does that calls blocking code

    assert asyncio.run(cell()) == 3


def test_arun_works_on_the_reactors_own_loop():
    async def nested():
        return await arun(echo, 5)

    assert run(nested) == 5


def test_run_refuses_to_wait_for_itself():
    with pytest.raises(ReactorError, match="own thread"):
        run(lambda: run(echo, 1))


def test_cancelling_the_task_cancels_the_work():
    ended = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    deferred = Deferred(lambda _: ended.set())

    async def impatient(work):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arun(work), 0.05)

    for work in (long, lambda: deferred):
        ended.clear()
        asyncio.run(impatient(work))
        assert ended.wait(2)


# gather --------------------------------------------------------------------------------------------------------------


def test_gather_keeps_order_and_limit():
    under_way, most = [0], [0]

    async def work(index):
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0.01 * (index % 3))
        under_way[0] -= 1
        return index

    assert run(gather, (lambda i=i: work(i) for i in range(20)), limit=4) == list(range(20))
    assert most[0] == 4
    assert asyncio.run(gather([work(i) for i in range(5)])) == list(range(5))
    assert run(gather, []) == []


def test_gather_stops_at_the_first_error():
    begun = []

    async def work(index):
        begun.append(index)
        await asyncio.sleep(0.01)
        if index == 3: raise Planted
        await asyncio.sleep(0.05)

    with pytest.raises(Planted):
        run(gather, [lambda i=i: work(i) for i in range(100)], limit=5)
    time.sleep(0.2)
    assert len(begun) <= 10


# serve ---------------------------------------------------------------------------------------------------------------


def test_a_handler_sees_the_request():
    seen: list[Request] = []
    with serve(lambda request: seen.append(request) or Response(201, "made", {"x-lamp": "on"}, "text/plain")) as server:
        status, headers, body = call(server, "/a%20b/%C3%BC?x=1&y=&x=2", "POST", b"\x00data", {"X-Thing": "v"})
    assert (status, headers["x-lamp"], headers["content-type"], body) == (201, "on", "text/plain", b"made")
    request = seen[0]
    assert (request.method, request.path, request.query, request.body, request.headers["x-thing"]) == (
        "POST",
        "/a b/ü",
        {"x": "2", "y": ""},
        b"\x00data",
        "v",
    )


@pytest.mark.parametrize(
    ("method", "response", "expected"),
    [
        ("GET", Response(body="ü"), (200, b"\xc3\xbc", "2")),
        ("GET", Response(body=b"\x00"), (200, b"\x00", "1")),
        ("HEAD", Response(body="four"), (200, b"", "4")),
        ("GET", Response(204), (204, b"", None)),
        ("GET", Response(404, "no"), (404, b"no", "2")),
        ("GET", Response(999), (999, b"", "0")),
    ],
)
def test_responses_arrive_as_written(method, response, expected):
    with serve(lambda request: response) as server:
        status, headers, body = call(server, "/", method)
    assert (status, body, headers.get("content-length")) == expected


def test_a_response_without_type_has_none():
    with serve(lambda request: Response(body="x", content_type="")) as server:
        assert not [name for name in call(server)[1] if name == "content-type"]


def test_a_slow_response_holds_nobody_up():
    async def handle(request):
        return Response(body="slow", delay=1.0) if request.path == "/slow" else Response(body="quick")

    with serve(handle) as server:
        slow = threading.Thread(target=call, args=(server, "/slow"))
        slow.start()
        began = time.perf_counter()
        assert call(server, "/quick")[2] == b"quick" and time.perf_counter() - began < 0.9
        slow.join()


@pytest.mark.parametrize(
    "handler",
    [
        lambda request: 1 / 0,
        lambda request: None,
        lambda request: fail_later(),
        lambda request: "text",
        lambda request: echo("text"),
        lambda request: Response(302, headers={"Location": "/wiki/日本"}),
        lambda request: Response(content_type="text/plain; name=日.txt"),
        lambda request: Response(body=None),  # pyright: ignore[reportArgumentType]
        lambda request: Response(body="\ud800"),
    ],
)
def test_a_broken_handler_is_a_500_and_a_line_in_the_log(handler, caplog):
    with serve(handler) as server:
        status, headers, body = call(server, "/secret")
    assert (status, headers["content-type"], body) == (500, "text/plain", b"the handler failed") and "location" not in headers
    assert "/secret" in caplog.text


def test_a_client_that_leaves_ends_the_handler():
    ended = threading.Event()

    async def handle(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    with serve(handle) as server:
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.1)
        assert ended.wait(3)


def test_close_ends_open_connections_and_frees_the_port():
    server = serve(lambda request: Response(body="hi"))
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in connection.recv(65536)
        server.close()
        server.close()
        try:
            rest = connection.recv(65536)
        except ConnectionResetError:
            rest = b""
        assert rest == b""
    with serve(lambda request: Response(body="again"), server.port) as again:
        assert call(again)[2] == b"again"


def test_a_taken_port_is_refused_by_name():
    with serve(lambda request: Response()) as server, pytest.raises(ReactorError, match=str(server.port)):
        serve(lambda request: Response(), server.port)


@pytest.mark.parametrize("wrong", [dict(status=99), dict(status=1000), dict(delay=-1), dict(delay=float("nan"))])
def test_impossible_responses_are_refused(wrong):
    with pytest.raises(ValueError):
        Response(**wrong)


# Processes -----------------------------------------------------------------------------------------------------------


def program(text, interrupt_after=None):
    command, heed = [sys.executable, "-W", "error::ResourceWarning", "-c", text], lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(  # a shell that runs the tests in the background has them ignore Ctrl-C, and a program inherits that
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    if interrupt_after is not None:
        assert process.stdout.readline().strip() == "ready"
        time.sleep(interrupt_after)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out.strip(), err.strip()


START = "from lightbulb.web.reactor import *\nfrom lightbulb.web.reactor import run\nimport asyncio, sys, os, threading\n"


def test_importing_starts_nothing():
    text = "import sys, threading\nimport lightbulb.web.fetch\nprint('twisted.internet.reactor' in sys.modules, threading.active_count())"
    assert program(text) == (0, "False 1", "")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise SystemExit(4)", 4),
        ("os._exit(5)", 5),
        ("server = serve(lambda request: Response())", 0),
        ("from lightbulb.web.fetch import Fetcher\nFetcher().run('http://127.0.0.1:1/')", 0),
        ("threading.Thread(target=run, args=(asyncio.sleep, 0.2)).start()", 0),
        ("threading.Thread(target=lambda: asyncio.run(arun(asyncio.sleep, 0.1))).start()", 0),
        ("asyncio.run(asyncio.wait_for(arun(asyncio.sleep, 0.01), 1))", 0),
        ("import atexit\natexit.register(lambda: run(lambda: 1))", 0),
    ],
)
def test_a_program_ends_when_it_wants_to(end, status):
    assert program(f"{START}run(lambda: 1)\n{end}") == (status, "", "")


def test_an_error_ends_a_program_with_its_traceback_only():
    status, _, err = program(f"{START}run(lambda: 1 / 0)")
    assert status == 1 and err.endswith("ZeroDivisionError: division by zero") and err.count("Traceback") == 1


def test_ctrl_c_interrupts_and_cancels():
    text = f"""{START}
ended = threading.Event()
async def long():
    try: await asyncio.sleep(60)
    finally: ended.set()
run(lambda: 0)
print('ready', flush=True)
try: run(long)
except KeyboardInterrupt: print(ended.wait(2), run(lambda: 'still alive'))
"""
    assert program(text, interrupt_after=0.5) == (0, "True still alive", "")


def test_a_start_that_ctrl_c_broke_off_goes_on():
    text = f"""{START}
import lightbulb.web.reactor as reactor
class Once(reactor.Future):
    asked = 0
    def result(self, timeout=None):
        Once.asked += 1
        if Once.asked == 1: raise KeyboardInterrupt
        return super().result(timeout)
reactor.Future = Once
try: run(lambda: 1)
except KeyboardInterrupt: print(run(lambda: 'still alive'))
"""
    assert program(text) == (0, "still alive", "")


def test_another_reactor_is_a_clear_error():
    status, out, _ = program(
        "from twisted.internet import reactor\n" + START + "try: run(print)\nexcept Exception as error: print(type(error).__name__, error)"
    )
    assert status == 0 and out.startswith("ReactorError another Twisted reactor is already installed")


def test_a_module_that_is_loaded_anew_finds_the_reactor_that_runs():
    text = f"""{START}
import importlib, threading
import lightbulb.web.reactor as module
before = run(threading.get_ident)
print(importlib.reload(module).run(threading.get_ident) == before)
"""
    assert program(text) == (0, "True", "")


def test_a_forked_child_is_told_so_and_a_fork_before_is_fine():
    text = f"""{START}
def child(expect):
    pid = os.fork()
    if pid == 0:
        try: said = str(run(lambda: 'fine'))
        except Exception as error: said = type(error).__name__
        os._exit(0 if said == expect else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
before = child('fine')
run(lambda: 1)
print(before, child('ReactorError'))
"""
    assert program(text)[:2] == (0, "0 0")


def test_twisteds_own_errors_reach_logging():
    text = f"""{START}
import gc, logging
logging.basicConfig(format='%(name)s %(levelname)s', stream=sys.stdout)
def lose():
    from twisted.internet.defer import fail
    fail(ValueError('lost'))
run(lose); run(gc.collect); run(lambda: 1)
"""
    status, out, _ = program(text)
    assert status == 0 and "lightbulb.twisted CRITICAL" in out
