"What is fast says the same as what is plain: to the bit, or to rounding where sums run in another order."
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from lottery_diet.core import Diverged, distance, same, state_of, stream
from lottery_diet.data import ImageSet
from lottery_diet.engine.closed_form import linear_layers
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.imp import Mask, flat, imp, imp_many, prune_random
from lottery_diet.models import cifar_resnet, initialize, lenet_300_100, mlp
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, batches, fit, fit_many, grouping_for, train, train_many, way_for

digits = load_data('digits')
recipes = dict(nesterov=Recipe(60, 64, lr=.02, nesterov=True, weight_decay=1e-3, milestones=(20, 40), warmup=5, crop=1, flip=True),
               plain=Recipe(60, 100, lr=.05, momentum=0., drop_last=True), adam=Recipe(60, 60, lr=2e-3, optimizer='adam', weight_decay=1e-2, cosine=True))
def without_bias(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 40, bias=False), nn.ReLU(), nn.Linear(40, 10, bias=False))
mlps = dict(lenet=partial(lenet_300_100, (1, 8, 8)), no_hidden=partial(mlp, (1, 8, 8), hidden=()), without_bias=without_bias)
wide = partial(mlp, (1, 8, 8), hidden=(800, 20))  # its first layer is large enough to be stored sparse

def sparse_mask(make, share, seed=0):
    return Mask({k: torch.rand(m.shape, generator=stream(seed, 'test', k)) < share for k, m in Mask.dense(make()).items()})

@pytest.mark.parametrize('recipe', recipes.values(), ids=recipes)
@pytest.mark.parametrize('make', mlps.values(), ids=mlps)
@pytest.mark.parametrize('share', [1., .3])
def test_closed_form_has_the_bits_of_autograd(make, recipe, share):
    mask = sparse_mask(make, share)
    plain, fast = (fit(initialize(make, 0), digits.train, recipe, mask=mask, seed=1, way=way) for way in ('autograd', None))
    assert (plain.way, fast.way) == ('autograd', 'closed form')
    assert same(plain.state, fast.state) and same(plain.optimizer, fast.optimizer) and plain.loss == fast.loss

@pytest.mark.parametrize('recipe', recipes.values(), ids=recipes)
def test_sparse_agrees_to_rounding(recipe):
    mask, exact = sparse_mask(wide, .06), digits.train.like(digits.train.inputs(digits.train.x).double(), digits.train.y)
    plain, fast = (fit(initialize(wide, 0).double(), exact, recipe, mask=mask, way=way) for way in ('autograd', None))
    assert fast.way == 'sparse'
    assert distance(plain.state, fast.state) < 1e-10*distance(plain.state, initialize(wide, 0).double().state_dict())
    assert all(not fast.state[k][~m].any() for k, m in mask.items())
    living = lambda s: {k: v[mask[k.split('/')[0]]] if k.split('/')[0] in mask else v for k, v in s.optimizer.items() if v.ndim}
    assert not plain.optimizer or distance(living(plain), living(fast)) < 1e-10

def test_a_sparse_run_stops_and_resumes_to_the_bit_and_leaves_a_usable_network():
    mask, recipe = sparse_mask(wide, .05), replace(recipes['adam'], steps=12)
    net = initialize(wide, 0)
    whole = {s.step: s for s in train(net, digits.train, recipe, at=range(12), mask=mask)}
    assert whole[12].way == 'sparse' and same(state_of(net), whole[12].state)
    for k in (0, 1, 7, 12):
        again = fit(initialize(wide, 5), digits.train, recipe, start=whole[k], mask=mask)
        assert same(again.state, whole[12].state) and same(again.optimizer, whole[12].optimizer)
    assert whole[12].optimizer['1.weight/exp_avg'].shape == (800, 64)

@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
def test_a_recorded_update_has_the_bits_of_a_plain_one(optimizer):
    "On a CPU the recording is the update itself; the buffers, the learning rate as a tensor and the ragged last batch are as on a GPU"
    recipe = Recipe(60, 200, lr=.003, optimizer=optimizer, weight_decay=1e-3, warmup=10, milestones=(30,), crop=1, flip=True, cutmix=.3)
    make = lambda: nn.Sequential(cifar_resnet((1, 8, 8), depth=8, width=4, classes=20), nn.Dropout(.2), nn.Linear(20, 10))
    mask = prune_random(sparse_mask(make, .5))
    plain, replayed = (fit(initialize(make, 0), digits.train, recipe, mask=mask, way=way) for way in ('autograd', 'graph'))
    assert replayed.way == 'graph' and same(plain.state, replayed.state) and plain.loss == replayed.loss
    assert {k: v.tolist() for k, v in plain.optimizer.items()} == {k: v.tolist() for k, v in replayed.optimizer.items()}

def test_tables_of_imp_do_not_depend_on_the_way():
    recipe = Recipe(80, 64, lr=.05)
    start = Snapshot(0, initialize(mlps['lenet'], 0).state_dict())
    def climb(**kwargs): return list(imp(initialize(mlps['lenet'], 0), digits.train, recipe, start, levels=4, prune_rate=.5, **kwargs))
    for plain, fast in zip(climb(way='autograd'), climb()):
        assert fast.trained.way == 'closed form' and plain.mask == fast.mask and same(plain.trained.state, fast.trained.state)

