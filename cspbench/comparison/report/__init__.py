"""Methods compared on equal costs: word error rates with intervals, paired tests, verdicts, pictures.

`evaluate_finals` makes the tables of a comparison from its final trials, `write_evaluation` writes them down,
`load_evaluation` reads them back and `recorded_errors` gives the word errors that the tests were made from.
"""

from typing import TYPE_CHECKING

from cspbench.comparison.report.evaluate import LAYERS, Evaluation, evaluate_finals
from cspbench.comparison.report.files import load_evaluation, recorded_errors, write_evaluation
from cspbench.lazy import lazy

if TYPE_CHECKING:
    from cspbench.comparison.report.drawing import styles
    from cspbench.comparison.report.figures import pictures
    from cspbench.comparison.report.page import rival_names, verdict_row

__all__ = [
    "LAYERS", "Evaluation", "evaluate_finals", "load_evaluation", "pictures", "recorded_errors", "rival_names",
    "styles", "verdict_row", "write_evaluation",
]  # fmt: skip

# What draws is imported when it is first asked for.
__getattr__ = lazy(
    __name__,
    {
        "styles": "cspbench.comparison.report.drawing",
        "pictures": "cspbench.comparison.report.figures",
        "rival_names": "cspbench.comparison.report.page",
        "verdict_row": "cspbench.comparison.report.page",
    },
)
