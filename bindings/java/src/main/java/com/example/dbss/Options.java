package com.example.dbss;

import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.time.Duration;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** Options by key and value, in the order in which they were set. */
abstract class Options<B extends Options<B>> {
  /** An option; its value is text, in the format of its type, or a path. */
  static final class Entry {
    final String key;
    final Object value;
    // What a method of its own was given; null for the text of set().
    final Object given;

    Entry(String key, Object value, Object given) {
      this.key = key;
      this.value = value;
      this.given = given;
    }
  }

  final List<Entry> entries = new ArrayList<>();

  Options() {}

  @SuppressWarnings("unchecked")
  final B self() {
    return (B) this;
  }

  final B typed(String key, Object value) {
    DbssException.required(Words.option(key), value);
    entries.add(new Entry(key, converted(key, value), value));
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
    DbssException.required("key", key);
    DbssException.required(Words.option(key), value);
    entries.add(new Entry(key, value, null));
    return self();
  }

  /** Sets options of an object in C. */
  interface Setter {
    int set(long key, long value);
  }

  final void apply(Frame frame, Setter setter) {
    for (Entry one : entries) {
      long key = frame.text("key", "key", one.key);
      long value =
          one.value instanceof Path
              ? frame.path(one.key, (Path) one.value)
              : frame.text(one.key, Words.option(one.key), (String) one.value);
      int status = setter.set(key, value);
      if (status != 0) {
        long error = Native.takeError(status);
        throw Groups.exception(DbssException.Details.take(status, error, one), null);
      }
    }
  }

  /** A value for C, which refuses what is out of range: text, or a path. */
  private static Object converted(String key, Object value) {
    if (value instanceof Path) {
      // Its bytes need not be text.
      return value;
    }
    if (value instanceof Duration) {
      return text((Duration) value);
    }
    if (key.equals("max_memory_bytes")) {
      // What no array can hold is not downloaded in vain.
      return Long.toString(Math.min((Long) value, DbssClient.MAX_ARRAY));
    }
    if (value instanceof Set) {
      int mode = 0;
      for (Object one : (Set<?>) value) {
        DbssException.required(Words.option(key), one);
        // The constants are in the order of the bits.
        mode |= 0400 >> ((PosixFilePermission) one).ordinal();
      }
      return Integer.toOctalString(mode);
    }
    if (value instanceof ZoneOffset) {
      int seconds = ((ZoneOffset) value).getTotalSeconds();
      if (seconds % 60 != 0 || Math.abs(seconds) >= 15 * 3600) {
        throw invalid(key, "must be from -14:59 to +14:59, in whole minutes", value, "");
      }
      return value.equals(ZoneOffset.UTC) ? "+00:00" : value.toString();
    }
    if (value == System.Logger.Level.TRACE || value == System.Logger.Level.ALL) {
      return "debug";
    }
    if (value == System.Logger.Level.OFF) {
      String advice = "; for no records set neither onLog nor logger";
      throw invalid(key, "must be one of ERROR, WARNING, INFO, DEBUG", value, advice);
    }
    return value instanceof System.Logger.Level
        ? value.toString().toLowerCase(Locale.ROOT)
        : value.toString();
  }

  private static DbssException invalid(String key, String rule, Object value, String advice) {
    String name = Words.option(key);
    String message = name + ": " + rule + ", but is " + value + advice;
    return DbssException.of(Status.INVALID_VALUE, name, message);
  }

  private static String text(Duration value) {
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
}
