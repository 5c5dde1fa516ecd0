"Every figure at scale smoke, from the command line: drawn, redrawn without training, stopped by a budget, moved to another machine."
import ast
import inspect
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from pages import run_here

from lottery_diet.cli import main, make_parser
from lottery_diet.core import project_root
from lottery_diet.experiments.answers import Answer, shipped_answer
from lottery_diet.experiments.connectivity import Barriers, Child
from lottery_diet.experiments.sweeps import Sweep, varied, with_needs
from lottery_diet.experiments.tasks import Run, repetitions
from lottery_diet.experiments.workers import answer
from lottery_diet.pages.figure import in_float32, notebook_of, parameters_of, run_figure, run_page, spoken, title_of
from lottery_diet.pages.gallery import about_figures, drawn_in
from lottery_diet.papers.catalogue import figures, panels_of, paper_of, papers, preset, presets
from lottery_diet.papers.data_diet.protocols import rewind_settings
from lottery_diet.papers.data_diet.studies import DietAccuracy
from lottery_diet.papers.stable_subnetworks import figures as syn_figures
from lottery_diet.papers.stable_subnetworks.plots import gain, logged, logs_of
from lottery_diet.papers.why_tickets_win.studies import recipe_columns
from lottery_diet.plots import below_dense, plot_accuracy_vs_sparsity, plot_barriers_by_level, plot_dots, plot_rewinding

root = project_root(Path(__file__).parent)

def lottery_diet(*words, runs, **kwargs):
    "The command as a user types it"
    env = os.environ | dict(LOTTERY_DIET_RUNS=str(runs), OMP_NUM_THREADS='1')
    call = 'import sys; from lottery_diet.cli import main; sys.exit(main())'
    return subprocess.run([sys.executable, '-c', call, *map(str, words)], env=env, capture_output=True, text=True, **kwargs)

@pytest.fixture(scope='session')
def runs(tmp_path_factory):
    "One cache for the processes that test side by side: what two figures share is trained once"
    base = tmp_path_factory.getbasetemp()
    return (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base)/'figures'

class Answered:
    "Where all is answered: by a CPU that multiplies bfloat16, by one that does not, or by one of which nothing is known"
    def __init__(self, **said): self.said = said
    def rows(self, task): return Answer([], self.said)

def test_a_title_says_which_trainings_were_in_float32():
    "Of those that ask for bfloat16: older answers, which do not say, were in bfloat16"
    done = Sweep(None, dict(cached=1, run=0, failed=0, left=0))
    for name, scale in (('win_one_shot', 'mini'), ('win_barriers', 'mini'), ('dd_noisy_labels', 'smoke')):
        study = preset(name, scale)
        trained = sum(task.kind in ('dense', 'ticket', 'control') for task in with_needs(study.tasks())) if name == 'win_one_shot' else 0
        for run, full in ((Answered(bfloat16=False), trained), (Answered(bfloat16=True), 0), (Answered(), 0)):
            assert in_float32(study.tasks(), run) == (full, trained)
            title = title_of('Accuracy', study, scale, done, run=run).replace('\u00a0', ' ')
            assert (f'; {full} of {trained} trainings in float32' in title) == bool(full) and 'float32' not in title_of('Accuracy', study, scale, done)

def stamps(runs, name):
    "When each finished run of a figure was written"
    keys = {task.key for task in with_needs(preset(name, 'smoke').tasks())}
    return {p.parent.name: p.stat().st_mtime_ns for p in runs.glob('*/*/checksums.json') if p.parent.name.rsplit('-', 1)[-1] in keys}

@pytest.mark.parametrize('name', presets)
def test_what_a_notebook_lists_is_what_it_can_be_asked(name):
    cells = json.loads(notebook_of(name).read_text())['cells']
    asked = ''.join(next(c for c in cells if 'parameters' in c['metadata'].get('tags', ()))['source'])
    listed = {line.target.id for line in ast.parse(asked).body if isinstance(line, ast.AnnAssign)}
    assert listed == set(parameters_of(name).model_fields)

@pytest.mark.figures
@pytest.mark.parametrize('name', presets)
def test_a_figure_is_drawn_and_redrawn_without_training(name, runs, tmp_path, capsys):
    draw_here(name, runs, tmp_path)
    assert {f'{name}_smoke.{e}' for e in ('csv', 'json', 'png', 'pdf')} <= {p.name for p in (runs/'figures').iterdir()}
    before = stamps(runs, name)
    def origin(): return json.loads((runs/'figures'/f'{name}_smoke.json').read_text())
    table, effort = pd.read_csv(runs/'figures'/f'{name}_smoke.csv'), origin()['provenance'].get('answers')
    asked = {task.key for task in preset(name, 'smoke').tasks()}
    if asked: assert effort['tasks'] == len(before) and effort['minutes'] > 0
    draw_here(name, runs, tmp_path)
    if asked: assert origin()['parameters']['sweep'] == dict(cached=len(asked), run=0, failed=0, left=0)
    assert stamps(runs, name) == before and len(before) >= len(asked)
    pd.testing.assert_frame_equal(table, pd.read_csv(runs/'figures'/f'{name}_smoke.csv'))
    assert origin()['provenance'].get('answers') == effort # of the runs, not of the drawing
    assert ('minutes left on cpu' if asked else 'asks for no runs') in said('status', name, runs=runs, capsys=capsys)

