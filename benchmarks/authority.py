"""What links tell of a page: PageRank within a collection, alone, mixed in by hand, and in the learned ranking, where pages link.

Cranfield's abstracts have no links, so the ranking's table cannot say what its measure `authority` is worth. Here it is taken out of the
ranking (a column that is the same for all pages weighs nothing) or mixed in. The weight of the untrained mix is chosen on `demo train`
and the git manual and reported on the others.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from _judged import demo_site, manual
from _table import Table, arguments, skip_without
from ranking import Measured, interval, shown

from lightbulb.knowledge.page_ranking import PAGE_FEATURES
from lightbulb.knowledge.ranking import RankingList, RankingModel

CHOSEN_ON = ("demo train", "git manual")
WEIGHTS = (0.05, 0.1, 0.2, 0.4)
AUTHORITY = PAGE_FEATURES.index("authority")


def without_authority(one: RankingList) -> RankingList:
    features = one.features.copy()
    features[:, AUTHORITY] = 0.0
    return replace(one, features=features)


def by_shipped(measured: Measured, *, has_authority: bool) -> np.ndarray:
    "By the weights that ship; the demo site's train questions were among what they learned from."
    model, lists = RankingModel.load(), measured.lists
    return measured.values([model.scores((one if has_authority else without_authority(one)).features) for one in lists])


def main() -> int:
    args = arguments((__doc__ or "").splitlines()[0])
    skip_without(args.data / "manuals")
    table = Table("Authority by links" + (" (quick)" if args.quick else ""), ("onnxruntime",))
    linked = [demo_site("train")]
    if not args.quick:
        linked += [demo_site("report"), *(manual(args.data / "manuals", site) for site in ("git", "debian_handbook", "python"))]
    all_measured = {collection.name: Measured(collection) for collection in linked}
    mixed = lambda one, weight: one.mixed(words=1, best_chunk=1, authority=weight)
    gains = {
        weight: np.mean([mixed(one, weight)[:, 0].mean() for name, one in all_measured.items() if name in CHOSEN_ON]) for weight in WEIGHTS
    }
    chosen = max(gains, key=lambda weight: gains[weight])

    def difference(name: str, one: np.ndarray, other: np.ndarray) -> None:
        gap, low, high = interval(one, other)
        table.row(name, f"{gap:+.3f} ({low:+.3f} to {high:+.3f})")

    for collection in linked:
        name, one = collection.name, all_measured[collection.name]
        urls = {page.url for page in collection.pages}
        links = sum(len({link.url.split("#")[0] for link in page.links} & urls - {page.url}) for page in collection.pages)
        table.row(f"{name}: pages, links between them, questions", f"{len(urls)}, {links}, {len(one.lists)}")
        table.row(f"{name}: authority alone", shown(one.mixed(authority=1)))
        plain, with_links = mixed(one, 0.0), mixed(one, chosen)
        table.row(f"{name}: BM25 + best chunk, z-scores", shown(plain))
        said = "chosen here" if name in CHOSEN_ON else "chosen on " + " and ".join(CHOSEN_ON)
        difference(f"… with {chosen} × authority ({said}), nDCG@10", with_links, plain)
        full, bare = (by_shipped(one, has_authority=flag) for flag in (True, False))
        table.row(f"{name}: ranking model, shipped weights", shown(full))
        difference("… minus the same without authority, nDCG@10", full, bare)
    table.note("Intervals are bootstraps over questions. PageRank (damping 0.85) of the links within a collection, as its logarithm.")
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
