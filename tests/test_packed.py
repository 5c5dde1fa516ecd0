"Images on disk: parts as torchvision cuts them, the same batches however they are made, damage, interruptions, and a figure that is trained from a folder."
import copy
import os
import pickle
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lottery_diet import packed
from lottery_diet.baselines import batch_losses
from lottery_diet.core import Diverged, digest, patch_torchvision, same, stream
from lottery_diet.data import ImageSet, RandomParts, gathered
from lottery_diet.distillation.whitening import ZCA
from lottery_diet.engine.evaluation import evaluate, predict
from lottery_diet.engine.example_gradients import gradient_lengths
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.experiments.sweeps import sweep
from lottery_diet.experiments.tasks import Run
from lottery_diet.lmc import recalibrate_batchnorm
from lottery_diet.models import initialize
from lottery_diet.papers.catalogue import preset, varied
from lottery_diet.scores import checksum_of, el2n
from lottery_diet.sources import load_data, packs_of
from lottery_diet.train import Recipe, batches, fit, parallel_batches

modes = ('RGB', 'L', 'CMYK')
def make_folder(root, **n):
    "Class a has stripes that lie, class b stripes that stand; images of many sizes and kinds"
    draws = np.random.default_rng(0)
    for part, c in ((part, c) for part in n for c in 'ab'):
        (folder := root/'imagenet'/part/c).mkdir(parents=True)
        for i in range(n[part]):
            h, w = draws.integers(230, 420, 2)
            bright = 128 + 90*np.sin(np.arange(h)[:, None]*draws.uniform(.15, .25) + np.zeros(w)) + draws.normal(0, 12, (h, w))
            picture = Image.fromarray((bright if c == 'a' else bright.T).clip(0, 255).astype(np.uint8)).convert(modes[i % 3])
            picture.save(folder/f'{c}{i}.JPEG', 'PNG' if i == 3 else 'JPEG') # one of ImageNet's is a PNG by another name
    return root

@pytest.fixture(scope='module')
def root(tmp_path_factory): return make_folder(tmp_path_factory.mktemp('made'), train=12, val=6)

@pytest.fixture(scope='module')
def striped(root): return load_data('imagenet', root)

@pytest.fixture
def own(tmp_path): return make_folder(tmp_path, train=3, val=2)

def net():
    "Small images, a convolution, BatchNorm"
    return nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(26), nn.Flatten(), nn.Linear(8, 2))

plain = Recipe(6, 8, lr=.05, flip=True)
cropped = replace(plain, resized_crop=(.3, .75))

def test_boxes_are_those_of_torchvision(monkeypatch):
    "The same uniform numbers, given to torchvision's own function"
    patch_torchvision()
    from torchvision.transforms import RandomResizedCrop
    parts, own = RandomParts.drawn(300, stream(0, 'boxes'), .1, .8), []
    monkeypatch.setattr(torch.Tensor, 'uniform_', lambda self, low, high: self.fill_(low + tries.pop(0)*(high - low)))
    monkeypatch.setattr(torch, 'randint', lambda low, high, size: torch.tensor([int(places.pop(0)*high)]))
    for i, (h, w) in enumerate([(256, 340), (400, 256), (256, 2000)]*100): # none of the tries fits the longest now and then
        *places, = parts.numbers[i, :2].tolist()
        *tries, = parts.numbers[i, 2:].tolist()
        theirs = RandomResizedCrop.get_params(torch.empty(3, h, w), (.1, 1.), (.8, 1.25))
        own.append(not tries)
        np.testing.assert_allclose(parts.box(i, h, w), theirs, atol=1.01) # theirs are found in float32
    assert 5 < sum(own) < 100 # all tries were used up as often as that
    assert RandomParts(torch.ones(1, 22).double(), .9, .8).box(0, 100, 1000) == (0, 437, 100, 125)

