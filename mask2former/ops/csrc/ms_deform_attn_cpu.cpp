// Multi-scale deformable attention on the CPU (Deformable DETR, arXiv 2010.04159, equation 3).
#include <algorithm>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "cpu_job.h"
#include "cpu_variants.h"

namespace mask2former {
namespace {

constexpr int64_t BLOCKS_AT_A_TIME = 32;  // least number of blocks for a thread

// Owner of the memory that a Scratch points to.
template <typename T>
class ScratchMemory {
 public:
  ScratchMemory(const Sizes& n, int64_t levels) {
    const int64_t of_row = levels * n.points, capacity = ROWS * of_row;
    integers_.resize(7 * capacity);
    numbers_.resize(15 * capacity + 16 + 64 * (of_row + 4) + ROWS * (n.samples() + 1) + n.channels);
    int32_t* i = integers_.data();
    T* x = numbers_.data();
    scratch_.capacity = capacity;
    scratch_.index = take(i, 4 * capacity);
    for (int32_t** each : {&scratch_.height, &scratch_.width, &scratch_.start}) *each = take(i, capacity);
    scratch_.softmax = take(x, ROWS * (n.samples() + 1));
    scratch_.weight = take(x, 4 * capacity);
    for (T** each : {&scratch_.column, &scratch_.row, &scratch_.attention, &scratch_.right, &scratch_.bottom})
      *each = take(x, capacity);
    scratch_.dot = take(x, 4 * capacity + 16);
    scratch_.partial = take(x, 64 * (of_row + 4));
    scratch_.channels = x;
  }
  const Scratch<T>& get() const { return scratch_; }

 private:
  template <typename X>
  static X* take(X*& from, int64_t count) {
    X* taken = from;
    from += count;
    return taken;
  }

