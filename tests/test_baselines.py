"Masks at the start: exact on every network that is pruned here, found without a trace, and the same however the images are cut into batches."
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lottery_diet.baselines import (
    at_start,
    concrete,
    draw_layerwise,
    erk,
    flipped,
    flow_scores,
    gates,
    grasp_scores,
    in_whole,
    keep_best,
    shift_to,
    snip_scores,
    synflow,
    uniform_plus,
)
from lottery_diet.core import same, state_of, stream
from lottery_diet.engine.recipe import Recipe
from lottery_diet.imp import Mask
from lottery_diet.models import cifar_resnet, conv4, conv_net, initialize, lenet_300_100, vgg16
from lottery_diet.networks.weights import kaiming_normal
from lottery_diet.scores import keep_random
from lottery_diet.sources import load_data
from lottery_diet.train import batches

digits = load_data('digits')
few = digits.train.take(keep_random(len(digits.train), 40))
exact = few.like(few.inputs(few.x).double(), few.y)
nets = dict(lenet=partial(lenet_300_100, (1, 8, 8)), resnet=partial(cifar_resnet, (1, 8, 8), depth=8, init=kaiming_normal),
            conv_net=partial(conv_net, (1, 8, 8), width=8, depth=2))

@pytest.mark.parametrize('method', at_start)
@pytest.mark.parametrize('name', ['lenet', 'conv_net', pytest.param('resnet', marks=pytest.mark.long)])
def test_a_mask_is_exact_and_leaves_no_trace(name, method):
    net = initialize(nets[name], 0)
    before, random = state_of(net), torch.random.get_rng_state()
    dense = Mask.dense(net)
    mask = at_start[method](net, few, dense.size//5, 3)
    assert mask.kept == dense.size//5 and list(mask) == list(dense) and mask == at_start[method](net, few, dense.size//5, 3)
    assert method == 'SynFlow' or at_start[method](net, few, dense.size, 3) == dense
    assert same(before, net.state_dict()) and torch.equal(random, torch.random.get_rng_state()) and net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    for kept in (0, dense.size + 1):
        with pytest.raises(ValueError, match=f'^{kept} of {dense.size} weights cannot be kept: ask for 1 to {dense.size}$'): at_start[method](net, few, kept, 0)

@pytest.mark.parametrize('score', [snip_scores, grasp_scores])
def test_without_normalization_batches_do_not_matter(score):
    net = initialize(partial(conv4, (1, 8, 8)), 0).double()
    whole, parts = score(net, exact, batch_size=40), score(net, exact, batch_size=7)
    assert all(torch.allclose(whole[k], parts[k], rtol=1e-9, atol=1e-14*whole[k].abs().max()) for k in whole)

@pytest.mark.parametrize('score', [snip_scores, grasp_scores])
def test_dead_weights_have_no_score_and_the_living_see_them_dead(score):
    net = initialize(nets['lenet'], 0).double()
    mask = draw_layerwise(Mask.dense(net), erk(Mask.dense(net), 5000))
    scores = score(net, exact, mask)
    assert all(not scores[k][~m].any() for k, m in mask.items())
    sparse = initialize(nets['lenet'], 1).double()
    sparse.load_state_dict(mask.apply(net.state_dict()))
    again = score(sparse, exact)
    assert all(torch.allclose(scores[k], again[k]) for k in mask)

def test_flow_does_not_depend_on_signs_biases_or_running_statistics():
    net, other = (initialize(nets['resnet'], 0) for _ in range(2))
    with torch.no_grad():
        for k, v in other.state_dict().items():
            if 'running_mean' in k or k.endswith('bias'): v.add_(3)
            elif 'running_var' in k: v.mul_(5)
            elif v.is_floating_point(): v.mul_(torch.where(torch.arange(v.numel()).view(v.shape) % 2 == 0, 1, -1))
    ours, theirs = (flow_scores(n, (1, 8, 8)) for n in (net, other))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)

