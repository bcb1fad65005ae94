package com.example.dbss;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads and writes JSON. What it reads was written by libdbss, so it is valid. */
final class Json {
  // More nesting could exhaust the stack.
  private static final int MAX_DEPTH = 500;
  // BigDecimal needs a time that grows with the square of the length.
  private static final int MAX_NUMBER_LENGTH = 1000;

  private final String text;
  private int at;
  private int depth;

  private Json(String text) {
    this.text = text;
  }

  static Object parse(String text) {
    return new Json(text).value();
  }

  @SuppressWarnings("unchecked")
  static Map<String, Object> map(Object value) {
    return (Map<String, Object>) value;
  }

  @SuppressWarnings("unchecked")
  static List<Object> list(Object value) {
    return (List<Object>) value;
  }

  private char next() {
    while (text.charAt(at) <= ' ') {
      at++;
    }
    return text.charAt(at);
  }

  private boolean take(char expected) {
    boolean found = next() == expected;
    at += found ? 1 : 0;
    return found;
  }

  private Object value() {
    if (depth == MAX_DEPTH) {
      throw DbssException.of(
          Status.UNEXPECTED_RESPONSE, null, "the response is nested deeper than " + MAX_DEPTH);
    }
    depth++;
    Object value = value(next());
    depth--;
    return value;
  }

  private Object value(char first) {
    switch (first) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      case 't':
        at += 4;
        return true;
      case 'f':
        at += 5;
        return false;
      case 'n':
        at += 4;
        return null;
      default:
        return number();
    }
  }

  private Map<String, Object> object() {
    Map<String, Object> object = new LinkedHashMap<>();
    at++;
    while (!take('}')) {
      next();
      String key = string();
      take(':');
      object.put(key, value());
      take(',');
    }
    return Collections.unmodifiableMap(object);
  }

  private List<Object> array() {
    List<Object> array = new ArrayList<>();
    at++;
    while (!take(']')) {
      array.add(value());
      take(',');
    }
    return Collections.unmodifiableList(array);
  }

  private Object number() {
    int from = at;
    while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
    String digits = text.substring(from, at);
    try {
      return Long.valueOf(digits);
    } catch (NumberFormatException e) {
      // It has a fraction, an exponent, or is large.
    }
    BigDecimal exact = decimal(digits);
    return exact == null ? digits : exact;
  }

  /** The number that a text is; null if it is none, or too long, or its exponent is too large. */
  static BigDecimal decimal(String text) {
    try {
      return text.length() > MAX_NUMBER_LENGTH ? null : new BigDecimal(text);
    } catch (NumberFormatException e) {
      return null;
    }
  }

  private String string() {
    int from = ++at;
    while (text.charAt(at) != '"' && text.charAt(at) != '\\') {
      at++;
    }
    StringBuilder made = new StringBuilder(text.substring(from, at));
    while (text.charAt(at) != '"') {
      char c = text.charAt(at++);
      if (c == '\\') {
        c = text.charAt(at++);
        int escape = "bfnrt".indexOf(c);
        if (escape >= 0) {
          c = "\b\f\n\r\t".charAt(escape);
        } else if (c == 'u') {
          c = (char) Integer.parseInt(text.substring(at, at + 4), 16);
          at += 4;
        }
      }
      made.append(c);
    }
    at++;
    return made.toString();
  }

  static String write(Object value) {
    StringBuilder to = new StringBuilder();
    write(value, to);
    return to.toString();
  }

  private static void write(Object value, StringBuilder to) {
    if (value instanceof String) {
      to.append('"');
      for (char c : ((String) value).toCharArray()) {
        if (c < ' ') {
          to.append(String.format("\\u%04x", (int) c));
        } else {
          to.append(c == '"' || c == '\\' ? "\\" : "").append(c);
        }
      }
      to.append('"');
    } else if (value instanceof List) {
      String before = "";
      to.append('[');
      for (Object one : list(value)) {
        to.append(before);
        write(one, to);
        before = ",";
      }
      to.append(']');
    } else if (value instanceof Map) {
      String before = "";
      to.append('{');
      for (Map.Entry<String, Object> one : map(value).entrySet()) {
        to.append(before);
        write(one.getKey(), to);
        to.append(':');
        write(one.getValue(), to);
        before = ",";
      }
      to.append('}');
    } else {
      to.append(value);
    }
  }
}
