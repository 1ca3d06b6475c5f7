"The confidence of answers is the fit of rows that ship, and anyone can repeat it."

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "lightbulb" / "agent" / "calibration.json"


def test_the_shipped_confidence_is_the_fit_of_the_rows_that_ship(tmp_path: Path) -> None:
    target = tmp_path / "calibration.json"
    command = [sys.executable, "-m", "tools.calibrate_answers", "--only_kept", "--target", str(target)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    fitted, shipped = (json.loads(path.read_text(encoding="utf-8")) for path in (target, SHIPPED))
    assert fitted.keys() == shipped.keys()
    for kind, values in shipped.items():
        assert fitted[kind]["weights"] == pytest.approx(values["weights"], abs=2e-3)
        assert fitted[kind]["bias"] == pytest.approx(values["bias"], abs=2e-3)
        assert fitted[kind]["threshold"] == pytest.approx(values["threshold"], abs=2e-3)


def test_no_text_of_the_questions_ships_with_the_rows() -> None:
    path = ROOT / "tools" / "calibration_rows.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert path.stat().st_size < 280 * len(rows)
    for row in rows:
        assert row.keys() == {"fit", "id", "answerable", "right", "measured"}
        assert isinstance(row["right"], bool) and " " not in row["id"]
        assert all(isinstance(value, float) for value in row["measured"].values())
