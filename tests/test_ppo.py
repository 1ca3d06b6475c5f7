"""PPO against its formula, its memory against a step-by-step one, and small tasks that it must learn."""

from __future__ import annotations

import copy
import functools
import math
import shutil
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import find_model_file
from lightbulb.rl import ppo
from lightbulb.rl.ppo import Collector, PPOAgent, PPOConfig, Rollout, evaluate_policy, plain_ppo_update, ppo_loss, train_ppo
from lightbulb.rl.vector_environments import EnvironmentFailure, EpisodeStream, PassiveTMaze, make_vector_environment


AS_WRITTEN: dict[str, Any] = {
    "num_epochs": 4,
    "num_minibatches": 4,
    "standardize": False,
    "normalize_rewards": False,
}  # no scaling around it


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finish(reports):
    "Run a training to its end; its reports and the agent."
    seen = []
    while True:
        try:
            seen.append(next(reports))
        except StopIteration as stop:
            return seen, stop.value


class Clock(gymnasium.Env):
    "Shows the hour and is cut at hour 5."

    observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.hour = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.hour += 1
        return np.array([self.hour], np.float32), float(action), False, self.hour == 5, {}


class Match(gymnasium.Env):
    "One step: the action must answer the observation."

    def __init__(self, action_space):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,)), action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = self.np_random.choice([-1.0, 1.0], 2).astype(np.float32)
        return self.shown, {}

    def step(self, action):
        wanted = self.shown > 0
        if isinstance(self.action_space, spaces.Box):
            reward = -float(np.square(action - 0.5 * self.shown).sum())
        else:
            assert isinstance(self.action_space, spaces.MultiDiscrete)
            reward = float(np.mean((np.asarray(action) - self.action_space.start) == wanted * (self.action_space.nvec - 1)))
        return self.shown, reward, True, False, {}


# ------------------------------------------------------------------ one update equals the formula


def reference_update(weights, batch, config, num_steps):
    "Numpy alone: forward, gradients derived by hand (eqs. 7 and 9), global clipping, Adam. Two networks of one hidden layer."
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    x, actions, old, advantages, old_values, returns = batch
    n = len(x)
    standard = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    for step in range(1, num_steps + 1):
        w1, b1, w2, b2, v1, c1, v2, c2 = weights
        h, g = np.tanh(x @ w1.T + b1), np.tanh(x @ v1.T + c1)
        logits, values = h @ w2.T + b2, (g @ v2.T + c2)[:, 0]
        log_p = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1, keepdims=True)
        p, one_hot = np.exp(log_p), np.eye(logits.shape[1])[actions]
        log_ratio = (log_p * one_hot).sum(1) - old
        ratio = np.exp(log_ratio)
        is_active = np.where(standard > 0, ratio < 1 + config.clip_range, ratio > 1 - config.clip_range)
        d_log_prob = -standard * ratio * is_active / n + config.kl_coefficient * (ratio - 1) / n
        entropy = -(p * log_p).sum(1, keepdims=True)
        d_logits = d_log_prob[:, None] * (one_hot - p) + config.entropy_coefficient / n * p * (log_p + entropy)
        near = old_values + np.clip(values - old_values, -config.value_clip_range, config.value_clip_range)
        takes_near = np.square(near - returns) > np.square(values - returns)
        moves = np.abs(values - old_values) < config.value_clip_range
        d_values = config.value_coefficient * 2 / n * np.where(takes_near, (near - returns) * moves, values - returns)
        d_h, d_g = (d_logits @ w2) * (1 - h**2), (d_values[:, None] @ v2) * (1 - g**2)
        gradients = [
            d_h.T @ x,
            d_h.sum(0),
            d_logits.T @ h,
            d_logits.sum(0),
            d_g.T @ x,
            d_g.sum(0),
            d_values[None] @ g,
            d_values.sum(keepdims=True),
        ]
        norm = math.sqrt(sum(float(np.square(gradient).sum()) for gradient in gradients))
        scale = min(config.max_grad_norm / (norm + 1e-6), 1.0)
        for index, gradient in enumerate(gradients):
            m, v = moments[index]
            m, v = 0.9 * m + 0.1 * scale * gradient, 0.999 * v + 0.001 * np.square(scale * gradient)
            moments[index] = m, v
            weights[index] = weights[index] - config.learning_rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-5)
    return weights


def defined_targets(rollout, discount, gae_lambda):
    "Advantages and returns of the rows that are steps, from the front (Schulman et al. 2016, eq. 16)."
    values, (num_steps, num_envs) = rollout.values.numpy(), rollout.rewards.shape
    following = np.concatenate([values[1:], rollout.last_values[None]]) * ~rollout.terminated
    surprises = (rollout.rewards + discount * following - values) * rollout.valid
    advantages = np.zeros((num_steps, num_envs))
    for t in range(num_steps):
        for b in range(num_envs):
            factor = 1.0
            for k in range(t, num_steps):
                advantages[t, b] += factor * surprises[k, b]
                factor *= discount * gae_lambda
                if rollout.terminated[k, b] or not rollout.valid[k, b]: break
    return advantages, advantages + values


@pytest.mark.parametrize("seed", range(4))
def test_the_plain_update_and_the_agents_are_one(seed):
    "Several rollouts of CartPole with ends and time limits; the same order of rows."
    settings = PPOConfig(**AS_WRITTEN, num_envs=4, rollout_length=64, anneal=False, entropy_coefficient=0.02, hidden=(8,), seed=seed)
    make = lambda: gymnasium.make("CartPole-v1", max_episode_steps=25)
    agent, stream = PPOAgent.for_environment(make, settings), EpisodeStream(make_vector_environment(make, 4))
    network = copy.deepcopy(agent.network)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, eps=1e-5)
    stream.reset(seed)
    collector, generator, ends = Collector(agent, stream), torch.Generator(), []
    for _ in range(4):
        rollout = collector.collect()
        ends.append((rollout.truncated.any(), rollout.terminated.any()))
        generator.set_state(agent.generator.get_state())
        plain_ppo_update(network, optimizer, rollout=rollout, config=settings, generator=generator)
        agent.learn(rollout)
        for plain, learned in zip(network.parameters(), agent.parameters, strict=True):
            assert (plain - learned).abs().max() < 2e-6
    assert np.any(ends, axis=0).all()  # both kinds were there