@pytest.mark.parametrize('kind', [nn.GELU, nn.SiLU])
def test_a_layer_that_is_used_at_several_places_flows_as_one_of_its_own_at_each(kind):
    "A shared activation, and a shared BatchNorm, against a network without sharing: the same flow"
    def chain(act, norm): return nn.Sequential(nn.Conv2d(1, 4, 1), norm(), act(), nn.Conv2d(4, 4, 1), norm(), act(), nn.Flatten(), nn.Linear(16, 3), act())
    one, norm = kind(), initialize(lambda: nn.BatchNorm2d(4), 0)
    with torch.no_grad(): norm.weight.copy_(torch.tensor([.5, -2., 1., 3.]))
    shared, apart = initialize(lambda: chain(lambda: one, lambda: norm), 1), initialize(lambda: chain(kind, lambda: nn.BatchNorm2d(4)), 1)
    apart.load_state_dict(shared.state_dict())
    ours, theirs = (flow_scores(net, (1, 2, 2)) for net in (shared, apart))
    w1, w2, w3 = (shared[i].weight.detach().double().abs().flatten(1) for i in (0, 3, 7))
    scale = norm.weight.detach().double().abs()
    maps = scale*(w2 @ (scale*(w1 @ torch.ones(1).double()))) # of ones, alike at each of 4 pixels
    flow = (w3 @ maps.repeat_interleave(4)).sum()
    for k in ours:
        assert torch.allclose(ours[k], theirs[k], rtol=1e-12) and ours[k].sum().item() == pytest.approx(flow.item(), rel=1e-12)

def test_a_flow_that_is_not_one_of_the_weights_is_refused():
    plain = lambda *end: initialize(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10), *end), 0)
    for end in (nn.Softmax(1), nn.LogSoftmax(1)):
        for ask in (lambda net: flow_scores(net, (1, 8, 8)), lambda net: synflow(net, (1, 8, 8), 200, rounds=3)):
            with pytest.raises(ValueError, match='SynFlow wants logits, so take off a softmax at its end'): ask(plain(end))
    net = plain()
    dead = Mask({k: torch.zeros_like(m) if k == '3.weight' else m for k, m in Mask.dense(net).items()})
    assert not any(v.any() for v in flow_scores(net, (1, 8, 8), dead).values()), 'nothing flows where a layer is dead, which is a flow too'
    for rounds in (0, -1):
        with pytest.raises(ValueError, match=f'rounds={rounds} prunes nothing'): synflow(net, (1, 8, 8), 200, rounds=rounds)

@pytest.mark.parametrize('method', at_start)
def test_a_share_is_no_number_of_weights(method):
    with pytest.raises(TypeError, match=r'0.2 is no number of weights: give a whole one, such as round\(0.2\*Mask.dense\(model\).size\)'):
        at_start[method](initialize(nets['lenet'], 0), few, .2, 0)

def test_signs_are_compared_under_a_mask_of_the_same_network():
    state = state_of(initialize(nets['lenet'], 0))
    after = state | {'1.weight': -state['1.weight']}
    assert flipped(state, after, Mask.dense(initialize(nets['lenet'], 0)))['1.weight'] == 1
    for mask, said in ((Mask({'module.1.weight': torch.ones(2).bool()}), 'does not have'), (Mask({'1.weight': torch.ones(1, 64).bool()}), r'is \(1, 64\)')):
        with pytest.raises(ValueError, match=said): flipped(state, after, mask)
    with pytest.raises(ValueError, match='is in one only'): flipped(state, {k: v for k, v in after.items() if k != '1.bias'}, Mask({}))

def test_flow_through_a_deep_network_stays_finite_and_no_layer_is_emptied():
    net = initialize(partial(vgg16, (3, 16, 16), width=8), 0)
    kept = round(.02*Mask.dense(net).size)
    assert not synflow(net, (3, 16, 16), kept, rounds=30).collapsed

