package com.example.dbss;

import static com.example.dbss.CallOptions.Parameter.LOCALE;
import static com.example.dbss.CallOptions.Parameter.NAME;
import static com.example.dbss.CallOptions.Parameter.PAGE_SIZE;
import static com.example.dbss.CallOptions.Parameter.REPLACE;
import static com.example.dbss.CallOptions.Parameter.STATUS;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import com.example.dbss.internal.Stack;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.LongConsumer;

/**
 * A client of Huawei Cloud's Database Security Service, which downloads audit reports.
 *
 * <pre>{@code
 * try (DbssClient client = DbssClient.builder().region("cn-north-4").credentials("default").build()) {
 *   Path saved = client.downloadReportToDirectory(instance, report, Path.of("reports"));
 * }
 * }</pre>
 *
 * <p>It is a layer on libdbss. Any number of threads may use a client, with its credentials and its
 * connections, which stay open between calls: make one and share it. A call blocks its thread. An
 * interrupt of the thread ends the call within 250 ms with a {@link DbssInterruptedException}, and
 * leaves the thread interrupted; only the file system can delay that. A call of a virtual thread
 * runs on a thread of the system, and the virtual thread waits without its carrier.
 *
 * <p>Ids of instances have 32 to 64, those of reports 16 to 64 ASCII letters, digits, "-" and "_".
 * All calls throw a {@link DbssException}: of the group {@link DbssArgumentException} before any
 * request; {@link DbssServiceException}, such as {@link Status#NOT_FOUND}; {@link
 * DbssNetworkException}; {@link DbssFileException}; {@link DbssCancelledException}.
 */
public final class DbssClient implements AutoCloseable {
  /** No limit, for the options that allow it. */
  public static final Duration NO_LIMIT = Duration.ofMillis(-1);

  /** The size of the largest array, as the JDK has it. */
  static final int MAX_ARRAY = Integer.MAX_VALUE - 8;

  private static final String TOO_LARGE =
      "the report is larger than an array can be, "
          + MAX_ARRAY
          + " bytes, whatever maxMemoryBytes is; save it with downloadReportToFile, or read it with"
          + " openReport";

  private static final Abi ABI = Native.ABI;

  final Handle context;
  final LogSink logs;
  final Provider provider;
  private final Executor executor;
  private final CallOptions options;
  // Owns the context.
  private final DbssClient owner;
  // Those whose work waits for the executor; the owner's.
  private final Set<CompletableFuture<?>> queued;

  private DbssClient(long context, LogSink logs, Provider provider, Executor executor) {
    this.logs = logs;
    this.provider = provider;
    this.executor = executor;
    options = CallOptions.NONE;
    owner = this;
    queued = ConcurrentHashMap.newKeySet();
    this.context =
        new Handle(
            context,
            address -> {
              if (provider != null) {
                provider.close();
              }
              ABI.dbss_context_free(address);
            });
    this.context.ownedBy(this);
  }

  private DbssClient(DbssClient of, CallOptions options) {
    context = of.context;
    logs = of.logs;
    provider = of.provider;
    executor = of.executor;
    owner = of.owner;
    queued = of.queued;
    this.options = options;
  }

  /** {@return a builder of clients} */
  public static Builder builder() {
    return new Builder();
  }

  /** {@return the version of libdbss, such as "0.1.0"} */
  public static String version() {
    return ABI.string(ABI.dbss_version());
  }

  /**
   * {@return whether libdbss has a feature}
   *
   * @param name the feature, such as "download"
   */
  public static boolean hasFeature(String name) {
    try (Frame frame = new Frame()) {
      return ABI.dbss_has_feature(frame.text("name", "name", DbssException.required("name", name)))
          != 0;
    }
  }

  /** Options of a client. Among the credentials, two kinds are an error. */
  public static final class Builder extends ClientOptions<Builder> {
    private static final String IAM_USER = "an IAM user";
    // What excludes each other, by the keys of the options.
    private static final Map<String, String> KINDS =
        Map.of(
            "token", "a token",
            "access_key", "an access key",
            "secret_key", "an access key",
            "security_token", "an access key",
            "iam_user", IAM_USER,
            "iam_password", IAM_USER,
            "iam_domain", IAM_USER,
            "iam_user_id", IAM_USER,
            "credentials", "credentials to be found");

