"""Forms, and trainings in a process of their own: by their objects, and clicked in a real JupyterLab and a real Voila."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from notebook_browser import PATIENCE, open_notebook, open_page, serve_app

from lightbulb.agent.configuration import TestAgent, TrainAgent
from lightbulb.apps.curves import Curves, _smooth, draw_plot
from lightbulb.apps.forms import ConfigForm, _meanings, _parse
from lightbulb.apps.panels import TrainingPanel
from lightbulb.apps.training_runs import TASKS, TrainingRun, _pid_file, _restore, _status_file, _write_json
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.rl.hierarchy import HierarchyConfig
from lightbulb.rl.ppo import PPOConfig
from lightbulb.world.configuration import TrainWorldModel
from tools.app import panel_of

CONFIGURATIONS = (
    TrainLanguageModel(learning_rate=3e-4, width=48, transformer_model_path=Path("before")),
    TrainWorldModel(environment="tic_tac_toe", discount=0.9),
    PPOConfig(hidden=(32, 16), target_kl=0.01),
    HierarchyConfig(num_envs=2),
    TrainAgent(num_episodes=3, queries=Path("questions.txt")),
    TestAgent(allow_hosts=("localhost:80", "here"), search="folder:notes"),
)
AXE = Path(sys.prefix) / "share" / "axe.min.js"  # where make setup puts it, if there is npm
_PLAY = Path("cache", "notebooks", "tic_tac_toe", "world_model")  # where play.ipynb trains
SHOTS = os.environ.get("LIGHTBULB_SHOTS", "")  # a folder for pictures of the pages, to be looked at


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: type(config).__name__)
def test_a_form_gives_back_what_it_was_filled_with(config):
    form = ConfigForm(config)
    assert form.value == config and not form.errors
    shown = {path[0] for path in form._inputs}
    assert shown == {field.name for field in fields(config)}
    meanings = _meanings(type(config))
    assert sum(map(bool, meanings.values())) > len(meanings) / 2
    for path, note in form._notes.items():
        assert len(path) == 2 or not meanings[path[0]] or "lb-note" in note.value
    form.fill(type(config)(**{**vars(config), "seed": 7}))
    assert form.value.seed == 7
    assert _restore(type(config), json.loads(json.dumps(asdict(config), default=str))) == config  # as another process reads it


def test_every_field_that_is_out_of_range_is_told_beside_itself():
    "Each number of the language model below its range: the message is the configuration's own, at that field and no other."
    form, told = ConfigForm(TrainLanguageModel()), 0
    for (name,), field in form._inputs.items():
        if type(field).__name__ != "Text": continue
        before, field.value = field.value, "-5"
        errors = dict(form.errors)
        field.value = before
        assert not form.errors
        try:
            TrainLanguageModel(**{name: _parse("-5", form._hints[name,], name)})
        except ValueError as error:
            assert errors == {name: str(error)}
            told += 1
        else:
            assert not errors
    assert told > 15


def test_no_other_form_can_be_started_while_a_task_is_loaded(tmp_path, monkeypatch):
    "The libraries of a task take a second or two; meanwhile the form of the task before must be gone."
    panel, seen = TrainingPanel(save_dir=tmp_path), []

    def load():
        seen.append((panel._start.disabled, panel._form_place.children, panel._progress.value))
        return PPOConfig

    assert not panel._start.disabled
    monkeypatch.setitem(TASKS, "PPOConfig", TASKS["PPOConfig"]._replace(config_class=load))
    panel._task.value = "PPOConfig"
    ((is_disabled, forms, said),) = seen
    assert is_disabled and not forms and "loading the settings of Agent (PPO)" in said
    assert not panel._start.disabled and len(panel._form_place.children) == 2 and "loading" not in panel._progress.value


def test_fields_that_are_named_first_stand_open():
    form = ConfigForm(TestAgent(), first=("planner", "max_pages"), leave_out=("query",))
    folded = {path[0] for path in form._folds}
    assert folded == {field.name for field in fields(TestAgent)} - {"planner", "max_pages", "query"}


def test_a_file_is_read_as_it_grows_is_torn_and_is_written_anew(tmp_path):
    curves, path = Curves(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl"
    assert not curves.read()
    row = lambda step, loss: json.dumps({"step": step, "split": "train", "loss": loss}) + "\n"
    path.write_text(row(1, 3.0) + row(2, 2.0)[:10])
    assert curves.read() and curves.lines["loss", "train"] == [(1, 3.0)]
    assert not curves.read()
    path.write_text(row(1, 3.0) + row(2, 2.0)[:10] + "\n" + row(3, 1.0))  # a killed run's torn line, and how it went on
    assert curves.read() and curves.lines["loss", "train"] == [(1, 3.0), (3, 1.0)]
    (tmp_path / "new").write_text(row(1, None) + row(2, 5.0))
    (tmp_path / "new").replace(path)
    assert curves.read() and curves.lines["loss", "train"] == [(2, 5.0)]
    for line in ([(5, 1.0)], [(0, -1.0), (9, -1.0)], [(0, 1e-9), (1, 1e9)]):
        assert draw_plot("Loss <&>", [("a", line)]).count("<polyline") == 1


def test_one_odd_step_at_the_end_is_not_what_the_legend_says():
    "Of many points the running mean is said, and drawn over a pale line of the points themselves."
    line = [(step, 2.0) for step in range(1, 80)] + [(80, 6.0)]
    drawing = draw_plot("Loss", [("training", line)])
    assert "training 2.4   <" in drawing and "training 2.4 at step 80" in drawing and drawing.count("<polyline") == 2
    assert _smooth([(1, 4.0)]) == [(1, 4.0)], "the first points weigh no less than they should"


def test_the_panel_looks_into_the_folder_that_its_form_names(tmp_path):
    "Another save folder, another run: its curves, none of the one before."
    for name, loss in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name / "world_model").mkdir(parents=True)
        (tmp_path / name / "world_model" / "metrics.jsonl").write_text(json.dumps({"step": 1, "split": "train", "loss": loss}) + "\n")
    panel = TrainingPanel(TrainWorldModel(environment="tic_tac_toe", save_dir=tmp_path / "one"))
    assert "Loss: training 1 at step 1" in panel._plots.value
    panel.form._inputs["save_dir",].value = str(tmp_path / "two")
    assert "Loss: training 2 at step 1" in panel._plots.value and panel.run.folder == tmp_path / "two" / "world_model"
    panel.form._inputs["save_dir",].value = str(tmp_path / "three")
    assert panel._plots.value == ""
    panel._task.value = "PPOConfig"
    assert panel.run.folder.name == "ppo" and panel.form.value == PPOConfig()
    assert "not started yet" in panel._progress.value and panel._resume.disabled


def test_a_world_of_text_takes_the_language_model_beside_it(tmp_path):
    (tmp_path / "world_model").mkdir()
    rows = [{"step": step, "split": "validation", "found_1": step / 10, "found_5": step / 20} for step in (1, 2)]
    (tmp_path / "world_model" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    panel = TrainingPanel(save_dir=tmp_path)
    panel._task.value = "TrainWorldModel"
    panel.form._inputs["environment",].value = "text"
    assert not panel.form.errors and panel.form.value.transformer_model_path == tmp_path / "language_model"
    assert "among real ones: after one action 0.2 at step 2, after five 0.1 at step 2" in panel._plots.value


def fake_run(folder: Path, code: str) -> TrainingRun:
    "A run whose process does something else."
    run = TrainingRun(folder / "ppo")
    run._process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run._process.stdout.readline()
    _write_json(_status_file(run.folder), {"state": "training", "step": 3, "message": "", "config": "PPOConfig", "settings": {}})
    _write_json(_pid_file(run.folder), run._identity(run._process.pid))
    return run


def test_what_hears_no_interrupt_is_stopped_all_the_same(tmp_path):
    run = fake_run(tmp_path, "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(600)")
    assert run.status().is_running
    run.pause()
    assert run.status().state == "paused"
    run.stop()
    assert run._process.wait(PATIENCE) == -signal.SIGKILL
    assert (run.status().state, "middle of a step" in run.status().message) == ("stopped", True)


def test_a_checkpoint_that_is_being_written_is_waited_for(tmp_path):
    "The process keeps for longer than a stop waits; then it ends by itself."
    (tmp_path / "ppo").mkdir()
    code = (
        "import pathlib, signal, sys, time\n"
        f"half = pathlib.Path({str(tmp_path / 'ppo' / '.model.tmp')!r})\n"
        "def keep(*_): time.sleep(3); half.unlink(); sys.exit(7)\n"
        "signal.signal(signal.SIGINT, keep)\nhalf.touch()\nprint(1, flush=True)\nwhile True: time.sleep(1)"
    )
    run = fake_run(tmp_path, code)
    run.stop()
    assert run._process.wait(PATIENCE) == 7


def test_another_process_with_the_same_number_is_not_the_run(tmp_path):
    run = fake_run(tmp_path, "import time; print(1, flush=True); time.sleep(600)")
    identity = run._identity(run._process.pid)
    _write_json(_pid_file(run.folder), identity | {"created": identity["created"] - 100})
    assert run.status().state == "killed"
    run.stop()
    assert run._process.poll() is None
    run._process.kill()
    run._process.wait()


# ------------------------------------------------------------------ in a browser


def shot(page, name: str) -> None:
    "A picture at both widths, if somebody wants to look."
    if not SHOTS: return
    for width in (1400, 390):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{SHOTS}/{name}_{width}.png")
    page.set_viewport_size({"width": 1400, "height": 1000})


def wait_for_state(page, *states: str) -> str:
    "Until the run is in one of these states; its line."
    line = page.locator(", ".join(f'.lb-panel [data-state="{state}"]' for state in states))
    line.first.wait_for()
    return line.first.inner_text()


def loss_label(page) -> str:
    return page.locator('.lb-panel svg[aria-label^="Loss"]').first.get_attribute("aria-label")


def wait_for_movement(page, label: str) -> str:
    "Until the curve of the loss is another than it was; its words."
    page.wait_for_function(
        "before => { const plot = document.querySelector('.lb-panel svg[aria-label^=\"Loss\"]');"
        " return plot && plot.getAttribute('aria-label') !== before; }",
        arg=label,
    )
    return loss_label(page)


def press(page, name: str) -> None:
    page.locator(".lb-panel").get_by_role("button", name=name).click()


@pytest.fixture
def cells(jupyter_lab, tmp_path) -> list[str]:
    "Of a notebook with a panel for a model so small that a thousand epochs are a few minutes."
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and the dog does not care.\n\n" * 200)
    small = (
        "model_name='bytes', preset='tiny', width=32, num_layers=1, num_heads=2, max_length=32, batch_size=4, num_epochs=1000, save_every=0"
    )
    settings = f"{small}, dataset_name={str(text)!r}, save_dir=Path({str(tmp_path / 'models')!r})"
    return [
        "import os; from pathlib import Path\n"
        f"Path({str(tmp_path / 'kernel')!r}).write_text(str(os.getpid()))\n"
        "from lightbulb.apps.panels import TrainingPanel\nfrom lightbulb.lm.configuration import TrainLanguageModel\n"
        f"config = TrainLanguageModel({settings})\n"
        "panel = TrainingPanel(config)\npanel"
    ]


def test_a_training_is_watched_stopped_resumed_and_found_again(jupyter_lab, browser, cells, tmp_path):
    run = TrainingRun(tmp_path / "models" / "language_model")
    opened = open_notebook(browser, jupyter_lab, jupyter_lab.write("panel.ipynb", *cells))
    page = opened.page
    try:
        opened.run_all()
        batch_size = page.locator(".lb-panel").get_by_label("batch_size", exact=True)
        batch_size.fill("-1")
        batch_size.press("Tab")
        page.get_by_text("batch_size must be positive, got -1").wait_for()
        assert page.locator(".lb-panel").get_by_role("button", name="Start").is_disabled()
        shot(page, "refused")
        batch_size.fill("4")
        batch_size.press("Tab")
        page.get_by_text("batch_size must be positive, got -1").wait_for(state="detached")

        press(page, "Start")
        wait_for_state(page, "starting", "training")
        page.locator('.lb-panel svg[aria-label^="Loss"]').first.wait_for()
        label = wait_for_movement(page, loss_label(page))
        press(page, "Pause")
        wait_for_state(page, "paused")
        press(page, "Go on")
        wait_for_state(page, "training")
        shot(page, "training")
        press(page, "Stop")
        wait_for_state(page, "stopped")
        assert run.wait(PATIENCE).state == "stopped" and run.can_resume
        label = loss_label(page)
        press(page, "Resume")
        wait_for_state(page, "training")
        label = wait_for_movement(page, label)

        opened.reload()
        wait_for_state(page, "training")
        label = wait_for_movement(page, label)
        os.kill(int((tmp_path / "kernel").read_text()), signal.SIGKILL)
        page.get_by_text("appears to have died").wait_for()
        page.locator(".jp-Dialog").get_by_role("button").last.click()
        assert run.status().is_running
        opened.wait_for_kernel()
        opened.run_all()
        page.locator(".lb-panel").get_by_role("button", name="Stop").wait_for()
        wait_for_state(page, "training")
        wait_for_movement(page, label)
        os.kill(int(json.loads(_pid_file(run.folder).read_text())["pid"]), signal.SIGKILL)
        wait_for_state(page, "killed")
        page.get_by_text("the process ended without a word").first.wait_for()
        shot(page, "killed")
    finally:
        run.stop()
    opened.close(tolerated="Canceled future")  # what was asked of the kernel when it was killed


def test_a_saved_page_shows_its_pictures_to_who_does_not_trust_it(jupyter_lab, browser, root):
    "As in a fresh clone: nothing has run, and nothing was signed."
    opened = open_notebook(browser, jupyter_lab, jupyter_lab.add(root / "nbs" / "apps" / "train.ipynb"))
    pictures = opened.page.locator(".jp-OutputArea img")
    pictures.first.wait_for()
    widths = pictures.evaluate_all("pictures => pictures.map(picture => [picture.alt, picture.naturalWidth])")
    assert [title for title, _ in widths][:2] == ["Loss", "Bits a byte"] and all(width > 300 for _, width in widths)
    assert opened.page.get_by_text("settings that differ from the defaults").is_visible()
    opened.close()


def test_the_app_serves_train_as_a_page_without_code(browser, root, tmp_path):
    "Its start page, then train.ipynb itself on a phone: a run begins and is stopped; play.ipynb shows its board while it still trains."
    run = TrainingRun(tmp_path / "cache" / "notebooks" / "language_model")
    with serve_app(tmp_path, LIGHTBULB_CACHE=str(tmp_path / "cache")) as server:
        server.add(root / "nbs" / "apps" / "train.ipynb")
        opened = open_page(browser, server.url, 390, 1400)
        page = opened.page
        page.get_by_role("link", name="Train").click()
        try:
            page.locator(".lb-panel").get_by_role("button", name="Start").wait_for()
            assert page.get_by_text("TrainingPanel(save_dir").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            if AXE.is_file():
                page.add_script_tag(path=AXE)
                report = page.evaluate("axe.run('.lb-panel', {runOnly: ['wcag2a', 'wcag2aa'], resultTypes: ['violations']})")
                assert not report["violations"], [
                    (rule["id"], [node["html"][:100] for node in rule["nodes"]]) for rule in report["violations"]
                ]
            press(page, "Start")
            wait_for_state(page, "starting", "training")
            press(page, "Stop")
            assert "stopped" in wait_for_state(page, "stopped")
            assert run.status().state == "stopped"
            shot(page, "app")
        finally:
            run.stop()
        opened.close()
        play = panel_of(json.loads((root / "nbs" / "apps" / "play.ipynb").read_text("utf-8")))  # as the app serves it
        (server.folder / "play.ipynb").write_text(json.dumps(play), "utf-8")
        opened, trained_first = open_page(browser, f"{server.url}/voila/render/play.ipynb", 390, 1400), TrainingRun(tmp_path / _PLAY)
        try:
            opened.page.get_by_text("It is trained first").wait_for()
            assert trained_first.status().is_running and opened.page.locator("button[title='row 2, column 2']").is_disabled()
            shot(opened.page, "play_app")
        finally:
            trained_first.stop()
        opened.close()
