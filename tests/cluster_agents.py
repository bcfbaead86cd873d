"""An agent that writes down what is done to it, for clusters that run it in another process."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Diary:
    """Files that the agents of a test write and the test reads; one set an accelerator."""

    folder: Path

    def file(self, accelerator, name) -> Path:
        return self.folder / f"{accelerator.replace('/', '-')}.{name}"

    def lines(self, accelerator, name) -> list[str]:
        path = self.file(accelerator, name)
        return path.read_text().splitlines() if path.exists() else []

    def write(self, accelerator, name, line) -> None:
        with self.file(accelerator, name).open("a") as file:
            file.write(f"{line}\n")


class WritingAgent:
    """Fails where the test has put a file named ``fail-start`` or ``fail-order``."""

    def __init__(self, diary: Diary, accelerator) -> None:
        self._diary, self._id = diary, accelerator.id
        self._fail("start")
        diary.write(self._id, "started", os.getpid())

    def order(self, assignments) -> None:
        self._fail("order")
        self._diary.write(self._id, "orders", " ".join(assignments))

    def stop(self, timeout_s) -> None:
        self._diary.write(self._id, "stopped", timeout_s)

    def _fail(self, what) -> None:
        if self._diary.file(self._id, f"fail-{what}").exists():
            raise RuntimeError(f"the device is gone at {what}")
