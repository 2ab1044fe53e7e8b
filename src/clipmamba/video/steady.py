"""Temporal consistency: keep the style attached to the scene from frame to frame.

Three measures reduce flicker. The moments by which the network normalizes are smoothed over the
frames of a scene. The noise is the same for all frames. And where the estimated motion explains a
frame, the restyled frame is mostly the previous one, warped along that motion; its fine detail has
the contrast that it has without warping. A cut resets all three.

Where the motion explains a whole frame, the warped one takes its place, and the network does not
run; but it never rests for two frames in a row.
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
_HOLE = 1 / 32  # of the longest side; a part of this size must not be carried without trust
_UNTRUSTED = 0.4  # most distrust in such a part
_DETAIL = 0.85  # pixels; detail finer than this is lost by warping
_AROUND = 4.0  # pixels; neighborhood in which the contrast of detail is corrected
_GAIN = (0.5, 2.0)  # smallest and largest factor of its contrast
_FAINT = 3e-6  # squared contrast below which there is no detail


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
        self._now, self._there = now, there
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

    @property
    def explains_all(self) -> bool:
        """True if no part of the current frame is new."""
        side = max(3, round(_HOLE * max(self.trust.shape)))
        distrust = import_cv2().blur(1 - self.trust, (side, side))
        return bool(distrust.max() < _UNTRUSTED)

    def unexplained(self) -> NDArray[np.float32]:
        """Compute the change of brightness that is not motion, (H, W, 1) in [-1, 1]."""
        cv2 = import_cv2()
        now, there = (
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
            for frame in (self._now, self._there)
        )
        change: NDArray[np.float32] = (now - there)[..., None] * (1 - self.trust)
        return change

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
        steady: Share that is carried over into a frame that the network restyles, in [0, 1).

    Raises:
        InputError: OpenCV is not installed.
    """

    def __init__(self, steady: float) -> None:
        import_cv2()  # before any work; while it is imported, an interrupt can get lost
        self._steady = steady
        self._photo: NDArray[np.uint8] | None = None
        self._before: NDArray[np.float32] | None = None
        self._motion: Motion | None = None
        self._carried_trust: NDArray[np.float32] | None = None  # None if the network has run

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

    def carried(self) -> NDArray[np.float32] | None:
        """Restyle the frame last looked at by motion alone.

        Returns:
            (H, W, 3) in [0, 1]; None if the network is needed.
        """
        motion, before = self._motion, self._before
        if motion is None or before is None:
            return None
        if self._carried_trust is not None or not motion.explains_all:
            return None
        result = motion.carry(before)
        # What little is new is shown without strokes, until the network sees it.
        result += motion.unexplained()
        np.clip(result, 0, 1, out=result)
        _, contrast = _detail(before)
        self._carried_trust = motion.trust
        self._before = _with_contrast(result, motion.carry(contrast))
        return self._before

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
            trust = self._motion.trust
            if self._carried_trust is not None:
                trust = trust * self._motion.carry(self._carried_trust)[..., None].clip(0, 1)
            blend *= self._steady * trust
            blend += restyled
            _, contrast = _detail(restyled)
            # Strokes that do not meet blend to a wash; and a contour may linger where nothing is.
            restyled = _with_contrast(blend, contrast)
        self._carried_trust = None
        self._before = restyled
        return restyled


def _detail(frame: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the fine detail of a frame, (H, W, 3), and its local contrast squared, (H, W)."""
    cv2 = import_cv2()
    detail = frame - cv2.GaussianBlur(frame, (0, 0), _DETAIL)
    power = np.add.reduce(cv2.split(detail * detail))
    return detail, cv2.GaussianBlur(power, (0, 0), _AROUND)


def _with_contrast(frame: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a frame's fine detail another local contrast: each interpolation blurs a little.

    Args:
        frame: (H, W, 3).
        wanted: The contrast, squared, (H, W).

    Returns:
        (H, W, 3) in [0, 1].
    """
    detail, contrast = _detail(frame)
    gain = np.sqrt((wanted.clip(0) + _FAINT) / (contrast + _FAINT)).clip(*_GAIN)[..., None]
    detail *= gain - 1
    detail += frame
    return detail.clip(0, 1, out=detail)


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
