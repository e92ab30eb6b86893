from scorecam_jax import samples
from scorecam_jax.reading.labels import (
    Category,
    class_index,
    class_of_folder,
    file_names,
    matching_classes,
)
from tests.study.toy import LABELS


def test_class_names():
    assert class_index(4, LABELS) == 4
    assert class_index(5, LABELS) is None
    assert class_index(" Ox", LABELS) == 2
    assert class_index("machine", LABELS) == 4
    assert class_index("crane", LABELS) is None  # there are two
    assert class_index("cat", LABELS) is None
    assert class_index("machin", LABELS) is None  # a part of a name is a guess


def test_whole_names_precede_words_and_words_precede_parts():
    labels = ("tiger", "tiger cat", "catamaran", "Tinca_tinca, tench", "ox", "oxcart")
    assert matching_classes("Tiger", labels) == [0]
    assert matching_classes("cat", labels) == [1]
    assert matching_classes("cata", labels) == [2]
    assert matching_classes("ca", labels) == [1, 2, 3, 5]
    assert matching_classes("tinca tinca", labels) == [3]
    assert matching_classes("ox", labels) == [4]
    assert matching_classes("cart", labels, whole=True) == []
    assert matching_classes("", labels) == []


def test_a_categorys_name_counts_before_its_number():
    assert class_index(Category(4, "ox"), LABELS) == 2
    assert class_index(Category(4, "cow"), LABELS) == 4
    assert class_index(Category(5, "cow"), LABELS) is None
    assert class_index(Category(3, "crane"), LABELS) == 3  # there are two of the name
    assert class_index(Category(0, "crane"), LABELS) is None
    assert class_index("4", LABELS) == 4
    assert class_index("9" * 5000, LABELS) is None
    assert class_index(10**400, LABELS) is None
    assert class_index(None, LABELS) is None


def test_a_folder_names_the_class_of_its_photographs():
    assert class_of_folder("train/ox/1.jpg", LABELS) == 2
    assert class_of_folder("3/1.jpg", LABELS) == 3
    assert class_of_folder("ox/more/1.jpg", LABELS) is None
    assert class_of_folder("ox.jpg", LABELS) is None


def test_files_are_named_after_classes():
    assert file_names(LABELS) == ["tench", "dog", "ox", "crane-3", "crane-4"]


def test_the_samples_categories_and_numbers_agree():
    for annotation in samples.annotations().values():
        assert annotation.names.keys() == set(annotation.classes)
