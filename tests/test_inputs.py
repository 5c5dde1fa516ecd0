"What users bring, networks, states and data of every kind, is taken rightly or refused in a sentence."
import copy
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, wraps
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from lottery_diet import core
from lottery_diet.baselines import concrete, flow_scores, gates_learned, go_on, grasp_scores, keep_best, snip_scores
from lottery_diet.core import Diverged, aliases, angle, as_state, commit_of, distance, lerp, require_finite, same, save_tensors, seeded, state_of, stream, twin
from lottery_diet.data import ImageSet
from lottery_diet.distill import begin_at, evaluate_synthetic, k_center, random_of_each, stand_in
from lottery_diet.distillation.gradient import Condensing, match_gradients
from lottery_diet.distillation.trajectory import Feed, Stepper, match_by_adjoint, match_unrolled
from lottery_diet.engine.closed_form import ClosedForm
from lottery_diet.engine.evaluation import batches_alike, draws, evaluate, folding_pairs, predict
from lottery_diet.engine.parallel import can_run_in_parallel
from lottery_diet.engine.recipe import Recipe, in_epochs
from lottery_diet.experiments.functions import code_of
from lottery_diet.experiments.ingredients import Network
from lottery_diet.experiments.records import key_of
from lottery_diet.experiments.tasks import Config, RecipeField
from lottery_diet.imp import Mask, Ticket, imp, imp_many, prune_global_magnitude, prune_random, shuffle_layerwise
from lottery_diet.landscape import Curvature, plane_of_four, plane_of_two, surface, top_eigenvalues, trace
from lottery_diet.lmc import exchanged, loss_path, nudged, recalibrate_batchnorm, spawn
from lottery_diet.models import cifar_resnet, find_model, initialize, mlp
from lottery_diet.networks.residual import BasicBlock
from lottery_diet.networks.weights import check_tied, count_prunable, masked, prunable
from lottery_diet.regions import cosines, distance_matrix, living_weights
from lottery_diet.scores import (
    CountOnBatches,
    Scores,
    el2n,
    forgetting,
    grand,
    grand_last_layer,
    input_norm,
    keep_easiest,
    keep_hardest,
    keep_random,
    keep_window,
)
from lottery_diet.sources import load_data, read_folder
from lottery_diet.train import Snapshot, fit, fit_many, train, train_many

splits = load_data('digits')
data, test = splits.train.take(torch.arange(96)), splits.test.take(torch.arange(60))
recipe = Recipe(4, 32, lr=.05)

def flat(*layers): return nn.Sequential(nn.Flatten(), *layers)
def tail(): return nn.Linear(8, 10)

class Rows(nn.Module):
    "A recurrent network over the rows of an image"
    def __init__(self, kind, **options):
        super().__init__()
        self.rows, self.head = kind(8, 8, batch_first=True, **options), nn.Linear(options.get('proj_size') or 8, 10)
    def forward(self, x): return self.head(self.rows(x[:, 0])[0][:, -1])

class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(8, 8), tail()
    def forward(self, x):
        h = x.new_zeros(len(x), 8)
        for row in x[:, 0].unbind(1): h = self.cell(row, h)
        return self.head(h)

class Vit(nn.Module):
    def __init__(self, dropout=0.):
        super().__init__()
        self.patch, self.places = nn.Conv2d(1, 8, 4, 4), nn.Parameter(torch.zeros(4, 8))
        self.block, self.head = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True, norm_first=True), tail()
    def forward(self, x): return self.head(self.block(self.patch(x).flatten(2).transpose(1, 2) + self.places).mean(1))

class Unlike(nn.Module):
    "Attention whose keys are of another size: three matrices instead of one"
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True), tail()
    def forward(self, x): return self.head(self.mix(x[:, 0], x[:, 0, :, :4], x[:, 0, :, :4])[0].mean(1))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.a, self.b, self.out = nn.Linear(64, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), tail()
        self.b.weight = self.a.weight
    def forward(self, x): return self.out(self.b(torch.relu(self.a(torch.relu(self.into(x.flatten(1)))))))

class Bare(nn.Module):
    "A matrix of its own, in no layer"
    def __init__(self):
        super().__init__()
        self.matrix, self.head = nn.Parameter(torch.randn(64, 8, generator=stream(0, 'bare'))*.1), tail()
    def forward(self, x): return self.head(torch.relu(x.flatten(1) @ self.matrix))

class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.two = nn.Bilinear(32, 32, 10)
    def forward(self, x): return self.two(*x.flatten(1).chunk(2, 1))

class Codes(nn.Module):
    "An embedding of the pixels' levels"
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(4, 8), nn.Linear(64*8, 10)
    def forward(self, x): return self.head(self.table(x.flatten(1).add(1).clamp(0, 3).long()).flatten(1))

class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(64, 10)
    def forward(self, x): return self.f(x.sub_(.5).div_(.25).flatten(1))

def frozen():
    net = flat(nn.Linear(64, 8), nn.ReLU(), tail())
    net[1].requires_grad_(False)
    return net

conv = lambda *layers: nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), tail())
old_style = lambda f: f(nn.Linear(64, 8))
networks = { # what makes it, how many weights are prunable, and of how many in matrices
    'linear': (lambda: flat(nn.Linear(64, 8), nn.ReLU(), tail()), 592, 592),
    'no bias': (lambda: flat(nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 10, bias=False)), 592, 592),
    'convolution': (lambda: conv(nn.BatchNorm2d(8)), 72 + 80, 152),
    'InstanceNorm': (lambda: conv(nn.InstanceNorm2d(8, affine=True)), 152, 152),
    'LayerNorm over pixels': (lambda: conv(nn.LayerNorm([8, 8, 8])), 152, 152),
    'grouped': (lambda: conv(nn.Conv2d(8, 8, 3, padding=1, groups=4)), 152 + 144, 296),
    'transposed': (lambda: conv(nn.ConvTranspose2d(8, 8, 2, 2)), 152 + 256, 408),
    'weight_norm': (lambda: flat(parametrizations.weight_norm(nn.Linear(64, 8)), nn.ReLU(), tail()), 592, 592),
    'spectral_norm': (lambda: flat(parametrizations.spectral_norm(nn.Linear(64, 8)), nn.ReLU(), tail()), 592, 592),
    'orthogonal': (lambda: flat(nn.Linear(64, 8), parametrizations.orthogonal(nn.Linear(8, 8)), tail()), 592, 656),
    'weight_norm of old': (lambda: flat(old_style(nn.utils.weight_norm), nn.ReLU(), tail()), 592, 592),
    'spectral_norm of old': (lambda: flat(old_style(nn.utils.spectral_norm), nn.ReLU(), tail()), 592, 592),
    'attention': (Vit, 128 + 192 + 64 + 256 + 80, 720 + 32),
    'attention of unlike sizes': (Unlike, 64 + 32 + 32 + 64 + 80, 272),
    'LSTM': (partial(Rows, nn.LSTM), 256 + 256 + 80, 592),
    'LSTM with projection': (partial(Rows, nn.LSTM, proj_size=4), 256 + 128 + 32 + 40, 456),
    'GRU': (partial(Rows, nn.GRU), 192 + 192 + 80, 464),
    'GRU cell': (Cells, 192 + 192 + 80, 464),
    'bilinear': (Pairs, 10240, 10240),
    'tied': (Tied, 512 + 64 + 80, 656),
    'bare parameter': (Bare, 80, 592),
    'embedding': (Codes, 5120, 5152),
    'frozen': (frozen, 80, 592),
    'in place': (InPlace, 640, 640),
    'DataParallel': (lambda: nn.DataParallel(flat(nn.Linear(64, 8), nn.ReLU(), tail())), 592, 592),
    'PReLU': (lambda: flat(nn.Linear(64, 8), nn.PReLU(8), tail()), 592, 592),
    'dropout': (lambda: flat(nn.Linear(64, 8), nn.Dropout(.5), tail()), 592, 592)}

def make(name): return initialize(networks[name][0], 0)
def quietly(f, *args, **kwargs):
    with warnings.catch_warnings(action='ignore'): return f(*args, **kwargs)

@pytest.mark.parametrize('name', networks)
def test_what_is_counted_is_what_trains_and_what_is_left_out_is_named(name):
    _, pruned, of = networks[name]
    net = make(name)
    with warnings.catch_warnings(record=True, action='always') as said: names = prunable(net)
    said = [str(w.message) for w in said if 'never pruned' in str(w.message)]
    parameters = dict(net.named_parameters())
    assert sum(parameters[k].numel() for k in names) == pruned == quietly(count_prunable, net) == quietly(Mask.dense, net).size
    assert len(said) == (pruned < of) and (pruned == of or f'{(of - pruned)/of:.0%}' in said[0])

@pytest.mark.parametrize('name', networks)
def test_a_pruned_weight_is_zero_in_what_the_layer_multiplies_by(name):
    net = make(name)
    *_, last = quietly(lambda: list(imp(net, data, recipe, Snapshot(0, state_of(net)), levels=1, prune_rate=.4)))
    assert last.mask.kept == last.mask.size - -(-last.mask.size*2//5)
    net.load_state_dict(last.trained.state)
    net.eval()
    with torch.no_grad(): net(data.inputs(data.x[:2]))
    for k, alive in last.mask.items():
        path, parametrized, part = k.partition('.parametrizations.')
        layer, attribute = (path, part.split('.')[0]) if parametrized else path.rpartition('.')[::2]
        weight = getattr(net.get_submodule(layer), attribute.removesuffix('_v').removesuffix('_orig'))
        assert not weight[~alive].any() and weight[alive].any()
    for other, first in last.mask.ties.items(): assert torch.equal(last.trained.state[other], last.trained.state[first])

@pytest.mark.parametrize('name', networks)
def test_a_state_seen_from_outside_is_the_same_as_loaded(name):
    net = make(name)
    begin, end = state_of(net), fit(net, data, recipe).state
    middle = lerp(begin, end, .5)
    path = loss_path(net, begin, end, test, (.5,))
    twin = make(name)
    twin.load_state_dict(middle)
    by_load = evaluate(twin, test)
    assert path.table.loss[1] == pytest.approx(by_load.loss, rel=1e-5) and evaluate(net, test, middle) == pytest.approx(by_load, rel=1e-5)
    dense, half = quietly(Mask.dense, net), None
    half = prune_global_magnitude(end, dense, .5)
    twin.load_state_dict(half.apply(end))
    assert evaluate(twin, test).loss == pytest.approx(loss_path(net, begin, end, test, (.5,), mask=half).table.loss[2], rel=1e-5)

@pytest.mark.parametrize('name', [name for name in networks if name not in ('LSTM', 'LSTM with projection', 'GRU')]) # no batching rule for their kernel
def test_scores_are_those_of_one_example_at_a_time(name):
    net, few = make(name), data.take(torch.arange(6))
    net.eval()
    lengths, errors = [], []
    for i in range(len(few)):
        out = net(few.inputs(few.x[i:i + 1]))
        g = torch.autograd.grad(F.cross_entropy(out, few.y[i:i + 1]), [p for p in net.parameters() if p.requires_grad])
        lengths.append(torch.cat([v.flatten() for v in g]).norm())
        errors.append((out.softmax(1)[0] - F.one_hot(few.y[i], 10)).norm())
    assert torch.allclose(grand(net, few), torch.stack(lengths).detach(), rtol=1e-3)
    assert torch.allclose(el2n(net, few), torch.stack(errors).detach(), rtol=1e-4)

def test_include_and_exclude_take_names_patterns_and_kinds():
    net = make('attention')
    assert prunable(net, include=['places'])[0] == 'places'
    assert quietly(prunable, net, exclude=['block.*', nn.Conv2d]) == ['head.weight']
    with warnings.catch_warnings(action='error'): prunable(net, exclude=['places'])
    assert quietly(Mask.dense, make('frozen'), include=['1.weight']).size == 592
    with pytest.raises(ValueError, match="'nothing' is no prunable weight"): prunable(net, exclude=['nothing'])
    with pytest.raises(ValueError, match='leaves nothing'): quietly(prunable, net, exclude=['*'])

def test_a_mask_of_another_network_leaves_no_weight_alive_without_a_word():
    net, other = make('linear'), make('no bias')
    whole = Mask.dense(net)
    prefixed, thin = Mask({f'module.{k}': m for k, m in whole.items()}), Mask({'1.weight': torch.ones(1, 64, dtype=torch.bool)})
    state, end = state_of(net), state_of(make('linear')) | {'1.bias': torch.ones(8)}
    for mask, said in ((prefixed, "the mask names 'module.1.weight', which the network does not have"),
                       (thin, r"the mask of '1.weight' is \(1, 64\), the weight \(8, 64\)")):
        for use in (lambda: mask.apply(net), lambda: masked(state, mask), lambda: loss_path(net, state, end, test, mask=mask),
                    lambda: plane_of_two(state, end, mask=mask), lambda: living_weights(state, mask), lambda: cosines(state, [end], mask),
                    lambda: distance_matrix([state, end], [mask, mask]), lambda: train(net, data, recipe, mask=mask)):
            with pytest.raises(ValueError, match=said): use()
    with pytest.raises(ValueError, match='the masks are of different networks'): distance_matrix([state, end], [whole, Mask({'1.weight': whole['1.weight']})])
    with pytest.raises(ValueError, match='2 solutions need as many masks, not 1'): distance_matrix([state, end], [whole])
    for mask in (fit, state['1.weight'], [whole]):
        with pytest.raises(TypeError, match='is no mask: give boolean tensors by name'): train(net, data, recipe, mask=mask)
    assert same(whole.apply(other), state_of(other)), 'it has all weights that are masked'
    tied = make('tied')
    half = Mask({k: torch.arange(m.numel()).view(m.shape) % 2 == 0 for k, m in Mask.dense(tied).items()}, Mask.dense(tied).ties)
    second = {'b.weight' if k == 'a.weight' else k: m for k, m in half.items()} # by its second name
    for mask in (half, second): assert same(masked(tied, mask, half.ties), half.apply(tied))
    assert not masked({k: v for k, v in state_of(tied).items() if k != 'b.weight'}, second, half.ties)['a.weight'][~half['a.weight']].any()
    inverse = {k: ~m for k, m in Mask.dense(make('weight_norm')).items()}
    assert not len(living_weights(state_of(make('weight_norm')), inverse)), 'which weights are compared is free'

def test_magnitudes_that_are_equal_are_said():
    "Weights of one magnitude go by position: layer a whole, before layer b"
    signs = {k: torch.where(torch.arange(200) % 3 == 0, .5, -.5) for k in 'ab'}
    everything = Mask({k: torch.ones(200, dtype=torch.bool) for k in 'ab'})
    with pytest.warns(UserWarning, match='400 weights share the magnitude at which is cut, and position decides which 200 of them are kept'):
        half = prune_global_magnitude(signs, everything, .5)
    assert not half['a'].any() and half['b'].all()
    with warnings.catch_warnings(action='error'):
        for share in (0., 1.): prune_global_magnitude(signs, everything, share)
        distinct = {k: torch.arange(200.) + 1000*(k == 'b') for k in 'ab'}
        assert prune_global_magnitude(distinct, everything, .5)['b'].all()
        prune_global_magnitude(distinct | {'b': torch.full((200,), 100.)}, everything, .25) # equal ones, all of which are kept

def test_a_filter_of_weight_norm_that_dies_is_refused():
    net = make('weight_norm')
    mask = Mask.dense(net)
    name = '1.parametrizations.weight.original1'
    dead = mask[name].clone()
    dead[3] = False
    with pytest.raises(ValueError, match='weight_norm divides by its length'): train(net, data, recipe, mask=Mask(dict(mask) | {name: dead}))

@pytest.mark.parametrize('pruned', ['torch.nn.utils.prune', 'permanently', 'torch.ao.pruning'])
def test_networks_that_others_pruned_are_recognized(pruned):
    net = make('linear')
    if pruned == 'torch.ao.pruning':
        from torch.ao.pruning import WeightNormSparsifier
        sparsifier = WeightNormSparsifier(sparsity_level=.5, sparse_block_shape=(1, 1), zeros_per_block=1)
        sparsifier.prepare(net, [dict(tensor_fqn='1.weight'), dict(tensor_fqn='3.weight')])
        sparsifier.step()
    else:
        for layer in (net[1], net[3]):
            prune.l1_unstructured(layer, 'weight', .5)
            if pruned == 'permanently': prune.remove(layer, 'weight')
    mask = Mask.from_pruned(net)
    assert sorted(mask) == ['1.weight', '3.weight'] and mask.density == .5
    assert all(torch.equal(mask[f'{i}.weight'], net[i].weight != 0) for i in (1, 3))
    if pruned != 'permanently':
        with pytest.raises(ValueError, match='take Mask.from_pruned'): Mask.dense(net)

def test_a_mask_goes_to_torch_prune_and_back():
    net = make('convolution')
    mask = prune_global_magnitude(state_of(net), Mask.dense(net), .3)
    applied = mask.to_prune(copy.deepcopy(net))
    assert Mask.from_pruned(applied) == mask
    assert torch.equal(predict(applied, test), predict(net, test, mask.apply(net)))
    applied.train()(test.inputs(test.x[:4])).sum().backward() # leaves a computed weight in the layer, which deepcopy refuses
    assert torch.equal(predict(applied, test, state_of(applied)), predict(applied, test))
    recalibrate_batchnorm(applied, applied, data)
    with pytest.raises(ValueError, match='prune.remove'): train(applied, data, recipe, mask=mask)
    with pytest.raises(ValueError, match='nothing of this'): Mask.from_pruned(net)

def test_a_tied_weight_is_one_weight(tmp_path):
    net = make('tied')
    begin, end = state_of(net), fit(net, data, recipe).state
    assert aliases(end) == {'b.weight': 'a.weight'}
    once = [k for k in end if k != 'b.weight']
    assert distance(begin, end) == distance(begin, end, once) and angle(begin, end) == angle(begin, end, once)
    mask = shuffle_layerwise(prune_global_magnitude(end, Mask.dense(net), .5), 1)
    save_tensors(tmp_path/'end.safetensors', end, {})
    for state in (end, tmp_path/'end.safetensors', {k: v.clone() for k, v in end.items()}):
        applied = mask.apply(state)
        assert torch.equal(applied['a.weight'], applied['b.weight']) and not applied['b.weight'][~mask['a.weight']].any()
    with pytest.raises(ValueError, match='two values for it'): evaluate(net, test, end | {'b.weight': end['b.weight'] + 1})
    with pytest.raises(ValueError, match='two values for it'): train(net, data, recipe, start=end | {'b.weight': end['b.weight'] + 1})
    plane = plane_of_two(end, begin)
    assert plane.coordinates(end) == pytest.approx((1, 0), abs=1e-6) and plane.coordinates(begin) == pytest.approx((-1, 0), abs=1e-6)
    for x, y in ((.3, .7), (1., 0.)): check_tied(net, plane.at(x, y))
    norm = lambda part: torch.cat([v.flatten() for k, v in part.items() if k != 'b.weight']).norm().item()
    assert norm(plane.up) == pytest.approx(norm(plane.right), rel=1e-5)
    surface(net, plane, test, (0., 1.), (0.,))

def test_curvature_of_a_tied_weight_and_of_attention_is_that_of_the_loss():
    for name in ('tied', 'attention'):
        net, few = make(name).double(), ImageSet(data.x[:8].double()/16, data.y[:8], 10)
        here = Curvature(net, net, few)
        assert len(here) == sum(p.numel() for p in net.parameters())
        v = torch.randn(len(here), generator=stream(0, 'direction'), dtype=torch.float64)
        names, sizes = zip(*((k, p.numel()) for k, p in net.named_parameters()))
        def slope(t):
            moved = copy.deepcopy(net)
            with torch.no_grad():
                for p, part in zip(moved.parameters(), v.split(sizes)): p.add_(t*part.view(p.shape))
            return torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(moved.eval()(few.x.clone()), few.y), list(moved.parameters()))])
        by_differences = (slope(1e-5) - slope(-1e-5))/2e-5
        assert torch.allclose(here.times(v[None])[0], by_differences, rtol=1e-4, atol=1e-6*by_differences.norm())