@pytest.mark.parametrize("seed", range(4))
def test_one_update_is_the_formula(seed):
    "Four steps on one batch in float64, rows that are no steps among it; every term of the loss is on."
    config = PPOConfig(
        num_envs=5,
        rollout_length=12,
        num_epochs=4,
        num_minibatches=1,
        standardize=False,
        normalize_rewards=False,
        hidden=(6,),
        learning_rate=0.02,
        anneal=False,
        clip_range=0.1,
        value_clip_range=0.15,
        entropy_coefficient=0.03,
        kl_coefficient=0.2,
        target_kl=1e9,
        max_grad_norm=0.3,
        seed=seed,
    )
    agent = PPOAgent(spaces.Box(-1, 1, (3,)), spaces.Discrete(4), config)
    agent.network.double()
    random = np.random.default_rng(seed)
    draw = lambda *shape: torch.from_numpy(random.normal(size=(12, 5, *shape)))
    valid = random.random((12, 5)) < 0.8
    never = np.zeros((12, 5), bool)
    rollout = Rollout(
        features=draw(3),
        actions=torch.from_numpy(random.integers(4, size=(12, 5, 1))),
        log_probs=draw() * 0.2 - 1.4,
        values=draw(),
        rewards=random.normal(size=(12, 5)),
        terminated=random.random((12, 5)) < 0.2,
        truncated=never,
        final_values=np.zeros((12, 5)),
        last_values=random.normal(size=5),
        valid=valid,
        starts=never,
    )
    advantages, returns = defined_targets(rollout, config.discount, config.gae_lambda)
    weights = [parameter.detach().numpy().copy() for parameter in agent.network.parameters()]
    parts = (
        rollout.features.numpy(),
        rollout.actions[..., 0].numpy(),
        rollout.log_probs.numpy(),
        advantages,
        rollout.values.numpy(),
        returns,
    )
    rows = [part[valid] for part in parts]
    metrics = agent.learn(rollout)
    expected = reference_update(list(weights), rows, config, num_steps=4)
    assert 0 < metrics["clip_fraction"] < 1
    for parameter, before, after in zip(agent.network.parameters(), weights, expected, strict=True):
        assert np.abs(parameter.detach().numpy() - after).max() < 1e-6
        assert np.abs(before - after).max() > 1e-3  # it did move


def test_layers_begin_orthogonal_and_the_policy_begins_undecided():
    "Gains √2 inside, 0.01 at the policy, 1 at the value; Adam's epsilon is 1e-5 (Engstrom et al. 2020, Huang et al. 2022)."
    agent = PPOAgent(spaces.Box(-1, 1, (5,)), spaces.Discrete(3), PPOConfig(hidden=(16, 8)))
    for body, gain in ((agent.network.actor, 0.01), (agent.network.critic, 1.0)):
        layers = [layer for layer in body if isinstance(layer, torch.nn.Linear)]
        for layer, wanted in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
            assert torch.allclose(torch.linalg.svdvals(layer.weight), torch.tensor(wanted), rtol=1e-4) and not layer.bias.any()
    assert agent.optimizer.param_groups[0]["eps"] == 1e-5


