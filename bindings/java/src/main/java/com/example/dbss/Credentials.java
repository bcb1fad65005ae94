package com.example.dbss;

import com.example.dbss.internal.Fields;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;

/** A description of credentials, without a secret. */
public final class Credentials {
  private final Fields.Credentials fields;

  Credentials(Fields.Credentials fields) {
    this.fields = fields;
  }

  /**
   * {@return where they come from: "token", "access_key", "token_provider", "iam_user",
   * "environment", "profile", "metadata", "oidc", "federation", "pod_identity" or "agency"; there
   * may be others}
   */
  public String source() {
    return fields.source;
  }

  /** {@return the same in words, with the variable, file or address} */
  public String description() {
    return fields.description;
  }

  /** {@return the user's name, or the access key with its middle masked; null if unknown} */
  public String name() {
    return fields.name;
  }

  /** {@return the default project of calls; null if it is unknown without a look-up} */
  public String projectId() {
    return fields.project;
  }

  /** {@return when they expire; null if they do not, or if it is unknown} */
  public Instant expiresAt() {
    return fields.expiresMs < 0 ? null : Instant.ofEpochMilli(fields.expiresMs);
  }

  /** {@return whether all that is known of the other ones is the same} */
  @Override
  public boolean equals(Object other) {
    return other instanceof Credentials && ((Credentials) other).values().equals(values());
  }

  @Override
  public int hashCode() {
    return values().hashCode();
  }

  private List<Object> values() {
    return Arrays.asList(source(), description(), name(), projectId(), expiresAt());
  }

  /** {@return the description} */
  @Override
  public String toString() {
    return fields.description;
  }
}
