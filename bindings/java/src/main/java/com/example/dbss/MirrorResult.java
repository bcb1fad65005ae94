package com.example.dbss;

import com.example.dbss.internal.Abi;
import com.example.dbss.internal.Fields;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.LongFunction;

/** The result of a mirror. */
public final class MirrorResult extends MirrorCounts {
  private static final Abi ABI = Native.ABI;

  private final List<Failure> failures;
  private final List<Gap> gaps;

  MirrorResult(long result) {
    super(new Fields.MirrorResult(ABI, result));
    failures = list(ABI.dbss_mirror_result_failure_count(result), i -> new Failure(result, i));
    gaps = list(ABI.dbss_mirror_result_gap_count(result), i -> new Gap(result, i));
  }

  private static <T> List<T> list(long count, LongFunction<T> item) {
    List<T> items = new ArrayList<>();
    for (long i = 0; i < count; i++) {
      items.add(item.apply(i));
    }
    return Collections.unmodifiableList(items);
  }

  /** {@return the reports, and lists of them, that failed} */
  public List<Failure> failures() {
    return failures;
  }

  /**
   * {@return the days, weeks and months without a report of an instance and a type, from since to
   * until, or without these from the first to the last report} What has no report at all has gaps
   * only if the option type selects it, since and until are set, and it is not weekly. At most
   * 10,000 of an instance and a type are found, the latest ones.
   */
  public List<Gap> gaps() {
    return gaps;
  }

  /** A report, or a list of reports, that a mirror failed to get. */
  public static final class Failure {
    private final String instanceId;
    private final String reportId;
    private final DbssException error;

    Failure(long result, long index) {
      instanceId = ABI.string(ABI.dbss_mirror_result_failure_instance(result, index));
      String id = ABI.string(ABI.dbss_mirror_result_failure_id(result, index));
      reportId = id.isEmpty() ? null : id;
      long failed = ABI.dbss_mirror_result_failure_error(result, index);
      int status = failed == 0 ? Status.OUT_OF_MEMORY.code() : ABI.dbss_error_status(failed);
      error = DbssException.take(status, failed);
    }

    /** {@return the id of the instance} */
    public String instanceId() {
      return instanceId;
    }

    /** {@return the id of the report; null if the list of the instance's reports failed} */
    public String reportId() {
      return reportId;
    }

    /** {@return why it failed} */
    public DbssException error() {
      return error;
    }

    /** {@return the ids and the message} */
    @Override
    public String toString() {
      String report = reportId == null ? "" : ", report " + reportId;
      return "instance " + instanceId + report + ": " + error.getMessage();
    }
  }

  /** A day, week or month without a report. */
  public static final class Gap {
    private final String instanceId;
    private final String type;
    private final String period;

    Gap(long result, long index) {
      instanceId = ABI.string(ABI.dbss_mirror_result_gap_instance(result, index));
      type = ABI.string(ABI.dbss_mirror_result_gap_type(result, index));
      period = ABI.string(ABI.dbss_mirror_result_gap_period(result, index));
    }

    /** {@return the id of the instance} */
    public String instanceId() {
      return instanceId;
    }

    /** {@return the type of the missing report} */
    public String type() {
      return type;
    }

    /** {@return the first day of the period, such as "2026-11-24"} */
    public String period() {
      return period;
    }

    /** {@return whether the other one is of the same instance, type and period} */
    @Override
    public boolean equals(Object other) {
      return other instanceof Gap && other.toString().equals(toString());
    }

    @Override
    public int hashCode() {
      return toString().hashCode();
    }

    /** {@return the type, the period and the id of the instance} */
    @Override
    public String toString() {
      return type + " of " + period + " for instance " + instanceId;
    }
  }
}
