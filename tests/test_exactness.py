"Same configuration, same bits on a CPU: in another process, left and entered anywhere, level by level."
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from lottery_diet.core import same, state_of, stream
from lottery_diet.data import ImageSet
from lottery_diet.engine import update
from lottery_diet.engine.evaluation import evaluate, predict
from lottery_diet.imp import Mask, flat, imp, prune_global_magnitude, prune_random, share_of, shuffle_layerwise
from lottery_diet.models import cifar_resnet, conv_net, initialize, lenet_300_100
from lottery_diet.plots import t_interval
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, batches, cutmix, fit, train

SCRIPT = '''
import hashlib, torch
from functools import partial
from lottery_diet.models import cifar_resnet, initialize
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, fit
recipe = Recipe(8, 32, crop=1, flip=True, cutmix=.5, weight_decay=1e-3)
end = fit(initialize(partial(cifar_resnet, (1, 8, 8), depth=8), 0), load_data('digits').train, recipe, seed=3)
print(hashlib.sha256(b''.join(v.contiguous().numpy().tobytes() for v in [*end.state.values(), *end.optimizer.values()])).hexdigest())
'''

def test_the_same_bits_in_another_process():
    def run(salt):
        env = os.environ | dict(PYTHONHASHSEED=salt, OMP_NUM_THREADS='1')
        return subprocess.run([sys.executable, '-c', SCRIPT], env=env, capture_output=True, text=True, check=True).stdout
    assert run('1') == run('2') != ''

digits = load_data('digits').train
wide = partial(cifar_resnet, (1, 8, 8), depth=8)
nets = dict(mlp=partial(lenet_300_100, (1, 8, 8)), narrow=partial(wide, width=4), wide=wide, instance_norm=partial(conv_net, (1, 8, 8), width=16))
rich = Recipe(12, 200, lr=.05, weight_decay=1e-3, milestones=(5, 9), warmup=3, crop=1, flip=True, cutmix=.5, nesterov=True)
adam = replace(rich, optimizer='adam', lr=.003, nesterov=False, milestones=(), cosine=True, drop_last=True)

@pytest.mark.parametrize('recipe', [rich, adam], ids=['sgd', 'adam'])
@pytest.mark.parametrize('name', nets)
def test_stop_at_any_step_and_resume(name, recipe):
    make = nets[name]
    mask = prune_random(prune_global_magnitude(initialize(make, 0).state_dict(), Mask.dense(make()), .5))
    begin = Snapshot(0, state_of(initialize(make, 0)))
    whole = {s.step: s for s in train(make(), digits, recipe, start=begin, at=range(recipe.steps), mask=mask, seed=1)}
    for k in range(recipe.steps + 1):
        resumed = fit(initialize(make, 9), digits, recipe, start=whole[k], mask=mask, seed=1)
        assert same(resumed.state, whole[recipe.steps].state) and same(resumed.optimizer, whole[recipe.steps].optimizer)

def test_reading_a_run_does_not_change_it():
    make = nets['wide']
    plain = fit(initialize(make, 0), digits, rich)
    net = initialize(make, 0)
    for s in train(net, digits, rich, at=range(0, 12, 2)): net.eval()
    assert same(plain.state, s.state)

def test_every_level_resumed_alone_is_the_level_of_the_ladder():
    make, recipe = nets['wide'], replace(rich, steps=10)
    net = initialize(make, 0)
    early = fit(net, digits, recipe, stop=4)
    ladder = list(imp(net, digits, recipe, early, levels=3))
    for rung in ladder:
        again = next(imp(initialize(make, 5), digits, recipe, early, levels=3, mask=rung.mask, first=rung.level))
        assert same(again.trained.state, rung.trained.state) and again.noise == rung.noise