def test_as_many_eigenvalues_as_weights_and_no_more():
    net, few = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)).double(), ImageSet(data.x[:8].double()/16, data.y[:8] % 2)
    here = Curvature(net, net, few)
    whole = torch.linalg.eigvalsh(here.times(torch.eye(4, dtype=torch.float64))).flip(0).numpy()
    assert np.allclose(top_eigenvalues(here, 4), whole, atol=1e-9) and np.allclose(top_eigenvalues(here, 2), whole[:2], atol=1e-4)
    with pytest.raises(ValueError, match='no more eigenvalues'): top_eigenvalues(here, 5)

class Drawing(nn.Module):
    "Draws from torch's generator, NumPy's and Python's, whatever its mode"
    def __init__(self):
        super().__init__()
        self.norm, self.f = nn.BatchNorm1d(64), nn.Linear(64, 10)
    def forward(self, x): return self.f(self.norm(F.dropout(x.flatten(1), .5, training=True)))*(np.random.rand() + random.random())

def global_states(): return [torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]

def test_numbers_do_not_depend_on_global_generators():
    images = data.take(torch.arange(20))
    def numbers(seed):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = global_states()
        net = initialize(Drawing, 0)
        statistics = recalibrate_batchnorm(net, net, images)['norm.running_mean']
        found = [predict(net, images), grand(net, images), statistics, torch.tensor(evaluate(net, images)), fit(net, images, recipe).state['f.weight']]
        assert before == global_states()
        return found
    assert all(map(torch.equal, numbers(1), numbers(2)))

def convolutional(): return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 10))
def grouped(): return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 10))
def plain(): return flat(nn.Linear(64, 8), nn.ReLU(), tail())

def distilled_step(net):
    start = {k: v.detach() for k, v in net.named_parameters()}
    return match_by_adjoint(Stepper(net), start, {k: v + .05 for k, v in start.items()}, data.inputs(data.x[:20]), data.y[:20], .05, 2, Feed(20)).images

def condensed(make):
    how = Condensing(outer=1, inner=2, factor=1, net_images=64, batch_real=8)
    return list(match_gradients(make, data, *begin_at(data, 1), how))[-1].images

all_that_computes = { # of a network that was made, and one that was trained → tensors
    'training': lambda make, net, end: fit(net, data, recipe).state,
    'training in bfloat16': lambda make, net, end: fit(net, data, replace(recipe, precision='bfloat16')).state,
    'training several': lambda make, net, end: fit_many(net, data, recipe, [Snapshot.of(net), Snapshot.of(initialize(make, 1))], seeds=(0, 1))[1].state,
    'accuracy': lambda make, net, end: torch.tensor(evaluate(net, test, end)),
    'el2n': lambda make, net, end: el2n(net, test), 'grand': lambda make, net, end: grand(net, test),
    'a path': lambda make, net, end: loss_path(net, net, end, test).losses,
    'a plane': lambda make, net, end: torch.tensor(surface(net, plane_of_two(state_of(net), end.state), test, (0., 1.), (0.,)).loss),
    'statistics': lambda make, net, end: recalibrate_batchnorm(net, end, data),
    'curvature': lambda make, net, end: Curvature(net, net, test).times(torch.ones(1, len(Curvature(net, net, test)))),
    'SNIP': lambda make, net, end: snip_scores(net, data), 'GraSP': lambda make, net, end: grasp_scores(net, data),
    'gradient matching': lambda make, net, end: condensed(make),
    'trajectory matching': lambda make, net, end: distilled_step(net)}

@pytest.mark.parametrize('what, make', [
    *product([what for what in all_that_computes if 'matching' not in what], [convolutional, plain]),
    ('gradient matching', convolutional), ('gradient matching', grouped), ('trajectory matching', grouped), ('trajectory matching', plain)])
def test_an_autocast_around_it_changes_nothing(make, what):
    end = fit(initialize(make, 0), data, recipe)
    def numbers():
        found = all_that_computes[what](make, initialize(make, 0), end)
        return dict(found) if isinstance(found, Mapping) else dict(found=found)
    apart = numbers()
    with torch.autocast('cpu', torch.bfloat16):
        inside = numbers()
        assert torch.is_autocast_enabled('cpu') and (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16 # the user's own goes on
    assert same(apart, inside)

@pytest.mark.parametrize('draws', [lambda: nn.Dropout(.5), lambda: nn.RReLU(), lambda: nn.AlphaDropout(.3)])
def test_layers_that_draw_draw_the_same_on_the_way_back(draws):
    net = initialize(lambda: flat(nn.Linear(64, 8), draws(), tail()), 0)
    start = {k: v.detach() for k, v in net.named_parameters()}
    target = {k: v + .05*torch.randn(v.shape, generator=stream(0, k)) for k, v in start.items()}
    x, y = data.inputs(data.x[:60]), data.y[:60] # more than a chunk
    def by(match, seed):
        torch.manual_seed(seed)
        return match(start, target, x, y, .05, 4, Feed(60))
    adjoint, again = (by(partial(match_by_adjoint, Stepper(net)), seed) for seed in (1, 2))
    unrolled = by(partial(match_unrolled, net), 3)
    assert torch.equal(adjoint.images, again.images) and adjoint.loss == pytest.approx(unrolled.loss, rel=1e-6)
    assert torch.allclose(adjoint.images, unrolled.images, rtol=1e-3, atol=1e-4*unrolled.images.abs().max())
    with pytest.raises(ValueError, match='leave compiled=False'): match_by_adjoint(Stepper(net, compiled=True), start, target, x, y, .05, 4, Feed(60))

def test_gradient_matching_draws_from_its_seed_and_stops_where_numbers_end():
    make_net = lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(.5), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 10))
    x, y = begin_at(data, 1)
    def last(seed, lr):
        torch.manual_seed(seed)
        return list(match_gradients(make_net, data, x, y, Condensing(outer=1, inner=2, lr_images=lr, factor=1, net_images=64, batch_real=8)))[-1]
    assert torch.equal(last(1, .1).images, last(2, .1).images)
    with pytest.raises(Diverged, match='lower lr_images=1e'): last(1, 1e38)

def test_numbers_that_are_not_finite_end_what_scores_and_looks():
    net = make('convolution')
    lost = state_of(net) | {'0.weight': torch.full_like(net[0].weight, torch.nan)}
    with pytest.raises(Diverged): evaluate(net, test, lost)
    with pytest.raises(Diverged): loss_path(net, net, lost, test)
    net.load_state_dict(lost)
    for score in (el2n, grand):
        with pytest.raises(Diverged): score(net, test)
    with pytest.raises(Diverged): Curvature(net, net, test).times(torch.ones(1, len(Curvature(net, net, test))))
    scores = torch.tensor([0., torch.nan, 1., torch.inf])
    for keep in (keep_easiest, keep_hardest, keep_window):
        with pytest.raises(ValueError, match='1 of 4 scores are not numbers'): keep(scores, 2)
        for n in (3, 5):
            with pytest.raises(ValueError, match=f'4 examples need as many labels, not {n}'): keep(torch.arange(4.), 2, labels=torch.zeros(n, dtype=torch.long))
    assert keep_hardest(torch.tensor([0., torch.inf, 1.]), 1).tolist() == [1]
    with pytest.raises(Diverged, match='lower lr'): fit(make('linear'), data, Recipe(1, 32, lr=1e38, weight_decay=1e3)) # the loss was finite, the update is not
    with pytest.raises(ValueError, match='not finite'): ImageSet(torch.tensor([[[[torch.nan]]]]), torch.zeros(1, dtype=torch.long))

def test_a_plane_that_extrapolates_variances_below_zero_says_what_to_do():
    net = make('convolution')
    a = state_of(net)
    b = a | {'1.running_var': a['1.running_var']*9}
    plane = plane_of_two(b | {'0.bias': a['0.bias'] + 1}, a)
    with pytest.raises(Diverged, match='calibration='): surface(net, plane, test, (-1.5,), (0.,))
    assert np.isfinite(surface(net, plane, test, (-1.5,), (0.,), calibration=data).loss).all()

def test_a_plane_needs_two_solutions_and_leaves_what_they_share():
    net = make('frozen')
    a, b = state_of(net), fit(net, data, recipe).state
    for same_two in ((net, net), (a, dict(a))):
        with pytest.raises(ValueError, match='both solutions are the same: a plane needs two'): plane_of_two(*same_two)
    for four, pair in (((a, a, a, b), 'first'), ((a, b, a, a), 'last')):
        with pytest.raises(ValueError, match=f'the {pair} two solutions are the same'): plane_of_four(four)
    with pytest.raises(Diverged, match='not finite'): plane_of_two(a, b | {'3.weight': b['3.weight']*torch.nan})
    frozen_ones, learned = ('1.weight', '1.bias'), ('3.weight', '3.bias')
    up, moved = plane_of_two(a, b).up, plane_of_two(a, b | {k: b[k] + 1 for k in frozen_ones}).up
    assert not any(up[k].any() for k in frozen_ones) and all(moved[k].any() for k in frozen_ones)
    for k in learned: assert F.cosine_similarity(up[k].flatten(), moved[k].flatten(), 0) > .9, 'numbers drawn for others are the same'

