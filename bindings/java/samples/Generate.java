import com.example.dbss.CallOptions;
import com.example.dbss.DbssClient;
import com.example.dbss.DbssException;
import com.example.dbss.ReportSpec;
import com.example.dbss.Status;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Lets the service generate a report, waits for it and downloads it.
 *
 * <p>Arguments: INSTANCE TEMPLATE START_TIME END_TIME PATH. Times are such as "2026-11-24
 * 00:00:00". The service is that of DBSS_ENDPOINT, with DBSS_TOKEN and DBSS_PROJECT_ID.
 */
final class Generate {
  public static void main(String[] arguments) {
    if (arguments.length != 5) {
      System.err.println("usage: Generate INSTANCE TEMPLATE START_TIME END_TIME PATH");
      System.exit(2);
    }
    String instance = arguments[0];
    ReportSpec spec =
        new ReportSpec().templateId(arguments[1]).startTime(arguments[2]).endTime(arguments[3]);
    AtomicInteger shown = new AtomicInteger(-1);
    CallOptions options =
        new CallOptions()
            .onProgress(
                progress -> {
                  int percent = progress.percent();
                  if (percent >= 0 && percent != shown.getAndSet(percent)) {
                    System.err.println("generated " + percent + "%");
                  }
                  return true;
                });
    try (DbssClient client =
        DbssClient.builder()
            .endpoint(System.getenv("DBSS_ENDPOINT"))
            .token(System.getenv("DBSS_TOKEN"))
            .projectId(System.getenv("DBSS_PROJECT_ID"))
            .build()) {
      String id = client.with(options).generateReport(instance, spec);
      // The report is at the service, also if the download fails.
      System.err.println("report " + id);
      Path saved = client.downloadReportToFile(instance, id, Path.of(arguments[4]));
      System.out.println("saved " + id + " as " + saved);
    } catch (DbssException failed) {
      boolean missing = failed.status() == Status.NOT_FOUND;
      System.err.println((missing ? "no such instance or template: " : "") + failed.getMessage());
      System.exit(1);
    }
  }
}
