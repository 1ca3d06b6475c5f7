"""Prioritized replay beside its definition, and what users of other libraries' memories reported.

| reported of | what went wrong | held here by |
|---|---|---|
| pytorch/rl #3925 | alpha is applied twice to new items | test_alpha_is_applied_once |
| pytorch/rl #2210, ray #11750, astooke/rlpyt #102 | the maximum never comes down; new ones enter at 1 | test_the_maximum_comes_down_again |
| instadeepai/flashbax #58 | the maximum is rounded to a whole number | test_the_maximum_comes_down_again |
| pytorch/rl #2230, ray #7180 | sampled indices lie outside the filled part | test_only_the_filled_part_is_sampled |
| openai/baselines #170 | a memory of one item cannot be sampled | test_only_the_filled_part_is_sampled |
| openai/baselines #527 | the batch is not stratified | test_one_dart_in_each_equal_part |
| openai/baselines #1131, chainer/chainerrl #570 | weights are normalised by another maximum than stated | test_weights_are_the_formula |
| ray #6534, pytorch/rl #4041 | an old error becomes the priority of a new item | test_an_overwritten_item_is_not_updated |
| tensorflow/agents #939, thu-ml/tianshou #135 | n-step returns run over a truncation | test_n_step_returns_are_the_definition |
| younggyoseo/FastTD3 #6 | wrong exponent of the discount, episodes mix where it writes | test_n_step_returns_are_the_definition |
| ray #17844 | stored observations share memory with the environment's | test_an_environment_that_reuses_its_arrays |
| chainer/chainerrl #129, ray #8151 | unfinished steps are lost in a checkpoint | test_saved_in_the_middle_and_continued_in_every_bit |
| ray #26833, ray #44383 | stored recurrent states are missing or of the wrong length | test_windows_are_the_episode |
"""

from __future__ import annotations

import math
import os
import threading

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.rl.replay import PrioritizedReplayMemory, view_fields
from lightbulb.rl.sequences import SequenceReplayMemory, sequence_priorities

numbered = lambda count, first=0: {"item": np.arange(first, first + count)}


def filled(capacity: int, priorities: np.ndarray, **options) -> PrioritizedReplayMemory:
    memory = PrioritizedReplayMemory(capacity, **options)
    memory.extend(numbered(len(priorities)), priorities=priorities)
    return memory


# ------------------------------------------------------------------ sampling and weights


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_sampled_in_proportion_to_priority_to_the_alpha(alpha):
    "Chi-square over 50 items; the shares of another alpha fail it."
    priorities = np.random.default_rng(0).random(50) * 3
    memory = filled(70, priorities, alpha=alpha, epsilon=0.01)
    counts = sum(np.bincount(memory.sample(64).indices, minlength=50) for _ in range(1500))

    def statistic(power):
        expected = (priorities + 0.01) ** power
        expected *= counts.sum() / expected.sum()
        return float(((counts - expected) ** 2 / expected).sum())

    bound = 49 + 5 * math.sqrt(2 * 49)
    assert statistic(alpha) < bound < statistic(alpha + 0.15)


def test_one_dart_in_each_equal_part():
    "Stratified: of equal items each comes exactly once in a batch of their number; and a batch may be larger than the memory."
    memory = filled(64, np.ones(64))
    for _ in range(20):
        assert sorted(memory.sample(64).indices) == list(range(64))
    counts = np.bincount(memory.sample(640).indices)
    assert counts.tolist() == [10] * 64


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.data())
def test_only_the_filled_part_is_sampled(capacity, data):
    number = data.draw(st.integers(1, capacity))
    memory = filled(capacity, np.random.default_rng(number).random(number), alpha=1.0, epsilon=0.0)
    for _ in range(5):
        batch, indices, weights = memory.sample(40)
        assert indices.min() >= 0 and indices.max() < number
        assert (batch["item"].numpy() == indices).all()
        assert weights.max() == 1 and weights.min() > 0


@pytest.mark.parametrize("normalize", ["batch", "memory"])
def test_weights_are_the_formula(normalize):
    "(N P(i))^-beta over the greatest, of the batch or of all that is stored, written out."
    priorities = np.random.default_rng(1).random(40) + 0.01
    memory = filled(40, priorities, alpha=0.7, epsilon=0.02, normalize=normalize)
    leaves = (priorities + 0.02) ** 0.7
    weight = lambda beta: (40 * leaves / leaves.sum()) ** -beta
    for beta in (0.0, 0.4, 1.0):
        sample = memory.sample(16, beta=beta)
        expected = weight(beta)[sample.indices]
        greatest = expected.max() if normalize == "batch" else weight(beta).max()
        np.testing.assert_allclose(sample.weights.numpy(), expected / greatest, rtol=1e-6)
    memory.update_priorities([3], [1e-9])  # the least of all is another one now
    leaves[3] = (1e-9 + 0.02) ** 0.7
    sample = memory.sample(16, beta=0.5)
    expected = weight(0.5)[sample.indices]
    np.testing.assert_allclose(
        sample.weights.numpy(), expected / (expected.max() if normalize == "batch" else weight(0.5).max()), rtol=1e-6
    )