def test_looking_changes_nothing_of_the_users():
    net, x = make('in place'), data.x.float()/255
    images, before = ImageSet(x, data.y), x.clone()
    state = state_of(net)
    for look in (predict, grand, el2n, evaluate): look(net, images)
    fit(net, images, recipe)
    recalibrate_batchnorm(net, state, images)
    Curvature(net, state, images).times(torch.ones(1, 650))
    assert torch.equal(x, before)
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('seen', torch.zeros(()))
            self.f = nn.Linear(64, 10)
        def forward(self, x):
            self.seen.add_(len(x))
            return self.f(x.flatten(1))
    counts = Counts()
    own = state_of(counts)
    predict(counts, test, own)
    assert own['seen'] == 0

def test_a_training_goes_on_from_its_own_weights():
    def walk(disturb):
        net = make('linear')
        for s in train(net, data, Recipe(9, 32, lr=.05), at=[3, 6], seed=0):
            yield s
            disturb(net, s)
    alone = list(walk(lambda net, s: None))
    def child(net, s): fit(net, data, Recipe(9, 32, lr=.05), start=s.rewound(), seed=1)
    with pytest.warns(UserWarning, match='goes on from its own weights of step 3'): beside = list(walk(child))
    assert all(same(a.state, b.state) and a.loss == b.loss for a, b in zip(alone, beside))
    with warnings.catch_warnings(action='error'): looked = list(walk(lambda net, s: (evaluate(net, test), net.zero_grad(), loss_path(net, s, alone[0], test))))
    assert all(same(a.state, b.state) for a, b in zip(alone, looked))

@pytest.mark.parametrize('norm', [nn.BatchNorm1d(8), nn.Sequential(nn.Unflatten(1, (8, 1)), nn.BatchNorm1d(8), nn.Flatten())])
def test_a_last_batch_of_one_image(norm):
    net, odd = flat(nn.Linear(64, 8), copy.deepcopy(norm), tail()), data.take(torch.arange(33))
    for go in (lambda r: train(net, odd, r), lambda r: train_many(net, odd, r, [Snapshot(0, state_of(net))]*2, grouping='in turn')):
        with pytest.raises(ValueError, match='drop_last=True'): list(go(Recipe(2, 32)))
    fit(net, odd, Recipe(1, 32)) # does not come so far
    fit(net, odd, Recipe(2, 32, drop_last=True))
    fit(make('linear'), odd, Recipe(2, 32))
    for how in (Recipe(2, 1), Recipe(2, 1, drop_last=True)):
        with pytest.raises(ValueError, match='every batch is a single image.*batch_size=2 or more'): fit(net, odd, how)

@pytest.mark.parametrize('wrapped, said', [(lambda out: (out, out), 'gives a tuple'), (lambda out: dict(logits=out), 'gives a dict')])
def test_outputs_that_are_no_tensor_are_refused(wrapped, said):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(64, 10)
        def forward(self, x): return wrapped(self.f(x.flatten(1)))
    for go in (lambda net: fit(net, data, recipe), lambda net: evaluate(net, test), lambda net: grand(net, test)):
        with pytest.raises(ValueError, match=said): go(Wrapped())

def test_networks_that_do_not_fit_are_refused_in_a_sentence():
    lazy = lambda: flat(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10))
    for go in (Mask.dense, state_of, lambda net: fit(net, data, recipe), lambda net: evaluate(net, test), lambda net: grand(net, test),
               lambda net: Snapshot(0, net.state_dict())):
        with pytest.raises(ValueError, match='lazy'): go(lazy())
    seen = lazy()
    seen(data.inputs(data.x[:1]))
    assert Mask.dense(seen).size == 592
    with pytest.raises(ValueError, match='float64.*float32'): evaluate(make('linear'), ImageSet(data.x.double(), data.y))
    with pytest.raises(ValueError, match='3 outputs|outputs for 10 classes'): evaluate(flat(nn.Linear(64, 3)), test)
    with pytest.raises(ValueError, match='make it for that shape'): evaluate(flat(nn.Linear(65, 10)), test)

def test_a_state_is_taken_from_whatever_holds_it(tmp_path):
    net = make('convolution')
    end = fit(net, data, recipe)
    torch.save(net.state_dict(), tmp_path/'a.pt')
    torch.save(dict(epoch=3, model_state_dict=OrderedDict(net.state_dict())), tmp_path/'b.pth')
    save_tensors(tmp_path/'c.safetensors', end.state, {})
    torch.save(net, tmp_path/'whole.pt')
    forms = [net, net.state_dict(), end, end.state, tmp_path/'a.pt', str(tmp_path/'b.pth'), tmp_path/'c.safetensors']
    begin, expected = state_of(make('convolution')), evaluate(net, test)
    for form in forms:
        assert same(as_state(form), end.state) and evaluate(net, test, form) == pytest.approx(expected, rel=1e-5) and distance(form, end) == 0
        assert loss_path(net, form, begin, test, ()).table.loss[0] == pytest.approx(expected.loss)
        again = [fit(make('convolution'), data, Recipe(1, 32), start=start).state for start in (end.state if form is end else form, Snapshot(0, end.state))]
        assert same(*again)
    for wrong, said in ((tmp_path/'whole.pt', 'alone'), (tmp_path/'none.pt', 'no file'), (3, 'is no state')):
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=said): as_state(wrong)
    (tmp_path/'d.safetensors').write_bytes(b'not one')
    with pytest.raises(ValueError, match='damaged'): as_state(tmp_path/'d.safetensors')

def bare_loop(recipe, net, loss, mask=None):
    "A plain PyTorch loop on the batches that `train` sees"
    from lottery_diet.train import batches
    if mask: mask.to_prune(net)
    kinds = dict(sgd=partial(torch.optim.SGD, momentum=recipe.momentum), adamw=torch.optim.AdamW)
    optimizer = kinds[recipe.optimizer](net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    for _, x, y in batches(data, recipe, 0, recipe.steps):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        if recipe.clip: torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        optimizer.step()
    return predict(net, test)

@pytest.mark.parametrize('name', ['linear', 'transposed'])
@pytest.mark.parametrize('fields, loss', [
    (dict(optimizer='adamw', weight_decay=.1, lr=.01), F.cross_entropy),
    (dict(label_smoothing=.2), partial(F.cross_entropy, label_smoothing=.2)),
    (dict(clip=.5), F.cross_entropy),
    (dict(loss=lambda out, y: F.multi_margin_loss(out, y)), F.multi_margin_loss)])
@pytest.mark.parametrize('share', [0., .5])
def test_a_recipe_does_what_a_plain_loop_does(name, fields, loss, share):
    how, net = Recipe(6, 32, **{'lr': .1, 'momentum': 0. if share and 'optimizer' not in fields else .9} | fields), make(name)
    mask = prune_global_magnitude(state_of(net), Mask.dense(net), share) if share else None
    ours = predict(net, test, fit(net, data, how, mask=mask))
    assert torch.allclose(ours, bare_loop(how, make(name), loss, mask), rtol=1e-4, atol=1e-5)

def test_what_a_recipe_does_not_know_it_says_and_what_it_gained_changes_no_key():
    for field, meant in dict(learning_rate="'lr'", optimiser="'optimizer'", epochs='in_epochs', batchsize="'batch_size'").items():
        with pytest.raises(TypeError, match=meant): Recipe(10, **{field: 1})
    for wrong in (dict(label_smoothing=2.), dict(clip=-1.), dict(loss='mse'), dict(loss=F.cross_entropy, label_smoothing=.1), dict(optimizer='lion')):
        with pytest.raises(ValueError): Recipe(10, **wrong)
    class Question(Config):
        recipe: RecipeField
    old = Question(recipe=Recipe(10)).identity()['recipe']
    assert not {'label_smoothing', 'clip', 'loss', 'later'} & old.keys() and 'label_smoothing' not in repr(Recipe(10))
    assert json.dumps(Question(recipe=Recipe(10, loss=F.multi_margin_loss)).identity())
    assert Question(recipe=Recipe(10, clip=1.)).identity()['recipe'] == old | dict(clip=1.)
    assert in_epochs(320, 2, 32, clip=1.) == Recipe(20, 32, clip=1.)
    assert copy.deepcopy(Recipe(10, clip=1.)) == Recipe(10, clip=1.)
    starts = [Snapshot(0, state_of(make('linear')))]*2
    with pytest.raises(ValueError, match='refuse clip'): train_many(make('linear'), data, Recipe(2, 32, clip=1.), starts, grouping='in parallel')

def test_momentum_that_an_optimizer_does_not_take_is_refused():
    for optimizer in ('adam', 'adamw'):
        with pytest.raises(ValueError, match=f'momentum=0.0 must be left out: {optimizer} has averages'): Recipe(10, optimizer=optimizer, momentum=0.)
        assert Recipe(10, optimizer=optimizer, momentum=.9) == Recipe(10, optimizer=optimizer)
    assert Recipe(10, lr=np.float32(.5), clip=np.float64(1)) == Recipe(10, lr=.5, clip=1.)

pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 7, 3)).astype(np.uint8) # height × width × channels
labels = np.arange(12) % 3

class Pictures(Dataset):
    "As torchvision's data sets: pictures of Pillow's, a transform, names of classes"
    classes = ['ant', 'bee', 'cat']
    def __init__(self, transform=lambda image: image): self.transform = transform
    def __len__(self): return len(pixels)
    def __getitem__(self, i): return self.transform(Image.fromarray(pixels[i])), int(labels[i])

class HuggingFace:
    "As datasets.Dataset: rows by name, features that know the classes"
    features = dict(image=object(), label=type('ClassLabel', (), dict(num_classes=3))())
    def __len__(self): return len(pixels)
    def __getitem__(self, i): return dict(image=Image.fromarray(pixels[i]), label=int(labels[i]))

def to_tensor(image): return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()/255 # torchvision's ToTensor
first = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
def bytes_of(image):
    from io import BytesIO
    Image.fromarray(image).save(held := BytesIO(), 'PNG')
    return held.getvalue()

sources = {
    'tensor': lambda: (first, torch.from_numpy(labels)),
    'array, channels last': lambda: (pixels, labels),
    'array, channels first, int64': lambda: (first.numpy().astype(np.int64), labels.astype(np.int32)),
    'float64 in 0…1': lambda: (pixels/255, labels.astype(float)),
    'float32 in 0…255': lambda: (pixels.astype(np.float32), labels[:, None]),
    '16 bits': lambda: (pixels.astype(np.uint16)*257, labels),
    'nested lists': lambda: (pixels.tolist(), labels.tolist()),
    'list of tensors, names for labels': lambda: (list(first), np.array(['ant', 'bee', 'cat'])[labels]),
    'list of pictures': lambda: ([Image.fromarray(p) for p in pixels], labels),
    'TensorDataset': lambda: (TensorDataset(first, torch.from_numpy(labels)),),
    'pictures': lambda: (Pictures(),),
    'pictures, ToTensor': lambda: (Pictures(to_tensor),),
    'Subset of a Subset': lambda: (Subset(Subset(Pictures(to_tensor), range(12)), range(12)),),
    'ConcatDataset': lambda: (ConcatDataset([Subset(Pictures(), range(5)), Subset(Pictures(), range(5, 12))]),),
    'list of pairs': lambda: ([(p, y) for p, y in zip(pixels, labels)],),
    'Hugging Face': lambda: (HuggingFace(),),
    'rows with bytes': lambda: (rows_with_bytes(),)}

@pytest.mark.parametrize('kind', sources)
def test_every_kind_of_data_becomes_the_same_tensor(kind):
    got = ImageSet.of(*sources[kind](), progress=False)
    assert got.x.dtype == torch.uint8 and torch.equal(got.x, first) and torch.equal(got.y, torch.from_numpy(labels))
    assert got.classes == 3 and got.mean == pytest.approx(tuple(pixels.mean((0, 1, 2))/255))

def rows_with_bytes(): return [dict(image=dict(bytes=bytes_of(p), path=None), label=int(y)) for p, y in zip(pixels, labels)]

def test_a_parquet_file_becomes_the_same_tensor(tmp_path):
    pytest.importorskip('pyarrow', reason='parquet is read by pyarrow: pip install "lottery_diet[hf]"')
    pd.DataFrame(rows_with_bytes()).to_parquet(tmp_path/'pictures.parquet')
    got = ImageSet.of(tmp_path/'pictures.parquet', progress=False)
    assert torch.equal(got.x, first) and torch.equal(got.y, torch.from_numpy(labels)) and got.name == 'pictures'
    (tmp_path/'half.parquet').write_bytes((tmp_path/'pictures.parquet').read_bytes()[:200])
    with pytest.raises(ValueError, match='half.parquet cannot be read as parquet'): ImageSet.of(tmp_path/'half.parquet')

def test_a_data_set_of_hugging_face_becomes_the_same_tensor():
    datasets = pytest.importorskip('datasets', reason='pip install "lottery_diet[hf]"')
    import pyarrow
    features = datasets.Features(dict(image=datasets.Image(), label=datasets.ClassLabel(names=['ant', 'bee', 'cat', 'dog'])))
    table, info = pyarrow.Table.from_pylist(rows_with_bytes(), features.arrow_schema), datasets.DatasetInfo(features=features)
    held = datasets.Dataset(table, info, fingerprint='pictures')
    got = ImageSet.of(held, progress=False)
    assert torch.equal(got.x, first) and torch.equal(got.y, torch.from_numpy(labels)) and got.classes == 4, 'it names a class that no image has'

def test_a_ticket_is_exported_to_onnx(tmp_path):
    "Made permanent, its zeros stay, and another runtime finds the same logits"
    runtime = pytest.importorskip('onnxruntime', reason='pip install onnx onnxscript onnxruntime')
    pytest.importorskip('onnxscript', reason='pip install onnx onnxscript onnxruntime')
    net = make('linear').eval()
    mask = prune_random(Mask.dense(net))
    mask.to_prune(net)
    for k in mask: prune.remove(net.get_submodule(k.removesuffix('.weight')), 'weight')
    x = data.inputs(data.x[:5])
    torch.onnx.export(net, (x,), tmp_path/'ticket.onnx', dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path/'ticket.onnx')
    [logits] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), net(x).detach(), atol=1e-5, rtol=1e-5)

