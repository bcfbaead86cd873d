"""Synthetic scenes: persons with known keypoints, rendered as the four outputs of a PoseNet."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.decoders.posenet_kernel import EDGES

PEAK = 4.0
"""Logit at the center of a keypoint; its sigmoid is .98."""
FLOOR = -5.0
"""Lowest logit before noise."""
FALL = 0.9
"""Logits lost a squared cell of distance: a blob of two cells radius is over threshold .5."""

# One standing person in units of its height, (y, x) from the hips' middle, in COCO order.
STANDING = np.array(
    [
        (-.45, 0), (-.48, .03), (-.48, -.03), (-.46, .06), (-.46, -.06), (-.33, .13), (-.33, -.13),
        (-.16, .18), (-.16, -.18), (0, .2), (0, -.2), (0, .09), (0, -.09),
        (.25, .1), (.25, -.1), (.5, .1), (.5, -.1),
    ]
)  # fmt: skip

Maps = Mapping[str, NDArray[np.float32]]


def make_people(
    rng: np.random.Generator, count: int, size: tuple[float, float]
) -> NDArray[np.float64]:
    """Place persons on a jittered grid that fills (height, width); ``(person, 17, 2)`` y, x."""
    columns = max(1, int(np.ceil(np.sqrt(count))))
    lines = max(1, -(-count // columns))
    cells = rng.permutation(columns * lines)[:count]
    pitch = np.array(size) / (lines, columns)
    centers = (np.stack([cells // columns, cells % columns], -1) + 0.5) * pitch
    centers += rng.uniform(-0.1, 0.1, centers.shape) * pitch
    heights = rng.uniform(0.7, 1.0, (count, 1, 1)) * pitch.min() * 1.2
    jitter = rng.normal(0, 0.02, (count, 17, 2))
    people: NDArray[np.float64] = centers[:, None] + (STANDING + jitter) * heights
    return people


def render(
    people: NDArray[np.float64],
    cells: tuple[int, int],
    stride: int,
    rng: np.random.Generator,
    noise: float = 0.3,
) -> Maps:
    """Render ``(person, 17, 2)`` keypoints (y, x; input pixels) on maps of (height, width) cells.

    Where persons overlap, a cell belongs to the nearest keypoint of its kind; ``noise`` is the
    deviation of the logits, and in pixels that of offsets and displacements.
    """
    height, width = cells
    lines, columns = np.mgrid[:height, :width] * float(stride)
    grid = np.stack([lines, columns], -1)
    heatmap = np.full((height, width, 17), FLOOR)
    offset = np.zeros((height, width, 2, 17))
    forward = np.zeros((height, width, 2, len(EDGES)))
    backward = np.zeros((height, width, 2, len(EDGES)))
    if len(people):
        distance = ((grid[:, :, None, None] - people) ** 2).sum(-1)
        owner = distance.argmin(2)
        heatmap = np.maximum(PEAK - FALL * distance.min(2) / stride**2, FLOOR)
        owned = people[owner, np.arange(17)]
        offset = np.moveaxis(owned - grid[:, :, None], 3, 2)
        for edge, (parent, child) in enumerate(EDGES):
            limbs = people[:, child] - people[:, parent]
            forward[:, :, :, edge] = limbs[owner[:, :, parent]]
            backward[:, :, :, edge] = -limbs[owner[:, :, child]]

    def noisy(values: NDArray[np.float64]) -> NDArray[np.float32]:
        flat = values.reshape(height, width, -1)
        return (flat + rng.normal(0, noise, flat.shape)).astype(np.float32)

    return {
        "heatmap": noisy(heatmap),
        "offset": noisy(offset),
        "displacement_forward": noisy(forward),
        "displacement_backward": noisy(backward),
    }


def make_scene(count: int, cells: int, stride: int = 16, seed: int = 0) -> Maps:
    """Render ``count`` persons that fill a square map of ``cells`` x ``cells``."""
    rng = np.random.default_rng(seed)
    pixels = (cells - 1) * stride
    return render(make_people(rng, count, (pixels, pixels)), (cells, cells), stride, rng)


def make_noise(cells: int, seed: int = 0) -> Maps:
    """Return a worst case: every logit is noise over the threshold, every vector is noise."""
    rng = np.random.default_rng(seed)

    def vectors(channels: int, spread: float) -> NDArray[np.float32]:
        return rng.normal(0, spread, (cells, cells, channels)).astype(np.float32)

    return {
        "heatmap": rng.uniform(0.1, 8, (cells, cells, 17)).astype(np.float32),
        "offset": vectors(34, 8),
        "displacement_forward": vectors(32, 60),
        "displacement_backward": vectors(32, 60),
    }


def make_plateau(cells: int, seed: int = 0) -> Maps:
    """Return a worst case: every logit of the map ties, as saturated quantized outputs do."""
    maps = dict(make_noise(cells, seed))
    maps["heatmap"] = np.full_like(maps["heatmap"], 5)
    return maps


def make_scatter(cells: int, seed: int = 0) -> Maps:
    """Return a worst case made on purpose: every second cell peaks, none leads to another."""
    maps = dict(make_noise(cells, seed))
    heatmap = np.full_like(maps["heatmap"], FLOOR)
    heatmap[::2, ::2] = maps["heatmap"][::2, ::2]
    maps["heatmap"] = heatmap
    maps["offset"] = np.zeros_like(maps["offset"])
    for role in ("displacement_forward", "displacement_backward"):
        maps[role] = np.zeros_like(maps[role])
        maps[role][::2, ::2] = 16  # one cell of stride 16, to where nothing is
    return maps
