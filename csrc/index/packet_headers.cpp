#include "index/packet_headers.h"

#include <algorithm>
#include <climits>
#include <new>

extern "C" {
#include <libavutil/crc.h>
}

#include "index/bit_reader.h"

namespace vidload {
namespace {

// H.264 D.1.8: the pictures from here on are right at once only if recovery_frame_cnt is 0.
bool has_immediate_recovery_point(const uint8_t* data, int size) {
  const std::vector<uint8_t> sei = unescaped(data, size);
  size_t at = 0;
  while (at + 2 <= sei.size() && sei[at] != 0x80) {
    int type = 0, length = 0;
    while (at < sei.size() && sei[at] == 0xFF) type += 255, ++at;
    if (at < sei.size()) type += sei[at++];
    while (at < sei.size() && sei[at] == 0xFF) length += 255, ++at;
    if (at < sei.size()) length += sei[at++];
    if (at + size_t(length) > sei.size()) return false;
    if (type == 6) return BitReader(sei.data() + at, length).uvlc() == 0;
    at += size_t(length);
  }
  return false;
}

// H.264 7.3.3: the type of a slice is its second number.
bool is_intra_slice(const uint8_t* data, int size) {
  const std::vector<uint8_t> slice = unescaped(data, std::min(size, 16));
  BitReader bits(slice.data(), int(slice.size()));
  bits.uvlc();  // first_mb_in_slice
  const uint32_t type = bits.uvlc() % 5;
  return type == 2 || type == 4;  // I, SI
}

// FFV1 (RFC 9043, 4.9): the slices fill the packet; each ends with its size, a status and a checksum, so they are found from the end.
bool has_right_slice_checksums(const uint8_t* data, int size) {
  constexpr int kFooter = 8;  // size 3, status 1, checksum 4
  const AVCRC* const table = av_crc_get_table(AV_CRC_32_IEEE);
  int end = size;
  while (end > 0) {
    if (end < kFooter) return false;
    const uint8_t* const footer = data + end - kFooter;
    const int slice = (footer[0] << 16 | footer[1] << 8 | footer[2]) + kFooter;
    if (slice > end) return false;
    end -= slice;
    // Over slice and footer. Versions 3 and 4 begin with 0, later drafts of 4 with this value; either comes out again.
    constexpr uint32_t kDraftStart = 0x7A8C4079;
    if (av_crc(table, 0, data + end, size_t(slice)) != 0 && av_crc(table, kDraftStart, data + end, size_t(slice)) != kDraftStart)
      return false;
  }
  return size > 0;
}

}  // namespace

static OrderRule order_rule_of(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC: return OrderRule::order_count;
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
    case AV_CODEC_ID_MPEG4: return OrderRule::types;
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1: return OrderRule::as_coded;
    default: break;
  }
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(codec);
  const bool is_intra_only = descriptor && (descriptor->props & AV_CODEC_PROP_INTRA_ONLY) && !(descriptor->props & AV_CODEC_PROP_REORDER);
  return is_intra_only ? OrderRule::as_coded : OrderRule::unknown;
}

PacketHeaderReader::PacketHeaderReader(const AVCodecParameters& parameters, PacketBytes bytes)
    : codec_(parameters.codec_id), order_rule_(order_rule_of(parameters.codec_id)) {
  if (parameters.extradata_size > 0) extradata_.assign(parameters.extradata, parameters.extradata + parameters.extradata_size);
  const uint8_t* extradata = parameters.extradata;
  const int size = parameters.extradata_size;
  if (codec_ == AV_CODEC_ID_H264 && size >= 7 && extradata[0] == 1) nal_length_size_ = (extradata[4] & 3) + 1;
  // hvcC begins with 1; some old muxers wrote 0, and Annex B extradata begins 00 00 01 or 00 00 00 01.
  if (codec_ == AV_CODEC_ID_HEVC && size >= 23 && (extradata[0] || extradata[1] || extradata[2] > 1)) {
    nal_length_size_ = (extradata[21] & 3) + 1;
  }
  if (codec_ == AV_CODEC_ID_AV1 && size > 4 && extradata[0] == 0x81) read_av1(extradata + 4, size - 4);
  if (codec_ == AV_CODEC_ID_MPEG4) read_mpeg4(extradata, size);  // its sequence is the one in force
  if (codec_ == AV_CODEC_ID_H264 && nal_length_size_ > 0 && bytes == PacketBytes::heads) counter_ = H264OrderCounter::of(extradata_);
  if (order_rule_ == OrderRule::order_count && !counter_) {
    parser_.reset(av_parser_init(codec_));
    context_.reset(avcodec_alloc_context3(nullptr));
    if (!context_) throw std::bad_alloc();
    if (avcodec_parameters_to_context(context_.get(), &parameters) < 0) throw std::bad_alloc();
    if (parser_) parser_->flags |= PARSER_FLAG_COMPLETE_FRAMES;
  }
}

