"What others found is loaded as it was published, or refused in a sentence; what comes with the package is whole, small and fits its data."
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lottery_diet import cli
from lottery_diet.artifacts import cards, fetch, load_images, load_mask, load_scores, load_ticket, network_of, publish
from lottery_diet.core import Diverged, load_tensors, same, save_tensors, state_of
from lottery_diet.distill import DistilledImages, begin_at, decode
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.engine.recipe import Recipe
from lottery_diet.imp import Mask, Ticket, controls, prune_global_magnitude, train_ticket
from lottery_diet.models import initialize, mlp
from lottery_diet.scores import Scores, checksum_of
from lottery_diet.sources import load_data
from lottery_diet.train import Snapshot, fit, fit_many

images = load_data('digits').train.take(torch.arange(60))
facts = dict(about='made for a test', data='digits', license='CC0', made={}, measured={})
shipped_cards = cards()

@lru_cache
def real_images(name, root): return load_data(name, root).train
@lru_cache
def real_checksum(name, root): return checksum_of(real_images(name, root))

def make(): return mlp((1, 8, 8), 10, (12,))

@pytest.fixture
def folder(tmp_path):
    "With scores, a ticket and a mask"
    net = initialize(make, 0)
    start = Snapshot.of(net)
    mask = prune_global_magnitude(start.state, Mask.dense(net), .5)
    recipe = Recipe(4, 32, lr=.05)
    publish(Scores.of(images, torch.arange(60.), each=torch.arange(120).view(2, 60).half(), score='el2n'), 'digits-el2n', tmp_path, **facts)
    publish(Ticket(mask, start, recipe, fit(net, images, recipe, start=start, mask=mask)), 'small', tmp_path, **facts, living=True)
    publish(mask, 'only-mask', tmp_path, **facts)
    return tmp_path

def test_what_is_loaded_is_what_was_published(folder):
    scores, ticket = load_scores('digits', 'el2n', folder), load_ticket('small', folder)
    assert torch.equal(scores.on(images), torch.arange(60.)) and torch.equal(scores.each, torch.arange(120).view(2, 60).half())
    net = initialize(make, 0)
    assert ticket.mask == load_mask('small', folder) == load_mask('only-mask', folder) == prune_global_magnitude(state_of(net), Mask.dense(net), .5)
    assert same(ticket.rewind.state, ticket.mask.apply(state_of(net)))
    assert same(train_ticket(net, images, ticket.recipe, ticket.rewind, ticket.mask).state, ticket.trained.state)
    listed = cards(folder)
    assert [*listed] == ['digits-el2n', 'only-mask', 'small'] and all((folder/card.file).stat().st_size == card.size for card in listed.values())
    assert all(f'**{name}**' in (folder/'ARTIFACTS.md').read_text(encoding='utf-8') for name in listed)
    assert sorted(f.name for f in folder.iterdir()) == sorted(['.lock', 'ARTIFACTS.md', 'cards.json', *(card.file for card in listed.values())])

def test_distilled_images_are_loaded_for_the_data_that_they_were_learned_from(tmp_path):
    "Pixels and normalized images alike, tiles and whole ones; another normalization, other images and another shape are refused"
    digits = load_data('digits')
    for factor, train in ((1, digits.train), (2, digits.train), (1, digits.train.like(digits.train.inputs(digits.train.x), digits.train.y))):
        stored, labels = begin_at(train, 2, factor=factor)
        pixels = (stored.clamp(0, 1)*255).round().byte()
        made = DistilledImages.of(train, stored, labels, factor=factor, rate=.03 if factor == 1 else None, pixels=pixels, method='trajectory')
        card = publish(made, 'digits-trajectory', tmp_path, **facts)
        found = load_images('digits-trajectory', tmp_path)
        seen = found.on(train)
        assert card.kind == 'images' and (found.factor, found.rate, found.origin) == (made.factor, made.rate, made.origin) and torch.equal(found.pixels, pixels)
        assert torch.allclose(seen.x, decode(stored, factor), atol=2e-3) and torch.equal(seen.y, labels.repeat(factor**2))
        for other in (digits.train.normalized_by((.5,), (.2,)), digits.test, train.like(train.x[:, :, :4], train.y), train.take(torch.arange(40))):
            with pytest.raises(ValueError, match='whitened and normalized as they were'): found.on(other)
    for wrong, sentence in ((lambda: load_mask('digits-trajectory', tmp_path), 'is no mask: it holds images'),
                            (lambda: DistilledImages.of(train, stored[:-1], labels), 'do not go with 20 labels'),
                            (lambda: DistilledImages.of(train, stored, labels - 1), 'labels must be those of'),
                            (lambda: DistilledImages.of(train, stored, labels, factor=0), 'factor=0 must be a whole number of at least 1'),
                            (lambda: DistilledImages.load(fetch('cifar10-el2n')), 'holds no distilled images')):
        with pytest.raises(ValueError, match=sentence): wrong()
    with pytest.raises(FileNotFoundError, match='there is no file'): DistilledImages.load(tmp_path/'nothing')
    with pytest.raises(Diverged, match='their distillation diverged'): DistilledImages.of(train, stored/0, labels)

