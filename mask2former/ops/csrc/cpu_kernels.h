// The CPU kernels. Included by the file of each instruction set, after cpu_entries.h, with MASK2FORMER_VARIANT (the
// namespace), MASK2FORMER_VECTOR_BYTES (0: no vector types) and the compiler's target set. Three files are compiled at a
// time where there are as many cores.
//
// Nothing here may call a function template of another header that could be compiled out of line: the linker keeps only
// one copy, which might use instructions that the machine lacks. Hence raw pointers and memcpy.

namespace mask2former {
namespace MASK2FORMER_VARIANT {

#include "cpu_vectors.h"

#include "cpu_plan.h"

// out[0 : K vectors] = sum over samples and corners of weight * value.
template <typename T, typename V, int K>
inline void gather(
    const T* value, int64_t stride, const Scratch<T>& s, int64_t first, int64_t last, T* out) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  const int64_t n = s.capacity;
  V sum[K] = {};
  for (int64_t i = first; i < last; ++i) {
    const int32_t index[4] = {s.index[i], s.index[n + i], s.index[2 * n + i], s.index[3 * n + i]};
    const T weight[4] = {s.weight[i], s.weight[n + i], s.weight[2 * n + i], s.weight[3 * n + i]};
    if ((index[0] | index[1] | index[2] | index[3]) >= 0) {
      const T *v0 = value + index[0] * stride, *v1 = value + index[1] * stride;
      const T *v2 = value + index[2] * stride, *v3 = value + index[3] * stride;
      for (int k = 0; k < K; ++k) {
        const int c = k * LANES;
        // In this order the chain of dependent additions has one link per sample, not four.
        sum[k] += (weight[0] * load<V>(v0 + c) + weight[1] * load<V>(v1 + c)) +
            (weight[2] * load<V>(v2 + c) + weight[3] * load<V>(v3 + c));
      }
    } else {
      for (int corner = 0; corner < 4; ++corner) {
        if (index[corner] < 0) continue;
        const T* v = value + index[corner] * stride;
        for (int k = 0; k < K; ++k) sum[k] += weight[corner] * load<V>(v + k * LANES);
      }
    }
  }
  for (int k = 0; k < K; ++k) store(out + k * LANES, sum[k]);
}

// Computes blocks begin to end, of ROWS rows each. Where a block begins does not depend on the number of threads, so
// the results do not either.
template <typename J>
inline void forward_variant(const J& job, const Scratch<typename J::Number>& s, int64_t begin, int64_t end) {
  using T = typename J::Number;
  using R = typename J::Raw;
  using V = typename VectorOf<T>::type;
  constexpr int64_t LANES = VectorOf<T>::LANES;
  const Sizes& n = job.sizes;
  const int64_t samples = n.samples(), stride = n.heads * n.channels, rows = n.batch * n.queries * n.heads;
  repeat_levels(job.levels, n.levels, n.points, s);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * ROWS, count = rows - first < ROWS ? rows - first : ROWS;
    plan_samples(job, Block{first, 1, count, 0, n.levels}, s);
    plan_corners(count * samples, s);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = first + r, batch = row / (n.queries * n.heads), head = row % n.heads;
      const T* value = job.value + batch * n.positions * stride + head * n.channels;
      R* to = job.output + row * n.channels;
      T* out = s.channels;
      if constexpr (std::is_same_v<R, T>) out = to;
      const int64_t from = r * samples, until = from + samples;
      int64_t c = 0;
      for (; c + 4 * LANES <= n.channels; c += 4 * LANES) gather<T, V, 4>(value + c, stride, s, from, until, out + c);
      for (; c + 2 * LANES <= n.channels; c += 2 * LANES) gather<T, V, 2>(value + c, stride, s, from, until, out + c);
      for (; c + LANES <= n.channels; c += LANES) gather<T, V, 1>(value + c, stride, s, from, until, out + c);
      for (; c < n.channels; ++c) gather<T, T, 1>(value + c, stride, s, from, until, out + c);
      if constexpr (!std::is_same_v<R, T>) {
        for (c = 0; c < n.channels; ++c) narrow(out[c], to[c]);
      }
    }
  }
}