def test_level_0_after_pretraining_on_everything_can_be_the_dense_run():
    make = nets['mlp']
    dense = fit(initialize(make, 0), digits, rich)
    net = initialize(make, 0)
    early = fit(net, digits, rich, stop=4)
    rung = next(imp(net, digits, rich, early, levels=1, dense=fit(net, digits, rich, start=early)))
    assert same(rung.trained.state, dense.state)
    assert not same(next(imp(net, digits, rich, early, levels=1)).trained.state, dense.state)  # a fresh optimizer is another run

@pytest.mark.parametrize('recipe', [rich, adam], ids=['sgd', 'adam'])
def test_masked_weights_are_zero_after_every_step_and_others_move(recipe):
    make = nets['narrow']
    net = initialize(make, 0)
    mask = shuffle_layerwise(prune_global_magnitude(net.state_dict(), Mask.dense(net), .7))
    first, *_, last = train(net, digits, recipe, at=range(13), mask=mask)
    for s in train(initialize(make, 0), digits, recipe, at=range(13), mask=mask):
        assert all(not s.state[k][~m].any() for k, m in mask.items())
    assert all((last.state[k][m] != first.state[k][m]).float().mean() > .9 for k, m in mask.items())

def test_rewinding_restores_everything():
    net = initialize(nets['wide'], 0)
    early = fit(net, digits, rich, stop=2)
    fit(net, digits, rich)
    entered = next(train(net, digits, rich, start=early.rewound(), at=[2]))
    assert same(entered.state, early.state) and not entered.optimizer
    assert 'bn1.running_var' in entered.state and entered.state['bn1.num_batches_tracked'] == 2

def test_extra_loss_is_added():
    make, pull = nets['mlp'], lambda net: .1*sum(p.square().sum() for p in net.parameters())
    exact = digits.like(digits.inputs(digits.x).double(), digits.y)
    plain = replace(rich, cutmix=0., crop=0, flip=False, weight_decay=0.)
    extra = fit(initialize(make, 0).double(), exact, plain, extra_loss=pull)
    decay = fit(initialize(make, 0).double(), exact, replace(plain, weight_decay=.2))
    assert all(torch.allclose(extra.state[k], decay.state[k], atol=1e-10) for k in extra.state)

