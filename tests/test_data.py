"Text becomes tokens once, every token is asked once, and nothing that is trained on is held back."

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.errors import UnavailableError
from lightbulb.lm.data import TokenStream, demo_documents, join_lines, load_texts, piece_bounds, read_hub, split_texts, tokenize
from lightbulb.lm.objectives import ObjectiveWeights, Pieces, TrainingBatches, ValidationBatches, corrupt_spans, load_batches, step_places
from lightbulb.lm.tokens import BytesTokenizer, load_tokenizer
from lightbulb.web.demo_site import load_articles

BYTES = BytesTokenizer()


def stream_of(ids: list[int]) -> TokenStream:
    return TokenStream(np.array(ids, np.uint16), len(ids), 1, 1)


def test_the_demo_is_the_text_of_the_demo_site() -> None:
    assert [text.split() for text in demo_documents()] == [load_articles()[slug].text.split() for slug in sorted(load_articles())]


# ------------------------------------------------------------------ where text comes from


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    texts = [f"Document {i} tells of lamp {i}.\n" for i in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"query": "q", "text": text}) + "\n" for text in texts))
    parquet.write_table(arrow.table({"title": ["t"] * 12, "story": texts}), tmp_path / "b.parquet")
    (tmp_path / "folder").mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "folder" / f"{i:02d}.txt").write_text(text)
    found = [load_texts(str(tmp_path / name)) for name in ("a.jsonl", "b.parquet", "folder")]
    assert all(one.train == found[0].train and one.validation == found[0].validation for one in found)
    assert sorted(found[0].train + found[0].validation) == sorted(texts)


def test_a_line_of_json_ends_at_a_newline_alone(tmp_path: Path) -> None:
    texts = [f"row {i} one{mark}two" for i, mark in enumerate("\u2028\u2029\x85")]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    for number, written in enumerate((lines, lines.replace("\n", "\n\n"), "\ufeff" + lines)):  # as it is, with empty lines, with a mark
        (tmp_path / f"{number}.jsonl").write_text(written, encoding="utf-8", newline="\r\n" if number else "\n")
        texts_read = load_texts(str(tmp_path / f"{number}.jsonl"))
        assert "".join(texts_read.train + texts_read.validation) == "".join(texts)


def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("\ufefflamp glass wire".encode())
    texts = load_texts(str(tmp_path / "x.txt"))
    assert "".join(texts.train + texts.validation) == "lamp glass wire"


@pytest.mark.parametrize(
    ("content", "said"), [("", "has no text"), ('{"n": 1}\n', "holds any"), ('{"text": ""}\n', "has no text"), ("{", "line 1 is not JSON")]
)
def test_a_file_without_text_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_texts(str(tmp_path / "x.jsonl"))
    assert len(str(caught.value).splitlines()) == 1


def test_the_ending_of_a_file_may_be_written_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "BOOK.TXT").write_text("a long book. " * 100)
    (tmp_path / "ROWS.JSONL").write_text(json.dumps({"text": "a row of a table. " * 20}))
    (tmp_path / "note.txt").write_text("a short note. " * 30)
    for path in (tmp_path, tmp_path / "BOOK.TXT"):
        texts = load_texts(str(path))
        assert "a long book." in "".join(texts.train + texts.validation)
    folder = load_texts(str(tmp_path))
    assert "a row of a table." in "".join(folder.train + folder.validation)
    with pytest.raises(ValueError, match="there is no file or folder"):
        load_texts("nowhere.TXT")


def test_a_hub_data_set_without_a_hub_fails_at_once_in_one_line() -> None:
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match="--dataset_name demo") as caught:
        load_texts("imdb")
    assert time.monotonic() - begin < 10 and len(str(caught.value).splitlines()) == 1


def test_a_hub_data_set_gives_its_own_validation_part(monkeypatch) -> None:
    import datasets

    asked = []

    def given_by_the_hub(name, config):
        asked.append((name, config))
        rows = [" = Lamps = \n", "", " Light . \n", " = Wax = \n", " Candles . \n"]
        return datasets.DatasetDict(
            {
                "test": datasets.Dataset.from_dict({"text": ["never read"]}),
                "train": datasets.Dataset.from_dict({"text": rows}),
                "validation": datasets.Dataset.from_dict({"text": [" = Oil = \n", " Burns . \n"]}),
            }
        )

    monkeypatch.setattr(datasets, "load_dataset", given_by_the_hub)
    texts = load_texts("wikitext", "wikitext-2-raw-v1")
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1")]
    assert texts.train == [" = Lamps = \n\n Light . \n", " = Wax = \n Candles . \n"] and texts.validation == [" = Oil = \n Burns . \n"]
    assert read_hub("wikitext", max_examples=1)[0] == [" = Lamps = \n"]


