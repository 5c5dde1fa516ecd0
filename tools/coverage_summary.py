"""What tests reach, as Markdown, and a badge: `python tools/coverage_summary.py coverage.json badge.json`.

Lines by module, and cells of pages that no test runs.
"""
import json
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def by_module(measured:dict) -> list[tuple[str, int, int]]: # module, lines, how many of them were reached
    "The modules of a `coverage json`, the least reached first"
    name = lambda file: Path(file).with_suffix('').as_posix().replace('/', '.')
    counts = {name(file): part['summary'] for file, part in measured['files'].items()}
    found = [(module, of['num_statements'], of['covered_lines']) for module, of in counts.items()]
    return sorted((row for row in found if row[1]), key=lambda row: row[2]/row[1])

def cells_not_run(nbs:Path, flags:tuple[str, ...]=('slow', 'notest')) -> dict[str, tuple[int, int]]: # by page: code cells that tests skip, and all
    "Pages with cells that tests skip"
    code_of = lambda page: [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    pages = {page.relative_to(nbs).as_posix(): code_of(page) for page in sorted(nbs.rglob('*.ipynb'))}
    skipped = lambda cell: any(line.removeprefix('#|').strip() in flags for line in cell.splitlines() if line.startswith('#|'))
    return {page: (n, len(cells)) for page, cells in pages.items() if (n := sum(map(skipped, cells)))}

def badge_of(percent:float) -> dict: # as shields.io reads an endpoint
    "A badge as plain data"
    return dict(schemaVersion=1, label='coverage', message=f'{percent:.0f} %', color='green' if percent >= 90 else 'yellow' if percent >= 75 else 'red')

def summary(measured:dict, nbs:Path) -> str: # Markdown
    "The number, modules below it, and what is not run"
    percent, rows, pages = measured['totals']['percent_covered'], by_module(measured), cells_not_run(nbs)
    below = [f'| `{name}` | {lines} | {100*reached/lines:.0f} % |' for name, lines, reached in rows if 100*reached/lines < percent]
    not_run, cells = [f'| `{page}` | {total} | {n} |' for page, (n, total) in pages.items()], sum(n for n, _ in pages.values())
    return '\n'.join([f'## {percent:.1f} % of {measured["totals"]["num_statements"]:,} lines', '',
                      'Modules below that:', '', '| module | lines | reached |', '|-|-|-|', *below, '',
                      f'Cells that no test runs, because they take minutes: {cells} on {len(pages)} pages.', '',
                      '| page | cells | not run |', '|-|-|-|', *not_run])

if __name__ == '__main__':
    measured = json.loads(Path(sys.argv[1]).read_text(encoding='utf-8'))
    if len(sys.argv) > 2: Path(sys.argv[2]).write_text(json.dumps(badge_of(measured['totals']['percent_covered'])) + '\n', encoding='utf-8')
    print(summary(measured, root/'nbs'))
