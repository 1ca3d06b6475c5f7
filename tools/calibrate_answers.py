"""Fit when an answer is good enough to be said, on the demo site's train and calibrate questions.

The weights of short answers are fitted on `train`, the threshold on both it and `calibrate`; `report` is never read. Those of
`text` and `verdict` were set by hand and are kept. Writes lightbulb/agent/calibration.json.
Run from the top: python -m tools.calibrate_answers   (about ten minutes of one core). The shipped ones come from `--every 3`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from benchmarks._scoring import mean, token_f1

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.confidence import Calibration, measure_leaf
from lightbulb.agent.tools import load_tools
from lightbulb.agent.writing import best_answers
from lightbulb.web.demo_site import demo_questions

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "lightbulb" / "agent" / "calibration.json"
FEATURES = ("log_probability", "relevance", "coverage", "match", "lead")  # of agent.confidence, those that are fitted
ANYTHING = {kind: Calibration({}, 9.0, 0.0) for kind in ("short", "text", "verdict")}  # refuses nothing


def measure(questions, tools) -> tuple[np.ndarray, np.ndarray]:
    "Features of each question's best leaf, and whether it is right."
    rows, right = [], []
    for question in questions:
        *_, result = answer(question.question, TestAgent(), tools=tools, calibrations=ANYTHING)
        assert isinstance(result, Answer)
        ranked = best_answers([node for node in result.tree.walk() if node.kind == "answer" and node.status != "failed"])
        if not ranked: continue
        (value, leaf), rivals = ranked[0], [other for other, _ in ranked[1:]]
        measured = measure_leaf(question.question, value, leaf, rivals)
        rows.append([measured[name] for name in FEATURES])
        right.append(bool(question.answers) and token_f1(leaf.payload.answer, question.answers) >= 0.5)
        print(f"  {right[-1]!s:5} {question.question} -> {leaf.payload.answer} {[round(x, 2) for x in rows[-1]]}", flush=True)
    return np.array(rows), np.array(right, float)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="ask only every so many questions of both parts")
    every = parser.parse_args().every
    tools = load_tools(TestAgent(save_dir=ROOT / ".cache" / "calibration"))
    if tools.knowledge is not None:
        tools.knowledge.close()
    tools.knowledge = tools.summarizer = None
    features, right = measure(demo_questions("train")[::every], tools)
    weights, bias = fit(features, right)
    held, held_right = measure(demo_questions("calibrate")[::every], tools)
    confidence = 1 / (1 + np.exp(-(held @ weights + bias)))
    every_confidence = np.concatenate([1 / (1 + np.exp(-(features @ weights + bias))), confidence])
    threshold = best_threshold(every_confidence, np.concatenate([right, held_right]))  # few questions: both parts count
    kept = json.loads(TARGET.read_text(encoding="utf-8"))  # the weights of text and verdicts were set by hand
    stored = {
        "short": {
            "weights": {name: round(float(w), 4) for name, w in zip(FEATURES, weights, strict=True)},
            "bias": round(bias, 4),
            "threshold": round(threshold, 3),
        },
        "text": kept["text"],
        "verdict": kept["verdict"],
    }
    TARGET.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    decisions = ((confidence >= threshold) == (held_right > 0)).mean()
    print(json.dumps(stored), f"right decisions on calibrate {decisions:.3f}, right answers there {mean(list(held_right)):.3f}")


if __name__ == "__main__":
    main()