@pytest.mark.figures
@pytest.mark.parametrize('name', ['dd_gradient_alignment', 'win_regions', 'syn_masks'])
def test_the_command_draws_a_figure_beside_its_executed_page(name, runs, tmp_path):
    "One of each paper: its own process, a kernel, papermill"
    drawn = lottery_diet('figure', name, '--out', tmp_path, runs=runs)
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    assert {f'{name}_smoke.{e}' for e in ('ipynb', 'csv', 'json', 'png', 'pdf')} <= {p.name for p in tmp_path.iterdir()}

def all_shipped(name):
    "Is a figure with a committed table at mini answered whole by rows that came with the package?"
    tasks = preset(name, 'mini').tasks()
    return bool(tasks) and any(root.glob(f'results/*_mini/{name}_mini.csv')) and all(shipped_answer(task.kind, task.key) for task in tasks)

def test_what_is_shipped_is_whole():
    "A changed key would make rows useless, and the figures below it silently fewer"
    assert {name for name in presets if all_shipped(name)} >= {
        'dd_accuracy_vs_sparsity', 'dd_accuracy_vs_subset_size', 'dd_noisy_labels', 'dd_example_barriers', 'dd_el2n_vs_barrier', 'dd_early_dynamics',
        'dd_gradient_alignment', 'win_repel', 'win_regions', 'win_weights', 'win_barriers', 'win_one_shot'}

@pytest.mark.figures
@pytest.mark.parametrize('name', [*filter(all_shipped, presets)])
def test_a_committed_figure_is_redrawn_from_a_fresh_clone_without_a_training(name, tmp_path, monkeypatch):
    "From an empty cache: the same table, and nothing is computed"
    monkeypatch.setattr(Run, 'train', lambda *args, **kwargs: pytest.fail('it trains'))
    draw_here(name, tmp_path/'runs', tmp_path, scale='mini')
    drawn, origin = (tmp_path/'runs'/'figures'/f'{name}_mini.{kind}' for kind in ('csv', 'json'))
    counts = json.loads(origin.read_text())['parameters']['sweep']
    assert (counts['run'], counts['failed'], counts['left']) == (0, 0, 0) and counts['shipped'] == len({task.key for task in preset(name, 'mini').tasks()})
    assert not [*(tmp_path/'runs').glob('*/*/config.json')]
    committed, = root.glob(f'results/*_mini/{name}_mini.csv')
    pd.testing.assert_frame_equal(pd.read_csv(drawn), pd.read_csv(committed))

@pytest.mark.figures
def test_a_budget_draws_what_is_there_and_says_what_is_missing(tmp_path, monkeypatch):
    "Time is up behind the third task that was answered, however fast this machine is"
    done = []
    def until_the_third(task, run):
        status, reason = answer(task, replace(run, deadline=0.) if len(done) == 3 else run)
        if status == 'run': done.append(task)
        return status, reason
    monkeypatch.setattr('lottery_diet.experiments.sweeps.answer', until_the_third)
    draw_here('dd_accuracy_vs_sparsity', tmp_path, tmp_path, budget='1h')
    sweep = json.loads((tmp_path/'figures'/'dd_accuracy_vs_sparsity_smoke.json').read_text())['parameters']['sweep']
    assert sweep['run'] == 3 and sweep['left'] > 0 and sum(sweep.values()) == len({t.key for t in preset('dd_accuracy_vs_sparsity', 'smoke').tasks()})

@pytest.mark.figures
def test_what_one_machine_computed_another_draws(runs, tmp_path):
    archive, name = tmp_path/'runs.zip', 'dd_accuracy_vs_sparsity'
    smoke(runs, name, tmp_path)
    packed = lottery_diet('pack', archive, runs=runs)
    assert packed.returncode == 0 and archive.is_file(), packed.stderr
    taken = lottery_diet('unpack', archive, runs=tmp_path/'laptop')
    n = len(list((tmp_path/'laptop').glob('*/*/checksums.json')))
    assert n >= len(stamps(runs, name))
    assert taken.stdout.strip() == f'{n} runs taken in, 0 were there already'
    before = stamps(tmp_path/'laptop', name)
    drawn = lottery_diet('figure', name, runs=tmp_path/'laptop')
    assert drawn.returncode == 0 and stamps(tmp_path/'laptop', name) == before and set(before) == set(stamps(runs, name))
    ours, theirs = (pd.read_csv(r/'figures'/f'{name}_smoke.csv') for r in (runs, tmp_path/'laptop'))
    pd.testing.assert_frame_equal(ours, theirs)

@pytest.mark.parametrize('words, says', [
    (['unpack', 'nowhere.zip'], 'there is no file nowhere.zip: make one'),
    (['figure', 'dd_accuracy_vs_sparsity', '--budget', 'soon'], "such as '90s', '9m' or '2h'"),
    (['figure', 'dd_accuracy_vs_sparsity', '--workers', '0'], 'workers=0'), (['status', 'dd_accuracy_vs_sparsity', '--seeds', '0'], 'seeds=0 must be')])
def test_what_is_wrong_is_one_sentence_and_exit_code_1(words, says, capsys):
    assert main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith('lottery-diet: ') and says in lines[0]

@pytest.mark.parametrize('words', [['figure', 'no_such_figure'], ['figure', 'dd_accuracy_vs_sparsity', '--scale', 'tiny'], ['fly'], []])
def test_unknown_arguments_are_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as end: main(words)
    assert end.value.code == 2 and 'usage: lottery-diet' in capsys.readouterr().err

@pytest.mark.parametrize('words, says', [
    ([], 'move finished runs'), (['figure'], 'what runs is checkpointed'), (['status'], 'how long the rest would take'), (['pack'], 'zip file')])
