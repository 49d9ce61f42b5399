"""Neighbouring frames of a clip, laid over one another by optical flow (OpenCV).

Legend: C channels (1 or 3), H x W pixels.
"""

from typing import Any

import numpy as np

LEAST_SIDE = 16
"""Smaller frames have no flow that can be computed, and stay as they are."""


def tracked(current: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """The frame ``neighbour`` as it looks when it is moved onto ``current``, uint8 [C, H, W].

    Each pixel is read from where the dense flow says that it went; beyond the border the outermost
    pixels go on. The same frames give the same pixels. Source: Kroeger et al., Fast optical flow
    using dense inverse search, ECCV 2016, arXiv:1603.03590, with OpenCV's medium preset.

    Raises:
        ValueError: The frames differ in shape, or OpenCV is not installed.
    """
    if current.shape != neighbour.shape:
        raise ValueError(f"frames differ in shape: {current.shape} and {neighbour.shape}")
    if min(current.shape[1:]) < LEAST_SIDE:
        return neighbour.copy()
    cv2 = _opencv()
    cv2.setNumThreads(1)
    seeker = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = seeker.calc(_grey(cv2, current), _grey(cv2, neighbour), None)  # [H, W, 2]
    down, across = np.indices(current.shape[1:], dtype=np.float32)
    moved = cv2.remap(
        _last(neighbour),
        across + flow[..., 0],
        down + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.ascontiguousarray(moved.reshape(_last(current).shape).transpose(2, 0, 1))


def _grey(cv2: Any, frame: np.ndarray) -> np.ndarray:
    if len(frame) == 1:
        return np.ascontiguousarray(frame[0])
    return np.asarray(cv2.cvtColor(_last(frame), cv2.COLOR_RGB2GRAY))


def _last(frame: np.ndarray) -> np.ndarray:
    """Channels last, [H, W, C]."""
    return np.ascontiguousarray(frame.transpose(1, 2, 0))


def _opencv() -> Any:
    try:
        import cv2  # here: few installations have it
    except ImportError as error:
        raise ValueError("optical flow needs OpenCV: pip install 'selftrain[video]'") from error
    return cv2
