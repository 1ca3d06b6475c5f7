"""Ranking whole pages: the learned mix beside BM25, vectors and their untrained mixes, in folds, and trained on one collection for another.

    python benchmarks/ranking.py --data ../shared/data --ship lightbulb/knowledge/ranking.json

also makes the weights that ship with the package: learned from Cranfield, the demo site's `train` questions, QAMR and COVID-QA, each with
the same vote, and pulled towards the simplest mix, BM25 + best chunk. How strongly is chosen on these four, each left out in turn. The demo
site's `report` questions, XQuAD, CLAPNQ and the manuals are only measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from _judged import Collection, Query, collections, demo_site
from _table import Table, skip_without

from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.embedding import load_embedder
from lightbulb.knowledge.page_ranking import PAGE_FEATURES, PageRanker
from lightbulb.knowledge.ranking import RankingList, RankingModel

NUM_FOLDS = 5
TAUGHT = ("cranfield", "demo train", "qamr", "covid")
SIMPLE = {"words": 1.0, "best_chunk": 1.0}
BETTER = "above the best untrained"  # by its paired interval
PULLS = (0.1, 1.0, 3.0, 10.0, 30.0)  # towards that mix
GROUPS = {
    "expanded query": ("expanded_words",),
    "neighbours": ("neighbours_by_words", "neighbours_by_meaning"),
    "nearness": ("adjacent_words", "near_words"),
    "feedback by meaning": ("feedback_meaning",),
    "all meaning": (
        "best_chunk",
        "whole_page",
        "title_meaning",
        "description_meaning",
        "feedback_meaning",
        "neighbours_by_meaning",
        "rank_by_meaning",
    ),
    "titles": ("title_words", "title_coverage", "title_meaning"),
    "authority and length": ("authority", "length"),
}


class Measured:
    "A collection whose pages were measured for each of its queries."

    def __init__(self, collection: Collection, embedder: str = "bge-small") -> None:
        embed = load_embedder(embedder, num_threads=1, cache_path=cache_folder("embeddings") / "vectors.sqlite")
        ranker = PageRanker(collection.pages, embed, model=RankingModel(PAGE_FEATURES))
        self.name = collection.name
        self.queries = [query for query in collection.queries if query.gains]
        label = lambda query: ranker.labelled(query.text, query.gains, collection=collection.name, left_out=query.left_out)
        self.lists = [label(query) for query in self.queries]

    def values(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        "nDCG@10 and average precision of each query (queries, 2); what was judged and not among the candidates counts as missed."
        return np.array([_values(query, one, score) for query, one, score in zip(self.queries, self.lists, scores, strict=True)])

    def by(self, model: RankingModel) -> np.ndarray:
        return self.values([model.scores(one.features) for one in self.lists])

    def mixed(self, **weights: float) -> np.ndarray:
        "By a weighted sum of standardized columns, which nobody trained."
        vector = np.array([weights.get(name, 0.0) for name in PAGE_FEATURES])
        return self.values([_standardized(one.features) @ vector for one in self.lists])

    def fused(self, *names: str) -> np.ndarray:
        "By reciprocal rank fusion (Cormack et al. 2009)."
        columns = [PAGE_FEATURES.index(name) for name in names]
        return self.values([sum(1 / (60 + _ranks(one.features[:, column])) for column in columns) for one in self.lists])

    def folds(self) -> np.ndarray:
        return np.random.default_rng(0).permutation(len(self.lists)) % NUM_FOLDS


def _values(query: Query, one: RankingList, scores: np.ndarray) -> tuple[float, float]:
    order = np.argsort(-scores, kind="stable")
    discounts = 1 / np.log2(np.arange(2, 12))
    ideal = np.sort(list(query.gains.values()))[::-1][:10]
    shown = one.gains[order[:10]]
    hits = one.gains[order] > 0
    precision = np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)
    return float(shown @ discounts[: len(shown)] / (ideal @ discounts[: len(ideal)])), float(precision.sum() / len(query.gains))


def _standardized(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-values, kind="stable")) + 1


def trained(lists: Sequence[RankingList], columns: Sequence[str] = PAGE_FEATURES, *, num_hidden: int = 0) -> RankingModel:
    "A model taught by these lists."
    model = RankingModel(columns, num_hidden=num_hidden)
    model.fit([one for one in lists if one.gains.any()])
    return model


def pulled(lists: Sequence[RankingList], pull: float) -> RankingModel:
    "A model that leaves the simplest mix only for what these lists are worth; that mix has the scale that fits them best."
    useful = [one for one in lists if one.gains.any()]
    start = {name: weight * _best_scale(useful) for name, weight in SIMPLE.items()}
    model = RankingModel(PAGE_FEATURES, start=start)
    model.fit(useful, num_steps=150, learning_rate=0.01, weight_decay=0.0, pull=pull)
    return model


def _best_scale(lists: Sequence[RankingList]) -> float:
    "Of the simplest mix, by the loss that the model learns with."
    mix = np.array([SIMPLE.get(name, 0.0) for name in PAGE_FEATURES])
    scores = [_standardized(one.features) @ mix for one in lists]
    names = [one.collection for one in lists]

    def loss(scale: float) -> float:
        nats = [
            np.log(np.exp(scale * row).sum()) - scale * float(row @ one.gains) / one.gains.sum()
            for row, one in zip(scores, lists, strict=True)
        ]
        return sum(value / names.count(name) for value, name in zip(nats, names, strict=True))

    return float(min(np.arange(0.2, 1.6, 0.05), key=loss))


def left_out(all_measured: Mapping[str, Measured], name: str) -> list[RankingList]:
    "The lists for training that are not of this collection's pages."
    return [one for other in TAUGHT if other.split()[0] != name.split()[0] for one in all_measured[other].lists]


def in_folds(measured: Measured, *, without: Sequence[str] = (), num_hidden: int = 0) -> np.ndarray:
    "Each query by a model of this collection that has not seen its fold."
    names = [name for name in PAGE_FEATURES if name not in without]
    columns = [PAGE_FEATURES.index(name) for name in names]
    cut = lambda one: RankingList(one.features[:, columns], one.gains, one.collection)
    folds, scores = measured.folds(), [np.zeros(0)] * len(measured.lists)
    for fold in range(NUM_FOLDS):
        seen = [one for one, place in zip(measured.lists, folds, strict=True) if place != fold]
        model = trained([cut(one) for one in seen], names, num_hidden=num_hidden)
        for i in np.flatnonzero(folds == fold):
            scores[i] = model.scores(cut(measured.lists[i]).features)
    return measured.values(scores)


def lambda_mart(measured: Measured) -> np.ndarray | None:
    "The same folds by LightGBM's LambdaMART; None where it is not installed."
    try:
        import lightgbm
    except ImportError:
        return None
    folds, scores = measured.folds(), [np.zeros(0)] * len(measured.lists)
    for fold in range(NUM_FOLDS):
        seen = [one for one, place in zip(measured.lists, folds, strict=True) if place != fold]
        rows, gains = np.concatenate([_standardized(one.features) for one in seen]), np.concatenate([one.gains for one in seen])
        grades = np.log2(gains + 1).astype(int)
        model = lightgbm.LGBMRanker(
            n_estimators=100, learning_rate=0.05, num_leaves=7, min_child_samples=50, subsample=0.8, subsample_freq=1, random_state=0,
            n_jobs=1, verbose=-1,
        )  # fmt: skip
        model.fit(rows, grades, group=[len(one.gains) for one in seen])
        for i in np.flatnonzero(folds == fold):
            scores[i] = np.asarray(model.predict(_standardized(measured.lists[i].features)))
    return measured.values(scores)


def shown(values: np.ndarray) -> str:
    ndcg, precision = values.mean(0)
    return f"nDCG@10 {ndcg:.3f}, MAP {precision:.3f}"


def interval(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    "The mean difference of nDCG@10 and its 95% interval over 10,000 resampled sets of queries."
    differences = one[:, 0] - other[:, 0]
    means = np.random.default_rng(0).choice(differences, (10_000, len(differences))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def untrained(measured: Measured) -> dict[str, np.ndarray]:
    "What needs no training: single measures and mixes of them."
    return {
        "BM25, title and text": measured.mixed(words=1),
        "bge-small, best chunk": measured.mixed(best_chunk=1),
        "bge-small, whole page": measured.mixed(whole_page=1),
        "RM3": measured.mixed(expanded_words=1),
        "BM25 + best chunk, RRF": measured.fused("words", "best_chunk"),
        "BM25 + best chunk, z-scores": measured.mixed(words=1, best_chunk=1),
        "RM3 + feedback by meaning, z-scores": measured.mixed(expanded_words=1, feedback_meaning=1),
        "mean of all standardized measures": measured.mixed(**dict.fromkeys(PAGE_FEATURES, 1.0)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most a minute: the demo site alone")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--ship", type=Path, help="train on all collections for training and write the weights here")
    args = parser.parse_args()
    if args.quick:
        table = Table("Ranking pages (quick: the demo site alone)")
        measured = Measured(demo_site("train"))
        for name, values in untrained(measured).items():
            table.row(f"demo train, {name}", shown(values))
        table.row("demo train, ranking model in 5 folds", shown(in_folds(measured)))
        return table.finish(args.record)
    skip_without(args.data / "cranfield")
    table = Table("Ranking pages", ("onnxruntime", "lightgbm"))
    all_measured = {collection.name: Measured(collection) for collection in collections(args.data)}
    main_one = all_measured["cranfield"]
    plain = untrained(main_one)
    for name, values in plain.items():
        table.row(f"cranfield, {name}", shown(values))
    best = max(plain, key=lambda name: plain[name][:, 0].mean())
    if (peer := lambda_mart(main_one)) is not None:
        table.row("cranfield, LambdaMART (LightGBM) over the same measures, 5 folds", shown(peer))
    folded = in_folds(main_one)
    table.row("cranfield, ranking model, 5 folds", shown(folded), "nDCG@10 ≥ 0.50", bool(folded[:, 0].mean() >= 0.50))
    for name in (best, "BM25 + best chunk, z-scores"):
        difference, low, high = interval(folded, plain[name])
        aim = "interval above 0" if name == best else ""
        table.row(f"… minus {name}", f"{difference:+.3f} ({low:+.3f} to {high:+.3f})", aim, low > 0 if aim else None)
    table.row("… with 4 hidden units", shown(in_folds(main_one, num_hidden=4)))
    for name, members in GROUPS.items():
        table.row(f"… without {name}", shown(in_folds(main_one, without=members)))
    table.note(
        "BM25 counts a title's words three times; all-MiniLM-L6-v2 alone is a row of embedding.py. Candidates are the hundred best pages "
        "by words, expanded query, chunk and feedback; what is relevant and not among them counts as missed. Each collection that is "
        "learned from has the same vote."
    )
    table.note(
        "The aim is an interval above 0 to the best of the eight untrained rows on the same collection, chosen on that collection itself; "
        f"so it is for weights that come from other collections. How strongly they are pulled was chosen on {', '.join(TAUGHT)}, each left "
        "out in turn: rows of these with the pull are of the choosing, not a test."
    )
    simple = {name: measured.mixed(**SIMPLE) for name, measured in all_measured.items()}
    all_plain = {name: untrained(measured) for name, measured in all_measured.items()}
    best_name = {name: max(rows, key=lambda one: rows[one][:, 0].mean()) for name, rows in all_plain.items()}
    best_plain = {name: all_plain[name][one] for name, one in best_name.items()}

    def against(values: np.ndarray, name: str) -> tuple[str, bool, bool]:
        "Values beside the best untrained row of their collection and beside BM25 + best chunk; whether they are above each."
        (gap, low, high), (less, lower, upper) = interval(values, best_plain[name]), interval(values, simple[name])
        text = f"{shown(values)}; {gap:+.3f} ({low:+.3f} to {high:+.3f}) to the best untrained, "
        return text + f"{less:+.3f} ({lower:+.3f} to {upper:+.3f}) to BM25 + best chunk", low > 0, lower > 0

    gains: dict[float, list[float]] = {}
    for pull in PULLS:
        of = {name: all_measured[name].by(pulled(left_out(all_measured, name), pull)) for name in TAUGHT}
        gains[pull] = [interval(of[name], simple[name])[0] for name in TAUGHT]
        parts = ", ".join(f"{name} {gain:+.4f}" for name, gain in zip(TAUGHT, gains[pull], strict=True))
        table.row(f"each left out in turn, pull {pull:g}: minus BM25 + best chunk, nDCG@10", f"{np.mean(gains[pull]):+.4f}: {parts}")
    chosen = max(PULLS, key=lambda pull: np.mean(gains[pull]))
    for name, measured in all_measured.items():
        table.row(f"{name}, BM25 + best chunk, z-scores", shown(simple[name]))
        table.row(f"{name}, best untrained: {best_name[name]}", shown(best_plain[name]))
        if name != "cranfield":
            table.row(f"{name}, trained on cranfield alone", shown(measured.by(trained(all_measured["cranfield"].lists))))
        others = left_out(all_measured, name)
        for what, away in (("freely", trained(others)), (f"pull {chosen:g}", pulled(others, chosen))):
            text, is_better, _ = against(measured.by(away), name)
            is_chosen = what != "freely"
            what += ", which was chosen on it too" if is_chosen and name in TAUGHT else ""
            row = f"{name}, trained on the other collections, {what}"
            table.row(row, text, BETTER if is_chosen else "", is_better if is_chosen else None)
    everything = [one for name in TAUGHT for one in all_measured[name].lists]
    shipped = pulled(everything, chosen)
    shipped.calibrate(everything)
    only_measured = {name: against(measured.by(shipped), name) for name, measured in all_measured.items() if name not in TAUGHT}
    for name, (text, is_better, _) in only_measured.items():
        table.row(f"{name}, shipped weights", text, BETTER, is_better)
    table.note(
        f"Of {len(only_measured)} collections that are only measured the shipped weights are shown to be above the best untrained row on "
        f"{sum(is_better for _, is_better, _ in only_measured.values())}, and above BM25 + best chunk on "
        f"{sum(is_above for *_, is_above in only_measured.values())}."
    )
    gaps = {name: calibration_gap(shipped, all_measured[name].lists) for name in all_measured}
    table.row("gap between probability and share of relevant pages", ", ".join(f"{name} {gap:.3f}" for name, gap in gaps.items()))
    if args.ship:
        shipped.save(args.ship)
    return table.finish(args.record)


def calibration_gap(model: RankingModel, lists: Sequence[RankingList]) -> float:
    "Expected calibration error over the ten best of each list, in ten bands of equal size."
    chances, truth = [], []
    for one in lists:
        best = np.argsort(-model.scores(one.features), kind="stable")[:10]
        chances += model.probabilities(one.features)[best].tolist()
        truth += (one.gains[best] > 0).tolist()
    order = np.argsort(chances)
    bands = np.array_split(order, 10)
    return float(sum(len(band) * abs(np.mean(np.array(chances)[band]) - np.mean(np.array(truth)[band])) for band in bands) / len(order))


if __name__ == "__main__":
    sys.exit(main())
