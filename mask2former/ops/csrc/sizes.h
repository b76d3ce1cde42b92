// Sizes of the kernels' tensors, in plain numbers: what they need of their arguments, without PyTorch's headers.
#pragma once

#include <cstdint>

#include "bilinear.h"

namespace mask2former {

struct Level {
  int32_t height;
  int32_t width;
  int32_t start;  // index of its first position among the S ones
};

struct Sizes {
  int64_t batch, positions, heads, channels, queries, levels, points;

  MASK2FORMER_INLINE int64_t samples() const { return levels * points; }  // of one head of one query
};

// Steps from one batch, query, level and coordinate to the next; 0 along an axis that is broadcast.
struct ReferenceStrides {
  int64_t step[4];
};

}  // namespace mask2former
