"""What the ways to compute an update are worth, level by level of an IMP ladder of LeNet-300-100 on MNIST, and compiled for ResNet-20.

Each level of a ladder with WIN's recipe (Adam, batch 60, shortened) is trained anew in each way, by turns in one process on one core.
    python benchmarks/ways.py                # needs MNIST and CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import torch
from report import report
from speed import by_turns

from lottery_diet.engine.cpu import keep_freed_memory
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.imp import imp
from lottery_diet.models import initialize, lenet_300_100, resnet20
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit, way_for


def ladder(rounds, levels=20, steps=1500, timed=200):
    "Rows of LeNet-300-100, one for every other level"
    mnist, recipe = load_data('mnist', download=False), Recipe(steps, 60, lr=1.2e-3, optimizer='adam')
    net = initialize(lenet_300_100, 0)
    start = Snapshot(0, net.state_dict())
    for rung in imp(net, mnist.train, recipe, start, levels):
        if rung.level % 2: continue
        by_way = {way: partial(fit, net, mnist.train, recipe, start=start, mask=rung.mask, way=way) for way in ('autograd', 'closed form', 'sparse')}
        accuracy = {way: evaluate(net, mnist.test, go(seed=rung.noise).state).accuracy for way, go in by_way.items()}
        took = by_turns({way: partial(go, stop=timed) for way, go in by_way.items()}, rounds)
        yield dict(network='LeNet-300-100', batch=60, level=rung.level, density=rung.mask.density, chosen=way_for(net, recipe, rung.mask),
                   **{f'{way}, ms/step': round(1000*median(s)/timed, 3) for way, s in took.items()},
                   **{f'{way}, times as fast': round(median(a/b for a, b in zip(took['autograd'], s)), 2) for way, s in took.items()},
                   **{f'{way}, test accuracy': round(a, 4) for way, a in accuracy.items()}, rounds=rounds)

def compiled(rounds, steps=8):
    "The row of ResNet-20; compiling itself is not timed"
    data, recipe = load_data('cifar10', download=False).train, Recipe(steps, 128, lr=.01)
    net = initialize(resnet20, 0)
    contestants = {way: partial(fit, initialize(resnet20, 0), data, recipe, start=Snapshot(0, net.state_dict()), way=way) for way in ('autograd', 'compiled')}
    took = by_turns(contestants, rounds)
    yield dict(network='ResNet-20', batch=128, density=1., chosen=way_for(net, recipe),
               **{f'{way}, ms/step': round(1000*median(s)/steps, 1) for way, s in took.items()},
               **{f'{way}, times as fast': round(median(a/b for a, b in zip(took['autograd'], s)), 2) for way, s in took.items()}, rounds=rounds)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=7, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    report(args.out, chain(ladder(args.rounds), compiled(args.rounds)))

if __name__ == '__main__': main()
