"""Methods compared on equal budgets: what to run, which settings to take, what came out."""
