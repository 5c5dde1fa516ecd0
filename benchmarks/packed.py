"""How ImageNet's images might be kept, so that random parts of them are cut quickly: bytes, and CPU time of this process.

Two photographs that come with scikit-learn, at two usual sizes of ImageNet's; a random part is decoded, cut and resized to 224×224,
and a copy is made of the file.
    python benchmarks/packed.py
"""
import argparse
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from report import report
from sklearn.datasets import load_sample_images

from lottery_diet.core import stream
from lottery_diet.data import RandomParts
from lottery_diet.packed import resized, side

n_images = 1_281_167

def encoded(picture, **how):
    "Bytes of a picture"
    picture.save(held := BytesIO(), **how)
    return held.getvalue()

def raw(picture):
    "Its pixels, opened as from a file that is mapped"
    return np.asarray(picture)

def opened(kept):
    "A picture from bytes or pixels"
    return Image.fromarray(kept) if isinstance(kept, np.ndarray) else Image.open(BytesIO(kept))

def part(kept, parts, i):
    "What a batch wants; of pixels only those of the part are read"
    h, w = kept.shape[:2] if isinstance(kept, np.ndarray) else opened(kept).size[::-1]
    top, left, height, width = parts.box(i, h, w)
    if isinstance(kept, np.ndarray): cut = Image.fromarray(kept[top:top+height, left:left+width])
    else: cut = opened(kept).crop((left, top, left + width, top + height))
    return cut.resize((side, side), Image.Resampling.BILINEAR)

def milliseconds(f, turns=40, rounds=3):
    "CPU time of f(i), the least of some rounds' means"
    def once():
        begin = time.process_time()
        for i in range(turns): f(i)
        return (time.process_time() - begin)/turns
    return 1000*min(once() for _ in range(rounds))

def rows():
    photographs = [Image.fromarray(a) for a in load_sample_images().images]
    upright = [p.crop((60, 0, 460, 427)) for p in photographs]
    sizes = [(p, (500, 333)) for p in photographs] + [(p, (375, 400)) for p in upright]
    pictures = [p.resize(size, Image.Resampling.LANCZOS) for p, size in sizes]
    files = [encoded(p, format='JPEG', quality=96) for p in pictures]
    parts, small = RandomParts.drawn(40, stream(0, 'parts'), .1, .8), [resized(p) for p in pictures]
    ways = {'files as they are': None, 'pixels at 256': raw, 'PNG at 256': partial(encoded, format='PNG')}
    ways |= {f'JPEG at 256, quality {q}': partial(encoded, format='JPEG', quality=q) for q in (85, 90, 95)}
    for name, keep in ways.items():
        kept = files if keep is None else [keep(p) for p in small]
        size = np.mean([k.nbytes if isinstance(k, np.ndarray) else len(k) for k in kept])
        lost = 0 if keep is None else np.mean([np.abs(np.asarray(opened(k)).astype(int) - np.asarray(p)).mean() for k, p in zip(kept, small)])
        takes = np.mean([milliseconds(partial(part, k, parts)) for k in kept])
        makes = 0 if keep is None else np.mean([milliseconds(lambda _, f=f: keep(resized(Image.open(BytesIO(f)))), 10) for f in files])
        yield {'kept as': name, 'GB for ImageNet': round(size*n_images/1e9), 'kB an image': round(float(size)/1000, 1),
               'ms a part': round(float(takes), 2), 'ms to make': round(float(makes), 2), 'levels lost, of 255': round(float(lost), 1)}

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--out', type=Path, help='also write table and machine as JSON')
    report(ask.parse_args().out, rows())

if __name__ == '__main__': main()
