"""Decoding and beam search against exhaustive search, Hugging Face, no cache, greedy decoding, and the definition."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmarks._llama import llama_like, llama_twin
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.lm.beam_search import (
    _best_continuations,
    _FinishedTexts,
    _largest,
    _num_texts,
    _slots_of,
    beam_search,
    generate,
    generate_actions,
    plain_beam_search,
)
from lightbulb.lm.decoding import GenerationConfig, _candidates, _likeliest, at_rest, read_prompts, speculate
from lightbulb.lm.transformer import Transformer, TransformerConfig


class WithoutCache:
    "A model that reads everything anew; its cache holds ids and a memory only."

    class Ids:
        def __init__(self, num_rows, memory):
            self.ids, self.memory = torch.zeros(num_rows, 0, dtype=torch.long), memory

        @property
        def length(self):
            return self.ids.shape[1]

        def truncate(self, length):
            self.ids = self.ids[:, :length]

        def select(self, indices, unchanged=0):
            self.ids = self.ids[indices]
            if self.memory is not None:
                self.memory = type(self.memory)(
                    self.memory.hidden[indices], None if self.memory.lengths is None else self.memory.lengths[indices]
                )

    def __init__(self, model):
        self.model, self.config, self.unembedding = model, model.config, model.unembedding
        self.logits, self.head_hidden, self.encode = model.logits, model.head_hidden, model.encode

    def new_cache(self, batch_size, memory=None):
        return self.Ids(batch_size, memory)

    def decode(self, tokens, memory=None, cache: Any = None):
        cache.ids = torch.cat([cache.ids, tokens], 1)
        return self.model.decode(cache.ids, cache.memory)[:, -tokens.shape[1] :]


def random_model(size=4, seed=0, **changes) -> Transformer:
    "A tiny Transformer whose distributions are neither flat nor certain."
    torch.manual_seed(seed)
    shape: dict[str, Any] = dict(
        width=16,
        num_heads=2,
        num_encoder_layers=0,
        num_decoder_layers=2,
        hidden=32,
        num_experts=1,
        top_k=1,
        num_token_heads=3,
        max_length=64,
    )
    model = Transformer(TransformerConfig(size, **{**shape, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


def all_texts(model, start, config) -> list[tuple[tuple[int, ...], float]]:
    "Every text with its score, the best first."
    texts = list(product(range(model.config.vocab_size), repeat=config.max_new_tokens))
    with torch.no_grad():
        logs = model.logits(model.decode(torch.tensor([[*start, *text] for text in texts]))).log_softmax(-1)[:, len(start) - 1 : -1]
    taken, found = logs.gather(2, torch.tensor(texts)[..., None])[..., 0], {}
    for text, values in zip(texts, taken, strict=True):
        ended = cut(list(text), config.end_id)
        if ended not in found:
            found[ended] = float(values[: len(ended)].sum()) / len(ended) ** config.length_penalty
    return sorted(found.items(), key=lambda pair: -pair[1])


def cut(ids: list[int], end_id: int | None) -> tuple[int, ...]:
    return tuple(ids[: ids.index(end_id) + 1] if end_id in ids else ids)


# ------------------------------------------------------------------ against all texts there are


@pytest.mark.parametrize("end_id", [None, 0, 2])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_beam_of_full_width_is_exhaustive_search(seed, penalty, end_id):
    model, config = random_model(4, seed), GenerationConfig(max_new_tokens=4, end_id=end_id, length_penalty=penalty, early_stopping="never")
    starts = [[1], [3, 2]]  # of two lengths: two groups
    width = _num_texts(config, 4)
    sequences, scores = beam_search(model, starts, config, beam_width=width)
    for row, start in enumerate(starts):
        truth = dict(all_texts(model, start, config))
        found = [cut(text, end_id) for text in sequences[row].tolist()]
        assert len(found) == len(truth) == width and set(found) == set(truth)
        torch.testing.assert_close(scores[row], torch.tensor([truth[text] for text in found]), atol=2e-5, rtol=1e-5)
        assert (scores[row].diff() <= 0).all()


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_narrow_beam_is_the_definition(width):
    "Beam search with lists, sorting every continuation."
    model = random_model(5, 3)

    def next_logs(text: tuple[int, ...]) -> list[float]:
        with torch.no_grad():
            return model.logits(model.decode(torch.tensor([[1, *text]]))[0, -1]).log_softmax(-1).tolist()

    beams = plain_beam_search(next_logs, 6, width)
    sequences, scores = beam_search(model, [1], beam_width=width, max_new_tokens=6, length_penalty=0.0)
    assert sequences[0].tolist() == [list(text) for text, _ in beams]
    torch.testing.assert_close(scores[0], torch.tensor([score for _, score in beams]), atol=2e-5, rtol=1e-5)
    if width == 1:
        assert generate(model, [1], max_new_tokens=6) == sequences[0].tolist()


# ------------------------------------------------------------------ against Hugging Face


@pytest.fixture(scope="module")
def twins():
    model = llama_like(60, width=32, num_layers=2, num_heads=4, num_key_value_heads=2, hidden=64)
    return model, llama_twin(model)


def test_the_twins_have_the_same_logits(twins):
    ids = torch.randint(60, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(twins[0].logits(twins[0].decode(ids)), twins[1](ids).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("width", [2, 4])
def test_sequences_and_scores_are_those_of_hugging_face(twins, width, penalty, early_stopping):
    model, twin = twins
    ids = torch.randint(60, (6, 7), generator=torch.Generator().manual_seed(width))
    with torch.no_grad():
        for end_id in (None, 5, 11, 33):
            theirs = twin.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                num_beams=width,
                num_return_sequences=width,
                max_new_tokens=16,
                do_sample=False,
                length_penalty=penalty,
                early_stopping=early_stopping,
                eos_token_id=end_id,
                pad_token_id=end_id,
                return_dict_in_generate=True,
                output_scores=True,
            )
            ours = beam_search(
                model, ids, beam_width=width, max_new_tokens=16, length_penalty=penalty, early_stopping=early_stopping, end_id=end_id
            )
            texts = theirs.sequences[:, 7:].view(6, width, -1)
            assert texts.tolist() == ours.sequences.tolist()
            torch.testing.assert_close(ours.scores, theirs.sequences_scores.view(6, width), atol=2e-5, rtol=1e-5)


def test_greedy_is_hugging_faces(twins):
    ids = torch.randint(60, (4, 5), generator=torch.Generator().manual_seed(1))
    theirs = twins[1].generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0)
    assert generate(twins[0], ids, max_new_tokens=24) == theirs[:, 5:].tolist()


# ------------------------------------------------------------------ the cache changes nothing


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"num_key_value_heads": 1},
        {"num_encoder_layers": 2},
        {"num_encoder_layers": 1, "num_experts": 4, "top_k": 2},
    ],
    ids=["decoder", "one key head", "encoder", "experts"],
)
@pytest.mark.parametrize("method", ["greedy", "sampling", "beam", "speculative"])
def test_with_and_without_a_cache_the_text_is_the_same(method, shape):
    model = random_model(9, 5, **shape)
    contexts = [[1, 2, 3], [4], [5, 6, 7, 8, 1]] if method != "speculative" else [[1, 2, 3, 4]]
    config = GenerationConfig(method=method, max_new_tokens=14, start_id=0, end_id=8, beam_width=3)
    assert generate(model, contexts, config) == generate(WithoutCache(model), contexts, config)
    prefix = [[2, 3], [], [4, 4, 4, 4]][: len(contexts)]
    assert generate(model, contexts, config, prefix=prefix) == generate(WithoutCache(model), contexts, config, prefix=prefix)


@pytest.mark.parametrize("method", ["greedy", "sampling", "beam"])
@pytest.mark.parametrize("num_encoder_layers", [0, 2])
def test_a_row_does_not_depend_on_its_neighbours(method, num_encoder_layers):
    model = random_model(9, 6, num_encoder_layers=num_encoder_layers)
    contexts = [[1, 2, 3], [], [5, 6], [5, 6], [7, 8, 1, 2]]
    config = GenerationConfig(method=method, max_new_tokens=12, start_id=0, end_id=4, seed=3)
    together = generate(model, contexts, config)
    alone = [generate(model, context, config)[0] for context in contexts]
    assert [text for row, text in enumerate(together) if row != 3] == [text for row, text in enumerate(alone) if row != 3]
    assert generate(model, contexts[::-1], config)[::-1] == together or method == "sampling"  # twins draw in their order
    if method == "sampling":
        assert generate(model, contexts, config) == together != generate(model, contexts, config, seed=4)
        assert together[2] != together[3]  # the same context twice is not the same text twice
    padded, lengths = torch.tensor([[1, 2, 3, 0], [0] * 4, [5, 6, 9 - 1, 8], [5, 6, 0, 0], [7, 8, 1, 2]]), [3, 0, 2, 2, 4]
    assert generate(model, padded, config, lengths=lengths) == together


# ------------------------------------------------------------------ longer than the model


@pytest.mark.parametrize("method", ["greedy", "sampling", "beam", "speculative"])
@pytest.mark.parametrize("shape", [{}, {"num_encoder_layers": 1}], ids=["decoder", "encoder"])
def test_a_text_longer_than_the_model_goes_on_from_what_was_written(method, shape):
    "Written in pieces by hand: a decoder begins with the last half of what it can read, an encoder reads what stands before it."
    model = random_model(9, 8, max_length=10, **shape)
    once: dict[str, Any] = dict(method=method, start_id=0, beam_width=3)
    context = [1, 2, 3]
    if shape:  # start alone leaves room for ten, start and five for five
        first = generate(model, context, **once, max_new_tokens=10)[0]
        read = context + first
        second = generate(model, read[:-5], prefix=[read[-5:]], **once, max_new_tokens=5, seed=1)[0]
        read = (read + second)[-15:]
        third = generate(model, read[:-5], prefix=[read[-5:]], **once, max_new_tokens=5, seed=2)[0]
    else:  # start and three tokens leave room for seven, start and five for five
        first = generate(model, context, **once, max_new_tokens=7)[0]
        second = generate(model, first[-5:], **once, max_new_tokens=5, seed=1)[0]
        third = generate(model, second, **once, max_new_tokens=5, seed=2)[0]
    whole = first + second + third
    assert generate(model, context, **once, max_new_tokens=len(whole)) == [whole]
    assert generate(model, context, **once, max_new_tokens=len(first) + 1)[0][: len(first)] == first
    last_end = whole[len(first) + 2]  # a row that ends in its second piece ends there
    if method == "greedy":
        ended = generate(model, context, **once, end_id=last_end, max_new_tokens=len(whole))[0]
        assert ended == list(cut(whole, last_end))


@pytest.mark.parametrize("num_encoder_layers", [0, 1])
def test_neighbours_and_stops_hold_in_long_texts_too(num_encoder_layers):
    model = random_model(9, 6, num_encoder_layers=num_encoder_layers, max_length=12)
    contexts = [[1, 2, 3], [], [5, 6], [7, 8, 1, 2]]
    for method in ("greedy", "sampling"):
        config = GenerationConfig(method=method, max_new_tokens=50, start_id=0, seed=2)
        together = generate(model, contexts, config)
        assert together == [generate(model, context, config)[0] for context in contexts]
        assert [len(ids) for ids in together] == [50] * 4
    stop = lambda row, ids: len(ids) == 20 + row
    stopped = generate(model, contexts, start_id=0, max_new_tokens=50, stop=stop)
    assert [len(ids) for ids in stopped] == [20, 21, 22, 23]
    assert stopped == [ids[: 20 + row] for row, ids in enumerate(generate(model, contexts, start_id=0, max_new_tokens=50))]


def test_a_search_or_an_action_beyond_the_model_is_refused_without_advice_that_nobody_can_follow():
    model = random_model(5)
    for search in (lambda: beam_search(model, [1, 2], max_new_tokens=64), lambda: generate_actions(model, [1, 2], 64, 2)):
        with pytest.raises(ValueError, match="2 tokens and 64 new ones do not fit the model's max_length 64; ask for fewer") as caught:
            search()
        assert "allow" not in str(caught.value)
    with pytest.raises(ValueError, match="a context of 70 tokens is more than the model's max_length 64; give its last part"):
        generate(model, [1] * 70)


# ------------------------------------------------------------------ speculative decoding


@pytest.fixture(scope="module")
def trained():
    "A model of six heads and the bytes that it learned, this repository's own prose."
    torch.manual_seed(0)
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_bytes()[:1200]
    ids, heads, length, steps = torch.tensor(list(text)), 6, 80, 160
    model = Transformer(
        TransformerConfig(
            256,
            width=64,
            num_heads=4,
            num_encoder_layers=0,
            num_decoder_layers=2,
            hidden=128,
            num_experts=1,
            num_token_heads=heads,
            max_length=512,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=7e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 7e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        windows = torch.stack([ids[at : at + length + heads] for at in torch.randint(len(ids) - length - heads, (8,))])
        hidden = model(windows[:, :length]).hidden
        losses = [
            F.cross_entropy(model.logits(hidden, k).flatten(0, 1), windows[:, k + 1 : k + 1 + length].flatten()) for k in range(heads)
        ]
        loss = sum(losses[1:], losses[0]) / heads
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), list(text)


def test_speculative_decoding_is_greedy_decoding_on_a_trained_model(trained):
    model, text = trained
    passes, written = {True: 0, False: 0}, 0
    for start in range(0, 1100, 100):
        config = GenerationConfig(max_new_tokens=70, end_id=ord(".") if start % 200 else None)
        prompt = read_prompts(model, text[start : start + 40], config)[0]
        expected = generate(model, text[start : start + 40], config)
        for notes in passes:
            with at_rest(model):
                speculation = speculate(model, prompt, replace(config, notes=notes))
            assert [speculation.tokens] == expected
            assert sum(part.num_confirmed for part in speculation.rounds) == len(speculation.tokens)
            assert not any(any(part.from_notes) for part in speculation.rounds) or notes
            passes[notes] += len(speculation.rounds)
        written += len(expected[0])
    assert written / passes[False] > 1.5 and written / passes[True] > 2  # learned text is guessed well ahead


@pytest.mark.parametrize("num_draft", [1, 2, 5, 12])
def test_the_number_of_proposals_changes_only_the_passes(trained, num_draft):
    model, text = trained
    greedy_text = generate(model, text[:30], max_new_tokens=60)
    assert generate(model, text[:30], method="speculative", num_draft=num_draft, max_new_tokens=60) == greedy_text


@pytest.mark.parametrize("seed", range(8))
def test_speculative_decoding_is_greedy_decoding_with_any_weights(seed):
    model = random_model(6, seed, num_encoder_layers=seed % 2, num_token_heads=2 + seed % 4)
    for end_id in (None, 3):
        config = GenerationConfig(max_new_tokens=25, start_id=0, end_id=end_id)
        for notes in (True, False):
            assert generate(model, [1, 2], config, method="speculative", notes=notes) == generate(model, [1, 2], config)


@pytest.mark.parametrize("num_encoder_layers", [0, 1])
def test_rows_of_one_length_speculate_too(num_encoder_layers):
    "Also where they go on beyond the model's length."
    model = random_model(9, 6, num_encoder_layers=num_encoder_layers, max_length=16)
    contexts, config = [[1, 2], [1, 3], [4, 5, 6], [7, 2]], GenerationConfig(method="speculative", max_new_tokens=30, start_id=0, end_id=8)
    for prefix in (None, [[1], [2], [3], [4]]):
        alone = [generate(model, ids, config, prefix=prefix and prefix[row])[0] for row, ids in enumerate(contexts)]
        assert generate(model, contexts, config, prefix=prefix) == alone


def test_notes_alone_let_a_model_with_one_head_speculate():
    model = random_model(6, 0, num_token_heads=1)
    config = GenerationConfig(max_new_tokens=40, num_draft=6)
    with at_rest(model):
        speculation = speculate(model, read_prompts(model, [1, 2], config)[0], config)
    assert [speculation.tokens] == generate(model, [1, 2], config) and speculation.tokens_per_pass > 1


def test_of_equal_tokens_the_lowest_id_wins():
    assert _likeliest(torch.tensor([0.0, 1.0, 1.0 + 5e-5, 1.0 - 5e-5])).tolist() == 1
    assert _likeliest(torch.tensor([0.0, 1.0, 1.0 + 5e-4])).tolist() == 2
    model = random_model(6, 1)
    with torch.no_grad():
        model.unembedding[4] = model.unembedding[2]  # two tokens that are one
    text = generate(model, [1], max_new_tokens=40)
    assert 4 not in text[0] and text == generate(model, [1], method="speculative", max_new_tokens=40)


# ------------------------------------------------------------------ sampling


@given(
    st.integers(0, 10_000), st.sampled_from([None, 1, 3, 7, 50]), st.sampled_from([1.0, 0.9, 0.5, 0.01]), st.sampled_from([0.3, 1.0, 3.0])
)
@settings(max_examples=60, deadline=None)
def test_candidates_are_the_definition(seed, top_k, top_p, temperature):
    logits = torch.randn(7, generator=torch.Generator().manual_seed(seed)) * 3
    found, ids = _candidates(logits[None], GenerationConfig(top_k=top_k, top_p=top_p, temperature=temperature))
    whole = (logits.double() / temperature).softmax(-1).tolist()
    order = sorted(range(7), key=lambda token: -whole[token])[: top_k or 7]
    mass, kept = sum(whole[token] for token in order), []
    for token in order:
        kept.append(token)
        if top_p < 1 and sum(whole[t] for t in kept) / mass >= top_p: break
    expected = {token: whole[token] / sum(whole[t] for t in kept) for token in kept}
    given_out = {token: share for token, share in zip(ids[0].tolist(), found[0].tolist(), strict=True) if share > 0}
    assert given_out == pytest.approx(expected, abs=1e-9)


def test_drawn_tokens_have_the_right_frequencies():
    model = random_model(8, 2)
    with torch.no_grad():
        share = model.logits(model.decode(torch.tensor([[1, 2]]))[0, -1]).softmax(-1)
    rows = generate(model, [[1, 2]] * 4000, method="sampling", max_new_tokens=1)
    counts = torch.tensor([row[0] for row in rows]).bincount(minlength=8)
    chi_square = float(((counts - 4000 * share) ** 2 / (4000 * share)).sum())
    assert chi_square < 24.3  # the 99.9% quantile for 7 degrees of freedom


# ------------------------------------------------------------------ actions


@pytest.mark.parametrize("num_encoder_layers", [0, 1])
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 5])  # the heads reach three
def test_actions_have_exact_scores_and_states(num_tokens, num_encoder_layers):
    model = random_model(5, 4, num_encoder_layers=num_encoder_layers)
    contexts = [[1, 2], [3], [4, 4, 1]]
    actions = generate_actions(model, contexts, num_tokens, 4, start_id=0)
    assert actions.tokens.shape == (3, 4, num_tokens) and actions.hidden.shape == (3, 4, num_tokens, 16)
    for row, context in enumerate(contexts):
        begun = [0] if num_encoder_layers else [0, *context]
        memory = model.encode(torch.tensor([context])) if num_encoder_layers else None
        assert len({tuple(action) for action in actions.tokens[row].tolist()}) == 4
        for action, score, states in zip(actions.tokens[row], actions.scores[row], actions.hidden[row], strict=True):
            with torch.no_grad():
                hidden = model.decode(torch.tensor([[*begun, *action.tolist()]]), memory)[0]
            logs = model.logits(hidden).log_softmax(-1)[len(begun) - 1 : -1]
            torch.testing.assert_close(score, logs.gather(1, action[:, None]).sum(), atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(states, hidden[len(begun) :], atol=2e-5, rtol=1e-5)
        assert (actions.scores[row].diff() <= 0).all()


def test_with_every_combination_proposed_actions_are_exhaustive_search():
    model = random_model(4, 7)
    actions = generate_actions(model, [1], 3, 10, num_proposals=64)
    truth = all_texts(model, [1], GenerationConfig(max_new_tokens=3, length_penalty=0.0))[:10]
    assert [tuple(action) for action in actions.tokens[0].tolist()] == [text for text, _ in truth]


# ------------------------------------------------------------------ parts


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 6000), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_largest_is_topk(seed, rows, size, count):
    values = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    found, places = _largest(values, min(count, size))
    assert torch.equal(found, values.topk(min(count, size)).values) and torch.equal(values.gather(1, places), found)
    assert all(len(set(row)) == len(row) for row in places.tolist())


@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=4))
def test_every_beam_gets_one_slot_and_moves_only_if_it_must(parents):
    slots, moved = _slots_of(torch.tensor(parents))
    for row, slot, went in zip(parents, slots.tolist(), moved.tolist(), strict=True):
        assert sorted(slot) == list(range(5))
        assert [went[i] for i in range(5)] == [row[i] in row[:i] for i in range(5)]
        assert all(slot[i] == row[i] for i in range(5) if not went[i])


def test_impossible_continuations_come_last():
    values, parents, ids = _best_continuations(torch.zeros(1, 3), torch.zeros(1, 1), 8)
    assert values[0, :3].isfinite().all() and (values[0, 3:] == -torch.inf).all()
    assert parents.max() == 0 and ids[0, :3].sort().values.tolist() == [0, 1, 2]


def test_texts_that_cannot_be_written_are_no_beams():
    "Of five tokens two have been written, and none of the last four may be repeated."
    model, config = random_model(5), GenerationConfig(max_new_tokens=3, no_repeat=1)
    sequences, scores = beam_search(model, [1, 2], config, beam_width=6)
    assert scores.isfinite().all() and sorted(sequences[0].tolist()) == sorted(map(list, permutations([0, 3, 4])))
    with pytest.raises(ValueError, match="at most the 6 texts that are found after context 0, got 7"):
        beam_search(model, [1, 2], config, beam_width=7)
    with pytest.raises(ValueError, match="at most the 6 texts that are found after context 1, got 7"):
        beam_search(model, [[1, 1], [1, 2]], config, beam_width=7)


def test_a_closed_context_takes_no_more():
    store = _FinishedTexts(2, GenerationConfig(beam_width=1, max_new_tokens=2, end_id=0, early_stopping=True), torch.device("cpu"))
    texts, both = torch.tensor([[[1, 0]], [[2, 0]]]), torch.ones(2, 1, dtype=torch.bool)
    store.add(torch.tensor([[-2.0], [-2.0]]), texts, torch.tensor([[True], [False]]), 1)
    store.close(torch.zeros(2), 1)
    store.add(torch.tensor([[-1.0], [-1.0]]), texts, both, 1)
    assert store.scores.tolist() == [[-2.0], [-1.0]] and store.is_open.tolist() == [False, True]


def test_writing_switches_dropout_off_and_on_again_and_training_goes_on():
    model = random_model(9, 0, dropout=0.5).train()
    assert generate(model, [1, 2], max_new_tokens=20) == generate(model, [1, 2], max_new_tokens=20)
    assert model.training
    for method in ("beam", "speculative", "sampling"):
        generate(model, [1, 2], method=method, max_new_tokens=5)
    hidden = model(torch.tensor([[1, 2, 3, 4]])).hidden
    F.cross_entropy(model.logits(hidden)[0, :-1], torch.tensor([2, 3, 4])).backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if not name.startswith("heads"))


@pytest.mark.parametrize("shape", [{}, {"num_encoder_layers": 1}])
def test_an_empty_context_is_written_from_the_start_token(shape):
    model = random_model(5, 2, **shape)
    texts = generate(model, [[], [1, 2]], start_id=0, max_new_tokens=6)
    assert [len(text) for text in texts] == [6, 6]
    assert (
        texts[0]
        == generate(model, [], start_id=0, max_new_tokens=6)[0]
        == generate(WithoutCache(model), [[]], start_id=0, max_new_tokens=6)[0]
    )


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"beam_width": 10, "method": "beam", "max_new_tokens": 1}, "beam_width must be at most the 5 texts of 1 tokens over 5, got 10"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"end_id": 5}, "token ids must be between 0 and 4, got 5"),
        ({"length_penalty": float("nan")}, "length_penalty must be a number, got nan"),
        ({"method": "sampling", "top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_written_is_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        generate(random_model(5), [1, 2], **settings)
    assert words in str(caught.value)
