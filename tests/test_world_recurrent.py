"A world model that remembers: reading, returns and errors against plain loops, and a secret that only memory can tell."

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import moments
from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.world.recurrent import (
    RecurrentWorldModel,
    Sequences,
    TrainRecurrentModel,
    read_sequences,
    sequence_losses,
    train_recurrent_model,
)


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


# ------------------------------------------------------------------ its training


QUICK = TrainRecurrentModel(num_steps=12, batch_size=4, evaluation_interval=5, save_every=0)


def finish(reports):
    "The model of a training, and its reports."
    seen = []
    while True:
        try:
            seen.append(next(reports))
        except StopIteration as stop:
            return stop.value, seen


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("from_function", [False, True])
def test_a_training_killed_anywhere_ends_as_the_unbroken_one(tmp_path: Path, from_function: bool) -> None:
    "Batches drawn from a set, or made by a function of the step; weights, losses and held-out errors to the last bit."
    source = (lambda step: some_sequences(seed=step)) if from_function else some_sequences(num=20)
    held_out, whole, reports = some_sequences(seed=99), None, []
    run = train_recurrent_model(a_model(), source, QUICK, held_out=held_out, save_dir=tmp_path / "whole")
    while whole is None:
        try:
            reports.append(next(run))
        except StopIteration as stop:
            whole = stop.value
        else:
            shutil.copytree(tmp_path / "whole", tmp_path / f"killed_{len(reports)}")
    assert [report.step for report in reports if report.split == "validation"] == [5, 10, 12]
    for number in (3, 5, 6, 9, 12):
        folder = tmp_path / f"killed_{number}"
        torch.manual_seed(number)
        fresh = RecurrentWorldModel(**whole.settings)
        resumed, rest = finish(train_recurrent_model(fresh, source, QUICK, held_out=held_out, save_dir=folder, resume=True))
        assert same_weights(resumed, whole) and resumed is fresh
        assert [report.as_row() for report in rest] == [report.as_row() for report in reports[len(reports) - len(rest) :]]
        rows = [MetricsFile(place / "metrics.jsonl").read() for place in (folder, tmp_path / "whole")]
        assert rows[0] == rows[1]
    loaded = RecurrentWorldModel.load(tmp_path / "whole")
    assert same_weights(loaded, whole) and loaded.settings == whole.settings


def test_a_training_lowers_the_sum_of_its_errors_and_weighs_the_reward() -> None:
    "The first step moves as AdamW does by the gradient of the weighed sum, computed here; and later the errors are lower."
    source, config = some_sequences(num=4), replace(QUICK, batch_size=4, reward_weight=3.0, max_grad_norm=1e9, num_steps=60)
    model, reports = finish(train_recurrent_model(a_model(), lambda step: source, config))
    losses = sequence_losses(a_model(), source)
    assert reports[0].loss == pytest.approx(float((sum(losses.values()) + 2 * losses["reward"]).detach()), rel=1e-5)
    assert {name: pytest.approx(float(value.detach()), rel=1e-5) for name, value in losses.items()} == {
        name.removesuffix("_error"): value for name, value in reports[0].metrics.items() if name.endswith("_error")
    }
    assert reports[-1].loss < 0.7 * reports[0].loss
    rates = [report.metrics["learning_rate"] for report in reports]
    assert max(rates) <= config.learning_rate and rates[-1] < 0.2 * config.learning_rate
    assert float(sequence_losses(model, source)["reward"].detach()) < float(losses["reward"].detach())


