"""One training run in a process of its own: prints one line of JSON with CPU-seconds, steps and the returns of the final weights.

The clock starts after imports (and after loading compiled kernels) and stops before the final evaluation, which is the same for all:
100 deterministic episodes of Gymnasium's environment. Algorithms: lightbulb; Stable-Baselines3 with the settings that its zoo publishes
and with its defaults; and a plain loop in the style of CleanRL (torch.distributions, one Python loop, its default settings).
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

import gymnasium
import numpy as np
import torch

torch.set_num_threads(1)

TIME_LIMITS = {"CliffWalking-v1": 200}  # steps, where Gymnasium sets none
NUM_BINS = 10  # of the training's steps, for its curve


def make_environment(task: str) -> gymnasium.Env:
    "The environment, with an end to every episode."
    limit = TIME_LIMITS.get(task)
    return gymnasium.make(task) if limit is None else gymnasium.make(task, max_episode_steps=limit)


def training_curve(episodes: list[tuple[int, float]], total_steps: int) -> list[float | None]:
    "Mean return of the episodes (step at their end, return) that ended in each tenth of the training; None where none did."
    ends, returns = np.array(episodes).reshape(-1, 2).T
    bins = np.minimum((ends - 1) * NUM_BINS // total_steps, NUM_BINS - 1)
    return [float(returns[bins == number].mean()) if (bins == number).any() else None for number in range(NUM_BINS)]


def train_ours(task: str, seed: int, num_episodes: int = 100, **settings: Any) -> dict[str, Any]:
    from lightbulb.rl.advantages import generalized_advantages
    from lightbulb.rl.ppo import PPOAgent, PPOConfig, evaluate_policy, train_ppo
    from lightbulb.rl.vector_environments import PassiveTMaze

    ones, never = np.ones((2, 1)), np.zeros((2, 1), bool)
    generalized_advantages(ones, ones, never, never, last_values=[0])  # loads the compiled kernel
    config = PPOConfig(seed=seed, **settings)
    make_env = (lambda num_envs: PassiveTMaze(num_envs, 100)) if task == "T-maze" else task
    make_env = (lambda: make_environment(task)) if task in TIME_LIMITS else make_env
    start, episodes = time.process_time(), []
    agent = PPOAgent.for_environment(make_env, config)
    for report in train_ppo(make_env, config, agent=agent):
        if "episode_return" in report.metrics:
            episodes.append((report.step, report.metrics["episode_return"]))
    result = {"seconds": time.process_time() - start, "steps": agent.num_steps, "curve": training_curve(episodes, agent.num_steps)}
    if task == "FrozenLake-v1":
        result |= exact_lake_values(agent.act(np.arange(16))[0])
    earn = lambda deterministic: evaluate_policy(
        agent, make_env, num_episodes=num_episodes, seed=10_000 + seed, deterministic=deterministic
    ).tolist()
    return result | {"returns": earn(True), "sampled": earn(False)}


def lake_model() -> tuple[np.ndarray, np.ndarray]:
    "Rewards (16, 4) and transitions (16, 4, 16) of the slippery 4×4 lake, without the time limit; ends lead nowhere."
    table = gymnasium.make("FrozenLake-v1").unwrapped.P  # type: ignore[attr-defined]
    rewards, transitions = np.zeros((16, 4)), np.zeros((16, 4, 16))
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for probability, following, reward, is_end in outcomes:
                rewards[state, action] += probability * reward
                transitions[state, action, following] += probability * (not is_end)
    return rewards, transitions


def exact_lake_values(actions: np.ndarray) -> dict[str, float]:
    "The chance of reaching the goal from the start: for ever, by solving (I − P) v = r over the states that are reached, and in 100 steps."
    rewards, transitions = lake_model()
    gain, chosen, states = rewards[np.arange(16), actions], transitions[np.arange(16), actions], [0]
    for state in states:
        states += [following for following in np.flatnonzero(chosen[state]).tolist() if following not in states]
    reached = np.array(states)
    matrix = np.eye(len(states)) - chosen[reached[:, None], reached]
    if np.linalg.matrix_rank(matrix) < len(states): raise ValueError(f"the policy {actions} goes in circles for ever")
    limited = np.zeros(16)
    for _ in range(100):
        limited = gain + chosen @ limited
    return {"exact": float(np.linalg.solve(matrix, gain[reached])[0]), "exact_100": float(limited[0])}


def best_lake_value() -> float:
    "Dynamic programming to convergence, undiscounted."
    rewards, transitions = lake_model()
    values = np.zeros(16)
    for _ in range(100_000):
        improved = (rewards + transitions @ values).max(1)
        if np.abs(improved - values).max() < 1e-13: break
        values = improved
    return float(values[0])


def train_sb3(task: str, seed: int, num_episodes: int = 100, **settings: Any) -> dict[str, Any]:
    "`linear` names what falls to 0, `normalize` asks for VecNormalize, the rest are the arguments of SB3's PPO."
    from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.callbacks import BaseCallback  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.vec_env import VecNormalize  # pyright: ignore[reportMissingImports]

    num_envs, steps, linear, normalize = (
        settings.pop(name, default) for name, default in (("num_envs", 1), ("steps", 0), ("linear", ()), ("normalize", False))
    )
    for name in linear:
        settings[name] = lambda left, first=settings[name]: first * left
    episodes: list[tuple[int, float]] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            episodes.extend((self.num_timesteps, info["episode"]["r"]) for info in self.locals["infos"] if "episode" in info)
            return True

    start = time.process_time()
    envs = make_vec_env(lambda: make_environment(task), num_envs, seed=seed)
    if normalize:
        envs = VecNormalize(envs)
    model = PPO("MlpPolicy", envs, seed=seed, device="cpu", **settings)
    model.learn(steps, Watch())
    steps = model.num_timesteps
    result = {"seconds": time.process_time() - start, "steps": steps, "curve": training_curve(episodes, steps)}
    normal = envs.normalize_obs if normalize else lambda shown: shown
    earn = lambda deterministic: play(
        task, lambda shown: model.predict(normal(shown), deterministic=deterministic)[0], 10_000 + seed, num_episodes
    )
    return result | {"returns": earn(True), "sampled": earn(False)}


def play(task: str, act: Any, seed: int, num_episodes: int = 100) -> list[float]:
    "The first episode of each of so many environments."
    if task == "CartPole-v1":
        envs: Any = gymnasium.make_vec(task, num_episodes, vectorization_mode="vector_entry_point")
    else:
        envs = gymnasium.vector.SyncVectorEnv([lambda: make_environment(task)] * num_episodes)
    shown, _ = envs.reset(seed=seed)
    returns, running = np.zeros(num_episodes), np.ones(num_episodes, bool)
    while running.any():
        shown, rewards, terminated, truncated, _ = envs.step(act(shown))
        returns += rewards * running
        running &= ~(terminated | truncated)
    return returns.tolist()


def best_constant(task: str, seed: int, num_episodes: int = 30) -> dict[str, Any]:
    "The returns of the one action that earns most when it is repeated: each of a discrete space, ends and middle of a bounded one."
    space, start = make_environment(task).action_space, time.process_time()
    if isinstance(space, gymnasium.spaces.Discrete):
        candidates = [np.int64(action + space.start) for action in range(space.n)]
    else:
        assert isinstance(space, gymnasium.spaces.Box)
        grid = np.stack([space.low, (space.low + space.high) / 2, space.high])
        candidates = [np.array(one, space.dtype) for one in itertools.product(*grid.reshape(3, -1).T)]
    returns = [play(task, lambda shown, action=one: np.stack([action] * len(shown)), 10_000 + seed, num_episodes) for one in candidates]
    best = max(range(len(candidates)), key=lambda number: float(np.mean(returns[number])))
    return {"seconds": time.process_time() - start, "steps": 0, "action": str(candidates[best]), "returns": returns[best]}


def train_plain(
    task: str, seed: int, steps: int, num_envs: int = 4, length: int = 128, epochs: int = 4, minibatches: int = 4
) -> dict[str, Any]:
    "The plain loop: what most tutorials run, with CleanRL's default settings."
    from torch import nn
    from torch.distributions import Categorical

    torch.manual_seed(seed)
    start = time.process_time()
    envs = gymnasium.make_vec(
        task, num_envs, vectorization_mode="sync", vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    )
    features, actions = gymnasium.spaces.flatdim(envs.single_observation_space), gymnasium.spaces.flatdim(envs.single_action_space)

    def layer(before: int, after: int, gain: float) -> nn.Linear:
        linear = nn.Linear(before, after)
        nn.init.orthogonal_(linear.weight, gain)
        nn.init.zeros_(linear.bias)
        return linear

    def body(outputs: int, gain: float) -> nn.Sequential:
        return nn.Sequential(layer(features, 64, 2**0.5), nn.Tanh(), layer(64, 64, 2**0.5), nn.Tanh(), layer(64, outputs, gain))

    actor, critic = body(int(actions), 0.01), body(1, 1.0)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, 2.5e-4, eps=1e-5)
    shown, done = torch.tensor(envs.reset(seed=seed)[0]), torch.zeros(num_envs)
    num_updates = steps // (num_envs * length)
    for update in range(num_updates):
        optimizer.param_groups[0]["lr"] = 2.5e-4 * (1 - update / num_updates)
        rows = []
        for _ in range(length):
            with torch.no_grad():
                distribution, value = Categorical(logits=actor(shown)), critic(shown).flatten()
                action = distribution.sample()
            following, reward, terminated, truncated, _ = envs.step(action.numpy())
            rows.append((shown, action, distribution.log_prob(action), value, torch.tensor(reward, dtype=torch.float32), done))
            shown, done = torch.tensor(following), torch.tensor(terminated | truncated, dtype=torch.float32)
        seen, taken, old, values, rewards, dones = (torch.stack(column) for column in zip(*rows, strict=True))
        with torch.no_grad():
            next_value = critic(shown).flatten()
        advantages, last = torch.zeros_like(rewards), torch.zeros(num_envs)
        for t in reversed(range(length)):
            going = 1 - (done if t == length - 1 else dones[t + 1])
            delta = rewards[t] + 0.99 * going * (next_value if t == length - 1 else values[t + 1]) - values[t]
            advantages[t] = last = delta + 0.99 * 0.95 * going * last
        returns = advantages + values
        flat = [tensor.flatten(0, 1) for tensor in (seen, taken, old, advantages, returns, values)]
        for _ in range(epochs):
            for part in torch.randperm(num_envs * length).chunk(minibatches):
                x, a, log_p, advantage, target, before = (tensor[part] for tensor in flat)
                distribution, value = Categorical(logits=actor(x)), critic(x).flatten()
                ratio = (distribution.log_prob(a) - log_p).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy_loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
                clipped = before + (value - before).clamp(-0.2, 0.2)
                value_loss = 0.5 * torch.max((value - target) ** 2, (clipped - target) ** 2).mean()
                loss = policy_loss - 0.01 * distribution.entropy().mean() + 0.5 * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
    result = {"seconds": time.process_time() - start, "steps": num_updates * num_envs * length}
    with torch.no_grad():
        return result | {"returns": play(task, lambda x: actor(torch.tensor(x)).argmax(-1).numpy(), 10_000 + seed)}


def compare_with_sb3(task: str, seed: int, num_envs: int = 4, num_steps: int = 128, num_rollouts: int = 3) -> dict[str, Any]:
    "Largest differences between what both libraries collect and learn when they take the same actions; time limits and ends are among it."
    from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]

    from lightbulb.rl.ppo import Collector, PPOAgent, PPOConfig
    from lightbulb.rl.vector_environments import EpisodeStream, make_vector_environment

    make_env, discount, gae_lambda = lambda: gymnasium.make(task, max_episode_steps=50), 0.99, 0.95
    theirs = PPO("MlpPolicy", make_vec_env(make_env, num_envs, seed=seed), n_steps=num_steps, batch_size=64, seed=seed, device="cpu")
    config = PPOConfig(
        num_envs=num_envs,
        rollout_length=num_steps,
        num_epochs=10,
        num_minibatches=num_steps * num_envs // 64,
        learning_rate=3e-4,
        anneal=False,
        standardize=False,
        normalize_rewards=False,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    ours = PPOAgent.for_environment(make_env, config)
    policy, linear = theirs.policy, lambda module: [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    bodies = [policy.mlp_extractor.policy_net, policy.action_net, policy.mlp_extractor.value_net, policy.value_net]
    pairs = list(zip(linear(ours.network), [layer for body in bodies for layer in linear(body)], strict=True))
    with torch.no_grad():
        for own, other in pairs:
            own.weight.copy_(other.weight)
            own.bias.copy_(other.bias)
    stream = EpisodeStream(make_vector_environment(make_env, num_envs))
    stream.reset(seed)
    collector, queue, step = Collector(ours, stream), [], ours.network.step

    class Forced:  # a distribution whose draws are given
        def __init__(self, distribution: Any) -> None:
            self.distribution = distribution

        def sample(self, generator: Any = None) -> torch.Tensor:
            return queue.pop(0)

        def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
            return self.distribution.log_prob(actions)

    def forced_step(rows: torch.Tensor, state: Any = None) -> tuple[Any, Any, Any]:
        distribution, values, after = step(rows, state)
        return Forced(distribution), values, after

    theirs._setup_learn(10**6)
    callback, buffer, draw_order = theirs._init_callback(None), theirs.rollout_buffer, torch.randperm
    found: dict[str, float] = {"truncated": 0, "terminated": 0, "scale": 0.0}
    for number in range(num_rollouts):
        theirs.collect_rollouts(theirs.env, callback, buffer, n_rollout_steps=num_steps)
        dtype = torch.int64 if ours.head.is_discrete else torch.float32
        queue[:] = [torch.as_tensor(actions.copy()).reshape(num_envs, -1).to(dtype) for actions in buffer.actions]
        ours.network.step = forced_step
        rollout = collector.collect()
        ours.network.step = step
        advantages, returns = rollout.advantages_and_returns(discount, gae_lambda)
        own = {"observations": rollout.features, "values": rollout.values, "log_probs": rollout.log_probs}
        own |= {"advantages": advantages, "returns": returns}
        for name, values in own.items():
            error = float(np.abs(values.numpy() - getattr(buffer, name).reshape(values.shape)).max())
            found[name] = max(found.get(name, 0.0), error)
        found["truncated"] += int(rollout.truncated.sum())
        found["terminated"] += int(rollout.terminated.sum())
        found["scale"] = max(found["scale"], float(returns.abs().max()))
        np.random.seed(number)
        theirs.train()
        np.random.seed(number)

        def their_order(count: int, **_: Any) -> torch.Tensor:
            "Their rows stand environment by environment, ours step by step."
            environment, time_step = np.divmod(np.random.permutation(count), num_steps)
            return torch.as_tensor(time_step * num_envs + environment)

        torch.randperm = their_order
        ours.learn(rollout)
        torch.randperm = draw_order
    found["weights"] = max(float((own.weight - other.weight).detach().abs().max()) for own, other in pairs)
    return found


if __name__ == "__main__":
    task, algorithm, seed, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    print(
        json.dumps(
            {"lightbulb": train_ours, "plain": train_plain, "sb3": train_sb3, "equality": compare_with_sb3, "constant": best_constant}[
                algorithm
            ](task, seed, **settings)
        )
    )
