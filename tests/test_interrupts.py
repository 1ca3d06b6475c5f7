"""Long work says something at once, and a notebook's interrupt of it ends in one line that says what is kept, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from lightbulb.core.errors import Interrupted
from lightbulb.core.run_folder import moments

ROOT = Path(__file__).resolve().parents[1]

WAITING = """
import sys, threading, time

def say_when_the_notebook_waits_in(name):
    "Printed from another thread, as soon as the cell's own is inside a function of this name."
    def names(frame): return {frame.f_code.co_name} | names(frame.f_back) if frame else set()
    while name not in names(sys._current_frames()[threading.main_thread().ident]): time.sleep(0.01)
    print("waiting", flush=True)
"""
ANSWERING = """
from small_site import LENIENT, SmallSite, small_tools
from lightbulb.agent.answering import answer

class SlowSite(SmallSite):
    "Reads one page, then waits until it is let go."
    go_on = threading.Event()

    def search(self, query, num_results=10):
        if query != "Humphry Davy":
            say_when_the_notebook_waits_in("follow")
            self.go_on.wait(60)
        return super().search(query, num_results)

for step in answer("Where was Humphry Davy born?", tools=small_tools(search=SlowSite()), calibrations=LENIENT): pass
"""
TRAINING = """
from pathlib import Path
from lightbulb.world.training import TrainWorldModel, train_world_model

config = TrainWorldModel(
    save_dir=Path(FOLDER), environment="tic_tac_toe", random_games=20, width=16, hidden=32, batch_size=1, accumulation_steps=1, device="cpu"
)
for report in train_world_model(config):
    print("step", report.step, flush=True)
"""
FETCHING = """
from lightbulb.web.fetch import FetchConfig, Fetcher
from lightbulb.web.reactor import Response, serve

def late(request):
    say_when_the_notebook_waits_in("result")
    return Response(body="late", delay=60)

Fetcher(FetchConfig(allow_hosts=(f"127.0.0.1:{(server := serve(late)).port}",))).run(server.url)
"""


class Kernel:
    "A real one, as a notebook has it."

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=environment)

    def run(self, code: str, *, interrupt_at: str = "") -> tuple[str, list[str]]:
        "What is printed, and the lines of the error; interrupted when this word is printed."
        request, printed, error = self.client.execute(code), "", list[str]()
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != request: continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
                if interrupt_at and interrupt_at in printed:
                    self.manager.interrupt_kernel()
                    interrupt_at = ""
            elif message["msg_type"] == "error":
                error = content["traceback"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed, error


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    running = Kernel()
    running.run(WAITING)
    yield running
    running.client.stop_channels()
    running.manager.shutdown_kernel(now=True)


def test_a_question(kernel: Kernel) -> None:
    printed, error = kernel.run(ANSWERING, interrupt_at="waiting")
    assert error == ["interrupted: the question is dropped; there is no knowledge base that keeps what was read"], printed
    assert kernel.run("SlowSite.go_on.set(); print('still here')") == ("still here\n", [])


def test_a_training_goes_on_from_where_it_was(kernel: Kernel, tmp_path: Path) -> None:
    printed, error = kernel.run(TRAINING.replace("FOLDER", repr(str(tmp_path))), interrupt_at="step 3")
    assert printed.splitlines()[0] == f"preparing a run in {tmp_path / 'world_model'}"  # before anything that takes long
    (kept,) = moments(tmp_path / "world_model")
    place = tmp_path / "world_model" / kept.name
    assert error == [f"interrupted: after step {kept.step}; {place} is kept, and resume=True goes on from there"]
    printed, error = kernel.run("from dataclasses import replace\nprint(next(train_world_model(replace(config, resume=True))).step)")
    assert (printed.splitlines()[1:], error) == ([str(kept.step + 1)], [])


def test_a_page(kernel: Kernel) -> None:
    assert kernel.run(FETCHING, interrupt_at="waiting") == ("waiting\n", ["interrupted: what was under way is cancelled"])


def test_the_first_line_that_says_something_stays() -> None:
    with pytest.raises(KeyboardInterrupt) as outer, Interrupted.instead(lambda: "outside"), Interrupted.instead(lambda: "inside"):
        raise KeyboardInterrupt
    assert str(outer.value) == "inside"


@pytest.mark.parametrize("module", ["agent.answering", "apps.question_panels"])
def test_asking_begins_before_pytorch_is_loaded(module: str) -> None:
    "Its import takes seconds, in which nobody could be told what is going on."
    code = f"import sys, lightbulb.{module}; print({{'torch', 'transformers', 'twisted'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "set()\n"
