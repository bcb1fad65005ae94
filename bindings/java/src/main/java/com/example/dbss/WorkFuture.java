package com.example.dbss;

import java.util.concurrent.CompletableFuture;

/**
 * A future of calls. Whoever completes it in place of its work cancels the calls first, before what
 * depends on the future runs.
 */
final class WorkFuture<T> extends CompletableFuture<T> {
  final Cancellation cancellation;

  WorkFuture(Cancellation cancellation) {
    this.cancellation = cancellation;
  }

  @Override
  public boolean cancel(boolean mayInterrupt) {
    cancellation.cancelUnlessDone();
    return super.cancel(mayInterrupt);
  }

  @Override
  public boolean complete(T value) {
    cancellation.cancelUnlessDone();
    return super.complete(value);
  }

  @Override
  public boolean completeExceptionally(Throwable thrown) {
    cancellation.cancelUnlessDone();
    return super.completeExceptionally(thrown);
  }
}