    private Consumer<LogRecord> log;
    private TokenProvider tokens;
    private TokenProvider passcodes;
    private Executor executor = Threads.POOL;

    private Builder() {}

    /**
     * The URL of the service, instead of the region's; or up to 16 in the order of preference: if
     * one cannot be reached, the next one is tried, and used from then on. Without a scheme it is
     * https.
     *
     * @param urls the URLs
     * @return this
     */
    public Builder endpoint(String... urls) {
      DbssException.required("endpoint", urls);
      for (String one : urls) {
        DbssException.required("endpoint", one);
        // C would read a URL with a comma as two.
        if (one.contains(",")) {
          throw DbssException.of(
              Status.INVALID_ENDPOINT, "endpoint", "endpoint: a URL must not hold a comma");
        }
      }
      return typed("endpoint", String.join(",", urls));
    }

    /**
     * Provides tokens, instead of other credentials.
     *
     * @param value the provider
     * @return this
     */
    public Builder tokenProvider(TokenProvider value) {
      tokens = DbssException.required("tokenProvider", value);
      return this;
    }

    /**
     * Provides the passcodes of the MFA device of {@link #iamUser} and {@link #iamUserId}. After a
     * rejected login the next call logs in again with a new passcode, so a wrong password is sent
     * again.
     *
     * @param value the provider
     * @return this
     */
    public Builder passcodeProvider(PasscodeProvider value) {
      DbssException.required("passcodeProvider", value);
      passcodes =
          refused -> {
            String passcode = value.provide(refused);
            if (passcode == null) {
              throw new IllegalStateException("it returned null instead of a passcode");
            }
            // What is passed on is checked as a token, and would be called so.
            if (!passcode.matches("[!-~]{1,98304}")) {
              String message = "passcode: must be 1 to 98304 visible ASCII characters";
              throw DbssException.of(Status.INVALID_TOKEN, "passcode", message);
            }
            return new Token(passcode);
          };
      return this;
    }

    /**
     * Receives the log records of the client's calls, on the threads of the calls. No record holds
     * a secret. {@link #logLevel} selects records before they are made. What the function throws,
     * the call throws.
     *
     * @param value the function
     * @return this
     */
    public Builder onLog(Consumer<LogRecord> value) {
      log = DbssException.required("onLog", value);
      return this;
    }

    /**
     * Sends the log records of the client's calls to a logger. There, a call that was cancelled is
     * not an error, but information.
     *
     * @param value the logger
     * @return this
     */
    public Builder logger(System.Logger value) {
      DbssException.required("logger", value);
      return onLog(record -> log(value, record));
    }

    /**
     * Runs the calls of {@link #async}, instead of threads of this package that are made when they
     * are needed. {@link #totalTimeout} does not count how long a call waits for the executor;
     * {@link CompletableFuture#orTimeout} does.
     *
     * @param value the executor
     * @return this
     */
    public Builder executor(Executor value) {
      executor = DbssException.required("executor", value);
      return this;
    }

