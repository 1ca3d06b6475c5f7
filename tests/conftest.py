"""What every test stands on: one thread, no hub, no network but the loopback, a cache of the repository's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("LIGHTBULB_CACHE", str(Path(__file__).resolve().parents[1] / ".cache" / "lightbulb"))  # worth keeping


from offline import refuse_network

refuse_network()  # before any other import, so that no library keeps an unguarded function

from notebook_browser import jupyter_lab  # noqa: E402

from lightbulb.core.errors import UnavailableError  # noqa: E402
from lightbulb.knowledge.postgres import TemporaryServer  # noqa: E402

__all__ = ["jupyter_lab"]  # one server for every module

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "The cluster comes last: a process that Ray's threads have run in cannot be forked safely any more (data loaders, environments)."
    items.sort(key=lambda item: item.path.name == "test_cluster.py")


@pytest.fixture(scope="session")
def root() -> Path:
    "The top of the checkout."
    return ROOT


@pytest.fixture(scope="module")
def browser():
    """A real Chromium, no longer than a module: its event loop runs in this thread.

    Missing, it is an error where it can be installed, and a skip elsewhere.
    """
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not found and shutil.which("apt-get"):
        pytest.fail("chromium is not installed: run make setup")
    if not found:
        pytest.skip("chromium is not installed, and there is no apt to install it with")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def postgres_server():
    "A real PostgreSQL with pgvector; skipped where none is installed (`make setup` brings one)."
    try:
        server = TemporaryServer()
    except UnavailableError as error:
        pytest.skip(str(error))
    with server:
        yield server