PacketFacts PacketHeaderReader::read(const uint8_t* data, int size) {
  PacketFacts facts;
  switch (codec_) {
    case AV_CODEC_ID_H264: facts = read_h264(data, size); break;
    case AV_CODEC_ID_HEVC: facts = read_hevc(data, size); break;
    case AV_CODEC_ID_VP8: facts = read_vp8(data, size); break;
    case AV_CODEC_ID_VP9: facts = read_vp9(data, size); break;
    case AV_CODEC_ID_AV1: facts = read_av1(data, size); break;
    case AV_CODEC_ID_MPEG4: facts = read_mpeg4(data, size); break;
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO: facts = read_mpeg12(data, size); break;
    case AV_CODEC_ID_MJPEG: facts = read_mjpeg(data, size); break;
    case AV_CODEC_ID_FFV1: facts.has_right_checksum = has_right_slice_checksums(data, size); break;
    default: facts.is_keyframe = facts.is_clean_start = order_rule_ == OrderRule::as_coded;  // stands alone
  }
  if (order_rule_ == OrderRule::order_count) read_order_count(data, size, facts);
  ++num_packets_;
  return facts;
}

// See Note [Headers in packets].
bool PacketHeaderReader::note_header(const uint8_t* data, int size) {
  while (size > 0 && data[size - 1] == 0) --size;  // fill bytes
  const bool is_known = std::search(extradata_.begin(), extradata_.end(), data, data + size) != extradata_.end();
  if (!is_known) {
    inband_headers_ = InbandHeaders::differing;
    is_differing_in_force_ = true;
  }
  return is_known;
}

// MPEG-1, 2 and 4: where the sequence changes, libavcodec begins anew, and loses or repeats the picture that it held back.
void PacketHeaderReader::note_sequence(std::vector<uint8_t> sequence, PacketFacts& facts) {
  while (!sequence.empty() && sequence.back() == 0) sequence.pop_back();  // fill bytes
  if (num_packets_ > 0 && sequence != sequence_) facts.is_one_frame = false;
  sequence_ = std::move(sequence);
}

// libavcodec's parser follows the picture order count (H.264 8.2.1, H.265 8.3.1) from slice header to slice header.
void PacketHeaderReader::read_order_count(const uint8_t* data, int size, PacketFacts& facts) {
  if (!parser_) return;
  constexpr int kUntouched = INT_MIN;
  parser_->output_picture_number = kUntouched;
  uint8_t* out = nullptr;
  int out_size = 0;
  av_parser_parse2(parser_.get(), context_.get(), &out, &out_size, data, size, AV_NOPTS_VALUE, AV_NOPTS_VALUE, -1);
  if (parser_->output_picture_number != kUntouched) facts.order_count = parser_->output_picture_number;
  const AVPictureStructure structure = AVPictureStructure(parser_->picture_structure);
  const bool is_field = structure == AV_PICTURE_STRUCTURE_TOP_FIELD || structure == AV_PICTURE_STRUCTURE_BOTTOM_FIELD;
  if (is_field && codec_ == AV_CODEC_ID_H264 && facts.num_fields != 2) facts.is_one_frame = false;
}

