import pytest

from tests.app import toy


@pytest.fixture
def photo(here):
    return toy.save_photo(here / "photo.png")
