"""Teach what a sentence says to a question, and write lightbulb/reading/weights/verdicts.safetensors.

All layers of the encoder and a head of three classes (`lightbulb.reading.verdicts`) learn from the examples of
`tools/verdict_examples.py`: questions as users type them with lines of invented documents, forms of rules and notes, questions of people,
turned into questions of yes or no and as they are (QAMR, without its sixteen kept articles), and StrategyQA's with their facts. Half of
each batch are questions to the written pages with four lines each, of which the one that answers has to lead (`told`). A fixed seed; a
quarter of an hour of one core for 1,000 steps. The file that ships went on from that of before twice, 800 steps and 1,000 (--start). The
kept domains, the kept articles and forms drawn with another seed measure it, and how often the line that answers leads. Nothing of
xquad_en, clapnq, two_hop or the manuals is read.
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
from tokenizers import Tokenizer
from torch import Tensor, nn

from lightbulb.core.errors import CheckpointError
from lightbulb.core.runtime import cache_folder, native_dtype, seed_everything
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.reading.network import load_reader, padded
from lightbulb.reading.reader import windows
from lightbulb.reading.verdicts import VerdictNetwork, VerdictReader, load_verdicts, save_verdicts
from tools.train_reader import qamr
from tools.verdict_examples import (
    NOTHING,
    Forms,
    VerdictExample,
    answered_examples,
    line_groups,
    opposite_examples,
    opposite_groups,
    peoples_examples,
    training_examples,
    written_examples,
)
from tools.written_lines import written_lines
from tools.written_pages import written_domains

TIMES = {"page: yes or no": 4, "page: text": 2}  # how often such a question counts, of which there are fewer
WEIGHTS = Path(__file__).resolve().parents[1] / "lightbulb" / "reading" / "weights"
Row = tuple[list[int], int, int]  # token ids, index of the first token of the statement, verdict


def load_start(path: Path, num_layers: int) -> tuple[VerdictNetwork, Tokenizer]:
    "The network that a training begins with, from weights of the reader or of an earlier training; upper layers may be the bare encoder's."
    try:
        return load_verdicts(path, num_layers=num_layers)
    except CheckpointError:
        reader, tokenizer, _ = load_reader(path, num_layers=num_layers)
        return VerdictNetwork(reader.encoder), tokenizer


def batches(rows: list[Row], size: int, rng: random.Random) -> Iterator[list[Row]]:
    "Endless batches of rows of like length, each row once in every round."
    while True:
        rng.shuffle(rows)
        for first in range(0, len(rows), 16 * size):
            group = sorted(rows[first : first + 16 * size], key=lambda row: len(row[0]))
            parts = [group[i : i + size] for i in range(0, len(group), size)]
            rng.shuffle(parts)
            yield from parts


def told(scores: Tensor) -> Tensor:
    "The log-odds (N,) that a line says yes or no, of scores (N, 3) of no, yes, nothing."
    return scores[:, :2].logsumexp(1) - scores[:, 2]


def teach(
    examples: Iterable[VerdictExample],
    start: Path,  # weights of the reader, or of an earlier training of this
    out: Path,
    *,
    num_steps: int,
    groups: Iterable[Sequence[VerdictExample]],  # the lines of one question; where the first tells, it has to lead
    num_layers: int = 8,  # or more, if the start has more
    batch_size: int = 24,  # examples, beside the groups
    groups_a_batch: int = 5,
    learning_rate: float = 6e-5,
    averaged: float = 0.3,  # share of the steps, the last ones, whose weights are averaged
    seed: int = 0,
) -> None:
    "Train and write the weights, with a line every 25 steps."
    seed_everything(seed)
    network, tokenizer = load_start(start, num_layers)
    weights, device = network.learn(first_layer=0, rank=0), torch.device("cpu")
    network.mixed = native_dtype(device) == torch.bfloat16

    def encoded(example: VerdictExample) -> Row:
        pair = windows(tokenizer, example.question, [example.statement], size=120, stride=1_000_000)[0]
        return pair.ids, pair.passage, example.says

    rows, grouped = [encoded(example) for example in examples], [[encoded(one) for one in group] for group in groups]
    draws, drawn = random.Random(seed + 1), batches(rows, batch_size, random.Random(seed))
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    mean, first_averaged = [torch.zeros_like(weight) for weight in weights], round((1 - averaged) * num_steps)
    began, right = time.process_time(), 0.3
    for step in range(num_steps):
        for group in optimizer.param_groups:  # 40 steps of warm-up, a plateau, a linear fall over most of it
            group["lr"] = learning_rate * min(1.0, (step + 1) / 40, (num_steps - step) / (0.7 * num_steps))
        sets = [draws.choice(grouped) for _ in range(groups_a_batch)]
        batch = [*next(drawn), *(row for group in sets for row in group)]
        says = torch.tensor([row[2] for row in batch])
        scores = network(*padded([row[:2] for row in batch], device))
        loss = nn.functional.cross_entropy(scores, says, label_smoothing=0.03)
        leading = told(scores[-sum(map(len, sets)) :]).split([len(group) for group in sets])
        races = [odds for odds, group in zip(leading, sets, strict=True) if group[0][2] != NOTHING]
        if races:
            loss = loss + 0.7 * torch.stack([-odds.log_softmax(0)[0] for odds in races]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step >= first_averaged:
            for kept, weight in zip(mean, weights, strict=True):
                kept.lerp_(weight.detach(), 1 / (step - first_averaged + 1))
        right += 0.02 * ((scores.argmax(1) == says).float().mean().item() - right)
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}, right {right:.2f}, {time.process_time() - began:.0f} CPU-s", flush=True)
    for kept, weight in zip(mean, weights, strict=True):
        weight.data.copy_(kept)
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


def measure_lead(reader: VerdictReader, group: Sequence[VerdictExample]) -> bool:
    "Whether the first line of a group is the one that says most to the question."
    nothing = [verdict.nothing for verdict in reader.verdicts(group[0].question, [one.statement for one in group])]
    return nothing[0] == min(nothing)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=WEIGHTS / "span_reader.safetensors")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "verdicts.safetensors")
    parser.add_argument("--num_steps", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean", type=Path, nargs=2, help="train nothing: the mean of two files of weights, three parts to two")
    args = parser.parse_args()
    embed = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite")
    if args.mean:
        mean_of(args.mean, (0.6, 0.4), args.out)
    else:
        groups = line_groups(list(written_domains(kept=False)), embed, random.Random(args.seed))
        groups = [group for group in groups for _ in range(TIMES.get(group[0].source, 1))]
        groups += opposite_groups(written_lines(kept=False), embed, random.Random(args.seed))
        examples = training_examples(args.data, seed=args.seed)
        teach(examples, args.start, args.out, num_steps=args.num_steps, groups=groups, seed=args.seed)
    rng = random.Random(99)
    kept = list(peoples_examples(qamr(args.data)[1], rng))
    forms = [example for example, _ in zip(Forms(rng).examples(), range(400), strict=False)]
    answered = rng.sample(list(answered_examples(qamr(args.data)[1], rng)), 400)
    reader, pages = VerdictReader.load(args.out), line_groups(list(written_domains(kept=True)), embed, rng)
    leads = [measure_lead(reader, group) for group in pages if group[0].says != NOTHING]
    print(f"the line that answers leads three others {sum(leads) / len(leads):.3f} of {len(leads)}")
    measure(reader, [*rng.sample(kept, 400), *answered, *forms, *written_examples(kept=True), *opposite_examples(written_lines(kept=True))])
