package com.example.dbss;

/** The thread of the call was interrupted, before it or meanwhile. It is still, for others. */
public final class DbssInterruptedException extends DbssCancelledException {
  private static final long serialVersionUID = 1;

  DbssInterruptedException(Details details) {
    super(details, null);
  }
}
