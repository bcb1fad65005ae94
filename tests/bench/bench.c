/* Measures one peer with one workload and prints the results as one line of JSON:
 *
 *     bench-PEER SINK HOST PORT CA REPORT COUNT THREADS PATH
 *
 * SINK is memory, callback or file. CA is "-" for plain http. THREADS threads share
 * COUNT downloads. The set-up, with a first download, is not measured. If COUNT is
 * 0, only that first download is made. The output is then the time of its first
 * byte by the monotonic clock. */

#define _GNU_SOURCE
#include "peer.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 256

struct worker {
    pthread_t thread;
    long count;
    size_t bytes;
};

static enum sink sink;
static const char *report;
static const char *path;
static pthread_barrier_t ready, start;
static double first_byte_at = -1;

void fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", peer_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void first_byte(void)
{
    if (first_byte_at < 0)
        first_byte_at = seconds(CLOCK_MONOTONIC);
}

static double to_seconds(const struct timeval *a)
{
    return (double)a->tv_sec + (double)a->tv_usec * 1e-6;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return to_seconds(&usage.ru_utime) + to_seconds(&usage.ru_stime);
}

/* A value from /proc/self/status, in KiB. */
static long resident(const char *name)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    if (status != NULL)
        fclose(status);
    return kib;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    void *thread = peer_thread_open();
    /* Opens the connection and whatever else the first call sets up. */
    peer_download(thread, "benchmark-warm-up", TO_MEMORY, NULL);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&start);
    for (long i = 0; i < worker->count; i++)
        worker->bytes += peer_download(thread, report, sink, path);
    pthread_barrier_wait(&ready);
    peer_thread_close(thread);
    return NULL;
}

static void cold(void)
{
    void *thread = peer_thread_open();
    size_t bytes = peer_download(thread, report, TO_CALLBACK, NULL);
    peer_thread_close(thread);
    printf("{\"first_byte_at\": %.9f, \"bytes\": %zu}\n", first_byte_at, bytes);
}

/* As long as an IAM token, and random like one. */
static const char *token(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    static char text[TOKEN + 1] = "MII";
    unsigned state = 1;
    for (int i = 3; i < TOKEN; i++) {
        state = state * 1664525 + 1013904223;
        text[i] = digits[state >> 26];
    }
    return text;
}

int main(int argc, char **argv)
{
    if (argc != 9)
        fatal("usage: SINK HOST PORT CA REPORT COUNT THREADS PATH");
    const char *const sinks[] = {"memory", "callback", "file"};
    while (sink < 3 && strcmp(argv[1], sinks[sink]) != 0)
        sink++;
    int tls = strcmp(argv[4], "-") != 0;
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "%s://%s:%s", tls ? "https" : "http", argv[2], argv[3]);
    struct setup setup = {
        .host = argv[2],
        .port = argv[3],
        .endpoint = endpoint,
        .ca_file = tls ? argv[4] : NULL,
        .project = "0123456789abcdef0123456789abcdef",
        .instance = "00000000-1111-2222-3333-444444444444",
        .token = token(),
    };
    report = argv[5];
    long count = strtol(argv[6], NULL, 10);
    long threads = strtol(argv[7], NULL, 10);
    path = argv[8];
    if (sink > TO_FILE || threads < 1 || threads > MAX_THREADS)
        fatal("unknown sink or wrong number of threads");

    peer_open(&setup);
    long idle = resident("VmRSS:");
    if (count == 0) {
        cold();
        peer_close();
        return 0;
    }

    static struct worker workers[MAX_THREADS];
    pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    for (long i = 0; i < threads; i++) {
        workers[i].count = count / threads + (i < count % threads);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fatal("cannot create a thread");
    }
    pthread_barrier_wait(&ready);
    double wall = seconds(CLOCK_MONOTONIC), cpu = cpu_seconds();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&ready);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = cpu_seconds() - cpu;
    long peak = resident("VmHWM:");
    size_t bytes = 0;
    for (long i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        bytes += workers[i].bytes;
    }
    peer_close();
    printf("{\"wall_s\": %.9f, \"cpu_s\": %.9f, \"bytes\": %zu, \"idle_kib\": %ld, \"peak_kib\": %ld}\n", wall, cpu,
           bytes, idle, peak);
    return 0;
}
