"""The commands that run once: ask, count, info."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from clearsight.cli.drawing import check_drawing, draw_reply
from clearsight.cli.options import (
    DEFAULT_MODEL,
    KEY_VARIABLE,
    UsageError,
    sampling_params,
    sampling_wishes,
    system_turn,
    user_turn,
)
from clearsight.cli.output import FrameBar, note_nano, note_videos, show, show_end, show_json, show_tree, video_line

if TYPE_CHECKING:
    from clearsight.cli.remote import RemoteStream
    from clearsight.vlm import VLM, Reply, Stream


def ask(args: argparse.Namespace) -> int:
    if not args.inputs or not args.inputs[-1].strip():
        raise UsageError("the question is missing: clearsight ask FILE... QUESTION")
    *pictures, question = args.inputs
    if os.path.isfile(question):
        raise UsageError(f"the question is missing: the last argument {question!r} is a file")
    messages = [*system_turn(args), user_turn(args, pictures, [question])]
    # Boxes belong to pictures; what was given may be a video.
    drawable = [part["image"] for part in messages[-1]["content"] if part["type"] == "image"]
    if args.draw is not None:
        check_drawing(args.draw, drawable)
    check(args, messages)
    with open_answering(args) as answering:
        stream = answering.start(messages)
        if args.json:
            show_json({"model": answering.model, **_reply_data(stream.reply)})
        else:
            note_answering(args, answering)
            note_videos(stream)
            for piece in stream:
                show(piece)
            show_end(stream.reply)
    if args.draw is not None:
        draw_reply(args.draw, drawable, stream.reply)
    return 0


def count(args: argparse.Namespace) -> int:
    from clearsight.model.hub import short_name
    from clearsight.vlm import load_processor

    if not args.pictures and not args.text:
        raise UsageError("there is nothing to count: give a picture, a video or --text")
    processor = load_processor(short_name(args.model) or args.model)
    messages = [*system_turn(args), user_turn(args, args.pictures, args.text)]
    counted = processor.count(messages, add_vision_id=args.label_pictures)
    context = processor.config.text.max_positions
    if args.json:
        media = [use.data() for use in counted.media]
        show_json({"model": args.model, "tokens": counted.tokens, "context": context, "media": media})
        return 0
    for use in counted.media:
        if use.kind == "video":
            print(video_line(use))
            continue
        print(
            f"{use.name}: {_sides(use.original_size)} pixels, used at {_sides(use.size)},"
            f" grid {_sides(use.grid)}, {use.tokens} tokens"
        )
    print(f"prompt: {counted.tokens} tokens of {context}")
    return 0


def info(args: argparse.Namespace) -> int:
    from clearsight.config import read_json
    from clearsight.model.hub import LICENCES, resolve, short_name
    from clearsight.model.weights import empty_model
    from clearsight.vlm import load_processor

    short = short_name(args.model)
    processor = load_processor(short or args.model)
    model = empty_model(processor.config)
    parameters, vision = (sum(p.numel() for p in part.parameters()) for part in (model, model.visual))
    text, settings = processor.config.text, processor.image_settings
    data = {
        "model": args.model,
        "parameters": {"total": parameters, "vision": vision, "language": parameters - vision},
        "vision": {"layers": processor.config.vision.depth, "width": processor.config.vision.embed_dim},
        "language": {"layers": text.num_layers, "width": text.hidden_size},
        "vocabulary": {"used": processor.tokenizer.vocab_size, "rows": text.vocab_size},
        "context_tokens": text.max_positions,
        "picture_pixels": {"min": settings.min_pixels, "max": settings.max_pixels},
        "pixels_per_token": settings.factor**2,
        "weights_gigabytes": {"bfloat16": round(2e-9 * parameters, 3), "float32": round(4e-9 * parameters, 3)},
        "licence": LICENCES.get(short or "", "see the checkpoint's own page"),
    }
    if short == "nano" and (resolve("nano") / "card.json").is_file():
        data["card"] = read_json(resolve("nano") / "card.json")
    if args.json:
        show_json(data)
    else:
        show_tree(data)
    return 0


def check(args: argparse.Namespace, messages: Sequence[dict[str, Any]]) -> None:
    """Report a bad picture, video or setting before a model is fetched and loaded, which can take long."""
    from clearsight.inputs import SamplingParams
    from clearsight.media import DEFAULT_LIMITS, Sandbox, is_remote, open_video, read_header
    from clearsight.messages import Image, Video, parse_messages

    sandbox = Sandbox(DEFAULT_LIMITS, workers=1)
    sampling_params(args, SamplingParams())
    for message in parse_messages(messages):
        for part in message.parts:
            # A remote picture is fetched once, when it is used.
            if isinstance(part, Image) and not is_remote(part.source):
                read_header(part.source)
            elif isinstance(part, Video) and not is_remote(part.source):
                open_video(part.source, sandbox=sandbox)
    sandbox.close()


class Answering(NamedTuple):
    """What answers: a model loaded here, or a server's. start: an answer to these messages, read piece by piece."""

    model: str
    start: Callable[[Sequence[dict[str, Any]]], Stream | RemoteStream]


@contextlib.contextmanager
def open_answering(args: argparse.Namespace) -> Iterator[Answering]:
    """Load the model or greet the server that the arguments name."""
    vision_id = args.label_pictures
    if args.server is not None:
        no_adapter(args)
        from clearsight.cli.remote import RemoteModel

        wishes = sampling_wishes(args)
        with RemoteModel(args.server, args.key or os.environ.get(KEY_VARIABLE), args.model) as remote:
            yield Answering(remote.name, lambda messages: remote.stream(messages, wishes, add_vision_id=vision_id))
        return
    vlm = load_adapted(args)
    sampling = sampling_params(args, vlm.default_sampling)
    reading = FrameBar()
    options = {"add_vision_id": vision_id, "progress": reading.show, "adapter": args.adapter}
    yield Answering(vlm.name, lambda messages: vlm.stream(messages, sampling, **options))


def note_answering(args: argparse.Namespace, answering: Answering) -> None:
    """A server's nano may be another model than the one in the box."""
    if args.server is None:
        note_nano(answering.model)


def no_adapter(args: argparse.Namespace) -> None:
    """Raises UsageError if one is asked for beside a server."""
    if args.adapter is not None:
        raise UsageError("--adapter is for models loaded here; a server offers its adapters as models")


def load_adapted(args: argparse.Namespace) -> VLM:
    """The model that the arguments name, or the default one, with its adapter, if one is named, by that name."""
    args.model = args.model or DEFAULT_MODEL
    return load(args, adapters={} if args.adapter is None else {args.adapter: args.adapter})


def load(args: argparse.Namespace, **settings: Any) -> VLM:
    """The model that the arguments name; settings go to `VLM.load`."""
    import torch

    from clearsight.vlm import VLM

    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {args.device!r} cannot be used on this machine: {reason}") from error
    quantize = None if args.quantize == "none" else args.quantize
    return VLM.load(
        args.model,
        device=args.device,
        dtype=dtype,
        quantize=quantize,
        random_weights=args.random_weights,
        **settings,
    )


def _reply_data(reply: Reply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": {**asdict(reply.usage), "total_tokens": reply.usage.total_tokens},
        "media": [use.data() for use in reply.media],
        "annotations": [asdict(note) for note in reply.annotations],
    }


def _sides(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
