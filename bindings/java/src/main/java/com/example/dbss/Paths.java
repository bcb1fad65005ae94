package com.example.dbss;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Paths as bytes, which need not be UTF-8. */
final class Paths {
  /** Whether relative paths count from elsewhere in Java, by -Duser.dir, than in C. */
  private static final boolean IS_ELSEWHERE = isElsewhere();

  private Paths() {}

  private static boolean isElsewhere() {
    try {
      return !Files.isSameFile(Path.of("").toAbsolutePath(), Path.of("/proc/self/cwd"));
    } catch (IOException e) {
      return false;
    }
  }

  /** The bytes by which the system knows a path. */
  static byte[] bytes(Path path) {
    if (IS_ELSEWHERE && !path.toString().isEmpty()) {
      path = path.toAbsolutePath();
    }
    String text = path.toString();
    if (isAscii(text)) {
      return text.getBytes(StandardCharsets.US_ASCII);
    }
    // Only the URI of a path has its bytes, in whatever encoding the system has.
    String uri = path.toUri().getRawPath();
    byte[] bytes = uri.getBytes(StandardCharsets.US_ASCII);
    int length = 0;
    for (int i = 0; i < bytes.length; i++) {
      if (bytes[i] == '%') {
        bytes[length++] = (byte) Integer.parseInt(uri.substring(i + 1, i + 3), 16);
        i += 2;
      } else {
        bytes[length++] = bytes[i];
      }
    }
    if (length > 1 && bytes[length - 1] == '/') {
      length--;
    }
    // A URI is absolute; of a relative path only the end is wanted.
    int from = 0;
    if (!path.isAbsolute()) {
      byte[] base = bytes(Path.of("").toAbsolutePath());
      from = base.length == 1 ? 1 : base.length + 1;
    }
    return Arrays.copyOfRange(bytes, from, length);
  }

  /** The path of bytes from C; null for null. */
  static Path of(byte[] bytes) {
    if (bytes == null) {
      return null;
    }
    String text = new String(bytes, StandardCharsets.ISO_8859_1);
    if (isAscii(text)) {
      return Path.of(text);
    }
    // The URI of a path is absolute: a relative path gets a directory, which is removed again.
    boolean absolute = bytes[0] == '/';
    StringBuilder uri = new StringBuilder(absolute ? "file://" : "file:///d/");
    for (byte one : bytes) {
      boolean plain = one > ' ' && "%?#[]\"<>\\^`{|}\u007f".indexOf(one) < 0;
      uri.append(plain ? String.valueOf((char) one) : String.format("%%%02X", one));
    }
    Path path = Path.of(URI.create(uri.toString()));
    return absolute ? path : path.subpath(1, path.getNameCount());
  }

  private static boolean isAscii(String text) {
    return text.chars().allMatch(c -> c < 0x80);
  }
}
