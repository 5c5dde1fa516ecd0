"Asked once, computed once: whatever is killed, broken, asked at the same time or asked wrongly."
import fcntl
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from lottery_diet.core import pick_device, project_root, same
from lottery_diet.distill import augmented_by, stand_in
from lottery_diet.engine.augment import DSA
from lottery_diet.experiments import distilling
from lottery_diet.experiments import tasks as experiments
from lottery_diet.experiments.answers import Answer, ship_answers
from lottery_diet.experiments.connectivity import LayerPaths, Line, Memorized, Nudged
from lottery_diet.experiments.distilling import Taught
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.records import key_of, record_files, verified, write_record
from lottery_diet.experiments.sweeps import chunks, grid, judges_of, seconds_of_step, status, submit, sweep, varied, with_needs, work_through
from lottery_diet.experiments.tasks import Outcome, OutOfTime, Run, Task, TaskFailed
from lottery_diet.experiments.tickets import AtStart, Control, Dense, Moved, Retrained, Signed, SignFlips, TicketLevel, at_level, ladder
from lottery_diet.experiments.training import Judge, Pretrain, Training
from lottery_diet.imp import Mask
from lottery_diet.models import find_model
from lottery_diet.papers.catalogue import figures, preset
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe

recipe = Recipe(300, 64, lr=.05)
begin = Pretrain(recipe=recipe, steps=50)

def run_in(path, **kwargs): return Run(root=Path(path), device=torch.device('cpu'), **kwargs)

def tables_and_tensors(root):
    "Everything that an answer says, by its name"
    folders = [f for f in Path(root).glob('*/*') if (f/'metrics.csv').is_file()]
    return {f'{f.parent.name}/{f.name}': ((f/'metrics.csv').read_text(), (f/'config.json').read_text(), verified(f).tensors) for f in folders}

def assert_equal_answers(a, b):
    assert a.keys() == b.keys()
    for k in a: assert a[k][:2] == b[k][:2] and same(a[k][2], b[k][2])

def sweep_in(root, tasks, saved=None):
    "A checkpoint every hundred steps; `saved` is released after each"
    torch.set_num_threads(1)
    if saved:
        save = experiments.save_checkpoint
        experiments.save_checkpoint = lambda *args: (save(*args), saved.release()) # in a forked process
    sweep(tasks, run=run_in(root, checkpoint_every=0.), progress=False)

@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='kills forked processes')
def test_killed_at_twenty_random_moments_a_sweep_loses_and_repeats_nothing(tmp_path):
    long = Pretrain(recipe=Recipe(1800, 64, lr=.05), steps=300)
    tasks, moments, fork = ladder(long, 3, .4, arms=('shuffled',)), random.Random(0), multiprocessing.get_context('fork')
    run_in(tmp_path/'warm').ask(varied(long, dict(steps=1)))  # data and optimizer are imported here, so that the forked processes have them
    finished, resumed = {}, 0
    for _ in range(20):
        saved, checkpoints = fork.Semaphore(0), moments.randrange(4)
        process = fork.Process(target=sweep_in, args=(tmp_path/'killed', tasks, saved))
        process.start()
        assert all(saved.acquire(timeout=60) for _ in range(checkpoints))
        time.sleep(moments.uniform(0, .01))
        assert process.is_alive() # 111 checkpoints are made in all, and four at most before each kill
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        resumed += any((tmp_path/'killed'/'.checkpoints').glob('*/*.safetensors'))
        stamps = {f: f.stat().st_mtime_ns for f in (tmp_path/'killed').glob('*/*/checksums.json')}
        assert finished.items() <= stamps.items()
        finished = stamps
    assert resumed >= 10 and len(finished) < len(tasks) + 1  # it was under way most of the time, and not done
    sweep_in(tmp_path/'killed', tasks)
    sweep_in(tmp_path/'whole', tasks)
    assert_equal_answers(tables_and_tensors(tmp_path/'killed'), tables_and_tensors(tmp_path/'whole'))
    assert not list((tmp_path/'killed'/'.checkpoints').glob('*'))

