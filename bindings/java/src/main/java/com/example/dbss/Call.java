package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import com.example.dbss.internal.Stack;
import java.io.OutputStream;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.spi.AbstractInterruptibleChannel;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.function.Supplier;

/**
 * A call of libdbss, or a stream. It is a channel because an interrupt of a thread that uses a
 * channel calls the channel at once, so that no call needs to look for interrupts.
 */
final class Call extends AbstractInterruptibleChannel {
  /** What runs under the operation of a call. */
  interface Body<T> {
    T run(Call call, Frame frame);
  }

  private static final Abi ABI = Native.ABI;

  /** The call that runs on this thread, for its log. */
  static final ThreadLocal<Call> CURRENT = new ThreadLocal<>();

  final DbssClient client;
  final CallOptions options;
  final long context;
  final long operation;
  private final Cancellation cancellation = Cancellation.CURRENT.get();
  private final Object cancelling = new Object();
  private boolean freed;
  private volatile boolean interrupted;
  private long number;

  // What a callback threw; the first one has the others.
  private Throwable thrown;

  // What the call has done, which an exception of a callback must not hide.
  private Supplier<DbssException> done;
  private MirrorResult mirrorResult;

  private DbssException failed;

  private OutputStream target;
  private byte[] chunk;
  private long written;

  /** Begins a call, which must be freed. */
  Call(DbssClient client, CallOptions options) {
    this.client = client;
    this.options = options;
    context = client.context.acquire();
    boolean waited = cancellation != null && cancellation.waited(client.context);
    if (context == 0) {
      throw waited ? cancelledByClose(List.of()) : closed("client", "client");
    }
    long made = 0;
    try (Frame frame = new Frame()) {
      long out = frame.out();
      Native.check(ABI.dbss_operation_new(out));
      made = ABI.getLong(out);
      long configured = made;
      options.apply(frame, (key, value) -> ABI.dbss_operation_set(configured, key, value));
      if (options.progress != null) {
        long progress = ABI.dbss_progress_fn();
        Native.check(ABI.dbss_operation_set_progress(made, progress, number(), 0));
      }
    } catch (Throwable e) {
      ABI.dbss_operation_free(made);
      client.context.release();
      Upcalls.remove(number);
      throw e;
    }
    operation = made;
    if (cancellation != null) {
      cancellation.add(this);
    }
  }

  /** Runs a call from its options to its error. */
  static <T> T run(DbssClient client, CallOptions options, Body<T> body) {
    Call call = new Call(client, options);
    try {
      T result;
      try {
        result = call.perform(body);
      } catch (Throwable e) {
        call.freeAfter(e);
        throw e;
      }
      call.free();
      return result;
    } catch (Throwable e) {
      if (call.done != null) {
        e.addSuppressed(call.done.get());
      }
      throw e;
    }
  }

  /** Says what the call has done, in case that a callback throws nonetheless. */
  void created(String id) {
    done = () -> DbssException.created(id);
  }

  /** The same of a file. */
  Path saved() {
    Path path = result().path();
    done = () -> DbssException.saved(path);
    return path;
  }

  /** The same of a mirror, which may have failed. */
  void mirrored(int status, MirrorResult result) {
    mirrorResult = result;
    done = status == 0 ? () -> DbssException.mirrored(result) : null;
  }

  /** {@return the last failure that is the call's own; null for none} */
  DbssException failed() {
    return failed;
  }

  static DbssException closed(String parameter, String what) {
    return DbssException.of(Status.CLOSED, parameter, "the " + what + " is closed");
  }

  static DbssException cancelledByClose(List<String> candidates) {
    String message = "the call was cancelled: its client was closed";
    var details = DbssException.Details.cancelled(Abi.DBSS_CANCELLED_BY_CLOSE, message);
    details.candidates.addAll(candidates);
    return new DbssCancelledException(details, null);
  }

  /** The user_data of its callbacks. */
  long number() {
    if (number == 0) {
      number = Upcalls.add(this);
    }
    return number;
  }

  /** Runs a part of the call, so that an interrupt ends it. */
  <T> T perform(Body<T> body) {
    if (Threads.isVirtual()) {
      return performElsewhere(body);
    }
    if (options.progress != null || client.logs != null || client.provider != null) {
      // What overflows in a callback before its code runs could not be caught.
      Stack.probe();
    }
    Call outer = client.logs == null ? null : CURRENT.get();
    if (client.logs != null) {
      CURRENT.set(this);
    }
    begin();
    try (Frame frame = new Frame()) {
      return body.run(this, frame);
    } finally {
      try {
        end(true);
      } catch (ClosedByInterruptException e) {
        // The call has failed because of it, or was done before.
      } catch (AsynchronousCloseException e) {
        throw new AssertionError(e);
      }
      if (client.logs != null) {
        CURRENT.set(outer);
      }
    }
  }

