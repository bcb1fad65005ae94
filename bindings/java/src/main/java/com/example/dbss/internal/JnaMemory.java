package com.example.dbss.internal;

import com.sun.jna.Native;
import com.sun.jna.Pointer;

/** Memory by JNA. */
abstract class JnaMemory implements Memory {
  @Override
  public long allocate(long size) {
    long address = Native.malloc(size);
    if (address == 0) {
      throw new OutOfMemoryError("no memory outside of the heap");
    }
    return address;
  }

  @Override
  public void release(long address) {
    Native.free(address);
  }

  @Override
  public void write(long address, byte[] bytes, int offset, int length) {
    new Pointer(address).write(0, bytes, offset, length);
  }

  @Override
  public void read(long address, byte[] bytes, int offset, int length) {
    new Pointer(address).read(0, bytes, offset, length);
  }

  @Override
  public long getLong(long address) {
    return new Pointer(address).getLong(0);
  }

  @Override
  public void putLong(long address, long value) {
    new Pointer(address).setLong(0, value);
  }

  @Override
  public byte[] bytes(long address) {
    if (address == 0) {
      return null;
    }
    Pointer pointer = new Pointer(address);
    return pointer.getByteArray(0, (int) pointer.indexOf(0, (byte) 0));
  }
}
