"""Other runtimes are measured on our weights and tokens: their files hold all of both, and their answers are ours."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import TINY

from clearsight.bench.cases import Case, make_inputs
from clearsight.bench.runtimes import KINDS
from clearsight.bench.runtimes.gguf_files import spelled, weight_bytes, write_text, write_vision
from clearsight.bench.runtimes.llama_cpp import LlamaCpp, encoding_seconds, picture, read_reply
from clearsight.bench.runtimes.llama_cpp import convert as convert_llama
from clearsight.cli import main
from clearsight.engine import Engine, EngineSettings, Request
from clearsight.inputs import ModelInputs, SamplingParams
from clearsight.model.hub import read_config, resolve
from clearsight.model.weights import load_model, random_model, read_tensors, save_model
from clearsight.processor.image import ImageSettings
from clearsight.processor.patches import pair_patches

CASE = Case(size=(112, 56), text=12, answer=8, seed=1)
TIED = replace(TINY, text=replace(TINY.text, tie_word_embeddings=True))


def needed(name):
    missing = KINDS[name].missing()
    return pytest.mark.skipif(bool(missing), reason=f"{name} is not measured without {' and '.join(missing)}")


# --- files -------------------------------------------------------------------------------------------------


@pytest.fixture(params=[TINY, TIED], ids=["a head of its own", "a tied head"])
def checkpoint(request, tmp_path):
    save_model(random_model(request.param, dtype=torch.bfloat16), tmp_path)
    return tmp_path


def tensors(path):
    """Name: numbers, in the order of the checkpoint's shapes."""
    gguf = pytest.importorskip("gguf", reason="reading GGUF files back needs the package gguf")
    found = gguf.GGUFReader(path).tensors
    read = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist()) for t in found}
    assert len(read) == len(found)
    return read


def parts(name, tensor):
    """What becomes of a checkpoint's tensor by the published names that gguf's own table has."""
    if ".attn.qkv." in name:
        return [(name.replace(".qkv.", f".{q}."), part) for q, part in zip("qkv", tensor.chunk(3), strict=True)]
    if name == "visual.patch_embed.proj.weight":
        return [(name, tensor[:, :, 0]), (f"{name}.1", tensor[:, :, 1])]
    return [(name, tensor)]


def test_gguf_files_hold_every_tensor_of_the_checkpoint_under_its_own_names(checkpoint, tmp_path):
    gguf = pytest.importorskip("gguf", reason="writing GGUF files needs the package gguf")
    write_text(checkpoint, tmp_path / "text.gguf", "F32")
    write_vision(checkpoint, tmp_path / "vision.gguf", "F32")
    found = {"QWEN2VL": tensors(tmp_path / "text.gguf"), "MMPROJ": tensors(tmp_path / "vision.gguf")}
    for stored, whole in read_tensors(checkpoint):
        kind = "MMPROJ" if stored.startswith("visual.") else "QWEN2VL"
        table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind], 9)  # its mergers' layers count as blocks
        for name, part in parts(stored, whole):
            here = table.get_name(name.removesuffix(".1"), try_suffixes=(".weight", ".bias"))
            assert here is not None, name
            number = found[kind].pop(here + (".1" if name.endswith(".1") else ""))
            np.testing.assert_array_equal(number, part.float().numpy(), err_msg=name)
    assert found == {"QWEN2VL": {}, "MMPROJ": {}}


def test_gguf_files_say_the_models_shape(checkpoint, tmp_path):
    gguf = pytest.importorskip("gguf", reason="writing GGUF files needs the package gguf")
    write_text(checkpoint, tmp_path / "text.gguf", "F32")
    write_vision(checkpoint, tmp_path / "vision.gguf", "F32")
    text, vision = (
        {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / f"{file}.gguf").fields.items()}
        for file in ("text", "vision")
    )
    shape = {
        "block_count": 2,
        "context_length": 32_768,
        "embedding_length": 32,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "rope.dimension_sections": [1, 1, 2, 0],
        "rope.freq_base": 1e6,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
    }
    assert {name: text[f"qwen2vl.{name}"] for name in shape} == shape
    assert text["general.architecture"] == "qwen2vl"
    shape = {
        "block_count": 2,
        "embedding_length": 32,
        "feed_forward_length": 128,
        "projection_dim": 32,
        "attention.head_count": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "attention.layer_norm_epsilon": pytest.approx(1e-6),
        "image_mean": pytest.approx(list(ImageSettings().mean)),
        "image_std": pytest.approx(list(ImageSettings().std)),
    }
    assert {name: vision[f"clip.vision.{name}"] for name in shape} == shape
    assert vision["clip.projector_type"] == "qwen2vl_merger"
    assert vision["clip.has_vision_encoder"] is True