  /** On a thread of the system, so that the carrier of the virtual thread can run others. */
  private <T> T performElsewhere(Body<T> body) {
    Cancellation current = Cancellation.CURRENT.get();
    Thread[] worker = {null};
    FutureTask<T> task =
        new FutureTask<>(
            () -> {
              Cancellation.CURRENT.set(current);
              synchronized (worker) {
                worker[0] = Thread.currentThread();
              }
              try {
                return perform(body);
              } finally {
                synchronized (worker) {
                  worker[0] = null;
                }
                Cancellation.CURRENT.remove();
              }
            });
    Threads.POOL.execute(task);
    boolean wasInterrupted = false;
    try {
      for (; ; ) {
        try {
          return task.get();
        } catch (InterruptedException e) {
          wasInterrupted = true;
          implCloseChannel();
          synchronized (worker) {
            if (worker[0] != null) {
              // For the calls of its callbacks; the pool clears it.
              worker[0].interrupt();
            }
          }
        } catch (ExecutionException e) {
          throw Threads.sneaky(e.getCause());
        }
      }
    } finally {
      if (wasInterrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Throws the failure of the call: what a callback threw, or the error of its operation. */
  void check(int status) {
    Throwable own = thrown;
    failed = status == 0 ? null : failure(status).with(mirrorResult);
    if (own != null) {
      thrown = null;
      // That the call was cancelled is no news, but what it has done before is.
      if (failed != null
          && (failed.status() != Status.CANCELLED
              || mirrorResult != null
              || !failed.candidates().isEmpty())) {
        own.addSuppressed(failed);
      }
      throw Threads.sneaky(own);
    }
    if (failed != null) {
      throw failed;
    }
  }

  private DbssException failure(int status) {
    var failed = DbssException.Details.take(status, ABI.dbss_operation_error(operation));
    if (interrupted && failed.cancelledBy == Abi.DBSS_CANCELLED_BY_OPERATION) {
      return new DbssInterruptedException(failed);
    }
    if (status == Status.CLOSED.code() && "client".equals(failed.parameter)) {
      // It was open when the call was made.
      return cancelledByClose(failed.candidates);
    }
    if (status == Status.CLOSED.code() && "stream".equals(failed.parameter)) {
      // Closed since the read began.
      return closed("stream", "stream");
    }
    boolean noToken = client.provider != null && status == Status.NO_TOKEN.code();
    return Groups.exception(failed, noToken ? client.provider.causeOf(failed.message) : null);
  }

  /** What an interrupt throws that came too late to fail the call; null without one. */
  DbssInterruptedException interruption() {
    return interrupted
        ? new DbssInterruptedException(
            DbssException.Details.cancelled(
                Abi.DBSS_CANCELLED_BY_OPERATION, "the call was cancelled"))
        : null;
  }

  /** What an interrupt does. */
  @Override
  protected void implCloseChannel() {
    interrupted = true;
    cancel();
  }

  void cancel() {
    synchronized (cancelling) {
      if (!freed) {
        ABI.dbss_operation_cancel(operation);
      }
    }
  }

  CallResult result() {
    return new CallResult(new Fields.Operation(ABI, operation));
  }

  /** The same after a failure, which stays the one that is thrown. */
  void freeAfter(Throwable failure) {
    try {
      free();
    } catch (Throwable e) {
      if (e != failure) {
        failure.addSuppressed(e);
      }
    }
  }

  /** Releases what the call has. A stream that uses its operation is freed before. */
  void free() {
    try {
      if (options.result != null) {
        options.result.accept(result());
      }
    } finally {
      if (cancellation != null) {
        cancellation.remove(this);
      }
      synchronized (cancelling) {
        freed = true;
        ABI.dbss_operation_free(operation);
      }
      Upcalls.remove(number);
      client.context.release();
    }
  }

  // Callbacks

  /** After a callback, which may have used channels itself. */
  void resume() {
    begin();
  }

  int onProgress(long operation) {
    try {
      boolean goesOn = options.progress.test(new Progress(new Fields.Operation(ABI, operation)));
      resume();
      return goesOn ? 0 : 1;
    } catch (Throwable e) {
      threw(e);
      return 1;
    }
  }

  /** A callback threw. */
  void threw(Throwable e) {
    if (thrown == null) {
      thrown = e;
    } else if (thrown != e) {
      thrown.addSuppressed(e);
    }
  }

  void onThrown(Throwable e) {
    threw(e);
    cancel();
  }

  void writeTo(OutputStream target) {
    Stack.probe();
    this.target = target;
  }

  /** Throws if bytes that arrived were not written, because Java could not run onWrite. */
  void checkWritten() {
    if (written < ABI.dbss_operation_received(operation)) {
      throw DbssException.of(
          Status.INTERNAL, null, "not all bytes were written: Java had no stack or memory left");
    }
  }

  int onWrite(long data, long length) {
    try {
      if (chunk == null) {
        chunk = new byte[(int) Math.min(length, 256 << 10)];
      }
      for (long done = 0; done < length; ) {
        int size = (int) Math.min(chunk.length, length - done);
        ABI.read(data + done, chunk, 0, size);
        target.write(chunk, 0, size);
        done += size;
      }
      written += length;
      resume();
      return 0;
    } catch (Throwable e) {
      threw(e);
      return 1;
    }
  }
}