    /**
     * {@return a client} It sends no request, but reads files and the environment: the trusted
     * certificates, the endpoint of a region, and the credentials that {@link #credentials} names.
     *
     * @throws DbssException such as {@link Status#NOT_CONFIGURED} without a region and an endpoint
     */
    public DbssClient build() {
      String kind = tokens == null ? null : "a token provider";
      for (Entry one : entries) {
        String other = KINDS.get(one.key);
        if (kind != null && other != null && !other.equals(kind)) {
          String message = kind + " and " + other + " exclude each other; give one of them";
          throw DbssException.of(Status.ARGUMENT, null, message);
        }
        kind = other == null ? kind : other;
      }
      if (passcodes != null && !IAM_USER.equals(kind)) {
        String message =
            "passcodeProvider: needs iamUser, iamUserId, iamPassword and iamDomain"
                + (kind == null ? "" : ", in place of " + kind);
        throw DbssException.of(Status.NOT_CONFIGURED, "passcodeProvider", message);
      }
      Stack.probe();
      LogSink logs = log == null ? null : new LogSink(log);
      TokenProvider provides = tokens == null ? passcodes : tokens;
      Provider provider = provides == null ? null : new Provider(provides);
      long config = 0;
      try (Frame frame = new Frame()) {
        long out = frame.out();
        Native.check(ABI.dbss_config_new(out));
        config = ABI.getLong(out);
        long made = config;
        apply(frame, (key, value) -> ABI.dbss_config_set(made, key, value));
        long destroy = ABI.dbss_destroy_fn();
        if (logs != null) {
          long function = ABI.dbss_log_fn();
          Native.check(ABI.dbss_config_set_log(config, function, Upcalls.add(logs), destroy));
        }
        if (provider != null) {
          long function = ABI.dbss_token_provider_fn();
          long number = Upcalls.add(provider);
          Native.check(
              passcodes != null
                  ? ABI.dbss_config_set_passcode_provider(config, function, number, destroy)
                  : ABI.dbss_config_set_token_provider(config, function, number, destroy));
        }
        Native.check(ABI.dbss_context_new(config, out));
        DbssClient client = new DbssClient(ABI.getLong(out), logs, provider, executor);
        if (logs != null && logs.thrown() != null) {
          client.close();
          throw Threads.sneaky(logs.thrown());
        }
        return client;
      } catch (Throwable e) {
        if (logs != null && logs.thrown() != null && logs.thrown() != e) {
          e.addSuppressed(logs.thrown());
        }
        throw e;
      } finally {
        ABI.dbss_config_free(config);
      }
    }
  }

  /**
   * {@return this client, with options for each of its calls} They replace those of an earlier
   * {@code with}. Both are the same client when one is closed.
   *
   * @param options the options
   */
  public DbssClient with(CallOptions options) {
    return new DbssClient(this, DbssException.required("options", options));
  }

  /**
   * Closes the client: calls that run, or whose future waits for its executor, and open streams end
   * with {@link Status#CANCELLED}, and later ones fail with {@link Status#CLOSED}. It does not
   * wait, and does nothing the second time.
   */
  @Override
  public void close() {
    Stack.probe();
    context.close(ABI::dbss_context_close);
    // After the calls that wait for it: they were cancelled, and did not fail.
    if (provider != null) {
      provider.close();
    }
    failQueued();
  }

  /** The executor of a future may never run its work. */
  private void failQueued() {
    for (CompletableFuture<?> one : queued) {
      if (!queued.remove(one)) {
        continue;
      }
      Runnable fail = () -> one.completeExceptionally(Call.cancelledByClose(List.of()));
      try {
        // What depends on it may wait.
        Threads.POOL.execute(fail);
      } catch (Throwable e) {
        // There are no more threads.
        fail.run();
      }
    }
  }

  /**
   * Cancels all calls of the client that run, including open streams: they end with {@link
   * Status#CANCELLED}. Calls that start later are not affected.
   */
  public void cancelAll() {
    long address = context.acquire();
    if (address != 0) {
      try {
        ABI.dbss_context_cancel_all(address);
      } finally {
        context.release();
      }
    }
  }

  /**
   * Replaces the credentials by a token, for all requests that start later, also those of running
   * calls.
   *
   * @param token 1 to 98304 visible ASCII characters
   * @throws DbssArgumentException {@link Status#INVALID_TOKEN} or {@link Status#CLOSED}
   */
  public void setToken(String token) {
    long address = context.acquire();
    if (address == 0) {
      throw Call.closed("client", "client");
    }
    try (Frame frame = new Frame()) {
      long text = frame.text("token", token);
      Native.check(ABI.dbss_context_set_token(address, text));
    } finally {
      context.release();
    }
  }

  /**
   * Checks that the service accepts the credentials; it downloads and changes nothing.
   *
   * @throws DbssServiceException {@link Status#UNAUTHENTICATED} if it rejects them, {@link
   *     Status#FORBIDDEN} if they lack the permission
   */
  public void check() {
    run(
        (call, frame) -> {
          long project = project(frame);
          call.check(ABI.dbss_context_check(call.context, project, call.operation));
          return null;
        });
  }

