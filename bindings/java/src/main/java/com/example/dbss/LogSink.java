package com.example.dbss;

import com.example.dbss.internal.Fields;
import java.util.function.Consumer;

/** Receives the log of a client. */
final class LogSink {
  private final Consumer<LogRecord> log;
  private volatile Throwable thrown;

  LogSink(Consumer<LogRecord> log) {
    this.log = log;
  }

  /** What the log of no call threw, as that of making a client. */
  Throwable thrown() {
    return thrown;
  }

  void accept(long record) {
    Call call = Call.CURRENT.get();
    if (call != null && call.client.logs != this) {
      // A call in whose callback this client is made.
      call = null;
    }
    try {
      long error = Native.ABI.dbss_log_record_error(record);
      int status = Native.ABI.dbss_error_status(error);
      Fields.LogRecord fields = new Fields.LogRecord(Native.ABI, record);
      String said = fields.message;
      DbssException failed = null;
      if (error != 0) {
        failed = DbssException.take(status, error);
        said = said.replace(failed.plainMessage(), failed.getMessage());
      }
      log.accept(new LogRecord(fields, said, failed));
      if (call != null) {
        call.resume();
      }
    } catch (Throwable e) {
      if (call == null) {
        thrown = thrown == null ? e : thrown;
      } else {
        call.onThrown(e);
      }
    }
  }
}
