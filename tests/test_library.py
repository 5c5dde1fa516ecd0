"The exported library runs where only torch, numpy, pandas, seaborn and tqdm are, and names what it exports."
import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch
from fastcore.docments import docments
from torch import nn

import lottery_diet
from lottery_diet.core import State
from lottery_diet.data import ImageSet
from lottery_diet.experiments import Run, Task
from lottery_diet.imp import Mask
from lottery_diet.train import Recipe

package = Path(lottery_diet.__file__).parent
modules = sorted(p.stem for p in package.glob('*.py') if not p.stem.startswith('_'))
floor_of = lambda name: int(re.search(r'File to edit: \.\./nbs/(\d\d)', (package/f'{name}.py').read_text())[1])
lean = [m for m in modules if floor_of(m) in (*range(9), 10)] # 09, 11 and 12 are experiments, notebooks and commands
not_on_a_gpu_box = ['nbdev', 'fastcore', 'execnb', 'papermill', 'submitit', 'filelock', 'pydantic', 'sklearn', 'scipy', 'IPython', 'ipykernel', 'joblib', 'torchvision']

def test_science_runs_without_notebook_tools():
    script = f'''
import sys
for name in {not_on_a_gpu_box!r}: sys.modules[name] = None
import torch
{chr(10).join(f"import lottery_diet.{m}" for m in lean)}
from lottery_diet.core import state_of
from lottery_diet.data import ImageSet
from lottery_diet.imp import imp
from lottery_diet.models import cifar_resnet, initialise
from lottery_diet.train import Recipe, Snapshot
data = ImageSet(torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8), torch.arange(32) % 10)
net = initialise(lambda: cifar_resnet((3, 8, 8), depth=8, width=4), 0)
print([rung.mask.kept for rung in imp(net, data, Recipe(2, 16), Snapshot(0, state_of(net)), levels=2)])
'''
    out = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    kept = ast.literal_eval(out.stdout)
    assert kept[1] == kept[0] - -(-kept[0]//5)

speaks_for_itself = {nn.Module, nn.Conv2d, torch.optim.Optimizer, ImageSet, Recipe, Mask, State, Run, Task, Sequence[Task], Iterable[Task]}

@pytest.mark.parametrize('name', modules)
def test_parameters_are_documented_where_their_type_does_not_say_it(name):
    module = importlib.import_module(f'lottery_diet.{name}')
    silent = [f'{f.__name__}({k})' for f in (getattr(module, k) for k in module.__all__) if inspect.isfunction(f) and f.__module__ == module.__name__
              for k, p in inspect.signature(f).parameters.items()
              if p.kind is not p.VAR_KEYWORD and p.annotation not in speaks_for_itself and not docments(f).get(k)]
    assert not silent

@pytest.mark.parametrize('name', modules)
def test_public_functions_say_what_they_do(name):
    module = importlib.import_module(f'lottery_diet.{name}')
    mine = {k: getattr(module, k) for k in module.__all__}
    undocumented = [k for k, v in mine.items() if callable(v) and getattr(v, '__module__', '') == module.__name__ and not (v.__doc__ or '').strip()]
    assert not undocumented