def test_weights_undo_the_bias():
    "With beta 1 and one scale for all batches, the weighted mean of a sample estimates the plain mean of the memory."
    rng = np.random.default_rng(2)
    priorities, values = rng.random(200) + 0.05, rng.normal(size=200)
    memory = PrioritizedReplayMemory(200, alpha=1.0, epsilon=0.0, normalize="memory")
    memory.extend({"value": values}, priorities=priorities)
    scale = priorities.mean() / priorities.min()  # what the normalisation took out
    samples = [memory.sample(100, beta=1.0) for _ in range(800)]
    estimate = scale * np.mean([float((sample.weights * sample.batch["value"]).mean()) for sample in samples])
    plain = np.mean([float(sample.batch["value"].mean()) for sample in samples])
    assert abs(estimate - values.mean()) < 0.004 < abs(plain - values.mean())


def test_beta_rises_to_one_in_a_straight_line():
    memory = filled(10, np.ones(10), beta=0.4, beta_steps=10)
    seen = []
    for _ in range(14):
        seen.append(memory.beta)
        memory.sample(2)
    np.testing.assert_allclose(seen, [0.4 + 0.06 * min(step, 10) for step in range(14)])
    constant = filled(10, np.ones(10), beta=0.4, beta_steps=None)
    for _ in range(5):
        constant.sample(2)
    assert constant.beta == 0.4


# ------------------------------------------------------------------ priorities of new and old items


def test_alpha_is_applied_once():
    memory = filled(10, np.array([16.0, 1.0]), alpha=0.5, epsilon=0.0)
    memory.add(item=2)
    assert memory.slots.tree[[0, 1, 2]].tolist() == [4.0, 1.0, 4.0]
    memory.update_priorities([2], [9.0])
    memory.add(item=3)
    assert memory.slots.tree[[2, 3]].tolist() == [3.0, 4.0]


def test_the_maximum_comes_down_again():
    "It is the greatest measured priority still here: outliers leave with their item, and 1 is only for a memory that knows nothing."
    memory = PrioritizedReplayMemory(4, alpha=1.0, epsilon=0.0)
    memory.extend(numbered(2))
    assert memory.slots.tree[[0, 1]].tolist() == [1.0, 1.0]
    memory.update_priorities([0], [1000.0])
    memory.add(item=2)
    assert memory.slots.tree[2] == 1000.0
    memory.update_priorities([0, 1], [0.25, 0.37])
    assert memory.max_priority == 0.37
    memory.add(item=3)  # item 2 still has a borrowed 1000, which is not handed on
    assert memory.slots.tree[3] == 0.37
    for item in range(4, 8):
        memory.add(item=item)  # all that was measured is overwritten
    assert memory.slots.tree[[0, 1, 2, 3]].tolist() == [0.37, 0.37, 1.0, 1.0]


def test_a_stream_of_unmeasured_items_does_not_keep_the_maximum_up():
    "The rule 'maximum of all leaves' would stay at 100 here for ever, since there is always one new item."
    memory = PrioritizedReplayMemory(1000, alpha=1.0, epsilon=0.0)
    memory.add(item=0, priority=100.0)
    for step in range(1, 400):
        memory.add(item=step)
        sample = memory.sample(4)
        memory.update_priorities(sample, np.full(4, 0.1))
    assert memory.max_priority == 0.1
    assert (memory.slots.tree.leaves > 1).sum() <= 3


def test_an_overwritten_item_is_not_updated():
    memory = filled(4, np.ones(4), alpha=1.0, epsilon=0.0)
    sample = memory.sample(4)  # each once
    memory.extend(numbered(2, first=4), priorities=[7.0, 7.0])  # overwrites 0 and 1
    assert memory.update_priorities(sample, [50.0] * 4) == 2
    assert memory.slots.tree[[0, 1, 2, 3]].tolist() == [7.0, 7.0, 50.0, 50.0]


def test_two_samples_under_way_are_told_apart():
    "A later sample of the new item does not let the older one through."
    memory = filled(2, np.ones(2), alpha=1.0, epsilon=0.0)
    old = memory.sample(2)
    memory.extend(numbered(2, first=2), priorities=[3.0, 3.0])
    new = memory.sample(2)
    assert memory.update_priorities(old, [9.0, 9.0]) == 0
    assert memory.update_priorities(new, [5.0, 5.0]) == 2
    assert memory.update_priorities(new, [6.0, 6.0]) == 2  # again, since they are still there
    assert memory.slots.tree[[0, 1]].tolist() == [6.0, 6.0]