// For samples first to last, all of one row: grad_value += weight * grad, and partial (+)= grad * value, lane by lane.
template <typename T, typename V, int K>
inline void scatter(
    const T* grad, const T* value, T* grad_value, int64_t stride, const Scratch<T>& s, int64_t first, int64_t last,
    bool add_to_partial) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  V g[K];
  for (int k = 0; k < K; ++k) g[k] = load<V>(grad + k * LANES);
  T* partial = s.partial;
  for (int64_t i = first; i < last; ++i) {
    for (int corner = 0; corner < 4; ++corner, partial += VectorOf<T>::LANES) {
      const int32_t index = s.index[corner * s.capacity + i];
      V dot = {};
      if (index >= 0) {
        const T weight = s.weight[corner * s.capacity + i];
        const T* from = value + index * stride;
        T* to = grad_value + index * stride;
        for (int k = 0; k < K; ++k) {
          const int c = k * LANES;
          dot += g[k] * load<V>(from + c);
          store(to + c, load<V>(to + c) + weight * g[k]);
        }
      }
      store(partial, add_to_partial ? load<V>(partial) + dot : dot);
    }
  }
}

// Computes the dots of one row's samples over all channels of a head.
template <typename T>
inline void row_backward(
    const T* grad, const T* value, T* grad_value, int64_t stride, int64_t channels, const Scratch<T>& s, int64_t first,
    int64_t last) {
  using V = typename VectorOf<T>::type;
  constexpr int64_t LANES = VectorOf<T>::LANES;
  const int64_t dots = 4 * (last - first), groups = (dots + LANES - 1) / LANES;
  if (channels < LANES) {  // no loop below stores to the other lanes
    for (int64_t i = 0; i < dots * LANES; ++i) s.partial[i] = 0;
  }
  int64_t c = 0;
  for (; c + 4 * LANES <= channels; c += 4 * LANES)
    scatter<T, V, 4>(grad + c, value + c, grad_value + c, stride, s, first, last, c > 0);
  for (; c + 2 * LANES <= channels; c += 2 * LANES)
    scatter<T, V, 2>(grad + c, value + c, grad_value + c, stride, s, first, last, c > 0);
  for (; c + LANES <= channels; c += LANES)
    scatter<T, V, 1>(grad + c, value + c, grad_value + c, stride, s, first, last, c > 0);
  for (; c < channels; ++c) scatter<T, T, 1>(grad + c, value + c, grad_value + c, stride, s, first, last, c > 0);
  // The last group may end in data of an earlier row, whose sums are not read.
  for (int64_t i = 0; i < groups; ++i)
    store(s.dot + first * 4 + i * LANES, lane_sums<V, T, LANES>(s.partial + i * LANES * LANES));
}

// Stores the gradients of sample i's weight and position (in pixels); `to` is its index in [B, Q, H, L, P].
template <typename T>
MASK2FORMER_INLINE void keep_gradients(
    const ClassicJob<T>& job, const Scratch<T>& s, int64_t i, int64_t to, T weight, T column, T row) {
  job.grad_weights[to] = weight;
  job.grad_locations[2 * to] = static_cast<T>(s.width[i]) * column;
  job.grad_locations[2 * to + 1] = static_cast<T>(s.height[i]) * row;
}

template <typename T, typename R>
MASK2FORMER_INLINE void keep_gradients(
    const FusedJob<T, R>& job, const Scratch<T>&, int64_t, int64_t to, T weight, T column, T row) {
  job.grad_weights[to] = weight;
  narrow(column, job.grad_offsets[2 * to]);
  narrow(row, job.grad_offsets[2 * to + 1]);
}