def test_rate_and_clip_range_fall_and_each_minibatch_has_its_own_scale(monkeypatch):
    "Half way both are half; and what a minibatch learns from has mean 0 and spread 1 of its own rows."
    seen, plain = [], ppo.ppo_loss

    def watched(*rows, **settings):
        seen.append((len(rows[0]), rows[2], settings["clip_range"], settings["normalize_advantages"]))
        return plain(*rows, **settings)

    monkeypatch.setattr(ppo, "ppo_loss", watched)
    reports, _ = finish(
        train_ppo(
            "CartPole-v1",
            PPOConfig(
                **AS_WRITTEN | {"num_epochs": 1},
                total_steps=512,
                num_envs=8,
                rollout_length=16,
                end_factor=0.0,
                anneal_clip_range=True,
                learning_rate=0.01,
            ),
        )
    )
    shares = [1 - report.step / 512 for report in reports[:-1]]
    assert [report.metrics["learning_rate"] for report in reports] == pytest.approx([0.01, *(0.01 * share for share in shares)])
    assert [clip for _, _, clip, _ in seen[::4]] == pytest.approx([0.2, *(0.2 * share for share in shares)])
    assert max(size for size, *_ in seen) <= 32 and all(normalizes for *_, normalizes in seen)
    raw = torch.cat([advantages for _, advantages, *_ in seen[:4]])
    assert abs(float(raw.mean())) > 0.1  # they are not scaled before
    zeros, scaled = torch.zeros(6), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    losses = [
        float(plain(zeros + 0.1, zeros, scale * scaled + shift, zeros, zeros, zeros, zeros).policy_loss)
        for scale, shift in ((1.0, 0.0), (50.0, -7.0))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_rows_that_are_no_steps_teach_nothing():
    "The row that Gymnasium's NEXT_STEP spends on a reset may hold anything."
    config = PPOConfig(num_envs=3, rollout_length=20, num_minibatches=2, hidden=(8,))
    learned = []
    for spoil in (False, True):
        agent = PPOAgent.for_environment(Clock, config)
        stream = EpisodeStream(SyncVectorEnv([Clock] * 3, autoreset_mode=AutoresetMode.NEXT_STEP))
        stream.reset(seed=0)
        rollout = Collector(agent, stream).collect()
        assert (~rollout.valid).sum() == 3 * 3
        if spoil:
            for part in (rollout.features, rollout.values, rollout.log_probs):
                part[torch.from_numpy(~rollout.valid)] = 1e6
            rollout.rewards[~rollout.valid] = 1e6
        agent.learn(rollout)
        learned.append(torch.cat([parameter.detach().flatten() for parameter in agent.parameters]))
    assert torch.equal(*learned)


def test_every_autoreset_mode_gives_the_same_advantages():
    "The same episodes, 5 steps and a time limit: δ at the limit holds V of the final observation, in all three modes."
    by_mode = {}
    for mode in AutoresetMode:
        agent = PPOAgent.for_environment(Clock, PPOConfig(num_envs=2, rollout_length=24, num_minibatches=1))
        agent.head.to_environment = lambda actions: np.ones(len(actions), np.int64)  # the same acts everywhere
        stream = EpisodeStream(SyncVectorEnv([Clock] * 2, autoreset_mode=mode))
        stream.reset(seed=0)
        rollout = Collector(agent, stream).collect()
        advantages, _ = rollout.advantages_and_returns(discount=0.99, gae_lambda=0.95)
        by_mode[mode] = advantages[:, 0].numpy()[rollout.valid[:, 0]][:20]
        with torch.no_grad():
            values = agent.network.step(torch.arange(6.0)[:, None])[1].numpy()
        assert by_mode[mode][4] == pytest.approx(1 + 0.99 * values[5] - values[4], abs=1e-6)
        assert by_mode[mode][3] == pytest.approx(1 + 0.99 * values[4] - values[3] + 0.99 * 0.95 * by_mode[mode][4], abs=1e-6)
    for mode in AutoresetMode:
        assert np.allclose(by_mode[mode], by_mode[AutoresetMode.NEXT_STEP], atol=1e-6)


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_memory_recomputes_the_log_probabilities_of_its_rollout(mode):
    "Over several rollouts: episodes that cross them start from the stored state, resets in the middle from an empty one."
    config = PPOConfig(num_envs=4, rollout_length=13, num_minibatches=2, lstm_width=8, memory_length=10)
    agent = PPOAgent.for_environment(Clock, config)
    with torch.no_grad():
        for parameter in agent.network.actor.parameters():
            parameter.mul_(20.0)  # so that the policy depends on what it remembers
    stream = EpisodeStream(SyncVectorEnv([Clock] * 4, autoreset_mode=mode))
    stream.reset(seed=0)
    collector = Collector(agent, stream)
    for _ in range(3):
        rollout = collector.collect()
        assert rollout.state is not None
        with torch.no_grad():
            distribution, values = agent.network.unroll(rollout.features, rollout.state, rollout.starts)
        again = distribution.log_prob(rollout.actions.flatten(0, 1)).reshape(13, 4)
        assert (again - rollout.log_probs).abs().max() < 1e-5
        assert (values.reshape(13, 4) - rollout.values).abs().max() < 1e-5
        forgotten, _ = agent.network.unroll(rollout.features, rollout.state * 0 + 1, rollout.starts | True)
        assert (forgotten.log_prob(rollout.actions.flatten(0, 1)).reshape(13, 4) - rollout.log_probs).abs().max() > 1e-3  # memory matters


@pytest.mark.parametrize("lstm_width", [16, 0])
def test_only_memory_solves_the_passive_t_maze(lstm_width):
    make = lambda num_envs: PassiveTMaze(num_envs, length=8)
    config = PPOConfig(
        **AS_WRITTEN,
        total_steps=40_000 if lstm_width else 8_000,
        num_envs=32,
        rollout_length=9,
        learning_rate=3e-3,
        gae_lambda=0.5,
        entropy_coefficient=0.01,
        hidden=(32,),
        lstm_width=lstm_width,
        memory_length=24,
        evaluation_interval=4_000,
        evaluation_episodes=100,
        target_return=1.0,
    )
    reports, agent = finish(train_ppo(make, config))
    mean = evaluate_policy(agent, make, num_episodes=400, seed=99).mean()
    assert mean == 1.0 if lstm_width else mean < 0.62


# ------------------------------------------------------------------ small tasks


def test_cartpole_is_solved():
    config = PPOConfig(
        **AS_WRITTEN | {"num_epochs": 10},
        total_steps=100_000,
        num_envs=32,
        rollout_length=32,
        learning_rate=2e-3,
        anneal_clip_range=True,
        discount=0.98,
        gae_lambda=0.9,
        evaluation_interval=5_000,
        evaluation_episodes=100,
        target_return=500.0,
    )
    reports, agent = finish(train_ppo("CartPole-v1", config))
    assert evaluate_policy(agent, "CartPole-v1", num_episodes=100, seed=7).mean() >= 490
    assert {report.split for report in reports} == {"train", "validation"}


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([3, 2], start=[5, 1]), spaces.Box(-1, 1, (2,))], ids=["multi-discrete", "continuous"]
)
def test_other_actions_are_learned(space):
    settings = AS_WRITTEN | {"num_epochs": 8}
    config = PPOConfig(**settings, total_steps=10_000, num_envs=16, rollout_length=32, learning_rate=5e-3, hidden=(32,))
    _, agent = finish(train_ppo(lambda: Match(space), config))
    mean = evaluate_policy(agent, lambda: Match(space), num_episodes=200).mean()
    assert mean > (-0.02 if isinstance(space, spaces.Box) else 0.99)


# ------------------------------------------------------------------ KL


def test_kl_stops_an_update_and_adapts_the_penalty():
    base: dict[str, Any] = {
        "num_envs": 8,
        "rollout_length": 32,
        "num_epochs": 20,
        "num_minibatches": 1,
        "learning_rate": 0.03,
        "total_steps": 1024,
        "anneal": False,
        "clip_range": 1e3,
        "standardize": False,
        "normalize_rewards": False,
    }
    free, _ = finish(train_ppo("CartPole-v1", PPOConfig(**base)))
    held, _ = finish(train_ppo("CartPole-v1", PPOConfig(**base, target_kl=0.02)))
    assert max(report.metrics["kl"] for report in free) > 0.1
    assert all(report.metrics["num_epochs"] < 20 for report in held)
    for target, grows in ((1e-6, True), (1e6, False)):
        settings: dict[str, Any] = base | {"num_epochs": 1, "num_minibatches": 4}
        _, agent = finish(train_ppo("CartPole-v1", PPOConfig(**settings, target_kl=target, kl_coefficient=1.0)))
        assert (agent.kl_coefficient > 1) if grows else (agent.kl_coefficient < 1)


# ------------------------------------------------------------------ nothing is lost


