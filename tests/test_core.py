"Chapters of the library take what other chapters give, and refuse in a sentence what would be taken for something else."
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lottery_diet.core import same
from lottery_diet.engine.recipe import Recipe
from lottery_diet.imp import Mask, Ticket, imp
from lottery_diet.models import initialize, mlp
from lottery_diet.sources import load_data
from lottery_diet.train import Snapshot, fit, fit_many

digits = load_data('digits')
data, test = digits.train.take(range(96)), digits.test.take(range(60))
make, recipe = partial(mlp, (1, 8, 8), 10, (8,)), Recipe(4, 32, lr=.05)
net = initialize(make, 0)
begin = Snapshot.of(net)

def test_a_start_keeps_the_step_that_its_source_has(tmp_path):
    longer, level = replace(recipe, steps=6), list(imp(initialize(make, 0), data, recipe, begin, 1))[1]
    saved = level.trained.save(tmp_path/'s.safetensors')
    assert Snapshot.of(level) is level.trained
    for source in (saved, str(saved)): assert same(Snapshot.of(source).optimizer, level.trained.optimizer) and Snapshot.of(source).step == 4
    ends = [fit(initialize(make, 1), data, longer, start=start, mask=level.mask).state for start in (level.trained, level, saved)]
    ends += [end.state for end in fit_many(initialize(make, 1), data, longer, [level, saved], masks=[level.mask]*2, seeds=(0, 0), grouping='in turn')]
    assert all(same(ends[0], end) for end in ends)
    (tmp_path/'plain.pt').write_bytes(b'')
    torch.save(level.trained.state, tmp_path/'plain.pt')
    assert Snapshot.of(tmp_path/'plain.pt').step == 0 and Snapshot.of(tmp_path/'plain.pt', 3).step == 3
    with pytest.raises(FileNotFoundError, match='there is no file'): Snapshot.of(tmp_path/'none.safetensors')

def test_a_ticket_is_no_start(tmp_path):
    ticket = Ticket(Mask.dense(net), begin, recipe, fit(initialize(make, 0), data, recipe))
    for wrong in (ticket, replace(ticket, trained=None), ticket.save(tmp_path/'t.safetensors'), ticket.save(tmp_path/'l.safetensors', living=True)):
        with pytest.raises(TypeError, match='holds two states: give'): fit(net, data, recipe, start=wrong)
        with pytest.raises(TypeError, match='holds two states: give'): fit_many(net, data, recipe, [wrong])

def test_many_trainings_begin_at_whatever_one_begins_at():
    for grouping in ('in turn', 'in parallel'):
        ends, known = (fit_many(initialize(make, 0), data, recipe, starts, grouping=grouping) for starts in ([net, begin.state], [begin]*2))
        assert all(same(a.state, b.state) for a, b in zip(ends, known))

def test_a_snapshot_that_could_not_be_saved_is_not_made(tmp_path):
    made = Snapshot(np.int64(3), begin.state, loss=np.float32(.5))
    assert Snapshot.load(made.save(tmp_path/'s.safetensors')).step == 3 and type(made.step) is int and type(made.loss) is float
    for wrong in (2.5, -1, None):
        with pytest.raises(ValueError, match='whole number of at least 0'): Snapshot(wrong, begin.state)