def test_help_says_what_each_command_does(words, says, capsys):
    with pytest.raises(SystemExit) as end: main([*words, '--help'])
    assert end.value.code == 0 and says in ' '.join(capsys.readouterr().out.split())
    assert make_parser().prog == 'lottery-diet'

def test_a_damaged_archive_leaves_the_cache_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'runs'))
    (tmp_path/'half.zip').write_bytes(b'PK half of a zip')
    assert main(['unpack', str(tmp_path/'half.zip')]) == 1
    assert 'half.zip cannot be read' in capsys.readouterr().err and not (tmp_path/'runs').exists()

def test_every_figure_says_what_it_shows_and_how_certain_that_is():
    about = about_figures()
    assert set(about.index[about.paper != '']) == set(presets) and about[about.paper != ''].map(bool).all(axis=None)

def test_a_gallery_of_no_figures_is_refused(tmp_path, capsys):
    assert main(['gallery', '--out', str(tmp_path/'page.html'), '--figures', str(tmp_path)]) == 1
    assert 'draw one with lottery-diet figure' in capsys.readouterr().err and not list(tmp_path.iterdir())

def test_every_figure_has_a_notebook_that_runs_by_plain_papermill():
    for name in presets:
        cells = json.loads(notebook_of(name).read_text())['cells']
        assert any('parameters' in c['metadata'].get('tags', []) for c in cells)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ValueError, match='did you mean'): run_figure('dd_accuracy_vs_sparsity', sclae='smoke')

def sentences_of(page):
    "Of all its Markdown"
    cells = json.loads(page.read_text(encoding='utf-8'))['cells']
    return [s for cell in cells if cell['cell_type'] == 'markdown' for s in re.split(r'(?<=\.) ', ' '.join(''.join(cell['source']).split()))]

networks = {spoken[asked.network.model] for panels in figures.values() for by_scale in panels.values() for asked in by_scale.values()
            if getattr(asked, 'network', None) and asked.network.model in spoken}

def networks_in(sentences, word):
    "Networks that are named in sentences with a word"
    text = ' '.join(s for s in sentences if word in s)
    return {name for name in networks if re.search(rf'(?<![\w-]){name}(?!\d)', text)}

def test_a_paper_lists_no_network_that_only_another_asks_for():
    for paper, own in papers.items():
        asked = [by_scale['paper'] for panels in own.figures.values() for by_scale in panels.values() if hasattr(by_scale.get('paper'), 'network')]
        said = networks_in(sentences_of(root/'nbs'/'papers'/paper/'index.ipynb'), 'At scale `paper`')
        assert said and said <= {spoken[a.network.model] for a in asked}, paper

def test_a_page_that_names_networks_of_mini_names_those_of_today_and_of_the_committed_table():
    named = {}
    for name in presets:
        if said := networks_in(sentences_of(notebook_of(name)), '`mini`'):
            tables = [json.loads(file.read_text()) for file in root.glob(f'results/*_mini/{name}_mini.json')]
            models = {preset(name, 'mini').network.model, *(table['parameters']['figure']['network']['model'] for table in tables)}
            assert {spoken[model] for model in models} <= said, name
            named[name] = said
    assert {'win_batch_size', 'win_instability'} <= {*named}

def test_a_page_is_replaced_when_it_is_whole(tmp_path, monkeypatch):
    "Two processes may draw one figure into one folder, and each reads the page that stands there"
    page = tmp_path/'page.ipynb'
    page.write_text('{"cells": [], "metadata": {}}')
    def execute(source, out, *_, **__):
        assert Path(out) != page and json.loads(page.read_text())['cells'] == []
        Path(out).write_text(Path(source).read_text())
    monkeypatch.setattr('papermill.execute_notebook', execute)
    run_page(notebook_of('dd_schematic'), page, {})
    assert json.loads(page.read_text())['cells'] and os.listdir(tmp_path) == ['page.ipynb']

def test_committed_pages_lie_beside_their_tables_and_name_no_machine():
    pages = sorted((project_root()/'results').rglob('*.ipynb'))
    assert pages
    for page in pages:
        text = page.read_text()
        assert page.with_suffix('.csv').is_file() and str(project_root()) not in text and 'papermill' not in json.loads(text)['metadata'], page
        assert not re.search(r'"[^"]*(?<![\w.])/(?:home|Users|root|tmp|work)/', text), page

def test_what_a_committed_table_says_it_is_by_tells_its_rows_apart():
    tables = [d for d in drawn_in(project_root()/'results') if d.parts[0] not in ('dd_schematic', 'syn_schematic')]
    assert len(tables) > 40
    for d in tables:
        table, by = d.table, d.origin['by']
        assert by and set(by) <= set(table) and not set(by) & {*repetitions, 'accuracy', 'loss', 'density', 'barrier'}, d.picture
        assert not table.duplicated([*by, *table.columns.intersection(repetitions)]).any(), d.picture

ladders = dict(dd=DietAccuracy.diet, win=recipe_columns, rewinding=['pretrain_steps'], rewind_mnist=['pretrain_steps'], longer_trainings=['steps'])

def below_own(path, table):
    "Points below the dense network of the same replicate, as a table's other columns say it"
    if 'ticket_accuracy' in table: return 100*(table.dense_accuracy - table.ticket_accuracy)
    if 'dense' in table: return 100*(table.dense - table.ticket)
    trained = table[table.bin_left.isna()] if 'bin_left' in table else table
    levels = trained if 'level' in table else trained.assign(level=(trained.arm != 'dense').astype(int))
    return below_dense(levels, ladders.get(path.stem.split('_')[0], ladders.get(path.parent.name, [])))['drop'].reindex(table.index)

