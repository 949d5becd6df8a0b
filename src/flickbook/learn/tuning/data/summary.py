"""The report on a dataset before training: what it holds, how its clips are grouped, and its problems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from flickbook.errors import shown
from flickbook.learn.tuning.data.buckets import Bucket
from flickbook.learn.tuning.data.dataset import Dataset, TrainingClip
from flickbook.learn.tuning.data.entries import Problem

Buckets = Mapping[Bucket, Sequence[TrainingClip]]
MAX_LINES: Final = 20
_WORDS: Final = 10
_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
#: Words that are in most English sentences and say nothing about a dataset.
_FREQUENT: Final = frozenset(
    ("a", "an", "the", "this", "that", "it", "its", "his", "her", "their", "is", "are", "was", "were", "and", "or")
    + ("of", "in", "on", "at", "to", "with", "from", "by", "as", "for", "into")
)


def summary(dataset: Dataset, buckets: Buckets, fps: float) -> dict[str, Any]:
    """Return the report as a JSON-compatible dict. `fps` is the model's frame rate.

    Keys: directory; layout; clips, videos and pictures (files); captions (a file with two captions has two); seconds
    of all videos and of the median one; sizes ("WxH": files, most frequent first); words (of the shortest, the median
    and the longest caption); frequent_words (word: captions that hold it); buckets; enlarged (files smaller than their
    bucket, and the largest factor); cropped (the largest share of a picture that is cut off); slow (videos of fewer
    frames per second than `fps`, whose frames are repeated); stills (videos of which one frame is used, because they
    are too short for the next number of frames that the model takes, or one was asked for); problems.
    """
    files = list({clip.path: clip for clip in dataset.clips}.values())
    videos = [clip for clip in files if clip.num_frames > 1]
    seconds = [clip.num_frames / clip.fps for clip in videos]
    lengths = [len(clip.caption.split()) for clip in dataset.clips]
    sizes = Counter(f"{clip.width}x{clip.height}" for clip in files)
    pairs = {clip.path: (clip, bucket) for bucket, clips in buckets.items() for clip in clips}.values()
    scales = [max(bucket.width / clip.width, bucket.height / clip.height) for clip, bucket in pairs]
    return {
        "directory": str(dataset.directory),
        "layout": dataset.layout,
        "clips": len(files),
        "videos": len(videos),
        "pictures": len(files) - len(videos),
        "captions": len(dataset.clips),
        "seconds": {"total": round(sum(seconds), 3), "median": round(median(seconds), 3) if seconds else 0.0},
        "sizes": dict(sizes.most_common()),
        "words": {"least": min(lengths), "median": median(lengths), "most": max(lengths)},
        "frequent_words": dict(_frequent_words(clip.caption for clip in dataset.clips)),
        "buckets": [
            {"num_frames": each.num_frames, "width": each.width, "height": each.height, "captions": len(clips)}
            for each, clips in buckets.items()
        ],
        "enlarged": {"clips": sum(scale > 1 for scale in scales), "factor": round(max([1.0, *scales]), 2)},
        "cropped": round(max((_cropped(clip, bucket) for clip, bucket in pairs), default=0.0), 3),
        "slow": sum(clip.fps < fps * 0.99 for clip in videos),
        "stills": sum(clip.num_frames > 1 and bucket.num_frames == 1 for clip, bucket in pairs),
        "problems": [{"where": each.where, "reason": each.reason, "rule": each.rule} for each in dataset.problems],
    }


def _frequent_words(captions: Iterable[str]) -> list[tuple[str, int]]:
    """Return the words that the most captions hold, each with the number of captions."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(list(dict.fromkeys(_WORD.findall(caption.lower()))))  # once for each caption
    return [each for each in counts.most_common(_WORDS + len(_FREQUENT)) if each[0] not in _FREQUENT][:_WORDS]


def _cropped(clip: TrainingClip, bucket: Bucket) -> float:
    """Return the share of the clip's area outside the bucket after scaling."""
    ratio = clip.width * bucket.height / (clip.height * bucket.width)
    return 1 - min(ratio, 1 / ratio)


def lines(report: Mapping[str, Any]) -> list[str]:
    """Format the report of `summary` as text, one fact a line, with at most 20 problems."""
    total, middle = report["seconds"]["total"], report["seconds"]["median"]
    words = report["words"]
    found = [
        f"Layout     {report['layout']}",
        f"Clips      {_count(report['videos'], 'video')}, {_count(report['pictures'], 'picture')}, "
        f"{_count(report['captions'], 'caption')}",
        f"Duration   {_duration(total)} in all, {middle:.1f} s the median video" if report["videos"] else "",
        f"Sizes      {_listed(report['sizes'])}",
        f"Captions   {words['least']} to {words['most']} words, median {words['median']:g}",
        f"Words      {_listed({shown(word): count for word, count in report['frequent_words'].items()}, _WORDS)}",
    ]
    for number, each in enumerate(report["buckets"]):
        size = f"{_count(each['num_frames'], 'frame')} of {each['width']}x{each['height']}"
        found.append(f"{'' if number else 'Buckets':<11}{size}: {_count(each['captions'], 'caption')}")
    enlarged = report["enlarged"]
    if enlarged["clips"]:
        clips = _count(enlarged["clips"], "clip")
        found.append(f"Enlarged   {clips} smaller than the bucket, up to {enlarged['factor']:g} times")
    if report["cropped"] >= 0.01:
        found.append(f"Cropped    up to {report['cropped']:.0%} of a picture")
    if report["slow"]:
        found.append(f"Repeated   frames of {_count(report['slow'], 'video')} with a lower frame rate than the model's")
    if report["stills"]:
        found.append(f"Stills     one frame of {_count(report['stills'], 'video')} is used")
    problems = [Problem(**each) for each in report["problems"]]
    found.append(f"Problems   {len(problems) or 'none'}")
    found += [f"  {problem}" for problem in problems[:MAX_LINES]]
    if len(problems) > MAX_LINES:
        found.append(f"  and {len(problems) - MAX_LINES} more")
    return [line for line in found if line]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours and not minutes:
        return f"{seconds:.1f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _listed(counts: Mapping[str, int], most: int = 5) -> str:
    """Format the first `most` counts: "480x272 (12), 64x64 (2), and 3 more"."""
    shown_counts = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:most])
    return shown_counts + (f", and {len(counts) - most} more" if len(counts) > most else "")
