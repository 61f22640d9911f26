#include "device/device_transform.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace vidload {
namespace {

constexpr size_t kMaxPicturesOfLaunch = 65535;  // CUDA's limit of a grid's z

size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// A plane as it lies in memory, whichever way it is walked: `num_rows` rows of `row_bytes`, the first at `data`.
struct Packing {
  const uint8_t* data;
  size_t num_rows, row_bytes, pitch;  // pitch: bytes from row to row once packed
  ptrdiff_t source_pitch;

  size_t bytes() const { return num_rows * pitch; }
};

Packing packing_of(const PlaneView& plane, int bytes_per_sample) {
  const ptrdiff_t row = plane.row_stride_bytes, column = plane.pixel_stride_bytes;
  // Turned by a quarter, what is called a row runs down the memory.
  const bool is_turned = std::abs(row) < std::abs(column);
  const int outer_count = is_turned ? plane.width : plane.height, inner_count = is_turned ? plane.height : plane.width;
  const ptrdiff_t outer = is_turned ? column : row, inner = is_turned ? row : column;
  const uint8_t* first = plane.data + std::min<ptrdiff_t>(0, outer * (outer_count - 1)) + std::min<ptrdiff_t>(0, inner * (inner_count - 1));
  const size_t row_bytes = size_t(std::abs(inner)) * size_t(inner_count - 1) + size_t(bytes_per_sample);
  return {first, size_t(outer_count), row_bytes, (row_bytes + 15) / 16 * 16, std::abs(outer)};
}

// A range of rows or columns.
struct Extent {
  int begin = 0, end = 0;

  // Takes in all that the taps of one axis look at.
  void add(const ResampleTaps& taps) {
    const auto [first, last] = std::minmax_element(taps.start.begin(), taps.start.begin() + taps.num_outputs);
    begin = end == 0 ? *first : std::min(begin, int(*first));
    end = std::max(end, *last + taps.num_taps);
  }
};

// The part of a plane within rows and columns.
PlaneView part_of(const PlaneView& plane, const Extent& rows, const Extent& columns) {
  PlaneView part = plane;
  part.data += rows.begin * plane.row_stride_bytes + columns.begin * plane.pixel_stride_bytes;
  part.height = rows.end - rows.begin, part.width = columns.end - columns.begin;
  return part;
}

// The plane that `part` is of, as far as it is there.
PlaneView whole_of(const PlaneView& part, const PlaneView& plane, const Extent& rows, const Extent& columns) {
  PlaneView whole = part;
  whole.data -= rows.begin * part.row_stride_bytes + columns.begin * part.pixel_stride_bytes;
  whole.height = plane.height, whole.width = plane.width;
  return whole;
}

// Copies the plane to `host` and gives the same view of the copy at `device`.
PlaneView pack(const PlaneView& plane, const Packing& packing, uint8_t* host, CUdeviceptr device) {
  for (size_t i = 0; i < packing.num_rows; ++i) {
    std::memcpy(host + i * packing.pitch, packing.data + ptrdiff_t(i) * packing.source_pitch, packing.row_bytes);
  }
  PlaneView packed = plane;
  const bool is_turned = std::abs(plane.row_stride_bytes) < std::abs(plane.pixel_stride_bytes);
  ptrdiff_t& outer = is_turned ? packed.pixel_stride_bytes : packed.row_stride_bytes;
  const ptrdiff_t inner = is_turned ? packed.row_stride_bytes : packed.pixel_stride_bytes;
  const int outer_count = is_turned ? plane.width : plane.height, inner_count = is_turned ? plane.height : plane.width;
  outer = outer < 0 ? -ptrdiff_t(packing.pitch) : ptrdiff_t(packing.pitch);
  packed.data = reinterpret_cast<const uint8_t*>(device) - std::min<ptrdiff_t>(0, outer * (outer_count - 1)) -
                std::min<ptrdiff_t>(0, inner * (inner_count - 1));
  return packed;
}

}  // namespace

DeviceTransform::DeviceTransform(const CudaDevice& device) : device_(device) {}

DeviceTransform::~DeviceTransform() { cuda_driver().synchronize_stream(stream_.get()); }

void DeviceTransformDeleter::operator()(DeviceTransform* transform) const {
  try {
    const CurrentContext current(transform->device());
    delete transform;
  } catch (const CudaError&) {
  }
}

UniqueDeviceTransform make_device_transform(const CudaDevice& device) { return UniqueDeviceTransform(new DeviceTransform(device)); }

void DeviceTransform::synchronize() { check_cuda(cuda_driver().synchronize_stream(stream_.get()), "wait for a stream"); }

