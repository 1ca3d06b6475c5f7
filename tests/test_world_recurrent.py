"A world model that remembers: reading, returns and errors against plain loops, and a secret that only memory can tell."

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.world.recurrent import RecurrentWorldModel, Sequences, read_sequences, sequence_losses


def a_model(num_layers: int = 2) -> RecurrentWorldModel:
    torch.manual_seed(0)
    return RecurrentWorldModel(3, num_actions=2, width=8, num_layers=num_layers, discount=0.8)


def some_sequences(num: int = 5, steps: int = 6, seed: int = 0) -> Sequences:
    "Random numbers; sequence i makes i + 1 steps at most, and every second of them ends the world."
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.arange(num).clamp(max=steps - 1) + 1
    alive = torch.arange(steps) < lengths[:, None]
    ended = (torch.arange(steps) == lengths[:, None] - 1) & (torch.arange(num)[:, None] % 2 == 0)
    return Sequences(
        torch.randn(num, steps + 1, 3, generator=draw),
        torch.randint(2, (num, steps), generator=draw),
        torch.randn(num, steps, generator=draw),
        ended,
        alive,
    )


@pytest.mark.parametrize("num_layers", [1, 3])
@torch.no_grad()
def test_reading_step_by_step_is_reading_at_once_and_rows_do_not_mix(num_layers: int) -> None:
    model, observations, actions = a_model(num_layers), torch.randn(4, 7, 3), torch.randint(3, (4, 7))
    outputs, belief = model.read(model.begin(4), actions, observations)
    for row in range(4):
        alone = model.begin(1)
        for step in range(7):
            output, alone = model.read(alone, actions[[row], [step]][:, None], observations[[row], [step]][:, None])
            assert torch.allclose(output[0, 0], outputs[row, step], atol=1e-6) and torch.allclose(
                model.output(alone)[0], outputs[row, step], atol=1e-6
            )
        assert torch.allclose(alone[0], belief[row], atol=1e-6)


@torch.no_grad()
def test_the_past_decides_and_the_future_does_not() -> None:
    model, one = a_model(), some_sequences()
    outputs, _ = read_sequences(model, one)
    later = Sequences(one.observations.clone(), one.actions.clone(), one.rewards, one.ended, one.alive)
    later.observations[:, 4], later.actions[:, 3] = 9.0, 1 - later.actions[:, 3]
    changed, _ = read_sequences(model, later)
    assert torch.equal(changed[:, :4], outputs[:, :4]) and not torch.allclose(changed[:, 4], outputs[:, 4])
    earlier = Sequences(one.observations.clone(), one.actions, one.rewards, one.ended, one.alive)
    earlier.observations[:, 0] = 9.0
    assert not torch.allclose(read_sequences(model, earlier)[0][:, 5], outputs[:, 5])


def test_returns_and_errors_are_those_of_plain_loops() -> None:
    model, some = a_model(), some_sequences()
    with torch.no_grad():
        outputs, foreseen = read_sequences(model, some)
        logits, values = model.judge(outputs)
        found = {name: float(loss) for name, loss in sequence_losses(model, some).items()}
    returns, sums = some.returns(0.8), {name: [] for name in found}
    for row in range(5):
        for step in range(6):
            if not some.alive[row, step]:
                assert float(returns[row, step]) == 0
                continue
            left = [float(some.rewards[row, later]) for later in range(step, 6) if some.alive[row, later]]
            worth = sum(0.8**number * reward for number, reward in enumerate(left))
            assert float(returns[row, step]) == pytest.approx(worth, abs=1e-5)
            end = float(some.ended[row, step])
            chance = 1 / (1 + math.exp(-float(foreseen.ending_logits[row, step])))
            sums["reward"].append((float(foreseen.rewards[row, step]) - float(some.rewards[row, step])) ** 2)
            sums["ending"].append(-math.log(chance if end else 1 - chance))
            sums["value"].append((float(values[row, step]) - worth) ** 2)
            sums["policy"].append(-float(logits[row, step].log_softmax(-1)[some.actions[row, step]]))
            if not end:
                sums["observation"].append(float((foreseen.observations[row, step] - some.observations[row, step + 1]).square().sum()))
    assert found == {name: pytest.approx(np.mean(rows), rel=1e-4) for name, rows in sums.items()}