def test_a_hub_data_set_with_a_validation_part_alone_is_split(monkeypatch) -> None:
    import datasets

    rows = [f"row number {number} with some words" for number in range(100)]
    only = datasets.DatasetDict({"validation": datasets.Dataset.from_dict({"text": rows})})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: only)
    assert read_hub("some/benchmark") == (rows, [])
    texts = load_texts("some/benchmark")
    assert texts.train and texts.validation and sorted(texts.train + texts.validation) == sorted(rows)


@given(st.lists(st.sampled_from(["", " = A = \n", " text . \n", " = = B = = \n"]), max_size=12))
def test_joined_lines_lose_nothing(rows: list[str]) -> None:
    assert "".join(join_lines(rows)).split() == "".join(rows).split()


# ------------------------------------------------------------------ training and validation share nothing


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=30), min_size=2, max_size=40), st.randoms()
)
def test_no_document_is_on_both_sides(documents: list[str], random) -> None:
    if len(set(documents)) < 10: return
    train, validation = split_texts(documents)
    assert train and validation and not set(train) & set(validation)
    assert Counter(train + validation) == Counter(documents)
    shuffled = random.sample(documents, len(documents))
    assert set(split_texts(shuffled)[1]) == set(validation)


@pytest.mark.parametrize("num_notes", [9, 15, 400])
def test_a_text_that_is_most_of_a_data_set_is_trained_on(num_notes: int) -> None:
    for number in range(5):  # of five hashes
        book = f"book {number} " * 5000
        documents = [book, *(f"note {i} of {number} " * 10 for i in range(num_notes))]
        train, validation = split_texts(documents)
        assert book in train and 0 < sum(map(len, validation)) <= 0.2 * sum(map(len, documents))
    alike = [f"{i:03d} " * 50 for i in range(12)]
    assert len(split_texts(alike, fraction=0.01)[1]) == 1 and len(split_texts(alike)[1]) == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab \n", min_size=4, max_size=200), min_size=1, max_size=9, unique=True))
def test_a_few_documents_are_cut_without_loss(documents: list[str]) -> None:
    try:
        train, validation = split_texts(documents)
    except ValueError as error:
        assert "too little text" in str(error)
        return
    assert "".join(train + validation) == "".join(documents)


# ------------------------------------------------------------------ tokens are made once


class Counting(BytesTokenizer):
    calls = 0

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        self.calls += 1
        return super().encode(text)


def test_tokens_are_made_once_and_again_only_if_the_text_changed(tmp_path: Path) -> None:
    tokenizer = Counting()
    first = tokenize(["a lamp", "oil"], tokenizer, folder=tmp_path)
    assert tokenize(["a lamp", "oil"], tokenizer, folder=tmp_path).tokens.tolist() == first.tokens.tolist() and tokenizer.calls == 2
    tokenize(["a lamp", "gas"], tokenizer, folder=tmp_path)
    assert tokenizer.calls == 4
    for facts in tmp_path.glob("*.json"):
        facts.unlink()  # as if it had been killed between the two files
    assert tokenize(["a lamp", "oil"], tokenizer, folder=tmp_path).tokens.tolist() == first.tokens.tolist() and tokenizer.calls == 6


def test_a_compiled_tokenizer_gives_the_ids_that_it_gives_one_by_one(tmp_path: Path) -> None:
    tokenizer, texts = load_tokenizer("gpt2"), [*demo_documents()[:20], "a cut emoji \ud83d"]
    expected = [i for text in texts for i in (*tokenizer.encode(text), tokenizer.end_id)]
    assert tokenize(texts, tokenizer, folder=tmp_path).tokens.tolist() == expected


# ------------------------------------------------------------------ every token is asked once


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_pieces_hold_every_token_once(num_tokens: int, length: int, data) -> None:
    bounds = piece_bounds(num_tokens, length, data.draw(st.integers(0, length - 1)))
    assert bounds[0] == 0 and bounds[-1] == num_tokens and (np.diff(bounds) > 0).all() and np.diff(bounds).max() <= length


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 20), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
def test_an_epoch_scores_every_token_once_on_any_number_of_processes(
    num_tokens, batch_size, length, epoch, accumulation, processes
) -> None:
    batches = TrainingBatches(stream_of([i % 250 for i in range(num_tokens)]), BYTES, batch_size=batch_size, max_length=length, seed=7)
    scored, steps = [], set()
    for process in range(processes):
        places = step_places(batches.num_batches(epoch), epoch, accumulation_steps=accumulation, process=process, num_processes=processes)
        steps.add(len(places))
        for place in places:
            batch = batches[place]
            scored += batch.targets.flatten()[batch.rows()].tolist()
    assert len(steps) == 1, "all processes take the same number of steps"
    assert Counter(scored) == Counter(batches.stream.tokens.tolist())


