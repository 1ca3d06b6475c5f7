"""How the planner of `test_agent` changes its answers: every planner on the same questions, with the same budget, beside the default one.

python benchmarks/answer_planners.py --limit 20 --keep kept/planners --record
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from _scoring import interval, mean, token_f1
from _table import Table, skip_without
from answering import MANUALS, Kept, Question, Reply, Run, ask, codes_of, manual_questions, manual_score, page_site, read_rows, static_site

from lightbulb.agent.answering import TestAgent
from lightbulb.planning.run_events import PlannerName
from lightbulb.web.demo_site import demo_questions

DEFAULT = TestAgent().planner
PLANNERS = (DEFAULT, *(name for name in get_args(PlannerName) if name != DEFAULT))


def score(question: Question, reply: Reply) -> float:
    "As the user sees it: nothing for a refusal of what can be answered, and a refusal of what cannot."
    if "verdict" in question.gold or "items" in question.gold or "must_mention" in question.gold or question.kind == "unanswerable":
        return manual_score(question, reply.text, reply.short, reply.refused)
    if not question.answerable: return float(reply.refused)
    return 0.0 if reply.refused else token_f1(reply.short or reply.text, question.answers)


def compare(run: Run, name: str, key: str, questions: list[Question], search: str, port: int = 0, max_pages: int = 0) -> None:
    "The rows of one set: each planner's score, its difference from the default's question by question, and what it cost."
    kept = {planner: Kept(run.args.keep, f"{key}-{planner}") for planner in PLANNERS}
    if run.args.whole:
        questions = [question for question in questions if all(question.id in kept[planner].replies for planner in PLANNERS)]
    chosen = run.some("", questions)
    if any(question.id not in kept[planner].replies for planner in PLANNERS for question in chosen):
        with run.tools(search, port, max_pages) as (tools, config):
            tools.knowledge.close()
            tools.knowledge = None  # every question starts from nothing
            for question in chosen[:1]:
                ask(question, tools, config, lambda url, title: title)  # what is loaded at first use is charged to none
            for question in chosen:  # one after the other by all planners, so that the machine's load meets all alike
                for planner in PLANNERS:
                    if question.id not in kept[planner].replies:
                        kept[planner].add(ask(question, tools, replace(config, planner=planner), lambda url, title: title))
                print(f"  {question.text}", {planner: kept[planner].replies[question.id].short for planner in PLANNERS}, flush=True)
    scores = {planner: [score(q, kept[planner].replies[q.id]) for q in chosen] for planner in PLANNERS}
    for planner in PLANNERS:
        replies = [kept[planner].replies[q.id] for q in chosen]
        low, high = interval([a - b for a, b in zip(scores[planner], scores[DEFAULT], strict=True)])
        difference = "" if planner == DEFAULT else f"; difference {low:+.2f} to {high:+.2f}"
        cost = f"{mean([r.searches for r in replies]):.1f} searches, {mean([r.cpu_seconds for r in replies]):.1f} CPU-s a question"
        run.table.row(f"{name} ({len(chosen)}): {planner}", f"{mean(scores[planner]):.3f}{difference}; {cost}")
    codes = {planner: codes_of([kept[planner].replies[q.id] for q in chosen]) for planner in PLANNERS}
    is_one = len(set(codes.values())) == 1
    run.table.note(f"{name} by the code of: {codes[DEFAULT] if is_one else ', '.join(map(' '.join, codes.items()))}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two questions of the demo site")
    parser.add_argument("--record", action="store_true", help="write the rows into RESULTS.md")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the development data")
    parser.add_argument("--sets", default="demo,two_hop,python", help="which sets, with commas")
    parser.add_argument("--limit", type=int, default=20, help="questions of each set; 0: all")
    parser.add_argument("--keep", type=Path, help="folder where replies are written down, and found again")
    parser.add_argument("--whole", action="store_true", help="ask nothing: report on the questions in --keep that all planners had")
    args: Any = parser.parse_args()
    args.limit, args.only_kept, args.before, args.model_name, args.max_seconds = {"": args.limit}, False, None, "smollm2", 240.0
    sets = args.sets.split(",")
    if args.quick:
        sets, args.limit = ["demo"], {"": 2}
    elif set(sets) != {"demo"}:
        skip_without(args.data)
    run = Run(args, Table("Planners of an answer, at one budget"))
    if "demo" in sets:
        items = enumerate(demo_questions("report"))
        asked = [Question(f"demo-{i}", q.question, q.kind, list(q.answers), list(q.gold_pages), {}, bool(q.answers)) for i, q in items]
        compare(run, "demo", "demo", asked, "demo")
    if "two_hop" in sets:
        pages = read_rows(args.data / "two_hop" / "pages.jsonl")
        rows = read_rows(args.data / "two_hop" / "questions.jsonl")
        asked = [Question(f"two_hop-{i}", row["question"], "two_hop", [row["answer"]], row["gold_pages"]) for i, row in enumerate(rows)]
        with page_site(pages) as server:
            compare(run, "two_hop", "two_hop", asked, f"site:{server.url}", server.port, len(pages) + 100)
    for manual in (name for name in sets if name in MANUALS):
        with static_site(args.data / "manuals") as server:
            asked = manual_questions(args.data / "manuals", manual)
            compare(run, manual, manual, asked, f"site:{server.url.rstrip('/')}/{MANUALS[manual]}", server.port, 500)
    run.table.note(
        "One budget for all: 20 pages, 8 searches, 4,000 tokens of the language model. Replies are scored as the user sees them: F1 of the "
        "short answer, a manual's questions by their own rules; differences are of the same questions, with 95% bootstrap intervals."
    )
    return run.table.finish(args.record)


if __name__ == "__main__": raise SystemExit(main())
