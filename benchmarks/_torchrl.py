"""torchrl with its C++ trees, compiled again from the wheel's own sources where the shipped extension does not load with this torch."""

from __future__ import annotations

import functools
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from lightbulb.core.runtime import cache_folder


@functools.cache
def load_torchrl() -> tuple[ModuleType, str]:
    "The extension module with `SumSegmentTreeFp32`, and how it was got; ImportError if torchrl is not installed."
    spec = importlib.util.find_spec("torchrl")
    if spec is None or not spec.submodule_search_locations: raise ImportError("torchrl is not installed")
    folder = Path(spec.submodule_search_locations[0])
    try:
        import torchrl._torchrl as extension

        if hasattr(extension, "SumSegmentTreeFp32"): return extension, "its wheel"
    except ImportError:
        pass  # built for another torch: the sources are in the wheel
    for name in [name for name in sys.modules if name == "torchrl" or name.startswith("torchrl.")]:
        del sys.modules[name]
    library = compiled(folder / "csrc")
    found = importlib.util.spec_from_file_location("torchrl._torchrl", library)
    assert found and found.loader
    extension = importlib.util.module_from_spec(found)
    found.loader.exec_module(extension)
    sys.modules["torchrl._torchrl"] = extension
    import torchrl

    torchrl._torchrl = extension
    return extension, "compiled here from its own sources, -O3 -DNDEBUG"


def compiled(sources: Path) -> Path:
    "The extension built against the torch that is here; kept in the cache, since it takes a minute."
    import torch
    from torch.utils.cpp_extension import load

    folder = cache_folder(
        "torchrl", f"{version('torchrl')}-torch-{torch.__version__}-python-{sys.version_info.major}.{sys.version_info.minor}"
    )
    library = folder / "_torchrl.so"
    if not library.exists():
        files = [str(sources / "pybind.cpp"), str(sources / "utils.cpp")]
        load(name="_torchrl", sources=files, extra_cflags=["-O3", "-DNDEBUG"], build_directory=str(folder), is_python_module=False)
    return library