template <typename Visit>
void PacketHeaderReader::for_each_nal(const uint8_t* data, int size, Visit visit) const {
  const uint8_t* const end = data + size;
  if (nal_length_size_ > 0) {
    while (end - data > nal_length_size_) {
      uint32_t length = 0;
      for (int i = 0; i < nal_length_size_; ++i) length = length << 8 | *data++;
      const int clipped = int(std::min<int64_t>(length, end - data));
      visit(data, clipped);
      data += clipped;
    }
    return;
  }
  const auto next_start_code = [end](const uint8_t* at) {
    for (; end - at >= 3; ++at) {
      if (at[0] == 0 && at[1] == 0 && at[2] == 1) return at;
    }
    return end;
  };
  const uint8_t* at = next_start_code(data);
  while (at < end) {
    const uint8_t* next = next_start_code(at + 3);
    visit(at + 3, int(next - at - 3));
    at = next;
  }
}

PacketFacts PacketHeaderReader::read_h264(const uint8_t* data, int size) {
  PacketFacts facts;
  bool has_picture = false, is_reference = false, is_idr = false, recovers = false, is_intra = true;
  int num_known = 0, num_sps = 0, num_pps = 0;
  for_each_nal(data, size, [&](const uint8_t* nal, int length) {
    if (length < 2) return;
    const int type = nal[0] & 31;
    if (type == 1 || type == 2 || type == 5) {  // coded slices; 2 is data partition A
      if (!has_picture && counter_) facts.order_count = counter_->read(nal, length);
      has_picture = true;
      facts.num_fields += nal[1] >> 7;         // first_mb_in_slice, ue(v), is 0
      is_reference |= (nal[0] >> 5 & 3) != 0;  // nal_ref_idc, H.264 7.4.1
      is_idr |= type == 5;
      if (recovers) is_intra &= is_intra_slice(nal + 1, length - 1);
    } else if (type == 6) {
      recovers |= has_immediate_recovery_point(nal + 1, length - 1);
    } else if (type == 7 || type == 8) {
      num_sps += type == 7, num_pps += type == 8;
      num_known += note_header(nal, length);
    }
  });
  const bool is_complete = num_sps > 0 && num_pps > 0;
  if (is_complete && num_known == num_sps + num_pps) is_differing_in_force_ = false;
  facts.is_reference = is_reference || !has_picture;
  facts.is_keyframe = (is_idr || (recovers && is_reference && is_intra)) && (is_complete || !is_differing_in_force_);
  facts.is_clean_start = facts.resets_order = is_idr;
  facts.is_one_frame = has_picture;
  return facts;
}

PacketFacts PacketHeaderReader::read_hevc(const uint8_t* data, int size) {
  PacketFacts facts;
  bool has_picture = false, is_reference = false, drops_waiting = false;
  int num_known = 0, num_sets[3] = {};  // VPS, SPS, PPS
  for_each_nal(data, size, [&](const uint8_t* nal, int length) {
    if (length < 2) return;
    const int type = nal[0] >> 1 & 63;
    const int layer = (nal[0] & 1) << 5 | nal[1] >> 3;
    facts.ends_sequence |= type == 36 || type == 37;
    if (type >= 32 && type <= 34 && layer == 0) {
      ++num_sets[type - 32];
      num_known += note_header(nal, length);
    }
    if (type >= 32 || layer != 0) return;
    if (type >= 16 && type <= 20 && length > 2) drops_waiting |= (nal[2] & 0x40) != 0;  // no_output_of_prior_pics_flag, 7.3.6.1
    has_picture = true;
    // H.265 table 7-1: types 0..14 that are even are pictures no other picture of the same temporal layer refers to.
    is_reference |= type >= 16 || type % 2 == 1;
    facts.is_keyframe |= type >= 16 && type <= 21;   // BLA, IDR, CRA
    facts.resets_order |= type >= 16 && type <= 20;  // BLA, IDR
    facts.is_skipped_leading |= type == 8 || type == 9;
    facts.temporal_layer = std::max((nal[1] & 7) - 1, 0);  // 0 there is forbidden
  });
  facts.is_reference = is_reference || !has_picture;
  const bool is_complete = num_sets[1] > 0 && num_sets[2] > 0;
  if (is_complete && num_known == num_sets[0] + num_sets[1] + num_sets[2]) is_differing_in_force_ = false;
  facts.is_clean_start = facts.is_keyframe;
  facts.is_keyframe &= is_complete || !is_differing_in_force_;
  facts.is_one_frame = has_picture && !(drops_waiting && num_packets_ > 0);  // which pictures wait then, only a decode tells
  return facts;
}

