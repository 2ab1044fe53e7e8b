// The scan of a task's channels in one direction.
#pragma once

#include "walk.h"

// Prefetches what later chunks read, while the loop over states keeps the processor busy: a load
// spans 16 rows, more than the hardware prefetches. The backward pass, whose loops need the room in
// the caches, does not gain from it.
struct Ahead {
  static constexpr int STEPS = 16;  // prefetched at once: a line of each row, or each step's line
  int views = 0;
  const char *first[3];
  int64_t along[3], across[3];  // bytes to the next STEPS steps, and between their lines
  void add(const Args &a, const View &v, Block k, int64_t t0) {
    const bool dense = v.row == 1 || v.step == 1;
    if (!v.data || !dense || k.rows < W || t0 + a.chunk > a.steps) return;
    const int64_t size = v.is_bf16 ? sizeof(bf16) : sizeof(float);
    first[views] = (const char *)v.data +
                   size * (k.b * v.batch + k.g * v.group + k.row * v.row + t0 * v.step);
    along[views] = size * STEPS * v.step;
    across[views++] = size * (v.step == 1 ? v.row : v.step);
  }
  void fetch(int64_t t) const {
    for (int i = 0; i < views; i++)
      for (int line = 0; line < STEPS; line++)
        __builtin_prefetch(first[i] + t / STEPS * along[i] + line * across[i], 0, 2);
  }
};

// At chunk `part` of a segment, prefetch the next chunk of delta and z, and a part of the u that
// the next block of channels reads.
static Ahead ahead_of(const Args &a, const Task &task, int64_t block, Segment seg, int64_t part) {
  const bool last_block = block + 1 == task.last, last_part = (part + 1) * a.chunk >= seg.steps;
  const Block here = block_at(a, task, block);
  const Block there = block_at(a, task, last_block ? task.first : block + 1);
  const int64_t start = last_block ? seg.t0 + seg.steps : seg.t0;
  const int64_t t0 = last_part ? start : seg.t0 + (part + 1) * a.chunk;
  Ahead ahead;
  ahead.add(a, a.delta, last_part ? there : here, t0);
  ahead.add(a, a.z, last_part ? there : here, t0);
  if (!is_picture(a)) ahead.add(a, a.u, there, start + part * a.chunk);
  return ahead;
}

template <int K, bool CLAMP>
INLINE void forward_states(Steps B, Steps C, int64_t n, int nt, const vf *RESTRICT A2,
                           vf *RESTRICT h, const vf *RESTRICT delta, const vf *RESTRICT x,
                           vf *RESTRICT y, const Ahead &ahead) {
  const float *RESTRICT b = B.state(n), *RESTRICT c = C.state(n);
  vf hh[K], aa[K];
  UNROLL for (int k = 0; k < K; k++) hh[k] = h[n + k], aa[k] = A2[n + k];
  for (int t = 0; t < nt; t++) {
    if (n == 0 && t % Ahead::STEPS == 0) ahead.fetch(t);
    const vf d = delta[t], xt = x[t];
    vf sum = y[t], dd[K], at[K];
    UNROLL for (int k = 0; k < K; k++) dd[k] = d;
    exp2_products<CLAMP, K>(dd, aa, at);
    UNROLL for (int k = 0; k < K; k++) {
      hh[k] = at[k] * hh[k] + xt * splat(b[t * B.width + k]);
      sum += hh[k] * splat(c[t * B.width + k]);
    }
    y[t] = sum;
  }
  UNROLL for (int k = 0; k < K; k++) h[n + k] = hh[k];
}

template <bool CLAMP>
static void forward_states(Steps B, Steps C, int64_t N, int nt, const vf *A2, vf *h,
                           const vf *delta, const vf *x, vf *y, const Ahead &ahead) {
  int64_t n = 0;
  for (; n + GROUP <= N; n += GROUP)
    forward_states<GROUP, CLAMP>(B, C, n, nt, A2, h, delta, x, y, ahead);
  for (; n < N; n++) forward_states<1, CLAMP>(B, C, n, nt, A2, h, delta, x, y, ahead);
}

