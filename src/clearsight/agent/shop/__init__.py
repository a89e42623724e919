"""A demo shop, served on this machine, with seeded tasks that check themselves by its state."""

from clearsight.agent.shop.chance import Chance
from clearsight.agent.shop.oracle import Oracle
from clearsight.agent.shop.run import ACTIONS, Attempt, Tasks
from clearsight.agent.shop.server import Shop
from clearsight.agent.shop.tasks import KINDS, ShopTask, draw_task, draw_tasks

__all__ = ["ACTIONS", "KINDS", "Attempt", "Chance", "Oracle", "Shop", "ShopTask", "Tasks", "draw_task", "draw_tasks"]
