"""Android against a stand-in that speaks adb's wire protocol: seen, acted on, guarded, gone."""

from __future__ import annotations

import gc
import json

import pytest
from adb_server import AdbServer

from clearsight.agent import Said
from clearsight.agent.screen import Action, Guard, Operator, ScreenGone, Secrets
from clearsight.agent.screen.android import Android
from clearsight.agent.screen.listing import Marks
from clearsight.messages import ToolCall


@pytest.fixture
def server():
    found = AdbServer()
    yield found
    found.stop()


@pytest.fixture
def phone(server):
    return server.phone


@pytest.fixture
def device(server):
    return Android("emu-1", port=server.port, settle=0)


class Script:
    def __init__(self, *actions):
        self.actions, self.shown = list(actions), []

    def chat(self, messages, **options):
        self.shown = messages
        name, arguments = self.actions.pop(0) if self.actions else ("Done", {})
        return Said("", (ToolCall(name, json.dumps(arguments), "c"),))


def operate(device, *actions, **options):
    guard = options.pop("guard", Guard(sites={"home", "com.example.notes"}))
    return list(Operator(Script(*actions), device, guard=guard, **options).run("do it"))


CLICK_BANK = ("Click", {"point": "(500, 200)"})
CLICK_DELETE = ("Click", {"point": "(500, 350)"})
CLICK_FIELD = ("Click", {"point": "(500, 510)"})


def test_every_action_becomes_androids_own_command(device, phone):
    device.observe()
    for action in (
        Action("Click", point=(500, 510)),
        Action("Type", text="it's 50%s; rm -rf $HOME"),
        Action("LongPress", point=(0, 1000)),
        Action("Swipe", direction="up"),
        Action("Scroll", direction="down"),
        Action("Key", key="Up"),
        Action("Enter"),
        Action("Back"),
        Action("Wait", seconds=0.01),
        Action("Home"),
    ):
        device.act(action)
    inputs = [command for command in phone.commands if command.startswith("input")]
    assert inputs[0] == "input tap 180 326"
    # What is typed reaches the device as one word of its shell, never as a command.
    assert phone.text == "it's 50%s; rm -rf $HOME"
    assert inputs[5:] == [
        "input swipe 0 639 0 639 900",
        "input swipe 180 512 180 128 300",
        "input swipe 180 512 180 128 300",
        "input keyevent DPAD_UP",
        "input keyevent ENTER",
        "input keyevent BACK",
        "input keyevent HOME",
    ]
    assert device.state().place == "home"


def test_targets_are_read_from_the_accessibility_tree(device):
    device.observe()
    assert device.target(Action("Click", point=(500, 350))).label == "Delete all"
    assert device.target(Action("Click", point=(500, 510))).kind == "field"
    assert device.target(Action("Click", point=(500, 950))).label == ""


def test_a_screen_in_words(device, phone):
    device.observe()
    phone.text = "milk"
    assert Marks().listing(device.elements()).text.splitlines() == [
        *(
            'button "Open bank" a',
            'button "Delete all" b',
            'field "Note" = "milk" c',
            '"Notes"',
        ),
        *('field "Wifi" = "on" d', 'field "PIN" = "***" e'),
    ]
    for element in device.elements():
        if element.point:
            assert device.target(Action("Click", point=element.point)).label in (element.label, phone.text, "1234")
    phone.app = "com.android.launcher"
    assert not device.elements()


def test_typing_is_verified_and_needs_a_focus(device):
    typed, clicked, again, *_ = operate(device, ("Type", {"text": "hi"}), CLICK_FIELD, ("Type", {"text": "hi you"}))
    assert typed.outcome.as_intended is False
    assert "click into one first" in typed.outcome.text
    assert clicked.outcome.changed
    assert again.outcome.text == 'the field now holds "hi you"'


def test_deleting_needs_a_yes(device, phone):
    step, *_ = operate(device, CLICK_DELETE)
    assert "a person's yes" in step.outcome.text
    assert not phone.deleted
    asked = []
    guard = Guard(sites={"home", "com.example.notes"}, ask=lambda question: asked.append(question) or True)
    operate(device, CLICK_DELETE, guard=guard)
    assert phone.deleted
    assert "Delete all" in asked[0]


def test_an_app_that_is_not_allowed_is_left_again(device, phone):
    step, *_ = operate(device, CLICK_BANK)
    assert "com.example.bank was held back" in step.outcome.text
    assert phone.app == "com.example.notes"
    phone.back_works = False
    *_, end = operate(device, CLICK_BANK)
    assert end.reason == "screen"
    assert "cannot be left" in end.why
    phone.app, phone.back_works = "com.example.notes", True
    operate(device, CLICK_BANK, guard=Guard(sites={"home", "com.example.notes"}, ask=lambda question: True))
    assert phone.app == "com.example.bank"


def test_a_secret_is_typed_and_covered(device, phone, tmp_path):
    secrets = Secrets({"PIN": "hunter22"})
    actions = CLICK_FIELD, ("Type", {"text": "{{PIN}}"})
    operator = Operator(Script(*actions), device, guard=Guard(sites={"home"}), secrets=secrets, record=tmp_path)
    steps = list(operator.run("log in with hunter22"))
    assert phone.text == "hunter22"
    assert device.observe().getpixel((30, 330)) == (128, 128, 128)
    assert "{{PIN}}" in steps[1].outcome.text
    for file in tmp_path.iterdir():
        assert "hunter22" not in file.read_text()


# adbutils leaves the connection of a refused command to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_device_that_is_gone_ends_the_run(server, device, phone):
    class Leaving(Script):
        def chat(self, messages, **options):
            phone.alive = False
            return super().chat(messages, **options)

    operator = Operator(Leaving(CLICK_FIELD), device, guard=Guard())
    *_, end = operator.run("do it")
    assert (end.reason, "not found" in end.why) == ("screen", True)
    del operator, end
    gc.collect()


def test_missing_devices_and_servers_are_one_sentence(server):
    with pytest.raises(
        ScreenGone, match=r"no device 'nope' that is ready; devices: emu-1 \(device\), emu-2 \(offline\)"
    ):
        Android("nope", port=server.port)
    with pytest.raises(ScreenGone, match="no device 'emu-2'"):
        Android("emu-2", port=server.port)
    server.stop()
    with pytest.raises(ScreenGone, match="no adb server answers"):
        Android("emu-1", port=server.port)
