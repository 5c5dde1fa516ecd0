"Networks against torchvision's and the papers' numbers, and a stranger's module in every place where ours go."
import pytest
import torch
from torch import nn

from lottery_diet.core import patch_torchvision, state_of
from lottery_diet.engine.evaluation import evaluate, predict
from lottery_diet.imp import controls, imp, train_ticket
from lottery_diet.models import conv4, count_prunable, find_model, initialize, models, prunable, resnet18, resnet20, resnet50
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

@pytest.mark.parametrize('name, options, parameters, printed, digit', [
    ('conv4', {}, 2_425_930, 2.4e6, 1e5), ('lenet_300_100', dict(shape=(1, 28, 28)), 266_610, 266e3, 1e3),
    ('imagenet_resnet50', dict(shape=(3, 224, 224), classes=1000), 25_557_032, 25.5e6, 1e5),
    ('resnet10', dict(shape=(3, 224, 224), imagenet_stem=True), 4_910_922, 4.9e6, 1e5),
    ('resnet20', {}, 272_474, 274e3, None), ('resnet20', dict(affine=False), 270_906, 274e3, None), # WIN's, which ours comes near
    ('narrow_resnet18', {}, 2_797_610, 2.79e6, 1e4), ('narrow_resnet10', {}, 1_228_970, 1.23e6, 1e4)])
def test_parameters_are_as_many_as_printed(name, options, parameters, printed, digit):
    "Of all parameters, or of the weights that are pruned, as many as the papers print, to their last digit"
    net = models[name](**dict(shape=(3, 32, 32), classes=10) | options)
    ours = sum(p.numel() for p in net.parameters())
    assert ours == parameters
    assert min(abs(n - printed) for n in (ours, count_prunable(net))) <= (digit/2 if digit else .012*printed)

by_fan_in, by_fan_out, by_default = (lambda w: (2/w[0].numel())**.5), (lambda w: (2/(len(w)*w[0, 0].numel()))**.5), (lambda w: (3*w[0].numel())**-.5)
drawn_by = { # model → options, a layer that is wider on one side, the rule of its standard deviation, lowest and highest mean of scales of normalization
    'lenet_300_100': ({}, '1', by_fan_in, None), 'conv4': ({}, '5', by_fan_in, None), 'vgg16': ({}, '24', by_fan_in, (.4, .6)),
    **{name: ({}, 'layer3.0.conv1', by_fan_in, (.4, .6)) for name in ('resnet20', 'resnet32', 'resnet56', 'small_resnet')},
    **{name: ({}, 'layer4.0.conv1', by_fan_out, (1, 1)) for name in ('resnet18', 'resnet50', 'narrow_resnet10', 'narrow_resnet18', 'resnet_ap10')},
    'resnet10': (dict(imagenet_stem=True), 'layer4.0.conv1', by_fan_out, (1, 1)), 'imagenet_resnet50': ({}, 'layer4.0.conv1', by_fan_in, (.4, .6)),
    'conv_net': ({}, '0', by_default, (1, 1)), 'small_conv_net': ({}, '0', by_default, (1, 1)), 'alexnet_mtt': ({}, '3', by_default, None),
    'quick_net': (dict(images=torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))), 'group2.conv1', by_default, (1, 1))}

@pytest.mark.parametrize('name', models)
def test_every_network_is_drawn_by_the_rule_of_its_paper(name):
    options, layer, rule, scales = drawn_by[name]
    net = initialize(lambda: find_model(name)(shape=(3, 32, 32), classes=10, **options), 0)
    weight = net.get_parameter(f'{layer}.weight').detach()
    if name == 'quick_net':  # its first filters pass on what comes in, and its last layer has standard deviation 1
        assert torch.equal(weight[:16, :, 1, 1], torch.eye(16)) and weight[:16].count_nonzero() == 16
        assert net.fc.weight.std().item() == pytest.approx(1, abs=1e-5)
        weight = weight[16:]
    assert len(weight) != weight.shape[1], 'a layer as wide on both sides does not tell fan-in from fan-out'
    assert weight.std().item() == pytest.approx(rule(weight), rel=.06 if weight.numel() < 1000 else .02)
    found = [m.weight for m in net.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
    assert bool(found) == bool(scales)
    if scales: assert scales[0] <= torch.cat(found).mean() <= scales[1]

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
