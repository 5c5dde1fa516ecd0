"Every value of every figure and chapter at the paper's scale stands in `data/protocols.csv`, with its source and how sure it is."
import json
import math
from collections import Counter
from dataclasses import fields, is_dataclass

import pandas as pd
import pytest

from lottery_diet.core import project_root
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.tasks import Config
from lottery_diet.models import alexnet_mtt
from lottery_diet.pages.chapters import DistillParameters
from lottery_diet.papers.catalogue import panels_of, preset, presets
from lottery_diet.papers.data_diet.protocols import rewind_settings, score_settings, spawn_settings
from lottery_diet.papers.stable_subnetworks.protocols import distill_setting, distill_settings, mnist_conv_net

protocols = pd.read_csv(project_root()/'data'/'protocols.csv', keep_default_na=False)
chapter_settings = {'04_scores': score_settings, '05_imp': rewind_settings, '06_lmc': spawn_settings, '08_distill': distill_settings}
in_chapters = {(chapter, None if data == 'any' else data): setting # (chapter, data set) → what it asks
               for chapter, settings in chapter_settings.items()
               for at, setting in settings.items() for scale, data in [(at, 'any') if isinstance(at, str) else at] if scale == 'paper'}
asked = [(figure, panel) for figure in presets for panel in list(panels_of(figure)) or [None]] + list(in_chapters)

def all_fields(value):
    "As `identity`, with the fields that it leaves out while they have their default"
    if isinstance(value, Config): return {k: all_fields(getattr(value, k)) for k, field in type(value).model_fields.items() if not field.exclude}
    if is_dataclass(value): return {f.name: all_fields(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict): return {k: all_fields(v) for k, v in value.items()}
    return [all_fields(v) for v in value] if isinstance(value, (list, tuple)) else value

def leaves(value, path=''):
    "Values by their place; those of lists of settings share one"
    if isinstance(value, dict) and value:
        for k, v in value.items(): yield from leaves(v, f'{path}.{k}' if path else k)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for v in value: yield from leaves(v, f'{path}[]')
    else: yield path, value

def setting_of(figure, panel):
    "What a figure or a chapter asks at the paper's scale"
    return in_chapters.get((figure, panel)) or preset(figure, 'paper', panel=panel)

def values_of(figure, panel):
    "By field, one value where all settings of a list agree; parts of a figure that are panels of their own stand there"
    found = {}
    for field, value in leaves(all_fields(setting_of(figure, panel))):
        if not field.startswith('beside'): found.setdefault(field, []).append(value)
    return {field: vs[0] if '[]' not in field or all(v == vs[0] for v in vs) else vs for field, vs in found.items()}

def written(figure, panel):
    "What the file says of one figure or chapter: field → value"
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

def test_the_settings_of_chapters_are_among_them():
    "All that stand at the paper's scale, so that a new one asks for its rows"
    of_tickets = [('05_imp', data) for data in ('mnist', 'cifar10', 'cifar100', 'cinic10')]
    assert list(in_chapters) == [('04_scores', None), *of_tickets, ('06_lmc', None), ('08_distill', None)]

@pytest.mark.parametrize('figure, panel', [('dd_accuracy_vs_sparsity', 'A'), ('05_imp', 'cifar10')])
def test_a_changed_value_is_noticed(figure, panel):
    "The comparison can fail: one rate of one figure, and of one chapter"
    values = values_of(figure, panel)
    assert values['recipe.lr'] == .1 and values | {'recipe.lr': .2} != written(figure, panel)
    assert Counter(protocols.sure)['differs'] > 5

@pytest.mark.parametrize('figure, panel, images, epochs, drops', [
    ('dd_accuracy_vs_sparsity', 'A', 50_000, 160, (80, 120)), ('win_repel', 'B', 50_000, 75, ()), ('win_batch_size', 'A', 50_000, 85, (56, 71)),
    ('win_batch_size', 'C', 50_000, 75, (55, 65)), ('win_one_shot', None, 1_281_167, 90, (30, 60, 80)),
    ('syn_accuracy_vs_sparsity', None, 50_000, 300, (200, 250)),
    ('syn_ratio', 'E', 50_000, 300, (200, 250)), ('syn_then_imp', None, 13_000, 300, (200, 250)), ('syn_predecessor', 'A', 50_000, 60, (50,))])
def test_steps_are_the_published_epochs(figure, panel, images, epochs, drops):
    "Of batches of which the last may be smaller; where there is warm-up, it takes ten"
    study = preset(figure, 'paper', panel=panel)
    for recipe in getattr(study, 'recipes', None) or [study.recipe]:
        batches = math.ceil(images/recipe.batch_size)
        assert (recipe.steps, recipe.milestones) == (epochs*batches, tuple(drop*batches for drop in drops))
        assert recipe.warmup in (0, 10*batches)

def test_recipes_of_a_figure_differ():
    "A list whose settings all agree shows one value: nothing else would tell one recipe from the same one twice"
    for figure, panel in asked:
        recipes = getattr(setting_of(figure, panel), 'recipes', ())
        assert len(set(recipes)) == len(recipes)

def parameters_of(net): return sum(p.numel() for p in net.parameters())

def test_mnist_is_distilled_with_the_network_of_the_papers_code(monkeypatch):
    "It pads further, so that 28×28 pixels become 32×32; no other setting is changed by that, and no network by default"
    class Digits: shape, classes = (1, 28, 28), 10
    default, padded = (net.maker(Digits)() for net in (Network(model='conv_net'), mnist_conv_net))
    assert (parameters_of(default), parameters_of(padded)) == (308_746, 317_706)
    assert [parameters_of(alexnet_mtt((1, 28, 28), **padding)) for padding in ({}, dict(padding=4))] == [1_852_362, 1_865_802]
    assert distill_setting('paper', 'mnist').network == mnist_conv_net
    for scale, setting in distill_settings.items():
        assert all(distill_setting(scale, data) == setting for data in (None, 'cifar10', 'cifar100', 'digits', *['mnist']*(scale != 'paper')))
    monkeypatch.setattr(Images, 'read', lambda self: None) # the data need not be at hand
    asked = DistillParameters(scale='paper', dataset='mnist', method='gradient').question()
    assert asked.data.name == 'mnist' and all(asker.network == mnist_conv_net for asker in (asked, *asked.tasks()))
