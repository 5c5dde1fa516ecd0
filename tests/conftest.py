"One thread per test process, results of notebooks in a folder of their own, and the site, built once."
import os
import subprocess
import sys
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1' # whatever the shell says: several threads add in another order, so that bits differ
os.environ.setdefault('MPLBACKEND', 'agg')

import pytest
from filelock import FileLock

from lottery_diet.core import project_root
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

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site, built once, by whichever test process comes first"
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if 'PYTEST_XDIST_WORKER' in os.environ else mine
    with FileLock(shared/'site.lock'):
        if not (shared/'site').exists():
            made = subprocess.run([sys.executable, project_root(Path(__file__).parent)/'tools'/'make_docs.py', shared/'part'], capture_output=True, text=True,
                                  env=os.environ | dict(PYTHONDONTWRITEBYTECODE='1'))
            assert made.returncode == 0, made.stderr[-3000:]
            (shared/'part').rename(shared/'site')
    return shared/'site'
