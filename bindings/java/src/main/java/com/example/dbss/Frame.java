package com.example.dbss;

import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystems;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Memory for the arguments and results of a call. */
final class Frame implements AutoCloseable {
  private static final int SIZE = 1024;

  private final long block = Native.ABI.allocate(SIZE);
  private int used;
  // Addresses and sizes.
  private List<long[]> more;
  private Runnable free;

  /** Memory that is valid until the frame is closed. */
  private long take(long size) {
    long aligned = (size + 7) & ~7L;
    if (aligned <= SIZE - used) {
      long place = block + used;
      used += (int) aligned;
      return place;
    }
    if (more == null) {
      more = new ArrayList<>();
    }
    long made = Native.ABI.allocate(size);
    more.add(new long[] {made, size});
    return made;
  }

  /** Frees what belongs to the call, at most one thing, when the frame is closed. */
  void frees(Runnable what) {
    free = what;
  }

  /** A place for a pointer, a number or a buffer. */
  long out() {
    long place = take(16);
    Native.ABI.putLong(place, 0);
    Native.ABI.putLong(place + 8, 0);
    return place;
  }

  long bytes(int size) {
    return take(size);
  }

  /** A text for C; 0 for null. */
  long text(String parameter, String text) {
    return text(parameter, Words.parameter(parameter), text);
  }

  /** The same, where the caller knows the parameter by a name of its own. */
  long text(String parameter, String own, String text) {
    return text == null ? 0 : text(encode(parameter, own, text));
  }

  /** A path for C; 0 for null. */
  long path(String parameter, Path path) {
    if (path == null) {
      return 0;
    }
    if (path.getFileSystem() != FileSystems.getDefault()) {
      String own = Words.parameter(parameter);
      throw DbssException.of(
          Status.INVALID_VALUE, own, own + ": must be of the default file system");
    }
    return text(Paths.bytes(path));
  }

  private long text(byte[] bytes) {
    long place = take(bytes.length + 1L);
    Native.ABI.write(place, bytes, 0, bytes.length);
    Native.ABI.write(place + bytes.length, NUL, 0, 1);
    return place;
  }

  private static final byte[] NUL = {0};
  private static final byte[] ZEROS = new byte[SIZE];

  /** Frees memory without what may be a secret. */
  private static void release(long place, long size) {
    for (long done = 0; done < size; done += ZEROS.length) {
      Native.ABI.write(place + done, ZEROS, 0, (int) Math.min(ZEROS.length, size - done));
    }
    Native.ABI.release(place);
  }

  private static byte[] encode(String parameter, String own, String text) {
    if (text.indexOf('\0') >= 0) {
      throw DbssException.of(
          Status.ofInvalid(parameter), own, own + ": must not hold a NUL character");
    }
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    if (text.chars().anyMatch(c -> c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE)
        && !StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
      throw DbssException.of(Status.INVALID_UTF8, own, own + ": is not Unicode");
    }
    return bytes;
  }

  @Override
  public void close() {
    if (free != null) {
      free.run();
    }
    release(block, used);
    if (more != null) {
      more.forEach(one -> release(one[0], one[1]));
    }
  }
}
