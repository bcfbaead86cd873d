"""The model zoo: manifests, artifacts, conversion, preprocessing and pose decoding.

Importing ``openvino`` reports its use to the vendor from a background thread, unless the package
``openvino_telemetry`` cannot be imported. A fleet tells nobody that it runs, so it cannot be.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not importable
