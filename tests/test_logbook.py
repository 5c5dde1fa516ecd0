"The logbook: every claim once with its verdict, commands that exist, costs that add up, files as trackio keeps them."
import json
import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from lottery_diet.baselines import gates_learned
from lottery_diet.cli import main, parse
from lottery_diet.core import project_root
from lottery_diet.engine.recipe import Recipe
from lottery_diet.experiments.costs import flop_of
from lottery_diet.experiments.distilling import Distill
from lottery_diet.experiments.records import write_record
from lottery_diet.experiments.sweeps import with_needs
from lottery_diet.experiments.tasks import Run
from lottery_diet.experiments.tickets import AtStart
from lottery_diet.experiments.training import Pretrain
from lottery_diet.pages.claims import read_claims
from lottery_diet.pages.figure import effort
from lottery_diet.pages.logbook import Evidence, added, entries, logbook, trackio_logbook
from lottery_diet.pages.notebooks import parameters_in
from lottery_diet.papers.catalogue import preset, presets

root = project_root(Path(__file__).parent)
claims = read_claims(root/'results'/'claims.csv')

@pytest.fixture(scope='module')
def page(tmp_path_factory): return logbook(tmp_path_factory.mktemp('logbook')/'logbook.html', claims).read_text(encoding='utf-8')

def plain(html): return re.sub(r'\s+', ' ', unescape(html).replace('\xa0', ' ')).strip()

def test_every_claim_is_there_once_with_its_verdict(page):
    row = r'<tr class="v\d"><td>(.*?)(?:<span class="soft">|<br>|</td>).*?<span class="badge \w+">([^<]+)</span></td></tr>'
    rows = [(plain(m[1]), m[2]) for m in re.finditer(row, page, re.S)]
    assert sorted(rows) == sorted((plain(c.says), c.holds) for c in claims.itertuples()) and len(rows) == len(claims) > 100

def test_every_article_has_one_command_and_every_table_its_article(page):
    articles = re.findall(r'<article.*?</article>', page, re.S)
    assert len(articles) == len(claims.groupby(['figure', 'source'])) and all(article.count('<pre>') == 1 for article in articles)

@pytest.mark.parametrize('source', sorted(claims.source.unique()))
def test_a_command_is_one_that_exists(source, monkeypatch):
    monkeypatch.chdir(root)
    evidence = Evidence(source)
    program, *words = shlex.split(evidence.command)
    assert evidence.table.is_file() and evidence.picture and evidence.record
    if program == 'lottery-diet':
        asked = parse(words)
        assert asked.scale == evidence.parts[2] and (asked.name in presets if words[0] == 'figure' else asked.name == words[0])
    else:
        assert program == 'papermill' and (root/words[0]).is_file() and words[1] == 'out.ipynb'
        given = dict(zip(words[3::3], words[4::3]))
        assert given.keys() <= {p.name for p in parameters_in(root/words[0])} and len(words) == 2 + 3*len(given)

def test_a_figure_without_shipped_answers_is_asked_for_by_an_option_that_exists():
    assert parse(['figure', 'dd_example_barriers', '--scale', 'mini', '--no-shipped']).shipped is False

def test_times_and_operations_add_up(tmp_path):
    "Two trainings of 90 and 30 seconds that were written by hand; the third was not answered"
    recipe, run = Recipe(steps=100, batch_size=50), Run(root=tmp_path, shipped=False)
    tasks = [Pretrain(recipe=recipe, steps=100, seed=seed) for seed in range(3)]
    for task, seconds in zip(tasks, (90., 30.)):
        origin = dict(seconds=seconds, commit='abc', device='cpu', finished='2026-01-02 03:04:05 +0000')
        write_record(tmp_path/task.name, task.identity(), [dict(accuracy=.5)], {}, origin)
    took = effort(tasks, run)
    assert (took['tasks'], took['minutes'], took['flop']) == (2, 2., 2*3*2*(64*300 + 300*100 + 100*10)*50*100)

