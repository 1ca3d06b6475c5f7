"What others learn from the file of episodes: a language model, a ranking and a judge, each better than before on episodes unseen."

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_site import Letters
from test_web_agent import DemoPages, PatternReader, make_agent

from lightbulb import reading
from lightbulb.agent.environment import SearchTask
from lightbulb.agent.episodes import EpisodeFile, gains_of, judged_of, reading_of
from lightbulb.agent.tools import Tools
from lightbulb.knowledge.page_ranking import PageRanker
from lightbulb.knowledge.ranking import RankingModel, ndcg
from lightbulb.lm.language_model import load_language_model
from lightbulb.lm.training import TrainLanguageModel, train_language_model
from lightbulb.reading.judge import Judge, fit_judge
from lightbulb.reading.reader import AnswerSpan, SpanReader
from lightbulb.reading.teaching import TrainReader, train_reader
from lightbulb.web.demo_site import demo_questions


@pytest.fixture(scope="module")
def site() -> DemoPages:
    return DemoPages()


@pytest.fixture(scope="module")
def episodes(site: DemoPages, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    "Two files of episodes of the untrained agent over the demo site: those to learn from, and those that nobody learns from."
    agent = make_agent(Tools(site, PatternReader(), Letters()), "ordered", refusal_chance=0.0)
    folder = tmp_path_factory.mktemp("episodes")
    files = [EpisodeFile(folder / f"{name}.jsonl") for name in ("learn", "held_out")]
    questions = [one.question for one in demo_questions("train") if one.question.split()[0] in ("Who", "Where", "When")][:24]
    for number, question in enumerate(questions):
        files[number % 2].append(agent.play(SearchTask(question)).row())
    return files[0].path, files[1].path


def rows_of(path: Path) -> list[dict]:
    return EpisodeFile(path).read()


def test_a_ranking_learns_from_episodes_to_order_the_pages_of_others(site: DemoPages, episodes: tuple[Path, Path]) -> None:
    ranker = PageRanker(list(site.documents.values()), Letters(), model=RankingModel.load())
    lists = {
        name: [ranker.labelled(question, gains) for question, gains in gains_of(rows_of(path)).items()]
        for name, path in zip(("learn", "held_out"), episodes, strict=True)
    }
    lists = {name: [one for one in values if one.gains.any()] for name, values in lists.items()}
    assert min(map(len, lists.values())) >= 5
    value = lambda: float(np.mean([ndcg(ranker.model.scores(one.features), one.gains) for one in lists["held_out"]]))
    before = value()
    ranker.model.update(lists["learn"])  # the shipped weights are held to, so that few episodes cannot spoil them
    assert value() >= before
    ranker.model.update(lists["learn"], pull=1.0)  # what letters are worth as vectors is not what those weights know
    assert value() > before


def read_by_pattern(question: str, texts: list[str]) -> list[AnswerSpan]:
    "What the patterns see, and how sure, which has nothing to do with the page."
    spans = PatternReader().read(question, texts, top_k=99)
    return [AnswerSpan(one.text_index, one.start, one.end, one.text, "other", 0.5, float(len(one.text)), 0.0) for one in spans]


def test_a_judge_learns_from_episodes_which_page_to_believe_in_others(site: DemoPages, episodes: tuple[Path, Path]) -> None:
    letters = Letters()
    likeness = lambda question, texts: list(10 * letters(texts) @ letters([question])[0]) if texts else []
    urls = {document.title: url for url, document in site.documents.items()}
    gold = {one.question: {urls[title] for title in one.gold_pages} for one in demo_questions("train")}
    lists = [judged_of(rows_of(path), gold, read_by_pattern, likeness) for path in episodes]
    learn, held_out = ([one for one in some if any(one.right) and not all(one.right)] for some in lists)
    assert min(len(learn), len(held_out)) >= 4
    former = Judge.load()
    after = fit_judge(learn, ridge=0.1, former=former)
    value = lambda judge: float(
        np.mean([np.log(judge.shares(one.question, one.candidates)[:-1][list(one.right)].sum()) for one in held_out])
    )
    assert value(after) > value(former)


def test_a_reader_learns_from_episodes_on_which_page_to_look_in_others(
    site: DemoPages, episodes: tuple[Path, Path], tmp_path: Path
) -> None:
    urls = {document.title: url for url, document in site.documents.items()}
    gold = {one.question: {urls[title] for title in one.gold_pages} for one in demo_questions("train")}
    learn, held_out = (reading_of(rows_of(path), gold) for path in episodes)
    assert min(len(learn), len(held_out)) >= 4
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, learn)))
    shipped = Path(reading.__file__).with_name("weights") / "span_reader.safetensors"
    near = {"rank": 0, "first_layer": 11, "num_steps": 6, "batch_size": 3, "learning_rate": 2e-3}
    list(train_reader(TrainReader(tmp_path / "examples.jsonl", tmp_path / "reader", start=shipped, **near)))
    former, after = SpanReader.load(shipped), SpanReader.load(tmp_path / "reader")
    assert after.confidence == former.confidence

    def log_share(reader: SpanReader, example: dict) -> float:
        "Of the right page's spans among all and *not said*, nats."
        spans = reader.read(example["question"], example["texts"] + example["others"], top_k=8)
        odds = np.exp([span.margin for span in spans])
        return float(np.log(odds[[span.text_index < len(example["texts"]) for span in spans]].sum() / (1 + odds.sum())))

    before, now = (np.mean([log_share(reader, example) for example in held_out]) for reader in (former, after))
    assert now > before + 0.02


def test_a_language_model_learns_from_episodes_to_expect_others(episodes: tuple[Path, Path], tmp_path: Path) -> None:
    learn, held_out = episodes
    (tmp_path / "before.txt").write_text("The arc lamp burned bright in the long street. The oil lamp was dim.\n" * 60)
    size = {"preset": "tiny", "width": 32, "num_heads": 2, "num_layers": 1, "max_length": 64, "batch_size": 8, "num_epochs": 1}
    shared = {"device": "cpu", "model_name": "bytes", **size}
    folders = [tmp_path / "before", tmp_path / "after"]
    list(train_language_model(TrainLanguageModel(save_dir=folders[0], dataset_name=str(tmp_path / "before.txt"), **shared)))
    list(
        train_language_model(
            TrainLanguageModel(save_dir=folders[1], dataset_name=str(learn), transformer_model_path=folders[0] / "language_model", **shared)
        )
    )
    texts = [json.loads(line)["text"] for line in held_out.read_text().splitlines()][:4]
    scores = [sum(load_language_model(f"lightbulb:{folder}").score("Question:", [text[9:65] for text in texts])) for folder in folders]
    assert scores[1] > scores[0]
