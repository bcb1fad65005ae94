package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import java.io.Serializable;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.OptionalInt;

/**
 * The failure of a call. The class tells the group of its status, such as {@link
 * DbssServiceException}. No text in it contains a secret. What a callback threw to end the call is
 * thrown itself; what a provider threw is the cause.
 */
public abstract class DbssException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** An entry of the "details" in a response of the service. */
  public static final class Detail implements Serializable {
    private static final long serialVersionUID = 1;

    /** The code. */
    private final String code;

    /** The message. */
    private final String message;

    Detail(String code, String message) {
      this.code = code;
      this.message = message;
    }

    /** {@return the code; null for none} */
    public String code() {
      return code;
    }

    /** {@return the message; null for none} */
    public String message() {
      return message;
    }

    /** {@return whether the other one has the same code and message} */
    @Override
    public boolean equals(Object other) {
      return other instanceof Detail
          && Objects.equals(((Detail) other).code, code)
          && Objects.equals(((Detail) other).message, message);
    }

    @Override
    public int hashCode() {
      return Objects.hash(code, message);
    }

    /** {@return the code and the message} */
    @Override
    public String toString() {
      return code + ": " + message;
    }
  }

  /** The fields of an error. */
  static final class Details implements Serializable {
    private static final long serialVersionUID = 1;

    final int code;
    final String message;
    final String parameter;
    final Fields.Error fields;
    final int cancelledBy;
    final byte[] path;
    final ArrayList<Detail> details = new ArrayList<>();
    final ArrayList<String> candidates = new ArrayList<>();

    /** Those of an error of libdbss, which it frees. */
    static Details take(int code, long error) {
      return take(code, error, null);
    }

    /** The same for an error of setting an option; null for another. */
    static Details take(int code, long error, Options.Entry option) {
      try {
        return new Details(code, error, option);
      } finally {
        Native.ABI.dbss_error_free(error);
      }
    }

    /** Those of an error of libdbss; of 0, which means that there was no memory for one. */
    private Details(int code, long error, Options.Entry option) {
      Abi abi = Native.ABI;
      this.code = code;
      fields = new Fields.Error(abi, error);
      cancelledBy = fields.cancelledBy;
      path = fields.path;
      Words words = new Words(fields.parameter, option);
      parameter = words.parameter();
      StringBuilder said = new StringBuilder();
      for (long i = 0; i < fields.partCount; i++) {
        String part = abi.string(abi.dbss_error_part_text(error, i));
        said.append(words.part(abi.dbss_error_part_kind(error, i), part));
      }
      message = error != 0 ? said.toString() : abi.string(abi.dbss_status_message(code));
      for (long i = 0; i < fields.detailCount; i++) {
        String detail = abi.string(abi.dbss_error_detail_code(error, i));
        details.add(new Detail(detail, abi.string(abi.dbss_error_detail_message(error, i))));
      }
      for (long i = 0; i < fields.candidateCount; i++) {
        candidates.add(abi.string(abi.dbss_error_candidate(error, i)));
      }
    }

    /** Those of an error of this package. */
    Details(Status status, String parameter, String message) {
      this(status, parameter, message, 0, null);
    }

    /** Those of a call that this package cancels. */
    static Details cancelled(int by, String message) {
      return new Details(Status.CANCELLED, null, message, by, null);
    }

    /** Those of another error with a message of this package. */
    Details(Details of, String parameter, String message) {
      code = of.code;
      this.message = message;
      this.parameter = parameter;
      fields = of.fields;
      cancelledBy = of.cancelledBy;
      path = of.path;
      details.addAll(of.details);
      candidates.addAll(of.candidates);
    }

    private Details(Status status, String parameter, String message, int cancelledBy, byte[] path) {
      this.code = status.code();
      this.message = message;
      this.parameter = parameter;
      this.cancelledBy = cancelledBy;
      this.path = path;
      fields = new Fields.Error(Native.ABI, 0);
    }
  }

  /** The fields of the error. */
  private final Details details;

  private transient MirrorResult mirrorResult;

  DbssException(Details details, Throwable cause) {
    super(details.message, cause);
    this.details = details;
  }

  /** The exception of an error, which it frees. */
  static DbssException take(int status, long error) {
    return Groups.exception(Details.take(status, error), null);
  }

  static DbssException of(Status status, String parameter, String message) {
    return Groups.exception(new Details(status, parameter, message), null);
  }

  /** That of a call that has created a report, before a callback threw. */
  static DbssException created(String id) {
    DbssException e = cancelledAfter("the report " + id + " was created", null);
    e.details.candidates.add(id);
    return e;
  }

  /** That of a call that has saved a report. */
  static DbssException saved(Path path) {
    return cancelledAfter("the report was saved to " + path, Paths.bytes(path));
  }

  /** That of a mirror that was complete. */
  static DbssException mirrored(MirrorResult result) {
    return cancelledAfter("the mirror was complete", null).with(result);
  }

  private static DbssException cancelledAfter(String done, byte[] path) {
    String message = done + ", before a callback failed";
    int by = Abi.DBSS_CANCELLED_BY_CALLBACK;
    return new DbssCancelledException(new Details(Status.CANCELLED, null, message, by, path), null);
  }

  /** Refuses null, and returns other values. */
  static <T> T required(String parameter, T value) {
    if (value == null) {
      throw of(Status.NULL_ARGUMENT, parameter, parameter + ": must not be null");
    }
    return value;
  }

  /** The same failure in other words. */
  final DbssException withMessage(String parameter, String message) {
    return Groups.exception(new Details(details, parameter, message), getCause());
  }

  /** The message of libdbss. */
  final String plainMessage() {
    return details.fields.message;
  }

  final DbssException with(MirrorResult result) {
    mirrorResult = result;
    return this;
  }

  /** {@return why the call failed} */
  public final Status status() {
    return Status.of(details.code);
  }

  /** {@return the number of the status in the ABI, also of one that this package does not know} */
  public final int code() {
    return details.code;
  }

  /** {@return the parameter or option at fault, by its name in this package; null for none} */
  public final String parameter() {
    return details.parameter;
  }

  /** {@return the HTTP status of the response; 0 without a response} */
  public final int httpStatus() {
    return details.fields.httpStatus;
  }

  /** {@return the service's own error code; null for none} */
  public final String serviceCode() {
    return details.fields.serviceCode;
  }

  /** {@return the service's own message, which may contain control characters; null for none} */
  public final String serviceMessage() {
    return details.fields.serviceMessage;
  }

  /** {@return the service's id of the request; null for none} */
  public final String requestId() {
    return details.fields.requestId;
  }

  /** {@return the encoded message that explains a refused authorization; null for none} */
  public final String encodedAuthorizationMessage() {
    return details.fields.encodedAuthorizationMessage;
  }

  /** {@return the entries of "details" in the response} */
  public final List<Detail> serviceDetails() {
    return Collections.unmodifiableList(details.details);
  }

  /** {@return what cancelled the call, for {@link Status#CANCELLED}; else null} */
  public final CancelledBy cancelledBy() {
    return CancelledBy.of(details.cancelledBy);
  }

  /**
   * {@return the ids of the reports that may be the created one, for {@link Status#AMBIGUOUS}; one
   * if the generation failed after it found the report}
   */
  public final List<String> candidates() {
    return Collections.unmodifiableList(details.candidates);
  }

  /** {@return where the service redirected to, for {@link Status#REDIRECTED}; null for none} */
  public final String redirectTarget() {
    return details.fields.redirectTarget;
  }

  /**
   * {@return the file or directory at fault; null for none} For an exception that the one of a
   * callback suppresses, the file that was saved nonetheless.
   */
  public final Path path() {
    return Paths.of(details.path);
  }

  /** {@return the value of errno of the operating system} */
  public final OptionalInt osCode() {
    int code = details.fields.osCode;
    return code == 0 ? OptionalInt.empty() : OptionalInt.of(code);
  }

  /** {@return whether the cause is temporary, so that the same call may succeed later} */
  public final boolean isRetryable() {
    return details.fields.isRetryable != 0;
  }

  /** {@return the wait that the service requests before the next attempt; null for none} */
  public final Duration retryAfter() {
    long wait = details.fields.retryAfterMs;
    return wait < 0 ? null : Duration.ofMillis(wait);
  }

  /** {@return the number of requests before the call gave up} */
  public final int attempts() {
    return details.fields.attempts;
  }

  /**
   * {@return what a mirror has done before it failed; null if it did not begin} It is not
   * serialized: an exception that was has null here.
   */
  public final MirrorResult mirrorResult() {
    return mirrorResult;
  }
}
