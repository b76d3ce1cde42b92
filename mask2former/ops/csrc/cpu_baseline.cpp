// The CPU kernels for any machine.
#include "cpu_entries.h"

#if defined(__GNUC__) || defined(__clang__)
#define MASK2FORMER_VECTOR_BYTES 16  // what every x86-64 (SSE2) and every 64-bit Arm (NEON) has
#else
#define MASK2FORMER_VECTOR_BYTES 0
#endif
#define MASK2FORMER_VARIANT baseline
#include "cpu_kernels.h"
