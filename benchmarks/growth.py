"""Whether what is asked of many answers grows with their number: CPU seconds of this process, per record or task.

Taking in an archive and reading answers back, for 500 to 5,000 records; what a sweep of two workers costs the process that calls it, for 250 to
2,000 tasks with needs, and what planning them costs the one that oversees the workers; a redraw of records of 1 MB in a process of its own, each
compared with its checksum once.
    python benchmarks/growth.py
"""
import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from report import report

from lottery_diet.experiments.records import all_records, pack, unpack
from lottery_diet.experiments.sweeps import grid, status, sweep
from lottery_diet.experiments.tasks import Outcome, Run, Study, Task
from lottery_diet.experiments.workers import Schedule, needed
from lottery_diet.pages.figure import effort


class Tiny(Task):
    "Answers at once, with a tensor of as many numbers as asked"
    n: int = 0
    numbers: int = 100
    def compute(self, run): return Outcome([dict(square=self.n**2)], {'state/w': torch.full((self.numbers,), float(self.n))})

class Needy(Task):
    "Needs a tiny one, and the needy one before it within its ten"
    n: int = 0
    def needs(self): return [Tiny(n=self.n), *([Needy(n=self.n - 1)] if self.n % 10 else [])]
    def compute(self, run): return Outcome([dict(sum=sum(row.get('square', row.get('sum')) for need in self.needs() for row in run.ask(need).rows))])

class Squares(Study):
    "A figure of large records"
    columns: ClassVar[tuple[str, ...]] = ('n', 'square')
    n: int
    def asked(self): return ((dict(n=i), Tiny(n=i, numbers=250_000)) for i in range(self.n))

def cpu(work):
    "CPU seconds of this process, and what the work gives"
    before = time.process_time()
    found = work()
    return time.process_time() - before, found

def records_rows(sizes):
    "An archive taken in, and answers read back"
    for n in sizes:
        with TemporaryDirectory() as folder:
            run, tasks, archive = Run(root=Path(folder)/'runs', device=torch.device('cpu')), grid(Tiny(), dict(n=range(n))), Path(folder)/'a.zip'
            sweep(tasks, run=run, progress=False)
            pack(all_records(run.root), run.root, archive)
            taken, counts = cpu(lambda: unpack(archive, Path(folder)/'to'))
            assert counts == (n, 0)
            read, found = cpu(lambda: sweep(tasks, run=Run(root=Path(folder)/'to', device=run.device), progress=False))
            assert found.counts['cached'] == n
            looked, _ = cpu(lambda: status(tasks, run))
            yield dict(what='records', n=n, unpack_s=round(taken, 2), unpack_ms_each=round(1000*taken/n, 2), sweep_of_finished_ms_each=round(1000*read/n, 2),
                       status_ms_each=round(1000*looked/n, 2), memory_MiB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)

def tasks_rows(sizes, rounds):
    "What the caller of workers plans, and the process that oversees them"
    def plan(tasks):
        schedule = Schedule({key: needs for key, (_, needs) in needed(tasks).items()})
        while schedule.open: schedule.done(schedule.take(0)[0])
    for n in sizes:
        tasks, took = grid(Needy(), dict(n=range(n))), [cpu(lambda: plan(grid(Needy(), dict(n=range(n)))))[0] for _ in range(rounds)]
        with TemporaryDirectory() as folder:
            called, found = cpu(lambda: sweep(tasks, workers=2, run=Run(root=Path(folder), device=torch.device('cpu')), progress=False))
        assert found.counts['run'] == n
        yield dict(what='tasks with needs', n=n, caller_ms_each=round(1000*called/n, 2), plan_ms_each=round(1000*median(took)/n, 3))

def redraw(run, figure):
    "CPU seconds of the three"
    return cpu(lambda: (sweep(figure.tasks(), run=run, progress=False), figure.table(run), effort(figure.tasks(), run)))[0]

def redraw_row(n):
    "Swept, drawn and described: as a finished figure is drawn again"
    with TemporaryDirectory() as folder:
        run, figure = Run(root=Path(folder), device=torch.device('cpu')), Squares(seeds=(0,), n=n)
        sweep(figure.tasks(), run=run, progress=False)
        time.sleep(3) # what was written just now is compared each time
        with ProcessPoolExecutor(1, get_context('spawn')) as other: took = other.submit(redraw, run, figure).result()
        yield dict(what='redraw of records of 1 MB', n=n, redraw_s=round(took, 2), redraw_ms_each=round(1000*took/n, 2))

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--records', type=int, nargs='+', default=[500, 1000, 2000, 5000])
    ask.add_argument('--tasks', type=int, nargs='+', default=[250, 500, 1000, 2000])
    ask.add_argument('--redraw', type=int, default=2000)
    ask.add_argument('--rounds', type=int, default=3, help='turns of what is short')
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    args = ask.parse_args()
    report(args.out, (row for rows in (records_rows(args.records), tasks_rows(args.tasks, args.rounds), redraw_row(args.redraw)) for row in rows))

if __name__ == '__main__': main()
