// nvdec_decoders: the NVDEC decoders of each GPU, shared by all loaders and readers of the process.
#pragma once

#include "decode/hardware_decoders.h"
#include "device/device.h"

namespace vidload {

// Those of a GPU. check() and decoders().take() are called under the device's CurrentContext. They live until the process ends.
HardwareDecoders& nvdec_decoders(const CudaDevice& device);

}  // namespace vidload
