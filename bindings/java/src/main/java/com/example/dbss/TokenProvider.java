package com.example.dbss;

/**
 * Provides tokens. It is called when the first call needs one, before a token expires, and when the
 * service has rejected the last one. It runs once for all calls that wait, on a thread of this
 * package, which is interrupted when the client is closed; each call can be cancelled meanwhile and
 * keeps its own timeouts. What it throws is the cause of their {@link Status#NO_TOKEN}. It must not
 * use its own client, whose calls would wait for it until their timeouts.
 */
@FunctionalInterface
public interface TokenProvider {
  /**
   * {@return a token}
   *
   * @param refused whether the service rejected the last one
   * @throws Exception if there is none
   */
  Token provide(boolean refused) throws Exception;
}
