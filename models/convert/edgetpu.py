"""Compile an 8-bit TFLite file for the Edge TPU, by Google's own edgetpu_compiler."""

import subprocess
from pathlib import Path

from models.convert.targets import EDGETPU_COMPILER
from models.errors import ConversionError

TIMEOUT_S = 600.0
"""Our choice: PoseNet takes seconds, the compiler's own limit for a search is 180 s a subgraph
(https://coral.ai/docs/edgetpu/compiler/#options)."""
_LOG_LINES = 20


def compile_for_edgetpu(
    network: Path, folder: Path, timeout_s: float = TIMEOUT_S
) -> tuple[Path, str]:
    """Return the compiled file, in a folder, and what the compiler says of it.

    Raises:
        ConversionError: the compiler refuses the network, or takes too long; with the end of its
            log.
    """
    command = [EDGETPU_COMPILER, "--show_operations", "--out_dir", str(folder), str(network)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ConversionError(f"{EDGETPU_COMPILER} is not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"{EDGETPU_COMPILER} did not end within {timeout_s:.0f} s", hint="try a smaller network"
        ) from error
    log = f"{done.stdout}{done.stderr}".strip()
    made = folder / f"{network.stem}_edgetpu.tflite"
    if done.returncode != 0 or not made.is_file():
        last = "\n".join(log.splitlines()[-_LOG_LINES:])
        raise ConversionError(
            f"{EDGETPU_COMPILER} cannot compile {network.name} (exit code {done.returncode}):\n"
            f"{last}"
        )
    return made, log
