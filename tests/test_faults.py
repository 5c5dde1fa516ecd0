"Nothing lost, nothing false: flipped bits, killed processes, foreign records, damaged archives, data and parameters."
import copy
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from lottery_diet import core
from lottery_diet.cli import main
from lottery_diet.core import Damaged, Diverged, aside, clear_leftovers, pick_device, project_root, provenance, same, write_whole
from lottery_diet.experiments import records
from lottery_diet.experiments.answers import answers_in
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.records import all_records, checksum, key_of, pack, record_files, unpack, verified, write_record
from lottery_diet.experiments.sweeps import grid, status, sweep, varied, work_through
from lottery_diet.experiments.tasks import Outcome, OutOfTime, Run, Task, load_checkpoint, save_checkpoint
from lottery_diet.experiments.tickets import Dense, TicketLevel
from lottery_diet.experiments.training import InputNorm, Pretrain, SavedScores, ScoreBins
from lottery_diet.experiments.workers import Schedule, answer, needed
from lottery_diet.pages.chapters import DistillParameters, ImpParameters, ScoreParameters, SpawnParameters
from lottery_diet.pages.figure import file_name, read_parameters, require_some, require_writable, save_results, tidied
from lottery_diet.pages.gallery import Drawn, gallery
from lottery_diet.papers.catalogue import preset
from lottery_diet.papers.data_diet.protocols import score_settings
from lottery_diet.papers.parameters import FigureParameters
from lottery_diet.plots import t_interval
from lottery_diet.scores import Scores
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, Snapshot

recipe = Recipe(300, 64, lr=.05)
files = (*record_files, 'checksums.json')

def run_in(path, **kwargs): return Run(root=Path(path), device=torch.device('cpu'), **kwargs)
def parts_in(folder): return [p for p in Path(folder).rglob('.part-*')]

class Square(Task):
    "Answers at once"
    n: int = 0
    def label(self): return f'n{self.n}'
    def compute(self, run): return Outcome([dict(square=self.n**2)], {'state/w': torch.full((20,), float(self.n))})

class TimeLeft(Square):
    "Answers with the seconds that it has"
    def compute(self, run): return Outcome([dict(left=run.deadline - time.time())])

def some_records(root, n=6): sweep(grid(Square(), dict(n=range(n))), run=run_in(root), progress=False)

def contents(root):
    "Every byte of every answer but when and how long"
    return {f'{f.name}/{name}': (f/name).read_bytes() for f in all_records(root) for name in ('config.json', 'metrics.csv', 'tensors.safetensors')}

def flips(content):
    "The content with each single bit flipped"
    for i in range(len(content)):
        for bit in range(8): yield content[:i] + bytes([content[i] ^ 1 << bit]) + content[i + 1:]

# flipped bits

@pytest.mark.long
def test_every_bit_of_a_checkpoint_is_noticed_or_harmless(tmp_path):
    file, of = tmp_path/'c.safetensors', 'a task'
    wanted = Snapshot(300, {'0.weight': torch.randn(2, 3), '0.bias': torch.randn(2)}, {'0.weight/m': torch.randn(2, 3)})
    save_checkpoint(file, wanted, 123.456, 9.87, of)
    content, noticed = file.read_bytes(), 0
    for flipped in flips(content):
        file.write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            left = load_checkpoint(file, of)
        noticed += left is None
        if left: assert (left[0].step, *left[1:]) == (300, 123.456, 9.87) and same(left[0].state, wanted.state) and same(left[0].optimizer, wanted.optimizer)
    assert noticed > 7*len(content)

@pytest.mark.long
def test_every_bit_of_a_record_is_noticed_and_named_or_harmless(tmp_path):
    config = dict(kind='square', n=3)
    record = write_record(tmp_path/f'n3-{key_of(config)}', config, [dict(square=9)], {'w': torch.ones(4)}, dict(seconds=1))
    says = lambda r: (r.config, r.rows, r.provenance, {k: v.tolist() for k, v in r.tensors.items()})
    wanted, noticed, harmless = says(verified(record.folder)), 0, 0
    for name in files:
        content = (record.folder/name).read_bytes()
        for flipped in flips(content):
            (record.folder/name).write_bytes(flipped)
            try: found = verified(record.folder)
            except Damaged as e:
                noticed += 1
                assert str(record.folder) in str(e)
            else:
                harmless += 1
                assert name == 'checksums.json' and says(found) == wanted
        (record.folder/name).write_bytes(content)
    assert noticed > 3500 and harmless < 20 and says(verified(record.folder)) == wanted

