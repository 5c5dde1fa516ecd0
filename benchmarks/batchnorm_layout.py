"BatchNorm in channels-last on a CPU: its batch variance, and a gradient behind it, against float64 (PyTorch alone; `python benchmarks/batchnorm_layout.py`)"
import copy

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(128, 16, 32, 32)*2 + 3, torch.randint(10, (128,))
deep = [layer for _ in range(6) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())]
net = nn.Sequential(*deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

def variance(x): # as training-mode BatchNorm computes it: its running variance with momentum 1
    norm = nn.BatchNorm2d(16, momentum=1.).to(x.dtype)
    norm(x)
    return norm.running_var.double()

def gradient(x): # of the first convolution, six BatchNorms behind it
    own = copy.deepcopy(net).to(x.dtype)
    loss = nn.functional.cross_entropy(own(x), y)
    return torch.autograd.grad(loss, own[0].weight)[0].double()

exact, slope = variance(x.double()), gradient(x.double())
for layout in (torch.contiguous_format, torch.channels_last):
    laid = x.contiguous(memory_format=layout)
    of_variance = (variance(laid)/exact - 1).abs().max().item()
    of_gradient = ((gradient(laid) - slope).norm()/slope.norm()).item()
    print(layout, f'relative error of the variance {of_variance:.1e}, of a gradient {of_gradient:.1e}; torch', torch.__version__)