int64_t DeviceTransform::run(const TransformSpec& spec, const PictureView& picture, PictureMemory memory,
                             const std::vector<DevicePlacement>& placements) {
  if (placements.empty()) return 0;
  if (!(spec == spec_) && !views_.empty()) {
    synchronize();  // the old tables may be in use
    views_.clear();
  }
  spec_ = spec;
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % kNumSlots;
  if (slot.is_used) slot.done.synchronize();

  // Lay the slot out: descriptors, the parts of the planes that the views look at, new tables.
  Extent rows[2 /* luma, chroma */], columns[2];
  for (const DevicePlacement& placement : placements) {
    while (views_.size() <= placement.view) views_.emplace_back(spec);
    View& view = views_[placement.view];
    if (view.plan.set(picture, placement.box)) view.is_new = true;  // also left so by a call that failed
    for (int kind = 0; kind < std::min(picture.num_planes, 2); ++kind) {
      rows[kind].add(view.plan.taps(kind).vertical);
      columns[kind].add(view.plan.taps(kind).horizontal);
    }
  }
  const size_t num_descriptor_bytes = placements.size() * sizeof(PictureDescriptor);
  size_t total = aligned(num_descriptor_bytes);
  PlaneView parts[3];
  Packing packings[3];
  size_t plane_offsets[3] = {};
  if (memory == PictureMemory::host) {
    for (int p = 0; p < picture.num_planes; ++p) {
      parts[p] = part_of(picture.planes[p], rows[p > 0], columns[p > 0]);
      packings[p] = packing_of(parts[p], picture.bytes_per_sample);
      plane_offsets[p] = total;
      total += aligned(packings[p].bytes());
    }
  }
  const size_t num_uploaded = memory == PictureMemory::host ? total : num_descriptor_bytes;
  int64_t num_bytes = int64_t(num_uploaded);
  for (View& view : views_) {
    if (!view.is_new) continue;
    if (tap_table_bytes(view.plan) > view.table.size()) {
      if (view.table.size() > 0) synchronize();  // the old one may be in use
      view.table.reserve(tap_table_bytes(view.plan));
    }
    view.table_offset = total;
    total += aligned(tap_table_bytes(view.plan));
    num_bytes += int64_t(tap_table_bytes(view.plan));
  }
  slot.host.reserve(total);
  slot.device.reserve(num_uploaded);

  PictureView source = picture;
  if (memory == PictureMemory::host) {
    for (int p = 0; p < picture.num_planes; ++p) {
      const PlaneView packed = pack(parts[p], packings[p], slot.host.get() + plane_offsets[p], slot.device.get() + plane_offsets[p]);
      source.planes[p] = whole_of(packed, picture.planes[p], rows[p > 0], columns[p > 0]);
    }
  }
  const CudaDriver& driver = cuda_driver();
  for (View& view : views_) {
    if (!view.is_new) continue;
    view.is_new = false;
    uint8_t* staged = slot.host.get() + view.table_offset;
    write_tap_table(view.plan, staged);
    check_cuda(driver.copy_to_device_async(view.table.get(), staged, tap_table_bytes(view.plan), stream_.get()), "upload filter taps");
  }
  auto* descriptors = reinterpret_cast<PictureDescriptor*>(slot.host.get());
  for (size_t i = 0; i < placements.size(); ++i) {
    const View& view = views_[placements[i].view];
    descriptors[i] = picture_descriptor(view.plan, source, placements[i].out, reinterpret_cast<const void*>(view.table.get()));
  }
  check_cuda(driver.copy_to_device_async(slot.device.get(), slot.host.get(), num_uploaded, stream_.get()), "upload a picture");
  for (size_t first = 0; first < placements.size(); first += kMaxPicturesOfLaunch) {
    launch(reinterpret_cast<const PictureDescriptor*>(slot.device.get()) + first, std::min(kMaxPicturesOfLaunch, placements.size() - first),
           spec);
  }
  slot.done.record(stream_.get());
  slot.is_used = true;
  return num_bytes;
}

void DeviceTransform::launch(const PictureDescriptor* descriptors, size_t count, const TransformSpec& spec) {
  void* parameters[] = {static_cast<void*>(&descriptors)};
  check_cuda(cuda_driver().launch_kernel(device_.kernel(spec.dtype), unsigned((spec.width + kBlockWidth - 1) / kBlockWidth),
                                         unsigned((spec.height + kBlockHeight - 1) / kBlockHeight), unsigned(count), kBlockWidth,
                                         kBlockHeight, 1, 0, stream_.get(), parameters, nullptr),
             "launch the transform's kernel");
}

}  // namespace vidload