def test_what_is_no_data_is_refused_with_what_to_give_instead():
    no_data = {DataLoader(Pictures()): 'loader.dataset', (i for i in range(3)): 'list', to_tensor: 'transform', 'photos/': 'load_data', 3: 'arrays, lists'}
    for wrong, said in no_data.items():
        with pytest.raises(TypeError, match=said): ImageSet.of(wrong)
    with pytest.raises(TypeError, match='holds parts'): ImageSet.of(dict(train=HuggingFace()))
    for wrong, said in (
            ((pixels,), 'no pair|ImageSet.of'), ((pixels, labels + 1), 'no image has 0'), ((pixels, labels*2), 'no image has 1'),
            ((pixels, labels + .5), 'whole numbers'), ((pixels, labels[:5]), '12 images need 12 labels'), ((pixels, np.ones((12, 3))/3), 'argmax'),
            ((pixels.reshape(12, -1), labels), 'reshape flat'), ((pixels.astype(np.int64)*1000, labels), 'scale them'),
            (([pixels[0], pixels[1, :5]], labels[:2]), 'one size'), ((pixels[:0], labels[:0]), 'at least one|labels')):
        with pytest.raises(ValueError, match=said): ImageSet.of(*wrong)
    jitter = Pictures(lambda image: to_tensor(image) + torch.rand(1))
    with pytest.raises(ValueError, match='it augments'): ImageSet.of(jitter)
    assert ImageSet.of(pixels, labels[:, None] + 4, classes=8).classes == 8

def test_a_test_set_takes_the_classes_and_constants_of_its_training_set():
    train_set = ImageSet.of(pixels, labels)
    held = ImageSet.of(pixels[:2], labels[:2], like=train_set)
    assert held.mean == train_set.mean and held.classes == 3
    with pytest.raises(ValueError, match='one size'): ImageSet.of(pixels[:2, :5], labels[:2], like=train_set)
    with pytest.raises(ValueError, match='labels must lie'): ImageSet.of(pixels[:2], [0, 3], like=train_set)

def test_names_of_classes_are_those_of_the_training_set(tmp_path):
    train_set = ImageSet.of(pixels[:6], ['cat', 'dog', 'eel']*2)
    assert train_set.names == ('cat', 'dog', 'eel') and train_set.y.tolist() == [0, 1, 2]*2
    for kept in (train_set, train_set.take(torch.arange(2)), train_set.like(train_set.x, train_set.y), train_set.normalized_by((.5,)*3, (.2,)*3)):
        held = ImageSet.of(pixels[:4], ['dog', 'eel', 'eel', 'dog'], like=kept)
        assert held.y.tolist() == [1, 2, 2, 1] and held.classes == 3 and held.names == kept.names
    pairs = [(p, np.array(name)) for p, name in zip(pixels[:2], ['eel', 'dog'])]
    assert ImageSet.of(pairs, like=train_set).y.tolist() == [2, 1]
    alone = ImageSet.of(pixels[:2], ['dog', 'eel'])
    assert alone.y.tolist() == [0, 1] and ImageSet.of(alone, like=train_set).y.tolist() == [1, 2] and ImageSet.of(alone) is alone
    assert ImageSet.of(alone, like=train_set).mean == train_set.mean
    with pytest.raises(ValueError, match="'fox' is none of the 3 classes cat, dog, eel"): ImageSet.of(pixels[:2], ['dog', 'fox'], like=train_set)
    numbered = ImageSet.of(pixels[:6], [0, 1, 2]*2)
    for how in (dict(classes=3), dict(like=numbered)):
        with pytest.raises(ValueError, match='only some of the class names occur: give whole numbers'): ImageSet.of(pixels[:2], ['dog', 'eel'], **how)
    with pytest.raises(ValueError, match='those of images whole numbers'): ImageSet.of(pixels[:6], ['cat', 'dog', 'eel']*2, like=numbered)
    assert ImageSet.of(pixels[:2], [2, 1], like=train_set).y.tolist() == [2, 1]
    with pytest.raises(ValueError, match='3 classes need as many names, not 2'): replace(train_set, names=('cat', 'dog'))
    for name in ('eel', 'cat', 'dog'):
        (tmp_path/name).mkdir()
        Image.fromarray(pixels[0]).save(tmp_path/name/'0.png')
    assert ImageSet.of(pixels[:2], ['eel', 'dog'], like=read_folder(tmp_path)).y.tolist() == [2, 1]

between = np.linspace(.1, .9, pixels.size).reshape(pixels.shape).astype(np.float32) # in 0…1, and no pixels over 255
def test_a_test_set_is_of_one_kind_with_its_training_set():
    train_set, near = ImageSet.of(pixels, labels), torch.from_numpy(np.round(between*255)).permute(0, 3, 1, 2)
    held = ImageSet.of(between, labels, like=train_set)
    assert held.mean == train_set.mean and held.x.dtype == torch.uint8 and torch.equal(held.x.float(), near)
    floats = ImageSet.of(between, labels)
    assert floats.mean == (0.,)*3 and torch.equal(ImageSet.of(pixels, labels, like=floats).inputs(ImageSet.of(pixels, labels, like=floats).x), first/255)
    normalized = ImageSet.of(between*4 - 2, labels)
    for x, like, kind, known in (
            (between*4 - 2, train_set, 'float32', 'uint8'), (pixels, normalized, 'uint8', 'float32'), (between*19, train_set, 'float32', 'uint8')):
        said = f'these images are {kind}, those of images {known}: give both as pixels, or both normalized'
        for source in ((x, labels), (ImageSet.of(x, labels),)):
            with pytest.raises(ValueError, match=said): ImageSet.of(*source, like=like)
    assert ImageSet.of(between*2 - 1, labels, like=normalized).mean == (0.,)*3
    with pytest.raises(ValueError, match='not finite'): ImageSet.of(between*np.float32(np.nan), labels, like=train_set)

def test_images_of_several_types_are_brought_to_one_scale():
    gray = pixels[..., 0]
    deep = [Image.fromarray(p.astype(np.uint16)*257) for p in gray]
    plain, y = torch.from_numpy(gray)[:, None], torch.arange(12) % 3
    assert deep[0].mode.startswith('I')
    sixteen = gray.astype(np.uint16)*257
    for other in (gray, sixteen, sixteen.astype('>u2'), gray/255, sixteen.astype(np.float32), gray.astype(np.int64), deep):
        mixed = [Image.fromarray(a) if i % 2 else b for i, (a, b) in enumerate(zip(gray, other))]
        assert torch.equal(ImageSet.of(mixed, y).x, plain) and torch.equal(ImageSet.of([*zip(mixed, y)], progress=False).x, plain)
    black_and_white = ImageSet.of([gray[0], gray[1] > 127], [0, 1]).x
    assert torch.equal(black_and_white[1, 0], torch.from_numpy((gray[1] > 127)*np.uint8(255)))
    shares = ImageSet.of([(gray[0], 0), (between[1, ..., 0], 1), (gray[2]/np.float32(255), 2)], progress=False).x
    assert torch.equal(shares, torch.stack([plain[0]/255, torch.from_numpy(between[1, ..., 0])[None], plain[2]/255]))
    black = ImageSet.of([(np.zeros((2, 2), np.float32), 0), (np.full((2, 2), -1.7, np.float32), 1)], progress=False).x
    assert black.tolist() == [[[[0.]*2]*2], [[[float(np.float32(-1.7))]*2]*2]]
    assert ImageSet.of([[[0, 1]], [[.5, 0]]], [0, 1]).x.tolist() == [[[[0., 1.]]], [[[.5, 0.]]]], "numbers of Python's are of one kind"
    dark = ImageSet.of([deep[0], Image.fromarray(np.full((6, 7), 4095, np.uint16))], [0, 1]).x[1]
    assert dark.unique().tolist() == [16], '4095/257: one scale with another that fills its range'
    for wrong, said in (([gray[0], between[1, ..., 0] - 3], 'some images are pixels, others floating point from -2'),
                        (gray.astype(np.uint16)*16, 'pixels end at 4080: scale them to 0…255'), (gray.astype(np.float32)*16, 'pixels end at 4080')):
        with pytest.raises(ValueError, match=said): ImageSet.of(wrong, [i % 2 for i in range(len(wrong))])

def test_numbers_that_are_neither_pixels_nor_normalized_are_refused():
    for scale in (255, 100):
        with pytest.raises(ValueError, match=f'floating point from {.1*scale:.3g} to {.9*scale:.3g}, neither pixels nor normalized'):
            ImageSet.of(between*scale, labels)
    assert ImageSet.of(between*19, labels).x.max() > 17 and ImageSet.of(between*255 - 120, labels).x.min() < 0, 'what may be normalized is taken as it is'
    for mean, std in (((125.3,)*3, (63.,)*3), ((.5,)*3, (63.,)*3), ((-.1,)*3, (.2,)*3)):
        for make_set in (lambda: ImageSet.of(pixels, labels, mean=mean, std=std), lambda: ImageSet.of(pixels, labels).normalized_by(mean, std)):
            with pytest.raises(ValueError, match='not of pixels scaled to 0…1: divide'): make_set()
    with pytest.raises(TypeError, match=r'mean=0.5 is no number for each channel: give a tuple'): ImageSet.of(pixels, labels).normalized_by(.5, .2)
    assert ImageSet.of(pixels, labels, mean=np.full(3, .5), std=torch.full((3,), .25)).std == (.25,)*3

@pytest.mark.parametrize('wrong, kind, said', [
    (pd.Series(['cat', 'dog', None, np.nan]), ValueError, 'label 2 is missing'), (['cat', np.nan, 'dog', 'cat'], ValueError, 'label 1 is missing'),
    (pd.array([0, 1, pd.NA, 1], 'Int64'), ValueError, 'label 2 is missing'), (torch.tensor([0., 1., torch.nan, 0.]), ValueError, 'label 2 is missing'),
    (np.ma.array([0, 1, 0, 1], mask=[0, 0, 0, 1]), ValueError, 'label 3 is missing'), (['a', 1, 'b', 0], ValueError, 'some labels are text'),
    (dict(zip('abcd', [0, 1, 0, 1])), TypeError, 'labels are a dict'), ({'a', 'b', 'c', 'd'}, TypeError, 'labels are a set'),
    ('abca', TypeError, 'labels are a str'), (pd.DataFrame({c: [0] for c in 'abcd'}), TypeError, 'labels are a DataFrame'),
    (3, TypeError, 'labels are a int'), (list(pd.date_range('2020', periods=4)), ValueError, 'labels are of type Timestamp'),
    ([[0], [1], [0, 1], [1]], ValueError, 'labels are of several lengths')])
def test_labels_that_name_no_class_are_refused(wrong, kind, said):
    with pytest.raises(kind, match=said): ImageSet.of(pixels[:4], wrong)

def test_numbers_written_as_text_are_in_the_order_of_numbers():
    got = ImageSet.of(pixels[:5], ['0', '1', '2', '10', '9'])
    assert got.names == ('0', '1', '2', '9', '10') and got.y.tolist() == [0, 1, 2, 4, 3]
    assert ImageSet.of(pixels[:2], ['10', '2'], like=got).y.tolist() == [4, 2] and ImageSet.of(pixels[:2], iter(['b', 'a'])).names == ('a', 'b')
    assert ImageSet.of(pixels[:3], ['a', '10', '9']).names == ('10', '9', 'a')

def test_a_data_set_that_augments_seldom_or_elsewhere_is_noticed():
    class Flips(Pictures):
        "Mirrors what `when` says, of the number of the look and of the image"
        def __init__(self, when): self.when, self.look = when, 0
        def __getitem__(self, i):
            self.look += 1
            return (pixels[i][:, ::-1] if self.when(self.look, i) else pixels[i]), int(labels[i])
    for when in (lambda look, i: look % 8 == 0, lambda look, i: i == 11 and look % 2, lambda look, i: look//8 % 2):
        with pytest.raises(ValueError, match='it augments'): ImageSet.of(Flips(when), progress=False)
    always = ImageSet.of(Flips(lambda look, i: i % 2), progress=False)
    assert torch.equal(always.x[1], first[1].flip(2)) and torch.equal(always.x[2], first[2])

def test_places_of_no_image_are_refused():
    few = ImageSet.of(pixels, labels)
    for wrong, said in (([1000], 'there is no image 1000 among 12'), ([-13], 'there is no image -13'), ([.5], 'give whole numbers'),
                        ([True], '12 images need 12 booleans')):
        with pytest.raises(IndexError, match=said): few.take(wrong)
    with pytest.raises(ValueError, match='at least one image'): few.take([])
    for taken in ([1, 0], np.array([1, 0], np.uint8), torch.tensor([1, 0], dtype=torch.uint8), pd.Series([1, 0], [5, 6]), range(1, -1, -1)):
        assert torch.equal(few.take(taken).x, first[[1, 0]])
    assert torch.equal(few.take(np.arange(12) == 3).x, first[3:4])

def test_images_that_would_be_taken_for_something_else_are_refused():
    y = torch.from_numpy(labels)
    for wrong, said in ((torch.from_numpy(pixels), 'permute'), (first.int(), 'uint8'), (first.float()/255*torch.inf, 'finite')):
        with pytest.raises(ValueError, match=said): ImageSet(wrong, y)
    with pytest.raises(ValueError, match='would do nothing'): ImageSet(first.float()/255, y, mean=(.5,)*3, std=(.2,)*3)
    with pytest.raises(ValueError, match='labels begin at 1'): ImageSet(first, y + 1)
    for wrong in (dict(x=pixels, y=y), dict(x=first, y=labels.tolist())):
        with pytest.raises(TypeError, match='ImageSet.of'): ImageSet(**wrong)
    floats = ImageSet(first, y).like(first.float(), y)
    assert floats.mean == (0., 0., 0.) and floats.std == (1., 1., 1.)

def folder(root, classes, parts=('train', 'test'), n=5, save=lambda image, file: image.save(file)):
    for part in parts:
        for c, ending in classes.items():
            (root/part/c).mkdir(parents=True, exist_ok=True)
            for i in range(n): save(Image.fromarray(pixels[i]), root/part/c/f'{i}{ending}')
    return str(root)

def test_a_class_never_becomes_smaller_without_a_word(tmp_path):
    with pytest.raises(ValueError, match='0.tif is not read'): load_data(folder(tmp_path/'a', dict(cat='.png', dog='.tif')))
    root = Path(folder(tmp_path/'b', dict(cat='.png', dog='.png')))
    (root/'train'/'cat'/'.DS_Store').write_bytes(b'')
    (root/'train'/'cat'/'Thumbs.db').write_bytes(b'')
    assert len(load_data(str(root)).train) == 10
    (root/'train'/'dog'/'more').mkdir()
    with pytest.raises(ValueError, match='more is not read'): load_data(str(root))
    (root/'train'/'dog'/'more').rmdir()
    (root/'train'/'fox').mkdir()
    (root/'test'/'fox').mkdir()
    with pytest.raises(ValueError, match='holds no image'): load_data(str(root))
    with pytest.raises(ValueError, match='neither test nor val'): load_data(folder(tmp_path/'d', dict(cat='.png', dog='.png'), ('train',)))
    assert load_data(folder(tmp_path/'vehicles', {'': '.png'}, ('train', 'car'))).train.classes == 2, 'a class may be called train'
    for part, only in dict(train='cat', test='dog').items(): folder(tmp_path/'c', {only: '.png'}, (part,))
    with pytest.raises(ValueError, match='different classes'): load_data(str(tmp_path/'c'))

def test_sixteen_bits_are_scaled_and_transparency_and_rotation_left_as_stored(tmp_path):
    levels = np.random.default_rng(1).integers(0, 65536, (8, 8)).astype(np.uint16)
    folder(tmp_path/'deep', dict(a='.png', b='.png'), save=lambda _, file: Image.fromarray(levels).save(file))
    assert torch.equal(load_data(str(tmp_path/'deep')).train.x[0, 0], torch.from_numpy(np.round(levels/257).astype(np.uint8)))
    def clear(image, file):
        image.putalpha(0)
        image.save(file)
    assert torch.equal(load_data(folder(tmp_path/'clear', dict(a='.png', b='.png'), save=clear)).train.x[0], first[0])
    exif = Image.Exif()
    exif[274] = 6 # turned by a quarter
    assert load_data(folder(tmp_path/'turned', dict(a='.png', b='.png'), save=lambda image, file: image.save(file, exif=exif))).train.shape == (3, 6, 7)

def test_npz_of_images_and_labels_is_split_as_folders_are(tmp_path):
    x, y = np.repeat(pixels, 3, 0), np.repeat(labels, 3)
    np.savez(tmp_path/'all.npz', x=x, y=y)
    train_set, _, held = load_data(str(tmp_path/'all.npz'))
    root = tmp_path/'folders'
    for c in range(3):
        (root/str(c)).mkdir(parents=True)
        for i in np.flatnonzero(y == c): Image.fromarray(x[i]).save(root/str(c)/f'{i:03}.png')
    assert [len(part) for part in load_data(str(root)) if part] == [len(train_set), len(held)] == [30, 6] and held.y.bincount().tolist() == [2, 2, 2]
    np.savez(tmp_path/'unlike.npz', x_train=x, y_train=y, x_test=x, y_test=y + 1)
    with pytest.raises(ValueError, match='holds class 3, which y_train does not'): load_data(str(tmp_path/'unlike.npz'))

def own_module(tmp_path, **files):
    for name, text in files.items(): (tmp_path/f'{name}.py').write_text(text, encoding='utf-8')

def key_in_a_process(tmp_path):
    script = 'import json\nfrom lottery_diet.experiments.ingredients import Network\nprint(json.dumps(Network(model="own_net:net").identity()))'
    out = subprocess.run([sys.executable, '-B', '-W', 'ignore', '-c', script], cwd=tmp_path, capture_output=True, encoding='utf-8')
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)

