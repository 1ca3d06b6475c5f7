"A world model of text: what it learns from is real, what it learned is found again, and it is asked from the command line."

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightbulb.apps.main_menu import main
from lightbulb.core.errors import CheckpointError
from lightbulb.lm.beam_search import beam_search
from lightbulb.lm.language_model import load_language_model
from lightbulb.lm.tokens import load_tokenizer
from lightbulb.lm.training import TrainLanguageModel, train_language_model
from lightbulb.planning.mcts import MCTSConfig
from lightbulb.planning.run_events import PlannerBudget, RunFinished, RunStarted, read_run
from lightbulb.planning.run_pages import run_to_html
from lightbulb.world.configuration import TextSettings, TextShares, TrainWorldModel
from lightbulb.world.text_model import TextWorldModel
from lightbulb.world.text_practice import (
    TextPractice,
    action_likelihoods,
    action_rewards,
    effective_rank,
    represent_stretches,
    shares_found,
    sliding_windows,
    text_losses,
    unroll_text,
)
from lightbulb.world.text_training import TextWorldTraining, load_text_world
from lightbulb.world.thoughts import Action, Policy, plan, spelled_actions, write_jointly, write_on
from lightbulb.world.training import load_world_model, train_world_model

TEXT = "The arc lamp burned bright in the long street. The oil lamp was dim, and the wick was trimmed at night.\n" * 60
TINY = {"preset": "tiny", "width": 32, "num_heads": 2, "num_layers": 1, "max_length": 32}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "lamps.txt"
    path.write_text(TEXT)
    return path


def language_model(folder: Path, text: Path, seed: int = 0) -> Path:
    settings = TrainLanguageModel(
        save_dir=folder, device="cpu", model_name="bytes", dataset_name=str(text), num_epochs=2, batch_size=8, seed=seed, **TINY
    )
    for _ in train_language_model(settings):
        pass
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    "A folder with a language model and a world model of its states, whose training nobody disturbed."
    folder = language_model(tmp_path_factory.mktemp("both"), text)
    for _ in train_world_model(settings(folder, text)):
        pass
    return folder


def settings(folder: Path, text: Path, **changes: object) -> TrainWorldModel:
    small = TrainWorldModel(
        save_dir=folder,
        device="cpu",
        precision="float32",
        dataset_name=str(text),
        transformer_model_path=folder,
        num_epochs=2,
        batch_size=2,
        accumulation_steps=2,
        steps_per_epoch=20,
        unroll_length=3,
        width=32,
        hidden=64,
        text=TextSettings(context_tokens=16, stretches_per_round=96, steps_per_round=8, least_steps=20, num_proposals=4),
    )
    return replace(small, **changes)


@pytest.fixture
def practice(both: Path, text: Path) -> Iterator[TextPractice]:
    model = load_text_world(both)
    tokens = np.array(model.tokenizer.encode(TEXT))
    yield TextPractice(model, tokens, TextSettings(num_proposals=4), MCTSConfig(4, policy_target="improved"), num_actions=3, seed=1)


