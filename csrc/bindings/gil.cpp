#include <unistd.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "bindings/bindings.h"

namespace vidload {

GilRelease::GilRelease() : thread_(PyEval_SaveThread()) {}

GilRelease::~GilRelease() {
#if defined(__GLIBCXX__)
  try {
    PyEval_RestoreThread(thread_);
  } catch (const abi::__forced_unwind&) {
    while (true) ::pause();  // in here: leaving the handler would go on with the unwinding
  }
#else
  PyEval_RestoreThread(thread_);
#endif
}

}  // namespace vidload