def test_what_a_training_cannot_do_is_said(tmp_path: Path) -> None:
    finish(train_recurrent_model(a_model(), some_sequences(), QUICK, save_dir=tmp_path))
    resume = lambda config, model=None: finish(
        train_recurrent_model(model or a_model(), some_sequences(), config, save_dir=tmp_path, resume=True)
    )
    with pytest.raises(CheckpointError, match="learning_rate was 0.01 and is 0.1 now"):
        resume(replace(QUICK, learning_rate=0.1))
    with pytest.raises(CheckpointError, match="the model was .*'width': 8.* and is .*'width': 9"):
        resume(QUICK, RecurrentWorldModel(3, 2, width=9))
    with pytest.raises(ValueError, match="resume needs save_dir"):
        finish(train_recurrent_model(a_model(), some_sequences(), QUICK, resume=True))
    with pytest.raises(ValueError, match="num_steps must be positive, got 0"):
        replace(QUICK, num_steps=0)
    spoiled = some_sequences()
    spoiled.rewards[:] = math.nan
    with pytest.raises(LightbulbError, match="step 1"):
        finish(train_recurrent_model(a_model(), spoiled, QUICK, save_dir=tmp_path))
    assert len(moments(tmp_path.with_name(tmp_path.name + "_001"))) > 0  # the run before it was set aside


def test_episodes_of_any_length_become_sequences() -> None:
    episodes = [
        (np.ones((3, 2)), np.array([1, 0]), np.array([0.5, 1.0]), True),
        (np.full((5, 2), 2.0), np.array([1, 1, 0, 1]), np.arange(4.0), False),
    ]
    sequences = Sequences.of_episodes(episodes)
    assert sequences.observations.shape == (2, 5, 2) and sequences.actions.shape == sequences.rewards.shape == (2, 4)
    assert sequences.alive.tolist() == [[True, True, False, False], [True] * 4]
    assert sequences.ended.tolist() == [[False, True, False, False], [False] * 4]
    assert sequences.returns(0.5)[:, 0].tolist() == [1.0, 0 + 0.5 + 0.5 + 0.375]
    assert sequences.rows(torch.tensor([1])).rewards.tolist() == [[0.0, 1.0, 2.0, 3.0]] and len(sequences) == 2
    for model, actions in [
        (RecurrentWorldModel(2, 3, width=8), np.array([1, 0], np.uint8)),
        (RecurrentWorldModel(2, 3, width=8), np.array([1, 0], np.int32)),
        (RecurrentWorldModel(2, action_size=2, width=8), np.ones((2, 2))),
        (RecurrentWorldModel(2, action_size=2, width=8), np.ones((2, 2), np.int64)),
    ]:
        learned = Sequences.of_episodes([(np.ones((3, 2)), actions, np.array([0.5, 1.0]), True)])
        assert all(torch.isfinite(loss) for loss in sequence_losses(model, learned).values())
    whole = ([[0, 0], [1, 0]], [0], [0], False)  # an episode in whole numbers leaves the others their fractions
    fractions = ([[0.0, 0.5], [0.25, 300.0], [0.75, 0.125]], [0, 1], [0.5, 0.75], True)
    mixed = Sequences.of_episodes([whole, fractions])
    assert mixed.observations[1].tolist() == fractions[0] and mixed.rewards.tolist() == [[0.0, 0.0], [0.5, 0.75]]
    described = Sequences.of_episodes([(np.zeros((2, 2)), np.ones((1, 1), int), [0], False), (np.zeros((2, 2)), [[0.5]], [0], False)])
    assert described.actions.tolist() == [[[1.0]], [[0.5]]]
    with pytest.raises(ValueError, match=r"episode 0 must have T \+ 1 observations, T actions and T rewards, got \(2, 2, 2\)"):
        Sequences.of_episodes([(np.ones((2, 2)), np.array([1, 0]), np.array([0.5, 1.0]), True)])
    with pytest.raises(ValueError, match="at least one episode"):
        Sequences.of_episodes([])


