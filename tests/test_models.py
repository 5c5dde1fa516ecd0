"Networks against torchvision's, and a stranger's module in every place where ours go."
import pytest
import torch
from torch import nn

from lottery_diet.core import patch_torchvision, state_of
from lottery_diet.engine.evaluation import evaluate, predict
from lottery_diet.imp import controls, imp, train_ticket
from lottery_diet.models import conv4, count_prunable, initialize, prunable, resnet18, resnet20, resnet50
from lottery_diet.scores import el2n
from lottery_diet.sources import load_data
from lottery_diet.train import Recipe, fit


@pytest.mark.parametrize('name, ours', [('resnet18', lambda: resnet18((3, 64, 64), 10, imagenet_stem=True)), ('resnet50', lambda: resnet50((3, 64, 64), 10))])
def test_imagenet_resnets_compute_what_torchvisions_do(name, ours):
    patch_torchvision()
    import torchvision.models
    theirs, ours = getattr(torchvision.models, name)(num_classes=10).eval(), ours().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)

def test_conv4_by_hand():
    assert count_prunable(conv4()) == 27*64 + 9*64*64 + 9*64*128 + 9*128*128 + 8*8*128*256 + 256*256 + 256*10

def test_data_diet_initialization():
    state = state_of(initialize(resnet20, 0))
    scale = state['bn1.weight']
    assert 0 <= scale.min() and scale.max() <= 1 and .3 < scale.mean() < .7
    conv = state['layer3.1.conv1.weight']
    assert abs(conv.std().item()/(2/(64*9))**.5 - 1) < .02  # Kaiming normal by fan-in
    assert abs(state['fc.weight'].std().item()/(2/64)**.5 - 1) < .15 and state['fc.bias'].any()

class Stranger(nn.Module):
    "A user's network: its own names, a tied layer, dropout, LayerNorm, a parameter outside any layer, a frozen layer"
    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.drop = nn.Linear(64, 64), nn.LayerNorm(64), nn.Dropout(.1)
        self.tied, self.scale = self.inner, nn.Parameter(torch.ones(1))
        self.frozen, self.out = nn.Linear(64, 64).requires_grad_(False), nn.Linear(64, 10)
    def forward(self, x): return self.out(self.scale*self.frozen(self.drop(self.norm(self.tied(self.inner(x.flatten(1)).relu()).relu()))))

def test_a_users_module_works_everywhere():
    digits = load_data('digits')
    net = initialize(Stranger, 0)
    assert prunable(net, exclude=['frozen.weight']) == ['inner.weight', 'out.weight']
    frozen = net.frozen.weight.clone()
    recipe = Recipe(60, 64, lr=.05)
    early = fit(net, digits.train, recipe, stop=10)
    assert torch.equal(net.frozen.weight, frozen)
    *_, last = imp(net, digits.train, recipe, early, levels=2, prune_rate=.5, seed=1)
    assert last.mask.kept == (64*64 + 640)//4
    for start, mask in controls(Stranger, early, last.mask).values(): train_ticket(net, digits.train, recipe, start, mask)
    assert evaluate(net, digits.test, last.trained.state).accuracy > .8
    assert el2n(net, digits.test).shape == (500,)

def test_evaluation_leaves_every_layers_mode_alone():
    net = Stranger()
    net.drop.eval()
    predict(net, load_data('digits').test)
    assert net.training and net.inner.training and not net.drop.training