def holds_dense(table):
    "Has it test accuracies of dense networks, beside those of tickets?"
    if {'dense', 'dense_accuracy'} & {*table}: return True
    if 'accuracy' not in table or 'density' not in table or 'alpha' in table: return False
    return bool((table.level == 0).any()) if 'level' in table else 'dense' in {*table.arm}

def test_committed_tables_say_how_far_each_network_lies_below_its_dense_one():
    "In points, as `below_dense` has it today, also where a table is older than the column; random labels are no test"
    tables = {path: pd.read_csv(path) for path in sorted((root/'results').rglob('*.csv')) if path.parent.name != 'random_labels'}
    found = {path: table for path, table in tables.items() if holds_dense(table)}
    assert {'tickets', 'first_five_seeds', 'dd_barrier_vs_accuracy_mini'} <= {path.stem for path in found} and len(found) > 18
    for path, table in found.items():
        assert 'drop' in table, path
        expected = below_own(path, table)
        assert expected.notna().any() and (expected - table['drop']).abs().max() < 1e-9 and (expected.isna() == table['drop'].isna()).all(), path

def test_the_chapter_on_tickets_measures_from_the_dense_network_of_the_same_ladder(tmp_path):
    "Two rewind points whose dense networks differ, as those of diets do"
    study = varied(rewind_settings['smoke', 'any'], dict(levels=1, controls=('shuffled',)))
    class Told(Run):
        def rows(self, task):
            ticket = getattr(task, 'ticket', task)
            on_diet, level = hasattr(ticket, 'pretrain') and ticket.pretrain.steps > 0, getattr(ticket, 'level', 0)
            return Answer([dict(step=250, density=1., loss=0., accuracy=.9 + .05*on_diet - .1*level, training_loss=0., collapsed='')], {})
    found = study.table(Told(root=tmp_path, shipped=False))
    assert list(found) == list(study.columns) == list(study.table(Run(root=tmp_path, shipped=False)))
    assert set(found[found.level == 0].accuracy.round(9)) == {.9, .95}
    assert {arm: {round(v, 9) for v in rows['drop']} for arm, rows in found.groupby('arm')} == dict(ticket={0., 10.}, shuffled={10.})

def test_initializations_against_barriers_are_counted_as_published():
    "At two replicates three rewind points, and two steps of random and easiest images, and barriers seen at two steps, each in three sizes"
    assert len(list(preset('dd_barrier_vs_accuracy', 'paper').pretrainings())) == 2*(3 + 2*3 + 2*3 + 2*3)

def test_gradients_are_compared_between_sixteen_batches():
    assert {(task.batches, task.batch_size) for task in preset('dd_gradient_alignment', 'paper').tasks() if task.kind == 'gradient-agreement'} == {(16, 128)}

@pytest.mark.figures
def test_a_panel_is_drawn_from_the_command_line(runs):
    drawn = lottery_diet('figure', 'dd_accuracy_vs_subset_size', '--panel', 'E', '--seeds', '1', runs=runs)
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    table = pd.read_csv(runs/'figures'/'dd_accuracy_vs_subset_size_E_1seeds_smoke.csv')
    assert sorted(table[table.arm == 'all'].pretrain_steps.unique()) == [0, 20, 40] and set(table[table.arm != 'all'].pretrain_steps) == {20}
    refused = lottery_diet('figure', 'dd_noisy_labels', '--panel', 'E', runs=runs)
    assert refused.returncode == 2 and '--panel E; it takes --help, --scale' in refused.stderr.splitlines()[-1]

@pytest.mark.figures
@pytest.mark.long
@pytest.mark.parametrize('name', [name for name in presets if presets[name]['paper'].tasks()])
def test_a_figure_of_which_nothing_is_computed_is_drawn_empty(name, tmp_path):
    "At the paper's scale, without its data or a GPU: published values lie in an empty frame, and the title says what is missing"
    draw_here(name, tmp_path, tmp_path, scale='paper', budget='0s')
    assert json.loads((tmp_path/'figures'/f'{name}_paper.json').read_text())['parameters']['sweep']['left'] > 0

def draw_here(name, runs, folder, **parameters): run_here(notebook_of(name), runs, folder, **parameters)

def said(*words, runs, capsys):
    "What a command that does well prints, in this process"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOTTERY_DIET_RUNS', str(runs))
        assert main([*words]) == 0
    return capsys.readouterr().out

def smoke(runs, name, folder):
    "A figure's table, drawn before or now"
    if not (file := runs/'figures'/f'{name}_smoke.csv').is_file(): draw_here(name, runs, folder)
    return pd.read_csv(file)

