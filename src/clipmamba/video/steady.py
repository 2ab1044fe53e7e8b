"""Temporal consistency: keep the style attached to the scene from frame to frame.

Three measures reduce flicker. The moments by which the network normalizes are smoothed over the
frames of a scene. The noise is the same for all frames. And where the estimated motion explains a
frame, the restyled frame is mostly the previous one, warped along that motion; its fine detail has
the contrast that it has without warping. A cut resets all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.nn import PictureMoments

_FOLLOW = 0.2  # weight of a new frame's moments in those of the scene
_FLOW_SIDE = 1024  # longest side for motion estimation, in pixels
_TOLERANCE = 0.4  # relative difference of the frames beyond which the motion is not trusted
_DARK = 0.1  # added to the brightness that differences are relative to
_CUT = 0.7  # mean trust below which a frame starts a new scene
_COARSE = 0.05  # of the longest side; flicker is finer, what has moved away unnoticed is coarser
_RENEWED = 0.15  # part of the coarse differences that is not carried over
_DETAIL = 1.0  # pixels; detail finer than this is lost by warping
_AROUND = 4.0  # pixels; neighborhood in which the contrast of detail is corrected
_GAIN = (0.5, 2.0)  # smallest and largest factor of its contrast


class SceneMoments(PictureMoments):
    """Variance and mean of every norm, smoothed over the frames of a scene."""

    def of(self, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Update and return the moments of `norm` with its input x, (B, C, H, W)."""
        self.follow({norm: PictureMoments().of(norm, x)})
        return self[norm]

    def follow(self, found: dict[nn.Module, tuple[Tensor, Tensor]]) -> None:
        """Move the scene's moments toward those of a new frame."""
        for norm, now in found.items():
            if norm in self:
                (variance, mean), (new_variance, new_mean) = self[norm], now
                now = (variance.lerp(new_variance, _FOLLOW), mean.lerp(new_mean, _FOLLOW))
            self[norm] = now


class SceneNetwork:
    """A stylizer with memory of the scene; it shares the weights of the network it wraps.

    Args:
        network_for: Returns the network for a longest side in pixels and a stroke size.
    """

    def __init__(self, network_for: Callable[[int, float], Any]) -> None:
        self._network_for = network_for
        self._network: Any = None
        self.scene = SceneMoments()
        self._frame: PictureMoments | None = None

    def sees(self, side: int, stroke: float = 1.0) -> SceneNetwork:
        """Prepare for pictures with this longest side, in pixels; return the network itself."""
        self._network = self._network_for(side, stroke)
        return self

    def __getattr__(self, name: str) -> Any:
        """Look up everything else on the wrapped network."""
        return getattr(self._network, name)

    def begin(self) -> None:
        """Forget the scene."""
        self.scene.clear()

    def __call__(
        self, photo: Tensor, style: Tensor, noise: Tensor, whole: PictureMoments | None = None
    ) -> Tensor:
        """Run the network with the scene's moments.

        Args:
            photo: See the stylizer.
            style: See the stylizer.
            noise: See the stylizer.
            whole: Moments of the whole frame if `photo` is one of its tiles.
        """
        if whole is not None and whole is not self._frame:
            self.scene.follow(whole)
        self._frame = whole
        result: Tensor = self._network(photo, style, noise, self.scene)
        return result


