"""What a step and a pass cost here, beside what users would otherwise write.

Every contestant runs in a process of its own, as its user would run it, because the memory allocator belongs to a process: ours and the
bare loop keep freed memory, as `tune_cpu` tells it; the others run as they come, and once more where `memory kept` is said. All have the same
number of threads; they take turns, one at a time; medians, and the median of the ratios turn by turn.
`bare` is a careful hand-written loop: normalized floats in memory, fused SGD, channels-last, masks by foreach. `loader` is the usual
DataLoader over torchvision's data set and transforms, with SGD as it comes and the mask multiplied in; `loop` goes over images in memory; `one_by_one`
over one image at a time. Trainings are in batches of 128; looks are in batches of 256 where nothing else is said. bfloat16 is measured where the
CPU multiplies it.
    python benchmarks/speed.py                # needs MNIST and CIFAR-10 (LOTTERY_DIET_DATA)
"""
import argparse
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import combinations, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import pandas as pd
import torch
import torch.nn.functional as F
from report import write_results

from lottery_diet.core import patch_torchvision, state_of
from lottery_diet.engine.cpu import keep_freed_memory, multiplies_bfloat16
from lottery_diet.engine.evaluation import channels_last, evaluate
from lottery_diet.imp import Mask, prune_random
from lottery_diet.lmc import barrier, loss_path, per_example
from lottery_diet.models import initialize, models
from lottery_diet.scores import el2n, grand
from lottery_diet.sources import default_data_root, load_data
from lottery_diet.train import Recipe, Snapshot, fit

patch_torchvision()
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

sources = dict(mnist=datasets.MNIST, cifar10=datasets.CIFAR10)
trained = dict(lenet_300_100=('mnist', Recipe(200, 128, lr=.01)), resnet20=('cifar10', Recipe(12, 128, lr=.01)))
usual = Recipe(12, 128, lr=.01, crop=4, flip=True) # the papers' augmentation of CIFAR-10

# what trains: each function gives a run

def half_dense(model):
    "A random mask with half of the weights"
    return prune_random(Mask({k: (torch.arange(m.numel()) % 2 == 0).view(m.shape) for k, m in Mask.dense(model).items()}))

def loader(source, recipe, train, size=256):
    "The usual pipeline over one of torchvision's data sets; batches of `size` where it only looks"
    augment = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)] if recipe.flip and train else []
    data = load_data(source, download=False).train
    pipeline = transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
    return DataLoader(sources[source](default_data_root(), train=train, transform=pipeline), recipe.batch_size if train else size, shuffle=train)

def setting(name, augmented):
    "Network, source, recipe and mask of a training"
    source, recipe = trained[name]
    model = initialize(models[name], 0)
    return model, source, usual if augmented and source == 'cifar10' else recipe, half_dense(model)

def train_ours(name, augmented, way=None, precision='float32'):
    model, source, recipe, mask = setting(name, augmented)
    data, start = load_data(source, download=False).train, Snapshot(0, model.state_dict())
    return lambda: fit(model, data, replace(recipe, precision=precision), start=start, mask=mask, way=way)

