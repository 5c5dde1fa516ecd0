"One thread per test process, and results of notebooks in a folder of their own."
import os

os.environ['OMP_NUM_THREADS'] = '1' # whatever the shell says: several threads add in another order, so that bits differ
os.environ.setdefault('MPLBACKEND', 'agg')

import pytest

from lottery_diet.sources import default_data_root, md5s


@pytest.fixture(scope='session', autouse=True)
def runs_elsewhere(tmp_path_factory):
    "Notebooks under test write their tables and figures to a temporary folder"
    os.environ['LOTTERY_DIET_RUNS'] = str(tmp_path_factory.mktemp('runs'))

@pytest.fixture
def real_data():
    "The folder with real MNIST and CIFAR-10; the test is skipped, with this reason, where they are not at hand"
    root = default_data_root()
    absent = [name for name in ('mnist', 'cifar10') if not all((root/f).is_file() for f in md5s[name])]
    if absent: pytest.skip(f'{" and ".join(absent)} not in data/: point LOTTERY_DIET_DATA at the folder that holds them')
    return root
