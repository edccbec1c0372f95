"""The machine that work runs on: its processors, its CPU quota, and the locks that keep measurements undisturbed."""
