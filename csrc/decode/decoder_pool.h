// decoder_pool: open decoders kept for reuse, found again by the stream they fit. Opening one costs as much as decoding a few pictures
// (software) or many clips (NVDEC), and files of a prepared dataset share their headers. A loading thread has a pool of its own of
// software decoders; the decoders of a GPU are one pool for the whole process.
#pragma once

#include <climits>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "decode/decoder.h"

namespace vidload {

class DecoderPool {
 public:
  // Opens a decoder for a stream of the file `path`, or throws.
  using Open = std::function<std::unique_ptr<Decoder>(const StreamInfo& stream, const std::string& path)>;
  struct Bounds {
    int num_decoders;                // open at the same time, idle or in use
    int64_t num_pixels = INT64_MAX;  // of one picture of each: idle ones beyond it are closed when one is opened
    int num_in_use = INT_MAX;        // at the same time; who wants one more waits
  };
  DecoderPool(Open open, Bounds bounds);

  // Exclusive use of a decoder. It is closed with the lease, since after an error nobody knows what state it is in, unless it was given
  // back before.
  class Lease {
   public:
    Lease(DecoderPool& pool, std::unique_ptr<Decoder> decoder, bool is_new);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    Decoder* operator->() const { return decoder_.get(); }
    bool is_new() const { return is_new_; }
    void give_back();

   private:
    DecoderPool& pool_;
    std::unique_ptr<Decoder> decoder_;
    bool is_new_;
  };
  // A decoder that fits: the idle one used last, else a new one, for which the idle one used longest ago may be closed. Where that one was
  // in use of late and one that fits is in use now, waits for the latter instead: videos of several kinds in turn would else close each
  // other's decoders. Throws as Open.
  Lease take(const StreamInfo& stream, const std::string& path);

  void set_max_decoders(int count);  // open, and in use
  int num_decoders();

 private:
  struct Idle {
    std::unique_ptr<Decoder> decoder;
    int64_t num_taken;  // when it was given back
  };
  bool is_worth_waiting(const StreamInfo& stream) const;
  void forget(std::unique_ptr<Decoder> decoder);
  void close_surplus_pixels(int64_t num_pixels);

  const Open open_;
  std::mutex mutex_;
  std::condition_variable returned_;
  Bounds bounds_;
  std::list<Idle> idle_;  // the one used last comes first
  std::vector<const Decoder*> in_use_;
  int num_open_ = 0;       // and being opened
  int64_t num_taken_ = 0;  // since ever
};

}  // namespace vidload
