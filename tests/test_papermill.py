"`nbs/05_imp.ipynb` as a user runs it: what it writes, and that it writes nothing when asked for nonsense."
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lottery_diet.core import project_root

root = project_root(Path(__file__).parent)

def papermill(tmp_path, *parameters, notebook='nbs/05_imp.ipynb'):
    "Run a notebook from the command line; its results go to tmp_path/results, its runs beside them"
    given = [word for name, value in {'out_dir': tmp_path/'results', **dict(parameters)}.items() for word in ('-p', name, str(value))]
    return subprocess.run([sys.executable, '-m', 'papermill', root/notebook, tmp_path/'out.ipynb', '--no-progress-bar', *given],
                          capture_output=True, text=True, cwd=tmp_path, env=os.environ | {'LOTTERY_DIET_RUNS': str(tmp_path/'runs')})

def tutorial(tmp_path, name, **parameters):
    "As `papermill`, of a page that writes no results"
    given = [word for k, value in parameters.items() for word in ('-p', k, str(value))]
    page = root/'nbs'/'tutorials'/f'{name}.ipynb'
    return subprocess.run([sys.executable, '-m', 'papermill', page, tmp_path/'out.ipynb', '--no-progress-bar', *given],
                          capture_output=True, text=True, cwd=tmp_path)

def last_line(run): return run.stderr.strip().splitlines()[-1]

@pytest.mark.long
def test_it_finds_tickets_and_writes_table_and_figure(tmp_path):
    run = papermill(tmp_path, ('levels', 2), ('prune_rate', .5), ('select', 'easiest'), ('fraction', .2), ('model', 'lenet_300_100'), ('seed', 3))
    assert run.returncode == 0, run.stderr
    name = 'imp_smoke_easiest0.2_modellenet_300_100_levels2_prune-rate0.5_seed3'
    assert sorted(p.name for p in (tmp_path/'results').iterdir()) == [f'{name}.{e}' for e in ('csv', 'json', 'pdf', 'png')]
    table = pd.read_csv(tmp_path/'results'/f'{name}.csv')
    assert table.arm.value_counts().to_dict() == {'ticket': 2*3, 're-initialized': 2, 'shuffled': 2, 'random': 2} and set(table.pretrain_steps) == {0, 20}
    assert table.groupby('level').density.first().tolist() == [1., .5, .25]
    assert table.accuracy.between(.9, 1).all()

@pytest.mark.parametrize('parameter, sentence', [
    (('fractoin', .1), "ValueError: parameter 'fractoin' is unknown, did you mean 'fraction'?"),
    pytest.param(('fraction', 1.5), 'ValueError: fraction=1.5 must be less than or equal to 1', marks=pytest.mark.long),
    pytest.param(('levels', 'three'), "ValueError: levels='three' must be a valid integer", marks=pytest.mark.long),
    pytest.param(('dataset', 'cifar_10'), "ValueError: dataset 'cifar_10' is unknown, did you mean 'cifar10'?", marks=pytest.mark.long)])
def test_nonsense_stops_it_in_one_sentence(tmp_path, parameter, sentence):
    run = papermill(tmp_path, parameter)
    assert run.returncode != 0 and last_line(run).startswith(sentence)
    assert not (tmp_path/'results').exists()

@pytest.mark.long
def test_a_damaged_data_file_stops_it(tmp_path):
    folder = tmp_path/'data'/'cifar-10-batches-py'
    folder.mkdir(parents=True)
    (folder/'data_batch_1').write_bytes(b'half a file')
    run = papermill(tmp_path, ('dataset', 'cifar10'), ('data_root', tmp_path/'data'))
    assert run.returncode != 0 and last_line(run).startswith('ValueError') and 'data_batch_1 is damaged' in last_line(run)
    assert not (tmp_path/'results').exists()

@pytest.mark.long
def test_a_missing_data_folder_stops_it_and_is_not_made(tmp_path):
    run = papermill(tmp_path, ('dataset', 'mnist'), ('data_root', tmp_path/'dta'))
    assert run.returncode != 0 and last_line(run).startswith('FileNotFoundError: there is no folder') and 'LOTTERY_DIET_DATA' in last_line(run)
    assert not (tmp_path/'results').exists() and not (tmp_path/'dta').exists()

