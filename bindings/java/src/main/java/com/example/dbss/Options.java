package com.example.dbss;

import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.time.Duration;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/** Options by key and value, in the order in which they were set. */
abstract class Options<B extends Options<B>> {
  /** An option; its value is text, in the format of its type, or a path. */
  static final class Entry {
    final String key;
    final Object value;
    final boolean isTyped;

    Entry(String key, Object value, boolean isTyped) {
      this.key = key;
      this.value = value;
      this.isTyped = isTyped;
    }
  }

  final List<Entry> entries = new ArrayList<>();

  Options() {}

  @SuppressWarnings("unchecked")
  final B self() {
    return (B) this;
  }

  final B typed(String key, Object value) {
    entries.add(new Entry(key, value, true));
    return self();
  }

  /**
   * Sets an option by its key in the C ABI and its value as text, also one that is newer than this
   * package; dbss.h has all of them. Do not set {@code interruptible}: the virtual machine handles
   * signals of its own.
   *
   * @param key the key, such as {@code stall_timeout_ms}
   * @param value the value as text
   * @return this
   */
  public B set(String key, String value) {
    entries.add(new Entry(key, value, false));
    return self();
  }

  /** {@return the keys alone, because values may be secrets} */
  @Override
  public String toString() {
    List<String> keys = new ArrayList<>();
    entries.forEach(one -> keys.add(one.key));
    return getClass().getSimpleName() + keys;
  }

  /** Sets options of an object in C. */
  interface Setter {
    int set(long key, long value);
  }

  final void apply(Frame frame, Setter setter) {
    for (Entry one : entries) {
      if (one.key == null) {
        throw DbssException.of(Status.NULL_ARGUMENT, "key", "key: must not be null");
      }
      if (one.value == null) {
        throw DbssException.of(Status.NULL_ARGUMENT, one.key, one.key + ": must not be null");
      }
      long key = frame.text("key", one.key);
      long value =
          one.value instanceof Path
              ? frame.path(one.key, (Path) one.value)
              : frame.text(one.key, (String) one.value);
      Native.check(setter.set(key, value));
    }
  }

  // Values as texts for C, which refuses what is out of range.

  static String text(String value) {
    return value;
  }

  // Its bytes need not be text.
  static Path text(Path value) {
    return value;
  }

  static String text(LocalDate value) {
    return value.toString();
  }

  static String text(boolean value) {
    return Boolean.toString(value);
  }

  static String text(long value) {
    return Long.toString(value);
  }

  static String text(Duration value) {
    if (value.equals(DbssClient.NO_LIMIT)) {
      return "-1";
    }
    if (value.isNegative()) {
      return value.toString();
    }
    try {
      // A limit is not made shorter, and never zero.
      return Long.toString(value.plusNanos(999_999).toMillis());
    } catch (ArithmeticException e) {
      return Long.toString(Long.MAX_VALUE);
    }
  }

  static String text(Set<PosixFilePermission> value) {
    int mode = 0;
    for (PosixFilePermission one : value) {
      // The constants are in the order of the bits.
      mode |= 0400 >> one.ordinal();
    }
    return Integer.toOctalString(mode);
  }
}
