"""Page ranking against definitions: PageRank as a surfer, BM25 by its formula, learning from lists, and what does not matter."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import Letters

from lightbulb.core.records import Document
from lightbulb.knowledge.chunks import chunk_document, index_text
from lightbulb.knowledge.knowledge_base import KnowledgeBase
from lightbulb.knowledge.page_ranking import PAGE_FEATURES, PageRanker, page_rank, read_judgements
from lightbulb.knowledge.ranking import RankingList, RankingModel, listwise_loss, ndcg, within_list

WORDS = "lamp filament tungsten carbon glass current heat light wire metal gas vacuum bulb socket".split()


def make_pages(count, seed=0):
    "Pages of random words."
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(5, 40))) for _ in range(count)]
    return [Document(f"http://site/{i}", f"{WORDS[i % len(WORDS)]} {i}", text) for i, text in enumerate(texts)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(st.integers(0, n), max_size=n), min_size=n, max_size=n)))
def test_pagerank_is_the_fixed_point_of_the_surfer(links):
    named = {str(i): [str(j) for j in row] for i, row in enumerate(links)}
    ranks = page_rank(named)
    count = len(links)
    jump = np.zeros((count, count))
    for i, row in enumerate(links):
        targets = {j for j in row if j < count and j != i}
        jump[:, i] = [1 / len(targets) * (j in targets) if targets else 1 / count for j in range(count)]
    vector = np.array([ranks[str(i)] for i in range(count)])
    assert np.allclose(vector, 0.15 / count + 0.85 * jump @ vector, atol=1e-8) and math.isclose(vector.sum(), 1.0, abs_tol=1e-8)


def test_vectors_of_many_pages_are_handed_out_in_one_pass():
    class Taken(PageRanker):
        def __init__(self, pages, embed, *, vectors, **_):
            self.vectors = vectors

    owners = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 20_001), 4))
    owners = owners[owners % 7 != 0]  # pages without a chunk
    numbered = lambda: ((number, None) for number in range(1, 20_001))
    store = SimpleNamespace(vectors=lambda width: (None, owners, owners[:, None]), numbered=numbered)
    started = time.process_time()
    ranker = Taken.over(SimpleNamespace(store=store, embed=Letters()))
    assert time.process_time() - started < 1
    assert all(rows.tolist() == [[number]] * (4 if number % 7 else 0) for number, rows in enumerate(ranker.vectors, 1))


def test_pages_keep_their_own_vectors_while_others_come_and_go(monkeypatch):
    pages, embed = make_pages(7), Letters()
    with KnowledgeBase(embed=embed) as base:
        base.add(pages[:5], scope="site")
        read, coming, going = base.store.vectors, iter(pages[5:]), iter(pages)

        def change():
            base.forget("site", [next(going).url])
            base.add([next(coming)], scope="site")

        def vectors(width):
            change()
            found = read(width)
            change()
            return found

        monkeypatch.setattr(base.store, "vectors", vectors)
        ranker = PageRanker.over(base, model=RankingModel(PAGE_FEATURES))
    own = [(page, ranker._chunks[ranker._chunk_pages == place]) for place, page in enumerate(ranker.pages)]
    assert [page.url for page, rows in own if len(rows)] == [page.url for page in pages[1:5]]
    for page, rows in own[1:]:
        assert np.allclose(rows, embed([index_text(page, chunk) for chunk in chunk_document(page)]), atol=1e-3)


def test_the_words_column_is_bm25f():
    pages = make_pages(30)
    places, features = PageRanker(pages, Letters(), model=RankingModel(PAGE_FEATURES)).measure("tungsten lamp")
    counts = lambda page, word: 3 * page.title.split().count(word) + page.text.split().count(word)
    length = lambda page: 3 * len(page.title.split()) + len(page.text.split())
    mean = sum(map(length, pages)) / len(pages)
    for place, value in zip(places, features[:, PAGE_FEATURES.index("words")], strict=True):
        expected = 0.0
        for word in ("tungsten", "lamp"):
            frequency = sum(counts(page, word) > 0 for page in pages)
            idf, count = math.log(1 + (len(pages) - frequency + 0.5) / (frequency + 0.5)), counts(pages[place], word)
            expected += idf * count * 2.6 / (count + 1.6 * (0.4 + 0.6 * length(pages[place]) / mean))
        assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("query", ["tungsten lamp", "xylophone", "a", "lamp lamp lamp", "\ud800 lamp", "lamp " * 300])
def test_any_query_gives_finite_measures_and_a_stable_order(query):
    pages = make_pages(40)
    ranker = PageRanker(pages, Letters(), model=RankingModel(PAGE_FEATURES))
    _, features = ranker.measure(query)
    assert np.isfinite(features).all()
    assert [page.url for page in ranker.rank(query, 5)] == [page.url for page in ranker.rank(query, 40)][:5]


def test_odd_collections_are_ranked():
    empty = [Document("http://site/a", "", ""), Document("http://site/b", "lamp", ""), Document("http://site/c", "", "lamp")]
    for pages in (empty, empty[:1], []):
        ranked = PageRanker(pages, Letters(), model=RankingModel(PAGE_FEATURES)).rank("lamp")
        assert len(ranked) == len(pages) and all(math.isfinite(page.score) for page in ranked)


def test_the_shipped_weights_fit_the_measures():
    model = RankingModel.load()
    assert model.feature_names == PAGE_FEATURES
    pages = make_pages(40)
    best = PageRanker(pages, Letters(), model=model).rank("tungsten", 1)[0]
    assert "tungsten" in f"{best.title} {dict((page.url, page.text) for page in pages)[best.url]}"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_do_not_feel_scale_order_or_company_of_copies(seed):
    random = np.random.default_rng(seed)
    model = RankingModel(["a", "b", "c"], num_hidden=3, seed=seed)
    model.fit([RankingList(random.normal(size=(6, 3)), np.eye(6)[random.integers(6)]) for _ in range(4)], num_steps=5)
    rows = random.normal(size=(7, 3))
    order = random.permutation(7)
    assert np.allclose(model.scores(rows[order]), model.scores(rows)[order], atol=1e-5)
    assert np.allclose(model.scores(rows * [3, 0.1, 100] + [5, -2, 9]), model.scores(rows), atol=1e-3)
    assert np.allclose(within_list(np.concatenate([rows, rows]))[:7], within_list(rows), atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_shares_and_its_gradient_pulls_towards_them():
    scores = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    gains = torch.tensor([[3.0, 0.0, 1.0]])
    loss = listwise_loss(scores, gains).sum()
    loss.backward()
    share = torch.softmax(scores.detach(), 1)
    assert float(loss.detach()) == pytest.approx(float(-(0.75 * share[0, 0].log() + 0.25 * share[0, 2].log())), abs=1e-6)
    assert torch.allclose(scores.grad, share - gains / 4, atol=1e-6)


def test_ndcg_is_one_for_the_best_order_and_falls_with_a_swap():
    gains = np.array([7.0, 3.0, 1.0, 0.0])
    assert ndcg(np.array([4.0, 3.0, 2.0, 1.0]), gains) == pytest.approx(1.0)
    assert ndcg(np.array([3.0, 4.0, 2.0, 1.0]), gains) < 1.0 and ndcg(np.zeros(4), np.zeros(4)) == 0.0


def test_lists_that_a_model_cannot_learn_from_are_refused(tmp_path):
    model, fits, other = (
        RankingModel(["a", "b"]),
        RankingList(np.eye(2), np.array([1.0, 0.0])),
        RankingList(np.eye(3), np.array([1.0, 0.0, 0.0])),
    )
    for lists in ([other], [fits, other]):
        for learn in (model.fit, model.update, model.importance, model.calibrate):
            with pytest.raises(ValueError, match=r"features must be \(n, 2\): a, b; got \(3, 3\)"):
                learn(lists)
    for learn, reason in ((model.importance, "judged lists, got none"), (model.calibrate, "got no list")):
        with pytest.raises(ValueError, match=reason):
            learn([])
    model.save(tmp_path / "new" / "ranking.json")
    assert np.allclose(RankingModel.load(tmp_path / "new" / "ranking.json").scores(fits.features), model.scores(fits.features))


def test_judgements_in_other_encodings_and_against_each_other(tmp_path):
    file = tmp_path / "qrels.txt"
    file.write_text("\ufeff1 0 a 1\r\n1 0 a 1\r\n\r\n1\t0\tb\u2028c\t0\n", "utf-8", newline="")
    with pytest.raises(ValueError, match="line 4: expected query, iteration, document and a whole number"):  # as an editor counts lines
        read_judgements(file)
    file.write_text("\ufeff1 0 a 1\r\n1 0 a 1\r\n", "utf-8", newline="")
    assert read_judgements(file) == {"1": {"a": 1}}
    file.write_text("1 0 a 1\n2 0 a 0\n1 0 a 0\n")
    with pytest.raises(ValueError, match="line 3: a is graded 0 for query 1, and 1 before"):
        read_judgements(file)
    file.write_bytes("1 0 Fähre 1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="qrels.txt is not UTF-8 text"):
        read_judgements(file)
