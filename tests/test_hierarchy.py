"""Two levels against what can be computed: exact option values, states recomputed, experience counted, runs resumed."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from dataclasses import replace

import gymnasium
import math
import numpy as np
from typing import Any

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.core.checkpoint import load_checkpoint
from lightbulb.core.errors import CheckpointError
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import Moment, moments
from lightbulb.core.optimization import OptimizerStep
from lightbulb.rl.four_rooms import (
    CELLS,
    HALLWAYS,
    NUMBER,
    FourRooms,
    exact_house_values,
    four_rooms,
    tabular_hallway_options,
    tabular_primitive_options,
)
from lightbulb.rl.hierarchy import HierarchicalAgent, HierarchyConfig, ManagerModel, WorkerModel, play, rarely_tried, train_hierarchy
from lightbulb.rl.options import (
    ExpectedUpdate,
    GuardedWorld,
    GymnasiumOptions,
    Option,
    OptionStep,
    SMDPReturn,
    TabularTask,
    View,
    option_model,
    option_values,
    primitive_options,
)
from lightbulb.rl.recurrent_q import RecurrentQConfig, RecurrentQLearner, RecurrentQNetwork, double_q_targets, td_errors
from lightbulb.rl.vector_environments import EnvironmentFailure

SMALL = RecurrentQConfig(hidden=16, batch_size=8, unroll=4, burn_in=2, min_sequences=4, capacity=500, final_rate=1.0)
rewards = st.floats(-5, 5)


def finish(run):
    "The agent of a training run, and its reports."
    reports = []
    while True:
        try:
            reports.append(next(run))
        except StopIteration as end:
            return end.value, reports


# ------------------------------------------------------------------ returns and exact values


@given(st.lists(rewards, min_size=1, max_size=8), st.lists(rewards, min_size=1, max_size=8), st.floats(0, 1), rewards)
def test_a_run_split_in_two_has_the_same_target(first, second, discount, value):
    parts = [SMDPReturn(discount), SMDPReturn(discount), SMDPReturn(discount)]
    for reward in first:
        parts[0].add(reward)
        parts[2].add(reward)
    for reward in second:
        parts[1].add(reward)
        parts[2].add(reward)
    assert np.isclose(parts[0].target(parts[1].target(value)), parts[2].target(value), atol=1e-9)
    by_definition = sum(discount**i * reward for i, reward in enumerate(first + second)) + discount ** len(first + second) * value
    assert np.isclose(parts[2].target(value), by_definition, atol=1e-9)
    assert np.isclose(parts[2].target(value, terminated=True), by_definition - discount ** len(first + second) * value, atol=1e-9)


@pytest.mark.parametrize(("kind", "goal"), [("hallways", HALLWAYS["E"]), ("both", NUMBER[9, 9])])
def test_the_expected_smdp_update_reaches_the_exact_option_values(kind, goal):
    house = FourRooms(goal)
    exact, task = exact_house_values(house, kind), house.task()
    tables = tabular_hallway_options(house) + (tabular_primitive_options() if kind == "both" else [])
    updates, values = [ExpectedUpdate(task, table) for table in tables], np.zeros(len(CELLS))
    for _ in range(100):
        updated = np.stack([update(values) for update in updates], 1)
        values = np.where(task.terminal, 0.0, np.where(np.isfinite(exact), updated, -np.inf).max(1, initial=-np.inf))
    assert np.abs(updated[np.isfinite(exact)] - exact[np.isfinite(exact)]).max() < 1e-6
    best = exact.argmax(1)  # and once more without any iteration: the linear equations of always choosing the best
    models = [option_model(task, table) for table in tables]
    away = np.flatnonzero(~task.terminal)
    reward, arrival = (
        np.array([models[best[cell]][0][cell] for cell in away]),
        np.array([models[best[cell]][1][cell] for cell in away])[:, away],
    )
    solved = np.linalg.solve(np.eye(len(away)) - arrival, reward)
    assert np.abs(solved - exact[away].max(1)).max() < 1e-10


def test_values_of_moves_are_those_of_plain_value_iteration():
    house = FourRooms(NUMBER[9, 9])
    value = np.zeros(len(CELLS))
    for _ in range(2000):
        q = house.transitions @ (house.task().arrival_rewards + 0.9 * np.where(house.task().terminal, 0, value))  # (A, S)
        value = q.max(0)
    away = ~house.task().terminal
    assert np.abs(exact_house_values(house, "moves").T - q)[:, away].max() < 1e-9


def test_an_option_model_is_the_mean_of_simulated_runs():
    house = FourRooms(HALLWAYS["N"], start=NUMBER[3, 3])
    table, world = tabular_hallway_options(house)[0], four_rooms("hallways", HALLWAYS["N"], NUMBER[3, 3])
    reward, arrival = option_model(house.task(), table)
    earned, ends = [], np.zeros(len(CELLS))
    for episode in range(600):
        world.reset(episode)
        run = SMDPReturn(0.9)
        while True:
            step = world.step(0, int(table.policy[world.observation].argmax()))
            run.add(step.reward)
            if step.option_ended or step.terminated: break
        earned.append(run.reward)
        if not step.terminated:
            ends[world.observation] += run.next_discount / 600
    start = NUMBER[3, 3]
    assert abs(np.mean(earned) - reward[start]) < 4 * np.std(earned) / np.sqrt(600)
    assert np.abs(ends - arrival[start]).max() < 0.02


# ------------------------------------------------------------------ targets and recurrent state


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_targets_are_those_of_a_plain_loop(seed, num_steps):
    rng = torch.Generator().manual_seed(seed)
    online, slow = torch.randn(3, 6, 4, generator=rng), torch.randn(3, 6, 4, generator=rng)
    available = torch.rand(3, 6, 4, generator=rng) < 0.6
    reward, discount = torch.randn(3, 5, generator=rng), torch.rand(3, 5, generator=rng)
    lengths = [5, 3, 1]
    mask = torch.tensor([[step < length for step in range(5)] for length in lengths])
    got = double_q_targets(reward, discount, online, slow, available, mask, num_steps)
    for row, length in enumerate(lengths):
        for step in range(length):
            target, scale, now = 0.0, 1.0, step
            while now < length and now < step + num_steps:
                target, scale, now = target + scale * float(reward[row, now]), scale * float(discount[row, now]), now + 1
            open_ = [choice for choice in range(4) if available[row, now, choice]]
            if open_:
                target += scale * float(slow[row, now, max(open_, key=lambda choice: float(online[row, now, choice]))])
            assert abs(target - float(got[row, step])) < 1e-5


def random_network(input_size: int, num_choices: int) -> RecurrentQNetwork:
    network = RecurrentQNetwork(input_size, num_choices, hidden=16)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return network


def test_stored_states_equal_recomputed_ones_while_the_weights_stand():
    torch.manual_seed(0)
    learner = RecurrentQLearner(random_network(5, 3), replace(SMALL, unroll=6, burn_in=4))
    rng, state = np.random.default_rng(0), learner.online.initial_state()
    views = [View(np.append(np.float32(time), rng.normal(size=4)).astype(np.float32) / 40, np.ones(3, bool)) for time in range(41)]
    for time in range(40):
        _, after = learner.values(views[time].observation, state)
        learner.remember(views[time], 0, state, 0.0, 0.9, views[time + 1], terminated=time == 39)
        state = after
    whole = torch.from_numpy(np.stack([view.observation for view in views]))[None]
    with torch.no_grad():
        before = [torch.zeros(2, 16), *(learner.online(whole[:, :time], learner.online.initial_state())[1][0] for time in range(1, 41))]
    sample = learner.replay.sample(64)
    assert sample.batch["has_burn_in"].any() and not sample.batch["has_burn_in"].all()
    warm = sample.warm_state(lambda part, before: learner.online(part["observation"][:, :4], before)[1])
    values, _ = learner.online(sample.part(learning=True)["observation"], warm)
    values_at_once, _ = learner.online(whole, learner.online.initial_state())
    for row in range(64):
        start = round(float(sample.part(learning=True)["observation"][row, 0, 0]) * 40)
        begin = start - (4 if sample.batch["has_burn_in"][row] else 0)
        assert torch.allclose(sample.state[row], before[begin], atol=1e-6)
        assert torch.allclose(warm[row], before[start], atol=1e-6)
        length = int(sample.mask[row].sum())
        assert torch.allclose(values[row, : length + 1], values_at_once[0, start : start + length + 1], atol=1e-5)


def test_the_burn_in_warms_up_and_takes_no_gradient():
    learner = RecurrentQLearner(random_network(2, 2), SMALL)
    rng, view = np.random.default_rng(1), View(np.zeros(2, np.float32), np.ones(2, bool))
    for time in range(30):
        after = View(rng.normal(size=2).astype(np.float32), np.ones(2, bool))
        learner.remember(view, 1, learner.online.initial_state(), 1.0, 0.9, after, terminated=time == 29)
        view = after
    sample = learner.replay.sample(8)
    sample.batch["observation"].requires_grad_(True)
    td_errors(learner.online, learner.target, sample).square().sum().backward()
    gradient = sample.batch["observation"].grad
    assert gradient[:, : SMALL.burn_in].abs().max() == 0 and gradient[:, SMALL.burn_in :].abs().max() > 0
    before = td_errors(learner.online, learner.target, sample).detach()
    with torch.no_grad():
        sample.batch["observation"][sample.batch["has_burn_in"], : SMALL.burn_in] += 1.0
    assert not torch.allclose(before, td_errors(learner.online, learner.target, sample))  # what came before matters


# ------------------------------------------------------------------ what each level sees and learns from


class Corridor:
    "Walk left or right; every view is stamped, so that nothing can be mistaken for it. `wants` is what the worker is paid for."

    num_options, num_actions, manager_size, worker_size = 2, 2, 3, 3

    def __init__(self, length: int = 6, fail_at: int | None = None, wants: int = 1, stamps: bool = True) -> None:
        self.length, self.fail_at, self.wants, self.stamps = length, fail_at, wants, stamps
        self.asked, self.steps, self.manager_views = 0, 0, []

    def reset(self, seed=None):
        self.place = self.in_option = 0

    def view(self, level: float, choices: int) -> View:
        self.asked += 1
        return View(np.array([self.place / self.length, level, self.asked * self.stamps], np.float32), np.ones(choices, bool))

    def manager_view(self):
        self.manager_views.append(self.view(0.0, 2))
        return self.manager_views[-1]

    def worker_view(self, option):
        return self.view(1.0, 2)

    def step(self, option, action):
        self.steps += 1
        if self.steps == self.fail_at: raise ConnectionError("the line is dead")
        self.place = max(self.place + (1 if action else -1), 0)
        self.in_option += 1
        ended = self.in_option == 2 + option
        if ended:
            self.in_option = 0
        over = self.place >= self.length
        return OptionStep(1.0 if over else 0.0, float(action == self.wants), ended, terminated=over)


def choices_of(learner: RecurrentQLearner) -> list[tuple]:
    "Every stored step once, in order of storing: observation, next observation, reward, discount."
    rows = learner.replay.memory.storage.read(np.arange(len(learner.replay)))
    burn, found = learner.config.burn_in, []
    for row in range(len(rows["mask"])):
        for step in range(int(rows["mask"][row].sum())):
            place = burn + step
            found.append(
                (
                    rows["observation"][row, place].tolist(),
                    rows["observation"][row, place + 1].tolist(),
                    float(rows["reward"][row, place]),
                    float(rows["discount"][row, place]),
                )
            )
    return found


def test_the_manager_sees_the_world_and_each_length_counts():
    world = Corridor()
    config = HierarchyConfig(total_steps=300, discount=0.5, manager=SMALL, worker=SMALL, steps_per_update=1000, worker_exploration=1000)
    agent, _ = finish(train_hierarchy(lambda: world, config))
    stored = choices_of(agent.manager)
    seen = [view.observation.tolist() for view in world.manager_views]
    assert all(before in seen and after in seen for before, after, *_ in stored), (
        "the manager was shown something else than the world's own view"
    )
    assert all(before[1] == after[1] == 0.0 for before, after, *_ in stored)
    assert all(before[1] == after[1] == 1.0 for before, after, *_ in choices_of(agent.worker))
    assert {discount for *_, discount in stored} <= {0.0, 0.5, 0.5**2, 0.5**3} and len({discount for *_, discount in stored}) > 2
    ends = [(reward, discount) for _, _, reward, discount in stored if discount == 0.0]
    assert ends and all(reward in (1.0, 0.5, 0.25) for reward, _ in ends)


@pytest.mark.parametrize("wants", [0, 1])
def test_the_worker_learns_from_its_own_reward(wants):
    config = HierarchyConfig(
        total_steps=300, discount=0.5, manager=SMALL, worker=replace(SMALL, learning_rate=1e-2), worker_exploration=40, steps_per_update=3
    )
    agent, _ = finish(train_hierarchy(lambda: Corridor(wants=wants, stamps=False), config))
    greedy, world = agent.greedy(), Corridor(wants=wants, stamps=False)
    world.reset()
    actions = []
    for _ in range(5):
        option, action = greedy.act(world)
        actions.append(action)
        greedy.observe(world, world.step(option, action))
    assert actions == [wants] * 5


def test_a_world_that_reuses_its_arrays_teaches_the_same():
    class Reusing(Corridor):
        "Shows the same two arrays again and again; after a step what they said is gone."

        def __init__(self):
            super().__init__(stamps=False)
            self.shown, self.open = np.zeros(3, np.float32), np.ones(2, bool)

        def view(self, level, choices):
            self.shown[:], self.open[:] = super().view(level, choices)[:2]
            return View(self.shown, self.open)

        def step(self, option, action):
            self.shown[:], self.open[:] = -1.0, False
            return super().step(option, action)

    config = HierarchyConfig(total_steps=100, manager=SMALL, worker=SMALL)
    agents = [finish(train_hierarchy(make, config))[0] for make in (lambda: Corridor(stamps=False), Reusing)]
    assert choices_of(agents[0].manager) == choices_of(agents[1].manager)
    assert same(agents[0].state_dict(), agents[1].state_dict())


# ------------------------------------------------------------------ every option is reached


@pytest.mark.parametrize("repeat", [0.0, 2.0])
def test_every_option_is_reached_under_the_schedule(repeat):
    "Also those of the far rooms, which open only when somebody gets there; choices and actions explore throughout."
    config = HierarchyConfig(
        total_steps=3000,
        manager=SMALL,
        worker=SMALL,
        steps_per_update=10_000,
        manager_exploration=2000,
        worker_exploration=500,
        repeat_exponent=repeat,
    )
    agent, reports = finish(train_hierarchy(lambda: four_rooms("both", NUMBER[9, 9]), config))
    assert (agent.option_counts > 0).all(), agent.option_counts
    assert reports[-1].metrics["options_tried"] == 12


def test_an_option_that_opens_late_is_still_explored_in_full():
    class Late(Corridor):
        def manager_view(self):
            return View(super().manager_view().observation, np.array([True, self.place >= 4]))

    config = HierarchyConfig(
        total_steps=600,
        manager=SMALL,
        worker=SMALL,
        steps_per_update=10_000,
        manager_exploration=20,
        manager_epsilon=0.2,
        worker_exploration=30,
    )
    agent, _ = finish(train_hierarchy(Late, config))
    early, late = agent.option_counts
    assert early > 100 > late > 0
    assert agent.worker_epsilon(1) > agent.worker_epsilon(0) == config.worker_epsilon


def test_an_option_that_is_forced_in_one_place_is_explored_in_others():
    "Every other time only option 0 is open. The least tried open one would be option 1 at each other time, and option 0 never."

    class Forced(Corridor):
        done, tries = 0, Counter()

        def manager_view(self):
            return View(super().manager_view().observation, np.array([True, self.done % 2 == 1]))

        def step(self, option, action):
            self.tries[self.done % 2, option] += self.in_option == 0
            step = super().step(option, action)
            self.done += step.option_ended
            return step

    config = HierarchyConfig(
        total_steps=600, manager=SMALL, worker=SMALL, steps_per_update=10_000, manager_epsilon=1.0, repeat_exponent=0.0
    )
    finish(train_hierarchy(Forced, config))
    free = Forced.tries[1, 0], Forced.tries[1, 1]
    assert min(free) > sum(free) / 4 > 10, free


def test_exploring_moves_leave_the_neighbourhood():
    "Taking single moves in turns would stay where it began."
    rng, counts, place, far = np.random.default_rng(0), np.zeros(4), np.zeros(2, int), 0
    for _ in range(2000):
        move = rarely_tried(np.ones(4, bool), counts, rng)
        counts[move] += 1
        place += [(-1, 0), (0, 1), (1, 0), (0, -1)][move]
        far = max(far, int(np.abs(place).sum()))
    assert far > 20


def test_an_option_without_end_is_interrupted():
    endless = Option("walk on", ends=lambda cell: False)
    config = HierarchyConfig(total_steps=100, discount=0.9, manager=SMALL, worker=SMALL, steps_per_update=1000, max_option_steps=7)
    agent, _ = finish(train_hierarchy(lambda: GymnasiumOptions(FourRooms(NUMBER[11, 11], NUMBER[1, 1]), [endless]), config))
    assert {round(discount, 6) for *_, discount in choices_of(agent.manager)} <= {round(0.9**7, 6), round(0.9**2, 6), 0.0}
    assert all(discount == pytest.approx(0.9) for *_, discount in choices_of(agent.worker))  # interrupted, not ended: the value goes on


class Street(gymnasium.Env):
    "Ten places in a row; two moves."

    observation_space, action_space = gymnasium.spaces.Discrete(10), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.place = 0
        return self.place, {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        return self.place, 0.0, self.place == 9, False, {}


def along_the_street() -> GymnasiumOptions:
    "A walk to the end of the street, and both single moves."
    walk = Option("walk", ends=lambda place: False, policy=lambda place: 1)
    return GymnasiumOptions(Street(), [walk, *primitive_options(2)])


@pytest.mark.parametrize("interrupts", [True, False])
def test_a_walk_is_interrupted_where_another_choice_is_worth_more(interrupts):
    "The manager values the walk at the first four places, and a move back at the fifth."
    config = HierarchyConfig(manager=replace(SMALL, layer_norm=False), worker=SMALL, interrupts=interrupts)
    world = along_the_street()
    agent = HierarchicalAgent.for_world(world, config).greedy()
    agent.manager.values_of_all = lambda observations, states: (  # type: ignore[method-assign]
        np.stack([[1.0, 2.0 * (place.argmax() == 4), 0.0] for place in observations]),
        states,
    )
    world.reset()
    taken = []
    for _ in range(8):
        option, action = agent.act(world)
        taken.append((option, action))
        agent.observe(world, world.step(option, action))
    back_and_forth = [(1, 0), (0, 1)]
    assert taken == [(0, 1)] * 4 + (back_and_forth * 2 if interrupts else [(0, 1)] * 4)


def test_exploring_beside_moves_gives_each_option_as_many_steps():
    config = HierarchyConfig(
        total_steps=3000, manager=SMALL, worker=SMALL, steps_per_update=10_000, manager_epsilon=1.0, repeat_exponent=0.0
    )
    agent, _ = finish(train_hierarchy(along_the_street, replace(config, even_steps=True)))
    assert agent.option_steps.sum() == 3000
    assert agent.option_steps.min() > 700, agent.option_steps  # by choices, the walk would have most of them
    old, _ = finish(train_hierarchy(along_the_street, config))
    assert old.option_steps[0] > 1800, old.option_steps


def test_exploring_beside_moves_is_a_share_of_steps():
    "Where every tenth choice explores, and half of these are walks of many steps, far more than a tenth of the steps would."
    config = HierarchyConfig(
        total_steps=6000,
        manager=SMALL,
        worker=SMALL,
        steps_per_update=10_000,
        manager_exploration=1,
        manager_epsilon=0.1,
        repeat_exponent=0.0,
    )
    shares = {}
    for by_steps in (True, False):
        settings = replace(config, explore_by_steps=by_steps)
        agent = HierarchicalAgent.for_world(along_the_street(), settings)
        agent.manager.values_of_all = lambda observations, states: (  # type: ignore[method-assign]
            np.tile([0.0, 1.0, 0.0], (len(observations), 1)),
            states,
        )
        finish(train_hierarchy(along_the_street, settings, agent=agent))
        shares[by_steps] = agent.spent[1, 1] / agent.spent[:, 1].sum()
    assert 0.07 < shares[True] < 0.15 < 0.2 < shares[False], shares


def test_the_worker_learns_walks_from_single_moves():
    "No walk is ever chosen, and the worker's values become those of the best walks in the room; without `learn_lessons` it knows nothing."
    errors = {}
    for learn_lessons in (True, False):
        learner = replace(SMALL, hidden=24, batch_size=32, learning_rate=5e-3)
        config = HierarchyConfig(total_steps=800, manager=SMALL, worker=learner, steps_per_update=10_000, learn_lessons=learn_lessons)
        make_env = lambda: without_slips("both", max_steps=60)
        agent = HierarchicalAgent.for_world(make_env(), config)
        rng = np.random.default_rng(0)
        agent._choose = lambda world, view, values, episode, rng=rng: (8 + int(rng.integers(4)), True)  # type: ignore[method-assign]
        finish(train_hierarchy(make_env, config, agent=agent))
        assert agent.option_counts[:8].sum() == 0 and (len(agent.worker.replay) > 0) == learn_lessons
        for _ in range(400):
            agent.worker.learn()
        found, world = [], make_env()
        for column in range(1, 6):  # the row of a door that lies east of column 5
            view = View(np.eye(len(CELLS), dtype=np.float32)[NUMBER[3, column]], np.ones(4, bool))
            values, _ = agent.worker.values(agent.model.inside(view, 0).observation, agent.worker.online.initial_state())
            found.append(values[:4].max())
        assert world.options[0].name == "room 0 to N"
        exact = 0.9 ** np.arange(4, -1, -1)
        errors[learn_lessons] = float(np.abs(np.array(found) - exact).sum() / exact.sum())
    assert errors[True] < 0.1 < 0.5 < errors[False], errors


def without_slips(kind: str, **limits: int) -> GymnasiumOptions:
    "The house, started anywhere, where moves go where they should."
    world = four_rooms(kind, None, **limits)
    world.environment.unwrapped.slip = 0.0  # type: ignore[attr-defined]
    return world


def test_lessons_of_a_step_are_those_of_the_other_options_that_could_have_taken_it():
    "And a training that is stopped with lessons under way goes on with them."
    world = four_rooms("both", None, NUMBER[1, 1])
    world.reset(0)
    step = world.step(8, 0)  # a single move in the first room
    assert [lesson.option for lesson in step.lessons] == [0, 1]
    assert [lesson.option for lesson in world.step(1, 0).lessons] == [0]  # a walk is not its own lesson
    given = four_rooms("both", None, NUMBER[1, 1], given_walks=True)
    given.reset(0)
    assert not given.step(8, 0).lessons  # nothing to learn about a walk that is given
    masked = GymnasiumOptions(Street(), [Option("back and forth"), Option("forth", actions=(1,), ends=lambda place: place == 9)])
    masked.reset()
    assert [lesson.option for lesson in masked.step(1, 1).lessons] == [0] and not masked.step(0, 1).lessons


def test_a_lesson_that_is_wrong_is_the_worlds_fault():
    class Wrong(GymnasiumOptions):
        def step(self, option, action):
            step = super().step(option, action)
            return replace(step, lessons=tuple(lesson._replace(**self.change) for lesson in step.lessons))

    for change, says in (
        ({"option": 99}, "must teach options 0 to 11"),
        ({"worker_reward": float("nan")}, "by finite rewards"),
        ({"before": None}, "raised TypeError"),
        ({"after": View(np.zeros(3, np.float32), np.ones(4, bool))}, r"lesson of option 0, must give shapes \(104,\) and \(4,\)"),
    ):
        house = four_rooms("both", None, NUMBER[1, 1])
        world = Wrong(house.environment, house.options)
        world.change = change
        guarded = GuardedWorld(lambda world=world: world)
        guarded.reset(0)
        with pytest.raises(EnvironmentFailure, match=says):
            guarded.step(8, 0)
    house = four_rooms("both", None, NUMBER[1, 1])
    house.step = lambda option, action: OptionStep(0.0, 0.0, option_ended=True, lessons=(3,))  # type: ignore[method-assign, arg-type]
    with pytest.raises(EnvironmentFailure, match="must give Lessons, got int"):
        GuardedWorld(lambda: house).step(8, 0)


@pytest.mark.parametrize("first", [0, 1])
def test_a_mask_may_shrink_and_grow(first):
    "Every step from an option's first choice on is stored, and those before it: the history that the worker's memory sees has no hole."

    class World(Corridor):
        def worker_view(self, option):
            closed = (self.place + first) % 2 == 1
            return View(self.view(1.0, 2).observation, np.array([not closed, True]))

    config = HierarchyConfig(total_steps=300, discount=0.5, manager=SMALL, worker=SMALL, steps_per_update=7, max_option_steps=4)
    agent, _ = finish(train_hierarchy(lambda: World(stamps=True), config))
    steps = choices_of(agent.worker)
    assert len(steps) > 200
    rows = agent.worker.replay.memory.storage.read(np.arange(len(agent.worker.replay)))
    burn, open_counts = agent.worker.config.burn_in, set()
    for row in range(len(rows["mask"])):
        for step in range(int(rows["mask"][row].sum())):
            open_counts.add(int(rows["available"][row, burn + step].sum()))
            assert rows["available"][row, burn + step].ravel()[rows["choice"][row, burn + step]], "a closed action was stored"
    assert open_counts == {1, 2}


def test_the_worker_sees_the_steps_before_its_first_choice():
    "Its stored states are those of a network that was shown every step of the option, also those with one open action."

    class Late(Corridor):
        def worker_view(self, option):
            return View(self.view(1.0, 2).observation, np.array([self.in_option >= 1, True]))

    config = HierarchyConfig(total_steps=60, discount=0.5, manager=SMALL, worker=SMALL, steps_per_update=1000)
    agent, _ = finish(train_hierarchy(Late, config))
    for weight in agent.worker.online.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    agent.worker.replay = RecurrentQLearner(agent.worker.online, agent.worker.config).replay
    agent.begin()
    world = Late()
    world.reset(0)
    states = []
    for _ in range(20):
        starts = agent.running is None
        option, action = agent.act(world)
        assert agent.running is not None
        if starts:
            states.append([])
        inside, before = agent.running.inside, states[-1][-1][1] if states[-1] else agent.worker.online.initial_state()
        assert inside is not None
        states[-1].append((inside, agent.worker.values(inside.observation, before)[1]))
        if agent.running.worker is not None:
            assert torch.allclose(agent.running.worker_state, states[-1][-1][1])
        step = world.step(option, action)
        agent.observe(world, step)
        if step.terminated:
            world.reset(1)
    assert max(map(len, states)) > 1


# ------------------------------------------------------------------ the learner's loss


def filled_learner(**changes) -> RecurrentQLearner:
    "A learner with sequences of random experience."
    torch.manual_seed(0)
    learner = RecurrentQLearner(RecurrentQNetwork(3, 2, hidden=8), replace(SMALL, hidden=8, batch_size=6, alpha=1.0, beta=1.0, **changes))
    for network in (learner.online, learner.target):
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    rng, state = np.random.default_rng(0), learner.online.initial_state()
    view = lambda: View(rng.normal(size=3).astype(np.float32), np.ones(2, bool))
    now = view()
    for step in range(160):
        following = view()
        choice, ended = int(rng.integers(2)), step % 20 == 19
        learner.remember(now, choice, state, float(rng.normal()), 0.0 if ended else 0.9, following, terminated=ended)
        now = following
    return learner


def test_the_loss_is_weighed_by_importance_and_judged_by_the_slow_network():
    "The gradient of one update is that of Σ w δ² over the real steps, δ with the slow network's values: computed here from the pieces."
    learner = filled_learner()
    for _ in range(20):
        seen = learner.replay.sample(6)
        learner.replay.update_priorities(seen, 4 * torch.rand(6, learner.config.unroll))
    sample = learner.replay.sample(6)
    assert float(sample.weights.max() - sample.weights.min()) > 0.05  # the weights do differ
    part = sample.part(learning=True)
    initial = lambda network: sample.warm_state(lambda burn, state: network(burn["observation"][:, : sample.burn_in], state)[1])
    online = learner.online(part["observation"], initial(learner.online))[0]
    with torch.no_grad():
        slow = learner.target(part["observation"], initial(learner.target))[0]
        best = online.argmax(-1, keepdim=True)
        wanted = part["reward"] + part["discount"] * slow.gather(-1, best).squeeze(-1)[:, 1:]
    errors = online[:, :-1].gather(-1, part["choice"].unsqueeze(-1)).squeeze(-1) - wanted
    expected = (sample.weights[:, None] * errors.square() * sample.mask).sum() / sample.mask.sum()
    own_judge = td_errors(learner.online, learner.online, sample)
    assert (own_judge - errors).abs().max() > 0.05  # the two networks do disagree
    gradients = torch.autograd.grad(expected, list(learner.online.parameters()))
    learner.replay.sample = lambda *_, **__: sample  # type: ignore[method-assign]
    before = [weight.detach().clone() for weight in learner.online.parameters()]
    plain_descent = torch.optim.SGD(learner.online.parameters(), lr=1.0)
    learner._move = OptimizerStep(learner.online.parameters(), [plain_descent], max_grad_norm=1e9)
    slow_before = [weight.clone() for weight in learner.target.parameters()]
    metrics = learner.learn()
    assert metrics is not None and metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    for slow_weight, old, new in zip(learner.target.parameters(), slow_before, learner.online.parameters(), strict=True):
        assert not torch.equal(old, new) and torch.allclose(slow_weight, old + learner.config.target_rate * (new - old), atol=1e-6)
    for weight, old, gradient in zip(learner.online.parameters(), before, gradients, strict=True):
        assert torch.allclose(old - weight, gradient, atol=1e-5)


# ------------------------------------------------------------------ nothing is lost


def test_a_world_that_raises_in_the_middle_loses_nothing_and_says_where(tmp_path):
    config = HierarchyConfig(total_steps=500, manager=SMALL, worker=SMALL)
    agent = HierarchicalAgent.for_world(GuardedWorld(Corridor), config)
    with pytest.raises(EnvironmentFailure, match=r"episode \d+, step 36: action \d in option \d raised ConnectionError: the line is dead"):
        finish(train_hierarchy(lambda: Corridor(fail_at=37), config, agent=agent, save_dir=tmp_path))
    assert agent.num_steps == 36 and len(choices_of(agent.worker)) == 36
    again, _ = finish(train_hierarchy(Corridor, replace(config, total_steps=60), save_dir=tmp_path, resume=True))
    assert again.num_steps == 60 and len(choices_of(again.worker)) == 60


def test_ctrl_c_waits_for_the_report_and_loses_nothing(tmp_path):
    class Interrupted(Corridor):
        def step(self, option, action):
            if agent.num_steps == 36:
                signal.raise_signal(signal.SIGINT)
            return super().step(option, action)

    config = HierarchyConfig(total_steps=500, manager=SMALL, worker=SMALL, report_interval=20)
    agent = HierarchicalAgent.for_world(GuardedWorld(Corridor), config)
    with pytest.raises(KeyboardInterrupt):
        finish(train_hierarchy(Interrupted, config, agent=agent, save_dir=tmp_path))
    assert agent.num_steps == 40 and moments(tmp_path) == [Moment(0, 40)]
    again, _ = finish(train_hierarchy(Corridor, replace(config, total_steps=60), save_dir=tmp_path, resume=True))
    assert again.num_steps == 60 and len(choices_of(again.worker)) == 60


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"manager_view": lambda self: View(np.zeros(7, np.float32), np.ones(2, bool))},
            r"manager_view must give shapes \(3,\) and \(2,\), got \(7,\)",
        ),
        ({"worker_view": lambda self, option: View(np.full(3, np.nan), np.ones(2, bool))}, "observation that is not finite"),
        ({"step": lambda self, option, action: OptionStep(float("inf"), 0.0, False)}, "rewards inf and 0.0, which must be finite"),
        ({"step": lambda self, option, action: (0.0, 0.0, False)}, "action . in option . must give an OptionStep, got tuple"),
        ({"manager_view": lambda self: None}, "manager_view raised TypeError"),
        ({"worker_view": lambda self, option: None}, "worker_view of option . raised TypeError"),
        ({"reset": lambda self, seed=None: 1 / 0}, "reset raised ZeroDivisionError"),
        ({"__init__": lambda self: 1 / 0}, "making the environment raised ZeroDivisionError"),
    ],
)
def test_a_malformed_world_is_named(broken, message):
    config = HierarchyConfig(total_steps=20, manager=SMALL, worker=SMALL)
    with pytest.raises(EnvironmentFailure, match=message):
        finish(train_hierarchy(type("Broken", (Corridor,), broken), config))


def same(one, other) -> bool:
    "Whether two states are equal, bit by bit."
    if isinstance(one, dict): return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)): return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(
    ("make_env", "changes"),
    [
        (lambda: Corridor(stamps=False), {}),
        (lambda: four_rooms("both"), {}),
        ("CartPole-v1", {}),
        (lambda: Corridor(stamps=False), {"num_envs": 3, "worker_remembers": True}),
        (lambda: Stalls(), {"num_envs": 3, "worker_remembers": True}),
    ],
    ids=["corridor", "rooms", "pole", "three corridors", "three stalls"],
)
def test_a_run_that_was_killed_anywhere_equals_one_that_was_not(make_env, changes, tmp_path):
    config = HierarchyConfig(total_steps=100, manager=SMALL, worker=SMALL, report_interval=9, save_every=0, repeat_exponent=2.0, **changes)
    run, reports, whole = train_hierarchy(make_env, config, save_dir=tmp_path / "whole"), [], None
    while whole is None:
        try:
            reports.append(next(run))
        except StopIteration as stop:
            whole = stop.value
        else:
            shutil.copytree(tmp_path / "whole", tmp_path / f"killed_{len(reports)}")  # what a kill would leave
    num_under_way = 0
    for number in range(3, len(reports) + 1, 3):
        folder = tmp_path / f"killed_{number}"
        kept = load_checkpoint(folder / moments(folder)[-1].name / "training.ckpt")["training"]
        num_under_way += any(episode is not None for episode in kept["episodes"])
        resumed, rest = finish(train_hierarchy(make_env, config, save_dir=folder, resume=True))
        assert same(whole.state_dict(), resumed.state_dict()), number
        assert [report.as_row() for report in rest] == [report.as_row() for report in reports[len(reports) - len(rest) :]]
        assert len(rest) == len(reports) - number + 1
    assert num_under_way > 0  # killed inside an episode


def test_a_closed_run_goes_on_to_more_steps_as_if_it_had_not_been_closed(tmp_path):
    config, make_env = HierarchyConfig(total_steps=130, manager=SMALL, worker=SMALL, report_interval=10), lambda: Corridor(stamps=False)
    expected, _ = finish(train_hierarchy(make_env, config))
    run = train_hierarchy(make_env, config, save_dir=tmp_path)
    while next(run).step < 50:
        pass
    run.close()
    assert moments(tmp_path) == [Moment(0, 50)]
    finish(train_hierarchy(make_env, replace(config, total_steps=90), save_dir=tmp_path, resume=True))
    resumed, reports = finish(train_hierarchy(make_env, config, save_dir=tmp_path, resume=True))
    assert [report.step for report in reports] == [100, 110, 120, 130]
    assert same(expected.state_dict(), resumed.state_dict())
    rows = MetricsFile(tmp_path / "metrics.jsonl").read()
    assert [row["step"] for row in rows] == list(range(10, 131, 10))


def test_another_setting_is_refused_by_name_and_an_old_run_is_set_aside(tmp_path):
    config, folder = HierarchyConfig(total_steps=40, manager=SMALL, worker=SMALL), tmp_path / "run"
    finish(train_hierarchy(Corridor, config, save_dir=folder))
    resume = lambda config, make_env=Corridor, folder=folder: finish(train_hierarchy(make_env, config, save_dir=folder, resume=True))
    with pytest.raises(CheckpointError, match=f"discount was {config.discount} and is 0.5 now"):
        resume(replace(config, discount=0.5))
    with pytest.raises(CheckpointError, match="worker.hidden was 16 and is 7 now"):
        resume(replace(config, worker=replace(SMALL, hidden=7)))
    with pytest.raises(CheckpointError, match="environment was None and is CartPole-v1 now"):
        resume(config, "CartPole-v1")
    with pytest.raises(CheckpointError, match="the world's num_options was 2 and is 1 now"):
        resume(config, type("Narrow", (Corridor,), {"num_options": 1}))
    with pytest.raises(CheckpointError, match="nothing to resume"):
        resume(config, folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="resume needs save_dir"):
        finish(train_hierarchy(Corridor, config, resume=True))
    finish(train_hierarchy(Corridor, replace(config, total_steps=20), save_dir=folder))
    assert moments(folder) == [Moment(0, 20)] and moments(tmp_path / "run_001") == [Moment(0, 40)]


def test_an_agent_that_is_handed_over_follows_the_configuration_or_refuses_it(tmp_path):
    config = HierarchyConfig(total_steps=40, manager=SMALL, worker=SMALL, report_interval=20)
    agent, _ = finish(train_hierarchy(Corridor, config))
    for change, message in (
        ({}, "total_steps must be above the 40 that the agent has done, got 40"),
        ({"total_steps": 80, "discount": 0.5}, "discount belongs to the agent: it has 0.9, the configuration 0.5"),
        ({"total_steps": 80, "manager": replace(SMALL, hidden=8)}, "manager.hidden belongs to the agent: it has 16, the configuration 8"),
        ({"total_steps": 80, "num_envs": 2}, "num_envs must be the agent's, 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            finish(train_hierarchy(Corridor, replace(config, **change), agent=agent, save_dir=tmp_path))
    assert agent.num_steps == 40 and agent.config == config and not moments(tmp_path)
    further = replace(config, total_steps=80, manager_epsilon=0.7)
    same_agent, reports = finish(train_hierarchy(Corridor, further, agent=agent, save_dir=tmp_path))
    assert same_agent is agent and [report.step for report in reports] == [60, 80] and agent.manager_epsilon == 0.7
    loaded = HierarchicalAgent.load(tmp_path, device=config.device)
    assert loaded.config == further
    _, reports = finish(train_hierarchy(Corridor, replace(further, total_steps=100), agent=loaded, save_dir=tmp_path, resume=True))
    assert [report.step for report in reports] == [100]


def test_every_world_that_was_made_is_closed(caplog):
    "When a training ends, is left, fails in a world, or while the worlds are made; that one cannot be closed hides nothing."
    made, closed = [], []

    class Held(Street):
        def __init__(self):
            if len(made) == 10: raise ConnectionError("no more of them")
            made.append(self)

        def close(self):
            closed.append(self)
            if len(made) == 9: raise OSError("it hangs")

        def step(self, action):
            if len(made) == 9: raise ConnectionError("the line is dead")
            return super().step(action)

    config = HierarchyConfig(total_steps=30, num_envs=3, manager=SMALL, worker=SMALL, report_interval=10)
    finish(train_hierarchy(Held, config))
    assert len(made) == 3 and set(closed) == set(made)
    run = train_hierarchy(Held, config)
    next(run)
    run.close()
    assert len(made) == 6 and set(closed) == set(made)
    with pytest.raises(EnvironmentFailure, match="step 0: action . in option . raised ConnectionError: the line is dead"):
        finish(train_hierarchy(Held, config))
    assert len(made) == 9 and set(closed) == set(made) and "close raised OSError: it hangs" in caplog.text
    with pytest.raises(EnvironmentFailure, match="no more of them"):
        finish(train_hierarchy(Held, config))
    assert len(made) == 10 and set(closed) == set(made)


def test_a_world_with_luck_of_its_own_begins_a_new_episode_when_resumed(tmp_path):
    config = HierarchyConfig(total_steps=23, manager=SMALL, worker=SMALL)
    finish(train_hierarchy(lambda: Corridor(length=50), config, save_dir=tmp_path))
    agent, _ = finish(train_hierarchy(lambda: Corridor(length=1), replace(config, total_steps=40), save_dir=tmp_path, resume=True))
    assert agent.num_steps == 40 and len(choices_of(agent.worker)) == 40


def test_a_resumed_world_of_luck_neither_stops_the_run_nor_joins_two_histories(tmp_path):
    luck = np.random.default_rng(0)

    class Doors:
        "Two of fifty doors are open; a closed one is refused."

        num_options, num_actions, manager_size, worker_size = 1, 50, 1, 1

        def reset(self, seed=None):
            self.time, self.open = 0, luck.permutation(50) < 2

        def manager_view(self):
            return View(np.float32([self.time]), np.ones(1, bool))

        def worker_view(self, option):
            return View(np.float32([self.time]), self.open)

        def step(self, option, action):
            if not self.open[action]: raise ValueError(f"door {action} is closed")
            self.time, self.open = self.time + 1, luck.permutation(50) < 2
            return OptionStep(0.0, 0.0, self.time % 3 == 0, terminated=self.time == 50)

    class Walk:
        "One to the left or one to the right, from anywhere; nothing is ever paid."

        length = 50  # of an option: one runs when the run ends
        num_options, num_actions, manager_size, worker_size = 1, 2, 1, 1

        def reset(self, seed=None):
            self.place, self.time = int(luck.integers(100)), 0

        def manager_view(self):
            return View(np.float32([self.place]), np.ones(1, bool))

        def worker_view(self, option):
            return View(np.float32([self.place]), np.ones(2, bool))

        def step(self, option, action):
            self.place, self.time = self.place + 2 * action - 1, self.time + 1
            return OptionStep(0.0, 0.0, self.time % self.length == 0, truncated=self.time == 40)

    class Hops(Walk):
        length = 11  # none runs then

    config = HierarchyConfig(total_steps=22, manager=SMALL, worker=SMALL)
    for world in (Doors, Walk, Hops):
        finish(train_hierarchy(world, config, save_dir=tmp_path / world.__name__))
        go_on = train_hierarchy(world, replace(config, total_steps=80), save_dir=tmp_path / world.__name__, resume=True)
        agent, _ = finish(go_on)
        assert agent.num_steps == 80
        if world is Doors: continue
        assert all(abs(after[0] - before[0]) == 1 for before, after, *_ in choices_of(agent.worker)), world
        assert all(abs(after[0] - before[0]) <= world.length for before, after, *_ in choices_of(agent.manager)), world


# ------------------------------------------------------------------ described actions, worlds side by side, one level alone


class Stalls:
    "One to five stalls, each with a number of its own; only those below a half pay. Nothing else is shown, and their order is chance."

    num_options, num_actions, manager_size, worker_size, action_size = 2, 5, 1, 1, 2

    def reset(self, seed=None):
        self.random, self.time = np.random.default_rng(seed), 0
        self._open()

    def _open(self):
        self.numbers = self.random.random(self.random.integers(1, 6))

    def manager_view(self):
        return View(np.zeros(1, np.float32), np.ones(2, bool))

    def worker_view(self, option):
        return View(np.zeros(1, np.float32), np.ones(len(self.numbers), bool), np.stack([self.numbers, 1 - self.numbers], 1))

    def step(self, option, action):
        paid, self.time = float(self.numbers[action] < 0.5), self.time + 1
        self._open()
        return OptionStep(paid, paid, self.time % 3 == 0, truncated=self.time == 9)


def test_described_actions_are_valued_by_their_features_alone():
    "In any order, among any number, with room for more: the same value; and every stored choice was one that was offered."
    config = HierarchyConfig(total_steps=240, manager=SMALL, worker=SMALL, num_envs=2)
    agent, _ = finish(train_hierarchy(Stalls, config))
    for weight in agent.worker.online.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    wider = WorkerModel(1, 2, num_actions=9, hidden=16, action_size=2, layer_norm=SMALL.layer_norm)
    wider.load_state_dict(agent.worker.online.state_dict())
    features, order = np.random.default_rng(0).random((4, 2)), [2, 0, 3, 1]

    def values(model, rows):
        inside = model.inside(View(np.zeros(1), np.ones(len(rows), bool), rows), option=1)
        assert inside.available.sum() == len(rows)
        with torch.no_grad():
            return model(torch.from_numpy(inside.observation)[None, None], model.initial_state())[0][0, 0, : len(rows)].numpy()

    whole = values(agent.model, features)
    assert np.ptp(whole) > 1e-3
    assert np.allclose(values(agent.model, features[order]), whole[order], atol=1e-6)
    assert np.allclose(values(agent.model, features[:2]), whole[:2], atol=1e-6)
    assert np.allclose(values(wider, features), whole, atol=1e-6)
    rows, burn, counts = agent.worker.replay.memory.storage.read(np.arange(len(agent.worker.replay))), SMALL.burn_in, set()
    for row in range(len(rows["mask"])):
        for place in burn + np.flatnonzero(rows["mask"][row]):
            counts.add(int(rows["available"][row, place].sum()))
            assert rows["available"][row, place, rows["choice"][row, place]]
    assert len(counts) > 3


def test_described_actions_are_learned_where_numbers_cannot_be():
    config = HierarchyConfig(total_steps=1200, num_envs=8, discount=0.5, manager=SMALL, worker=replace(SMALL, learning_rate=1e-2))
    agent, _ = finish(train_hierarchy(Stalls, config))
    greedy, world, paid, possible = agent.greedy(), Stalls(), 0.0, 0
    for seed in range(30):
        world.reset(seed)
        for _ in range(9):
            can_pay = bool((world.numbers < 0.5).any())
            step = world.step(*greedy.act(world))
            greedy.observe(world, step)
            paid, possible = paid + step.reward, possible + can_pay
    assert paid >= 0.9 * possible > 100, (paid, possible)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(np.zeros(1), np.ones(6, bool), np.ones((6, 2))), "must offer 1 to 5 actions, got 6"),
        (View(np.zeros(1), np.ones(0, bool), np.ones((0, 2))), "must offer 1 to 5 actions, got 0"),
        (View(np.zeros(1), np.ones(3, bool), np.ones((2, 2))), r"in the shape \(3, 2\), got \(2, 2\)"),
        (View(np.zeros(1), np.ones(3, bool)), r"in the shape \(3, 2\), got \(\)"),
        (View(np.zeros(1), np.ones(3, bool), np.full((3, 2), np.nan)), "features that are not finite"),
    ],
)
def test_badly_described_actions_are_named(view, message):
    world = type("Broken", (Stalls,), {"worker_view": lambda self, option: view})
    with pytest.raises(EnvironmentFailure, match=message):
        finish(train_hierarchy(world, HierarchyConfig(total_steps=20, manager=SMALL, worker=SMALL)))


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_described_actions_may_run_out_at_the_end(end):
    class Hand:
        "Three cards, each worth its number; the episode is over when all are played."

        num_options, num_actions, manager_size, worker_size, action_size = 1, 3, 1, 1, 1

        def reset(self, seed=None):
            self.cards = [1.0, 2.0, 3.0]

        def manager_view(self):
            return View(np.float32([len(self.cards)]), np.ones(1, bool))

        def worker_view(self, option):
            return View(np.float32([len(self.cards)]), np.ones(len(self.cards), bool), np.reshape(self.cards, (-1, 1)))

        def step(self, option, action):
            paid = self.cards.pop(action)
            return OptionStep(paid, paid, not self.cards, **{end: not self.cards})

    agent, _ = finish(train_hierarchy(Hand, HierarchyConfig(total_steps=60, manager=SMALL, worker=SMALL)))
    stored = choices_of(agent.worker)
    assert agent.num_steps == len(stored) == 60 and [after[0] for _, after, *_ in stored] == [2.0, 1.0, 0.0] * 20


@pytest.mark.parametrize("world_type", [lambda: four_rooms("both"), Stalls], ids=["rooms", "stalls"])
@pytest.mark.parametrize("remembers", [False, True])
def test_worlds_side_by_side_are_answered_like_each_alone(world_type, remembers):
    config = HierarchyConfig(manager=SMALL, worker=SMALL, num_envs=3, worker_remembers=remembers, max_option_steps=4)
    together = HierarchicalAgent.for_world(world_type(), config)
    torch.manual_seed(0)
    for level in (together.manager, together.worker):
        for name, weight in level.online.named_parameters():
            torch.nn.init.normal_(weight, std=0.0 if name.endswith("bias") else 1.0)
    together.explores = False
    alone = [together.greedy() for _ in range(3)]
    worlds, twins = ([world_type() for _ in range(3)] for _ in range(2))
    for seed, (world, twin) in enumerate(zip(worlds, twins, strict=True)):
        world.reset(seed)
        twin.reset(seed)
    options = set()
    for _ in range(25):
        decisions = together.act_all(worlds)
        assert decisions == [agent.act(world) for agent, world in zip(alone, twins, strict=True)]
        options |= set(decisions)
        for place, decision in enumerate(decisions):
            step, same_step = worlds[place].step(*decision), twins[place].step(*decision)
            assert step == same_step
            together.observe(worlds[place], step, place)
            alone[place].observe(twins[place], same_step)
            if step.terminated or step.truncated:
                worlds[place].reset(99)
                twins[place].reset(99)
    assert len(options) > 1


def test_worlds_side_by_side_store_whole_histories_and_share_the_updates():
    "The next observation of a stored step is the same world's: the episodes are told apart by their stamps."
    config = HierarchyConfig(total_steps=240, discount=0.5, num_envs=4, manager=SMALL, worker=SMALL, steps_per_update=3)
    number = iter(range(100))

    class Stamped(Corridor):
        def __init__(self):
            super().__init__()
            self.stamp = next(number)

        def view(self, level, choices):
            view = super().view(level, choices)
            return view._replace(observation=np.array([view.observation[0], level, self.stamp], np.float32))

    agent, reports = finish(train_hierarchy(Stamped, config))
    assert agent.num_steps == 240 and [report.step for report in reports] == [240]
    steps = choices_of(agent.worker)
    assert len(steps) == 240 and {before[2] for before, *_ in steps} == {0.0, 1.0, 2.0, 3.0}
    assert all(before[2] == after[2] for before, after, *_ in (*steps, *choices_of(agent.manager)))
    assert agent.worker.num_updates in range(70, 81)  # 80 less those for which too little was stored


class Whisper:
    "Option 0 hears a side; option 1 comes next, hears nothing, and is paid for that side."

    num_options, num_actions, manager_size, worker_size = 2, 2, 2, 3

    def __init__(self, first_is_free=True):
        self.first_is_free = first_is_free

    def reset(self, seed=None):
        self.side, self.time = int(np.random.default_rng(seed).integers(2)), 0

    def manager_view(self):
        return View(np.eye(2, dtype=np.float32)[self.time % 2], np.arange(2) == self.time % 2)

    def worker_view(self, option):
        heard = np.eye(3, dtype=np.float32)[self.side if option == 0 else 2]
        return View(heard, np.array([True, self.first_is_free or option == 1]))

    def step(self, option, action):
        paid, self.time = float(option == 1 and action == self.side), self.time + 1
        return OptionStep(paid, paid, option_ended=True, terminated=self.time == 2)


@pytest.mark.parametrize("first_is_free", [True, False])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_workers_memory_lives_across_options_if_it_may(first_is_free, remembers):
    "Also through an option in which it had no choice; without that memory half of the answers are right."
    make_env = lambda: Whisper(first_is_free)
    config = HierarchyConfig(
        total_steps=1600 if remembers else 200,
        num_envs=8,
        manager=SMALL,
        worker=replace(SMALL, learning_rate=5e-3),
        worker_exploration=200,
        worker_remembers=remembers,
    )
    agent, _ = finish(train_hierarchy(make_env, config))
    greedy, right = agent.greedy(), []
    for seed in range(40):
        world = make_env()
        world.reset(seed)
        for _ in range(2):
            step = world.step(*greedy.act(world))
            greedy.observe(world, step)
        right.append(step.reward)
    if remembers:
        assert np.mean(right) == 1.0
    else:
        answers = {int(reward == 1.0) ^ int(np.random.default_rng(seed).integers(2)) for seed, reward in enumerate(right)}
        assert len(answers) == 1  # always the same side: it cannot know


def test_each_level_is_a_file_of_its_own(tmp_path):
    config = HierarchyConfig(total_steps=120, manager=SMALL, worker=SMALL, num_envs=2)
    agent, _ = finish(train_hierarchy(Stalls, config, save_dir=tmp_path / "run"))
    agent.save_manager_model(tmp_path / "manager.ckpt")
    agent.save_worker_model(tmp_path / "worker.ckpt")
    other = HierarchicalAgent.for_world(Stalls(), replace(config, seed=5))
    weights = lambda learner: torch.cat([weight.detach().flatten() for weight in learner.online.parameters()])
    assert not torch.equal(weights(other.worker), weights(agent.worker))
    other.load_worker_model(tmp_path / "worker.ckpt")
    assert torch.equal(weights(other.worker), weights(agent.worker)) and not torch.equal(weights(other.manager), weights(agent.manager))
    other.load_manager_model(tmp_path / "manager.ckpt")
    assert torch.equal(weights(other.manager), weights(agent.manager))
    assert all(torch.equal(*pair) for pair in zip(other.worker.target.parameters(), agent.worker.online.parameters(), strict=True))
    loaded = HierarchicalAgent.load(tmp_path / "run")
    assert torch.equal(weights(loaded.worker), weights(agent.worker)) and torch.equal(weights(loaded.manager), weights(agent.manager))
    with pytest.raises(CheckpointError, match="not a manager model"):
        other.load_manager_model(tmp_path / "worker.ckpt")
    blind = HierarchicalAgent.for_world(Corridor(), config)
    with pytest.raises(CheckpointError, match="worker_size is 1 in the file and 3 here"):
        blind.load_worker_model(tmp_path / "worker.ckpt")
    plain = replace(SMALL, layer_norm=False)
    other = HierarchicalAgent.for_world(Stalls(), replace(config, manager=plain, worker=plain))
    before = weights(other.worker), weights(other.manager)
    for load, name in ((other.load_worker_model, "worker"), (other.load_manager_model, "manager")):
        with pytest.raises(CheckpointError, match="layer_norm is True in the file and False here"):
            load(tmp_path / f"{name}.ckpt")
    assert torch.equal(before[0], weights(other.worker)) and torch.equal(before[1], weights(other.manager))
    with pytest.raises(CheckpointError, match="there is no checkpoint of a hierarchical agent here"):
        HierarchicalAgent.load(tmp_path / "nowhere")


def test_small_networks_stay_on_the_cpu_and_unknown_devices_are_refused():
    agent = HierarchicalAgent.for_world(Corridor(), HierarchyConfig(manager=SMALL, worker=SMALL))
    assert agent.worker.device.type == "cpu" and agent.manager.replay.memory.device.type == "cpu"
    with pytest.raises(ValueError, match="device must be auto, cpu"):
        HierarchicalAgent.for_world(Corridor(), HierarchyConfig(manager=SMALL, worker=SMALL, device="abacus"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_and_its_moments_go_on_anywhere(tmp_path):
    config = HierarchyConfig(total_steps=120, manager=SMALL, worker=SMALL, num_envs=2, device="cuda")
    agent, _ = finish(train_hierarchy(Stalls, config, save_dir=tmp_path))
    assert next(agent.worker.online.parameters()).is_cuda
    again, _ = finish(train_hierarchy(Stalls, replace(config, total_steps=160, device="cpu"), save_dir=tmp_path, resume=True))
    assert again.num_steps == 160


# ------------------------------------------------------------------ learning


class Signal:
    "A lamp is lit at the start only; two options later the door of the lamp's side is the right one. Only a memory solves it."

    num_options, num_actions, manager_size, worker_size = 2, 1, 3, 1

    def reset(self, seed=None):
        self.side, self.time = int(np.random.default_rng(seed).integers(2)), 0

    def manager_view(self):
        lamp = (self.side == 0, self.side == 1) if self.time == 0 else (0, 0)
        return View(np.array([*lamp, self.time / 3], np.float32), np.ones(2, bool))

    def worker_view(self, option):
        return View(np.zeros(1, np.float32), np.ones(1, bool))

    def step(self, option, action):
        self.time += 1
        right = self.time == 3 and option == self.side
        return OptionStep(float(right), 0.0, True, terminated=self.time == 3)


def test_the_manager_remembers_across_options():
    learner = RecurrentQConfig(hidden=24, batch_size=32, unroll=3, burn_in=0, learning_rate=5e-3)
    config = HierarchyConfig(
        total_steps=2400, discount=0.9, manager=learner, worker=SMALL, manager_exploration=900, manager_epsilon=0.05, steps_per_update=3
    )
    agent, _ = finish(train_hierarchy(Signal, config))
    greedy, world, won = agent.greedy(), Signal(), 0.0
    for episode in range(40):
        world.reset(episode)
        for _ in range(3):
            step = world.step(*greedy.act(world))
            greedy.observe(world, step)
            won += step.reward
    assert won == 40, f"{won} of 40; without memory 20 are expected"


class Lane(gymnasium.Env):
    "Walk to the right end of a lane, which pays 1."

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length, self.observation_space = length, gymnasium.spaces.Discrete(length)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return self.cell, {}

    def step(self, action):
        self.cell = min(max(self.cell + (1 if action else -1), 0), self.length - 1)
        over = self.cell == self.length - 1
        return self.cell, float(over), over, False, {}


def lane_with_a_walk(length: int) -> GymnasiumOptions:
    "A walk to the end, then the two single moves."
    walk = Option("to the end", ends=lambda cell: cell == length - 1, actions=(1,))
    return GymnasiumOptions(Lane(length), [walk, *primitive_options(2)])


def test_single_moves_learn_from_the_walks_that_contain_them():
    "Only the walk is ever chosen, yet the values of the move to the right become those of the table; without `learn_moves` they do not."
    exact, errors = 0.9 ** np.arange(4, -1, -1), {}
    for learn_moves in (True, False):
        manager = replace(SMALL, hidden=24, batch_size=24, learning_rate=5e-3)
        config = HierarchyConfig(
            total_steps=200,
            manager=manager,
            worker=SMALL,
            steps_per_update=10_000,
            manager_exploration=1,
            manager_epsilon=0.0,
            learn_moves=learn_moves,
        )
        agent = only_walks(config, lane_with_a_walk(6))
        finish(train_hierarchy(lambda: lane_with_a_walk(6), config, agent=agent))
        assert agent.option_counts[1:].sum() == 0
        set_value_of_walk(agent, 0.0)
        for _ in range(250):
            agent.manager.learn()
        state = agent.manager.online.initial_state()
        found = np.array([agent.manager.values(np.eye(6, dtype=np.float32)[cell], state)[0][2] for cell in range(5)])
        errors[learn_moves] = np.abs(found - exact).sum() / exact.sum()
    assert errors[True] < 0.05 < 0.2 < errors[False], errors


def only_walks(config: HierarchyConfig, world: GymnasiumOptions) -> HierarchicalAgent:
    "An agent that has done exploring and thinks highly of the first option."
    agent = HierarchicalAgent.for_world(world, config)
    agent.option_counts[0] = 1
    set_value_of_walk(agent, 100.0)
    return agent


def set_value_of_walk(agent: HierarchicalAgent, value: float) -> None:
    "Move what the manager expects of the first option everywhere."
    for network in (agent.manager.online, agent.manager.target):
        head: Any = network.head
        head[2].bias.data[0] = value


def test_moves_inside_walks_are_remembered_once_and_as_they_were():
    config = HierarchyConfig(
        total_steps=600,
        manager=SMALL,
        worker=SMALL,
        steps_per_update=10_000,
        manager_exploration=1,
        manager_epsilon=0.0,
        max_option_steps=9,
        learn_lessons=False,
    )
    goal = NUMBER[1, 3]  # in the room of the start
    agent, _ = finish(train_hierarchy(lambda: four_rooms("both", goal, NUMBER[1, 1]), config))
    cell = lambda observation: int(np.argmax(observation[: len(CELLS)]))
    stored = {}
    for level, learner in (("manager", agent.manager), ("worker", agent.worker)):
        rows, stored[level] = learner.replay.memory.storage.read(np.arange(len(learner.replay))), Counter()
        for row in range(len(rows["mask"])):
            for place in SMALL.burn_in + np.flatnonzero(rows["mask"][row]):
                choice = int(rows["choice"][row, place])
                if level == "manager" and choice < 8: continue
                before, after = (cell(rows["observation"][row, place + later]) for later in (0, 1))
                stored[level][before, choice % 4, after] += 1
                if level == "manager":
                    reward, discount = float(rows["reward"][row, place]), float(rows["discount"][row, place])
                    assert (reward, round(discount, 6)) == ((1.0, 0.0) if after == goal else (0.0, 0.9))
    assert agent.option_counts[8:].sum() <= 1 and agent.num_episodes > 0
    surplus = stored["manager"] - stored["worker"]  # a move that was chosen by itself, at the beginning
    assert not stored["worker"] - stored["manager"] and sum(surplus.values()) == agent.option_counts[8:].sum()


def test_the_memory_of_a_long_walk_goes_on_as_if_every_move_had_been_chosen():
    config = HierarchyConfig(
        total_steps=11,
        manager=SMALL,
        worker=SMALL,
        memory=True,
        steps_per_update=10_000,
        manager_exploration=1,
        manager_epsilon=0.0,
    )
    world = lane_with_a_walk(12)
    agent = only_walks(config, world)
    for weight in agent.manager.online.memory.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    finish(train_hierarchy(lambda: world, config, agent=agent))
    rows = agent.manager.replay.memory.storage.read(np.arange(len(agent.manager.replay)))
    walks = [row for row in range(len(rows["mask"])) if rows["choice"][row, SMALL.burn_in] == 2]
    assert [int(rows["mask"][row].sum()) for row in walks] == [4, 4, 3]
    lane = torch.eye(12)[None]
    for row, begin in zip(walks, (0, 4, 8), strict=True):
        assert rows["observation"][row, SMALL.burn_in].argmax() == begin
        with torch.no_grad():
            true = agent.manager.online(lane[:, :begin], agent.manager.online.initial_state())[1][0] if begin else torch.zeros(2, 16)
        assert torch.allclose(torch.as_tensor(rows["state_0"][row]), true, atol=1e-6)
    assert bool(rows["terminated"][walks[-1], SMALL.burn_in + 2]) and not rows["terminated"][walks[:-1]].any()


def test_both_levels_remember_nothing_where_the_world_is_fully_observed(tmp_path):
    "By default: a number of the state says all, other observations may not. What is asked for holds, in files too."
    config = HierarchyConfig(total_steps=40, manager=SMALL, worker=SMALL)
    moves, lane = primitive_options(2), lambda: lane_with_a_walk(5)
    told = lambda world, **changes: HierarchicalAgent.for_world(world, replace(config, **changes)).memory
    assert not told(lane()) and not told(GuardedWorld(lane)) and told(GymnasiumOptions(gymnasium.make("CartPole-v1"), moves))
    assert told(GymnasiumOptions(Lane(5), moves, fully_observed=False)) and told(lane(), memory=True)
    assert told(lane(), worker_remembers=True) and told(Corridor())  # which says nothing of it
    with pytest.raises(ValueError, match="worker_remembers needs memory"):
        HierarchyConfig(worker_remembers=True, memory=False)

    agent, _ = finish(train_hierarchy(lane, config, save_dir=tmp_path / "run"))
    for weight in agent.manager.online.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    states = torch.zeros(1, 2, 16), torch.randn(1, 2, 16)
    world = lane()
    world.reset(0)
    seen = [agent.manager.values(world.manager_view().observation, state) for state in states]
    assert np.array_equal(seen[0][0], seen[1][0]) and all(torch.equal(after, state) for (_, after), state in zip(seen, states, strict=True))

    kept = HierarchicalAgent.load(tmp_path / "run")
    assert not kept.memory and play(kept, lane(), seed=0).length > 0
    kept.save_manager_model(tmp_path / "manager.ckpt")
    remembering = HierarchicalAgent.for_world(lane(), replace(config, memory=True))
    with pytest.raises(CheckpointError, match="memory is False in the file and True here"):
        remembering.load_manager_model(tmp_path / "manager.ckpt")
    with pytest.raises(ValueError, match="memory belongs to the agent: it has True, the configuration False"):
        remembering.adopt(replace(config, memory=False))
    with pytest.raises(CheckpointError, match="memory"):
        finish(train_hierarchy(lane, replace(config, total_steps=60, memory=True), save_dir=tmp_path / "run", resume=True))
    hidden = lambda: GymnasiumOptions(Lane(5), [*lane().options], fully_observed=False)
    with pytest.raises(CheckpointError, match="memory was False and is True now"):
        finish(train_hierarchy(hidden, replace(config, total_steps=60), save_dir=tmp_path / "run", resume=True))


def test_an_lstm_manager_finds_the_exact_option_values():
    right = np.zeros((6, 6))
    for cell in range(6):
        right[cell, min(cell + 1, 5)] = 1.0
    left = np.roll(np.eye(6), -1, 1)
    left = np.array([[float(other == max(cell - 1, 0)) for other in range(6)] for cell in range(6)])
    goal = np.arange(6) == 5
    task = TabularTask(np.stack([left, right]), goal.astype(float), goal, 0.9)

    class Walk(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Discrete(6), gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.cell = int(self.np_random.integers(5))
            return self.cell, {}

        def step(self, action):
            self.cell = min(max(self.cell + (1 if action else -1), 0), 5)
            return self.cell, float(self.cell == 5), self.cell == 5, False, {}

    from lightbulb.rl.options import TabularOption

    two = Option("two to the right", ends=lambda cell: cell in (0, 2, 4), actions=(1,))
    tables = [TabularOption(np.ones(6, bool), np.tile(np.eye(2)[action], (6, 1)), np.ones(6)) for action in (0, 1)]
    tables.append(TabularOption(np.ones(6, bool), np.tile(np.eye(2)[1], (6, 1)), np.array([1.0, 0, 1, 0, 1, 0])))
    exact = option_values(task, tables)
    learner = RecurrentQConfig(hidden=24, batch_size=24, unroll=4, burn_in=2, learning_rate=5e-3)
    config = HierarchyConfig(total_steps=2400, discount=0.9, manager=learner, worker=SMALL, memory=True, manager_epsilon=0.5)
    agent, _ = finish(train_hierarchy(lambda: GymnasiumOptions(Walk(), [*primitive_options(2), two]), config))
    greedy = agent.manager.values
    found = np.stack([greedy(np.eye(6, dtype=np.float32)[cell], agent.manager.online.initial_state())[0] for cell in range(5)])
    assert np.abs(found - exact[:5]).sum() / exact[:5].sum() < 0.05, np.round(found - exact[:5], 3)


def test_any_gymnasium_environment_is_a_world_of_single_moves():
    agent, reports = finish(train_hierarchy("CartPole-v1", HierarchyConfig(total_steps=200, manager=SMALL, report_interval=100)))
    assert Counter(agent.option_counts > 0) == {True: 2} and len(agent.worker.replay) == 0  # one open action: the worker is not asked
    assert [report.step for report in reports] == [100, 200] and reports[-1].metrics["option_length"] == 1.0


class Tilt(gymnasium.Env):
    "Actions are -1, 0 and 1; only the first one pays."

    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(3, start=-1)

    def __init__(self):
        self.taken = []

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        self.taken.append(action)
        return len(self.taken) % 2, float(action == -1), len(self.taken) % 6 == 0, False, {}


def test_actions_that_do_not_start_at_zero_are_all_taken():
    tilt = Tilt()
    agent, _ = finish(train_hierarchy(lambda: tilt, HierarchyConfig(total_steps=60, manager=SMALL, worker=SMALL)))
    assert set(tilt.taken) == {-1, 0, 1} and agent.num_actions == 3
    world = GymnasiumOptions(tilt, primitive_options(3))
    world.reset()
    assert [world.step(number, number).reward for number in range(3)] == [1.0, 0.0, 0.0] and tilt.taken[-3:] == [-1, 0, 1]


def test_a_plain_environment_is_played_and_what_is_no_maker_or_not_the_agents_is_refused():
    agent, _ = finish(train_hierarchy("CartPole-v1", HierarchyConfig(total_steps=60, manager=SMALL)))
    one = gymnasium.make("CartPole-v1")
    assert play(agent, one, seed=1) == play(agent, "CartPole-v1", seed=1) == play(agent, GuardedWorld("CartPole-v1"), seed=1)
    with pytest.raises(ValueError, match="num_options must be the agent's, 2, got 4"):
        play(agent, "FrozenLake-v1")
    with pytest.raises(ValueError, match="a function that makes a world, got the environment"):
        finish(train_hierarchy(one, HierarchyConfig()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="make_env must make a new world at each call, got the same one again"):
        finish(train_hierarchy(lambda: one, HierarchyConfig(num_envs=2)))


@pytest.mark.parametrize("outside", [-1, 2])
def test_an_observation_outside_its_space_is_named(outside, monkeypatch):
    monkeypatch.setattr(Tilt, "step", lambda self, action: (outside, 0.0, False, False, {}))
    with pytest.raises(EnvironmentFailure, match=f"must be in its space Discrete\\(2\\), got {outside}"):
        finish(train_hierarchy(Tilt, HierarchyConfig(total_steps=60, manager=SMALL)))


class Doors(gymnasium.Env):
    "Every step closes two of four actions, in `info` or in the observation; a closed one raises."

    action_space = spaces.Discrete(4)

    def __init__(self, in_info=True):
        self.in_info, numbers = in_info, spaces.Box(0, 9, (1,), np.float32)
        self.observation_space = numbers if in_info else spaces.Dict(count=numbers, action_mask=spaces.MultiBinary(4))

    def look(self):
        self.mask = np.isin(np.arange(4), [self.count % 4, (self.count + 1) % 4]).astype(np.int8)
        numbers = np.array([self.count], np.float32)
        return (numbers, {"action_mask": self.mask}) if self.in_info else ({"count": numbers, "action_mask": self.mask}, {})

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return self.look()

    def step(self, action):
        assert self.mask[action], "a closed action was taken"
        self.count += 1
        shown, info = self.look()
        return shown, 1.0, False, self.count == 9, info


@pytest.mark.parametrize("in_info", [True, False])
def test_what_a_mask_closes_is_closed_to_both_levels(in_info):
    pair, walk = Option("0 or 1", ends=lambda observation: False, actions=(0, 1)), Option("3", actions=(3,), policy=lambda observation: 3)
    make = lambda: GymnasiumOptions(Doors(in_info), [*primitive_options(4), pair, walk])
    world = make()
    world.reset()
    assert world.manager_view().available.tolist() == [True, True, False, False, True, False]
    assert np.flatnonzero(world.worker_view(4).available).tolist() == [0, 1]
    assert not world.step(4, 1).option_ended and np.flatnonzero(world.worker_view(4).available).tolist() == [1]
    assert world.step(4, 1).option_ended and not world.worker_view(4).available.any()  # 2 and 3 are open
    config = HierarchyConfig(total_steps=120, manager=SMALL, worker=SMALL, report_interval=60)
    for make_env in (make, lambda: Doors(in_info)):
        agent, reports = finish(train_hierarchy(make_env, config))
        assert agent.num_steps == 120 and np.isfinite(reports[-1].metrics["manager_loss"])
        assert all(np.isfinite(value) for report in reports for value in report.metrics.values())
    with pytest.raises(ValueError, match="an action_mask must hold 3 numbers, got the shape \\(4,\\)"):
        doors = Doors(in_info)
        doors.action_space = spaces.Discrete(3)
        GymnasiumOptions(doors, primitive_options(3)).reset()


def test_models_and_configs_refuse_nonsense():
    for wrong, rule in (
        ({"discount": 1.5}, "discount must be between 0 and 1, got 1.5"),
        ({"max_option_steps": 0}, "max_option_steps must be positive"),
        ({"repeat_exponent": 0.5}, "repeat_exponent must be 0 or above 1"),
        ({"seed": -1}, "seed must be between 0"),
        ({"save_every": -1.0}, "save_every must not be negative, got -1.0"),
    ):
        with pytest.raises(ValueError, match=rule):
            HierarchyConfig(**wrong)
    with pytest.raises(ValueError, match="burn_in must be between 0 and unroll 4, got 5"):
        replace(SMALL, burn_in=5)
    for name, number in (("alpha", -1.0), ("alpha", math.nan), ("beta", 2.0), ("max_grad_norm", math.inf)):
        with pytest.raises(ValueError, match=f"{name} must .*, got {number}"):
            replace(SMALL, **{name: number})
    with pytest.raises(ValueError, match="num_choices must be positive, got 0"):
        ManagerModel(3, 0)
    with pytest.raises(ValueError, match="got int"):
        finish(train_hierarchy(lambda: 3, HierarchyConfig()))
    head: Any = WorkerModel(2, 3, 4).head
    assert head[-1].out_features == 12
