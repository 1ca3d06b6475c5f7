"""Chunks and sentences: exact offsets for any text, and the cases that a plain split at full stops gets wrong."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.records import Document, Heading
from lightbulb.knowledge.chunks import Chunk, chunk_document, chunk_text, index_text, is_code, split_sentences

WORDS = st.sampled_from(
    [
        "Dr.",
        "J.",
        "R.",
        "Smith",
        "c.",
        "1890",
        "No.",
        "5",
        "lamp",
        "The",
        "it",
        "burned",
        "3.5",
        "V.",
        "...",
        "…",
        "e.g.",
        "U.S.",
        "\n",
        "\n\n",
        "# Head",
        "a | b",
        "\t",
        "“Yes!”",
        "(a bulb.)",
        "[12]",
        "。",
        "日本",
        "\r\n",
        "?!",
        "x" * 60,
        "\u00a0",
        "\u2028",
        "\ud800",
        "\0",
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=80).map(" ".join), st.lists(WORDS, max_size=80).map("".join))


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_sentences_hold_every_character_once_and_in_order(text: str) -> None:
    ranges = split_sentences(text)
    assert all(start < end for start, end in ranges)
    assert all(before[1] <= after[0] for before, after in zip(ranges, ranges[1:], strict=False))
    covered = {i for start, end in ranges for i in range(start, end)}
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
    assert all(not text[start].isspace() and not text[end - 1].isspace() for start, end in ranges)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 30), st.one_of(st.none(), st.integers(1, 200)), st.integers(0, 3))
def test_chunks_are_slices_within_the_budget_and_lose_nothing(text: str, max_words: int, max_chars: int | None, overlap: int) -> None:
    chunks = chunk_text(text, max_words=max_words, max_chars=max_chars, overlap=overlap)
    assert all(text[c.start : c.end] == c.text for c in chunks)
    assert all(len(c.text.split()) <= max_words and len(c.text) <= (max_chars or 10 * max_words) for c in chunks)
    assert all(a.start < b.start and a.end < b.end for a, b in zip(chunks, chunks[1:], strict=False))
    covered = {i for c in chunks for i in range(c.start, c.end)}
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Mr. J. R. Smith met Dr. Swan. They spoke.", 2),
        ("It was built c. 1890 by St. John's men.", 1),
        ("Symphony No. 5 is short. No. He refused.", 3),
        ("It drew 3.5 A at 1.5 V. The lamp lit.", 2),
        ("See Fig. 3 and Sec. 2.1, pp. 5–7, cf. Vol. II of it.", 1),
        ("“It works!” he said. “Does it?” She laughed.", 3),
        ("He waited... and waited. Then... It lit.", 3),
        ("He lived in the U.S. Navy yard. He left the U.S. The year was 1880.", 3),
        ("Swan & Co. Ltd. of London sold it. Edison Inc. It failed.", 3),
        ("Born Jan. 5, 1847 in Milan. Died Oct. 18, 1931.", 2),
        ("Thomas A. Edison and Lewis H. Latimer. A new lamp.", 2),
        ("Heading\nFirst sentence. Second one.\nAnother Heading\nThird.", 5),
        ("1. Introduction\n2. The lamp\n- one item\n- two items", 4),
        ("Metal | Melting point\nTungsten | 3422 °C", 2),
        ("the lamp . it burned for 3 . 5 hours .", 2),
        ("It melts at 3422 °C.[4] It is grey.[5][6]", 2),
        ("The years 1879–1880 were cold (see below). It rained.", 2),
        ("Is it on? Yes! Good.", 3),
        ("It drew 12 V. Edison measured it. Lamps lit Pearl St. The station of St. Paul closed.", 4),
        ("As Swan et al. showed in 1880 (see Swan et al. The lamp burned). He stood in. Edison sat.", 4),
        ("Visit www.example.org/a.b for more. e.g. this one.", 1),
        ("最初の電球。次の文。", 2),
        ("", 0),
        (" \n\t", 0),
    ],
)
def test_sentences_as_a_reader_would_cut_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count, sentences(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It reads 150 MB/s. The disk holds 2 GB. Then it stops.", 3),
        ("Keep the merge, e.g. --no-ff does so. Since 3.25.0 it is the default.", 2),
        ("Sources (cf. /etc/apt/sources.list) are read, i.e. $HOME is not. Run it.", 2),
        ("The file .gitignore is read. git then starts and apt follows.", 1),
        ("Run git add . && git commit, or git add . and wait.", 1),
        ("5.4. Manipulating Packages with dpkg", 1),
        ("Figure 3.2. A merge of two branches", 1),
        ("What is a branch? An overview", 1),
        ("Level: 1; Disks: 2 of 3; Use: fast. Unsafe", 1),
        ("Pos. | Driver Jr. | No. 5", 1),
        ("-f, --force: Overwrites the branch. Use it with care.", 2),
        ("Use these commands:\n\n    $ git add .\n    $ git commit -m 'Fix. Done.'\n\nThat is all.", 3),
    ],
)
def test_a_manual_as_a_reader_would_cut_it(text: str, count: int) -> None:
    assert len(sentences(text)) == count, sentences(text)


def test_code_stays_as_it_stands() -> None:
    code = "    if lit:\n        burn()  # No. Yes."
    text = f"Write this:\n\n{code}\n\nIt burns."
    assert sentences(text) == ["Write this:", code.strip(), "It burns."]
    assert is_code(text, text.index("burn()")) and not is_code(text, text.index("It burns"))
    assert [chunk.text for chunk in chunk_text(text, max_words=9, overlap=0)][0].endswith("# No. Yes.")


def test_a_chunk_knows_its_headings_and_the_index_reads_them() -> None:
    text = "Intro here.\n\nOPTIONS\n\n--timeout\n\nThe default is 900.\n\nSEE ALSO\n\nOther pages."
    headings = tuple(Heading(level, name, text.index(name)) for level, name in ((2, "OPTIONS"), (3, "--timeout"), (2, "SEE ALSO")))
    document = Document("u:/cache", "cache", text, headings=headings)
    chunks = {chunk.text: chunk for chunk in chunk_document(document, max_words=4, overlap=0)}
    assert chunks["The default is 900."].path == ("OPTIONS", "--timeout") and chunks["Intro here."].path == ()
    assert index_text(document, chunks["The default is 900."]) == "cache\nOPTIONS › --timeout\nThe default is 900."
    assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks.values())


def test_wrapped_lines_are_one_sentence_but_headings_are_not() -> None:
    wrapped = (
        "The first practical lamp burned for about fourteen hours in October of\nthe year 1879 after more than a thousand attempts that\n"
        "had all failed. It was sold soon."
    )
    assert len(sentences(wrapped)) == 2
    page = (
        "A heading of the page\nThe first practical lamp burned for about fourteen hours in October of the year 1879.\nNext Part\n"
        "More text."
    )
    assert sentences(page)[0] == "A heading of the page" and sentences(page)[2] == "Next Part"


def test_overlap_repeats_the_last_sentence() -> None:
    text = " ".join(f"Sentence number {i} has six words." for i in range(20))
    chunks = chunk_text(text, max_words=20, overlap=1)
    ranges = split_sentences(text)
    starts, ends = [r[0] for r in ranges], [r[1] for r in ranges]
    for before, after in zip(chunks, chunks[1:], strict=False):
        assert starts.index(after.start) == ends.index(before.end)
    plain = chunk_text(text, max_words=20, overlap=0)
    assert " ".join(c.text for c in plain) == text
    assert plain[0] == Chunk(0, len(plain[0].text), plain[0].text)


def test_a_chunk_ends_where_a_paragraph_ends_if_it_is_half_full() -> None:
    first, second = " ".join(["word"] * 29) + " end.", " ".join(["other"] * 20) + " end."
    assert [c.text for c in chunk_text(f"{first}\n\n{second}", max_words=45, overlap=0)] == [first, second]


@pytest.mark.parametrize("wrong", [{"max_words": 0}, {"max_chars": 0}, {"overlap": -1}])
def test_wrong_budgets_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        chunk_text("A lamp.", **wrong)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        "x" * 1_000_000,
        "A. " * 200_000,
        "a\n" * 200_000,
        "." * 300_000,
        "Mr. X. " * 100_000,
        "\n" * 300_000,
        "J. R. " * 100_000,
    ],
)
def test_huge_odd_texts_take_no_more_than_linear_time(text: str) -> None:
    started = time.process_time()
    chunk_text(text)
    assert time.process_time() - started < 8


def test_whether_a_line_is_code_costs_no_look_at_the_text_before_it() -> None:
    text = "The lamp – lit.\n" * 250_000
    started = time.process_time()
    assert not any(is_code(text, start) for start in range(0, len(text), 200))
    assert time.process_time() - started < 1
    assert is_code("a\r    b", 6) and is_code("a\n    b", 6) and not is_code("    a\nb\rc", 8)
