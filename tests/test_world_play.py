"Self-play, the experience it fills, the stretches cut out of it and the losses along them, against plain loops over games."

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.planning.mcts import MCTSConfig
from lightbulb.world.board_games import ConnectFour, TicTacToe
from lightbulb.world.configuration import REGULARISERS, LossShares, TrainWorldModel
from lightbulb.world.environments import World, make_world
from lightbulb.world.gymnasium_worlds import GymnasiumWorld
from lightbulb.world.networks import WorldModel, WorldModelConfig
from lightbulb.world.self_play import (
    PlayConfig,
    ask_policy,
    _draw_moves,
    _judge_moves,
    play_games,
    policy_agent,
    renew_targets,
    search_agent,
    search_positions,
    search_targets,
)
from lightbulb.world.text_environments import Countdown, CountdownWorld
from lightbulb.world.targets import Experience, Steps, Windows, cut_windows, join_steps, n_step_values, sample_windows
from lightbulb.world.unrolling import Outside, fresh_rollout, loss_weights, measure, regularising_losses, surprise, unroll, world_losses

GAME = TicTacToe()
SEARCH = MCTSConfig(8, algorithm="gumbel")


def a_model(world: World = GAME, seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    return WorldModel(WorldModelConfig(world.observation_shape, world.num_actions, world.num_players, width=16, hidden=32)).eval()


def some_games(lengths: list[int], *, seed: int = 0, truncated: tuple[int, ...] = (), num_actions: int = 3) -> Steps:
    "Games of these lengths full of random numbers; the observation names game and move."
    rng, parts = np.random.default_rng(seed), []
    for game, length in enumerate(lengths):
        last, policy = np.arange(length) == length - 1, rng.random((length, num_actions)).astype(np.float32)
        legal = rng.random((length, num_actions)) < 0.7
        legal[:, 0] = True
        policy = np.where(legal, policy, 0) / np.where(legal, policy, 0).sum(1, keepdims=True)
        parts.append(
            Steps(
                np.stack([np.full(length, game), np.arange(length)], 1).astype(np.float32) + 1,
                rng.integers(0, num_actions, length),
                rng.normal(size=length).astype(np.float32),
                last & (game not in truncated),
                last & (game in truncated),
                legal,
                policy.astype(np.float32),
                rng.normal(size=length).astype(np.float32),
                rng.normal(size=(length, num_actions)).astype(np.float32),
                rng.integers(0, 5, (length, num_actions)).astype(np.float32),
                np.log(rng.random(length).astype(np.float32)),
                rng.random(length) < 0.3,
            )
        )
    return join_steps(parts)


# ------------------------------------------------------------------ n-step values


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([1.0, 0.9, -1.0, -0.5]))
def test_n_step_values_are_the_recursion(num_steps: int, seed: int, discount: float) -> None:
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(4, num_steps)), rng.normal(size=(4, num_steps + 1))
    terminated, truncated, follows = rng.random((4, num_steps)) < 0.2, rng.random((4, num_steps)) < 0.2, rng.random((4, num_steps)) < 0.7
    truncated &= ~terminated

    def worth(row: int, step: int) -> float:
        if step == num_steps or not follows[row, step] or truncated[row, step]: return values[row, step]
        return rewards[row, step] + (0.0 if terminated[row, step] else discount * worth(row, step + 1))

    found = n_step_values(rewards, values, is_over=terminated | truncated, follows=follows, terminated=terminated, discount=discount)
    assert found == pytest.approx([worth(row, 0) for row in range(4)])


# ------------------------------------------------------------------ windows