@pytest.mark.long
def test_flipped_archives_leave_nothing_behind_and_take_nothing_false(tmp_path):
    some_records(tmp_path/'from', 3)
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip')
    content, wanted, refused = (tmp_path/'a.zip').read_bytes(), contents(tmp_path/'from'), 0
    for at in range(0, 8*len(content), len(content)//38):
        (tmp_path/'a.zip').write_bytes(content[:at//8] + bytes([content[at//8] ^ 1 << at % 8]) + content[at//8 + 1:])
        try: unpack(tmp_path/'a.zip', tmp_path/'to')
        except Damaged as e:
            refused += 1
            assert str(tmp_path/'a.zip') in str(e)
        assert not parts_in(tmp_path/'to') and contents(tmp_path/'to').items() <= wanted.items()
        shutil.rmtree(tmp_path/'to', ignore_errors=True)
    assert refused > 200

# foreign answers

def test_an_answer_to_another_question_is_none(tmp_path):
    run, one, other = run_in(tmp_path), Square(n=1), Square(n=2)
    for task in (one, other): run.ask(task)
    shutil.rmtree(tmp_path/one.name)
    shutil.copytree(tmp_path/other.name, tmp_path/one.name)
    with pytest.warns(UserWarning, match='another question'): assert run.read(one) is None
    with pytest.warns(UserWarning, match='another question'): assert run.ask(one).rows == [dict(square=1)]
    edited = tmp_path/one.name/'config.json'
    edited.write_text(json.dumps(json.loads(edited.read_text()) | dict(n=7)))
    sums = json.loads((edited.parent/'checksums.json').read_text()) | {'config.json': checksum(edited)}
    (edited.parent/'checksums.json').write_text(json.dumps(sums))
    with pytest.warns(UserWarning, match='another question'): assert run.ask(one).config['n'] == 1

def test_an_archive_with_an_answer_to_another_question_is_refused(tmp_path):
    some_records(tmp_path/'from', 2)
    one, other = (tmp_path/'from'/Square(n=n).name for n in (0, 1))
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        for folder in (one, other):
            for name in files: z.write(folder/name, (folder/name).relative_to(tmp_path/'from'))
    with pytest.raises(Damaged, match='another question.*1 whole ones were taken in'): unpack(tmp_path/'a.zip', tmp_path/'to')
    assert [f.name for f in all_records(tmp_path/'to')] == [other.name] and not parts_in(tmp_path/'to')

def test_a_failure_of_another_question_is_none(tmp_path):
    run, one = run_in(tmp_path), Square(n=1)
    (tmp_path/'square').mkdir()
    (tmp_path/f'{one.name}.failed.json').write_text(json.dumps(dict(reason='diverged', config=Square(n=2).identity())))
    assert run.failure(one) is None
    (tmp_path/f'{one.name}.failed.json').write_text(json.dumps(dict(reason='diverged', config=one.identity())))
    assert run.failure(one) == 'diverged'

def test_a_checkpoint_of_another_task_is_refused(tmp_path):
    long, other = (Dense(recipe=Recipe(900, 64, lr=.05), seed=seed) for seed in (0, 1))
    for task in (long, other):
        with pytest.raises(OutOfTime): task.compute(run_in(tmp_path, deadline=0., task=task))
    mine, theirs = (tmp_path/'.checkpoints'/task.key/'training.safetensors' for task in (long, other))
    shutil.copy(theirs, mine)
    with pytest.warns(UserWarning, match='of another task.*starts anew'): again = run_in(tmp_path).ask(long)
    assert same(again.tensors, run_in(tmp_path/'other').ask(long).tensors)

def test_a_record_from_before_is_read(tmp_path):
    "Byte for byte as version 0.8 wrote it: long computations are kept in such"
    config = dict(kind='square', version=1, n=4)
    folder = tmp_path/'square'/f'n4-{Square(n=4).key}'
    folder.mkdir(parents=True)
    (folder/'config.json').write_text(json.dumps(config, indent=1) + '\n')
    (folder/'metrics.csv').write_text('square\n16\n')
    (folder/'provenance.json').write_text('{\n "commit": "2eda4c7",\n "device": "cpu",\n "seconds": 0.5\n}\n')
    from safetensors.torch import save_file
    save_file({'state/w': torch.ones(2)}, folder/'tensors.safetensors')
    (folder/'checksums.json').write_text(json.dumps({name: checksum(folder/name) for name in record_files}, indent=1))
    assert sweep([Square(n=4)], run=run_in(tmp_path), progress=False).counts['cached'] == 1

# archives

def zipped(folder, archive, below):
    "As `zip -r` writes it: folders have entries of their own, and hidden files come along"
    with zipfile.ZipFile(archive, 'w', compression=8) as z:
        for p in sorted(folder.rglob('*')): z.write(p, (below/p.relative_to(folder)).as_posix())

@pytest.mark.parametrize('below', ['', 'runs', 'work/runs'])
def test_archives_of_zip_are_taken_in(tmp_path, below):
    some_records(tmp_path/'from')
    (tmp_path/'from'/Square(n=1).name/'notes.txt').write_text('mine')
    zipped(tmp_path/'from', tmp_path/'a.zip', Path(below))
    assert unpack(tmp_path/'a.zip', tmp_path/'to') == (6, 0) and contents(tmp_path/'to') == contents(tmp_path/'from')

def test_unpack_heals_and_follows_a_link_to_another_disk(tmp_path):
    some_records(tmp_path/'from')
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip')
    (tmp_path/'disk').mkdir()
    (tmp_path/'to').mkdir()
    (tmp_path/'to'/'square').symlink_to(tmp_path/'disk')
    assert unpack(tmp_path/'a.zip', tmp_path/'to') == (6, 0)
    cut, gone, dangling, whole = (tmp_path/'to'/Square(n=n).name for n in range(4))
    (cut/'metrics.csv').write_text('')
    shutil.rmtree(gone)
    gone.write_text('a file where a record belongs')
    shutil.rmtree(dangling)
    dangling.symlink_to(tmp_path/'nowhere')
    assert unpack(tmp_path/'a.zip', tmp_path/'to') == (3, 3) and contents(tmp_path/'to') == contents(tmp_path/'from')
    assert (tmp_path/'disk'/whole.name).is_dir()

def test_a_full_disk_is_not_blamed_on_the_archive(tmp_path, monkeypatch):
    some_records(tmp_path/'from')
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip')
    monkeypatch.setattr(records.shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**6, 10**6, 100))
    with pytest.raises(OSError, match='has room for 100 bytes.*make room'): unpack(tmp_path/'a.zip', tmp_path/'to')
    monkeypatch.undo()
    monkeypatch.setattr(records, 'put', lambda part, folder: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(OSError, match='No space left'): unpack(tmp_path/'a.zip', tmp_path/'to')
    assert not parts_in(tmp_path/'to') and not all_records(tmp_path/'to')

def bomb(archive, sizes):
    "Entries of zeros"
    with zipfile.ZipFile(archive, 'w', compression=8, compresslevel=1) as z:
        for name in files:
            with z.open(f'square/x/{name}', 'w', force_zip64=True) as entry:
                for _ in range(sizes.get(name, 0)): entry.write(bytes(2**20))
                if name not in sizes: entry.write(b'{}')

@pytest.mark.parametrize('name', ['tensors.safetensors', 'config.json', 'checksums.json', 'metrics.csv'])
def test_a_small_archive_that_grows_is_refused_before_it_is_written(tmp_path, name):
    bomb(tmp_path/'b.zip', {name: 80})
    with pytest.raises(Damaged, match='tensors.safetensors is not as it was written|cannot be read|would be'): unpack(tmp_path/'b.zip', tmp_path/'to')
    assert not [p for p in (tmp_path/'to').rglob('*') if p.is_file() and p.stat().st_size]

def test_room_is_asked_of_the_disk_that_a_kind_lies_on(tmp_path, monkeypatch):
    some_records(tmp_path/'from')
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip')
    asked = []
    monkeypatch.setattr(records.shutil, 'disk_usage', lambda path: asked.append(path) or shutil._ntuple_diskusage(10**9, 0, 10**9))
    assert unpack(tmp_path/'a.zip', tmp_path/'to') == (6, 0) and asked == [tmp_path/'to'/'square']

def test_files_without_a_date_are_packed(tmp_path):
    some_records(tmp_path/'from')
    for folder in all_records(tmp_path/'from'):
        for name in files: os.utime(folder/name, (0, 0))
    assert pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip') == 6 and unpack(tmp_path/'a.zip', tmp_path/'to') == (6, 0)

def unpack_in(archive, root): unpack(archive, root)

@pytest.mark.long
def test_four_processes_take_in_one_archive(tmp_path):
    some_records(tmp_path/'from', 40)
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'a.zip')
    processes = [multiprocessing.get_context('fork').Process(target=unpack_in, args=(tmp_path/'a.zip', tmp_path/'to')) for _ in range(4)]
    for p in processes: p.start()
    for p in processes: p.join()
    assert [p.exitcode for p in processes] == [0]*4 and contents(tmp_path/'to') == contents(tmp_path/'from') and not parts_in(tmp_path/'to')

# what cannot be read is one row

def test_nothing_to_pack_leaves_the_archive_as_it_is(tmp_path, monkeypatch, capsys):
    some_records(tmp_path/'runs', 1)
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'runs'))
    assert main(['pack', str(tmp_path/'a.zip')]) == 0
    before = (tmp_path/'a.zip').read_bytes()
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'rnus'))
    assert main(['pack', str(tmp_path/'a.zip')]) == 1 and 'no finished runs in' in capsys.readouterr().err
    assert (tmp_path/'a.zip').read_bytes() == before

@pytest.mark.parametrize('damage', ['', '{', '[]', 'null', '5', '"x"', '{}', '{"reason": null}', '{"reason": 5}', '[[[['*50000], ids=range(10))
def test_a_failure_file_with_other_content_is_none(tmp_path, damage):
    run = run_in(tmp_path)
    (tmp_path/'square').mkdir()
    (tmp_path/f'{Square().name}.failed.json').write_text(damage)
    assert status([Square()], run).failed.tolist() == [0] and answer(Square(), run) == ('run', '')

@pytest.mark.parametrize('name', files)
@pytest.mark.parametrize('damage', [b'', b'[]', b'null', b'\xff\xfe', b'[['*50000], ids=['emptied', 'list', 'null', 'binary', 'deep'])
def test_any_content_of_a_records_file_is_mended(tmp_path, name, damage):
    run = run_in(tmp_path)
    folder = run.ask(Square(n=2)).folder
    (folder/name).write_bytes(damage)
    with pytest.warns(UserWarning, match='computed again'): assert run.ask(Square(n=2)).rows == [dict(square=4)]

@pytest.mark.parametrize('what', ['file', 'dangling link', 'link to itself', 'folder of nothing'])
def test_what_lies_where_a_record_belongs_goes(tmp_path, what):
    place, run = tmp_path/Square(n=2).name, run_in(tmp_path)
    place.parent.mkdir()
    if what == 'file': place.write_text('x')
    elif what == 'folder of nothing': place.mkdir()
    else: place.symlink_to(place if what == 'link to itself' else tmp_path/'nowhere')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert sweep([Square(n=2), Square(n=3)], run=run, progress=False).counts['run'] == 2
    assert verified(place).rows == [dict(square=4)]

def test_a_damaged_file_of_shipped_answers_costs_its_damaged_lines(tmp_path):
    lines = [json.dumps(dict(key=key, label='', columns=['n'], rows=[[i]], run={})) for i, key in enumerate('abcd')]
    (tmp_path/'square.jsonl').write_bytes('\n'.join(lines[:2]).encode() + b'\n\xff{\n[]\n' + b'['*10**5 + b'\n' + lines[3].encode())
    with pytest.warns(UserWarning, match='is no answer') as said: found = answers_in(tmp_path/'square.jsonl', 0)
    assert {key: answer.rows for key, answer in found.items()} == dict(a=[dict(n=0)], b=[dict(n=1)], d=[dict(n=3)])
    assert [str(w.message).split(' of ')[0] for w in said] == ['line 3', 'line 4', 'line 5']
    with pytest.warns(UserWarning, match='cannot be read'): assert answers_in(tmp_path, 0) == {}

