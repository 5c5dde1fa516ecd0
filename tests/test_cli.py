"The command line answers at once, says what was meant, and ends with one sentence."
import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import lottery_diet
from lottery_diet.cli import chapters, main
from lottery_diet.core import project_root, runs_root
from lottery_diet.experiments.inventory import asked_file, kept_names, state_of
from lottery_diet.experiments.sweeps import sweep, with_needs
from lottery_diet.experiments.tasks import Run
from lottery_diet.pages import chapters as pages
from lottery_diet.pages.figure import notebook_of, results_of, run_figure, run_page, save_results, summary_of
from lottery_diet.pages.notebooks import copy_notebook, figure_list, notebook, notebooks, parameters_in
from lottery_diet.papers.catalogue import panels_of, preset, presets
from lottery_diet.papers.parameters import scales

root = project_root(Path(__file__).parent)
heavy = ('torch', 'pandas', 'numpy', 'matplotlib', 'pydantic', 'papermill')
interrupted = 'lottery-diet: interrupted; what is finished is kept, and the same command continues'
ask = 'import sys; from lottery_diet.cli import main; sys.exit(main())'

def command(words, runs, code=ask):
    "The command in a process of its own, as `subprocess` takes it"
    return dict(args=[sys.executable, '-c', code, *words], env=os.environ | dict(LOTTERY_DIET_RUNS=str(runs)), text=True)

def heavy_modules_of(words, runs):
    "What it wrote, and the heavy modules that it imported"
    at_exit = f"import atexit, sys; atexit.register(lambda: print('imported', *[m for m in {heavy!r} if m in sys.modules])); "
    done = subprocess.run(**command(words, runs, at_exit + ask), capture_output=True)
    said, _, modules = done.stdout.rpartition('imported')
    assert done.returncode == 0, done.stderr
    return said, modules.split()

def names_of(study): return [task.name for task in with_needs(study.tasks())]

def joined(words): return '-'.join(words) if isinstance(words, list) else ''

@pytest.mark.parametrize('words, says', [
    (['--help'], 'move finished runs'), (['--version'], f'lottery-diet {lottery_diet.__version__}'), (['figures'], 'dd_schematic'),
    (['imp', '--help'], '--fraction'), (['figure', 'syn_landscape', '--help'], '--filter-normalized'), (['notebook', '--help'], 'own_network')], ids=joined)
def test_what_computes_nothing_imports_nothing_heavy(words, says, tmp_path):
    said, modules = heavy_modules_of(words, tmp_path)
    assert says in ' '.join(said.split()) and modules == []

def test_the_status_of_a_figure_that_was_asked_before_imports_nothing_heavy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path))
    tasks = preset('dd_accuracy_vs_sparsity', 'smoke').tasks()
    sweep(with_needs(tasks)[:1], run=Run(root=tmp_path), progress=False)
    assert main(['status', 'dd_accuracy_vs_sparsity']) == 0
    first = capsys.readouterr().out
    again, modules = heavy_modules_of(['status', 'dd_accuracy_vs_sparsity'], tmp_path)
    assert again == first and modules == [] and '≈' in first and 'unknown' in first and 'minutes left on cpu' in first

def test_names_are_kept_for_each_question_and_for_the_code_that_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path))
    for words in (['--seeds', '1'], ['--panel', 'C'], []): assert main(['status', 'dd_accuracy_vs_subset_size', *words]) == 0
    figure, asked = 'dd_accuracy_vs_subset_size', [dict(seeds=1), dict(panel='C'), {}]
    kept = [kept_names(asked_file(tmp_path, figure, 'smoke', **given)) for given in asked]
    assert [names for names, _ in kept] == [names_of(preset(figure, 'smoke', **given)) for given in asked]
    file = asked_file(tmp_path, 'dd_accuracy_vs_subset_size', 'smoke')
    for damage in ('', '[]', '{"names": 3}', file.read_text()[:-9], file.read_text().replace('"code": "', '"code": "0')):
        file.write_text(damage)
        assert kept_names(file) is None

@pytest.mark.parametrize('wrong, says', [(['--seeds', '0'], 'seeds=0 must be'), (['--panel', 'A'], 'dd_schematic has no panels: leave --panel out')])
def test_what_was_asked_before_makes_no_impossible_question_possible(wrong, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path))
    for _ in range(2):
        assert main(['status', 'dd_schematic', *wrong]) == 1 and says in capsys.readouterr().err
        assert main(['status', 'dd_schematic']) == 0 and 'a drawing' in capsys.readouterr().out
    assert kept_names(asked_file(tmp_path, 'dd_schematic', 'smoke')) == ([], {}) and asked_file(tmp_path, 'a', 'mini', 0) != asked_file(tmp_path, 'a', 'mini')

