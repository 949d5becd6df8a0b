"""The edges of frames, as a control video: white lines on black."""

from __future__ import annotations

import numpy as np

from flickbook.errors import MissingExtra

#: Thresholds of the gradient, of 255: between them a pixel is an edge if it touches one.
LOW, HIGH = 100, 200


def edges(frames: np.ndarray) -> np.ndarray:
    """The edges of frames (n, height, width, 3) uint8 in the same shape: 255 on an edge, 0 elsewhere.

    By Canny's detector (Canny 1986, "A Computational Approach to Edge Detection"). Raises MissingExtra without OpenCV.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "finish") from error
    lines = [cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), LOW, HIGH) for frame in frames]
    return np.repeat(np.stack(lines)[..., None], 3, axis=3)
