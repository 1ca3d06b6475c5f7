"A world model's networks: numbers as distributions, what a search asks of them, and a model that knows a game and plans like its rules."

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightbulb.core.checkpoint import load_checkpoint, save_checkpoint
from lightbulb.planning.mcts import MCTS, MCTSConfig
from lightbulb.planning.plain_search import PlainSearch, plain_choice
from lightbulb.world.board_games import Solution, TicTacToe
from lightbulb.world.networks import (
    CategoricalValue,
    Imagined,
    LatentPrediction,
    RecurrentWorldModel,
    WorldModel,
    WorldModelConfig,
    _invert_transform,
    _transform_value,
)

BATCH = 6


class Vivid(nn.Module):
    "Stronger opinions than fresh weights have."

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, latents: Tensor) -> LatentPrediction:
        policy, legality, value = self.inner(latents)
        return LatentPrediction(3 * policy, 5 * legality + 0.7, 3 * value)


class VividModel(WorldModel):
    "A model that was not trained, but in whose imagination some actions seem illegal and some steps the end."

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config)
        self.prediction = Vivid(self.prediction)

    def imagine(self, latents: Tensor, actions: Tensor) -> Imagined:
        found = super().imagine(latents, actions)
        return Imagined(found.latents, 3 * found.reward_logits, 5 * found.ending_logits - 1.5)


def random_model(num_players: int = 1, seed: int = 0, **changes) -> WorldModel:
    "In float64, so that no order of additions decides a tie."
    torch.manual_seed(seed)
    model = VividModel(
        WorldModelConfig((2, 3), num_actions=4, num_players=num_players, width=8, hidden=16, discount=0.9, **changes)
    ).double()
    for numbers in (model.rewards, model.values):
        numbers.float()  # they speak float32
    return model.eval()


def some_latents(model: WorldModel, count: int = BATCH, seed: int = 1) -> Tensor:
    return model.representation(torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *model.config.observation_shape))))


# ------------------------------------------------------------------ numbers as distributions


@given(st.floats(-1e6, 1e6))
def test_the_transform_is_its_formula_and_can_be_inverted(value: float) -> None:
    squashed = float(_transform_value(torch.tensor(value, dtype=torch.float64)))
    assert squashed == pytest.approx(math.copysign(math.sqrt(abs(value) + 1) - 1, value) + 0.001 * value, abs=1e-9)
    assert float(_invert_transform(torch.tensor(squashed, dtype=torch.float64))) == pytest.approx(value, rel=1e-6, abs=1e-7)


@settings(deadline=None)
@given(st.floats(-250, 250), st.integers(2, 60))
def test_two_hot_holds_the_number_and_neighbours_only(value: float, num_bins: int) -> None:
    kind, number = CategoricalValue(-200.0, 200.0, num_bins), torch.tensor(value)
    hot = kind.encode(number)
    assert float(hot.sum()) == pytest.approx(1, abs=1e-5) and (hot >= 0).all()
    filled = np.flatnonzero(hot.numpy())
    assert len(filled) <= 2 and (len(filled) == 1 or filled[1] == filled[0] + 1)
    mean = float(hot @ kind.bins)  # of the distribution, in the own unit of the number
    assert mean == pytest.approx(min(max(value, -200), 200), rel=1e-4, abs=1e-4)
    assert float(kind.decode((hot + 1e-30).log())) == pytest.approx(min(max(value, -200), 200), rel=1e-3, abs=1e-3)


