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
  // The client that was open when the future was made, until the first call begins.
  private Handle waiting;

  Cancellation(Handle open) {
    waiting = open;
  }

  /** Whether a call is the first one, so that closing its client meanwhile has cancelled it. */
  synchronized boolean waited(Handle client) {
    boolean waited = waiting == client;
    waiting = null;
    return waited;
  }

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

  /**
   * Says that the work has its result, so that the end of the future no longer cancels anything;
   * false if it was cancelled before.
   */
  synchronized boolean finish() {
    done |= !cancelled;
    return done;
  }

  synchronized void cancelUnlessDone() {
    if (!done) {
      cancel();
    }
  }
}
