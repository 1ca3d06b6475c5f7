"""Serve the notebooks that a person works in as pages without code, on this machine alone: `python tools/app.py` (or `make app`).

Voila runs a notebook for each visitor and shows its outputs and widgets. What the pages keep is where the notebooks keep it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ("train.ipynb", "query.ipynb", "play.ipynb")
EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"]  # others are for JupyterLab


def command(folder: Path, port: int) -> list[str]:
    "What starts Voila."
    flags = [
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        "--template=lightbulb",
        "--classic-tree",
        f"--VoilaConfiguration.extension_allowlist={EXTENSIONS}",
    ]
    return [sys.executable, "-m", "voila", str(folder), *flags]


def panel_of(book: dict[str, Any]) -> dict[str, Any]:
    "A notebook up to its panel, which its first cell of code shows: what comes after it is for who has the code, and takes minutes."
    first = next(i for i, cell in enumerate(book["cells"]) if cell["cell_type"] == "code")
    return book | {"cells": book["cells"][: first + 1]}


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition(chr(10))[0])
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--folder", type=Path, help="notebooks to serve instead of lightbulb's own")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    arguments = parser.parse_args()
    if importlib.util.find_spec("voila") is None:
        print("app: voila is not installed; pip install 'lightbulb[notebook]' brings it", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        for name in NOTEBOOKS if arguments.folder is None else ():
            if (ROOT / "nbs" / "apps" / name).exists():
                book = panel_of(json.loads((ROOT / "nbs" / "apps" / name).read_text("utf-8")))
                (folder / name).write_text(json.dumps(book), "utf-8")
        paths = os.pathsep.join(filter(None, (str(ROOT / "tools" / "app"), os.environ.get("JUPYTER_PATH"))))
        environment = {**os.environ, "JUPYTER_PATH": paths, "JUPYTER_PLATFORM_DIRS": "1", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
        start = command(folder, arguments.port) + (["--no-browser"] if arguments.no_browser else [])
        print(f"app: http://127.0.0.1:{arguments.port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
        with subprocess.Popen(start, env=environment) as server:
            signal.signal(signal.SIGTERM, lambda *_: server.terminate())
            try:
                return max(server.wait(), 0)
            except KeyboardInterrupt:
                server.terminate()
                return 0


if __name__ == "__main__":
    sys.exit(main())