def test_parts_and_middles_are_the_pixels_of_torchvision(root, striped):
    from torchvision.transforms import functional as theirs
    parts, x = RandomParts.drawn(12, stream(0, 'pixels')), striped.train.x
    seen, = gathered(x, [(torch.arange(12), parts)])
    with ZipFile(x.packs[0]) as z: kept = [Image.open(z.open(i)).convert('RGB') for i in z.infolist()]
    for i, picture in enumerate(kept):
        cut = theirs.resized_crop(picture, *parts.box(i, *picture.size[::-1]), [224, 224])
        assert torch.equal(seen[i], torch.from_numpy(np.array(cut)).permute(2, 0, 1))
        assert torch.equal(x[i], torch.from_numpy(np.array(theirs.center_crop(picture, [224, 224]))).permute(2, 0, 1))
        file = sorted((root/'imagenet'/'train'/'a').iterdir())[i]
        usual = theirs.center_crop(theirs.resize(Image.open(file).convert('RGB'), 256), [224, 224])
        assert np.abs(np.asarray(usual).astype(int) - x[i].permute(1, 2, 0).numpy()).mean() < 3 # what JPEG loses
    whole = torch.from_numpy(np.stack([np.array(theirs.center_crop(picture, [224, 224])) for picture in kept])).permute(0, 3, 1, 2)
    cut = [theirs.resized_crop(Image.fromarray(image.permute(1, 2, 0).numpy()), *parts.box(i, 224, 224), [224, 224]) for i, image in enumerate(whole)]
    assert np.abs(parts.of(whole).permute(0, 2, 3, 1).numpy().astype(int) - np.stack([np.asarray(v) for v in cut])).max() <= 2 # of a tensor: they round twice

def test_batches_do_not_depend_on_threads(striped):
    alone, together = (list(batches(replace(striped.train, x=replace(striped.train.x, workers=n)), cropped, 0, 6, seed=1)) for n in (1, 4))
    for a, b in zip(alone, together, strict=True): assert a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
    other = next(batches(striped.train, cropped, 0, 1, seed=1, augment_seed=2))
    assert torch.equal(other[2], alone[0][2]) and not torch.equal(other[1], alone[0][1])

def test_batches_are_begun_ahead_and_given_up_with_their_reader(striped):
    before, begun = threading.active_count(), []
    made = striped.train.x.made((begun.append(i) or torch.tensor([i]), None) for i in range(9))
    assert torch.equal(next(made), striped.train.x[:1]) and begun == [0, 1, 2]
    made.close()
    assert threading.active_count() == before
    with pytest.raises(Diverged): fit(initialize(net, 0), striped.train, replace(plain, lr=1e30))
    assert threading.active_count() == before

def test_what_is_resumed_is_the_same_to_the_bit(striped):
    whole, left = (fit(initialize(net, 0), striped.train, cropped, stop=stop) for stop in (6, 4))
    resumed = fit(initialize(net, 1), striped.train, cropped, start=left)
    assert same(whole.state, resumed.state) and same(whole.optimizer, resumed.optimizer)
    assert not same(whole.state, fit(initialize(net, 0), striped.train, plain).state)

def test_runs_in_parallel_see_the_parts_of_runs_in_turn():
    digits = load_data('digits').train
    recipe = Recipe(3, 10, resized_crop=(.3, .75))
    wide = parallel_batches(digits, recipe, 0, 3, [4, 5])
    for (_, x, y), *runs in zip(wide, batches(digits, recipe, 0, 3, 4), batches(digits, recipe, 0, 3, 5), strict=True):
        for i, (_, own_x, own_y) in enumerate(runs): assert torch.equal(x[:, i:i+1], own_x) and torch.equal(y[i], own_y)