def test_layerwise_numbers_are_whole_and_exact():
    like = Mask({'conv.weight': torch.ones(4, 3, 3, 3).bool(), 'hidden.weight': torch.ones(30, 100).bool(), 'fc.weight': torch.ones(10, 20).bool()})
    for kept in range(150, like.size, 171):
        for rule in (erk, uniform_plus):
            counts = in_whole(rule(like, kept), {k: m.numel() for k, m in like.items()})
            assert sum(counts.values()) == kept and all(0 <= counts[k] <= like[k].numel() for k in like)
    numbers = uniform_plus(like, 600) # 108 of the convolution, a fifth of the last 200, and 452 of the other 3000
    assert numbers == pytest.approx({'conv.weight': 108., 'hidden.weight': 452., 'fc.weight': 40.})
    third = uniform_plus(like, 1708) # half of what is left is more than a fifth of the last
    assert third['hidden.weight']/3000 == pytest.approx(third['fc.weight']/200) == pytest.approx(.5)
    by_hand = {'conv.weight': 4 + 3 + 3 + 3, 'hidden.weight': 130, 'fc.weight': 30} # expected numbers are proportional to the sums of the sides
    assert erk(like, 173) == pytest.approx(by_hand)
    assert erk(like, 1800) == pytest.approx({'conv.weight': 108., 'hidden.weight': 1492., 'fc.weight': 200.}) # two layers are whole

def test_uniform_plus_is_the_published_rule_in_exact_fractions():
    "A whole first convolution, at least a fifth of the last layer, and one share of all between (Gale et al. 2019)"
    sizes = dict(first=108, middle=3000, wide=500, last=200)
    like = Mask({'first': torch.ones(4, 3, 3, 3).bool()} | {k: torch.ones(n, 1).bool() for k, n in sizes.items() if k != 'first'})
    for kept in range(160, 3808, 97):
        alike = Fraction(kept - 108, 3700)
        share = dict.fromkeys(('middle', 'wide', 'last'), alike) if alike >= Fraction(1, 5) else dict.fromkeys(
            ('middle', 'wide'), Fraction(kept - 108 - 40, 3500)) | dict(last=Fraction(1, 5))
        assert uniform_plus(like, kept) == pytest.approx({k: float(sizes[k]*share.get(k, 1)) for k in sizes}, rel=1e-12)
        assert sum(sizes[k]*share.get(k, 1) for k in sizes) == kept

@pytest.mark.parametrize('asked, says', [
    (lambda: in_whole({'a': 9.}, {'a': 5}), "'a' cannot keep 9 of 5 weights"), (lambda: in_whole({'a': -1.}, {'a': 5}), "'a' cannot keep -1 of 5 weights"),
    (lambda: in_whole({'a': float('nan')}, {'a': 5}), "'a' cannot keep nan"), (lambda: in_whole({'a': 1.4}, {'a': 5}), 'numbers of living weights sum to 1.4'),
    (lambda: shift_to(torch.zeros(3), 0.), 'density=0.0 must lie between'), (lambda: shift_to(torch.zeros(3), 1.), 'density=1.0 must lie between'),
    (lambda: gates(torch.zeros(3), torch.rand(3), 0.), 'temperature=0.0 must be above 0'),
    (lambda: gates(torch.zeros(3), torch.rand(3), float('nan')), 'temperature=nan must be above 0')])
def test_numbers_that_mean_nothing_are_refused(asked, says):
    with pytest.raises(ValueError, match=f'^{says}'): asked()

def test_the_best_are_kept_over_all_layers():
    scores = dict(b=torch.tensor([[5., 1.], [4., 9.]]), a=torch.tensor([6., -7.]))
    everyone = Mask({k: torch.ones_like(v).bool() for k, v in scores.items()})
    some = Mask(dict(b=torch.tensor([[True, True], [True, False]]), a=torch.tensor([False, True])))
    assert keep_best(scores, 3, everyone) == Mask(dict(b=torch.tensor([[True, False], [False, True]]), a=torch.tensor([True, False])))
    assert keep_best(scores, 2, some) == Mask(dict(b=torch.tensor([[True, False], [True, False]]), a=torch.tensor([False, False])))
    with pytest.raises(ValueError, match='^5 of 4 weights'): keep_best(scores, 5, some)
    with pytest.raises(ValueError, match='make it with Mask.dense'): keep_best(scores, 1, Mask({'c': torch.ones(3).bool()}))

