// The data of a CPU kernel, in plain pointers. It holds no code, because all variants of the kernels include it.
//
// A "row" is one head of one query: an index into [B, Q, H].
#pragma once

#include <cstdint>

#include "sizes.h"

namespace mask2former {

constexpr int64_t ROWS = 16;  // rows that are planned together: as many numbers as the widest vector of float32 holds

// Half formats as stored in memory.
struct Float16Bits {
  uint16_t bits;
};
struct BFloat16Bits {
  uint16_t bits;
};

// Locations and weights are given. All tensors are contiguous. The forward kernel uses `output`, the backward kernel
// the gradients.
template <typename T>
struct ClassicJob {
  using Number = T;  // type of computation
  using Raw = T;     // type of the tensors of the size of the queries
  Sizes sizes;
  const Level* levels;
  const T* value;                  // [B, S, H, C]
  const T* locations;              // [B, Q, H, L, P, 2]
  const T* weights;                // [B, Q, H, L, P]
  T* output = nullptr;             // [B, Q, H, C]
  const T* grad_output = nullptr;  // [B, Q, H, C]
  T* grad_value = nullptr;         // zeros at first
  T* grad_locations = nullptr;
  T* grad_weights = nullptr;
};

// Locations and weights are computed from the outputs of linear layers, which may have a half format R.
template <typename T, typename R>
struct FusedJob {
  using Number = T;
  using Raw = R;
  Sizes sizes;
  const Level* levels;
  const T* value;                  // [B, S, H, C]
  const T* references;             // [B, Q, L, 2], with any strides
  ReferenceStrides reference_strides;
  const R* offsets;                // [B, Q, H, L, P, 2]
  const R* logits;                 // [B, Q, H, L, P]
  R* output = nullptr;             // [B, Q, H, C]
  const R* grad_output = nullptr;  // [B, Q, H, C]
  T* grad_value = nullptr;         // zeros at first
  R* grad_offsets = nullptr;
  R* grad_logits = nullptr;
  T* grad_weights = nullptr;       // [B, Q, H, L, P], by the backward kernel, for the softmax kernel; may be grad_logits
};

// `rows` rows: first, first + step and so on; and `levels` levels from first_level on.
struct Block {
  int64_t first, step, rows, first_level, levels;
};

// One thread's working memory, for `capacity` samples, row after row. Arrays of four corners hold corner after corner:
// entry [corner * capacity + sample].
template <typename T>
struct Scratch {
  int64_t capacity;
  int32_t *height, *width, *start;  // [capacity] the level of each sample
  T *column, *row;   // [capacity] where it lies, in pixels
  T* attention;      // [capacity]
  int32_t* index;    // [4, capacity] position of a corner, -1 outside the image
  T* weight;         // [4, capacity] bilinear weight times attention weight
  T *right, *bottom; // [capacity] see Corners
  T* dot;            // [capacity * 4, rounded up to 16 more] per sample and corner: <grad_output, value>
  T* partial;        // 16 times the dots of one row, not yet summed over vector lanes
  T* softmax;        // [L * P, ROWS] of the rows' logits
  T* channels;       // [C] of one row that is read or written in a half format
};

}  // namespace mask2former
