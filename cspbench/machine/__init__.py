"""The machine that work runs on: who has it, and what it is."""
