"""Names of people, places, goods and things, split between training and test by the rule of all texts."""

from __future__ import annotations

import random
from functools import cache

from .sample import Split, belongs
from .tokens import coin

_LISTS = {
    "first": "Ada Anna Ben Carl Clara Dana David Elena Emma Eva Felix Finn Grace Hana Hugo Ida Ines Ivan Jack Jana"
    " Joan John Julia Karin Kofi Lara Leo Lena Lily Liam Luca Maria Marco Maya Mina Nadia Nina Noah Nora Oscar Omar"
    " Paul Petra Priya Raj Rita Rosa Sara Sam Simon Sofia Tara Tom Tina Uma Vera Victor Wanda Will Yara Yuki Zoe",
    "last": "Adams Baker Bauer Brown Carter Chen Clark Cruz Davis Diaz Evans Fischer Ford Garcia Gray Green Hall Hill"
    " Hughes Jensen Jones Kaya Keller Khan Kim King Klein Kumar Lang Lee Lopez Mann Martin Meyer Miller Mori Moss Nolan"
    " Novak Owens Park Patel Perez Price Reed Rossi Sato Scott Shah Silva Singh Stone Tanaka Taylor Wagner Ward Weber"
    " White Wolf Wood Young Zhang",
    "city": "Athens Berlin Boston Cairo Chicago Dallas Delhi Denver Dublin Geneva Hanoi Havana Lagos Lima Lisbon London"
    " Lyon Madrid Manila Miami Milan Munich Nairobi Oslo Paris Perth Prague Quito Rome Riga Seoul Sofia Sydney Tokyo"
    " Toronto Tunis Turin Vienna Warsaw York Zurich Bergen Porto Austin Bremen Bristol Cologne Dakar Leeds Malmo",
    "goods": "apples bananas bread butter cheese chicken coffee cookies cream eggs fish flour grapes ham honey juice"
    " lemons milk nuts olives onions oranges pasta pears pepper pizza plums potatoes rice salad salt sandwich soap soup"
    " sugar tea tomatoes towel tuna water yogurt batteries candles cups gloves notebook paper pencils plates socks",
    "shop": "Corner Market,Green Basket,City Store,Blue Bakery,Book Nook,Fresh Farm,Happy Mart,Harbour Cafe,Hill Shop,"
    "Jolly Deli,Lake Grocery,Moon Cafe,North Foods,Oak Market,Old Mill,Park Kiosk,Quick Stop,Red Apple,River Deli,"
    "Rose Bakery,Star Mart,Sun Cafe,Super Save,Town Pharmacy,Village Store,West Market,Wood Tools",
    "month": "Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec",
    "series": "North,South,East,West,Red team,Blue team,Books,Toys,Games,Music,Sport,Food,Cars,Bikes,Trains,Planes,"
    "Power,Water,Gas,Fruit,Meat,Bread,Milk,Tea,Coffee,Juice,Shoes,Hats,Coats,Phones,Laptops,Tablets,Cats,Dogs,Birds,"
    "Gold,Iron,Wood,Stone,Oil,Wind,Solar,Coal",
    "topic": "Sales,Visitors,Rainfall,Exports,Members,Orders,Costs,Profit,Energy use,Tickets,Students,Population,Steps,"
    "Downloads,Deliveries,Repairs,Harvest,Traffic,Savings,Income",
    "street": "Main Street,Oak Road,Hill Lane,Park Avenue,Mill Street,Lake Drive,Church Road,Station Road,King Street,"
    "Rose Lane,River Road,Garden Way,High Street,West Avenue,School Lane",
    "tick": "newsletter,member,express,insured,gift wrap,invoice,student,smoker,vegetarian,pets,parking,breakfast,"
    "returning,fragile",
}  # fmt: skip


_COINED_SHARE = 0.6
_KNOWN = frozenset({"month", "tick"})  # these are told apart, not spelled


@cache
def names(kind: str, split: Split) -> tuple[str, ...]:
    """The names of `kind` that may be drawn in `split`."""
    text = _LISTS[kind]
    chosen = tuple(name for name in (text.split(",") if "," in text else text.split()) if belongs(name, split))
    assert chosen, f"no {kind} is left for {split}"
    return chosen


def pick(rng: random.Random, kind: str, split: Split, number: int = 1) -> list[str]:
    """`number` different names of `kind`; a test sample fills up with training names where too few are held out.

    In training most are coined, so that a name has to be read to be told.
    """
    own = list(names(kind, split))
    if number <= len(own):
        chosen = rng.sample(own, number)
    else:
        others = [name for name in names(kind, "train") if name not in own]
        chosen = own + rng.sample(others, number - len(own))
        rng.shuffle(chosen)
    if split == "test" or kind in _KNOWN:
        return chosen
    coined = dict.fromkeys(_coined(rng, name) for name in chosen)
    return list(coined) if len(coined) == number else chosen


def _coined(rng: random.Random, name: str) -> str:
    """`name` with most of its words exchanged for some that do not exist, with a capital where they have one."""
    while True:
        parts = [part if rng.random() >= _COINED_SHARE else _like(part, coin(rng)) for part in name.split()]
        if belongs(made := " ".join(parts), "train"):
            return made


def _like(part: str, word: str) -> str:
    return word.capitalize() if part[0].isupper() else word


def person(rng: random.Random, split: Split) -> str:
    return f"{pick(rng, 'first', split)[0]} {pick(rng, 'last', split)[0]}"
