package com.example.dbss;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.OutputStream;
import java.lang.ref.WeakReference;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** Many threads, the garbage collector, the end of the process, and what is left behind. */
class TortureTest {
  private final String instance = Mock.instance();
  private final String pdf = Mock.pdfId();

  private static int descriptors() {
    return Path.of("/proc/self/fd").toFile().list().length;
  }

  private static long residentKib() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) {
        return Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new AssertionError();
  }

  private static void eventually(String what, java.util.function.BooleanSupplier holds)
      throws Exception {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (!holds.getAsBoolean()) {
      assertTrue(System.nanoTime() < until, what);
      System.gc();
      TimeUnit.MILLISECONDS.sleep(20);
    }
  }

  private void forget(int rounds) throws Exception {
    for (int i = 0; i < rounds; i++) {
      DbssClient client = Mock.builder().onLog(record -> {}).build();
      ReportStream stream = client.openReport(instance, pdf);
      stream.read();
      client.with(new CallOptions().pageSize(1)).reports(instance).iterator().next();
    }
  }

  @Test
  void whatIsForgottenIsFreed() throws Exception {
    forget(2);
    System.gc();
    int before = descriptors();
    forget(50);
    eventually("descriptors are left", () -> descriptors() <= before + 2);
  }

  @Test
  void resultOfAForgottenStreamMayWait() throws Exception {
    forget(1);
    var begun = new CountDownLatch(1);
    var goOn = new CountDownLatch(1);
    CallOptions options =
        new CallOptions()
            .onResult(
                result -> {
                  begun.countDown();
                  try {
                    goOn.await();
                  } catch (InterruptedException e) {
                    throw new AssertionError(e);
                  }
                });
    try (DbssClient client = Mock.builder().build()) {
      client.with(options).openReport(instance, pdf);
      eventually("the stream is still there", () -> begun.getCount() == 0);
      // Others are freed meanwhile.
      var freed = new CountDownLatch(1);
      client
          .with(new CallOptions().onResult(result -> freed.countDown()))
          .openReport(instance, pdf);
      eventually("the cleaner waits", () -> freed.getCount() == 0);
      goOn.countDown();
    }
  }

  @Test
  void streamCanBeUsedAfterItsClientIsForgotten() throws Exception {
    var report = Mock.addReport(Map.of("format", "pdf", "size", 2 << 20));
    DbssClient client = Mock.builder().build();
    // It is collected when a client that only the program referred to would be.
    var forgotten = new WeakReference<>(new Object());
    try (ReportStream stream = client.openReport(instance, report.get("id").getAsString())) {
      client = null;
      eventually("nothing is collected", () -> forgotten.get() == null);
      assertEquals(Mock.sumOf(report), Mock.sum(stream.readAllBytes()));
    }
  }

  @Test
  void callsDuringStormsOfTheCollectorAreRight() throws Exception {
    var stop = new CountDownLatch(1);
    Thread storm =
        new Thread(
            () -> {
              while (stop.getCount() > 0) {
                System.gc();
              }
            });
    storm.start();
    Queue<Throwable> failures = new ConcurrentLinkedQueue<>();
    List<Thread> threads = new ArrayList<>();
    for (int n = 0; n < 4; n++) {
      Thread thread =
          new Thread(
              () -> {
                try {
                  for (int i = 0; i < 20; i++) {
                    // Nothing but the call itself refers to the client, and to the stream.
                    byte[] content = Mock.builder().build().downloadReport(instance, pdf);
                    assertEquals(Mock.sumOf(Mock.pdf()), Mock.sum(content));
                    content = Mock.builder().build().openReport(instance, pdf).readAllBytes();
                    assertEquals(Mock.sumOf(Mock.pdf()), Mock.sum(content));
                  }
                } catch (Throwable e) {
                  failures.add(e);
                }
              });
      threads.add(thread);
      thread.start();
    }
    for (Thread one : threads) {
      one.join();
    }
    stop.countDown();
    storm.join();
    assertEquals(0, failures.size(), failures.toString());
  }

  /** Runs calls in 100 threads, of which each second one is interrupted. */
  private void interruptHalfOf(ThreadFactory factory) throws Exception {
    String silent = Mock.silent();
    Queue<String> wrong = new ConcurrentLinkedQueue<>();
    var begun = new CountDownLatch(50);
    var interrupted = new AtomicInteger();
    List<Thread> silentOnes = new ArrayList<>();
    List<Thread> all = new ArrayList<>();
    try (DbssClient client = Mock.builder().build()) {
      for (int n = 0; n < 100; n++) {
        boolean waits = n % 2 == 0;
        Thread thread =
            factory.newThread(
                () -> {
                  try {
                    if (waits) {
                      // Each call counts once.
                      var own = new AtomicBoolean();
                      CallOptions options =
                          new CallOptions()
                              .onProgress(
                                  p -> {
                                    if (own.compareAndSet(false, true)) {
                                      begun.countDown();
                                    }
                                    return true;
                                  });
                      client.with(options).downloadReport(instance, silent);
                      wrong.add("a silent report");
                      return;
                    }
                    for (int i = 0; i < 20; i++) {
                      client.downloadReport(instance, pdf);
                    }
                  } catch (DbssInterruptedException e) {
                    if (!waits || !Thread.currentThread().isInterrupted()) {
                      wrong.add("not interrupted");
                    }
                    interrupted.incrementAndGet();
                  } catch (Throwable e) {
                    wrong.add(e.toString());
                  }
                });
        all.add(thread);
        if (waits) {
          silentOnes.add(thread);
        }
        thread.start();
      }
      assertTrue(begun.await(60, TimeUnit.SECONDS), begun + " " + wrong);
      silentOnes.forEach(Thread::interrupt);
      for (Thread one : all) {
        one.join();
      }
    }
    assertEquals(0, wrong.size(), wrong.toString());
    assertEquals(50, interrupted.get());
  }

  @Test
  void hundredThreadsWithInterrupts() throws Exception {
    interruptHalfOf(Thread::new);
  }

  @Test
  void hundredVirtualThreadsWithInterrupts() throws Exception {
    assumeTrue(Runtime.version().feature() >= 21, "Java has no virtual threads before 21");
    Object builder = Thread.class.getMethod("ofVirtual").invoke(null);
    var factory = Class.forName("java.lang.Thread$Builder").getMethod("factory");
    interruptHalfOf((ThreadFactory) factory.invoke(builder));
  }

  @Test
  void errorIsNeverThatOfAnotherThread() throws Exception {
    Queue<String> wrong = new ConcurrentLinkedQueue<>();
    List<Thread> threads = new ArrayList<>();
    ThreadFactory factory = Thread::new;
    if (Runtime.version().feature() >= 21) {
      Object builder = Thread.class.getMethod("ofVirtual").invoke(null);
      var make = Class.forName("java.lang.Thread$Builder").getMethod("factory");
      factory = (ThreadFactory) make.invoke(builder);
    }
    try (DbssClient client = Mock.builder().build()) {
      for (int n = 0; n < 32; n++) {
        String key = "no_such_option_" + n;
        String id = "x".repeat(n % 15 + 1);
        Runnable work =
            () -> {
              for (int i = 0; i < 100; i++) {
                try {
                  DbssClient.builder().set(key, "1").build();
                } catch (DbssException e) {
                  if (!e.getMessage().contains(key)) {
                    wrong.add(e.getMessage());
                  }
                }
                try {
                  client.downloadReport(instance, id);
                } catch (DbssException e) {
                  if (!e.getMessage().contains("but has " + id.length())) {
                    wrong.add(e.getMessage());
                  }
                }
              }
            };
        Thread thread = n % 2 == 0 ? new Thread(work) : factory.newThread(work);
        threads.add(thread);
        thread.start();
      }
      for (Thread one : threads) {
        one.join();
      }
    }
    assertEquals(0, wrong.size(), wrong.toString());
  }

  @Test
  void tenThousandCallsLeaveNothing() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      // After each thousand calls. Once in a while the virtual machine takes some itself, such as
      // when it compiles; what calls leave comes each time.
      List<Long> resident = new ArrayList<>();
      int open = 0;
      var sink = OutputStream.nullOutputStream();
      for (int i = 0; i < 10_000; i++) {
        switch (i % 5) {
          case 0:
            client.downloadReport(instance, pdf);
            break;
          case 1:
            client.downloadReportTo(instance, pdf, sink);
            break;
          case 2:
            try (ReportStream stream = client.openReport(instance, pdf)) {
              stream.transferTo(sink);
            }
            break;
          case 3:
            client
                .with(new CallOptions().onProgress(p -> true).onResult(result -> {}))
                .downloadReport(instance, pdf);
            break;
          default:
            try {
              client.downloadReport(instance, "short");
              assertTrue(false);
            } catch (DbssArgumentException e) {
              assertFalse(e.getMessage().isEmpty());
            }
        }
        if (i % 1_000 == 0) {
          System.gc();
          resident.add(residentKib());
        }
        if (i == 4_000) {
          open = descriptors();
        }
      }
      long least = Long.MAX_VALUE;
      for (int i = 5; i < resident.size(); i++) {
        least = Math.min(least, resident.get(i) - resident.get(i - 1));
      }
      assertTrue(least < 1 << 10, resident + " KiB");
      // The virtual machine opens one now and then.
      assertTrue(descriptors() <= open + 2, descriptors() + " descriptors, before " + open);
    }
  }

  /** A program that exits while calls run. */
  static final class Exits {
    public static void main(String[] arguments) throws Exception {
      DbssClient client =
          DbssClient.builder().endpoint(arguments[0]).token("t").projectId(arguments[1]).build();
      var begun = new CountDownLatch(30);
      CallOptions options =
          new CallOptions()
              .onProgress(
                  p -> {
                    begun.countDown();
                    return true;
                  });
      for (int i = 0; i < 20; i++) {
        Thread thread =
            new Thread(() -> client.with(options).downloadReport(arguments[2], arguments[3]));
        thread.setDaemon(i % 2 == 0);
        thread.start();
        client.with(options).downloadReportAsync(arguments[2], arguments[3]);
      }
      begun.await();
      System.exit(7);
    }
  }

  @Test
  void processExitsDuringCalls() throws Exception {
    for (int i = 0; i < 3; i++) {
      String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
      Process exits =
          new ProcessBuilder(
                  java,
                  "-XX:TieredStopAtLevel=1",
                  Runtime.version().feature() < 22
                      ? "-XX:+UseSerialGC"
                      : "--enable-native-access=ALL-UNNAMED",
                  "-cp",
                  System.getProperty("java.class.path"),
                  Exits.class.getName(),
                  Mock.value("http"),
                  Mock.value("project_id"),
                  instance,
                  Mock.silent())
              .inheritIO()
              .start();
      if (!exits.waitFor(60, TimeUnit.SECONDS)) {
        exits.destroyForcibly();
        throw new AssertionError("it does not end");
      }
      assertEquals(7, exits.exitValue());
    }
  }
}
