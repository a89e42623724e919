"""A browser as an environment: Chromium through Playwright, found on the machine or given."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Action, pixels
from clearsight.agent.screen.environment import Element, Request, ScreenError, ScreenGone, State, Target
from clearsight.agent.screen.frames import elements_in_frames, target_in_frames
from clearsight.agent.screen.guard import quoted
from clearsight.agent.screen.probe import ELEMENTS, FOCUS, elements_of
from clearsight.agent.screen.watchdog import Watchdog

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "CLEARSIGHT_CHROMIUM"

_PLAYWRIGHT_KEYS = {"Space": "Space"} | {name: f"Arrow{name}" for name in ("Up", "Down", "Left", "Right")}
_AHEAD = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_STEP = 0.7  # of the screen, for one scroll
_SETTLE = 5.0  # seconds for what an action began to load


def find_chromium() -> str | None:
    """From CLEARSIGHT_CHROMIUM or the usual names."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


_drivers = threading.local()


@contextlib.contextmanager
def driver() -> Iterator[Any]:
    """Playwright's driver. A thread can hold only one, so several browsers of a thread share it."""
    from playwright.sync_api import sync_playwright

    users = getattr(_drivers, "users", 0)
    if not users:
        _drivers.manager = sync_playwright()
        _drivers.driver = _drivers.manager.__enter__()
    _drivers.users = users + 1
    try:
        yield _drivers.driver
    finally:
        _drivers.users -= 1
        if not _drivers.users:
            _drivers.manager.__exit__(None, None, None)