def train_bare(name, augmented=False):
    model, source, recipe, mask = setting(name, augmented)
    data, layout = load_data(source, download=False).train, channels_last(model)
    x, y = data.inputs(data.x), data.y
    parameters = dict(model.named_parameters())
    weights, masks = [parameters[k] for k in mask], [m.float() for m in mask.values()]
    def run():
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True)
        order = torch.randperm(len(x))
        model.train()
        for step in range(recipe.steps):
            chosen = order[step*recipe.batch_size:(step + 1)*recipe.batch_size]
            loss = F.cross_entropy(model(x[chosen].contiguous(memory_format=layout)), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad(): torch._foreach_mul_(weights, masks)
    return run

def train_loader(name, augmented, half=False):
    model, source, recipe, mask = setting(name, augmented)
    masks, batches = {k: m.float() for k, m in mask.items()}, loader(source, recipe, True)
    def run():
        optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        model.train()
        for step, (x, y) in enumerate(batches):
            if step == recipe.steps: break
            with torch.autocast('cpu', torch.bfloat16, enabled=half): loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for k, p in model.named_parameters():
                    if k in masks: p.mul_(masks[k])
    return run

# what looks: at the first of CIFAR-10's test images, through ResNet-20

def images(n): return load_data('cifar10', download=False).test.take(torch.arange(n))

def resnet(seed=0): return initialize(models['resnet20'], seed)

def solutions(n): return [state_of(resnet(seed)) for seed in range(n)]

def in_memory(n):
    "Normalized images and labels in batches of 256"
    data = images(n)
    return list(zip(data.inputs(data.x).split(256), data.y.split(256)))

def in_files(n, size=256):
    "The same from the usual pipeline"
    batches = loader('cifar10', usual, False, size)
    return lambda: islice(batches, n//size)

@torch.no_grad()
def passed(model, batches, per_batch):
    "The usual pass in evaluation mode"
    model.eval()
    return [per_batch(model(x), y) for x, y in batches]

def right(out, y): return (out.argmax(1) == y).sum().item()
def error_norm(out, y): return (out.softmax(1) - F.one_hot(y, 10)).norm(dim=1)
def summed_loss(out, y): return F.cross_entropy(out, y, reduction='sum').item()

def evaluate_ours(n):
    net, data = resnet(), images(n)
    return lambda: evaluate(net, data)

def el2n_ours(n):
    net, data = resnet(), images(n)
    return lambda: el2n(net, data)

def pass_loop(n, per_batch):
    net, batches = resnet(), in_memory(n)
    return lambda: passed(net, batches, per_batch)

def pass_loader(n, per_batch, size=256):
    net, batches = resnet(), in_files(n, size)
    return lambda: passed(net, batches(), per_batch)

def grand_ours(n):
    net, data = resnet(), images(n)
    return lambda: grand(net, data)

def grand_one_by_one(n):
    "A backward pass for each example"
    model, data = resnet(), images(n)
    x, y = data.inputs(data.x), data.y
    def run():
        model.eval()
        for i in range(len(x)):
            model.zero_grad()
            F.cross_entropy(model(x[i:i+1]), y[i:i+1]).backward()
            torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    return run

alphas = (0., .5, 1.)

def path_ours(n):
    net, ends, data = resnet(), solutions(2), images(n)
    return lambda: loss_path(net, *ends, data, alphas)

def interpolated(model, a, b, batches):
    "Interpolate, load, pass"
    for t in alphas:
        model.load_state_dict({k: (1 - t)*a[k] + t*b[k] for k in a})
        passed(model, batches(), summed_loss)

def path_loop(n):
    net, ends, batches = resnet(), solutions(2), in_memory(n)
    return lambda: interpolated(net, *ends, lambda: batches)

def path_loader(n, size=256):
    net, ends, batches = resnet(), solutions(2), in_files(n, size)
    return lambda: interpolated(net, *ends, batches)

def barriers_ours(n):
    "Each solution is looked at once, then the middles of all pairs"
    net, found, data = resnet(), solutions(3), images(n)
    def run():
        seen = [per_example(net, s, data) for s in found]
        for i, j in combinations(range(len(found)), 2): barrier(loss_path(net, found[i], found[j], data, (.5,), ends=(seen[i], seen[j])))
    return run

def barriers_loader(n):
    net, found, batches = resnet(), solutions(3), in_files(n)
    return lambda: [interpolated(net, a, b, batches) for a, b in combinations(found, 2)]

# how they are compared

class Apart:
    "A contestant in a process of its own; calling it runs it once, closing it ends the process"
    def __init__(self, make, keep, threads):
        spawn = get_context('spawn')
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs, make, keep, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.hear() # that it is ready

    def __call__(self):
        self.pipe.send('run')
        self.hear() # that it has run

    def hear(self):
        try: self.pipe.recv()
        except EOFError: raise SystemExit('a contestant could not start, or broke off; why stands above') from None

    def close(self):
        self.pipe.close()
        self.process.join()

def serve(pipe, make, keep, threads):
    "Make a run, then run it whenever asked"
    torch.set_num_threads(threads)
    if keep: keep_freed_memory()
    run = make()
    pipe.send('ready')
    while True:
        try: pipe.recv()
        except EOFError: return # the other end is closed
        run()
        pipe.send('done')

def by_turns(contestants, rounds):
    "Seconds of each contestant, turn by turn, after one run that is not counted"
    for run in contestants.values(): run()
    took = {k: [] for k in contestants}
    for turn in range(rounds):
        for k in (list(contestants) if turn % 2 else list(contestants)[::-1]):
            before = time.perf_counter()
            contestants[k]()
            took[k].append(time.perf_counter() - before)
    return took

def rows(what, took, unit, scale):
    "One row for each rival of `ours`"
    for rival in [k for k in took if k != 'ours']:
        ratios = [r/o for r, o in zip(took[rival], took['ours'])]
        yield dict(what=what, rival=rival, rival_took=round(scale*median(took[rival]), 3), ours_took=round(scale*median(took['ours']), 3), unit=unit,
                   times_as_fast=round(median(ratios), 3), lowest=round(min(ratios), 3), highest=round(max(ratios), 3), rounds=len(ratios))

def compared(what, ours, rivals, unit, scale, threads, rounds):
    "Rows of one comparison; `rivals` gives what makes each, and whether it keeps freed memory"
    with ExitStack() as stack:
        processes = {}
        for k, (make, keep) in (dict(ours=(ours, True)) | rivals).items():
            processes[k] = Apart(make, keep, threads)
            stack.callback(processes[k].close)
        return list(rows(what, by_turns(processes, rounds), unit, scale))

def comparisons():
    "All of them: what, ours, rivals, unit, and what seconds are multiplied by to give it"
    for name, called in dict(lenet_300_100='LeNet-300-100', resnet20='ResNet-20').items():
        scale = 1000/trained[name][1].steps
        yield f'training step, {called}, no augmentation', partial(train_ours, name, False), dict(bare=(partial(train_bare, name), True)), 'ms/step', scale
        step, loader = f'training step, {called}, the papers\' augmentation', partial(train_loader, name, True)
        loaders = {'loader': (loader, False), 'loader, memory kept': (loader, True)}
        yield step, partial(train_ours, name, True), loaders, 'ms/step', scale
        if name == 'resnet20': yield f'{step}, compiled', partial(train_ours, name, True, 'compiled'), loaders, 'ms/step', scale
        if not multiplies_bfloat16(): continue # where it is emulated nobody would ask for it
        half = partial(train_loader, name, True, True)
        halves = {'loader': (loader, False), 'loader in bfloat16': (half, False), 'loader in bfloat16, memory kept': (half, True)}
        yield f'{step}, bfloat16', partial(train_ours, name, True, None, 'bfloat16'), halves, 'ms/step', scale
        if name == 'resnet20': yield f'{step}, bfloat16, compiled', partial(train_ours, name, True, 'compiled', 'bfloat16'), halves, 'ms/step', scale
    def against(loop, loader):
        loops = {'loop': (loop, False), 'loop, memory kept': (loop, True)}
        return loops | {'loader': (loader, False), 'loader, batches of 128': (partial(loader, size=128), False)}
    for what, ours, per_batch in (('evaluation', evaluate_ours, right), ('EL2N', el2n_ours, error_norm)):
        rivals = against(partial(pass_loop, 2048, per_batch), partial(pass_loader, 2048, per_batch))
        yield f'{what}, ResNet-20', partial(ours, 2048), rivals, 's/2,048 images', 1
    one_by_one = partial(grand_one_by_one, 128)
    yield 'GraNd, ResNet-20', partial(grand_ours, 128), {'one_by_one': (one_by_one, False), 'one_by_one, memory kept': (one_by_one, True)}, 's/128 images', 1
    yield 'path of 3 points, ResNet-20', partial(path_ours, 1024), against(partial(path_loop, 1024), partial(path_loader, 1024)), 's/1,024 images', 1
    pairs = dict(loader=(partial(barriers_loader, 1024), False))
    yield 'barriers of all pairs of 3 solutions, ResNet-20', partial(barriers_ours, 1024), pairs, 's/1,024 images', 1

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--threads', type=int, default=1, help='threads of every contestant')
    ask.add_argument('--rounds', type=int, default=9, help='turns of each')
    ask.add_argument('--only', default='', help='comparisons whose name has this in it')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    results = []
    for what, *rest in comparisons():
        if args.only not in what: continue
        found = compared(what, *rest, args.threads, args.rounds)
        print(pd.DataFrame(found).to_string(index=False), flush=True)
        results += found
    write_results(args.out, results)

if __name__ == '__main__': main()