def check_windows(windows: Windows, steps: Steps, starts: np.ndarray, *, return_steps: int, discount: float) -> None:
    "Each stretch against a walk over the flat list of steps."
    num_steps = windows.actions.shape[1]

    def worth(at: int, left: int) -> float:
        if left == 0 or steps.explored[at] or steps.truncated[at]: return float(steps.value[at])
        return float(steps.reward[at]) + (0.0 if steps.terminated[at] else discount * worth(at + 1, left - 1))

    for row, start in enumerate(starts):
        at, state = int(start), "alive"
        for place in range(num_steps + 1):
            alive, known = state == "alive", state != "cut"
            assert (bool(windows.alive[row, place]), bool(windows.known[row, place])) == (alive, known)
            if alive:
                assert (
                    windows.observations[row, place].tolist() == steps.observation[at].tolist()
                    and windows.legal[row, place].tolist() == steps.legal[at].tolist()
                )
                assert windows.policies[row, place].tolist() == steps.policy[at].tolist()
                assert float(windows.values[row, place]) == pytest.approx(worth(at, return_steps), abs=1e-5)
            else:
                assert not windows.observations[row, place].any() and float(windows.values[row, place]) == 0
            if place == num_steps: break
            if alive:
                assert (int(windows.actions[row, place]), float(windows.rewards[row, place])) == (
                    steps.action[at],
                    pytest.approx(float(steps.reward[at])),
                )
                state = "over" if steps.terminated[at] else "cut" if steps.truncated[at] else "alive"
                at += 1
            else:
                assert float(windows.rewards[row, place]) == 0 and 0 <= int(windows.actions[row, place]) < steps.legal.shape[1]
            if state != "cut":
                assert bool(windows.ended[row, place]) == (state == "over")
        assert (
            windows.q_values[row].tolist() == steps.q_values[start].tolist()
            and windows.visits[row].tolist() == steps.visits[start].tolist()
        )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=6),
    st.integers(1, 6),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([1.0, -0.9]),
    st.integers(0, 10**6),
)
def test_windows_are_cut_as_a_walk_over_the_games(
    lengths: list[int], num_steps: int, return_steps: int, discount: float, seed: int
) -> None:
    steps = some_games(lengths, seed=seed, truncated=(1,))
    experience = Experience(200, discount=discount, return_steps=return_steps)
    experience.add(steps)
    starts = np.arange(len(steps))
    check_windows(
        cut_windows(experience, starts, num_steps, generator=np.random.default_rng(0)),
        steps,
        starts,
        return_steps=return_steps,
        discount=discount,
    )


@pytest.mark.parametrize("return_steps", [0, 2])
def test_windows_stay_right_when_the_ring_has_overwritten_old_games(return_steps: int) -> None:
    steps = some_games([5, 3, 6, 4, 2, 7, 3], truncated=(2, 5))
    experience, kept = Experience(17, discount=0.9, return_steps=return_steps), np.arange(len(steps) - 17, len(steps))
    for begin, end in ((0, 8), (8, 18), (18, 30)):
        experience.add(steps.take(slice(begin, end)))
    assert len(experience) == 17
    windows = cut_windows(experience, kept % 17, 4, generator=np.random.default_rng(0))
    check_windows(windows, steps, kept, return_steps=return_steps, discount=0.9)


def test_more_than_fits_keeps_the_newest_and_half_a_game_is_refused() -> None:
    steps, experience = some_games([4, 4, 4]), Experience(6, discount=1.0)
    experience.add(steps)
    newest = experience.read(np.arange(6)).observation
    assert {tuple(row) for row in newest.tolist()} == {tuple(row) for row in steps.observation[-6:].tolist()}
    with pytest.raises(ValueError, match="must end its game"):
        experience.add(steps.take(slice(0, 3)))
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        cut_windows(experience, np.arange(2), 0, generator=np.random.default_rng(0))
    with pytest.raises(ValueError, match="return_steps"):
        Experience(6, discount=1.0, return_steps=-1)
    with pytest.raises(ValueError, match="no experience"):
        Experience(6, discount=1.0).due(3)


def test_targets_are_renewed_in_turn() -> None:
    experience = Experience(50, discount=1.0)
    experience.add(some_games([4, 3]))
    seen = [experience.due(3).tolist() for _ in range(4)]
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4]] and experience.due(99).tolist() == [5, 6, 0, 1, 2, 3, 4]
    experience.renew(np.array([1, 2]), np.eye(3, dtype=np.float32)[:2], np.array([7.0, 8.0]), np.ones((2, 3)), np.zeros((2, 3)))
    windows = cut_windows(experience, np.array([1]), 1, generator=np.random.default_rng(0))
    assert (
        windows.values[0].tolist() == [7.0, 8.0]
        and windows.policies[0].tolist() == np.eye(3)[:2].tolist()
        and windows.q_values[0].tolist() == [1, 1, 1]
    )


def test_what_waits_longest_comes_first_after_the_ring_has_wrapped() -> None:
    experience = Experience(10, discount=1.0)
    experience.add(some_games([6]))
    assert [experience.due(4).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 0, 1]]
    experience.add(some_games([8]))  # in 6 … 9 and 0 … 3
    assert experience.due(4).tolist() == [4, 5, 6, 7]