PacketFacts PacketHeaderReader::read_vp8(const uint8_t* data, int size) const {
  PacketFacts facts;
  if (size < 3) return facts;
  facts.is_keyframe = facts.is_clean_start = !(data[0] & 1);  // RFC 6386 9.1
  facts.is_shown = data[0] >> 4 & 1;
  return facts;
}

PacketFacts PacketHeaderReader::read_vp9(const uint8_t* data, int size) const {
  PacketFacts facts;
  if (size < 1) return facts;
  // A superframe (VP9 annex B) holds hidden frames before the shown one: only a single frame is judged.
  const int marker = data[size - 1];
  if ((marker & 0xE0) == 0xC0) {
    const int index_size = 2 + ((marker >> 3 & 3) + 1) * ((marker & 7) + 1);
    if (size >= index_size && data[size - index_size] == marker) {
      facts.is_keyframe = facts.is_clean_start = read_vp9(data, std::min(size - index_size, 16)).is_keyframe;
      const int size_bytes = (marker >> 3 & 3) + 1, num_frames = (marker & 7) + 1;
      int num_shown = 0;
      for (int64_t i = 0, at = 0; i < num_frames; ++i) {
        int64_t length = 0;
        for (int byte = 0; byte < size_bytes; ++byte) {
          length |= int64_t{data[size - index_size + 1 + i * size_bytes + byte]} << (8 * byte);
        }
        if (length <= 0 || at + length > size - index_size) break;
        // One byte of a frame cannot be taken for an index: an index has two more.
        num_shown += read_vp9(data + at, int(std::min<int64_t>(length, 2))).is_shown;
        at += length;
      }
      facts.is_one_frame = num_shown == 1;
      return facts;
    }
  }
  BitReader bits(data, size);
  if (bits.bits(2) != 2) return facts;
  int profile = int(bits.bits(1));
  profile |= int(bits.bits(1)) << 1;
  if (profile == 3) bits.bits(1);
  if (bits.flag()) return facts;  // show_existing_frame
  facts.is_keyframe = facts.is_clean_start = !bits.flag();
  facts.is_shown = bits.flag();
  // is_reference stays true even for a frame that refreshes no slot: the next frame may predict its motion vectors from this one, and
  // probabilities, loop filter deltas and the segmentation map carry over too (VP9 spec 6.1.2, 6.4.22, 7.2).
  return facts;
}

// MPEG-4 part 2, 6.2.5: after the start code B6 two bits of vop_coding_type: I, P, B, S. A picture that is not coded (vop_coded 0) holds
// nothing but its time; libavcodec gives no frame for it. Decoding can start at an I picture where the headers before it are known.
PacketFacts PacketHeaderReader::read_mpeg4(const uint8_t* data, int size) {
  constexpr int kLongestUncoded = 6;  // bytes of a picture that says only when it would be shown
  PacketFacts facts;
  int num_pictures = 0, type = 0;
  bool has_layer = !extradata_.empty() && !is_differing_in_force_, is_coded = true;
  const auto starts = [&](int at) { return at + 3 < size && data[at] == 0 && data[at + 1] == 0 && data[at + 2] == 1; };
  for (int i = 0; i + 4 < size; ++i) {
    if (!starts(i)) continue;
    if (data[i + 3] >= 0x20 && data[i + 3] <= 0x2F && num_pictures == 0) {  // video_object_layer_start_code
      int end = i + 4;
      while (end < size && !starts(end)) ++end;
      if (note_header(data + i, end - i)) is_differing_in_force_ = false;
      has_layer = true;
      read_mpeg4_layer(data + i + 4, end - i - 4);
      note_sequence({data + i + 4, data + end}, facts);
    }
    if (data[i + 3] == 0xB6 && num_pictures++ == 0) {
      type = data[i + 4] >> 6;
      is_coded = size - i - 4 > kLongestUncoded;
      if (time_increment_bits_ > 0) {
        BitReader bits(data + i + 4, size - i - 4);
        bits.bits(2);
        while (bits.flag()) {  // modulo_time_base
        }
        bits.bits(1 + time_increment_bits_ + 1);
        is_coded = bits.flag();
      }
    }
  }
  facts.is_one_frame &= num_pictures == 1 && is_coded && !(type == 2 && is_low_delay_);
  facts.is_keyframe = facts.is_clean_start = num_pictures > 0 && type == 0 && has_layer;
  facts.is_b = type == 2;
  facts.is_reference = num_pictures != 1 || type != 2;
  return facts;
}

