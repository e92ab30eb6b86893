import csv
import io

import numpy as np
import scipy.stats

from scorecam_jax.study.tables import Column, Figure, as_csv, as_text, figure


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
