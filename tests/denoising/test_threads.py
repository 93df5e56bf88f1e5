import time

import pytest
import torch

from niddl_xr.denoising.nn.threads import best_thread_count, threads


@pytest.fixture
def two_threads():
    with threads(2):
        yield


def waiting(seconds_by_threads):
    return lambda: time.sleep(seconds_by_threads[torch.get_num_threads()])


def test_one_thread_only_where_it_is_clearly_faster(two_threads):
    assert best_thread_count(waiting({2: 0.09, 1: 0.03})) == 1
    assert best_thread_count(waiting({2: 0.03, 1: 0.03})) == 2
    assert best_thread_count(waiting({2: 0.03, 1: 0.05})) == 2
    assert torch.get_num_threads() == 2


def test_the_process_gets_its_threads_back(two_threads):
    def fail():
        assert torch.get_num_threads() == 1
        raise KeyError

    with pytest.raises(KeyError), threads(1):
        fail()
    assert torch.get_num_threads() == 2
