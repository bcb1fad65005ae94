package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A report that is read in parts, by one thread at a time. Any thread may close it, which it must
 * be. A failure is an {@link IOException} whose cause is the {@link DbssException}; after an
 * interrupt, which ends the stream, an {@link InterruptedIOException}. The end comes only when the
 * report is complete.
 */
public final class ReportStream extends InputStream {
  private static final Abi ABI = Native.ABI;
  private static final int ROOM = 256 << 10;

  private final Call call;
  private final Handle stream;
  private final Fields.ReportStream fields;
  private final AtomicBoolean reading = new AtomicBoolean();
  private final long buffer;
  private final int room;
  private int position;
  private int limit;

  ReportStream(Call call, long address) {
    this.call = call;
    fields = new Fields.ReportStream(ABI, address);
    // A small report needs no more.
    room = fields.size >= 0 && fields.size < ROOM ? (int) Math.max(fields.size, 1) : ROOM;
    long made = ABI.allocate(room);
    buffer = made;
    stream =
        new Handle(
            address,
            open -> {
              ABI.dbss_report_stream_free(open);
              ABI.release(made);
              call.free();
            });
    if (call.options.result != null) {
      stream.cleanedOn(Threads.POOL);
    }
    stream.ownedBy(this);
  }

  /** {@return the size in bytes that the service announced; -1 if it announced none} */
  public long size() {
    return fields.size;
  }

  /** {@return the format of the report} */
  public Format format() {
    return Format.of(fields.format);
  }

  /** {@return a safe form of the report's own name} */
  public String filename() {
    return fields.filename;
  }

  /** {@return the header Content-Type; null for none} */
  public String contentType() {
    return fields.contentType;
  }

  /** {@return the service's id of the request; null for none} */
  public String requestId() {
    return fields.requestId;
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
  }

  @Override
  public int read(byte[] bytes, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, bytes.length);
    try {
      return readBytes(bytes, offset, length);
    } catch (DbssInterruptedException e) {
      InterruptedIOException interrupted = new InterruptedIOException(e.getMessage());
      interrupted.initCause(e);
      throw interrupted;
    } catch (DbssException e) {
      throw failed(e);
    }
  }

  private static IOException failed(DbssException e) {
    return new IOException(e.getMessage(), e);
  }

  private static DbssException closed() {
    return Call.closed("stream", "stream");
  }

  private int readBytes(byte[] bytes, int offset, int length) {
    long open = stream.acquire();
    if (open == 0) {
      throw closed();
    }
    try {
      if (length == 0) {
        return 0;
      }
      if (!reading.compareAndSet(false, true)) {
        throw DbssException.of(Status.BUSY, "stream", "stream: another call reads it");
      }
      try {
        if (position == limit) {
          position = 0;
          limit = call.perform((c, frame) -> fill(open, frame));
        }
        int size = Math.min(length, limit - position);
        ABI.read(buffer + position, bytes, offset, size);
        position += size;
        return size == 0 ? -1 : size;
      } finally {
        reading.set(false);
      }
    } finally {
      stream.release();
    }
  }

  private int fill(long open, Frame frame) {
    limit = 0;
    long out = frame.out();
    call.check(ABI.dbss_report_stream_read(open, buffer, room, out));
    return (int) ABI.getLong(out);
  }

  /** {@return the bytes that can be read without waiting} */
  @Override
  public int available() throws IOException {
    if (stream.isClosed()) {
      throw failed(closed());
    }
    return reading.get() ? 0 : limit - position;
  }

  @Override
  public long transferTo(OutputStream target) throws IOException {
    Objects.requireNonNull(target, "target: must not be null");
    byte[] bytes = new byte[room];
    long moved = 0;
    for (int size; (size = read(bytes, 0, bytes.length)) >= 0; moved += size) {
      target.write(bytes, 0, size);
    }
    return moved;
  }

  /**
   * Closes the stream, also before its end. A read that runs ends with {@link Status#CANCELLED},
   * and later ones with {@link Status#CLOSED}. It does nothing the second time.
   */
  @Override
  public void close() {
    stream.close(ABI::dbss_report_stream_close);
  }

  /** {@return the name of the report, and its size if it is known} */
  @Override
  public String toString() {
    return "ReportStream[" + filename() + (size() < 0 ? "" : ", " + size() + " bytes") + "]";
  }
}
