// Vectors of W floats (GCC/Clang vector extensions), and functions on them that the scan needs.
#pragma once

#include <stdint.h>
#include <string.h>

#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

#define INLINE static inline __attribute__((always_inline))
#define RESTRICT __restrict__
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef float vf_unaligned __attribute__((vector_size(4 * W), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W), aligned(2)));
typedef std::make_integer_sequence<int, W> Lanes;

// x - 0 folds to a plain broadcast; x + 0 does not, because of -0.
INLINE vf splat(float x) { return x - vf{}; }
// If an operand is NaN, both return the second one.
#if defined(__AVX2__) && !defined(__AVX512F__)
INLINE vf greater(vf x, vf y) { return (vf)_mm256_max_ps((__m256)x, (__m256)y); }
INLINE vf smaller(vf x, vf y) { return (vf)_mm256_min_ps((__m256)x, (__m256)y); }
#else
INLINE vf greater(vf x, vf y) { return x > y ? x : y; }
INLINE vf smaller(vf x, vf y) { return x < y ? x : y; }
#endif
INLINE vf magnitude(vf x) { return (vf)((vu)x & (vu{} + 0x7fffffffu)); }

// The functions below process K vectors together, interleaved: a single chain of dependent
// operations would leave the processor waiting.

// 2^(x y), relative error 1e-7, for x y from -126 to 127, or any if CLAMP. The constant term is
// exactly 1, so that 2^0 == 1: an error there would repeat at every step of a long sequence.
template <bool CLAMP, int K>
INLINE void exp2_products(const vf *x, const vf *y, vf *power) {
  constexpr float POLYNOMIAL[] = {0.009671512991189957f, 0.05550733581185341f,
                                  0.24022242426872253f, 0.6931470036506653f, 1.0f};
  vf whole[K], fraction[K];
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  UNROLL for (int k = 0; k < K; k++) {
    const vf exponent = x[k] * y[k];
    fraction[k] = (vf)_mm512_reduce_ps((__m512)exponent, 0x08);  // exponent - round(exponent)
    whole[k] = exponent - fraction[k];
  }
#else
  const vf shift = splat(12582912.f);  // 1.5 * 2^23: the integer part lands in the low bits
  if (CLAMP) {
    vf exponent[K];
    UNROLL for (int k = 0; k < K; k++)
      exponent[k] = smaller(splat(127.f), greater(splat(-126.f), x[k] * y[k]));
    UNROLL for (int k = 0; k < K; k++) whole[k] = exponent[k] + shift;
    UNROLL for (int k = 0; k < K; k++) fraction[k] = exponent[k] - (whole[k] - shift);
  } else {
    UNROLL for (int k = 0; k < K; k++) whole[k] = x[k] * y[k] + shift;
    UNROLL for (int k = 0; k < K; k++) fraction[k] = x[k] * y[k] - (whole[k] - shift);
  }
#endif
  vf p[K];
  UNROLL for (int k = 0; k < K; k++) p[k] = splat(0.001326472731307149f);
  UNROLL for (int i = 0; i < 5; i++) {
    UNROLL for (int k = 0; k < K; k++) p[k] = p[k] * fraction[k] + splat(POLYNOMIAL[i]);
  }
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  UNROLL for (int k = 0; k < K; k++)
    power[k] = (vf)_mm512_scalef_ps((__m512)p[k], (__m512)whole[k]);
#else
  UNROLL for (int k = 0; k < K; k++) power[k] = (vf)((vu)p[k] + ((vu)whole[k] << 23));
#endif
}

// Return whether products of vectors with these largest magnitudes need no CLAMP, except for NaNs.
INLINE bool within_range([[maybe_unused]] vf x, [[maybe_unused]] vf y) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return true;  // the instructions clamp
#else
  bool within = true;
  for (int i = 0; i < W; i++) within &= x[i] * y[i] <= 126.f;
  return within;
#endif
}

constexpr float LOG2E = 1.44269504088896340736f;
template <int K>
INLINE void exp_(const vf *x, vf *power) {
  vf log2e[K];
  UNROLL for (int k = 0; k < K; k++) log2e[k] = splat(LOG2E);
  exp2_products<true, K>(x, log2e, power);
}

// log(1 + e) for e in [0, 1], relative error 3e-8.
template <int K>
INLINE void log1p_unit(const vf *e, vf *log) {
  constexpr float POLYNOMIAL[] = {-0.029505139216780663f, 0.07822577655315399f,
                                  -0.1366322934627533f,   0.19105999171733856f,
                                  -0.2484298050403595f,   0.3331909775733948f,
                                  -0.4999949336051941f,   1.0f};
  UNROLL for (int k = 0; k < K; k++) log[k] = splat(0.005232670344412327f);
  UNROLL for (int i = 0; i < 8; i++) {
    UNROLL for (int k = 0; k < K; k++) log[k] = log[k] * e[k] + splat(POLYNOMIAL[i]);
  }
  UNROLL for (int k = 0; k < K; k++) log[k] *= e[k];
}

