"""What R runs at once are worth: in parallel against in turn, and what `train_many` chooses against R plain runs one after the other.

    python benchmarks/many.py                # needs MNIST (LOTTERY_DIET_DATA)
"""
import argparse
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch
from report import report
from speed import by_turns

from lottery_diet.engine.cpu import keep_freed_memory
from lottery_diet.models import cifar_resnet, initialize, lenet_300_100
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit_many, grouping_for

resnet8 = partial(cifar_resnet, (1, 8, 8), depth=8, width=8)
cases = [('LeNet-300-100', lenet_300_100, 'mnist', 60), ('LeNet-300-100', lenet_300_100, 'mnist', 128),
         ('LeNet-300-100', partial(lenet_300_100, (1, 8, 8)), 'digits', 32),
         ('ResNet-8, width 8', resnet8, 'digits', 16), ('ResNet-8, width 8', resnet8, 'digits', 64)]
ways = dict(plain=dict(grouping='in turn', way='autograd'), in_turn=dict(grouping='in turn'), in_parallel=dict(grouping='in parallel'))

def setting(case, runs, steps):
    "Network, data, recipe and starts of one case"
    _, make, source, batch = cases[case]
    starts = [Snapshot(0, initialize(make, seed).state_dict()) for seed in range(runs)]
    return make(), load_data(source, download=False).train, Recipe(steps, batch, lr=.01), starts

def peak(case, runs, way):
    "MiB that training adds to this process at its highest"
    net, data, recipe, starts = setting(case, runs, 5)
    before = highest()
    fit_many(net, data, recipe, starts, **ways[way])
    return highest() - before

def highest():
    "Most MiB that this process has held, as Linux counts them (getrusage would count its parent's)"
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text(encoding='utf-8')).group(1))/1024

def elsewhere(case, runs, way):
    "The same in a process of its own"
    return float(subprocess.run([sys.executable, __file__, '--peak', str(case), str(runs), way], capture_output=True, text=True, check=True).stdout)

def row(case, runs, rounds):
    "One line of the table"
    name, _, source, batch = cases[case]
    net, data, recipe, starts = setting(case, runs, 40)
    took = by_turns({k: partial(fit_many, net, data, recipe, starts, **kwargs) for k, kwargs in ways.items()}, rounds)
    ratio = lambda a, b: round(median(x/y for x, y in zip(took[a], took[b])), 2)
    chosen = grouping_for(net, data, recipe, runs)
    return dict(network=name, data=source, batch=batch, runs=runs, chosen=chosen,
                plain_ms_per_step_and_run=round(1000*median(took['plain'])/recipe.steps/runs, 2),
                parallel_times_as_fast=ratio('in_turn', 'in_parallel'), chosen_times_as_fast_as_plain=ratio('plain', chosen.replace(' ', '_')),
                plain_peak_mib=round(elsewhere(case, runs, 'plain')), chosen_peak_mib=round(elsewhere(case, runs, chosen.replace(' ', '_'))), rounds=rounds)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=5, help='turns of each')
    ask.add_argument('--peak', nargs=3, metavar=('CASE', 'RUNS', 'WAY'), help='only the peak memory of one, in this process')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if args.peak: return print(peak(int(args.peak[0]), int(args.peak[1]), args.peak[2]))
    report(args.out, (row(case, runs, args.rounds) for case in range(len(cases)) for runs in (2, 4, 8, 16)))

if __name__ == '__main__': main()
