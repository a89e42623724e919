"""What can be typed: options, and what they mean as messages and sampling parameters."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from clearsight.inputs import SamplingParams


DEFAULT_MODEL = "nano"
KEY_VARIABLE = "CLEARSIGHT_API_KEY"


class UsageError(ValueError):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


_SAMPLING: dict[str, tuple[type, str]] = {
    "max_tokens": (int, "longest answer, in tokens"),
    "temperature": (float, "0 always takes the likeliest token; above 0 drops the model's own top-k, top-p and min-p"),
    "top_k": (int, "choose among the K likeliest tokens; 0 is off"),
    "top_p": (float, "choose among the likeliest tokens that make up this probability"),
    "min_p": (float, "leave out tokens less likely than this part of the likeliest"),
    "repetition_penalty": (float, "above 1: tokens seen before become less likely"),
    "presence_penalty": (float, "taken once from the score of each token in the answer so far"),
    "frequency_penalty": (float, "taken from it for each time the token occurred"),
    "seed": (int, "the same seed gives the same answer"),
}


_AREAS = ("min_pixels", "max_pixels")

_VIDEO: dict[str, tuple[type, str]] = {
    "fps": (float, "frames looked at in a second (default: 2)"),
    "nframes": (int, "frames looked at in all"),
    "max_frames": (int, "at most this many (default: 768)"),
    "video_start": (float, "where to begin, in seconds"),
    "video_end": (float, "where to end, in seconds"),
    "total_pixels": (int, "area of all frames together"),
    "steady": (bool, "frames at fixed times and of one size, so that parts of a video share what they cost"),
    "strict": (bool, "refuse a video that does not fit the context instead of looking at less of it"),
}


def add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="*", metavar="FILE... QUESTION", help="pictures and videos, then the question")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of streaming")
    parser.add_argument("--draw", metavar="OUT.png",
                        help="draw the answer's boxes and points on their picture (OUT-2.png: the second)")  # fmt: skip
    add_weights(parser)
    add_adapter(parser)
    add_server(parser)
    _add_prompt(parser)
    add_sampling(parser)


def add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="FILE", help="pictures and videos for the first question")
    add_weights(parser)
    add_adapter(parser)
    add_server(parser)
    _add_prompt(parser)
    add_sampling(parser)


def add_count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="FILE", help="pictures and videos; only headers are read")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="count this too; may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_model(parser)
    _add_prompt(parser)


def add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="as for --model (default: nano)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="nano, 2b, 7b, 72b, a hub name or a folder (default: nano)"
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--random-weights", action="store_true", help="true shape, meaningless answers, no download")
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="default: as the weights are stored, or float32 where bfloat16 is slow",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8", "int4", "none"),
        default="none",
        help="linear layers that are stored in full: 8 bits, or the language model's in 4 (default: none)",
    )


def add_adapter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter",
        metavar="DIR",
        help="use this LoRA adapter, as `clearsight train` or PEFT write it, or one of nano: games, shop",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", metavar="URL", help="ask this OpenAI-compatible server; no model is loaded here")
    parser.add_argument("--key", metavar="KEY", help=f"the server's API key (also: {KEY_VARIABLE})")
    # A server has models of its own: only a name that was typed is asked of it.
    parser.set_defaults(model=None)


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--label-pictures", action="store_true", help='announce each picture as "Picture k: "')
    parser.add_argument("--min-pixels", type=int, metavar="N", help="enlarge smaller pictures to this area")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="shrink larger pictures to this area")
    videos = parser.add_argument_group("videos")
    for name, (kind, text) in _VIDEO.items():
        flag = "--" + name.replace("video_", "").replace("_", "-")
        if kind is bool:
            videos.add_argument(flag, dest=name, action="store_true", help=text)
        else:
            videos.add_argument(flag, dest=name, type=kind, metavar="N", help=text)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    for name, (kind, text) in _SAMPLING.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text)
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end the answer before TEXT; may be repeated")


def user_turn(args: argparse.Namespace, media: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """One question; what is a video is told by its content, or by the name of what lies elsewhere."""
    from clearsight.media import looks_like_video

    parts: list[dict[str, Any]] = []
    for source in media:
        kind, names = ("video", (*_AREAS, *_VIDEO)) if looks_like_video(source) else ("image", _AREAS)
        wishes = {name: value for name in names if (value := getattr(args, name)) is not None and value is not False}
        parts.append({"type": kind, kind: source, **wishes})
    return {"role": "user", "content": parts + [{"type": "text", "text": text} for text in texts]}


def system_turn(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [] if args.system is None else [{"role": "system", "content": args.system}]


def sampling_wishes(args: argparse.Namespace) -> dict[str, Any]:
    """What was typed about sampling, and nothing else."""
    wanted = {name: getattr(args, name) for name in _SAMPLING if getattr(args, name) is not None}
    if args.stop:
        wanted["stop"] = tuple(args.stop)
    return wanted


def sampling_params(args: argparse.Namespace, default: SamplingParams) -> SamplingParams:
    wanted = sampling_wishes(args)
    if wanted.get("temperature"):
        # Official checkpoints set top_k to 1, which would leave a temperature without any effect (facts, 1.3).
        wanted = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, **wanted}
    try:
        return replace(default, **wanted)
    except ValueError as error:
        raise UsageError(str(error)) from error
