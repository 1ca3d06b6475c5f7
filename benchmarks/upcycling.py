"""Does a short training make a language model that started from SmolLM2 better than SmolLM2 on new text?

The text is the demo site's, written for lightbulb, so SmolLM2 has not seen it: some articles to train on, others to score.
Each piece of 256 tokens is scored once. SmolLM2 reads the piece before as a prefix (its best row is the one to beat); the
upcycled model reads it with its encoder. Nats are summed over the same tokens for all rows, document ends left out, and
divided by the bytes of the held-out text. Memory is the process's peak.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _table import Table, arguments
from torch import Tensor

from lightbulb.lm.configuration import TrainLanguageModel
from lightbulb.lm.losses import chunked_cross_entropy
from lightbulb.lm.objectives import Batch
from lightbulb.lm.pretrained import load_llama
from lightbulb.lm.training import LanguageModelTraining

LENGTH = 256


def bits_per_byte(run: LanguageModelTraining, hidden: Callable[[Batch], Tensor], unembedding: Tensor) -> float:
    "The held-out text under a function from batches to the decoder's hidden states; document ends are not counted."
    nats = 0.0
    with torch.inference_mode():
        for index in range(len(run.held)):
            batch = run.held[index]
            rows, targets = batch.rows(), batch.targets.flatten()
            _, terms = chunked_cross_entropy(hidden(batch).flatten(0, 1)[rows], unembedding, targets[rows])
            nats += float(terms[0][targets[rows] != run.tokenizer.end_id].double().sum())
    return nats / math.log(2) / run.validation.num_bytes


def source_hidden(source, run: LanguageModelTraining, with_prefix: bool) -> Callable[[Batch], Tensor]:
    "SmolLM2's hidden states at the piece's positions; with the piece before as prefix or without."

    def states(batch: Batch) -> Tensor:
        if not with_prefix or batch.encoder_tokens is None or batch.encoder_lengths is None:
            return source.model(batch.tokens).last_hidden_state
        out = torch.zeros(*batch.tokens.shape, source.config.hidden_size)
        for row, count in enumerate(batch.encoder_lengths):  # start, the piece before, the piece; rows differ in length
            tokens = torch.cat([batch.tokens[row, :1], batch.encoder_tokens[row, :count], batch.targets[row, :-1]])
            out[row] = source.model(tokens[None]).last_hidden_state[0, count:]
        return out

    return states


def main() -> int:
    args = arguments(__doc__ or "", data=False)
    torch.manual_seed(0)
    table = Table("Starting from a pretrained model", ("transformers",))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = LanguageModelTraining(
            TrainLanguageModel(
                save_dir=Path(folder),
                model_name="smollm2",
                init_from_pretrained=True,
                dataset_name="demo",
                max_examples=14 if args.quick else 0,
                num_layers=4,
                num_experts=2,
                max_length=LENGTH,
                batch_size=2,
                accumulation_steps=2,
                num_epochs=1,
                learning_rate=1e-4,
                optimizer="adamw",
                warmup=0.1,
                span_weight=0.0,
                alpha=0.0,
                beta=0.0,
                precision="bfloat16",
                device="cpu",
            )
        )
        model = run.scored.model.eval()
        source = load_llama("smollm2").eval()
        alone, prefixed = (bits_per_byte(run, source_hidden(source, run, prefix), source.lm_head.weight) for prefix in (False, True))
        table.row("SmolLM2, the piece alone, bits per byte", f"{alone:.4f}")
        table.row("SmolLM2, the piece before as prefix", f"{prefixed:.4f}")
        del source
        read = lambda batch: model(batch.tokens, batch.encoder_tokens, batch.encoder_lengths, batch.lengths).hidden  # noqa: E731
        before = bits_per_byte(run, lambda batch: model(batch.tokens, None, None, batch.lengths).hidden, model.unembedding)
        table.row("upcycled before training, empty encoder", f"{before:.4f}", "SmolLM2's to rounding", abs(before - alone) < 1e-4)
        steps = min(4 if args.quick else run.total_steps, run.total_steps)
        begin, seen = time.process_time(), 0
        for index in range(steps):
            batches = [run.batches[0, 2 * index + half] for half in range(2)]
            run.train_step(batches)
            seen += sum(batch.num_tokens for batch in batches)
        seconds = time.process_time() - begin
        model.eval()
        after = bits_per_byte(run, read, model.unembedding)
        gates = [float(layer.cross.gate.abs().detach()) for layer in model.decoder.layers]
        table.row(
            f"upcycled after {steps} steps ({seen:,} tokens, {seconds:.0f} CPU-s)",
            f"{after:.4f}",
            "below SmolLM2's best",
            after < min(alone, prefixed),
        )
        table.row("gates of cross-attention, mean size", f"{sum(gates) / len(gates):.4f}", "open", max(gates) > 0)
        table.row(
            "parameters, and peak memory",
            f"{model.num_parameters / 1e6:.0f}M, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
            "below 24 GiB",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 24 * 2**20,
        )
    table.note(
        f"Held out: {run.validation.num_documents} articles, {len(run.validation):,} tokens; 4 of the encoder's 30 layers are kept, "
        f"2 experts a layer. One epoch of {len(run.train):,} tokens in bfloat16, scored in float32."
    )
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
