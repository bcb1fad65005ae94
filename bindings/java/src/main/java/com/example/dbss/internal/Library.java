package com.example.dbss.internal;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** Finds the shared library, and loads it. */
public final class Library {
  private static final String NAME = "libdbss.so.0";

  private Library() {}

  /**
   * Loads the library that the system property dbss.library.path names, a file or its directory,
   * else that of the jar.
   */
  public static Abi load() {
    String given = System.getProperty("dbss.library.path", "");
    if (!given.isEmpty()) {
      Path path = Path.of(given).toAbsolutePath();
      return open(Files.isDirectory(path) ? path.resolve(NAME) : path);
    }
    String platform = platform();
    try (InputStream library = Library.class.getResourceAsStream("/" + resource(platform))) {
      if (library == null) {
        throw new UnsatisfiedLinkError(
            "this jar of dbss has no library for " + platform + "; set dbss.library.path");
      }
      // A directory of this user alone; both are gone as soon as the library is loaded.
      Path directory = Files.createTempDirectory("dbss-");
      Path file = directory.resolve(NAME);
      try {
        Files.copy(library, file);
        return open(file);
      } finally {
        Files.deleteIfExists(file);
        Files.deleteIfExists(directory);
      }
    } catch (IOException e) {
      throw failed("cannot write libdbss to java.io.tmpdir", e);
    }
  }

  private static Abi open(Path path) {
    try {
      return Backend.open(path.toString());
    } catch (IllegalArgumentException | UnsatisfiedLinkError e) {
      String needed = "its directory, and for JNA that of jna.tmpdir, must allow execution";
      throw failed("cannot load " + path + "; " + needed, e);
    }
  }

  private static UnsatisfiedLinkError failed(String what, Throwable cause) {
    UnsatisfiedLinkError error =
        new UnsatisfiedLinkError(
            what + ": " + cause.getMessage() + "; or set dbss.library.path to a libdbss.so.0");
    error.initCause(cause);
    return error;
  }

  private static String resource(String platform) {
    return "com/example/dbss/native/" + platform + "/" + NAME;
  }

  /** The name of this platform, such as linux-x86_64-glibc. */
  static String platform() {
    String processor = System.getProperty("os.arch");
    return String.join(
        "-",
        System.getProperty("os.name").toLowerCase(Locale.ROOT),
        processor.equals("amd64") ? "x86_64" : processor,
        usesMusl() ? "musl" : "glibc");
  }

  private static boolean usesMusl() {
    try {
      // What this process has loaded, also where both are installed.
      String maps =
          new String(Files.readAllBytes(Path.of("/proc/self/maps")), StandardCharsets.ISO_8859_1);
      return maps.contains("/ld-musl-");
    } catch (IOException e) {
      return false;
    }
  }
}
