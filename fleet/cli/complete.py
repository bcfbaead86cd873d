"""Words that the shell completes: stream ids of the running fleet, names of networks."""

from contextlib import closing
from importlib import resources


def models(incomplete: str) -> list[str]:
    """Return the networks of the catalog; their manifests are not read, only listed."""
    folder = resources.files("models") / "manifests"
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())
    return [name for name in names if name.startswith(incomplete)]


def streams(incomplete: str) -> list[str]:
    """Return the streams of the running fleet; none where there is no fleet to ask."""
    from fleet import app
    from fleet.errors import FleetError

    try:
        with closing(app.open_store()) as store:
            return [spec.id for spec in store.streams() if spec.id.startswith(incomplete)]
    except (FleetError, OSError):
        return []