def test_densities_of_twenty_levels_are_exact():
    net = initialize(cifar_resnet, 0)
    mask, n = Mask.dense(net), 270_896
    for _ in range(20):
        mask = prune_global_magnitude(net.state_dict(), mask, .2)
        n -= -(-n//5)
        assert mask.kept == n == int(flat(mask).sum())

def test_shares_round_up_without_float_noise():
    for percent in range(1, 100):
        for n in (1, 7, 10, 99, 100, 266_200): assert share_of(percent/100, n) == -(-percent*n//100)

def test_ties_go_by_position_across_layers():
    w = dict(a=torch.ones(2, 2), b=-torch.ones(3))
    mask = prune_global_magnitude(w, Mask({k: torch.ones_like(v, dtype=torch.bool) for k, v in w.items()}), .7)
    assert flat(mask).tolist() == [False]*5 + [True]*2

def test_masks_equal_torchs_own_pruning_level_after_level():
    "torch.nn.utils.prune, given our counts, on a convolutional network whose weights move between levels"
    net = initialize(cifar_resnet, 0).double()
    layers = {k.removesuffix('.weight'): net.get_submodule(k.removesuffix('.weight')) for k in Mask.dense(net)}
    mask = Mask.dense(net)
    for level in range(6):
        moved = {k: torch.randn(m.shape, generator=stream(level, k), dtype=torch.float64) for k, m in mask.items()}
        for name, layer in layers.items():
            with torch.no_grad(): (layer.weight_orig if level else layer.weight).copy_(moved[f'{name}.weight'])
            if level: layer.weight = layer.weight_orig.detach()*layer.weight_mask
        prune.global_unstructured([(layer, 'weight') for layer in layers.values()], prune.L1Unstructured, amount=share_of(.2, mask.kept))
        mask = prune_global_magnitude(moved, mask, .2)
        assert all(torch.equal(mask[f'{name}.weight'], layer.weight_mask.bool()) for name, layer in layers.items())

@pytest.mark.parametrize('change, by_hand', [
    (dict(optimizer='adam', lr=.003, weight_decay=.05), lambda p: torch.optim.Adam(p, lr=.003, weight_decay=.05)),
    (dict(nesterov=True, weight_decay=.01, lr=.03), lambda p: torch.optim.SGD(p, lr=.03, momentum=.9, nesterov=True, weight_decay=.01)),
    (dict(momentum=0., lr=.03), lambda p: torch.optim.SGD(p, lr=.03))], ids=['adam, weight decay', 'nesterov', 'no momentum'])
def test_optimizers_against_a_hand_written_loop(change, by_hand):
    exact = digits.like(digits.inputs(digits.x).double(), digits.y)
    recipe = Recipe(30, 100, **change)
    net = initialize(nets['mlp'], 0).double()
    optimizer = by_hand(net.parameters())
    for _, x, y in batches(exact, recipe, 0, 30):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    ours = fit(initialize(nets['mlp'], 0).double(), exact, recipe)
    assert all(torch.allclose(v, ours.state[k], atol=1e-12) for k, v in net.state_dict().items())

def test_flip_crop_and_cutmix_happen_as_often_as_asked():
    ramp = torch.arange(8, dtype=torch.uint8).expand(500, 1, 8, 8).contiguous()
    data = ImageSet(ramp, torch.arange(500) % 10, mean=(0.,), std=(1/255,))
    first = lambda **fields: next(batches(data, Recipe(200, 500, **fields), 0, 1))
    falling = lambda x: (x[:, 0, 0, 0] > x[:, 0, 0, -1]).float().mean().item()
    assert falling(first()[1]) == 0 and .4 < falling(first(flip=True)[1]) < .6
    assert (first(crop=2)[1] != first()[1]).flatten(1).any(1).float().mean() > .9 and falling(first(crop=1)[1]) < .5
    mixed = [y.max(1).values.min() < 1 for _, _, y in batches(data, Recipe(200, 500, cutmix=.3), 0, 200)]
    assert .2 < sum(map(float, mixed))/200 < .4

def test_a_snapshot_of_a_live_state_dict_is_a_copy():
    net = initialize(nets['mlp'], 0)
    live, copied = Snapshot(0, net.state_dict()), Snapshot(0, state_of(net))
    fit(net, digits, rich)
    assert same(live.state, copied.state)

def test_dropout_leaves_the_global_generator_alone():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(.5), nn.Linear(64, 10))
    before = torch.random.get_rng_state()
    for _ in train(net, digits, Recipe(4, 64), at=(1, 2)): assert torch.equal(torch.random.get_rng_state(), before)

def test_a_state_of_another_network_is_refused():
    net = initialize(nets['mlp'], 0)
    for state in ({}, dict(nonsense=torch.ones(1)), initialize(partial(lenet_300_100, (3, 8, 8)), 0).state_dict()):
        with pytest.raises(ValueError, match='not one of this Sequential'): predict(net, digits, state)

def test_batches_cover_each_epoch_once():
    data = ImageSet(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1), torch.arange(50), mean=(0.,), std=(1.,))
    for drop, per in ((False, 7), (True, 6)):
        labels = [y for _, _, y in batches(data, Recipe(100, 8, drop_last=drop), 0, 2*per)]
        for epoch in (labels[:per], labels[per:]): assert len(torch.cat(epoch).unique()) == len(torch.cat(epoch)) == (48 if drop else 50)
        assert not torch.equal(labels[0], labels[per])
    with pytest.raises(ValueError, match='make no batch of 64'): next(batches(data, Recipe(1, 64, drop_last=True), 0, 1))