  std::vector<int32_t> integers_;
  std::vector<T> numbers_;
  Scratch<T> scratch_{};
};

Tensor as_type(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

// Makes a tensor contiguous and of the kernels' type. Half formats are widened once here: that costs one copy, and
// saves a conversion at each of the dozens of times that the kernels read a number.
Tensor prepared(const Tensor& tensor, ScalarType type) { return torch::stable::contiguous(as_type(tensor, type)); }

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

int64_t blocks_of(const Sizes& n) { return (n.batch * n.queries * n.heads + ROWS - 1) / ROWS; }

template <typename J>
void forward_in_parallel(const J& job) {
  torch::stable::parallel_for(0, blocks_of(job.sizes), BLOCKS_AT_A_TIME, [&](int64_t begin, int64_t end) {
    const ScratchMemory<typename J::Number> memory(job.sizes, job.sizes.levels);
    run_forward(job, memory.get(), begin, end);
  });
}

template <typename J>
void backward_in_parallel(const J& job) {
  const Sizes& n = job.sizes;
  torch::stable::parallel_for(0, n.batch * n.heads * n.levels, 1, [&](int64_t begin, int64_t end) {
    const ScratchMemory<typename J::Number> memory(n, 1);
    run_backward(job, memory.get(), begin, end);
  });
}

template <typename T>
Tensor forward_as(
    const Sizes& n, const std::vector<Level>& levels, const Tensor& value, const Tensor& locations,
    const Tensor& weights) {
  Tensor output = torch::stable::new_empty(value, {n.batch, n.queries, n.heads * n.channels});
  ClassicJob<T> job{n, levels.data(), data<T>(value), data<T>(locations), data<T>(weights)};
  job.output = mutable_data<T>(output);
  forward_in_parallel(job);
  return output;
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> backward_as(
    const Sizes& n, const std::vector<Level>& levels, const Tensor& grad_output, const Tensor& value,
    const Tensor& locations, const Tensor& weights) {
  Tensor grad_value = torch::stable::new_zeros(value, value.sizes());
  Tensor grad_locations = torch::stable::new_empty(locations, locations.sizes());
  Tensor grad_weights = torch::stable::new_empty(weights, weights.sizes());
  ClassicJob<T> job{n, levels.data(), data<T>(value), data<T>(locations), data<T>(weights)};
  job.grad_output = data<T>(grad_output);
  job.grad_value = mutable_data<T>(grad_value);
  job.grad_locations = mutable_data<T>(grad_locations);
  job.grad_weights = mutable_data<T>(grad_weights);
  backward_in_parallel(job);
  return {grad_value, grad_locations, grad_weights};
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations, const Tensor& weights) {
  const Sizes n = checked_sizes(CLASSIC, value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const ScalarType type = accumulation_type(value.scalar_type());
  const Tensor v = prepared(value, type), l = prepared(locations, type), w = prepared(weights, type);
  const Tensor output = type == ScalarType::Double ? forward_as<double>(n, levels, v, l, w)
                                                   : forward_as<float>(n, levels, v, l, w);
  return as_type(output, value.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights, bool /*deterministic*/) {
  const Sizes n = checked_sizes(CLASSIC, value, spatial_shapes, locations, weights);
  check_dtypes(value, locations, weights);
  check_grad(grad_output, value, n);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const ScalarType type = accumulation_type(value.scalar_type());
  const Tensor g = prepared(grad_output, type), v = prepared(value, type);
  const Tensor l = prepared(locations, type), w = prepared(weights, type);
  const auto [grad_value, grad_locations, grad_weights] = type == ScalarType::Double
      ? backward_as<double>(n, levels, g, v, l, w)
      : backward_as<float>(n, levels, g, v, l, w);
  return {as_type(grad_value, value.scalar_type()), grad_locations, as_type(grad_weights, weights.scalar_type())};
}

// Calls f(number, raw) with the types in which a dtype is computed and stored.
template <typename F>
auto for_types(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::Float:
      return f(float{}, float{});
    case ScalarType::Double:
      return f(double{}, double{});
    case ScalarType::Half:
      return f(float{}, Float16Bits{});
    default:
      return f(float{}, BFloat16Bits{});
  }
}

Tensor ms_deform_attn_fused(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& references, const Tensor& offsets,
    const Tensor& logits) {
  const Sizes n = checked_sizes(FUSED, value, spatial_shapes, offsets, logits);
  check_fused_dtypes(value, references, offsets, logits);
  const ReferenceStrides strides = checked_references(references, n);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const ScalarType type = value.scalar_type();
  const Tensor v = prepared(value, accumulation_type(type)), o = prepared(offsets, type), l = prepared(logits, type);
  return for_types(type, [&](auto number, auto raw) {
    using T = decltype(number);
    using R = decltype(raw);
    Tensor output = torch::stable::new_empty(value, {n.batch, n.queries, n.heads * n.channels});
    FusedJob<T, R> job{n, levels.data(), data<T>(v), data<T>(references), strides, data<R>(o), data<R>(l)};
    job.output = mutable_data<R>(output);
    forward_in_parallel(job);
    return output;
  });
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_fused_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes,
    const Tensor& references, const Tensor& offsets, const Tensor& logits, bool /*deterministic*/) {
  const Sizes n = checked_sizes(FUSED, value, spatial_shapes, offsets, logits);
  check_fused_dtypes(value, references, offsets, logits);
  check_grad(grad_output, value, n);
  const ReferenceStrides strides = checked_references(references, n);
  const std::vector<Level> levels = levels_of(spatial_shapes);
  const ScalarType type = value.scalar_type(), sums = accumulation_type(type);
  const Tensor g = prepared(grad_output, type), v = prepared(value, sums);
  const Tensor o = prepared(offsets, type), l = prepared(logits, type);
  return for_types(type, [&](auto number, auto raw) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(number);
    using R = decltype(raw);
    Tensor grad_value = torch::stable::new_zeros(v, v.sizes());
    Tensor grad_offsets = torch::stable::new_empty(o, o.sizes()), grad_logits = torch::stable::new_empty(l, l.sizes());
    // The difference between a weight's gradient and the mean may be small, so neither is rounded to a half format.
    Tensor grad_weights = sums == type ? grad_logits : torch::stable::new_empty(l, l.sizes(), sums);
    FusedJob<T, R> job{n, levels.data(), data<T>(v), data<T>(references), strides, data<R>(o), data<R>(l)};
    job.grad_output = data<R>(g);
    job.grad_value = mutable_data<T>(grad_value);
    job.grad_offsets = mutable_data<R>(grad_offsets);
    job.grad_logits = mutable_data<R>(grad_logits);
    job.grad_weights = mutable_data<T>(grad_weights);
    backward_in_parallel(job);
    torch::stable::parallel_for(0, blocks_of(n), BLOCKS_AT_A_TIME, [&](int64_t begin, int64_t end) {
      const ScratchMemory<T> memory(n, 1);
      run_softmax_backward(job, memory.get(), begin, end);
    });
    return {as_type(grad_value, type), grad_offsets, grad_logits};
  });
}

}  // namespace
}  // namespace mask2former

STABLE_TORCH_LIBRARY_IMPL(mask2former, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mask2former::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&mask2former::ms_deform_attn_backward));
  m.impl("ms_deform_attn_fused", TORCH_BOX(&mask2former::ms_deform_attn_fused));
  m.impl("ms_deform_attn_fused_backward", TORCH_BOX(&mask2former::ms_deform_attn_fused_backward));
}

STABLE_TORCH_LIBRARY_IMPL(mask2former, CompositeExplicitAutograd, m) {
  m.impl("_limit_cpu_variant", TORCH_BOX(&mask2former::limit_variant));
}
