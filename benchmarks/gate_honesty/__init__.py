"""Gate Honesty: are injected defects stopped, is clean work let through, and does production get what was claimed?

`python -m benchmarks.gate_honesty` runs all of it; `docs/benchmarks.md` says what is measured, how, and what it is not.
"""