def test_the_encoder_reads_what_comes_right_before(tmp_path: Path) -> None:
    held = ValidationBatches(stream_of(list(range(100))), BYTES, batch_size=4, max_length=8)
    rows = [
        row
        for index in range(len(held))
        for row in zip(*(getattr(held[index], name) for name in ("targets", "lengths", "encoder_tokens", "encoder_lengths")), strict=True)
    ]
    for number, (target, length, before, count) in enumerate(rows):
        assert target[:length].tolist() == list(range(8 * number, min(8 * number + 8, 100)))
        assert before[:count].tolist() == (list(range(8 * number - 8, 8 * number)) if number else [])


def test_batches_do_not_depend_on_workers_or_on_what_was_asked_before() -> None:
    make = lambda: TrainingBatches(
        stream_of([i % 251 for i in range(900)]), BYTES, batch_size=3, max_length=16, weights=ObjectiveWeights(1, 1, 1), seed=3
    )  # noqa: E731
    places = [(epoch, index) for epoch in range(2) for index in range(make().num_batches(epoch))]
    alone, worked = list(load_batches(make(), places)), list(load_batches(make(), places, num_workers=2))
    assert {batch.objective for batch in alone} == {"next", "span", "causal"}
    for one, two, place in zip(alone, worked, places, strict=True):
        direct = make()[place]
        for other in (two, direct):
            assert one.tokens.equal(other.tokens) and one.targets.equal(other.targets) and one.lengths.equal(other.lengths)
            assert (one.encoder_tokens is None) == (other.encoder_tokens is None)
            if one.encoder_tokens is not None:
                assert one.encoder_tokens.equal(other.encoder_tokens)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 600), st.integers(0, 2**32 - 1))
def test_spans_put_back_are_the_text(length: int, seed: int) -> None:
    tokens = np.arange(length)
    left, cut = corrupt_spans(tokens, 1000, np.random.default_rng(seed))
    spans = {int(part[0]): part[1:].tolist() for part in np.split(cut, np.flatnonzero(cut >= 1000)[1:])}
    assert [i for token in left for i in (spans[int(token)] if token >= 1000 else [int(token)])] == tokens.tolist()
    assert cut[-1] >= 1000 and not spans[int(cut[-1])]


def test_a_piece_before_the_first_is_empty() -> None:
    assert len(Pieces(stream_of([1, 2, 3]), 2)[-1]) == 0


# ------------------------------------------------------------------ tables


def table(folder: Path, rows: list[object]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_label_named_text_does_not_hide_the_body(tmp_path: Path, caplog) -> None:
    bodies = [f"Tin number {number} is soft and bright.\n" for number in range(40)]
    rows = [{"text": "x", "body": body} for body in bodies[:3]] + [{"body": body} for body in bodies[3:]] + [{"body": None}]
    texts = load_texts(table(tmp_path, rows))
    assert sorted(texts.train + texts.validation) == sorted(bodies)
    assert "1 of 41 rows hold no text in 'body' and are left out" in caplog.text


def test_addresses_are_no_text_and_a_line_may_be_one(tmp_path: Path) -> None:
    rows = [{"url": f"https://example.org/a/very/long/address/of/page/{number}", "words": f"Page {number} tells."} for number in range(20)]
    alone = [f"Line {number} stands alone." for number in range(20)]
    texts = load_texts(table(tmp_path, [*rows, *alone]))
    assert sorted(texts.train + texts.validation) == sorted([row["words"] for row in rows] + alone)


def test_a_choice_between_two_texts_is_told(tmp_path: Path, caplog) -> None:
    rows = [{"title": f"The long title of page {number}", "text": f"Lamp {number} burns oil, and tin is soft."} for number in range(20)]
    name = table(tmp_path, rows)
    assert all("burns oil" in text for text in load_texts(name).train)
    assert "the text is taken from 'text', not from 'title'; text_column says otherwise" in caplog.text
    caplog.clear()
    assert all("long title" in text for text in load_texts(name, text_column="title").train) and not caplog.text


def test_a_column_where_there_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Lamps burn.\n" * 40)
    for name in (str(tmp_path / "a.txt"), str(tmp_path), "demo"):
        with pytest.raises(ValueError, match="no columns, so text_column must be empty, got 'nope'"):
            load_texts(name, text_column="nope")