@pytest.mark.long
def test_a_network_that_was_edited_is_another(tmp_path):
    net = '''import own_parts
from torch import nn
def net(shape, classes):
    pixels = shape[0]*shape[1]*shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, own_parts.width), own_parts.act(), nn.Linear(own_parts.width, classes))
'''
    parts = '''from pathlib import Path
from torch import nn
width = int(Path("width.txt").read_text(encoding="utf-8"))
def act(): return nn.ReLU()
'''
    own_module(tmp_path, own_net=net, own_parts=parts)
    (tmp_path/'width.txt').write_text('8', encoding='utf-8')
    here, again = key_in_a_process(tmp_path), key_in_a_process(tmp_path)
    assert here == again
    own_module(tmp_path, own_parts=parts.replace('ReLU', 'Tanh')) # what the module uses
    other = key_in_a_process(tmp_path)
    assert other['code'] != here['code'] and other['parameters'] == here['parameters']
    own_module(tmp_path, own_parts=parts)
    (tmp_path/'width.txt').write_text('9', encoding='utf-8') # what its function reads
    wider = key_in_a_process(tmp_path)
    assert wider['code'] == here['code'] and wider['parameters'] != here['parameters']
    assert Network(model='resnet20').identity() == dict(model='resnet20', options={}, version=1)

def test_a_function_without_a_file_is_known_by_its_byte_code():
    def compiled(text):
        names = dict(__name__='nowhere')
        exec(text, names)
        return code_of(names['f'])['code']
    assert compiled('def f(x): return x + 1') == compiled('def f(x):\n    return x + 1') != compiled('def f(x): return x + 2')

def smoothed(share): return lambda out, y: F.cross_entropy(out, y, label_smoothing=share)
def times(factor):
    def around(f):
        @wraps(f)
        def called(*args): return factor*f(*args)
        return called
    return around

class Margin:
    "A loss that is an object"
    def __init__(self, p): self.p = p
    def __call__(self, out, y): return F.multi_margin_loss(out, y, self.p)
    def loss(self, out, y): return self(out, y)

@dataclass
class Squared:
    share: float
    def __call__(self, out, y): return self.share*out.square().mean()

@dataclass
class Absolute:
    share: float
    def __call__(self, out, y): return self.share*out.abs().mean()

teachers = [plain() for _ in range(2)]
losses_apart = { # two of a kind that give other numbers
    'partial': [partial(F.cross_entropy, label_smoothing=share) for share in (.1, .2)],
    'partial of a partial': [partial(partial(F.multi_margin_loss, p=1), margin=m) for m in (1., 2.)],
    'weights of classes': [partial(F.cross_entropy, weight=torch.full((10,), v)) for v in (1., 2.)],
    'module': [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=.9)],
    'buffers of a module': [nn.CrossEntropyLoss(weight=torch.full((10,), v)) for v in (1., 2.)],
    'layers in a module': [nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())],
    'closure': [smoothed(.1), smoothed(.9)],
    'network in a closure': [(lambda net: lambda out, y: F.mse_loss(out, net(y)))(net) for net in teachers],
    'default': [(lambda v: lambda out, y, share=v: share*F.cross_entropy(out, y))(v) for v in (1, 2)],
    'decorator': [times(2.)(F.cross_entropy), times(3.)(F.cross_entropy)],
    'two of one name': [lambda out, y: out.mean(), lambda out, y: out.sum()],
    'object': [Margin(1), Margin(2)], 'method': [Margin(1).loss, Margin(2).loss], 'data class': [Squared(1.), Squared(2.)],
    'two data classes': [Squared(1.), Absolute(1.)]}

@pytest.mark.parametrize('kind', losses_apart)
def test_losses_that_give_other_numbers_have_other_keys(kind):
    class Question(Config):
        recipe: RecipeField
    keys = [key_of(Question(recipe=Recipe(10, loss=loss)).identity()) for loss in losses_apart[kind] for _ in range(2)]
    assert keys[0] == keys[1] != keys[2] == keys[3]

def test_a_loss_that_binds_nothing_is_known_by_name_and_code_alone():
    expected = code_of(F.cross_entropy)
    assert set(expected) == {'function', 'code'}
    for same_loss in (partial(F.cross_entropy), torch.compile(F.cross_entropy)): assert code_of(same_loss) == expected
    assert code_of(partial(F.cross_entropy, reduction='sum', ignore_index=3)) == expected | dict(bound=[dict(reduction='sum', ignore_index=3)])
    itself = lambda out, y: out.mean() if len(y) else itself(out, y)
    assert code_of(itself) == code_of(itself)

def test_a_loss_that_cannot_be_told_from_another_is_refused():
    held = iter([])
    for loss in (partial(F.cross_entropy, weight=held), lambda out, y: next(held), Margin(held)):
        with pytest.raises(ValueError, match='holds a list_iterator.*give a function of a module, or a partial of one'): code_of(loss)

def in_a_notebook(text, name='f'):
    "What a notebook's cell defines: there is no file"
    names = dict(__name__='nowhere', nn=nn, F=F)
    exec(text, names)
    return code_of(names[name])['code']

@pytest.mark.parametrize('text, old, new', [
    ('def f(shape, classes, width=8): return nn.Linear(width, classes)', 'width=8', 'width=64'),
    ('def f(*, width=8): return nn.Linear(width, 2)', 'width=8', 'width=64'),
    ('gamma = 2.\ndef f(out, y): return F.cross_entropy(out, y)**gamma', '2.', '5.'),
    ('def g(x): return x + 1\ndef f(x): return g(x)', '+ 1', '+ 2'),
    ('def f(x): return [(lambda: scale)() for _ in x]\nscale = 1', 'scale = 1', 'scale = 2'),
    ('class f(nn.Module):\n    gamma = 2.\n    def forward(self, x): return x*self.gamma', '2.', '5.'),
    ('class f(nn.Module):\n    @staticmethod\n    def forward(x): return x*2.', '2.', '5.'),
    ('class f(nn.Module):\n    @property\n    def gamma(self): return 2.', '2.', '5.'),
    ('class Base(nn.Module):\n    def forward(self, x): return x*2.\nclass f(Base):\n    def __init__(self): super().__init__()', '2.', '5.'),
    ('def made(n):\n    def f(x): return x*n\n    return f\nf = made(2.)', '2.', '5.'),
    ('from functools import wraps\nby = 2.\ndef times(f):\n    @wraps(f)\n    def g(*a): return by*f(*a)\n    return g\nf = times(F.nll_loss)', '2.', '5.')])
def test_what_a_function_of_a_notebook_has_from_elsewhere_is_part_of_it(text, old, new):
    assert in_a_notebook(text) == in_a_notebook(text) != in_a_notebook(text.replace(old, new))

def test_a_set_in_a_function_of_a_notebook_is_the_same_in_every_process():
    script = "from lottery_diet.experiments.functions import code_of\nprint(code_of(lambda x: x in {'a', 'b', 'c', 'd', 'e'})['code'])"
    def run(salt):
        env = os.environ | dict(PYTHONHASHSEED=salt)
        return subprocess.run([sys.executable, '-c', script], env=env, capture_output=True, text=True, check=True).stdout
    assert run('1') == run('2') != ''

def test_functions_of_other_libraries_are_called_as_they_want_it(tmp_path, monkeypatch):
    own_module(tmp_path, elsewhere_nets='''
from torch import nn
def counted(num_classes=1000, width=4): return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))
def passes_on(*, weights=None, **kwargs): return counted(**kwargs)
def neither(width): return nn.Linear(width, width)
''')
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('counted', 'passes_on'): assert find_model(f'elsewhere_nets:{name}')(shape=(1, 8, 8), classes=7, width=3)[2].out_features == 7
    with pytest.raises(ValueError, match='neither classes= nor num_classes='): find_model('elsewhere_nets:neither')
    assert find_model('torchvision.models:resnet18')(shape=(3, 32, 32), classes=7).fc.out_features == 7

def test_provenance_claims_no_commit_of_somebody_else(tmp_path):
    git = lambda *args: subprocess.run(['git', '-c', 'user.name=x', '-c', 'user.email=x@example.org', *args], cwd=tmp_path, check=True, capture_output=True)
    git('init', '-q'), git('commit', '-q', '--allow-empty', '-m', 'mine')
    (tmp_path/'unpacked').mkdir()
    unknown = dict(commit=None, changed_since=None)
    assert commit_of(tmp_path.resolve())['commit'] and commit_of((tmp_path/'unpacked').resolve()) == commit_of(None) == unknown

def test_every_file_is_text_in_utf8(tmp_path):
    "Reading and writing says its encoding everywhere, and works where the locale is another"
    import ast
    package = Path(sys.modules['lottery_diet'].__file__).parent
    silent = []
    for file in (*package.rglob('*.py'), *(package.parent/'tools').glob('*.py')):
        for node in (node for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))) if isinstance(node, ast.Call)):
            called = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            mode = any(isinstance(a, ast.Constant) and 'b' in str(a.value) for a in node.args[1:])
            binary = called == 'open' and (isinstance(node.func, ast.Attribute) or mode)
            reads = called in ('read_text', 'write_text', 'open') and not binary
            if reads and 'encoding' not in {k.arg for k in node.keywords}: silent.append(f'{file.name}:{node.lineno}')
    assert not silent
    script = '''
from pathlib import Path
from tempfile import mkdtemp
from lottery_diet.experiments.records import verified, write_record
folder = Path(mkdtemp())/'kind'/'label'
write_record(folder, dict(name='größer'), [dict(arm='10 % · ü')], {}, dict(where='3×32×32'))
record = verified(folder)
assert (record.config['name'], record.metrics.arm[0], record.provenance['where']) == ('größer', '10 % · ü', '3×32×32')
'''
    env = {k: v for k, v in os.environ.items() if not k.startswith('LC_') and k != 'LANG'} | dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    (tmp_path/'script.py').write_text(script, encoding='utf-8')
    out = subprocess.run([sys.executable, tmp_path/'script.py'], env=env, capture_output=True)
    assert out.returncode == 0, out.stderr.decode(errors='replace')

def test_forgetting_and_seeded_blocks_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    forgetting(partial(mlp, (1, 8, 8), 10, (4,)), data, Recipe(6, 32))
    with seeded(0, 'x'): torch.rand(1)
    assert torch.equal(before, torch.random.get_rng_state())

reader = '''
import json, sys
import numpy as np, torch
from safetensors import safe_open
from torch import nn
from torch.nn.utils import prune
sys.modules['lottery_diet'] = None # not even by chance
with safe_open('ticket.safetensors', 'pt') as f: tensors, notes = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
net.load_state_dict({k.removeprefix('trained/'): v for k, v in tensors.items() if k.startswith('trained/')})
for k, shape in json.loads(notes['shapes']).items():
    alive = torch.from_numpy(np.unpackbits(tensors[f'mask/{k}'].numpy(), count=int(np.prod(shape)))).view(shape)
    assert not net.get_parameter(k)[alive == 0].any()
    prune.custom_from_mask(net.get_submodule(k.removesuffix('.weight')), 'weight', alive)
torch.save(net(torch.load('x.pt')), 'logits.pt')
print(json.loads(notes['recipe'])['lr'], json.loads(notes['origin'])['data'])
'''

