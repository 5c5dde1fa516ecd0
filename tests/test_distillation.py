"What distillation costs, in processes of their own, and that a compiled step says the same."
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from lottery_diet.core import stream
from lottery_diet.models import conv_net, initialise
from lottery_diet.trajectory import Feed, Stepper, match_by_adjoint

root = Path(__file__).resolve().parents[1]

def mib_above_start(per_class, steps):
    "Peak memory of one exact gradient"
    out = subprocess.run([sys.executable, root/'benchmarks'/'distil.py', '--case', str(per_class), str(steps), 'adjoint', '--rounds', '1'], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.strip().splitlines()[-1])['mib_above_start']

@pytest.mark.long
def test_memory_grows_with_the_number_of_steps_by_their_parameters_only():
    "1.22 MiB for each of 32 more steps; a step's graph held would be 40 MiB"
    few, many = (mib_above_start(1, steps) for steps in (8, 40))
    assert many - few < 32*2.5

@pytest.mark.long
def test_ten_images_per_class_fit():
    "With 47 more steps, of 1.22 MiB each, as many as are published for one image per class: under 1.2 GiB above start"
    assert mib_above_start(10, 3) + 47*1.5 < 1.2*1024

@pytest.mark.long
@pytest.mark.skipif(not (shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')), reason='there is no compiler')
def test_the_compiled_adjoint_is_the_eager_one():
    net = initialise(partial(conv_net, (1, 8, 8), width=8, depth=2), 0)
    start = {k: v.detach() for k, v in net.named_parameters()}
    target = {k: v + .05*torch.randn(v.shape, generator=stream(0, k)) for k, v in start.items()}
    images, labels = torch.randn(20, 1, 8, 8, generator=stream(0, 'images')), torch.arange(20) % 10
    eager, compiled = (match_by_adjoint(Stepper(net, on), start, target, images, labels, .05, 4, Feed(20)) for on in (False, True))
    assert abs(eager.loss - compiled.loss) < 1e-5*eager.loss and abs(eager.rate - compiled.rate) < 1e-3*abs(eager.rate)
    assert torch.nn.functional.cosine_similarity(eager.images.flatten(), compiled.images.flatten(), dim=0) > .9999
