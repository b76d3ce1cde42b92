// Positions and weights of the samples of a block of rows, for each operator, and the pixels around them. Part of
// cpu_kernels.h: included once for each instruction set.

// Fills in the level of every sample in the working memory; all rows have the same.
template <typename T>
inline void repeat_levels(const Level* levels, int64_t count, int64_t points, const Scratch<T>& s) {
  for (int64_t i = 0; i < s.capacity; ++i) {
    const Level& level = levels[i % (count * points) / points];
    s.height[i] = level.height;
    s.width[i] = level.width;
    s.start[i] = level.start;
  }
}

template <typename T>
inline void plan_samples(const ClassicJob<T>& job, const Block& block, const Scratch<T>& s) {
  const int64_t samples = job.sizes.samples(), of_row = block.levels * job.sizes.points;
  const bool all = of_row == samples && block.step == 1;  // then rows follow each other without a gap
  const int64_t rows = all ? 1 : block.rows, count = all ? block.rows * of_row : of_row;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t from = (block.first + r * block.step) * samples + block.first_level * job.sizes.points;
    const T *locations = job.locations + 2 * from, *weights = job.weights + from;
    const int32_t *width = s.width + r * count, *height = s.height + r * count;
    T *__restrict column = s.column + r * count, *__restrict row = s.row + r * count;
    T* __restrict attention = s.attention + r * count;
    for (int64_t i = 0; i < count; ++i) {
      column[i] = to_pixels(locations[2 * i], width[i]);
      row[i] = to_pixels(locations[2 * i + 1], height[i]);
      attention[i] = weights[i];
    }
  }
}

// Computes s.softmax[j, r], the j-th weight of the block's r-th row. Each lane of a vector holds a row, so that nothing
// is summed or compared across lanes; lanes without a row compute with zeros.
template <typename T, typename R>
inline void plan_softmax(const FusedJob<T, R>& job, const Block& block, const Scratch<T>& s) {
  const int64_t samples = job.sizes.samples();
  T* __restrict x = s.softmax;
  for (int64_t r = 0; r < ROWS; ++r) {
    if (r < block.rows) {
      const R* from = job.logits + (block.first + r * block.step) * samples;
      for (int64_t j = 0; j < samples; ++j) x[j * ROWS + r] = widen(from[j]);
    } else {
      for (int64_t j = 0; j < samples; ++j) x[j * ROWS + r] = 0;
    }
  }
  T peak[ROWS], total[ROWS];
  for (int64_t r = 0; r < ROWS; ++r) {
    peak[r] = x[r];
    total[r] = 0;
  }
  for (int64_t j = 1; j < samples; ++j) {
    for (int64_t r = 0; r < ROWS; ++r) peak[r] = x[j * ROWS + r] > peak[r] ? x[j * ROWS + r] : peak[r];
  }
  for (int64_t j = 0; j < samples; ++j) {
    for (int64_t r = 0; r < ROWS; ++r) {
      const T power = exp_of_negative(x[j * ROWS + r] - peak[r]);
      x[j * ROWS + r] = power;
      total[r] += power;
    }
  }
  for (int64_t r = 0; r < ROWS; ++r) total[r] = 1 / total[r];
  for (int64_t j = 0; j < samples; ++j) {
    for (int64_t r = 0; r < ROWS; ++r) x[j * ROWS + r] *= total[r];
  }
}

template <typename T, typename R>
inline void plan_samples(const FusedJob<T, R>& job, const Block& block, const Scratch<T>& s) {
  const Sizes& n = job.sizes;
  const int64_t of_row = block.levels * n.points, *strides = job.reference_strides.step;
  plan_softmax(job, block, s);
  for (int64_t r = 0; r < block.rows; ++r) {
    const int64_t row = block.first + r * block.step, query = row / n.heads;
    const T* reference = job.references + query / n.queries * strides[0] + query % n.queries * strides[1];
    const R* offsets = job.offsets + (row * n.samples() + block.first_level * n.points) * 2;
    const T* weights = s.softmax + block.first_level * n.points * ROWS + r;
    for (int64_t l = 0, i = r * of_row; l < block.levels; ++l) {
      const T* at = reference + (block.first_level + l) * strides[2];
      // Offsets are in pixels. Adding them here, not to the location, saves a division and its rounding.
      const T x = to_pixels(at[0], s.width[i]), y = to_pixels(at[strides[3]], s.height[i]);
      for (int64_t p = 0; p < n.points; ++p, ++i, offsets += 2, weights += ROWS) {
        s.column[i] = x + widen(offsets[0]);
        s.row[i] = y + widen(offsets[1]);
        s.attention[i] = *weights;
      }
    }
  }
}

// Computes the pixels around `count` samples, and their weights.
template <typename T>
inline void plan_corners(int64_t count, const Scratch<T>& s) {
  const int64_t n = s.capacity;
  int32_t *__restrict i0 = s.index, *__restrict i1 = i0 + n, *__restrict i2 = i1 + n, *__restrict i3 = i2 + n;
  T *__restrict w0 = s.weight, *__restrict w1 = w0 + n, *__restrict w2 = w1 + n, *__restrict w3 = w2 + n;
  T *__restrict right = s.right, *__restrict bottom = s.bottom;
  const int32_t *__restrict height = s.height, *__restrict width = s.width, *__restrict start = s.start;
  const T *__restrict column = s.column, *__restrict row = s.row, *__restrict attention = s.attention;
  for (int64_t i = 0; i < count; ++i) {
    const Corners<T> at = corners_of(column[i], row[i], height[i], width[i], start[i]);
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

