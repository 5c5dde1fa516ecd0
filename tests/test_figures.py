"Every figure at scale smoke, from the command line: drawn, redrawn without training, stopped by a budget, moved to another machine."
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest

from lottery_diet.core import project_root
from lottery_diet.figures import main, make_parser, notebook_of, run_figure
from lottery_diet.presets import preset, presets

root = project_root(Path(__file__).parent)

def lottery_diet(*words, runs, **kwargs):
    "The command as a user types it"
    return subprocess.run([sys.executable, '-c', 'import sys; from lottery_diet.figures import main; sys.exit(main())', *map(str, words)], env=os.environ | dict(LOTTERY_DIET_RUNS=str(runs), OMP_NUM_THREADS='1'), capture_output=True, text=True, **kwargs)

@pytest.fixture(scope='module')
def runs(tmp_path_factory): return tmp_path_factory.mktemp('runs')

@pytest.mark.figures
@pytest.mark.parametrize('name', presets)
def test_a_figure_is_drawn_and_redrawn_without_training(name, runs):
    first = lottery_diet('figure', name, runs=runs)
    assert first.returncode == 0, first.stderr[-2000:]
    written = {p.name for p in (runs/'figures').iterdir()}
    assert {f'{name}_smoke.{e}' for e in ('ipynb', 'csv', 'json', 'png', 'pdf')} <= written
    before = {p: p.stat().st_mtime_ns for p in runs.glob('*/*/checksums.json')}
    table = pd.read_csv(runs/'figures'/f'{name}_smoke.csv')
    started = time.perf_counter()
    again = lottery_diet('figure', name, runs=runs)
    assert again.returncode == 0 and time.perf_counter() - started < 40
    assert {p: p.stat().st_mtime_ns for p in runs.glob('*/*/checksums.json')} == before
    pd.testing.assert_frame_equal(table, pd.read_csv(runs/'figures'/f'{name}_smoke.csv'))
    state = lottery_diet('status', name, runs=runs)
    assert state.returncode == 0 and ('minutes left on cpu' if preset(name, 'smoke').tasks() else 'asks for no runs') in state.stdout

@pytest.mark.figures
def test_a_budget_draws_what_is_there_and_says_what_is_missing(tmp_path):
    part = lottery_diet('figure', 'dd_accuracy_vs_sparsity', '--budget', '6s', runs=tmp_path)
    assert part.returncode == 0, part.stderr[-2000:]
    sweep = json.loads((tmp_path/'figures'/'dd_accuracy_vs_sparsity_smoke.json').read_text())['parameters']['sweep']
    assert sweep['left'] > 0 and sweep['run'] > 0 and sum(sweep.values()) == len({t.key for t in preset('dd_accuracy_vs_sparsity', 'smoke').tasks()})

@pytest.mark.figures
def test_what_one_machine_computed_another_draws(runs, tmp_path):
    archive = tmp_path/'runs.zip'
    packed = lottery_diet('pack', archive, runs=runs)
    assert packed.returncode == 0 and archive.is_file(), packed.stderr
    taken = lottery_diet('unpack', archive, runs=tmp_path/'laptop')
    n = len(list(runs.glob('*/*/checksums.json')))
    assert taken.stdout.strip() == f'{n} runs taken in, 0 were there already'
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/'laptop').glob('*/*/checksums.json')}
    drawn = lottery_diet('figure', 'dd_accuracy_vs_sparsity', runs=tmp_path/'laptop')
    assert drawn.returncode == 0 and {p: p.stat().st_mtime_ns for p in (tmp_path/'laptop').glob('*/*/checksums.json')} == before
    ours, theirs = (pd.read_csv(r/'figures'/'dd_accuracy_vs_sparsity_smoke.csv') for r in (runs, tmp_path/'laptop'))
    pd.testing.assert_frame_equal(ours, theirs)

@pytest.mark.parametrize('words, says', [
    (['unpack', 'nowhere.zip'], 'there is no file nowhere.zip: make one'), (['figure', 'dd_accuracy_vs_sparsity', '--budget', 'soon'], "such as '90s', '9m' or '2h'"),
    (['figure', 'dd_accuracy_vs_sparsity', '--workers', '0'], 'workers=0'), (['status', 'dd_accuracy_vs_sparsity', '--seeds', '0'], '--seeds 0 must be')])
def test_what_is_wrong_is_one_sentence_and_exit_code_1(words, says, capsys):
    assert main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith('lottery-diet: ') and says in lines[0]

@pytest.mark.parametrize('words', [['figure', 'no_such_figure'], ['figure', 'dd_accuracy_vs_sparsity', '--scale', 'tiny'], ['fly'], []])
def test_unknown_arguments_are_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as end: main(words)
    assert end.value.code == 2 and 'usage: lottery-diet' in capsys.readouterr().err

def test_help_says_what_each_command_does(capsys):
    for words, says in (([], 'move finished runs'), (['figure'], 'what runs is checkpointed'), (['status'], 'how long the rest would take'), (['pack'], 'zip file')):
        with pytest.raises(SystemExit) as end: main([*words, '--help'])
        assert end.value.code == 0 and says in ' '.join(capsys.readouterr().out.split())
    assert make_parser().prog == 'lottery-diet'

def test_a_damaged_archive_leaves_the_cache_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'runs'))
    (tmp_path/'half.zip').write_bytes(b'PK half of a zip')
    assert main(['unpack', str(tmp_path/'half.zip')]) == 1
    assert 'half.zip cannot be read' in capsys.readouterr().err and not (tmp_path/'runs').exists()

def test_every_figure_has_a_notebook_that_runs_by_plain_papermill():
    for name in presets:
        cells = json.loads(notebook_of(name).read_text())['cells']
        assert any('parameters' in c['metadata'].get('tags', []) for c in cells)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ValueError, match='did you mean'): run_figure('dd_accuracy_vs_sparsity', sclae='smoke')

def test_the_data_diet_preset_is_the_published_protocol():
    "Against the protocol table of the paper's CIFAR-10 experiment, number for number"
    paper = preset('dd_accuracy_vs_sparsity', 'paper')
    r = paper.recipe
    assert (r.steps, r.batch_size, r.lr, r.milestones, r.gamma, r.momentum, r.nesterov, r.weight_decay) == (160*391, 128, .1, (80*391, 120*391), .1, .9, False, 1e-4)
    assert (r.crop, r.flip, r.drop_last, r.warmup) == (4, True, False, 0)
    assert r.normalisation == ((.485, .456, .406), (.229, .224, .225))
    assert (paper.data.name, paper.network.model, paper.rewinds, paper.diet_steps) == ('cifar10', 'resnet20', (0, 200, 400), 200)
    assert (paper.sizes, paper.selects, paper.levels, paper.prune_rate, len(paper.seeds)) == ((256, 512, 1024, 2048, 3200, 6400, 12_800), ('easiest', 'random', 'hardest'), 20, .2, 4)
    j = paper.judge_recipe
    assert (paper.judge.model, paper.judge_steps, paper.judges, j.lr, j.nesterov, j.weight_decay, j.batch_size) == ('resnet18', 7800, 16, .1, True, 5e-4, 128)
