"""How many cases are tried, and how they are drawn: the same ones every time."""

import zlib

import hypothesis


def fuzz(count, label):
    """Settings for `count` cases; what fails is printed with all that reproduces it."""

    def decorate(test):
        settings = hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        return hypothesis.seed(zlib.crc32(label.encode()))(settings(test))

    return decorate