def test_a_ticket_is_read_in_another_process_without_this_package(tmp_path):
    net, how = make('linear'), Recipe(4, 32, lr=.05, milestones=(2,), clip=1.)
    start = Snapshot(0, state_of(net))
    *_, last = imp(net, data, how, start, levels=2, prune_rate=.5)
    Ticket.of(last, start, how, data='digits').save(tmp_path/'ticket.safetensors')
    torch.save(test.inputs(test.x), tmp_path/'x.pt')
    out = subprocess.run([sys.executable, '-c', reader], cwd=tmp_path, capture_output=True, encoding='utf-8')
    assert out.returncode == 0 and out.stdout.split() == ['0.05', 'digits'], out.stderr
    assert torch.allclose(torch.load(tmp_path/'logits.pt'), predict(net, test, last), rtol=1e-4, atol=1e-5)
    again = Ticket.load(tmp_path/'ticket.safetensors')
    assert again.mask == last.mask and again.recipe == how and same(again.rewind.state, start.state) and again.trained.step == 4
    assert same(as_state(tmp_path/'ticket.safetensors'), last.trained.state) # where a state is wanted, a ticket's file gives the trained one
    with pytest.raises(ValueError, match='loss of its own'): Ticket(last.mask, start, Recipe(4, loss=F.multi_margin_loss)).save(tmp_path/'b.safetensors')

@pytest.mark.parametrize('name', ['tied', 'attention', 'weight_norm', 'convolution'])
def test_masks_and_snapshots_are_saved_alike(name, tmp_path):
    net = make(name)
    end = fit(net, data, recipe)
    mask = prune_global_magnitude(end, quietly(Mask.dense, net), .37)
    mask.save(tmp_path/'mask.safetensors'), end.save(tmp_path/'end.safetensors')
    again, back = Mask.load(tmp_path/'mask.safetensors'), Snapshot.load(tmp_path/'end.safetensors')
    assert again == mask and again.ties == mask.ties and list(again) == list(mask)
    assert same(back.state, end.state) and same(back.optimizer, end.optimizer) and (back.step, back.loss, back.way) == (end.step, end.loss, end.way)
    assert same(again.apply(back), mask.apply(end)) and same(as_state(tmp_path/'end.safetensors'), end.state)
    for kind in (Mask, Snapshot, Ticket):
        other = tmp_path/('end.safetensors' if kind is Mask else 'mask.safetensors')
        with pytest.raises(ValueError, match='not as it was written'): kind.load(other)
        with pytest.raises(FileNotFoundError, match='no file'): kind.load(tmp_path/'none')
    cut = (tmp_path/'mask.safetensors').read_bytes()
    (tmp_path/'mask.safetensors').write_bytes(cut[:-1])
    with pytest.raises(ValueError, match='not as it was written'): Mask.load(tmp_path/'mask.safetensors')

def test_the_packages_names_are_loaded_when_they_are_used():
    script = '''
import sys
import lottery_diet as ld
assert 'torch' not in sys.modules and 'imp' in dir(ld)
assert ld.imp is sys.modules['lottery_diet.imp'] and ld.imp.Mask is ld.Mask
import lottery_diet.train as module
from lottery_diet.train import train
assert ld.train is module and module.train is train and callable(ld.train)
from inspect import ismodule
assert ismodule(module) and not callable(sys.modules['lottery_diet.data'])
net = ld.initialize(lambda: ld.find_model('lenet_300_100')((1, 8, 8), 10), 0)
data = ld.load_data('digits')
print(len(list(ld.imp(net, data.train, ld.Recipe(1), net, levels=1))))
for name in ld._homes: getattr(ld, name)
try: ld.nothing
except AttributeError as e: print(e)
'''
    out = subprocess.run([sys.executable, '-c', script], capture_output=True, encoding='utf-8')
    assert out.returncode == 0 and out.stdout.split('\n')[:2] == ['2', "module 'lottery_diet' has no attribute 'nothing'"], out.stderr

def test_a_network_as_rewind_point_is_what_it_was_at_the_call():
    net = make('linear')
    start = Snapshot(0, state_of(net))
    by_snapshot = [level.trained for level in imp(make('linear'), data, recipe, start, levels=2)]
    assert all(same(a.state, b.trained.state) for a, b in zip(by_snapshot, imp(net, data, recipe, net, levels=2), strict=True))
    net.load_state_dict(start.state)
    children = spawn(net, data, recipe, net)
    assert all(same(a.state, b.state) for a, b in zip(children, spawn(make('linear'), data, recipe, start)))

def test_what_a_notebook_shows_of_data_paths_snapshots_and_recipes():
    import base64
    import re
    from io import BytesIO
    def strip_of(html): return Image.open(BytesIO(base64.b64decode(re.search('base64,([^"]+)', html)[1])))
    for shown in (ImageSet.of(pixels, labels), ImageSet(torch.randn(4, 1, 5, 5, generator=stream(0, 'x')), torch.tensor([0, 1, 0, 1]))):
        html = shown._repr_html_()
        assert strip_of(html).size == (shown.classes*shown.shape[2], shown.shape[1]) and 'images' in html
    drawn = np.asarray(strip_of(ImageSet.of(pixels, labels)._repr_html_()).convert('RGB'))
    assert np.array_equal(drawn[:, :7], pixels[0])
    net = make('linear')
    end = fit(net, data, recipe)
    path = loss_path(net, make('linear'), end, test, (.5,))
    assert path._repr_html_().count(',') >= 3 and repr(path).startswith('LossPath(3 points')
    assert end._repr_markdown_().count('\n') == 3 + len(end.state)
    assert '| lr | 0.05 |' in recipe._repr_markdown_() and 'momentum' not in recipe._repr_markdown_()

@pytest.mark.parametrize('what, kind, sentence', [
    (lambda: initialize(plain(), 0), TypeError, r'this Sequential is made already: give what makes it, initialize\(lambda: Sequential\(…\), 0\)'),
    (lambda: initialize(plain, '3'), TypeError, "seed='3' is no whole number"),
    (lambda: fit(plain(), data, dict(steps=4)), TypeError, r'the recipe is a dict: give Recipe\(steps=…\), or Recipe\(\*\*it\)'),
    (lambda: ImageSet.of(np.ma.masked_greater(np.ones((4, 8, 8), np.uint8), 200), [0, 1, 0, 1]), TypeError,
     r'pixels are masked, which no network sees: fill them, images.filled\(0\)')])
def test_what_is_given_in_place_of_another_is_answered_with_what_to_give(what, kind, sentence):
    with pytest.raises(kind, match=sentence): what()

@pytest.mark.parametrize('wrong', [TensorDataset(data.x, data.y), (data.x, data.y), data.x, DataLoader(TensorDataset(data.x, data.y)), splits])
def test_what_is_no_image_set_is_refused_with_how_to_make_one(wrong):
    net = plain()
    said = 'give one of them, such as splits.train' if wrong is splits else f'a {type(wrong).__name__} is no ImageSet: make one of it, ImageSet.of'
    for use in (lambda: evaluate(net, wrong), lambda: predict(net, wrong), lambda: fit(net, wrong, recipe), lambda: el2n(net, wrong), lambda: grand(net, wrong),
                lambda: grand_last_layer(net, wrong), lambda: el2n(net, wrong, 'as released'), lambda: loss_path(net, net, net, wrong),
                lambda: fit_many(net, wrong, recipe, [Snapshot.of(net)]), lambda: imp(net, wrong, recipe, net, 1), lambda: forgetting(plain, wrong, recipe),
                lambda: snip_scores(net, wrong), lambda: grasp_scores(net, wrong), lambda: concrete(net, wrong, 9), lambda: input_norm(wrong),
                lambda: stand_in(wrong, 1), lambda: begin_at(wrong, 1), lambda: evaluate_synthetic(plain, data, wrong, recipe),
                lambda: evaluate_synthetic(plain, wrong, data, recipe), lambda: Scores.of(wrong, torch.zeros(96))):
        with pytest.raises(TypeError, match=said): use()

def test_counts_masks_scores_and_names_of_other_kinds_are_taken_or_refused():
    net, scores = plain(), torch.arange(96.)
    state = state_of(net)
    for share in (.5, .1):
        for keep in (keep_easiest, keep_hardest, partial(keep_window, offset=3), lambda _, k: keep_random(96, k)):
            with pytest.raises(TypeError, match=rf'{share} is no number of images: give a whole one, such as round\({share}\*len\(data\)\)'):
                keep(scores, share)
    for per_class, kind, said in ((-1, ValueError, '-1 chooses nothing'), (0, ValueError, '0 chooses nothing'), (.5, TypeError, 'no number of images of each')):
        for choose_from in (stand_in, partial(stand_in, kind='noise'), random_of_each, k_center):
            with pytest.raises(kind, match=said): choose_from(data, per_class)
    for several in (scores.numpy(), scores.tolist(), pd.Series(scores.numpy(), index=range(100, 196))):
        for keep in (keep_easiest, keep_hardest, partial(keep_window, offset=5)):
            assert torch.equal(keep(several, 7), keep(scores, 7))
            assert torch.equal(keep(several, 20, labels=data.y.numpy()), keep(scores, 20, labels=data.y))
    for wrong, shape in ((torch.zeros(2, 96), r'\(2, 96\)'), (torch.zeros(96, 1), r'\(96, 1\)')):
        for keep in (keep_easiest, keep_hardest, partial(keep_window, offset=1)):
            with pytest.raises(ValueError, match=f'scores are {shape}: give one for each example'): keep(wrong, 2)
    for wrong in (state, [state], Snapshot.of(net), [Snapshot.of(net)]):
        for score in (el2n, grand, grand_last_layer):
            with pytest.raises(TypeError, match='is no network: put a state into one first'): score(wrong, data)
    for use in (lambda: forgetting(plain, data, recipe, seeds=3), lambda: evaluate_synthetic(plain, data, test, recipe, seeds=3),
                lambda: fit_many(net, data, recipe, [Snapshot.of(net)]*3, seeds=3)):
        with pytest.raises(TypeError, match=r'seeds=3 is one number: give several, such as range\(3\)'): use()
    for use in (lambda: distance(state, state, ['x']), lambda: angle(state, state, 'x'), lambda: nudged(state, ['x'], 1.),
                lambda: nudged(state, '1.weigh', 1.)):
        with pytest.raises(ValueError, match="entry '(x|1.weigh)' is unknown"): use()
    for size in (-1., float('nan'), float('inf')):
        with pytest.raises(ValueError, match=f'^size={size} must be a number from 0 on'): nudged(state, '1.weight', size)
    assert same(nudged(state, '1.weight', 0.), state)
    other = {k: v + 1 for k, v in state.items()}
    assert distance(state, other, '1.weight') == pytest.approx(512**.5) and same(nudged(state, '1.weight', 1., 3), nudged(state, ['1.weight'], 1., 3))
    assert same(exchanged(state, other, '1'), state | {k: other[k] for k in ('1.weight', '1.bias')})
    with pytest.raises(ValueError, match="layer '11' is unknown"): exchanged(state, other, '11')
    assert repr(Mask({})) == 'Mask(0 of 0 weights, nan%)'
    dense = Mask.dense(net)
    half = prune_global_magnitude(state, dense, .5)
    ladders = [list(imp(net, data, recipe, state, 1, .5, mask=mask)) for mask in (half, dict(half))]
    assert ladders[0][1].mask == ladders[1][1].mask and ladders[1][0].mask == half

def test_a_ladder_that_would_not_train_is_refused_before_it_begins():
    net = plain()
    early, middle = train(net, data, recipe, stop=2, at=[1])
    with pytest.raises(ValueError, match='the dense run ends at step 2 of 4: give one that was trained to the end'):
        imp(net, data, recipe, early, 1, dense=middle)
    end = fit(net, data, recipe)
    for use in (lambda: imp(net, data, recipe, end, 1), lambda: next(imp_many(net, data, recipe, [end], 1))):
        with pytest.raises(ValueError, match='the rewind point is step 4 of 4, after which nothing would be trained'): use()
    assert [level.trained.step for level in imp(net, data, recipe, early, 1, dense=end)] == [4, 4]

def test_forgetting_needs_two_looks():
    for every in (4, 50, 0, -1):
        with pytest.raises(ValueError, match=f'every={every} leaves one look or none in 4 steps: choose 1 to 3'): forgetting(plain, data, recipe, every=every)
    assert forgetting(plain, data, recipe, every=3).shape == (96,)

def test_scores_that_are_equal_are_said():
    "Sorted by class, the first classes would be kept whole"
    counts, y = torch.zeros(90), torch.arange(90)//30
    counts[::10] = 2.
    with pytest.warns(UserWarning, match='81 examples share the score at which is cut, and position decides which 40 of them are kept: give labels='):
        kept = keep_easiest(counts, 40)
    assert torch.bincount(y[kept], minlength=3).tolist() == [27, 13, 0]
    with pytest.warns(UserWarning, match='81 examples share the score at which is cut, and position decides which 11'): keep_hardest(counts, 20)
    with warnings.catch_warnings(action='error'):
        assert torch.bincount(y[keep_easiest(counts, 39, labels=y)]).tolist() == [13]*3
        keep_hardest(counts, 9), keep_easiest(counts, 81), keep_easiest(torch.arange(90.), 40)
        keep_easiest(torch.arange(90).clamp(min=3.), 1) # one of a few

def test_sparse_pixels_are_pixels():
    dense = torch.eye(8, dtype=torch.uint8).repeat(4, 1, 1, 1)
    assert torch.equal(ImageSet.of(dense.to_sparse(), [0, 1, 0, 1]).x, dense)

def test_a_stream_for_a_device_that_knows_no_autocast():
    with torch.autocast('cpu', torch.bfloat16), seeded(0, 'anything', device='meta'): assert not torch.is_autocast_enabled('cpu')

# Hooks, ties and frozen layers are seen by every fast way

def plain_layers(): return flat(nn.Linear(64, 8), nn.ReLU(), tail())

def forget(p): p.grad.zero_()
def half_of(net): return prune_global_magnitude(net, Mask.dense(net), .5)

hooks = {
    'gradient of a weight': lambda net: net[1].weight.register_hook(lambda g: 0*g),
    'gradient that was gathered': lambda net: net[1].weight.register_post_accumulate_grad_hook(forget),
    'before going back': lambda net: net[1].register_full_backward_pre_hook(lambda m, g: (0*g[0],)),
    'outputs': lambda net: net[1].register_forward_hook(lambda m, i, out: 0*out + 1),
    'a forward of its own': lambda net: setattr(net[1], 'forward', partial(lambda m, x: 0*nn.Linear.forward(m, x) + 1, net[1]))}

@pytest.mark.parametrize('kind', hooks)
def test_a_hooked_layer_stays_in_every_way_to_train(kind):
    net = initialize(plain_layers, 0)
    hooks[kind](net)
    start, few = Snapshot.of(net), data.take(range(40))
    warnings.filterwarnings('ignore', 'Full backward hook is firing')
    ends = [fit(net, few, Recipe(2, 20, lr=.1), start=start), *fit_many(net, few, Recipe(2, 20, lr=.1), [start]*2)]
    for end in ends: assert torch.equal(end.state['1.weight'], start.state['1.weight']) and not torch.equal(end.state['3.bias'], start.state['3.bias'])

