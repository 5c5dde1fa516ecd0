"Write data/tasks.csv: every figure and panel with the number of tasks that it asks for at each scale, for a command line that need not make them."
import csv
import io
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))

from lottery_diet.papers.catalogue import figures, panels_of
from lottery_diet.papers.parameters import scales


def counted() -> str:
    "The table as CSV: different tasks only; nothing where a panel is not drawn at a scale"
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    table.writerow(['figure', 'panel', 'shows', *scales])
    for figure, panels in figures.items():
        about = panels_of(figure)
        for letter, by_scale in panels.items():
            if letter not in (about or ['A']): continue
            numbers = [len({task.key for task in by_scale[scale].tasks()}) if scale in by_scale else '' for scale in scales]
            table.writerow([figure, letter if about else '', about.get(letter, ''), *numbers])
    return text.getvalue()

if __name__ == '__main__': (root/'data'/'tasks.csv').write_text(counted(), encoding='utf-8')