def test_a_set_on_disk_answers_what_its_twin_in_memory_answers(striped):
    recipe = replace(plain, steps=30)
    held, test = striped.train.in_memory(), striped.test.in_memory()
    assert isinstance(held.x, torch.Tensor) and (held.mean, held.classes) == (striped.train.mean, 2)
    (model, ours), (_, theirs) = ((model := initialize(net, 0), fit(model, data, recipe)) for data in (striped.train, held))
    assert same(ours.state, theirs.state) and ours.loss == theirs.loss
    assert evaluate(model, striped.test, ours.state) == evaluate(model, test, ours.state) and evaluate(model, test, ours.state).accuracy > .9
    assert torch.equal(predict(model, striped.test, batch_size=5), predict(model, test, batch_size=5))
    assert same(recalibrate_batchnorm(model, ours.state, striped.train, 8), recalibrate_batchnorm(model, ours.state, held, 8))
    losses, same_losses = ([v.item() for v in batch_losses(model, data, 7)] for data in (striped.train, held))
    assert losses == same_losses and len(losses) == 4
    few, same_few = (data.take(torch.tensor([3, 20, 1])) for data in (striped.train, held))
    assert torch.equal(gradient_lengths(model, few), gradient_lengths(model, same_few)) and torch.equal(el2n(model, few), el2n(model, same_few))
    assert ImageSet(few.x, few.y).mean == ImageSet(same_few.x, same_few.y).mean

def test_checksums_are_of_files_not_of_copies(own, striped, root):
    before, data = checksum_of(striped.train), load_data('imagenet', own)
    assert len({before, checksum_of(data.train), checksum_of(striped.test), checksum_of(striped.train.take(torch.arange(24).flip(0)))}) == 4
    first = checksum_of(data.train)
    os.utime(own/'imagenet'/'train'/'a'/'a0.JPEG')
    data.train.x.packs[1].unlink()
    assert checksum_of(load_data('imagenet', own).train) == first
    held = striped.test.in_memory()
    assert checksum_of(held) == digest(dict(x=held.x, y=held.y))[:16] != checksum_of(striped.test)

def test_what_only_a_tensor_can_do_is_refused_in_a_sentence(striped, monkeypatch):
    for wants in (lambda x: x.float(), lambda x: x.cpu(), lambda x: torch.cat([x, x]), lambda x: torch.nn.functional.pad(x, (1, 1))):
        with pytest.raises(TypeError, match=r'needs all images in memory, .*: take a part, data.take\(range\(1000\)\).in_memory\(\)'): wants(striped.train.x)
    with pytest.raises(AttributeError, match="'Packed' object has no attribute 'nothing'"): striped.train.x.nothing
    monkeypatch.setattr('lottery_diet.data.os.sysconf', lambda name: 1000)
    with pytest.raises(ValueError, match='24 images of imagenet would take 3,612,672 bytes, more than the 1,000,000 of this machine'): striped.train.in_memory()
    with pytest.raises(ValueError, match='the covariance of 150,528 pixels would take 181,269,430,272 bytes'): ZCA.fit(striped.train)

def damaged(path, how):
    content = path.read_bytes()
    if how == 'gone': path.unlink()
    elif how == 'cut': path.write_bytes(content[:len(content)//2])
    else:
        at = 900 if how == 'image' else content.rindex(b'.JPEG') - 60 # of an image, of what it was made of
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])

