import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib.colors as colours
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from support.fake_studies import finish, record, result, spec, word_errors, write_study

from cspbench import load_results
from cspbench.report.figures import PANELS, draw, figure, heading, legend_handles, looks, save
from cspbench.report.pareto import on_front
from cspbench.report.table import summary
from cspbench.store import Store

SPARSITY, LATENCY, BOTH = PANELS


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    write_study(root)
    return load_results("demo", root)


def axes_of(frame, panel):
    axes = Figure().subplots()
    draw(axes, frame, panel)
    return axes


def scattered(axes, size):
    """Positions of all marks of one size, a list of (n, 2)."""
    marks = [item for item in axes.collections if isinstance(item, PathCollection)]
    return [item.get_offsets() for item in marks if item.get_sizes().tolist() == [size]]


def rings(axes):
    (places,) = scattered(axes, 120)
    return places


def line(axes, method):
    colour = looks([method])[method].colour
    return next(item for item in axes.lines if item.get_color() == colour and len(item.get_xdata()) > 1)


def test_a_method_looks_the_same_in_every_study():
    assert looks(["csp", "zzz"])["csp"] == looks(["aaa", "csp", "movement"])["csp"]
    many = looks([f"m{i}" for i in range(20)])
    assert len({(look.colour, look.marker) for look in many.values()}) == len(many)


def test_neighbouring_colours_differ_for_the_colour_blind():
    """Luminance and the blue-yellow channel survive red-green blindness; the first methods differ in one of them."""
    rgb = np.array([colours.to_rgb(look.colour) for look in looks([]).values()])
    seen = np.stack([rgb @ [0.299, 0.587, 0.114], rgb[:, 2] - rgb[:, :2].mean(1)], axis=1)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert distance[~np.eye(len(seen), dtype=bool)].min() > 0.1


def test_lines_go_through_the_means_of_seeds_in_percent(frame):
    axes = axes_of(frame, LATENCY)
    expected = 100 * frame.query("method == 'csp'").groupby("sparsity_requested")["wer"].mean()
    assert line(axes, "csp").get_ydata() == pytest.approx(expected.to_numpy())
    assert "WER (%)" in axes.get_ylabel()
    assert axes.get_xlabel() == "latency (µs per model step)"
    axes.figure.canvas.draw()
    assert "200" in [tick.get_text() for tick in axes.get_xticklabels()]


def test_sparsity_ticks_are_those_drawn_and_methods_do_not_hide_each_other(frame):
    axes = axes_of(frame, SPARSITY)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "50", "75", "90"]
    places = [line(axes, method).get_xdata()[0] for method in ("csp", "lottery", "magnitude", "movement")]
    assert np.diff(places).min() > 0.04
    assert np.mean(places) == pytest.approx(1.0)  # a half is one halving


def test_every_seed_is_a_dot(frame):
    assert sum(map(len, scattered(axes_of(frame, LATENCY), 14))) == len(frame)


def test_one_seed_needs_no_dots(tmp_path):
    write_study(tmp_path, seeds=[0])
    axes = axes_of(load_results("demo", tmp_path), LATENCY)
    assert not scattered(axes, 14)


def test_rings_are_the_front(frame):
    table = summary(frame)
    front = table[on_front(table, LATENCY.front)]
    assert set(front["method"]) == {"dense", "csp"}
    drawn = rings(axes_of(frame, LATENCY))
    assert sorted(drawn[:, 1]) == pytest.approx(sorted(100 * front["wer"]))
    assert len(rings(axes_of(frame, BOTH))) == len(front)


def test_front_of_sparsity_prefers_more_sparsity():
    cells = pd.DataFrame({"sparsity": [0.5, 0.9, 0.5], "test_wer": [0.1, 0.1, 0.05], "latency_ms": [1.0, 1.0, 1.0]})
    assert on_front(cells, SPARSITY.front).tolist() == [False, True, True]


def test_dense_is_a_line_across(frame):
    axes = axes_of(frame, SPARSITY)
    assert any(
        item.get_linestyle() == "--" and list(item.get_ydata()) == pytest.approx([2.0, 2.0]) for item in axes.lines
    )


@pytest.mark.parametrize(
    ("wers", "scale"), [((0.05, 0.2), "linear"), ((0.02, 0.9), "log"), ((0.0, 0.9, 0.01), "symlog")]
)
def test_the_scale_fits_the_range(tmp_path, wers, scale):
    store = Store(tmp_path)
    for sparsity, wer in zip((0.5, 0.75, 0.9), wers, strict=False):
        trial = spec("csp", sparsity)
        finish(store, "s", trial, result(trial, wer, dense=wers[0], test=word_errors(wer)))
    axes = axes_of(load_results("s", tmp_path), SPARSITY)
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low <= 100 * min(wers)
    assert high >= 100 * max(wers)
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3