def test_the_loss_of_a_number_is_a_cross_entropy_and_least_where_it_is_right() -> None:
    kind, logits, values = CategoricalValue(-3.0, 5.0, 7), torch.randn(9, 7), torch.linspace(-4, 6, 9)
    plain = [
        -sum(float(kind.encode(value)[s]) * math.log(math.exp(row[s]) / sum(math.exp(x) for x in row)) for s in range(7))
        for row, value in zip(logits.tolist(), values, strict=True)
    ]
    assert kind.loss(logits, values).numpy() == pytest.approx(plain, rel=1e-5)
    learned = torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.Adam([learned], 0.1)
    for _ in range(500):
        optimizer.zero_grad()
        kind.loss(learned, torch.tensor(1.7)).backward()
        optimizer.step()
    assert kind.decode(learned.detach()).item() == pytest.approx(1.7, abs=0.02)


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 3)])
@pytest.mark.parametrize("num_players", [1, 2])
def test_shapes_and_signs(shape: tuple[int, ...], num_players: int) -> None:
    model = WorldModel(WorldModelConfig(shape, num_actions=4, num_players=num_players, width=16, hidden=24, num_bins=9, discount=0.5))
    latents = model.representation(torch.rand(BATCH, *shape))
    following, rewards, discounts, logits, values, legal = model.step_and_predict(latents, torch.arange(BATCH) % 4)
    assert [tuple(part.shape) for part in (latents, following, rewards, discounts, logits, values, legal)] == [
        (BATCH, 16),
        (BATCH, 16),
        (BATCH,),
        (BATCH,),
        (BATCH, 4),
        (BATCH,),
        (BATCH, 4),
    ]
    assert set(discounts.tolist()) <= {0.0, 0.5 if num_players == 1 else -0.5} and legal.dtype == torch.bool
    judged = model.prediction(torch.stack([latents, following], 1))  # further axes are carried along
    assert judged.policy_logits.shape == (BATCH, 2, 4) and torch.allclose(
        judged.value_logits[:, 1], model.prediction(following).value_logits, atol=1e-5
    )


def test_each_row_is_judged_by_itself() -> None:
    model, order = random_model(), torch.tensor([3, 0, 5, 1, 4, 2])
    latents, actions = some_latents(model), torch.tensor([0, 1, 2, 3, 0, 1])
    for straight, shuffled in zip(
        model.step_and_predict(latents, actions), model.step_and_predict(latents[order], actions[order]), strict=True
    ):
        assert torch.allclose(straight[order].double(), shuffled.double(), atol=1e-12)


def test_the_action_decides_where_a_step_leads_and_every_weight_is_used() -> None:
    model = random_model()
    latents = some_latents(model)
    ways = [model.imagine(latents, torch.full((BATCH,), action)) for action in range(4)]
    assert all(not torch.allclose(ways[i].latents, ways[j].latents) for i in range(4) for j in range(i))
    outputs = [*model.imagine(latents, torch.arange(BATCH) % 4), *model.prediction(ways[0].latents)]
    if hasattr(model, "reconstruct"):
        outputs.append(model.reconstruct(latents))
    sum(part.square().sum() for part in outputs).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


# ------------------------------------------------------------------ what a search asks


def as_functions(model: WorldModel):
    "The model for one who knows nothing of torch."

    def predict(states: np.ndarray):
        return tuple(part.numpy() for part in model.predict(torch.from_numpy(states)))

    def step(states: np.ndarray, actions: np.ndarray):
        return tuple(part.numpy() for part in model.step(torch.from_numpy(states), torch.from_numpy(actions)))

    return predict, step


@pytest.mark.parametrize("num_players", [1, 2])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@torch.inference_mode()
def test_the_planner_agrees_with_the_recursive_search(num_players: int, algorithm: str) -> None:
    model, config = random_model(num_players), MCTSConfig(60, algorithm=algorithm, gumbel_scale=0.0)
    latents, (predict, step) = some_latents(model), as_functions(model)
    root_legal = predict(latents.numpy())[2]
    found = model.planner(root_legal, config).search(latents)
    arrays = found.tree.arrays
    assert (
        (arrays.discounts == 0).any() and (arrays.priors[:, 1:20] == -1).any() and found.max_depth.max() >= 3
    )  # ends and illegal actions were met, and depth
    for row in range(BATCH):
        search = PlainSearch(predict, step, plain_choice(config, np.zeros(4)))
        plain = search.search(latents[row].numpy(), config.num_simulations)
        assert [plain.visits.get(action, 0) for action in range(4)] == found.visit_counts[row].tolist()
        assert [plain.q_values.get(action, 0.0) for action in range(4)] == pytest.approx(found.q_values[row].tolist(), abs=1e-6)


