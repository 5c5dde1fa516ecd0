"A device that computes on the CPU and refuses what a GPU would refuse: operations on tensors of two devices, a CPU's random stream, and NumPy."
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

here = torch.device('cpu')
name = 'elsewhere'
across = {'copy_', '_to_copy', 'index', 'index_put', 'index_put_', '_index_put_impl_'} # these take tensors of two devices on a GPU, too

class There(Tensor):
    "A tensor of the CPU's that says it lies elsewhere"
    @staticmethod
    def __new__(cls, held):
        layout = dict(strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype)
        return Tensor._make_wrapper_subclass(cls, held.size(), device=torch.device(name, 0), **layout)

    def __init__(self, held): self.held = held
    def __repr__(self, **_): return f'There({self.held!r})'
    def tolist(self): return self.detach().held.tolist()
    def numpy(self, **_): raise TypeError('NumPy cannot see a tensor that lies elsewhere')

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None): return carry_out(op, *args, **kwargs or {})

def lies_there(x): return isinstance(x, There)

def carry_out(op, *args, **kwargs):
    "On the CPU, once it is known that a GPU would have done it"
    given = tree_leaves((args, kwargs))
    tensors, short = [t for t in given if isinstance(t, Tensor)], op._schema.name.split('::')[1]
    there = kwargs['device'].type == name if kwargs.get('device') is not None else any(map(lies_there, tensors))
    if short not in across and any(map(lies_there, tensors)) and any(t.ndim and not lies_there(t) for t in tensors):
        raise RuntimeError(f'{op}: expected all tensors to be on the same device')
    if there and any(isinstance(g, torch.Generator) for g in given): raise RuntimeError(f'{op}: expected a generator of the device')
    if kwargs.get('device') is not None: kwargs['device'] = here
    plain_args, plain_kwargs = tree_map(lambda t: t.held if lies_there(t) else t, (args, kwargs))
    out = op(*plain_args, **plain_kwargs)
    if not there: return out
    return return_and_correct_aliasing(op, args, kwargs, tree_map(lambda t: wrapped(t) if isinstance(t, Tensor) else t, out))

def wrapped(t): return There(torch.zeros(t.shape, dtype=t.dtype) if t._is_zerotensor() else t)

class Moving(TorchFunctionMode):
    "What makes tensors there makes them on the CPU, and moves them; lists as indices become tensors, since what PyTorch makes of them is not seen here"
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], list): args = (args[0], torch.tensor(args[1]), *args[2:])
        if kwargs.get('device') is None or torch.device(kwargs['device']).type != name or any(map(lies_there, args)): return func(*args, **kwargs)
        if func is Tensor.to: return func(*args, **kwargs)
        if kwargs.get('generator'): raise RuntimeError(f'{func}: expected a generator of the device')
        return func(*args, **kwargs | dict(device=here)).to(kwargs['device'])

def begin():
    "From now on, in this process, the device is there"
    torch.set_num_threads(1)
    torch.__future__.set_swap_module_params_on_conversion(True) # `.data = ` would leave what is held as it was
    _setup_privateuseone_for_python_backend(name)
    factories = torch.library.Library('_', 'IMPL')
    factories.fallback(carry_out, 'PrivateUse1')
    begin.kept = factories, Moving() # as long as the process
    begin.kept[1].__enter__()
