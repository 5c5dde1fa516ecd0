"""Site, gallery and logbook in a browser: every page of the navigation opens, and search finds the public name first.

Nothing is wrong in the console, and nothing is wider than a phone.
"""
import shutil
from pathlib import Path
from urllib.parse import urljoin

import pytest

from lottery_diet.core import project_root
from lottery_diet.pages.gallery import gallery, where_figures_are
from lottery_diet.pages.logbook import logbook

root = project_root(Path(__file__).parent)
pytestmark = pytest.mark.long
playwright = pytest.importorskip('playwright.sync_api', reason='needs playwright: pip install .[docs]')

@pytest.fixture(scope='module')
def chromium():
    "The system's, or the one that playwright installed"
    with playwright.sync_playwright() as p:
        of_the_system = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
        try: browser = p.chromium.launch(executable_path=of_the_system, args=['--no-sandbox'])
        except playwright.Error as e: pytest.skip(f'there is no Chromium: {str(e).splitlines()[0]}')
        yield browser
        browser.close()

@pytest.fixture
def opened(chromium, request):
    "A window of the given width and scheme, and what went wrong in it"
    width, scheme = getattr(request, 'param', (1280, 'light'))
    window = chromium.new_context(viewport=dict(width=width, height=900), color_scheme=scheme).new_page()
    window.set_default_timeout(300_000) # of milliseconds, for a busy machine
    window.wrong = []
    window.on('console', lambda message: window.wrong.append(message.text) if message.type == 'error' else None)
    window.on('pageerror', lambda error: window.wrong.append(str(error)))
    window.on('request', lambda asked: None if asked.url.startswith(('file:', 'data:', 'blob:')) else window.wrong.append(f'fetches {asked.url}'))
    yield window
    window.context.close()

windows = dict(desk=(1280, 'light'), desk_dark=(1280, 'dark'), phone=(390, 'light'), phone_dark=(390, 'dark'))
everywhere = pytest.mark.parametrize('opened', windows.values(), indirect=True, ids=windows)

def too_wide(window): return window.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')

@everywhere
def test_the_gallery_opens_and_its_sections_are_reached(opened, tmp_path_factory):
    opened.goto(gallery(tmp_path_factory.mktemp('gallery')/'gallery.html', where_figures_are()[:1]).as_uri())
    for link in opened.locator('nav a').all():
        link.click()
        assert opened.locator(opened.evaluate('location.hash')).is_visible()
    assert opened.locator('article').count() > 20 and too_wide(opened) <= 0 and not opened.wrong

@everywhere
def test_the_logbook_opens_and_shows_one_verdict_alone(opened, tmp_path_factory):
    opened.goto(logbook(tmp_path_factory.mktemp('logbook')/'logbook.html').as_uri())
    for link in opened.locator('nav a').all():
        link.click()
        assert opened.locator(opened.evaluate('location.hash')).is_visible()
    rows = opened.locator('tr[class]')
    assert rows.count() > 100 and opened.locator('article').count() > 30 and too_wide(opened) <= 0 and not opened.wrong
    opened.get_by_label('the opposite').check()
    shown = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(shown) < rows.count() and {row.locator('.badge').text_content() for row in shown} == {'the opposite'}
    assert all(part.locator('tr[class]:visible').count() for part in opened.locator('article:visible, section:visible').all()) and too_wide(opened) <= 0

@everywhere
def test_the_front_page_opens(opened, site):
    opened.goto((site/'index.html').as_uri())
    assert opened.locator('h1').first.is_visible() and too_wide(opened) <= 0 and not opened.wrong

def test_a_page_of_every_section_opens_without_an_error(opened, site): # that every link leads somewhere is tested without a browser
    opened.goto((site/'index.html').as_uri())
    pages = {urljoin(opened.url, link.get_attribute('href')).split('#')[0] for link in opened.locator('nav a').all()}
    of_each = {page.rsplit('/', 1)[0]: page for page in sorted(pages) if page.startswith('file:')}
    for page in of_each.values():
        opened.goto(page)
        assert opened.locator('h1').first.text_content(), page
        assert not opened.wrong, (page, opened.wrong)
    assert len(pages) > 80 and len(of_each) > 8

@pytest.mark.parametrize(['asked', 'first'], [('barrier', 'api/lmc.html'), ('prune_global_magnitude', 'api/imp.html'), ('el2n', 'api/scores.html')])
def test_search_finds_what_users_call_before_internals(opened, site, asked, first):
    opened.goto((site/'index.html').as_uri())
    opened.locator('input[name=query]').click()
    opened.locator('input[name=query]').press_sequentially(asked)
    found = opened.locator('.md-search-result__item a.md-search-result__link')
    found.first.wait_for()
    assert first in found.first.get_attribute('href') and not opened.wrong