def test_plain_indices_are_guarded_with_one_batch_under_way():
    memory = filled(4, np.ones(4), alpha=1.0, epsilon=0.0)
    _, indices, _ = memory.sample(4)
    memory.add(item=4, priority=7.0)
    assert memory.update_priorities(indices, np.full(4, 50.0)) == 3
    assert memory.slots.tree[0] == 7.0
    assert memory.update_priorities([0], [2.0]) == 1  # nobody is waiting for an answer about the old item any more
    assert memory.update_priorities(torch.tensor([1, 1]), torch.tensor([1.0, 3.0])) == 2
    assert memory.slots.tree[[0, 1]].tolist() == [2.0, 3.0]


# ------------------------------------------------------------------ several steps in one


@st.composite
def walks(draw):
    "Episodes of several environments: lengths and how each ends (the last may be unfinished)."
    ends = st.sampled_from(["terminated", "truncated"])
    return [draw(st.lists(st.tuples(st.integers(1, 12), ends), min_size=1, max_size=4)) for _ in range(draw(st.integers(1, 3)))]


def steps_of(episodes, environment):
    "One step after another; an observation is (environment, episode, time)."
    for number, (length, end) in enumerate(episodes):
        for time in range(length):
            yield {
                "observation": np.array([environment, number, time], np.float32),
                "action": time,
                "reward": np.float32((time + 3) * (number + 1) % 7 - 2),
                "next_observation": np.array([environment, number, time + 1], np.float32),
                "terminated": end == "terminated" and time == length - 1,
                "truncated": end == "truncated" and time == length - 1,
            }


