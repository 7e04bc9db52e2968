import pytest
from support.small_demo import SmallDemo, make_small_demo


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> SmallDemo:
    return make_small_demo(tmp_path_factory.mktemp("small_demo"))