class Motion:
    """Backward optical flow from a frame to the previous one, and its confidence.

    Args:
        before: The previous frame, RGB, (H, W, 3) uint8.
        now: The current frame, of the same shape.

    Attributes:
        trust: Confidence in the flow, (H, W, 1) in [0, 1].
    """

    def __init__(self, before: NDArray[np.uint8], now: NDArray[np.uint8]) -> None:
        cv2 = import_cv2()
        height, width = now.shape[:2]
        scale = min(1.0, _FLOW_SIDE / max(height, width))
        # The search works on patches of 8 pixels and needs a few of them.
        size = max(32, round(width * scale)), max(32, round(height * scale))
        gray = [
            cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
            for frame in (now, before)
        ]
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = cv2.resize(search.calc(*gray, None), (width, height))
        flow *= np.array([width / size[0], height / size[1]], np.float32)
        columns, rows = (np.arange(side, dtype=np.float32) for side in (width, height))
        across, down = cv2.split(flow)
        self._from = across + columns, down + rows[:, None]
        inside = (self._from[0] >= -0.5) & (self._from[0] <= width - 0.5)
        inside &= (self._from[1] >= -0.5) & (self._from[1] <= height - 0.5)
        there = cv2.remap(before, *self._from, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Means over a few pixels: a camera's noise is no difference.
        pair = [cv2.blur(frame, (5, 5)) for frame in (now, there)]
        error, light = (
            np.maximum.reduce(cv2.split(each)).astype(np.float32) / 255
            for each in (cv2.absdiff(*pair), cv2.max(*pair))
        )
        error /= _TOLERANCE * (light + _DARK)
        self.trust = (np.exp(-(error**2)) * inside)[..., None]

    @property
    def is_cut(self) -> bool:
        """True if the two frames show different scenes."""
        return bool(self.trust.mean() < _CUT)

    def carry(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Warp values of the previous frame, (H, W, C), to the current one."""
        cv2 = import_cv2()
        moved: NDArray[np.float32] = cv2.remap(
            values, *self._from, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return moved


class Steadier:
    """Carries each restyled frame of a scene over to the next.

    Args:
        steady: Share that is carried over, in [0, 1).
    """

    def __init__(self, steady: float) -> None:
        self._steady = steady
        self._photo: NDArray[np.uint8] | None = None
        self._before: NDArray[np.float32] | None = None
        self._motion: Motion | None = None

    def look(self, photo: NDArray[np.uint8]) -> bool:
        """Estimate the motion to the next frame, (H, W, 3) uint8.

        Returns:
            True if it continues the scene of the previous frame.
        """
        before, self._photo, self._motion = self._photo, photo, None
        if before is not None and before.shape == photo.shape:
            motion = Motion(before, photo)
            self._motion = None if motion.is_cut else motion
        return self._motion is not None

    def hold(self, restyled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blend the restyled frame with the warped previous one.

        Args:
            restyled: The restyled version of the frame last looked at, (H, W, 3) in [0, 1].

        Returns:
            The same shape and range.
        """
        if self._motion is not None and self._before is not None:
            blend = self._motion.carry(self._before)  # changed in place: frames are large
            np.clip(blend, 0, 1, out=blend)
            blend -= restyled
            side = max(1, round(_COARSE * max(blend.shape)))
            blend -= _RENEWED * import_cv2().blur(blend, (side, side))
            blend *= self._steady * self._motion.trust
            blend += restyled
            restyled = _with_detail_of(restyled, blend)
        self._before = restyled
        return restyled


def _with_detail_of(single: NDArray[np.float32], blend: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a blend's fine detail the contrast that it has in the frame restyled on its own.

    Each interpolation blurs a little, and so does the mean of strokes that do not meet; and a
    contour may linger where nothing is any more.
    """
    cv2 = import_cv2()
    details, powers = [], []
    for frame in (single, blend):
        detail = frame - cv2.GaussianBlur(frame, (0, 0), _DETAIL)
        power = np.add.reduce(cv2.split(detail * detail))
        details.append(detail)
        powers.append(cv2.GaussianBlur(power, (0, 0), _AROUND) + 3e-6)
    gain = np.sqrt(powers[0] / powers[1]).clip(*_GAIN)[..., None]
    result: NDArray[np.float32] = details[1]
    result *= gain - 1
    result += blend
    return result.clip(0, 1, out=result)


def import_cv2() -> Any:
    """Import OpenCV, which estimates the motion.

    Raises:
        InputError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise InputError("video needs more packages: pip install 'clipmamba[video]'") from None
    return cv2
