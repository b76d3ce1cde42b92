// What the compiler offers to the CPU kernels: instruction sets to choose from, and vectors with a shuffle.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

// One binary serves all x86-64 machines: the kernels are compiled for three instruction sets (cpu_baseline.cpp,
// cpu_avx2.cpp, cpu_avx512.cpp), and the best one runs.
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
