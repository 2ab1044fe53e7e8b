// Traversal of a sequence or picture: segments of its steps, tasks for threads, their scratch.
#pragma once

#include "tiles.h"

// A segment is the part of u, and of tensors of its shape, that is read or written at once: some
// chunks, or a strip of 16 columns. Long runs of a row suit the hardware's prefetch. B and C of a
// segment stay in cache for all blocks of channels.
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

// Load u, or a tensor of its shape, for a segment of direction g.
static void load_segment(const Args &a, const View &v, Block k, Segment s, vf *tile) {
  if (!is_picture(a)) return load_tile(v, k, s.t0, s.steps, tile);
  const bool back = from_end(a, k.g);
  const int64_t t0 = back ? a.steps - s.t0 - s.steps : s.t0;  // its first position
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

// Store a segment; overwrites the tile. A picture's later directions are added, in float.
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

// Scratch memory of one worker, allocated in vectors.
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

// Convert raw delta to step sizes in place, with softplus's derivative; return each lane's largest.
// `use(t)` is called while a step's size is in a register.
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
