"""Do accuracy and barriers notice BatchNorm's error in channels-last? Pairs of trainings that differ in layout alone.

    python benchmarks/batchnorm_runs.py [pairs] [file.json]
"""
import sys
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import torch
from report import report

from lottery_diet.core import lerp
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.models import initialize, quick_net
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, train

recipe = Recipe(160, 125, lr=.1, weight_decay=5e-4, cosine=True, crop=2, flip=True) # of 20,000 images

def ordinary(model):
    "The layout that BatchNorm is exact in, for every network"
    model.to(memory_format=torch.contiguous_format)
    return torch.contiguous_format

def in_ordinary_layout():
    "Training and evaluation in that layout; each of them took the function by name"
    stack = ExitStack()
    for module in ('evaluation', 'update'): stack.enter_context(patch(f'lottery_diet.engine.{module}.channels_last', ordinary))
    return stack

def siblings(data, make, seed):
    "Accuracy of one training, and the error barrier (points) between it and another that leaves it at step 20"
    net = initialize(make, seed)
    early, one = train(net, data.train, recipe, at=(20,), seed=seed)
    *_, other = train(net, data.train, recipe, start=early, seed=seed + 1000)
    accuracy = [evaluate(net, data.test, state).accuracy for state in (one.state, other.state, lerp(one.state, other.state, .5))]
    return dict(accuracy=100*accuracy[0], barrier=100*((accuracy[0] + accuracy[1])/2 - accuracy[2]))

def rows(pairs):
    "Each seed in both layouts"
    data = load_data('cifar10')
    data = data._replace(train=data.train.take(torch.arange(20_000)), test=data.test.take(torch.arange(3_000)))
    make = partial(quick_net, images=data.train.inputs(data.train.x[:5000]))
    for seed in range(pairs):
        channels_last = siblings(data, make, seed)
        with in_ordinary_layout(): contiguous = siblings(data, make, seed)
        if contiguous == channels_last: raise RuntimeError(f'both layouts gave the same numbers for seed {seed}: the layout was not changed')
        yield dict(seed=seed, **{f'{k}_channels_last': v for k, v in channels_last.items()}, **{f'{k}_contiguous': v for k, v in contiguous.items()})

if __name__ == '__main__':
    torch.set_num_threads(1)
    report(sys.argv[2] if len(sys.argv) > 2 else None, rows(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
