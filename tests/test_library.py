"The exported library runs where only torch, numpy, pandas, seaborn and tqdm are, and names what it exports."
import ast
import importlib
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import lottery_diet

package = Path(lottery_diet.__file__).parent
modules = sorted(p.relative_to(package).with_suffix('').as_posix().replace('/', '.') for p in package.rglob('*.py') if not p.stem.startswith('_'))
rules = ConfigParser()
rules.read(package.parent/'.importlinter', encoding='utf-8')
science = [room.removeprefix('lottery_diet.') for room in rules['importlinter:contract:lean']['source_modules'].split()]
lean = [m for m in modules if any(m == room or m.startswith(f'{room}.') for room in science)] # the others are experiments, papers and pages
not_on_a_gpu_box = [
    'nbdev', 'fastcore', 'execnb', 'papermill', 'submitit', 'filelock', 'pydantic', 'sklearn', 'scipy', 'IPython', 'ipykernel', 'joblib', 'torchvision']

def test_science_runs_without_notebook_tools():
    script = f'''
import sys
for name in {not_on_a_gpu_box!r}: sys.modules[name] = None
import torch
{chr(10).join(f"import lottery_diet.{m}" for m in lean)}
from lottery_diet.core import state_of
from lottery_diet.data import ImageSet
from lottery_diet.imp import imp
from lottery_diet.models import cifar_resnet, initialize
from lottery_diet.train import Recipe, Snapshot
data = ImageSet(torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8), torch.arange(32) % 10)
net = initialize(lambda: cifar_resnet((3, 8, 8), depth=8, width=4), 0)
print([rung.mask.kept for rung in imp(net, data, Recipe(2, 16), Snapshot(0, state_of(net)), levels=2)])
'''
    out = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    kept = ast.literal_eval(out.stdout)
    assert kept[1] == kept[0] - -(-kept[0]//5)

def test_rooms_import_only_downward():
    "The rules of .importlinter: floors, papers that do not know each other, science without notebook tools"
    checked = subprocess.run([Path(sys.executable).parent/'lint-imports', '--no-cache'], cwd=package.parent, capture_output=True, text=True)
    assert checked.returncode == 0 and '0 broken' in checked.stdout, checked.stdout[-3000:]

def described():
    "The modules as the site's pages of names read them"
    tools = str(package.parent/'tools')
    sys.path.insert(0, tools)
    try: return importlib.import_module('api_pages')
    finally: sys.path.remove(tools)

api = described()
sources = api.described_modules(package)

def to_call(node):
    "A function itself; of a class what it is made by, and its public methods: validators are nobody's to call"
    if isinstance(node, ast.FunctionDef): return [node]
    methods = [f for f in getattr(node, 'body', ()) if isinstance(node, ast.ClassDef) and isinstance(f, ast.FunctionDef)]
    return [f for f in methods if (f.name == '__init__' or f.name[0] != '_') and not any('validator' in ast.unparse(d) for d in f.decorator_list)]

@pytest.mark.parametrize('name', modules)
def test_every_parameter_field_and_method_says_what_it_is(name):
    "The last column of no table is empty, and no method is without a sentence"
    silent, module = [], sources[name]
    for node in (module.defined[public] for public in module.public if public in module.defined):
        for f in to_call(node):
            silent += [f'{node.name}.{f.name}({row[0]})' for row in api.parameters(sources, module, f) if not row[3]]
            if f.name != '__init__' and not ast.get_docstring(f): silent.append(f'{node.name}.{f.name}')
        if isinstance(node, ast.ClassDef): silent += [f'{node.name}.{row[0]}' for row in api.fields(sources, module, node) if not row[3]]
    assert not silent

@pytest.mark.parametrize('name', modules)
def test_public_functions_say_what_they_do(name):
    module = importlib.import_module(f'lottery_diet.{name}')
    mine = {k: getattr(module, k) for k in module.__all__}
    undocumented = [k for k, v in mine.items() if callable(v) and getattr(v, '__module__', '') == module.__name__ and not (v.__doc__ or '').strip()]
    assert not undocumented
