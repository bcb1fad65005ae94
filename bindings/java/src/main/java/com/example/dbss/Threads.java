package com.example.dbss;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Threads of this package, which do not keep the program alive. */
final class Threads {
  private static final AtomicInteger COUNT = new AtomicInteger();
  private static final ThreadGroup GROUP = new ThreadGroup(root(), "dbss");

  /** For calls of virtual threads and of futures, and for providers. */
  static final ExecutorService POOL =
      new ThreadPoolExecutor(
          0, Integer.MAX_VALUE, 10, TimeUnit.SECONDS, new SynchronousQueue<>(), Threads::make);

  // Since Java 21.
  private static final MethodHandle IS_VIRTUAL = find();

  private Threads() {}

  private static Thread make(Runnable work) {
    // Without the values that are inherited from whichever thread needs it first.
    Thread thread = new Thread(GROUP, work, "dbss-" + COUNT.incrementAndGet(), 0, false);
    thread.setContextClassLoader(ClassLoader.getSystemClassLoader());
    thread.setPriority(Thread.NORM_PRIORITY);
    thread.setDaemon(true);
    return thread;
  }

  private static ThreadGroup root() {
    ThreadGroup root = Thread.currentThread().getThreadGroup();
    while (root.getParent() != null) {
      root = root.getParent();
    }
    return root;
  }

  private static MethodHandle find() {
    try {
      MethodType type = MethodType.methodType(boolean.class);
      return MethodHandles.publicLookup().findVirtual(Thread.class, "isVirtual", type);
    } catch (ReflectiveOperationException e) {
      return null;
    }
  }

  static boolean isVirtual() {
    try {
      return IS_VIRTUAL != null && (boolean) IS_VIRTUAL.invokeExact(Thread.currentThread());
    } catch (Throwable e) {
      throw sneaky(e);
    }
  }

  /** Throws anything. */
  @SuppressWarnings("unchecked")
  static <E extends Throwable> RuntimeException sneaky(Throwable thrown) throws E {
    throw (E) thrown;
  }
}
