"A wheel is all that a user needs: built from the repository's files, installed into an empty environment, used from an empty folder."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import lottery_diet
from lottery_diet.core import project_root

root = project_root(Path(__file__).parent)

def call(*words, **kwargs):
    "Run a command; its words, where it fails, are in the report"
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout

def version():
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']['version']

def test_all_that_is_installed_runs_on_the_oldest_python_we_name():
    "A pin that needs a later bug-fix release of Python cannot be installed where a system brings an earlier one"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    oldest = ini['DEFAULT']['min_python'] + '.0'
    assert {d.name: needs for d in distributions() if (needs := d.metadata['Requires-Python']) and oldest not in SpecifierSet(needs)} == {}

def imported(node):
    "The modules that a statement imports from"
    if isinstance(node, ast.Import): return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []

def test_what_figures_import_is_installed_with_the_package():
    "A figure's notebook may not need what only those who edit notebooks have"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    known = {re.match(r'[\w-]+', word)[0] for word in ini['DEFAULT']['requirements'].split()} | {'lottery_diet', *sys.stdlib_module_names}
    for file in (root/'nbs'/'papers').glob('*/*_*.ipynb'):
        code = '\n'.join(''.join(cell['source']) for cell in json.loads(file.read_text())['cells'] if cell['cell_type'] == 'code')
        needed = {name.partition('.')[0] for node in ast.walk(ast.parse(code)) for name in imported(node)}
        assert needed <= known, (file.name, needed - known)

def test_the_version_is_said_in_one_place(): assert lottery_diet.__version__ == version()

@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "An environment with the wheel, which sees the dependencies of this one, but not this checkout; and an empty folder"
    folder = tmp_path_factory.mktemp('wheel')
    shutil.copytree(root, folder/'source', ignore=shutil.ignore_patterns('.*', 'runs', 'build', '*.egg-info', 'out.ipynb', 'site', '_docs', '_*proc'))
    call(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q', '-w', folder, folder/'source')
    call(sys.executable, '-m', 'venv', folder/'env')
    python, packages = folder/'env'/'bin'/'python', sysconfig.get_path('purelib')
    own = call(python, '-c', "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    call(python, '-m', 'pip', 'install', '-q', '--no-deps', *folder.glob('*.whl'))
    Path(own, 'dependencies.pth').write_text(packages + '\n')
    (folder/'empty').mkdir()
    return folder/'env'/'bin', folder/'empty'

def a_users():
    "An environment without what tests have set"
    return {k: v for k, v in os.environ.items() if not k.startswith(('LOTTERY_DIET', 'MPL', 'PYTHONPATH'))} | dict(OMP_NUM_THREADS='1')

@pytest.mark.long
def test_a_wheel_draws_figures_in_an_empty_folder(installed):
    programs, empty = installed
    code = "import lottery_diet, importlib.metadata as m; print(lottery_diet.__file__, m.version('lottery_diet'))"
    where = call(programs/'python', '-c', code, cwd=empty, env=a_users()).split()
    assert Path(where[0]).is_relative_to(programs.parent) and where[1] == version()
    call(programs/'lottery-diet', 'figure', 'dd_schematic', '--out', 'drawn', cwd=empty, env=a_users())
    call(programs/'lottery-diet', 'figure', 'dd_accuracy_vs_sparsity', '--scale', 'paper', '--budget', '0s', cwd=empty, env=a_users())
    assert {p.name for p in (empty/'drawn').iterdir()} == {f'dd_schematic_smoke.{e}' for e in ('ipynb', 'csv', 'json', 'png', 'pdf')}
    drawn = empty/'runs'/'figures'/'dd_accuracy_vs_sparsity_paper.json'
    assert json.loads(drawn.read_text())['parameters']['sweep']['left'] > 0 and drawn.with_suffix('.png').stat().st_size > 20_000
    assert {p.name for p in empty.iterdir()} == {'drawn', 'runs'}

@pytest.mark.long
def test_a_wheel_runs_a_chapter_in_an_empty_folder(installed, tmp_path):
    "Table and picture lie below it, and their absolute paths are on the terminal; copies of chapters, figures and tutorials are written to run"
    programs, _ = installed
    said = call(programs/'lottery-diet', 'imp', '--fraction', '0.1', '--levels', '1', cwd=tmp_path, env=a_users()).splitlines()
    made = tmp_path/'runs'/'imp'/'imp_smoke_random0.1_levels1'
    assert said[-3:] == [f'picture: {made}.png', f'table: {made}.csv', f'page: {made}.ipynb'] and all(Path(line.split(': ')[1]).is_file() for line in said[-3:])
    assert {'arm', 'accuracy', 're-initialized'} <= {word for line in said for word in line.split()}
    for name in ('scores', 'dd_schematic', 'own_network'): call(programs/'lottery-diet', 'notebook', name, '--out', 'mine', cwd=tmp_path, env=a_users())
    assert {p.name for p in (tmp_path/'mine').iterdir()} == {'04_scores.ipynb', 'dd_schematic.ipynb', 'own_network.ipynb'}
    call(programs/'python', '-m', 'papermill', 'mine/dd_schematic.ipynb', 'out.ipynb', '--no-progress-bar', cwd=tmp_path, env=a_users())
    assert call(programs/'python', '-m', 'lottery_diet', 'figures', cwd=tmp_path, env=a_users()).startswith('figure')

@pytest.mark.long
def test_a_wheel_runs_another_chapter_too(installed, tmp_path):
    programs, _ = installed
    words = ('lmc', '--children', '2', '--seeds', '1', '--spawns', '0 20', '--out', 'here')
    said = call(programs/'lottery-diet', *words, cwd=tmp_path, env=a_users()).splitlines()
    assert said[-3].startswith(f'picture: {tmp_path/"here"/"lmc"}') and all(Path(line.split(': ')[1]).is_file() for line in said[-3:])

@pytest.mark.long
def test_a_wheel_finds_tickets_of_a_users_network(installed):
    programs, empty = installed
    (empty/'mine.py').write_text('''
from torch import nn
from lottery_diet.imp import imp
from lottery_diet.models import initialize
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, fit
net = initialize(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)), 0)
data, recipe = load_data('digits'), Recipe(20, 64, lr=.05)
print([rung.mask.kept for rung in imp(net, data.train, recipe, fit(net, data.train, recipe, stop=2), levels=2)])
''')
    assert call(programs/'python', 'mine.py', cwd=empty, env=os.environ | dict(PYTHONPATH='')).strip() == '[1480, 1184, 947]'
