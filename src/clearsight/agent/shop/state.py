"""What a shop knows: its products, and everything a visitor has done. Tasks check themselves by it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from clearsight.agent.shop.look import Split

CATEGORIES = ("Kitchen", "Garden", "Sport", "Office")
LIMITS = (20, 50)
LANGUAGES = ("English", "German", "French")
COLOURS = ("red", "blue", "green", "orange", "purple", "teal")

_NOUNS: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "Kitchen": tuple("Mug Bowl Kettle Plate Pan Ladle Grater Jug Toaster Knife Apron".split()),
        "Garden": tuple("Spade Hose Bench Lantern Pot Hammock Shovel Fence Planter Gnome Shears".split()),
        "Sport": tuple("Ball Racket Rope Helmet Skates Whistle Kayak Dumbbell Goggles Net Surfboard".split()),
        "Office": tuple("Lamp Stapler Folder Chair Pen Notebook Clip Printer Calendar Eraser Shelf".split()),
    },
    "test": {
        "Kitchen": ("Whisk", "Teapot", "Sieve"),
        "Garden": ("Rake", "Trellis", "Bucket"),
        "Sport": ("Paddle", "Snorkel", "Mat"),
        "Office": ("Ruler", "Desk", "Binder"),
    },
}
_STYLES: dict[Split, tuple[str, ...]] = {
    "train": (
        *"Oak Steel Blue Round Tall Light Soft Red Bamboo Velvet Yellow Tiny Heavy".split(),
        *"Quick Vintage Nordic Folding Jumbo Glass Marble Zinc Happy Wide Extra".split(),
    ),
    "test": ("Copper", "Slim", "Green", "Royal"),
}


@dataclass(frozen=True, slots=True)
class Product:
    """price: in whole euros."""

    number: int
    name: str
    category: str
    price: int
    colour: str


@dataclass(slots=True)
class ShopState:
    """cart: product number to how many. searches, lists and viewed: what was asked for and opened, in order.

    lists: (category, upper price or 0, whether sorted by price).
    """

    products: tuple[Product, ...]
    cart: dict[int, int] = field(default_factory=dict)
    favourites: set[int] = field(default_factory=set)
    orders: list[dict[int, int]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    lists: list[tuple[str, int, bool]] = field(default_factory=list)
    viewed: list[int] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    newsletter: bool = False
    large_text: bool = False
    language: str = "English"
    deleted: bool = False

    def find(self, words: str = "", category: str = "", below: int = 0, cheap: bool = False) -> list[Product]:
        """Products for a list page."""
        found = [
            product
            for product in self.products
            if words.lower() in product.name.lower()
            and category in ("", product.category)
            and (not below or product.price < below)
        ]
        return sorted(found, key=lambda product: product.price) if cheap else found

    def put(self, number: int, change: int) -> None:
        """Change how many of a product are in the cart; none left takes it out."""
        count = min(9, self.cart.get(number, 0) + change)
        self.cart.pop(number, None)
        if count > 0:
            self.cart[number] = count

    def order(self) -> None:
        if self.cart:
            self.orders.append(dict(self.cart))
            self.cart.clear()


def draw_products(rng: random.Random, split: Split, count: int = 8) -> tuple[Product, ...]:
    """Products with names, and within a category prices, that are all different; two of each category."""
    made: list[Product] = []
    taken: set[tuple[str, int]] = set()
    for number in range(count):
        category = CATEGORIES[number % len(CATEGORIES)]
        names = {product.name for product in made}
        while (name := f"{rng.choice(_STYLES[split])} {rng.choice(_NOUNS[split][category])}") in names:
            pass
        while (category, price := rng.randint(3, 90)) in taken:
            pass
        taken.add((category, price))
        made.append(Product(number, name, category, price, rng.choice(COLOURS)))
    rng.shuffle(made)
    return tuple(made)
