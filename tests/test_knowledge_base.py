"""The knowledge base: exact ranges for any text, exact search, shared by threads and processes, and nothing lost to `kill -9`."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knowledge_writers import HashedWords, Nursery, is_alive, page

from lightbulb.core.errors import StoreClosedError, StoreError
from lightbulb.core.records import Document, Heading, Link
from lightbulb.knowledge.knowledge_base import KnowledgeBase, KnowledgeBaseConfig, Refreshed, mix_rankings, top_indices
from lightbulb.knowledge.postgres import TemporaryServer, is_server_address
from lightbulb.knowledge.store import Note


NewPlace = Callable[[], str]


@pytest.fixture(params=["file", "server"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> NewPlace:
    "Where a new, empty knowledge base may stand: what is true of a file is true of a server."
    if request.param == "server": return request.getfixturevalue("postgres_server").new_database
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.sqlite")


@pytest.fixture
def base(new_place: NewPlace) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add(page(i) for i in range(30))
        yield base


# ---- what goes in comes out ----

TEXTS = st.one_of(
    st.text(max_size=400),
    st.lists(st.sampled_from(["lamp", "Dr.", "\n", "\n\n", "3.5", "\0", "\ud800", "日本", "It.", "a | b", '"x"']), max_size=150).map(
        " ".join
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.text(max_size=40))
def test_any_page_comes_back_equal_and_every_passage_is_verbatim(texts: list[str], query: str) -> None:
    _keep_and_find(":memory:", texts, query)


@settings(max_examples=12, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), query=st.text(max_size=40))
def test_any_page_comes_back_equal_from_a_server(postgres_server: TemporaryServer, texts: list[str], query: str) -> None:
    _keep_and_find(postgres_server.new_database(), texts, query)


def _keep_and_find(place: str, texts: list[str], query: str) -> None:
    documents = [
        page(i, text, description=text[:20], headings=(Heading(1, text[:5], 0),), links=(Link("https://a.example/", text[:9]),))
        for i, text in enumerate(texts)
    ]
    with KnowledgeBase(place, embed=HashedWords(), config=KnowledgeBaseConfig(max_words=20)) as base:
        base.add(documents)
        kept = {document.url: document for document in base.documents()}
        assert list(kept.values()) == documents
        for mode in ("hybrid", "dense", "keyword"):
            for passage in base.search(query + " lamp", 5, mode=mode):
                assert passage.text == kept[passage.url].text[passage.start : passage.end] != ""
        assert base.check() == []


QUERIES = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(['"', "*", "AND", "|", "NOT", "NEAR(", ")", "-", ":", "^", "title:", "lamp", "'", ";", "\0", "_", "\ud800", "\\"]),
        max_size=12,
    ).map(" ".join),
)


@settings(max_examples=150, deadline=None)
@given(QUERIES)
def test_no_query_breaks_the_search(query: str) -> None:
    for mode in ("hybrid", "dense", "keyword"):
        assert isinstance(SHARED.search(query, 3, mode=mode), list)


SHARED = KnowledgeBase(":memory:", embed=HashedWords())
SHARED.add(page(i) for i in range(5))


@pytest.fixture(scope="module")
def shared_on_server(postgres_server: TemporaryServer) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(postgres_server.new_database(), embed=HashedWords()) as base:
        base.add(page(i) for i in range(5))
        yield base


@settings(max_examples=80, deadline=None)
@given(query=QUERIES)
def test_no_query_breaks_the_search_of_a_server(shared_on_server: KnowledgeBase, query: str) -> None:
    for mode in ("hybrid", "dense", "keyword"):
        assert isinstance(shared_on_server.search(query, 3, mode=mode), list)


def test_adding_again_computes_nothing_and_a_changed_page_replaces_its_chunks(base: KnowledgeBase) -> None:
    embed = base.embed
    assert isinstance(embed, HashedWords)
    read = len(embed.read)
    base.add([page(3, fetched_at=5.0)])
    assert len(embed.read) == read and base.document(page(3).url) == page(3, fetched_at=5.0)
    base.add([page(3, "Page 3 now tells of nothing but zirconium.")])
    assert len(embed.read) == read + 1 and len(base) == 30
    assert [p.url for p in base.search("zirconium", 3, mode="keyword")] == [page(3).url]
    assert base.search("lamp3", 3, mode="keyword") == [] and base.check() == []
    base.add([page(3)])
    assert base.search("zirconium", 3, mode="keyword") == [] and base.search("zirconium", 40, mode="dense")[0].url != "" and len(base) == 30


def test_a_chunk_that_is_known_is_not_embedded_again(base: KnowledgeBase) -> None:
    embed = base.embed
    assert isinstance(embed, HashedWords)
    long = " ".join(f"Sentence {i} of the long page is about thing {i}." for i in range(60))
    base.add([page(40, long)])
    read = len(embed.read)
    base.add([page(40, long + " One sentence more.")])
    assert len(embed.read) - read <= 2


def test_of_two_versions_in_one_call_the_last_counts_and_duplicates_are_one_page(new_place: NewPlace) -> None:
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add([page(1, "Old text."), page(1, "New text.")])
        found = base.document(page(1).url)
        assert found is not None and (len(base), found.text) == (1, "New text.")


def test_a_failing_embedder_leaves_the_base_as_it_was(base: KnowledgeBase) -> None:
    class Broken(HashedWords):
        def __call__(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
            raise RuntimeError("no model")

    base.embed = Broken()
    with pytest.raises(RuntimeError, match="no model"):
        base.add([page(50)])
    assert len(base) == 30 and base.document(page(50).url) is None and base.check() == []


def test_a_page_that_is_replaced_or_forgotten_while_others_are_embedded_is_kept_as_it_was_given(new_place: NewPlace) -> None:
    class Meanwhile(HashedWords):
        happens: Callable[[], object] | None = None

        def __call__(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
            happens, self.happens = self.happens, None
            if happens:
                happens()
            return super().__call__(texts, query=query)

    place, embed, lamp = new_place(), Meanwhile(), page(1, headings=(Heading(1, "tells", 7),))
    with KnowledgeBase(place, embed=embed) as base, KnowledgeBase(place, embed=HashedWords()) as other:
        base.add([lamp], scope="demo")
        for number, happens in enumerate((lambda: other.add([page(1, "New.")], scope="demo"), lambda: other.forget("demo", [lamp.url])), 2):
            embed.happens = happens
            base.add([lamp, page(number)], scope="demo")
            assert base.document(lamp.url, scopes=["demo"]) == lamp and embed.happens is None
            assert base.search("lamp1", 1, mode="keyword")[0].text == lamp.text and base.check() == []


# ---- searching ----


def test_dense_search_is_exact(new_place: NewPlace) -> None:
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add(page(i) for i in range(200))
        for query in ("lamp17 light", "item 3 second", "Page 150"):
            texts = [f"{document.title}\n{document.text}" for document in base.documents()]
            exact = base.embed(texts).astype(np.float16).astype(np.float32) @ base.embed([query], query=True)[0]
            found = base.search(query, 10, mode="dense")
            by_url = {page(i).url: exact[i] for i in range(200)}
            assert np.allclose([p.score for p in found], np.sort(exact)[::-1][:10], atol=1e-6)
            assert np.allclose([p.score for p in found], [by_url[p.url] for p in found], atol=1e-6)
            if not is_server_address(base.path):  # a server adds in another order, which decides between equals
                assert [p.url for p in found] == [page(int(i)).url for i in top_indices(exact, 10)]


def test_keyword_search_is_bm25_and_weighs_the_title(new_place: NewPlace) -> None:
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add(
            [
                page(1, "A tungsten wire is mentioned here once among many words."),
                Document("https://t.example/", "Tungsten", "A metal."),
                page(2),
                page(3),
                page(4),
                page(5),
            ]
        )
        found = base.search("what is tungsten?", 5, mode="keyword")
        assert [p.title for p in found] == ["Tungsten", "Lamp 1"] and found[0].score > found[1].score > 0
        assert [p.title for p in base.search("wires", 5, mode="keyword")] == ["Lamp 1"]  # stemmed


def test_accents_are_no_matter_however_they_are_written(new_place: NewPlace) -> None:
    names = ["İstanbul", "Zürich", "йод", "서울", "Việt", "Málaga"]
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add(Document(f"https://places.example/{i}", f"Place {i}", f"The ferry to {name} leaves.") for i, name in enumerate(names))
        for i, name in enumerate(names):
            for query in (name, unicodedata.normalize("NFD", name)):
                assert [p.title for p in base.search(query, 3, mode="keyword")] == [f"Place {i}"], ascii(query)
        assert base.search("istanbul", 1, mode="keyword")[0].title == "Place 0"


def test_hybrid_is_the_mix_of_both(base: KnowledgeBase) -> None:
    query = "lamp7 second item"
    dense = {p.url: p.score for p in base.search(query, 30, mode="dense")}
    keyword = {p.url: p.score for p in base.search(query, 30, mode="keyword")}
    urls = [page(i).url for i in range(30)]
    mixed = mix_rankings(
        np.array([dense[u] for u in urls]), np.array([keyword.get(u, 0.0) for u in urls]), dense_weight=base.config.dense_weight
    )
    expected = [urls[i] for i in top_indices(mixed, 10)]
    assert [p.url for p in base.search(query, 10)] == expected and expected[0] == page(7).url


def test_the_reranker_reads_the_best_and_decides(base: KnowledgeBase) -> None:
    asked: list[int] = []

    def rerank(query: str, texts: list[str]) -> list[float]:
        asked.append(len(texts))
        return [float("lamp22 " in text) for text in texts]

    base.rerank, base.config = rerank, KnowledgeBaseConfig(rerank_depth=30, rerank_weight=1.0)
    assert base.search("light", 3)[0].url == page(22).url and asked == [30]
    assert len(base.search("light", 3)) == 3


def test_wrong_questions_are_refused(base: KnowledgeBase) -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        base.search("lamp", 0)
    with pytest.raises(ValueError, match="mode must be"):
        base.search("lamp", mode="magic")  # type: ignore[arg-type]
    assert base.search("  ") == [] and KnowledgeBase(embed=HashedWords()).search("lamp") == []
    wrongs: list[dict[str, Any]] = [{"max_words": 0}, {"dense_weight": 1.5}, {"overlap": -1}, {"rerank_weight": float("nan")}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            KnowledgeBaseConfig(**wrong)


def test_titles_are_found_as_people_write_them(new_place: NewPlace) -> None:
    names = [
        "Thomas Edison",
        "Henry II",
        "Henry III",
        "American Civil War",
        "The Lamp (film)",
        "The Lamp (novel)",
        "Café Lumière",
        "Theodred II (Bishop of Elmham)",
        "GE",
    ]
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add(Document(f"https://n.example/{i}", name, "Text.") for i, name in enumerate(names))
        assert base.titles() == names
        for asked, expected in {
            "Thomas Edison": "Thomas Edison",
            "thomas  EDISON.": "Thomas Edison",
            "Thomas Edisson": "Thomas Edison",
            "Henry III": "Henry III",
            "Henry IV": None,
            "American Civl War": "American Civil War",
            "Lamp": "The Lamp (film)",
            "The Lamp (novel)": "The Lamp (novel)",
            "cafe lumiere": "Café Lumière",
            "Theodred II": "Theodred II (Bishop of Elmham)",
            "Nikola Tesla": None,
            "": None,
            "?!": None,
            "GM": None,
        }.items():
            found = base.lookup(asked)
            assert (found.title if found else None) == expected, asked
        assert [document.title for document in base.lookup_all("the lamp")] == ["The Lamp (film)", "The Lamp (novel)"]


# ---- whose memory, and how old ----


def test_a_question_sees_only_what_was_read_through_the_back_ends_that_it_names(new_place: NewPlace) -> None:
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:
        base.add([page(1)], scope="demo")
        base.add([page(2, "A private lamp in the cellar.")], scope="folder:notes")
        base.add([page(3)], scope="demo")
        base.add([page(3)], scope="folder:notes")  # both know it
        base.add([page(4)])  # nobody's
        seen = lambda **settings: {passage.url for passage in base.search("lamp light cellar", 9, **settings)}
        number = lambda *numbers: {page(i).url for i in numbers}
        for mode in ("hybrid", "dense"):
            assert seen(mode=mode) == number(1, 2, 3, 4)
            assert seen(mode=mode, scopes=["demo"]) == number(1, 3)
            assert seen(mode=mode, scopes=["folder:notes"]) == number(2, 3)
            assert seen(mode=mode, scopes=["demo", "folder:notes"]) == number(1, 2, 3)
            assert seen(mode=mode, scopes=[]) == seen(mode=mode, scopes=["wikipedia"]) == set()
        assert seen(mode="keyword", scopes=["demo"]) <= number(1, 3) and seen(mode="keyword", scopes=["folder:notes"]) == number(2, 3)
        assert base.lookup("Lamp 2", scopes=["demo"]) is None and base.lookup("Lamp 2", scopes=["folder:notes"]) is not None
        assert base.document(page(2).url, scopes=["demo"]) is None
        assert base.titles(scopes=["demo"]) == ["Lamp 1", "Lamp 3"] == [document.title for document in base.documents(scopes=["demo"])]
        with pytest.raises(ValueError, match="one string 'demo'"):
            base.search("lamp", scopes="demo")


def test_a_narrow_search_finds_as_many_as_a_base_of_its_own(new_place: NewPlace) -> None:
    "The filter comes before the choice of the best, not after."
    with KnowledgeBase(new_place(), embed=HashedWords(), config=KnowledgeBaseConfig(num_candidates=5)) as base:
        base.add((page(i, f"A lamp, a lamp, the lamp {i}.") for i in range(40)), scope="site:crowd")
        base.add((page(i) for i in range(100, 104)), scope="site:few")
        with KnowledgeBase(new_place(), embed=HashedWords()) as alone:
            alone.add(page(i) for i in range(100, 104))
            for mode in ("hybrid", "dense"):
                urls = [p.url for p in base.search("lamp", 4, mode=mode, scopes=["site:few"])]
                assert sorted(urls) == sorted(p.url for p in alone.search("lamp", 4, mode=mode))


def test_a_narrow_search_by_words_costs_what_a_wide_one_costs() -> None:
    with KnowledgeBase(":memory:", embed=HashedWords()) as base:
        base.add((page(i) for i in range(600)), scope="here")
        query, seconds = page(7).text[:60], {}
        for scopes in (None, {"here"}):
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                found = base.search(query, 5, mode="keyword", scopes=scopes)
                times.append(time.perf_counter() - begin)
            assert len(found) == 5
            seconds[scopes is None] = min(times)
        assert seconds[False] < 20 * seconds[True]  # asked once for each chunk, the index took hundreds of times as long


def test_an_entry_has_an_age_and_is_looked_at_again(base: KnowledgeBase) -> None:
    now = time.time()
    base.add([page(1), page(2), page(3), page(4)], scope="site:lamps", checked_at=now - 1000)
    base.add([page(5)], scope="site:lamps")
    assert {p.url for p in base.search("lamp1 light", 9, scopes=["site:lamps"], max_age=500)} == {page(5).url}
    first, *_, last = base.entries(scopes=["site:lamps"])
    assert (first.url, first.checked_at, first.content_hash) == (page(1).url, now - 1000, page(1).content_hash) and last.url == page(5).url
    asked: list[str] = []

    def read(urls: list[str]) -> list[object]:
        asked.extend(urls)
        now_there: dict[str, object] = {page(1).url: page(1), page(2).url: page(2, "All new and about zirconium."), page(3).url: None}
        return [now_there.get(url, "read_timeout") for url in urls]

    refreshed = base.refresh(read, scope="site:lamps", max_age=500)
    assert asked == [page(i).url for i in (1, 2, 3, 4)]
    assert refreshed == Refreshed((page(1).url,), (page(2).url,), (page(3).url,), (page(4).url,))
    assert base.search("zirconium", 1, mode="keyword", scopes=["site:lamps"], max_age=500)[0].url == page(2).url
    assert base.titles(scopes=["site:lamps"]) == ["Lamp 1", "Lamp 2", "Lamp 4", "Lamp 5"] and base.check() == []
    assert base.document(page(3).url) is None  # no scope has it any more
    assert base.refresh(read, scope="site:lamps", max_age=500).unchecked == (page(4).url,)
    base.add([page(1)], scope="site:lamps", checked_at=now - 1000)
    for ask in (
        lambda: base.refresh(lambda urls: [None] * len(urls), scope="site:lamps", urls=page(15).url),
        lambda: base.forget("site:lamps", page(1).url),
    ):
        with pytest.raises(ValueError, match="urls must be a collection of addresses, got one string 'https://"):
            ask()
    assert base.document(page(1).url) is not None


def test_forgetting_a_scope_keeps_what_others_know(base: KnowledgeBase) -> None:
    base.add([page(1), page(2)], scope="demo")
    base.add([page(2)], scope="folder:notes")
    assert base.forget("demo") == 2 and base.forget("demo") == 0
    assert base.document(page(1).url) is None and base.document(page(2).url) == page(2) and base.check() == []
    assert page(1).url not in {p.url for p in base.search("lamp1", 50, mode="dense")} and len(base) == 29


def test_a_search_in_a_scope_that_is_forgotten_meanwhile_finds_nothing(base: KnowledgeBase, monkeypatch) -> None:
    base.add([page(1)], scope="demo")
    nearest = base.store.nearest
    monkeypatch.setattr(base.store, "nearest", lambda *args, **options: base.forget("demo") and nearest(*args, **options))
    assert base.search("lamp1 light", 5, scopes=["demo"]) == []


def test_notes_are_kept_by_their_back_ends_and_outlived_by_their_pages(base: KnowledgeBase) -> None:
    long, odd = "Which lamp? " * 1000, "Who made \0 it \ud800?"
    made_of = {page(1).url: page(1).content_hash, page(2).url: page(2).content_hash}
    base.add([page(1), page(2)], scope="demo")
    base.note([Note("results", long, "[]", ("demo",)), Note("summary", odd, "A lamp.", ("demo", "folder:notes"), made_of)])
    now, at = time.time(), lambda *, kind, **more: [(note.key, note.text) for note in base.notes(kind, **more)]
    assert at(kind="results", key=long, scopes=["demo"], max_age=60) == [(long, "[]")]
    assert at(kind="summary") == [("Who made   it ??", "A lamp.")] and at(kind="summary", scopes=["demo"]) == []  # not of a private folder
    assert at(kind="summary", scopes=["folder:notes", "demo", "wikipedia"]) == at(kind="summary", key=odd)
    base.note([Note("results", long, "[1]", ("demo",)), Note("results", long, "[0]", ("demo",), noted_at=now - 1000)])
    base.note([Note("results", "old", "[]", ("demo",), noted_at=now - 1000)])
    assert [note.text for note in base.notes("results", key=long)] == ["[1]"]  # the newest
    assert [note.key for note in base.notes("results", scopes=["demo"], max_age=500)] == [long]
    assert not base.search("Who made it, which lamp", 50, scopes=["folder:notes"]) and base.check() == []
    base.add([page(2, "All new.")], scope="demo")
    assert base.notes("summary") == []
    base.add([page(2)], scope="demo")
    assert len(base.notes("summary")) == 1
    assert base.forget("demo", [page(1).url]) == 1 and len(base.notes("results")) == 2
    base.add([page(1)], scope="demo")
    assert base.notes("summary") == []  # gone with its page
    base.note([Note("summary", odd, "A lamp.", ("demo", "folder:notes"))])
    base.forget("folder:notes")
    assert base.notes("summary") == []
    assert base.forget("demo") == 2 and base.notes("results") == []


def test_notes_are_copied_with_the_pages(base: KnowledgeBase, new_place: NewPlace) -> None:
    base.note([Note("results", "lamp", "[]", ("demo",))])
    place = new_place()
    base.save(place)
    with KnowledgeBase.load(place, embed=HashedWords()) as copy:
        assert copy.notes("results") == base.notes("results") != []


def test_a_file_of_the_first_format_is_taken_over_and_its_pages_belong_to_nobody(tmp_path: Path) -> None:
    with KnowledgeBase(tmp_path / "b.sqlite", embed=HashedWords()) as base:
        base.add([page(1)], scope="demo")
    with sqlite3.connect(tmp_path / "b.sqlite") as old:
        old.executescript("DROP TABLE readings; DROP TABLE notes; PRAGMA user_version = 1;")
    old.close()
    with KnowledgeBase.load(tmp_path / "b.sqlite", embed=HashedWords()) as base:
        assert base.search("lamp", 1)[0].url == page(1).url and base.search("lamp", 1, scopes=["demo"]) == []
        base.add([page(1)], scope="demo")
        assert base.search("lamp", 1, scopes=["demo"])[0].url == page(1).url and base.check() == []


# ---- files ----


def test_reloading_computes_nothing(tmp_path: Path, base: KnowledgeBase) -> None:
    expected = base.search("lamp7 light", 5)
    base.save(tmp_path / "copy.sqlite")
    embed = HashedWords()
    with KnowledgeBase.load(tmp_path / "copy.sqlite", embed=embed) as copy:
        copy.add(page(i) for i in range(30))
        assert embed.read == [] and len(copy) == 30 and copy.check() == []
        found = copy.search("lamp7 light", 5)
        assert found[0].text == expected[0].text and embed.read == ["lamp7 light"]
        assert np.allclose([passage.score for passage in found], [passage.score for passage in expected], atol=1e-6)
        assert found == expected or is_server_address(base.path)  # a server adds in another order
        copy.save()
        assert not (tmp_path / "copy.sqlite-wal").exists() or (tmp_path / "copy.sqlite-wal").stat().st_size == 0


def test_saving_over_a_base_replaces_it_for_whoever_has_it_open(tmp_path: Path) -> None:
    base = KnowledgeBase(embed=HashedWords())
    base.add(page(i) for i in range(30))
    with KnowledgeBase(tmp_path / "b.sqlite", embed=HashedWords()) as reader:
        reader.add([page(99, "Old and gone.")])
        assert reader.search("old gone", 1, mode="dense")
        base.save(tmp_path / "b.sqlite")
        assert len(reader) == 30 and reader.search("lamp4", 1, mode="keyword")[0].url == page(4).url
        assert {p.url for p in reader.search("light lamp4", 40, mode="dense")} == {page(i).url for i in range(30)}
        for shift in (5, 10):  # as many chunks under the same numbers
            other = KnowledgeBase(embed=HashedWords())
            other.add(page(i, f"It tells of lamp{i + shift} alone.") for i in range(30))
            other.save(tmp_path / "b.sqlite")
            with KnowledgeBase(tmp_path / "b.sqlite", embed=HashedWords()) as fresh:
                assert reader.search("lamp17", 3, mode="dense") == fresh.search("lamp17", 3, mode="dense")
        wider = HashedWords()
        wider.width *= 2
        other = KnowledgeBase(embed=wider)
        other.add([page(1)])
        other.save(tmp_path / "b.sqlite")
        with pytest.raises(StoreError, match=r"b\.sqlite: its vectors must have width \d+, got \d+"):
            reader.search("lamp1", 3, mode="dense")
    sqlite3.connect(tmp_path / "foreign.sqlite").executescript("CREATE TABLE mine (x);")
    with pytest.raises(StoreError, match=r"foreign\.sqlite: a SQLite file of another program"):
        base.save(tmp_path / "foreign.sqlite")


@pytest.mark.parametrize("damage", ["text", "foreign", "folder", "half", "noise", "missing"])
def test_a_foreign_or_damaged_file_is_refused_with_its_path(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "base.sqlite"
    with KnowledgeBase(path, embed=HashedWords()) as base:
        base.add(page(i) for i in range(200))
    content = path.read_bytes()
    for name in tmp_path.iterdir():
        name.unlink()
    match damage:
        case "text":
            path.write_text("These are my notes, and they are longer than a header. " * 40)
        case "foreign":
            sqlite3.connect(path).executescript("CREATE TABLE mine (x); INSERT INTO mine VALUES (1);")
        case "folder":
            path.mkdir()
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=r"base\.sqlite: ") as caught:
        with KnowledgeBase.load(path, embed=HashedWords()) as base:
            base.search("lamp7 light")
            raise AssertionError(f"no refusal; problems: {base.check()}")
    assert "\n" not in str(caught.value)
    if damage in ("text", "foreign"):
        assert path.read_bytes() == before


def test_vectors_of_another_model_are_refused_by_name_and_width(new_place: NewPlace) -> None:
    place = new_place()
    KnowledgeBase(place, embed=HashedWords()).close()
    other, wider = HashedWords(), HashedWords()
    other.name, wider.width = "other-model", 64
    for embed in (other, wider):
        with pytest.raises(StoreError, match="its vectors are hashed-words's"):
            KnowledgeBase(place, embed=embed)


def test_a_lock_that_is_never_released_is_reported(tmp_path: Path) -> None:
    with KnowledgeBase(tmp_path / "b.sqlite", embed=HashedWords(), config=KnowledgeBaseConfig(busy_timeout=0.2)) as base:
        holder = sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreError, match="another process holds it"):
            base.add([page(1)])
        assert time.monotonic() - started < 3 and base.search("lamp") == []
        holder.execute("ROLLBACK")
        base.add([page(1)])
        assert len(base) == 1


# ---- many at once ----


def test_threads_add_and_search_one_base(new_place: NewPlace) -> None:
    failures: list[BaseException] = []
    with KnowledgeBase(new_place(), embed=HashedWords()) as base:

        def work(first: int) -> None:
            try:
                for i in range(first, first + 40, 4):
                    base.add(page(j) for j in range(i, i + 4))
                    for mode in ("hybrid", "dense"):
                        assert page(i).url in {p.url for p in base.search(f"lamp{i} page {i}", 500, mode=mode)}
            except BaseException as error:  # noqa: BLE001 (reported below)
                failures.append(error)

        threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == [] and len(base) == 160 and base.check() == []


def test_one_connection_sees_what_another_writes_replaces_and_keeps(new_place: NewPlace) -> None:
    place = new_place()
    one, two = (KnowledgeBase(place, embed=HashedWords()) for _ in range(2))
    one.add(page(i) for i in range(10))
    assert len(two.search("lamp light", 50, mode="dense")) == 10
    one.add([page(3, "Only zirconium now.")])
    assert {p.text for p in two.search("zirconium", 50, mode="dense") if p.url == page(3).url} == {"Only zirconium now."}
    two.add([page(11)])
    assert len(one.search("lamp light", 50, mode="dense")) == 11 == len(two.search("lamp light", 50, mode="dense"))
    one.close()
    two.close()
    with pytest.raises(StoreClosedError, match="closed"):
        one.search("lamp")


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def _wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition()


def test_eight_processes_create_the_same_base_at_once(new_place: NewPlace, nursery: Nursery) -> None:
    place = new_place()
    started = [nursery.start("create", place, i) for i in range(8)]
    _wait_until(lambda: not any(is_alive(number) for number in started))
    with KnowledgeBase(place, embed=HashedWords()) as base:
        assert len(base) == 8 and base.check() == []


def test_three_writers_killed_again_and_again_lose_no_acknowledged_page(new_place: NewPlace, tmp_path: Path, nursery: Nursery) -> None:
    path, failed, chance = new_place(), tmp_path / "failed", random.Random(7)
    num_kills = 25 if is_server_address(path) else 100
    notes = [tmp_path / f"notes{writer}" for writer in range(3)]
    size = lambda victim: notes[victim].stat().st_size if notes[victim].exists() else 0
    start = lambda writer: nursery.start("write", path, writer, str(notes[writer]))
    writers = [start(writer) for writer in range(3)]
    reader = nursery.start("search", path, str(failed))
    for _ in range(num_kills):
        victim = chance.randrange(3)
        before = size(victim)
        if chance.random() < 0.5:
            _wait_until(lambda victim=victim, before=before: size(victim) > before)  # others die while opening
        time.sleep(chance.uniform(0.0, 0.08))
        assert is_alive(writers[victim]), "a writer ended by itself"
        nursery.kill(writers[victim])
        writers[victim] = start(victim)
    assert is_alive(reader), failed.read_text()
    for number in (*writers, reader):
        nursery.kill(number)

    lines = [line.split() for note in notes for line in note.read_text().splitlines()]
    newest = {int(slot): (int(number), int(digest)) for slot, number, digest in lines}  # a writer's notes are in order
    print(f"{len(lines)} acknowledged writes")
    assert len(lines) > num_kills
    with KnowledgeBase(path, embed=HashedWords()) as base:
        assert base.check() == []
        for slot, (number, digest) in newest.items():
            document = base.document(page(slot).url)
            assert document is not None
            found = int(document.text.split()[1])
            assert found > number or zlib.crc32(document.text.encode()) == digest  # later ones were committed, not yet noted
            passages = [p for p in base.search(f"Version {found}", 10_000, mode="dense") if p.url == document.url]
            assert passages and all(p.text == document.text[p.start : p.end] for p in passages)
