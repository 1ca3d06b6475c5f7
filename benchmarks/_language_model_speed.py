"""Rows of language_model.py that measure time: training beside peers, long texts, recall over a distance, one GPU."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import _nanogpt
import numpy as np
import torch
import torch.nn.functional as F
from _language_model_runs import Run, Text, Trainee, active_matrices, lightbulb, nanogpt, window
from _table import Table
from torch import Tensor

from lightbulb.core.optimization import build_optimizers
from lightbulb.core.runtime import keep_freed_memory
from lightbulb.lm.losses import LanguageModelLoss
from lightbulb.lm.objectives import Batch
from lightbulb.lm.transformer import Transformer, TransformerConfig

SIX = {
    "width": 384,
    "num_heads": 3,
    "num_encoder_layers": 0,
    "num_decoder_layers": 6,
    "hidden": 1536,
    "num_experts": 1,
    "num_token_heads": 1,
    "tie_embeddings": False,
}
LENGTH, ROWS = 256, 8


def hugging_face_gpt2(run: Run, text: Text) -> Trainee:
    "Hugging Face's GPT-2 of the same shape, with nanoGPT's optimizer."
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": LENGTH}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=text.tokenizer.vocab_size, **shape, **quiet))

    def loss(batch: Batch, progress: float) -> Tensor:
        return F.cross_entropy(model(batch.tokens).logits.flatten(0, 1).float(), batch.targets.flatten())

    return Trainee(model, loss, lambda tokens: model(tokens).logits, [_nanogpt.optimizer(model)], _nanogpt.factor)


def contestants(text: Text) -> dict[str, tuple[Trainee, str]]:
    "What is timed: a trainee and its precision."
    peer, ours = {"num_layers": 6, "num_heads": 6, "width": 384}, Run("lightbulb", SIX, learning_rate=1e-3, length=LENGTH)
    found = {
        "nanoGPT, float32": (nanogpt(Run("nanogpt", peer, length=LENGTH), text), "float32"),
        "nanoGPT, bfloat16": (nanogpt(Run("nanogpt", peer, length=LENGTH), text), "bfloat16"),
        "Hugging Face GPT-2, bfloat16": (hugging_face_gpt2(ours, text), "bfloat16"),
        "lightbulb, bfloat16": (lightbulb(ours, text), "bfloat16"),
        "lightbulb with Muon, bfloat16": (
            lightbulb(Run("lightbulb", SIX, optimizer="muon", learning_rate=1e-3, matrix_learning_rate=3e-3, length=LENGTH), text),
            "bfloat16",
        ),
        "lightbulb, 8 experts top-2 of half the size, bfloat16": (
            lightbulb(Run("lightbulb", SIX | {"num_experts": 8, "hidden": 768}, learning_rate=1e-3), text),
            "bfloat16",
        ),
    }
    return found


def training_speed(table: Table, text: Text, rounds: int) -> None:
    "Models take turns, step by step, on the same batches; CPU-seconds of a step and the loss at the end."
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()  # as a training does; the peers gain by it too
    ids = torch.from_numpy(np.asarray(text.train.tokens, np.int64))
    models = contestants(text)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds):
        starts = np.random.default_rng(number).integers(len(ids) - LENGTH, size=ROWS)
        batch = window(ids, torch.from_numpy(starts), LENGTH)
        for name, (trainee, precision) in models.items():
            started = time.process_time()
            losses[name].append(_step(trainee, batch, precision, warm=min(1.0, (number + 1) / 10)))
            seconds[name].append(time.process_time() - started)
    speeds = {name: ROWS * LENGTH / median(took) for name, took in seconds.items()}
    ends = {name: sum(found[-5:]) / len(found[-5:]) for name, found in losses.items()}
    peers = [name for name in models if not name.startswith("lightbulb")]
    best = max(peers, key=lambda name: speeds[name])
    parts = {name: parts_of_step(model, batch) for name, model in models.items()}
    outside = {name: 1 - shares["matrix products"] for name, (shares, _) in parts.items()}
    for name in models:
        measured = (
            f"{speeds[name]:.0f} tokens a CPU-second, {speeds[name] / speeds[peers[0]]:.2f} × nanoGPT float32, "
            f"{speeds[name] / speeds[best]:.2f} × {best}; {outside[name]:.0%} of it outside matrix products; "
            f"loss {ends[name]:.3f} after {rounds} steps"
        )
        has_aim = name == "lightbulb, bfloat16"
        is_met = speeds[name] >= 1.25 * speeds[best] and ends[name] <= ends[best]
        table.row(
            f"training, {name}",
            measured,
            f"≥ 1.25 × {best} ({speeds[best]:.0f}), loss ≤ {ends[best]:.3f}" if has_aim else "",
            is_met if has_aim and rounds > 5 else None,
        )
    shares, operations = parts["lightbulb, bfloat16"]
    rate = operations / median(seconds["lightbulb, bfloat16"]) / shares["matrix products"] / 1e9
    rest = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if name != "matrix products")
    alone = speeds["lightbulb, bfloat16"] / speeds[best] / (1 - outside["lightbulb, bfloat16"])
    table.note(
        f"Training speed: 6 layers, width 384, length {LENGTH}, {ROWS} rows, one thread, no encoder; lightbulb's dense layers are "
        "SwiGLU of the same size, its heads 128 wide. The peers gain by the memory that the process keeps, too. With nothing but its "
        f"matrix products lightbulb's step would be {alone:.2f} × {best}, so 1.25 × leaves {1 - 1.25 / alone:.0%} of a step for all else. "
        f"The products run at {rate:.0f} GFLOP/s in the step; one alone, again and again, runs at {best_rate():.0f}. All else is {rest} of "
        "the step. Tried: blocks of 32 and 64 queries, and of 256 where a core has no tiles (slower than 128; with tiles 256 are quicker), "
        "weight gradients without laying the narrower operand the other way (no difference without tiles, slower with them), products of "
        "weights that are laid out beforehand (hardly faster) "
        "and products of 256 or 512 rows at a time (slower)."
    )


PARTS = {  # what torch's profiler calls the operations of a step
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"),
    "softmax of the attention": ("_CausalAttention", "_CausalAttentionBackward"),
    "norms and turns of heads": ("_Heads", "_HeadsBackward"),
    "gates": ("_Gate", "_GateBackward"),
    "norms": ("_Norm", "_NormBackward"),
    "copies between types and layouts": ("aten::copy_",),
    "optimizer and clipping": ("aten::_fused_adamw_", "aten::linalg_vector_norm", "aten::mul_"),
}


def parts_of_step(model: tuple[Trainee, str], batch: Batch) -> tuple[dict[str, float], float]:
    "Shares of a step's time that torch's profiler sees in each part (a fused attention is in the rest), and operations of all products."
    trainee, precision = model
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profile:
        _step(trainee, batch, precision, warm=1.0)
    events = profile.key_averages()
    time_of = lambda keys: sum(event.self_cpu_time_total for event in events if event.key in keys)
    whole = sum(event.self_cpu_time_total for event in events)
    shares = {name: time_of(keys) / whole for name, keys in PARTS.items()}
    products = PARTS["matrix products"]
    operations = sum(event.flops for event in events if event.key in products)
    return shares | {"small operations": 1 - sum(shares.values())}, operations


def best_rate(rounds: int = 20) -> float:
    "GFLOP/s of one bfloat16 product of the step's size, repeated: the quickest round."
    left, right = torch.randn(ROWS * LENGTH, 1152).bfloat16(), torch.randn(1152, 384).bfloat16()
    took = []
    for _ in range(rounds):
        began = time.process_time()
        torch.mm(left, right)
        took.append(time.process_time() - began)
    return 2 * ROWS * LENGTH * 1152 * 384 / min(took) / 1e9


def _step(trainee: Trainee, batch: Batch, precision: str, warm: float) -> float:
    for optimizer in trainee.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("first", group["lr"]) * warm
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        loss = trainee.loss(batch, 1.0)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trainee.model.parameters(), 1.0)
    for optimizer in trainee.optimizers:
        optimizer.step()
    trainee.model.zero_grad(set_to_none=True)
    return loss.item()


# Length


def peak_megabytes(work: Callable[[], Any]) -> float:
    "How much the process's resident memory rises above its level before `work`; nan where the system cannot say."
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")

    def status(name: str) -> float:
        return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024  # pyright: ignore

    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def long_texts(table: Table, trainee: Trainee, text: Text, length: int) -> None:
    "Loss, memory and time of a trained model at 1, 4 and 16 times its training length."
    torch.set_num_threads(1)
    ids = torch.from_numpy(np.asarray(text.held_out.tokens, np.int64))
    trainee.model.eval()
    for times in (1, 4, 16):
        size = times * length
        starts = torch.arange(0, min(len(ids) - size - 1, 16 * 16 * length), size)
        batch = window(ids, starts, size)
        with torch.inference_mode():
            began = time.process_time()
            losses = torch.cat(
                [
                    F.cross_entropy(trainee.logits(row[None]).flatten(0, 1).float(), wanted, reduction="none")
                    for row, wanted in zip(batch.tokens, batch.targets, strict=True)
                ]
            )
            took = (time.process_time() - began) / losses.numel()
        one = window(ids, starts[:1], size)
        memory = peak_megabytes(lambda one=one: trainee.loss(one, 1.0).backward())
        trainee.model.zero_grad(set_to_none=True)
        ends = losses.view(len(starts), size)[:, -length:].mean().item()
        table.row(
            f"length {size}, {times} × the training's",
            (
                f"loss {losses.mean().item():.3f}, of the last {length} {ends:.3f}; {1e6 * took:.0f} µs a token read; {memory:.0f} MB "
                "for a training step of one row"
            ),
        )


SYMBOLS, FARTHEST, KNOWN = 32, 64, 4


def repeated(distance: int, rows: int, random: np.random.Generator) -> tuple[Tensor, Tensor, int]:
    "Texts of random symbols that repeat once, their next symbols, and where the answers are known: KNOWN symbols into the second copy."
    first = torch.from_numpy(random.integers(SYMBOLS, size=(rows, distance)))
    whole = first.repeat(1, 3)[:, : 2 * distance + 1]
    return whole[:, :-1], whole[:, 1:], distance + KNOWN - 1


def learn_recall(seconds: float) -> tuple[Transformer, int]:
    "Two layers after so many CPU-seconds on distances that grow from 4 to FARTHEST in the first 40%; and the steps."
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Transformer(
        TransformerConfig(
            SYMBOLS,
            width=64,
            num_heads=4,
            num_encoder_layers=0,
            num_decoder_layers=2,
            hidden=128,
            num_experts=1,
            num_token_heads=1,
            tie_embeddings=False,
        )
    )
    optimizers, rates = build_optimizers(model, optimizer="muon", weight_decay=0.0), (3e-3, 1e-2)  # AdamW, Muon
    started, step = time.process_time(), 0
    while (spent := (time.process_time() - started) / seconds) < 1:
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50, (1 - spent) / 0.4)
        longest = int(4 + (FARTHEST - 4) * min(1.0, spent / 0.4))
        tokens, targets, known = repeated(int(random.integers(4, longest + 1)), 64, random)
        logits = model.logits(model.decode(tokens)[:, known:])
        F.cross_entropy(logits.flatten(0, 1), targets[:, known:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
    return model.eval(), step


def recall(table: Table, seconds: float) -> None:
    "A random text that repeats after a distance: how much of the second copy is recalled, trained on distances up to FARTHEST."
    torch.set_num_threads(1)
    model, steps = learn_recall(seconds)
    random, found = np.random.default_rng(1), {}
    with torch.inference_mode():
        for distance in (8, 16, 32, 64, 128, 256):
            tokens, targets, known = repeated(distance, 64, random)
            found[distance] = (model.logits(model.decode(tokens)).argmax(-1) == targets)[:, known:].float().mean().item()
    near = min(share for distance, share in found.items() if distance <= FARTHEST)
    table.row(
        "recall of a random text that repeats",
        ", ".join(f"{distance} tokens back {share:.1%}" for distance, share in found.items()),
        f"≥ 99% up to the trained {FARTHEST}",
        near >= 0.99 if seconds > 20 else None,
    )
    table.note(
        f"Recall: 2 layers, width 64, {SYMBOLS} symbols, Muon for {seconds:.0f} CPU-seconds ({steps} steps) on distances 4 to "
        f"{FARTHEST}; 128 and 256 were never seen. Asked from {KNOWN} symbols into the second copy on: before that"
        f" nobody can know that a copy has begun. Chance is {1 / SYMBOLS:.0%}."
    )


# One GPU


PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 operations a second


def gpu(table: Table, steps: int = 30) -> None:
    "Training of the `base` preset on one CUDA device: tokens a second and model FLOPs utilisation, torch.compile off and on."
    name = torch.cuda.get_device_name()
    peak = next((speed for key, speed in PEAK.items() if key in name), None)
    for kind, overrides in (("dense", {"num_experts": 1, "hidden": 3072}), ("8 experts top-2", {})):
        config = TransformerConfig.preset(
            "base", 50_304, **{"num_encoder_layers": 0, "num_token_heads": 1, "max_length": 1024, **overrides}
        )
        for compiled in (False, True):
            tokens, loss = _tokens_a_second(config, "cuda", compiled, steps, rows=16)
            operations = tokens * flops_of_token(config)
            share = "" if peak is None else f", {operations / peak:.1%} of {peak / 1e12:.0f} TFLOP/s"
            table.row(
                f"base preset, {kind}, torch.compile {'on' if compiled else 'off'}, {name}",
                f"{tokens:.0f} tokens a second{share}, loss {loss:.2f} after {steps} steps of one batch",
            )
    table.note(
        "Model FLOPs: 6 for each parameter that multiplies a token and 12 × layers × width × length for attention, forward and "
        "backward; 16 rows of 1024 tokens, bfloat16."
    )


def flops_of_token(config: TransformerConfig) -> float:
    "Model FLOPs of a token in training, the unembedding included (Chowdhery et al. 2022, appendix B)."
    model = Transformer(config).to("meta")
    unembedding = config.vocab_size * config.width if config.tie_embeddings else 0
    return 6 * (active_matrices(model) + unembedding) + 12 * config.num_decoder_layers * config.width * config.max_length


def _tokens_a_second(config: TransformerConfig, device: str, compiled: bool, steps: int, *, rows: int) -> tuple[float, float]:
    "Scored tokens a second, and the last loss."
    torch.manual_seed(0)
    model = Transformer(config).to(device)
    scored: Any = LanguageModelLoss(model)
    if compiled:
        model.decoder.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    ids = torch.randint(min(1000, config.vocab_size), (rows, config.max_length + 1), device=device)
    batch = Batch("causal", ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.full((rows,), config.max_length))

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss = scored(batch)["objective"] / batch.num_tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    loss = step()
    for _ in range(5):
        loss = step()
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        loss = step()
    wait()
    return steps * batch.num_tokens / (time.perf_counter() - began), loss.item()
