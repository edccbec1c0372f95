"""``cspbench data check`` reads everything once and lists every problem by its kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.corpus_trees import RATE, small_manifest, tone, write_manifest
from typer.testing import CliRunner, Result

from cspbench.cli import app
from cspbench.corpora.inspection import detect
from cspbench.errors import ConfigError, CorpusError


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, words)])


def check(folder: Path, *words: str) -> dict[str, Any]:
    return json.loads(run("check", folder, "--root", folder / "runs", "--json", *words).stdout)


def counts(summary: dict[str, Any], heading: str = "problems") -> dict[str, int]:
    return {group["kind"]: group["count"] for group in summary[heading]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest whose texts have one alphabet."""
    rows = small_manifest(tmp_path)
    for r in rows:
        r["text"] = "some words"
    write_manifest(tmp_path / "manifest.jsonl", list(rows))
    return tmp_path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_a_corpus_without_problems(folder: Path) -> None:
    summary = check(folder)
    assert (summary["corpus"], summary["utterances"], summary["problems"]) == ("manifest", 14, [])
    result = run("check", folder / "manifest.jsonl", "--root", folder / "runs")
    assert result.exit_code == 0
    assert f"manifest: 14 utterances are fine; fingerprint {summary['fingerprint']}" in result.stdout


def test_every_problem_is_listed_by_its_kind(folder: Path) -> None:
    rows: list[Any] = rows_of(folder)
    rows[0]["audio"] = "none.wav"
    rows[1]["text"] = ""
    rows[2]["text"] = "bell \x07"
    rows[3] = "{oops"
    rows[12]["text"] = "wörd"
    tone(folder / "c0.wav", rate=8000)
    loud = np.full(RATE // 2, 0.1)
    loud[100] = np.nan
    soundfile.write(folder / "c1.wav", loud, RATE, subtype="FLOAT")
    soundfile.write(folder / "d0.wav", np.zeros(RATE // 2), RATE)
    shutil.copy(folder / "e0.wav", folder / "y1.wav")
    write_manifest(folder / "manifest.jsonl", rows)
    result = run("check", folder, "--root", folder / "runs", "--json")
    assert result.exit_code == 1
    assert isinstance(result.exception, CorpusError)
    summary = json.loads(result.stdout)
    assert counts(summary) == {
        "line": 2,
        "audio": 2,
        "transcript": 1,
        "sample rate": 1,
        "silent audio": 1,
        "audio in several splits": 1,
        "unseen characters": 1,
    }
    examples = " | ".join(example for group in summary["problems"] for example in group["examples"])
    for told in (
        "manifest.jsonl:3: transcript holds U+0007",
        "c1.wav: the sample at 0.006 s is nan; samples must be finite",
        "d0.wav: is digital silence, yet 'some words' is said in it",
        f"y1.wav: has the samples of {folder}/e0.wav ({folder}/manifest.jsonl:9), in test and in train",
        "manifest.jsonl:13: test has 'ö' (U+00F6 LATIN SMALL LETTER O WITH DIAERESIS)",
    ):
        assert told in examples
    assert summary["fingerprint"] is None


def test_only_the_first_examples_of_a_kind_are_shown(folder: Path) -> None:
    for row in rows_of(folder)[:8]:
        (folder / row["audio"]).unlink()
    [group] = check(folder)["problems"]
    assert (group["kind"], group["count"], len(group["examples"])) == ("audio", 8, 3)
    result = run("check", folder, "--root", folder / "runs")
    assert "problem: audio (8)" in result.stdout
    assert "  and 5 more" in result.stdout
    assert str(result.exception) == "8 problems of 1 kind"


def test_copies_in_another_format_are_found_by_content(folder: Path) -> None:
    samples, rate = soundfile.read(folder / "a0.wav", dtype="int16")
    soundfile.write(folder / "copy.flac", samples, rate)
    rows = rows_of(folder)
    write_manifest(folder / "manifest.jsonl", [*rows, rows[1] | {"audio": "copy.flac", "text": "same words"}])
    assert counts(check(folder)) == {"audio with two transcripts": 1}
    write_manifest(folder / "manifest.jsonl", [*rows, rows[1] | {"audio": "copy.flac"}])
    summary = check(folder)
    assert (counts(summary), counts(summary, "notes")) == ({}, {"repeated audio": 1})


def test_levels_and_clipping_are_noted(folder: Path) -> None:
    for name in ("y0", "y1"):
        samples, rate = soundfile.read(folder / f"{name}.wav")
        soundfile.write(folder / f"{name}.wav", samples * 0.1, rate)
    soundfile.write(folder / "a0.wav", np.clip(np.random.default_rng(0).normal(size=8000), -1, 1), RATE)
    summary = check(folder)
    assert counts(summary, "notes") == {"clipped audio": 1, "level": 1}
    assert "test split: has a median level of -40 dB, train of -20 dB" in str(summary["notes"])


def test_unseen_characters_may_be_scored(folder: Path) -> None:
    rows = rows_of(folder)
    rows[-1]["text"] = "ölig"
    write_manifest(folder / "manifest.jsonl", list(rows))
    assert counts(check(folder)) == {"unseen characters": 1}
    assert counts(check(folder, "--option", "unseen_characters=score")) == {}


def test_nothing_that_can_be_read_is_one_problem(folder: Path) -> None:
    (folder / "manifest.jsonl").write_text("")
    summary = check(folder)
    assert counts(summary) == {"corpus": 1}
    assert "holds no utterances" in summary["problems"][0]["examples"][0]


def test_layouts_are_recognised(an4_path: Path, fsdd_path: Path, tmp_path: Path) -> None:
    assert detect(an4_path) == "manifest"
    assert detect(fsdd_path / "recordings") == "fsdd"
    (tmp_path / "test-clean").mkdir()
    assert detect(tmp_path) == "librispeech"
    with pytest.raises(ConfigError, match="not laid out as any corpus is"):
        detect(tmp_path / "test-clean")


@pytest.mark.parametrize("command", ["stats", "prepare"])
def test_samples_are_checked_by_the_other_commands_as_well(folder: Path, command: str) -> None:
    soundfile.write(folder / "c1.wav", np.full(RATE // 2, 12345.0), RATE, subtype="FLOAT")
    result = run(command, "manifest", "--path", folder, "--root", folder / "runs")
    assert f"{folder}/manifest.jsonl:6: {folder}/c1.wav: the sample at 0.000 s is 12345" in str(result.exception)


def test_stats_tell_levels_and_unseen_characters(folder: Path) -> None:
    rows = rows_of(folder)
    rows[-1]["text"] = "ölig"
    write_manifest(folder / "manifest.jsonl", list(rows))
    result = run("stats", "manifest", "--path", folder, "--root", folder / "runs", "--json")
    train, _, test = json.loads(result.stdout)
    assert train["level_db"] == pytest.approx(-20, abs=0.1)
    assert (train["unseen_characters"], train["recordings"]) == ("", 10)
    assert test["unseen_characters"].startswith("'g' (U+0067 LATIN SMALL LETTER G), 'i'")
