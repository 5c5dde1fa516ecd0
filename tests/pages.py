"Pages, run with parameters as papermill puts them, in this process: no kernel is started."
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from nbdev.test import test_nb as run_nb

from lottery_diet.core import project_root


def run_here(
    page:Path, # a notebook with a cell tagged `parameters`
    runs:Path, # where it finds and leaves runs
    folder:Path, # for the copy that is run
    **parameters
):
    "Run all of its cells; an exception of one of them fails the test"
    cells = json.loads(page.read_text(encoding='utf-8'))
    at = next(i for i, c in enumerate(cells['cells']) if 'parameters' in c['metadata'].get('tags', ()))
    given = ''.join(f'{k} = {v!r}\n' for k, v in parameters.items())
    cells['cells'].insert(at + 1, dict(cell_type='code', id='given', metadata={}, outputs=[], execution_count=None, source='# Parameters\n' + given))
    (folder/page.name).write_text(json.dumps(cells), encoding='utf-8')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LOTTERY_DIET_RUNS', str(runs))
        ok, _ = run_nb(folder/page.name, basepath=project_root(Path(__file__).parent))
    plt.close('all')
    assert ok
