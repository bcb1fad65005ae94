package com.example.dbss;

import java.time.Instant;

/** A token, and when it expires. */
public final class Token {
  final String value;
  final Instant expiresAt;

  /**
   * Makes a token.
   *
   * @param value 1 to 98304 visible ASCII characters
   * @param expiresAt when it expires, by the clock of this machine; null if that is unknown
   */
  public Token(String value, Instant expiresAt) {
    this.value = DbssException.required("value", value);
    this.expiresAt = expiresAt;
  }

  /**
   * Makes a token that expires at an unknown time.
   *
   * @param value 1 to 98304 visible ASCII characters
   */
  public Token(String value) {
    this(value, null);
  }

  /** {@return when it expires, without the token} */
  @Override
  public String toString() {
    return "Token[***, " + expiresAt + "]";
  }
}
