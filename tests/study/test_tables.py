import csv
import io
import json

import numpy as np
import pytest
import scipy.stats

from scorecam_jax.study.registry import Metric
from scorecam_jax.study.results import summarize
from scorecam_jax.study.tables import Column, Figure, as_csv, as_text, figure, paired


def test_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).gamma(2.0, size=40)
    found = figure(values)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    spread = values.std() / np.sqrt(40)
    assert found.mean == values.mean()
    assert abs(found.low - expected.low) < 0.1 * spread
    assert abs(found.high - expected.high) < 0.1 * spread
    assert found.count == 40


def test_no_values_have_no_mean():
    assert np.isnan(figure(np.zeros(0)).mean)
    assert figure(np.zeros(0)).count == 0


def test_differences_are_taken_image_by_image():
    random = np.random.default_rng(5)
    base, gain = random.normal(size=50), random.normal(0.2, 0.1, 50)
    first = {f"{image}": float(value) for image, value in enumerate(base)}
    second = {f"{image}": float(value) for image, value in enumerate(base + gain)} | {"new": 9.0}
    del first["3"], second["4"]
    found = paired({"a": first, "b": second}, "a")
    assert found.keys() == {"b"}
    kept = np.delete(gain, [3, 4])
    expected = scipy.stats.bootstrap(
        (kept,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    spread = kept.std() / np.sqrt(48)
    np.testing.assert_allclose(found["b"].mean, kept.mean())
    assert found["b"].count == 48
    assert abs(found["b"].low - expected.low) < 0.15 * spread
    assert abs(found["b"].high - expected.high) < 0.15 * spread
    # The means' own intervals overlap; that of the difference does not contain zero.
    assert figure(base).high > figure(base + gain).low
    assert found["b"].low > 0
    assert np.isnan(paired({"a": {"x": 1.0}, "b": {"y": 1.0}}, "a")["b"].mean)


def row(image, method, energy):
    return {"image": image, "method": method, "energy": energy, "seconds": 1.0, "findings": []}


def test_an_evaluation_has_the_differences_from_its_first_method(tmp_path):
    values = {"b": [0.5, 0.25, None], "a": [0.75, 0.75, 0.9], "c": [0.5, 0.25, 0.1]}
    rows = [row(f"{i}", method, v) for method, of in values.items() for i, v in enumerate(of)]
    found = summarize(rows, list(values), {"energy": Metric(None, "more")})
    energy, _ = found.differences()
    assert {name: (one.mean, one.count) for name, one in energy.figures.items()} == {
        "a": (0.375, 2),
        "c": (0, 2),
    }
    assert found.differences("a")[0].figures["b"].mean == -0.375
    lines = found.differences_as_text().splitlines()
    assert lines[0] == "difference from b on the same images: mean [95 % interval]"
    assert [line.split()[0] for line in lines[2:]] == ["a", "c", "images"]
    found.write(tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())["differences"]
    assert document["reference"] == "b"
    assert [one["energy"] for one in document["table"]] == [0.375, 0]
    with pytest.raises(ValueError, match="'d' was not measured; choose one of b, a, c"):
        found.differences("d")
    assert summarize(rows[:3], ["b"], {"energy": Metric(None)}).differences_as_text() == ""


def columns():
    return [
        Column("a", "a ↑", {"x": Figure(0.5, 0.25, 0.75, 9), "long": Figure(1, 0, 2, 9)}, 2),
        Column("b", "b", {"x": Figure(10.04, 9, 11, 8)}, 1),
    ]


def test_text_has_methods_in_rows_and_aligned_metrics_in_columns():
    assert as_text(["x", "long"], columns()) == "\n".join(
        [
            "                      a ↑                 b",
            "x       0.50 [0.25, 0.75]  10.0 [9.0, 11.0]",
            "long    1.00 [0.00, 2.00]                 -",
            "images                  9                 8",
        ]
    )


def test_narrow_text_is_split_into_blocks():
    text = as_text(["x", "long"], columns(), width=30)
    assert text.count("images") == 2
    assert max(map(len, text.splitlines())) <= 30


def test_csv_reads_back():
    rows = [{"a": "x, y", "b": 1.5}, {"a": "z", "b": None, "c": 2}]
    back = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert back == [{"a": "x, y", "b": "1.5", "c": ""}, {"a": "z", "b": "", "c": "2"}]
