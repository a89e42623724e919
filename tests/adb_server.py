"""A stand-in for an adb server with one device: the real wire protocol (length in hex, OKAY or FAIL), a small phone."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
import socketserver
import threading

from PIL import Image, ImageDraw

SIZE = (360, 640)
APPS = {"com.example.notes": "#fff8dc", "com.example.bank": "#dcefff", "com.android.launcher": "#333333"}


class Phone:
    """What the device holds. Buttons: in "notes" one opens "bank", one deletes; a field takes text."""

    def __init__(self):
        self.app, self.text, self.focused = "com.example.notes", "", False
        self.deleted = False
        self.commands = []
        self.alive, self.back_works = True, True
        self.buttons = {"Open bank": (20, 100, 340, 160), "Delete all": (20, 200, 340, 260)}
        self.field = (20, 300, 340, 360)

    def picture(self):
        picture = Image.new("RGB", SIZE, APPS[self.app])
        pen = ImageDraw.Draw(picture)
        if self.app == "com.example.notes":
            for label, box in self.buttons.items():
                pen.rectangle(box, fill="#88aacc")
                pen.text((box[0] + 10, box[1] + 20), label, fill="black")
            pen.rectangle(self.field, fill="white", outline="black" if self.focused else "gray")
            pen.text((self.field[0] + 10, self.field[1] + 20), self.text, fill="black")
            if self.deleted:
                pen.rectangle((20, 500, 340, 560), fill="red")
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    def dump(self):
        def node(label, box, kind, more=""):
            x1, y1, x2, y2 = box
            return f'<node text="{label}" class="android.widget.{kind}" bounds="[{x1},{y1}][{x2},{y2}]" {more}/>'

        nodes = ""
        if self.app == "com.example.notes":
            pressed = 'clickable="true"'
            nodes = "".join(node(label, box, "Button", pressed) for label, box in self.buttons.items())
            nodes += node(self.text, self.field, "EditText", f'hint="Note" focused="{str(self.focused).lower()}"')
            nodes += node("Notes", (0, 20, 360, 60), "TextView")
            nodes += node("Wifi", (20, 400, 340, 440), "Switch", 'checkable="true" checked="true"')
            nodes += node("1234", (20, 450, 340, 490), "EditText", 'password="true" content-desc="PIN"')
        tree = f'<hierarchy><node text="" class="x" bounds="[0,0][360,640]">{nodes}</node></hierarchy>'
        return f"<?xml version='1.0' encoding='UTF-8'?>{tree}UI hierchary dumped to: /dev/tty\n"

    def run(self, command):
        self.commands.append(command)
        words = shlex.split(command)
        if words[:1] == ["screencap"]:
            return self.picture()
        if words[:1] == ["uiautomator"]:
            return self.dump().encode()
        if words[:2] == ["dumpsys", "window"]:
            return f"  mCurrentFocus=Window{{af0 u0 {self.app}/{self.app}.Main}}\n".encode()
        if words[:2] == ["input", "tap"]:
            self.tap(int(words[2]), int(words[3]))
        if words[:2] == ["input", "text"] and self.focused:
            self.text += words[2].replace("%s", " ")
        if words[:2] == ["input", "keyevent"]:
            self.key(words[2])
        return b""

    def tap(self, x, y):
        def inside(box):
            return box[0] <= x < box[2] and box[1] <= y < box[3]

        if self.app != "com.example.notes":
            return
        self.focused = inside(self.field)
        if inside(self.buttons["Open bank"]):
            self.app = "com.example.bank"
        self.deleted |= inside(self.buttons["Delete all"])

    def key(self, key):
        if key == "HOME":
            self.app = "com.android.launcher"
        if key == "BACK" and self.back_works:
            self.app = "com.example.notes"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError, ValueError):
            while self.answer(self.read(int(self.read(4), 16)).decode()):
                pass

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.request.recv(count - len(data))
            if not piece:
                raise ValueError("closed")
            data += piece
        return data

    def block(self, text):
        self.request.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())

    def answer(self, asked):
        """One request; whether the connection goes on."""
        phone = self.server.phone
        if asked == "host:version":
            self.block("0029")
        elif asked == "host:devices":
            self.block("emu-1\tdevice\nemu-2\toffline\n" if phone.alive else "")
        elif match := re.fullmatch(r"host:tport:serial:(.+)", asked):
            if match[1] == "emu-1" and phone.alive:
                self.request.sendall(b"OKAY" + (7).to_bytes(8, "little"))
                return True
            message = f"device '{match[1]}' not found"
            self.request.sendall(b"FAIL" + f"{len(message):04x}{message}".encode())
        elif asked.startswith("shell:"):
            self.request.sendall(b"OKAY" + phone.run(asked.removeprefix("shell:")))
        return False


class AdbServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.phone = Phone()
        self.port = self.server_address[1]
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def stop(self):
        self.shutdown()
        self.server_close()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 0.1).close()
