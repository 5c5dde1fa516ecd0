"""What bfloat16 saves a training on a CPU, and what it costs in accuracy.

Steps are timed by turns in one process on one core. Accuracies are of whole trainings, a ticket's of a whole ladder in one precision, rewound to
initialization; differences are in points, paired by seed, with 95 % t-intervals.
    python benchmarks/precision.py           # needs MNIST and CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import torch
from report import report
from speed import by_turns

from lottery_diet.engine.cpu import keep_freed_memory, multiplies_bfloat16
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.imp import imp
from lottery_diet.models import conv_net, initialize, lenet_300_100
from lottery_diet.networks.residual import cifar_resnet, resnet20
from lottery_diet.plots import t_interval
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit

precisions = ('float32', 'bfloat16')
narrow = partial(cifar_resnet, depth=8, width=8)
timed = ( # network, what it is called, data, steps that are timed
    (lenet_300_100, 'LeNet-300-100', 'mnist', Recipe(400, 60, lr=.1)), (narrow, 'ResNet-8, width 8', 'cifar10', Recipe(30, 32, lr=.1)),
    (resnet20, 'ResNet-20', 'cifar10', Recipe(8, 128, lr=.01)), (conv_net, 'ConvNet-3', 'cifar10', Recipe(3, 256, lr=.01)))
ladders = ( # network, what it is called, data, recipe, levels, share of weights that each removes
    (lenet_300_100, 'LeNet-300-100', 'mnist', Recipe(4000, 60, lr=.1, weight_decay=1e-4, milestones=(2000, 3000)), 4, .36),
    (narrow, 'ResNet-8, width 8', 'cifar10', Recipe(1500, 32, lr=.1, weight_decay=1e-4, milestones=(750, 1125), crop=4, flip=True), 1, .6))

def times(rounds):
    "What a step takes"
    for make, called, source, recipe in timed:
        data = load_data(source, download=False).train
        net = initialize(make, 0)
        start = Snapshot(0, net.state_dict())
        took = by_turns({p: partial(fit, net, data, replace(recipe, precision=p), start=start) for p in precisions}, rounds)
        yield dict(what='step', network=called, batch=recipe.batch_size, **{f'{p}, ms/step': round(1000*median(s)/recipe.steps, 3) for p, s in took.items()},
                   times_as_fast=round(median(a/b for a, b in zip(*took.values())), 2), rounds=rounds)

def accuracies(seeds):
    "What a ladder ends with, level by level of `all_arms`"
    for make, called, source, recipe, levels, rate in ladders:
        data, found = load_data(source, download=False), {}
        for seed in range(seeds):
            for p in precisions:
                net = initialize(make, seed)
                for rung in imp(net, data.train, replace(recipe, precision=p), Snapshot(0, net.state_dict()), levels, prune_rate=rate, seed=seed):
                    accuracy = 100*evaluate(net, data.test, rung.trained.state).accuracy
                    found.setdefault(rung.level, dict(density=rung.mask.density)).setdefault(p, []).append(accuracy)
        for level, by in found.items():
            gap = t_interval([b - a for a, b in zip(*(by[p] for p in precisions), strict=True)])
            yield dict(what='accuracy', network=called, steps=recipe.steps, level=level, density=round(by['density'], 4),
                       **{f'{p}, test accuracy (%)': round(sum(by[p])/seeds, 2) for p in precisions},
                       difference=round(gap.mean, 3), half_interval=round(gap.half, 3), seeds=seeds)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=7, help='turns of each')
    ask.add_argument('--seeds', type=int, default=5, help='pairs of ladders')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f'this CPU multiplies bfloat16: {multiplies_bfloat16()}', flush=True)
    report(args.out, chain(times(args.rounds), accuracies(args.seeds)))

if __name__ == '__main__': main()
