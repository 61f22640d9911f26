// Preloaded: writes the path of every open and a line for every connect to the file WATCH_LOG.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int (*real_open)(const char*, int, ...);

static void note(const char* call, const char* what) {
  const char* log = getenv("WATCH_LOG");
  if (!log) return;
  if (!real_open) real_open = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open");
  int descriptor = real_open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (descriptor < 0) return;
  char line[4200];
  int length = snprintf(line, sizeof line, "%s %s\n", call, what);
  if (write(descriptor, line, length < (int)sizeof line ? (size_t)length : sizeof line) < 0) abort();
  close(descriptor);
}

#define MODE(flags)                        \
  mode_t mode = 0;                         \
  if ((flags) & (O_CREAT | O_TMPFILE)) {   \
    va_list arguments;                     \
    va_start(arguments, flags);            \
    mode = va_arg(arguments, mode_t);      \
    va_end(arguments);                     \
  }

#define OPEN(function)                                                                                      \
  int function(const char* path, int flags, ...) {                                                          \
    MODE(flags)                                                                                             \
    static int (*next)(const char*, int, ...);                                                              \
    if (!next) next = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, #function);                           \
    note("open", path);                                                                                     \
    return next(path, flags, mode);                                                                         \
  }

#define OPENAT(function)                                                                                    \
  int function(int folder, const char* path, int flags, ...) {                                              \
    MODE(flags)                                                                                             \
    static int (*next)(int, const char*, int, ...);                                                         \
    if (!next) next = (int (*)(int, const char*, int, ...))dlsym(RTLD_NEXT, #function);                      \
    note("open", path);                                                                                     \
    return next(folder, path, flags, mode);                                                                 \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

FILE* fopen(const char* path, const char* how) {
  static FILE* (*next)(const char*, const char*);
  if (!next) next = (FILE * (*)(const char*, const char*)) dlsym(RTLD_NEXT, "fopen");
  note("open", path);
  return next(path, how);
}

int connect(int descriptor, const struct sockaddr* address, socklen_t size) {
  static int (*next)(int, const struct sockaddr*, socklen_t);
  if (!next) next = (int (*)(int, const struct sockaddr*, socklen_t))dlsym(RTLD_NEXT, "connect");
  note("connect", address->sa_family == AF_INET ? "AF_INET" : "other");
  return next(descriptor, address, size);
}
