"Where there is a GPU: recorded, batched and bfloat16 trainings learn what plain ones do."
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_packed import cropped, make_folder

from lottery_diet.core import distance, stream
from lottery_diet.distill import begin_at
from lottery_diet.distillation.gradient import Condensing, match_gradients
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.engine.update import can_compile
from lottery_diet.imp import Mask, prune_random
from lottery_diet.models import cifar_resnet, conv_net, initialize, lenet_300_100
from lottery_diet.plots import t_interval
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, batches, fit, fit_many, grouping_for, way_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
digits = load_data('digits')
on_gpu = digits.train
nets = dict(mlp=partial(lenet_300_100, (1, 8, 8)), resnet=partial(cifar_resnet, (1, 8, 8), depth=8))

def trained(make, recipe, way, seed=0, **kwargs):
    net = initialize(make, seed).cuda()
    return net, fit(net, on_gpu, recipe, seed=seed, way=way, **kwargs)

@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
@pytest.mark.parametrize('make', nets.values(), ids=nets)
def test_a_recorded_update_is_the_plain_one(make, optimizer):
    "Over 60 steps with a ragged last batch, a mask, warm-up and a falling rate; float32, so that only the order of sums may differ"
    recipe = Recipe(60, 200, lr=.003, optimizer=optimizer, weight_decay=1e-3, warmup=10, milestones=(30,), crop=1, flip=True, precision='float32')
    mask = prune_random(Mask({k: torch.rand(m.shape, generator=stream(0, k)) < .5 for k, m in Mask.dense(make()).items()}))
    (_, plain), (_, replayed) = (trained(make, recipe, way, mask=mask) for way in ('autograd', 'graph'))
    start = initialize(make, 0).cuda().state_dict()
    assert distance(plain.state, replayed.state) < .02*distance(plain.state, start)
    assert all(not replayed.state[k][~m.cuda()].any() for k, m in mask.items())

def test_the_choice_on_a_gpu():
    net = initialize(nets['mlp'], 0).cuda()
    assert way_for(net, Recipe(99)) == way_for(net, Recipe(100), extra_loss=len) == 'autograd'
    assert way_for(net, Recipe(100)) == 'graph' and way_for(net, Recipe(5000)) == ('compiled graph' if can_compile() else 'graph')
    assert grouping_for(net, on_gpu, Recipe(100), 16) == 'in parallel'
    assert grouping_for(initialize(nets['resnet'], 0).cuda(), on_gpu, Recipe(100), 16) == 'in turn'

@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='one GPU')
def test_the_second_gpu_trains_too():
    recipe = Recipe(60, 64, lr=.02, precision='float32')
    first, second = (fit(initialize(nets['mlp'], 0).to(device), on_gpu, recipe, way='graph') for device in ('cuda:0', 'cuda:1'))
    assert distance({k: v.cpu() for k, v in first.state.items()}, {k: v.cpu() for k, v in second.state.items()}) < 1e-3

def test_networks_learn_between_steps_on_images():
    "Ten batches at a time, twenty times"
    data = on_gpu.to('cuda')
    images, labels = begin_at(data, 1)
    plan = Condensing(outer=1, inner=20, net_images=640, factor=1) # 200 steps of a network
    look = list(match_gradients(partial(conv_net, (1, 8, 8), width=8, depth=2), data, images, labels, plan))[-1]
    assert look.images.isfinite().all() and not torch.equal(look.images, images.cpu())

def test_runs_in_parallel_are_the_runs_alone():
    recipe = Recipe(60, 64, lr=.02, precision='float32')
    starts = [Snapshot(0, initialize(nets['mlp'], seed).state_dict()) for seed in range(8)]
    net = initialize(nets['mlp'], 0).cuda()
    for seed, (alone, together) in enumerate(zip(*(fit_many(net, on_gpu, recipe, starts, grouping=g) for g in ('in turn', 'in parallel')))):
        assert distance(alone.state, together.state) < .05*distance(alone.state, {k: v.cuda() for k, v in starts[seed].state.items()})

@pytest.mark.parametrize('way, precision', [('graph', 'tf32'), ('compiled graph', 'tf32'), ('graph', 'bfloat16')])
def test_accuracy_is_distributed_as_that_of_plain_float32(way, precision):
    "Paired over ten seeds: the 95 % interval of the difference reaches within a point of zero"
    recipe, gaps = Recipe(300, 64, lr=.05, crop=1), []
    for seed in range(10):
        ends = (trained(nets['resnet'], replace(recipe, precision=p), w, seed) for w, p in (('autograd', 'float32'), (way, precision)))
        plain, fast = (evaluate(net, digits.test, end.state).accuracy for net, end in ends)
        gaps.append(100*(fast - plain))
    found = t_interval(gaps)
    assert abs(found.mean) - found.half < 1, found

def test_a_gpu_is_given_the_batches_that_lie_on_the_disk(tmp_path):
    "Copied while the ones before are computed on, and none of them is written to too early"
    data, work = load_data('imagenet', make_folder(tmp_path, train=12, val=1)).train, torch.randn(4000, 4000, device='cuda')
    def after_work(x):
        for _ in range(20): work @ work
        return x.cpu()
    here = [x for _, x, _ in batches(data, replace(cropped, steps=40), 0, 40)]
    there = [after_work(x) for _, x, _ in batches(data.to('cuda'), replace(cropped, steps=40), 0, 40)]
    for a, b in zip(here, there, strict=True): torch.testing.assert_close(a, b)
