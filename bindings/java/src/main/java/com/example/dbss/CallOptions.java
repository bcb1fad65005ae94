package com.example.dbss;

import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Predicate;

/**
 * Options of one call, which override those of the client. One that does not apply to a call, such
 * as a page size to a download, fails with {@link Status#ARGUMENT}. The object may be used for many
 * calls at once, if it is not changed meanwhile.
 */
public final class CallOptions extends OperationOptions<CallOptions> {
  static final CallOptions NONE = new CallOptions();

  enum Parameter {
    LOCALE("locale"),
    REPLACE("replace"),
    PAGE_SIZE("pageSize"),
    NAME("nameFilter"),
    STATUS("statusFilter");

    final String option;

    Parameter(String option) {
      this.option = option;
    }
  }

  final Set<Parameter> given = EnumSet.noneOf(Parameter.class);
  String project;
  String locale;
  String name;
  String status;
  int pageSize;
  boolean replace;
  Predicate<Progress> progress;
  Consumer<CallResult> result;

  /** Sets nothing yet. */
  public CallOptions() {}

  /**
   * The id of the project, 32 to 64 characters. Without it, that of the client.
   *
   * @param value the value
   * @return this
   */
  public CallOptions projectId(String value) {
    project = DbssException.required("projectId", value);
    return this;
  }

  /**
   * The language of a report: "en-us" or "zh-cn". The default is the service's, en-us.
   *
   * @param value the value
   * @return this
   */
  public CallOptions locale(String value) {
    locale = DbssException.required("locale", value);
    return given(Parameter.LOCALE);
  }

  /**
   * Whether an existing file may be replaced, atomically, when the new one is complete. The default
   * is false.
   *
   * @param value the value
   * @return this
   */
  public CallOptions replace(boolean value) {
    replace = value;
    return given(Parameter.REPLACE);
  }

  /**
   * How many items of a list a request fetches: 1 to 1000, for databases 1 to 10000; 0 for the
   * default, 100.
   *
   * @param value the value
   * @return this
   */
  public CallOptions pageSize(int value) {
    if (value < 0) {
      // C has no negative sizes.
      String message =
          "pageSize: must be from 1 to 1000, for databases from 1 to 10000, or 0 for 100, but is "
              + value;
      throw DbssException.of(Status.INVALID_VALUE, "pageSize", message);
    }
    pageSize = value;
    return given(Parameter.PAGE_SIZE);
  }

  /**
   * Lists only reports with this text in their names, as the service searches, 1 to 256 bytes.
   *
   * @param value the value
   * @return this
   */
  public CallOptions nameFilter(String value) {
    name = DbssException.required("nameFilter", value);
    return given(Parameter.NAME);
  }

  /**
   * Lists only databases with this status: "ON" or "OFF".
   *
   * @param value the value
   * @return this
   */
  public CallOptions statusFilter(String value) {
    status = DbssException.required("statusFilter", value);
    return given(Parameter.STATUS);
  }

  /**
   * Calls a function when the call starts, at least ten times a second while it runs, even if no
   * bytes arrive, and when all have arrived. If it returns false, the call ends with {@link
   * Status#CANCELLED}. What it throws, the call throws. It runs on the thread of the call; for a
   * call in a virtual thread, on a thread that works for it.
   *
   * @param value the function; true goes on
   * @return this
   */
  public CallOptions onProgress(Predicate<Progress> value) {
    progress = DbssException.required("onProgress", value);
    return this;
  }

  /**
   * Calls a function with what the call found out when it is over, also if it failed; for a stream,
   * when it is closed and no read runs any more; for one that is forgotten, on a thread of this
   * package.
   *
   * @param value the function
   * @return this
   */
  public CallOptions onResult(Consumer<CallResult> value) {
    result = DbssException.required("onResult", value);
    return this;
  }

  private CallOptions given(Parameter parameter) {
    given.add(parameter);
    return this;
  }

  /** Refuses parameters that do not apply to a call. */
  CallOptions allowing(Parameter... allowed) {
    for (Parameter one : given) {
      if (!List.of(allowed).contains(one)) {
        String name = one.option;
        throw DbssException.of(Status.ARGUMENT, name, name + ": does not apply to this call");
      }
    }
    return this;
  }
}
