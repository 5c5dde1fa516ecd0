"""A device that computes on the CPU and refuses what a GPU refuses first: operations on tensors of two devices, random numbers from the CPU's streams, NumPy.

Branches that ask for 'cuda' by name do not run on it, and what CUDA cannot do at all it does not know.
"""
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

device_name = 'elsewhere'
here, there = torch.device('cpu'), f'{device_name}:0'
moves = {'copy_', '_to_copy'} # from one device to another
alike = {'stack', 'cat', 'equal'} # these take not even a single number from the CPU
drawing = {torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal}

class There(Tensor):
    "A tensor of the CPU's that says it lies elsewhere"
    carried = 0 # operations so far

    @staticmethod
    def __new__(cls, held):
        layout = dict(strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype)
        return Tensor._make_wrapper_subclass(cls, held.size(), device=torch.device(there), **layout)

    def __init__(self, held): self.held = held
    def __repr__(self, **_): return f'There({self.held!r})'
    def tolist(self): return self.detach().held.tolist()
    def numpy(self, **_): raise TypeError('NumPy cannot see a tensor that lies elsewhere')

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None): return carry_out(op, *args, **kwargs or {})

def lies_there(x): return isinstance(x, There)

def strangers(op, op_name, args, kwargs):
    "Tensors on the CPU that a GPU does not take beside its own: all but indices, and single numbers that are only read"
    given = [*zip(op._schema.arguments, args), *((a, kwargs[a.name]) for a in op._schema.arguments if a.name in kwargs)]
    for argument, value in given:
        read_only = op_name not in alike and not (argument.alias_info and argument.alias_info.is_write)
        for t in tree_leaves(value):
            if isinstance(t, Tensor) and not lies_there(t) and argument.name != 'indices' and not (read_only and t.ndim == 0): yield t

def carry_out(op, *args, **kwargs):
    "On the CPU, once it is known that a GPU would have done it"
    op_name, asked = op._schema.name.split('::')[1], kwargs.get('device')
    given = tree_leaves((args, kwargs))
    of_two_devices = any(map(lies_there, given)) and op_name not in moves and next(strangers(op, op_name, args, kwargs), None) is not None
    if of_two_devices: raise RuntimeError(f'{op}: expected all tensors to be on the same device')
    to_there = asked.type == device_name if asked is not None else any(map(lies_there, given))
    if to_there and torch.Tag.nondeterministic_seeded in op.tags: raise RuntimeError(f'{op}: the device would draw numbers of its own')
    plain_args, plain_kwargs = tree_map(lambda t: t.held if lies_there(t) else t, (args, kwargs | (dict(device=here) if asked is not None else {})))
    out = op(*plain_args, **plain_kwargs)
    if not to_there: return out
    There.carried += 1
    return return_and_correct_aliasing(op, args, kwargs, tree_map(lambda t: wrapped(t) if isinstance(t, Tensor) else t, out))

def wrapped(t): return There(torch.zeros(t.shape, dtype=t.dtype) if t._is_zerotensor() else t)

class Moving(TorchFunctionMode):
    "What PyTorch makes there out of sight, from numbers and from lists as indices, is made on the CPU and moved"
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__): args = (args[0], in_tensors(args[1]), *args[2:])
        asked = kwargs.get('device')
        if func is Tensor.to or asked is None or torch.device(asked).type != device_name or any(map(lies_there, args)): return func(*args, **kwargs)
        if func in drawing: raise RuntimeError(f'{func}: the device would draw numbers of its own')
        made = func(*args, **{k: v for k, v in kwargs.items() if k != 'requires_grad'} | dict(device=here)).to(asked)
        return made.requires_grad_() if kwargs.get('requires_grad') else made

def in_tensors(index):
    if isinstance(index, tuple): return tuple(map(in_tensors, index))
    return torch.tensor(index, dtype=None if index else torch.long) if isinstance(index, list) else index

def begin():
    "From now on, in this process, the device is there"
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
    torch.set_num_threads(1) # as in the process that compares
    torch.__future__.set_swap_module_params_on_conversion(True) # `.data = ` would leave what is held as it was
    _setup_privateuseone_for_python_backend(device_name)
    every_operation = torch.library.Library('_', 'IMPL')
    every_operation.fallback(carry_out, 'PrivateUse1')
    begin.kept = every_operation, Moving() # as long as the process
    begin.kept[1].__enter__()