static int64_t forward_scratch(const Args &a) {
  return (2 * a.states + 1) * most_blocks(a) + 2 * tile_vectors(a) + 2 * segment_vectors(a) +
         2 * steps_vectors(a);
}

static void forward_direction(const Args &a, const Task &task, Scratch scratch) {
  const int64_t N = a.states, channels = a.groups * a.rows, blocks = task.last - task.first;
  const int64_t per_segment = segment_chunks(a, task.g);
  vf *state = scratch.vectors(N * blocks), *A2 = scratch.vectors(N * blocks);
  vf *steepest = scratch.vectors(blocks);  // largest |A2| of a block's channels
  vf *delta = scratch.vectors(tile_vectors(a)), *z = scratch.vectors(tile_vectors(a));
  vf *u = scratch.vectors(segment_vectors(a)), *out = scratch.vectors(segment_vectors(a));
  const Steps Bs = make_steps(a, scratch), Cs = make_steps(a, scratch);

  for (int64_t i = 0; i < blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    const int64_t d0 = first_channel(a, k);
    steepest[i] = vf{};
    for (int64_t n = 0; n < N; n++) {
      const float *first = a.first ? a.first + (k.b * channels + d0) * N + n : nullptr;
      state[i * N + n] = load_lanes(first, N, k.rows);
      A2[i * N + n] = load_lanes(a.A + d0 * N + n, N, k.rows) * splat(LOG2E);
      steepest[i] = greater(magnitude(A2[i * N + n]), steepest[i]);
    }
  }
  for (int64_t index = 0; index < segments(a, task.g); index++) {
    const Segment seg = segment_at(a, task.g, index);
    load_steps(a.B, task.b, task.g, N, seg.t0, seg.steps, Bs);
    load_steps(a.C, task.b, task.g, N, seg.t0, seg.steps, Cs);
    for (int64_t i = 0; i < blocks; i++) {
      const Block k = block_at(a, task, task.first + i);
      const int64_t d0 = first_channel(a, k);
      const vf D = load_lanes(a.D ? a.D + d0 : nullptr, 1, k.rows);
      const vf bias = load_lanes(a.bias ? a.bias + d0 : nullptr, 1, k.rows);
      vf *h = state + i * N;
      load_segment(a, a.u, k, seg, u);
      for (int64_t part = 0, t0 = 0; t0 < seg.steps; part++, t0 += a.chunk) {
        const int nt = (int)min_(a.chunk, seg.steps - t0);
        const Steps B = Bs.from(t0), C = Cs.from(t0);
        const int64_t c = index * per_segment + part;
        vf *x = u + t0, *y = out + t0;
        if (a.starts)
          for (int64_t n = 0; n < N; n++)
            store_lanes(a.starts + ((k.b * a.chunks + c) * N + n) * channels + d0, 1, k.rows, h[n]);
        load_tile(a.delta, k, seg.t0 + t0, nt, delta);
        const vf longest = steps_(a, bias, nt, delta, nullptr, [=](int t) {
          y[t] = D * x[t];
          x[t] *= delta[t];
        });
        const Ahead ahead = ahead_of(a, task, task.first + i, seg, part);
        if (within_range(longest, steepest[i]))
          forward_states<false>(B, C, N, nt, A2 + i * N, h, delta, x, y, ahead);
        else
          forward_states<true>(B, C, N, nt, A2 + i * N, h, delta, x, y, ahead);
        if (a.z.data) {
          load_tile(a.z, k, seg.t0 + t0, nt, z);
          for (int t = 0; t < nt; t += GROUP) {
            vf sigma[GROUP];
            sigmoid_<GROUP>(z + t, sigma);
            UNROLL for (int j = 0; j < GROUP; j++) y[t + j] *= z[t + j] * sigma[j];
          }
        }
      }
      store_segment(a, a.out, k, seg, out);
    }
  }
  for (int64_t i = 0; i < blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    float *last = a.last + (k.b * channels + first_channel(a, k)) * N;
    for (int64_t n = 0; n < N; n++) store_lanes(last + n, N, k.rows, state[i * N + n]);
  }
}
