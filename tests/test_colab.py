"Chapters on Colab: the cell installs the repository of settings.ini at a branch, tag or commit that one may choose; elsewhere it does nothing."
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lottery_diet.core import project_root

root = project_root()
sys.path.insert(0, str(root/'tools'))
import colab

pages = [pytest.param(page, id=page.stem) for page in colab.chapters()]
elsewhere = dict(user='anna', repo='tickets', branch='trunk', git_url='https://github.com/anna/tickets')

def first_cell(page):
    "Source of the first cell of code that is not empty"
    cells = json.loads(page.read_text(encoding='utf-8'))['cells']
    return next(source for c in cells if c['cell_type'] == 'code' and (source := ''.join(c['source'])))

def ran(cell, monkeypatch, on_colab):
    "The magic commands that a cell asks IPython for"
    asked = []
    if on_colab: monkeypatch.setitem(sys.modules, 'google.colab', ModuleType('google.colab'))
    else: monkeypatch.delitem(sys.modules, 'google.colab', raising=False)
    exec(cell, dict(get_ipython=lambda: SimpleNamespace(run_line_magic=lambda *words: asked.append(words))))
    return asked

@pytest.mark.parametrize('page', pages)
def test_a_chapter_installs_before_anything_is_imported_and_as_settings_say(page):
    cell = first_cell(page)
    assert cell.split('\n', 1)[1] == colab.installing(colab.settings()) and cell.startswith(f'#| default_exp {page.stem[3:]}\n')

@pytest.mark.parametrize('page', pages)
def test_elsewhere_it_does_nothing(page, monkeypatch): assert ran(first_cell(page), monkeypatch, on_colab=False) == []

def test_on_colab_it_installs_the_branch_or_the_one_that_is_chosen(monkeypatch):
    cell = colab.installing(elsewhere)
    assert ran(cell, monkeypatch, on_colab=True) == [('pip', 'install -q git+https://github.com/anna/tickets@trunk')]
    assert ran(cell.replace("'trunk' #@param", "'v1.2' #@param"), monkeypatch, on_colab=True) == [('pip', 'install -q git+https://github.com/anna/tickets@v1.2')]
    own = colab.settings()
    assert ran(first_cell(colab.chapters()[0]), monkeypatch, on_colab=True) == [('pip', f'install -q git+{own["git_url"]}@{own["branch"]}')]

def test_an_address_names_repository_reference_and_page():
    page = root/'nbs'/'05_imp.ipynb'
    assert colab.address(page, elsewhere) == 'https://colab.research.google.com/github/anna/tickets/blob/trunk/nbs/05_imp.ipynb'
    assert colab.address(page, elsewhere, 'v1.2').endswith('/blob/v1.2/nbs/05_imp.ipynb')
    assert colab.badges(elsewhere).count('](https://colab.research.google.com/github/anna/tickets/blob/trunk/nbs/') == len(pages) > 10

def test_a_cell_is_written_anew_for_another_repository_and_nothing_else_changes():
    sources = (('markdown', ['# A']), ('code', ['#| default_exp a\n', 'old = 1']), ('code', ['x = 1']))
    before = dict(cells=[dict(cell_type=kind, source=source) for kind, source in sources])
    once = json.dumps(colab.with_install(json.loads(json.dumps(before)), elsewhere))
    assert json.dumps(colab.with_install(json.loads(once), elsewhere)) == once and 'old' not in once
    assert json.loads(once)['cells'][::2] == before['cells'][::2] and 'anna/tickets' in once

def test_a_repository_that_has_no_address_yet_is_not_linked():
    assert not colab.is_published(dict(user='someone')) and colab.is_published(elsewhere)