@pytest.mark.figures
def test_figures_of_distilled_pruning_hold_what_they_say(runs, tmp_path):
    "Points, arms and levels; what each looks at lies in the same runs"
    names = ('barrier_surface', 'landscape', 'hessian', 'masks', 'ratio', 'then_imp', 'predecessor')
    paths, planes, curves, masks, ratios, first, before = (smoke(runs, f'syn_{name}', tmp_path) for name in names)
    assert (paths.groupby(['arm', 'level', 'pair']).alpha.apply(list).map(len) == 11).all()
    assert set(paths.arm) == {'dense', 'imp', 'distilled'} and set(paths.level) == {0, 1, 3, 5}
    assert (planes.groupby(['arm', 'level']).size() == 15**2).all() and set(planes.arm) == {'dense', 'imp', 'distilled'}
    assert (planes.groupby('arm').x.max() == 1.5).all() and planes.loss.gt(0).all()
    assert set(zip(curves.arm, curves.level)) == {('dense', 0)} | {(arm, level) for arm in ('imp', 'distilled') for level in (3, 5)}
    assert (curves.sampled == curves.living).all() and (curves.error == 0).all() # exact
    assert (curves.smallest <= curves['mean']).all() and (curves['mean'] <= curves.largest).all()
    assert (curves.spread_with_zeros <= curves.spread)[curves.level > 0].all()
    assert ((curves.trace - curves['mean']*curves.living).abs() < 5*curves.trace_error).all() # two ways to the same number
    assert set(masks.arm) | set(masks.other) == {'imp', 'distilled', 'real', 'noise'} and len(masks) == 2*3*6
    assert masks[['jaccard', 'jaccard_by_chance', 'hamming', 'hamming_by_chance']].stack().between(0, 1).all()
    assert len(ratios) == 2*2*ratios.seed.nunique() and set(ratios.stored) == {1, 2} and (ratios.groupby(['seed', 'level']).accuracy_imp.nunique() == 1).all()
    assert set(first.arm) == {'imp, k=0', 'imp, k=20', 'distilled', 'distilled, then imp'}
    assert sorted(first[first.arm == 'distilled, then imp'].level.unique()) == [4, 5]
    assert set(before.arm) == {'imp, k=0', 'imp, k=20', 'distilled', 'distilled, leaked', 'real', 'noise', 'random'}
    for table in (first, before): assert table.groupby('level').density.nunique().max() == 1 # one number of weights at a level, whatever found them

def test_searches_cost_as_many_images_as_published():
    "150 times fewer as they are stored, 37.5 times as the network sees them (SYN, Fig. 2 right)"
    cost = preset('syn_accuracy_vs_sparsity', 'paper').images_seen(50_000, 10)
    assert (cost['imp'], cost['distilled']) == ((15e6, 15e6), (4e5, 1e5))

def test_forgetting_is_counted_as_in_the_released_code():
    "200 epochs of 390 batches, on the batches themselves, in a training of its own"
    p = preset('dd_forgetting_vs_el2n', 'paper')
    assert {(j.recipe, j.steps, j.counted) for j in p.panel('forgetting')} == {(p.forgetting_recipe, 200*390, 'batches')}
    assert {(j.recipe, j.steps, j.counted, j.mode) for j in p.panel('el2n')} == {(p.judge_recipe, 7800, 'epochs', 'evaluation')}

def test_judges_can_belong_to_their_replicate():
    shared, own = (varied(preset('dd_accuracy_vs_sparsity', 'paper'), dict(judges_each=each)) for each in (False, True))
    def judges(figure, seed): return {j.key for j in figure.panel(seed=seed)}
    assert judges(shared, 0) == judges(shared, 1) == judges(own, 0) and not judges(own, 0) & judges(own, 1)
    assert {t.pretrain.seed for t in own.tasks() if getattr(t, 'pretrain', None)} == set(own.seeds)
    assert all({j.seed for j in t.pretrain.judges} <= {t.pretrain.seed} for t in own.tasks() if getattr(t, 'pretrain', None))

def test_a_panel_that_is_not_drawn_at_a_scale_is_refused():
    with pytest.raises(ValueError, match='panel E of syn_ratio is drawn at paper only'): preset('syn_ratio', 'mini', panel='E')
    with pytest.raises(ValueError, match="'E' is unknown"): preset('syn_barrier_surface', 'paper', panel='E')

def test_small_figures_of_distilled_pruning_read_the_runs_of_the_first():
    "At mini only what a figure is about is trained beyond them"
    def asked(name): return with_needs(preset(f'syn_{name}', 'mini').tasks())
    first = {t.key for t in asked('accuracy_vs_sparsity')}
    own = dict(masks={'MaskOverlap', 'LayerDensities'}, barrier_surface={'Barriers', 'Paths'}, landscape={'Surface', 'Places'}, hessian={'Sharpness'})
    assert {name: {type(t).__name__ for t in asked(name) if t.key not in first} for name in own} == own

def test_the_keys_of_smoke_are_what_they_were():
    "A key that changes orphans every answer that is kept under it: tests/smoke_keys.txt holds them, kind by kind"
    found = {f'{task.kind} {task.key}' for figure in presets for panel in panels_of(figure) or [None] if 'smoke' in figures[figure][panel or 'A']
             for task in with_needs(preset(figure, 'smoke', panel=panel).tasks())}
    assert sorted(found) == (root/'tests'/'smoke_keys.txt').read_text(encoding='utf-8').splitlines()

drawn = [name for name in presets if find_spec(f'lottery_diet.papers.{paper_of[name]}.figures')]

def draw_of(name):
    "The function that draws a figure"
    return getattr(import_module(f'lottery_diet.papers.{paper_of[name]}.figures'), f'draw_{name.split("_", 1)[1]}')

def tables_of(study):
    "Its methods that read a table from a run, by name"
    for name, method in inspect.getmembers(type(study), inspect.isfunction):
        asked = inspect.signature(method)
        required = [k for k, p in asked.parameters.items() if p.default is p.empty]
        if asked.return_annotation is pd.DataFrame and required == ['self', 'run']: yield name, getattr(study, name)

