"What distillation holds; that a compiled step says the same; who draws what at random, and what a task refuses."
import shutil
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lottery_diet.core import load_tensors, same, save_tensors, stream
from lottery_diet.distill import augmented_by
from lottery_diet.distillation import gradient
from lottery_diet.distillation.gradient import Condensing, match_gradients
from lottery_diet.distillation.trajectory import (
    Feed,
    Matching,
    Stepper,
    augmentation_name,
    match_by_adjoint,
    match_unrolled,
    train_experts,
)
from lottery_diet.engine.augment import DSA
from lottery_diet.engine.recipe import Recipe
from lottery_diet.experiments import distilling as distillation
from lottery_diet.experiments.distilling import Distill, ExpertRun, Inner, InnerLevel, Taught, looks_of, read_looks
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.sweeps import varied
from lottery_diet.experiments.tasks import Run
from lottery_diet.experiments.training import Pretrain
from lottery_diet.models import conv_net, initialize
from lottery_diet.sources import load_data


class Alive(TorchDispatchMode):
    "Counts the bytes of tensors that were made inside and live, and the most that ever did"
    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor): self.count(tensor.untyped_storage())
        return out

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.known: return
        self.known.add(key)
        self.now, self.most = self.now + size, max(self.most, self.now + size)
        weakref.finalize(storage, self.gone, key, size)

    def gone(self, key, size):
        self.known.discard(key)
        self.now -= size

def most_alive(per_class, steps, way=match_by_adjoint):
    "Bytes of the tensors that one exact gradient holds at its peak: ConvNet-3, CIFAR-10's sizes, every image augmented by itself"
    net = initialize(conv_net, 0)
    start = {k: v.detach().clone() for k, v in net.named_parameters()}
    target = {k: v + .01*torch.randn(v.shape, generator=stream(0, k)) for k, v in start.items()}
    images, labels = torch.randn(10*per_class, 3, 32, 32, generator=stream(0, 'images')), torch.arange(10*per_class) % 10
    net, feed = Stepper(net) if way is match_by_adjoint else net, Feed(len(images), None, augmented_by(DSA(), each=True))
    with Alive() as alive: way(net, start, target, images, labels, .01, steps, feed)
    return alive.most

parameters = 4*320_010 # bytes of ConvNet-3's

@pytest.mark.long
def test_memory_grows_with_the_number_of_steps_by_their_parameters_only():
    "Exactly so at one image per class; with all graphs at once each step holds some 30 MiB"
    few, many = (most_alive(1, steps) for steps in (2, 6))
    assert many - few == 4*parameters
    assert most_alive(1, 4, match_unrolled) - most_alive(1, 2, match_unrolled) > 2*20*parameters

@pytest.mark.long
def test_ten_images_per_class_fit():
    "Through 50 steps in under 1.2 GiB, though each augments its images otherwise; benchmarks/distill.json has what the process holds"
    few, many = (most_alive(10, steps) for steps in (2, 4))
    assert many - few <= 2*parameters + 8*2**20 # one step's augmentation may need more than another's
    assert many + 46*parameters < 1.2*2**30

@pytest.mark.long
@pytest.mark.skipif(not (shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')), reason='there is no compiler')
def test_the_compiled_adjoint_is_the_eager_one():
    net = initialize(partial(conv_net, (1, 8, 8), width=8, depth=2), 0)
    start = {k: v.detach() for k, v in net.named_parameters()}
    target = {k: v + .05*torch.randn(v.shape, generator=stream(0, k)) for k, v in start.items()}
    images, labels = torch.randn(20, 1, 8, 8, generator=stream(0, 'images')), torch.arange(20) % 10
    eager, compiled = (match_by_adjoint(Stepper(net, on), start, target, images, labels, .05, 4, Feed(20)) for on in (False, True))
    assert abs(eager.loss - compiled.loss) < 1e-5*eager.loss and abs(eager.rate - compiled.rate) < 1e-3*abs(eager.rate)
    assert torch.nn.functional.cosine_similarity(eager.images.flatten(), compiled.images.flatten(), dim=0) > .9999

digits, narrow = Images(name='digits', hold_out=200), Network(model='conv_net', options=dict(width=4, depth=2))
recipe = dict(steps=20, batch_size=10, lr=.05)
of_digits = dict(data=digits, network=narrow, per_class=1, recipe=recipe)
expert = ExpertRun(data=digits, network=narrow, recipe=dict(steps=2, batch_size=64, lr=.05), every=1, snapshots=3)
matching = Matching(2, 1, 2, 10., 1e-4, .05)
by_gradient = Distill(**of_digits, method='gradient', how=Condensing(outer=2, inner=2, net_images=64), augment=DSA('scale'))

def matched_with(task, run, monkeypatch):
    "The augmentation that a matcher is given"
    given = {}
    monkeypatch.setattr(distillation, f'match_{"gradients" if task.method == "gradient" else "trajectories"}', lambda *args, **kwargs: given.update(kwargs))
    train, _, _ = task.data.parts(task.recipe, run.device)
    looks_of(task, run, train, torch.zeros(10, 1, 8, 8), torch.arange(10), None)
    return given['augment']

class Dims:
    "An augmentation that says what it is, where it has a `__repr__`"
    def __init__(self, by): self.by = by
    def __call__(self, x, draws): return x*self.by
    def turned(self, x, draws): return -x*self.by
class Named(Dims):
    def __repr__(self): return f'Named({self.by})'

def test_experts_of_another_augmentation_or_network_are_not_taken(tmp_path):
    for lambda_or_nameless in (lambda x, draws: x, partial(lambda x, draws, by: x, by=2), Dims(.5), Dims(.5).turned):
        with pytest.raises(ValueError, match='has no name of its own, so that its experts look like others'): augmentation_name(lambda_or_nameless)
    named = [None, augmented_by(DSA('flip')), augmented_by(DSA('crop')), Named(.5), Named(.25), Named(.5).turned, Named(.25).turned]
    assert len({augmentation_name(augment) for augment in named}) == len(named)
    images, recipe = load_data('digits').train.take(torch.arange(32)), Recipe(2, 32, lr=.01, momentum=0.)
    make = lambda act: lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), act(), nn.Linear(4, 10))
    ours, = train_experts(make(nn.ReLU), images, recipe, [0], tmp_path)
    with pytest.raises(ValueError, match='was trained otherwise, with layers Sequential'): train_experts(make(nn.Tanh), images, recipe, [0], tmp_path)
    tensors, notes = load_tensors(ours.path)
    save_tensors(ours.path, tensors, {k: v for k, v in notes.items() if k not in ('layers', 'digest')}) # as files were before
    again, = train_experts(make(nn.ReLU), images, recipe, [0], tmp_path)
    assert same(again.at(2), ours.at(2)) and len(again) == 3
    with pytest.raises(TypeError, match=r'seeds=3 is one number: give several, such as range\(3\)'): train_experts(make(nn.ReLU), images, recipe, 3, tmp_path)

