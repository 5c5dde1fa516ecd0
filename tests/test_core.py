"Chapters of the library take what other chapters give, and refuse in a sentence what would be taken for something else."
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from lottery_diet.core import angle, as_vector, distance, same
from lottery_diet.data import ImageSet
from lottery_diet.distill import DistilledImages
from lottery_diet.distillation.trajectory import train_experts
from lottery_diet.engine.parallel import can_run_in_parallel
from lottery_diet.engine.recipe import Recipe
from lottery_diet.imp import Mask, Ticket, imp, train_ticket
from lottery_diet.lmc import instability, spawn
from lottery_diet.models import HalvingPool, initialize, mlp
from lottery_diet.networks.residual import BasicBlock, ResNet
from lottery_diet.regions import (
    cosines,
    disagreement,
    distance_matrix,
    living_weights,
    matched_units,
    moved_mask,
    repulsion,
    threshold,
    unit_groups,
    weight_counts,
)
from lottery_diet.scores import Scores
from lottery_diet.sources import load_data
from lottery_diet.train import Snapshot, fit, fit_many

digits = load_data('digits')
data, test = digits.train.take(range(96)), digits.test.take(range(60))
make, recipe = partial(mlp, (1, 8, 8), 10, (8,)), Recipe(4, 32, lr=.05)
net = initialize(make, 0)
begin = Snapshot.of(net)

def test_a_start_keeps_the_step_that_its_source_has(tmp_path):
    longer, level = replace(recipe, steps=6), list(imp(initialize(make, 0), data, recipe, begin, 1))[1]
    saved = level.trained.save(tmp_path/'s.safetensors')
    assert Snapshot.of(level) is level.trained
    for source in (saved, str(saved)): assert same(Snapshot.of(source).optimizer, level.trained.optimizer) and Snapshot.of(source).step == 4
    ends = [fit(initialize(make, 1), data, longer, start=start, mask=level.mask).state for start in (level.trained, level, saved)]
    ends += [end.state for end in fit_many(initialize(make, 1), data, longer, [level, saved], masks=[level.mask]*2, seeds=(0, 0), grouping='in turn')]
    assert all(same(ends[0], end) for end in ends)
    (tmp_path/'plain.pt').write_bytes(b'')
    torch.save(level.trained.state, tmp_path/'plain.pt')
    assert Snapshot.of(tmp_path/'plain.pt').step == 0 and Snapshot.of(tmp_path/'plain.pt', 3).step == 3
    with pytest.raises(FileNotFoundError, match='there is no file'): Snapshot.of(tmp_path/'none.safetensors')

def test_a_ticket_is_no_start(tmp_path):
    ticket = Ticket(Mask.dense(net), begin, recipe, fit(initialize(make, 0), data, recipe))
    for wrong in (ticket, replace(ticket, trained=None), ticket.save(tmp_path/'t.safetensors'), ticket.save(tmp_path/'l.safetensors', living=True)):
        with pytest.raises(TypeError, match='holds two states: give'): fit(net, data, recipe, start=wrong)
        with pytest.raises(TypeError, match='holds two states: give'): fit_many(net, data, recipe, [wrong])

def test_many_trainings_begin_at_whatever_one_begins_at():
    for grouping in ('in turn', 'in parallel'):
        ends, known = (fit_many(initialize(make, 0), data, recipe, starts, grouping=grouping) for starts in ([net, begin.state], [begin]*2))
        assert all(same(a.state, b.state) for a, b in zip(ends, known))

def test_a_snapshot_that_could_not_be_saved_is_not_made(tmp_path):
    made = Snapshot(np.int64(3), begin.state, loss=np.float32(.5))
    assert Snapshot.load(made.save(tmp_path/'s.safetensors')).step == 3 and type(made.step) is int and type(made.loss) is float
    for wrong in (2.5, -1, None):
        with pytest.raises(ValueError, match='whole number of at least 0'): Snapshot(wrong, begin.state)

class Named(ResNet): "The same network under another name"

class Careful(Named): channelwise = False

class Mixing(Named):
    def forward(self, x): return super().forward(x - x.mean(1, keepdim=True)) # over all channels

class Sorted(nn.Identity):
    def forward(self, x): return x.sort(1).values

def test_a_class_that_writes_another_forward_says_again_that_it_keeps_channels_apart():
    colored = ImageSet(data.x.expand(-1, 3, -1, -1) - data.x[:, :, :1, :1]*torch.arange(3, dtype=torch.uint8)[:, None, None], data.y, 10)
    made = {kind: initialize(lambda: kind((3, 8, 8), 10, BasicBlock, (1,), (4,)), 0) for kind in (Named, Careful, Mixing)}
    assert {kind.__name__: can_run_in_parallel(net) for kind, net in made.items()} == dict(Named=True, Careful=False, Mixing=False)
    starts = [Snapshot.of(made[Mixing])]*2
    ends = fit_many(made[Mixing], colored, Recipe(2, 16, lr=.1), starts)
    assert same(ends[1].state, fit(made[Mixing], colored, Recipe(2, 16, lr=.1), start=starts[1], seed=1).state)

