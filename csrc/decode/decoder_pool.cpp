#include "decode/decoder_pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace vidload {
namespace {

// Takes, for each open decoder, without which an idle one counts as no longer used.
constexpr int64_t kTakesForOneOpen = 4;

}  // namespace

DecoderPool::DecoderPool(Open open, Bounds bounds) : open_(std::move(open)), bounds_(bounds) {}

DecoderPool::Lease::Lease(DecoderPool& pool, std::unique_ptr<Decoder> decoder, bool is_new)
    : pool_(pool), decoder_(std::move(decoder)), is_new_(is_new) {}

DecoderPool::Lease::~Lease() {
  if (decoder_) pool_.forget(std::move(decoder_));
}

void DecoderPool::Lease::give_back() {
  {
    std::lock_guard<std::mutex> lock(pool_.mutex_);
    pool_.in_use_.erase(std::find(pool_.in_use_.begin(), pool_.in_use_.end(), decoder_.get()));
    pool_.idle_.push_front({std::move(decoder_), pool_.num_taken_});
  }
  pool_.returned_.notify_all();
}

// Where nothing idle fits and all places are taken.
bool DecoderPool::is_worth_waiting(const StreamInfo& stream) const {
  const bool was_used_of_late = num_taken_ - idle_.back().num_taken < kTakesForOneOpen * bounds_.num_decoders;
  return was_used_of_late && std::any_of(in_use_.begin(), in_use_.end(), [&](const Decoder* decoder) { return decoder->fits(stream); });
}

DecoderPool::Lease DecoderPool::take(const StreamInfo& stream, const std::string& path) {
  std::unique_ptr<Decoder> evicted;  // closed without the lock: that may take its time
  {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      returned_.wait(lock, [this] { return num_open_ - int(idle_.size()) < std::min(bounds_.num_decoders, bounds_.num_in_use); });
      const auto found = std::find_if(idle_.begin(), idle_.end(), [&](const Idle& idle) { return idle.decoder->fits(stream); });
      if (found != idle_.end()) {
        in_use_.push_back(found->decoder.get());
        std::unique_ptr<Decoder> decoder = std::move(found->decoder);
        idle_.erase(found);
        ++num_taken_;
        return Lease(*this, std::move(decoder), false);
      }
      if (num_open_ < bounds_.num_decoders || !is_worth_waiting(stream)) break;
      returned_.wait(lock);
    }
    ++num_taken_;
    if (num_open_ < bounds_.num_decoders) {
      ++num_open_;
    } else {
      evicted = std::move(idle_.back().decoder);  // its place is taken over
      idle_.pop_back();
    }
  }
  evicted.reset();
  std::unique_ptr<Decoder> decoder;
  try {
    decoder = open_(stream, path);
    std::lock_guard<std::mutex> lock(mutex_);
    in_use_.push_back(decoder.get());
  } catch (...) {
    forget(nullptr);
    throw;
  }
  close_surplus_pixels(decoder->num_pixels());
  return Lease(*this, std::move(decoder), true);
}

// Closes those used longest ago where the idle ones and a new one of `num_pixels` are too much together.
void DecoderPool::close_surplus_pixels(int64_t num_pixels) {
  std::list<Idle> surplus;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto is_too_much = [&](const Idle& idle) { return (num_pixels += idle.decoder->num_pixels()) > bounds_.num_pixels; };
    surplus.splice(surplus.end(), idle_, std::find_if(idle_.begin(), idle_.end(), is_too_much), idle_.end());
    num_open_ -= int(surplus.size());
  }
  if (!surplus.empty()) returned_.notify_all();
}

void DecoderPool::forget(std::unique_ptr<Decoder> decoder) {
  if (decoder) {
    std::lock_guard<std::mutex> lock(mutex_);
    in_use_.erase(std::find(in_use_.begin(), in_use_.end(), decoder.get()));
  }
  decoder.reset();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    --num_open_;
  }
  returned_.notify_all();
}

void DecoderPool::set_max_decoders(int count) {
  std::list<Idle> surplus;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    bounds_.num_decoders = bounds_.num_in_use = std::max(count, 1);
    while (num_open_ > bounds_.num_decoders && !idle_.empty()) {
      surplus.splice(surplus.end(), idle_, std::prev(idle_.end()));
      --num_open_;
    }
  }
  returned_.notify_all();
}

int DecoderPool::num_decoders() {
  std::lock_guard<std::mutex> lock(mutex_);
  return num_open_;
}

}  // namespace vidload
