// Preloaded into a child process of a test: makes a chosen call of the system fail or wait, as bad disks and full machines do.
// The test says which through the fault_* functions. Counted are the calls since then.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Allocations of threads that Python knows nothing of: its own are no matter here.
static atomic_long alloc_count, alloc_nth, read_count, read_nth, write_count, write_nth;
static atomic_int alloc_all, read_code, read_wait_ms, write_code, threads_left = -1;

void fault_alloc(long nth, int all_later) {
  void* frame;
  backtrace(&frame, 1);  // allocates the first time
  alloc_count = 0, alloc_all = all_later, alloc_nth = nth;
}
void fault_read(long nth, int code) { read_count = 0, read_code = code, read_nth = nth; }
void fault_read_wait(int ms) { read_wait_ms = ms; }
void fault_write(long nth, int code) { write_count = 0, write_code = code, write_nth = nth; }
void fault_threads(int number) { threads_left = number; }
long fault_allocs(void) { return alloc_count; }
long fault_reads(void) { return read_count; }
long fault_writes(void) { return write_count; }

// FFmpeg 5.1 does not look whether its copy of the text in av_bsf_list_parse_str failed, and crashes.
static int is_unchecked(void) {
  void* frames[12];
  const int count = backtrace(frames, 12);
  for (int i = 0; i < count; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) && info.dli_sname && strcmp(info.dli_sname, "av_bsf_list_parse_str") == 0) return 1;
  }
  return 0;
}

static int fails_alloc(void) {
  if (alloc_nth == 0 || syscall(SYS_gettid) == getpid()) return 0;
  const long number = ++alloc_count;
  if (number == alloc_nth && !alloc_all && is_unchecked()) {
    ++alloc_nth;
    return 0;
  }
  if (number == alloc_nth || (alloc_all && number > alloc_nth)) {
    errno = ENOMEM;
    return 1;
  }
  return 0;
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void*, size_t), *__libc_memalign(size_t, size_t);
void* malloc(size_t size) { return fails_alloc() ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fails_alloc() ? NULL : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return fails_alloc() ? NULL : __libc_realloc(old, size); }
void* memalign(size_t alignment, size_t size) { return fails_alloc() ? NULL : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  if (fails_alloc()) return ENOMEM;
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}

static int fails_read(void) {
  if (read_wait_ms > 0) {
    const struct timespec wait = {read_wait_ms / 1000, read_wait_ms % 1000 * 1000000L};
    nanosleep(&wait, NULL);
  }
  if (++read_count != read_nth) return 0;
  errno = read_code;
  return 1;
}

ssize_t pread64(int file, void* to, size_t size, off64_t offset) {
  return fails_read() ? -1 : syscall(SYS_pread64, file, to, size, offset);
}
ssize_t pread(int file, void* to, size_t size, off_t offset) { return pread64(file, to, size, offset); }

ssize_t write(int file, const void* from, size_t size) {
  struct stat facts;
  if (write_nth > 0 && fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) && ++write_count >= write_nth) {
    errno = write_code;
    return -1;
  }
  return syscall(SYS_write, file, from, size);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  static int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (!create) create = dlsym(RTLD_NEXT, "pthread_create");
  if (threads_left == 0) return EAGAIN;
  if (threads_left > 0) --threads_left;
  return create(thread, attributes, start, argument);
}
