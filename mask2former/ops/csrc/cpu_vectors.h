// Vectors, half formats and the exponential function. Part of cpu_kernels.h: included once for each instruction set.

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

// Adds neighbouring lanes: first those of `a`, then those of `b`.
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

template <typename To, typename From>
MASK2FORMER_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

MASK2FORMER_INLINE float widen(float x) { return x; }
MASK2FORMER_INLINE double widen(double x) { return x; }
MASK2FORMER_INLINE float widen(BFloat16Bits x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }

// The exponent's bias is 15 in float16 and 127 in float32; multiplying by 2^112 corrects it, also in subnormal numbers.
MASK2FORMER_INLINE float widen(Float16Bits x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t finite = bits_as<uint32_t>(bits_as<float>(magnitude) * 0x1p112f);
  return bits_as<float>(sign | (magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : finite));
}

MASK2FORMER_INLINE void narrow(float x, float& to) { to = x; }
MASK2FORMER_INLINE void narrow(double x, double& to) { to = x; }

// Rounds to nearest, ties to even, which the bits cut off and the last bit kept decide together.
MASK2FORMER_INLINE void narrow(float x, BFloat16Bits& to) {
  const uint32_t bits = bits_as<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0);
}

MASK2FORMER_INLINE void narrow(float x, Float16Bits& to) {
  const uint32_t bits = bits_as<uint32_t>(x), magnitude = bits & 0x7fffffff;
  const uint32_t normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  // Below 2^-14 float16 has steps of 2^-24, which are those of float32 just above a half: adding a half rounds.
  const uint32_t small = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - bits_as<uint32_t>(0.5f);
  uint32_t result = magnitude < (113u << 23) ? small : normal;
  result = magnitude >= 0x477ff000 ? 0x7c00 : result;  // 65520 and more: infinity
  result = magnitude > 0x7f800000 ? 0x7e00 : result;
  to.bits = static_cast<uint16_t>(((bits >> 16) & 0x8000) | result);
}

template <typename T>
struct Exponential;
template <>
struct Exponential<float> {
  using Bits = int32_t;
  static constexpr int TERMS = 7, MANTISSA = 23;
  static constexpr float LOWEST = -87.0f;
  static constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.1219444005469058e-4f;  // the first has 9 bits
};
template <>
struct Exponential<double> {
  using Bits = int64_t;
  static constexpr int TERMS = 13, MANTISSA = 52;
  static constexpr double LOWEST = -708.0;
  static constexpr double LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;  // the first has 32 bits
};

// e^x for x <= 0 to less than 2 ulp, without a branch, so that loops over it vectorise; 0 below LOWEST, where float32
// (float64) ends as a normal number. NaN stays NaN.
// x = n ln 2 + r with a whole n and |r| <= ln 2 / 2; Taylor's series of e^r ends below half an ulp.
template <typename T>
MASK2FORMER_INLINE T exp_of_negative(T x) {
  using E = Exponential<T>;
  using Bits = typename E::Bits;
  // Adding 1.5 * 2^MANTISSA rounds to a whole number, which is then in the lowest bits.
  constexpr T ROUND = static_cast<T>(Bits{3} << (E::MANTISSA - 1));
  const T near = x < E::LOWEST ? E::LOWEST : x;
  const T shifted = near * static_cast<T>(1.4426950408889634) + ROUND, n = shifted - ROUND;
  const T r = (near - n * E::LN2_HIGH) - n * E::LN2_LOW;
  T factorial = 1;
  T inverse[E::TERMS + 1];
  for (int k = 0; k <= E::TERMS; ++k) {
    inverse[k] = 1 / factorial;
    factorial *= static_cast<T>(k + 1);
  }
  T sum = inverse[E::TERMS];
  for (int k = E::TERMS - 1; k >= 0; --k) sum = sum * r + inverse[k];
  constexpr Bits BIAS = (Bits{1} << (8 * sizeof(T) - E::MANTISSA - 2)) - 1;
  const Bits power = bits_as<Bits>(shifted) - bits_as<Bits>(ROUND) + BIAS;
  const T scale = bits_as<T>(static_cast<Bits>(static_cast<typename std::make_unsigned<Bits>::type>(power) << E::MANTISSA));
  return x < E::LOWEST ? T(0) : sum * scale;
}

