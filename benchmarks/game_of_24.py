"""Every planner on identical thoughts: what GPT-4 proposed and thought of it (Game of 24, puzzles 901 to 1000, Yao et al. 2023).

GPT-4 saw only the numbers that are left, so its record is read by them: states that are reached on two ways share proposals and value.
States that its own run did not expand are dead ends here, so a planner that leaves that run's path is measured from below. A planner
submits one chain of three steps and a program writes the last line. Three settings, each for all planners alike: nothing is checked; steps
that cannot be carried out are left out before they are judged (operands that are not there); a verifier ends the search with the first
chain whose line is 24. Settings of planners are chosen on every third puzzle, the table is of the others.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from _scoring import wilson
from _table import Table, arguments, skip_without

from lightbulb.planning.planners import Plan, PlannerConfig, ThoughtFunctions, plan
from lightbulb.planning.run_events import PlannerBudget, ModelAsked
from lightbulb.planning.tree_of_thought import Thought, ToTNode
from lightbulb.world.text_environments import GameOf24

CARDS = GameOf24()
STEP = re.compile(r"\(?(-?[\d./]+)\)?\s*([-+*/x×÷])\s*\(?(-?[\d./]+)\)?\s*[=≈]\s*(-?[\d./]+)\s*\(left: ([^)]*)\)")
CHOICES = {  # planner → configurations to choose from on a third of the puzzles
    "greedy": [{}],
    "best_of_n": [{"temperature": 1.0}],
    "self_consistency": [{"temperature": 1.0}],
    "beam": [{}],
    "value_beam": [{"beam_width": width, "candidates": many} for width in (3, 5) for many in (4, 8)],
    "tot_bfs": [{"beam_width": width, "value_threshold": least} for width in (3, 5, 8) for least in (0.0, 0.5, 1.0)],
    "tot_dfs": [{"value_threshold": least} for least in (0.0, 0.5, 1.0, 2.0)],
    "best_first": [{"value_threshold": least} for least in (0.0, 0.5, 1.0)],
    "uct": [{"exploration_constant": constant} for constant in (0.2, 0.5, 1.25)],
    "mcts": [{"exploration_constant": constant} for constant in (0.2, 0.5, 1.25)],
    "gumbel": [{}],
    "levin": [{}],
    "oops": [{}],
}
SETTINGS = ("nothing checked", "steps checked", "verifier-assisted")
FORWARDS = 100  # 16 proposals and 84 values: what the record's own run asked for on average


def carried_out(parts: list[tuple[str, str]], step: str) -> list[tuple[str, str]] | None:
    "The numbers that are left with how each was made; None for a step that uses a number that is not there. No result is checked."
    match = STEP.search(step)
    if not match: return None
    rest, texts = list(parts), []
    for operand in match.group(1, 3):
        place = next((i for i, (number, _) in enumerate(rest) if number == operand), None)
        if place is None: return None
        texts.append(rest.pop(place)[1])
    sign = match[2].translate(str.maketrans("x×÷", "**/"))
    return [*rest, (match[4], f"({texts[0]} {sign} {texts[1]})")]


class Record:
    "GPT-4 on one puzzle, by the numbers that are left."

    def __init__(self, entry: dict[str, Any]) -> None:
        self.puzzle: str = entry["steps"][0]["x"]
        self.problem = CARDS.problem([int(number) for number in self.puzzle.split()])
        self.proposals: dict[str, list[str]] = {}
        self.values: dict[str, float] = {}
        self.num_unrecorded = 0
        for step in entry["steps"][:3]:
            for text, value in zip(step["new_ys"], step["values"], strict=True):
                lines = text.strip().split("\n")
                parent = self.left(lines[-2]) if len(lines) > 1 else self.sorted_numbers(self.puzzle)
                steps = self.proposals.setdefault(parent, [])
                if lines[-1] not in steps:
                    steps.append(lines[-1])
                state = self.left(lines[-1])
                self.values[state] = max(self.values.get(state, 0.0), value)  # a repetition was given 0 there
        first, *others = entry["ys"]
        self.recorded_first = self.is_right_line(first)
        self.recorded_any = self.recorded_first or any(map(self.is_right_line, others))
        self.num_asked = sum(len(step["ys"]) + len(step["new_ys"]) for step in entry["steps"])

    def is_right_line(self, text: str) -> bool:
        "The record's own last line, written by GPT-4."
        return CARDS.score_answer(self.problem, text) == 1.0

    @staticmethod
    def sorted_numbers(numbers: str) -> str:
        return " ".join(sorted(numbers.split()))

    def left(self, step: str) -> str:
        "The numbers that a step says are left, as one name; the step itself where it says nothing."
        match = re.search(r"\(left: ([^)]*)\)", step)
        return self.sorted_numbers(match[1]) if match else step

    def state(self, node: ToTNode) -> str:
        return self.left(node.text) if node.parent else self.sorted_numbers(self.puzzle)

    def line(self, node: ToTNode) -> str:
        "The last line, written by a program from the steps; empty if they cannot be carried out."
        parts: list[tuple[str, str]] | None = [(number, number) for number in self.puzzle.split()]
        for step in node.path()[1:]:
            parts = carried_out(parts, step.text) if parts else None
        return f"{parts[0][1]} = 24" if parts and len(parts) == 1 else ""

    def is_right(self, node: ToTNode | None) -> bool:
        return bool(node and node.depth == 3 and CARDS.score_answer(self.problem, self.line(node)))

    def run(self, config: PlannerConfig, setting: str, *, budget: PlannerBudget, seed: int = 0) -> Plan:
        "One planner on this puzzle."

        def propose(nodes: Sequence[ToTNode]) -> list[list[Thought]]:
            answers = []
            for node in nodes:
                steps = self.proposals.get(self.state(node), [])
                self.num_unrecorded += self.state(node) not in self.proposals
                if setting != "nothing checked":
                    parts = [(number, number) for number in node.path()[0].payload.split()]
                    for step in node.path()[1:]:
                        parts = carried_out(parts, step.text) or parts
                    steps = [step for step in steps if carried_out(parts, step)]
                answers.append([Thought(step) for step in steps])
            return answers

        thinking = ThoughtFunctions(
            propose=propose,
            evaluate=lambda nodes: [self.values.get(self.state(node), 0.0) for node in nodes],
            is_solution=self.is_right if setting == "verifier-assisted" else None,
            key=lambda node: self.state(node) if node.depth < 3 else "\n".join(step.text for step in node.path()[1:]),
            answer=self.line,
            max_depth=3,
        )
        return plan(ToTNode(self.puzzle, payload=self.puzzle), thinking, config, budget=budget, seed=seed)


def share(rights: Sequence[bool]) -> str:
    "With Wilson's 95% interval."
    p = sum(rights) / len(rights)
    low, high = wilson(p, len(rights))
    return f"{100 * p:.0f}% ({100 * low:.0f} to {100 * high:.0f})"


def outcome(records: Sequence[Record], config: PlannerConfig, setting: str) -> tuple[list[bool], float, float, float]:
    "Which are right; forwards, of which values, and unrecorded states a puzzle."
    rights, forwards, values, unrecorded = [], 0, 0, 0
    for record in records:
        record.num_unrecorded = 0
        result = record.run(config, setting, budget=PlannerBudget(forwards=FORWARDS))
        assert result.cost.forwards <= FORWARDS
        rights.append(record.is_right(result.best))
        forwards += result.cost.forwards
        values += sum(isinstance(event, ModelAsked) and event.stage == "evaluate" and not event.reused for event in result.events)
        unrecorded += record.num_unrecorded
    return rights, forwards / len(records), values / len(records), unrecorded / len(records)


def main() -> int:
    options = arguments(__doc__ or "", data=True)
    source = options.data / "game24"
    skip_without(source)
    records = [Record(entry) for entry in json.loads((source / "gpt4_proposals_900_1000.json").read_text("utf-8"))]
    chosen_on, reported = records[::3], [record for i, record in enumerate(records) if i % 3]
    if options.quick:
        chosen_on, reported = chosen_on[::3], reported[::3]
    table = Table("Every planner on the recorded thoughts of GPT-4 (Game of 24)")
    asked = sum(record.num_asked for record in reported) / len(reported)
    base = [record.recorded_first for record in reported]
    table.row("the record's own first answer, its last line written by GPT-4", f"{share(base)}; {asked:.0f} questions a puzzle")
    table.row("the record's own five answers, any of them right", share([record.recorded_any for record in reported]))
    for setting in SETTINGS:
        rows = []
        for name, choices in CHOICES.items():
            configs = [replace(PlannerConfig(), planner=name, **choice) for choice in choices]
            scores = [outcome(chosen_on, config, setting) for config in configs]
            ranks = [(sum(rights), -forwards) for rights, forwards, *_ in scores]
            pick = ranks.index(max(ranks))
            rights, forwards, values, unrecorded = outcome(reported, configs[pick], setting)
            rows.append((ranks[pick], name, sum(rights) / len(rights), forwards))
            words = ", ".join(f"{key} {value:g}" for key, value in choices[pick].items())
            label = f"{setting}: {name}{f' ({words})' if words else ''}"
            table.row(label, f"{share(rights)}; {forwards:.0f} questions, {values:.0f} of them values; {unrecorded:.1f} unrecorded states")
        _, name, rate, forwards = max(rows)
        table.row(
            f"{setting}: {name}, the planner that is best where settings are chosen",
            f"{100 * rate:.0f}% with {forwards:.0f} questions",
            f"≥ 70% with at most {asked:.0f}",
            rate >= 0.70 and forwards <= asked,
        )
    table.note(
        f"{len(reported)} puzzles, settings chosen on {len(chosen_on)} others; 95% intervals. A question is a proposal for one state or a "
        "value (three samples of GPT-4) of one state; equal states are asked about once; at most "
        f"{FORWARDS} questions. No probabilities were recorded: sampling is uniform, beam and levin follow the order of the proposals."
    )
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
