import pytest

from scorecam_jax.models.labels import read_labels, usual_labels


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.txt", "cat\nhouse cat, tabby\n dog \n"),
        ("labels.txt", "\ufeffcat\r\nhouse cat, tabby\r\ndog\r\n\r\n"),
        ("labels.json", '["cat", "house cat, tabby", "dog"]'),
        ("labels.json", '{"2": "dog", "0": "cat", "1": "house cat, tabby"}'),
    ],
)
def test_labels_are_read_from_lines_and_from_json(tmp_path, file, text):
    path = tmp_path / file
    path.write_text(text, "utf-8")
    assert read_labels(path) == ("cat", "house cat, tabby", "dog")


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("labels.txt", "", "the file is empty"),
        ("labels.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("labels.json", "cat", "holds no class names"),
        ("labels.json", '{"0": "cat", "2": "dog"}', "index 1 is missing among 2 classes"),
        ("labels.json", "[1, 2]", "found the name 1, wanted a string"),
        ("labels.json", '"cat"', 'found "cat", wanted a list of names'),
        ("labels.json", "[]", "wanted a list of names"),
        ("labels.json", "[" * 100_000, "recursion"),
        ("labels.txt", "café", "not text in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_of_labels_is_told(tmp_path, file, text, complaint):
    path = tmp_path / file
    path.write_text(text, "latin-1")
    with pytest.raises(ValueError, match=complaint) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_without_names_classes_are_numbered_but_those_of_imagenet():
    assert usual_labels(3) == ("class 0", "class 1", "class 2")
    assert usual_labels(1000)[1] == "goldfish, Carassius auratus"
    assert usual_labels(1001)[-1] == "class 1000"
