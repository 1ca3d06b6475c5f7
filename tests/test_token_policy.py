"A model that writes, trained by PPO: one update against the formula, the known optimum, kills, and lightbulb's own Transformer."

from __future__ import annotations

import copy
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.run_folder import moments
from lightbulb.lm.transformer import Transformer, TransformerConfig
from lightbulb.rl.advantages import plain_advantages
from lightbulb.rl.token_policy import Completions, TokenPolicy, TokenPPOConfig, draw_completions, train_token_policy

SMALL = TokenPPOConfig(num_updates=6, batch_size=8, num_tokens=5, save_every=0)


class Writer(nn.Module):
    "lightbulb's Transformer without an encoder, as tokens to logits."

    def __init__(self, vocab_size: int = 6, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.transformer = Transformer(
            TransformerConfig(
                vocab_size=vocab_size,
                width=16,
                num_heads=2,
                num_encoder_layers=0,
                num_decoder_layers=1,
                hidden=16,
                num_experts=1,
                top_k=1,
                num_token_heads=1,
                max_length=16,
            )
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.transformer.logits(self.transformer.decode(tokens))


PROMPTS = torch.tensor([[1, 2], [2, 1], [4, 5]])


def share_of_three(written: Completions) -> np.ndarray:
    return (written.drawn == 3).float().mean(1).numpy()


def finish(reports):
    "The policy of a training, and its reports."
    seen = []
    while True:
        try:
            seen.append(next(reports))
        except StopIteration as stop:
            return stop.value, seen


def test_the_reward_of_a_transformer_rises_and_the_price_of_distance_holds_it():
    ends = {}
    for weight in (0.0, 0.2):
        config = replace(SMALL, num_updates=30, batch_size=32, learning_rate=1e-2, kl_weight=weight)
        _, reports = finish(train_token_policy(TokenPolicy(Writer(), 6, config), PROMPTS, share_of_three))
        assert reports[0].metrics["reward"] < 0.4
        ends[weight] = reports[-1].metrics
    assert ends[0.0]["reward"] > 0.9
    assert ends[0.2]["reward"] < ends[0.0]["reward"] and ends[0.2]["kl_to_reference"] < 0.5 * ends[0.0]["kl_to_reference"]


def test_two_tokens_come_to_the_known_optimum():
    "The policy ∝ reference · exp(reward / β) over all nine texts of two tokens, computed by enumeration."

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.first, self.second = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3, 3))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            parts = [self.first.expand(len(tokens), 3)] + [self.second[tokens[:, place]] for place in range(1, tokens.shape[1])]
            return torch.stack(parts, 1)

    texts = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    pays = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])  # 01, 12, 20

    def chances(model: nn.Module) -> torch.Tensor:
        log_policy = model(torch.cat([torch.zeros(9, 1, dtype=torch.long), texts[:, :1]], 1)).log_softmax(-1)
        return log_policy.gather(-1, texts[..., None]).squeeze(-1).sum(1).exp().detach()

    reward = lambda written: pays[written.drawn[:, 0] * 3 + written.drawn[:, 1]].numpy()
    config = TokenPPOConfig(num_updates=150, batch_size=256, num_tokens=2, kl_weight=0.5, learning_rate=0.02, num_minibatches=1)
    policy = TokenPolicy(Table(), 3, config)
    optimum = chances(policy.model) * (pays / 0.5).exp()
    optimum /= optimum.sum()
    assert (chances(policy.model) - optimum).abs().max() > 0.15
    finish(train_token_policy(policy, torch.zeros(1, 1, dtype=torch.long), reward))
    assert (chances(policy.model) - optimum).abs().max() < 0.06


