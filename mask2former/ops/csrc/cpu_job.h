// What a CPU kernel works on, in plain pointers. No code: this is seen by all variants of the kernels alike.
#pragma once

#include <cstdint>

#include "arguments.h"

namespace mask2former {

constexpr int64_t QUERY_BLOCK = 16;  // queries that the backward kernel plans together

// All tensors are contiguous. The forward kernel uses `output`; the backward kernel the gradients.
template <typename T>
struct Job {
  Sizes sizes;
  const Level* levels;
  const T* value;        // [B, S, H, C]
  const T* locations;    // [B, Q, H, L, P, 2]
  const T* weights;      // [B, Q, H, L, P]
  T* output = nullptr;             // [B, Q, H, C]
  const T* grad_output = nullptr;  // [B, Q, H, C]
  T* grad_value = nullptr;         // zeros at first
  T* grad_locations = nullptr;
  T* grad_weights = nullptr;
};

// One thread's working memory. `capacity` samples, corner after corner: entry [corner * capacity + sample].
template <typename T>
struct Scratch {
  int64_t capacity;
  int32_t* index;    // [4, capacity] position of a corner, -1 outside the picture
  T* weight;         // [4, capacity] bilinear weight times attention weight
  T* right;          // [capacity] see Corners
  T* bottom;         // [capacity]
  T* location;       // [capacity, 2]
  T* attention;      // [capacity]
  T* dot;            // [capacity * 4, rounded up to 16 more] per sample and corner: <grad_output, value>
  T* partial;        // 16 times the dots of one query: the same, not yet summed over vector lanes
  int32_t *height, *width, *start;  // [capacity] the level of each sample
};

}  // namespace mask2former
