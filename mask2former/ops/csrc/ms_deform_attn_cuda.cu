// Multi-scale deformable attention on CUDA (Deformable DETR, arXiv 2010.04159, equation 3): checks and launches.
//
// Offsets are 64-bit. Kernels run on the tensors' device and its current stream; every launch is checked.
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "cuda_kernels.h"

namespace mask2former {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

struct Launch {
  unsigned blocks;
  cudaStream_t stream;
};

// Grids have fewer than 2^31 blocks; the kernels' loops do the rest.
Launch launch_for(int64_t items, int64_t items_per_block, const Tensor& tensor) {
  void* stream = nullptr;
  // PyTorch's macro for this has different names in 2.10 and 2.15.
  check(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream) == AOTI_TORCH_SUCCESS,
      "ms_deform_attn: PyTorch gives no current stream of CUDA device ", tensor.get_device_index());
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

// Calls f(T{}) with the C++ type of a dtype that has passed the checks.
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
  check(
      all.size() <= MAX_LEVELS, "ms_deform_attn: spatial_shapes has ", all.size(), " levels; CUDA takes ", MAX_LEVELS);
  Levels levels{};
  std::copy(all.begin(), all.end(), levels.level);
  return levels;
}

void check_device(const Tensor& tensor, const Tensor& value, const char* name) {
  check(
      tensor.is_cuda() && tensor.get_device_index() == value.get_device_index(),
      "ms_deform_attn: ",
      name,
      " has to be on the device of value");
}

