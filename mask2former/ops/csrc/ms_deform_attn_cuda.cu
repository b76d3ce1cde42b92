// Multi-scale deformable attention on CUDA (Deformable DETR, arXiv 2010.04159, equation 3).
//
// Sums are float32 for half formats, float64 for float64. Offsets are 64-bit. Kernels run on the tensors' device and its
// current stream; every launch is checked.
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "arguments.h"

namespace mask2former {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int WARP = 32;
constexpr int WARPS_PER_BLOCK = 8;
constexpr int THREADS_PER_BLOCK = WARP * WARPS_PER_BLOCK;
constexpr int MAX_LEVELS = 16;  // they travel with the launch, so that nothing has to be copied to the device before

struct Levels {
  Level level[MAX_LEVELS];
};

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

// One thread computes one channel of one head of one query; a head's channels are neighbours, so their reads coalesce.
template <typename T>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) forward_kernel(
    const Sizes n, const Levels levels, const T* __restrict__ value, const Accumulator<T>* __restrict__ locations,
    const T* __restrict__ weights, T* __restrict__ output) {
  using A = Accumulator<T>;
  const int64_t total = n.batch * n.queries * n.heads * n.channels, stride = n.heads * n.channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t row = i / n.channels;  // of [B, Q, H]
    const int64_t batch = row / (n.queries * n.heads), head = row % n.heads, channel = i % n.channels;
    const T* image = value + batch * n.positions * stride + head * n.channels + channel;
    int64_t sample = row * n.samples();
    A sum = 0;
    for (int l = 0; l < static_cast<int>(n.levels); ++l) {
      const Level level = levels.level[l];
      for (int64_t p = 0; p < n.points; ++p, ++sample) {
        const Corners<A> at = corners_of(
            locations[2 * sample], locations[2 * sample + 1], level.height, level.width, level.start);
        A corner[4];
        for (int k = 0; k < 4; ++k)
          corner[k] = at.index[k] < 0 ? A(0) : static_cast<A>(image[at.index[k] * stride]);
        const A upper = corner[0] + at.right * (corner[1] - corner[0]);
        const A lower = corner[2] + at.right * (corner[3] - corner[2]);
        sum += static_cast<A>(weights[sample]) * (upper + at.bottom * (lower - upper));
      }
    }
    output[i] = static_cast<T>(sum);
  }
}

template <typename A>
__device__ __forceinline__ A warp_sum(A x) {
  for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// One warp works on one head of one query; its lanes share the channels. All lanes of a warp take the same branches
// around warp_sum. Gradients of the values meet from many queries, hence the atomic additions, in the accumulator's type.
template <typename T>
__global__ void __launch_bounds__(THREADS_PER_BLOCK) backward_kernel(
    const Sizes n, const Levels levels, const T* __restrict__ grad_output, const T* __restrict__ value,
    const Accumulator<T>* __restrict__ locations, const T* __restrict__ weights,
    Accumulator<T>* __restrict__ grad_value, Accumulator<T>* __restrict__ grad_locations,
    T* __restrict__ grad_weights) {
  using A = Accumulator<T>;
  const int64_t rows = n.batch * n.queries * n.heads, stride = n.heads * n.channels;
  const int lane = threadIdx.x % WARP;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * WARPS_PER_BLOCK + threadIdx.x / WARP;
  for (int64_t row = first; row < rows; row += static_cast<int64_t>(gridDim.x) * WARPS_PER_BLOCK) {
    const int64_t batch = row / (n.queries * n.heads), head = row % n.heads;
    const int64_t image = batch * n.positions * stride + head * n.channels;
    int64_t sample = row * n.samples();
    for (int l = 0; l < static_cast<int>(n.levels); ++l) {
      const Level level = levels.level[l];
      for (int64_t p = 0; p < n.points; ++p, ++sample) {
        const Corners<A> at = corners_of(
            locations[2 * sample], locations[2 * sample + 1], level.height, level.width, level.start);
        const A weight = static_cast<A>(weights[sample]);
        const A share[4] = {
            (1 - at.bottom) * (1 - at.right), (1 - at.bottom) * at.right, at.bottom * (1 - at.right),
            at.bottom * at.right};
        A dot[4] = {0, 0, 0, 0};  // <grad_output, value> at each corner
        for (int64_t c = lane; c < n.channels; c += WARP) {
          const A grad = static_cast<A>(grad_output[row * n.channels + c]);
          for (int k = 0; k < 4; ++k) {
            if (at.index[k] < 0) continue;
            const int64_t offset = image + at.index[k] * stride + c;
            dot[k] += grad * static_cast<A>(value[offset]);
            atomicAdd(grad_value + offset, weight * share[k] * grad);
          }
        }
        // Three sums instead of four: what the lanes have to exchange is linear in the dots.
        const A upper = dot[0] + at.right * (dot[1] - dot[0]), lower = dot[2] + at.right * (dot[3] - dot[2]);
        const A along_x = dot[1] - dot[0] + at.bottom * (dot[3] - dot[2] - dot[1] + dot[0]);
        const A grad_weight = warp_sum(upper + at.bottom * (lower - upper));
        const A grad_x = warp_sum(along_x), grad_y = warp_sum(lower - upper);
        if (lane == 0) {
          grad_weights[sample] = static_cast<T>(grad_weight);
          grad_locations[2 * sample] = weight * static_cast<A>(level.width) * grad_x;
          grad_locations[2 * sample + 1] = weight * static_cast<A>(level.height) * grad_y;
        }
      }
    }
  }
}

struct Launch {
  unsigned blocks;
  cudaStream_t stream;
};

// Grids have fewer than 2^31 blocks; the kernels' loops do what is left over.
Launch launch_for(int64_t items, int64_t items_per_block, const Tensor& tensor) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  const int64_t blocks = (items + items_per_block - 1) / items_per_block;
  return {static_cast<unsigned>(std::min<int64_t>(blocks, (int64_t{1} << 31) - 1)), static_cast<cudaStream_t>(stream)};
}

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Calls f.template operator()<T>() with the C++ type of a dtype, which check_dtypes has let through.
template <typename F>
void for_type(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Double:
      return f(double{});
    case ScalarType::Half:
      return f(Half{});
    default:
      return f(BFloat16{});
  }
}

