"""What will run, as pure data: an order of launches and a place for every tensor."""

from .join import Join
from .memory import Arena, place
from .plan import Location, Plan, PlannedLaunch, make_plan
from .schedule import schedule

__all__ = ["Arena", "Join", "Location", "Plan", "PlannedLaunch", "make_plan", "place", "schedule"]