def test_experience_goes_on_from_its_state(tmp_path) -> None:
    from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint

    one = Experience(30, discount=1.0, beta_steps=20, seed=3)
    for seed in range(3):
        one.add(some_games([5, 6, 4], seed=seed))
    one.memory.update_priorities(np.arange(9), np.linspace(0.1, 3, 9))
    one.due(7)
    save_checkpoint(tmp_path / "experience.pt", one.state_dict())
    two = Experience(30, discount=1.0, beta_steps=20, seed=99)
    two.load_state_dict(load_checkpoint(tmp_path / "experience.pt"))
    for _ in range(3):
        first, second = (sample_windows(experience, 8, 3, generator=np.random.default_rng(1)) for experience in (one, two))
        assert (
            (first.indices == second.indices).all()
            and torch.equal(first.weights, second.weights)
            and torch.equal(first.observations, second.observations)
            and torch.equal(first.actions, second.actions)
        )
    assert one.due(4).tolist() == two.due(4).tolist() == [22, 23, 24, 25]  # the last games took the first 15 slots


def test_stretches_are_drawn_by_priority_and_weights_make_up_for_it() -> None:
    experience, priorities = Experience(64, discount=1.0, alpha=1.0, beta=1.0, beta_steps=1, seed=0), np.linspace(0.2, 4.0, 20)
    experience.add(some_games([20]))
    experience.memory.update_priorities(np.arange(20), priorities)
    counts, expected = np.zeros(20), priorities + 0.05  # epsilon
    for _ in range(400):
        windows = sample_windows(experience, 50, 2, generator=np.random.default_rng(0))
        counts += np.bincount(windows.indices, minlength=20)
        products = windows.weights.numpy() * expected[windows.indices]
        assert products == pytest.approx(np.full(50, products[0]), rel=1e-3)  # so that every step counts alike on average
    assert counts / counts.sum() == pytest.approx(expected / expected.sum(), rel=0.15)


# ------------------------------------------------------------------ losses along a stretch


def some_windows(seed: int = 0, world=GAME, num_steps: int = 3) -> Windows:
    experience = Experience(500, discount=-1.0)
    for max_moves in (6, 9):
        experience.add(
            play_games(world, a_model(world, 9), PlayConfig(SEARCH, max_moves=max_moves), 10, generator=np.random.default_rng(seed)).steps
        )  # some are cut
    weights = torch.from_numpy(np.random.default_rng(seed).random(24).astype(np.float32))
    return cut_windows(
        experience,
        np.random.default_rng(seed).choice(len(experience), 24, replace=False),
        num_steps,
        generator=np.random.default_rng(seed),
        weights=weights,
    )


@torch.no_grad()
def test_unrolling_carries_the_first_latent_through_the_actions() -> None:
    model, windows = a_model(), some_windows()
    found = unroll(model, windows)
    for row in range(24):
        latent = model.representation(windows.observations[[row], 0])
        assert torch.allclose(found.latents[row, 0], latent[0], atol=1e-5)
        for step in range(3):
            imagined = model.imagine(latent, windows.actions[[row], step])
            latent = imagined.latents
            assert torch.allclose(found.latents[row, step + 1], latent[0], atol=1e-4) and torch.allclose(
                found.reward_logits[row, step], imagined.reward_logits[0], atol=1e-4
            )
            assert torch.allclose(found.ending_logits[row, step], imagined.ending_logits[0], atol=1e-4)
            assert torch.allclose(found.real[row, step + 1], model.representation(windows.observations[[row], step + 1])[0], atol=1e-4)
    assert torch.allclose(found.judgement.value_logits, model.prediction(found.latents).value_logits, atol=1e-5)


def test_no_gradient_goes_into_what_was_really_seen() -> None:
    model, windows = a_model(), some_windows()
    windows.observations.requires_grad_()
    unrolled = unroll(model, windows)
    assert not unrolled.real.requires_grad
    (gradient,) = torch.autograd.grad(world_losses(model, unrolled, windows, LossShares())["dynamics"], windows.observations)
    assert gradient[:, 0].abs().sum() > 0 and not gradient[:, 1:].any()  # only the first position was an input