// ISO 13818-2, 6.2.3: after the start code 00 ten bits of temporal_reference and three of picture_coding_type (1: I, 3: B). A picture
// may come as two fields. Decoding can start at an I picture that a sequence header precedes: quantizer matrices are anyone's guess else.
PacketFacts PacketHeaderReader::read_mpeg12(const uint8_t* data, int size) {
  PacketFacts facts;
  int num_pictures = 0, first_type = 0, last_structure = 3;
  bool has_sequence = false, is_reference = false;
  std::vector<uint8_t> sequence;
  for (int i = 0; i + 5 < size; ++i) {
    if (data[i] != 0 || data[i + 1] != 0 || data[i + 2] != 1) continue;
    if (data[i + 3] == 0xB3 && num_pictures == 0 && i + 7 < size) {
      has_sequence = true;
      is_low_delay_ = false;
      sequence.assign(data + i + 4, data + i + 8);  // size, aspect ratio, frame rate
    }
    if (data[i + 3] == 0xB5 && data[i + 4] >> 4 == 1 && has_sequence && i + 9 < size) {  // sequence extension, 6.2.2.3
      is_low_delay_ = data[i + 9] >> 7;
      sequence.push_back(data[i + 5] & 0x0F);  // progressive, chroma, more of the size
      sequence.push_back(data[i + 6] & 0xE0);
    }
    if (data[i + 3] == 0xB5 && data[i + 4] >> 4 == 8 && i + 6 < size) last_structure = data[i + 6] & 3;  // picture coding extension
    if (data[i + 3] == 0) {
      const int type = data[i + 5] >> 3 & 7;
      if (num_pictures++ == 0) first_type = type;
      is_reference |= type != 3;
    }
  }
  const bool is_field = last_structure == 1 || last_structure == 2;
  if (!sequence.empty()) note_sequence(std::move(sequence), facts);
  facts.is_one_frame &= num_pictures == (is_field ? 2 : 1) && !(first_type == 3 && is_low_delay_);
  facts.is_keyframe = facts.is_clean_start = num_pictures > 0 && first_type == 1 && has_sequence;
  facts.is_b = first_type == 3;
  facts.is_reference = is_reference || num_pictures == 0;
  return facts;
}

// A JPEG stands alone unless it leaves out its quantization tables (ITU T.81 B.2.4.1), as streams of "abbreviated format" do; lossless
// ones have none. Without Huffman tables (B.2.4.2) it means those of annex K, or others that came before.
PacketFacts PacketHeaderReader::read_mjpeg(const uint8_t* data, int size) {
  PacketFacts facts;
  int at = 2;
  bool has_huffman = false;
  while (at + 4 <= size && data[at] == 0xFF) {
    const int marker = data[at + 1];
    if (marker == 0xFF) {  // a fill byte
      ++at;
      continue;
    }
    if (marker == 0xDA) break;                                                              // start of scan
    if (marker == 0xDB || marker == 0xC3) facts.is_keyframe = facts.is_clean_start = true;  // quantization tables; lossless
    has_huffman |= marker == 0xC4;
    at += 2 + (data[at + 2] << 8 | data[at + 3]);
  }
  const InbandHeaders here = has_huffman ? InbandHeaders::complete : InbandHeaders::none;
  if (num_packets_ == 0) inband_headers_ = here;
  if (inband_headers_ != here) inband_headers_ = InbandHeaders::differing;
  facts.is_keyframe &= has_huffman || inband_headers_ != InbandHeaders::differing;
  return facts;
}

