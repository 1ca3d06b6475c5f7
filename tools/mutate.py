"""Plant one error at a time in a copy of the package and see whether a test notices: who survives lacks a test.

    python tools/mutate.py                  # all of them, about half an hour of one core
    python tools/mutate.py --only planning  # those whose file or text holds the word
    python tools/mutate.py --keep verdicts  # write verdicts into that file, and take those that are there: a stopped run goes on
    python tools/mutate.py --check          # only whether every text still stands in its module, exactly once

The checkout is not touched. Exit status 1 if one survives or does not fit any more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 900  # after which it is said that nobody knows


@dataclass(frozen=True)
class Mutation:
    "What is wrong, where, and which tests should say so. Several edits only where one error needs them."

    what: str
    file: str  # below lightbulb/
    edits: tuple[tuple[str, str], ...]  # present text, planted text
    tests: tuple[str, ...]  # arguments of pytest


def mutation(what: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(what, file, ((old, new),), tests)


ADVANTAGES, PPO, REPLAY = "tests/test_advantages.py", "tests/test_ppo.py", "tests/test_replay.py"
CHANCE = "tests/test_chance_nodes.py"
HIERARCHY, MCTS, OOPS, THOUGHT = "tests/test_hierarchy.py", "tests/test_mcts.py", "tests/test_oops.py", "tests/test_tree_of_thought.py"
TRANSFORMER, LOSSES, BEAM, EXPERTS = (
    "tests/test_transformer.py",
    "tests/test_losses.py",
    "tests/test_beam_search.py",
    "tests/test_experts.py",
)
TRAINING, RUN, WORLD_TRAINING = "tests/test_training.py", "tests/test_run.py", "tests/test_world_training.py"
WORLD_LOSSES, WORLD_PLAY, CHUNKS, SEARCH = (
    "tests/test_world_losses.py",
    "tests/test_world_play.py",
    "tests/test_chunks.py",
    "tests/test_search.py",
)
Q_LOSS = f"{HIERARCHY}::test_the_loss_is_weighed_by_importance_and_judged_by_the_slow_network"
Q_TARGETS, RETURNS = f"{HIERARCHY}::test_targets_are_those_of_a_plain_loop", f"{HIERARCHY}::test_a_run_split_in_two_has_the_same_target"
CLIPPING = f"{RUN}::test_gradients_reach_the_optimizers_at_the_norm_that_was_asked_for"
ANSWERING, READER, HOUSE = "tests/test_answering.py", "tests/test_reader.py", "tests/test_house.py"
WINDOWS = f"{READER}::test_windows_cover_every_token"

MUTATIONS = (
    # ------------------------------------------------------------------ core
    mutation(
        "gradients of language and world models are not clipped",
        "core/optimization.py",
        "clip_grad_norm_(self.parameters, self.max_grad_norm)",
        "clip_grad_norm_(self.parameters, math.inf)",
        CLIPPING,
    ),
    mutation(
        "a gradient that is no number is taken",
        "core/optimization.py",
        "if not math.isfinite(norm) and not self.scaler.is_enabled():",
        "if False:",
        RUN,
    ),
    mutation(
        "reading a value does not make it recent",
        "core/cache.py",
        "            self._values.move_to_end(key)\n            return",
        "            return",
        "tests/test_cache.py",
    ),
    mutation("the newest value leaves the cache", "core/cache.py", "popitem(last=False)", "popitem(last=True)", "tests/test_cache.py"),
    # ------------------------------------------------------------------ lm
    mutation(
        "further heads' targets are not shifted",
        "lm/losses.py",
        "answers = torch.cat([targets[row.to(device) + head]",
        "answers = torch.cat([targets[row.to(device)]",
        LOSSES,
    ),
    mutation(
        "further heads weigh as much as the first", "lm/losses.py", "self.weights.head_weight / (num_heads - 1)", "1.0", LOSSES, TRAINING
    ),
    mutation(
        "entropy is punished",
        "lm/losses.py",
        "weights @ terms[0] - regularisers.alpha",
        "weights @ terms[0] + regularisers.alpha",
        LOSSES,
    ),
    mutation(
        "the temperature is left out",
        "lm/losses.py",
        "cooled = logits.float() / regularisers.temperature",
        "cooled = logits.float()",
        LOSSES,
    ),
    mutation(
        "balance is rewarded for its lack",
        "lm/losses.py",
        "tokens * (self.weights.balance *",
        "tokens * (-self.weights.balance *",
        LOSSES,
        TRAINING,
    ),
    mutation(
        "the rotary backward pass turns the wrong way",
        "lm/attention.py",
        "return _turned(grad, cosines, sines, -1.0), None, None",
        "return _turned(grad, cosines, sines, 1.0), None, None",
        TRANSFORMER,
    ),
    Mutation(
        "attention has no scale, in the plain and in the fast path",
        "lm/attention.py",
        (
            ("queries @ keys.mT / queries.shape[-1] ** 0.5", "queries @ keys.mT"),
            ("(folded, keys, values, attn_mask=mask)", "(folded, keys, values, attn_mask=mask, scale=1.0)"),
            ("is_causal=causal, enable_gqa", "is_causal=causal, scale=1.0, enable_gqa"),
        ),
        (TRANSFORMER,),
    ),
    mutation(
        "attention by blocks forgets what later queries ask of a key",
        "lm/operations.py",
        "to_keys[:, :end] += products[0]",
        "to_keys[:, :end] = products[0]",
        TRANSFORMER,
    ),
    mutation(
        "what goes past a norm has no gradient",
        "lm/operations.py",
        "past = rows[:0] if to_sum is None else _rows(to_sum)",
        "past = rows[:0]",
        TRANSFORMER,
    ),
    mutation("one key of the padding is seen", "lm/attention.py", ") < lengths[:, None])", ") <= lengths[:, None])", TRANSFORMER),
    mutation(
        "the cache forgets one token too few",
        "lm/attention.py",
        "        self.length = length\n",
        "        self.length = length + 1\n",
        TRANSFORMER,
        BEAM,
    ),
    mutation("a beam's length is not paid for", "lm/beam_search.py", "scores / length**self._config.length_penalty", "scores / 1", BEAM),
    mutation("early stopping is too early", "lm/beam_search.py", "<= self.scores[:, -1]", "<= self.scores[:, 0]", BEAM),
    mutation(
        "nucleus sampling leaves out one token too many",
        "lm/decoding.py",
        "before >= config.top_p",
        "before + probabilities >= config.top_p",
        BEAM,
    ),
    mutation(
        "weights of two experts do not sum to one",
        "lm/experts.py",
        "return best.softmax(-1), experts",
        "return best.sigmoid(), experts",
        EXPERTS,
        TRANSFORMER,
    ),
    mutation(
        "padding counts for the router's load", "lm/experts.py", "counts = None if mask is None else", "counts = None if True else", EXPERTS
    ),
    mutation("the router's z-loss is not squared", "lm/experts.py", "weigh(log_sum.square())[0]", "weigh(log_sum)[0]", EXPERTS),
    mutation(
        "the language model's clipping ignores its flag",
        "lm/training.py",
        "max_grad_norm=config.max_grad_norm",
        "max_grad_norm=1e9",
        CLIPPING,
    ),
    # ------------------------------------------------------------------ rl
    mutation(
        "a time limit ends the value",
        "rl/advantages.py",
        "next_values[terminated] = 0.0",
        "next_values[terminated | truncated] = 0.0",
        ADVANTAGES,
    ),
    mutation(
        "advantages leak over an episode's end",
        "rl/advantages.py",
        "if t + 1 < num_steps and not ends[t, b]:",
        "if t + 1 < num_steps:",
        ADVANTAGES,
    ),
    mutation("advantages are not discounted", "rl/advantages.py", "sums[t, b] += decay * sums", "sums[t, b] += sums", ADVANTAGES),
    mutation("n-step returns run over an end", "rl/advantages.py", "if ends[k, b] or k ==", "if k ==", ADVANTAGES),
    mutation("PPO takes the greater surrogate", "rl/ppo.py", "-torch.minimum(ratio * advantages", "-torch.maximum(ratio * advantages", PPO),
    mutation(
        "PPO's clipped value error is the smaller", "rl/ppo.py", "errors = torch.maximum(errors", "errors = torch.minimum(errors", PPO
    ),
    mutation("PPO punishes entropy", "rl/ppo.py", "- entropy_coefficient * mean_entropy", "+ entropy_coefficient * mean_entropy", PPO),
    mutation("PPO's KL penalty has the wrong sign", "rl/ppo.py", "loss + kl_coefficient * kl", "loss - kl_coefficient * kl", PPO),
    mutation(
        "PPO's gradients are not clipped",
        "rl/ppo.py",
        "[self.optimizer], max_grad_norm=self.config.max_grad_norm)",
        "[self.optimizer], max_grad_norm=1e9)",
        PPO,
    ),
    mutation(
        "importance weights are missing in the recurrent Q loss",
        "rl/recurrent_q.py",
        "(sample.weights[:, None] * errors.square() * mask)",
        "(errors.square() * mask)",
        Q_LOSS,
    ),
    mutation(
        "the recurrent Q targets come from the online network", "rl/recurrent_q.py", "slow = run(target)", "slow = run(online)", Q_LOSS
    ),
    mutation(
        "double Q asks the slow weights for the best choice",
        "rl/recurrent_q.py",
        "best = online.masked_fill",
        "best = target.masked_fill",
        Q_TARGETS,
    ),
    mutation(
        "the target network is always the newest",
        "rl/recurrent_q.py",
        "slow.lerp_(fast, self.config.target_rate)",
        "slow.lerp_(fast, 1.0)",
        Q_LOSS,
    ),
    mutation("closed choices are worth something", "rl/recurrent_q.py", ".squeeze(-1) * available.any(-1)", ".squeeze(-1)", Q_TARGETS),
    mutation(
        "importance weights grow with priority",
        "rl/priorities.py",
        "raise_all(ratios, -beta, powers)",
        "raise_all(ratios, beta, powers)",
        REPLAY,
    ),
    mutation("weights are normalised by the smallest", "rl/priorities.py", "points[i] < lowest:", "points[i] > lowest:", REPLAY),
    mutation(
        "an option's discount ignores its length",
        "rl/options.py",
        "        return self.discount**self.length",
        "        return self.discount",
        RETURNS,
    ),
    mutation("an option's rewards are not discounted", "rl/options.py", "+= self.discount**self.length * reward", "+= reward", RETURNS),
    # ------------------------------------------------------------------ planning
    mutation(
        "the other player's value is ours",
        "planning/search_kernels.py",
        "+ tree.discounts[b, node] * value",
        "+ abs(tree.discounts[b, node]) * value",
        MCTS,
    ),
    mutation(
        "the mean of a value moves too far",
        "planning/search_kernels.py",
        "q += (value - q) / tree.visits[b, parent, action]",
        "q += value - q",
        MCTS,
    ),
    mutation("bounds of Q do not see whose turn it is", "planning/search_kernels.py", "        q *= tree.signs[b, parent]\n", "", MCTS),
    mutation(
        "exploration does not fall with visits",
        "planning/search_kernels.py",
        "exploration * prior / (1 + visits)",
        "exploration * prior",
        MCTS,
    ),
    mutation(
        "an illegal action keeps its prior",
        "planning/search_kernels.py",
        "is_masked and not prediction.legal[row, a]",
        "False and is_masked",
        MCTS,
    ),
    mutation(
        "halving counts the visits of an earlier search",
        "planning/search_kernels.py",
        "index += tree.visits[b, 0, a] - tree.start_visits[b, a]",
        "index += tree.visits[b, 0, a]",
        MCTS,
    ),
    mutation(
        "chance falls in the order of its list",
        "planning/chance_nodes.py",
        "place = np.float64((key ^ (key >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0 + num_visits",
        "place = 0.0 * np.float64(key) + num_visits",
        CHANCE,
    ),
    mutation(
        "an afterstate is drawn as if it was never visited",
        "planning/chance_nodes.py",
        "_key_of(chance, b, afterstate), tree.visits[b, node, action])",
        "_key_of(chance, b, afterstate), 0)",
        CHANCE,
    ),
    mutation(
        "a fallen outcome is not remembered",
        "planning/chance_nodes.py",
        "chance.nodes[b, paths.afterstates[b], paths.outcomes[b]], chance.outcomes[b, node] = node, paths.outcomes[b]",
        "chance.nodes[b, paths.afterstates[b], 0], chance.outcomes[b, node] = node, paths.outcomes[b]",
        CHANCE,
    ),
    mutation("probabilities may sum to anything", "planning/chance_nodes.py", "if not abs(total - 1.0) < 1e-5: return b", "pass", CHANCE),
    mutation("calls of frozen programs get all of the prior each", "planning/oops.py", "share / len(self.frozen)", "share", OOPS),
    mutation("a phase has twice its time", "planning/oops.py", "limit / 2, count)", "2 * limit, count)", OOPS),
    mutation(
        "a level of thoughts is not ordered",
        "planning/tree_of_thought.py",
        'if node.status == "open"), key=rank)',
        'if node.status == "open"), key=id)',
        THOUGHT,
    ),
    mutation(
        "one expansion too many is paid for",
        "planning/tree_of_thought.py",
        'getattr(self, f"num_{name}") >= limit',
        'getattr(self, f"num_{name}") > limit',
        THOUGHT,
    ),
    # ------------------------------------------------------------------ web
    mutation(
        "cached though it says no-store",
        "web/rules.py",
        'if "no-store" in names or "private"',
        'if "private"',
        "tests/fetch/test_fetch_cache.py",
    ),
    mutation(
        "an address that embeds a private one is public",
        "web/rules.py",
        "if inner is not None: return is_public(str(inner))",
        "if inner is not None: return True",
        "tests/fetch/test_fetch_addresses.py",
    ),
    mutation("multicast is a public address", "web/rules.py", " and not ip.is_multicast", "", "tests/fetch/test_fetch_addresses.py"),
    mutation("ranks of merged searches do not matter", "web/search.py", "1 / (60 + rank)", "1 / 60", SEARCH),
    # ------------------------------------------------------------------ knowledge and reading
    mutation("chunks have no overlap", "knowledge/chunks.py", "first = max(last - overlap, first + 1)", "first = last", CHUNKS),
    mutation(
        "a chunk may hold any number of characters",
        "knowledge/chunks.py",
        " and pieces[last][1] - pieces[first][0] <= max_chars",
        "",
        CHUNKS,
    ),
    mutation("the reader sees no second window", "reading/reader.py", "if start + size >= len(encoded.ids): break", "break", WINDOWS),
    # ------------------------------------------------------------------ world
    mutation(
        "a cut game earns no value",
        "world/targets.py",
        "total += np.where(stops, factor * values[:, step], 0.0)",
        "total += 0.0",
        WORLD_PLAY,
        WORLD_TRAINING,
    ),
    mutation(
        "value targets are not discounted",
        "world/targets.py",
        "going & ~terminated[:, step], factor * discount",
        "going & ~terminated[:, step], factor",
        WORLD_PLAY,
        WORLD_TRAINING,
    ),
    mutation(
        "equal states are each other's negatives",
        "world/losses.py",
        "similarity.masked_fill(is_other_way, -math.inf)",
        "similarity",
        WORLD_LOSSES,
    ),
    mutation(
        "variances count as covariances",
        "world/losses.py",
        "covariance.square().sum() - covariance.diagonal().square().sum()",
        "covariance.square().sum()",
        WORLD_LOSSES,
    ),
    mutation(
        "the divergence is taken the other way round",
        "world/losses.py",
        "(old.exp() * (old - new))",
        "(new.exp() * (new - old))",
        WORLD_LOSSES,
    ),
    mutation(
        "the world model's clipping ignores its flag",
        "world/training.py",
        "max_grad_norm=config.max_grad_norm",
        "max_grad_norm=1e9",
        CLIPPING,
    ),
    # ------------------------------------------------------------------ agent
    mutation("a quotation need not be on the page", "agent/ledger.py", "if not document.holds(span):", "if False:", ANSWERING),
    mutation("a budget may be overdrawn", "agent/ledger.py", "self.left(what) >= amount)", "self.left(what) >= 0)", ANSWERING),
    mutation(
        "the unlikeliest answer is said",
        "agent/writing.py",
        "key=lambda item: (-item[0], item[1].order)",
        "key=lambda item: (item[0], item[1].order)",
        ANSWERING,
    ),
)


def misfits() -> list[str]:
    "Mutations whose text is not in its module exactly once, or whose tests are not there."
    problems = []
    for one in MUTATIONS:
        text = (ROOT / "lightbulb" / one.file).read_text("utf-8") if (ROOT / "lightbulb" / one.file).exists() else ""
        for old, new in one.edits:
            if text.count(old) != 1:
                problems.append(f"{one.file}: {one.what}: stands there {text.count(old)} times: {old!r}")
            if old == new:
                problems.append(f"{one.file}: {one.what}: changes nothing")
        problems += [f"{one.what}: {name} is not there" for name in one.tests if not (ROOT / name.partition("::")[0]).exists()]
    return problems


def copy_checkout(target: Path) -> None:
    "What the tests need, with links to what is large and never written."
    for name in ("lightbulb", "tests", "benchmarks", "tools", "nbs"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pytest.ini", "settings.ini", "main_menu.py", "lightbulb_LM.py", "lightbulb_WM.py", "README.md"):
        shutil.copy(ROOT / name, target / name)


def verdict_on(one: Mutation, copy: Path) -> str:
    "noticed; SURVIVES: all of its tests pass although the error is there; or TIMED OUT."
    path = copy / "lightbulb" / one.file
    whole = path.read_text("utf-8")
    changed = whole
    for old, new in one.edits:
        changed = changed.replace(old, new)
    path.write_text(changed, "utf-8")
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("LIGHTBULB_CACHE", str(ROOT / ".cache" / "lightbulb"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *one.tests]
    try:
        status = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return "TIMED OUT"
    finally:
        path.write_text(whole, "utf-8")
    if status not in (0, 1, 2): raise RuntimeError(f"{one.what}: pytest ended with status {status}")
    return "noticed" if status else "SURVIVES"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a word of a mutation's file or text")
    parser.add_argument("--check", action="store_true", help="change nothing and run nothing")
    parser.add_argument("--keep", type=Path, help="a file of verdicts, one a line")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further mutation after so many")
    args = parser.parse_args()
    problems = misfits()
    for problem in problems:
        print(problem)
    if args.check or problems:
        print(f"{len(MUTATIONS)} mutations, {len(problems)} do not fit")
        return int(bool(problems))
    chosen = [one for one in MUTATIONS if args.only in f"{one.file} {one.what}"]
    known = dict(line.rsplit(" | ", 1) for line in args.keep.read_text("utf-8").splitlines()) if args.keep and args.keep.exists() else {}
    survivors, deadline = [], time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="lightbulb_mutants_") as folder:
        copy_checkout(Path(folder))
        for one in chosen:
            name, begin = f"{one.file}: {one.what}", time.monotonic()
            if name not in known:
                if begin > deadline: break
                known[name] = verdict_on(one, Path(folder))
                if args.keep:
                    with args.keep.open("a", encoding="utf-8") as file:
                        file.write(f"{name} | {known[name]}\n")
            if known[name] != "noticed":
                survivors.append(one)
            print(f"{known[name]:<9} {time.monotonic() - begin:5.0f} s  {name}", flush=True)
    print(f"{len(chosen)} mutations, {len(survivors)} survive, {sum(f'{one.file}: {one.what}' not in known for one in chosen)} not tried")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
