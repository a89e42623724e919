"""A shop, served on this machine from a thread: one visitor, one state, nothing kept on disk."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from clearsight.agent.shop import pages
from clearsight.agent.shop.look import Look
from clearsight.agent.shop.state import LANGUAGES, ShopState

_LONGEST_FORM = 100_000


class Shop:
    """Use it in a `with` block; `address` is where it is served. `show` puts another shop at the same address."""

    def __init__(self, look: Look, state: ShopState, port: int = 0) -> None:
        self.look, self.state = look, state
        shop = self

        class Handler(_Handler):
            def answer(self, path: str, query: dict[str, str], form: dict[str, str] | None) -> str | None:
                return visit(shop.look, shop.state, path, query, form)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def show(self, look: Look, state: ShopState) -> None:
        self.look, self.state = look, state

    def __enter__(self) -> Shop:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def visit(look: Look, state: ShopState, path: str, query: dict[str, str], form: dict[str, str] | None) -> str | None:
    """The page for a GET (form None), or the place to go on to after a POST. None if there is no such page."""
    head, _, tail = path.strip("/").partition("/")
    number = int(tail) if tail.isdecimal() else -1
    known = {product.number: product for product in state.products}
    if state.deleted and form is None:
        return pages.note_page(look, state, "The account is deleted")
    if form is not None:
        return _change(state, head, tail, number if number in known else -1, form)
    if head == "item" and number in known:
        state.viewed.append(number)
        return pages.item_page(look, state, known[number])
    if head == "":
        return _list(look, state, query)
    simple = {
        "cart": pages.cart_page,
        "checkout": pages.checkout_page,
        "contact": pages.contact_page,
        "settings": pages.settings_page,
    }
    if head in simple:
        state.pages.append(head)
        return simple[head](look, state)
    return pages.note_page(look, state, "Thank you for your order") if head == "thanks" else None


def _list(look: Look, state: ShopState, query: dict[str, str]) -> str:
    words, category = query.get("q", ""), query.get("category", "")
    below = int(query["below"]) if query.get("below", "").isdecimal() else 0
    if words:
        state.searches.append(words)
    state.lists.append((category, below, "cheap" in query))
    return pages.list_page(look, state, state.find(words, category, below, "cheap" in query), words, category)


def _change(state: ShopState, head: str, tail: str, number: int, form: dict[str, str]) -> str | None:
    """What a POST does; the address of the page behind it."""
    steps = {"add": 1, "more": 1, "less": -1, "remove": -99}
    if head in steps and number >= 0:
        state.put(number, steps[head])
        return f"/item/{number}" if head == "add" else "/cart"
    if head == "favourite" and number >= 0:
        state.favourites ^= {number}
        return f"/item/{number}"
    if head == "order":
        state.order()
        return "/thanks"
    if head == "message":
        if text := form.get("text", "").strip():
            state.messages.append(text)
        return "/contact"
    if head == "settings":
        state.newsletter, state.large_text = "newsletter" in form, "large_text" in form
        state.language = form["language"] if form.get("language") in LANGUAGES else state.language
        return "/settings"
    if head == "account" and tail == "delete":
        state.deleted = True
        return "/"
    return None


class _Handler(BaseHTTPRequestHandler):
    def answer(self, path: str, query: dict[str, str], form: dict[str, str] | None) -> str | None:
        raise NotImplementedError

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        text = self.answer(parts.path, _flat(parts.query), None)
        self.send_response(200 if text else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        data = (text or "not found").encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        length = min(_LONGEST_FORM, int(self.headers.get("Content-Length") or 0))
        form = _flat(self.rfile.read(length).decode("utf-8", "replace"))
        place = self.answer(urlsplit(self.path).path, {}, form)
        self.send_response(303 if place else 404)
        self.send_header("Location", place or "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A shop in a thread has no log."""


def _flat(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
