// picture_of_frame: libavcodec's AVFrame, described as the transform wants it: planes, bit depth, siting, matrix, range, turned upright.
#pragma once

#include <string>

#include "index/packet_index.h"
#include "picture/picture.h"

namespace vidload {

// Borrows the frame's memory. Throws VideoError (naming `path`) for a pixel format or a color matrix the transform does not know.
PictureView picture_of_frame(const AVFrame& frame, const StreamInfo& stream, const std::string& path);

}  // namespace vidload