def test_data_that_cannot_be_read_is_a_row_with_its_reason(tmp_path):
    npz(tmp_path/'mine.npz', x_train=np.zeros((20, 0, 0), np.uint8), x_test=np.zeros((8, 0, 0), np.uint8))
    wrong = [Dense(recipe=recipe, data=Images(name=str(tmp_path/name))) for name in ('mine.npz', 'none.npz', 'folder')]
    found = sweep([*wrong, Square()], run=run_in(tmp_path), progress=False)
    assert found.table.status.tolist() == ['failed']*3 + ['run']
    assert all(says in reason for says, reason in zip(('at least one image', 'there is no file', 'there is no folder'), found.table.reason))
    assert status(wrong, run_in(tmp_path)).left.tolist() == [3]

def test_one_unreadable_file_is_one_row_with_its_reason(tmp_path, monkeypatch):
    tasks, run = grid(Square(), dict(n=range(3))), run_in(tmp_path)
    sweep(tasks, run=run, progress=False)
    def no_entry(file):
        if tasks[1].key in str(file) and file.name == 'metrics.csv': raise PermissionError(13, 'Permission denied', str(file))
        return checksum(file)
    monkeypatch.setattr(records, 'checksum', no_entry)
    with pytest.warns(UserWarning, match='cannot be read.*Permission denied'): found = sweep(tasks, run=run, progress=False)
    assert found.counts == dict(cached=2, run=0, failed=1, left=0) and 'Permission denied' in found.table.reason[1]
    with pytest.warns(UserWarning, match='cannot be read'): assert status(tasks, run).done.tolist() == [2]

@pytest.mark.parametrize('what', ['folder', 'no notes', 'file for its folder', 'dangling link', 'not a number'])
def test_a_checkpoint_that_is_none_is_named_and_begun_anew(tmp_path, what):
    task = Dense(recipe=Recipe(200, 64, lr=.05))
    place = tmp_path/'.checkpoints'/task.key/'training.safetensors'
    (place.parent.parent if what == 'file for its folder' else place.parent).mkdir(parents=True)
    if what == 'folder': place.mkdir()
    elif what == 'file for its folder': place.parent.write_text('x')
    elif what == 'dangling link': place.symlink_to(tmp_path/'nowhere')
    else: core.save_tensors(place, {'state/x': torch.ones(2)}, dict(task=task.key, step='3p0', total='x', seconds='1') if what == 'not a number' else {})
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert answer(task, run_in(tmp_path, checkpoint_every=0.)) == ('run', '')

# verified once, asked once

def test_a_record_is_compared_once_in_a_process_and_again_when_it_changes(tmp_path, monkeypatch):
    folder, read = run_in(tmp_path).ask(Square(n=3)).folder, []
    monkeypatch.setattr(records, 'checksum', lambda file: read.append(file) or checksum(file))
    for name in files: os.utime(folder/name, (1e9, 1e9))
    now = time.time_ns
    monkeypatch.setattr(records.time, 'time_ns', lambda: now() + 10**10) # ten seconds later
    for _ in range(5): assert verified(folder).rows == [dict(square=9)]
    assert len(read) == len(record_files)
    content = (folder/'metrics.csv').read_bytes()
    (folder/'metrics.csv').write_bytes(content.replace(b'9', b'8'))
    os.utime(folder/'metrics.csv', (1e9, 1e9)) # with size and time kept
    with pytest.raises(Damaged, match='metrics.csv'): verified(folder)

def test_git_is_asked_once_a_process(monkeypatch):
    asked = []
    monkeypatch.setattr(core.subprocess, 'run', lambda *args, **kwargs: asked.append(args) or subprocess.CompletedProcess(args, 0, str(core.checkout()), ''))
    core._code_and_machine.cache_clear()
    try: assert provenance() == provenance() and len(asked) == 3 and len(provenance()['code']) == 16
    finally: core._code_and_machine.cache_clear()

class Wanting(Task):
    "Needs the one before it"
    n: int = 0
    def needs(self):
        counted.append(self.n)
        return [Wanting(n=self.n - 1)] if self.n else []
    def compute(self, run): return Outcome([])

counted = []

def test_what_a_task_needs_is_asked_once_for_each():
    counted.clear()
    found = needed(grid(Wanting(), dict(n=range(200))))
    assert len(found) == 200 and sorted(counted) == list(range(200))

def test_a_schedule_decides_without_looking_at_all_that_wait():
    "Each task is offered once and taken once, in order of priority, whatever waits"
    plan, taken = Schedule({str(n): [str(n - 1)] if n % 10 else [] for n in range(2000)}), []
    while plan.open:
        key, alone = plan.take(0)
        taken.append(int(key))
        plan.done(key)
    assert not alone and sorted(taken) == taken == list(range(2000)) and not plan.ready

def test_what_a_killed_process_was_at_goes_last(tmp_path):
    tasks, run = grid(Square(), dict(n=range(3))), run_in(tmp_path)
    (tmp_path/'.begun').mkdir()
    (tmp_path/'.begun'/tasks[0].key).touch()
    order = []
    class Noting(Run):
        def ask(self, task):
            order.append(task.n)
            return super().ask(task)
    sweep(tasks, run=Noting(root=tmp_path, device=run.device), progress=False)
    assert order == [1, 2, 0] and not list((tmp_path/'.begun').iterdir())

def test_another_version_of_the_package_gives_no_answers_to_a_queued_job(tmp_path):
    run_in(tmp_path).ask(Square(n=1))
    found = work_through([Square(n=1), Square(n=2)], run_in(tmp_path), 60., code='0'*16)
    assert [status for _, status, _ in found] == ['cached', 'failed'] and 'submit again' in found[1][2]
    assert [status for _, status, _ in work_through([Square(n=2)], run_in(tmp_path), 60., code=core.code_digest())] == ['run']

# killed writers

def pack_again(root): pack(all_records(root/'from'), root/'from', root/'a.zip')
def unpack_again(root): unpack(root/'b.zip', root/'to')
def save_again(root):
    fig = Figure()
    fig.subplots().plot([1, 2])
    save_results(pd.DataFrame(dict(seed=range(3), accuracy=.5)), fig, root/'figures', 'dd_schematic_smoke', dict(asked=dict(scale='smoke')))
def gallery_again(root): gallery(root/'gallery.html', [root/'drawn'])

def as_written(path, root):
    "A file's content, but for where it lies; of JSON beside a figure without when and from what"
    if path.suffix == '.json':
        told = json.loads(path.read_text())
        told.pop('provenance', None)
        told.get('parameters', {}).pop('sweep', None)
        return told
    return path.read_bytes().replace(bytes(root), b'')

@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='kills forked processes')
@pytest.mark.parametrize('work', [pack_again, unpack_again, save_again, gallery_again])
def test_killed_at_eight_moments_a_writer_leaves_nothing_half_and_the_next_clears_up(tmp_path, work):
    some_records(tmp_path/'from', 30)
    pack(all_records(tmp_path/'from'), tmp_path/'from', tmp_path/'b.zip')
    shutil.copytree(tmp_path/'from', tmp_path/'whole'/'from')
    shutil.copy(tmp_path/'b.zip', tmp_path/'whole'/'b.zip')
    for folder in (tmp_path, tmp_path/'whole'): save_again(folder), shutil.copytree(folder/'figures', folder/'drawn')
    began = time.perf_counter()
    work(tmp_path/'whole')
    took, moments, fork, killed = time.perf_counter() - began, random.Random(0), multiprocessing.get_context('fork'), 0
    for _ in range(8):
        process = fork.Process(target=work, args=(tmp_path,))
        process.start()
        time.sleep(moments.uniform(0, took))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    assert killed
    work(tmp_path)
    assert not [p for p in parts_in(tmp_path) if p.is_dir()]
    def same_again(path): return path.suffix not in ('.pdf', '.zip') and path.name not in ('provenance.json', 'checksums.json')
    for path in (p for p in (tmp_path/'whole').rglob('*') if p.is_file() and '.locks' not in p.parts and same_again(p)):
        assert as_written(tmp_path/path.relative_to(tmp_path/'whole'), tmp_path) == as_written(path, tmp_path/'whole'), path
    for archive in (tmp_path/'a.zip', tmp_path/'whole'/'a.zip'):
        if archive.exists(): assert zipfile.ZipFile(archive).testzip() is None

