package com.example.dbss;

import com.example.dbss.internal.Abi;
import java.time.Instant;
import java.util.HashSet;
import java.util.Set;

/** Completes requests for tokens. */
final class Provider {
  private static final Abi ABI = Native.ABI;

  private final TokenProvider provide;
  private final Set<Thread> running = new HashSet<>();
  private boolean closed;

  // The last failure. Held while a request is completed, so that calls see its reason.
  private final Object failing = new Object();
  private int[] reason = {};
  private Throwable thrown;

  Provider(TokenProvider provide) {
    this.provide = provide;
  }

  /** Answers on another thread, so that the call can be cancelled meanwhile. */
  void request(long request) {
    try {
      Threads.POOL.execute(() -> serve(request));
    } catch (Throwable e) {
      fail(request, e);
      ABI.dbss_token_request_free(request);
    }
  }

  /** Lets the thread be interrupted when the client is closed. */
  private Token provide(boolean refused) throws Exception {
    synchronized (running) {
      running.add(Thread.currentThread());
      if (closed) {
        Thread.currentThread().interrupt();
      }
    }
    try {
      return provide.provide(refused);
    } finally {
      synchronized (running) {
        running.remove(Thread.currentThread());
      }
    }
  }

  private void serve(long request) {
    try (Frame frame = new Frame()) {
      Token token = provide(ABI.dbss_token_request_refused(request) != 0);
      if (token == null) {
        throw new IllegalStateException("it returned null instead of a Token");
      }
      long expires = milliseconds(token.expiresAt);
      long value = frame.text("token", token.value);
      synchronized (failing) {
        try {
          Native.check(ABI.dbss_token_request_set(request, value, expires));
        } catch (DbssException e) {
          fail(request, e);
        }
      }
    } catch (Throwable e) {
      fail(request, e);
    } finally {
      ABI.dbss_token_request_free(request);
    }
  }

  /** Since 1970; -1 for null. */
  private static long milliseconds(Instant time) {
    if (time == null) {
      return -1;
    }
    try {
      // A time before 1970 has expired like 1970 itself.
      return Math.max(0, time.toEpochMilli());
    } catch (ArithmeticException e) {
      return time.isBefore(Instant.EPOCH) ? 0 : Long.MAX_VALUE;
    }
  }

  /** Completes a request, unless libdbss has done so with the same reason. */
  private void fail(long request, Throwable e) {
    String name = e.getClass().getName();
    String text;
    try {
      text = e.getMessage();
    } catch (Throwable none) {
      text = name;
    }
    int[] shown =
        (text == null || text.isBlank() ? name : text)
            .codePoints()
            // libdbss repeats 512 bytes of it.
            .limit(120)
            .map(c -> c == 0 || Character.getType(c) == Character.SURROGATE ? ' ' : c)
            .toArray();
    try (Frame frame = new Frame()) {
      long message = frame.text("message", new String(shown, 0, shown.length));
      synchronized (failing) {
        reason = shown;
        thrown = e;
        ABI.dbss_token_request_fail(request, message);
        ABI.dbss_error_free(ABI.dbss_error_take());
      }
    }
  }

  /** What the provider threw, if that is the reason in the message of an error; else null. */
  Throwable causeOf(String message) {
    int[] shown = message.codePoints().toArray();
    synchronized (failing) {
      for (int from = 0; reason.length > 0 && from + reason.length <= shown.length; from++) {
        if (isReason(shown, from)) {
          return thrown;
        }
      }
      return null;
    }
  }

  private boolean isReason(int[] shown, int from) {
    for (int i = 0; i < reason.length; i++) {
      // libdbss makes a space of what is not safe to show.
      if (shown[from + i] != reason[i] && shown[from + i] != ' ') {
        return false;
      }
    }
    return true;
  }

  /** Interrupts the providers that run. */
  void close() {
    synchronized (running) {
      closed = true;
      running.forEach(Thread::interrupt);
    }
  }
}
