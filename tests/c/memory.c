#define _GNU_SOURCE /* for MAP_ANONYMOUS, which POSIX.1-2008 lacks */

#include "memory.h"

#include "checks.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MASK 0x55

static int is_sample_at(const struct secret_sample *sample, const unsigned char *bytes)
{
    size_t i;
    for (i = 0; i < SAMPLE; i++)
        if ((bytes[i] ^ MASK) != sample->masked[i])
            return 0;
    return 1;
}

int find_secret(const struct secret_sample *sample, char *where, size_t size)
{
    enum { CHUNK = 1 << 20 };
    unsigned char *chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    int count = 0;
    unsigned long scanned = 0;

    if (chunk == MAP_FAILED || maps == NULL || memory < 0)
        fatal("cannot read this process's memory");
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to, at;
        char access[5], name[256] = "anonymous memory";
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &from, &to, access, name) < 3 || strcmp(access, "rw-p") != 0)
            continue;
        for (at = from; at + SAMPLE <= to;) {
            size_t wanted = to - at < CHUNK ? to - at : CHUNK, i;
            ssize_t n;
            /* The kernel may have merged the chunk's map with its neighbour. */
            if (at < (unsigned long)chunk + CHUNK && at + wanted > (unsigned long)chunk) {
                if (at < (unsigned long)chunk) {
                    wanted = (unsigned long)chunk - at;
                } else {
                    at = (unsigned long)chunk + CHUNK;
                    continue;
                }
            }
            n = pread(memory, chunk, wanted, (off_t)at);
            if (n < SAMPLE)
                break;
            scanned += (unsigned long)n;
            for (i = 0; i + SAMPLE <= (size_t)n; i++) {
                if (is_sample_at(sample, chunk + i)) {
                    if (count++ == 0)
                        snprintf(where, size, "at %#lx in %s (%#lx-%#lx)", at + i, name, from, to);
                }
            }
            at += (size_t)n == wanted && wanted == CHUNK ? wanted - SAMPLE + 1 : (size_t)n;
        }
    }
    CHECK(scanned > 100000);
    fclose(maps);
    close(memory);
    munmap(chunk, CHUNK);
    return count;
}

void make_secret(char *secret, struct secret_sample *sample)
{
    unsigned char random[SECRET_LENGTH];
    char where[256] = "";
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC), i;

    if (fd < 0 || read(fd, random, sizeof random) != (ssize_t)sizeof random)
        fatal("cannot read random bytes");
    close(fd);
    for (i = 0; i < SECRET_LENGTH; i++)
        secret[i] = (char)('A' + random[i] % 26);
    secret[SECRET_LENGTH] = '\0';
    for (i = 0; i < SAMPLE; i++)
        sample->masked[i] = (unsigned char)(secret[SAMPLE_OFFSET + i] ^ MASK);
    wipe((char *)random, sizeof random);
    /* This proves that the search finds a copy. */
    CHECK(find_secret(sample, where, sizeof where) > 0);
}