@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, 'killpg'), reason='kills a page with its kernel')
def test_a_page_killed_at_four_moments_ends_as_if_it_had_not_been(tmp_path):
    "Answers, table, picture and facts, to the bit"
    page = [sys.executable, '-m', 'papermill', Path('nbs')/'papers'/'data_diet'/'dd_early_dynamics.ipynb', '--no-progress-bar', '-p', 'shipped', 'False']
    def start(root):
        env, home = os.environ | dict(LOTTERY_DIET_RUNS=str(root/'runs')), Path(__file__).parent.parent
        return subprocess.Popen([*page, root/'out.ipynb'], env=env, cwd=home, start_new_session=True, stderr=subprocess.PIPE)
    def ended(process):
        said = process.communicate()[1]
        assert process.returncode == 0, said[-2000:]
    for name in ('killed', 'whole'): (tmp_path/name).mkdir()
    began, killed, moments = time.perf_counter(), 0, random.Random(0)
    ended(start(tmp_path/'whole'))
    took = time.perf_counter() - began
    for _ in range(4):
        process = start(tmp_path/'killed')
        time.sleep(moments.uniform(.3, .95)*took)
        killed += process.poll() is None
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    ended(start(tmp_path/'killed'))
    assert killed
    runs = [tmp_path/name/'runs' for name in ('killed', 'whole')]
    assert contents(runs[0]) == contents(runs[1]) and contents(runs[0]) and not parts_in(runs[0])
    drawn = {f.name for f in (runs[1]/'figures').iterdir()}
    assert drawn == {f.name for f in (runs[0]/'figures').iterdir()} and len(drawn) == 4
    for name in drawn:
        if not name.endswith('.pdf'): assert as_written(runs[0]/'figures'/name, runs[0]) == as_written(runs[1]/'figures'/name, runs[1]), name

def test_leftovers_of_the_living_stay(tmp_path):
    with aside(tmp_path/'a.csv') as part:
        clear_leftovers(tmp_path)
        part.write_text('x')
        part.replace(tmp_path/'a.csv')
    (tmp_path/'.part-dead').mkdir()
    (tmp_path/'.part-dead'/'.lock').touch()
    (tmp_path/'.part-foreign').mkdir()
    (tmp_path/'.part-foreign'/'table.csv').touch() # by a version that locks nothing, a moment ago
    write_whole(tmp_path/'b.csv', lambda p: p.write_text('y'))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.part-foreign', 'a.csv', 'b.csv']
    os.utime(tmp_path/'.part-foreign', (1e9, 1e9))
    clear_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.csv', 'b.csv']

# workers

class Rude(Task):
    "Ends its process"
    how: str
    def compute(self, run):
        if self.how == 'killed': os.kill(os.getpid(), signal.SIGKILL)
        if self.how == 'gone': os._exit(3)
        if self.how == 'exit': sys.exit('enough')
        if self.how == 'interrupt': raise KeyboardInterrupt
        return Outcome([dict(how=self.how)])

class Unusual(BaseException):
    "As of a library that does not want to be caught"

class Defiant(Task):
    "Raises what is no Exception"
    def compute(self, run): raise Unusual('as it likes')

class Killer(Task):
    "Kills another process, once, when it is the last: what oversees the workers, or a worker that waits"
    what: str
    n: int
    where: str
    def compute(self, run):
        (Path(self.where)/f'{self.n}').write_text(str(os.getpid()))
        if self.n == 3 and not (mark := Path(self.where)/'killed').exists():
            others = {int(p.read_text()) for p in Path(self.where).glob('?')} - {os.getpid()}
            mark.touch()
            for pid in [os.getppid()] if self.what == 'overseer' else others: os.kill(pid, signal.SIGKILL)
            time.sleep(.5)
        return Outcome([dict(n=self.n)])

class Follower(Task):
    "Needs all killers, so that a worker waits before it"
    what: str
    n: int
    where: str
    def needs(self): return [Killer(what=self.what, n=n, where=self.where) for n in range(4)]
    def compute(self, run): return Outcome([dict(n=self.n)])

@pytest.mark.long
@pytest.mark.parametrize('what', ['overseer', 'waiting'])
def test_who_oversees_the_workers_and_a_worker_that_waits_are_replaced(tmp_path, what):
    (tmp_path/'pids').mkdir()
    tasks = grid(Follower(what=what, n=0, where=str(tmp_path/'pids')), dict(n=range(4)))
    counts = sweep([*tasks[0].needs(), *tasks], workers=2, run=run_in(tmp_path), progress=False).counts # cached: finished by one whose overseer was gone
    assert counts['run'] + counts['cached'] == 8 and (tmp_path/'pids'/'killed').exists()

class After(Task):
    "Needs one whose process is killed"
    def needs(self): return [Rude(how='killed')]
    def compute(self, run): return Outcome([dict(n=len(run.ask(*self.needs()).rows))])

@pytest.mark.long
def test_a_dead_worker_costs_its_task_alone(tmp_path):
    class Local(Task):
        def compute(self, run): return Outcome([dict(n=1)])
    bad, good = [*(Rude(how=how) for how in ('killed', 'gone', 'exit', 'interrupt')), Local(), After()], grid(Square(), dict(n=range(12)))
    for run, calm in ((1, 'run'), (2, 'cached')): # asked again, the same are rows and the others are there
        found = sweep([*bad, *good], workers=2, run=run_in(tmp_path), progress=False).table.drop_duplicates('key').set_index('key')
        assert [found.status[t.key] for t in good] == [calm]*12 and {found.status[t.key] for t in bad} == {'failed'}
        words = ('SIGKILL', 'exit code 3', 'enough', 'KeyboardInterrupt', 'define its class', 'what it needs')
        for task, word in zip(bad, words, strict=True): assert word in found.reason[task.key]
    assert [sweep([task], run=run_in(tmp_path), progress=False).counts['failed'] for task in (*bad[2:4], Defiant())] == [1, 1, 1] # in this process too

def script(tmp_path, body, guard=True):
    (tmp_path/'it.py').write_text(f'''
from pathlib import Path
from lottery_diet.experiments.sweeps import sweep
from lottery_diet.experiments.tasks import Outcome, Run, Task
from lottery_diet.experiments.training import Pretrain
from lottery_diet.train import Recipe
run = Run(root=Path({str(tmp_path)!r})/'runs', checkpoint_every=1e9)
class Own(Task):
    n: int = 0
    def compute(self, run): return Outcome([dict(n=self.n)])
{"if __name__ == '__main__':" if guard else "if True:"} {body}
''')
    return [sys.executable, str(tmp_path/'it.py')]

@pytest.mark.long
@pytest.mark.parametrize('task, guard, says', [
    ('Pretrain(recipe=Recipe(60, 64, lr=.05), steps=20, seed=n)', False, '2 run'), ('Own(n=n)', True, '2 run'), ('Own(n=n)', False, "__name__ == '__main__'")])
def test_a_script_needs_a_guard_only_for_classes_of_its_own_and_is_told_so(tmp_path, task, guard, says):
    body = f'found = sweep([{task} for n in (1, 2)], run=run, workers=2, progress=False); print(found, *set(found.table.reason))'
    out = subprocess.run(script(tmp_path, body, guard), capture_output=True, text=True, timeout=300)
    assert says in out.stdout and 'out of memory' not in out.stdout

long_task = '''
from functools import partial
from pathlib import Path
from lottery_diet.experiments import tasks as experiments
from lottery_diet.models import initialize, mlp
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe

train = experiments.train

class Long(experiments.Task):
    "Says when it has seen two snapshots: Run.train has one then that is not checkpointed"
    where: str
    n: int
    def compute(self, run):
        def noting(*args, **kwargs):
            for i, snapshot in enumerate(train(*args, **kwargs)):
                if i: (Path(self.where)/f'seen{self.n}').touch()
                yield snapshot
        experiments.train = noting
        run.train(initialize(partial(mlp, (1, 8, 8), 10, (16,)), self.n), load_data('digits').train, Recipe(10**7, 64, lr=.01))
'''

