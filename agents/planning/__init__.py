"""The parts of the planner that asks a model: its tools, its memory, what it is told, when it is stopped."""
