package com.example.dbss;

import com.example.dbss.internal.Abi;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/** What libdbss calls. Its user_data are numbers of objects; nothing is thrown through C. */
final class Upcalls implements Abi.Callbacks {
  private static final Map<Long, Object> OBJECTS = new ConcurrentHashMap<>();
  private static final AtomicLong NEXT = new AtomicLong();

  /** The number of an object, until it is removed. */
  static long add(Object object) {
    long number = NEXT.incrementAndGet();
    OBJECTS.put(number, object);
    return number;
  }

  static void remove(long number) {
    OBJECTS.remove(number);
  }

  @Override
  public void dbss_destroy_fn(long userData) {
    try {
      remove(userData);
    } catch (Throwable e) {
      // It stays.
    }
  }

  @Override
  public void dbss_log_fn(long userData, long record) {
    try {
      ((LogSink) OBJECTS.get(userData)).accept(record);
    } catch (Throwable e) {
      // What the log throws, the sink has caught.
    }
  }

  @Override
  public void dbss_token_provider_fn(long userData, long request) {
    try {
      ((Provider) OBJECTS.get(userData)).request(request);
    } catch (Throwable e) {
      // The calls that wait end with their timeouts.
    }
  }

  @Override
  public int dbss_write_fn(long userData, long data, long length) {
    Call call = null;
    try {
      call = (Call) OBJECTS.get(userData);
      return call.onWrite(data, length);
    } catch (Throwable e) {
      if (call != null) {
        call.threw(e);
      }
      return 1;
    }
  }

  @Override
  public int dbss_progress_fn(long userData, long operation) {
    Call call = null;
    try {
      call = (Call) OBJECTS.get(userData);
      return call.onProgress(operation);
    } catch (Throwable e) {
      if (call != null) {
        call.threw(e);
      }
      return 1;
    }
  }

  @Override
  public int dbss_interrupt_fn(long userData) {
    return 0;
  }
}
