"""The objective of a language model against its definition, written apart from it: which token each head is asked for, at what weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightbulb.lm.losses import LanguageModelLoss, LossWeights, Regularisers, chunked_cross_entropy, plain_token_losses
from lightbulb.lm.objectives import make_batch
from lightbulb.lm.tokens import BytesTokenizer
from lightbulb.lm.transformer import Transformer, TransformerConfig

ROWS = [[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 23], [30]]  # one row too short for a second head


def small_model(num_experts: int = 1) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            259,
            width=16,
            num_heads=2,
            num_encoder_layers=1,
            num_decoder_layers=1,
            hidden=24,
            num_experts=num_experts,
            top_k=1,
            num_token_heads=3,
            max_length=16,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def nats_by_definition(model: Transformer, encoder: list[list[int]] | None) -> list[Tensor]:
    "For each head, the surprise about each token that it is asked for: head k, having read up to token t, about token t + 1 + k."
    start, per_head = BytesTokenizer.start_id, []
    for head in range(3):
        nats = []
        for number, row in enumerate(ROWS):
            memory = None if encoder is None else model.encode(torch.tensor([encoder[number]]))
            for position in range(len(row) - head):
                read = torch.tensor([[start, *row[:position]]])
                logits = model.logits(model.decode(read, memory)[0, -1], head)
                nats.append(torch.logsumexp(logits, -1) - logits[row[position + head]])
        per_head.append(torch.stack(nats))
    return per_head


@pytest.mark.parametrize("encoder", [None, [[1, 2, 3], [4, 5], [6]]], ids=["decoder alone", "with an encoder"])
def test_every_head_is_asked_for_the_token_that_it_speaks_of(encoder):
    model = small_model()
    scored = LanguageModelLoss(model, LossWeights(head_weight=0.6)).eval()
    sums = scored(make_batch("next", ROWS, BytesTokenizer(), encoder), num_heads=3)
    nats = nats_by_definition(model, encoder)
    assert sums["counts"].tolist() == [12, 9, 7]
    torch.testing.assert_close(sums["losses"].float(), torch.stack([part.sum() for part in nats]), rtol=1e-4, atol=1e-3)
    expected = nats[0].sum() + 0.3 * (nats[1].sum() + nats[2].sum())  # head_weight is shared by the further heads
    torch.testing.assert_close(sums["objective"], expected, rtol=1e-4, atol=1e-3)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own = torch.autograd.grad(sums["objective"], parameters, allow_unused=True)
    for (name, _), mine, definition in zip(
        model.named_parameters(), own, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True
    ):
        if definition is None:
            assert mine is None, name
        else:
            assert mine is not None, name
            torch.testing.assert_close(mine, definition, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_a_batch_asks_for_the_tokens_of_its_rows_and_for_no_padding():
    batch = make_batch("causal", ROWS, BytesTokenizer())
    for head in range(3):
        flat = batch.targets.flatten()
        answers = [int(flat[place + head]) for place in batch.rows(head).tolist()]
        assert answers == [token for row in ROWS for token in row[head:]]


def test_the_router_s_losses_are_added_with_their_weights_times_the_tokens():
    model = small_model(num_experts=4)
    batch = make_batch("causal", ROWS, BytesTokenizer())
    plain, heavy = (
        LanguageModelLoss(model, LossWeights(head_weight=0.0, balance=balance, router_z=z)).eval()(batch)
        for balance, z in ((0.0, 0.0), (0.5, 0.25))
    )
    router = model(batch.tokens, decoder_lengths=batch.lengths).router
    expected = plain["objective"] + 12 * (0.5 * router.balance_loss + 0.25 * router.z_loss)
    torch.testing.assert_close(heavy["objective"], expected)
    torch.testing.assert_close(heavy["balance"].float(), 12 * router.balance_loss)


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(0.0, 0.0, 1.0), (0.3, 0.0, 1.0), (0.0, 0.2, 1.0), (0.3, 0.2, 0.6)])
def test_entropy_is_rewarded_and_variance_punished_in_the_value_and_in_the_gradient(alpha, beta, temperature):
    torch.manual_seed(2)
    hidden, table = torch.randn(9, 4, dtype=torch.float64, requires_grad=True), torch.randn(11, 4, dtype=torch.float64, requires_grad=True)
    targets, weights, regularised = torch.randint(11, (9,)), torch.rand(9).double(), torch.rand(9).double().round()
    logits = hidden @ table.T
    chances = (logits / temperature).exp() / (logits / temperature).exp().sum(-1, keepdim=True)
    nats = logits.exp().sum(-1).log() - logits[range(9), targets]
    entropy = -(chances * chances.log()).sum(-1)
    variance = (logits / temperature - (logits / temperature).mean(-1, keepdim=True)).square().mean(-1)
    expected = (weights * nats).sum() + (regularised * (beta * variance - alpha * entropy)).sum()
    settings = Regularisers(alpha, beta, temperature)
    found, terms = chunked_cross_entropy(
        hidden.float(), table.float(), targets, weights.float(), regularised=regularised.float(), regularisers=settings, chunk=4
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, definition in zip(
        torch.autograd.grad(found, (hidden, table)), torch.autograd.grad(expected, (hidden, table), retain_graph=True), strict=True
    ):
        torch.testing.assert_close(mine, definition, rtol=1e-4, atol=1e-5)
    for mine, definition in zip(plain_token_losses(logits, targets, settings), (nats, entropy, variance), strict=True):
        torch.testing.assert_close(mine.double(), definition, rtol=1e-5, atol=1e-5)
    if alpha or beta:
        torch.testing.assert_close(terms[1].double(), entropy, rtol=1e-4, atol=1e-4)
