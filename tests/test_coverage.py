"What the coverage summary says: numbers by hand."
import json
import sys

import pytest

from lottery_diet.core import project_root

sys.path.insert(0, str(project_root()/'tools'))
from coverage_summary import badge_of, by_module, cells_not_run, summary

measured = dict(totals=dict(percent_covered=75., num_statements=40), files={
    'lottery_diet/__init__.py': dict(summary=dict(num_statements=0, covered_lines=0)),
    'lottery_diet/core.py': dict(summary=dict(num_statements=20, covered_lines=19)),
    'lottery_diet/pages/figure.py': dict(summary=dict(num_statements=20, covered_lines=11))})

@pytest.fixture
def nbs(tmp_path):
    cells = ['#| slow\nx = 1', 'x = 2\n# slow', '#| hide\n#| notest\nx = 3', '#| export\nx = 4']
    for name, some in {'a/page.ipynb': cells, 'b.ipynb': cells[1:2]}.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        page = [dict(cell_type='code', source=[cell]) for cell in some] + [dict(cell_type='markdown', source=['#| slow'])]
        (tmp_path/name).write_text(json.dumps(dict(cells=page)))
    return tmp_path

def test_modules_are_told_from_the_least_reached_on():
    assert by_module(measured) == [('lottery_diet.pages.figure', 20, 11), ('lottery_diet.core', 20, 19)]

def test_cells_that_tests_skip_are_counted(nbs): assert cells_not_run(nbs) == {'a/page.ipynb': (2, 4)}

def test_the_summary_names_what_is_below_the_whole_and_what_is_not_run(nbs):
    said = summary(measured, nbs)
    assert said.startswith('## 75.0 % of 40 lines\n') and '| `lottery_diet.pages.figure` | 20 | 55 % |' in said and 'lottery_diet.core' not in said
    assert 'minutes: 2 on 1 pages' in said and '| `a/page.ipynb` | 4 | 2 |' in said

@pytest.mark.parametrize(['percent', 'color'], [(90., 'green'), (89.9, 'yellow'), (75., 'yellow'), (74.9, 'red')])
def test_a_badge_is_plain_data(percent, color): assert badge_of(percent) == dict(schemaVersion=1, label='coverage', message=f'{percent:.0f} %', color=color)