def test_an_evaluation_is_no_dearer_than_a_round(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    "Of a large vocabulary fewer stretches are read, and an evaluation counts both halves of them, as a round does."
    (text := tmp_path / "long.txt").write_text(4 * TEXT)
    training = TextWorldTraining(settings(both, text))
    whole = training.evaluate().metrics["among"]
    monkeypatch.setattr("lightbulb.world.text_training._MOST_PREDICTIONS", 140 * training.model.config.vocab_size)
    assert training.evaluate().metrics["among"] == 140 // 2 - 1 < whole


def test_a_text_too_long_to_read_is_not_cut_in_silence(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = 2 * load_text_world(both).transformer.config.max_length - 4 * 4
    for length in (known, known + 9):
        prompt = ("The oil lamp was dim. " * 40)[:length]
        assert main(["--mode", "inference", "--save_dir", str(both), "--query", prompt, "--max_new_tokens", "4"], stage="world") == 0
        assert ("tokens the model reads the last" in (said := capsys.readouterr().err)) == (length > known)
    assert f"of {known + 9} tokens the model reads the last {known}" in said


# ------------------------------------------------------------------ targets are real


def test_windows_are_what_stands_before_each_action() -> None:
    rows = torch.arange(20).repeat(3, 1)
    windows, seen = sliding_windows(rows, torch.tensor([8, 3, 1]), 3, 4, pad_id=-1)
    for row, first in enumerate((8, 3, 1)):
        for step in range(4):
            end = 8 + 4 * step
            expected = list(range(end - min(8, first + 4 * step), end))
            assert windows[row, step, : seen[row, step]].tolist() == expected
            assert (windows[row, step, seen[row, step] :] == -1).all()


def test_targets_are_latents_of_the_real_next_context(practice: TextPractice) -> None:
    "Of text and of what was written alike: the transformer reads the context with the action in it."
    model, stretches = practice.model, practice.round(16)
    unrolled = unroll_text(model, stretches)
    assert not unrolled.real.requires_grad and stretches.is_real.sum() == 8
    for row in (0, 15):
        for step in range(3):
            context = stretches.windows[row, step, : stretches.lengths[row, step]].tolist()
            following = [*context, *stretches.actions[row, step].tolist()]
            expected = model.represent(model.read_contexts([following]))[0]
            assert torch.allclose(unrolled.real[row, step + 1], expected, atol=0.03)  # kept in half precision
            assert not torch.allclose(unrolled.real[row, step], expected, atol=0.03)


def test_real_stretches_are_the_text(practice: TextPractice) -> None:
    stretches, text = practice.round(16), TEXT.encode()
    for row in range(8):
        start = stretches.windows[row, 0, : stretches.lengths[row, 0]].tolist()
        assert bytes([*start, *stretches.actions[row].flatten().tolist()]) in text


def test_rewards_are_what_they_say(practice: TextPractice) -> None:
    model, real = practice.model, practice.real(6, with_short=False)
    from lightbulb.world.text_practice import read_stretches

    real = read_stretches(model, real)
    agreement = TextSettings(likelihood=0.0, agreement=2.0)
    assert torch.equal(action_rewards(model, agreement, real, real), torch.full((6, 3), 2.0))
    assert torch.allclose(action_rewards(model, TextSettings(likelihood=0.0, similarity=1.0), real, real), torch.ones(6, 3), atol=1e-3)
    likelihood = action_likelihoods(model, real)
    first = model.write_after(real.windows[:, 0], real.lengths[:, 0], real.actions[:, 0])
    exact = model.transformer.logits(first).log_softmax(-1).gather(-1, real.actions[:, 0, :, None])[..., 0].mean(-1)
    assert torch.allclose(likelihood[:, 0], exact.clamp(min=-8.0), atol=0.02)


def test_returns_are_discounted_and_stop_at_the_end_of_a_text(practice: TextPractice) -> None:
    stretches = practice.round(16)
    own, discount = stretches.take((~stretches.is_real).nonzero()[:, 0]), practice.settings.discount
    expected = own.rewards[:, 2] + discount * torch.where(own.ended[:, 2], 0.0, own.values[:, 3])
    assert torch.allclose(own.returns[:, 2], expected)
    ended = replace(own, ended=torch.ones_like(own.ended))
    assert torch.allclose(practice._valued(ended).returns[:, :3], own.rewards)


def test_the_decoder_writes_after_the_end_of_each_context(practice: TextPractice) -> None:
    "Of contexts of different lengths, padded or alone; and the encoder reads a context that leaves no room."
    model, rows = practice.model, [[104, 101, 108], [116, 104, 101, 32, 97, 114, 99], [111]]
    written = torch.tensor([[32, 97], [32, 108], [105, 108]])
    tokens, lengths = torch.full((3, 7), model.tokenizer.pad_id), torch.tensor([3, 7, 1])
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
    together = model.write_after(tokens, lengths, written)
    for row, ids in enumerate(rows):
        alone = model.transformer.decode(torch.tensor([[model.tokenizer.start_id, *ids, *written[row, :-1].tolist()]]))[0, -2:]
        assert torch.allclose(together[row], alone, atol=1e-4)
    long = torch.tensor([practice.tokens[:31].tolist()])
    memory = model.transformer.encode(long)
    expected = model.transformer.decode(torch.tensor([[model.tokenizer.start_id, 32]]), memory)
    assert torch.allclose(model.write_after(long, torch.tensor([31]), torch.tensor([[32, 97]])), expected, atol=1e-4)


# ------------------------------------------------------------------ gradients


def test_every_loss_moves_the_model_and_none_the_transformer(practice: TextPractice) -> None:
    model, stretches = practice.model.train(), practice.round(16)
    report = text_losses(model, unroll_text(model, stretches), stretches, practice.settings, everything=True)
    assert set(report.losses) == {field for field in TextShares().__dataclass_fields__}
    parts = {
        name: list(getattr(model, name).parameters()) for name in ("pool", "representation", "action_encoder", "dynamics", "prediction")
    }
    moved = {}
    for name, loss in report.losses.items():
        gradients = {part: torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True) for part, own in parts.items()}
        moved[name] = {part for part, found in gradients.items() if any(g is not None and g.abs().sum() > 0 for g in found)}
    for name in ("tokens", "writing", "kl", "ppo"):
        assert moved[name] == set(parts), name
    for name in ("dynamics", "info_nce", "covariance", "thought_consistency"):
        assert moved[name] == set(parts) - {"prediction"}, name
    for name in ("expected_value", "exploration"):  # of the first latent, which is read
        assert moved[name] == {"pool", "representation", "prediction"}, name
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in model.transformer.parameters())
    assert not any(name.startswith("transformer") for name in model.state_dict())


