// video_list: the videos of a dataset, column by column, from which a loader takes some for each batch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "batch/video_sample.h"

namespace vidload {

// Memory that somebody else owns.
template <typename T>
struct Column {
  const T* data = nullptr;
  int64_t size = 0;
};

// Each column has a row for each video, but where it says otherwise. All memory must outlive this.
struct VideoList {
  Column<int32_t> name_ends;  // one more than there are videos: name i is name_bytes[name_ends[i] .. name_ends[i + 1])
  Column<char> name_bytes;
  Column<int64_t> streams;  // number of the video stream, -1 for FFmpeg's choice; empty: that for all

  // Where an index file has an entry for a video, and of which state of the video it was made; a size of 0: there is none. Empty without
  // such a file.
  struct StoredEntry {
    int64_t offset, size;
    FileStamp of_video;
  };
  Column<StoredEntry> entries;
  std::shared_ptr<const ByteSource> index_file;

  // Of videos that are parts of files: the number of the file, and the part; a size of -1 is none. Empty where no video is.
  std::vector<std::string> files;
  std::vector<FileStamp> files_listed;  // when their parts were
  Column<int32_t> part_files;
  Column<int64_t> part_offsets, part_sizes;

  int64_t size() const { return name_ends.size - 1; }
  // Throws Error where the columns do not fit together.
  void check() const;
  // Throws Error where there is no such row, or it makes no sense.
  std::unique_ptr<const Sample> sample(int64_t row, bool needs_whole_index) const;

 private:
  SourceId source(int64_t row) const;
};

}  // namespace vidload
