"""Every planner on Countdown with one small network at equal forwards; and whether its values know which sibling can be solved.

The network (`_countdown_model.py`) is taught by exhaustive search on the training numbers and kept in the cache. A forward of it gives
the proposals and the value of one state; a state is paid once a run; the exact reward ends a run, for every planner alike, and costs
nothing. Settings of planners are chosen on validation problems, the table is of test problems, whose numbers nobody has seen.
`--network small` takes one that half a minute of training gives. Finished exams are kept in the cache by a digest of everything that
decides them, so a stopped benchmark goes on.

A forward costs the same arithmetic whoever asks (inputs are padded), so equal forwards are equal FLOPs of the network. What a planner costs
besides, and what it saves by asking about many states at once, is in CPU-seconds: each planner solves the same problems once more, in turn
and with nothing known beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _countdown_model import NetworkPredict, Settings, inputs, trained_network
from _scoring import wilson
from _table import Table
from torch.utils.flop_counter import FlopCounterMode

from lightbulb.planning.planners import PlannerConfig
from lightbulb.planning.run_events import PlannerBudget
from lightbulb.world.text_environments import Countdown, TextProblem
from lightbulb.world.text_planning import plan_in

NETWORKS = {"small": Settings(width=64, batch_size=256, num_steps=500), "long": Settings()}
BUDGETS = {3: (2, 3, 4, 6, 8, 16), 4: (8, 16, 32, 64, 128, 256, 512)}  # of forwards, by the number of numbers
MILLISECONDS = (4, 8, 16, 32, 64, 128, 256)  # of one processor, for one problem
TOGETHER = {"mcts": 4, "uct": 16, "gumbel": 16}  # planner → leaves at once, chosen on 40 validation problems of four numbers
CHOICES: dict[str, list[dict[str, Any]]] = {  # planner → settings to choose from
    "greedy": [{}],
    "best_of_n": [{"temperature": temperature} for temperature in (1.0, 2.0)],
    "beam": [{}],
    "value_beam": [{"candidates": many, "prior_weight": weight} for many in (2, 4) for weight in (0.0, 0.1, 0.3, 1.0)],
    "tot_bfs": [{"prior_weight": weight} for weight in (0.0, 0.1)],
    "tot_dfs": [{}, {"value_threshold": 0.2}],
    "best_first": [{}],
    "uct": [{"exploration_constant": constant} for constant in (0.3, 1.0)],
    "mcts": [{"exploration_constant": constant} for constant in (0.25, 0.5, 1.25, 3.0)],
    "gumbel": [{}],
    "levin": [{}],
    "oops": [{}],
}


def code() -> str:
    "Of what decides how an exam goes."
    root, here = Path(__file__).resolve().parents[1] / "lightbulb", Path(__file__).resolve()
    names = (
        "planning/planners",
        "planning/mcts",
        "planning/oops",
        "planning/tree_of_thought",
        "world/text_planning",
        "world/text_environments",
    )
    return "".join(path.read_text("utf-8") for path in (*(root / f"{name}.py" for name in names), here.with_name("_countdown_model.py")))


class Exam:
    "Problems, the network's answers, and the forwards after which each planner solved each problem."

    def __init__(self, predict: NetworkPredict, problems: Sequence[TextProblem], folder: Path) -> None:
        self.predict, self.environment, self.problems, self.folder = predict, predict.environment, problems, folder
        self.budgets = BUDGETS[predict.environment.num_numbers]

    def forwards_needed(self, config: PlannerConfig) -> np.ndarray:
        "(problems, budgets): was it solved? One run with the largest budget says it for all of them, but for gumbel."
        words = json.dumps([asdict(config), [problem.name for problem in self.problems], self.budgets, code()])
        kept = self.folder / f"exam-{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"
        if kept.exists(): return np.array(json.loads(kept.read_text()), bool)
        solved = np.zeros((len(self.problems), len(self.budgets)), bool)
        depth = self.environment.num_numbers - 1
        for row, problem in enumerate(self.problems):
            self.predict.know_all(self.environment.start(problem))
            for column, most in enumerate(self.budgets) if config.planner == "gumbel" else [(-1, self.budgets[-1])]:
                result = plan_in(self.environment, problem, self.predict, config, max_depth=depth, budget=PlannerBudget(forwards=most))
                assert result.cost.forwards <= most
                if result.is_solved and config.planner == "gumbel":
                    solved[row, column] = True
                elif result.is_solved:
                    solved[row] = [result.cost.forwards <= budget for budget in self.budgets]
        kept.write_text(json.dumps(solved.astype(int).tolist()))
        return solved


def interval(successes: np.ndarray) -> str:
    "A share with Wilson's 95% interval."
    p = float(successes.mean())
    low, high = wilson(p, len(successes))
    return f"{100 * p:.0f}% ({100 * low:.0f} to {100 * high:.0f})"


def difference(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    "Of two shares over the same problems, in points, with a 95% interval by the bootstrap."
    each = ours.astype(float) - theirs.astype(float)
    draws = np.random.default_rng(seed).choice(each, (4000, len(each))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return 100 * float(each.mean()), 100 * float(low), 100 * float(high)


def sibling_accuracy(predict: NetworkPredict, problems: Sequence[TextProblem]) -> tuple[float, float, int]:
    "How often the value (and the prior) of a sibling that can be solved is above that of one that cannot; and the number of pairs."
    environment = predict.environment
    by_value, by_prior, pairs = 0.0, 0.0, 0
    for problem in problems:
        level = [environment.start(problem)]
        while level := [state for state in level if not environment.is_over(state) and environment.can_be_solved(state)][:6]:
            below = []
            for state in level:
                ((named, _),) = predict([state])
                after = [environment.act(state, action) for action, _ in named]
                values, good = [value for _, value in predict(after)], [environment.can_be_solved(child) for child in after]
                for i, j in ((i, j) for i in range(len(after)) for j in range(len(after)) if good[i] and not good[j]):
                    pairs += 1
                    by_value += (values[i] > values[j]) + 0.5 * (values[i] == values[j])
                    by_prior += (named[i][1] > named[j][1]) + 0.5 * (named[i][1] == named[j][1])
                below += after
            level = below
    return by_value / pairs, by_prior / pairs, pairs


def flops_of_a_forward(predict: NetworkPredict) -> int:
    "Of one state: multiplications and additions of its matrix products."
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        predict.network(**inputs([(tuple(range(2, 2 + predict.environment.num_numbers)), 24)]))
    return counter.get_total_flops()


def timed(predict: NetworkPredict, problems: Sequence[TextProblem], configs: dict[str, PlannerConfig]) -> dict[str, np.ndarray]:
    "Planner → which problems (problems, MILLISECONDS) it has solved within so much time, network and tree together."
    budgets, depth = BUDGETS[predict.environment.num_numbers], predict.environment.num_numbers - 1
    spent = {name: np.full((len(problems), len(budgets)), np.inf) for name in configs}  # until a solution, inf: none
    whole = {name: np.zeros((len(problems), len(budgets))) for name in configs}  # of the run
    names, in_rounds = list(configs), {name for name, config in configs.items() if config.planner == "gumbel"}
    for row, problem in enumerate(problems):
        for name in names[row % len(names) :] + names[: row % len(names)]:  # in turn, so that no planner has the quiet minutes
            for column, most in enumerate(budgets) if name in in_rounds else [(len(budgets) - 1, budgets[-1])]:
                predict.known.clear()
                start = time.process_time()
                result = plan_in(predict.environment, problem, predict, configs[name], max_depth=depth, budget=PlannerBudget(forwards=most))
                whole[name][row, column] = time.process_time() - start
                if result.is_solved:
                    spent[name][row, column] = whole[name][row, column]
    found = {}
    for name in names:
        columns = []
        for limit in MILLISECONDS:
            affordable = [column for column in range(len(budgets)) if np.median(whole[name][:, column]) * 1000 <= limit]
            column = -1 if name not in in_rounds else affordable[-1] if affordable else 0
            columns.append(spent[name][:, column] * 1000 <= limit)
        found[name] = np.stack(columns, 1)
    return found


def gap_words(within: dict[str, np.ndarray], ours: str, rival: str) -> str:
    "Points between two planners at each number of milliseconds."
    gaps = [difference(within[ours][:, column], within[rival][:, column]) for column in range(len(MILLISECONDS))]
    return "; ".join(f"{limit}: {gap:+.0f} ({low:+.0f} to {high:+.0f})" for limit, (gap, low, high) in zip(MILLISECONDS, gaps, strict=True))


def timed_rows(
    table: Table, predict: NetworkPredict, problems: Sequence[TextProblem], configs: dict[str, PlannerConfig], best: str
) -> None:
    "The planners at equal time of one processor, the best on validation beside its rivals, and what a forward costs."
    size, budgets = predict.environment.num_numbers, BUDGETS[predict.environment.num_numbers]
    flops = flops_of_a_forward(predict)
    table.row(
        f"{size} numbers, any planner: million FLOPs of the network within forwards ({flops:,} each)",
        "; ".join(f"{most}: {most * flops / 1e6:.1f}" for most in budgets),
    )
    within = timed(predict, problems, configs)
    for name, solved in within.items():
        shares = "; ".join(f"{limit}: {interval(solved[:, column])}" for column, limit in enumerate(MILLISECONDS))
        table.row(f"{size} numbers, {name}: solved within CPU-milliseconds", shares)
    for rival in ("greedy", "best_of_n", "beam", "value_beam"):
        words = gap_words(within, best, rival)
        table.row(f"{size} numbers, {best} (best on validation) minus {rival} at equal CPU-milliseconds, points", words)
    means = sorted(((float(solved.mean()), name) for name, solved in within.items()), reverse=True)
    table.row(
        f"{size} numbers, mean over the milliseconds, percent, {len(problems)} problems",
        ", ".join(f"{name} {100 * mean:.0f}" for mean, name in means),
    )


def examine(table: Table, predict: NetworkPredict, folder: Path, *, num_problems: int, num_validation: int) -> None:
    "All planners on one size of problem."
    size = predict.environment.num_numbers
    budgets = BUDGETS[size]
    validation = Exam(predict, predict.environment.problems("validation", num_validation), folder)
    test = Exam(predict, predict.environment.problems("test", num_problems), folder)
    solved: dict[str, np.ndarray] = {}
    validated: dict[str, float] = {}  # planner → mean over the budgets, where settings are chosen
    chosen: dict[str, PlannerConfig] = {}
    for name, choices in CHOICES.items():
        configs = [replace(PlannerConfig(), planner=name, **choice) for choice in choices]
        scores = [float(validation.forwards_needed(config).mean()) for config in configs]
        pick = int(np.argmax(scores))
        validated[name], chosen[name] = scores[pick], configs[pick]
        solved[name] = test.forwards_needed(configs[pick])
        words = ", ".join(f"{key} {value:g}" for key, value in choices[pick].items())
        shares = "; ".join(f"{most}: {interval(solved[name][:, column])}" for column, most in enumerate(budgets))
        table.row(f"{size} numbers, {name}{f' ({words})' if words else ''}: solved within forwards", shares)
        if name != "gumbel":
            assert (np.diff(solved[name].astype(int), axis=1) >= 0).all()
    means = {name: float(share.mean()) for name, share in solved.items()}
    plain, others = ("greedy", "best_of_n", "beam"), [name for name in CHOICES if name not in ("greedy", "best_of_n", "beam", "value_beam")]
    best = max(others, key=validated.__getitem__)
    for rival in (*plain, "value_beam"):
        gaps = [difference(solved[best][:, column], solved[rival][:, column]) for column in range(len(budgets))]
        words = "; ".join(f"{most}: {gap:+.0f} ({low:+.0f} to {high:+.0f})" for most, (gap, low, high) in zip(budgets, gaps, strict=True))
        ahead, behind = sum(low > 0 for _, low, _ in gaps), sum(high < 0 for *_, high in gaps)
        aim = "ahead at some budget, behind at none" if rival != "value_beam" else ""
        table.row(
            f"{size} numbers, {best} (best on validation) minus {rival}, points", words, aim, (ahead > 0 and not behind) if aim else None
        )
    means_text = ", ".join(f"{name} {100 * mean:.0f}" for name, mean in sorted(means.items(), key=lambda item: -item[1]))
    table.row(f"{size} numbers, mean over the budgets, percent", means_text)
    timed_rows(table, predict, test.problems[: num_problems // 2], chosen, best)
    by_value, by_prior, pairs = sibling_accuracy(predict, test.problems)
    table.row(
        f"{size} numbers, siblings of which one can be solved and one cannot: value, prior rank them right",
        f"{100 * by_value:.1f}%, {100 * by_prior:.1f}% of {pairs:,} pairs",
        "value > 50%",
        by_value > 0.5,
    )


def leaves_table(predict: NetworkPredict, folder: Path, options: argparse.Namespace) -> int:
    "Tree search that asks about several leaves at once, beside itself one leaf at a time, and beside beams."
    table, many = Table("Tree search on Countdown with several leaves at once"), {name: TOGETHER[name] for name in options.together}
    validation = Exam(predict, predict.environment.problems("validation", options.problems // 4), folder)
    configs: dict[str, PlannerConfig] = {}
    for name in ("beam", "value_beam", *many):
        choices = [replace(PlannerConfig(), planner=name, **choice) for choice in CHOICES[name]]
        configs[name] = max(choices, key=lambda config: validation.forwards_needed(config).mean())
    configs |= {f"{name}, {leaves} at once": replace(configs[name], leaves_at_once=leaves) for name, leaves in many.items()}
    test = Exam(predict, predict.environment.problems("test", options.problems), folder)
    solved = {name: test.forwards_needed(config) for name, config in configs.items()}
    for name, shares in solved.items():
        words = "; ".join(f"{most}: {interval(shares[:, column])}" for column, most in enumerate(test.budgets))
        table.row(f"{name}: solved within forwards", f"{words}; mean {100 * shares.mean():.0f}%")
    within = timed(predict, test.problems[: options.problems // 2], configs)
    for name, shares in within.items():
        words = "; ".join(f"{limit}: {interval(shares[:, column])}" for column, limit in enumerate(MILLISECONDS))
        table.row(f"{name}: solved within CPU-milliseconds", f"{words}; mean {100 * shares.mean():.0f}%")
    for name, leaves in many.items():
        together = f"{name}, {leaves} at once"
        for rival in (name, "beam"):
            gap, low, high = difference(within[together].mean(1), within[rival].mean(1))
            table.row(
                f"{together} minus {rival} at equal CPU-milliseconds, points; their mean",
                f"{gap_words(within, together, rival)}; {gap:+.1f} ({low:+.1f} to {high:+.1f})",
                "the mean above 0" if rival == name else "",
                low > 0 if rival == name else None,
            )
    table.note(
        f"Problems of four numbers: {options.problems} of the test split, {options.problems // 2} of them for the milliseconds, planners "
        f"in turn, network and tree together, nothing known before. Settings were chosen on {options.problems // 4} validation problems, "
        "one leaf at a time; how many at once, on 40 of them at equal CPU-milliseconds. At once: chosen before anybody is asked, a visit "
        "counting before its value is known, then asked about in one batch. Intervals: 95%, Wilson's for shares, paired bootstrap for "
        "differences."
    )
    return table.finish(options.record, keeps_others=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most a minute: the small network, 30 problems of each size")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="long", help="half a minute of training, or some minutes")
    parser.add_argument("--problems", type=int, default=200, help="test problems of each size; a quarter as many for validation")
    parser.add_argument("--only", choices=("leaves",), help="only the table of several leaves at once")
    parser.add_argument("--together", nargs="+", choices=sorted(TOGETHER), default=list(TOGETHER), help="planners of that table")
    options = parser.parse_args()
    if options.quick:
        options.network, options.problems = "small", 30
    settings = NETWORKS[options.network]
    network, notes = trained_network(settings)
    if options.only == "leaves": return leaves_table(NetworkPredict(network, Countdown(4)), settings.folder, options)
    table = Table("Planners on Countdown at equal forwards")
    last = notes["curve"][-1]
    table.row(
        "the network: parameters; training",
        f"{notes['parameters']:,}; {notes['step']:,} steps of {settings.batch_size} states, {notes['seconds']:.0f} CPU-s; "
        f"cross-entropy of the policy {last[1]:.2f} nats, of the value {last[2]:.2f}",
        "at most 10,000,000",
        notes["parameters"] <= 10_000_000,
    )
    for size in (3, 4):
        predict = NetworkPredict(network, Countdown(size))
        examine(table, predict, settings.folder, num_problems=options.problems, num_validation=options.problems // 4)
    table.note(
        f"{options.problems} test problems of each size, settings of planners chosen on {options.problems // 4} others. "
        f"The network learned for {notes['seconds']:.0f} CPU-s, where an hour of two cores is allowed. "
        "A run ends with the first proposed thought that reaches the target. With three numbers there are at most 13 states to ask about, "
        "with four at most 313: the largest budgets are enough for everything. All planners but gumbel are anytime. CPU-milliseconds: half "
        "of the test problems, planners in turn, network and tree together, nothing known before; gumbel gets the largest budget of "
        "forwards whose median run fits. Intervals: 95%, "
        f"Wilson's for shares, paired bootstrap for differences. Settings of the network: {json.dumps(asdict(settings))}."
    )
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
