"Statistics of few things decide nothing, and refuse what they cannot mean"
import math

import pandas as pd
import pytest

from lottery_diet.pages.claims import adjusted, claim
from lottery_diet.plots import below_dense, correlation, matching


def test_a_perfect_correlation_of_few_things_decides_nothing():
    for kind in ('pearson', 'spearman'):
        found = correlation([1, 2, 3, 4], [2, 4, 6, 8], kind)
        assert found.value == 1 and math.isnan(found.low) and '(n=4, no interval)' in str(found)
        made = claim('a lesson', 'They go together.', found, unit='correlation', scale='mini', setting='none', source='a table')
        assert made.holds == 'no verdict' and 'no interval' in str(made) and adjusted([made]) == ['no verdict']

def test_a_dense_network_that_is_listed_twice_counts_once():
    ladder = pd.DataFrame(dict(level=1, seed=[0, 1], accuracy=[.89, .92]))
    once = matching(ladder, pd.Series([.9, .91], index=[0, 1]))
    pd.testing.assert_frame_equal(matching(ladder, pd.Series([.9, .9, .91, .91], index=[0, 0, 1, 1])), once)
    assert once.n.tolist() == [2] and once.matches.tolist() == ['unclear']

def test_accuracies_in_percent_are_no_shares():
    with pytest.raises(ValueError, match='an accuracy of 90 is no share'): below_dense(pd.DataFrame(dict(level=[0, 1], seed=0, accuracy=[90., 88.])))
