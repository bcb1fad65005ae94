package com.example.dbss;

import java.util.HashSet;
import java.util.Set;

/** Cancels the calls of a future. */
final class Cancellation {
  /** That of the future that this thread works for. */
  static final ThreadLocal<Cancellation> CURRENT = new ThreadLocal<>();

  private final Set<Call> calls = new HashSet<>();
  private boolean cancelled;
  private boolean done;

  synchronized void add(Call call) {
    calls.add(call);
    if (cancelled) {
      call.cancel();
    }
  }

  synchronized void remove(Call call) {
    calls.remove(call);
  }

  synchronized void cancel() {
    cancelled = true;
    calls.forEach(Call::cancel);
  }

  /** The work has its result, so that the end of the future no longer cancels anything. */
  synchronized void done() {
    done = true;
  }

  synchronized void cancelUnlessDone() {
    if (!done) {
      cancel();
    }
  }
}
