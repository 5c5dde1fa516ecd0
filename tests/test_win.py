"Why Lottery Tickets Win: the penalty in every way to train, distances against another implementation, presets against the protocol table."
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lottery_diet.core import distance, project_root, same, stream
from lottery_diet.experiments.connectivity import level_of, levels_of
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.sweeps import sweep, varied
from lottery_diet.experiments.tasks import Run
from lottery_diet.imp import Mask, imp
from lottery_diet.models import cifar_resnet, conv4, initialize, lenet_300_100, mlp, resnet20, resnet50, vgg16
from lottery_diet.networks.quick import quick_net
from lottery_diet.pages.claims import read_claims
from lottery_diet.papers.catalogue import panels_of, preset
from lottery_diet.papers.why_tickets_win.figures import draw_instability
from lottery_diet.papers.why_tickets_win.plots import whose_dense_learns
from lottery_diet.papers.why_tickets_win.protocols import about, figures
from lottery_diet.regions import (
    _correlation,
    distance_matrix,
    matched_units,
    measures,
    moved_mask,
    orders_by_activations,
    orders_by_weights,
    reordered,
    repulsion,
    unit_groups,
)
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit

digits = load_data('digits')
exact = digits.train.like(digits.train.inputs(digits.train.x).double(), digits.train.y)
lenet = partial(lenet_300_100, (1, 8, 8))
resnet = partial(cifar_resnet, (1, 8, 8), depth=8, width=16) # wide enough for channels-last weights

def random_mask(make, share, seed=0):
    return Mask({k: torch.rand(m.shape, generator=stream(seed, 'test', k)) < share for k, m in Mask.dense(make()).items()})

def as_written(optima, mask, strength):
    "λ/|Θ| Σ cos²(θ⊙m, θ_r⊙m), by loops"
    def loss(model):
        weights, total = dict(model.named_parameters()), 0.
        for other in optima:
            products = [sum((p[k]*q[k]*mask[k]).sum() for k in mask) for p, q in ((weights, other), (weights, weights), (other, other))]
            total = total + products[0]**2/products[1]/products[2]
        return strength*total/len(optima)
    return loss

@pytest.mark.parametrize('make, share, way', [
    (lenet, 1., 'closed form'), (lenet, .3, 'closed form'), (partial(mlp, (1, 8, 8), hidden=(800, 20)), .05, 'sparse'),
    (resnet, 1., 'autograd'), (resnet, .3, 'autograd')])
@pytest.mark.parametrize('strength', [2., -1.])
def test_the_penalty_is_the_written_formula_in_every_way_to_train(make, share, way, strength):
    mask, optima = random_mask(make, share), [initialize(make, seed).double().state_dict() for seed in (0, 1, 2)]
    recipe = Recipe(6, 64, lr=.05, weight_decay=1e-3)
    def trained(**how): return fit(initialize(make, 0).double(), exact, recipe, mask=mask, **how)
    slow, ours, plain = trained(extra_loss=as_written(optima, mask, strength)), trained(penalty=repulsion(optima, mask, strength)), trained()
    assert (slow.way, ours.way) == ('autograd', way) and abs(slow.loss - ours.loss) < 1e-10
    assert distance(slow.state, ours.state) < 1e-9*distance(plain.state, ours.state)
    assert all(not ours.state[k][~m].any() for k, m in mask.items())

def test_channels_last_weights_are_pushed_where_they_live():
    net, mask = initialize(resnet, 0).double(), random_mask(resnet, .4)
    fit(net, exact, Recipe(1, 32))
    assert any(not p.is_contiguous() for p in net.parameters())
    others = [initialize(resnet, 1).double().state_dict()]
    for p in net.parameters(): p.grad = torch.zeros_like(p)
    repulsion(others, mask, 2.)(dict(net.named_parameters()))
    ours = {k: net.get_parameter(k).grad.clone() for k in mask}
    net.zero_grad()
    as_written(others, mask, 2.)(net).backward()
    assert all(torch.allclose(ours[k], net.get_parameter(k).grad, atol=1e-14) for k in mask)

