"""Lottery tickets in PyTorch: `import lottery_diet as ld` gives what most work needs, each name loaded when it is used."""
import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.0.1"

_homes = dict( # names of the package, by the modules that they come from
    ImageSet='data', load_data='sources', initialize='networks.weights', find_model='models', Recipe='engine.recipe', in_epochs='engine.recipe',
    evaluate='engine.evaluation', predict='engine.evaluation', Snapshot='train', train='train', fit='train', el2n='scores', grand='scores', Mask='imp',
    imp='imp', train_ticket='imp', controls='imp', Ticket='imp', loss_path='lmc', barrier='lmc', spawn='lmc', prunable='networks.weights',
    load_scores='artifacts', load_ticket='artifacts', load_mask='artifacts', load_images='artifacts')

class _Chapter(ModuleType):
    "A module that is, where it is called, its function of the same name: `ld.imp(…)` is `ld.imp.imp(…)`, and `ld.imp.Mask` is there too"
    def __call__(self, *args, **kwargs): return getattr(self, self.__name__.rpartition('.')[2])(*args, **kwargs)

class _Package(ModuleType):
    def __setattr__(self, name, value):
        if type(value) is ModuleType and callable(getattr(value, name, None)): value.__class__ = _Chapter # Python binds an imported module here
        super().__setattr__(name, value)

    def __getattr__(self, name):
        if name not in _homes: raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        module = import_module(f'.{_homes[name]}', self.__name__)
        return module if name == _homes[name] else getattr(module, name)

    def __dir__(self): return sorted({*super().__dir__(), *_homes} - {'sys', 'import_module', 'ModuleType'})

sys.modules[__name__].__class__ = _Package
