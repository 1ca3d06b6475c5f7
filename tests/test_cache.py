"""The cache in memory against a plain list that is kept in the order of use; the one on disk keeps to its bound; what a kill leaves."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.cache import LRUCache, PersistentCache
from lightbulb.core.errors import CheckpointError, StoreError
from lightbulb.core.run_folder import MODEL_FILE, check_run, remove_leftovers

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


_OPENS = "import sys; from lightbulb.core.cache import PersistentCache; sys.stdin.read(1); PersistentCache(sys.argv[1]); print('open')"


def test_processes_that_make_one_file_at_once_all_have_it_and_a_half_made_one_is_ours(tmp_path: Path):
    others = [
        subprocess.Popen([sys.executable, "-c", _OPENS, str(tmp_path / "new.sqlite")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in others:
        assert process.stdin
        process.stdin.write(b".")
        process.stdin.flush()
    assert [process.communicate()[0] for process in others] == [b"open\n"] * 4
    for name, schema in (("half.sqlite", PersistentCache._SCHEMA), ("foreign.sqlite", "CREATE TABLE cache (name TEXT)")):
        made = sqlite3.connect(tmp_path / name, isolation_level=None)
        made.execute(schema)  # a kill before the mark leaves the first of these
        made.close()
    half = PersistentCache(tmp_path / "half.sqlite")
    half.put("page", b"text")
    assert half.get("page") == b"text"
    half.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        PersistentCache(tmp_path / "foreign.sqlite")


def test_only_a_run_s_own_unfinished_files_are_removed(tmp_path: Path):
    moment = tmp_path / "epoch_001"
    for file in (moment / MODEL_FILE, moment / ".model.ckpt.1.tmp", tmp_path / ".metrics.2.tmp", tmp_path / "letters" / ".draft.tmp"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    assert [file.name for file in remove_leftovers(tmp_path)] == [".metrics.2.tmp", ".model.ckpt.1.tmp"]
    assert (tmp_path / "letters" / ".draft.tmp").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="a link that leads nowhere"):
        check_run(tmp_path / "link" / "run")
