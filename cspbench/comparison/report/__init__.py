"""Methods compared on equal budgets: word error rates with intervals, paired tests, verdicts, pictures.

`compare` makes the tables of a comparison from its final trials, `write_comparison` writes them down,
`load_comparison` reads them back and `recorded_errors` gives the word errors that the tests were made from.
"""

from cspbench.comparison.report.evaluate import Comparison, compare
from cspbench.comparison.report.files import load_comparison, recorded_errors, write_comparison

__all__ = ["Comparison", "compare", "load_comparison", "recorded_errors", "write_comparison"]