def same(one: dict, other: dict) -> bool:
    "Are two states equal to the last bit?"
    if isinstance(one, dict): return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple): return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def new_runs(folder):
    "The moments of a run."
    return sorted(path.name for path in folder.glob("epoch*"))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("lstm_width", [0, 8])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, lstm_width, mode):
    "From every place at which it may be killed, in the middle of episodes: weights, optimizer, random numbers and reports."
    config = PPOConfig(
        total_steps=6 * 128,
        num_envs=4,
        rollout_length=32,
        num_minibatches=2,
        lstm_width=lstm_width,
        normalize_rewards=True,
        standardize=True,
        evaluation_interval=300,
        evaluation_episodes=2,
        save_every=0,
    )
    make = lambda num_envs: SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * num_envs, autoreset_mode=mode)
    run, reports, whole = train_ppo(make, config, save_dir=tmp_path / "whole"), [], None
    while whole is None:
        try:
            reports.append(next(run))
        except StopIteration as stop:
            whole = stop.value
        else:
            shutil.copytree(tmp_path / "whole", tmp_path / f"killed_{len(reports)}")  # what a kill would leave
    assert len(reports) > 6
    for number in range(1, len(reports) + 1):
        if not new_runs(tmp_path / f"killed_{number}"):
            continue  # killed before the first moment
        rest, resumed = finish(train_ppo(make, config, save_dir=tmp_path / f"killed_{number}", resume=True))
        assert same(whole.state_dict(), resumed.state_dict()), number
        assert [report.as_row() for report in rest] == [report.as_row() for report in reports[len(reports) - len(rest) :]]
        assert len(rest) <= len(reports) - number + 2


def test_an_agent_of_another_shape_is_refused():
    whole = PPOAgent.for_environment("CartPole-v1", PPOConfig())
    other = PPOAgent.for_environment("CartPole-v1", PPOConfig(hidden=(7,)))
    with pytest.raises(CheckpointError, match="not a PPO agent of this shape"):
        other.load_state_dict(whole.state_dict())


def test_another_setting_is_refused_by_name_and_an_old_run_is_set_aside(tmp_path):
    config = PPOConfig(total_steps=256, num_envs=4, rollout_length=32)
    _, first = finish(train_ppo("CartPole-v1", config, save_dir=tmp_path / "run"))
    with pytest.raises(CheckpointError, match="discount was 0.99 and is 0.5 now"):
        finish(train_ppo("CartPole-v1", replace(config, discount=0.5), save_dir=tmp_path / "run", resume=True))
    with pytest.raises(CheckpointError, match="environment was CartPole-v1 and is Acrobot-v1 now"):
        finish(train_ppo("Acrobot-v1", config, save_dir=tmp_path / "run", resume=True))
    with pytest.raises(CheckpointError, match="nothing to resume"):
        finish(train_ppo("CartPole-v1", config, save_dir=tmp_path / "nowhere", resume=True))
    longer, _ = finish(train_ppo("CartPole-v1", replace(config, total_steps=512), save_dir=tmp_path / "run", resume=True))
    assert first.num_steps < longer[0].step and 512 <= longer[-1].step < 640
    _, second = finish(train_ppo("CartPole-v1", replace(config, seed=1), save_dir=tmp_path / "run"))
    aside = PPOAgent.load(tmp_path / "run_001")
    assert new_runs(tmp_path / "run_001") == [f"epoch_000_step_{longer[-1].step:06d}"]
    assert not same(aside.network.state_dict(), second.network.state_dict())
    assert same(PPOAgent.load(tmp_path / "run").network.state_dict(), second.network.state_dict())
    steps = [row["step"] for row in MetricsFile(tmp_path / "run" / "metrics.jsonl").read()]
    assert steps[-1] == second.num_steps and len(steps) == second.num_updates


def numbered_rollout(states: list[int], num_states: int, ends: list[int]) -> Rollout:
    "One environment that showed these numbers; its episode ended after the rows `ends`."
    num_rows = len(states)
    zeros, never, terminated = np.zeros((num_rows, 1)), np.zeros((num_rows, 1), bool), np.zeros((num_rows, 1), bool)
    terminated[ends] = True
    return Rollout(
        features=torch.eye(num_states)[states][:, None],
        actions=torch.zeros(num_rows, 1, 1, dtype=torch.int64),
        log_probs=torch.full((num_rows, 1), -0.7),
        values=torch.zeros(num_rows, 1),
        rewards=zeros,
        terminated=terminated,
        truncated=never,
        final_values=zeros,
        last_values=zeros[0],
        valid=~never,
        starts=never,
    )


def test_rare_states_pay_by_their_visits():
    agent, rollout = PPOAgent(spaces.Discrete(4), spaces.Discrete(2), PPOConfig()), numbered_rollout([0, 1, 0, 2, 1], 4, [1])
    for often, rare in ((2, 1), (4, 2)):  # 1 was entered so often, 2 so often; none past an end or the last row
        common, seldom = 1 / often**0.5, 1 / rare**0.5
        mean = (2 * common + seldom) / 3  # living on earns nothing by itself
        assert np.allclose(agent.visits.bonus(rollout)[:, 0], [common - mean, 0, seldom - mean, common - mean, 0])
    alone = numbered_rollout([0, 1], 4, [0])
    assert not agent.visits.bonus(alone).any()  # nothing goes on
    assert agent.visits.counts.tolist() == [0, 4, 2, 0]
    assert PPOAgent(spaces.Box(-1, 1, (4,)), spaces.Discrete(2), PPOConfig()).visits.bonus(rollout).max() == 0
    assert PPOAgent.for_environment("Taxi-v4", PPOConfig()).visits.counts.size == 500  # beside an action mask


def test_the_bonus_is_part_of_what_is_learned_and_fades():
    rollout = numbered_rollout([0, 1, 0, 2, 1] * 8, 4, [1])
    weights = {}
    for num_steps in (0, 500):
        for novelty in (0.0, 0.5):
            agent = PPOAgent(spaces.Discrete(4), spaces.Discrete(2), PPOConfig(total_steps=1000, novelty=novelty))
            agent.num_steps = num_steps
            agent.learn(rollout)
            weights[num_steps, novelty > 0] = agent.network.state_dict()
    assert not same(weights[0, False], weights[0, True]) and same(weights[500, False], weights[500, True])


