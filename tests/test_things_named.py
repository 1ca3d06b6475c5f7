"Questions over a folder with the real reader: what is said of another model, year or thing is no answer, and two amounts are compared."

from __future__ import annotations

from pathlib import Path

import pytest

from lightbulb.agent.answering import Answer, TestAgent, answer
from lightbulb.agent.tools import Tools, load_tools

PAGES = {
    "k7.md": "# Brundle K7 Kettle\n\nThe Brundle K7 is an electric kettle with a steel body. It was introduced in March 2019. "
    "The K7 holds 1.7 litres and weighs 1.2 kg. A keep-warm mode holds the water at 80 °C. The K7 boils a full load in six minutes.",
    "k5.md": "# Brundle K5 Kettle\n\nThe Brundle K5 is the smaller sister of the K7. It was introduced in May 2015. "
    "The K5 holds 1.0 litre and weighs 0.9 kg. The K5 is made of plastic. It boils a full load in four minutes.",
    "ferry.md": "# Ferry\n\nThe ferry Sigrun links Velmora with Osk. The crossing takes 45 minutes and costs 7 crowns. "
    "The ferry Balder links Velmora with Tarn; the crossing takes 90 minutes and costs 12 crowns. "
    "Dogs travel free on the Sigrun but not on the Balder.",
    "office.md": "# Governors of Varn\n\nIn 1852 Edward Marsh took office. Marsh was succeeded in 1861 by Clara Dunn. "
    "Dunn bought the mill of Orren. Lise Holm taught Clara Dunn.",
    "foghorn.md": "# The foghorn station\n\nThe foghorn station employed Per Lund, who was born in Ribe. "
    "Per Lund used to be a first aider, but his certificate ran out. The Kestrel 40 of the station weighs 3.1 kg.",
    "pets.md": '# Claims about pets\n\n**"Hamsters need a companion."** Wrong. Grown hamsters live alone.\n\n'
    '**"Ferrets smell worse after a bath."** True.\n\nVisitors numbered 5,000 in 2022.',
    "leave.md": "# Leave of the foghorn staff\n\n"
    "| Years of service | Days of leave |\n| --- | --- |\n| under 2 years | 20 |\n"
    "| 2 to 5 years | 24 |\n| over 5 years | 27 |\n",
    "changes.txt": "Changes of Tidemark\n===================\n\n"
    "3.4 (20 November 2024)\n----------------------\n- The default port is 8484.\n"
    "- Copies are kept for 30 days.\n\n3.3 (2 May 2023)\n----------------\n- The first version that reads tide tables.\n",
    "rules.md": "# Rules\n\nBicycles may be taken on board, except on Sundays.",
    "tower.md": "# The Velmora lighthouse\n\nThe Velmora lighthouse stands on the north pier. Some people say the lighthouse is haunted. "
    "This is false. The lighthouse keeper in 1850 was Marta Oolen. Velmora exports salt, amber and dried fish.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("notes")
    for name, text in PAGES.items():
        (place / name).write_text(text)
    return place


@pytest.fixture(scope="module")
def config(folder: Path) -> TestAgent:
    return TestAgent(search=f"folder:{folder}", knowledge_base=str(folder.parent / "things.sqlite"))


@pytest.fixture(scope="module")
def tools(config: TestAgent) -> Tools:
    return load_tools(config, tell=lambda step: None)


@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("Is the K5 made of plastic?", "Yes."),
        ("Can I take my dog on the Sigrun?", "Yes."),
        ("Can I take my dog on the Balder?", "No."),
        ("Can I take my bicycle on board on Sundays?", "No."),
        ("Is the lighthouse haunted?", "No."),
        ("Which kettle is heavier?", "Brundle K7 ("),
        ("Which kettle was introduced first?", "Brundle K5 ("),
        ("Which kettle boils faster?", "Brundle K5 ("),
        ("Which kettle has a keep-warm mode?", "Brundle K7. [1]"),
        ("Which ferry is faster?", "Sigrun ("),
        ("How much heavier is the K7 than the K5?", "0.3 kg (K7: 1.2 kg; K5: 0.9 kg). [1][2]"),
        ("How much more does the Balder cost than the Sigrun?", "5 crowns ("),
        ("Who was the lighthouse keeper in 1850?", "Marta Oolen. [1]"),
        ("Who succeeded Edward Marsh?", "Clara Dunn. [1]"),
        ("Who taught Clara Dunn?", "Lise Holm. [1]"),
        ("Do hamsters need a companion?", 'No. [1] "Hamsters need a companion." [1] Wrong. [1]'),
        ("Do ferrets smell worse after a bath?", "Yes."),
        ("Is Per Lund a first aider?", "No."),
        ("How many visitors were there in 2022?", "5,000. [1]"),
        ("How many days of leave are there after three years of service?", "24"),
        ("When was version 3.3 of Tidemark released?", "2 May 2023"),
    ],
)
def test_what_is_asked_of_one_of_two_is_answered_of_it(question: str, begins: str, config: TestAgent, tools: Tools) -> None:
    *_, result = answer(question, config, tools=tools)
    assert isinstance(result, Answer) and result.text.startswith(begins), result.text


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("What is the K9 made of?", "K9"),
        ("Is the Z9 made of plastic?", "Z9"),
        ("Who was the lighthouse keeper in 1900?", ""),
        ("What does Velmora import?", ""),
        ("Where was the inventor of the foghorn born?", ""),
        ("Who taught Lise Holm?", ""),
        ("Who succeeded Clara Dunn?", ""),
        ("What did Orren buy?", ""),
        ("How much does the Kestrel 60 weigh?", ""),
        ("How many visitors were there in 2021?", ""),
    ],
)
def test_what_is_said_of_another_is_no_answer(question: str, named: str, config: TestAgent, tools: Tools) -> None:
    *_, result = answer(question, config, tools=tools)
    assert isinstance(result, Answer) and result.refused and named in result.text, result.text


def test_a_verdict_is_never_taken_from_another_model(config: TestAgent, tools: Tools) -> None:
    *_, result = answer("Is the K7 made of plastic?", config, tools=tools)
    assert not result.text.startswith("Yes")


def test_sources_are_numbered_as_they_are_cited(config: TestAgent, tools: Tools) -> None:
    *_, result = answer("Who was the lighthouse keeper in 1850?", config, tools=tools)
    assert [citation.number for citation in result.citations] == [1] * len(result.citations)