def test_units_keep_their_order_where_a_layer_of_ones_own_looks_at_it():
    def network(middle): return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), middle, nn.Linear(8, 10))
    class Turned(HalvingPool):
        def forward(self, x): return x.flip(1)
    assert [len(unit_groups(network(middle))) for middle in (nn.Identity(), Sorted(), Turned())] == [1, 0, 0]

def test_what_is_told_beside_an_image_set_is_heard_or_refused():
    own = ImageSet.of(data.x, data.y)
    assert ImageSet.of(own) is own and ImageSet.of(own, mean=(.2,)).mean == (.2,) and ImageSet.of(own, std=(.3,)).std == (.3,)
    assert ImageSet.of(own, classes=12).classes == 12 and ImageSet.of(own, name='mine').name == ImageSet.of(own, like=own, name='mine').name == 'mine'
    with pytest.raises(ValueError, match='has labels already'): ImageSet.of(own, data.y)
    with pytest.raises(ValueError, match='has labels already'): ImageSet.of(own, data.y, like=own)
    for told in (dict(mean=(.2,)), dict(std=(.3,)), dict(classes=12)):
        for source in ((own,), (data.x, data.y), ([*zip(data.x, data.y)],)):
            with pytest.raises(ValueError, match=f'{next(iter(told))}= and like= cannot both be given'): ImageSet.of(*source, like=own, **told)
    with pytest.raises(TypeError, match='like= is a tuple'): ImageSet.of(data.x, data.y, like=(data.x, data.y))

def test_two_levels_are_on_the_scale_of_the_training_set():
    bits = (np.random.default_rng(0).random((10, 1, 8, 8)) < .5).astype(np.int64)
    kinds, y = dict(whole=bits, small=bits.astype(np.uint8), shares=bits.astype(float), pixels=bits*255, boolean=bits > 0), np.arange(10) % 2
    for name, a in kinds.items():
        like = ImageSet.of(a, y)
        seen = like.inputs(like.x)
        for b in kinds.values():
            for source in ((b, y), (ImageSet.of(b, y),)): assert torch.equal(ImageSet.of(*source, like=like).inputs(ImageSet.of(*source, like=like).x), seen)
        black = ImageSet.of(bits*0, y, like=like)
        assert not black.x.any()
    with pytest.raises(ValueError, match='are 0 and 1 alone, and these end at'): ImageSet.of(bits*7., y, like=ImageSet.of(bits, y))
    with pytest.raises(ValueError, match='are 0 and 1 alone, and these end at'): ImageSet.of(bits*.3, y, like=ImageSet.of(bits, y))
    gray = ImageSet.of((bits + .01)/1.01, y)
    assert gray.x.is_floating_point() and all(ImageSet.of(b, y, like=gray).x.max() == 1 for b in kinds.values())
    dark = ImageSet.of(bits, y, like=data)
    assert dark.x.max() == 1 # among many levels it is one of them

def test_a_data_set_is_read_by_its_path(tmp_path):
    file = tmp_path/'mine.npz'
    np.savez(file, **{f'{k}_{part}': getattr(own, k).squeeze().numpy() for part, own in (('train', data), ('test', test)) for k in 'xy'})
    assert torch.equal(load_data(file).train.x, load_data(str(file)).train.x) and len(load_data(Path('digits')).test) == 500
    with pytest.raises(FileNotFoundError, match='there is no folder'): load_data(tmp_path/'none')

@pytest.mark.filterwarnings('ignore:.*weight_norm.*:FutureWarning')
@pytest.mark.parametrize('change, off', [
    (lambda m: prune.l1_unstructured(m, 'weight', .5), 'prune.remove'), (torch.nn.utils.weight_norm, 'remove_weight_norm'),
    (torch.nn.utils.spectral_norm, 'remove_spectral_norm')])
def test_units_of_a_layer_that_computes_its_weight_are_not_matched(change, off):
    hidden = initialize(make, 0)
    change(hidden[1])
    with pytest.raises(ValueError, match=f'take that off first, {off}'): matched_units(hidden, hidden.state_dict(), hidden.state_dict())
    with pytest.raises(ValueError, match=f'take that off first, {off}'): unit_groups(hidden)

def test_regions_are_asked_about_levels_snapshots_and_networks():
    levels = list(imp(initialize(make, 0), data, recipe, begin, 1))
    (a, b), masks, mask = (level.trained.state for level in levels), [level.mask for level in levels], levels[1].mask
    forms = [(levels[0], levels[1]), (levels[0].trained, levels[1].trained), (a, b)]
    def asked(u, v):
        of_units = [f(look)['1.weight'] for look in (None, test)
                    for f in (lambda look: matched_units(net, u, v, look=look), lambda look: moved_mask(net, mask, u, v, look=look))]
        return [living_weights(u, mask), cosines(u, [v], mask), repulsion([u, v], mask, 1.).rows, distance_matrix([u, v], masks),
                disagreement(net, [u, v], test), threshold(u, mask, .2), weight_counts(u, mask, [-1, 0, 1]), *of_units]
    first, *others = (asked(*form) for form in forms)
    assert all(np.array_equal(x, y) for other in others for x, y in zip(first, other))

