"""The model zoo: manifests, artifacts, conversion, preprocessing and pose decoding.

Two things must be settled before anybody imports ``openvino`` or ``numba``, hence here.
"""

import hashlib
import os
import sys
from pathlib import Path

# Importing openvino reports its use to the vendor from a background thread, unless the package
# openvino_telemetry cannot be imported. A fleet tells nobody that it runs, so it cannot be.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not importable


def _kernel_cache() -> str:
    """Return a folder for compiled kernels that changes whenever any source of a kernel does.

    Left alone, numba looks only at the file of the function that was asked for, and runs stale code
    after an edit, or an upgrade, of a file that this one calls.
    """
    here = Path(__file__).parent
    sources = [*here.glob("*.py"), *here.glob("decoders/*.py"), *here.glob("../agents/wire/*.py")]
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(source.read_bytes())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(cache) / "posefleet" / "kernels" / digest.hexdigest()[:16])


os.environ.setdefault("NUMBA_CACHE_DIR", _kernel_cache())
