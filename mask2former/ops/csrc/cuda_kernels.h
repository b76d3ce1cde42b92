// The CUDA kernels. A group of lanes of a warp works on one row: one head of one query, an index into [B, Q, H].
//
// The lanes first divide the row's samples among them: each computes the positions and weights of some and stores them
// in shared memory. Then all lanes go through all samples, each lane with some neighbouring channels. A group has as
// many lanes as the channels fill, so that narrow heads waste none; all lanes of a warp take the same branches around
// exchanges.
#pragma once

#include "cuda_samples.h"

namespace mask2former {
namespace {

template <typename S, int N>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) forward_kernel(
    const Sizes n, const Levels levels, const int lanes, const S source,
    const typename S::Value* __restrict__ value, typename S::Value* __restrict__ output) {
  using A = typename S::A;
  __shared__ Weighted<A> planned[THREADS_PER_BLOCK];
  const int samples = static_cast<int>(n.samples()), lane = static_cast<int>(threadIdx.x) % lanes;
  const Weighted<A>* group = planned + (threadIdx.x - lane);
  const int64_t rows = n.batch * n.queries * n.heads, stride = n.heads * n.channels;
  const int64_t rows_per_block = THREADS_PER_BLOCK / lanes;
  for (int64_t start = blockIdx.x * rows_per_block; start < rows; start += gridDim.x * rows_per_block) {
    const int64_t row = start + threadIdx.x / lanes;
    const Lane at{row, lane, lanes, row < rows};
    const typename S::State state = source.begin(n, at);
    const int64_t image = row / (n.queries * n.heads) * n.positions * stride + row % n.heads * n.channels;
    for (int64_t first_channel = 0; first_channel < n.channels; first_channel += lanes * N) {
      const int64_t channel = first_channel + lane * N;
      const bool mine = at.active && channel < n.channels;
      const typename S::Value* from = value + image + channel;
      A sum[N] = {};
      for (int first = 0; first < samples; first += lanes) {
        const int count = samples - first < lanes ? samples - first : lanes;
        __syncwarp();  // all have read what stood there
        if (at.active && lane < count) {
          const Sample<A> sample = source.sample(n, levels, at, state, first + lane);
          const Level& level = levels.level[sample.level];
          const Corners<A> c = corners_of(sample.x, sample.y, level.height, level.width, level.start);
          const A low = c.bottom * sample.weight, high = sample.weight - low;
          const A low_right = low * c.right, high_right = high * c.right;
          planned[threadIdx.x] = {
              {c.index[0], c.index[1], c.index[2], c.index[3]},
              {high - high_right, high_right, low - low_right, low_right}};
        }
        __syncwarp();
        for (int k = 0; mine && k < count; ++k) {
          const Weighted<A> sample = group[k];
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            if (sample.index[corner] < 0) continue;
            A pixel[N];
            load(from + sample.index[corner] * stride, pixel);
            for (int i = 0; i < N; ++i) sum[i] += sample.weight[corner] * pixel[i];
          }
        }
      }
      if (mine) store(output + row * n.channels + channel, sum);
    }
  }
}

// Sums gradients of the values from many queries, in an order that changes from run to run.
template <typename A>
struct FloatingSum {
  A* sums;

  template <int N>
  __device__ __forceinline__ void add(int64_t offset, const A (&x)[N]) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    constexpr bool FOUR_AT_A_TIME = N % 4 == 0 && sizeof(A) == 4;
#else
    constexpr bool FOUR_AT_A_TIME = false;
#endif
    if constexpr (FOUR_AT_A_TIME) {
      for (int i = 0; i < N; i += 4)
        atomicAdd(reinterpret_cast<float4*>(sums + offset + i), make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]));
    } else {
      for (int i = 0; i < N; ++i) atomicAdd(sums + offset + i, x[i]);
    }
  }
};

// The scale of the deterministic sums, computed on the device so that the host need not wait.
struct FixedPoint {
  unsigned long long largest_grad;    // bits of float64, which from 0 to NaN are in the order of the numbers
  unsigned long long largest_weight;
  unsigned long long broken;          // 1 where a share was not finite

  // A power of two, such that `shares` of at most grad * weight add up to less than 2^62; 0 if there is none.
  __device__ double scale(double shares) const {
    const double bound =
        shares * __longlong_as_double(static_cast<long long>(largest_grad)) *
        __longlong_as_double(static_cast<long long>(largest_weight));
    if (broken != 0 || !(bound < 1.0e300)) return 0;
    const int exponent = bound > 1.0e-250 ? ilogb(bound) + 1 : -830;
    return scalbn(1.0, 61 - exponent);
  }
};

// Sums with the same bits in any order: they are sums of 64-bit integers, whose addition is associative. A share is
// rounded to a multiple of 2^-60 of the bound on the sum, `shares` * the largest gradient (* weight), or finer. With
// 2^14 to 2^16 shares, as in the encoder, that is 2^-44 of the largest gradient. For float32 this is finer than the
// rounding of its own sums, unless gradients are 2^20 times smaller than the largest; float64 loses some 9 of its 53
// bits.
struct FixedSum {
  unsigned long long* sums;
  FixedPoint* point;
  double shares;

  template <int N, typename A>
  __device__ __forceinline__ void add(int64_t offset, const A (&x)[N], double scale) const {
    for (int i = 0; i < N; ++i) {
      const double scaled = static_cast<double>(x[i]) * scale;
      if (!(fabs(scaled) < 4.0e18)) {
        atomicMax(&point->broken, 1ull);
        continue;
      }
      atomicAdd(sums + offset + i, static_cast<unsigned long long>(static_cast<long long>(rint(scaled))));
    }
  }
};

