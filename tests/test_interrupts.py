"""Long work says something at once, and a notebook's interrupt of it ends in one line that says what is kept, without a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
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
SNIPPETS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def tutorial(name: str) -> list[str]:
    "Its cells of code."
    cells = json.loads((ROOT / "nbs" / f"tutorial_{name}.ipynb").read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


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


def test_each_snippet_of_the_readme(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run(f"import os; os.chdir({str(tmp_path)!r})")
    for snippet, first_words in zip(SNIPPETS, ("Working", "preparing a run", "preparing a run in models/world_model"), strict=True):
        printed, error = kernel.run(snippet, interrupt_at=first_words)
        assert len(error) == 1 and error[0].startswith("interrupted: "), (printed, error)


@pytest.mark.parametrize(
    ("name", "long", "first_words"),
    [("ask", (1,), "read"), ("language_model", (1, 2), "preparing"), ("world_model", (1,), "preparing"), ("your_own", (1, 3), "preparing")],
)
def test_each_tutorial(kernel: Kernel, name: str, long: tuple[int, ...], first_words: str) -> None:
    "After the snippets: models that a question was interrupted in the middle of loading are loaded again."
    cells = tutorial(name)
    assert kernel.run(cells[0])[1] == []
    for number in long:
        printed, error = kernel.run(cells[number].replace("num_epochs=1,", "num_epochs=10_000,"), interrupt_at=first_words)
        assert len(error) == 1 and error[0].startswith("interrupted: "), (printed, error)


def test_models_are_loaded_by_several_threads() -> None:
    "Libraries change PyTorch's defaults for the whole process while they load weights."
    from lightbulb.lm.language_model import load_language_model
    from lightbulb.reading.reader import SpanReader

    with ThreadPoolExecutor(3) as threads:
        loads = [
            threads.submit(load)
            for load in (lambda: load_language_model("smollm2"), SpanReader.load, lambda: load_language_model("smollm2"))
        ]
        first, reader, second = (load.result() for load in loads)
    assert first.generate(["The lamp"], max_new_tokens=4) == second.generate(["The lamp"], max_new_tokens=4)
    assert {weight.dtype for name, weight in reader.network.named_parameters() if "_head." in name} == {torch.float32}


def test_the_first_line_that_says_something_stays() -> None:
    with pytest.raises(KeyboardInterrupt) as outer, Interrupted.instead(lambda: "outside"), Interrupted.instead(lambda: "inside"):
        raise KeyboardInterrupt
    assert str(outer.value) == "inside"


def test_a_script_whose_thread_outlives_it_ends_with_its_own_status() -> None:
    begin = "import sys, threading; from lightbulb.agent.waiting import Background; Background(lambda tell: threading.Event().wait())\n"
    caught = "try: sys.exit(2)\nexcept SystemExit: pass\n"
    endings = {
        "raise RuntimeError": 1,
        "raise KeyboardInterrupt": 130,
        "sys.exit(3)": 3,
        "sys.exit('no')": 1,
        caught + "sys.exit()": 0,
        "": 0,
    }
    scripts = [subprocess.Popen([sys.executable, "-c", begin + end], cwd=ROOT, stderr=subprocess.DEVNULL) for end in endings]
    assert dict(zip(endings, [script.wait(60) for script in scripts], strict=True)) == endings


@pytest.mark.parametrize("module", ["agent.answering", "apps.question_panels"])
def test_asking_begins_before_pytorch_is_loaded(module: str) -> None:
    "Its import takes seconds, in which nobody could be told what is going on."
    code = f"import sys, lightbulb.{module}; print({{'torch', 'transformers', 'twisted'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "set()\n"
