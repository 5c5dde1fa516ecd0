"""What a GPU would refuse is found without one: whatever computes does so on a pretended device, too, and finds the same.

These are faults that only tensors of two devices show.
"""
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import elsewhere
import numpy as np
import pandas as pd
import pytest
import torch
from pages import run_here

from lottery_diet.baselines import at_start
from lottery_diet.core import distance, stream
from lottery_diet.distill import augmented_by, begin_at, evaluate_synthetic, k_center, stand_in, stand_ins, synthetic
from lottery_diet.distillation.gradient import Condensing, match_gradients
from lottery_diet.distillation.trajectory import Matching, match_trajectories, train_experts
from lottery_diet.distillation.whitening import ZCA, whitened
from lottery_diet.engine.augment import DSA, dsa, operations
from lottery_diet.engine.evaluation import evaluate, predict
from lottery_diet.experiments.connectivity import LayerPaths, Memorized, Nudged
from lottery_diet.experiments.distilling import pixel_limits
from lottery_diet.experiments.dynamics import Walk
from lottery_diet.experiments.landscapes import Sharpness
from lottery_diet.experiments.sweeps import varied
from lottery_diet.experiments.tasks import Run, Task
from lottery_diet.experiments.tickets import AtStart, Control, Moved, Retrained, Signed, SignFlips, TicketLevel
from lottery_diet.experiments.training import InputNorm, Pretrain, SavedScores
from lottery_diet.imp import Mask, controls, imp, imp_many, train_ticket
from lottery_diet.landscape import Curvature, plane_of_two, sample_diagonal, surface, top_eigenvalues, trace
from lottery_diet.lmc import exchanged, instability, loss_path, nudged, spawn
from lottery_diet.models import cifar_resnet, conv4, conv_net, initialize, lenet_300_100
from lottery_diet.papers.catalogue import preset, presets
from lottery_diet.papers.stable_subnetworks.protocols import distill_settings
from lottery_diet.regions import disagreement, distance_matrix, matched_units, repulsion, threshold, weight_counts
from lottery_diet.scores import el2n, forgetting, grand, grand_last_layer, keep_easiest, keep_window
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit, fit_many, train

digits = load_data('digits')
some, look = digits.train.take(torch.arange(160)), digits.test.take(torch.arange(60))
exact = some.like(some.inputs(some.x).double(), some.y)
nets = dict(mlp=partial(lenet_300_100, (1, 8, 8)), resnet=partial(cifar_resnet, (1, 8, 8), depth=8),
            conv_net=partial(conv_net, (1, 8, 8), width=16, depth=2), conv4=partial(conv4, (1, 8, 8)))
short = Recipe(12, 32, lr=.02, weight_decay=1e-3, milestones=(8,), warmup=2)

def net_on(device, make): return initialize(nets[make], 0).to(device)
def exact_on(device, make): return net_on(device, make).double() # in float64, for what trains a while
def states_of(make): return [initialize(nets[make], seed).state_dict() for seed in range(3)] # on the CPU, as they are read from files
def start_of(make, seed=0): return Snapshot(0, {k: v.double() if v.is_floating_point() else v for k, v in states_of(make)[seed].items()})
def mask_of(make, seed=0): return Mask({k: torch.rand(m.shape, generator=stream(seed, k)) < .5 for k, m in Mask.dense(nets[make]()).items()})
def crop_and_flip(flip): return replace(short, crop=1, flip=flip)

# what there is to compute: each gives what it found on a device

def training(device, make, way='autograd', recipe=short, **how):
    "Left at step 6 and entered again, with the optimizer's memory"
    net, mask = exact_on(device, make), mask_of(make)
    first, _ = train(net, exact, recipe, at=[6], mask=mask, way=way, **how)
    return first, fit(net, exact.to(device), recipe, start=first, mask=mask, way=way, **how)

def repelled(device):
    others = [start_of('mlp', seed).state for seed in (1, 2)]
    return fit(exact_on(device, 'mlp'), exact, short, mask=mask_of('mlp'), penalty=repulsion(others, mask_of('mlp'), 2., device))