def test_status_is_told_where_nothing_can_be_kept(tmp_path, monkeypatch, capsys):
    (tmp_path/'file').touch()
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path/'file'/'runs'))
    assert main(['status', 'dd_el2n_vs_barrier']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert sum(int(left) for *_, left, _ in rows) == len(names_of(preset('dd_el2n_vs_barrier', 'smoke')))

def test_all_figures_share_a_budget_and_one_that_fails_ends_none_of_the_others(tmp_path, monkeypatch, capsys):
    clock, given, broken = [1e9], {}, dict(dd_schematic=ValueError('no ink'), syn_masks=FileNotFoundError(2, 'No such file', 'masks.csv'))
    def draw(name, folder, **parameters):
        clock[0] += 60
        given[name] = parameters['budget']
        if name in broken: raise broken[name]
        return tmp_path/f'{name}.ipynb'
    monkeypatch.setattr('time.time', lambda: clock[0])
    monkeypatch.setattr('lottery_diet.pages.figure.run_figure', draw)
    monkeypatch.setattr('lottery_diet.pages.figure.results_of', lambda page: {})
    assert main(['figure', 'all', '--budget', '9m', '--out', str(tmp_path)]) == 1
    assert list(given) == list(presets) and list(given.values()) == [f'{max(0, 540 - 60*i):.1f}s' for i in range(len(presets))]
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path/f'{name}.ipynb') for name in presets if name not in broken]
    assert said.err.splitlines() == ['lottery-diet: dd_schematic: no ink', 'lottery-diet: syn_masks: masks.csv: No such file',
                                     f'lottery-diet: 2 of {len(presets)} figures failed: dd_schematic, syn_masks']

@pytest.mark.parametrize('words, meant', [
    (['figure', 'dd_schematic', '--seed', '7'], '--seeds'), (['scores', '--seed', '3'], '--seeds'), (['status', 'dd_schematic', '--seed', '3'], '--seeds'),
    (['gallery', '--fig', 'x'], '--figures')], ids=joined)
def test_an_option_is_not_taken_for_another_that_begins_with_it(words, meant, capsys):
    with pytest.raises(SystemExit) as end: main(words)
    assert end.value.code == 2 and f'did you mean {meant!r}?' in capsys.readouterr().err

@pytest.mark.parametrize('wrong, says', [(['--workers', '0'], 'workers=0 must be'), (['--out', '/proc/none'], 'nothing can be written to /proc/none')])
def test_what_no_figure_can_be_asked_is_said_once(wrong, says, capsys):
    assert main(['figure', 'all', *wrong]) == 1
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f'lottery-diet: {says}')

@pytest.mark.figures
def test_a_drawn_figure_keeps_the_names_of_its_tasks(tmp_path, monkeypatch):
    monkeypatch.setenv('LOTTERY_DIET_RUNS', str(tmp_path))
    run_figure('dd_el2n_vs_barrier')
    names, _ = kept_names(asked_file(tmp_path, 'dd_el2n_vs_barrier', 'smoke'))
    assert names == names_of(preset('dd_el2n_vs_barrier', 'smoke')) and not any(row['left'] for row in state_of(names, tmp_path))
    said, modules = heavy_modules_of(['status', 'dd_el2n_vs_barrier'], tmp_path)
    assert modules == [] and 'minutes left on cpu' in said and 'unknown' not in said

def test_the_list_of_figures_is_what_they_ask_for():
    "Otherwise `python tools/count_tasks.py` writes it anew"
    rows = [(name, panel) for name in presets for panel in panels_of(name) or ['']]
    assert [(row['figure'], row['panel']) for row in figure_list()] == rows
    assert list(figure_list()[0]) == ['figure', 'panel', 'shows', *scales]
    for row in figure_list():
        figure, panel = row['figure'], row['panel']
        assert row['shows'] == panels_of(figure).get(panel, '')
        for scale in ('smoke', 'mini'):
            if row[scale]: assert len({task.key for task in preset(figure, scale, panel=panel or None).tasks()}) == int(row[scale]), (figure, panel, scale)

@pytest.mark.long
def test_the_list_of_figures_is_made_as_it_is():
    code = 'import sys; sys.path.insert(0, "tools"); from count_tasks import counted; sys.stdout.write(counted())'
    made = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root, check=True)
    assert list(csv.DictReader(io.StringIO(made.stdout))) == figure_list()

@pytest.mark.parametrize('words, meant', [
    (['figure', 'dd_acuracy_vs_sparsity'], "did you mean 'dd_accuracy_vs_sparsity'"), (['status', 'syn_mask'], "did you mean 'syn_masks'"),
    (['figrue'], "did you mean 'figure'"), (['imp', '--fration', '.1'], "did you mean '--fraction'"),
    (['figure', 'dd_schematic', '--scale', 'mni'], "did you mean 'mini'"), (['figure', 'dd_schematic', '--panel', 'A'], '--panel')])
