#include "index/frame_order.h"

#include <algorithm>
#include <numeric>
#include <queue>

#include "index/packet_index.h"

namespace vidload {
namespace {

std::vector<int32_t> shown_packets(const std::vector<PacketFacts>& facts) {
  std::vector<int32_t> shown;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (facts[i].is_shown) shown.push_back(int32_t(i));
  }
  return shown;
}

// Counts order the pictures of one sequence; a picture that resets them begins the next, which is shown after all of this one.
std::optional<std::vector<int32_t>> order_by_count(std::vector<PacketFacts>& facts) {
  bool is_leading_of_first = true;
  for (size_t i = 1; i < facts.size() && is_leading_of_first; ++i) {
    is_leading_of_first = !facts[i].is_keyframe;
    if (is_leading_of_first && facts[i].is_skipped_leading) facts[i].is_shown = false, facts[i].is_reference = false;
  }
  for (size_t i = 0; i < facts.size(); ++i) {
    if (facts[i].order_count == kNoOrderCount || (facts[i].ends_sequence && i + 1 < facts.size())) return std::nullopt;
    // Leading pictures of a mid-stream keyframe that resets counts (BLA) are skipped too; the decoder says which.
    if (i > 0 && facts[i].is_skipped_leading && facts[i].is_shown) {
      size_t key = i;
      while (key > 0 && !facts[key].is_keyframe) --key;
      if (facts[key].resets_order) return std::nullopt;
    }
  }
  std::vector<int32_t> order = shown_packets(facts);
  size_t begin = 0;
  while (begin < order.size()) {
    size_t end = begin + 1;
    while (end < order.size() && !facts[size_t(order[end])].resets_order) ++end;
    const auto count = [&](int32_t packet) { return facts[size_t(packet)].order_count; };
    const auto first = order.begin() + std::ptrdiff_t(begin), last = order.begin() + std::ptrdiff_t(end);
    std::sort(first, last, [&](int32_t a, int32_t b) { return count(a) < count(b); });
    if (std::adjacent_find(first, last, [&](int32_t a, int32_t b) { return count(a) == count(b); }) != last) return std::nullopt;
    begin = end;
  }
  return order;
}

// An I or P picture is shown when the next one comes; the B pictures between them at once.
std::optional<std::vector<int32_t>> order_by_types(const std::vector<PacketFacts>& facts) {
  std::vector<int32_t> order;
  int32_t held = -1;
  int num_anchors = 0;
  for (const int32_t packet : shown_packets(facts)) {
    if (facts[size_t(packet)].is_b) {
      if (num_anchors < 2) return std::nullopt;  // it was predicted from a picture that is not there
      order.push_back(packet);
    } else {
      if (held >= 0) order.push_back(held);
      held = packet;
      ++num_anchors;
    }
  }
  if (held >= 0) order.push_back(held);
  return order;
}

}  // namespace

std::optional<std::vector<int32_t>> coded_frame_order(OrderRule rule, std::vector<PacketFacts>& facts) {
  if (facts.empty() || !facts[0].is_clean_start) return std::nullopt;
  for (const PacketFacts& fact : facts) {
    if (!fact.is_one_frame) return std::nullopt;
  }
  switch (rule) {
    case OrderRule::as_coded: return shown_packets(facts);
    case OrderRule::order_count: return order_by_count(facts);
    case OrderRule::types: return order_by_types(facts);
    case OrderRule::unknown: break;
  }
  return std::nullopt;
}

std::vector<int32_t> order_by_time(const std::vector<int64_t>& times) {
  constexpr size_t kMostMoves = 32;  // per packet: streams are nearly in order
  std::vector<int32_t> order(times.size());
  std::iota(order.begin(), order.end(), 0);
  const auto time = [&](int32_t packet) { return times[size_t(packet)]; };
  size_t num_moves = 0;
  for (size_t i = 1; i < order.size(); ++i) {
    size_t at = i;
    for (; at > 0 && time(order[at - 1]) > time(int32_t(i)); --at, ++num_moves) order[at] = order[at - 1];
    order[at] = int32_t(i);
    if (num_moves <= kMostMoves * order.size()) continue;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return time(a) < time(b); });
    break;
  }
  return order;
}