def test_in_single_precision_it_agrees_to_rounding():
    make = lenet
    net, mask, optima = initialize(make, 0), random_mask(make, .5), [initialize(make, s).state_dict() for s in (1, 2)]
    for p in net.parameters(): p.grad = torch.zeros_like(p)
    value = repulsion(optima, mask, 2.)(dict(net.named_parameters()))
    ours = {k: net.get_parameter(k).grad.clone() for k in mask}
    net.zero_grad()
    slow = as_written(optima, mask, 2.)(net)
    slow.backward()
    assert abs(value - slow) < 1e-6 and all(torch.allclose(ours[k], net.get_parameter(k).grad, rtol=1e-3, atol=1e-7) for k in mask)

@pytest.mark.parametrize('way', [None, 'autograd', 'graph'])
def test_a_pushed_training_stops_and_resumes_to_the_bit(way):
    make, recipe = lenet, Recipe(20, 64, lr=1e-2, optimizer='adam')
    mask, optima = random_mask(make, .5), [initialize(make, s).state_dict() for s in (1, 2)]
    train = lambda **how: fit(initialize(make, 0), digits.train, recipe, mask=mask, penalty=repulsion(optima, mask, 2.), way=way, **how)
    assert same(train().state, train(start=train(stop=7)).state)
    assert not same(train().state, fit(initialize(make, 0), digits.train, recipe, mask=mask, way=way).state)

def test_distances_against_another_implementation():
    make = lenet
    rungs = list(imp(initialize(make, 0), digits.train, Recipe(80, 64, lr=.05), Snapshot(0, initialize(make, 0).state_dict()), 3, .5))
    states, masks = [r.trained.state for r in rungs], [r.mask for r in rungs]
    expected = {measure: np.zeros((4, 4)) for measure in measures}
    for i in range(4):
        for j in range(4):
            u, v = (np.concatenate([(states[n][k]*masks[i][k]*masks[j][k]).double().numpy().ravel() for k in masks[0]]) for n in (i, j))
            cosine = u@v/np.sqrt(u@u)/np.sqrt(v@v)
            expected['angular'][i, j] = 2/np.pi*np.arccos(min(1., cosine))
            expected['cosine'][i, j] = 1 - cosine
            expected['euclidean'][i, j] = np.sqrt(((u - v)**2).sum())
    for measure in measures:
        found = distance_matrix(states, masks, measure)
        assert np.allclose(found, expected[measure], atol=1e-7) and (np.diag(found) == 0).all() and (found == found.T).all()

def test_matching_undoes_any_order_and_never_leads_away():
    make = partial(mlp, (1, 8, 8), hidden=(20, 15, 10))
    for seed in range(3):
        a, b = (initialize(make, s).state_dict() for s in (seed, seed + 10))
        moved = matched_units(make(), a, b)
        x = torch.rand(5, 1, 8, 8)
        net, other = make(), make()
        net.load_state_dict(b)
        other.load_state_dict(moved)
        assert torch.allclose(net(x), other(x), atol=1e-5) and distance(a, moved) <= distance(a, b)

@pytest.mark.parametrize('make, side', [(partial(cifar_resnet, depth=8), 8), (partial(resnet50, width=4), 8), (partial(vgg16, width=4), 16), (conv4, 8)])
def test_units_of_a_network_with_statistics_change_order_and_are_found_again(make, side):
    "Running statistics travel with their channels: it computes the same, and its mask comes back to the last weight"
    net = initialize(partial(make, (1, side, side)), 0).double().eval()
    for i, (k, v) in enumerate(net.state_dict().items()):
        if v.ndim == 1 and v.is_floating_point(): v.copy_(torch.rand(v.shape, generator=stream(i, k), dtype=torch.float64) + .5)
    groups, a = unit_groups(net), {k: v.clone() for k, v in net.state_dict().items()}
    orders = [torch.randperm(units.count, generator=stream(i, 'test order')) for i, units in enumerate(groups)]
    copied = reordered(a, groups, orders)
    x = torch.rand(4, 1, side, side, generator=stream(0, 'test images'), dtype=torch.float64)
    before = net(x)
    net.load_state_dict(copied)
    assert torch.allclose(net(x), before, rtol=1e-8) and sum(not torch.equal(a[k], copied[k]) for k in a) > len(a)/2
    mask = Mask({k: torch.rand(m.shape, generator=stream(1, k)) < .3 for k, m in Mask.dense(net).items()})
    there = moved_mask(net, mask, a, copied)
    assert there == Mask(reordered(mask, groups, orders)) != mask and moved_mask(net, there, copied, a) == mask
    assert all(torch.equal(u, v) for u, v in zip(orders_by_weights(net, copied, a), orders))