@pytest.mark.parametrize('how', ['image', 'cut', 'gone'])
def test_damage_is_noticed_while_batches_are_made(own, how):
    data = load_data('imagenet', own).train
    path, content, sound = data.x.packs[0], data.x.packs[0].read_bytes(), data.x[:]
    damaged(path, how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert torch.equal(replace(data.x, workers=4)[:], sound) and path.read_bytes() == content
    assert [str(w.message) for w in said] == [f'{path} is damaged: its images are made again']
    damaged(path, how)
    Image.new('RGB', (300, 300)).save(own/'imagenet'/'train'/'a'/'a0.JPEG')
    changed = 'a.zip was damaged, and the images that it was made of have changed since: start again'
    with pytest.warns(UserWarning, match='is damaged'), pytest.raises(ValueError, match=changed): data.x[:]

@pytest.mark.parametrize('how', ['index', 'cut', 'gone', 'image'])
def test_damage_is_noticed_when_a_set_is_opened(own, how):
    data = load_data('imagenet', own).train
    sound, path = data.x[:], data.x.packs[1]
    damaged(path, how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert torch.equal(load_data('imagenet', own).train.x[:], sound)
    assert len(said) == (how != 'gone')

def test_copies_follow_the_folder(own):
    data = load_data('imagenet', own).train
    third, (first, second) = data.x[2], (p.stat().st_ino for p in data.x.packs)
    Image.new('RGB', (300, 260), (255, 0, 0)).save(own/'imagenet'/'train'/'a'/'a1.JPEG', quality=100)
    (own/'imagenet'/'train'/'a'/'a2.JPEG').rename(own/'imagenet'/'train'/'a'/'x.JPEG')
    again = load_data('imagenet', own).train
    assert again.x[1].float().mean((1, 2)).round().tolist() == [254, 0, 0] and torch.equal(again.x[2], third)
    assert again.x.packs[0].stat().st_ino != first and again.x.packs[1].stat().st_ino == second

def test_what_cannot_be_read_is_named(own):
    train = own/'imagenet'/'train'
    def refused(error, says):
        with pytest.raises(error) as raised: load_data('imagenet', own)
        assert says in str(raised.value) and '\n' not in str(raised.value)
    (own/'imagenet'/'val'/'b').rename(own/'imagenet'/'val'/'.b')
    refused(ValueError, 'val hold different classes: give both the same class folders')
    assert not packs_of(train).exists() # before hours of work
    (own/'imagenet'/'val'/'.b').rename(own/'imagenet'/'val'/'b')
    load_data('imagenet', own)
    made = packs_of(train)/'a.zip'
    when = made.stat().st_mtime_ns
    (train/'a'/'notes.txt').touch()
    refused(ValueError, 'notes.txt is not read: a class holds images that end in')
    (train/'a'/'notes.txt').unlink()
    (train/'b'/'b1.JPEG').write_bytes((train/'b'/'b0.JPEG').read_bytes()[:700])
    refused(ValueError, 'b1.JPEG cannot be read as an image: repair or delete it')
    (train/'b'/'b1.JPEG').unlink()
    (train/'b'/'b1.JPEG').symlink_to(train/'nowhere.JPEG')
    refused(ValueError, 'b1.JPEG cannot be read as an image (No such file or directory)')
    (train/'b'/'b1.JPEG').unlink()
    Image.new('RGB', (3000, 10)).save(train/'b'/'b1.JPEG')
    refused(ValueError, 'b1.JPEG is 3000×10, too long and narrow: cut or delete it')
    Image.new('RGB', (300, 10)).save(train/'b'/'b1.JPEG')
    assert load_data('imagenet', own).train.x[4].shape == (3, 224, 224) and made.stat().st_mtime_ns == when
    (own/'imagenet'/'val').rename(own/'imagenet'/'test')
    refused(FileNotFoundError, 'val is not there')

def test_odd_names_and_links_are_images_too(own):
    a, b = (own/'imagenet'/'train'/c for c in 'ab')
    for odd in (b'two\nlines .JPEG', b'\xff\xfe.JPEG', 'größe %s {0} ../.JPEG'.replace('/', '∕').encode(), b'000001.jpg'): # the last as a copy is named
        Path(os.fsdecode(os.fsencode(a) + b'/' + odd)).write_bytes((a/'a0.JPEG').read_bytes())
    (a/'z.JPEG').symlink_to(b/'b0.JPEG')
    (own/'imagenet'/'val'/'b').rename(own/'elsewhere')
    (own/'imagenet'/'val'/'b').symlink_to(own/'elsewhere', target_is_directory=True)
    data, again = load_data('imagenet', own), load_data('imagenet', own)
    assert (len(data.train), len(data.test)) == (11, 4) and torch.equal(data.train.x[:], again.train.x[:])
    assert [int((image == data.train.x[1]).all()) for image in data.train.x[:]].count(1) == 5

def test_a_folder_that_cannot_be_written_to_is_named(own, tmp_path, monkeypatch):
    (own/'imagenet'/'.small').touch() # nobody can make a folder there, not even root
    with pytest.raises(ValueError) as raised: load_data('imagenet', own)
    kept = own/'imagenet'/'.small'/'train'
    assert str(raised.value) == (f'nothing can be written to {kept} (Not a directory): small copies of all images are kept there, '
                                 'so make room, or set LOTTERY_DIET_CACHE to another folder')
    monkeypatch.setenv('LOTTERY_DIET_CACHE', str(tmp_path/'cache'))
    data = load_data('imagenet', own)
    assert {p.name[:-9] for p in (tmp_path/'cache').iterdir()} == {'train', 'val'} and data.train.x.packs[0].is_file()
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(packed.ZipFile, 'writestr', full)
    assert torch.equal(load_data('imagenet', own).train.x[:], data.train.x[:]) # nothing need be written
    monkeypatch.setenv('LOTTERY_DIET_CACHE', str(tmp_path/'full'))
    no_room = r'nothing can be written to .*full.* \(No space left on device\): small copies of all images are kept there, so make room'
    with pytest.raises(ValueError, match=no_room): load_data('imagenet', own)
    assert not [p for p in (tmp_path/'full').rglob('*') if p.is_file()]

def opened_by(root):
    "By another process: what it sees"
    return load_data('imagenet', root).train.x[:].numpy()

def test_others_may_read_the_folder_as_before(own):
    patch_torchvision()
    from torchvision.datasets import ImageFolder
    data = load_data('imagenet', own)
    for part, name in ((data.train, 'train'), (data.test, 'val')):
        theirs = ImageFolder(own/'imagenet'/name)
        assert theirs.classes == ['a', 'b'] and theirs.targets == part.y.tolist()

@pytest.mark.long
def test_two_processes_may_make_copies_at_once(own):
    with ProcessPoolExecutor(2, get_context('spawn')) as pool: one, other = pool.map(opened_by, [own, own])
    assert (one == other).all() and sorted(p.name for p in packs_of(own/'imagenet'/'train').iterdir()) == ['a.zip', 'b.zip']

@pytest.mark.long
def test_the_figure_on_imagenet_is_trained_from_a_folder(root, tmp_path):
    "The paper's tasks, its crops among them, on a small network and a few steps"
    asked = preset('win_one_shot', 'paper')
    assert all((r.resized_crop, r.flip, r.crop) == ((.1, .8), True, 0) for r in asked.recipes)
    small = varied(asked, dict(data=Images(name='imagenet', root=str(root)), network=Network(model='imagenet_resnet50', options=dict(width=2, affine=False)),
                               recipes=tuple(replace(r, steps=2, batch_size=12, milestones=(1,)) for r in asked.recipes)))
    run = Run(root=tmp_path/'runs', device='cpu')
    assert sweep(small.tasks(), run=run, progress=False).counts['failed'] == 0
    again = sweep(small.tasks(), run=Run(root=tmp_path/'runs', device='cpu'), progress=False).counts
    assert again['run'] == again['failed'] == again['left'] == 0 < again['cached']
    table = small.table(run)
    assert sorted(table.arm) == ['re-initialized']*2 + ['ticket']*4 and set(table[table.level == 1].density.round(3)) == {.3} and set(table.lr) == {.4, .1}

def test_it_is_copied_and_sent_to_other_processes(striped):
    x = striped.train.x
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))): assert torch.equal(other[:3], x[:3])
    assert not hasattr(x, 'is_cuda')

def test_places_are_chosen_as_from_a_tensor(striped):
    lazy, x = striped.train.x, striped.train.x[:]
    for choice in (0, -1, slice(1, 4), [2, 0], torch.tensor([[0, 1], [2, 2]]), (slice(None), 1), (torch.tensor([1, 0]), slice(None), 5)):
        assert torch.equal(lazy[choice], x[choice]), choice
    for wrong in (None, ..., (..., 0)):
        with pytest.raises(TypeError, match='needs all images in memory'): lazy[wrong]
    with pytest.raises(TypeError, match='needs all images in memory'): lazy.index_select(1, torch.tensor([0]))