def at_once(device, grouping):
    starts, masks = ([of('mlp', seed=seed) for seed in range(3)] for of in (start_of, mask_of))
    return fit_many(exact_on(device, 'mlp'), exact, crop_and_flip(True), starts, masks=masks, grouping=grouping)

def pruning(device, make):
    net, start = exact_on(device, make), start_of(make)
    rungs = list(imp(net, exact, short, start, levels=2, prune_rate=.4))
    rivals = controls(lambda: nets[make]().double(), start, rungs[-1].mask)
    return [r.trained for r in rungs], rungs[-1].mask, [train_ticket(net, exact, short, *rival) for rival in rivals.values()]

def pruned_at_start(device, make): return [mask_of_start(exact_on(device, make), exact, 2000, 0) for mask_of_start in at_start.values()]

def pruning_at_once(device):
    levels = imp_many(exact_on(device, 'mlp'), exact, short, [start_of('mlp', seed) for seed in (0, 1)], levels=1, prune_rate=.4)
    return [[r.trained for r in level] for level in levels]

def looking(device, make):
    net, states = net_on(device, make), states_of(make)
    return predict(net, look), predict(net, look, states[1]), evaluate(net, look, states[2])

def scoring(device, make): return [score(net_on(device, make), look) for score in (el2n, grand, grand_last_layer)]

def chosen(device):
    "Scores here and labels there, and the other way round"
    scores, labels = torch.randperm(len(some), generator=stream(0, 'scores')).float(), some.y
    pairs = (scores, labels.to(device)), (scores.to(device), labels), (scores.to(device), labels.to(device))
    return [keep(s, 20, labels=y) for s, y in pairs for keep in (keep_easiest, partial(keep_window, offset=10))]

def forgotten(device): return forgetting(nets['mlp'], some.to(device), short, seeds=(0, 1), every=3)

def path(device, make):
    a, b, _ = states_of(make)
    return [loss_path(net_on(device, make), a, b, look, (.25, .5), **how).table for how in (dict(), dict(calibration=some, mask=mask_of(make)))]

def on_two_devices(device, make):
    "One solution as it was read from a file, the other where it was trained"
    here, (a, b, c) = net_on(device, make), states_of(make)
    there = {k: v.to(device) for k, v in b.items()}
    plane = plane_of_two(there, a, towards=c)
    paths = [loss_path(here, *ends, look, (.5,)).table for ends in ((a, there), (there, a))]
    layer = next(iter(a)).rpartition('.')[0]
    return (paths, distance(a, there), exchanged(a, there, [layer]), nudged(there, [k for k in b if k.endswith('weight')], 1., 3),
            plane.origin, plane.up, plane.coordinates(a))

def children(device):
    net, recipe = exact_on(device, 'resnet'), crop_and_flip('alternating')
    return spawn(net, exact, recipe, start_of('resnet'), noise='augmentation'), instability(net, exact, recipe, start_of('resnet'), exact, calibration=exact)

def landscape(device, make):
    a, b, _ = states_of(make)
    curvature = Curvature(net_on(device, make), a, look.take(torch.arange(16)), mask_of(make))
    plane = plane_of_two(a, b, filter_normalized=True, mask=mask_of(make))
    heights = surface(net_on(device, make), plane, look, (-1., 1.), (0., 1.), calibration=some)
    return heights, sample_diagonal(curvature, 20), trace(curvature, draws=4), top_eigenvalues(curvature, 1, 1e-2)

def solutions(device):
    states = [{k: v.to(device) for k, v in state.items()} for state in states_of('mlp')]
    net, masks = net_on(device, 'mlp'), [mask_of('mlp', seed=seed) for seed in range(3)]
    apart = disagreement(net, states, look), distance_matrix(states, masks)
    matched = matched_units(net, *states[:2]), matched_units(net, *states[:2], look=look)
    return apart, matched, weight_counts(states[0], mask_of('mlp'), (-.1, 0., .1)), threshold(states[0], mask_of('mlp'), .3)

def whitening(device):
    zca = ZCA.fit(some.to(device))
    seen = whitened(some.to(device), zca).x
    return seen, zca.undo(seen)

