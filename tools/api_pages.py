"A module's public names as markdown: signature, docstring, and a row for each parameter and field with the comment beside it. Nothing is imported."
import ast
import io
import re
import textwrap
import tokenize
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Module:
    "An exported module, read but not run"
    name:str
    source:str

    @cached_property
    def tree(self) -> ast.Module: return ast.parse(self.source)

    @property
    def about(self) -> str: return ast.get_docstring(self.tree)

    @cached_property
    def comments(self) -> dict[int, str]:
        "By line"
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT and not t.string.startswith('# %%')}

    @cached_property
    def public(self) -> list[str]:
        "Names in `__all__`"
        return next(ast.literal_eval(node.value) for node in self.tree.body if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__')

    @cached_property
    def defined(self) -> dict[str, ast.stmt]:
        "The statements that make names, by name"
        return {name: node for node in self.tree.body for name in names_of(node)}

    @cached_property
    def imported(self) -> dict[str, str]:
        "Modules of this package that names come from"
        package = self.name.split('.')[:-1]
        above = lambda node: '.'.join([*package[:len(package) - node.level + 1], *filter(None, [node.module])])
        return {a.asname or a.name: above(node) for node in self.tree.body if isinstance(node, ast.ImportFrom) and node.level for a in node.names}

    def text(self, node:ast.AST|None) -> str:
        "As it is written"
        return ast.get_source_segment(self.source, node) if node else ''

def names_of(node:ast.stmt) -> list[str]:
    "What a statement defines"
    if isinstance(node, ast.FunctionDef | ast.ClassDef): return [node.name]
    if isinstance(node, ast.Assign): return [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []

def described_modules(package:Path) -> dict[str, Module]:
    "All modules of a package, chapters first, then folder by folder"
    files = {path.relative_to(package).with_suffix('').as_posix().replace('/', '.'): path for path in package.rglob('*.py') if not path.stem.startswith('_')}
    found = {name: path.read_text(encoding='utf-8') for name, path in files.items()}
    notebook = lambda name: re.search(r'File to edit: \S*?([^/]+)\.ipynb', found[name])[1]
    return {name: Module(name, found[name]) for name in sorted(found, key=lambda name: (name.count('.'), name.rpartition('.')[0], notebook(name)))}

def cell(text:str) -> str:
    "Fit for a table: a bar outside code would end it"
    return ''.join(part if i % 2 else part.replace('|', '\\|') for i, part in enumerate(re.split('(`[^`]*`)', ' '.join(text.split()))))

def home_of(modules:dict[str, Module], module:str, name:str) -> str|None:
    "The module that defines a name, however it came here"
    while module in modules and name not in modules[module].defined: module = modules[module].imported.get(name)
    return module if module in modules else None

def typed(modules:dict[str, Module], module:Module, annotation:str) -> str:
    "An annotation, linked where it is one of our own types"
    if not annotation: return ''
    name = annotation.removesuffix('|None').strip("'")
    home = home_of(modules, module.name, name)
    known = home and name in modules[home].public
    code = f'`{" ".join(annotation.split())}`'
    return f'[{code}]({home}.md#{name})' if known else code

def table(rows:list[tuple[str, str, str, str]]) -> list[str]:
    "Name, type, default, meaning"
    if not rows: return []
    lines = (f'| `{name}` | {kind} | {default and cell(f"`{default}`")} | {cell(about)} |' for name, kind, default, about in rows)
    return ['', '| name | type | default | meaning |', '|-|-|-|-|', *lines, '']

def parameters(modules:dict[str, Module], module:Module, f:ast.FunctionDef) -> list[tuple[str, str, str, str]]:
    "A row for each parameter; a comment belongs to the last parameter of its line"
    a, back = f.args, f.returns.end_lineno if f.returns else 0
    positional = [*a.posonlyargs, *a.args]
    defaults = [None]*(len(positional) - len(a.defaults)) + a.defaults
    every = [*zip(positional, defaults), (a.vararg, None), *zip(a.kwonlyargs, a.kw_defaults), (a.kwarg, None)]
    every = [(arg, default) for arg, default in every if arg and arg.arg not in ('self', 'cls')]
    last, stars = {arg.lineno: arg for arg, _ in every}, {a.vararg: '*', a.kwarg: '**'}
    about = lambda arg: module.comments.get(arg.lineno, '') if last[arg.lineno] is arg and arg.lineno != back else ''
    return [(stars.get(arg, '') + arg.arg, typed(modules, module, module.text(arg.annotation)), module.text(default), about(arg)) for arg, default in every]

def returned(modules:dict[str, Module], module:Module, f:ast.FunctionDef) -> list[str]:
    "What comes back"
    if module.text(f.returns) in ('', 'None'): return []
    about = module.comments.get(f.returns.end_lineno, '')
    return [f'Returns {typed(modules, module, module.text(f.returns))}{about and f": {about}"}', '']

def signature(f:ast.FunctionDef, name:str) -> str:
    "How it is called; types are in the table"
    twin = ast.parse(f'def f({ast.unparse(f.args)}): ...').body[0].args
    for arg in [*twin.posonlyargs, *twin.args, *twin.kwonlyargs, *filter(None, (twin.vararg, twin.kwarg))]: arg.annotation = None
    shown = re.sub(r'^(self|cls)\b(, )?', '', ast.unparse(twin))
    return '\n'.join(textwrap.wrap(f'{name}({shown})', 100, subsequent_indent=' '*4, break_long_words=False))

def function(modules:dict[str, Module], module:Module, f:ast.FunctionDef, name:str, level:int) -> list[str]:
    "A function or method"
    head = [f'{"#"*level} {name} {{#{name}}}', '']
    about, kind = sentence(ast.get_docstring(f)), {ast.unparse(d) for d in f.decorator_list}
    if kind & {'property', 'cached_property'}:
        return [*head, f'*Property.* {about}', '', *returned(modules, module, f)]
    return [*head, '```python', signature(f, name), '```', '', about, *table(parameters(modules, module, f)), '', *returned(modules, module, f)]

def sentence(text:str|None) -> str:
    "A docstring, ended as a sentence is"
    return (text or "") if not text or text[-1] in ".?!)" else f"{text}."

def fields(modules:dict[str, Module], module:Module, c:ast.ClassDef) -> list[tuple[str, str, str, str]]:
    "A row for each field of a class"
    own = [node for node in c.body if isinstance(node, ast.AnnAssign) and 'ClassVar' not in module.text(node.annotation)]
    kind, about = lambda node: typed(modules, module, module.text(node.annotation)), lambda node: module.comments.get(node.end_lineno, '')
    return [(node.target.id, kind(node), module.text(node.value), about(node)) for node in own]

def inherits_fields(modules:dict[str, Module], module:Module, c:ast.ClassDef) -> bool:
    "Has a class it is built on fields of its own?"
    for base in map(module.text, c.bases):
        home = modules.get(home_of(modules, module.name, base))
        above = home and home.defined.get(base)
        if isinstance(above, ast.ClassDef) and (fields(modules, home, above) or inherits_fields(modules, home, above)): return True
    return False

def klass(modules:dict[str, Module], module:Module, c:ast.ClassDef) -> list[str]:
    "A class: what it is built on, its fields, its public methods"
    bases = [typed(modules, module, module.text(b)) for b in c.bases]
    methods = {f.name: f for f in c.body if isinstance(f, ast.FunctionDef)}
    shown = [sentence(ast.get_docstring(c)), '', *table(fields(modules, module, c))]
    if bases: shown += [f'A {", ".join(bases)}{"; its fields come first" if inherits_fields(modules, module, c) else ""}.', '']
    if '__init__' in methods: shown += table(parameters(modules, module, methods['__init__']))
    validator = lambda f: any('validator' in ast.unparse(d) for d in f.decorator_list)
    public = [f for name, f in methods.items() if not name.startswith('_') and not validator(f)]
    inner = [line for f in public for line in function(modules, module, f, f'{c.name}.{f.name}', 3)]
    return [f'## {c.name} {{#{c.name}}}', '', *shown, *inner]

def value(module:Module, node:ast.stmt) -> list[str]:
    "A name that stands for a value"
    lines = module.text(node).splitlines()
    about = module.comments.get(node.end_lineno if len(lines) == 1 else node.lineno, '')
    title = ', '.join(name for name in names_of(node) if name in module.public)
    more = [] if len(lines) <= 24 else ['    …']
    return [f'## {title} {{#{title.split(", ")[0]}}}', '', '```python', *lines[:24], *more, '```', '', sentence(about[:1].upper() + about[1:]), '']

def api_page(modules:dict[str, Module], name:str, notebook:Path) -> str:
    "The page of one module"
    module = modules[name]
    own = sorted({id(module.defined[n]): module.defined[n] for n in module.public if n in module.defined}.values(), key=lambda node: node.lineno)
    made = f'`lottery_diet.{name}`, made from [{notebook}](../{notebook.with_suffix(".ipynb")}), which shows how it works and that it does.'
    parts = [f'# {name}', '', f'> {module.about}', '', made, '']
    for node in own:
        if isinstance(node, ast.FunctionDef): parts += function(modules, module, node, node.name, 2)
        else: parts += klass(modules, module, node) if isinstance(node, ast.ClassDef) else value(module, node)
    elsewhere = [n for n in module.public if n not in module.defined]
    if elsewhere: parts += ['## From other modules', '', ', '.join(f'[`{n}`]({home_of(modules, name, n)}.md#{n})' for n in elsewhere), '']
    return '\n'.join(parts)
