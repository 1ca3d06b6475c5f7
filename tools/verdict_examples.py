"""Make questions with the statement that decides them: written ones, forms that rules and notes are written in, and QAMR.

An example is a question, a statement with the headings above it, and what the statement says to the question: no, yes, or nothing.
`tools/teach_verdicts.py` teaches with them; the forms are in `tools/verdict_forms.json`, what was written in `tools/verdict_pairs.jsonl`.
Nothing of the manuals, xquad_en, clapnq or two_hop is read.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightbulb.core.english import IRREGULAR_VERBS, MONTHS, base_form
from lightbulb.knowledge.embedding import Embed
from tools.train_reader import qamr, read_lines
from tools.written_lines import by_document, written_lines
from tools.written_pages import WrittenDomain

NO, YES, NOTHING = 0, 1, 2


@dataclass(frozen=True)
class VerdictExample:
    "A question, a statement in its context, and what it says to the question."

    question: str
    statement: str
    says: int  # NO, YES or NOTHING
    source: str


_STORED = json.loads((Path(__file__).parent / "verdict_forms.json").read_text(encoding="utf-8"))
_DEEDS = [deed.split(" / ") for deed in _STORED["deeds"]]  # do, done, thing, things
_LISTS, _FORMS = _STORED["words"], _STORED["forms"]
_WEEK = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_DOUBLED = "run stop plug unplug reset swap".split()

# ---------------------------------------------------------------- forms


class Forms:
    "Draws examples from the forms."

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def examples(self) -> Iterator[VerdictExample]:
        "Examples without end."
        makers = (self._may, self._must, self._limit, self._state, self._stated, self._time)
        while True:
            maker = self.rng.choices(makers, [30, 14, 8, 14, 31, 7])[0]
            statement, question, says = maker()
            if self.rng.random() < 0.35:  # another sentence or clause beside it
                more = self.rng.choice((self._may, self._must, self._state, self._stated))()[0]
                if not _long_words(more) & _long_words(question):
                    joined = f"{statement[:-1]}; {more[0].lower()}{more[1:]}"
                    statement = self.rng.choice([f"{statement} {more}", f"{more} {statement}", joined])
            if self.rng.random() < 0.1:  # a statement about something else
                statement = self.rng.choice((self._may, self._must, self._state, self._stated, self._time))()[0]
                if _long_words(statement) & _long_words(question): continue
                says = NOTHING
            if self.rng.random() < 0.12:
                question = question.lower().rstrip("?")
            if self.rng.random() < 0.06:
                opening = self.rng.choice(["Hi, quick question: ", "Excuse me, ", "I was wondering: ", "We are new here. "])
                question = opening + question[0].lower() + question[1:]
            yield VerdictExample(question, self.under_a_heading(statement, 0.75), says, maker.__name__.strip("_"))

    def under_a_heading(self, statement: str, share: float) -> str:
        "The statement, a share of them with a title and a heading before it."
        if self.rng.random() >= share: return statement
        heading = f" > {self._one('heading')}" if self.rng.random() < 0.7 else ""
        return f"{self._one('title')}{heading}: {statement}"

    # ---- words

    def _one(self, name: str) -> str:
        return self.rng.choice(_LISTS[name])

    def _deed(self) -> list[str]:
        return self.rng.choice(_DEEDS)

    def _name(self) -> str:
        return f"{self._one('first')} {self._one('last_name')}"

    def _fill(self, form: str, deed: Sequence[str], at: str = "", more: Mapping[str, object] | None = None) -> str:
        do, done, thing, things = deed
        words: dict[str, object] = {"do": do, "done": done, "doing": _doing(do), "bare": thing, "object": _with_article(thing)}
        words |= {"objects": things, "some": self.rng.choice([_with_article(thing), things]), "at": f" {at}" if at else ""}
        words |= {"who": self.rng.choice(["I", "I", "we", "you", self._one("people")]), "people": self._one("people")} | dict(more or {})
        words |= {name.capitalize(): str(word)[:1].upper() + str(word)[1:] for name, word in words.items()}
        return form.format_map(words)

    # ---- what may be, what must be

    def _may(self) -> tuple[str, str, int]:
        deed, other = self._two_deeds()
        here, there = self.rng.sample(_LISTS["where"], 2)
        kind = self.rng.random()
        at = self.rng.choice([here, here, ""])
        if kind < 0.55:
            says, forms = _FORMS["may"][0 if kind < 0.26 else 1]
        elif kind < 0.72:  # *only*, *except*: here and there are not alike
            says, forms = self.rng.choice(_FORMS["only"])
            at = self.rng.choice([here, there])
            says = says if at == here else 1 - says
        elif kind < 0.85:  # two things, of which one may be
            says, forms = self.rng.choice(_FORMS["two"])
        else:  # who may
            who, else_who = self.rng.sample(_LISTS["people"], 2)
            statement = self._fill(self.rng.choice(_FORMS["who"]), deed, at, {"who": who, "else_who": else_who})
            asked = self.rng.choice([who, else_who])
            return statement, self._fill("Can {who} {do} {some}{at}?", deed, at, {"who": asked}), YES if asked == who else NO
        words = {"other": other[3], "done_other": other[1], "do_other": other[0], "doing_other": _doing(other[0]), "here": here}
        statement = self._fill(self.rng.choice(forms), deed, at, words)
        if 0.72 <= kind and self.rng.random() < 0.5:
            deed, at, says = other, "", 1 - says
        if self.rng.random() < 0.17:  # another deed, or the same with another thing
            new = self._deed() if self.rng.random() < 0.6 else [*deed[:2], *self._deed()[2:]]
            if new[2] not in statement:
                deed, says = new, NOTHING
        question, says = self._asked("asks_may", deed, at, says)
        return statement, question, says

    def _two_deeds(self) -> tuple[list[str], list[str]]:
        one = self._deed()
        return one, self.rng.choice([deed for deed in _DEEDS if deed[2] != one[2]])

    def _asked(self, name: str, deed: Sequence[str], at: str, says: int) -> tuple[str, int]:
        is_straight, forms = self.rng.choices(_FORMS[name], [len(forms) for _, forms in _FORMS[name]])[0]
        return self._fill(self.rng.choice(forms), deed, at), says if is_straight or says == NOTHING else 1 - says

    def _must(self) -> tuple[str, str, int]:
        deed, other = self._two_deeds()
        at = self.rng.choice(["", "", self._one("where")])
        says, forms = self.rng.choice(_FORMS["must"])
        statement = self._fill(self.rng.choice(forms), deed, at)
        if self.rng.random() < 0.15:
            deed, says = other, NOTHING
        question, says = self._asked("asks_must", deed, at, says)
        return statement, question, says

    # ---- numbers and times

    def _limit(self) -> tuple[str, str, int]:
        limit, deed = self.rng.choice([2, 3, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20, 25, 30, 40, 50, 80, 100, 250]), self._deed()
        number = max(1, int(limit * self.rng.choice([0.3, 0.5, 0.7, 0.8, 1, 1.25, 1.5, 2, 3])))
        form = self.rng.choice(_FORMS["limits"])
        if form["age"]:
            limit = self.rng.randint(6, 21)
            number = max(2, limit + self.rng.randint(-6, 8))
        words = {"limit": limit, "less": limit - 1, "number": number, "thing": self._one("thing"), "unit": self._one("unit")}
        is_inside = number >= limit if form["from"] else number <= limit
        question = self._fill(self.rng.choice(form["questions"]), deed, more=words)
        return self._fill(self.rng.choice(form["statements"]), deed, more=words), question, YES if is_inside else NO

    def _time(self) -> tuple[str, str, int]:
        first, length = self.rng.randrange(4), self.rng.randint(1, 2)
        open_days = _WEEK[first : first + length + 1]
        month, months, asked = self.rng.randrange(8), self.rng.randint(1, 3), self.rng.randrange(12)
        opens, closes = self.rng.randint(6, 11), self.rng.randint(12, 21)
        hour = self.rng.choice([self.rng.randint(opens, closes - 1), closes + 1, opens - 2])
        words = {"thing": self._one("thing"), "first": open_days[0], "last": open_days[-1], "open": self.rng.choice(open_days)}
        words |= {"shut": self.rng.choice([day for day in _WEEK if day not in open_days]), "from": opens, "to": closes, "hour": hour}
        words |= {"month": MONTHS[month], "until": MONTHS[month + months], "asked": MONTHS[asked]}
        words |= {"in_hours": opens <= hour < closes, "in_months": month <= asked <= month + months}
        form = self.rng.choice(_FORMS["times"])
        question, says = self.rng.choice(form["questions"])
        says = says if isinstance(says, int) else YES if words[says.lstrip("!")] != says.startswith("!") else NO
        deed = self._deed()
        return self._fill(self.rng.choice(form["statements"]), deed, more=words), self._fill(question, deed, more=words), says

    # ---- what is, and what was

    def _state(self) -> tuple[str, str, int]:
        pair = self._one("quality").split()
        quality, opposite = pair if self.rng.random() < 0.5 else pair[::-1]
        thing, thing2 = self.rng.sample(_LISTS["thing"], 2)
        words = {"thing": thing, "thing2": thing2, "quality": quality, "opposite": opposite, "when": self._one("when")}
        deed = self._deed()
        if self.rng.random() < 0.4:
            form, of_all, of_some = self.rng.choice(_FORMS["shares"])
            question, says = self.rng.choice([("Are all {objects} {quality}?", of_all), ("Are all of the {objects} {quality}?", of_all),
                                              ("Are some {objects} {quality}?", of_some)])  # fmt: skip
            return self._fill(form, deed, more=words), self._fill(question, deed, more=words), says
        form, says = self.rng.choice(_FORMS["states"])
        statement = self._fill(form, deed, more=words)
        if self.rng.random() < 0.2:  # another thing, or another quality
            thing = self.rng.choice([other for other in _LISTS["thing"] if other not in statement])
            return statement, f"Is the {thing} {self.rng.choice(pair)}?", NOTHING
        question, is_straight = self.rng.choice([("Is the {thing} {quality}{when}?", True), ("Is the {thing} {opposite}?", False)])
        return statement, self._fill(question, deed, more=words), says if is_straight else 1 - says

    def _stated(self) -> tuple[str, str, int]:
        names, year = [self._name(), self._name()], self.rng.randint(1820, 2000)
        words: dict[str, object] = {"name": names[0], "name2": names[1], "last": names[0].split()[1], "year": year, "later": year + 9}
        words["after"] = year + 30
        for name in ("town", "role", "trade", "thing", "option"):
            words[name], words[f"{name}2"] = self.rng.sample(_LISTS[name], 2)
        words |= {name: self._one(name) for name in ("program", "need", "other")}
        statement, *asked = self.rng.choice(_FORMS["facts" if self.rng.random() < 0.45 else "features"])
        mark, question = (one := self.rng.choice(asked))[0], one[1:]
        deed = self._deed()
        return self._fill(statement, deed, more=words), self._fill(question, deed, more=words), {"+": YES, "-": NO}.get(mark, NOTHING)


def _doing(do: str) -> str:
    "The gerund of a verb that may have an adverb behind it."
    verb, *rest = do.split()
    doing = verb + verb[-1] if verb in _DOUBLED else verb[:-1] if verb.endswith("e") else verb
    return " ".join([f"{doing}ing", *rest])


def _with_article(thing: str) -> str:
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _long_words(text: str) -> set[str]:
    common = {"must", "open", "with", "have", "from", "only", "that", "they", "allowed", "without"}
    return set(re.findall(r"[a-z]{4,}", text.lower())) - common


# ---------------------------------------------------------------- what people asked

_AUXILIARIES = "is|are|was|were|can|could|will|would|has|have|had|should|must"
_KINDS = ((r"how (?:many|much|old|long)", "number"), (r"what (?:year|month)|when", "when"), (r"what (?:city|country)|where", "where"))
_VAGUE = re.compile(r"\b(?:something|someone|somebody|thing|some)\b", re.I)
_BEFORE_PLACE = re.compile(r"(?:in|at|on|near|from|to|over|under|inside|outside|around|throughout)\b", re.I)
_BEFORE_TIME = re.compile(r"(?:in|at|on|during|since|after|before|by|until|from|last|next|this|yesterday|today|now|when|while)\b", re.I)


def yes_no_question(question: str, answer: str) -> str | None:
    "A question of who, what, where, when or how many with an answer put in, as a yes-or-no question; None where that is not simple."
    words = question.strip().rstrip("? ").split()
    lower = [word.lower() for word in words]
    if not 3 <= len(words) <= 14: return None
    rest, second = " ".join(words[2:]), lower[1].capitalize()
    is_auxiliary = re.fullmatch(_AUXILIARIES, lower[1]) is not None
    if lower[0] in ("who", "what") and is_auxiliary:
        if lower[0] == "what" and re.search(r"\b(?:of|to|in|for|with|by|from|at|on|about|do|did)$", rest): return None
        is_name = re.match(r"(?:the|a|an|his|her|their|its)\b", rest) and lower[1] in ("is", "was", "are", "were")
        return f"{second} {rest} {answer}?" if is_name and len(answer) % 2 else f"{second} {answer} {rest}?"
    if lower[0] in ("who", "what") and lower[1] in ("did", "does", "do"):
        return None if lower[-1] == "do" else f"{second} {rest} {answer}?"
    if lower[0] == "who" and (base := base_form(lower[1])): return f"Did {answer} {base} {rest}?"
    if lower[0] == "where" and (is_auxiliary or lower[1] in ("did", "does", "do")):
        return f"{second} {rest} {answer if _BEFORE_PLACE.match(answer) else f'in {answer}'}?"
    if lower[0] == "when" and (is_auxiliary or lower[1] in ("did", "does", "do")):
        is_month = re.fullmatch(r"\d{4}|[A-Z]\w+ \d{4}|[A-Z][a-z]+", answer)
        before = "" if _BEFORE_TIME.match(answer) or not (is_month or re.search(r"\d", answer)) else "in " if is_month else "on "
        return f"{second} {rest} {before}{answer}?"
    if lower[:2] == ["how", "many"] and len(lower) > 4:
        for place in range(3, min(6, len(lower))):
            counted, behind, verb = " ".join(words[2:place]), " ".join(words[place + 1 :]), lower[place].capitalize()
            if lower[place] in ("is", "are", "was", "were", "have", "had", "will", "can"):
                return f"{verb} {answer} {counted} {behind}?"
            if lower[place] in ("did", "do", "does"): return f"{verb} {behind} {answer} {counted}?"
    if lower[0] == "what" and lower[1] in ("year", "month", "city", "country") and re.fullmatch(_AUXILIARIES + "|did", lower[2]):
        return f"{lower[2].capitalize()} {' '.join(words[3:])} in {answer}?"
    return None


def _kind(question: str) -> str:
    kind = next((kind for asked, kind in _KINDS if re.match(asked, question, re.I)), "")
    return kind or (question.split() or [""])[0].lower()


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def negated(sentence: str, question: str, answer: set[str], rng: random.Random) -> str | None:
    "The sentence with what the question asks about denied; None where the place of *not* is not plain."
    if asked := re.match(rf"(?:who|what|where|when) ({_AUXILIARIES}) ", question, re.I):
        told = (_words(question) - {"who", "what", "where", "when", asked[1].lower()}) | answer
        verbs = re.finditer(rf"\b{asked[1].lower()} (?!not)", sentence)
        places = [verb.end() for verb in verbs if set(re.findall(r"\w+", sentence[verb.end() : verb.end() + 40].lower())[:3]) & told]
        denial = rng.choice(["not ", "not ", "never ", "no longer "])
        return sentence[: places[0]] + denial + sentence[places[0] :] if len(places) == 1 else None
    irregular = {past for base, (past, _) in IRREGULAR_VERBS.items() if base not in ("be", "have", "do")}
    for past in re.findall(r"\b[a-z]+\b", sentence):
        base = base_form(past) if past.endswith("ed") or past in irregular else None
        if base is None or not {base, past} & _words(question) or len(re.findall(rf"\b{past}\b", sentence)) > 1:
            continue
        if re.search(rf"\b(?:be|been|is|was|were|are|has|have|had|by|being) (?:\w+ly )?{past}\b|\b{past} by\b", sentence):
            continue
        denial = rng.choice([f"did not {base}", f"never {past}", f"did not {base}", f"refused to {base}", f"failed to {base}"])
        return re.sub(rf"\b{past}\b", denial, sentence)
    return None


def peoples_examples(rows: Sequence[Mapping], rng: random.Random) -> Iterator[VerdictExample]:
    "Of each question that becomes one of yes or no: yes as it is, no with another answer or a denial, nothing from another sentence."
    pools: dict[str, list[str]] = defaultdict(list)
    beside: dict[str, list[str]] = defaultdict(list)
    article = lambda row: ":".join(row["title"].split(":")[:2])
    for row in rows:
        beside[article(row)].append(row["text"])
        for asked in row["questions"]:
            if asked["answers"] and len(asked["answers"][-1]["text"].split()) <= 5:
                pools[_kind(asked["question"])].append(asked["answers"][-1]["text"].strip(" .,;"))
    for row in rows:
        text, others = row["text"], [other for other in beside[article(row)] if other != row["text"]]
        for asked in row["questions"]:
            question, kind = asked["question"], _kind(asked["question"])
            answer = asked["answers"][-1]["text"].strip(" .,;") if asked["answers"] else ""
            if not answer or len(answer.split()) > 6 or _VAGUE.search(question) or _words(answer) & _PRONOUNS: continue
            made = yes_no_question(question, answer)
            if made is None: continue
            yield VerdictExample(made, text, YES, "people: yes")
            own = {word for one in asked["answers"] for word in _words(one["text"])}
            if kind in ("who", "where", "when", "number"):
                told = [
                    one["answers"][-1]["text"].strip(" .,;")
                    for one in row["questions"]
                    if one["answers"] and _kind(one["question"]) == kind
                ]
                here = [one for one in told if len(one.split()) <= 5 and not _words(one) & (own | _words(question))]
                swapped = rng.choice(here or pools[kind])
                if (here or not _words(swapped) & _words(text)) and (wrong := yes_no_question(question, swapped)):
                    yield VerdictExample(wrong, text, NO, "people: another answer")
            if denied := negated(text, question, own, rng):
                yield VerdictExample(made, denied, NO, "people: denied")
            if rng.random() < 0.55 and others:
                near = max(rng.sample(others, min(12, len(others))), key=lambda other, made=made: len(_words(other) & _words(made)))
                if len(_words(made) & _words(near)) > 0.4 * len(_words(made)): continue
                yield VerdictExample(made, near, NOTHING, "people: another sentence")


_PRONOUNS = {"it", "this", "that", "he", "she", "they"}


def answered_examples(rows: Sequence[Mapping], rng: random.Random) -> Iterator[VerdictExample]:
    "What people asked as they asked it: yes for the sentence that answers, nothing for the one of the article with most of its words."
    beside: dict[str, list[str]] = defaultdict(list)
    article = lambda row: ":".join(row["title"].split(":")[:2])
    for row in rows:
        beside[article(row)].append(row["text"])
    for row in rows:
        others = [other for other in beside[article(row)] if other != row["text"]]
        for asked in rng.sample(row["questions"], min(6, len(row["questions"]))):
            if not asked["answers"] or len(_words(asked["question"])) < 3: continue
            yield VerdictExample(asked["question"], row["text"], YES, "people: answered")
            answer = asked["answers"][-1]["text"].casefold()
            near = [other for other in rng.sample(others, min(12, len(others))) if answer not in other.casefold()]
            if near:
                best = max(near, key=lambda other: len(_words(other) & _words(asked["question"])))
                yield VerdictExample(asked["question"], best, NOTHING, "people: unanswered")


PAIRS = Path(__file__).with_name("verdict_pairs.jsonl")
_SAYS = {"no": NO, "yes": YES, "answers": YES, "second": YES, "nothing": NOTHING}


def written_examples(*, kept: bool) -> list[VerdictExample]:
    "Questions as users type them with lines of invented documents, written for this; every fifth domain is kept for measuring."
    rows = read_lines(PAIRS)
    domains = sorted({row["domain"] for row in rows})
    chosen = set(domains[::5]) if kept else set(domains) - set(domains[::5])
    source = lambda row: f"written: {row['says']}{' to yes or no' if row['says'] == 'nothing' and may_be_verdict(row['question']) else ''}"
    return [
        VerdictExample(row["question"], f"{row['context']}: {row['statement']}", _SAYS[row["says"]], source(row))
        for row in rows
        if row["domain"] in chosen
    ]


def opposite_examples(rows: Sequence[Mapping]) -> list[VerdictExample]:
    "The questions of each line with the line."
    return [
        VerdictExample(row[says], f"{row['context']}: {row['line']}", verdict, f"line: {says}")
        for row in rows
        for says, verdict in _SAYS.items()
        if says in row
    ]


def opposite_groups(rows: Sequence[Mapping], embed: Embed, rng: random.Random, *, size: int = 4) -> list[list[VerdictExample]]:
    "Each question that a line answers, with the line first, and the nearest others of its document, which say nothing to it."
    groups = []
    for lines in by_document(rows).values():
        texts = [f"{row['context']}: {row['line']}" for row in lines]
        told = [says for says in _SAYS if says != "nothing"]
        asked = [(row[says], place, _SAYS[says]) for place, row in enumerate(lines) for says in told if says in row]
        near = embed([question for question, *_ in asked], query=True) @ embed(texts).T
        for (question, place, says), likeness in zip(asked, near, strict=True):
            others = [other for other in (-likeness).argsort() if other != place][: size - 1]
            first = VerdictExample(question, texts[place], says, "line")
            groups.append([first, *(VerdictExample(question, texts[other], NOTHING, "line: another") for other in others)])
    rng.shuffle(groups)
    return groups


def line_groups(domains: Sequence[WrittenDomain], embed: Embed, rng: random.Random, *, size: int = 4) -> list[list[VerdictExample]]:
    """Questions to the written pages with lines of their domain: first the line that answers, unless none does, then such as do not.

    Of these the embedder finds twelve near the question; a line that has the short answer too is left out.
    """
    groups = []
    for domain in domains:
        lines = [line for page in domain.lines for line in page if line.role != "heading" and line.num_words > 1]
        gold = lambda one, domain=domain: domain.line_at(one.page, one.start, one.end) if one.answer else None
        asked = [(one.text, gold(one), one.answer, YES, "page: short") for one in domain.questions]
        asked += [
            (one.text, one.line, one.line.text, _SAYS[one.says], "page: text" if one.says == "answers" else "page: yes or no")
            for one in domain.told
        ]
        near = embed([text for text, *_ in asked], query=True) @ embed([line.in_context for line in lines]).T
        for (text, line, answer, says, source), likeness in zip(asked, near, strict=True):
            others = [lines[place] for place in (-likeness).argsort()[:13]]
            others = [other for other in others if other is not line and not (answer and answer.casefold() in other.text.casefold())]
            chosen = rng.sample(others[:5], min(len(others), size // 2))
            rest = [other for other in others if other not in chosen]
            chosen += rng.sample(rest, min(len(rest), size - len(chosen) - (line is not None)))
            first = [VerdictExample(text, line.in_context, says, source)] if line else []
            groups.append([*first, *(VerdictExample(text, other.in_context, NOTHING, "page: not told") for other in chosen)])
    rng.shuffle(groups)
    return groups


def may_be_verdict(question: str) -> bool:
    "Whether a question has no word that asks for anything but yes or no."
    return re.search(r"\b(?:who\w*|what|when|where|which|why|how)\b", question, re.I) is None


def training_examples(
    data: Path,
    *,
    num_forms: int = 5_000,
    num_people: int = 4_000,
    num_answered: int = 6_000,
    times_written: int = 3,
    times_lines: int = 2,
    seed: int = 0,
) -> list[VerdictExample]:
    "Written examples several times, forms, what people asked as yes or no and as it is, and StrategyQA's questions with their facts."
    rng = random.Random(seed)
    by_verdict: dict[int, list[VerdictExample]] = defaultdict(list)
    for example in peoples_examples(qamr(data)[0], rng):
        by_verdict[example.says].append(example)
    forms, share = Forms(rng), num_people // 3
    chosen = [example for part in by_verdict.values() for example in rng.sample(part, min(len(part), share))]
    examples = [replace(example, statement=forms.under_a_heading(example.statement, 0.4)) for example in chosen]
    examples += [example for example, _ in zip(forms.examples(), range(num_forms), strict=False)]
    answered = list(answered_examples(qamr(data)[0], rng))
    examples += [
        replace(example, statement=forms.under_a_heading(example.statement, 0.4))
        for example in rng.sample(answered, min(len(answered), num_answered))
    ]
    examples += written_examples(kept=False) * times_written + opposite_examples(written_lines(kept=False)) * times_lines
    for row in read_lines(data / "reading" / "strategyqa.jsonl"):
        examples.append(VerdictExample(row["question"], " ".join(row["facts"]), YES if row["answer"] else NO, "strategyqa"))
    rng.shuffle(examples)
    return examples
