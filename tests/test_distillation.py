"""Positions of search trees against every line of play, games against their own rewards, and losses against what they must leave out."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.report import MetricsFile
from lightbulb.planning.plain_search import MCTSConfig
from lightbulb.world import distillation
from lightbulb.world.board_games import TicTacToe
from lightbulb.world.distillation import Distillation, distill_search, play_out, play_positions, tree_positions
from lightbulb.world.text_environments import Countdown, CountdownWorld


class Linear(nn.Module):
    "The smallest network that distillation can teach."

    def __init__(self, world) -> None:
        super().__init__()
        self.inputs = int(np.prod(world.observation_shape))
        self.layer = nn.Linear(self.inputs, world.num_actions + 1)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answers = self.layer(observations.flatten(1))
        return answers[:, :-1], answers[:, -1]


def make(world, seed: int = 0) -> Linear:
    torch.manual_seed(seed)
    return Linear(world)


def best_return(world: CountdownWorld, state: np.ndarray) -> float:
    "By every line there is."
    legal = np.flatnonzero(world.legal(state[None])[0])
    earned = []
    for action in legal:
        after, rewards, terminated, _ = world.step(state[None], np.array([action]))
        earned.append(float(rewards[0]) if terminated[0] else best_return(world, after[0]))
    return max(earned)


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_that_is_large_enough_knows_the_best_lines(seed):
    world = CountdownWorld(Countdown(3))
    found = tree_positions(make(world, seed), world, 20, seed, search=MCTSConfig(400, 5.0), least_return=1.0)
    assert (found.returns[:20] == 1.0).all(), "every problem can be solved, and 400 simulations look at everything"
    for state, policy, earned in list(zip(found.states, found.policies, found.returns, strict=True))[:200]:
        assert earned <= best_return(world, state)
        if earned < 1: continue
        best = []
        for action in range(world.num_actions):
            if not world.legal(state[None])[0, action]: continue
            after, rewards, terminated, _ = world.step(state[None], np.array([action]))
            best += [action] if (rewards[0] if terminated[0] else best_return(world, after[0])) == 1.0 else []
        assert set(np.flatnonzero(policy)) <= set(best)
        np.testing.assert_allclose(policy[policy > 0], 1 / (policy > 0).sum(), rtol=1e-6)


def test_a_tree_says_no_more_than_it_has_seen():
    world = CountdownWorld(Countdown(4))
    found = tree_positions(make(world), world, 30, 0, search=MCTSConfig(4, 1.0), least_return=1.0)
    ended = [world.legal(state[None]).any() for state in found.states]
    assert all(ended), "a finished game is no position to learn from"
    assert len(found.states) >= 30 and set(found.returns) <= {0.0, 1.0}
    np.testing.assert_array_equal(found.states[:30], world.reset(30, 0))  # the problems come first


@pytest.mark.parametrize("search", [None, MCTSConfig(8, 1.0)])
def test_the_returns_of_two_players_are_opposite(search):
    world = TicTacToe()
    played = play_positions(make(world), world, 40, 3, search=search, generator=torch.Generator().manual_seed(1))
    stones = (played.states != 0).sum(1)
    for ply in range(4):  # nobody has won before the fifth stone
        np.testing.assert_array_equal(played.returns[stones == ply], -played.returns[stones == ply + 1])
    assert {-1.0, 1.0} <= set(played.returns.tolist())
    np.testing.assert_allclose(played.policies.sum(1), 1.0, rtol=1e-6)
    assert not played.policies[~world.legal(played.states)].any()


def test_lost_games_teach_no_policy_but_a_value():
    world = CountdownWorld(Countdown(3))
    network, config = make(world), Distillation(least_return=1.0, value_weight=0.5)
    played = play_positions(network, world, 60, 0, search=MCTSConfig(8, 1.0), generator=torch.Generator())
    won = played.take(np.flatnonzero(played.returns >= 1))
    loss = distillation._search_loss(network, world, played, config)
    logits, values = network(torch.from_numpy(world.observe(won.states)))
    logs = logits.masked_fill(~torch.from_numpy(world.legal(won.states)), -torch.inf).log_softmax(-1)
    policy = -torch.nan_to_num(torch.from_numpy(won.policies) * logs, nan=0.0).sum(-1).mean()
    _, values = network(torch.from_numpy(world.observe(played.states)))
    expected = policy + 0.5 * (values - torch.from_numpy(played.returns)).square().mean()
    torch.testing.assert_close(loss, expected)


def test_at_the_start_ppo_is_the_policy_gradient_and_the_distance_is_zero():
    world = CountdownWorld(Countdown(3))
    network = make(world)
    own = play_positions(network, world, 60, 0, search=None, generator=torch.Generator().manual_seed(0))
    far = distillation._own_loss(network, copy.deepcopy(network), world, own, Distillation(kl_weight=1.0))
    torch.testing.assert_close(far, torch.zeros(()))
    logits, _ = network(torch.from_numpy(world.observe(own.states)))
    logs = logits.masked_fill(~torch.from_numpy(world.legal(own.states)), -torch.inf).log_softmax(-1)
    drawn = logs.gather(1, torch.from_numpy(own.policies).argmax(1, keepdim=True))[:, 0]
    np.testing.assert_allclose(drawn.detach(), own.log_probs, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        Distillation(MCTSConfig(24, 1.0), num_rounds=12, games_per_round=128, steps_per_round=40, learning_rate=1e-2, least_return=1.0),
        Distillation(num_rounds=15, games_per_round=256, steps_per_round=20, learning_rate=1e-2, search_weight=0.0, ppo_weight=1.0),
    ],
    ids=["search", "ppo"],
)
def test_it_learns_and_repeats_itself(config):
    world = CountdownWorld(Countdown(3))
    held_out = world.held_out.reset(150, 0)
    networks = [make(world), make(world)]
    losses = [[report.loss for report in distill_search(network, world, config)] for network in networks]
    assert losses[0] == losses[1]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    draws = lambda network: np.mean([play_out(network, world, held_out, generator=seed).mean() for seed in seeds])
    assert draws(networks[0]) > 1.3 * draws(make(world))


def test_trees_are_for_one_player():
    world = TicTacToe()
    with pytest.raises(ValueError, match="the world must have one player, got 2"):
        tree_positions(make(world), world, 4, 0, search=MCTSConfig(4), least_return=1.0)
    reports = list(distill_search(make(world), world, Distillation(MCTSConfig(4), num_rounds=2, games_per_round=8, steps_per_round=2)))
    assert [report.step for report in reports] == [1, 2], "of two players games are learned from"


SHORT = Distillation(MCTSConfig(8, 1.0), num_rounds=4, games_per_round=24, steps_per_round=3, rounds_kept=2, save_every=0.0)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("world", "config"),
    [
        (CountdownWorld(Countdown(3)), replace(SHORT, ppo_weight=0.5, kl_weight=0.1)),
        (TicTacToe(), replace(SHORT, ppo_weight=0.5, search=MCTSConfig(8, 1.0, temperature=1.0, dirichlet_fraction=0.25))),
    ],
    ids=["trees", "two players"],
)
def test_a_training_killed_after_any_round_ends_as_the_unbroken_one(tmp_path: Path, world, config: Distillation) -> None:
    "What the folder holds while a round is told is what a kill leaves; weights, losses and metrics to the last bit."
    whole, reports = make(world), []
    for report in distill_search(whole, world, config, save_dir=tmp_path / "whole"):
        reports.append(report)
        shutil.copytree(tmp_path / "whole", tmp_path / f"killed_{report.step}")
    assert same_weights(whole, in_memory := make(world)) is False
    list(distill_search(in_memory, world, config))
    assert same_weights(whole, in_memory), "what is written down changes nothing"
    for number in (2, 3, 4):  # the first round was told before anything was kept
        resumed = make(world, seed=number)
        rest = list(distill_search(resumed, world, config, save_dir=tmp_path / f"killed_{number}", resume=True))
        assert [report.step for report in rest] == list(range(number, 5))
        assert [report.as_row() for report in rest] == [report.as_row() for report in reports[number - 1 :]]
        assert same_weights(resumed, whole) and not resumed.training
        rows = [MetricsFile(tmp_path / name / "metrics.jsonl").read() for name in (f"killed_{number}", "whole")]
        assert rows[0] == rows[1]


def test_an_interrupted_training_keeps_its_last_round(tmp_path: Path) -> None:
    "Closed between two rounds, or broken inside one: then the round before it is what is gone on from."
    world, config, whole = CountdownWorld(Countdown(3)), replace(SHORT, save_every=60.0), make(CountdownWorld(Countdown(3)))
    list(distill_search(whole, world, config))
    run = distill_search(make(world), world, config, save_dir=tmp_path)
    assert [next(run).step, next(run).step] == [1, 2]
    run.close()
    broken = distill_search(make(world, 1), world, config, save_dir=tmp_path, resume=True)
    assert next(broken).step == 3
    world.step, step = (lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)), world.step
    with pytest.raises(KeyboardInterrupt):
        next(broken)
    world.step, resumed = step, make(world, 2)
    assert [report.step for report in distill_search(resumed, world, config, save_dir=tmp_path, resume=True)] == [3, 4]
    assert same_weights(resumed, whole)


def test_what_cannot_be_gone_on_with_is_said(tmp_path: Path) -> None:
    world = CountdownWorld(Countdown(3))
    list(distill_search(make(world), world, SHORT, save_dir=tmp_path))
    resume = lambda config, network=None, world=world: list(
        distill_search(network or make(world), world, config, save_dir=tmp_path, resume=True)
    )
    with pytest.raises(CheckpointError, match=r"learning_rate was 0.001 and is 0.1 now"):
        resume(replace(SHORT, learning_rate=0.1))
    with pytest.raises(CheckpointError, match=r"world was CountdownWorld and is TicTacToe now"):
        resume(SHORT, world=TicTacToe())
    with pytest.raises(CheckpointError, match=r"its weights are of another network"):
        resume(SHORT, nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="resume needs save_dir"):
        next(distill_search(make(world), world, SHORT, resume=True))
    with pytest.raises(LightbulbError, match="the gradient's norm is (nan|inf) in step 1; lower learning_rate"):
        list(distill_search(make(world), world, replace(SHORT, learning_rate=1e30)))
