// The selective scan (Mamba's S6) on a CPU, forward and backward, fused.
//
//   delta_t = softplus(delta_t + bias)                        both optional
//   h_t     = exp(delta_t * A) * h_{t-1} + delta_t * u_t * B_t
//   y_t     = <h_t, C_t> + D * u_t                            D optional
//   out_t   = y_t * silu(z_t)                                 z optional
//
// Lanes of a vector are W neighbouring channels; time is walked step by step, in chunks. Per chunk
// and block of W channels the inputs are turned (transposed in registers) into tiles of one vector
// a step, and a few states at a time stay in registers while the loop runs over the tile. Nothing
// of size (B, D, L, N) is ever made: only the state at each chunk's start is kept, and the backward
// recomputes the rest of a chunk in cache. Every sum has one fixed order, so results repeat to the
// byte. State and arithmetic are float32; sums over the whole length (dA, dD, dbias) are taken per
// chunk and then added in double.
//
// The library has no dependency: threads come from the caller's OpenMP runtime through a pointer to
// its GOMP_parallel, so that there is never a second runtime beside torch's.

#include <errno.h>
#include <stdlib.h>

#include "simd.h"

// One tensor seen as (batch, group, row, step), strides in elements.
struct View {
  void *data;  // null: absent
  int64_t is_bf16, batch, group, row, step;
};

struct Args {
  int64_t batch, groups, rows, steps, states;  // rows: channels of one group
  int64_t chunk, slices, softplus;
  View u, delta, z, B, C, out;           // B, C: rows are states
  View dout, du, ddelta, dz;             // backward only
  const float *A, *D, *bias;             // (channels, states), (channels), (channels)
  float *starts;                         // (batch, chunks, states, channels), may be null
  float *last;                           // (batch, channels, states)
  const float *dlast;                    // the same, may be null
  float *dA, *dD, *dbias;                // (batch, channels, states), (batch, channels) twice
  float *dB, *dC;                        // (slices, batch, groups, states, steps)
};

// ---- between tensors and tiles -----------------------------------------------------------------

template <class E>
INLINE E *at(const View &v, int64_t b, int64_t g, int64_t row, int64_t step) {
  return (E *)v.data + b * v.batch + g * v.group + row * v.row + step * v.step;
}

template <class E>
static void load_tile(const E *p, int64_t row, int64_t step, int rows, int nt, vf *RESTRICT tile) {
  int t = 0;
  if (rows == W && step == 1) {
    for (; t + W <= nt; t += W) {
      vf r[W];
      UNROLL for (int i = 0; i < W; i++) r[i] = load(p + i * row + t);
      transpose(r);
      UNROLL for (int i = 0; i < W; i++) tile[t + i] = r[i];
    }
  } else if (rows == W && row == 1) {
    for (; t < nt; t++) tile[t] = load(p + t * step);
  }
  for (; t < nt; t++) {
    vf v = {};
    for (int i = 0; i < rows; i++) v[i] = load1(p + i * row + t * step);
    tile[t] = v;
  }
}

template <class E>
static void store_tile(E *p, int64_t row, int64_t step, int rows, int nt, const vf *RESTRICT tile) {
  int t = 0;
  if (rows == W && step == 1) {
    for (; t + W <= nt; t += W) {
      vf r[W];
      UNROLL for (int i = 0; i < W; i++) r[i] = tile[t + i];
      transpose(r);
      UNROLL for (int i = 0; i < W; i++) store(p + i * row + t, r[i]);
    }
  } else if (rows == W && row == 1) {
    for (; t < nt; t++) store(p + t * step, tile[t]);
  }
  for (; t < nt; t++)
    for (int i = 0; i < rows; i++) store1(p + i * row + t * step, tile[t][i]);
}

// Where a block of channels lies: batch b, group g, first row in the group, how many rows.
struct Block {
  int64_t b, g, row;
  int rows;
};

