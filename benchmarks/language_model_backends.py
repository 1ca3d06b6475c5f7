"""What SmolLM2 costs through lm.language_model: loading, writing, reading, judging, in CPU-seconds.

Peer: `transformers`' own generate on the same weights and type, in the same process. CPU-seconds of this process are
counted, so a busy machine does not change the ratios much.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from _table import Table, arguments

from lightbulb.lm.local_model import LocalLanguageModel, load_local_model

LOAD = (
    "import time; from lightbulb.lm.language_model import load_language_model as load; t = time.process_time(); load('smollm2'); "
    "print(time.process_time() - t)"
)
PAGE = "An incandescent lamp makes light by heating a filament of tungsten until it glows; most of the power leaves as heat. " * 20


def cpu_seconds(repeats: int, *works: Callable[[], object]) -> list[float]:
    "The least CPU time of several runs of each; they take turns, so that a busy machine is busy for all."
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, taken in zip(works, seconds, strict=True):
            started = time.process_time()
            work()
            taken.append(time.process_time() - started)
    return list(map(min, seconds))


def load_seconds(cache: str) -> float:
    "CPU time of loading in a fresh process, import of torch excluded, of transformers included."
    env = {**os.environ, "LIGHTBULB_CACHE": cache}
    return float(subprocess.run([sys.executable, "-c", LOAD], env=env, check=True, capture_output=True, text=True).stdout)


def peer_generate(model: LocalLanguageModel, num_rows: int, num_tokens: int):
    "The same work by transformers."
    ids = torch.tensor([model.frame.around(model.tokenizer.encode(QUESTION), chat=True)] * num_rows)
    with torch.inference_mode():
        model.network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, min_new_tokens=num_tokens, do_sample=False, pad_token_id=2
        )


QUESTION = "Explain in detail how an incandescent lamp, a fluorescent lamp and an LED make light, and compare them."


def writing(table: Table, model: LocalLanguageModel, precision: str, num_rows: int, repeats: int, num_tokens: int) -> None:
    "The row for writing `num_rows` texts at once."
    counted = model.num_tokens_used
    ours, theirs = cpu_seconds(
        repeats,
        lambda: model.generate([QUESTION] * num_rows, max_new_tokens=num_tokens),
        lambda: peer_generate(model, num_rows, num_tokens),
    )
    read = num_rows * len(model.frame.around(model.tokenizer.encode(QUESTION), chat=True))
    written = (model.num_tokens_used - counted) / repeats - read
    speed, peer = written / ours, num_rows * num_tokens / theirs
    table.row(
        f"writing, {precision}, {num_rows} at once",
        f"{speed:.1f} tokens a CPU-second (transformers {peer:.1f})",
        "≥ 0.95 × transformers",
        speed >= 0.95 * peer,
    )


def rows(table: Table, model: LocalLanguageModel, precision: str, repeats: int, num_tokens: int) -> None:
    "The rows of one precision."
    for num_rows in (1, 8):
        writing(table, model, precision, num_rows, repeats, num_tokens)
    rivals = [f" about {number} percent of the power" for number in range(8)]
    [shared] = cpu_seconds(repeats, lambda: model.score(PAGE, rivals, chat=False))
    [apart] = cpu_seconds(1, lambda: [model.score(PAGE, [rival], chat=False) for rival in rivals])
    reading = model.count_tokens(PAGE) / cpu_seconds(repeats, lambda: model.score(PAGE, [" a"], chat=False))[0]
    table.row(f"reading, {precision}", f"{reading:.0f} tokens a CPU-second")
    table.row(
        f"judging 8 continuations of a page, {precision}",
        f"{shared:.2f} CPU-s, prompt read 8 times {apart:.2f} CPU-s",
        "≥ 3 × quicker",
        apart >= 3 * shared,
    )


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    repeats, num_tokens = (2, 24) if options.quick else (5, 64)
    table = Table("SmolLM2-135M behind one interface", ("transformers",))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        first, second = load_seconds(cache), load_seconds(cache)
    table.row("load, first time (conversion from GGUF)", f"{first:.1f} CPU-s", "≤ 25 CPU-s", first <= 25)
    table.row("load, later", f"{second:.1f} CPU-s", "≤ 5 CPU-s", second <= 5)
    for precision in ("float32", "bfloat16"):
        rows(table, load_local_model("smollm2", precision=precision), precision, repeats, num_tokens)
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
