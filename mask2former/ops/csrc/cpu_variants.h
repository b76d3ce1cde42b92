// The CPU kernels, compiled for each useful instruction set, and the choice among them. Included once.
#pragma once

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cpu_job.h"

// One binary serves all x86-64 machines: the kernels are compiled for three instruction sets, and the best one runs.
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MASK2FORMER_X86 1
#endif

#if defined(__clang__)
#define MASK2FORMER_SHUFFLE(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#elif defined(__GNUC__)
#define MASK2FORMER_SHUFFLE(T, a, b, ...) __builtin_shuffle(a, b, mask2former::LanesLike<T, V>{__VA_ARGS__})
#else
#define MASK2FORMER_SHUFFLE(T, a, b, ...) (a)  // never expanded, because there are no vectors
#endif

#if defined(__GNUC__) && !defined(__clang__)
namespace mask2former {
// GCC's shuffle takes lane numbers as a vector of integers of the elements' size.
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

// Returns the best variant of this processor that ATEN_CPU_CAPABILITY (PyTorch's: default, avx2, avx512) allows.
Variant best_variant() {
#if MASK2FORMER_X86
  const char* const named = std::getenv("ATEN_CPU_CAPABILITY");
  if (named && std::strcmp(named, "default") == 0) return Variant::Baseline;
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && !(named && std::strcmp(named, "avx2") == 0) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return Variant::Avx512;
  }
  if (avx2) return Variant::Avx2;
#endif
  return Variant::Baseline;
}

// 0: baseline, 1: AVX2, 2: AVX-512. Tests lower it to run every variant that the machine supports.
int64_t highest_variant = static_cast<int64_t>(Variant::Avx512);

Variant variant() {
  static const Variant best = best_variant();
  return highest_variant < static_cast<int64_t>(best) ? static_cast<Variant>(highest_variant) : best;
}

// Sets the limit if `highest` is not negative; returns the variant that runs.
int64_t limit_variant(int64_t highest) {
  if (highest >= 0) highest_variant = highest;
  return static_cast<int64_t>(variant());
}

// Calls function(job, scratch, begin, end) of the variant chosen.
#if MASK2FORMER_X86
#define MASK2FORMER_RUN(function, ...)       \
  switch (variant()) {                       \
    case Variant::Avx512:                    \
      return avx512::function(__VA_ARGS__);  \
    case Variant::Avx2:                      \
      return avx2::function(__VA_ARGS__);    \
    default:                                 \
      return baseline::function(__VA_ARGS__); \
  }
#else
#define MASK2FORMER_RUN(function, ...) return baseline::function(__VA_ARGS__);
#endif

template <typename J, typename T>
void run_forward(const J& job, const Scratch<T>& scratch, int64_t begin, int64_t end) {
  MASK2FORMER_RUN(forward, job, scratch, begin, end)
}

template <typename J, typename T>
void run_backward(const J& job, const Scratch<T>& scratch, int64_t begin, int64_t end) {
  MASK2FORMER_RUN(backward, job, scratch, begin, end)
}

template <typename J, typename T>
void run_softmax_backward(const J& job, const Scratch<T>& scratch, int64_t begin, int64_t end) {
  MASK2FORMER_RUN(softmax_backward, job, scratch, begin, end)
}

}  // namespace
}  // namespace mask2former
