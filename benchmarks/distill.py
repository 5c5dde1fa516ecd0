"""What one iteration of trajectory matching costs, in seconds and in memory: all graphs at once, the adjoint step by step, the detached adjoint.

ConvNet-3 on CIFAR-10-sized images, 1 and 10 images per class. Each case is a process of its own: what it holds above its start is the peak
of its resident memory during the iterations (not told of compiled steps, whose compiler needs more than they do). With `--compiled` the
adjoint is measured compiled too (a minute of compilation each).
    python benchmarks/distill.py                # about ten minutes on one thread
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from report import write_results

from lottery_diet.core import stream
from lottery_diet.distill import augmented_by
from lottery_diet.distillation.trajectory import Feed, Stepper, match_by_adjoint, match_unrolled
from lottery_diet.engine.augment import DSA
from lottery_diet.engine.cpu import keep_freed_memory
from lottery_diet.models import conv_net, initialize

cases = [*((1, n, way) for n in (10, 20, 30, 50) for way in ('unrolled', 'adjoint', 'detached')),
         *((10, 10, way) for way in ('unrolled', 'adjoint', 'detached')), (10, 50, 'adjoint')]

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def measure(per_class, steps, way, rounds):
    "One case, in this process"
    torch.set_num_threads(1)
    keep_freed_memory()
    net = initialize(conv_net, 0)
    start = {k: v.detach().clone() for k, v in net.named_parameters()}
    target = {k: v + .01*torch.randn(v.shape, generator=stream(0, k)) for k, v in start.items()}
    images, labels = torch.randn(10*per_class, 3, 32, 32, generator=stream(0, 'images')), torch.arange(10*per_class) % 10
    feed = Feed(len(images), None, augmented_by(DSA(), each=True)) # as MTT's code: every image draws for itself
    if way == 'unrolled': go = lambda: match_unrolled(net, start, target, images, labels, .01, steps, feed)
    else:
        stepper = Stepper(net, way == 'compiled')
        go = lambda: match_by_adjoint(stepper, start, target, images, labels, .01, steps, feed, exact=way != 'detached')
    if way == 'compiled': match_by_adjoint(stepper, start, target, images, labels, .01, 1, feed)
    begun, seconds = peak(), []
    for _ in range(rounds):
        t = time.process_time() # of one thread: other processes on a shared machine do not count
        found = go()
        seconds.append(time.process_time() - t)
    held = round(peak() - begun) if way != 'compiled' else None
    return dict(per_class=per_class, steps=steps, way=way, cpu_seconds=round(median(seconds), 3), mib_above_start=held, loss=found.loss, rounds=rounds)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--case', nargs=3, metavar=('PER_CLASS', 'STEPS', 'WAY'), help='measure this one here, and print it')
    parser.add_argument('--compiled', action='store_true', help='the compiled adjoint too')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(measure(int(asked.case[0]), int(asked.case[1]), asked.case[2], asked.rounds)))
        return
    rows = []
    for per_class, steps, way in cases + ([(1, n, 'compiled') for n in (10, 50)] if asked.compiled else []):
        rounds = asked.rounds if per_class == 1 and steps <= 20 else 1
        case = [sys.executable, __file__, '--case', str(per_class), str(steps), way, '--rounds', str(rounds)]
        out = subprocess.run(case, capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
        if out.returncode: sys.exit(out.stderr)
        rows.append(json.loads(out.stdout.strip().splitlines()[-1]))
        print(rows[-1], flush=True)
    write_results(asked.out, rows)

if __name__ == '__main__': main()
