"""Build the sdist and from it the wheel, install the wheel into a clean environment, and use it from another folder.

The environment is new and empty; pip installs only the wheel into it. By default the dependencies are borrowed from
.venv through a `.pth` file (a fresh copy of torch is gigabytes on some machines), never lightbulb itself: `.pth` files of
the borrowed folder are not read, and the check asserts where lightbulb was imported from. `--full` installs every
dependency instead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
EVERY_MODULE = """
import importlib, pathlib, sys
import lightbulb
root = pathlib.Path(lightbulb.__file__).parent
assert pathlib.Path(sys.prefix) in root.parents, f"lightbulb was imported from {root}"
names = sorted(path.relative_to(root.parent).with_suffix("").as_posix().replace("/", ".") for path in root.rglob("*.py"))
names = [name for name in names if not name.endswith("__main__")]
for name in names: importlib.import_module(name.removesuffix(".__init__"))
print(f"{len(names)} modules imported from the wheel")
"""


def run(*command: str | Path, folder: Path, timeout: int = 900) -> str:
    "Output of a command; ends the check with what it said if it fails."
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=CLEAN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if result.returncode:
        print(result.stdout[-4000:])
        sys.exit(f"wheel: failed with status {result.returncode}: {' '.join(map(str, command))[:300]}")
    return result.stdout


def tracked() -> list[str]:
    "Files of the package that git knows, or every file where there is no git."
    try:
        listed = subprocess.run(["git", "ls-files", "lightbulb"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        listed = []
    return listed or [
        path.relative_to(ROOT).as_posix() for path in (ROOT / "lightbulb").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]


def check_contents(wheel: Path, sdist: Path) -> None:
    "Both archives hold every file of the package (modules, demo site, reader weights)."
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    for name, content in (("wheel", in_wheel), ("sdist", in_sdist)):
        if missing := sorted(set(tracked()) - content):
            sys.exit(f"wheel: {len(missing)} files are not in the {name}: {', '.join(missing[:8])}")
    foreign = sorted({name.split("/")[0] for name in in_wheel if not name.startswith(("lightbulb/", "lightbulb-"))})
    if foreign:
        sys.exit(f"wheel: it also installs {', '.join(foreign)}")
    print(f"wheel {wheel.stat().st_size / 1e6:.1f} MB with {len(in_wheel)} files, sdist {sdist.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="install every dependency too")
    full = parser.parse_args().full
    with tempfile.TemporaryDirectory(prefix="lightbulb_wheel_") as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", ".", folder=ROOT)
        (wheel,), (sdist,) = work.glob("dist/*.whl"), work.glob("dist/*.tar.gz")
        check_contents(wheel, sdist)
        run(sys.executable, "-m", "venv", work / "clean", folder=work)
        python, script = work / "clean/bin/python", work / "clean/bin/lightbulb"
        run(
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *([] if full else ["--no-deps", "--no-index"]),
            wheel,
            folder=work,
        )
        if not full:
            (site,) = work.glob("clean/lib/python3*/site-packages")
            (site / "borrowed_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        elsewhere = work / "elsewhere"
        elsewhere.mkdir()
        for command in ([script, "--help"], [python, "-m", "lightbulb", "--help"]):
            if "test_agent" not in run(*command, folder=elsewhere, timeout=60):
                sys.exit("wheel: --help does not name the task test_agent")
        print("lightbulb --help answers from another folder")
        print(run(python, "-c", EVERY_MODULE, folder=elsewhere).strip().splitlines()[-1])


if __name__ == "__main__":
    main()
