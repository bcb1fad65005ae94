package com.example.dbss.internal;

/** How libdbss is called: by JNA. The class of the same name for Java 22 does it by FFM. */
public final class Backend {
  private Backend() {}

  /** Loads the library of a file. */
  public static Abi open(String path) {
    return new JnaAbi(path);
  }
}