def test_many_sparsities_are_not_joined(tmp_path):
    write_study(tmp_path, methods=["csp"], sparsities=np.linspace(0.4, 0.95, 15).round(3).tolist(), seeds=[0])
    axes = axes_of(load_results("demo", tmp_path), SPARSITY)
    assert line(axes, "csp").get_linestyle() == "None"
    assert len(axes.get_xticklabels()) <= 8


def test_failed_trials_do_not_disturb(tmp_path):
    store = write_study(tmp_path, methods=["csp"], seeds=[0])
    record(store, "demo", spec("lottery", 0.9), "failed", "boom")
    axes = axes_of(load_results("demo", tmp_path), LATENCY)
    assert not [item for item in axes.lines if item.get_color() == looks(["lottery"])["lottery"].colour]


def test_corpora_do_not_share_axes(tmp_path):
    store = Store(tmp_path)
    for corpus in ("an4", "fsdd"):
        trial = spec(corpus=corpus)
        finish(store, "s", trial, result(trial, 0.1))
    with pytest.raises(ValueError, match=r"one corpus and schema version a picture.*an4.*fsdd"):
        axes_of(load_results("s", tmp_path), SPARSITY)


def test_synthetic_speech_is_named_in_the_title(tmp_path, frame):
    write_study(tmp_path, synthetic=True)
    assert heading(load_results("demo", tmp_path), "x") == "x: fsdd (synthetic speech)"
    assert "synthetic" not in heading(frame, "x")
    assert "synthetic speech" in figure(load_results("demo", tmp_path)).get_suptitle()


def test_the_figure_says_how_to_read_it(frame):
    picture = figure(frame, title="demo")
    caption = " ".join(text.get_text().replace("\n", " ") for text in picture.texts)
    for words in ("test set", "95 % bootstrap", "Dots: seeds", "chosen by dev WER", "95th percentile"):
        assert words in caption
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert labels == ["csp", "magnitude", "movement", "lottery", "dense", "Pareto front"]
    assert labels == [handle.get_label() for handle in legend_handles(frame)]


@pytest.mark.parametrize("panels", [[SPARSITY], PANELS])
def test_nothing_lies_on_top_of_anything(frame, panels):
    picture = figure(frame, panels, "demo")
    picture.canvas.draw()
    legend = picture.legends[0].get_window_extent()
    caption = next(text for text in picture.texts if "chosen by dev" in text.get_text()).get_window_extent()
    boxes = [axes.get_tightbbox() for axes in picture.axes]
    assert legend.y0 >= caption.y1
    assert caption.y0 >= 0
    assert min(box.y0 for box in boxes) >= legend.y1
    for left, right in pairwise(boxes):
        assert left.x1 <= right.x0
    assert legend.x0 >= 0
    assert legend.x1 <= picture.bbox.x1


def test_files_are_written_twice_alike(frame, tmp_path):
    first = [path.read_bytes() for path in save(figure(frame, [SPARSITY], "demo"), tmp_path / "a" / "one")]
    second = [path.read_bytes() for path in save(figure(frame, [SPARSITY], "demo"), tmp_path / "b" / "one")]
    assert first == second
    assert first[0].startswith(b"\x89PNG")
    assert ET.fromstring(first[1]).tag.endswith("svg")


def test_a_cell_that_violates_a_constraint_is_drawn_open_and_not_ringed(frame):
    table = frame.assign(violated=np.where(frame["method"] == "csp", "latency_ms <= 0.1", ""))
    axes = axes_of(table, LATENCY)
    (places,) = [found for found in scattered(axes, 36) if len(found)]
    drawn = np.stack(line(axes, "csp").get_data(), axis=1)
    assert np.allclose(places, drawn)
    assert not np.isclose(drawn[:, None], np.asarray(rings(axes))).all(axis=2).any()
    caption = " ".join(text.get_text() for text in figure(table, [LATENCY]).texts)
    assert "Open marks violate a constraint" in " ".join(caption.split())
    assert not any(len(found) for found in scattered(axes_of(frame, LATENCY), 36))


def test_a_latency_too_noisy_to_believe_is_marked_where_it_is_shown(frame):
    noisy = frame.assign(latency_conclusive=np.where(frame["sparsity_requested"] == 0.9, 0.0, 1.0))
    for panel, shown in zip(PANELS, (False, True, True), strict=True):
        axes = Figure().subplots()
        draw(axes, noisy, panel)
        marks = [text for text in axes.texts if text.get_text() == "~"]
        assert len(marks) == (noisy["method"].nunique() if shown else 0)
        caption = " ".join(text.get_text() for text in figure(noisy, [panel]).texts)
        assert ("latency too noisy to believe" in " ".join(caption.split())) is shown


@pytest.mark.parametrize(("crowd", "image"), [(500, False), (1, True)])
def test_crowds_of_marks_are_images_in_vector_files(frame, tmp_path, monkeypatch, crowd, image):
    monkeypatch.setattr("cspbench.report.figures._CROWD", crowd)
    _, vector = save(figure(frame, [SPARSITY]), tmp_path / "figure")
    assert ("<image" in vector.read_text()) == image