@pytest.mark.parametrize('name', [name for name in drawn if not name.startswith('syn_')]) # those are handed more: see below
def test_a_figure_is_drawn_of_a_table_without_rows(name, tmp_path):
    "A frame without a curve, without an error, without a warning"
    study = preset(name, 'smoke')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fig = draw_of(name)(study.table(Run(root=tmp_path, device='cpu', shipped=False)), study, title='nothing yet')
        fig.draw_without_rendering()
        assert fig.axes and 'nothing yet' in [text.get_text() for text in fig.texts]
        plt.close(fig)

@pytest.mark.parametrize('name', drawn)
def test_a_study_says_what_it_measures_before_anything_is_answered(name, tmp_path):
    nothing, study = Run(root=tmp_path, device='cpu', shipped=False), preset(name, 'smoke')
    assert list(study.table(nothing).columns) == list(study.columns)
    for method, table_of in tables_of(study):
        empty = table_of(nothing)
        assert not len(empty) and (len(empty.columns) or not study.tasks()), method
        numbers = empty.select_dtypes('number')
        assert not (numbers > 0).to_numpy().any() and len(numbers.columns) > len(empty.columns)/2 or not study.tasks(), method

@pytest.mark.figures
@pytest.mark.parametrize('name', drawn)
def test_an_answered_table_has_the_columns_that_its_study_says(name, runs, tmp_path):
    smoke(runs, name, tmp_path)
    study = preset(name, 'smoke')
    for method, table_of in tables_of(study):
        empty, filled = (table_of(Run(root=root, device='cpu', shipped=False)) for root in (tmp_path, runs))
        assert list(filled.columns) == list(empty.columns), method
        assert set(filled.select_dtypes('number')) <= set(empty.select_dtypes('number')), method

@pytest.mark.parametrize('name', drawn)
def test_a_page_reads_opens_draws_and_saves(name):
    "What is longer is a function; what depends on whether there are rows is a table that knows its columns"
    code = [''.join(c['source']) for c in json.loads(notebook_of(name).read_text())['cells'] if c['cell_type'] == 'code']
    assert max(len(cell.splitlines()) for cell in code) <= 15
    assert not [cell for cell in code if 'if len(' in cell]
    assert [cell for cell in code if f'= draw_{name.split("_", 1)[1]}(' in cell and len(cell.splitlines()) <= 4]

# figures of stable subnetworks

def drawn_of(name, study, run):
    "What a figure's page hands to its draw function"
    def published(name): return pd.read_csv(project_root()/'data'/'published'/f'distilled_{name}.csv')
    table = study.table(run)
    given = dict(
        accuracy_vs_sparsity=lambda: (study.with_images(below_dense(table)), study, study.barriers(run)), barrier_surface=lambda: (table, study),
        landscape=lambda: (table, study, study.solutions(run)), hessian=lambda: (table, study, published('hessian_diagonal')),
        masks=lambda: (table, study, study.layers(run)), ratio=lambda: (table, study), then_imp=lambda: (below_dense(table), study),
        predecessor=lambda: (
            below_dense(table), study, published('pruning_accuracy'), study.seconds(run), published('pruning_wall_clock'), None))
    return getattr(syn_figures, f'draw_{name}')(*given[name](), title='made up: scale none')

syn_names = [name.removeprefix('syn_') for name in presets if name.startswith('syn_') and name != 'syn_schematic']

@pytest.mark.parametrize('scale', ['smoke', pytest.param('paper', marks=pytest.mark.long)])
@pytest.mark.parametrize('name', syn_names)
def test_figures_of_distilled_pruning_are_drawn_where_nothing_is_answered(name, scale, tmp_path):
    "Without a warning; what is drawn then is published, or a frame"
    letters = [letter for letter in panels_of(f'syn_{name}') or [None] if scale in figures[f'syn_{name}'][letter or 'A']]
    for panel in letters:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            fig = drawn_of(name, preset(f'syn_{name}', scale, panel=panel), Run(root=tmp_path, shipped=False))
            fig.canvas.draw()
        assert fig.axes and fig.get_suptitle() == 'made up: scale none'
        plt.close(fig)

@pytest.mark.parametrize('name', syn_names)
def test_tables_of_distilled_pruning_have_columns_without_answers(name, tmp_path):
    "Numbers are numbers there too, so that they can be averaged and compared"
    study, run = preset(f'syn_{name}', 'smoke'), Run(root=tmp_path, shipped=False)
    assert list(study.table(run).columns) == list(study.columns)
    tables = [getattr(study, of)(run) for of in ('table', 'barriers', 'layers', 'solutions', 'seconds') if hasattr(study, of)]
    for table in tables: assert len(table) == 0 and table.mean(numeric_only=True).isna().all() and not (table.level > 0).any()

@pytest.mark.figures
@pytest.mark.parametrize('name', syn_names)
def test_columns_of_distilled_pruning_are_the_same_with_answers(name, runs, tmp_path):
    smoke(runs, f'syn_{name}', tmp_path)
    study, (full, empty) = preset(f'syn_{name}', 'smoke'), (Run(root=root, shipped=False) for root in (runs, tmp_path))
    for of in ('table', 'barriers', 'layers', 'solutions', 'seconds'):
        if not hasattr(study, of): continue
        found, none = (getattr(study, of)(run) for run in (full, empty))
        assert (len(found) or of == 'barriers' and study.children == 1) and list(found.columns) == list(none.columns), of

