"""Put axe-core, which the tests of the site ask about accessibility, into .venv/share; without npm or a registry nothing happens, once.

It is a tool of the tests like the browser, so it is fetched at set-up and never tracked. The hash is that of its release.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / ".venv" / "share" / "axe.min.js"
TRIED = TARGET.with_suffix(".none")  # it could not be had: no set-up waits for it again
PACKAGE = "axe-core@4.10.2"
SHA256 = "b511cd9dec01c76f4b2ad1723b66b6db37d4c2eb4ed199076e1829d9ee7b75e3"


def fetch(folder: Path) -> bytes | None:
    "The minified library, or None if it cannot be had or is another one than it should be."
    command = ["npm", "pack", PACKAGE, "--silent", "--fetch-retries", "0", "--fetch-timeout", "20000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    archive = next(folder.glob("*.tgz"), None)
    if done.returncode or archive is None: return None
    with tarfile.open(archive) as package:
        file = package.extractfile("package/axe.min.js")
        content = file.read() if file else b""
    return content if hashlib.sha256(content).hexdigest() == SHA256 else None


def main() -> None:
    if TARGET.is_file() or TRIED.is_file() or not TARGET.parents[1].is_dir() or not shutil.which("npm"): return
    TARGET.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        content = fetch(Path(folder))
    if content is None:
        TRIED.touch()
    else:
        TARGET.write_bytes(content)


if __name__ == "__main__":
    main()
