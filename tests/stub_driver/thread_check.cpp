// thread_check VIDEO...: loads batches of the videos into the stub GPU's memory from several threads under random delays, by the CPU's
// decoders and by NVDEC, gives some batches up half-way, and compares the others with the CPU's batches. Built with ThreadSanitizer
// (tests/test_cuda_threads.py); no Python, so that its reports are about vidload alone.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "batch/batch.h"
#include "batch/video_sample.h"
#include "stub.h"

extern "C" {
void stub_set_lazy(int on);
void stub_set_delay_us(int most);
void stub_set_host_kernel(void* function);
void stub_read(void* to, CUdeviceptr from, size_t bytes, CUstream stream);
int stub_add_video(const char* path);
long stub_counter(const char* name);
}

using namespace vidload;

namespace {

constexpr int kClipLength = 3, kSize = 24, kRounds = 4;
constexpr size_t kSample = size_t{kClipLength} * 3 * kSize * kSize;

void host_kernel(const char*, const PictureDescriptor* descriptors, int count) { transform_on_host(descriptors, count, DType::uint8); }

DecodeRequest request_of(const Batch& batch, int round, uint8_t* out) {
  DecodeRequest request;
  TransformSpec spec = {};
  spec.height = spec.width = kSize;
  spec.dtype = DType::uint8;
  spec.antialias = true;
  for (const SampleInfo& info : batch.infos()) {
    DrawnSample sample;
    for (int t = 0; t < kClipLength; ++t) sample.frames.push_back((7 * round + 5 * t) % info.num_frames);
    sample.views.push_back({0, 1.5, 2.5, double(info.height) - 4, double(info.width) - 6, round % 2 == 1});
    request.push_back({sample, spec, kClipLength, out + request.size() * kSample, {0, 3 * kSize * kSize, kSize * kSize, kSize, 1}});
  }
  return request;
}

std::vector<std::unique_ptr<const Sample>> samples_of(const std::vector<std::string>& paths) {
  std::vector<std::unique_ptr<const Sample>> samples;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (const std::string& path : paths) samples.push_back(std::make_unique<VideoSample>(path, -1, StoredIndex{}, false));
  }
  return samples;
}

std::vector<uint8_t> load(const std::shared_ptr<LoaderPool>& pool, const std::vector<std::string>& paths, int round, bool on_gpu) {
  const size_t bytes = samples_of(paths).size() * kSample;
  std::vector<uint8_t> pixels(bytes);
  const CUdeviceptr memory = on_gpu ? stub::allocate(bytes) : 0;
  {
    Batch given_up(pool, samples_of(paths));
    given_up.wait(-1);
    given_up.decode(request_of(given_up, round + 1, on_gpu ? reinterpret_cast<uint8_t*>(memory) : pixels.data()));
  }
  Batch batch(pool, samples_of(paths)), ahead(pool, samples_of(paths));
  batch.wait(-1);
  batch.decode(request_of(batch, round, on_gpu ? reinterpret_cast<uint8_t*>(memory) : pixels.data()));
  batch.wait(-1);
  for (const auto& error : batch.errors()) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const VideoError& failure) {
      std::printf("%s\n", failure.what());
    }
  }
  if (on_gpu) {
    stub_read(pixels.data(), memory, bytes, nullptr);
    stub::release(memory);
  }
  return pixels;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths(argv + 1, argv + argc);
  stub_set_host_kernel(reinterpret_cast<void*>(&host_kernel));
  for (const std::string& path : paths) stub_add_video(path.c_str());
  int num_wrong = 0;
  const CudaDevice& device = CudaDevice::get(0);
  for (const Decoding decoding : {Decoding::software, Decoding::hardware}) {
    const auto plain = std::make_shared<LoaderPool>(4);
    const auto gpu =
        std::make_shared<LoaderPool>(4, &device, DecodePolicy{decoding, decoding == Decoding::hardware, hardware_decoders(&device)});
    stub_set_lazy(1);
    stub_set_delay_us(200);
    for (int round = 0; round < kRounds; ++round) {
      const auto expected = load(plain, paths, round, false);
      if (load(gpu, paths, round, true) != expected) ++num_wrong;
    }
  }
  std::printf("%d wrong batches, %ld pictures on the stub, %ld by its NVDEC\n", num_wrong, stub_counter("pictures_made"),
              stub_counter("pictures_decoded"));
  return num_wrong == 0 ? 0 : 1;
}
