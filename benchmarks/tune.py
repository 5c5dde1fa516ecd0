"""What it is worth to keep freed memory: milliseconds per training step, each measurement in a process of its own, by turns.

The last row puts the whole of it, as the notebooks run, beside the usual DataLoader loop as it comes.

    python benchmarks/tune.py                # needs CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from speed import half_dense, train_loader

from lottery_diet.core import provenance, write_whole
from lottery_diet.models import initialise, models
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, fit
from lottery_diet.tune import keep_freed_memory

steps = {'resnet20': Recipe(8, 128, lr=.01), 'conv_net': Recipe(3, 256, lr=.01)}
augmented = Recipe(8, 128, lr=.01, crop=4, flip=True)

def measure(name, keep, how):
    "Milliseconds per step of one network, in this process"
    torch.set_num_threads(1)
    if keep: keep_freed_memory()
    data, net = load_data('cifar10', download=False).train, initialise(models[name], 0)
    recipe, mask = (steps[name], {}) if how == 'plain' else (augmented, half_dense(net))
    run = train_loader(net, data, recipe, mask) if how == 'loader' else lambda: fit(net, data, recipe, mask=mask)
    run()
    before = time.perf_counter()
    run()
    return 1000*(time.perf_counter() - before)/recipe.steps

def elsewhere(name, keep, how='plain'):
    "The same in a process of its own"
    return float(subprocess.run([sys.executable, __file__, '--measure', name, how, *(['--keep'] if keep else [])], capture_output=True, text=True, check=True).stdout)

def compare(what, usual, ours, rounds):
    "Two measurements by turns: a row of the table"
    took = {False: [], True: []}
    for turn in range(rounds):
        for mine in ((False, True) if turn % 2 else (True, False)): took[mine].append((ours if mine else usual)())
    ratios = [a/b for a, b in zip(took[False], took[True])]
    return what | dict(as_it_comes_ms=round(median(took[False])), kept_ms=round(median(took[True])), times_as_fast=round(median(ratios), 2), lowest=round(min(ratios), 2), highest=round(max(ratios), 2), rounds=rounds)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--measure', nargs=2, metavar=('NETWORK', 'HOW'), help='one measurement in this process: plain, masked or loader')
    ask.add_argument('--keep', action='store_true', help='with freed memory kept')
    ask.add_argument('--rounds', type=int, default=5, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    if args.measure: return print(measure(args.measure[0], args.keep, args.measure[1]))
    results = []
    for name, recipe in steps.items():
        results.append(compare(dict(network=name, batch=recipe.batch_size), partial(elsewhere, name, False), partial(elsewhere, name, True), args.rounds))
        print(results[-1], flush=True)
    whole = dict(network='resnet20, augmented and masked, beside the DataLoader loop', batch=augmented.batch_size)
    results.append(compare(whole, partial(elsewhere, 'resnet20', False, 'loader'), partial(elsewhere, 'resnet20', True, 'masked'), args.rounds))
    print(results[-1], flush=True)
    if args.out: write_whole(args.out, lambda p: p.write_text(json.dumps(dict(results=results, machine=provenance()), indent=1) + '\n'))

if __name__ == '__main__': main()
