"""The paper's card and number games as Gymnasium environments drawn as pictures (needs the extra `agent`)."""

from clearsight.agent.games.base import Game
from clearsight.agent.games.play import GAMES, Blackjack, EZPoint, NumberLine, Point24
from clearsight.agent.games.table import Expert, Random, Table, play_game, success_rate

__all__ = [
    "GAMES",
    "Blackjack",
    "EZPoint",
    "Expert",
    "Game",
    "NumberLine",
    "Point24",
    "Random",
    "Table",
    "play_game",
    "success_rate",
]
