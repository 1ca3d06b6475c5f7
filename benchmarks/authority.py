"""What links tell of a page: PageRank within a collection, alone, mixed in by hand, and in the learned ranking, where pages link.

Cranfield's abstracts have no links, so the ranking's table cannot say what its measure `authority` is worth. Here it is taken out of the
ranking (a column that is the same for all pages weighs nothing) or mixed in. The weight of the untrained mix is chosen on `demo train`,
from whose links the weights that ship learned too, and reported on the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from _judged import demo_site, manual
from _table import Table, skip_without
from ranking import Measured, interval, shown

from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge.page_ranking import PAGE_FEATURES
from lightbulb.knowledge.ranking import RankingList, RankingModel

COLLECTIONS = ("demo train", "demo report", "git manual", "debian_handbook manual", "python manual")
CHOSEN_ON = ("demo train",)
WEIGHTS = (0.05, 0.1, 0.2, 0.4)
AUTHORITY = PAGE_FEATURES.index("authority")


def without_authority(one: RankingList) -> RankingList:
    features = one.features.copy()
    features[:, AUTHORITY] = 0.0
    return replace(one, features=features)


def measure(name: str, data: Path, place: Path) -> dict[str, list]:
    "Of one collection: its size, and nDCG@10 and average precision of each question by each way; what is finished is kept."
    file = place / f"{name.replace(' ', '_')}.json"
    if not file.exists():
        site, _, split = name.partition(" ")
        collection = demo_site(split) if site == "demo" else manual(data / "manuals", site)
        one, model, urls = Measured(collection), RankingModel.load(), {page.url for page in collection.pages}
        num_links = sum(len({link.url.split("#")[0] for link in page.links} & urls - {page.url}) for page in collection.pages)
        values = {
            "authority": one.mixed(authority=1),
            **{str(weight): one.mixed(words=1, best_chunk=1, authority=weight) for weight in (0.0, *WEIGHTS)},
            "shipped": one.by(model),
            "shipped, blind": one.values([model.scores(without_authority(row).features) for row in one.lists]),
        }
        kept = {"size": [len(urls), num_links, len(one.lists)], **{way: rows.tolist() for way, rows in values.items()}}
        place.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept))
    return json.loads(file.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: the demo site alone")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--collections", nargs="+", default=list(COLLECTIONS), help="measure these alone")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs finished")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    args = parser.parse_args()
    skip_without(args.data / "manuals")
    place = cache_folder("benchmarks") / "authority"
    if args.fresh:
        shutil.rmtree(place, ignore_errors=True)
    names = list(COLLECTIONS[:1]) if args.quick else args.collections
    table = Table("Authority by links" + (" (quick)" if args.quick else ""), ("onnxruntime",))
    measured = {name: {way: np.array(rows) for way, rows in measure(name, args.data, place).items()} for name in names}
    seen = [name for name in names if name in CHOSEN_ON]
    gains = {weight: np.mean([measured[name][str(weight)][:, 0].mean() for name in seen or names]) for weight in WEIGHTS}
    chosen = max(gains, key=lambda weight: gains[weight])

    def difference(name: str, one: np.ndarray, other: np.ndarray) -> None:
        gap, low, high = interval(one, other)
        table.row(name, f"{gap:+.3f} ({low:+.3f} to {high:+.3f})")

    for name, of in measured.items():
        table.row(f"{name}: pages, links between them, questions", ", ".join(str(int(number)) for number in of["size"]))
        table.row(f"{name}: authority alone", shown(of["authority"]))
        table.row(f"{name}: BM25 + best chunk, z-scores", shown(of["0.0"]))
        said = "chosen here" if name in CHOSEN_ON else "chosen on " + " and ".join(CHOSEN_ON)
        difference(f"… {name}, with {chosen} × authority ({said}), nDCG@10", of[str(chosen)], of["0.0"])
        table.row(f"{name}: ranking model, shipped weights", shown(of["shipped"]))
        difference(f"… {name}, minus the same without authority, nDCG@10", of["shipped"], of["shipped, blind"])
    table.note("Intervals are bootstraps over questions. PageRank (damping 0.85) of the links within a collection, as its logarithm.")
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
