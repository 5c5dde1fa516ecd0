"Make README.md from nbs/index.ipynb: what the page shows, without hidden cells, with links as seen from the top folder."
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent

def from_the_top(markdown:str) -> str:
    "Relative links of a page in nbs/ as they read in the folder above it"
    def move(match):
        target = match[1]
        if re.match(r'[a-z]+:|#', target): return match[0]
        return f']({target[3:] if target.startswith("../") else "nbs/" + target})'
    return re.sub(r'\]\(([^)\s]+)\)', move, markdown).replace('src="../', 'src="')

def shown(cell):
    "What a reader sees of a cell: nothing of hidden ones, of those that do not echo what they give"
    if cell.source.startswith('#| hide'): return []
    if not cell.source.startswith('#| echo: false'): return [cell]
    return [nbformat.v4.new_markdown_cell(''.join(o.data['text/markdown'])) for o in cell.outputs]

def readme() -> str:
    "The page as markdown"
    page = nbformat.read(root/'nbs'/'index.ipynb', as_version=4)
    page.cells = [part for c in page.cells for part in shown(c)]
    body, resources = MarkdownExporter().from_notebook_node(page)
    body = re.sub(r'<style scoped>.*?</style>\n*', '', body, flags=re.S) # of tables; where raw styles are not allowed they show as text
    if resources['outputs']: sys.exit('the index has pictures among its outputs: save them in results/ and link them')
    named = re.sub(r'\n```\n(?=from|import)', '\n```python\n', from_the_top(body))
    lines = (line.rstrip() for line in named.splitlines())
    return '<!-- made from nbs/index.ipynb by `make prepare` -->\n\n' + re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)).strip() + '\n'

if __name__ == '__main__':
    if '--print' in sys.argv: sys.stdout.write(readme())
    else: (root/'README.md').write_text(readme(), encoding='utf-8')
