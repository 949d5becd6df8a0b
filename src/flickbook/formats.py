"""File formats for films and images: the suffix selects the container, and tables define its codecs and limits.

quality is 0 to 100, where 100 is the best, and is converted to the encoder's own number:

    codec                       its number for quality q                    usual q
    h264                        CRF 51 * (100 - q) / 100, at least 1        69 (CRF 16)
    h265                        CRF 51 * (100 - q) / 100, at least 1        65 (CRF 18)
    vp9, av1                    CRF 63 * (100 - q) / 100, at least 1        69 (CRF 20), 65 (CRF 22)
    *_nvenc, *_amf              a fixed quantizer, as h264's CRF            69
    av1_nvenc, av1_amf          a fixed quantizer, 255 * (100 - q) / 100    69
    *_qsv                       a global quality, as h264's CRF             69
    *_videotoolbox              q itself                                    69
    gif                         2 + 253 * q / 100 colours                   100
    jpeg, webp, avif            q itself                                    92, 90, 85

"lossless" preserves every RGB value of every frame. ffv1, png and apng are always lossless.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal, get_args

from flickbook.errors import MediaError, OutputError, RequestError, shown
from flickbook.files import sha256
from flickbook.spec import Container, Encoding

LOSSLESS: Final = "lossless"
#: Frame rates are stored as fractions of up to this denominator, which holds 24000/1001 and similar rates exactly.
FPS_DENOMINATOR: Final = 1001
#: The most files of a numbered sequence that are read.
MOST_FRAMES: Final = 4096
Quality = int | Literal["lossless"]


@dataclass(frozen=True)
class Codec:
    """A codec: its pixel formats, the default first, and the default quality.

    `lossless` is the pixel format that preserves RGB exactly, "" if there is none. `worst` is the encoder's own number
    for quality 0, where 0 is the best; 0 if the encoder's number is the quality itself. `hardware` requires special
    hardware.
    """

    pixel_formats: tuple[str, ...] = ()
    quality: Quality = LOSSLESS
    lossless: str = ""
    worst: int = 0
    hardware: bool = False

    def number(self, quality: int) -> int:
        """Convert `quality` to the encoder's number, never to 0 if 0 is the best: that selects another profile."""
        return quality if not self.worst else max(1, round(self.worst * (100 - quality) / 100))


_EIGHT: Final = ("yuv420p", "yuv444p")
_TEN: Final = ("yuv420p", "yuv420p10le")
CODECS: Final[dict[str, Codec]] = {
    "h264": Codec((*_EIGHT, "yuv420p10le"), 69, "rgb24", 51),
    "h265": Codec((*_EIGHT, "yuv420p10le"), 65, "gbrp", 51),
    "vp9": Codec((*_EIGHT, "yuv420p10le"), 69, "gbrp", 63),
    "av1": Codec(_TEN, 65, worst=63),
    "ffv1": Codec(lossless="bgr0"),
    "gif": Codec(("pal8",), 100),
    "webp": Codec(("yuv420p",), 90, "rgb24"),
    "apng": Codec(lossless="rgb24"),
    "png": Codec(lossless="rgb24"),
    "jpeg": Codec(("yuv444p", "yuv422p", "yuv420p"), 92),
    "avif": Codec(("yuv444p", "yuv420p"), 85),
    "h264_nvenc": Codec(("yuv420p",), 69, worst=51, hardware=True),
    "hevc_nvenc": Codec(_TEN, 69, worst=51, hardware=True),
    "av1_nvenc": Codec(_TEN, 69, worst=255, hardware=True),
    "h264_videotoolbox": Codec(("yuv420p",), 69, hardware=True),
    "hevc_videotoolbox": Codec(_TEN, 69, hardware=True),
    "h264_qsv": Codec(("yuv420p",), 69, worst=51, hardware=True),
    "hevc_qsv": Codec(_TEN, 69, worst=51, hardware=True),
    "av1_qsv": Codec(_TEN, 69, worst=51, hardware=True),
    "h264_amf": Codec(("yuv420p",), 69, worst=51, hardware=True),
    "hevc_amf": Codec(_TEN, 69, worst=51, hardware=True),
    "av1_amf": Codec(_TEN, 69, worst=255, hardware=True),
}
_HARDWARE: Final = tuple(name for name, codec in CODECS.items() if codec.hardware)
_HARDWARE_AV1: Final = tuple(name for name in _HARDWARE if name.startswith("av1"))


