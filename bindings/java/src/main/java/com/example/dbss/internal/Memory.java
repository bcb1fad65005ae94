package com.example.dbss.internal;

import java.nio.charset.StandardCharsets;

/** Memory outside of the heap, by addresses. */
public interface Memory {
  /** Allocates memory, which is not cleared; throws an OutOfMemoryError if there is none. */
  long allocate(long size);

  /** Frees memory of {@link #allocate}; 0 is ignored. */
  void release(long address);

  /** Copies bytes to an address. */
  void write(long address, byte[] bytes, int offset, int length);

  /** Copies bytes from an address. */
  void read(long address, byte[] bytes, int offset, int length);

  /** Reads 64 bits. */
  long getLong(long address);

  /** Writes 64 bits. */
  void putLong(long address, long value);

  /** The bytes at an address before a NUL; null for 0. */
  byte[] bytes(long address);

  /** The text at an address before a NUL; null for 0. */
  default String string(long address) {
    return address == 0 ? null : new String(bytes(address), StandardCharsets.UTF_8);
  }
}
