package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import java.time.Duration;

/** A record of the log. It contains no secret. */
public final class LogRecord {
  private final Fields.LogRecord fields;
  private final String message;
  private final DbssException error;

  LogRecord(Fields.LogRecord fields, String message, DbssException error) {
    this.fields = fields;
    this.message = message;
    this.error = error;
  }

  /** {@return how important it is} */
  public System.Logger.Level level() {
    switch (fields.level) {
      case Abi.DBSS_LOG_ERROR:
        return System.Logger.Level.ERROR;
      case Abi.DBSS_LOG_WARNING:
        return System.Logger.Level.WARNING;
      case Abi.DBSS_LOG_INFO:
        return System.Logger.Level.INFO;
      default:
        return System.Logger.Level.DEBUG;
    }
  }

  /** {@return one line for people} */
  public String message() {
    return message;
  }

  /** {@return the failure that the record is about; null for none} */
  public DbssException error() {
    return error;
  }

  /** {@return the number of the request within the call, from 1; 0 for none} */
  public int attempt() {
    return fields.attempt;
  }

  /** {@return the service's id of the request; null for none} */
  public String requestId() {
    return fields.requestId;
  }

  /** {@return the id of the report; null if it is not about one} */
  public String reportId() {
    return fields.reportId;
  }

  /** {@return the HTTP status of the response; 0 for none} */
  public int httpStatus() {
    return fields.httpStatus;
  }

  /** {@return the size of the body in bytes; -1 for none} */
  public long bytes() {
    return fields.bytes;
  }

  /** {@return the offset in bytes at which a transfer broke or continues; -1 for none} */
  public long offset() {
    return fields.offset;
  }

  /** {@return how long the call has taken so far; null for none} */
  public Duration duration() {
    return fields.durationMs < 0 ? null : Duration.ofMillis(fields.durationMs);
  }

  /** {@return how long the call waits before its next attempt; null for none} */
  public Duration retryDelay() {
    return fields.retryDelayMs < 0 ? null : Duration.ofMillis(fields.retryDelayMs);
  }

  /** {@return the message, with the ids of the report and the request} */
  @Override
  public String toString() {
    return message + missing(" report_id=", reportId()) + missing(" request_id=", requestId());
  }

  private String missing(String name, String id) {
    return id == null || message.contains(id) ? "" : name + id;
  }
}
