"""The public sample code of the model's announcement, unchanged but for its import lines (facts, 11.2 and 11.3).

    from clearsight.compat import AutoProcessor, AutoTokenizer, Qwen2VLForConditionalGeneration, process_vision_info

A thin skin over the processor and the engine. Its processor takes text in which special tokens are spelled out, so
this is the one place where text becomes special tokens: feed it only with messages of people whom you trust.

Shapes: B rows, T tokens of the longest prompt, P patches.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clearsight.inputs import Grid, ModelInputs, SamplingParams, VisionPatches
from clearsight.media import DEFAULT_LIMITS, load, open_video
from clearsight.messages import Image, Limits, MessageLike, Video, parse_messages
from clearsight.processor import Processor, Tokenizer
from clearsight.processor.chat import IMAGE_PAD, VIDEO_PAD, chat_spans, render
from clearsight.processor.image import ImageSettings
from clearsight.processor.patches import image_patches, video_patches
from clearsight.processor.positions import mrope_positions
from clearsight.processor.video import plan_frames
from clearsight.vlm import VLM, load_processor

_LIMITS_KEY = "clearsight_limits"


class Clip(list[Any]):
    """The frames of one video (PIL images) with the size limits that its message gave."""

    def __init__(self, frames: Iterable[Any], limits: Limits = Limits()) -> None:
        super().__init__(frames)
        self.limits = limits


def process_vision_info(conversations: Sequence[Any]) -> tuple[list[Any] | None, list[Clip] | None]:
    """Pictures (RGB PIL images) and videos of one conversation or of several, in order; None where there are none.

    Pictures are not resized here: a part's size limits travel along and the processor resizes once (facts, 13.4).
    """
    images: list[Any] = []
    videos: list[Clip] = []
    for conversation in _conversations(conversations):
        for part in (part for message in parse_messages(conversation) for part in message.parts):
            if isinstance(part, Image):
                image = load(part.source)
                image.info[_LIMITS_KEY] = part.limits
                images.append(image)
            elif isinstance(part, Video):
                videos.append(_clip(part))
    return images or None, videos or None


def _clip(part: Video) -> Clip:
    """A list of frames as it is; of a video file the frames and the size that the published rules choose."""
    opened = open_video(part.source)
    settings = ImageSettings()
    plan = plan_frames(opened.header, part, settings, DEFAULT_LIMITS.max_frames)
    if opened.header.fps is None:
        return Clip(opened.frames(plan.indices), part.limits)
    height, width = plan.grid.h * settings.patch_size, plan.grid.w * settings.patch_size
    return Clip(opened.frames(plan.indices, (height, width)), Limits(resized_height=height, resized_width=width))


def _conversations(value: Sequence[Any]) -> Sequence[Any]:
    return value if value and isinstance(value[0], (list, tuple)) else [value]


class BatchFeature(dict[str, Any]):
    """Tensors by name, as keys and as attributes: input_ids and attention_mask (B, T), pixel_values (P, patch_dim),
    image_grid_thw (pictures, 3), pixel_values_videos and video_grid_thw."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def to(self, device: str | torch.device) -> BatchFeature:
        """On another device. Where there is no CUDA, "cuda" warns and means the CPU: published samples ask for it."""
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            warnings.warn("CUDA is not available on this machine; the inputs stay on the CPU", stacklevel=2)
            device = "cpu"
        return BatchFeature({name: value.to(device) for name, value in self.items()})


class AutoTokenizer:
    """Text to ids and back, special tokens included."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = re.compile("(" + "|".join(map(re.escape, tokenizer.special_ids)) + ")")
        self.pad_token_id = tokenizer.special.end_of_text
        self.eos_token_id = tokenizer.special.im_end

    @classmethod
    def from_pretrained(cls, name: str) -> AutoTokenizer:
        """Of a short name, hub name or folder. Raises ModelNotFound or TokenizerError."""
        return cls(load_processor(name).tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; special tokens spelled in it become what they name."""
        ids: list[int] = []
        for piece in self._special.split(text):
            special = self._tokenizer.special_ids.get(piece)
            ids += self._tokenizer.encode(piece) if special is None else [special]
        return ids

    def decode(
        self,
        ids: Tensor | Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = False,
    ) -> str:
        """Text of one row of ids."""
        if clean_up_tokenization_spaces:
            raise ValueError("clean_up_tokenization_spaces=True is not supported; the text is returned as it is")
        return self._tokenizer.decode(map(int, ids), skip_special=skip_special_tokens)

    def batch_decode(self, rows: Tensor | Sequence[Any], **options: Any) -> list[str]:
        """`decode` of each row."""
        return [self.decode(row, **options) for row in rows]


