"""What `make demo` writes after about a minute of training, before and now, and what a small model learns from the demo's text with time.

    python benchmarks/demo_text.py --data ../shared/data --record

The commands of now are read from `make -n demo`; those of before stand here. Prompts: the first six words of the first paragraph of the
first five held-out articles by name, and of every fifteenth of the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from _table import Table, peer_environment

from lightbulb.core.report import MetricsFile
from lightbulb.core.runtime import cache_folder
from lightbulb.lm.data import load_texts
from lightbulb.lm.training import load_model

ROOT = Path(__file__).resolve().parents[1]
OLD = "--preset tiny --model_name gpt2:4096 --dataset_name demo"
BEFORE = (
    f"main_menu.py --task train_llm_world --stage lm {OLD} --num_epochs 3".split(),
    f"main_menu.py --task train_llm_world --stage world {OLD} --num_epochs 1 --transformer_model_path FOLDER".split(),
)
PLANNERS, NEW_TOKENS, WORDS = ("greedy", "mcts"), 48, 6
Words = tuple[str, ...]


def run(words: list[str], folder: Path, typed: str = "") -> tuple[str, float]:
    "One of the demo's commands with another folder: what it prints, and its CPU-seconds."
    before, command = resource.getrusage(resource.RUSAGE_CHILDREN), [str(folder) if word == "FOLDER" else word for word in words]
    environment = peer_environment() | {"OMP_NUM_THREADS": "1"}
    whole = [sys.executable, *command, "--save_dir", str(folder)]
    done = subprocess.run(whole, cwd=ROOT, env=environment, input=typed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands_of_now() -> tuple[list[str], ...]:
    "The two trainings of `make demo`, without their folder."
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for line in shown.replace("\\\n", " ").splitlines():
        if "--save_dir" not in line or "--query" in line: continue
        words = shlex.split(line)[1:]
        place = words.index("--save_dir")
        folder = words[place + 1]
        found.append(["FOLDER" if word == folder else word for word in [*words[:place], *words[place + 2 :]]])
    return tuple(found)


# ------------------------------------------------------------------ prompts, and what real text is


def paragraphs(article: str) -> list[str]:
    return [part.strip() for part in article.split("\n\n") if part.strip()]


def prompts() -> dict[str, list[tuple[str, str]]]:
    "Beginnings of articles with what really follows, by whether the article is held out."
    texts = load_texts("demo")
    chosen = {"held out": texts.validation[:5], "training": texts.train[:: len(texts.train) // 5][:5]}
    split = lambda words: (" ".join(words[:WORDS]), " ".join(words[WORDS : WORDS + NEW_TOKENS]))
    return {name: [split(paragraphs(article)[1].split()) for article in articles] for name, articles in chosen.items()}


def words_of(text: str) -> Words:
    return tuple(re.findall(r"\w+", text.lower()))


def trigrams(words: Words) -> list[Words]:
    return [words[i : i + 3] for i in range(len(words) - 2)]


class RealText:
    "Which three words in a row occur in encyclopedias that have nothing of the demo, and which in the articles that were learned from."

    def __init__(self, data: Path) -> None:
        texts = [(data / "wikitext2" / f"wiki.{name}.tokens").read_text(encoding="utf-8") for name in ("valid", "test")]
        pages = (data / "two_hop" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["text"] for line in pages]
        self.elsewhere = {three for text in texts for three in trigrams(words_of(text))}
        self.learned = {three for text in load_texts("demo").train for three in trigrams(words_of(text))}

    def shares(self, written: list[tuple[str, str]]) -> tuple[float, float]:
        "Of all trigrams that end in what was written after prompts."
        asked = [three for prompt, text in written for three in trigrams(words_of(prompt)[-2:] + words_of(text))]
        return sum(three in self.elsewhere for three in asked) / len(asked), sum(three in self.learned for three in asked) / len(asked)


# ------------------------------------------------------------------ one recipe


@dataclass(frozen=True)
class Story:
    "What came of one recipe."

    seconds: list[float]  # CPU, of the trainings
    held: list[tuple[int, float]]  # steps, bits a byte of the held-out articles
    trained: float  # bits a byte of the last ten steps
    parameters: int
    vocabulary: int
    written: dict[str, list[tuple[str, str]]]  # kind of prompt and planner: prompts and what was written


def write(folder: Path, planner: str, beginnings: list[str]) -> list[str]:
    "What the demo's command writes after each of these, typed one after the other."
    asking = f"main_menu.py --task train_llm_world --mode inference --max_new_tokens {NEW_TOKENS} --planner {planner}".split()
    printed, _ = run(asking, folder, "\n".join([*beginnings, "quit", ""]))
    texts = printed.split("text> ")[1:-1]
    assert len(texts) == len(beginnings), printed
    return [text.strip("\n").removeprefix(prompt) for text, prompt in zip(texts, beginnings, strict=True)]


def make(commands: tuple[list[str], ...], planners: tuple[str, ...] = PLANNERS, trained_in: Path | None = None) -> Story:
    "Train as these commands do (or take the folder in which they have done so), and write after every prompt."
    with tempfile.TemporaryDirectory(prefix="lightbulb_demo_") as name:
        folder = trained_in or Path(name)
        seconds = [] if trained_in else [run(command, folder)[1] for command in commands]
        rows = MetricsFile(folder / "language_model" / "metrics.jsonl").read()
        trained = [row for row in rows if row["split"] == "train"]
        model, _, _ = load_model(folder)
        beginnings = {kind: [prompt for prompt, _ in pairs] for kind, pairs in prompts().items()}
        written = {}
        for planner in planners:
            texts = iter(write(folder, planner, [prompt for asked in beginnings.values() for prompt in asked]))
            written |= {f"{kind}, {planner}": [(prompt, next(texts)) for prompt in asked] for kind, asked in beginnings.items()}
        return Story(
            seconds,
            [(row["step"], row["bits_per_byte"]) for row in rows if row["split"] == "validation"],
            mean([row["bits_per_byte"] for row in trained[-10:]]),
            model.num_parameters,
            model.config.vocab_size,
            written,
        )


def kept(name: str, commands: tuple[list[str], ...], is_asked: bool, trained_in: Path | None = None) -> Story:
    "The same, and kept in the cache folder; what an earlier run kept counts only if that `is_asked`."
    key = hashlib.sha256(json.dumps([commands, PLANNERS]).encode()).hexdigest()[:16]
    file = cache_folder("benchmarks", "demo_text") / f"{name}-{key}.json"
    if not (is_asked and file.exists()):
        file.write_text(json.dumps(asdict(make(commands, PLANNERS, trained_in)), indent=1))
    return Story(**json.loads(file.read_text()))


# ------------------------------------------------------------------ the table


def show(table: Table, name: str, story: Story, real: RealText | None, before: Story | None) -> None:
    "The rows of one recipe."
    size = f"{story.parameters / 1e6:.1f}M parameters, {story.vocabulary:,} ids"
    if story.seconds:
        aim, is_met = ("", None) if before is None else ("≤ 120 each, a minute of two cores", max(story.seconds) <= 120)
        each = ", ".join(f"{one:.0f}" for one in story.seconds)
        table.row(f"{name}: CPU-s of language model and world model", f"{each}; {size}", aim, is_met)
    curve = ", ".join(f"{bits:.3f} after {step} steps" for step, bits in story.held)
    better = None if before is None else story.held[-1][1] < before.held[-1][1]
    aim = "" if before is None else f"below {before.held[-1][1]:.3f}, before"
    table.row(f"{name}: bits a byte of the held-out articles", f"{curve}; {story.trained:.3f} in the last training steps", aim, better)
    for kind, pairs in story.written.items() if real else ():
        assert real is not None
        elsewhere, learned = real.shares(pairs)
        then = None if before is None else real.shares(before.written[kind])[0]
        goal = "" if then is None else f"above {then:.0%}, before"
        measured = f"{elsewhere:.0%}; of the articles learned from {learned:.0%}"
        table.row(f"{name}, {kind}: word trigrams that occur in real text", measured, goal, None if then is None else elsewhere > then)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--quick", action="store_true", help="a tiny training, no comparison")
    parser.add_argument("--keep", action="store_true", help="take what an earlier run made, and say so")
    parser.add_argument("--before", type=Path, help="a folder in which the two commands of before have trained already")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    return parser.parse_args()


def main() -> int:
    asked = parse()
    table = Table("What make demo writes", ("transformers",))
    real = RealText(asked.data) if (asked.data / "two_hop").is_dir() else None
    if asked.quick:
        few = "--preset tiny --model_name bytes --dataset_name demo --max_examples 12 --max_length 32 --num_epochs 1".split()
        show(table, "quick", make(([*BEFORE[0][:5], *few],), ("greedy",)), real, None)
        return table.finish(False)
    now, before = kept("now", commands_of_now(), asked.keep), kept("before", BEFORE, asked.keep, asked.before)
    show(table, "before", before, real, None)
    show(table, "now", now, real, before)
    beginnings = prompts()
    if real is not None:
        for kind, pairs in beginnings.items():
            elsewhere, learned = real.shares(pairs)
            table.row(
                f"what really follows, {kind}: word trigrams that occur in real text", f"{elsewhere:.0%}; of the articles {learned:.0%}"
            )
    for kind, pairs in beginnings.items():
        for number, (prompt, follows) in enumerate(pairs):
            table.row(f"{kind}: {prompt} … (really: {_line(follows)})", "")
            for name, story in (("before", before), ("now", now)):
                for planner in PLANNERS:
                    table.row(f"{kind} {number + 1}, {name}, {planner}", _line(story.written[f"{kind}, {planner}"][number][1]))
    table.note(
        f"Prompts are the first {WORDS} words of the first paragraph of five held-out articles and of five that were learned from, chosen "
        f"by place before anything was written; {NEW_TOKENS} tokens each, as the demo's commands write them. Real text: WikiText-2's "
        "validation and test part and the passages of two_hop, without the demo's articles. CPU-s of whole commands on one thread, loading "
        "and evaluating included. Now the language model starts from SmolLM2 (135M, another training's work, which has read much on such "
        "subjects) and its last layers read a part of the articles once; before it began from nothing. Its rate was chosen on eight "
        "training articles that were held out for that (two recipes), everything else by cost. Its sentences are English; what they say "
        "is often wrong. CPU-s of now were measured beside other work."
    )
    if asked.keep:
        table.note("Some of this was made and kept by an earlier run, by the same commands.")
    return table.finish(asked.record)


def _line(text: str) -> str:
    "As one line of a table."
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    sys.exit(main())
