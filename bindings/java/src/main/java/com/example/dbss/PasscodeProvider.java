package com.example.dbss;

/** Provides passcodes of an MFA device, one for each login. Otherwise as {@link TokenProvider}. */
@FunctionalInterface
public interface PasscodeProvider {
  /**
   * {@return a passcode, which is sent once}
   *
   * @param refused whether IAM rejected the last login
   * @throws Exception if there is none
   */
  String provide(boolean refused) throws Exception;
}
