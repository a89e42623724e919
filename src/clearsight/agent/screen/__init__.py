"""Operating screens: browsers and Android devices behind one small protocol, with a loop that can be trusted."""

from clearsight.agent.screen.actions import Action, ActionError
from clearsight.agent.screen.browser import Browser
from clearsight.agent.screen.environment import Element, Environment, Request, ScreenError, ScreenGone, State, Target
from clearsight.agent.screen.guard import Guard
from clearsight.agent.screen.operator import Ended, Operator, Step
from clearsight.agent.screen.secrets import Secrets

__all__ = [
    "Action",
    "ActionError",
    "Browser",
    "Element",
    "Ended",
    "Environment",
    "Guard",
    "Operator",
    "Request",
    "ScreenError",
    "ScreenGone",
    "Secrets",
    "State",
    "Step",
    "Target",
]
