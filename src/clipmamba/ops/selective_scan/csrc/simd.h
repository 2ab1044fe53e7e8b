// Vectors of W floats (GCC/Clang vector extensions) and the few functions the scan needs on them.
#pragma once

#include <stdint.h>
#include <string.h>

#include <utility>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
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
// The constant is the second choice of both, so that a NaN in `x` stays a NaN.
INLINE vf at_least(vf x, float low) { return splat(low) > x ? splat(low) : x; }
INLINE vf at_most(vf x, float high) { return splat(high) < x ? splat(high) : x; }
INLINE vf magnitude(vf x) { return (vf)((vu)x & (vu{} + 0x7fffffffu)); }

// 2^x, relative error 1e-7. The constant term is exactly 1, so that 2^0 == 1: an error there would
// repeat at every step of a long sequence.
INLINE vf exp2_(vf x) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const vf fraction = (vf)_mm512_reduce_ps((__m512)x, 0x08);  // x - round(x)
#else
  x = at_most(at_least(x, -126.f), 127.f);
  const vf shifted = x + splat(12582912.f);  // 1.5 * 2^23: the integer part lands in the low bits
  const vf fraction = x - (shifted - splat(12582912.f));
#endif
  vf p = splat(0.001326472731307149f) * fraction + splat(0.009671512991189957f);
  p = p * fraction + splat(0.05550733581185341f);
  p = p * fraction + splat(0.24022242426872253f);
  p = p * fraction + splat(0.6931470036506653f);
  p = p * fraction + splat(1.0f);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)(x - fraction));
#else
  return (vf)((vu)p + ((vu)shifted << 23));
#endif
}

constexpr float LOG2E = 1.44269504088896340736f;
INLINE vf exp_(vf x) { return exp2_(x * splat(LOG2E)); }

// log(1 + e) for e in [0, 1], relative error 3e-8.
INLINE vf log1p_unit(vf e) {
  vf p = splat(0.005232670344412327f) * e + splat(-0.029505139216780663f);
  p = p * e + splat(0.07822577655315399f);
  p = p * e + splat(-0.1366322934627533f);
  p = p * e + splat(0.19105999171733856f);
  p = p * e + splat(-0.2484298050403595f);
  p = p * e + splat(0.3331909775733948f);
  p = p * e + splat(-0.4999949336051941f);
  p = p * e + splat(1.0f);
  return p * e;
}

// softplus(x), and its derivative sigmoid(x) in *slope.
INLINE vf softplus_(vf x, vf *slope) {
  const vf e = exp_(-magnitude(x));
  const vf r = splat(1.f) / (splat(1.f) + e);
  *slope = x > splat(0.f) ? r : e * r;
  return at_least(x, 0.f) + log1p_unit(e);
}

INLINE vf sigmoid_(vf x) { return splat(1.f) / (splat(1.f) + exp_(-x)); }

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

// Lane k of the result is the sum of the lanes of r[k]; r is overwritten.
template <int S = W / 2>
INLINE vf lane_sums(vf *r) {
  UNROLL for (int i = 0; i < S; i++) r[i] =
      blend<S>(r[i], r[i + S], Lanes()) + blend_swapped<S>(r[i], r[i + S], Lanes());
  if constexpr (S > 1) return lane_sums<S / 2>(r);
  return r[0];
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
INLINE void store1(float *p, float v) { *p = v; }
INLINE void store1(bf16 *p, float v) {
  uint32_t x;
  memcpy(&x, &v, 4);
  p->bits = (uint16_t)(v == v ? (x + 0x7fffu + ((x >> 16) & 1u)) >> 16 : (x >> 16) | 0x40u);
}
