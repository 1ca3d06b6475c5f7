"Answers questions by searching, reading and thinking in trees, with every sentence checkable."

__version__ = "0.1.0"