def test_every_weight_learns_and_forget_gates_begin_open() -> None:
    model = a_model()
    assert all((getattr(model.lstm, f"bias_ih_l{layer}")[8:16] == 2).all() for layer in range(2))
    sum(sequence_losses(model, some_sequences()).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


@torch.inference_mode()
def test_a_searched_step_is_what_was_foreseen_and_then_read() -> None:
    model, beliefs = a_model(), a_model().read(a_model().begin(4), torch.full((4, 1), 2), torch.randn(4, 1, 3))[1]
    actions = torch.tensor([0, 1, 1, 0])
    following, rewards, discounts = model.step(beliefs, actions)
    seen, expected, ending = model.foresee(model.output(beliefs), actions)
    assert torch.allclose(following, model.read(beliefs, actions[:, None], seen[:, None])[1], atol=1e-6) and torch.allclose(
        rewards, expected
    )
    assert discounts.tolist() == pytest.approx([0.0 if logit > 0 else 0.8 for logit in ending.tolist()])
    logits, values, legal = model.predict(following)
    assert logits.shape == (4, 2) and values.shape == (4,) and legal is None
    found = MCTS(model.predict, model.step, MCTSConfig(20)).search(beliefs)
    assert (found.visit_counts.sum(1) == 20).all()
    again = RecurrentWorldModel(**model.settings)
    again.load_state_dict(model.state_dict())
    assert (MCTS(again.predict, again.step, MCTSConfig(20)).search(beliefs).visit_counts == found.visit_counts).all()


def secrets(num: int, delay: int, seed: int) -> Sequences:
    "The first observation tells which action will earn 1 after `delay` empty ones; the other earns nothing, and both end the world."
    rng = np.random.default_rng(seed)
    secret, steps = rng.integers(0, 2, num), delay + 1
    observations = np.zeros((num, steps + 1, 3), np.float32)
    observations[np.arange(num), 0, secret] = 1
    observations[:, delay:, 2] = 1  # now
    actions = rng.integers(0, 2, (num, steps))
    rewards, ended = np.zeros((num, steps), np.float32), np.zeros((num, steps), bool)
    rewards[:, -1], ended[:, -1] = actions[:, -1] == secret, True
    return Sequences(*(torch.from_numpy(part) for part in (observations, actions, rewards, ended, np.ones((num, steps), bool))))


class Forgetful(RecurrentWorldModel):
    "Begins anew at each step."

    def read(self, beliefs, actions, observations):
        rows, ends = super().read(self.begin(actions.numel()), actions.reshape(-1, 1), observations.flatten(0, 1)[:, None])
        return rows.view(*actions.shape, -1), ends.view(*actions.shape, -1)[:, -1]


@pytest.mark.parametrize(("kind", "low", "high"), [(RecurrentWorldModel, 0.0, 0.05), (Forgetful, 0.23, 0.30)])
def test_only_memory_tells_the_secret(kind: type[RecurrentWorldModel], low: float, high: float) -> None:
    "Held-out sequences; without memory nothing is better than a half, whose squared error is a quarter."
    torch.manual_seed(0)
    model = kind(3, 2, width=16, discount=0.9)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(250):
        losses = sequence_losses(model, secrets(64, 3, seed=step + 1))
        optimizer.zero_grad()
        (sum(losses.values()) + 3 * losses["reward"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    held = secrets(500, 3, seed=10_000)
    with torch.inference_mode():
        error = float((read_sequences(model, held)[1].rewards[:, -1] - held.rewards[:, -1]).square().mean())
        before = torch.cat([torch.full((500, 1), model.nothing), held.actions[:, :3]], 1)
        found = MCTS(model.predict, model.step, MCTSConfig(10)).search(model.read(model.begin(500), before, held.observations[:, :4])[1])
    right = float((found.actions == held.observations[:, 0, 1].numpy()).mean())
    assert low <= error <= high, error
    assert right > 0.98 if kind is RecurrentWorldModel else right < 0.65


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation_size": 0}, "observation_size must be positive, got 0"),
        ({"num_actions": -1}, "num_actions must be positive"),
        ({"width": 0}, "width must be positive"),
        ({"num_layers": 0}, "num_layers must be positive"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": math.nan}, "discount must be above 0"),
    ],
)
def test_bad_sizes_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RecurrentWorldModel(**{"observation_size": 3, "num_actions": 2} | changes)