def test_updates_of_a_learned_mask_are_counted_and_those_of_images_are_not_known():
    start = Pretrain(recipe=Recipe(steps=100, batch_size=50), steps=0, seed=0)
    cost = {method: flop_of(AtStart(pretrain=start, level=1, method=method)) for method in ('SNIP', 'concrete')}
    assert cost['concrete']/cost['SNIP'] == (100*50 + gates_learned.steps*gates_learned.batch_size)/(100*50)
    assert flop_of(next(task for task in with_needs(preset('syn_ratio', 'smoke').tasks()) if isinstance(task, Distill))) is None

def evidence_of(folder, **answers):
    "A lesson's table with a record of what its answers took"
    folder.mkdir()
    (folder/'table.csv').touch()
    (folder/'table.json').write_text(json.dumps(dict(parameters={}, provenance=dict(commit='abc', answers=answers) if answers else {})))
    return Evidence(str(folder/'table.csv'))

def test_what_was_not_recorded_is_not_told(tmp_path):
    where = dict(commits=['abc', 'def'], days=['2026-01-02', '2026-01-03'], devices=['cpu'])
    some, none = evidence_of(tmp_path/'some', tasks=2, minutes=90., flop=2e12, **where), evidence_of(tmp_path/'none')
    assert str(some.cost) == '2 answers · 1.5 core-hours · 2.0 TFLOP' and some.made == 'at abc def, 2026-01-02 to 2026-01-03, on cpu'
    assert str(none.cost) == 'time not recorded · FLOP not recorded' and none.made == ''
    assert added([some.cost, none.cost, some.cost]) == (4, 180., 4e12)

def test_a_protocol_that_has_changed_is_told(tmp_path, monkeypatch):
    "The same table, with a level more in what was asked"
    same = Evidence('results/win_mini/win_repel_mini.csv')
    origin = json.loads(same.record.read_text())
    origin['parameters']['figure']['levels'] += 1
    del origin['provenance']['answers']['flop'] # else the table says it
    other = Evidence('results/win_mini/win_repel_mini.csv')
    other.__dict__['origin'] = origin
    assert not same.changed and 'has changed' not in same.standing and same.cost.flop
    assert other.changed and other.standing == ('The protocol has changed since this table was made: the command asks the new one; '
                                                f'the old one is at commit {origin["provenance"]["commit"]}.')
    assert other.cost == (same.cost.answers, same.cost.minutes, None)

@pytest.mark.long
def test_trackio_is_given_a_page_for_every_article_and_each_claim_once(tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert main(['logbook', '--trackio', str(tmp_path)]) == 0
    pages = tmp_path/'.trackio'/'logbook'/'pages'
    index, written = (pages/'index.md').read_text(), {p.parent.name: p.read_text() for p in pages.glob('*/page.md')}
    assert set(re.findall(r'\(#/([\w.-]+)\)', index)) == set(written) and len(written) == len(entries(claims))
    cell = re.compile(r'\n---\n<!-- trackio-cell\n(.*?)\n-->\n(.*?)(?=\n\n---\n|\s*$)', re.S)
    cells = [(json.loads(m[1]), m[2]) for text in written.values() for m in cell.finditer(text)]
    said = [body for cell, body in cells if cell['type'] == 'markdown']
    assert sorted(body.split('\n')[0] for body in said) == sorted(f'**{c.holds}**: {c.says}' for c in claims.itertuples())
    assert len({cell['id'] for cell, _ in cells}) == len(cells) and sum(cell['type'] == 'code' for cell, _ in cells) == len(written)
    (pages/'gone'/'page.md').parent.mkdir()
    (pages/'gone'/'page.md').write_text(written.popitem()[1])
    (pages/'mine'/'page.md').parent.mkdir()
    (pages/'mine'/'page.md').write_text('# Mine')
    trackio_logbook(tmp_path, claims)
    assert not (pages/'gone').exists() and (pages/'mine'/'page.md').is_file()

@pytest.mark.long
def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert main(['logbook', '--out', str(tmp_path/'page.html')]) == 0 and '<title>lottery_diet: the logbook' in (tmp_path/'page.html').read_text()
    assert capsys.readouterr().out.strip() == str(tmp_path/'page.html')
