/*
 * The fast path of the standard library's mutex is compiled here, where
 * ThreadSanitizer sees it. The slow path is not. The linker puts this wrapper around
 * the slow path. It tells ThreadSanitizer that the thread has acquired the lock.
 */
#define PASTE(a, b) a##b
#define NAME(prefix, name) PASTE(prefix, name)

void __tsan_acquire(void *address);
void NAME(__real_, CONTENDED)(void *mutex);

void NAME(__wrap_, CONTENDED)(void *mutex)
{
    NAME(__real_, CONTENDED)(mutex);
    __tsan_acquire(mutex);
}
