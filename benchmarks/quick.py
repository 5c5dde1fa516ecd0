"""What a step of the quick network costs, and what it reaches in 150 to 1,600 steps on one core.

Contestants take turns, each in a process of its own, as in `speed.py`. `plain` is the network and the loop of ten lines that one writes at
first, over images in memory, in bfloat16; `loader` the usual DataLoader over torchvision's data set, in float32; `two` are two processes of ours
that train side by side, beside one that trains twice as long. With `--accuracy` the network is trained for 150, 300, 600 and 1,600 steps: seconds
of training, operations (a backward pass counts twice), and what three seeds reach.
    python benchmarks/quick.py [--accuracy]                # needs CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from report import report
from speed import Apart, by_turns, loader, rows
from torch import nn

from lottery_diet.engine.cpu import keep_freed_memory, multiplies_bfloat16
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.experiments.ingredients import quick
from lottery_diet.models import initialize
from lottery_diet.sources import load_data
from lottery_diet.train import Snapshot, fit

macs = 10.1e6 # of one image forward, as experiments/costs counts them
few = 20 # steps of one turn

class PlainGroup(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, padding=1, bias=False), nn.Conv2d(o, o, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(o), nn.BatchNorm2d(o)
    def forward(self, x): return F.gelu(self.bn2(self.conv2(F.gelu(self.bn1(F.max_pool2d(self.conv1(x), 2))))))

class Plain(nn.Module):
    "The network as one writes it at first, with whitening filters that are drawn: they cost the same"
    def __init__(self):
        super().__init__()
        self.white = nn.Conv2d(3, 24, 2)
        self.white.weight.requires_grad = False
        self.groups, self.fc = nn.Sequential(PlainGroup(24, 16), PlainGroup(16, 64), PlainGroup(64, 64)), nn.Linear(64, 10, bias=False)
    def forward(self, x): return self.fc(F.max_pool2d(self.groups(F.gelu(self.white(x))), 3).flatten(1))/9

def ours(steps=few, precision='bfloat16'):
    train, _ = quick['data'].load(quick['recipe'], torch.device('cpu'))
    net, recipe = initialize(quick['network'].maker(train), 0), replace(quick['recipe'], precision=precision)
    start = Snapshot.of(net)
    return lambda: fit(net, train, recipe, start=start, stop=steps)

def step_of(net, optimizer, x, y, half):
    with torch.autocast('cpu', torch.bfloat16, enabled=half): loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

def sgd(net): return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=.01, momentum=.85, nesterov=True, weight_decay=5e-4)

def plain(half=True):
    "Flips and crops of the whole batch by indexing, as in airbench"
    data, net = load_data('cifar10', download=False).train, Plain()
    padded, y = F.pad(data.inputs(data.x), (2,)*4, 'reflect'), data.y
    def run():
        optimizer, order = sgd(net), torch.randperm(len(y))
        for step in range(few):
            chosen = order[step*250:(step + 1)*250]
            x, left, top = padded[chosen], torch.randint(5, (250,)), torch.randint(5, (250,))
            rows_, columns = top[:, None, None] + torch.arange(32)[:, None], left[:, None, None] + torch.arange(32)
            x = x[torch.arange(250)[:, None, None], :, rows_, columns].permute(0, 3, 1, 2)
            flipped = torch.rand(250) < .5
            step_of(net, optimizer, torch.where(flipped[:, None, None, None], x.flip(3), x), y[chosen], half)
    return run

def usual():
    batches, net = loader('cifar10', replace(quick['recipe'], precision='float32'), True), Plain()
    def run():
        optimizer = sgd(net)
        for step, (x, y) in enumerate(batches):
            if step == few: break
            step_of(net, optimizer, x, y, False)
    return run

class Both:
    "Two contestants at once"
    def __init__(self, make): self.each = [Apart(make, True, 1) for _ in range(2)]
    def __call__(self):
        for one in self.each: one.pipe.send('run')
        for one in self.each: one.hear()
    def close(self):
        for one in self.each: one.close()

def turns(what, contestants, unit, scale, rounds):
    with ExitStack() as stack:
        for one in contestants.values(): stack.callback(one.close)
        return list(rows(what, by_turns(contestants, rounds), unit, scale))

def steps(rounds):
    rivals = {'plain': Apart(plain, False, 1), 'plain, memory kept': Apart(plain, True, 1),
              'plain in float32': Apart(partial(plain, False), False, 1), 'loader': Apart(usual, False, 1)}
    yield from turns('a step of 250 images', dict(ours=Apart(ours, True, 1)) | rivals, 'ms/step', 1000/few, rounds)
    yield from turns('two processes', dict(ours=Both(ours), one=Apart(partial(ours, 2*few), True, 1)), 'ms/step', 500/few, rounds)
    if not multiplies_bfloat16(): return
    yield from turns('bfloat16', dict(ours=Apart(ours, True, 1), float32=Apart(partial(ours, few, 'float32'), True, 1)), 'ms/step', 1000/few, rounds)

def accuracies(seeds=(0, 1, 2)):
    train, test = quick['data'].load(quick['recipe'], torch.device('cpu'))
    for length in (150, 300, 600, 1600):
        recipe, took, reached = replace(quick['recipe'], steps=length), [], []
        for seed in seeds:
            net = initialize(quick['network'].maker(train), seed)
            before = time.process_time()
            end = fit(net, train, recipe, seed=seed)
            took.append(time.process_time() - before)
            reached.append(100*evaluate(net, test, end.state).accuracy)
        tflop = 6*macs*length*recipe.batch_size/1e12
        yield dict(what='accuracy', steps=length, cpu_seconds=round(mean(took), 1), tflop=round(tflop, 2), accuracy=round(mean(reached), 2),
                   lowest=round(min(reached), 2), highest=round(max(reached), 2), precision=recipe.precision, seeds=len(seeds))

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--accuracy', action='store_true', help='also train to the end: a quarter of an hour')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    report(args.out, (row for part in ([steps(args.rounds), accuracies()] if args.accuracy else [steps(args.rounds)]) for row in part))

if __name__ == '__main__': main()
