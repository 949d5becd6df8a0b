"""Entries of a dataset as its files list them: the path of a clip and one caption. Nothing is decoded here.

Text files are UTF-8 with or without a byte order mark, with line ends of any system, and of bounded size.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from flickbook.errors import escaped, one_line, shown
from flickbook.files import open_regular

#: Files in a directory with its subdirectories, and entries in its lists.
MAX_FILES: Final = 100_000
#: Bytes of one caption, and of a list of clips or captions.
MAX_CAPTION_BYTES: Final = 64 << 10
MAX_LIST_BYTES: Final = 64 << 20
SKIPPED: Final = "skipped"
IGNORED: Final = "ignored"
#: Characters of a file's name or a line's in a Problem.
_SHOWN: Final = 240
_NOT_PLAIN: Final = re.compile(r"[^\w.\-+ ()\[\],@=&!#%'~]")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NO_DOWNLOAD: Final = "an address, and nothing is downloaded; download it and list the file"


@dataclass(frozen=True)
class Problem:
    """A problem of a dataset: where it is (a file or a line, relative to the directory), the reason, and the rule.

    The rule says what is done about it, for example "skipped".
    """

    where: str
    reason: str
    rule: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}: {self.rule}"


@dataclass(frozen=True)
class Entry:
    """A clip with one caption, as listed at `where`. The clip may be missing, and the caption empty."""

    where: str
    path: Path
    caption: str


@dataclass
class Listing:
    """The entries of a directory, in order, and the problems found so far. `layout` names how they are listed.

    With `confined`, of the paths in lists only the file names are read: they name files of the directory itself.
    """

    directory: Path
    confined: bool = False
    layout: str = ""
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def tell(self, where: str, reason: str, rule: str = SKIPPED) -> None:
        """Add a problem, as one line of printable characters."""
        where = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…"
        self.problems.append(Problem(escaped(one_line(where)), escaped(one_line(reason)), rule))

    def name(self, path: Path) -> str:
        """Return `path` relative to the directory if it is in it, with slashes."""
        return (path.relative_to(self.directory) if path.is_relative_to(self.directory) else path).as_posix()


class Unusable(Exception):
    """A text or a path cannot be used; the message is the reason of a Problem."""


def text_of(path: Path, limit: int) -> str:
    """Return the text of a file of at most `limit` bytes, with line ends as "\\n". Raises Unusable."""
    try:
        with open_regular(path) as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read ({shown(getattr(error, 'strerror', None) or error)})") from None
    if len(data) > limit:
        raise Unusable(f"larger than the limit of {limit} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def caption_of(text: str) -> str:
    """Return a caption as one line: every run of whitespace is one space. Raises Unusable."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise Unusable("the caption holds half of a surrogate pair; write the character itself") from None
    if size > MAX_CAPTION_BYTES:
        raise Unusable(f"a caption of {size} bytes, more than the limit of {MAX_CAPTION_BYTES}")
    return one_line(text.replace("\0", " "))


def confined(name: str) -> str:
    """Return the name under which an uploaded file is stored. Raises Unusable for an address."""
    if _ADDRESS.match(name):
        raise Unusable(_NO_DOWNLOAD)
    return plain_name(name)


def plain_name(name: str) -> str:
    """Return the file name of a path of any system, without directories, with "_" for characters that are not plain.

    Names are composed (NFC), because file managers differ in how they write accents.
    """
    base = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).name.strip()
    return _NOT_PLAIN.sub("_", base)


def located(name: str, *folders: Path) -> Path:
    """Return the file called `name`, which is absolute or relative to the first of `folders` that holds it.

    Raises Unusable for an address, a directory and a file that does not exist.
    """
    if _ADDRESS.match(name):
        raise Unusable(_NO_DOWNLOAD)
    if not name or "\0" in name:
        raise Unusable("not a file name")
    # Lists made on Windows separate folders with backslashes.
    names = (name, name.replace("\\", "/")) if os.sep == "/" and "\\" in name else (name,)
    for folder in folders:
        for each in names:
            path = Path(os.path.normpath(folder / each))
            try:
                if path.is_dir():
                    raise Unusable("a directory, not a file; list a video or a picture in it")
                if path.exists():
                    return path
            except OSError as error:
                raise Unusable(f"cannot be read ({shown(error.strerror or error)})") from None
    raise Unusable("no such file")