def test_runs_in_parallel_leave_frozen_layers_and_take_pruned_networks():
    net = initialize(plain_layers, 0)
    net[1].requires_grad_(False)
    start, few = Snapshot.of(net), data.take(range(40))
    for grouping in (None, 'in turn'):
        for end in fit_many(net, few, Recipe(2, 20, lr=.1), [start]*2, grouping=grouping): assert torch.equal(end.state['1.weight'], start.state['1.weight'])
    pruned = initialize(plain_layers, 0)
    half_of(pruned).to_prune(pruned)
    assert not can_run_in_parallel(pruned) and len(fit_many(pruned, few, Recipe(2, 20, lr=.1), [Snapshot.of(pruned)]*2)) == 2

def test_a_weight_of_two_layers_is_not_trained_in_closed_form():
    first, last = nn.Linear(64, 64), nn.Linear(64, 64)
    last.weight = first.weight
    assert not ClosedForm.serves(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last), Recipe(1)) and ClosedForm.serves(plain_layers(), Recipe(1))

def test_a_tied_weight_is_masked_whatever_the_order_of_names_and_not_handed_to_prune():
    net = make('tied')
    half, state = half_of(net), net.state_dict()
    alive = {**half, 'b.weight': half['a.weight']}
    for given in (state, dict(reversed(state.items())), {k: v.clone() for k, v in reversed(state.items())}):
        found = masked(given, half, half.ties)
        for k, m in alive.items(): assert torch.equal(found[k], torch.where(m, state[k], 0))
    with pytest.raises(ValueError, match="'a.weight' is tied to 'b.weight'"): half.to_prune(net)
    assert half.ties == {'b.weight': 'a.weight'} and not list(net.named_buffers())

def test_what_only_holds_living_weights_says_so_on_the_way_on(tmp_path):
    net = initialize(plain_layers, 0)
    start = Snapshot.of(net)
    *_, level = imp(net, data, Recipe(2, 20, lr=.1), start, levels=1, prune_rate=.5)
    kept = Ticket.load(Ticket.of(level, start, Recipe(2, 20, lr=.1)).save(tmp_path/'t.safetensors', living=True))
    how, begin = go_on('rewinding', kept.recipe, kept.rewind, kept.trained)
    with pytest.raises(ValueError, match='saved without its pruned weights'): fit(net, data, how, start=begin)
    assert fit(net, data, how, start=begin, mask=kept.mask).step == how.steps

def test_a_loss_of_each_image_is_refused_before_the_first_step():
    each, net = nn.CrossEntropyLoss(reduction='none'), make('linear')
    begin, mean = state_of(net), Recipe(4, 32, lr=.05, loss=lambda out, y: each(out, y).mean())
    squares = lambda model: torch.stack([p.square().sum() for p in model.parameters()])
    for how, options, said in (
            (replace(recipe, loss=each), {}, r'the loss gives \(32,\) numbers: give one, such as their mean'),
            (replace(recipe, batch_size=1, loss=each), {}, r'the loss gives \(1,\)'),
            (recipe, dict(extra_loss=squares), r'the extra loss gives \(4,\)'),
            (recipe, dict(penalty=lambda tensors: squares(net).detach()), r'the penalty gives \(4,\)')):
        with pytest.raises(ValueError, match=said): fit(net, data, how, **options)
        assert same(state_of(net), begin)
    assert fit(make('linear'), data, mean).loss == pytest.approx(fit(net, data, recipe).loss)
    gated = replace(gates_learned, steps=2, batch_size=32, loss=each)
    with pytest.raises(ValueError, match=r'the loss gives \(32,\)'): concrete(make('linear'), data, 100, recipe=gated)

class Standardized(nn.Conv2d):
    "Weight standardization"
    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w/(w.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)

class Doubled(nn.BatchNorm2d):
    def forward(self, x): return 2*super().forward(x)

class Between(BasicBlock):
    "Something between the first convolution and its normalization"
    def forward(self, x): return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x).sin())))))

def with_layer(net, name, kind):
    old = net.get_submodule(name)
    new = kind(old.in_channels, old.out_channels, 3, padding=1, bias=False) if issubclass(kind, nn.Conv2d) else kind(old.num_features)
    new.load_state_dict(old.state_dict())
    net.set_submodule(name, new)

def with_other_forward(net):
    first = net.layer1[0]
    first.__class__ = Between

def with_forward_of_its_own(net):
    conv1 = net.conv1
    conv1.forward = lambda x: nn.Conv2d.forward(conv1, x).abs()

changed_layers = { # what is done to a residual network, and how many of its 9 pairs still fold
    'nothing': (lambda net: None, 9),
    'pruned': (lambda net: Mask.dense(net).to_prune(net), 0),
    'weight_norm': (lambda net: parametrizations.weight_norm(net.conv1), 8),
    'weight_norm of old': (lambda net: nn.utils.weight_norm(net.conv1), 8),
    'hook': (lambda net: net.bn1.register_forward_hook(lambda m, x, out: out + 1), 8),
    'hook before': (lambda net: net.conv1.register_forward_pre_hook(lambda m, x: (x[0]*2,)), 8),
    'convolution that derives': (lambda net: with_layer(net, 'conv1', Standardized), 8),
    'BatchNorm that derives': (lambda net: with_layer(net, 'bn1', Doubled), 8),
    'block that derives': (with_other_forward, 7),
    'forward of its own': (with_forward_of_its_own, 0)}

@pytest.mark.filterwarnings('ignore:.*weight_norm.*:FutureWarning')
@pytest.mark.parametrize('change', changed_layers)
def test_what_is_folded_gives_what_the_network_gives(change):
    do, folding = changed_layers[change]
    net = initialize(partial(cifar_resnet, (1, 8, 8), 10, 8, 4), 0)
    do(net)
    with torch.no_grad():
        for _ in range(5): net.train()(data.inputs(data.x)) # statistics of its own
    direct = net.eval()(test.inputs(test.x)).detach()
    assert len(folding_pairs(net)) == folding
    assert torch.allclose(predict(net, test), direct, rtol=1e-3, atol=1e-4)
    assert evaluate(net, test).loss == pytest.approx(F.cross_entropy(direct, test.y).item(), rel=1e-4)
    assert torch.allclose(predict(net, test, state_of(net)), direct, rtol=1e-3, atol=1e-4)
    if change == 'weight_norm': assert evaluate(net, test, fit(net, data, recipe)) == pytest.approx(evaluate(net, test), rel=1e-4)

class Ends(nn.Module):
    "A network that does something with what its last layer gives"
    def __init__(self, end, bias=True):
        super().__init__()
        self.end, self.hidden, self.head = end, nn.Linear(64, 8), nn.Linear(8, 10, bias=bias)
    def forward(self, x): return self.end(self.head(torch.relu(self.hidden(x.flatten(1)))))

def test_the_last_layers_gradient_is_that_of_autograd_or_refused():
    def slow(net):
        gradients = [torch.autograd.grad(F.cross_entropy(net(test.inputs(x[None])), y[None]), list(net.head.parameters())) for x, y in zip(test.x, test.y)]
        return torch.stack([torch.cat([g.flatten() for g in each]).norm() for each in gradients])
    for end, bias in ((lambda out: out, True), (lambda out: out, False), (lambda out: out/9, False)): # a scale goes through a layer without bias
        net = initialize(partial(Ends, end, bias), 0)
        assert torch.allclose(grand_last_layer(net, test), slow(net), rtol=1e-4)
    for end in (lambda out: out.log_softmax(1), lambda out: out/9, torch.tanh, lambda out: out[:, :5].repeat(1, 2)):
        net = initialize(partial(Ends, end), 0)
        with pytest.raises(ValueError, match='Ends does something after its last linear layer.*use grand'): grand_last_layer(net, test)

def test_networks_that_were_hooked_or_pruned_here_are_copied():
    net, how = make('convolution'), Recipe(4, 32)
    counts = CountOnBatches(data, how, 0)
    hook = net.register_forward_hook(counts)
    evaluate(net, test, state_of(net)), el2n(net, test, 'as released'), draws(net.train(), data.inputs(data.x[:2]))
    for other in (twin(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))): other.train()(data.inputs(data.x[:5]))
    assert not counts.ever.any(), 'copies are not counted'
    odd = CountOnBatches(data, how, 0)
    bare = make('convolution')
    bare.register_forward_hook(odd)
    for n in (net, bare): fit(n, data, how, way='autograd')
    assert counts.ever.any() and torch.equal(counts.scores, odd.scores)
    with pytest.raises(ValueError, match='not one of the 4 .* take the hook off'): net.train()(data.inputs(data.x[:32]))
    assert torch.equal(copy.deepcopy(counts).scores, counts.scores)
    hook.remove()
    mask = prune_global_magnitude(state_of(net), Mask.dense(net), .5)
    scores = el2n(net_with(net, mask), test, 'as released')
    mask.to_prune(net).train()(test.inputs(test.x)) # leaves a computed weight in the layer, which deepcopy refuses
    assert torch.allclose(el2n(net, test, 'as released'), scores, atol=1e-6)

def net_with(net, mask):
    own = twin(net)
    own.load_state_dict(mask.apply(net))
    return own

def test_hooks_and_frozen_layers_in_many_trainings_are_what_they_are_in_one():
    starts = [Snapshot(0, state_of(initialize(lambda: flat(nn.Linear(64, 8), nn.ReLU(), tail()), seed))) for seed in range(3)]
    seen, net = [], make('frozen')
    ends = fit_many(net, data, recipe, starts, grouping='in parallel')
    for start, end in zip(starts, ends): assert [torch.equal(end.state[k], start.state[k]) for k in ('1.weight', '1.bias', '3.weight')] == [True, True, False]
    net[3].register_forward_hook(lambda m, x, out: seen.append(len(out)))
    with pytest.raises(ValueError, match='or hooks'): fit_many(net, data, recipe, starts, grouping='in parallel')
    fit_many(net, data, recipe, starts)
    assert seen.count(32) >= recipe.steps

def test_a_network_whose_weights_are_all_frozen_is_refused():
    net = make('linear').requires_grad_(False)
    for go in (lambda: fit(net, data, recipe), lambda: fit_many(net, data, recipe, [Snapshot.of(net)]*2, grouping='in parallel'), lambda: grand(net, test)):
        with pytest.raises(ValueError, match='all weights of this Sequential are frozen'): go()

class Idle(nn.Module):
    "Has a layer that it does not use"
    def __init__(self):
        super().__init__()
        self.f, self.idle = nn.Linear(64, 10), nn.Linear(4, 4)
    def forward(self, x): return self.f(x.flatten(1))

def test_a_layer_that_is_not_used_scores_zero():
    net = initialize(Idle, 0)
    alone = initialize(lambda: flat(nn.Linear(64, 10)), 0)
    alone[1].load_state_dict(net.f.state_dict())
    for score in (lambda net: snip_scores(net, data), lambda net: grasp_scores(net, data), lambda net: flow_scores(net, data.shape)):
        scores = score(net)
        assert not scores['idle.weight'].any() and torch.equal(scores['f.weight'], score(alone)['1.weight'])

def test_gates_learn_with_the_clip_of_the_recipe():
    how = replace(gates_learned, optimizer='sgd', steps=6, milestones=(), lr=1000.)
    with_clip = lambda clip: quietly(concrete, make('linear'), data, 100, recipe=replace(how, clip=clip))
    assert with_clip(0.) == with_clip(1e9) != with_clip(1e-12)

def test_an_error_without_a_text_is_told_by_its_kind():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(64, 10)
        def forward(self, x): raise ValueError
    with pytest.raises(ValueError, match=r'Silent cannot take images of 1×8×8.*\(ValueError\)'): evaluate(Silent(), test)

class Waves(nn.Module):
    "Complex weights, of which the squared length is an output"
    def __init__(self):
        super().__init__()
        self.waves = nn.Parameter(torch.randn(64, 10, generator=stream(0, 'waves'), dtype=torch.complex64)*.1)
    def forward(self, x): return (x.flatten(1).to(self.waves.dtype) @ self.waves).abs()

def test_complex_weights_are_on_the_path_and_in_the_distance():
    start = initialize(Waves, 0)
    a, b = (fit(initialize(Waves, 0), data, recipe, start=Snapshot.of(start), seed=seed).state for seed in (1, 2))
    v, w = a['waves'], b['waves']
    torch.testing.assert_close(lerp(a, b, .25)['waves'], .75*v + .25*w)
    assert distance(a, b) == pytest.approx((v - w).abs().double().square().sum().sqrt().item()) and angle(a, a) == 0
    torch.testing.assert_close(plane_of_two(a, b).at(1., 0.)['waves'], v)
    with pytest.raises(Diverged): require_finite({'waves': v*torch.nan}, 'not finite')
    mixed = lerp(state_of(flat(tail())), {k: u.bfloat16() for k, u in state_of(flat(tail())).items()}, .5)
    assert all(u.dtype == torch.float32 for u in mixed.values())

@pytest.mark.parametrize('end', [nn.Softmax(1), nn.Sequential(nn.Sigmoid(), nn.Softmax(1))])
def test_probabilities_are_not_taken_for_logits(end):
    net = initialize(lambda: flat(nn.Linear(64, 10), end), 0)
    looks = (evaluate, el2n, partial(el2n, mode='as released'), grand, snip_scores, partial(fit, recipe=recipe), lambda n, d: Curvature(n, n, d),
             lambda n, d: loss_path(n, n, n, d), lambda n, d: concrete(n, d, 100))
    for look in looks:
        with pytest.raises(ValueError, match='Sequential gives probabilities, not logits: leave out the softmax at its end'): look(net, data)
    own = replace(recipe, loss=lambda p, y: F.nll_loss(p.log(), y)) # a loss of one's own takes what it wants
    logits = initialize(lambda: flat(nn.Linear(64, 10)), 0)
    logits[1].load_state_dict(net[1].state_dict())
    if isinstance(end, nn.Softmax): assert fit(net, data, own).loss == pytest.approx(fit(logits, data, recipe).loss, rel=1e-4)
    assert evaluate(flat(nn.Linear(64, 10), nn.ReLU()), data).loss > 0, 'no number below zero, but rows of any sum'

class Batchwise(nn.Module):
    "BatchNorm without running statistics"
    def __init__(self, norm):
        super().__init__()
        self.f, self.norm, self.head = nn.Linear(64, 8), norm(8, track_running_stats=False), tail()
    def forward(self, x): return self.head(torch.relu(self.norm(self.f(x.flatten(1)))))

