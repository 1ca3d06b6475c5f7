"""A trained model behind the interface of every language model: where a prompt goes, what is written, what it is worth."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from lightbulb.core.checkpoint import save_checkpoint
from lightbulb.core.errors import CheckpointError
from lightbulb.lm.beam_search import generate
from lightbulb.lm.checkpoints import model_state
from lightbulb.lm.language_model import load_language_model
from lightbulb.lm.tokens import load_tokenizer
from lightbulb.lm.trained_model import TrainedLanguageModel
from lightbulb.lm.transformer import Transformer, TransformerConfig

BYTES = load_tokenizer("bytes")
SHAPES = {
    "decoder": {"num_encoder_layers": 0},
    "encoder": {"num_encoder_layers": 1},
    "experts": {"num_encoder_layers": 1, "num_experts": 4, "top_k": 2},
}


def made(vocab_size=BYTES.vocab_size, seed=0, **changes) -> Transformer:
    torch.manual_seed(seed)
    shape: dict[str, Any] = dict(
        width=16, num_heads=2, num_decoder_layers=2, hidden=32, num_experts=1, top_k=1, num_token_heads=3, max_length=24
    )
    network = Transformer(TransformerConfig(vocab_size, **{**shape, **changes}))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


@pytest.fixture(params=SHAPES)
def model(request) -> TrainedLanguageModel:
    return TrainedLanguageModel("small", made(**SHAPES[request.param]), BYTES)


def logs_of(model: TrainedLanguageModel, prompt: str, continuation: str, half: int = 12) -> float:
    "The log-probability by the definition: one whole pass, no cache."
    ids, then, network = BYTES.encode(prompt), BYTES.encode(continuation), model.model
    begun_with = max(len(ids) - 24, min(len(ids), half)) if network.config.num_encoder_layers else len(ids)  # or what the encoder leaves
    read, begun = ids[: len(ids) - begun_with], ids[len(ids) - begun_with :]
    memory = network.encode(torch.tensor([read])) if read else None
    with torch.no_grad():
        logs = network.logits(network.decode(torch.tensor([[BYTES.start_id, *begun, *then]]), memory))[0].log_softmax(-1)
    return float(logs[len(begun) : -1].gather(1, torch.tensor(then)[:, None]).sum())


def test_scores_are_the_definition(model):
    for prompt in ["", "ab", "abcdefgh", *(["x" * 24, "y" * 30] if model.has_encoder else [])]:
        continuations = ["a", "", "ab", "hello"]
        expected = [logs_of(model, prompt, text) if text else 0.0 for text in continuations]
        assert model.score(prompt, continuations) == pytest.approx(expected, abs=2e-4)
        assert [model.score(prompt, [text])[0] for text in continuations] == pytest.approx(expected, abs=2e-4)
    if model.has_encoder:  # more than half of what the decoder can read is given to the continuation
        assert model.score("x" * 20, ["y" * 20, "z"]) == pytest.approx(
            [logs_of(model, "x" * 20, text, 4) for text in ("y" * 20, "z")], abs=2e-4
        )
    assert model.score("a", ["", ""]) == [0.0, 0.0] and model.score("a", []) == []


def test_texts_are_those_of_generate(model):
    prompt = "abcdef"
    ids = generate(model.model, [], prefix=[BYTES.encode(prompt)], start_id=BYTES.start_id, end_id=BYTES.end_id, max_new_tokens=12)[0]
    assert model.generate([prompt], max_new_tokens=12) == [BYTES.decode(ids)]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_text_does_not_depend_on_its_neighbours(model, temperature):
    prompts = ["abc", "", "hello", "abcdefghijk"]
    settings = dict(max_new_tokens=10, temperature=temperature, top_p=0.9, seed=3)
    together = model.generate(prompts, **settings)
    assert together == [model.generate([prompt], **settings)[0] for prompt in prompts] == model.generate(prompts[::-1], **settings)[::-1]
    if temperature:
        assert together != model.generate(prompts, **settings | {"seed": 4})


def test_each_repetition_of_a_prompt_is_drawn_anew_in_any_batch():
    model, settings = TrainedLanguageModel("small", made(**SHAPES["decoder"]), BYTES), dict(max_new_tokens=6, temperature=1.0, seed=3)
    copies = model.generate(["ab"] * 70, **settings)
    assert len(set(copies)) == 70 and copies[:32] == model.generate(["ab"] * 32, **settings)  # 32 rows are written at once
    mixed = model.generate([*["cd"] * 20, *["ab", "efg"] * 35], **settings)
    assert mixed[20::2] == copies[:35] and mixed[:20] == model.generate(["cd"] * 20, **settings)


def test_an_answer_longer_than_a_piece_goes_on_from_its_last_piece():
    model = TrainedLanguageModel("small", made(num_encoder_layers=1), BYTES)
    start: dict[str, Any] = dict(start_id=BYTES.start_id, end_id=BYTES.end_id)

    def goes_on(prompt: str, rooms: Sequence[int]) -> str:
        "Each further piece begins with the last half of what the decoder can read."
        ids, end = BYTES.encode(prompt), len(BYTES.encode(prompt))
        border = max(0, len(ids) - max(len(ids) - 24, 12))
        for room in rooms:
            written = generate(model.model, ids[:border][-24:], **start, prefix=[ids[border:]], max_new_tokens=room)[0]
            assert BYTES.end_id not in written
            ids, border = ids + written, len(ids) + len(written) - 12
        return BYTES.decode(ids[end:])

    assert model.generate(["abcde"], max_new_tokens=40) == [goes_on("abcde", [19, 12, 9])]
    full = "z" * 40  # the encoder reads 24, the decoder begins with 16 and has room for 8
    assert model.generate([full], max_new_tokens=20) == [goes_on(full, [8, 12])]
    mixed = model.generate(["abcde", full], max_new_tokens=20)
    assert mixed == [model.generate([prompt], max_new_tokens=20)[0] for prompt in ("abcde", full)]
    with pytest.raises(ValueError, match="48 tokens and 1 more are wanted, but small reads 48 in all"):
        model.generate(["z" * 48], max_new_tokens=9)


def test_a_stop_string_ends_a_text_before_it(model):
    text = model.generate(["abc"], max_new_tokens=15)[0]
    middle = next(letter for letter in text[3:] if letter.isascii())
    assert model.generate(["abc", "abd"], max_new_tokens=15, stop=["never", middle])[0] == text.split(middle)[0]
    for ask in (model.generate, load_language_model("openai:m@http://localhost:1").generate):
        with pytest.raises(ValueError, match="put it into a list"):
            ask(["abc"], stop="never")


def test_tokens_are_counted_and_threads_do_not_mix(model):
    before = model.num_tokens_used
    expected = model.generate(["abc"], max_new_tokens=6)[0]
    assert model.num_tokens_used >= before + 3 and model.count_tokens("abc") == 3
    texts, threads = {}, []
    for number in range(6):
        thread = threading.Thread(target=lambda n=number: texts.__setitem__(n, model.generate(["abc"], max_new_tokens=6)[0]))
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts.values()) == {expected}


def test_marks_of_training_never_reach_a_text():
    network = made(vocab_size=BYTES.vocab_size + 3, num_encoder_layers=0)
    with torch.no_grad():
        network.unembedding[BYTES.vocab_size :] *= 3
    model = TrainedLanguageModel("marked", network, BYTES)
    ids = generate(network, [BYTES.start_id, 97], max_new_tokens=20)[0]
    assert any(token >= BYTES.vocab_size for token in ids)
    assert isinstance(model.generate(["a"], max_new_tokens=20)[0], str)
    with pytest.raises(ValueError, match="the tokenizer bytes has 259 ids, but tiny knows 100"):
        TrainedLanguageModel("tiny", made(vocab_size=100, num_encoder_layers=0), BYTES)


def test_a_checkpoint_is_a_language_model(tmp_path):
    network = made(num_encoder_layers=1, ngram_orders=(2, 3), ngram_rows=64)
    save_checkpoint(tmp_path / "one.ckpt", model_state(network, "bytes", BYTES.vocab_size))
    loaded = load_language_model(f"lightbulb:{tmp_path / 'one.ckpt'}", device="cpu")
    direct = TrainedLanguageModel("direct", network, BYTES)
    assert loaded.generate(["abc", "b"], max_new_tokens=9) == direct.generate(["abc", "b"], max_new_tokens=9)
    assert loaded.score("a", ["b", "cd"]) == pytest.approx(direct.score("a", ["b", "cd"]), abs=1e-5)
    assert loaded.name.startswith("lightbulb:") and loaded.context_length == 48
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_language_model(f"lightbulb:{tmp_path / 'none'}")
    (tmp_path / "half").write_bytes((tmp_path / "one.ckpt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_language_model(f"lightbulb:{tmp_path / 'half'}")