  /**
   * {@return what credentials a call would use now} It finds them as a call does: it may call the
   * token provider, log in, or fetch a temporary key.
   */
  public Credentials findCredentials() {
    return run(
        (call, frame) -> {
          long out = frame.out();
          int status = ABI.dbss_context_find_credentials(call.context, call.operation, out);
          long found = ABI.getLong(out);
          try {
            call.check(status);
            return new Credentials(new Fields.Credentials(ABI, found));
          } finally {
            ABI.dbss_credentials_free(found);
          }
        });
  }

  // Downloads

  /**
   * {@return a report, a PDF or a ZIP file, in memory} Anything less than the whole report is an
   * error. A transfer that breaks is resumed or restarted. Options: locale, maxMemoryBytes.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @throws DbssResourceException {@link Status#LIMIT_EXCEEDED} if it is larger than
   *     maxMemoryBytes, or than an array can be, 2147483639 bytes
   */
  public byte[] downloadReport(String instanceId, String reportId) {
    return run(
        (call, frame) -> {
          long out = frame.out();
          try {
            call.check(
                ABI.dbss_report_download_to_memory(
                    call.context,
                    project(frame),
                    frame.text("instance", instanceId),
                    frame.text("id", reportId),
                    frame.text("locale", options.locale),
                    call.operation,
                    out));
            return bytes(out);
          } catch (DbssException e) {
            throw e == call.failed() ? explained(e, call.result()) : e;
          } finally {
            ABI.dbss_buffer_free(out);
          }
        },
        LOCALE);
  }

  /** Advises to raise the limit only if that helps. */
  private static DbssException explained(DbssException failed, CallResult result) {
    return failed.status() == Status.LIMIT_EXCEEDED
            && (result.total() > MAX_ARRAY || result.received() >= MAX_ARRAY)
        ? failed.withMessage("maxMemoryBytes", TOO_LARGE)
        : failed;
  }

  /**
   * {@return the path of the file that a report was saved to} The file appears only when it is
   * complete and on the disk; after a failure an existing file is unchanged. If a callback throws
   * when the file is complete, the file stays, and the exception has a {@link DbssException} with
   * its {@link DbssException#path} among its suppressed ones. Options: replace, locale, fileMode.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @param file the path; its directory must exist
   * @throws DbssFileException such as {@link Status#FILE_EXISTS} without replace
   */
  public Path downloadReportToFile(String instanceId, String reportId, Path file) {
    return save(ABI::dbss_report_download_to_file, instanceId, reportId, "path", file);
  }

  /**
   * {@return the path of the file that a report was saved to} Its name is a safe form of the
   * report's own. Otherwise as {@link #downloadReportToFile}.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @param directory the directory, which must exist
   */
  public Path downloadReportToDirectory(String instanceId, String reportId, Path directory) {
    return save(
        ABI::dbss_report_download_to_directory, instanceId, reportId, "directory", directory);
  }

  private Path save(
      Saver download, String instanceId, String reportId, String parameter, Path target) {
    return run(
        (call, frame) -> {
          int status =
              download.save(
                  call.context,
                  project(frame),
                  frame.text("instance", instanceId),
                  frame.text("id", reportId),
                  frame.text("locale", options.locale),
                  frame.path(parameter, target),
                  flags(),
                  call.operation);
          Path saved = status == 0 ? call.saved() : null;
          call.check(status);
          return saved;
        },
        LOCALE,
        REPLACE);
  }

  /**
   * Downloads a report to a stream while it arrives. What was written before a failure stays
   * written: only after a normal return it was the whole report. The stream is not closed. Options:
   * locale.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @param target where to write to
   * @throws IOException what the stream throws
   * @throws DbssException such as {@link Status#NOT_RESUMABLE} or {@link Status#TRUNCATED}, if the
   *     transfer broke and could not be resumed
   */
  public void downloadReportTo(String instanceId, String reportId, OutputStream target)
      throws IOException {
    DbssException.required("target", target);
    run(
        (call, frame) -> {
          call.writeTo(target);
          call.check(
              ABI.dbss_report_download_to_callback(
                  call.context,
                  project(frame),
                  frame.text("instance", instanceId),
                  frame.text("id", reportId),
                  frame.text("locale", options.locale),
                  ABI.dbss_write_fn(),
                  call.number(),
                  call.operation));
          call.checkWritten();
          return null;
        },
        LOCALE);
  }

