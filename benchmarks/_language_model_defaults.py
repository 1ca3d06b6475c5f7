"""Rows of language_model.py about the flags that a person leaves alone: default settings beside peers of as many parameters and seconds."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _language_model_runs import Run, Text, Trainer, contexts
from _plain_decoder import width_of
from _table import Table

import lightbulb.lm.configuration
from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.data import load_texts, tokenize
from lightbulb.lm.evaluation import bigram_loss
from lightbulb.lm.tokens import load_tokenizer
from lightbulb.lm.training import LanguageModelTraining

_RULES = Path(lightbulb.lm.configuration.__file__)  # where the defaults stand
PLAIN_RATE = 3e-3  # as is usual at this width; not chosen on any text
LAYERS = {"tiny": 4, "small": 6, "moe": 6}  # of the peers


@dataclass(frozen=True)
class Cell:
    "One comparison."

    source: str  # a name of the text
    file: Path
    num_bytes: int  # from the beginning of the file
    tokenizer: str
    preset: str
    most_seeds: int = 9


def cut(cell: Cell, folder: Path) -> Path:
    "The beginning of the text as a file of its own."
    path = folder / f"{cell.file.stem}-{cell.num_bytes}.txt"
    path.write_bytes(cell.file.read_bytes()[: cell.num_bytes])
    return path


def learn_by_default(trainer: Trainer, cell: Cell, seed: int) -> dict[str, Any]:
    "lightbulb with nothing but preset, tokenizer, text and seed; kept in the folder."
    file = cut(cell, trainer.cache)
    key = hashlib.sha256(json.dumps([cell.tokenizer, cell.preset, seed]).encode() + file.read_bytes()).hexdigest()[:20]
    path, code = trainer.cache / f"defaults-{key}.json", trainer.code["lightbulb"] + hashlib.sha256(_RULES.read_bytes()).hexdigest()[:8]
    if path.exists():
        kept = json.loads(path.read_text())
        if trainer.keep or kept["code"] == code:
            trainer.older += kept["code"] != code
            return kept
    config = TrainLanguageModel(
        save_dir=trainer.cache, device="cpu", seed=seed, dataset_name=str(file), model_name=cell.tokenizer, preset=cell.preset
    )
    torch.set_num_threads(1)
    training = LanguageModelTraining(config)
    began = time.process_time()
    while not training.is_done:
        training.train_step()
    spent, held = time.process_time() - began, training.evaluate()
    story = {
        "bits": held.metrics["bits_per_byte"],
        "cpu": spent,
        "steps": training.step,
        "learning_rate": training.learning_rate,
        "parameters": training.scored.model.num_active_parameters,
        "with_tables": training.scored.model.num_parameters,
        "code": code,
    }
    path.write_text(json.dumps(story, indent=1))
    return story


def streams(trainer: Trainer, cell: Cell) -> Text:
    "What lightbulb trains on and is scored on, for the peers."
    tokenizer, file = load_tokenizer(cell.tokenizer), cut(cell, trainer.cache)
    parts = load_texts(str(file))
    name = f"{file.stem}-{cell.tokenizer}"
    text = Text(name, tokenizer, tokenize(parts.train, tokenizer), tokenize(parts.validation, tokenizer))
    trainer.texts[name] = text
    return text


def peer_bits(trainer: Trainer, run: Run, context: int, text: Text) -> float:
    "Bits a byte of the held-out text, each token with half of `context` to all of it before it."
    found = trainer.result(run, contexts(context), str(context))
    return found[f"overlapping_{context}"] * (len(text.held_out) - 1) / math.log(2) / text.held_out.num_bytes


def compare(table: Table, trainer: Trainer, cell: Cell, seeds: int, has_aim: bool) -> None:
    "The rows of one cell."
    text = streams(trainer, cell)
    ours = [learn_by_default(trainer, cell, seed) for seed in range(seeds)]
    size, seconds, layers = ours[0]["parameters"], mean(one["cpu"] for one in ours), LAYERS[cell.preset]
    width = width_of(size, text.tokenizer.vocab_size, layers)
    shape = {"num_layers": layers, "num_heads": 4, "width": width}
    common = {"text": text.name, "precision": "float32", "cpu_seconds": round(seconds, 1), "shape": shape}
    peers = {
        "a plain decoder": (Run("plain", length=256, batch=4, learning_rate=PLAIN_RATE, **common), 256),
        "nanoGPT's recipe": (Run("nanogpt", length=64, batch=12, **common), 64),
    }
    pairs = bigram_loss(text.train, text.held_out, text.tokenizer.vocab_size)
    pair_bits = pairs * len(text.held_out) / math.log(2) / text.held_out.num_bytes
    others = {name: peer_bits(trainer, run, context, text) for name, (run, context) in peers.items()}
    best, bits = min(others.values()), mean(one["bits"] for one in ours)
    each = ", ".join(f"{one['bits']:.3f}" for one in ours)
    label = f"{cell.source}, {cell.num_bytes // 1000} kB, {cell.tokenizer}, {cell.preset}"
    story = f"{ours[0]['steps']} steps at {ours[0]['learning_rate']:.2g}, {size / 1e6:.1f}M parameters"
    if (tables := ours[0].get("with_tables", size) - size) > 0:
        story += f" and {tables / 1e6:.1f}M in tables of n-grams"
    story += f", {seconds:.0f} CPU-s"
    aim = f"below pairs ({pair_bits:.3f}) and ≤ {best:.3f}"
    table.row(
        f"{label}: default flags", f"{bits:.3f} bits a byte ({each}); {story}", aim, bits < min(pair_bits, best + 5e-4) if has_aim else None
    )
    for name, value in others.items():
        table.row(f"{label}: {name}", f"{value:.3f} bits a byte; width {width}, {layers} layers")


def cells(data: Path, package_text: Path | None) -> list[Cell]:
    "What is compared: little text, so that a run of defaults takes a minute or two on one core."
    wikitext = data / "wikitext2" / "wiki.valid.tokens"
    rows = [Cell("WikiText-2", wikitext, num_bytes, "bytes", "tiny") for num_bytes in (240_000, 40_000)]
    if package_text is None: return rows
    bible = [
        Cell("King James Bible", package_text, 240_000, "bytes", "tiny"),
        Cell("King James Bible", package_text, 40_000, "bytes", "tiny"),
        Cell("King James Bible", package_text, 40_000, "gpt2", "tiny"),
        Cell("King James Bible", package_text, 40_000, "bytes", "small"),
        Cell("King James Bible", package_text, 40_000, "gpt2", "small", most_seeds=1),  # five minutes
    ]
    return [*bible, *rows]


def default_rows(
    table: Table,
    trainer: Trainer,
    quick: bool,
    data: Path,
    package_text: Path | None,
    presets: tuple[str, ...],  # the others' rows stand as they were
    tokenizers: tuple[str, ...],
) -> None:
    "Texts that no default was chosen on."
    if quick:
        compare(table, trainer, Cell("WikiText-2", data / "wikitext2" / "wiki.valid.tokens", 8_000, "bytes", "tiny"), 1, has_aim=False)
        return
    for cell in (cell for cell in cells(data, package_text) if cell.preset in presets and cell.tokenizer in tokenizers):
        compare(table, trainer, cell, min(trainer.seeds, cell.most_seeds), has_aim=True)
    table.note(
        "Default flags: nothing but preset, tokenizer and text were given; three epochs. The peers have as many parameters as lightbulb "
        "without its tables of n-grams, and as many "
        "CPU-seconds on the same tokens, in float32 like lightbulb: a decoder of 70 lines (AdamW, cosine, 4 windows of 256) and nanoGPT's "
        "recipe for a CPU (12 windows of 64). Held out is the end of each text; the plain decoder's tokens see 128 to 256 tokens, as "
        "lightbulb's do (128 in its encoder), nanoGPT's 32 to 64."
    )
    table.note(
        "The King James Bible is a package's text: `apt-get download bible-kjv bible-kjv-text`, `dpkg-deb -x` each, then "
        "`bible -l100000 'Gen1:1-Rev22:21'` into the file given by --package_text. lightbulb's rate for `tiny` was chosen "
        "on 60 kB of Tiny-Shakespeare (four rates), the fewest steps of an epoch on 40 kB of it (batches of 2, 4 and 8) after runs of the "
        "gpt2 row had shown that batches of 8 are too large; tables of n-grams on 60 kB of it (none, to 3 and to 4, two sizes, two "
        "shares of dropout: they helped bytes and harmed gpt2's tokens, which have none), for `small` on 40 kB of it (none "
        "and to 4); what beta weighs among bytes, and that a step with few tokens counts for few, on 120 kB of it; "
        "the peers' rates on no text. Pairs: a smoothed table of pairs of tokens (Witten and Bell 1991) on the same text."
    )
