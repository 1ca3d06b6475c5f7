"Training loses nothing: killed, interrupted, out of memory, on a full disk; and learns, on one process or two."

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightbulb.apps.main_menu import main, parse_config
from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.optimization import OptimizerStep, build_optimizers
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import TRAINING_FILE, moments
from lightbulb.lm.checkpoints import load_model, read_model_state
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.losses import LanguageModelLoss, LossWeights, Regularisers, chunked_cross_entropy, plain_token_losses
from lightbulb.lm.objectives import make_batch
from lightbulb.lm.tokens import BytesTokenizer
from lightbulb.lm.training import LanguageModelTraining, train_language_model
from lightbulb.lm.transformer import Transformer, TransformerConfig
from lightbulb.world.stages import TrainLanguageWorld

ROOT = Path(__file__).resolve().parents[1]
BYTES = BytesTokenizer()
FLAGS = {  # DESIGN, section 4
    "save_dir": Path("./models"),
    "device": "auto",
    "precision": "auto",
    "seed": 0,
    "resume": False,
    "model_name": "gpt2",
    "dataset_name": "wikitext",
    "text_column": "",
    "max_examples": 0,
    "dataset_config": "wikitext-2-raw-v1",
    "num_epochs": 3,
    "max_length": 128,
    "preset": "small",
    "num_layers": None,
    "width": None,
    "num_heads": None,
    "num_experts": None,
    "mode": "train",
    "query": "",
    "beam_width": 4,
    "transformer_model_path": None,
    "accumulation_steps": "auto",
    "learning_rate": "auto",
    "weight_decay": 1e-2,
    "max_grad_norm": 1.0,
    "alpha": 0.1,
    "beta": 0.1,
    "temperature": 1.0,
    "init_from_pretrained": False,
}
SMALL = [
    "--model_name",
    "bytes",
    "--width",
    "32",
    "--num_heads",
    "2",
    "--num_layers",
    "1",
    "--num_experts",
    "4",
    "--max_length",
    "32",
    "--batch_size",
    "4",
    "--accumulation_steps",
    "2",
    "--learning_rate",
    "3e-2",
    "--device",
    "cpu",
    "--dropout",
    "0.1",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "lamps.txt"
    words = ["lamp", "oil", "light", "wire", "glass", "burns", "glows", "the", "a", "in"]
    path.write_text("".join(" ".join(words[(i * i + j * (i + 3)) % 10] for j in range(9)) + ".\n" for i in range(110)))
    return path


def config(text: Path, save_dir: Path, *more: str) -> TrainLanguageModel:
    return parse_config(TrainLanguageModel, [*SMALL, "--dataset_name", str(text), "--save_dir", str(save_dir), *more], program="x")


def command(*arguments: object, program: str = "lightbulb_LM.py") -> list[str]:
    return [sys.executable, str(ROOT / program), *map(str, arguments)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_model_state(folder)["weights"]


def equal_weights(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory) -> Path:
    "A run that nobody disturbed, as a command."
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(command(*SMALL, "--dataset_name", text, "--save_dir", folder), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return folder


# ------------------------------------------------------------------ flags


def test_flags_and_defaults_are_the_promised_ones() -> None:
    alone, both = TrainLanguageModel(), parse_config(TrainLanguageWorld, [], program="x")
    assert {name: getattr(alone, name) for name in FLAGS} == FLAGS == {name: getattr(both.language_model, name) for name in FLAGS}
    assert (alone.batch_size, both.language_model.batch_size, both.stage, both.world_model.batch_size) == (8, 4, "both", 4)
    assert TrainLanguageWorld.flags().keys() - {field.name for field in dataclasses.fields(TrainLanguageModel)} == {
        "stage",
        "environment",
        "mcts_iterations",
        "mcts_exploration_constant",
        "mcts_algorithm",
        "lambda_reg",
        "losses",
        "text",
    }


@pytest.mark.parametrize("program", [["lightbulb_LM.py"], ["main_menu.py", "--task", "train_llm_world"]])
def test_help_lists_every_flag_and_loads_no_model_library(program: list[str]) -> None:
    shown = subprocess.run([sys.executable, "-X", "importtime", *program, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert all(f"--{name}" in shown.stdout for name in FLAGS), shown.stderr[-500:]
    assert not any(f"| {name}\n" in shown.stderr.replace("|   ", "| ") for name in ("torch", "datasets", "accelerate"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "train_llm_world", "--stage", "world"], "environment text needs transformer_model_path"),
        (["--task", "train_llm_world", "--dataset_name", "no_file.txt"], "there is no file or folder 'no_file.txt'"),
        (["--task", "train_llm_world", "--dataset_name", "demo", "--model_name", "no-such/model"], "no-such/model"),
        (["--task", "train_llm_world", "--learning_rate", "nan"], "learning_rate must be positive, got nan"),
        (["--task", "train_llm_world", "--planner", "magic"], "magic"),
        (["--task", "train_llm_world", "--dataset_name", "demo", "--num_heads", "7"], "width must be a multiple of num_heads"),
        (["--task", "train_llm_world", "--dataset_name", "imdb"], "--dataset_name demo"),
        (["--task", "train_llm_world", "--precision", "int8"], "int8"),
        (["--task", "train_llm_world", "--precision", "float16", "--device", "cpu", "--dataset_name", "demo"], "float16 needs a GPU"),
        (["--task", "train_llm_world", "--mode", "inference", "--query", "x"], "there is no checkpoint"),
        (["--task", "train_llm_world", "--resume", "--dataset_name", "demo"], "nothing to resume"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], said: str, capsys, tmp_path: Path) -> None:
    assert main([*arguments, "--save_dir", str(tmp_path), "--preset", "tiny"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1 and lines[0].startswith("lightbulb: ") and said in lines[0]


# ------------------------------------------------------------------ right


def test_chunked_losses_are_the_plain_ones_in_half_precision_too() -> None:
    torch.manual_seed(1)
    hidden, table = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets, chosen = torch.randint(30, (50,)), Regularisers(0.1, 0.2, 0.7)
    plain, entropy, variance = plain_token_losses(hidden @ table.T, targets, chosen)
    wanted = torch.autograd.grad((plain - 0.1 * entropy + 0.2 * variance).sum(), (hidden, table))
    for enabled, tolerance in ((False, 1e-5), (True, 0.03)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found, _ = chunked_cross_entropy(hidden, table, targets, regularisers=chosen, chunk=7)
        for got, expected in zip(torch.autograd.grad(found, (hidden, table)), wanted, strict=True):
            assert (got - expected).norm() < tolerance * expected.norm()


def test_padding_and_accumulation_change_nothing() -> None:
    "The gradient of two rows is that of each alone, weighted by its tokens."
    torch.manual_seed(0)
    scored = LanguageModelLoss(
        Transformer(
            TransformerConfig(
                259, width=16, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, hidden=16, num_experts=4, num_token_heads=2
            )
        ),
        LossWeights(Regularisers(0.1, 0.1), balance=0, router_z=0),
    )
    for parameter in scored.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    rows, before = [list(b"a long row of text"), list(b"short")], [list(b"what was"), []]
    gradients = []
    for parts in ([[0, 1]], [[0], [1]]):
        scored.zero_grad()
        for part in parts:
            scored(make_batch("next", [rows[i] for i in part], BYTES, [before[i] for i in part]), 2)["objective"].backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in scored.parameters() if parameter.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-5)


def test_a_token_weighs_the_same_in_a_step_that_scores_few(text: Path, tmp_path: Path) -> None:
    run = LanguageModelTraining(replace(config(text, tmp_path), accumulation_steps=1, batch_size=4, dropout=0.0, longest_ngram=1))
    places = ((0, index) for index in range(run.batches.num_batches(0)))
    spans = next(batch for batch in map(run.batches.__getitem__, places) if batch.objective == "span")
    whole = 4 * run.config.max_length
    assert spans.num_tokens < whole / 2
    wanted = torch.autograd.grad(run.scored(spans)["objective"] / whole, list(run.scored.parameters()), allow_unused=True)
    norm = torch.cat([part.flatten() for part in wanted if part is not None]).norm()
    assert run.train_step([spans]).metrics["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_a_small_vocabulary_pays_less_for_certainty(text: Path, tmp_path: Path) -> None:
    run = LanguageModelTraining(config(text, tmp_path, "--beta", "0.2"))
    regularisers = run.scored.weights.regularisers
    assert regularisers.alpha == 0.1 and regularisers.beta == pytest.approx(0.2 * run.scored.model.config.vocab_size / 50_257)


def test_gradients_reach_every_expert_and_router_in_a_real_step(text: Path, tmp_path: Path) -> None:
    run = LanguageModelTraining(replace(config(text, tmp_path), head_ramp=0.0, accumulation_steps=1))
    batches = [run.batches[0, index] for index in range(12)]
    before = {name: parameter.detach().clone() for name, parameter in run.scored.model.named_parameters()}
    for batch in batches:
        run.train_step([batch])
    for name, parameter in run.scored.model.named_parameters():
        moved = (parameter - before[name]).detach()
        parts = moved.flatten(1).norm(dim=1) if parameter.ndim == 3 else moved.norm()[None]
        assert (parts > 0).all(), f"{name} did not move"


def test_a_batch_is_learned_by_heart() -> None:
    torch.manual_seed(0)
    scored = LanguageModelLoss(Transformer(TransformerConfig.preset("tiny", 259, num_experts=4, width=64, hidden=128)))
    batch = make_batch(
        "next", [list(b"the lamp burns oil at night"), list(b"a wire glows in glass")], BYTES, [list(b"in the house"), list(b"by day")]
    )
    move = OptimizerStep(scored.parameters(), build_optimizers(scored, learning_rate=3e-3), max_grad_norm=math.inf)
    sums = scored(batch, 4)
    for _ in range(80):
        move([sums["objective"] / sums["counts"][0]])
        sums = scored(batch, 4)
    losses = (sums["losses"] / sums["counts"]).tolist()
    assert losses[0] < 0.1 and max(losses) < 0.5, losses


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "adamw"}, {"precision": "bfloat16"}, {"average_decay": 0.9}, {"num_workers": 1, "num_layers": 2, "causal_weight": 1.0}],
)
def test_every_way_to_train_learns_and_resumes(text: Path, tmp_path: Path, changes: dict) -> None:
    settings = replace(config(text, tmp_path), num_epochs=2, **changes)
    reports = [report for report in train_language_model(settings) if report.split == "validation"]
    assert reports[-1].loss and reports[-1].loss < 3.2
    expected = weights(tmp_path)
    for name in ("model.ckpt", "training.ckpt"):
        (settings.folder / "epoch_002" / name).unlink()
    again = [report for report in train_language_model(replace(settings, resume=True)) if report.split == "validation"]
    assert [report.loss for report in again] == [report.loss for report in reports[1:]]
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(tmp_path).items())


def test_the_scaler_of_float16_changes_nothing_and_an_overflow_moves_nothing(text: Path, tmp_path: Path) -> None:
    "A CPU has no float16, so the scaler of a GPU's run is put into one of float32."
    ends = []
    for scale in (1.0, 4096.0):
        run = LanguageModelTraining(replace(config(text, tmp_path), dropout=0.0))
        run.move.scaler = torch.amp.GradScaler("cpu", init_scale=scale)  # pyright: ignore[reportPrivateImportUsage]
        for step in range(2):
            run.train_step([run.batches[0, 2 * step], run.batches[0, 2 * step + 1]])
        ends.append([parameter.detach().clone() for parameter in run.scored.parameters()])
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(*ends, strict=True))
    overflowing = run.scored.model.decoder.layers[0].attention.output.weight.register_hook(
        lambda gradient: gradient * math.inf
    )  # Muon's; AdamW's are finite
    assert not math.isfinite(run.train_step([run.batches[0, 4]]).metrics["gradient_norm"])
    assert all(torch.equal(one, parameter) for one, parameter in zip(ends[1], run.scored.parameters(), strict=True)), "no optimizer moved"
    assert run.move.scaler.get_scale() == 2048.0
    overflowing.remove()
    assert math.isfinite(run.train_step([run.batches[0, 5]]).metrics["gradient_norm"])
    assert not all(torch.equal(one, parameter) for one, parameter in zip(ends[1], run.scored.parameters(), strict=True)), (
        "the next step does"
    )
    again = LanguageModelTraining(replace(config(text, tmp_path), dropout=0.0))
    again.move.scaler = torch.amp.GradScaler("cpu")  # pyright: ignore[reportPrivateImportUsage]
    again.load_state(run.model_state(), run.training_state(), tmp_path)
    assert again.move.scaler.get_scale() == 2048.0


def test_tensorboard_shows_what_the_metrics_file_holds(text: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(train_language_model(replace(config(text, tmp_path), num_epochs=1)))
    shown = events.EventAccumulator(str(tmp_path / "language_model" / "tensorboard")).Reload()
    for split in ("train", "validation"):
        wanted = [
            (row["step"], row["loss"]) for row in MetricsFile(tmp_path / "language_model" / "metrics.jsonl").read() if row["split"] == split
        ]
        assert [(event.step, event.value) for event in shown.Scalars(f"{split}/loss")] == [
            (step, pytest.approx(loss)) for step, loss in wanted
        ]


def test_one_process_and_two_have_the_same_losses(text: Path, tmp_path: Path) -> None:
    no_chance = ["--dropout", "0", "--longest_ngram", "1", "--head_share", "1", "--num_epochs", "1"]
    common = ["--dataset_name", text, *SMALL, *no_chance]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",  # what `accelerate launch` starts on several GPUs; here gloo on two CPU processes
        "lightbulb_LM.py",
        *map(str, common),
        "--accumulation_steps",
        "1",
        "--save_dir",
        str(tmp_path / "two"),
    ]
    pair = subprocess.Popen(launch, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for report in train_language_model(config(text, tmp_path / "one", *no_chance)):
        assert report.loss
    said, _ = pair.communicate(timeout=200)
    assert pair.returncode == 0, said[-2000:]
    one, two = (MetricsFile(tmp_path / name / "language_model" / "metrics.jsonl").read() for name in ("one", "two"))
    assert len(one) == len(two) and [row["split"] for row in one] == [row["split"] for row in two]
    for a, b in zip(one, two, strict=True):
        assert abs(float(a["loss"]) - float(b["loss"])) < 2e-5, (a, b)  # type: ignore[arg-type]
    assert said.count("held-out loss") == 1, "only one process speaks"


def test_bits_a_byte_are_of_text_and_never_of_spans(text: Path, tmp_path: Path) -> None:
    "A span that was cut out is pieces of words and marks, and harder: a step of spans says so and has no bits a byte."
    settings = config(text, tmp_path, "--accumulation_steps", "1", "--span_weight", "0.5", "--dropout", "0")
    mixed, alone = LanguageModelTraining(settings), LanguageModelTraining(settings)  # the same weights
    places = [(0, index) for index in range(mixed.batches.num_batches(0))]
    by_kind = {batch.objective: batch for batch in map(mixed.batches.__getitem__, places)}
    spans, following = by_kind["span"], by_kind["next"]
    both = mixed.train_step([spans, following]).metrics
    assert both["span_share"] == pytest.approx(spans.num_tokens / (spans.num_tokens + following.num_tokens))
    of_text = alone.train_step([following])
    assert both["bits_per_byte"] == pytest.approx(of_text.metrics["bits_per_byte"], rel=1e-5) and of_text.metrics["span_share"] == 0
    assert of_text.metrics["bits_per_byte"] == pytest.approx(
        of_text.loss / math.log(2) * len(alone.train) / alone.train.num_bytes, rel=1e-3
    )
    of_spans = alone.train_step([spans])
    assert of_spans.metrics["span_share"] == 1 and math.isnan(of_spans.metrics["bits_per_byte"])


# ------------------------------------------------------------------ nothing is lost


def test_a_run_falls_every_epoch_and_writes_its_metrics(whole: Path) -> None:
    rows = MetricsFile(whole / "language_model" / "metrics.jsonl").read()
    held = [row for row in rows if row["split"] == "validation"]
    assert len(held) == 3 and held[0]["loss"] > held[1]["loss"] > held[2]["loss"]  # type: ignore[operator]
    assert all({"step", "split", "loss", "bits_per_byte", "word_perplexity"} <= set(row) for row in rows)
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, int(rows[-1]["step"] or 0) + 1))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_continues_bit_for_bit(text: Path, tmp_path: Path, whole: Path, kind: signal.Signals) -> None:
    arguments = [*SMALL, "--dataset_name", text, "--save_dir", tmp_path]
    metrics = tmp_path / "language_model" / "metrics.jsonl"
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begin = time.monotonic()
        while not metrics.is_file() or metrics.read_text().count('"train"') < 17:  # some steps into the second epoch
            assert process.poll() is None and time.monotonic() - begin < 120
            time.sleep(0.005)
        process.send_signal(kind)
        said = process.stderr.read() if process.stderr else ""
    if kind == signal.SIGINT:
        assert process.returncode == 130 and "--resume" in said and "Traceback" not in said
    kept = moments(tmp_path / "language_model")
    assert kept and kept[-1] < moments(whole / "language_model")[-1] and (kept[-1].step > 0) == (kind == signal.SIGINT)
    done = subprocess.run(command(*arguments, "--resume"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert equal_weights(tmp_path, whole)
    same = [
        [
            {k: v for k, v in row.items() if k != "tokens_per_second"}
            for row in MetricsFile(place / "language_model" / "metrics.jsonl").read()
        ]
        for place in (tmp_path, whole)
    ]
    assert same[0] == same[1]


def test_a_full_disk_is_one_line_and_the_last_epoch_stays(text: Path, tmp_path: Path, monkeypatch) -> None:
    settings = replace(config(text, tmp_path), num_epochs=2)
    list(train_language_model(replace(settings, num_epochs=1)))
    before = weights(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LightbulbError, match="the disk is full"):
        list(train_language_model(replace(settings, resume=True)))
    monkeypatch.undo()
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path).items())
    assert not list((tmp_path / "language_model").rglob("*.tmp"))
    assert list(train_language_model(replace(settings, resume=True)))[-1].split == "validation"


MEMORY = """
import resource, sys
from lightbulb.apps.main_menu import main
import lightbulb.lm.training, accelerate, torch.distributed
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (600 << 20), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:], stage="lm"))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's limits")
def test_memory_that_runs_out_is_one_line_with_the_flags_that_help(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEMORY,
            *SMALL,
            "--dataset_name",
            "demo",
            "--save_dir",
            str(tmp_path),
            "--batch_size",
            "512",
            "--max_length",
            "512",
            "--width",
            "256",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("lightbulb")]
    assert done.returncode == 2 and len(lines) == 1 and "batch_size (now 512)" in lines[0] and "max_length (now 512)" in lines[0], (
        done.stderr[-1500:]
    )


def test_a_checkpoint_of_another_shape_or_run_is_refused(text: Path, whole: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"width": 64}, "width is 32 there and 64 here"),
        ({"seed": 1}, "seed was 0 and is 1 now"),
        ({"batch_size": 8}, "batch_size was 4"),
        ({"dataset_name": "demo"}, "data set"),
    ):
        with pytest.raises(CheckpointError, match=said):
            next(train_language_model(replace(config(text, whole), resume=True, **changes)))
    with pytest.raises(ValueError, match="max_length must be at most 32"):
        next(train_language_model(replace(config(text, tmp_path), transformer_model_path=whole, max_length=64)))
    with pytest.raises(CheckpointError, match="num_experts"):
        next(train_language_model(replace(config(text, tmp_path), transformer_model_path=whole, num_experts=2)))
    file = whole / "language_model" / "epoch_003" / TRAINING_FILE
    kept = file.read_bytes()
    file.write_bytes(kept[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        next(train_language_model(replace(config(text, whole), resume=True)))
    file.write_bytes(kept)


def test_weights_to_start_from_are_evaluated_first(text: Path, whole: Path, tmp_path: Path) -> None:
    running = train_language_model(replace(config(text, tmp_path), transformer_model_path=whole))
    first = next(running)
    running.close()
    last = MetricsFile(whole / "language_model" / "metrics.jsonl").read()[-1]
    assert (first.step, first.split, first.loss) == (0, "validation", last["loss"])


def test_an_earlier_run_is_set_aside_not_overwritten(text: Path, tmp_path: Path, capsys) -> None:
    arguments = [*SMALL, "--dataset_name", str(text), "--save_dir", str(tmp_path), "--num_epochs", "1"]
    assert main(arguments, stage="lm") == 0
    first = weights(tmp_path)
    assert main([*arguments, "--seed", "1"], stage="lm") == 0
    assert "language_model_001" in capsys.readouterr().err
    assert all(torch.equal(first[name], tensor) for name, tensor in weights(tmp_path / "language_model_001").items())


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("planner", ["greedy", "sample", "beam"])
def test_it_writes_what_the_query_begins(whole: Path, planner: str, capsys) -> None:
    arguments = [
        "--task",
        "train_llm_world",
        "--mode",
        "inference",
        "--save_dir",
        str(whole),
        "--query",
        "the lamp ",
        "--max_new_tokens",
        "12",
        "--planner",
        planner,
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("the lamp ") and len(said.strip()) > len("the lamp ")
    assert main(arguments) == 0 and capsys.readouterr().out == said


def test_a_session_writes_until_quit(whole: Path) -> None:
    done = subprocess.run(
        command("--mode", "inference", "--save_dir", whole, "--max_new_tokens", "8"),
        input="the lamp\n\na wire\nquit\nnever read\n",
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and done.stdout.count("text> ") == 4 and "the lamp" in done.stdout and "never read" not in done.stdout, (
        done.stderr
    )


def test_of_a_text_longer_than_the_model_the_last_part_is_read_and_said(whole: Path, capsys) -> None:
    arguments = ["--mode", "inference", "--save_dir", str(whole), "--max_new_tokens", "12", "--query"]
    assert main([*arguments, "lamp " * 40], stage="lm") == 0
    told = capsys.readouterr()
    assert "of 200 tokens the model reads the last 48" in told.err  # 32 by the encoder, 16 by the decoder
    assert main([*arguments, ("lamp " * 40)[-48:]], stage="lm") == 0
    assert told.out.removeprefix("lamp " * 40) == capsys.readouterr().out.removeprefix(("lamp " * 40)[-48:])


def test_averaged_weights_are_the_ones_that_write(text: Path, tmp_path: Path) -> None:
    list(train_language_model(replace(config(text, tmp_path), num_epochs=1, average_decay=0.9)))
    state, (model, name, _) = read_model_state(tmp_path), load_model(tmp_path)
    assert name == "bytes" and state["average"]
    assert all(torch.equal(parameter, state["average"][name]) for name, parameter in model.named_parameters())
    assert any(not torch.equal(parameter, state["weights"][name]) for name, parameter in model.named_parameters())


def test_metrics_are_json_lines(whole: Path) -> None:
    for line in (whole / "language_model" / "metrics.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