// Tells whether lanes can read 16 bytes at a time: the channels of a head divide into them and all tensors are aligned.
template <typename T>
bool in_packs(const Sizes& n, std::initializer_list<const void*> pointers) {
  return n.channels % static_cast<int64_t>(16 / sizeof(T)) == 0 &&
      std::all_of(pointers.begin(), pointers.end(), [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

// Returns how many lanes a row's channels fill, at `numbers` each: a power of two up to a warp.
int lanes_for(const Sizes& n, int64_t numbers) {
  int lanes = 1;
  while (lanes < WARP && lanes * numbers < n.channels) lanes *= 2;
  return lanes;
}

template <int N, typename S>
void launch_forward(const Sizes& n, const Levels& levels, const S& source, const Tensor& value, const Tensor& output) {
  using T = typename S::Value;
  const int lanes = lanes_for(n, N);
  const Launch launch = launch_for(n.batch * n.queries * n.heads, THREADS_PER_BLOCK / lanes, value);
  forward_kernel<S, N><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(
      n, levels, lanes, source, data<T>(value), mutable_data<T>(output));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename S>
void forward(const Sizes& n, const Levels& levels, const S& source, const Tensor& value, const Tensor& output) {
  using T = typename S::Value;
  if (in_packs<T>(n, {value.const_data_ptr(), output.const_data_ptr()})) {
    launch_forward<16 / sizeof(T)>(n, levels, source, value, output);
  } else {
    launch_forward<1>(n, levels, source, value, output);
  }
}

template <int N, typename S, typename Target>
void launch_backward(
    const Sizes& n, const Levels& levels, const S& source, const Tensor& grad, const Tensor& value,
    const Target& target) {
  using T = typename S::Value;
  const int lanes = lanes_for(n, N);
  const Launch launch = launch_for(n.batch * n.queries * n.heads, THREADS_PER_BLOCK / lanes, value);
  backward_kernel<S, N, Target><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(
      n, levels, lanes, source, data<T>(grad), data<T>(value), target);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename S>
Tensor backward_floating(
    const Sizes& n, const Levels& levels, const S& source, const Tensor& grad, const Tensor& value) {
  using T = typename S::Value;
  using A = typename S::A;
  const ScalarType type = value.scalar_type();
  Tensor sums = torch::stable::new_zeros(value, value.sizes(), accumulation_type(type));
  const FloatingSum<A> target{mutable_data<A>(sums)};
  if (in_packs<T>(n, {value.const_data_ptr(), grad.const_data_ptr(), sums.const_data_ptr()})) {
    // Four numbers at most: with eight of a half format, a lane's registers leave room for few warps.
    launch_backward<std::min<int>(16 / sizeof(T), 4)>(n, levels, source, grad, value, target);
  } else {
    launch_backward<1>(n, levels, source, grad, value, target);
  }
  return sums.scalar_type() == type ? sums : torch::stable::to(sums, type);
}

template <typename T>
void find_largest(const Tensor& tensor, unsigned long long* largest) {
  const Launch launch = launch_for(std::min<int64_t>(tensor.numel(), int64_t{1} << 20), THREADS_PER_BLOCK, tensor);
  largest_kernel<T><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(data<T>(tensor), tensor.numel(), largest);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// `weights`: attention weights if they may exceed 1; null for those of a softmax.
template <typename S>
Tensor backward_fixed(
    const Sizes& n, const Levels& levels, const S& source, const Tensor& grad, const Tensor& value,
    const Tensor* weights) {
  using T = typename S::Value;
  static_assert(sizeof(FixedPoint) == 3 * sizeof(int64_t), "a tensor of three integers");
  Tensor sums = torch::stable::new_zeros(value, value.sizes(), ScalarType::Long);
  Tensor found = torch::stable::new_zeros(value, {3}, ScalarType::Long);
  auto* point = static_cast<FixedPoint*>(found.mutable_data_ptr());
  find_largest<T>(grad, &point->largest_grad);
  double shares = static_cast<double>(n.queries);  // a query's weights in a head add up to 1
  if (weights != nullptr) {
    find_largest<T>(*weights, &point->largest_weight);
    shares *= static_cast<double>(n.points);
  } else {
    const Tensor one = torch::stable::fill_(torch::stable::new_empty(value, {1}), 1.0);
    find_largest<T>(one, &point->largest_weight);
  }
  const FixedSum target{static_cast<unsigned long long*>(sums.mutable_data_ptr()), point, shares};
  launch_backward<1>(n, levels, source, grad, value, target);
  Tensor grad_value = torch::stable::new_empty(value, value.sizes());
  const Launch launch = launch_for(sums.numel(), THREADS_PER_BLOCK, value);
  convert_kernel<T><<<launch.blocks, THREADS_PER_BLOCK, 0, launch.stream>>>(
      target.sums, point, shares, sums.numel(), mutable_data<T>(grad_value));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_value;
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations, const Tensor& weights) {
  const Sizes n = checked_sizes(CLASSIC, value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  check_device(locations, value, "sampling_locations");
  check_device(weights, value, "attention_weights");
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights);
  Tensor output = torch::stable::new_empty(v, {n.batch, n.queries, n.heads * n.channels});
  if (output.numel() == 0) return output;
  for_type(v.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    forward(n, levels, Classic<T>{data<Accumulator<T>>(l), data<T>(w), nullptr, nullptr}, v, output);
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights, bool deterministic) {
  const Sizes n = checked_sizes(CLASSIC, value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  check_grad(grad_output, value, n);
  check_device(locations, value, "sampling_locations");
  check_device(weights, value, "attention_weights");
  check_device(grad_output, value, "grad_output");
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), l = torch::stable::contiguous(locations);
  const Tensor w = torch::stable::contiguous(weights), g = torch::stable::contiguous(grad_output);
  if (g.numel() == 0 || w.numel() == 0) {
    return {
        torch::stable::new_zeros(v, v.sizes()), torch::stable::new_zeros(l, l.sizes()),
        torch::stable::new_zeros(w, w.sizes())};
  }
  Tensor grad_value = v;
  Tensor grad_locations = torch::stable::new_empty(l, l.sizes()), grad_weights = torch::stable::new_empty(w, w.sizes());
  for_type(v.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Classic<T> source{data<A>(l), data<T>(w), mutable_data<A>(grad_locations), mutable_data<T>(grad_weights)};
    grad_value = deterministic ? backward_fixed(n, levels, source, g, v, &w) : backward_floating(n, levels, source, g, v);
  });
  return {grad_value, grad_locations, grad_weights};
}

void check_fused_devices(const Tensor& value, const Tensor& references, const Tensor& offsets, const Tensor& logits) {
  check_device(references, value, "reference_points");
  check_device(offsets, value, "sampling_offsets");
  check_device(logits, value, "attention_logits");
}

Tensor ms_deform_attn_fused(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& references, const Tensor& offsets,
    const Tensor& logits) {
  const Sizes n = checked_sizes(FUSED, value, spatial_shapes, offsets, logits);
  check_fused_dtypes(value, references, offsets, logits);
  const ReferenceStrides strides = checked_references(references, n);
  check_fused_devices(value, references, offsets, logits);
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), o = torch::stable::contiguous(offsets);
  const Tensor l = torch::stable::contiguous(logits);
  if (l.numel() == 0) return torch::stable::new_zeros(v, {n.batch, n.queries, n.heads * n.channels});
  Tensor output = torch::stable::new_empty(v, {n.batch, n.queries, n.heads * n.channels});
  if (output.numel() == 0) return output;
  for_type(v.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Fused<T> source{
        data<Accumulator<T>>(references), strides, data<T>(o), data<T>(l), nullptr, nullptr, nullptr};
    forward(n, levels, source, v, output);
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_fused_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes,
    const Tensor& references, const Tensor& offsets, const Tensor& logits, bool deterministic) {
  const Sizes n = checked_sizes(FUSED, value, spatial_shapes, offsets, logits);
  check_fused_dtypes(value, references, offsets, logits);
  check_grad(grad_output, value, n);
  const ReferenceStrides strides = checked_references(references, n);
  check_fused_devices(value, references, offsets, logits);
  check_device(grad_output, value, "grad_output");
  const Levels levels = checked_levels(spatial_shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor v = torch::stable::contiguous(value), o = torch::stable::contiguous(offsets);
  const Tensor l = torch::stable::contiguous(logits), g = torch::stable::contiguous(grad_output);
  if (g.numel() == 0 || l.numel() == 0) {
    return {
        torch::stable::new_zeros(v, v.sizes()), torch::stable::new_zeros(o, o.sizes()),
        torch::stable::new_zeros(l, l.sizes())};
  }
  const ScalarType type = v.scalar_type(), sums = accumulation_type(type);
  Tensor grad_value = v;
  Tensor grad_offsets = torch::stable::new_empty(o, o.sizes()), grad_logits = torch::stable::new_empty(l, l.sizes());
  // The difference between a weight's gradient and the mean may be small, so neither is rounded to a half format.
  Tensor grad_weights = sums == type ? grad_logits : torch::stable::new_empty(l, l.sizes(), sums);
  for_type(type, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const Fused<T> source{data<A>(references), strides, data<T>(o), data<T>(l), mutable_data<T>(grad_offsets),
                          mutable_data<T>(grad_logits), mutable_data<A>(grad_weights)};
    grad_value =
        deterministic ? backward_fixed(n, levels, source, g, v, nullptr) : backward_floating(n, levels, source, g, v);
  });
  return {grad_value, grad_offsets, grad_logits};
}

}  // namespace
}  // namespace mask2former

STABLE_TORCH_LIBRARY_IMPL(mask2former, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mask2former::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&mask2former::ms_deform_attn_backward));
  m.impl("ms_deform_attn_fused", TORCH_BOX(&mask2former::ms_deform_attn_fused));
  m.impl("ms_deform_attn_fused_backward", TORCH_BOX(&mask2former::ms_deform_attn_fused_backward));
}
