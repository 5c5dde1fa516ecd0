"""What processes are worth: the same trainings of LeNet-300-100 on MNIST by one process and by as many as there are cores, by turns.

Starting the processes and reading the data in each is part of it. `bare` are as many processes that nobody oversees, from when all are started
and have their data: what cores that share caches, clocks or threads can give at most. The last row is reading finished answers back.
    python benchmarks/sweeps.py                # needs MNIST (LOTTERY_DIET_DATA)
"""
import argparse
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from report import write_results

from lottery_diet.engine.cpu import cores, keep_freed_memory
from lottery_diet.experiments.ingredients import Images
from lottery_diet.experiments.sweeps import sweep, varied
from lottery_diet.experiments.tasks import Run
from lottery_diet.experiments.tickets import Dense
from lottery_diet.train import Recipe


def alone(tasks, ready, ended):
    "Train what is one's share, when all are ready"
    torch.set_num_threads(1)
    keep_freed_memory()
    with TemporaryDirectory() as root:
        run = Run(root=Path(root), device=torch.device('cpu'), shipped=False)
        run.ask(varied(tasks[0], dict(seed=10**6, recipe=replace(tasks[0].recipe, steps=20))))
        ready.wait()
        for task in tasks: run.ask(task)
    ended.wait()

def bare(tasks, workers):
    "Seconds that processes take with nobody to oversee them, start-up left out"
    fresh = get_context('spawn')
    ready, ended = fresh.Barrier(workers + 1), fresh.Barrier(workers + 1)
    processes = [fresh.Process(target=alone, args=(tasks[i::workers], ready, ended)) for i in range(workers)]
    for process in processes: process.start()
    ready.wait()
    before = time.perf_counter()
    ended.wait()
    took = time.perf_counter() - before
    for process in processes: process.join()
    return took

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--rounds', type=int, default=3, help='turns of each')
    ask.add_argument('--trainings', type=int, default=8)
    ask.add_argument('--steps', type=int, default=6000, help='of each training')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    tasks = [Dense(data=Images(name='mnist'), recipe=Recipe(args.steps, 60, lr=.1), seed=seed) for seed in range(args.trainings)]
    took = {1: [], cores(): [], 'bare': [], 'read': []}
    for turn in range(args.rounds):
        for workers in ((1, cores()) if turn % 2 else (cores(), 1)):
            with TemporaryDirectory() as root:
                run, before = Run(root=Path(root), device=torch.device('cpu')), time.perf_counter()
                assert sweep(tasks, workers=workers, run=run, progress=False).counts['run'] == len(tasks)
                took[workers].append(time.perf_counter() - before)
                before = time.perf_counter()
                assert sweep(tasks, run=run, progress=False).counts['cached'] == len(tasks)
                took['read'].append(time.perf_counter() - before)
        took['bare'].append(bare(tasks, 1)/bare(tasks, cores()))
        print({k: round(v[-1], 2) for k, v in took.items()}, flush=True)
    ratios = [a/b for a, b in zip(took[1], took[cores()])]
    results = [dict(
        trainings=args.trainings, steps=args.steps, workers=cores(), one_process_s=round(median(took[1]), 1), processes_s=round(median(took[cores()]), 1),
        times_as_fast=round(median(ratios), 2), lowest=round(min(ratios), 2), highest=round(max(ratios), 2), bare_times_as_fast=round(median(took['bare']), 2),
        read_back_ms_each=round(1000*median(took['read'])/args.trainings, 1), rounds=args.rounds)]
    print(results[0])
    write_results(args.out, results)

if __name__ == '__main__': main()
