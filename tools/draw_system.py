"""Draw the whole system as data flows into nbs/system.svg; `--check` only says whether the file is what this would draw.

Each part is linked to the page that explains it: the site puts the drawing into its overview, the README shows it as an image.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "nbs" / "system.svg"
WIDTH, HEIGHT, STEP_X, STEP_Y, LEFT, TOP = 120, 48, 139, 88, 4, 30  # pixels
LANES = {0: "answering", 3: "learning to write", 4: "learning a world and planning in it", 5: "learning to act", 6: "learning to search"}
PARTS = {  # name: (column, row, title, what happens there, page)
    "question": (0, 0, "question", "and its budget", "agent/03_configuration"),
    "parts": (1, 0, "parts of it", "sub-questions, kind", "agent/01_questions"),
    "search": (2, 0, "search", "web, site or folder", "web/15_search"),
    "fetch": (3, 0, "fetch", "polite and guarded", "web/05_fetch"),
    "extract": (4, 0, "pages", "text with offsets", "web/07_extract"),
    "ledger": (5, 0, "ledger", "what may be cited", "agent/06_ledger"),
    "thoughts": (1, 1, "tree of thoughts", "proposed and judged", "agent/12_reasoning"),
    "reader": (2, 1, "reader, judge", "spans and chances", "reading/02_reader"),
    "ranking": (3, 1, "ranking", "passages that fit", "knowledge/03_ranking"),
    "knowledge": (4, 1, "knowledge base", "remembers, searches", "knowledge/05_knowledge_base"),
    "answer": (0, 2, "answer", "every sentence cited", "agent/16_answering"),
    "confidence": (1, 2, "confidence", "or a refusal", "agent/13_confidence"),
    "summary": (2, 2, "sentences", "each one supported", "knowledge/07_summarizer"),
    "texts": (0, 3, "texts", "tokens and pieces", "lm/12_data"),
    "transformer": (1, 3, "Transformer", "experts, four heads", "lm/08_transformer"),
    "training": (2, 3, "training", "stops and resumes", "lm/19_training"),
    "model": (3, 3, "language model", "writes and scores", "lm/21_language_model"),
    "worlds": (0, 4, "worlds", "games, Gymnasium", "world/07_environments"),
    "play": (1, 4, "self-play", "games searched", "world/11_self_play"),
    "world_training": (2, 4, "training", "ten losses", "world/21_training"),
    "world": (3, 4, "world model", "imagines moves", "world/05_networks"),
    "mcts": (4, 4, "tree search", "PUCT or Gumbel", "planning/05_mcts"),
    "options": (0, 5, "options", "worlds with walks", "rl/10_options"),
    "hierarchy": (1, 5, "manager, worker", "which option, how", "rl/13_hierarchy"),
    "replay": (2, 5, "replay", "surprises first", "rl/04_replay"),
    "ppo": (3, 5, "PPO", "learns on the spot", "rl/09_ppo"),
    "steps": (0, 6, "steps", "of answering, offered", "agent/17_environment"),
    "agent": (1, 6, "web agent", "which step is next", "agent/22_web_agent"),
    "refinement": (2, 6, "refinement", "words that find more", "agent/19_refinement"),
    "order": (3, 6, "page order", "what to read first", "agent/20_page_order"),
    "episodes": (4, 6, "episodes", "kept as examples", "agent/18_episodes"),
    "agent_training": (5, 6, "training", "from replay", "agent/23_training"),
}
FLOWS = (
    "question>parts parts>search search>fetch fetch>extract extract>ledger ledger>knowledge knowledge>ranking ranking>reader "
    "reader>thoughts parts>thoughts thoughts>confidence summary>confidence reader>summary confidence>answer "
    "texts>transformer transformer>training "
    "training>model worlds>play play>world_training world_training>world world>mcts options>hierarchy hierarchy>replay "
    "hierarchy>agent steps>agent agent>refinement refinement>order order>episodes episodes>agent_training"
)
DASHED = "model>summary"  # it judges and phrases
BACK = {
    "mcts>play": "plays what it finds",
    "agent_training>agent": "weights; the episodes are texts for the language model and lessons for reader and ranking",
}
COLORS = {0: "#fff4e0", 1: "#fff4e0", 2: "#fff4e0", 3: "#eaf2fb", 4: "#eaf6ec", 5: "#f4edf9", 6: "#fdeef0"}


def corner(name: str) -> tuple[float, float]:
    "Left and upper edge of a box."
    column, row = PARTS[name][:2]
    return LEFT + column * STEP_X, TOP + row * STEP_Y


def arrow(flow: str, extra: str = "") -> str:
    "A curve between the sides of two boxes that face each other."
    one, other = flow.split(">")
    (x, y), (u, v) = corner(one), corner(other)
    half_x, half_y = WIDTH / 2, HEIGHT / 2
    if v == y or abs(u - x) > 1.5 * STEP_X:
        start, end = ((x + WIDTH, y + half_y), (u - 5, v + half_y)) if u > x else ((x, y + half_y), (u + WIDTH + 5, v + half_y))
        bend = (start[0] + end[0]) / 2
        path = f"M{start[0]:.0f} {start[1]:.0f} C{bend:.0f} {start[1]:.0f} {bend:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}"
    else:
        start, end = ((x + half_x, y + HEIGHT), (u + half_x, v - 5)) if v > y else ((x + half_x, y), (u + half_x, v + HEIGHT + 5))
        bend = (start[1] + end[1]) / 2
        path = f"M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {bend:.0f} {end[0]:.0f} {bend:.0f} {end[0]:.0f} {end[1]:.0f}"
    return f'<path d="{path}" fill="none" stroke="#5a6475" stroke-width="1.4" marker-end="url(#tip)" {extra}/>'


def box(name: str) -> str:
    "A part, linked to its page."
    x, y = corner(name)
    _, row, title, note, page = PARTS[name]
    return (
        f'<a href="{page}.ipynb"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{COLORS[row]}" stroke="#8a94a6"/>'
        f'<text x="{x + WIDTH / 2}" y="{y + 21}" text-anchor="middle" font-weight="600" fill="#1b2230">{escape(title)}</text>'
        f'<text x="{x + WIDTH / 2}" y="{y + 38}" text-anchor="middle" font-size="10.5" fill="#4a5364">{escape(note)}</text></a>'
    )


def loop(flow: str, label: str) -> str:
    "An arrow that leads back below its row."
    one, other = flow.split(">")
    (x, y), (u, v) = corner(one), corner(other)
    low = y + HEIGHT + 16
    path = f"M{x + WIDTH / 2} {y + HEIGHT} C{x + WIDTH / 2} {low} {x} {low} {x - 20} {low} L{u + WIDTH} {low} "
    path += f"C{u + WIDTH / 2} {low} {u + WIDTH / 2} {low} {u + WIDTH / 2} {v + HEIGHT + 5}"
    text = f'<text x="{(x + u + WIDTH) / 2}" y="{low + 12}" text-anchor="middle" font-size="11" fill="#4a5364">{escape(label)}</text>'
    return f'<path d="{path}" fill="none" stroke="#5a6475" stroke-width="1.4" marker-end="url(#tip)"/>{text}'


def draw() -> str:
    "The SVG."
    width = LEFT * 2 + 5 * STEP_X + WIDTH
    height = TOP + 6 * STEP_Y + HEIGHT + 72
    lanes = "".join(
        f'<text x="{LEFT}" y="{TOP + row * STEP_Y - 10}" font-size="12" fill="#4a5364" font-style="italic">{escape(text)}</text>'
        for row, text in LANES.items()
    )
    words = (
        "Dashed: the language model judges and phrases, facts come from pages.",
        "The web agent's weights ship with the package; --policy says who chooses the steps: fixed, ordered or learned.",
    )
    note = "".join(
        f'<text x="{LEFT}" y="{height - 26 + 15 * line}" font-size="11" fill="#4a5364">{escape(text)}</text>'
        for line, text in enumerate(words)
    )
    parts = [
        *(arrow(flow) for flow in FLOWS.split()),
        arrow(DASHED, 'stroke-dasharray="5 4"'),
        *(loop(flow, label) for flow, label in BACK.items()),
        *(box(name) for name in PARTS),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12"><title>lightbulb as data flows</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="#5a6475"/></marker></defs><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{lanes}{''.join(parts)}{note}</svg>\n"
    )


def main() -> int:
    drawing = draw()
    missing = [page for *_, page in PARTS.values() if not (ROOT / "nbs" / f"{page}.ipynb").is_file()]
    if missing:
        print(f"the drawing links pages that are not there: {missing}")
        return 1
    if "--check" not in sys.argv:
        TARGET.write_text(drawing, "utf-8")
        return 0
    same = TARGET.is_file() and TARGET.read_text("utf-8") == drawing
    print("nbs/system.svg is what tools/draw_system.py draws" if same else "nbs/system.svg is out of date: run python tools/draw_system.py")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
