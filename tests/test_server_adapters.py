"""Adapters behind the server: chosen by the model's name, listed, refused by name."""

from __future__ import annotations

import openai
import pytest
import torch
from live_server import running
from torch import nn

from clearsight.inputs import SamplingParams
from clearsight.model.lora import Adapter, LoraLayer, write_adapter
from clearsight.server import ServerSettings
from clearsight.vlm import VLM


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    generator = torch.Generator().manual_seed(0)
    layers = {
        name: LoraLayer(
            torch.randn(2, layer.in_features, generator=generator),
            torch.randn(layer.out_features, 2, generator=generator),
            0.2,
        )
        for name, layer in VLM.load("nano").engine.model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("model.")
    }
    write_adapter(Adapter(layers), folder)
    return {"loud": str(folder)}


def test_a_client_chooses_an_adapter_by_the_models_name(adapters):
    with (
        running(ServerSettings(names=("nano", "other")), adapters=adapters) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["nano", "other", "nano:loud", "other:loud"]
        messages = [{"role": "user", "content": "What is it?"}]
        answers = {
            name: client.chat.completions.create(model=name, messages=messages, max_tokens=12)
            .choices[0]
            .message.content
            for name in ("nano", "nano:loud")
        }
        assert answers["nano"] != answers["nano:loud"]
        vlm = VLM.load("nano", adapters=adapters)
        for name, adapter in (("nano", None), ("nano:loud", "loud")):
            turn = vlm.chat(messages, SamplingParams(max_tokens=12), adapter=adapter)
            assert answers[name] == turn.text
        with pytest.raises(
            openai.NotFoundError, match="'nano:quiet' is not served here; the models are nano, other, nano"
        ):
            client.chat.completions.create(model="nano:quiet", messages=messages)
