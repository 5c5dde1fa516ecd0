"""What it is worth to keep freed memory: milliseconds per training step, each measurement in a process of its own, by turns.

    python benchmarks/tune.py                # needs CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from lottery_diet.core import provenance, write_whole
from lottery_diet.data import load_data
from lottery_diet.models import initialise, models
from lottery_diet.train import Recipe, fit
from lottery_diet.tune import keep_freed_memory

steps = {'resnet20': Recipe(8, 128, lr=.01), 'conv_net': Recipe(3, 256, lr=.01)}

def measure(name, keep):
    "Milliseconds per step of one network, in this process"
    torch.set_num_threads(1)
    if keep: keep_freed_memory()
    data, recipe, net = load_data('cifar10', download=False).train, steps[name], initialise(models[name], 0)
    fit(net, data, recipe, stop=2)
    before = time.perf_counter()
    fit(net, data, recipe)
    return 1000*(time.perf_counter() - before)/recipe.steps

def elsewhere(name, keep):
    "The same in a process of its own"
    return float(subprocess.run([sys.executable, __file__, '--measure', name, *(['--keep'] if keep else [])], capture_output=True, text=True, check=True).stdout)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--measure', choices=list(steps), help='one measurement in this process')
    ask.add_argument('--keep', action='store_true', help='with freed memory kept')
    ask.add_argument('--rounds', type=int, default=5, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    if args.measure: return print(measure(args.measure, args.keep))
    results = []
    for name, recipe in steps.items():
        took = {keep: [] for keep in (False, True)}
        for turn in range(args.rounds):
            for keep in ((False, True) if turn % 2 else (True, False)): took[keep].append(elsewhere(name, keep))
        ratios = [a/b for a, b in zip(took[False], took[True])]
        results.append(dict(network=name, batch=recipe.batch_size, as_it_comes_ms=round(median(took[False])), kept_ms=round(median(took[True])),
                            times_as_fast=round(median(ratios), 2), lowest=round(min(ratios), 2), highest=round(max(ratios), 2), rounds=args.rounds))
        print(results[-1])
    if args.out: write_whole(args.out, lambda p: p.write_text(json.dumps(dict(results=results, machine=provenance()), indent=1) + '\n'))

if __name__ == '__main__': main()
