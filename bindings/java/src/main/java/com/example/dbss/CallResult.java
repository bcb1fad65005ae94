package com.example.dbss;

import com.example.dbss.internal.Fields;
import java.nio.file.Path;

/** What a call found out; see {@link CallOptions#onResult}. */
public final class CallResult extends Progress {
  CallResult(Fields.Operation fields) {
    super(fields);
  }

  /** {@return where the report was saved; null if it was not} */
  public Path path() {
    return Paths.of(fields.path);
  }

  /** {@return a safe form of the report's own name; null until it has begun to arrive} */
  public String filename() {
    return fields.filename;
  }

  /** {@return the service's id of the request; null for none} */
  public String requestId() {
    return fields.requestId;
  }

  /** {@return the header Content-Type of the report; null for none} */
  public String contentType() {
    return fields.contentType;
  }

  /** {@return the format of the report} */
  public Format format() {
    return Format.of(fields.format);
  }
}
