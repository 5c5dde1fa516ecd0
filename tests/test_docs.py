"The site as a reader opens it: every public name with its parameters, every notebook within reach, nothing fetched, no link that leads nowhere."
import importlib
import inspect
import json
import posixpath
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastcore.docments import docments

from lottery_diet.core import project_root

root = project_root(Path(__file__).parent)
files = sorted(p.relative_to(root/'lottery_diet') for p in (root/'lottery_diet').rglob('*.py') if not p.stem.startswith('_'))
modules = sorted(file.with_suffix('').as_posix().replace('/', '.') for file in files)
pytestmark = pytest.mark.long

class Page(HTMLParser):
    "Links of text and navigation, ids, and the text under each heading with an id"
    def __init__(self, file):
        super().__init__()
        self.links, self.fetched, self.ids, self.nav, self.texts, self.heading, self._in_nav = [], [], set(), [], {}, None, 0
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == 'nav': self._in_nav += 1
        if tag in ('link', 'script', 'img', 'iframe', 'source') and a.get('rel') != 'canonical': self.fetched += filter(None, (a.get('src'), a.get('href')))
        if tag == 'a' and 'href' in a: (self.nav if self._in_nav else self.links).append(a['href'])
        if 'id' in a: self.ids.add(a['id'])
        if tag in ('h2', 'h3') and 'id' in a: self.heading = a['id']

    def handle_endtag(self, tag):
        if tag == 'nav': self._in_nav -= 1

    def handle_data(self, text):
        if self.heading: self.texts[self.heading] = self.texts.get(self.heading, '') + text

@pytest.fixture(scope='module')
def pages(site): return {p.relative_to(site).as_posix(): Page(p) for p in site.rglob('*.html') if p.name != '404.html'}

@pytest.mark.parametrize('name', modules)
def test_every_public_name_is_there_with_what_its_parameters_mean(pages, name):
    module, page = importlib.import_module(f'lottery_diet.{name}'), pages[f'api/{name}.html']
    for public in module.__all__:
        value = getattr(module, public)
        made_here = getattr(value, '__module__', module.__name__) in (module.__name__, 'typing', None)
        if not made_here and (inspect.isfunction(value) or inspect.isclass(value)):
            assert any(link.endswith(f'#{public}') for link in page.links), public
            continue
        assert public in page.ids or any(public in text for text in page.texts.values()), public
        if not inspect.isfunction(value): continue
        shown = page.texts[public]
        assert ''.join(value.__doc__.replace('`', '').split())[:40] in ''.join(shown.replace('`', '').split()) or '$' in value.__doc__, public
        for parameter, comment in docments(inspect.unwrap(value)).items():
            if parameter != 'return': assert parameter in shown, f'{public}({parameter})'
            plain = comment and not any(mark in comment for mark in '$`_')
            if plain: assert ' '.join(comment.split()) in ' '.join(shown.split()), f'{public}({parameter}): {comment}'

def test_every_notebook_is_reached_from_the_navigation(pages):
    reached = {posixpath.normpath(posixpath.join('api', link)) for link in pages['api/index.html'].nav}
    sources = [p.relative_to(root) for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts and p != root/'nbs'/'index.ipynb']
    notebooks = {p.with_suffix('.html').as_posix() for p in sources}
    assert notebooks <= reached and {f'api/{m}.html' for m in modules} <= reached

def test_no_link_leads_nowhere_and_nothing_is_fetched(site, pages):
    for name, page in pages.items():
        here = (site/name).parent
        for link in [*page.links, *page.nav, *page.fetched]:
            if re.match('(https?:|mailto:|data:)', link):
                assert link.startswith('data:') or link not in page.fetched, f'{name} fetches {link}'
                continue
            target, _, anchor = link.partition('#')
            file = (here/unquote(target)).resolve() if target else site/name
            assert file.is_file(), f'{name}: {link}'
            if not anchor or file.suffix != '.html': continue
            assert unescape(unquote(anchor)) in pages[file.relative_to(site).as_posix()].ids | {'__toc', '__skip'}, f'{name}: {link}'

def test_search_finds_words_of_notebooks_and_names(site):
    assert (site/'search'/'search_index.js').read_text().startswith('var __index = ') # read from a file, without a server
    found = json.loads((site/'search'/'search_index.json').read_text())['docs']
    where = lambda word: {doc['location'].split('#')[0] for doc in found if word in doc['text'] + doc['title']}
    assert {'nbs/05_imp.html', 'api/imp.html'} <= where('prune_global_magnitude')
    assert 'nbs/lessons/rewind_mnist.html' in where('stability is not what limits tickets')

def test_no_page_names_a_path_of_the_machine(site):
    paths = [str(root), str(Path.home()) + '/', str(site)]
    for file in site.rglob('*'):
        if file.suffix in ('.html', '.js', '.json', '.xml', '.css'): assert not any(path in file.read_text() for path in paths), file
