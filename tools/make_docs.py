"Build the site: notebooks as they are read, an API page for each module, the tutorials; every link checked, nothing fetched by the pages."
import ast
import base64
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import quote, unquote

import colab
from api_pages import api_page, described_modules
from latex2mathml.converter import convert
from mkdocs.commands.build import build
from mkdocs.config import load_config

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))

from lottery_diet.pages.logbook import logbook

front = root/'nbs'/'index.ipynb' # README.md is made from it
rooms = { # folders of notebooks, after the chapters
    'Networks': 'networks', 'Engine': 'engine', 'Distillation': 'distillation', 'Experiments': 'experiments', 'Pages': 'pages'}
papers = {'data_diet': 'Data Diet', 'why_tickets_win': 'Why Lottery Tickets Win', 'stable_subnetworks': 'Stable subnetworks'} # folders in papers/
tutorials = ('own_network', 'three_papers', 'new_experiment', 'from_laptop_to_slurm') # the order of tutorials; others follow
link, blocks, spans = re.compile(r'(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)'), r'^```.*?^```', r'`[^`\n]+`' # in markdown

def outside(code:str, markdown:str, change) -> str:
    "A page with `change` done to all of it but what the pattern `code` finds"
    return ''.join(part if i % 2 else change(part) for i, part in enumerate(re.split(f'({code})', markdown, flags=re.S | re.M)))

def with_math(markdown:str) -> str:
    "TeX as MathML, which browsers draw without a script"
    shown = lambda m: '<span>' + re.sub(r'[*_]', lambda c: f'&#{ord(c[0])};', convert(m[1])) + '</span>'
    return outside(f'{blocks}|{spans}', markdown, lambda text: re.sub(r'\$([^$\n]+)\$', shown, text))

def with_pages(markdown:str, page:Path, staged:Path) -> str:
    "Links to notebooks lead to their pages; other files that are linked are taken along"
    def take(file):
        copy = staged/file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    def lead(match):
        text, (target, *anchor) = match[1], match[2].split('#', 1)
        if re.match('[a-z]+:', target) or not target: return match[0]
        there = (root/page.parent/target).resolve()
        if there.is_dir(): return text.strip('![]')
        if there.suffix == '.ipynb': target = os.path.relpath(root/'README.md', root/page.parent) if there == front else target[:-6] + '.md'
        elif there.is_file() and there.suffix != '.md': take(there)
        return f'{text}({"#".join([target, *anchor])})'
    def change(text):
        for picture in re.findall(r'<img src="([^":]+)"', text): take((root/page.parent/picture).resolve())
        return link.sub(lead, text)
    return outside(blocks, markdown, change)

def with_weight(markdown:str, page:Path) -> str:
    "What users call is found before internals, chapters before figures, and executed pages last"
    folder, called = page.parts[0], page.parts[0] == 'api' and page.stem.count('.') == 0
    weight = 20 if called else 4 if folder == 'api' or page.parent == Path('nbs') else .2 if folder == 'results' else 1
    return f'---\nsearch:\n  boost: {weight}\n---\n\n{markdown}'

def code_of(cell:dict, module:str|None) -> str:
    "A code cell as its reader sees it: without directives; nothing where it is hidden, or shows only what it gives"
    lines = ''.join(cell['source']).splitlines()
    said = [line.removeprefix('#|').strip().split()[0] for line in lines if line.startswith('#|') and line.strip('#| ')]
    shown = '\n'.join(line for line in lines if not line.startswith('#|')).strip()
    if not shown or {'hide', 'default_exp', 'echo:'} & set(said): return ''
    exported, block = module and {'export', 'exports'} & set(said), f'\n{shown}\n```'
    if exported and all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(shown).body):
        return f'<details markdown="1"><summary>Imports of lottery_diet.{module}</summary>\n\n```python{block}\n\n</details>'
    title = f' title="exported to lottery_diet.{module}"' if exported else ''
    return f'```python{title}{block}'

def output_of(output:dict, picture:Path) -> str:
    "What a cell left: a table, a picture, markdown or text"
    data = output.get('data', {})
    joined = lambda value: value if isinstance(value, str) else ''.join(value)
    if 'image/png' in data:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(base64.b64decode(joined(data['image/png'])))
        return f'![What this cell draws]({picture.parent.name}/{picture.name})'
    if 'text/markdown' in data: return joined(data['text/markdown'])
    if 'text/html' in data: return re.sub(r'<style scoped>.*?</style>|\n\s*(?=<)', '', joined(data['text/html']), flags=re.S)
    text = joined(output.get('text', data.get('text/plain', ''))).rstrip()
    return f'```text\n{text}\n```' if text else ''

def page_of(notebook:Path, staged:Path) -> str:
    "A notebook as a page; its pictures are written beside it"
    cells, source = json.loads(notebook.read_text(encoding='utf-8'))['cells'], notebook.read_text(encoding='utf-8')
    module = re.search(r'#\| *default_exp ([\w.]+)', source)
    parts, pictures = [], staged/notebook.relative_to(root).parent/f'{notebook.stem}_pictures'
    for i, cell in enumerate(cells):
        if cell['cell_type'] == 'markdown': parts.append(with_math(''.join(cell['source'])))
        if cell['cell_type'] != 'code' or re.match('#[|] *hide', ''.join(cell['source'])): continue
        shown = [shown for j, output in enumerate(cell['outputs']) if (shown := output_of(output, pictures/f'{i}_{j}.png'))]
        parts += [code_of(cell, module and module[1]), *(f'<div class="output" markdown="1">\n\n{one}\n\n</div>' for one in shown)]
    if module:
        page, up = notebook.relative_to(root), '../'*len(notebook.relative_to(root).parent.parts)
        parts.insert(1, f'*Module [`lottery_diet.{module[1]}`]({up}api/{module[1]}.md), notebook `{page}`.*')
    if notebook in colab.chapters() and colab.is_published(cfg := colab.settings()):
        parts.insert(1, f'[Open in Colab]({colab.address(notebook, cfg)})')
    return '\n\n'.join(parts) + '\n'