def test_a_loss_of_weight_0_is_measured_in_each_step_and_moves_nothing(practice: TextPractice) -> None:
    model, stretches = practice.model.train(), practice.round(16)
    report = text_losses(model, unroll_text(model, stretches), stretches, practice.settings)
    assert set(report.losses) == set(TextShares().__dataclass_fields__)
    assert {name for name, loss in report.losses.items() if loss.requires_grad} == {name for name in report.losses if report.weights[name]}
    report.total.backward()
    stretches.log_probs[:] = -1e4  # as if drawn by somebody who hardly ever writes so: the ratio is no number
    report = text_losses(model, unroll_text(model, stretches), stretches, practice.settings)
    assert "ppo" not in report.losses and torch.isfinite(report.total)


def test_lambda_scales_the_regularisers_alone(practice: TextPractice) -> None:
    stretches = practice.round(16)
    unrolled, chosen = unroll_text(practice.model, stretches), replace(practice.settings, losses=TextShares(covariance=1.0))
    one, two = (text_losses(practice.model, unrolled, stretches, chosen, lambda_reg=scale).weighted() for scale in (1.0, 2.0))
    for name in ("info_nce", "covariance", "kl"):
        assert two[name] == pytest.approx(2 * one[name])
    for name in ("tokens", "dynamics", "policy_value"):
        assert two[name] == pytest.approx(one[name])


# ------------------------------------------------------------------ it learns


def test_it_finds_what_follows(both: Path, text: Path) -> None:
    rows = [json.loads(line) for line in (both / "world_model" / "metrics.jsonl").read_text().splitlines()]
    train, held = ([row for row in rows if row["split"] == split] for split in ("train", "validation"))
    assert [row["step"] for row in train] == list(range(1, 41)) and [row["step"] for row in held] == [20, 40]
    for name in ("tokens", "writing", "kl"):
        assert train[-1][name] < train[0][name]
    assert {"entropy", "logit_variance", "reward", "covariance", "thought_consistency", "ppo"} <= train[0].keys()  # of weight 0, measured
    assert held[-1]["found_1"] > 0.5 and held[-1]["found_3"] > 0.5 and held[-1]["effective_rank"] > 4
    names = {"tokens", "kl", "dynamics", "ending", "info_nce", "policy_value", "spread", "learning_rate", "gradient_norm"}
    assert names <= train[-1].keys() and {"ppo", "exploration", "expected_value"} <= held[-1].keys()