static void load_tile(const View &v, Block at_, int64_t t0, int nt, vf *tile) {
  if (v.is_bf16)
    load_tile(at<bf16>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
  else
    load_tile(at<float>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
}
static void store_tile(const View &v, Block at_, int64_t t0, int nt, const vf *tile) {
  if (v.is_bf16)
    store_tile(at<bf16>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
  else
    store_tile(at<float>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
}

// Rows of B or C for one chunk as floats: where they lie if they are, else copied to scratch.
struct Rows {
  const float *data;
  int64_t stride;
};
static Rows chunk_rows(const View &v, int64_t b, int64_t g, int64_t states, int64_t t0, int nt,
                       float *scratch, int64_t stride) {
  if (!v.is_bf16 && v.step == 1) return {at<float>(v, b, g, 0, t0), v.row};
  for (int64_t n = 0; n < states; n++) {
    float *to = scratch + n * stride;
    if (v.is_bf16) {
      const bf16 *p = at<bf16>(v, b, g, n, t0);
      for (int t = 0; t < nt; t++) to[t] = load1(p + t * v.step);
    } else {
      const float *p = at<float>(v, b, g, n, t0);
      for (int t = 0; t < nt; t++) to[t] = p[t * v.step];
    }
  }
  return {scratch, stride};
}

static vf load_lanes(const float *p, int64_t stride, int rows) {
  vf v = {};
  if (p)
    for (int i = 0; i < rows; i++) v[i] = p[i * stride];
  return v;
}
static void store_lanes(float *p, int64_t stride, int rows, vf v) {
  for (int i = 0; i < rows; i++) p[i * stride] = v[i];
}

// ---- tasks -------------------------------------------------------------------------------------

// One task is a slice of the channel blocks of one (batch, group): blocks first..last. Its chunks
// run in the outer loop, so that B and C of the chunk stay in cache for all of its blocks.
struct Task {
  int64_t slice, b, g, first, last;
};
INLINE int64_t blocks_per_group(const Args &a) { return (a.rows + W - 1) / W; }
INLINE int64_t chunks(const Args &a) { return (a.steps + a.chunk - 1) / a.chunk; }
static Task task_at(const Args &a, int64_t index) {
  const int64_t blocks = blocks_per_group(a), pairs = a.batch * a.groups, slice = index / pairs;
  return {slice, index % pairs / a.groups, index % a.groups, blocks * slice / a.slices,
          blocks * (slice + 1) / a.slices};
}
INLINE Block block_at(const Args &a, const Task &task, int64_t index) {
  const int64_t row = index * W, left = a.rows - row;
  return {task.b, task.g, row, (int)(left < W ? left : W)};
}
INLINE int64_t first_channel(const Args &a, const Block &k) { return k.g * a.rows + k.row; }

// Scratch memory of one worker, handed out in vectors.
struct Scratch {
  vf *next;
  vf *vectors(int64_t n) {
    vf *p = next;
    next += n;
    return p;
  }
};
// Tiles whose length is a multiple of 4 KB would share cache sets: hence the odd padding.
INLINE int64_t tile_vectors(const Args &a) { return a.chunk + 5; }
INLINE int64_t row_floats(const Args &a) { return (a.chunk + W - 1) / W * W + W; }
INLINE int64_t rows_vectors(const Args &a) { return a.states * row_floats(a) / W + 1; }
INLINE int64_t most_blocks(const Args &a) { return blocks_per_group(a) / a.slices + 1; }

constexpr int GROUP = 4;  // states in registers at a time

// ---- forward -----------------------------------------------------------------------------------

template <int K>
INLINE void forward_states(Rows B, Rows C, int64_t n, int nt, const vf *RESTRICT A2, vf *RESTRICT h,
                           const vf *RESTRICT delta, const vf *RESTRICT x, vf *RESTRICT y) {
  const float *RESTRICT b = B.data + n * B.stride, *RESTRICT c = C.data + n * C.stride;
  vf hh[K], aa[K];
  UNROLL for (int k = 0; k < K; k++) hh[k] = h[n + k], aa[k] = A2[n + k];
  for (int t = 0; t < nt; t++) {
    const vf d = delta[t], xt = x[t];
    vf sum = y[t];
    UNROLL for (int k = 0; k < K; k++) {
      hh[k] = exp2_(d * aa[k]) * hh[k] + xt * splat(b[k * B.stride + t]);
      sum += hh[k] * splat(c[k * C.stride + t]);
    }
    y[t] = sum;
  }
  UNROLL for (int k = 0; k < K; k++) h[n + k] = hh[k];
}

static int64_t forward_scratch(const Args &a) {
  return 2 * a.states * most_blocks(a) + 4 * tile_vectors(a) + 2 * rows_vectors(a);
}

static void forward_task(const Args &a, int64_t index, vf *memory) {
  const Task task = task_at(a, index);
  const int64_t N = a.states, channels = a.groups * a.rows, blocks = task.last - task.first;
  Scratch scratch = {memory};
  vf *state = scratch.vectors(N * blocks), *A2 = scratch.vectors(N * blocks);
  vf *delta = scratch.vectors(tile_vectors(a)), *x = scratch.vectors(tile_vectors(a));
  vf *y = scratch.vectors(tile_vectors(a)), *z = scratch.vectors(tile_vectors(a));
  float *b_rows = (float *)scratch.vectors(rows_vectors(a));
  float *c_rows = (float *)scratch.vectors(rows_vectors(a));

  for (int64_t i = 0; i < blocks; i++) {
    const Block at_ = block_at(a, task, task.first + i);
    for (int64_t n = 0; n < N; n++) {
      state[i * N + n] = vf{};
      A2[i * N + n] = load_lanes(a.A + first_channel(a, at_) * N + n, N, at_.rows) * splat(LOG2E);
    }
  }
  for (int64_t c = 0; c < chunks(a); c++) {
    const int64_t t0 = c * a.chunk, left = a.steps - t0;
    const int nt = (int)(left < a.chunk ? left : a.chunk);
    const Rows B = chunk_rows(a.B, task.b, task.g, N, t0, nt, b_rows, row_floats(a));
    const Rows C = chunk_rows(a.C, task.b, task.g, N, t0, nt, c_rows, row_floats(a));
    for (int64_t i = 0; i < blocks; i++) {
      const Block at_ = block_at(a, task, task.first + i);
      const int64_t d0 = first_channel(a, at_);
      vf *h = state + i * N;
      if (a.starts)
        for (int64_t n = 0; n < N; n++)
          store_lanes(a.starts + ((at_.b * chunks(a) + c) * N + n) * channels + d0, 1, at_.rows, h[n]);
      load_tile(a.delta, at_, t0, nt, delta);
      load_tile(a.u, at_, t0, nt, x);
      const vf D = load_lanes(a.D ? a.D + d0 : nullptr, 1, at_.rows);
      const vf bias = load_lanes(a.bias ? a.bias + d0 : nullptr, 1, at_.rows);
      for (int t = 0; t < nt; t++) {
        vf slope, d = delta[t] + bias;
        if (a.softplus) d = softplus_(d, &slope);
        delta[t] = d;
        y[t] = D * x[t];
        x[t] *= d;
      }
      int64_t n = 0;
      for (; n + GROUP <= N; n += GROUP)
        forward_states<GROUP>(B, C, n, nt, A2 + i * N, h, delta, x, y);
      for (; n < N; n++) forward_states<1>(B, C, n, nt, A2 + i * N, h, delta, x, y);
      if (a.z.data) {
        load_tile(a.z, at_, t0, nt, z);
        for (int t = 0; t < nt; t++) y[t] *= z[t] * sigmoid_(z[t]);
      }
      store_tile(a.out, at_, t0, nt, y);
    }
  }
  for (int64_t i = 0; i < blocks; i++) {
    const Block at_ = block_at(a, task, task.first + i);
    const int64_t d0 = first_channel(a, at_);
    for (int64_t n = 0; n < N; n++)
      store_lanes(a.last + (at_.b * channels + d0) * N + n, N, at_.rows, state[i * N + n]);
  }
}

// ---- backward ----------------------------------------------------------------------------------

// Forward through a chunk again for K states, keeping a_t = exp(delta_t A) and a_t h_{t-1}.
template <int K, bool NEEDS_Y>
INLINE void recompute_states(Rows B, Rows C, int64_t n, int nt, const vf *RESTRICT A2,
                             const vf *RESTRICT start, const vf *RESTRICT delta,
                             const vf *RESTRICT x, vf *RESTRICT y, vf *RESTRICT ah, vf *RESTRICT a) {
  const float *RESTRICT b = B.data + n * B.stride, *RESTRICT c = C.data + n * C.stride;
  vf hh[K], aa[K];
  UNROLL for (int k = 0; k < K; k++) hh[k] = start[n + k], aa[k] = A2[n + k];
  for (int t = 0; t < nt; t++) {
    const vf d = delta[t], xt = x[t];
    vf sum = {};
    if (NEEDS_Y) sum = y[t];
    UNROLL for (int k = 0; k < K; k++) {
      const vf at = exp2_(d * aa[k]);
      a[t * K + k] = at;
      const vf kept = at * hh[k];
      ah[t * K + k] = kept;
      hh[k] = kept + xt * splat(b[k * B.stride + t]);
      if (NEEDS_Y) sum += hh[k] * splat(c[k * C.stride + t]);
    }
    if (NEEDS_Y) y[t] = sum;
  }
}

// Walk the chunk backwards. carry[k]: dloss/dh_t from the steps after t. With x = delta * u:
// dx += dh * B, ddelta += dh * A * a * h_{t-1} (into slope), dB = sum_d dh * x, dC = sum_d h * dy.
template <int K>
INLINE void reverse_states(Rows B, Rows C, int64_t n, int nt, const vf *RESTRICT A,
                           vf *RESTRICT carry, vf *RESTRICT dA, const vf *RESTRICT delta,
                           const vf *RESTRICT x, const vf *RESTRICT dy, vf *RESTRICT dx,
                           vf *RESTRICT slope, const vf *RESTRICT ah, const vf *RESTRICT a,
                           float *RESTRICT dB, float *RESTRICT dC, int64_t stride) {
  const float *RESTRICT b = B.data + n * B.stride, *RESTRICT c = C.data + n * C.stride;
  dB += n * stride;
  dC += n * stride;
  vf cc[K], da[K], aa[K], tB[K][W], tC[K][W];
  UNROLL for (int k = 0; k < K; k++) cc[k] = carry[n + k], da[k] = vf{}, aa[k] = A[n + k];
  for (int tb = (nt - 1) / W * W; tb >= 0; tb -= W) {
    const int m = nt - tb < W ? nt - tb : W;
    for (int k = 0; k < K; k++)
      for (int i = m; i < W; i++) tB[k][i] = tC[k][i] = vf{};
    for (int i = m - 1; i >= 0; i--) {
      const int t = tb + i;
      const vf d = delta[t], xt = x[t], gy = dy[t];
      vf sx = dx[t], ss = slope[t];
      UNROLL for (int k = 0; k < K; k++) {
        const vf bk = splat(b[k * B.stride + t]), kept = ah[t * K + k];
        const vf dh = gy * splat(c[k * C.stride + t]) + cc[k];
        tC[k][i] = (kept + xt * bk) * gy;
        tB[k][i] = dh * xt;
        sx += dh * bk;
        const vf w = dh * kept;
        ss += w * aa[k];
        da[k] += w * d;
        cc[k] = a[t * K + k] * dh;
      }
      dx[t] = sx;
      slope[t] = ss;
    }
    UNROLL for (int k = 0; k < K; k++) {
      float *to_b = dB + k * stride + tb, *to_c = dC + k * stride + tb;
      store(to_b, load(to_b) + lane_sums(tB[k]));
      store(to_c, load(to_c) + lane_sums(tC[k]));
    }
  }
  UNROLL for (int k = 0; k < K; k++) carry[n + k] = cc[k], dA[n + k] = da[k];
}

template <int K>
INLINE void backward_states(bool needs_y, Rows B, Rows C, int64_t n, int nt, const vf *A,
                            const vf *A2, const vf *start, vf *carry, vf *dA, const vf *delta,
                            const vf *x, const vf *dy, vf *y, vf *dx, vf *slope, vf *ah, vf *a,
                            float *dB, float *dC, int64_t stride) {
  if (needs_y)
    recompute_states<K, true>(B, C, n, nt, A2, start, delta, x, y, ah, a);
  else
    recompute_states<K, false>(B, C, n, nt, A2, start, delta, x, y, ah, a);
  reverse_states<K>(B, C, n, nt, A, carry, dA, delta, x, dy, dx, slope, ah, a, dB, dC, stride);
}

// A sum over the whole length: one vector of floats per chunk, added up in double.
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

static int64_t backward_scratch(const Args &a) {
  const int64_t N = a.states, blocks = most_blocks(a);
  return (3 * N + (N + 2) * SUM_VECTORS) * blocks + 2 * N + (9 + 2 * GROUP) * tile_vectors(a) +
         4 * rows_vectors(a);
}

static void backward_task(const Args &a, int64_t index, vf *memory) {
  const Task task = task_at(a, index);
  const int64_t N = a.states, channels = a.groups * a.rows, blocks = task.last - task.first;
  const int64_t stride = row_floats(a), tile = tile_vectors(a);
  Scratch scratch = {memory};
  vf *carry = scratch.vectors(N * blocks), *A = scratch.vectors(N * blocks);
  vf *A2 = scratch.vectors(N * blocks);
  LongSum *sums = (LongSum *)scratch.vectors((N + 2) * SUM_VECTORS * blocks);  // dA, dD, dbias
  vf *start = scratch.vectors(N), *dA = scratch.vectors(N);
  vf *delta = scratch.vectors(tile), *u = scratch.vectors(tile), *x = scratch.vectors(tile);
  vf *dy = scratch.vectors(tile), *y = scratch.vectors(tile), *z = scratch.vectors(tile);
  vf *sigma = scratch.vectors(tile), *dx = scratch.vectors(tile), *slope = scratch.vectors(tile);
  vf *kept = scratch.vectors(GROUP * tile), *decay = scratch.vectors(GROUP * tile);
  float *b_rows = (float *)scratch.vectors(rows_vectors(a));
  float *c_rows = (float *)scratch.vectors(rows_vectors(a));
  float *dB = (float *)scratch.vectors(rows_vectors(a));
  float *dC = (float *)scratch.vectors(rows_vectors(a));

  memset((void *)sums, 0, sizeof(LongSum) * (N + 2) * blocks);
  for (int64_t i = 0; i < blocks; i++) {
    const Block at_ = block_at(a, task, task.first + i);
    const int64_t d0 = first_channel(a, at_);
    for (int64_t n = 0; n < N; n++) {
      A[i * N + n] = load_lanes(a.A + d0 * N + n, N, at_.rows);
      A2[i * N + n] = A[i * N + n] * splat(LOG2E);
      const float *dlast = a.dlast ? a.dlast + (at_.b * channels + d0) * N + n : nullptr;
      carry[i * N + n] = load_lanes(dlast, N, at_.rows);
    }
  }
  for (int64_t c = chunks(a) - 1; c >= 0; c--) {
    const int64_t t0 = c * a.chunk, left = a.steps - t0;
    const int nt = (int)(left < a.chunk ? left : a.chunk);
    const Rows B = chunk_rows(a.B, task.b, task.g, N, t0, nt, b_rows, stride);
    const Rows C = chunk_rows(a.C, task.b, task.g, N, t0, nt, c_rows, stride);
    memset(dB, 0, sizeof(float) * N * stride);
    memset(dC, 0, sizeof(float) * N * stride);
    for (int64_t i = 0; i < blocks; i++) {
      const Block at_ = block_at(a, task, task.first + i);
      const int64_t d0 = first_channel(a, at_);
      for (int64_t n = 0; n < N; n++)
        start[n] = load_lanes(a.starts + ((at_.b * chunks(a) + c) * N + n) * channels + d0, 1, at_.rows);
      load_tile(a.delta, at_, t0, nt, delta);
      load_tile(a.u, at_, t0, nt, u);
      load_tile(a.dout, at_, t0, nt, dy);
      const vf D = load_lanes(a.D ? a.D + d0 : nullptr, 1, at_.rows);
      const vf bias = load_lanes(a.bias ? a.bias + d0 : nullptr, 1, at_.rows);
      for (int t = 0; t < nt; t++) {
        vf d = delta[t] + bias;
        sigma[t] = splat(1.f);
        if (a.softplus) d = softplus_(d, &sigma[t]);
        delta[t] = d;
        x[t] = d * u[t];
        dx[t] = slope[t] = vf{};
      }
      if (a.z.data) {
        load_tile(a.z, at_, t0, nt, z);
        for (int t = 0; t < nt; t++) {
          const vf zt = z[t], s = sigmoid_(zt), g = dy[t];
          y[t] = D * u[t];
          dy[t] = g * zt * s;
          z[t] = g * s * (splat(1.f) + zt * (splat(1.f) - s));  // becomes dz once y is known
        }
      }
      int64_t n = 0;
      for (; n + GROUP <= N; n += GROUP)
        backward_states<GROUP>(a.z.data, B, C, n, nt, A + i * N, A2 + i * N, start, carry + i * N,
                               dA, delta, x, dy, y, dx, slope, kept, decay, dB, dC, stride);
      for (; n < N; n++)
        backward_states<1>(a.z.data, B, C, n, nt, A + i * N, A2 + i * N, start, carry + i * N, dA,
                           delta, x, dy, y, dx, slope, kept, decay, dB, dC, stride);
      vf dD = {}, dbias = {};
      for (int t = 0; t < nt; t++) {
        const vf ut = u[t], s = dx[t], g = dy[t];
        const vf dd = (s * ut + slope[t]) * sigma[t];
        slope[t] = dd;
        dx[t] = s * delta[t] + D * g;
        dbias += dd;
        dD += g * ut;
      }
      LongSum *sum = sums + i * (N + 2);
      for (n = 0; n < N; n++) sum[n].add(dA[n]);
      sum[N].add(dD);
      sum[N + 1].add(dbias);
      store_tile(a.du, at_, t0, nt, dx);
      store_tile(a.ddelta, at_, t0, nt, slope);
      if (a.z.data) {
        for (int t = 0; t < nt; t++) z[t] *= y[t];
        store_tile(a.dz, at_, t0, nt, z);
      }
    }
    const int64_t row = ((task.slice * a.batch + task.b) * a.groups + task.g) * N;
    for (int64_t n = 0; n < N; n++) {
      memcpy(a.dB + (row + n) * a.steps + t0, dB + n * stride, sizeof(float) * nt);
      memcpy(a.dC + (row + n) * a.steps + t0, dC + n * stride, sizeof(float) * nt);
    }
  }
  for (int64_t i = 0; i < blocks; i++) {
    const Block at_ = block_at(a, task, task.first + i);
    const int64_t d = at_.b * channels + first_channel(a, at_);
    const LongSum *sum = sums + i * (N + 2);
    for (int64_t n = 0; n < N; n++) sum[n].store(a.dA + d * N + n, N, at_.rows);
    if (a.dD) sum[N].store(a.dD + d, 1, at_.rows);
    if (a.dbias) sum[N + 1].store(a.dbias + d, 1, at_.rows);
  }
}

// ---- threads and the door ----------------------------------------------------------------------

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);  // GOMP_parallel

struct Job {
  const Args *args;
  int64_t tasks, next;
  bool backward;
};

// Each thread takes the next task until none is left; which thread takes it changes no result.
static void work(void *data) {
  Job *job = (Job *)data;
  const Args &a = *job->args;
  const size_t bytes = sizeof(vf) * (job->backward ? backward_scratch(a) : forward_scratch(a));
  void *memory = nullptr;
  if (posix_memalign(&memory, sizeof(vf) < 64 ? 64 : sizeof(vf), bytes)) return;
  for (;;) {
    const int64_t index = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
    if (index >= job->tasks) break;
    (job->backward ? backward_task : forward_task)(a, index, (vf *)memory);
  }
  free(memory);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

// Size of Args: the caller checks that both sides speak of the same structure.
EXPORT int64_t clipmamba_scan_abi(void) { return sizeof(Args); }
EXPORT int64_t clipmamba_scan_lanes(void) { return W; }

// 0, or ENOMEM if no thread could get its scratch memory.
EXPORT int clipmamba_scan(const Args *args, int backward, Parallel parallel, unsigned threads) {
  Job job = {args, args->batch * args->groups * args->slices, 0, backward != 0};
  if (parallel && threads > 1)
    parallel(work, &job, threads, 0);
  else
    work(&job);
  return job.next >= job.tasks ? 0 : ENOMEM;
}
