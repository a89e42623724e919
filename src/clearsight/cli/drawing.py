"""`clearsight ask --draw OUT.png`: the boxes and points of an answer on the pictures they belong to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clearsight.cli.options import UsageError

if TYPE_CHECKING:
    from clearsight.vlm import Reply

_KINDS = (".png", ".jpg", ".jpeg", ".webp")


def check_drawing(out: str, pictures: Sequence[str]) -> None:
    """Find before any work what would keep the drawing from being written. Raises UsageError."""
    path = Path(out)
    if not pictures:
        raise UsageError("--draw needs a picture to draw on")
    if path.suffix.lower() not in _KINDS:
        raise UsageError(f"--draw {out}: the name must end in {', '.join(_KINDS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--draw {out}: there is no folder {str(path.parent)!r}")
    if any(path.resolve() == Path(picture).resolve() for picture in pictures):
        raise UsageError(f"--draw {out}: this is one of the pictures asked about; name another file")


def draw_reply(out: str, pictures: Sequence[str], reply: Reply) -> None:
    """Write a file for each picture that has a box or point, the first one even if none has. Raises UsageError."""
    from clearsight.media import load
    from clearsight.media.drawing import Mark, draw

    for index, picture in enumerate(pictures):
        marks = [Mark(note.label, note.pixels) for note in reply.annotations if note.image == index]
        if not marks and index:
            continue
        path = Path(out)
        path = path if index == 0 else path.with_stem(f"{path.stem}-{index + 1}")
        try:
            draw(load(picture), marks).save(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror or error})") from error
        places = "1 place" if len(marks) == 1 else f"{len(marks)} places"
        print(f"({places} drawn in {path})", file=sys.stderr)
