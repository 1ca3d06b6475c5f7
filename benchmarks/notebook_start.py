"""Seconds from opening `query.ipynb` in JupyterLab to the first answer, in a real Chromium, with the models and pages of earlier runs kept.

JupyterLab serves a copy of the notebook without outputs, up to its first question; the page is opened, every cell is run as soon as the
kernel is there, and the clock stops when the answer is on the page. Each run has a kernel of its own. Nothing is tuned.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from _table import Table, arguments

NOTEBOOK = Path("nbs/apps/query.ipynb")
ANSWER = "Zeigler"
FLAGS = ["--no-browser", "--ip=127.0.0.1", "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser"]
IDLE = "() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"


def first_question(book: dict[str, Any]) -> dict[str, Any]:
    "The notebook up to its first question, nothing run."
    code = [cell | {"outputs": [], "execution_count": None} for cell in book["cells"] if cell["cell_type"] == "code"]
    return book | {"cells": code[:2]}


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    "JupyterLab on the loopback, with settings of its own; it answers when this returns."
    own = {name: str(folder / "home") for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    command = [sys.executable, "-m", "jupyterlab", *FLAGS, f"--port={port}", f"--ServerApp.root_dir={folder}"]
    places = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    server = subprocess.Popen(command, env=os.environ | own | {"PYTHONPATH": places}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            urlopen(f"http://127.0.0.1:{port}/lab", timeout=10).close()
            return server
        except (URLError, OSError):
            time.sleep(0.2)
    server.kill()
    raise SystemExit("JupyterLab does not answer")


def speed() -> float:
    "Seconds of eight million additions in plain Python: shared machines are not equally fast at all times."
    begin, total = time.perf_counter(), 0
    for number in range(8_000_000):
        total += number
    return time.perf_counter() - begin


def open_and_ask(browser: Any, address: str) -> tuple[float, float, float]:
    "Seconds until the page and its kernel are there, until the panel is, and until the answer is."
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(300_000)
    begin = time.perf_counter()
    page.goto(address)
    page.wait_for_function(IDLE)
    kernel = time.perf_counter() - begin
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.get_by_role("button", name="Ask").first.wait_for()
    panel = time.perf_counter() - begin
    page.locator(".jp-OutputArea-executeResult", has_text=ANSWER).first.wait_for()
    answer = time.perf_counter() - begin
    page.close()
    return kernel, panel, answer


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None: raise SystemExit("chromium is not installed: run make setup")
    table = Table("From opening query.ipynb to the first answer", ("jupyterlab", "torch", "transformers"))
    os.environ.setdefault("LIGHTBULB_CACHE", str(Path.home() / ".cache" / "lightbulb"))
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made)
        server = serve(folder, 8897)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        runs, speeds = [], []
        try:
            for number in range(2 if options.quick else 6):
                (folder / f"query{number}.ipynb").write_text(json.dumps(first_question(json.loads(NOTEBOOK.read_text("utf-8")))), "utf-8")
                speeds.append(speed())
                runs.append(open_and_ask(browser, f"http://127.0.0.1:8897/doc/tree/query{number}.ipynb?reset"))
                print("  " + ", ".join(f"{seconds:.1f} s" for seconds in runs[-1]), flush=True)
        finally:
            browser.close()
            server.terminate()
    for name, column in zip(("page and kernel", "panel", "answer"), zip(*runs[1:], strict=True), strict=True):
        middle = statistics.median(column)
        aim = ("≤ 15 s", middle <= 15) if name == "answer" else ("", None)
        table.row(f"{name}: seconds after opening", f"{middle:.1f} s ({min(column):.1f} to {max(column):.1f})", *aim)
    table.row(
        "before each: seconds of eight million additions in plain Python",
        f"{statistics.median(speeds[1:]):.2f} s ({min(speeds[1:]):.2f} to {max(speeds[1:]):.2f})",
    )
    table.note(
        "The first run warms the caches and does not count. One kernel after the other; those of earlier runs stay open, with their models."
    )
    return table.finish(options.record)


if __name__ == "__main__": raise SystemExit(main())
