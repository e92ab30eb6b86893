import pytest

from scorecam_jax.study.journal import Journal

SETTINGS = {"model": "m", "layer": None, "size": (224, 224)}


def test_records_are_there_when_opened_again(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    first = Journal(path, SETTINGS)
    first.add({"image": "a", "value": 0.5})
    again = Journal(path, SETTINGS)
    again.add({"image": "b", "value": None})
    assert Journal(path, SETTINGS).records == [
        {"image": "a", "value": 0.5},
        {"image": "b", "value": None},
    ]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_short_is_dropped_and_the_rest_kept(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    journal = Journal(path, SETTINGS)
    journal.add({"image": "a"})
    whole = path.read_bytes()
    journal.add({"image": "b", "value": 0.123456789})
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, SETTINGS)
    assert again.records == [{"image": "a"}]
    assert path.read_bytes() == whole
    again.add({"image": "c"})
    assert Journal(path, SETTINGS).records == [{"image": "a"}, {"image": "c"}]


def test_a_file_cut_in_its_first_line_is_begun_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"settings": {"mo')
    assert Journal(path, SETTINGS).records == []
    Journal(path, SETTINGS)


def test_other_settings_are_refused_by_name_and_nothing_is_lost(tmp_path):
    path = tmp_path / "rows.jsonl"
    Journal(path, SETTINGS).add({"image": "a"})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="layer was None and is 'head'"):
        Journal(path, SETTINGS | {"layer": "head"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["notes of mine\n", "[]\n", "{}\n"])
def test_another_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a file of earlier results"):
        Journal(path, {})
    assert path.read_text() == content


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\0\0\0", b"\xff", b"[" * 100_000, b""])
def test_a_damaged_line_is_named_and_set_aside(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    journal = Journal(path, SETTINGS)
    for image in "abc":
        journal.add({"image": image})
    lines = path.read_bytes().split(b"\n")
    lines[2] = line
    path.write_bytes(b"\n".join(lines))
    again = Journal(path, SETTINGS)
    assert again.records == [{"image": "a"}, {"image": "c"}]
    (note,) = again.damaged
    assert note.what == f"{path}, line 3"
    assert "rows.damaged.jsonl" in note.why
    assert (tmp_path / "rows.damaged.jsonl").read_bytes() == line + b"\n"
    again.add({"image": "b"})
    last = Journal(path, SETTINGS)
    assert [record["image"] for record in last.records] == ["a", "c", "b"]
    assert not last.damaged


def test_what_is_no_record_counts_as_damaged(tmp_path):
    path = tmp_path / "rows.jsonl"
    Journal(path, SETTINGS).add({"image": 3})
    again = Journal(path, SETTINGS, valid=lambda record: isinstance(record["image"], str))
    assert not again.records
    assert len(again.damaged) == 1
