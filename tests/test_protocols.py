"Every value of every preset at the paper's scale stands in `data/protocols.csv`, with its source and how sure it is."
import json
from collections import Counter

import pandas as pd
import pytest

from lottery_diet.core import project_root
from lottery_diet.papers.catalogue import panels_of, preset, presets

protocols = pd.read_csv(project_root()/'data'/'protocols.csv', keep_default_na=False)
asked = [(figure, panel) for figure in presets for panel in list(panels_of(figure)) or [None]]

def leaves(value, path=''):
    "Values by their place; those of lists of settings share one"
    if isinstance(value, dict) and value:
        for k, v in value.items(): yield from leaves(v, f'{path}.{k}' if path else k)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for v in value: yield from leaves(v, f'{path}[]')
    else: yield path, value

def values_of(figure, panel):
    "By field, one value where all settings of a list agree; parts of a figure that are panels of their own stand there"
    found = {}
    for field, value in leaves(preset(figure, 'paper', panel=panel).identity()):
        if field.split('.')[-1] not in ('kind', 'version') and not field.startswith('beside'): found.setdefault(field, []).append(value)
    return {field: vs[0] if '[]' not in field or all(v == vs[0] for v in vs) else vs for field, vs in found.items()}

def written(figure, panel):
    "What the file says of one figure: field → value"
    name = f'{figure}:{panel}' if panel else figure
    rows = protocols[protocols.figures.map(lambda names: name in names.split())]
    assert not rows.field.duplicated().any(), name
    return {row.field: json.loads(row.value) for row in rows.itertuples()}

@pytest.mark.parametrize('figure, panel', asked)
def test_presets_are_what_the_file_of_protocols_says(figure, panel):
    assert values_of(figure, panel) == written(figure, panel)

def test_every_row_says_how_sure_it_is_and_is_used():
    assert set(protocols.sure) <= {'certain', 'derived', 'inferred', 'recalled', 'doubtful', 'unknown', 'ours', 'differs'}
    assert (protocols.source != '').all() and (protocols.note[protocols.sure.isin(['differs', 'doubtful'])] != '').all()
    names = {f'{figure}:{panel}' if panel else figure for figure, panel in asked}
    assert {name for row in protocols.figures for name in row.split()} == names

def test_a_changed_value_is_noticed():
    "The comparison can fail: one rate of one figure"
    values = values_of('dd_accuracy_vs_sparsity', 'A')
    assert values['recipe.lr'] == .1 and values | {'recipe.lr': .2} != written('dd_accuracy_vs_sparsity', 'A')
    assert Counter(protocols.sure)['differs'] > 5
