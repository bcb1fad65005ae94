package com.example.dbss;

import com.example.dbss.internal.Abi;

/** The format of a report, by its first bytes. */
public enum Format {
  /** Neither of these, or the report has not begun to arrive. */
  UNKNOWN,
  /** A PDF. */
  PDF,
  /** A ZIP archive. */
  ZIP;

  static Format of(int value) {
    return value == Abi.DBSS_FORMAT_PDF ? PDF : value == Abi.DBSS_FORMAT_ZIP ? ZIP : UNKNOWN;
  }
}
