"""Concatenation of films, with or without cross-fades."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageOps

from flickbook.errors import RequestError
from flickbook.media.finishing.cut import MAX_FRAMES, at_rate
from flickbook.media.write import check_frames


def join(
    films: Sequence[np.ndarray], fade: int = 0, *, rates: Sequence[float] | None = None, fit: bool = False
) -> np.ndarray:
    """Concatenate films, (frames, height, width, 3) uint8 each, in order; returns a new array.

    Each film fades into the next over `fade` frames; the films overlap there, so each transition shortens the result by
    them. `rates` is the frame rate of each film; all are converted to the first one's and keep their duration. `fit`
    scales films of another size to cover the first one's and crops evenly; without it another size is refused. Raises
    RequestError for no films, a fade longer than a film, and more than 10,000 frames.
    """
    if not films:
        raise RequestError("films", 0, "must be at least one", "name the films in the order they are to run")
    for film in films:
        check_frames(film)
    if rates is not None and len(rates) != len(films):
        raise RequestError("rates", len(rates), f"must be one for each of the {len(films)} films", "give as many")
    height, width = films[0].shape[1:3]
    for number, film in enumerate(films, 1):
        if film.shape[1:3] != (height, width) and not fit:
            size = f"{film.shape[2]}x{film.shape[1]}"
            limit = f"is the size of film {number} and must be {width}x{height}, that of the first"
            raise RequestError("films", size, limit, "add --fit, or make the films in one size")
    alike = [film if rates is None else at_rate(film, rates[i], rates[0]) for i, film in enumerate(films)]
    _check_length(alike, fade)
    fitted = [_fitted(film, height, width) for film in alike]
    parts = [fitted[0]]
    for before, film in pairwise(fitted):
        if fade:
            parts[-1] = parts[-1][: len(parts[-1]) - fade]
            parts.append(cross_fade(before[-fade:], film[:fade]))
        parts.append(film[fade:])
    return np.concatenate(parts)


def cross_fade(first: np.ndarray, second: np.ndarray, *, eased: bool = False) -> np.ndarray:
    """Cross-fade two equally shaped stretches (n, h, w, 3) uint8, from near the first to near the second.

    The pure frames of either side are before and after the stretch. The mean is that of the stored levels, not of
    linear light: equal steps of levels look equal, so the fade appears even, whereas in linear light a bright image
    would cover a dark one within the first few frames. `eased` begins and ends slowly (3t² - 2t³).
    """
    share = np.arange(1, len(first) + 1) / (len(first) + 1)
    if eased:
        share = share**2 * (3 - 2 * share)
    mixed = np.empty_like(first)
    for t, w in enumerate(share):
        mixed[t] = (first[t] * (1 - w) + second[t] * w).round().astype(np.uint8)
    return mixed


def _check_length(films: Sequence[np.ndarray], fade: int) -> None:
    if fade < 0:
        raise RequestError("fade", fade, "must not be negative", "0 cuts from film to film")
    for number, film in enumerate(films, 1):
        joints = (number > 1) + (number < len(films))
        if joints and len(film) < joints * fade:
            limit = f"film {number} has {len(film)} frames, which hold a fade of {len(film) // joints}"
            raise RequestError("fade", fade, limit, "choose a shorter fade or a longer film")
    count = sum(len(film) for film in films) - fade * (len(films) - 1)
    if count > MAX_FRAMES:
        raise RequestError("films", count, f"must be {MAX_FRAMES} frames at the most", "join fewer, or trim them first")


def _fitted(film: np.ndarray, height: int, width: int) -> np.ndarray:
    if film.shape[1:3] == (height, width):
        return film
    pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in film)
    return np.stack([np.asarray(ImageOps.fit(p, (width, height), Image.Resampling.LANCZOS)) for p in pictures])
