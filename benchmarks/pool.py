"""What layout and pooling are worth to ConvNet-3 on one core: a training step and a look, beside PyTorch's own pooling in both layouts, by turns.

    python benchmarks/pool.py
"""
import argparse
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from report import report
from speed import by_turns, rows
from torch import nn

from lottery_diet.engine.cpu import keep_freed_memory
from lottery_diet.models import conv_net, initialize


def usual(net):
    "The same network with `nn.AvgPool2d`"
    return nn.Sequential(*(nn.AvgPool2d(2) if isinstance(layer, nn.AvgPool2d) else layer for layer in net))

def step(net, x, y):
    "Loss and gradients, as every update needs them"
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()

@torch.no_grad()
def look(net, x, y): net(x)

def contestants(width, batch, do):
    "The three ways, on the same weights and images"
    x, y, make = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,)), partial(initialize, partial(conv_net, width=width), 0)
    last = torch.channels_last
    return {'nn.AvgPool2d': partial(do, usual(make()), x, y),
            'nn.AvgPool2d, channels last': partial(do, usual(make()).to(memory_format=last), x.contiguous(memory_format=last), y),
            'ours': partial(do, make(), x, y)}

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    done = (('training step', step, {16: 64, 128: 128}), ('look', look, {16: 64, 128: 64}))
    asked = ((what, do, width, batch) for what, do, batches in done for width, batch in batches.items())
    report(args.out, (row for what, do, width, batch in asked
                      for row in rows(f'{what}, ConvNet-3 of width {width}, batch {batch}', by_turns(contestants(width, batch, do), args.rounds), 'ms', 1000)))

if __name__ == '__main__': main()
