"""Fine-tuning on a user's data: what is read, refused, packed and cut, and what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from reference import make_inputs

from clearsight.config import ConfigError
from clearsight.inputs import Grid
from clearsight.media import load
from clearsight.messages import Box, Image, Message, Ref, Text, ToolCall, Video
from clearsight.model.lora import merge
from clearsight.model.weights import random_model
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train import source
from clearsight.train.check import survey, usable_tokens
from clearsight.train.corpus import Collection, Corpus, PackedStream
from clearsight.train.errors import StateError, UnusableData
from clearsight.train.example import Example, encode_record, pack, truncate
from clearsight.train.loop import next_token_loss, run_stage
from clearsight.train.lora import LoraLinear, attach, attached
from clearsight.train.optim import set_trainable
from clearsight.train.records import read_record
from clearsight.train.show import show_tokens
from clearsight.train.source import Records
from clearsight.train.stage import Lora, Rates, Stage


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(Tokenizer.packaged("nano"), TINY, ImageSettings())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, and ten conversations about them in three forms."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(3)
    for number in range(4):
        Pillow.fromarray(noise.integers(0, 256, (56, 28 * (number + 2), 3), np.uint8)).save(folder / f"{number}.png")
    rows = [(f"{i % 4}.png", f"What is {'very ' * i}new?", f"answer {i}") for i in range(10)]
    openai = [{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": p}}, q]},
                            {"role": "assistant", "content": a}]} for p, q, a in rows]  # fmt: skip
    llava = [{"id": 1, "image": p, "conversations": [{"from": "human", "value": f"<image>\n{q}"},
                                                     {"from": "gpt", "value": a}]} for p, q, a in rows]  # fmt: skip
    factory = [{"images": [p], "messages": [{"role": "user", "content": f"<image>{q}"},
                                            {"role": "assistant", "content": a}]} for p, q, a in rows]  # fmt: skip
    (folder / "openai.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in openai))
    (folder / "llava.json").write_text(json.dumps(llava))
    (folder / "factory.json").write_text(json.dumps(factory))
    return folder


def corpus(*files: Path, **changes) -> Corpus:
    return Corpus(files=tuple(map(str, files)), **{"max_tokens": 200, "pack_tokens": 200, **changes})


# --- reading -----------------------------------------------------------------------------------------------


def test_the_three_forms_say_the_same(folder: Path) -> None:
    openai, llava, factory = (Records(str(folder / name)) for name in ("openai.jsonl", "llava.json", "factory.json"))
    assert len(openai) == len(llava) == len(factory) == 10
    for number in range(10):
        assert openai[number] == llava[number] == factory[number]
    assert openai[1].messages[0].parts == (Image(str(folder / "1.png")), Text("What is very new?"))
    assert (openai.place(1), llava.place(1)) == ("line 3", "item 2")


def test_a_dataset_on_disk_says_the_same(folder: Path, tmp_path: Path) -> None:
    import datasets

    rows = json.loads((folder / "llava.json").read_text())
    pictures = [{**row, "image": load(folder / row["image"])} for row in rows]
    splits = {"train": datasets.Dataset.from_list(rows), "other": datasets.Dataset.from_list(pictures)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    named = Records(str(tmp_path / "saved"), media_root=folder)
    assert named[3] == Records(str(folder / "llava.json"))[3]
    assert named.place(3) == "row 4"
    held = Records(str(tmp_path / "saved"), split="other")[3].messages[0].parts[0]
    assert np.array_equal(np.asarray(held.source), np.asarray(load(folder / "3.png")))
    with pytest.raises(ValueError, match="no split 'test'"):
        Records(str(tmp_path / "saved"), split="test")


def test_several_pictures_videos_boxes_and_calls_are_read() -> None:
    row = {
        "images": ["a.png", "b.png"],
        "videos": [["f1.png", "f2.png"]],
        "system": "Be brief.",
        "tools": json.dumps([{"name": "add", "parameters": {"type": "object"}}]),
        "conversations": [
            {"from": "human", "value": "First <image> then <video>and <image>?"},
            {"from": "gpt", "value": "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>!"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "<image> stays text"},
        ],
    }
    record = read_record(row, lambda name: f"/root/{name}")
    system, user, boxed, call, result, last = record.messages
    assert (system.role, result.role, record.tools[0].name) == ("system", "tool", "add")
    assert [type(part) for part in user.parts] == [Text, Image, Text, Video, Text, Image, Text]
    assert user.parts[1].source == "/root/a.png"
    assert boxed.parts == (Ref("cat"), Box(1, 2, 3, 4), Text("!"))
    assert call == Message("assistant", (ToolCall("add", '{"a": 1}'),))
    assert last.parts == (Text("<image> stays text"),)


# --- checking ----------------------------------------------------------------------------------------------


def test_every_problem_is_reported_with_its_line(folder: Path, processor: Processor, tmp_path: Path) -> None:
    good = (folder / "openai.jsonl").read_text().splitlines()[0].replace("0.png", str(folder / "0.png"))
    (tmp_path / "cut.png").write_bytes((folder / "0.png").read_bytes()[:200])
    llava = {"image": str(folder / "0.png"), "conversations": [{"from": "human", "value": "<image>"}]}
    answer = {"from": "gpt", "value": "x"}
    bad = {
        '{"messages": [': "not valid JSON",
        good.replace("0.png", "no.png"): "there is no such file",
        json.dumps({**llava, "conversations": [{"from": "human", "value": "?"}, answer]}): "1 pictures but has 0",
        json.dumps({**llava, "conversations": [{"from": "human", "value": "<image><image>"}, answer]}): "more <image>",
        json.dumps({**llava, "image": "cut.png", "conversations": [*llava["conversations"], answer]}): "be decoded",
        json.dumps(llava): "no assistant turn",
        json.dumps({"messages": [{"role": "user", "content": "hi " * 300}, {"role": "assistant", "content": "x"}]}): (
            "the limit is 200"
        ),
        json.dumps({"text": "x"}): "neither 'messages' nor 'conversations'",
        "[1]": "not list",
    }
    (tmp_path / "data.jsonl").write_text("\n".join([good, *bad]))
    wanted = corpus(tmp_path / "data.jsonl")
    found = survey(wanted, Collection(wanted), processor)
    assert len(found.problems) == len(bad)
    for number, (problem, message) in enumerate(zip(found.problems, bad.values(), strict=True), start=2):
        assert f"data.jsonl, line {number}: " in problem
        assert message in problem
    assert found.usable == 1
    with pytest.raises(UnusableData, match="9 of 10 samples"):
        usable_tokens(wanted, found)
    assert usable_tokens(corpus(tmp_path / "data.jsonl", skip_bad=True), found)[0] > 0


def test_a_line_too_long_to_be_read_is_refused_where_it_is_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"messages": []}\n\n' + b"0" * 64 + b"\n")
    monkeypatch.setattr(source, "_LONGEST_LINE", 64)
    with pytest.raises(ConfigError, match=r"long\.jsonl, line 3 is longer than 64 bytes"):
        Records(str(path))
    monkeypatch.setattr(source, "_LONGEST_LINE", 65)  # the end of a line counts
    assert [Records(str(path)).place(index) for index in range(2)] == ["line 1", "line 3"]


def test_the_counted_size_is_the_true_one(folder: Path, processor: Processor) -> None:
    for form in ("chat", "caption"):
        wanted = corpus(folder / "openai.jsonl", form=form)
        collection = Collection(wanted)
        for index, size in enumerate(survey(wanted, collection, processor).sizes):
            example = encode_record(collection[index], processor, form)
            assert (size.tokens, size.patches) == (example.tokens, example.patches)


def test_the_learned_part_is_shown(folder: Path, processor: Processor) -> None:
    example = encode_record(Records(str(folder / "openai.jsonl"))[2], processor, "chat")
    shown = show_tokens(example, processor.tokenizer)
    assert "[2 x 4 picture tokens]" in shown
    learned = shown[shown.index("«") + 1 : shown.index("»")]
    assert learned.replace("·", "") == "answer 2<|im_end|>⏎"


# --- packing and cutting -----------------------------------------------------------------------------------


def test_every_epoch_packs_every_sample_once(folder: Path, processor: Processor) -> None:
    wanted = corpus(folder / "openai.jsonl", folder / "llava.json")
    collection = Collection(wanted)
    tokens = usable_tokens(wanted, survey(wanted, collection, processor))
    stream = PackedStream(processor, wanted, collection, tokens, seed=1)
    seen, number, orders = [], 0, []
    for _ in range(3):
        epoch = []
        while len(epoch) < len(collection):
            epoch += stream.samples(number)
            assert stream[number].tokens <= wanted.pack_tokens
            number += 1
        orders.append(epoch)
        seen += epoch
    assert all(sorted(epoch) == list(range(20)) for epoch in orders)
    assert orders[0] != orders[1]
    again = PackedStream(processor, wanted, collection, tokens, seed=1)
    assert torch.equal(again[number - 1].inputs.ids, stream[number - 1].inputs.ids)


@given(limit=st.integers(1, 60))
def test_cutting_never_cuts_a_picture(limit: int) -> None:
    inputs = make_inputs(TINY, [5, Grid(1, 4, 4), 3, Grid(2, 4, 6), 6])
    cut = truncate(Example(inputs, torch.ones(inputs.ids.shape[0], dtype=torch.bool)), limit)
    length = cut.tokens
    assert length <= limit
    assert torch.equal(cut.inputs.ids, inputs.ids[:length])
    whole = sum(grid.tokens() for grid in (cut.inputs.vision.grids if cut.inputs.vision else ()))
    pads = (cut.inputs.ids == TINY.tokens.image_pad) | (cut.inputs.ids == TINY.tokens.video_pad)
    assert int(pads.sum()) == whole
    opened, closed = ((cut.inputs.ids == mark).sum() for mark in (TINY.tokens.vision_start, TINY.tokens.vision_end))
    assert opened == closed


def test_pictures_videos_and_text_share_a_pack(processor: Processor) -> None:
    texts = (Text("what?"), Text("that"))
    frames = Video(tuple(Pillow.new("RGB", (56, 56), (level, 0, 0)) for level in (0, 90, 180, 250)))
    picture = Image(Pillow.new("RGB", (56, 84), "red"))
    turns = [(texts[0],), (picture, texts[0]), (frames, texts[0]), (picture, picture, texts[0])]
    examples = []
    for parts in turns:
        prepared = processor.prepare(
            [Message("user", parts), Message("assistant", (texts[1],))], add_generation_prompt=False
        )
        examples.append(Example(prepared.inputs, prepared.supervised))
    model = random_model(TINY)
    with torch.no_grad():
        alone = sum(next_token_loss(model, example) for example in examples)
        torch.testing.assert_close(next_token_loss(model, pack(examples)), alone, rtol=1e-4, atol=1e-4)


# --- learning ----------------------------------------------------------------------------------------------


def test_only_the_wanted_parts_learn() -> None:
    model = random_model(TINY)
    set_trainable(model, stage(rates=Rates(vision=0.0, merger=1.0, language=0.0)))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(name.startswith("visual.merger.") for name in learning)
    for vision in (False, True):
        adapted = random_model(TINY)
        attach(adapted, Lora(rank=2, alpha=4, vision=vision))
        names = [name for name, module in adapted.named_modules() if isinstance(module, LoraLinear)]
        assert len(names) == 2 * 7 + 2 + (2 * 4 if vision else 0)
        assert any(name.startswith("visual.blocks") for name in names) == vision


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_frozen_weights_are_of_the_format_that_is_multiplied(precision: str, dtype: torch.dtype) -> None:
    """In bfloat16 on a processor that only emulates it, an adapter learned at a fifteenth of the speed."""
    model = random_model(TINY, dtype=torch.bfloat16)
    attach(model, Lora(rank=2, alpha=4))
    set_trainable(model, stage(lora=Lora(rank=2, alpha=4), precision=precision))
    found = {learns: {p.dtype for p in model.parameters() if p.requires_grad == learns} for learns in (True, False)}
    assert found == {True: {torch.float32}, False: {dtype}}


def stage(**changes) -> Stage:
    settings = {"name": "s", "mix": Corpus(files=("none",)), "steps": 4, "optimizer": "adamw", "lr": 1e-2, "warmup": 0}
    return Stage(**{**settings, "log_every": 1, **changes})


def test_an_adapter_learns_and_merged_computes_the_same(folder: Path, processor: Processor, tmp_path: Path) -> None:
    wanted = corpus(folder / "openai.jsonl")
    lora = Lora(rank=4, alpha=8, vision=True)
    trained = run_stage(random_model(TINY), processor, stage(mix=wanted, lora=lora, steps=12), tmp_path, workers=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.95 * losses[0]
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").rglob("events*"))
    merged = random_model(TINY)
    merge(merged, attached(trained, "tiny"))
    example = encode_record(Records(str(folder / "openai.jsonl"))[0], processor, "chat")
    with torch.no_grad():
        torch.testing.assert_close(merged(example.inputs), trained.eval()(example.inputs), rtol=1e-4, atol=1e-4)


def test_recomputed_activations_give_the_same_gradient(folder: Path, processor: Processor, tmp_path: Path) -> None:
    wanted = stage(mix=corpus(folder / "openai.jsonl"), steps=2, precision="float32", accumulate=2)
    whole = run_stage(random_model(TINY), processor, wanted, tmp_path / "a", workers=0)
    again = run_stage(random_model(TINY), processor, replace(wanted, recompute=True), tmp_path / "b", workers=0)
    for one, two in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_other_data_does_not_go_on_from_a_checkpoint(folder: Path, processor: Processor, tmp_path: Path) -> None:
    wanted = stage(mix=corpus(folder / "openai.jsonl"), steps=1)
    run_stage(random_model(TINY), processor, wanted, tmp_path, workers=0)
    other = stage(mix=corpus(folder / "llava.json"), steps=2)
    with pytest.raises(StateError, match="other data"):
        run_stage(random_model(TINY), processor, other, tmp_path, workers=0)
