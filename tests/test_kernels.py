"""A compiled kernel is kept on disk until anything that it can call is edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAMPS = """
from lightbulb.core.kernels import source_stamp
from lightbulb.planning import compiled_model, root_noise
print(source_stamp(compiled_model._search_network.py_func), source_stamp(root_noise._uniform.py_func))
"""


def run(program: str, folder: Path) -> str:
    "What a fresh process prints whose packages come from `folder`."
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    "The rooms below the search, apart, with a cache of their own."
    for room in ("core", "planning"):
        shutil.copytree(ROOT / "lightbulb" / room, tmp_path / "lightbulb" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "lightbulb" / "__init__.py", tmp_path / "lightbulb")
    return tmp_path


def write_house(folder: Path, number: int, middle: str = "from .low import number") -> None:
    "`high` calls `middle`, which calls `low`."
    (folder / "house").mkdir(exist_ok=True)
    head = "from lightbulb.core.kernels import kernel\n"
    (folder / "house" / "__init__.py").write_text("")
    (folder / "house" / "low.py").write_text(f"{head}\n@kernel\ndef number():\n    return {number}\n")
    (folder / "house" / "middle.py").write_text(f"{head}{middle}\n\n@kernel\ndef doubled():\n    return 2 * number()\n")
    (folder / "house" / "high.py").write_text(
        f"{head}from house.middle import (\n    doubled,\n)\n\n@kernel\ndef plus_one():\n    return doubled() + 1\n"
    )


@pytest.mark.parametrize(
    "middle", ["from .low import number", "from . import low\n\nnumber = low.number", "import house.low\nnumber = house.low.number"]
)
def test_an_edit_two_modules_below_reaches_the_kernel(copy, middle):
    program = "from house.high import plus_one; print(plus_one(), sum(plus_one.stats.cache_hits.values()))"
    write_house(copy, 1, middle)
    assert run(program, copy) == "3 0"
    assert run(program, copy) == "3 1", "nothing was edited, and yet the kernel was compiled again"
    write_house(copy, 10, middle)
    assert run(program, copy) == "21 0"


def test_a_constant_of_another_module_is_part_of_the_kernel(copy):
    write_house(copy, 1)
    (copy / "house" / "low.py").write_text("NUMBER = 5\n")
    (copy / "house" / "middle.py").write_text(
        "from lightbulb.core.kernels import kernel\nfrom .low import NUMBER\n\n@kernel\ndef doubled():\n    return 2 * NUMBER\n"
    )
    assert run("from house.high import plus_one; print(plus_one())", copy) == "11"
    (copy / "house" / "low.py").write_text("NUMBER = 6\n")
    assert run("from house.high import plus_one; print(plus_one())", copy) == "13"


def test_only_the_kernels_that_can_call_an_edited_module_are_stale(copy):
    "The compiled model calls the search kernels; the noise does not."
    search, noise = run(STAMPS, copy).split()
    with (copy / "lightbulb" / "planning" / "search_kernels.py").open("a") as file:
        file.write("# edited\n")
    edited_search, edited_noise = run(STAMPS, copy).split()
    assert edited_search != search and edited_noise == noise


def test_an_edit_of_the_language_models_operations_is_noticed(tmp_path):
    "Their kernels are closures, which each process compiles for itself: nothing is kept that could be stale."
    (tmp_path / "lightbulb" / "lm").mkdir(parents=True)
    for name in ("__init__.py", "lm/__init__.py", "lm/operations.py"):
        shutil.copy(ROOT / "lightbulb" / name, tmp_path / "lightbulb" / name)
    program = (
        "import torch; from lightbulb.lm.operations import rms_norm; "
        "print(round(rms_norm(torch.tensor([[3.0, 4.0]], requires_grad=True), torch.ones(2)).square().sum().item(), 3))"
    )
    assert run(program, tmp_path) == "2.0"
    file = tmp_path / "lightbulb" / "lm" / "operations.py"
    text = file.read_text("utf-8")
    edited = text.replace("np.sqrt(squares / np.float32(width) + epsilon)", "np.sqrt(squares + epsilon)", 1)
    assert edited != text
    file.write_text(edited, "utf-8")
    assert run(program, tmp_path) == "1.0"
    assert not list(tmp_path.rglob("*.nbi"))


def test_nobody_uses_the_cache_that_does_not_see_edits():
    modules = [path for path in (ROOT / "lightbulb").rglob("*.py") if path.name != "kernels.py"]
    assert not [path.name for path in modules if re.search(r"njit\([^)]*cache=True", path.read_text("utf-8"))]


def test_the_stamps_of_all_kernels_together_take_no_time():
    from lightbulb.core.kernels import source_stamp
    from lightbulb.planning import compiled_model

    functions = [item.py_func for item in vars(compiled_model).values() if hasattr(item, "py_func")]
    assert len(functions) > 5
    start = time.process_time()
    for _ in range(60):
        source_stamp(functions[0])
    assert time.process_time() - start < 0.5  # 0.01 s on an idle machine
