// The CPU kernels of each instruction set, which files of their own compile, and the choice among them. Included once.
#pragma once

#include <cstdlib>
#include <cstring>

#include "cpu_compiler.h"
#include "cpu_entries.h"

#define MASK2FORMER_VARIANT baseline
MASK2FORMER_DECLARE_ENTRIES
#undef MASK2FORMER_VARIANT

#if MASK2FORMER_X86
#define MASK2FORMER_VARIANT avx2
MASK2FORMER_DECLARE_ENTRIES
#undef MASK2FORMER_VARIANT
#define MASK2FORMER_VARIANT avx512
MASK2FORMER_DECLARE_ENTRIES
#undef MASK2FORMER_VARIANT
#endif

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