def test_what_would_train_nothing_is_refused():
    end, mask = fit(initialize(make, 0), data, recipe), Mask.dense(net)
    for go in (lambda: spawn(net, data, recipe, end), lambda: instability(net, data, recipe, end, test), lambda: train_ticket(net, data, recipe, end, mask)):
        with pytest.raises(ValueError, match='step 4 of 4, after which nothing would be trained'): go()
    for children in (0, -1, 1.5):
        with pytest.raises(ValueError, match='must be a whole number of at least 1'): spawn(net, data, recipe, begin, children=children)

def test_a_mask_of_pruned_layers_counts_the_others_too():
    pruned = initialize(make, 0)
    prune.l1_unstructured(pruned[3], 'weight', .5)
    prune.l1_unstructured(pruned[3], 'bias', .5)
    mask = Mask.from_pruned(pruned)
    assert {k: int(m.sum()) for k, m in mask.items()} == {'1.weight': 512, '3.weight': 40, '3.bias': 5}
    prune.remove(pruned[3], 'weight')
    prune.remove(pruned[3], 'bias')
    assert same({k: m for k, m in mask.items() if k != '3.bias'}, dict(Mask.from_pruned(pruned)))

def test_what_is_to_be_saved_can_be_saved_or_is_refused_when_it_is_made(tmp_path):
    values = np.arange(96, dtype=np.float32)
    told = dict(seeds=range(3), device=torch.device('cpu'), lr=np.float32(.5), steps=np.int64(3), sizes=np.arange(2), recipe=recipe,
                at=tmp_path, kept={1}, none=None)
    for given in (values, values.tolist(), torch.from_numpy(values)):
        made = Scores.of(data, given, each=np.stack([values, values]), **told)
        again = Scores.load(made.save(tmp_path/'scores.safetensors'))
        assert again.origin == made.origin and made.origin['seeds'] == [0, 1, 2] and made.origin['device'] == 'cpu'
        assert torch.equal(again.values, torch.as_tensor(given)) and again.each.shape == (2, 96)
    with pytest.raises(ValueError, match='give one for each example'): Scores.of(data, values[:, None])
    images, labels = data.inputs(data.x[:10]), data.y[:10]
    for x, y in ((images, labels), (images.numpy(), labels.numpy())):
        made = DistilledImages.of(data, x, y, np.int64(1), np.float32(.25), data.x[:10].numpy(), **told)
        again = DistilledImages.load(made.save(tmp_path/'images.safetensors'))
        assert again.origin == made.origin and again.rate == .25 and torch.equal(again.labels, labels) and torch.equal(again.pixels, data.x[:10])
    for make_one in (partial(Scores.of, data, values), partial(DistilledImages.of, data, images, labels)):
        with pytest.raises(TypeError, match='origin net is a Sequential, which no file can hold'): make_one(net=nn.Sequential())
    with pytest.raises(TypeError, match='origin recipe.loss is a function'): Scores.of(data, values, recipe=replace(recipe, loss=nn.functional.mse_loss))

def test_experts_that_are_finished_are_kept(tmp_path):
    seen = []
    def interrupted(x, draws):
        seen.append(len(x))
        if len(seen) == 7: raise KeyboardInterrupt
        return x
    with pytest.raises(KeyboardInterrupt): train_experts(make, data, Recipe(6, 32, lr=.05), (0, 1, 2), tmp_path, augment=interrupted, grouping='in turn')
    assert [file.name for file in tmp_path.iterdir()] == ['expert0000.safetensors']
    experts = train_experts(make, data, Recipe(6, 32, lr=.05), (0, 1, 2), tmp_path, augment=interrupted, grouping='in turn')
    nets = [initialize(make, seed, 'expert') for seed in range(3)]
    ends = fit_many(nets[0], data, Recipe(6, 32, lr=.05), nets, grouping='in turn', augment=lambda x, draws: x)
    assert all(same(expert.at(2), end.state) for expert, end in zip(experts, ends)) and sum(1 for _ in tmp_path.iterdir()) == 3

def test_running_statistics_are_no_weights():
    a = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    b = a | {'1.running_mean': a['1.running_mean'] + 3, '1.running_var': a['1.running_var'] + 3}
    assert distance(a, b) == 0 and angle(a, b) == 0 and torch.equal(as_vector(a), as_vector(b)) and len(as_vector(a)) == 18 + 2 + 2 + 2
    assert distance(a, b, ['1.running_mean']) == pytest.approx(18**.5) and len(as_vector(a, ['1.running_var'])) == 2
    alone = {'running_mean': torch.ones(2)}
    assert distance(alone, alone) == 0 and np.isnan(angle(alone, alone))