def augmented(device, name, alike):
    x = some.inputs(some.x).expand(-1, 3, -1, -1)
    return dsa(x.to(device), stream(0, name), DSA(name), alike=alike)

def beginnings(device):
    there = some.to(device)
    by_features = stand_in(there, 2, 'herded', features=some.inputs(some.x).flatten(1)).x
    return [stand_in(there, 2, kind).x for kind in stand_ins], by_features, k_center(there, 2), begin_at(there, 1, factor=2)

def trajectories(device, **fields):
    "Two iterations, then one more from there"
    data, augment = some.to(device), augmented_by(DSA())
    with TemporaryDirectory() as folder:
        experts = train_experts(nets['conv_net'], data, replace(short, lr=.1), (0, 1), folder, every=4, augment=augment)
        plan = Matching(**dict(steps=3, expert_epochs=1, max_start=2, lr_images=10., lr_rate=1e-4, rate=.05, iterations=3) | fields)
        images, labels = begin_at(data, 1)
        def learn(start=None): return list(match_trajectories(net_on(device, 'conv_net'), experts, images, labels, plan, augment, every=2, start=start))
        looks = learn()
        return [(e.images, e.rate, e.loss) for e in (*looks, learn(looks[0])[-1])]

def gradients(device):
    data = some.to(device)
    images, labels = begin_at(data, 1, factor=2)
    plan = Condensing(outer=2, inner=2, net_images=64, net_lr=.05, lr_images=.02, net_epochs=1)
    looks = list(match_gradients(nets['conv_net'], data, images, labels, plan, augmented_by(DSA()), pixel_limits(data), augmented_by(DSA(), each=True)))
    learned = synthetic(data, looks[-1].images, labels.cpu(), 'learned')
    return [e.images for e in looks], evaluate_synthetic(nets['conv_net'], learned, look.to(device), short, (0, 1))

by_adam = replace(short, optimizer='adam', lr=.001)
computations = dict(
    autograd=partial(training, make='resnet', recipe=crop_and_flip(True)),
    alternating=partial(training, make='conv4', recipe=crop_and_flip('alternating')),
    adam=partial(training, make='conv_net', recipe=by_adam), cutmix=partial(training, make='resnet', recipe=replace(short, cutmix=1., crop=1)),
    resized=partial(training, make='resnet', recipe=replace(short, resized_crop=(.3, .75))),
    closed_form=partial(training, make='mlp', way='closed form'),
    soft_labels=partial(training, make='mlp', shares=torch.rand(160, 10, generator=stream(0, 'shares')).softmax(1)),
    graph=partial(training, make='resnet', way='graph'), graph_adam=partial(training, make='mlp', way='graph', recipe=by_adam),
    in_turn=partial(at_once, grouping='in turn'), in_parallel=partial(at_once, grouping='in parallel'),
    pruning_mlp=partial(pruning, make='mlp'), pruning_resnet=partial(pruning, make='resnet'), pruned_at_start=partial(pruned_at_start, make='resnet'),
    trajectories_in_batches=partial(trajectories, batch_size=4, average=.5),
    **{f.__name__: f for f in (repelled, pruning_at_once, chosen, forgotten, children, solutions, whitening, beginnings, trajectories, gradients)},
    **{f'{f.__name__}_{make}': partial(f, make=make) for f in (looking, scoring, path, on_two_devices, landscape) for make in ('mlp', 'resnet', 'conv_net')},
    **{f'{name}_{"alike" if alike else "each"}': partial(augmented, name=name, alike=alike) for name in operations for alike in (True, False)})

def numbers(found):
    "All that was found, as NumPy's arrays, in order; raises `TypeError` for what it does not know"
    if isinstance(found, Snapshot): found = (found.step, found.state, found.optimizer, found.loss)
    if isinstance(found, pd.DataFrame): found = [found[column].to_numpy() for column in found]
    if isinstance(found, torch.Tensor): yield found.detach().cpu().double().numpy()
    elif isinstance(found, np.ndarray): yield found
    elif isinstance(found, Mapping):
        for k in sorted(found): yield from numbers(found[k])
    elif isinstance(found, (list, tuple)):
        for part in found: yield from numbers(part)
    elif isinstance(found, (int, float)): yield np.asarray(found, dtype=float)
    else: raise TypeError(f'what is {found!r}?')

