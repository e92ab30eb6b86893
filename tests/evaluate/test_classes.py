from scorecam_jax.evaluate.classes import class_index
from tests.evaluate.toy import LABELS


def test_class_names():
    assert class_index(4, LABELS) == 4
    assert class_index(5, LABELS) is None
    assert class_index(" Ox", LABELS) == 2
    assert class_index("machine", LABELS) == 4
    assert class_index("crane", LABELS) is None  # there are two
    assert class_index("cat", LABELS) is None
