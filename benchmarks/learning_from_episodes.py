"""What judge, ranking and language model learn from the agent's file of episodes, measured on episodes that they did not see.

The untrained agent plays questions over the 95 paragraphs of XQuAD; the episodes are kept as `train_agent` keeps them. Of every second
paragraph's questions the right paragraph is known and learned from; the others' questions are judged by their gold answers, which nothing
learned from. How far the new lists may move judge and ranking is chosen on half of the learning questions. A small language model of bytes
that has read the demo site goes on with the file of episodes; beside it goes one that reads as many pieces of the demo site instead.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _scoring import interval, mean, token_f1
from _table import Table, arguments, skip_without
from agent import Passages

from lightbulb.agent.configuration import Budget
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.episodes import EpisodeFile, gains_of, judged_of
from lightbulb.agent.tools import Tools
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.records import Document
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.page_ranking import PageRanker
from lightbulb.knowledge.ranking import RankingList, RankingModel, load_cross_encoder, ndcg
from lightbulb.lm.language_model import load_language_model
from lightbulb.lm.training import TrainLanguageModel, train_language_model
from lightbulb.reading.judge import Judge, LabelledCandidates, fit_judge
from lightbulb.reading.reader import SpanReader

RIDGES = (1.0, 0.1, 0.01)
PULLS = (1.0, 10.0, 100.0)
PIECE = 64  # bytes that the language model expects after as many


def log_share(judge: Judge, lists: Sequence[LabelledCandidates]) -> float:
    "How surely the spans of the right page are chosen, nats."
    shares = [float(judge.shares(one.question, one.candidates)[:-1][list(one.right)].sum()) for one in lists]
    return mean([float(np.log(max(share, 1e-6))) for share in shares])


def language_model(folder: Path, dataset: str, former: Path | None = None, *, num_steps: int) -> Path:
    "A small model of bytes that has read so many batches of a text, from the weights of a former one if given."
    size = {"preset": "tiny", "width": 64, "num_heads": 2, "num_layers": 2, "max_length": 2 * PIECE, "batch_size": 8}
    steps = {"num_epochs": 1, "steps_per_epoch": num_steps, "accumulation_steps": 1}
    config = TrainLanguageModel(
        save_dir=folder, device="cpu", model_name="bytes", dataset_name=dataset, transformer_model_path=former, **size, **steps
    )  # type: ignore[arg-type]
    list(train_language_model(config))
    return folder


def bits_per_byte(folder: Path, texts: Sequence[str]) -> list[float]:
    "Of each text, from pieces all over it."
    model, values = load_language_model(f"lightbulb:{folder}"), []
    for text in texts:
        plain = text.encode("ascii", "replace").decode()  # one byte a character
        starts = range(0, len(plain) - 2 * PIECE, 4 * PIECE)
        nats = [model.score(plain[start : start + PIECE], [plain[start + PIECE : start + 2 * PIECE]], chat=False)[0] for start in starts]
        values.append(-mean(nats) / PIECE / np.log(2))
    return values


def main() -> int:
    args = arguments((__doc__ or "").splitlines()[0])
    skip_without(args.data / "reading")
    torch.set_num_threads(1)
    count = 6 if args.quick else 80
    table = Table("Learning from episodes" + (" (quick)" if args.quick else ""), ("onnxruntime", "transformers"))
    rows = [json.loads(line) for line in (args.data / "reading" / "xquad_en.jsonl").read_text(encoding="utf-8").splitlines()]
    pages = [Document(f"http://xquad/{i}", row["title"], row["text"]) for i, row in enumerate(rows)]
    embed, reader, rerank = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite"), SpanReader.load(), load_cross_encoder()
    asked = [
        [(q["question"], i, [a["text"] for a in q["answers"]]) for i in range(half, len(rows), 2) for q in rows[i]["questions"]]
        for half in (0, 1)
    ]
    chosen = [[part[k] for k in np.random.default_rng(0).permutation(len(part))[:count]] for part in asked]
    budget = SearchEnvConfig(budget=Budget(max_searches=2, max_pages=4))
    agent = AutonomousWebAgent(
        Tools(Passages("xquad", pages, embed, cache_folder("benchmarks")), reader, embed), policy="ordered", env_config=budget
    )
    read = lambda question, texts: reader.read(question, texts, top_k=8)
    kept, judged, files = list[list[dict]](), list[list[LabelledCandidates]](), list[bytes]()
    with tempfile.TemporaryDirectory() as folder:
        for half, part in enumerate(chosen):
            file = EpisodeFile(Path(folder, f"{half}.jsonl"), with_failures=True)
            for question, _, _ in part:
                file.append(agent.play(SearchTask(question)).row())
            kept.append(file.read())
            files.append(file.path.read_bytes())
            judged.append(judged_of(file.read(), {question: {pages[i].url} for question, i, _ in part}, read, rerank))
    golds = {question: answers for question, _, answers in chosen[1]}
    held_out, learn = [one for one in judged[1] if one.candidates], [one for one in judged[0] if any(one.right)]
    former = Judge.load()
    by_ridge = {ridge: log_share(fit_judge(learn[::2], ridge=ridge, former=former), learn[1::2]) for ridge in RIDGES}
    ridge = max(by_ridge, key=lambda one: by_ridge[one])
    after = fit_judge(learn, ridge=ridge, former=former)
    table.row(
        "episodes learned from, with the right page among what was kept; judged", f"{len(learn)} of {len(judged[0])}; {len(held_out)}"
    )

    def row(name: str, before: Sequence[float], now: Sequence[float], aim: str = "", *, falls: bool = False) -> None:
        low, high = interval([b - a for a, b in zip(before, now, strict=True)])
        gap = mean(now) - mean(before)
        table.row(
            name,
            f"{mean(before):.3f} → {mean(now):.3f}, {gap:+.3f} ({low:+.3f} to {high:+.3f})",
            aim,
            (high < 0 if falls else low > 0) if aim and not args.quick else None,
        )

    first = lambda judge: [token_f1(judge.judge(one.question, one.candidates)[0].text, golds[one.question]) for one in held_out]
    row(f"judge: F1 of its first answer (pull {ridge})", first(former), first(after), "interval above 0")
    shares = [
        [float(judge.shares(one.question, one.candidates)[:-1][list(one.right)].sum()) for one in held_out] for judge in (former, after)
    ]
    row("judge: share of the spans on the right page", *shares)
    best = [max((token_f1(one.text, golds[item.question]) for one in item.candidates), default=0.0) for item in held_out]
    table.row("the best span that a judge could choose: F1", f"{mean(best):.3f}")
    ranker = PageRanker(pages, embed)
    lists = [ranker.labelled(question, gains) for question, gains in gains_of(kept[0]).items()]
    truth = [ranker.labelled(question, {pages[i].url: 1.0}) for question, i, _ in chosen[1]]
    value = lambda model, asked: [float(ndcg(model.scores(one.features), one.gains)) for one in asked]
    useful = list[RankingList](one for one in lists if one.gains.any())
    known = [ranker.labelled(question, {pages[i].url: 1.0}) for question, i, _ in chosen[0]]

    def updated(part: Sequence[RankingList], pull: float) -> RankingModel:
        model = RankingModel.load()
        model.update(part, pull=pull)
        return model

    by_pull = {pull: mean(value(updated(useful[::2], pull), known[1::2])) for pull in PULLS}
    pull = max(by_pull, key=lambda one: by_pull[one])
    before, now = value(RankingModel.load(), truth), value(updated(useful, pull), truth)
    row(f"ranking: nDCG@10 of pages (pull {pull:g})", before, now, "interval above 0")
    steps = 20 if args.quick else 300
    quoted = lambda rows: {passage["url"] for one in rows for passage in one["passages"]}
    long_enough = [one for one in kept[1] if len(one["text"]) > 2 * PIECE]
    texts, is_new = [one["text"] for one in long_enough], [not quoted(kept[0]) & quoted([one]) for one in long_enough]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "episodes.jsonl").write_bytes(files[0])
        begun = language_model(place / "former", "demo", num_steps=steps)
        weights = begun / "language_model"
        models = {
            "the file of episodes": language_model(place / "after", str(place / "episodes.jsonl"), weights, num_steps=steps // 3),
            "as many pieces of the demo site": language_model(place / "beside", "demo", weights, num_steps=steps // 3),
        }
        former_bits = bits_per_byte(begun, texts)
        for name, model_place in models.items():
            bits = bits_per_byte(model_place, texts)
            aim = "interval below 0" if name == "the file of episodes" else ""
            row(f"language model: bits a byte of {len(texts)} episodes, after {name}", former_bits, bits, aim, falls=True)
            before, now = ([value for value, new in zip(values, is_new, strict=True) if new] for values in (former_bits, bits))
            new_name = f"… of the {sum(is_new)} that quote no page which the file quotes"
            if any(is_new):
                row(new_name, before, now, aim, falls=True)
            elif aim and not args.quick:
                table.row(new_name, "not shown", aim, False)
    table.note("The ranking learns from what was kept, the judge from which page is right; both begin from the weights that ship.")
    tried = ", ".join(f"{value:.3f} with {pull:g}" for pull, value in by_pull.items())
    table.note(f"The pull of the ranking is the best of three on half of the learning questions: nDCG@10 {tried}.")
    if not any(is_new):
        table.note(
            "All held-out episodes quote pages that the file of episodes quotes too, and have its format: how much of the gain is either "
            "was not told apart."
        )
    table.note("The reader does not learn from episodes: they hold no spans that are known to be right.")
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