@settings(max_examples=60, deadline=None)
@given(walks(), st.integers(1, 6), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_n_step_returns_are_the_definition(environments, num_steps, discount):
    "Each step becomes one transition, whose sum ends with the episode; environments do not mix; a full ring changes nothing."
    memory = PrioritizedReplayMemory(1000, num_steps=num_steps, discount=discount, float_dtype=np.float64)
    small = PrioritizedReplayMemory(3, num_steps=num_steps, discount=discount, float_dtype=np.float64) if num_steps <= 1 else None
    streams = [list(steps_of(episodes, number)) for number, episodes in enumerate(environments)]
    for turn in range(max(map(len, streams))):
        for number, stream in enumerate(streams):
            if turn < len(stream):
                memory.add(stream[turn], environment=number)
                if small:
                    small.add(stream[turn], environment=number)
    assert len(memory) == sum(map(len, streams))
    rows = {tuple(row): place for place, row in enumerate(memory.storage.fields["observation"][: len(memory)].tolist())}
    assert len(rows) == len(memory)
    for stream in streams:
        for first, step in enumerate(stream):
            rewards, last = [], first
            for last in range(first, min(first + num_steps, len(stream))):
                rewards.append(float(stream[last]["reward"]))
                if stream[last]["terminated"] or stream[last]["truncated"]: break
            place = rows[tuple(step["observation"].tolist())]
            field = lambda name, place=place: memory.storage.fields[name][place]
            assert math.isclose(field("reward"), sum(discount**k * reward for k, reward in enumerate(rewards)), rel_tol=1e-6, abs_tol=1e-6)
            assert field("next_observation").tolist() == stream[last]["next_observation"].tolist()
            assert math.isclose(field("discount"), 0.0 if stream[last]["terminated"] else discount ** len(rewards))
            assert (field("terminated"), field("truncated"), field("action")) == (
                stream[last]["terminated"],
                stream[last]["truncated"],
                step["action"],
            )


def test_what_is_said_of_the_next_state_is_said_of_the_last_one():
    "Every field `next_…` comes from the step that `next_observation` comes from."
    memory = PrioritizedReplayMemory(10, num_steps=3, discount=0.9)
    for step in steps_of([(6, "terminated")], 0):
        memory.add(step, next_mask=np.arange(7) == step["next_observation"][2], next_action=step["action"] + 1)
    fields = {name: field[: len(memory)] for name, field in memory.storage.fields.items()}
    assert fields["next_observation"][:, 2].tolist() == [3, 4, 5, 6, 6, 6]
    assert fields["next_mask"].argmax(1).tolist() == fields["next_action"].tolist() == [3, 4, 5, 6, 6, 6]


def test_steps_that_wait_survive_a_refused_batch():
    "Three environments end at once, and their nine transitions do not fit: nothing is taken, and one by one they do."
    memory = PrioritizedReplayMemory(5, num_steps=3, discount=0.5)
    streams = [list(steps_of([(3, "terminated")], number)) for number in range(3)]
    for turn in range(2):
        memory.extend({name: np.stack([stream[turn][name] for stream in streams]) for name in streams[0][0]})
    before = str(memory.state_dict())
    with pytest.raises(ValueError, match="no more than 5"):
        memory.extend({name: np.stack([stream[2][name] for stream in streams]) for name in streams[0][0]})
    assert str(memory.state_dict()) == before
    assert [memory.add(stream[2], environment=number).size for number, stream in enumerate(streams)] == [3, 3, 3]


def test_a_step_of_all_environments_at_once():
    streams = [list(steps_of([(5, "truncated"), (3, "terminated")], number)) for number in range(3)]
    one_by_one, together = (PrioritizedReplayMemory(100, num_steps=3, discount=0.9) for _ in range(2))
    for turn in zip(*streams, strict=True):
        for number, step in enumerate(turn):
            one_by_one.add(step, environment=number)
        together.extend({name: np.stack([step[name] for step in turn]) for name in turn[0]})
    assert one_by_one.storage.words.tobytes() == together.storage.words.tobytes()
    assert one_by_one.slots.tree.cells.tobytes() == together.slots.tree.cells.tobytes()


def test_an_environment_that_reuses_its_arrays():
    memory, observation, following = PrioritizedReplayMemory(10, num_steps=2, discount=1.0), np.zeros(2), np.zeros(2)
    for time in range(4):
        observation[:], following[:] = time, time + 1
        memory.add(observation=observation, next_observation=following, reward=1.0, terminated=False, truncated=time == 3)
    assert memory.storage.fields["observation"][:4, 0].tolist() == [0, 1, 2, 3]
    assert memory.storage.fields["next_observation"][:4, 0].tolist() == [2, 3, 4, 4]


def test_whole_rewards_are_summed_as_numbers_with_a_fraction():
    "An environment may pay whole numbers, in one field of the same type whether or not the first one is whole."

    def stored(rewards, **options):
        memory = PrioritizedReplayMemory(10, num_steps=3, discount=0.9, **options)
        for time, reward in enumerate(rewards):
            step = {"observation": np.float32([time]), "next_observation": np.float32([time + 1]), "reward": reward}
            memory.add(step, terminated=time == len(rewards) - 1, truncated=False)
        return memory.storage.fields["reward"][: len(rewards)]

    assert np.allclose(stored([1, 1, 1, 1]), [2.71, 2.71, 1.9, 1.0]) and stored([True]).dtype == np.float32
    assert np.allclose(stored([0, 0.5, 1, np.float32(1)]), [1.26, 2.21, 1.9, 1.0])
    assert stored([1], float_dtype=np.float64).dtype == np.float64


class Breaking(gymnasium.Env):
    "A corridor whose step raises now and then."

    observation_space, action_space = gymnasium.spaces.Box(-1, 1e6, (2,)), gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.clock, self.episode, self.place = 0, -1, 0

    def reset(self, *, seed=None, options=None):
        self.episode, self.place = self.episode + 1, 0
        return np.array([self.episode, 0], np.float32), {}

    def step(self, action):
        self.clock += 1
        if self.clock % 17 == 5: raise RuntimeError("the simulator crashed")
        self.place += 1
        return np.array([self.episode, self.place], np.float32), float(self.place), self.place == 9, False, {}


@pytest.mark.parametrize(
    "memory", [PrioritizedReplayMemory(500, num_steps=3, discount=0.5), SequenceReplayMemory(500, unroll=4, burn_in=2)]
)
def test_an_environment_that_raises_in_the_middle(memory):
    "Nothing is lost, nothing crosses the break, and going on without saying so is refused with what to do."
    env = Breaking()
    observation, _ = env.reset()
    taken = crashes = 0
    while taken < 100:
        try:
            following, reward, terminated, truncated, _ = env.step(0)
        except RuntimeError:
            crashes += 1
            observation, _ = env.reset()
            if crashes == 2:
                before = len(memory)
                with pytest.raises(ValueError, match="call cut"):
                    memory.add(
                        {
                            "observation": observation,
                            "next_observation": observation + 1,
                            "reward": 0.0,
                            "terminated": False,
                            "truncated": False,
                        }
                    )
                assert len(memory) == before
            memory.cut()
            continue
        memory.add(
            {"observation": observation, "next_observation": following, "reward": reward, "terminated": terminated, "truncated": truncated}
        )
        taken += 1
        observation = env.reset()[0] if terminated or truncated else following
    memory.cut()
    assert crashes > 3
    if isinstance(memory, PrioritizedReplayMemory):
        first, last = (memory.storage.fields[name][: len(memory)] for name in ("observation", "next_observation"))
        assert len(memory) == taken  # each step became one transition
        assert (first[:, 0] == last[:, 0]).all()  # of one episode
        assert ((last[:, 1] - first[:, 1] >= 1) & (last[:, 1] - first[:, 1] <= 3)).all()
    else:
        fields = memory.memory.storage.fields
        assert fields["mask"][: len(memory)].sum() == taken
        for window, mask in zip(fields["observation"][: len(memory), 2:], fields["mask"][: len(memory)], strict=True):
            real = window[: mask.sum() + 1]
            assert len(set(real[:, 0].tolist())) == 1 and (np.diff(real[:, 1]) == 1).all()


# ------------------------------------------------------------------ saving, disks, threads, devices


def feed(memory, first: int, last: int) -> list[bytes]:
    "Steps, samples and updates; what was drawn."
    drawn = []
    for time in range(first, last):
        step = {
            "observation": np.float32(time),
            "next_observation": np.float32(time + 1),
            "reward": 1.0,
            "terminated": time % 23 == 22,
            "truncated": time % 31 == 30,
        }
        if isinstance(memory, SequenceReplayMemory):
            memory.add(step, state=(np.full(2, time, np.float32), np.zeros(2, np.float32)))
        else:
            memory.add(step, environment=0)
        if len(memory) < 4: continue
        sample = memory.sample(4)
        drawn.append(
            sample.indices.tobytes()
            + sample.weights.numpy().tobytes()
            + b"".join(sample.batch[name].numpy().tobytes() for name in sorted(sample.batch))
        )
        errors = (
            np.abs(np.sin(sample.indices + time)) if not isinstance(memory, SequenceReplayMemory) else torch.sin(sample.mask * 1.0 + time)
        )
        memory.update_priorities(sample, errors)
    return drawn


@pytest.mark.parametrize(
    "make",
    [
        lambda: PrioritizedReplayMemory(50, num_steps=3, discount=0.9, beta_steps=100, seed=5),
        lambda: PrioritizedReplayMemory(37, normalize="memory", seed=6),
        lambda: SequenceReplayMemory(12, unroll=4, burn_in=3, period=2, seed=7),
    ],
)
def test_saved_in_the_middle_and_continued_in_every_bit(make, tmp_path):
    "Also in the middle of an n-step window or of an episode, with a ring that has gone round."
    memory = make()
    feed(memory, 0, 120)
    save_checkpoint(tmp_path / "memory", memory.state_dict())
    expected = feed(memory, 120, 220)
    again = make()
    feed(again, 0, 7)  # what it held before is gone
    again.load_state_dict(load_checkpoint(tmp_path / "memory"))
    assert feed(again, 120, 220) == expected
    flat = lambda value: (
        value.numpy().tobytes()
        if isinstance(value, torch.Tensor)
        else {key: flat(part) for key, part in value.items()}
        if isinstance(value, dict)
        else value
    )
    assert str(flat(again.state_dict())) == str(flat(memory.state_dict()))


def test_a_saved_memory_of_another_kind_is_refused_and_changes_nothing():
    saved = filled(10, np.ones(10), alpha=0.6).state_dict()
    for options in ({"capacity": 11}, {"alpha": 0.5}, {"epsilon": 0.1}, {"num_steps": 2, "discount": 0.9}):
        other = PrioritizedReplayMemory(**{"capacity": 10, "alpha": 0.6, **options})
        if "num_steps" not in options:
            other.extend(numbered(3))
        before = str(other.state_dict())
        with pytest.raises(ValueError, match="the saved memory has"):
            other.load_state_dict(saved)
        assert str(other.state_dict()) == before
    sequences = SequenceReplayMemory(5, unroll=4)
    with pytest.raises(ValueError, match="the saved windows are"):
        SequenceReplayMemory(5, unroll=5).load_state_dict(sequences.state_dict())
    for memory, state in ((sequences, saved), (PrioritizedReplayMemory(10), sequences.state_dict())):
        with pytest.raises(ValueError, match=f"not that of a {type(memory).__name__}"):
            memory.load_state_dict(state)
    other, parts = filled(10, np.arange(3.0)), [(name, saved) for name in saved] + [(name, saved["slots"]) for name in saved["slots"]]
    before = str(other.state_dict())
    for name, part in parts:
        lacking = {key: value for key, value in part.items() if key != name}
        with pytest.raises(ValueError, match=f"it lacks {name}"):
            other.load_state_dict(lacking if part is saved else {**saved, "slots": lacking})
        assert str(other.state_dict()) == before


def test_on_disk_as_in_memory(tmp_path):
    memories = [PrioritizedReplayMemory(50, num_steps=2, discount=0.9, folder=folder) for folder in (None, tmp_path / "records")]
    assert feed(memories[0], 0, 150) == feed(memories[1], 0, 150)
    base = memories[1].storage.words
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert os.listdir(tmp_path / "records") == []  # nothing is left behind by a killed program


def test_one_thread_acts_while_another_learns():
    "Each row stays whole: all of its fields belong to the item in the slot."
    memory, errors, stop = PrioritizedReplayMemory(256), [], threading.Event()
    memory.add(item=0, copy=np.zeros(7, np.int64), half=0.0)

    def act() -> None:
        try:
            for item in range(1, 4000):
                memory.add(item=item, copy=np.full(7, item), half=item / 2)
        except Exception as error:  # noqa: BLE001 (looked at below)
            errors.append(error)
        stop.set()

    thread = threading.Thread(target=act)
    thread.start()
    rounds = 0
    while not stop.is_set() or rounds < 50:
        sample = memory.sample(32)
        assert (sample.batch["copy"] == sample.batch["item"][:, None]).all()
        assert (sample.batch["half"] * 2 == sample.batch["item"]).all()
        assert (sample.serials == sample.batch["item"].numpy() + 1).all()
        memory.update_priorities(sample, torch.rand(32))
        rounds += 1
    thread.join()
    assert not errors and len(memory) == 256


def test_samples_do_not_change_afterwards():
    memory = filled(8, np.ones(8))
    sample = memory.sample(8)
    before = sample.batch["item"].clone()
    memory.extend(numbered(8, first=100))
    memory.sample(8)
    assert (sample.batch["item"] == before).all()


def test_any_types_come_back_as_they_went_in():
    memory = PrioritizedReplayMemory(5, float_dtype=np.float64)
    rows = {
        "image": np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5),
        "flag": [True, False],
        "small": np.array([1, -2], np.int8),
        "number": [0.1, 0.2],
        "tensor": torch.tensor([[1.5], [2.5]]),
    }
    memory.extend(rows)
    batch, indices, _ = memory.sample(20)
    for name, values in rows.items():
        assert (batch[name].numpy() == np.asarray(values)[indices]).all(), name
    assert {name: value.dtype for name, value in batch.items()} == {
        "image": torch.uint8,
        "flag": torch.bool,
        "small": torch.int8,
        "number": torch.float64,
        "tensor": torch.float64,
    }
    copies = memory.slots.sample(20, 0.5)[3]
    for name, value in memory.storage.split(copies).items():
        assert (view_fields(torch.from_numpy(copies), memory.storage.dtype)[name].numpy() == value).all(), name  # as on a GPU


