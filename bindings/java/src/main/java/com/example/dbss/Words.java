package com.example.dbss;

import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Says what libdbss says in the words of this package. */
final class Words {
  // The parameters of functions, where those of methods here have other names.
  private static final Map<String, String> PARAMETERS =
      Map.of(
          "ctx", "client",
          "project", "projectId",
          "instance", "instanceId",
          "id", "reportId",
          "path", "file",
          "name", "nameFilter",
          "status", "statusFilter",
          "page_size", "pageSize");

  // Not the parts of a path or of an address.
  private static final Pattern KEY =
      Pattern.compile("(?<![\\w/.?&=#%-])[a-z]+(?:_[a-z]+)+(?![\\w/&=%-]|\\.\\w)");
  private static final Pattern DURATION =
      Pattern.compile("must be a whole number from (\\d+) to (\\d+)(, or -1 for no limit)?");
  private static final String GIVEN = ", but is \"";

  private Words() {}

  /** The name here of a parameter of a function. */
  static String parameter(String name) {
    return name == null ? null : PARAMETERS.getOrDefault(name, option(name));
  }

  /** The name here of the key of an option. */
  static String option(String key) {
    return key == null ? null : Keys.METHODS.getOrDefault(key, key);
  }

  /**
   * The message of an error.
   *
   * @param own the name here of the parameter
   * @param isQuoted whether the message may have the words of somebody else
   */
  static String message(int code, String message, String parameter, String own, boolean isQuoted) {
    if (isQuoted || code == Status.NO_TOKEN.code()) {
      return message;
    }
    String text = message;
    if (parameter != null && text.startsWith(parameter + ": ")) {
      text = own + text.substring(parameter.length());
    }
    if (code == Status.NULL_ARGUMENT.code()) {
      text = text.replace("must not be NULL", "must not be null");
    }
    if (code == Status.FILE_EXISTS.code()) {
      text =
          text.replace("; allow replacing it, or", "; allow replacing it with replace(true), or");
    }
    // What was given stays as it is.
    int end = text.indexOf(GIVEN);
    String said = end < 0 ? text : text.substring(0, end);
    if (parameter != null && parameter.endsWith("_ms")) {
      said = durations(said);
    }
    said = KEY.matcher(said).replaceAll(found -> Matcher.quoteReplacement(option(found.group())));
    return end < 0 ? said : said + text.substring(end);
  }

  private static String durations(String text) {
    Matcher range = DURATION.matcher(text);
    if (!range.find()) {
      return text;
    }
    String bounds = duration(range.group(1)) + " to " + duration(range.group(2));
    String none = range.group(3) == null ? "" : ", or DbssClient.NO_LIMIT";
    return text.substring(0, range.start()) + "must be from " + bounds + none;
  }

  /** A duration as the documentation of the options has it. */
  private static String duration(String milliseconds) {
    Duration value = Duration.ofMillis(Long.parseLong(milliseconds));
    if (value.toHours() > 24) {
      return value.toDays() + " days";
    }
    if (value.toHours() > 0) {
      return value.toHours() + " h";
    }
    return value.toMinutes() > 0 ? value.toMinutes() + " min" : milliseconds + " ms";
  }

  /** The message for an option that had a value of Java, with that value. */
  static String withGiven(String message, String text, String given) {
    return message.replace(GIVEN + text + '"', ", but is " + given);
  }

  /** The message for a key that is none of an object's, with the key that may be meant. */
  static String unknownKey(String key, Set<String> keys) {
    String found = "";
    for (String one : keys) {
      if (plain(one).equals(plain(key))) {
        found = "; \"" + one + "\" is one";
      }
    }
    String shown = key.codePoints().anyMatch(Character::isISOControl) ? "" : " \"" + key + '"';
    return "key: there is no option" + shown + found;
  }

  /** The same for notations of a key in which people mix up capitals and units. */
  private static String plain(String key) {
    String letters = key.toLowerCase(Locale.ROOT).replaceAll("[_-]", "");
    return letters.replaceAll("(?<=timeout|after|interval|duration)ms$", "");
  }

  /** The text of a record of the log that has the message of an error in it. */
  static String record(String text, String message, String own) {
    return text.replace(message, own).replace("DBSS_ERR_", "");
  }
}
