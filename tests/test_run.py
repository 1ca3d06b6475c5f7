"What every training shares: a gradient that is no number is refused, an interrupt ends it at once, and a kill loses nothing that was kept."

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import Counting

from lightbulb.core.checkpoint import load_checkpoint
from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.run import Run
from lightbulb.core.run_folder import Moment, find_model_file, keep_moment, moments, set_aside, write_card
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.training import LanguageModelTraining
from lightbulb.world.configuration import TrainWorldModel
from lightbulb.world.training import WorldModelTraining


ROOT = Path(__file__).resolve().parents[1]


def language_model(folder: Path, **changes: Any) -> LanguageModelTraining:
    text = folder / "text.txt"
    text.write_text("".join(f"lamp {number} burns oil number {number * number % 17}.\n" for number in range(60)))
    return LanguageModelTraining(
        TrainLanguageModel(
            save_dir=folder,
            device="cpu",
            dataset_name=str(text),
            model_name="bytes",
            width=16,
            num_heads=2,
            num_layers=1,
            max_length=16,
            batch_size=4,
            accumulation_steps=2,
            **changes,
        )
    )


def world_model(folder: Path, **changes: Any) -> WorldModelTraining:
    training = WorldModelTraining(
        TrainWorldModel(
            save_dir=folder,
            device="cpu",
            environment="tic_tac_toe",
            random_games=20,
            width=16,
            hidden=32,
            batch_size=1,
            accumulation_steps=2,
            mcts_iterations=4,
            **changes,
        )
    )
    training.practice.play_at_random()
    return training


TRAININGS = [language_model, world_model]


@pytest.mark.parametrize("make", TRAININGS)
def test_a_gradient_that_is_no_number_is_one_line_and_moves_nothing(make: Callable[[Path], Any], tmp_path: Path) -> None:
    training = make(tmp_path)
    for _ in range(2):
        training.train_step()
    before = [parameter.detach().clone() for parameter in training.move.parameters]
    hook = training.move.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    folder = tmp_path / "run"
    with pytest.raises(
        LightbulbError, match=f"the gradient's norm is (inf|nan) in step 3; lower learning_rate; what {folder} holds is whole"
    ):
        next(Run(folder).train(lambda: training))
    hook.remove()
    assert all(torch.equal(one, other) for one, other in zip(before, training.move.parameters, strict=True))
    assert not list(folder.glob("epoch_*")), "a half step is not kept"


def test_a_learning_rate_beyond_all_numbers_is_one_line(tmp_path: Path) -> None:
    training = language_model(tmp_path, learning_rate=1e18)
    with pytest.raises(LightbulbError, match="(loss|norm) is (inf|nan) in step 2; lower learning_rate"):
        list(Run(tmp_path / "run").train(lambda: training))
    with pytest.raises(LightbulbError, match="in step 2; lower learning_rate; nothing is kept without save_dir"):
        list(Run(tmp_path / "temporary", is_temporary=True).train(lambda: training))


def test_an_evaluation_whose_loss_is_no_number_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    training, folder = world_model(tmp_path, steps_per_epoch=2, renewed_positions=0), tmp_path / "run"
    with torch.no_grad():
        for parameter in training.average.weights.values() if training.average else ():
            parameter.fill_(math.nan)  # the averaged weights are what an evaluation looks at
    with pytest.raises(LightbulbError, match=r"one finite number, got nan after step 2; lower learning_rate"):
        list(Run(folder).train(lambda: training))
    assert [moment.step for moment in moments(folder)] == [0] and moments(folder)[0].epoch == 1


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    "The second would move the first one's moments aside while it writes; resumed, both would write the same ones."
    folder = tmp_path / "run"
    first = Run(folder, save_every=0).train(lambda: world_model(tmp_path))
    next(first)
    next(first)  # the step before is kept now
    before = moments(folder)
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=f"{folder}: another run of this process writes here"):
            next(Run(folder, resume=resume).train(lambda: world_model(tmp_path)))
    child = f"from pathlib import Path; from lightbulb.core.run import Run; next(Run(Path({str(folder)!r})).train(lambda: None))"
    refused = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert f"{folder}: another run writes here (process {os.getpid()}); stop it, or take another folder" in refused.stderr
    assert moments(folder) == before and not (tmp_path / "run_001").exists()
    next(first)
    first.close()
    assert not (folder / ".lock").exists()
    with contextlib.closing(Run(folder).train(lambda: world_model(tmp_path))) as second:
        next(second)
        assert (tmp_path / "run_001" / "metrics.jsonl").is_file()


def test_a_run_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = (
        "import os, signal; from pathlib import Path; from lightbulb.core.run_folder import alone_in\n"
        f"with alone_in(Path({str(folder)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", child]).returncode == -9
    assert (folder / ".lock").is_file()
    with contextlib.closing(Run(folder).train(lambda: world_model(tmp_path))) as run:
        next(run)


@pytest.mark.parametrize("make", TRAININGS)
def test_gradients_reach_the_optimizers_at_the_norm_that_was_asked_for(make: Callable[..., Any], tmp_path: Path) -> None:
    training, norms = make(tmp_path, max_grad_norm=0.02), list[float]()

    def look(*_: object) -> None:
        norms.append(math.sqrt(sum(float(one.grad.square().sum()) for one in training.move.parameters if one.grad is not None)))

    training.move.optimizers[0].register_step_pre_hook(look)  # the first of both: nothing has been moved or emptied
    before = training.train_step().metrics["gradient_norm"]
    assert before > 0.04, "there was something to clip"
    assert norms == [pytest.approx(0.02, rel=1e-3)]