def add_logbook(staged:Path) -> None:
    "The logbook as it is, with links to pages in place of notebooks; other files that it links are taken along"
    page = logbook(staged/'logbook.html', folder=root)
    def lead(match):
        target = Path(unquote(match[1]))
        if target.suffix == '.ipynb': return f'href="{quote(target.with_suffix(".html").as_posix())}"'
        (staged/target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/target, staged/target)
        return match[0]
    page.write_text(re.sub(r'href="([^"#:]+)"', lead, page.read_text(encoding='utf-8')), encoding='utf-8')

def title_of(notebook:Path) -> str:
    "Its first heading"
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    return next(m[1].replace('`', '') for cell in cells if (m := re.match(r'# (.+)', ''.join(cell['source']))))

def navigation(notebooks:list[Path], modules:list[str]) -> list:
    "Home, tutorials, chapters and rooms, papers with their figures, lessons, API"
    number = lambda p: f'{m[0]} ' if (m := re.match(r'\d+[a-z]*', p.name)) else ''
    entry = lambda p: {number(p) + title_of(p): f'{p.relative_to(root).with_suffix(".md")}'}
    inside = lambda folder: sorted((p for p in notebooks if p.parent == root/'nbs'/folder), key=lambda p: p.stem != 'index')
    floor = {'Chapters': [entry(p) for p in inside('') if p.name[:2].isdigit() or p.stem in ('files', 'packed', 'sources')]}
    floor |= {title: [entry(p) for p in inside(folder)] for title, folder in rooms.items()}
    floor['Papers'] = [entry(p) for p in inside('papers')]
    floor['Command line'] = [entry(p) for p in inside('') if p.stem == 'cli']
    figures = {title: [entry(p) for p in inside(f'papers/{paper}')] for paper, title in papers.items()}
    grouped = lambda groups: [{name: pages} for name, pages in groups.items() if pages]
    taught = sorted(inside('tutorials'), key=lambda p: [p.stem != name for name in tutorials])
    home = {'What was reproduced': 'nbs/claims.md', 'Logbook': 'logbook.html',
            'Contributing': 'CONTRIBUTING.md', 'Code of conduct': 'CODE_OF_CONDUCT.md', 'Changelog': 'CHANGELOG.md'}
    found = {
        'Home': ['README.md', *({name: page} for name, page in home.items())], 'Tutorials': [entry(p) for p in taught], 'Read': grouped(floor),
        'Papers': grouped(figures), 'Lessons': [entry(p) for p in inside('lessons')], 'API': ['api/index.md', *({m: f'api/{m}.md'} for m in modules)]}
    return grouped(found)

def stage(staged:Path) -> list:
    "Write all pages as markdown; how one gets to them"
    notebooks = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in p.parts and p != front]
    modules = described_modules(root/'lottery_diet')
    pages = {p.relative_to(root).with_suffix('.md'): page_of(p, staged) for p in notebooks}
    pages |= {p.relative_to(root).with_suffix('.md'): page_of(p, staged) for p in sorted((root/'results').rglob('*.ipynb'))}
    pages |= {Path(name): (root/name).read_text(encoding='utf-8') for name in ('README.md', 'CONTRIBUTING.md', 'CODE_OF_CONDUCT.md', 'CHANGELOG.md')}
    pages |= {p.relative_to(root): p.read_text(encoding='utf-8') for p in (root/'results').glob('*.md')}
    source_of = {m[1]: p for p in notebooks if (m := re.search(r'#\| *default_exp ([\w.]+)', p.read_text(encoding='utf-8')))}
    pages |= {Path('api')/f'{name}.md': with_math(api_page(modules, name, source_of[name].relative_to(root))) for name in modules}
    held = (f'| [`{name}`]({name}.md) | {m.about} |' for name, m in modules.items())
    pages[Path('api/index.md')] = '\n'.join(['# API', '', '| module | what it holds |', '|-|-|', *held])
    for page, text in pages.items():
        (staged/page).parent.mkdir(parents=True, exist_ok=True)
        (staged/page).write_text(with_weight(with_pages(text, page, staged), page), encoding='utf-8')
    (staged/'tools').mkdir()
    for file in ('extra.css', 'iframe-worker.js'): shutil.copy(root/'tools'/'docs'/file, staged/'tools')
    add_logbook(staged)
    return navigation(notebooks, list(modules))

def main(site:Path) -> None:
    "Stage the pages in `_docs/` and build them; any broken link stops it"
    staged = root/'_docs'
    shutil.rmtree(staged, ignore_errors=True)
    logging.basicConfig(format='%(message)s') # which link is broken
    build(load_config(str(root/'tools'/'docs'/'mkdocs.yml'), docs_dir=str(staged), site_dir=str(site), nav=stage(staged), strict=True))

if __name__ == '__main__': main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else root/'site')
