"""The Transformer: no head sees the future, a cache changes nothing, padding is unheard, gradients reach everything."""

# pyright: reportPossiblyUnboundVariable=false
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.lm.attention import (
    CrossAttention,
    CrossEntries,
    KeyValueCache,
    RotaryPositions,
    SelfAttention,
    attend,
    length_mask,
    plain_attention,
    rotary_tables,
    rotate,
)
from lightbulb.lm.operations import _transposed, _weight_gradient, add_and_norm, causal_attention
from lightbulb.lm.transformer import Transformer, TransformerConfig

SHAPES = {
    "experts": {},
    "dense": {"num_experts": 1},
    "grouped queries": {"num_key_value_heads": 1},
    "no norm of queries and keys": {"qk_norm": False},
    "untied, n-grams": {"tie_embeddings": False, "ngram_orders": (2, 4), "ngram_rows": 64},
}


def stirred(seed: int = 0, **changes) -> Transformer:
    "A small model with every matrix at random."
    plain = {
        "width": 32,
        "num_heads": 4,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "hidden": 48,
        "num_experts": 4,
        "num_token_heads": 3,
    }
    model = Transformer(TransformerConfig(40, **{**plain, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(40, shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ the future, padding, the memory


@pytest.mark.parametrize("shape", SHAPES)
def test_no_head_hears_the_future_and_all_hear_the_past(shape):
    model, position = stirred(**SHAPES[shape]), 5
    leaves: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda _, __, out: leaves.append(out.detach().requires_grad_()) or leaves[-1])
    output = model(ids(2, 9), encoder_tokens=ids(2, 6), encoder_lengths=torch.tensor([6, 3]))
    heads = [model.logits(output.hidden, head)[:, position].square().sum() for head in range(3)]
    for head in heads:
        encoder, decoder = torch.autograd.grad(head, leaves, retain_graph=True)
        assert not decoder[:, position + 1 :].any(), "the future"
        assert not encoder[1, 3:].any(), "the encoder's padding"
        assert (
            decoder[:, : position + 1].abs().sum(-1).min() > 0
            and encoder[0].abs().sum(-1).min() > 0
            and encoder[1, :3].abs().sum(-1).min() > 0
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_later_target_moves_no_earlier_logit(shape):
    model, tokens = stirred(**SHAPES[shape]), ids(1, 9)
    changed = tokens.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 40
    with torch.no_grad():
        before, after = (model.decode(x) for x in (tokens, changed))
    for head in range(3):
        moved = (model.logits(after, head) - model.logits(before, head)).abs().amax(-1)[0]
        assert moved[:6].max() < 1e-5 < 1e-3 < moved[6:].min()


def test_padding_changes_nothing():
    model = stirred()
    with torch.no_grad():
        plain = model.decode(ids(1, 7), model.encode(ids(1, 4, seed=2)))
        padded = model.decode(ids(1, 7), model.encode(torch.cat([ids(1, 4, seed=2), ids(1, 5, seed=3)], 1), torch.tensor([4])))
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)


def test_padding_does_not_count_in_the_router_s_losses():
    model, lengths = stirred(), torch.tensor([7, 3])
    reports = []
    for seed in (1, 2):
        tokens = ids(2, 7, seed=1)
        tokens[1, 3:] = ids(1, 4, seed=seed + 10)
        reports.append(model(tokens, encoder_tokens=ids(2, 5), decoder_lengths=lengths).router)
    torch.testing.assert_close(reports[0].balance_loss, reports[1].balance_loss)
    torch.testing.assert_close(reports[0].z_loss, reports[1].z_loss)
    assert reports[0].load.shape == (4, 4)


def test_an_empty_encoder_is_the_decoder_alone_for_a_batch_and_for_a_row():
    model, tokens = stirred(), ids(2, 6)
    alone = model.decode(tokens)
    mixed = model.decode(tokens, model.encode(ids(2, 5), torch.tensor([5, 0])))
    torch.testing.assert_close(mixed[1], alone[1], rtol=1e-4, atol=1e-5)
    assert (mixed[0] - alone[0]).abs().max() > 0.01
    mixed.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_distances_go_on_across_the_border():
    "One layer of attention to a text's first part as memory, keys made from the same matrices, sees what self-attention sees."
    torch.manual_seed(0)
    positions, x = RotaryPositions(8), torch.randn(1, 10, 2, 8)
    whole = rotate(x, positions(0, 10, x.device, reach=10))
    memory, own = rotate(x[:, :6], positions(-6, 6, x.device, reach=10)), rotate(x[:, 6:], positions(0, 4, x.device, reach=10))
    expected = torch.einsum("bqhd,bkhd->bhqk", whole[:, 6:], whole[:, :6])
    torch.testing.assert_close(torch.einsum("bqhd,bkhd->bhqk", own, memory), expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ the cache


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_memory", [True, False])
def test_a_cache_changes_nothing(shape, with_memory):
    model, tokens = stirred(**SHAPES[shape]), ids(3, 11)
    with torch.no_grad():
        memory = model.encode(ids(3, 5), torch.tensor([5, 2, 0])) if with_memory else None
        whole, cache, start, parts = model.decode(tokens, memory), model.new_cache(3, memory), 0, []
        for size in (4, 1, 1, 3, 2):
            parts.append(model.decode(tokens[:, start : start + size], cache=cache))
            start += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    assert cache.length == 11


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["extend", "select", "truncate", "copy", "grow"]), min_size=2, max_size=10), st.randoms(use_true_random=False)
)
def test_any_life_of_a_cache_equals_reading_the_surviving_tokens_at_once(operations, random):
    model = stirred(seed=3, ngram_orders=(3,), ngram_rows=32)
    with torch.no_grad():
        memory = model.encode(ids(2, 4), torch.tensor([4, 2]))
        cache, rows, sources = model.new_cache(4, memory), torch.zeros(4, 0, dtype=torch.long), torch.tensor([0, 0, 1, 1])
        for number, operation in enumerate(["extend", *operations, "extend"]):
            count = len(rows)
            if operation in ("extend", "grow"):
                new = ids(count, 1 if operation == "extend" else 3, seed=100 + number)
                hidden, rows = model.decode(new, cache=cache), torch.cat([rows, new], 1)
            elif operation == "select":
                chosen = torch.tensor([random.randrange(count) for _ in range(random.randint(1, 5))])
                cache.select(chosen)
                rows, sources = rows[chosen], sources[chosen]
            elif operation == "truncate":
                length = random.randint(max(0, rows.shape[1] - 2), rows.shape[1])
                cache.truncate(length)
                rows = rows[:, :length]
            elif operation == "copy":
                pairs = [(a, b) for a in range(count) for b in range(count) if a != b and sources[a] == sources[b]]
                if not pairs: continue
                source, target = (torch.tensor([value]) for value in random.choice(pairs))
                cache.copy(source, target)
                rows = rows.clone()
                rows[target] = rows[source]
        assert memory.lengths is not None
        expected = model.decode(rows, type(memory)(memory.hidden[sources], memory.lengths[sources]))
    torch.testing.assert_close(hidden, expected[:, -hidden.shape[1] :], rtol=1e-3, atol=1e-4)
    assert cache.length == rows.shape[1]


def test_tokens_that_are_the_same_in_both_rows_need_not_be_copied():
    cache = KeyValueCache(1)
    keys = torch.tensor([[0.0, 1, 2], [0.0, 1, 9]]).view(2, 1, 3, 1)
    cache.extend(0, keys, keys)
    cache.advance(3)
    cache.select(torch.tensor([1, 0]), unchanged=2)
    seen, _ = cache.extend(0, keys[:, :, :1], keys[:, :, :1])
    assert seen[:, 0, :, 0].tolist() == [[0, 1, 9, 0], [0, 1, 2, 0]]


# ------------------------------------------------------------------ attention and rotary positions against their definitions


@pytest.mark.parametrize(("rows", "width", "outputs"), [(64, 64, 128), (128, 192, 64), (100, 64, 70), (64, 70, 30), (1, 1, 1)])
def test_weight_gradients_in_bfloat16_are_those_of_float32_whatever_the_shape(rows: int, width: int, outputs: int) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(rows, width).bfloat16(), torch.randn(rows, outputs).bfloat16()
    assert torch.equal(_transposed(x), x.T) and torch.equal(_transposed(x[:, : width // 2 + 1]), x[:, : width // 2 + 1].T)
    found, exact = _weight_gradient(x, grad).float(), x.float().T @ grad.float()
    assert torch.allclose(found, exact, rtol=2e-2, atol=2e-2 * exact.abs().max().item())


@given(st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_product_of_rotated_vectors_depends_on_the_distance_alone(first, second, pairs):
    generator = torch.Generator().manual_seed(pairs)
    a, b = (torch.randn(1, 1, 1, 2 * pairs, generator=generator, dtype=torch.float64) for _ in range(2))
    turn = lambda x, position: rotate(x, rotary_tables(torch.tensor([position]), 2 * pairs))
    here = (turn(a, first) * turn(b, second)).sum()
    torch.testing.assert_close(here, (turn(a, first - second) * turn(b, 0)).sum(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_its_formula(groups, causal):
    torch.manual_seed(0)
    queries, keys, values = torch.randn(2, 4, 6, 8), torch.randn(2, groups, 6, 8), torch.randn(2, groups, 6, 8)
    scores = queries @ keys.repeat_interleave(4 // groups, 1).mT / 8**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    expected = scores.softmax(-1) @ values.repeat_interleave(4 // groups, 1)
    torch.testing.assert_close(attend(queries, keys, values, causal=causal), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 256, 257, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_by_blocks_and_its_gradients_are_those_of_the_formula(length: int, dtype: torch.dtype) -> None:
    torch.manual_seed(length)
    parts = [torch.randn(2, 3, length, width).to(dtype).requires_grad_() for width in (16, 16, 24)]
    exact = [part.detach().double().requires_grad_() for part in parts]
    direction = torch.randn(2, 3, length, 24)
    queries, keys, values = exact
    made, expected = causal_attention(*parts), plain_attention(queries, keys, values, torch.ones(length, length).tril().bool())
    gradients = torch.autograd.grad(made, parts, direction.to(dtype)), torch.autograd.grad(expected, exact, direction.double())
    bound = 1e-5 if dtype == torch.float32 else 0.02  # of the norm
    for ours, theirs in zip((made, *gradients[0]), (expected, *gradients[1]), strict=True):
        assert (ours.double() - theirs).norm() <= bound * theirs.norm() + 1e-5


def test_a_sum_and_its_norm_have_the_gradients_of_both() -> None:
    torch.manual_seed(0)
    weight = (torch.rand(40) + 0.5).requires_grad_()
    x, more = torch.randn(7, 40, requires_grad=True), torch.randn(7, 40, requires_grad=True)
    directions = torch.randn(2, 7, 40)
    total = x + more
    plain = total, total / (total.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    for ours, theirs in zip(
        torch.autograd.grad(add_and_norm(x, more, weight), (x, more, weight), tuple(directions)),
        torch.autograd.grad(plain, (x, more, weight), tuple(directions)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def by_formula(queries, keys, values, *, norms, places, groups, causal, padding=0):
    "Softmax attention (B, T, D) of projected (B, T, D), written apart from the library: complex rotations and an explicit 1/√d."

    def heads(x, norm, positions):
        x = x.unflatten(-1, (-1, 8)).transpose(1, 2)  # (B, heads, T, 8)
        if norm is not None:
            x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm
        if positions is None: return x
        angles = positions.double()[:, None] * 10_000.0 ** (-torch.arange(4).double() / 4)
        turned = torch.complex(x[..., :4].double(), x[..., 4:].double()) * torch.complex(angles.cos(), angles.sin())
        return torch.cat([turned.real, turned.imag], -1).float()

    queries, keys, values = (
        heads(x, norm, at) for x, norm, at in zip((queries, keys, values), (*norms, None), (*places, None), strict=True)
    )
    keys, values = (x.repeat_interleave(queries.shape[1] // groups, 1) for x in (keys, values))
    scores = (queries[..., None, :] * keys[:, :, None]).sum(-1) * (1 / math.sqrt(8))
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    if padding:
        scores[..., -padding:] = -torch.inf
    return (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)


def assert_same_gradients(out, expected, inputs):
    "Value and the gradient of every input, in one random direction."
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn(out.shape)
    pairs = zip(torch.autograd.grad(out, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True)
    for number, (own, by_definition) in enumerate(pairs):
        torch.testing.assert_close(own, by_definition, rtol=1e-3, atol=1e-5, msg=lambda text, number=number: f"input {number}: {text}")


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_and_its_gradients_are_the_formula(groups, qk_norm, causal):
    torch.manual_seed(groups)
    layer, x = SelfAttention(32, 4, groups, causal=causal, qk_norm=qk_norm), torch.randn(2, 6, 32, requires_grad=True)
    norms = (layer.query_norm.weight, layer.key_norm.weight) if layer.query_norm and layer.key_norm else (None, None)
    with torch.no_grad():
        for norm in norms:
            if norm is not None:
                norm.copy_(torch.rand(8) + 0.5)
    out = layer(x, RotaryPositions(8)(3, 6, x.device, reach=9))
    projected = (x @ layer.query_key_value.weight.T).split([32, 8 * groups, 8 * groups], -1)
    places = torch.arange(3, 9)
    expected = by_formula(*projected, norms=norms, places=(places, places), groups=groups, causal=causal) @ layer.output.weight.T
    assert_same_gradients(out, expected, [x, *layer.parameters()])


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_cross_attention_and_its_gradients_are_the_formula(groups, qk_norm):
    torch.manual_seed(groups)
    layer, positions = CrossAttention(32, 4, groups, qk_norm=qk_norm), RotaryPositions(8)
    x, hidden = (torch.randn(2, length, 32, requires_grad=True) for length in (3, 7))
    norms = (layer.query_norm.weight, layer.key_norm.weight) if layer.query_norm and layer.key_norm else (None, None)
    with torch.no_grad():
        layer.gate.fill_(0.7)
    lengths = torch.tensor([5, 5])
    keys_and_values = layer.keys_and_values(hidden, positions(-lengths, 7, x.device, reach=8))
    out = layer(x, positions(0, 3, x.device, reach=8), entries=CrossEntries([keys_and_values], length_mask(lengths, 7)))
    keys, values = (hidden @ layer.key_value.weight.T).chunk(2, -1)
    expected = by_formula(
        x @ layer.query.weight.T,
        keys,
        values,
        norms=norms,
        places=(torch.arange(3), torch.arange(-5, 2)),
        groups=groups,
        causal=False,
        padding=2,
    )
    assert_same_gradients(out, layer.gate * expected @ layer.output.weight.T, [x, hidden, *layer.parameters()])


# ------------------------------------------------------------------ learning


def test_gradients_reach_every_parameter_and_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            40, width=32, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, hidden=48, num_experts=4, num_token_heads=2
        )
    )
    tokens, context, optimizer = ids(4, 10), ids(4, 6, seed=2), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        output = model(tokens, encoder_tokens=context)
        losses = [F.cross_entropy(model.logits(output.hidden, k)[:, : 9 - k].flatten(0, 1), tokens[:, 1 + k :].flatten()) for k in range(2)]
        optimizer.zero_grad()
        (losses[0] + losses[1] + 0.01 * output.router.balance_loss).backward()
        optimizer.step()
    assert max(loss.item() for loss in losses) < 0.1
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_autocast_stays_near_float32():
    model = stirred(num_experts=1)
    with torch.no_grad():
        expected = model(ids(2, 9), encoder_tokens=ids(2, 6)).hidden
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(ids(2, 9), encoder_tokens=ids(2, 6)).hidden
        model.logits(hidden).float().square().mean().backward()
    assert (hidden.float() - expected).norm() / expected.norm() < 0.05
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_dropout_acts_in_training_only():
    model = stirred(dropout=0.5)
    assert torch.equal(model.decode(ids(1, 5)), model.decode(ids(1, 5)))
    model.train()
    assert not torch.equal(model.decode(ids(1, 5)), model.decode(ids(1, 5)))


@pytest.mark.parametrize(("name", "low", "high"), [("tiny", 0.8e6, 1.5e6), ("small", 7e6, 14e6), ("moe", 7e6, 14e6), ("base", 80e6, 130e6)])
def test_the_presets_have_the_size_that_they_say(name, low, high):
    with torch.device("meta"):
        own, dense, sparse = (
            Transformer(TransformerConfig.preset(name, 259, **chosen)) for chosen in ({}, {"num_experts": 1}, {"num_experts": 8})
        )
    for model in (own, dense, sparse):
        assert low < model.num_active_parameters - 259 * model.config.width < high
    assert dense.num_parameters < high < sparse.num_parameters
    assert own.num_parameters == (sparse if name in ("moe", "base") else dense).num_parameters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "width must be a multiple of num_heads"),
        ({"num_key_value_heads": 3}, "num_heads must be a multiple of num_key_value_heads"),
        ({"top_k": 9}, "top_k must be at most"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"ngram_orders": (1,)}, "ngram_orders must be 2 or more"),
        ({"rope_base": float("nan")}, "rope_base must be above 1"),
        ({"vocab_size": 0}, "vocab_size must be positive"),
        ({"num_encoder_layers": -1}, "must not be negative"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{"vocab_size": 40, "num_heads": 4, "width": 32, **changes})