@pytest.mark.long
@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_main_process_alone_checkpoints_and_ends(tmp_path, number, workers):
    "No checkpoint is made before: all that lie there afterwards were made because of the signal"
    (tmp_path/'long_task.py').write_text(long_task)
    body = f'import long_task; sweep([long_task.Long(where={str(tmp_path)!r}, n=n) for n in range({workers})], run=run, workers={workers}, progress=False)'
    process = subprocess.Popen(script(tmp_path, body), stderr=subprocess.DEVNULL, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    until = time.time() + 300
    while len(list(tmp_path.glob('seen*'))) < workers and time.time() < until: time.sleep(.2)
    process.send_signal(number)
    assert process.wait(60) != 0
    assert len(list((tmp_path/'runs').rglob('training.safetensors'))) == workers and not parts_in(tmp_path/'runs')
    assert not list((tmp_path/'runs'/'.begun').iterdir())

stubborn = '''
import time
from pathlib import Path
from lottery_diet.experiments import workers
from lottery_diet.experiments.sweeps import sweep
from lottery_diet.experiments.tasks import Run, Task
workers.patience = 1e4 # here, and in the processes that are started: the first signal alone would be waited for in vain
class Stubborn(Task):
    "Does not end when it is told to"
    where: str
    n: int
    def compute(self, run):
        (Path(self.where)/f'seen{self.n}').touch()
        while True:
            try: time.sleep(1e4)
            except KeyboardInterrupt: (Path(self.where)/f'told{self.n}').touch()
if __name__ == '__main__': sweep([Stubborn(where=WHERE, n=n) for n in (0, 1)], run=Run(root=Path(WHERE)/'runs'), workers=2, progress=False)
'''

@pytest.mark.long
def test_a_second_interrupt_ends_at_once(tmp_path):
    (tmp_path/'it.py').write_text(stubborn.replace('WHERE', repr(str(tmp_path))))
    process = subprocess.Popen([sys.executable, str(tmp_path/'it.py')], stderr=subprocess.DEVNULL, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        until = time.time() + 300
        for sign in ('seen', 'told'):
            while len(list(tmp_path.glob(f'{sign}*'))) < 2 and time.time() < until: time.sleep(.2)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    finally: os.killpg(process.pid, signal.SIGKILL)

# a question whose data, code or fields change

def test_a_copy_with_another_field_is_another_question(tmp_path):
    run, two = run_in(tmp_path), Square(n=2)
    assert run.ask(two).rows == [dict(square=4)] # asked, and so with its key
    for deep in (False, True): assert run.ask(two.model_copy(update=dict(n=3), deep=deep)).rows == [dict(square=9)]
    assert copy.copy(two).key == copy.deepcopy(two).key == two.key
    begin = Pretrain(recipe=recipe, steps=0)
    level = TicketLevel(pretrain=begin, level=1)
    assert level.key and begin.key
    assert level.model_copy(update=dict(level=2)).key == TicketLevel(pretrain=begin, level=2).key
    assert level.model_copy(deep=True).pretrain.model_copy(update=dict(seed=1)).key == Pretrain(recipe=recipe, steps=0, seed=1).key != begin.key

class Brightness(Task):
    "Mean pixel of the user's own training images, which may change while it looks"
    data: Images
    spoils: bool = False
    fails: bool = False
    def compute(self, run):
        if self.spoils: one_gray(self.data.name, 7)
        if self.fails: raise Diverged('it never converges')
        return Outcome([dict(mean=self.data.read().train.x.double().mean().item())])

def one_gray(file, level):
    "Images of one gray, in place of others of the same size"
    npz(file, x_train=np.full((20, 8, 8), level, np.uint8))
    os.utime(file, ns=(level, level)) # another time, whatever the clock's grain

def test_data_that_changes_between_question_and_answer_has_no_answer_until_it_is_asked_again(tmp_path):
    file, run = tmp_path/'mine.npz', run_in(tmp_path/'runs')
    one_gray(file, 10)
    task = Brightness(data=Images(name=str(file)))
    sent = pickle.dumps((task.key, task))
    one_gray(file, 20)
    for asked in (task, pickle.loads(sent)[1]): # in this process, and in a worker
        status, reason = answer(asked, run)
        assert status == 'failed' and 'changed since it was asked for: ask again' in reason and run.failure(asked) is run.read(asked) is None
    anew = Brightness(data=Images(name=str(file)))
    assert anew.key != task.key and run.ask(anew).rows == [dict(mean=20.)] and answer(anew, run) == ('cached', '')
    one_gray(file, 10) # as it was
    assert answer(task, run) == ('run', '') and run.ask(task).rows == [dict(mean=10.)] and run.ask(anew).rows == [dict(mean=20.)]

@pytest.mark.long
def test_workers_do_not_answer_about_data_that_changed(tmp_path):
    file, run = tmp_path/'mine.npz', run_in(tmp_path/'runs')
    one_gray(file, 10)
    old, other = Pretrain(recipe=recipe, steps=3, data=Images(name=str(file))), Pretrain(recipe=recipe, steps=3)
    assert old.key
    one_gray(file, 20)
    found = sweep([old, other], workers=2, run=run, progress=False).table
    assert found.status.tolist() == ['failed', 'run'] and 'ask again' in found.reason[0] and run.failure(old) is None
    assert sweep([old.model_copy()], workers=2, run=run, progress=False).counts['run'] == 1

@pytest.mark.parametrize('fails', [False, True])
def test_data_that_changes_while_it_is_computed_with_gives_neither_answer_nor_failure(tmp_path, fails):
    file, run = tmp_path/'mine.npz', run_in(tmp_path/'runs')
    one_gray(file, 10)
    task = Brightness(data=Images(name=str(file)), spoils=True, fails=fails)
    with pytest.raises(ValueError, match='changed since it was asked for'): run.ask(task)
    assert run.read(task) is run.failure(task) is None

def test_a_folder_that_changes_is_read_again(tmp_path):
    "One of many images is looked at for a twentieth of the time at most: what changed is seen in the end"
    folder = image_folder(tmp_path/'mine')
    def checksum_now(): return Images(name=str(folder)).identity()['checksum']
    def other_than(*known):
        until = time.monotonic() + 60
        while checksum_now() in known and time.monotonic() < until: time.sleep(.01)
        return checksum_now()
    first = checksum_now()
    Image.new('RGB', (8, 8), (41, 91, 201)).save(folder/'a'/'0.png')
    second = other_than(first)
    (folder/'b').rename(folder/'0') # other labels
    third = other_than(first, second)
    shutil.copytree(folder, tmp_path/'elsewhere'/'mine')
    assert len({first, second, third}) == 3 and third == Images(name=str(tmp_path/'elsewhere'/'mine')).identity()['checksum']

def test_code_that_was_edited_since_gives_no_answer(tmp_path, monkeypatch):
    (own := tmp_path/'own_edited.py').write_text("from torch import nn\ndef net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n")
    monkeypatch.syspath_prepend(tmp_path)
    task, run = Pretrain(recipe=recipe, steps=3, network=Network(model='own_edited:net')), run_in(tmp_path/'runs')
    sent = pickle.dumps((task.key, task))
    own.write_text(own.read_text().replace('nn.Linear(64', 'nn.ReLU(), nn.Linear(64'))
    monkeypatch.delitem(sys.modules, 'own_edited') # as a process that starts now
    shutil.rmtree(tmp_path/'__pycache__', ignore_errors=True)
    status, reason = answer(pickle.loads(sent)[1], run)
    assert status == 'failed' and 'ask again' in reason
    assert answer(task.model_copy(), run) == ('run', '')

def test_scores_that_changed_are_no_failure_to_keep(tmp_path):
    data, run, file = Images(), run_in(tmp_path/'runs'), tmp_path/'mine.safetensors'
    train = data.read().train
    def write(values): Scores.of(train, values).save(file)
    values = torch.arange(len(train)).float()
    write(values)
    task = SavedScores.of(file, data)
    whole = file.read_bytes()
    write(values.flip(0))
    status, reason = answer(task, run)
    assert status == 'failed' and 'other scores than when it was asked for: ask again' in reason and run.failure(task) is None
    file.write_bytes(whole)
    assert run.ask(task).tensors['scores'].equal(values)

# data

def arrays(**changed):
    x, y = np.random.default_rng(0).integers(0, 255, (20, 8, 8)).astype(np.uint8), np.arange(20) % 4
    return dict(x_train=x, y_train=y, x_test=x[:8], y_test=y[:8]) | changed

def npz(file, **changed): np.savez(file, **{k: v for k, v in arrays(**changed).items() if v is not None})

def with_header(file, header):
    "An npz whose x_train claims something else than it holds"
    npz(file)
    with zipfile.ZipFile(file) as z: entries = {n: z.read(n) for n in z.namelist()}
    claimed = header.encode()
    entries['x_train.npy'] = b'\x93NUMPY\x01\x00' + (len(claimed) + 1).to_bytes(2, 'little') + claimed + b'\n' + b'0'*64
    with zipfile.ZipFile(file, 'w') as z:
        for name, content in entries.items(): z.writestr(name, content)

wrong_arrays = dict(
    empty_train=(dict(x_train=np.zeros((0, 8, 8), np.uint8), y_train=np.zeros(0, int)), 'at least one image'),
    empty_test=(dict(x_test=np.zeros((0, 8, 8), np.uint8), y_test=np.zeros(0, int)), 'at least one image'),
    no_height=(dict(x_train=np.zeros((20, 0, 8), np.uint8), x_test=np.zeros((8, 0, 8), np.uint8)), 'at least one pixel'),
    no_pixels=(dict(x_train=np.zeros((20, 0, 0), np.uint8), x_test=np.zeros((8, 0, 0), np.uint8)), 'at least one pixel'),
    no_channels=(dict(x_train=np.zeros((20, 8, 8, 0), np.uint8), x_test=np.zeros((8, 8, 8, 0), np.uint8)), 'channel'),
    five_channels=(dict(x_train=np.zeros((20, 8, 8, 5), np.uint8)), 'should be uint8'),
    huge_label=(dict(y_train=np.where(np.arange(20) == 3, 10**12, np.arange(20) % 4)), r'label 1000000000000 \(image 3\)'),
    beyond_int64=(dict(y_train=np.full(20, 2**64 - 1, np.uint64)), 'holds the label'),
    negative_label=(dict(y_train=np.arange(20) - 1), 'holds the label -1 .image 0.'),
    real_labels=(dict(y_train=np.arange(20)/2), 'whole labels from 0'),
    few_labels=(dict(y_train=np.arange(19)), 'one for each of 20'),
    other_size=(dict(x_test=np.zeros((8, 9, 8), np.uint8)), 'one size'),
    real_pixels=(dict(x_train=np.zeros((20, 8, 8))), 'should be uint8'),
    pickled=(dict(y_train=np.array([None]*20)), 'cannot be read as arrays'),
    missing=(dict(y_test=None), 'lacks an array'))

@pytest.mark.parametrize('name', wrong_arrays)
def test_arrays_that_do_not_fit_are_refused_naming_the_file(tmp_path, name):
    changed, says = wrong_arrays[name]
    npz(tmp_path/'mine.npz', **changed)
    with pytest.raises(ValueError, match=says) as refusal: load_data(str(tmp_path/'mine.npz'))
    assert str(tmp_path/'mine.npz') in str(refusal.value) and len(str(refusal.value).splitlines()) == 1

def numpy_header(shape, kind='|u1'): return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"

@pytest.mark.parametrize('header', [
    *map(numpy_header, ('(1000000000000000,)', '(-5, 8, 8)', '(8, 8, 8)')), numpy_header('(8,)', '|O'), 'nonsense', ''], ids=range(6))
def test_headers_that_lie_are_refused_before_memory_is_asked_for(tmp_path, header):
    with_header(tmp_path/'mine.npz', header)
    with pytest.raises(ValueError, match='mine.npz'): load_data(str(tmp_path/'mine.npz'))

@pytest.mark.parametrize('content', [b'', b'PK', b'\x80\x04.', b'x'*1000], ids=['empty', 'zip', 'pickle', 'noise'])
def test_files_that_are_no_arrays_are_refused_in_a_sentence(tmp_path, content):
    (tmp_path/'mine.npz').write_bytes(content)
    with pytest.raises(ValueError, match='cannot be read as arrays'): load_data(str(tmp_path/'mine.npz'))

def image_folder(root, n=3):
    for c in 'ab':
        (root/c).mkdir(parents=True)
        for i in range(n): Image.new('RGB', (8, 8), (40*i, 90, 200 if c == 'a' else 10)).save(root/c/f'{i}.png')
    return root

def a_bomb(file):
    "A PNG of a gigapixel, in 30 kB"
    import struct
    import zlib
    def chunk(kind, content): return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    size = struct.pack('>IIBBBBB', 40000, 40000, 1, 0, 0, 0, 0)
    file.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', size) + chunk(b'IDAT', zlib.compress(bytes(10**6))) + chunk(b'IEND', b''))

broken_images = {
    'emptied': lambda f: f.write_bytes(b''), 'cut': lambda f: f.write_bytes(f.read_bytes()[:40]), 'noise': lambda f: f.write_bytes(b'noise'*99), 'bomb': a_bomb,
    'folder': lambda f: (f.unlink(), f.mkdir()), 'dangling link': lambda f: (f.unlink(), f.symlink_to('nowhere')),
    'link to itself': lambda f: (f.unlink(), f.symlink_to(f.name)), 'other size': lambda f: Image.new('RGB', (9, 8)).save(f)}

@pytest.mark.parametrize('how', broken_images)
def test_a_broken_image_is_named(tmp_path, how):
    folder = image_folder(tmp_path/'mine')
    broken_images[how](folder/'b'/'1.png')
    with pytest.raises(ValueError, match='b/1.png') as refusal: load_data(str(folder))
    assert len(str(refusal.value).splitlines()) == 1

@pytest.mark.parametrize('content', [b'', b'noise', b'PK\x05\x06' + bytes(18), None], ids=['empty', 'noise', 'empty zip', 'cut'])
def test_kept_pixels_that_are_damaged_are_named_and_made_again(tmp_path, content):
    folder = image_folder(tmp_path/'mine')
    wanted, kept = load_data(str(folder)).train.x, folder/'.pixels.npz'
    kept.write_bytes(kept.read_bytes()[:-30] if content is None else content)
    with pytest.warns(UserWarning, match='pixels.npz is damaged'): assert load_data(str(folder)).train.x.equal(wanted)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert load_data(str(folder)).train.x.equal(wanted)

def test_content_decides_whether_kept_pixels_are_of_these_images(tmp_path):
    folder = image_folder(tmp_path/'mine')
    file, other = folder/'a'/'1.png', tmp_path/'other.png'
    load_data(str(folder))
    Image.new('RGB', (8, 8), (41, 91, 201)).save(other)
    before = file.stat()
    other.write_bytes(other.read_bytes().ljust(before.st_size, b'\0')[:max(before.st_size, other.stat().st_size)])
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and (read := load_data(str(folder)).train.x).shape[0] < 7
    shown = {tuple(p) for part in (load_data(str(folder)).train, load_data(str(folder)).test) for p in part.x[:, :, 0, 0].tolist()}
    assert (41, 91, 201) in shown and len(read)

@pytest.mark.parametrize('name', ['x'*300, '/'.join(['x'*300, 'y']), 'a\0b/c', '~nobody.here/mine.npz', './none', 'none.npz'], ids=range(6))
def test_names_that_no_file_can_have_are_refused_in_a_sentence(name):
    with pytest.raises((ValueError, FileNotFoundError), match='there is no|is unknown'): load_data(name)

# parameters

refused = [
    *((SpawnParameters, given, says) for given, says in (
        (dict(noise='augmentation'), 'needs images that are augmented'), (dict(model='os:system'), 'no function of shape and classes'),
        (dict(model='os:path'), 'no function of shape'), (dict(model='builtins:print'), 'no function of shape'), (dict(model=':'), 'no function of shape'),
        (dict(model='x'*300), 'is unknown'), (dict(model='no.such:thing'), 'cannot be imported'), (dict(dataset='x'*300), 'is unknown'),
        (dict(seeds=10**9), 'seeds=1000000000 must be'), (dict(workers=0), 'workers=0 must be'), (dict(budget='soon'), 'length of time'),
        (dict(spawns='soon'), 'separated by spaces'), (dict(spawns=f'0 {10**12}'), 'beyond the'),
        (dict(out_dir='/proc/none'), 'nothing can be written to /proc/none'))),
    *((ImpParameters, given, says) for given, says in (
        (dict(select='hardest', fraction=1.), "select='hardest' chooses nothing from all images: give fraction below 1"),
        (dict(select='easiest', scale='mini', dataset='digits'), "select='easiest' chooses nothing from all images"),
        (dict(scores='mine.csv'), "scores say what is easy: give select='easiest' or 'hardest'"),
        (dict(scores='mine.csv', select='easiest', fraction=1.), 'chooses nothing from all images'),
        (dict(select='easiest', pretrain_steps=0), 'give pretrain_steps above 0'), (dict(fraction=.5, pretrain_steps=0), 'give pretrain_steps above 0'))),
    (DistillParameters, dict(per_class=10**9), 'per_class=1000000000 must be'),
    (DistillParameters, dict(iterations=10**12), 'iterations=1000000000000 must be'),
    (ScoreParameters, dict(steps=10**9), 'must not exceed'), (ScoreParameters, dict(label_noise=float('nan')), 'label_noise=nan must be'),
    (FigureParameters, dict(seeds=0), 'seeds=0 must be')]

@pytest.mark.parametrize('kind, given, says', refused, ids=[f'{list(g)[0]}-{i}' for i, (_, g, _) in enumerate(refused)])
def test_parameters_are_refused_in_a_sentence_before_anything_runs(kind, given, says, tmp_path, monkeypatch):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path))
    with pytest.raises(ValueError, match=says) as refusal:
        asked = read_parameters(kind, given)
        getattr(asked, 'question', lambda: None)()
    assert len(str(refusal.value).splitlines()) == 1