  /**
   * {@return a report to read, when its first bytes have arrived} It must be closed. Options:
   * locale.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   */
  public ReportStream openReport(String instanceId, String reportId) {
    Call opened = new Call(this, options.allowing(LOCALE));
    ReportStream stream;
    try {
      stream =
          opened.perform(
              (call, frame) -> {
                long out = frame.out();
                int status =
                    ABI.dbss_report_open(
                        call.context,
                        project(frame),
                        frame.text("instance", instanceId),
                        frame.text("id", reportId),
                        frame.text("locale", options.locale),
                        call.operation,
                        out);
                long made = ABI.getLong(out);
                try {
                  call.check(status);
                  return new ReportStream(call, made);
                } catch (Throwable e) {
                  ABI.dbss_report_stream_free(made);
                  throw e;
                }
              });
    } catch (Throwable e) {
      opened.freeAfter(e);
      throw e;
    }
    DbssInterruptedException interruption = opened.interruption();
    if (interruption != null) {
      // It has cancelled the stream, too.
      try (stream) {
        throw interruption;
      }
    }
    return stream;
  }

  // Lists

  /** {@return the audit instances of the project} Options: pageSize. */
  public Listing<Instance> instances() {
    return new Listing<>(
        this,
        options.allowing(PAGE_SIZE),
        Instance::new,
        (call, frame, out) ->
            ABI.dbss_instances_list(call.context, project(frame), options.pageSize, out));
  }

  /**
   * {@return the reports of an instance} Options: nameFilter, pageSize.
   *
   * @param instanceId the id of the audit instance
   */
  public Listing<Report> reports(String instanceId) {
    DbssException.required("instanceId", instanceId);
    return new Listing<>(
        this,
        options.allowing(NAME, PAGE_SIZE),
        Report::new,
        (call, frame, out) ->
            ABI.dbss_reports_list(
                call.context,
                project(frame),
                frame.text("instance", instanceId),
                frame.text("name", "nameFilter", options.name),
                options.pageSize,
                out));
  }

  /**
   * {@return the report templates of an instance}
   *
   * @param instanceId the id of the audit instance
   */
  public Listing<Template> templates(String instanceId) {
    DbssException.required("instanceId", instanceId);
    return new Listing<>(
        this,
        options.allowing(),
        Template::new,
        (call, frame, out) ->
            ABI.dbss_templates_list(
                call.context, project(frame), frame.text("instance", instanceId), out));
  }

  /**
   * {@return the databases that an instance audits} Options: statusFilter, pageSize.
   *
   * @param instanceId the id of the audit instance
   */
  public Listing<Database> databases(String instanceId) {
    DbssException.required("instanceId", instanceId);
    return new Listing<>(
        this,
        options.allowing(STATUS, PAGE_SIZE),
        Database::new,
        (call, frame, out) ->
            ABI.dbss_databases_list(
                call.context,
                project(frame),
                frame.text("instance", instanceId),
                frame.text("status", "statusFilter", options.status),
                options.pageSize,
                out));
  }

  // Reports, schedules, mirror

  /**
   * Starts the creation of a report. The service returns no id: {@link #generateReport} finds the
   * new report and waits for it.
   *
   * <p>The request is sent again only if it cannot have taken effect: if nothing of it was sent, if
   * the response was HTTP 429 or 503, or if the credentials were rejected and could be renewed.
   * After another failure, such as a lost connection, it is not repeated, because the report may
   * have been created.
   *
   * @param instanceId the id of the audit instance
   * @param spec what to create
   * @throws DbssArgumentException such as {@link Status#NOT_CONFIGURED} without a required value
   * @throws DbssServiceException such as {@link Status#REJECTED}
   */
  public void createReport(String instanceId, ReportSpec spec) {
    DbssException.required("spec", spec);
    run(
        (call, frame) -> {
          long made = filled(frame, spec);
          long project = project(frame);
          long id = frame.text("instance", instanceId);
          call.check(ABI.dbss_report_create(call.context, project, id, made, call.operation));
          return null;
        });
  }