class AutoProcessor:
    """Messages to text, and text with pictures and videos to padded tensors."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self.tokenizer = AutoTokenizer(processor.tokenizer)
        self.decode = self.tokenizer.decode
        self.batch_decode = self.tokenizer.batch_decode

    @classmethod
    def from_pretrained(
        cls, name: str, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> AutoProcessor:
        """Of a short name, hub name or folder; areas in pixels stand in for the checkpoint's own.

        Raises ModelNotFound, ConfigError or TokenizerError.
        """
        processor = load_processor(name)
        settings = processor.image_settings
        settings = replace(
            settings,
            min_pixels=settings.min_pixels if min_pixels is None else min_pixels,
            max_pixels=settings.max_pixels if max_pixels is None else max_pixels,
        )
        return cls(Processor(processor.tokenizer, processor.config, settings, processor.media_limits))

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        add_vision_id: bool = False,
    ) -> Any:
        """The prompt text of one conversation, or a list of texts for several. Only tokenize=False is supported."""
        if tokenize:
            raise ValueError("tokenize=True is not supported; give the returned text to the processor")
        if conversation and isinstance(conversation[0], (list, tuple)):
            return [self._render(each, add_generation_prompt, add_vision_id) for each in conversation]
        return self._render(conversation, add_generation_prompt, add_vision_id)

    def __call__(
        self,
        text: str | Sequence[str],
        images: Any = None,
        videos: Any = None,
        padding: bool = False,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Tensors of a batch, prompts padded on the left (facts, 13.24); pads take pictures and videos in order.

        Raises ValueError if the pads and the media do not match in number, or prompts differ in length unpadded.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors is {return_tensors!r}; only 'pt' is supported")
        settings = self._processor.image_settings
        pictures = [image_patches(load(item), _limits_of(item), settings) for item in _as_list(images)]
        clips = [video_patches(list(map(load, item)), _limits_of(item), settings) for item in _as_list(videos)]
        rows = self._expand([text] if isinstance(text, str) else text, pictures, clips)
        features = {**_padded(rows, self.tokenizer.pad_token_id, padding)}
        features |= _stacked(pictures, "pixel_values", "image_grid_thw")
        features |= _stacked(clips, "pixel_values_videos", "video_grid_thw")
        return BatchFeature(features)

    def _render(self, messages: Sequence[MessageLike], add_generation_prompt: bool, add_vision_id: bool) -> str:
        parsed = parse_messages(messages)
        return render(chat_spans(parsed, add_vision_id=add_vision_id, add_generation_prompt=add_generation_prompt))

    def _expand(
        self, texts: Sequence[str], pictures: Sequence[VisionPatches], clips: Sequence[VisionPatches]
    ) -> list[list[int]]:
        """Ids of each text, each pad repeated for the tokens of the next picture or video."""
        special, merge = self._processor.tokenizer.special_ids, self._processor.config.vision.merge_size
        rows = [self.tokenizer.encode(text) for text in texts]
        for name, kind, media in ((IMAGE_PAD, "picture", pictures), (VIDEO_PAD, "video", clips)):
            pad, found = special[name], sum(row.count(special[name]) for row in rows)
            if found != len(media):
                raise ValueError(f"the text has {found} {kind} places ({name}); {len(media)} were given")
            tokens = (item.grids[0].tokens(merge) for item in media)
            rows = [[token for t in row for token in ([t] * next(tokens) if t == pad else [t])] for row in rows]
        return rows


def _limits_of(item: Any) -> Limits:
    limits = item.limits if isinstance(item, Clip) else getattr(item, "info", {}).get(_LIMITS_KEY)
    return limits or Limits()


def _as_list(media: Any) -> Sequence[Any]:
    if media is None:
        return []
    return media if isinstance(media, (list, tuple)) else [media]


def _padded(rows: Sequence[Sequence[int]], pad: int, padding: bool) -> dict[str, Tensor]:
    longest = max(map(len, rows), default=0)
    if not padding and any(len(row) != longest for row in rows):
        raise ValueError("prompts of different lengths need padding=True")
    gaps = [longest - len(row) for row in rows]
    ids = [[pad] * gap + list(row) for gap, row in zip(gaps, rows, strict=True)]
    mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _stacked(media: Sequence[VisionPatches], pixels: str, grids: str) -> dict[str, Tensor]:
    if not media:
        return {}
    joined = VisionPatches.concatenate(media)
    return {pixels: joined.pixels, grids: torch.tensor(joined.grids)}


class Qwen2VLForConditionalGeneration:
    """A loaded model with the reference library's `generate`."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm
        self.config = vlm.config
        self.device = vlm.engine.model.device
        self.dtype = vlm.engine.model.dtype

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        torch_dtype: str | torch.dtype | None = None,
        dtype: str | torch.dtype | None = None,
        device_map: str | torch.device | None = None,
        attn_implementation: str | None = None,
    ) -> Qwen2VLForConditionalGeneration:
        """Of a short name, hub name or folder.

        torch_dtype, or its newer name dtype: "auto" or None keeps the stored one. device_map: "auto" is CUDA where
        there is one. attn_implementation changes no result and is taken for compatibility alone: one attention
        serves all. Raises ModelNotFound, ConfigError or WeightsError.
        """
        wanted = torch_dtype if dtype is None else dtype
        device = device_map or "cpu"
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(VLM.load(name, device=device, dtype=_dtype(wanted)))

    def eval(self) -> Qwen2VLForConditionalGeneration:
        """Nothing to switch: the model only answers."""
        return self

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        *,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Ids (B, T + new): each prompt with its answer, end token included, padded on the right.

        sampling: any field of SamplingParams (temperature, top_p, ...); the rest is as the checkpoint says.
        """
        params = self._params(max_new_tokens, do_sample, sampling)
        pictures = _Media(self.config.tokens.image_pad, pixel_values, image_grid_thw)
        clips = _Media(self.config.tokens.video_pad, pixel_values_videos, video_grid_thw)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        answers = []
        for row, kept in zip(input_ids, mask.bool(), strict=True):
            inputs = self._inputs(row[kept].cpu(), pictures, clips)
            answers.append([event.token for event in self._vlm.engine.generate(inputs, params)])
        longest = max(map(len, answers), default=0)
        pad = self.config.tokens.end_of_text
        tail = torch.tensor([answer + [pad] * (longest - len(answer)) for answer in answers], dtype=input_ids.dtype)
        return torch.cat([input_ids, tail.to(input_ids.device)], dim=1)

    def _params(self, max_new_tokens: int | None, do_sample: bool | None, sampling: dict[str, Any]) -> SamplingParams:
        if max_new_tokens is not None:
            sampling["max_tokens"] = max_new_tokens
        if do_sample is False:
            sampling |= {"temperature": 0.0}
        # The reference has no such guard, and the answer's length is what these callers count on.
        return replace(self._vlm.default_sampling, **{"repetition_guard": False, **sampling})

    def _inputs(self, ids: Tensor, pictures: _Media, clips: _Media) -> ModelInputs:
        """One prompt as the engine takes it: its runs of pads claim the next pictures and videos, in reading order."""
        merge = self.config.vision.merge_size
        runs: list[tuple[int, Grid]] = []
        patches: list[VisionPatches] = []
        index, tokens = 0, ids.tolist()
        while index < len(tokens):
            media = next((media for media in (pictures, clips) if media.pad == tokens[index]), None)
            if media is None:
                index += 1
                continue
            item = next(media.items, None)
            length = item.grids[0].tokens(merge) if item else 0
            if item is None or tokens[index : index + length] != [media.pad] * length:
                raise ValueError(f"the vision pads from token {index} do not fit the grids that were given")
            runs.append((index, item.grids[0]))
            patches.append(item)
            index += length
        return ModelInputs(
            ids=ids,
            positions=mrope_positions(len(tokens), runs, merge),
            lengths=(len(tokens),),
            vision=VisionPatches.concatenate(patches) if patches else None,
            vision_starts=tuple(start for start, _ in runs),
        )


class _Media:
    """Pictures, or videos, of a batch, taken one after another."""

    def __init__(self, pad: int, pixels: Tensor | None, grids: Tensor | None) -> None:
        if (pixels is None) != (grids is None):
            raise ValueError("pixel values and their grids go together; only one was given")
        self.pad = pad
        self.items = iter(()) if pixels is None or grids is None else _split(pixels, grids)


def _split(pixels: Tensor, grids: Tensor) -> Iterator[VisionPatches]:
    start = 0
    for grid in (Grid(*row) for row in grids.tolist()):
        yield VisionPatches(pixels[start : start + grid.patches], (grid,))
        start += grid.patches


def _dtype(wanted: str | torch.dtype | None) -> torch.dtype | None:
    if wanted is None or wanted == "auto":
        return None
    found = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch_dtype is {wanted!r}; it must be a dtype, its name or 'auto'")
    return found
