"""The walls of the house: floors, owners, the public list, what is tracked, what an import touches."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from configparser import ConfigParser
from pathlib import Path

import pytest
from offline import NetworkRefused

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MODULES = sorted(path for path in (ROOT / "lightbulb").rglob("*.py") if path.name != "_modidx.py")
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
PUBLIC = {  # DESIGN's contract: more may be added, these stay
    "core.display": "Displayable Picture",
    "core.errors": "LightbulbError UnavailableError ReactorError SearchError LanguageModelError StoreError CheckpointError Interrupted",
    "core.runtime": "choose_device choose_dtype seed_everything limit_threads cache_folder package_folder",
    "core.report": "StepReport MetricsFile",
    "core.records": "Document Span Passage Link Heading",
    "core.checkpoint": "save_checkpoint load_checkpoint",
    "core.cache": "LRUCache PersistentCache content_key",
    "core.configuration": "check_ranges",
    "core.optimization": "Muon build_optimizers WeightAverage MixedPrecision OptimizerStep",
    "core.run_folder": "Moment moments keep_moment read_newest find_model_file set_aside",
    "core.run": "Training Run Interrupt",
    "lm.tokens": "load_tokenizer",
    "lm.experts": "MixtureOfExperts RouterReport",
    "lm.transformer": "TransformerConfig Transformer",
    "lm.pretrained": "transformer_from_pretrained",
    "lm.beam_search": "beam_search generate generate_actions",
    "lm.training": "train_language_model load_model",
    "lm.language_model": "LanguageModel load_language_model",
    "rl.sum_tree": "SumTree",
    "rl.replay": "PrioritizedReplayMemory",
    "rl.advantages": "generalized_advantages",
    "rl.ppo": "PPOConfig PPOAgent ppo_loss train_ppo",
    "rl.hierarchy": "ManagerModel WorkerModel HierarchicalAgent train_hierarchy",
    "planning.mcts": "MCTS MCTSConfig",
    "planning.oops": "OOPS",
    "planning.tree_of_thought": "ToTNode ToTSearch ToTConfig",
    "planning.run_events": "PlannerBudget PlannerCost RunLog read_run save_run",
    "planning.planners": "ThoughtFunctions PlannerConfig Plan plan",
    "planning.proposals": "Proposer verdict_values evidence_values agreement_values learned_values combine_values think_with",
    "planning.run_pages": "run_to_html run_to_markdown run_to_json compare_runs replay_run",
    "web.reactor": "run arun gather serve",
    "web.fetch": "Fetcher FetchConfig Page FetchFailure",
    "web.extract": "extract",
    "web.demo_site": "serve_demo_site demo_questions",
    "web.search": "SearchBackend SearchResult load_search",
    "knowledge.chunks": "chunk_text split_sentences",
    "knowledge.embedding": "load_embedder",
    "knowledge.knowledge_base": "KnowledgeBase KnowledgeBaseConfig",
    "knowledge.page_ranking": "PageRanker",
    "knowledge.ranking": "load_cross_encoder RankingModel",
    "reading.judge": "Candidate gather_candidates Judge",
    "reading.reader": "SpanReader AnswerSpan",
    "reading.teaching": "TrainReader train_reader",
    "knowledge.summarizer": "RAGSummarizer",
    "world.networks": "RepresentationNetwork DynamicsNetwork PredictionNetwork ActionEncoder WorldModel RecurrentWorldModel",
    "world.losses": "info_nce_loss covariance_regularization dynamics_performance_loss thought_consistency_loss policy_value_joint_loss "
    "action_diversity_reward expected_thought_value_loss exploration_regularization kl_divergence_loss ppo_loss",
    "world.environments": "World make_world Arena",
    "world.stages": "TrainLanguageWorld",
    "world.text_environments": "TextProblem TextState TextEnvironment Countdown GameOf24 TextContinuation make_text_environment",
    "world.text_planning": "think_in plan_in",
    "world.text_model": "TextWorldModel",
    "world.thoughts": "Action Policy Thought plan",
    "world.text_training": "load_text_world",
    "world.training": "TrainWorldModel train_world_model TrainLanguageWorld load_world_model",
    "agent.answering": "TestAgent answer",
    "agent.environment": "SearchEnv",
    "agent.episodes": "EpisodeFile play_episode",
    "agent.cluster": "train_on_cluster",
    "apps.main_menu": "main",
    "apps.forms": "ConfigForm",
    "apps.training_runs": "RunStatus TrainingRun",
    "apps.panels": "TrainingPanel",
    "apps.question_panels": "QuestionPanel load_ipython_extension",
    "apps.world_panels": "BoardPanel TextPanel",
}
PLANTED = {  # module → an import that it must not have
    "core.errors": "lightbulb.planning.tree_drawing",  # a higher floor
    "web.extract": "lightbulb.knowledge.chunks",  # a room of the same floor
    "planning.tree_drawing": "lightbulb.planning.tree_of_thought",  # a higher number
    "knowledge.chunks": "twisted",
    "web.reactor": "transformers",
    "core.records": "sqlite3",
    "core.runtime": "bs4",
    "core.report": "matplotlib",
    "lm.tokens": "tqdm",
    "rl.advantages": "lightbulb.rl.ppo",  # a higher number
    "lm.experts": "lightbulb.rl.replay",  # a room of the same floor
    "lm.transformer": "accelerate",
    "planning.oops": "numba",
    "knowledge.ranking": "requests",
    "knowledge.knowledge_base": "sentence_transformers",
    "knowledge.store": "psycopg",
    "agent.web_agent": "ray",
    "planning.tree_of_thought": "fastcore",
    "lm.operations": "lightbulb.world.networks",  # a higher floor
    "world.tables": "lightbulb.world.losses",  # a higher number
    "world.losses": "numba",
    "apps.world_commands": "lightbulb.apps.main_menu",
    "apps.main_menu": "ipywidgets",
}


MOST_PUBLIC_NAMES = 440  # in all `__all__` together: raised only for names that the design promises


def run(*command: object, folder: Path = ROOT, timeout: int = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    "A command with its two streams apart."
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )


def tracked_files() -> list[Path]:
    "What git would give to another person; without git, what is not ignored by name."
    listed = run("git", "ls-files", "-z")
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    skipped = {
        ".git",
        ".venv",
        ".cache",
        ".hypothesis",
        ".pytest_cache",
        ".ruff_cache",
        "scratch",
        "_docs",
        "_proc",
        "build",
        "dist",
        "__pycache__",
        "models",
    }
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)]


# ------------------------------------------------------------------ floors and owners


def test_planted_imports_turn_the_linter_red(tmp_path):
    shutil.copytree(ROOT / "lightbulb", tmp_path / "lightbulb", ignore=shutil.ignore_patterns("__pycache__", "demo_data", "weights"))
    shutil.copy(ROOT / ".importlinter", tmp_path / ".importlinter")
    lint = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])",
    ]
    clean = run(*lint, folder=tmp_path)
    assert clean.returncode == 0, clean.stdout[-2000:]
    for module, target in PLANTED.items():
        with (tmp_path / "lightbulb" / f"{module.replace('.', '/')}.py").open("a") as file:
            file.write(f"\nimport {target}\n")
    red = run(*lint, folder=tmp_path)
    assert red.returncode == 1
    unseen = [f"{module} -> {target}" for module, target in PLANTED.items() if f"lightbulb.{module} -> {target}" not in red.stdout]
    assert not unseen, f"{unseen}\n{red.stdout[-3000:]}"


@pytest.mark.parametrize("stray", ["web/stray.py", "attic/__init__.py"])
def test_an_unlisted_module_or_room_turns_the_linter_red(tmp_path, stray):
    shutil.copytree(ROOT / "lightbulb", tmp_path / "lightbulb", ignore=shutil.ignore_patterns("__pycache__", "demo_data", "weights"))
    shutil.copy(ROOT / ".importlinter", tmp_path / ".importlinter")
    (tmp_path / "lightbulb" / stray).parent.mkdir(exist_ok=True)
    (tmp_path / "lightbulb" / stray).write_text('"Nobody listed me."\n')
    lint = "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    red = run(sys.executable, "-c", lint, folder=tmp_path)
    assert red.returncode == 1 and stray.split("/")[0 if "attic" in stray else 1].removesuffix(".py") in red.stdout


def test_the_contracts_list_every_room_in_the_order_of_its_numbers():
    "Otherwise 'only lower numbers' would be held for another order than the one that a reader sees."
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    for room in sorted({path.parent.name for path in NOTEBOOKS} - {"nbs"}):
        layers = [name.strip(" ()") for name in contracts[f"importlinter:contract:{room}"]["layers"].split()]
        numbers = {
            re.sub(r"^\d+_", "", path.stem): int(path.stem[:2])
            for path in NOTEBOOKS
            if path.parent.name == room and path.stem[:2].isdigit()
        }
        listed = [numbers[name] for name in layers if name in numbers]
        assert set(numbers) <= set(layers), f"{room}: {sorted(set(numbers) - set(layers))} not listed"
        assert listed == sorted(listed, reverse=True), f"{room}: {list(zip(layers, listed, strict=False))}"


def test_the_contracts_list_no_module_that_is_not_there():
    "A name in parentheses may be absent, so the linter does not miss it; and what was renamed would stay listed for ever."
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    sections = [contracts[name] for name in contracts.sections() if contracts[name].get("type") == "layers"]
    absent = []
    for section in sections:
        folder = ROOT / section["containers"].replace(".", "/")
        layers = [name for name in re.split(r"[\s|:]+", section["layers"]) if name]
        absent += [f"{section['containers']}: {name}" for name in layers if name.startswith("(")]
        names = [name.strip("()") for name in layers]
        absent += [f"{folder.name}.{name}" for name in names if not (folder / f"{name}.py").exists() and not (folder / name).is_dir()]
    assert not absent, absent


def test_numbers_of_notebooks_are_unique_in_a_room():
    "They are the order in which a room is read."
    for room in sorted({path.parent.name for path in NOTEBOOKS}):
        numbers = [path.stem[:2] for path in NOTEBOOKS if path.parent.name == room and path.stem[:2].isdigit()]
        assert len(numbers) == len(set(numbers)), f"{room}: {sorted(number for number in numbers if numbers.count(number) > 1)}"


def test_a_room_says_what_it_is_and_nothing_else():
    "A re-export would make `--help` import torch. The package also says how threads wait, before anybody can have loaded torch through it."
    waiting = "if 'OMP_WAIT_POLICY' not in os.environ:\n    os.environ.setdefault('GOMP_SPINCOUNT', '10000')"
    for path in MODULES:
        if path.name != "__init__.py": continue
        module = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(module), f"{path} has no docstring"
        body = [ast.unparse(node) for node in module.body[1:] if not ast.unparse(node).startswith("__version__ = ")]
        assert body == (["import os", waiting] if path.parent.name == "lightbulb" else []), f"{path} holds more than a docstring"


def test_nobody_imports_a_module_by_its_name_as_text():
    "The linter cannot see `importlib.import_module('twisted')`."
    named_by_users = ("apps/main_menu.py", "rl/vector_environments.py")  # a task, the module of an environment
    found = []
    for path in MODULES:
        if any(path.match(f"*/{name}") for name in named_by_users): continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("__import__", "import_module", "importlib.import_module"):
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert not found, found


def test_requests_never_fetch_a_page():
    "`requests` bypasses the address guard, so only API clients may use it, and the fetcher must not."
    for name in ("web/fetch.py", "web/extract.py", "web/reactor.py"):
        assert not re.search(r"^\s*(import|from) requests", (ROOT / "lightbulb" / name).read_text("utf-8"), re.MULTILINE)


# ------------------------------------------------------------------ the public list


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_there(module):
    path = ROOT / "lightbulb" / f"{module.replace('.', '/')}.py"
    assert path.exists(), f"{module} is missing"
    missing = sorted(set(PUBLIC[module].split()) - set(exported_names(path)))
    assert not missing, f"{module} no longer exports {missing}"


def exported_names(path: Path) -> list[str]:
    "The `__all__` of a module."
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_no_more_names_are_public_than_before():
    "`__all__` names what a user or another room needs; a helper of one module is private."
    names = {path.relative_to(ROOT / "lightbulb").as_posix(): exported_names(path) for path in MODULES}
    assert sum(map(len, names.values())) <= MOST_PUBLIC_NAMES, sorted((len(value), name) for name, value in names.items())[-12:]


def top_names(path: Path) -> set[str]:
    "What a module binds at its top."
    names: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def code_of(path: Path) -> list[ast.Module]:
    "A script, or the code cells of a notebook (without the lines that only IPython understands), as trees."
    if path.suffix == ".py": return [ast.parse(path.read_text("utf-8"))]
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    return [ast.parse(re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.MULTILINE)) for source in sources if not source.startswith("%%")]


def names_from_lightbulb(tree: ast.AST) -> list[tuple[int, str, str]]:
    "Each line that imports from the package, with the module and the name: `''` where the module itself is what is imported."
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported += [(node.lineno, str(node.module), alias.name) for alias in node.names]
    return [(line, module, name) for line, module, name in imported if module.partition(".")[0] == "lightbulb"]


def absent_names(path: Path, known: dict[str, set[str]]) -> list[str]:
    "What a file imports from the package and would not get; `known` holds the names of the modules that were read before."
    absent = []
    for line, module, name in (entry for tree in code_of(path) for entry in names_from_lightbulb(tree)):
        place = ROOT / module.replace(".", "/")
        file = next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()), None)
        if file and module not in known:
            known[module] = top_names(file)
        if file and (not name or name in known[module] or (place / f"{name}.py").exists() or (place / name).is_dir()):
            continue
        absent.append(f"{path}:{line}: {module}{name and f'.{name}'}")
    return absent


def test_what_pages_tests_tools_and_benchmarks_import_is_there():
    "A benchmark or a slow cell runs too seldom to notice by itself that a name has moved."
    scripts = [path for folder in ("tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    known: dict[str, set[str]] = {}
    absent = [line for path in sorted([*ROOT.glob("*.py"), *scripts, *NOTEBOOKS]) for line in absent_names(path, known)]
    assert not absent, absent


def test_a_name_that_moved_is_noticed(tmp_path):
    lines = ["from lightbulb.web import fetch, fetched", "from lightbulb.web.fetch import Fetcher, Moved", "import lightbulb.web.gone"]
    cells = [{"cell_type": "code", "source": ["%time 1\n", f"if True: {line}\n"]} for line in lines]
    script, page = tmp_path / "script.py", tmp_path / "page.ipynb"
    script.write_text("\n".join(lines), "utf-8")
    page.write_text(json.dumps({"cells": cells}), "utf-8")
    for path in (script, page):
        absent = [line.rpartition(": ")[2] for line in absent_names(path, {})]
        assert absent == ["lightbulb.web.fetched", "lightbulb.web.fetch.Moved", "lightbulb.web.gone"], absent


def test_scripts_find_each_other_without_path_tricks():
    "The folder of a script is on its path already, and pytest.ini names the two folders that tests need."
    word = "sys." + "path"
    scripts = [path for folder in ("lightbulb", "tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    tricks = [path.relative_to(ROOT).as_posix() for path in scripts if word in path.read_text("utf-8")]
    assert not tricks, tricks


def test_every_module_says_what_it_is_for():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path.relative_to(ROOT)} has no docstring"


# ------------------------------------------------------------------ imports touch nothing

IMPORT_ALL = """
import sys
from offline import refuse_network
refuse_network()
import importlib, pathlib, threading
for path in sorted(pathlib.Path("lightbulb").rglob("*.py")):
    if path.stem not in ("__init__", "__main__"): importlib.import_module(".".join(path.with_suffix("").parts))
