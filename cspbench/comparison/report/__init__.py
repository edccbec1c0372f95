"""Methods compared on equal costs: word error rates with intervals, paired tests, verdicts, pictures.

`evaluate_finals` makes the tables of a comparison from its final trials, `write_evaluation` writes them down,
`load_evaluation` reads them back and `recorded_errors` gives the word errors that the tests were made from.
"""

from cspbench.comparison.report.evaluate import LAYERS, Evaluation, evaluate_finals
from cspbench.comparison.report.files import load_evaluation, recorded_errors, write_evaluation

__all__ = ["LAYERS", "Evaluation", "evaluate_finals", "load_evaluation", "recorded_errors", "write_evaluation"]
