"""Seconds of the same work while other programs want the same cores: how the threads of PyTorch wait for each other.

Three processes stay loaded, one for each way of waiting, and work by turns: SmolLM2 writes 24 tokens after a prompt of 120 words; a small
transformer learns for ten steps. First alone, then beside programs that are busy all the time. Nothing is tuned.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from _table import Table, arguments

PEER = "as PyTorch does, spinning for long"
OURS = "spinning for half a millisecond, the default"
WAYS = {
    OURS: {},
    PEER: {"GOMP_SPINCOUNT": "300000"},  # libgomp's own number where no policy is given
    "sleeping at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
WORKS = ("24 tokens of SmolLM2", "ten steps of a small transformer")
PROMPT = "The arc lamp was the first practical electric light. " * 12
BUSY = "while True: sum(range(10_000))"


def work() -> None:
    "A process that does the work whose number it reads, and prints the seconds it took."
    from lightbulb.lm.language_model import load_language_model

    import torch
    from torch import nn

    model = load_language_model("smollm2")
    network = nn.Sequential(nn.TransformerEncoderLayer(192, 4, 512, batch_first=True), nn.Linear(192, 256))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    batch, targets = torch.randn(16, 128, 192), torch.randint(256, (16, 128))
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        if line.strip() == "0":
            model.generate([PROMPT + f" {begin}"], max_new_tokens=24)
        else:
            for _ in range(10):
                nn.functional.cross_entropy(network(batch).flatten(0, 1), targets.flatten()).backward()
                optimizer.step()
                optimizer.zero_grad()
        print(time.perf_counter() - begin, flush=True)


def measure(workers: dict[str, subprocess.Popen[str]], number: int, rounds: int) -> dict[str, list[float]]:
    "Seconds of each way, by turns; a first turn is not counted."
    seconds: dict[str, list[float]] = {way: [] for way in workers}
    for _ in range(rounds + 1):
        for way, worker in workers.items():
            assert worker.stdin and worker.stdout
            print(number, file=worker.stdin, flush=True)
            seconds[way].append(float(worker.stdout.readline()))
    return {way: measured[1:] for way, measured in seconds.items()}


def main() -> int:
    options = arguments(__doc__ or "", data=False)
    table = Table("A machine that is shared: how PyTorch's threads wait", ("torch",))
    command = [sys.executable, __file__, "--work"]
    cores = os.cpu_count() or 1
    workers, neighbours = {}, []
    try:
        for way, settings in WAYS.items():
            clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
            workers[way] = subprocess.Popen(
                command, env=clean | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            while workers[way].stdout.readline().strip() != "ready":
                pass
        for busy in (0, cores // 2, cores):
            while len(neighbours) < busy:
                neighbours.append(subprocess.Popen([sys.executable, "-c", BUSY]))
            for number, name in enumerate(WORKS):
                measured = measure(workers, number, 1 if options.quick else 2 if busy else 5)
                usual = statistics.median(measured[PEER])
                for way, seconds in measured.items():
                    middle = statistics.median(seconds)
                    spread = f"{middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {middle / usual:.2f} of spinning"
                    beside = f"beside {busy} busy programs" if busy else "alone"
                    aim = (
                        ("", None)
                        if way != OURS
                        else ("≤ .5 of spinning", middle <= usual / 2)
                        if busy
                        else ("≤ 1.05 of spinning", middle <= 1.05 * usual)
                    )
                    table.row(f"{name}, {beside}, {cores} cores: {way}", spread, *aim)
    finally:
        for process in [*workers.values(), *neighbours]:
            process.kill()
    return table.finish(options.record)


if __name__ == "__main__":
    if "--work" in sys.argv:
        work()
    else:
        raise SystemExit(main())