@pytest.mark.parametrize("make", TRAININGS)
def test_an_overflow_under_a_scaler_moves_no_optimizer_and_halves_the_scale(make: Callable[[Path], Any], tmp_path: Path) -> None:
    training = make(tmp_path)
    assert len(training.move.optimizers) == 2, "Muon for the matrices, AdamW for the rest"
    training.move.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # pyright: ignore[reportPrivateImportUsage]
    training.train_step()
    before = [parameter.detach().clone() for parameter in training.move.parameters]
    matrix = training.move.optimizers[1].param_groups[0]["params"][0]  # Muon's; AdamW's gradients are finite
    hook = matrix.register_hook(lambda gradient: gradient * math.inf)
    assert not math.isfinite(training.train_step().metrics["gradient_norm"])
    assert all(torch.equal(one, other) for one, other in zip(before, training.move.parameters, strict=True))
    assert training.move.scaler.get_scale() == 512.0
    hook.remove()
    assert math.isfinite(training.train_step().metrics["gradient_norm"])
    assert not all(torch.equal(one, other) for one, other in zip(before, training.move.parameters, strict=True))


def test_ctrl_c_before_anything_was_learned_does_not_wait(tmp_path: Path) -> None:
    "Random games for hours: the first SIGINT is one line and status 130, within seconds."
    command = [sys.executable, "lightbulb_WM.py", "--environment", "tic_tac_toe", "--random_games", "100000000", "--capacity", "100000000"]
    command += ["--device", "cpu", "--save_dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begin = time.monotonic()
        while not (tmp_path / "world_model" / "metrics.jsonl").parent.is_dir():
            assert process.poll() is None and time.monotonic() - begin < 120
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.strip()]
    assert process.returncode == 130 and lines == ["  loading PyTorch, then tic_tac_toe", "lightbulb: interrupted"]


def test_kills_at_random_moments_lose_nothing_that_was_kept() -> None:
    "benchmarks/kills.py --kills 1000 is the long one."
    done = subprocess.run([sys.executable, "benchmarks/kills.py", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.rsplit(" | ", 1)[1] for line in done.stdout.splitlines() if " | " in line] == [
        "yes"
    ] * 4  # language model, world model, PPO, hierarchy


def test_what_is_no_run_s_stays_where_a_run_is_set_aside(tmp_path: Path) -> None:
    "`train_ppo(save_dir='models')` shares its folder with other trainings and with what a user keeps there."
    keep_moment(tmp_path / "models", Moment(1), {}, {})
    write_card(tmp_path / "models", Moment(1), notes={}, settings={}, measured={})
    keep_moment(tmp_path / "models" / "language_model", Moment(2), {}, {})
    (tmp_path / "models" / "notes.txt").write_text("mine")
    (tmp_path / "models" / "settings.json").write_text("{}")  # the panel's, of this run
    aside = set_aside(tmp_path / "models")
    assert aside == (tmp_path / "models_001").resolve()
    assert moments(aside) == [Moment(1)]
    assert sorted(place.name for place in aside.iterdir()) == ["epoch_001", "model_card.md", "settings.json"]
    assert sorted(place.name for place in (tmp_path / "models").iterdir()) == ["language_model", "notes.txt"]
    assert set_aside(tmp_path / "models") is None


@pytest.mark.parametrize("is_link", [False, True])
def test_a_run_is_set_aside_from_the_working_directory_and_from_behind_a_link(
    is_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "run" if is_link else Path()
    disk.mkdir()
    (tmp_path / "run").symlink_to(disk)
    monkeypatch.chdir(disk)
    for number, step in enumerate((9, 9, 4)):
        assert set_aside(folder) == (tmp_path / f"disk_00{number}" if number else None)
        keep_moment(folder, Moment(0, step), {"number": number}, {})
    kept = {file.parts[-3]: load_checkpoint(file)["number"] for file in tmp_path.rglob("model.ckpt")}
    assert kept == {"disk_001": 0, "disk_002": 1, "disk": 2}
    assert load_checkpoint(find_model_file(folder, "model")) == {"number": 2}


def test_a_program_that_ends_in_the_middle_of_its_training_keeps_everything(tmp_path: Path) -> None:
    code = "run = Run(Path(sys.argv[1])).train(lambda: Counting(9))\nfor report in run:\n    if report.step == 5: break"
    imports = "import sys\nfrom pathlib import Path\nfrom counting import Counting\nfrom lightbulb.core.run import Run"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", f"{imports}\n{code}", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stderr, moments(tmp_path)) == ("", [Moment(0, 5)])


def test_two_trainings_side_by_side_leave_ctrl_c_as_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    first, second = (Run(tmp_path / name).train(lambda steps=steps: Counting(steps)) for name, steps in (("first", 3), ("second", 4)))
    for _ in zip(first, second, strict=False):  # the first one ends first
        assert signal.getsignal(signal.SIGINT) != before
    second.close()
    assert signal.getsignal(signal.SIGINT) == before
