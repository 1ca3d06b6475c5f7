"""Questions in German and French become questions in English: order, names, accents, and what is English stays."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightbulb.reading.glossary import glossary
from lightbulb.reading.translation import foreign_language, in_english


@pytest.mark.parametrize(
    "question, english",
    [
        ("Wie kann ich einen Zweig umbenennen?", "How can I rename a branch?"),
        ("Wo wurde der Erfinder der Lampe geboren?", "Where was the inventor of the lamp born?"),
        ("In welchem Verzeichnis legt das Programm seinen Cache ab?", "In which directory does the program store its cache?"),
        ("Kann eine gelöschte Datei wiederhergestellt werden?", "Can a deleted file be restored?"),
        ("Welcher Befehl löscht einen Zweig?", "Which command deletes a branch?"),
        ("Was passiert, wenn die Platte voll ist?", "What happens, if the disk is full?"),
        ("Was löscht den Cache?", "What deletes the cache?"),
        ("Wie schließt man eine Datei?", "How do you close a file?"),
        ("Welche Dateien schließt der Befehl aus?", "Which files does the command exclude?"),
        ("zstd level wenn man keinen angibt", "Zstd level if you specify none"),
        ("Wo steht das Zeilenende, ohne den Schritt rückgängig zu machen?", "Where does the line end stand, without undo the step?"),
        ("Wer hat die Lampe erfunden?", "Who invented the lamp?"),
        ("Lässt sich die Schrift vergrößern?", "Can the font be enlarged?"),
        ("Comment puis-je renommer une branche ?", "How can I rename a branch?"),
        ("Où est né l'inventeur de la lampe ?", "Where was the inventor of the lamp born?"),
        ("Qui a inventé la lampe ?", "Who invented the lamp?"),
        ("Dans quel fichier le programme garde-t-il les réglages ?", "In which file does the program keep the settings?"),
        ("Quel fichier Borg crée-t-il ?", "Which file does Borg create?"),
        ("Jusqu'à combien de tables peut-on joindre ?", "Up to how many tables can you join?"),
        ("Comment restaurer un dosier ?", "How to restore a folder?"),
        ("Est-ce que je peux supprimer un fichier ?", "Can I delete a file?"),
        ("Quelle commande supprime une branche ?", "Which command deletes a branch?"),
        ("Peut-on changer le mot de passe ?", "Can you change the password?"),
        ("C'est quelle touche pour la grille ?", "Which key is it for the grid?"),
    ],
)
def test_a_question_is_put_into_english_order(question: str, english: str) -> None:
    assert in_english(question) == english


def test_options_paths_calls_and_quotes_stay_as_they_are() -> None:
    german = in_english('Was macht git push --all in ~/.config/git mit "Das ist so" und foo(x)?')
    assert all(part in german for part in ("git push --all", "~/.config/git", '"Das ist so"', "foo(x)?"))
    assert "--force" in in_english("À quoi sert l'option --force de git push ?")


def test_umlauts_and_accents_may_be_missing() -> None:
    assert "size" in in_english("Wie kann ich die Groesse der Datei aendern?") and "change" in in_english(
        "Wie kann ich die Groesse aendern?"
    )
    assert in_english("Comment creer un depot ?") == in_english("Comment créer un dépôt ?")


def test_compounds_are_taken_apart_and_unknown_words_stay() -> None:
    assert glossary("German").of("Speicherverbrauch")[0].english == "memory consumption"
    assert "Blorfix" in in_english("Wie kann ich den Blorfix löschen?") and "blorfix" in in_english("Comment supprimer le blorfix ?")


@pytest.mark.parametrize(
    "question",
    [
        "What was Les Plaisirs et les Jours?",
        "Who wrote Die Verwandlung?",
        "borg default compression",
        "Is the Comment field of an entry kept on export?",
        "Cloth plus smoke plus soft body in the same file. Which button bakes the lot?",
        "where does pip install man pages on debian",
        "¿Qué es un repositorio?",
        "Come posso creare un file?",
        "Wie is de directeur van het museum?",
        "",
    ],
)
def test_english_and_other_languages_stay(question: str) -> None:
    assert foreign_language(question) == "" and in_english(question) == question


WORDS = (
    "wie wo wer kann ich der die das den Datei löschen wurde ist hat an auf zu und wenn , ? . comment où qui peut-on est-ce que le la "
    "l'image de du fichier ne pas a été si « ( - --x 3 %"
).split()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_no_order_of_words_is_too_strange(words: list[str]) -> None:
    assert isinstance(in_english(" ".join(words)), str)


@pytest.mark.parametrize(
    "question", ["Wie kann ich " * 800, "a" * 20_000 + " wie kann ich das?", "Comment puis-je -" + "-a" * 8_000, "wie “" * 4_000]
)
def test_time_is_linear_in_what_is_asked(question: str) -> None:
    in_english("Wie kann ich das?"), in_english("Comment puis-je ça ?")
    begin = time.process_time()
    in_english(question)
    assert time.process_time() - begin < 5


def test_a_question_in_english_loads_no_glossary() -> None:
    glossary.cache_clear()
    assert in_english("How do I rename a branch?") == "How do I rename a branch?" and in_english("rename branch git") == "rename branch git"
    assert glossary.cache_info().currsize == 0
