"""One knowledge base for many agents: PostgreSQL beside SQLite at 100,000 chunks, four processes at once, and the quality of its words.

Each store is a part of its own; with `--keep FOLDER` what a part measured is found again:

    python benchmarks/postgres.py --keep kept/postgres --only SQLite
    python benchmarks/postgres.py --keep kept/postgres --record
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _cranfield import mean_ndcg, read_cranfield
from _table import Table
from knowledge_base import CHUNKS_A_PAGE, NUM_CHUNKS, RandomVectors, make_pages, percentiles

from lightbulb.core.records import Document
from lightbulb.knowledge.chunks import Chunk
from lightbulb.knowledge.knowledge_base import KnowledgeBase, KnowledgeBaseConfig
from lightbulb.knowledge.postgres import TemporaryServer, is_server_address
from lightbulb.knowledge.store import PreparedPage

Rows = list[tuple[str, str, str, bool | None]]  # what, measured, aim, whether it is reached
CUT = KnowledgeBaseConfig(max_words=60, overlap=0)
NUM_PROCESSES, PAGES_A_PROCESS = 4, 50


def open_at(place: str) -> KnowledgeBase:
    return KnowledgeBase(place, embed=RandomVectors(), config=CUT)


def prepared(page: Document, embed: RandomVectors) -> PreparedPage:
    "The page with a chunk for each paragraph, as the knowledge base would hand it to its store."
    chunks, start = [], 0
    for paragraph in page.text.split("\n\n"):
        chunks.append(Chunk(start, start + len(paragraph), paragraph))
        start += len(paragraph) + 2
    hashes = [f"{page.url}#{chunk.start}".encode() for chunk in chunks]
    return PreparedPage(page, chunks, hashes, embed([chunk.text for chunk in chunks]).astype(np.float16))


def fill(rows: Rows, place: str, pages: list[Document]) -> None:
    "Write pages that are cut and embedded already."
    with open_at(place) as base:
        ready, num_chunks = [prepared(page, RandomVectors()) for page in pages], 0
        begin = time.perf_counter()
        for i in range(0, len(ready), 64):
            base.store.put(ready[i : i + 64])
            num_chunks += sum(len(page.chunks) for page in ready[i : i + 64])
        seconds = time.perf_counter() - begin
        size = _server_size(base) if is_server_address(place) else _file_size(place)
    rows.append(("writing pages that are cut and embedded", f"{num_chunks / seconds:,.0f} chunks a second, {size}", "", None))


def measure_searches(rows: Rows, place: str, queries: list[str], repeats: int) -> None:
    "The time of each kind of search."
    with open_at(place) as base:
        base.search(queries[0])
        for mode in ("dense", "keyword", "hybrid"):
            times = percentiles(lambda i, mode=mode: base.search(queries[i % len(queries)], 10, mode=mode), repeats)
            rows.append((f"{mode} search, ten passages, six words", f"p50 {times[0]:.1f} ms, p95 {times[1]:.1f} ms", "", None))


def work(place: str, first: int, pages: list[Document], results: Any) -> None:
    "Add pages one by one and search after each; report the milliseconds of each search."
    times = []
    with open_at(place) as base:
        for page in pages:
            base.add([page], scope=f"agent:{first}")
            begin = time.perf_counter()
            base.search(" ".join(page.text.split()[7:13]), 10)
            times.append(1000 * (time.perf_counter() - begin))
    results.put(times)


def measure_many(rows: Rows, place: str, pages: list[Document]) -> None:
    "Four processes at once on a base that holds the pages already."
    fork = multiprocessing.get_context("fork")
    results: Any = fork.Queue()
    with open_at(place) as base:
        num_before = len(base)
    new = [
        [Document(f"https://agent{i}.example/{j}", f"Page {j} of {i}", pages[j].text) for j in range(PAGES_A_PROCESS)]
        for i in range(NUM_PROCESSES)
    ]
    begin = time.perf_counter()
    workers = [fork.Process(target=work, args=(place, i, part, results)) for i, part in enumerate(new)]
    for worker in workers:
        worker.start()
    times = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - begin
    with open_at(place) as base:
        lost = sum(base.document(page.url) != page for part in new for page in part) + abs(
            len(base) - num_before - NUM_PROCESSES * PAGES_A_PROCESS
        )
        problems = base.check()
    what = f"{NUM_PROCESSES} processes add {PAGES_A_PROCESS} pages of {CHUNKS_A_PAGE} chunks each and search after each: pages lost"
    rows.append((what, f"{lost}, {'sound' if not problems else '; '.join(problems)}", "0, sound", lost == 0 and not problems))
    slowest = float(np.percentile(np.concatenate(times), 95))
    rows.append(("the same: hybrid search while all write", f"p95 {slowest:.0f} ms, all in {seconds:.1f} s", "", None))


def measure_words(rows: Rows, folder: Path, place: str) -> None:
    "nDCG@10 of the search by words alone on Cranfield."
    documents, queries, judgements = read_cranfield(folder)
    with KnowledgeBase(place, embed=RandomVectors()) as base:
        base.add(documents)
        rankings = {}
        for number, query in enumerate(queries, 1):
            passages = base.search(query, 50, mode="keyword")
            rankings[number] = list(dict.fromkeys(passage.url for passage in passages))
    rows.append(("Cranfield by words alone: nDCG@10", f"{mean_ndcg(rankings, judgements):.3f}", "", None))


def _file_size(place: str) -> str:
    size = sum(path.stat().st_size for path in Path(place).parent.glob(f"{Path(place).name}*"))
    return f"{size / 2**20:.0f} MiB"


def _server_size(base: KnowledgeBase) -> str:
    with base.store.file.reading() as db:
        return f"{db.execute('SELECT pg_database_size(current_database())').fetchone()[0] / 2**20:.0f} MiB"


def measure(num_chunks: int, repeats: int, cranfield: Path, place: str, other_place: str) -> Rows:
    "All rows of one store."
    rows: Rows = []
    pages = make_pages(num_chunks)
    fill(rows, place, pages)
    measure_searches(rows, place, [" ".join(page.text.split()[7:13]) for page in pages[:: max(1, len(pages) // repeats)]], repeats)
    measure_many(rows, place, pages)
    if cranfield.is_dir():
        measure_words(rows, cranfield, other_place)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer chunks and searches")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--keep", type=Path, help="folder where the rows of a store are written down, and found again")
    parser.add_argument("--only", choices=("SQLite", "PostgreSQL"), help="measure this store only")
    args = parser.parse_args()
    size = (20_000, 40) if args.quick else (NUM_CHUNKS, 100)
    table = Table(f"A knowledge base on PostgreSQL, {size[0]:,} chunks", ("psycopg", "pgvector"))
    for name in ("SQLite", "PostgreSQL"):
        if args.only not in (None, name): continue
        kept = args.keep and args.keep / f"{name}-{size[0]}.json"
        if kept and kept.exists():
            rows = json.loads(kept.read_text())
        elif name == "SQLite":
            with tempfile.TemporaryDirectory() as folder:
                rows = measure(*size, args.data / "cranfield", str(Path(folder, "base.sqlite")), ":memory:")
        else:
            with TemporaryServer(is_durable=True, memory=512) as server:
                rows = measure(*size, args.data / "cranfield", server.new_database(), server.new_database())
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(rows))
        for what, measured, aim, is_reached in rows:
            table.row(f"{name}: {what}", measured, aim, is_reached)
    table.note("The server has 512 MiB for tables (`shared_buffers`) and runs on the same two processors as its clients.")
    return table.finish(args.record)


if __name__ == "__main__":
    sys.exit(main())
