"""A subject whose module ends the process while it is loaded."""

import os

os._exit(3)