@torch.inference_mode()
def test_only_what_is_given_is_tried_at_the_root_and_only_what_seems_legal_below() -> None:
    model = random_model(seed=3)
    latents = some_latents(model, 3)
    given_legal = np.array([[True, False, True, False], [False, True, False, False], [True, True, True, True]])
    found = model.planner(given_legal, MCTSConfig(50)).search(latents)
    arrays = found.tree.arrays
    assert not found.visit_counts[~given_legal].any() and (found.visit_counts.sum(1) == 50).all()
    for root in range(3):
        for node in range(1, int(arrays.num_nodes[root])):
            if arrays.discounts[root, node] == 0: continue
            logits = model.prediction(found.tree.states.read(np.array([node * 3 + root]))).legality_logits[0].numpy()
            allowed = (logits > 0) | (logits == logits.max())
            assert ((arrays.priors[root, node] != -1) == allowed).all() and not arrays.visits[root, node][~allowed].any()


@torch.inference_mode()
def test_where_nothing_seems_legal_the_likeliest_stays() -> None:
    model = random_model()
    latents = some_latents(model)
    before = model.prediction(latents).legality_logits
    judge = model.prediction.forward
    model.prediction.forward = lambda rows: judge(rows)._replace(legality_logits=judge(rows).legality_logits - 1000)
    legal = model.predict(latents)[2]
    assert (legal.sum(1) == 1).all() and (legal.long().argmax(1) == before.argmax(1)).all()


class Chain(WorldModel):
    "Whatever is done, the third step is the end; before it each step earns 1."

    def imagine(self, latents: Tensor, actions: Tensor) -> Imagined:
        following = latents + 1
        rewards = (self.rewards.encode(torch.ones(len(latents))) + 1e-30).log()
        return Imagined(following, rewards, following[:, 0] - 2.5)


@pytest.mark.parametrize("num_players", [1, 2])
@torch.inference_mode()
def test_an_imagined_end_stops_the_search_and_the_value_behind_it(num_players: int) -> None:
    model = Chain(WorldModelConfig((2,), num_actions=2, num_players=num_players, width=4, hidden=8, discount=0.5))
    model.prediction.forward = lambda latents: LatentPrediction(
        torch.zeros(len(latents), 2), torch.ones(len(latents), 2), torch.zeros(len(latents), 21)
    )
    found = model.planner(np.ones((1, 2), bool), MCTSConfig(100)).search(torch.zeros(1, 4))
    arrays = found.tree.arrays
    ends = arrays.discounts[0, : arrays.num_nodes[0]] == 0
    assert found.max_depth[0] == 3 and ends.sum() == 8 and (arrays.children[0, : len(ends)][ends] == -1).all()
    last, sign = arrays.parents[0, : len(ends)][ends], 1 if num_players == 1 else -1
    assert all(arrays.q_values[0, parent] == pytest.approx([1.0, 1.0], abs=1e-3) for parent in last)  # nothing is expected behind the end
    assert found.values[0] == pytest.approx(1 + sign * 0.5 * (1 + sign * 0.5), abs=0.1)


# ------------------------------------------------------------------ settings and checkpoints


