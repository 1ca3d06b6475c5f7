"""The cache in memory against a plain list that is kept in the order of use; the one on disk keeps to its bound."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.cache import LRUCache, PersistentCache

keys = st.integers(0, 5)


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), keys), max_size=40))
@settings(deadline=None, max_examples=100)
def test_the_least_recently_used_value_leaves(capacity, uses):
    cache, order = LRUCache(capacity), []  # the most recently used is the last
    for is_read, key in uses:
        known = key in order
        if is_read:
            assert cache.get(key) == (f"value {key}" if known else None)
            if not known: continue
        else:
            cache.put(key, f"value {key}")
        order = [*(other for other in order if other != key), key][-capacity:]
        assert len(cache) == len(order) and all(other in cache for other in order)


def test_the_file_keeps_to_its_bound_over_runs_that_each_write_little(tmp_path: Path):
    for run in range(60):
        cache = PersistentCache(tmp_path / "cache.sqlite", max_bytes=1000, clock=lambda moment=100.0 * run: moment)
        cache.put(f"page {run}", bytes(40))  # less than a twentieth
        cache.close()
    cache = PersistentCache(tmp_path / "cache.sqlite", max_bytes=1000)
    kept = [run for run in range(60) if cache.get(f"page {run}") is not None]
    cache.close()
    assert kept == list(range(35, 60))