class Browser:
    """One page, or the newest of its tabs. Use it in a `with` block, from one thread.

    size: of the page in pixels. seconds: what loading, settling and answering may take. executable: of Chromium.
    Raises ScreenGone if it does not start or the first page does not load.
    """

    name = "browser"
    still = 0.0

    def __init__(
        self,
        address: str,
        *,
        size: tuple[int, int] = (1008, 756),
        seconds: float = 15,
        executable: str | None = None,
        headless: bool = True,
        decide: Callable[[Request], bool] = lambda request: request.kind == "go",
    ) -> None:
        self.home, self.size, self.seconds, self.decide = address, size, seconds, decide
        self._notes: list[str] = []
        self._hidden: list[str] = []
        self._stack = contextlib.ExitStack()
        self._watchdog = Watchdog()
        # Pages on their way that have not come yet, tabs that will open and must not, and those to close.
        self._awaited: list[str] = []
        self._unwanted: list[str] = []
        self._closing: list[Any] = []
        self._page: Any = None
        executable = executable or find_chromium()
        if executable is None:
            raise ScreenGone(f"no Chromium was found; install it or set {VARIABLE}")
        try:
            self._open(executable, headless)
        except BaseException:
            self.close()
            raise

    def observe(self) -> PillowImage:
        with self._answering():
            cover = [self._page.locator("[data-clearsight-secret]")] if self._hidden else []
            for value in self._hidden:
                cover += [frame.get_by_text(value) for frame in self._page.frames]
                self._mark_fields(value)
            return Image.open(io.BytesIO(self._screenshot(cover))).convert("RGB")

    def _screenshot(self, cover: list[Any]) -> bytes:
        from playwright.sync_api import Error

        wishes: dict[str, Any] = {"timeout": 1000 * self.seconds, "animations": "disabled", "caret": "hide"}
        wishes |= {"mask": cover, "mask_color": "#808080"}
        try:
            return bytes(self._page.screenshot(**wishes))
        except Error as error:
            # Chromium cannot draw a page that is just being put in another's place.
            if "Unable to capture" not in str(error):
                raise
            self._settle()
            return bytes(self._page.screenshot(**wishes))

    def act(self, action: Action) -> Sequence[str]:
        with self._answering(action.seconds):
            getattr(self, f"_{action.name.lower()}")(action)
            self._settle()
        notes, self._notes = self._notes, []
        return notes

    def target(self, action: Action) -> Target:
        with self._answering():
            place = pixels(action.point, self.size) if action.point else None
            return target_in_frames(self._page.main_frame, place)

    def elements(self) -> Sequence[Element]:
        from playwright.sync_api import Error

        with self._answering():
            try:
                found = elements_of(self._page.main_frame.evaluate(ELEMENTS), self.size)
            except Error:  # another page is just being put in its place
                self._settle()
                found = elements_of(self._page.main_frame.evaluate(ELEMENTS), self.size)
            return found + elements_in_frames(self._page.main_frame, self.size)

    def state(self) -> State:
        with self._answering():
            return State(self._page.url, self._page.evaluate(FOCUS))

    def hide(self, values: Sequence[str]) -> None:
        self._hidden = list(values)

    @property
    def page(self) -> Any:
        """Playwright's page, for tests and scripted policies."""
        return self._page

    def close(self) -> None:
        """End the browser; what is already gone is no error."""
        with contextlib.suppress(Exception), self._watchdog.watching(self.seconds):
            self._stack.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Starting

    def _open(self, executable: str, headless: bool) -> None:
        from playwright.sync_api import Error

        try:
            playwright = self._stack.enter_context(driver())
            # Chromium's sandbox refuses to start for root, as in most containers.
            flags = [self._watchdog.flag, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
            chromium = playwright.chromium.launch(
                executable_path=executable, headless=headless, args=flags, timeout=60_000, handle_sigint=False
            )
            self._stack.callback(chromium.close)
            width, height = self.size
            # A service worker would fetch past the guard.
            self._context = chromium.new_context(
                viewport={"width": width, "height": height}, service_workers="block", accept_downloads=False
            )
        except Error as error:
            raise ScreenGone(f"the browser did not start ({_first_line(error)})") from error
        self._context.set_default_timeout(1000 * self.seconds)
        self._context.route("**/*", self._routed)
        self._context.on("page", self._new_page)
        self._follow(self._context.new_page())
        self._notes = []
        try:
            self._page.goto(self.home, timeout=1000 * self.seconds, wait_until="domcontentloaded")
            self._settle()
        except Error as error:
            raise ScreenGone(f"{self.home} did not load within {self.seconds:g} s ({_first_line(error)})") from error

    def _follow(self, page: Any) -> None:
        self._page = page
        page.on("dialog", self._dialog)
        page.on("download", self._download)
        page.on("framenavigated", lambda frame: self._awaited.clear() if frame.parent_frame is None else None)
        page.on("crash", lambda _: self._notes.append("the page crashed"))

    # What the page does of itself

    def _new_page(self, page: Any) -> None:
        if self._page is None:
            return
        if self._unwanted:
            self._unwanted.pop()
            self._closing.append(page)
            return
        del self._awaited[:1]
        self._notes.append("a new tab opened")
        self._follow(page)

    def _dialog(self, dialog: Any) -> None:
        kind, said = dialog.type, quoted(dialog.message)
        # An alert has but one answer, and leaving a page was decided before.
        agreed = kind in ("alert", "beforeunload") or self._decided(Request("dialog", dialog.message))
        self._notes.append(f"the page showed a dialog, {said}; it was {'accepted' if agreed else 'dismissed'}")
        with contextlib.suppress(Exception):
            dialog.accept() if agreed else dialog.dismiss()

    def _routed(self, route: Any) -> None:
        """Every request passes here: pages that may not be gone to, and changes nobody agreed to, are held back."""
        request = route.request
        frame = _frame(request)
        going = request.is_navigation_request() and (frame is None or frame.parent_frame is None)
        wishes = [Request("go", request.url)] if going else []
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            wishes.append(Request("send", request.url))
        refused = next((wish for wish in wishes if not self._decided(wish)), None)
        with contextlib.suppress(Exception):
            if going and refused is None:
                self._awaited.append(request.url)
            elif going and frame is None:
                self._unwanted.append(request.url)
            if refused is None:
                route.continue_()
                return
            what = "going to" if refused.kind == "go" else "sending something to"
            self._notes.append(f"{what} {quoted(request.url)} was held back")
            # "aborted" leaves the page as it is; other codes would show an error page in its place.
            route.abort("aborted")

    def _download(self, download: Any) -> None:
        self._awaited.clear()
        self._notes.append(f"a download of {quoted(download.suggested_filename)} was refused")

    def _decided(self, request: Request) -> bool:
        with self._watchdog.patient():
            return self.decide(request)

    # The actions

    def _click(self, action: Action) -> None:
        assert action.point is not None
        self._page.mouse.click(*pixels(action.point, self.size))

    def _longpress(self, action: Action) -> None:
        assert action.point is not None
        self._page.mouse.move(*pixels(action.point, self.size))
        self._page.mouse.down()
        self._page.wait_for_timeout(800)
        self._page.mouse.up()

    def _type(self, action: Action) -> None:
        if any(value in action.text for value in self._hidden):
            # From now on the field is covered, whatever the page makes of its text.
            self._page.evaluate("document.activeElement?.setAttribute('data-clearsight-secret', '')")
        # As one piece: typed key by key, a line break would press Enter.
        self._page.keyboard.insert_text(action.text)

    def _swipe(self, action: Action) -> None:
        x, y = _AHEAD[action.direction]
        self._wheel(-x, -y, None)

    def _scroll(self, action: Action) -> None:
        self._wheel(*_AHEAD[action.direction], action.point)

    def _wheel(self, x: int, y: int, point: Any) -> None:
        self._page.mouse.move(*pixels(point or (500, 500), self.size))
        self._page.mouse.wheel(x * _STEP * self.size[0], y * _STEP * self.size[1])
        self._page.wait_for_timeout(150)

    def _key(self, action: Action) -> None:
        self._page.keyboard.press(_PLAYWRIGHT_KEYS.get(action.key, action.key))

    def _enter(self, action: Action) -> None:
        self._page.keyboard.press("Enter")

    def _back(self, action: Action) -> None:
        if self._page.go_back(wait_until="domcontentloaded") is None:
            raise ScreenError("there is nothing to go back to")

    def _home(self, action: Action) -> None:
        self._page.goto(self.home, wait_until="domcontentloaded")

    def _wait(self, action: Action) -> None:
        self._page.wait_for_timeout(1000 * action.seconds)

    def _settle(self) -> None:
        """Wait for the load that the action may have begun; a page that never ends loading is looked at as it is."""
        from playwright.sync_api import Error

        with contextlib.suppress(Error):
            # What the action began shows itself a little later, and later still on a busy machine.
            begin = time.monotonic()
            self._page.evaluate("1")
            taken = time.monotonic() - begin
            self._page.wait_for_timeout(60 + min(1000.0, 4000 * taken))
        self._present()
        deadline = time.monotonic() + _SETTLE
        while (self._awaited or self._unwanted) and time.monotonic() < deadline:
            self._page.wait_for_timeout(50)
        self._awaited.clear()
        self._unwanted.clear()
        while self._closing:
            self._closing.pop().close()
        with contextlib.suppress(Exception):
            self._page.wait_for_load_state("load", timeout=1000 * min(_SETTLE, self.seconds))

    def _present(self) -> None:
        """Where the tab was closed, by itself or by the action, go on with the newest that is open."""
        if self._page.is_closed() and self._page.context.browser.is_connected():
            if not self._context.pages:
                raise ScreenGone("the last tab was closed")
            self._page = self._context.pages[-1]
            self._notes.append("the tab was closed; an older one is shown")

    def _mark_fields(self, value: str) -> None:
        for frame in self._page.frames:
            with contextlib.suppress(Exception):
                for field in frame.query_selector_all("input, textarea, select"):
                    if value in (field.input_value() or ""):
                        field.evaluate("field => field.setAttribute('data-clearsight-secret', '')")

    @contextlib.contextmanager
    def _answering(self, more: float = 0.0) -> Iterator[None]:
        """Playwright's errors as ours. What a page's own fault may be is the model's to know; a lost browser is not."""
        from playwright.sync_api import Error

        if self._page is None:
            raise ScreenGone("the browser is closed")
        try:
            # Loading and settling have limits of their own; what takes longer than both hangs.
            limit = self.seconds + _SETTLE + 1 + more
            with self._watchdog.watching(limit):
                self._present()
                yield
        except Error as error:
            line = _first_line(error)
            if self._watchdog.barked:
                raise ScreenGone(f"the page did not answer for {limit:g} s") from error
            if not self._page.context.browser or not self._page.context.browser.is_connected():
                raise ScreenGone("the browser is gone") from error
            if "Timeout " in line:
                raise ScreenError(f"the page did not answer within {self.seconds:g} s") from error
            raise ScreenError(f"the page could not do it ({line})") from error


def _frame(request: Any) -> Any:
    """The frame that a request comes from; None for one that opens a tab, which has no frame yet."""
    try:
        return request.frame
    except Exception:
        return None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())