  /**
   * {@return the id of a new report, when it is ready} If it fails after it found the report,
   * {@link DbssException#candidates} has its id, for {@link #waitForReport}. If a callback throws
   * then, that exception has such a {@link DbssException} among its suppressed ones. Options:
   * waitTimeout, pollInterval.
   *
   * @param instanceId the id of the audit instance
   * @param spec what to create
   * @throws DbssServiceException such as {@link Status#NOT_FOUND} without such a template, {@link
   *     Status#AMBIGUOUS}, or {@link Status#NOT_READY}
   */
  public String generateReport(String instanceId, ReportSpec spec) {
    DbssException.required("spec", spec);
    return run(
        (call, frame) -> {
          long made = filled(frame, spec);
          long id = frame.bytes(Abi.DBSS_ID_SIZE);
          int status =
              ABI.dbss_report_generate(
                  call.context,
                  project(frame),
                  frame.text("instance", instanceId),
                  made,
                  call.operation,
                  id);
          String created = status == 0 ? ABI.string(id) : null;
          if (created != null) {
            call.created(created);
          }
          call.check(status);
          return created;
        });
  }

  /**
   * Waits until a report can be downloaded. Options: waitTimeout, pollInterval.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @throws DbssServiceException {@link Status#NOT_READY} after waitTimeout; {@link
   *     Status#NOT_FOUND}, also if the report is deleted meanwhile
   */
  public void waitForReport(String instanceId, String reportId) {
    run(
        (call, frame) -> {
          long project = project(frame);
          long in = frame.text("instance", instanceId);
          long id = frame.text("id", reportId);
          call.check(ABI.dbss_report_wait(call.context, project, in, id, call.operation));
          return null;
        });
  }

  /**
   * Deletes a report at the service, permanently.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @throws DbssServiceException such as {@link Status#NOT_FOUND} and {@link Status#REJECTED}
   */
  public void deleteReport(String instanceId, String reportId) {
    run(
        (call, frame) -> {
          long project = project(frame);
          long in = frame.text("instance", instanceId);
          long id = frame.text("id", reportId);
          call.check(ABI.dbss_report_delete(call.context, project, in, id, call.operation));
          return null;
        });
  }

  /**
   * {@return the schedule on which the service generates reports from a template}
   *
   * @param instanceId the id of the audit instance
   * @param templateId the id of the template, 16 to 64 characters
   */
  public Schedule schedule(String instanceId, String templateId) {
    return run(
        (call, frame) -> {
          long out = frame.out();
          int status =
              ABI.dbss_schedule_show(
                  call.context,
                  project(frame),
                  frame.text("instance", instanceId),
                  frame.text("template_id", templateId),
                  call.operation,
                  out);
          long page = ABI.getLong(out);
          try {
            call.check(status);
            return Listing.items(page, Schedule::new).get(0);
          } finally {
            ABI.dbss_page_free(page);
          }
        });
  }

  /**
   * Changes the schedule of a template. It gets the present one and sends all of it back with the
   * changes, so a change that somebody else makes in between is lost. The change is sent again only
   * if it cannot have taken effect, as the request of {@link #createReport}. After another failure,
   * such as a lost connection, the schedule may have been changed.
   *
   * @param instanceId the id of the audit instance
   * @param templateId the id of the template, 16 to 64 characters
   * @param changes what to change
   * @throws DbssArgumentException {@link Status#NOT_CONFIGURED} without changes
   * @throws DbssServiceException such as {@link Status#REJECTED}, or {@link
   *     Status#UNEXPECTED_RESPONSE} if the present schedule lacks a field that the service requires
   */
  public void updateSchedule(String instanceId, String templateId, ScheduleChanges changes) {
    DbssException.required("changes", changes);
    run(
        (call, frame) -> {
          long made =
              filled(
                  frame,
                  changes,
                  ABI::dbss_schedule_changes_new,
                  ABI::dbss_schedule_changes_set,
                  ABI::dbss_schedule_changes_free);
          call.check(
              ABI.dbss_schedule_update(
                  call.context,
                  project(frame),
                  frame.text("instance", instanceId),
                  frame.text("template_id", templateId),
                  made,
                  call.operation));
          return null;
        });
  }

