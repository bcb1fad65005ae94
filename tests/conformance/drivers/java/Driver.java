import com.example.dbss.CallOptions;
import com.example.dbss.CallResult;
import com.example.dbss.CancelledBy;
import com.example.dbss.DbssClient;
import com.example.dbss.DbssException;
import com.example.dbss.Format;
import com.example.dbss.Item;
import com.example.dbss.Listing;
import com.example.dbss.LogRecord;
import com.example.dbss.MirrorOptions;
import com.example.dbss.MirrorResult;
import com.example.dbss.ReportSpec;
import com.example.dbss.ReportStream;
import com.example.dbss.ScheduleChanges;
import com.example.dbss.Status;
import com.example.dbss.Token;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadFactory;
import java.util.function.BiConsumer;

/** The conformance driver for the Java package; ../../README.md describes the protocol. */
final class Driver {
  private static final Gson JSON =
      new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private static final Map<String, DbssClient> CLIENTS = new ConcurrentHashMap<>();
  private static final Map<String, ReportStream> STREAMS = new ConcurrentHashMap<>();
  private static final Map<String, Thread> CALLS = new ConcurrentHashMap<>();
  // For each request of a provider that is held, where its answer goes.
  private static final BlockingQueue<BlockingQueue<JsonObject>> HELD = new LinkedBlockingQueue<>();

  private Driver() {}

