"""Where a frame lands in the network's input, and the exact way back for keypoints.

Pixel centers are integers: pixel 0 covers -0.5..0.5. ``cv2.resize`` maps the *edges* of the frame
to the edges of the target, so a center moves by ``(x + 0.5) * scale - 0.5``.
"""

from dataclasses import dataclass

import numpy as np

from models.poses import PoseArray


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """Resize a frame into the rectangle ``left, top, width, height`` of the input."""

    frame_width: int
    frame_height: int
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def fit(
        cls, frame: tuple[int, int], size: tuple[int, int], *, keep_aspect: bool = True
    ) -> "ImageTransform":
        """Fit a frame of ``(width, height)`` into an input of ``(width, height)``.

        With ``keep_aspect`` the frame is centered and the rest is padding, else it is stretched.
        """
        if not keep_aspect:
            return cls(*frame, 0, 0, *size)
        scale = min(size[0] / frame[0], size[1] / frame[1])
        width = min(size[0], max(1, round(frame[0] * scale)))
        height = min(size[1], max(1, round(frame[1] * scale)))
        return cls(*frame, (size[0] - width) // 2, (size[1] - height) // 2, width, height)

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels a frame pixel, horizontally and vertically."""
        return self.width / self.frame_width, self.height / self.frame_height

    def affine_to_frame(self) -> tuple[float, float, float, float]:
        """``(ax, bx, ay, by)`` with ``x_frame = ax * x_input + bx``, the same for y."""
        scale_x, scale_y = self.scale
        return (
            1 / scale_x,
            (0.5 - self.left) / scale_x - 0.5,
            1 / scale_y,
            (0.5 - self.top) / scale_y - 0.5,
        )

    def to_input(self, keypoints: PoseArray) -> PoseArray:
        """Map ``(..., 3)`` keypoints from frame pixels to input pixels; scores stay."""
        ax, bx, ay, by = self.affine_to_frame()
        return _affine(keypoints, (1 / ax, -bx / ax, 1 / ay, -by / ay))

    def to_frame(self, keypoints: PoseArray) -> PoseArray:
        """Map ``(..., 3)`` keypoints from input pixels to frame pixels; scores stay."""
        return _affine(keypoints, self.affine_to_frame())


def _affine(keypoints: PoseArray, affine: tuple[float, float, float, float]) -> PoseArray:
    ax, bx, ay, by = affine
    scale = np.array([ax, ay, 1], np.float32)
    shift = np.array([bx, by, 0], np.float32)
    return keypoints * scale + shift