@pytest.mark.parametrize('seed', range(12))
def test_a_copy_is_found_again_from_wherever_matching_by_weights_begins(seed):
    "From the orders as they are alone, some of these end elsewhere: the first units are matched beside later ones that are not matched yet"
    make = partial(quick_net, (3, 16, 16), 10, torch.rand(64, 3, 16, 16, generator=stream(0, 'seen')), widths=(8, 16, 16))
    a = {k: v + .02*torch.randn(v.shape, generator=stream(seed, k)) if v.is_floating_point() else v for k, v in initialize(make, seed).state_dict().items()}
    groups = unit_groups(make())
    orders = [torch.randperm(units.count, generator=stream(seed, 'order', i)) for i, units in enumerate(groups)]
    assert all(map(torch.equal, orders_by_weights(make(), reordered(a, groups, orders), a), orders))

def test_units_that_always_say_the_same_go_with_none():
    "Rounding is no answer: a unit stuck at a number above zero has no spread, whatever the last digit does; correlations of others are numpy's"
    say = torch.rand(6, 500, generator=stream(0, 'said'), dtype=torch.float64)
    say[2], say[4] = 3. + 1e-7*say[2], 0.
    said = torch.cat([say, say.flip(0) + .1*torch.rand(6, 500, generator=stream(1, 'said'), dtype=torch.float64)]).split(6)
    u, v = said
    found = _correlation(u @ v.T, u.sum(1, keepdim=True), v.sum(1), u.square().sum(1, keepdim=True), v.square().sum(1), 500)
    stuck = torch.tensor([False, False, True, False, True, False])
    with np.errstate(invalid='ignore', divide='ignore'): expected = torch.from_numpy(np.corrcoef(u, v)[:6, 6:])
    assert torch.allclose(found[~stuck], expected[~stuck]) and (found[stuck] == 0).all() and found.abs().max() <= 1

@pytest.mark.parametrize('net, why', [
    (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 3)), 'has a Conv2d, 0'),
    (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), 'has a LayerNorm, 1'),
    (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3)), 'has a GroupNorm, 1')])
def test_units_whose_order_means_something_are_refused(net, why):
    with pytest.raises(ValueError, match=f'cannot be matched: it {why}'): unit_groups(net)

class Tail(nn.Module):
    "Eight channels that have a scale each, a way from them to a linear layer of so many inputs, and that layer"
    def __init__(self, way, inputs):
        super().__init__()
        self.conv, self.norm, self.way, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), way, nn.Linear(inputs, 3)
    def forward(self, x): return self.fc(self.way(torch.relu(self.norm(self.conv(x)))))

def same_after_shuffling(net, side=8):
    "Does it compute the same with its units in another order, in which some of its weights really move?"
    net = initialize(lambda: net, 0).double().eval()
    groups, x = unit_groups(net), torch.rand(4, 1, side, side, generator=stream(0, 'test images'), dtype=torch.float64)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    for i, (k, v) in enumerate(state.items()):
        if v.ndim == 1: v.copy_(torch.rand(v.shape, generator=stream(i, k), dtype=torch.float64) + .5)
    net.load_state_dict(state)
    before, other = net(x), reordered(state, groups, [torch.arange(units.count).roll(1) for units in groups])
    net.load_state_dict(other)
    assert any(not torch.equal(state[k], other[k]) for k in state)
    return torch.allclose(net(x), before, rtol=1e-8)

@pytest.mark.parametrize('way, inputs', [
    (lambda x: x.mean([2, 3]), 8), (lambda x: x.mean((3, 2)), 8), (lambda x: x.mean(dim=(-2, -1)), 8), (lambda x: x.amax((-1, -2)), 8),
    (lambda x: torch.amax(x, dim=[2, 3], keepdim=True).flatten(1), 8), (lambda x: torch.mean(input=x, axis=(2, 3)), 8), (lambda x: x.flatten(1), 512),
    (lambda x: x.flatten(start_dim=1), 512), (lambda x: torch.flatten(x, 1, 3), 512), (lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1), 8),
    (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8), (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(512)), 512),
    (nn.Sequential(nn.Flatten(), nn.Linear(512, 6), nn.BatchNorm1d(6), nn.ReLU()), 6)])
