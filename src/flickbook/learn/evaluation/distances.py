"""Distances between sets of films in the features of `features`: FVD-w, its kernel counterpart, and the nearest clip.

FVD-w is the Frechet distance of Unterthiner et al. 2018 ("Towards Accurate Generative Models of Video: A New Metric &
Challenges", arXiv 1812.01717) with a network trained on the procedural world (w) in place of I3D. Its values are not
comparable with FVD. It grows when there are fewer films, so it means something only beside the distance of as many true
films. The polynomial MMD of Binkowski et al. 2018 ("Demystifying MMD GANs", arXiv 1801.01401) has no such bias.
"""

from __future__ import annotations

import numpy as np


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The Frechet distance of two sets of features (n, d) and (m, d), n and m at least 2: 0 for equal Gaussians."""
    apart = first.mean(0) - second.mean(0)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The trace of the square root of a product is that of a symmetric matrix with the same eigenvalues.
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    return float(apart @ apart + np.trace(one) + np.trace(other) - 2 * shared)


def mmd(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased squared MMD of two sets of features (n, d) and (m, d) with the kernel (x.y / d + 1) ** 3.

    It is 0 on average for sets of one distribution, and may be slightly negative.
    """

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    def within(a: np.ndarray) -> float:
        each = kernel(a, a)
        return float((each.sum() - np.trace(each)) / (len(a) * (len(a) - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def nearest(films: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """The distance (n,) of each of `films` (n, d) to the nearest of `clips` (m, d): root mean square over features."""
    squared = (films**2).mean(1)[:, None] + (clips**2).mean(1)[None] - 2 * films @ clips.T / films.shape[1]
    return np.asarray(np.sqrt(squared.clip(0).min(1)))


def spread(films: np.ndarray) -> float:
    """The mean distance of all pairs of two or more films (n, d): root mean square over features."""
    one, other = np.triu_indices(len(films), 1)
    return float(np.sqrt(((films[one] - films[other]) ** 2).mean(1)).mean())
