"""Search algorithms over identical thoughts: GPT-4's recorded proposals and values on the Game of 24, puzzles 901 to 1000.

The record (Yao et al. 2023, breadth-first with b = 5) holds what GPT-4 proposed below the states that its own run kept and
what it thought of every proposal. Replaying b = 5 must therefore keep the same states. A narrower or another search meets
states that were never expanded there; they count as dead ends and are reported, so its figure is a lower bound.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from _table import Table, arguments, skip_without

from lightbulb.planning.tree_of_thought import Thought, ToTConfig, ToTNode, ToTResult, ToTSearch, normalize_thought, rank

OPERATORS = {ast.Add: Fraction.__add__, ast.Sub: Fraction.__sub__, ast.Mult: Fraction.__mul__, ast.Div: Fraction.__truediv__}


def exact_value(node: ast.expr) -> Fraction:
    "Value of an expression of whole numbers."
    if isinstance(node, ast.BinOp): return OPERATORS[type(node.op)](exact_value(node.left), exact_value(node.right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int): return Fraction(node.value)
    raise ValueError("not arithmetic")


def is_right(puzzle: str, text: str) -> bool:
    "Does the answer use every number of the puzzle once, and is it 24?"
    expression = text.strip().splitlines()[-1].lower().removeprefix("answer:").partition("=")[0].strip()
    if sorted(re.findall(r"\d+", expression)) != sorted(puzzle.split()): return False
    try:
        return exact_value(ast.parse(expression, mode="eval").body) == 24
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
        return False


class Record:
    "GPT-4 on one puzzle, as functions that the search can ask."

    def __init__(self, entry: dict[str, Any]) -> None:
        self.puzzle, self.steps = entry["steps"][0]["x"], entry["steps"]
        self.proposals: dict[str, list[str]] = {}
        self.values: dict[str, float] = {}
        self.num_unrecorded = 0
        for step in self.steps:
            for text, value in zip(step["new_ys"], step["values"], strict=True):
                self.values.setdefault(text, value)  # a repetition was given 0 there
                parent = max((y for y in step["ys"] if text.startswith(y)), key=len)
                self.proposals.setdefault(parent, []).append(text[len(parent) :])

    def state(self, node: ToTNode) -> str:
        return "".join(step.text for step in node.path()[1:])

    def propose(self, nodes: Sequence[ToTNode]) -> list[list[str]]:
        self.num_unrecorded += sum(self.state(node) not in self.proposals for node in nodes)
        return [self.proposals.get(self.state(node), []) for node in nodes]

    def evaluate(self, nodes: Sequence[ToTNode]) -> list[float]:
        return [self.values[self.state(node)] for node in nodes]

    def search(self, stop_when_sure: bool = False, **config: Any) -> ToTResult:
        "Search to the end, or until GPT-4 once called a finished answer sure (a value of 20)."
        is_sure = (lambda node: node.depth == 4 and node.value >= 20) if stop_when_sure else None
        search = ToTSearch(self.propose, self.evaluate, is_solution=is_sure, config=ToTConfig(max_depth=4, max_nodes=None, **config))
        return search.run(ToTNode(self.puzzle))


def best_leaves(result: ToTResult, count: int) -> list[ToTNode]:
    "The best nodes of full length."
    return sorted((node for node in result.root.walk() if node.status == "terminal"), key=rank)[:count]


def keeps_the_same(record: Record, result: ToTResult) -> bool:
    "Were the states that the record kept (but for repetitions, which we merge) also kept here?"
    expanded = {normalize_thought(record.state(node)) for node in result.root.walk() if node.status == "expanded" and node.depth}
    kept = [{normalize_thought(text) for text in step["select_new_ys"] if record.values[text] > 0} for step in record.steps[:-1]]
    return all(states <= expanded for states in kept)


def operations(nodes: Sequence[ToTNode]) -> list[list[Thought]]:
    "The exact proposer: every operation on two of the numbers left."
    proposals = []
    for node in nodes:
        thoughts, numbers = [], list(node.payload)
        for i, j in combinations(range(len(numbers)), 2):
            a, b = numbers[i], numbers[j]
            rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
            results = [("+", a + b), ("*", a * b), ("-", a - b), ("r-", b - a)]
            results += [("/", a / b)] if b else []
            results += [("r/", b / a)] if a else []
            thoughts += [Thought(f"{a} {sign} {b} of {sorted(rest)}", payload=tuple(sorted([*rest, value]))) for sign, value in results]
        proposals.append(thoughts)
    return proposals


def main() -> int:
    options = arguments(__doc__ or "", data=True)
    source = options.data / "game24"
    skip_without(source)
    records = [Record(entry) for entry in json.loads((source / "gpt4_proposals_900_1000.json").read_text("utf-8"))]
    recorded_any = sum(any(is_right(record.puzzle, text) for text in record.steps[-1]["select_new_ys"]) for record in records)
    table = Table("Tree of Thought: one record of GPT-4, several searches (Game of 24, puzzles 901 to 1000)")

    searches = {f"breadth-first, b = {width}": {"beam_width": width} for width in (5, 3, 2, 1)}
    searches |= {
        "best first until sure": {"strategy": "best_first", "stop_when_sure": True},
        "depth-first until sure, threshold 1": {"strategy": "dfs", "value_threshold": 1.0, "stop_when_sure": True},
    }
    outcomes = {}
    for name, config in searches.items():
        for record in records:
            record.num_unrecorded = 0
        start = time.process_time()
        results = [record.search(**config) for record in records]
        seconds = time.process_time() - start
        first = sum(
            is_right(record.puzzle, record.state(result.best)) for record, result in zip(records, results, strict=True) if result.best
        )
        among = sum(
            any(is_right(record.puzzle, record.state(leaf)) for leaf in best_leaves(result, 5))
            for record, result in zip(records, results, strict=True)
        )
        outcomes[name] = (first, among)
        if name == "breadth-first, b = 5":
            same = sum(keeps_the_same(record, result) for record, result in zip(records, results, strict=True))
            table.row("b = 5 keeps the states that the record kept", f"{same} of 100", "100", same == 100)
            table.row(
                "b = 5, a right answer among the five best",
                f"{among}%",
                f"{recorded_any}% (the record's own; the paper's run 74%)",
                among == recorded_any,
            )
        evaluations = sum(result.num_evaluations for result in results) / len(results)
        unknown = sum(record.num_unrecorded for record in records) / len(records)
        cost = seconds / sum(result.num_nodes for result in results) * 1e6
        aim = {"breadth-first, b = 1": "(the paper's run 45%)"}.get(name, "")
        table.row(
            f"{name}: first choice right",
            f"{first}%, {evaluations:.0f} values, {unknown:.1f} unrecorded states a puzzle, {cost:.0f} µs a node",
            aim,
        )
    wide, narrow = outcomes["breadth-first, b = 5"][0], outcomes["breadth-first, b = 1"][0]
    table.row("first choice: b = 5 against b = 1", f"{wide}% and {narrow}%", "b = 5 better", wide > narrow)

    chosen = records[:20] if options.quick else records
    key = lambda node: node.payload
    exact = ToTSearch(
        operations,
        lambda nodes: [0.0] * len(nodes),
        is_solution=lambda node: node.payload == (24,),
        key=key,
        config=ToTConfig(strategy="dfs", max_depth=3, max_nodes=None),
    )
    roots = [ToTNode(record.puzzle, payload=tuple(sorted(map(Fraction, record.puzzle.split())))) for record in chosen]
    solved = sum(bool(exact.run(root).solutions) for root in roots)
    table.row("exact proposer, every state searched", f"{solved} of {len(chosen)} solved", "all", solved == len(chosen))
    table.note("An answer counts if the expression uses the four numbers once each and is 24; no search sees whether it is right.")
    return table.finish(options.record)


if __name__ == "__main__":
    sys.exit(main())
