"""Which actions need a person's yes: judged by what they would do, never by what a page or the model says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from clearsight.agent.screen.actions import Action
from clearsight.agent.screen.environment import Request, Target

RISKS = ("spend", "send", "delete", "leave")

# Word stems in the languages the guard knows. A false alarm costs a question, a miss may cost money.
_STEMS = {
    "spend": r"""buy pay order checkout purchas donat subscrib upgrad bid\b bet\b transfer withdraw deposit
        book[\s_-]now kauf bezahl bestell spend achet paie commande compra pagar pedido acquist paga betal koop kup
        zapla zam[oó]w 购买 支付 付款 下单 結帳 注文 購入 支払 결제 구매 купить оплат заказ اشتر ادفع""",
    "send": r"""send submit post\b publish share repl[yi] messag mail invit comment contact sign[\s_-]?up register
        absend teilen envoy enviar inviar verstu wy[sś]lij upload tweet 发送 提交 发布 送信 投稿 전송 보내
        отправ ارسل""",
    "delete": r"""delet remov eras\w discard cancel[\s_-]\w deactivat terminat unsubscrib wipe purge destroy revoke
        (?:close|clear|reset)[\s_-](?:all|account|data|history) l[oö]sch entfern supprim efface elimin borrar
        verwijder usu[nń] 删除 移除 清空 削除 삭제 удал حذف""",
}
_WORDS = {
    risk: re.compile("|".join(rf"(?:(?<![a-z]){stem})" for stem in stems.split()), re.IGNORECASE)
    for risk, stems in _STEMS.items()
}
_CARD = re.compile(r"cc-|card|iban", re.IGNORECASE)

Ask = Callable[[str], bool]


def nobody(question: str) -> bool:
    """With nobody to ask the answer is no."""
    return False


@dataclass(slots=True)
class Guard:
    """sites: hosts (or app names) where the run may go; a host covers its subdomains and, without a port, all ports.

    confirm: the risks that need a yes; without "leave", any site is open. ask: puts the question to a person. Answers
    hold for one action; a yes to leave adds that one host.
    """

    sites: set[str] = field(default_factory=set)
    confirm: frozenset[str] = frozenset(RISKS)
    ask: Ask = nobody
    _agreed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        unknown = sorted(self.confirm - set(RISKS))
        if unknown:
            raise ValueError(f"unknown risk {unknown[0]!r}; the risks are {', '.join(RISKS)}")

    def new_action(self) -> None:
        """Forget what was agreed to for the last one."""
        self._agreed.clear()

    def check(self, action: Action, target: Target) -> str | None:
        """None if the action may be carried out, else why not, for the model."""
        for risk in sorted(self.risks(action, target), key=RISKS.index):
            what = f"{action.name} on {quoted(target.label or target.submit or target.kind or 'the screen')}"
            if target.form or target.link:
                what += f", which leads to {quoted(target.form or target.link)}"
            if not self._agree(risk, f"The model wants to do this: {what}. It may {risk}. Allow it?"):
                return f"not done: it may {risk}, and that needs a person's yes, which was not given"
            if risk == "leave":
                self._open(target.link or target.form.removeprefix("POST "))
        return None

    def risks(self, action: Action, target: Target) -> set[str]:
        """What an action might do that needs a yes."""
        by_key = action.name == "Enter" or (action.name == "Key" and action.key == "Space")
        if action.name not in ("Click", "LongPress") and not by_key:
            return set()
        submits = bool(target.form) and (by_key or target.kind == "submit")
        # A field is not what it asks for: clicking into "Message" sends nothing.
        texts = [target.label] if target.kind != "field" else []
        texts += [target.submit, path_of(target.form)] if submits else []
        texts += [path_of(target.link)] if target.link else []
        found = risks_in(texts)
        if submits and _CARD.search(target.field):
            found.add("spend")
        if target.kind == "link":
            # Following a link sends nothing, whatever it is called.
            found.discard("send")
        leads = [target.link, target.form.removeprefix("POST ") if submits else ""]
        if any(place and not self.inside(place) for place in leads):
            found.add("leave")
        return found & self.confirm

    def decide(self, request: Request) -> bool:
        """Whether a screen may do of itself what it is about to."""
        if request.kind == "go":
            if "leave" not in self.confirm or self.inside(request.detail):
                return True
            if self._agree("leave", f"The page wants to go to {quoted(request.detail)}. Allow it?"):
                self._open(request.detail)
                return True
            return False
        if request.kind == "dialog":
            return self._agree("dialog", f"The page asks: {quoted(request.detail)}. Answer with yes?")
        risks = risks_in([path_of(request.detail)]) & self.confirm
        return all(
            self._agree(risk, f"The page is sending something to {quoted(request.detail)}. It may {risk}. Allow it?")
            for risk in sorted(risks)
        )

    def inside(self, place: str) -> bool:
        """Whether an address, or an app's name, is one of the allowed."""
        parts = urlsplit(place)
        if parts.scheme in ("about", "chrome-error"):
            return True
        if parts.scheme not in ("http", "https"):
            return place in self.sites
        host = (parts.hostname or "").lower()
        at_port = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        return at_port in self.sites or any(host == site or host.endswith(f".{site}") for site in self.sites)

    def _agree(self, risk: str, question: str) -> bool:
        if risk in self._agreed or self.ask(question):
            self._agreed.add(risk)
            return True
        return False

    def _open(self, place: str) -> None:
        self.sites.add((urlsplit(place).hostname or place).lower())


def risks_in(texts: Iterable[str]) -> set[str]:
    """Risks that these texts name."""
    return {risk for risk, words in _WORDS.items() if any(words.search(text) for text in texts)}


def path_of(address: str) -> str:
    """What an address says it does: its path, without the host, so that a shop called "Order" is no risk in itself."""
    return unquote(urlsplit(address.removeprefix("POST ")).path)


def quoted(text: str, limit: int = 80) -> str:
    """A text of a page as it may stand in a sentence: one line, in quotes, short, without marks that steer models."""
    shown = "".join(c if c.isprintable() and c not in "<>✿|" else " " for c in text)
    shown = " ".join(shown.split())
    return json.dumps(shown if len(shown) <= limit else shown[: limit - 1] + "…", ensure_ascii=False)
