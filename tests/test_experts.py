"""The mixture of experts: all back ends against a plain loop, gradients that reach everything, losses by definition."""

# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.lm.expert_gradients import Routes, gated_hidden
from lightbulb.lm.experts import MixtureOfExperts, RouterReport


def plain_loop(layer: MixtureOfExperts, x: torch.Tensor) -> torch.Tensor:
    "The definition: every expert on every token, weighed by the router, zero where it was not chosen."
    tokens = x.reshape(-1, layer.width)
    logits = tokens @ layer.router.weight.T + layer.router.offsets
    probabilities = logits.softmax(-1)
    best, experts = probabilities.topk(layer.top_k, -1)
    chosen = torch.zeros_like(probabilities).scatter(1, experts, best)
    weights = chosen / chosen.sum(-1, keepdim=True) if layer.top_k > 1 else chosen
    out = torch.zeros_like(tokens)
    for expert in range(layer.num_experts):
        if expert % 2 == 0:
            made = F.gelu(tokens @ layer.gelu.up[expert // 2]) @ layer.gelu.down[expert // 2].T
        else:
            gate, up = (tokens @ layer.swiglu.up[expert // 2]).chunk(2, -1)
            made = (F.silu(gate) * up) @ layer.swiglu.down[expert // 2].T
        out = out + weights[:, expert, None] * made
    return out.view(x.shape)


def value_and_gradients(layer, x, seed, function):
    "The output, and the gradients of x and of all parameters, for one random direction."
    x = x.clone().requires_grad_()
    for parameter in layer.parameters():
        parameter.grad = None
    out = function(x)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out.dtype))
    return out.detach(), {"x": x.grad, **{name: parameter.grad for name, parameter in layer.named_parameters()}}


@pytest.mark.parametrize("back_end", ["plain", "sliced", "grouped"])
@pytest.mark.parametrize(
    ("num_experts", "top_k", "tokens"), [(8, 2, 300), (8, 1, 40), (5, 3, 64), (2, 2, 7), (4, 4, 33), (1, 1, 9), (8, 2, 1)]
)
def test_a_back_end_agrees_with_the_plain_loop(num_experts, top_k, tokens, back_end):
    torch.manual_seed(num_experts * 10 + top_k)
    layer = MixtureOfExperts(16, 48, num_experts, top_k)
    layer.back_end = back_end
    x = torch.randn(tokens, 16)
    out, gradients = value_and_gradients(layer, x, 1, lambda x: layer(x)[0])
    expected, expected_gradients = value_and_gradients(layer, x, 1, lambda x: plain_loop(layer, x))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_gradients.items():
        if gradient is None:
            assert gradients[name] is None or not gradients[name].any(), name
        else:
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_many_pieces_agree_with_the_plain_loop(monkeypatch):
    "Runs that are cut into pieces, with unequal remainders."
    monkeypatch.setattr("lightbulb.lm.expert_gradients._PIECE_UNITS", 640)
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(16, 48, 4, 2), torch.randn(7, 31, 16)
    out, gradients = value_and_gradients(layer, x, 1, lambda x: layer(x)[0])
    expected, expected_gradients = value_and_gradients(layer, x, 1, lambda x: plain_loop(layer, x))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("back_end", ["plain", "sliced", "grouped"])
@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
def test_bfloat16_stays_near_float32(back_end, autocast):
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(64, 96, 8, 2), torch.randn(500, 64).bfloat16().float()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.bfloat16())  # so that both route alike
    expected, expected_gradients = value_and_gradients(layer, x, 1, lambda x: plain_loop(layer, x))
    layer.back_end = back_end
    if not autocast:
        layer, x = layer.bfloat16(), x.bfloat16()
        layer.router.offsets = layer.router.offsets.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out, gradients = value_and_gradients(layer, x, 1, lambda x: layer(x)[0])
    assert out.dtype == torch.bfloat16
    for name, gradient, near in [("output", out, expected), *((name, gradients[name], near) for name, near in expected_gradients.items())]:
        error = (gradient.float() - near).norm() / near.norm()
        assert error < 0.03, f"{name}: {error:.3f}"  # eight bits of mantissa, four roundings


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_assignment_has_its_own_row_in_its_expert_s_run(num_experts, num_tokens, multiple, random):
    top_k = random.randint(1, num_experts)
    experts = torch.tensor([random.sample(range(num_experts), top_k) for _ in range(num_tokens)])
    routes = Routes.of(experts, num_experts, multiple)
    ends = torch.tensor(routes.sizes).cumsum(0)
    assert len(routes.tokens) == sum(routes.sizes) and all(size % multiple == 0 for size in routes.sizes)
    assert len(set(routes.places.flatten().tolist())) == num_tokens * top_k
    for token in range(num_tokens):
        for choice in range(top_k):
            expert, row = int(experts[token, choice]), int(routes.places[token, choice])
            assert ends[expert] - routes.sizes[expert] <= row < ends[expert] and routes.tokens[row] == token


# ------------------------------------------------------------------ gradients and losses


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_loss_of_the_output_alone_reaches_the_router_and_every_expert(top_k):
    torch.manual_seed(0)
    layer = MixtureOfExperts(16, 48, 8, top_k)
    layer(torch.randn(400, 16))[0].square().sum().backward()
    assert layer.router.weight.grad.abs().sum(1).min() > 0
    for stack in (layer.gelu, layer.swiglu):
        assert stack.up.grad.abs().sum((1, 2)).min() > 0 and stack.down.grad.abs().sum((1, 2)).min() > 0, stack.kind


def test_both_router_losses_reach_every_row_of_the_router_and_ignore_padding():
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(16, 48, 8, 2), torch.randn(2, 9, 16)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    for loss in ("balance_loss", "z_loss"):
        layer.router.weight.grad = None
        getattr(layer(x, mask)[1], loss).backward()
        assert layer.router.weight.grad.abs().sum(1).min() > 0
        gradient = layer.router.weight.grad.clone()
        x_other = torch.where(mask[..., None], x, torch.randn_like(x))
        layer.router.weight.grad = None
        getattr(layer(x_other, mask)[1], loss).backward()
        torch.testing.assert_close(layer.router.weight.grad, gradient)


def test_the_report_follows_its_definition():
    torch.manual_seed(0)
    logits, mask = torch.randn(50, 6), torch.rand(50) < 0.7
    experts = logits.topk(2, -1).indices
    report = RouterReport.of(logits, experts, mask)
    kept, chosen = logits[mask], experts[mask]
    load = torch.bincount(chosen.flatten(), minlength=6) / chosen.numel()
    torch.testing.assert_close(report.load, load)
    torch.testing.assert_close(report.balance_loss, 6 * (load * kept.softmax(-1).mean(0)).sum())
    torch.testing.assert_close(report.z_loss, kept.exp().sum(-1).log().square().mean())
    total = RouterReport.sum([report, report])
    assert total is not None and total.load.shape == (2, 6)
    torch.testing.assert_close(total.balance_loss, 2 * report.balance_loss)


def test_a_balanced_router_costs_one_and_a_collapsed_one_the_number_of_experts():
    even = torch.eye(4).repeat(8, 1) * 1e-4
    assert RouterReport.of(even, even.topk(1, -1).indices).balance_loss.item() == pytest.approx(1, abs=1e-3)
    lone = torch.tensor([[50.0, 0, 0, 0]]).repeat(8, 1)
    assert RouterReport.of(lone, lone.topk(1, -1).indices).balance_loss.item() == pytest.approx(4)


def test_an_expert_out_of_the_routing_gets_no_token_and_no_share_of_the_loss():
    torch.manual_seed(0)
    layer = MixtureOfExperts(16, 48, 4, 2)
    layer.router.offsets[[0, 2]] = -torch.inf
    out, report = layer(torch.randn(60, 16))
    (out.sum() + report.balance_loss + report.z_loss).backward()
    assert report.load[[0, 2]].sum() == 0 and report.balance_loss >= 0.99
    assert not layer.gelu.up.grad.any() and layer.router.weight.grad.isfinite().all() and not layer.router.weight.grad[[0, 2]].any()


@given(st.integers(8, 20_000))
def test_both_kinds_have_equal_parameters_within_one_percent(hidden):
    width = 64
    layer_hidden = gated_hidden(hidden)
    rounding = 0 if hidden >= 150 else 1.5  # a whole unit is more than 1% of a tiny network
    assert abs(3 * width * layer_hidden - 2 * width * hidden) <= max(0.01 * 2 * width * hidden, rounding * width)


def test_the_same_input_twice_gives_the_same_bits():
    torch.manual_seed(0)
    for back_end in ("sliced", "grouped"):
        layer, x = MixtureOfExperts(32, 48, 8, 2), torch.randn(700, 32)
        layer.back_end = back_end
        first, second = (value_and_gradients(layer, x, 1, lambda x, layer=layer: layer(x)[0]) for _ in range(2))
        assert torch.equal(first[0], second[0]) and all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_a_checkpoint_with_the_flat_names_of_before_still_loads():
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(16, 48, 4, 2), torch.randn(20, 16)
    flat = {"router.weight": "router", "router.offsets": "offsets"}
    old = {f"layer.{flat.get(name, name.replace('.', '_'))}": tensor.clone() for name, tensor in layer.state_dict().items()}
    assert "layer.gelu_up" in old
    other = torch.nn.ModuleDict({"layer": MixtureOfExperts(16, 48, 4, 2)})
    other.load_state_dict(old)
    assert torch.equal(other["layer"](x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_learn_too(dtype):
    torch.manual_seed(0)
    layer = MixtureOfExperts(8, 12, 4, 2).to(dtype)
    x = torch.randn(5, 8, dtype=dtype, requires_grad=True)
    layer(x)[0].square().sum().backward()
    found = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(grad is not None and grad.dtype == dtype and torch.isfinite(grad).all() for grad in found)
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda x: layer(x)[0], (x.detach().requires_grad_(),))


def test_no_tokens_give_no_output_and_no_loss():
    layer = MixtureOfExperts(8, 12, 4, 2)
    for shape in ((0, 8), (2, 0, 8)):
        out, report = layer(x := torch.randn(shape, requires_grad=True))
        (out.sum() + report.balance_loss + report.z_loss).backward()
        assert out.shape == shape and x.grad.shape == shape
        assert (report.balance_loss.item(), report.z_loss.item(), report.load.tolist()) == (0, 0, [0] * 4)
