"""finetune.py MODEL DATA ADAPTERS - fine-tunes from Python with nothing but ctypes and libgraft.so.

LD_LIBRARY_PATH=PREFIX/lib python3 finetune.py base data adapters
"""
import ctypes
import sys

graft = ctypes.CDLL("libgraft.so")
TRAIN = 1 << 2  # GRAFT_VERB_TRAIN


class Error(ctypes.Structure):  # graft_error
    _fields_ = [("status", ctypes.c_int), ("what", ctypes.c_char * 256), ("where", ctypes.c_char * 512),
                ("expected", ctypes.c_char * 256), ("found", ctypes.c_char * 256), ("hint", ctypes.c_char * 512)]


graft.graft_options_new.restype = ctypes.c_void_p
graft.graft_options_delete.argtypes = [ctypes.c_void_p]
graft.graft_options_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
graft.graft_train.argtypes = [ctypes.c_void_p] * 4

error = Error()
options = graft.graft_options_new()
settings = dict(zip(("model", "data", "adapter-path"), sys.argv[1:4], strict=True), iters="60", **{"batch-size": "2"})
status = 0
for name, value in settings.items():
    status = status or graft.graft_options_set(options, TRAIN, name.encode(), value.encode(), ctypes.byref(error))
status = status or graft.graft_train(options, None, None, ctypes.byref(error))
graft.graft_options_delete(options)
if status:
    sys.exit(f"{error.what.decode()}: {error.where.decode()} {error.hint.decode()}")
print("wrote", sys.argv[3])