@pytest.mark.long
def test_accuracy_of_sparse_runs_is_that_of_plain_ones():
    "Other bits, the same distribution: over eight seeds the accuracies differ by less than a point on average, and not by a trend of the tickets"
    recipe, differences = Recipe(300, 64, lr=.05), []
    for seed in range(8):
        net, mask = initialize(wide, seed), sparse_mask(wide, .05, seed)
        start = Snapshot(0, net.state_dict())
        ends = (fit(net, digits.train, recipe, start=start, mask=mask, seed=seed, way=way) for way in ('autograd', 'sparse'))
        plain, fast = (evaluate(net, digits.test, end.state).accuracy for end in ends)
        differences.append(fast - plain)
    assert abs(sum(differences)/8) < .01 and max(map(abs, differences)) < .03

def test_the_way_is_chosen_by_what_is_trained_and_can_be_overridden():
    recipe, net = recipes['plain'], initialize(mlps['lenet'], 0)
    assert way_for(net, recipe, sparse_mask(mlps['lenet'], .05)) == 'closed form'  # its first layer is small
    assert way_for(wide(), recipe, sparse_mask(wide, .05)) == 'sparse'
    assert [way_for(m, recipe) for m in (cifar_resnet(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(.1)))] == ['autograd']*2
    with pytest.raises(ValueError, match="'sparse' cannot train this Sequential"): train(net, digits.train, recipe, way='sparse')
    with pytest.raises(ValueError, match="'closed form' cannot train this ResNet"): train(cifar_resnet((1, 8, 8)), digits.train, recipe, way='closed form')
    with pytest.raises(ValueError, match='did you mean .autograd.'): train(net, digits.train, recipe, way='autogard')

def test_a_layer_that_is_used_twice_watched_or_frozen_keeps_autograd():
    layer = nn.Linear(10, 10)
    assert not linear_layers(nn.Sequential(layer, nn.ReLU(), layer))
    watched, frozen = mlps['lenet'](), mlps['lenet']()
    watched[1].register_forward_hook(lambda *_: None)
    frozen[3].requires_grad_(False)
    assert not linear_layers(watched) and not linear_layers(frozen) and linear_layers(mlps['lenet']())

def test_an_alternating_flip_mirrors_each_image_every_other_epoch():
    ramp = ImageSet(torch.arange(8, dtype=torch.uint8).expand(50, 1, 8, 8).contiguous(), torch.arange(50) % 10, mean=(0.,), std=(1/255,))
    recipe = Recipe(20, 10, flip='alternating')
    seen = torch.zeros(4, 50)
    for seed in (0, 1):
        for step, x, y in batches(replace(ramp, y=torch.arange(50), classes=50), recipe, 0, 20, seed): seen[step//5, y] = x[:, 0, 0, 0]
        mirrored = seen > 0
        assert torch.equal(mirrored[0], mirrored[2]) and torch.equal(mirrored[1], mirrored[3]) and torch.equal(mirrored[0], ~mirrored[1])
        assert 10 < mirrored[0].sum() < 40
    late = next(batches(ramp, recipe, 13, 14, 1))
    assert torch.equal(late[1], [x for _, x, _ in batches(ramp, recipe, 0, 14, 1)][13])
    with pytest.raises(ValueError, match="True, False or 'alternating'"): Recipe(10, flip='sometimes')

def test_ladders_in_turn_are_the_ladders_alone_to_the_bit():
    make, recipe = partial(cifar_resnet, (1, 8, 8), depth=8, width=4), Recipe(12, 100, lr=.05, crop=1)
    starts = [Snapshot(0, initialize(make, seed).state_dict()) for seed in (4, 7)]
    together = list(imp_many(make(), digits.train, recipe, starts, levels=2, prune_rate=.5, seeds=(4, 7), grouping='in turn'))
    for r, seed in enumerate((4, 7)):
        for rung, level in zip(together, imp(make(), digits.train, recipe, starts[r], levels=2, prune_rate=.5, seed=seed)):
            assert torch.equal(flat(rung[r].mask), flat(level.mask)) and same(rung[r].trained.state, level.trained.state) and rung[r].noise == level.noise

def test_runs_in_parallel_stop_and_resume_to_the_bit():
    make = partial(cifar_resnet, (1, 8, 8), depth=8, width=4)
    recipe = Recipe(8, 32, lr=.003, optimizer='adam', flip=True)
    starts = [Snapshot(0, initialize(make, seed).state_dict()) for seed in range(3)]
    assert grouping_for(make(), digits.train, recipe, 3) == 'in parallel'
    early, late = train_many(make(), digits.train, recipe, starts, at=[3])
    assert late[0].way == 'in parallel, autograd'
    again = fit_many(make(), digits.train, recipe, early)
    assert all(same(a.state, b.state) and same(a.optimizer, b.optimizer) for a, b in zip(again, late))

def test_a_diverging_run_is_named_whoever_trains_it():
    net = initialize(mlps['lenet'], 0)
    starts = [Snapshot(0, net.state_dict())]*3
    for grouping in ('in turn', 'in parallel'):
        with pytest.raises(Diverged, match='diverged'): fit_many(net, digits.train, Recipe(20, 32, lr=1e7), starts, grouping=grouping)