def test_where_nothing_is_learned_from_is_refused_in_a_sentence():
    net = initialize(nets['lenet'], 0)
    with pytest.raises(ValueError, match='cannot take images of 3×9×9'): snip_scores(net, few.like(torch.zeros(4, 3, 9, 9), few.y[:4]))
    with pytest.raises(ValueError, match='for 10 classes: make it for that many'): grasp_scores(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), few)
    with torch.no_grad(): net[1].weight[0, 0] = torch.nan
    for score in (snip_scores, grasp_scores):
        with pytest.raises(ArithmeticError, match='not finite numbers'): score(net, few)
    with pytest.raises(ArithmeticError, match='leaves the numbers'): flow_scores(net, (1, 8, 8))

def relaxed_loss(net, weights, logits, uniform, x, y):
    "Of the gated network, nats"
    parts = gates(logits, uniform).split([w.numel() for w in weights.values()])
    return nn.functional.cross_entropy(functional_call(net, {k: w*part.view(w.shape) for (k, w), part in zip(weights.items(), parts)}, (x,)), y)

def test_the_relaxed_gradient_is_that_of_finite_differences():
    net = initialize(partial(lenet_300_100, (1, 8, 8)), 0).double()
    weights = {k: net.get_parameter(k).detach() for k in Mask.dense(net)}
    logits, uniform = (torch.rand(sum(w.numel() for w in weights.values()), generator=stream(0, k), dtype=torch.float64) for k in ('logits', 'uniform'))
    logits = (logits - .5).requires_grad_()
    by_gradient, = torch.autograd.grad(relaxed_loss(net, weights, logits, uniform, exact.x, exact.y), logits)
    for i in by_gradient.abs().topk(5).indices.tolist():
        step = torch.zeros_like(logits).index_fill_(0, torch.tensor([i]), 1e-5)
        with torch.no_grad(): up, down = (relaxed_loss(net, weights, logits + d, uniform, exact.x, exact.y).item() for d in (step, -step))
        assert by_gradient[i].item() == pytest.approx((up - down)/2e-5, rel=1e-6)

def test_a_learned_mask_is_what_a_loop_by_hand_learns():
    net, recipe, kept = initialize(nets['lenet'], 0).double(), Recipe(40, 20, lr=.2, optimizer='adam', milestones=(30,)), 3000
    weights = {k: net.get_parameter(k).detach() for k in Mask.dense(net)}
    size, draws = sum(w.numel() for w in weights.values()), stream(7, 'gates')
    logits, mean, square = (torch.zeros(size, dtype=torch.float64) for _ in range(3))
    for step, x, y in batches(exact, recipe, 0, 40, 7):
        leaf = logits.clone().requires_grad_()
        g, = torch.autograd.grad(relaxed_loss(net, weights, leaf, torch.rand(size, generator=draws), x, y), leaf)
        mean, square = .9*mean + .1*g, .999*square + .001*g*g
        logits = logits - (.2 if step < 30 else .02)*(mean/(1 - .9**(step + 1)))/((square/(1 - .999**(step + 1))).sqrt() + 1e-8)
        logits = logits + shift_to(logits, .5*(kept/size/.5)**min(1, (step + 1)/20))
    scores = dict(zip(weights, logits.split([w.numel() for w in weights.values()])))
    assert concrete(net, exact, kept, 7, recipe) == keep_best({k: v.view(weights[k].shape) for k, v in scores.items()}, kept, Mask.dense(net))

@pytest.mark.parametrize('density', [1e-5, .03, .5, .9999])
@pytest.mark.parametrize('spread', [0., 1., 300.])
def test_logits_are_shifted_to_the_density_that_is_asked_for(density, spread):
    logits = spread*torch.randn(100_000, generator=stream(0, 'spread'), dtype=torch.float64)
    assert (logits + shift_to(logits, density, 1e-9)).sigmoid().mean().item() == pytest.approx(density, rel=1e-8)

def test_a_mask_is_not_learned_from_what_cannot_be_learned():
    net = initialize(nets['lenet'], 0)
    with pytest.raises(ValueError, match='cannot take images of 3×9×9'): concrete(net, few.like(torch.zeros(4, 3, 9, 9), few.y[:4]), 100)
    with pytest.raises(ArithmeticError, match='not finite numbers: lower lr='):
        with torch.no_grad(): net[1].weight[0, 0] = torch.nan
        concrete(net, few, 100)