def test_one_update_is_the_formula():
    "One step of gradient descent: prices by token, the reward at the last one, advantages by a plain loop, nothing behind an end."
    config = replace(SMALL, num_epochs=1, num_minibatches=1, kl_weight=0.3, gae_lambda=0.8, learning_rate=1.0, max_grad_norm=1e9)
    reference = Writer(seed=5)
    policy = TokenPolicy(Writer(), 6, config, reference=reference, end_token=0)
    nn.init.normal_(policy.critic.weight, std=0.3)
    written, rewards = policy.draw(PROMPTS.repeat(3, 1)), np.random.default_rng(0).normal(size=9)
    lengths = written.valid.sum(1).tolist()
    assert min(lengths) < 5
    model, critic = copy.deepcopy(policy.model), copy.deepcopy(policy.critic)
    log_policy = model(written.tokens[:, :-1])[:, 1:].log_softmax(-1)
    log_reference = reference(written.tokens[:, :-1])[:, 1:].log_softmax(-1)
    choose = lambda table: table.gather(-1, written.drawn[..., None]).squeeze(-1)
    now, values = choose(log_policy), critic(log_policy.detach()).squeeze(-1)
    advantages, targets = torch.zeros(9, 5), torch.zeros(9, 5)
    for row, length in enumerate(lengths):
        prices = 0.3 * (now - choose(log_reference))[row, :length].detach()
        earned = [-float(price) for price in prices]
        earned[-1] += rewards[row]
        known = values[row, :length].detach().tolist()
        advantages[row, :length] = torch.tensor(plain_advantages(earned, known, 0.0, 1.0, 0.8))
        targets[row, :length] = advantages[row, :length] + torch.tensor(known)
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    standard = advantages[valid]
    standard = (standard - standard.mean()) / (standard.std() + 1e-8)
    loss = -((now - now.detach()).exp()[valid] * standard).mean() + 0.5 * (values - targets)[valid].square().mean()
    parameters = [*model.parameters(), *critic.parameters()]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    policy._move.optimizers = [torch.optim.SGD([*policy.model.parameters(), *policy.critic.parameters()], lr=1.0)]
    metrics = policy.learn(written, rewards)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6) and metrics["clip_fraction"] == 0
    assert metrics["reward"] == pytest.approx(rewards.mean(), abs=1e-6) and metrics["num_tokens"] == pytest.approx(np.mean(lengths))
    moved = [*policy.model.parameters(), *policy.critic.parameters()]
    for before, after, gradient in zip(parameters, moved, gradients, strict=True):
        expected = torch.zeros_like(before) if gradient is None else gradient
        assert torch.allclose(before.detach() - after.detach(), expected, atol=2e-6)
    assert all(torch.equal(*pair) for pair in zip(policy.reference.parameters(), reference.parameters(), strict=True))


def test_what_stands_behind_the_end_does_not_count():
    learned = []
    for spoil in (False, True):
        policy = TokenPolicy(Writer(), 6, SMALL, end_token=0)
        written = policy.draw(PROMPTS.repeat(4, 1))
        assert not written.valid.all()
        if spoil:
            written.drawn[~written.valid] = 5
        policy.learn(written, np.arange(12) / 12)
        learned.append(torch.cat([weight.detach().flatten() for weight in policy.model.parameters()]))
    assert torch.allclose(*learned, atol=1e-7)


