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
  private String reason = "";
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
      if (token.expiresAt != null && token.expiresAt.isBefore(Instant.now())) {
        String wrong = "expiresAt: is in the past, so the token has expired; give null if unknown";
        throw DbssException.of(Status.INVALID_TOKEN, "expiresAt", wrong);
      }
      // A time before 1970 has expired like 1970 itself; -1 means unknown.
      long expires = token.expiresAt == null ? -1 : Math.max(0, token.expiresAt.toEpochMilli());
      long value = frame.text("token", token.value);
      Native.check(ABI.dbss_token_request_set(request, value, expires));
    } catch (Throwable e) {
      fail(request, e);
    } finally {
      ABI.dbss_token_request_free(request);
    }
  }

  /** Completes a request, unless libdbss has done so with the same reason. */
  private void fail(long request, Throwable e) {
    String text = e instanceof DbssException ? e.getMessage() : String.valueOf(e.getMessage());
    StringBuilder shown = new StringBuilder();
    // libdbss repeats 512 bytes of it, and nothing that cannot be printed.
    text.codePoints()
        .limit(120)
        .map(
            c ->
                Character.isISOControl(c)
                        || Character.getType(c) == Character.SURROGATE
                        || c == 0x2028
                        || c == 0x2029
                    ? ' '
                    : c)
        .forEach(shown::appendCodePoint);
    try (Frame frame = new Frame()) {
      synchronized (failing) {
        reason = shown.toString();
        thrown = e;
        ABI.dbss_token_request_fail(request, frame.text("message", reason));
        ABI.dbss_error_free(ABI.dbss_error_take());
      }
    }
  }

  /** What the provider threw, if that is the reason in the message of an error; else null. */
  Throwable causeOf(String message) {
    synchronized (failing) {
      return !reason.isEmpty() && message.contains(reason) ? thrown : null;
    }
  }

  /** Interrupts the providers that run. */
  void close() {
    synchronized (running) {
      closed = true;
      running.forEach(Thread::interrupt);
    }
  }
}
