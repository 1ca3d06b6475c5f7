"""What judge, ranking and language model learn from the agent's file of episodes, measured on episodes that they did not see.

The untrained agent plays questions over the 95 paragraphs of XQuAD; the episodes are kept as `train_agent` keeps them. Of every second
paragraph's questions the right paragraph is known and learned from; the others' questions are judged by their gold answers, which nothing
learned from. How far the new lists may move judge and ranking is chosen on half of the learning questions. A small language model of bytes
that has read the demo site goes on with the file of episodes; beside it goes one that reads as many pieces of the demo site instead.
The reader goes on from the weights that ship, told that the answer is somewhere on the right page; its rows are a table of their own,
which `--only reader` makes alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from _scoring import interval, mean, token_f1
from _table import Table, skip_without
from agent import Passages

from lightbulb.agent.configuration import Budget
from lightbulb.agent.environment import SearchEnvConfig, SearchTask
from lightbulb.agent.episodes import EpisodeFile, gains_of, judged_of, reading_of
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
from lightbulb.reading.reader import _WEIGHTS, SpanReader
from lightbulb.reading.teaching import TrainReader, train_reader

RIDGES = (1.0, 0.1, 0.01)
PULLS = (1.0, 10.0, 100.0)
RATES = (3e-4, 6e-4)  # of the reader; in so few steps a third of it is reached
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


def compare(table: Table, name: str, before: Sequence[float], now: Sequence[float], aim: str = "", *, falls: bool = False) -> None:
    "A row of former and updated means with the interval of the paired difference."
    low, high = interval([b - a for a, b in zip(before, now, strict=True)])
    gap = mean(now) - mean(before)
    measured = f"{mean(before):.3f} → {mean(now):.3f}, {gap:+.3f} ({low:+.3f} to {high:+.3f})"
    table.row(name, measured, aim, (high < 0 if falls else low > 0) if aim else None)


Rows = Sequence[dict]  # of episodes
Golds = Mapping[str, Collection[str]]  # question → URLs of the right pages, or accepted answers


def taught_reader(rows: Rows, right_pages: Golds, rate: float, *, num_steps: int) -> SpanReader:
    "The shipped reader after one more lesson from episodes."
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder, "examples.jsonl")
        examples.write_text("\n".join(json.dumps(one) for one in reading_of(rows, right_pages)), encoding="utf-8")
        near = {"rank": 0, "first_layer": 10, "batch_size": 4, "num_steps": num_steps, "learning_rate": rate}
        config = TrainReader(examples, Path(folder, "reader"), start=_WEIGHTS, **near)  # type: ignore[arg-type]
        list(train_reader(config))
        return SpanReader.load(config.save_path)


def first_answers(reader: SpanReader, rows: Rows, right_pages: Golds) -> tuple[list[str], list[float], list[float]]:
    "Of each episode the reader's first answer, whether it is on a right page, and the share that those have of its probability."
    answers, is_right, shares = list[str](), list[float](), list[float]()
    for row in rows:
        spans = reader.read(row["question"], [one["text"] for one in row["passages"]], top_k=8)
        on_page = [row["passages"][span.text_index]["url"] in right_pages[row["question"]] for span in spans]
        answers.append(spans[0].text if spans else "")
        is_right.append(float(any(on_page[:1])))
        scores = np.array([span.score for span in spans])
        shares.append(float(scores[on_page].sum() / scores.sum()) if spans else 0.0)
    return answers, is_right, shares


def reader_table(learn: Rows, held_out: Rows, right_pages: Golds, answers: Golds, args: argparse.Namespace) -> int:
    "What the reader learns from episodes; the exit status."
    table = Table("Learning from episodes: the reader" + (" (quick)" if args.quick else ""))
    former = SpanReader.load()
    taught = lambda rows, rate: taught_reader(rows, right_pages, rate, num_steps=2 if args.quick else 12)
    tried = {0.0: first_answers(former, learn[1::2], right_pages)[2]}
    tried |= {rate: first_answers(taught(learn[::2], rate), learn[1::2], right_pages)[2] for rate in RATES}
    log_shares = {rate: mean([float(np.log(max(share, 1e-6))) for share in shares]) for rate, shares in tried.items()}
    rate = max(RATES, key=lambda one: log_shares[one])
    (before, *was), (now, *after) = (first_answers(reader, held_out, right_pages) for reader in (former, taught(learn, rate)))
    f1 = [[token_f1(text, answers[row["question"]]) for text, row in zip(texts, held_out, strict=True)] for texts in (before, now)]
    num_learned = len(reading_of(learn, right_pages))
    table.row(
        "episodes learned from, with passages of the right page and of others; judged", f"{num_learned} of {len(learn)}; {len(held_out)}"
    )
    aim = "" if args.quick else "interval above 0"
    compare(table, f"reader: F1 of its first answer over all passages of an episode (rate {rate:g})", f1[0], f1[1], aim)
    compare(table, "reader: its first answer is on the right page", was[0], after[0])
    compare(table, "reader: share of its probability on the right page", was[1], after[1])
    changed = sum(a != b for a, b in zip(before, now, strict=True))
    table.row("reader: first answers that are others than before", f"{changed} of {len(held_out)}")
    table.note("It learns which page is right, and neither an answer nor a span; its own last two layers go on from the weights that ship.")
    others = ", ".join(f"{value:.3f} with {rate:g}" for rate, value in log_shares.items() if rate)
    table.note(
        f"The rate is the better one on half of the learning questions, by the log of that share: {log_shares[0.0]:.3f} before, {others}."
    )
    return table.finish(args.record)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer episodes and steps")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--only", choices=("reader", "others"), help="one of the two tables")
    parser.add_argument("--episodes", type=Path, help="folder where episodes are kept, and taken from if they were played before")
    args = parser.parse_args()
    skip_without(args.data / "reading")
    torch.set_num_threads(1)
    count = 6 if args.quick else 80
    rows = [json.loads(line) for line in (args.data / "reading" / "xquad_en.jsonl").read_text(encoding="utf-8").splitlines()]
    pages = [Document(f"http://xquad/{i}", row["title"], row["text"]) for i, row in enumerate(rows)]
    embed, reader = load_embedder(cache_path=cache_folder("embeddings") / "vectors.sqlite"), SpanReader.load()
    asked = [
        [(q["question"], i, [a["text"] for a in q["answers"]]) for i in range(half, len(rows), 2) for q in rows[i]["questions"]]
        for half in (0, 1)
    ]
    chosen = [[part[k] for k in np.random.default_rng(0).permutation(len(part))[:count]] for part in asked]
    budget = SearchEnvConfig(budget=Budget(max_searches=2, max_pages=4))
    agent = AutonomousWebAgent(
        Tools(Passages("xquad", pages, embed, cache_folder("benchmarks")), reader, embed), policy="ordered", env_config=budget
    )
    kept, files = list[list[dict]](), list[bytes]()
    with tempfile.TemporaryDirectory() as folder:
        for half, part in enumerate(chosen):
            file = EpisodeFile(Path(args.episodes or folder, f"{count}_{half}.jsonl"), with_failures=True)
            for question, _, _ in part[len(file.read()) :]:
                file.append(agent.play(SearchTask(question)).row())
            kept.append(file.read())
            files.append(file.path.read_bytes())
    right_pages = {question: {pages[i].url} for part in chosen for question, i, _ in part}
    golds = {question: answers for question, _, answers in chosen[1]}
    status = 0 if args.only == "others" else reader_table(kept[0], kept[1], right_pages, golds, args)
    if args.only == "reader": return status
    table = Table("Learning from episodes" + (" (quick)" if args.quick else ""), ("onnxruntime", "transformers"))
    rerank = load_cross_encoder()
    read = lambda question, texts: reader.read(question, texts, top_k=8)
    judged = [judged_of(part, right_pages, read, rerank) for part in kept]
    held_out, learn = [one for one in judged[1] if one.candidates], [one for one in judged[0] if any(one.right)]
    former = Judge.load()
    by_ridge = {ridge: log_share(fit_judge(learn[::2], ridge=ridge, former=former), learn[1::2]) for ridge in RIDGES}
    ridge = max(by_ridge, key=lambda one: by_ridge[one])
    after = fit_judge(learn, ridge=ridge, former=former)
    table.row(
        "episodes learned from, with the right page among what was kept; judged", f"{len(learn)} of {len(judged[0])}; {len(held_out)}"
    )

    row = lambda name, before, now, aim="", **settings: compare(table, name, before, now, "" if args.quick else aim, **settings)
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
    table.note("The reader's rows are in the table of its own.")
    return status | table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
