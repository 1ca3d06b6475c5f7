"""What lightbulb's Transformer learns, and how fast, beside nanoGPT's recipe and Hugging Face models in the same run.

Finished trainings stay in the folder given by --cache, by their description and the state of the code, and an unfinished
one goes on where it stopped; so `--minutes 9` runs the whole in pieces. The rows of the expert layer and of generation come
from scripts of their own (moe_layer.py, generation.py).
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _language_model_defaults import default_rows
from _language_model_runs import Run, Text, Trainer, Unfinished, contexts, flops_of_step, package, pairs, shakespeare, wikitext
from _language_model_speed import gpu, long_texts, recall, training_speed
from _table import Table, skip_without

from lightbulb.core.optimization import multiplies_bfloat16
from lightbulb.core.report import MetricsFile
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.transformer import TransformerConfig

NANO = Run("nanogpt", {"num_layers": 4, "num_heads": 4, "width": 128}, batch=12, steps=2000)
TABLES = {"ngram_orders": [2, 3, 4, 5, 6], "ngram_rows": 32_768, "ngram_dropout": 0.1}
PLAIN = {
    "width": 96,
    "num_heads": 3,
    "num_encoder_layers": 0,
    "num_decoder_layers": 4,
    "hidden": 384,
    "num_experts": 1,
    "num_token_heads": 1,
    "tie_embeddings": False,
}
RECIPE = Run("lightbulb", PLAIN | TABLES, length=128, batch=24)
BOTH = contexts(64, 128)


def shakespeare_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Tiny-Shakespeare with no more arithmetic than nanoGPT's CPU recipe needs."
    text = trainer.texts["Tiny-Shakespeare"]
    share = 0.02 if quick else 1.0
    nano = replace(NANO, steps=int(NANO.steps * share))
    budget = nano.steps * flops_of_step(nano, text)[0]
    peer = trainer.result(nano, contexts(64), "64")
    table.row(
        "nanoGPT's decoder, 0.8M parameters",
        (
            f"{peer['side_by_side_64']:.3f} (64), {peer['overlapping_64']:.3f} (32 to 64 of context); {budget / 1e12:.2f} TFLOP, "
            f"{peer['cpu']:.0f} CPU-s"
        ),
    )
    seeds = range(1 if quick else 3)
    for name, run, aim in (("AdamW", RECIPE, 1.48), ("Muon", replace(RECIPE, optimizer="muon"), 1.48)):
        runs = [replace(run, flops=budget, seed=seed) for seed in seeds]
        operations, moving = flops_of_step(runs[0], text)
        found = [trainer.result(one, BOTH, "64-128") for one in runs]
        score = {key: mean(one[key] for one in found) for key in found[0] if key.endswith(("_64", "_128"))}
        each = ", ".join(f"{one['side_by_side_64']:.3f}" for one in found)
        spent = (
            f"{found[0]['steps'] * operations / 1e12:.2f} TFLOP ({moving:.0%} of it the optimizer's), {found[0]['epochs']:.1f} epochs, "
            f"{mean(one['cpu'] for one in found):.0f} CPU-s"
        )
        met = None if quick else score["side_by_side_64"] <= aim
        table.row(
            f"lightbulb, {name}, at most 64 characters of context",
            f"{score['side_by_side_64']:.3f} ({each}), {score['overlapping_64']:.3f} (32 to 64 of context); {spent}",
            f"≤ {aim}",
            met,
        )
        table.row(
            f"lightbulb, {name}, at most 128 characters of context",
            f"{score['side_by_side_128']:.3f}, {score['overlapping_128']:.3f} (64 to 128 of context)",
            f"≤ {aim}",
            None if quick else score["side_by_side_128"] <= aim,
        )
    table.note(
        "Tiny-Shakespeare: nats a character over the whole validation part, windows side by side (so 1 to 64 characters of context) "
        "unless a row says otherwise. The same windows for both."
        f" lightbulb: decoder of 4 layers of width 96 and {found[0]['parameters'] / 1e6:.1f}M parameters, nearly all in tables of "
        "hashed n-grams (orders 2 to 6) that are looked up, not multiplied;"
        " one lookup in ten is left out in training, weight decay 0.1, no other dropout. Operations are counted in a real step, "
        "attention without its mask, optimizers included."
    )


def ten_minutes_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Tiny-Shakespeare with at most 20 minutes of one core: what ten minutes of two cores can do."
    shape = PLAIN | {
        "width": 192,
        "num_heads": 2,
        "hidden": 768,
        "dropout": 0.15,
        "ngram_orders": [2, 3, 4, 5],
        "ngram_rows": 32_768,
        "ngram_dropout": 0.6,
    }
    run = Run("lightbulb", shape, optimizer="muon", length=256, batch=16, weight_decay=0.2, cpu_seconds=3.0 if quick else 600)
    found = trainer.result(run, contexts(128, 256), "128-256")
    spent = f"{found['epochs']:.1f} epochs, {found['cpu']:.0f} CPU-s in {found['wall']:.0f} s"
    for context, other in ((256, 128), (128, 64)):
        table.row(
            f"Tiny-Shakespeare, at most ten minutes of two cores, at most {context} characters of context",
            f"{found[f'side_by_side_{context}']:.3f}, {found[f'overlapping_{context}']:.3f} ({other} to {context} of context); {spent}",
            "≤ 1.40",
            None if quick else found[f"side_by_side_{context}"] <= 1.40,
        )
    table.note(
        f"Ten minutes of two cores are 1200 CPU-seconds; this run was given {run.cpu_seconds:.0f}, on one thread, since others used "
        f"the machine. One seed. 4 layers of width 192, {found['parameters'] / 1e6:.1f}M parameters, nearly all in n-gram tables "
        "(orders 2 to 5);"
        " dropout 0.15, 0.6 of the lookups left out, weight decay 0.2, windows of 256, Muon. How much to leave out was chosen on the "
        "last tenth of the training part, not on the validation part."
    )


def wikitext_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "WikiText-2 mini by bytes, at equal tokens."
    text, tokens = trainer.texts["WikiText-2 mini"], 10_000.0 if quick else 0.9e6
    words = text.held_out.num_words
    rows = {
        "nanoGPT's recipe": replace(NANO, text=text.name, length=128, batch=12, steps=0, tokens=tokens),
        "Hugging Face Llama": Run(
            "llama",
            {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 344},
            text=text.name,
            length=128,
            batch=12,
            tokens=tokens,
        ),
        "lightbulb, no tables, AdamW": replace(
            RECIPE, text=text.name, shape=PLAIN | {"width": 128, "num_heads": 4, "hidden": 512}, batch=12, tokens=tokens
        ),
        "lightbulb, n-gram tables, Muon": replace(
            RECIPE,
            text=text.name,
            shape=PLAIN | TABLES | {"width": 128, "num_heads": 4, "hidden": 512},
            optimizer="muon",
            batch=12,
            tokens=tokens,
        ),
    }
    peers = []
    for name, run in rows.items():
        found = trainer.result(run, contexts(128), "128")
        nats = found["side_by_side_128"] * (len(text.held_out) - 1)
        bits, perplexity = nats / math.log(2) / text.held_out.num_bytes, math.exp(min(700, nats / words))
        ours = name.startswith("lightbulb")
        if not ours:
            peers.append(bits)
        table.row(
            f"WikiText-2 mini, {name}",
            (
                f"{bits:.3f} bits a byte, word perplexity {perplexity:.0f}; {found['parameters'] / 1e6:.1f}M parameters, "
                f"{found['tokens'] / 1e6:.2f}M bytes read, {found['cpu']:.0f} CPU-s"
            ),
            f"< {min(peers):.3f} bits a byte" if ours else "",
            (None if quick else bits < min(peers)) if ours else None,
        )
    table.note(
        "WikiText-2 mini: learned from the validation part, scored on the whole test part, by UTF-8 bytes, windows of 128 side by "
        "side; words are what white space divides. 0.8M parameters multiply a byte in each model."
    )


def ablations() -> dict[str, Run]:
    "One change at a time, no budget given yet; the first is what the others are compared with."
    base = replace(RECIPE, shape=PLAIN | {"width": 128, "num_heads": 4, "hidden": 512}, length=128, batch=24)
    experts, heads = base.shape | {"num_experts": 8, "hidden": 256}, base.shape | {"num_token_heads": 4}
    piece = replace(base, length=64, batch=48, shape=base.shape | {"num_encoder_layers": 2, "num_decoder_layers": 3})
    objectives = {
        "previous piece to next": {"next": 1.0},
        "next piece, a fifth span corruption": {"next": 0.8, "span": 0.2},
        "next piece, a fifth with an empty encoder": {"next": 0.8, "causal": 0.2},
        "next piece 0.8, spans 0.1, empty encoder 0.1 (the defaults)": {"next": 0.8, "span": 0.1, "causal": 0.1},
    }
    return {
        "decoder alone, dense, one head, AdamW, no regulariser": base,
        "8 experts top-2, as large for a token": replace(base, shape=experts),
        "4 token heads": replace(base, shape=heads, loss={"heads": 4}),
        "Muon": replace(base, optimizer="muon"),
        "Muon, 8 experts top-2": replace(base, optimizer="muon", shape=experts),
        "Muon, 4 token heads": replace(base, optimizer="muon", shape=heads, loss={"heads": 4}),
        "alpha 0.1": replace(base, loss={"alpha": 0.1}),
        "beta 0.1": replace(base, loss={"beta": 0.1}),
        "alpha 0.1 and beta 0.1 (the defaults, were there as many ids as gpt2's)": replace(base, loss={"alpha": 0.1, "beta": 0.1}),
        "n-gram tables": replace(base, shape=base.shape | TABLES),
    } | {f"encoder and decoder, {name}": replace(piece, objective=objective) for name, objective in objectives.items()}


def ablation_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "One change at a time at equal CPU time, then at equal tokens; what a default hangs on has as many seeds as are asked for."
    asked, seconds, tokens = ablations(), 1.0 if quick else 90.0, 10_000 if quick else 6e5
    speeds = trainer.step_seconds(list(asked.values()), *((1, 2) if quick else ()))
    timed = {name: replace(run, steps=math.ceil(seconds / step)) for (name, run), step in zip(asked.items(), speeds, strict=True)}
    parts = [name for name in asked if name.startswith(("decoder alone", "8 experts", "4 token heads", "Muon"))]
    counted = {name: replace(asked[name], tokens=tokens) for name in parts}  # a regulariser costs no time to speak of
    again = (
        [] if quick else [(parts[0], 1), *((name, seed) for seed in range(1, trainer.seeds) for name in ("Muon", "Muon, 8 experts top-2"))]
    )  # the first's two show how much is chance
    found: dict[str, list[dict[str, Any]]] = {}

    def learn(run: Run, seed: int) -> None:
        score, name = (pairs(64), "pairs-64") if run.objective else (contexts(128), "128")
        result = trainer.result(replace(run, seed=seed), score, name)
        found.setdefault(run.key(), []).append({"loss": result["pairs" if run.objective else "overlapping_128"], **result})

    for run in timed.values():
        learn(run, 0)
    for name, seed in again:
        learn(timed[name], seed)
    for run in counted.values():
        learn(run, 0)
    for runs, label in ((timed, f"{seconds:.0f} CPU-s"), (counted, f"{tokens / 1e6:.2g}M characters")):
        first = found[next(iter(runs.values())).key()]
        for name, run in runs.items():
            each = found[run.key()]
            spent = (
                f"{speeds[list(asked).index(name)] * 1000:.0f} CPU-ms a step, {mean(one['tokens'] for one in each) / 1e6:.2f}M "
                "characters scored"
            )
            losses, apart = (
                ", ".join(f"{one['loss']:.3f}" for one in each),
                mean(one["loss"] - other["loss"] for one, other in zip(each, first, strict=False)),
            )
            table.row(f"{label}: {name}", f"{losses} ({apart:+.3f}); {spent}, {each[0]['parameters'] / 1e6:.1f}M parameters")
    spent = f"the lower loss at {seconds:.0f} CPU-s"

    def better(*names: str) -> str:
        return min(names, key=lambda name: mean(one["loss"] for one in found[timed[name].key()]))

    preset, chosen = TransformerConfig.preset("tiny", 65), TrainLanguageModel().matrix_optimizer
    best = "muon" if better("decoder alone, dense, one head, AdamW, no regulariser", "Muon") == "Muon" else "adamw"
    table.row("default: what moves the matrices", chosen, spent, None if quick else chosen == best)
    table.row(
        "default: experts of the presets for CPUs, tiny and small",
        f"{preset.num_experts}",
        spent,
        None if quick else (preset.num_experts > 1) == ("experts" in better("Muon", "Muon, 8 experts top-2")),
    )
    table.note(
        f"Token heads: {preset.num_token_heads} are the default whatever they cost here, for what they give is speed in writing (the "
        "table Generation) and actions of several tokens. Alpha and beta have the design's defaults, whatever they cost; a default run "
        "weighs beta by the size of the vocabulary, so that it costs these 68 ids next to nothing."
    )
    table.note(
        "Ablations: Tiny-Shakespeare, each loss scored with 64 to 128 characters of context (decoders: windows that overlap by half; "
        "encoder and decoder: pieces of 64 and the piece before); several losses are several seeds, and"
        " differences are taken seed by seed. The decoder alone is the empty-encoder causal objective. Losses leave regularisers out."
    )
    table.note(
        "Equal time: a step's CPU time was measured with all of them taking turns on this machine, and each was given as many steps "
        f"as fit into {seconds:.0f} CPU-seconds, so other work on the machine favours none."
    )


def expert_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Experts beside a dense decoder of as many active parameters where they should win first: wide, with many tokens a step."
    shape = PLAIN | {"width": 256, "num_heads": 4, "hidden": 1024}
    dense = Run("lightbulb", shape, optimizer="muon", length=128, batch=8 if quick else 64)
    runs = {"dense": dense, "8 experts top-2": replace(dense, shape=shape | {"num_experts": 8, "hidden": 512})}
    seconds = 1.0 if quick else 45.0
    speeds = trainer.step_seconds(list(runs.values()), *((1, 1) if quick else (2, 2)))
    losses = []
    for (name, run), step in zip(runs.items(), speeds, strict=True):
        found = trainer.result(replace(run, steps=math.ceil(seconds / step)), contexts(128), "128")
        losses.append(found["side_by_side_128"])
        spent = f"{1000 * step:.0f} CPU-ms a step ({step / speeds[0]:.2f} ×), {found['tokens'] / 1e6:.2f}M characters scored"
        is_better = None if name == "dense" or quick else losses[-1] < losses[0]
        table.row(
            f"{seconds:.0f} CPU-s: {name}, width 256", f"{losses[-1]:.3f}; {spent}", "below dense" if name != "dense" else "", is_better
        )
    table.note(
        f"Experts: Tiny-Shakespeare, 4 layers of width 256, Muon, bfloat16, {dense.batch * dense.length} characters a step, on one core "
        "of a CPU; the experts' layer itself is nearly as quick as a dense one there (the table of moe_layer.py)."
    )


WINDOW = 30  # steps whose mean is a loss of a curve
LONG_SEEDS = 3  # of the long trainings of experts and of dense decoders
PRECISION = "bfloat16" if multiplies_bfloat16(torch.device("cpu")) else "float32"  # of these


def crossing_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "From which step on experts win at equal seconds, by width."
    for width, steps in ((64, 200), (128, 150), (256, 60)):
        crossing_row(table, trainer, width, 6 if quick else steps, quick)
    table.note(
        "Tiny-Shakespeare, 4 layers, in batches of 2048 characters, less than one pass, so that each loss is of text that was not learned "
        f"from before, as the mean of {WINDOW} steps; a level rate, Muon, bfloat16. Equal seconds: the experts have done as many fewer "
        "steps as theirs take longer, measured with both taking turns. One seed."
    )


def long_crossing_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Experts where neither model sees a text twice."
    if trainer.package_text is None:
        table.row("experts on a long text", "absent: --package_text names none")
        return
    trainer.texts["package"] = package(trainer.package_text, 5000 if quick else None)
    for width, seconds in ((64, 400),):
        long_crossing_row(table, trainer, width, 1 if quick else seconds, quick)
    table.note(
        "One pass at most over the dictionary of the Debian package dict-gcide (`zcat /usr/share/dictd/gcide.dict.dz` into the file "
        "given by --package_text), of which the last 200,000 characters are held out; batches of 8192, Muon, rates that fall to 0; nothing "
        "was chosen on it. Both are given the same CPU-seconds: a step's were measured with both taking turns, each makes as many as fit. "
        f"One core, {'bfloat16' if PRECISION == 'bfloat16' else 'float32, which this processor multiplies faster than bfloat16'}."
    )


def long_crossing_row(table: Table, trainer: Trainer, width: int, seconds: float, quick: bool) -> None:
    "Experts beside a dense decoder of as many active parameters at equal seconds, on a text long enough that neither sees it twice."
    shape = PLAIN | {"width": width, "num_heads": max(1, width // 64), "hidden": 4 * width}
    dense = Run("lightbulb", shape, text="package", optimizer="muon", length=128, batch=8 if quick else 64, precision=PRECISION)
    runs = [dense, replace(dense, shape=shape | {"num_experts": 8, "hidden": 2 * width})]
    speeds = trainer.step_seconds(runs, *((1, 1) if quick else (6, 3)))
    steps = [math.ceil(seconds / speed) for speed in speeds]
    sized = [replace(run, steps=number) for run, number in zip(runs, steps, strict=True)]
    seeds = range(1 if quick else LONG_SEEDS)
    found = [[trainer.result(replace(run, seed=seed), contexts(128), "128") for run in sized] for seed in seeds]
    losses = [[one["side_by_side_128"] for one in each] for each in found]
    gains = [ours - plain for plain, ours in losses]
    each = "; ".join(f"{ours:.3f} and {plain:.3f}" for plain, ours in losses)
    spent = [mean(each[place]["cpu"] for each in found) for place in range(2)]
    table.row(
        f"width {width}: 8 experts top-2 beside dense, nats a character of held-out text",
        f"{mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f}, {len(gains)} seeds: {each}); "
        f"{spent[1]:.0f} and {spent[0]:.0f} CPU-s, "
        f"{steps[1]} and {steps[0]} steps, {1000 * speeds[0]:.0f} CPU-ms a step, with experts {speeds[1] / speeds[0]:.2f} ×",
        "every seed ahead at equal seconds",
        None if quick else max(gains) < 0,
    )


def crossing_row(table: Table, trainer: Trainer, width: int, steps: int, quick: bool) -> None:
    "A dense decoder and experts of as many active parameters at one width: a step's cost, and both losses at equal steps and seconds."
    shape = PLAIN | {"width": width, "num_heads": max(1, width // 64), "hidden": 4 * width}
    dense = Run("lightbulb", shape, optimizer="muon", length=128, batch=16, steps=steps)
    runs = [dense, replace(dense, shape=shape | {"num_experts": 8, "hidden": 2 * width})]
    timed = [*runs, *(replace(run, optimizer="adamw") for run in runs)]
    plain, experts, *by_adamw = trainer.step_seconds(timed, *((1, 1) if quick else (4, 2)))
    ratio, curves = experts / plain, [trainer.losses(run) for run in runs]
    span = min(WINDOW, steps // 2)
    ends = [mean(curve[-span:]) for curve in curves]
    before = lambda curve, step: mean(curve[step - span : step])
    asked = range(math.ceil((span + 1) * ratio), steps + 1)
    at_equal_seconds = before(curves[1], int(steps / ratio))  # the experts' steps in the time of all dense ones
    wins = [step for step in asked if before(curves[1], int(step / ratio)) < before(curves[0], step)]
    won = f"ahead for the first time after {wins[0]} dense steps" if wins else "behind at every step"
    cost = f"{1000 * plain:.0f} CPU-ms a step, with experts {ratio:.2f} × (AdamW {by_adamw[1] / by_adamw[0]:.2f} ×)"
    table.row(
        f"width {width}, {steps} steps: 8 experts top-2 beside dense",
        f"{cost}; equal steps {ends[1] - ends[0]:+.3f} ({ends[1]:.3f} and {ends[0]:.3f}), equal seconds "
        f"{at_equal_seconds - ends[0]:+.3f}, {won}",
        "ahead at equal seconds",
        None if quick else at_equal_seconds < ends[0],
    )


def length_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Longer texts than trained on, and recall."
    text = trainer.texts["Tiny-Shakespeare"]
    run = replace(RECIPE, shape=RECIPE.shape, cpu_seconds=1.0 if quick else 40.0)
    trainer.result(run, contexts(128), "128")
    long_texts(table, trainer.trained(run), text, run.length)
    recall(table, 4.0 if quick else 120.0)


def demo_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "The command with nothing but its defaults, on the text that ships with the package."
    command = ["main_menu.py", "--task", "train_llm_world", "--stage", "lm", "--dataset_name", "demo", "--preset", "tiny"]
    with tempfile.TemporaryDirectory() as folder:
        more = ["--max_examples", "12", "--model_name", "bytes", "--num_epochs", "2"] if quick else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *command, "--device", "cpu", "--save_dir", folder, *more],
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [row for row in MetricsFile(Path(folder) / "language_model" / "metrics.jsonl").read() if row["split"] == "validation"]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    losses, bits = ([float(row[name] or math.nan) for row in rows] for name in ("loss", "bits_per_byte"))
    pairs = float(rows[-1]["bigram_loss"] or math.nan)
    table.row(
        f"`python {' '.join([*command, *more])}`: held-out loss after each epoch",
        f"{', '.join(f'{loss:.3f}' for loss in losses)}; bits per byte {', '.join(f'{one:.3f}' for one in bits)}; {seconds:.0f} CPU-s",
        f"below {pairs:.3f}, a table of pairs of tokens",
        None if quick else losses[-1] < pairs,
    )


def defaults_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Default flags on texts that no default was chosen on."
    default_rows(table, trainer, quick, trainer.data, trainer.package_text, trainer.presets, trainer.tokenizers)


def speed_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "Training beside peers."
    training_speed(table, trainer.texts["Tiny-Shakespeare"], 2 if quick else 20)


def gpu_rows(table: Table, trainer: Trainer, quick: bool) -> None:
    "On one CUDA device."
    gpu(table, 5 if quick else 30)


def other_script(name: str) -> Callable[[Table, Trainer, bool], None]:
    "The rows of a script beside this one, printed by itself."

    def rows(table: Table, trainer: Trainer, quick: bool) -> None:
        path = Path(__file__).with_name(f"{name}.py")
        done = subprocess.run([sys.executable, str(path), *(["--quick"] if quick else [])], capture_output=True, text=True)
        for line in done.stdout.splitlines():
            cells = line.split(" | ")
            if len(cells) == 4:
                table.row(cells[0], cells[1], "" if cells[2] == "-" else cells[2], {"yes": True, "no": False}.get(cells[3]))
            elif line.startswith("  "):
                table.note(line.strip())
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{path.name} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")

    return rows


ROWS: dict[str, Callable[[Table, Trainer, bool], None]] = {
    "shakespeare": shakespeare_rows,
    "speed": speed_rows,
    "ablations": ablation_rows,
    "ten_minutes": ten_minutes_rows,
    "wikitext": wikitext_rows,
    "length": length_rows,
    "demo": demo_rows,
    "defaults": defaults_rows,
    "moe": expert_rows,
    "crossing": crossing_rows,
    "long_crossing": long_crossing_rows,
    "moe_layer": other_script("moe_layer"),
    "generation": other_script("generation"),
}
TITLES = {
    "shakespeare": "Tiny-Shakespeare at nanoGPT's budget",
    "speed": "Training speed of the Transformer",
    "ablations": "The language model's parts at equal time",
    "ten_minutes": "Tiny-Shakespeare in ten minutes",
    "wikitext": "WikiText-2 mini",
    "length": "Long texts and recall",
    "gpu": "Training on one GPU",
    "demo": "The default command on the demo",
    "defaults": "Default flags on texts nobody tuned on",
    "moe": "Experts at equal seconds",
    "crossing": "Experts by width",
    "long_crossing": "Experts on a long text",
    "moe_layer": "The expert layer, as in the whole run",
    "generation": "Generation, as in the whole run",
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most a minute: shorter trainings, one seed")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(ROWS),
        help="tables to make; without it all, with --quick all but those of the scripts beside this one",
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("scratch/language_model_runs"), help="folder of finished and unfinished trainings"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time; the same command goes on")
    parser.add_argument("--keep", action="store_true", help="take finished trainings of an earlier state of the code too, and say how many")
    parser.add_argument("--seeds", type=int, default=2, help="of the ablations that a default hangs on")
    parser.add_argument(
        "--package_text", type=Path, help="a text from a package, for --only defaults and --only crossing; their notes say how to get it"
    )
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"], help="of --only defaults; the rows of others stand as they were")
    parser.add_argument("--tokenizers", nargs="+", default=["bytes", "gpt2"], help="of --only defaults, in the same way")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: only the GPU's table")
    return parser.parse_args()


def main() -> int:
    asked = options()
    only = asked.only or [name for name in ROWS if not (asked.quick and name in ("moe_layer", "generation"))]
    on_gpu, scored = asked.device == "cuda", 10_000 if asked.quick else None
    texts: dict[str, Text] = {}
    if on_gpu and not torch.cuda.is_available():
        print("torch sees no CUDA device here; leave --device out for the tables of the CPU", file=sys.stderr)
        return 2
    if not on_gpu:  # the GPU's table draws its tokens at random
        skip_without(asked.data)
        texts = {text.name: text for text in (shakespeare(asked.data, scored), wikitext(asked.data, scored))}
    trainer = Trainer(
        asked.cache / "quick" if asked.quick else asked.cache,
        texts,
        minutes=asked.minutes,
        keep=asked.keep,
        seeds=asked.seeds,
        data=asked.data,
        package_text=asked.package_text,
        presets=tuple(asked.presets),
        tokenizers=tuple(asked.tokenizers),
    )
    status = 0
    for name, rows in ({"gpu": gpu_rows} if on_gpu else {name: ROWS[name] for name in only}).items():
        table, trainer.older = Table(TITLES[name], ("transformers",)), 0
        try:
            rows(table, trainer, asked.quick)
        except Unfinished:
            print("not finished; the same command goes on")
            return 3
        if trainer.older:
            table.note(f"{trainer.older} of these trainings were made by an earlier state of the code.")
        status |= table.finish(asked.record, keeps_others=name == "defaults" and min(len(asked.presets), len(asked.tokenizers)) < 2)
    return status


if __name__ == "__main__": raise SystemExit(main())