def computed(name, device):
    "What is found, and on how many operations the pretended device was asked"
    before = elsewhere.There.carried
    return list(numbers(computations[name](device))), elsewhere.There.carried - before

@pytest.fixture(scope='module')
def there():
    "A process in which the pretended device is"
    with ProcessPoolExecutor(1, get_context('spawn'), elsewhere.begin) as process: yield process

@pytest.mark.long
@pytest.mark.parametrize('name', computations)
def test_it_computes_elsewhere_what_it_computes_here(there, name):
    (ours, _), (theirs, asked) = computed(name, 'cpu'), there.submit(computed, name, elsewhere.there).result()
    assert len(ours) == len(theirs) > 0 < asked
    for a, b in zip(ours, theirs):
        if a.dtype.kind in 'fiub': np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, strict=True)
        else: assert a.tolist() == b.tolist()

def ones(*shape, **kwargs): return torch.ones(shape, **kwargs)

mistakes = dict( # what a GPU refuses, and the device with it
    two_devices=lambda d: ones(2, device=d) + ones(2), stacked=lambda d: torch.stack([torch.tensor(0.), ones(device=d)]),
    indices_of_another=lambda d: ones(2)[torch.tensor([0, 1], device=d)], mask_of_another=lambda d: ones(2)[ones(2, device=d) > 0],
    put_by_indices_of_another=lambda d: ones(2).index_put_((torch.tensor([0], device=d),), torch.tensor(1.)),
    put_values_of_another=lambda d: ones(2, device=d).index_put_((torch.tensor([0]),), ones(1)),
    put_there_values=lambda d: ones(2).index_put_((torch.tensor([0]),), ones(1, device=d)), added_to_a_number=lambda d: torch.tensor(0.).add_(ones(device=d)),
    written_to_a_number=lambda d: torch.sum(ones(2, device=d), 0, out=torch.tensor(0.)), equal=lambda d: torch.equal(ones(device=d), torch.tensor(1.)),
    own_numbers=lambda d: torch.randn(2, device=d), own_numbers_in_place=lambda d: ones(2, device=d).normal_(),
    own_dropout=lambda d: torch.nn.functional.dropout(ones(2, device=d)), a_stream_of_the_cpu=lambda d: torch.randperm(3, device=d, generator=stream(0)),
    numpy=lambda d: ones(2, device=d).numpy())
allowed = dict( # what a GPU takes
    number=lambda d: ones(2, device=d)*torch.tensor(2.), indices=lambda d: ones(2, device=d)[torch.tensor([0, 1])],
    list=lambda d: ones(2, 3, device=d)[:, [0, 2]], nothing=lambda d: ones(2, device=d)[[]],
    leaf=lambda d: torch.zeros(2, device=d, requires_grad=True).is_leaf, moved=lambda d: torch.randn(2).to(d),
    copied=lambda d: ones(2, device=d).copy_(ones(2)))

def done_there(actions, name): return isinstance(actions[name](elsewhere.there), (torch.Tensor, bool))
def mistake(name): return done_there(mistakes, name)
def no_mistake(name): return done_there(allowed, name)

@pytest.mark.parametrize('name', mistakes)
def test_the_device_refuses_what_a_gpu_refuses(there, name):
    with pytest.raises((RuntimeError, TypeError), match='same device|numbers of its own|NumPy'): there.submit(mistake, name).result()

@pytest.mark.parametrize('name', allowed)
def test_the_device_takes_what_a_gpu_takes(there, name): assert there.submit(no_mistake, name).result()

def chain(task): return {k: t for need in task.needs() for k, t in chain(need).items()} | {task.key: task}

def kinds_of(task): return {task} | {k for kind in task.__subclasses__() for k in kinds_of(kind)}