std::vector<uint8_t> packet_flags(const std::vector<PacketFacts>& facts) {
  int top_layer = 0;
  for (const PacketFacts& fact : facts) top_layer = std::max(top_layer, fact.temporal_layer);
  std::vector<uint8_t> flags;
  for (const PacketFacts& fact : facts) {
    const bool is_droppable = !fact.is_reference && fact.temporal_layer == top_layer;
    flags.push_back(uint8_t((fact.is_keyframe ? kKeyframe : 0) | (fact.is_shown ? 0 : kHidden) | (is_droppable ? kDroppable : 0)));
  }
  return flags;
}

int reorder_depth(const std::vector<int32_t>& order, size_t num_packets) {
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<int64_t>> waiting;  // a decoder holding back as few as it can
  size_t next = 0;
  int depth = 0;
  std::vector<int64_t> rank(num_packets, -1);
  for (size_t frame = 0; frame < order.size(); ++frame) rank[size_t(order[frame])] = int64_t(frame);
  for (const int64_t frame : rank) {
    if (frame < 0) continue;
    waiting.push(frame);
    while (!waiting.empty() && waiting.top() == int64_t(next)) waiting.pop(), ++next;
    depth = std::max(depth, int(waiting.size()));
  }
  return std::min(depth, 16);
}

std::vector<int32_t> time_parts(const std::vector<int64_t>& dts) {
  std::vector<int32_t> part(dts.size());
  int32_t current = 0;
  int64_t last = AV_NOPTS_VALUE;
  for (size_t i = 0; i < dts.size(); ++i) {
    if (dts[i] != AV_NOPTS_VALUE) {
      if (last != AV_NOPTS_VALUE && dts[i] < last) ++current;
      last = dts[i];
    }
    part[i] = current;
  }
  return part;
}

std::vector<int64_t> rising_times(const std::vector<int64_t>& times, const std::vector<int32_t>& part, int64_t frame_ticks) {
  if (times.size() > 1 && std::all_of(times.begin(), times.end(), [&](int64_t time) { return time == times[0]; })) {
    std::vector<int64_t> rising(times.size());
    for (size_t i = 0; i < rising.size(); ++i) rising[i] = times[0] + int64_t(i) * frame_ticks;
    return rising;
  }
  // The times of each part in rising order, put where that part's frames are.
  const int32_t num_parts = part.empty() ? 0 : *std::max_element(part.begin(), part.end()) + 1;
  std::vector<std::vector<int64_t>> sorted(static_cast<size_t>(num_parts));
  for (size_t i = 0; i < times.size(); ++i) sorted[size_t(part[i])].push_back(times[i]);
  std::vector<int64_t> steps;
  for (auto& of_part : sorted) {
    std::sort(of_part.begin(), of_part.end());
    for (size_t i = 1; i < of_part.size(); ++i) {
      if (of_part[i] > of_part[i - 1]) steps.push_back(of_part[i] - of_part[i - 1]);
    }
  }
  int64_t step = frame_ticks;
  if (!steps.empty()) {
    std::nth_element(steps.begin(), steps.begin() + std::ptrdiff_t(steps.size() / 2), steps.end());
    step = steps[steps.size() / 2];
  }
  std::vector<size_t> next(sorted.size(), 0);
  std::vector<int64_t> moved(sorted.size(), 0), rising;
  rising.reserve(times.size());
  for (const int32_t of : part) {
    const auto p = size_t(of);
    const int64_t time = sorted[p][next[p]];
    if (next[p]++ == 0 && !rising.empty() && time <= rising.back()) moved[p] = rising.back() + step - time;
    const int64_t label = time + moved[p];
    rising.push_back(!rising.empty() && label <= rising.back() ? rising.back() + 1 : label);
  }
  return rising;
}

}  // namespace vidload
