"""What it is worth to keep freed memory: milliseconds per training step with it and without, each in a process of its own, by turns.

    python benchmarks/tune.py                # needs CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
from functools import partial
from pathlib import Path

import pandas as pd
from report import write_results
from speed import compared

from lottery_diet.models import initialize, models
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, fit

steps = dict(resnet20=Recipe(8, 128, lr=.01), conv_net=Recipe(3, 256, lr=.01))

def train(name):
    data, net = load_data('cifar10', download=False).train, initialize(models[name], 0)
    return lambda: fit(net, data, steps[name])

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    results = []
    for name, recipe in steps.items():
        what, as_it_comes = f'training step, {name}, batch {recipe.batch_size}', dict(as_it_comes=(partial(train, name), False))
        results += compared(what, partial(train, name), as_it_comes, 'ms/step', 1000/recipe.steps, 1, args.rounds)
    print(pd.DataFrame(results).to_string(index=False))
    write_results(args.out, results)

if __name__ == '__main__': main()
