// The samples of a row on CUDA: their positions and weights, given (Classic) or computed (Fused); sums within a group
// of lanes; and reads and writes of 16 or 8 bytes.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "arguments.h"

namespace mask2former {
namespace {

constexpr int WARP = 32;
constexpr int THREADS_PER_BLOCK = 256;
constexpr int MAX_LEVELS = 16;  // they are arguments of the launch, so that nothing is copied to the device before
constexpr unsigned ALL_LANES = 0xffffffffu;

struct Levels {
  Level level[MAX_LEVELS];
};

// Sums are float32 for half formats, float64 for float64.
template <typename T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

// Sum (largest) of a group's numbers, in all its lanes; always in the same order.
template <typename A>
__device__ __forceinline__ A group_sum(A x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
  return x;
}

template <typename A>
__device__ __forceinline__ A group_max(A x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(ALL_LANES, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

template <size_t BYTES>
struct PackOf;
template <>
struct PackOf<16> {
  using type = uint4;
};
template <>
struct PackOf<8> {
  using type = uint2;
};
template <int N, typename T>
using Pack = typename PackOf<N * sizeof(T)>::type;

// N neighbouring numbers: 16 or 8 bytes, or one number.
template <int N, typename T>
__device__ __forceinline__ void load(const T* from, Accumulator<T> (&to)[N]) {
  if constexpr (N == 1) {
    to[0] = static_cast<Accumulator<T>>(*from);
  } else {
    const Pack<N, T> raw = *reinterpret_cast<const Pack<N, T>*>(from);
    T numbers[N];
    memcpy(numbers, &raw, sizeof(raw));
    for (int i = 0; i < N; ++i) to[i] = static_cast<Accumulator<T>>(numbers[i]);
  }
}

template <int N, typename T>
__device__ __forceinline__ void store(T* to, const Accumulator<T> (&from)[N]) {
  if constexpr (N == 1) {
    *to = static_cast<T>(from[0]);
  } else {
    T numbers[N];
    for (int i = 0; i < N; ++i) numbers[i] = static_cast<T>(from[i]);
    Pack<N, T> raw;
    memcpy(&raw, numbers, sizeof(raw));
    *reinterpret_cast<Pack<N, T>*>(to) = raw;
  }
}

// A lane's part of one row.
struct Lane {
  int64_t row;
  int lane, lanes;
  bool active;  // whether there is such a row
};

template <typename A>
struct Sample {
  A x, y, weight;  // in pixels
  int level;
};

// Locations and weights are given.
template <typename T>
struct Classic {
  using Value = T;
  using A = Accumulator<T>;
  struct State {};

  const A* locations;
  const T* weights;
  A* grad_locations;
  T* grad_weights;

  __device__ State begin(const Sizes&, const Lane&) const { return {}; }

  __device__ Sample<A> sample(const Sizes& n, const Levels& levels, const Lane& at, const State&, int j) const {
    const int64_t i = at.row * n.samples() + j;
    const int l = j / static_cast<int>(n.points);
    const Level& level = levels.level[l];
    return {
        to_pixels(locations[2 * i], level.width), to_pixels(locations[2 * i + 1], level.height),
        static_cast<A>(weights[i]), l};
  }

  __device__ void keep(
      const Sizes& n, const Levels& levels, const Lane& at, State&, int j, const Sample<A>& sample, A grad_weight,
      A grad_x, A grad_y) const {
    const int64_t i = at.row * n.samples() + j;
    grad_weights[i] = static_cast<T>(grad_weight);
    grad_locations[2 * i] = sample.weight * static_cast<A>(levels.level[sample.level].width) * grad_x;
    grad_locations[2 * i + 1] = sample.weight * static_cast<A>(levels.level[sample.level].height) * grad_y;
  }

  __device__ void finish(const Sizes&, const Lane&, const State&) const {}
};

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// Locations and weights are computed from offsets and logits.
template <typename T>
struct Fused {
  using Value = T;
  using A = Accumulator<T>;
  struct State {
    A peak, scale;  // a weight is exp(logit - peak) * scale
    A mean;         // weighted sum of the weights' gradients of this lane's samples
  };

  const A* references;
  ReferenceStrides strides;
  const T* offsets;
  const T* logits;
  T* grad_offsets;
  T* grad_logits;
  A* grad_weights;  // may be grad_logits

  __device__ A weight(const State& state, int64_t i) const {
    return exponential(static_cast<A>(logits[i]) - state.peak) * state.scale;
  }

  __device__ State begin(const Sizes& n, const Lane& at) const {
    const int samples = static_cast<int>(n.samples());
    const T* row = logits + at.row * samples;
    // Lanes without a sample of their own start with the first logit.
    A peak = at.active ? static_cast<A>(row[0]) : A(0), total = 0;
    for (int j = at.lane; at.active && j < samples; j += at.lanes) {
      const A logit = static_cast<A>(row[j]);
      peak = logit > peak ? logit : peak;
    }
    peak = group_max(peak, at.lanes);
    for (int j = at.lane; at.active && j < samples; j += at.lanes)
      total += exponential(static_cast<A>(row[j]) - peak);
    total = group_sum(total, at.lanes);
    return {peak, 1 / total, 0};
  }

  __device__ Sample<A> sample(const Sizes& n, const Levels& levels, const Lane& at, const State& state, int j) const {
    const int64_t i = at.row * n.samples() + j, query = at.row / n.heads;
    const int l = j / static_cast<int>(n.points);
    const Level& level = levels.level[l];
    const A* reference = references + query / n.queries * strides.step[0] + query % n.queries * strides.step[1] +
        l * strides.step[2];
    return {
        to_pixels(reference[0], level.width) + static_cast<A>(offsets[2 * i]),
        to_pixels(reference[strides.step[3]], level.height) + static_cast<A>(offsets[2 * i + 1]), weight(state, i), l};
  }

  __device__ void keep(
      const Sizes& n, const Levels&, const Lane& at, State& state, int j, const Sample<A>& sample, A grad_weight,
      A grad_x, A grad_y) const {
    const int64_t i = at.row * n.samples() + j;
    grad_weights[i] = grad_weight;
    grad_offsets[2 * i] = static_cast<T>(sample.weight * grad_x);
    grad_offsets[2 * i + 1] = static_cast<T>(sample.weight * grad_y);
    state.mean += sample.weight * grad_weight;
  }

  // Each lane has itself written the gradients that it reads here.
  __device__ void finish(const Sizes& n, const Lane& at, const State& state) const {
    const A mean = group_sum(state.mean, at.lanes);
    const int samples = static_cast<int>(n.samples());
    for (int j = at.lane; at.active && j < samples; j += at.lanes) {
      const int64_t i = at.row * samples + j;
      grad_logits[i] = static_cast<T>(weight(state, i) * (grad_weights[i] - mean));
    }
  }
};

template <typename A>
struct alignas(16) Weighted {
  int32_t index[4];
  A weight[4];
};

}  // namespace
}  // namespace mask2former
