"""What a step and an evaluation pass cost here, beside what users would otherwise write.

Contestants run by turns in one process with the same number of threads; medians, and the median of the ratios turn by turn.
`bare` is a careful hand-written loop: normalised floats in memory, fused SGD, channels-last, masks by foreach. `loader` is the usual
DataLoader over torchvision's data set and transforms, with SGD as it comes and the mask multiplied in.
    python benchmarks/speed.py                # needs MNIST and CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
import json
import time
from itertools import combinations, islice
from pathlib import Path
from statistics import median

import pandas as pd
import torch
import torch.nn.functional as F

from lottery_diet.core import provenance, state_of, write_whole
from lottery_diet.evaluation import channels_last
from lottery_diet.gradient_scores import grand
from lottery_diet.imp import Mask, prune_random
from lottery_diet.lmc import barrier, loss_path, see
from lottery_diet.models import initialise, lenet_300_100, resnet20
from lottery_diet.scores import el2n
from lottery_diet.sources import default_data_root, load_data, patch_torchvision
from lottery_diet.train import Recipe, Snapshot, evaluate, fit

patch_torchvision()
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

sources = dict(mnist=datasets.MNIST, cifar10=datasets.CIFAR10)

def half_dense(model):
    "A random mask with half of the weights"
    return prune_random(Mask({k: (torch.arange(m.numel()) % 2 == 0).view(m.shape) for k, m in Mask.dense(model).items()}))

def loader(data, recipe, train):
    "The usual pipeline"
    augment = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)] if recipe.flip and train else []
    pipeline = transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
    return DataLoader(sources[data.name](default_data_root(), train=train, transform=pipeline), recipe.batch_size if train else 256, shuffle=train)

def train_ours(model, data, recipe, mask):
    start = Snapshot(0, model.state_dict())
    return lambda: fit(model, data, recipe, start=start, mask=mask)

def train_bare(model, data, recipe, mask):
    layout, x, y = channels_last(model), data.inputs(data.x), data.y
    parameters = dict(model.named_parameters())
    weights, masks = [parameters[k] for k in mask], [m.float() for m in mask.values()]
    def run():
        optimiser = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True)
        order = torch.randperm(len(x))
        model.train()
        for step in range(recipe.steps):
            chosen = order[step*recipe.batch_size:(step + 1)*recipe.batch_size]
            loss = F.cross_entropy(model(x[chosen].contiguous(memory_format=layout)), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad(): torch._foreach_mul_(weights, masks)
    return run

def train_loader(model, data, recipe, mask):
    masks, batches = {k: m.float() for k, m in mask.items()}, loader(data, recipe, True)
    def run():
        optimiser = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        model.train()
        for step, (x, y) in enumerate(batches):
            if step == recipe.steps: break
            loss = F.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for k, p in model.named_parameters():
                    if k in masks: p.mul_(masks[k])
    return run

def evaluate_loader(model, data, recipe):
    batches = loader(data, recipe, False)
    def run():
        model.eval()
        with torch.no_grad(): return sum((model(x).argmax(1) == y).sum().item() for x, y in islice(batches, 8))
    return run

def el2n_usual(model, data):
    x, y = data.inputs(data.x), F.one_hot(data.y, data.classes)
    def run():
        model.eval()
        with torch.no_grad(): return torch.cat([(model(xb).softmax(1) - yb).norm(dim=1) for xb, yb in zip(x.split(256), y.split(256))])
    return run

def el2n_loader(model, data, recipe):
    batches = loader(data, recipe, False)
    def run():
        model.eval()
        with torch.no_grad(): return torch.cat([(model(x).softmax(1) - F.one_hot(y, data.classes)).norm(dim=1) for x, y in islice(batches, 8)])
    return run

def grand_usual(model, data):
    "A backward pass for each example"
    x, y = data.inputs(data.x), data.y
    def run():
        model.eval()
        for i in range(len(x)):
            model.zero_grad()
            F.cross_entropy(model(x[i:i+1]), y[i:i+1]).backward()
            torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    return run

def path_usual(model, data, a, b, alphas):
    "Interpolate, load, pass through batches of 256"
    x, y = data.inputs(data.x), data.y
    def run():
        for t in alphas:
            model.load_state_dict({k: (1 - t)*a[k] + t*b[k] for k in a})
            model.eval()
            with torch.no_grad(): sum(F.cross_entropy(model(xb), yb, reduction='sum').item() for xb, yb in zip(x.split(256), y.split(256)))
    return run

def path_loader(model, data, recipe, a, b, alphas):
    "Interpolate, load, pass through the usual pipeline"
    batches = loader(data, recipe, False)
    def run():
        for t in alphas:
            model.load_state_dict({k: (1 - t)*a[k] + t*b[k] for k in a})
            model.eval()
            with torch.no_grad(): sum(F.cross_entropy(model(x), y, reduction='sum').item() for x, y in islice(batches, 4))
    return run

def barriers_ours(model, data, solutions):
    "Each solution is looked at once, then the middles of all pairs"
    def run():
        seen = [see(model, s, data) for s in solutions]
        for i, j in combinations(range(len(solutions)), 2): barrier(loss_path(model, solutions[i], solutions[j], data, (.5,), ends=(seen[i], seen[j])))
    return run

def by_turns(contestants, rounds):
    "Seconds of each contestant, turn by turn, after one run that is not counted"
    for run in contestants.values(): run()
    took = {k: [] for k in contestants}
    for turn in range(rounds):
        for k in (list(contestants) if turn % 2 else list(contestants)[::-1]):
            before = time.perf_counter()
            contestants[k]()
            took[k].append(time.perf_counter() - before)
    return took

def rows(what, contestants, rounds, unit, scale):
    "One row for each rival of `ours`"
    took = by_turns(contestants, rounds)
    for rival in [k for k in took if k != 'ours']:
        ratios = [r/o for r, o in zip(took[rival], took['ours'])]
        yield dict(what=what, rival=rival, rival_took=round(scale*median(took[rival]), 3), ours_took=round(scale*median(took['ours']), 3), unit=unit,
                   times_as_fast=round(median(ratios), 3), lowest=round(min(ratios), 3), highest=round(max(ratios), 3), rounds=rounds)

def training(name, make, data, recipe, rounds):
    mask = half_dense(make())
    contestants = {k: train(initialise(make, 0), data, recipe, mask) for k, train in dict(ours=train_ours, bare=train_bare).items()}
    yield from rows(f'training step, {name}, no augmentation', contestants, rounds, 'ms/step', 1000/recipe.steps)
    usual = recipe if data.name == 'mnist' else Recipe(recipe.steps, recipe.batch_size, lr=recipe.lr, crop=4, flip=True)
    contestants = {k: train(initialise(make, 0), data, usual, mask) for k, train in dict(ours=train_ours, loader=train_loader).items()}
    yield from rows(f'training step, {name}, the papers\' augmentation', contestants, rounds, 'ms/step', 1000/recipe.steps)

def passes(data, recipe, rounds):
    nets = [initialise(resnet20, 0) for _ in range(2)]
    few = data.take(torch.arange(2048))
    yield from rows('evaluation, ResNet-20', dict(ours=lambda: evaluate(nets[0], few), loader=evaluate_loader(nets[1], data, recipe)), rounds, 's/2,048 images', 1)
    yield from rows('EL2N, ResNet-20', dict(ours=lambda: el2n(nets[0], few), loop=el2n_usual(nets[1], few), loader=el2n_loader(nets[1], data, recipe)), rounds, 's/2,048 images', 1)
    some = data.take(torch.arange(128))
    yield from rows('GraNd, ResNet-20', dict(ours=lambda: grand(nets[0], some), one_by_one=grand_usual(nets[1], some)), rounds, 's/128 images', 1)
    ends, alphas, some = [state_of(initialise(resnet20, seed)) for seed in range(2)], (0., .5, 1.), data.take(torch.arange(1024))
    path = dict(ours=lambda: loss_path(nets[0], *ends, some, alphas), loop=path_usual(nets[1], some, *ends, alphas), loader=path_loader(nets[1], data, recipe, *ends, alphas))
    yield from rows('path of 3 points, ResNet-20', path, rounds, 's/1,024 images', 1)
    solutions = [*ends, state_of(initialise(resnet20, 2))]
    usual = [path_loader(nets[1], data, recipe, a, b, alphas) for a, b in combinations(solutions, 2)]
    yield from rows('barriers of all pairs of 3 solutions, ResNet-20', dict(ours=barriers_ours(nets[0], some, solutions), loader=lambda: [run() for run in usual]), rounds, 's/1,024 images', 1)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--threads', type=int, default=1, help='threads of every contestant')
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(args.threads)
    mnist, cifar = load_data('mnist', download=False), load_data('cifar10', download=False)
    recipe = Recipe(12, 128, lr=.01, crop=4, flip=True)
    table = pd.DataFrame([*training('LeNet-300-100', lenet_300_100, mnist.train, Recipe(200, 128, lr=.01), args.rounds),
                          *training('ResNet-20', resnet20, cifar.train, Recipe(12, 128, lr=.01), args.rounds), *passes(cifar.test, recipe, args.rounds)])
    print(table.to_string(index=False))
    if args.out: write_whole(args.out, lambda p: p.write_text(json.dumps(dict(results=table.to_dict('records'), machine=provenance()), indent=1) + '\n'))

if __name__ == '__main__': main()