def test_living_weights_of_a_tied_network_come_back_under_both_names(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(64, 10)
            self.b.weight = self.a.weight
        def forward(self, x): return self.head(self.b(self.a(x[:, 0]).relu()).flatten(1))
    net = initialize(Tied, 0)
    mask = prune_global_magnitude(state_of(net), Mask.dense(net), .5)
    Ticket(mask, Snapshot.of(net)).save(tmp_path/'t.safetensors', living=True)
    assert same(Ticket.load(tmp_path/'t.safetensors').rewind.state, mask.apply(state_of(net)))

def spoiled(old, new): return lambda folder: (folder/'cards.json').write_text((folder/'cards.json').read_text().replace(old, new))
def file_of(folder, name): return folder/cards(folder)[name].file

@pytest.mark.parametrize('spoil, kind, sentence', [
    (lambda folder: (folder/'cards.json').write_text('[1'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text('[1, 2]'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text('['*100_000), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_bytes(b'\xff\xfe{'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text('{"small": {"kind": "ticket"}}'), ValueError, 'cards.json is no list of artifacts'),
    (spoiled('"only-mask"', '"../mask"'), ValueError, "'../mask' is no name"),
    (spoiled('"sha256": "', '"sha256": "/elsewhere/'), ValueError, 'is no SHA-256 checksum'),
    (spoiled('"size": ', '"size": "9", "was": '), ValueError, 'cards.json is no list of artifacts'),
    (spoiled('"measured": {}', '"measured": 5'), ValueError, 'measured=5 of an artifact must be Mapping'),
    (spoiled('"made for a test"', '"made \\u001b[2J"'), ValueError, 'cannot be printed'),
    (lambda folder: (folder/'cards.json').unlink(), FileNotFoundError, 'cards.json: give the folder that `publish` wrote to'),
    (lambda folder: file_of(folder, 'small').unlink(), FileNotFoundError, 'small.*safetensors'),
    (lambda folder: file_of(folder, 'small').write_bytes(b'x'), ValueError, "is not the file that the card of 'small' describes"),
    (lambda folder: shutil.copyfile(file_of(folder, 'only-mask'), file_of(folder, 'small')), ValueError,
     "is not the file that the card of 'small' describes")])
def test_a_damaged_folder_is_named(folder, spoil, kind, sentence):
    spoil(folder)
    with pytest.raises(kind, match=sentence): load_ticket('small', folder)

def test_every_flipped_byte_is_refused(folder):
    file = file_of(folder, 'digits-el2n')
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
        with pytest.raises(ValueError, match='is not the file'): fetch('digits-el2n', folder)

def test_without_its_pruned_weights_a_ticket_trains_under_its_own_mask_alone(folder):
    ticket, net = load_ticket('small', folder), make()
    for start, mask in list(controls(make, ticket.rewind, ticket.mask).values())[1:] + [(ticket.rewind, None), (ticket.rewind, Mask.dense(net))]:
        with pytest.raises(ValueError, match='saved without its pruned weights, and [0-9,]+ of them are wanted'):
            fit(net, images, ticket.recipe, start=start, mask=mask)
        with pytest.raises(ValueError, match='saved without its pruned weights'):
            fit_many(net, images, ticket.recipe, [start], masks=[mask] if mask else None)
    assert fit(net, images, ticket.recipe, start=controls(make, ticket.rewind, ticket.mask)['re-initialized'][0], mask=ticket.mask).step == 4
    deeper = prune_global_magnitude(ticket.trained.state, ticket.mask, .5) # what lives less is there
    assert train_ticket(net, images, ticket.recipe, ticket.rewind, deeper).step == 4
    with pytest.raises(ValueError, match='save the ticket'): ticket.rewind.save(folder/'rewind.safetensors')
    assert not Ticket.load(ticket.save(folder/'again.safetensors')).rewind.known is None
    assert evaluate(net, images, fetch('small', folder)) == evaluate(net, images, ticket.trained)

def test_a_mask_of_another_network_is_not_saved(tmp_path):
    other = Ticket(Mask.dense(mlp((1, 8, 8), 10, (7,))), Snapshot.of(make()))
    with pytest.raises(ValueError, match='is not of this state'): other.save(tmp_path/'t.safetensors', living=True)
    assert not [*tmp_path.iterdir()]

@pytest.mark.parametrize('shape', ['alive', 'dead', 'one'])
def test_layers_that_live_whole_or_not_at_all(tmp_path, shape):
    net = initialize(make, 0)
    mask = {k: torch.full_like(m, shape == 'alive') for k, m in Mask.dense(net).items()}
    if shape == 'one': mask[[*mask][0]][3, 5] = True
    Ticket(Mask(mask), Snapshot.of(net)).save(tmp_path/'t.safetensors', living=True)
    assert same(Ticket.load(tmp_path/'t.safetensors').rewind.state, Mask(mask).apply(state_of(net)))

@pytest.mark.parametrize('note, value', [('recipe', '{"stepp": 1}'), ('shapes', '[1]'), ('shapes', '{"1.weight": [-4, -4]}'), ('rewind', '5'), ('origin', '{')])
def test_a_ticket_with_other_notes_is_refused(tmp_path, note, value):
    tensors, notes = load_tensors(Ticket(Mask.dense(make()), Snapshot.of(make())).save(tmp_path/'t.safetensors'))
    save_tensors(tmp_path/'t.safetensors', tensors, notes | {note: value})
    with pytest.raises(ValueError, match='holds no ticket'): Ticket.load(tmp_path/'t.safetensors')

def test_what_publish_refuses_leaves_what_was_there(folder):
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    mask = Mask.dense(make())
    for name, changed, sentence in (
            ('small', dict(measured=dict(n=np.int64(5))), 'plain data'), ('small', dict(measured=dict(loss=float('nan'))), 'plain data'),
            ('small', dict(about='a\nb'), 'cannot be printed'), ('small', dict(license=None), 'license=None of an artifact must be str'),
            ('small.', {}, 'is no name'), ('x'*81, {}, 'is no name')):
        with pytest.raises(ValueError, match=sentence): publish(mask, name, folder, **facts | changed)
    with pytest.raises(ValueError, match='begin with digits-'): publish(load_scores('digits', 'el2n', folder), 'el2n', folder, **facts)
    assert before == {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(TypeError): publish({}, 'nothing', folder/'new', **facts)
    assert not (folder/'new').exists()
    (folder/'README.md').write_text('mine')
    card = publish(mask, 'small', folder, **facts | dict(made=dict(a=(1, 2), k={1: 2}))) # replaced: other contents
    assert card == cards(folder)['small'] and load_mask('small', folder) == mask and (folder/'README.md').read_text() == 'mine'
    assert sorted(f.name for f in folder.glob('small*')) == [card.file]

def test_who_reads_beside_a_change_reads_the_old_or_the_new(tmp_path):
    masks = [Mask({'a': torch.arange(64) % 7 == i}) for i in range(4)]
    publish(masks[0], 'm', tmp_path, **facts)
    with ThreadPoolExecutor(1) as other:
        writing = other.submit(lambda: [publish(masks[i % 4], 'm', tmp_path, **facts) for i in range(40)])
        while not writing.done(): assert load_mask('m', tmp_path) in masks
        assert len(writing.result()) == 40

@pytest.mark.skipif(os.getuid() == 0, reason='root may write everywhere')
def test_a_folder_that_nobody_may_write_to_is_named(folder):
    folder.chmod(0o555)
    with pytest.raises(OSError, match='nothing can be written to'): publish(Mask.dense(make()), 'm', folder, **facts)
    folder.chmod(0o755)

def test_the_same_contents_are_the_same_bytes(tmp_path):
    "safetensors writes notes in any order; what is published twice would have two names"
    tensors, notes = dict(b=torch.arange(6.).view(2, 3), a=torch.ones(2, dtype=torch.int64)), {f'note {i}': 'ä"\n\\/é'*i for i in range(12)}
    for i in range(8): save_tensors(tmp_path/str(i), tensors, notes)
    assert len({(tmp_path/str(i)).read_bytes() for i in range(8)}) == 1
    found, said = load_tensors(tmp_path/'0')
    assert same(found, tensors) and said == notes and [*found] == [*load_tensors(tmp_path/'7')[0]]

def test_files_are_readable_as_the_file_before_or_the_umask_says(tmp_path):
    file, before = tmp_path/'a.safetensors', os.umask(0o027)
    try:
        save_tensors(file, dict(a=torch.ones(1)), {})
        assert file.stat().st_mode & 0o777 == 0o640
        file.chmod(0o600)
        save_tensors(file, dict(a=torch.zeros(1)), {})
        assert file.stat().st_mode & 0o777 == 0o600
    finally: os.umask(before)

def test_what_is_asked_wrongly_is_answered(folder):
    for ask, sentence in (
            (lambda: load_ticket('digits-el2n', folder), "'digits-el2n' is no ticket: it holds scores, made for a test"),
            (lambda: load_mask('digits-el2n', folder), 'is no mask'), (lambda: load_ticket('smal', folder), "did you mean 'small'"),
            (lambda: load_scores('digits', 'el2m', folder), "did you mean 'digits-el2n'"),
            (lambda: load_scores('digits', 'el2n', folder).on(load_data('digits').test), 'score it anew'),
            (lambda: publish(load_mask('small', folder), 'a/b', folder, **facts), "'a/b' is no name of an artifact"),
            (lambda: network_of('small', images, folder), 'does not say how its network is made')):
        with pytest.raises(ValueError, match=sentence): ask()
    with pytest.raises(TypeError, match='a dict is no artifact: give Scores, Ticket, Mask, DistilledImages'): publish({}, 'nothing', folder, **facts)
    assert [*cards(folder)] == ['digits-el2n', 'only-mask', 'small'] and not [*folder.glob('nothing*')]

def test_what_several_publish_at_once_is_listed(tmp_path):
    mask = Mask.dense(make())
    with ThreadPoolExecutor(8) as pool: [*pool.map(lambda i: publish(mask, f'mask-{i}', tmp_path, **facts), range(16))]
    assert len(cards(tmp_path)) == 16 and all(load_mask(name, tmp_path) == mask for name in cards(tmp_path))

@pytest.fixture
def served(folder, tmp_path_factory, monkeypatch):
    "Address of the folder, and what was asked of it; downloads go to a folder of their own"
    asked = []
    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *said): asked.append(self.path)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Files, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('downloads')))
    yield f'http://127.0.0.1:{server.server_port}', asked, server
    server.shutdown()
    server.server_close()

def test_a_url_is_read_once_and_serves_when_nobody_answers(folder, served):
    address, asked, server = served
    mask, file = load_mask('small', address + '/'), cards(folder)['small']
    asked.clear()
    assert mask == load_mask('small', address.replace('http', 'HTTP')) and asked == ['/cards.json']
    kept = Path(os.environ['TORCH_HOME'])/'hub'/'lottery_diet'/'files'/file.sha256
    kept.write_bytes(b'half of it')
    assert load_mask('small', address) == mask and asked.count(f'/{file.file}') == 1 # what was damaged is read again
    server.shutdown()
    server.server_close()
    with pytest.warns(UserWarning, match='the list that was read last serves'): assert load_mask('small', address) == mask
    with pytest.warns(UserWarning), pytest.raises(ConnectionError, match='digits-el2n.*safetensors cannot be read'): load_scores('digits', 'el2n', address)

def test_what_a_server_sends_is_believed_only_with_its_checksum(folder, served):
    address, _, _ = served
    good, kept = (folder/'cards.json').read_text(), Path(os.environ['TORCH_HOME'])/'hub'/'lottery_diet'
    file_of(folder, 'small').write_bytes(b'another')
    with pytest.raises(ValueError, match="is not the file that the card of 'small' describes"): load_mask('small', address)
    file_of(folder, 'small').write_bytes(bytes(10_000_000))
    with pytest.raises(ConnectionError, match='is longer than the [0-9,]+ bytes that it should have'): load_mask('small', address)
    assert not [*(kept/'files').iterdir()] # nothing of it is kept
    (folder/'cards.json').write_text('<html>')
    with pytest.raises(ValueError, match='cards.json is no list of artifacts'): cards(address)
    assert [f.read_text() for f in (kept/'lists').iterdir()] == [good] # the list that was good
    (folder/'cards.json').unlink()
    with pytest.raises(ConnectionError, match=r'cards.json cannot be read \(404 File not found\)'): cards(address) # an answer: the kept list does not serve

class Broken(BaseHTTPRequestHandler):
    "Answers that are none"
    def log_message(self, *said): pass
    answers = {'/short/cards.json': b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}', '/none/cards.json': b'what?\r\n\r\n'}
    def do_GET(self): self.wfile.write(self.answers[self.path])

@pytest.mark.parametrize('where', [
    'http://127.0.0.1:{0}/short', 'http://127.0.0.1:{0}/none', 'http://127.0.0.1:1', 'http://exa mple/x', 'http://h:port/', 'ftp://host/x', 'hf:me tickets'])
def test_what_is_no_registry_is_a_sentence_on_the_command_line(where, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert cli.main(['artifacts', '--where', where.format(server.server_port)]) == 1
    said = capsys.readouterr().err
    assert said.startswith('lottery-diet: ') and said.count('\n') == 1 and 'Traceback' not in said
    server.shutdown()
    server.server_close()

def test_the_command_line_lists_them(folder, capsys):
    assert cli.main(['artifacts', '--where', str(folder)]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [['digits-el2n', 'scores'], ['only-mask', 'mask'], ['small', 'ticket']]
    assert cli.main(['artifacts', 'small', '--where', str(folder)]) == 0 and "load_ticket('small')" in capsys.readouterr().out
    assert cli.main(['artifacts', 'smal', '--where', str(folder)]) == 1 and "did you mean 'small'" in capsys.readouterr().err

class Hub(BaseHTTPRequestHandler):
    "What Hugging Face answers of the repository me/tickets"
    def log_message(self, *said): pass
    def do_HEAD(self): self.do_GET(body=False)
    def do_GET(self, body=True):
        file = self.server.folder/self.path.rpartition('/')[2]
        if not (self.path.startswith('/me/tickets/resolve/') and file.is_file()):
            self.send_response(404)
            self.send_header('X-Error-Code', 'EntryNotFound' if self.path.startswith('/me/tickets/') else 'RepoNotFound')
            self.send_header('Content-Length', '0')
            return self.end_headers()
        content = file.read_bytes()
        self.send_response(200)
        for name, value in {'X-Repo-Commit': '1'*40, 'ETag': f'"{hash(content)}"', 'Content-Length': str(len(content))}.items(): self.send_header(name, value)
        self.end_headers()
        if body: self.wfile.write(content)

def test_a_repository_of_hugging_face_is_read(folder, tmp_path_factory):
    pytest.importorskip('huggingface_hub')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.folder = folder
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
from lottery_diet.artifacts import cards, load_mask
print(load_mask('small', 'hf:me/tickets').kept, [*cards('hf:me/tickets@main')])
for name in ('me/nothing', 'me tickets'):
    try: cards(f'hf:{name}')
    except ConnectionError as e: print(e)"""
    here = dict(HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', NO_PROXY='127.0.0.1', no_proxy='127.0.0.1')
    env = os.environ | here | dict(HF_HOME=str(tmp_path_factory.mktemp('hf')))
    ran = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=env, capture_output=True, text=True)
    server.shutdown()
    first, *refused = ran.stdout.splitlines()
    assert first == f"{load_mask('small', folder).kept} ['digits-el2n', 'only-mask', 'small']", ran.stderr
    assert [line.partition(' cannot be read')[0] for line in refused] == ['cards.json of hf:me/nothing', 'cards.json of hf:me tickets']

def test_the_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ConnectionError, match=r'pip install "lottery_diet\[hf\]"'): cards('hf:me/tickets')

@pytest.mark.parametrize('name', shipped_cards)
def test_what_comes_with_the_package_is_whole_small_and_described(name):
    card = shipped_cards[name]
    file = fetch(name)
    assert card.size == file.stat().st_size < 2**20 and card.measured and {'network', 'recipe', 'seeds', 'command', 'commit'} <= card.made.keys()
    assert card.license == ('Apache-2.0; learned from CIFAR-10, which states no license' if card.kind == 'images' else 'Apache-2.0')
    assert card.about and f'**{name}**' in (file.parent/'ARTIFACTS.md').read_text(encoding='utf-8')
    if card.kind == 'scores':
        scores = load_scores(card.data, name.removeprefix(f'{card.data}-'))
        each = scores.each.float()[:, scores.each.isfinite().all(0)]
        gap = each.mean(0) - scores.values[scores.each.isfinite().all(0)]
        assert len(each) == card.measured['networks'] and (gap.abs() <= 5e-3*each.abs().mean(0) + 1e-6).all() # bfloat16 has three digits

@pytest.mark.parametrize('name', shipped_cards)
def test_a_card_says_what_its_file_belongs_to(name, real_data):
    card = shipped_cards[name]
    net = network_of(name, real_images(card.data, real_data))
    assert card.made['data_checksum'] == real_checksum(card.data, real_data)
    assert card.made['parameters'] == {k: '×'.join(map(str, p.shape)) for k, p in net.named_parameters()}
    if card.kind == 'ticket': assert {*load_ticket(name).mask} <= {*card.made['parameters']}

@pytest.mark.parametrize('name', [name for name, card in shipped_cards.items() if card.kind == 'scores'])
def test_shipped_scores_are_of_the_real_data(name, real_data):
    card = shipped_cards[name]
    values = load_scores(card.data, name.removeprefix(f'{card.data}-')).on(real_images(card.data, real_data))
    assert len(values) in (50_000, 60_000) and not values.isnan().any()

tickets = [name for name, card in shipped_cards.items() if card.kind == 'ticket']

@pytest.mark.parametrize('name', [name if name.endswith('-7') else pytest.param(name, marks=pytest.mark.long) for name in tickets])
def test_a_shipped_ticket_has_the_accuracy_of_its_card(name, real_data):
    card, ticket = shipped_cards[name], load_ticket(name)
    train, _, test = load_data(card.data, real_data)
    net = network_of(name, train)
    told = card.measured['test accuracy of this one']
    assert evaluate(net, test, ticket.trained).accuracy == pytest.approx(told, abs=1e-3) # another processor rounds otherwise
    assert same(ticket.mask.apply(ticket.trained.state), ticket.trained.state)

@pytest.mark.long
@pytest.mark.parametrize('name', [name for name, card in shipped_cards.items() if card.kind == 'ticket' and card.data == 'mnist'])
def test_a_shipped_ticket_trains_to_what_it_was(name, real_data):
    "To the bit on the same processor. Others round otherwise, and small differences grow: still it ends nearer than with other SGD noise, and as good"
    card, ticket, (train, _, test) = shipped_cards[name], load_ticket(name), load_data('mnist', real_data)
    net, end = network_of(name, train), ticket.trained.state
    again, other = (train_ticket(net, train, ticket.recipe, ticket.rewind, ticket.mask, seed=card.made['noise'] + i).state for i in (0, 1))
    def apart(state): return sum((state[k] - v).square().sum() for k, v in end.items()).sqrt().item()
    assert apart(again) < .9*apart(other) and evaluate(net, test, again).accuracy == pytest.approx(evaluate(net, test, end).accuracy, abs=5e-3)