def test_help_names_every_parameter(tmp_path):
    text = subprocess.run([sys.executable, '-m', 'papermill', '--help-notebook', root/'nbs/05_imp.ipynb'], capture_output=True, text=True).stdout
    for name in 'fraction dataset data_root model pretrain_steps select levels prune_rate seed device scale'.split(): assert f'  {name}: ' in text
    assert 'share of the training data used for pre-training' in text and 'Unknown' not in text

@pytest.mark.long
def test_scores_are_saved_and_choose_a_diet_for_their_own_data_only(tmp_path, monkeypatch):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'runs'))
    digits = ('dataset', 'digits')
    run = papermill(tmp_path, digits, ('score', 'grand_last_layer'), ('beside', 'barrier'), ('seeds', 2), ('steps', 30), notebook='nbs/04_scores.ipynb')
    assert run.returncode == 0, run.stderr
    name = 'scores_digits_grand_last_layer_beside-barrier_30steps_2seeds_smoke'
    made = {p.name for p in (tmp_path/'results').iterdir()}
    endings = ('.csv', '.json', '.pdf', '.png', '_grand_last_layer.safetensors', '_barrier.safetensors')
    assert made == {name + ending for ending in endings}
    table = pd.read_csv(tmp_path/'results'/f'{name}.csv')
    assert list(table.columns) == ['image', 'label', 'grand_last_layer', 'barrier'] and len(table) == 1297 and (table.grand_last_layer >= 0).all()
    scores = ('scores', tmp_path/'results'/f'{name}_grand_last_layer.safetensors')
    noisy = papermill(tmp_path, digits, ('label_noise', .2), ('beside', ''), ('seeds', 1), ('steps', 30), notebook='nbs/04_scores.ipynb')
    assert noisy.returncode == 0, noisy.stderr
    of_noise = tmp_path/'results'/'scores_digits_beside-nothing_30steps_noise0.2_1seeds_smoke_el2n.safetensors'
    refused = papermill(tmp_path, digits, ('scores', of_noise), ('select', 'easiest'))
    assert refused.returncode != 0 and 'score it anew' in last_line(refused)
    chosen = papermill(tmp_path, digits, scores, ('select', 'easiest'), ('levels', 1))
    assert chosen.returncode == 0, chosen.stderr

@pytest.mark.long
@pytest.mark.parametrize('parameter, sentence', [
    (('score', 'el3n'), "ValueError: scores.0='el3n' must be"), (('steps', 251), 'ValueError: steps=251 must not exceed the 250 steps'),
    (('label_noise', 2.), 'ValueError: label_noise=2.0 must be less than or equal to 1')])
def test_impossible_scores_are_refused_in_one_sentence(tmp_path, parameter, sentence):
    run = papermill(tmp_path, parameter, notebook='nbs/04_scores.ipynb')
    assert run.returncode != 0 and last_line(run).startswith(sentence), last_line(run)

@pytest.mark.tutorials
@pytest.mark.parametrize('name, parameters, sentence', [
    ('three_papers', dict(diet=5), 'ValueError: diet=5 must be greater than or equal to 10'),
    ('three_papers', dict(level=3), "ValueError: parameter 'level' is unknown, did you mean 'levels'?"),
    ('from_laptop_to_slurm', dict(cluster='slum'), "ValueError: cluster='slum' must be 'slurm' or 'local'")])
def test_a_tutorial_refuses_nonsense_in_one_sentence(tmp_path, name, parameters, sentence):
    run = tutorial(tmp_path, name, **parameters)
    assert run.returncode != 0 and last_line(run).startswith(sentence), last_line(run)

@pytest.mark.tutorials
def test_a_tutorial_takes_parameters(tmp_path):
    run = tutorial(tmp_path, 'three_papers', seeds=1, levels=2, diet=64)
    assert run.returncode == 0, run.stderr[-2000:]
