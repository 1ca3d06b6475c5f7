"""Fit when an answer is good enough to be said, on the demo site's train and calibrate questions.

The weights are fitted on `train`, the threshold is chosen on `calibrate`; `report` is never read. Writes lightbulb/agent/calibration.json.
Run from the top: python -m tools.calibrate_answers   (about ten minutes of one core)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from benchmarks._scoring import mean, token_f1

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.confidence import FEATURES, Calibration, coverage, leaf_features
from lightbulb.agent.ledger import Ledger
from lightbulb.agent.tools import load_tools
from lightbulb.agent.writing import best_answers
from lightbulb.web.demo_site import demo_questions

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "lightbulb" / "agent" / "calibration.json"
ANYTHING = {kind: Calibration((0.0,) * len(FEATURES), 9.0, 0.0) for kind in ("factoid", "explanation")}  # refuses nothing

EXPLAINED = (  # open questions of our own: the first half is answered by the site, the second is not
    ("What are the impacts of renewable energy on global sustainability?", 1),
    ("Why did the incandescent lamp lose to the LED?", 1),
    ("How does a transformer work?", 1),
    ("How does a fluorescent lamp make light?", 1),
    ("What are the advantages of alternating current?", 1),
    ("Why are power lines operated at high voltage?", 1),
    ("How does pumped storage work?", 1),
    ("What are the effects of carbon pricing?", 1),
    ("Explain how a solar cell makes electricity", 1),
    ("Why was tungsten chosen for filaments?", 1),
    ("How do wind turbines generate electricity?", 1),
    ("What are the disadvantages of biomass?", 1),
    ("How do bees find their way home?", 0),
    ("Why did the Roman Empire fall?", 0),
    ("What are the symptoms of influenza?", 0),
    ("How does a jet engine work?", 0),
    ("Explain the rules of cricket", 0),
    ("Why do cats purr?", 0),
    ("How is cheese made?", 0),
    ("What are the causes of inflation?", 0),
    ("How do vaccines work?", 0),
    ("Describe the life cycle of a frog", 0),
    ("Why is the sky dark at night in cosmology?", 0),
    ("What are the advantages of functional programming?", 0),
)


def measure(questions, tools) -> tuple[np.ndarray, np.ndarray]:
    "Features of each question's best leaf, and whether it is right."
    rows, right = [], []
    for question in questions:
        *_, result = answer(question.question, TestAgent(), tools=tools, calibrations=ANYTHING)
        assert isinstance(result, Answer)
        ranked = best_answers([node for node in result.tree.walk() if node.kind == "answer" and node.status != "failed"])
        if not ranked: continue
        (value, leaf), rivals = ranked[0], [other for other, _ in ranked[1:]]
        rows.append(leaf_features(question.question, value, leaf, rivals))
        right.append(bool(question.answers) and token_f1(leaf.payload.answer, question.answers) >= 0.5)
        print(f"  {right[-1]!s:5} {question.question} -> {leaf.payload.answer} {[round(x, 2) for x in rows[-1]]}", flush=True)
    return np.array(rows), np.array(right, float)


def measure_explanations(tools) -> tuple[np.ndarray, np.ndarray]:
    "The same for open questions: relevance and coverage of the evidence."
    rows = []
    for question, _ in EXPLAINED:
        results = tools.search.search(question, 10)
        ledger = Ledger(tools.embed, tools.rerank)
        for document in tools.search.read([result.url for result in results[:3]]):
            ledger.add(document)
        passages = ledger.passages(question, num_passages=6)
        rows.append(
            (0.0, passages[0].score, max(coverage(question, f"{p.title} {p.text}") for p in passages), 0.0, 0.0) if passages else (0.0,) * 5
        )
    return np.array(rows), np.array([label for _, label in EXPLAINED], float)


def fit(features: np.ndarray, right: np.ndarray, *, penalty: float = 0.05, steps: int = 4000) -> tuple[np.ndarray, float]:
    "Logistic regression with an L2 penalty on standardised features, by gradient descent; weights for the raw features."
    centre, scale = features.mean(0), features.std(0)
    scale[scale < 1e-6] = np.inf  # a constant feature says nothing
    x = (features - centre) / scale
    weights, bias = np.zeros(x.shape[1]), 0.0
    for _ in range(steps):
        error = 1 / (1 + np.exp(-(x @ weights + bias))) - right
        weights -= 0.3 * (x.T @ error / len(x) + penalty * weights)
        bias -= 0.3 * error.mean()
    raw = weights / scale
    return raw, float(bias - raw @ centre)


def best_threshold(confidence: np.ndarray, right: np.ndarray) -> float:
    "The threshold with the most right decisions (right answers said, wrong ones refused); of equal ones the middle."
    candidates = np.linspace(0.05, 0.95, 91)
    scores = np.array([((confidence >= t) == (right > 0)).mean() for t in candidates])
    return float(np.median(candidates[scores >= scores.max() - 1e-9]))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    tools = load_tools(TestAgent(save_dir=ROOT / ".cache" / "calibration"))
    if tools.knowledge is not None:
        tools.knowledge.close()
    tools.knowledge = tools.summarizer = None
    features, right = measure(demo_questions("train"), tools)
    weights, bias = fit(features, right)
    held, held_right = measure(demo_questions("calibrate"), tools)
    confidence = 1 / (1 + np.exp(-(held @ weights + bias)))
    threshold = best_threshold(confidence, held_right)
    open_features, open_right = measure_explanations(tools)
    open_weights, open_bias = fit(open_features, open_right)
    stored = {
        "factoid": {"weights": [round(float(w), 4) for w in weights], "bias": round(bias, 4), "threshold": round(threshold, 3)},
        "explanation": {"weights": [round(float(w), 4) for w in open_weights], "bias": round(open_bias, 4), "threshold": 0.5},
    }
    TARGET.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    decisions = ((confidence >= threshold) == (held_right > 0)).mean()
    print(json.dumps(stored), f"right decisions on calibrate {decisions:.3f}, right answers there {mean(list(held_right)):.3f}")


if __name__ == "__main__":
    main()
