package com.example.dbss.internal;

/** How libdbss is called: by the foreign function interface of Java. */
public final class Backend {
  private Backend() {}

  /** Loads the library of a file. */
  public static Abi open(String path) {
    return new FfmAbi(path);
  }
}
