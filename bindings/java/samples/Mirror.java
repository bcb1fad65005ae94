import com.example.dbss.DbssClient;
import com.example.dbss.DbssException;
import com.example.dbss.MirrorOptions;
import com.example.dbss.MirrorResult;
import java.nio.file.Path;

/**
 * Brings a local archive of reports up to date, for a nightly job.
 *
 * <p>Arguments: DIRECTORY [SINCE]. SINCE is a day such as 2026-11-24. The service is that of
 * DBSS_ENDPOINT, with DBSS_TOKEN and DBSS_PROJECT_ID.
 */
final class Mirror {
  public static void main(String[] arguments) {
    if (arguments.length < 1 || arguments.length > 2) {
      System.err.println("usage: Mirror DIRECTORY [SINCE]");
      System.exit(2);
    }
    MirrorOptions options = new MirrorOptions();
    if (arguments.length == 2) {
      options.set("since", arguments[1]);
    }
    try (DbssClient client =
        DbssClient.builder()
            .endpoint(System.getenv("DBSS_ENDPOINT"))
            .token(System.getenv("DBSS_TOKEN"))
            .projectId(System.getenv("DBSS_PROJECT_ID"))
            .logger(System.getLogger("dbss"))
            .logLevel(System.Logger.Level.WARNING)
            .build()) {
      print(client.mirror(Path.of(arguments[0]), options));
    } catch (DbssException failed) {
      if (failed.mirrorResult() != null) {
        print(failed.mirrorResult());
      }
      System.err.println(failed.getMessage());
      System.exit(1);
    }
  }

  private static void print(MirrorResult result) {
    System.out.printf(
        "%d new, %d already there, %d not ready yet%n",
        result.downloaded(), result.present(), result.notReady());
    result.failures().forEach(System.err::println);
    result.gaps().forEach(one -> System.out.println("no " + one));
  }
}
