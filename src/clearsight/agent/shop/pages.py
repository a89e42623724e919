"""The shop's pages as HTML, for small screens. data-id names what a scripted visitor looks for; nobody sees it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from clearsight.agent.shop.look import Look
from clearsight.agent.shop.state import CATEGORIES, LANGUAGES, LIMITS, Product, ShopState

PLACES = {"home": "/", "cart": "/cart", "contact": "/contact", "settings": "/settings"}


def page(look: Look, state: ShopState, title: str, body: str) -> str:
    links = "".join(
        f'<a data-id="nav-{name}" href="{PLACES[name]}">{escape(look.words[name])}'
        f"{f' {sum(state.cart.values())}' if name == 'cart' and state.cart else ''}</a>"
        for name in look.order
    )
    size = 19 if state.large_text else 16
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_style(look, size)}</style><body>"
        f"<nav>{links}</nav><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def _style(look: Look, size: int) -> str:
    nav = {
        "top": "body{flex-direction:column}",
        "bottom": "body{flex-direction:column-reverse}nav{position:sticky;bottom:0}",
        "left": "body{flex-direction:row}nav{flex-direction:column;min-height:100vh;width:7.2rem;flex:none}",
    }[look.place]
    return (
        f"*{{box-sizing:border-box}}body{{margin:0;display:flex;min-height:100vh;font:{size}px/1.35 {look.font};"
        f"background:{look.background};color:{look.ink}}}main{{padding:8px 12px;flex:1;min-width:0}}"
        f"nav{{display:flex;gap:6px;padding:8px;background:{look.card}}}a{{color:{look.accent}}}"
        "nav a{padding:6px 8px;text-decoration:none;font-weight:bold}h1{font-size:1.25em;margin:4px 0 8px}"
        f"button,.chip{{font:inherit;font-weight:bold;border:0;padding:8px 12px;border-radius:{look.radius}px;"
        f"background:{look.accent};color:#fff;text-decoration:none;display:inline-block;margin:3px 4px 3px 0}}"
        f".chip{{background:{look.card};color:{look.ink};border:1px solid {look.accent};padding:4px 9px}}"
        "input[type=text],textarea{font:inherit;padding:7px;width:100%;border:1px solid #888;color:#000}"
        f".grid{{display:grid;grid-template-columns:repeat({look.columns},1fr);gap:8px;margin-top:8px}}"
        f".card{{background:{look.card};border-radius:{look.radius}px;padding:8px;display:flex;gap:8px;"
        "align-items:center;text-decoration:none}label{display:block;padding:5px 0}"
        "input[type=checkbox],input[type=radio]"
        f"{{width:18px;height:18px;vertical-align:middle}}form.row{{display:inline}}{nav}"
    )


def list_page(look: Look, state: ShopState, found: Iterable[Product], words: str, category: str) -> str:
    chips = [_chip(f"category-{name}", f"/?category={name}", name) for name in CATEGORIES]
    chips += [_chip(f"below-{limit}", f"/?category={category}&below={limit}", f"Under {limit} €") for limit in LIMITS]
    chips.append(_chip("cheap", f"/?category={category}&cheap=1", look.words["cheap"]))
    search = (
        f'<form action="/"><input type="text" name="q" data-id="search" autocomplete="off" '
        f'placeholder="{escape(look.words["search"])}" value="{escape(words)}"></form>'
    )
    cards = "".join(
        f'<a class="card" data-id="item-{product.number}" href="/item/{product.number}">{_drawing(product, 44)}'
        f"<span>{escape(product.name)}<br><b>{product.price} €</b></span></a>"
        for product in found
    )
    title = f"Results for {words}" if words else category or "Everything"
    return page(look, state, title, f'{search}<div>{"".join(chips)}</div><div class="grid">{cards}</div>')


def item_page(look: Look, state: ShopState, product: Product) -> str:
    kept = "★ " if product.number in state.favourites else ""
    inside = state.cart.get(product.number, 0)
    note = f"<p>In the cart: {inside}</p>" if inside else ""
    return page(
        look,
        state,
        product.name,
        f"{_drawing(product, 120)}<p>{escape(product.category)}, <b>{product.price} €</b></p>"
        + _button("add", f"/add/{product.number}", look.words["add"])
        + _button("favourite", f"/favourite/{product.number}", kept + look.words["favourite"])
        + note,
    )


def cart_page(look: Look, state: ShopState) -> str:
    by_number = {product.number: product for product in state.products}
    lines = "".join(
        f"<p>{escape(by_number[number].name)}: <b>{count}</b><br>"
        + _button(f"more-{number}", f"/more/{number}", "+")
        + _button(f"less-{number}", f"/less/{number}", "-")
        + _button(f"remove-{number}", f"/remove/{number}", look.words["remove"])
        + "</p>"
        for number, count in state.cart.items()
    )
    total = sum(by_number[number].price * count for number, count in state.cart.items())
    on = _chip("checkout", "/checkout", look.words["checkout"])
    end = f"<p>Total: <b>{total} €</b></p>{on}"
    return page(look, state, look.words["cart"], lines + end if lines else "<p>Nothing here yet.</p>")


def checkout_page(look: Look, state: ShopState) -> str:
    count = sum(state.cart.values())
    return page(look, state, "Your order", f"<p>{count} things.</p>" + _button("order", "/order", look.words["order"]))


def contact_page(look: Look, state: ShopState) -> str:
    form = (
        '<form method="post" action="/message"><textarea name="text" data-id="message" rows="4" '
        f'placeholder="Your message"></textarea><button data-id="send">{escape(look.words["send"])}</button></form>'
    )
    sent = f"<p>Thank you. Messages received: {len(state.messages)}</p>" if state.messages else ""
    return page(look, state, look.words["contact"], form + sent)


def settings_page(look: Look, state: ShopState) -> str:
    def tick(name: str, label: str, on: bool) -> str:
        return f'<label><input type="checkbox" name="{name}" data-id="{name}"{" checked" * on}> {label}</label>'

    languages = "".join(
        f'<label><input type="radio" name="language" value="{name}" data-id="language-{name}"'
        f"{' checked' * (state.language == name)}> {name}</label>"
        for name in LANGUAGES
    )
    form = (
        '<form method="post" action="/settings">'
        + tick("newsletter", "Newsletter", state.newsletter)
        + tick("large_text", "Large text", state.large_text)
        + languages
        + f'<button data-id="save">{escape(look.words["save"])}</button></form>'
    )
    leave = _button("delete", "/account/delete", look.words["delete"])
    return page(look, state, look.words["settings"], form + leave)


def note_page(look: Look, state: ShopState, title: str) -> str:
    return page(look, state, title, f'<p><a href="/" data-id="on">{escape(look.words["home"])}</a></p>')


def _chip(name: str, address: str, label: str) -> str:
    return f'<a class="chip" data-id="{quote(name)}" href="{escape(address)}">{escape(label)}</a>'


def _button(name: str, action: str, label: str) -> str:
    return f'<form class="row" method="post" action="{action}"><button data-id="{name}">{escape(label)}</button></form>'


def _drawing(product: Product, side: int) -> str:
    shape = (
        '<circle cx="20" cy="20" r="17"/>',
        '<rect x="4" y="4" width="32" height="32"/>',
        '<path d="M20 3 37 37H3z"/>',
    )
    drawn = shape[product.number % len(shape)]
    return f'<svg width="{side}" height="{side}" viewBox="0 0 40 40" fill="{product.colour}">{drawn}</svg>'
