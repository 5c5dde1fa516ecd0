"What others found is loaded as it was published, or refused in a sentence; what comes with the package is whole, small and fits its data."
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from lottery_diet.artifacts import cards, fetch, load_mask, load_scores, load_ticket, publish
from lottery_diet.core import same, state_of
from lottery_diet.engine.evaluation import evaluate
from lottery_diet.engine.recipe import Recipe
from lottery_diet.experiments.ingredients import Images, Network
from lottery_diet.imp import Mask, Ticket, prune_global_magnitude, train_ticket
from lottery_diet.models import initialize, mlp
from lottery_diet.scores import Scores
from lottery_diet.sources import load_data
from lottery_diet.train import Snapshot, fit

images = load_data('digits').train.take(torch.arange(60))
facts = dict(about='made for a test', data='digits', license='CC0', made={}, measured={})
shipped_cards = cards()

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
    assert [*listed] == ['digits-el2n', 'only-mask', 'small'] and all((folder/f'{name}.safetensors').stat().st_size == card.size for name, card in listed.items())
    assert all(f'**{name}**' in (folder/'README.md').read_text(encoding='utf-8') for name in listed)

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

@pytest.mark.parametrize('spoil, kind, sentence', [
    (lambda folder: (folder/'cards.json').write_text('[1'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text('[1, 2]'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text('{"small": {"kind": "ticket"}}'), ValueError, 'cards.json is no list of artifacts'),
    (lambda folder: (folder/'cards.json').write_text((folder/'cards.json').read_text().replace('"only-mask"', '"../mask"')), ValueError, "'../mask' is no name"),
    (lambda folder: (folder/'cards.json').unlink(), FileNotFoundError, 'cards.json: give the folder that `publish` wrote to'),
    (lambda folder: (folder/'small.safetensors').unlink(), FileNotFoundError, 'small.safetensors'),
    (lambda folder: (folder/'small.safetensors').write_bytes(b'x'), ValueError, "is not the file that the card of 'small' describes"),
    (lambda folder: (folder/'small.safetensors').write_bytes((folder/'only-mask.safetensors').read_bytes()), ValueError, "is not the file that the card of 'small' describes")])
def test_a_damaged_folder_is_named(folder, spoil, kind, sentence):
    spoil(folder)
    with pytest.raises(kind, match=sentence): load_ticket('small', folder)

def test_every_flipped_byte_is_refused(folder):
    file = folder/'digits-el2n.safetensors'
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
        with pytest.raises(ValueError, match='is not the file'): fetch('digits-el2n', folder)

def test_what_is_asked_wrongly_is_answered(folder):
    for ask, sentence in ((lambda: load_ticket('digits-el2n', folder), "'digits-el2n' is no ticket: it holds scores, made for a test"), (lambda: load_mask('digits-el2n', folder), 'is no mask'),
                          (lambda: load_scores('digits', 'el2m', folder), "did you mean 'digits-el2n'"), (lambda: load_ticket('smal', folder), "did you mean 'small'"),
                          (lambda: publish(load_mask('small', folder), 'a/b', folder, **facts), "'a/b' is no name of an artifact"),
                          (lambda: load_scores('digits', 'el2n', folder).on(load_data('digits').test), 'score it anew')):
        with pytest.raises(ValueError, match=sentence): ask()
    with pytest.raises(TypeError, match='a dict is no artifact: give Scores, Ticket, Mask'): publish({}, 'nothing', folder, **facts)
    assert [*cards(folder)] == ['digits-el2n', 'only-mask', 'small'] and not (folder/'nothing.safetensors').exists()

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
    mask = load_mask('small', address + '/')
    assert mask == load_mask('small', address) and asked.count('/small.safetensors') == 1
    kept = next(f for f in Path(os.environ['TORCH_HOME']).glob('hub/lottery_diet/*') if f.name == cards(folder)['small'].sha256)
    kept.write_bytes(b'half of it')
    assert load_mask('small', address) == mask and asked.count('/small.safetensors') == 2 # what was damaged is read again
    server.shutdown()
    server.server_close()
    assert load_mask('small', address) == mask
    with pytest.raises(ConnectionError, match='digits-el2n.safetensors cannot be read'): load_scores('digits', 'el2n', address)

def test_a_file_that_changed_on_its_way_is_refused(folder, served):
    (folder/'small.safetensors').write_bytes(b'another')
    with pytest.raises(ValueError, match="is not the file that the card of 'small' describes"): load_mask('small', served[0])
    with pytest.raises(ConnectionError, match='cards.json cannot be read .File not found'): cards(served[0] + '/elsewhere')

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
    env = os.environ | dict(HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_HOME=str(tmp_path_factory.mktemp('hf')), NO_PROXY='127.0.0.1', no_proxy='127.0.0.1')
    ran = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=env, capture_output=True, text=True)
    server.shutdown()
    first, *refused = ran.stdout.splitlines()
    assert first == f"{load_mask('small', folder).kept} ['digits-el2n', 'only-mask', 'small']", ran.stderr
    assert [line.partition(' cannot be read')[0] for line in refused] == ['cards.json of hf:me/nothing', 'cards.json of hf:me tickets']

def test_the_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'pip install "lottery_diet\[hf\]"'): cards('hf:me/tickets')

@pytest.mark.parametrize('name', shipped_cards)
def test_what_comes_with_the_package_is_whole_small_and_described(name):
    card = shipped_cards[name]
    file = fetch(name)
    assert card.size == file.stat().st_size < 2**20 and card.measured and {'network', 'recipe', 'seeds', 'command'} <= card.made.keys()
    assert card.about and card.license == 'Apache-2.0' and f'**{name}**' in (file.parent/'README.md').read_text(encoding='utf-8')
    if card.kind == 'scores':
        scores = load_scores(card.data, name.removeprefix(f'{card.data}-'))
        finite = scores.each.isfinite().all(0)
        assert len(scores.each) == card.measured['networks'] and torch.allclose(scores.each.float().mean(0)[finite], scores.values[finite], rtol=2e-3, atol=2e-3)

@pytest.mark.parametrize('name', [name for name, card in shipped_cards.items() if card.kind == 'scores'])
def test_shipped_scores_are_of_the_real_data(name, real_data):
    card = shipped_cards[name]
    values = load_scores(card.data, name.removeprefix(f'{card.data}-')).on(load_data(card.data, real_data).train)
    assert len(values) in (50_000, 60_000) and not values.isnan().any()

@pytest.mark.parametrize('name', [name for name, card in shipped_cards.items() if card.kind == 'ticket'])
def test_a_shipped_ticket_has_the_accuracy_of_its_card(name, real_data):
    card, ticket = shipped_cards[name], load_ticket(name)
    train, test = Images(name=card.data).load(ticket.recipe, torch.device('cpu'))
    net = Network(model=card.made['network']).maker(train)()
    assert evaluate(net, test, ticket.trained).accuracy == pytest.approx(card.measured['of this one'], abs=1e-3) # another processor rounds otherwise
    assert same(ticket.mask.apply(ticket.trained.state), ticket.trained.state)
