// memory_pool: blocks of memory that are used again once nobody holds them; fresh memory of a batch's size costs more than writing it.
// In: a number of bytes. Out: a Buffer, whose destructor gives its block back, from whatever thread and in whatever order. Who holds a
// buffer is the business of the bindings, where tensors, views and arrays share one; no reference is counted here or there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace vidload {

class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  struct Block {
    std::shared_ptr<uint8_t> memory;  // its deleter frees it
    size_t size = 0;
  };
  // Makes a block of `size` bytes, or throws.
  using Allocate = std::function<std::shared_ptr<uint8_t>(size_t size)>;

  class Buffer {
   public:
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    uint8_t* data() const { return block_.memory.get(); }
    size_t size() const { return size_; }
    bool is_host() const { return is_host_; }

   private:
    friend class MemoryPool;
    Buffer(std::weak_ptr<MemoryPool> pool, Block block, size_t size, bool is_host);
    std::weak_ptr<MemoryPool> pool_;  // weak: a buffer that outlives its pool frees its block, and keeps no other alive
    Block block_;
    size_t size_;
    bool is_host_;
  };

  // is_host: whether the processor can read and write the blocks.
  static std::shared_ptr<MemoryPool> make(Allocate allocate, bool is_host);
  // Throws what `allocate` throws; the pool is as it was then, but for free blocks that were too small.
  std::unique_ptr<Buffer> take(size_t size);
  // Of all blocks, held and free.
  size_t num_bytes() const;

 private:
  MemoryPool(Allocate allocate, bool is_host);
  void give_back(Block block);

  const Allocate allocate_;
  const bool is_host_;
  mutable std::mutex mutex_;
  std::vector<Block> free_;  // the one given back last at the end
  size_t num_bytes_ = 0;
};

// Memory of the host for a batch. Throws std::bad_alloc.
std::shared_ptr<uint8_t> allocate_host(size_t size);

}  // namespace vidload
