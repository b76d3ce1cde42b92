// Multi-scale deformable attention on the CPU (Deformable DETR, arXiv 2010.04159, equation 3).
#include <cstring>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "cpu_job.h"

// One binary for all x86-64 machines: the kernels are compiled for three instruction sets, the machine's best one runs.
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MASK2FORMER_X86 1
#endif

#if defined(__clang__)
#define MASK2FORMER_SHUFFLE(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#elif defined(__GNUC__)
#define MASK2FORMER_SHUFFLE(T, a, b, ...) __builtin_shuffle(a, b, mask2former::LanesLike<T, V>{__VA_ARGS__})
#else
#define MASK2FORMER_SHUFFLE(T, a, b, ...) (a)  // never compiled further than its name: there are no vectors
#endif

#if defined(__GNUC__) && !defined(__clang__)
namespace mask2former {
// GCC's shuffle takes the lanes as a vector of integers of the elements' size.
template <typename T>
struct IntegerLike;
template <>
struct IntegerLike<float> {
  using type = int32_t;
};
template <>
struct IntegerLike<double> {
  using type = int64_t;
};
template <typename T, typename V>
struct LanesLikeOf {
  typedef typename IntegerLike<T>::type type __attribute__((vector_size(sizeof(V))));
};
template <typename T, typename V>
using LanesLike = typename LanesLikeOf<T, V>::type;
}  // namespace mask2former
#endif

#if defined(__GNUC__) || defined(__clang__)
#define MASK2FORMER_VECTOR_BYTES 16  // what every x86-64 (SSE2) and every 64-bit Arm (NEON) has
#else
#define MASK2FORMER_VECTOR_BYTES 0
#endif
#define MASK2FORMER_VARIANT baseline
#include "cpu_kernels.h"
#undef MASK2FORMER_VARIANT
#undef MASK2FORMER_VECTOR_BYTES

#if MASK2FORMER_X86

#define MASK2FORMER_VARIANT avx2
#define MASK2FORMER_VECTOR_BYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "cpu_kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef MASK2FORMER_VARIANT
#undef MASK2FORMER_VECTOR_BYTES

#define MASK2FORMER_VARIANT avx512
#define MASK2FORMER_VECTOR_BYTES 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
#endif
#include "cpu_kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef MASK2FORMER_VARIANT
#undef MASK2FORMER_VECTOR_BYTES

#endif  // MASK2FORMER_X86

namespace mask2former {
namespace {

enum class Variant { Baseline, Avx2, Avx512 };

Variant best_variant() {
#if MASK2FORMER_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return Variant::Avx512;
  }
  if (avx2) return Variant::Avx2;
#endif
  return Variant::Baseline;
}

// 0: baseline, 1: AVX2, 2: AVX-512. Tests lower it to see every variant that the machine can run.
int64_t highest_variant = static_cast<int64_t>(Variant::Avx512);

Variant variant() {
  static const Variant best = best_variant();
  return highest_variant < static_cast<int64_t>(best) ? static_cast<Variant>(highest_variant) : best;
}

int64_t limit_variant(int64_t highest) {
  highest_variant = highest < 0 ? 0 : highest;
  return static_cast<int64_t>(variant());
}

template <typename T>
void run_forward(const Job<T>& job, const Scratch<T>& scratch, int64_t begin, int64_t end) {
  switch (variant()) {
#if MASK2FORMER_X86
    case Variant::Avx512:
      return avx512::forward(job, scratch, begin, end);
    case Variant::Avx2:
      return avx2::forward(job, scratch, begin, end);
#endif
    default:
      return baseline::forward(job, scratch, begin, end);
  }
}

template <typename T>
void run_backward(const Job<T>& job, const Scratch<T>& scratch, int64_t begin, int64_t end) {
  switch (variant()) {
#if MASK2FORMER_X86
    case Variant::Avx512:
      return avx512::backward(job, scratch, begin, end);
    case Variant::Avx2:
      return avx2::backward(job, scratch, begin, end);
#endif
    default:
      return baseline::backward(job, scratch, begin, end);
  }
}

// Owns what a Scratch points to.
template <typename T>
class ScratchMemory {
 public:
  ScratchMemory(int64_t capacity, int64_t points) : integers_(7 * capacity), numbers_(13 * capacity + 16 + 64 * (points + 4)) {
    int32_t* i = integers_.data();
    T* x = numbers_.data();
    scratch_.capacity = capacity;
    scratch_.index = i;
    scratch_.height = i + 4 * capacity;
    scratch_.width = i + 5 * capacity;
    scratch_.start = i + 6 * capacity;
    scratch_.weight = x;
    scratch_.right = x + 4 * capacity;
    scratch_.bottom = x + 5 * capacity;
    scratch_.location = x + 6 * capacity;
    scratch_.attention = x + 8 * capacity;
    scratch_.dot = x + 9 * capacity;
    scratch_.partial = x + 13 * capacity + 16;
  }
  const Scratch<T>& get() const { return scratch_; }

