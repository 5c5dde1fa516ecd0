"""Put the finished answers of the studies at a scale, without tensors, into results/answers, from where figures are redrawn.

    python tools/ship_answers.py mini [FIGURE …]
"""
import sys
from pathlib import Path

from lottery_diet.core import project_root
from lottery_diet.experiments.answers import Answer, ship_answers
from lottery_diet.experiments.sweeps import with_needs
from lottery_diet.experiments.tasks import Run
from lottery_diet.papers.catalogue import panels_of, preset, presets
from lottery_diet.papers.data_diet.protocols import rewind_settings, spawn_settings
from lottery_diet.papers.stable_subnetworks.protocols import own_taught


def studies(scale, figures):
    "The studies of the figures, panel after panel, and of the chapters that run as experiments; raises `ValueError` for unknown names"
    for figure in figures or presets:
        preset(figure, scale) # which names it by
        for panel in panels_of(figure) or [None]:
            try: yield preset(figure, scale, panel=panel)
            except ValueError: continue # a panel that this scale has not
    if not figures: yield from (setting for settings in (rewind_settings, spawn_settings) for (at, _), setting in settings.items() if at == scale)


if __name__ == '__main__':
    scale, figures = sys.argv[1], sys.argv[2:]
    run, tasks = Run(shipped=False), {}
    if scale == 'mini' and not figures: tasks |= {task.key: task for task in own_taught.values()}
    for study in studies(scale, figures): tasks |= {task.key: task for task in with_needs(study.tasks())}
    found = [(task.kind, task.key, task.label(), Answer.of(record)) for task in tasks.values() if (record := run.read(task))]
    folder = Path(project_root())/'results'/'answers'
    lines = ship_answers(found, folder)
    size = sum(f.stat().st_size for f in folder.glob('*.jsonl'))/2**20
    print(f'{len(found):,} answers of {len(tasks):,}; {lines:,} lines, {size:.2f} MiB in {folder.relative_to(project_root())}')
