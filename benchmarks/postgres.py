"""One knowledge base for many agents: PostgreSQL beside SQLite at 100,000 chunks, four processes at once, and the quality of its words."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _cranfield import mean_ndcg, read_cranfield
from _table import Table, arguments
from knowledge_base import CHUNKS_A_PAGE, NUM_CHUNKS, RandomVectors, make_pages, percentiles

from lightbulb.core.errors import UnavailableError
from lightbulb.core.records import Document
from lightbulb.knowledge.knowledge_base import KnowledgeBase, KnowledgeBaseConfig
from lightbulb.knowledge.postgres import TemporaryServer

CUT = KnowledgeBaseConfig(max_words=60, overlap=0)
NUM_PROCESSES, PAGES_A_PROCESS = 4, 50


def open_at(place: str) -> KnowledgeBase:
    return KnowledgeBase(place, embed=RandomVectors(), config=CUT)


def measure_searches(table: Table, name: str, place: str, queries: list[str], repeats: int) -> dict[str, float]:
    "Rows of one store; the 95th percentile of each kind of search in milliseconds."
    slowest = {}
    with open_at(place) as base:
        base.search(queries[0])
        for mode in ("dense", "keyword", "hybrid"):
            times = percentiles(lambda i, mode=mode: base.search(queries[i % len(queries)], 10, mode=mode), repeats)
            table.row(f"{name}, {mode} search, ten passages, six words", f"p50 {times[0]:.1f} ms, p95 {times[1]:.1f} ms")
            slowest[mode] = times[1]
    return slowest


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


def measure_many(table: Table, name: str, place: str, pages: list[Document]) -> None:
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
    table.row(
        f"{name}, {NUM_PROCESSES} processes add {PAGES_A_PROCESS} pages of {CHUNKS_A_PAGE} chunks each and search after each: pages lost",
        f"{lost}, {'sound' if not problems else '; '.join(problems)}",
        "0, sound",
        lost == 0 and not problems,
    )
    slowest = float(np.percentile(np.concatenate(times), 95))
    table.row(f"{name}, the same: hybrid search while all write", f"p95 {slowest:.0f} ms, all in {seconds:.1f} s")


def measure_words(table: Table, folder: Path, server: TemporaryServer) -> None:
    "nDCG@10 of the search by words alone on Cranfield."
    documents, queries, judgements = read_cranfield(folder)
    for name, place in (("SQLite", ":memory:"), ("PostgreSQL", server.new_database())):
        with KnowledgeBase(place, embed=RandomVectors()) as base:
            base.add(documents)
            rankings = {}
            for number, query in enumerate(queries, 1):
                passages = base.search(query, 50, mode="keyword")
                rankings[number] = list(dict.fromkeys(passage.url for passage in passages))
        table.row(f"{name}, Cranfield by words alone: nDCG@10", f"{mean_ndcg(rankings, judgements):.3f}")


def disk_size(place: str) -> str:
    size = sum(path.stat().st_size for path in Path(place).parent.glob(f"{Path(place).name}*"))
    return f"{size / 2**20:.0f} MiB"


def main() -> int:
    args = arguments(__doc__ or "")
    num_chunks, repeats = (20_000, 40) if args.quick else (NUM_CHUNKS, 150)
    try:
        server = TemporaryServer(is_durable=True)
    except UnavailableError as error:
        print(f"skipped: {error}")
        return 0
    table = Table(f"A knowledge base on PostgreSQL, {num_chunks:,} chunks", ("psycopg", "pgvector"))
    pages = make_pages(num_chunks)
    queries = [" ".join(page.text.split()[7:13]) for page in pages[:: max(1, len(pages) // repeats)]]
    with server, tempfile.TemporaryDirectory() as folder:
        slowest = {}
        for name, place in (("SQLite", str(Path(folder, "base.sqlite"))), ("PostgreSQL", server.new_database())):
            begin = time.perf_counter()
            with open_at(place) as base:
                base.add(pages)
                seconds = time.perf_counter() - begin
                size = disk_size(place) if name == "SQLite" else _server_size(base)
            table.row(f"{name}, adding, vectors given", f"{num_chunks / seconds:,.0f} chunks a second, {size}")
            slowest[name] = measure_searches(table, name, place, queries, repeats)
            measure_many(table, name, place, pages)
        ratio = slowest["PostgreSQL"]["hybrid"] / slowest["SQLite"]["hybrid"]
        table.row("PostgreSQL beside SQLite, p95 of a hybrid search", f"{ratio:.2f} ×")
        if (args.data / "cranfield").is_dir():
            measure_words(table, args.data / "cranfield", server)
    return table.finish(args.record)


def _server_size(base: KnowledgeBase) -> str:
    with base.store.file.reading() as db:
        return f"{db.execute('SELECT pg_database_size(current_database())').fetchone()[0] / 2**20:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
