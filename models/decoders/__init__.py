"""DECODERS: decoder name of a manifest -> where its factory lives."""

import pkgutil
from collections.abc import Mapping
from typing import Any, cast

from models.decoders.base import Decoder, DecoderFactory
from models.errors import ManifestError
from models.skeletons import SKELETONS

DECODERS: dict[str, str] = {
    "movenet": "models.decoders.movenet:MoveNetDecoder",
    "openpose": "models.decoders.openpose:OpenPoseDecoder",
    "posenet": "models.decoders.posenet:PoseNetDecoder",
}


def make_decoder(name: str, skeleton: str, stride: int, options: Mapping[str, Any]) -> Decoder:
    """Build the decoder that a manifest names.

    Raises:
        ManifestError: unknown decoder or skeleton, or options that the decoder does not know.
    """
    if name not in DECODERS:
        raise ManifestError(f"unknown decoder {name!r}", hint=f"known: {', '.join(DECODERS)}")
    if skeleton not in SKELETONS:
        raise ManifestError(f"unknown skeleton {skeleton!r}", hint=f"known: {', '.join(SKELETONS)}")
    factory = cast(DecoderFactory, pkgutil.resolve_name(DECODERS[name]))
    return factory(SKELETONS[skeleton], stride, options)
