from scorecam_jax.reading.labels import class_index, matching_classes
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
