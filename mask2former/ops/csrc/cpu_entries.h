// The functions that each instruction set's file defines, by name and type of job.
#pragma once

#include "cpu_compiler.h"
#include "cpu_job.h"

namespace mask2former {
using FusedFloat = FusedJob<float, float>;
using FusedDouble = FusedJob<double, double>;
using FusedBFloat16 = FusedJob<float, BFloat16Bits>;
using FusedFloat16 = FusedJob<float, Float16Bits>;
}  // namespace mask2former

#define MASK2FORMER_ENTRIES(ENTRY)        \
  ENTRY(forward, ClassicJob<float>)       \
  ENTRY(forward, ClassicJob<double>)      \
  ENTRY(forward, FusedFloat)              \
  ENTRY(forward, FusedDouble)             \
  ENTRY(forward, FusedBFloat16)           \
  ENTRY(forward, FusedFloat16)            \
  ENTRY(backward, ClassicJob<float>)      \
  ENTRY(backward, ClassicJob<double>)     \
  ENTRY(backward, FusedFloat)             \
  ENTRY(backward, FusedDouble)            \
  ENTRY(backward, FusedBFloat16)          \
  ENTRY(backward, FusedFloat16)           \
  ENTRY(softmax_backward, FusedFloat)     \
  ENTRY(softmax_backward, FusedDouble)    \
  ENTRY(softmax_backward, FusedBFloat16)  \
  ENTRY(softmax_backward, FusedFloat16)

#define MASK2FORMER_DECLARE_ENTRY(name, Job) \
  void name(const Job& job, const Scratch<Job::Number>& scratch, int64_t begin, int64_t end);
#define MASK2FORMER_DECLARE_ENTRIES      \
  namespace mask2former {                \
  namespace MASK2FORMER_VARIANT {        \
  MASK2FORMER_ENTRIES(MASK2FORMER_DECLARE_ENTRY) \
  }                                      \
  }
