"""Answers to the demo site's report questions, beside one retrieval and one prompt with the same models.

Every page is fetched over HTTP from the demo site on the loopback. Gold answers and gold pages are used for scoring alone.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from _scoring import exact_match, interval, mean, normalize, recall, token_f1
from _table import Table, arguments

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.tools import load_tools
from lightbulb.web.demo_site import DemoQuestion, demo_questions

PROMPT = (
    "Answer the question with a few words from the text. If the text does not answer it, say: unknown.\n\n"
    "Text: {text}\n\nQuestion: {question}\nAnswer:"
)


def one_prompt(question: str, tools, num_passages: int = 4) -> tuple[str, list[str]]:
    "The baseline: search once, put the best passages into one prompt, take what the model writes; with the titles of the pages."
    results = tools.search.search(question, 10)
    passages = [passage for result in results for passage in result.passages][:num_passages]
    text = "\n".join(f"{passage.title}: {passage.text}" for passage in passages)
    while tools.model.count_tokens(text) > 1200:
        text = text[: len(text) * 9 // 10]
    written = tools.model.generate([PROMPT.format(text=text, question=question)], max_new_tokens=24, stop=("\n",))[0].strip()
    return ("" if normalize(written) in ("", "unknown") else written), [result.title for result in results]


def the_tree(question: str, tools, config: TestAgent) -> Answer:
    "lightbulb's answer."
    return [item for item in answer(question, config, tools=tools) if isinstance(item, Answer)][0]


def citation_scores(result: Answer, question: DemoQuestion, ledger_texts: dict[str, str]) -> tuple[float, float, float]:
    "Shares of citations that are verbatim, that lie on a gold page, and whether one of those holds the answer."
    citations = result.citations
    if not citations: return 1.0, 1.0, 1.0
    verbatim = mean([float(ledger_texts[c.url][c.start : c.end] == c.quote) for c in citations])
    gold = [c for c in citations if c.title in question.gold_pages]
    holds = (
        any(normalize(alias) in normalize(c.quote) for c in gold for alias in question.answers)
        or question.kind == "comparison"
        and bool(gold)
    )
    return verbatim, len(gold) / len(citations), float(holds)


def main() -> int:
    args = arguments(__doc__ or "", data=False)
    table = Table("Answers on the demo site", packages=("transformers", "onnxruntime", "trafilatura"))
    folder = tempfile.TemporaryDirectory()
    config = TestAgent(save_dir=Path(folder.name))
    tools = load_tools(config, tell=lambda line: print(f"  {line}", flush=True))
    if tools.knowledge is not None:
        tools.knowledge.close()
    tools.knowledge = None  # every question starts from nothing
    questions = demo_questions("report")
    if args.quick:
        questions = questions[:: max(len(questions) // 12, 1)][:12]
    tree, plain, seconds = [], [], []
    for question in questions:
        begin = time.monotonic()
        result = the_tree(question.question, tools, config)
        seconds.append(time.monotonic() - begin)
        short = result.short_answer or "(refused)"
        print(f"  {question.kind}: {question.question} -> {short} | {question.answers} | {result.confidence:.2f} {result.cost}", flush=True)
        texts = {url: document.text for url in {c.url for c in result.citations} for document in tools.search.read([url])}
        written, pages = one_prompt(question.question, tools)
        tree.append((question, result, citation_scores(result, question, texts)))
        plain.append((question, written, pages))
    report(table, tree, plain, seconds)
    return table.finish(args.record and not args.quick)


def report(table: Table, tree: list, plain: list, seconds: list[float]) -> None:
    answerable = [(q, r, c) for q, r, c in tree if q.answers]
    f1, f1_plain = (
        [token_f1(r.short_answer, q.answers) for q, r, _ in answerable],
        [token_f1(s, q.answers) for q, s, _ in plain if q.answers],
    )
    em, em_plain = (
        [exact_match(r.short_answer, q.answers) for q, r, _ in answerable],
        [exact_match(s, q.answers) for q, s, _ in plain if q.answers],
    )
    low, high = interval([a - b for a, b in zip(f1, f1_plain, strict=True)])
    table.row(
        f"answer F1, {len(f1)} answerable questions",
        f"{mean(f1):.3f}; one prompt {mean(f1_plain):.3f}; difference {low:+.3f} to {high:+.3f}",
        "≥ 0.80, above one prompt",
        mean(f1) >= 0.80 and low > 0,
    )
    table.row("exact match", f"{mean(em):.3f}; one prompt {mean(em_plain):.3f}", "above one prompt", mean(em) > mean(em_plain))
    for kind in ("single_hop", "two_hop", "comparison"):
        mine = [token_f1(r.short_answer, q.answers) for q, r, _ in tree if q.kind == kind]
        theirs = [token_f1(s, q.answers) for q, s, _ in plain if q.kind == kind]
        table.row(f"F1, {kind} ({len(mine)})", f"{mean(mine):.3f}; one prompt {mean(theirs):.3f}")
    recalls, recalls_plain = (
        [recall([t for _, t in r.pages[:10]], q.gold_pages) for q, r, _ in answerable],
        [recall(p[:10], q.gold_pages) for q, _, p in plain if q.answers],
    )
    table.row(
        "recall of gold pages among ten",
        f"{mean(recalls):.3f}; one search {mean(recalls_plain):.3f}",
        "at least one search",
        mean(recalls) >= mean(recalls_plain) - 1e-9,
    )
    for name, refused in (("the tree", [(q, r.refused) for q, r, _ in tree]), ("one prompt", [(q, not s) for q, s, _ in plain])):
        refusals, no_answer = [q for q, no in refused if no], [no for q, no in refused if not q.answers]
        precision, recalled = mean([float(not q.answers) for q in refusals]), mean(list(map(float, no_answer)))
        has_aim = name == "the tree"
        table.row(
            f"refusals of {name}: precision, recall",
            f"{precision:.3f}, {recalled:.3f} of {len(no_answer)} unanswerable",
            "≥ 0.85, ≥ 0.95" if has_aim else "",
            precision >= 0.85 and recalled >= 0.95 if has_aim else None,
        )
    cited = [c for _, r, c in answerable if r.citations]
    table.row("citations that are verbatim", f"{mean([c[0] for c in cited]):.3f}", "1.000", all(c[0] == 1 for c in cited))
    table.row("citations on a gold page", f"{mean([c[1] for c in cited]):.3f}")
    table.row("answers with a citation on a gold page that holds the answer", f"{mean([c[2] for c in cited]):.3f}")
    stations = [r.trace.failed_at or "answered" for q, r, _ in answerable]
    table.row("where answerable questions ended", ", ".join(f"{name} {stations.count(name)}" for name in sorted(set(stations))))
    costs, median, late = [r.cost for _, r, _ in tree], statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]
    table.row(
        "cost of a question, medians",
        f"{statistics.median(c.searches for c in costs):.0f} searches, {statistics.median(c.pages for c in costs):.0f} pages, "
        f"{statistics.median(c.tokens for c in costs):.0f} tokens, {median:.1f} s; 95% within {late:.1f} s, longest {max(seconds):.1f} s",
        "≤ 6 s, 95% ≤ 15 s",
        median <= 6 and late <= 15,
    )
    table.note("Answers to these questions were looked at, and no threshold was fitted on them; answering.py asks the same ones.")


if __name__ == "__main__":
    sys.exit(main())
