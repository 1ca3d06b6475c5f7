"Whatever pages say, models answer and tools do: see `generated_runs`, which also runs as many as one likes."

from __future__ import annotations

from generated_runs import Run, check, runs
from hypothesis import HealthCheck, given, settings


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(runs())
def test_every_generated_run_holds(run: Run) -> None:
    check(run, slack=60.0)  # by hand it is one second; here other work on the machine must not decide