def test_home_is_home_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('LOTTERY_DIET_RUNS', '~/runs')
    npz(tmp_path/'mine.npz')
    assert FigureParameters().folder == tmp_path/'runs'/'figures' and FigureParameters(out_dir='~/out').folder == tmp_path/'out'
    assert Run().root == tmp_path/'runs' and len(load_data('~/mine.npz').train) == 20 and Images(name='~/mine.npz').identity()['name'] == 'mine.npz'

@pytest.mark.parametrize('name', ['meta', 'x'*300, 'cuda:99', ''], ids=range(4))
def test_devices_that_hold_no_numbers_are_refused(name):
    with pytest.raises(ValueError, match='is unknown|not at hand'): pick_device(name)

def test_a_network_that_is_none_is_refused_when_it_is_named():
    with pytest.raises(ValueError, match='no function of shape and classes'): Network(model='torch.nn:Linear')

def test_a_page_whose_runs_all_failed_ends(tmp_path):
    wild = [Pretrain(recipe=Recipe(300, 64, lr=1e30), steps=50, seed=s) for s in (0, 1)]
    failed = sweep(wild, run=run_in(tmp_path), progress=False)
    with pytest.raises(ValueError, match='all 2 runs failed: training diverged'): require_some(failed)
    some = sweep([*wild, varied(wild[0], {'recipe': recipe})], run=run_in(tmp_path), progress=False)
    assert require_some(some) is some

