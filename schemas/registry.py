"""Importing this module declares every message; then `EVENTS` and `COMMANDS` are complete."""

from schemas import commands as commands
from schemas import drive as drive
from schemas import forking as forking
from schemas import model_messages as model_messages
from schemas import session as session
from schemas import system as system
from schemas.messages import COMMANDS as COMMANDS
from schemas.messages import EVENTS as EVENTS
