"""Put scores, tickets, distilled images and masks of finished runs, each with its card, into results/artifacts.

`python tools/make_artifacts.py [NAME …]` computes what is not finished.
"""
import sys
from dataclasses import asdict, replace

import torch

from lottery_diet.artifacts import publish
from lottery_diet.core import project_root, provenance
from lottery_diet.distill import DistilledImages, decode, encode
from lottery_diet.distillation.whitening import unwhiten
from lottery_diet.engine.recipe import Recipe
from lottery_diet.experiments.connectivity import Child
from lottery_diet.experiments.distilling import Inner
from lottery_diet.experiments.ingredients import fresh, quick_recipe
from lottery_diet.experiments.sweeps import sweep, varied
from lottery_diet.experiments.tasks import Run
from lottery_diet.experiments.tickets import at_level
from lottery_diet.experiments.training import never_learned, snapshot_of
from lottery_diet.imp import Mask, Ticket, noise_of
from lottery_diet.papers.data_diet.protocols import on_mnist, on_quick, rewind_setting
from lottery_diet.papers.data_diet.studies import Scoring
from lottery_diet.papers.stable_subnetworks.protocols import first_panels, own_images, own_taught
from lottery_diet.plots import correlation, t_interval
from lottery_diet.scores import Scores, checksum_of

folder = project_root()/'results'/'artifacts'
code = dict(license='Apache-2.0', folder=folder) # no pixel of the data is in these files
called = dict(lenet='LeNet-300-100', quick='the quick network', mnist='MNIST', cifar10='CIFAR-10')
says = dict(el2n='EL2N: length of the difference between probabilities and label', grand="GraNd: length of the gradient of an image's loss",
            forgetting='How often an image was forgotten, looking once an epoch; infinite where one of the networks never learned it',
            barrier='Loss barrier of each image between two children of one early step, nats')

def scoring(setting, **values): # what several networks say of all training images
    return Scoring(data=setting['data'], network=setting['judge'], **dict(recipe=setting['judge_recipe'], steps=setting['judge_steps']) | values, **fresh)

def scorings():
    "Each data set's scores, and what they are asked of"
    long = dict(mnist=replace(on_mnist['recipe'], steps=20_000, milestones=(10_000, 15_000)), cifar10=replace(quick_recipe, steps=2000))
    for setting, early in ((on_mnist, 200), (on_quick, 5)):
        name = setting['data'].name
        yield name, 'el2n', scoring(setting, scores=('el2n',))
        yield name, 'grand', scoring(setting, scores=('grand',))
        yield name, 'barrier', scoring(setting, scores=('barrier',), recipe=setting['recipe'], steps=early)
        yield name, 'forgetting', scoring(setting, scores=('forgetting',), recipe=long[name], steps=long[name].steps)

def what_for(data, network): # what a file belongs to
    "Checksum of the training images, as pixels, which do not round, and labels in their order, and the network's parameters by name"
    train, _ = varied(data, dict(zca=False)).load(Recipe(1), torch.device('cpu'))
    return dict(data_checksum=checksum_of(train), parameters={k: '×'.join(map(str, p.shape)) for k, p in network.maker(train)().named_parameters()})

def unusual(recipe): # steps, and what is not the default
    "A recipe as a card says it"
    usual = asdict(Recipe(recipe.steps))
    return {k: v for k, v in asdict(recipe).items() if k == 'steps' or v != usual[k]}

def plain(network): # as `network_of` makes it again
    "A network as a card says it"
    return network.model_dump(exclude_defaults=True) | dict(model=network.model)

def facts(study): # plain data
    made = dict(network=plain(study.network), recipe=unusual(study.recipe), seeds=list(study.seeds), command='python tools/make_artifacts.py')
    return made | dict(commit=provenance()['commit']) | what_for(study.data, study.network)

def publish_scores(data, score, study, run):
    each, images = study.found(run)[score], study.images(run)
    finite = each.nan_to_num(posinf=never_learned)
    pairs = [correlation(finite[i], finite[j], 'spearman').value for i in range(len(each)) for j in range(i)]
    scores = Scores.of(images, each.mean(0), each=each.bfloat16(), **study.origin(score, study.answered(run)[score]))
    measured = dict(networks=len(each), spearman_between_networks=round(sum(pairs)/len(pairs), 3))
    return publish(scores, f'{data}-{score}', about=f'{says[score]}; mean of {len(each)} networks, and each in bfloat16', data=data,
                   made=facts(study) | dict(scored_at_step=study.steps), measured=measured, **code)

