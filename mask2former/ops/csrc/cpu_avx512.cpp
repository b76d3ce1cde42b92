// The CPU kernels for x86-64 machines with AVX-512. Nothing else may be compiled for these: hence the target is set here,
// behind the other headers, and not by a flag.
#include "cpu_entries.h"

#if MASK2FORMER_X86

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

#endif  // MASK2FORMER_X86
