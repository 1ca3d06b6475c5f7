"""Episodes on a Ray cluster of two nodes, of which one is killed in the middle of an episode: the training goes on."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_site import Letters
from test_web_agent import DemoPages, PatternReader

from lightbulb.agent import cluster as cluster_module
from lightbulb.agent.cluster import _EpisodeActors, train_on_cluster
from lightbulb.agent.configuration import TrainAgent
from lightbulb.agent.environment import SearchTask
from lightbulb.agent.tools import Tools
from lightbulb.agent.training import train_agent
from lightbulb.agent.web_agent import AutonomousWebAgent
from lightbulb.core.errors import LightbulbError, SearchError, UnavailableError
from lightbulb.knowledge.knowledge_base import KnowledgeBase

ROOT = Path(__file__).resolve().parents[1]

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: it comes with lightbulb[cluster]")
QUESTIONS = [
    SearchTask("When was the inventor of the arc lamp born?", gold_titles=frozenset({"Humphry Davy"})),
    SearchTask("Who was the arc lamp invented by?", gold_titles=frozenset({"Arc lamp"})),
    SearchTask("When was Joseph Swan born?", gold_titles=frozenset({"Joseph Swan"})),
]


class Site(DemoPages):
    "The demo pages; a search about a telegraph fails, and on one node a search leaves a mark and waits until it is killed."

    def __init__(self, mark: Path | None = None, node: str = "") -> None:
        super().__init__()
        self.mark, self.node = mark, node

    def search(self, query, num_results=10):
        if "telegraph" in query: raise SearchError("the engine does not answer")
        if self.mark is not None and self.mark.with_suffix(".armed").exists() and ray.get_runtime_context().get_node_id() == self.node:
            self.mark.write_text(query)
            time.sleep(300)
        return super().search(query, num_results)


def make_agent(mark: Path | None = None, node: str = "") -> AutonomousWebAgent:
    return AutonomousWebAgent(Tools(Site(mark, node), PatternReader(), Letters()))


def broken_agent() -> AutonomousWebAgent:
    raise UnavailableError("this machine has no model")


def config_for(folder: Path, **settings: Any) -> TrainAgent:
    fixed = {"num_episodes": 12, "num_parallel": 2, "max_searches": 3, "max_pages": 4, "num_held_out": 0, "cluster": "two nodes"}
    return TrainAgent(save_dir=folder, **{**fixed, **settings})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    "Two nodes with a processor each, on the loopback; this process is connected to them."
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    for _ in range(3):  # Ray gives each of its nodes half a minute, which a busy machine may not have
        cluster = None
        try:
            cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
            cluster.second = cluster.add_node(**node)  # type: ignore[attr-defined]
            environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}}
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error", runtime_env=environment)
            break
        except Exception as error:  # noqa: BLE001 - Ray raises whatever its parts raise
            reason = str(error).partition("\n")[0]
            ray.shutdown()
            if cluster is not None:
                cluster.shutdown()
    else:
        pytest.skip(f"Ray did not start here: {reason}")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "agent" / "agent_training.log").read_text().splitlines()]


def test_episodes_on_two_nodes_are_learned_from_told_and_remembered(cluster: Any, tmp_path: Path) -> None:
    local, told = make_agent().tools, []
    knowledge = KnowledgeBase(tmp_path / "knowledge.sqlite", embed=Letters())
    tools = Tools(local.search, local.reader, local.embed, knowledge=knowledge)
    tasks = [*QUESTIONS, SearchTask("telegraph telegraph?")]
    reports = list(
        train_on_cluster(config_for(tmp_path, num_episodes=8), make_agent=make_agent, tools=tools, tasks=tasks, tell=told.append)
    )
    rows = log_of(tmp_path)
    assert [row | {"left_out": one["left_out"]} for row, one in zip(rows, told, strict=True)] == told  # the log, and why one is no data
    assert [row["episode"] for row in rows] == list(range(1, 9)) and reports[-1].step == 8
    assert all(row["left_out"] == "failure" for row in told if row["error"])
    errors = {row["query"].split()[0]: row["error"] for row in rows}
    assert "does not answer" in errors.pop("telegraph") and set(errors.values()) == {""}
    data = [json.loads(line) for line in (tmp_path / "agent" / "llm_training_data.jsonl").read_text().splitlines()]
    assert data and all(abs(sum(step["probabilities"]) - 1) < 0.05 for row in data for step in row["steps"])
    assert len(knowledge) > 0 and AutonomousWebAgent.load(tmp_path / "agent", local).policy == "learned"
    knowledge.close()


def test_tools_that_cannot_be_loaded_there_are_one_line_here(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(LightbulbError, match="an actor could not load its tools: .*this machine has no model") as refusal:
        list(train_on_cluster(config_for(tmp_path), make_agent=broken_agent, tools=make_agent().tools, tasks=QUESTIONS))
    assert "\n" not in str(refusal.value)


def test_a_killed_node_fails_its_episode_with_a_reason_and_the_training_goes_on(cluster: Any, tmp_path: Path) -> None:
    "The last test: the node stays dead."
    mark, begun, dead = tmp_path / "mark", [], threading.Event()
    second = cluster.second

    def kill_when_it_plays() -> None:
        while not mark.exists():
            if dead.wait(0.02): return
        cluster.remove_node(second, allow_graceful=False)
        dead.set()

    def tell(row: Any) -> None:
        begun.append(row)
        if len(begun) == 4:  # from the third batch on
            mark.with_suffix(".armed").touch()

    killer = threading.Thread(target=kill_when_it_plays, daemon=True)
    killer.start()
    make = functools.partial(make_agent, mark, second.node_id)
    config = config_for(tmp_path, num_episodes=12, max_seconds=120)
    reports = list(train_on_cluster(config, make_agent=make, tools=make_agent().tools, tasks=QUESTIONS, tell=tell))
    assert dead.is_set(), "no episode was played on the second node"
    dead.set()
    killer.join()
    rows = log_of(tmp_path)
    assert [row["episode"] for row in rows] == list(range(1, 13)) and reports[-1].step == 12
    lost = [row for row in rows if row["error"]]
    assert [row["error"] for row in lost] == ["UnavailableError: the machine that played it was lost"], lost
    assert lost[0]["episode"] in (5, 6) and all(not row["error"] for row in rows[6:])


def test_an_actor_opens_its_back_end_before_the_first_episode_and_refines_as_the_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoActors:
        def __init__(self, address: str, make_agent: Any, **more: Any) -> None:
            agent = make_agent()
            raise LightbulbError(f"{len(agent.tools.search.documents)} page, refines {agent.refines}")

    monkeypatch.setattr(cluster_module, "_EpisodeActors", NoActors)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "davy.txt").write_text("Humphry Davy was born in 1778.")
    config = config_for(tmp_path, search=f"folder:{tmp_path / 'notes'}", refines=True)
    with pytest.raises(LightbulbError, match="1 page, refines True"):
        next(train_on_cluster(config, tasks=QUESTIONS))


def test_a_cluster_that_is_not_there_is_one_line_at_once() -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
from lightbulb.agent.cluster import _join
from lightbulb.core.errors import UnavailableError
for address in ("ray://127.0.0.1:{port}", "127.0.0.1:{port}"):
    try:
        _join(address)
    except UnavailableError as error:
        print(error)
"""
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.count("cannot be joined: Connection refused") == 2 == done.stdout.count("\n"), done.stderr
    assert time.monotonic() - begin < 60


def test_train_agent_alone_refuses_a_cluster_and_ray_is_named_where_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LightbulbError, match="trained by train_on_cluster"):
        next(train_agent(config_for(tmp_path), tools=make_agent().tools, tasks=QUESTIONS))
    code = "import sys; sys.modules['ray'] = None\nfrom lightbulb.agent.cluster import _join\n_join('local')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install lightbulb[cluster]" in done.stderr.strip().splitlines()[-1]


def test_actors_are_one_a_processor_and_no_more_than_episodes(cluster: Any) -> None:
    actors = _EpisodeActors("two nodes", make_agent, num_parallel=1, seconds=60.0)
    assert len(actors.alive) == 1
    actors.close()
