"Benchmarks start: every contestant can be made, and runs in a process of its own when asked."
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent/'benchmarks'))
import pool  # noqa: E402
import speed  # noqa: E402
import tune  # noqa: E402


def appending(path):
    "A contestant that leaves a trace of each run"
    return partial(append, path)

def append(path):
    with path.open('a') as f: f.write('ran\n')

@pytest.mark.long
def test_contestants_run_in_processes_of_their_own_by_turns(tmp_path):
    rows = speed.compared('appending', partial(appending, tmp_path/'ours'), {k: (partial(appending, tmp_path/k), keep) for k, keep in dict(a=False, b=True).items()}, 'ms', 1000, 1, 3)
    assert [(r['rival'], r['rounds']) for r in rows] == [('a', 3), ('b', 3)] and all(r['lowest'] <= r['times_as_fast'] <= r['highest'] for r in rows)
    assert [len((tmp_path/k).read_text().split()) for k in ('ours', 'a', 'b')] == [4, 4, 4] # one is not counted

@pytest.mark.long
def test_a_contestant_that_cannot_start_ends_the_benchmark(tmp_path):
    with pytest.raises(SystemExit, match='could not start'): speed.compared('nobody', partial(appending), {}, 'ms', 1, 1, 1)

@pytest.mark.long
def test_every_contestant_can_be_made(real_data):
    made = [make() for _, ours, rivals, _, _ in speed.comparisons() for make in (ours, *(make for make, _ in rivals.values()))]
    assert all(map(callable, made + [tune.train(name) for name in tune.steps])) and len(pool.contestants(8, 2, pool.look)) == 3
