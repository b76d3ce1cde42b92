// The kernels' arguments: the tensors' sizes, checked. Shared by the CPU and the CUDA library.
//
// Letters: B batch, S positions of all levels together, H heads, C channels of a head, Q queries, L levels, P points.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "bilinear.h"
#include "sizes.h"

namespace mask2former {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void append(std::string& text, const char* part) { text += part; }
inline void append(std::string& text, int64_t part) { text += std::to_string(part); }

// Throws what Python shows as a RuntimeError unless `holds`; the message is texts and integers. PyTorch's macro for this
// writes into a stream, and streams break where a compiler has put a second libstdc++ into this library.
template <typename... Parts>
inline void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::string message;
  (append(message, parts), ...);
  throw std::runtime_error(message);
}

// An operator's names for its [B, Q, heads, L, P, 2] and its [B, Q, heads, L, P] argument.
struct Names {
  const char *locations, *weights;
};
constexpr Names CLASSIC{"sampling_locations", "attention_weights"}, FUSED{"sampling_offsets", "attention_logits"};

// The Python functions check this with longer messages; here it keeps calls that bypass them from reading other memory.
inline Sizes checked_sizes(
    const Names& names,
    const Tensor& value,
    const std::vector<int64_t>& spatial_shapes,
    const Tensor& locations,
    const Tensor& weights) {
  check(value.dim() == 4, "ms_deform_attn: value has to be [B, S, heads, C], found ", value.dim(), " axes");
  check(
      locations.dim() == 6 && locations.size(5) == 2,
      "ms_deform_attn: ", names.locations, " has to be [B, Q, heads, L, P, 2]");
  check(weights.dim() == 5, "ms_deform_attn: ", names.weights, " has to be [B, Q, heads, L, P]");
  const Sizes n{
      value.size(0), value.size(1), value.size(2), value.size(3), locations.size(1), locations.size(3), locations.size(4)};
  check(
      locations.size(0) == n.batch && locations.size(2) == n.heads,
      "ms_deform_attn: ", names.locations, " and value differ in batch or heads");
  for (int64_t axis = 0; axis < 5; ++axis) {
    check(
        weights.size(axis) == locations.size(axis),
        "ms_deform_attn: ", names.weights, " and ", names.locations, " differ in axis ", axis);
  }
  check(
      static_cast<int64_t>(spatial_shapes.size()) == 2 * n.levels,
      "ms_deform_attn: spatial_shapes has to hold the height and width of ",
      n.levels,
      " levels");
  // In the kernels a position's index is an int32, with room for positions outside the image; offsets are 64-bit.
  check(n.positions < (int64_t{1} << 28), "ms_deform_attn: value has 2^28 positions or more");
  int64_t total = 0;
  for (int64_t level = 0; level < n.levels; ++level) {
    const int64_t height = spatial_shapes[2 * level], width = spatial_shapes[2 * level + 1];
    // With both at most S (and S below 2^28) neither their product nor the sum can overflow.
    check(
        height > 0 && width > 0 && height <= n.positions && width <= n.positions,
        "ms_deform_attn: spatial_shapes of level ",
        level,
        " does not fit value");
    total += height * width;
    check(total <= n.positions, "ms_deform_attn: spatial_shapes holds more positions than value");
  }
  check(
      total == n.positions,
      "ms_deform_attn: spatial_shapes adds up to ",
      total,
      " positions, value has ",
      n.positions);
  return n;
}

inline std::vector<Level> levels_of(const std::vector<int64_t>& spatial_shapes) {
  std::vector<Level> levels;
  int32_t start = 0;
  for (size_t i = 0; i + 1 < spatial_shapes.size(); i += 2) {
    const auto height = static_cast<int32_t>(spatial_shapes[i]), width = static_cast<int32_t>(spatial_shapes[i + 1]);
    levels.push_back({height, width, start});
    start += height * width;
  }
  return levels;
}

// Half formats are summed in float32; locations always have this type, since half formats are too coarse for them.
inline ScalarType accumulation_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_value_dtype(ScalarType type) {
  check(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
          type == ScalarType::BFloat16,
      "ms_deform_attn: value has to be float32, float64, float16 or bfloat16");
}

inline void check_dtypes(const Tensor& value, const Tensor& locations, const Tensor& weights) {
  const ScalarType type = value.scalar_type();
  check_value_dtype(type);
  check(weights.scalar_type() == type, "ms_deform_attn: attention_weights and value differ in dtype");
  check(
      locations.scalar_type() == accumulation_type(type),
      "ms_deform_attn: sampling_locations has to be float64 where value is, else float32");
}

inline void check_fused_dtypes(
    const Tensor& value, const Tensor& references, const Tensor& offsets, const Tensor& logits) {
  const ScalarType type = value.scalar_type();
  check_value_dtype(type);
  check(offsets.scalar_type() == type, "ms_deform_attn: sampling_offsets and value differ in dtype");
  check(logits.scalar_type() == type, "ms_deform_attn: attention_logits and value differ in dtype");
  check(
      references.scalar_type() == accumulation_type(type),
      "ms_deform_attn: reference_points has to be float64 where value is, else float32");
}

inline ReferenceStrides checked_references(const Tensor& references, const Sizes& n) {
  check(
      references.dim() == 4 && references.size(3) == 2,
      "ms_deform_attn: reference_points has to be broadcastable to [B, Q, L, 2]");
  const int64_t wanted[4] = {n.batch, n.queries, n.levels, 2};
  ReferenceStrides strides{};
  for (int64_t axis = 0; axis < 4; ++axis) {
    const int64_t size = references.size(axis);
    check(
        size == 1 || size == wanted[axis],
        "ms_deform_attn: reference_points has to be broadcastable to [B, Q, L, 2]; axis ", axis, " is ", size);
    strides.step[axis] = size == 1 ? 0 : references.stride(axis);
  }
  return strides;
}

inline void check_grad(const Tensor& grad_output, const Tensor& value, const Sizes& n) {
  check(
      grad_output.dim() == 3 && grad_output.size(0) == n.batch && grad_output.size(1) == n.queries &&
          grad_output.size(2) == n.heads * n.channels,
      "ms_deform_attn: grad_output has to be [B, Q, heads * C]");
  check(
      grad_output.scalar_type() == value.scalar_type(), "ms_deform_attn: grad_output and value differ in dtype");
}

}  // namespace mask2former
