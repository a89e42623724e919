"""Messages to model inputs: chat format, media plan, pixels and positions, in that order (facts, 7.1 and 6.2).

What a prompt costs is known from headers alone, so a prompt that is too long is refused before any pixel is decoded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image as Pillow
from torch import Tensor

from clearsight.config import NANO, PRESETS, ConfigError, ModelConfig, read_json
from clearsight.inputs import Grid, ModelInputs, VisionPatches
from clearsight.media import DEFAULT_LIMITS, MediaLimits, Picture, Sandbox, open_picture, open_video
from clearsight.messages import Image, MessageLike, Part, Text, Tool, Video, parse_messages, parse_tools
from clearsight.processor.chat import EncodedChat, Span, chat_spans, document_spans, encode
from clearsight.processor.clips import ClipReader, Progress
from clearsight.processor.image import ImageSettings, plan_image
from clearsight.processor.patches import clip_patches, image_patches
from clearsight.processor.positions import mrope_positions
from clearsight.processor.tokenizer import Tokenizer
from clearsight.processor.tools import check_format
from clearsight.processor.video import FramePlan, fit_plans, plan_frames

T = TypeVar("T")
R = TypeVar("R")
ToolLike = Tool | Mapping[str, Any]

_ANSWER_SHARE = 16  # a video leaves this part of the context to the answer


class PromptTooLong(ValueError):
    """The prompt has more tokens than the model has positions."""


@dataclass(frozen=True, slots=True)
class MediaUse:
    """What became of one picture or video. Sizes are (width, height) in pixels; a video's are those of one frame.

    kind: "image" or "video". size: after the resize. The rest is of videos alone: frames looked at, the times in
    seconds at which they are shown, where known, the whole duration, and what was given up to fit the context, or "".
    """

    kind: str
    name: str
    original_size: tuple[int, int]
    size: tuple[int, int]
    grid: Grid
    tokens: int
    frames: int | None
    times: tuple[float, ...] | None = None
    duration: float | None = None
    note: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        found = asdict(self)
        return found if self.kind == "video" else {key: found[key] for key in found if key not in _OF_VIDEOS}


_OF_VIDEOS = ("times", "duration", "note")


@dataclass(frozen=True, slots=True)
class Prepared:
    """inputs: one sequence. supervised: (T,) bool, the tokens an assistant wrote (facts, 7.2)."""

    inputs: ModelInputs
    media: tuple[MediaUse, ...]
    supervised: Tensor


@dataclass(frozen=True, slots=True)
class Count:
    tokens: int
    media: tuple[MediaUse, ...]


class Processor:
    """Everything between messages and the model; threads may share it. Videos read lately are kept (clips.py).

    context: tokens that prompt and answer may have together; videos are planned to fit.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ModelConfig,
        image_settings: ImageSettings,
        media_limits: MediaLimits = DEFAULT_LIMITS,
        sandbox: Sandbox | None = None,
        guard_pictures: bool = False,
    ) -> None:
        """sandbox: where videos are decoded; guard_pictures: pictures too, as a server must.

        Raises ConfigError if the picture settings or the tokenizer belong to another model than `config`."""
        for name in ("patch_size", "temporal_patch_size", "merge_size"):
            ours, models = getattr(image_settings, name), getattr(config.vision, name)
            if ours != models:
                raise ConfigError(f"the picture settings have {name} {ours}; the model has {models}")
        if tokenizer.special != config.tokens:
            raise ConfigError("the tokenizer and the model disagree on the ids of the special tokens")
        self.tokenizer = tokenizer
        self.config = config
        self.image_settings = image_settings
        self.media_limits = media_limits
        self.context = config.text.max_positions
        self.sandbox = sandbox or Sandbox(media_limits)
        self.guard_pictures = guard_pictures
        self.clips = ClipReader()

    @classmethod
    def from_folder(
        cls, folder: str | Path, config: ModelConfig, media_limits: MediaLimits = DEFAULT_LIMITS
    ) -> Processor:
        """From the tokenizer and picture settings of a checkpoint folder (facts, 1.2 and 1.4).

        Raises TokenizerError or ConfigError for what is missing, unknown or does not fit.
        """
        settings = ImageSettings.from_json(_settings_json(Path(folder)))
        return cls(Tokenizer.from_folder(folder, config.tokens), config, settings, media_limits)

    @classmethod
    def packaged(cls, name: str, media_limits: MediaLimits = DEFAULT_LIMITS) -> Processor:
        """For a preset of `clearsight.config`, from the package's own data: nothing to download.

        Raises KeyError for a name that is no preset.
        """
        config = PRESETS[name]
        family = "nano" if config.tokens == NANO.tokens else "qwen2"
        file = resources.files("clearsight") / "data" / family / "preprocessor_config.json"
        settings = ImageSettings.from_json(read_json(Path(str(file))))
        return cls(Tokenizer.packaged(family), config, settings, media_limits)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `preprocessor_config.json`; `from_folder` reads them back."""
        self.tokenizer.save(folder)
        text = json.dumps(self.image_settings.to_json(), indent=2)
        (Path(folder) / "preprocessor_config.json").write_text(text + "\n", encoding="utf-8")

    def prepare(
        self,
        messages: Iterable[MessageLike],
        *,
        add_vision_id: bool = False,
        add_generation_prompt: bool = True,
        tools: Iterable[ToolLike] = (),
        tool_format: str = "hermes",
        salt: bytes = b"",
        progress: Progress | None = None,
    ) -> Prepared:
        """The whole conversation as one sequence, pixels included.

        add_vision_id: label media "Picture k: " and "Video k: ". add_generation_prompt: end where an assistant turn
        begins. tools: announced in the system turn. tool_format: "hermes" or "function" (facts, 8.5 and 8.6). salt:
        frames of videos are kept for those alone who give the same. progress: told of a video's name, frames read and
        frames wanted. Raises MessageError, PromptTooLong, or what `clearsight.media` raises for a source it refuses.
        """
        plan = self._plan(messages, add_vision_id, add_generation_prompt, tools, tool_format)
        tokens, limit = len(plan.chat.ids), self.config.text.max_positions
        # An answer needs room for at least one token.
        if tokens + add_generation_prompt > limit:
            raise PromptTooLong(f"the prompt has {tokens} tokens; the limit of prompt and answer is {limit}")
        patches = _side_by_side(lambda medium: self._patches(medium, salt, progress), plan.media_plans)
        return Prepared(self._inputs(plan.chat, patches), plan.media, torch.tensor(plan.chat.supervised))

    def count(
        self,
        messages: Iterable[MessageLike],
        *,
        add_vision_id: bool = False,
        add_generation_prompt: bool = True,
        tools: Iterable[ToolLike] = (),
        tool_format: str = "hermes",
    ) -> Count:
        """The tokens and media that `prepare` would use, read from headers: no pixel is decoded, no limit applies."""
        plan = self._plan(messages, add_vision_id, add_generation_prompt, tools, tool_format)
        return Count(len(plan.chat.ids), plan.media)

    def prepare_text(self, text: str) -> Prepared:
        """Plain text without chat format or pictures, to be continued. Raises PromptTooLong."""
        ids = self.tokenizer.encode(text) or [self.config.tokens.end_of_text]
        if len(ids) >= self.config.text.max_positions:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens; the limit of prompt and answer is {self.config.text.max_positions}"
            )
        return Prepared(self._inputs(EncodedChat(ids, [False] * len(ids), []), []), (), torch.zeros(len(ids)).bool())

    def caption_inputs(self, picture: Any, text: str) -> tuple[ModelInputs, Tensor]:
        """A picture-text pair without chat format, and its (T,) bool mask of supervised tokens (facts, 7.2).

        picture: any image source (see `Image`). The text and the end of text are supervised.
        """
        return self.document_inputs([Image(picture), Text(text)])

    def document_inputs(self, parts: Iterable[Part]) -> tuple[ModelInputs, Tensor]:
        """Texts and media as they follow each other, without chat format, and the (T,) bool mask of supervised tokens.

        All text and the end of text are supervised, but for the first token: nothing comes before it.
        """
        plan = self._plan_spans(document_spans(parts), answer=False)
        plan.chat.supervised[0] = False
        patches = [self._patches(medium, b"", None) for medium in plan.media_plans]
        return self._inputs(plan.chat, patches), torch.tensor(plan.chat.supervised)

    def count_document(self, parts: Iterable[Part]) -> Count:
        """The tokens and media that `document_inputs` would use, read from headers."""
        plan = self._plan_spans(document_spans(parts), answer=False)
        return Count(len(plan.chat.ids), plan.media)

    def _plan(
        self,
        messages: Iterable[MessageLike],
        add_vision_id: bool,
        add_generation_prompt: bool,
        tools: Iterable[ToolLike],
        tool_format: str,
    ) -> _Plan:
        turns = chat_spans(
            parse_messages(messages),
            add_vision_id=add_vision_id,
            add_generation_prompt=add_generation_prompt,
            tools=parse_tools(tools),
            tool_format=check_format(tool_format),
        )
        return self._plan_spans(turns, add_generation_prompt)

    def _plan_spans(self, content: Iterable[Span], answer: bool) -> _Plan:
        """answer: whether one is to follow, which needs room beside videos."""
        spans = list(content)
        media = [self._planned(item) for item, _ in spans if isinstance(item, (Image, Video))]
        if any(medium.plan for medium in media):
            self._fit(media, spans, answer)
        grids = iter(medium.grid for medium in media)
        chat = encode(spans, self.tokenizer, lambda _: next(grids), self.config.vision.merge_size)
        return _Plan(chat, media, tuple(map(self._use, media)))

    def _planned(self, item: Image | Video) -> _Medium:
        """A medium opened, its size chosen as if it were alone."""
        if isinstance(item, Image):
            picture = open_picture(item.source, self.media_limits)
            grid = plan_image(picture.header.height, picture.header.width, item.limits, self.image_settings)
            return _Medium(item, picture, grid)
        clip = open_video(item.source, self.media_limits, self.sandbox, self.guard_pictures)
        plan = plan_frames(clip.header, item, self.image_settings, self.media_limits.max_frames)
        return _Medium(item, clip, plan.grid, plan)

    def _fit(self, media: Sequence[_Medium], spans: Iterable[Span], answer: bool) -> None:
        """Make the videos fit beside all else, with room for an answer."""
        grids = iter(Grid(0, 0, 0) if medium.plan else medium.grid for medium in media)
        fixed = len(encode(spans, self.tokenizer, lambda _: next(grids), self.config.vision.merge_size).ids)
        room = self.context - fixed - (self.context // _ANSWER_SHARE if answer else 0)
        clips = [(medium, medium.plan) for medium in media if medium.plan]
        wishes = [(plan, medium.opened.header, medium.item) for medium, plan in clips]
        plans = fit_plans(wishes, self.image_settings, self.context, room)
        for (medium, _), plan in zip(clips, plans, strict=True):
            medium.plan, medium.grid = plan, plan.grid

    def _use(self, medium: _Medium) -> MediaUse:
        settings, grid, plan = self.image_settings, medium.grid, medium.plan
        name, width, height = medium.opened.header[:3]
        common = MediaUse(
            kind="image" if plan is None else "video",
            name=name,
            original_size=(width, height),
            size=(grid.w * settings.patch_size, grid.h * settings.patch_size),
            grid=grid,
            tokens=grid.tokens(settings.merge_size),
            frames=None,
        )
        if plan is None:
            return common
        fps, duration = medium.opened.header.fps, medium.opened.header.duration
        times = None if fps is None else tuple(round(index / fps, 3) for index in plan.indices)
        length = None if duration is None else round(duration, 3)
        return replace(common, frames=len(plan.indices), times=times, duration=length, note=plan.note)

    def _patches(self, medium: _Medium, salt: bytes, progress: Progress | None) -> VisionPatches:
        if medium.plan is not None:
            size = (medium.grid.h * self.image_settings.patch_size, medium.grid.w * self.image_settings.patch_size)
            frames = self.clips.frames(medium.opened, medium.plan.indices, size, salt, progress)
            return clip_patches(frames, medium.grid, self.image_settings)
        return image_patches(self.decode(medium.opened), medium.item.limits, self.image_settings)

    def decode(self, picture: Picture) -> Pillow.Image:
        """RGB pixels of an opened picture, in a process of its own where pictures are guarded. Raises MediaError."""
        return self.sandbox.decode(picture) if self.guard_pictures else picture.decode()

    def _inputs(self, chat: EncodedChat, patches: Sequence[VisionPatches]) -> ModelInputs:
        vision = VisionPatches.concatenate(patches) if patches else None
        assert (vision.grids if vision else ()) == tuple(grid for _, grid in chat.runs)
        return ModelInputs(
            ids=torch.tensor(chat.ids),
            positions=mrope_positions(len(chat.ids), chat.runs, self.config.vision.merge_size),
            lengths=(len(chat.ids),),
            vision=vision,
            vision_starts=tuple(start for start, _ in chat.runs),
        )


def _side_by_side(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` on each item, in their order, as many at once as there are processors: decoders and resizers are C."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))


@dataclass(slots=True)
class _Medium:
    """A picture or video on its way; plan: of a video alone."""

    item: Any
    opened: Any
    grid: Grid
    plan: FramePlan | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    chat: EncodedChat
    media_plans: Sequence[_Medium]
    media: tuple[MediaUse, ...]


def _settings_json(folder: Path) -> dict[str, Any]:
    """Newer writers nest the picture settings in a file of all processors; where both exist, the old file is read."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if (folder / name).is_file():
            data = read_json(folder / name)
            settings: dict[str, Any] = data if key is None else data.get(key, {})
            return settings
    raise ConfigError(f"{folder} holds neither preprocessor_config.json nor processor_config.json")
