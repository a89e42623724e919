"""Videos over HTTP: sent along, from the open folder, by address if allowed, refused in one sentence; on the page."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from films import film, save, sound
from live_server import running
from PIL import Image

from clearsight.cli import main
from clearsight.media import MediaLimits
from clearsight.server import ServerSettings

BROWSER = os.environ.get("CLEARSIGHT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("open")
    save(found / "clip.mp4", film(frames=60, size=(112, 84)))
    save(found / "clip.webm", film("webm", frames=60, size=(112, 84), codec="libvpx-vp9"))
    (found / "shots").mkdir()
    for index in range(4):
        Image.new("RGB", (56, 56), (50 * index, 0, 0)).save(found / "shots" / f"{index}.png")
    return found


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    media = MediaLimits(allow_files=False, allow_remote=True, allowed_hosts=("127.0.0.1",), media_root=str(folder))
    with running(ServerSettings(names=("nano",)), media=media) as found:
        yield found


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *rest: Any) -> None:
            super().__init__(*rest, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def data_url(data: bytes) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"


def post(address: str, url: str, path: str = "/v1/chat/completions", **part: Any) -> httpx.Response:
    content = [{"type": "video_url", "video_url": {"url": url}, **part}, {"type": "text", "text": "What happens?"}]
    body: dict[str, Any] = {"model": "nano", "messages": [{"role": "user", "content": content}]}
    if path == "/v1/chat/completions":
        body["max_tokens"] = 2
    return httpx.post(address + path, json=body, timeout=60)


def test_a_video_from_anywhere_is_the_same(address: str, folder: Path, elsewhere: str) -> None:
    sources = [data_url((folder / "clip.mp4").read_bytes()), "clip.mp4", f"{elsewhere}/clip.mp4"]
    replies = [post(address, source, fps=1).json() for source in sources]
    used = [reply["media"][0] for reply in replies]
    for use in used:
        assert (use["kind"], use["frames"], use["times"][0], use["duration"]) == ("video", 4, 0, 2)
        assert use | {"name": ""} == used[0] | {"name": ""}
    # All but the first find the video in the cache.
    known = [reply["usage"].pop("prompt_tokens_details")["cached_tokens"] for reply in replies]
    assert known[0] < used[0]["tokens"] <= min(known[1:])
    assert all(reply["usage"] == replies[0]["usage"] for reply in replies)
    counted = post(address, "clip.mp4", "/v1/count", fps=1).json()
    assert counted["media"][0] == used[1]
    assert counted["tokens"] == replies[1]["usage"]["prompt_tokens"]


def test_a_folder_of_pictures_is_a_video(address: str) -> None:
    (use,) = post(address, "shots").json()["media"]
    assert (use["frames"], use["times"], use["original_size"]) == (4, None, [56, 56])


@pytest.mark.parametrize(
    ("url", "part", "words"),
    [
        (data_url(sound()), {}, "video: it holds no moving picture, only audio"),
        (data_url(b"nothing" * 20), {}, "video: it is not a video that can be read"),
        ("/etc/hostname", {}, "hostname: it does not lie in the folder that is open here"),
        ("../clip.mp4", {}, "it does not lie in the folder"),
        ("http://localhost:1/clip.mp4", {}, "the host localhost is not one of those allowed here"),
        ("clip.mp4", {"fps": 2, "nframes": 4}, "nframes cannot go with fps"),
        ("clip.mp4", {"fps": 30, "min_pixels": 500_000, "strict": True}, "there is room for"),
        ("clip.mp4", {"speed": 2}, "unknown key 'speed'"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(address: str, url: str, part: dict[str, Any], words: str) -> None:
    answer = post(address, url, **part)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_the_command_line_sends_videos_along(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--server", address, "--max-tokens", "2", "--json"]
    for source, frames in ((folder / "clip.mp4", 4), (folder / "shots", 4)):
        assert main(["ask", str(source), "What happens?", *options]) == 0
        (use,) = json.loads(capsys.readouterr().out)["media"]
        assert (use["kind"], use["frames"]) == ("video", frames)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found; install it or set CLEARSIGHT_CHROMIUM")
def test_a_video_is_dropped_on_the_page(address: str, folder: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        page.set_input_files("#files", str(folder / "clip.webm"))
        expect(page.locator("#tray video")).to_have_count(1)
        expect(page.locator("#cost")).to_contain_text("4 frames of")
        page.fill("#question", "What happens?")
        page.press("#question", "Enter")
        expect(page.locator(".turn.user video")).to_have_count(1)
        expect(page.locator(".turn.assistant .used")).to_contain_text("tokens read", timeout=30_000)
        assert page.evaluate("document.querySelector('.turn.user video').error") is None
        browser.close()
