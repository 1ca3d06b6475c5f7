"""Make the reader's weights and its judge: two trainings, their average, and a confidence and a judge fitted on what they never saw.

    OMP_NUM_THREADS=1 python -m tools.train_reader --data ../shared/data --out models/reader

goes, with a fixed seed, from the bare encoder to `models/reader/span_reader.safetensors` and `judge.json`; copy the one to
lightbulb/reading/weights/ and the other to lightbulb/reading/ to ship them. It takes about three hours of one core: `generated`
(adapters, questions made from raw pages), `people` (all weights; questions that people asked, questions to written pages and lines, some
generated ones and science articles; two trainings with other examples), `average`, and `judge`. `--stage` runs one of them alone,
`--resume` goes on after a kill. The weights that ship came in steps: those of 27 November 2026 out of an earlier form of this, with eight
layers; those of 29 November went on from them with the written pages; and those of 30 November went on from these with twelve layers, 260
steps with `--lines 0 --written 0.3` and 1,300 as `people` does now, once, without an average:

    OMP_NUM_THREADS=1 python -m tools.train_reader --start WEIGHTS_OF_BEFORE --stage people --seed 5 --out models/reader

A new run gives weights of the same kind, not the same bytes.

Never read: xquad_en, the manuals, questions and answers of two_hop, the `report` questions of the demo site; of clapnq the first 100, for
the judge alone. Left out of the raw pages: every page that answers a question of two_hop or is named in one, and the pages of
tools/reader_development.jsonl. Sixteen articles of QAMR and every second document of COVID-QA are kept for the confidence and the judge.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from lightbulb.core.english import FUNCTION_WORDS, stem
from lightbulb.core.run_folder import moments
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.answer_kinds import expected_kind, fits
from lightbulb.reading.clauses import sentence_ranges, short_title
from lightbulb.reading.examples import ExamplePool, mixture
from lightbulb.reading.judge import LabelledCandidates, calibration_error, fit_judge, gather_candidates
from lightbulb.reading.network import Confidence, change_confidence
from lightbulb.reading.people import HumanExamples
from lightbulb.reading.reader import SpanReader
from lightbulb.reading.teaching import TrainReader, average_readers, fit_confidence, train_reader, write_mixture
from lightbulb.web.demo_site import demo_questions, demo_text, load_articles

HERE = Path(__file__).parent
DEVELOPMENT = [json.loads(line) for line in (HERE / "reader_development.jsonl").read_text(encoding="utf-8").splitlines()]
Page = tuple[str, str]  # title, text


def read_lines(path: Path) -> list[dict]:
    "The objects of a file of JSON lines."
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def encyclopedia(folder: Path) -> list[Page]:
    "The two_hop passages that no question touches, without the development pages."
    questions = read_lines(folder / "questions.jsonl")
    named = " ".join(row["question"] for row in questions).casefold()
    left_out = {title for row in questions for title in row["gold_pages"]} | {row["title"] for row in DEVELOPMENT}
    return [
        (row["title"], row["text"].replace("\n", " "))
        for row in read_lines(folder / "pages.jsonl")
        if row["title"] not in left_out and not re.search(r"\b" + re.escape(short_title(row["title"]).casefold()) + r"\b", named)
    ]


def wikitext(path: Path) -> list[Page]:
    "Paragraphs of WikiText-2 with their article's title, in ordinary spelling; sentences with unknown words are dropped."
    pages, title = [], None
    for line in path.read_text(encoding="utf-8").split("\n"):
        line = line.strip()
        heading = re.fullmatch(r"= ([^=].*?[^=]) =", line)
        if heading:
            title = re.sub(r" @(.)@ ", r"\1", heading[1])
            continue
        if not line or line.startswith("=") or not title: continue
        text = re.sub(r" @([-,.])@ ", r"\1", line)
        text = re.sub(r" ([,.;:)!?%])", r"\1", text)
        text = re.sub(r"([(]) ", r"\1", text)
        text = re.sub(r' " (.*?) " ?', r' "\1" ', text)
        text = re.sub(r" 's\b", "'s", text)
        text = re.sub(r" ' ", "' ", text).replace(" n't", "n't").replace(" – ", "–")
        text = " ".join(text[begin:end].strip() for begin, end in sentence_ranges(text) if "<unk>" not in text[begin:end])
        if len(text.split()) > 25 and "<unk>" not in title:
            pages.append((title, text))
    return pages


def demo_articles() -> list[Page]:
    "Paragraphs of the demo site's articles."
    return [
        (article.title, paragraph.replace("\n", " "))
        for article in load_articles().values()
        for paragraph in re.split(r"\n\s*\n", article.text)
        if len(paragraph.split()) > 15 and "|" not in paragraph
    ]


def corpus(data: Path) -> list[Page]:
    "All raw pages that questions are generated from."
    paragraphs = [page for name in ("wiki.valid.tokens", "wiki.test.tokens") for page in wikitext(data / "wikitext2" / name)]
    return encyclopedia(data / "two_hop") + paragraphs + 3 * demo_articles()


# ---------------------------------------------------------------- what people asked


def qamr(data: Path) -> tuple[list[dict], list[dict]]:
    "Sentences with questions: those to train on, and those of the sixteen articles that are kept."
    rows = read_lines(data / "reading" / "qamr.jsonl")
    article = lambda row: ":".join(row["title"].split(":")[:2])
    articles = sorted({article(row) for row in rows})
    random.Random(5).shuffle(articles)
    kept = frozenset(articles[:16])
    return [row for row in rows if article(row) not in kept], [row for row in rows if article(row) in kept]


def covid(data: Path) -> tuple[list[dict], list[dict]]:
    "Scientific articles with questions: every second one to train on, the others kept."
    documents = read_lines(data / "reading" / "covid_qa.jsonl")
    return documents[::2], documents[1::2]


# ---------------------------------------------------------------- the stages


def train(config: TrainReader, resume: bool) -> None:
    "Run one training, or go on with it if it had begun; a line every 25 steps."
    began = time.process_time()
    for report in train_reader(replace(config, resume=resume and bool(moments(config.run_folder)))):
        if report.step % 25 == 0:
            print(f"step {report.step}: span loss {report.loss:.3f}, {time.process_time() - began:.0f} CPU-s", flush=True)


def stage_generated(args: argparse.Namespace) -> None:
    "Adapters on questions made out of raw pages, from the bare encoder."
    examples, rng = args.out / "generated.jsonl", random.Random(args.seed)
    if not (args.resume and examples.exists()):
        pool = ExamplePool.from_pages(corpus(args.data), rng)
        print(write_mixture(examples, {"generated": (1.0, mixture(pool, rng))}, num_examples=21_000, seed=args.seed))
    steps = args.num_steps or 800
    train(TrainReader(examples, args.out / "generated.safetensors", num_steps=steps, seed=args.seed), args.resume)


def stage_people(args: argparse.Namespace) -> None:
    "All weights of the twelve layers on questions of people and to invented documents, a few generated ones beside them; twice."
    for seed in (args.seed, args.seed + 1):
        people(args, seed)


def people(args: argparse.Namespace, seed: int) -> None:
    "One training on questions of people."
    examples, rng = args.out / f"people_{seed}.jsonl", random.Random(seed + 1)
    steps, batch_size = args.num_steps or 1300, 32
    if not (args.resume and examples.exists()):
        from tools.written_lines import line_reading_examples, written_lines  # which read files as this one does
        from tools.written_pages import reading_examples, written_domains

        rest = 1 - args.written - args.lines - (args.manual_share if args.manuals else 0.0)
        sources = {
            "people": (0.74 * rest, HumanExamples(qamr(args.data)[0], rng)),
            "science": (0.11 * rest, HumanExamples(covid(args.data)[0], rng)),
            "generated": (0.15 * rest, mixture(ExamplePool.from_pages(corpus(args.data), rng), rng)),
            "written": (args.written, reading_examples(list(written_domains(kept=False)), rng)),
            "lines": (args.lines, line_reading_examples(written_lines(kept=False), rng)),
        }
        if args.manuals:
            from tools.manual_lines import drawn, manual_examples

            sources["manuals"] = (args.manual_share, drawn(manual_examples(args.manuals, rng), rng))
        print(write_mixture(examples, sources, num_examples=batch_size * steps, seed=seed))
    config = TrainReader(
        examples,
        args.out / f"people_{seed}.safetensors",
        start=args.start or args.out / "generated.safetensors",
        rank=0,
        num_steps=steps,
        batch_size=batch_size,
        learning_rate=args.learning_rate,
        decay=0.7,
        averaged=0.3,
        first_layer=0,
        seed=seed,
    )
    train(config, args.resume)


def stage_average(args: argparse.Namespace) -> None:
    "The average of the two trainings on questions of people (Wortsman et al. 2022)."
    files = {args.out / f"people_{seed}.safetensors": 0.5 for seed in (args.seed, args.seed + 1)}
    average_readers(files, args.out / "span_reader.safetensors")


# ---------------------------------------------------------------- confidence and judge


@dataclass(frozen=True)
class Search:
    "A question, what a search brought, and the accepted answers; none if the texts do not say."

    question: str
    texts: list[str]
    pages: list[str]
    answers: tuple[str, ...]


class Passages:
    "Passages by BM25 (Robertson & Zaragoza 2009, eq. 3.15 with k1 = 1.2, b = 0.75)."

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.lengths, self.postings = texts, [], defaultdict(list)
        for place, text in enumerate(texts):
            counts = Counter(self.terms(text))
            self.lengths.append(sum(counts.values()))
            for term, count in counts.items():
                self.postings[term].append((place, count))
        self.mean_length = sum(self.lengths) / len(texts)

    @staticmethod
    def terms(text: str) -> list[str]:
        return [stem(word) for word in re.findall(r"\w+", text.lower()) if word not in FUNCTION_WORDS]

    def search(self, question: str, k: int) -> list[int]:
        "The places of the k best passages."
        scores: dict[int, float] = defaultdict(float)
        for term in sorted(set(self.terms(question))):
            postings = self.postings.get(term, [])
            weight = math.log(1 + (len(self.texts) - len(postings) + 0.5) / (len(postings) + 0.5))
            for place, count in postings:
                scores[place] += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * self.lengths[place] / self.mean_length))
        return sorted(scores, key=lambda place: (-scores[place], place))[:k]


def sentence_searches(data: Path, num_questions: int, rng: random.Random) -> Iterator[Search]:
    "Questions on the kept QAMR articles, searched in all of them; from one in five the page with the answer is taken away."
    everything, kept = sum(qamr(data), []), qamr(data)[1]
    everything.sort(key=lambda row: (row["title"].split(":")[:2], [int(number) for number in re.findall(r"\d+", row["title"])]))
    groups: list[list[dict]] = []
    for row in everything:
        if groups and len(groups[-1]) < 5 and groups[-1][0]["title"].split(":")[:2] == row["title"].split(":")[:2]:
            groups[-1].append(row)
        else:
            groups.append([row])
    passages = Passages([" ".join(row["text"] for row in group) for group in groups])
    home = {row["title"]: place for place, group in enumerate(groups) for row in group}
    examples = HumanExamples(kept, rng)
    for row, question, _, _ in rng.sample(examples.questions, num_questions):
        places = passages.search(question["question"], 5)
        if rng.random() < 0.2:
            places = [place for place in places if place != home[row["title"]]]
        texts = [passages.texts[place] for place in places[:4]]
        yield Search(
            question["question"], texts, [str(place) for place in places[:4]], tuple(answer["text"] for answer in question["answers"])
        )


def document_searches(data: Path, num_questions: int, rng: random.Random) -> Iterator[Search]:
    "Questions on the kept science articles, searched in pieces of 120 words of all of them."
    pieces_of_all, asked = [], []
    for document in covid(data)[1]:
        words = document["text"].split()
        pieces_of_all += [" ".join(words[i : i + 120]) for i in range(0, len(words), 120)]
        asked += [(row["question"], row["answers"][0]["text"]) for row in document["questions"]]
    passages = Passages(pieces_of_all)
    for question, answer in rng.sample(asked, min(num_questions, len(asked))):
        places = passages.search(question, 4)
        yield Search(question, [passages.texts[place] for place in places], [str(place) for place in places], (answer,))


def engine_searches(data: Path) -> Iterator[Search]:
    "The first 100 of clapnq: questions of a search engine, half of them on a passage that does not answer."
    for row in read_lines(data / "reading" / "clapnq.jsonl")[:100]:
        answers = tuple(sentence for answer in row["answers"] for sentence in answer.get("sentences", ())) if row["answerable"] else ()
        yield Search(row["question"], [part["text"] for part in row["passages"]], [part["title"] for part in row["passages"]], answers)


def demo_searches(rng: random.Random) -> Iterator[Search]:
    "The demo site's train and calibrate splits: two stretches of the gold article, and the article most alike."
    for question in (*demo_questions("train"), *demo_questions("calibrate")):
        if question.kind != "single_hop": continue
        paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", demo_text(question.gold_pages[-1:])) if len(paragraph.split()) > 25]
        gold = rng.sample(paragraphs, min(2, len(paragraphs)))
        words = set(re.findall(r"\w{4,}", question.question.lower()))
        others = [article.text for article in load_articles().values() if article.title not in question.gold_pages]
        alike = " ".join(max(others, key=lambda text: sum(word in text.lower() for word in words)).split()[:150])
        yield Search(question.question, [*gold, alike], ["gold", "gold", "alike"], question.answers)


def written_searches(data: Path) -> Iterator[Search]:
    "The development questions on an encyclopedia page and the two pages that share most with the question, some without an answer."
    pages = {row["title"]: row["text"] for row in read_lines(data / "two_hop" / "pages.jsonl")}
    titles, passages = list(pages), Passages(list(pages.values()))
    for row in DEVELOPMENT:
        found = [titles[place] for place in passages.search(row["question"], 3)]
        found = [row["title"], *(title for title in found if title != row["title"])][:3]
        yield Search(row["question"], [pages[title] for title in found], found, tuple(row["answers"]))


def agrees(answer: str, golds: Sequence[str]) -> float:
    "The best F1 of the answer's words with an accepted one; 1 inside a gold sentence."
    words, best = Counter(re.findall(r"\w+", answer.lower())), 0.0
    for gold in golds:
        wanted = Counter(re.findall(r"\w+", gold.lower()))
        shared = sum((words & wanted).values())
        best = max(
            best, 1.0 if len(gold.split()) > 12 and answer.lower() in gold.lower() else 2 * shared / max(1, words.total() + wanted.total())
        )
    return best


def stage_judge(args: argparse.Namespace) -> None:
    "Fit the reader's confidence and the judge on questions that training never saw, and say how they do on those left out of the fit."
    reader, rerank, rng = SpanReader.load(args.out / "span_reader.safetensors"), load_cross_encoder(num_threads=1), random.Random(args.seed)
    reader.confidence = Confidence(misfit=0.0)  # what leads by its scores alone: no fit may rest on what the one before had let through
    sources = (
        sentence_searches(args.data, args.lists, rng),
        document_searches(args.data, args.lists // 2, rng),
        engine_searches(args.data),
        demo_searches(rng),
        written_searches(args.data),
    )
    searches = [search for source in sources for search in islice(source, args.lists)]
    firsts, lists = [], []
    for search in searches:
        spans = reader.read(search.question, search.texts, top_k=6)
        if not spans: continue
        grades = [agrees(span.text, search.answers) for span in spans]
        candidates = gather_candidates(search.question, search.texts, spans, pages=search.pages, rerank=rerank)
        right = tuple(grade >= 0.5 and grade >= max(grades) - 0.1 for grade in grades)
        lists.append(LabelledCandidates(search.question, tuple(candidates), right))
        firsts.append((spans[0].margin, spans[0].answerable, fits(spans[0].text, expected_kind(search.question)), grades[0] >= 0.5))
    confidence = fit_confidence(firsts, ridge=0.001)
    change_confidence(args.out / "span_reader.safetensors", confidence)
    fold = [fit_judge(lists[k::2]) for k in range(2)]
    verdicts = [(row, fold[1 - k].judge(row.question, row.candidates)[0]) for k in range(2) for row in lists[k::2]]
    hits = [row.right[verdict.candidates[0]] for row, verdict in verdicts]
    reader_hits = [row.right[0] for row, _ in verdicts]
    judged, read = (sum(values) / len(values) for values in (hits, reader_hits))
    print(f"{len(lists)} lists; two folds: the judge's first is right in {judged:.3f}, the reader's in {read:.3f}")
    print(f"calibration error {calibration_error([verdict.probability for _, verdict in verdicts], hits):.3f}; {confidence}")
    fit_judge(lists).save(args.out / "judge.json")


STAGES = {"generated": stage_generated, "people": stage_people, "average": stage_average, "judge": stage_judge}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("models/reader"))
    parser.add_argument("--stage", choices=STAGES, help="only this one; all four in their order if not given")
    parser.add_argument("--num_steps", type=int, help="of the trainings; 800 and 1,300 if not given")
    parser.add_argument("--start", type=Path, help="weights of a first stage made earlier; then `generated` is left out")
    parser.add_argument("--written", type=float, default=0.2, help="share of questions to the pages of tools/written_pages.py")
    parser.add_argument("--lines", type=float, default=0.26, help="share of questions to the documents of tools/written_lines.py")
    parser.add_argument("--manuals", type=Path, help="a folder made by tools/manual_lines.py; without it no manual teaches")
    parser.add_argument("--manual_share", type=float, default=0.42, help="share of questions to manuals, if they teach")
    parser.add_argument("--learning_rate", type=float, default=1.4e-4, help="of the trainings on questions of people")
    parser.add_argument("--lists", type=int, default=240, help="that the judge learns from, of each source at most")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.stage] if args.stage else [name for name in STAGES if not (args.start and name == "generated")]:
        print(f"# {name}", flush=True)
        STAGES[name](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
