"The ten losses of a world model against plain loops, their gradients, and what each is for."

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightbulb.rl import ppo
from lightbulb.world import losses
from lightbulb.world.losses import (
    LossReport,
    VisitCounter,
    action_diversity_reward,
    covariance_regularization,
    dynamics_performance_loss,
    expected_thought_value_loss,
    exploration_regularization,
    info_nce_loss,
    kl_divergence_loss,
    mean_losses,
    policy_value_joint_loss,
    ppo_loss,
    thought_consistency_loss,
    variance_hinge,
)

ROWS, WIDTH, ACTIONS = 7, 3, 4


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def counts(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, shape))


def some_legal(seed: int, rows: int = ROWS) -> Tensor:
    "Each row has two actions at least that may be taken, and one at least that may not."
    legal = torch.from_numpy(np.random.default_rng(seed).random((rows, ACTIONS)) < 0.5)
    legal[:, 0], legal[:, 1], legal[:, 2] = True, False, True
    return legal


SOME = torch.tensor([True, True, False, True, False, True, True])
SPOILED = torch.full((), 1e6, dtype=torch.float64)


# ------------------------------------------------------------------ plain loops


def plain_policy(logits: np.ndarray, legal: np.ndarray | None = None) -> np.ndarray:
    "Probabilities of one row."
    allowed = range(len(logits)) if legal is None else np.flatnonzero(legal)
    total, found = sum(math.exp(logits[a]) for a in allowed), np.zeros(len(logits))
    for action in allowed:
        found[action] = math.exp(logits[action]) / total
    return found


def plain_info_nce(predicted: np.ndarray, targets: np.ndarray, states: np.ndarray, temperature: float) -> float:
    cosine = lambda x, y: float(x @ y / math.sqrt((x @ x) * (y @ y)))
    total = 0.0
    for i, row in enumerate(predicted):
        right = math.exp(cosine(row, targets[i]) / temperature)
        wrong = sum(math.exp(cosine(row, targets[j]) / temperature) for j in range(len(targets)) if (states[j] != states[i]).any())
        total -= math.log(right / (right + wrong))
    return total / len(predicted)


def plain_covariance(rows: np.ndarray) -> float:
    table = np.cov(rows.T, ddof=1)
    return sum(table[i, j] ** 2 for i in range(len(table)) for j in range(len(table)) if i != j) / len(table)


def plain_dynamics(predicted: np.ndarray, targets: np.ndarray, weights: np.ndarray, variance_weight: float, spread: float) -> float:
    error = np.mean([weights[i] * np.mean((predicted[i] - targets[i]) ** 2) for i in range(len(predicted))])
    hinge = np.mean([max(0.0, spread - math.sqrt(np.var(predicted[:, d], ddof=1) + 1e-4)) for d in range(predicted.shape[1])])
    return float(error + variance_weight * hinge)