def test_a_misspelled_word_is_named_with_what_was_meant(words, meant, capsys):
    with pytest.raises(SystemExit) as end: main(words)
    assert end.value.code == 2 and meant in capsys.readouterr().err.splitlines()[-1]

def test_it_is_a_module_too(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'lottery_diet', '--version'], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == f'lottery-diet {lottery_diet.__version__}'

def test_an_interrupt_while_it_imports_is_one_sentence(tmp_path):
    "In the middle of torch, whose modules do not all bear an exception"
    code = '''
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == 'torch.nn': os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from lottery_diet.cli import main
sys.exit(main())'''
    for words in (['status', 'dd_noisy_labels'], ['figure', 'dd_schematic'], ['imp']):
        done = subprocess.run(**command(words, tmp_path, code), capture_output=True)
        assert (done.returncode, done.stdout, done.stderr.splitlines()) == (130, '', [interrupted])

@pytest.mark.long
@pytest.mark.parametrize('presses', [1, 2])
def test_an_interrupted_page_ends_with_the_sentence(tmp_path, presses):
    "Sent to the whole group, as a terminal does; pressed once more while it ends"
    asked = command(['figure', 'dd_accuracy_vs_sparsity'], tmp_path)
    with subprocess.Popen(**asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as page:
        said = ''
        while '/94 ' not in said: said += page.stdout.read(1) or pytest.fail(said) # until it trains
        for _ in range(presses): os.killpg(page.pid, signal.SIGINT)
        said += page.stdout.read()
    assert page.returncode == 130 and said.rstrip('\n').endswith(interrupted) and 'Traceback' not in said

@pytest.mark.parametrize('name', chapters)
def test_a_chapter_has_an_option_for_each_parameter(name, capsys):
    with pytest.raises(SystemExit): main([name, '--help'])
    said = ''.join(capsys.readouterr().out.split())
    for p in parameters_in(notebook(name)):
        option = '--out' if p.name == 'out_dir' else f'--{p.name.replace("_", "-")}'
        assert option in said and ''.join(p.about.split()) in said, p.name
    assert set(pages.chapters) == set(chapters)

def test_options_of_a_page_reach_it_with_their_types(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(pages, 'run_chapter', lambda name, **parameters: given.update({name: parameters}) or tmp_path)
    monkeypatch.setattr('lottery_diet.pages.figure.summary_of', lambda page: '')
    monkeypatch.setattr('lottery_diet.pages.figure.results_of', lambda page: {})
    assert main(['imp', '--fraction', '0.1', '--levels', '3', '--select', 'easiest', '--no-shipped', '--prune-rate', '.5', '--out', str(tmp_path/'a')]) == 0
    assert main(['distill', '--method', 'gradient', '--per-class', '2']) == 0
    assert given.pop('imp') == dict(fraction=.1, levels=3, select='easiest', shipped=False, prune_rate=.5, out_dir=str(tmp_path/'a'))
    assert given == dict(distill=dict(method='gradient', per_class=2))

def test_what_a_chapter_cannot_be_asked_is_one_sentence(capsys):
    assert main(['imp', '--fraction', '1.5']) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ['lottery-diet: fraction=1.5 must be less than or equal to 1']

def test_every_chapter_figure_and_tutorial_can_be_copied(tmp_path):
    assert {'core', 'imp', 'plots', 'dd_schematic', 'own_network'} <= set(notebooks()) and set(presets) <= set(notebooks())
    for name, source in notebooks().items():
        copy, ours = (json.loads(page.read_text(encoding='utf-8'))['cells'] for page in (copy_notebook(name, tmp_path), source))
        assert [c['source'] for c in copy] == [c['source'] for c in ours] and not any(c.get('outputs') for c in copy)
    assert all(notebook_of(name) == notebook(name) for name in presets)

def test_a_copy_replaces_nothing_and_a_misspelled_notebook_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['notebook', 'own_network']) == 0 and capsys.readouterr().out.strip() == str(tmp_path/'own_network.ipynb')
    assert main(['notebook', 'own_network']) == 1 and 'give another name with --out' in capsys.readouterr().err
    assert main(['notebook', 'own_netwrk']) == 1 and "did you mean 'own_network'" in capsys.readouterr().err
    assert main(['notebook', '05_imp', '--out', 'nbs']) == 0 and (tmp_path/'nbs'/'05_imp.ipynb').is_file()
    assert main(['notebook', 'scores', '--out', 'nbs/mine.ipynb']) == 0, 'a folder of the same name as ours hides nothing'

@pytest.mark.parametrize('words', [
    ('pack', '{}/a.zip'), pytest.param(('gallery', '--figures', 'results', '--out', '{}/g.html'), marks=pytest.mark.long),
    ('notebook', 'imp', '--out', '{}/nbs'),
    ('imp', '--out', '{}'), ('figure', 'dd_schematic', '--out', '{}'), ('figure', 'all', '--out', '{}')])
def test_where_nothing_can_be_written_is_named_at_once(words, tmp_path, capsys):
    "Below what is a file, whoever asks"
    (tmp_path/'file').touch()
    assert main([word.format(tmp_path/'file') for word in words]) == 1
    assert capsys.readouterr().err.startswith(f'lottery-diet: nothing can be written to {tmp_path/"file"}')

@pytest.mark.parametrize('words', [('gallery', '--figures', '{}/drawn', '--out', '{}/out'), ('pack', '{}/out')])
def test_a_folder_where_a_file_belongs_is_named(words, tmp_path, capsys):
    (tmp_path/'out').mkdir()
    save_results(pd.DataFrame(dict(level=[0, 1])), Figure(), tmp_path/'drawn', 'dd_schematic_smoke', {})
    assert main([word.format(tmp_path) for word in words]) == 1
    assert capsys.readouterr().err == f'lottery-diet: {tmp_path/"out"} is a folder: give the name of a file\n' and not list((tmp_path/'out').iterdir())

def test_results_are_found_though_a_picture_follows_them(tmp_path):
    "As where the last cell draws, and its figure stays open"
    said = dict(output_type='execute_result', data={'text/plain': ["['a.csv',\n", " 'a.png']"]})
    drawn = dict(output_type='display_data', data={'text/plain': ['<Figure size 900x360>']})
    (tmp_path/'page.ipynb').write_text(json.dumps(dict(cells=[dict(outputs=[said, drawn])])))
    assert {ending: file.name for ending, file in results_of(tmp_path/'page.ipynb').items()} == {'.csv': 'a.csv', '.png': 'a.png'}

def test_a_page_whose_process_is_killed_is_one_sentence(tmp_path):
    "As where memory runs out: while it computes, and before it answers"
    import nbformat  # seconds: it compiles a grammar of addresses
    source, page = tmp_path/'source.ipynb', tmp_path/'out'/'page.ipynb'
    cells = [nbformat.v4.new_code_cell(code) for code in ('6*7', 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name='python3', language='python', display_name='Python 3'))), source)
    with pytest.raises(ValueError, match=r'the process that ran the page ended \(Kernel died\).*is kept') as refusal: run_page(source, page, {})
    assert str(refusal.value).endswith(f'(the page up to there: {page})') and len(str(refusal.value).splitlines()) == 1
    assert nbformat.read(page, as_version=4).cells[0].outputs[0]['data']['text/plain'] == '42' and [p.name for p in page.parent.iterdir()] == ['page.ipynb']

