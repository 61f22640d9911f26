// container_stream: what a container states of its video stream.
#pragma once

#include "index/stream_info.h"
#include "source/container.h"

namespace vidload {

StreamInfo stream_info(const Container& container);

// Frames per second by the container's word; 0 where it has none.
Rational stated_fps(const Container& container);

}  // namespace vidload
