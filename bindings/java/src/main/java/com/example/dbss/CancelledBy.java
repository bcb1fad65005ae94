package com.example.dbss;

/** What cancelled a call. */
public enum CancelledBy {
  /** An interrupt of the call's thread, or its future. */
  CALL,
  /** {@link DbssClient#cancelAll}. */
  CLIENT,
  /** Closing the client or the stream. */
  CLOSE,
  /** A callback. */
  CALLBACK,
  /** Something that is newer than this package. */
  OTHER;

  static CancelledBy of(int value) {
    return value == 0 ? null : values()[Math.min(value, values().length) - 1];
  }
}