// Replace x by softplus(x), and compute its derivative sigmoid(x).
template <int K>
INLINE void softplus_(vf *x, vf *slope) {
  vf e[K], log[K];
  UNROLL for (int k = 0; k < K; k++) e[k] = -magnitude(x[k]);
  exp_<K>(e, e);
  log1p_unit<K>(e, log);
  UNROLL for (int k = 0; k < K; k++) {
    const vf r = splat(1.f) / (splat(1.f) + e[k]);
    slope[k] = x[k] > splat(0.f) ? r : e[k] * r;
    x[k] = greater(vf{}, x[k]) + log[k];
  }
}

template <int K>
INLINE void sigmoid_(const vf *x, vf *sigma) {
  UNROLL for (int k = 0; k < K; k++) sigma[k] = -x[k];
  exp_<K>(sigma, sigma);
  UNROLL for (int k = 0; k < K; k++) sigma[k] = splat(1.f) / (splat(1.f) + sigma[k]);
}

// ---- shuffles --------------------------------------------------------------------------------

#if defined(__clang__)
#define SHUFFLE(a, b, index) __builtin_shufflevector(a, b, (index)...)
#else
#define SHUFFLE(a, b, index) __builtin_shuffle(a, b, vi{(index)...})
#endif

// In words of S lanes: the even words of a with the even words of b behind each, and the odd ones.
template <int S, int... K>
INLINE vf merge_even(vf a, vf b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, (K & S) ? W + (K ^ S) : K);
}
template <int S, int... K>
INLINE vf merge_odd(vf a, vf b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, (K & S) ? W + K : (K ^ S));
}
template <int S, int... K>
INLINE vf blend(vf a, vf b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, (K & S) ? W + K : K);
}
template <int S, int... K>
INLINE vf blend_swapped(vf a, vf b, std::integer_sequence<int, K...>) {
  return SHUFFLE(a, b, (K & S) ? W + (K ^ S) : (K ^ S));
}

// Transpose W vectors in registers.
template <int S = W / 2>
INLINE void transpose(vf *r) {
  UNROLL for (int i = 0; i < W; i++) {
    if (i & S) continue;
    const vf a = r[i], b = r[i | S];
    r[i] = merge_even<S>(a, b, Lanes());
    r[i | S] = merge_odd<S>(a, b, Lanes());
  }
  if constexpr (S > 1) transpose<S / 2>(r);
}

// Lane k of the result is the sum of the lanes of r[k * STRIDE].
template <int STRIDE, int S = W / 2>
INLINE vf lane_sums(const vf *r) {
  vf sums[S];
  UNROLL for (int i = 0; i < S; i++) {
    const vf a = r[i * STRIDE], b = r[(i + S) * STRIDE];
    sums[i] = blend<S>(a, b, Lanes()) + blend_swapped<S>(a, b, Lanes());
  }
  if constexpr (S > 1) return lane_sums<1, S / 2>(sums);
  return sums[0];
}

// ---- elements in memory: float or bfloat16 ---------------------------------------------------

struct bf16 {
  uint16_t bits;
};

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE vf load(const bf16 *p) { return (vf)(__builtin_convertvector(*(const vh *)p, vu) << 16); }
INLINE float load1(const float *p) { return *p; }
INLINE float load1(const bf16 *p) {
  const uint32_t x = (uint32_t)p->bits << 16;
  float f;
  memcpy(&f, &x, 4);
  return f;
}

INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE void store(bf16 *p, vf v) {
  const vu x = (vu)v;
  const vu rounded = (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const vu quiet = (x >> 16) | 0x40u;                         // rounding could carry a NaN to 0
  *(vh *)p = __builtin_convertvector(v == v ? rounded : quiet, vh);
}
// Store past the caches, if a vector is a whole cache line; p is aligned to one.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
INLINE void stream(float *p, vf v) { _mm512_stream_ps(p, (__m512)v); }
INLINE void end_streams() { _mm_sfence(); }
#else
INLINE void stream(float *p, vf v) { store(p, v); }
INLINE void end_streams() {}
#endif
INLINE void store1(float *p, float v) { *p = v; }
INLINE void store1(bf16 *p, float v) {
  uint32_t x;
  memcpy(&x, &v, 4);
  p->bits = (uint16_t)(v == v ? (x + 0x7fffu + ((x >> 16) & 1u)) >> 16 : (x >> 16) | 0x40u);
}
