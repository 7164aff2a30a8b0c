"""A subject whose module never finishes loading."""

import time

while True:
    time.sleep(0.01)