@torch.no_grad()
def test_every_loss_counts_the_positions_that_it_may_with_their_weights() -> None:
    model, windows, shares = a_model(), some_windows(num_steps=4), LossShares(value_share=0.7)
    unrolled = unroll(model, windows)
    said, found = unrolled.judgement, world_losses(model, unrolled, windows, shares)
    entropy = lambda logit, target: -math.log(1 / (1 + math.exp(-logit))) if target else -math.log(1 - 1 / (1 + math.exp(-logit)))
    sums = {name: [] for name in ("policy", "value", "reward", "ending", "legality")}
    for row in range(24):
        for place in range(5):
            weight = float(windows.weights[row]) * (5 / 2 if place == 0 else 5 / 8)
            if windows.alive[row, place]:
                allowed = np.flatnonzero(windows.legal[row, place])
                chances = said.policy_logits[row, place, allowed].double().softmax(-1)
                sums["policy"].append(
                    -weight
                    * sum(
                        float(windows.policies[row, place, action]) * math.log(chance)
                        for action, chance in zip(allowed, chances, strict=True)
                    )
                )
                sums["legality"].append(
                    weight
                    * np.mean(
                        [
                            entropy(float(said.legality_logits[row, place, action]), bool(windows.legal[row, place, action]))
                            for action in range(9)
                        ]
                    )
                )
            if windows.known[row, place]:
                sums["value"].append(weight * float(model.values.loss(said.value_logits[row, place], windows.values[row, place])))
            if place < 4 and windows.known[row, place]:
                sums["reward"].append(
                    float(windows.weights[row]) * float(model.rewards.loss(unrolled.reward_logits[row, place], windows.rewards[row, place]))
                )
                sums["ending"].append(
                    float(windows.weights[row]) * entropy(float(unrolled.ending_logits[row, place]), bool(windows.ended[row, place]))
                )
    means = {name: np.mean(rows) for name, rows in sums.items()}
    assert float(found["policy_value"]) == pytest.approx(means["policy"] + 0.7 * means["value"], rel=1e-4)
    for name in ("reward", "ending", "legality"):
        assert float(found[name]) == pytest.approx(means[name], rel=1e-4), name
    assert (
        windows.alive.sum() < windows.known.sum() < windows.known.numel()
    )  # there were ends, behind which nothing is worth anything, and cut games, behind which nothing is known


@torch.no_grad()
def test_what_lies_behind_an_end_counts_where_it_is_known_and_nowhere_else() -> None:
    model, windows, shares = a_model(), some_windows(num_steps=4), LossShares()
    before = {name: float(loss) for name, loss in world_losses(model, unroll(model, windows), windows, shares).items()}
    before |= {name: float(loss) for name, loss in regularising_losses(model, unroll(model, windows), windows, Outside()).items()}
    dead = ~windows.alive
    assert dead.any()
    windows.policies[dead], windows.legal[dead] = torch.full((9,), 1 / 9), torch.rand(9) > 2
    windows.observations[dead] = 5.0
    after = {name: float(loss) for name, loss in world_losses(model, unroll(model, windows), windows, shares).items()}
    after |= {name: float(loss) for name, loss in regularising_losses(model, unroll(model, windows), windows, Outside()).items()}
    assert after == pytest.approx(before, abs=1e-5)


def test_the_report_weighs_and_leaves_out() -> None:
    model, windows = a_model(), some_windows()
    outside = Outside(
        torch.randn(24, 9),
        torch.randint(0, 5, (24, 9)),
        fresh_rollout(
            play_games(GAME, a_model(), PlayConfig(SEARCH), 4, generator=np.random.default_rng(0)).steps, 2, 1.0, torch.device("cpu")
        ),
    )
    all_on = LossShares(**dict.fromkeys(REGULARISERS, 0.5))
    report, _ = measure(model, windows, all_on, lambda_reg=0.2, outside=outside)
    assert set(REGULARISERS) <= set(report.losses) and {name: report.weights[name] for name in REGULARISERS} == {
        name: pytest.approx(-0.1 if name == "action_diversity" else 0.1) for name in REGULARISERS
    }
    norms = report.gradient_norms(model.parameters())
    assert [name for name in report.losses if not norms[name] > 0] == []  # a loss that cannot change a parameter is a bug
    assert report.total.item() == pytest.approx(sum(report.weighted().values()), rel=1e-5)
    plain, _ = measure(model, windows, LossShares(), lambda_reg=0.0, outside=outside)
    assert not set(REGULARISERS) & set(plain.losses)
    everything, _ = measure(model, windows, LossShares(), outside=outside, everything=True)
    assert set(everything.losses) == set(report.losses)
    for name in ("dynamics", "legality", "ppo"):
        assert name not in measure(model, windows, all_on.without(name), outside=outside)[0].losses
    assert loss_weights(LossShares(kl=2.0), 3.0)["kl"] == 6.0 and loss_weights(LossShares(), 3.0)["dynamics"] == LossShares().dynamics


