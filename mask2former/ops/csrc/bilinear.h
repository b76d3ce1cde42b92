// Position of a sampling location in a level: the arithmetic that the CPU and the CUDA kernels share.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MASK2FORMER_INLINE __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define MASK2FORMER_INLINE __forceinline
#else
#define MASK2FORMER_INLINE inline __attribute__((always_inline))
#endif

namespace mask2former {

// The four pixels around a location, in the order (top left, top right, bottom left, bottom right).
template <typename T>
struct Corners {
  int32_t index[4];  // among the S positions; -1 for a pixel outside the image, which counts as zero
  T right, bottom;   // distance from the left and the upper pixels' centres, in [0, 1)
};

// Converts a location in [0, 1] to pixels; pixel centres lie at (i + 0.5) / size.
template <typename T>
MASK2FORMER_INLINE T to_pixels(T location, int32_t size) {
  return location * static_cast<T>(size) - static_cast<T>(0.5);
}

// Clamps a location. More than a pixel outside, it has no neighbours inside wherever it is, and clamping it to the edge
// of that zone keeps the conversion to int32 defined for any number, infinities and NaN included.
template <typename T>
MASK2FORMER_INLINE T brought_near(T pixel, int32_t size) {
  const T low = static_cast<T>(-2), high = static_cast<T>(size) + static_cast<T>(1);
  pixel = pixel > low ? pixel : low;  // NaN, which compares with nothing, becomes `low`
  return pixel < high ? pixel : high;
}

// Finds the corners around a location in pixels, counted from the centre of the first pixel.
template <typename T>
MASK2FORMER_INLINE Corners<T> corners_of(T x, T y, int32_t height, int32_t width, int32_t start) {
  const T column = brought_near(x, width), row = brought_near(y, height);
  // floor() by hand: it needs no instruction that the oldest x86-64 lacks, so that the loop vectorises there too.
  int32_t left = static_cast<int32_t>(column), top = static_cast<int32_t>(row);
  left -= column < static_cast<T>(left) ? 1 : 0;
  top -= row < static_cast<T>(top) ? 1 : 0;
  const bool left_in = (left >= 0) & (left < width), right_in = (left >= -1) & (left < width - 1);
  const bool top_in = (top >= 0) & (top < height), bottom_in = (top >= -1) & (top < height - 1);
  const int32_t first = start + top * width + left;  // cannot overflow: S is below 2^28
  Corners<T> corners;
  corners.index[0] = top_in & left_in ? first : -1;
  corners.index[1] = top_in & right_in ? first + 1 : -1;
  corners.index[2] = bottom_in & left_in ? first + width : -1;
  corners.index[3] = bottom_in & right_in ? first + width + 1 : -1;
  corners.right = column - static_cast<T>(left);
  corners.bottom = row - static_cast<T>(top);
  return corners;
}

}  // namespace mask2former
