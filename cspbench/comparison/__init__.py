"""Methods compared on equal costs: what to run, which settings to take, what came out."""
