import com.example.dbss.DbssClient;
import com.example.dbss.ReportStream;
import com.huaweicloud.sdk.core.ClientBuilder;
import com.huaweicloud.sdk.core.HcClient;
import com.huaweicloud.sdk.core.SdkStreamResponse;
import com.huaweicloud.sdk.core.auth.BasicCredentials;
import com.huaweicloud.sdk.core.http.FieldExistence;
import com.huaweicloud.sdk.core.http.HttpMethod;
import com.huaweicloud.sdk.core.http.HttpRequestDef;
import com.huaweicloud.sdk.core.http.LocationType;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Downloads a report COUNT times over one connection and prints what that cost, as JSON.
 *
 * <p>Arguments: PEER SINK ENDPOINT REPORT COUNT. PEER is libdbss, java.net.http or sdk; SINK is
 * memory or stream, which discards the bytes. Small reports are downloaded as often before, so that
 * the code is compiled.
 */
final class Bench {
  private static final String PROJECT = "0123456789abcdef0123456789abcdef";
  private static final String INSTANCE = "00000000-1111-2222-3333-444444444444";
  // As long as those of IAM.
  private static final String TOKEN = "t".repeat(4096);
  private static final String PATH = "/v1/%s/audit/%s/reports/%s/download";

  private Bench() {}

  /** A download, which returns the number of bytes. */
  private interface Download {
    long run(String report, boolean stream) throws Exception;
  }

  /** Reads all, in pieces as large as those of the others. */
  private static long drain(InputStream from) throws IOException {
    return from.transferTo(OutputStream.nullOutputStream());
  }

  private static Download dbss(String endpoint) {
    DbssClient client =
        DbssClient.builder().endpoint(endpoint).token(TOKEN).projectId(PROJECT).build();
    return (report, stream) -> {
      if (!stream) {
        return client.downloadReport(INSTANCE, report).length;
      }
      try (ReportStream opened = client.openReport(INSTANCE, report)) {
        return drain(opened);
      }
    };
  }

  private static Download http(String endpoint) {
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    return (report, stream) -> {
      HttpRequest request =
          HttpRequest.newBuilder(
                  URI.create(endpoint + String.format(PATH, PROJECT, INSTANCE, report)))
              .header("X-Auth-Token", TOKEN)
              .header("Content-Type", "application/json")
              .build();
      if (!stream) {
        var response = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
        check(response.statusCode());
        return response.body().length;
      }
      var response = client.send(request, HttpResponse.BodyHandlers.ofInputStream());
      check(response.statusCode());
      try (InputStream body = response.body()) {
        return drain(body);
      }
    };
  }

  private static void check(int status) throws IOException {
    if (status != 200) {
      throw new IOException("HTTP " + status);
    }
  }

  /** The request of the SDK. */
  public static final class Request {
    private String id;

    public String getId() {
      return id;
    }

    public void setId(String value) {
      id = value;
    }
  }

  /** The response of the SDK. */
  public static final class Response extends SdkStreamResponse {}

  private static Download sdk(String endpoint) {
    var credentials =
        new BasicCredentials().withAk("BENCHMARK").withSk("x".repeat(40)).withProjectId(PROJECT);
    HcClient client =
        new ClientBuilder<HcClient>(one -> one)
            .withCredential(credentials)
            .withEndpoint(endpoint)
            .build();
    // The client of the registry has no call for reports; the newer ones define it so.
    var definition =
        HttpRequestDef.builder(HttpMethod.GET, Request.class, Response.class)
            .withName("DownloadAuditReport")
            .withUri("/v1/{project_id}/audit/" + INSTANCE + "/reports/{id}/download")
            .withContentType("application/json");
    definition.<String>withRequestField(
        "id",
        LocationType.Path,
        FieldExistence.NON_NULL_NON_EMPTY,
        String.class,
        f -> f.withMarshaller(Request::getId, Request::setId));
    var call = definition.build();
    return (report, stream) -> {
      Request request = new Request();
      request.setId(report);
      long[] size = new long[1];
      client
          .syncInvokeHttp(request, call)
          .consumeDownloadStream(
              body -> {
                try {
                  size[0] = stream ? drain(body) : body.readAllBytes().length;
                } catch (IOException e) {
                  throw new UncheckedIOException(e);
                }
              });
      return size[0];
    };
  }

  private static long status(String key) throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith(key)) {
        return Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new IOException(key);
  }

  public static void main(String[] arguments) throws Exception {
    String peer = arguments[0];
    boolean stream = arguments[1].equals("stream");
    String endpoint = arguments[2];
    String report = arguments[3];
    int count = Integer.parseInt(arguments[4]);
    Download download =
        peer.equals("libdbss")
            ? dbss(endpoint)
            : peer.equals("sdk") ? sdk(endpoint) : http(endpoint);
    download.run("benchmark-warm-up", false);
    long idle = status("VmHWM");
    for (int i = 0; i < count; i++) {
      download.run(report, stream);
    }
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    long before = system.getProcessCpuTime();
    long started = System.nanoTime();
    long received = 0;
    for (int i = 0; i < count; i++) {
      received += download.run(report, stream);
    }
    double wall = (System.nanoTime() - started) / 1e9;
    double cpu = (system.getProcessCpuTime() - before) / 1e9;
    System.out.printf(
        "{\"wall_s\": %s, \"cpu_s\": %s, \"bytes\": %d, \"idle_kib\": %d, \"peak_kib\": %d}%n",
        wall, cpu, received, idle, status("VmHWM"));
    // Threads of connections would keep the program alive.
    System.exit(0);
  }
}
