"""POLICIES: policy name -> where it lives; a policy chooses the accelerator for a stream."""

import pkgutil
from typing import cast

from fleet.errors import ConfigError
from fleet.routing.base import RoutingPolicy

POLICIES: dict[str, str] = {
    "least_loaded": "fleet.routing.least_loaded:LeastLoaded",
}


DEFAULT_POLICY = "least_loaded"


def load_policy(name: str) -> RoutingPolicy:
    """Make a policy by name.

    Raises:
        ConfigError: no policy has this name.
    """
    if name not in POLICIES:
        raise ConfigError(f"unknown routing policy {name!r}", hint=f"known: {', '.join(POLICIES)}")
    return cast(RoutingPolicy, pkgutil.resolve_name(POLICIES[name])())
