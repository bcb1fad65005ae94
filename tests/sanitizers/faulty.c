/* Deliberate faults, to check that the sanitizers of this build detect them. */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Volatile, so that the compiler cannot detect the fault. */
static volatile int one = 1;

static int read_past_the_end(void)
{
    char *bytes = calloc(4, 1);
    int result = bytes[3 + one];
    free(bytes);
    return result;
}

static int leak(void)
{
    void *volatile lost = malloc(1000);
    lost = NULL;
    return lost != NULL;
}

static int overflow(void)
{
    return INT_MAX + one;
}

int main(int argc, char **argv)
{
    const char *which = argc == 2 ? argv[1] : "";
    if (strcmp(which, "read_past_the_end") == 0)
        return read_past_the_end();
    if (strcmp(which, "leak") == 0)
        return leak();
    if (strcmp(which, "overflow") == 0)
        return overflow();
    return strcmp(which, "nothing") == 0 ? 0 : 2;
}
