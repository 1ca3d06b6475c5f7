"""Text extraction on real pages: lightbulb beside trafilatura (the better of two settings) and BeautifulSoup's plain text, in one run.

The measure is the one of the article-extraction-benchmark: words are runs of word characters, a text is the multiset of
its overlapping groups of four words (a shorter text is one group), and of each page

    precision = shared groups / groups of the extracted text,  recall = shared groups / groups of the marked text,

where a group counts as often as it stands in both. Precision and recall are averaged over the pages (one without any
extracted text has no precision and is left out there, as its recall of 0 already tells); F1 is the harmonic mean of the
two averages. The halves are every other page in the order of their names: a choice made on one must hold on the other.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from statistics import mean

import trafilatura
from _table import Table, arguments, skip_without
from bs4 import BeautifulSoup

from lightbulb.web.extract import extract

Counts = tuple[int, int, int]  # groups shared, extracted, marked


def groups(text: str, size: int = 4) -> Counter[tuple[str, ...]]:
    "The groups of `size` neighbouring words with their counts."
    words = re.findall(r"\w+", text)
    return Counter(group for i in range(max(1, len(words) - size + 1)) if (group := tuple(words[i : i + size])))


def compare(extracted: str, marked: str) -> Counts:
    "How many groups two texts share, and how many each has."
    found, wanted = groups(extracted), groups(marked)
    return (found & wanted).total(), found.total(), wanted.total()


def f1(counts: list[Counts]) -> tuple[float, float, float]:
    "F1, precision and recall over pages."
    precision = mean(shared / found for shared, found, _ in counts if found)
    recall = mean(shared / wanted for shared, _, wanted in counts if wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def difference(ours: list[Counts], theirs: list[Counts], *, draws: int = 2000) -> tuple[float, float]:
    "The 95% interval of the difference in F1, by drawing pages with replacement."
    generator, indices = random.Random(0), range(len(ours))
    picks = (generator.choices(indices, k=len(ours)) for _ in range(draws))
    gains = sorted(f1([ours[i] for i in pick])[0] - f1([theirs[i] for i in pick])[0] for pick in picks)
    return gains[draws * 25 // 1000], gains[draws * 975 // 1000]


EXTRACTORS: dict[str, Callable[[str, str], str]] = {
    "lightbulb": lambda html, url: extract(html, url).text,
    "trafilatura": lambda html, url: trafilatura.extract(html, include_comments=False) or "",
    "trafilatura, precision": lambda html, url: trafilatura.extract(html, include_comments=False, favor_precision=True) or "",
    "BeautifulSoup text": lambda html, url: BeautifulSoup(html, "lxml").get_text(" "),
}


def main() -> int:
    args = arguments(__doc__ or "")
    folder = args.data / "web_pages"
    skip_without(folder)
    logging.disable(logging.CRITICAL)
    truth = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
    names = sorted(truth)[:: 2 if args.quick else 1]
    pages = {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in names}
    table = Table("Extraction" + (" (quick: every other page)" if args.quick else ""), packages=("trafilatura", "beautifulsoup4"))
    results: dict[str, list[Counts]] = {}
    speeds: dict[str, float] = {}
    for label, run in EXTRACTORS.items():
        begin = time.process_time()
        texts = {name: run(pages[name], truth[name].get("url", "")) for name in names}
        speeds[label] = len(names) / (time.process_time() - begin)
        results[label] = [compare(texts[name], truth[name].get("articleBody", "")) for name in names]
    peer_name = max((name for name in results if name.startswith("trafilatura")), key=lambda name: f1(results[name])[0])
    peer = f1(results[peer_name])[0]
    for label, counts in results.items():
        value, precision, recall = f1(counts)
        ours = label == "lightbulb"
        table.row(
            f"{label}, {len(names)} pages: F1 (precision, recall)",
            f"{value:.4f} ({precision:.3f}, {recall:.3f})",
            f">= {peer:.4f}" if ours else "",
            value >= peer if ours else None,
        )
    for half in (0, 1):
        value, other = (f1(results[label][half::2])[0] for label in ("lightbulb", peer_name))
        table.row(f"half {half + 1} of 2: F1 beside {peer_name}", f"{value:.4f}", f">= {other:.4f}", value >= other)
    for name in (name for name in results if name.startswith("trafilatura")):
        low, high = difference(results["lightbulb"], results[name], draws=400 if args.quick else 2000)
        aim = "above 0" if name == peer_name else ""
        table.row(f"gain over {name}, 95% interval over pages", f"{low:+.4f} to {high:+.4f}", aim, low > 0 if aim else None)
    table.row("pages a CPU-second: " + ", ".join(EXTRACTORS), ", ".join(f"{speed:.0f}" for speed in speeds.values()))
    table.note(
        "Rows of a table become `Heading: value` lines, and captions, bylines and dates are kept, which costs shared groups and is kept "
        "for the reader's sake: many a question is answered by them. Rules were looked at on these pages, trafilatura's settings on none."
    )
    return table.finish(args.record and not args.quick)


if __name__ == "__main__": raise SystemExit(main())
