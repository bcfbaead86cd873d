"""The accelerator that measurements show least busy; ties go to fewer streams, then to the name."""

from collections.abc import Sequence

from agents.wire.messages import StreamSpec
from fleet.routing.base import Candidate, Decision


class LeastLoaded:
    """Spreads streams by measured load; an accelerator without a measurement counts as idle."""

    def choose(self, _stream: StreamSpec, candidates: Sequence[Candidate]) -> Decision | None:
        """Return the least busy candidate."""
        if not candidates:
            return None
        best = min(candidates, key=lambda c: (c.busy or 0.0, c.streams, c.accelerator))
        load = "not measured yet" if best.busy is None else f"{best.busy:.2f} lanes busy"
        return Decision(
            best.accelerator,
            f"least loaded of {len(candidates)}: {load}, {best.streams} other streams",
        )
