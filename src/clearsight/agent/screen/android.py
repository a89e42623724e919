"""An Android device as an environment, through the adb server that runs on this machine or another."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Action, Point, pixels
from clearsight.agent.screen.environment import Element, Request, ScreenError, ScreenGone, State, Target

_KEYS = {
    "Tab": "TAB",
    "Escape": "ESCAPE",
    "Backspace": "DEL",
    "Delete": "FORWARD_DEL",
    "Space": "SPACE",
    "Up": "DPAD_UP",
    "Down": "DPAD_DOWN",
    "Left": "DPAD_LEFT",
    "Right": "DPAD_RIGHT",
    "PageUp": "PAGE_UP",
    "PageDown": "PAGE_DOWN",
    "Enter": "ENTER",
    "Back": "BACK",
    "Home": "HOME",
}
_FINGER = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_BOUNDS = re.compile(r"\[(-?\d+),(-?\d+)\]\[(-?\d+),(-?\d+)\]")
_FOCUS = re.compile(r"mCurrentFocus=\S+ \S+ ([\w.]+)/")


class Android:
    """One device. Nothing is installed on it: `input`, `screencap` and `uiautomator` are Android's own.

    The app that is in front at the beginning, and the home screen, are where the run may be; the guard is told by
    `apps`. seconds: for one command. settle: after an action. Raises ScreenGone if there is no such device.
    """

    name = "phone"
    still = 0.045

    def __init__(
        self,
        serial: str,
        *,
        host: str = "127.0.0.1",
        port: int = 5037,
        seconds: float = 20,
        settle: float = 0.8,
        decide: Callable[[Request], bool] = lambda request: request.kind == "go",
    ) -> None:
        from adbutils import AdbClient

        self.serial, self.decide = serial, decide
        self._address, self._seconds, self._settle = (host, port), seconds, settle
        self._client = AdbClient(host, port, socket_timeout=seconds)
        self._hidden: list[str] = []
        self._size = (0, 0)
        with self._answering():
            states = {item.serial: item.state for item in self._client.list()}
        if states.get(serial) != "device":
            known = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
            raise ScreenGone(f"there is no device {serial!r} that is ready; devices: {known}")
        self._device = self._client.device(serial)
        self.home = self.app()

    def observe(self) -> PillowImage:
        with self._answering():
            data = self._device.shell(["screencap", "-p"], encoding=None, timeout=self._seconds)
            if not data:
                raise ScreenGone(f"the device {self.serial} sent no picture")
            picture = Image.open(io.BytesIO(data)).convert("RGB")
        self._size = picture.size
        if self._hidden:
            pen = ImageDraw.Draw(picture)
            for node in self._nodes():
                if any(value in node.get("text", "") for value in self._hidden):
                    pen.rectangle(_box(node), fill="#808080")
        return picture

    def act(self, action: Action) -> Sequence[str]:
        before = self.app()
        with self._answering():
            self._perform(action)
        time.sleep(self._settle)
        after = self.app()
        # An app cannot be kept from opening another one; it can be left again.
        if after != before and not self.decide(Request("go", after)):
            self._shell("input", "keyevent", "BACK")
            time.sleep(self._settle)
            if self.app() == after:
                raise ScreenGone(f"the app {after} came up, which is not allowed, and cannot be left")
            return [f"going to the app {after} was held back"]
        return []

    def target(self, action: Action) -> Target:
        if action.name not in ("Click", "LongPress", "Type", "Enter", "Key"):
            return Target()
        nodes = self._nodes()
        if action.point is not None:
            x, y = pixels(action.point, self._size)
            # Later in the tree lies above; the last that contains the point is what a finger meets.
            found = [node for node in nodes if _holds(_box(node), x, y)]
            labelled = [node for node in found if _label(node)]
            node = (labelled or found or [None])[-1]
        else:
            node = next((node for node in nodes if node.get("focused") == "true"), None)
        if node is None:
            return Target()
        field = _is_field(node)
        value = None if node.get("password") == "true" else node.get("text", "")
        return Target(kind="field" if field else "button", label=_label(node), value=value if field else None)

    def elements(self) -> Sequence[Element]:
        return [self._element(node) for node in self._nodes() if _label(node) or _is_field(node)]

    def _element(self, node: Any) -> Element:
        box, field = _box(node), _is_field(node)
        label = str(node.get("content-desc") or node.get("hint") or "") if field else _label(node)
        value = None
        if field:
            secret = node.get("password") == "true"
            value = "***" if secret and node.get("text") else "" if secret else node.get("text", "")
        elif node.get("checkable") == "true":
            value = "on" if node.get("checked") == "true" else "off"
        if not (field or node.get("clickable") == "true" or value is not None):
            return Element(label)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        x, y = (round(1000 * part / side) for part, side in zip(middle, self._size, strict=True))
        return Element(label, value=value, point=(min(1000, max(0, x)), min(1000, max(0, y))))

    def state(self) -> State:
        return State(self.app())

    def hide(self, values: Sequence[str]) -> None:
        self._hidden = list(values)

    def app(self) -> str:
        """Name of the app in front; the home screen and the system's own are "home"."""
        found = _FOCUS.search(self._shell("dumpsys", "window"))
        name = found[1] if found else ""
        return "home" if not name or "launcher" in name or name.startswith("com.android.systemui") else name

    def close(self) -> None:
        """Nothing is held open between commands."""

    def __enter__(self) -> Android:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _perform(self, action: Action) -> None:
        name = action.name
        if name in ("Click", "LongPress"):
            assert action.point is not None
            x, y = map(str, pixels(action.point, self._size))
            self._shell("input", *(("tap", x, y) if name == "Click" else ("swipe", x, y, x, y, "900")))
        elif name == "Type":
            self._type(action.text)
        elif name in ("Swipe", "Scroll"):
            way = _FINGER[action.direction]
            self._drag((-way[0], -way[1]) if name == "Scroll" else way, action.point or (500, 500))
        elif name == "Wait":
            time.sleep(action.seconds)
        else:
            self._shell("input", "keyevent", _KEYS[action.key or name])

    def _type(self, text: str) -> None:
        if not text.isascii():
            raise ScreenError("this device's keyboard command types ASCII letters only")
        lines = text.split("\n")
        for number, line in enumerate(lines):
            if number:
                self._shell("input", "keyevent", "ENTER")
            # `input text` knows %s as a space, and nothing that stands for itself as %s.
            for piece in re.split(r"(%s)", line):
                if piece:
                    self._shell("input", "text", "%" if piece == "%s" else piece.replace(" ", "%s"))
                if piece == "%s":
                    self._shell("input", "text", "s")

    def _drag(self, way: tuple[int, int], start: Point) -> None:
        x, y = pixels(start, self._size)
        half_x, half_y = (round(0.3 * side * part) for side, part in zip(self._size, way, strict=True))
        ends = (x - half_x, y - half_y, x + half_x, y + half_y)
        limits = (*self._size, *self._size)
        self._shell(
            "input",
            "swipe",
            *(str(min(limit - 1, max(0, end))) for end, limit in zip(ends, limits, strict=True)),
            "300",
        )

    def _nodes(self) -> list[Any]:
        """What is on the screen, as the device's accessibility service sees it; empty if it cannot say."""
        text = self._shell("uiautomator", "dump", "/dev/tty")
        start, end = text.find("<?xml"), text.rfind("</hierarchy>")
        if start < 0 or end < 0 or "<!DOCTYPE" in text:
            return []
        with contextlib.suppress(Xml.ParseError):
            return [
                node
                for node in Xml.fromstring(text[start : end + 12]).iter("node")
                if _BOUNDS.search(node.get("bounds", ""))
            ]
        return []

    def _shell(self, *words: str) -> str:
        with self._answering():
            return str(self._device.shell(shlex.join(words), timeout=self._seconds))

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        from adbutils import AdbError

        # adbutils would start a server of its own; what runs on a machine is its owner's to decide.
        try:
            socket.create_connection(self._address, timeout=3).close()
        except OSError as error:
            host, port = self._address
            raise ScreenGone(f"no adb server answers at {host}:{port}; start it with: adb start-server") from error
        try:
            yield
        except (AdbError, OSError, EOFError) as error:
            raise ScreenGone(f"the device {self.serial} does not answer ({error})") from error


def _box(node: Any) -> tuple[int, int, int, int]:
    match = _BOUNDS.search(node.get("bounds", ""))
    assert match is not None
    left, top, right, bottom = map(int, match.groups())
    return left, top, max(left, right), max(top, bottom)


def _holds(box: tuple[int, int, int, int], x: int, y: int) -> bool:
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _is_field(node: Any) -> bool:
    return str(node.get("class", "")).endswith("EditText")


def _label(node: Any) -> str:
    return str(node.get("text") or node.get("content-desc") or "")[:200]
