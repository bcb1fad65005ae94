import com.example.dbss.CallOptions;
import com.example.dbss.DbssClient;
import com.example.dbss.DbssException;
import java.nio.file.Path;

/**
 * Downloads a report, and shows its progress. Ctrl-C ends it; then there is no file.
 *
 * <p>Arguments: INSTANCE REPORT PATH. The service is that of DBSS_REGION or DBSS_ENDPOINT, and the
 * credentials are DBSS_TOKEN or those that the official SDKs would find.
 */
final class Download {
  public static void main(String[] arguments) {
    if (arguments.length != 3) {
      System.err.println("usage: Download INSTANCE REPORT PATH");
      System.exit(2);
    }
    CallOptions options =
        new CallOptions()
            .onProgress(
                progress -> {
                  System.err.print("\r" + progress + " ");
                  return true;
                });
    try (DbssClient client = newClient()) {
      Path saved =
          client
              .with(options)
              .downloadReportToFile(arguments[0], arguments[1], Path.of(arguments[2]));
      System.err.println();
      System.out.println("saved " + saved);
    } catch (DbssException failed) {
      System.err.println(failed.getMessage());
      failed.serviceDetails().forEach(detail -> System.err.println("  " + detail));
      System.exit(1);
    }
  }

  private static DbssClient newClient() {
    DbssClient.Builder builder = DbssClient.builder();
    String token = System.getenv("DBSS_TOKEN");
    if (token != null) {
      builder.token(token);
    } else {
      builder.credentials("default");
    }
    String endpoint = System.getenv("DBSS_ENDPOINT");
    if (endpoint != null) {
      builder.endpoint(endpoint).projectId(System.getenv("DBSS_PROJECT_ID"));
    } else {
      builder.region(System.getenv("DBSS_REGION"));
    }
    return builder.build();
  }
}