def test_described_actions_are_read_and_asked_about_by_their_features() -> None:
    "Step by step is at once; many questions to one belief are the questions one by one; two actions of equal features are one."
    torch.manual_seed(0)
    model = RecurrentWorldModel(3, action_size=2, width=8)
    observations, actions = torch.randn(4, 5, 3), torch.randn(4, 5, 2)
    actions[:, 0] = model.nothing
    outputs, after = model.read(model.begin(4), actions, observations)
    beliefs = model.begin(4)
    for step in range(5):
        output, beliefs = model.read(beliefs, actions[:, [step]], observations[:, [step]])
        assert torch.allclose(output[:, 0], outputs[:, step], atol=1e-6)
    assert torch.allclose(beliefs, after, atol=1e-6)
    questions = torch.randn(4, 7, 2)
    questions[:, 6] = questions[:, 0]
    together = model.foresee(outputs[:, -1:], questions)
    for number in range(7):
        alone = model.foresee(outputs[:, -1], questions[:, number])
        assert all(torch.allclose(part[:, number], single, atol=1e-6) for part, single in zip(together, alone, strict=True))
    assert torch.equal(together.rewards[:, 0], together.rewards[:, 6]) and not torch.equal(together.rewards[:, 0], together.rewards[:, 1])
    sequences = some_sequences()
    described = Sequences(sequences.observations, torch.randn(5, 6, 2), sequences.rewards, sequences.ended, sequences.alive)
    losses = sequence_losses(model, described)
    assert losses.keys() == {"observation", "reward", "ending", "value"}
    sum(losses.values()).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    with pytest.raises(ValueError, match="a search by numbers needs num_actions"):
        model.predict(beliefs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation_size": 0}, "observation_size must be positive, got 0"),
        ({"num_actions": -1}, "num_actions must be positive"),
        ({"width": 0}, "width must be positive"),
        ({"action_size": 2}, "described actions have no numbers: num_actions must be 0, got 2"),
        ({"action_size": -1, "num_actions": 0}, "action_size must be positive, got -1"),
        ({"num_layers": 0}, "num_layers must be positive"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": math.nan}, "discount must be above 0"),
    ],
)
def test_bad_sizes_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RecurrentWorldModel(**{"observation_size": 3, "num_actions": 2} | changes)


def test_whatever_fills_up_is_never_read() -> None:
    model, some = a_model(), some_sequences()
    losses = sequence_losses(model, some)
    sum(losses.values()).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    gone, last = ~some.alive, torch.cat([torch.zeros_like(some.alive[:, :1]), ~some.alive], 1)
    assert gone.any()
    some.observations[last], some.rewards[gone], some.actions[gone] = math.nan, 1e30, -1
    spoiled = sequence_losses(model, some)
    assert all(torch.equal(spoiled[name], loss) for name, loss in losses.items())
    sum(spoiled.values()).backward()
    assert all(torch.equal(parameter.grad, before) for parameter, before in zip(model.parameters(), gradients, strict=True))


def test_sequences_that_do_not_fit_are_refused_by_name() -> None:
    model, some = a_model(), some_sequences()
    for change, words in (
        ({"actions": some.actions + 7}, "actions must be from 0 to 1, got 7 to 8"),
        ({"actions": some.actions.float()}, "actions must be whole numbers, got torch.float32"),
        ({"observations": some.observations[:, :-1]}, "observations must have the shape"),
        ({"observations": some.observations[..., :1]}, "observations must have the shape"),
        ({"rewards": some.rewards[..., None]}, "rewards must have the shape"),
    ):
        with pytest.raises(ValueError, match=words):
            list(train_recurrent_model(model, Sequences(**vars(some) | change), TrainRecurrentModel(num_steps=1)))
    with pytest.raises(ValueError, match="episode 0: actions must be whole numbers, or rows of features, got"):
        Sequences.of_episodes([(np.zeros((3, 2)), np.array([0.5, 1.0]), np.zeros(2), True)])
    with pytest.raises(ValueError, match="num_steps must be a whole number, got 2.5"):
        TrainRecurrentModel(num_steps=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one sequence to draw from"):
        list(train_recurrent_model(model, some.rows(torch.zeros(0, dtype=torch.long)), TrainRecurrentModel(num_steps=1)))


def test_a_loss_that_is_no_number_names_no_folder_where_nothing_is_kept() -> None:
    some = some_sequences()
    some.rewards[some.alive] = math.inf
    with pytest.raises(LightbulbError, match="in step 1; lower learning_rate; nothing is kept without save_dir"):
        list(train_recurrent_model(a_model(), some, TrainRecurrentModel(num_steps=1)))