// AV1 spec 5.5.
void PacketHeaderReader::read_av1_sequence(const uint8_t* data, int size) {
  BitReader bits(data, size);
  Av1Sequence sequence;
  bits.bits(3);  // seq_profile
  bits.bits(1);  // still_picture
  sequence.reduced_still_picture = bits.flag();
  if (sequence.reduced_still_picture) {
    bits.bits(5);
    sequence.operating_points.push_back({0, false});
  } else {
    int delay_bits = 0;
    if (bits.flag()) {  // timing_info_present_flag
      bits.bits(32);
      bits.bits(32);
      sequence.equal_picture_interval = bits.flag();
      if (sequence.equal_picture_interval) bits.uvlc();
      sequence.decoder_model_info = bits.flag();
      if (sequence.decoder_model_info) {
        delay_bits = int(bits.bits(5)) + 1;
        bits.bits(32);
        sequence.buffer_removal_bits = int(bits.bits(5)) + 1;
        bits.bits(5);
      }
    }
    const bool initial_display_delay = bits.flag();
    const int num_points = int(bits.bits(5)) + 1;
    for (int i = 0; i < num_points; ++i) {
      const int idc = int(bits.bits(12));
      if (bits.bits(5) > 7) bits.bits(1);
      bool has_model = false;
      if (sequence.decoder_model_info) {
        has_model = bits.flag();
        if (has_model) bits.bits(delay_bits), bits.bits(delay_bits), bits.bits(1);
      }
      if (initial_display_delay && bits.flag()) bits.bits(4);
      sequence.operating_points.push_back({idc, has_model});
    }
  }
  const int width_bits = int(bits.bits(4)) + 1, height_bits = int(bits.bits(4)) + 1;
  bits.bits(width_bits);
  bits.bits(height_bits);
  if (!sequence.reduced_still_picture) sequence.frame_ids = bits.flag();
  if (sequence.frame_ids) {
    sequence.delta_frame_id_bits = int(bits.bits(4)) + 2;
    sequence.frame_id_bits = int(bits.bits(3)) + sequence.delta_frame_id_bits + 1;
  }
  bits.bits(3);  // 128x128 superblocks, filter intra, intra edge filter
  if (!sequence.reduced_still_picture) {
    bits.bits(4);  // interintra, masked compound, warped motion, dual filter
    const bool order_hints = bits.flag();
    if (order_hints) bits.bits(2);
    sequence.screen_content_tools = bits.flag() ? 2 : int(bits.bits(1));
    if (sequence.screen_content_tools > 0) sequence.integer_mv = bits.flag() ? 2 : int(bits.bits(1));
    if (order_hints) sequence.order_hint_bits = int(bits.bits(3)) + 1;
  }
  sequence.known = !bits.is_past_end();
  av1_ = sequence;
}