def test_every_page_that_asks_for_runs_ends_where_all_failed():
    "Pages with parameters, also those to come: `open_page` does it for figures"
    pages = {p.stem: json.loads(p.read_text(encoding='utf-8'))['cells'] for p in (project_root()/'nbs').glob('*.ipynb')}
    code = {name: [''.join(c['source']) for c in cells if c['cell_type'] == 'code'] for name, cells in pages.items()
            if any('parameters' in c['metadata'].get('tags', ()) for c in cells)}
    asking = {name: [cell for cell in cells if 'done = ' in cell and 'sweep(question' in cell] for name, cells in code.items()}
    assert {name for name, cells in asking.items() if cells} == {'04_scores', '05_imp', '06_lmc', '08_distill'}
    for name, cells in asking.items(): assert all('done = require_some(sweep(question' in cell for cell in cells), name

def test_the_first_reason_of_failed_runs_is_told(tmp_path, monkeypatch, capsys):
    wild = Pretrain(recipe=Recipe(300, 64, lr=1e30), steps=50)
    some = sweep([wild, varied(wild, {'recipe': recipe})], run=run_in(tmp_path), progress=False)
    assert some.told == some.counts | dict(reason=some.table.reason[some.table.status == 'failed'].iloc[0]) and 'diverged' in some.told['reason']
    assert sweep([varied(wild, {'recipe': recipe})], run=run_in(tmp_path), progress=False).told == dict(cached=1, run=0, failed=0, left=0)
    (tmp_path/'x.json').write_text(json.dumps(dict(parameters=dict(sweep=some.told))))
    monkeypatch.setattr('lottery_diet.pages.figure.run_figure', lambda *args, **given: tmp_path/'x.ipynb')
    monkeypatch.setattr('lottery_diet.pages.figure.results_of', lambda page: {'.json': tmp_path/'x.json'})
    assert main(['figure', 'win_regions']) == 0
    assert capsys.readouterr().err.splitlines() == [f'lottery-diet: 1 runs failed: {some.told["reason"]}']

def test_other_questions_have_other_names_and_the_default_has_the_shortest(tmp_path, monkeypatch):
    assert {file_name(name, scale, seeds=given) for name in ('dd_accuracy_vs_sparsity', 'dd_schematic') for scale in ('smoke', 'mini')
            for given in (None, len(getattr(preset(name, scale), 'seeds', ())) or None)} == {
        f'{name}_{scale}' for name in ('dd_accuracy_vs_sparsity', 'dd_schematic') for scale in ('smoke', 'mini')}
    assert file_name('dd_accuracy_vs_subset_size', 'mini', 'C', 'as_released', 9) == 'dd_accuracy_vs_subset_size_C_as_released_9seeds_mini'
    given = [{}, dict(score='grand'), dict(score='forgetting'), dict(beside=''), dict(beside='grand'), dict(score='grand', beside='el2n'), dict(seeds=1)]
    names = [ScoreParameters(scale='mini', **k).name for k in given]
    assert len({*names}) == len(names) and names[0] == 'scores_mini' and ScoreParameters(scale='mini', beside=' grand_last_layer  forgetting').name == names[0]
    train = load_data('digits').train
    for folder, values in dict(a=torch.rand(len(train)), b=torch.rand(len(train))).items():
        (tmp_path/folder).mkdir()
        Scores.of(train, values).save(tmp_path/folder/'mine.safetensors')
    shutil.copytree(tmp_path/'a', tmp_path/'c')
    a, b, c, none = (ImpParameters(scores=str(tmp_path/folder/'mine.safetensors'), select='easiest').name for folder in 'abcd')
    assert a == c and a != b and a.startswith(f'{none}-')

@pytest.mark.parametrize('stem, parts, variant', [
    ('dd_accuracy_vs_sparsity_mini', ('dd_accuracy_vs_sparsity', '', 'mini'), ''),
    ('dd_accuracy_vs_sparsity_as_released_mini', ('dd_accuracy_vs_sparsity', '', 'mini'), 'as_released'),
    ('win_regions_cosine_mini', ('win_regions', '', 'mini'), 'cosine'),
    ('dd_accuracy_vs_subset_size_C_1seeds_paper', ('dd_accuracy_vs_subset_size', 'C', 'paper'), '1seeds'),
    ('of_mine_B_mini', ('of_mine', 'B', 'mini'), ''), ('lmc_smoke', ('lmc', '', 'smoke'), ''), ('mini', ('', '', 'mini'), '')], ids=range(7))
def test_a_drawn_figure_is_known_by_the_longest_name(stem, parts, variant):
    assert (Drawn(Path(f'{stem}.png')).parts, Drawn(Path(f'{stem}.png')).variant) == (parts, variant)

def test_a_gallery_shows_every_figure_that_it_counts(tmp_path):
    save_again(tmp_path)
    for stem in ('win_regions_mini', 'win_regions_cosine_mini', 'win_regions_1seeds_mini'):
        for file in list((tmp_path/'figures').glob('dd_schematic*')): shutil.copy(file, file.with_name(stem + file.suffix))
    page = gallery(tmp_path/'g.html', [tmp_path/'figures']).read_text()
    assert '4 figures drawn' in page and page.count('data:image/png') == 4
    for variant in ('cosine', '1seeds'): assert f'<span class="badge">{variant}</span>' in page

def test_what_was_never_learned_has_a_rank_but_no_number(tmp_path):
    "By hand: infinite scores change neither means nor Pearson, and stand last in ranks"
    kind = dict(data=Images(), recipe=recipe)
    first, second = (InputNorm(**kind | dict(recipe=r)) for r in (recipe, Recipe(301, 64, lr=.05)))
    a, b = torch.arange(40.), torch.arange(40.).flip(0).clone()**2
    b[3], a[39] = torch.inf, torch.inf
    class Told(Run):
        def ask(self, task): return types.SimpleNamespace(tensors=dict(scores=a if task.key == first.key else b))
    rows = pd.DataFrame(ScoreBins(first=(first,), second=(second,), bins=4).compute(Told(root=tmp_path)).metrics)
    known = a.isfinite() & b.isfinite()
    assert rows.pearson[0] == pytest.approx(np.corrcoef(a[known], b[known])[0, 1])
    assert rows.spearman[0] == pytest.approx(pd.Series(a.numpy()).rank().corr(pd.Series(b.numpy()).rank()))
    assert rows['first'].tolist() == pytest.approx([4.5, 14.5, 24.5, 34.])
    assert rows.second[0] == pytest.approx(b[:10][b[:10].isfinite()].mean().item()) and set(rows.images) == {10}
    assert rows[['low', 'median', 'high']].to_numpy().max() < 2000

