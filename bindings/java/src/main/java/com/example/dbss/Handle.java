package com.example.dbss;

import java.lang.ref.Cleaner;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/** A handle of libdbss, which is freed when it is closed and nothing uses it. */
final class Handle implements Runnable {
  private static final Cleaner CLEANER = Cleaner.create();

  private final long address;
  private final LongConsumer free;
  // The owner counts as a user until it closes the handle.
  private final AtomicLong users = new AtomicLong(1);
  private final AtomicBoolean closed = new AtomicBoolean();
  private Cleaner.Cleanable cleanable;
  private Executor cleaner = Runnable::run;

  Handle(long address, LongConsumer free) {
    this.address = address;
    this.free = free;
  }

  /** Closes the handle elsewhere than on the cleaner's one thread, which must not wait. */
  Handle cleanedOn(Executor executor) {
    cleaner = executor;
    return this;
  }

  /** Closes the handle when its owner is forgotten. */
  Handle ownedBy(Object owner) {
    cleanable = CLEANER.register(owner, this);
    return this;
  }

  /** The handle, which must be released; 0 if it is closed. */
  long acquire() {
    for (; ; ) {
      long now = users.get();
      if (now == 0 || closed.get()) {
        return 0;
      }
      if (users.compareAndSet(now, now + 1)) {
        return address;
      }
    }
  }

  void release() {
    if (users.decrementAndGet() == 0) {
      free.accept(address);
    }
  }

  boolean isClosed() {
    return closed.get();
  }

  /** Lets a function end the calls that run. Does nothing the second time. */
  void close(LongConsumer end) {
    if (closed.compareAndSet(false, true)) {
      end.accept(address);
      release();
      if (cleanable != null) {
        // So that the cleaner forgets it.
        cleanable.clean();
      }
    }
  }

  /** What the cleaner does. */
  @Override
  public void run() {
    if (!closed.get()) {
      cleaner.execute(() -> close(address -> {}));
    }
  }
}
