// The selective scan (Mamba's S6) on a CPU, forward and backward, fused; of sequences, and of
// pictures in four directions at once.
//
//   delta_t = softplus(delta_t + bias) + least                all optional
//   h_t     = exp(delta_t * A) * h_{t-1} + delta_t * u_t * B_t      h_0 given or 0
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
// A picture is read where it lies: the groups are its directions (rows, rows from the end, columns,
// columns from the end), which take delta, B and C each in its own order but share u, and add their
// results up. A block of channels goes through all directions before the next one, so that nothing
// is added by two threads. Columns are read in strips as wide as a cache line.
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
  int64_t chunk, chunks;                 // steps of one; how many `starts` has room for
  int64_t slices, softplus;
  int64_t height, width;                 // of a picture; 0: sequences
  double least;                          // added to every step size
  View u, delta, z, B, C, out;           // B, C: rows are states
  View dout, du, ddelta, dz;             // backward only
  const float *A, *D, *bias;             // (channels, states), (channels), (channels)
  float *starts;                         // (batch, chunks, states, channels), may be null
  const float *first;                    // (batch, channels, states), null: zeros
  float *last;                           // the same
  const float *dlast;                    // the same, may be null
  float *dfirst;                         // the same, may be null
  float *dA, *dD, *dbias;                // (batch, channels, states), (batch, channels) twice
  float *dB, *dC;                        // (slices, batch, groups, states, steps)
};

