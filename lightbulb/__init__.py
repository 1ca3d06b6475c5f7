"Answers questions by searching, reading and thinking in trees, with every sentence checkable."

import os

__version__ = "0.1.0"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch is loaded; see Threads in core.runtime