template <typename A>
struct alignas(16) Placed {
  int32_t index[4];
  A right, bottom, weight;
};

template <typename S, int N, typename Target>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) backward_kernel(
    const Sizes n, const Levels levels, const int lanes, const S source,
    const typename S::Value* __restrict__ grad_output, const typename S::Value* __restrict__ value,
    const Target target) {
  using A = typename S::A;
  constexpr bool FIXED = std::is_same_v<Target, FixedSum>;
  __shared__ Placed<A> planned[THREADS_PER_BLOCK];
  const int samples = static_cast<int>(n.samples()), lane = static_cast<int>(threadIdx.x) % lanes;
  const Placed<A>* group = planned + (threadIdx.x - lane);
  const int64_t rows = n.batch * n.queries * n.heads, stride = n.heads * n.channels;
  const int64_t rows_per_block = THREADS_PER_BLOCK / lanes;
  double scale = 0;
  if constexpr (FIXED) {
    FixedPoint found = *target.point;
    found.broken = 0;  // another block may be writing it, and the scale must be the same for all
    scale = found.scale(target.shares);
  }
  for (int64_t start = blockIdx.x * rows_per_block; start < rows; start += gridDim.x * rows_per_block) {
    const int64_t row = start + threadIdx.x / lanes;
    const Lane at{row, lane, lanes, row < rows};
    typename S::State state = source.begin(n, at);
    const int64_t image = row / (n.queries * n.heads) * n.positions * stride + row % n.heads * n.channels;
    for (int first = 0; first < samples; first += lanes) {
      const int count = samples - first < lanes ? samples - first : lanes;
      const bool has = at.active && lane < count;
      Sample<A> own{};
      __syncwarp();  // all have read what stood there
      if (has) {
        own = source.sample(n, levels, at, state, first + lane);
        const Level& level = levels.level[own.level];
        const Corners<A> c = corners_of(own.x, own.y, level.height, level.width, level.start);
        planned[threadIdx.x] = {{c.index[0], c.index[1], c.index[2], c.index[3]}, c.right, c.bottom, own.weight};
      }
      __syncwarp();
      A own_weight = 0, own_x = 0, own_y = 0;
      for (int k = 0; k < count; ++k) {
        A upper = 0, lower = 0, along_x = 0;
        if (at.active) {
          const Placed<A> p = group[k];
          const A low = p.weight * p.bottom, high = p.weight - low;
          const A share[4] = {high - high * p.right, high * p.right, low - low * p.right, low * p.right};
          A dot[4] = {0, 0, 0, 0};  // <grad_output, value> at each corner, of this lane's channels
          for (int64_t channel = lane * N; channel < n.channels; channel += lanes * N) {
            A grad[N];
            load(grad_output + row * n.channels + channel, grad);
#pragma unroll
            for (int corner = 0; corner < 4; ++corner) {
              if (p.index[corner] < 0) continue;
              const int64_t offset = image + p.index[corner] * stride + channel;
              A pixel[N], part[N];
              load(value + offset, pixel);
              for (int i = 0; i < N; ++i) {
                dot[corner] += grad[i] * pixel[i];
                part[i] = share[corner] * grad[i];
              }
              if constexpr (FIXED) {
                target.add(offset, part, scale);
              } else {
                target.add(offset, part);
              }
            }
          }
          upper = dot[0] + p.right * (dot[1] - dot[0]);
          lower = dot[2] + p.right * (dot[3] - dot[2]);
          along_x = dot[1] - dot[0] + p.bottom * (dot[3] - dot[2] - dot[1] + dot[0]);
          upper += p.bottom * (lower - upper);  // now the gradient of the weight
          lower = (1 - p.right) * (dot[2] - dot[0]) + p.right * (dot[3] - dot[1]);  // and along y
        }
        // Three sums instead of four are enough to exchange, because the gradients are linear in the dots.
        const A grad_weight = group_sum(upper, lanes), grad_x = group_sum(along_x, lanes);
        const A grad_y = group_sum(lower, lanes);
        if (lane == k) {
          own_weight = grad_weight;
          own_x = grad_x;
          own_y = grad_y;
        }
      }
      if (has) source.keep(n, levels, at, state, first + lane, own, own_weight, own_x, own_y);
    }
    source.finish(n, at, state);
  }
}

// Sets *largest to the bits of the largest magnitude; it must be 0 before.
template <typename T>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) largest_kernel(
    const T* __restrict__ x, int64_t count, unsigned long long* largest) {
  unsigned long long most = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const double magnitude = fabs(static_cast<double>(static_cast<Accumulator<T>>(x[i])));
    const auto bits = static_cast<unsigned long long>(__double_as_longlong(magnitude));
    most = bits > most ? bits : most;
  }
  most = group_max(most, WARP);
  if (threadIdx.x % WARP == 0 && most > 0) atomicMax(largest, most);
}

// Converts the sums; gives NaN everywhere if any share was not finite, because sums of integers cannot tell where.
template <typename T>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) convert_kernel(
    const unsigned long long* __restrict__ sums, const FixedPoint* point, double shares, int64_t count,
    T* __restrict__ to) {
  const double scale = point->scale(shares), inverse = scale > 0 ? 1 / scale : __longlong_as_double(0x7ff8000000000000);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const double sum = static_cast<double>(static_cast<long long>(sums[i])) * inverse;
    to[i] = static_cast<T>(static_cast<Accumulator<T>>(sum));
  }
}

}  // namespace
}  // namespace mask2former