// Runs tasks begin to end, of B * H * L. They write to disjoint memory: in all gradients, the part of one head and one
// level. So no sum depends on the number of threads, and nothing needs a lock.
template <typename J>
inline void backward_variant(const J& job, const Scratch<typename J::Number>& s, int64_t begin, int64_t end) {
  using T = typename J::Number;
  using R = typename J::Raw;
  const Sizes& n = job.sizes;
  const int64_t stride = n.heads * n.channels, samples = n.samples();
  for (int64_t task = begin; task < end; ++task) {
    const int64_t batch = task / (n.heads * n.levels), head = task / n.levels % n.heads, level = task % n.levels;
    const int64_t offset = batch * n.positions * stride + head * n.channels;
    repeat_levels(job.levels + level, 1, n.points, s);
    for (int64_t q = 0; q < n.queries; q += ROWS) {
      const int64_t rows = n.queries - q < ROWS ? n.queries - q : ROWS;
      const int64_t first = (batch * n.queries + q) * n.heads + head;
      plan_samples(job, Block{first, n.heads, rows, level, 1}, s);
      plan_corners(rows * n.points, s);
      for (int64_t r = 0; r < rows; ++r) {
        const R* raw = job.grad_output + (first + r * n.heads) * n.channels;
        const T* grad = s.channels;
        if constexpr (std::is_same_v<R, T>) {
          grad = raw;
        } else {
          for (int64_t c = 0; c < n.channels; ++c) s.channels[c] = widen(raw[c]);
        }
        row_backward(
            grad, job.value + offset, job.grad_value + offset, stride, n.channels, s, r * n.points,
            (r + 1) * n.points);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t to = (first + r * n.heads) * samples + level * n.points;
        for (int64_t p = 0; p < n.points; ++p) {
          const int64_t i = r * n.points + p;
          const T *dot = s.dot + 4 * i, right = s.right[i], bottom = s.bottom[i];
          const T upper = dot[0] + right * (dot[1] - dot[0]), lower = dot[2] + right * (dot[3] - dot[2]);
          const T along_row = (1 - bottom) * (dot[1] - dot[0]) + bottom * (dot[3] - dot[2]);
          keep_gradients<T>(
              job, s, i, to + p, upper + bottom * (lower - upper), s.attention[i] * along_row,
              s.attention[i] * (lower - upper));
        }
      }
    }
  }
}

// Computes gradients of the logits from those of the weights of all levels: weight * (its gradient - their weighted
// mean). Blocks as in forward_variant.
template <typename T, typename R>
inline void softmax_backward_variant(const FusedJob<T, R>& job, const Scratch<T>& s, int64_t begin, int64_t end) {
  const Sizes& n = job.sizes;
  const int64_t samples = n.samples(), rows = n.batch * n.queries * n.heads;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * ROWS, count = rows - first < ROWS ? rows - first : ROWS;
    plan_softmax(job, Block{first, 1, count, 0, n.levels}, s);
    for (int64_t r = 0; r < count; ++r) {
      const T *weight = s.softmax + r, *grad = job.grad_weights + (first + r) * samples;
      R* to = job.grad_logits + (first + r) * samples;
      T mean = 0;
      for (int64_t j = 0; j < samples; ++j) mean += weight[j * ROWS] * grad[j];
      for (int64_t j = 0; j < samples; ++j) narrow(weight[j * ROWS] * (grad[j] - mean), to[j]);
    }
  }
}

#define MASK2FORMER_ENTRY(name, Job)                                                        \
  void name(const Job& job, const Scratch<Job::Number>& s, int64_t begin, int64_t end) {    \
    name##_variant(job, s, begin, end);                                                     \
  }
MASK2FORMER_ENTRIES(MASK2FORMER_ENTRY)
#undef MASK2FORMER_ENTRY

}  // namespace MASK2FORMER_VARIANT
}  // namespace mask2former