def test_a_model_goes_through_a_checkpoint(tmp_path) -> None:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig((2, 3), num_actions=4, num_players=2, width=8, hidden=16, reward_range=(-5.0, 5.0), num_bins=11))
    save_checkpoint(tmp_path / "model.pt", {"config": model.config.as_dict(), "weights": model.state_dict()})
    kept = load_checkpoint(tmp_path / "model.pt")
    again = WorldModel(WorldModelConfig.from_dict(json.loads(json.dumps(kept["config"]))))  # lists, as JSON has them
    again.load_state_dict(kept["weights"])
    assert again.config == model.config
    latents = model.representation(torch.rand(BATCH, 2, 3))
    for one, two in zip(
        model.step_and_predict(latents, torch.arange(BATCH) % 4), again.step_and_predict(latents, torch.arange(BATCH) % 4), strict=True
    ):
        assert torch.equal(one, two)
    with pytest.raises(RuntimeError, match="size mismatch"):
        WorldModel(replace(model.config, width=9)).load_state_dict(kept["weights"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_actions": 0}, "num_actions must be positive, got 0"),
        ({"width": 0}, "width must be positive"),
        ({"hidden": -1}, "hidden must be positive"),
        ({"dynamics_blocks": 0}, "dynamics_blocks"),
        ({"representation_blocks": 0}, "representation_blocks"),
        ({"observation_shape": ()}, "observation_shape must be positive"),
        ({"observation_shape": (3, 0)}, "observation_shape must be positive"),
        ({"num_players": 3}, "num_players must be 1 or 2, got 3"),
        ({"discount": 0.0}, "discount must be above 0"),
        ({"discount": 1.01}, "discount"),
        ({"discount": math.nan}, "discount"),
    ],
)
def test_a_bad_shape_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WorldModelConfig(**{"observation_shape": (3,), "num_actions": 2} | changes)


def test_a_bad_range_is_refused() -> None:
    for low, high, num_bins, said in (
        (1.0, 1.0, 21, "low must be below high"),
        (2.0, 1.0, 21, "low must be below high"),
        (math.nan, 1.0, 21, "low must be below high"),
        (0.0, 1.0, 1, "num_bins must be at least 2"),
    ):
        with pytest.raises(ValueError, match=said):
            CategoricalValue(low, high, num_bins)
        with pytest.raises(ValueError, match=said):
            WorldModel(WorldModelConfig((3,), 2, reward_range=(low, high), num_bins=num_bins))


@torch.inference_mode()
def test_lost_numbers_are_named_by_the_search() -> None:
    model = random_model()
    latents = some_latents(model)
    latents[2] = math.nan
    with pytest.raises(ValueError, match="finite"):
        model.planner(np.ones((BATCH, 4), bool), MCTSConfig(3)).search(latents)


def test_the_recurrent_model_is_found_here_too() -> None:
    from lightbulb.world import networks, recurrent

    assert (
        networks.RecurrentWorldModel is recurrent.RecurrentWorldModel is RecurrentWorldModel and "RecurrentWorldModel" in networks.__all__
    )


# ------------------------------------------------------------------ like the rules

GAME = TicTacToe()
LINES = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


class Exact(nn.Module):
    "A number that is its own logit."

    def decode(self, logits: Tensor) -> Tensor:
        return logits[..., 0]


class Rules(WorldModel):
    "A model that was given the rules of tic-tac-toe instead of learning them; its latents are boards, the mover's stones 1."

    def imagine(self, latents: Tensor, actions: Tensor) -> Imagined:
        after = latents.clone()
        after[torch.arange(len(after)), actions] = 1
        is_won, is_full = (after[:, LINES] == 1).all(2).any(1), (after != 0).all(1)
        return Imagined(-after, is_won.float()[:, None], torch.where(is_won | is_full, 9.0, -9.0))


class RulesPrediction(nn.Module):
    "No opinion but on what is empty."

    def forward(self, latents: Tensor) -> LatentPrediction:
        return LatentPrediction(torch.zeros(len(latents), 9), torch.where(latents == 0, 9.0, -9.0), torch.zeros(len(latents), 1))


@pytest.fixture(scope="module")
def solution() -> Solution:
    return GAME.solve()


