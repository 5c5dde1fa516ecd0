"BatchNorm in channels-last on a CPU: its batch variance, and a gradient behind it, against float64 (PyTorch alone; `python benchmarks/batchnorm_layout.py`)"
import torch
from torch import nn

torch.set_num_threads(1)
x = torch.randn(128, 16, 32, 32, generator=torch.Generator().manual_seed(0))*2 + 3
def variance(x): # as training-mode BatchNorm computes it: its running variance with momentum 1
    norm = nn.BatchNorm2d(16, momentum=1.).to(x.dtype)
    norm(x)
    return norm.running_var.double()

exact = variance(x.double())
for layout in (torch.contiguous_format, torch.channels_last):
    error = (variance(x.contiguous(memory_format=layout))/exact - 1).abs().max().item()
    print(layout, f'{error:.1e}', 'relative error of the variance, torch', torch.__version__)
