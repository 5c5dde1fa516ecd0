"Benchmarks start: every contestant can be made, and runs in a process of its own when asked."
import os
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent/'benchmarks'))
import pool  # noqa: E402
import speed  # noqa: E402
import tune  # noqa: E402


def appending(path, name):
    "A contestant that leaves a trace of each run"
    return partial(append, path, name)

def append(path, name):
    with path.open('a') as f: f.write(f'{name} {os.getpid()}\n')

@pytest.mark.long
def test_contestants_take_turns_in_processes_of_their_own(tmp_path):
    trace = tmp_path/'trace'
    rivals = {name: (partial(appending, trace, name), keep) for name, keep in dict(a=False, b=True).items()}
    rows = speed.compared('appending', partial(appending, trace, 'ours'), rivals, 'ms', 1000, 1, 2)
    names, processes = zip(*(line.split() for line in trace.read_text().splitlines()))
    assert ' '.join(names) == 'ours a b b a ours ours a b' # the first turn is not counted
    assert len(set(zip(names, processes))) == len({*processes, str(os.getpid())}) - 1 == 3
    assert [(r['rival'], r['rounds']) for r in rows] == [('a', 2), ('b', 2)]

@pytest.mark.long
def test_a_contestant_that_cannot_start_ends_the_benchmark():
    with pytest.raises(SystemExit, match='could not start'): speed.compared('nobody', partial(appending), {}, 'ms', 1, 1, 1)

@pytest.mark.long
def test_contestants_can_be_made_and_look_at_the_same(real_data, monkeypatch):
    monkeypatch.setattr(speed, 'load_data', cache(speed.load_data)) # each reads it for itself where it is timed
    for _, ours, rivals, _, _ in speed.comparisons():
        for make in (ours, *(make for make, _ in rivals.values())): assert callable(make())
    assert all(callable(tune.train(name)) for name in tune.steps) and len(pool.contestants(8, 2, pool.look)) == 3
    for usual in (speed.pass_loop(256, speed.right), speed.pass_loader(256, speed.right, size=128)):
        assert sum(usual()) == round(256*speed.evaluate_ours(256)().accuracy)
    for usual in (speed.pass_loop, speed.pass_loader):
        torch.testing.assert_close(torch.cat(usual(256, speed.error_norm)()), speed.el2n_ours(256)(), atol=1e-4, rtol=1e-4)
    for look in (speed.grand_ours(2), speed.grand_one_by_one(2), speed.path_ours(8), speed.path_loop(256), speed.path_loader(256),
                 speed.barriers_ours(8), speed.barriers_loader(256)): look()
