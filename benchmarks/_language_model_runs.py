"""Training runs for language_model.py: described by plain values, resumable, and kept in a folder by description and code."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import _nanogpt
import _plain_decoder
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from lightbulb.core.optimization import Muon, OptimizerStep, is_for_muon, multiplies_bfloat16
from lightbulb.core.report import StepReport
from lightbulb.core.run import Run as TrainingRun
from lightbulb.core.run_folder import Moment, moments, read_newest
from lightbulb.lm.data import TokenStream
from lightbulb.lm.losses import LanguageModelLoss, LossWeights, Regularisers, num_heads_at
from lightbulb.lm.objectives import Batch, ObjectiveWeights, TrainingBatches, ValidationBatches
from lightbulb.lm.transformer import Transformer, TransformerConfig

ROOT = Path(__file__).resolve().parent.parent
CODE = (
    "lm/operations",
    "lm/attention",
    "lm/expert_gradients",
    "lm/experts",
    "lm/transformer",
    "lm/losses",
    "lm/objectives",
    "core/optimization",
)
VERSION = 1  # of what this file makes of a run; a change of results raises it


def code_version(family: str) -> str:
    "A hash of everything that decides what a run of this family gives."
    peer = Path((_plain_decoder if family == "plain" else _nanogpt).__file__)
    library = [ROOT / "lightbulb" / f"{name}.py" for name in CODE] if family == "lightbulb" else [peer]
    return hashlib.sha256(b"".join([str(VERSION).encode(), *(file.read_bytes() for file in library)])).hexdigest()[:12]


# Texts


class Characters:
    "The characters of a text as a tokenizer."

    name = "characters"

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text))
        self.ids = {character: number for number, character in enumerate(self.characters)}
        self.start_id, self.end_id, self.pad_id = (len(self.characters) + number for number in range(3))
        self.vocab_size = len(self.characters) + 3

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return [self.ids[character] for character in text]

    def decode(self, ids: Any) -> str:
        return "".join(self.characters[i] for i in ids if i < len(self.characters))


@dataclass(frozen=True)
class Text:
    "What is learned from and what is scored."

    name: str
    tokenizer: Any
    train: TokenStream
    held_out: TokenStream


def stream(ids: list[int], text: str) -> TokenStream:
    return TokenStream(np.asarray(ids, np.uint16), len(text.encode()), len(text.split()), 1)


def shakespeare(data: Path, scored: int | None = None) -> Text:
    "Tiny-Shakespeare by characters: the first 90% and the last 10% (or the first `scored` characters of these)."
    text = (data / "tiny_shakespeare" / "input.txt").read_text(encoding="utf-8")
    tokenizer, cut = Characters(text), int(0.9 * len(text))
    train, held_out = text[:cut], text[cut:][:scored]
    return Text("Tiny-Shakespeare", tokenizer, stream(tokenizer.encode(train), train), stream(tokenizer.encode(held_out), held_out))


def wikitext(data: Path, scored: int | None = None) -> Text:
    "WikiText-2 mini by bytes: learned from the validation part, scored on the test part (or its first `scored` characters)."
    from lightbulb.lm.tokens import load_tokenizer

    tokenizer = load_tokenizer("bytes")
    parts = [(data / "wikitext2" / f"wiki.{name}.tokens").read_text(encoding="utf-8") for name in ("valid", "test")]
    parts[1] = parts[1][:scored]
    return Text("WikiText-2 mini", tokenizer, *(stream(tokenizer.encode(part), part) for part in parts))


def package(path: Path, scored: int | None = None) -> Text:
    "A long text of a package by its ASCII characters (others are ?, space is single): all but the last 200,000 is learned from."
    text = " ".join(path.read_text(encoding="utf-8", errors="replace").encode("ascii", "replace").decode().split())
    tokenizer, cut = Characters(text), max(len(text) - 200_000, int(0.9 * len(text)))
    train, held_out = text[:cut], text[cut:][:scored]
    return Text("package", tokenizer, stream(tokenizer.encode(train), train), stream(tokenizer.encode(held_out), held_out))


# Runs


@dataclass(frozen=True)
class Run:
    "One training; exactly one of the budgets is given."

    family: str  # lightbulb, nanogpt, llama or plain
    shape: dict[str, Any] = field(default_factory=dict)  # of a TransformerConfig or of the peer
    text: str = "Tiny-Shakespeare"
    seed: int = 0
    optimizer: str = "adamw"  # adamw or muon; a peer has its own
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 8e-3  # Muon's
    weight_decay: float = 0.1  # of matrices
    objective: dict[str, float] = field(default_factory=dict)  # next, span, causal; empty: windows of the text, the decoder alone
    loss: dict[str, float] = field(default_factory=dict)  # alpha, beta, heads
    length: int = 64
    batch: int = 48
    precision: str = "bfloat16"
    threads: int = 1
    steps: int = 0
    tokens: float = 0.0
    flops: float = 0.0
    cpu_seconds: float = 0.0  # of this process, all threads together

    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]


class Unfinished(Exception):
    "This call's time is over; the next one goes on."


@dataclass
class Trainee:
    "A model with its loss, its optimizers and their schedule."

    model: nn.Module
    loss: Callable[[Batch, float], Tensor]  # mean nats a token and what else is minimised, of a batch at this progress
    logits: Callable[[Tensor], Tensor]  # (B, T) to (B, T, V), without an encoder
    optimizers: list[torch.optim.Optimizer]
    rate: Callable[[float, int], float]  # progress and step to the factor of each group's first learning rate
    scored: LanguageModelLoss | None = None


def ramp(progress: float, step: int) -> float:
    "Up in 2%, level, then straight down to 0 over the last 60%."
    return progress / 0.02 if progress < 0.02 else min(1.0, (1 - progress) / 0.6)


def lightbulb(run: Run, text: Text) -> Trainee:
    "lightbulb's own Transformer, losses and optimizers."
    config = TransformerConfig(text.tokenizer.vocab_size + (64 if run.objective.get("span") else 0), **run.shape)
    model = Transformer(config)
    loss = dict(run.loss)
    heads = int(loss.pop("heads", 1))
    scored = LanguageModelLoss(model, LossWeights(regularisers=Regularisers(**loss)))
    named = list(model.named_parameters())
    matrices = [p for name, p in named if is_for_muon(name, p)]
    tables = [p for name, p in named if "embedding" in name and p.ndim >= 2]
    rest = [p for name, p in named if not any(p is other for other in (*matrices, *tables))]
    groups = [{"params": tables, "lr": 5 * run.learning_rate}, {"params": rest, "lr": run.learning_rate}]
    adamw = (
        [*groups, {"params": matrices, "lr": run.learning_rate, "weight_decay": run.weight_decay}] if run.optimizer == "adamw" else groups
    )
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adamw, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    if run.optimizer == "muon":
        quick = torch.bfloat16 if run.precision == "bfloat16" and multiplies_bfloat16(torch.device("cpu")) else torch.float32
        optimizers.append(Muon(matrices, lr=run.matrix_learning_rate, weight_decay=run.weight_decay, dtype=quick))

    def mean_loss(batch: Batch, progress: float) -> Tensor:
        return scored(batch, num_heads_at(progress, heads))["objective"] / batch.num_tokens

    return Trainee(model, mean_loss, lambda tokens: model.logits(model.decode(tokens)), optimizers, ramp, scored)


def nanogpt(run: Run, text: Text) -> Trainee:
    "The peer of nanoGPT's recipe."
    model = _nanogpt.NanoGPT(text.tokenizer.vocab_size, length=run.length, **run.shape)
    return _peer(model, model, run)


def llama(run: Run, text: Text) -> Trainee:
    "Hugging Face's Llama with nanoGPT's optimizer and schedule."
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=text.tokenizer.vocab_size, max_position_embeddings=4 * run.length, tie_word_embeddings=True, use_cache=False, **run.shape
    )
    model = LlamaForCausalLM(config)
    return _peer(model, lambda tokens: model(tokens).logits, run)


def plain(run: Run, text: Text) -> Trainee:
    "The decoder that anyone would write first."
    model = _plain_decoder.PlainDecoder(text.tokenizer.vocab_size, **run.shape)
    trainee = _peer(model, model, run)
    return replace(trainee, optimizers=[_plain_decoder.optimizer(model, run.learning_rate)], rate=_plain_decoder.factor)


def _peer(model: nn.Module, logits: Callable[[Tensor], Tensor], run: Run) -> Trainee:
    def mean_loss(batch: Batch, progress: float) -> Tensor:
        return F.cross_entropy(logits(batch.tokens).flatten(0, 1).float(), batch.targets.flatten())

    return Trainee(model, mean_loss, logits, [_nanogpt.optimizer(model)], _nanogpt.factor)


FAMILIES = {"lightbulb": lightbulb, "nanogpt": nanogpt, "llama": llama, "plain": plain}


# Batches


def window(ids: Tensor, starts: Tensor, length: int) -> Batch:
    "Windows of a text: each token and the one after it."
    rows = ids[starts[:, None] + torch.arange(length + 1)]
    return Batch("causal", rows[:, :-1], rows[:, 1:], torch.full((len(rows),), length))


def batches(run: Run, text: Text, first: int) -> Iterator[Batch]:
    "The batches of a run from step `first` on; each depends on the seed and its number alone."
    ids = torch.from_numpy(np.asarray(text.train.tokens, np.int64))
    if run.objective:
        yield from _asked(run, text, first)
    elif run.family != "lightbulb":
        for step in _count(first):
            random = np.random.default_rng([run.seed, step])
            yield window(ids, torch.from_numpy(random.integers(len(ids) - run.length, size=run.batch)), run.length)
    else:
        each = (len(ids) - run.length - 1) // run.length // run.batch
        for step in _count(first):
            random = np.random.default_rng([run.seed, step // each])
            offset, order = int(random.integers(run.length)), random.permutation((len(ids) - run.length - 1) // run.length)
            chosen = order[step % each * run.batch : (step % each + 1) * run.batch]
            yield window(ids, torch.from_numpy(offset + run.length * chosen), run.length)


def _count(first: int) -> Iterator[int]:
    while True:
        yield (first := first + 1) - 1


def _asked(run: Run, text: Text, first: int) -> Iterator[Batch]:
    asked = TrainingBatches(
        text.train, text.tokenizer, batch_size=run.batch, max_length=run.length, weights=ObjectiveWeights(**run.objective), seed=run.seed
    )
    epoch, index = 0, first
    while True:
        while index >= asked.num_batches(epoch):
            epoch, index = epoch + 1, index - asked.num_batches(epoch)
        yield asked[epoch, index]
        index += 1


# Arithmetic


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **names: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **names: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def optimizer_arithmetic(optimizers: list[torch.optim.Optimizer]) -> int:
    "Elementwise work of a step: 12 operations a parameter for AdamW, 6 for Muon beside its matrix products."
    return sum(
        (6 if isinstance(optimizer, Muon) else 12) * p.numel()
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    )


def flops_of_step(run: Run, text: Text) -> tuple[float, float]:
    "Floating-point operations of a whole training step, counted, and the optimizers' share in them; attention counts without its mask."
    torch.manual_seed(run.seed)
    trainee = FAMILIES[run.family](run, text)
    batch = next(iter(batches(run, text, 0)))
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with counter:
        with autocast(run):
            loss = trainee.loss(batch, 1.0)
        loss.backward()
    learning = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        for optimizer in trainee.optimizers:
            optimizer.step()
    moving = counter.get_total_flops() + optimizer_arithmetic(trainee.optimizers)
    floor = 6 * batch.num_tokens * active_matrices(trainee.model)
    if learning < 0.99 * floor:
        raise AssertionError(f"counted {learning:.3g} operations where the matrices alone need {floor:.3g}")
    return learning + moving, moving / (learning + moving)


def active_matrices(model: nn.Module) -> float:
    "Parameters that multiply a scored token at least: matrices of decoder layers, of experts the chosen ones."
    total = 0.0
    for name, p in model.named_parameters():
        if p.ndim < 2 or "embedding" in name or "positions" in name or "encoder" in name or "embed_tokens" in name or "heads" in name:
            continue
        config: Any = getattr(model, "config", None)
        share = config.top_k / config.num_experts if p.ndim == 3 and config is not None else 1.0
        total += p.numel() * share
    return total


def autocast(run: Run, device: str = "cpu") -> Any:
    return torch.autocast(device, torch.bfloat16, enabled=run.precision == "bfloat16")


# Training


def optimizer_step(run: Run, trainee: Trainee) -> OptimizerStep:
    "One move of a trainee; its learning rate is a factor of each group's first one."
    for optimizer in trainee.optimizers:
        for group in optimizer.param_groups:
            group["rate"] = group["lr"]
    is_clipped = run.family != "lightbulb" or run.optimizer == "adamw"
    return OptimizerStep(trainee.model.parameters(), trainee.optimizers, max_grad_norm=1.0 if is_clipped else math.inf)


def move(run: Run, trainee: Trainee, step: OptimizerStep, batch: Batch, progress: float, number: int) -> float:
    "Learn from one batch; its loss."
    trainee.model.train()
    with autocast(run):
        loss = trainee.loss(batch, progress)
    step([loss], trainee.rate(progress, number))
    return loss.item()


class RunTraining:
    "A run of this file as `lightbulb.core.run` trains it."

    evaluation_is_due = False

    def __init__(self, run: Run, text: Text, total_steps: int) -> None:
        torch.manual_seed(run.seed)
        self.run, self.text, self.total_steps = run, text, total_steps  # 0 steps: until the CPU-seconds are over
        self.trainee = FAMILIES[run.family](run, text)
        self.optimizer_step = optimizer_step(run, self.trainee)
        self.step, self.num_tokens, self.recent_losses, self.is_whole = 0, 0, list[float](), True
        self.cpu_seconds, self.seconds = 0.0, 0.0
        self._batches: Iterator[Batch] | None = None

    @property
    def moment(self) -> Moment:
        return Moment(0, self.step)

    @property
    def progress(self) -> float:
        return self.step / self.total_steps if self.total_steps else self.cpu_seconds / self.run.cpu_seconds

    @property
    def is_done(self) -> bool:
        return self.progress >= 1

    def prepare(self) -> None:
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._cpu_began, self._began = time.process_time() - self.cpu_seconds, time.monotonic() - self.seconds

    def train_step(self) -> StepReport:
        self.is_whole = False
        if self._batches is None:
            self._batches = batches(self.run, self.text, self.step)
        batch = next(self._batches)
        loss = move(self.run, self.trainee, self.optimizer_step, batch, self.progress, self.step)
        self.recent_losses = [*self.recent_losses[-99:], loss]
        self.step, self.num_tokens, self.is_whole = self.step + 1, self.num_tokens + batch.num_tokens, True
        self.cpu_seconds, self.seconds = time.process_time() - self._cpu_began, time.monotonic() - self._began
        return StepReport(self.step, loss, self.total_steps or None)

    def evaluate(self) -> StepReport:
        raise AssertionError("a run is scored when it has ended")

    def model_state(self) -> dict[str, Any]:
        return {"weights": self.trainee.model.state_dict()}

    def training_state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "num_tokens": self.num_tokens,
            "recent_losses": self.recent_losses,
            "cpu_seconds": self.cpu_seconds,
            "seconds": self.seconds,
            "optimizer_step": self.optimizer_step.state_dict(),
        }

    def load_state(self, model: Mapping[str, Any], training: Mapping[str, Any], place: Path) -> None:
        self.trainee.model.load_state_dict(model["weights"])
        self.optimizer_step.load_state_dict(training["optimizer_step"])
        self.step, self.num_tokens, self.recent_losses = training["step"], training["num_tokens"], training["recent_losses"]
        self.cpu_seconds, self.seconds = training["cpu_seconds"], training["seconds"]
        self._start_clocks()

    def story(self) -> dict[str, Any]:
        "How it went."
        return {
            "steps": self.step,
            "tokens": self.num_tokens,
            "cpu": self.cpu_seconds,
            "wall": self.seconds,
            "recent": sum(self.recent_losses) / max(1, len(self.recent_losses)),
            "epochs": self.num_tokens / len(self.text.train),
        }


class Trainer:
    "Runs what is not in the folder yet."

    def __init__(
        self,
        cache: Path,
        texts: dict[str, Text],
        *,
        minutes: float = 0.0,
        keep: bool = False,
        seeds: int = 2,
        data: Path = Path(),
        package_text: Path | None = None,
        presets: tuple[str, ...] = ("tiny", "small"),
        tokenizers: tuple[str, ...] = ("bytes", "gpt2"),
    ) -> None:
        self.cache, self.texts, self.keep, self.seeds, self.data, self.package_text = cache, texts, keep, seeds, data, package_text
        self.presets, self.tokenizers = presets, tokenizers
        self.code = {family: code_version(family) for family in FAMILIES}  # as imported, so read at once
        self.older = 0  # results that an earlier state of the code gave
        self.ends = time.monotonic() + 60 * minutes if minutes else math.inf
        cache.mkdir(parents=True, exist_ok=True)

    def result(self, run: Run, score: Callable[[Trainee, Text], dict[str, Any]], score_name: str) -> dict[str, Any]:
        "What a run gave: `score` of the trained model, and how it went."
        path = self.cache / f"{run.key()}-{score_name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            if self.keep or found["code"] == self.code[run.family]:
                self.older += found["code"] != self.code[run.family]
                return found
        text = self.texts[run.text]
        torch.set_num_threads(run.threads)
        trainee, story = self._train(run, text)
        trainee.model.eval()
        with torch.inference_mode(), autocast(run):
            story |= score(trainee, text)
        story["parameters"] = sum(p.numel() for p in trainee.model.parameters())
        path.write_text(json.dumps(story | {"run": asdict(run), "code": self.code[run.family]}, indent=1))
        return story

    def _train(self, run: Run, text: Text) -> tuple[Trainee, dict[str, Any]]:
        flops_of_step(run, text)  # a step thrown away: compilers and allocators are warm when the clock starts
        steps, folder = self._steps(run, text), self._folder(run)
        reports = TrainingRun(folder, resume=bool(moments(folder)), save_every=1.0).train(lambda: RunTraining(run, text, steps))
        while True:
            try:
                next(reports)
            except StopIteration as end:
                return end.value.trainee, end.value.story()
            if time.monotonic() > self.ends:
                reports.close()
                raise Unfinished

    def step_seconds(self, runs: list[Run], rounds: int = 12, steps: int = 5) -> list[float]:
        "CPU-seconds of a training step of each run, measured with all taking turns, from the ramp's begin to its end; kept in the folder."
        path = (
            self.cache
            / f"step_seconds-{hashlib.sha256(json.dumps([[run.key() for run in runs], rounds, steps]).encode()).hexdigest()[:20]}.json"
        )
        if path.exists():
            kept = json.loads(path.read_text())
            if self.keep or kept["code"] == self.code: return kept["seconds"]
        taken, ready = [0.0] * len(runs), []
        for run in runs:
            torch.set_num_threads(run.threads)
            torch.manual_seed(run.seed)
            trainee = FAMILIES[run.family](run, self.texts[run.text])
            ready.append((trainee, optimizer_step(run, trainee), batches(run, self.texts[run.text], 0)))
        for turn in range(-1, rounds):  # the first one warms up
            for number, (run, (trainee, step, source)) in enumerate(zip(runs, ready, strict=True)):
                given, begin = [next(source) for _ in range(steps)], time.process_time()
                for index, batch in enumerate(given):
                    done = max(0, turn) * steps + index
                    move(run, trainee, step, batch, (done + 0.5) / rounds / steps, done)
                if turn >= 0:
                    taken[number] += time.process_time() - begin
        found = [seconds / rounds / steps for seconds in taken]
        path.write_text(json.dumps({"seconds": found, "code": self.code}))
        return found

    def losses(self, run: Run, warm: int = 20) -> list[float]:
        "The loss of each of `run.steps` steps at a level rate, of text that was not learned from before; kept in the folder."
        path = self.cache / f"losses-{run.key()}-{warm}.json"
        if path.exists():
            kept = json.loads(path.read_text())
            if self.keep or kept["code"] == self.code[run.family]: return kept["losses"]
        torch.set_num_threads(run.threads)
        torch.manual_seed(run.seed)
        text = self.texts[run.text]
        if run.steps * run.batch * run.length > len(text.train):
            raise AssertionError(f"{run.steps} steps are more than one pass")
        trainee = FAMILIES[run.family](run, text)
        step, source = optimizer_step(run, trainee), batches(run, text, 0)
        found = [move(run, trainee, step, next(source), min(0.02, 0.02 * (number + 1) / warm), number) for number in range(run.steps)]
        path.write_text(json.dumps({"losses": found, "code": self.code[run.family]}))
        return found

    def trained(self, run: Run) -> Trainee:
        "The model of a finished run."
        training, folder = RunTraining(run, self.texts[run.text], 0), self._folder(run)
        moment, model, state = read_newest(folder, {})
        training.load_state(model, state["training"], folder / moment.name)
        return training.trainee

    def _folder(self, run: Run) -> Path:
        return self.cache / f"{run.key()}.{'kept' if self.keep else self.code[run.family]}"

    def _steps(self, run: Run, text: Text) -> int:
        if run.steps: return run.steps
        if run.tokens: return math.ceil(run.tokens / run.batch / run.length)
        return int(run.flops // flops_of_step(run, text)[0]) if run.flops else 0


# Scores


def window_loss(trainee: Trainee, text: Text, window_length: int, stride: int) -> float:
    "Mean nats of every held-out token once: windows of at most `window_length` tokens, of which the last `stride` are new."
    ids = torch.from_numpy(np.asarray(text.held_out.tokens, np.int64))
    last, nats, counted = len(ids) - 1, 0.0, 0
    begins = list(range(0, last, stride))
    rows = max(1, min(128, (1 << 24) // (window_length * text.tokenizer.vocab_size)))  # logits that exist at a time: 64 MB
    for group in range(0, len(begins), rows):
        new = torch.tensor(begins[group : group + rows])
        ends = (new + stride).clamp(max=last)
        starts = (ends - window_length).clamp(min=0)
        batch = window(ids, starts, window_length)
        places = starts[:, None] + torch.arange(window_length)
        asked = (places >= new[:, None]) & (places < ends[:, None])
        losses = F.cross_entropy(trainee.logits(batch.tokens).flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
        nats, counted = nats + losses[asked.flatten()].double().sum().item(), counted + int(asked.sum())
    if counted != last: raise AssertionError(f"{counted} tokens were scored of {last}")
    return nats / counted


def contexts(*lengths: int) -> Callable[[Trainee, Text], dict[str, Any]]:
    "Scores with windows side by side (1 to length tokens of context) and overlapping by half (length / 2 to length)."

    def score(trainee: Trainee, text: Text) -> dict[str, Any]:
        found = {}
        for length in lengths:
            found[f"side_by_side_{length}"] = window_loss(trainee, text, length, length)
            found[f"overlapping_{length}"] = window_loss(trainee, text, length, length // 2)
        return found

    return score


def pairs(length: int) -> Callable[[Trainee, Text], dict[str, Any]]:
    "Scores with the encoder on the piece before: `length` to 2 × `length` tokens of context."

    def score(trainee: Trainee, text: Text) -> dict[str, Any]:
        assert trainee.scored is not None
        sums = [
            trainee.scored(batch) for batch in _loaded(ValidationBatches(text.held_out, text.tokenizer, batch_size=128, max_length=length))
        ]
        return {"pairs": float(sum(part["losses"][0] for part in sums) / sum(part["counts"][0] for part in sums))}

    return score


def _loaded(data: Any) -> Iterator[Batch]:
    return (data[number] for number in range(len(data)))
