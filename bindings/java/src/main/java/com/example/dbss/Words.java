package com.example.dbss;

import com.example.dbss.internal.Abi;
import java.util.Map;
import java.util.Set;

/** Says what libdbss says about a parameter or an option in the words of this package. */
final class Words {
  // What C calls parameters and objects, where they have other names here.
  private static final Map<String, String> NAMES =
      Map.ofEntries(
          Map.entry("context", "client"),
          Map.entry("ctx", "client"),
          Map.entry("cursor", "list"),
          Map.entry("expires_ms", "expiresAt"),
          Map.entry("project", "projectId"),
          Map.entry("instance", "instanceId"),
          Map.entry("id", "reportId"),
          Map.entry("path", "file"),
          Map.entry("name", "nameFilter"),
          Map.entry("status", "statusFilter"),
          Map.entry("page_size", "pageSize"));

  private static final String NO_LIMIT = "DbssClient.NO_LIMIT";
  private static final String[] UNITS = {"days", "h", "min", "s"};
  private static final long[] SIZES = {86_400_000, 3_600_000, 60_000, 1000};

  private final String parameter;
  private final Options.Entry option;
  // Others were given text, as in C.
  private final boolean isTyped;

  /**
   * For an error.
   *
   * @param parameter the parameter at fault, as C calls it; null for none
   * @param option the option that was to be set; null for none
   */
  Words(String parameter, Options.Entry option) {
    this.parameter = parameter;
    this.option = option;
    isTyped = option != null && option.given != null && !(option.given instanceof String);
  }

  /** The name here of a parameter of a function. */
  static String parameter(String name) {
    return name == null ? null : NAMES.getOrDefault(name, option(name));
  }

  /** The name here of the key of an option. */
  static String option(String key) {
    return key == null ? null : Keys.METHODS.getOrDefault(key, key);
  }

  /** The name here of the parameter at fault. */
  String parameter() {
    return option == null ? parameter(parameter) : option(parameter);
  }

  /** A part of the message. */
  String part(int kind, String text) {
    switch (kind) {
      case Abi.DBSS_PART_NAME:
        return name(text);
      case Abi.DBSS_PART_VALUE:
        return isTyped && text.equals("\"" + option.value + '"') ? given() : text;
      case Abi.DBSS_PART_DURATION:
        if (isTyped && text.equals(option.value + " ms")) {
          return given();
        }
        if (text.endsWith(" ms")) {
          return duration(text.substring(0, text.length() - 3));
        }
        return isTyped ? duration(text) : text + " ms";
      case Abi.DBSS_PART_MODE:
        return isTyped ? permissions(text) : text;
      case Abi.DBSS_PART_NOTATION:
        return isTyped ? "" : text;
      case Abi.DBSS_PART_NULL:
      case Abi.DBSS_PART_UNKNOWN:
        return "null";
      case Abi.DBSS_PART_NO_LIMIT:
        return isTyped ? NO_LIMIT : text;
      case Abi.DBSS_PART_REPLACE:
        return text + " with replace(true)";
      case Abi.DBSS_PART_OBJECT:
        return NAMES.getOrDefault(text, text);
      default:
        return text;
    }
  }

  private String name(String text) {
    if (text.equals(parameter)) {
      return parameter();
    }
    // A key that was perhaps meant is one for set().
    return "key".equals(parameter) ? '"' + text + '"' : parameter(text);
  }

  /** The value that the option was given. */
  private String given() {
    if (option.given.equals(DbssClient.NO_LIMIT)) {
      return NO_LIMIT;
    }
    return option.given instanceof Set
        ? permissions((String) option.value)
        : option.given.toString();
  }

  /** A duration as the documentation of the options has it. */
  private static String duration(String milliseconds) {
    long value = Long.parseLong(milliseconds);
    for (int i = 0; i < SIZES.length; i++) {
      if (value > SIZES[i] && value % SIZES[i] == 0) {
        return value / SIZES[i] + " " + UNITS[i];
      }
    }
    return value + " ms";
  }

  /** Permissions that are octal digits, as PosixFilePermissions shows them. */
  private static String permissions(String octal) {
    int mode = Integer.parseInt(octal, 8);
    StringBuilder shown = new StringBuilder("rwxrwxrwx");
    for (int i = 0; i < shown.length(); i++) {
      if ((mode & 0400 >> i) == 0) {
        shown.setCharAt(i, '-');
      }
    }
    return shown.toString();
  }
}