def test_drawn_tokens_have_the_models_chances():
    "A chi-square of 4000 draws of two tokens."
    model, prompts = Writer(vocab_size=3), torch.tensor([[1]]).repeat(4000, 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    written = draw_completions(model.eval(), prompts, 2, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(written.drawn[:, 0] * 3 + written.drawn[:, 1], minlength=9).double()
    texts = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    with torch.no_grad():
        log_policy = model(torch.cat([torch.ones(9, 1, dtype=torch.long), texts[:, :1]], 1)).log_softmax(-1)
    expected = 4000 * log_policy.gather(-1, texts[..., None]).squeeze(-1).sum(1).exp().double()
    assert float(((counts - expected) ** 2 / expected).sum()) < 26  # 8 degrees of freedom: p = 0.001


def test_a_training_killed_anywhere_ends_as_the_unbroken_one(tmp_path):
    make = lambda seed=0: TokenPolicy(Writer(seed=seed), 6, SMALL, end_token=0)
    run, reports, whole = train_token_policy(make(), PROMPTS, share_of_three, save_dir=tmp_path / "whole"), [], None
    while whole is None:
        try:
            reports.append(next(run))
        except StopIteration as stop:
            whole = stop.value
        else:
            shutil.copytree(tmp_path / "whole", tmp_path / f"killed_{len(reports)}")
    for number in (2, 4, 6):
        resumed, rest = finish(train_token_policy(make(7), PROMPTS, share_of_three, save_dir=tmp_path / f"killed_{number}", resume=True))
        assert [report.as_row() for report in rest] == [report.as_row() for report in reports[len(reports) - len(rest) :]]
        for one, other in ((resumed.model, whole.model), (resumed.critic, whole.critic), (resumed.reference, whole.reference)):
            assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    other = TokenPolicy(Writer(), 6, replace(SMALL, kl_weight=1.0))
    with pytest.raises(CheckpointError, match="kl_weight was 0.1 and is 1.0 now"):
        finish(train_token_policy(other, PROMPTS, share_of_three, save_dir=tmp_path / "whole", resume=True))
    wider = TokenPolicy(Writer(vocab_size=9), 9, SMALL)
    with pytest.raises(CheckpointError, match="not a model of this shape"):
        finish(train_token_policy(wider, PROMPTS, share_of_three, save_dir=tmp_path / "whole", resume=True))


def test_an_update_that_broke_off_is_done_again_as_it_was(tmp_path):
    "A reward that fails, two Ctrl-C while weights change, and one where there is no folder; each in the fourth update."
    config, asked = replace(SMALL, save_every=5.0), []
    make = lambda model: TokenPolicy(model, 6, config, end_token=0)
    whole, _ = finish(train_token_policy(make(Writer()), PROMPTS, share_of_three))

    def away(written: Completions) -> np.ndarray:
        asked.append(len(written.tokens))
        if len(asked) == 4: raise LightbulbError("the judge is away")
        return share_of_three(written)

    with pytest.raises(LightbulbError, match="the judge is away"):
        finish(train_token_policy(make(Writer()), PROMPTS, away, save_dir=tmp_path / "away"))
    resumed, reports = finish(train_token_policy(make(Writer()), PROMPTS, share_of_three, save_dir=tmp_path / "away", resume=True))
    assert [report.step for report in reports] == [4, 5, 6]
    assert all(torch.equal(*pair) for pair in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))

    class Interrupted(Writer):
        left, signals = 3 * config.num_epochs * config.num_minibatches + 2, 2

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            self.left -= torch.is_grad_enabled()
            for _ in range(self.signals * (self.left == 0)):
                signal.raise_signal(signal.SIGINT)
            return super().forward(tokens)

    with pytest.raises(KeyboardInterrupt, match="after step 3, in the middle of the next one; nothing is kept"):
        finish(train_token_policy(make(Interrupted()), PROMPTS, share_of_three, save_dir=tmp_path / "twice"))
    assert moments(tmp_path / "twice") == []

    class InterruptedOnce(Interrupted):
        signals = 1

    with pytest.raises(KeyboardInterrupt, match="after step 4; nothing is kept without save_dir"):
        finish(train_token_policy(make(InterruptedOnce()), PROMPTS, share_of_three))


def test_nonsense_is_refused():
    for wrong, rule in (
        ({"num_tokens": 0}, "num_tokens must be positive, got 0"),
        ({"kl_weight": -1.0}, "kl_weight must not be negative, got -1.0"),
        ({"gae_lambda": 1.5}, "gae_lambda must be at most 1, got 1.5"),
        ({"num_minibatches": 9}, "num_minibatches must be at most batch_size 8, got 9"),
    ):
        with pytest.raises(ValueError, match=rule):
            replace(SMALL, **wrong)
    policy = TokenPolicy(Writer(), 6, SMALL)
    written = policy.draw(PROMPTS)
    for rewards in ([1.0, 2.0], [1.0, 2.0, float("nan")]):
        with pytest.raises(ValueError, match="one finite reward for each of 3 completions"):
            policy.learn(written, rewards)
    with pytest.raises(ValueError, match="resume needs save_dir"):
        finish(train_token_policy(policy, PROMPTS, share_of_three, resume=True))
    with pytest.raises(ValueError, match=r"prompts must have the shape \(N, P\)"):
        finish(train_token_policy(policy, PROMPTS[0], share_of_three))