def test_ways_from_channels_to_a_linear_layer_are_followed(way, inputs): assert same_after_shuffling(Tail(way, inputs))

@pytest.mark.parametrize('way, inputs, why', [
    (lambda x: x.mean(1).flatten(1), 64, 'calls mean'), (lambda x: x.mean(dim=1).flatten(1), 64, 'calls mean'),
    (lambda x: x.amax(dim=1).flatten(1), 64, 'calls amax'), (lambda x: x.mean(axis=1).flatten(1), 64, 'calls mean'),
    (lambda x: torch.mean(x, (1, 2, 3), keepdim=True).flatten(1), 1, 'calls mean'),
    (lambda x: x.mean(), 1, 'calls mean'), (lambda x: x.mean((2, 3)).mean((-2, -1)), 1, 'calls mean'),
    (lambda x: x.flatten(), 2048, 'calls flatten'),
    (lambda x: x.flatten(2), 64, 'calls flatten'), (lambda x: x.flatten(start_dim=2), 64, 'calls flatten'), (lambda x: x.flatten(1, 2), 8, 'calls flatten'),
    (nn.Flatten(2), 64, 'calls way'), (nn.Flatten(1, 2), 8, 'calls way'), (nn.Identity(), 8, 'gives fc units on another axis'),
    (lambda x: x[:, :4].flatten(1), 256, 'calls getitem'), (lambda x: x*x.mean((2, 3), keepdim=True)[:, ::1], 8, 'calls getitem'),
    (lambda x: x.mT.flatten(1), 512, 'calls getattr')])
def test_ways_that_mix_channels_are_refused(way, inputs, why):
    with pytest.raises(ValueError, match=f'cannot be matched: it {why}'): unit_groups(Tail(way, inputs))

def test_units_on_the_last_axis_are_matched_there_or_refused():
    def rows(*layers): return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), *layers)
    assert same_after_shuffling(rows(nn.Linear(6, 3)))
    for behind in ([nn.Flatten()], [nn.AvgPool2d(3, 1, 1)], [nn.Conv2d(1, 2, 3)], [nn.BatchNorm2d(1)]):
        with pytest.raises(ValueError, match='cannot be matched'): unit_groups(rows(*behind, nn.Linear(6, 3)))
    net = rows(nn.Linear(6, 3))
    a, look = {k: v.clone() for k, v in initialize(lambda: net, 0).state_dict().items()}, digits.test.take(torch.arange(50))
    b = reordered(a, unit_groups(net), [torch.arange(6).roll(2)])
    assert same(matched_units(net, a, b, look=look), a)

@pytest.mark.parametrize('make', [partial(mlp, (1, 8, 8), hidden=(20, 15)), partial(conv4, (1, 8, 8)), partial(cifar_resnet, (1, 8, 8), depth=8)])
def test_orders_by_activations_are_an_assignment_by_numpys_correlations(make):
    "Over all images at once, where ours adds sums up batch by batch"
    from scipy.optimize import linear_sum_assignment
    look, (a, b) = digits.test.take(torch.arange(70)), (initialize(make, seed).state_dict() for seed in (0, 1))
    net, said = make().eval(), []
    for name, m in net.named_modules():
        m.register_forward_hook(lambda m, x, y, name=name: said[-1].update({name: y.detach().movedim(-1 if y.ndim == 2 else 1, 0).flatten(1).double().numpy()}))
    for state in (a, b):
        said.append({})
        net.load_state_dict(state)
        net(look.inputs(look.x))
    for units, order in zip(unit_groups(make()), orders_by_activations(make(), a, b, look, batch_size=32), strict=True):
        of_a, of_b = (np.concatenate([heard[name] for name in units.seen], 1) for heard in said)
        alike = np.nan_to_num(np.corrcoef(of_a, of_b)[:units.count, units.count:])
        best = linear_sum_assignment(alike, maximize=True)[1]
        assert alike[range(units.count), order.numpy()].sum() == pytest.approx(alike[range(units.count), best].sum(), abs=1e-4)

