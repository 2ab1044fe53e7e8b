// The gradients of a task's channels in one direction.
#pragma once

#include "walk.h"

// Recompute a chunk forward for K states, keeping a_t = exp(delta_t A) and every state: h[t] is the
// state before step t.
template <int K, bool CLAMP, bool NEEDS_Y>
INLINE void recompute_states(Steps B, Steps C, int64_t n, int nt, const vf *RESTRICT A2,
                             const vf *RESTRICT start, const vf *RESTRICT delta,
                             const vf *RESTRICT x, vf *RESTRICT y, vf *RESTRICT h, vf *RESTRICT a) {
  const float *RESTRICT b = B.state(n), *RESTRICT c = C.state(n);
  vf hh[K], aa[K];
  UNROLL for (int k = 0; k < K; k++) h[k] = hh[k] = start[n + k], aa[k] = A2[n + k];
  for (int t = 0; t < nt; t++) {
    const vf d = delta[t], xt = x[t];
    vf sum = {}, dd[K], at[K];
    if (NEEDS_Y) sum = y[t];
    UNROLL for (int k = 0; k < K; k++) dd[k] = d;
    exp2_products<CLAMP, K>(dd, aa, at);
    UNROLL for (int k = 0; k < K; k++) {
      a[t * K + k] = at[k];
      hh[k] = at[k] * hh[k] + xt * splat(b[t * B.width + k]);
      h[(t + 1) * K + k] = hh[k];
      if (NEEDS_Y) sum += hh[k] * splat(c[t * B.width + k]);
    }
    if (NEEDS_Y) y[t] = sum;
  }
}

// Walk the chunk backwards. carry[k]: dloss/dh_t from the steps after t. With x = delta * u:
// dx += dh * B, ddelta += dh * A * a * h_{t-1} (into slope), dB = sum_d dh * x, dC = sum_d h * dy.
template <int K>
INLINE void reverse_states(Steps B, Steps C, int64_t n, int nt, const vf *RESTRICT A,
                           vf *RESTRICT carry, vf *RESTRICT dA, const vf *RESTRICT delta,
                           const vf *RESTRICT x, const vf *RESTRICT dy, vf *RESTRICT dx,
                           vf *RESTRICT slope, const vf *RESTRICT h, const vf *RESTRICT a,
                           float *RESTRICT dB, float *RESTRICT dC, int64_t stride) {
  const float *RESTRICT b = B.state(n), *RESTRICT c = C.state(n);
  dB += n * stride;
  dC += n * stride;
  vf cc[K], da[K], aa[K], hh[K], tB[W][K], tC[W][K];
  UNROLL for (int k = 0; k < K; k++) cc[k] = carry[n + k], da[k] = vf{}, aa[k] = A[n + k];
  UNROLL for (int k = 0; k < K; k++) hh[k] = h[nt * K + k];
  for (int tb = (nt - 1) / W * W; tb >= 0; tb -= W) {
    const int m = nt - tb < W ? nt - tb : W;
    for (int k = 0; k < K; k++)
      for (int i = m; i < W; i++) tB[i][k] = tC[i][k] = vf{};
    for (int i = m - 1; i >= 0; i--) {
      const int t = tb + i;
      const vf d = delta[t], xt = x[t], gy = dy[t];
      vf sx = dx[t], ss = slope[t];
      UNROLL for (int k = 0; k < K; k++) {
        const vf dh = gy * splat(c[t * B.width + k]) + cc[k];
        tC[i][k] = hh[k] * gy;
        tB[i][k] = dh * xt;
        sx += dh * splat(b[t * B.width + k]);
        hh[k] = h[t * K + k];
        cc[k] = a[t * K + k] * dh;
        const vf w = cc[k] * hh[k];
        ss += w * aa[k];
        da[k] += w * d;
      }
      dx[t] = sx;
      slope[t] = ss;
    }
    UNROLL for (int k = 0; k < K; k++) {
      float *to_b = dB + k * stride + tb, *to_c = dC + k * stride + tb;
      store(to_b, load(to_b) + lane_sums<K>(&tB[0][k]));
      store(to_c, load(to_c) + lane_sums<K>(&tC[0][k]));
    }
  }
  UNROLL for (int k = 0; k < K; k++) carry[n + k] = cc[k], dA[n + k] = da[k];
}

struct Chunk {
  Steps B, C;
  int nt;
  const vf *A, *A2, *start, *delta, *x, *dy;
  vf *carry, *dA, *y, *dx, *slope, *h, *decay;
  float *dB, *dC;
  int64_t stride;
};
template <int K, bool CLAMP>
INLINE void backward_states(const Chunk &c, bool needs_y, int64_t n) {
  if (needs_y)
    recompute_states<K, CLAMP, true>(c.B, c.C, n, c.nt, c.A2, c.start, c.delta, c.x, c.y, c.h,
                                     c.decay);
  else
    recompute_states<K, CLAMP, false>(c.B, c.C, n, c.nt, c.A2, c.start, c.delta, c.x, c.y, c.h,
                                      c.decay);
  reverse_states<K>(c.B, c.C, n, c.nt, c.A, c.carry, c.dA, c.delta, c.x, c.dy, c.dx, c.slope,
                    c.h, c.decay, c.dB, c.dC, c.stride);
}
template <bool CLAMP>
static void backward_states(const Chunk &c, bool needs_y, int64_t N) {
  int64_t n = 0;
  for (; n + GROUP <= N; n += GROUP) backward_states<GROUP, CLAMP>(c, needs_y, n);
  for (; n < N; n++) backward_states<1, CLAMP>(c, needs_y, n);
}

