package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Library;

/** The library. */
final class Native {
  static final Abi ABI = Library.load();

  static {
    ABI.install(new Upcalls());
  }

  private Native() {}

  /**
   * Throws the error of a function without an operation. It must be called with the function's
   * result at once: the error belongs to the thread of the system, and without anything that waits
   * in between a virtual thread stays on it.
   */
  static void check(int status) {
    if (status != 0) {
      throw DbssException.take(status, takeError(status));
    }
  }

  /** The error of such a function; 0 if there was no memory for one. */
  static long takeError(int status) {
    long error = ABI.dbss_error_take();
    // Never the error of another call.
    boolean own = error != 0 && ABI.dbss_error_status(error) == status;
    if (!own) {
      ABI.dbss_error_free(error);
    }
    return own ? error : 0;
  }
}
