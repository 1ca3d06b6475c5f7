"A training that only counts its steps."

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightbulb.core.report import StepReport
from lightbulb.core.run_folder import Moment


class Counting:
    is_whole = True

    def __init__(self, num_steps: int) -> None:
        self.step, self.num_steps = 0, num_steps

    @property
    def moment(self) -> Moment:
        return Moment(0, self.step)

    @property
    def is_done(self) -> bool:
        return self.step == self.num_steps

    def prepare(self) -> None: ...

    def train_step(self) -> StepReport:
        self.step += 1
        return StepReport(self.step, 1.0)

    def model_state(self) -> dict[str, Any]:
        return {}

    def training_state(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state(self, model: Mapping[str, Any], training: Mapping[str, Any], place: Path) -> None:
        self.step = training["step"]