  /**
   * {@return what was done to bring a local archive of reports up to date} It downloads every
   * report that is ready and not there, several at once, into files
   * {instance}/{year}/{name}_{id}.pdf or .zip, and writes manifest.jsonl and SHA256SUMS. It deletes
   * nothing. After a failure or a cancel the next call continues.
   *
   * @param directory the archive; it is created if it does not exist
   * @param mirror which reports, and how; null for all
   * @throws DbssException such as {@link Status#PARTIAL} if some reports failed and the others are
   *     there; {@link DbssException#mirrorResult} tells what was done. If a callback throws, that
   *     exception has such a {@link DbssException} among its suppressed ones
   */
  public MirrorResult mirror(Path directory, MirrorOptions mirror) {
    return run(
        (call, frame) -> {
          MirrorOptions set = mirror == null ? new MirrorOptions() : mirror;
          long made =
              filled(
                  frame,
                  set,
                  ABI::dbss_mirror_options_new,
                  ABI::dbss_mirror_options_set,
                  ABI::dbss_mirror_options_free);
          long out = frame.out();
          try {
            int status =
                ABI.dbss_reports_mirror(
                    call.context,
                    project(frame),
                    frame.path("directory", directory),
                    made,
                    call.operation,
                    out);
            long done = ABI.getLong(out);
            MirrorResult result = done == 0 ? null : new MirrorResult(done);
            call.mirrored(status, result);
            call.check(status);
            return result;
          } finally {
            ABI.dbss_mirror_result_free(ABI.getLong(out));
          }
        });
  }

  // Futures

  /**
   * Calls of a client, for {@link #async}.
   *
   * @param <T> the type of the result
   */
  @FunctionalInterface
  public interface Work<T> {
    /**
     * {@return the result}
     *
     * @param client the client
     * @throws Exception whatever fails
     */
    T run(DbssClient client) throws Exception;
  }

  /**
   * {@return a future of any calls} Cancelling the future, or completing it otherwise, such as by a
   * timeout, cancels the call that runs, and later ones of the same work, with its open streams. A
   * {@link ReportStream} that is the result and that nobody gets then is closed. When the work
   * completes the future, with a result or an exception, its open streams go on. What an executor
   * throws that refuses the work, or an {@link OutOfMemoryError} when there are no more threads,
   * fails the future.
   *
   * @param <T> the type of the result
   * @param work makes the calls; it runs on the executor
   */
  public <T> CompletableFuture<T> async(Work<T> work) {
    DbssException.required("work", work);
    boolean isOpen = !context.isClosed();
    WorkFuture<T> future = new WorkFuture<>(new Cancellation(isOpen ? context : null));
    future.whenComplete(
        (result, error) -> {
          queued.remove(future);
          // The other ways to complete it, such as completeAsync.
          future.cancellation.cancelUnlessDone();
        });
    if (isOpen) {
      queued.add(future);
      if (context.isClosed()) {
        // Meanwhile, so that closing may have missed it.
        failQueued();
      }
    }
    try {
      executor.execute(() -> complete(future, work));
    } catch (Throwable e) {
      // Also an OutOfMemoryError, when the system has no more threads.
      future.completeExceptionally(e);
    }
    return future;
  }

  private <T> void complete(WorkFuture<T> future, Work<T> work) {
    queued.remove(future);
    if (future.isDone()) {
      return;
    }
    Cancellation outer = Cancellation.CURRENT.get();
    Cancellation.CURRENT.set(future.cancellation);
    T result = null;
    Throwable failure = null;
    try {
      result = work.run(this);
    } catch (Throwable e) {
      failure = e;
    } finally {
      // What depends on the future may run at once, on this thread, and is not part of the work.
      Cancellation.CURRENT.set(outer);
    }
    boolean wasFirst =
        future.cancellation.finish()
            && (failure == null ? future.complete(result) : future.completeExceptionally(failure));
    if (!wasFirst) {
      future.cancellation.cancel();
      if (result instanceof ReportStream) {
        ((ReportStream) result).close();
      }
    }
  }