def test_four_bits_stay_near_and_their_bytes_are_counted(checkpoint, tmp_path):
    pytest.importorskip("gguf", reason="writing GGUF files needs the package gguf")
    for kind in ("F32", "Q4_0"):
        write_text(checkpoint, tmp_path / f"{kind}.gguf", kind)
    exact, near = (tensors(tmp_path / f"{kind}.gguf") for kind in ("F32", "Q4_0"))
    for name, numbers in exact.items():
        # A block's largest number becomes -8 steps, so each other one is at most half a step off, or one at the top.
        most = np.abs(numbers).max() / 8 * 1.01 if numbers.ndim == 2 else 0
        assert np.abs(near[name] - numbers).max() <= most, name
    assert ("output.weight" in exact) != read_config(checkpoint).text.tie_word_embeddings
    read = [numbers for name, numbers in exact.items() if name != "token_embd.weight" or "output.weight" not in exact]
    matrices = sum(numbers.size for numbers in read if numbers.ndim == 2)
    vectors = sum(numbers.size for numbers in read if numbers.ndim == 1)
    assert weight_bytes(tmp_path / "Q4_0.gguf") == matrices * 18 // 32 + 4 * vectors


def test_the_made_up_vocabulary_can_be_read_in_one_way_only():
    texts = sorted(spelled(token, TINY.tokens) for token in range(TINY.text.vocab_size))
    assert len(set(texts)) == TINY.text.vocab_size
    # In order, a text that begins another one would stand right before one that it begins.
    assert not any(after.startswith(before) for before, after in pairwise(texts))


# --- what llama-server says --------------------------------------------------------------------------------

# As the server sent it, its settings left out of the last line.
STREAM = """:

data: {"index":0,"content":"<58>","tokens":[58],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":16}

data: {"index":0,"content":"<32>","tokens":[32],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":16}

data: {"index":0,"content":"<36>","tokens":[36],"stop":false,"id_slot":-1,"tokens_predicted":3,"tokens_evaluated":16}

data: {"index":0,"content":"","tokens":[],"id_slot":63,"stop":true,"tokens_predicted":3,"tokens_evaluated":16,\
"stop_type":"limit","stopping_word":"","tokens_cached":18,"timings":{"cache_n":0,"prompt_n":16,"prompt_ms":33272.749,\
"prompt_per_token_ms":2079.5468125,"prompt_per_second":0.48087400292653903,"predicted_n":3,"predicted_ms":31537.777,\
"predicted_per_token_ms":15768.8885,"predicted_per_second":0.06341601058311751}}
""".splitlines()

# In milliseconds since the start; a crowded machine, as the times tell.
LOG = """
0017081 I slot launch_slot_: id 63 | task 0 | processing task, is_child = 0
0023900 I slot   operator(): id 63 | task 0 | cached n_tokens = 1, memory_seq_rm [1, end)
0023901 I slot encode_mtmd_: id 63 | task 0 | encoding mtmd batch from idx = 1, n_chunks = 1
0035974 I decoding image batch 1/1, n_tokens_batch = 8
0041508 I image decoded (batch 1/1) in 5534 ms
""".strip().splitlines()


def test_a_reply_has_its_tokens_and_counts_the_prompt():
    reply = read_reply(STREAM)
    assert reply.tokens == (58, 32, 36)
    assert len(reply.times) == 3
    assert list(reply.times) == sorted(reply.times)
    assert reply.prompt == 16
    remembered = STREAM[-1].replace('"cache_n":0,"prompt_n":16', '"cache_n":15,"prompt_n":1')
    assert read_reply([*STREAM[:-1], remembered]).prompt == 16


def test_a_reply_that_ends_early_or_with_an_error_is_none():
    with pytest.raises(RuntimeError, match="ended its answer early"):
        read_reply(STREAM[:-1])
    with pytest.raises(RuntimeError, match="out of memory"):
        read_reply([*STREAM[:4], 'error: {"code":500,"message":"out of memory"}'])


def test_the_towers_time_is_from_its_start_to_the_language_models():
    log = [(int(line[:7]) / 1000, line[8:]) for line in LOG]
    assert encoding_seconds(log) == pytest.approx(12.073)
    assert encoding_seconds(log[:3]) is None
    assert encoding_seconds(log[3:]) is None


