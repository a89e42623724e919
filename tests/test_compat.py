"""The announcement's sample code runs as published, and gives what our own front door and the reference give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clearsight.compat import (
    AutoProcessor,
    AutoTokenizer,
    BatchFeature,
    Qwen2VLForConditionalGeneration,
    process_vision_info,
)
from clearsight.config import NANO
from clearsight.inputs import SamplingParams
from clearsight.vlm import VLM

Conversation = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Qwen2VLForConditionalGeneration:
    return Qwen2VLForConditionalGeneration.from_pretrained(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> AutoProcessor:
    return AutoProcessor.from_pretrained(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def vlm(tiny_checkpoint: Path) -> VLM:
    return VLM.load(str(tiny_checkpoint))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def user(*parts: Any) -> Conversation:
    return [{"role": "user", "content": list(parts)}]


def image(source: Any, **limits: int) -> dict[str, Any]:
    return {"type": "image", "image": source, **limits}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def prepare(processor: AutoProcessor, conversations: list[Conversation], **options: Any) -> BatchFeature:
    texts = processor.apply_chat_template(conversations, add_generation_prompt=True, **options)
    images, videos = process_vision_info(conversations)
    return processor(text=texts, images=images, videos=videos, padding=True, return_tensors="pt")


CONVERSATIONS = {
    "text": user(text("Hello there.")),
    "picture": user(image(noise(90, 70)), text("What is it?")),
    "pictures": user(image(noise(90, 70)), text(" or "), image(noise(200, 40, 1)), text("?")),
    "own limits": user(image(noise(300, 200), min_pixels=50_176, max_pixels=80_000), text("?")),
    "fixed size": user(image(noise(90, 70), resized_height=84, resized_width=140), text("?")),
    "video": user({"type": "video", "video": [noise(60, 60, i) for i in range(3)], "max_pixels": 8000}, text("?")),
    "mix": user(
        {"type": "video", "video": [noise(60, 60, i) for i in range(4)], "max_pixels": 8000},
        image(noise(90, 70)),
        {"type": "video", "video": [noise(60, 90, i) for i in range(2)], "max_pixels": 8000},
        image(noise(40, 70)),
        text("?"),
    ),
    "turns": [
        {"role": "system", "content": "Be brief."},
        *user(image(noise(90, 70)), text("What?")),
        {"role": "assistant", "content": "Noise."},
        *user(image(noise(70, 90)), text("And this?")),
    ],
}


def test_the_published_sample(tiny_checkpoint: Path, picture: Path) -> None:
    """As in the announcement, device map and flash attention included; only the name of the model is ours."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        str(tiny_checkpoint), torch_dtype="auto", device_map="auto", attn_implementation="flash_attention_2"
    )
    processor = AutoProcessor.from_pretrained(str(tiny_checkpoint))
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": f"file://{picture}"},
                {"type": "text", "text": "Describe this image."},
            ],
        }
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    image_inputs, video_inputs = process_vision_info(messages)
    inputs = processor(text=[text], images=image_inputs, videos=video_inputs, padding=True, return_tensors="pt")
    inputs = inputs.to(model.device)
    generated_ids = model.generate(**inputs, max_new_tokens=16)
    generated_ids_trimmed = [
        out_ids[len(in_ids) :] for in_ids, out_ids in zip(inputs.input_ids, generated_ids, strict=True)
    ]
    output_text = processor.batch_decode(
        generated_ids_trimmed, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert video_inputs is None
    assert len(generated_ids_trimmed[0]) <= 16
    expected = VLM.load(str(tiny_checkpoint)).chat(messages, SamplingParams(max_tokens=16, repetition_guard=False))
    assert output_text == [expected.text]


def test_cuda_in_a_sample_means_the_cpu_where_there_is_none(processor: AutoProcessor) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    inputs = prepare(processor, [CONVERSATIONS["picture"]])
    with pytest.warns(UserWarning, match="CUDA is not available"):
        moved = inputs.to("cuda")
    assert {value.device.type for value in moved.values()} == {"cpu"}
    assert set(moved) == {"input_ids", "attention_mask", "pixel_values", "image_grid_thw"}


@pytest.mark.parametrize("add_vision_id", [False, True])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_inputs_equal_those_of_our_own_processor(
    name: str, add_vision_id: bool, processor: AutoProcessor, model: Qwen2VLForConditionalGeneration, vlm: VLM
) -> None:
    conversation = CONVERSATIONS[name]
    inputs = prepare(processor, [conversation], add_vision_id=add_vision_id)
    ours = vlm.processor.prepare(conversation, add_vision_id=add_vision_id)
    assert inputs.input_ids[0].tolist() == ours.inputs.ids.tolist()
    assert inputs.attention_mask.all()
    grids = {"image": [], "video": []}
    for use in ours.media:
        grids[use.kind].append(list(use.grid))
    assert inputs.get("image_grid_thw", torch.tensor([])).tolist() == grids["image"]
    assert inputs.get("video_grid_thw", torch.tensor([])).tolist() == grids["video"]
    generated = model.generate(**inputs, max_new_tokens=6)
    params = SamplingParams(max_tokens=6, repetition_guard=False)
    expected = [event.token for event in vlm.engine.generate(ours.inputs, params)]
    assert generated[0, inputs.input_ids.shape[1] :].tolist() == expected


def test_a_batch_gives_what_each_conversation_gives_alone(
    processor: AutoProcessor, model: Qwen2VLForConditionalGeneration
) -> None:
    names = ["mix", "text", "pictures", "video"]
    batch = prepare(processor, [CONVERSATIONS[name] for name in names])
    generated = model.generate(**batch, max_new_tokens=5)
    assert generated.shape[0] == len(names)
    start = batch.input_ids.shape[1]
    for row, name in enumerate(names):
        alone = prepare(processor, [CONVERSATIONS[name]])
        length = alone.input_ids.shape[1]
        assert batch.attention_mask[row].tolist() == [0] * (start - length) + [1] * length
        assert batch.input_ids[row, start - length :].tolist() == alone.input_ids[0].tolist()
        expected = model.generate(**alone, max_new_tokens=5)[0, length:]
        assert generated[row, start : start + len(expected)].tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["text", "picture", "pictures", "video", "mix", "turns"])