  public static void main(String[] arguments) throws Exception {
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = lines.readLine()) != null; ) {
      serve(JsonParser.parseString(line).getAsJsonObject());
    }
    CLIENTS.values().forEach(DbssClient::close);
    for (Thread call : CALLS.values()) {
      call.join();
    }
  }

  /** An object from keys and values, which may be null. */
  private static Map<String, Object> object(Object... pairs) {
    Map<String, Object> made = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) {
      made.put((String) pairs[i], pairs[i + 1]);
    }
    return made;
  }

  private static void put(Map<String, Object> line) {
    OUT.println(JSON.toJson(line));
  }

  private static String text(JsonElement value) {
    return value == null || value.isJsonNull() ? null : value.getAsString();
  }

  private static boolean has(JsonObject given, String key) {
    return given.has(key) && !given.get(key).isJsonNull();
  }

  private static Path path(JsonObject given, String key) {
    return has(given, key) ? Path.of(text(given.get(key))) : null;
  }

  private static Object orNull(long value, long none) {
    return value == none ? null : value;
  }

  private static void serve(JsonObject r) throws Exception {
    DbssClient client = has(r, "client") ? CLIENTS.get(text(r.get("client"))) : null;
    switch (text(r.get("do"))) {
      case "configure" -> respond(r, () -> configure(r));
      case "call" -> {
        boolean background = r.get("background").getAsBoolean();
        ThreadFactory threads = background ? virtualThreads() : Thread::new;
        Thread call = threads.newThread(() -> respond(r, () -> call(client, r)));
        CALLS.put(text(r.get("id")), call);
        call.start();
        if (!background) {
          call.join();
        }
      }
      case "cancel" -> respond(r, () -> done(() -> CALLS.get(text(r.get("of"))).interrupt()));
      case "answer" -> {
        HELD.take().add(r.getAsJsonObject("answer"));
        respond(r, () -> done(() -> {}));
      }
      case "cancel_all" -> respond(r, () -> done(client::cancelAll));
      case "close", "free" -> respond(r, () -> done(client::close));
      default -> put(object("id", r.get("id"), "unsupported", r.get("do")));
    }
  }

  /** Makes virtual threads, where Java has them. */
  private static ThreadFactory virtualThreads() throws ReflectiveOperationException {
    if (Runtime.version().feature() < 21) {
      return Thread::new;
    }
    Object builder = Thread.class.getMethod("ofVirtual").invoke(null);
    var factory = Class.forName("java.lang.Thread$Builder").getMethod("factory");
    return (ThreadFactory) factory.invoke(builder);
  }

  private static Map<String, Object> done(Runnable what) {
    what.run();
    return object("status", "DBSS_OK");
  }

  /** Prints the response of a function, or what it fails with. */
  private static void respond(JsonObject r, Callable<Map<String, Object>> f) {
    Map<String, Object> response;
    try {
      response = f.call();
    } catch (Throwable e) {
      DbssException failed = e.getCause() instanceof DbssException of ? of : null;
      failed = e instanceof DbssException of ? of : failed;
      response = failed == null ? object("unsupported", e.toString()) : failure(failed);
    }
    response.put("id", r.get("id"));
    put(response);
  }

  private static String name(Status status) {
    return "DBSS_ERR_" + status;
  }

  private static Map<String, Object> failure(DbssException e) {
    Map<String, Object> response = object("status", name(e.status()), "error", errorFields(e));
    if (e.mirrorResult() != null) {
      response.put("result", mirrorResult(e.mirrorResult()));
    }
    return response;
  }

  private static Map<String, Object> errorFields(DbssException e) {
    List<Object> details = new ArrayList<>();
    e.serviceDetails().forEach(d -> details.add(object("code", d.code(), "message", d.message())));
    CancelledBy by = e.cancelledBy();
    return object(
        "message", e.getMessage(),
        "parameter", e.parameter(),
        "http_status", orNull(e.httpStatus(), 0),
        "service_code", e.serviceCode(),
        "service_message", e.serviceMessage(),
        "request_id", e.requestId(),
        "details", details,
        "path", e.path() == null ? null : e.path().toString(),
        "encoded_authorization_message", e.encodedAuthorizationMessage(),
        "cancelled_by",
            by == null ? null : by == CancelledBy.CALL ? "operation" : by.name().toLowerCase(),
        "candidates", e.candidates(),
        "redirect_target", e.redirectTarget(),
        "os_code", e.osCode().isPresent() ? e.osCode().getAsInt() : null,
        "retryable", e.isRetryable(),
        "retry_after_ms", e.retryAfter() == null ? null : e.retryAfter().toMillis(),
        "attempts", e.attempts());
  }

  private static void settings(JsonElement given, BiConsumer<String, String> set) {
    for (JsonElement one : given.getAsJsonArray()) {
      set.accept(text(one.getAsJsonArray().get(0)), text(one.getAsJsonArray().get(1)));
    }
  }

  private static Map<String, Object> configure(JsonObject r) {
    String name = text(r.get("client"));
    DbssClient old = CLIENTS.remove(name);
    if (old != null) {
      old.close();
    }
    var builder = DbssClient.builder();
    boolean provided = has(r, "token_provider");
    settings(
        r.get("settings"),
        (key, value) -> {
          if (!provided || !key.equals("token")) {
            builder.set(key, value);
          }
        });
    if (provided) {
      var answers = new Answers(name, r.getAsJsonArray("token_provider").iterator());
      builder.tokenProvider(answers::token);
    }
    if (has(r, "passcodes")) {
      var answers = new Answers(name, r.getAsJsonArray("passcodes").iterator());
      builder.passcodeProvider(refused -> text(answers.next(refused).get("passcode")));
    }
    if (has(r, "log")) {
      builder.set("log_level", text(r.get("log"))).onLog(record -> put(event(name, record)));
    }
    CLIENTS.put(name, builder.build());
    return object("status", "DBSS_OK");
  }

  private static Map<String, Object> event(String client, LogRecord r) {
    return object(
        "event", "log",
        "client", client,
        "level", r.level().name().toLowerCase(),
        "message", r.message(),
        "status", r.error() == null ? null : name(r.error().status()),
        "attempt", orNull(r.attempt(), 0),
        "request_id", r.requestId(),
        "report_id", r.reportId(),
        "bytes", orNull(r.bytes(), -1),
        "duration_ms", r.duration() == null ? null : r.duration().toMillis(),
        "offset", orNull(r.offset(), -1),
        "retry_delay_ms", r.retryDelay() == null ? null : r.retryDelay().toMillis(),
        "http_status", orNull(r.httpStatus(), 0));
  }

  /** The answers of a provider in order, and the last one again and again. */
  private static final class Answers {
    private final String client;
    private final Iterator<JsonElement> answers;
    private JsonObject last;

    Answers(String client, Iterator<JsonElement> answers) {
      this.client = client;
      this.answers = answers;
    }

    JsonObject next(boolean refused) throws Exception {
      put(object("event", "asked", "client", client, "refused", refused));
      last = answers.hasNext() ? answers.next().getAsJsonObject() : last;
      JsonObject answer = last;
      if (has(answer, "hold")) {
        var later = new LinkedBlockingQueue<JsonObject>();
        HELD.add(later);
        answer = later.take();
      }
      if (has(answer, "fail")) {
        throw new IllegalStateException(text(answer.get("fail")));
      }
      return answer;
    }

    Token token(boolean refused) throws Exception {
      JsonObject answer = next(refused);
      JsonElement lifetime = answer.get("expires_in_ms");
      Instant expires = lifetime == null ? null : Instant.now().plusMillis(lifetime.getAsLong());
      return new Token(text(answer.get("token")), expires);
    }
  }

  private static Map<String, Object> call(DbssClient client, JsonObject r) throws Exception {
    JsonObject given = r.getAsJsonObject("arguments");
    CallOptions options = new CallOptions();
    if (has(given, "project")) {
      options.projectId(text(given.get("project")));
    }
    if (has(given, "locale")) {
      options.locale(text(given.get("locale")));
    }
    if (has(given, "name")) {
      options.nameFilter(text(given.get("name")));
    }
    if (has(given, "status")) {
      options.statusFilter(text(given.get("status")));
    }
    if (has(given, "replace") && given.get("replace").getAsBoolean()) {
      options.replace(true);
    }
    if (has(given, "page_size") && !text(r.get("call")).equals("templates")) {
      options.pageSize((int) given.get("page_size").getAsLong());
    }
    if (!has(r, "operation")) {
      Object result = perform(client.with(options), text(r.get("call")), given);
      return object("status", "DBSS_OK", "result", result);
    }
    JsonObject operation = r.getAsJsonObject("operation");
    settings(operation.get("settings"), options::set);
    if (has(operation, "progress")) {
      JsonElement wanted = operation.get("progress");
      options.onProgress(
          p -> {
            Object total = orNull(p.total(), -1);
            Object percent = orNull(p.percent(), -1);
            var event = object("event", "progress", "of", r.get("id"), "received", p.received());
            event.putAll(object("total", total, "percent", percent));
            put(event);
            return !wanted.isJsonObject()
                || p.received() < wanted.getAsJsonObject().get("stop_after").getAsLong();
          });
    }
    if (operation.get("cancelled").getAsBoolean()) {
      Thread.currentThread().interrupt();
    }
    CallResult[] after = new CallResult[1];
    options.onResult(result -> after[0] = result);
    Map<String, Object> response;
    try {
      Object result = perform(client.with(options), text(r.get("call")), given);
      response = object("status", "DBSS_OK", "result", result);
    } catch (IOException e) {
      response = failure((DbssException) e.getCause());
    } catch (DbssException e) {
      response = failure(e);
    }
    CallResult a = after[0];
    if (a != null) {
      Object path = a.path() == null ? null : a.path().toString();
      response.put(
          "operation",
          object(
              "received", a.received(),
              "total", orNull(a.total(), -1),
              "resumed", a.resumed(),
              "attempts", a.attempts(),
              "percent", orNull(a.percent(), -1),
              "path", path,
              "filename", a.filename(),
              "request_id", a.requestId(),
              "content_type", a.contentType(),
              "format", format(a.format())));
    }
    return response;
  }

  private static String format(Format format) {
    return format == Format.UNKNOWN ? null : format.name().toLowerCase();
  }

  /** Makes a call, and returns its result. */
  private static Map<String, Object> perform(DbssClient client, String what, JsonObject given)
      throws IOException {
    String instance = text(given.get("instance"));
    String id = text(given.get("id"));
    String template = text(given.get("template"));
    Path into = path(given, "into");
    switch (what) {
      case "check" -> client.check();
      case "find_credentials" -> {
        var found = client.findCredentials();
        Instant expires = found.expiresAt();
        return object(
            "source", found.source(),
            "description", found.description(),
            "name", found.name(),
            "project", found.projectId(),
            "expires_ms", expires == null ? null : expires.toEpochMilli());
      }
      case "set_token" -> client.setToken(text(given.get("token")));
      case "download", "download_to_memory" ->
          Files.write(into, client.downloadReport(instance, id));
      case "download_to_file" -> {
        Path saved = client.downloadReportToFile(instance, id, path(given, "path"));
        return object("path", saved.toString());
      }
      case "download_to_directory" -> {
        Path saved = client.downloadReportToDirectory(instance, id, path(given, "directory"));
        return object("path", saved.toString());
      }
      case "download_to_callback", "download_to_descriptor" -> {
        try (OutputStream file = Files.newOutputStream(into)) {
          client.downloadReportTo(instance, id, file);
        }
      }
      case "open_report" -> {
        return open(client.openReport(instance, id), given);
      }
      case "read_stream" -> {
        ReportStream stream = STREAMS.get(text(given.get("stream")));
        int size = has(given, "size") ? given.get("size").getAsInt() : Integer.MAX_VALUE;
        byte[] content = stream.readNBytes(size);
        Files.write(into, content);
        return object("at_end", content.length < size);
      }
      case "close_stream" -> STREAMS.get(text(given.get("stream"))).close();
      case "instances" -> {
        return collect(client.instances(), given);
      }
      case "reports" -> {
        return collect(client.reports(instance), given);
      }
      case "templates" -> {
        return collect(client.templates(instance), given);
      }
      case "databases" -> {
        return collect(client.databases(instance), given);
      }
      case "schedule" -> {
        return fields(client.schedule(instance, template), given);
      }
      case "update_schedule" -> {
        ScheduleChanges changes = new ScheduleChanges();
        pairs(given.getAsJsonObject("changes"), changes::set);
        client.updateSchedule(instance, template, changes);
      }
      case "create", "generate" -> {
        ReportSpec spec = new ReportSpec();
        pairs(given.getAsJsonObject("spec"), spec::set);
        if (what.equals("generate")) {
          return object("id", client.generateReport(instance, spec));
        }
        client.createReport(instance, spec);
      }
      case "wait" -> client.waitForReport(instance, id);
      case "delete" -> client.deleteReport(instance, id);
      case "mirror" -> {
        MirrorOptions options = new MirrorOptions();
        pairs(given.getAsJsonObject("options"), options::set);
        return mirrorResult(client.mirror(path(given, "directory"), options));
      }
      default -> throw new UnsupportedOperationException(what);
    }
    return object();
  }

  private static void pairs(JsonObject given, BiConsumer<String, String> set) {
    given.entrySet().forEach(one -> set.accept(one.getKey(), text(one.getValue())));
  }

  private static Map<String, Object> open(ReportStream stream, JsonObject given)
      throws IOException {
    var facts =
        object(
            "size", orNull(stream.size(), -1),
            "format", format(stream.format()),
            "filename", stream.filename(),
            "content_type", stream.contentType(),
            "request_id", stream.requestId());
    if (given.get("keep").getAsBoolean()) {
      STREAMS.put(text(given.get("as")), stream);
      return facts;
    }
    byte[] chunk = new byte[given.get("read_size").getAsInt()];
    try (stream;
        OutputStream file = Files.newOutputStream(path(given, "into"))) {
      for (int size; (size = stream.read(chunk)) >= 0; ) {
        file.write(chunk, 0, size);
      }
    }
    return facts;
  }

  private static Map<String, Object> collect(Listing<? extends Item> list, JsonObject given) {
    List<Object> items = new ArrayList<>();
    list.forEach(one -> items.add(fields(one, given)));
    var total = list.total();
    return object("items", items, "total", total.isPresent() ? total.getAsLong() : null);
  }

  /** Fields of an item as text: by its methods, else as the service sent them. */
  private static Map<String, Object> fields(Item item, JsonObject given) {
    Map<String, Object> found = object();
    for (JsonElement one : given.getAsJsonArray("fields")) {
      String[] words = text(one).split("_");
      for (int i = 1; i < words.length; i++) {
        words[i] = words[i].substring(0, 1).toUpperCase() + words[i].substring(1);
      }
      Object value;
      try {
        value = item.getClass().getMethod(String.join("", words)).invoke(item);
      } catch (ReflectiveOperationException e) {
        value = item.raw().get(text(one));
      }
      boolean plain = value == null || value instanceof String;
      found.put(text(one), plain ? value : JSON.toJson(value));
    }
    return found;
  }

  private static Map<String, Object> mirrorResult(MirrorResult result) {
    List<Object> failures = new ArrayList<>();
    for (var one : result.failures()) {
      var error = errorFields(one.error());
      error.put("status", name(one.error().status()));
      failures.add(object("id", one.reportId(), "instance", one.instanceId(), "error", error));
    }
    List<Object> gaps = new ArrayList<>();
    for (var one : result.gaps()) {
      gaps.add(object("period", one.period(), "type", one.type(), "instance", one.instanceId()));
    }
    return object(
        "listed", result.listed(),
        "downloaded", result.downloaded(),
        "present", result.present(),
        "not_ready", result.notReady(),
        "vanished", result.vanished(),
        "failed", result.failed(),
        "repaired", result.repaired(),
        "failures", failures,
        "gaps", gaps);
  }
}