@dataclass(frozen=True)
class Form:
    """A container: its suffixes, its codecs, the default first, whether it holds films, and its highest frame rate."""

    suffixes: tuple[str, ...]
    codecs: tuple[str, ...]
    films: bool = True
    max_fps: float = 240.0


#: Browsers show a frame of 10 ms or less for 100 ms. GIF counts in steps of 10 ms, so it is limited to 50 frames per
#: second, and so is animated WebP.
FORMS: Final[dict[Container, Form]] = {
    "mp4": Form((".mp4",), ("h264", "h265", "av1", *_HARDWARE)),
    "webm": Form((".webm",), ("vp9", "av1", *_HARDWARE_AV1)),
    "mkv": Form((".mkv",), ("ffv1", "h264", "h265", "vp9", "av1", *_HARDWARE)),
    "gif": Form((".gif",), ("gif",), max_fps=50.0),
    "webp": Form((".webp",), ("webp",), max_fps=50.0),
    "apng": Form((".apng",), ("apng",)),
    "frames": Form((".png",), ("png",)),
    "png": Form((".png",), ("png",), films=False),
    "jpg": Form((".jpg", ".jpeg"), ("jpeg",), films=False),
    "avif": Form((".avif",), ("avif",), films=False),
}
#: Every suffix that can be written; shot-%04d.png is a film as numbered frames.
SUFFIXES: Final = tuple(dict.fromkeys(suffix for form in FORMS.values() for suffix in form.suffixes))
FILMS: Final[tuple[Container, ...]] = tuple(name for name, form in FORMS.items() if form.films)
#: The containers that hold sound.
SOUNDING: Final[tuple[Container, ...]] = ("mp4", "webm", "mkv")
STILLS: Final[tuple[Container, ...]] = ("png", "jpg", "avif", "webp")
_BY_SUFFIX: Final = {suffix: name for name, form in FORMS.items() if name != "frames" for suffix in form.suffixes}
_QUALITIES: Final = ("must be 0 to 100, or lossless", "100 is the best; 60 to 90 suit most films")
_NUMBER: Final = re.compile(r"%(?:0([1-9]))?d")  # the frame number in the notation of printf and FFmpeg


def container_of(path: str | os.PathLike[str]) -> Container:
    """Return the container that `path` selects: by its suffix, or "frames" for a name such as shot-%04d.png.

    Raises OutputError, which lists every suffix, for any other name.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX and os.fspath(path) and Path(path).is_dir():
        raise OutputError(path, "is a directory", f"name a file in it, {Path(path) / 'film.mp4'}")
    if suffix not in _BY_SUFFIX:
        reason = f'the suffix "{shown(suffix)}" is not one of {", ".join(SUFFIXES)}'
        raise OutputError(path, reason, "use for example film.mp4 for a film, still.png for an image")
    if is_frames(path):
        return "frames"
    if _NUMBER.search(Path(path).name):
        raise OutputError(path, "numbered frames are PNG, with one number in the name", "name them shot-%04d.png")
    return _BY_SUFFIX[suffix]


def is_frames(path: str | os.PathLike[str]) -> bool:
    """Whether a name selects numbered frames, such as shot-%04d.png."""
    name = Path(path).name
    return name.lower().endswith(".png") and len(_NUMBER.findall(name)) == 1


def frame_paths(path: str | os.PathLike[str], num_frames: int, first: int = 1) -> tuple[Path, ...]:
    """Return the files of a film as numbered frames: shot-0001.png and so on for shot-%04d.png."""
    pattern = Path(path)
    begin, digits, end = _NUMBER.split(pattern.name)
    numbers = range(first, first + num_frames)
    return tuple(pattern.with_name(f"{begin}{number:0{digits or 0}d}{end}") for number in numbers)


def first_frame(path: str | os.PathLike[str]) -> Path:
    """Return the file that a numbered sequence begins with: number 0 if it exists, else number 1."""
    return frame_paths(path, 1, _first(path))[0]


def _first(path: str | os.PathLike[str]) -> int:
    return 0 if frame_paths(path, 1, 0)[0].exists() else 1


def _present(path: str | os.PathLike[str], most: int) -> tuple[Path, ...]:
    return tuple(takewhile(os.path.exists, frame_paths(path, most + 1, _first(path))))


def numbered_frames(path: str | os.PathLike[str], most: int = MOST_FRAMES) -> tuple[Path, ...]:
    """Return the files of a numbered sequence, frames/%05d.png, from number 0 or 1 up to the first missing number.

    At most `most` + 1 files are listed. Raises MediaError if the first frame is missing.
    """
    found = _present(path, most)
    if not found:
        reason = f"its first frame {first_frame(path).name} is missing"
        raise MediaError(path, reason, "number the frames from 0 or 1")
    return found


def check_numbers(path: str | os.PathLike[str]) -> None:
    """Raises MediaError if the first frame of a numbered sequence is missing, or a frame before an existing one."""
    found = numbered_frames(path)
    following = _first(path) + len(found)
    begin, _, end = (re.escape(part or "") for part in _NUMBER.split(Path(path).name))
    numbers = (re.fullmatch(f"{begin}([0-9]+){end}", name) for name in os.listdir(found[0].parent))
    last = max((int(number[1]) for number in numbers if number), default=0)
    if len(found) <= MOST_FRAMES and last >= following:
        reason = f"frame {frame_paths(path, 1, following)[0].name} is missing, and later frames exist"
        raise MediaError(path, reason, "add it, or renumber the frames")


def digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file; of numbered frames, that of the line of their SHA-256. Raises OSError."""
    if not is_frames(path):
        return sha256(os.fspath(path))
    hashes = [sha256(each) for each in _present(path, MOST_FRAMES) or (first_frame(path),)]
    return hashlib.sha256("\n".join(hashes).encode("ascii")).hexdigest()