  /**
   * {@return a future of {@link #downloadReport}}
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   */
  public CompletableFuture<byte[]> downloadReportAsync(String instanceId, String reportId) {
    return async(client -> client.downloadReport(instanceId, reportId));
  }

  /**
   * {@return a future of {@link #downloadReportToFile}}
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @param file the path; its directory must exist
   */
  public CompletableFuture<Path> downloadReportToFileAsync(
      String instanceId, String reportId, Path file) {
    return async(client -> client.downloadReportToFile(instanceId, reportId, file));
  }

  /**
   * {@return a future of {@link #downloadReportToDirectory}}
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   * @param directory the directory, which must exist
   */
  public CompletableFuture<Path> downloadReportToDirectoryAsync(
      String instanceId, String reportId, Path directory) {
    return async(client -> client.downloadReportToDirectory(instanceId, reportId, directory));
  }

  /**
   * {@return a future of {@link #openReport}} After it is complete, closing the stream ends it.
   *
   * @param instanceId the id of the audit instance
   * @param reportId the id of the report
   */
  public CompletableFuture<ReportStream> openReportAsync(String instanceId, String reportId) {
    return async(client -> client.openReport(instanceId, reportId));
  }

  /**
   * {@return a future of {@link #generateReport}} If it is cancelled, or completed by a timeout,
   * only the log has the id of a report that was created: {@link LogRecord#reportId}.
   *
   * @param instanceId the id of the audit instance
   * @param spec what to create
   */
  public CompletableFuture<String> generateReportAsync(String instanceId, ReportSpec spec) {
    return async(client -> client.generateReport(instanceId, spec));
  }

  /**
   * {@return a future of {@link #mirror}}
   *
   * @param directory the archive; it is created if it does not exist
   * @param mirror which reports, and how; null for all
   */
  public CompletableFuture<MirrorResult> mirrorAsync(Path directory, MirrorOptions mirror) {
    return async(client -> client.mirror(directory, mirror));
  }

  /** {@return whether it is closed} */
  @Override
  public String toString() {
    return context.isClosed() ? "DbssClient[closed]" : "DbssClient[open]";
  }

  // Helpers

  // Loggers show this as the place of the record.
  private static void log(System.Logger logger, LogRecord record) {
    logger.log(record.level(), record::toString);
  }

  private <T> T run(Call.Body<T> body, CallOptions.Parameter... allowed) {
    return Call.run(this, options.allowing(allowed), body);
  }

  private long project(Frame frame) {
    return frame.text("project", options.project);
  }

  private int flags() {
    return options.replace ? Abi.DBSS_FILE_REPLACE : 0;
  }

  private interface Saver {
    int save(
        long context,
        long project,
        long instance,
        long id,
        long locale,
        long target,
        int flags,
        long operation);
  }

  private interface Maker {
    int make(long out);
  }

  private interface Setter {
    int set(long object, long key, long value);
  }

  private static long filled(Frame frame, ReportSpec spec) {
    return filled(
        frame,
        spec,
        ABI::dbss_report_spec_new,
        ABI::dbss_report_spec_set,
        ABI::dbss_report_spec_free);
  }

  /** Makes an object of options by key and value, which is freed with the frame. */
  private static long filled(
      Frame frame, Options<?> from, Maker maker, Setter setter, LongConsumer free) {
    long out = frame.out();
    Native.check(maker.make(out));
    long made = ABI.getLong(out);
    frame.frees(() -> free.accept(made));
    from.apply(frame, (key, value) -> setter.set(made, key, value));
    return made;
  }

  /** The bytes of a buffer. */
  static byte[] bytes(long buffer) {
    long length = ABI.getLong(buffer + 8);
    if (length > MAX_ARRAY) {
      // The limit was set as text, as in C.
      throw DbssException.of(Status.LIMIT_EXCEEDED, "maxMemoryBytes", TOO_LARGE);
    }
    byte[] bytes = new byte[(int) length];
    if (length > 0) {
      ABI.read(ABI.getLong(buffer), bytes, 0, bytes.length);
    }
    return bytes;
  }

  static String json(long buffer) {
    return new String(bytes(buffer), StandardCharsets.UTF_8);
  }
}
