"""The device as the other rooms see it: instructions, memory, arrays, and how a kernel is written and launched."""
