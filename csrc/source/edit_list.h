// edit_list: how many entries the edit lists of an mp4 or mov file claim, from its boxes, before libavformat spends time on them: it goes
// through all frames for each entry.
#pragma once

#include "source/byte_source.h"

namespace vidload {

// 0 where there are none, or where the boxes make no sense. Throws as the source's read().
int64_t count_edits(const ByteSource& source);

}  // namespace vidload