def test_a_page_whose_process_cannot_begin_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path/'sitecustomize.py').write_text('import os; os._exit(1)')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with pytest.raises(ValueError, match='the process that ran the page ended'): run_page(notebook('dd_schematic'), tmp_path/'page.ipynb', {})

def test_a_relative_place_of_runs_is_one_place(tmp_path, monkeypatch):
    "Whether a page that lies elsewhere, or who draws it, asks for it"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOTTERY_DIET_RUNS', 'runs')
    assert runs_root() == tmp_path/'runs' and Run().root == tmp_path/'runs'
    here = [str(tmp_path/'runs'/f'a.{ending}') for ending in ('csv', 'json', 'png', 'pdf')]
    assert [save_results(pd.DataFrame(dict(level=[0, 1])), Figure(), folder, 'a', {}) for folder in (runs_root(), 'runs')] == [here, here]

@pytest.mark.figures
def test_a_figure_is_found_in_a_relative_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOTTERY_DIET_RUNS', 'runs')
    assert main(['figure', 'dd_schematic']) == 0
    files = [Path(line) for line in capsys.readouterr().out.split()]
    assert [file.suffix for file in files] == ['.ipynb', '.csv', '.json', '.png', '.pdf'] and all(file.is_file() for file in files)
    assert str(tmp_path/'runs'/'figures') in summary_of(files[0])

@pytest.mark.long
def test_a_refused_page_is_shown_without_a_traceback(tmp_path):
    "By papermill itself: of the page there is nothing but its sentence"
    page = tmp_path/'out.ipynb'
    asked = [sys.executable, '-m', 'papermill', notebook('imp'), page, '--no-progress-bar', '-p', 'fraction', '7']
    run = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path)
    sentence = 'ValueError: fraction=7 must be less than or equal to 1'
    assert run.returncode != 0 and run.stderr.strip().splitlines()[-1] == sentence and 'lottery_diet/pages' not in run.stderr
    [error] = [o for c in json.loads(page.read_text())['cells'] for o in c.get('outputs', ()) if o['output_type'] == 'error']
    assert error['traceback'] == [sentence]