def test_images_that_a_network_normalizes_by_their_neighbors():
    net = initialize(partial(Batchwise, nn.BatchNorm1d), 0)
    with pytest.warns(UserWarning, match='BatchNorm of this Batchwise keeps no running statistics'): together = predict(net, test)
    assert not torch.allclose(quietly(predict, net, test, batch_size=10), together, atol=1e-3), 'the warning is not for nothing'
    odd = ImageSet(data.x.repeat(11, 1, 1, 1)[:1025], data.y.repeat(11)[:1025], classes=10)
    for look in (evaluate, el2n, lambda n, d: grand(n, d), lambda n, d: grand(n, d.take(torch.arange(1)))):
        with pytest.raises(ValueError, match='Batchwise normalizes each batch by itself, which a single image is not enough for'): quietly(look, net, odd)
    assert quietly(evaluate, net, odd, batch_size=205).loss > 0
    with warnings.catch_warnings(action='error'): evaluate(make('convolution'), test)

def test_curvature_and_planes_under_a_mask_are_those_of_the_masked_network():
    net = initialize(lambda: flat(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10)), 0).double()
    images = ImageSet(data.inputs(data.x).double(), data.y)
    mask, whole = prune_global_magnitude(state_of(net), Mask.dense(net), .8), state_of(net)
    dead = mask.apply(net)
    sizes = [m.numel() for m in mask.values()]
    def loss(weights):
        parts = {k: w.view(mask[k].shape) for k, w in zip(mask, weights.split(sizes))}
        return F.cross_entropy(torch.func.functional_call(net, dead | parts, (images.x,)), images.y)
    alive = torch.cat([m.flatten() for m in mask.values()])
    hessian = torch.func.hessian(loss)(torch.cat([dead[k].flatten() for k in mask]))[alive][:, alive]
    for state in (whole, dead):
        torch.testing.assert_close(Curvature(net, state, images, mask).times(torch.eye(mask.kept, dtype=torch.float64)), hessian)
    other = state_of(initialize(lambda: flat(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10)), 1).double())
    for x, y in ((0., 0.), (1., 0.), (.3, -.7)):
        point = plane_of_two(whole, other, mask=mask).at(x, y)
        assert not any(point[k][~m].any() for k, m in mask.items())
        assert same(point, plane_of_two(dead, mask.apply(other), mask=mask).at(x, y))

class Plain(nn.Module):
    "Convolution and BatchNorm, called in `forward`"
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), tail()
    def stem(self, x): return torch.relu(self.bn(self.conv(x)))
    def forward(self, x): return self.fc(self.stem(x).mean((2, 3)))

class ByLambda(Plain):
    "The same by a function that closes over the network"
    def __init__(self):
        super().__init__()
        self.stem = lambda x: torch.relu(self.bn(self.conv(x)))

class ByLayers(Plain):
    "By a function that closes over layers, and one that closes over it"
    def __init__(self):
        super().__init__()
        conv, layers = self.conv, [self.bn, torch.relu]
        def inner(x): return layers[1](layers[0](conv(x)))
        self.held = dict(stem=[lambda x: inner(x)])
    def stem(self, x): return self.held['stem'][0](x)

class ByForward(Plain):
    "By a forward of its own, and a hook"
    def __init__(self):
        super().__init__()
        fc = self.fc
        self.forward = lambda x, usual=super().forward: usual(x) - fc.bias
        self.fc.register_forward_hook(lambda m, x, out, net=self: out + net.fc.bias)

@pytest.mark.parametrize('kind', [ByLambda, ByLayers, ByForward])
def test_functions_that_close_over_a_network_are_bound_to_its_copy(kind):
    plain, net = initialize(Plain, 0), initialize(kind, 0)
    before, other = state_of(net), state_of(initialize(Plain, 1))
    assert len(core.closures(net)) == dict(ByLambda=1, ByLayers=2, ByForward=2)[kind.__name__] and core.closures(plain) == []
    for n in (plain, net): n.train()
    ends = [fit_many(initialize(k, 0), data, recipe, [Snapshot(0, before), Snapshot(0, other)], grouping='in turn') for k in (Plain, kind)]
    for a, b in zip(*ends):
        for k in a.state: torch.testing.assert_close(b.state[k], a.state[k], msg=k)
    looks = [lambda n: recalibrate_batchnorm(n, other, data), lambda n: snip_scores(n, data), lambda n: dict(out=predict(n, test, other)),
             lambda n: dict(out=el2n(n, test, 'as released'))] + [lambda n: flow_scores(n, data.shape), lambda n: concrete(n, data, 100)]*(kind is ByLambda)
    for look in looks:
        u, v = look(plain), look(net)
        assert u.keys() == v.keys()
        for k in u: torch.testing.assert_close(v[k], u[k])
    assert recalibrate_batchnorm(net, other, data)['bn.running_mean'].any() and same(net.state_dict(), before), 'the user\'s own network is as it was'
    again = twin(twin(net))
    assert not {id(p) for p in net.parameters()} & {id(p) for p in again.parameters()}
    again.load_state_dict(other)
    assert torch.allclose(predict(again, test), predict(plain, test, other), atol=1e-6)

by_name = ByLambda()
def outer(x): return by_name.fc.bias + x

def test_a_function_that_reaches_its_network_by_name_is_not_copied():
    inside, hooked = initialize(Plain, 0), initialize(Plain, 0)
    inside.stem = partial(lambda x: torch.relu(inside.bn(inside.conv(x))))
    by_name.register_forward_hook(lambda m, x, out: outer(out))
    for net in (by_name, inside):
        with pytest.raises(ValueError, match=f'this {type(net).__name__} cannot be copied: <lambda> reaches its weights by a global name'): twin(net)
        with pytest.raises(ValueError, match='cannot be copied'): recalibrate_batchnorm(net, net, data)
    shared, seen = initialize(Plain, 1), [] # what is no part of the network is not copied with it
    hooked.register_forward_hook(lambda m, x, out: seen.append(len(out)) or out + shared.fc.bias)
    weighed = initialize(Plain, 0)
    weighed.fc.weight.register_hook(lambda g: g*weighed.fc.bias.sum())
    assert core.closures(hooked) == []
    predict(twin(hooked), test)
    own = twin(weighed)
    with torch.no_grad(): own.fc.bias.fill_(0)
    own(data.inputs(data.x[:4])).sum().backward()
    assert sum(seen) == len(test) and not own.fc.weight.grad.any()

def test_children_that_differ_in_augmentation_alone_need_some():
    def children(net, recipe=recipe, **kwargs): return spawn(net, data, recipe, state_of(net), noise='augmentation', **kwargs)
    with pytest.raises(ValueError, match="noise='augmentation' needs images that are augmented"): children(make('linear'))
    def brighter(x, draws): return x + torch.rand(len(x), 1, 1, 1, generator=draws)
    for net, kwargs in ((make('dropout'), {}), (make('linear'), dict(recipe=replace(recipe, crop=1))), (make('linear'), dict(augment=brighter))):
        assert distance(*children(net, **kwargs)) > 0
    assert distance(*spawn(make('linear'), data, recipe, make('linear'), noise='order')) > 0

def by_class(images): return images.take(images.y.argsort(stable=True))

def test_batches_are_alike_where_images_come_class_after_class():
    net, many = initialize(lambda: flat(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), tail()), 0), splits.train
    def spread(images): return recalibrate_batchnorm(net, net, images, 64)['2.running_var']
    fit(net, many, Recipe(60, 64, lr=.1))
    variance = spread(many)
    in_order = net[1](many.inputs(many.x[many.y.argsort(stable=True)]).flatten(1)).detach()
    within = torch.stack([part.var(0) for part in in_order.split(64) if len(part) >= 32]).mean(0)
    assert (within/variance).mean() < .9, 'what batches of one class would give'
    torch.testing.assert_close(spread(by_class(many)), variance, rtol=.05, atol=0.)
    chosen = lambda images: snip_mask(net, images)
    jaccard = lambda a, b: int(sum((a[k] & b[k]).sum() for k in a))/int(sum((a[k] | b[k]).sum() for k in a))
    again = many.take(torch.randperm(len(many), generator=stream(0, 'another order')))
    assert jaccard(chosen(many), chosen(by_class(many))) > jaccard(chosen(many), chosen(again)) - .1
    assert batches_alike(many, 64) is many and batches_alike(by_class(many), len(many)) is not many # data in random order keep every digit
    sorted_twice = batches_alike(by_class(many), 64)
    assert torch.equal(sorted_twice.x, batches_alike(by_class(many), 64).x) and torch.equal(sorted_twice.y.bincount(), many.y.bincount())
    one = many.take((many.y == 3).nonzero()[:, 0])
    assert batches_alike(one, 64) is one

def snip_mask(net, images): return keep_best(snip_scores(net, images, batch_size=64), 100, Mask.dense(net))

def normed(f): return lambda: flat(f(nn.Linear(64, 8)), nn.ReLU(), f(nn.Linear(8, 8)), nn.ReLU(), tail())

@pytest.mark.filterwarnings('ignore:.*spectral_norm.*:FutureWarning')
@pytest.mark.parametrize('norm', [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_singular_vectors_follow_from_weights(norm):
    net, other = initialize(normed(norm), 0), initialize(normed(norm), 1)
    a, b = fit(net, data, recipe).state, fit(other, data, recipe).state
    turned = a | {k: -a[k] for k in core.implied(a)} # known but for a sign
    assert len(core.implied(a)) == 4 and distance(a, turned) == 0 and distance(a, b) > 0 and angle(a, turned) == pytest.approx(0, abs=1e-12)
    path = loss_path(net, a, turned, data, (.25, .45, .75)).table.loss
    assert path.max() - path.min() < .02
    for point in (lerp(a, b, .5), lerp(turned, b, .5), plane_of_two(turned, b).at(0., 0.)):
        net.load_state_dict(point)
        net.eval()
        with torch.no_grad():
            for layer in (net[1], net[3]):
                layer(torch.zeros(1, layer.in_features))
                assert torch.linalg.matrix_norm(layer.weight, 2) == pytest.approx(1, rel=1e-3)
    assert not core.implied(a) & plane_of_two(a, b).right.keys() and same(lerp(a, b, 0.), a) and same(lerp(a, b, 1.), b)

def test_vectors_of_a_convolution_are_of_the_axis_that_they_were_of():
    for layer, axis in ((nn.Conv2d(4, 4, 3), 0), (nn.ConvTranspose2d(4, 4, 3), 1)):
        normal = initialize(lambda: parametrizations.spectral_norm(layer), 0).eval()
        changed = core.renewed(state_of(normal) | {'parametrizations.weight.original': torch.randn(4, 4, 3, 3, generator=stream(0, 'weights'))*.01
                                              + state_of(normal)['parametrizations.weight.original']})
        normal.load_state_dict(changed)
        assert torch.linalg.matrix_norm(normal.weight.movedim(axis, 0).flatten(1), 2).item() == pytest.approx(1, rel=1e-3)

class Counting(nn.Module):
    "Writes to a buffer, or gives it a new tensor"
    def __init__(self, anew=False, training_alone=False):
        super().__init__()
        self.anew, self.training_alone, self.f = anew, training_alone, nn.Linear(64, 10)
        self.register_buffer('seen', torch.zeros(()))
    def forward(self, x):
        if self.anew: self.seen = self.seen + len(x)
        elif self.training or not self.training_alone: self.seen += len(x)
        return self.f(x.flatten(1))

def test_a_look_leaves_buffers_as_they_were():
    for anew in (False, True):
        net = initialize(partial(Counting, anew), 0)
        for look in (evaluate, predict, el2n, lambda n, d: loss_path(n, n, n, d)): look(net, test)
        assert net.seen == 0
        fit(net, data, recipe)
        assert net.seen == 4*32
    net, plain = initialize(Counting, 0), initialize(partial(Counting, training_alone=True), 0)
    for look in (grand, lambda n, d: Curvature(n, n, d)):
        with pytest.raises(ValueError, match="this Counting writes to its buffer 'seen' in evaluation.*if self.training"): look(net, test)
        look(plain, test)
    assert net.seen == 0

@pytest.mark.parametrize('off', [torch.no_grad, torch.inference_mode])
def test_gradients_that_are_switched_off(off):
    for go in (lambda net: fit(net, data, recipe), lambda net: grand(net, test), lambda net: snip_scores(net, data), lambda net: flow_scores(net, data.shape)):
        with off(), pytest.raises(ValueError, match='gradients are switched off here'): go(make('linear'))

def test_what_else_was_an_error_of_others_is_a_sentence():
    net = make('linear')
    for wrapped in ('module.', '_orig_mod.'):
        state = {wrapped + k: v for k, v in net.state_dict().items()}
        with pytest.raises(ValueError, match=f'names of one begin with {wrapped!r}, take that off'): evaluate(net, test, state)
    for kind in (torch.float64, torch.bfloat16): # as a network takes a state that it loads
        assert evaluate(net, test, {k: v.to(kind) for k, v in net.state_dict().items()}).loss == pytest.approx(evaluate(net, test).loss, rel=.02)
    curvature = Curvature(net, net, test)
    counts = dict(batch_size=lambda n: evaluate(net, test, batch_size=n), chunk=lambda n: grand(net, test, n), draws=lambda n: trace(curvature, n))
    for name, go in counts.items():
        for n in (0, -1, 1.5):
            with pytest.raises(ValueError, match=f'{name}={n} must be a whole number of at least 1'): go(n)
    odd = ImageSet(data.x.repeat(11, 1, 1, 1)[:1001], data.y.repeat(11)[:1001], classes=10)
    norm = initialize(lambda: flat(nn.Linear(64, 8), nn.BatchNorm1d(8), tail()), 0)
    with pytest.raises(ValueError, match='Sequential normalizes each batch by itself, which a single image is not enough for'): el2n(norm, odd, 'as released')

def test_what_gradient_matching_cannot_match():
    net, (x, y), how = networks['convolution'][0], begin_at(data, 1), Condensing(outer=1, inner=1, factor=1, batch_real=8)
    go = lambda net, labels, images=data: next(match_gradients(net, images, x, labels, how))
    with pytest.raises(ValueError, match='there is no real image of class 3'): go(net, y, data.take(data.y != 3))
    with pytest.raises(ValueError, match='soft labels'): go(net, F.one_hot(y).float())
    with pytest.raises(ValueError, match='no convolutions that train'): go(lambda: net().requires_grad_(False), y)
    for wrong in (dict(lr_images=-1), dict(momentum=5), dict(cutmix=3), dict(inner=1.5), dict(net_lr=float('nan'))):
        with pytest.raises(ValueError, match=next(iter(wrong))): Condensing(**wrong)
