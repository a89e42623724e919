"""How a shop looks and speaks: colours, places and words drawn from a seed; some are kept for the test split."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]

# (background, ink, accent, card)
_PALETTES = {
    "train": (
        ("#ffffff", "#202124", "#1a56db", "#f1f5f9"),
        ("#fdf6e3", "#3b3a32", "#b45309", "#f5ead0"),
        ("#f7f7fb", "#1f1b2e", "#7c3aed", "#ecebf7"),
        ("#ffffff", "#102a1e", "#047857", "#e8f5ef"),
        ("#1e2430", "#eceff4", "#3b82f6", "#2b3342"),
        ("#fffafa", "#2b1a1a", "#be123c", "#fbe9ec"),
    ),
    "test": (("#f0fbff", "#0b2b36", "#0e7490", "#dcf1f7"), ("#241a2f", "#f4eefb", "#c026d3", "#33263f")),
}
_FONTS = {"train": ("sans-serif", "serif", "Arial, sans-serif"), "test": ("monospace", "Georgia, serif")}
_PLACES = {"train": ("top", "bottom"), "test": ("left",)}
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "home": ("Home", "Shop", "Start", "All products", "Welcome", "Main page"),
        "cart": ("Cart", "Basket", "Trolley", "My cart", "Chosen things"),
        "contact": ("Contact", "Write to us", "Help", "Ask us", "Feedback"),
        "settings": ("Settings", "Account", "Options", "My profile", "Configure"),
        "search": ("Search", "Find a product", "What do you need?", "Type here", "Product name"),
        "add": ("Add to cart", "Put in cart", "Add", "I want it", "Choose", "Take one"),
        "favourite": ("Favourite", "Keep", "Like", "Star it", "Save for later"),
        "remove": ("Remove", "Take out", "Delete", "Clear", "x"),
        "checkout": ("Checkout", "To checkout", "Continue", "Next", "Complete the order"),
        "order": ("Place order", "Order now", "Confirm", "Finish", "Yes, send it"),
        "send": ("Send", "Send message", "Off it goes", "Mail it", "Done"),
        "save": ("Save", "Save changes", "Store", "Keep this", "OK"),
        "delete": ("Delete account", "Delete my account", "Close account", "Leave for good", "Erase me"),
        "cheap": ("Cheapest first", "Sort by price", "By price", "Cheap to dear", "Order by cost"),
    },
    "test": {
        "home": ("Front page",),
        "cart": ("Bag",),
        "contact": ("Get in touch",),
        "settings": ("Preferences",),
        "search": ("Look for",),
        "add": ("Add to bag", "Into the cart"),
        "favourite": ("Remember",),
        "remove": ("Drop",),
        "checkout": ("Go and pay",),
        "order": ("Buy",),
        "send": ("Submit",),
        "save": ("Apply changes",),
        "delete": ("Remove account",),
        "cheap": ("Low price first",),
    },
}


@dataclass(frozen=True, slots=True)
class Look:
    """words: what each button and link is called. place, order: of the navigation. columns: of the products."""

    background: str
    ink: str
    accent: str
    card: str
    font: str
    place: str
    order: tuple[str, ...]
    words: dict[str, str]
    columns: int
    radius: int


def draw_look(rng: random.Random, split: Split) -> Look:
    background, ink, accent, card = rng.choice(_PALETTES[split])
    order = ["home", "cart", "contact", "settings"]
    rng.shuffle(order)
    return Look(
        background=background,
        ink=ink,
        accent=accent,
        card=card,
        font=rng.choice(_FONTS[split]),
        place=rng.choice(_PLACES[split]),
        order=tuple(order),
        words={name: rng.choice(choices) for name, choices in _WORDS[split].items()},
        columns=rng.choice((1, 2)),
        radius=rng.choice((0, 4, 12)),
    )