def publish_tickets(data, network, study, run):
    "Those of the first replicate, at each density; what they reach over all replicates"
    steps, table = study.rewinds[-1], study.table(run)
    for level in range(1, study.levels + 1):
        chosen = table[(table.pretrain_steps == steps) & (table.level == level)]
        reached = {arm: t_interval(chosen[chosen.arm == arm].accuracy) for arm in ('ticket', 're-initialized')} # test accuracy over all replicates
        start = study.start(study.seeds[0], steps)
        record, rewind = run.ask(at_level(start, level, study.prune_rate)), snapshot_of(run.ask(start)).rewound()
        trained, mask = replace(snapshot_of(record), optimizer={}), Mask({k: m.bool() for k, m in record.part('mask').items()})
        about = f'{mask.density:.1%} of the weights of {called[network]} on {called[data]}, rewound to step {steps} of {study.recipe.steps}'
        names = {'ticket': 'test accuracy of tickets', 're-initialized': 'test accuracy re-initialized'}
        measured = {names[arm]: as_told(found) for arm, found in reached.items()}
        publish(Ticket(mask, rewind, study.recipe, trained, dict(record.provenance)), f'{data}-{network}-{100*mask.density:.0f}', about=about, data=data,
                made=facts(study) | dict(seed=study.seeds[0], noise=noise_of(study.seeds[0], level)),
                measured=measured | {'test accuracy of this one': float(record.metrics.accuracy.iloc[0])}, living=True, **code)

def pictures_of(found, factor): # uint8; tiles are shown as networks see them, shrunk again
    "What whitened images look like"
    seen = unwhiten(decode(found['images'], factor), found['zca/mean'], found['zca/inverse'])
    return (encode(seen, factor).clamp(0, 1)*255).round().byte()

def publish_images(method, run):
    "Ten images of each class of CIFAR-10, and what five fresh networks learn from them"
    task = own_images[method]
    record, (train, _) = run.ask(task), task.data.load(task.recipe, torch.device('cpu'))
    accuracy, as_many_real = (t_interval(run.ask(own_taught[arm]).metrics.accuracy) for arm in (method, 'real'))
    made = DistilledImages.of(train, record.tensors['images'], record.tensors['labels'], factor=task.factor, pixels=pictures_of(record.tensors, task.factor),
                              rate=record.tensors['rate'].item() if method == 'trajectory' else None, method=method, space='whitened by ZCA, eps .1')
    about = f'10 images of each class of CIFAR-10 by {method} matching' + f', {task.factor**2} tiles in each'*(task.factor > 1)
    by = dict(network=plain(task.network), plan=asdict(task.how), recipe=unusual(task.recipe), seeds=[task.seed], taught_by=unusual(own_taught[method].recipe),
              minutes=round(record.provenance['seconds']/60), command=f'python tools/make_artifacts.py cifar10-{method}', commit=record.provenance['commit'])
    return publish(made, f'cifar10-{method}', about=about + '; whitened by ZCA, and as pictures', data='cifar10',
                   made=by | what_for(task.data, task.network),
                   measured={'test accuracy of fresh networks': as_told(accuracy), 'of networks taught by as many real images': as_told(as_many_real)},
                   folder=folder, license='Apache-2.0; learned from CIFAR-10, which states no license')

def publish_masks(method, run):
    "Found with these images inside, at one initialization; what one training on all data reaches under each"
    inner = Inner(arm='distilled', source=own_images[method])
    search = varied(first_panels['syn_accuracy_vs_sparsity']['mini'], dict(inners=(inner,), random=False, controls=(), seeds=(10,), children=1))
    dense = run.ask(Child(pretrain=search.start(10), number=0)).metrics.accuracy.item()
    for level in search.levels:
        found = search.masks(10, level)[search.arm(inner)]
        record, reached = run.ask(found), run.ask(Child(pretrain=search.start(10), number=0, ticket=found)).metrics.accuracy.item()
        mask = Mask({k: m.bool() for k, m in record.part('mask').items()})
        made = facts(search) | dict(command=f'python tools/make_artifacts.py cifar10-{method}-masks', images=f'cifar10-{method}',
                                    searched_by=unusual(search.inner_recipe), prune_rate=search.prune_rate, level=level)
        measured = {'test accuracy of a training under it': round(reached, 4), 'of the dense network': round(dense, 4), 'initializations': 1}
        about = f'{mask.density:.1%} of the weights of ConvNet-3 of width 32, chosen at initialization by training on the images cifar10-{method} alone'
        publish(mask, f'cifar10-{method}-mask-{100*mask.density:.0f}', about=about, data='cifar10', made=made, measured=measured, **code)

def as_told(interval): # for a card
    return dict(mean=round(interval.mean, 4), interval=round(interval.half, 4), n=interval.n)

if __name__ == '__main__':
    run = Run(shipped=False)
    def wanted(name): return name in sys.argv[1:] or not sys.argv[1:]
    for data, score, study in scorings():
        if not wanted(f'{data}-{score}'): continue
        sweep(study.tasks(), run=run)
        publish_scores(data, score, study, run)
    for network, data in (('lenet', 'mnist'), ('quick', 'cifar10')):
        if not wanted(f'{data}-{network}'): continue
        study = rewind_setting('mini', data)
        sweep([task for columns, task in study.asked() if columns['pretrain_steps'] == study.rewinds[-1]], run=run)
        publish_tickets(data, network, study, run)
    for method in own_images:
        if wanted(f'cifar10-{method}'): publish_images(method, run)
        if wanted(f'cifar10-{method}-masks'): publish_masks(method, run)
