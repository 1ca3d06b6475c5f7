"Answers questions by searching, reading and thinking in trees, with every sentence checkable."

import os

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before PyTorch is loaded; see Threads in core.runtime
