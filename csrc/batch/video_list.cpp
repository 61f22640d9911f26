#include "batch/video_list.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace vidload {

void VideoList::check() const {
  if (name_ends.size < 1) throw Error("a list of videos needs the ends of their names");
  for (const int64_t rows : {streams.size, entries.size, part_files.size}) {
    if (rows != 0 && rows != size()) throw Error("a column has " + std::to_string(rows) + " rows of " + std::to_string(size()) + " videos");
  }
  if (part_offsets.size != part_files.size || part_sizes.size != part_files.size || files_listed.size() != files.size())
    throw Error("the columns of parts differ in length");
}

SourceId VideoList::source(int64_t row) const {
  const int64_t begin = name_ends.data[row], end = name_ends.data[row + 1];
  if (begin < 0 || end < begin || end > name_bytes.size) throw Error("the name of video " + std::to_string(row) + " is not in the list");
  std::string name(name_bytes.data + begin, size_t(end - begin));
  if (part_sizes.size == 0 || part_sizes.data[row] < 0) return SourceId(std::move(name));
  const int64_t file = part_files.data[row];
  if (file < 0 || size_t(file) >= files.size() || part_offsets.data[row] < 0) throw Error(name + ": it is part of no file in the list");
  SourceId part(files[size_t(file)], part_offsets.data[row], part_sizes.data[row], std::move(name));
  part.listed = files_listed[size_t(file)];
  return part;
}

std::unique_ptr<const Sample> VideoList::sample(int64_t row, bool needs_whole_index) const {
  if (row < 0 || row >= size()) throw Error("row " + std::to_string(row) + " is not one of the dataset's videos");
  StoredIndex stored;
  if (entries.size > 0 && entries.data[row].size > 0 && index_file) {
    const StoredEntry& entry = entries.data[row];
    stored = {index_file, entry.offset, entry.size, entry.of_video};
  }
  const int64_t stream = streams.size > 0 ? streams.data[row] : -1;
  if (stream > std::numeric_limits<int>::max()) throw Error("stream " + std::to_string(stream) + " is not the number of a stream");
  return std::make_unique<VideoSample>(source(row), int(std::max<int64_t>(stream, -1)), std::move(stored), needs_whole_index);
}

}  // namespace vidload