def plain_consistency(predicted: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    distance = lambda x, y: float(np.mean((x - y) ** 2))
    rows = []
    for i in range(len(predicted)):
        similar = [math.exp(-distance(targets[i], targets[j]) / temperature) for j in range(len(predicted))]
        excess = [max(0.0, distance(predicted[i], predicted[j]) - distance(targets[i], targets[j])) for j in range(len(predicted))]
        rows.append(sum(s * e for s, e in zip(similar, excess, strict=True)) / sum(similar))
    return float(np.mean(rows))


def plain_diversity(embeddings: np.ndarray) -> float:
    unit = [row / np.linalg.norm(row) for row in embeddings]
    pairs = [math.exp(-2 * float(np.sum((unit[i] - unit[j]) ** 2))) for i, j in itertools.combinations(range(len(unit)), 2)]
    return -math.log(sum(pairs) / len(pairs))


def plain_exploration(logits: np.ndarray, visits: np.ndarray, legal: np.ndarray) -> float:
    total = 0.0
    for row, seen, allowed in zip(logits, visits, legal, strict=True):
        policy, bonus = plain_policy(row, allowed), {a: 1 / math.sqrt(1 + seen[a]) for a in np.flatnonzero(allowed)}
        target = {a: b / sum(bonus.values()) for a, b in bonus.items()}
        total += np.mean(list(bonus.values())) * sum(t * math.log(t / policy[a]) for a, t in target.items())
    return total / len(logits)


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_is_the_formula_and_equal_next_states_are_no_negatives(seed: int) -> None:
    predicted, targets, states = (
        draw(seed, ROWS, WIDTH),
        draw(seed + 9, ROWS, WIDTH),
        torch.tensor([[0, 0], [0, 1], [0, 0], [2, 0], [0, 1], [3, 3], [0, 0]]),
    )
    own = plain_info_nce(predicted.numpy(), targets.numpy(), states.numpy(), 0.5)
    assert float(info_nce_loss(predicted, targets, states=states, temperature=0.5)) == pytest.approx(own, abs=1e-9)
    all_differ = plain_info_nce(predicted.numpy(), targets.numpy(), targets.numpy(), 0.5)
    assert float(info_nce_loss(predicted, targets, temperature=0.5)) == pytest.approx(all_differ, abs=1e-9) and all_differ > own
    kept = plain_info_nce(predicted[SOME].numpy(), targets[SOME].numpy(), states[SOME].numpy(), 0.5)
    assert float(info_nce_loss(predicted, targets, states=states, mask=SOME, temperature=0.5)) == pytest.approx(kept, abs=1e-9)


def test_an_equal_next_state_gets_no_push() -> None:
    "Row 2 came to the state of row 0: what it says is neither a right nor a wrong answer for row 0."
    predicted, states = draw(0, 3, WIDTH).requires_grad_(), torch.tensor([[0], [1], [0]])
    targets, other = draw(1, 3, WIDTH), draw(1, 3, WIDTH)
    other[2] = draw(2, WIDTH)
    grad = lambda answers, states: torch.autograd.grad(info_nce_loss(predicted, answers, states=states), predicted)[0][0]
    assert torch.equal(grad(targets, states), grad(other, states))
    assert not torch.allclose(grad(targets, torch.tensor([[0], [1], [2]])), grad(other, torch.tensor([[0], [1], [2]])))


@pytest.mark.parametrize("seed", range(3))
def test_covariance_is_numpys(seed: int) -> None:
    rows = draw(seed, ROWS, WIDTH) @ draw(seed + 5, WIDTH, WIDTH)
    assert float(covariance_regularization(rows)) == pytest.approx(plain_covariance(rows.numpy()), abs=1e-9)
    assert float(covariance_regularization(rows, mask=SOME)) == pytest.approx(plain_covariance(rows[SOME].numpy()), abs=1e-9)
    assert float(covariance_regularization(rows + 100)) == pytest.approx(plain_covariance(rows.numpy()), abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_dynamics_performance_is_an_error_and_a_hinge(seed: int) -> None:
    predicted, targets, weights = 0.6 * draw(seed, ROWS, WIDTH), draw(seed + 1, ROWS, WIDTH), draw(seed + 2, ROWS).abs()
    given = dict(variance_weight=0.7, spread=1.2)
    assert float(dynamics_performance_loss(predicted, targets, weights=weights, **given)) == pytest.approx(
        plain_dynamics(predicted.numpy(), targets.numpy(), weights.numpy(), 0.7, 1.2), abs=1e-9
    )
    kept = plain_dynamics(predicted[SOME].numpy(), targets[SOME].numpy(), weights[SOME].numpy(), 0.7, 1.2)
    assert float(dynamics_performance_loss(predicted, targets, mask=SOME, weights=weights, **given)) == pytest.approx(kept, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_thought_consistency_is_the_weighted_excess(seed: int) -> None:
    predicted, targets = draw(seed, ROWS, WIDTH), draw(seed + 1, ROWS, WIDTH)
    targets[3] = targets[1]
    assert float(thought_consistency_loss(predicted, targets, temperature=0.8)) == pytest.approx(
        plain_consistency(predicted.numpy(), targets.numpy(), 0.8), abs=1e-9
    )
    kept = plain_consistency(predicted[SOME].numpy(), targets[SOME].numpy(), 0.8)
    assert float(thought_consistency_loss(predicted, targets, mask=SOME, temperature=0.8)) == pytest.approx(kept, abs=1e-9)
    assert float(thought_consistency_loss(targets, targets, temperature=0.8)) == pytest.approx(0, abs=1e-12)  # what is right costs nothing


@pytest.mark.parametrize("seed", range(3))
def test_policy_and_value_are_two_cross_entropies(seed: int) -> None:
    logits, legal, weights, rows = draw(seed, ROWS, ACTIONS), some_legal(seed), draw(seed + 2, ROWS).abs(), np.flatnonzero(SOME)
    policies = (draw(seed + 3, ROWS, ACTIONS).exp() * legal) / (draw(seed + 3, ROWS, ACTIONS).exp() * legal).sum(1, keepdim=True)
    said, bins = draw(seed + 4, ROWS, 5), draw(seed + 5, ROWS, 5).softmax(-1)
    policy, value = [], []
    for row in rows:
        probabilities = plain_policy(logits[row].numpy(), legal[row].numpy())
        policy.append(-float(weights[row]) * sum(float(policies[row, a]) * math.log(probabilities[a]) for a in np.flatnonzero(legal[row])))
        value.append(-float(weights[row]) * sum(float(bins[row, s]) * math.log(plain_policy(said[row].numpy())[s]) for s in range(5)))
    found = policy_value_joint_loss(logits, policies, said, bins, legal=legal, mask=SOME, weights=weights, value_coefficient=0.3)
    assert float(found.policy_loss) == pytest.approx(np.mean(policy), abs=1e-9) and float(found.value_loss) == pytest.approx(
        np.mean(value), abs=1e-9
    )
    assert float(found.loss) == pytest.approx(np.mean(policy) + 0.3 * np.mean(value), abs=1e-9)
    numbers = policy_value_joint_loss(logits, policies, said[:, 0], bins[:, 0], legal=legal, mask=SOME, weights=weights)
    assert float(numbers.value_loss) == pytest.approx(
        np.mean([weights[row] * (said[row, 0] - bins[row, 0]) ** 2 for row in rows]), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(3))
def test_action_diversity_is_the_uniformity_of_directions(seed: int) -> None:
    embeddings = draw(seed, 2, ACTIONS, WIDTH)
    expected = np.mean([plain_diversity(part.numpy()) for part in embeddings])
    assert float(action_diversity_reward(embeddings)) == pytest.approx(expected, abs=1e-9)
    assert float(action_diversity_reward(5 * embeddings)) == pytest.approx(expected, abs=1e-9)  # lengths do not count


@pytest.mark.parametrize("seed", range(3))
def test_expected_thought_value_is_what_the_policy_would_earn(seed: int) -> None:
    logits, q_values, visits, roots, legal, weights = (
        draw(seed, ROWS, ACTIONS),
        draw(seed + 1, ROWS, ACTIONS),
        counts(seed, ROWS, ACTIONS),
        draw(seed + 2, ROWS),
        some_legal(seed),
        draw(seed + 3, ROWS).abs(),
    )
    rows = []
    for row in np.flatnonzero(SOME):
        policy = plain_policy(logits[row].numpy(), legal[row].numpy())
        completed = [float(q_values[row, a]) if visits[row, a] > 0 else float(roots[row]) for a in range(ACTIONS)]
        rows.append(float(weights[row]) * (float(roots[row]) - sum(p * q for p, q in zip(policy, completed, strict=True))))
    assert float(expected_thought_value_loss(logits, q_values, visits, roots, legal=legal, mask=SOME, weights=weights)) == pytest.approx(
        np.mean(rows), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(3))
def test_exploration_draws_to_what_the_counts_recommend(seed: int) -> None:
    logits, visits, legal = draw(seed, ROWS, ACTIONS), counts(seed, ROWS, ACTIONS), some_legal(seed)
    assert float(exploration_regularization(logits, visits, legal=legal)) == pytest.approx(
        plain_exploration(logits.numpy(), visits.numpy(), legal.numpy()), abs=1e-9
    )
    kept = plain_exploration(logits[SOME].numpy(), visits[SOME].numpy(), legal[SOME].numpy())
    assert float(exploration_regularization(logits, visits, legal=legal, mask=SOME)) == pytest.approx(kept, abs=1e-9)
    assert float(exploration_regularization(logits, 100 * visits + 99)) < float(exploration_regularization(logits, visits)) / 3  # it fades


@pytest.mark.parametrize("seed", range(3))
def test_kl_is_from_the_old_policy_to_the_new(seed: int) -> None:
    new, old, legal, weights, rows = (
        draw(seed, ROWS, ACTIONS),
        draw(seed + 1, ROWS, ACTIONS),
        some_legal(seed),
        draw(seed + 2, ROWS).abs(),
        [],
    )
    for row in np.flatnonzero(SOME):
        p, q = plain_policy(old[row].numpy(), legal[row].numpy()), plain_policy(new[row].numpy(), legal[row].numpy())
        rows.append(float(weights[row]) * sum(p[a] * math.log(p[a] / q[a]) for a in np.flatnonzero(legal[row])))
    assert float(kl_divergence_loss(new, old, legal=legal, mask=SOME, weights=weights)) == pytest.approx(np.mean(rows), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_tenth_loss_is_that_of_rl(seed: int) -> None:
    assert ppo_loss is ppo.ppo_loss and "ppo_loss" in losses.__all__
    new, old, advantages, values, before, returns, entropy = (draw(seed + i, ROWS).numpy() for i in range(7))
    rows = []
    for i in range(ROWS):
        ratio = math.exp(new[i] - old[i])
        clipped = before[i] + min(max(values[i] - before[i], -0.2), 0.2)
        policy = -min(ratio * advantages[i], min(max(ratio, 0.8), 1.2) * advantages[i])
        rows.append((policy, max((values[i] - returns[i]) ** 2, (clipped - returns[i]) ** 2)))
    found = ppo_loss(
        *(torch.from_numpy(part) for part in (new, old, advantages, values, before, returns, entropy)),
        normalize_advantages=False,
        clip_range=0.2,
        value_clip_range=0.2,
        entropy_coefficient=0.1,
    )
    assert float(found.policy_loss) == pytest.approx(np.mean([policy for policy, _ in rows]), abs=1e-9)
    assert float(found.value_loss) == pytest.approx(np.mean([value for _, value in rows]), abs=1e-9)
    assert float(found.loss) == pytest.approx(np.mean([policy + 0.5 * value for policy, value in rows]) - 0.1 * entropy.mean(), abs=1e-9)


# ------------------------------------------------------------------ gradients

POLICIES = draw(20, ROWS, ACTIONS).softmax(-1)
LEARNED = {  # name: loss of (what is learned, what is given), and the width of both
    "info_nce": (lambda x, y: info_nce_loss(x, y, mask=SOME), WIDTH),
    "dynamics": (lambda x, y: dynamics_performance_loss(x, y, mask=SOME, spread=3.0), WIDTH),
    "thought_consistency": (lambda x, y: thought_consistency_loss(x, y, mask=SOME, temperature=2.0), WIDTH),
    "policy_value": (
        lambda x, y: (
            policy_value_joint_loss(
                x,
                torch.where(some_legal(0), y, -math.inf).softmax(-1),
                x.sum(-1),
                y.sum(-1),
                mask=SOME,
                legal=some_legal(0),
                weights=y[:, 0].detach().abs(),
            ).loss
        ),
        ACTIONS,
    ),
    "categorical_value": (lambda x, y: policy_value_joint_loss(x, y.softmax(-1), x.flip(0), y.softmax(-1), mask=SOME).loss, ACTIONS),
    "expected_value": (
        lambda x, y: expected_thought_value_loss(x, y, 1 + counts(0, ROWS, ACTIONS), y[:, 0], mask=SOME, legal=some_legal(0)),
        ACTIONS,
    ),
    "kl": (lambda x, y: kl_divergence_loss(x, y, mask=SOME, legal=some_legal(0)), ACTIONS),
}
ALONE = {  # losses that nothing is given to but what is learned
    "covariance": (lambda x: covariance_regularization(x, mask=SOME), (ROWS, WIDTH)),
    "variance_hinge": (lambda x: variance_hinge(x, mask=SOME, spread=3.0), (ROWS, WIDTH)),
    "action_diversity": (action_diversity_reward, (ACTIONS, WIDTH)),
    "exploration": (lambda x: exploration_regularization(x, counts(0, ROWS, ACTIONS), mask=SOME, legal=some_legal(0)), (ROWS, ACTIONS)),
    "ppo": (
        lambda x: (
            ppo_loss(x[:, 0], draw(1, ROWS), draw(2, ROWS), x[:, 1], draw(3, ROWS), draw(4, ROWS), x[:, 2], entropy_coefficient=0.1).loss
        ),
        (ROWS, ACTIONS),
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_agree_with_finite_differences_and_targets_get_none(name: str) -> None:
    loss, width = LEARNED[name]
    learned, given = draw(0, ROWS, width).requires_grad_(), draw(1, ROWS, width).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, given.detach()), (learned,))
    reached, stopped = torch.autograd.grad(loss(learned, given), (learned, given), allow_unused=True)
    assert stopped is None or not stopped.abs().any()
    assert reached is not None and (
        name == "categorical_value" or (reached.abs().sum(1) > 0).eq(SOME).all()
    )  # every row that counts, and no other


@pytest.mark.parametrize("name", ALONE)
def test_gradients_of_the_others_agree_too(name: str) -> None:
    loss, shape = ALONE[name]
    learned = draw(0, *shape).requires_grad_()
    assert torch.autograd.gradcheck(loss, (learned,))
    assert torch.autograd.grad(loss(learned), learned)[0].abs().sum() > 0


@pytest.mark.parametrize(
    "name", [*(name for name in LEARNED if name != "categorical_value"), "covariance", "variance_hinge", "exploration"]
)
def test_rows_behind_an_end_do_not_count(name: str) -> None:
    if name in LEARNED:
        loss, shape = (lambda x: LEARNED[name][0](x, draw(1, ROWS, LEARNED[name][1]))), (ROWS, LEARNED[name][1])
    else:
        loss, shape = ALONE[name]
    rows = draw(0, *shape)
    assert float(loss(torch.where(SOME[:, None], rows, SPOILED))) == pytest.approx(float(loss(rows)), abs=1e-9)


def test_a_batch_in_which_nothing_counts_is_worth_zero_and_moves_nothing() -> None:
    none, rows, logits = torch.zeros(ROWS, dtype=torch.bool), draw(0, ROWS, WIDTH).requires_grad_(), draw(1, ROWS, ACTIONS).requires_grad_()
    found = [
        info_nce_loss(rows, rows, mask=none),
        covariance_regularization(rows, mask=none),
        dynamics_performance_loss(rows, rows, mask=none),
        thought_consistency_loss(rows, rows, mask=none),
        policy_value_joint_loss(logits, POLICIES, rows[:, 0], rows[:, 0], mask=none).loss,
        expected_thought_value_loss(logits, POLICIES, counts(0, ROWS, ACTIONS), rows[:, 0], mask=none),
        exploration_regularization(logits, counts(0, ROWS, ACTIONS), mask=none),
        kl_divergence_loss(logits, POLICIES, mask=none),
    ]
    assert [loss.item() for loss in found] == [0.0] * len(found)
    for loss in found:
        gradients = torch.autograd.grad(loss, (rows, logits), allow_unused=True)
        assert all(gradient is None or not gradient.any() for gradient in gradients)


def test_a_policy_target_on_an_illegal_action_is_refused() -> None:
    legal, logits = some_legal(0), draw(0, ROWS, ACTIONS)
    with pytest.raises(ValueError, match="policy_targets must be 0 where legal is not"):
        policy_value_joint_loss(logits, POLICIES, logits[:, 0], logits[:, 0], legal=legal)
    only_there = torch.where(legal, POLICIES, 0.0) / torch.where(legal, POLICIES, 0.0).sum(1, keepdim=True)
    noisy = only_there + 1e-7 * (~legal)  # what rounding leaves does not count
    found, right = (
        float(policy_value_joint_loss(logits, policies, logits[:, 0], logits[:, 0], legal=legal).loss) for policies in (noisy, only_there)
    )
    assert found == pytest.approx(right, abs=1e-9)
    policy_value_joint_loss(
        logits, torch.where(SOME[:, None], only_there, POLICIES), logits[:, 0], logits[:, 0], legal=legal, mask=SOME
    )  # rows that do not count may hold anything


def test_an_illegal_action_gets_no_gradient() -> None:
    legal = some_legal(0)
    targets = (POLICIES * legal) / (POLICIES * legal).sum(1, keepdim=True)
    for loss in (
        lambda x: policy_value_joint_loss(x, targets, x[:, 0].detach(), x[:, 0].detach(), legal=legal).loss,
        lambda x: kl_divergence_loss(x, POLICIES, legal=legal),
        lambda x: exploration_regularization(x, counts(0, ROWS, ACTIONS), legal=legal),
        lambda x: expected_thought_value_loss(x, POLICIES, counts(0, ROWS, ACTIONS), x[:, 0].detach(), legal=legal),
    ):
        logits = draw(0, ROWS, ACTIONS).requires_grad_()
        gradient = torch.autograd.grad(loss(logits), logits)[0]
        assert not gradient[~legal].any() and gradient[legal].abs().sum() > 0


# ------------------------------------------------------------------ what each is for


def test_the_hinge_prevents_the_collapse_that_the_error_alone_finds() -> None:
    def spread_after(variance_weight: float) -> float:
        torch.manual_seed(0)
        encoder = nn.Linear(4, 3)
        optimizer = torch.optim.Adam(encoder.parameters(), 2e-2)
        for _ in range(200):
            before = torch.randn(64, 4)
            after = 0.9 * before + 0.4 * torch.randn(64, 4)
            loss = dynamics_performance_loss(encoder(before), encoder(after), variance_weight=variance_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(encoder(torch.randn(500, 4)).std(0).min().detach())

    assert spread_after(0.0) < 0.05 and spread_after(1.0) > 0.8


class Grid(nn.Module):
    "A model of steps on a plane: east and north, in any order."

    def __init__(self) -> None:
        super().__init__()
        self.actions, self.step = nn.Embedding(2, 8), nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 2))
        with torch.no_grad():
            self.actions.weight[1] = self.actions.weight[0] + 0.05 * torch.randn(8)  # hardly told apart

    def imagine(self, latents: Tensor, actions: Tensor) -> Tensor:
        return latents + self.step(torch.cat([latents, self.actions(actions)], -1))


def learn_grid(*, consistency: float, diversity: float, steps: int = 250) -> tuple[Grid, float, float]:
    "The model after training on two steps in both orders; the mean gap between the two ends, and the diversity of the actions."
    torch.manual_seed(0)
    model = Grid()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    moves = torch.eye(2)
    for _ in range(steps):
        places = torch.randn(32, 2)
        ends = [model.imagine(model.imagine(places, torch.full((32,), first)), torch.full((32,), 1 - first)) for first in (0, 1)]
        real = (places + moves.sum(0)).repeat(2, 1)
        one = model.imagine(places, torch.zeros(32, dtype=torch.long))
        loss = dynamics_performance_loss(
            one, places + moves[0] + 0.3 * torch.randn(32, 2), variance_weight=0.0
        )  # only one action is ever taught
        loss = (
            loss
            + consistency * thought_consistency_loss(torch.cat(ends), real, temperature=0.01)
            - diversity * action_diversity_reward(model.actions.weight)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        places = torch.randn(200, 2)
        ends = [model.imagine(model.imagine(places, torch.full((200,), first)), torch.full((200,), 1 - first)) for first in (0, 1)]
        return model, float((ends[0] - ends[1]).norm(dim=-1).mean()), float(action_diversity_reward(model.actions.weight))


def test_two_orders_that_reach_one_state_meet_while_their_actions_stay_apart() -> None:
    _, gap_without, told_apart = learn_grid(consistency=0.0, diversity=0.1)
    _, gap_with, still_apart = learn_grid(consistency=5.0, diversity=0.1)
    assert gap_with < 0.25 * gap_without, (gap_with, gap_without)
    assert told_apart > 7.5 and still_apart > 7.5  # 8 is as far as two directions can be
    _, _, alike = learn_grid(consistency=5.0, diversity=0.0)
    assert alike < 2  # without the reward they stay where they were


def test_action_diversity_acts_on_action_embeddings_only() -> None:
    model = Grid()
    latents = model.imagine(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
    reward = LossReport(
        {
            "action_diversity": action_diversity_reward(model.actions.weight),
            "thought_consistency": thought_consistency_loss(latents, torch.zeros(4, 2)),
        },
        {"action_diversity": -1.0, "thought_consistency": 1.0},
    )
    assert reward.gradient_norms(model.actions.parameters())["action_diversity"] > 0
    assert (
        reward.gradient_norms(model.step.parameters())["action_diversity"]
        == 0
        < reward.gradient_norms(model.step.parameters())["thought_consistency"]
    )


def test_counts_are_counted_and_go_on_after_a_checkpoint() -> None:
    rng = np.random.default_rng(0)
    states, actions, counter = rng.integers(0, 3, (500, 2)), rng.integers(0, 3, 500), VisitCounter(3)
    counter.add(states[:200], actions[:200])
    again = VisitCounter(3)
    kept = counter.state_dict()
    again.load_state_dict(kept)
    again.add(states[200:], actions[200:])
    plain = Counter((*state, action) for state, action in zip(states.tolist(), actions.tolist(), strict=True))
    asked = np.array([[0, 0], [2, 1], [9, 9]])
    assert again.counts(asked).tolist() == [[plain[(*state, action)] for action in range(3)] for state in asked.tolist()]
    assert int(kept["counts"].sum()) == 200 and sum(row.sum() for row in counter.table.values()) == 200  # neither moved with the second


def test_a_policy_that_explores_ends_at_the_seldom_tried() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0]], requires_grad=True)
    optimizer = torch.optim.SGD([logits], 1.0)
    for _ in range(200):
        optimizer.zero_grad()
        exploration_regularization(logits, torch.tensor([[15, 3, 0]])).backward()
        optimizer.step()
    assert torch.allclose(logits.softmax(-1), torch.tensor([[1 / 7, 2 / 7, 4 / 7]]), atol=0.01)  # in proportion to 1/4, 1/2, 1


# ------------------------------------------------------------------ the report


def test_the_report_adds_up() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    report = LossReport(
        {"square": weight.square().sum(), "reward": weight[0] * 3, "fixed": torch.tensor(4.0)},
        {"square": 0.5, "reward": -1.0, "fixed": 2.0},
    )
    assert report.total.item() == pytest.approx(0.5 * 5 - 3 + 8)
    assert report.weighted() == {"square": 2.5, "reward": -3.0, "fixed": 8.0} and report.shares()["reward"] == pytest.approx(3 / 13.5)
    norms = report.gradient_norms([weight])
    assert norms == {"square": pytest.approx(math.sqrt(1 + 4)), "reward": pytest.approx(3.0), "fixed": 0.0}
    assert mean_losses([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 2.0}
    for losses_, weights, refusal, said in (
        ({"kl": torch.tensor(math.inf)}, {"kl": 1.0}, FloatingPointError, "one finite number, got inf"),
        ({"kl": torch.zeros(2)}, {"kl": 1.0}, ValueError, "one finite number"),
        ({"kl": torch.zeros(())}, {}, ValueError, "has none"),
    ):
        with pytest.raises(refusal, match=said):
            LossReport(losses_, weights)
