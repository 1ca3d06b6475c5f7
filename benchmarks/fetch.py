"""Pages per CPU-second of the client on the loopback, beside Scrapy on the same pages.

A server process offers a site of article pages (about 20 kB each, compressed on the wire). Each client is a process of
its own; its CPU time is counted from the first request to the last page decoded, imports left out. Clients take turns.
lightbulb runs with every check on: robots.txt, guarded look-ups, canonical URLs, caps, charset detection and a cold cache
on disk. Scrapy runs once with the same duties (robots.txt, RFC 2616 cache on disk) and once without them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS = ("lightbulb", "lightbulb, warm cache", "scrapy, robots and cache", "scrapy, neither")
ROBOTS = "User-agent: *\nDisallow: /private\nDisallow: /*?print=\nAllow: /\n"
WORDS = "light lamp filament tungsten carbon current voltage glass vacuum argon bulb arc patent factory grid energy".split()


def article(number: int) -> bytes:
    "A page of about 20 kB with headings, links and a paragraph structure."
    choose = random.Random(number)
    paragraphs = "".join(
        f"<h2 id='s{part}'>Part {part}</h2><p>{' '.join(choose.choices(WORDS, k=110))} <a "
        f"href='/wiki/{choose.randrange(999)}'>more</a></p>\n"
        for part in range(24)
    )
    return (
        f"<!doctype html><html><head><meta charset='utf-8'><title>Article {number}</title></head><body>{paragraphs}</body></html>".encode()
    )


def serve_pages(num_pages: int) -> None:
    "The server process: prints its URL and runs until its standard input closes."
    from lightbulb.web.reactor import Request, Response, serve

    pages = {f"/wiki/{number}": gzip.compress(article(number)) for number in range(num_pages)}

    def answer(request: Request) -> Response:
        if request.path == "/robots.txt": return Response(body=ROBOTS, content_type="text/plain")
        if request.path not in pages: return Response(404, "no such page")
        headers = {"content-encoding": "gzip", "cache-control": "max-age=600", "etag": f'"{request.path}"', "vary": "accept-encoding"}
        return Response(body=pages[request.path], headers=headers)

    print(serve(answer).url, flush=True)
    sys.stdin.read()


def fetch_with_lightbulb(urls: list[str], folder: Path) -> tuple[int, float, float]:
    "Number of pages, CPU seconds, seconds."
    from lightbulb.web.fetch import FetchConfig, Fetcher, Page

    host = urls[0].split("/")[2]
    config = FetchConfig(allow_hosts=(host,), delay=0, max_per_host=16, max_connections=16, cache_path=folder / "pages.sqlite")
    with Fetcher(config) as fetcher:
        cpu, wall = time.process_time(), time.perf_counter()
        pages = fetcher.run_many(urls)
    return sum(isinstance(page, Page) and "</html>" in page.html for page in pages), time.process_time() - cpu, time.perf_counter() - wall


def fetch_with_scrapy(urls: list[str], folder: Path, duties: bool) -> tuple[int, float, float]:
    "The same with a Scrapy spider that decodes each page."
    import scrapy
    from scrapy import signals
    from scrapy.crawler import CrawlerProcess

    seen: list[bool] = []
    began: list[float] = []
    ended: list[float] = []

    class Reader(scrapy.Spider):
        name = "reader"

        async def start(self):
            for url in urls:
                yield scrapy.Request(url)

        def parse(self, response):
            seen.append("</html>" in response.text)

    settings = {
        "LOG_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "COOKIES_ENABLED": False,
        "CONCURRENT_REQUESTS": 16,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "DOWNLOAD_DELAY": 0,
        "DOWNLOAD_MAXSIZE": 5_000_000,
        "ROBOTSTXT_OBEY": duties,
        "HTTPCACHE_ENABLED": duties,
        "HTTPCACHE_DIR": str(folder),
        "HTTPCACHE_POLICY": "scrapy.extensions.httpcache.RFC2616Policy",
    }
    process = CrawlerProcess(settings)
    crawler = process.create_crawler(Reader)
    crawler.signals.connect(lambda: began.extend((time.process_time(), time.perf_counter())), signals.spider_opened, weak=False)
    crawler.signals.connect(lambda: ended.extend((time.process_time(), time.perf_counter())), signals.spider_closed, weak=False)
    process.crawl(crawler)
    process.start()
    return sum(seen), ended[0] - began[0], ended[1] - began[1]


def run_client(client: str, url: str, num_pages: int, folder: Path) -> tuple[float, float]:
    "Pages per CPU-second and per second of a client in a process of its own."
    command = [sys.executable, __file__, "--client", client, "--url", url, "--pages", str(num_pages), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode: raise SystemExit(f"{client} failed:\n{done.stderr}")
    num_read, cpu, wall = json.loads(done.stdout.splitlines()[-1])
    if num_read != num_pages: raise SystemExit(f"{client} read {num_read} of {num_pages} pages")
    return num_pages / cpu, num_pages / wall


def compare(quick: bool, record: bool) -> int:
    "All clients in turns, medians of the rounds; the exit status."
    from _table import Table

    num_pages, rounds = (250, 3) if quick else (1500, 7)
    table = Table("Fetching on the loopback, every check on", packages=("twisted", "scrapy"))
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", "--pages", str(num_pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    rates: dict[str, list[tuple[float, float]]] = {client: [] for client in CLIENTS}
    try:
        url = server.stdout.readline().strip()
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                for client in CLIENTS:
                    own = Path(folder) / client.split(",")[0]
                    rates[client].append(run_client(client, url, num_pages, own))
    finally:
        server.terminate()
        server.wait()
    median = {client: [statistics.median(column) for column in zip(*rates[client], strict=True)] for client in CLIENTS}
    for client in CLIENTS:
        table.row(client, f"{median[client][0]:.0f} pages per CPU-second, {median[client][1]:.0f} per second")
    for peer in CLIENTS[2:]:
        ratio = median["lightbulb"][0] / median[peer][0]
        table.row(f"lightbulb / {peer}", f"{ratio:.2f}", "2.00", ratio >= 2)
    table.note(f"Medians of {rounds} rounds over {num_pages} pages of 20 kB; the server is a process of its own and not counted.")
    return table.finish(record)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most a minute: fewer pages and rounds")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", help="not needed here")
    for flag in ("--client", "--url", "--folder"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["NO_PROXY"] = "*"
    if args.serve:
        serve_pages(args.pages)
    elif args.client:
        urls, folder = [f"{args.url}/wiki/{number}" for number in range(args.pages)], Path(args.folder)
        if args.client.startswith("lightbulb"):
            print(json.dumps(fetch_with_lightbulb(urls, folder)))
        else:
            print(json.dumps(fetch_with_scrapy(urls, folder, "robots" in args.client)))
    else:
        return compare(args.quick, args.record)
    return 0


if __name__ == "__main__": raise SystemExit(main())