@torch.no_grad()
def test_surprise_is_how_wrong_the_first_value_and_reward_were() -> None:
    model, windows = a_model(), some_windows()
    unrolled = unroll(model, windows)
    for row, found in enumerate(surprise(model, unrolled, windows)):
        latent = model.representation(windows.observations[[row], 0])
        value, reward = model.predict(latent)[1], model.step(latent, windows.actions[[row], 0])[1]
        assert found == pytest.approx(
            abs(float(value) - float(windows.values[row, 0])) + abs(float(reward) - float(windows.rewards[row, 0])), abs=1e-4
        )


# ------------------------------------------------------------------ fresh rollouts


@pytest.mark.parametrize("num_players", [1, 2])
def test_advantages_of_fresh_games_are_those_of_a_loop_with_alternating_movers(num_players: int) -> None:
    steps, discount, trace = some_games([4, 1, 6, 3], truncated=(2,)), 0.9, 0.8
    other = -1.0 if num_players == 2 else 1.0  # what the next one gains, the mover loses
    expected, value = np.zeros(len(steps)), steps.value.astype(np.float64)
    for at in reversed(range(len(steps))):
        if steps.terminated[at]:
            expected[at] = steps.reward[at] - value[at]
        elif steps.truncated[at]:
            expected[at] = steps.reward[at] + discount * value[at] - value[at]  # the last value stands in for the next
        else:
            expected[at] = steps.reward[at] + discount * other * value[at + 1] - value[at] + discount * trace * other * expected[at + 1]
    found = fresh_rollout(steps, num_players, discount, torch.device("cpu"), gae_lambda=trace)
    assert found.advantages.numpy() == pytest.approx(expected, abs=1e-5) and found.returns.numpy() == pytest.approx(
        expected + value, abs=1e-5
    )
    assert found.log_probs.tolist() == steps.log_prob.tolist() and found.actions.tolist() == steps.action.tolist()


# ------------------------------------------------------------------ play


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four:4x4", "FrozenLake-v1"])
def test_what_was_played_can_be_played_again(name: str) -> None:
    world = make_world(name)
    played = play_games(
        world, a_model(world), PlayConfig(SEARCH, opening_moves=3, exploration=0.2, max_moves=12), 6, generator=np.random.default_rng(0)
    )
    steps, begin = played.steps, 0
    assert len(played.lengths) == 6 and played.lengths.sum() == len(steps)
    for number, length in enumerate(played.lengths):
        game = steps.take(slice(begin, begin + length))
        assert (game.terminated | game.truncated).tolist() == [False] * (length - 1) + [True] and length <= 12
        assert game.legal[np.arange(length), game.action].all() and played.returns[number] == pytest.approx(game.reward.sum())
        if world.num_players == 2:
            states = world.reset(1, 0)
            for move in range(length):
                assert (world.observe(states)[0] == game.observation[move]).all() and (world.legal(states)[0] == game.legal[move]).all()
                states, rewards, terminated, _ = world.step(states, game.action[[move]])
                assert (rewards[0], terminated[0]) == (game.reward[move], game.terminated[move])
        begin += length
    assert steps.policy.sum(1) == pytest.approx(np.ones(len(steps)), abs=1e-4) and not steps.policy[~steps.legal].any()
    assert (
        steps.visits.sum(1) == pytest.approx(np.full(len(steps), 8))
        and not steps.visits[~steps.legal].any()
        and (steps.log_prob <= 1e-6).all()
    )


def test_play_repeats_under_a_seed_and_openings_differ_between_games() -> None:
    one, two = (play_games(GAME, a_model(), PlayConfig(SEARCH), 8, generator=np.random.default_rng(5)) for _ in range(2))
    assert all((first == second).all() for first, second in zip(one.steps.rows().values(), two.steps.rows().values(), strict=True))
    firsts = np.concatenate([[0], one.lengths.cumsum()[:-1]])
    assert len(set(one.steps.action[firsts].tolist())) > 1
    none = play_games(GAME, a_model(), PlayConfig(SEARCH, opening_moves=0), 4, generator=np.random.default_rng(5))
    assert not none.steps.explored.any()
    at_random = play_games(GAME, None, PlayConfig(), 30, generator=np.random.default_rng(5)).steps
    assert at_random.explored.all() and np.exp(at_random.log_prob) == pytest.approx(1 / at_random.legal.sum(1), rel=1e-4)


