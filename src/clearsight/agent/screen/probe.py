"""The look into a page: what lies at a point, what has the focus. Its answers are data from the page, never trusted."""

from __future__ import annotations

from typing import Any

from clearsight.agent.screen.environment import Element, Target

Window = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the screen."""

# A link, button or field in words, with its middle; what is half hidden, or has another on top, is out of sight.
CONTROL = """e => {
  const kind = (e.type || '').toLowerCase();
  const button = e.tagName === 'BUTTON' || ['submit', 'button', 'image', 'reset'].includes(kind);
  const field = !button && (['INPUT', 'SELECT', 'TEXTAREA'].includes(e.tagName) || e.isContentEditable);
  const said = e.getAttribute('aria-label') || (field ? e.labels?.[0]?.innerText || e.placeholder || e.name
    : e.innerText || (button && e.value) || e.querySelector('img[alt]')?.alt) || e.title || '';
  const where = address => {
    if (!URL.canParse(address, document.baseURI)) return '';
    const url = new URL(address, document.baseURI);
    return url.origin === location.origin ? url.pathname + url.search : url.href;
  };
  const sends = button && e.form && kind !== 'button' && kind !== 'reset';
  const goal = e.tagName === 'A' ? e.href
    : sends ? e.getAttribute('formaction') || e.form.getAttribute('action') || location.href : null;
  const held = () => ['checkbox', 'radio'].includes(kind) ? (e.checked ? 'on' : 'off')
    : kind === 'password' || e.hasAttribute('data-clearsight-secret') ? (e.value && '***')
    : e.tagName === 'SELECT' ? e.selectedOptions[0]?.text || '' : (e.value ?? e.innerText).slice(0, 2000);
  const r = e.getBoundingClientRect(), x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
  const top = e.getRootNode().elementFromPoint(x, y), margin = Math.min(6, r.height / 2);
  const seen = y > margin && y < innerHeight - margin && top && (e === top || e.contains(top) || top.contains(e));
  return {
    label: said.slice(0, 2000),
    leads: goal === null ? '' : where(goal),
    value: field ? held() : null,
    seen: Boolean(seen), down: y >= innerHeight / 2, x, y,
  };
}"""

# What a page holds, in the order of its source: links, buttons and fields, and the text between them.
ELEMENTS = (
    """() => {
  const controls = 'a[href], button, input, select, textarea, summary, [onclick], [contenteditable=true], '
    + '[role=button], [role=link], [role=tab], [role=menuitem], [role=option], [role=checkbox], [role=switch]';
  const inWords = """
    + CONTROL
    + """;
  const found = [];
  let text = '';
  const flush = () => {
    const said = text.trim();
    if (said) found.push({label: said.slice(0, 2000)});
    text = '';
  };
  const control = e => {
    flush();
    if (e.type !== 'hidden' && !e.disabled) found.push(inWords(e));
  };
  const walk = node => {
    for (const e of node.childNodes) {
      if (e.nodeType === Node.TEXT_NODE) text += e.textContent.replace(/\\s+/g, ' ');
      if (e.nodeType !== Node.ELEMENT_NODE || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE'].includes(e.tagName)) continue;
      const style = getComputedStyle(e);
      if (e.tagName === 'BR') text += ' ';
      else if (e.tagName === 'IMG') text += ` ${e.alt} `;
      else if (style.display === 'none' || style.visibility === 'hidden') continue;
      else if (e.matches(controls)) control(e);
      else if (e.tagName === 'LABEL' && e.control) {
        // Its text is the field's name.
        if (e.contains(e.control)) control(e.control);
      } else {
        const inline = style.display.startsWith('inline') || style.display === 'contents';
        if (!inline) flush();
        walk(e.shadowRoot || e);
        if (!inline) flush();
      }
    }
  };
  walk(document.body);
  flush();
  return found.slice(0, 200);
}"""
)

# With a point: the element there; with null: the one that has the focus.
TARGET = """point => {
  let root = document, e;
  do {
    e = point ? root.elementFromPoint(point[0], point[1]) : root.activeElement;
    root = e && e.shadowRoot;
  } while (root && (point ? root.elementFromPoint(point[0], point[1]) : root.activeElement));
  if (!e) return null;
  /*ELEMENT*/
  if (e.tagName === 'IFRAME' || e.tagName === 'FRAME') return {frame: true};
  const label = e.closest('label');
  if (label && label.control && !e.closest('a, button, input, select, textarea')) e = label.control;
  e = e.closest('a, button, input, select, textarea, [role=button], [role=link], [onclick], summary') || e;
  const text = x => (x.getAttribute('aria-label') || x.innerText || x.value || x.title || x.alt
    || x.querySelector('img[alt]')?.alt || '').slice(0, 200);
  const named = x => [text(x), x.name, x.id].filter(Boolean).join(' ').slice(0, 300);
  const type = (e.type || '').toLowerCase();
  const button = e.tagName === 'BUTTON' || ['submit', 'button', 'image', 'reset'].includes(type);
  const field = !button && ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.tagName) || e.isContentEditable;
  const form = e.form || e.closest('form');
  const found = {tag: e.tagName.toLowerCase(), type, 
    label: !field ? named(e)
      : e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.placeholder || e.name || ''};
  const link = e.closest('a[href]');
  found.kind = link ? 'link' : field ? 'field' : button && form && type !== 'button' && type !== 'reset' ? 'submit'
    : button ? 'button' : e.onclick || e.getAttribute('role') ? 'button' : '';
  if (link) found.link = link.href;
  if (field) found.value = type === 'password' ? null
    : ['checkbox', 'radio'].includes(type) ? String(e.checked) : (e.value ?? e.innerText);
  if (form) {
    const chosen = button ? e : form.querySelector('button:not([type=button]), input[type=submit], input[type=image]');
    const own = chosen && chosen.hasAttribute('formaction');
    const method = (chosen && chosen.getAttribute('formmethod') || form.getAttribute('method') || 'get').toLowerCase();
    const action = own ? chosen.formAction : new URL(form.getAttribute('action') || '', document.baseURI).href;
    found.form = (method === 'get' ? '' : 'POST ') + action;
    found.submit = chosen ? named(chosen) : '';
    found.field = [...form.elements].map(x => [x.type, x.autocomplete, x.name].join(' ')).join(' ').slice(0, 500);
  }
  return found;
}"""

FOCUS = """() => {
  const e = document.activeElement || document.body;
  const value = e.type === 'password' ? '*'.repeat((e.value || '').length) : (e.value ?? '');
  return [e.tagName, e.id, e.name, e.checked ?? '', value, window.scrollY].join(' ').slice(0, 300);
}"""


def target_of(found: dict[str, Any] | None) -> Target:
    """A page may have put anything in its answer; only texts are taken."""
    if not found:
        return Target()
    names = ("kind", "label", "link", "form", "submit", "field")
    values = {name: found[name][:2000] for name in names if isinstance(found.get(name), str)}
    if not values.get("kind"):
        values["kind"] = str(found.get("tag") or "")[:40]
    value = found.get("value")
    return Target(**values, value=value[:4000] if isinstance(value, str) else None)


def elements_of(
    found: Any, size: tuple[int, int], offset: tuple[float, float] = (0, 0), window: Window | None = None
) -> list[Element]:
    """What ELEMENTS answered, as elements of a screen of this width and height.

    offset: of the page on the screen, in pixels. window: what is in sight of it; None for the whole screen.
    """
    window = window or (0, 0, *size)
    return [_element(item, size, offset, window) for item in found or () if isinstance(item, dict)]


def _element(item: dict[str, Any], size: tuple[int, int], offset: tuple[float, float], window: Window) -> Element:
    label, leads, value = (str(item.get(name) or "")[:2000] for name in ("label", "leads", "value"))
    held = value if isinstance(item.get("value"), str) else None
    if "seen" not in item:
        return Element(label)
    place = _place((item.get("x"), item.get("y")), offset)
    if item["seen"] is True and place and _within(place, window):
        across, down = (round(1000 * part / side) for part, side in zip(place, size, strict=True))
        return Element(label, leads, held, (across, down))
    below = place[1] >= size[1] / 2 if place and item["seen"] is True else item.get("down")
    return Element(label, leads, held, away="below" if below else "above")


def _place(place: tuple[Any, Any], offset: tuple[float, float]) -> tuple[float, float] | None:
    """In pixels of the screen, None if that is no place."""
    if not all(isinstance(part, (int, float)) and abs(part) < 1e6 for part in place):
        return None
    return place[0] + offset[0], place[1] + offset[1]


def _within(place: tuple[float, float], window: Window) -> bool:
    return window[0] <= place[0] <= window[2] and window[1] <= place[1] <= window[3]