class Twice(nn.Module):
    "Layers that are called one after the other; a name may stand there again"
    def __init__(self, *calls, tied=False):
        super().__init__()
        layers = dict(a=nn.Linear(6, 6), b=nn.Linear(6, 6, bias=False), norm=nn.BatchNorm1d(6), act=nn.ReLU())
        self.calls, self.into, self.layers, self.out = calls, nn.Linear(8, 6), nn.ModuleDict({k: layers[k] for k in dict.fromkeys(calls)}), nn.Linear(6, 3)
        if tied: self.layers['b'].weight = self.layers['a'].weight
    def forward(self, x):
        x = self.into(x)
        for name in self.calls: x = self.layers[name](x)
        return self.out(x)

@pytest.mark.parametrize('calls, tied, what', [
    (('a', 'act', 'a'), False, 'layers.a'), (('norm', 'a', 'norm'), False, 'layers.norm'), (('a', 'act', 'b'), True, 'layers.b')])
def test_a_layer_at_two_places_would_need_two_orders(calls, tied, what):
    with pytest.raises(ValueError, match=f'cannot be matched: it uses {what}, or one of its weights, at two places'): unit_groups(Twice(*calls, tied=tied))

def test_an_activation_at_two_places_keeps_units_apart():
    net = initialize(lambda: Twice('a', 'act', 'b', 'norm', 'act'), 0).eval()
    a, x = {k: v.clone() for k, v in net.state_dict().items()}, torch.rand(5, 8, generator=stream(0, 'test images'))
    before = net(x)
    net.load_state_dict(reordered(a, unit_groups(net), [torch.arange(6).roll(2)]*3))
    assert not torch.equal(a['out.weight'], net.out.weight) and torch.allclose(net(x), before, atol=1e-6)

def test_two_values_in_a_layer_of_ones_own_both_keep_their_order():
    class Sum(nn.Module):
        def forward(self, a, b): return a + b
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.sum, self.fc = nn.Linear(64, 8), nn.Linear(64, 8), Sum(), nn.Linear(8, 3)
        def forward(self, x): return self.fc(self.sum(self.a(x.flatten(1)), self.b(x.flatten(1))))
    assert unit_groups(Two()) == []

def test_layers_of_ones_own_and_outputs_keep_their_order():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
        def forward(self, x): return x*self.scale
    assert [units.count for units in unit_groups(nn.Sequential(nn.Linear(2, 3), Own(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)))] == [4]

def test_every_ladder_begins_at_its_initialization():
    for figure, panels in figures.items():
        for panel in panels: assert {start.steps for _, start in preset(figure, 'paper', panel=panel if len(panels) > 1 else None).starts()} == {0}

def test_penalized_rounds_repel_and_attract_as_published():
    "Each of 25 rounds of three replicates once, from all solutions before it; from the last alone in one arm of Lenet"
    for panel, strength in dict(A=2., B=2., C=2., D=-1.).items():
        pushed = [t for t in preset('win_repel', 'paper', panel=panel).tasks() if hasattr(t, 'strength')]
        last = [t for t in pushed if t.last_only]
        assert {t.strength for t in pushed} == {strength} and len(pushed) - len(last) == 25*3
        assert len(last) == (25*3 if panel == 'A' else 0) and all(len(t.before()) == 1 for t in last)

def test_what_is_counted_is_published():
    "Trainings over batch sizes, and the dense runs; weights left in the round that is looked at, in percent; parameters"
    assert len({t.key for t in preset('win_batch_size', 'paper').tasks()}) == 1800 + 36
    assert round(100*.8**preset('win_weights', 'paper').looked_at, 1) == 10.7
    assert sum(p.numel() for p in resnet20().parameters()) == 272_474 and sum(p.numel() for p in resnet50().parameters()) == 25_557_032

def test_mini_has_fresh_seeds_and_a_size_that_two_cores_manage():
    for figure, panels in figures.items(): assert panels['A']['mini'].seeds == (10, 11, 12, 13, 14) and panels['A']['mini'].data.name in ('mnist', 'cifar10')
    asked = preset('win_instability', 'mini')
    assert len({(r.batch_size, r.lr, r.warmup, r.steps) for r in asked.recipes}) == len(asked.recipes) == 6

def test_panels_are_named_and_refused_where_they_are_not_drawn():
    for figure, panels in figures.items(): assert set(about[figure]) == set(panels) and (panels_of(figure) == about[figure] or len(panels) == 1)
    with pytest.raises(ValueError, match='panel B of win_repel is drawn at paper only'): preset('win_repel', 'mini', panel='B')
    with pytest.raises(ValueError, match="panel 'E' is unknown"): preset('win_repel', 'paper', panel='E')
    with pytest.raises(ValueError, match='has no panels'): preset('win_one_shot', 'smoke', panel='A')

