"Make results/smoke/ from figures that were drawn at scale smoke: small pictures for the pages of the papers and the gallery, with their tables and origins."
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

from lottery_diet.core import project_root, runs_root, write_whole
from lottery_diet.pages.gallery import drawn_in

width = 900 # pixels, of each picture

def small(picture:Path) -> bytes:
    "A PNG of 64 colors and of that width"
    with Image.open(picture) as image: reduced = image.convert('RGB').resize((width, round(image.height*width/image.width)), Image.LANCZOS)
    reduced.quantize(64).save(out := io.BytesIO(), 'PNG', optimize=True)
    return out.getvalue()

def main(source:Path, target:Path) -> None:
    "All that the source holds at scale smoke, panel A"
    for drawn in drawn_in(source):
        if drawn.parts[1:] != ('', 'smoke'): continue
        write_whole(target/drawn.picture.name, lambda p: p.write_bytes(small(drawn.picture)))
        for ending in ('.csv', '.json'): shutil.copyfile(drawn.picture.with_suffix(ending), target/drawn.picture.with_suffix(ending).name)

if __name__ == '__main__': main(Path(sys.argv[1]) if len(sys.argv) > 1 else runs_root()/'figures', project_root()/'results'/'smoke')