def test_a_drop_is_measured_from_the_dense_network_of_the_same_replicate(tmp_path):
    "Two replicates whose dense networks differ, one mask of each: 10 and 2 points, not the mean's 6"
    study = preset('syn_ratio', 'smoke')
    class Told(Run):
        def rows(self, task):
            if isinstance(task, Child):
                accuracy = .9 + .05*task.pretrain.seed if task.ticket is None else .8 + .13*task.pretrain.seed
                return Answer([dict(density=1., accuracy=accuracy, loss=0., collapsed='')], {})
            if isinstance(task, Barriers): return Answer([dict(step=0, pair='0-1', loss_middle=.1)], {})
    found = study.table(Told(root=tmp_path, shipped=False))
    assert len(found) == 2*2*2 and found.groupby('seed').drop.apply(lambda v: {round(x, 9) for x in v}).tolist() == [{10.}, {2.}]

def test_what_the_predecessor_logged_says_that_re_initialized_weights_do_as_well():
    "Two seeds at each of thirteen levels, down to 5.5 % of the weights: never 0.6 points apart in the mean"
    logs = pd.read_csv(project_root()/'data'/'published'/'distilled_pruning_accuracy.csv')
    found = gain(logs_of(logs, 'A'), 'imp, k=1 epoch, re-initialized', 'imp, k=1 epoch').iloc[:13]
    assert [v.n for v in found] == [2]*13 and max(abs(v.mean) for v in found) < .6
    for panel, (_, _, methods) in logged.items(): assert set(logs_of(logs, panel).method) == set(methods.values())

# what all figures are drawn with

def names_on(ax):
    "What its legend says"
    return [text.get_text() for text in ax.get_legend().get_texts()]

@pytest.mark.parametrize('replicates', [1, 2, 3])
def test_a_legend_names_each_kind_of_band_and_dot_that_is_drawn(replicates):
    "Bands of means are t-intervals, the gray one of dense networks is a standard deviation, dots are replicates"
    table = pd.DataFrame([dict(arm='ticket', pretrain_steps=0, seed=seed, level=level, density=.4**level, accuracy=.8 - .01*level + .004*seed)
                          for seed in range(replicates) for level in range(3)]).assign(loss_middle=lambda t: .1*t.seed)
    _, axes = plt.subplots(1, 3)
    plot_rewinding(table, axes[0]), plot_accuracy_vs_sparsity(table, axes[1]), plot_barriers_by_level(table, table.groupby('level').density.mean(), axes[2])
    for ax, line in zip(axes, ('rewound to step 0', 'ticket')):
        assert names_on(ax) == [line, *['colored bands: 95 % t-interval']*(replicates > 2), 'dense' if replicates == 1 else 'dense ± std']
        assert bool(ax.collections) == (replicates > 2)
    assert names_on(axes[2]) == ['children of step 0', *['a replicate; lines are means']*(replicates > 1)]
    plt.close('all')

def test_panels_that_share_an_axis_have_numbers_where_they_have_a_label():
    fig, axes = plt.subplots(2, 1, sharex=True)
    for ax in axes: plot_dots(pd.DataFrame(dict(arm=['a', 'b'], accuracy=[.8, .9])), ax, 'arm')
    fig.draw_without_rendering()
    for ax in axes: assert ax.get_xlabel() and any(tick.label1.get_visible() and tick.label1.get_text() for tick in ax.xaxis.get_major_ticks())
    plt.close(fig)

def test_no_page_leaves_a_title_to_break_anywhere():
    "`title_above` breaks it where its lines are about equally long: matplotlib's own wrapping may orphan a word"
    pages = [page for page in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in page.parts]
    assert not [page for page in pages for c in json.loads(page.read_text())['cells'] if c['cell_type'] == 'code' and 'wrap=True' in ''.join(c['source'])]
# published values beside ours, and committed tables drawn by today's code

published_accuracy = pd.read_csv(root/'data'/'published'/'data_diet_accuracy.csv')
def mini_table(name): return pd.read_csv(root/'results'/f'{name.split("_")[0]}_mini'/f'{name}_mini.csv').fillna(dict(score=''))
def is_published(ax): return ax.get_title().startswith('published')
def labels_of(axes): return {label for ax in axes for label in ax.get_legend_handles_labels()[1]}

dense_of_panels = {'A': 400, 'C': 800, 'D': 400, 'E': 400} # rewind point of all data whose level 0 the paper draws as a line

@pytest.mark.parametrize('name, panel', [
    *((f'dd_accuracy_vs_{what}', panel) for what in ('sparsity', 'subset_size') for panel in dense_of_panels), ('dd_noisy_labels', None)])
def test_the_published_dense_line_has_the_papers_rewind_point_and_std(name, panel, tmp_path):
    "Beside ours at small scales, under ours at the paper's: without it nobody reads from published curves what matches"
    theirs, t = preset(name, 'paper', panel=panel), published_accuracy
    of_all = t[(t.dataset == theirs.data.name) & (t.arm == 'all') & (t.level == 0) & (t.label_noise == 0)]
    dense = of_all[of_all.pretrain_steps == dense_of_panels[panel or 'A']]
    mean, std = (100*dense[column].item() for column in ('accuracy_mean', 'accuracy_std'))
    for study, beside in ((preset(name, 'smoke', panel=panel), theirs), (theirs, None)):
        fig = draw_of(name)(study.table(Run(root=tmp_path, device='cpu', shipped=False)), study, published_accuracy, beside, 'none of ours')
        axes = [ax for ax in fig.axes if ax.axison and (is_published(ax) or not beside)]
        assert axes
        for ax in axes:
            assert [line.get_ydata()[0] for line in ax.lines if line.get_ls() == '-.'] == pytest.approx([mean])
            assert (ax.patches[0].get_y(), ax.patches[0].get_height()) == pytest.approx((mean - std, 2*std))
        assert any('dense ± std' in label for label in labels_of(axes))
        plt.close(fig)

