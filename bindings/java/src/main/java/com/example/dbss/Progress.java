package com.example.dbss;

import com.example.dbss.internal.Fields;

/** The progress of a call. */
public class Progress {
  final Fields.Operation fields;

  Progress(Fields.Operation fields) {
    this.fields = fields;
  }

  /** {@return the bytes that have arrived, including those before a resumption} */
  public long received() {
    return fields.received;
  }

  /** {@return the size of the report in bytes; -1 if it is unknown} */
  public long total() {
    return fields.total;
  }

  /** {@return the bytes that did not have to be transferred again after a break} */
  public long resumed() {
    return fields.resumed;
  }

  /** {@return the number of requests so far} */
  public int attempts() {
    return fields.attempts;
  }

  /**
   * {@return the progress of the service in generating a report, or the part of the reports of a
   * mirror that are finished, in percent; -1 if it is unknown}
   */
  public int percent() {
    return fields.percent;
  }

  /** {@return the bytes that have arrived, and the size if it is known} */
  @Override
  public String toString() {
    return received() + (total() < 0 ? "" : " of " + total()) + " bytes";
  }
}
