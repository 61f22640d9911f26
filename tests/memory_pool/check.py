"""What the pool of batch memory promises, checked without torch, and with NumPy only where there is some: run by any interpreter.

Usage: check.py FILE_OF_A_MODULE_WITH_MemoryPool
"""

import gc
import importlib.machinery
import importlib.util
import sys
import threading

sys.dont_write_bytecode = True
name = "memory_pool" if "memory_pool" in sys.argv[1] else "_core"
loader = importlib.machinery.ExtensionFileLoader(name, sys.argv[1])
spec = importlib.util.spec_from_file_location(name, sys.argv[1], loader=loader)
assert spec is not None
core = importlib.util.module_from_spec(spec)
loader.exec_module(core)

SIZE = 1000


def buffers_that_are_held_are_different():
    pool = core.MemoryPool()
    held = [pool.take(SIZE) for _ in range(4)]
    assert len({buffer.address for buffer in held}) == 4
    assert pool.num_bytes == 4 * SIZE


def a_buffer_that_was_dropped_is_taken_again():
    pool = core.MemoryPool()
    addresses = set()
    for _ in range(10):
        buffer = pool.take(SIZE)
        addresses.add(buffer.address)
        del buffer
    assert len(addresses) == 1 and pool.num_bytes == SIZE


def a_view_holds_its_buffer():
    pool = core.MemoryPool()
    buffer = pool.take(SIZE)
    address = buffer.address
    view = memoryview(buffer)[10:20][::2]
    del buffer
    assert pool.take(SIZE).address != address
    del view
    assert address in {buffer.address for buffer in [pool.take(SIZE), pool.take(SIZE)]}


def what_was_written_is_there_as_long_as_it_is_held():
    pool = core.MemoryPool()
    views = []
    for number in range(20):
        view = memoryview(pool.take(SIZE))
        view[:] = bytes([number]) * SIZE
        if number % 2:
            views.append(view)
    assert [view[-1] for view in views] == list(range(1, 20, 2))
    assert pool.num_bytes == 11 * SIZE


def arrays_and_what_is_made_of_them_hold_it():
    try:
        import numpy as np
    except ImportError:
        return
    pool = core.MemoryPool()
    array = np.frombuffer(pool.take(SIZE), np.uint8)
    address = array.ctypes.data
    consumer = np.from_dlpack(array[5:])  # by DLPack
    part = array.reshape(10, 100).T[3]
    del array
    assert pool.take(SIZE).address != address
    del part
    assert pool.take(SIZE).address != address
    del consumer
    gc.collect()
    assert address in {buffer.address for buffer in [pool.take(SIZE) for _ in range(3)] + [pool.take(SIZE)]}


def a_tensor_holds_its_memory_and_one_that_nobody_took_gives_it_back():
    pool = core.MemoryPool()
    address = pool.take(SIZE).address
    capsule = pool.take_tensor([10, 25], 2, 32)
    assert pool.take(SIZE).address != address
    del capsule
    assert address in {buffer.address for buffer in [pool.take(SIZE), pool.take(SIZE)]}
    try:
        import numpy as np
    except ImportError:
        return

    class Lender:
        def __dlpack__(self, **options):
            return pool.take_tensor([10, 25], 2, 32)

        def __dlpack_device__(self):
            return (1, 0)

    array = np.from_dlpack(Lender())
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((10, 25), np.float32, True)
    held = array.ctypes.data
    part = array[3:, ::2]
    del array
    assert held not in {buffer.address for buffer in [pool.take(SIZE), pool.take(SIZE), pool.take(SIZE)]}
    del part
    gc.collect()
    assert held in {buffer.address for buffer in [pool.take(SIZE), pool.take(SIZE), pool.take(SIZE)]}


def a_buffer_outlives_its_pool():
    pool = core.MemoryPool()
    view = memoryview(pool.take(SIZE))
    del pool
    view[:] = b"x" * SIZE
    assert bytes(view) == b"x" * SIZE


def the_smallest_that_is_large_enough_is_taken_and_those_too_small_are_freed():
    pool = core.MemoryPool()
    large, small = pool.take(3 * SIZE), pool.take(SIZE)
    addresses = large.address, small.address
    del large, small
    assert pool.take(SIZE // 2).address == addresses[1]
    assert pool.take(2 * SIZE).address == addresses[0]
    huge = pool.take(4 * SIZE)
    assert pool.num_bytes == huge.nbytes == 4 * SIZE


def memory_of_a_device_is_not_read_by_the_processor():
    freed = []

    class Owner:
        def __del__(self):
            freed.append(True)

    pool = core.MemoryPool(lambda nbytes: (4096, Owner()))
    buffer = pool.take(SIZE)
    assert (buffer.address, buffer.nbytes) == (4096, SIZE)
    try:
        memoryview(buffer)
    except BufferError as error:
        assert "device" in str(error.__cause__ or error)
    else:
        raise AssertionError("memory of a device was read")
    del buffer
    assert not freed and pool.num_bytes == SIZE
    del pool
    assert freed


def threads_take_and_drop_without_harm():
    pool = core.MemoryPool()
    wrong = []

    def work(number):
        for turn in range(300):
            view = memoryview(pool.take(SIZE))
            mark = bytes([(number * 7 + turn) % 256])
            view[:] = mark * SIZE
            if view.tobytes() != mark * SIZE:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.num_bytes <= 8 * SIZE


for check in [
    value for value in list(globals().values()) if getattr(value, "__module__", "") == __name__ and callable(value)
]:
    check()
print(f"Python {sys.version_info.major}.{sys.version_info.minor}: fine")
