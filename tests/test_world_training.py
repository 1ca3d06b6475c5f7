"""A world model's run: held-out games, resume bit for bit, what plays and what is kept, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightbulb.apps.world_commands import _show_game
from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.core.errors import CheckpointError, LightbulbError
from lightbulb.core.report import MetricsFile
from lightbulb.core.run_folder import find_model_file
from lightbulb.rl.vector_environments import EnvironmentFailure
from lightbulb.world.configuration import REGULARISERS, LossShares, TrainWorldModel
from lightbulb.world.evaluation import quality
from lightbulb.world.networks import WorldModel
from lightbulb.world.training import WorldModelTraining, load_world_model, train_world_model

EVERYTHING = LossShares(**dict.fromkeys(REGULARISERS, 0.1))


@pytest.fixture
def tiny(tmp_path: Path) -> TrainWorldModel:
    return TrainWorldModel(
        save_dir=tmp_path,
        device="cpu",
        environment="tic_tac_toe",
        num_epochs=2,
        steps_per_epoch=8,
        random_games=60,
        width=16,
        hidden=32,
        batch_size=1,
        accumulation_steps=2,
        first_play=4,
        play_interval=2,
        renewed_positions=64,
        games_per_play=8,
        capacity=600,
        mcts_algorithm="gumbel",
        mcts_iterations=4,
    )


def weights(model: WorldModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    ("environment", "losses"), [("tic_tac_toe", EVERYTHING), ("FrozenLake-v1", LossShares()), ("connect_four:4x4", LossShares())]
)
@pytest.mark.parametrize("stop", [3, 8, 11])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tiny: TrainWorldModel, environment: str, losses: LossShares, stop: int) -> None:
    is_board = environment.startswith("connect_four")  # which a mirror and a beginning anywhere are for
    tiny = replace(tiny, environment=environment, losses=losses, mirror=is_board, anywhere=0.5 * is_board)
    whole = [report for report in train_world_model(replace(tiny, save_dir=tiny.save_dir / "whole"))]
    stopped = replace(tiny, save_dir=tiny.save_dir / "stopped")
    reports = train_world_model(stopped)
    for _ in range(stop + stop // 9):
        next(reports)  # evaluations are reports too
    reports.close()
    rest = list(train_world_model(replace(stopped, resume=True)))
    same = lambda report: {name: value for name, value in report.as_row().items() if name != "tokens_per_second"}
    assert [same(report) for report in rest] == [same(report) for report in whole[len(whole) - len(rest) :]]
    assert len(rest) >= 16 - stop
    assert torch.equal(weights(load_world_model(tiny.save_dir / "whole").model), weights(load_world_model(stopped.save_dir).model))
    steps = [row["step"] for row in MetricsFile(stopped.folder / "metrics.jsonl").read() if row["split"] == "train"]
    assert steps == list(range(1, 17))


def test_a_mirror_changes_what_is_learned_and_not_what_is_remembered(tiny: TrainWorldModel) -> None:
    runs = [WorldModelTraining(replace(tiny, environment="connect_four:4x4", first_play=8, mirror=mirror)) for mirror in (False, True)]
    for run in runs:
        run.prepare()
        run.train_step()
    one, other = (run.practice.learned.read(np.arange(len(run.practice.learned))).rows() for run in runs)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not torch.equal(weights(runs[0].model), weights(runs[1].model))


def test_held_out_games_are_whole_and_never_learned_from(tiny: TrainWorldModel) -> None:
    run = WorldModelTraining(replace(tiny, validation_share=0.25, capacity=5000))
    run.prepare()
    for _ in range(8):
        run.train_step()
    ends = lambda experience: experience.read(np.arange(len(experience))).terminated.sum()
    assert ends(run.practice.held) + ends(run.practice.learned) == run.practice.num_games == 60 + 2 * 8
    assert 8 <= ends(run.practice.held) <= 35
    held = run.practice.held.read(np.arange(len(run.practice.held)))
    assert (held.observation[np.append(True, held.terminated[:-1])].sum((1, 2, 3)) == 0).all()  # each begins with an empty board
    without = WorldModelTraining(replace(tiny, validation_share=0.0))
    without.prepare()
    assert not len(without.practice.held) and without.evaluate().loss is None


def test_games_that_come_one_by_one_are_split_too_and_the_first_is_learned_from(tiny: TrainWorldModel) -> None:
    one_by_one = WorldModelTraining(replace(tiny, games_per_play=1, validation_share=0.5, capacity=5000))
    one_by_one.prepare()
    held = one_by_one.practice.held
    assert 20 <= held.read(np.arange(len(held))).terminated.sum() <= 40  # of 60
    single = replace(tiny, random_games=1, num_epochs=1, first_play=2)
    assert [report.step for report in train_world_model(single) if report.split == "validation" and report.loss is not None] == [8]


def test_the_average_plays_and_an_evaluation_leaves_no_trace_in_training(tiny: TrainWorldModel) -> None:
    runs = [WorldModelTraining(tiny) for _ in range(2)]
    for run in runs:
        run.prepare()
    for step in range(12):
        for number, run in enumerate(runs):
            run.train_step()
            if number and step % 3 == 0:
                run.evaluate()
    assert torch.equal(weights(runs[0].model), weights(runs[1].model))
    runs[0].renew_player()
    assert runs[0].average is not None
    average = torch.cat([weight.flatten() for weight in runs[0].average.weights.values()])
    assert torch.equal(weights(runs[0].player), average) and not torch.equal(average, weights(runs[0].model))
    newest = WorldModelTraining(replace(tiny, average_decay=0.0))
    newest.prepare()
    newest.train_step()
    newest.renew_player()
    assert torch.equal(weights(newest.player), weights(newest.model))


def test_every_loss_moves_the_weights(tiny: TrainWorldModel) -> None:
    def moved(losses: LossShares) -> torch.Tensor:
        run = WorldModelTraining(replace(tiny, losses=losses, accumulation_steps=1, first_play=0))
        run.prepare()
        for _ in range(3):
            run.train_step()
        return weights(run.model)

    plain = moved(LossShares())
    for name in REGULARISERS:
        assert not torch.equal(plain, moved(replace(LossShares(), **{name: 0.5}))), name
    for name in ("policy_value", "reward", "ending", "legality", "observation", "dynamics"):
        assert not torch.equal(plain, moved(LossShares().without(name))), name


def test_a_world_of_one_action_is_learned(tiny: TrainWorldModel) -> None:
    class OneWay(gymnasium.Env):
        observation_space, action_space, place = spaces.Discrete(4), spaces.Discrete(1), 0

        def reset(self, *, seed=None, options=None):
            self.place = 0
            return 0, {}

        def step(self, action):
            self.place += 1
            return self.place, 1.0, self.place == 3, False, {}

    gymnasium.register("OneWay-v0", OneWay, disable_env_checker=True)
    reports = list(train_world_model(replace(tiny, environment="OneWay-v0")))
    assert reports[-1].metrics["search_return"] == 3 and "action_diversity" not in reports[-1].metrics


def test_a_game_larger_than_the_memory_keeps_its_end(tiny: TrainWorldModel) -> None:
    run = WorldModelTraining(replace(tiny, environment="CliffWalking-v1", capacity=50, random_games=4))
    run.prepare()
    kept = run.practice.learned.read(np.arange(50))
    assert len(run.practice.learned) == 50 and (kept.terminated | kept.truncated)[-1]


def test_a_policy_alone_learns_by_ppo(tiny: TrainWorldModel) -> None:
    with pytest.raises(ValueError, match="losses.ppo must be positive"):
        replace(tiny, with_search=False)
    alone = replace(tiny, with_search=False, losses=LossShares(ppo=1.0), return_steps=3)
    reports = list(train_world_model(alone))
    assert "ppo" in reports[8].metrics and "search_optimal" in reports[-1].metrics
    full = WorldModelTraining(replace(alone, environment="Taxi-v4", capacity=600, first_play=1))  # before its random games are all played
    full.prepare()
    assert full.practice.num_games < full.config.random_games and full.practice.newest_rollout("train") is None
    assert ["ppo" in full.train_step().metrics for _ in range(2)] == [False, True]
    assert full.practice.num_games < full.config.random_games


def test_a_board_too_large_to_be_solved_is_judged_against_random_play(tiny: TrainWorldModel) -> None:
    run = WorldModelTraining(replace(tiny, environment="connect_four:8x8"))
    found = quality(run.player, run.world, run.config.search(with_noise=False), exam=run.exam, num_games=2)
    assert found.keys() == {"search_score_against_random", "policy_score_against_random"}


class Endless(gymnasium.Env):
    "Pays 1 a step and never ends."

    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    num_open = 0

    def __init__(self) -> None:
        Endless.num_open += 1

    def close(self) -> None:
        Endless.num_open -= 1

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.full(2, 0.5, np.float32), 1.0, False, False, {}


gymnasium.register("Endless-v0", Endless, disable_env_checker=True)


class Shop(gymnasium.Env):
    "Shows a picture of octets; selling pays in thousands, and in tens of thousands once the shop is known."

    observation_space, action_space = spaces.Box(0, 255, (6, 6, 1), np.uint8), spaces.Discrete(2)
    gain = 3000.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.num_days = 0
        return np.full((6, 6, 1), 255, np.uint8), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.num_days += 1
        return np.full((6, 6, 1), 51 * self.num_days, np.uint8), Shop.gain * (action or -0.5), self.num_days == 3, False, {}


gymnasium.register("Shop-v0", Shop, disable_env_checker=True)


def test_the_heads_reach_what_a_world_pays_and_the_checkpoint_keeps_their_ranges(
    tiny: TrainWorldModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop, ranges = replace(tiny, environment="Shop-v0"), lambda model: (model.config.reward_range, model.config.value_range)
    run = WorldModelTraining(shop)
    run.prepare()
    lowest, highest = -1500 * (1 + 0.99 + 0.99**2), 3000 * (1 + 0.99 + 0.99**2)
    assert ranges(run.model)[0] == (-3000.0, 6000.0) and ranges(run.model)[1] == pytest.approx((2 * lowest, 2 * highest))
    far = torch.tensor([-1500.0, 3000.0])
    assert torch.allclose(run.model.rewards.decode(run.model.rewards.encode(far).log()), far, rtol=1e-4)
    assert torch.equal(run.model.rewards.bins, run.player.rewards.bins) and not caplog.records
    for _ in range(5):
        run.train_step()
    monkeypatch.setattr(Shop, "gain", 30_000.0)
    run.train_step()
    run.train_step()
    assert ranges(run.model)[0] == ranges(run.player)[0] == (-30_000.0, 60_000.0) and "are widened" in caplog.text

    monkeypatch.setattr(Shop, "gain", 3000.0)
    reports = train_world_model(shop)
    for _ in range(3):
        next(reports)
    reports.close()
    kept = load_world_model(tiny.save_dir).model
    assert ranges(kept)[0] == (-3000.0, 6000.0) and float(kept.values.bins[0]) == pytest.approx(2 * lowest)
    assert list(train_world_model(replace(shop, resume=True)))[-1].step == 16
    assert ranges(load_world_model(tiny.save_dir).model) == ranges(kept)
    inside = WorldModelTraining(replace(tiny, environment="CartPole-v1"))
    inside.prepare()
    assert ranges(inside.model) == ((-100.0, 100.0), (-300.0, 300.0))  # as they were


def test_octets_are_scaled_and_a_model_of_before_sees_them_as_it_did(tiny: TrainWorldModel) -> None:
    shop = replace(tiny, environment="Shop-v0", num_epochs=1)
    list(train_world_model(shop))
    trained, file = load_world_model(tiny.save_dir), find_model_file(shop.folder, "world model")
    assert trained.world.observe(trained.world.reset(2, 0)).max() == 1.0
    state = load_checkpoint(file)
    del state["observation_scale"]
    save_checkpoint(tiny.save_dir / "before.ckpt", state)
    before = load_world_model(tiny.save_dir / "before.ckpt").world
    assert before.observe(before.reset(2, 0)).max() == 255.0


class Odometer(gymnasium.Env):
    "Numbers without bounds, in the thousands, and in every second step one action alone, which the observation says."

    observation_space = spaces.Dict(counts=spaces.Box(-np.inf, np.inf, (2,), np.float64), action_mask=spaces.MultiBinary(2))
    action_space = spaces.Discrete(2)

    def look(self) -> tuple[dict, dict]:
        self.mask = np.array([self.num_steps % 2, 1], np.int8)
        return {"counts": np.array([-2000.0 * self.num_steps, 0.5]), "action_mask": self.mask}, {}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.num_steps = 0
        return self.look()

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        assert self.mask[action], "a closed action was taken"
        self.num_steps += 1
        shown, info = self.look()
        return shown, float(action), self.num_steps == 4, False, info


gymnasium.register("Odometer-v0", Odometer, disable_env_checker=True)


def test_large_numbers_without_bounds_are_scaled_and_a_mask_in_the_observation_is_heeded(tiny: TrainWorldModel) -> None:
    odometer = replace(tiny, environment="Odometer-v0", num_epochs=1)
    report = list(train_world_model(odometer))[-1]
    assert report.metrics["observation"] < 1 and report.metrics["search_return"] <= 4
    trained = load_world_model(tiny.save_dir)
    assert (
        trained.world.observation_scale == pytest.approx([1 / 6000, 1, 1, 1]) and not trained.world.legal(trained.world.reset(1, 0))[0, 0]
    )
    resumed = list(train_world_model(replace(odometer, resume=True, num_epochs=2)))
    assert resumed[-1].step == 16 and load_world_model(tiny.save_dir).world.observation_scale == pytest.approx([1 / 6000, 1, 1, 1])


class Breaking(Shop):
    "Loses a number of its observation at one step of all its copies."

    observation_space = spaces.Box(-1, 1, (2, 20))
    breaks_at = num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros((2, 20), np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        Breaking.num_steps += 1
        seen = np.zeros((2, 20), np.float32)
        seen[1, 3] = np.nan if Breaking.num_steps == Breaking.breaks_at else 0.0
        return seen, *super().step(action)[1:]


gymnasium.register("Breaking-v0", Breaking, disable_env_checker=True)


def test_an_environment_that_breaks_in_a_play_loses_nothing_that_was_learned(
    tiny: TrainWorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = replace(tiny, environment="Breaking-v0", first_play=6)
    monkeypatch.setattr(Breaking, "breaks_at", 3 * (breaking.random_games + 2))  # in the first play
    monkeypatch.setattr(Breaking, "num_steps", 0)
    with pytest.raises(EnvironmentFailure, match=r"an observation must be finite, got nan at \[1, 3\]") as failure:
        list(train_world_model(breaking))
    assert len(str(failure.value).splitlines()) == 1
    steps = [report.step for report in train_world_model(replace(breaking, resume=True)) if report.split == "train"]
    assert steps == list(range(7, 17))


def test_games_are_cut_in_an_evaluation_too_and_their_copies_used_again(tiny: TrainWorldModel) -> None:
    run = WorldModelTraining(replace(tiny, environment="Endless-v0", max_moves=7, games_per_play=50, random_games=50, first_play=0))
    run.prepare()
    run.train_step()
    metrics = run.evaluate().metrics
    assert (metrics["search_return"], metrics["policy_return"]) == (7.0, 7.0)
    assert run.practice.learned.read(np.arange(len(run.practice.learned))).truncated.any()
    assert len(run.world.games.copies) == 51  # a search was prepared in one
    spoken = list(_show_game(run.player, run.world, run.config.search(with_noise=False), seed=0, max_moves=7))
    assert spoken[-1] == "the time limit after 7 moves, 7 earned"


def test_a_run_closes_its_environments_however_it_ends(tiny: TrainWorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endless, "num_open", 0)
    endless = replace(tiny, environment="Endless-v0", max_moves=7, random_games=9, num_epochs=1, steps_per_epoch=2)
    list(train_world_model(endless))
    assert Endless.num_open == 0
    reports = train_world_model(replace(endless, save_dir=tiny.save_dir / "closed"))
    next(reports)
    assert Endless.num_open > 0
    reports.close()
    assert Endless.num_open == 0


def test_a_new_run_sets_the_old_one_aside_and_a_checkpoint_says_what_it_is(tiny: TrainWorldModel) -> None:
    list(train_world_model(tiny))
    first = weights(load_world_model(tiny.save_dir).model)
    list(train_world_model(replace(tiny, seed=1)))
    assert torch.equal(first, weights(load_world_model(tiny.save_dir / "world_model_001").model))
    trained = load_world_model(tiny.folder / "epoch_002")
    assert trained.settings.seed == 1 and trained.world.num_actions == 9
    assert torch.equal(weights(trained.model), weights(load_world_model(tiny.folder).model))


def test_what_cannot_be_resumed_or_loaded_is_one_line(tiny: TrainWorldModel) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        next(train_world_model(replace(tiny, resume=True)))
    running = train_world_model(tiny)
    next(running)
    running.close()
    with pytest.raises(CheckpointError, match="environment was tic_tac_toe and is connect_four:4x4 now"):
        next(train_world_model(replace(tiny, resume=True, environment="connect_four:4x4")))
    with pytest.raises(CheckpointError, match="losses was"):
        next(train_world_model(replace(tiny, resume=True, losses=LossShares(kl=1.0))))
    file = tiny.folder / "epoch_000_step_000001" / "model.ckpt"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        load_world_model(tiny.save_dir)
    with pytest.raises(LightbulbError, match="lower learning_rate"):
        list(train_world_model(replace(tiny, save_dir=tiny.save_dir / "wild", learning_rate=1e12)))
    with pytest.raises(ValueError, match="precision float16 needs a GPU"):
        WorldModelTraining(replace(tiny, precision="float16"))


def test_memory_that_runs_out_names_what_to_lower(tiny: TrainWorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lightbulb.world.training.sample_windows", starve)
    with pytest.raises(LightbulbError, match="lower batch_size \\(now 1\\) or capacity \\(now 600\\)"):
        list(train_world_model(tiny))


def test_bfloat16_trains(tiny: TrainWorldModel) -> None:
    reports = list(train_world_model(replace(tiny, precision="bfloat16", num_epochs=1)))
    assert reports[-1].split == "validation" and np.isfinite(reports[-1].loss or np.nan)


def test_ctrl_c_keeps_everything_that_was_learned(tiny: TrainWorldModel) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom lightbulb.world.training import *\n"
        f"settings = TrainWorldModel(save_dir=Path({str(tiny.save_dir)!r}), device='cpu', environment='tic_tac_toe', num_epochs=50, "
        "steps_per_epoch=1000, random_games=20,\n"
        "    width=16, hidden=32, batch_size=1, accumulation_steps=1, mcts_algorithm='gumbel', mcts_iterations=4)\n"
        "for report in train_world_model(settings): print(report.step, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 5: break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    kept = [place.name for place in tiny.folder.glob("epoch_000_step_*")]
    assert len(kept) == 1 and int(kept[0].rsplit("_", 1)[1]) >= 5
    assert load_world_model(tiny.save_dir).settings.num_epochs == TrainWorldModel(environment="tic_tac_toe").num_epochs