// A sum over the whole length: one vector of floats per chunk, added in double precision.
struct LongSum {
  double lane[W];
  void add(vf v) {
    for (int i = 0; i < W; i++) lane[i] += v[i];
  }
  void store(float *p, int64_t stride, int rows) const {
    for (int i = 0; i < rows; i++) p[i * stride] = (float)lane[i];
  }
};
constexpr int64_t SUM_VECTORS = sizeof(LongSum) / sizeof(vf);

// The scratch memory of a task, for all of its blocks of channels (i) or for one at a time.
struct Backward {
  int64_t states, blocks, stride;  // stride: floats of a state's row of dBs and dCs
  vf *carry, *A, *A2, *steepest;   // of block i: states, and the largest |A2|
  LongSum *sums;                   // of block i: dA, dD, dbias
  vf *start, *dA;                  // states of a chunk
  vf *u, *dy, *dx;                 // a segment
  vf *delta, *x, *y, *z, *sigma, *slope, *h, *decay;  // a chunk
  Steps B, C;                      // a segment
  float *dBs, *dCs;
  LongSum *sum(int64_t i) const { return sums + i * (states + 2); }
};

static int64_t backward_scratch(const Args &a) {
  const int64_t N = a.states, blocks = most_blocks(a);
  return (3 * N + 1 + (N + 2) * SUM_VECTORS) * blocks + 2 * N + (6 + 2 * GROUP) * tile_vectors(a) +
         3 * segment_vectors(a) + 2 * rows_vectors(a) + 2 * steps_vectors(a);
}

// Divide the scratch memory, and start from the gradient of the final state.
static Backward begin_backward(const Args &a, const Task &task, Scratch scratch) {
  const int64_t N = a.states, channels = a.groups * a.rows, blocks = task.last - task.first;
  const int64_t segment = segment_vectors(a), tile = tile_vectors(a);
  Backward m;
  m.states = N, m.blocks = blocks, m.stride = row_floats(a);
  m.carry = scratch.vectors(N * blocks), m.A = scratch.vectors(N * blocks);
  m.A2 = scratch.vectors(N * blocks), m.steepest = scratch.vectors(blocks);
  m.sums = (LongSum *)scratch.vectors((N + 2) * SUM_VECTORS * blocks);
  m.start = scratch.vectors(N), m.dA = scratch.vectors(N);
  m.u = scratch.vectors(segment), m.dy = scratch.vectors(segment), m.dx = scratch.vectors(segment);
  m.delta = scratch.vectors(tile), m.x = scratch.vectors(tile), m.y = scratch.vectors(tile);
  m.z = scratch.vectors(tile), m.sigma = scratch.vectors(tile), m.slope = scratch.vectors(tile);
  m.h = scratch.vectors(GROUP * tile), m.decay = scratch.vectors(GROUP * tile);
  m.B = make_steps(a, scratch), m.C = make_steps(a, scratch);
  m.dBs = (float *)scratch.vectors(rows_vectors(a));
  m.dCs = (float *)scratch.vectors(rows_vectors(a));

  memset((void *)m.sums, 0, sizeof(LongSum) * (N + 2) * blocks);
  for (int64_t i = 0; i < blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    const int64_t d0 = first_channel(a, k);
    m.steepest[i] = vf{};
    for (int64_t n = 0; n < N; n++) {
      m.A[i * N + n] = load_lanes(a.A + d0 * N + n, N, k.rows);
      m.A2[i * N + n] = m.A[i * N + n] * splat(LOG2E);
      m.steepest[i] = greater(magnitude(m.A2[i * N + n]), m.steepest[i]);
      const float *dlast = a.dlast ? a.dlast + (k.b * channels + d0) * N + n : nullptr;
      m.carry[i * N + n] = load_lanes(dlast, N, k.rows);
    }
  }
  return m;
}

