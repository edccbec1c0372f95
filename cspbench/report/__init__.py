"""Results of a study: as DataFrames, tables, Pareto fronts, tests of significance, figures and a page.

Frames come from `load_results`, `load_curves`, `load_layers` and `load_hypotheses`; tables from `select_on_dev`,
`summary`, `fronts` and `display_rows`; figures from `figure` and the ``plot_...`` functions, which take frames and
return axes; answers on significance from `compare_trials`. `write_report` writes a report of all of it.

    >>> from cspbench import report
    >>> trials = report.load_results("smoke")
    >>> report.summary(trials)["method"].tolist()
    ['dense', 'csp', 'lottery', 'magnitude', 'movement']
    >>> report.plot_wer_vs_sparsity(trials).get_ylabel()
    'test WER (%)'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.lazy import lazy

if TYPE_CHECKING:
    from cspbench.report.bootstrap import PairedDifference, paired_bootstrap
    from cspbench.report.confusions import confused_words, worst_utterances
    from cspbench.report.display import display_rows
    from cspbench.report.figures import figure, heading, legend_handles, looks
    from cspbench.report.frames import load_curves, load_hypotheses, load_layers
    from cspbench.report.pareto import on_front, pareto_front
    from cspbench.report.plots import (
        plot_confused_words,
        plot_curves,
        plot_dev_vs_test,
        plot_differences,
        plot_latency_vs_sparsity,
        plot_layers,
        plot_wer_vs_latency,
        plot_wer_vs_sparsity,
    )
    from cspbench.report.results import load_results, where
    from cspbench.report.side_by_side import Difference, difference
    from cspbench.report.significance import compare_trials, holm, mapsswe
    from cspbench.report.table import fronts, select_on_dev, summary
    from cspbench.report.trial import Trial, find_trials
    from cspbench.report.write import write_report

_MODULES = {
    "results": ("load_results", "where"),
    "frames": ("load_curves", "load_hypotheses", "load_layers"),
    "trial": ("Trial", "find_trials"),
    "confusions": ("confused_words", "worst_utterances"),
    "side_by_side": ("Difference", "difference"),
    "table": ("fronts", "select_on_dev", "summary"),
    "display": ("display_rows",),
    "pareto": ("on_front", "pareto_front"),
    "figures": ("figure", "heading", "legend_handles", "looks"),
    "plots": (
        *("plot_confused_words", "plot_layers", "plot_curves", "plot_dev_vs_test", "plot_differences"),
        *("plot_latency_vs_sparsity", "plot_layers", "plot_wer_vs_latency", "plot_wer_vs_sparsity"),
    ),
    "bootstrap": ("PairedDifference", "paired_bootstrap"),
    "significance": ("compare_trials", "holm", "mapsswe"),
    "write": ("write_report",),
}
__all__ = [
    "Difference", "PairedDifference", "Trial", "compare_trials", "confused_words", "difference", "display_rows",
    "figure", "find_trials", "fronts", "heading", "holm", "legend_handles", "load_curves", "load_hypotheses",
    "load_layers", "load_results", "looks", "mapsswe", "on_front", "paired_bootstrap", "pareto_front",
    "plot_confused_words", "plot_curves", "plot_dev_vs_test", "plot_differences", "plot_latency_vs_sparsity",
    "plot_layers", "plot_wer_vs_latency", "plot_wer_vs_sparsity", "select_on_dev", "summary", "where",
    "worst_utterances", "write_report",
]  # fmt: skip

__getattr__ = lazy(__name__, {name: f"cspbench.report.{home}" for home, names in _MODULES.items() for name in names})
