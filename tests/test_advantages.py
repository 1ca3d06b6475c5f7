"""Advantages and n-step returns against their definitions, summed term by term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.rl.advantages import generalized_advantages, n_step_returns

COMMON = {"deadline": None, "max_examples": 150}


def follow(rollout: dict, t: int, b: int, discount: float) -> tuple[float, bool]:
    "γ V of what followed step t, and whether the sum goes on to the next row."
    last_row = t == len(rollout["rewards"]) - 1
    if rollout["terminated"][t, b]: return 0.0, False
    if rollout["truncated"][t, b]: return discount * rollout["final_values"][t, b], False
    return discount * (rollout["last_values"][b] if last_row else rollout["values"][t + 1, b]), not last_row


def defined_advantage(rollout: dict, t: int, b: int, discount: float, gae_lambda: float) -> float:
    "Schulman et al. 2016, eq. 16, from the front: Σ (γλ)^k δ until the episode or the rollout ends."
    total, factor = 0.0, 1.0
    for k in range(t, len(rollout["rewards"])):
        value, goes_on = follow(rollout, k, b, discount)
        total += factor * (rollout["rewards"][k, b] + value - rollout["values"][k, b])
        factor *= discount * gae_lambda
        if not goes_on: break
    return total


def defined_return(rollout: dict, t: int, b: int, discount: float, num_steps: int) -> float:
    "Σ γ^k r over at most n steps, then the value."
    total, factor = 0.0, 1.0
    for taken, k in enumerate(range(t, len(rollout["rewards"])), 1):
        value, goes_on = follow(rollout, k, b, discount)
        total += factor * rollout["rewards"][k, b]
        if not goes_on or taken == num_steps: return total + factor * value
        factor *= discount
    raise AssertionError("the last row always ends the sum")


def make_rollout(seed: int, num_steps: int, num_envs: int, share: float) -> dict:
    "Random numbers, with ends of both kinds, sometimes both at once, and resets after them."
    random = np.random.default_rng(seed)
    rewards, values, final_values = random.normal(size=(3, num_steps, num_envs))
    terminated, truncated = random.random((2, num_steps, num_envs)) < share
    valid = np.ones((num_steps, num_envs), bool)
    for t in range(1, num_steps):  # as with NEXT_STEP: the row after an end is no step
        valid[t] = ~((terminated | truncated)[t - 1] & valid[t - 1])
    terminated, truncated = terminated & valid, truncated & valid
    final_values[~truncated] = np.nan  # must never be read
    return {
        "rewards": rewards,
        "values": values,
        "terminated": terminated,
        "truncated": truncated,
        "valid": valid,
        "final_values": final_values,
        "last_values": random.normal(size=num_envs),
    }


shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "num_steps": st.integers(1, 30),
    "num_envs": st.integers(1, 4),
    "share": st.sampled_from([0.0, 0.1, 0.4]),
}


@settings(**COMMON)
@given(**shapes, discount=st.floats(0, 1), gae_lambda=st.floats(0, 1))
def test_advantages_are_the_defined_sum(seed, num_steps, num_envs, share, discount, gae_lambda):
    rollout = make_rollout(seed, num_steps, num_envs, share)
    estimate = generalized_advantages(**rollout, discount=discount, gae_lambda=gae_lambda)
    for t in range(num_steps):
        for b in range(num_envs):
            defined = defined_advantage(rollout, t, b, discount, gae_lambda) if rollout["valid"][t, b] else 0.0
            assert abs(estimate.advantages[t, b] - defined) < 1e-10
            if rollout["valid"][t, b]:
                assert abs(estimate.returns[t, b] - defined - rollout["values"][t, b]) < 1e-10


@settings(**COMMON)
@given(**shapes, discount=st.floats(0, 1), n=st.integers(1, 12))
def test_returns_of_n_steps_are_the_defined_sum(seed, num_steps, num_envs, share, discount, n):
    rollout = make_rollout(seed, num_steps, num_envs, share)
    returns = n_step_returns(**rollout, discount=discount, num_steps=n)
    for t in range(num_steps):
        for b in range(num_envs):
            assert abs(returns[t, b] - (defined_return(rollout, t, b, discount, n) if rollout["valid"][t, b] else 0.0)) < 1e-10


@settings(**COMMON)
@given(**shapes, cut=st.integers(0, 29), discount=st.floats(0, 1), gae_lambda=st.floats(0, 1))
def test_what_follows_an_end_changes_nothing_before_it(seed, num_steps, num_envs, share, cut, discount, gae_lambda):
    rollout, cut = make_rollout(seed, num_steps, num_envs, share), cut % num_steps
    rollout["valid"][:] = True
    rollout["terminated"][cut] = True
    before = generalized_advantages(**rollout, discount=discount, gae_lambda=gae_lambda).advantages[: cut + 1]
    for name in ("rewards", "values"):
        rollout[name][cut + 1 :] += 1000.0
    after = generalized_advantages(**rollout, discount=discount, gae_lambda=gae_lambda).advantages[: cut + 1]
    assert np.array_equal(before, after)


def test_exact_values_have_no_advantage():
    "A chain of known length: with the true values every advantage is 0, whatever λ; a time limit changes nothing."
    discount, length, limit = 0.9, 12, 5
    true = np.array([discount ** (length - 1 - t) for t in range(length)])[:, None]  # reward 1 at the end
    rewards, terminated = np.zeros((length, 1)), np.zeros((length, 1), bool)
    rewards[-1], terminated[-1] = 1.0, True
    truncated = np.zeros_like(terminated)
    truncated[limit] = True
    final = np.full((length, 1), np.nan)
    final[limit] = true[limit + 1]
    for gae_lambda in (0.0, 0.5, 1.0):
        for limits, values in ((truncated, final), (np.zeros_like(truncated), None)):
            estimate = generalized_advantages(
                rewards, true, terminated, limits, last_values=[0.0], final_values=values, discount=discount, gae_lambda=gae_lambda
            )
            assert np.abs(estimate.advantages).max() < 1e-12


def test_a_time_limit_taken_for_an_end_would_be_seen():
    "The check above can fail: the same rollout with the limit declared a termination is far off."
    ones, cut = np.ones((20, 1)), np.zeros((20, 1), bool)
    cut[9] = True
    right = generalized_advantages(ones, 10 * ones, ~cut & False, cut, last_values=[10.0], final_values=10 * ones, discount=0.9)
    wrong = generalized_advantages(ones, 10 * ones, cut, ~cut & False, last_values=[10.0], discount=0.9)
    assert np.abs(right.advantages).max() < 1e-12 and wrong.advantages[9, 0] == pytest.approx(-9.0)


def test_missing_final_values_are_refused_only_where_they_matter():
    zeros, cut = np.zeros((3, 2)), np.array([[0, 0], [1, 0], [0, 0]], bool)
    with pytest.raises(ValueError, match="final_values must give the value"):
        generalized_advantages(zeros, zeros, ~cut & False, cut, last_values=[0, 0])
    generalized_advantages(zeros, zeros, cut, cut, last_values=[0, 0])  # terminated as well: nothing follows


def test_tensors_of_any_kind_are_taken():
    rewards, values = torch.rand(5, 2), torch.rand(5, 2, requires_grad=True)
    never = torch.zeros(5, 2, dtype=torch.bool)
    plain = generalized_advantages(rewards.numpy(), values.detach().numpy(), never.numpy(), never.numpy(), last_values=np.zeros(2))
    found = generalized_advantages(rewards, values, never, never, last_values=torch.zeros(2))
    assert np.array_equal(found.advantages, plain.advantages)
    halves = generalized_advantages(rewards.bfloat16(), values.bfloat16(), never, never, last_values=torch.zeros(2).bfloat16())
    assert np.allclose(halves.advantages, plain.advantages, atol=0.05)