def test_measures_of_latents() -> None:
    rows = torch.randn(40, 2, 8, generator=torch.Generator().manual_seed(0))
    assert shares_found(rows, rows).tolist() == [1.0, 1.0]
    assert shares_found(torch.zeros_like(rows) + 1.0, rows).max() <= 1 / 40
    assert 7 < effective_rank(torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))) <= 8
    assert effective_rank(torch.ones(10, 1) * torch.arange(8.0) * torch.arange(10.0)[:, None]) == pytest.approx(1.0)


# ------------------------------------------------------------------ stop, go on, and another transformer


def test_a_resumed_run_ends_like_one_that_was_never_stopped(both: Path, text: Path, tmp_path: Path) -> None:
    "Stopped in the middle of a round."
    stopped = settings(tmp_path, text, transformer_model_path=both)
    running = train_world_model(stopped)
    for report in running:
        if report.step == 27: break
    running.close()
    resumed = list(train_world_model(replace(stopped, resume=True)))
    assert resumed[0].step == 28 and resumed[-1].step == 40
    whole, again = load_text_world(both), load_text_world(tmp_path, both)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters(), strict=True))


def test_another_transformer_is_one_clear_line(both: Path, text: Path, tmp_path: Path, capsys) -> None:
    other = language_model(tmp_path, text, seed=1)
    with pytest.raises(CheckpointError, match="this world model was trained on another language model") as caught:
        load_text_world(both, other)
    assert "\n" not in str(caught.value)
    arguments = ["--mode", "inference", "--save_dir", str(both), "--transformer_model_path", str(other), "--query", "The"]
    assert main(arguments, stage="world") == 2
    assert "another language model" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="load_text_world reads"):
        load_world_model(both)
    resumed = settings(both, text, resume=True, transformer_model_path=other, num_epochs=3)
    with pytest.raises(CheckpointError, match="another language model"):
        next(train_world_model(resumed))


