"""ask and chat through a server: what they print is what a model loaded here would have made them print."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from live_server import running
from PIL import Image

from clearsight.cli import main
from clearsight.cli.drawing import draw_reply
from clearsight.media.drawing import Mark, draw
from clearsight.processor.grounding import Annotation
from clearsight.server import ServerSettings
from clearsight.vlm import Reply, Usage

KEY = "key-of-the-tests"
SIGN, CIRCLE = "examples/sign.png", "examples/circle.png"


@pytest.fixture(scope="module")
def address():
    with running(ServerSettings(names=("nano", "other"), keys=(KEY,))) as found:
        yield found


@pytest.fixture
def run(capsys):
    def run(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("more", [[], ["--json"], ["--label-pictures", "--max-tokens", "2", "--max-pixels", "3136"]])
def test_a_server_answers_as_the_model_itself(run, address, more):
    wish = ["ask", SIGN, CIRCLE, "What does it say?", *more]
    here = run(*wish)
    there = run(*wish, "--server", address, "--key", KEY)
    assert here[0] == there[0] == 0
    if "--json" in more:
        mine, theirs = json.loads(here[1]), json.loads(there[1])
        # A picture that was sent along has lost its file name.
        for reply in (mine, theirs):
            for use in reply["media"]:
                use.pop("name")
        assert mine == theirs
    else:
        assert here[1] == there[1]


def test_a_conversation_and_a_key_from_the_environment(run, address, monkeypatch):
    monkeypatch.setenv("CLEARSIGHT_API_KEY", KEY)
    outputs = []
    for where in ([], ["--server", f"{address}/v1"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("What does it say?\nAnd now?\n"))
        outputs.append(run("chat", SIGN, *where)[:2])
    assert outputs[0] == outputs[1]
    assert outputs[0][1].startswith("Bread\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--key", "wrong-key"], "the API key is missing or unknown"),
        (["--key", KEY, "--model", "gpt-5"], "the model 'gpt-5' is not served here"),
        (["--key", KEY, "--max-tokens", "99999"], "max_tokens is 99999; the limit here is 16384"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(run, address, argv, message):
    code, out, err = run("ask", SIGN, "What?", "--server", address, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


class Strange(BaseHTTPRequestHandler):
    """A server that is none of ours."""

    def do_GET(self):
        self.answer(b'{"hello": 1}')

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'data: {"choices": [{"index": 0, "delta": {"content": "Half"}}]}\n\n')

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_servers_that_are_none(run):
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert "does not answer as an OpenAI-compatible server" in run("ask", "Hi", "--server", address)[2]
        code, out, err = run("ask", "Hi", "--server", address, "--model", "x")
        assert (code, out) == (2, "Half")
        assert "broke off before the answer was complete" in err
        server.shutdown()
    assert "cannot be asked" in run("ask", "Hi", "--server", "http://127.0.0.1:1")[2]
    assert "must begin with http://" in run("ask", "Hi", "--server", "localhost:8000")[2]


# --- drawing -----------------------------------------------------------------------------------------------


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_boxes_are_drawn_where_they_are():
    drawn = draw(Image.new("RGB", (200, 100)), [Mark("", (20, 30, 120, 80)), Mark("", (160, 50))])
    assert drawn.getpixel((20, 55)) == drawn.getpixel((120, 55)) == drawn.getpixel((70, 30)) != (0, 0, 0)
    assert drawn.getpixel((160, 50)) != (0, 0, 0)
    assert drawn.getpixel((70, 55)) == drawn.getpixel((10, 10)) == (0, 0, 0)


def test_labels_stay_on_the_picture():
    plain = Image.new("RGB", (120, 80))
    for box in ((0, 0, 20, 20), (100, 60, 119, 79)):
        assert draw(plain, [Mark("a long label", box)]).tobytes() != draw(plain, [Mark("", box)]).tobytes()


def test_every_picture_with_a_box_gets_a_file(tmp_path, capsys):
    notes = tuple(Annotation("box", "it", image, (0, 0, 500, 500), (0.0, 0.0, 20.0, 20.0)) for image in (0, 2, 2))
    draw_reply(str(tmp_path / "out.png"), [SIGN, SIGN, CIRCLE], Reply("", "stop", Usage(1, 1), (), annotations=notes))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-3.png", "out.png"]
    assert size(tmp_path / "out.png") == size(SIGN)
    assert "2 places drawn in" in capsys.readouterr().err


def test_ask_draws_and_says_what_it_drew(run, address, tmp_path):
    out = tmp_path / "out.png"
    for where in ([], ["--server", address, "--key", KEY]):
        code, text, err = run("ask", SIGN, "What does it say?", "--draw", out, *where)
        assert (code, text) == (0, "Bread\n")
        assert f"(0 places drawn in {out})" in err
        assert size(out) == size(SIGN)
        out.unlink()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["Hi", "--draw", "x.png"], "--draw needs a picture to draw on"),
        ([SIGN, "Hi", "--draw", "x.txt"], "the name must end in .png"),
        ([SIGN, "Hi", "--draw", "nowhere/x.png"], "there is no folder 'nowhere'"),
        ([SIGN, "Hi", "--draw", SIGN], "this is one of the pictures asked about"),
    ],
)
def test_a_drawing_that_cannot_be_written_is_refused_first(run, argv, message):
    code, out, err = run("ask", *argv)
    assert (code, out) == (2, "")
    assert message in err
