#include "memory.h"

#include "checks.h"

#define MASK 0x55

static int is_sample_at(const struct secret_sample *sample, const unsigned char *bytes)
{
    for (size_t i = 0; i < SAMPLE; i++)
        if ((bytes[i] ^ MASK) != sample->masked[i])
            return 0;
    return 1;
}

int find_secret(const struct secret_sample *sample, char *where, size_t size)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int count = 0;
    unsigned long scanned = 0;

    if (maps == NULL)
        fatal("cannot read this process's memory map");
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to, at;
        char access[5], name[256] = "anonymous memory";
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &from, &to, access, name) < 3 || strcmp(access, "rw-p") != 0)
            continue;
        for (at = from; at + SAMPLE <= to; at++)
            if (is_sample_at(sample, (const unsigned char *)at) && count++ == 0)
                snprintf(where, size, "at %#lx in %s (%#lx-%#lx)", at, name, from, to);
        scanned += to - from;
    }
    CHECK(scanned > 100000);
    fclose(maps);
    return count;
}

void make_secret(char *secret, struct secret_sample *sample)
{
    unsigned char random[SECRET_LENGTH];
    char where[256] = "";

    random_bytes(random, sizeof random);
    for (int i = 0; i < SECRET_LENGTH; i++)
        secret[i] = (char)('A' + random[i] % 26);
    secret[SECRET_LENGTH] = '\0';
    for (int i = 0; i < SAMPLE; i++)
        sample->masked[i] = (unsigned char)(secret[SAMPLE_OFFSET + i] ^ MASK);
    wipe((char *)random, sizeof random);
    /* This proves that the search finds a copy. */
    CHECK(find_secret(sample, where, sizeof where) > 0);
}
