// One scan for `emulate_aarch64.py`: FILE holds the function, its arguments, and the tensors' bytes,
// to which pointers refer by tensor and offset; the bytes are written back.

#include <stdio.h>

#include "../src/clipmamba/ops/selective_scan/csrc/selective_scan.cpp"

constexpr int MOST = 64;
static char *bytes[MOST];

// A pointer is encoded as (tensor + 1) << 40 | offset, a null pointer as 0.
static void resolve(void *pointer) {
  int64_t word;
  memcpy(&word, pointer, sizeof word);
  if (!word) return;
  char *at = bytes[(word >> 40) - 1] + (word & ((int64_t(1) << 40) - 1));
  memcpy(pointer, &at, sizeof at);
}

static bool transfer(bool reads, void *p, size_t size, FILE *file) {
  return (reads ? fread(p, 1, size, file) : fwrite(p, 1, size, file)) == size;
}

int main(int, char **argv) {
  int64_t backward, count, size[MOST];
  Args args;
  FILE *file = fopen(argv[1], "r+b");
  if (!file || !transfer(true, &backward, 8, file) || !transfer(true, &count, 8, file)) return 1;
  if (count > MOST || !transfer(true, &args, sizeof args, file)) return 1;
  if (!transfer(true, size, 8 * count, file)) return 1;
  const long begin = ftell(file);
  for (int i = 0; i < count; i++) {
    if (posix_memalign((void **)&bytes[i], 64, size[i])) return 1;
    if (!transfer(true, bytes[i], size[i], file)) return 1;
  }
  View *views[] = {&args.u,   &args.delta, &args.z,  &args.B,      &args.C,
                   &args.out, &args.dout,  &args.du, &args.ddelta, &args.dz};
  for (View *view : views) resolve(&view->data);
  for (void **p = (void **)&args.A; p <= (void **)&args.dC; p++) resolve(p);
  const int error = clipmamba_scan(&args, (int)backward, nullptr, 1);
  fseek(file, begin, SEEK_SET);
  for (int i = 0; i < count; i++)
    if (!transfer(false, bytes[i], size[i], file)) return 1;
  return error || fclose(file);
}