Levels checked_levels(const std::vector<int64_t>& spatial_shapes) {
  const std::vector<Level> all = levels_of(spatial_shapes);
  STD_TORCH_CHECK(
      all.size() <= MAX_LEVELS, "ms_deform_attn: spatial_shapes has ", all.size(), " levels; CUDA takes ", MAX_LEVELS);
  Levels levels{};
  std::copy(all.begin(), all.end(), levels.level);
  return levels;
}

void check_device(const Tensor& tensor, const Tensor& value, const char* name) {
  STD_TORCH_CHECK(
      tensor.is_cuda() && tensor.get_device_index() == value.get_device_index(),
      "ms_deform_attn: ",
      name,
      " has to be on the device of value");
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations, const Tensor& weights) {
  const Sizes n = checked_sizes(value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  check_device(locations, value, "sampling_locations");
  check_device(weights, value, "attention_weights");
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights);
  Tensor output = torch::stable::new_empty(v, {n.batch, n.queries, n.heads * n.channels});
  if (output.numel() == 0) return output;
  const Launch launch = launch_for(output.numel(), THREADS_PER_BLOCK, v);
  for_type(v.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    forward_kernel<T><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(
        n, levels, data<T>(v), data<Accumulator<T>>(l), data<T>(w), mutable_data<T>(output));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights) {
  const Sizes n = checked_sizes(value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  check_grad(grad_output, value, n);
  check_device(locations, value, "sampling_locations");
  check_device(weights, value, "attention_weights");
  check_device(grad_output, value, "grad_output");
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights), g = torch::stable::contiguous(grad_output);
  const ScalarType type = v.scalar_type();
  Tensor grad_value = torch::stable::new_zeros(v, v.sizes(), accumulation_type(type));
  Tensor grad_locations = torch::stable::new_empty(l, l.sizes());
  Tensor grad_weights = torch::stable::new_empty(w, w.sizes());
  const int64_t rows = n.batch * n.queries * n.heads;
  if (rows > 0 && n.samples() > 0) {
    const Launch launch = launch_for(rows, WARPS_PER_BLOCK, v);
    for_type(type, [&](auto zero) {
      using T = decltype(zero);
      using A = Accumulator<T>;
      backward_kernel<T><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(
          n, levels, data<T>(g), data<T>(v), data<A>(l), data<T>(w), mutable_data<A>(grad_value),
          mutable_data<A>(grad_locations), mutable_data<T>(grad_weights));
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
  }
  if (grad_value.scalar_type() != type) grad_value = torch::stable::to(grad_value, type);
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace
}  // namespace mask2former

STABLE_TORCH_LIBRARY_IMPL(mask2former, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mask2former::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&mask2former::ms_deform_attn_backward));
}
