"""Batch files: every request is answered once, however often and wherever the run is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from clearsight.cli import main
from clearsight.vlm import VLM


def line(name, text="Hi", **body):
    content = {"model": "nano", "messages": [{"role": "user", "content": text}], "max_tokens": 3, **body}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": content}


def write(path, lines):
    path.write_text("".join(json.dumps(item) + "\n" for item in lines))
    return path


def read(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


def test_answers_are_the_models_own_and_refusals_are_results(files, capsys):
    requests, results = files
    picture = {"type": "image_url", "image_url": {"url": "examples/sign.png"}}
    said = [picture, {"type": "text", "text": "What does it say?"}]
    lines = [
        line("sign", said, max_tokens=20),
        line("plain"),
        line("model", model="gpt-5"),
        line("stream", stream=True),
        {**line("method"), "method": "GET"},
        {**line("url"), "url": "/v1/embeddings"},
        {**line("responses"), "url": "/v1/responses", "body": {"model": "nano", "input": "Hi", "max_output_tokens": 2}},
        {**line("text"), "url": "/v1/completions", "body": {"model": "nano", "prompt": "Hi", "max_tokens": 2}},
    ]
    assert main(["batch", str(write(requests, lines)), str(results)]) == 1
    found = {item["custom_id"]: item["response"] for item in read(results)}
    assert found["sign"]["body"]["choices"][0]["message"]["content"] == "Bread"
    alone = VLM.load("nano").chat([{"role": "user", "content": "Hi"}]).text
    assert alone.startswith(found["plain"]["body"]["choices"][0]["message"]["content"])
    status = {name: item["status_code"] for name, item in found.items()}
    assert status == {"sign": 200, "plain": 200, "model": 404, "stream": 400, "method": 400, "url": 400,
                      "responses": 200, "text": 200}  # fmt: skip
    assert "8 results, 8 of them new, 4 failed" in capsys.readouterr().err
    assert main(["batch", str(requests), str(results)]) == 1
    assert "8 results, 0 of them new, 4 failed" in capsys.readouterr().err
    assert len(read(results)) == 8


def test_killed_again_and_again_nothing_is_lost_or_doubled(files):
    requests, results = files
    write(requests, [line(f"r{index}", f"Say {index}", max_tokens=8, seed=index) for index in range(30)])
    command = [sys.executable, "-m", "clearsight", "batch", str(requests), str(results), "--at-once", "3"]
    kills = 0
    for target in (1, 15):
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while run.poll() is None and (not results.exists() or results.read_bytes().count(b"\n") < target):
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        kills += run.wait() == -signal.SIGKILL
        # As if the kill had come in the middle of a line.
        with results.open("ab") as file:
            file.write(b'{"id": "batch_req_12", "custom_id": "r5')
    assert kills == 2
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    names = [item["custom_id"] for item in read(results)]
    assert sorted(names) == sorted(f"r{index}" for index in range(30))


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("", "in.jsonl holds no request"),
        ("{", "in.jsonl, line 1: it is not valid JSON"),
        ("[]", "in.jsonl, line 1: it is not a JSON object"),
        ("{}", "in.jsonl, line 1: it needs a custom_id"),
        ('{"custom_id": "a"}\n{"custom_id": "a"}', "in.jsonl, line 2: the custom_id 'a' occurs twice"),
    ],
)
def test_files_that_are_no_batch(files, capsys, inside, message):
    requests, results = files
    requests.write_text(inside)
    assert main(["batch", str(requests), str(results)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "inside", ["my diary", "my diary\n", '{"custom_id": "other", "response": {"status_code": 1}}\n']
)
def test_a_file_that_is_not_ours_is_left_as_it_is(files, capsys, inside):
    requests, results = files
    write(requests, [line("a")])
    results.write_text(inside)
    assert main(["batch", str(requests), str(results)]) == 2
    assert "name another file" in capsys.readouterr().err
    assert results.read_text() == inside


def test_other_mistakes(files, capsys):
    requests, results = files
    write(requests, [line("a")])
    assert main(["batch", str(requests), str(requests)]) == 2
    assert "is the file of the requests" in capsys.readouterr().err
    assert main(["batch", str(requests), str(results), "--at-once", "0"]) == 2
    assert "--at-once is 0; it must be between 1 and 128" in capsys.readouterr().err
    assert main(["batch", str(requests.parent / "none"), str(results)]) == 2
    assert "cannot be read" in capsys.readouterr().err
