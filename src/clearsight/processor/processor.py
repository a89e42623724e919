"""Messages to model inputs: chat format, media plan, pixels and positions, in that order (facts, 7.1 and 6.2).

What a prompt costs is known from headers alone, so a prompt that is too long is refused before any pixel is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image as PillowImage
from torch import Tensor

from clearsight.config import NANO, PRESETS, ConfigError, ModelConfig, read_json
from clearsight.inputs import Grid, ModelInputs, VisionPatches
from clearsight.media import DEFAULT_LIMITS, Frames, MediaLimits, Picture, open_frames, open_picture
from clearsight.messages import Image, MessageLike, Part, Text, Tool, Video, parse_messages, parse_tools
from clearsight.processor.chat import EncodedChat, Span, chat_spans, document_spans, encode
from clearsight.processor.image import ImageSettings, image_patches, plan_image, plan_video, video_patches
from clearsight.processor.positions import mrope_positions
from clearsight.processor.tokenizer import Tokenizer
from clearsight.processor.tools import check_format

ToolLike = Tool | Mapping[str, Any]


class PromptTooLong(ValueError):
    """The prompt has more tokens than the model has positions."""


@dataclass(frozen=True, slots=True)
class MediaUse:
    """What became of one picture or video. Sizes are (width, height) in pixels; a video's are those of one frame.

    kind: "image" or "video". size: after the resize. frames: frames given, None for a picture.
    """

    kind: str
    name: str
    original_size: tuple[int, int]
    size: tuple[int, int]
    grid: Grid
    tokens: int
    frames: int | None


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
    """Everything between messages and the model. Holds no state between calls, so threads may share it."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ModelConfig,
        image_settings: ImageSettings,
        media_limits: MediaLimits = DEFAULT_LIMITS,
        decode: Callable[[Picture], PillowImage] = Picture.decode,
    ) -> None:
        """decode: makes pixels of an opened picture; a server hands in one that works in another process.

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
        self.decode = decode

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
    ) -> Prepared:
        """The whole conversation as one sequence, pixels included.

        add_vision_id: label media "Picture k: " and "Video k: ". add_generation_prompt: end where an assistant turn
        begins. tools: announced in the system turn. tool_format: "hermes" or "function" (facts, 8.5 and 8.6). Raises
        MessageError, PromptTooLong, or what `clearsight.media` raises for a source it refuses.
        """
        plan = self._plan(messages, add_vision_id, add_generation_prompt, tools, tool_format)
        tokens, limit = len(plan.chat.ids), self.config.text.max_positions
        # An answer needs room for at least one token.
        if tokens + add_generation_prompt > limit:
            raise PromptTooLong(f"the prompt has {tokens} tokens; the limit of prompt and answer is {limit}")
        patches = [self._patches(item, opened) for item, opened in plan.items]
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
        plan = self._plan_spans(document_spans(parts))
        plan.chat.supervised[0] = False
        patches = [self._patches(item, opened) for item, opened in plan.items]
        return self._inputs(plan.chat, patches), torch.tensor(plan.chat.supervised)

    def count_document(self, parts: Iterable[Part]) -> Count:
        """The tokens and media that `document_inputs` would use, read from headers."""
        plan = self._plan_spans(document_spans(parts))
        return Count(len(plan.chat.ids), plan.media)

    def _plan(
        self,
        messages: Iterable[MessageLike],
        add_vision_id: bool,
        add_generation_prompt: bool,
        tools: Iterable[ToolLike],
        tool_format: str,
    ) -> _Plan:
        spans = chat_spans(
            parse_messages(messages),
            add_vision_id=add_vision_id,
            add_generation_prompt=add_generation_prompt,
            tools=parse_tools(tools),
            tool_format=check_format(tool_format),
        )
        return self._plan_spans(spans)

    def _plan_spans(self, spans: Iterable[Span]) -> _Plan:
        items: list[tuple[Image | Video, Picture | Frames]] = []
        media: list[MediaUse] = []

        def grid_of(item: Image | Video) -> Grid:
            items.append((item, self._open(item)))
            media.append(self._media_use(*items[-1]))
            return media[-1].grid

        chat = encode(spans, self.tokenizer, grid_of, self.config.vision.merge_size)
        return _Plan(chat, tuple(items), tuple(media))

    def _open(self, item: Image | Video) -> Picture | Frames:
        if isinstance(item, Image):
            return open_picture(item.source, self.media_limits)
        return open_frames(item.frames, self.media_limits)

    def _media_use(self, item: Image | Video, opened: Picture | Frames) -> MediaUse:
        settings = self.image_settings
        if isinstance(opened, Picture):
            kind, frames, (name, width, height) = "image", None, opened.header
            grid = plan_image(height, width, item.limits, settings)
        else:
            kind, frames, (name, width, height) = "video", len(opened), opened.header()
            grid = plan_video(frames, height, width, item.limits, settings)
        return MediaUse(
            kind=kind,
            name=name,
            original_size=(width, height),
            size=(grid.w * settings.patch_size, grid.h * settings.patch_size),
            grid=grid,
            tokens=grid.tokens(settings.merge_size),
            frames=frames,
        )

    def _patches(self, item: Image | Video, opened: Picture | Frames) -> VisionPatches:
        if isinstance(opened, Picture):
            return image_patches(self.decode(opened), item.limits, self.image_settings)
        return video_patches(opened, item.limits, self.image_settings)

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


@dataclass(frozen=True, slots=True)
class _Plan:
    chat: EncodedChat
    items: tuple[tuple[Image | Video, Picture | Frames], ...]
    media: tuple[MediaUse, ...]


def _settings_json(folder: Path) -> dict[str, Any]:
    """Newer writers nest the picture settings in a file of all processors; where both exist, the old file is read."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if (folder / name).is_file():
            data = read_json(folder / name)
            settings: dict[str, Any] = data if key is None else data.get(key, {})
            return settings
    raise ConfigError(f"{folder} holds neither preprocessor_config.json nor processor_config.json")
