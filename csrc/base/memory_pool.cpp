#include "base/memory_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

namespace vidload {

MemoryPool::MemoryPool(Allocate allocate, bool is_host) : allocate_(std::move(allocate)), is_host_(is_host) {}

std::shared_ptr<MemoryPool> MemoryPool::make(Allocate allocate, bool is_host) {
  return std::shared_ptr<MemoryPool>(new MemoryPool(std::move(allocate), is_host));
}

MemoryPool::Buffer::Buffer(std::weak_ptr<MemoryPool> pool, Block block, size_t size, bool is_host)
    : pool_(std::move(pool)), block_(std::move(block)), size_(size), is_host_(is_host) {}

MemoryPool::Buffer::~Buffer() {
  if (const std::shared_ptr<MemoryPool> pool = pool_.lock()) pool->give_back(std::move(block_));
}

std::unique_ptr<MemoryPool::Buffer> MemoryPool::take(size_t size) {
  std::vector<Block> too_small;  // freed after the lock: a deleter may take its time, or a lock of its own
  Block block;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto best = free_.end();  // the smallest that is large enough, and of those the one whose memory was touched last
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->size >= size && (best == free_.end() || it->size <= best->size)) best = it;
    }
    if (best != free_.end()) {
      block = std::move(*best);
      free_.erase(best);
    } else {
      too_small.swap(free_);
      for (const Block& small : too_small) num_bytes_ -= small.size;
    }
  }
  too_small.clear();
  if (!block.memory) {
    block = {allocate_(size), size};
    std::lock_guard<std::mutex> lock(mutex_);
    num_bytes_ += size;
  }
  return std::unique_ptr<Buffer>(new Buffer(weak_from_this(), std::move(block), size, is_host_));
}

void MemoryPool::give_back(Block block) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(block));
}

size_t MemoryPool::num_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return num_bytes_;
}

std::shared_ptr<uint8_t> allocate_host(size_t size) {
  constexpr size_t kAlignment = 64;  // a line of the cache. Huge pages were tried: once the blocks have been touched they change nothing.
  void* memory = std::aligned_alloc(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
  if (!memory) throw std::bad_alloc();
  return {static_cast<uint8_t*>(memory), std::free};
}

}  // namespace vidload