def test_a_resumed_run_knows_what_was_visited(tmp_path):
    config = PPOConfig(total_steps=6 * 64, num_envs=4, rollout_length=16, novelty=0.5)
    _, whole = finish(train_ppo("FrozenLake-v1", config))
    killed = train_ppo("FrozenLake-v1", config, save_dir=tmp_path)
    next(killed), next(killed)
    killed.close()
    _, resumed = finish(train_ppo("FrozenLake-v1", config, save_dir=tmp_path, resume=True))
    assert whole.visits.counts.sum() > 50 and same(whole.state_dict(), resumed.state_dict())


def test_an_agent_that_is_handed_over_follows_the_new_configuration():
    config, make = PPOConfig(total_steps=256, num_envs=4, rollout_length=32, learning_rate=1e-3), lambda: gymnasium.make("CartPole-v1")
    _, agent = finish(train_ppo(make, config))
    reports, further = finish(train_ppo(make, replace(config, learning_rate=1e-5, anneal=False, num_envs=2), agent=agent))
    assert further is agent and [report.step for report in reports] == [64, 128, 192, 256]
    assert {report.metrics["learning_rate"] for report in reports} == {1e-5}
    with pytest.raises(ValueError, match="hidden belongs to the network: the agent has \\(64, 64\\), the configuration \\(8,\\)"):
        finish(train_ppo(make, replace(config, hidden=(8,)), agent=agent))


# ------------------------------------------------------------------ what an agent can see


