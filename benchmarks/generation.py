"""Beam search beside Hugging Face's on the same weights, and self-speculative beside greedy decoding.

The beam's model: decoder-only, width 256, 4 layers, 8 heads, SwiGLU, random weights; 8 contexts of 16 tokens, 4 beams, 64 new tokens.
The speculative model: characters of Tiny-Shakespeare, width 128, 4 layers, 6 token heads, n-gram embeddings, trained here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _llama import llama_like, llama_twin
from _table import Table, arguments

from lightbulb.core.optimization import build_optimizers
from lightbulb.lm.beam_search import beam_search, generate
from lightbulb.lm.decoding import GenerationConfig, at_rest, read_prompts, speculate
from lightbulb.lm.transformer import Transformer, TransformerConfig

BATCH, BEAMS, CONTEXT, NEW = 8, 4, 16, 64


def cpu_seconds(*works: Callable[[], object], repeats: int) -> list[float]:
    "The least CPU-seconds of each work, measured in turn after one unmeasured run of each."
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for number, work in enumerate(works):
            start = time.process_time()
            work()
            times[number].append(time.process_time() - start)
    return [min(part) for part in times]


# ------------------------------------------------------------------ beam search


def compare_beams(table: Table, vocabulary: int, repeats: int) -> None:
    "One vocabulary: sequences, scores, tokens per CPU-second, overhead a step."
    from transformers import DynamicCache

    model = llama_like(vocabulary)
    twin: Any = llama_twin(model)
    ids = torch.randint(vocabulary, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))
    rows, one = ids.repeat_interleave(BEAMS, 0), ids[:, :1].repeat_interleave(BEAMS, 0)

    def ours():
        return beam_search(model, ids, beam_width=BEAMS, max_new_tokens=NEW)

    def theirs():
        return twin.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=NEW,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            eos_token_id=None,
            pad_token_id=0,
        )

    def quick_theirs():
        return twin.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=BEAMS,
            num_return_sequences=1,
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )

    def our_passes():
        cache = model.new_cache(len(rows))
        model.logits(model.decode(rows, cache=cache)[:, -1])
        for _ in range(NEW - 1):
            model.logits(model.decode(one, cache=cache)[:, -1])

    def their_passes():
        cache = DynamicCache(config=twin.config)
        twin(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
        for _ in range(NEW - 1):
            twin(one, past_key_values=cache, use_cache=True)

    with torch.inference_mode():
        mine, peer = ours(), theirs()
        same = int((peer.sequences[:, CONTEXT:].view(BATCH, BEAMS, NEW) != mine.sequences).any(-1).sum())
        apart = float((peer.sequences_scores.view(BATCH, BEAMS) - mine.scores).abs().max())
        table.row(
            f"beam search, vocabulary {vocabulary}: sequences unlike Hugging Face's, largest difference of scores",
            f"{same} of {BATCH * BEAMS}, {apart:.1e}",
            "0, ≤ 1e-4",
            same == 0 and apart <= 1e-4,
        )
        own, his, own_passes, his_passes = cpu_seconds(ours, quick_theirs, our_passes, their_passes, repeats=repeats)
    tokens = BATCH * NEW
    table.row(
        f"beam search, vocabulary {vocabulary}: tokens per CPU-second, lightbulb and Hugging Face",
        f"{tokens / own:.0f} and {tokens / his:.0f}, {his / own:.2f}×",
        "≥ 1.6×",
        his / own >= 1.6,
    )
    table.row(
        f"beam search, vocabulary {vocabulary}: ms a step, of which not the network's pass",
        (
            f"{1e3 * own / NEW:.2f}, {1e3 * (own - own_passes) / NEW:.2f}; Hugging Face {1e3 * his / NEW:.2f}, "
            f"{1e3 * (his - his_passes) / NEW:.2f}"
        ),
    )


def compare_exhaustive(table: Table, num_models: int) -> None:
    "Beams of full width against every text there is."
    wrong = 0
    for seed in range(num_models):
        model, size, length = llama_like(4, width=16, num_layers=2, num_heads=2, hidden=32, seed=seed), 4, 4
        texts = torch.tensor(list(product(range(size), repeat=length)))
        with torch.no_grad():
            logs = model.logits(model.decode(torch.cat([torch.ones(len(texts), 1, dtype=torch.long), texts], 1))).log_softmax(-1)[:, :-1]
        scores = logs.gather(2, texts[..., None])[..., 0].sum(1)
        best = scores.argsort(descending=True)
        found = beam_search(model, [1], beam_width=size**length, max_new_tokens=length, length_penalty=0.0)
        wrong += int((found.scores[0] - scores[best]).abs().max() > 1e-4) + int(not torch.equal(found.sequences[0, 0], texts[best[0]]))
    table.row(f"full-width beams unlike exhaustive search, {num_models} random models of 4 tokens, 4 steps", f"{wrong}", "0", wrong == 0)


# ------------------------------------------------------------------ self-speculative decoding


def train(
    ids: torch.Tensor, vocabulary: int, seconds: float, *, heads: int = 6, length: int = 128, batch: int = 8
) -> tuple[Transformer, int]:
    "A model of several heads after so many CPU-seconds of training, and its steps."
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            vocabulary,
            width=128,
            num_heads=4,
            num_encoder_layers=0,
            num_decoder_layers=4,
            hidden=512,
            num_experts=1,
            top_k=1,
            num_token_heads=heads,
            max_length=1024,
            ngram_orders=(2, 3, 4),
            ngram_rows=16_384,
        )
    )
    optimizers = build_optimizers(model, optimizer="muon", learning_rate=1.0, weight_decay=0.0)
    start, step = time.process_time(), 0
    while (spent := (time.process_time() - start) / seconds) < 1:
        for optimizer, rate in zip(optimizers, (4e-3, 2e-2), strict=True):  # AdamW, Muon
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 20, (1 - spent) / 0.6)
            optimizer.zero_grad()
        windows = torch.stack([ids[at : at + length + heads] for at in torch.randint(len(ids) - length - heads, (batch,))])
        hidden = model(windows[:, :length]).hidden
        losses = [
            F.cross_entropy(model.logits(hidden, k).flatten(0, 1), windows[:, k + 1 : k + 1 + length].flatten()) for k in range(heads)
        ]
        (losses[0] + 0.5 * sum(losses[1:])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
    return model.eval(), step


def compare_speculative(table: Table, text: str, seconds: float, num_prompts: int, repeats: int) -> None:
    "The same tokens from held-out contexts, greedily and speculatively."
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(letter) for letter in text])
    split, new = int(0.9 * len(ids)), 400
    model, steps = train(ids[:split], len(letters), seconds)
    held_out = ids[split:]
    with torch.no_grad():
        windows = torch.stack([held_out[at : at + 129] for at in range(0, 100 * 128, 128)])
        loss = float(F.cross_entropy(model.logits(model(windows[:, :-1]).hidden).flatten(0, 1), windows[:, 1:].flatten()))
    table.row(
        "the speculative model: loss on 12,800 held-out characters", f"{loss:.3f} nats after {steps} steps, {seconds:.0f} CPU-seconds"
    )
    prompts = [held_out[at : at + 64].tolist() for at in range(0, 5000 * num_prompts, 5000)]
    expected = [generate(model, prompt, max_new_tokens=new)[0] for prompt in prompts]
    repeated = [
        text[at : at + 8] in [text[earlier : earlier + 8] for earlier in range(at)] for text in expected for at in range(len(text) - 8)
    ]
    table.row(
        "the speculative model: strings of 8 characters that its greedy texts hold already", f"{100 * sum(repeated) / len(repeated):.0f}%"
    )
    both, alone = (GenerationConfig(method="speculative", max_new_tokens=new, notes=notes) for notes in (True, False))
    for name, config in (("heads and notes", both), ("heads alone", alone)):
        with at_rest(model):
            found = [speculate(model, read_prompts(model, prompt, config)[0], config) for prompt in prompts]
        wrong = sum(part.tokens != text for part, text in zip(found, expected, strict=True))
        per_pass = sum(len(part.tokens) for part in found) / sum(len(part.rounds) for part in found)
        greedy, quick = cpu_seconds(
            lambda: [generate(model, prompt, max_new_tokens=new) for prompt in prompts],
            lambda config=config: [generate(model, prompt, config) for prompt in prompts],
            repeats=repeats,
        )
        row = f"self-speculative, batch 1, {name}: speed beside greedy, tokens a pass, texts that differ"
        table.row(
            row,
            f"{greedy / quick:.2f}×, {per_pass:.2f}, {wrong} of {len(prompts)}",
            "≥ 1.8×, 0 differ",
            greedy / quick >= 1.8 and not wrong,
        )
        if config.notes:
            table.row(
                "greedy, batch 1: ms a token",
                f"{1e3 * greedy / (new * len(prompts)):.2f}; speculative {1e3 * quick / (new * len(prompts)):.2f}",
            )


def main() -> int:
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    table = Table("Generation", ("transformers",))
    compare_exhaustive(table, 5 if args.quick else 50)
    for vocabulary in (512,) if args.quick else (512, 8192, 50_257):
        compare_beams(table, vocabulary, 2 if args.quick else 3)
    file = Path(args.data) / "tiny_shakespeare" / "input.txt"
    if file.is_file():
        compare_speculative(table, file.read_text("utf-8"), 10 if args.quick else 60, 2 if args.quick else 4, 1 if args.quick else 3)
    else:
        table.note(f"self-speculative decoding was skipped: {file} is not here")
    table.note(
        "Beam search: 8 contexts of 16 tokens, 4 beams, 64 new tokens, a decoder of width 256 and 4 layers with random weights, one "
        "thread; each the best of "
        "several runs in turn. Speculative: characters of Tiny-Shakespeare, contexts of 64 held-out characters, 400 new ones, "
        "float32; of tokens within 1e-4 nats "
        "the lowest id wins, in greedy decoding too. Notes start empty with every text."
    )
    return table.finish(args.record)


if __name__ == "__main__": raise SystemExit(main())