@torch.inference_mode()
def test_a_model_that_holds_the_rules_plans_as_the_rules_do(solution: Solution) -> None:
    model = Rules(WorldModelConfig((2, 3, 3), num_actions=9, num_players=2, width=9, hidden=8))
    model.prediction, model.rewards, model.values = RulesPrediction(), Exact(), Exact()
    rows = np.random.default_rng(0).choice(len(solution.states), 200, replace=False)
    states, legal = solution.states[rows], solution.legal[rows]
    predict = lambda boards: (np.zeros((len(boards), 9)), np.zeros(len(boards)), boards == 0)

    def step(boards: np.ndarray, actions: np.ndarray):
        following, rewards, terminated, _ = GAME.step(boards, actions)
        return following, rewards, np.where(terminated, 0.0, -1.0)

    for algorithm in ("puct", "gumbel"):
        config = MCTSConfig(80, algorithm=algorithm, gumbel_scale=0.0)
        real, imagined = MCTS(predict, step, config).search(states), model.planner(legal, config).search(torch.from_numpy(states).float())
        assert (
            (real.visit_counts == imagined.visit_counts).all()
            and (real.actions == imagined.actions).all()
            and (real.q_values == imagined.q_values).all()
        )


def teach_tic_tac_toe(solution: Solution, rows: np.ndarray, num_steps: int, width: int = 64) -> WorldModel:
    "Rules and exact values, shown along two random moves from these positions."
    torch.manual_seed(0)
    rng, model = (
        np.random.default_rng(0),
        WorldModel(WorldModelConfig((2, 3, 3), num_actions=9, num_players=2, width=width, hidden=2 * width)),
    )
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, num_steps)
    see = lambda boards: model.representation(torch.from_numpy(GAME.observe(boards)))
    for _ in range(num_steps):
        boards = solution.states[rng.choice(rows, 256)]
        latents, loss = see(boards), torch.zeros(())
        for depth in range(3):
            judged, known = model.prediction(latents), solution.find(boards)
            loss = loss + functional.binary_cross_entropy_with_logits(
                judged.legality_logits, torch.from_numpy(solution.legal[known]).float()
            )
            loss = loss + 0.5 * model.values.loss(judged.value_logits, torch.from_numpy(solution.values[known].astype(np.float32))).mean()
            if depth == 2: break
            actions = (rng.random((len(boards), 9)) * solution.legal[known]).argmax(1)
            following, rewards, terminated, _ = GAME.step(boards, actions)
            imagined = model.imagine(latents, torch.from_numpy(actions))
            loss = loss + model.rewards.loss(imagined.reward_logits, torch.from_numpy(rewards)).mean()
            loss = loss + functional.binary_cross_entropy_with_logits(imagined.ending_logits, torch.from_numpy(terminated).float())
            going = ~terminated
            boards, latents = following[going], imagined.latents[torch.from_numpy(going)]
            loss = loss + (latents - see(boards).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def test_a_small_model_that_was_shown_tic_tac_toe_plans_like_its_rules(solution: Solution) -> None:
    "Positions with at most four empty cells. The policy was never trained: what is good comes out of the search alone."
    rows = np.flatnonzero((solution.states == 0).sum(1) <= 4)
    model = teach_tic_tac_toe(solution, rows, 600)
    legal, optimal, matters = solution.legal[rows], solution.optimal[rows], solution.matters[rows]
    share = lambda actions: float(optimal[np.arange(len(actions)), actions][matters].mean())
    with torch.inference_mode():
        latents = model.representation(torch.from_numpy(GAME.observe(solution.states[rows])))
        policy = np.where(legal, model.predict(latents)[0].numpy(), -np.inf).argmax(1)
        searched = {num: share(model.planner(legal, MCTSConfig(num)).search(latents).actions) for num in (1, 10, 100)}
    chance = float((optimal.sum(1) / legal.sum(1))[matters].mean())
    assert abs(share(policy) - chance) < 0.25 and searched[100] > 0.8 and searched[100] > searched[10] + 0.1 > searched[1] + 0.2, (
        chance,
        share(policy),
        searched,
    )
