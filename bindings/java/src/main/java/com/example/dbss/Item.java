package com.example.dbss;

import java.math.BigDecimal;
import java.util.List;
import java.util.Map;

/** An item of a list of the service. */
public abstract class Item {
  private final Map<String, Object> raw;

  Item(Map<String, Object> raw) {
    this.raw = raw;
  }

  /**
   * {@return all fields as the service sent them, also those that this package does not know} The
   * values are strings, {@link Long}, {@link BigDecimal}, {@link Boolean}, {@link List}, {@link
   * Map} or null. A number of more than 1000 characters, or whose exponent is too large for {@link
   * BigDecimal}, is a string. Nothing in the map can be changed.
   */
  public Map<String, Object> raw() {
    return raw;
  }

  /** {@return whether the other one is of the same class and has the same fields} */
  @Override
  public boolean equals(Object other) {
    return other != null && other.getClass() == getClass() && ((Item) other).raw.equals(raw);
  }

  @Override
  public int hashCode() {
    return raw.hashCode();
  }

  /** {@return all fields} */
  @Override
  public String toString() {
    return getClass().getSimpleName() + raw;
  }

  private Object value(String... names) {
    for (String name : names) {
      Object value = raw.get(name);
      if (value != null) {
        return value;
      }
    }
    return null;
  }

  /** A text; of another value its JSON. */
  final String text(String... names) {
    Object value = value(names);
    return value == null || value instanceof String ? (String) value : Json.write(value);
  }

  /** A number, also from a text or with a fraction; null for anything else. */
  final Long integer(String... names) {
    Object value = value(names);
    if (value instanceof Long) {
      return (Long) value;
    }
    BigDecimal exact =
        value instanceof BigDecimal ? (BigDecimal) value : Json.decimal(String.valueOf(value));
    if (exact == null) {
      return null;
    }
    // Without digits for an exponent that is huge.
    double near = Math.abs(exact.doubleValue());
    return near < 1 ? (Long) 0L : near < 0x1p63 ? (Long) exact.longValue() : null;
  }

  final Boolean bool(String... names) {
    Object value = value(names);
    return value instanceof Boolean ? (Boolean) value : null;
  }

  final List<Object> list(String... names) {
    Object value = value(names);
    return value instanceof List ? Json.list(value) : null;
  }
}
