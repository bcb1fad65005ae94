package com.example.dbss;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** The mock service, one for all tests, and its control interface. */
final class Mock {
  private static final Gson JSON = new Gson();
  private static final HttpClient HTTP = HttpClient.newHttpClient();
  private static final AtomicInteger COUNT = new AtomicInteger();
  // As long as this process lives, its input is open.
  static final Process PROCESS = start();
  static final JsonObject READY = ready();

  private Mock() {}

  private static Process start() {
    try {
      String build = System.getenv("DBSS_BUILD_DIR");
      return new ProcessBuilder(build + "/bin/dbss-mock")
          .redirectError(ProcessBuilder.Redirect.INHERIT)
          .start();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static JsonObject ready() {
    try {
      var lines = new InputStreamReader(PROCESS.getInputStream(), StandardCharsets.UTF_8);
      return JsonParser.parseString(new BufferedReader(lines).readLine()).getAsJsonObject();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  static String value(String name) {
    return READY.get(name).getAsString();
  }

  static String instance() {
    return value("instance_id");
  }

  static JsonObject pdf() {
    for (JsonElement one : READY.getAsJsonArray("reports")) {
      if (one.getAsJsonObject().get("format").getAsString().equals("pdf")) {
        return one.getAsJsonObject();
      }
    }
    throw new AssertionError();
  }

  static String pdfId() {
    return pdf().get("id").getAsString();
  }

  static JsonElement control(String method, String path, Object body) throws Exception {
    var request =
        HttpRequest.newBuilder(URI.create(value("control") + path))
            .header("Content-Type", "application/json")
            .method(method, HttpRequest.BodyPublishers.ofString(JSON.toJson(body)))
            .build();
    var response = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
    if (response.statusCode() != 200) {
      throw new AssertionError(response.body());
    }
    return JsonParser.parseString(response.body());
  }

  static JsonObject addReport(Map<String, Object> report) throws Exception {
    return control("POST", "/reports", report).getAsJsonObject();
  }

  static String addInstance() throws Exception {
    var added = control("POST", "/instances", Map.of("name", "audit")).getAsJsonObject();
    return added.getAsJsonArray("ids").get(0).getAsString();
  }

  static void fault(String report, Map<String, Object> fault) throws Exception {
    JsonObject body = JSON.toJsonTree(fault).getAsJsonObject();
    body.addProperty("report", report);
    control("POST", "/faults", body);
  }

  static int requests(String report) throws Exception {
    return control("GET", "/requests?report=" + report, null).getAsJsonArray().size();
  }

  /** The id of a report to whose requests nothing is answered. */
  static String silent() throws Exception {
    String id = "silent-0123456789-" + COUNT.incrementAndGet();
    fault(id, Map.of("no_response", true));
    return id;
  }

  /** The id of a report of 1 MiB that stops to arrive after 1000 bytes. */
  static String stalling() throws Exception {
    String id = addReport(Map.of("format", "pdf", "size", 1 << 20)).get("id").getAsString();
    fault(id, Map.of("stall_after", 1000));
    return id;
  }

  static DbssClient.Builder builder() {
    return DbssClient.builder()
        .endpoint(value("http"))
        .token(value("token"))
        .projectId(value("project_id"));
  }

  static String sum(byte[] content) throws Exception {
    var text = new StringBuilder();
    for (byte one : MessageDigest.getInstance("SHA-256").digest(content)) {
      text.append(String.format("%02x", one));
    }
    return text.toString();
  }

  static String sumOf(JsonObject report) {
    return report.getAsJsonObject("sha256").get("en-us").getAsString();
  }
}
