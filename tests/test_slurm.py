"A real SLURM with one node: array jobs answer as this process does, and a job that is killed loses nothing."
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from test_experiments import assert_equal_answers, begin, run_in, tables_and_tensors

from lottery_diet.experiments.sweeps import submit, sweep, varied
from lottery_diet.experiments.tasks import load_checkpoint
from lottery_diet.experiments.tickets import Dense, ladder
from lottery_diet.train import Recipe

missing = [tool for tool in ('sbatch', 'slurmctld', 'slurmd', 'munged') if not shutil.which(tool, path=os.environ['PATH'] + ':/usr/sbin')]
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(missing), reason=f'{", ".join(missing)} not installed: apt-get install slurm-wlm munge')]
script = Path(__file__).parent/'slurm'/'start.sh'

def free_port():
    "One that nobody listens on, and the next one neither"
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(('127.0.0.1', 0))
            try: other.bind(('127.0.0.1', one.getsockname()[1] + 1))
            except (OSError, OverflowError): continue
            return one.getsockname()[1]

@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp('slurm')
    started = subprocess.run([script, folder], capture_output=True, text=True, env=os.environ | dict(SLURM_PORT=str(free_port())))
    if started.returncode: pytest.fail(started.stderr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLURM_CONF', str(folder/'slurm.conf'))
        yield folder
        subprocess.run([script, folder, 'stop'], check=True)

def test_array_jobs_answer_as_this_process_does(cluster, tmp_path):
    tasks = [*ladder(begin, 2, .5), *ladder(varied(begin, dict(seed=1)), 1, .5)]
    by_jobs = submit(tasks, 'slurm', chunk=2, minutes=5, run=run_in(tmp_path/'jobs'), progress=False)
    here = sweep(tasks, run=run_in(tmp_path/'here'), progress=False)
    assert by_jobs.counts == here.counts == dict(cached=0, run=5, failed=0, left=0)
    pd.testing.assert_frame_equal(by_jobs.table.drop(columns='seconds'), here.table.drop(columns='seconds'))
    assert_equal_answers(tables_and_tensors(tmp_path/'jobs'), tables_and_tensors(tmp_path/'here'))
    assert submit(tasks, 'slurm', run=run_in(tmp_path/'jobs'), progress=False).counts['cached'] == 5

def step_of(root, task): return load_checkpoint(root/'.checkpoints'/task.key/'training.safetensors', task.key)[0].step

def test_a_canceled_job_is_a_row_and_the_next_call_continues(cluster, tmp_path):
    run, task = run_in(tmp_path, checkpoint_every=.1), Dense(recipe=Recipe(200_000, 64, lr=.05))
    def cancel():
        while not any((tmp_path/'.checkpoints').glob('*/*.safetensors')): time.sleep(.2)
        subprocess.run(['scancel', '--full', '--partition', 'all'], check=True)
    threading.Thread(target=cancel, daemon=True).start()
    broken = submit([task], 'slurm', minutes=5, run=run, progress=False)
    assert broken.counts['failed'] == 1 and 'ended' in broken.table.reason.item()
    left_at = step_of(tmp_path, task)
    assert sweep([task], budget='2s', run=run, progress=False).counts['left'] == 1
    assert step_of(tmp_path, task) > left_at > 0