# --- what is not installed ---------------------------------------------------------------------------------


def test_a_peer_that_is_not_installed_is_said_in_one_sentence_and_left_out(monkeypatch, capsys):
    folders = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(f for f in folders if not (Path(f) / "llama-server").exists()))
    # A size that does not fit is found after the peers were looked for.
    assert main(["bench", "--peers", "llama.cpp", "--sizes", "100x100"]) == 2
    left_out, error = capsys.readouterr().err.splitlines()
    assert left_out.startswith("llama.cpp is left out, as ")
    assert "llama-server cannot be found; to measure it, `pip install gguf`, and put the llama-server" in left_out
    assert "100x100" in error


def test_what_another_interpreter_lacks_is_seen_there(tmp_path):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    kind = replace(KINDS["openvino-int8"], needs=("json", "a_package_of_nobody"))
    assert kind.missing(str(other)) == kind.missing() == ["a_package_of_nobody"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--peer-python", "openvino"], "--peer-python has 'openvino', where PEER=PYTHON is needed"),
        (["--peer-python", "openvino=/no/such/python"], "PYTHON a program"),
        (
            ["--peer-python", f"vllm={sys.executable}"],
            "--peer-python names 'vllm'; the peers are transformers, openvino",
        ),
    ],
)
def test_a_wrong_interpreter_is_one_sentence(options, words, capsys):
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err


# --- the runtimes themselves -------------------------------------------------------------------------------


def ours(inputs: ModelInputs, count: int) -> list[int]:
    """Nano's own greedy tokens, in float32."""
    folder, settings = resolve("nano"), EngineSettings(draft_tokens=0)
    engine = Engine(load_model(folder, read_config(folder), dtype=torch.float32), stop_tokens=(), settings=settings)
    found: list[int] = []
    params = SamplingParams(max_tokens=count, repetition_guard=False)
    engine.submit(Request(inputs=inputs, params=params), lambda event: found.append(event.token))
    while engine.has_work:
        engine.step()
    return found


@needed("llama.cpp")
def test_llama_cpp_answers_as_we_do(tmp_path):
    """On equal weights, with pictures of its own drawing; quantised it only has to answer at all."""
    nano = resolve("nano")
    config = read_config(nano)
    convert_llama(nano, tmp_path, "F32")
    runtime = LlamaCpp(nano, tmp_path)
    for case in (replace(CASE, size=None), CASE, replace(CASE, size=(140, 168), seed=2)):
        inputs = make_inputs(case, config)
        if case.size is not None:
            inputs = replace(inputs, vision=pair_patches([picture(case)], case.size[::-1], ImageSettings()))
        reply = runtime.server.complete(runtime.prompt(case), case.answer)
        assert reply.prompt == len(inputs.ids)
        assert list(reply.tokens) == ours(inputs, case.answer)
    answers = runtime.answer_together([replace(CASE, size=None, seed=seed) for seed in range(3)])
    for answer in (runtime.answer(replace(CASE, seed=5)), *answers):
        assert len(answer.times) == CASE.answer
        assert answer.begin < answer.times[0]
        assert list(answer.times) == sorted(answer.times)
    assert runtime.vision(replace(CASE, seed=6)) > 0
    assert runtime.peak_bytes() > runtime.token_bytes


@needed("openvino-int8")
@pytest.mark.filterwarnings("ignore")  # what its libraries warn of is theirs
def test_openvino_answers_as_we_do(tmp_path):
    from clearsight.bench.runtimes import openvino
    from clearsight.bench.runtimes.transformers import Clock

    nano = resolve("nano")
    openvino.convert(nano, tmp_path, "none")
    runtime = openvino.load(nano, tmp_path, "none")
    for case in (replace(CASE, size=None), CASE):
        inputs = make_inputs(case, runtime.config)
        clock = Clock()
        assert runtime.generate(runtime.arguments([inputs]), case.answer, clock).tolist() == [ours(inputs, case.answer)]
        assert len(clock.times) == case.answer
    answers = runtime.answer_together([replace(CASE, size=None, seed=seed) for seed in range(3)])
    assert [len(answer.times) for answer in answers] == [CASE.answer] * 3
    assert runtime.vision(CASE) > 0
    assert runtime.token_bytes == os.path.getsize(Path(tmp_path) / "openvino_language_model.bin")