// AV1 spec 5.3 (units) and 5.9.2 (the frame header as far as refresh_frame_flags). A packet may be left out when no frame in it
// refreshes a reference slot. (Probabilities are saved with the slot, so nothing else survives such a frame.)
PacketFacts PacketHeaderReader::read_av1(const uint8_t* data, int size) {
  PacketFacts facts;
  const uint8_t* const end = data + size;
  // Sequence headers come with each keyframe. One that leaves its own out after others brought theirs is
  // none: which of them holds nobody says.
  bool refreshes = false, understood = true, has_sequence = !extradata_.empty() && !is_differing_in_force_;
  int num_frames = 0, num_shown = 0;
  while (data < end && understood) {
    const int type = data[0] >> 3 & 15;
    const bool has_extension = data[0] & 4, has_size = data[0] & 2;
    ++data;
    int temporal_id = 0, spatial_id = 0;
    if (has_extension && data < end) {
      temporal_id = data[0] >> 5;
      spatial_id = data[0] >> 3 & 3;
      ++data;
    }
    uint64_t length = uint64_t(end - data);
    if (has_size) {
      length = 0;
      for (int i = 0; i < 8 && data < end; ++i) {
        const uint8_t byte = *data++;
        length |= uint64_t(byte & 127) << (7 * i);
        if (!(byte & 128)) break;
      }
    }
    if (length > uint64_t(end - data)) length = uint64_t(end - data);
    if (type == 1) {
      read_av1_sequence(data, int(length));
      is_differing_in_force_ = num_packets_ > 0;
      has_sequence = true;
    }
    if (type == 3 || type == 6) {  // frame header, frame
      ++num_frames;
      if (av1_.known && av1_.reduced_still_picture) facts.is_keyframe = facts.is_clean_start = has_sequence;
      if (!av1_.known || av1_.reduced_still_picture) return facts;
      BitReader bits(data, int(std::min<uint64_t>(length, 64)));
      if (bits.flag()) {  // show_existing_frame; a shown keyframe refreshes every slot, and which it is only the decoder knows
        understood = false;
        ++num_shown;
        break;
      }
      const int frame_type = int(bits.bits(2));
      const bool is_shown = bits.flag();
      num_shown += is_shown;
      if (is_shown && av1_.decoder_model_info && !av1_.equal_picture_interval) understood = false;  // temporal_point_info
      if (!is_shown) bits.bits(1);                                                                  // showable_frame
      const bool is_switch = frame_type == 3, is_shown_key = frame_type == 0 && is_shown;
      if (num_frames == 1 && is_shown_key) facts.is_keyframe = facts.is_clean_start = has_sequence;
      const bool error_resilient = is_switch || is_shown_key ? true : bits.flag();
      bits.bits(1);  // disable_cdf_update
      const bool screen_content = av1_.screen_content_tools == 2 ? bits.flag() : av1_.screen_content_tools == 1;
      if (screen_content && av1_.integer_mv == 2) bits.bits(1);
      if (av1_.frame_ids) bits.bits(av1_.frame_id_bits);
      if (!is_switch) bits.bits(1);  // frame_size_override_flag
      bits.bits(av1_.order_hint_bits);
      const bool is_intra = frame_type == 0 || frame_type == 2;
      if (!is_intra && !error_resilient) bits.bits(3);  // primary_ref_frame
      if (av1_.decoder_model_info && bits.flag()) {     // buffer_removal_time_present_flag
        for (const auto& point : av1_.operating_points) {
          if (!point.has_decoder_model) continue;
          const bool in_temporal = point.idc >> temporal_id & 1, in_spatial = point.idc >> (spatial_id + 8) & 1;
          if (point.idc == 0 || (in_temporal && in_spatial)) bits.bits(av1_.buffer_removal_bits);
        }
      }
      refreshes |= is_switch || is_shown_key || bits.bits(8) != 0;
      understood &= !bits.is_past_end();
    }
    data += length;
  }
  facts.is_reference = refreshes || !understood || num_frames == 0;
  if (understood) facts.is_shown = num_shown > 0, facts.is_one_frame = num_shown <= 1;
  return facts;
}

// MPEG-4 part 2, 6.2.3, behind the start code.
void PacketHeaderReader::read_mpeg4_layer(const uint8_t* data, int size) {
  BitReader bits(data, size);
  bits.bits(1 + 8);  // random_accessible_vol, video_object_type_indication
  int version = 1;
  if (bits.flag()) version = int(bits.bits(4)), bits.bits(3);
  if (bits.bits(4) == 15) bits.bits(16);  // aspect ratio
  is_low_delay_ = true;                   // libavcodec assumes so until a B picture comes, and then shows one picture twice
  if (bits.flag()) {                      // vol_control_parameters
    bits.bits(2);
    is_low_delay_ = bits.flag();
    if (bits.flag()) bits.bits(32), bits.bits(32), bits.bits(15);  // vbv_parameters
  }
  const uint32_t shape = bits.bits(2);
  if (shape == 3 && version != 1) bits.bits(4);
  bits.bits(1);
  const uint32_t resolution = bits.bits(16);
  time_increment_bits_ = 1;
  while (resolution > 0 && (resolution - 1) >> time_increment_bits_) ++time_increment_bits_;
  if (resolution == 0 || bits.is_past_end()) time_increment_bits_ = 0;
}

// Note [Headers in packets]
// Parameter sets, layers and sequences may stand in packets too, and a decoder keeps those it saw last, beyond a flush. Where they repeat
// the container's, nothing comes of it. Where they differ (recordings that were joined without encoding them again), a keyframe that does
// not bring its own needs those that came before it, so it is none; and a decoder that has seen them gives wrong pictures of any other
// place, or of another file with the same extradata, so it is not used again.

}  // namespace vidload
