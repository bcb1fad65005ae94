package com.example.dbss;

import com.example.dbss.internal.Abi;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.OptionalLong;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * A list of the service, which fetches each page when it is needed:
 *
 * <pre>{@code
 * for (Report report : client.reports(instance)) {
 *   System.out.println(report.id());
 * }
 * List<Report> ready = client.reports(instance).stream().filter(Report::isReady).collect(toList());
 * }</pre>
 *
 * <p>It can be read once, by one thread at a time; another one meanwhile gets {@link Status#BUSY}.
 * The list may change meanwhile: no item comes twice, and a deletion does not hide the items that
 * remain. After a failure, the next attempt is for the same page; a page that cannot be read ends
 * the list, and each attempt throws the same.
 *
 * @param <T> the type of the items
 */
public final class Listing<T> implements Iterable<T> {
  /** Begins a list in C. */
  interface Opener {
    int open(Call call, Frame frame, long out);
  }

  private static final Abi ABI = Native.ABI;

  private final DbssClient client;
  private final CallOptions options;
  private final Function<Map<String, Object>, T> maker;
  private final Opener opener;
  private final AtomicBoolean reading = new AtomicBoolean();
  private Handle cursor;
  private Iterator<T> page = Collections.emptyIterator();
  private volatile OptionalLong total = OptionalLong.empty();
  private boolean ended;
  // Why a page that the cursor has passed is lost.
  private Throwable broken;

  Listing(
      DbssClient client,
      CallOptions options,
      Function<Map<String, Object>, T> maker,
      Opener opener) {
    this.client = client;
    this.options = options;
    this.maker = maker;
    this.opener = opener;
  }

  /** {@return the items that remain} */
  public Stream<T> stream() {
    int ordered = Spliterator.ORDERED | Spliterator.NONNULL;
    return StreamSupport.stream(Spliterators.spliteratorUnknownSize(iterator(), ordered), false);
  }

  /** {@return the items that remain} */
  @Override
  public Iterator<T> iterator() {
    return new Iterator<T>() {
      @Override
      public boolean hasNext() {
        return alone(Listing.this::hasMore);
      }

      @Override
      public T next() {
        return alone(
            () -> {
              if (!hasMore()) {
                throw new NoSuchElementException();
              }
              return page.next();
            });
      }
    };
  }

  /** Keeps other threads out, and the callbacks of this one. */
  private <R> R alone(Supplier<R> read) {
    if (!reading.compareAndSet(false, true)) {
      throw DbssException.of(Status.BUSY, "list", "list: another call reads it");
    }
    try {
      return read.get();
    } finally {
      reading.set(false);
    }
  }

  private boolean hasMore() {
    if (broken != null) {
      throw Threads.sneaky(broken);
    }
    if (!page.hasNext() && !ended) {
      Call.run(client, options, this::fetch);
    }
    return page.hasNext();
  }

  /**
   * {@return the number of items in the whole list, as the service told with the last page; empty
   * before the first one, and if it does not tell}
   */
  public OptionalLong total() {
    return total;
  }

  /** {@return the number of items, if it is known} */
  @Override
  public String toString() {
    return "Listing[" + (total.isPresent() ? total.getAsLong() + " items" : "") + "]";
  }

  /** Fetches a page. Once it is there, what is thrown does not lose it. */
  private Void fetch(Call call, Frame frame) {
    long out = frame.out();
    if (cursor == null) {
      Native.check(opener.open(call, frame, out));
      cursor = new Handle(ABI.getLong(out), ABI::dbss_cursor_free).ownedBy(this);
      ABI.putLong(out, 0);
    }
    Handle reads = cursor;
    long open = reads.acquire();
    try {
      int status = ABI.dbss_cursor_next(open, call.operation, out);
      if (status == 0) {
        take(ABI.getLong(out));
      }
      call.check(status);
      return null;
    } finally {
      reads.release();
    }
  }

  /** Keeps what a page has, and frees it; 0 is the end. */
  private void take(long next) {
    try {
      if (next == 0) {
        ended = true;
        cursor.close(address -> {});
        return;
      }
      long known = ABI.dbss_page_total(next);
      page = items(next, maker).iterator();
      total = known < 0 ? OptionalLong.empty() : OptionalLong.of(known);
    } catch (Throwable e) {
      broken = e;
      throw e;
    } finally {
      ABI.dbss_page_free(next);
    }
  }

  /** The items of a page. */
  static <T> List<T> items(long page, Function<Map<String, Object>, T> maker) {
    try (Frame frame = new Frame()) {
      long out = frame.out();
      try {
        Native.check(ABI.dbss_page_json(page, out));
        List<T> items = new ArrayList<>();
        for (Object one : Json.list(Json.map(Json.parse(DbssClient.json(out))).get("items"))) {
          items.add(maker.apply(Json.map(one)));
        }
        return items;
      } finally {
        ABI.dbss_buffer_free(out);
      }
    }
  }
}
