// The CPU kernels. Included once for each instruction set, so there is no include guard: ms_deform_attn_cpu.cpp sets
// MASK2FORMER_VARIANT (the namespace) and MASK2FORMER_VECTOR_BYTES (0: no vector types) and the compiler's target.
//
// Nothing here may call a function template of another header that could be compiled out of line: the linker keeps one
// copy of it, and that might be the one with instructions that the machine lacks. Hence raw pointers and memcpy.

namespace mask2former {
namespace MASK2FORMER_VARIANT {

#if MASK2FORMER_VECTOR_BYTES
template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(MASK2FORMER_VECTOR_BYTES)));
  static constexpr int LANES = MASK2FORMER_VECTOR_BYTES / sizeof(T);
};
#else
template <typename T>
struct VectorOf {
  typedef T type;
  static constexpr int LANES = 1;
};
#endif

template <typename V, typename T>
MASK2FORMER_INLINE V load(const T* from) {
  V vector;
  std::memcpy(&vector, from, sizeof(V));
  return vector;
}

template <typename V, typename T>
MASK2FORMER_INLINE void store(T* to, V vector) {
  std::memcpy(to, &vector, sizeof(V));
}

// Sums of neighbouring lanes: first those of `a`, then those of `b`.
template <typename V, typename T>
MASK2FORMER_INLINE V pair_sums(V a, V b) {
  constexpr int LANES = sizeof(V) / sizeof(T);
  if constexpr (LANES == 2) {
    return MASK2FORMER_SHUFFLE(T, a, b, 0, 2) + MASK2FORMER_SHUFFLE(T, a, b, 1, 3);
  } else if constexpr (LANES == 4) {
    return MASK2FORMER_SHUFFLE(T, a, b, 0, 2, 4, 6) + MASK2FORMER_SHUFFLE(T, a, b, 1, 3, 5, 7);
  } else if constexpr (LANES == 8) {
    return MASK2FORMER_SHUFFLE(T, a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
        MASK2FORMER_SHUFFLE(T, a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  } else {
    return MASK2FORMER_SHUFFLE(T, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
        MASK2FORMER_SHUFFLE(T, a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  }
}

// Lane i of the result is the sum of all lanes of the i-th of N vectors; N is the number of lanes at the outermost call.
template <typename V, typename T, int N>
MASK2FORMER_INLINE V lane_sums(const T* vectors) {
  if constexpr (N == 1) {
    return load<V>(vectors);
  } else {
    constexpr int HALF = N / 2 * (sizeof(V) / sizeof(T));
    return pair_sums<V, T>(lane_sums<V, T, N / 2>(vectors), lane_sums<V, T, N / 2>(vectors + HALF));
  }
}

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
        // In this order the long chain of dependent additions has one link a sample, not four.
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

// Corners and weights of `count` samples, whose levels stand in the scratch memory.
template <typename T>
inline void plan(const T* locations, const T* attention, int64_t count, const Scratch<T>& s) {
  const int64_t n = s.capacity;
  int32_t *__restrict i0 = s.index, *__restrict i1 = i0 + n, *__restrict i2 = i1 + n, *__restrict i3 = i2 + n;
  T *__restrict w0 = s.weight, *__restrict w1 = w0 + n, *__restrict w2 = w1 + n, *__restrict w3 = w2 + n;
  T *__restrict right = s.right, *__restrict bottom = s.bottom;
  const int32_t *__restrict height = s.height, *__restrict width = s.width, *__restrict start = s.start;
  for (int64_t i = 0; i < count; ++i) {
    const Corners<T> at = corners_of(locations[2 * i], locations[2 * i + 1], height[i], width[i], start[i]);
    const T low = at.bottom * attention[i], high = attention[i] - low;
    i0[i] = at.index[0];
    i1[i] = at.index[1];
    i2[i] = at.index[2];
    i3[i] = at.index[3];
    w1[i] = high * at.right;
    w0[i] = high - w1[i];
    w3[i] = low * at.right;
    w2[i] = low - w3[i];
    right[i] = at.right;
    bottom[i] = at.bottom;
  }
}

// Queries begin to end, of all batches' B * Q.
template <typename T>
inline void forward_variant(const Job<T>& job, const Scratch<T>& s, int64_t begin, int64_t end) {
  using V = typename VectorOf<T>::type;
  constexpr int64_t LANES = VectorOf<T>::LANES;
  const Sizes& n = job.sizes;
  const int64_t samples = n.samples(), of_query = n.heads * samples, stride = n.heads * n.channels;
  for (int64_t i = 0; i < of_query; ++i) {
    const Level& level = job.levels[i % samples / n.points];
    s.height[i] = level.height;
    s.width[i] = level.width;
    s.start[i] = level.start;
  }
  for (int64_t query = begin; query < end; ++query) {
    plan(job.locations + query * of_query * 2, job.weights + query * of_query, of_query, s);
    for (int64_t head = 0; head < n.heads; ++head) {
      const T* value = job.value + query / n.queries * n.positions * stride + head * n.channels;
      T* out = job.output + (query * n.heads + head) * n.channels;
      const int64_t first = head * samples, last = first + samples;
      int64_t c = 0;
      for (; c + 4 * LANES <= n.channels; c += 4 * LANES) gather<T, V, 4>(value + c, stride, s, first, last, out + c);
      for (; c + 2 * LANES <= n.channels; c += 2 * LANES) gather<T, V, 2>(value + c, stride, s, first, last, out + c);
      for (; c + LANES <= n.channels; c += LANES) gather<T, V, 1>(value + c, stride, s, first, last, out + c);
      for (; c < n.channels; ++c) gather<T, T, 1>(value + c, stride, s, first, last, out + c);
    }
  }
}

// For samples first to last, all of one query: grad_value += weight * grad, and partial (+)= grad * value, lane by lane.
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

// Dots of one query's samples with all channels of a head.
template <typename T>
inline void query_backward(
    const T* grad, const T* value, T* grad_value, int64_t stride, int64_t channels, const Scratch<T>& s, int64_t first,
    int64_t last) {
  using V = typename VectorOf<T>::type;
  constexpr int64_t LANES = VectorOf<T>::LANES;
  const int64_t dots = 4 * (last - first), groups = (dots + LANES - 1) / LANES;
  if (channels < LANES) {  // the lanes that nothing is stored to
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
  // The last group may end in what an earlier query left behind; its sums are not read.
  for (int64_t i = 0; i < groups; ++i)
    store(s.dot + first * 4 + i * LANES, lane_sums<V, T, LANES>(s.partial + i * LANES * LANES));
}

// Tasks begin to end, of all B * H * L. What they write is disjoint: of grad_value a head's share of one level, of the
// others a head's and a level's. So no sum depends on the number of threads, and nothing has to be locked.
template <typename T>
inline void backward_variant(const Job<T>& job, const Scratch<T>& s, int64_t begin, int64_t end) {
  const Sizes& n = job.sizes;
  const int64_t stride = n.heads * n.channels, samples = n.samples();
  for (int64_t task = begin; task < end; ++task) {
    const int64_t batch = task / (n.heads * n.levels), head = task / n.levels % n.heads;
    const int64_t level_index = task % n.levels;
    const Level& level = job.levels[level_index];
    const int64_t offset = batch * n.positions * stride + head * n.channels;
    const T height = static_cast<T>(level.height), width = static_cast<T>(level.width);
    for (int64_t i = 0; i < s.capacity; ++i) {
      s.height[i] = level.height;
      s.width[i] = level.width;
      s.start[i] = level.start;
    }
    for (int64_t q = 0; q < n.queries; q += QUERY_BLOCK) {
      const int64_t queries = n.queries - q < QUERY_BLOCK ? n.queries - q : QUERY_BLOCK, count = queries * n.points;
      const int64_t first_row = (batch * n.queries + q) * n.heads + head;  // of [B, Q, H]
      for (int64_t j = 0; j < queries; ++j) {
        const int64_t from = (first_row + j * n.heads) * samples + level_index * n.points;
        for (int64_t p = 0; p < n.points; ++p) {
          s.location[2 * (j * n.points + p)] = job.locations[2 * (from + p)];
          s.location[2 * (j * n.points + p) + 1] = job.locations[2 * (from + p) + 1];
          s.attention[j * n.points + p] = job.weights[from + p];
        }
      }
      plan(s.location, s.attention, count, s);
      for (int64_t j = 0; j < queries; ++j) {
        const T* grad = job.grad_output + (first_row + j * n.heads) * n.channels;
        query_backward(
            grad, job.value + offset, job.grad_value + offset, stride, n.channels, s, j * n.points,
            (j + 1) * n.points);
      }
      for (int64_t j = 0; j < queries; ++j) {
        const int64_t to = (first_row + j * n.heads) * samples + level_index * n.points;
        for (int64_t p = 0; p < n.points; ++p) {
          const int64_t i = j * n.points + p;
          const T *dot = s.dot + 4 * i, right = s.right[i], bottom = s.bottom[i];
          const T upper = dot[0] + right * (dot[1] - dot[0]), lower = dot[2] + right * (dot[3] - dot[2]);
          job.grad_weights[to + p] = upper + bottom * (lower - upper);
          job.grad_locations[2 * (to + p)] =
              s.attention[i] * width * ((1 - bottom) * (dot[1] - dot[0]) + bottom * (dot[3] - dot[2]));
          job.grad_locations[2 * (to + p) + 1] = s.attention[i] * height * (lower - upper);
        }
      }
    }
  }
}

inline void forward(const Job<float>& job, const Scratch<float>& s, int64_t b, int64_t e) { forward_variant(job, s, b, e); }
inline void forward(const Job<double>& job, const Scratch<double>& s, int64_t b, int64_t e) { forward_variant(job, s, b, e); }
inline void backward(const Job<float>& job, const Scratch<float>& s, int64_t b, int64_t e) { backward_variant(job, s, b, e); }
inline void backward(const Job<double>& job, const Scratch<double>& s, int64_t b, int64_t e) { backward_variant(job, s, b, e); }

}  // namespace MASK2FORMER_VARIANT
}  // namespace mask2former
