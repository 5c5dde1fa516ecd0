"""Let every chapter install the package where it is opened on Colab, from the repository of settings.ini.

`python tools/colab.py` writes it into the cells that name their modules.
"""
import json
import re
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import quote

root = Path(__file__).resolve().parent.parent

def settings(file:Path=root/'settings.ini') -> dict: # git_url, user, repo, branch
    "What says where the repository is"
    ini = ConfigParser(delimiters=['='])
    ini.read(file, encoding='utf-8')
    return dict(ini['DEFAULT'])

def chapters() -> list[Path]:
    "The notebooks with a number"
    return sorted((root/'nbs').glob('[0-9][0-9]_*.ipynb'))

def address(notebook:Path, cfg:dict, ref:str|None=None) -> str: # of a branch, tag or commit; the settings' branch if None
    "Where Colab opens a notebook"
    branch, page = quote(ref or cfg['branch']), quote(notebook.relative_to(root).as_posix())
    return f'https://colab.research.google.com/github/{cfg["user"]}/{cfg["repo"]}/blob/{branch}/{page}'

def is_published(cfg:dict) -> bool:
    "Has the repository an address yet, other than the one it began with?"
    return cfg['user'] != 'someone'

def installing(cfg:dict) -> str:
    "Lines that install on Colab, and do nothing elsewhere; Colab shows a field for the branch, tag or commit"
    return f"""import sys
ref = {cfg["branch"]!r} #@param {{type: "string"}}
if 'google.colab' in sys.modules: get_ipython().run_line_magic('pip', f'install -q git+{cfg["git_url"]}@{{ref}}')"""

def with_install(notebook:dict, cfg:dict) -> dict:
    "A notebook, as JSON has it, whose cell with `default_exp` installs; the same, changed"
    cell = next(c for c in notebook['cells'] if ''.join(c['source']).startswith('#| default_exp'))
    named = ''.join(cell['source']).splitlines()[0]
    cell['source'] = f'{named}\n{installing(cfg)}'.splitlines(keepends=True)
    return notebook

def badges(cfg:dict) -> str: # Markdown
    "A link for each chapter"
    title = lambda page: re.search(r'^# (.+)$', ''.join(json.loads(page.read_text(encoding='utf-8'))['cells'][0]['source']), re.M)[1]
    return ' · '.join(f'[{page.stem[:2]} {title(page)}]({address(page, cfg)})' for page in chapters())

if __name__ == '__main__':
    cfg = settings()
    for page in chapters():
        changed = with_install(json.loads(page.read_text(encoding='utf-8')), cfg)
        page.write_text(json.dumps(changed, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
    print(badges(cfg) if is_published(cfg) else 'Name the repository in settings.ini (user): until then no chapter can be opened on Colab.')