@pytest.mark.parametrize('damaged, whole', [((2,), 5), ((0, 3), 4), (range(6), 0)], ids=range(3))
def test_a_damaged_record_does_not_keep_the_whole_ones_from_being_packed(damaged, whole, tmp_path, monkeypatch, capsys):
    some_records(tmp_path/'from')
    every = all_records(tmp_path/'from')
    for i in damaged: (every[i]/'metrics.csv').write_text('square\n7\n')
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'from'))
    assert main(['pack', str(tmp_path/'a.zip')]) == 1
    [sentence] = capsys.readouterr().err.splitlines()
    assert all(every[i].name in sentence for i in damaged) and (tmp_path/'a.zip').exists() == bool(whole)
    if whole: assert f'the {whole} whole runs are in' in sentence and unpack(tmp_path/'a.zip', tmp_path/'to') == (whole, 0)

def test_scores_say_which_networks_made_them_and_are_not_written_in_part(tmp_path):
    study = varied(score_settings['smoke'], dict(scores=('el2n', 'grand'), seeds=(3, 4, 5)))
    class Told(Run):
        def read(self, task): return types.SimpleNamespace(tensors=dict(scores=torch.ones(9))) if (task.score, task.seed) != ('el2n', 4) else None
    run = Told(root=tmp_path)
    assert study.answered(run) == dict(el2n=[3, 5], grand=[3, 4, 5]) and {k: len(v) for k, v in study.found(run).items()} == dict(el2n=2, grand=3)
    assert study.origin('el2n', [3, 5]).items() >= dict(score='el2n', networks=2, seeds=[3, 5]).items()
    source, saved = cell_of('04_scores.ipynb', 'question.answered'), []
    def of(images, values, **origin): return types.SimpleNamespace(save=lambda file: saved.append((file.name, origin['seeds'])) or file)
    question = types.SimpleNamespace(images=lambda run: range(9), table=lambda run: (), found=study.found, answered=study.answered, origin=study.origin)
    for left in (1, 0):
        assert not saved
        exec(source, dict(question=question, run=run, Scores=types.SimpleNamespace(of=of), asked=types.SimpleNamespace(folder=tmp_path, name='s'), test_eq=None,
                          done=types.SimpleNamespace(counts=dict(left=left))))
    assert saved == [('s_el2n.safetensors', [3, 5]), ('s_grand.safetensors', [3, 4, 5])]

def test_a_page_is_tidied_in_a_checkout_only_and_in_outputs_only(tmp_path, monkeypatch):
    folder = project_root()
    def page():
        shown = [dict(output_type='stream', name='stdout', text=[f'{folder}/results/a.csv and 1/2'])]
        cells = [dict(cell_type='markdown', id='a', metadata={}, source=[f'see {folder}/data, 1/2']),
                 dict(cell_type='code', id='b', metadata={}, source=[f"x = '{folder}/data'"], outputs=shown, execution_count=1),
                 dict(cell_type='code', id='c', metadata=dict(tags=['injected-parameters']),
                      source=[f"out_dir = '{folder}/out'"], outputs=[], execution_count=1)]
        (tmp_path/'page.ipynb').write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
        return json.loads(tidied(tmp_path/'page.ipynb').read_text())['cells']
    text, code, given = page()
    assert code['outputs'][0]['text'] == ['results/a.csv and 1/2'] and given['source'] == ["out_dir = 'out'"]
    assert text['source'] == [f'see {folder}/data, 1/2'] and code['source'] == [f"x = '{folder}/data'"]
    monkeypatch.setattr('lottery_diet.pages.figure.project_root', lambda *_: Path('/')) # of an installed package at work there
    assert page()[1]['outputs'][0]['text'] == [f'{folder}/results/a.csv and 1/2']

def cell_of(page, text):
    "The source of a page's code cell that holds these words"
    cells = json.loads((project_root()/'nbs'/page).read_text(encoding='utf-8'))['cells']
    [source] = [source for c in cells if c['cell_type'] == 'code' and text in (source := ''.join(c['source'])) and not source.startswith('#| export')]
    return source

@pytest.mark.parametrize('answered, shown', [
    ({}, ''), (dict(distilled=[0, 1, 2]), ''), (dict(distilled=[0], real=[1]), ''), (dict(distilled=[0, 1, 2], real=[0, 2]), 'points'),
    (dict(distilled=[0, 1, 2], real=[0, 1, 2]), 'points')], ids=range(5))
def test_a_page_of_distilled_images_shows_what_is_answered(answered, shown, capsys):
    "No result is asserted in what users run: parameters, a budget or one missing replicate decide what there is; here distilled images are worse"
    source = cell_of('08_distill.ipynb', 'looks = question.looks')
    means = pd.Series({(taught, seed): 50. - 9*(taught == 'distilled') + seed for taught, seeds in answered.items() for seed in seeds}, dtype=float)
    if len(means): means.index.names = ['taught', 'seed']
    question = types.SimpleNamespace(looks=lambda run: pd.DataFrame(), seeds=(0, 1, 2))
    exec(source, dict(question=question, run=None, means=means, asked=types.SimpleNamespace(scale='smoke'), t_interval=t_interval, pd=pd))
    said = capsys.readouterr().out
    assert shown in said and bool(said) == bool(shown)

def test_no_page_asserts_a_result_below_its_parameters():
    "`gain` and means are what it finds; what must hold of any answer may be asserted"
    for name in ('04_scores', '05_imp', '06_lmc', '08_distill'):
        cells = json.loads((project_root()/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
        asks = next(i for i, c in enumerate(cells) if 'done = require_some' in ''.join(c['source']))
        assert not [c['id'] for c in cells[asks:] if re.search(r'assert [^\n]*(gain|mean|half)', ''.join(c['source']))], name

def test_timing_takes_a_twentieth_of_a_budget_and_nothing_of_a_short_one(tmp_path, monkeypatch):
    "A fake clock that timing moves on: what is timed comes before the budget begins"
    clock, given = [1e9], []
    def expected(left, run, most):
        given.append(most)
        clock[0] += 100
        return {}
    monkeypatch.setattr('time.time', lambda: clock[0])
    monkeypatch.setattr('lottery_diet.experiments.sweeps.expected', expected)
    for n, (budget, seconds) in enumerate({'3s': 3, '59s': 59, '80s': 80, '1h': 3600}.items()):
        [left] = sweep([TimeLeft(n=n)], budget=budget, run=run_in(tmp_path)).table.left
        assert left == seconds, budget
    assert given == [4., 6.] and sweep([TimeLeft(n=9)], run=run_in(tmp_path)).counts['run'] == 1 and given == [4., 6., 6.]

def test_an_unwritable_folder_is_found_first(tmp_path):
    (tmp_path/'file').touch()
    with pytest.raises(ValueError, match='nothing can be written'): require_writable(tmp_path/'file'/'figures')

def test_more_workers_than_cores_are_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr('lottery_diet.experiments.sweeps.cores', lambda: 1)
    with pytest.warns(UserWarning, match='workers=1000 are more than the cores.*1 are started'):
        assert sweep([Square(n=5)], workers=1000, run=run_in(tmp_path), progress=False).counts['run'] == 1

# gallery

@pytest.mark.parametrize('ending, content', [
    ('png', b''), ('png', b'\x89PNG\r\n\x1a\n'), ('png', None), ('png', b'GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;'),
    ('json', b''), ('json', b'[]'), ('json', b'{"parameters": 1}'), ('json', b'{"parameters": {"a": "\\ud800"}, "provenance": {}}'),
    ('csv', b''), ('csv', b'\xff\xfe\0')], ids=range(10))
def test_a_damaged_figure_is_named_and_the_others_are_shown(tmp_path, ending, content):
    save_again(tmp_path)
    shutil.copytree(tmp_path/'figures', tmp_path/'more')
    for file in list((tmp_path/'more').iterdir()): file.rename(file.with_name(file.name.replace('dd_schematic', 'syn_schematic')))
    damaged = tmp_path/'figures'/f'dd_schematic_smoke.{ending}'
    damaged.write_bytes(damaged.read_bytes()[:-20] if content is None else content)
    with pytest.warns(UserWarning, match=f'{damaged.name} is damaged'): page = gallery(tmp_path/'g.html', [tmp_path/'figures', tmp_path/'more']).read_text()
    assert f'{damaged.name} is damaged' in page and 'data:image/png' in page

def test_a_picture_that_is_no_figure_does_not_end_the_page(tmp_path):
    save_again(tmp_path)
    for file in list((tmp_path/'figures').iterdir()): file.rename(file.with_name('mini' + file.suffix))
    assert 'data:image/png' not in gallery(tmp_path/'g.html', [tmp_path/'figures']).read_text()