def test_the_picture_of_instability_says_what_its_claims_say():
    "Its correlations are those of the claims, of the same recipes, and its axes fit these; where the dense network of no recipe learned, it says so"
    root = project_root()
    source = 'results/win_mini/win_instability_mini.csv'
    table, claims = pd.read_csv(root/source), read_claims(root/'results'/'claims.csv')
    claimed = [*claims[(claims.source == source) & claims.says.str.contains('Spearman')].itertuples()]
    asked = varied(preset('win_instability', 'mini'), dict(levels=6, prune_rate=.36, rounds=(2, 6)))
    compared = whose_dense_learns(table)
    fig = draw_instability(table, asked, title='Made anew')
    for ax, claim, (_, rows) in zip(fig.axes[1:], claimed, compared.groupby('level'), strict=True):
        assert f'Spearman of means {claim.ours:+.2f} ({claim.low:+.2f} to {claim.high:+.2f}, n={claim.n})' in ax.get_title()
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        assert right < 1 and high - low < 1.3*100*max(np.ptp([*rows.quality, 0]), .01) and left < 0
    assert 'quality in 5 of 10 recipes' in fig.get_suptitle() and compared.dense.min() > .95 and claimed[0].n == 5
    assert 'dense network did not always learn' in fig.axes[0].get_legend_handles_labels()[1]
    none = draw_instability(table.assign(dense=.1), asked)
    assert 'quality in 0 of 10 recipes' in none.get_suptitle() and all('too few recipes' in ax.get_title() for ax in none.axes[1:])
    all_learn = draw_instability(table.assign(dense=.9), asked, title='Made anew')
    assert all_learn.get_suptitle() == 'Made anew' and 'n=10' in all_learn.axes[1].get_title()
    for drawn in (fig, none, all_learn): plt.close(drawn)

def test_one_shot_pruning_on_a_made_folder(tmp_path):
    "The ImageNet table on any folder of images per class: here two classes that shade tells apart"
    from PIL import Image
    draws = np.random.default_rng(0)
    for part, n in dict(train=12, val=6).items():
        for c, shade in dict(cat=60, dog=190).items():
            for i in range(n):
                file = tmp_path/'pictures'/part/c/f'{i}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((shade + draws.integers(-40, 40, (16, 16, 3))).astype(np.uint8)).save(file)
    small = dict(data=Images(name=str(tmp_path/'pictures')), network=Network(model='imagenet_resnet50', options=dict(width=4, affine=False)))
    asked = varied(preset('win_one_shot', 'paper'), small | dict(recipes=tuple(Recipe(3, 8, lr=lr) for lr in (.4, .1))))
    run = Run(root=tmp_path/'runs', device='cpu')
    assert sweep(asked.tasks(), run=run, progress=False).counts['failed'] == 0
    table = asked.table(run)
    assert sorted(table.arm) == ['re-initialized']*2 + ['ticket']*4 and set(table[table.level == 1].density.round(3)) == {.3} and set(table.lr) == {.4, .1}

def test_ladders_know_their_levels():
    p = preset('win_repel', 'smoke')
    for arm in p.arms:
        foot = p.trained(arm, next(p.starts())[1], p.levels)
        assert [level_of(t) for t in levels_of(foot)] == [0, 1, 2, 3, 4]
        assert levels_of(foot)[0].name.startswith('dense/') and len({t.key for t in levels_of(foot)}) == 5

def test_normalization_without_scale_and_shift_trains_and_predicts():
    make = partial(cifar_resnet, (1, 8, 8), depth=8, width=4, affine=False)
    net = initialize(make, 0)
    assert not any(isinstance(m, nn.BatchNorm2d) and m.affine for m in net.modules())
    end = fit(net, digits.train, Recipe(60, 64, lr=.1))
    from lottery_diet.engine.evaluation import evaluate, predict
    net.eval()
    with torch.no_grad(): plain = net(digits.test.inputs(digits.test.x))
    assert torch.allclose(predict(net, digits.test, end.state), plain, atol=1e-3) and evaluate(net, digits.test, end.state).accuracy > .7
