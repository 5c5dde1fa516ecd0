"Where a benchmark's table goes: with the machine that it was measured on."
import json

from lottery_diet.core import provenance, write_whole


def write_results(path, results, device='cpu'):
    "Table and machine as JSON; nothing without a path"
    if not path: return
    text = json.dumps(dict(results=results, machine=provenance(device)), indent=1, default=str) + '\n'
    write_whole(path, lambda p: p.write_text(text, encoding='utf-8'))

def report(path, rows, device='cpu'):
    "Print each row as it comes, then write them all"
    results = []
    for row in rows:
        results.append(row)
        print(row, flush=True)
    write_results(path, results, device)