 private:
  std::vector<int32_t> integers_;
  std::vector<T> numbers_;
  Scratch<T> scratch_{};
};

// Contiguous and of the kernels' type. Half formats are widened once here: that costs a copy of what is then read dozens
// of times, and spares the kernels a conversion at every read.
Tensor prepared(const Tensor& tensor, ScalarType type) {
  return torch::stable::contiguous(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

Tensor as_type(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
Tensor forward_as(
    const Sizes& n, const std::vector<Level>& levels, const Tensor& value, const Tensor& locations,
    const Tensor& weights) {
  Tensor output = torch::stable::new_empty(value, {n.batch, n.queries, n.heads * n.channels});
  Job<T> job{n, levels.data(), data<T>(value), data<T>(locations), data<T>(weights)};
  job.output = static_cast<T*>(output.mutable_data_ptr());
  torch::stable::parallel_for(0, n.batch * n.queries, 64, [&](int64_t begin, int64_t end) {
    const ScratchMemory<T> memory(n.heads * n.samples(), n.points);
    run_forward(job, memory.get(), begin, end);
  });
  return output;
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> backward_as(
    const Sizes& n, const std::vector<Level>& levels, const Tensor& grad_output, const Tensor& value,
    const Tensor& locations, const Tensor& weights) {
  Tensor grad_value = torch::stable::new_zeros(value, value.sizes());
  Tensor grad_locations = torch::stable::new_empty(locations, locations.sizes());
  Tensor grad_weights = torch::stable::new_empty(weights, weights.sizes());
  Job<T> job{n, levels.data(), data<T>(value), data<T>(locations), data<T>(weights)};
  job.grad_output = data<T>(grad_output);
  job.grad_value = static_cast<T*>(grad_value.mutable_data_ptr());
  job.grad_locations = static_cast<T*>(grad_locations.mutable_data_ptr());
  job.grad_weights = static_cast<T*>(grad_weights.mutable_data_ptr());
  torch::stable::parallel_for(0, n.batch * n.heads * n.levels, 1, [&](int64_t begin, int64_t end) {
    const ScratchMemory<T> memory(QUERY_BLOCK * n.points, n.points);
    run_backward(job, memory.get(), begin, end);
  });
  return {grad_value, grad_locations, grad_weights};
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations, const Tensor& weights) {
  const Sizes n = checked_sizes(value, spatial_shapes, locations, weights);
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
    const Tensor& weights) {
  const Sizes n = checked_sizes(value, spatial_shapes, locations, weights);
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

}  // namespace
}  // namespace mask2former

STABLE_TORCH_LIBRARY_IMPL(mask2former, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mask2former::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&mask2former::ms_deform_attn_backward));
}

STABLE_TORCH_LIBRARY_IMPL(mask2former, CompositeExplicitAutograd, m) {
  m.impl("_limit_cpu_variant", TORCH_BOX(&mask2former::limit_variant));
}