def test_the_noise_of_a_search_is_that_of_its_seed() -> None:
    states, settings = GAME.solve().states[:40], PlayConfig(MCTSConfig(3, algorithm="gumbel"))
    one, same, other = (_judge_moves(a_model(), GAME.observe(states), GAME.legal(states), settings, seed).visits for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any(1).mean() > 0.3


def test_games_are_split_and_cut() -> None:
    played = play_games(GAME, None, PlayConfig(max_moves=5), 10, generator=np.random.default_rng(0))
    assert played.lengths.tolist().count(5) > 5 and played.steps.truncated.sum() + played.steps.terminated.sum() == 10
    first, second = played.split(3)
    assert (
        first is not None
        and second is not None
        and len(first) == played.lengths[:3].sum()
        and len(first) + len(second) == len(played.steps)
    )
    assert (first.terminated | first.truncated)[-1] and played.split(0)[0] is None and played.split(10)[1] is None


def test_moves_are_drawn_from_the_mixture_and_its_log_probability_is_kept() -> None:
    policy, legal = np.array([0.5, 0.3, 0.2, 0.0]), np.array([True, True, True, False])
    for noise in (0.0, 0.4, 1.0):
        actions, log_probs, is_noise = _draw_moves(
            np.tile(policy, (20_000, 1)), np.tile(legal, (20_000, 1)), np.full(20_000, noise), np.random.default_rng(0)
        )
        mixture = noise * legal / 3 + (1 - noise) * policy
        assert np.bincount(actions, minlength=4) / 20_000 == pytest.approx(mixture, abs=0.012) and is_noise.mean() == pytest.approx(
            noise, abs=0.012
        )
        assert np.exp(log_probs) == pytest.approx(mixture[actions], rel=1e-4)


def test_a_search_teaches_its_improved_policy_and_the_value_of_its_best_move() -> None:
    model, states = a_model(), GAME.solve().states[::200]
    result = search_positions(model, GAME.observe(states), GAME.legal(states), MCTSConfig(30, exploration_constant=9.0))
    found = search_targets(result)
    assert (
        result.visit_counts.argmax(1) != np.where(result.visit_counts > 0, result.q_values, -9).argmax(1)
    ).any()  # the best value may have been met by chance
    for row in range(len(states)):
        visits, q = result.visit_counts[row], result.q_values[row]
        best = max((action for action in range(9) if visits[action]), key=lambda action: (visits[action], q[action]))
        assert found.values[row] == pytest.approx(q[best], abs=1e-6) and found.policies[row] == pytest.approx(result.policy[row], abs=1e-6)
    assert (found.visits == result.visit_counts).all()


def test_without_a_search_the_policy_speaks_and_only_of_legal_actions() -> None:
    model, world = a_model(ConnectFour(4, 4)), ConnectFour(4, 4)
    states = world.solve().states[::2000]
    legal = world.legal(states)
    policies, values = ask_policy(model, world.observe(states), legal)
    with torch.no_grad():
        logits, expected, _ = model.predict(model.representation(torch.from_numpy(world.observe(states))))
    for row in range(len(states)):
        plain = np.where(legal[row], np.exp(logits[row].double().numpy()), 0)
        assert policies[row] == pytest.approx(plain / plain.sum(), abs=1e-5) and values[row] == pytest.approx(
            float(expected[row]), abs=1e-5
        )
    spoken = _judge_moves(model, world.observe(states), legal, PlayConfig(with_search=False), 0)
    assert spoken.policies == pytest.approx(policies) and not spoken.visits.any()
    for agent in (search_agent(model, world, MCTSConfig(4)), policy_agent(model, world)):
        assert legal[np.arange(len(states)), agent(states, legal)].all()


def test_games_begin_anywhere_in_the_table_that_a_game_can_come_to() -> None:
    taxi = GymnasiumWorld("Taxi-v4")
    assert taxi.tables is not None
    own, everywhere = taxi.reset(4000, 3)[:, 0], taxi.reset_anywhere(4000, 3)[:, 0]
    assert set(own) == set(np.flatnonzero(taxi.tables.initial))  # 300 cells; nobody sits in the taxi yet
    assert set(everywhere) == set(np.flatnonzero(taxi.tables.reachable)) > set(own)
    assert taxi.legal(taxi.reset_anywhere(100, 5)).any(1).all()
    starts = {share: np.random.default_rng(0) for share in (0.0, 0.25, 1.0)}
    seated = {
        share: play_games(taxi, None, PlayConfig(max_moves=1, anywhere=share), 400, generator=generator).steps.observation.argmax(1)
        for share, generator in starts.items()
    }
    new = {share: ~np.isin(cells, own) for share, cells in seated.items()}
    assert not new[0.0].any() and not new[0.25][:300].any() and 0 < new[0.25][300:].sum() < new[1.0].sum()
    for world, reason in (
        (GymnasiumWorld("FrozenLake-v1", use_tables=False), "transition table"),
        (CountdownWorld(Countdown(3)), "one way"),
    ):
        with pytest.raises(ValueError, match=reason):
            play_games(world, None, PlayConfig(anywhere=0.5), 4, generator=np.random.default_rng(0))


def test_games_on_a_board_begin_with_any_number_of_stones() -> None:
    game = ConnectFour(4, 5)
    played = play_games(game, None, PlayConfig(anywhere=0.5), 400, generator=np.random.default_rng(0))
    first = np.concatenate([[0], played.lengths.cumsum()[:-1]])
    stones = played.steps.observation[first].sum((1, 2, 3))
    assert not stones[:200].any() and set(stones[200:].tolist()) == set(range(20))


def test_a_stretch_in_a_mirror_is_what_the_mirrored_game_would_show() -> None:
    game, generator = ConnectFour(4, 5), np.random.default_rng(1)
    played = play_games(game, a_model(game), PlayConfig(SEARCH), 12, generator=generator)
    experience = Experience(400, discount=-1.0)
    experience.add(played.steps)
    windows = cut_windows(experience, np.arange(len(experience)), 3, generator=generator)
    mirrored = windows.mirrored(slice(None, None, 2))
    for name, values in vars(windows).items():  # the others stay as they were, and what has no columns stays everywhere
        rows = slice(1, None, 2) if name in {"observations", "actions", "legal", "policies", "q_values", "visits"} else slice(None)
        np.testing.assert_array_equal(vars(mirrored)[name][rows], values[rows])
    seen = mirrored.observations.numpy()
    states = (seen[:, 0, 0] - seen[:, 0, 1]).reshape(len(seen), -1).astype(np.int8)
    for step in range(3):  # the rules themselves, played along the stretches
        going = np.flatnonzero(mirrored.alive[:, step].numpy())
        np.testing.assert_array_equal(game.observe(states[going]), seen[going, step])
        np.testing.assert_array_equal(game.legal(states[going]), mirrored.legal[going, step])
        states[going], rewards, terminated, _ = game.step(states[going], mirrored.actions[going, step].numpy())
        np.testing.assert_array_equal(rewards, mirrored.rewards[going, step])
        np.testing.assert_array_equal(terminated, mirrored.ended[going, step])
    even = mirrored.legal[:, 0]
    assert not mirrored.policies[:, 0][~even].any() and not mirrored.visits[~even].any()
    again = mirrored.mirrored(slice(None, None, 2))
    assert all(np.array_equal(vars(again)[name], values) for name, values in vars(windows).items())


def test_equal_positions_are_searched_again_once() -> None:
    world, asked = GymnasiumWorld("FrozenLake-v1"), []
    model, experience, config = a_model(world, seed=2), Experience(2000, discount=0.9), MCTSConfig(8, algorithm="gumbel")
    experience.add(play_games(world, None, PlayConfig(), 60, generator=np.random.default_rng(0)).steps)

    def count(model: WorldModel, observations: np.ndarray, legal: np.ndarray, config: MCTSConfig) -> Any:
        asked.append(len(observations))
        return search_positions(model, observations, legal, config)

    renew_targets(experience, model, config, len(experience), ask=count)
    after = experience.read(np.arange(len(experience)))
    cells = after.observation.argmax(1)
    assert asked == [len(set(cells))] and asked[0] < 12 < len(cells)
    quiet = MCTSConfig(8, algorithm="gumbel", gumbel_scale=0.0)
    direct = search_targets(search_positions(model, after.observation, after.legal, quiet))
    assert (after.visits == direct.visits).all() and after.value == pytest.approx(direct.values, abs=1e-5)
    assert after.policy == pytest.approx(direct.policies, abs=1e-5)


def test_old_positions_are_searched_again_without_noise() -> None:
    model, experience = a_model(seed=4), Experience(400, discount=-1.0)
    experience.add(play_games(GAME, None, PlayConfig(), 12, generator=np.random.default_rng(0)).steps)
    before, config = experience.read(np.arange(len(experience))), MCTSConfig(16, algorithm="gumbel")
    renew_targets(experience, model, config, 20)
    after = experience.read(np.arange(len(experience)))
    direct = search_targets(
        search_positions(model, before.observation[:20], before.legal[:20], MCTSConfig(16, algorithm="gumbel", gumbel_scale=0.0))
    )
    assert (
        (after.policy[:20] == direct.policies).all()
        and (after.value[:20] == direct.values).all()
        and (after.visits[:20] == direct.visits).all()
        and (after.q_values[:20] == direct.q_values).all()
    )
    for name in ("observation", "action", "reward", "legal", "log_prob"):
        assert (getattr(before, name) == getattr(after, name)).all()
    assert (after.policy[20:] == before.policy[20:]).all() and (after.value[20:] == before.value[20:]).all()


def test_the_counts_that_exploration_reads_were_really_counted() -> None:
    from lightbulb.world.training import WorldModelTraining

    run = WorldModelTraining(
        TrainWorldModel(
            environment="tic_tac_toe",
            device="cpu",
            random_games=40,
            mcts_iterations=4,
            width=16,
            hidden=32,
            validation_share=0.0,
            losses=LossShares(exploration=0.1),
        )
    )
    run.prepare()
    run.practice.play(8)
    learned = run.practice.learned
    steps = learned.read(np.arange(len(learned)))
    plain = Counter((observation.tobytes(), int(action)) for observation, action in zip(steps.observation, steps.action, strict=True))
    windows = sample_windows(learned, 16, 2, generator=np.random.default_rng(0))
    found = run.outside_of(windows, counter=run.practice.counter, rollout=None, with_policy=False).counts
    assert found is not None and found.tolist() == [
        [plain[(first.numpy().tobytes(), action)] for action in range(9)] for first in windows.observations[:, 0]
    ]
    assert max(plain.values()) > 3


def test_the_gradients_of_a_step_are_clipped_to_their_norm() -> None:
    "By plain gradient descent: the step's length is the learning rate times the norm, or times the bound where the norm is larger."
    from lightbulb.world.training import WorldModelTraining

    def length_and_norm(max_grad_norm: float) -> tuple[float, float]:
        run = WorldModelTraining(
            TrainWorldModel(
                environment="tic_tac_toe", device="cpu", random_games=30, width=16, hidden=32, max_grad_norm=max_grad_norm, warmup=0.0
            )
        )
        run.prepare()
        run.move.optimizers = [torch.optim.SGD(run.model.parameters(), 0.0)]
        before = torch.cat([parameter.detach().flatten().clone() for parameter in run.model.parameters()])
        metrics = run.train_step().metrics
        after = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
        return float((after - before).norm()) / metrics["learning_rate"], metrics["gradient_norm"]

    free, norm = length_and_norm(1e6)
    clipped, same_norm = length_and_norm(0.5)
    assert norm == same_norm > 0.5
    assert free == pytest.approx(norm, rel=1e-3) and clipped == pytest.approx(0.5, rel=1e-3)


def test_positions_that_the_memory_has_never_seen_are_told_apart() -> None:
    from lightbulb.world.evaluation import imagination_errors, unseen_positions

    windows, model = some_windows(num_steps=4), a_model()
    assert torch.equal(unseen_positions(windows, np.zeros((0, 2, 3, 3), np.float32)), windows.alive)
    seen = windows.observations[:8].flatten(0, 1).numpy()
    new, known = unseen_positions(windows, seen), {row.tobytes() for row in seen}
    for row in range(24):
        for place in range(5):
            is_new = bool(windows.alive[row, place]) and windows.observations[row, place].numpy().tobytes() not in known
            assert bool(new[row, place]) == is_new
    assert not new[:8].any() and new.any()
    everywhere, where_new = imagination_errors(model, windows), imagination_errors(model, windows, counted=new)
    illegal = ((unroll(model, windows).judgement.legality_logits > 0) != windows.legal).any(-1)
    for place in range(5):
        if new[:, place].any():
            assert where_new.legality[place] == pytest.approx(float(illegal[new[:, place], place].float().mean()))
    pairs = [(getattr(everywhere, name), getattr(where_new, name)) for name in ("legality", "ending", "reward")]
    assert not all(map(np.array_equal, *zip(*pairs, strict=True)))  # of legality alone some processors' games show none


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"opening_moves": -1}, "opening_moves must not be negative"),
        ({"exploration": 1.5}, "exploration must be between 0 and 1"),
        ({"max_moves": 0}, "max_moves must be positive"),
        ({"anywhere": 1.1}, "anywhere must be between 0 and 1"),
    ],
)
def test_bad_ways_to_play_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PlayConfig(**settings)