// Differentiate chunk c of block i: `nt` steps from t0 on, in a segment that begins at step s0.
static void backward_chunk(const Args &a, const Backward &m, Block k, int64_t i, int64_t c,
                           int64_t s0, int64_t t0, int nt) {
  const int64_t N = m.states, channels = a.groups * a.rows, d0 = first_channel(a, k);
  const vf D = load_lanes(a.D ? a.D + d0 : nullptr, 1, k.rows);
  const vf bias = load_lanes(a.bias ? a.bias + d0 : nullptr, 1, k.rows);
  vf *u = m.u + t0, *dy = m.dy + t0, *dx = m.dx + t0;
  vf *delta = m.delta, *x = m.x, *y = m.y, *z = m.z, *slope = m.slope;
  for (int64_t n = 0; n < N; n++)
    m.start[n] = load_lanes(a.starts + ((k.b * a.chunks + c) * N + n) * channels + d0, 1, k.rows);
  load_tile(a.delta, k, s0 + t0, nt, delta);
  const vf longest = steps_(a, bias, nt, delta, m.sigma, [](int) {});
  for (int t = 0; t < nt; t++) {
    x[t] = delta[t] * u[t];
    dx[t] = slope[t] = vf{};
  }
  if (a.z.data) {
    load_tile(a.z, k, s0 + t0, nt, z);
    for (int t = 0; t < nt; t += GROUP) sigmoid_<GROUP>(z + t, y + t);
    for (int t = 0; t < nt; t++) {
      const vf zt = z[t], s = y[t], g = dy[t];
      y[t] = D * u[t];
      dy[t] = g * zt * s;
      z[t] = g * s * (splat(1.f) + zt * (splat(1.f) - s));  // becomes dz once y is known
    }
  }
  const Chunk chunk = {m.B.from(t0), m.C.from(t0), nt,   m.A + i * N, m.A2 + i * N, m.start,
                       delta,        x,            dy,   m.carry + i * N, m.dA,     y,
                       dx,           slope,        m.h,  m.decay,     m.dBs + t0,   m.dCs + t0,
                       m.stride};
  if (within_range(longest, m.steepest[i]))
    backward_states<false>(chunk, a.z.data, N);
  else
    backward_states<true>(chunk, a.z.data, N);
  vf dD = {}, dbias = {};
  for (int t = 0; t < nt; t++) {
    const vf ut = u[t], s = dx[t], g = dy[t];
    const vf dd = (s * ut + slope[t]) * m.sigma[t];
    slope[t] = dd;
    dx[t] = s * delta[t] + D * g;
    dbias += dd;
    dD += g * ut;
  }
  LongSum *sum = m.sum(i);
  for (int64_t n = 0; n < N; n++) sum[n].add(m.dA[n]);
  sum[N].add(dD);
  sum[N + 1].add(dbias);
  store_tile(a, a.ddelta, k, s0 + t0, nt, slope);
  if (a.z.data) {
    for (int t = 0; t < nt; t++) z[t] *= y[t];
    store_tile(a, a.dz, k, s0 + t0, nt, z);
  }
}

// Store the sums over the whole length.
static void end_backward(const Args &a, const Task &task, const Backward &m) {
  const int64_t N = m.states, channels = a.groups * a.rows;
  for (int64_t i = 0; i < m.blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    const int64_t d = k.b * channels + first_channel(a, k);
    const LongSum *sum = m.sum(i);
    for (int64_t n = 0; n < N; n++) sum[n].store(a.dA + d * N + n, N, k.rows);
    if (a.dD) sum[N].store(a.dD + d, 1, k.rows);
    if (a.dbias) sum[N + 1].store(a.dbias + d, 1, k.rows);
    if (a.dfirst)
      for (int64_t n = 0; n < N; n++)
        store_lanes(a.dfirst + d * N + n, N, k.rows, m.carry[i * N + n]);
  }
}

static void backward_direction(const Args &a, const Task &task, Scratch scratch) {
  const Backward m = begin_backward(a, task, scratch);
  const int64_t N = m.states, per_segment = segment_chunks(a, task.g);
  for (int64_t index = segments(a, task.g) - 1; index >= 0; index--) {
    const Segment seg = segment_at(a, task.g, index);
    load_steps(a.B, task.b, task.g, N, seg.t0, seg.steps, m.B);
    load_steps(a.C, task.b, task.g, N, seg.t0, seg.steps, m.C);
    memset(m.dBs, 0, sizeof(float) * N * m.stride);
    memset(m.dCs, 0, sizeof(float) * N * m.stride);
    for (int64_t i = 0; i < m.blocks; i++) {
      const Block k = block_at(a, task, task.first + i);
      load_segment(a, a.u, k, seg, m.u);
      load_segment(a, a.dout, k, seg, m.dy);
      for (int64_t part = ceil_div(seg.steps, a.chunk) - 1; part >= 0; part--) {
        const int64_t t0 = part * a.chunk;
        backward_chunk(a, m, k, i, index * per_segment + part, seg.t0, t0,
                       (int)min_(a.chunk, seg.steps - t0));
      }
      store_segment(a, a.du, k, seg, m.dx);
    }
    const int64_t row = ((task.slice * a.batch + task.b) * a.groups + task.g) * N;
    for (int64_t n = 0; n < N; n++) {
      const size_t bytes = sizeof(float) * seg.steps;
      memcpy(a.dB + (row + n) * a.steps + seg.t0, m.dBs + n * m.stride, bytes);
      memcpy(a.dC + (row + n) * a.steps + seg.t0, m.dCs + n * m.stride, bytes);
    }
  }
  end_backward(a, task, m);
}
