"""The result of an evaluation as people read it: a table, and a page with an example of every skill."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from clearsight.answer import Reply
from clearsight.eval.accuracy import replies
from clearsight.eval.labelled import Labelled
from clearsight.messages import Box, Image, Message, Part, Point, Ref, Text, ToolCall, Video
from clearsight.vlm import VLM

CONTROLS = {
    "with_another_picture": "(each picture swapped for another)",
    "with_blank_pictures": "(each picture blank)",
}
_GAP = 4
_METRICS = {
    "exact": "equal to the last character",
    "result-exact": "what it comes to equal to the last character",
    "anls": "edit similarity, 0 below a half",
    "result-anls": "edit similarity of what it comes to, 0 below a half",
    "result-relaxed": "what it comes to: number within 5%, text equal but for case",
    "iou": "every box overlaps its own by a half",
    "point-in-box": "point inside the element",
    "tool-call": "function and all arguments equal",
    "characters": "share of characters right",
}


def markdown_table(result: dict[str, Any]) -> str:
    """The result of `evaluate` as a table: one row a skill, then the controls."""
    exact = all(values.get("metric", "exact") == "exact" for values in result["by_skill"].values())
    rows = [f"| skill | {'exactly ' * exact}right | 95% interval | samples |", "|---|---|---|---|"]
    for skill, values in _rows(result):
        metric = values.get("metric", "exact")
        label = skill if metric == "exact" else f"{skill} ({metric})"
        rows.append(f"| {label} | {_figures(values)} |")
    return "\n".join(rows)


def write_report(path: Path, vlm: VLM, samples: Sequence[Labelled], result: dict[str, Any]) -> None:
    """A page at `path` with the figures and, in images/ beside it, the first sample of each skill with its answer."""
    images = path.parent / "images" / path.stem
    images.mkdir(parents=True, exist_ok=True)
    firsts = {sample.skill: sample for sample in reversed(samples)}
    answers = dict(zip(firsts, replies(vlm, list(firsts.values())), strict=True))
    lines = [
        f"# What {vlm.name} can see",
        "",
        "Written by `clearsight eval --report`: do not edit. Every sample is held out: its words, wordings, fonts and",
        "layouts were kept from training. Answers are greedy. An accuracy is the mean of what the rule gives.",
        "",
        "| skill | right if | accuracy | 95% interval | samples |",
        "|---|---|---|---|---|",
    ]
    for skill, values in _rows(result):
        rule = _METRICS.get(values.get("metric", ""), "as the skills above")
        lines.append(f"| {skill} | {rule} | {_figures(values)} |")
    lines += [
        "",
        *(
            f"With {text}, {result[name]['changed']:.1%} of the answers change."
            for name, text in (("with_another_picture", "another picture"), ("with_blank_pictures", "a blank picture"))
            if result.get(name)
        ),
        "",
        "## One example of each, not chosen",
        "",
    ]
    for skill in result["by_skill"]:
        lines += _example(skill, firsts[skill], answers[skill], images, path.parent)
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    controls = [(text, result[name]) for name, text in CONTROLS.items() if result.get(name)]
    return [*result["by_skill"].items(), *controls]


def _figures(values: dict[str, Any]) -> str:
    low, high = values["interval"]
    return f"{values['accuracy']:.1%} | {low:.1%} to {high:.1%} | {values['samples']}"


def _example(skill: str, sample: Labelled, reply: Reply, images: Path, root: Path) -> list[str]:
    file = images / (re.sub(r"\W+", "-", skill.lower()).strip("-") + ".png")
    lines = [f"**{skill}**", ""]
    pictures = list(_pictures(sample.prompt))
    if pictures:
        _side_by_side(pictures).save(file)
        lines += [f"![{skill}]({file.relative_to(root).as_posix()})", ""]
    question = next(message for message in reversed(sample.prompt) if message.role == "user")
    return [
        *lines,
        f"Asked: {_code(_spoken(question.parts))}",
        f"Right: {_code(_spoken(sample.label.parts))}",
        f"Answered: {_code(_spoken((Text(reply.text), *reply.tool_calls)))}",
        "",
    ]


def _spoken(parts: Sequence[Part]) -> str:
    """Parts in the form in which a reply's text has them: marks of boxes left out."""
    return "".join(map(_said, parts)).strip()


def _said(part: Part) -> str:
    if isinstance(part, (Text, Ref)):
        return part.text
    if isinstance(part, Box):
        return f"({part.x1},{part.y1}),({part.x2},{part.y2})"
    if isinstance(part, Point):
        return f"({part.x},{part.y})"
    return f"{part.name} {part.arguments}" if isinstance(part, ToolCall) else ""


def _code(text: str) -> str:
    return "`" + " / ".join(text.replace("`", "'").splitlines()) + "`  "


def _pictures(messages: Sequence[Message]) -> list[Pillow.Image]:
    found: list[Pillow.Image] = []
    for part in (part for message in messages for part in message.parts):
        if isinstance(part, Image):
            found.append(part.source)
        elif isinstance(part, Video):
            found.extend(part.source)
    return found


def _side_by_side(pictures: Sequence[Pillow.Image]) -> Pillow.Image:
    width = sum(picture.width + _GAP for picture in pictures) - _GAP
    sheet = Pillow.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width + _GAP
    return sheet