def test_images_draw_alike_in_gradient_matching_and_each_for_itself_in_trajectory_matching(tmp_path, monkeypatch):
    "IDC compares batches under one augmentation; MTT compares none, and its code draws numbers for each image"
    by_way = Distill(**of_digits, method='trajectory', how=matching, experts=(expert,), augment=DSA('scale'))
    same_image, run = torch.randn(1, 1, 8, 8, generator=stream(0, 'image')).expand(6, -1, -1, -1), Run(root=tmp_path, device='cpu')
    def drawn(task): return len(matched_with(task, run, monkeypatch)(same_image, stream(0, 'draws')).unique(dim=0))
    assert (drawn(by_gradient), drawn(by_way)) == (1, 6)

def test_each_network_of_gradient_matching_sees_real_images_in_an_order_of_its_own(monkeypatch):
    "The same order from one step to the next, another for the next network"
    seeds, learn = [], gradient.learn
    monkeypatch.setattr(gradient, 'learn', lambda net, data, how, snapshot, seed, *rest: seeds.append(seed) or learn(net, data, how, snapshot, seed, *rest))
    train = load_data('digits').train
    make, how = partial(conv_net, (1, 8, 8), width=4, depth=2), Condensing(outer=3, inner=2, net_images=64)
    list(match_gradients(make, train, torch.zeros(10, 1, 8, 8), torch.arange(10), how))
    a, b, c = dict.fromkeys(seeds)
    assert seeds == [a]*3 + [b]*3 + [c]*3

def test_a_damaged_look_is_named_and_the_distillation_starts_anew(tmp_path):
    run = Run(root=tmp_path, device='cpu', task=by_gradient)
    run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run.checkpoint.write_bytes(b'cut short')
    with pytest.warns(UserWarning, match='this distillation starts anew'): assert read_looks(run) == ([], None, None)

def test_synthetic_images_are_seen_as_they_are_whatever_normalization_real_ones_get(tmp_path):
    constants = dict(normalization=((.5,), (.25,)))
    run = Run(root=tmp_path, device='cpu')
    told = run.ask(Taught(data=digits, network=narrow, recipe=recipe | constants, per_class=1, arm='real', networks=1, augment=None))
    assert len(told.metrics) == 1
    start = Pretrain(data=digits, network=narrow, recipe=recipe | constants, steps=0)
    assert run.ask(InnerLevel(pretrain=start, recipe=recipe | constants, inner=Inner(arm='real', per_class=1), level=1, augment=None)).metrics.level.item() == 1
    with pytest.raises(ValueError, match='normalized alike'):
        InnerLevel(pretrain=start, recipe=recipe, inner=Inner(arm='distilled', source=by_gradient), level=1)

def test_networks_are_asked_about_images_that_look_like_those_that_taught_them():
    "Real images that are whitened or normalized otherwise would be judged by a network that never saw their like: silently low numbers"
    asked = dict(network=narrow, recipe=recipe, per_class=1)
    Taught(**asked, data=digits, source=by_gradient), Taught(**asked, data=Images(name='cifar10', zca=True), arm='ready')
    for wrong, sentence in ((dict(data=varied(digits, dict(zca=True)), source=by_gradient), 'whitened alike'),
                            (dict(data=digits, source=by_gradient, recipe=recipe | dict(normalization=((.5,), (.25,)))), 'normalized alike'),
                            *((dict(data=data, arm='ready'), 'of ZCA-whitened CIFAR-10') for data in (Images(name='cifar10'), digits))):
        with pytest.raises(ValueError, match=sentence): Taught(**asked | wrong)

def test_trajectory_matching_stores_several_images_in_one(tmp_path):
    "Multi-formation with either method: four digits in each stored image, four seen for each"
    task = Distill(**of_digits, method='trajectory', how=replace(matching, iterations=2, factor=2), experts=(expert,))
    found = Run(root=tmp_path, device='cpu').ask(task).tensors
    assert found['images'].shape == found['begin'].shape == (10, 1, 8, 8) and not torch.equal(found['images'], found['begin'])
    seen = task.seen(found['images'], found['labels'], load_data('digits').train)
    assert len(seen) == 40 and torch.equal(seen.y, torch.arange(10).repeat(4))
