"""The expert layer beside a dense layer of equal active parameters and beside the layers of transformers, forward and backward."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
from _table import Table
from torch import Tensor, nn

from lightbulb.lm.expert_gradients import gated_hidden
from lightbulb.lm.experts import MixtureOfExperts

WIDTH, HIDDEN, NUM_EXPERTS, TOP_K, TOKENS = 256, 1024, 8, 2, 8192
NUM_BATCHES = 6  # different batches, so that the experts' loads change from step to step


class Dense(nn.Module):
    "A dense layer with the active parameters of the experts: a GELU part, a SwiGLU part, or a half of each."

    def __init__(self, plain: int, gated: int) -> None:
        super().__init__()
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        self.plain, self.gated = plain, gated
        if plain:
            self.up, self.down = linear(WIDTH, plain), linear(plain, WIDTH)
        if gated:
            self.gate_up, self.gate_down = linear(WIDTH, 2 * gated), linear(gated, WIDTH)

    def part(self, x: Tensor) -> Tensor:
        outs = [self.down(F.gelu(self.up(x)))] if self.plain else []
        if self.gated:
            gate, up = self.gate_up(x).chunk(2, -1)
            outs.append(self.gate_down(F.silu(gate) * up))
        return outs[0] if len(outs) == 1 else outs[0] + outs[1]

    def forward(self, x: Tensor, rows: int) -> Tensor:
        return torch.cat([self.part(piece) for piece in x.split(rows)])


def hugging_face(path: str, dtype: torch.dtype) -> nn.Module:
    "The sparse block of Mixtral with the hidden units that give it our active parameters."
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=WIDTH, intermediate_size=gated_hidden(HIDDEN), num_local_experts=NUM_EXPERTS, num_experts_per_tok=TOP_K
    )
    config._experts_implementation = path
    block = MixtralSparseMoeBlock(config)
    with torch.no_grad():
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=WIDTH**-0.5)
    return block.to(dtype)


def candidates(dtype: torch.dtype, quick: bool, peers: bool) -> dict[str, Callable[[int], None]]:
    "One training step of each layer, by name; the argument is the number of the batch."
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(TOKENS, WIDTH, generator=generator).to(dtype) for _ in range(NUM_BATCHES)]
    direction = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype)

    def step(layer: nn.Module, run: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]) -> Callable[[int], None]:
        def once(number: int) -> None:
            for parameter in layer.parameters():
                parameter.grad = None
            out = run(batches[number % NUM_BATCHES].detach().requires_grad_())
            if isinstance(out, tuple):
                torch.autograd.backward([out[0], out[1]], [direction, None])
            else:
                out.backward(direction)

        return once

    gated, found = gated_hidden(HIDDEN), {}
    shapes = {"dense, half GELU half SwiGLU": (HIDDEN, gated), "dense, GELU": (TOP_K * HIDDEN, 0), "dense, SwiGLU": (0, TOP_K * gated)}
    for name, shape in shapes.items():
        dense = Dense(*shape).to(dtype)
        for rows in (512, 1024) if quick else (256, 512, 1024, 2048, TOKENS):
            found[f"{name}, pieces of {rows} rows"] = step(dense, lambda x, dense=dense, rows=rows: dense(x, rows))
    ours = MixtureOfExperts(WIDTH, HIDDEN, NUM_EXPERTS, TOP_K).to(dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            nn.init.normal_(parameter, std=WIDTH**-0.5)

    def with_losses(x: Tensor) -> tuple[Tensor, Tensor]:
        out, report = ours(x)
        return out, 0.01 * report.balance_loss + 0.001 * report.z_loss

    found["lightbulb"] = step(ours, with_losses)
    for path in ("eager", "grouped_mm") if peers else ():
        block = hugging_face(path, dtype)
        found[f"transformers, {path}"] = step(block, lambda x, block=block: block(x[None])[0])
    return found


def measure(found: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    "Seconds of each candidate in each round; the candidates take turns, so that a busy moment of the machine meets all."
    seconds: dict[str, list[float]] = {name: [] for name in found}
    clock = time.perf_counter if torch.get_num_threads() > 1 else time.process_time
    for number in range(-2, rounds):
        for name, once in found.items():
            started = clock()
            once(number + 2)
            if number >= 0:
                seconds[name].append(clock() - started)
    return seconds


def main() -> int:
    "Print and, if asked, record the rows."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--threads", type=int, default=2, help="1: CPU-seconds of one core are counted")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(f"Expert layer, forward and backward, {args.threads} thread{'s' * (args.threads > 1)}", ("transformers",))
    for dtype, aim in ((torch.float32, 1.05), (torch.bfloat16, 1.10)):
        short = str(dtype).removeprefix("torch.")
        seconds = measure(candidates(dtype, args.quick, peers=True), 5 if args.quick else 15)
        typical = {name: median(values) for name, values in seconds.items()}
        best = {
            kind: min(value for name, value in typical.items() if name.startswith(kind + ","))
            for kind in ("dense, half GELU half SwiGLU", "dense, GELU", "dense, SwiGLU")
        }
        unit = best["dense, half GELU half SwiGLU"]
        for kind, value in best.items():
            name = min((n for n in typical if n.startswith(kind + ",")), key=lambda n: typical[n])
            table.row(f"{short}: {name}", f"{value / unit:.3f} ({1e3 * value:.0f} ms)")
        ours = typical["lightbulb"]
        table.row(
            f"{short}: lightbulb, against the dense layer of the same nonlinearities",
            f"{ours / unit:.3f} ({1e3 * ours:.0f} ms)",
            f"≤ {aim:.2f}",
            ours / unit <= aim,
        )
        for name in (name for name in typical if name.startswith("transformers")):
            table.row(
                f"{short}: {name}",
                f"{typical[name] / unit:.3f} ({1e3 * typical[name]:.0f} ms)",
                "slower than lightbulb",
                typical[name] > ours,
            )
    table.note(
        f"Width {WIDTH}, {NUM_EXPERTS} experts, top-{TOP_K}, hidden {HIDDEN} (GELU) or {gated_hidden(HIDDEN)} (SwiGLU, equal "
        f"parameters), {TOKENS} tokens, router losses included; "
        "medians of rounds in which all take turns. A dense layer has the active parameters and the same two nonlinearities, in its "
        "best row pieces; "
        "the layers of transformers (Mixtral) have equal active parameters, all SwiGLU."
    )
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
