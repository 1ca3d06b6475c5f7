"""Teach what a sentence says to a question, and write lightbulb/reading/weights/verdicts.safetensors.

Adapters on the reader's encoder and a head of three classes (`lightbulb.reading.verdicts`) learn from the examples of
`tools/verdict_examples.py`: questions as users type them with lines of invented documents, forms of rules and notes, questions of people,
turned into questions of yes or no and as they are (QAMR, without its sixteen kept articles), and StrategyQA's with their facts. A fixed
seed; twenty minutes of one core. The file that ships is the mean of two trainings (--mean). The kept domains, the kept articles and forms
drawn with another seed measure it. Nothing of xquad_en, clapnq, two_hop or the manuals is read.
Run from the top: OMP_NUM_THREADS=1 python -m tools.teach_verdicts --data ../shared/data
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from lightbulb.core.runtime import native_dtype, seed_everything
from lightbulb.reading.network import load_reader, padded
from lightbulb.reading.reader import windows
from lightbulb.reading.verdicts import VerdictNetwork, VerdictReader, load_verdicts, save_verdicts
from tools.train_reader import qamr
from tools.verdict_examples import Forms, VerdictExample, answered_examples, peoples_examples, training_examples, written_examples

WEIGHTS = Path(__file__).resolve().parents[1] / "lightbulb" / "reading" / "weights"
Row = tuple[list[int], int, int]  # token ids, index of the first token of the statement, verdict


def batches(rows: list[Row], size: int, rng: random.Random) -> Iterator[list[Row]]:
    "Endless batches of rows of like length, each row once in every round."
    while True:
        rng.shuffle(rows)
        for first in range(0, len(rows), 16 * size):
            group = sorted(rows[first : first + 16 * size], key=lambda row: len(row[0]))
            parts = [group[i : i + size] for i in range(0, len(group), size)]
            rng.shuffle(parts)
            yield from parts


def teach(
    examples: Iterable[VerdictExample],
    start: Path,  # weights of the reader
    out: Path,
    *,
    num_steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    "Train and write the weights, with a line every 25 steps."
    seed_everything(seed)
    reader, tokenizer, _ = load_reader(start)
    network = VerdictNetwork(reader.encoder)
    weights = network.learn(first_layer=2, rank=16)
    rows: list[Row] = []
    for example in examples:
        for pair in windows(tokenizer, example.question, [example.statement], size=120, stride=1_000_000):
            rows.append((pair.ids, pair.passage, example.says))
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    drawn, began, device, right = batches(rows, batch_size, random.Random(seed)), time.process_time(), torch.device("cpu"), 0.3
    for step in range(num_steps):
        for group in optimizer.param_groups:  # 30 steps of warm-up, a plateau, a linear fall over the second half
            group["lr"] = learning_rate * min(1.0, (step + 1) / 30, (num_steps - step) / (0.5 * num_steps))
        batch = next(drawn)
        says = torch.tensor([row[2] for row in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=native_dtype(device) == torch.bfloat16):
            scores = network(*padded([row[:2] for row in batch], device))
        loss = nn.functional.cross_entropy(scores.float(), says, label_smoothing=0.03)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right += 0.03 * ((scores.argmax(1) == says).float().mean().item() - right)
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}, right {right:.2f}, {time.process_time() - began:.0f} CPU-s", flush=True)
    network.merge()
    save_verdicts(network, out)


def mean_of(paths: Sequence[Path], shares: Sequence[float], out: Path) -> None:
    "Write the weighted mean of the weights of several trainings (Wortsman et al. 2022, model soups)."
    networks = [load_verdicts(path)[0] for path in paths]
    states = [network.state_dict() for network in networks]
    mean = {name: sum(share * state[name] for share, state in zip(shares, states, strict=True)) for name in states[0]}
    networks[0].load_state_dict(mean)
    save_verdicts(networks[0], out)


def measure(reader: VerdictReader, examples: Sequence[VerdictExample]) -> None:
    "The share of right verdicts, by where the examples come from."
    hits: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        verdict = reader.verdicts(example.question, [example.statement])[0]
        hits[example.source].append(max(range(3), key=lambda i: verdict[i]) == example.says)
    for source, right in sorted(hits.items()):
        print(f"{source:25} {sum(right) / len(right):.3f} of {len(right)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=WEIGHTS / "span_reader.safetensors")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "verdicts.safetensors")
    parser.add_argument("--num_steps", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean", type=Path, nargs=2, help="train nothing: the mean of two files of weights, three parts to two")
    args = parser.parse_args()
    if args.mean:
        mean_of(args.mean, (0.6, 0.4), args.out)
    else:
        teach(training_examples(args.data, seed=args.seed), args.start, args.out, num_steps=args.num_steps, seed=args.seed)
    rng = random.Random(99)
    kept = list(peoples_examples(qamr(args.data)[1], rng))
    forms = [example for example, _ in zip(Forms(rng).examples(), range(400), strict=False)]
    answered = rng.sample(list(answered_examples(qamr(args.data)[1], rng)), 400)
    measure(VerdictReader.load(args.out), [*rng.sample(kept, 400), *answered, *forms, *written_examples(kept=True)])