INLINE int64_t min_(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

// To memory, added to what is there, or past the caches.
enum Put { SET, ADD, STREAM };
template <Put PUT, class E>
INLINE void put(E *p, vf v) {
  if constexpr (PUT == STREAM)
    stream(p, v);
  else
    store(p, PUT == ADD ? load(p) + v : v);
}
template <Put PUT, class E>
INLINE void put1(E *p, float v) {
  store1(p, PUT == ADD ? load1(p) + v : v);
}

template <Put PUT, class E>
static void store_tile(E *p, int64_t row, int64_t step, int rows, int nt, const vf *RESTRICT tile) {
  int t = 0;
  if (rows == W && step == 1) {
    for (; t + W <= nt; t += W) {
      vf r[W];
      UNROLL for (int i = 0; i < W; i++) r[i] = tile[t + i];
      transpose(r);
      UNROLL for (int i = 0; i < W; i++) put<PUT>(p + i * row + t, r[i]);
    }
  } else if (rows == W && row == 1) {
    for (; t < nt; t++) put<PUT>(p + t * step, tile[t]);
  }
  for (; t < nt; t++)
    for (int i = 0; i < rows; i++) put1<PUT>(p + i * row + t * step, tile[t][i]);
}

// Columns of a picture, each from its top: tile[j * height + y] for `columns` of them. `line` is the
// stride from one row of pixels to the next, `step` that from one column to the next.
template <class E>
static void load_columns(const E *p, int64_t row, int64_t line, int64_t step, int rows,
                         int64_t height, int columns, vf *RESTRICT tile) {
  for (int64_t y = 0; y < height; y++, p += line) {
    int j = 0;
    if (rows == W && step == 1) {
      for (; j + W <= columns; j += W) {
        vf r[W];
        UNROLL for (int i = 0; i < W; i++) r[i] = load(p + i * row + j);
        transpose(r);
        UNROLL for (int i = 0; i < W; i++) tile[(j + i) * height + y] = r[i];
      }
    } else if (rows == W && row == 1) {
      for (; j < columns; j++) tile[j * height + y] = load(p + j * step);
    }
    for (; j < columns; j++) {
      vf v = {};
      for (int i = 0; i < rows; i++) v[i] = load1(p + i * row + j * step);
      tile[j * height + y] = v;
    }
  }
}

template <Put PUT, class E>
static void store_columns(E *p, int64_t row, int64_t line, int64_t step, int rows, int64_t height,
                          int columns, const vf *RESTRICT tile) {
  for (int64_t y = 0; y < height; y++, p += line) {
    int j = 0;
    if (rows == W && step == 1) {
      for (; j + W <= columns; j += W) {
        vf r[W];
        UNROLL for (int i = 0; i < W; i++) r[i] = tile[(j + i) * height + y];
        transpose(r);
        UNROLL for (int i = 0; i < W; i++) put<PUT>(p + i * row + j, r[i]);
      }
    } else if (rows == W && row == 1) {
      for (; j < columns; j++) put<PUT>(p + j * step, tile[j * height + y]);
    }
    for (; j < columns; j++)
      for (int i = 0; i < rows; i++)
        put1<PUT>(p + i * row + j * step, tile[j * height + y][i]);
  }
}

static void reverse(vf *tile, int64_t nt) {
  for (int64_t i = 0, j = nt - 1; i < j; i++, j--) {
    const vf v = tile[i];
    tile[i] = tile[j];
    tile[j] = v;
  }
}

// Where a block of channels lies: batch b, group g, first row in the group, how many rows.
struct Block {
  int64_t b, g, row;
  int rows;
};

static void load_tile(const View &v, Block at_, int64_t t0, int64_t nt, vf *tile) {
  if (v.is_bf16)
    load_tile(at<bf16>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
  else
    load_tile(at<float>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
}
// A result that no cache holds until it is read goes past them: else each line would first be read.
INLINE bool beyond_caches(const Args &a) {
  return sizeof(float) * a.batch * a.groups * a.rows * a.steps >= 8 << 20;
}
static void store_tile(const Args &a, const View &v, Block at_, int64_t t0, int64_t nt,
                       const vf *tile) {
  if (v.is_bf16) {
    bf16 *p = at<bf16>(v, at_.b, at_.g, at_.row, t0);
    return store_tile<SET>(p, v.row, v.step, at_.rows, nt, tile);
  }
  float *p = at<float>(v, at_.b, at_.g, at_.row, t0);
  const bool whole_lines = (uintptr_t)p % sizeof(vf) == 0 && v.row % W == 0;
  if (beyond_caches(a) && whole_lines && at_.rows == W && v.step == 1)
    store_tile<STREAM>(p, v.row, v.step, at_.rows, nt, tile);
  else
    store_tile<SET>(p, v.row, v.step, at_.rows, nt, tile);
}

// B or C of one segment as floats, the states of a step side by side: a loop over the steps walks
// one pointer for all the states that it has in registers. More than W states lie in blocks of W.
// B and C of a call have the same width and room.
struct Steps {
  float *data;
  int64_t width, room;  // floats of a step; steps of a block
  float *state(int64_t n) const { return data + n / W * W * room + n % W; }
  Steps from(int64_t t) const { return {data + t * width, width, room}; }
};
template <class E>
static void load_steps(const View &v, int64_t b, int64_t g, int64_t states, int64_t t0, int nt,
                       Steps to) {
  if (states < W) {
    const E *p = at<E>(v, b, g, 0, t0);
    for (int t = 0; t < nt; t++)
      for (int64_t n = 0; n < states; n++)
        to.data[t * to.width + n] = load1(p + n * v.row + t * v.step);
  } else {
    for (int64_t n = 0; n < states; n += W)
      load_tile(at<E>(v, b, g, n, t0), v.row, v.step, (int)min_(W, states - n), nt,
                (vf *)to.state(n));
  }
}
static void load_steps(const View &v, int64_t b, int64_t g, int64_t states, int64_t t0, int64_t nt,
                       Steps to) {
  if (v.is_bf16)
    load_steps<bf16>(v, b, g, states, t0, (int)nt, to);
  else
    load_steps<float>(v, b, g, states, t0, (int)nt, to);
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

// ---- the way through a sequence or picture -----------------------------------------------------

// A segment is what is read of u, and written of its like, at once: some chunks, or of columns a
// strip of 16. Long runs of one row suit the processor's prefetch. B and C of a segment stay in
// cache for all blocks of channels.
constexpr int64_t RUN = 4, STRIP = 16;
struct Segment {
  int64_t index, t0, steps;
};
INLINE bool is_picture(const Args &a) { return a.height > 0; }
INLINE bool by_columns(const Args &a, int64_t g) { return is_picture(a) && (g & 2); }
INLINE bool from_end(const Args &a, int64_t g) { return is_picture(a) && (g & 1); }
INLINE int64_t segment_steps(const Args &a, int64_t g) {
  return by_columns(a, g) ? STRIP * a.height : RUN * a.chunk;
}
INLINE int64_t segments(const Args &a, int64_t g) { return ceil_div(a.steps, segment_steps(a, g)); }
INLINE int64_t segment_chunks(const Args &a, int64_t g) {
  return ceil_div(segment_steps(a, g), a.chunk);
}
INLINE Segment segment_at(const Args &a, int64_t g, int64_t index) {
  const int64_t most = segment_steps(a, g), t0 = index * most;
  return {index, t0, min_(most, a.steps - t0)};
}

// u, or what has its shape, for a segment of direction g.
static void load_segment(const Args &a, const View &v, Block k, Segment s, vf *tile) {
  if (!is_picture(a)) return load_tile(v, k, s.t0, s.steps, tile);
  const bool back = from_end(a, k.g);
  const int64_t t0 = back ? a.steps - s.t0 - s.steps : s.t0;  // where its places begin
  Block shared = k;
  shared.g = 0;
  if (!by_columns(a, k.g)) {
    load_tile(v, shared, t0, s.steps, tile);
  } else {
    const int64_t line = a.width * v.step, column = t0 / a.height;
    const int columns = (int)(s.steps / a.height);
    if (v.is_bf16)
      load_columns(at<bf16>(v, k.b, 0, k.row, column), v.row, line, v.step, k.rows, a.height,
                   columns, tile);
    else
      load_columns(at<float>(v, k.b, 0, k.row, column), v.row, line, v.step, k.rows, a.height,
                   columns, tile);
  }
  if (back) reverse(tile, s.steps);
}

// Stores a segment; of a picture, float only, the directions after the first are added. Spoils it.
static void store_segment(const Args &a, const View &v, Block k, Segment s, vf *tile) {
  if (!is_picture(a)) return store_tile(a, v, k, s.t0, s.steps, tile);
  const bool back = from_end(a, k.g);
  const int64_t t0 = back ? a.steps - s.t0 - s.steps : s.t0;
  if (back) reverse(tile, s.steps);
  if (k.g == 0)
    store_tile<SET>(at<float>(v, k.b, 0, k.row, t0), v.row, v.step, k.rows, s.steps, tile);
  else if (!by_columns(a, k.g))
    store_tile<ADD>(at<float>(v, k.b, 0, k.row, t0), v.row, v.step, k.rows, s.steps, tile);
  else
    store_columns<ADD>(at<float>(v, k.b, 0, k.row, t0 / a.height), v.row, a.width * v.step, v.step,
                        k.rows, a.height, (int)(s.steps / a.height), tile);
}

// ---- tasks -------------------------------------------------------------------------------------

// One task is a slice of the channel blocks, first..last, of one (batch, group), or of all groups
// of a picture.
struct Task {
  int64_t slice, b, g, first, last;
};
INLINE int64_t blocks_per_group(const Args &a) { return ceil_div(a.rows, W); }
INLINE int64_t task_groups(const Args &a) { return is_picture(a) ? 1 : a.groups; }
INLINE int64_t tasks(const Args &a) { return a.batch * task_groups(a) * a.slices; }
static Task task_at(const Args &a, int64_t index) {
  const int64_t blocks = blocks_per_group(a), groups = task_groups(a), pairs = a.batch * groups;
  const int64_t slice = index / pairs;
  return {slice, index % pairs / groups, index % groups, blocks * slice / a.slices,
          blocks * (slice + 1) / a.slices};
}
INLINE Block block_at(const Args &a, const Task &task, int64_t index) {
  const int64_t row = index * W;
  return {task.b, task.g, row, (int)min_(W, a.rows - row)};
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
INLINE int64_t longest_segment(const Args &a) {
  return max_(RUN * a.chunk, segment_steps(a, a.groups - 1));
}
INLINE int64_t tile_vectors(const Args &a) { return a.chunk + 5; }
INLINE int64_t segment_vectors(const Args &a) { return longest_segment(a) + 5; }
INLINE int64_t row_floats(const Args &a) { return ceil_div(longest_segment(a), W) * W + W; }
INLINE int64_t rows_vectors(const Args &a) { return a.states * row_floats(a) / W + 1; }
INLINE int64_t steps_vectors(const Args &a) {
  return a.states < W ? rows_vectors(a) : ceil_div(a.states, W) * longest_segment(a);
}
INLINE Steps make_steps(const Args &a, Scratch &scratch) {
  return {(float *)scratch.vectors(steps_vectors(a)), min_(a.states, W), longest_segment(a)};
}
INLINE int64_t most_blocks(const Args &a) { return blocks_per_group(a) / a.slices + 1; }

constexpr int GROUP = 4;  // states, or steps, in registers at a time; tiles have room for 3 more

// Raw delta to step sizes, in place, with softplus's derivative; returns the longest of each lane.
// `use(t)` follows while a step's size is in a register.
template <class Use>
static vf steps_(const Args &a, vf bias, int nt, vf *RESTRICT delta, vf *RESTRICT sigma, Use use) {
  const vf least = splat((float)a.least);
  vf longest = {};
  for (int t = 0; t < nt; t += GROUP) {
    vf d[GROUP], slope[GROUP];
    UNROLL for (int j = 0; j < GROUP; j++) d[j] = delta[t + j] + bias;
    if (a.softplus) softplus_<GROUP>(d, slope);
    UNROLL for (int j = 0; j < GROUP; j++) {
      delta[t + j] = d[j] + least;
      if (sigma) sigma[t + j] = a.softplus ? slope[j] : splat(1.f);
      use(t + j);
    }
  }
  for (int t = 0; t < nt; t++) longest = greater(magnitude(delta[t]), longest);
  return longest;
}

// ---- forward -----------------------------------------------------------------------------------

// What later chunks read, asked for while the loop over states keeps the processor busy: a load
// goes through 16 rows at once, more than the processor foresees. The backward, whose loops need
// the room in the caches, does not gain by it.
struct Ahead {
  static constexpr int STEPS = 16;  // asked for at once: a line of each row, or each step's line
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

// At chunk `part` of a segment: the next chunk of delta and z, and a chunk's share of the u that the
// next block of channels reads.
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

// ---- backward ----------------------------------------------------------------------------------

// Forward through a chunk again for K states, keeping a_t = exp(delta_t A) and every state: h[t] is
// that before step t.
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
  return (3 * N + 1 + (N + 2) * SUM_VECTORS) * blocks + 2 * N + (6 + 2 * GROUP) * tile_vectors(a) +
         3 * segment_vectors(a) + 2 * rows_vectors(a) + 2 * steps_vectors(a);
}

static void backward_direction(const Args &a, const Task &task, Scratch scratch) {
  const int64_t N = a.states, channels = a.groups * a.rows, blocks = task.last - task.first;
  const int64_t stride = row_floats(a), tile = tile_vectors(a);
  const int64_t per_segment = segment_chunks(a, task.g);
  vf *carry = scratch.vectors(N * blocks), *A = scratch.vectors(N * blocks);
  vf *A2 = scratch.vectors(N * blocks), *steepest = scratch.vectors(blocks);
  LongSum *sums = (LongSum *)scratch.vectors((N + 2) * SUM_VECTORS * blocks);  // dA, dD, dbias
  vf *start = scratch.vectors(N), *dA = scratch.vectors(N);
  vf *us = scratch.vectors(segment_vectors(a)), *dys = scratch.vectors(segment_vectors(a));
  vf *dxs = scratch.vectors(segment_vectors(a));
  vf *delta = scratch.vectors(tile), *x = scratch.vectors(tile), *y = scratch.vectors(tile);
  vf *z = scratch.vectors(tile), *sigma = scratch.vectors(tile), *slope = scratch.vectors(tile);
  vf *h = scratch.vectors(GROUP * tile), *decay = scratch.vectors(GROUP * tile);
  const Steps Bs = make_steps(a, scratch), Cs = make_steps(a, scratch);
  float *dBs = (float *)scratch.vectors(rows_vectors(a));
  float *dCs = (float *)scratch.vectors(rows_vectors(a));

  memset((void *)sums, 0, sizeof(LongSum) * (N + 2) * blocks);
  for (int64_t i = 0; i < blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    const int64_t d0 = first_channel(a, k);
    steepest[i] = vf{};
    for (int64_t n = 0; n < N; n++) {
      A[i * N + n] = load_lanes(a.A + d0 * N + n, N, k.rows);
      A2[i * N + n] = A[i * N + n] * splat(LOG2E);
      steepest[i] = greater(magnitude(A2[i * N + n]), steepest[i]);
      const float *dlast = a.dlast ? a.dlast + (k.b * channels + d0) * N + n : nullptr;
      carry[i * N + n] = load_lanes(dlast, N, k.rows);
    }
  }
  for (int64_t index = segments(a, task.g) - 1; index >= 0; index--) {
    const Segment seg = segment_at(a, task.g, index);
    load_steps(a.B, task.b, task.g, N, seg.t0, seg.steps, Bs);
    load_steps(a.C, task.b, task.g, N, seg.t0, seg.steps, Cs);
    memset(dBs, 0, sizeof(float) * N * stride);
    memset(dCs, 0, sizeof(float) * N * stride);
    for (int64_t i = 0; i < blocks; i++) {
      const Block k = block_at(a, task, task.first + i);
      const int64_t d0 = first_channel(a, k);
      const vf D = load_lanes(a.D ? a.D + d0 : nullptr, 1, k.rows);
      const vf bias = load_lanes(a.bias ? a.bias + d0 : nullptr, 1, k.rows);
      LongSum *sum = sums + i * (N + 2);
      load_segment(a, a.u, k, seg, us);
      load_segment(a, a.dout, k, seg, dys);
      for (int64_t part = ceil_div(seg.steps, a.chunk) - 1; part >= 0; part--) {
        const int64_t t0 = part * a.chunk, c = index * per_segment + part;
        const int nt = (int)min_(a.chunk, seg.steps - t0);
        const Steps B = Bs.from(t0), C = Cs.from(t0);
        vf *u = us + t0, *dy = dys + t0, *dx = dxs + t0;
        for (int64_t n = 0; n < N; n++)
          start[n] =
              load_lanes(a.starts + ((k.b * a.chunks + c) * N + n) * channels + d0, 1, k.rows);
        load_tile(a.delta, k, seg.t0 + t0, nt, delta);
        const vf longest = steps_(a, bias, nt, delta, sigma, [](int) {});
        for (int t = 0; t < nt; t++) {
          x[t] = delta[t] * u[t];
          dx[t] = slope[t] = vf{};
        }
        if (a.z.data) {
          load_tile(a.z, k, seg.t0 + t0, nt, z);
          for (int t = 0; t < nt; t += GROUP) sigmoid_<GROUP>(z + t, y + t);
          for (int t = 0; t < nt; t++) {
            const vf zt = z[t], s = y[t], g = dy[t];
            y[t] = D * u[t];
            dy[t] = g * zt * s;
            z[t] = g * s * (splat(1.f) + zt * (splat(1.f) - s));  // becomes dz once y is known
          }
        }
        const Chunk chunk = {B,     C,     nt,           A + i * N, A2 + i * N, start,    delta,
                             x,     dy,    carry + i * N, dA,       y,          dx,       slope,
                             h,     decay, dBs + t0,     dCs + t0,  stride};
        if (within_range(longest, steepest[i]))
          backward_states<false>(chunk, a.z.data, N);
        else
          backward_states<true>(chunk, a.z.data, N);
        vf dD = {}, dbias = {};
        for (int t = 0; t < nt; t++) {
          const vf ut = u[t], s = dx[t], g = dy[t];
          const vf dd = (s * ut + slope[t]) * sigma[t];
          slope[t] = dd;
          dx[t] = s * delta[t] + D * g;
          dbias += dd;
          dD += g * ut;
        }
        for (int64_t n = 0; n < N; n++) sum[n].add(dA[n]);
        sum[N].add(dD);
        sum[N + 1].add(dbias);
        store_tile(a, a.ddelta, k, seg.t0 + t0, nt, slope);
        if (a.z.data) {
          for (int t = 0; t < nt; t++) z[t] *= y[t];
          store_tile(a, a.dz, k, seg.t0 + t0, nt, z);
        }
      }
      store_segment(a, a.du, k, seg, dxs);
    }
    const int64_t row = ((task.slice * a.batch + task.b) * a.groups + task.g) * N;
    for (int64_t n = 0; n < N; n++) {
      memcpy(a.dB + (row + n) * a.steps + seg.t0, dBs + n * stride, sizeof(float) * seg.steps);
      memcpy(a.dC + (row + n) * a.steps + seg.t0, dCs + n * stride, sizeof(float) * seg.steps);
    }
  }
  for (int64_t i = 0; i < blocks; i++) {
    const Block k = block_at(a, task, task.first + i);
    const int64_t d = k.b * channels + first_channel(a, k);
    const LongSum *sum = sums + i * (N + 2);
    for (int64_t n = 0; n < N; n++) sum[n].store(a.dA + d * N + n, N, k.rows);
    if (a.dD) sum[N].store(a.dD + d, 1, k.rows);
    if (a.dbias) sum[N + 1].store(a.dbias + d, 1, k.rows);
    if (a.dfirst)
      for (int64_t n = 0; n < N; n++)
        store_lanes(a.dfirst + d * N + n, N, k.rows, carry[i * N + n]);
  }
}

// ---- threads and the door ----------------------------------------------------------------------

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);  // GOMP_parallel

struct Job {
  const Args *args;
  int64_t tasks, next;
  bool backward;
};

static void run_task(const Args &a, int64_t index, bool backward, Scratch scratch) {
  Task task = task_at(a, index);
  const int64_t end = is_picture(a) ? a.groups : task.g + 1;
  for (; task.g < end; task.g++) (backward ? backward_direction : forward_direction)(a, task, scratch);
}

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
    run_task(a, index, job->backward, {(vf *)memory});
  }
  end_streams();
  free(memory);
}

#define EXPORT extern "C" __attribute__((visibility("default")))

// Size of Args: the caller checks that both sides speak of the same structure.
EXPORT int64_t clipmamba_scan_abi(void) { return sizeof(Args); }
EXPORT int64_t clipmamba_scan_lanes(void) { return W; }

// 0, or ENOMEM if no thread could get its scratch memory.
EXPORT int clipmamba_scan(const Args *args, int backward, Parallel parallel, unsigned threads) {
  Job job = {args, tasks(*args), 0, backward != 0};
  if (parallel && threads > 1)
    parallel(work, &job, threads, 0);
  else
    work(&job);
  return job.next >= job.tasks ? 0 : ENOMEM;
}
