package com.example.dbss;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.example.dbss.internal.Stack;
import java.io.BufferedInputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.OutputStream;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** What is special to Java; the conformance suite covers the calls themselves. */
class ClientTest {
  private static final Duration SOON = Duration.ofMillis(250);

  private final String instance = Mock.instance();
  private final String pdf = Mock.pdfId();

  @TempDir Path directory;

  private static <T extends Throwable> T thrown(Class<T> type, Executable call) {
    return assertThrows(type, call);
  }

  private static void fails(Status status, Executable call) {
    assertEquals(status, thrown(DbssException.class, call).status());
  }

  @Test
  void allWaysToDownloadGiveTheSameReport() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      byte[] content = client.downloadReport(instance, pdf);
      assertEquals(Mock.sumOf(Mock.pdf()), Mock.sum(content));
      Path file = client.downloadReportToFile(instance, pdf, directory.resolve("file"));
      assertArrayEquals(content, Files.readAllBytes(file));
      Path named = client.downloadReportToDirectory(instance, pdf, directory);
      assertEquals(directory, named.getParent());
      assertArrayEquals(content, Files.readAllBytes(named));
      var written = new ByteArrayOutputStream();
      client.downloadReportTo(instance, pdf, written);
      assertArrayEquals(content, written.toByteArray());
      try (ReportStream stream = client.openReport(instance, pdf)) {
        assertEquals(Format.PDF, stream.format());
        assertEquals(content.length, stream.size());
        assertEquals(content[0], stream.read());
        int available = stream.available();
        assertTrue(available > 0);
        thrown(NullPointerException.class, () -> stream.transferTo(null));
        assertEquals(available, stream.available());
        assertEquals(content[1], stream.readNBytes(1)[0]);
        assertEquals(content.length - 2, stream.transferTo(OutputStream.nullOutputStream()));
        assertEquals(-1, stream.read());
      }
    }
  }

  @Test
  void largeReportsArriveWhole() throws Exception {
    var report = Mock.addReport(Map.of("format", "zip", "size", 3_000_001));
    String id = report.get("id").getAsString();
    try (DbssClient client = Mock.builder().build()) {
      var written = new ByteArrayOutputStream();
      client.downloadReportTo(instance, id, written);
      assertEquals(Mock.sumOf(report), Mock.sum(written.toByteArray()));
      try (ReportStream stream = client.openReport(instance, id)) {
        assertEquals(Mock.sumOf(report), Mock.sum(stream.readAllBytes()));
      }
    }
  }

  @Test
  void reportThatNoArrayCanHoldIsRefusedBeforeItArrives() throws Exception {
    String own = Mock.addInstance();
    String id = Mock.addReport(Map.of("format", "pdf", "instance", own)).get("id").getAsString();
    Mock.fault(id, Map.of("content_length", "3000000000"));
    CallOptions typed = new CallOptions().maxMemoryBytes(Long.MAX_VALUE);
    try (DbssClient client = Mock.builder().maxAttempts(1).build()) {
      for (CallOptions options : List.of(typed, new CallOptions())) {
        DbssException e =
            thrown(DbssException.class, () -> client.with(options).downloadReport(own, id));
        assertEquals(Status.LIMIT_EXCEEDED, e.status());
        assertEquals("maxMemoryBytes", e.parameter());
        assertEquals(
            "the report is larger than an array can be, 2147483639 bytes, whatever maxMemoryBytes"
                + " is; save it with downloadReportToFile, or read it with openReport",
            e.getMessage());
        assertEquals(1, e.attempts());
      }
    }
  }

  @Test
  void existingFileIsKeptOrReplaced() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      Path file = Files.writeString(directory.resolve("report.pdf"), "mine");
      DbssFileException exists =
          thrown(DbssFileException.class, () -> client.downloadReportToFile(instance, pdf, file));
      assertEquals(Status.FILE_EXISTS, exists.status());
      assertEquals(file, exists.path());
      assertEquals("mine", Files.readString(file));
      var mode = PosixFilePermissions.fromString("rw-r-----");
      client
          .with(new CallOptions().replace(true).fileMode(mode))
          .downloadReportToFile(instance, pdf, file);
      assertEquals(mode, Files.getPosixFilePermissions(file));
    }
  }

  @Test
  void pathsMayHaveAnyCharactersAndBytes() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      Path named = directory.resolve("审计 %41#?.pdf");
      assertEquals(named, client.downloadReportToFile(instance, pdf, named));
      assertTrue(Files.size(named) > 0);
      // Only a URI can have bytes that are no text.
      Path raw = Path.of(java.net.URI.create(directory.toUri() + "raw%FF%C3.pdf"));
      assertEquals(raw, client.downloadReportToFile(instance, pdf, raw));
      assertTrue(Files.size(raw) > 0);
      DbssException failed =
          thrown(DbssException.class, () -> client.downloadReportToFile(instance, pdf, raw));
      assertEquals(raw, failed.path());
    }
    Path certificates = Path.of(java.net.URI.create(directory.toUri() + "ca%FF.pem"));
    Files.copy(Path.of(Mock.value("ca_file")), certificates);
    Mock.builder().caFile(certificates).build().close();
    try (var archive =
        java.nio.file.FileSystems.newFileSystem(
            java.net.URI.create("jar:" + directory.toUri() + "a.zip"), Map.of("create", "true"))) {
      DbssClient.Builder elsewhere = Mock.builder().caFile(archive.getPath("ca.pem"));
      fails(Status.INVALID_VALUE, elsewhere::build);
    }
  }

  @Test
  void relativePathsMayHaveAnyCharacters() throws Exception {
    Path relative = Path.of("").toAbsolutePath().relativize(directory);
    var report = Mock.addReport(Map.of("format", "zip", "name", "审计报告"));
    String id = report.get("id").getAsString();
    var results = new ArrayList<CallResult>();
    try (DbssClient client = Mock.builder().build()) {
      DbssClient chinese = client.with(new CallOptions().locale("zh-cn").onResult(results::add));
      Path saved = chinese.downloadReportToDirectory(instance, id, relative);
      assertEquals(relative, saved.getParent());
      assertTrue(Files.isSameFile(directory, saved.getParent()));
      assertTrue(Files.size(saved) > 0);
      assertEquals(saved, results.get(0).path());
      DbssException exists =
          thrown(
              DbssException.class, () -> chinese.downloadReportToDirectory(instance, id, relative));
      assertEquals(saved, exists.path());
    }
    for (Path path : List.of(Path.of("审计.pdf"), Path.of("..", "审", "计"))) {
      byte[] name = path.toString().getBytes(java.nio.charset.StandardCharsets.UTF_8);
      assertEquals(path, Paths.of(name));
      assertArrayEquals(name, Paths.bytes(path));
    }
  }

  @Test
  void exceptionOfTheTargetIsThrownAsItIs() throws Exception {
    IOException own = new IOException("mine");
    try (DbssClient client = Mock.builder().build()) {
      OutputStream target =
          new OutputStream() {
            @Override
            public void write(int one) throws IOException {
              throw own;
            }
          };
      assertSame(
          own, thrown(IOException.class, () -> client.downloadReportTo(instance, pdf, target)));
    }
  }

  @Test
  void firstExceptionOfACallbackHasTheLaterOnes() throws Exception {
    IOException full = new IOException("disk full");
    var logging = new IllegalStateException("the log is closed");
    OutputStream target =
        new OutputStream() {
          @Override
          public void write(int one) throws IOException {
            throw full;
          }
        };
    DbssClient.Builder builder =
        Mock.builder()
            .onLog(
                record -> {
                  if (record.error() != null) {
                    throw logging;
                  }
                });
    try (DbssClient client = builder.build()) {
      assertSame(
          full, thrown(IOException.class, () -> client.downloadReportTo(instance, pdf, target)));
      assertArrayEquals(new Throwable[] {logging}, full.getSuppressed());
    }
  }

  /** Makes a call again and again, so that a callback throws at each place. */
  private static void throwAtEachPlace(
      CallOptions options, java.util.function.BiConsumer<DbssClient, Integer> call) {
    for (int n = 0; ; n++) {
      var left = new AtomicInteger(n);
      Runnable throwing =
          () -> {
            if (left.getAndDecrement() == 0) {
              throw new IllegalStateException("mine");
            }
          };
      DbssClient.Builder builder = Mock.builder().onLog(record -> throwing.run());
      options.onResult(result -> throwing.run());
      try (DbssClient client = builder.build()) {
        left.set(n);
        call.accept(client.with(options), n);
      }
      if (left.get() >= 0) {
        assertTrue(n > 2, "there was hardly a callback");
        return;
      }
    }
  }

  @Test
  void exceptionOfACallbackTellsWhichFileIsThere() throws Exception {
    var kept = new AtomicInteger();
    for (boolean named : new boolean[] {true, false}) {
      throwAtEachPlace(
          new CallOptions(),
          (client, n) -> {
            Path own = directory.resolve(named + "-" + n);
            Path file = own.resolve("report.pdf");
            try {
              Files.createDirectory(own);
              if (named) {
                client.downloadReportToFile(instance, pdf, file);
              } else {
                client.downloadReportToDirectory(instance, pdf, own);
              }
            } catch (IllegalStateException e) {
              var paths =
                  Stream.of(e.getSuppressed())
                      .map(one -> ((DbssException) one).path())
                      .collect(Collectors.toList());
              assertEquals(paths, list(own), "throwing at " + n);
              kept.addAndGet(paths.size());
            } catch (IOException e) {
              throw new AssertionError(e);
            }
          });
    }
    assertTrue(kept.get() >= 2, "no file was kept");
  }

  private static List<Path> list(Path directory) {
    try (Stream<Path> files = Files.list(directory)) {
      return files.collect(Collectors.toList());
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void exceptionOfACallbackHasTheResultOfAMirror() throws Exception {
    String own = Mock.addInstance();
    Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 2, "instance", own));
    MirrorOptions options = new MirrorOptions().instanceId(own).parallel(1);
    var downloaded = new java.util.TreeSet<Long>();
    throwAtEachPlace(
        new CallOptions(),
        (client, n) -> {
          try {
            client.mirror(directory.resolve("archive-" + n), options);
          } catch (IllegalStateException e) {
            var result = ((DbssException) e.getSuppressed()[0]).mirrorResult();
            downloaded.add(result.downloaded());
          }
        });
    // One that was cancelled, and one that was complete.
    assertTrue(downloaded.containsAll(List.of(0L, 2L)), downloaded.toString());
  }

  @Test
  void bytesThatDoNotReachTheTargetAreAnError() throws Exception {
    String id = Mock.addReport(Map.of("format", "pdf", "size", 2 << 20)).get("id").getAsString();
    try (DbssClient client = Mock.builder().build()) {
      // The first write makes the next ones fail before they reach the target.
      long[] number = {0};
      OutputStream target =
          new OutputStream() {
            @Override
            public void write(int one) {
              Upcalls.remove(number[0]);
            }
          };
      number[0] = Upcalls.add(this) + 1;
      fails(Status.CANCELLED, () -> client.downloadReportTo(instance, id, target));
      // The bytes go to another call.
      Call other = new Call(client, CallOptions.NONE);
      other.writeTo(OutputStream.nullOutputStream());
      fails(
          Status.INTERNAL,
          () ->
              Call.run(
                  client,
                  CallOptions.NONE,
                  (call, frame) -> {
                    call.check(
                        Native.ABI.dbss_report_download_to_callback(
                            call.context,
                            0,
                            frame.text("instance", instance),
                            frame.text("id", id),
                            0,
                            Native.ABI.dbss_write_fn(),
                            other.number(),
                            call.operation));
                    call.checkWritten();
                    return null;
                  }));
      other.free();
    }
  }

  @Test
  void callWithCallbacksFailsBeforeItsStackIsExhausted() throws Exception {
    try (DbssClient client = Mock.builder().onLog(record -> {}).build()) {
      var thrown = new AtomicReference<Throwable>();
      Thread thread =
          new Thread(null, () -> descend(client::findCredentials, thrown), "deep", 256 << 10);
      thread.start();
      thread.join();
      assertTrue(thrown.get() instanceof StackOverflowError, String.valueOf(thrown.get()));
      client.check();
    }
  }

  /** Makes a call where the stack has just too little left. */
  private static void descend(Executable call, AtomicReference<Throwable> thrown) {
    try {
      Stack.probe();
    } catch (StackOverflowError e) {
      try {
        call.execute();
        // The probe needs less since it is compiled; it fails where less is left.
      } catch (Throwable t) {
        thrown.set(t);
        return;
      }
    }
    descend(call, thrown);
  }

  @Test
  void memoryForArgumentsIsWiped() {
    String secret = "secret".repeat(1000);
    long[] places = new long[2];
    try (Frame frame = new Frame()) {
      places[0] = frame.text("token", "secret-secret-secret-secret-secret-secret");
      places[1] = frame.text("token", secret);
    }
    // What the allocator writes itself is at the beginning of its blocks.
    for (long place : places) {
      byte[] found = new byte[16];
      Native.ABI.read(place + 24, found, 0, found.length);
      assertFalse(new String(found, StandardCharsets.ISO_8859_1).contains("secret"));
    }
  }

  @Test
  void errorHasAllFields() throws Exception {
    String id = "details-0123456789";
    Map<String, Object> detail = Map.of("error_code", "D.1", "error_msg", "first");
    Mock.fault(
        id,
        Map.of(
            "status", 403,
            "headers", List.of(List.of("X-Request-Id", "the-id"), List.of("Retry-After", "7")),
            "json",
                Map.of(
                    "error_code", "DBSS.1",
                    "error_msg", "no",
                    "encoded_authorization_message", "coded",
                    "details", List.of(detail))));
    try (DbssClient client = Mock.builder().build()) {
      DbssServiceException e =
          thrown(DbssServiceException.class, () -> client.downloadReport(instance, id));
      assertEquals(Status.FORBIDDEN, e.status());
      assertEquals(203, e.code());
      assertEquals(403, e.httpStatus());
      assertEquals("DBSS.1", e.serviceCode());
      assertEquals("no", e.serviceMessage());
      assertEquals("the-id", e.requestId());
      assertEquals("coded", e.encodedAuthorizationMessage());
      assertEquals("D.1: first", e.serviceDetails().get(0).toString());
      assertEquals(1, e.attempts());
      assertFalse(e.isRetryable());
      assertNull(e.cancelledBy());
      assertTrue(e.osCode().isEmpty());
      // It can be sent elsewhere.
      var bytes = new ByteArrayOutputStream();
      new ObjectOutputStream(bytes).writeObject(e);
      var read = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray())).readObject();
      assertEquals("the-id", ((DbssException) read).requestId());
      assertEquals(e.serviceDetails(), ((DbssException) read).serviceDetails());
    }
  }

  @Test
  void wrongArgumentsFailBeforeAnyRequest() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      fails(Status.INVALID_ID, () -> client.downloadReport(instance, "short"));
      fails(Status.INVALID_ID, () -> client.downloadReport(instance, pdf + "\0"));
      fails(Status.INVALID_UTF8, () -> client.downloadReport(instance, "\ud800" + pdf));
      fails(Status.NULL_ARGUMENT, () -> client.downloadReport(null, pdf));
      fails(Status.NULL_ARGUMENT, () -> client.downloadReportToFile(instance, pdf, null));
      CallOptions paged = new CallOptions().pageSize(5);
      DbssException wrong =
          thrown(DbssException.class, () -> client.with(paged).downloadReport(instance, pdf));
      assertEquals("pageSize", wrong.parameter());
      CallOptions negative = new CallOptions().stallTimeout(Duration.ofSeconds(-5));
      fails(Status.INVALID_VALUE, () -> client.with(negative).check());
    }
    fails(Status.NOT_CONFIGURED, () -> DbssClient.builder().build());
    fails(Status.UNKNOWN_KEY, () -> Mock.builder().set("no_such_key", "1").build());
    fails(Status.ARGUMENT, () -> Mock.builder().credentials("default").build());
    fails(Status.NULL_ARGUMENT, () -> DbssClient.builder().token(null).build());
    fails(Status.NULL_ARGUMENT, () -> DbssClient.builder().set(null, "x\0").build());
    assertFalse(DbssClient.builder().token("secret").toString().contains("secret"));
    assertFalse(new Token("secret", null).toString().contains("secret"));
  }

  private static void says(String parameter, String message, Executable call) {
    DbssException e = thrown(DbssException.class, call);
    assertEquals(parameter, e.parameter());
    assertEquals(message, e.getMessage());
  }

  @Test
  void errorsHaveTheNamesAndValuesOfJava() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      says("reportId", "reportId: must not be null", () -> client.downloadReport(instance, null));
      says(
          "file", "file: must not be null", () -> client.downloadReportToFile(instance, pdf, null));
      CallOptions other = new CallOptions().projectId("short");
      DbssException project =
          thrown(DbssException.class, () -> client.with(other).reports(instance).stream().count());
      assertTrue(project.getMessage().startsWith("projectId: must have 32"), project.getMessage());
      CallOptions unnamed = new CallOptions().nameFilter("");
      DbssException name =
          thrown(
              DbssException.class, () -> client.with(unnamed).reports(instance).stream().count());
      assertEquals("nameFilter", name.parameter());
      assertTrue(name.getMessage().startsWith("nameFilter: must"), name.getMessage());
      MirrorOptions mirror = new MirrorOptions().name("");
      DbssException part = thrown(DbssException.class, () -> client.mirror(directory, mirror));
      assertEquals("name", part.parameter());
      for (String offset : List.of("+01:02:03", "+18:00", "-15:00")) {
        says(
            "utcOffset",
            "utcOffset: must be from -14:59 to +14:59, in whole minutes, but is " + offset,
            () -> new MirrorOptions().utcOffset(ZoneOffset.of(offset)));
      }
      // These bounds are those of libdbss.
      Path archive = directory.resolve("archive");
      MirrorOptions all = new MirrorOptions().instanceId(Mock.addInstance());
      client.mirror(archive, all.utcOffset(ZoneOffset.of("+14:59")));
      MirrorOptions far = new MirrorOptions().set("utc_offset", "+15:00");
      fails(Status.INVALID_VALUE, () -> client.mirror(archive, far));
      says(
          "instanceId",
          "instanceId: must not hold a NUL character",
          () -> client.mirror(directory, new MirrorOptions().instanceId("\0")));
      Path file = Files.writeString(directory.resolve("report.pdf"), "mine");
      String exists =
          thrown(DbssFileException.class, () -> client.downloadReportToFile(instance, pdf, file))
              .getMessage();
      assertTrue(exists.contains("allow replacing it with replace(true), or"), exists);
    }
    DbssClient closed = Mock.builder().build();
    closed.close();
    assertEquals("DbssClient[closed]", closed.toString());
    says("client", "the client is closed", closed::check);
    says(
        "totalTimeout",
        "totalTimeout: must be from 1 ms to 30 days, or DbssClient.NO_LIMIT for no limit, but is"
            + " PT-5S",
        () -> Mock.builder().totalTimeout(Duration.ofSeconds(-5)).build());
    says(
        "stallTimeout",
        "stallTimeout: must be from 1 ms to 24 h, or DbssClient.NO_LIMIT for no limit, but is"
            + " PT25H",
        () -> Mock.builder().stallTimeout(Duration.ofHours(25)).build());
    says(
        "maxRetryAfter",
        "maxRetryAfter: must be from 0 ms to 24 h, but is PT25H",
        () -> Mock.builder().maxRetryAfter(Duration.ofHours(25)).build());
    says(
        "agencyDuration",
        "agencyDuration: must be from 15 min to 24 h, but is PT1M",
        () -> Mock.builder().agencyDuration(Duration.ofMinutes(1)).build());
    says(
        "agencyDuration",
        "agencyDuration: must be whole seconds, but is PT15M0.5S",
        () -> Mock.builder().agencyDuration(Duration.ofMillis(900_500)).build());
    says(
        "pollInterval",
        "pollInterval: must be from 1 ms to 24 h, but is DbssClient.NO_LIMIT",
        () -> Mock.builder().pollInterval(DbssClient.NO_LIMIT).build());
    says(
        "maxAttempts",
        "maxAttempts: must be a whole number from 1 to 1000, but is 0",
        () -> Mock.builder().maxAttempts(0).build());
    says(
        "fileMode",
        "fileMode: must be from rw------- to rwxrwxrwx, such as rw-r-----, but is r--r-----",
        () -> Mock.builder().fileMode(PosixFilePermissions.fromString("r--r-----")).build());
    says(
        "logLevel",
        "logLevel: must be one of ERROR, WARNING, INFO, DEBUG, but is OFF; for no records set"
            + " neither onLog nor logger",
        () -> Mock.builder().logLevel(System.Logger.Level.OFF).build());
    says(
        "secretKey",
        "secretKey: is missing: accessKey is configured and needs it",
        () -> DbssClient.builder().region("cn-north-4").accessKey("AK").build());
    says(
        "pageSize",
        "pageSize: must be from 1 to 1000, for databases from 1 to 10000, or 0 for 100, but is -1",
        () -> new CallOptions().pageSize(-1));
    says(
        "key",
        "key: there is no option \"stallTimeout\"; did you mean \"stall_timeout_ms\"?",
        () -> Mock.builder().set("stallTimeout", "5").build());
    says(
        "key",
        "key: there is no option \"max_atempts\"; did you mean \"max_attempts\"?",
        () -> Mock.builder().set("max_atempts", "5").build());
    says(
        "key",
        "key: there is no option \"colour\"",
        () -> Mock.builder().set("colour", "total_timeout_ms").build());
    // An option as text is as in C, in milliseconds.
    says(
        "stallTimeout",
        "stallTimeout: must be a whole number from 1 ms to 86400000 ms, or -1 for no limit, "
            + "but is \"5 s\"",
        () -> Mock.builder().set("stall_timeout_ms", "5 s").build());
    says(
        "fileMode",
        "fileMode: must be octal digits from 600 to 777, such as 640, but is \"400\"",
        () -> Mock.builder().set("file_mode", "400").build());
    // The words of others stay as they are.
    says(
        "logLevel",
        "logLevel: must be one of error, warning, info, debug, but is \"max_attempts\"",
        () -> Mock.builder().set("log_level", "max_attempts").build());
    Path missing = directory.resolve("ca_file.pem");
    String unread =
        thrown(DbssFileException.class, () -> Mock.builder().caFile(missing).build()).getMessage();
    assertTrue(unread.startsWith("caFile: cannot read " + missing), unread);
    String id = "quoted-0123456789";
    Mock.fault(
        id,
        Map.of(
            "status",
            400,
            "json",
            Map.of("error_code", "C", "error_msg", "max_attempts: must be from 1 to 9")));
    List<LogRecord> records = Collections.synchronizedList(new ArrayList<>());
    Duration brief = Duration.ofMillis(1);
    String silent = Mock.silent();
    try (DbssClient client = Mock.builder().onLog(records::add).build()) {
      DbssException e = thrown(DbssException.class, () -> client.downloadReport(instance, id));
      assertTrue(e.getMessage().contains("max_attempts: must be from 1 to 9"), e.getMessage());
      records.clear();
      DbssClient hasty = client.with(new CallOptions().totalTimeout(brief));
      DbssException late =
          thrown(DbssException.class, () -> hasty.downloadReport(instance, silent));
      assertEquals("the call took longer than totalTimeout (1 ms)", late.getMessage());
      says(
          "key",
          "key: there is no option \"region\"; it is an option of a client, not of one call",
          () -> client.with(new CallOptions().set("region", "cn-north-4")).check());
      assertTrue(records.toString().contains(late.getMessage()), records.toString());
      assertFalse(records.toString().contains("DBSS_ERR"), records.toString());
    }
  }

  @Test
  void nullIsRefusedAtOnceByTheNameOfTheParameter() throws Exception {
    DbssClient.Builder builder = Mock.builder();
    CallOptions options = new CallOptions();
    try (DbssClient client = Mock.builder().build()) {
      Map<String, List<Executable>> calls =
          Map.ofEntries(
              Map.entry(
                  "endpoint",
                  List.of(
                      () -> builder.endpoint((String) null),
                      () -> builder.endpoint((String[]) null),
                      () -> builder.endpoint("http://a.example", null))),
              Map.entry("token", List.of(() -> builder.token(null), () -> client.setToken(null))),
              Map.entry("caFile", List.of(() -> builder.caFile(null))),
              Map.entry(
                  "fileMode",
                  List.of(
                      () -> builder.fileMode(null),
                      () -> builder.fileMode(Collections.singleton(null)))),
              Map.entry(
                  "totalTimeout",
                  List.of(() -> builder.totalTimeout(null), () -> options.totalTimeout(null))),
              Map.entry("key", List.of(() -> builder.set(null, "1"))),
              Map.entry("tokenProvider", List.of(() -> builder.tokenProvider(null))),
              Map.entry("passcodeProvider", List.of(() -> builder.passcodeProvider(null))),
              Map.entry("logger", List.of(() -> builder.logger(null))),
              Map.entry("onLog", List.of(() -> builder.onLog(null))),
              Map.entry("executor", List.of(() -> builder.executor(null))),
              Map.entry(
                  "projectId",
                  List.of(() -> builder.projectId(null), () -> options.projectId(null))),
              Map.entry("locale", List.of(() -> options.locale(null))),
              Map.entry("nameFilter", List.of(() -> options.nameFilter(null))),
              Map.entry("statusFilter", List.of(() -> options.statusFilter(null))),
              Map.entry("onProgress", List.of(() -> options.onProgress(null))),
              Map.entry("onResult", List.of(() -> options.onResult(null))),
              Map.entry("options", List.of(() -> client.with(null))),
              Map.entry("since", List.of(() -> new MirrorOptions().since(null))),
              Map.entry("value", List.of(() -> new Token(null))),
              Map.entry("target", List.of(() -> client.downloadReportTo(instance, pdf, null))),
              Map.entry("directory", List.of(() -> client.mirror(null, null))),
              Map.entry(
                  "spec",
                  List.of(
                      () -> client.createReport(instance, null),
                      () -> client.generateReport(instance, null))),
              Map.entry("changes", List.of(() -> client.updateSchedule(instance, pdf, null))),
              Map.entry("templateId", List.of(() -> client.schedule(instance, null))),
              Map.entry("work", List.of(() -> client.async(null))),
              Map.entry("name", List.of(() -> DbssClient.hasFeature(null))),
              Map.entry(
                  "instanceId",
                  List.of(
                      () -> client.reports(null),
                      () -> client.templates(null),
                      () -> client.databases(null),
                      () -> client.deleteReport(null, pdf))));
      calls.forEach(
          (name, all) -> all.forEach(call -> says(name, name + ": must not be null", call)));
    }
  }

  @Test
  void progressShowsASizeOnlyIfItIsKnown() throws Exception {
    var shown = new ArrayList<String>();
    CallOptions options = new CallOptions().onProgress(p -> shown.add(p.toString()));
    try (DbssClient client = Mock.builder().build()) {
      client.with(options).downloadReport(instance, pdf);
      assertEquals("0 bytes", shown.get(0));
      assertTrue(shown.get(shown.size() - 1).matches("\\d+ of \\d+ bytes"), shown.toString());
      assertEquals("DbssClient[open]", client.toString());
      try (ReportStream stream = client.openReport(instance, pdf)) {
        assertTrue(stream.toString().matches("ReportStream\\[.+, \\d+ bytes]"), stream.toString());
      }
    }
  }

  @Test
  void cancelledCallsAreNoErrorsForALogger() throws Exception {
    var records = Collections.synchronizedList(new ArrayList<java.util.logging.LogRecord>());
    var own = java.util.logging.Logger.getLogger("com.example.dbss.ClientTest");
    own.setUseParentHandlers(false);
    own.addHandler(
        new java.util.logging.Handler() {
          @Override
          public void publish(java.util.logging.LogRecord one) {
            one.getSourceMethodName();
            records.add(one);
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        });
    System.Logger logger = System.getLogger("com.example.dbss.ClientTest");
    try (DbssClient client = Mock.builder().logger(logger).build()) {
      DbssClient stops = client.with(new CallOptions().onProgress(p -> false));
      thrown(DbssCancelledException.class, () -> stops.downloadReport(instance, pdf));
    }
    assertEquals(1, records.size());
    assertEquals(java.util.logging.Level.INFO, records.get(0).getLevel());
    assertEquals(DbssClient.class.getName(), records.get(0).getSourceClassName());
    assertEquals("log", records.get(0).getSourceMethodName());
  }

  /**
   * Interrupts a call 50 ms after the service has a request of it, which is for this report or of
   * the call of this name, or after 50 ms for null; and returns what it throws.
   */
  private Throwable interrupted(String subject, Executable call) throws Exception {
    // A machine that is busy may be late many times.
    for (int attempt = 1; ; attempt++) {
      int before = subject == null ? 0 : Mock.requests(subject);
      var thrown = new AtomicReference<Throwable>();
      var flag = new AtomicReference<Boolean>();
      Thread thread =
          new Thread(
              () -> {
                try {
                  call.execute();
                } catch (Throwable e) {
                  thrown.set(e);
                }
                flag.set(Thread.currentThread().isInterrupted());
              });
      thread.start();
      while (subject != null && thread.isAlive() && Mock.requests(subject) == before) {
        Thread.onSpinWait();
      }
      thread.join(50);
      long began = System.nanoTime();
      thread.interrupt();
      thread.join(60_000);
      Duration late = Duration.ofNanos(System.nanoTime() - began);
      assertFalse(thread.isAlive(), "the call goes on");
      assertTrue(flag.get(), "the thread is no longer interrupted");
      if (late.compareTo(SOON) < 0) {
        return thrown.get();
      }
      assertTrue(attempt < 20, late + " late: " + thrown.get());
    }
  }

  private static void endedByInterrupt(Throwable thrown) {
    var e = (DbssInterruptedException) thrown;
    assertEquals(Status.CANCELLED, e.status());
    assertEquals(CancelledBy.CALL, e.cancelledBy());
  }

  @Test
  void interruptEndsEachKindOfCall() throws Exception {
    String silent = Mock.silent();
    var waiting = Mock.addReport(Map.of("format", "pdf", "percentum", 0)).get("id").getAsString();
    try (DbssClient client = Mock.builder().build()) {
      Path file = directory.resolve("file");
      CallOptions slow = new CallOptions().pollInterval(Duration.ofHours(1));
      for (Executable call :
          List.<Executable>of(
              () -> client.downloadReport(instance, silent),
              () -> client.downloadReportToFile(instance, silent, file),
              () -> client.downloadReportTo(instance, silent, OutputStream.nullOutputStream()),
              () -> client.openReport(instance, silent))) {
        endedByInterrupt(interrupted(silent, call));
      }
      endedByInterrupt(
          interrupted("@reports.list", () -> client.with(slow).waitForReport(instance, waiting)));
      String stalling = Mock.stalling();
      var e =
          interrupted(
              stalling,
              () -> {
                try (ReportStream stream = client.openReport(instance, stalling)) {
                  stream.readAllBytes();
                } catch (DbssInterruptedException early) {
                  throw new InterruptedIOException("before it was open");
                }
              });
      assertTrue(e instanceof InterruptedIOException, String.valueOf(e));
      assertFalse(Files.exists(file));
    }
  }

  @Test
  void interruptAfterACallbackThatUsedAChannelEndsTheCall() throws Exception {
    Path other = Files.writeString(directory.resolve("other"), "text");
    CallOptions options =
        new CallOptions()
            .onProgress(
                p -> {
                  try (FileChannel channel = FileChannel.open(other, StandardOpenOption.READ)) {
                    return channel.size() > 0;
                  } catch (IOException e) {
                    throw new AssertionError(e);
                  }
                });
    String silent = Mock.silent();
    try (DbssClient client = Mock.builder().build()) {
      var e = interrupted(silent, () -> client.with(options).downloadReport(instance, silent));
      // The interrupt may come while the callback uses its channel, which then fails.
      assertTrue(
          e instanceof DbssInterruptedException
              || e.getCause() instanceof ClosedByInterruptException,
          e.toString());
    }
  }

  @Test
  void interruptOfAVirtualThreadEndsTheCallOfACallback() throws Exception {
    assumeTrue(Runtime.version().feature() >= 21, "Java has no virtual threads before 21");
    String silent = Mock.silent();
    var inner = new AtomicReference<Throwable>();
    try (DbssClient client = Mock.builder().build()) {
      CallOptions options =
          new CallOptions()
              .onProgress(
                  p -> {
                    try {
                      client.downloadReport(instance, silent);
                    } catch (Throwable e) {
                      inner.set(e);
                    }
                    return true;
                  });
      Runnable call = () -> client.with(options).downloadReport(instance, pdf);
      for (boolean future : new boolean[] {false, true}) {
        int before = Mock.requests(silent);
        var cancelled = new CompletableFuture<>();
        Runnable work = call;
        if (future) {
          work =
              () -> {
                Cancellation cancellation = new Cancellation(null);
                cancelled.whenComplete((result, error) -> cancellation.cancel());
                Cancellation.CURRENT.set(cancellation);
                call.run();
              };
        }
        Thread thread =
            (Thread)
                Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, work);
        while (Mock.requests(silent) == before) {
          Thread.onSpinWait();
        }
        if (future) {
          cancelled.cancel(true);
        } else {
          thread.interrupt();
        }
        thread.join(60_000);
        assertFalse(thread.isAlive(), "it is still there; by a future: " + future);
        assertEquals(future, !(inner.get() instanceof DbssInterruptedException));
        assertTrue(inner.get() instanceof DbssCancelledException, inner.toString());
      }
    }
  }

  /** Opens a report on a thread that is interrupted at the last moment. */
  private void openInterrupted(boolean virtual) throws Exception {
    var caller = new AtomicReference<Thread>();
    var results = new AtomicInteger();
    var thrown = new AtomicReference<Throwable>();
    DbssClient.Builder builder =
        Mock.builder()
            .logLevel(System.Logger.Level.DEBUG)
            .onLog(
                record -> {
                  // The last record of the call.
                  if (record.toString().contains("HTTP 200")) {
                    caller.get().interrupt();
                    while (!Thread.currentThread().isInterrupted()) {
                      Thread.onSpinWait();
                    }
                  }
                });
    try (DbssClient client = builder.build()) {
      CallOptions options = new CallOptions().onResult(result -> results.incrementAndGet());
      Runnable open =
          () -> {
            caller.set(Thread.currentThread());
            try {
              client.with(options).openReport(instance, pdf);
            } catch (Throwable e) {
              thrown.set(e);
            }
          };
      Thread thread = new Thread(open);
      if (virtual) {
        Object maker = Thread.class.getMethod("ofVirtual").invoke(null);
        var unstarted =
            Class.forName("java.lang.Thread$Builder").getMethod("unstarted", Runnable.class);
        thread = (Thread) unstarted.invoke(maker, open);
      }
      thread.start();
      thread.join();
      assertTrue(thrown.get() instanceof DbssInterruptedException, String.valueOf(thrown.get()));
      assertEquals(CancelledBy.CALL, ((DbssException) thrown.get()).cancelledBy());
      assertEquals(1, results.get());
    }
  }

  @Test
  void interruptedOpenGivesNoStream() throws Exception {
    openInterrupted(false);
    if (Runtime.version().feature() >= 21) {
      openInterrupted(true);
    }
  }

  @Test
  void threadThatIsInterruptedSendsNoRequest() throws Exception {
    String silent = Mock.silent();
    try (DbssClient client = Mock.builder().build()) {
      Thread.currentThread().interrupt();
      thrown(DbssInterruptedException.class, () -> client.downloadReport(instance, silent));
      assertTrue(Thread.interrupted());
      assertEquals(0, Mock.requests(silent));
    }
  }

  @Test
  void futureThatEndsEarlyCancelsItsCall() throws Exception {
    String silent = Mock.silent();
    var results = new ArrayList<CallResult>();
    var done = new CountDownLatch(3);
    CallOptions options = new CallOptions().onResult(result -> done.countDown());
    try (DbssClient client = Mock.builder().build()) {
      DbssClient watched = client.with(options);
      CompletableFuture<byte[]> cancelled = watched.downloadReportAsync(instance, silent);
      CompletableFuture<byte[]> late = watched.downloadReportAsync(instance, silent);
      CompletableFuture<byte[]> other = watched.downloadReportAsync(instance, silent);
      while (Mock.requests(silent) < 3) {
        Thread.onSpinWait();
      }
      cancelled.cancel(true);
      assertThrows(CancellationException.class, cancelled::join);
      late.orTimeout(10, TimeUnit.MILLISECONDS);
      var e = assertThrows(CompletionException.class, late::join);
      assertTrue(e.getCause() instanceof TimeoutException);
      other.complete(new byte[0]);
      assertTrue(done.await(30, TimeUnit.SECONDS), done + " " + results);
      // A future that was cancelled before it began makes no call.
      var never = new AtomicInteger();
      DbssClient lazy = Mock.builder().executor(work -> never.incrementAndGet()).build();
      lazy.downloadReportAsync(instance, silent).cancel(true);
      lazy.close();
      assertEquals(1, never.get());
    }
  }

  @Test
  void futuresHaveTheResultsAndTheExceptions() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      byte[] content = client.downloadReportAsync(instance, pdf).join();
      try (ReportStream stream = client.openReportAsync(instance, pdf).join()) {
        assertArrayEquals(content, stream.readAllBytes());
      }
      Path file = directory.resolve("file");
      assertEquals(file, client.downloadReportToFileAsync(instance, pdf, file).join());
      assertNotNull(client.downloadReportToDirectoryAsync(instance, pdf, directory).join());
      var e =
          assertThrows(
              CompletionException.class,
              () -> client.downloadReportAsync(instance, "missing-0123456789").join());
      assertEquals(Status.NOT_FOUND, ((DbssException) e.getCause()).status());
      assertFalse(client.async(c -> c.reports(instance).stream().count()).join() == 0);
    }
  }

  @Test
  void streamInTheResultOfAFutureGoesOn() throws Exception {
    String id = Mock.addReport(Map.of("format", "pdf", "size", 2 << 20)).get("id").getAsString();
    try (DbssClient client = Mock.builder().build()) {
      CompletableFuture<InputStream> wrapped =
          client.async(c -> new BufferedInputStream(c.openReport(instance, id)));
      assertEquals(2 << 20, wrapped.join().readAllBytes().length);
      wrapped.join().close();
    }
    // A future that ends early closes a stream, but nothing that others may use.
    var queue = new ArrayList<Runnable>();
    try (DbssClient client = Mock.builder().executor(queue::add).build()) {
      for (boolean streams : new boolean[] {true, false}) {
        var future = new AtomicReference<CompletableFuture<AutoCloseable>>();
        var stream = new AtomicReference<ReportStream>();
        future.set(
            client.async(
                c -> {
                  stream.set(c.openReport(instance, id));
                  future.get().complete(null);
                  return streams ? stream.get() : c;
                }));
        queue.remove(0).run();
        IOException e = assertThrows(IOException.class, stream.get()::readAllBytes);
        Status expected = streams ? Status.CLOSED : Status.CANCELLED;
        assertEquals(expected, ((DbssException) e.getCause()).status());
        stream.get().close();
      }
      client.check();
    }
  }

  @Test
  void streamsThatAreOpenedAfterAFailureOrBeforeItGoOn() throws Exception {
    String id = Mock.addReport(Map.of("format", "pdf", "size", 2 << 20)).get("id").getAsString();
    var queue = new ArrayList<Runnable>();
    try (DbssClient client = Mock.builder().executor(queue::add).build()) {
      var fallbacks = new ArrayList<CompletableFuture<ReportStream>>();
      CompletableFuture<ReportStream> failed =
          client.openReportAsync(instance, "missing-0123456789");
      fallbacks.add(failed.exceptionally(e -> client.openReport(instance, id)));
      fallbacks.add(failed.handle((stream, e) -> client.openReport(instance, id)));
      var handedOut = new CompletableFuture<ReportStream>();
      client.async(
          c -> {
            handedOut.complete(c.openReport(instance, id));
            throw new IllegalStateException("mine");
          });
      fallbacks.add(handedOut);
      queue.forEach(Runnable::run);
      for (var one : fallbacks) {
        try (ReportStream stream = one.join()) {
          assertEquals(2 << 20, stream.readAllBytes().length);
        }
      }
    }
  }

  @Test
  void callOfAFutureEndsBeforeWhatDependsOnIt() throws Exception {
    ExecutorService one = Executors.newFixedThreadPool(1);
    try (DbssClient client = Mock.builder().executor(one).build()) {
      byte[] content =
          client
              .downloadReportAsync(instance, Mock.silent())
              .orTimeout(50, TimeUnit.MILLISECONDS)
              // It needs the thread of the call.
              .exceptionally(e -> client.downloadReportAsync(instance, pdf).join())
              .get(30, TimeUnit.SECONDS);
      assertTrue(content.length > 0);
    } finally {
      one.shutdown();
    }
  }

  @Test
  void closingDoesNotWaitForWhatDependsOnFutures() throws Exception {
    List<Runnable> never = new ArrayList<>();
    DbssClient client = Mock.builder().executor(never::add).build();
    var first = client.downloadReportAsync(instance, pdf);
    var second = client.downloadReportAsync(instance, pdf);
    var ends =
        List.of(
            first.handle((r, e) -> second.handle((x, y) -> 1).join()),
            second.handle((r, e) -> first.handle((x, y) -> 1).join()));
    client.close();
    for (var end : ends) {
      assertEquals(1, end.get(30, TimeUnit.SECONDS));
    }
  }

  @Test
  void executorThatRefusesTheWorkFailsTheFuture() {
    for (Throwable refused :
        List.of(
            new java.util.concurrent.RejectedExecutionException("full"),
            new OutOfMemoryError("unable to create native thread"))) {
      DbssClient.Builder builder =
          Mock.builder()
              .executor(
                  work -> {
                    throw Threads.sneaky(refused);
                  });
      try (DbssClient client = builder.build()) {
        CompletableFuture<byte[]> future = client.downloadReportAsync(instance, pdf);
        assertSame(refused, assertThrows(CompletionException.class, future::join).getCause());
      }
    }
  }

  @Test
  void threadsOfThePackageInheritNothing() throws Exception {
    var inherited = new InheritableThreadLocal<String>();
    var groups = Collections.synchronizedSet(new java.util.HashSet<ThreadGroup>());
    var begun = new CountDownLatch(100);
    var own = new ThreadGroup("mine");
    Thread caller =
        new Thread(
            own,
            () -> {
              inherited.set("mine");
              try (DbssClient client = Mock.builder().build()) {
                List<CompletableFuture<Void>> all = new ArrayList<>();
                for (int i = 0; i < 100; i++) {
                  all.add(
                      client.async(
                          c -> {
                            begun.countDown();
                            begun.await();
                            assertNull(inherited.get());
                            Thread thread = Thread.currentThread();
                            assertEquals(Thread.NORM_PRIORITY, thread.getPriority());
                            assertSame(
                                ClassLoader.getSystemClassLoader(), thread.getContextClassLoader());
                            groups.add(thread.getThreadGroup());
                            return null;
                          }));
                }
                all.forEach(CompletableFuture::join);
              }
            });
    caller.setPriority(Thread.MIN_PRIORITY);
    caller.setContextClassLoader(null);
    var failed = new AtomicReference<Throwable>();
    caller.setUncaughtExceptionHandler((thread, e) -> failed.set(e));
    caller.start();
    caller.join();
    assertNull(failed.get());
    assertEquals(1, groups.size());
    assertFalse(groups.contains(own));
  }

  @Test
  void progressEndsTheCallOrItsExceptionDoes() throws Exception {
    try (DbssClient client = Mock.builder().build()) {
      var seen = new ArrayList<Long>();
      DbssClient watched = client.with(new CallOptions().onProgress(p -> seen.add(p.received())));
      long size = watched.downloadReport(instance, pdf).length;
      assertEquals(size, seen.get(seen.size() - 1));
      DbssClient stops = client.with(new CallOptions().onProgress(p -> false));
      DbssCancelledException e =
          thrown(DbssCancelledException.class, () -> stops.downloadReport(instance, pdf));
      assertEquals(CancelledBy.CALLBACK, e.cancelledBy());
      var own = new IllegalStateException("mine");
      DbssClient throwing =
          client.with(
              new CallOptions()
                  .onProgress(
                      p -> {
                        throw own;
                      }));
      assertSame(
          own, thrown(IllegalStateException.class, () -> throwing.downloadReport(instance, pdf)));
      assertSame(
          own, thrown(IllegalStateException.class, () -> throwing.openReport(instance, pdf)));
    }
  }

  @Test
  void resultIsGivenAlsoAfterAFailure() throws Exception {
    var results = new ArrayList<CallResult>();
    try (DbssClient client = Mock.builder().build()) {
      DbssClient watched = client.with(new CallOptions().onResult(results::add));
      watched.downloadReport(instance, pdf);
      assertEquals(Format.PDF, results.get(0).format());
      assertNotNull(results.get(0).requestId());
      assertNull(results.get(0).path());
      fails(Status.NOT_FOUND, () -> watched.downloadReport(instance, "missing-0123456789"));
      assertEquals(1, results.get(1).attempts());
      watched.openReport(instance, pdf).close();
      assertEquals(3, results.size());
    }
  }

  @Test
  void logGoesToTheFunctionAndItsExceptionToTheCaller() throws Exception {
    List<LogRecord> records = Collections.synchronizedList(new ArrayList<>());
    try (DbssClient client = Mock.builder().onLog(records::add).build()) {
      fails(Status.NOT_FOUND, () -> client.downloadReport(instance, "missing-0123456789"));
    }
    LogRecord failed =
        records.stream().filter(r -> r.level() == System.Logger.Level.ERROR).findAny().get();
    assertEquals(Status.NOT_FOUND, failed.error().status());
    assertEquals("missing-0123456789", failed.reportId());
    // Each id comes once.
    String shown = failed.toString();
    for (String id : List.of(failed.reportId(), failed.error().requestId())) {
      assertEquals(id.length(), shown.length() - shown.replace(id, "").length(), shown);
    }
    assertFalse(records.toString().contains(Mock.value("token")));
    var own = new IllegalStateException("mine");
    DbssClient.Builder throwing =
        Mock.builder()
            .onLog(
                record -> {
                  throw own;
                });
    assertSame(
        own,
        thrown(
            IllegalStateException.class,
            () -> {
              try (DbssClient client = throwing.build()) {
                client.downloadReport(instance, "missing-0123456789");
              }
            }));
  }

  @Test
  void twoKindsOfCredentialsAreAnError() {
    TokenProvider tokens = refused -> new Token("t");
    PasscodeProvider passcodes = refused -> "1";
    String both = " exclude each other; give one of them";
    for (var one :
        Map.<DbssClient.Builder, String>of(
                Mock.builder().tokenProvider(tokens), "a token provider and a token" + both,
                Mock.builder().set("access_key", "a"), "a token and an access key" + both,
                with(tokens).set("token", "t"), "a token provider and a token" + both)
            .entrySet()) {
      says(null, one.getValue(), one.getKey()::build);
    }
    String needs = "passcodeProvider: needs iamUser, iamUserId, iamPassword and iamDomain";
    for (var one :
        Map.of(
                DbssClient.builder(), needs,
                Mock.builder(), needs + ", in place of a token",
                with(tokens), needs + ", in place of a token provider")
            .entrySet()) {
      says("passcodeProvider", one.getValue(), one.getKey().passcodeProvider(passcodes)::build);
    }
  }

  private DbssClient.Builder with(TokenProvider provider) {
    return DbssClient.builder()
        .endpoint(Mock.value("http"))
        .projectId(Mock.value("project_id"))
        .tokenProvider(provider);
  }

  @Test
  void exceptionInTheLogOfAnotherClientDoesNotFailTheOuterCall() throws Exception {
    var own = new IllegalStateException("mine");
    var inner = new AtomicReference<Throwable>();
    DbssClient.Builder other =
        DbssClient.builder()
            .region("cn-north-4")
            .credentials("environment")
            .onLog(
                record -> {
                  throw own;
                });
    DbssClient.Builder outer =
        Mock.builder()
            .onLog(
                record -> {
                  try {
                    other.build().close();
                  } catch (Throwable e) {
                    inner.set(e);
                  }
                });
    try (DbssClient client = outer.build()) {
      assertTrue(client.downloadReport(instance, pdf).length > 0);
      // There are no such credentials.
      assertTrue(inner.get() instanceof DbssException, String.valueOf(inner.get()));
      assertArrayEquals(new Throwable[] {own}, inner.get().getSuppressed());
    }
  }

  @Test
  void tokenProviderIsCalledOnceAndItsExceptionIsTheCause() throws Exception {
    var calls = new AtomicInteger();
    TokenProvider provider =
        refused -> {
          calls.incrementAndGet();
          return new Token(Mock.value("token"), Instant.now().plusSeconds(3600));
        };
    try (DbssClient client = with(provider).build()) {
      List<CompletableFuture<?>> all = new ArrayList<>();
      for (int i = 0; i < 20; i++) {
        all.add(client.downloadReportAsync(instance, pdf));
      }
      all.forEach(CompletableFuture::join);
      assertEquals(1, calls.get());
      assertEquals("token_provider", client.findCredentials().source());
      assertTrue(client.findCredentials().expiresAt().isAfter(Instant.now()));
      assertEquals(client.findCredentials(), client.findCredentials());
    }
    var own = new IOException("the vault is closed");
    TokenProvider failing =
        refused -> {
          throw own;
        };
    try (DbssClient client = with(failing).build()) {
      DbssException e = thrown(DbssException.class, client::check);
      assertEquals(Status.NO_TOKEN, e.status());
      assertSame(own, e.getCause());
    }
    try (DbssClient client = with(refused -> new Token("a b", null)).build()) {
      fails(Status.NO_TOKEN, client::check);
    }
    Map<TokenProvider, String> wrong =
        Map.of(
            refused -> null, "it returned null instead of a Token",
            refused -> new Token("t", Instant.EPOCH), "expiresAt: is in the past",
            refused -> new Token(null), "value: must not be null");
    for (var one : wrong.entrySet()) {
      try (DbssClient client = with(one.getKey()).build()) {
        DbssException e = thrown(DbssException.class, client::check);
        assertEquals(Status.NO_TOKEN, e.status());
        assertTrue(e.getMessage().contains(one.getValue()), e.getMessage());
        assertNotNull(e.getCause());
      }
    }
  }

  @Test
  void anyExceptionOfATokenProviderIsTheCause() throws Exception {
    for (Exception own :
        List.of(
            new IOException(""),
            new IOException(),
            new IOException("a\u202eb\u115f\0c\ud800 " + "审".repeat(500)),
            new IOException() {
              private static final long serialVersionUID = 1;

              @Override
              public String getMessage() {
                throw new IllegalStateException("no message");
              }
            })) {
      TokenProvider failing =
          refused -> {
            throw own;
          };
      try (DbssClient client = with(failing).build()) {
        DbssException e = thrown(DbssException.class, client::check);
        assertEquals(Status.NO_TOKEN, e.status());
        assertSame(own, e.getCause(), e.getMessage());
      }
    }
    // The waiting call may end before the function that completes it.
    try (DbssClient client = with(refused -> new Token("a b", null)).build()) {
      for (int i = 0; i < 200; i++) {
        DbssException e = thrown(DbssException.class, client::check);
        assertTrue(e.getCause() instanceof DbssException, e.getMessage());
      }
    }
  }

  @Test
  void wrongPasscodeIsNotCalledAToken() throws Exception {
    for (String wrong : List.of("", "12 34", "12\u00003456", "\ud800", "1".repeat(98_305))) {
      DbssClient.Builder builder =
          DbssClient.builder()
              .endpoint(Mock.value("http"))
              .projectId(Mock.value("project_id"))
              .iamEndpoint(Mock.value("iam"))
              .iamUser("user")
              .iamUserId("0".repeat(32))
              .iamPassword("password")
              .iamDomain("domain")
              .passcodeProvider(refused -> wrong);
      try (DbssClient client = builder.build()) {
        DbssException e = thrown(DbssException.class, client::check);
        assertEquals(Status.NO_TOKEN, e.status());
        String reason = "passcode: must be 1 to 98304 visible ASCII characters";
        assertTrue(e.getMessage().contains(reason), e.getMessage());
        assertEquals("passcode", ((DbssException) e.getCause()).parameter());
      }
    }
  }

  @Test
  void tokensMayExpireAtAnyTime() throws Exception {
    String token = Mock.value("token");
    try (DbssClient client = with(refused -> new Token(token, Instant.MAX)).build()) {
      client.check();
    }
    try (DbssClient client = with(refused -> new Token(token, Instant.MIN)).build()) {
      DbssException e = thrown(DbssException.class, client::check);
      assertTrue(e.getMessage().contains("has expired"), e.getMessage());
    }
  }

  @Test
  void callThatWaitsForAProviderCanBeInterruptedAndClosingInterruptsTheProvider() throws Exception {
    var begun = new CountDownLatch(1);
    var ended = new CountDownLatch(1);
    TokenProvider endless =
        refused -> {
          begun.countDown();
          try {
            new CountDownLatch(1).await();
            return null;
          } finally {
            ended.countDown();
          }
        };
    DbssClient client = with(endless).build();
    do {
      // An interrupt that comes early ends a call that has not asked the provider yet.
      assertTrue(interrupted(null, client::check) instanceof DbssInterruptedException);
    } while (begun.getCount() > 0);
    client.close();
    assertTrue(ended.await(30, TimeUnit.SECONDS));
    fails(Status.CLOSED, client::check);
  }

  @Test
  void closingEndsCallsAndStreams() throws Exception {
    String silent = Mock.silent();
    DbssClient client = Mock.builder().build();
    ReportStream stream = client.openReport(instance, Mock.stalling());
    CompletableFuture<byte[]> call = client.downloadReportAsync(instance, silent);
    while (Mock.requests(silent) < 1) {
      Thread.onSpinWait();
    }
    client.close();
    client.close();
    var e = (DbssException) assertThrows(CompletionException.class, call::join).getCause();
    assertEquals(CancelledBy.CLOSE, e.cancelledBy());
    assertThrows(IOException.class, stream::readAllBytes);
    stream.close();
    stream.close();
    for (Executable use : List.<Executable>of(stream::read, stream::available)) {
      IOException closed = assertThrows(IOException.class, use);
      assertEquals("the stream is closed", closed.getMessage());
      assertEquals(Status.CLOSED, ((DbssException) closed.getCause()).status());
    }
    fails(Status.CLOSED, client::check);
    fails(Status.CLOSED, () -> client.setToken("t"));
    fails(Status.CLOSED, () -> client.reports(instance).iterator().hasNext());
    client.cancelAll();
  }

  @Test
  void closingCancelsTheWorkThatWaitsForAnExecutor() {
    var queue = new ArrayList<Runnable>();
    DbssClient client = Mock.builder().executor(queue::add).build();
    CompletableFuture<byte[]> early = client.downloadReportAsync(instance, pdf);
    CompletableFuture<Void> other =
        client.async(
            c -> {
              client.close();
              thrown(DbssCancelledException.class, c::check);
              fails(Status.CLOSED, c::check);
              return null;
            });
    // Begins before the client is closed.
    queue.remove(1).run();
    other.join();
    // The executor need not run the work any more: it ends without it.
    early.orTimeout(60, TimeUnit.SECONDS);
    var e = (DbssException) assertThrows(CompletionException.class, early::join).getCause();
    assertEquals(Status.CANCELLED, e.status());
    assertEquals(CancelledBy.CLOSE, e.cancelledBy());
    CompletableFuture<byte[]> late = client.downloadReportAsync(instance, pdf);
    queue.forEach(Runnable::run);
    var refused = (DbssException) assertThrows(CompletionException.class, late::join).getCause();
    assertEquals(Status.CLOSED, refused.status());
  }

  @Test
  void closingCancelsAllCallsThatWereMadeBefore() {
    for (int i = 0; i < 500; i++) {
      DbssClient client = Mock.builder().build();
      CompletableFuture<byte[]> call = client.downloadReportAsync(instance, "missing-0123456789");
      for (int n = 0; n < i % 50; n++) {
        Thread.onSpinWait();
      }
      client.close();
      var e = (DbssException) assertThrows(CompletionException.class, call::join).getCause();
      assertTrue(e.status() == Status.CANCELLED || e.status() == Status.NOT_FOUND, e.toString());
    }
  }

  @Test
  void cancelAllKeepsTheClient() throws Exception {
    String silent = Mock.silent();
    try (DbssClient client = Mock.builder().build()) {
      CompletableFuture<byte[]> call = client.downloadReportAsync(instance, silent);
      while (Mock.requests(silent) < 1) {
        Thread.onSpinWait();
      }
      client.cancelAll();
      var e = (DbssException) assertThrows(CompletionException.class, call::join).getCause();
      assertEquals(CancelledBy.CLIENT, e.cancelledBy());
      client.check();
    }
  }

  @Test
  void closingAStreamEndsItsReadAndASecondReaderIsRefused() throws Exception {
    String stalling = Mock.stalling();
    var opened = new AtomicReference<ReportStream>();
    var refused = new CompletableFuture<Throwable>();
    // While a read waits, another one in its callback.
    CallOptions options =
        new CallOptions()
            .onProgress(
                p -> {
                  if (opened.get() != null) {
                    refused.complete(assertThrows(IOException.class, opened.get()::read));
                  }
                  return true;
                });
    try (DbssClient client = Mock.builder().build()) {
      ReportStream stream = client.with(options).openReport(instance, stalling);
      opened.set(stream);
      CompletableFuture<byte[]> read = client.async(c -> stream.readAllBytes());
      assertEquals(Status.BUSY, ((DbssException) refused.join().getCause()).status());
      stream.close();
      assertTrue(
          assertThrows(CompletionException.class, read::join).getCause() instanceof IOException);
    }
  }

  @Test
  void listsFetchAllPagesAndContinueAfterAFailure() throws Exception {
    String own = Mock.addInstance();
    Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 25, "instance", own));
    try (DbssClient client = Mock.builder().maxAttempts(1).build()) {
      Listing<Report> list = client.with(new CallOptions().pageSize(10)).reports(own);
      assertTrue(list.total().isEmpty());
      assertEquals(25, list.stream().map(Report::id).distinct().count());
      assertEquals(25, list.total().getAsLong());
      assertFalse(list.iterator().hasNext());
      var results = new ArrayList<CallResult>();
      CallOptions watched = new CallOptions().onResult(results::add);
      Listing<Report> ended;
      try (DbssClient other = Mock.builder().build()) {
        ended = other.with(watched).reports(own);
        assertEquals(25, ended.stream().count());
      }
      int calls = results.size();
      assertFalse(ended.iterator().hasNext());
      assertEquals(calls, results.size());
      Mock.fault("@reports.list", Map.of("status", 500, "skip", 1, "times", 1));
      Listing<Report> broken = client.with(new CallOptions().pageSize(20)).reports(own);
      var iterator = broken.iterator();
      for (int i = 0; i < 20; i++) {
        assertTrue(iterator.next().isReady());
      }
      fails(Status.SERVER, iterator::hasNext);
      assertEquals(5, broken.stream().count());
      assertEquals(Mock.instance(), client.instances().iterator().next().id());
      assertFalse(client.templates(own).stream().collect(Collectors.toList()).isEmpty());
      DbssClient off = client.with(new CallOptions().statusFilter("OFF"));
      off.databases(own).forEach(one -> assertEquals("OFF", one.status()));
    }
  }

  @Test
  void listGivesEachItemToOneOfManyThreads() throws Exception {
    String own = Mock.addInstance();
    Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 100, "instance", own));
    try (DbssClient client = Mock.builder().build()) {
      for (int round = 0; round < 10; round++) {
        Listing<Report> list = client.with(new CallOptions().pageSize(3)).reports(own);
        List<String> ids = Collections.synchronizedList(new ArrayList<>());
        var begun = new CountDownLatch(4);
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
          all.add(
              client.async(
                  c -> {
                    begun.countDown();
                    begun.await();
                    for (; ; ) {
                      try {
                        ids.add(list.iterator().next().id());
                      } catch (java.util.NoSuchElementException e) {
                        return null;
                      } catch (DbssException e) {
                        assertEquals("list: another call reads it", e.getMessage());
                        assertEquals(Status.BUSY, e.status());
                      }
                    }
                  }));
        }
        all.forEach(CompletableFuture::join);
        assertEquals(100, ids.size());
        assertEquals(100, ids.stream().distinct().count());
      }
      // A callback of a list that reads the same one is refused, too.
      var read = new AtomicReference<Listing<Report>>();
      var refused = new AtomicReference<DbssException>();
      CallOptions options =
          new CallOptions()
              .onResult(
                  result ->
                      refused.set(
                          thrown(DbssException.class, () -> read.get().iterator().hasNext())));
      read.set(client.with(options).reports(own));
      assertEquals(100, read.get().stream().count());
      assertEquals(Status.BUSY, refused.get().status());
    }
  }

  @Test
  void errorOfACallSurvivesAnExceptionOfACallback() throws Exception {
    var mine = new IllegalStateException("mine");
    CallOptions options =
        new CallOptions()
            .onResult(
                result -> {
                  throw mine;
                });
    try (DbssClient client = Mock.builder().build()) {
      DbssClient failing = client.with(options);
      String unknown = "0".repeat(32);
      for (Executable call :
          List.<Executable>of(
              () -> failing.downloadReport(Mock.instance(), unknown),
              () -> failing.openReport(Mock.instance(), unknown))) {
        DbssException failure = thrown(DbssException.class, call);
        assertEquals(Status.NOT_FOUND, failure.status());
        assertArrayEquals(new Throwable[] {mine}, failure.getSuppressed());
      }
    }
    DbssClient.Builder logging = Mock.builder().logLevel(System.Logger.Level.ERROR);
    logging.onLog(
        record -> {
          throw mine;
        });
    try (DbssClient client = logging.build()) {
      assertSame(
          mine,
          thrown(
              IllegalStateException.class,
              () -> client.downloadReport(Mock.instance(), "0".repeat(32))));
      assertEquals(Status.NOT_FOUND, ((DbssException) mine.getSuppressed()[0]).status());
    }
  }

  @Test
  void listsLoseNoPageToAnExceptionOfACallback() throws Exception {
    String own = Mock.addInstance();
    Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 10, "instance", own));
    for (int n = 0; n < 8; n++) {
      // The first ones in a function for results, the others in the log.
      boolean inLog = n >= 4;
      var left = new AtomicInteger(Integer.MAX_VALUE);
      Runnable throwing =
          () -> {
            if (left.getAndDecrement() == 0) {
              throw new IllegalStateException("mine");
            }
          };
      DbssClient.Builder builder = Mock.builder();
      CallOptions options = new CallOptions().pageSize(3);
      if (inLog) {
        builder.onLog(record -> throwing.run());
      } else {
        options.onResult(result -> throwing.run());
      }
      try (DbssClient client = builder.build()) {
        left.set(inLog ? n - 4 : n);
        var iterator = client.with(options).reports(own).iterator();
        int failures = 0;
        int items = 0;
        for (boolean more = true; more; ) {
          try {
            more = iterator.hasNext();
            if (more) {
              iterator.next();
              items++;
            }
          } catch (IllegalStateException e) {
            failures++;
          }
        }
        assertEquals(10, items, "throwing at " + n);
        assertEquals(1, failures, "throwing at " + n);
      }
    }
  }

  @Test
  void pageThatCannotBeReadEndsTheList() throws Exception {
    String own = Mock.addInstance();
    // Like a page that is nested too deeply.
    var wrong = new IllegalStateException("mine");
    try (DbssClient client = Mock.builder().build()) {
      Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 2, "instance", own));
      Listing<Report> list =
          new Listing<>(
              client,
              CallOptions.NONE,
              fields -> {
                throw wrong;
              },
              (call, frame, out) ->
                  Native.ABI.dbss_reports_list(
                      call.context, 0, frame.text("instance", own), 0, 1, out));
      for (int i = 0; i < 2; i++) {
        assertSame(wrong, thrown(IllegalStateException.class, () -> list.iterator().hasNext()));
      }
    }
  }

  @Test
  void fieldsAreConvertedLeniently() throws Exception {
    String own = Mock.addInstance();
    Mock.control(
        "POST",
        "/reports",
        Map.of(
            "format",
            "pdf",
            "instance",
            own,
            "percentum",
            "99.5",
            "db_names",
            List.of(1, "zwei\n\"\\\u0001é"),
            "extra",
            Map.of("unknown", Map.of("a", 1), "big", 1e300)));
    try (DbssClient client = Mock.builder().build()) {
      Report report = client.reports(own).iterator().next();
      assertEquals(99, report.percentum());
      assertFalse(report.isReady());
      assertEquals("[1,\"zwei\\u000a\\\"\\\\\\u0001é\"]", report.dbNames());
      assertEquals(Map.of("a", 1L), report.raw().get("unknown"));
      assertTrue(report.toString().startsWith("Report{"));
    }
  }

  @Test
  void numbersAndNestingOutOfRangeAreNoFault() {
    for (String number : List.of("1E9999999999", "1E-2147483648", "-1e99999999999999999999")) {
      Object parsed = Json.map(Json.parse("{\"a\":" + number + "}")).get("a");
      assertEquals(number, parsed);
      assertEquals("[\"" + number + "\"]", Json.write(List.of(parsed)));
    }
    Map<String, Object> tiny = Json.map(Json.parse("{\"percentum\":1E-2147483000}"));
    assertEquals(0, new Report(tiny).percentum());
    String nested = "[".repeat(400) + "]".repeat(400);
    assertEquals(nested, Json.write(Json.parse(nested)));
    fails(Status.UNEXPECTED_RESPONSE, () -> Json.parse("[".repeat(100_000) + "]".repeat(100_000)));
  }

  @Test
  void veryLongNumbersAreReadInABoundedTime() {
    String digits = "9".repeat(4 << 20);
    org.junit.jupiter.api.Assertions.assertTimeoutPreemptively(
        Duration.ofMinutes(1),
        () -> {
          assertEquals(digits, Json.parse(digits));
          assertNull(new Report(Map.of("percentum", digits)).percentum());
          assertFalse(new Report(Map.of("percentum", "-0." + digits)).isReady());
        });
    assertEquals(new java.math.BigDecimal("9".repeat(1000)), Json.parse("9".repeat(1000)));
  }

  @Test
  void itemsAreValuesThatCannotBeChanged() throws Exception {
    String own = Mock.addInstance();
    Map<String, Object> report =
        Map.of("format", "pdf", "instance", own, "extra", Map.of("tags", List.of(Map.of("a", 1))));
    Mock.addReport(report);
    Mock.addReport(report);
    try (DbssClient client = Mock.builder().build()) {
      List<Report> first = client.reports(own).stream().collect(Collectors.toList());
      List<Report> second = client.reports(own).stream().collect(Collectors.toList());
      assertEquals(first, second);
      assertEquals(2, Stream.concat(first.stream(), second.stream()).distinct().count());
      Map<String, Object> raw = first.get(0).raw();
      assertFalse(first.get(0).equals(new Object()));
      assertFalse(new Report(raw).equals(new Template(raw)));
      List<Object> tags = Json.list(raw.get("tags"));
      for (Executable change :
          List.<Executable>of(raw::clear, tags::clear, () -> Json.map(tags.get(0)).clear())) {
        thrown(UnsupportedOperationException.class, change);
      }
    }
  }

  @Test
  void reportsAreGeneratedAndDeletedAndSchedulesChanged() throws Exception {
    String own = Mock.addInstance();
    String template =
        Mock.READY.getAsJsonArray("templates").get(0).getAsJsonObject().get("id").getAsString();
    ReportSpec spec =
        new ReportSpec()
            .templateId(template)
            .startTime("2026-11-23 00:00:00")
            .endTime("2026-11-24 00:00:00");
    try (DbssClient client = Mock.builder().pollInterval(Duration.ofMillis(1)).build()) {
      String id = client.generateReport(own, spec);
      client.waitForReport(own, id);
      client.deleteReport(own, id);
      fails(Status.NOT_FOUND, () -> client.deleteReport(own, id));
      client.createReport(own, spec);
      assertNotNull(client.generateReportAsync(own, spec).join());
      fails(Status.NOT_CONFIGURED, () -> client.createReport(own, new ReportSpec()));
      Schedule before = client.schedule(own, template);
      client.updateSchedule(own, template, new ScheduleChanges().status("OFF").topicUrn(""));
      Schedule after = client.schedule(own, template);
      assertEquals("OFF", after.status());
      assertEquals(before.frequency(), after.frequency());
      assertTrue(before.smnEffective());
    }
  }

  @Test
  void idOfACreatedReportIsNotLostToAnExceptionOfACallbackNorToACancel() throws Exception {
    String template =
        Mock.READY.getAsJsonArray("templates").get(0).getAsJsonObject().get("id").getAsString();
    ReportSpec spec =
        new ReportSpec()
            .templateId(template)
            .startTime("2026-11-23 00:00:00")
            .endTime("2026-11-24 00:00:00");
    var mine = new AtomicReference<IllegalStateException>();
    Runnable throwing =
        () -> {
          mine.set(new IllegalStateException("mine"));
          throw mine.get();
        };
    // Throws in each record from that with the id on, and in the end in the function for results.
    var created = new AtomicReference<String>();
    int number = 0;
    for (boolean thrown = true; thrown; number++) {
      String own = Mock.addInstance();
      var left = new AtomicInteger(number);
      created.set(null);
      DbssClient.Builder builder =
          Mock.builder()
              .pollInterval(Duration.ofMillis(1))
              .logLevel(System.Logger.Level.DEBUG)
              .onLog(
                  record -> {
                    if (record.toString().contains("the id of the created report is")) {
                      created.set(record.reportId());
                    }
                    if (created.get() != null && left.getAndDecrement() == 0) {
                      throwing.run();
                    }
                  });
      try (DbssClient client = builder.build()) {
        client.generateReport(own, spec);
        thrown = false;
        left.set(Integer.MAX_VALUE);
        CallOptions options = new CallOptions().onResult(result -> throwing.run());
        assertThrows(
            IllegalStateException.class, () -> client.with(options).generateReport(own, spec));
      } catch (IllegalStateException e) {
        assertSame(mine.get(), e);
      }
      assertEquals(1, mine.get().getSuppressed().length, "throwing at " + number);
      var suppressed = (DbssCancelledException) mine.get().getSuppressed()[0];
      assertEquals(List.of(created.get()), suppressed.candidates());
    }
    assertTrue(number > 2, "it never threw after the id");
    // The log has the id of a report whose future is cancelled.
    String own = Mock.addInstance();
    var known = new CompletableFuture<String>();
    var logged = new CompletableFuture<DbssException>();
    DbssClient.Builder builder =
        Mock.builder()
            .pollInterval(Duration.ofHours(1))
            .onLog(
                record -> {
                  if (record.error() != null) {
                    logged.complete(record.error());
                  } else if (record.reportId() != null) {
                    known.complete(record.reportId());
                  }
                });
    try (DbssClient client = builder.build()) {
      CompletableFuture<String> future = client.generateReportAsync(own, spec);
      String id = known.join();
      future.cancel(true);
      assertEquals(List.of(id), logged.join().candidates());
    }
  }

  @Test
  void mirrorReturnsWhatItDidAlsoIfItFails() throws Exception {
    String own = Mock.addInstance();
    var ids =
        Mock.control("POST", "/reports", Map.of("format", "pdf", "count", 3, "instance", own))
            .getAsJsonObject()
            .getAsJsonArray("ids");
    String refused = ids.get(1).getAsString();
    Mock.fault(refused, Map.of("status", 403, "times", 1));
    Path archive = directory.resolve("archive");
    MirrorOptions options = new MirrorOptions().instanceId(own).parallel(2);
    try (DbssClient client = Mock.builder().build()) {
      DbssException e = thrown(DbssException.class, () -> client.mirror(archive, options));
      assertEquals(Status.PARTIAL, e.status());
      MirrorResult partial = e.mirrorResult();
      assertEquals(2, partial.downloaded());
      assertEquals(refused, partial.failures().get(0).reportId());
      assertEquals(Status.FORBIDDEN, partial.failures().get(0).error().status());
      MirrorResult whole = client.mirrorAsync(archive, options).join();
      assertEquals(1, whole.downloaded());
      assertEquals(2, whole.present());
      assertTrue(whole.toString().startsWith("listed=3, downloaded=1, "), whole.toString());
      options.utcOffset(ZoneOffset.UTC).utcOffset(ZoneOffset.ofHours(8)).utcOffset(ZoneOffset.UTC);
      options.since(LocalDate.of(2030, 1, 1)).until(LocalDate.of(2030, 1, 1));
      MirrorResult none = client.mirror(archive, options.type("AUDIT_REPORT_DAY"));
      assertEquals(0, none.listed());
      assertEquals(1, none.gaps().size());
      assertEquals(none.gaps(), client.mirror(archive, options).gaps());
      assertNull(thrown(DbssException.class, () -> client.mirror(null, options)).mirrorResult());
    }
  }
}
