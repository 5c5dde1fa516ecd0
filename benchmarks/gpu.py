"""On a GPU: milliseconds per training step, recorded against eager PyTorch, alone and many at once; by turns in one process.

    python benchmarks/gpu.py                # needs MNIST and CIFAR-10 (LOTTERY_DIET_DATA); runs where notebooks' tools are not installed
"""
import argparse
import time
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from report import report

from lottery_diet.core import pick_device
from lottery_diet.models import initialize, lenet_300_100, resnet20
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot, fit, fit_many


def eager(model, data, recipe):
    "A careful plain loop: data on the device, fused SGD, channels-last, in the recipe's precision"
    x, y = data.inputs(data.x), data.y
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True)
    model.to(memory_format=torch.channels_last).train()
    for step in range(recipe.steps):
        chosen = torch.randint(len(x), (recipe.batch_size,), device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == 'bfloat16'):
            loss = F.cross_entropy(model(x[chosen].contiguous(memory_format=torch.channels_last)), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def seconds(run):
    "Of one run, with the device's work in it"
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    before = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - before

def rows(what, contestants, steps, runs, rounds):
    "One row for each contestant; times are per step of one run, ratios against the first, turn by turn"
    for run in contestants.values(): run()
    took = {k: [] for k in contestants}
    for turn in range(rounds):
        for k in (list(contestants) if turn % 2 else list(contestants)[::-1]): took[k].append(seconds(contestants[k]))
    first = next(iter(took))
    for k, s in took.items():
        ratio = median(a/b for a, b in zip(took[first], s))
        yield dict(what=what, contestant=k, ms_per_step_and_run=round(1000*median(s)/steps/runs, 4), times_as_fast=round(ratio, 2), rounds=rounds)

def resnets(device, steps, rounds):
    data = load_data('cifar10', download=False).train.to(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    for precision in ('tf32', 'bfloat16'):
        recipe = Recipe(steps, 128, lr=.05, weight_decay=1e-4, precision=precision)
        plain = initialize(resnet20, 0).to(device)
        contestants = {'eager PyTorch': partial(eager, plain, data, recipe)}
        for way in ('autograd', 'graph', 'compiled graph'):
            net = initialize(resnet20, 0).to(device)
            contestants[way] = partial(fit, net, data, recipe, start=Snapshot(0, net.state_dict()), way=way)
        yield from rows(f'ResNet-20, CIFAR-10, batch 128, {precision}', contestants, steps, 1, rounds)

def lenets(device, steps, rounds):
    data, recipe = load_data('mnist', download=False).train.to(device), Recipe(steps, 128, lr=.05)
    for runs in (1, 4, 16, 64):
        net, starts = initialize(lenet_300_100, 0).to(device), [Snapshot(0, initialize(lenet_300_100, seed).state_dict()) for seed in range(runs)]
        plain = initialize(lenet_300_100, 0).to(device)
        many = partial(fit_many, net, data, recipe, starts)
        contestants = {'sequential eager PyTorch': lambda: [eager(plain, data, recipe) for _ in range(runs)],
                       'in turn, recorded': partial(many, grouping='in turn'), 'in parallel': partial(many, grouping='in parallel')}
        yield from rows(f'LeNet-300-100, MNIST, batch 128, {runs} at once', contestants, steps, runs, rounds)

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--device', default='cuda')
    ask.add_argument('--steps', type=int, default=2000, help='of each training; recording it is counted in')
    ask.add_argument('--rounds', type=int, default=5)
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    device = pick_device(args.device)
    report(args.out, chain.from_iterable(part(device, args.steps, args.rounds) for part in (resnets, lenets)), device)

if __name__ == '__main__': main()
