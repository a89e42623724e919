"""Names become folders: local ones, packaged ones, and those of a hub that a test serves from this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clearsight.config import PRESETS, ConfigError, config_to_json, read_json
from clearsight.model.hub import OFFICIAL, ModelNotFound, preset_for, read_config, resolve, resolve_adapter

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": json.dumps(config_to_json(PRESETS["2b"])).encode(),
    "merges.txt": b"#version: 0.2\na b\n",
    "model.safetensors": bytes(range(256)) * 4096,
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit('code from a checkpoint')",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a download needs; `break_at` cuts a body short once."""

    break_at: int | None = None
    ranges: list[str]
    fetched: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if "/owner/tiny/" not in self.path:
            return self.answer(b'{"error": "Repository not found"}', 404, {"X-Error-Code": "RepoNotFound"})
        if self.path.startswith("/api/models/owner/tiny/revision/"):
            return self.answer(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": []}).encode())
        if self.path.startswith("/api/models/owner/tiny/tree/"):
            tree = [{"type": "file", "path": p, "size": len(b), "oid": f"{len(b):040x}"} for p, b in FILES.items()]
            return self.answer(json.dumps(tree).encode())
        return self.send_file(self.path.rpartition("/")[2])

    def send_file(self, name: str) -> None:
        body, wanted = FILES[name], self.headers.get("Range")
        if self.command == "GET":
            self.fetched.append(name)
        if wanted:
            self.ranges.append(wanted)
            start = int(re.fullmatch(r"bytes=(\d+)-.*", wanted)[1])  # type: ignore[index]
            extra = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            return self.answer(body[start:], 206, extra)
        return self.answer(body, 200, {"ETag": f'"{len(body):040x}"', "X-Repo-Commit": COMMIT})

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = type(self).break_at
        if cut is not None and len(body) > cut:
            type(self).break_at, body = None, body[:cut]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: pytest shows what matters."""


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {"ranges": [], "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield handler
    server.shutdown()
    server.server_close()


def test_download_holds_settings_and_safetensors_but_no_pickle_and_no_code(hub: type[Hub]) -> None:
    folder = resolve("owner/tiny")
    assert {path.name for path in folder.iterdir()} == {"config.json", "merges.txt", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert read_config(folder) == PRESETS["2b"]
    assert resolve("owner/tiny", offline=True) == folder


def test_without_weights_only_settings_are_fetched(hub: type[Hub]) -> None:
    folder = resolve("owner/tiny", weights=False)
    assert {path.name for path in folder.iterdir()} == {"config.json", "merges.txt"}
    with pytest.raises(ModelNotFound, match="not wholly"):
        resolve("owner/tiny", offline=True)


def test_a_cut_download_is_resumed_where_it_stopped(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 65_536)  # it keeps whole chunks
    hub.break_at = 500_000
    folder = resolve("owner/tiny")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.ranges
    assert all(int(wanted.removeprefix("bytes=").split("-")[0]) > 0 for wanted in hub.ranges)


def test_a_name_the_hub_does_not_know(hub: type[Hub]) -> None:
    with pytest.raises(ModelNotFound, match="no public model named 'owner/other'"):
        resolve("owner/other")


def test_no_connection(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelNotFound, match=r"^Qwen/Qwen2-VL-2B-Instruct could not be downloaded: .*refused"):
        resolve("2b")


def test_offline_is_honoured(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match=r"^owner/tiny is not .* in the local cache, and downloads are off$"):
        resolve("owner/tiny")
    assert hub.fetched == []


@pytest.mark.parametrize("name", ["nope", "./nope", "/nope/deeper", "", "a/b/c", "../x"])
def test_unknown_names_list_what_is_accepted(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name)
    assert str(caught.value).startswith(f"unknown model {name!r}; use nano, 2b, 7b, 72b,")


def test_an_adapter_is_a_folder_or_one_that_the_model_brings(tmp_path: Path) -> None:
    assert resolve_adapter(tmp_path, "nano") == tmp_path
    assert resolve_adapter("games", "nano") == resolve("nano") / "games"
    with pytest.raises(ModelNotFound, match="the adapter 'nope' is no folder; nano brings games, shop"):
        resolve_adapter("nope", "nano")
    with pytest.raises(ModelNotFound, match=r"the adapter 'nope' is no folder$"):
        resolve_adapter("nope", "not/here")


def test_a_folder_is_itself_and_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_bytes(FILES["config.json"])
    assert resolve(str(tmp_path)) == tmp_path


def test_nano_is_in_the_package() -> None:
    assert read_config(resolve("nano")) == PRESETS["nano"]


def test_presets_by_short_and_by_official_name() -> None:
    for short, official in OFFICIAL.items():
        assert preset_for(short) is preset_for(official) is PRESETS[short]
    with pytest.raises(ModelNotFound, match="'owner/tiny' has no preset"):
        preset_for("owner/tiny")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, r"config\.json is missing"),
        (b"{", r"config\.json is not valid JSON"),
        (b"\xff\xfe", r"config\.json is not valid JSON"),
        (b"[" * 100_000, r"config\.json is not valid JSON"),
        (b"[]", "must hold a JSON object, not a list"),
    ],
)
def test_damaged_json(tmp_path: Path, content: bytes | None, match: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=match):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": "wide"}, "wrong kind"),
        ({"hidden_size": None}, "wrong kind"),
        ({"num_attention_heads": 7}, "must be a multiple"),
        ({"colour": 3}, "unknown text config key 'colour'"),
    ],
)
def test_config_errors_name_the_file(tmp_path: Path, change: dict[str, object], match: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_to_json(PRESETS["2b"]) | change))
    with pytest.raises(ConfigError, match=match) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "config.json"))
