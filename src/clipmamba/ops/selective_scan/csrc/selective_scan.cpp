// The selective scan (Mamba's S6) on a CPU, forward and backward, fused; of sequences, and of
// pictures in four directions at once.
//
//   delta_t = softplus(delta_t + bias) + least                all optional
//   h_t     = exp(delta_t * A) * h_{t-1} + delta_t * u_t * B_t      h_0 given or 0
//   y_t     = <h_t, C_t> + D * u_t                            D optional
//   out_t   = y_t * silu(z_t)                                 z optional
//
// The lanes of a vector are W neighboring channels; time is processed step by step, in chunks. For
// each chunk and block of W channels, the inputs are transposed in registers into tiles of one
// vector per step, and a few states at a time stay in registers while the loop runs over the tile.
// Nothing of size (B, D, L, N) is ever stored: only the state at each chunk's start is saved, and
// the backward pass recomputes the rest of a chunk in cache. Every sum has one fixed order, so
// results repeat to the byte. State and arithmetic are float32; sums over the whole length (dA, dD,
// dbias) are taken per chunk and then added in double.
//
// A picture is read in place: the groups are its directions (rows, rows from the end, columns,
// columns from the end). Each has its own delta, B and C, in its own order; they share u, and their
// results are summed. A block of channels is scanned in all directions before the next one, so that
// two threads never add to the same result. Columns are read in strips as wide as a cache line.
//
// The library has no dependency: threads come from the caller's OpenMP runtime through a pointer to
// its GOMP_parallel, so that there is never a second runtime beside torch's.

#include <errno.h>
#include <stdlib.h>

#include "backward.h"
#include "forward.h"

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

// Size of Args, for the caller to check that both sides have the same structure.
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