@pytest.mark.long
@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='looks at /proc')
def test_workers_leave_with_a_killed_sweep(tmp_path):
    "Otherwise they would train on, and then keep their memory for ever"
    script = tmp_path/'it.py'
    script.write_text(f'''
from pathlib import Path
from lottery_diet.experiments.sweeps import sweep
from lottery_diet.experiments.tasks import Run
from lottery_diet.experiments.training import Pretrain
from lottery_diet.train import Recipe

if __name__ == '__main__':
    tasks = [Pretrain(recipe=Recipe(100_000, 64, lr=.05), steps=100_000, seed=seed) for seed in (0, 1)]
    sweep(tasks, run=Run(root=Path({str(tmp_path)!r})/'runs'), workers=2, progress=False)
''')
    def alive(pid): # not a zombie, which nobody may wait for
        try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
        except OSError: return False
    def by(seconds, what):
        end = time.time() + seconds
        while not what() and time.time() < end: time.sleep(.1)
        return what()
    process = subprocess.Popen([sys.executable, script])
    assert by(120, lambda: len(list((tmp_path/'runs'/'.locks').glob('*'))) == 2) # both are at work
    def below(pid): # all that it started, and all that these did
        children = [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
        return children + [pid for child in children for pid in below(child)]
    workers = below(process.pid)
    assert len(workers) >= 3 and all(map(alive, workers))
    process.kill()
    process.wait()
    assert by(20, lambda: not any(map(alive, workers)))

@pytest.mark.parametrize('name', [*record_files, 'checksums.json'])
@pytest.mark.parametrize('damage', [lambda b: b'', lambda b: b[:len(b)//2], lambda b: b[:-9] + bytes([b[-9] ^ 4]) + b[-8:]], ids=['emptied', 'cut', 'flipped'])
def test_every_damage_is_noticed_named_and_repaired(tmp_path, name, damage):
    run, task = run_in(tmp_path), varied(begin, dict(steps=5))
    before = run.ask(task)
    file, tensors = before.folder/name, before.tensors
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match=f'({name}|config.json|metrics.csv|provenance.json|tensors.safetensors) .*computed again'): after = run.ask(task)
    assert same(after.tensors, tensors) and verified(after.folder)

@pytest.mark.long
def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(tmp_path):
    task = Dense(recipe=Recipe(3000, 64, lr=.05))
    with pytest.raises(OutOfTime, match='at step 100 of 3000'): task.compute(run_in(tmp_path, deadline=0., task=task))
    checkpoint, = (tmp_path/'.checkpoints').glob('*/*.safetensors')
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.warns(UserWarning, match='starts anew'): again = run_in(tmp_path).ask(task)
    assert same(again.tensors, run_in(tmp_path/'other').ask(task).tensors)

def test_a_deleted_file_does_no_harm(tmp_path):
    run, task = run_in(tmp_path), varied(begin, dict(steps=5))
    folder = run.ask(task).folder
    (folder/'metrics.csv').unlink()
    with pytest.warns(UserWarning, match='metrics.csv is missing'): run.ask(task)
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]

class Counted(Task):
    "Leaves a mark each time that it is computed"
    where: str
    n: int = 0

    def compute(self, run):
        Path(self.where, f'{self.n}-{os.getpid()}-{time.time_ns()}').touch()
        time.sleep(.2)
        return Outcome([dict(n=self.n)], dict(x=torch.ones(2)))

def ask_in(root, task): run_in(root).ask(task)

def test_two_processes_that_ask_at_once_compute_once(tmp_path):
    (marks := tmp_path/'marks').mkdir()
    spawn = multiprocessing.get_context('fork' if hasattr(os, 'fork') else 'spawn')
    processes = [spawn.Process(target=ask_in, args=(tmp_path/'runs', Counted(where=str(marks)))) for _ in range(4)]
    for p in processes: p.start()
    for p in processes: p.join()
    assert [p.exitcode for p in processes] == [0]*4 and len(list(marks.iterdir())) == 1

def test_a_hundred_answers_are_read_and_drawn_from_without_training(tmp_path):
    (marks := tmp_path/'marks').mkdir()
    class Big(Counted):
        def compute(self, run):
            Path(self.where, f'{self.n}').touch()
            return Outcome([dict(n=self.n)], {f'state/{i}': torch.full((300, 800), float(self.n)) for i in range(2)})
    big, run = grid(Big(where=str(marks)), dict(n=range(100))), run_in(tmp_path/'runs')
    sweep(big, run=run, progress=False)
    assert len(list(marks.iterdir())) == 100
    for mark in marks.iterdir(): mark.unlink()
    again = sweep(big, run=run, progress=False)
    assert again.counts == dict(cached=100, run=0, failed=0, left=0) and len(again.table) == 100
    assert not list(marks.iterdir())

def test_nothing_old_is_returned_when_version_default_or_field_changes(monkeypatch):
    changes = (dict(seed=1), {'recipe': Recipe(300, 64, lr=.051)}, {'network.options': dict(hidden=[5])}, {'data.examples': 100})
    keys = {task.key for task in (begin, *(varied(begin, change) for change in changes))}
    assert len(keys) == 5
    monkeypatch.setattr(Pretrain, 'version', 2)
    fresh = TicketLevel(pretrain=Pretrain(recipe=recipe, steps=50), level=1)
    assert fresh.pretrain.key not in keys and fresh.key != TicketLevel(pretrain=begin, level=2).key
    monkeypatch.setattr(Pretrain, 'version', 1)
    assert TicketLevel(pretrain=Pretrain(recipe=recipe, steps=50), level=1).key != fresh.key
    class Other(Task): lr: float = .1
    before = Other().key
    class Other(Task): lr: float = .2
    assert Other().key != before

def test_what_is_equal_has_one_key():
    for whole, same_as in ((dict(weight_decay=0), {}), (dict(lr=1), dict(lr=1.)), (dict(weight_decay=-0.), {}), (dict(momentum=1), dict(momentum=1.))):
        a, b = Recipe(10, 64, **whole), Recipe(10, 64, **same_as)
        assert a == b and repr(a) == repr(b) and Dense(recipe=a).key == Dense(recipe=b).key
    for a, b in ((DSA(brightness=2), DSA(brightness=2.)), (DSA(lighting=-0.), DSA(lighting=0))):
        assert a == b and Pretrain(recipe=recipe, steps=5, augment=a).key == Pretrain(recipe=recipe, steps=5, augment=b).key
    assert Pretrain(recipe=recipe, steps=5, label_noise=-0.).key == Pretrain(recipe=recipe, steps=5, label_noise=0).key == Pretrain(recipe=recipe, steps=5).key

class Numbered(Task):
    "A field whose names are numbers"
    sizes: dict[int, float]
    def compute(self, run): return Outcome([dict(n=len(self.sizes))])

def test_a_question_with_numbers_for_names_is_found_again(tmp_path):
    task, run = Numbered(sizes={2: 1., 10: 2.}), run_in(tmp_path)
    assert [str(sweep([task], run=run, progress=False)) for _ in range(2)] == ['0 cached, 1 run, 0 failed, 0 left', '1 cached, 0 run, 0 failed, 0 left']
    assert run.ask(task).config['sizes'] == {'2': 1., '10': 2.} and task.key == Numbered(sizes={10: 2., 2: 1.}).key != Numbered(sizes={2: 2., 10: 1.}).key
    assert key_of(dict(b=1, a=[2.5, None])) == hashlib.sha256(b'{"a": [2.5, null], "b": 1}').hexdigest()[:16] # as ever

def test_words_are_read_back_as_words_or_refused(tmp_path):
    rows = [dict(name='007', flag='True', mixed='nan', some='1e5', plain='a', number=7), dict(name='8', flag='', mixed=3, some=None, plain='b', number=8)]
    read = write_record(tmp_path/'words', {}, rows, {}, dict(seconds=1.)).rows
    assert [[row[k] for k in ('name', 'flag', 'plain', 'number')] for row in read] == [['007', 'True', 'a', 7], ['8', '', 'b', 8]]
    assert [row['mixed'] for row in read] == ['nan', '3'] and read[0]['some'] == '1e5' and np.isnan(read[1]['some'])
    plain = write_record(tmp_path/'plain', {}, [dict(arm='ticket', level=1, ok=True)], {}, dict(seconds=1.))
    assert plain.rows == [dict(arm='ticket', level=1, ok=True)] and plain.provenance == dict(seconds=1.)
    with pytest.raises(ValueError, match="'nan' in column 'way' of an answer would be read as a missing value"):
        write_record(tmp_path/'refused', {}, [dict(way='nan'), dict(way=None)], {}, {})
    assert not (tmp_path/'refused').exists()

@pytest.mark.parametrize('steps', [3, 10, 63, 64, 65, 200])
def test_short_trainings_are_timed_too(tmp_path, steps):
    assert 0 < seconds_of_step(Dense(recipe=Recipe(steps, 64)), run_in(tmp_path), most=60.) < 60

def test_what_is_inside_a_recipe_or_a_dictionary_varies(tmp_path):
    rates = grid(begin, {'recipe.lr': (.1, 1), 'recipe.milestones': [(), (100,)]})
    assert [(t.recipe.lr, t.recipe.milestones) for t in rates] == [(.1, ()), (.1, (100,)), (1., ()), (1., (100,))]
    assert {t.recipe.batch_size for t in rates} == {64} and varied(begin, {'recipe.lr': .05}) == begin
    wide = varied(begin, {'network.model': 'small_conv_net', 'network.options.width': 4})
    assert wide.network == Network(model='small_conv_net', options=dict(width=4)) and begin.network.options == {}
    shaken = varied(begin, dict(augment=DSA()))
    assert varied(shaken, {'augment.flip': 0}).augment == DSA(flip=0.)
    for change, says in {'recipe.batchsize': "field of a recipe 'batchsize' is unknown, did you mean 'batch_size'", 'recipe.learning_rate': "did you mean 'lr'",
                         'recipe.epochs': 'in_epochs', 'recipe.lr.first': "0.05 has no fields, so that there is no 'first' in it",
                         'augment.flip': "None has no fields", 'data.nmae': "field of Images 'nmae' is unknown, did you mean 'name'"}.items():
        with pytest.raises(ValueError, match=re.escape(says)) as refusal: grid(begin, {change: [5]})
        assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(ValueError, match='lr=-1 must be a number of at least 0'): grid(begin, {'recipe.lr': [-1]})

def test_where_files_lie_and_where_to_compute_is_not_part_of_the_question():
    assert varied(begin, {'data.root': '/somewhere/else'}).key == begin.key

def test_the_users_own_data_is_known_by_its_content(tmp_path):
    digits = load_data('digits')
    arrays = {f'{k}_{part}': getattr(getattr(digits, part), k).numpy().squeeze() for part in ('train', 'test') for k in 'xy'}
    for place in ('a', 'b'):
        (tmp_path/place).mkdir()
        np.savez(tmp_path/place/'mine.npz', **arrays)
    (tmp_path/'c').mkdir()
    np.savez(tmp_path/'c'/'mine.npz', **arrays | dict(y_train=arrays['y_train'][::-1].copy()))
    a, b, c = (Pretrain(data=Images(name=str(tmp_path/place/'mine.npz')), recipe=recipe, steps=5) for place in 'abc')
    assert a.key == b.key != c.key
    assert run_in(tmp_path/'runs').ask(a).metrics.step.item() == 5

def users_own(shape, classes, width=7):
    pixels = torch.nn.Linear(shape[0]*shape[1]*shape[2], width)
    return torch.nn.Sequential(torch.nn.Flatten(), pixels, torch.nn.ReLU(), torch.nn.Linear(width, classes))

def test_the_users_own_network_by_name_and_arguments(tmp_path):
    task = Pretrain(network=Network(model=f'{__name__}:users_own', options=dict(width=9)), recipe=recipe, steps=5)
    assert run_in(tmp_path).ask(task).part('state')['1.weight'].shape == (9, 64)

def test_arms_are_paired_and_the_dense_run_is_trained_once(tmp_path):
    run = run_in(tmp_path)
    ladders = [ladder(varied(begin, dict(steps=t)), 1, .5) for t in (0, 50, 120)]
    assert len({rungs[0].key for rungs in ladders}) == 1
    sweep([task for rungs in ladders for task in rungs], run=run, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith('.')) == ['dense', 'pretrain', 'ticket']
    assert (len(list((tmp_path/'dense').iterdir())), len(list((tmp_path/'pretrain').iterdir())), len(list((tmp_path/'ticket').iterdir()))) == (1, 3, 3)
    other_order = run_in(tmp_path/'other')
    for task in (ladders[0][0], *(rungs[1] for rungs in ladders[::-1])): other_order.ask(task)
    assert_equal_answers({k: v for k, v in tables_and_tensors(tmp_path).items() if not k.startswith('other')}, tables_and_tensors(tmp_path/'other'))

def test_diets_are_chosen_by_judges(tmp_path):
    judges = tuple(Judge(recipe=recipe, steps=60, number=i) for i in range(2))
    run, kinds = run_in(tmp_path), {}
    for select in ('easiest', 'hardest'):
        task = Pretrain(recipe=recipe, steps=20, fraction=.1, select=select, judges=judges)
        kinds[select] = task.diet(run, task.data.load(recipe, 'cpu')[0])
    assert len(kinds['easiest']) == len(kinds['hardest']) == 130 and not set(kinds['easiest'].tolist()) & set(kinds['hardest'].tolist())
    assert len(list((tmp_path/'judge').iterdir())) == 2

def test_a_failure_is_a_row_and_what_needs_it_says_so(tmp_path):
    wild = Pretrain(recipe=Recipe(300, 64, lr=1e30), steps=50)
    found = sweep([*ladder(wild, 1), *ladder(begin, 1), TicketLevel(pretrain=begin, level=60, prune_rate=.9)], run=run_in(tmp_path), progress=False)
    assert found.counts == dict(cached=0, run=2, failed=3, left=0)
    assert ['diverged' in r for r in found.table.reason] == [True, True, False, False, False] and 'no weight is left' in found.table.reason.iloc[-1]
    with pytest.raises(TaskFailed, match='diverged'): run_in(tmp_path).ask(ladder(wild, 1)[0])

class Hungry(Task):
    how: str
    def compute(self, run): raise MemoryError('cannot allocate 10 TiB') if self.how == 'memory' else KeyError('surprise')

def test_running_out_of_memory_is_a_row_too(tmp_path):
    found = sweep([Hungry(how='memory'), Hungry(how='else'), varied(begin, dict(steps=0))], run=run_in(tmp_path), progress=False)
    assert found.table.reason.tolist() == ['cannot allocate 10 TiB', "'surprise'", '']

class Silent(Task):
    "Answers with tensors, without a table"
    def compute(self, run): return Outcome([], dict(numbers=torch.arange(3)))

def test_an_answer_without_a_table_is_read_back_and_is_a_row(tmp_path):
    for counts in (dict(run=1), dict(cached=1)):
        found = sweep([Silent()], run=run_in(tmp_path), progress=False)
        assert found.counts == dict(cached=0, run=0, failed=0, left=0) | counts and len(found.table) == 1
    assert run_in(tmp_path).ask(Silent()).metrics.empty and run_in(tmp_path).ask(Silent()).tensors['numbers'].tolist() == [0, 1, 2]

@pytest.mark.long
def test_a_budget_ends_a_sweep_with_everything_kept_and_the_next_call_continues(tmp_path):
    tasks = [Dense(recipe=Recipe(2000, 64, lr=.05), seed=s) for s in range(2)]
    began, calls = time.time(), 0
    while (found := sweep(tasks, budget='1s', run=run_in(tmp_path), progress=False)).counts['left']:
        assert time.time() - began < 60 and (calls := calls + 1) < 50
        began = time.time()
    assert calls >= 1 and found.counts['failed'] == 0
    assert_equal_answers(tables_and_tensors(tmp_path), (sweep(tasks, run=run_in(tmp_path/'x'), progress=False), tables_and_tensors(tmp_path/'x'))[1])

@pytest.mark.parametrize('budget', [None, '1h'])
def test_an_earlier_deadline_of_the_run_holds(tmp_path, budget):
    assert sweep([Silent()], budget, run=run_in(tmp_path, deadline=time.time() - 1), progress=False).counts == dict(cached=0, run=0, failed=0, left=1)
    assert sweep([Silent()], 0, run=run_in(tmp_path, deadline=time.time() + 3600), progress=False).counts['left'] == 1

def test_networks_that_were_taught_before_a_deadline_are_not_taught_again(tmp_path, monkeypatch):
    task = Taught(data=Images(), network=Network(), recipe=Recipe(20, 10), per_class=1, arm='real', networks=3)
    taught, teach = [], distilling.evaluate_synthetic
    def counted(make, images, real, recipe, seeds, augment):
        taught.extend(seeds := list(seeds))
        return teach(make, images, real, recipe, seeds, augment)
    monkeypatch.setattr(distilling, 'evaluate_synthetic', counted)
    late = run_in(tmp_path/'cut', task=task, deadline=0.)
    for i in (1, 2):
        with pytest.raises(OutOfTime, match=f'after {i} of 3 networks'): task.compute(late)
    cut = run_in(tmp_path/'cut').ask(task)
    assert taught == [0, 1, 2] and not late.checkpoint.exists()
    images = stand_in(task.data.load(task.recipe, 'cpu')[0], 1, 'real', 0)
    make, test, augment = partial(find_model('lenet_300_100'), (1, 8, 8), 10), task.data.load(task.recipe, 'cpu')[1], augmented_by(task.augment, each=True)
    assert cut.metrics.accuracy.tolist() == teach(make, images, test, task.recipe, range(3), augment).tolist() # all at once

@pytest.mark.long
def test_two_processes_answer_as_one_does(tmp_path):
    diverging = TicketLevel(pretrain=Pretrain(recipe=Recipe(300, 64, lr=1e30), steps=10), level=1)
    tasks = [*ladder(begin, 2, .5, arms=('shuffled',)), *ladder(varied(begin, dict(seed=1)), 1, .5), diverging]
    alone, together = (sweep(tasks, workers=n, run=run_in(tmp_path/str(n)), progress=False) for n in (1, 2))
    assert alone.counts == together.counts == dict(cached=0, run=7, failed=1, left=0)
    pd.testing.assert_frame_equal(alone.table.drop(columns='seconds'), together.table.drop(columns='seconds'))
    assert_equal_answers(tables_and_tensors(tmp_path/'1'), tables_and_tensors(tmp_path/'2'))

@pytest.mark.parametrize('workers', [1, pytest.param(2, marks=pytest.mark.long)])
def test_what_another_process_computes_comes_last(tmp_path, workers):
    "The first tasks are locked until the last is answered: whoever waited for them in turn would wait until the other gives up"
    tasks, run = [*(varied(begin, dict(seed=s)) for s in range(1, workers + 1)), begin], run_in(tmp_path)
    (tmp_path/'.locks').mkdir()
    locks = [(tmp_path/'.locks'/f'{t.key}.lock').open('w') for t in tasks[:-1]]
    for lock in locks: fcntl.flock(lock, fcntl.LOCK_EX) # as another process would
    def release():
        patience = time.time() + 300
        while not (answered := run.read(tasks[-1])) and time.time() < patience: time.sleep(.05)
        for lock in locks: lock.close()
        return bool(answered)
    with ThreadPoolExecutor(1) as other:
        in_time = other.submit(release)
        found = sweep(tasks, workers=workers, run=run, progress=False)
    assert in_time.result() and found.counts == dict(cached=0, run=workers + 1, failed=0, left=0)

class Base(Task):
    "What all leaves need; whoever computes leaves a trace of its process"
    where: str
    def label(self): return 'base'
    def compute(self, run):
        (Path(self.where)/f'{self.label()}-{os.getpid()}').touch()
        time.sleep(1)
        return Outcome([dict(done=True)])

class Leaf(Base):
    number: int
    def label(self): return f'leaf{self.number}'
    def needs(self): return (Base(where=self.where),)
    def compute(self, run):
        run.ask(*self.needs())
        (Path(self.where)/f'{self.label()}-{os.getpid()}').touch()
        time.sleep(.3)
        return Outcome([dict(done=True)])

def sweep_beside_another(folder, name):
    "Begin when the other is there, too"
    (folder/name).touch()
    while len(list(folder.glob('here*'))) < 2: time.sleep(.01)
    return sweep([Leaf(where=str(folder), number=n) for n in range(8)], run=run_in(folder/'runs'), progress=False).counts

@pytest.mark.long
def test_two_sweeps_of_the_same_share_the_work(tmp_path):
    with ProcessPoolExecutor(2, multiprocessing.get_context('spawn')) as pool:
        both = [pool.submit(sweep_beside_another, tmp_path, f'here{i}') for i in range(2)]
        for counts in (b.result() for b in both): assert counts['run'] + counts['cached'] == 8
    leaves = [f.name.split('-') for f in tmp_path.glob('leaf*')]
    assert len(leaves) == 8 and len(list(tmp_path.glob('base*'))) == 1 # nothing twice
    assert len({pid for _, pid in leaves}) == 2 and min(Counter(pid for _, pid in leaves).values()) >= 2

@pytest.mark.long
def test_submitit_jobs_answer_as_this_process_does(tmp_path, monkeypatch, capsys):
    tasks = [*ladder(begin, 1, .5), *ladder(varied(begin, dict(seed=1)), 1, .5)]
    monkeypatch.setattr('lottery_diet.experiments.sweeps.cores', lambda: 2)
    an_hour_each = lambda left, run, most: {task.key: 3600 for task in left} # 4 hours and what they need, by 2 jobs at once
    monkeypatch.setattr('lottery_diet.experiments.sweeps.expected', an_hour_each)
    by_jobs = submit(tasks, 'local', chunk=2, minutes=5, run=run_in(tmp_path/'jobs'))
    assert 'tasks on local, about 3.0 h in all at the pace of this machine, 2 jobs at once, once they start' in capsys.readouterr().err
    here = sweep(tasks, run=run_in(tmp_path/'here'), progress=False)
    assert by_jobs.counts == here.counts
    pd.testing.assert_frame_equal(by_jobs.table.drop(columns='seconds'), here.table.drop(columns='seconds'))
    assert submit(tasks, 'local', run=run_in(tmp_path/'jobs'), progress=False).counts['cached'] == 4

unlike = Pretrain(recipe=replace(recipe, normalization=((.5,), (.5,))), steps=50, seed=1) # sees other inputs
wrong = {
    Pretrain: dict(
        steps=[-1, 301, '20', 2.5, True], fraction=[0., 1.5, '1', None], select=['easy', 3], seed=[-1, .5, '0'], balanced=['yes', 1], judges=[3, 'all'],
        recipe=[dict(steps=0), dict(step=10), {}, 5, None, *(dict(steps=10) | field for field in (
            dict(lr=-1), dict(lr='high'), dict(momentum=2), dict(optimizer='adamw'), dict(cosine=True, milestones=(5,))))],
        data=[dict(name='digit'), dict(name='digits', examples=0), dict(names='digits'), 'digits',
              dict(label_noise=1.5), dict(draw=1), dict(examples=100, draw=-1)],
        network=[dict(model='lenet'), dict(model='no.such:thing'), dict(modle='x')], stepps=[1]),
    TicketLevel: dict(level=[-1, 1.5, 201, '1'], prune_rate=[0., 1., '0.2', None], pretrain=[None, 3, recipe]),
    Control: dict(arm=['shuffle', None], ticket=[begin, None]), AtStart: dict(level=[0, 201], method=['snip', None], examples=[9, '100'], learned=[recipe, 3]),
    Retrained: dict(level=[0], way=['rewind', None], at_once=[1], times=[0, 1.5]), SignFlips: dict(ticket=[begin, None]),
    Signed: dict(signs=['trained', None], magnitudes=['random'], ticket=[begin]),
    Moved: dict(match=['units', None], onto=[None, 3, unlike], examples=[0], ticket=[begin]), Memorized: dict(trained=[begin, None, 3]),
    Nudged: dict(pretrain=[Pretrain(recipe=recipe, steps=50, fraction=.5), Pretrain(recipe=recipe, steps=50, label_noise=.1)]),
    Line: dict(second=[at_level(unlike, 0)]), LayerPaths: dict(second=[at_level(unlike, 0)])}
a_ticket = TicketLevel(pretrain=begin, level=1)
good = {
    Pretrain: dict(recipe=recipe, steps=50), TicketLevel: dict(pretrain=begin, level=1), Control: dict(ticket=a_ticket, arm='random'),
    AtStart: dict(pretrain=begin, level=1, method='SNIP'), Retrained: dict(pretrain=begin, level=1, way='fine-tuning'), SignFlips: dict(ticket=a_ticket),
    Signed: dict(ticket=a_ticket, signs='final', magnitudes='fresh'), Moved: dict(ticket=a_ticket, onto=Pretrain(recipe=recipe, steps=50, seed=1)),
    Memorized: dict(trained=a_ticket), Nudged: dict(pretrain=begin, size=.1), Line: dict(first=a_ticket, second=at_level(begin, 0)),
    LayerPaths: dict(first=a_ticket, second=at_level(begin, 0), layers=dict(first=('0',)))}

def test_where_all_images_are_asked_classes_need_not_be_alike(tmp_path):
    "Random labels are not equally many of each class; as many as there are, or more, are all of them"
    start = Pretrain(data=Images(examples=300, label_noise=1.), recipe=Recipe(10, 60, lr=.1), steps=0)
    few, all_, more = (AtStart(pretrain=start, level=2, prune_rate=.5, method='SNIP', examples=n) for n in (20, 300, 1000))
    masks = [run_in(tmp_path).ask(task).part('mask') for task in (few, all_, more)]
    assert same(*masks[1:]) and not same(*masks[:2])

def test_a_job_holds_one_rewind_point_and_judges_go_first():
    "Of the largest figure, at the published scale: its ladders share the judges of their diets"
    tasks = preset('dd_accuracy_vs_sparsity', 'paper', seeds=2).tasks()
    jobs = chunks(tasks, 8)
    assert sorted(t.key for job in jobs for t in job) == sorted(t.key for t in tasks)
    for job in jobs:
        begins = [t.beginning().key for t in job]
        assert begins.index(begins[-1]) < 8 # what stands before the last ladder did not fill a job
    assert {type(t).__name__ for t in judges_of(tasks)} == {'Judge'} and len(judges_of(tasks)) == 16

def test_a_cluster_that_refuses_is_one_sentence(tmp_path, monkeypatch):
    for command in ('sbatch', 'srun'):
        (tmp_path/command).write_text('#!/bin/sh\necho "first line" >&2\necho "sbatch: fatal: no controller" >&2\nexit 1\n')
        (tmp_path/command).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    with pytest.raises(ValueError, match="^cannot submit to 'slurm': sbatch: fatal: no controller$"):
        submit([begin], 'slurm', run=run_in(tmp_path/'jobs'), progress=False)

@pytest.mark.parametrize('kind, field, value', [(kind, k, v) for kind, fields in wrong.items() for k, values in fields.items() for v in values])
def test_what_cannot_be_asked_is_refused_in_a_sentence(kind, field, value):
    with pytest.raises(ValidationError) as refusal: kind(**good[kind] | {field: value})
    error, *more = refusal.value.errors()
    assert not more and len(error['msg'].splitlines()) == 1 and (error['loc'][:1] == (field,) or field in error['msg'])

def test_there_are_enough_bad_questions_and_the_good_ones_are_good():
    assert sum(len(v) for fields in wrong.values() for v in fields.values()) >= 30
    for kind, fields in good.items(): assert kind(**fields).key

def test_a_record_says_what_it_is_without_our_code(tmp_path):
    record = run_in(tmp_path).ask(at_level(begin, 1, .5))
    config = json.loads((record.folder/'config.json').read_text())
    origin = json.loads((record.folder/'provenance.json').read_text())
    assert (config['kind'], config['level'], config['pretrain']['recipe']['lr']) == ('ticket', 1, .05)
    assert {'commit', 'torch', 'device', 'seconds', 'way', 'threads'} <= origin.keys() and origin['way'] == 'closed form'
    row = pd.read_csv(record.folder/'metrics.csv').iloc[0]
    assert row.density == Mask(record.part('mask')).density and 0 < row.accuracy <= 1
    assert isinstance(at_level(begin, 0), Dense) and issubclass(Dense, Training)

def test_a_job_computes_on_what_its_node_has(tmp_path):
    "Whoever submits from a machine without a GPU, or from one that has more than the nodes, gets what the node has"
    task, run = Pretrain(recipe=recipe, steps=3), Run(root=tmp_path, device=torch.device('cuda:7'))
    assert [status for _, status, _ in work_through([task], run, 60.)] == ['failed']
    assert [status for _, status, _ in work_through([task], run, 60., own_device=True)] == ['run'] and run.read(task).provenance['device'] == pick_device().type

def test_a_figure_is_drawn_from_shipped_rows_without_a_training(tmp_path, monkeypatch):
    "Rows of another machine give the same table; what wants tensors, or refuses shipped rows, computes"
    study = varied(preset('dd_accuracy_vs_sparsity', 'smoke', seeds=1), dict(levels=1, sizes=(64,), selects=('easiest',), rewinds=(0, 10)))
    there, here = run_in(tmp_path/'there'), run_in(tmp_path/'here')
    sweep(study.tasks(), run=there, progress=False)
    tasks = {task.key: task for task in with_needs(study.tasks())}
    assert ship_answers(((t.kind, t.key, t.label(), Answer.of(there.read(t))) for t in tasks.values()), tmp_path/'answers') == len(tasks)
    monkeypatch.setattr('lottery_diet.experiments.answers.shipped', lambda path: tmp_path/'answers'/Path(path).name)
    asked = {t.key for t in study.tasks()}
    done = sweep(study.tasks(), run=here, progress=False, rows=True)
    assert done.counts == dict(cached=0, shipped=len(asked), run=0, failed=0, left=0) and not list((tmp_path/'here').glob('*/*/config.json'))
    pd.testing.assert_frame_equal(study.table(here), study.table(there), check_exact=True)
    pd.testing.assert_frame_equal(study.classes(here), study.classes(there), check_exact=True)
    assert status(study.tasks(), here).shipped.sum() == len(tasks) and status(study.tasks(), replace(here, shipped=False)).done.sum() == 0
    assert len(study.table(replace(here, shipped=False))) == 0
    assert sweep(study.tasks()[:1], run=replace(here, shipped=False), progress=False, rows=True).counts['run'] == 1
    deeper = varied(study, dict(levels=2)) # the last level prunes what the one above it trained: rows do not tell
    more = sweep(deeper.tasks(), run=run_in(tmp_path/'more'), progress=False, rows=True)
    assert (more.counts['run'], more.counts['failed']) == (len({t.key for t in deeper.tasks()} - asked), 0)

def test_answers_are_shipped_of_figures_and_scales_that_there_are(monkeypatch):
    monkeypatch.syspath_prepend(project_root()/'tools')
    studies = importlib.import_module('ship_answers').studies
    by_panel = figures['dd_accuracy_vs_sparsity'] # of which not all are drawn at each scale
    assert list(studies('smoke', ['dd_accuracy_vs_sparsity'])) == [by_panel[letter]['smoke'] for letter in 'ACDE'] and len(by_panel) == 5
    with pytest.raises(ValueError, match="figure 'dd_acuracy' is unknown, did you mean"): list(studies('mini', ['dd_acuracy']))
    with pytest.raises(ValueError, match="scale 'min' is unknown, did you mean 'mini'"): list(studies('min', []))
