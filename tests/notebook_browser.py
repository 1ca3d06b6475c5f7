"""A real JupyterLab and a real Voila on the loopback, and notebooks opened in them by a real browser.

`jupyter_lab` is one server for the whole session (conftest takes it over from here); `open_notebook` opens a copy of a notebook in it and
notes what the browser complains of and whom it asks.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 180.0  # seconds for anything to appear: a bound for a machine that does much else, not a figure
SETTINGS = {  # of JupyterLab: nothing is fetched from outside, and every cell is in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
UNUSED = ("@jupyterlab/debugger-extension", "@jupyterlab/extensionmanager-extension", "jupyterlab-jupytext")  # extensions of JupyterLab


def need(module: str) -> None:
    "Skip the test, and say why, where a package of the extra `notebook` is missing."
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: it comes with lightbulb[notebook]")


@dataclass
class NotebookServer:
    "A server that runs, and where it serves from."

    url: str  # ends without a slash
    folder: Path  # its root: notebooks are copied into it

    def add(self, notebook: Path, name: str = "") -> str:
        "Copy a notebook into the folder; its path there."
        target = self.folder / (name or notebook.name)
        shutil.copy(notebook, target)
        return target.name

    def write(self, name: str, *cells: str) -> str:
        "A new notebook of code cells; its path there."
        import nbformat

        kernel = {"display_name": "python3", "language": "python", "name": "python3"}
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel})
        nbformat.write(book, self.folder / name)
        return name


def _environment(home: Path) -> dict[str, str]:
    "Of a server whose settings, kernels and histories are its own, and whose kernels import this checkout."
    own = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "PYTHONPATH": ROOT,
    }
    return os.environ | {"JUPYTER_PLATFORM_DIRS": "1"} | {name: str(value) for name, value in own.items()}


@contextmanager
def _serve(
    arguments: list[str], home: Path, folder: Path, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[NotebookServer]:
    "The server of a command; it has ended, and its kernels with it, when the context is left."
    for name, settings in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    page_settings = home / "config" / "labconfig" / "page_config.json"
    page_settings.parent.mkdir(parents=True, exist_ok=True)
    page_settings.write_text(json.dumps({"disabledExtensions": dict.fromkeys(UNUSED, True)}))
    folder.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=_environment(home) | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield NotebookServer(_wait_for_address(process, home, log, port), folder)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_address(process: subprocess.Popen[bytes], home: Path, log: Path, port: int) -> str:
    "The address of a server, once it answers."
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()[-2000:]
        for file in (home / "runtime").glob(f"jpserver-{process.pid}.json"):
            with _tolerated():
                port = json.loads(file.read_text())["port"]
        if port:
            with _tolerated(), urlopen(f"http://127.0.0.1:{port}/", timeout=10):
                return f"http://127.0.0.1:{port}"
        time.sleep(0.2)
    raise AssertionError(f"the server did not answer: {log.read_text()[-2000:]}")


@contextmanager
def _tolerated() -> Iterator[None]:
    "What a server that is still starting does."
    try:
        yield
    except (OSError, ValueError, KeyError):
        pass


@pytest.fixture(scope="session")
def jupyter_lab(tmp_path_factory) -> Iterator[NotebookServer]:
    "A JupyterLab without a password on a free port of the loopback, with a folder of its own."
    need("jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    flags = [
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        f"--ServerApp.root_dir={home / 'notebooks'}",
        "--allow-root",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
    ]
    with _serve(["-m", "jupyterlab", *flags, "--LabApp.extension_manager=readonly"], home, home / "notebooks") as server:
        yield server


@contextmanager
def serve_app(
    home: Path,  # for its settings; the notebooks are in the folder `notebooks` inside
    **environment: str,  # of the server and its kernels
) -> Iterator[NotebookServer]:
    "What `make app` serves, with the notebooks of a folder, on a free port of the loopback."
    need("voila")
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    folder = home / "notebooks"
    with _serve(["tools/app.py", f"--port={port}", f"--folder={folder}", "--no-browser"], home, folder, port, environment) as server:
        yield server


@dataclass
class OpenNotebook:
    "A notebook in a browser's page."

    page: Any  # Playwright's
    complaints: list[str] = field(default_factory=list)  # errors on the console and of scripts
    outside: list[str] = field(default_factory=list)  # addresses that are not on this machine; each was refused

    def run_all(self) -> None:
        "Run every cell, and wait until all have run."
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def wait_for_kernel(self) -> None:
        "Until the kernel has nothing to do."
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def reload(self) -> None:
        "Save the notebook and load its page again, beside the same kernel."
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        self.page.reload(wait_until="load")
        self.wait_for_kernel()

    def close(self, *, tolerated: str = "no such complaint") -> None:
        "Close the page; `AssertionError` names what it complained of (without that text in it) or asked for."
        self.page.close()
        complaints = [text for text in self.complaints if tolerated not in text]
        assert not complaints and not self.outside, (complaints[:5], self.outside[:5])


def open_page(browser: Any, url: str, width: int = 1400, height: int = 1000) -> OpenNotebook:
    "A page of a server, in which nothing from outside is loaded."
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE * 1000)
    opened = OpenNotebook(page)

    def answer(route: Any) -> None:
        address = route.request.url
        if address.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")): return route.continue_()
        opened.outside.append(address)
        return route.abort()

    page.route("**/*", answer)
    page.on("console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.goto(url, wait_until="load")
    return opened


def open_notebook(
    browser: Any,
    server: NotebookServer,
    name: str,  # path in the server's folder
    *,
    width: int = 1400,
    height: int = 1000,
) -> OpenNotebook:
    "A notebook alone in a page of JupyterLab, its kernel ready."
    opened = open_page(browser, f"{server.url}/doc/tree/{name}?reset", width, height)
    opened.wait_for_kernel()
    return opened