def test_curves_of_one_network_are_not_drawn_for_another(tmp_path):
    "No results of VGG-16 are published"
    study = preset('dd_accuracy_vs_sparsity', 'paper', panel='V')
    fig = draw_of('dd_accuracy_vs_sparsity')(study.table(Run(root=tmp_path, device='cpu', shipped=False)), study, published_accuracy)
    assert not any(ax.lines for ax in fig.axes)
    plt.close(fig)

def test_published_wrong_labels_stand_beside_ours_by_their_share():
    "A tenth is all that is published of wrong labels: it has panels of its own, and no arm or size that the figure does not ask for"
    study, theirs = preset('dd_noisy_labels', 'mini'), preset('dd_noisy_labels', 'paper')
    fig = draw_of('dd_noisy_labels')(mini_table('dd_noisy_labels'), study, published_accuracy, theirs, 'made up')
    beside = [ax for ax in fig.axes if is_published(ax)]
    assert [f'{share} % of labels random' in ax.get_title() for ax, share in zip(beside, (0, 10, 0, 10))] == [True]*4
    assert all(ax.axison and ax.lines for ax in fig.axes) and not any('hardest' in label for label in labels_of(fig.axes))
    drawn = next(line for line in beside[1].lines if 'easiest' in line.get_label())
    tenth = published_accuracy.query("label_noise == .1 and arm == 'easiest' and subset_size == 2048 and level <= 12")
    assert list(drawn.get_ydata()) == pytest.approx(list(100*tenth.accuracy_mean))
    assert {*beside[3].get_xticks()} == {*theirs.sizes}
    plt.close(fig)
    fig = draw_of('dd_noisy_labels')(mini_table('dd_noisy_labels')[:0], theirs, published_accuracy)
    assert labels_of(fig.axes) and not any('hardest' in label for label in labels_of(fig.axes))
    plt.close(fig)

def test_type_is_legible_at_the_width_of_a_page():
    "Seven inches of text: panels of sizes are in two columns"
    name, study = 'dd_accuracy_vs_subset_size', preset('dd_accuracy_vs_subset_size', 'mini')
    fig = draw_of(name)(mini_table(name), study, published_accuracy, preset(name, 'paper'), 'made up')
    assert fig.get_figwidth() < 8 and len(fig.axes) == 4
    plt.close(fig)

def test_what_predicts_a_ticket_is_drawn_without_dense_networks_and_beside_published_correlations():
    "Over means of initializations, from the committed table, whatever it knows of dense networks"
    table = mini_table('dd_barrier_vs_accuracy').drop(columns='dense_accuracy', errors='ignore')
    fig = draw_of('dd_barrier_vs_accuracy')(table, preset('dd_barrier_vs_accuracy', 'mini'), pd.read_csv(root/'data'/'published'/'data_diet_correlations.csv'))
    titles, ways = [ax.get_title() for ax in fig.axes], table.groupby(['arm', 'pretrain_steps', 'size', 'scored_at']).ngroups
    assert all(f'n={ways})' in title for title in titles) and not any(ax.lines for ax in fig.axes)
    assert ['Pearson -0.91, Spearman -0.84' in titles[0], 'Pearson +0.60, Spearman +0.65' in titles[1]] == [True, True]
    plt.close(fig)

@pytest.mark.parametrize('name', [name for name in presets if hasattr(preset(name, 'mini'), 'judges_each')])
def test_a_page_says_whose_the_judges_are(name):
    "Intervals hold how subsets vary only where each replicate has judges of its own"
    text = ' '.join(''.join(json.loads(notebook_of(name).read_text(encoding='utf-8'))['cells'][0]['source']).split())
    each = preset(name, 'mini').judges_each
    assert ('At `mini` each replicate has judges of its own' in text) == each and ('at `mini`, replicates share the judges' in text) != each

def test_costs_that_are_not_known_have_no_frame():
    table, logs, wall_clock = (pd.read_csv(root/file) for file in (
        'results/syn_mini/syn_predecessor_mini.csv', 'data/published/distilled_pruning_accuracy.csv', 'data/published/distilled_pruning_wall_clock.csv'))
    fig = syn_figures.draw_predecessor(below_dense(table), preset('syn_predecessor', 'mini'), logs, None, wall_clock, title='made up')
    assert len(fig.axes) == 1 + 1 + len(logged) and all(ax.has_data() for ax in fig.axes)
    plt.close(fig)

def test_overlaps_are_drawn_as_the_claims_ask_for_them():
    "Odds over chance, which mean the same at every density; layers of masks are drawn where they are known"
    table, claims = mini_table('syn_masks'), pd.read_csv(root/'results'/'claims.csv').query("figure == 'syn_masks'")
    fig = syn_figures.draw_masks(table, preset('syn_masks', 'mini'), title='made up')
    ax, = fig.axes
    by_label = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert [by_label['ready distilled images'][i] for i in (0, -1)] == pytest.approx(list(claims.ours), abs=1e-5)
    assert by_label['chance'] == [1, 1] and 'odds' in ax.get_ylabel() and 'chance' in ax.get_ylabel()
    plt.close(fig)