def quality_of(text: str) -> Quality:
    """Parse a quality: 0 to 100, or lossless. Raises RequestError."""
    if text.strip().lower() == LOSSLESS:
        return "lossless"
    if re.fullmatch(r"[0-9]{1,3}", text.strip()) and int(text) <= 100:
        return int(text)
    raise RequestError("quality", text, *_QUALITIES)


def encoding(
    container: Container,
    codec: str | None = None,
    quality: Quality | None = None,
    pixel_format: str | None = None,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
) -> Encoding:
    """Return the Encoding for `container`, with the usual values for arguments that are None or "".

    Raises RequestError, naming the field and the allowed values, for arguments that the container or the codec does not
    support, for more frames than the container holds, and for an unsupported frame rate.
    """
    if container not in FORMS:
        raise RequestError("container", container, "no such container", f"choose {_either(get_args(Container))}")
    form = FORMS[container]
    name = codec or form.codecs[0]
    if name not in form.codecs:
        holders = [each for each, other in FORMS.items() if name in other.codecs]
        remedy = f"choose {_either(form.codecs)}" + (f", or the container {_either(holders)}" if holders else "")
        raise RequestError("codec", name, f"does not fit {container}", remedy)
    if num_frames is not None and num_frames != 1 and not form.films:
        raise RequestError(
            "container", container, f"stores one frame, not {num_frames}", f"choose {_either(FILMS)}, or ask for one"
        )
    if fps is not None and fps > form.max_fps:
        limit = f"{container} plays at most {form.max_fps:g} frames per second"
        raise RequestError("fps", fps, limit, "ask for fewer, or choose mp4")
    degree = _quality(name, quality)
    return Encoding(
        container=container, codec=name, quality=degree, pixel_format=_pixels(name, degree, pixel_format or None)
    )


def _quality(name: str, quality: Quality | None) -> Quality:
    codec = CODECS[name]
    if quality is None:
        return codec.quality
    if quality == LOSSLESS:
        if codec.lossless:
            return "lossless"
        able = _either([each for each, other in CODECS.items() if other.lossless])
        raise RequestError("quality", quality, f"{name} cannot store frames without loss", f"choose the codec {able}")
    if not codec.pixel_formats:
        raise RequestError("quality", quality, f"{name} is always lossless", "leave it out")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 100:
        raise RequestError("quality", quality, *_QUALITIES)
    return quality


def _pixels(name: str, quality: Quality, pixel_format: str | None) -> str:
    codec = CODECS[name]
    allowed = (codec.lossless,) if quality == LOSSLESS else codec.pixel_formats
    if pixel_format is not None and pixel_format not in allowed:
        what = f"does not fit {'lossless ' if quality == LOSSLESS else ''}{name}"
        raise RequestError("pixel_format", pixel_format, what, f"choose {_either(allowed)}")
    return pixel_format or allowed[0]


def _either(names: Sequence[str]) -> str:
    """Join names for a message: a, b or c."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