def test_numbers_that_a_field_cannot_hold_are_refused():
    memory = PrioritizedReplayMemory(4)
    with pytest.raises(ValueError, match=r"reward is stored as float32, which cannot hold 1e\+60"):
        memory.add({"cell": np.int8(7), "reward": 1e60})
    memory.add({"cell": np.int8(7), "reward": 0.0})
    memory.add({"cell": -128, "reward": -math.inf})
    with pytest.raises(ValueError, match="cell is stored as int8, which cannot hold 300"):
        memory.add({"cell": 300, "reward": 1e-50})
    assert memory.storage.fields["cell"][:2].tolist() == [7, -128] and memory.storage.fields["reward"][1] == -math.inf


def test_tensors_of_bfloat16_are_stored_as_floats():
    memory, halves = PrioritizedReplayMemory(5, alpha=1.0, epsilon=0.0), torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
    memory.add(observation=halves)
    memory.extend({"observation": torch.stack([halves, halves])})
    assert memory.storage.fields["observation"][:3].tolist() == [[0.5, 2.0]] * 3
    sample = memory.sample(2)
    memory.update_priorities(sample, halves.requires_grad_().abs())
    assert memory.slots.tree[sample.indices].tolist() == [0.5, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_and_on_the_gpu():
    memory = PrioritizedReplayMemory(100, device="cuda", pin_memory=True)
    memory.extend({"observation": np.random.default_rng(0).random((100, 7)), "action": np.arange(100)})
    batch, indices, weights = memory.sample(32)
    assert batch["observation"].is_cuda and weights.is_cuda
    assert (batch["action"].cpu().numpy() == indices).all()
    memory.update_priorities(indices, weights)


# ------------------------------------------------------------------ sequences


@settings(max_examples=60, deadline=None)
@given(walks(), st.integers(1, 7), st.data())
def test_windows_are_the_episode(environments, unroll, data):
    "Steps, padding, burn-in, the observation after the end and the stored state, against slices of the episode; every step is learned."
    burn_in, period = data.draw(st.integers(0, unroll)), data.draw(st.integers(1, unroll))
    memory = SequenceReplayMemory(1000, unroll=unroll, burn_in=burn_in, period=period)
    streams = [list(steps_of(episodes, number)) for number, episodes in enumerate(environments)]
    for turn in range(max(map(len, streams))):
        for number, stream in enumerate(streams):
            if turn < len(stream):
                memory.add(stream[turn], state=np.append(stream[turn]["observation"], 1.0), environment=number)
    fields = {name: field[: len(memory)] for name, field in memory.memory.storage.fields.items()}
    learned: dict[tuple[float, ...], int] = {}
    for place in range(len(memory)):
        real = int(fields["mask"][place].sum())
        assert fields["mask"][place].tolist() == [step < real for step in range(unroll)]
        start = burn_in if not fields["has_burn_in"][place] else 0
        times = np.arange(burn_in + real + 1 - start)
        window = fields["observation"][place, start : burn_in + real + 1]
        environment, episode, first = window[0].tolist()
        assert window.tolist() == [[environment, episode, first + time] for time in times]
        assert fields["state_0"][place].tolist() == [environment, episode, first, 1.0]
        assert first == 0 or fields["has_burn_in"][place] or burn_in == 0
        assert fields["action"][place, start : burn_in + real].tolist() == (first + times[:-1]).tolist()
        for name in ("observation", "reward", "action"):
            padding = fields[name][place].copy()
            padding[start : burn_in + real + (name == "observation")] = 0
            assert not padding.any()
        ends = fields["terminated"][place] | fields["truncated"][place]
        assert ends[: burn_in + real - 1].sum() == 0
        assert real == unroll or ends[burn_in + real - 1]
        for row in fields["observation"][place, burn_in : burn_in + real].tolist():
            learned[tuple(row)] = learned.get(tuple(row), 0) + 1
    assert learned.keys() == {tuple(step["observation"].tolist()) for stream in streams for step in stream}
    if period == unroll and burn_in <= period:
        assert set(learned.values()) == {1}


def test_a_window_has_the_priority_of_its_errors():
    "R2D2's mixture, over real steps only."
    errors = torch.tensor([[1.0, -3.0, 2.0, 99.0], [0.5, 0.5, 0.5, 0.5]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    torch.testing.assert_close(sequence_priorities(errors, mask), torch.tensor([0.9 * 3 + 0.1 * 2, 0.5]))
    torch.testing.assert_close(sequence_priorities(errors, mask, eta=0.0), torch.tensor([2.0, 0.5]))
    memory = SequenceReplayMemory(10, alpha=1.0, epsilon=0.0, unroll=4)
    for step in steps_of([(7, "terminated")], 0):
        memory.add(step)
    sample = memory.sample(2)
    assert sample.mask.sum(1).tolist() in ([4, 3], [3, 4])
    memory.update_priorities(sample, torch.full((2, 4), 2.0))
    assert memory.memory.slots.tree[[0, 1]].tolist() == pytest.approx([2.0, 2.0])
    with pytest.raises(ValueError, match=r"errors must have shape \(2, 4\), got \(2, 3\)"):
        memory.update_priorities(sample, torch.zeros(2, 3))


def test_the_stored_state_is_the_real_one_with_unchanged_weights():
    "Zero staleness: stored, warmed up over the burn-in, it is what the actor had; and it would not be without them."
    torch.manual_seed(0)
    network, memory, truth = torch.nn.GRU(2, 6, batch_first=True), SequenceReplayMemory(100, unroll=5, burn_in=3), {}
    rng, state, observation = np.random.default_rng(0), torch.zeros(1, 6), np.zeros(2, np.float32)
    for time in range(1, 90):
        following = rng.random(2, np.float32)
        truth[observation.tobytes()] = state
        memory.add(
            {"observation": observation, "next_observation": following, "terminated": time % 20 == 0, "truncated": False}, state=state
        )
        with torch.no_grad():
            _, state = network(torch.from_numpy(observation)[None], state)
        observation = following
        if time % 20 == 0:
            state, observation = torch.zeros(1, 6), rng.random(2, np.float32)
    sample = memory.sample(64)
    run = lambda part, state: network(part["observation"], state.transpose(0, 1).contiguous())[1].transpose(0, 1)
    warm, first = sample.warm_state(run), sample.part(learning=True)["observation"][:, 0]
    real = torch.stack([truth[row.contiguous().numpy().tobytes()] for row in first])
    assert not warm.requires_grad
    torch.testing.assert_close(warm, real, atol=1e-6, rtol=0)
    assert (sample.state - real).abs().max() > 0.05
    assert sample.batch["has_burn_in"].any() and not sample.batch["has_burn_in"].all()


# ------------------------------------------------------------------ bad input


def test_bad_input_is_named_and_loses_nothing():
    memory = PrioritizedReplayMemory(5, epsilon=0.0)
    with pytest.raises(ValueError, match="the memory is empty"):
        memory.sample(3)
    memory.extend({"observation": np.zeros((3, 2)), "action": [0, 1, 2]}, priorities=[1.0, 2.0, 3.0])
    before = str(memory.state_dict())
    row = {"observation": [0.0, 1.0], "action": 1}
    refused = [
        (lambda: memory.add({"observation": [0.0, 1.0]}), "stores"),
        (lambda: memory.add({**row, "extra": 1}), "stores"),
        (lambda: memory.add({**row, "observation": [0.0]}), "observation must have shape"),
        (lambda: memory.add({**row, "action": 0.5}), "action is stored as int64"),
        (lambda: memory.add({**row, "action": "left"}), "only numbers"),
        (lambda: memory.add({**row, "observation": [0.0, 1e60]}), r"observation is stored as float32, which cannot hold 1e\+60"),
        (lambda: memory.add({**row, "action": None}), "only numbers"),
        (lambda: memory.add({}), "at least one field"),
        (lambda: memory.add(row, priority=float("nan")), "priorities must be finite"),
        (lambda: memory.add(row, priority=-1.0), "priorities must be finite"),
        (lambda: memory.extend({"observation": np.zeros((2, 2)), "action": [1]}), "as many rows"),
        (lambda: memory.extend({"observation": np.zeros((9, 2)), "action": [1] * 9}), "no more than 5"),
        (lambda: memory.extend({"observation": np.zeros((2, 2)), "action": [1, 2]}, priorities=[1.0]), "shape"),
        (lambda: memory.extend({"observation": 1.0, "action": 1}), "as many rows"),
        (lambda: memory.update_priorities([0, 3], [1.0, 1.0]), "indices must be from 0 to 2, got 3"),
        (lambda: memory.update_priorities([-1], [1.0]), "indices must be from 0 to 2, got -1"),
        (lambda: memory.update_priorities([0, 1], [1.0, float("nan")]), "finite and not negative"),
        (lambda: memory.update_priorities([0, 1], [1.0, -0.5]), "finite and not negative"),
        (lambda: memory.update_priorities([0, 1], [1.0, float("inf")]), "finite and not negative"),
        (lambda: memory.update_priorities([0, 1], [1.0]), "shape"),
        (lambda: memory.update_priorities([0.5], [1.0]), "whole numbers"),
        (lambda: memory.sample(0), "batch_size must be at least 1"),
        (lambda: memory.sample(4, beta=1.5), "beta must be between 0 and 1"),
    ]
    for call, words in refused:
        with pytest.raises(ValueError, match=words):
            call()
        assert str(memory.state_dict()) == before, words
    memory.update_priorities([0, 1, 2], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="all priorities are zero"):
        memory.sample(1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": 2.5}, "capacity"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"beta": 1.1}, "beta"),
        ({"beta_steps": 0}, "beta_steps"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 3}, "discount must be given"),
        ({"num_steps": 11, "discount": 0.9}, "must not exceed capacity"),
        ({"discount": 1.1}, "discount"),
        ({"normalize": "sum"}, "normalize"),
        ({"device": "toaster"}, "device"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_memories_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PrioritizedReplayMemory(**{"capacity": 10, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unroll": 0}, "unroll"),
        ({"burn_in": 5}, "burn_in must be between 0 and unroll"),
        ({"period": 5}, "period must be between 1 and unroll"),
        ({"eta": 2.0}, "eta"),
        ({"num_steps": 3}, "single steps"),
    ],
)
def test_impossible_windows_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SequenceReplayMemory(10, **{"unroll": 4, **options})


def test_steps_that_do_not_belong_are_refused():
    memory = PrioritizedReplayMemory(5, num_steps=3, discount=0.9)
    good = next(steps_of([(9, "terminated")], 0))
    with pytest.raises(ValueError, match="next_observation, terminated, truncated missing"):
        memory.add({name: good[name] for name in ("observation", "reward")})
    with pytest.raises(ValueError, match="the field discount is the memory's own"):
        memory.add({**good, "discount": 1.0})
    memory.add(good)
    with pytest.raises(ValueError, match="call cut"):
        memory.extend({name: np.stack([value, value]) for name, value in good.items()})  # row 0 does not continue
    memory.cut()
    assert len(memory) == 1 and memory.cut(5).size == 0
    sequences = SequenceReplayMemory(5, unroll=4)
    for wrong, words in (({"mask": 1}, "memory's own"), ({"next_legal": 1}, "twin"), ({"state_0": 1}, "memory's own")):
        with pytest.raises(ValueError, match=words):
            sequences.add({**good, **wrong})
    with pytest.raises(ValueError, match="missing"):
        sequences.add({"observation": 1})
    sequences.add(good)
    assert sequences.cut().size == 1
    rows = {name: np.stack([value] * 3) for name, value in good.items()}
    short, states = {"reward": rows["reward"][:2]}, torch.zeros(3, 4)
    uneven = [({**short, **rows, **short}, None), ({**rows, **short}, None), (rows, states[:2]), (rows, (states, states[:2])), (good, None)]
    sequences = SequenceReplayMemory(5, unroll=4)
    for wrong, state in uneven:
        with pytest.raises(ValueError, match="all fields must have as many rows"):
            sequences.extend(wrong, state=state)
        assert not sequences.episodes
    sequences.extend(rows, state=(states, states))
    assert len(sequences.episodes) == 3
