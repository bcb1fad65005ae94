import com.example.dbss.CallOptions;
import com.example.dbss.DbssClient;
import com.example.dbss.ReportStream;
import java.io.OutputStream;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.time.Duration;

/**
 * Prints the SHA-256 of a report while it arrives, in little memory.
 *
 * <p>Arguments: INSTANCE REPORT. The service is that of DBSS_ENDPOINT, with DBSS_TOKEN and
 * DBSS_PROJECT_ID.
 */
final class Stream {
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2) {
      System.err.println("usage: Stream INSTANCE REPORT");
      System.exit(2);
    }
    CallOptions options = new CallOptions().locale("zh-cn").totalTimeout(Duration.ofMinutes(10));
    MessageDigest hash = MessageDigest.getInstance("SHA-256");
    try (DbssClient client =
            DbssClient.builder()
                .endpoint(System.getenv("DBSS_ENDPOINT"))
                .token(System.getenv("DBSS_TOKEN"))
                .projectId(System.getenv("DBSS_PROJECT_ID"))
                .build();
        ReportStream report = client.with(options).openReport(arguments[0], arguments[1])) {
      new DigestInputStream(report, hash).transferTo(OutputStream.nullOutputStream());
      for (byte one : hash.digest()) {
        System.out.printf("%02x", one);
      }
      System.out.println("  " + report.filename());
    }
  }
}