import torch
assert not torch.cuda.is_initialized(), "CUDA was touched"
tools = {"nbdev", "execnb", "fastcore", "jupytext", "pytest", "hypothesis", "playwright", "nbclient"} & set(sys.modules)
assert not tools, f"development tools were imported: {tools}"
reactors = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread() and "lightbulb" in thread.name.lower()]
assert not reactors, f"threads were started: {reactors}"
print("imported")
"""


def test_importing_everything_touches_no_network_no_cuda_and_no_development_tool():
    result = run(sys.executable, "-c", IMPORT_ALL, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    assert result.returncode == 0 and "imported" in result.stdout, result.stderr[-3000:]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--task", "test_agent", "--help"], ["--task", "train_llm_world", "--help"]], ids=" ".join
)
def test_help_is_quick_and_imports_no_model_library(arguments):
    before = os.times()
    result = run(sys.executable, "-X", "importtime", "-m", "lightbulb", *arguments)
    seconds = os.times().children_user - before.children_user  # not of the clock: a busy machine is no reason
    assert result.returncode == 0, result.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines() if line.startswith("import time:")}
    heavy = imported & {"torch", "transformers", "sentence_transformers", "onnxruntime", "twisted", "trafilatura", "matplotlib", "numba"}
    assert not heavy, f"--help imports {heavy}"
    assert seconds < 5, f"--help took {seconds:.1f} CPU-s"  # a fifth of it on an idle machine


def test_the_network_is_refused_here():
    import socket

    with pytest.raises(NetworkRefused), socket.socket() as door:
        door.connect(("192.0.2.1", 80))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


# ------------------------------------------------------------------ what is tracked


def test_no_machine_path_and_no_registry_host_is_tracked():
    places = [f"/{name}/" for name in ("work", "root", "home", "opt/wheels", "Users")]
    words = [*places, *(".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("", "library/")))]
    found = []
    for path in tracked_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found, found


def test_notebooks_hold_no_widget_views_and_no_errors():
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text("utf-8"))
        assert "widgets" not in notebook["metadata"], f"{path.name} holds widget state"
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"{path.name} holds a widget view"
                assert output["output_type"] != "error", f"{path.name} was saved with an error: {output.get('evalue')}"
                kinds = set(output.get("data", {})) - {"text/plain"}
                assert kinds != {"image/svg+xml"}, f"{path.name} holds a drawing that JupyterLab shows to nobody who does not trust it"


def test_every_notebook_names_the_same_kernel():
    "Without it Jupyter asks; with an editor's other metadata every save is a diff."
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    others = {path.name: metadata for path in NOTEBOOKS if (metadata := json.loads(path.read_text("utf-8"))["metadata"]) != kernel}
    assert not others, others


def test_no_saved_cell_times_itself():
    "A measured time is another on each run: a page asserts a bound, and a benchmark reports figures."
    clock = re.compile(r"\btime\.(perf_counter|process_time|monotonic|time)\(")
    seconds = re.compile(r"\d ?(s|ms|µs|CPU-s|CPU-seconds|seconds|minutes)\b")
    limits = {"wire.ipynb"}  # its output names the limits that it sets
    timed = []
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not clock.search(source) or "#| slow" in source: continue
            said = "".join(line for output in cell["outputs"] for line in output.get("text", []))
            if seconds.search(said) and path.name.partition("_")[2] not in limits:
                timed.append(f"{path.name}: {said[:120]}")
    assert not timed, timed


def test_what_a_page_points_to_is_there():
    "A page that gets another number, or a module that is renamed, leaves its name behind in others."
    modules = {f"{path.parent.name}.{re.sub(r'^[0-9]+_', '', path.stem)}" for path in NOTEBOOKS}
    rooms = {path.parent.name for path in NOTEBOOKS} - {"nbs"}
    lost = []
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        links = re.findall(r"\]\(([^)#:]+\.(?:ipynb|md|svg))", prose)
        lost += [f"{path.name}: {link}" for link in links if not (path.parent / link).exists()]
        named = re.findall(r"`(\w+)\.(\w+)(?:\.\w+)*`", prose)
        lost += [f"{path.name}: {room}.{module}" for room, module in named if room in rooms and f"{room}.{module}" not in modules]
        scripts = re.findall(r"`((?:tests|tools|benchmarks)/[\w/]+\.\w+)`", prose)
        lost += [f"{path.name}: {script}" for script in scripts if not (ROOT / script).exists()]
    assert not lost, lost


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").as_posix())
def test_a_notebook_keeps_its_budgets(path):
    "STYLE's budgets warn; only a page that is far out fails."
    if path.name == "index.ipynb" or not re.match(r"\d\d_", path.name):
        pytest.skip("exports nothing")
    cells = [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])) for cell in json.loads(path.read_text("utf-8"))["cells"]]
    code = [source for kind, source, _ in cells if kind == "code"]
    title = next(source for kind, source, _ in cells if kind == "markdown")
    wordiest = max(
        len(re.sub(r"\$\$?[^$]+\$\$?|^\|.*$", "", source, flags=re.MULTILINE).split()) for kind, source, _ in cells if kind == "markdown"
    )
    prose = "\n".join(re.sub(r"```.*?```", "", source, flags=re.DOTALL) for kind, source, _ in cells if kind == "markdown")
    widest = max(len(line) for line in prose.split("\n") if not line.startswith(("|", "$$")))
    assert code[0].startswith("#| default_exp"), "the first code cell names the module"
    assert re.match(r"# .+\n+> .+", title), "a title and one sentence after >"
    assert any(outputs for _, _, outputs in cells), "saved outputs"
    soft = {
        f"{len(cells)} cells (30 to 80)": not 20 <= len(cells) <= 90,
        f"{wordiest} words of prose at once (80)": wordiest > 90,
        f"{widest} columns of prose (140)": widest > 140,
        "no section that says what is refused": not any(
            "##" in text and "refuse" in text.lower() for kind, text, _ in cells if kind == "markdown"
        ),
    }
    for problem in (text for text, is_over in soft.items() if is_over):
        warnings.warn(f"{path.name}: {problem}", stacklevel=1)


# ------------------------------------------------------------------ the tools themselves


def test_a_changed_module_and_a_dirty_notebook_are_drift(tmp_path):
    for name in ("nbs", "lightbulb", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "demo_data", "weights"))
    for name in ("settings.ini", "_quarto.yml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "lightbulb/core/errors.py").open("a") as file:
        file.write("\n# edited by hand\n")
    dirty = tmp_path / "nbs/core/01_errors.ipynb"
    notebook = json.loads(dirty.read_text("utf-8"))
    notebook["cells"][0]["metadata"]["noise"] = 1
    dirty.write_text(json.dumps(notebook), "utf-8")
    result = run(sys.executable, "tools/check_export.py", folder=tmp_path)
    assert result.returncode == 1 and "edited by hand" in result.stdout and "noise" in result.stdout


def test_only_a_guard_shares_the_line_of_its_if(tmp_path):
    "And no line is longer than 140 columns: the formatter does not break a text, so the linter has to see it."
    page = tmp_path / "tests/page.py"
    for folder in ("tests", "tools", "nbs", "benchmarks"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tools/format.py", tmp_path / "tools/format.py")
    shutil.copy(ROOT / "ruff.toml", tmp_path / "ruff.toml")
    guard = (
        "def first(items):\n    for item in items:\n        if item is None: continue\n        return item\n    if not items: return 0\n"
    )
    check = [sys.executable, "tools/format.py", "--check", "tests/page.py"]
    page.write_text(guard)
    assert run(*check, folder=tmp_path).returncode == 0
    bodies = (
        "class Empty: pass",
        "for item in (1, 2): print(item)",
        "if True: number = 1",
        "try: print(1)\nfinally: print(2)",
        "with open('a'): ...",
    )
    for body in bodies:
        page.write_text(f"{body}\n\n\n{guard}")
        red = run(*check, folder=tmp_path)
        assert red.returncode == 1 and "tests/page.py" in red.stdout, body
    page.write_text(f'text = "{"word " * 30}"\n')
    assert run(*check, folder=tmp_path).returncode == 0
    lint = run(BIN / "ruff", "check", "--no-cache", "--output-format", "concise", "tests", folder=tmp_path)
    assert lint.returncode == 1 and "E501" in lint.stdout


def test_a_python_that_is_too_old_is_one_clear_line(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = subprocess.run(["/bin/sh", ROOT / "tools/find_python.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert "3.11" in result.stderr


def test_every_planted_error_fits_its_module():
    "Else `tools/mutate.py` would plant nothing and call it noticed."
    result = run(sys.executable, "tools/mutate.py", "--check")
    assert result.returncode == 0, result.stdout


def test_setting_up_again_changes_nothing():
    if not list((ROOT / ".venv").glob(".ready-*")):
        pytest.skip("this environment was not made by make setup")
    if (ROOT / ".venv").is_symlink():
        pytest.skip("this environment belongs to another checkout, whose package it must go on importing")
    before = os.times()
    result = run(sys.executable, "tools/setup_env.py", "all" if (ROOT / ".venv/.ready-all").exists() else "demo")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert os.times().children_user - before.children_user < 5


def test_the_drawing_of_the_system_is_up_to_date():
    result = run(sys.executable, "tools/draw_system.py", "--check")
    assert result.returncode == 0, result.stdout


def test_weights_that_ship_have_a_card_beside_them():
    shipped = [path for path in (ROOT / "lightbulb").rglob("*") if path.suffix in (".safetensors", ".ckpt")]
    assert len(shipped) >= 2
    for path in shipped:
        card = (path.parent / "model_card.md").read_text("utf-8")
        assert path.name in card and all(f"## {heading}" in card for heading in ("Taught by", "Meant for", "Limits"))


def test_a_page_has_a_picture_or_says_why_not():
    "Drawn by a cell, linked, or shown as HTML by an object that draws itself."
    bare = []
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        is_drawn = any(kind.startswith("image/") for data in shown for kind in data)
        is_drawn |= any(mark in "".join(data.get("text/html", [])) for data in shown for mark in ("<svg", "<img", "<details"))
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        if not (is_drawn or "![" in prose or "There is no picture" in prose):
            bare.append(path.name)
    assert not bare, bare