def test_a_text_that_is_too_short_is_one_line(both: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("The lamp burns oil. " * 5)
    with pytest.raises(ValueError, match="the text must have more than 28 tokens for one stretch"):
        TextWorldTraining(settings(both, tmp_path / "short.txt"))


# ------------------------------------------------------------------ planning


@pytest.fixture(scope="module")
def model(both: Path) -> TextWorldModel:
    return load_text_world(both)


@pytest.mark.parametrize("planner", ["greedy", "sample", "best_of_n", "beam", "value_beam", "uct", "gumbel", "mcts"])
def test_planners_keep_their_budget_and_their_seed(model: TextWorldModel, planner: str) -> None:
    first, again = (plan(model, "The arc lamp", planner, 9, num_actions=3, num_proposals=4, seed=5) for _ in range(2))
    assert first == again and 0 < first.cost.forwards <= 9
    assert len(first.best.actions) == 3 and len(first.best.tokens) == 12
    assert json.loads(first.to_json())["policies"][0]["actions"][0]["text"] == first.best.actions[0].text
    assert first.best.text in str(first) or repr(first.best.text) in str(first)
    assert "<details" in first._repr_html_() and "<script" not in first._repr_html_()
    assert sum(policy.probability for policy in first.policies) <= 1 + 1e-6
    assert all(policy.text == model.tokenizer.decode(policy.tokens) for policy in first.policies)


@pytest.mark.parametrize("likelihood", [1.0, 0.0])
@pytest.mark.parametrize("forwards", [1, 2, 20])
def test_probabilities_are_shares_of_a_thought(
    model: TextWorldModel, monkeypatch: pytest.MonkeyPatch, likelihood: float, forwards: int
) -> None:
    monkeypatch.setattr(model, "config", replace(model.config, likelihood=likelihood))
    thought = plan(model, "The arc lamp", "mcts", forwards, num_actions=3, num_proposals=4)
    assert thought.best.probability > 0 and sum(policy.probability for policy in thought.policies) <= 1 + 1e-6


def test_a_character_that_two_actions_write_is_read_whole() -> None:
    tokenizer = load_tokenizer("bytes")
    ids = tokenizer.encode("日本語 “é”�x日")
    for size in (1, 2, 4, 5):
        actions = [Action(part, tokenizer.decode(part), 0.0) for part in (tuple(ids[i : i + size]) for i in range(0, len(ids), size))]
        for end in range(1, len(actions) + 1):
            policy = Policy(spelled_actions(tokenizer, actions[:end]), 0.0, 1.0)
            assert policy.text == tokenizer.decode(policy.tokens) and policy.tokens == tuple(ids[: end * size])


@pytest.mark.parametrize("likelihood", [1.0, 0.0])
def test_the_latent_search_keeps_to_its_tokens(model: TextWorldModel, monkeypatch: pytest.MonkeyPatch, likelihood: float) -> None:
    monkeypatch.setattr(model, "config", replace(model.config, likelihood=likelihood))
    search = MCTSConfig(4)
    for num_proposals in (4, 32):
        root = len(model.window(model.tokenizer.encode("The arc lamp"))) + num_proposals * model.config.action_tokens
        for tokens in (root, root + 20, 2 * root + 8, 3 * root + 200):
            budget = PlannerBudget(tokens=tokens)
            thought = plan(model, "The arc lamp", "mcts", budget, num_actions=2, num_proposals=num_proposals, search=search)
            assert not budget.refuses(thought.cost) and thought.best.actions
        with pytest.raises(ValueError, match="budget must allow one action"):
            plan(model, "The arc lamp", "mcts", PlannerBudget(tokens=root - 1), num_proposals=num_proposals, search=search)


@pytest.mark.parametrize("planner", ["greedy", "beam", "uct"])
def test_planners_over_contexts_count_all_that_they_read(model: TextWorldModel, monkeypatch: pytest.MonkeyPatch, planner: str) -> None:
    num_read, read_contexts = [0], model.read_contexts

    def read_and_count(contexts):
        num_read[0] += sum(len(model.window(context)) for context in contexts)
        return read_contexts(contexts)

    monkeypatch.setattr(model, "read_contexts", read_and_count)
    for budget in (PlannerBudget(forwards=9), PlannerBudget(tokens=200)):
        num_read[0] = 0
        cost = plan(model, "A", planner, budget, prefix=list(b" lamp burns"), num_actions=3, num_proposals=4).cost
        assert cost.tokens == num_read[0] + cost.forwards * 4 * model.config.action_tokens and not budget.refuses(cost)


def test_greedy_takes_the_likeliest_action_each_time(model: TextWorldModel) -> None:
    "An action is the best that a beam of the decoder finds, which begins with the context and what it has written."
    context, written = model.tokenizer.encode("The arc lamp"), list[int]()
    thought = plan(model, context, "greedy", num_actions=3, num_proposals=4, no_repeat=0)
    for action in thought.best.actions:
        more = {"beam_width": 4, "max_new_tokens": 4, "length_penalty": 0.0, "start_id": model.tokenizer.start_id}
        beams = beam_search(model.transformer, [[]], prefix=[context + written], **more)
        assert action.tokens == tuple(beams.sequences[0, 0].tolist())
        assert action.log_probability == pytest.approx(float(beams.scores[0, 0]), abs=1e-4)
        written += action.tokens
    later = plan(model, context, "greedy", prefix=written[:4], num_actions=2, num_proposals=4, no_repeat=0)
    assert later.best.tokens == tuple(written[4:])


def test_a_continuation_longer_than_the_decoder_is_read_again(model: TextWorldModel) -> None:
    for planner in ("greedy", "mcts"):
        tokens = plan(model, "The arc", planner, prefix=model.tokenizer.encode("x" * 31), num_actions=2).best.tokens
        is_ended = model.tokenizer.end_id in tokens[:4]  # after a minute of training it depends on the processor's rounding
        assert len(tokens) == (4 if is_ended else 8)


def test_the_latent_search_reads_only_what_is_written(model: TextWorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda tokens, lengths: reads.append(len(tokens)) or read(tokens, lengths))
    thought = plan(model, "The arc", "mcts", 3, num_actions=3)
    assert (sum(reads), thought.cost.forwards, thought.cost.calls) == (1, 3, 2)  # a context is read, two drafts are written at once
    reads.clear()
    assert plan(model, "The arc", "mcts", PlannerBudget(1), num_actions=3).cost.forwards == sum(reads) == 1


def test_drafts_are_worth_what_the_transformer_says_token_by_token(model: TextWorldModel) -> None:
    context, prefix = model.tokenizer.encode("The arc lamp"), model.tokenizer.encode(" was")
    thought = plan(model, context, "mcts", 5, prefix=prefix, num_actions=2, num_proposals=4)
    assert thought.cost.forwards <= 5 and len({policy.tokens for policy in thought.policies}) == len(thought.policies) > 1
    for policy in thought.policies:
        worth = 0.0
        for place, action in enumerate(policy.actions):
            before = [*prefix, *policy.tokens[: place * len(action.tokens)]]
            logs = 0.0
            for token in action.tokens:  # one by one, as nobody would do it
                row = torch.tensor([[*before, token]])
                state = model.write_after(torch.tensor([context]), torch.tensor([len(context)]), row)[0, -1]
                logs += float(model.transformer.logits(state).log_softmax(-1)[token])
                before.append(token)
            assert action.log_probability == pytest.approx(logs, abs=1e-3)
            worth += model.config.discount**place * max(logs / len(action.tokens), -8.0)
        assert policy.value == pytest.approx(worth, abs=1e-3)
    log_probability = lambda policy: sum(action.log_probability for action in policy.actions)
    whole = [log_probability(policy) for policy in thought.policies if len(policy.actions) == 2]
    assert log_probability(thought.best) == max(whole)


def test_beginnings_compete_for_the_rows_of_one_beam(model: TextWorldModel) -> None:
    context, first = model.tokenizer.encode("The arc lamp"), [model.tokenizer.encode(text) for text in (" was", " lit", "xqzk")]
    scores = torch.tensor([-2.0, -3.0, -40.0])
    owners, tokens, logs = write_jointly(model, context, first, scores, 3, 5)
    assert owners.tolist().count(2) == 0  # what has lost gets no row
    assert set(owners.tolist()) <= {0, 1} and len({(int(owner), *row.tolist()) for owner, row in zip(owners, tokens, strict=True)}) == 5
    totals = scores[owners] + logs.sum(-1)
    assert totals.tolist() == sorted(totals.tolist(), reverse=True)
    # alone, it is the beam of this beginning; one step is the choice of the best among all
    alone, sums = write_on(model, context, first[:1], 3, 5)
    _, same, known = write_jointly(model, context, first[:1], scores[:1], 3, 5)
    assert same.equal(alone[0]) and torch.allclose(known, sums[0], atol=1e-5)
    each, step = write_on(model, context, first, 1, 5)
    best = (scores[:, None] + step[..., 0]).flatten().topk(5)
    owners, tokens, logs = write_jointly(model, context, first, scores, 1, 5)
    assert tokens.flatten().equal(each[..., 0].flatten()[best.indices]) and torch.allclose(
        scores[owners] + logs[:, 0], best.values, atol=1e-5
    )


@pytest.mark.parametrize("planner", ["greedy", "sample", "beam", "mcts"])
def test_plans_do_not_repeat_themselves(model: TextWorldModel, planner: str) -> None:
    "A model of one sentence goes round in circles; no four bytes stand twice within twelve, unless that is allowed."
    loop = "the the the the the the the the"
    for no_repeat in (4, 0):
        text = plan(model, loop, planner, num_actions=6, num_proposals=4, no_repeat=no_repeat).best.tokens
        whole = [*model.tokenizer.encode(loop), *text]
        ends = range(len(loop), len(whole))
        again = sum(whole[i - 3 : i + 1] in [whole[j - 3 : j + 1] for j in range(i - 8, i)] for i in ends)
        assert again == 0 if no_repeat else len(text) == 24


def test_a_settled_map_goes_on_from_its_own_mistakes(model: TextWorldModel) -> None:
    "On its own chain of imagined latents it is no worse than the map that was fitted to real ones alone."
    tokens = np.array(model.tokenizer.encode(TEXT))
    practice = TextPractice(model, tokens, TextSettings(num_proposals=4), MCTSConfig(1), num_actions=3, seed=3)
    stretches, before = practice.real(128), model.moves.weights.clone()
    latents = represent_stretches(model, stretches)

    def error() -> float:
        imagined, parts = latents[:, 0], []
        for step in range(3):
            imagined = model.imagine(imagined, stretches.actions[:, step]).latents
            parts.append((imagined - latents[:, step + 1]).square().mean())
        return float(torch.stack(parts).mean())

    errors = []
    with torch.no_grad():
        for passes in (1, 4):
            model.settle(latents, stretches.actions, passes=passes)
            errors.append(error())
        model.moves.weights.copy_(before)
    assert errors[1] <= errors[0] and errors[1] < 0.5 * float(latents.var())


def test_an_empty_context_can_be_continued(model: TextWorldModel) -> None:
    assert plan(model, "", "mcts", 2, num_actions=2).best.tokens and plan(model, [], "greedy", 2, num_actions=2).best.tokens


# ------------------------------------------------------------------ the command line


def test_both_stages_and_a_planned_continuation_from_the_command_line(text: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    "One folder for both: inference, the interface of every language model, and a second run that has nothing left to do."
    monkeypatch.setattr(TextWorldTraining, "steps_per_epoch", 6)
    monkeypatch.setattr("lightbulb.world.text_training._MOST_PREDICTIONS", 2**14)  # small rounds
    shape = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    common = ["--task", "train_llm_world", "--save_dir", str(tmp_path), "--device", "cpu"]
    train = ["--dataset_name", str(text), "--model_name", "bytes", "--num_epochs", "1", *shape]
    assert main([*common, *train]) == 0
    said = capsys.readouterr().out
    assert "bits per byte" in said and "imagined contexts found" in said
    assert {"language_model", "world_model"} <= {place.name for place in tmp_path.iterdir()}
    write = [*common, "--mode", "inference", "--query", "The arc lamp", "--max_new_tokens", "10"]
    for planner in ("mcts", "value_beam", "greedy", "auto"):
        assert main([*write, "--planner", planner]) == 0
        written, told = capsys.readouterr()
        assert written.startswith("The arc lamp") and len(written) > len("The arc lamp\n")
        if planner in ("mcts", "value_beam"):  # what was thought is kept, part after part
            (record,) = (place for place in (tmp_path / "runs").iterdir() if place.name.endswith(f"-{planner}.jsonl"))
            events = read_run(record)
            assert sum(isinstance(event, RunStarted) for event in events) == 1 and isinstance(events[-1], RunFinished)
            assert run_to_html(events) == record.with_suffix(".html").read_text("utf-8") and record.stem in told
    assert main([*write, "--planner", "mcts", "--stage", "world"]) == 0
    assert capsys.readouterr().out.startswith("The arc lamp")
    assert main([*common, *train, "--resume"]) == 0
    assert load_language_model(f"lightbulb:{tmp_path}").generate(["The arc"], max_new_tokens=4)
