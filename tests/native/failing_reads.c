// Preloaded: reads of files whose name holds FAIL_NAME fail with EIO from byte FAIL_AT on, as those of a mount do that lost its server.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int must_fail(int descriptor, off_t offset, size_t size) {
  const char *name = getenv("FAIL_NAME"), *at = getenv("FAIL_AT");
  if (!name || !at) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, name) && offset + (off_t)size > atol(at);
}

#define FAILING(function)                                                          \
  ssize_t function(int descriptor, void* buffer, size_t size, off_t offset) {      \
    static ssize_t (*next)(int, void*, size_t, off_t);                             \
    if (!next) next = (ssize_t(*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, #function); \
    if (must_fail(descriptor, offset, size)) {                                     \
      errno = EIO;                                                                 \
      return -1;                                                                   \
    }                                                                              \
    return next(descriptor, buffer, size, offset);                                 \
  }

FAILING(pread)
FAILING(pread64)
