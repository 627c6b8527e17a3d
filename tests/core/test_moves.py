import numpy as np
import pytest

from stages.core.moves import count_moves, find_rows, share_moved


def test_moves_are_counted_by_sample_not_by_row():
    ids_before, before = np.array([2, 4, 6, 8]), np.array([0, 1, 2, 0])
    ids_after, after = np.array([4, 6, 8, 9]), np.array([1, 0, 0, 2])
    moves = count_moves(ids_before, before, ids_after, after, 3)
    # 4 stays in 1, 6 goes from 2 to 0, 8 stays in 0; 2 and 9 are in one epoch only.
    assert moves.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert share_moved(moves) == pytest.approx(1 / 3)


def test_without_common_samples_nothing_is_known():
    moves = count_moves(np.array([1]), np.array([0]), np.array([2]), np.array([1]), 2)
    assert moves.sum() == 0
    assert np.isnan(share_moved(moves))


def test_rows_of_samples_that_a_table_lacks_are_minus_one():
    assert find_rows(np.array([3, 5, 9]), np.array([9, 1, 5, 10])).tolist() == [2, -1, 1, -1]
    assert find_rows(np.array([], dtype=np.int64), np.array([1, 2])).tolist() == [-1, -1]