class Quadrant(gymnasium.Env):
    "Which quadrant of a picture is lit? Its number is the answer; perhaps only two answers are open."

    def __init__(self, side=8, with_mask="observation", channels=0, length=3):
        shape = (side, side, channels) if channels else (side, side)
        self.picture, self.with_mask, self.length = spaces.Box(0, 255, shape, np.uint8), with_mask, length
        speed = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))])
        parts: dict[str, Any] = {"picture": self.picture, "speed": speed}
        if with_mask == "observation":
            parts["action_mask"] = spaces.MultiBinary(4)
        self.observation_space, self.action_space = spaces.Dict(parts), spaces.Discrete(4)

    def look(self):
        self.lit, other = self.np_random.permutation(4)[:2]
        shape, half = self.picture.low.shape, self.picture.low.shape[0] // 2
        picture = self.np_random.integers(0, 120, shape, np.uint8)
        picture[half * (self.lit // 2) :, half * (self.lit % 2) :][:half, :half] += 100
        self.open = np.isin(np.arange(4), [self.lit, other]).astype(np.int8)
        shown = {
            "picture": picture,
            "speed": (int(self.np_random.integers(3)), self.np_random.normal(size=2).clip(-1, 1).astype(np.float32)),
        }
        if self.with_mask == "observation":
            shown["action_mask"] = self.open
        return shown, {"action_mask": self.open} if self.with_mask == "info" else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length
        return self.look()

    def step(self, action):
        assert not self.with_mask or self.open[action], "a closed action was taken"
        reward, self.left = float(action == self.lit), self.left - 1
        shown, info = self.look()
        return shown, reward, self.left == 0, False, info


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("with_mask", ["observation", "info"])
def test_a_closed_action_is_never_taken(with_mask, mode):
    "The environment itself asserts it, in training (sampled) and evaluation (likeliest), in every autoreset mode; episodes end apart."
    one = lambda length: lambda: Quadrant(with_mask=with_mask, length=length)
    make = lambda num_envs: SyncVectorEnv([one(3 + number % 4) for number in range(num_envs)], autoreset_mode=mode)
    config = PPOConfig(total_steps=512, num_envs=8, rollout_length=16, hidden=(16,), num_epochs=1)
    reports, agent = finish(train_ppo(make, config))
    assert all(np.isfinite(list(report.metrics.values())).all() for report in reports)
    assert reports[0].metrics["entropy"] == pytest.approx(math.log(2), abs=0.05)  # two of four are open
    evaluate_policy(agent, make, num_episodes=10)


class Gate(gymnasium.Env):
    "Shows the hour; `masks` says at which hours the second action is closed."

    observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)

    def __init__(self, masks=(0,)):
        self.masks = masks

    def look(self):
        return np.float32([self.hour]), {"action_mask": np.array([1, 0], np.int8)} if self.hour in self.masks else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.hour = 0
        return self.look()

    def step(self, action):
        self.hour += 1
        shown, info = self.look()
        return shown, 0.0, self.hour == 3, False, info


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_all_actions_are_open_where_info_holds_no_mask(mode):
    "A mask at the reset alone; one that comes later only is refused, since the policy was made without it."
    stream, seen, ends = EpisodeStream(SyncVectorEnv([Gate] * 2, autoreset_mode=mode)), [], []
    stream.reset(seed=0)
    for _ in range(8):
        seen.append((int(stream.observations["observation"][0, 0]), stream.observations["action_mask"][0].tolist()))
        step = stream.step(np.zeros(2, np.int64))
        if step.terminated[0]:
            ends.append(int(step.final_observations["observation"][0, 0]))
    hours = [0, 1, 2, 3] * 2 if mode is AutoresetMode.NEXT_STEP else [0, 1, 2, 0, 1, 2, 0, 1]
    assert seen == [(hour, [1, 1 if hour else 0]) for hour in hours] and ends == [3, 3]
    make = lambda num_envs: SyncVectorEnv([lambda: Gate((1,))] * num_envs, autoreset_mode=mode)
    with pytest.raises(EnvironmentFailure, match="gave an action_mask at step 1, and none at the reset"):
        finish(train_ppo(make, PPOConfig(total_steps=64, num_envs=2, rollout_length=8, num_minibatches=1)))


def test_where_nothing_is_open_the_environment_failed():
    class Closed(Quadrant):
        def look(self):
            shown, info = super().look()
            return shown | {"action_mask": np.zeros(4, np.int8)}, info

        def step(self, action):
            shown, info = self.look()
            return shown, 0.0, False, False, info

    with pytest.raises(EnvironmentFailure, match="closed all actions"):
        finish(train_ppo(Closed, PPOConfig(total_steps=64, num_envs=2, rollout_length=8, num_minibatches=1)))


class Stones(gymnasium.Env):
    "Three stones, of which each action takes one; when the game is over, no action is open."

    observation_space = spaces.Dict(left=spaces.Box(0, 3, (1,)), action_mask=spaces.MultiBinary(3))
    action_space = spaces.Discrete(3)

    def look(self):
        return {"left": np.float32([self.left.sum()]), "action_mask": self.left.astype(np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = np.ones(3, bool)
        return self.look(), {}

    def step(self, action):
        assert self.left[action], "a closed action was taken"
        self.left[action] = False
        return self.look(), 1.0, not self.left.any(), False, {}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_nothing_need_be_open_where_an_episode_has_ended(mode):
    make = lambda num_envs: SyncVectorEnv([Stones] * num_envs, autoreset_mode=mode)
    for lstm_width in (0, 8):
        config = PPOConfig(total_steps=64, num_envs=2, rollout_length=16, num_minibatches=2, lstm_width=lstm_width)
        reports, agent = finish(train_ppo(make, config))
        assert all(np.isfinite(list(report.metrics.values())).all() for report in reports)
        assert evaluate_policy(agent, make, num_episodes=4).tolist() == [3.0] * 4


def test_pictures_and_dictionaries_are_learned():
    config = PPOConfig(total_steps=6_000, num_envs=16, rollout_length=32, learning_rate=2e-3, num_epochs=6, num_minibatches=4, device="cpu")
    _, agent = finish(train_ppo(lambda: Quadrant(with_mask=""), config))
    assert evaluate_policy(agent, lambda: Quadrant(with_mask=""), num_episodes=100).mean() > 2.7
    assert len(agent.network.readers) == 1


class Vane(gymnasium.Env):
    "A dictionary whose entries are not in the order of their names."

    parts = {"velocity": spaces.Box(-1, 1, (2,)), "angle": spaces.Box(-1, 1, (2,))}
    observation_space, action_space = spaces.Dict(list(parts.items())), spaces.Discrete(2)

    def look(self):
        return {"velocity": np.array([1.0, 0.5], np.float32), "angle": np.array([-1.0, 0.2], np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        return self.look(), 0.0, False, False, {}


def test_a_loaded_agent_reads_a_dictionary_in_the_order_that_it_learned(tmp_path):
    config = PPOConfig(total_steps=32, num_envs=2, rollout_length=16, num_epochs=1, num_minibatches=1, hidden=(8,))
    _, agent = finish(train_ppo(Vane, config, save_dir=tmp_path))
    shown = {name: value[None] for name, value in Vane().look().items()}
    assert agent.features(shown).tolist() == [[1.0, 0.5, -1.0, pytest.approx(0.2)]]
    assert torch.equal(PPOAgent.load(tmp_path).features(shown), agent.features(shown))


class Odometer(VectorEnv):
    "Counts its steps in one array that it gives out again and again."

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs):
        self.num_envs, self.single_action_space = num_envs, spaces.Discrete(2)
        self.single_observation_space, self.shown = spaces.Box(0, np.inf, (1,)), np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        self.shown[:] = 0
        return self.shown, {}

    def step(self, actions):
        self.shown += 1
        return self.shown, np.ones(self.num_envs), np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool), {}


def test_an_environment_that_reuses_its_array_gives_the_rollout_that_was_seen():
    agent = PPOAgent.for_environment(Odometer, PPOConfig(num_envs=2, rollout_length=4, num_minibatches=1, device="cpu"))
    stream = EpisodeStream(Odometer(2))
    stream.reset()
    assert Collector(agent, stream).collect().features[..., 0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_pictures_alone_are_stored_as_octets():
    agent = PPOAgent(spaces.Box(0, 255, (40, 40, 3), np.uint8), spaces.Discrete(2), PPOConfig(device="cpu"))
    rows = agent.features(np.full((2, 40, 40, 3), 255, np.uint8))
    assert rows.dtype == torch.uint8 and rows.shape == (2, 4800)
    distribution, values, _ = agent.network.step(rows)
    scaled = agent.network.readers[0](rows.float())
    assert torch.isfinite(values).all() and scaled.shape == (2, 256)


def test_the_taxis_mask_is_heeded():
    reports, agent = finish(train_ppo("Taxi-v4", PPOConfig(total_steps=1024, num_envs=4, rollout_length=32)))
    assert agent.network.mask_size == 6 and isinstance(agent.encode.space, spaces.Dict)


def test_evaluation_does_not_touch_training():
    base: dict[str, Any] = {"total_steps": 1024, "num_envs": 4, "rollout_length": 32}
    _, silent = finish(train_ppo("CartPole-v1", PPOConfig(**base)))
    reports, watched = finish(train_ppo("CartPole-v1", PPOConfig(**base, evaluation_interval=256, evaluation_episodes=3)))
    assert same(silent.state_dict(), watched.state_dict())
    assert sum(report.split == "validation" for report in reports) == 4


def test_an_episode_without_end_is_evaluated_in_parts():
    class Endless(Clock):
        def step(self, action) -> Any:
            shown, reward, _, _, info = super().step(action)
            return shown, reward, False, False, info

    agent = PPOAgent.for_environment(Clock, PPOConfig(num_minibatches=1, num_envs=1))
    whole = evaluate_policy(agent, Clock, num_episodes=5, max_parallel=2)
    assert evaluate_policy(agent, Clock, num_episodes=5, max_parallel=2, max_steps=10_000).tolist() == whole.tolist()
    assert len(evaluate_policy(agent, Endless, num_episodes=5, max_parallel=2, max_steps=10)) == 5


def test_a_first_reset_that_fails_is_one_line():
    class Gone(Clock):
        def reset(self, **named: Any) -> Any:
            raise OSError("no cable")

    with pytest.raises(EnvironmentFailure, match="^the environment failed at its first reset: OSError: no cable$"):
        next(train_ppo(Gone, PPOConfig(total_steps=64)))


class Fragile(Clock):
    "Breaks at its hundredth step, by an exception or by a number that is none."

    num_steps, kind = 0, "raise"

    def step(self, action) -> Any:
        Fragile.num_steps += 1
        shown, *rest = super().step(action)
        if Fragile.num_steps < 100: return shown, *rest
        if Fragile.kind == "raise": raise RuntimeError("the wire is cut")
        if Fragile.kind == "Ctrl-C": raise KeyboardInterrupt
        return shown * np.nan, *rest


@pytest.mark.parametrize(
    ("kind", "words"), [("raise", "failed at step .*: RuntimeError: the wire is cut"), ("nan", "observation that is not finite")]
)
def test_an_environment_that_fails_loses_nothing(tmp_path, kind, words):
    Fragile.num_steps, Fragile.kind = 0, kind
    config = PPOConfig(total_steps=4096, num_envs=2, rollout_length=16, num_minibatches=1, learning_rate=0.01)
    agent, reports = PPOAgent.for_environment(Clock, config), []
    first = agent.parameters[0].detach().clone()
    with pytest.raises(EnvironmentFailure, match=words) as failure:
        for report in train_ppo(Fragile, config, agent=agent, save_dir=tmp_path):
            reports.append(report)
    assert len(str(failure.value).splitlines()) == 1
    assert agent.num_updates == len(reports) == 3 and not torch.equal(first, agent.parameters[0])
    assert all(bool(torch.isfinite(parameter).all()) for parameter in agent.parameters)
    assert same(dict(PPOAgent.load(tmp_path).network.state_dict()), dict(agent.network.state_dict()))
    go_on = train_ppo(Clock, config, save_dir=tmp_path, resume=True)
    assert next(go_on).step > agent.num_steps


class Dial(gymnasium.Env):
    "Pays most where the dial stands at seven tenths of its way."

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, low, high):
        self.action_space, self.goal, self.width = spaces.Box(low, high, (1,), np.float32), low + 0.7 * (high - low), high - low

    def reset(self, *, seed=None, options=None):
        self.num_steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.num_steps += 1
        return np.zeros(1, np.float32), 1 - abs(float(action[0]) - self.goal) / self.width, False, self.num_steps == 10, {}


def test_bounds_far_from_one_are_reached_like_those_of_one_and_an_agent_of_before_acts_as_it_did(tmp_path):
    config = PPOConfig(total_steps=3000, num_minibatches=4)
    for low, high in ((-1.0, 1.0), (0.0, 1000.0), (100.0, 200.0), (0.0, 0.001)):
        _, agent = finish(train_ppo(lambda low=low, high=high: Dial(low, high), config, save_dir=tmp_path))
        assert evaluate_policy(agent, lambda low=low, high=high: Dial(low, high), num_episodes=2).mean() > 7.5, (low, high)
    agent = PPOAgent(spaces.Discrete(2), spaces.Box(np.array([0, -1, -np.inf]), np.array([50, 1, np.inf]), dtype=np.float64))
    assert agent.head.to_environment(torch.tensor([[0.5, 0.5, 0.5], [-9, -9, -9]])).tolist() == [[37.5, 0.5, 0.5], [0, -1, -9]]
    file = find_model_file(tmp_path, "ppo agent")
    state = load_checkpoint(file)
    del state["network"]["head.reach"]
    save_checkpoint(tmp_path / "before.ckpt", state)
    before, now, draws = PPOAgent.load(tmp_path / "before.ckpt"), PPOAgent.load(file), torch.tensor([[0.0005]])
    assert before.head.to_environment(draws)[0, 0] == pytest.approx(0.0005)
    assert now.head.to_environment(draws)[0, 0] == pytest.approx(0.0005 + 0.0005 * 0.0005)


def test_an_environment_that_is_no_maker_or_not_the_agents_is_refused_in_one_line():
    one = gymnasium.make("CartPole-v1")
    for wrong, words in ((one, "a function that makes an environment, got the environment"), (lambda: one, "got the same one again")):
        with pytest.raises(ValueError, match=words):
            next(train_ppo(wrong, PPOConfig(num_envs=2)))
    agent = PPOAgent.for_environment("CartPole-v1")
    for other in ("FrozenLake-v1", "Acrobot-v1", "MountainCarContinuous-v0"):
        with pytest.raises(ValueError, match="spaces must be the agent's, Box.* and Discrete\\(2\\), got"):
            evaluate_policy(agent, other)
        with pytest.raises(ValueError, match="spaces must be the agent's"):
            next(train_ppo(other, PPOConfig(), agent=agent))


@pytest.mark.parametrize(
    ("space", "outside"), [(spaces.Discrete(3, start=1), 4), (spaces.Discrete(3), -1), (spaces.MultiDiscrete([3, 2]), np.array([3, 0]))]
)
def test_an_observation_outside_its_space_is_the_environments_failure(space, outside):
    agent = PPOAgent(spaces.Dict(seen=space), spaces.Discrete(2))
    with pytest.raises(LightbulbError, match="outside its space"):
        agent.act({"seen": np.array([outside])})


class LostNumber(gymnasium.Env):
    "Episodes of ten steps, in one of which a number of the observation is none."

    observation_space, action_space = spaces.Dict(lamp=spaces.Discrete(2), place=spaces.Box(-9, 9, (1,), np.float32)), spaces.Discrete(2)

    def __init__(self, lost_at):
        self.lost_at = lost_at

    def reset(self, *, seed=None, options=None):
        self.num_steps = 0
        return {"lamp": 0, "place": np.zeros(1, np.float32)}, {}

    def step(self, action):
        self.num_steps += 1
        place = np.nan if self.num_steps == self.lost_at else self.num_steps / 10
        return {"lamp": 1, "place": np.array([place], np.float32)}, 1.0, False, self.num_steps == 10, {}


@pytest.mark.parametrize("lost_at", [4, 10])  # in the middle, and where a time limit strikes
def test_a_number_that_is_lost_is_named_where_it_is_seen_in_an_evaluation_too(lost_at):
    make_env = lambda: LostNumber(lost_at)
    words = f"environment 0 gave an observation that is not finite at step {lost_at}"
    with pytest.raises(EnvironmentFailure, match=words):
        finish(train_ppo(make_env, PPOConfig(total_steps=512, num_envs=2, rollout_length=16, num_minibatches=1)))
    with pytest.raises(EnvironmentFailure, match=words):
        evaluate_policy(PPOAgent.for_environment(make_env), make_env, num_episodes=2)


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    Fragile.num_steps, Fragile.kind = 0, "Ctrl-C"
    config, reports = PPOConfig(total_steps=4096, num_envs=2, rollout_length=16, num_minibatches=1), []
    with pytest.raises(KeyboardInterrupt):
        for report in train_ppo(Fragile, config, save_dir=tmp_path):
            reports.append(report)
    assert len(reports) == 3 and new_runs(tmp_path) == [f"epoch_000_step_{reports[-1].step:06d}"]
    assert next(train_ppo(Clock, config, save_dir=tmp_path, resume=True)).step > reports[-1].step


def test_an_environment_with_luck_of_its_own_begins_anew_when_resumed(tmp_path):
    luck = np.random.default_rng(0)

    class Doors(gymnasium.Env):
        "Two of fifty doors are open, by luck and not by the seed; a closed one is refused."

        observation_space = spaces.Dict(time=spaces.Box(0, 50, (1,)), action_mask=spaces.MultiBinary(50))
        action_space = spaces.Discrete(50)

        def look(self):
            self.open = luck.permutation(50) < 2
            return {"time": np.float32([self.time]), "action_mask": self.open.astype(np.int8)}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.time = 0
            return self.look(), {}

        def step(self, action):
            if not self.open[action]: raise ValueError(f"door {action} is closed")
            self.time += 1
            return self.look(), 1.0, self.time == 50, False, {}

    config = PPOConfig(total_steps=32, num_envs=2, rollout_length=16, num_minibatches=1)
    finish(train_ppo(Doors, config, save_dir=tmp_path))
    reports, agent = finish(train_ppo(Doors, replace(config, total_steps=64), save_dir=tmp_path, resume=True))
    assert [report.step for report in reports] == [64] and agent.num_updates == 2


# ------------------------------------------------------------------ evaluation


class Lengths(gymnasium.Env):
    "Episodes that last 1 or 50 steps, by chance."

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.choice([1, 50]))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


def test_evaluation_does_not_prefer_short_episodes():
    agent = PPOAgent.for_environment(Lengths, PPOConfig())
    for max_parallel in (10, 128):
        returns = evaluate_policy(agent, Lengths, num_episodes=1000, seed=3, max_parallel=max_parallel)
        assert len(returns) == 1000 and abs(returns.mean() - 25.5) < 3


def test_gymnasium_makes_the_same_cartpole_in_both_forms():
    "Its own vector version, stepped by the stream, against single environments started in the same states."
    many = EpisodeStream(make_vector_environment("CartPole-v1", 3))
    many.reset(seed=0)
    alone: list[Any] = [gymnasium.make("CartPole-v1").unwrapped for _ in range(3)]
    for env, state in zip(alone, many.observations, strict=True):
        env.reset()
        env.state = tuple(np.float64(number) for number in state)
    random, running = np.random.default_rng(0), np.ones(3, bool)
    for _ in range(60):
        actions = random.integers(2, size=3)
        step = many.step(actions)
        for row in np.flatnonzero(running):
            observation, _, terminated, _, _ = alone[row].step(int(actions[row]))
            assert np.allclose(observation, step.final_observations[row], atol=1e-4) and terminated == step.terminated[row]
            running[row] = not terminated


def test_a_function_that_needs_nothing_makes_one_environment():
    class Settable(Clock):
        def __init__(self, **settings):
            self.settings = settings

    slippery = functools.partial(gymnasium.make, "FrozenLake-v1", is_slippery=False)
    for make in (slippery, Settable, lambda *_arguments, **settings: gymnasium.make("FrozenLake-v1", **settings)):
        assert make_vector_environment(make, 3).num_envs == 3


def test_an_id_may_name_its_module_and_leave_out_its_version(tmp_path, monkeypatch):
    own = "from gymnasium.envs.classic_control import PendulumEnv\nimport gymnasium\ngymnasium.register('Swing-v3', PendulumEnv)\n"
    (tmp_path / "swinging.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gymnasium.logger, "min_level", gymnasium.logger.ERROR)
    kinds = [type(make_vector_environment(name, 2)).__name__ for name in ("CartPole", "CartPole-v1", "swinging:Swing-v3", "swinging:Swing")]
    assert kinds == ["CartPoleVectorEnv", "CartPoleVectorEnv", "SyncVectorEnv", "SyncVectorEnv"]
    for unknown in ("NoSuchWorld", "swinging:NoSuchWorld-v0", "CartPole-v99"):
        with pytest.raises(ValueError, match="must be a known Gymnasium id"):
            make_vector_environment(unknown, 2)
    with pytest.raises(EnvironmentFailure, match="No module named 'no_such_module'"):
        make_vector_environment("no_such_module:Swing-v3", 2)


def test_environments_in_processes_of_their_own_give_the_same():
    "Gymnasium's AsyncVectorEnv: the same episodes as in one process; a failure there is the same clear error."
    seen = []
    for make in (
        lambda n: SyncVectorEnv([Clock] * n, autoreset_mode=AutoresetMode.SAME_STEP),
        lambda n: gymnasium.vector.AsyncVectorEnv([Clock] * n, autoreset_mode=AutoresetMode.SAME_STEP),
    ):
        _, agent = finish(train_ppo(make, PPOConfig(total_steps=120, num_envs=3, rollout_length=20, num_minibatches=1, hidden=(8,))))
        seen.append(agent.state_dict())
    assert same(*seen)


def test_a_loss_takes_one_number_a_row_in_any_precision():
    "(4, 1) beside (4,) would make 4 × 4 rows of them; in half precision 1e-8 is 0, and equal advantages were no number."
    rows = {name: torch.randn(4) for name in ("log_probs", "old_log_probs", "advantages", "values", "old_values", "returns", "entropy")}
    with pytest.raises(ValueError, match=r"must have the same shape, one number a row, got \[\(4,\), \(4, 1\)\]"):
        ppo_loss(**rows | {"values": rows["values"][:, None]})
    halves = {name: row.half() for name, row in rows.items()} | {"advantages": torch.ones(4, dtype=torch.float16)}
    assert float(ppo_loss(**halves).policy_loss) == 0


@pytest.mark.parametrize("name", ["total_steps", "num_envs", "rollout_length"])
def test_half_a_step_is_none(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got 12.5"):
        PPOConfig(**{name: 12.5})