def test_cutmix_shares_labels_by_area():
    x, y = torch.arange(16.).view(16, 1, 1, 1).expand(16, 1, 10, 10).clone(), torch.arange(16)
    for seed in range(20):
        mixed, target = cutmix(x, y, 16, 1., torch.Generator().manual_seed(seed))
        for i in range(16):
            share = torch.bincount(mixed[i].flatten().long(), minlength=16)/100
            assert torch.allclose(share, target[i], atol=1e-6)

@pytest.fixture
def in_bfloat16(monkeypatch):
    "Where this CPU would emulate it, it does"
    monkeypatch.setattr(update, 'multiplies_bfloat16', lambda device: True)

@pytest.mark.parametrize('way', ['autograd', 'closed form', 'sparse'])
def test_where_bfloat16_would_be_emulated_a_training_is_in_float32(way, monkeypatch):
    net, recipe = initialize(nets['mlp'], 0), Recipe(20, 64, lr=.05)
    mask = prune_global_magnitude(net.state_dict(), Mask.dense(net), .9)
    def trained(precision): return fit(initialize(nets['mlp'], 0), digits, replace(recipe, precision=precision), mask=mask, way=way).state
    for emulated in (True, False):
        monkeypatch.setattr(update, 'multiplies_bfloat16', lambda device, emulated=emulated: not emulated)
        assert same(trained('bfloat16'), trained('float32')) == emulated

@pytest.mark.parametrize('way', ['autograd', 'closed form', 'sparse'])
def test_bfloat16_follows_float32_and_leaves_nothing_behind(way, in_bfloat16):
    "Autocast keeps cast weights for as long as it is open: held open over an update, it would train on stale ones"
    recipe, net = Recipe(40, 64, lr=.05), initialize(nets['mlp'], 0)
    mask = prune_global_magnitude(net.state_dict(), Mask.dense(net), .9)
    full, half = (fit(initialize(nets['mlp'], 0), digits, replace(recipe, precision=p), mask=mask, way=way) for p in ('float32', 'bfloat16'))
    assert abs(half.loss - full.loss) < .05*full.loss and not same(half.state, full.state)
    assert not torch.is_autocast_enabled('cpu') and all(v.dtype == torch.float32 for v in half.state.values())
    if way == 'closed form': assert same(half.state, fit(net, digits, replace(recipe, precision='bfloat16'), mask=mask, way='autograd').state)

@pytest.mark.long
def test_accuracy_in_bfloat16_is_that_in_float32(in_bfloat16):
    "Paired over ten seeds: the whole 95 % interval of the difference lies within a point of zero"
    recipe, test = Recipe(300, 64, lr=.05), load_data('digits').test
    def accuracy(seed, precision):
        net = initialize(nets['mlp'], seed)
        return 100*evaluate(net, test, fit(net, digits, replace(recipe, precision=precision), seed=seed).state).accuracy
    found = t_interval([accuracy(seed, 'bfloat16') - accuracy(seed, 'float32') for seed in range(10)])
    assert abs(found.mean) + found.half < 1, found

def test_compiling_goes_through_the_same_loop(monkeypatch):
    "torch.compile itself is left out: it costs a minute, and is not ours"
    wrapped = []
    monkeypatch.setattr(torch, 'compile', lambda model, dynamic: wrapped.append(model) or model)
    net = initialize(nets['mlp'], 0)
    assert same(fit(net, digits, rich, way="compiled").state, fit(initialize(nets['mlp'], 0), digits, rich).state)
    assert wrapped == [net]

def test_loss_is_the_mean_over_steps():
    net = initialize(nets['mlp'], 0)
    recipe = Recipe(3, 100, lr=0.)
    by_hand = [F.cross_entropy(net(x), y).item() for _, x, y in batches(digits, recipe, 0, 3)]
    assert fit(net, digits, recipe).loss == pytest.approx(sum(by_hand)/3, rel=1e-5)

def test_a_network_without_parameters_is_refused():
    with pytest.raises(ValueError, match='no parameters'): fit(nn.Flatten(), digits, Recipe(1))