def rivals():
    "What no figure asks for: what a ticket has to beat"
    start, other = (Pretrain(recipe=Recipe(30, 64, lr=.05), steps=5, seed=seed) for seed in (0, 1))
    deep = dict(pretrain=start, level=1, prune_rate=.5)
    ticket = TicketLevel(**deep)
    shuffled = LayerPaths(first=ticket, second=Control(ticket=ticket, arm='shuffled'), layers=dict(first=('1',)), examples=50, points=3)
    learned = AtStart(**deep, method='concrete', examples=50, learned=Recipe(20, 20, lr=.1, optimizer='adam'))
    return [AtStart(**deep, method='GraSP', examples=50), learned, Retrained(**deep, way='fine-tuning'),
            Signed(ticket=ticket, signs='final', magnitudes='fresh'), SignFlips(ticket=ticket), shuffled,
            InputNorm(data=start.data, recipe=start.recipe), Nudged(pretrain=start, size=1.), Memorized(trained=ticket),
            Moved(ticket=ticket, onto=other, match='activations', examples=50)]

def one_of_each_kind():
    "Of all figures at smoke, of both ways to distill and of rivals: of each kind the task that needs the fewest others, each behind what it needs"
    plan = dict(matching=Matching(10, 1, 4, 4., 1e-4, .05, iterations=10), condensing=Condensing(outer=1, inner=3, net_images=64), every=5,
                expert_recipe=Recipe(36, 64, lr=.1, momentum=0.), expert_every=6, experts=2)
    shortest, distilled = {}, [varied(distill_settings['smoke'], plan | dict(method=method)) for method in ('trajectory', 'gradient')]
    for asked in (*distilled, *(preset(figure, 'smoke') for figure in presets), SimpleNamespace(tasks=rivals)):
        for task in {k: t for asked_for in asked.tasks() for k, t in chain(asked_for).items()}.values():
            if isinstance(task, Sharpness): task = varied(task, dict(examples=16, sampled=20, draws=4))
            whole, kind = chain(task), (type(task), getattr(task, 'method', ''))
            if kind not in shortest or len(whole) < len(shortest[kind]): shortest[kind] = whole
    return {k: t for whole in shortest.values() for k, t in whole.items()}

def answers(root, device):
    "Of each kind of task: its columns and rows, and the shapes of its tensors; values, after hundreds of steps in float32, differ by what rounding grew to"
    run, found = Run(root=Path(root), device=torch.device(device)), {}
    for key, task in one_of_each_kind().items():
        record = run.ask(task)
        found[key] = type(task).__name__, list(record.metrics), len(record.metrics), {k: v.shape for k, v in record.tensors.items()}
    return found

@pytest.mark.long
def test_every_kind_of_task_is_answered_elsewhere(there, tmp_path):
    ours, theirs = answers(tmp_path/'here', 'cpu'), there.submit(answers, tmp_path/'there', elsewhere.there).result()
    assert ours == theirs
    ours_to_answer = {kind for kind in kinds_of(Task) if kind.__module__.startswith('lottery_diet.') and kind.compute is not Task.compute}
    answerable = ours_to_answer - {Walk, SavedScores} # `Walk` does not say at what it looks, `SavedScores` reads a file of a user
    assert {kind for kind, *_ in ours.values()} == {kind.__name__ for kind in answerable}

@pytest.mark.long
@pytest.mark.parametrize('notebook, shorter', [ # 08_distill takes minutes; its tasks are answered above
    ('04_scores', dict(dataset='digits', steps=60, seeds=2)), ('05_imp', dict(dataset='digits', levels=1)), ('06_lmc', dict(children=2, spawns='0 20'))])
def test_notebooks_take_the_device_that_is_there(there, tmp_path, notebook, shorter):
    page = Path(__file__).parents[1]/'nbs'/f'{notebook}.ipynb'
    there.submit(partial(run_here, page, tmp_path/'runs', tmp_path, out_dir=str(tmp_path/'results'), **shorter)).result()
    origins = [json.loads(p.read_text()) for p in (*tmp_path.glob('results/*.json'), *tmp_path.glob('runs/*/*/provenance.json'))]
    assert origins and {o.get('provenance', o)['device'] for o in origins} == {elsewhere.device_name}
