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
      Path file = Files.isDirectory(path) ? path.resolve(NAME) : path;
      if (!Files.exists(file)) {
        throw new UnsatisfiedLinkError(
            "there is no " + file + ", which the system property dbss.library.path names");
      }
      return open(
          file, "cannot load " + file + ", which the system property dbss.library.path names");
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
        return open(
            file.toAbsolutePath(),
            "cannot load libdbss from the directory of java.io.tmpdir; it and, for JNA, that of"
                + " jna.tmpdir must allow execution, or the system property dbss.library.path must"
                + " name a libdbss.so.0");
      } finally {
        Files.deleteIfExists(file);
        Files.deleteIfExists(directory);
      }
    } catch (IOException e) {
      throw failed(
          "cannot write libdbss to the directory of java.io.tmpdir; set that to another directory,"
              + " or the system property dbss.library.path to a libdbss.so.0",
          e);
    }
  }

  private static Abi open(Path path, String failure) {
    try {
      return Backend.open(path.toString());
    } catch (IllegalArgumentException | UnsatisfiedLinkError e) {
      throw failed(failure, e);
    } catch (NoClassDefFoundError e) {
      throw failed(
          "before Java 22, dbss needs JNA (net.java.dev.jna:jna-jpms): add it to the class path, or"
              + " to the module path with --add-modules com.sun.jna",
          e);
    } catch (ExceptionInInitializerError e) {
      if (e.getCause() instanceof IllegalCallerException) {
        throw failed(
            "Java allows dbss no native access: start it with"
                + " --enable-native-access=ALL-UNNAMED, or =com.example.dbss on the module path",
            e.getCause());
      }
      throw e;
    }
  }

  private static UnsatisfiedLinkError failed(String what, Throwable cause) {
    UnsatisfiedLinkError error = new UnsatisfiedLinkError(what + ": " + cause.getMessage());
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
