"""Steps per second of `train` with a mask against a bare hand-written loop that applies the same mask.

Both run in one process, by turns, with the same number of threads; medians and the median of the ratios are reported.
    python benchmarks/overhead.py            # real MNIST and CIFAR-10 where they are at hand, else noise of the same shape
"""
import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from lottery_diet.core import provenance, state_of, write_whole
from lottery_diet.data import ImageSet, load_data
from lottery_diet.imp import Mask, prune_random
from lottery_diet.models import initialise, lenet_300_100, resnet20
from lottery_diet.train import Recipe, Snapshot, channels_last, fit


def images(name, shape, n):
    "A training set, real where its files are at hand: speed does not depend on what is in the pictures"
    try: return load_data(name, download=False).train
    except FileNotFoundError: return ImageSet(torch.randint(0, 256, (n, *shape), dtype=torch.uint8), torch.arange(n) % 10, name=f'noise like {name}')

def half_dense(model):
    "A mask with half of the weights"
    everything = Mask.dense(model)
    half = {k: (torch.arange(m.numel()) % 2 == 0).view(m.shape) for k, m in everything.items()}
    return prune_random(Mask(half))

class Bare:
    "What a careful user would write by hand: normalised floats in memory, fused SGD, channels-last convolutions, masks by foreach"
    def __init__(self, make, data, recipe, mask):
        self.model, self.recipe, self.mask = initialise(make, 0), recipe, mask
        self.layout = channels_last(self.model)
        self.x, self.y = data.inputs(data.x), data.y

    def run(self):
        r, model = self.recipe, self.model
        optimiser = torch.optim.SGD(model.parameters(), lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay, fused=True)
        parameters = dict(model.named_parameters())
        weights, masks = [parameters[k] for k in self.mask], [m.float() for m in self.mask.values()]
        order = torch.randperm(len(self.x))
        model.train()
        for step in range(r.steps):
            chosen = order[step*r.batch_size:(step + 1)*r.batch_size]
            loss = F.cross_entropy(model(self.x[chosen].contiguous(memory_format=self.layout)), self.y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad(): torch._foreach_mul_(weights, masks)

class Ours:
    "`train`, as anyone calls it"
    def __init__(self, make, data, recipe, mask):
        self.model, self.data, self.recipe, self.mask = initialise(make, 0), data, recipe, mask
        self.start = Snapshot(0, state_of(self.model))

    def run(self): fit(self.model, self.data, self.recipe, start=self.start, mask=self.mask)

def compare(name, make, data, recipe, rounds):
    "Milliseconds per step of both, by turns"
    mask = half_dense(make())
    contestants = dict(bare=Bare(make, data, recipe, mask), ours=Ours(make, data, recipe, mask))
    for c in contestants.values(): c.run()
    took = {k: [] for k in contestants}
    for turn in range(rounds):
        for k in (list(contestants) if turn % 2 else list(contestants)[::-1]):
            before = time.perf_counter()
            contestants[k].run()
            took[k].append(1000*(time.perf_counter() - before)/recipe.steps)
    ratios = [o/b for o, b in zip(took['ours'], took['bare'])]
    return dict(network=name, data=data.name, batch=recipe.batch_size, rounds=rounds, steps=recipe.steps, bare_ms=round(median(took['bare']), 3),
                ours_ms=round(median(took['ours']), 3), ratio=round(median(ratios), 3), ratio_low=round(min(ratios), 3), ratio_high=round(max(ratios), 3))

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--threads', type=int, default=1, help='threads of both contestants')
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--out', type=Path, help='also write the table and the machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(args.threads)
    results = [compare('LeNet-300-100', lenet_300_100, images('mnist', (1, 28, 28), 60_000), Recipe(300, 128, lr=.05), args.rounds),
               compare('ResNet-20', resnet20, images('cifar10', (3, 32, 32), 10_000), Recipe(6, 128, lr=.05), args.rounds)]
    for r in results: print(f"{r['network']:14} bare {r['bare_ms']:8.3f} ms/step   ours {r['ours_ms']:8.3f} ms/step   ours/bare {r['ratio']:.3f} ({r['ratio_low']:.3f} to {r['ratio_high']:.3f}, {r['rounds']} rounds)")
    if args.out: write_whole(args.out, lambda p: p.write_text(json.dumps(dict(results=results, machine=provenance()), indent=1) + '\n'))

if __name__ == '__main__': main()
