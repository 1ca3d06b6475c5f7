"""Kill `train_agent` with signal 9 at random moments and resume it: no acknowledged episode and no page of one is lost.

    python benchmarks/agent_kills.py --kills 200 --record

Each training is a process of its own, forked from one that has loaded every library but trained nothing (its reactor's thread would not
live on). It plays the demo site's pages with a reader of patterns, keeps pages in a knowledge base on the disk, and tells each line of its
log through a pipe as it comes. Kills come at moments drawn evenly over a whole life. After each: every line that was told stands in the
log, its moment can be loaded, and the pages of every episode that was told are in the knowledge base. Then the run is resumed and perhaps
killed again. Where it ends, log (but for seconds), file of episodes and both levels must be those of a run that nobody killed. What came
of a finished run is kept in the cache folder with a digest of the code that saves, so a stopped benchmark goes on; `--seed` draws other
moments, and several seeds may run side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import random
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _killed import told_by
from _table import Table

from lightbulb.agent import training as agent_training
from lightbulb.agent.configuration import TrainAgent
from lightbulb.agent.environment import SearchTask
from lightbulb.agent.tools import Tools
from lightbulb.agent.training import train_agent
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core import checkpoint, run, run_folder
from lightbulb.core.checkpoint import load_checkpoint
from lightbulb.core.records import Document
from lightbulb.core.run_folder import MODEL_FILE, TRAINING_FILE, moments
from lightbulb.core.runtime import cache_folder
from lightbulb.knowledge import store
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.web.demo_site import demo_questions, load_articles

NUM_EPISODES = 6


class Letters:
    "Texts as counts of their longer words, hashed."

    name, width = "letters", 64

    def __call__(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w{4,}", text.lower()):
                row[zlib.crc32(word.encode()) % self.width] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


class PatternReader:
    "Reads places, years and names by patterns."

    patterns = {"where": r"(?:in|at) ([A-Z]\w+)", "when": r"\b(1\d{3})\b", "who": r"by ([A-Z]\w+ [A-Z]\w+)"}

    def read(self, question: str, texts: Sequence[str], *, top_k: int = 4) -> list[Any]:
        pattern = self.patterns.get(question.split()[0].lower(), r"\b([A-Z]\w+)")
        return [
            SimpleNamespace(text_index=i, start=match.start(1), end=match.end(1), text=match[1], kind="", score=0.9 / (1 + place))
            for i, text in enumerate(texts)
            for place, match in enumerate(list(re.finditer(pattern, text))[:top_k])
        ]


class DemoPages:
    "The demo site's articles, the nearest by words first."

    name = "demo"

    def __init__(self) -> None:
        self.documents = {
            f"http://demo/{slug}": Document(f"http://demo/{slug}", article.title, article.text) for slug, article in load_articles().items()
        }
        self.embed = Letters()
        self.vectors = self.embed([f"{page.title} {page.title} {page.text[:400]}" for page in self.documents.values()])

    def search(self, query: str, num_results: int = 10) -> list[Document]:
        order = np.argsort(-(self.vectors @ self.embed([query])[0]), kind="stable")[:num_results]
        return [list(self.documents.values())[i] for i in order]

    def read(self, urls: Sequence[str], **_: Any) -> list[Document]:
        return [self.documents[url] for url in urls]


def warm_up(site: DemoPages, tasks: Sequence[SearchTask]) -> None:
    "Use whatever is loaded at its first use, without the reactor: a process forked from here has it."
    agent = AutonomousWebAgent(Tools(site, PatternReader(), site.embed), policy="learned")
    agent.play(tasks[0])
    parameters = list(agent.levels.worker.online.parameters())
    loss = sum((parameter**2).sum() for parameter in parameters)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    torch.optim.Adam(parameters).step()


def training(save_dir: Path, resume: bool, site: DemoPages, tasks: Sequence[SearchTask]) -> Iterator[dict[str, Any]]:
    "The lines of the log, as they are told."
    knowledge = KnowledgeBase(save_dir / "knowledge.sqlite", embed=site.embed)
    config = TrainAgent(
        save_dir=save_dir, resume=resume, num_episodes=NUM_EPISODES, num_parallel=2, max_searches=2, max_pages=2, num_held_out=0
    )
    told: list[dict[str, Any]] = []
    tools = Tools(site, PatternReader(), site.embed, knowledge=knowledge)
    for _ in train_agent(config, tools=tools, tasks=tasks, tell=lambda row: told.append(dict(row))):
        yield from told
        told.clear()
    yield from told
    knowledge.close()


@dataclass
class Life:
    "What a training told before it ended or was killed."

    told: list[dict[str, Any]]
    ended: bool


@dataclass
class Tally:
    "What came of one run, from its first life to its end."

    kills: int = 0
    inside: int = 0  # kills that left an unfinished file
    between: int = 0  # kills after an episode was kept and before it was told


def tallies(file: Path) -> list[Tally]:
    "What came of all finished runs."
    return [Tally(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def kept_file() -> Path:
    "Where tallies are kept, for as long as the code that saves stays as it is."
    modules = (agent_training, checkpoint, run, run_folder, store)
    digest = hashlib.sha256("".join(inspect.getsource(module) for module in modules).encode()).hexdigest()[:12]
    return cache_folder("benchmarks") / f"agent_kills_{digest}.jsonl"


def live(save_dir: Path, site: DemoPages, tasks: Sequence[SearchTask], *, seconds: float | None) -> Life:
    "Train in a process of its own, go on where the folder stands, and kill it after so many seconds."
    resume = kept_step(save_dir) > 0
    return Life(*told_by(lambda: training(save_dir, resume, site, tasks), seconds))


def kept_step(save_dir: Path) -> int:
    "The episodes of the newest moment that can be resumed, which is loaded whole; 0 if there is none."
    folder = save_dir / "agent" / "web_agent"
    resumable = [folder / moment.name for moment in moments(folder) if (folder / moment.name / TRAINING_FILE).is_file()]
    if not resumable: return 0
    load_checkpoint(resumable[-1] / MODEL_FILE)
    return int(load_checkpoint(resumable[-1] / TRAINING_FILE)["training"]["step"])


def lines_of(file: Path) -> list[dict[str, Any]]:
    "The whole lines of a file of JSON lines, without seconds and times."
    content = file.read_bytes() if file.exists() else b""
    rows = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def judge(save_dir: Path, told: Sequence[dict[str, Any]], site: DemoPages) -> None:
    "`AssertionError` if something that was told is lost."
    log, kept = lines_of(save_dir / "agent" / "agent_training.log"), kept_step(save_dir)
    numbers = [row["episode"] for row in log]
    assert numbers == list(range(1, len(log) + 1)), f"the log has episodes {numbers}"
    assert len(log) <= kept, f"{len(log)} episodes are in the log and {kept} are kept"
    assert {row["episode"] for row in told} <= set(numbers), "an episode was told that the log does not have"
    questions = {row["query"] for row in log}
    data = lines_of(save_dir / "agent" / "llm_training_data.jsonl")
    pages = {page["url"] for row in data if row["question"] in questions for page in row["provenance"]["pages"]}
    if not pages: return
    knowledge = KnowledgeBase(save_dir / "knowledge.sqlite", embed=site.embed)
    try:
        lost = pages - {document.url for document in knowledge.documents()}
    finally:
        knowledge.close()
    assert not lost, f"{len(lost)} pages of episodes that were told are not in the knowledge base"


def ending(save_dir: Path) -> tuple[list[Any], list[Any], dict[str, Any]]:
    "What a finished run is judged by."
    agent = save_dir / "agent"
    newest = moments(agent / "web_agent")[-1]
    episodes = [{name: value for name, value in row.items() if name != "provenance"} for row in lines_of(agent / "llm_training_data.jsonl")]
    return lines_of(agent / "agent_training.log"), episodes, load_checkpoint(agent / "web_agent" / newest.name / MODEL_FILE)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="six kills")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs finished")
    parser.add_argument("--only_kept", action="store_true", help="kill nothing: report on what earlier runs finished")
    args = parser.parse_args()
    kills = 6 if args.quick else args.kills
    torch.set_num_threads(1)
    table = Table("The agent's training, killed" + (" (quick)" if args.quick else ""), packages=("gymnasium",))
    site, chance = DemoPages(), random.Random(args.seed)
    questions = [one.question for one in demo_questions("train") if one.question.split()[0] in ("Who", "Where", "When")]
    tasks = [SearchTask(question) for question in questions[:8]]
    with tempfile.TemporaryDirectory() as room:
        warm_up(site, tasks)
        whole, begin = Path(room) / "whole", time.monotonic()
        whole.mkdir()
        assert live(whole, site, tasks, seconds=None).ended
        duration, (log, episodes, model) = time.monotonic() - begin, ending(whole)
        assert len(log) == NUM_EPISODES and episodes, "the unbroken run told nothing"
        file = Path(room) / "tallies.jsonl" if args.quick else kept_file()
        if args.fresh:
            file.unlink(missing_ok=True)
        num_runs = 0
        while sum(one.kills for one in tallies(file)) < kills and not (args.only_kept and not args.quick):
            save_dir, tally, told = Path(room) / f"run_{num_runs}", Tally(), list[dict[str, Any]]()
            save_dir.mkdir()
            num_runs += 1
            while True:
                life = live(save_dir, site, tasks, seconds=chance.uniform(0.0, duration) if tally.kills < 8 else None)
                told += life.told
                if life.ended: break
                tally.kills += 1
                tally.inside += bool(list(save_dir.rglob("*.tmp")))
                tally.between += kept_step(save_dir) > len(lines_of(save_dir / "agent" / "agent_training.log"))
                judge(save_dir, told, site)
            judge(save_dir, told, site)
            ours = ending(save_dir)
            assert ours[0] == log, f"{save_dir}: the log is not that of the unbroken run"
            assert ours[1] == episodes, f"{save_dir}: the file of episodes is not that of the unbroken run"
            for level in ("manager", "worker"):
                same = all(torch.equal(ours[2][level][name], model[level][name]) for name in model[level])
                assert same, f"{save_dir}: its {level} is not that of the unbroken run"
            shutil.rmtree(save_dir)
            with file.open("a", encoding="utf-8") as rows:
                rows.write(json.dumps(asdict(tally)) + "\n")
            print(f"  {sum(one.kills for one in tallies(file))} kills", flush=True)
        done = tallies(file)
    num_kills, num_inside, num_between = (sum(getattr(one, part) for one in done) for part in ("kills", "inside", "between"))
    table.row(
        f"train_agent, {NUM_EPISODES} episodes with a knowledge base on the disk",
        f"{num_kills} kills in {len(done)} runs, {num_inside} inside a write, {num_between} between "
        "an episode's being kept and told: nothing that was told is lost, and all runs end as the unbroken one",
        f"{kills} kills",
        num_kills >= kills,
    )
    table.note("Checked after each kill: log, newest moment, file of episodes, pages in the knowledge base; at the end also both levels.")
    return table.finish(args.record and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
