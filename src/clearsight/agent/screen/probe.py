"""The look into a page: what lies at a point, what has the focus. Its answers are data from the page, never trusted."""

from __future__ import annotations

from typing import Any

from clearsight.agent.screen.environment import Target

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
  const text = x => (x.getAttribute('aria-label') || x.innerText || x.value || x.title || x.alt || '').slice(0, 200);
  const named = x => [text(x), x.name, x.id].filter(Boolean).join(' ').slice(0, 300);
  const type = (e.type || '').toLowerCase();
  const button = e.tagName === 'BUTTON' || ['submit', 'button', 'image', 'reset'].includes(type);
  const field = !button && ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.tagName) || e.isContentEditable;
  const form = e.form || e.closest('form');
  const found = {tag: e.tagName.toLowerCase(), type, 
    label: field ? (e.labels?.[0]?.innerText || e.placeholder || e.name || '') : named(e)};
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
