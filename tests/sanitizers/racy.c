/* A deliberate race, to check that ThreadSanitizer detects it in this build. */

#include <pthread.h>
#include <stdio.h>

static int shared;

static void *count(void *unused)
{
    int i;
    (void)unused;
    for (i = 0; i < 100000; i++)
        shared++;
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    int i;
    for (i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, count, NULL) != 0)
            return 1;
    for (i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%d\n", shared);
    return 0;
}