def test_greedy_answers_equal_the_references(
    name: str, processor: AutoProcessor, model: Qwen2VLForConditionalGeneration, tiny_checkpoint: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.Qwen2VLForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    inputs = prepare(processor, [CONVERSATIONS[name]])
    tokens = model.config.tokens
    kinds = (inputs.input_ids == tokens.image_pad) + 2 * (inputs.input_ids == tokens.video_pad)
    forbidden = [[token] for token in tokens.never_generated]
    expected = reference.generate(
        **inputs,
        mm_token_type_ids=kinds.int(),
        max_new_tokens=24,
        do_sample=False,
        bad_words_ids=forbidden,
        pad_token_id=tokens.end_of_text,
    )
    assert model.generate(**inputs, max_new_tokens=24, do_sample=False).tolist() == expected.tolist()


def test_size_limits_of_the_processor(tiny_checkpoint: Path) -> None:
    small = AutoProcessor.from_pretrained(str(tiny_checkpoint), min_pixels=3136, max_pixels=6272)
    inputs = prepare(small, [user(image(noise(500, 500)))])
    assert inputs.pixel_values.shape[0] * 14 * 14 <= 6272
    assert inputs.pixel_values.shape == (int(inputs.image_grid_thw.prod()), 1176)


def test_text_becomes_special_tokens_here_and_back(tiny_checkpoint: Path, processor: AutoProcessor) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_checkpoint))
    words = "<|im_start|>user\nHi <|image_pad|><|im_end|>\n"
    ids = tokenizer.encode(words)
    assert ids[0] == NANO.tokens.im_start
    assert ids.count(NANO.tokens.image_pad) == 1
    assert tokenizer.decode(ids) == words
    assert processor.batch_decode([ids], skip_special_tokens=True) == ["user\nHi \n"]


def test_sampling_settings_reach_the_engine(
    processor: AutoProcessor, model: Qwen2VLForConditionalGeneration, vlm: VLM
) -> None:
    inputs = prepare(processor, [CONVERSATIONS["text"]])
    generated = model.generate(**inputs, max_new_tokens=8, do_sample=True, temperature=1.0, top_p=0.9, seed=4)
    params = SamplingParams(max_tokens=8, temperature=1.0, top_p=0.9, seed=4, repetition_guard=False)
    ours = vlm.processor.prepare(CONVERSATIONS["text"]).inputs
    expected = [event.token for event in vlm.engine.generate(ours, params)]
    assert generated[0, inputs.input_ids.shape[1] :].tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"text": "no place", "images": [noise(30, 30)]}, r"0 picture places .*; 1 were given"),
        ({"text": "<|image_pad|><|image_pad|>", "images": noise(30, 30)}, r"2 picture places .*; 1 were given"),
        ({"text": "<|video_pad|>"}, r"1 video places .*; 0 were given"),
        ({"text": ["one", "one and two"]}, "need padding=True"),
        ({"text": "a", "return_tensors": "np"}, "only 'pt' is supported"),
    ],
)
def test_what_does_not_fit_is_refused(processor: AutoProcessor, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        processor(**arguments)


def test_pads_that_do_not_fit_their_grids(processor: AutoProcessor, model: Qwen2VLForConditionalGeneration) -> None:
    inputs = prepare(processor, [CONVERSATIONS["picture"]])
    with pytest.raises(ValueError, match="go together"):
        model.generate(inputs.input_ids, pixel_values=inputs.pixel_values)
    with pytest.raises(ValueError, match="do not fit the grids"):
        model.generate(inputs.input_ids)
    with pytest.raises(TypeError, match="num_beams"):
        model.generate(**inputs, num_beams=4)
