package com.example.dbss.internal;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.nio.file.Path;

/** Memory by the foreign function interface of Java, and what FfmAbi links with. */
@SuppressWarnings("restricted")
abstract class FfmMemory implements Memory {
  private static final Linker LINKER = Linker.nativeLinker();
  private static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);
  private static final MethodHandle MALLOC =
      LINKER.downcallHandle(
          LINKER.defaultLookup().find("malloc").orElseThrow(),
          FunctionDescriptor.of(JAVA_LONG, JAVA_LONG));
  private static final MethodHandle FREE =
      LINKER.downcallHandle(
          LINKER.defaultLookup().find("free").orElseThrow(), FunctionDescriptor.ofVoid(JAVA_LONG));
  private static volatile SymbolLookup library;

  static void open(String path) {
    try {
      library = SymbolLookup.libraryLookup(Path.of(path), Arena.global());
    } catch (IllegalArgumentException e) {
      // It does not say why; the error of this does.
      System.load(path);
      throw e;
    }
  }

  static MethodHandle link(String name, FunctionDescriptor descriptor) {
    MemorySegment function =
        library
            .find(name)
            .orElseThrow(
                () -> new UnsatisfiedLinkError("no function " + name + ": not libdbss, or older"));
    return LINKER.downcallHandle(function, descriptor);
  }

  static long stub(Class<?> type, Object target, String name, FunctionDescriptor descriptor) {
    try {
      MethodHandle handle =
          MethodHandles.lookup().findVirtual(type, name, descriptor.toMethodType()).bindTo(target);
      return LINKER.upcallStub(handle, descriptor, Arena.global()).address();
    } catch (ReflectiveOperationException e) {
      throw new AssertionError(e);
    }
  }

  static RuntimeException unexpected(Throwable thrown) {
    if (thrown instanceof Error error) {
      throw error;
    }
    return new IllegalStateException(thrown);
  }

  @Override
  public long allocate(long size) {
    try {
      long address = (long) MALLOC.invokeExact(size);
      if (address == 0) {
        throw new OutOfMemoryError("no memory outside of the heap");
      }
      return address;
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public void release(long address) {
    try {
      FREE.invokeExact(address);
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public void write(long address, byte[] bytes, int offset, int length) {
    MemorySegment.copy(bytes, offset, ALL, JAVA_BYTE, address, length);
  }

  @Override
  public void read(long address, byte[] bytes, int offset, int length) {
    MemorySegment.copy(ALL, JAVA_BYTE, address, bytes, offset, length);
  }

  @Override
  public long getLong(long address) {
    return ALL.get(JAVA_LONG_UNALIGNED, address);
  }

  @Override
  public void putLong(long address, long value) {
    ALL.set(JAVA_LONG_UNALIGNED, address, value);
  }

  @Override
  public byte[] bytes(long address) {
    if (address == 0) {
      return null;
    }
    long length = 0;
    while (ALL.get(JAVA_BYTE, address + length) != 0) {
      length++;
    }
    byte[] bytes = new byte[(int) length];
    read(address, bytes, 0, bytes.length);
    return bytes;
  }
}
